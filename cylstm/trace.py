"""What a model computes on the way: gates, cells and the results of all layers, beside the prediction itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.choose import chosen_isa
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError, described
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.passes import drop_inert_layers
from cylstm.packing import PackedModel
from cylstm.prediction import predict_any

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph, Layer
    from cylstm.graph.values import Option
    from cylstm.model import Model

#: of the name of a gate before its activation
_PRE = "_pre"
#: of files of traces
_FORMAT = 1
#: the engine's outputs
_MOST_RESULTS = 64


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
            outputs = [array[rows] for array in outputs] if isinstance(outputs, list) else outputs[rows]
        return Trace(layers, outputs, None, has_batch=self._has_batch)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays to an ``.npz`` file, which `Trace.load` reads back. An existing file is replaced.

        Raises
        ------
        UnsupportedError
            If `path` ends otherwise.
        """
        text = os.fspath(path)
        if not text.endswith(".npz"):
            raise UnsupportedError(f"Trace.save writes .npz files, found {text!r}")
        outputs = self.outputs if isinstance(self.outputs, list) else [self.outputs]
        arrays: dict[str, np.ndarray] = {f"output{i}": array for i, array in enumerate(outputs)}
        named = []
        for k, one in enumerate(self._layers.values()):
            named.append([one.name, one.kind, list(one.parts), one.options, one.is_from_zero])
            arrays |= {f"layer{k}_{part}": array for part, array in one._arrays.items()}
        head = {
            "format": _FORMAT,
            "layers": named,
            "outputs": len(outputs) if isinstance(self.outputs, list) else None,
            "has_batch": self._has_batch,
        }
        arrays["trace"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
        partial = f"{text}.{os.getpid()}.part"
        try:
            with open(partial, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(partial, text)
        finally:
            if os.path.exists(partial):
                os.remove(partial)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Trace:
        """Read what `save` wrote.

        Raises
        ------
        FormatError
            If the file is none of those.
        """
        text = os.fspath(path)
        try:
            with open(text, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(arrays.pop("trace").tobytes())
            if head["format"] != _FORMAT:
                raise FormatError(f"{text}: a trace of format {head['format']!r:.20}; this version reads {_FORMAT}")
            has_batch = bool(head["has_batch"])
            layers = {}
            for k, (name, kind, parts, options, is_from_zero) in enumerate(head["layers"]):
                found = {str(part): arrays[f"layer{k}_{part}"] for part in parts}
                layers[str(name)] = LayerTrace(
                    str(name), str(kind), found, dict(options), is_from_zero=bool(is_from_zero), has_batch=has_batch
                )
            count = head["outputs"]
            outputs: Any = arrays["output0"] if count is None else [arrays[f"output{i}"] for i in range(count)]
            return Trace(layers, outputs, has_batch=has_batch)
        except (OSError, FormatError):
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
            frames[part] = pandas.DataFrame(np.asarray(steps).reshape(len(steps), -1))
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
    pre, gates, cell : bool
        What it writes beside its result.
    """

    def __init__(self, layer: Layer, index: int, parts: Sequence[str], units: tuple[int, ...]) -> None:
        self.layer = layer
        self.index = index
        self.parts = tuple(parts)
        self.units = units
        self.names = LAYER_KINDS[layer.kind].gates
        self.pre = any(part.endswith(_PRE) for part in parts)
        self.gates = any(part in self.names and part != "h" for part in parts)
        self.cell = "c" in parts


#: what goes into the activations, the gates and the cell of a layer, as far as they are asked for
_Written = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]


class _Memory:
    """The arrays that a trace lies in, to be written again.

    Attributes
    ----------
    plan : Plan
    results : list of ndarray
        As `Model.predict` takes them as `out`.
    written : list of _Written
        Of each layer of the plan that writes something.
    batch : int
    is_masked : bool
        Some of what is there was not written.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results: list[np.ndarray] | None = None
        self.written: list[_Written] = []
        self.batch = 0
        self.is_masked = False


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
        if len(self.names) > _MOST_RESULTS:
            raise UnsupportedError(
                f"trace: the results of {len(self.names)} layers are asked for, of at most {_MOST_RESULTS} at once; "
                "choose some with layers=[...], or parts that are no results with what=[...]"
            )
        computed = graph._replace(outputs=tuple(self.names))
        if computed.has_inert_layers:
            computed = drop_inert_layers(computed)
        self.values = computed.values
        self.packed = packed_beside(model, computed)
        indices = {layer.name: k for k, layer in enumerate(computed.layers)}
        self.wanted = [
            _Wanted(layer, indices.get(layer.name, -1), parts, _units(graph, layer)) for layer, parts in chosen
        ]

    def begin(
        self, memory: _Memory, batch: int, times: Mapping[str, int], is_masked: bool
    ) -> list[tuple[int, int, np.ndarray | None, np.ndarray | None, np.ndarray | None]]:
        """What the engine takes: the arrays that recurrent layers write to, NaN where they may leave some out."""
        writing = [one for one in self.wanted if one.pre or one.gates or one.cell]
        steps = []
        for one in writing:
            axis, shape = self.values[one.layer.outputs["y"]].axis, self.values[one.layer.outputs["y"]].shape
            steps.append(int(shape[0] or 0) if axis is None else axis.length(times[axis.source]))
        if not memory.written:
            for one, count in zip(writing, steps):
                gates = (batch, count, len(one.names), *one.units)
                memory.written.append(
                    (
                        np.full(gates, np.nan, self.packed.dtype) if one.pre else None,
                        np.full(gates, np.nan, self.packed.dtype) if one.gates else None,
                        np.full((batch, count, *one.units), np.nan, self.packed.dtype) if one.cell else None,
                    )
                )
        elif is_masked or memory.is_masked:
            for arrays in memory.written:
                for array in arrays:
                    if array is not None:
                        array.fill(np.nan)
        memory.batch, memory.is_masked = batch, is_masked
        return [(one.index, count, *arrays) for one, count, arrays in zip(writing, steps, memory.written)]

    def trace(
        self, memory: _Memory, results: Sequence[np.ndarray], state: Any, is_alone: bool, is_from_zero: bool
    ) -> Trace:
        """The arrays of a call by layer and part."""
        by_name = dict(zip(self.names, results))
        written = iter(memory.written)
        layers = {}
        for one in self.wanted:
            pre, gates, cell = next(written) if one.pre or one.gates or one.cell else (None, None, None)
            arrays: dict[str, np.ndarray] = {}
            for part in one.parts:
                name = part.removesuffix(_PRE)
                if part in ("h", "y"):
                    value = one.layer.outputs["y"]
                    layout = self.packed.layouts.get(value)
                    arrays[part] = _in_order(by_name[value], layout, len(self.values[value].shape), is_alone)
                    continue
                whole = cell if part == "c" else pre if part != name else gates
                assert whole is not None
                found = whole if part == "c" else whole[:, :, one.names.index(name)]
                arrays[part] = found[0] if is_alone else found
            starts = is_from_zero and not {"h0", "c0"} & set(one.layer.inputs)
            layers[one.layer.name] = LayerTrace(
                one.layer.name, one.layer.kind, arrays, one.layer.options, is_from_zero=starts, has_batch=not is_alone
            )
        outputs = list(results[: self.count])
        return Trace(layers, outputs if len(outputs) > 1 else outputs[0], state, has_batch=not is_alone)


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


def _in_order(array: np.ndarray, layout: str | None, rank: int, is_alone: bool) -> np.ndarray:
    """A result whose axes lie as the user has them, with time first and the features last."""
    if layout is None:
        return array
    first = 0 if is_alone else 1
    order = [int(axis) for axis in layout]
    kept = sorted(order)
    array = array.transpose([*range(first), *(first + order.index(axis) for axis in kept)])
    return np.expand_dims(array, tuple(first + axis for axis in range(rank) if axis not in kept))


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
    names = [str(name) for name in names]
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
    plan = plan_of(model, layers, what)
    memory = _Memory(plan)
    if out is not None:
        if not isinstance(out, Trace) or out._memory is None:
            raise ArgumentError(f"out: expected a trace that Model.trace gave, found {described(out)}")
        memory = out._memory
        if memory.plan is not plan:
            raise ArgumentError("out: a trace of another model, or of other layers and parts, cannot be written again")
    is_alone = False

    def begin(batch: int, times: dict[str, int], is_masked: bool, alone: bool) -> list[Any]:
        nonlocal is_alone
        is_alone = alone
        return plan.begin(memory, batch, times, is_masked)

    found = predict_any(
        plan.packed, x, initial_state, return_state, lengths, mask, threads, memory.results, begin
    )  # fmt: skip
    results, state = found if return_state else (found, None)
    memory.results = results if isinstance(results, list) else [results]
    trace = plan.trace(memory, memory.results, state, is_alone, initial_state is None)
    trace._memory = memory
    return trace


def plan_of(model: Model, layers: Any, what: Any) -> Plan:
    """The plan of these layers and parts, kept with the model."""
    names, parts = _texts("layers", layers), _texts("what", what)
    key = (None if names is None else tuple(names), None if parts is None else tuple(parts))
    plans = model._plans
    if key not in plans:
        if len(plans) >= 16:
            plans.clear()
        plans[key] = Plan(model, layers, what)
    found: Plan = plans[key]
    return found
