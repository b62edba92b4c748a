"""Operators of ONNX against NumPy, in models that are written without the onnx package."""

import math

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, ShapeError, UnsupportedError
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.operators import OPERATORS
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.network import Network
from cylstm.program.tensor import BATCH_SIZE, Dim

from tests.builders import onnx_files as files

#: rows, steps and features: all different
ROWS, STEPS, FEATURES = 3, 6, 4
FLOAT, INT32, INT64, BOOL, FLOAT16, BFLOAT16 = 1, 6, 7, 9, 10, 16


def i(*numbers):
    return np.array(numbers, np.int64)


def f(*numbers):
    return np.array(numbers, np.float32)


def wide(*size, seed=3):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def loaded(path, nodes, constants, shape=("batch", "time", FEATURES), version=18, **options):
    """A network of nodes (operator, inputs, outputs, attributes) from "x" to "y"."""
    made = [
        files.node(operator.rpartition(".")[2], inputs.split(), outputs.split(), domain=operator.rpartition(".")[0],
                   **attributes)
        for operator, inputs, outputs, attributes in nodes
    ]  # fmt: skip
    tensors = [files.tensor(name, array) for name, array in constants.items()]
    graph = files.graph(made, [files.value("x", shape)], [files.value("y", None)], tensors)
    path.write_bytes(files.model(graph, version, domains=["com.microsoft"]))
    return cylstm.load(path, **options)


def called(operator, *inputs, opset=18, outputs=1, **attributes):
    """The result of an operator of constants."""
    net = Network()
    net.name = "node"
    arrays = tuple(None if one is None else np.asarray(one) for one in inputs)
    return OPERATORS[operator](Call(net, operator, "node", arrays, attributes, opset, outputs))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


erf = np.vectorize(math.erf)
C = wide(FEATURES)

