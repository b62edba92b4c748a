"""TensorFlow's operations between the layers of a model of tf.keras 2.0 to 2.3: TensorFlowOpLayer holds one each.

Later versions write them where they build a model in the graph mode of TensorFlow 1. The layer's ``node_def`` is a
NodeDef of TensorFlow, as JSON, or as the text of its bytes in older files; ``constants`` are those inputs of the
operation that are no tensors of the model, by their place. What is computed is in the table of TensorFlow's functions.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Computed, LayerCall
from cylstm.formats.keras.operations import shapes
from cylstm.formats.keras.operations.arithmetic import cast
from cylstm.formats.keras.operations.masks import MASKS
from cylstm.formats.keras.operations.network import KerasNetwork, Operations
from cylstm.formats.keras.operations.tensorflow import FUNCTIONS
from cylstm.formats.untrusted.protobuf import Field, Schemas, read_message
from cylstm.program.tensor import Dim, dtype_of, is_constant

_MOST_INPUTS = 1024

# The node


class Node(NamedTuple):
    """A NodeDef of TensorFlow.

    Attributes
    ----------
    operation : str
    attributes : dict
        Numbers, texts, truths, types as "DT_FLOAT", and lists of them.
    """

    operation: str
    attributes: Mapping[str, Any]


#: of what TensorFlow serialises to bytes
_SCHEMAS: Schemas = {
    "NodeDef": {
        1: Field("name", "text"),
        2: Field("op", "text"),
        3: Field("input", "text", True),
        4: Field("device", "skipped"),
        5: Field("attr", "entry", True),
        6: Field("experimental_debug_info", "skipped"),
        7: Field("experimental_type", "skipped"),
    },
    "entry": {1: Field("key", "text"), 2: Field("value", "AttrValue")},
    "AttrValue": {
        1: Field("list", "ListValue"),
        2: Field("s", "bytes"),
        3: Field("i", "int"),
        4: Field("f", "float"),
        5: Field("b", "uint"),
        6: Field("type", "uint"),
        7: Field("shape", "bytes"),
        8: Field("tensor", "bytes"),
        9: Field("placeholder", "text"),
        10: Field("func", "bytes"),
    },
    "ListValue": {
        2: Field("s", "bytes", True),
        3: Field("i", "int", True),
        4: Field("f", "float", True),
        5: Field("b", "uint", True),
        6: Field("type", "uint", True),
        7: Field("shape", "bytes", True),
        8: Field("tensor", "bytes", True),
        9: Field("func", "bytes", True),
    },
}
#: TensorFlow's numbers of types
_TYPES = {1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16", 19: "DT_HALF"}
#: Keras's names of types
_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32", "DT_INT64": "int64", "DT_BOOL": "bool"}


def node_of(what: str, given: object) -> Node:
    """The operation that a layer's ``node_def`` describes. Raises `FormatError`."""
    if isinstance(given, str):
        found = read_message(given.encode("utf-8", "surrogatepass"), _SCHEMAS, "NodeDef", f"{what}: node_def")
        entries = {entry.get("key", ""): entry.get("value", {}) for entry in found.get("attr", [])}
    elif isinstance(given, dict):
        found = given
        entries = given.get("attr", {})
    else:
        raise FormatError(f"{what}: option node_def expected an object or a text, found {given!r:.80}")
    operation = found.get("op")
    if not isinstance(operation, str) or not isinstance(entries, dict):
        raise FormatError(f"{what}: option node_def expected an operation and its attributes, found {found!r:.80}")
    return Node(operation, {key: _attribute(f"{what}: attribute {key!r:.60}", one) for key, one in entries.items()})


def _attribute(what: str, value: object) -> Any:
    """``{"i": "3"}`` as 3. What a serialised message leaves out is 0, as in protocol buffers."""
    if isinstance(value, dict) and len(value) <= 1:
        for kind, one in value.items():
            if kind != "list":
                return _number(what, kind, one)
            if isinstance(one, dict) and all(isinstance(items, (list, np.ndarray)) for items in one.values()):
                return [_number(what, inner, item) for inner, items in one.items() for item in items]
        if not value:
            return 0
    raise FormatError(f"{what}: expected one value, found {value!r:.80}")


