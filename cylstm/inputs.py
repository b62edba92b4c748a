"""What a user hands in, as arrays that C can read: rank, shape and dtype rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.array_like import check_dimensions, column_names, to_array
from cylstm.errors import ArgumentError, RowError, ShapeError

if TYPE_CHECKING:
    from cylstm.graph.values import Value
    from cylstm.packing import PackedModel

#: names of the axes of one step, by their number; of those of higher rank the features alone have one
_STEP_NAMES = {0: (), 1: ("features",), 2: ("columns", "features"), 3: ("rows", "columns", "features")}


def as_real(array: object, dtype: np.dtype | None, what: str) -> np.ndarray:
    """`array` as C can read it, of `dtype`; real numbers of any type and stride are converted. None: of its own.

    Raises
    ------
    ShapeError
        If it is complex, object, text or ragged, or a number is missing.
    """
    array = to_array(array, what)
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{what}: expected real numbers, found dtype {array.dtype}")
    return _plain(array, dtype)


def _plain(array: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    """C-contiguous and aligned, of the same shape; itself if it is that."""
    plain = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    return plain if plain.flags.aligned else plain.copy()


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that is not filled.

    Raises
    ------
    MemoryError
        If it does not fit, also where NumPy says that in other words.
    """
    try:
        return np.empty(shape, dtype)
    except (ValueError, OverflowError) as error:
        raise MemoryError(f"an array of shape {shape} and dtype {dtype} does not fit in memory") from error


def input_list(packed: PackedModel, x: Any) -> list[Any]:
    """The inputs in the order of `Model.inputs`."""
    names = [value.name for value in packed.inputs]
    if isinstance(x, Mapping) and not (len(names) == 1 and hasattr(x, "data_vars") and names[0] not in x):
        if set(x) != set(names):
            raise ShapeError(f"inputs: expected {', '.join(names)}, found {', '.join(map(str, x))}")
        return [x[name] for name in names]
    if len(names) == 1:
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(names):
        raise ShapeError(f"inputs: expected a list of {len(names)} ({', '.join(names)}) or a dict")
    return list(x)


def read_inputs(
    packed: PackedModel,
    x: object,
    values: Sequence[Value],
    layouts: Mapping[str, str],
    *,
    is_step: bool = False,
    batch: int | None = None,
    active: np.ndarray | None = None,
    takes_no_rows: bool = False,
) -> tuple[list[np.ndarray], bool]:
    """All inputs of a call, and whether they came without a batch axis.

    Parameters
    ----------
    x : array_like, list or dict
        As `Model.predict` takes it.
    values : sequence of Value
        What each input must be.
    layouts : dict of str to str
        The user's order of axes, of the inputs where it is another.
    is_step, batch, active, takes_no_rows
        As in `as_input`.

    Raises
    ------
    ShapeError
        If one does not fit, or they do not fit each other.
    """
    inputs: list[np.ndarray] = []
    alone = False
    for value, given in zip(values, input_list(packed, x)):
        layout = layouts.get(value.name)
        if layout is not None:
            given = from_layout(given, layout, value)
        array, is_alone = as_input(
            given, value, packed.dtype, is_step=is_step, batch=batch, active=active, takes_no_rows=takes_no_rows
        )
        if inputs and is_alone != alone:
            raise ShapeError("inputs: expected all with a batch axis or all without")
        if inputs and len(array) != len(inputs[0]):
            raise ShapeError(f"inputs: expected one batch, found {len(inputs[0])} and {len(array)}")
        alone = is_alone
        inputs.append(array)
        if value.axis is not None and value.axis.source != value.name:
            other = [one.name for one in values].index(value.axis.source)
            if inputs[other].shape[1] != array.shape[1]:
                raise ShapeError(
                    f"inputs: {value.axis.source!r} and {value.name!r} have one time, found "
                    f"{inputs[other].shape[1]} and {array.shape[1]} steps"
                )
    return inputs, alone