#: nodes, constants, what they compute; of x (rows, steps, features), of any number of steps
PROGRAMS = {
    "arithmetic": (
        [("Add", "x c", "a", {}), ("Sub", "a x", "b", {}), ("Mul", "b x", "d", {}), ("Div", "d two", "e", {}),
         ("Pow", "e two", "g", {}), ("Mod", "g one", "h", {"fmod": 1}), ("Sum", "h x c", "s", {}),
         ("Mean", "s x", "m", {}), ("Max", "m c", "n", {}), ("Min", "n one", "y", {})],
        {"c": C, "two": f(2.0), "one": f(1.0)},
        lambda x: np.minimum(np.maximum((np.fmod((C * x / 2) ** 2, 1) + x + C + x) / 2, C), 1)),
    "functions": (
        [("Abs", "x", "a", {}), ("Sqrt", "a", "b", {}), ("Neg", "x", "c", {}), ("Exp", "c", "d", {}),
         ("Log", "d", "e", {}), ("Tanh", "x", "g", {}), ("Erf", "x", "h", {}), ("Sin", "x", "k", {}),
         ("Sum", "b e g h k", "y", {})], {},
        lambda x: np.sqrt(np.abs(x)) - x + np.tanh(x) + erf(x) + np.sin(x)),
    "rounding": (
        [("Mul", "x two", "h", {}), ("Round", "h", "a", {}), ("Floor", "x", "b", {}), ("Ceil", "x", "c", {}),
         ("Sign", "x", "d", {}), ("Sum", "a b c d", "y", {})], {"two": f(2.0)},
        lambda x: np.round(2 * x) + np.floor(x) + np.ceil(x) + np.sign(x)),
    "activations": (
        [("Relu", "x", "a", {}), ("Sigmoid", "x", "b", {}), ("LeakyRelu", "x", "c", {"alpha": 0.3}),
         ("Elu", "x", "d", {"alpha": 1.5}), ("HardSigmoid", "x", "e", {}), ("HardSwish", "x", "g", {}),
         ("Softplus", "x", "h", {}), ("Gelu", "x", "k", {}), ("ThresholdedRelu", "x", "l", {"alpha": 0.5}),
         ("Shrink", "x", "m", {"lambd": 0.5, "bias": 0.1}), ("Clip", "x low high", "n", {}), ("PRelu", "x p", "o", {}),
         ("com.microsoft.QuickGelu", "x", "q", {}), ("Sum", "a b c d e g h k l m n o q", "y", {})],
        {"low": np.float32(-0.5), "high": np.float32(0.7), "p": np.abs(C)},
        lambda x: np.maximum(x, 0) + sigmoid(x) + np.where(x > 0, x, np.float32(0.3) * x)
        + np.where(x > 0, x, 1.5 * np.expm1(x)) + np.clip(np.float32(0.2) * x + 0.5, 0, 1)
        + x * np.clip(x / 6 + 0.5, 0, 1) + np.logaddexp(x, 0) + 0.5 * x * (1 + erf(x / math.sqrt(2)))
        + np.where(x > 0.5, x, 0) + np.where(x < -0.5, x + np.float32(0.1), np.where(x > 0.5, x - np.float32(0.1), 0))
        + np.clip(x, -0.5, np.float32(0.7)) + np.where(x < 0, np.abs(C) * x, x) + x * sigmoid(1.702 * x)),
    "truths": (
        [("Less", "x c", "a", {}), ("Greater", "x zero", "b", {}), ("And", "a b", "d", {}), ("Not", "d", "e", {}),
         ("Or", "d a", "g", {}), ("Xor", "g e", "h", {}), ("Where", "h x c", "k", {}),
         ("Cast", "b", "n", {"to": FLOAT}),
         ("IsNaN", "x", "o", {}), ("Where", "o c k", "p", {}), ("Add", "p n", "y", {})],
        {"c": C, "zero": np.float32(0)},
        lambda x: np.where((x < C) ^ ~((x < C) & (x > 0)), x, C) + (x > 0)),
    "whole numbers": (
        [("Mul", "x c", "a", {}), ("Cast", "a", "n", {"to": INT64}), ("Div", "n three", "q", {}),
         ("Mod", "n three", "r", {}), ("Sub", "q r", "d", {}), ("Cast", "d", "y", {"to": FLOAT})],
        {"c": np.float32(7), "three": np.int64(3)},
        lambda x: np.trunc(np.trunc(7 * x) / 3) - np.mod(np.trunc(7 * x), 3)),
    "reductions": (
        [("ReduceSum", "x at", "a", {}), ("ReduceMean", "x at", "b", {}), ("ReduceMax", "x at", "c", {}),
         ("ReduceL1", "x at", "d", {}), ("ReduceL2", "x at", "e", {}), ("ReduceLogSumExp", "x at", "g", {}),
         ("ReduceSumSquare", "x at", "h", {}), ("Sum", "a b c d e g h", "y", {})], {"at": i(-1)},
        lambda x: sum((x.sum(-1), x.mean(-1), x.max(-1), np.abs(x).sum(-1), np.sqrt((x * x).sum(-1)),
                       np.log(np.exp(x).sum(-1)), (x * x).sum(-1)))[..., np.newaxis]),
    "sums that run": (
        [("CumSum", "x one", "a", {}), ("CumSum", "x two", "b", {"exclusive": 1}),
         ("CumSum", "x two", "c", {"reverse": 1}), ("Sum", "a b c", "y", {})], {"one": np.int64(1), "two": np.int64(2)},
        lambda x: x.cumsum(1) + x.cumsum(2) - x + np.flip(np.flip(x, 2).cumsum(2), 2)),
    "softmax": (
        [("Softmax", "x", "a", {}), ("LogSoftmax", "x", "b", {"axis": 1}), ("Hardmax", "x", "c", {"axis": 2}),
         ("Sum", "a b c", "y", {})], {},
        lambda x: softmax(x, 2) + np.log(softmax(x, 1)) + (x == x.max(-1, keepdims=True))),
    "places": (
        [("ArgMax", "x", "p", {"axis": 2}), ("GatherElements", "x p", "a", {"axis": 2}),
         ("TopK", "x two", "b q", {"axis": 2}), ("Slice", "b zero one at", "c", {}), ("Add", "a c", "y", {})],
        {"two": i(2), "zero": i(0), "one": i(1), "at": i(2)}, lambda x: 2 * x.max(-1, keepdims=True)),
    "parts": (
        [("Slice", "x one end at", "a", {}), ("Slice", "x end start at back", "b", {}),
         ("Gather", "x odd", "c", {"axis": 2}),
         ("Split", "x sizes", "d e", {"axis": 2}), ("Concat", "a b c e d", "y", {"axis": -1})],
        {"one": i(1), "end": i(3), "start": i(-(1 << 63)), "at": i(2), "back": i(-2), "odd": i(3, 0, 0),
        "sizes": i(1, 3)},
        lambda x: np.concatenate([x[..., 1:3], x[..., 3::-2], x[..., [3, 0, 0]], x[..., 1:], x[..., :1]], -1)),
    "shapes": (
        [("Transpose", "x", "a", {"perm": [0, 2, 1]}), ("Unsqueeze", "a at", "b", {}), ("Squeeze", "b at", "c", {}),
         ("Transpose", "c", "d", {"perm": [0, 2, 1]}), ("Reshape", "d target", "e", {}), ("Tile", "e counts", "g", {}),
         ("Reshape", "g flat", "h", {}), ("Expand", "h same", "y", {})],
        {"at": i(1), "target": i(0, 0, 2, 2), "counts": i(1, 1, 1, 3), "flat": i(0, 0, -1), "same": i(1, 12)},
        lambda x: np.tile(x.reshape(*x.shape[:2], 2, 2), 3).reshape(*x.shape[:2], 12)),
    "sizes": (
        [("Shape", "x", "s", {}), ("Gather", "s zero", "n", {"axis": 0}), ("Gather", "s one", "t", {"axis": 0}),
         ("Unsqueeze", "n at", "n1", {}), ("Unsqueeze", "t at", "t1", {}), ("Mul", "t1 two", "more", {}),
         ("Concat", "n1 more two", "target", {"axis": 0}), ("Reshape", "x target", "a", {}),
         ("Range", "zero t one", "p", {}), ("Cast", "p", "q", {"to": FLOAT}), ("Unsqueeze", "q last", "r", {}),
         ("ConstantOfShape", "s", "o", {"value": f(0.5)}), ("Reshape", "a s", "b", {}), ("Sum", "b r o", "y", {})],
        {"zero": np.int64(0), "one": np.int64(1), "at": i(0), "two": i(2), "last": i(-1)},
        lambda x: x + np.arange(x.shape[1])[:, np.newaxis] + 0.5),
    "padding": (
        [("Pad", "x pads value", "a", {}), ("Pad", "a more", "b", {"mode": "edge"}),
         ("Pad", "b over nothing at", "y", {"mode": "reflect"})],
        {"pads": i(0, 1, 0, 0, 2, 1), "value": np.float32(-1.5), "more": i(0, 0, 1, 0, 1, 0), "over": i(1, -1),
        "at": i(2),
         "nothing": np.float32(0)},
        lambda x: np.pad(np.pad(np.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=-1.5),
                                ((0, 0), (0, 1), (1, 0)), "edge")[..., :-1], ((0, 0), (0, 0), (1, 0)), "reflect")),
    "resizing": (
        [("Resize", "x none scales", "y", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})],
        {"none": f(), "scales": f(1, 2, 1.5)}, lambda x: np.repeat(x, 2, 1)[..., [0, 0, 1, 2, 2, 3]]),
    "classes": (
        [("ArgMin", "x", "p", {"axis": 2, "keepdims": 0}), ("OneHot", "p depth values", "y", {})],
        {"depth": np.int64(4), "values": f(-0.5, 2.0)}, lambda x: np.where(x == x.min(-1, keepdims=True), 2.0, -0.5)),
    "writing": (
        [("Transpose", "x", "t", {"perm": [2, 0, 1]}), ("Slice", "t zero two", "u", {}),
         ("ScatterND", "t p u", "v", {"reduction": "add"}), ("Transpose", "v", "y", {"perm": [1, 2, 0]})],
        {"zero": i(0), "two": i(2), "p": i(3, 3).reshape(2, 1)},
        lambda x: np.concatenate([x[..., :3], x[..., 3:] + x[..., :1] + x[..., 1:2]], -1)),
    "a sum of products": (
        [("Einsum", "x w", "y", {"equation": "bti,io->bto"})], {"w": wide(FEATURES, 5)}, lambda x: x @ wide(FEATURES,
         5)),
    "a table": (
        [("Abs", "x", "a", {}), ("Cast", "a", "n", {"to": INT64}), ("Clip", "n zero two", "p", {}),
         ("Gather", "table p", "y", {})],
        {"table": wide(3, 2), "zero": np.int64(0), "two": np.int64(2)},
        lambda x: wide(3, 2)[np.clip(np.trunc(np.abs(x)), 0, 2).astype(int)]),
    "a place of each row": (
        [("ReduceMax", "x at", "m", {"keepdims": 0}), ("ArgMax", "m", "p", {"axis": 1, "keepdims": 0}),
         ("Shape", "x", "s", {}), ("Gather", "s zero", "n", {"axis": 0}), ("Gather", "s one", "t", {"axis": 0}),
         ("Range", "zero n one", "r", {}), ("Mul", "r t", "first", {}), ("Add", "first p", "q", {}),
         ("Reshape", "x flat", "f", {}), ("Gather", "f q", "a", {"axis": 0}), ("Unsqueeze", "r at1", "r1", {}),
         ("Unsqueeze", "p at1", "p1", {}), ("Concat", "r1 p1", "c", {"axis": 1}), ("GatherND", "x c", "b", {}),
         ("Add", "a b", "y", {})],
        {"at": i(2), "zero": np.int64(0), "one": np.int64(1), "flat": i(-1, FEATURES), "at1": i(1)},
        lambda x: 2 * np.stack([row[row.max(-1).argmax()] for row in x])),
    "rows turned around": (
        [("ReduceMax", "x at", "m", {"keepdims": 0}), ("Greater", "m big", "is", {}),
         ("Where", "is four five", "n", {}),
         ("ReverseSequence", "x n", "y", {"batch_axis": 0, "time_axis": 1})],
        {"at": i(1, 2), "big": np.float32(2.0), "four": np.int64(4), "five": np.int64(5)},
        lambda x: np.stack([np.concatenate([row[n - 1 :: -1] if n else row, row[n:]])
                            for row in x for n in [4 if row.max() > 2 else 5]])),
}  # fmt: skip