def _number(what: str, kind: str, value: Any) -> Any:
    try:
        if kind == "i" and isinstance(value, (str, int, np.integer)):
            return int(value)  # JSON holds numbers of 64 bits as text
        if kind == "f" and isinstance(value, (str, int, float, np.floating)):
            return float(value)
        if kind == "type":
            return value if isinstance(value, str) else _TYPES.get(int(value), f"type {value}")
        if kind == "s" and isinstance(value, (str, bytes, memoryview)):  # in JSON in base 64
            return (b64decode(value, validate=True) if isinstance(value, str) else bytes(value)).decode("ascii")
    except (ValueError, TypeError, OverflowError):
        pass
    if kind == "b":
        return bool(value)
    if kind in ("shape", "tensor", "func", "placeholder"):
        return f"a {kind}"
    raise FormatError(f"{what}: expected a value, found {kind!r:.20} of {value!r:.60}")


# The layer


def add_op_layer(operations: Operations, call: LayerCall, args: Sequence[Any]) -> list[Any]:
    """The results of the operation of a TensorFlowOpLayer. Raises `UnsupportedError` for one that is not computed."""
    node = node_of(call.what, call.layer.config.get("node_def"))
    name = node.operation
    if name in _REFUSED:
        raise UnsupportedError(f"{call.what}: TensorFlow's operation {name}: {_REFUSED[name]}")
    operation = OPERATIONS.get(name)
    if operation is None:
        raise UnsupportedError(
            f"{call.what}: TensorFlow's operation {name:.60} is not supported; docs/supported.md lists the "
            f"{len(OPERATIONS)} that are. Use a layer of Keras's instead, or a Lambda, which custom_layers= reads"
        )
    inputs = _inputs(call, args)
    attributes = {key: value for key, value in node.attributes.items() if key in operation.attributes}
    for key in sorted(set(node.attributes) - set(attributes) - _OF_NO_MATTER):
        if not key.startswith("_"):
            raise UnsupportedError(
                f"{call.what}: TensorFlow's operation {name}: its attribute {key:.60}={node.attributes[key]!r:.60} is "
                "not supported"
            )
    rule = MASKS[_MASKS[name]] if name in _MASKS else None
    masked = rule(call, inputs[:2] if name != "Any" else inputs) if rule is not None else None
    if masked is not None:
        return [
            Computed(call.name, call.what, lambda: operations.add(call, operation.function, inputs, attributes), masked)
        ]
    return operations.results(call, operations.add(call, operation.function, inputs, attributes))


def _inputs(call: LayerCall, args: Sequence[Any]) -> list[Any]:
    """The model's tensors, with the constants between them."""
    inputs = [one for given in args for one in (given if isinstance(given, list) else [given])]
    constants = call.layer.config.get("constants") or {}
    if not isinstance(constants, dict) or len(constants) > _MOST_INPUTS:
        raise FormatError(f"{call.what}: option constants expected an object, found {constants!r:.80}")
    for key, value in constants.items():
        place = int(key) if key.isascii() and key.isdigit() and len(key) < 6 else len(inputs) + 1
        if place > len(inputs):
            raise FormatError(f"{call.what}: a constant for input {key!r:.40} of {len(inputs)} others")
        inputs.insert(place, value)
    return inputs


#: operations by which a model computes a mask -> the same of Keras 3
_MASKS = {
    "NotEqual": "NotEqual",
    "Any": "Any",
    "LogicalAnd": "LogicalAnd",
    "LogicalOr": "LogicalOr",
    "Identity": "StopGradient",
    "StopGradient": "StopGradient",
}

#: attributes that say of which types inputs are, or how many: the inputs themselves show it
_OF_NO_MATTER = {
    "T", "N", "Tidx", "Index", "Tshape", "Tperm", "Tmultiples", "Tdim", "Tpaddings", "Tindices", "Tparams", "Taxis",
    "Tlen", "Tshift", "Tk", "Tindex", "TI", "SrcT", "Truncate", "out_type", "output_type", "index_type",
    "incompatible_shape_error", "validate_indices", "num", "sorted", "grad_a", "grad_b", "grad_x", "grad_y",
}  # fmt: skip

