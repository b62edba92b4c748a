"""From a graph to the model of C, whose weights are packed for this CPU, and back to the graph's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cylstm.engine._engine import EngineModel
from cylstm.engine.choose import backend_of
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.weights import PACKED_DTYPES, StoredTensor, StoredTensors, as_stored, is_int8

if TYPE_CHECKING:
    from cylstm.engine.blas import Blas
    from cylstm.graph.graph import Graph
    from cylstm.graph.values import Axis


def _is_order(layout: object, rank: int) -> bool:
    """Whether a layout has each axis of a row once, or is None."""
    return layout is None or (isinstance(layout, str) and "".join(sorted(layout)) == "0123456789"[:rank])


class PackedModel(EngineModel):
    """A graph in C: immutable, shared by any number of threads and streams.

    Parameters
    ----------
    graph : Graph
        Without dropout layers.
    engine : {"packed", "blas"}
    isa : str
        Of everything in float32 but the products of the BLAS.
    blas : Blas or None
        For the BLAS engine.
    dtype : numpy.dtype
        float32, or float64 with the BLAS engine.
    arrays : dict of str to list of ndarray, optional
        The packed weights of every layer that has any, by its name, as `arrays` gives them; the packed engine only.
        The graph's tensors are not read then; the arrays are kept, are aligned to 64 bytes and must never change.

    Attributes
    ----------
    inputs, outputs : tuple of Value
        What calls are checked against, as all below; whatever becomes of the graph.
    layouts : dict of str to str
        As `Graph.layouts`.
    limits : dict of str to int
        What all indices of an input must be below.
    state_groups : tuple of (layer name, shapes without batch)
    stream_groups : tuple of (layer name, shapes without batch)
        The same of a stream, which beside the states keeps the last steps that windows over time reach over, and, if
        it warms up, how many steps have come.
    axes : tuple of Axis
        Those whose time follows from an input's by rules.
    warms_up : bool
        Whether fewer steps come out of a stream at first than later on.
    carried : bytes or None
        Of each layer, whether its state goes on from call to call; None where all do.
    shared : set of str
        Layers that use the packed weights of an earlier layer: the same call of the same tensors, as of a loop that was
        written out.

    Raises
    ------
    FormatError
        If `arrays` are of another type, order or number than the engine's own; names the layer.
    """

    __slots__ = (
        "_kept",
        "_layers",
        "_limited",
        "axes",
        "carried",
        "inputs",
        "layouts",
        "limits",
        "outputs",
        "shared",
        "state_groups",
        "stream_groups",
        "warms_up",
    )  # fmt: skip

    @in_standard_mode
    def __init__(
        self,
        graph: Graph,
        engine: str,
        isa: str,
        blas: Blas | None,
        dtype: np.dtype | str,
        arrays: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        load_openmp = None
        if backend_of(engine) == "openmp":
            # here, since an import at a call could fall into a fork, and its lock stay taken in the child
            from cylstm.engine import openmp

            load_openmp = openmp.load
        if arrays is not None:
            _check_packed(graph, arrays, engine == "packed")
        self._kept = None if arrays is None else [list(packed) for packed in arrays.values()]
        self._create(engine, isa, blas, np.dtype(dtype), load_openmp)
        self.inputs = tuple([graph.values[name] for name in graph.inputs])
        self.outputs = tuple([graph.values[name] for name in graph.outputs])
        self.layouts = dict(graph.layouts)
        self._layers = {layer.name: index for index, layer in enumerate(graph.layers)}
        self.carried = bytes([layer.name in graph.stateful for layer in graph.layers]) if graph.stateful else None
        self.state_groups = tuple(
            [(name, tuple([state_shape for _, state_shape in parts])) for name, parts in graph.states()]
        )
        self._limited: list[tuple[str, str, Axis, int | None]] = []
        self.limits: dict[str, int] = {}
        special = [
            value
            for value in graph.values.values()
            if value.kind == "index" or (value.axis is not None and value.axis.rules)
        ]
        if special or "step_table" in [layer.kind for layer in graph.layers]:
            from cylstm.graph.streaming import index_limits, limited_axes

            self._limited, self.limits = limited_axes(graph), index_limits(graph)
        self.shared: set[str] = set()
        self._build(graph, arrays, engine == "packed")
        self.stream_groups = self.state_groups
        self.warms_up = self.settles > 0 and self.carried is None
        kept = self.kept_sizes() if self.carried is None else []
        if kept or self.warms_up:
            from cylstm.graph.streaming import kept_groups

            self.stream_groups += kept_groups(graph, kept, self.warms_up)
        self.axes = tuple({value.axis for value in special if value.axis is not None})

    def _plain_shapes(
        self,
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None] | None:
        """What `_finish` takes as `plain`."""
        x, y = self.inputs[0], self.outputs[0]
        is_plain = len(self.inputs) == len(self.outputs) == 1 and x.kind in ("sequence", "vector")
        if not is_plain or not x.shape or any([most for *_, most in self._limited]):
            return None
        x_layout, y_layout = self.layouts.get(x.name), self.layouts.get(y.name)
        if not _is_order(x_layout, len(x.shape)) or not _is_order(y_layout, len(y.shape)):
            return None  # an axis that the user has not
        time = -1 if y.axis is not None and y.axis.rules else 0
        shapes = tuple([size or 0 for size in x.shape]), tuple([size or time for size in y.shape])
        x_order = tuple([x_layout.index(str(axis)) for axis in range(len(x_layout))]) if x_layout else None
        return *shapes, x_order, tuple([int(axis) for axis in y_layout]) if y_layout else None

    def stream_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...], int] | None:
        """What `EngineStream._create` takes as `plain` of a stream without window."""
        x, y = self.inputs[0], self.outputs[0]
        is_plain = len(self.inputs) == len(self.outputs) == 1 and x.kind in ("sequence", "vector") and not self.layouts
        if not is_plain or any([most for *_, most in self._limited]) or (self._limited and self.carried is not None):
            return None
        if y.axis is None:
            return x.step_shape, (batch, *y.shape), 0 if x.has_time else -1  # type: ignore[arg-type]  # every size is known
        gain = y.axis.length(self.settles + self.step_multiple) - y.axis.length(self.settles)
        return x.step_shape, (batch, *((gain,) if gain > 1 else ()), *y.step_shape), gain

    def _build(self, graph: Graph, arrays: Mapping[str, Sequence[np.ndarray]] | None, is_packed: bool) -> None:
        """Declare values and layers to C and pack the weights."""
        indices = {
            value.name: self._add_value(value.name, value.kind, tuple([size or 0 for size in value.shape]))
            for value in graph.values.values()
        }
        for name, other in graph.inputs_of_one_time():
            self._share_time(indices[name], indices[other], f"input {name!r}")
        owners: dict[object, str] = {}
        for layer in graph.layers:
            tensors = graph.stored_tensors(layer)
            types = graph.types_of(layer.name)
            packed = None if arrays is None else arrays.get(layer.name, [])
            if layer.weights and is_packed:
                packing = (layer.kind, *map(frozenset, (layer.weights.items(), layer.options.items(), types.items())))
                owner = owners.setdefault(packing, layer.name)
                if owner != layer.name and not packed:
                    packed = self._packed_arrays(self._layers[owner])
                    self.shared.add(layer.name)
            self._add_layer(layer, indices, tensors, types, packed)
            if packed is None:
                for role, tensor in tensors.items():
                    self._pack_tensor(layer.name, role, tensor, types.get(role))
        is_finished = self._finish(
            [indices[value.name] for value in self.inputs],
            [-1 if value.mask is None else indices[value.mask] for value in self.inputs],
            [indices[value.name] for value in self.outputs],
            [value.has_time for value in self.inputs],
            self._plain_shapes(),
        )
        if not is_finished:
            self._refuse_numbers(graph)

    def _pack_tensor(self, layer: str, role: str, tensor: StoredTensor | np.ndarray, weights: str | None) -> None:
        """Pack one tensor; a stored one is read piece by piece, so that no copy of it is ever whole in memory."""
        for first, piece in tensor.pieces() if isinstance(tensor, StoredTensor) else ((0, tensor),):
            rows = np.ascontiguousarray(piece, dtype=self.dtype)
            what = f"layer {layer!r}, tensor {role!r}"
            if not self._write_tensor(self._layers[layer], role, first, rows, what):
                raise UnsupportedError(f'{what}: {_beyond(rows, weights)} {weights} can hold; weights="float32" can')

    def read_tensor(self, layer: str, role: str, shape: tuple[int, ...], first: int, count: int) -> np.ndarray:
        """Rows of a tensor as it was packed: of the model's dtype, in the packed engine after the subnormal rule."""
        rows = np.empty((count, *shape[1:]), self.dtype)
        self._read_tensor(self._layers[layer], role, first, rows, f"layer {layer!r}, tensor {role!r}")
        return rows

    def tensors(self, graph: Graph) -> StoredTensors:
        """The tensors of the graph that this was made from, unpacked when asked for: its weights are held once."""
        stored = dict(as_stored(graph.tensors))
        # what a layer uses in float32 too is its, since it is not rounded there
        places = [(layer.name, role, name) for layer in graph.layers for role, name in layer.weights.items()]
        for layer_name, role, name in sorted(places, key=lambda place: place[:2] not in graph.weight_types):
            shape = tuple(stored[name].shape)
            stored[name] = StoredTensor(shape, self.dtype, partial(self.read_tensor, layer_name, role, shape))
        return StoredTensors(stored)

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """Layer name -> its packed weights, read-only arrays of one axis that lie in this model."""
        found = {name: self._packed_arrays(index) for name, index in self._layers.items()}
        return {name: arrays for name, arrays in found.items() if arrays}

    def arrays_of_files(self) -> dict[str, list[np.ndarray]]:
        """`arrays` without those of `shared` layers, whose weights are another's."""
        return {name: arrays for name, arrays in self.arrays().items() if name not in self.shared}

    def result_shapes(self, batch: int, times: Sequence[int], is_step: bool = False) -> list[tuple[int, ...]]:
        """Shapes of the outputs for inputs of these numbers of steps.

        With `is_step`, for a stream's single step, those without the time axis that are of one step each.

        Raises
        ------
        ShapeError
            If there are too few steps for a layer.
        """
        by_name = {value.name: time for value, time in zip(self.inputs, times)}
        if self._limited:
            from cylstm.graph.streaming import check_lengths

            check_lengths(self._limited, by_name)
        shapes: list[tuple[int, ...]] = []
        for value in self.outputs:
            shape = value.shape
            if value.axis is not None:
                time = () if is_step and not value.axis.rules else (value.axis.length(by_name[value.axis.source]),)
                shape = (*time, *value.step_shape)
            shapes.append((batch, *shape))  # type: ignore[arg-type]  # without an axis every size is known
        return shapes

    def check_indices(self, inputs: Sequence[np.ndarray], active: np.ndarray | None = None) -> None:
        """Raise `RowError` about the indices out of range of an input, in the active rows; None: all."""
        from cylstm.inputs import check_index

        for value, array in zip(self.inputs, inputs):
            if value.name in self.limits:
                check_index(value.name, array, self.limits[value.name], active)

    def _refuse_numbers(self, graph: Graph) -> None:
        """Raise `FormatError` about the first layer whose kind finds numbers among its weights that make no sense."""
        from cylstm.graph.layers import LAYER_KINDS

        for layer in graph.layers:
            tensors = graph.stored_tensors(layer)

            def read(role: str) -> np.ndarray:
                shape = tuple(tensors[role].shape)  # noqa: B023  (called at once)
                return self.read_tensor(layer.name, role, shape, 0, shape[0])  # noqa: B023

            LAYER_KINDS[layer.kind].check_numbers(layer.name, read, layer.options, FormatError)


