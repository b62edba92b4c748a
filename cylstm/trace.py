"""What a model computes on the way: gates, cells and the results of all layers, beside the prediction itself."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.engine.choose import chosen_isa
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError, described
from cylstm.formats.numpy_file import load_arrays
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.layers.lstm import lstm_gates
from cylstm.graph.passes import drop_inert_layers
from cylstm.inputs import new_array, to_layout
from cylstm.packing import PackedModel
from cylstm.prediction import predict_any, threads_of_call
from cylstm.shown import html_table, shown_name
from cylstm.trace_folder import FolderReader, FolderWriter

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph, Layer
    from cylstm.graph.values import Axis, Option, Value
    from cylstm.model import Model
    from cylstm.stream import Stream

#: of the name of a gate before its activation
_PRE = "_pre"
#: of files of traces
_FORMAT = 1


class LayerTrace:
    """What one layer computed, by the names of its parts: an attribute each.

    An LSTM and a ConvLSTM have the gates ``i``, ``f``, ``g`` and ``o``, the cell ``c`` and the output ``h``; a GRU the
    gates ``r``, ``z`` and ``n`` and ``h``; a simple RNN ``h``. Of each gate, and of a simple RNN's ``h``, there is also
    what goes into its activation: ``f_pre`` and so on, with biases and peepholes, before it is clipped. (A float32 gate
    of 1e-60 is zero; what goes into its activation is not.) Every other layer has its result ``y``.

    Arrays are (batch, time, units), or (time, units) where the input came without a batch; ``h`` of a layer with a
    projection has the projection's size. Steps that do not count (masked ones) are NaN in gates and cells. A gate that
    the variant of the layer has no weights for is what it stands for (1 for the forget gate of the form of 1997), and
    NaN before its activation.

    Attributes
    ----------
    name, kind : str
    parts : tuple of str
        Names of its arrays.
    options : dict
        Of the layer.
    is_from_zero : bool
        Whether its states were zero before the first step.
    has_batch : bool
        Whether its arrays have a batch axis.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        arrays: Mapping[str, np.ndarray],
        options: Mapping[str, Option],
        *,
        is_from_zero: bool = True,
        has_batch: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.options = dict(options)
        self.is_from_zero = is_from_zero
        self.has_batch = has_batch
        self._arrays = dict(arrays)

    def _with(self, arrays: Mapping[str, np.ndarray], is_from_zero: bool) -> LayerTrace:
        options = {"is_from_zero": is_from_zero, "has_batch": self.has_batch}
        return LayerTrace(self.name, self.kind, arrays, self.options, **options)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def __getattr__(self, part: str) -> np.ndarray:
        arrays = self.__dict__.get("_arrays", {})
        if part in arrays:
            return arrays[part]  # type: ignore[no-any-return]
        raise AttributeError(f"the trace of layer {self.__dict__.get('name')!r} has {_listed(arrays)}, no {part!r}")

    def __getitem__(self, part: str) -> np.ndarray:
        if part not in self._arrays:
            raise KeyError(f"the trace of layer {self.name!r} has {_listed(self._arrays)}, no {part!r}")
        return self._arrays[part]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._arrays]

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {array.shape}" for part, array in self._arrays.items())
        return f"<LayerTrace {self.name!r} ({self.kind}): {parts}>"


