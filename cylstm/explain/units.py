"""Units that are of no use: that never change, whose gates are always open or shut, or that repeat another unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described

if TYPE_CHECKING:
    from cylstm.model import Model
    from cylstm.trace import LayerTrace, Trace

#: rows that are traced at once
_ROWS = 64


class LayerUnits:
    """What the units of one recurrent layer did over some data. All arrays are (units,).

    Attributes
    ----------
    layer, kind : str
    steps : int
        How many steps of all rows count.
    minimum, maximum, mean, variance : ndarray
        Of the output ``h``, in float64.
    open, shut : dict of str to ndarray
        Gate -> the share of the steps at which it is above 0.9, and below 0.1 (Karpathy et al., arXiv 1506.02078).
    dead : ndarray of bool
        Units whose output never changes by more than `tolerance`.
    duplicate_of : ndarray of int
        The first unit that had the same output at every step, -1 where there is none. Dead units are left out.
    """

    def __init__(
        self,
        layer: str,
        kind: str,
        steps: int,
        statistics: Mapping[str, np.ndarray],
        shares: Mapping[str, Mapping[str, np.ndarray]],
        tolerance: float,
        duplicate_of: np.ndarray,
    ) -> None:
        self.layer = layer
        self.kind = kind
        self.steps = steps
        self.minimum, self.maximum = statistics["minimum"], statistics["maximum"]
        self.mean, self.variance = statistics["mean"], statistics["variance"]
        self.open = dict(shares["open"])
        self.shut = dict(shares["shut"])
        self.dead = self.maximum - self.minimum <= tolerance
        self.duplicate_of = np.where(self.dead, -1, duplicate_of)

    @property
    def always_open(self) -> dict[str, np.ndarray]:
        """Gate -> whether it was above 0.9 at every step."""
        return {gate: share == 1.0 for gate, share in self.open.items()}

    @property
    def always_shut(self) -> dict[str, np.ndarray]:
        """Gate -> whether it was below 0.1 at every step."""
        return {gate: share == 1.0 for gate, share in self.shut.items()}

    def __repr__(self) -> str:
        copies = int((self.duplicate_of >= 0).sum())
        return (
            f"<LayerUnits {self.layer!r} ({self.kind}): {len(self.dead)} units, {int(self.dead.sum())} dead, "
            f"{copies} duplicates>"
        )


class UnitReport(Mapping[str, LayerUnits]):
    """Layer -> `LayerUnits`, as `units` found them. Printed, it is a table."""

    def __init__(self, layers: Mapping[str, LayerUnits]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, layer: str) -> LayerUnits:
        if layer not in self._layers:
            raise KeyError(f"the report has the layers {', '.join(self._layers)}, no {layer!r}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __str__(self) -> str:
        head = ("layer", "units", "dead", "duplicates", "gates always open", "gates always shut", "steps")
        rows: list[tuple[str, ...]] = [head]
        for one in self._layers.values():
            opened, shut = (
                ", ".join(f"{gate} {int(found.sum())}" for gate, found in gates.items() if found.any())
                for gates in (one.always_open, one.always_shut)
            )
            counts = (len(one.dead), int(one.dead.sum()), int((one.duplicate_of >= 0).sum()))
            rows.append((one.layer, *map(str, counts), opened, shut, f"{one.steps:,}"))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)

    def __repr__(self) -> str:
        return f"<UnitReport of {', '.join(self._layers)}>"


class _Counted:
    """What is known of a layer's units so far."""

    def __init__(self, one: LayerTrace, gates: tuple[str, ...]) -> None:
        size = one.h[0, 0].size
        self.kind = one.kind
        self.gates = gates
        self.steps = 0
        self.minimum, self.maximum = np.full(size, np.inf), np.full(size, -np.inf)
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        units = one[gates[0]][0, 0].size if gates else size
        self.open = {gate: np.zeros(units, np.int64) for gate in gates}
        self.shut = {gate: np.zeros(units, np.int64) for gate in gates}
        self.group = np.zeros(size, np.int64)

    def add(self, one: LayerTrace) -> None:
        h = one.h.reshape(*one.h.shape[:2], -1)
        counts = np.ones(h.shape[:2], bool)
        if self.gates:
            counts = ~np.isnan(one[self.gates[0]].reshape(*h.shape[:2], -1)[..., 0])
        elif "h_pre" in one.parts:
            counts = ~np.isnan(one.h_pre[..., 0])
        rows = np.asarray(h[counts], np.float64)
        if not len(rows):
            return
        for gate in self.gates:
            found = one[gate].reshape(*h.shape[:2], -1)[counts]
            self.open[gate] += (found > 0.9).sum(axis=0)
            self.shut[gate] += (found < 0.1).sum(axis=0)
        self.minimum = np.minimum(self.minimum, rows.min(axis=0))
        self.maximum = np.maximum(self.maximum, rows.max(axis=0))
        # the mean and the sum of squares of two sets together (Chan, Golub and LeVeque, 1979)
        mean, total = rows.mean(axis=0), self.steps + len(rows)
        shift = mean - self.mean
        self.squares += ((rows - mean) ** 2).sum(axis=0) + shift**2 * (self.steps * len(rows) / total)
        self.mean += shift * (len(rows) / total)
        self.steps = total
        # units that were alike up to here, and are so in these rows
        columns = np.ascontiguousarray(rows.T + 0.0)
        known: dict[tuple[int, bytes], int] = {}
        self.group = np.array(
            [
                known.setdefault((int(old), column.tobytes()), k)
                for k, (old, column) in enumerate(zip(self.group, columns))
            ]
        )

    def result(self, layer: str, tolerance: float) -> LayerUnits:
        statistics = {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self.mean,
            "variance": self.squares / self.steps,
        }
        shares = {
            name: {gate: count / self.steps for gate, count in counts.items()}
            for name, counts in (("open", self.open), ("shut", self.shut))
        }
        own = np.arange(len(self.group))
        duplicate_of = np.where(self.group == own, -1, self.group)
        return LayerUnits(layer, self.kind, self.steps, statistics, shares, tolerance, duplicate_of)


