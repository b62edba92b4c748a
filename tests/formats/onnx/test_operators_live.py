"""Networks of one operator, and of one after an LSTM, against ONNX Runtime, or the reference where it refuses."""

import warnings
import zlib

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError
from cylstm.formats.onnx.operators import elementwise, indexing, reductions, resizing, shapes

pytestmark = pytest.mark.frameworks

#: rows, steps and features: all different
ROWS, STEPS, FEATURES = 3, 6, 4
#: no row of one shape has all these as its sizes
FORMS = ("fixed", "any number of steps", "after an LSTM")


class Case:
    """One operator with its attributes; `inputs` are "x", which the network computes, arrays, and None."""

    def __init__(
        self, operator, *inputs, opset=21, outputs=1, numbers=None, name=None, form=None, domain="", **attributes
    ):
        self.operator, self.inputs, self.opset, self.outputs = operator, inputs or ("x",), opset, outputs
        self.attributes, self.numbers, self.form, self.domain = attributes, numbers or "normal", form, domain
        said = [f"{key}={value}" for key, value in attributes.items()]
        said += [str(np.asarray(one).tolist()) for one in inputs if not isinstance(one, str) and one is not None]
        self.name = name or f"{operator}-{opset}-{' '.join(said)}"[:90]

    @property
    def takes_places(self):
        """Whether x are whole numbers."""
        return self.operator == "OneHot" or (self.operator == "Gather" and not isinstance(self.inputs[0], str))

    def __repr__(self):
        return self.name

    def draw(self, *size):
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        x = rng.normal(size=size)
        found = {
            "normal": x * 2,
            "positive": np.abs(x) + 0.1,
            "unit": np.tanh(x) * 0.97,
            "above 1": np.abs(x) + 1.05,
            "halves": np.round(x * 4) / 2,
            "whole": np.round(x * 2),
            "small whole": rng.integers(0, 4, size),
            "truths": (x > 0) * 1.0,
            "special": np.where(x > 1, np.inf, np.where(x < -1, -np.inf, np.where(np.abs(x) < 0.3, np.nan, x))),
        }[self.numbers]
        return np.asarray(found, np.float32)


def i(*numbers):
    return np.array(numbers, np.int64)


def f(*numbers):
    return np.array(numbers, np.float32)


def wide(*size, seed=7, low=None):
    array = np.random.default_rng(seed).normal(size=size)
    return np.asarray(array if low is None else np.abs(array) + low, np.float32)


ONE = {
    "Abs": "normal",
    "Neg": "normal",
    "Sign": "whole",
    "Reciprocal": "positive",
    "Sqrt": "positive",
    "Floor": "normal",
    "Ceil": "normal",
    "Round": "halves",
    "Log": "positive",
    "Exp": "normal",
    "Sin": "normal",
    "Cos": "normal",
    "Tan": "unit",
    "Asin": "unit",
    "Acos": "unit",
    "Atan": "normal",
    "Sinh": "normal",
    "Cosh": "normal",
    "Asinh": "normal",
    "Acosh": "above 1",
    "Atanh": "unit",
    "Erf": "normal",
    "Relu": "normal",
    "Tanh": "normal",
    "Sigmoid": "normal",
    "Softplus": "normal",
    "Softsign": "normal",
    "HardSwish": "normal",
    "Mish": "normal",
    "Identity": "normal",
    "Gelu": "normal",
    "Swish": "normal",
    "LeakyRelu": "normal",
    "Elu": "normal",
    "Selu": "normal",
    "HardSigmoid": "normal",
    "Celu": "normal",
    "ThresholdedRelu": "normal",
    "Shrink": "normal",
}
SINCE = {"Gelu": 20, "Mish": 18, "Swish": 24}
CASES = [Case(name, numbers=numbers, opset=max(21, SINCE.get(name, 0))) for name, numbers in ONE.items()]
CASES += [
    Case("LeakyRelu", alpha=0.3),
    Case("Elu", alpha=1.7),
    Case("Selu", alpha=1.2, gamma=0.7),
    Case("HardSigmoid", alpha=0.31, beta=0.44),
    Case("Celu", alpha=0.7),
    Case("ThresholdedRelu", alpha=0.4),
    Case("Shrink", lambd=0.7, bias=0.3),
    Case("Swish", alpha=1.6, opset=24),
    Case("Gelu", approximate="tanh"),
    Case("Gelu", domain="com.microsoft"),
    Case("QuickGelu", domain="com.microsoft", alpha=1.3),
    Case("QuickGelu", domain="com.microsoft"),
    Case("FastGelu", "x", wide(FEATURES), domain="com.microsoft"),
    Case("FastGelu", domain="com.microsoft"),
    Case("BiasGelu", "x", wide(FEATURES), domain="com.microsoft"),
    Case("IsNaN", numbers="special"),
    Case("IsInf", numbers="special"),
    Case("IsInf", numbers="special", detect_negative=0),
    Case("IsInf", numbers="special", detect_positive=0),
    Case("IsInf", numbers="special", detect_positive=0, detect_negative=0),
    Case("Clip", opset=6 + 1, min=-0.7, max=0.9),
    Case("Clip", opset=10, max=0.9),
    Case("Clip", opset=7),
    Case("Clip", "x", f(-0.7).reshape(()), f(0.9).reshape(())),
    Case("Clip", "x", None, f(0.9).reshape(())),
    Case("Clip", "x", f(0.0).reshape(())),
    Case("Clip", "x", f(1.0).reshape(()), f(-1.0).reshape(())),
    Case("PRelu", "x", wide(FEATURES)),
    Case("PRelu", "x", f(0.2)),
    Case("PRelu", "x", wide(STEPS, 1), form="fixed"),
    Case("PRelu", "x", wide(STEPS, FEATURES), form="fixed"),
    Case("PRelu", "x", wide(1, FEATURES)),
]
for operator in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu"):
    for a, b in (
        ("x", "x"),
        ("x", wide(FEATURES, low=0.4)),
        (wide(FEATURES, low=0.4), "x"),
        ("x", f(1.7)),
        ("x", f(2.0).reshape(())),
        (f(0.6), "x"),
        ("x", wide(1, STEPS, 1, low=0.4)),
        ("x", wide(1, 1, 1, low=1)),
        ("x", wide(2, 1, 1, 1, low=0.4)),
    ):
        if operator == "PRelu" and (not isinstance(a, str) or np.ndim(b) > 3):
            continue
        has_time = [np.shape(one)[-2:] == (STEPS, 1) for one in (a, b)]
        numbers = "positive" if operator in ("Pow", "Div") else "normal"
        CASES.append(
            Case(
                operator,
                a,
                b,
                opset=13,
                numbers=numbers,
                form="fixed" if any(has_time) else None,
                name=f"{operator} of {np.shape(a) or a} and {np.shape(b) or b}",
            )
        )