def as_input(
    given: object,
    value: Value,
    dtype: np.dtype,
    *,
    is_step: bool = False,
    batch: int | None = None,
    active: np.ndarray | None = None,
    takes_no_rows: bool = False,
) -> tuple[np.ndarray, bool]:
    """One input as (batch, time, features) or (batch, features), and whether it came without a batch axis.

    Parameters
    ----------
    given : array_like, frame or table
        Of the value's rank r (one sample) or r + 1 (a batch); see `to_array`.
    value : Value
        The graph's input.
    is_step : bool
        The array has no time axis: it is one step, given to a stream.
    batch : int, optional
        The batch that it must have.
    active : ndarray of bool, optional
        (batch,): rows to convert. The others may hold anything and are left out: what cannot be converted there must
        not warn.
    takes_no_rows : bool
        Whether the batch may be empty.

    Raises
    ------
    ShapeError
        For another rank, feature count or batch, an empty batch or time, or a dtype that is not real.
    """
    what = f"input {value.name!r}"
    is_index = value.kind == "index"
    inner = value.step_shape
    names = _STEP_NAMES.get(len(inner), (*map(str, inner[:-1]), "features"))
    if is_index and inner:
        names = (*names[:-1], "indices")
    if value.has_time and not is_step:
        names = ("time", *names)
    rank = len(names)
    if type(given) is np.ndarray and not given.dtype.hasobject:
        array = given
    else:
        ragged = "" if "time" not in names else "; pad them to one length and give lengths=[their lengths]"
        array = to_array(given, what, ragged)
        check_dimensions(given, ("batch", *names), what)
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{what}: expected {'whole' if is_index else 'real'} numbers, found dtype {array.dtype}")
    if array.ndim not in (rank, rank + 1):
        raise ShapeError(
            f"{what}: expected rank {rank + 1} ({', '.join(('batch', *names))}) or {rank} ({', '.join(names)})"
            f", found shape {array.shape}{_one_feature_hint(given, array, inner, rank)}"
        )
    if inner and array.shape[-1] != value.features:
        columns = column_names(given)
        found = f" (columns {', '.join(columns[:12])}{', ...' if len(columns) > 12 else ''})" if columns else ""
        raise ShapeError(
            f"{what}: expected {value.features} feature{'' if value.features == 1 else 's'}, found {array.shape[-1]} "
            f"in shape {array.shape}{found}{_one_feature_hint(given, array, inner, rank)}"
        )
    if array.shape[array.ndim - len(inner) :] != inner:  # () of a scalar step
        raise ShapeError(f"{what}: expected {names[-len(inner) :]} = {inner}, found shape {array.shape}")
    is_alone = array.ndim == rank
    if is_alone:
        array = array[np.newaxis]
    if array.size == 0 and not (takes_no_rows and array.size == array.shape[0] and 0 not in array.shape[1:]):
        raise ShapeError(f"{what}: expected at least one sample and one step, found shape {array.shape}")
    if value.has_time and not is_step and value.shape[0] is not None and array.shape[1] != value.shape[0]:
        raise ShapeError(f"{what}: expected {value.shape[0]} steps, found {array.shape[1]}")
    if batch is not None and array.shape[0] != batch:
        raise ShapeError(f"{what}: expected a batch of {batch}, found {array.shape[0]}")
    if active is not None:
        rows = array[active]
        array = np.zeros(array.shape, array.dtype if is_index else dtype)
        array[active] = rows
    array = as_indices(array, what, is_alone=is_alone) if is_index else _plain(array, dtype)
    if is_step and value.has_time:
        array = array[:, np.newaxis]
    return array, is_alone


def _one_feature_hint(given: object, array: np.ndarray, inner: tuple[int, ...], rank: int) -> str:
    """What to do with an array that has no axis for its only feature."""
    if inner != (1,) or array.ndim not in (rank - 1, rank) or array.size < 1:
        return ""
    if array.ndim == 0:
        return "; one number is given as [x]"
    if hasattr(given, "to_frame"):
        return "; a Series is given as x.to_frame()"
    if column_names(given):
        return ""
    return f"; for one feature give x[..., None], of shape {(*array.shape, 1)}"


