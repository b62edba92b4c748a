"""What predictions with dropout cost: `predict_mc` of so many samples against as many calls of `predict`.

The least of several rounds, one after the other in turns, on one thread. The calls of `predict` draw nothing.

    python bench/monte_carlo.py
"""

import argparse
import time
from functools import partial

import numpy as np

import cylstm

SAMPLES = 100
SHAPES = ((8, 32, 24), (8, 64, 24), (64, 128, 50))
_BOTH = {"dropout": 0.2, "recurrent_dropout": 0.2}
WAYS = {
    "as PyTorch": None,
    "one mask for all gates": {"lstm": {**_BOTH, "masks": "sequence"}},
    "a mask for each gate": {"lstm": {**_BOTH, "masks": "gates"}},
}


def model_of(rng: np.random.Generator, inputs: int, hidden: int) -> cylstm.Model:
    """Two stacked LSTM layers and a linear one, with dropout between them."""
    tensors = {}
    for k, size in enumerate((inputs, hidden)):
        tensors[f"lstm.weight_ih_l{k}"] = rng.normal(0, 0.2, (4 * hidden, size)).astype(np.float32)
        tensors[f"lstm.weight_hh_l{k}"] = rng.normal(0, 0.2, (4 * hidden, hidden)).astype(np.float32)
    tensors["fc.weight"] = rng.normal(size=(1, hidden)).astype(np.float32)
    layers = [cylstm.LSTM("lstm", dropout=0.2), cylstm.Last(), cylstm.Dropout(0.2), cylstm.Linear("fc")]
    return cylstm.from_state_dict(tensors, layers)


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def times_of(rng: np.random.Generator, batch: int, inputs: int, hidden: int, steps: int, rounds: int) -> list[float]:
    """Of the calls of `predict`, then of each way, in seconds."""
    model = model_of(rng, inputs, hidden)
    x = rng.normal(size=(batch, steps, inputs)).astype(np.float32)

    def apart() -> None:
        for _ in range(SAMPLES):
            model.predict(x, threads=1)

    def together(rates: object) -> None:
        model.predict_mc(x, SAMPLES, rates=rates, threads=1)

    calls = [apart, *(partial(together, rates) for rates in WAYS.values())]
    for call in calls:
        call()
    return [min(times) for times in zip(*[[seconds(call) for call in calls] for _ in range(rounds)])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(1)
    print(f"{SAMPLES} samples; time as a share of {SAMPLES} calls of predict")
    print("batch  input  hidden  steps  " + "  ".join(WAYS))
    for batch in (1, 16):
        for inputs, hidden, steps in SHAPES:
            apart, *together = times_of(rng, batch, inputs, hidden, steps, rounds)
            ratios = "  ".join(f"{one / apart:.2f}".rjust(len(way)) for way, one in zip(WAYS, together))
            print(f"{batch:5}  {inputs:5}  {hidden:6}  {steps:5}  {ratios}")


if __name__ == "__main__":
    main()