CASES += [
    Case("Pow", "x", f(exponent), numbers=numbers, opset=15)
    for exponent in (0, 1, 2, 3, 0.5, -1, -0.5, 2.5, -2)
    for numbers in ("positive", "normal")
    if numbers == "positive" or exponent == int(exponent)
]
CASES += [Case("Pow", "x", i(3), numbers="positive", opset=15), Case("Pow", f(2.0), "x", opset=13)]
CASES += [
    Case("Mod", "x", b, fmod=1, numbers="normal", name=f"Mod by {np.shape(b)}")
    for b in (f(0.7), f(-1.3), wide(FEATURES, low=0.5))
]
CASES += [
    Case(operator, "x", "x", wide(FEATURES), f(0.3), opset=13, name=f"{operator} of four")
    for operator in ("Sum", "Mean", "Max", "Min")
]
CASES += [Case(operator, "x", opset=13, name=f"{operator} of one") for operator in ("Sum", "Mean", "Max", "Min")]

# Axes: x is (rows, steps, features)
TIME_ONLY = "fixed"
for operator in (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
):
    numbers = "positive" if operator in ("ReduceLogSum", "ReduceProd") else "normal"
    of_both = "fixed" if operator == "ReduceLogSumExp" else None
    for axes, form in (([2], None), ([1], None), ([1, 2], of_both), ([-1], None), ([-2, -1], of_both)):
        for keepdims in (0, 1):
            CASES.append(
                Case(
                    operator,
                    opset=12 if operator == "ReduceSum" else 17,
                    axes=axes,
                    keepdims=keepdims,
                    numbers=numbers,
                    form=form,
                )
            )
            CASES.append(Case(operator, "x", i(*axes), opset=18, keepdims=keepdims, numbers=numbers, form=form))
    CASES.append(Case(operator, "x", i(2), opset=18, numbers=numbers, noop_with_empty_axes=1))
CASES += [
    Case(operator, opset=18, noop_with_empty_axes=1)
    for operator in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
]
for operator in ("ArgMax", "ArgMin"):
    for last in (0, 1):
        for axis in (1, 2, -1):
            for keepdims in (0, 1):
                CASES.append(
                    Case(
                        operator, opset=13, axis=axis, keepdims=keepdims, numbers="small whole", select_last_index=last
                    )
                )
for operator in ("Softmax", "LogSoftmax", "Hardmax"):
    CASES += [Case(operator, opset=13, axis=axis) for axis in (1, 2, -1, -2)] + [Case(operator, opset=13)]
    CASES += [
        Case(operator, opset=opset, axis=axis, form=form)
        for opset in (11, 12)
        for axis, form in ((1, "fixed"), (2, None), (-1, None))
    ]
    CASES += [Case(operator, opset=11, form="fixed"), Case(operator, opset=8, axis=2)]
for operator in ("CumSum", "CumProd"):
    for exclusive in (0, 1):
        for reverse in (0, 1):
            CASES += [
                Case(
                    operator,
                    "x",
                    i(axis),
                    exclusive=exclusive,
                    reverse=reverse,
                    opset=14 if operator == "CumSum" else 26,
                )
                for axis in (1, 2, -1)
            ]
for largest in (0, 1):
    CASES += [
        Case("TopK", "x", i(3), axis=axis, largest=largest, outputs=2, opset=11, form=form, numbers=numbers)
        for axis, form in ((1, "fixed"), (-1, None), (2, None))
        for numbers in ("normal", "small whole")
    ]
CASES += [Case("TopK", opset=7, k=2, axis=2, outputs=2), Case("TopK", "x", i(2), opset=10, outputs=2)]
CASES += [
    Case("Trilu", form="fixed"),
    Case("Trilu", upper=0, form="fixed"),
    Case("Trilu", "x", i(1).reshape(()), form="fixed"),
    Case("Trilu", "x", i(-2).reshape(()), upper=0, form="fixed"),
    Case("Einsum", equation="bti->bit"),
    Case("Einsum", "x", wide(FEATURES, 5), equation="bti,io->bto"),
    Case("Einsum", "x", "x", equation="bti,bsi->bts", form="fixed"),
    Case("Einsum", "x", "x", equation="bti,bti->bt"),
    Case("Einsum", "x", "x", equation="bti,btj->bij"),
    Case("Einsum", equation="...i->..."),
    Case("Einsum", equation="bti -> bi"),
]