#: why some are not computed
_REFUSED = {
    **dict.fromkeys(
        ("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt", "Multinomial", "RandomShuffle",
         "StatelessRandomUniform", "StatelessRandomNormal"),
        "random numbers, which differ from call to call; leave it out, or use the layer Dropout or GaussianNoise",
    ),
    **dict.fromkeys(
        ("While", "StatelessWhile", "If", "StatelessIf", "PyFunc", "EagerPyFunc", "MapDefun", "PartitionedCall",
         "StatefulPartitionedCall"),
        "it calls a function that the file does not hold; use tf.where, TimeDistributed or RNN",
    ),
    **dict.fromkeys(
        ("Where", "Unique", "UniqueV2", "DynamicPartition"), "its result's size depends on the "
        "numbers; use tf.where of three arguments, or multiply by the mask",
    ),
    **dict.fromkeys(
        ("ReadVariableOp", "VarHandleOp", "VariableV2", "ResourceGather"),
        "a variable outside of the layers, which the file does not hold; make a layer of it",
    ),
    **dict.fromkeys(("Print", "PrintV2", "Assert"), "it computes nothing; leave it out"),
}  # fmt: skip


# The operations


class Operation(NamedTuple):
    """What computes an operation: ``function(net, *inputs, **attributes)``, and which attributes it takes."""

    function: Callable[..., Any]
    attributes: tuple[str, ...] = ()


def of(name: str, *plain: int, **attributes: str) -> Operation:
    """The function of TensorFlow of this name.

    `plain` are the places of inputs that are no tensors but axes or sizes, `attributes` the parameters that attributes
    of the operation are.
    """
    function = FUNCTIONS[name]

    def found(net: KerasNetwork, *inputs: Any, **given: Any) -> Any:
        args = [_plain(net, one) if place in plain else one for place, one in enumerate(inputs)]
        return function(net, *args, **{attributes[key]: one for key, one in given.items()})

    return Operation(found, tuple(attributes))


def _plain(net: KerasNetwork, given: Any) -> Any:
    """Axes or sizes, as numbers and lists."""
    if isinstance(given, (tuple, list)):
        return [_plain(net, one) for one in given]
    if isinstance(given, (int, float, Dim)):
        return given
    if isinstance(given, np.ndarray):
        return given.tolist()
    raise net.refuse("axes or sizes that the network computes are not supported")


def concat(net: KerasNetwork, *inputs: Any) -> Any:
    *values, axis = inputs
    return FUNCTIONS["concat"](net, values, _plain(net, axis))


def pack(net: KerasNetwork, *values: Any, axis: int = 0) -> Any:
    if values and all(isinstance(one, (int, Dim)) for one in values):
        return tuple(values)
    return FUNCTIONS["stack"](net, list(values), axis)


def unpack(net: KerasNetwork, value: Any, axis: int = 0) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return FUNCTIONS["unstack"](net, value, None, axis)


def split(net: KerasNetwork, axis: Any, value: Any, num_split: int) -> Any:
    return FUNCTIONS["split"](net, value, num_split, _plain(net, axis))


