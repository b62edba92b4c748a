"""Train the two networks with Keras 3 on any backend: ``KERAS_BACKEND=torch python train_keras.py --csv PATH``.

Writes ``weights/univariate.keras`` and ``weights/multivariate.keras``, and their scaling beside them as json
(the same that `train_torch.py` writes: it depends on the series alone).
"""

from __future__ import annotations

import argparse
import time

import keras
from keras import ops
from recipe import CLIP, FOLDER, HIDDEN, PHASES, TRAIN_YEARS, Windows, lead_weights, rate, report
from series import FEATURES, LEADS, Series, read_csv


def network(features: int) -> keras.Sequential:
    """At every hour the next `LEADS` hours: an LSTM, then a dense layer on each of its outputs."""
    return keras.Sequential(
        [
            keras.Input((None, features)),
            keras.layers.LSTM(HIDDEN, return_sequences=True, name="lstm"),
            keras.layers.Dense(LEADS, name="dense"),
        ]
    )


def loss(wanted, found):
    """Mean squared error over the targets that are known, weighted by lead."""
    known = ops.logical_not(ops.isnan(wanted))
    error = ops.where(known, wanted, found) - found
    return ops.sum(ops.square(error) * ops.convert_to_tensor(lead_weights())) / ops.sum(ops.cast(known, error.dtype))


def train(series: Series, kind: str, years=TRAIN_YEARS, seed: int = 0) -> tuple[keras.Sequential, Windows]:
    """Train one network; deterministic for one seed on one machine, backend and version."""
    keras.utils.set_random_seed(seed)
    windows = Windows(series, kind, years)
    model = network(windows.features)
    start = time.monotonic()
    for number, phase in enumerate(PHASES[kind]):
        model.compile(optimizer=keras.optimizers.Adam(global_clipnorm=CLIP), loss=loss)
        for step, (inputs, targets) in enumerate(windows.draw(phase, seed + number)):
            model.optimizer.learning_rate = rate(phase, step)
            found = model.train_on_batch(inputs, targets)
            if (step + 1) % 200 == 0:
                seconds = time.monotonic() - start
                print(
                    f"{kind} phase {number + 1} step {step + 1:4d} loss {float(found):.4f} {seconds:4.0f} s", flush=True
                )
    return model, windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", required=True, help="the hourly series, UCI data set 381")
    parser.add_argument("--kind", choices=FEATURES, help="default: both")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    series = read_csv(arguments.csv)
    FOLDER.mkdir(exist_ok=True)
    for kind in [arguments.kind] if arguments.kind else FEATURES:
        trained, windows = train(series, kind, seed=arguments.seed)
        # A network that was never compiled: the file then holds no optimizer and no loss.
        model = network(windows.features)
        model.set_weights(trained.get_weights())
        outputs = model.predict(windows.inputs[None], verbose=0)[0]
        print(report(series, kind, windows, outputs, f"LSTM Keras, {kind}"))
        model.save(FOLDER / f"{kind}.keras")
        (FOLDER / f"{kind}.json").write_text(windows.scaling.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
