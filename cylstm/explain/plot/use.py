"""Which gates are always open or shut, as Karpathy, Johnson and Fei-Fei drew it (arXiv 1506.02078)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.errors import ArgumentError, described
from cylstm.explain.plot.drawing import axes_of, load_matplotlib, plain, set_title
from cylstm.explain.units import LayerUnits

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def saturation(units: LayerUnits, gate: str | None = None, *, ax: Any = None) -> Axes | list[Axes]:
    """Each unit at the share of the steps at which a gate of it is shut (below 0.1) and open (above 0.9).

    Units on the upper left never shut their gate, those on the lower right never open it, and those near the lower left
    are seldom saturated. A ring is larger the more units share a place.

    Parameters
    ----------
    units : LayerUnits
        A layer of what `cylstm.explain.units` gives: ``report["lstm"]``.
    gate : str, optional
        By default all, a panel each.
    ax : Axes or list of Axes, optional
        One for each gate.

    Returns
    -------
    Axes or list of Axes
        One where a gate is named.

    Raises
    ------
    ArgumentError
        If there is no such gate.
    UnsupportedError
        If matplotlib is not installed.
    """
    if not isinstance(units, LayerUnits):
        raise ArgumentError(f'units: expected a layer of a report, report["lstm"], found {described(units)}')
    known = list(units.open)
    if not known:
        raise ArgumentError(f"units: layer {units.layer!r} ({units.kind}) has no gates that open and shut")
    if gate is not None and gate not in known:
        raise ArgumentError(f"gate: layer {units.layer!r} has {', '.join(known)}, no {described(gate)}")
    gates = known if gate is None else [gate]
    axes = _beside_each_other(len(gates)) if ax is None else axes_of(ax, len(gates), (4.0, 4.0))
    for axis, name in zip(axes, gates):
        _draw(axis, units.shut[name], units.open[name])
        set_title(axis, f"{plain(units.layer, 24)}: gate {name}, {len(units.open[name]):,} units")
        axis.set_xlabel("share of steps shut (below 0.1)")
    axes[0].set_ylabel("share of steps open (above 0.9)")
    return axes[0] if gate is not None else axes


def _beside_each_other(count: int) -> list[Axes]:
    load_matplotlib()
    from matplotlib import pyplot

    _, made = pyplot.subplots(1, count, figsize=(3.6 * count + 0.4, 3.9), layout="constrained", squeeze=False)
    return list(made[0])


def _draw(axis: Axes, shut: np.ndarray, opened: np.ndarray) -> None:
    places, counts = np.unique(np.round(np.stack([shut, opened], axis=1), 2), axis=0, return_counts=True)
    axis.plot([0.0, 1.0], [1.0, 0.0], color="0.6", linewidth=0.8, linestyle=":", zorder=1)
    axis.scatter(
        places[:, 0], places[:, 1], s=18.0 + 14.0 * np.sqrt(counts - 1.0), facecolors=(0, 0, 0, 0.18),
        edgecolors="black", linewidths=0.8, clip_on=False, zorder=3,
    )  # fmt: skip
    for always, place, side in ((opened, (0.05, 1.0), "left"), (shut, (1.0, 0.09), "right")):
        number = int((always == 1.0).sum())
        if number:
            word = "open" if always is opened else "shut"
            axis.text(*place, f"{number:,} always {word}", ha=side, va="center", fontsize="small")
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    for edge in ("top", "right"):
        axis.spines[edge].set_visible(False)
