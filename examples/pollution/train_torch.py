"""Train the two networks with PyTorch: ``python train_torch.py --csv PATH``.

Writes ``weights/univariate.pt`` and ``weights/multivariate.pt`` (state dicts), their scaling beside them as
json, and the same networks as ``.cylstm`` with the scaling inside.
"""

from __future__ import annotations

import argparse
import time

import torch
from convert import convert
from recipe import CLIP, FOLDER, HIDDEN, PHASES, TRAIN_YEARS, Windows, lead_weights, rate, report
from series import FEATURES, LEADS, Series, read_csv


class Forecaster(torch.nn.Module):
    """At every hour the next `LEADS` hours: an LSTM, then a linear layer on each of its outputs."""

    def __init__(self, features: int):
        super().__init__()
        self.lstm = torch.nn.LSTM(features, HIDDEN, batch_first=True)
        self.fc = torch.nn.Linear(HIDDEN, LEADS)
        with torch.no_grad():
            # Remember at first: the forget gate starts open, as Keras starts it.
            self.lstm.bias_ih_l0[HIDDEN : 2 * HIDDEN] += 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(batch, time, features)`` to ``(batch, time, LEADS)``."""
        return self.fc(self.lstm(x)[0])


def train(series: Series, kind: str, years=TRAIN_YEARS, seed: int = 0) -> tuple[Forecaster, Windows]:
    """Train one network; deterministic for one seed on one machine and version of PyTorch."""
    torch.manual_seed(seed)
    windows = Windows(series, kind, years)
    network = Forecaster(windows.features)
    optimizer = torch.optim.Adam(network.parameters())
    weights = torch.from_numpy(lead_weights())
    start = time.monotonic()
    for number, phase in enumerate(PHASES[kind]):
        for step, (inputs, targets) in enumerate(windows.draw(phase, seed + number)):
            wanted = torch.from_numpy(targets)
            known = ~wanted.isnan()
            error = (network(torch.from_numpy(inputs)) - wanted.nan_to_num()) ** 2 * weights
            loss = (error * known).sum() / known.sum()
            optimizer.param_groups[0]["lr"] = rate(phase, step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            if (step + 1) % 200 == 0:
                print(f"{kind} phase {number + 1} step {step + 1:4d} loss {loss:.4f} {time.monotonic() - start:4.0f} s")
    return network, windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", required=True, help="the hourly series, UCI data set 381")
    parser.add_argument("--kind", choices=FEATURES, help="default: both")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    series = read_csv(arguments.csv)
    FOLDER.mkdir(exist_ok=True)
    for kind in [arguments.kind] if arguments.kind else FEATURES:
        network, windows = train(series, kind, seed=arguments.seed)
        with torch.no_grad():
            outputs = network(torch.from_numpy(windows.inputs)[None])[0].numpy()
        print(report(series, kind, windows, outputs, f"LSTM PyTorch, {kind}"))
        torch.save(network.state_dict(), FOLDER / f"{kind}.pt")
        (FOLDER / f"{kind}.json").write_text(windows.scaling.to_json() + "\n", encoding="utf-8")
        convert(kind)


if __name__ == "__main__":
    main()
