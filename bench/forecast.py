"""A forecast in units: `Forecaster.stream().step` and `forecast`, beside the same loops written by hand.

By hand means: scaling and back in NumPy, the loop over the horizon in Python, and the network of NumPy's matrix
products, of PyTorch (where it is installed) or of CyLSTM. Nothing by hand checks its input. All get the same numbers in
one process and take turns; their forecasts are compared first.

    python bench/forecast.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import _common
import numpy as np

import cylstm

#: features, hidden, horizon of the network, steps
CASES = ((1, 32, 1, 1), (8, 32, 24, 24), (8, 32, 1, 24), (8, 128, 1, 24))
HISTORY = 200

Forecast = Callable[[], np.ndarray]


class Task:
    """One network, a series, and what is forecast of it: the target after the last row."""

    def __init__(self, features: int, hidden: int, horizon: int, steps: int) -> None:
        rng = np.random.default_rng(1)
        self.horizon, self.steps = horizon, steps
        sizes = {"weight_ih": (4 * hidden, features), "weight_hh": (4 * hidden, hidden)}
        self.weights = {
            **{name: rng.normal(0, 0.3, size).astype(np.float32) for name, size in sizes.items()},
            "bias": rng.normal(0, 0.3, 4 * hidden).astype(np.float32),
            "out": rng.normal(0, 0.3, (horizon, hidden)).astype(np.float32),
        }
        self.rows = rng.normal(20.0, 5.0, (HISTORY + steps, features))
        self.mean, self.std = self.rows.mean(axis=0), self.rows.std(axis=0)
        self.names = [f"x{i}" for i in range(features)]

    def model(self) -> cylstm.Model:
        weights = self.weights
        hidden = weights["weight_hh"].shape[1]
        tensors = {
            "lstm.weight_ih_l0": weights["weight_ih"],
            "lstm.weight_hh_l0": weights["weight_hh"],
            "lstm.bias_ih_l0": weights["bias"],
            "lstm.bias_hh_l0": np.zeros(4 * hidden, np.float32),
            "fc.weight": weights["out"],
            "fc.bias": np.zeros(self.horizon, np.float32),
        }
        return cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")])

    def by_forecaster(self) -> Forecast:
        """A new row is taken, and the steps after it are forecast."""
        scaling = {
            name: {"kind": "standard", "mean": float(mean), "std": float(std)}
            for name, mean, std in zip(self.names, self.mean, self.std)
        }
        forecaster = cylstm.Forecaster(
            self.model(),
            features=self.names,
            target="x0",
            scaling=scaling,
            horizon=self.horizon,
            feedback={"x0": "x0"},
        )
        before = forecaster.stream()
        before.run(self.rows[: HISTORY - 1])
        row = self.rows[HISTORY - 1]
        future = self.rows[HISTORY:, 1:] if self.steps > self.horizon and len(self.names) > 1 else None

        def forecast() -> np.ndarray:
            if self.steps == self.horizon:
                return np.asarray(before.step(row))
            before.run(row[None])
            return np.asarray(before.forecast(self.steps, future))

        return forecast

    def by_hand(self, step: Callable[[np.ndarray], np.ndarray], rewind: Callable[[], Callable[[], None]]) -> Forecast:
        """`step` advances a state by a scaled row; `rewind` keeps the state, and gives what brings it back."""
        scaled = ((self.rows - self.mean) / self.std).astype(np.float32)
        for x in scaled[: HISTORY - 1]:
            step(x)
        row, mean, std = self.rows[HISTORY - 1], self.mean, self.std

        def forecast() -> np.ndarray:
            y = step(((row - mean) / std).astype(np.float32))
            found = [y * std[0] + mean[0]]
            if self.steps > self.horizon:
                back = rewind()
                for k in range(self.steps - 1):
                    x = ((self.rows[HISTORY + k] - mean) / std).astype(np.float32)
                    x[0] = y[0]
                    y = step(x)
                    found.append(y * std[0] + mean[0])
                back()
            return np.concatenate(found)

        return forecast

    def by_numpy(self) -> Forecast:
        weights = self.weights
        hidden, features = weights["weight_hh"].shape[1], weights["weight_ih"].shape[1]
        matrix = np.ascontiguousarray(np.concatenate([weights["weight_ih"], weights["weight_hh"]], axis=1))
        joined, c = np.zeros(features + hidden, np.float32), np.zeros(hidden, np.float32)
        one = np.float32(1)

        def step(x: np.ndarray) -> np.ndarray:
            joined[:features] = x
            i, f, g, o = (matrix @ joined + weights["bias"]).reshape(4, hidden)
            c[:] = c / (one + np.exp(-f)) + np.tanh(g) / (one + np.exp(-i))
            joined[features:] = np.tanh(c) / (one + np.exp(-o))
            return weights["out"] @ joined[features:]

        def rewind() -> Callable[[], None]:
            kept = joined.copy(), c.copy()

            def back() -> None:
                joined[:], c[:] = kept

            return back

        return self.by_hand(step, rewind)

    def by_stream(self) -> Forecast:
        streams = [self.model().stream()]

        def rewind() -> Callable[[], None]:
            streams.append(streams[-1].copy())
            return lambda: streams.pop() and None

        return self.by_hand(lambda x: streams[-1].step(x), rewind)

    def by_torch(self) -> Forecast:
        import torch

        torch.set_num_threads(1)
        weights = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        hidden, features = weights["weight_hh"].shape[1], weights["weight_ih"].shape[1]
        lstm = torch.nn.LSTM(features, hidden, batch_first=True)
        names = {"weight_ih_l0": "weight_ih", "weight_hh_l0": "weight_hh", "bias_ih_l0": "bias"}
        lstm.load_state_dict(
            {name: weights[one] for name, one in names.items()} | {"bias_hh_l0": torch.zeros(4 * hidden)}
        )
        state: list[object] = [None]

        def step(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                y, state[0] = lstm(torch.from_numpy(x)[None, None], state[0])
                return (y[0, -1] @ weights["out"].T).numpy()

        def rewind() -> Callable[[], None]:
            kept = state[0]
            return lambda: state.__setitem__(0, kept)

        return self.by_hand(step, rewind)


def measure(case: tuple[int, int, int, int], rounds: int, limit_s: float) -> dict[str, list[float]]:
    """Microseconds of a forecast in each round, of each way.

    Raises
    ------
    ArithmeticError
        If two ways give other forecasts.
    """
    task = Task(*case)
    ways = {"Forecaster": task.by_forecaster, "CyLSTM by hand": task.by_stream, "NumPy by hand": task.by_numpy}
    ways["PyTorch by hand"] = task.by_torch
    calls: dict[str, Forecast] = {}
    for name, make in ways.items():
        try:
            calls[name] = make()
        except ImportError:
            print(f"{name} is left out: it is not installed")
    found = {name: call() for name, call in calls.items()}
    for name, array in found.items():
        if array.shape != (task.steps,) or np.abs(array - found["Forecaster"]).max() > 1e-3:
            raise ArithmeticError(f"{case}: {name} forecasts {array}, Forecaster {found['Forecaster']}")
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + limit_s
    while len(times["Forecaster"]) < rounds and time.monotonic() < end:
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            times[name].append((time.perf_counter_ns() - start) / 1000)
    return times


def main(args: list[str] | None = None) -> int:
    """Measure and print; 1 if the numbers are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3000, help="at most; default: %(default)s")
    parser.add_argument("--limit-s", type=float, default=6.0, help="of one row; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; ignore the timings")
    options = parser.parse_args(args)
    body, names = [], []
    for case in CASES[:3] if options.quick else CASES:
        try:
            times = measure(case, 5 if options.quick else options.rounds, options.limit_s)
        except ArithmeticError as error:
            print(f"refused: {error}")
            return 1
        names = list(times)
        cells = [
            f"{_common.significant(_common.median(one))} ({_common.significant(min(one))})" for one in times.values()
        ]
        body.append([", ".join(map(str, case)), *cells])
    header = ["features, hidden, horizon, steps", *(f"{name}, us" for name in names)]
    print(f"{_common.machine_text(_common.machine_facts())}. One row taken and the steps after it forecast, median "
          f"(minimum).\n\n{_common.markdown_table(header, body)}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
