"""The loop over the horizon: a network goes on from its own forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cylstm.arguments import check_count
from cylstm.errors import ArgumentError, ShapeError, described
from cylstm.forecasting.outputs import MU, SIGMA, quantile_of

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster


class Runs(Protocol):
    """A stream of a network, perhaps of one with dropout left on."""

    def run(self, x: Any, /) -> Any: ...


def rows_needed(forecaster: Forecaster, steps: int) -> int:
    """How many steps beyond the history the network reads for so many steps of forecasts."""
    return (-(-steps // forecaster.horizon) - 1) * forecaster.horizon


def roll(
    forecaster: Forecaster,
    stream: Runs,
    raw: np.ndarray,
    last: np.ndarray,
    steps: int,
    known: np.ndarray,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Forecast so many steps from what a network gave last.

    Parameters
    ----------
    forecaster : Forecaster
    stream : Stream
        Of the network, behind the last step of the history; it goes on.
    raw : ndarray
        What it gave then, (batch, horizon, outputs).
    last : ndarray of float64
        The target at that step, (batch,), which changes are added to.
    steps : int
    known : ndarray
        The known features of the steps to come, scaled, (batch or 1, rows, known features).
    seed : int, optional
        Draw from the normal distribution that the network gives: the rows of the batch are sample paths.

    Returns
    -------
    dict of str to ndarray of float64
        By output, (batch, steps), in units and not clipped.

    Raises
    ------
    ArgumentError
        If a sigma to draw with is negative.
    """
    names, horizon = forecaster.outputs, forecaster.horizon
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    batch = len(raw)
    columns = [forecaster.features.index(name) for name in forecaster.known_features]
    fed_back = [
        (output, names.index(output), forecaster.features.index(feature))
        for output, feature in forecaster._feedback.items()
    ]
    for start in range(0, steps, horizon):
        if seed is not None:
            raw = drawn(names, raw, seed, start)
        units = {name: forecaster._in_units(name, raw[:, :, i], last) for i, name in enumerate(names)}
        for name in names:
            blocks[name].append(units[name])
        if start + horizon >= steps:
            break
        rows = np.empty((batch, horizon, len(forecaster.features)), raw.dtype)
        rows[:, :, columns] = known[:, start : start + horizon]
        for output, place, column in fed_back:
            rows[:, :, column] = forecaster._fed_back(output, raw[:, :, place], units[output])
        last = units[forecaster._point][:, -1]
        found = forecaster._reader.read(stream.run(rows))
        assert found is not None
        raw = found
    return {name: np.concatenate(parts, axis=1)[:, :steps] for name, parts in blocks.items()}


def drawn(names: tuple[str, ...], raw: np.ndarray, seed: int, start: int) -> np.ndarray:
    """What the network gave, with draws in the place of mu. Raises `ArgumentError` if a sigma is negative.

    A row draws by its place in the batch and a step by its place in the forecast, so that neither the number of samples
    nor that of steps changes a draw.
    """
    mu, sigma = (raw[:, :, names.index(name)].astype(np.float64) for name in (MU, SIGMA))
    check_sigma(sigma)
    steps = range(start, start + raw.shape[1])
    noise = np.stack([np.random.default_rng([seed, step]).standard_normal(len(raw)) for step in steps], axis=1)
    raw = raw.copy()
    raw[:, :, names.index(MU)] = mu + sigma * noise
    return raw


def check_sigma(sigma: np.ndarray) -> None:
    """Standard deviations are not negative. Raises `ArgumentError`."""
    if not (sigma >= 0).all():
        raise ArgumentError(
            f"outputs: the network gives {sigma.min():.4g} as a 'sigma', expected 0 or more: the network must end with "
            "what makes it positive, such as a softplus"
        )


def check_steps(forecaster: Forecaster, steps: object) -> int:
    """How many steps a forecast has; beyond the horizon only with feedback. Raises `ArgumentError`."""
    count = forecaster.horizon if steps is None else check_count("steps", steps)
    if count > forecaster.horizon and not forecaster._feedback:
        raise ArgumentError(
            f"steps: the network forecasts {forecaster.horizon}, found {count}; to go on from its own forecasts, make "
            "the forecaster with feedback={output: feature}"
        )
    return count


def check_outputs(forecaster: Forecaster, outputs: object, steps: int) -> tuple[str, ...]:
    """The outputs that are asked for. Raises `ArgumentError`, and `ShapeError` if they mean nothing at these steps."""
    names = (forecaster._point,) if outputs is None else _asked(outputs)
    for name in names:
        if name not in forecaster.outputs:
            raise ArgumentError(f"outputs: no {name!r}; the network gives {', '.join(forecaster.outputs)}")
        level = quantile_of(name)
        is_spread = name == "sigma" or (level is not None and name != forecaster._point)
        if steps > forecaster.horizon and is_spread:
            raise ShapeError(
                f"outputs: {name!r} of {steps} steps: beyond the horizon of {forecaster.horizon} it would be that of a "
                "series whose forecasts came true; ask for the forecast or for fewer steps"
            )
    return names


def check_samples(forecaster: Forecaster, samples: object) -> int:
    """How many sample paths, of a network that gives a normal distribution. Raises `ArgumentError`."""
    count = check_count("samples", samples)
    if not {MU, SIGMA} <= set(forecaster.outputs) or forecaster._point != MU:
        raise ArgumentError(
            f"samples: paths are drawn from the outputs 'mu' and 'sigma', found {', '.join(forecaster.outputs)}"
        )
    return count


def check_seed(seed: object) -> int:
    """A whole number of 0 to 2**64 - 1. Raises `ArgumentError`."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
        raise ArgumentError(f"seed: expected a whole number of 0 to 2**64 - 1, found {described(seed)}")
    return int(seed)


def _asked(outputs: object) -> tuple[str, ...]:
    if not isinstance(outputs, (list, tuple)) or not outputs or not all(isinstance(name, str) for name in outputs):
        raise ArgumentError(f"outputs: expected a list of names, found {described(outputs)}")
    return tuple(outputs)