def units(
    model: Model,
    data: Any,
    layers: list[str] | str | None = None,
    *,
    tolerance: float = 1e-6,
    progress: bool = False,
    **given: Any,
) -> UnitReport:
    """What the units of the recurrent layers do over some data: their ranges, and which of them are of no use.

    Parameters
    ----------
    model : Model
    data : array_like or iterable of array_like
        A batch of sequences as `Model.predict` takes it, or batches one after the other, of any number and size: a
        generator's are read one at a time. Networks with several inputs take an iterable of lists.
    layers : list of str, optional
        Names of recurrent layers; by default all.
    tolerance : float
        A unit is dead if its output changes by no more.
    progress : bool
        Show a progress bar, which needs tqdm.
    **given
        ``lengths``, ``mask``, ``initial_state`` or ``threads``, as `Model.predict` takes them, of a single batch.

    Returns
    -------
    UnitReport

    Raises
    ------
    ArgumentError
        If there is no data, no recurrent layer, or none of a name.
    UnsupportedError
        If a progress bar is asked for and tqdm is not installed.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance >= 0.0:
        raise ArgumentError(f"tolerance: expected a number from 0 on, found {described(tolerance)}")
    chosen = _recurrent(model, layers)
    counted: dict[str, _Counted] = {}
    for x, more in _with_progress(_batches(model, data, given), check_flag("progress", progress)):
        trace: Trace = model.trace(x, list(chosen), **more)
        for name, gates in chosen.items():
            if name not in counted:
                counted[name] = _Counted(trace[name], gates)
            counted[name].add(trace[name])
    if not counted or not next(iter(counted.values())).steps:
        raise ArgumentError("data: expected at least one step that counts, found none")
    return UnitReport({name: one.result(name, float(tolerance)) for name, one in counted.items()})


def _recurrent(model: Model, layers: Any) -> dict[str, tuple[str, ...]]:
    """Recurrent layer -> its gates that are between 0 and 1."""
    from cylstm.graph.layers import LAYER_KINDS

    known = {layer.name: LAYER_KINDS[layer.kind] for layer in model.graph.layers if LAYER_KINDS[layer.kind].gates}
    if not known:
        raise ArgumentError("model: it has no recurrent layers")
    names = [layers] if isinstance(layers, str) else list(known) if layers is None else layers
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"layers: expected a text or a list of texts, found {described(layers)}")
    for name in names:
        if name not in known:
            raise ArgumentError(f"layers: there is no recurrent layer {name!r}; the network has {', '.join(known)}")
    return {name: tuple(gate for gate in known[name].gates if gate not in "gnh") for name in names}


def _batches(model: Model, data: Any, given: Mapping[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The data in pieces of few rows, each with what is given about them."""
    rest = {name: value for name, value in given.items() if value is not None}
    unknown = set(rest) - {"lengths", "mask", "initial_state", "threads"}
    if unknown:
        raise ArgumentError(f"units: no argument {sorted(unknown)[0]!r}")
    shared = {name: rest.pop(name) for name in ("threads",) if name in rest}
    is_array = isinstance(data, np.ndarray) or hasattr(data, "__array__") or _is_nested(data)
    if not is_array:
        if rest:
            raise ArgumentError(f"{sorted(rest)[0]}: of several batches is not supported; give one batch")
        if not isinstance(data, Iterable):
            raise ArgumentError(f"data: expected an array or an iterable of arrays, found {described(data)}")
        for batch in data:
            yield from _batches(model, batch, shared) if _is_one(model, batch) else [(batch, dict(shared))]
        return
    array = np.asarray(data)
    name = model.inputs[0]
    layout = model.graph.layouts.get(name)
    rank = len(model.graph.values[name].shape if layout is None else layout)
    if array.ndim == rank:
        array = array[np.newaxis]
    elif array.ndim != rank + 1:
        raise ShapeError(f"data: expected a batch of sequences, an array of {rank + 1} axes, found shape {array.shape}")
    if rest.get("initial_state") is not None:
        yield array, {**rest, **shared}
        return
    for first in range(0, len(array), _ROWS):
        rows = slice(first, first + _ROWS)
        yield array[rows], {**{name: np.asarray(value)[rows] for name, value in rest.items()}, **shared}


def _is_nested(data: Any) -> bool:
    """Whether it is numbers in lists of lists."""
    depth = 0
    while isinstance(data, (list, tuple)) and data:
        data, depth = data[0], depth + 1
    return depth > 1 and isinstance(data, (int, float))


def _is_one(model: Model, batch: Any) -> bool:
    return len(model.inputs) == 1 and not isinstance(batch, dict)


def _with_progress(batches: Iterator[Any], is_shown: bool) -> Iterable[Any]:
    if not is_shown:
        return batches
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise UnsupportedError("progress=True needs tqdm: pip install tqdm") from None
    found: Iterable[Any] = tqdm(batches, unit=" batches")
    return found