def from_layout(array: object, layout: str, value: Value) -> np.ndarray:
    """An input as its value has it, from the user's order of axes (`Graph.layouts`). Raises `ShapeError`."""
    array = to_array(array, f"input {value.name!r}")
    rank = len(layout)
    if array.ndim not in (rank, rank + 1):
        names = ["time" if axis == "0" and value.has_time else str(value.shape[int(axis)]) for axis in layout]
        raise ShapeError(
            f"input {value.name!r}: expected rank {rank + 1} ({', '.join(('batch', *names))}) or {rank} "
            f"({', '.join(names)}), found shape {array.shape}"
        )
    batch = array.ndim - rank
    array = array.transpose([*range(batch), *(batch + layout.index(axis) for axis in sorted(layout))])
    for axis in range(len(value.shape)):
        if str(axis) not in layout:
            array = np.expand_dims(array, batch + axis)
    return array


def to_layout(array: np.ndarray, layout: str, rank: int) -> np.ndarray:
    """A view of an output in the user's order of axes; `rank` is that of its value."""
    batch = array.ndim - rank
    axes = [int(axis) for axis in layout]
    spare = [axis for axis in range(rank) if axis not in axes]
    array = array.transpose([*range(batch), *(batch + axis for axis in axes + spare)])
    first: tuple[Any, ...] = (Ellipsis, *[0] * len(spare))
    view: np.ndarray = array[first]
    return view


def as_indices(array: object, what: str, *, is_alone: bool = False) -> np.ndarray:
    """`array` as C-contiguous int32; whole numbers of any type are converted, floats too if they are whole.

    The first axis is the rows of a batch, which the user has not given if it `is_alone`.

    Raises
    ------
    ShapeError
        If it is not real; a `RowError` if a number is not whole or does not fit, which says which.
    """
    array = to_array(array, what)
    if array.dtype.kind == "f":
        array = as_real(array, np.dtype(np.float64), what)
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{what}: expected whole numbers, found dtype {array.dtype}")
    if array.dtype == np.int32:
        return _plain(array, None)
    is_wrong = (array < 0) | (array > np.iinfo(np.int32).max)
    if array.dtype.kind == "f":
        is_wrong |= array != np.floor(array)

    def message(place: tuple[int, ...]) -> str:
        at = _place_text(place[1:])
        at = f"at {at}" if is_alone and at else f"in row {place[0]}{', ' if at else ''}{at}"
        return f"{what}: expected whole numbers of at least 0, found {array[place]} {at}"

    refuse_rows(is_wrong, message)
    return np.ascontiguousarray(array, dtype=np.int32).reshape(array.shape)


def check_index(name: str, array: np.ndarray, limit: int, active: np.ndarray | None) -> None:
    """Raise `RowError` about the first index of (batch, ...), in each active row, that is not in [0, limit)."""
    is_wrong = (array < 0) | (array >= limit)
    if active is not None:
        is_wrong[~active] = False

    def message(place: tuple[int, ...]) -> str:
        row, *position = place
        return f"input {name!r}: index {array[place]} in row {row}, {_place_text(position)}: expected 0 to {limit - 1}"

    refuse_rows(is_wrong, message)


def refuse_rows(is_wrong: np.ndarray, message: Callable[[tuple[int, ...]], str]) -> None:
    """Raise `RowError` if something is wrong in (batch, ...), with a message about the first place of each row."""
    if not is_wrong.any():
        return
    if not is_wrong.ndim:
        raise ShapeError(message((0,)))

    def first_message(row: int) -> str:
        place = np.unravel_index(int(is_wrong[row].argmax()), is_wrong.shape[1:])
        return message((row, *map(int, place)))

    rows = [int(row) for row in np.flatnonzero(is_wrong.reshape(len(is_wrong), -1).any(axis=1))]
    raise RowError(first_message(rows[0]), lambda: {row: ShapeError(first_message(row)) for row in rows})