def strided_slice(
    net: KerasNetwork,
    x: Any,
    begin: Any,
    end: Any,
    strides: Any,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Any:
    """``x[begin:end:strides]``; each bit of a mask says how its index is meant."""
    starts, stops, steps = (_plain(net, one) for one in (begin, end, strides))
    if not len(starts) == len(stops) == len(steps) or len(starts) > 32:
        raise net.refuse("expected as many begins as ends and strides")
    spec: list[Any] = []
    for k, (start, stop, step) in enumerate(zip(starts, stops, steps)):
        bit = 1 << k
        if ellipsis_mask & bit:
            spec.append(Ellipsis)
        elif new_axis_mask & bit:
            spec.append(None)
        elif shrink_axis_mask & bit:
            spec.append(start)
        else:
            spec.append(slice(None if begin_mask & bit else start, None if end_mask & bit else stop, step))
    return shapes.get_item(net, x, spec)


def divide(net: KerasNetwork, x: Any, y: Any) -> Any:
    if "int" in (dtype_of(x), dtype_of(y)) or isinstance(x, (tuple, Dim)):
        raise net.refuse("a division of whole numbers towards 0 is not supported; x // y is")
    return FUNCTIONS["math.truediv"](net, x, y)


def cast_to(net: KerasNetwork, x: Any, DstT: str) -> Any:
    if DstT not in _DTYPES:
        raise net.refuse(f"a cast to {DstT} is not supported")
    if isinstance(x, (tuple, Dim)) and DstT in ("DT_INT32", "DT_INT64"):
        return x
    return cast(net, x, _DTYPES[DstT])


def bias_add(net: KerasNetwork, value: Any, bias: Any, data_format: str = "NHWC") -> Any:
    if data_format != "NHWC":
        raise net.refuse("biases of the channels first are not supported; add them in their shape")
    return FUNCTIONS["nn.bias_add"](net, value, bias)


def select(net: KerasNetwork, condition: Any, x: Any, y: Any) -> Any:
    if is_constant(condition) or dtype_of(condition) != "bool":
        raise net.refuse("expected truths to choose by")
    return FUNCTIONS["where"](net, condition, x, y)


def mirror_pad(net: KerasNetwork, x: Any, paddings: Any, mode: str = "REFLECT") -> Any:
    return FUNCTIONS["pad"](net, x, _plain(net, paddings), mode)


def gather(net: KerasNetwork, params: Any, indices: Any, axis: Any, batch_dims: int = 0) -> Any:
    if isinstance(params, tuple):
        return _parts_of_shape(params, _plain(net, indices))
    return FUNCTIONS["gather"](net, params, indices, None, _plain(net, axis), batch_dims)


def _parts_of_shape(sizes: tuple[Any, ...], places: Any) -> Any:
    return sizes[places] if isinstance(places, int) else tuple(sizes[place] for place in places)


def product(net: KerasNetwork, x: Any, axis: Any, keep_dims: bool = False) -> Any:
    if isinstance(x, tuple) and not keep_dims:  # the number of elements of a part of a shape
        found: Any = 1
        for size in x:
            found = size * found if isinstance(found, int) else found * size
        return found
    return FUNCTIONS["math.reduce_prod"](net, x, _plain(net, axis), keep_dims)


def diagonal(net: KerasNetwork, x: Any, k: Any, padding: Any, align: str = "") -> Any:
    if _plain(net, k) != 0:
        raise net.refuse("another diagonal than the main one is not supported")
    return FUNCTIONS["linalg.diag_part"](net, x)


_ONE = {
    "Abs": "abs", "Neg": "negative", "Square": "square", "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Exp": "exp", "Log": "log",
    "Log1p": "log1p", "Expm1": "expm1", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos",
    "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
    "Sign": "sign", "Round": "round", "Rint": "rint", "Floor": "floor", "Ceil": "ceil", "Reciprocal": "reciprocal",
    "Inv": "reciprocal", "Erf": "erf", "Erfc": "erfc", "IsNan": "is_nan", "IsInf": "is_inf", "IsFinite": "is_finite",
    "LogicalNot": "logical_not",
}  # fmt: skip
_TWO = {
    "Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv",
    "DivNoNan": "divide_no_nan", "FloorDiv": "floordiv", "FloorMod": "floormod", "Pow": "pow", "Maximum": "maximum",
    "Minimum": "minimum", "SquaredDifference": "squared_difference", "MulNoNan": "multiply_no_nan", "Equal": "equal",
    "NotEqual": "not_equal", "Less": "less", "LessEqual": "less_equal", "Greater": "greater",
    "GreaterEqual": "greater_equal", "LogicalAnd": "logical_and", "LogicalOr": "logical_or", "Atan2": "atan2",
}  # fmt: skip
_REDUCTIONS = {
    "Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Any": "any", "All": "all",
    "EuclideanNorm": "euclidean_norm",
}  # fmt: skip

#: TensorFlow's name of an operation -> what computes it
OPERATIONS: Mapping[str, Operation] = {
    **{name: of(f"math.{other}") for name, other in (_ONE | _TWO).items()},
    **{name: of(f"math.reduce_{other}", 1, keep_dims="keepdims") for name, other in _REDUCTIONS.items()},
    **{name: of(name.lower()) for name in (
        "Relu", "Relu6", "Elu", "Selu", "Softplus", "Softsign", "Tanh", "Sigmoid", "Softmax")},
    "Prod": Operation(product, ("keep_dims",)),
    "LogSoftmax": of("log_softmax"),
    "LeakyRelu": of("leaky_relu", alpha="alpha"),
    "Div": Operation(divide),
    "AddN": Operation(lambda net, *inputs: FUNCTIONS["math.add_n"](net, list(inputs))),
    "ClipByValue": of("clip_by_value"),
    "BiasAdd": Operation(bias_add, ("data_format",)),
    "Cast": Operation(cast_to, ("DstT",)),
    "Select": Operation(select),
    "SelectV2": Operation(select),
    "Identity": of("identity"),
    "IdentityN": Operation(lambda net, *inputs: list(inputs)),
    "StopGradient": of("stop_gradient"),
    "PreventGradient": of("stop_gradient"),
    "ArgMax": of("math.argmax", 1),
    "ArgMin": of("math.argmin", 1),
    "Cumsum": of("math.cumsum", 1, exclusive="exclusive", reverse="reverse"),
    "Cumprod": of("math.cumprod", 1, exclusive="exclusive", reverse="reverse"),
    "TopKV2": of("math.top_k", 1),
    "ConcatV2": Operation(concat),
    "Pack": Operation(pack, ("axis",)),
    "Unpack": Operation(unpack, ("axis",)),
    "Split": Operation(split, ("num_split",)),
    "SplitV": Operation(lambda net, value, sizes, axis, num_split=0: FUNCTIONS["split"](
        net, value, _plain(net, sizes), _plain(net, axis)), ("num_split",)),
    "StridedSlice": Operation(
        strided_slice, ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")),
    "Slice": of("slice", 1, 2),
    "Reshape": of("reshape", 1),
    "Transpose": of("transpose", 1),
    "ExpandDims": of("expand_dims", 1),
    "Squeeze": of("squeeze", squeeze_dims="axis"),
    "Tile": of("tile", 1),
    "Pad": of("pad", 1),
    "PadV2": Operation(lambda net, x, paddings, value: FUNCTIONS["pad"](
        net, x, _plain(net, paddings), constant_values=value)),
    "MirrorPad": Operation(mirror_pad, ("mode",)),
    "ReverseV2": of("reverse", 1),
    "Roll": of("roll", 1, 2),
    "Gather": of("gather"),
    "GatherV2": Operation(gather, ("batch_dims",)),
    "BroadcastTo": of("broadcast_to", 1),
    "Shape": of("shape"),
    "Size": of("size"),
    "Rank": of("rank"),
    "ZerosLike": of("zeros_like"),
    "OnesLike": of("ones_like"),
    "Fill": of("fill", 0),
    "Range": of("range", 0, 1, 2),
    "OneHot": Operation(lambda net, indices, depth, on, off, axis=-1: FUNCTIONS["one_hot"](
        net, indices, _plain(net, depth), on, off, axis), ("axis",)),
    "MatMul": of("linalg.matmul", transpose_a="transpose_a", transpose_b="transpose_b"),
    **{name: of("linalg.matmul", adj_x="adjoint_a", adj_y="adjoint_b") for name in (
        "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")},
    "Einsum": Operation(
        lambda net, *inputs, equation: FUNCTIONS["einsum"](net, equation, *inputs), ("equation",)),
    "MatrixBandPart": of("linalg.band_part", 1, 2),
    "MatrixDiagPart": of("linalg.diag_part"),
    "MatrixDiagPartV3": Operation(diagonal, ("align",)),
    "Cross": of("linalg.cross"),
}  # fmt: skip
