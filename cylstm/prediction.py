"""What `Model.predict` does where the short way of one array in and one array out will not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_flag, check_threads
from cylstm.engine._engine import threads_are_taken
from cylstm.engine.mode import in_standard_mode
from cylstm.engine.threads import THREADS_WORK, available_threads
from cylstm.errors import ShapeError
from cylstm.inputs import as_masks, as_state, check_out, new_array, read_inputs, to_layout

if TYPE_CHECKING:
    from cylstm.packing import PackedModel


@in_standard_mode
def predict_any(
    packed: PackedModel,
    x: Any,
    initial_state: Any,
    return_state: bool,
    lengths: Any,
    mask: Any,
    threads: int | None,
    out: Any,
    traces: Callable[[list[np.ndarray], dict[str, int], bool, bool], list[Any]] | None = None,
) -> Any:
    """As `Model.predict`: checks everything and says what is wrong.

    `traces` gives what `PackedModel.predict` takes under this name, of the inputs, the steps of each, whether some do
    not count, and whether the inputs came without a batch axis.
    """
    check_flag("return_state", return_state)
    inputs, alone = read_inputs(packed, x, packed.inputs, packed.layouts, takes_no_rows=traces is None)
    batch = len(inputs[0])
    masks = as_masks(packed, inputs, alone, lengths, mask)
    state = None if initial_state is None else as_state(initial_state, packed.state_groups, batch, packed.dtype)
    times = [array.shape[1] if value.has_time else 1 for value, array in zip(packed.inputs, inputs)]
    read = [*inputs, *(state or ()), *(mask for mask in masks if mask is not None)]
    results, given = result_arrays(packed, packed.result_shapes(batch, times), alone, out, read, packed.layouts)
    final = None
    if return_state:
        final = [[new_array((batch, *shape), packed.dtype) for shape in shapes] for _, shapes in packed.state_groups]
    threads = threads_of_call(packed, batch, max(times), threads)
    flat = None if final is None else [array for arrays in final for array in arrays]
    traced = None
    if traces is not None:
        steps = {value.name: count for value, count in zip(packed.inputs, times)}
        traced = traces(inputs, steps, any(one is not None for one in masks), alone)
    # nothing is to be computed of a batch without rows
    if batch and not packed.predict(inputs, masks, results, state, flat, threads, traced):
        packed.check_indices(inputs)
    results = to_users(packed, results, given)
    y = results if len(results) > 1 else results[0]
    return (y, [tuple(arrays) for arrays in final]) if final is not None else y


def threads_of_call(packed: PackedModel, batch: int, time: int, threads: object) -> int:
    """How many threads a call of so many rows and steps uses, of at most `threads`. Raises `ArgumentError`."""
    if threads is not None:
        most = check_threads(threads)
    elif packed.work * batch * time < THREADS_WORK or threads_are_taken():
        most = 1
    else:
        most = available_threads()
    return packed.useful_threads(batch, time, most)


def result_arrays(
    packed: PackedModel,
    shapes: Sequence[tuple[int, ...]],
    alone: bool,
    out: Any,
    read: Sequence[np.ndarray],
    layouts: Mapping[str, str],
) -> tuple[list[np.ndarray], Any]:
    """The arrays to write to, and those of `out` that the results are copied to as they lie for the user.

    Parameters
    ----------
    shapes : list of tuple
        With the batch axis, which is left out if the inputs came `alone`.
    read : list of ndarray
        What the call reads while it writes: `out` may share memory with none of these.

    Raises
    ------
    ShapeError
        If `out` does not fit.
    """
    shapes = [shape[1:] for shape in shapes] if alone else list(shapes)
    if out is None:
        return [new_array(shape, packed.dtype) for shape in shapes], None
    given: list[Any] = list(out) if isinstance(out, (list, tuple)) else [out]
    if len(given) != len(shapes):
        raise ShapeError(f"out: expected {len(shapes)} arrays, found {len(given)}")
    results = [new_array(shape, packed.dtype) for shape in shapes] if layouts else given
    views = to_users(packed, results) if layouts else given
    for i, array in enumerate(given):
        shape = views[i].shape if layouts else shapes[i]
        check_out(array, shape, packed.dtype, read)
        if any(np.may_share_memory(array, other) for other in given[:i]):
            raise ShapeError("out: two of its arrays share memory")
    return results, given if layouts else None


def to_users(
    packed: PackedModel, results: list[np.ndarray], out: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Results with their axes as they lie for the user (`Graph.layouts`), copied to `out` if that is given."""
    layouts, found = packed.layouts, []
    for i, (value, array) in enumerate(zip(packed.outputs, results)):
        if value.name in layouts:
            array = to_layout(array, layouts[value.name], len(value.shape))
        if out is not None:
            np.copyto(out[i], array)
            array = out[i]
        found.append(array)
    return found
