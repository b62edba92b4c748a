"""ONNX's operators on shapes: they repeat, move, join and divide numbers, and make constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.formats.onnx import rows
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import (
    axes_of,
    axis_of,
    check_count,
    computed,
    is_array,
    is_number,
    is_sizes,
    known,
    number,
    numbers,
    shape,
    size_array,
    unknown,
)
from cylstm.formats.onnx.model import NUMPY_TYPES, type_name
from cylstm.program.network import MIXES
from cylstm.program.operations import conv, parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.constants import arange, full
from cylstm.program.tensor import BATCH_SIZE, Dim, RowNumbers, Tensor, Unavailable, dtype_of


def product(found: Sequence[Any]) -> Any:
    """The product of sizes."""
    total: Any = 1
    for size in found:
        total = size * total if isinstance(total, int) else total * size
    return total


# Shapes


def reshape(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    wanted = call.sizes(1, "a shape")
    if not call.attribute("allowzero", 0):
        for i, size in enumerate(wanted):
            if isinstance(size, int) and size == 0:
                if i >= len(own):
                    raise ShapeError(f"{call.net.place_name}: shape {wanted} copies an axis that {own} has not")
                wanted[i] = own[i]
    if is_array(x):
        if any(isinstance(size, Dim) for size in wanted):
            return shapes.reshape(call.net, x, wanted)
        try:
            return x.reshape(wanted)
        except ValueError:
            raise ShapeError(f"{call.net.place_name}: a reshape of {own} to {tuple(wanted)} does not fit") from None
    if any(isinstance(size, int) and size == 0 for size in wanted):
        raise call.refuse("a tensor without numbers is not supported")
    if tuple(wanted) == own:
        return x
    return shapes.reshape(call.net, x, wanted)


def flatten(call: Call) -> Any:
    """All axes before one joined, and all from it on."""
    x = call.required(0)
    own = shape(call, x)
    axis = call.attribute("axis", 1)
    if not -len(own) <= axis <= len(own):
        raise call.refuse(f"expected an axis of a tensor of {len(own)} axes, found {axis}")
    axis = axis + len(own) if axis < 0 else axis
    wanted = [product(own[:axis]), product(own[axis:])]
    return x.reshape(wanted) if is_array(x) else shapes.reshape(call.net, x, wanted)


def transpose(call: Call) -> Any:
    x = call.required(0)
    rank = len(shape(call, x))
    order = call.attribute("perm", None)
    order = list(range(rank))[::-1] if order is None else list(order)
    if len(order) != rank:
        raise call.refuse(f"a permutation {tuple(order)} of {rank} axes")
    return shapes.permute(call.net, x, axes_of(call, order, rank))


def given_axes(call: Call, since: int) -> list[int] | None:
    """The axes that an attribute gives, or the second input from the opset `since` on; None if they are left out."""
    if call.opset >= since:
        return numbers(call, 1, "axes")
    given = call.attribute("axes", None)
    return None if given is None else list(given)


def squeeze(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    given = given_axes(call, 13)
    if given is None:  # the batch and the time stay also where they have one row or step
        given = [i for i, size in enumerate(own) if size == 1]
    axes = axes_of(call, given, len(own))
    for axis in axes:
        if own[axis] == BATCH_SIZE:
            raise call.refuse(f"a batch of which only one row is taken {MIXES}")
        if own[axis] != 1:
            raise ShapeError(f"{call.net.place_name}: expected size 1 of axis {axis} to drop it, found shape {own}")
    return np.squeeze(x, tuple(axes)) if is_array(x) else shapes.squeeze(call.net, x, axes) if axes else x


def unsqueeze(call: Call) -> Any:
    x = call.required(0)
    given = given_axes(call, 13)
    if given is None:
        raise call.refuse("expected axes")
    if rows.are_rows(x):
        return rows.unsqueezed(call, x, given)
    for axis in sorted(axes_of(call, given, len(shape(call, x)) + len(given))):
        x = np.expand_dims(x, axis) if is_array(x) else shapes.unsqueeze(call.net, x, axis)
    return x


def expand(call: Call) -> Any:
    """Axes of size 1 repeated; each of the two shapes may have them."""
    x = call.required(0)
    own, wanted = list(shape(call, x)), list[Any](call.sizes(1, "a shape"))
    rank = max(len(own), len(wanted))
    own = [1] * (rank - len(own)) + own
    wanted = [1] * (rank - len(wanted)) + wanted
    wanted = [size if isinstance(other, int) and other == 1 else other for size, other in zip(own, wanted)]
    if any(isinstance(size, int) and size < 1 for size in wanted) and not is_array(x):
        raise call.refuse(f"a tensor of shape {tuple(wanted)} is not supported")
    check_count(call, wanted)
    if not is_array(x) or any(isinstance(size, Dim) for size in wanted):
        return shapes.expand(call.net, x, wanted)
    try:
        return np.broadcast_to(x, wanted).copy()
    except ValueError:
        raise ShapeError(f"{call.net.place_name}: an expansion of {x.shape} to {tuple(wanted)} does not fit") from None


def tile(call: Call) -> Any:
    x = call.required(0)
    counts: list[Any] = list(call.sizes(1, "repeats"))
    own = shape(call, x)
    if len(counts) != len(own):
        raise call.refuse(f"expected one number of repeats for each axis of {own}, found {counts}")
    check_count(call, [*own, *counts])
    if is_array(x) and not any(isinstance(count, Dim) for count in counts):
        return np.tile(x, counts)
    return shapes.tile(call.net, x, counts)


def shape_operator(call: Call) -> np.ndarray:
    own = shape(call, call.required(0))
    array = np.empty(len(own), object)
    array[:] = own
    return size_array(array[call.attribute("start", 0) : call.attribute("end", None)])


def size(call: Call) -> np.ndarray:
    return size_array(product(shape(call, call.required(0))))


def identity(call: Call) -> Any:
    return call.required(0)


def dropout(call: Call) -> Any:
    training = call.input(2)
    ratio = call.input(1)
    is_inert = training is None or (is_number(training) and not number(training))
    if not is_inert and not (is_number(ratio) and number(ratio) == 0):
        raise call.refuse(
            "a dropout in training mode draws random numbers, so that no two calls give the same, which is not "
            "supported; export the network for inference"
        )
    x = call.required(0)
    if isinstance(x, Tensor) and x.value.kind != "index":
        # before opset 12 the ratio was an attribute
        rate = call.attribute("ratio", 0.5) if ratio is None else float(number(ratio)) if is_number(ratio) else 0.5
        x = Tensor(call.net.add_layer("dropout", x.value, options={"rate": float(rate)}), x.axes, x.dtype)
    return (x, Unavailable(f"{call.net.place_name}: the mask of a dropout is not a result")) if call.outputs > 1 else x


# Parts and joining


def concat(call: Call) -> Any:
    found = [one for one in call.inputs if one is not None]
    ranks = {len(shape(call, one)) for one in found}
    if len(ranks) > 1 or ranks == {0}:
        raise ShapeError(f"{call.net.place_name}: shapes {[shape(call, one) for one in found]} cannot be joined")
    axis = axis_of(call, call.attribute("axis", 1 if call.opset < 4 else None), ranks.pop())
    if rows.are_rows(*found):
        return rows.joined(call, found, axis)
    if not all(is_array(one) for one in found):
        if any(map(is_sizes, found)):
            raise unknown(call, "sizes joined with numbers that the network computes", *filter(is_sizes, found))
        return parts.concat(call.net, [one for one in found if shape(call, one)[axis] != 0], axis)
    if any(map(is_sizes, found)):
        found = [one.astype(object) for one in found]
    check_count(call, [sum(one.size for one in found)])
    try:
        return np.concatenate(found, axis)
    except ValueError:
        raise ShapeError(f"{call.net.place_name}: shapes {[one.shape for one in found]} cannot be joined") from None


def split(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    axis = axis_of(call, call.attribute("axis", 0), len(own))
    total = own[axis]
    given: Any = call.attribute("split", None) if call.opset < 13 else numbers(call, 1, "the sizes of a split")
    if given is None:
        count = call.attribute("num_outputs", call.outputs)
        if isinstance(x, Tensor):
            call.net.axis(x, axis)
        if not isinstance(total, int):
            raise call.net.needs_time("a split of the time")
        if not 0 < count <= total:
            raise ShapeError(f"{call.net.place_name}: a split of {total} places into {count} parts does not fit")
        each = -(-total // count) if call.opset >= 18 else total // count
        given = [max(min(each, total - k * each), 0) for k in range(count)]
        if sum(given) != total or min(given) == 0:
            raise ShapeError(f"{call.net.place_name}: a split of {total} places into {count} parts does not fit")
    if is_array(x):
        if sum(given) != total:
            raise ShapeError(f"{call.net.place_name}: a split of {total} places into {list(given)} does not fit")
        return tuple(np.split(x, np.cumsum(given)[:-1], axis))
    return parts.split(call.net, x, list(given), axis)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pad(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    mode = call.attribute("mode", "constant")
    if mode not in _PAD_MODES or (mode == "wrap" and call.opset < 19):
        raise call.refuse(f"mode expected constant, reflect or edge, or from opset 19 on wrap, found {mode!r}")
    value: Any
    if call.opset < 11:
        pads, value = list(call.attribute("pads", ())), np.asarray(call.attribute("value", 0.0))
    else:
        pads, value = numbers(call, 1, "pads") or [], call.input(2)
    axes = numbers(call, 3, "axes") if call.opset >= 18 else None
    chosen = list(range(len(own))) if axes is None else axes_of(call, axes, len(own))
    if len(pads) != 2 * len(chosen):
        raise call.refuse(f"expected pads of {len(chosen)} axes, found {len(pads)}")
    if value is not None and not is_number(value):
        raise call.refuse("padding by a number that the network computes is not supported")
    pairs = [(0, 0)] * len(own)
    for k, axis in enumerate(chosen):
        pairs[axis] = (pads[k], pads[len(chosen) + k])
    check_count(call, [size + max(before, 0) + max(after, 0) for size, (before, after) in zip(own, pairs)
                       if not isinstance(size, Dim)])  # fmt: skip
    check_count(call, [sum(max(one, 0) for pair in pairs for one in pair)])
    if is_array(x) and not is_sizes(x):
        return _padded(call, x, pairs, mode, 0 if value is None else value.reshape(-1)[0])
    given = [one for pair in reversed(pairs) for one in pair]
    return conv.pad(call.net, computed(call, x), given, _PAD_MODES[mode], None if value is None else number(value))


def _padded(call: Call, x: np.ndarray, pairs: Sequence[tuple[int, int]], mode: str, value: Any) -> np.ndarray:
    """A constant with numbers around it; negative ones cut."""
    x = x[tuple(slice(max(-before, 0), size - max(-after, 0)) for (before, after), size in zip(pairs, x.shape))]
    pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    if mode == "constant":
        return np.pad(x, pairs, constant_values=np.asarray(value).astype(x.dtype))
    function: Callable[..., np.ndarray] = np.pad
    try:
        return function(x, pairs, mode)
    except ValueError as error:
        raise ShapeError(f"{call.net.place_name}: {error}") from None


def center_crop_pad(call: Call) -> Any:
    """Each axis cut, or filled up with zeros, on both sides to a size that is given."""
    x = call.required(0)
    own = shape(call, x)
    given = call.attribute("axes", None)
    axes = list(range(len(own))) if given is None else axes_of(call, given, len(own))
    wanted = call.sizes(1, "a shape")
    if len(wanted) != len(axes):
        raise call.refuse(f"expected the sizes of {len(axes)} axes, found {len(wanted)}")
    pairs = [(0, 0)] * len(own)
    for axis, size in zip(axes, wanted):
        if size == own[axis]:
            continue
        if isinstance(size, Dim) or isinstance(own[axis], Dim):
            if own[axis] == BATCH_SIZE:
                raise call.refuse(MIXES)
            raise unknown(call, "an axis cut or filled up to a size", size_array([size, own[axis]]))
        before = abs(size - own[axis]) // 2
        after = abs(size - own[axis]) - before
        pairs[axis] = (before, after) if size > own[axis] else (-before, -after)
    check_count(call, [size for size in wanted if isinstance(size, int)])
    if is_array(x):
        return _padded(call, x, pairs, "constant", 0)
    return conv.pad(call.net, x, [one for pair in reversed(pairs) for one in pair])


def _spread_blocks(call: Call, x: Any, wanted: Sequence[Any], order: Sequence[int], result: Sequence[Any]) -> Any:
    if is_array(x):
        return x.reshape(wanted).transpose(order).reshape(result)
    found = shapes.reshape(call.net, x, wanted)
    return shapes.reshape(call.net, shapes.permute(call.net, found, order), result)


def depth_to_space(call: Call) -> Any:
    """Channels as blocks of rows and columns."""
    x = call.required(0)
    rows, channels, height, width = _of_image(call, x)
    block, mode = int(call.attribute("blocksize", 0)), call.attribute("mode", "DCR")
    if block < 1 or not isinstance(channels, int) or channels % block**2 or mode not in ("DCR", "CRD"):
        raise call.refuse(f"blocks of {block} in mode {mode!r} from {channels} channels do not fit")
    left = channels // block**2
    result = [rows, left, height * block, width * block]
    if mode == "DCR":
        return _spread_blocks(call, x, [rows, block, block, left, height, width], [0, 3, 4, 1, 5, 2], result)
    return _spread_blocks(call, x, [rows, left, block, block, height, width], [0, 1, 4, 2, 5, 3], result)


def space_to_depth(call: Call) -> Any:
    """Blocks of rows and columns as channels."""
    x = call.required(0)
    rows, channels, height, width = _of_image(call, x)
    block, mode = int(call.attribute("blocksize", 0)), call.attribute("mode", "DCR")
    if isinstance(height, Dim) or isinstance(width, Dim):
        raise call.net.needs_time("blocks of the time")
    if block < 1 or height % block or width % block or mode not in ("DCR", "CRD"):
        raise call.refuse(f"blocks of {block} in mode {mode!r} from {height} by {width} do not fit")
    wanted = [rows, channels, height // block, block, width // block, block]
    order = [0, 3, 5, 1, 2, 4] if mode == "DCR" else [0, 1, 3, 5, 2, 4]
    return _spread_blocks(call, x, wanted, order, [rows, channels * block**2, height // block, width // block])


def _of_image(call: Call, x: Any) -> tuple[Any, ...]:
    own = shape(call, x)
    if len(own) != 4:
        raise call.refuse(f"expected a tensor (batch, channels, rows, columns), found {own}")
    return own


# Constants


def constant(call: Call) -> Any:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        found = call.attribute(name, None)
        if found is not None:
            types = {"value_float": np.float32, "value_floats": np.float32}
            return np.asarray(found) if name == "value" else np.asarray(found, types.get(name, np.int64))
    raise call.refuse("a constant that is sparse or a text is not supported")


def constant_of_shape(call: Call) -> Any:
    value = call.attribute("value", None)
    value = np.zeros(1, np.float32) if value is None else np.asarray(value)
    if value.size != 1:
        raise call.refuse(f"expected a value of one number, found shape {value.shape}")
    wanted: list[Any] = list(call.sizes(0, "a shape"))
    if not any(isinstance(size, Dim) for size in wanted):
        if any(size < 0 for size in wanted):
            raise call.refuse(f"a shape {tuple(wanted)} with negative sizes")
        check_count(call, wanted)
        return np.full(wanted, value.reshape(-1)[0])
    check_count(call, wanted)
    return full(call.net, wanted, value.reshape(-1)[0].item(), dtype_of(value))


def range_operator(call: Call) -> Any:
    given = []
    for i in range(3):
        array = known(call, i, "a range")
        if array.size != 1:
            raise call.refuse(f"expected one number of a range, found shape {array.shape}")
        given.append(array)
    start, stop, step = (array.reshape(-1)[0] for array in given)
    if not any(map(is_sizes, given)):
        if step == 0:
            raise call.refuse("a range by steps of 0")
        count = max(math.ceil((float(stop) - float(start)) / float(step)), 0)
        check_count(call, [count])
        if given[0].dtype.kind in "iu":
            count = max(-(-(int(stop) - int(start)) // int(step)), 0)
        return (start + np.arange(count).astype(given[0].dtype) * step).astype(given[0].dtype)
    start, stop, step = (one if isinstance(one, Dim) else int(one) for one in (start, stop, step))
    if (start, stop, step) == (0, BATCH_SIZE, 1):
        return RowNumbers()
    if any(isinstance(one, Dim) and one.axis is None for one in (start, stop, step)) or isinstance(step, Dim):
        raise unknown(call, "a range", *given)
    return arange(call.net, start, stop, step, "int")


def eye_like(call: Call) -> np.ndarray:
    """Ones on a diagonal of a matrix as large as the input."""
    x = call.required(0)
    own = shape(call, x)
    if len(own) != 2:
        raise call.refuse(f"expected a matrix, found shape {own}")
    if any(isinstance(size, Dim) for size in own):
        raise unknown(call, "a diagonal", size_array(list(own)))
    check_count(call, own)
    to = call.attribute("dtype", None)
    if to is not None and to not in NUMPY_TYPES:
        raise call.refuse(f"numbers of {type_name(to)} are not supported")
    kinds = {"float": call.net.dtype, "int": np.int64, "bool": np.bool_}
    dtype = NUMPY_TYPES[to] if to is not None else x.dtype if is_array(x) else kinds[dtype_of(x)]
    return np.eye(own[0], own[1], call.attribute("k", 0), dtype)


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Expand": expand,
    "Tile": tile,
    "Shape": shape_operator,
    "Size": size,
    "Identity": identity,
    "Dropout": dropout,
    "Concat": concat,
    "Split": split,
    "Pad": pad,
    "CenterCropPad": center_crop_pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Range": range_operator,
    "EyeLike": eye_like,
}
