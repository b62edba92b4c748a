"""Functions of ``keras.ops`` applied to tensors of a model, which Keras writes into its config like layers.

``x + y``, ``x[:, -1]`` and ``ops.relu(x)`` come so, and the computation of masks. Their results carry no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.keras.call import Comparison, Everywhere, Flow, LayerCall, NoMask, Spread, shape_text
from cylstm.formats.keras.layers.shape import reshape
from cylstm.formats.keras.network import Slice
from cylstm.graph.activations import activation_options
from cylstm.graph.values import Value

Result = Flow | Comparison | Spread | Everywhere | Value | NoMask


def add_operation(call: LayerCall, args: Sequence[Any]) -> Result:
    """The result of an operation on `args`. Raises `UnsupportedError` for one that is not computed, by its name."""
    name = call.layer.class_name
    if name not in OPERATIONS:
        raise UnsupportedError(
            f"{call.what}: the operation keras.ops {name} is not supported; supported are "
            f"{', '.join(sorted(OPERATIONS))}, and the layers"
        )
    return OPERATIONS[name](call, list(args))


def _flow(call: LayerCall, given: object) -> Flow:
    if not isinstance(given, Flow):
        raise UnsupportedError(f"{call.what}: expected a tensor, found {given!r:.80}")
    return given


def _value(call: LayerCall, given: object) -> Value:
    return call.numbers(_flow(call, given))


def _option(call: LayerCall, key: str, args: Sequence[Any], position: int, default: object = None) -> Any:
    """An option: from the config, the call's arguments by name, or by position."""
    if key in call.layer.config:
        return call.layer.config[key]
    if key in call.arguments:
        return call.arguments[key]
    return args[position] if len(args) > position else default


def _affine(call: LayerCall, x: Value, gain: float, shift: float) -> Flow:
    ones = np.ones(x.features, np.float32)
    weights = {"mean": ones * 0, "variance": ones, "gain": ones * np.float32(gain), "shift": ones * np.float32(shift)}
    return Flow(call.add("batch_norm", x, weights, epsilon=0.0))


def _number(call: LayerCall, given: Any) -> float:
    if type(given) not in (int, float) or not math.isfinite(given):
        raise UnsupportedError(f"{call.what}: expected a tensor or a number, found {given!r:.80}")
    return float(given)


def _pairwise(mode: str) -> Callable[[LayerCall, list[Any]], Flow]:
    """An operation on two tensors, or on a tensor and a number."""

    def add(call: LayerCall, args: list[Any]) -> Flow:
        if len(args) != 2:
            raise FormatError(f"{call.what}: expected two arguments, found {len(args)}")
        a, b = args
        if isinstance(a, Flow) and isinstance(b, Flow):
            return Flow(call.add("merge", {"x": _value(call, a), "x1": _value(call, b)}, mode=mode))
        if isinstance(a, Flow):
            x, number = _value(call, a), _number(call, b)
            if mode == "div" and number == 0.0:
                raise UnsupportedError(f"{call.what}: a division by 0 is not supported")
            if mode in ("max", "min"):
                return _limited(call, x, mode, number)
            if mode == "div" and float(np.float32(1.0 / number)) * number != 1.0:
                # x times the rounded reciprocal would not be x / number
                raise UnsupportedError(f"{call.what}: a division by {number} is not supported; multiply, or Rescaling")
            gain = {"mul": number, "div": 1.0 / number if mode == "div" else 0.0}.get(mode, 1.0)
            return _affine(call, x, gain, {"sum": number, "sub": -number}.get(mode, 0.0))
        x, number = _value(call, b), _number(call, a)
        if mode in ("max", "min"):
            return _limited(call, x, mode, number)
        if mode == "div":
            raise UnsupportedError(f"{call.what}: a number divided by a tensor is not supported")
        gain = {"mul": number, "sub": -1.0}.get(mode, 1.0)
        return _affine(call, x, gain, number if mode in ("sum", "sub") else 0.0)

    return add


def _limited(call: LayerCall, x: Value, mode: str, number: float) -> Flow:
    most = float(np.finfo(np.float32).max)
    low, high = (number, most) if mode == "max" else (-most, number)
    return Flow(call.add("activation", x, activation="clip", activation_alpha=low, activation_beta=high))


def _negative(call: LayerCall, args: list[Any]) -> Flow:
    return _affine(call, _value(call, args[0]), -1.0, 0.0)


