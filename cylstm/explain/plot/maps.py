"""Heat maps: a gate's units over time, and what an occlusion changes, over time and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import ArgumentError, ShapeError, described
from cylstm.explain.names import checked_names
from cylstm.explain.order import similar_order
from cylstm.explain.plot.drawing import (
    DIVERGING,
    SEQUENTIAL,
    SHARES,
    axes_of,
    layer_of,
    limits_of,
    part_of,
    plain,
    set_title,
    spaced,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cylstm.trace import Trace

#: labels of rows that fit below each other
_LABELS = 34
#: of a band: the percentiles of its edges, and its grey
_BANDS = ((0, 100, "#dddddd", "all units"), (5, 95, "#b5b5b5", "90 %"), (25, 75, "#858585", "half"))


def gates(
    trace: Trace,
    layer: str,
    gate: str = "f",
    *,
    row: int = 0,
    order: str = "similar",
    style: str = "map",
    ax: Axes | None = None,
) -> Axes:
    """A gate of all units over time, as a heat map or as bands of percentiles.

    Parameters
    ----------
    trace : Trace
    layer : str
    gate : str
        Any part of the layer: a gate, or ``c``, ``h``, ``f_pre``, ...
    row : int
        Of the batch.
    order : {"similar", "unit"}
        Of the rows: units that move alike side by side, or by their number. The ticks have the numbers.
    style : {"map", "bands"}
        "bands" draws which values half of the units, nine in ten and all of them have at each step, and their median.
    ax : Axes, optional

    Returns
    -------
    Axes
        Steps that do not count (a mask) are hatched in a map, and gaps between bands.

    Raises
    ------
    ArgumentError
        If there is no such layer, part, row, order or style.
    ShapeError
        If the part has no steps.
    UnsupportedError
        If matplotlib is not installed.
    """
    for name, found, known in (("order", order, ("similar", "unit")), ("style", style, ("map", "bands"))):
        if found not in known:
            raise ArgumentError(f"{name}: expected one of {', '.join(known)}, found {described(found)}")
    one, row = layer_of(trace, layer, row)
    values = part_of(one, gate, row)
    steps, units = values.shape
    title = f"{plain(layer)}: {_said(gate)} of {units:,} unit{'s' if units > 1 else ''}"
    if style == "bands":
        (axis,) = axes_of(ax, 1, (9.0, 3.4))
        _draw_bands(axis, values)
        set_title(axis, title)
        axis.set_xlabel("step")
        axis.set_ylabel(gate)
        if gate in SHARES and limits_of(gate, values) == (0.0, 1.0):
            axis.set_ylim(-0.02, 1.02)
        return axis
    (axis,) = axes_of(ax, 1, (9.0, min(6.5, 1.6 + 0.2 * units)))
    rows = similar_order(values) if order == "similar" else np.arange(units)
    low, high = limits_of(gate, values)
    image = axis.imshow(
        values[:, rows].T,
        aspect="auto",
        cmap=SEQUENTIAL,
        vmin=low,
        vmax=high,
        extent=(-0.5, steps - 0.5, units - 0.5, -0.5),
    )
    _hatch_missing(axis)
    at = spaced(units, _LABELS)
    axis.set_yticks(at, [str(k) for k in rows[at]], fontsize="small")
    axis.set_ylabel("unit, similar ones together" if order == "similar" and units > 2 else "unit")
    axis.set_xlabel("step")
    set_title(axis, title)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    finite = values[np.isfinite(values)]
    extend = beyond[bool((finite < low).any()), bool((finite > high).any())]
    axis.figure.colorbar(image, ax=axis, pad=0.01, label=gate, extend=extend)
    return axis


def _said(gate: str) -> str:
    names = {
        "i": "input gate i", "f": "forget gate f", "g": "candidate g", "o": "output gate o", "r": "reset gate r",
        "z": "update gate z (the share that is kept)", "n": "candidate n", "c": "cell c", "h": "output h",
        "y": "result y",
    }  # fmt: skip
    if gate.endswith("_pre"):
        return f"{gate.removesuffix('_pre')} before its activation"
    return names[gate]


def _draw_bands(axis: Axes, values: np.ndarray) -> None:
    steps = np.arange(len(values))
    counts = np.isfinite(values).any(axis=1)
    for low, high, colour, label in _BANDS:
        edges = np.full((2, len(values)), np.nan)
        edges[:, counts] = np.nanpercentile(values[counts], [low, high], axis=1)
        axis.fill_between(steps, *edges, color=colour, linewidth=0, label=label)
    middle = np.full(len(values), np.nan)
    middle[counts] = np.nanmedian(values[counts], axis=1)
    axis.plot(steps, middle, color="black", linewidth=1.2, label="median")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, frameon=False, fontsize="small")
    axis.margins(x=0)


def _hatch_missing(axis: Axes) -> None:
    """Cells without a number show the background."""
    axis.patch.set(facecolor="white", edgecolor="0.6", hatch="////")


def occlusion(
    effects: Any,
    names: Sequence[str] | None = None,
    *,
    first: int = 0,
    title: str = "the prediction less that without",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """How much the prediction changes where a feature is left out at a step, or any such map of signed numbers.

    Parameters
    ----------
    effects : array_like
        (time, features): of any method that gives a number for each step and feature. The title is that of the
        ``values`` of `cylstm.explain.occlusion`.
    names : list of str, optional
        Of the features.
    first : int
        What the first step is called, such as -48 where the last one is -1.
    title : str
    unit : str
        Of the numbers, beside the colours.
    ax : Axes, optional

    Returns
    -------
    Axes
        A row for each feature; purple and hatched is negative, orange positive, and the stronger the darker.

    Raises
    ------
    ShapeError
        If the map has not two axes.
    ArgumentError
        If there are not as many names as features, or `first` is no number of a step.
    UnsupportedError
        If matplotlib is not installed.
    """
    try:
        values = np.asarray(effects, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"effects: expected numbers, found {described(effects)}") from None
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"effects: expected (time, features), found shape {values.shape}")
    if isinstance(first, bool) or not isinstance(first, (int, np.integer)):
        raise ArgumentError(f"first: expected a whole number, found {described(first)}")
    features = values.shape[1]
    labels = checked_names("names", names, features, "feature")
    (axis,) = axes_of(ax, 1, (9.0, min(8.0, 1.5 + 0.3 * features)))
    draw_signed(axis, values.T, int(first), unit)
    at = spaced(features, _LABELS)
    axis.set_yticks(at, [plain(labels[k], 24) for k in at], fontsize="small", usetex=False)
    axis.set_xlabel("step")
    set_title(axis, plain(title, 100))
    return axis


def draw_signed(axis: Axes, values: np.ndarray, first: int, unit: str) -> None:
    """A map (rows, time) of signed numbers: white is zero, and negative cells are hatched."""
    rows, steps = values.shape
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max()) if finite.size else 0.0
    most = most or 1.0
    extent = (first - 0.5, first + steps - 0.5, rows - 0.5, -0.5)
    image = axis.imshow(
        values, aspect="auto", cmap=DIVERGING, vmin=-most, vmax=most, extent=extent, interpolation="nearest"
    )
    axis.patch.set(facecolor="0.85", edgecolor="0.6", hatch="xxxx")
    sizes = -np.nan_to_num(values) / most
    # each cell twice, at both of its edges, so that the hatched area ends where the cells do
    across = np.repeat(first - 0.5 + np.arange(steps + 1), 2)[1:-1]
    down = np.repeat(-0.5 + np.arange(rows + 1), 2)[1:-1]
    for is_hatched, ink in (((sizes > 0.04) & (sizes < 0.55), "#333333"), (sizes >= 0.55, "#ffffff")):
        if is_hatched.any():
            twice = np.repeat(np.repeat(is_hatched, 2, axis=0), 2, axis=1).astype(float)
            hatched = axis.contourf(across, down, twice, levels=[0.5, 1.5], colors="none", hatches=["////"])
            for one in getattr(hatched, "collections", [hatched]):
                one.set_edgecolor(ink)
                one.set_linewidth(0.0)
    axis.set_xlim(extent[0], extent[1])
    axis.set_ylim(extent[2], extent[3])
    colours = axis.figure.colorbar(image, ax=axis, pad=0.01)
    colours.set_label(f"{plain(unit, 24)} (hatched: negative)".strip(), usetex=False)
