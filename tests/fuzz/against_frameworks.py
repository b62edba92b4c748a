"""Random networks of Keras and PyTorch: CyLSTM must give their numbers, on lengths too that it was not shown.

Each network (`tests.fuzz.keras_networks`, `tests.fuzz.torch_networks`) is converted in each way that there is: live and
from its files. A conversion, or a length, may be refused. What is predicted must be the framework's numbers to 2e-5 of
their scale, or as far from them as 30 times what the framework makes of inputs and weights that differ in their last
bits.

``python -m tests.fuzz keras --seconds N --seed S``, or ``torch``; network n of seed S is always the same.
"""

from __future__ import annotations

import collections
import importlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import cylstm
from cylstm.engine._engine import EngineError
from cylstm.errors import CylstmError

from tests.fuzz.dice import Dice

FRAMEWORKS = ("keras", "torch")
#: rows and steps of the inputs; None is what the network was shown
SIZES = ((2, None), (3, 13), (1, 9), (4, 26), (2, 5), (3, 3), (1, 2), (2, 1))
_ALLOWED, _FACTOR = 2e-5, 30
#: how much is changed, relative to each number
LAST_BITS = 2e-7


class CannotExportError(Exception):
    """The framework itself cannot write such a file."""


class Drawn(NamedTuple):
    """A network of a framework."""

    #: arrays for so many rows and steps (None: those that it was made with)
    inputs: Callable[[int, int | None], list[np.ndarray]]
    #: its numbers; with `moved` those of weights that differ in their last bits
    compute: Callable[..., list[np.ndarray]]
    #: what converts it
    ways: Mapping[str, Callable[[], cylstm.Model]]
    #: what it is made of
    text: str


class Difference(AssertionError):
    """Other numbers than the framework's."""


def case_of(framework: str, seed: int, number: int) -> Drawn:
    """Network `number` of a seed."""
    module = importlib.import_module(f"tests.fuzz.{framework}_networks")
    drawn: Drawn = module.draw(Dice(np.random.default_rng([seed, number])))
    return drawn


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error, as a share of the scale; NaN and infinities must be the same."""
    is_finite = np.isfinite(expected)
    scale = max(1.0, float(np.abs(expected[is_finite], dtype=np.float64).max(initial=0.0)))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(found.astype(np.float64) - expected) / scale
    error[(found == expected) | (np.isnan(found) & np.isnan(expected))] = 0.0
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0.0))


def _demand_near(drawn: Drawn, arrays: list[np.ndarray], found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    shapes = [array.shape for array in expected]
    if [array.shape for array in found] != shapes:
        raise Difference(f"shapes {[array.shape for array in found]} in place of {shapes}")
    far = [_distance(*two) for two in zip(found, expected, strict=True)]
    if max(far) <= _ALLOWED:
        return
    moved = [drawn.compute(arrays, moved=True) for _ in range(5)]
    for i, error in enumerate(far):
        allowed = max(_ALLOWED, _FACTOR * max(_distance(other[i], expected[i]) for other in moved))
        if not error <= allowed < np.inf:
            raise Difference(f"output {i} is {error:.3g} of its scale from the framework's, {allowed:.3g} is allowed")


def _reason(error: CylstmError) -> str:
    """Why something is refused; an error that says that it is a defect is raised."""
    if isinstance(error, EngineError):
        raise error
    return str(error)


def check(drawn: Drawn, way: str) -> tuple[str, str]:
    """What became of a network: "right", or what was refused or could not be compared, and why. Raises `Difference`."""
    try:
        model = drawn.ways[way]()
    except CannotExportError:
        return "not exported", ""
    except CylstmError as error:
        return "refused", _reason(error)
    refused = ""
    for batch, steps in SIZES:
        arrays = drawn.inputs(batch, steps)
        try:
            expected = drawn.compute(arrays)
        except Exception as error:  # too few steps, and whatever else a framework says of it
            if steps is None:
                return "not run", str(error)
            continue
        try:
            found = model.predict(arrays if len(arrays) > 1 else arrays[0])
        except CylstmError as error:
            refused = f"{arrays[0].shape}: {_reason(error)}"
            continue
        try:
            _demand_near(drawn, arrays, found if isinstance(found, list) else [found], expected)
        except Difference as error:
            raise Difference(f"{[array.shape for array in arrays]}: {error}") from None
    return ("a length refused", refused) if refused else ("right", "")


def run(framework: str, seconds: float, seed: int, most: int | None = None) -> tuple[int, int]:
    """Check networks until the time is over; how many conversions were compared, and how many of them are wrong."""
    until = time.monotonic() + seconds
    outcomes: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    number = finds = 0
    while time.monotonic() < until and (most is None or number < most):
        drawn = case_of(framework, seed, number)
        for way in drawn.ways:
            try:
                outcome, why = check(drawn, way)
            except Exception:
                outcome, why = "WRONG", ""
                finds += 1
                print(
                    f"FIND  network {number} of seed {seed}, {way}:\n{drawn.text}\n{traceback.format_exc(limit=-3)}",
                    file=sys.stderr,
                    flush=True,
                )
            outcomes[outcome] += 1
            if why:
                reasons[re.sub(r"'[^']*'|\d+", "#", why)[:150]] += 1
        number += 1
    for why, count in reasons.most_common(20):
        print(f"{count:6} {why}")
    print(f"{number:,} networks of {framework}, seed {seed}: {dict(outcomes)}")
    return sum(outcomes[one] for one in ("right", "a length refused", "WRONG")), finds


def outputs_of(found: Any, to_numpy: Callable[[Any], np.ndarray]) -> list[np.ndarray]:
    """What a network gives, as a list."""
    return [to_numpy(one) for one in (found if isinstance(found, (list, tuple)) else [found])]


def moved_by_last_bits(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    return np.asarray(array * (1 + rng.uniform(-LAST_BITS, LAST_BITS, array.shape)), array.dtype)
