"""Lines over time: a series coloured by what the network keeps, and the states of units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain.plot.drawing import (
    LINES,
    SEQUENTIAL,
    axes_of,
    kept_gate,
    layer_of,
    part_of,
    plain,
    recurrent_layers,
    series_of,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cylstm.trace import LayerTrace, Trace

#: units that are drawn as lines of their own
_MOST_LINES = 8
#: of states of many units: percentiles and greys
_BANDS = ((5, 95, "#dcdcdc", "90 % of the units"), (25, 75, "#b4b4b4", "half of them"))


def series(
    trace: Trace,
    context: Any,
    *,
    forecast: Any = None,
    truth: Any = None,
    layers: list[str] | str | None = None,
    row: int = 0,
    unit: str = "",
    ax: Any = None,
) -> list[Axes]:
    """A series coloured by the forget gate, with its forecast and the truth: a panel per layer, and one of all.

    The colour of a step is the mean over a layer's units of the gate that keeps the state (``f`` of an LSTM, ``z`` of a
    GRU): light where the layers remember, dark where they forget.

    Parameters
    ----------
    trace : Trace
        With the forget gates of the context.
    context : array_like
        (time,): the series that went in, in any unit; as many steps as the layers have.
    forecast : array_like, optional
        (horizon,): what the network says about the steps after the context.
    truth : array_like, optional
        (horizon,), or longer: what came; NaN where it is not known.
    layers : list of str, optional
        By default all that have such a gate.
    row : int
        Of the batch.
    unit : str
        Of the series.
    ax : list of Axes, optional
        One for each layer, and one more where there are several.

    Returns
    -------
    list of Axes

    Raises
    ------
    ArgumentError
        If there is no such layer or row, or no layer has a forget gate.
    ShapeError
        If the series have other numbers of steps.
    UnsupportedError
        If matplotlib is not installed.
    """
    layer_of(trace, next(iter(trace), None), row)
    names = recurrent_layers(trace, layers)
    kept = {}
    for name in names:
        one, row = layer_of(trace, name, row)
        gate = kept_gate(one)
        assert gate is not None
        kept[name] = part_of(one, gate, row).mean(axis=1)
    counts = {name: len(found) for name, found in kept.items()}
    past = series_of("context", context)
    for name, count in counts.items():
        if count != len(past):
            raise ShapeError(f"context: layer {name!r} has {count} steps, found {len(past)}")
    ahead = None if forecast is None else series_of("forecast", forecast)
    came = None if truth is None else series_of("truth", truth)
    panels = [(f"{plain(name)}: mean of {kept_gate(trace[name])}", kept[name]) for name in names]
    if len(names) > 1:
        panels.append(("all of these layers: mean", np.mean([kept[name] for name in names], axis=0)))
    axes = axes_of(ax, len(panels), (9.5, 0.7 + 2.2 * len(panels)))
    # one range for all panels, which what is drawn fills
    drawn = np.concatenate([colours[1:] for _, colours in panels])
    drawn = drawn[np.isfinite(drawn)]
    limits = (float(drawn.min()), float(drawn.max())) if drawn.size else (0.0, 1.0)
    if limits[1] - limits[0] < 1e-6:
        limits = 0.0, 1.0
    for axis, (title, colours) in zip(axes, panels):
        lines = _draw_coloured(axis, past, colours, limits)
        draw_horizon(axis, past, ahead, came)
        set_title(axis, title)
        axis.set_ylabel(plain(unit, 24), usetex=False)
        axis.figure.colorbar(lines, ax=axis, pad=0.01, label="share kept")
    axes[-1].set_xlabel("step")
    if ahead is not None or came is not None:
        axes[0].legend(loc="upper left", fontsize="small", framealpha=0.9)
    return axes


def _draw_coloured(axis: Axes, values: np.ndarray, colours: np.ndarray, limits: tuple[float, float]) -> Any:
    """A line whose pieces have the colours of the steps at their ends, on a black one, so that light ones are seen."""
    from matplotlib.collections import LineCollection

    steps = np.arange(len(values), dtype=float)
    width = 3.0 if len(values) <= 400 else 1.8
    axis.plot(steps, values, color="black", linewidth=width + 0.9, solid_capstyle="round", label="_context")
    points = np.stack([steps, values], axis=1)
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    lines = LineCollection(list(pieces), cmap=SEQUENTIAL, linewidths=width, capstyle="round", zorder=3)
    # the gate of a step acts on the way to it
    lines.set_array(np.ma.masked_invalid(colours[1:]))
    lines.set_clim(*limits)
    axis.add_collection(lines)
    axis.margins(x=0.01)
    return lines


def draw_horizon(axis: Axes, past: np.ndarray, ahead: np.ndarray | None, came: np.ndarray | None) -> None:
    """The forecast and the truth behind the context, and where it ends."""
    if ahead is None and came is None:
        return
    last = len(past) - 1
    axis.axvline(last + 0.5, color="0.4", linewidth=0.8, linestyle=":")
    if came is not None:
        steps = np.arange(last, last + 1 + len(came))
        axis.plot(steps, [past[-1], *came], color="0.45", linewidth=1.4, label="truth")
    if ahead is not None:
        steps = np.arange(last + 1, last + 1 + len(ahead))
        marker = "o" if len(ahead) <= 48 else None
        axis.plot(
            steps, ahead, color="black", linestyle="--", linewidth=1.3, marker=marker, markersize=3, label="forecast"
        )


def states(
    trace: Trace,
    layer: str,
    part: str | None = None,
    *,
    units: list[int] | None = None,
    row: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """How the states of a layer move over time.

    Up to 8 units are a line each; of more, bands show which values most of them have, and the lines are of the units
    that move most.

    Parameters
    ----------
    trace : Trace
    layer : str
    part : str, optional
        By default the cell ``c`` of an LSTM, and ``h`` of others.
    units : list of int, optional
        These alone, at most 8.
    row : int
        Of the batch.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    ArgumentError
        If there is no such layer, part, row or unit.
    ShapeError
        If the part has no steps.
    UnsupportedError
        If matplotlib is not installed.
    """
    one, row = layer_of(trace, layer, row)
    part = _state_part(one) if part is None else part
    values = part_of(one, part, row)
    steps, size = values.shape
    chosen = _chosen_units(units, values)
    (axis,) = axes_of(ax, 1, (9.0, 3.6))
    at = np.arange(steps)
    if units is None and size > _MOST_LINES:
        counts = np.isfinite(values).any(axis=1)
        for low, high, colour, label in _BANDS:
            edges = np.full((2, steps), np.nan)
            edges[:, counts] = np.nanpercentile(values[counts], [low, high], axis=1)
            axis.fill_between(at, *edges, color=colour, linewidth=0, label=label)
    for k, number in enumerate(chosen):
        colour, dashes = LINES[k % len(LINES)]
        width = 1.3 if k < len(LINES) else 2.2
        axis.plot(at, values[:, number], color=colour, linestyle=dashes, linewidth=width, label=f"unit {number}")
    axis.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    axis.margins(x=0)
    what = "those that move most" if len(chosen) < size and units is None else ""
    set_title(axis, f"{plain(layer)}: {part} of {size:,} unit{'s' if size > 1 else ''}{', ' if what else ''}{what}")
    axis.set_xlabel("step")
    axis.set_ylabel(part)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    return axis


def _state_part(one: LayerTrace) -> str:
    return "c" if "c" in one.parts else "h" if "h" in one.parts else one.parts[0]


def _chosen_units(units: Any, values: np.ndarray) -> list[int]:
    size = values.shape[1]
    if units is None:
        if size <= _MOST_LINES:
            return list(range(size))
        counts = np.isfinite(values).any(axis=1)
        spread = np.nanstd(values[counts], axis=0) if counts.any() else np.zeros(size)
        return sorted(np.argsort(-spread, kind="stable")[:4].tolist())
    found = list(units) if isinstance(units, (list, tuple, range, np.ndarray)) else []
    right = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) and 0 <= k < size for k in found)
    if not found or len(found) > _MOST_LINES or not right:
        raise ArgumentError(f"units: expected 1 to {_MOST_LINES} numbers from 0 to {size - 1}, found {units!r:.80}")
    return [int(k) for k in found]
