"""TensorFlow's functions between the layers of a Keras 2 model: TFOpLambda and SlicingOpLambda name them.

A TensorFlowOpLayer, of files before 2.4, holds an operation of TensorFlow's graphs instead: see `op_layers`.

The parameters have TensorFlow's names. A file that is newer or older than another names some of them otherwise:
``compat.v1.transpose`` is ``transpose``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Computed, LayerCall
from cylstm.formats.keras.operations import arithmetic, axes, nn, products, shapes
from cylstm.formats.keras.operations.arithmetic import cast, tensor
from cylstm.formats.keras.operations.masks import MASKS
from cylstm.formats.keras.operations.network import KerasNetwork, Operations
from cylstm.program.operations import constants, elementwise, parts
from cylstm.program.operations import shape as program_shapes
from cylstm.program.operations.conv import pad_axis
from cylstm.program.operations.reduce import cumulate, reduce
from cylstm.program.tensor import is_constant, shape_of

#: Keras 2's layers that are a function of TensorFlow
TENSORFLOW_LAYERS = ("TFOpLambda", "SlicingOpLambda")


def add_tensorflow(operations: Operations, call: LayerCall, args: Sequence[Any]) -> list[Any]:
    """The results of a function of TensorFlow on `args`. Raises `UnsupportedError` for one that is not computed."""
    given = call.layer.config.get("function")
    if not isinstance(given, str):
        raise FormatError(f"{call.what}: option function expected a name, found {given!r:.80}")
    name = given.removeprefix("compat.v1.").removeprefix("dtypes.")
    if name in REFUSED:
        raise UnsupportedError(f"{call.what}: tf.{given}: {REFUSED[name]}")
    last = name.rpartition(".")[2]
    function = next((FUNCTIONS[one] for one in (name, last, f"math.{last}") if one in FUNCTIONS), None)
    if function is None:
        raise UnsupportedError(
            f"{call.what}: the function tf.{given:.60} is not supported; docs/supported.md lists the "
            f"{len(FUNCTIONS)} that are"
        )
    if name == "einsum" and len(args) < 2:
        raise UnsupportedError(
            f"{call.what}: the file does not say what tf.einsum reads: Keras 2 writes its equation alone; "
            "use tf.matmul or tf.tensordot, or Keras 3"
        )
    options = {key: option for key, option in call.arguments.items() if key != "name"}
    mask_name = _MASKS.get(name)
    if mask_name is not None:
        ordered = [*args, *(options[key] for key in ("y", "axis") if key in options)]
        masked = MASKS[mask_name](call, ordered)
        if masked is not None:
            return [Computed(call.name, call.what, lambda: operations.add(call, function, args, options), masked)]
    return operations.results(call, operations.add(call, function, args, options))


#: functions by which Keras 2 computes a mask -> the same of Keras 3
_MASKS = {
    "math.not_equal": "NotEqual",
    "math.reduce_any": "Any",
    "math.logical_and": "LogicalAnd",
    "math.logical_or": "LogicalOr",
    "identity": "StopGradient",
    "stop_gradient": "StopGradient",
}


def of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda net, x, y: function(net, x, y)


def of_one(function: Callable[..., Any], key: str = "x") -> Callable[..., Any]:
    """A function of one tensor, which TensorFlow calls `key`."""

    def found(net: KerasNetwork, *args: Any, **options: Any) -> Any:
        given = [*args, *(options.pop(one) for one in (key, "x", "features", "input") if one in options)]
        if len(given) != 1 or options:
            raise TypeError(f"expected one tensor, found {', '.join(options) or len(given)}")
        return function(net, given[0])

    return found


def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda net, input_tensor, axis=None, keepdims=False: function(net, input_tensor, axis, bool(keepdims))


def place_of(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, input: Any, axis: Any = None, output_type: Any = None, dimension: Any = None) -> Any:
        place = next((one for one in (axis, dimension) if one is not None), 0)
        return axes.place_of(mode)(net, input, place)

    return found


def squared_difference(net: KerasNetwork, x: Any, y: Any) -> Any:
    return elementwise.power(net, arithmetic.subtract(net, x, y), 2)


def multiply_no_nan(net: KerasNetwork, x: Any, y: Any) -> Any:
    """x y, and 0 where y is 0."""
    x, y = tensor(net, x), tensor(net, y)
    is_zero = elementwise.binary(net, "equal", y, 0)
    return elementwise.where(net, is_zero, 0.0, elementwise.multiply(net, x, y))


def add_n(net: KerasNetwork, inputs: Any, shape: Any = None, tensor_dtype: Any = None) -> Any:
    found = shapes.listed(net, inputs)
    y = found[0]
    for one in found[1:]:
        y = elementwise.add(net, y, one)
    return y


def silu(net: KerasNetwork, features: Any, beta: float = 1.0) -> Any:
    x = tensor(net, features)
    if beta == 1:
        return elementwise.activation(net, x, "silu")
    return elementwise.multiply(net, x, elementwise.activation(net, elementwise.multiply(net, x, beta), "sigmoid"))


def reshape(net: KerasNetwork, tensor: Any, shape: Any) -> Any:
    sizes = shape.tolist() if isinstance(shape, np.ndarray) else shape
    return shapes.reshape(net, tensor, sizes)


def transpose(net: KerasNetwork, a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return shapes.transpose(net, a, perm)


def squeeze(net: KerasNetwork, input: Any, axis: Any = None, squeeze_dims: Any = None) -> Any:
    found = axis if axis is not None else squeeze_dims
    return shapes.squeeze(net, input, None if found == [] else found)


def concat(net: KerasNetwork, values: Any, axis: Any) -> Any:
    if isinstance(values, list) and any(isinstance(one, tuple) for one in values):
        return tuple(size for one in values for size in one)
    return shapes.concatenate(net, values, axis)


def split(net: KerasNetwork, value: Any, num_or_size_splits: Any, axis: Any = 0, num: Any = None) -> list[Any]:
    if isinstance(num_or_size_splits, int):
        return shapes.split(net, value, num_or_size_splits, axis)
    x = tensor(net, value)
    place = shapes.inner_axis(net, x, axis)
    total, sizes = shape_of(x)[place], list(num_or_size_splits)
    if not isinstance(total, int):
        raise net.needs_time("a split of the time")
    if -1 in sizes:
        sizes[sizes.index(-1)] = total - sum(size for size in sizes if size != -1)
    return list(parts.split(net, x, sizes, place))


def pad(net: KerasNetwork, tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    return shapes.pad(net, tensor, constant_values, pad_width=paddings, mode=str(mode).lower())


def part(net: KerasNetwork, input_: Any, begin: Any, size: Any) -> Any:
    return shapes.part(net, input_, begin, size)


def gather(
    net: KerasNetwork,
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Any:
    """Places of an axis, the same for all rows, or with batch_dims=1 those of each row."""
    x, places = tensor(net, params), tensor(net, indices)
    place = batch_dims if axis is None else shapes.axis_of(net, x, axis)
    if not batch_dims or is_constant(places):
        if is_constant(places) and batch_dims:
            raise net.refuse("constant places of each row are not supported")
        return shapes.take(net, x, places, place)
    rank = len(shape_of(places))
    if batch_dims != 1 or place != 1 or rank not in (1, 2):
        raise net.refuse(f"option batch_dims={batch_dims!r} with axis={axis!r} is not supported; 1 and 1 are")
    for _ in range(len(shape_of(x)) - rank):
        places = program_shapes.unsqueeze(net, places, -1)
    y = constants.gather(net, x, places, 1)
    return program_shapes.squeeze(net, y, 1) if rank == 1 else y


def band_part(net: KerasNetwork, input: Any, num_lower: int, num_upper: int) -> Any:
    """The numbers near the diagonal of the last two axes."""
    x = tensor(net, input)
    if num_lower >= 0:
        x = shapes.triangle(np.triu)(net, x, -num_lower)
    return x if num_upper < 0 else shapes.triangle(np.tril)(net, x, num_upper)


def matmul(
    net: KerasNetwork,
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    output_type: Any = None,
    grad_a: Any = None,
    grad_b: Any = None,
) -> Any:
    a, b = tensor(net, a), tensor(net, b)
    a = program_shapes.transpose(net, a, -2, -1) if transpose_a or adjoint_a else a
    b = program_shapes.transpose(net, b, -2, -1) if transpose_b or adjoint_b else b
    return products.matmul(net, a, b)


def norm(net: KerasNetwork, tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: Any = None) -> Any:
    return axes.vector_norm(net, tensor, None if ord == "euclidean" else ord, axis, bool(keepdims))


def l2_normalize(net: KerasNetwork, x: Any, axis: Any = None, epsilon: float = 1e-12, dim: Any = None) -> Any:
    """x / |x|, with at least epsilon under the root."""
    x = tensor(net, x)
    dims = axes.dims_of(net, x, axis if axis is not None else dim)
    squares = reduce(net, elementwise.power(net, x, 2), "sum", dims, True)
    inverse = elementwise.function(net, elementwise.clip(net, squares, float(epsilon), None), "rsqrt")
    return elementwise.multiply(net, x, inverse)


def running(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False) -> Any:
        x = net.tensor(tensor(net, x))
        place = shapes.inner_axis(net, x, axis)
        y = parts.flip(net, x, [place]) if reverse else x
        y = cumulate(net, y, mode, place)
        if exclusive:
            if mode != "sum":
                raise net.refuse("option exclusive is not supported")
            y = pad_axis(net, parts.slice_axis(net, y, place, 0, -1), place, 1, 0)
        return parts.flip(net, y, [place]) if reverse else y

    return found


def sort(net: KerasNetwork, values: Any, axis: Any = -1, direction: str = "ASCENDING") -> Any:
    x = tensor(net, values)
    if direction == "ASCENDING":
        return axes.sort(net, x, axis)
    return elementwise.multiply(net, axes.sort(net, elementwise.multiply(net, x, -1.0), axis), -1.0)


def argsort(net: KerasNetwork, values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = False) -> Any:
    x = tensor(net, values)
    return axes.argsort(net, x if direction == "ASCENDING" else elementwise.multiply(net, x, -1.0), axis)


def one_hot(
    net: KerasNetwork,
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: Any = None,
    dtype: Any = None,
) -> Any:
    y = nn.one_hot(net, indices, depth, -1 if axis is None else axis, dtype)
    on, off = 1.0 if on_value is None else on_value, 0.0 if off_value is None else off_value
    return y if (on, off) == (1, 0) else elementwise.where(net, elementwise.cast(net, y, "bool"), on, off)


def sequence_mask(net: KerasNetwork, lengths: Any, maxlen: Any = None, dtype: Any = None) -> Any:
    """Whether a place is before the end that a number of steps says."""
    if not isinstance(maxlen, int):
        raise net.needs_time("a mask up to the longest of the rows")
    net.checked(maxlen)
    x = program_shapes.unsqueeze(net, tensor(net, lengths), -1)
    found = elementwise.binary(net, "less", np.arange(maxlen), x)
    return found if dtype is None else cast(net, found, dtype)


def sizes(net: KerasNetwork, input: Any, out_type: Any = None, optimize: bool = True) -> Any:
    return tuple(shape_of(tensor(net, input)))


def made(value: float) -> Callable[..., Any]:
    return lambda net, shape, dtype="float32": shapes.full(net, value, shape, dtype)


def like(value: float) -> Callable[..., Any]:
    def found(
        net: KerasNetwork, input: Any = None, dtype: Any = None, optimize: bool = True, tensor: Any = None
    ) -> Any:
        return arithmetic.like(value)(net, input if input is not None else tensor, dtype)

    return found


def numbers(net: KerasNetwork, start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None) -> Any:
    return shapes.arange(net, start, limit, delta, dtype)


def batch_normalization(
    net: KerasNetwork, x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: float
) -> Any:
    return nn.batch_norm(net, x, mean, variance, offset, scale, -1, variance_epsilon)


def pooling(mode: str) -> Callable[..., Any]:
    def found(net: KerasNetwork, input: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NWC") -> Any:
        order = {"NWC": "channels_last", "NCW": "channels_first"}.get(data_format)
        if order is None:
            raise net.refuse(f"data_format={data_format!r:.40} is not supported")
        return nn.pooling(mode)(net, input, ksize, strides, str(padding).lower(), order)

    return found


def frames(
    net: KerasNetwork,
    signal: Any,
    frame_length: int,
    frame_step: int,
    pad_end: bool = False,
    pad_value: float = 0,
    axis: int = -1,
) -> Any:
    x = tensor(net, signal)
    if pad_end or axis not in (-1, len(shape_of(x)) - 1):
        raise net.refuse("frames with pad_end, or of another axis than the last, are not supported")
    return shapes.extract_sequences(net, x, frame_length, frame_step)


def einsum(net: KerasNetwork, equation: str, *inputs: Any, **others: Any) -> Any:
    return products.einsum(net, *inputs, subscripts=equation)


def where(net: KerasNetwork, condition: Any, x: Any = None, y: Any = None) -> Any:
    return arithmetic.where(net, condition, x, y)


def dropout(net: KerasNetwork, x: Any, rate: Any = None, **others: Any) -> Any:
    raise net.refuse("it drops numbers whenever it runs, also in a prediction; use the layer Dropout")


#: TensorFlow's name -> why it is not computed
REFUSED: Mapping[str, str] = {
    "boolean_mask": "a choice whose size depends on the numbers; multiply by the mask, or use tf.where",
    "unique": "its result's size depends on the numbers",
    "map_fn": "a function of Python's, which a file does not hold; use TimeDistributed",
    "scan": "a function of Python's, which a file does not hold; use RNN with a cell of Keras's",
    "while_loop": "a function of Python's, which a file does not hold",
    "cond": "a function of Python's, which a file does not hold; use tf.where",
    "py_function": "a function of Python's, which a file does not hold",
    "numpy_function": "a function of Python's, which a file does not hold",
    "random.normal": "random numbers, which differ from call to call; leave it out, or use GaussianNoise",
    "random.uniform": "random numbers, which differ from call to call; leave it out, or use Dropout",
}

_ONE = {
    "abs": "Absolute", "negative": "Negative", "square": "Square", "sqrt": "Sqrt", "rsqrt": "Rsqrt", "exp": "Exp",
    "log": "Log", "log1p": "Log1p", "expm1": "Expm1", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Arcsin",
    "acos": "Arccos", "atan": "Arctan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Arcsinh", "acosh": "Arccosh",
    "atanh": "Arctanh", "sign": "Sign", "round": "Round", "rint": "Round", "floor": "Floor", "ceil": "Ceil",
    "reciprocal": "Reciprocal", "erf": "Erf", "erfc": "Erfc", "is_nan": "Isnan", "is_inf": "Isinf",
    "is_finite": "Isfinite", "logical_not": "LogicalNot", "real": "Real",
}  # fmt: skip
_TWO = {
    "add": arithmetic.add, "subtract": arithmetic.subtract, "multiply": arithmetic.multiply,
    "truediv": arithmetic.divide, "divide": arithmetic.divide, "divide_no_nan": arithmetic.divide_no_nan,
    "pow": arithmetic.power, "squared_difference": squared_difference, "multiply_no_nan": multiply_no_nan,
    **{key: arithmetic.ARITHMETIC[name] for key, name in {
        "floordiv": "FloorDivide", "floor_div": "FloorDivide", "floormod": "Mod",
        "mod": "Mod", "maximum": "Maximum", "minimum": "Minimum",
        "equal": "Equal", "not_equal": "NotEqual", "less": "Less", "less_equal": "LessEqual", "greater": "Greater",
        "greater_equal": "GreaterEqual", "logical_and": "LogicalAnd", "logical_or": "LogicalOr",
        "logical_xor": "LogicalXor"}.items()},
}  # fmt: skip
_ACTIVATIONS = {
    "relu": "Relu", "relu6": "Relu6", "elu": "Elu", "selu": "Selu", "softplus": "Softplus", "softsign": "Softsign",
    "tanh": "Tanh", "sigmoid": "Sigmoid", "log_sigmoid": "LogSigmoid",
}  # fmt: skip
_REDUCTIONS = {
    "reduce_mean": axes.reduction("mean"), "reduce_sum": axes.reduction("sum"), "reduce_max": axes.extreme("max"),
    "reduce_min": axes.extreme("min"), "reduce_prod": axes.reduction("prod"), "reduce_any": axes.truth("any"),
    "reduce_all": axes.truth("all"), "reduce_std": axes.std, "reduce_variance": axes.var,
    "reduce_logsumexp": axes.logsumexp,
    "reduce_euclidean_norm": lambda net, x, axis, keepdims: axes.vector_norm(net, x, None, axis, keepdims),
}  # fmt: skip

#: TensorFlow's name -> function; where the module is left out, of any
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{f"math.{name}": of_one(arithmetic.ARITHMETIC[other]) for name, other in _ONE.items()},
    **{f"math.{name}": of_two(function) for name, function in _TWO.items()},
    **{name: of_one(nn.NN[other], "features") for name, other in _ACTIVATIONS.items()},
    **{f"math.{name}": reduction(function) for name, function in _REDUCTIONS.items()},
    "__operators__.add": of_two(arithmetic.add),
    "__operators__.eq": of_two(arithmetic.ARITHMETIC["Equal"]),
    "__operators__.ne": of_two(arithmetic.ARITHMETIC["NotEqual"]),
    "__operators__.getitem": lambda net, tensor, slice_spec, var=None: shapes.get_item(net, tensor, slice_spec),
    "math.atan2": lambda net, y, x: elementwise.binary(net, "atan2", tensor(net, y), tensor(net, x)),
    "math.add_n": add_n,
    "math.argmax": place_of("argmax"),
    "math.argmin": place_of("argmin"),
    "math.count_nonzero": lambda net, input, axis=None, keepdims=False, dtype=None: reduce(
        net, elementwise.cast(net, tensor(net, input), "bool"), "sum", axes.dims_of(net, input, axis), bool(keepdims)),
    "math.cumsum": running("sum"),
    "math.cumprod": running("prod"),
    "math.top_k": lambda net, input, k=1, sorted=True, index_type=None: axes.top_k(net, input, k),
    "nn.top_k": lambda net, input, k=1, sorted=True, index_type=None: axes.top_k(net, input, k),
    "l2_normalize": l2_normalize,
    "silu": silu,
    "swish": silu,
    "gelu": lambda net, features, approximate=False: nn.gelu(net, features, approximate),
    "leaky_relu": lambda net, features, alpha=0.2: elementwise.activation(
        net, tensor(net, features), "leaky_relu", float(alpha)),
    "softmax": lambda net, logits, axis=None, dim=None: nn.softmax(
        net, logits, next((one for one in (axis, dim) if one is not None), -1)),
    "log_softmax": lambda net, logits, axis=None, dim=None: nn.softmax(
        net, logits, next((one for one in (axis, dim) if one is not None), -1), log=True),
    "nn.bias_add": lambda net, value, bias, data_format=None: arithmetic.add(net, value, bias),
    "nn.batch_normalization": batch_normalization,
    "nn.moments": lambda net, x, axes, shift=None, keepdims=False, keep_dims=None: moments(
        net, x, axes, bool(keepdims or keep_dims)),
    "nn.max_pool1d": pooling("max"),
    "nn.avg_pool1d": pooling("average"),
    "nn.dropout": dropout,
    "clip_by_value": lambda net, t, clip_value_min, clip_value_max: arithmetic.clip(
        net, t, clip_value_min, clip_value_max),
    "where": where,
    "cast": lambda net, x, dtype: cast(net, x, dtype),
    "saturate_cast": lambda net, value, dtype: cast(net, value, dtype),
    "identity": of_one(arithmetic.same, "input"),
    "stop_gradient": of_one(arithmetic.same, "input"),
    "convert_to_tensor": lambda net, value, dtype=None, dtype_hint=None: arithmetic.as_it_is(net, value, dtype),
    "ensure_shape": lambda net, x, shape: tensor(net, x),
    "reshape": reshape,
    "keras.backend.batch_flatten": lambda net, x: program_shapes.flatten(net, tensor(net, x), 1, -1),
    "transpose": transpose,
    "expand_dims": lambda net, input, axis=None, dim=None: shapes.expand_dims(net, input, axis if dim is None else dim),
    "squeeze": squeeze,
    "concat": concat,
    "stack": lambda net, values, axis=0: shapes.stack(net, values, axis),
    "unstack": lambda net, value, num=None, axis=0: shapes.unstack(net, value, num, axis),
    "split": split,
    "tile": lambda net, input, multiples: shapes.tile(net, input, multiples),
    "repeat": lambda net, input, repeats, axis=None: shapes.repeat(net, input, repeats, axis),
    "pad": pad,
    "reverse": lambda net, tensor, axis: shapes.flip(net, tensor, axis),
    "roll": lambda net, input, shift, axis: shapes.roll(net, input, shift, axis),
    "slice": part,
    "gather": gather,
    "broadcast_to": lambda net, input, shape: shapes.broadcast_to(net, input, shape),
    "shape": sizes,
    "size": lambda net, input, out_type=None: shapes.size_of(net, input),
    "rank": lambda net, input: len(shape_of(tensor(net, input))),
    "zeros_like": like(0),
    "ones_like": like(1),
    "zeros": made(0),
    "ones": made(1),
    "fill": lambda net, dims, value: shapes.full(net, value, dims),
    "range": numbers,
    "linspace": lambda net, start, stop, num, axis=0: shapes.linspace(net, start, stop, num, axis=axis),
    "one_hot": one_hot,
    "sequence_mask": sequence_mask,
    "sort": sort,
    "argsort": argsort,
    "signal.frame": frames,
    "linalg.matmul": matmul,
    "linalg.matvec": lambda net, a, b, transpose_a=False: program_shapes.squeeze(
        net, matmul(net, a, program_shapes.unsqueeze(net, tensor(net, b), -1), bool(transpose_a)), -1),
    "linalg.band_part": band_part,
    "linalg.diag_part": lambda net, input: shapes.diagonal(net, input, 0, -2, -1),
    "linalg.trace": lambda net, x: shapes.trace(net, x, 0, -2, -1),
    "linalg.cross": lambda net, a, b: products.cross(net, a, b),
    "tensordot": lambda net, a, b, axes: products.tensordot(net, a, b, axes),
    "norm": norm,
    "einsum": einsum,
}  # fmt: skip


def moments(net: KerasNetwork, x: Any, dims: Any, keepdims: bool) -> list[Any]:
    return axes.moments(net, x, dims, keepdims)