@pytest.mark.parametrize("steps", ["time", STEPS])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_operators_is_numpys(name, steps, tmp_path):
    nodes, constants, function = PROGRAMS[name]
    model = loaded(tmp_path / "net.onnx", nodes, constants, ("batch", steps, FEATURES), 20)
    x = wide(ROWS, STEPS, FEATURES, seed=8) * 1.5
    expected = function(x.astype(np.float64))
    found = model.predict(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * max(1.0, np.abs(expected).max()))


FOLDED = [
    ("Add", [i(1 << 60, 2), i(1 << 60, 3)], {}, i(1 << 61, 5)),
    ("Add", [np.int32([2**31 - 1]), np.int32([1])], {}, np.int32([-(2**31)])),
    ("Sub", [np.uint8([3]), np.uint8([5])], {}, np.uint8([254])),
    ("Div", [i(7, -7, 7, -7), i(2, 2, -2, -2)], {}, i(3, -3, -3, 3)),
    ("Mod", [i(7, -7, 7, -7), i(3, 3, -3, -3)], {}, i(1, 2, -2, -1)),
    ("Mod", [i(7, -7, 7, -7), i(3, 3, -3, -3)], {"fmod": 1}, i(1, -1, 1, -1)),
    ("Mod", [f(5.5, -5.5), f(2.0, 2.0)], {"fmod": 1}, f(1.5, -1.5)),
    ("Pow", [i(3, -2), i(2, 3)], {}, i(9, -8)),
    ("Pow", [f(2.0), i(-1)], {}, f(0.5)),
    ("BitShift", [np.uint8([200, 3]), np.uint8([1, 2])], {"direction": "LEFT"}, np.uint8([144, 12])),
    ("BitShift", [np.uint8([200, 3]), np.uint8([1, 1])], {"direction": "RIGHT"}, np.uint8([100, 1])),
    ("BitwiseXor", [i(6), i(3)], {}, i(5)),
    ("BitwiseNot", [i(6)], {}, i(-7)),
    ("Cast", [f(-1.7, 2.9, 0.0)], {"to": INT64}, i(-1, 2, 0)),
    ("Cast", [f(-1.7, 0.0)], {"to": BOOL}, np.array([True, False])),
    ("Cast", [i(-1)], {"to": 2}, np.uint8([255])),
    ("Cast", [f(1.0009765625, 1e9)], {"to": FLOAT16}, f(1.0009765625, np.inf)),
    ("Cast", [f(1.00390625, -3.01171875, np.nan)], {"to": BFLOAT16}, f(1.0, -3.015625, np.nan)),
    ("CastLike", [f(2.5), i(1)], {}, i(2)),
    ("Round", [f(0.5, 1.5, 2.5, -0.5, -1.5)], {}, f(0, 2, 2, -0.0, -2)),
    ("IsInf", [f(np.inf, -np.inf, 1)], {"detect_negative": 0}, np.array([True, False, False])),
    ("Clip", [i(5, -5), np.int64(-2), np.int64(3)], {}, i(3, -2)),
    ("Where", [np.array([True, False]), i(1, 2), i(3, 4)], {}, i(1, 4)),
    ("Max", [i(1, 5), i(3, 2), i(2, 9)], {}, i(3, 9)),
    ("Mean", [f(1.0), f(2.0), f(4.0)], {}, f(7 / 3)),
    ("Not", [np.array([True])], {}, np.array([False])),
    ("Sigmoid", [f(0.3)], {}, f(sigmoid(0.3))),
    ("Gelu", [f(0.3)], {"approximate": "tanh", "opset": 20}, f(0.18537094)),
    ("ReduceMean", [i(1, 2, 4)], {}, i(2)),
    ("ReduceLogSumExp", [f(1.0, 2.0)], {"keepdims": 0}, np.float32(np.log(np.exp(1) + np.exp(2)))),
    ("ReduceMax", [np.zeros((2, 0), np.float32), i(1)], {}, np.full((2, 1), -np.inf, np.float32)),
    ("ReduceSum", [i(1, 2, 4), i()], {"noop_with_empty_axes": 1}, i(1, 2, 4)),
    ("ArgMax", [i(1, 3, 3)], {"select_last_index": 1}, i(2)),
    ("CumSum", [i(1, 2, 3), np.int64(0)], {"exclusive": 1, "reverse": 1}, i(5, 3, 0)),
    ("CumProd", [i(1, 2, 3), np.int64(0)], {"exclusive": 1}, i(1, 1, 2)),
    ("Softmax", [f(0, 1, 2, 3).reshape(2, 2)], {"opset": 12, "axis": 0}, softmax(np.arange(4.0), 0).reshape(2, 2)),
    ("Softmax", [f(0, 1, 2, 3).reshape(2, 2)], {"axis": 0}, softmax(np.arange(4.0).reshape(2, 2), 0)),
    ("Hardmax", [f(1, 3, 3)], {"axis": 0}, f(0, 1, 0)),
    ("Trilu", [i(1, 2, 3, 4).reshape(2, 2), np.int64(-1)], {"upper": 0}, i(0, 0, 3, 0).reshape(2, 2)),
    ("NonZero", [i(0, 3, 0, 1)], {}, i(1, 3).reshape(1, 2)),
    ("Range", [np.int64(5), np.int64(0), np.int64(-2)], {}, i(5, 3, 1)),
    ("Range", [np.float32(0), np.float32(1), np.float32(0.4)], {}, f(0, 0.4, 0.8)),
    ("EyeLike", [f(0, 0, 0, 0).reshape(2, 2)], {"k": -1, "dtype": INT64}, i(0, 0, 1, 0).reshape(2, 2)),
    ("ConstantOfShape", [i(2, 1)], {"value": i(7)}, i(7, 7).reshape(2, 1)),
    ("ConstantOfShape", [i(0)], {}, f()),
    ("OneHot", [i(1, -1, 5), np.int64(3), f(-1, 2)], {"axis": 0}, f(-1, -1, -1, 2, -1, -1, -1, 2, -1).reshape(3, 3)),
    ("Pad", [i(1, 2, 3), i(2, 1)], {"mode": "reflect"}, i(3, 2, 1, 2, 3, 2)),
    ("Pad", [i(1, 2, 3), i(-1, 2), np.int64(9)], {}, i(2, 3, 9, 9)),
    ("CenterCropPad", [i(1, 2, 3, 4), i(1)], {}, i(2)),
    ("GatherND", [i(0, 1, 2, 3).reshape(2, 2), i(1, 0).reshape(2, 1)], {"batch_dims": 1}, i(1, 2)),
    ("ScatterElements", [i(1, 2, 3), i(1, 1), i(10, 20)], {"reduction": "mul"}, i(1, 400, 3)),
    ("ScatterND", [i(1, 2, 3), i(2).reshape(1, 1), i(-5)], {"reduction": "min"}, i(1, 2, -5)),
    ("Compress", [i(1, 2, 3), np.array([False, True, True])], {}, i(2, 3)),
    ("SpaceToDepth", [i(*range(4)).reshape(1, 1, 2, 2)], {"blocksize": 2}, i(*range(4)).reshape(1, 4, 1, 1)),
    ("DepthToSpace", [i(*range(8)).reshape(1, 8, 1, 1)], {"blocksize": 2, "mode": "CRD"},
     i(0, 1, 2, 3, 4, 5, 6, 7).reshape(1, 2, 2, 2)),
    ("Upsample", [f(1, 2), f(2)], {"opset": 9}, f(1, 1, 2, 2)),
    ("Resize", [f(1, 2), None, f(2)], {"mode": "linear"}, f(1, 1.25, 1.75, 2)),
    ("Einsum", [i(1, 2), i(3, 4)], {"equation": "i,i->"}, np.int64(11)),
    ("Size", [f(1, 2, 3)], {}, np.int64(3)),
    ("Shape", [np.zeros((2, 3, 4))], {"start": -2}, i(3, 4)),
    ("Flatten", [np.zeros((2, 3, 4), np.float32)], {"axis": -1}, np.zeros((6, 4), np.float32)),
    ("Reshape", [f(1, 2, 3, 4, 5, 6).reshape(2, 3), i(0, 3, -1)], {}, f(1, 2, 3, 4, 5, 6).reshape(2, 3, 1)),
    ("Slice", [i(0, 1, 2, 3), i(-1), i(-100), i(0), i(-3)], {}, i(3, 0)),
    ("ReverseSequence", [i(1, 2, 3, 4).reshape(2, 2), i(2, 1)], {}, i(3, 2, 1, 4).reshape(2, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "inputs", "attributes", "expected"), FOLDED, ids=lambda one: str(one)[:40])
def test_an_operator_of_constants_is_folded_with_its_type(operator, inputs, attributes, expected):
    attributes = dict(attributes)
    found = called(operator, *inputs, opset=attributes.pop("opset", 18), **attributes)
    assert isinstance(found, np.ndarray) and found.shape == np.shape(expected)
    assert found.dtype == np.asarray(inputs[0]).dtype or found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found.astype(np.float64), np.asarray(expected, np.float64), rtol=1e-6, equal_nan=True)