# Shapes
CASES += [
    Case("Transpose", perm=[0, 2, 1]),
    Case("Transpose", perm=[1, 0, 2]),
    Case("Transpose", perm=[1, 2, 0]),
    Case("Transpose"),
    Case("Flatten"),
    Case("Flatten", axis=-2),
    Case("Reshape", "x", i(0, 0, 2, 2)),
    Case("Reshape", "x", i(0, -1)),
    Case("Reshape", "x", i(-1, 4, 1, 6), form="fixed"),
    Case("Reshape", "x", i(0, -1, 2)),
    Case("Reshape", "x", i(-1, 24), form="fixed"),
    Case("Reshape", "x", i(0, 6, 4), allowzero=0, form="fixed"),
    Case("Reshape", "x", i(-1, 6, 2, 2), allowzero=1, opset=14, form="fixed"),
    Case("Unsqueeze", "x", i(1), opset=13),
    Case("Unsqueeze", opset=11, axes=[0, 3]),
    Case("Unsqueeze", "x", i(-1, 2)),
    Case("Expand", "x", i(1, 1, 1)),
    Case("Expand", "x", i(2, 1, 1, 4)),
    Case("Expand", "x", i(4)),
    Case("Tile", "x", i(1, 1, 3)),
    Case("Tile", "x", i(1, 2, 1), form="fixed"),
    Case("Tile", "x", i(1, 2, 2), form="fixed"),
    Case("Concat", "x", "x", axis=2),
    Case("Concat", "x", "x", "x", axis=-1),
    Case("Concat", "x", "x", axis=1, form="fixed"),
    Case("Split", "x", axis=2, opset=11, outputs=2),
    Case("Split", axis=2, opset=11, split=[1, 3], outputs=2),
    Case("Split", "x", i(1, 3), axis=-1, opset=13, outputs=2),
    Case("Split", axis=2, opset=13, outputs=4),
    Case("Split", axis=1, num_outputs=3, opset=18, outputs=3, form="fixed"),
    Case("Dropout", opset=12),
    Case("Dropout", opset=7, ratio=0.3),
    Case("Dropout", "x", f(0.3).reshape(()), opset=13),
    Case("Slice", opset=9, starts=[1], ends=[3], axes=[2]),
    Case("Slice", opset=9, starts=[1], ends=[1 << 40], axes=[-1]),
    Case("Slice", opset=7, starts=[0, 1], ends=[1 << 31, -1], axes=[0, 1]),
    Case("Slice", "x", i(1), i(3), i(2)),
    Case("Slice", "x", i(-1), i(-1000), i(2), i(-1)),
    Case("Slice", "x", i(3), i(0), i(-1), i(-2)),
    Case("Slice", "x", i(-1), i(-(1 << 63)), i(1), i(-1)),
    Case("Slice", "x", i(0, 1), i((1 << 63) - 1, (1 << 31) - 1), i(0, 1), i(1, 2)),
    Case("Slice", "x", i(-1), i((1 << 63) - 1), i(1)),
    Case("Slice", "x", i(0), i(-2), i(1)),
    Case("Slice", "x", i(-3), i(-1), i(1), form="fixed"),
    Case("Slice", "x", i(4), i(1), i(1), i(-1), form="fixed"),
    Case("Slice", "x", i(100), i(-100), i(2), i(-1)),
    Case("Slice", "x", i(0, 0, 1), i(1 << 62, 1 << 40, 3)),
    Case("Gather", "x", i(0).reshape(()), axis=1),
    Case("Gather", "x", i(-1).reshape(()), axis=1),
    Case("Gather", "x", i(-1).reshape(()), axis=2),
    Case("Gather", "x", i(2, 0, -1), axis=2),
    Case("Gather", "x", i(2), axis=-1),
    Case("Gather", "x", i(0, 1, 2, 3).reshape(2, 2), axis=2),
    Case("Gather", "x", i(5, 0, 3, 3), axis=1, form="fixed"),
    Case("Gather", "x", i(1).reshape(1, 1), axis=2),
    Case("Gather", wide(4, 5), "x", numbers="small whole", name="Gather of a table"),
    Case("Gather", wide(5, 4), "x", axis=1, numbers="small whole", name="Gather of the columns of a table"),
    Case("OneHot", "x", i(4).reshape(()), f(0.0, 1.0), numbers="small whole", axis=-1),
    Case("OneHot", "x", i(4).reshape(()), f(-0.5, 2.5), numbers="small whole", axis=1),
    Case("OneHot", "x", i(3).reshape(()), f(-0.5, 2.5), numbers="whole"),
    Case("OneHot", "x", i(3).reshape(()), f(0.0, 1.0), numbers="whole", axis=2),
    Case("Compress", "x", np.array([True, False, True, True]), axis=2),
]
for mode in ("constant", "reflect", "edge", "wrap"):
    opset = 19 if mode == "wrap" else 11
    CASES += [
        Case("Pad", "x", i(0, 0, 1, 0, 0, 2), mode=mode, opset=opset),
        Case(
            "Pad",
            "x",
            i(0, 2, 0, 0, 1, 0),
            mode=mode,
            opset=opset,
            form=None if mode in ("constant", "edge") else "fixed",
        ),
        Case(
            "Pad",
            "x",
            i(0, 2, 1, 0, 3, 1),
            mode=mode,
            opset=opset,
            form=None if mode in ("constant", "edge") else "fixed",
        ),
        Case(
            "Pad",
            "x",
            i(1, 2, 0, 3),
            None,
            i(2, -2),
            mode=mode,
            opset=19,
            form=None if mode in ("constant", "edge") else "fixed",
        ),
    ]
    if mode != "wrap":
        CASES.append(Case("Pad", opset=7, pads=[0, 0, 1, 0, 0, 2], mode=mode))
