"""Products, convolutions, pooling, normalisation and attention as single nodes, against ONNX Runtime.

Where the runtime refuses an option, the onnx package's reference implementation takes its place.
"""

import numpy as np
import pytest

import cylstm

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.builders.configurations import seed
from tests.builders.onnx_nodes import build, by_evaluator, compare, feeds, load, node, predictions

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

SEQUENCE = ("N", 6, "T")


def uniform(rng, *shape):
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def run(tmp_path, name, operator, inputs, constants, attributes, opset=17, outputs=1, evaluator=False, time="",
        order=None):  # fmt: skip
    """Compare one node whose inputs are `inputs` and then `constants` (name -> shape or array; None is left out)."""
    rng = np.random.default_rng(seed(name))
    arrays = {
        key: one if isinstance(one, np.ndarray) else uniform(rng, *one)
        for key, one in constants.items()
        if one is not None
    }
    names = order or [*inputs, *(key if one is not None else "" for key, one in constants.items())]
    results = [f"y{k}" if k in ((0,) if outputs == 1 else range(outputs)) else "" for k in range(outputs)]
    made = node(operator, names, results, **attributes)
    model = build([made], inputs, [one for one in results if one], arrays, opset=opset, ir_version=10)
    given = feeds(inputs, rng)
    theirs = by_evaluator(model, given) if evaluator else None
    if time == "":
        time = "T" if any("T" in shape for shape in inputs.values()) else None
    return compare(tmp_path, model, given, theirs, time=time)


