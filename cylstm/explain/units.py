"""Units that are of no use: that never change, whose gates are always open or shut, or that repeat another unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.array_like import to_array
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.weights import StoredTensor, as_stored
from cylstm.shown import html_table, shown_name, table_lines

if TYPE_CHECKING:
    from cylstm.model import Model
    from cylstm.trace import LayerTrace, Trace

#: at most how many rows are traced at once, and how many numbers
_ROWS = 64
_NUMBERS = 1 << 22
#: what `units` takes for no change, by the size of the model's numbers
_TOLERANCES = {4: 1e-6, 8: 1e-13}
#: what may be said of a batch
_GIVEN = ("lengths", "mask", "initial_state")


class LayerUnits:
    """What the units of one recurrent layer did over some data. All arrays are (units,).

    Attributes
    ----------
    layer, kind : str
    steps : int
        How many steps of all rows count.
    skipped, empty : int
        How many steps do not count, and how many rows have none that does.
    is_from_zero : bool
        Whether every row began with a state of zeros.
    minimum, maximum, mean, variance : ndarray
        Of the output ``h``, in float64.
    open, shut : dict of str to ndarray
        Gate -> the share of the steps at which it is above 0.9, and below 0.1 (Karpathy et al., arXiv 1506.02078).
    gate_mean : dict of str to ndarray
        Gate -> its mean.
    tolerance : float
    dead : ndarray of bool
        Units whose output never changes by more than `tolerance`.
    constant : ndarray
        The output of dead units, 0 where it is never further from 0 than `tolerance`; NaN for all others.
    duplicate_of : ndarray of int
        The first unit that had the same output at every step, to within `tolerance`; -1 where there is none. Dead units
        are left out.
    difference : ndarray
        What the output of a dead unit is from `constant` at most, and that of a duplicate from the other's; else 0.
    """

    def __init__(self, layer: str, counted: _Counted, tolerance: float) -> None:
        self.layer = layer
        self.kind = counted.kind
        self.steps = counted.steps
        self.skipped = counted.skipped
        self.empty = counted.empty
        self.is_from_zero = counted.is_from_zero
        self.minimum, self.maximum, self.mean = counted.minimum, counted.maximum, counted.mean
        self.variance = counted.squares / counted.steps
        self.open = {gate: count / counted.steps for gate, count in counted.open.items()}
        self.shut = {gate: count / counted.steps for gate, count in counted.shut.items()}
        self.gate_mean = {gate: total / counted.steps for gate, total in counted.gate_sum.items()}
        self.tolerance = tolerance
        self.dead = self.maximum - self.minimum <= tolerance
        is_zero = np.maximum(np.abs(self.minimum), np.abs(self.maximum)) <= tolerance
        centre = self.minimum + (self.maximum - self.minimum) / 2
        self.constant = np.where(self.dead, np.where(is_zero, 0.0, centre), np.nan)
        first = counted.group
        is_copy = (first != np.arange(len(first))) & ~self.dead & ~self.dead[first]
        self.duplicate_of = np.where(is_copy, first, -1)
        off = np.maximum(self.maximum - self.constant, self.constant - self.minimum)
        self.difference = np.where(self.dead, off, np.where(is_copy, counted.apart, 0.0))

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
    """Layer -> `LayerUnits`, as `units` found them. Printed, it is a table.

    Attributes
    ----------
    model : str
        The `fingerprint` of the model.
    """

    def __init__(self, layers: Mapping[str, LayerUnits], model: str) -> None:
        self._layers = dict(layers)
        self.model = model

    def __getitem__(self, layer: str) -> LayerUnits:
        if layer not in self._layers:
            raise KeyError(f"the report has the layers {', '.join(self._layers)}, no {layer!r}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("layer", "units", "dead", "duplicates", "gates always open", "gates always shut", "steps")
        rows: list[tuple[str, ...]] = [head]
        for one in self._layers.values():
            opened, shut = (
                ", ".join(f"{gate} {int(found.sum())}" for gate, found in gates.items() if found.any())
                for gates in (one.always_open, one.always_shut)
            )
            counts = (len(one.dead), int(one.dead.sum()), int((one.duplicate_of >= 0).sum()))
            rows.append((one.layer, *map(str, counts), opened, shut, f"{one.steps:,}"))
        return rows

    def __str__(self) -> str:
        return "\n".join(table_lines(self._rows()))

    def __repr__(self) -> str:
        return f"<UnitReport of {', '.join(map(shown_name, self._layers))}>"

    def _repr_html_(self) -> str:
        return html_table("Units of no use", self._rows())


class _Counted:
    """What is known of a layer's units so far: some numbers for each unit, however much data there is."""

    def __init__(self, one: LayerTrace, gates: tuple[str, ...]) -> None:
        size = one.h[0, 0].size
        self.kind = one.kind
        self.gates = gates
        self.steps = self.skipped = self.empty = 0
        self.is_from_zero = True
        self.minimum, self.maximum = np.full(size, np.inf), np.full(size, -np.inf)
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        units = one[gates[0]][0, 0].size if gates else size
        self.open = {gate: np.zeros(units, np.int64) for gate in gates}
        self.shut = {gate: np.zeros(units, np.int64) for gate in gates}
        self.gate_sum = {gate: np.zeros(units) for gate in gates}
        #: the first unit that a unit was like so far
        self.group = np.zeros(size, np.int64)
        #: at most how far it was from that
        self.apart = np.zeros(size)

    def add(self, one: LayerTrace, tolerance: float, first_row: int) -> None:
        h = one.h.reshape(*one.h.shape[:2], -1)
        finite = np.isfinite(h).all(axis=-1)
        if not finite.all():
            row, step = np.argwhere(~finite)[0]
            raise ArgumentError(
                f"data: the output of layer {one.name!r} is not finite in row {first_row + row} of its batch from step "
                f"{step} on, as NaN in the data makes it; leave such rows out, or fill them"
            )
        # what goes into the gates is NaN at the steps that do not count, and only there where the output is finite
        probe = one[self.gates[0]] if self.gates else one.h_pre
        counts = ~np.isnan(probe.reshape(*h.shape[:2], -1)[..., 0])
        self.is_from_zero &= one.is_from_zero
        self.skipped += int((~counts).sum())
        self.empty += int((~counts.any(axis=1)).sum())
        rows = np.asarray(h[counts], np.float64)
        if not len(rows):
            return
        for gate in self.gates:
            found = one[gate].reshape(*h.shape[:2], -1)[counts]
            self.open[gate] += (found > 0.9).sum(axis=0)
            self.shut[gate] += (found < 0.1).sum(axis=0)
            self.gate_sum[gate] += found.sum(axis=0, dtype=np.float64)
        self.minimum = np.minimum(self.minimum, rows.min(axis=0))
        self.maximum = np.maximum(self.maximum, rows.max(axis=0))
        # the mean and the sum of squares of two sets together (Chan, Golub and LeVeque, 1979)
        mean, total = rows.mean(axis=0), self.steps + len(rows)
        shift = mean - self.mean
        self.squares += ((rows - mean) ** 2).sum(axis=0) + shift**2 * (self.steps * len(rows) / total)
        self.mean += shift * (len(rows) / total)
        self.steps = total
        columns = np.ascontiguousarray(rows.T)
        self.group = _parted(self.group, columns, tolerance)
        # it may be another unit now, which was that far from the one before
        before = np.where(self.group == np.arange(len(self.group)), 0.0, self.apart[self.group])
        self.apart = np.maximum(self.apart + before, np.abs(columns - columns[self.group]).max(axis=1))