def test_parts_and_numbers_of_a_constant_come_with_several_results():
    for found, expected in zip(
        called("Split", i(1, 2, 3, 4, 5), outputs=2, axis=0), (i(1, 2, 3), i(4, 5)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    values, places = called("TopK", i(3, 9, 9, 1), i(3), outputs=2, opset=11)
    np.testing.assert_array_equal([values, places], [i(9, 9, 3), i(1, 2, 0)])
    values, places = called("TopK", i(3, 9, 9, 1), i(2), outputs=2, opset=11, largest=0)
    np.testing.assert_array_equal([values, places], [i(1, 3), i(3, 0)])
    found = called("Unique", i(5, 3, 5, 9), outputs=4, sorted=0)
    for one, expected in zip(found, (i(5, 3, 9), i(0, 1, 3), i(0, 1, 0, 2), i(2, 1, 1)), strict=True):
        np.testing.assert_array_equal(one, expected)


def a_size(number=None):
    """An array of one size: of the batch, or a number."""
    array = np.empty(1, object)
    array[0] = BATCH_SIZE if number is None else number
    return array


def test_sizes_are_computed_as_whole_numbers_are():
    rows = a_size()
    six = called("Mul", rows, i(6))
    assert six[0] == Dim(("batch",), 6) and called("Div", six, i(2))[0] == Dim(("batch",), 3)
    assert called("Div", six, rows).tolist() == [6] and called("Sub", six, six).tolist() == [0]
    assert called("Mod", six, i(3)).tolist() == [0]
    assert called("ReduceProd", called("Concat", rows, i(5), axis=0), keepdims=0).item() == Dim(("batch",), 5)
    for operator, other, expected in (
        ("Equal", i(-1), False), ("Equal", rows, True), ("Greater", i(0), True), ("Less", i(1), False),
        ("GreaterOrEqual", i(1), True), ("LessOrEqual", i(0), False),
    ):  # fmt: skip
        found = called(operator, rows, other)
        assert found.dtype == bool and found.tolist() == [expected]
    chosen = called("Where", called("Equal", rows, i(-1)), i(1), rows)
    assert chosen[0] == BATCH_SIZE and called("Max", rows, i(1))[0] == BATCH_SIZE
    assert called("Cast", rows, to=INT64)[0] == BATCH_SIZE


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("Equal", [a_size(), i(3)], {}), ("Less", [a_size(), i(3)], {}), ("Max", [a_size(), i(3)], {}),
        ("Neg", [a_size()], {}), ("Mul", [a_size(), i(-1)], {}), ("Mod", [a_size(), i(3)], {}),
        ("Sqrt", [a_size()], {}), ("Cast", [a_size()], {"to": FLOAT}), ("Cast", [a_size()], {"to": INT32 + 10}),
        ("Range", [np.int64(1), a_size(), np.int64(1)], {}), ("Tile", [f(1, 2), a_size()], {}),
        ("Add", [a_size(), a_size()], {}), ("ReduceMax", [a_size()], {}), ("ArgMax", [a_size()], {}),
    ],
    ids=lambda one: str(one)[:30],
)  # fmt: skip
def test_what_depends_on_the_number_of_rows_is_refused(operator, inputs, attributes):
    with pytest.raises(UnsupportedError, match=r"rows|batch"):
        called(operator, *inputs, **attributes)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "message"),
    [
        ("ConstantOfShape", [i(1 << 40)], {}, "1099511627776 numbers"),
        ("ConstantOfShape", [i(-1)], {}, "negative"),
        ("Expand", [f(1), i(1 << 20, 1 << 20)], {}, "1099511627776 numbers"),
        ("Tile", [f(1), i(1 << 40)], {}, "1099511627776 numbers"),
        ("Range", [np.int64(0), np.int64(1 << 40), np.int64(1)], {}, "1099511627776 numbers"),
        ("Range", [np.float32(0), np.float32(1), np.float32(0)], {}, "steps of 0"),
        ("Pad", [f(1), i(0, 1 << 40)], {}, "numbers"),
        ("Pad", [f(1), i(0)], {}, "expected pads of 1 axes"),
        ("OneHot", [i(1), np.int64(1 << 40), f(0, 1)], {}, "numbers"),
        ("Resize", [f(1), None, f(1 << 40)], {"coordinate_transformation_mode": "asymmetric"}, "numbers"),
        ("Add", [np.zeros((1 << 20, 1)), np.zeros((1, 1 << 20))], {}, "numbers"),
        ("Einsum", [np.zeros(1 << 20), np.zeros(1 << 20)], {"equation": "i,j->ij"}, "numbers"),
        ("Concat", [np.zeros(1 << 22, bool)] * 8, {"axis": 0}, "numbers"),
        ("Split", [f(1, 2)], {"num_outputs": 1 << 40}, "does not fit"),
        ("Add", [f(1, 2), f(1, 2, 3)], {}, "do not match"),
        ("Div", [i(1), i(0)], {}, "by 0"),
        ("Mod", [f(1), f(2)], {}, "fmod=1"),
        ("Cast", [f(1)], {"to": 17}, "float8e4m3fn"),
        ("Cast", [f(1)], {"to": 8}, "string"),
        ("CastLike", [f(1), np.int8([1])], {}, "use Cast"),
        ("Slice", [f(1, 2), i(0), i(1), i(0), i(0)], {}, "steps of 0"),
        ("Slice", [f(1, 2), i(0, 0), i(1, 1), i(0, 0)], {}, "an axis twice"),
        ("Slice", [f(1, 2), i(0), i(1, 1)], {}, "as many starts"),
        ("Gather", [f(1, 2), i(2)], {}, "places in an axis of 2"),
        ("Gather", [f(1, 2), i(0)], {"axis": 1}, "expected an axis"),
        ("GatherElements", [f(1, 2), i(0, 5)], {}, "places in an axis of 2"),
        ("ScatterND", [f(1, 2), i(5).reshape(1, 1), f(1)], {}, "out of bounds"),
        ("ScatterElements", [f(1, 2), i(0), f(1)], {"reduction": "mean"}, "reduction expected"),
        ("Squeeze", [f(1, 2), i(0)], {}, "expected size 1"),
        ("Reshape", [f(1, 2), i(3)], {}, "does not fit"),
        ("Reshape", [f(1, 2), i(2, 0)], {}, "has not"),
        ("Transpose", [f(1, 2)], {"perm": [0, 1]}, "a permutation"),
        ("Concat", [f(1), f(1, 2).reshape(1, 2)], {"axis": 0}, "cannot be joined"),
        ("Split", [f(1, 2, 3), i(1, 1)], {"axis": 0}, "does not fit"),
        ("Dropout", [f(1), np.float32(0.5), np.array(True)], {}, "random numbers"),
        ("Resize", [f(1, 2), None, f(2)], {"mode": "area"}, "mode expected"),
        ("Resize", [i(1, 2), None, f(2)], {"mode": "linear"}, "whole numbers"),
        ("Resize", [f(1, 2), None, f(2)], {"coordinate_transformation_mode": "tf_crop_and_resize"}, "coordinates"),
        ("Resize", [f(1, 2), None, None], {}, "either scales or sizes"),
        ("ReduceL1", [f(1, 2), i()], {"noop_with_empty_axes": 1}, "noop_with_empty_axes"),
        ("ReverseSequence", [i(1, 2, 3, 4).reshape(2, 2), i(3, 1)], {}, "a length of 3 of 2 steps"),
        ("TopK", [f(1, 2), i(3)], {}, "3 of the largest of 2"),
        ("Constant", [], {"value_string": "a"}, "a text"),
        ("BitShift", [np.uint8([1]), np.uint8([1])], {"direction": "UP"}, "direction expected"),
    ],
    ids=lambda one: str(one)[:30],
)  # fmt: skip
def test_what_does_not_fit_or_is_not_supported_is_refused_with_a_sentence(operator, inputs, attributes, message):
    with pytest.raises(CylstmError, match=message):
        called(operator, *inputs, **attributes)


