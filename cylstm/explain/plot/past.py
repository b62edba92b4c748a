"""What each past step contributed to a state or to a forecast, under the series itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import ArgumentError, described
from cylstm.explain.memory import Memory
from cylstm.explain.plot.drawing import axes_of, plain, row_of, series_of, set_title, spaced
from cylstm.explain.plot.maps import draw_signed
from cylstm.explain.plot.time import draw_horizon

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: bars that are told apart; more steps are an area
_MOST_BARS = 200


def contributions(
    memory: Memory,
    weight: Any = None,
    *,
    output: int | None = None,
    row: int = 0,
    last: int | None = None,
    context: Any = None,
    forecast: Any = None,
    truth: Any = None,
    unit: str = "",
    ax: Any = None,
) -> Axes | list[Axes]:
    """What the past contributed, step by step, under the forecast if that is given.

    Parameters
    ----------
    memory : Memory
        Of `cylstm.explain.memory`.
    weight : array_like, optional
        (outputs, units) of a linear head: the contributions are then signed and to the head's results, as
        `Memory.through` has them.
        Without one, to the state: the mean over the units of their sizes, ``|contribution|``.
    output : int, optional
        Which result of the head. By default all: a map of steps and results.
    row : int
        Of the batch.
    last : int, optional
        How many steps up to the memory's own; by default all. What came before them is said in the title.
    context, forecast, truth : array_like, optional
        As `series` takes them, of all steps of the memory: drawn above.
    unit : str
        Of the contributions.
    ax : Axes or list of Axes, optional
        Two where there is a context.

    Returns
    -------
    Axes or list of Axes
        The two where there is a context. Negative bars are hatched.

    Raises
    ------
    ArgumentError
        If there is no such row, output or number of steps.
    ShapeError
        If the weight or a series has another shape.
    UnsupportedError
        If the head cannot be followed (`Memory.through`), or matplotlib is not installed.
    """
    if not isinstance(memory, Memory):
        raise ArgumentError(f"memory: expected what cylstm.explain.memory gives, found {described(memory)}")
    values, before, what = _of_row(memory, weight, output, row)
    steps = len(values)
    if last is not None and (isinstance(last, bool) or not isinstance(last, (int, np.integer)) or last < 1):
        raise ArgumentError(f"last: expected a number of steps from 1 on, found {described(last)}")
    many = steps if last is None else int(last)
    if memory.reverse:
        first, end = memory.step, min(steps, memory.step + many)
    else:
        first, end = max(0, memory.step + 1 - many), memory.step + 1
    before = before + np.concatenate([values[:first], values[end:]]).sum(axis=0)
    past = None if context is None else series_of("context", context, steps)
    ahead = None if forecast is None else series_of("forecast", forecast)
    came = None if truth is None else series_of("truth", truth)
    axes = axes_of(ax, 1, (9.5, 3.2)) if past is None else axes_of(ax, 2, (9.5, 5.4))
    axis = axes[-1]
    if values.ndim == 2:
        draw_signed(axis, values[first:end].T, first, unit)
        at = spaced(values.shape[1], 16)
        axis.set_yticks(at, [str(k) for k in at])
        axis.set_ylabel("result")
    else:
        _draw_bars(axis, np.arange(first, end), values[first:end])
        axis.set_ylabel(plain(unit, 24), usetex=False)
    title = f"{plain(memory.layer)}: {what} at step {memory.step}"
    if values.ndim == 1 and (first or end < steps or before):
        title += f"; earlier steps and the initial state: {before:{'.3g' if weight is None else '+.3g'}}"
    set_title(axis, title)
    axis.set_xlabel("step")
    if past is None:
        return axis
    above = axes[0]
    above.plot(np.arange(first, end), past[first:end], color="black", linewidth=1.6, label="context")
    if not memory.reverse and end == steps:
        draw_horizon(above, past, ahead, came)
    above.legend(loc="upper left", fontsize="small", framealpha=0.9)
    left = first - 0.5
    right = max([end - 0.5, *(steps + len(one) - 0.5 for one in (ahead, came) if one is not None)])
    for one in axes:
        one.set_xlim(left, right)
    return axes


def _of_row(memory: Memory, weight: Any, output: Any, row: Any) -> tuple[np.ndarray, Any, str]:
    """Contributions of a row, (time,) or (time, outputs), what was there before the first step, and their name."""
    row = row_of(len(memory.initial) if memory.has_batch else 1, row)
    if weight is None:
        if output is not None:
            raise ArgumentError("output: only with the weight of a head")
        found, initial = memory.contributions, memory.initial
        found, initial = (found[row], initial[row]) if memory.has_batch else (found, initial)
        sizes = np.abs(found.reshape(len(found), -1)).mean(axis=1)
        return sizes, float(np.abs(initial).mean()), "mean size of the contributions to the state"
    found, initial, _ = memory.through(weight)
    found, initial = (found[row], initial[row]) if memory.has_batch else (found, initial)
    count = found.shape[1]
    if output is None and count > 1:
        return found, initial, f"contributions to {count} results"
    output = 0 if output is None else output
    if isinstance(output, bool) or not isinstance(output, (int, np.integer)) or not -count <= output < count:
        raise ArgumentError(f"output: expected one of {count}, found {described(output)}")
    output = int(output) % count
    return found[:, output], float(initial[output]), f"contributions to result {output}"


def _draw_bars(axis: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    positive, negative = np.maximum(np.nan_to_num(values), 0.0), np.minimum(np.nan_to_num(values), 0.0)
    looks: tuple[dict[str, Any], ...] = (
        {"facecolor": "#2b2b2b"},
        {"facecolor": "#d9d9d9", "edgecolor": "#2b2b2b", "hatch": "/////"},
    )
    for part, look in zip((positive, negative), looks):
        if not part.any():
            continue
        if len(steps) <= _MOST_BARS:
            is_drawn = part != 0.0
            axis.bar(steps[is_drawn], part[is_drawn], width=0.85, linewidth=0.5, **look)
        else:
            axis.fill_between(steps, part, step="mid", linewidth=0.0, **look)
    axis.axhline(0.0, color="black", linewidth=0.7)
    axis.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