def _beyond(rows: np.ndarray, weights: str | None) -> str:
    """What of some rows a type cannot hold, in words that `weights` follows."""
    if is_int8(weights) and not np.isfinite(rows).all():
        return "NaN or infinity is nothing that"
    return f"{np.abs(rows[np.isfinite(rows)]).max():,} is beyond what"


def _check_packed(graph: Graph, arrays: Mapping[str, Sequence[object]], is_packed: bool) -> None:
    """Raise `FormatError` unless C can read these packed arrays as they lie; how many and how large is C's to see."""
    if not is_packed:
        raise FormatError('packed arrays are for engine="packed" in float32')
    unknown = set(arrays) - {layer.name for layer in graph.layers}
    if unknown:
        raise FormatError(f"packed arrays of no layer: {', '.join(sorted(map(str, unknown)))}")
    for name, packed in arrays.items():
        for i, array in enumerate(packed):
            what = f"layer {name!r}, packed array {i}: expected native floats of one axis, contiguous, aligned"
            what += " to 64 bytes"
            if type(array) is not np.ndarray:
                raise FormatError(f"{what}, found {type(array).__name__}")
            place = array.__array_interface__["data"][0] % 64
            if (
                array.dtype not in [np.dtype(kind) for kind in PACKED_DTYPES.values()]
                or array.ndim != 1
                or not array.flags.c_contiguous
                or place
            ):
                raise FormatError(
                    f"{what}, found {array.dtype} {array.shape}, strides {array.strides}, at {place} of 64"
                )