@pytest.mark.parametrize(
    ("nodes", "constants", "error", "message"),
    [
        ([("Gather", "x at", "y", {"axis": 0})], {"at": i(0)}, UnsupportedError, "mixes the rows"),
        ([("ReduceSum", "x", "y", {})], {}, UnsupportedError, "mixes"),
        ([("Softmax", "x", "y", {"axis": 0})], {}, UnsupportedError, "mixes"),
        ([("Squeeze", "x at", "y", {})], {"at": i(0)}, UnsupportedError, "mixes"),
        ([("Shape", "x", "s", {}), ("Gather", "s at", "n", {}), ("Range", "at n one", "r", {}),
          ("Cast", "r", "y", {"to": FLOAT})], {"at": np.int64(0), "one": np.int64(1)}, UnsupportedError, "mixes"),
        ([("Shape", "x", "s", {}), ("Gather", "s at", "n", {}), ("Range", "at n one", "r", {}),
          ("Mul", "r two", "q", {}), ("Gather", "x q", "y", {})],
         {"at": np.int64(0), "one": np.int64(1), "two": np.int64(2)}, UnsupportedError, "mixes"),
        ([("Trilu", "x", "y", {})], {}, StaticTimeNeeded, "a triangle over the time"),
        ([("Cast", "x", "y", {"to": 2})], {}, UnsupportedError, "computed in uint8 are not supported"),
        ([("Cast", "x", "n", {"to": INT64}), ("BitwiseNot", "n", "y", {})], {}, UnsupportedError, "bits of whole"),
        ([("NonZero", "x", "y", {})], {}, UnsupportedError, "number depends on the numbers"),
        ([("Unique", "x", "y", {})], {}, UnsupportedError, "size depends on the numbers"),
        ([("Reshape", "c x", "y", {})], {"c": f(1)}, UnsupportedError, "a shape that the network computes"),
        ([("Pad", "x pads value", "y", {"mode": "wrap"})], {"pads": i(0, 0, 1, 0, 0, 0), "value": f(0)},
        UnsupportedError,
         "from opset 19"),
        ([("Dropout", "x", "z m", {}), ("Cast", "m", "y", {"to": FLOAT})], {}, UnsupportedError, "mask of a dropout"),
        ([("Add", "x c", "y", {})], {"c": wide(1, 5, 1)}, StaticTimeNeeded, "do not match"),
        ([("Expand", "x s", "y", {})], {"s": i(1, 1, 3)}, ShapeError, "does not fit"),
        ([("Expand", "x s", "y", {})], {"s": i(1 << 40, 1, 1, 4)}, UnsupportedError, "numbers, is not"),
        ([("Tile", "x s", "y", {})], {"s": i(1, 1, 1 << 40)}, UnsupportedError, "numbers, is not"),
        ([("Pad", "x s", "y", {})], {"s": i(0, 0, 0, 0, 1 << 40, 0)}, UnsupportedError, "numbers, is not"),
        ([("Resize", "x none s", "y", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})],
         {"s": f(1, 1 << 40, 1), "none": f()}, UnsupportedError, "numbers, is not"),
    ],
    ids=lambda one: str(one)[:40],
)  # fmt: skip
def test_a_network_that_cannot_be_computed_is_refused_by_its_node(nodes, constants, error, message, tmp_path):
    with pytest.raises(error, match=message) as found:
        loaded(tmp_path / "net.onnx", nodes, constants)
    assert nodes[-1][2] in str(found.value)