def read_step(packed: PackedModel, x: Any, finite: bool) -> list[np.ndarray]:
    """One step of one row, as `Model.check_step` returns it; a list in any case."""
    with np.errstate(over="ignore"):
        inputs, is_alone = read_inputs(packed, x, packed.inputs, {}, is_step=True, batch=None)
    if not is_alone:
        first = packed.inputs[0]
        raise ShapeError(
            f"input {first.name!r}: expected one row of shape {first.step_shape}, found {len(inputs[0])} rows"
        )
    packed.check_indices(inputs)
    step = [array[0, 0] if value.has_time else array[0] for value, array in zip(packed.inputs, inputs)]
    for value, array in zip(packed.inputs, step):
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            at = f" at {_place_text(place)}" if place else ""
            raise ShapeError(
                f"input {value.name!r}: expected finite numbers within the range of {array.dtype}, "
                f"found {array[place]}{at}"
            )
    return step


def _place_text(position: Sequence[int]) -> str:
    return f"position {position[0] if len(position) == 1 else tuple(position)}" if position else ""


def as_active(active: object, batch: int) -> np.ndarray:
    """Which rows of a stream advance, as a C-contiguous array of bool (batch,). Raises `ShapeError`."""
    try:
        array = to_array(active, "active")
    except ShapeError as error:
        raise ShapeError(f"active: expected {batch} bools: {error}") from error
    if array.dtype != np.bool_ or array.shape != (batch,):
        raise ShapeError(f"active: expected bool of shape {(batch,)}, found {array.dtype} of shape {array.shape}")
    return np.ascontiguousarray(array)