def _parted(group: np.ndarray, columns: np.ndarray, tolerance: float) -> np.ndarray:
    """The groups of units after more steps: the first unit of its old group that a unit is within tolerance of.

    Units are compared number by number, but only where sums of their numbers with random signs are close, so that
    thousands of units that differ take no time.

    Parameters
    ----------
    group : ndarray of int
        (units,), the first unit of each one's group so far.
    columns : ndarray
        (units, steps).
    """
    units, steps = columns.shape
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (steps, 4))
    sums = columns @ signs
    # what differences within tolerance and the rounding of the sums make at most
    bound = steps * (tolerance + 4e-16 * np.abs(columns).max(initial=0.0) * steps)
    firsts: dict[int, tuple[list[int], np.ndarray]] = {}
    found = np.arange(units)
    for k, old in enumerate(group.tolist()):
        known, known_sums = firsts.setdefault(old, ([], np.empty((int((group == old).sum()), 4))))
        near = np.flatnonzero(np.abs(known_sums[: len(known)] - sums[k]).max(axis=1, initial=0.0) <= bound)
        for j in (known[place] for place in near):
            if np.abs(columns[j] - columns[k]).max() <= tolerance:
                found[k] = j
                break
        else:
            known_sums[len(known)] = sums[k]
            known.append(k)
    return found


