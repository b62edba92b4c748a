"""Traces larger than memory: computed in chunks of rows or of steps, and written to a folder as they come."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag
from cylstm.array_like import to_array
from cylstm.engine.threads import available_threads
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.inputs import as_masks, as_state, input_list, read_inputs, to_layout
from cylstm.trace import Plan, Trace, plan_of, trace_model
from cylstm.trace_folder import FolderWriter

if TYPE_CHECKING:
    from cylstm.graph.values import Axis, Value
    from cylstm.model import Model

#: of the arrays of one chunk, about
CHUNK_BYTES = 1 << 25
#: steps that a chunk has at least, before more rows are run at once
_LEAST_STEPS = 64


def trace_to_folder(
    model: Model,
    x: Any,
    layers: Any,
    what: Any,
    path: Any,
    initial_state: Any,
    return_state: bool,
    lengths: Any,
    mask: Any,
    threads: int | None,
    progress: bool,
) -> Trace:
    """As `Model.trace` with ``path=``."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ArgumentError(f"path: expected the name of a folder, found {described(path)}")
    text = os.fspath(path)
    if text.endswith(".npz"):
        raise UnsupportedError(
            f"path: {text!r} would be one file, and a trace that is written as it grows is a folder of .npy files: "
            'give a name without an ending; Trace.load(path).save("trace.npz") makes one file of what fits in memory'
        )
    check_flag("return_state", return_state)
    check_flag("progress", progress)
    chunks = _Chunks(model, plan_of(model, layers, what), x, lengths, mask, initial_state)
    is_from_zero = initial_state is None
    head: dict[str, Any] = {}
    states: list[list[tuple[np.ndarray, ...]]] = []
    with FolderWriter(text) as folder, _progress(progress, chunks.batch * chunks.time) as add:
        folder.reserve(chunks.shapes, model.dtype, chunks.has_batch)
        runs = chunks.in_steps(layers, what, threads) if chunks.takes_steps() else chunks.in_rows(layers, what, threads)
        for trace, row, places, state, count in runs:
            head = head or trace._head()
            for name, array in trace._arrays().items():
                if name in places:
                    folder.write(name, array, row, places[name])
            if state is not None:
                states.append(state)
            add(count)
        for one in head["layers"]:
            one[-1] = is_from_zero and chunks.starts_alone(one[0])
        folder.finish(head | {"has_batch": chunks.has_batch})
    found = Trace.load(text)
    if return_state:
        found.state = [tuple(np.concatenate(parts) for parts in zip(*layer)) for layer in zip(*states)]
    return found


#: a trace, its first row, of each array that is to be written its first step (None where that is all of it), the state
#: after the last step, and how many steps of rows it took
_Run = tuple[Trace, int, Mapping[str, int | None], "list[tuple[np.ndarray, ...]] | None", int]