def test_numbers_in_half_precision_are_computed_in_float32(tmp_path):
    nodes = [("Cast", "x", "h", {"to": FLOAT16}), ("Mul", "h c", "g", {}), ("Cast", "g", "y", {"to": FLOAT})]
    x = wide(ROWS, STEPS, FEATURES, seed=8)
    found = loaded(tmp_path / "net.onnx", nodes, {"c": np.float16([1.5])}).predict(x)
    np.testing.assert_allclose(found, 1.5 * x, rtol=1e-6)


def test_the_axes_of_a_softmax_before_opset_13_are_one(tmp_path):
    x = wide(ROWS, STEPS, FEATURES, seed=8)
    nodes = [("Softmax", "x", "y", {"axis": 1})]
    old = loaded(tmp_path / "old.onnx", nodes, {}, ("batch", STEPS, FEATURES), 12).predict(x)
    new = loaded(tmp_path / "new.onnx", nodes, {}, ("batch", STEPS, FEATURES), 13).predict(x)
    np.testing.assert_allclose(old, softmax(x.reshape(ROWS, -1).astype(np.float64), 1).reshape(x.shape), atol=1e-6)
    np.testing.assert_allclose(new, softmax(x.astype(np.float64), 1), atol=1e-6)


@pytest.mark.parametrize(
    ("version", "attributes", "inputs", "constants", "rate"),
    [
        (11, {"ratio": 0.3}, "x", {}, 0.3),
        (11, {}, "x", {}, 0.5),
        (18, {}, "x r", {"r": np.float32(0.3)}, 0.3),
        (18, {}, "x r t", {"r": np.float32(0.3), "t": np.array(False)}, 0.3),
        (18, {}, "x", {}, 0.5),
    ],
)
def test_a_dropout_keeps_its_rate(tmp_path, version, attributes, inputs, constants, rate):
    model = loaded(tmp_path / "a.onnx", [("Dropout", inputs, "y", attributes)], constants, version=version)
    (layer,) = model.graph.layers
    assert layer.kind == "dropout"
    assert layer.options["rate"] == pytest.approx(rate, rel=1e-7)
    x = wide(ROWS, STEPS, FEATURES)
    np.testing.assert_array_equal(model.predict(x), x)
    found = model.predict_mc(x, 2).samples
    np.testing.assert_allclose(found[found != 0], np.stack([x, x])[found != 0] / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_what_is_over_volumes_is_refused_by_name(tmp_path, operator):
    inputs = "x" if operator.endswith("Pool") else "x k"
    with pytest.raises(
        UnsupportedError, match=rf"\({operator}\): a convolution or pooling over volumes .* time and over images are"
    ):
        loaded(
            tmp_path / "net.onnx",
            [(operator, inputs, "y", {"kernel_shape": [2, 2, 2]})],
            {"k": wide(2, 2, 2, 2, 2)},
            ("batch", 2, 5, 6, 7),
        )


# What tf2onnx writes


def test_the_first_step_of_a_time_of_any_length_is_a_part_of_it(tmp_path):
    nodes = [("Slice", "x zero one axis", "p", {}), ("Squeeze", "p axis", "y", {})]
    constants = {"zero": i(0), "one": i(1), "axis": i(1)}
    net = loaded(tmp_path / "net.onnx", nodes, constants)
    x = wide(ROWS, STEPS, FEATURES)
    np.testing.assert_array_equal(net.predict(x), x[:, 0])
    np.testing.assert_array_equal(net.predict(x[:, :2]), x[:, 0])
    fixed = loaded(tmp_path / "net.onnx", nodes, constants, ("batch", 5, FEATURES), time="T")
    np.testing.assert_array_equal(fixed.predict(x), x[:, 0])


#: a skip of so many steps as are left behind strided and transposed convolutions: its first, or those in the middle
TRIMMED = {
    "first": [("Slice", "x zero left axis", "p", {})],
    "middle": [
        ("Sub", "steps left", "more", {}),
        ("Div", "more two", "from", {}),
        ("Add", "from left", "to", {}),
        ("Slice", "x from to axis", "p", {}),
    ],
}


@pytest.mark.parametrize("trim", TRIMMED.values(), ids=list(TRIMMED))
def test_a_skip_that_is_trimmed_by_two_lengths_is_right_or_asks_for_the_number_of_steps(tmp_path, trim):
    weight, back = wide(5, FEATURES, 4), wide(5, FEATURES, 4, seed=4)
    constants = {"weight": weight, "back": back, "zero": i(0), "two": i(2), "axis": i(2)}
    nodes = [
        ("Conv", "x weight", "c", {"strides": [2]}),
        ("ConvTranspose", "c back", "u", {"strides": [2]}),
        ("Shape", "x", "x_shape", {}),
        ("Gather", "x_shape axis", "steps", {"axis": 0}),
        ("Shape", "u", "u_shape", {}),
        ("Gather", "u_shape axis", "left", {"axis": 0}),
        *trim,
        ("Add", "p u", "y", {}),
    ]
    shape = ("batch", FEATURES, "time")
    is_first = len(trim) == 1
    open_time = loaded(tmp_path / "net.onnx", nodes, constants, shape) if is_first else None
    for options in () if is_first else ({}, {"time": "T"}):
        with pytest.raises(StaticTimeNeeded, match=r"number of steps in advance; load\(path, time=24\) says"):
            loaded(tmp_path / "net.onnx", nodes, constants, shape, **options)
    for steps in range(4, 13):
        x = wide(ROWS, FEATURES, steps)
        left = (steps - 4) // 2 * 2 + 4
        first = 0 if is_first else (steps - left) // 2
        expected = x[:, :, first : first + left].astype(np.float64)
        for t in range(0, left - 3, 2):
            inner = np.einsum("fck,nck->nf", weight, x[:, :, t : t + 4], dtype=np.float64)
            expected[:, :, t : t + 4] += np.einsum("fck,nf->nck", back, inner)
        net = loaded(tmp_path / "net.onnx", nodes, constants, shape, time=steps)
        np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=1e-5)
        if open_time is not None:
            np.testing.assert_allclose(open_time.predict(x), expected, rtol=0, atol=1e-5)