CASES += [
    Case("Pad", "x", i(0, 1, 1, 0, 2, 0), f(-1.5).reshape(()), opset=11),
    Case("Pad", opset=7, pads=[0, 1, 1, 0, 2, 0], value=0.7),
    Case("Pad", "x", i(0, -1, 1, 0, 2, -1), f(0.5), opset=13),
    Case("Pad", "x", i(0, 0, -1, 0, 0, 0), opset=11),
    Case("Pad", "x", i(0, 1, 0, 0, 1, 0), f(-np.inf), opset=11),
    Case("CenterCropPad", "x", i(4, 6), axes=[1, 2], form="fixed"),
    Case("CenterCropPad", "x", i(3), axes=[-1]),
    Case("CenterCropPad", "x", i(7), axes=[2]),
]
for scales, coordinates, rounding in (
    (2.0, "asymmetric", "floor"),
    (3.0, "half_pixel", "round_prefer_floor"),
    (2.0, "half_pixel", "round_prefer_ceil"),
    (2.0, "pytorch_half_pixel", "round_prefer_floor"),
    (2.0, "half_pixel_symmetric", "round_prefer_floor"),
    (0.5, "asymmetric", "floor"),
    (2.0, "asymmetric", "ceil"),
    (1.5, "asymmetric", "floor"),
    (2.0, "align_corners", "floor"),
):
    repeats = scales != int(scales) or rounding == "ceil" or coordinates == "align_corners"
    CASES += [
        Case(
            "Resize",
            "x",
            None,
            f(1, 1, scales),
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
            opset=19,
        ),
        Case(
            "Resize",
            "x",
            None,
            f(1, scales, 1),
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
            opset=19,
            form="fixed" if repeats else None,
        ),
    ]
