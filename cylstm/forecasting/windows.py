"""Forecasts made from windows in units: columns read some rows before or after, local scalers, a state carried on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from cylstm.errors import ArgumentError
from cylstm.forecasting.roll import drawn, rows_needed
from cylstm.forecasting.scaling import Scaling

if TYPE_CHECKING:
    from cylstm.forecasting.forecaster import Forecaster


class Network(Protocol):
    """What a forecaster needs of its network: a `Model`, or one with dropout left on."""

    def predict(self, x: Any, /) -> Any: ...

    def stream(self, batch: int = 1, /) -> Any: ...


class Scalings(NamedTuple):
    """The scaling of each feature and of the forecasts, at some windows."""

    features: Mapping[str, Scaling]
    target: Scaling


def rows_behind(forecaster: Forecaster) -> int:
    """How many rows before its window a forecast reads."""
    return max(0, *(-rows for _, rows in forecaster._sources.values()))


def known_rows(forecaster: Forecaster, steps: int) -> dict[str, int]:
    """Column -> how many rows beyond the history a forecast of so many steps reads of it, of those that are read."""
    needed = rows_needed(forecaster, steps)
    if needed + forecaster._most_ahead == 0:
        return {}
    fed = set(forecaster._feedback.values())
    found: dict[str, int] = {}
    for column, rows in forecaster._sources.values():
        if column not in fed and needed + rows > 0:
            found[column] = max(found.get(column, 0), needed + rows)
    return found


def scalings_at(forecaster: Forecaster, columns: Mapping[str, np.ndarray]) -> Scalings:
    """The scalings at windows (batch, window) of the columns, in units."""
    features = {
        name: forecaster._scaling[name].at(columns[source]) for name, (source, _) in forecaster._sources.items()
    }
    target = forecaster._target_scaling
    return Scalings(features, target.at(columns[forecaster.target]) if target.is_local else target)


def roll_windows(
    forecaster: Forecaster,
    network: Network,
    past: Mapping[str, np.ndarray],
    known: Mapping[str, np.ndarray],
    steps: int,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Forecast so many steps from windows.

    Parameters
    ----------
    forecaster : Forecaster
        With a window.
    network : Network
    past : dict of str to ndarray of float64
        The last rows of each column in units, (batch, rows before the window + window).
    known : dict of str to ndarray of float64
        What is known of the columns in advance, (batch or 1, rows).
    steps : int
    seed : int, optional
        As `roll` takes it.

    Returns
    -------
    dict of str to ndarray of float64
        By output, (batch, steps), in units and not clipped.

    Raises
    ------
    ArgumentError
        If a number cannot be scaled.
    """
    window, horizon = forecaster.window, forecaster.horizon
    assert window is not None
    here = rows_behind(forecaster) + window
    table = _laid_out(forecaster, past, known, here, here + rows_needed(forecaster, steps) + forecaster._most_ahead)
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in forecaster.outputs}
    carries, stream = forecaster._carry, None
    scalings = None
    for begin in range(0, steps, horizon):
        now = here + begin  # the first row that is forecast
        first = now - window
        if scalings is None or not carries:
            scalings = scalings_at(forecaster, {name: column[:, first:now] for name, column in table.items()})
        elif stream is not None:
            first = now - horizon
        x = _scaled(forecaster, table, scalings, first, now)
        if carries:
            stream = network.stream(len(x)) if stream is None else stream
            found = forecaster._reader.read(stream.run(x))
        else:
            found = forecaster._reader.read(network.predict(x))
        assert found is not None
        raw = found if seed is None else drawn(forecaster.outputs, found, seed, begin)
        last = table[forecaster.target][:, now - 1] if forecaster.target in table else np.full(len(raw), np.nan)
        for i, name in enumerate(forecaster.outputs):
            units = forecaster._in_units(name, raw[:, :, i], last, scalings)
            blocks[name].append(units)
            column = forecaster._feedback.get(name)
            if column is not None:
                ahead = table[column][:, now : now + horizon]
                ahead[:] = units[:, : ahead.shape[1]]
    return {name: np.concatenate(parts, axis=1)[:, :steps] for name, parts in blocks.items()}


def _laid_out(
    forecaster: Forecaster, past: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray], here: int, rows: int
) -> dict[str, np.ndarray]:
    """The columns from their first row on, (batch, rows); what is not known yet is NaN."""
    found = {}
    for name, column in past.items():
        found[name] = np.full((len(column), rows), np.nan)
        found[name][:, :here] = column
        if name in known and name not in forecaster._feedback.values():
            ahead = known[name][:, : rows - here]
            found[name][:, here : here + ahead.shape[1]] = ahead
    return found


def _scaled(
    forecaster: Forecaster, table: Mapping[str, np.ndarray], scalings: Scalings, first: int, end: int
) -> np.ndarray:
    """What the network reads at these rows, (batch, rows, features). Raises `ArgumentError`."""
    parts = []
    with np.errstate(all="ignore"):
        for name, (column, rows) in forecaster._sources.items():
            units = table[column][:, first + rows : end + rows]
            x = scalings.features[name].scaled(units).astype(forecaster.model.dtype)
            if not np.isfinite(x).all():
                row, step = np.argwhere(~np.isfinite(x))[0]
                raise ArgumentError(f"history: {column!r} of {units[row, step]} cannot be scaled")
            parts.append(x)
    return np.stack(parts, axis=2)
