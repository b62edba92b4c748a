"""What `Model.predict` does where the short way of one array in and one array out will not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine import threads as thread_rules
from cylstm.errors import ShapeError
from cylstm.inputs import as_input, as_state, check_out, from_layout, new_array, to_layout

if TYPE_CHECKING:
    from cylstm.engine._engine import PackedModel


def predict_any(
    packed: PackedModel,
    x: Any,
    initial_state: Sequence[tuple] | None,
    return_state: bool,
    lengths: Any,
    mask: Any,
    threads: int | None,
    out: Any,
) -> Any:
    """As `Model.predict`: checks everything and says what is wrong."""
    if not isinstance(return_state, (bool, np.bool_)):
        raise ShapeError(f"return_state: expected True or False, found {return_state!r}")
    inputs, alone = [], None
    for value, array in zip(packed.inputs, input_list(packed, x)):
        layout = packed.layouts.get(value.name)
        if layout is not None:
            array = from_layout(array, layout, value)
        array, is_alone = as_input(array, value, packed.dtype)
        if alone is not None and is_alone != alone:
            raise ShapeError("inputs: expected all with a batch axis or all without")
        if inputs and len(array) != len(inputs[0]):
            raise ShapeError(f"inputs: expected one batch, found {len(inputs[0])} and {len(array)}")
        alone = is_alone
        inputs.append(array)
    batch = len(inputs[0])
    masks = _masks(packed, inputs, alone, lengths, mask)
    state = None if initial_state is None else as_state(initial_state, packed.state_groups, batch, packed.dtype)
    times = [array.shape[1] if value.has_time else 1 for value, array in zip(packed.inputs, inputs)]
    read = [*inputs, *(state or ()), *(mask for mask in masks if mask is not None)]
    results, given = result_arrays(packed, packed.result_shapes(batch, times), alone, out, read, packed.layouts)
    final = None
    if return_state:
        final = [[new_array((batch, *shape), packed.dtype) for shape in shapes] for _, shapes in packed.state_groups]
    time = max(times)
    if threads is not None:
        threads = thread_rules.check_threads(threads)
    elif packed.work * batch * time < thread_rules.SMALL_WORK:
        threads = 1
    else:
        threads = thread_rules.available_threads()
    threads = packed.useful_threads(batch, time, threads)
    flat = None if final is None else [array for arrays in final for array in arrays]
    packed.predict(inputs, masks, results, state, flat, threads)
    results = to_users(packed, results, given)
    y = results if len(results) > 1 else results[0]
    return (y, [tuple(arrays) for arrays in final]) if final is not None else y


def input_list(packed: PackedModel, x: Any) -> list:
    """The inputs in the order of `Model.inputs`."""
    names = [value.name for value in packed.inputs]
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise ShapeError(f"inputs: expected {', '.join(names)}, found {', '.join(map(str, x))}")
        return [x[name] for name in names]
    if len(names) == 1:
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(names):
        raise ShapeError(f"inputs: expected a list of {len(names)} ({', '.join(names)}) or a dict")
    return list(x)


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
    given = out if isinstance(out, (list, tuple)) else [out]
    if len(given) != len(shapes):
        raise ShapeError(f"out: expected {len(shapes)} arrays, found {len(given)}")
    results = [new_array(shape, packed.dtype) for shape in shapes] if layouts else given
    views = to_users(packed, results) if layouts else None
    for i, array in enumerate(given):
        shape = views[i].shape if layouts else shapes[i]
        check_out(array, shape, packed.dtype, read)
        if any(np.may_share_memory(array, other) for other in given[:i]):
            raise ShapeError("out: two of its arrays share memory")
    return list(results), given if layouts else None


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


def _masks(
    packed: PackedModel, inputs: list[np.ndarray], alone: bool, lengths: Any, mask: Any
) -> list[np.ndarray | None]:
    """One mask (batch, time) of uint8, or None, per input."""
    masks: list[np.ndarray | None] = [None] * len(inputs)
    if lengths is None and mask is None:
        return masks
    if lengths is not None and mask is not None:
        raise ShapeError("give lengths or mask, not both")
    what = "lengths" if mask is None else "mask"
    given = lengths if mask is None else mask
    names = [value.name for value in packed.inputs]
    sequences = [i for i, value in enumerate(packed.inputs) if value.mask is not None]
    if isinstance(given, Mapping):
        unknown = set(given) - {names[i] for i in sequences}
        if unknown:
            raise ShapeError(f"{what}: no sequence input is named {', '.join(map(str, unknown))}")
        sequences = [i for i in sequences if names[i] in given]
    elif not sequences:
        raise ShapeError(f"{what}: no layer reads a mask of an input")
    elif len(sequences) != 1:
        raise ShapeError(f"{what}: the network has {len(sequences)} sequence inputs; give a dict by input name")
    for i in sequences:
        one = given[names[i]] if isinstance(given, Mapping) else given
        batch, time = inputs[i].shape[:2]
        masks[i] = _prefix_mask(one, batch, time) if mask is None else _as_mask(one, batch, time, alone)
    return masks


def _as_array(given: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise ShapeError(f"{what}: expected an array: {error}") from error


def _prefix_mask(lengths: Any, batch: int, time: int) -> np.ndarray:
    lengths = _as_array(lengths, "lengths")
    if lengths.ndim == 0 and batch == 1:
        lengths = lengths[np.newaxis]
    if lengths.dtype.kind not in "iu" or lengths.shape != (batch,):
        raise ShapeError(f"lengths: expected {batch} whole numbers, found {lengths.dtype} of shape {lengths.shape}")
    wrong = np.flatnonzero((lengths < 1) | (lengths > time))
    if wrong.size:
        raise ShapeError(f"lengths: expected 1 to {time}, found {lengths[wrong[0]]} in row {wrong[0]}")
    return (np.arange(time) < lengths[:, np.newaxis]).view(np.uint8)


def _as_mask(mask: Any, batch: int, time: int, alone: bool) -> np.ndarray:
    mask = _as_array(mask, "mask")
    if alone and mask.ndim == 1:
        mask = mask[np.newaxis]
    if mask.dtype != np.bool_ or mask.shape != (batch, time):
        raise ShapeError(f"mask: expected bool of shape {(batch, time)}, found {mask.dtype} of shape {mask.shape}")
    return np.ascontiguousarray(mask).view(np.uint8)
