"""What the plots share: Axes that are given or made, names as plain text, ticks of many rows, and colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.shown import shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cylstm.trace import LayerTrace, Trace

#: perceptually uniform, and made for the colour-blind (Nuñez, Anderton and Renslow, PLOS ONE 13, 2018)
SEQUENTIAL = "cividis"
#: white at zero; both ends are dark, so negative cells are hatched too
DIVERGING = "PuOr_r"
#: lines that differ in lightness and in dashes
LINES = (("#000000", "-"), ("#5b5b5b", "--"), ("#2a6fa8", "-."), ("#b05a00", ":"), ("#8c8c8c", (0, (5, 1, 1, 1, 1, 1))))
#: parts that lie between 0 and 1 where the activation is a sigmoid
SHARES = "iforz"


def load_matplotlib() -> None:
    """Raise `UnsupportedError` where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UnsupportedError("cylstm.explain.plot needs matplotlib: pip install 'cylstm[plot]'") from None


def axes_of(ax: Any, count: int, size: tuple[float, float]) -> list[Axes]:
    """The Axes that are given, checked, or `count` new ones below each other that share their steps.

    `size` is that of a new figure, in inches.

    Raises
    ------
    ArgumentError
        If `ax` is not so many Axes.
    UnsupportedError
        If matplotlib is not installed.
    """
    load_matplotlib()
    from matplotlib.axes import Axes

    if ax is None:
        from matplotlib import pyplot

        _, made = pyplot.subplots(count, 1, figsize=size, layout="constrained", squeeze=False, sharex=True)
        return list(made[:, 0])
    found = [ax] if isinstance(ax, Axes) else list(np.ravel(ax)) if isinstance(ax, (list, tuple, np.ndarray)) else []
    if len(found) != count or not all(isinstance(one, Axes) for one in found):
        wanted = "Axes of matplotlib" if count == 1 else f"a list of {count} Axes of matplotlib"
        raise ArgumentError(f"ax: expected {wanted}, found {described(ax)}")
    return found


def plain(name: str, most: int = 48) -> str:
    """A name as matplotlib draws it literally: without formulas between dollars."""
    return shown_name(name, most).replace("$", r"\$")


def set_title(ax: Axes, text: str) -> None:
    """A title on the left, in the size of labels. TeX, which a user may have switched on, would read names as code."""
    ax.set_title(text, loc="left", fontsize="medium", usetex=False)


def layer_of(trace: Any, layer: Any, row: Any) -> tuple[LayerTrace, int]:
    """One layer of a trace, and the row, checked."""
    from cylstm.trace import Trace

    if not isinstance(trace, Trace):
        raise ArgumentError(f"trace: expected what Model.trace gives, found {described(trace)}")
    if not isinstance(layer, str) or layer not in trace:
        raise ArgumentError(f"layer: the trace has {_listed(trace)}, no {described(layer)}")
    one: LayerTrace = trace[layer]
    return one, row_of(one[one.parts[0]].shape[0] if one.has_batch else 1, row)


def row_of(rows: int, row: Any) -> int:
    """A row of a batch of so many, checked."""
    if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not -rows <= row < rows:
        raise ArgumentError(f"row: expected one of {rows}, found {described(row)}")
    return int(row) % rows


def part_of(one: LayerTrace, part: str, row: int) -> np.ndarray:
    """One part of a layer in one row: (time, units), in float64, units of images in one line.

    Raises
    ------
    ArgumentError
        If the trace has no such part.
    ShapeError
        If it has no steps.
    """
    if part not in one.parts:
        raise ArgumentError(f"layer {one.name!r}: the trace has {', '.join(one.parts)}, no {described(part)}")
    array = one[part][row] if one.has_batch else one[part]
    if array.ndim < 2 or not array.size:
        raise ShapeError(f"layer {one.name!r}: {part} has no steps over which to draw it, its shape is {array.shape}")
    return np.asarray(array, np.float64).reshape(len(array), -1)


def kept_gate(one: LayerTrace) -> str | None:
    """The gate that keeps the state: ``f`` of an LSTM, ``z`` of a GRU."""
    return {"lstm": "f", "conv_lstm": "f", "gru": "z"}.get(one.kind)


def limits_of(part: str, values: np.ndarray) -> tuple[float, float]:
    """The range of colours: 0 to 1 of gates that stay within, else the same on both sides of zero.

    Of the latter one number in 200 may lie outside, so that a few large ones leave colours to the rest.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or (part in SHARES and finite.min() >= 0.0 and finite.max() <= 1.0):
        return 0.0, 1.0
    sizes = np.abs(finite)
    most = float(np.percentile(sizes, 99.5)) or float(sizes.max()) or 1.0
    return -most, most


def spaced(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` positions, evenly spaced."""
    return np.arange(0, count, max(1, -(-count // most)))


def series_of(name: str, values: Any, count: int | None = None) -> np.ndarray:
    """A series of numbers, (time,), checked."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}: expected numbers, found {described(values)}") from None
    if array.ndim != 1 or not array.size or (count is not None and len(array) != count):
        wanted = "at least one step" if count is None else f"{count} steps"
        raise ShapeError(f"{name}: expected an array of {wanted}, found shape {array.shape}")
    return array


def recurrent_layers(trace: Trace, layers: Any) -> list[str]:
    """The layers with a gate that keeps the state, or those of them that are asked for."""
    known = [name for name in trace if kept_gate(trace[name]) in trace[name].parts]
    if layers is None:
        if not known:
            raise ArgumentError("trace: no layer of it has a forget gate (f of an LSTM, z of a GRU)")
        return known
    names = [layers] if isinstance(layers, str) else list(layers) if isinstance(layers, (list, tuple)) else []
    for name in names:
        if name not in known:
            raise ArgumentError(f"layers: {described(name)} has no forget gate here; these have: {_listed(known)}")
    if not names:
        raise ArgumentError(f"layers: expected a text or a list of texts, found {described(layers)}")
    return names


def _listed(names: Iterable[str]) -> str:
    found = [shown_name(name) for name in names]
    return ", ".join(found[:16] + ([f"{len(found) - 16} more"] if len(found) > 16 else [])) or "nothing"
