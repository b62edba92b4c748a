"""Operations of ``keras.ops.nn``: activations, normalisation, pooling. The parameters have Keras's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.formats.keras.operations.arithmetic import cast, tensor
from cylstm.formats.keras.operations.axes import dims_of
from cylstm.formats.keras.operations.network import KerasNetwork
from cylstm.formats.keras.operations.shapes import inner_axis, rank_of
from cylstm.program.operations import activations, elementwise
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.reduce import cumulate, reduce, top, variance
from cylstm.program.operations.softmax import softmax as softmax_along
from cylstm.program.tensor import BATCH, Dim, Scores, Tensor, is_constant, shape_of


def activated(name: str, *values: float) -> Callable[..., Any]:
    return lambda net, x: elementwise.activation(net, tensor(net, x), name, *values)


def with_alpha(name: str, key: str, default: float) -> Callable[..., Any]:
    """An activation with one number, which Keras calls `key`."""

    def found(net: KerasNetwork, x: Any, **options: Any) -> Any:
        if set(options) - {key}:
            raise TypeError(f"found {', '.join(options)}")
        return elementwise.activation(net, tensor(net, x), name, float(options.get(key, default)))

    return found


def gelu(net: KerasNetwork, x: Any, approximate: bool = True) -> Any:
    return elementwise.activation(net, tensor(net, x), "gelu_tanh" if approximate else "gelu")


def softmax(net: KerasNetwork, x: Any, axis: Any = -1, log: bool = False) -> Any:
    x = tensor(net, x)
    if isinstance(x, Scores) and axis in (-1, x.ndim - 1):
        return softmax_along(net, x, -1, log)
    dims = dims_of(net, x, axis)
    if len(dims) == 1:
        if is_constant(x):
            return softmax_along(net, x, dims[0], log)
        x = net.tensor(x)
        if not log and x.axes[dims[0]] == len(x.value.shape) - 1:
            return Tensor(net.add_layer("activation", x.value, options={"activation": "softmax"}), x.axes)
        return softmax_along(net, x, dims[0], log)
    lowered = elementwise.subtract(net, x, reduce(net, x, "max", dims, True))
    weights = elementwise.activation(net, lowered, "exponential")
    total = reduce(net, weights, "sum", dims, True)
    if log:
        return elementwise.subtract(net, lowered, elementwise.function(net, total, "log"))
    return elementwise.divide(net, weights, total)


def glu(net: KerasNetwork, x: Any, axis: Any = -1) -> Any:
    x = tensor(net, x)
    place = inner_axis(net, x, axis)
    size = shape_of(x)[place]
    if not isinstance(size, int) or size % 2:
        raise net.refuse(f"option axis expected an axis of an even size, found one of {size!r}")
    return activations.glu(net, x, place)


def squareplus(net: KerasNetwork, x: Any, b: float = 4) -> Any:
    """(x + sqrt(x^2 + b)) / 2."""
    x = tensor(net, x)
    root = elementwise.function(net, elementwise.add(net, elementwise.power(net, x, 2), float(b)), "sqrt")
    return elementwise.multiply(net, elementwise.add(net, x, root), 0.5)


def sparse_plus(net: KerasNetwork, x: Any) -> Any:
    """0 up to -1, x from 1 on, (x + 1)^2 / 4 between."""
    x = tensor(net, x)
    between = elementwise.multiply(net, elementwise.power(net, elementwise.add(net, x, 1.0), 2), 0.25)
    y = elementwise.where(net, elementwise.binary(net, "less", x, 1.0), between, x)
    return elementwise.where(net, elementwise.binary(net, "less_equal", x, -1.0), 0.0, y)


def sparsemax(net: KerasNetwork, x: Any, axis: Any = -1) -> Any:
    """max(x - t, 0), with Keras's t: the running sums of the numbers that stay, added up, less 1, by their count."""
    x = tensor(net, x)
    place = inner_axis(net, x, axis)
    size = shape_of(x)[place]
    if not isinstance(size, int):
        raise net.needs_time("a sparsemax over the time")
    moved = shapes.moveaxis(net, x, place, -1)
    ordered, _ = top(net, moved, size, -1)
    sums = cumulate(net, ordered, "sum", -1)
    counts = np.arange(1, size + 1, dtype=np.float32)
    weighed = elementwise.add(net, elementwise.multiply(net, ordered, counts), 1.0)
    inside = elementwise.binary(net, "greater", weighed, sums)
    count = reduce(net, inside, "sum", -1, True)
    total = reduce(net, elementwise.where(net, inside, sums, 0.0), "sum", -1, True)
    threshold = elementwise.divide(net, elementwise.subtract(net, total, 1.0), count)
    y = elementwise.activation(net, elementwise.subtract(net, moved, threshold), "relu")
    return shapes.moveaxis(net, y, -1, place)