CASES += [
    Case("Resize", "x", f(1, 2, 2), opset=10),
    Case("Upsample", opset=7, scales=[1.0, 2.0, 3.0]),
    Case("Upsample", "x", f(1, 2, 3), opset=9),
    Case("Resize", "x", None, f(2), axes=[2], opset=18),
    Case(
        "Resize",
        "x",
        None,
        None,
        i(6, 8),
        axes=[1, 2],
        opset=18,
        form="fixed",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    Case(
        "Resize",
        "x",
        None,
        None,
        i(12, 5),
        axes=[1, 2],
        opset=18,
        form="fixed",
        keep_aspect_ratio_policy="not_larger",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
]
for mode in ("linear", "cubic"):
    for scales, coordinates in (
        (1.7, "half_pixel"),
        (2.0, "align_corners"),
        (2.0, "asymmetric"),
        (0.6, "half_pixel"),
        (3.0, "pytorch_half_pixel"),
        (1.25, "half_pixel_symmetric"),
    ):
        CASES += [
            Case("Resize", "x", None, f(1, 1, scales), mode=mode, coordinate_transformation_mode=coordinates, opset=19),
            Case(
                "Resize",
                "x",
                None,
                f(1, scales, 1),
                mode=mode,
                coordinate_transformation_mode=coordinates,
                opset=19,
                form="fixed",
            ),
        ]
    CASES.append(Case("Resize", "x", None, None, i(9, 3), axes=[1, 2], mode=mode, opset=18, form="fixed"))
CASES += [
    Case("Resize", "x", None, f(1, 1, 1.5), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1, opset=19),
    Case("Upsample", opset=7, scales=[1.0, 1.0, 2.0], mode="linear"),
]
IMAGES = [
    Case("DepthToSpace", blocksize=2),
    Case("DepthToSpace", blocksize=2, mode="CRD"),
    Case("SpaceToDepth", blocksize=2),
    Case("Squeeze", "x", i(2), name="Squeeze-13"),
    Case("Squeeze", opset=11, axes=[-2], name="Squeeze-11"),
    Case("Softmax", opset=11, axis=1),
    Case("Softmax", opset=11, axis=2),
    Case("LogSoftmax", opset=11, axis=-2),
    Case("ReduceMean", "x", i(2, 3), opset=18),
    Case("ReduceMax", axes=[1, 3], opset=17, keepdims=0),
    Case("Split", axis=1, num_outputs=3, opset=18, outputs=3),
    Case("Transpose", perm=[0, 2, 3, 1]),
    Case("Pad", "x", i(0, 0, 1, 2, 0, 0, 1, 0), mode="reflect", opset=11),
    Case("Concat", "x", "x", axis=1),
    Case("PRelu", "x", wide(8, 1, 1)),
    Case("Split", axis=1, opset=13, outputs=2),
    Case("Resize", "x", None, f(1, 1, 2, 3), opset=13),
]


INT64, INT32, BOOL, FLOAT, DOUBLE, FLOAT16 = 7, 6, 9, 1, 11, 10


def scalar(number, dtype=np.int64):
    return np.array(number, dtype)


#: name -> nodes (operator, inputs, outputs, attributes), constants, whether the number of steps has to be known
PROGRAMS = {
    "comparisons": (
        [
            (operator, "x c", f"t{k}", {})
            for k, operator in enumerate(("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"))
        ]
        + [("Cast", f"t{k}", f"n{k}", {"to": FLOAT}) for k in range(5)]
        + [("Concat", "n0 n1 n2 n3 n4", "y", {"axis": -1})],
        {"c": f(0.5, -0.5, 1.0, 0.0)},
        False,
    ),
    "logic": (
        [
            ("Greater", "x zero", "a", {}),
            ("Less", "x c", "b", {}),
            ("And", "a b", "both", {}),
            ("Or", "a b", "one", {}),
            ("Xor", "a b", "other", {}),
            ("Not", "a", "none", {}),
            ("Where", "both x c", "y0", {}),
            ("Where", "one c x", "y1", {}),
            ("Where", "other x zero", "y2", {}),
            ("Where", "none zero x", "y3", {}),
            ("Sum", "y0 y1 y2 y3", "y", {}),
        ],
        {"zero": scalar(0, np.float32), "c": wide(FEATURES, low=0.3)},
        False,
    ),
    "truths beside constants": (
        [
            ("Greater", "x zero", "a", {}),
            ("And", "a m", "b", {}),
            ("Or", "b m2", "c", {}),
            ("Xor", "c m", "d", {}),
            ("Where", "d x zero", "y", {}),
        ],
        {
            "zero": scalar(0, np.float32),
            "m": np.array([True, False, True, True]),
            "m2": np.array([False, False, True, False]),
        },
        False,
    ),
    "casts": (
        [
            ("Mul", "x c", "a", {}),
            ("Cast", "a", "i", {"to": INT64}),
            ("Cast", "i", "b", {"to": FLOAT}),
            ("Cast", "a", "i32", {"to": INT32}),
            ("Add", "i32 two", "j", {}),
            ("Cast", "j", "d", {"to": FLOAT}),
            ("Cast", "i", "t", {"to": BOOL}),
            ("Cast", "t", "e", {"to": FLOAT}),
            ("CastLike", "i x", "g", {}),
            ("Sum", "b d e g", "y", {}),
        ],
        {"c": scalar(3, np.float32), "two": scalar(2, np.int32)},
        False,
    ),
    "whole numbers": (
        [
            ("Mul", "x c", "a", {}),
            ("Cast", "a", "i", {"to": INT64}),
            ("Div", "i three", "q", {}),
            ("Mod", "i three", "r", {}),
            ("Mod", "i three", "s", {"fmod": 1}),
            ("Sub", "q r", "d", {}),
            ("Add", "d s", "e", {}),
            ("Max", "e three", "g", {}),
            ("Min", "e three", "h", {}),
            ("Mul", "g h", "p", {}),
            ("Cast", "p", "y", {"to": FLOAT}),
        ],
        {"c": scalar(7, np.float32), "three": scalar(3)},
        False,
    ),
    "bits of constants": (
        [
            ("BitShift", "u one", "a", {"direction": "LEFT"}),
            ("BitShift", "u one", "b", {"direction": "RIGHT"}),
            ("BitwiseAnd", "a b", "c", {}),
            ("BitwiseOr", "c u", "d", {}),
            ("BitwiseXor", "d a", "e", {}),
            ("BitwiseNot", "e", "g", {}),
            ("Cast", "g", "h", {"to": FLOAT}),
            ("Mul", "x h", "y", {}),
        ],
        {"u": np.array([3, 9, 200, 77], np.uint8), "one": np.array([1], np.uint8)},
        False,
    ),
    "the shape of the input": (
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s zero", "rows", {"axis": 0}),
            ("Gather", "s one", "time", {"axis": 0}),
            ("Unsqueeze", "rows at", "r1", {}),
            ("Unsqueeze", "time at", "t1", {}),
            ("Concat", "r1 t1 minus two", "target", {"axis": 0}),
            ("Reshape", "x target", "a", {}),
            ("Transpose", "a", "b", {"perm": [0, 2, 1, 3]}),
            ("Transpose", "b", "c", {"perm": [0, 2, 1, 3]}),
            ("Reshape", "c s", "y", {}),
        ],
        {"zero": scalar(0), "one": scalar(1), "at": i(0), "minus": i(-1), "two": i(2)},
        False,
    ),
    "a size from slices and products": (
        [
            ("Shape", "x", "s", {}),
            ("Slice", "s zero two", "front", {}),
            ("Slice", "s two three", "last", {}),
            ("Div", "last halves", "half", {}),
            ("Concat", "front halves half", "target", {"axis": 0}),
            ("Reshape", "x target", "a", {}),
            ("ReduceMax", "a", "b", {"axes": [2], "keepdims": 0}),
            ("ReduceProd", "last", "count", {"keepdims": 0}),
            ("Cast", "count", "n", {"to": FLOAT}),
            ("Mul", "b n", "y", {}),
        ],
        {"zero": i(0), "two": i(2), "three": i(3), "halves": i(2)},
        False,
    ),
    "zeros as large as the input": (
        [
            ("Shape", "x", "s", {}),
            ("ConstantOfShape", "s", "z", {"value": f(0.5)}),
            ("Add", "x z", "a", {}),
            ("Shape", "x", "front", {"end": 2}),
            ("Concat", "front three", "wider", {"axis": 0}),
            ("ConstantOfShape", "wider", "ones", {"value": f(1.0)}),
            ("Concat", "a ones", "y", {"axis": 2}),
        ],
        {"three": i(3)},
        False,
    ),
    "an expansion to a shape": (
        [
            ("Shape", "x", "s", {}),
            ("Size", "s", "rank", {}),
            ("ConstantOfShape", "three", "ones", {"value": i(1)}),
            ("Mul", "ones minus", "all", {}),
            ("Equal", "s all", "is_all", {}),
            ("Where", "is_all ones s", "target", {}),
            ("Expand", "c target", "d", {}),
            ("Mul", "x d", "y", {}),
        ],
        {"c": wide(1, 1, FEATURES), "minus": scalar(-1), "three": i(3)},
        False,
    ),
    "places of the steps": (
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s one", "time", {"axis": 0}),
            ("Range", "zero time one", "p", {}),
            ("Cast", "p", "q", {"to": FLOAT}),
            ("Unsqueeze", "q last", "r", {}),
            ("Mul", "r c", "angle", {}),
            ("Sin", "angle", "e", {}),
            ("Add", "x e", "y", {}),
        ],
        {"one": scalar(1), "zero": scalar(0), "last": i(-1), "c": wide(FEATURES, low=0.1)},
        False,
    ),
    "a mean by the number of steps": (
        [
            ("ReduceSum", "x at", "a", {"keepdims": 0}),
            ("Shape", "x", "s", {}),
            ("Gather", "s one", "time", {"axis": 0}),
            ("Cast", "time", "n", {"to": FLOAT}),
            ("Div", "a n", "b", {}),
            ("Sqrt", "n", "root", {}),
            ("Mul", "b root", "y", {}),
        ],
        {"at": i(1), "one": scalar(1)},
        False,
    ),
    "half of the steps": (
        [
            ("Shape", "x", "s", {}),
            ("Gather", "s at", "time", {"axis": 0}),
            ("Sub", "time one", "most", {}),
            ("Slice", "x one most at", "y", {}),
        ],
        {"at": i(1), "one": i(1)},
        False,
    ),
    "a table by the places of the steps": (
        [
            ("Shape", "x", "s", {}),
            ("Slice", "s one two", "time", {}),
            ("Slice", "table zero time zero", "rows", {}),
            ("Add", "x rows", "y", {}),
        ],
        {"table": wide(20, FEATURES), "zero": i(0), "one": i(1), "two": i(2)},
        False,
    ),
    "numbers at the largest of another": (
        [
            ("ArgMax", "x", "p", {"axis": 2, "keepdims": 1}),
            ("Mul", "x x", "b", {}),
            ("GatherElements", "b p", "y", {"axis": 2}),
        ],
        {},
        False,
    ),
    "numbers at places of the end": (
        [
            ("ArgMax", "x", "p", {"axis": 2, "keepdims": 1}),
            ("Sub", "p four", "q", {}),
            ("GatherElements", "x q", "y", {"axis": -1}),
        ],
        {"four": scalar(4)},
        False,
    ),
    "a diagonal": (
        [("EyeLike", "square", "e", {"k": 1}), ("Add", "e one", "d", {}), ("MatMul", "x d", "y", {})],
        {"square": wide(FEATURES, FEATURES), "one": f(0.5)},
        False,
    ),
    "places of a constant": (
        [
            ("NonZero", "c", "p", {}),
            ("Squeeze", "p first", "q", {}),
            ("Gather", "x q", "a", {"axis": 2}),
            ("Unique", "ids", "u", {}),
            ("Gather", "x u", "b", {"axis": 2}),
            ("Concat", "a b", "y", {"axis": 2}),
        ],
        {"c": f(0.0, 2.0, 0.0, 1.0), "first": i(0), "ids": i(3, 1, 1, 0)},
        False,
    ),
    "parts by several places": (
        [
            ("Transpose", "x", "t", {"perm": [1, 2, 0]}),
            ("GatherND", "t p", "g", {}),
            ("Transpose", "g", "y", {"perm": [1, 0]}),
        ],
        {"p": i(0, 1, 5, 3, -1, 0).reshape(3, 2)},
        True,
    ),
    "steps that are written": (
        [
            ("Transpose", "x", "t", {"perm": [1, 0, 2]}),
            ("Slice", "t zero two", "u", {}),
            ("Neg", "u", "v", {}),
            ("ScatterND", "t p v", "w", {}),
            ("Transpose", "w", "y", {"perm": [1, 0, 2]}),
        ],
        {"zero": i(0), "two": i(2), "p": i(4, 1).reshape(2, 1)},
        True,
    ),
    "features that are written": (
        [
            ("Transpose", "x", "t", {"perm": [2, 0, 1]}),
            ("Slice", "t zero two", "u", {}),
            ("Exp", "u", "v", {}),
            ("ScatterND", "t p v", "w", {}),
            ("Transpose", "w", "y", {"perm": [1, 2, 0]}),
        ],
        {"zero": i(0), "two": i(2), "p": i(3, 0).reshape(2, 1)},
        False,
    ),
    "EyeLike of a size": (
        [("EyeLike", "x2", "e", {"dtype": FLOAT}), ("Add", "x e", "y", {})],
        {"x2": wide(1, FEATURES)},
        False,
    ),
    "the steps of each row reversed": (
        [
            ("Shape", "x", "s", {}),
            ("Slice", "s zero one", "rows", {}),
            ("ConstantOfShape", "rows", "n", {"value": i(4)}),
            ("ReduceMax", "x", "a", {"axes": [1, 2], "keepdims": 0}),
            ("Greater", "a half", "is_long", {}),
            ("Where", "is_long six n", "lengths", {}),
            ("ReverseSequence", "x lengths", "y", {"time_axis": 1, "batch_axis": 0}),
        ],
        {"zero": i(0), "one": i(1), "half": scalar(3.0, np.float32), "six": scalar(5)},
        False,
    ),
    "a choice of the three largest": (
        [("TopK", "x three", "v p", {"axis": 2}), ("Cast", "p", "q", {"to": FLOAT}), ("Mul", "v q", "y", {})],
        {"three": i(3)},
        False,
    ),
    "an attention with a mask that is filled": (
        [
            ("Transpose", "x", "t", {"perm": [0, 2, 1]}),
            ("MatMul", "x t", "s", {}),
            ("Div", "s root", "d", {}),
            ("Where", "m low d", "f", {}),
            ("Softmax", "f", "p", {"axis": -1}),
            ("MatMul", "p x", "y", {}),
        ],
        {
            "root": scalar(2.0, np.float32),
            "m": np.triu(np.ones((STEPS, STEPS), bool), 1),
            "low": scalar(-1e9, np.float32),
        },
        True,
    ),
    "an attention with a mask that is added": (
        [
            ("Transpose", "x", "t", {"perm": [0, 2, 1]}),
            ("MatMul", "x t", "s", {}),
            ("Mul", "s root", "d", {}),
            ("Add", "d m", "f", {}),
            ("Softmax", "f", "p", {"axis": -1}),
            ("MatMul", "p x", "y", {}),
        ],
        {
            "root": scalar(0.3, np.float32),
            "m": np.where(np.triu(np.ones((STEPS, STEPS)), 1) > 0, -np.inf, 0).astype(np.float32),
        },
        True,
    ),
    "an attention with another mask": (
        [
            ("Transpose", "x", "t", {"perm": [0, 2, 1]}),
            ("MatMul", "x t", "s", {}),
            ("Mul", "s root", "d", {}),
            ("Add", "m d", "f", {}),
            ("Softmax", "f", "p", {"axis": -1}),
            ("MatMul", "p x", "y", {}),
        ],
        {"root": scalar(0.3, np.float32), "m": wide(STEPS, STEPS)},
        True,
    ),
    "a place of each row, of rows joined with their steps": (
        [
            ("ReduceMax", "x", "m", {"axes": [2], "keepdims": 0}),
            ("ArgMax", "m", "p", {"axis": 1, "keepdims": 0}),
            ("Shape", "x", "s", {}),
            ("Gather", "s zero", "rows", {"axis": 0}),
            ("Gather", "s one", "time", {"axis": 0}),
            ("Transpose", "x", "t", {"perm": [0, 1, 2]}),
            ("Reshape", "t flat", "flat_x", {}),
            ("Range", "zero rows one", "r", {}),
            ("Cast", "r", "q", {"to": INT64}),
            ("Mul", "q time", "first", {}),
            ("Add", "p first", "places", {}),
            ("Gather", "flat_x places", "y", {"axis": 0}),
        ],
        {"zero": scalar(0), "one": scalar(1), "flat": i(-1, FEATURES)},
        False,
    ),
    "a place of each row, as pairs": (
        [
            ("ReduceMax", "x", "m", {"axes": [2], "keepdims": 0}),
            ("ArgMax", "m", "p", {"axis": 1, "keepdims": 0}),
            ("Shape", "x", "s", {}),
            ("Gather", "s zero", "rows", {"axis": 0}),
            ("Range", "zero rows one", "r", {}),
            ("Unsqueeze", "r last", "a", {}),
            ("Unsqueeze", "p last", "b", {}),
            ("Concat", "a b", "c", {"axis": -1}),
            ("GatherND", "x c", "y", {}),
        ],
        {"zero": scalar(0), "one": scalar(1), "last": i(-1)},
        False,
    ),
    "constants": (
        [
            ("Constant", "", "a", {"value_float": 1.5}),
            ("Constant", "", "b", {"value_floats": [1.0, 2.0, 3.0, 4.0]}),
            ("Constant", "", "c", {"value_int": 3}),
            ("Constant", "", "d", {"value_ints": [1, 2, 3, 4]}),
            ("Constant", "", "e", {"value": wide(FEATURES)}),
            ("Mul", "c d", "g", {}),
            ("Cast", "g", "h", {"to": FLOAT}),
            ("Sum", "a b e h", "k", {}),
            ("Mul", "x k", "y", {}),
        ],
        {},
        False,
    ),
}
for reduction in ("none", "add", "mul", "max", "min"):
    for name, places in (("different", i(3, 0, 1)), ("repeated", i(2, 0, 2))):
        if reduction == "none" and name == "repeated":
            continue
        PROGRAMS[f"ScatterND {reduction} at {name} places"] = (
            [
                ("Transpose", "x", "t", {"perm": [2, 0, 1]}),
                ("Slice", "t zero three", "u", {}),
                ("Sin", "u", "v", {}),
                ("ScatterND", "t p v", "w", {"reduction": reduction}),
                ("Transpose", "w", "y", {"perm": [1, 2, 0]}),
            ],
            {"zero": i(0), "three": i(3), "p": places.reshape(3, 1)},
            False,
        )
        wanted = np.stack([places, places[::-1]]).reshape(1, 1, 2, 3)
        PROGRAMS[f"ScatterElements {reduction} at {name} places"] = (
            [
                ("Unsqueeze", "x at", "x4", {}),
                ("Transpose", "x4", "t", {"perm": [1, 0, 2, 3]}),
                ("Shape", "x", "s", {}),
                ("Slice", "s zero one", "rows", {}),
                ("Concat", "one rows two three", "target", {"axis": 0}),
                ("Expand", "p target", "q", {}),
                ("Slice", "t zeros twos axes", "u", {}),
                ("Sin", "u", "v", {}),
                ("ScatterElements", "t q v", "w", {"axis": 3, "reduction": reduction}),
                ("Transpose", "w", "z", {"perm": [1, 0, 2, 3]}),
                ("Squeeze", "z at", "y", {}),
            ],
            {
                "at": i(1),
                "zero": i(0),
                "one": i(1),
                "two": i(2),
                "three": i(3),
                "p": wanted,
                "zeros": i(0, 0),
                "twos": i(2, 3),
                "axes": i(2, 3),
            },
            True,
        )