def fingerprint(model: Model) -> str:
    """A hash of a model's layers, weights and dtype: what tells whether a report is of it."""
    graph = model.graph
    found = hashlib.blake2b(digest_size=16)
    found.update(f"{model.dtype} {graph.inputs} {graph.outputs}".encode())
    for layer in graph.layers:
        parts = [sorted(part.items()) for part in (layer.inputs, layer.outputs, layer.weights, layer.options)]
        found.update(f"{layer.kind} {layer.name} {parts}".encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(as_stored(graph.tensors).items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode("utf-8", "surrogatepass"))
        for _, piece in tensor.pieces() if isinstance(tensor, StoredTensor) else ((0, np.asarray(tensor)),):
            found.update(np.ascontiguousarray(piece).data)
    return found.hexdigest()


@in_standard_mode
def units(
    model: Model,
    data: Any,
    layers: list[str] | str | None = None,
    *,
    tolerance: float | None = None,
    progress: bool = False,
    **given: Any,
) -> UnitReport:
    """What the units of the recurrent layers do over some data: their ranges, and which of them are of no use.

    However many batches there are, only some numbers for each unit are kept; a batch is traced in pieces of rows.

    Parameters
    ----------
    model : Model
    data : array_like or iterable of array_like
        A batch of sequences as `Model.predict` takes it, or batches one after the other, of any number and size: a
        generator's are read one at a time. A batch may be a pair of it and a dict of what else `Model.predict` takes:
        ``(x, {"lengths": [5, 9, 2]})``. Networks with several inputs take an iterable of lists, or of dicts by name.
    layers : list of str, optional
        Names of recurrent layers; by default all.
    tolerance : float, optional
        A unit is dead if its output changes by no more, and a duplicate of another if it differs from it by no more. By
        default 1e-6, and 1e-13 in a model of float64.
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
        If there is no data, no recurrent layer, or none of a name, or if the output of a layer is not finite, as NaN in
        the data makes it.
    UnsupportedError
        If a progress bar is asked for and tqdm is not installed.
    """
    if tolerance is None:
        tolerance = _TOLERANCES[model.dtype.itemsize]
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not tolerance >= 0.0:
        raise ArgumentError(f"tolerance: expected a number from 0 on, found {described(tolerance)}")
    chosen = _recurrent(model, layers)
    counted: dict[str, _Counted] = {}
    pieces = batches(model, data, given, _numbers_of_a_step(model, chosen))
    for first_row, x, more in _with_progress(pieces, check_flag("progress", progress)):
        for names, what in _by_parts(chosen):
            trace: Trace = model.trace(x, names, what, **more)
            for name in names:
                if name not in counted:
                    counted[name] = _Counted(trace[name], chosen[name])
                counted[name].add(trace[name], float(tolerance), first_row)
    if not counted or not all(one.steps for one in counted.values()):
        raise ArgumentError("data: expected at least one step that counts, found none")
    return UnitReport({name: LayerUnits(name, counted[name], float(tolerance)) for name in chosen}, fingerprint(model))


def _recurrent(model: Model, layers: Any) -> dict[str, tuple[str, ...]]:
    """Recurrent layer -> its gates that are between 0 and 1."""
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


def _by_parts(chosen: Mapping[str, tuple[str, ...]]) -> list[tuple[list[str], list[str]]]:
    """Layers that have the same gates, and what is traced of these: no more than is counted."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, gates in chosen.items():
        found.setdefault((*gates, "h") if gates else ("h", "h_pre"), []).append(name)
    return [(names, list(what)) for what, names in found.items()]


def _numbers_of_a_step(model: Model, chosen: Mapping[str, tuple[str, ...]]) -> int:
    """How many numbers are traced of a row at a step."""
    values = {
        layer.name: model.graph.values[layer.outputs["y"]] for layer in model.graph.layers if "y" in layer.outputs
    }
    return sum((len(gates) + 2) * values[name].size for name, gates in chosen.items())


def batches(
    model: Model, data: Any, given: Mapping[str, Any], numbers: int = 1
) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """The data in pieces of few rows: the place of the first of them in its batch, the piece, and what is given of it.

    Parameters
    ----------
    numbers : int
        How many numbers a row takes at a step, which limits the rows of a piece.
    """
    rest = {name: value for name, value in given.items() if value is not None}
    unknown = set(rest) - {*_GIVEN, "threads"}
    if unknown:
        raise ArgumentError(f"units: no argument {sorted(unknown)[0]!r}")
    shared = {name: rest.pop(name) for name in ("threads",) if name in rest}
    if isinstance(data, Mapping):
        yield 0, data, {**rest, **shared}
        return
    if isinstance(data, np.ndarray) or hasattr(data, "__array__") or _is_nested(data):
        yield from _pieces(model, to_array(data, "data"), rest, shared, numbers)
        return
    if rest:
        raise ArgumentError(f"{sorted(rest)[0]}: of several batches is not supported; give it with each batch")
    if not isinstance(data, Iterable):
        raise ArgumentError(f"data: expected an array or an iterable of arrays, found {described(data)}")
    for item in data:
        batch: Any = item
        own: dict[str, Any] = {}
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], dict) and not set(item[1]) - {*_GIVEN}:
            batch, own = item
        if len(model.inputs) == 1 and not isinstance(batch, dict):
            yield from _pieces(model, to_array(batch, "data"), own, shared, numbers)
        else:
            yield 0, batch, {**own, **shared}


def _pieces(
    model: Model, array: np.ndarray, own: Mapping[str, Any], shared: Mapping[str, Any], numbers: int
) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """One batch in pieces of few rows."""
    name = model.inputs[0]
    layout = model.graph.layouts.get(name)
    rank = len(model.graph.values[name].shape if layout is None else layout)
    own = {key: value for key, value in own.items() if value is not None}
    if array.ndim == rank:
        array = array[np.newaxis]
    elif array.ndim != rank + 1:
        raise ShapeError(f"data: expected a batch of sequences, an array of {rank + 1} axes, found shape {array.shape}")
    if "initial_state" in own:
        yield 0, array, {**own, **shared}
        return
    rows = max(1, min(_ROWS, _NUMBERS // max(1, numbers * max(array.shape[1:], default=1))))
    for first in range(0, len(array), rows):
        part = slice(first, first + rows)
        yield first, array[part], {**{key: np.asarray(value)[part] for key, value in own.items()}, **shared}


def _is_nested(data: Any) -> bool:
    """Whether it is numbers in lists of lists."""
    depth = 0
    while isinstance(data, (list, tuple)) and data:
        data, depth = data[0], depth + 1
    return depth > 1 and isinstance(data, (int, float))


def _with_progress(batches: Iterator[Any], is_shown: bool) -> Iterable[Any]:
    if not is_shown:
        return batches
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise UnsupportedError("progress=True needs tqdm: pip install tqdm") from None
    found: Iterable[Any] = tqdm(batches, unit=" batches")
    return found