def as_rows(rows: object, batch: int) -> np.ndarray:
    """Rows of a stream, selected as in NumPy, as a C-contiguous array of int64 (number of rows,).

    Parameters
    ----------
    rows : int, slice, array_like of int, array_like of bool (batch,), or None
        None: all of them. Negative indices count from the end.

    Raises
    ------
    ArgumentError
        If it is none of these, or there is no such row.
    """
    every = np.arange(batch, dtype=np.int64)
    if rows is None:
        return every
    if isinstance(rows, slice):
        try:
            return np.ascontiguousarray(every[rows])
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"rows: {error}") from error
    expected = f"rows: expected an index, a slice, a list of indices or bool of shape {(batch,)}"
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise ArgumentError(f"{expected}: {error}") from error
    if array.shape == (0,) and isinstance(rows, (list, tuple)):
        array = array.astype(np.int64)
    is_mask = array.dtype == np.bool_ and array.shape == (batch,)
    if not is_mask and (array.dtype.kind not in "iu" or array.ndim > 1):
        raise ArgumentError(f"{expected}, found {array.dtype} of shape {array.shape}")
    try:
        return np.ascontiguousarray(every[array]).reshape(-1)
    except (IndexError, OverflowError) as error:
        raise ArgumentError(f"rows: expected -{batch} to {batch - 1}, found {array.tolist()}") from error


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype, read: Sequence[np.ndarray]) -> None:
    """Raise `ShapeError` unless `out` can be written in place while the arrays of `read` are read."""
    if not isinstance(out, np.ndarray):
        raise ShapeError(f"out: expected a NumPy array, found {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype or not out.flags.carray:
        raise ShapeError(
            f"out: expected a writable C-contiguous {dtype} array of shape {shape}, found {out.dtype} {out.shape}"
            + ("" if out.flags.c_contiguous else ", not contiguous")
            + ("" if out.flags.writeable else ", read-only")
            + ("" if out.flags.aligned else ", not aligned")
        )
    if any(np.may_share_memory(out, array) for array in read):
        raise ShapeError("out: shares memory with an input")


def as_state(
    state: object, groups: Sequence[tuple[str, tuple[tuple[int, ...], ...]]], batch: int, dtype: np.dtype
) -> list[np.ndarray]:
    """A state as the user holds it, flat: one array (batch, size) per state of each layer.

    Parameters
    ----------
    state : list of tuple of array_like
        One tuple per stateful layer; an array without batch is taken for a batch of 1.
    groups : list of (layer name, shapes without batch)

    Raises
    ------
    ShapeError
        For another number of layers, of states or another shape; names the layer.
    """
    expected = ", ".join(f"{name} {shapes}" for name, shapes in groups) or "none: no layer carries state"
    if not isinstance(state, (list, tuple)) or len(state) != len(groups):
        found = f"{len(state)} items" if isinstance(state, (list, tuple)) else type(state).__name__
        raise ShapeError(
            f"state: expected a list with one tuple per stateful layer ({expected}), found {found}"
            + _stacked_hint(state)
        )
    arrays = []
    for (name, shapes), parts in zip(groups, state):
        if not isinstance(parts, (list, tuple)) or len(parts) != len(shapes):
            raise ShapeError(
                f"state of layer {name!r}: expected a tuple of {len(shapes)} arrays of shapes (batch, ...) {shapes}, "
                f"found {len(parts) if isinstance(parts, (list, tuple)) else type(parts).__name__}"
                + _stacked_hint(state)
            )
        for shape, part in zip(shapes, parts):
            array = as_real(part, dtype, f"state of layer {name!r}")
            if array.ndim == len(shape) and batch == 1:
                array = array[np.newaxis]
            if array.shape != (batch, *shape):
                raise ShapeError(
                    f"state of layer {name!r}: expected shape {(batch, *shape)}, found {array.shape}"
                    + _stacked_hint(state)
                )
            arrays.append(array)
    return arrays


def _stacked_hint(state: object) -> str:
    """A hint for PyTorch's (h_n, c_n), which stacks layers on the first axis."""
    if isinstance(state, (list, tuple)) and len(state) == 2 and all(getattr(part, "ndim", 0) == 3 for part in state):
        return "; for PyTorch's stacked (h_n, c_n) write [(h_n[k], c_n[k]) for k in range(len(h_n))]"
    return ""


def as_masks(
    packed: PackedModel, inputs: list[np.ndarray], alone: bool, lengths: Any, mask: Any
) -> list[np.ndarray | None]:
    """One mask (batch, time) of uint8, or None, per input."""
    masks: list[np.ndarray | None] = [None] * len(inputs)
    if lengths is None and mask is None:
        return masks
    if lengths is not None and mask is not None:
        raise ArgumentError("give lengths or mask, not both")
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
    return to_array(given, what)


def _prefix_mask(lengths: Any, batch: int, time: int) -> np.ndarray:
    lengths = _as_array(lengths, "lengths")
    if lengths.ndim == 0 and batch == 1:
        lengths = lengths[np.newaxis]
    if lengths.dtype.kind not in "iu" or lengths.shape != (batch,):
        raise ShapeError(f"lengths: expected {batch} whole numbers, found {lengths.dtype} of shape {lengths.shape}")
    wrong = np.flatnonzero((lengths < 1) | (lengths > time))
    if wrong.size:
        raise ShapeError(f"lengths: expected 1 to {time}, found {lengths[wrong[0]]} in row {wrong[0]}")
    mask: np.ndarray = np.arange(time) < lengths[:, np.newaxis]
    return mask.view(np.uint8)


def _as_mask(mask: Any, batch: int, time: int, alone: bool) -> np.ndarray:
    mask = _as_array(mask, "mask")
    if alone and mask.ndim == 1:
        mask = mask[np.newaxis]
    if mask.dtype != np.bool_ or mask.shape != (batch, time):
        raise ShapeError(f"mask: expected bool of shape {(batch, time)}, found {mask.dtype} of shape {mask.shape}")
    return np.ascontiguousarray(mask).view(np.uint8)