class Trace(Mapping[str, LayerTrace]):
    """What a model computed on the way to a prediction: layer -> `LayerTrace`, in the order of the network.

    Made by `Model.trace` and `Stream.trace`. ``trace[rows, steps]`` with slices is the same of some rows and steps.

    Attributes
    ----------
    outputs : ndarray or list of ndarray
        What `Model.predict` gives.
    state : list of tuple of ndarray, or None
        The states after the last step, if `Model.trace` was asked for them.
    """

    def __init__(
        self, layers: Mapping[str, LayerTrace], outputs: Any, state: Any = None, *, has_batch: bool = True
    ) -> None:
        self._layers = dict(layers)
        self.outputs = outputs
        self.state = state
        self._has_batch = has_batch
        self._memory: _Memory | None = None

    def __getstate__(self) -> dict[str, Any]:
        # what another trace into the same arrays would use stays here
        return self.__dict__ | {"_memory": None}

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._layers:
                raise KeyError(f"the trace has the layers {_listed(self._layers)}, no {key!r}")
            return self._layers[key]
        return self._sliced(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def _sliced(self, key: Any) -> Trace:
        keys = key if isinstance(key, tuple) else (key,)
        most = 2 if self._has_batch else 1
        if len(keys) > most or not all(isinstance(one, slice) for one in keys):
            what = "slices of rows and steps" if self._has_batch else "a slice of steps"
            raise ArgumentError(f"a trace takes the name of a layer or {what}, found {described(key)}")
        if len(keys) == most:
            lengths = {array.shape[most - 1] for one in self._layers.values() for array in one._arrays.values()}
            if len(lengths) > 1:
                raise ShapeError(
                    f"a trace whose layers have different numbers of steps ({_listed(sorted(lengths))}) takes slices "
                    "of rows alone; take those of steps from the arrays of one layer"
                )
        is_later = len(keys) == most and keys[-1].start not in (None, 0)
        layers = {
            name: one._with(
                {part: array[keys] for part, array in one._arrays.items()}, one.is_from_zero and not is_later
            )
            for name, one in self._layers.items()
        }
        outputs, rows = self.outputs, keys[:1] if self._has_batch else ()
        if rows:
            several = [None if array is None else array[rows] for array in _listed_outputs(outputs)]
            outputs = several if isinstance(outputs, list) else several[0]
        return Trace(layers, outputs, None, has_batch=self._has_batch)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays to an ``.npz`` file, or to a folder if the name has no ending; `Trace.load` reads both.

        Either appears complete or not at all. What an earlier trace left there is replaced.

        Raises
        ------
        UnsupportedError
            If `path` ends otherwise.
        ArgumentError
            If there is a folder that is no trace.
        """
        from cylstm.formats.whole_file import whole_file

        text = os.fspath(path)
        arrays = self._arrays()
        if not os.path.splitext(text)[1]:
            with FolderWriter(text) as folder:
                for name, array in arrays.items():
                    folder.reserve({name: (1, *array.shape)}, array.dtype, has_batch=False)
                    folder.write(name, array[np.newaxis], 0, None)
                folder.finish(self._head())
            return
        if not text.endswith(".npz"):
            raise UnsupportedError(
                f"Trace.save writes .npz files, and folders with a name without ending, found {text!r}"
            )
        arrays["trace"] = np.frombuffer(json.dumps(self._head()).encode(), np.uint8)
        with whole_file(text) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def _head(self) -> dict[str, Any]:
        """What the arrays of `_arrays` are."""
        layers = [[one.name, one.kind, list(one.parts), one.options, one.is_from_zero] for one in self._layers.values()]
        count = len(self.outputs) if isinstance(self.outputs, list) else None
        return {"format": _FORMAT, "layers": layers, "outputs": count, "has_batch": self._has_batch}

    def _arrays(self) -> dict[str, np.ndarray]:
        """All arrays by the names that they have in files."""
        outputs = _listed_outputs(self.outputs)
        if any(array is None for array in outputs):
            raise UnsupportedError("a trace of a step of a warm-up has no output yet, and cannot be saved")
        arrays: dict[str, np.ndarray] = {f"output{i}": array for i, array in enumerate(outputs)}
        for k, one in enumerate(self._layers.values()):
            arrays |= {f"layer{k}_{part}": array for part, array in one._arrays.items()}
        return arrays

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Trace:
        """Read what `save` or ``Model.trace(path=...)`` wrote: of a folder the arrays stay where they are, mapped.

        Raises
        ------
        FormatError
            If it is none of those.
        """
        text = os.fspath(path)
        try:
            if os.path.isdir(text):
                folder = FolderReader(text)
                return _trace_of(text, folder.head, folder.__getitem__)
            arrays = load_arrays(text, what="a trace that Trace.save wrote")
            if isinstance(arrays, np.ndarray):
                raise FormatError(f"{text}: expected a trace that Trace.save wrote, found one array")
            return _trace_of(text, json.loads(arrays.pop("trace").tobytes()), arrays.__getitem__)
        except (OSError, FormatError, MemoryError):
            raise
        except Exception as error:
            raise FormatError(f"{text}: expected a trace that Trace.save wrote ({type(error).__name__})") from error

    def to_pandas(self, layer: str, row: int = 0) -> Any:
        """One layer's parts of one row of the batch as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            A line per step; columns (part, unit).

        Raises
        ------
        UnsupportedError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UnsupportedError("Trace.to_pandas needs pandas: pip install pandas") from None
        one = self[layer]
        frames = {}
        for part, array in one._arrays.items():
            steps = array[row] if self._has_batch else array
            if steps.ndim < 2:
                steps = steps.reshape(1, -1)
            frames[part] = pandas.DataFrame(np.asarray(steps).reshape(len(steps), math.prod(steps.shape[1:])))
        found = pandas.concat(frames, axis=1, names=["part", "unit"])
        found.index.name = "step"
        return found

    def to_xarray(self, layer: str) -> Any:
        """One layer's parts as an xarray Dataset with the dimensions batch, step and unit.

        Raises
        ------
        UnsupportedError
            If xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise UnsupportedError("Trace.to_xarray needs xarray: pip install xarray") from None
        one = self[layer]
        found = {}
        for part, array in one._arrays.items():
            names = ["batch"] if self._has_batch else []
            rest = array.ndim - len(names)
            names += ["step"] if rest > 1 else []
            rest = array.ndim - len(names)
            is_projected = part == "h" and "c" in one.parts and array.shape[-1] != one.c.shape[-1]
            names += [*(f"axis{k}" for k in range(rest - 1)), "projected" if is_projected else "unit"]
            found[part] = (names, array)
        return xarray.Dataset(found, attrs={"layer": one.name, "kind": one.kind})

    def __repr__(self) -> str:
        return f"<cylstm.Trace of {_listed(self._layers)}>"

    def _repr_html_(self) -> str:
        rows = [("layer", "kind", "parts")]
        for one in self._layers.values():
            rows.append((one.name, one.kind, ", ".join(f"{part} {one._arrays[part].shape}" for part in one.parts)))
        shapes = ["none yet" if array is None else str(array.shape) for array in _listed_outputs(self.outputs)]
        return html_table("What a network computed", rows, [f"outputs: {', '.join(shapes)}"])


def _listed_outputs(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [outputs]


def _trace_of(path: str, head: Any, array: Callable[[str], np.ndarray]) -> Trace:
    """What `Trace._head` said of arrays, which are read by their names."""
    if head["format"] != _FORMAT:
        raise FormatError(f"{path}: a trace of format {head['format']!r:.20}; this version reads {_FORMAT}")
    has_batch = bool(head["has_batch"])
    layers = {}
    for k, (name, kind, parts, options, is_from_zero) in enumerate(head["layers"]):
        found = {str(part): array(f"layer{k}_{part}") for part in parts}
        layers[str(name)] = LayerTrace(
            str(name), str(kind), found, dict(options), is_from_zero=bool(is_from_zero), has_batch=has_batch
        )
    count = head["outputs"]
    outputs: Any = array("output0") if count is None else [array(f"output{i}") for i in range(int(count))]
    return Trace(layers, outputs, has_batch=has_batch)


class _Wanted:
    """A layer of which parts are traced.

    Attributes
    ----------
    layer : Layer
    index : int
        Of the layer in the model that traces.
    parts : tuple of str
        In the order of the trace.
    units : tuple of int
        The shape of a gate at a step.
    pre, gates : list of str
        The gates that it writes before and after their activations, in this order.
    cell : bool
        Whether it writes that too.
    pre_skips, gates_skips : int
        Bits of the gates that are left out.
    leaves_out : bool
        Whether it writes only some of what goes into activations, because a gate has no weights.
    """

    def __init__(self, layer: Layer, index: int, parts: Sequence[str], units: tuple[int, ...]) -> None:
        self.layer = layer
        self.index = index
        self.parts = tuple(parts)
        self.units = units
        names = LAYER_KINDS[layer.kind].gates
        self.pre = [name for name in names if name + _PRE in parts]
        # the only gate of a simple RNN is its result
        self.gates = [name for name in names if name in parts and name != "h"]
        self.cell = "c" in parts
        self.pre_skips = sum(1 << k for k, name in enumerate(names) if name not in self.pre)
        self.gates_skips = sum(1 << k for k, name in enumerate(names) if name not in self.gates)
        self.leaves_out = layer.kind == "lstm" and lstm_gates(layer.options) != "ifgo"

    @property
    def writes(self) -> bool:
        return bool(self.pre or self.gates or self.cell)

    def shapes(self, batch: int, steps: int) -> tuple[tuple[int, ...] | None, ...]:
        """Of the arrays that it writes to, None for those that are not asked for."""
        pre, gates = ((batch, steps, len(names), *self.units) for names in (self.pre, self.gates))
        return (
            pre if self.pre else None,
            gates if self.gates else None,
            (batch, steps, *self.units) if self.cell else None,
        )


#: what goes into the activations, the gates and the cell of a layer, as far as they are asked for
_Written = tuple[np.ndarray | None, ...]
#: what the engine takes of each layer that writes: its index, steps, what it writes to, and the gates left out
_Traces = list[tuple[int, int, np.ndarray | None, np.ndarray | None, np.ndarray | None, int, int]]


class _Memory:
    """The arrays that a trace lies in, to be written again.

    Attributes
    ----------
    plan : Plan
    stream : Stream or None
        Whose trace it is.
    results : list of ndarray
        As the engine gave them.
    written : list of _Written
        Of each layer of the plan that writes something.
    again : _Again or None
        How a call like the last one is made.
    """

    def __init__(self, plan: Plan, stream: Stream | None = None) -> None:
        self.plan = plan
        self.stream = stream
        self.results: list[np.ndarray] | None = None
        self.written: list[_Written] = []
        self.again: _Again | None = None

    def check_apart(self, inputs: Sequence[np.ndarray]) -> None:
        """Raise `ShapeError` if an input lies where the layers write."""
        arrays = self.arrays()
        if any(np.may_share_memory(array, one) for array in inputs for one in arrays):
            raise ShapeError("out: shares memory with an input")

    def arrays(self) -> list[np.ndarray]:
        """All that is written."""
        written = [one for written in self.written for one in written if one is not None]
        return [*(self.results or ()), *written]


class _Again(NamedTuple):
    """A call with one input of this shape, without masks, states and rows that rest, which may be made again.

    Attributes
    ----------
    maker : Model or Stream
    threads, used : int or None, int
        As given, and how many they came to.
    arrays : list of ndarray
        All that it writes to.
    """

    key: Any
    maker: Model | Stream
    shape: tuple[int, ...]
    batch: int
    time: int
    is_alone: bool
    threads: int | None
    used: int
    traces: _Traces
    arrays: list[np.ndarray]

    def is_of(self, maker: Model | Stream, x: Any, key: Any, dtype: np.dtype) -> bool:
        """Whether this array can be its input as it is."""
        if self.maker is not maker or type(x) is not np.ndarray or x.shape != self.shape or x.dtype != dtype:
            return False
        flags = x.flags
        if not flags.c_contiguous or not flags.aligned or key != self.key:
            return False
        if x.base is None:  # the arrays own their memory
            return all([x is not one for one in self.arrays])
        return not any([np.may_share_memory(x, one) for one in self.arrays])


def parts_of(layer: Layer) -> tuple[str, ...]:
    """All that a layer's trace may have."""
    kind = LAYER_KINDS[layer.kind]
    if not kind.gates:
        return ("y",) if "y" in layer.outputs else ()
    pre = tuple(gate + _PRE for gate in kind.gates)
    if kind.gates == ("h",):
        return ("h", *pre)
    return (*kind.gates, *pre, *(("c",) if kind.has_cell else ()), "h")


class Plan:
    """What is to be traced, and the model that does it: the same network with the results of layers as outputs.

    It uses the packed weights of the model where they lie; ``engine="blas"`` holds them a second time.
    """

    def __init__(self, model: Model, layers: Any, what: Any) -> None:
        graph = model.graph
        chosen = _chosen(graph, layers, what)
        results = [layer.outputs["y"] for layer, parts in chosen if {"h", "y"} & set(parts)]
        self.count = len(graph.outputs)
        self.names = [*graph.outputs, *(name for name in dict.fromkeys(results) if name not in graph.outputs)]
        #: the user's order of axes in outputs; the results of layers have the engine's, as all outputs of `packed` do
        self.layouts = {name: graph.layouts[name] for name in graph.outputs if name in graph.layouts}
        of_inputs = {name: graph.layouts[name] for name in graph.inputs if name in graph.layouts}
        computed = graph._replace(outputs=tuple(self.names), layouts=of_inputs)
        if computed.has_inert_layers:
            computed = drop_inert_layers(computed)
        self.values = computed.values
        self.packed = packed_beside(model, computed)
        indices = {layer.name: k for k, layer in enumerate(computed.layers)}
        self.wanted = [
            _Wanted(layer, indices.get(layer.name, -1), parts, _units(graph, layer)) for layer, parts in chosen
        ]
        self.writing = [one for one in self.wanted if one.writes]
        #: whether layers find out which steps do not count
        self.finds_masks = any(
            computed.values[name].kind == "mask" for layer in computed.layers for name in layer.outputs.values()
        )
        #: whether the numbers of the only input are all that a call is made of
        self.can_repeat = len(graph.inputs) == 1 and not of_inputs and not self.finds_masks
        self.can_repeat = self.can_repeat and computed.values[graph.inputs[0]].kind != "index"

    def begin(self, memory: _Memory, batch: int, length: Callable[[Axis], int], has_gaps: bool) -> _Traces:
        """What the engine takes: the arrays that recurrent layers write to, NaN where they may leave some out.

        Parameters
        ----------
        length
            The steps of an axis in the call.
        has_gaps : bool
            Whether nothing is written for some steps or rows.

        Raises
        ------
        ShapeError
            If there are arrays already, of other shapes.
        """
        traces: _Traces = []
        is_new, has_gaps = not memory.written, has_gaps or self.finds_masks
        for k, one in enumerate(self.writing):
            value = self.values[one.layer.outputs["y"]]
            steps = int(value.shape[0] or 0) if value.axis is None else length(value.axis)
            shapes = one.shapes(batch, steps)
            if is_new:
                leaves_out = (has_gaps or one.leaves_out, has_gaps, has_gaps)
                memory.written.append(tuple(map(self._new, shapes, leaves_out)))
            arrays = memory.written[k]
            for shape, array in zip(shapes, arrays):
                if array is not None and array.shape != shape:
                    raise ShapeError(
                        f"out: layer {one.layer.name!r} has (batch, steps) {shape[:2] if shape else ()}, and the "
                        f"trace is one of {array.shape[:2]}"
                    )
            if steps:
                pre, gates, cell = arrays
                traces.append((one.index, steps, pre, gates, cell, one.pre_skips, one.gates_skips))
        if not is_new and has_gaps:
            for arrays in memory.written:
                for array in arrays:
                    if array is not None:
                        array.fill(np.nan)
        return traces

    def _new(self, shape: tuple[int, ...] | None, is_filled: bool) -> np.ndarray | None:
        if shape is None:
            return None
        array = new_array(shape, self.packed.dtype)
        if is_filled:
            array.fill(np.nan)
        return array

    def trace(
        self,
        memory: _Memory,
        results: Sequence[np.ndarray | None],
        outputs: Any,
        state: Any,
        batch: int,
        is_alone: bool,
        is_from_zero: bool,
    ) -> Trace:
        """The arrays of a call by layer and part; a result is None where none came."""
        by_name, rows = dict(zip(self.names, results)), () if is_alone else (batch,)
        written = iter(memory.written)
        layers = {}
        for one in self.wanted:
            pre, gates, cell = next(written) if one.writes else (None, None, None)
            arrays: dict[str, np.ndarray] = {}
            for part in one.parts:
                name = part.removesuffix(_PRE)
                if part in ("h", "y"):
                    value = one.layer.outputs["y"]
                    arrays[part] = _with_time(by_name[value], self.values[value], rows, self.packed.dtype)
                    continue
                whole, names = (cell, None) if part == "c" else (gates, one.gates) if part == name else (pre, one.pre)
                assert whole is not None
                found = whole if names is None else whole[:, :, names.index(name)]
                arrays[part] = found[0] if is_alone else found
            starts = is_from_zero and not {"h0", "c0"} & set(one.layer.inputs)
            layers[one.layer.name] = LayerTrace(
                one.layer.name, one.layer.kind, arrays, one.layer.options, is_from_zero=starts, has_batch=not is_alone
            )
        trace = Trace(layers, outputs, state, has_batch=not is_alone)
        memory.results = None if any(array is None for array in results) else list(results)  # type: ignore[arg-type]
        trace._memory = memory
        return trace

    def outputs(self, results: Sequence[np.ndarray | None], layouts: Mapping[str, str]) -> Any:
        """Those of the network, with their axes as they lie for the user."""
        found = []
        for name, array in zip(self.names[: self.count], results):
            if name in layouts and array is not None:
                array = to_layout(array, layouts[name], len(self.values[name].shape))
            found.append(array)
        return found if len(found) > 1 else found[0]


class StreamTracer:
    """Runs a stream on the outputs of a plan, and lets layers write what they compute.

    Attributes
    ----------
    packed : PackedModel
        Whose outputs the results of `run` are.
    is_alone : bool
        Whether the inputs came without a batch axis: what reads them says it.
    traces : list
        What layers wrote to in the last run.
    """

    def __init__(self, plan: Plan, memory: _Memory, stream: Stream) -> None:
        self.packed = plan.packed
        self.is_alone = False
        self.traces: _Traces = []
        self._plan = plan
        self._memory = memory
        self._stream = stream
        #: of runs of rows that have taken equally many steps
        self._pieces: list[tuple[np.ndarray | None, list[_Written]]] = []

    def run(self, inputs: list[np.ndarray], results: list[np.ndarray], time: int, active: np.ndarray | None) -> None:
        """As `Stream._run_arrays`."""
        stream = self._stream
        taken, more = 0, time if stream.window is None else stream.window
        if stream.window is None and self.packed.warms_up:
            steps = np.empty(stream.batch, np.int64)
            stream._count_taken(steps)
            rows = steps if active is None else steps[active]
            taken = int(rows[0]) if len(rows) else self.packed.settles

        def length(axis: Axis) -> int:
            return axis.length(taken + more) - (axis.length(taken) if taken else 0)

        memory = self._memory if not self._pieces else _Memory(self._plan)
        self.traces = self._plan.begin(memory, stream.batch, length, active is not None)
        memory.check_apart(inputs)
        stream._run_arrays(inputs, results, time, active, stream._other_of(self.packed), self.traces)
        self._pieces.append((active, memory.written))

    def finish(self) -> None:
        """Put what was written for rows that had taken different numbers of steps into arrays of the most steps, at
        their ends."""
        if len(self._pieces) < 2:
            return
        joined: list[_Written] = []
        for of_layer in zip(*(written for _, written in self._pieces)):
            arrays: list[np.ndarray | None] = []
            for parts in zip(*of_layer):
                if parts[0] is None:
                    arrays.append(None)
                    continue
                most = max(part.shape[1] for part in parts)
                whole = np.full((len(parts[0]), most, *parts[0].shape[2:]), np.nan, parts[0].dtype)
                for (rows, _), part in zip(self._pieces, parts):
                    whole[rows, most - part.shape[1] :] = part[rows]
                arrays.append(whole)
            joined.append(tuple(arrays))
        self._memory.written = joined


def packed_beside(model: Model, graph: Graph, *, shares_weights: bool = True) -> PackedModel:
    """A model of the same layers on the same weights, or of layers some of which have others."""
    isa = chosen_isa()
    if model.engine == "packed":
        arrays = model._packed.arrays() if shares_weights else None
        return PackedModel(graph, "packed", isa, None, model.dtype, arrays)
    from cylstm.engine.blas import find_blas

    return PackedModel(graph, "blas", isa, find_blas(), model.dtype)


def _units(graph: Graph, layer: Layer) -> tuple[int, ...]:
    """The shape of a gate at a step: that of the state of the cell."""
    kind = LAYER_KINDS[layer.kind]
    return kind.state(graph.stored_tensors(layer), layer.options)[-1][1] if kind.gates else ()


def _with_time(array: np.ndarray | None, value: Value, rows: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A result (*rows, time, ...) also of a single step, and of none; (*rows, ...) of one without time."""
    if array is None:
        # nothing came: no step, or what is known after the last one only is not known yet
        shape = value.shape if value.axis is None else (0, *value.step_shape)
        array = np.full((*rows, *shape), np.nan, dtype)  # type: ignore[arg-type]
    if value.axis is None:
        return array
    return array.reshape(*rows, array.size // (value.size * math.prod(rows)), *value.step_shape)


def _chosen(graph: Graph, layers: Any, what: Any) -> list[tuple[Layer, tuple[str, ...]]]:
    """The layers to trace and the parts of each. Raises `ArgumentError`."""
    known = {layer.name: layer for layer in graph.layers if parts_of(layer)}
    names = _texts("layers", layers)
    if names is not None:
        for name in names:
            if name not in known:
                raise ArgumentError(f"layers: there is no layer {name!r}; the network has {_listed(known)}")
    picked = list(known.values()) if names is None else [known[name] for name in dict.fromkeys(names)]
    parts = _texts("what", what)
    if parts is None:
        return [(layer, parts_of(layer)) for layer in picked]
    found = []
    for layer in picked:
        having = tuple(part for part in parts_of(layer) if part in parts)
        missing = [part for part in parts if part not in parts_of(layer)]
        if names is not None and missing:
            raise ArgumentError(
                f"what: layer {layer.name!r} ({layer.kind}) has {_listed(parts_of(layer))}, no {missing[0]!r}"
            )
        if having:
            found.append((layer, having))
    nowhere = set(parts) - {part for _, having in found for part in having}
    if nowhere:
        raise ArgumentError(f"what: no layer of the network has {_listed(sorted(nowhere))}")
    return found


def _texts(name: str, given: Any) -> list[str] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return [given]
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(one, str) for one in given):
        raise ArgumentError(f"{name}: expected a text or a list of texts, found {described(given)}")
    return list(given)


def _listed(names: Any) -> str:
    names = [shown_name(str(name)) for name in names]
    if len(names) > 24:
        names[16:-4] = [f"{len(names) - 20} more"]
    return ", ".join(names) or "nothing"


def trace_model(
    model: Model,
    x: Any,
    layers: Any,
    what: Any,
    out: Any,
    initial_state: Any,
    return_state: bool,
    lengths: Any,
    mask: Any,
    threads: int | None,
) -> Trace:
    """As `Model.trace`."""
    is_plain = initial_state is None and not return_state and lengths is None and mask is None
    if is_plain and type(out) is Trace and _is_traced_again(model, x, layers, what, out, threads):
        return out
    plan = plan_of(model, layers, what)
    memory = _memory_of(plan, out, None)
    memory.again = None
    batch, time, is_alone, traces = 1, 1, False, []

    def begin(inputs: list[np.ndarray], times: dict[str, int], is_masked: bool, alone: bool) -> _Traces:
        nonlocal batch, time, is_alone, traces
        batch, time, is_alone = len(inputs[0]), max(times.values()), alone
        traces = plan.begin(memory, batch, lambda axis: axis.length(times[axis.source]), is_masked)
        memory.check_apart(inputs)
        return traces

    found = predict_any(
        plan.packed, x, initial_state, return_state, lengths, mask, threads, memory.results, begin
    )  # fmt: skip
    results, state = found if return_state else (found, None)
    results = results if isinstance(results, list) else [results]
    outputs = plan.outputs(results, plan.layouts)
    trace = plan.trace(memory, results, outputs, state, batch, is_alone, initial_state is None)
    if is_plain and plan.can_repeat and isinstance(x, np.ndarray):
        used = threads_of_call(plan.packed, batch, time, threads)
        memory.again = _Again(
            _key(layers, what), model, x.shape, batch, time, is_alone, threads, used, traces, memory.arrays()
        )  # fmt: skip
    return trace


def _is_traced_again(model: Model, x: Any, layers: Any, what: Any, out: Trace, threads: Any) -> bool:
    """Whether it was the same call with other numbers, which is made without looking at anything twice."""
    memory = out._memory
    again = None if memory is None else memory.again
    if memory is None or memory.results is None or again is None:
        return False
    if not again.is_of(model, x, _key(layers, what), model.dtype):
        return False
    packed, used = memory.plan.packed, again.used
    if threads is None or threads is not again.threads:
        used = threads_of_call(packed, again.batch, again.time, threads)
    rows = x[np.newaxis] if again.is_alone else x
    packed.predict([rows], [None], memory.results, None, None, used, again.traces)
    return True


def trace_stream(stream: Stream, x: Any, layers: Any, what: Any, out: Any, active: Any, *, is_step: bool) -> Trace:
    """As `Stream.trace` and `Stream.trace_run`."""
    if is_step and active is None and type(out) is Trace and _is_stepped_again(stream, x, layers, what, out):
        return out
    plan = plan_of(stream.model, layers, what)
    memory = _memory_of(plan, out, stream)
    memory.again = None
    tracer = StreamTracer(plan, memory, stream)
    results = stream._run_any(x, active, memory.results, is_step, tracer)
    results = results if isinstance(results, list) else [results]
    tracer.finish()
    # a step of a running state has one order of axes only
    outputs = plan.outputs(results, {} if is_step and stream.window is None else plan.layouts)
    trace = plan.trace(memory, results, outputs, None, stream.batch, tracer.is_alone, stream.window is not None)
    if is_step and active is None and plan.can_repeat and not plan.packed.warms_up and isinstance(x, np.ndarray):
        memory.again = _Again(
            _key(layers, what), stream, x.shape, stream.batch, 1, tracer.is_alone, None, 1, tracer.traces,
            memory.arrays(),
        )  # fmt: skip
    return trace


def _is_stepped_again(stream: Stream, x: Any, layers: Any, what: Any, out: Trace) -> bool:
    """As `_is_traced_again`, of a step of a stream."""
    memory = out._memory
    again = None if memory is None else memory.again
    if memory is None or memory.results is None or again is None:
        return False
    packed = memory.plan.packed
    if not again.is_of(stream, x, _key(layers, what), packed.dtype):
        return False
    stream._run_arrays([x], memory.results, 1, None, stream._other_of(packed), again.traces)
    return True


def _memory_of(plan: Plan, out: Any, stream: Stream | None) -> _Memory:
    """Where a trace is to lie: where the trace `out` lies, or in new arrays. Raises `ArgumentError`."""
    if out is None:
        return _Memory(plan, stream)
    where = "Model.trace" if stream is None else "the same method of this stream"
    if not isinstance(out, Trace) or out._memory is None:
        raise ArgumentError(f"out: expected a trace that {where} gave, found {described(out)}")
    memory = out._memory
    if memory.plan is not plan:
        raise ArgumentError("out: a trace of another model, or of other layers and parts, cannot be written again")
    if memory.stream is not stream:
        raise ArgumentError(f"out: expected a trace that {where} gave, found one of something else")
    return memory


def _key(layers: Any, what: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """What a choice of layers and parts is known by. Raises `ArgumentError`."""
    names, parts = _texts("layers", layers), _texts("what", what)
    return None if names is None else tuple(names), None if parts is None else tuple(parts)


def plan_of(model: Model, layers: Any, what: Any) -> Plan:
    """The plan of these layers and parts, kept with the model."""
    key, plans = _key(layers, what), model._plans
    found: Plan | None = plans.get(key)  # another thread may clear them
    if found is None:
        if len(plans) >= 16:
            plans.clear()
        found = plans[key] = Plan(model, layers, what)
    return found