def _absolute(call: LayerCall, args: list[Any]) -> Flow:
    x = _value(call, args[0])
    negative = _affine(call, x, -1.0, 0.0).value
    return Flow(call.add("merge", {"x": x, "x1": negative}, None, "/larger", mode="max"))


def _square(call: LayerCall, args: list[Any]) -> Flow:
    x = _value(call, args[0])
    return Flow(call.add("merge", {"x": x, "x1": x}, mode="mul"))


def _function(name: str, **defaults: float) -> Callable[[LayerCall, list[Any]], Flow]:
    """An activation; `defaults` are its parameters by Keras's names, alpha first."""

    def add(call: LayerCall, args: list[Any]) -> Flow:
        found = [_number(call, _option(call, key, args, 1 + k, default)) for k, (key, default) in
                 enumerate(defaults.items())]  # fmt: skip
        options = activation_options("activation", name, *found, where=call.what)
        return Flow(call.add("activation", _value(call, args[0]), **options))

    return add


def _gelu(call: LayerCall, args: list[Any]) -> Flow:
    name = "gelu_tanh" if _option(call, "approximate", args, 1, True) else "gelu"
    return Flow(call.add("activation", _value(call, args[0]), activation=name))


def _softmax(call: LayerCall, args: list[Any]) -> Flow:
    x = _value(call, args[0])
    axis = call.axis(_option(call, "axis", args, 1, -1), of=x)
    if axis == len(x.shape) - 1:
        return Flow(call.add("activation", x, activation="softmax"))
    return Flow(call.add("softmax", x, axis=axis))


def _log_softmax(call: LayerCall, args: list[Any]) -> Flow:
    x = _value(call, args[0])
    return Flow(call.add("softmax", x, axis=call.axis(_option(call, "axis", args, 1, -1), of=x), log=True))