PRODUCTS = {
    "MatMul": ("MatMul", {"A": ("N", "T", 5)}, {"B": (5, 4)}, {}),
    "MatMul of vectors": ("MatMul", {"A": ("N", 5)}, {"B": (5, 4)}, {}),
    "MatMul by a vector": ("MatMul", {"A": ("N", "T", 5)}, {"B": (5,)}, {}),
    "MatMul of two inputs": ("MatMul", {"A": ("N", "T", 5), "B": ("N", 5, 4)}, {}, {}),
    "Gemm": ("Gemm", {"A": ("N", 5)}, {"B": (5, 4), "C": (4,)}, {}),
    "Gemm without C": ("Gemm", {"A": ("N", 5)}, {"B": (5, 4)}, {}),
    "Gemm transB alpha beta": ("Gemm", {"A": ("N", 5)}, {"B": (4, 5), "C": (1, 4)},
                               {"transB": 1, "alpha": 0.3, "beta": -0.7}),
    "Gemm transA": ("Gemm", {"A": (5, "N")}, {"B": (5, 4), "C": (4,)}, {"transA": 1, "alpha": 0.5}),
    "Gemm beta 0": ("Gemm", {"A": ("N", 5)}, {"B": (5, 4), "C": (4,)}, {"beta": 0.0}),
    "Gemm a number as C": ("Gemm", {"A": ("N", 5)}, {"B": (5, 4), "C": (1,)}, {"beta": 3.0}),
    "Gemm an input as C": ("Gemm", {"A": ("N", 5), "C": ("N", 4)}, {"B": (5, 4)}, {"beta": 0.3, "alpha": 2.0},
                           ["A", "B", "C"]),
    "Gemm a column as C": ("Gemm", {"A": ("N", 5), "C": ("N", 1)}, {"B": (5, 4)}, {"beta": 0.3}, ["A", "B", "C"]),
    "FusedMatMul": ("com.microsoft.FusedMatMul", {"A": ("N", "T", 5)}, {"B": (4, 5)}, {"alpha": 0.3, "transB": 1}),
    "FusedMatMul transA": ("com.microsoft.FusedMatMul", {"A": ("N", 6, 5)}, {"B": (6, 4)},
                           {"alpha": 0.3, "transA": 1}),
    "FusedGemm": ("com.microsoft.FusedGemm", {"A": ("N", 5)}, {"B": (4, 5), "C": (4,)},
                  {"transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.2}),
    "BiasGelu": ("com.microsoft.BiasGelu", {"A": ("N", "T", 5)}, {"B": (5,)}, {}),
    "FastGelu": ("com.microsoft.FastGelu", {"A": ("N", "T", 5)}, {"B": (5,)}, {}),
    "Gelu": ("com.microsoft.Gelu", {"A": ("N", "T", 5)}, {}, {}),
    "QuickGelu": ("com.microsoft.QuickGelu", {"A": ("N", "T", 5)}, {}, {"alpha": 1.3}),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_gives_onnx_runtimes_numbers(name, tmp_path):
    operator, inputs, constants, attributes, *order = PRODUCTS[name]
    run(tmp_path, name, operator, inputs, constants, attributes, order=order[0] if order else None)


CONV = {
    "default": {},
    "pads": {"pads": [2, 1]},
    "causal": {"pads": [2, 0]},
    "strides": {"strides": [2], "pads": [1, 1]},
    "dilations": {"dilations": [2], "pads": [3, 0]},
    "groups": {"group": 3, "pads": [1, 1]},
    "depthwise": {"group": 6},
    "VALID": {"auto_pad": "VALID"},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER"},
    "SAME_UPPER strides": {"auto_pad": "SAME_UPPER", "strides": [3]},
}


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CONV)
def test_a_convolution_over_time_gives_onnx_runtimes_numbers(name, bias, kernel, tmp_path):
    attributes = CONV[name]
    constants = {"W": (12, 6 // attributes.get("group", 1), kernel), "B": (12,) if bias else None}
    run(tmp_path, name, "Conv", {"X": SEQUENCE}, constants, {"kernel_shape": [kernel], **attributes})


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("operator", ["Conv", "MaxPool", "AveragePool"])
def test_windows_of_a_known_time_have_the_odd_step_where_auto_pad_says(operator, mode, tmp_path):
    constants = {"W": (8, 6, 4)} if operator == "Conv" else {}
    attributes = {"kernel_shape": [4], "strides": [3], "auto_pad": mode}
    run(tmp_path, mode, operator, {"X": ("N", 6, 10)}, constants, attributes, time=10)


def test_same_lower_with_a_stride_of_any_time_needs_the_time(tmp_path):
    constants = {"W": np.ones((8, 6, 4), np.float32)}
    made = node("Conv", ["X", "W"], ["Y"], kernel_shape=[4], strides=[3], auto_pad="SAME_LOWER")
    with pytest.raises(cylstm.ShapeError, match=r"conv_node.*number of steps"):
        load(tmp_path, build([made], {"X": SEQUENCE}, ["Y"], constants), time="T")


def test_a_fused_convolution_adds_and_activates(tmp_path):
    for name, numbers in (("Relu", []), ("LeakyRelu", [0.3]), ("Clip", [-0.2, 0.4]), ("HardSigmoid", [0.3, 0.4])):
        attributes = {"kernel_shape": [3], "activation": name, "pads": [1, 1]}
        attributes |= {"activation_params": numbers} if numbers else {}
        run(tmp_path, name, "com.microsoft.FusedConv", {"X": SEQUENCE}, {"W": (8, 6, 3), "B": (8,)}, attributes)


POOLS = {
    "default": {},
    "strides": {"strides": [2]},
    "pads": {"pads": [1, 0], "strides": [2]},
    "count_include_pad": {"pads": [1, 1], "strides": [2], "count_include_pad": 1},
    "ceil_mode": {"strides": [2], "ceil_mode": 1},
    "ceil_mode pads": {"strides": [2], "ceil_mode": 1, "pads": [1, 1]},
    "dilations": {"dilations": [2]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2]},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER"},
    "VALID": {"auto_pad": "VALID", "strides": [2]},
}


def _is_pool(operator, name, kernel):
    """Whether the operator has the option, and we have it of this size."""
    if name == "count_include_pad":
        return operator == "AveragePool"
    return not ("ceil" in name and operator == "LpPool") and (name, kernel) != ("ceil_mode pads", 2)


@pytest.mark.parametrize(
    "name, operator, kernel",
    [
        (name, operator, kernel)
        for name in POOLS
        for operator in ("MaxPool", "AveragePool", "LpPool")
        for kernel in (2, 3)
        if _is_pool(operator, name, kernel)
    ],
)
def test_a_pooling_over_time_gives_onnx_runtimes_numbers(name, operator, kernel, tmp_path):
    attributes = {"kernel_shape": [kernel], **POOLS[name]}
    if operator == "LpPool":
        attributes["p"] = 3 if name == "strides" else 2
    shape = ("N", 6, 11) if operator == "LpPool" and name == "SAME_UPPER" else SEQUENCE
    run(tmp_path, name, operator, {"X": shape}, {}, attributes, opset=22 if "ceil" in name else 19, time=_time(shape))


def _time(shape):
    return "T" if "T" in shape else shape[2]


@pytest.mark.parametrize("operator, attributes", [("LpPool", {}), ("AveragePool", {"count_include_pad": 1})])
def test_a_count_of_padding_that_depends_on_the_time_needs_the_time(operator, attributes, tmp_path):
    made = node(operator, ["X"], ["Y"], kernel_shape=[4], strides=[3], auto_pad="SAME_UPPER", **attributes)
    with pytest.raises(cylstm.ShapeError, match=r"pool_node.*number of steps"):
        load(tmp_path, build([made], {"X": SEQUENCE}, ["Y"], {}), time="T")


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [("N", 6, "T"), ("N", 6, 8), ("N", 6, 8, 9)])
def test_a_global_pooling_gives_onnx_runtimes_numbers(operator, shape, tmp_path):
    attributes = {"p": 3} if "Lp" in operator else {}
    run(tmp_path, operator, operator, {"X": shape}, {}, attributes)


def positive(*shape):
    return np.random.default_rng(3).uniform(0.5, 2.0, shape).astype(np.float32)


STATISTICS = {"s": (6,), "b": (6,), "m": (6,), "v": positive(6)}
NORMS = {
    "BatchNormalization 7": ("BatchNormalization", SEQUENCE, STATISTICS, {}, 7),
    "BatchNormalization 9": ("BatchNormalization", ("N", 6), STATISTICS,
                             {"epsilon": 1e-2}, 9),
    "BatchNormalization 15": ("BatchNormalization", SEQUENCE, STATISTICS,
                              {"epsilon": 1e-3}, 15),
    "BatchNormalization of images": ("BatchNormalization", ("N", 6, 8, 9),
                                     STATISTICS, {}, 15),
    "InstanceNormalization": ("InstanceNormalization", SEQUENCE, {"s": (6,), "b": (6,)}, {"epsilon": 1e-2}, 17),
    "InstanceNormalization of images": ("InstanceNormalization", ("N", 6, 8, 9), {"s": (6,), "b": (6,)}, {}, 17),
    "LayerNormalization": ("LayerNormalization", ("N", "T", 6), {"s": (6,), "b": (6,)}, {"epsilon": 1e-2}, 17),
    "LayerNormalization without bias": ("LayerNormalization", ("N", "T", 6), {"s": (6,)}, {}, 17),
    "LayerNormalization axis": ("LayerNormalization", ("N", 4, 6), {"s": (4, 6), "b": (4, 6)}, {"axis": 1}, 17),
    "LayerNormalization broadcast": ("LayerNormalization", ("N", 4, 6), {"s": (6,), "b": (4, 1)}, {"axis": -2}, 17),
    "SimplifiedLayerNormalization": ("SimplifiedLayerNormalization", ("N", "T", 6), {"s": (6,)}, {}, 17),
    "RMSNormalization": ("RMSNormalization", ("N", "T", 6), {"s": (6,)}, {"epsilon": 1e-2}, 23),
    "GroupNormalization 18": ("GroupNormalization", SEQUENCE, {"s": (2,), "b": (2,)}, {"num_groups": 2}, 18),
    "GroupNormalization 21": ("GroupNormalization", SEQUENCE, {"s": (6,), "b": (6,)}, {"num_groups": 2}, 21),
    "GroupNormalization of images": ("GroupNormalization", ("N", 6, 8, 9), {"s": (6,), "b": (6,)},
                                     {"num_groups": 3}, 21),
    "LpNormalization": ("LpNormalization", ("N", "T", 6), {}, {}, 17),
    "LpNormalization of 1": ("LpNormalization", ("N", 6, "T"), {}, {"p": 1, "axis": 1}, 17),
    "MeanVarianceNormalization": ("MeanVarianceNormalization", ("N", 6, 8, 9), {}, {"axes": [1, 3]}, 17),
    "LRN": ("LRN", ("N", 6, 8, 9), {}, {"size": 3, "alpha": 0.3, "beta": 0.6, "bias": 1.5}, 17),
}  # fmt: skip
#: those that ONNX Runtime 1.32 has no kernel for with these attributes
BY_EVALUATOR = ("MeanVarianceNormalization",)


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_gives_onnx_runtimes_numbers(name, tmp_path):
    operator, shape, constants, attributes, opset = NORMS[name]
    run(tmp_path, name, operator, {"X": shape}, constants, attributes, opset=opset, evaluator=name in BY_EVALUATOR)


def test_lrn_of_an_even_size_has_the_odd_channel_behind(tmp_path):
    """ONNX Runtime takes odd sizes alone, and the evaluator of onnx 1.23 loops over rows in place of channels."""
    made = node("LRN", ["X"], ["Y"], size=4, alpha=0.3, beta=0.6, bias=1.5)
    model = build([made], {"X": ("N", 6, 8, 9)}, ["Y"], {})
    x = feeds({"X": ("N", 6, 8, 9)}, np.random.default_rng(8))
    squares = np.square(x["X"].astype(np.float64))
    sums = np.stack([squares[:, max(c - 1, 0) : c + 3].sum(axis=1) for c in range(6)], axis=1)
    theirs = x["X"] / (1.5 + 0.3 / 4 * sums) ** 0.6
    compare(tmp_path, model, x, [theirs.astype(np.float32)], time=None)


@pytest.mark.parametrize("bias", [True, False])
def test_a_sum_that_is_normalised_gives_onnx_runtimes_numbers_and_itself(bias, tmp_path):
    inputs = {"x": ("N", "T", 6), "skip": ("N", "T", 6)}
    constants = {"g": (6,), "b": (6,), "bias": (6,) if bias else None}
    rng = np.random.default_rng(4)
    arrays = {key: uniform(rng, *one) for key, one in constants.items() if one is not None}
    names = ["x", "skip", "g", "b", *(["bias"] if bias else [])]
    made = node("com.microsoft.SkipLayerNormalization", names, ["y", "", "", "total"], epsilon=1e-3)
    compare(tmp_path, build([made], inputs, ["y", "total"], arrays, opset=17), feeds(inputs, rng))


ATTENTION = {
    "four axes": ({"Q": ("N", 2, "T", 5), "K": ("N", 2, "T", 5), "V": ("N", 2, "T", 4)}, {}),
    "causal": ({"Q": ("N", 2, "T", 5), "K": ("N", 2, "T", 5), "V": ("N", 2, "T", 4)}, {"is_causal": 1, "scale": 0.3}),
    "three axes": ({"Q": ("N", "T", 10), "K": ("N", "T", 10), "V": ("N", "T", 8)},
                   {"q_num_heads": 2, "kv_num_heads": 2}),
    "heads in groups": ({"Q": ("N", 7, 20), "K": ("N", 7, 10), "V": ("N", 7, 8)},
                        {"q_num_heads": 4, "kv_num_heads": 2}),
    "softcap": ({"Q": ("N", 2, 7, 5), "K": ("N", 2, 7, 5), "V": ("N", 2, 7, 4)}, {"softcap": 0.3}),
    "causal between two times": ({"Q": ("N", 2, 7, 5), "K": ("N", 2, 9, 5), "V": ("N", 2, 9, 4)}, {"is_causal": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_gives_the_reference_evaluators_numbers(name, tmp_path):
    inputs, attributes = ATTENTION[name]
    run(tmp_path, name, "Attention", inputs, {}, attributes, opset=23, evaluator=True)


SPECTRA = {
    "window": ({"step": np.int64(4), "window": (16,)}, {}),
    "length": ({"step": np.int64(3), "window": None, "length": np.int64(10)}, {}),
    "both sides": ({"step": np.int64(4), "window": (12,), "length": np.int64(12)}, {"onesided": 0}),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("shape", [("N", 50, 1), ("N", 50)])
def test_stft_gives_onnx_runtimes_numbers(name, shape, tmp_path):
    constants, attributes = SPECTRA[name]
    constants = {key: np.asarray(one) if isinstance(one, np.int64) else one for key, one in constants.items()}
    run(tmp_path, name, "STFT", {"signal": shape}, constants, attributes)


@pytest.mark.parametrize(
    "attributes, parts", [({}, 1), ({}, 2), ({"onesided": 1}, 1), ({"inverse": 1}, 1), ({"inverse": 1}, 2),
                          ({"axis": 2}, 1), ({"axis": 2}, 2)])  # fmt: skip
@pytest.mark.parametrize("length", [None, 16])
def test_dft_gives_onnx_runtimes_numbers(attributes, parts, length, tmp_path):
    shape = ("N", 6, 10, parts) if "axis" in attributes else ("N", 10, parts)
    constants = {} if length is None else {"length": np.asarray(length)}
    run(tmp_path, "dft", "DFT", {"x": shape}, constants, attributes)


@pytest.mark.parametrize("kind", ["truths", "numbers", "rows without a key"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_a_mask_gives_the_reference_evaluators_numbers(causal, kind, tmp_path):
    rng = np.random.default_rng(6)
    inputs = {"Q": ("N", 2, 7, 5), "K": ("N", 2, 7, 5), "V": ("N", 2, 7, 4)}
    mask = rng.random((7, 7)) < 0.6
    mask[np.arange(7), np.arange(7)] = True
    if kind == "rows without a key":
        mask[2] = False
    mask = rng.normal(size=(2, 7, 7)).astype(np.float32) if kind == "numbers" else mask
    made = node("Attention", ["Q", "K", "V", "mask"], ["Y"], is_causal=causal)
    model = build([made], inputs, ["Y"], {"mask": mask}, opset=24, ir_version=11)
    arrays = feeds(inputs, rng)
    theirs = by_evaluator(model, arrays)
    ours = load(tmp_path, model)
    found = predictions(ours, [arrays[name] for name in ours.graph.inputs])
    np.testing.assert_allclose(found[0], theirs[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [0, 1])
def test_onnx_runtimes_attention_gives_its_numbers(tmp_path, causal):
    rng = np.random.default_rng(causal)
    inputs, constants = {"x": ("N", "T", 6)}, {"W": uniform(rng, 6, 24), "b": uniform(rng, 24)}
    made = node("com.microsoft.Attention", ["x", "W", "b"], ["y"], num_heads=2, unidirectional=causal)
    compare(tmp_path, build([made], inputs, ["y"], constants), feeds(inputs, rng), time="T")