class _Chunks:
    """The inputs of a call, cut into chunks of rows, and of steps where the network runs in pieces.

    Attributes
    ----------
    plan : Plan
    batch : int
    time : int
        Steps of the longest input.
    has_batch : bool
        Whether the inputs came with a batch axis.
    shapes : dict of str to tuple
        Of all arrays of the trace, with a batch axis, by the names that they have in files.
    """

    def __init__(self, model: Model, plan: Plan, x: Any, lengths: Any, mask: Any, initial_state: Any) -> None:
        packed = model._packed
        self.plan = plan
        self._model = model
        arrays = [to_array(one, f"input {value.name!r}") for value, one in zip(packed.inputs, input_list(packed, x))]
        ranks = [len(packed.layouts.get(value.name, value.shape)) for value in packed.inputs]
        more = {array.ndim - rank for array, rank in zip(arrays, ranks)}
        self.has_batch = more == {1}
        if len(more) == 1 and not self.has_batch:
            arrays = [array[np.newaxis] for array in arrays]
        self._arrays = arrays
        if not more <= {0, 1} or len(more) > 1 or len({len(array) for array in arrays}) > 1 or not arrays[0].size:
            read_inputs(packed, x, packed.inputs, packed.layouts)  # it says what is wrong
        self.batch = len(arrays[0])
        self._times = {value.name: self._time_of(i) for i, value in enumerate(packed.inputs)}
        self.time = max(self._times.values())
        packed.result_shapes(self.batch, list(self._times.values()))  # it says for which layer there are too few steps
        stand_ins = [np.broadcast_to(np.uint8(0), (self.batch, time)) for time in self._times.values()]
        masks = as_masks(packed, stand_ins, not self.has_batch, lengths, mask)
        self._masks = {value.name: one for value, one in zip(packed.inputs, masks) if one is not None}
        self._states: list[np.ndarray] | None = None
        if initial_state is not None:
            self._states = as_state(initial_state, packed.state_groups, self.batch, packed.dtype)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._axes: dict[str, Axis | None] = {}
        self._set_shapes()
        self._starts_alone = {
            one.layer.name: not {"h0", "c0"} & set(one.layer.inputs) for one in plan.wanted
        }  # fmt: skip

    def starts_alone(self, layer: str) -> bool:
        """Whether no other layer gives this one its first state."""
        return self._starts_alone[layer]

    def _time_of(self, index: int) -> int:
        value = self._model._packed.inputs[index]
        if not value.has_time:
            return 1
        layout = self._model._packed.layouts.get(value.name)
        return int(self._arrays[index].shape[1 if layout is None else 1 + layout.index("0")])

    def _set_shapes(self) -> None:
        plan = self.plan

        def add(name: str, value: Value, inner: tuple[int | None, ...], layout: str | None = None) -> None:
            steps = () if value.axis is None else (value.axis.length(self._times[value.axis.source]),)
            shape = (self.batch, *steps, *inner)
            if layout is not None:
                shape = to_layout(np.broadcast_to(np.uint8(0), shape), layout, len(value.shape)).shape
            self.shapes[name], self._axes[name] = shape, value.axis

        for k, name in enumerate(plan.names[: plan.count]):
            value = plan.values[name]
            add(f"output{k}", value, value.step_shape if value.axis else value.shape, plan.layouts.get(name))
        for k, one in enumerate(plan.wanted):
            value = plan.values[one.layer.outputs["y"]]
            for part in one.parts:
                is_result = part in ("h", "y")
                units = (value.step_shape if value.axis else value.shape) if is_result else one.units
                inner = units if value.axis or is_result else (value.shape[0], *one.units)
                add(f"layer{k}_{part}", value, inner)

    def _bytes(self) -> int:
        """Of one row."""
        return sum(math.prod(shape[1:]) for shape in self.shapes.values()) * self._model.dtype.itemsize

    def takes_steps(self) -> bool:
        """Whether the steps of one row are too many for a chunk, and the network can take them piece by piece."""
        packed = self._model._packed
        times = {time for value, time in zip(packed.inputs, self._times.values()) if value.has_time}
        return (
            self._bytes() > CHUNK_BYTES
            and len(times) == 1
            and not self._masks
            and not packed.layouts
            and packed.carried is None
            and self._model.can_stream
            and self.time % packed.step_multiple == 0
        )

    def in_rows(self, layers: Any, what: Any, threads: int | None) -> Iterator[_Run]:
        """Traces of some rows each."""
        groups = self._model._packed.state_groups
        rows = max(1, min(self.batch, CHUNK_BYTES // self._bytes()))
        trace: Trace | None = None
        for row in range(0, self.batch, rows):
            part = slice(row, min(row + rows, self.batch))
            masks = {name: mask[part].astype(bool) for name, mask in self._masks.items()}
            states = None if self._states is None else _grouped([array[part] for array in self._states], groups)
            out = trace if part.stop - row == rows else None
            trace = trace_model(
                self._model, self._inputs(part, None), layers, what, out, states, True, None, masks or None, threads
            )
            yield trace, row, dict.fromkeys(self.shapes), trace.state, (part.stop - row) * self.time

    def in_steps(self, layers: Any, what: Any, threads: int | None) -> Iterator[_Run]:
        """Traces of some steps of some rows each: a stream goes on from chunk to chunk."""
        model, packed = self._model, self._model._packed
        of_step, multiple = -(-self._bytes() // self.time), packed.step_multiple
        rows = max(1, min(self.batch, CHUNK_BYTES // (of_step * _LEAST_STEPS)))
        steps = max(1, CHUNK_BYTES // (of_step * rows) // multiple) * multiple
        for row in range(0, self.batch, rows):
            part = slice(row, min(row + rows, self.batch))
            count = part.stop - row
            stream = model.stream(count, threads=threads or available_threads(), window=None)
            if self._states is not None:
                # what a stream keeps beside states is zero before the first step
                kept = [np.zeros((count, *shape)) for _, of in packed.stream_groups for shape in of]
                kept[: len(self._states)] = [array[part] for array in self._states]
                stream.state = _grouped(kept, packed.stream_groups)
            written = dict.fromkeys(self.shapes, 0)
            trace: Trace | None = None
            for begin in range(0, self.time, steps):
                end = min(begin + steps, self.time)
                out = trace if end - begin == steps and not packed.warms_up else None
                trace = stream.trace_run(self._inputs(part, slice(begin, end)), layers, what, out=out)
                is_last = end == self.time
                # what has no time is known after the last step
                names = [name for name, axis in self._axes.items() if axis is not None or is_last]
                places = {name: None if self._axes[name] is None else written[name] for name in names}
                arrays = trace._arrays()
                state = stream.state[: len(packed.state_groups)] if is_last else None
                yield trace, row, places, state, (end - begin) * count
                for name in names:
                    written[name] += arrays[name].shape[1] if self._axes[name] is not None else 0

    def _inputs(self, rows: slice, steps: slice | None) -> Any:
        """Those of some rows and steps, as a call takes them."""
        values = self._model._packed.inputs
        parts = [
            array[rows, steps] if steps is not None and value.has_time else array[rows]
            for value, array in zip(values, self._arrays)
        ]
        return parts if len(parts) > 1 else parts[0]


def _grouped(arrays: Sequence[np.ndarray], groups: Sequence[tuple[str, Sequence[Any]]]) -> list[tuple[np.ndarray, ...]]:
    """A state as a call takes it, of its arrays one after the other."""
    rest = iter(arrays)
    return [tuple(next(rest) for _ in shapes) for _, shapes in groups]


@contextmanager
def _progress(is_shown: bool, steps: int) -> Iterator[Callable[[int], object]]:
    """What takes how many more steps are done, of so many, and shows it."""
    if not is_shown:
        yield lambda count: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise UnsupportedError("progress=True needs tqdm: pip install tqdm") from None
    with tqdm(total=steps, unit=" steps", unit_scale=True) as bar:
        yield bar.update