def _reduce(mode: str) -> Callable[[LayerCall, list[Any]], Flow]:
    def add(call: LayerCall, args: list[Any]) -> Flow:
        x = _value(call, args[0])
        axis = _option(call, "axis", args, 1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        found, keeps = call.axis(axis, of=x), _option(call, "keepdims", args, 2, False)
        if len(x.shape) < 2 and not keeps:
            raise UnsupportedError(
                f"{call.what}: over the only axis of {shape_text(x)} is not supported without keepdims=True"
            )
        if len(x.shape) < 2:
            return Flow(call.add("reduce", x, mode=mode, axis=found))
        if keeps:
            y = call.add("reduce", x, None, ".flat", mode=mode, axis=found)
            sizes = [1 if k == found else size for k, size in enumerate(x.shape)]
            if None in sizes:
                return Flow(call.add("reshape", y, shape=",".join(["time", *map(str, sizes[1:])])))
            return Flow(call.add("reshape", y, shape=",".join(map(str, sizes))))
        y = call.add("reduce", x, mode=mode, axis=found)
        if len(x.shape) == 2 and found == 1:
            y = call.add("reshape", y, None, ".row", shape="-1")
        return Flow(y)

    return add


def _concatenate(call: LayerCall, args: list[Any]) -> Result:
    given = args[0] if args and isinstance(args[0], list) else args
    if given and all(isinstance(item, Spread) for item in given):
        if _option(call, "axis", args, 1, -1) not in (-1, 2):
            return NoMask("masks joined along the time; drop the masks before")
        return _joined(given)
    values = [_value(call, item) for item in given]
    if len(values) < 2:
        raise UnsupportedError(f"{call.what}: expected several tensors, found {len(values)}")
    axis = call.axis(_option(call, "axis", args, 1, -1), of=values[0])
    roles = {f"x{k or ''}": value for k, value in enumerate(values)}
    return Flow(call.add("merge", roles, mode="concat", axis=axis))


def _reshape(call: LayerCall, args: list[Any]) -> Flow:
    shape = _option(call, "newshape", args, 1)
    if not isinstance(shape, list) or len(shape) < 2 or shape[0] not in (-1, None):
        raise UnsupportedError(f"{call.what}: option newshape expected (-1, ...), the batch first, found {shape!r:.80}")
    return Flow(reshape(call, _value(call, args[0]), shape[1:], "newshape"))


def _transpose(call: LayerCall, args: list[Any]) -> Flow:
    x, axes = _value(call, args[0]), _option(call, "axes", args, 1)
    if (
        not isinstance(axes, list)
        or axes[:1] != [0]
        or sorted(map(str, axes)) != sorted(str(k) for k in range(len(x.shape) + 1))
    ):
        raise UnsupportedError(
            f"{call.what}: option axes expected each axis of {shape_text(x)} once, the batch first, found {axes!r:.80}"
        )
    return Flow(call.add("permute", x, order="".join(str(axis - 1) for axis in axes[1:])))


def _expand_dims(call: LayerCall, args: list[Any]) -> Result:
    if args and isinstance(args[0], (Comparison, Value, NoMask, Everywhere)):
        if isinstance(args[0], Everywhere):
            return Spread(everywhere=True)
        return Spread(tuple(_masks(call, args[:1])))
    x, axis = _value(call, args[0]), _option(call, "axis", args, 1)
    rank = len(x.shape) + 2
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if type(axis) is not int or not -rank <= axis < rank or axis % rank == 0:
        raise ShapeError(f"{call.what}: option axis expected a place in {shape_text(x)}, found {axis!r:.80}")
    sizes = list(x.shape)
    sizes.insert(axis % rank - 1, 1)
    if sizes[0] is None:
        return Flow(call.add("reshape", x, shape=",".join(["time", *map(str, sizes[1:])])))
    return Flow(call.add("reshape", x, shape=",".join(str(-1 if size is None else size) for size in sizes)))


def _squeeze(call: LayerCall, args: list[Any]) -> Flow:
    x, axis = _value(call, args[0]), _option(call, "axis", args, 1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    found = call.axis(axis, of=x)
    if x.shape[found] != 1 or len(x.shape) < 2:
        raise ShapeError(f"{call.what}: option axis expected an axis of size 1 of {shape_text(x)}, found {axis!r:.80}")
    sizes = [size for k, size in enumerate(x.shape) if k != found]
    if sizes[0] is None and len(sizes) > 1:
        return Flow(call.add("reshape", x, shape=",".join(["time", *map(str, sizes[1:])])))
    return Flow(call.add("reshape", x, shape=",".join(str(-1 if size is None else size) for size in sizes)))


def _flip(call: LayerCall, args: list[Any]) -> Flow:
    x = _value(call, args[0])
    if not x.has_time or call.axis(_option(call, "axis", args, 1), of=x) != 0:
        raise UnsupportedError(f"{call.what}: only the time can be flipped")
    return Flow(call.add("reverse", x))


def _get_item(call: LayerCall, args: list[Any]) -> Flow:
    """``x[:, a:b:c, -1]``: slices and numbers for each axis, the batch untouched."""
    y: Value = _value(call, args[0])
    key: Any = args[1] if len(args) > 1 else None
    items = key if isinstance(key, list) else [key]
    if not items or items[0] != Slice(None, None, None) or len(items) > len(y.shape) + 1:
        raise UnsupportedError(f"{call.what}: expected the whole batch and then a part of {shape_text(y)}")
    dropped = []
    rank = len(y.shape)
    for axis, item in enumerate(items[1:]):
        size = y.shape[axis]
        if item == Slice(None, None, None):
            continue
        if isinstance(item, Slice) and all(part is None or type(part) is int for part in item):
            wanted: Any = item
            start, stop, step = wanted.start or 0, wanted.stop, wanted.step or 1
            if step < 1 or (size is None and (start < 0 or (stop is not None and stop > 0))):
                raise UnsupportedError(
                    f"{call.what}: the slice {start}:{stop}:{step} of {shape_text(y)} is not supported; a time that is "
                    "not known in advance can lose steps at the front and at the end"
                )
            if size is None:
                y = call.add("slice", y, None, f".{axis}", axis=axis, start=start, step=step, before_end=-(stop or 0))
                continue
            start, stop, step = slice(wanted.start, wanted.stop, wanted.step).indices(size)
            if stop <= start:
                raise ShapeError(f"{call.what}: nothing is left of axis {axis + 1} of {shape_text(y)}")
            y = call.add(
                "slice", y, None, f".{axis}", axis=axis, start=start, step=step, count=-(-(stop - start) // step)
            )
        elif type(item) is int:
            y = call.add("slice", y, None, f".{axis}", axis=axis, start=item, count=1)
            dropped.append(axis)
        else:
            raise UnsupportedError(f"{call.what}: an index {item!r:.80} is not supported; numbers and slices are")
    if dropped:
        if len(dropped) == rank:
            raise UnsupportedError(f"{call.what}: a single number of each sample is not supported; take a slice of one")
        sizes = [size for axis, size in enumerate(y.shape) if axis not in dropped]
        if sizes[0] is None and len(sizes) > 1:
            y = call.add("reshape", y, shape=",".join(["time", *map(str, sizes[1:])]))
        else:
            y = call.add("reshape", y, shape=",".join(str(-1 if size is None else size) for size in sizes))
    return Flow(y)


# Masks


def _not_equal(call: LayerCall, args: list[Any]) -> Comparison:
    if len(args) != 2:
        raise FormatError(f"{call.what}: expected two arguments, found {len(args)}")
    return Comparison(_flow(call, args[0]), _number(call, args[1]))


def _any(call: LayerCall, args: list[Any]) -> Result:
    """Over the features: of a comparison, or of joined masks."""
    given, axis = args[0] if args else None, _option(call, "axis", args, 1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if not isinstance(given, (Comparison, Spread)) or axis not in (-1, 2) or _option(call, "keepdims", args, 2, False):
        raise UnsupportedError(f"{call.what}: supported over the features of masks alone, without keepdims")
    if isinstance(given, Spread):
        if given.everywhere or not given.masks:
            return Everywhere()
        return call.merged_mask(given.masks, "any", call.name)
    if len(given.flow.value.shape) != 2:
        raise UnsupportedError(f"{call.what}: of {shape_text(given.flow.value)}; of (batch, time, features) it is")
    return Comparison(given.flow, given.number, is_reduced=True)


def _masks(call: LayerCall, given: Sequence[Any]) -> list[Value | NoMask]:
    found = [mask for mask in map(call.as_mask, given) if mask is not None]
    if not found or len(found) < len(given):
        raise UnsupportedError(f"{call.what}: expected masks, found {given!r:.80}")
    return found


def _logical(mode: str) -> Callable[[LayerCall, list[Any]], Result]:
    def add(call: LayerCall, args: list[Any]) -> Result:
        if any(isinstance(item, Spread) for item in args):
            if mode == "all" or not all(isinstance(item, Spread) for item in args):
                raise UnsupportedError(f"{call.what}: of masks for each feature is not supported")
            return _joined(args)
        if any(isinstance(item, Everywhere) for item in args):
            rest = [item for item in args if not isinstance(item, Everywhere)]
            return Everywhere() if mode == "any" or not rest else rest[0]
        return call.merged_mask(_masks(call, args), mode, call.name)

    return add


def _joined(spreads: Sequence[Spread]) -> Spread:
    masks = tuple(mask for spread in spreads for mask in spread.masks)
    return Spread(masks, any(spread.everywhere for spread in spreads))


def _as_it_is(call: LayerCall, args: list[Any]) -> Result:
    return Flow(_value(call, args[0])) if isinstance(args[0], Flow) or not args else args[0]


#: Operations by the name of their class.
OPERATIONS: dict[str, Callable[[LayerCall, list[Any]], Result]] = {
    "Add": _pairwise("sum"),
    "Subtract": _pairwise("sub"),
    "Multiply": _pairwise("mul"),
    "Divide": _pairwise("div"),
    "TrueDivide": _pairwise("div"),
    "Maximum": _pairwise("max"),
    "Minimum": _pairwise("min"),
    "Negative": _negative,
    "Absolute": _absolute,
    "Square": _square,
    "Relu": _function("relu"),
    "Relu6": _function("relu6"),
    "Sigmoid": _function("sigmoid"),
    "Tanh": _function("tanh"),
    "Exp": _function("exponential"),
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "Silu": _function("silu"),
    "Selu": _function("selu"),
    "HardSigmoid": _function("hard_sigmoid"),
    "HardTanh": _function("hard_tanh"),
    "Elu": _function("elu", alpha=1.0),
    "LeakyRelu": _function("leaky_relu", negative_slope=0.2),
    "Gelu": _gelu,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Mean": _reduce("mean"),
    "Sum": _reduce("sum"),
    "Max": _reduce("max"),
    "Min": _reduce("min"),
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Flip": _flip,
    "GetItem": _get_item,
    "NotEqual": _not_equal,
    "Any": _any,
    "LogicalOr": _logical("any"),
    "LogicalAnd": _logical("all"),
    "ConvertToTensor": _as_it_is,
    "StopGradient": _as_it_is,
    "ZerosLike": lambda call, args: Spread(),
    "OnesLike": lambda call, args: Spread(everywhere=True),
}