def threshold(net: KerasNetwork, x: Any, threshold: float, default_value: float) -> Any:
    x = tensor(net, x)
    return elementwise.where(net, elementwise.binary(net, "greater", x, threshold), x, default_value)


def hard_shrink(net: KerasNetwork, x: Any, threshold: float = 0.5) -> Any:
    x = tensor(net, x)
    is_large = elementwise.binary(net, "greater", elementwise.function(net, x, "abs"), threshold)
    return elementwise.where(net, is_large, x, 0.0)


def one_hot(
    net: KerasNetwork, x: Any, num_classes: int, axis: Any = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """1 at the place that a number names; a number that names none has zeros alone."""
    if sparse:
        raise net.refuse("sparse tensors are not supported")
    x = tensor(net, x)
    net.checked(num_classes)
    rank = rank_of(net, x) + 1
    found = elementwise.binary(net, "equal", shapes.unsqueeze(net, x, -1), np.arange(num_classes))
    found = cast(net, found, "float32" if dtype is None else dtype)
    return found if axis % rank == rank - 1 else shapes.moveaxis(net, found, -1, axis % rank)


def multi_hot(
    net: KerasNetwork, inputs: Any, num_classes: Any = None, axis: Any = -1, dtype: Any = None, sparse: bool = False
) -> Any:
    """1 at each place that any number of the second axis names."""
    x = tensor(net, inputs)
    if num_classes is None:
        raise net.refuse("without num_classes it depends on the numbers")
    found = one_hot(net, x, num_classes, axis, "bool", sparse)
    y = reduce(net, found, "any", 1 if rank_of(net, x) > 1 else 0)
    return cast(net, y, "float32" if dtype is None else dtype)


def batch_norm(
    net: KerasNetwork,
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any = None,
    scale: Any = None,
    axis: Any = -1,
    epsilon: float = 1e-3,
) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, by numbers of one axis."""
    x = tensor(net, x)
    place = inner_axis(net, x, axis)
    arrays = {"mean": mean, "variance": variance, "gain": scale, "shift": offset}
    weights = {role: None if one is None else net.array(tensor(net, one)).reshape(-1) for role, one in arrays.items()}
    x = net.last(net.tensor(x), place)
    return Tensor(net.add_layer("batch_norm", x.value, weights, {"epsilon": float(epsilon)}), x.axes)


def layer_norm(
    net: KerasNetwork,
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    axis: Any = -1,
    epsilon: Any = None,
    rms_scaling: bool = False,
) -> Any:
    x, small = tensor(net, x), 1e-7 if epsilon is None else float(epsilon)
    dims = dims_of(net, x, axis)
    if rms_scaling:
        squares = variance(net, x, dims, 0.0, True)
        y = elementwise.multiply(net, x, elementwise.function(net, elementwise.add(net, squares, small), "rsqrt"))
    else:
        away = elementwise.subtract(net, x, reduce(net, x, "mean", dims, True))
        spread = elementwise.add(net, variance(net, x, dims, 0.0, True), small)
        y = elementwise.multiply(net, away, elementwise.function(net, spread, "rsqrt"))
    return _scaled(net, y, dims, gamma, None if rms_scaling else beta)


def rms_norm(net: KerasNetwork, x: Any, scale: Any = None, axis: Any = -1, epsilon: Any = None) -> Any:
    x, small = tensor(net, x), 1e-7 if epsilon is None else float(epsilon)
    dims = dims_of(net, x, axis)
    squares = reduce(net, elementwise.power(net, x, 2), "mean", dims, True)
    y = elementwise.multiply(net, x, elementwise.function(net, elementwise.add(net, squares, small), "rsqrt"))
    return _scaled(net, y, dims, scale, None)


def _scaled(net: KerasNetwork, y: Any, dims: list[int], gain: Any, shift: Any) -> Any:
    """By numbers over the normalised axes."""
    rank = rank_of(net, y)
    for one, function in ((gain, elementwise.multiply), (shift, elementwise.add)):
        if one is None:
            continue
        found = tensor(net, one)
        if rank_of(net, found) == len(dims) and is_constant(found):
            sizes = iter(np.shape(found))
            found = np.asarray(found).reshape([next(sizes) if i in dims else 1 for i in range(rank)])
        y = function(net, y, found)
    return y


def pooling(mode: str) -> Callable[..., Any]:
    """Over windows of (batch, time, features), or of images (batch, rows, columns, channels), axis by axis."""

    def found(
        net: KerasNetwork, inputs: Any, pool_size: Any, strides: Any = None, padding: str = "valid",
        data_format: Any = None,
    ) -> Any:  # fmt: skip
        x = net.tensor(tensor(net, inputs))
        count = x.ndim - 2
        sizes = _each(pool_size, count)
        steps = sizes if strides is None else _each(strides, count)
        if x.batch != 0 or not 1 <= count <= 3 or sizes is None or steps is None:
            raise net.refuse(
                f"pooling of a tensor {x.shape} is not supported; of (batch, time, features) or (batch, rows, columns, "
                "channels) it is"
            )
        if padding not in ("valid", "same"):
            raise net.refuse(f"padding={padding!r:.40} is not supported")
        order = sorted(x.inner, key=lambda i: not isinstance(x.size(i), Dim))
        value = net.arrange(x, order)
        for i, size, stride in zip(range(1 + (data_format == "channels_first"), x.ndim), sizes, steps, strict=False):
            options = {"mode": mode, "pool": size, "stride": stride, "padding": padding, "axis": order.index(i)}
            if (size, stride) != (1, 1):
                value = net.add_layer("pool1d", value, options=options)
        return Tensor(value, (BATCH, *map(order.index, x.inner)))

    return found


def _each(given: Any, count: int) -> list[int] | None:
    """`count` whole numbers, or one for all of them."""
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    numbers = numbers * count if len(numbers) == 1 else numbers
    fits = len(numbers) == count and all(type(one) is int and one > 0 for one in numbers)
    return numbers if fits else None


#: name of the class -> function
NN: Mapping[str, Callable[..., Any]] = {
    "Relu": activated("relu"),
    "Relu6": activated("clip", 0.0, 6.0),
    "Sigmoid": activated("sigmoid"),
    "Tanh": activated("tanh"),
    "Softplus": activated("softplus"),
    "Softsign": activated("softsign"),
    "Silu": activated("silu"),
    "Selu": activated("selu"),
    "HardSigmoid": activated("hard_sigmoid", 1.0 / 6.0, 0.5),
    "SparseSigmoid": activated("hard_sigmoid", 0.5, 0.5),
    "HardTanh": activated("clip", -1.0, 1.0),
    "HardSilu": lambda net, x: activations.hardswish(net, tensor(net, x)),
    "LogSigmoid": lambda net, x: activations.log_sigmoid(net, tensor(net, x)),
    "TanhShrink": lambda net, x: activations.tanhshrink(net, tensor(net, x)),
    "SoftShrink": lambda net, x, threshold=0.5: activations.softshrink(net, tensor(net, x), float(threshold)),
    "HardShrink": hard_shrink,
    "Threshold": threshold,
    "Elu": with_alpha("elu", "alpha", 1.0),
    "LeakyRelu": with_alpha("leaky_relu", "negative_slope", 0.2),
    "Celu": lambda net, x, alpha=1.0: activations.celu(net, tensor(net, x), float(alpha)),
    "Gelu": gelu,
    "Glu": glu,
    "Squareplus": squareplus,
    "SparsePlus": sparse_plus,
    "Sparsemax": sparsemax,
    "Softmax": softmax,
    "LogSoftmax": lambda net, x, axis=-1: softmax(net, x, axis, log=True),
    "OneHot": one_hot,
    "MultiHot": multi_hot,
    "BatchNorm": batch_norm,
    "LayerNorm": layer_norm,
    "RMSNorm": rms_norm,
    "MaxPool": pooling("max"),
    "AveragePool": pooling("average"),
}