def test_one_of_two_steps_may_be_all_but_the_last(tmp_path):
    nodes = [("Slice", "x zero one axis", "y", {})]
    with pytest.raises(StaticTimeNeeded, match="whether a part up to step 1 ends there, or 1 steps before the end"):
        loaded(
            tmp_path / "net.onnx", nodes, {"zero": i(0), "one": i(1), "axis": i(1)}, ("batch", 2, FEATURES), time="T"
        )


@pytest.mark.parametrize(
    "behind",
    [
        [("Unsqueeze", "p two", "q", {}), ("Transpose", "q", "r", {"perm": [0, 3, 2, 1]})],
        [("Transpose", "p", "s", {"perm": [0, 2, 1]}), ("Unsqueeze", "s two", "r", {})],
    ],
)
@pytest.mark.parametrize(("before", "streams"), [(4, True), (3, True), (2, True), (5, False)])
def test_a_padding_in_front_of_a_convolution_streams(tmp_path, behind, before, streams):
    """Of a kernel of 3 and a dilation of 2, which reaches over 5 steps."""
    kernel = wide(2, FEATURES, 1, 3)
    conv = [("Conv", "r k", "c", {"kernel_shape": [1, 3], "dilations": [1, 2]}), ("Squeeze", "c two", "d", {})]
    nodes = [("Pad", "x pads", "p", {}), *behind, *conv, ("Transpose", "d", "y", {"perm": [0, 2, 1]})]
    net = loaded(tmp_path / "net.onnx", nodes, {"k": kernel, "pads": i(0, before, 0, 0, 0, 0), "two": i(2)})
    x = wide(ROWS, STEPS, FEATURES)
    padded = np.concatenate([np.zeros((ROWS, before, FEATURES)), x], 1)
    count = STEPS + before - 4
    expected = sum(padded[:, 2 * k : 2 * k + count] @ kernel[:, :, 0, k].T for k in range(3))
    np.testing.assert_allclose(net.predict(x), expected, atol=1e-5)
    assert net.can_stream == streams
    if streams:
        np.testing.assert_array_equal(net.stream(ROWS).run(x), net.predict(x))


def test_a_padding_in_front_of_time_alone_says_why_it_does_not_stream(tmp_path):
    net = loaded(
        tmp_path / "net.onnx", [("Pad", "x pads", "p", {}), ("Relu", "p", "y", {})], {"pads": i(0, 2, 0, 0, 0, 0)}
    )
    with pytest.raises(
        UnsupportedError, match=r"padding in front gives 2 more steps than it takes, .* in front of a convolution"
    ):
        net.stream()


def test_a_batch_normalization_of_computed_statistics_normalises_each_step(tmp_path):
    """Keras's LayerNormalization is such a one over (1, batch * time, features, 1)."""
    nodes = [
        ("Reshape", "x whole", "w", {}),
        ("ReduceMean", "w axes", "m", {"keepdims": 0}),
        ("ReduceMean", "w axes", "k", {"keepdims": 1}),
        ("Sub", "w k", "s", {}),
        ("Mul", "s s", "q", {}),
        ("ReduceMean", "q axes", "v", {"keepdims": 0}),
        ("Shape", "m", "n", {}),
        ("ConstantOfShape", "n", "ones", {"value": f(1)}),
        ("ConstantOfShape", "n", "zeros", {"value": f(0)}),
        ("BatchNormalization", "w ones zeros m v", "b", {"epsilon": 0.01}),
        ("Shape", "x", "size", {}),
        ("Reshape", "b size", "y", {}),
    ]
    net = loaded(tmp_path / "net.onnx", nodes, {"whole": i(1, -1, FEATURES, 1), "axes": i(0, 2, 3)})
    x = wide(ROWS, STEPS, FEATURES)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(net.predict(x), expected, atol=1e-5)


def test_ones_over_the_batch_cost_no_layer(tmp_path):
    nodes = [
        ("Relu", "x", "r", {}),
        ("Shape", "x", "s", {}),
        ("ConstantOfShape", "s", "ones", {"value": f(1)}),
        ("Mul", "ones r", "m", {}),
        ("ConstantOfShape", "s", "zeros", {"value": f(0)}),
        ("Add", "m zeros", "y", {}),
    ]
    net = loaded(tmp_path / "net.onnx", nodes, {})
    assert [layer.kind for layer in net.graph.layers] == ["activation"]
    x = wide(ROWS, STEPS, FEATURES)
    np.testing.assert_array_equal(net.predict(x), np.maximum(x, 0))


def test_an_empty_part_of_a_split_is_refused_only_where_it_is_read(tmp_path):
    nodes = [("Split", "x sizes", "y rest none", {"axis": 2})]
    net = loaded(tmp_path / "net.onnx", nodes, {"sizes": i(1, 3, 0)})
    x = wide(ROWS, STEPS, FEATURES)
    np.testing.assert_array_equal(net.predict(x), x[..., :1])
    with pytest.raises(UnsupportedError, match="an empty part of an axis is not supported"):
        loaded(
            tmp_path / "net.onnx",
            [("Split", "x sizes", "a rest none", {"axis": 2}), ("Relu", "none", "y", {})],
            {"sizes": i(1, 3, 0)},
        )