def program_network(nodes, constants, dtype, *, is_open, opset=18):
    from onnx import TensorProto, helper, numpy_helper

    kind = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}[np.dtype(dtype)]
    made = []
    for operator, inputs, outputs, attributes in nodes:
        given = {
            key: numpy_helper.from_array(value.astype(dtype) if value.dtype == np.float32 else value)
            if isinstance(value, np.ndarray)
            else kind
            if key in ("to", "dtype") and value == FLOAT
            else value
            for key, value in attributes.items()
        }
        if "axes" in given and opset >= 18:
            constants = {**constants, f"axes_{outputs}": i(*given.pop("axes"))}
            inputs += f" axes_{outputs}"
        made.append(helper.make_node(operator, inputs.split(), outputs.split(), **given))
    tensors = [
        numpy_helper.from_array(value.astype(dtype) if value.dtype == np.float32 else value, name)
        for name, value in constants.items()
    ]
    shape = ["batch", "time" if is_open else STEPS, FEATURES]
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    graph = helper.make_graph(made, "g", inputs, [helper.make_tensor_value_info("y", kind, None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_several_operators_is_that_of_onnx_runtime(name, is_open, tmp_path):
    nodes, constants, needs_steps = PROGRAMS[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(program_network(nodes, constants, np.float32, is_open=is_open).SerializeToString())
    if needs_steps and is_open:
        with pytest.raises(CylstmError):
            cylstm.load(path)
        return
    x = np.random.default_rng(5).normal(size=(ROWS, STEPS, FEATURES)).astype(np.float32)
    narrow = framework(program_network(nodes, constants, np.float32, is_open=is_open), x, np.float32)[0]
    try:
        wanted = framework(program_network(nodes, constants, np.float64, is_open=is_open), x, np.float64)[0]
    except Exception:
        wanted = narrow
    found = cylstm.load(path).predict(x)
    assert found.shape == wanted.shape
    tolerance = max(1e-6 * _scale(wanted), 4 * np.abs(wanted - narrow).max())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


def network(case, form, sizes, dtype):
    """A model of the case: (rows, *sizes), also as the output of an LSTM of as many units."""
    from onnx import TensorProto, helper, numpy_helper

    kind = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}[np.dtype(dtype)]
    nodes, initializers = [], []
    shape = ["batch", *sizes]
    if form == "any number of steps" or (form == "after an LSTM" and case.form != "fixed"):
        shape[1] = "time"
    source = "x"
    if form == "after an LSTM":
        rng = np.random.default_rng(11)
        weights = {
            "w": rng.uniform(-0.9, 0.9, (1, 4 * FEATURES, FEATURES)),
            "r": rng.uniform(-0.9, 0.9, (1, 4 * FEATURES, FEATURES)),
            "b": rng.uniform(-0.9, 0.9, (1, 8 * FEATURES)),
        }
        initializers += [numpy_helper.from_array(array.astype(dtype), name) for name, array in weights.items()]
        nodes.append(helper.make_node("Transpose", ["x"], ["time_first"], perm=[1, 0, 2]))
        nodes.append(helper.make_node("LSTM", ["time_first", "w", "r", "b"], ["all"], hidden_size=FEATURES))
        squeezed = {"axes": [1]} if case.opset < 13 else {}
        extra = [] if case.opset < 13 else ["one"]
        if extra:
            initializers.append(numpy_helper.from_array(i(1), "one"))
        nodes.append(helper.make_node("Squeeze", ["all", *extra], ["steps"], **squeezed))
        nodes.append(helper.make_node("Transpose", ["steps"], ["hidden"], perm=[1, 0, 2]))
        source = "hidden"
    names = []
    for k, one in enumerate(case.inputs):
        if one is None:
            names.append("")
        elif isinstance(one, str):
            names.append(source)
        else:
            array = one.astype(dtype) if one.dtype == np.float32 and not _keeps_float(case, k) else one
            initializers.append(numpy_helper.from_array(array, f"given{k}"))
            names.append(f"given{k}")
    if case.takes_places:
        nodes.append(helper.make_node("Cast", [source], ["places"], to=TensorProto.INT64))
        names = ["places" if name == source else name for name in names]
    outputs = [f"y{k}" for k in range(case.outputs)]
    nodes.append(helper.make_node(case.operator, names, outputs, domain=case.domain, **case.attributes))
    results = []
    for name in outputs:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_"], to=kind))
        results.append(helper.make_tensor_value_info(f"{name}_", kind, None))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], results, initializers)
    opsets = [helper.make_opsetid("", case.opset)]
    if case.domain:
        opsets.append(helper.make_opsetid(case.domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if case.opset < 24 else 12)


def _keeps_float(case, k):
    return (case.operator in ("Resize", "Upsample") and k) or (case.operator == "Dropout" and k)


def framework(model, x, dtype):
    """What ONNX Runtime gives, or the reference where it does not run the model."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x.astype(dtype)})
    except Exception:
        from onnx.reference import ReferenceEvaluator

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ReferenceEvaluator(model).run(None, {"x": x.astype(dtype)})


def expected(case, form, sizes, x):
    """The results in float64 where the framework has them, else in float32, and how far they may be off."""
    try:
        wide = framework(network(case, form, sizes, np.float64), x, np.float64)
    except Exception:
        wide = None
    narrow = framework(network(case, form, sizes, np.float32), x, np.float32)
    if wide is None:
        return narrow, [4e-6 * _scale(one) for one in narrow]
    tolerances = []
    for a, b in zip(wide, narrow):
        both = np.isfinite(a) & np.isfinite(b)
        error = np.abs(a[both] - b[both]).max(initial=0.0)
        tolerances.append(max(1e-6 * _scale(a), 4 * error))
    return wide, tolerances


def _scale(array):
    return np.abs(array[np.isfinite(array)]).max(initial=1.0)


def compare(case, form, sizes, path):
    x = case.draw(ROWS, *sizes)
    results, tolerances = expected(case, form, sizes, x)
    path.write_bytes(network(case, form, sizes, np.float32).SerializeToString())
    model = cylstm.load(path)
    order = model.predict(x)
    found = list(order) if isinstance(order, (tuple, list)) else [order]
    assert len(found) == len(results)
    for own, wanted, tolerance in zip(found, results, tolerances):
        batch = wanted.shape.index(ROWS) if ROWS in wanted.shape else 0
        wanted = np.moveaxis(wanted, batch, 0) if wanted.ndim else wanted
        if own.shape != wanted.shape:
            assert own.size == wanted.size and own.shape == wanted.shape, (own.shape, wanted.shape)
        np.testing.assert_allclose(own, wanted, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_of_a_sequence_is_that_of_onnx_runtime(case, form, tmp_path):
    if case.form == "fixed" and form == "any number of steps":
        path = tmp_path / "net.onnx"
        path.write_bytes(network(case, form, (STEPS, FEATURES), np.float32).SerializeToString())
        with pytest.raises(CylstmError):
            cylstm.load(path)
        return
    compare(case, form, (STEPS, FEATURES), tmp_path / "net.onnx")


@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_an_operator_of_images_is_that_of_onnx_runtime(case, tmp_path):
    sizes = (8, 1, 6) if case.operator == "Squeeze" else (8, 2, 6)
    compare(case, "fixed", sizes, tmp_path / "net.onnx")


def test_every_operator_has_a_case():
    tables = {
        **elementwise.OPERATORS,
        **indexing.OPERATORS,
        **reductions.OPERATORS,
        **resizing.OPERATORS,
        **shapes.OPERATORS,
    }
    tried = {f"{case.domain}.{case.operator}".lstrip(".") for case in (*CASES, *IMAGES)}
    tried |= {operator for nodes, *_ in PROGRAMS.values() for operator, *_ in nodes}
    assert set(tables) - tried == {"Scatter"}  # ScatterElements, as it was called before