def test_a_size_of_any_length_is_no_result(tmp_path):
    with pytest.raises(UnsupportedError, match="a size that is no number, such as that of the batch"):
        loaded(tmp_path / "net.onnx", [("Shape", "x", "y", {})], {})


# ONNX Runtime's own


def few_bits(whole, bits):
    """Numbers side by side in bytes, the first of a byte in its lowest bits; rows filled up to whole bytes."""
    per = 8 // bits
    filled = np.pad(whole, [(0, 0), (0, -whole.shape[1] % per)]).reshape(len(whole), -1, per).astype(np.uint8)
    return np.bitwise_or.reduce(filled << (np.arange(per) * bits).astype(np.uint8), axis=-1)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zero", ["none", "packed", "float"])
def test_a_matrix_of_a_few_bits_is_what_its_blocks_stand_for(tmp_path, bits, zero):
    rng = np.random.default_rng(bits)
    rows, columns, size, blocks = 5, 20, 16, 2
    whole = rng.integers(0, 1 << bits, (rows, blocks * size))
    scale = rng.uniform(0.1, 0.3, (rows, blocks)).astype("f4")
    zeros = rng.integers(0, 1 << bits, (rows, blocks)) if zero == "packed" else rng.uniform(0, 3, (rows, blocks))
    zeros = np.full((rows, blocks), 1 << bits - 1) if zero == "none" else zeros
    constants = {"B": few_bits(whole, bits).reshape(rows, blocks, -1), "s": scale.reshape(-1), "b": wide(rows)}
    constants |= (
        {} if zero == "none" else {"z": few_bits(zeros, bits).reshape(-1) if zero == "packed" else zeros.astype("f4")}
    )
    attributes = {"K": columns, "N": rows, "block_size": size, "bits": bits}
    inputs = ["x", "B", "s", "" if zero == "none" else "z", "", "b"]
    made = files.node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **attributes)
    tensors = [files.tensor(name, array) for name, array in constants.items()]
    graph = files.graph([made], [files.value("x", ("n", "t", columns))], [files.value("y", None)], tensors)
    (tmp_path / "net.onnx").write_bytes(files.model(graph, 18, domains=["com.microsoft"]))
    matrix = ((whole.reshape(rows, blocks, size) - zeros[..., None]) * scale[..., None]).reshape(rows, -1)[:, :columns]
    x = wide(ROWS, STEPS, columns)
    expected = x @ matrix.T + constants["b"]
    np.testing.assert_allclose(
        cylstm.load(tmp_path / "net.onnx").predict(x), expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 3}, "bits=3, block_size=16, N=5 and K=4 do not fit; 2, 4 or 8 bits are read"),
        ({"N": 6}, "expected B and scales of 6 rows of 1 blocks"),
        ({"g_idx": np.arange(4)[::-1].astype(np.int32)}, "blocks in another order"),
    ],
)
def test_a_matrix_of_a_few_bits_that_does_not_fit_is_refused(tmp_path, changes, message):
    constants = {
        "B": np.zeros((5, 1, 8), np.uint8),
        "s": np.ones(5, "f4"),
        "g": changes.get("g_idx", np.zeros(4, np.int32)),
    }
    attributes = {"K": 4, "N": 5, "block_size": 16, "bits": 4} | {k: v for k, v in changes.items() if k != "g_idx"}
    made = files.node("MatMulNBits", ["x", "B", "s", "", "g"], ["y"], domain="com.microsoft", **attributes)
    tensors = [files.tensor(name, array) for name, array in constants.items()]
    graph = files.graph([made], [files.value("x", ("n", "t", 4))], [files.value("y", None)], tensors)
    (tmp_path / "net.onnx").write_bytes(files.model(graph, 18, domains=["com.microsoft"]))
    with pytest.raises(UnsupportedError, match=message):
        cylstm.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("sizes", [None, (6, 6, 8)])
def test_onnx_runtimes_attention(tmp_path, causal, sizes):
    ends = np.cumsum(sizes or (6, 6, 6))
    weight, bias = wide(FEATURES, int(ends[-1])), wide(int(ends[-1]), seed=4)
    options = {"num_heads": 2, "unidirectional": causal} | ({"qkv_hidden_sizes": list(sizes)} if sizes else {})
    net = loaded(tmp_path / "net.onnx", [("com.microsoft.Attention", "x W b", "y", options)], {"W": weight, "b": bias})
    x = wide(ROWS, STEPS, FEATURES)
    q, k, v = (
        one.reshape(ROWS, STEPS, 2, -1).transpose(0, 2, 1, 3) for one in np.split(x @ weight + bias, ends[:2], 2)
    )
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(3)
    scores += np.where(np.tri(STEPS), 0, -np.inf) if causal else 0
    expected = (softmax(scores, -1) @ v).transpose(0, 2, 1, 3).reshape(ROWS, STEPS, -1)
    np.testing.assert_allclose(net.predict(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("x W b m", {}, r"a mask \(mask_index\) is not supported"),
        ("x W b", {"num_heads": 4}, "4 heads and sizes"),
        ("x W b", {"do_rotary": 1}, "do_rotary is not supported"),
    ],
)
def test_what_onnx_runtimes_attention_cannot_do_is_refused(tmp_path, inputs, options, message):
    nodes = [("com.microsoft.Attention", inputs, "y", {"num_heads": 2} | options)]
    with pytest.raises(UnsupportedError, match=message):
        loaded(tmp_path / "net.onnx", nodes, {"W": wide(FEATURES, 18), "b": wide(18), "m": i(1, 2, 3)})


@pytest.mark.parametrize(("mode", "before"), [("SAME_UPPER", 1), ("SAME_LOWER", 2)])
def test_the_odd_step_of_a_padding_lies_where_auto_pad_says(tmp_path, mode, before):
    weight = wide(5, FEATURES, 4)
    nodes = [
        ("Transpose", "x", "turned", {"perm": [0, 2, 1]}),
        ("Conv", "turned w", "found", {"auto_pad": mode, "kernel_shape": [4]}),
        ("Transpose", "found", "y", {"perm": [0, 2, 1]}),
    ]
    x = wide(ROWS, STEPS, FEATURES, seed=4)
    padded = np.pad(x.astype("f8"), ((0, 0), (before, 3 - before), (0, 0)))
    wanted = sum(padded[:, k : k + STEPS] @ weight[:, :, k].T for k in range(4))
    found = loaded(tmp_path / "net.onnx", nodes, {"w": weight}).predict(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
