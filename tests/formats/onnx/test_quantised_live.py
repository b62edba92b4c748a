"""Models of whole numbers: ours are those of the dequantised weights, ONNX Runtime's are rounded besides."""

import numpy as np
import pytest

import cylstm

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from onnx import numpy_helper

from tests.builders.onnx_nodes import (
    BATCH,
    TIME,
    build,
    by_runtime,
    compare,
    feeds,
    load,
    node,
    predictions,
    rows_first,
)

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def ours_of(tmp_path, model, arrays, **options):
    ours = load(tmp_path, model, **options)
    return predictions(ours, [rows_first(arrays[name]) for name in ours.graph.inputs])


def whole(rng, kind, *shape):
    limits = np.iinfo(kind)
    return rng.integers(max(limits.min, -(1 << 20)), min(limits.max, 1 << 20), shape).astype(kind)


WEIGHTS = {
    "one scale": (np.uint8, (), 0, 0, {}),
    "no zero point": (np.int8, (), None, 0, {}),
    "a scale for each row": (np.int8, (6,), 0, 0, {"axis": 0}),
    "a scale for each column": (np.uint8, (4,), 0, 0, {"axis": 1}),
    "a scale for each column from behind": (np.int16, (4,), 0, 0, {"axis": -1}),
    "blocks": (np.int8, (3, 4), 0, 0, {"axis": 0, "block_size": 2}),
    "32 bits": (np.int32, (), None, 0, {}),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_weight_of_whole_numbers_is_what_it_stands_for(name, tmp_path):
    kind, shape, zero, _, attributes = WEIGHTS[name]
    rng = np.random.default_rng(1)
    constants = {"W": whole(rng, kind, 6, 4), "s": rng.uniform(0.01, 0.03, shape).astype(np.float32)}
    constants["s"] /= 1.0 if kind in (np.int8, np.uint8) else 1000.0
    if zero is not None:
        constants["z"] = whole(rng, kind, *shape)
    nodes = [
        node("DequantizeLinear", ["W", "s", *(["z"] if zero is not None else [])], ["w"], **attributes),
        node("MatMul", ["X", "w"], ["Y"]),
    ]
    inputs = {"X": ("N", "T", 6)}
    compare(tmp_path, build(nodes, inputs, ["Y"], constants, opset=21, ir_version=10), feeds(inputs, rng))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 2])
def test_a_constant_is_quantised_as_by_onnx_runtime(kind, axis, tmp_path):
    rng = np.random.default_rng(2)
    scale = np.asarray(0.02 if axis is None else [0.01, 0.02, 0.03, 0.04], np.float32)
    constants = {"C": rng.normal(size=(1, 6, 4)).astype(np.float32) * 2, "s": scale}
    constants["z"] = np.full(scale.shape, 3, kind)
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        node("QuantizeLinear", ["C", "s", "z"], ["q"], **attributes),
        node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes),
        node("MatMul", ["X", "w"], ["Y"]),
    ]
    inputs = {"X": ("N", 5, 6)}
    compare(tmp_path, build(nodes, inputs, ["Y"], constants, opset=13), feeds(inputs, rng), time=5)


def test_a_quantisation_and_its_reverse_only_limit_the_numbers(tmp_path):
    """Exporters leave a Relu out where the whole numbers begin at 0."""
    rng = np.random.default_rng(3)
    constants = {"s": np.float32(0.01), "z": np.uint8(0)}
    nodes = [node("QuantizeLinear", ["X", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["Y"])]
    inputs = {"X": ("N", "T", 6)}
    model, arrays = build(nodes, inputs, ["Y"], constants), feeds(inputs, rng)
    (found,) = ours_of(tmp_path, model, arrays)
    np.testing.assert_allclose(found, np.clip(arrays["X"], 0, 2.55), rtol=0, atol=1e-7)
    assert 0 < np.abs(found - by_runtime(model, arrays)[0]).max() <= 0.005 + 1e-6


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_operators_of_whole_numbers_are_those_of_what_they_stand_for(kind, tmp_path):
    rng = np.random.default_rng(4)
    scale = np.float32(0.03)
    zero = kind(5)
    per_filter = rng.uniform(0.002, 0.004, 8).astype(np.float32)
    constants = {
        "xs": scale, "xz": zero, "W": whole(rng, np.int8, 8, 6, 3), "ws": per_filter, "wz": np.zeros(8, np.int8),
        "cs": np.float32(0.05), "cz": zero, "b": whole(rng, np.int16, 8).astype(np.int32) // 50,
        "M": whole(rng, kind, 8, 4), "ms": np.float32(0.004), "mz": zero, "ys": np.float32(0.2), "yz": zero,
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["X", "xs", "xz"], ["q"]),
        node("QLinearConv", ["q", "xs", "xz", "W", "ws", "wz", "cs", "cz", "b"], ["c"], pads=[1, 1]),
        node("DequantizeLinear", ["c", "cs", "cz"], ["C"], name="of_conv"),
        node("GlobalAveragePool", ["C"], ["p"]),
        node("QuantizeLinear", ["p", "cs", "cz"], ["g"], name="again"),
        node("DequantizeLinear", ["g", "cs", "cz"], ["Y"], name="result"),
    ]
    inputs = {"X": ("N", 6, "T")}
    model, arrays = build(nodes, inputs, ["Y"], constants), feeds(inputs, rng)
    (found,) = ours_of(tmp_path, model, arrays)
    (theirs,) = by_runtime(model, arrays)
    limits = np.iinfo(kind)
    low, high = (0.05 * (one - 5.0) for one in (limits.min, limits.max))
    x = np.clip(arrays["X"], 0.03 * (limits.min - 5.0), 0.03 * (limits.max - 5.0)).astype(np.float64)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    w = constants["W"] * per_filter[:, None, None].astype(np.float64)
    y = np.stack([np.einsum("ncj,fcj->nf", x[:, :, t : t + 3], w) for t in range(TIME)], axis=2)
    y = np.clip(y + (constants["b"] * per_filter.astype(np.float64) * 0.03)[:, None], low, high)
    np.testing.assert_allclose(found.reshape(BATCH, 8), y.mean(axis=2), rtol=0, atol=1e-5)
    assert np.abs(found - theirs).max() < 0.1  # rounded three times by 0.05 and less


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_product_of_whole_numbers_is_that_of_what_they_stand_for(kind, tmp_path):
    rng = np.random.default_rng(5)
    zero = kind(5)
    constants = {
        "as": np.float32(0.03), "az": zero, "B": whole(rng, kind, 6, 4), "bs": np.float32(0.004), "bz": kind(7),
        "ys": np.float32(0.05), "yz": zero,
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["X", "as", "az"], ["q"]),
        node("QLinearMatMul", ["q", "as", "az", "B", "bs", "bz", "ys", "yz"], ["y"]),
        node("DequantizeLinear", ["y", "ys", "yz"], ["Y"]),
    ]
    inputs = {"X": ("N", "T", 6)}
    model, arrays = build(nodes, inputs, ["Y"], constants), feeds(inputs, rng)
    (found,) = ours_of(tmp_path, model, arrays)
    limits = np.iinfo(kind)
    x = np.clip(arrays["X"].astype(np.float64), 0.03 * (limits.min - 5.0), 0.03 * (limits.max - 5.0))
    y = x @ ((constants["B"].astype(np.float64) - 7) * 0.004)
    y = np.clip(y, 0.05 * (limits.min - 5.0), 0.05 * (limits.max - 5.0))
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-5)
    assert np.abs(found - by_runtime(model, arrays)[0]).max() < 0.15


@pytest.mark.parametrize("is_static", [True, False])
@pytest.mark.parametrize("per_column", [True, False])
@pytest.mark.parametrize("has_more", [True, False])
def test_onnx_runtimes_own_products_are_those_of_what_they_stand_for(has_more, per_column, is_static, tmp_path):
    """`MatMulIntegerToFloat` and `DynamicQuantizeMatMul`, with a zero point and a bias or without."""
    rng = np.random.default_rng(8)
    shape = (4,) if per_column else ()
    constants = {"B": whole(rng, np.int8, 6, 4), "bs": rng.uniform(0.002, 0.004, shape).astype(np.float32)}
    constants |= {"as": np.float32(0.03), "az": np.uint8(120)} if is_static else {}
    if has_more:
        constants |= {"bz": rng.integers(-9, 9, shape).astype(np.int8), "c": rng.normal(size=4).astype(np.float32)}
    zero, bias = ("bz", "c") if has_more else ("", "")
    if is_static:
        nodes = [
            node("QuantizeLinear", ["X", "as", "az"], ["q"]),
            node("com.microsoft.MatMulIntegerToFloat", ["q", "B", "as", "bs", "az", zero, bias], ["Y"]),
        ]
    else:
        nodes = [node("com.microsoft.DynamicQuantizeMatMul", ["X", "B", "bs", zero, bias], ["Y"])]
    inputs = {"X": ("N", "T", 6)}
    model, arrays = build(nodes, inputs, ["Y"], constants), feeds(inputs, rng)
    (found,) = ours_of(tmp_path, model, arrays)
    x = arrays["X"].astype(np.float64)
    x = np.clip(x, 0.03 * -120.0, 0.03 * 135.0) if is_static else x
    weight = (constants["B"].astype(np.float64) - constants.get("bz", 0)) * constants["bs"]
    np.testing.assert_allclose(found, x @ weight + constants.get("c", 0.0), rtol=0, atol=1e-5)
    assert 0 < np.abs(found - by_runtime(model, arrays)[0]).max() < 0.1


def quantised_by_runtime(tmp_path, model, **options):
    """What ONNX Runtime's own tool makes of a model."""
    from onnxruntime.quantization import quantize_dynamic

    (tmp_path / "float.onnx").write_bytes(model)
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", **options)
    return (tmp_path / "int8.onnx").read_bytes()


class Examples:
    """Inputs that ONNX Runtime's tool takes the ranges from."""

    def __init__(self, inputs):
        self.left = [feeds(inputs, np.random.default_rng(seed)) for seed in range(8)]

    def get_next(self):
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_statically_quantised_network_is_near_the_one_it_was_made_of(per_channel, form, tmp_path):
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    rng = np.random.default_rng(8)
    inputs = {"X": ("N", 6, 20)}
    shapes = {"W": (8, 6, 3), "B": (8,), "V": (12, 8, 3), "M": (12, 5), "c": (5,), "K": (8, 8, 1)}
    constants = {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        node("Conv", ["X", "W", "B"], ["a"], name="first", pads=[1, 1]),
        node("Relu", ["a"], ["b"], name="relu"),
        node("Conv", ["b", "K"], ["k"], name="beside"),
        node("Add", ["b", "k"], ["s"], name="sum"),
        node("Sigmoid", ["s"], ["g"], name="gate"),
        node("Mul", ["s", "g"], ["m"], name="product"),
        node("MaxPool", ["m"], ["p"], name="pool", kernel_shape=[2], strides=[2]),
        node("AveragePool", ["p"], ["q"], name="average", kernel_shape=[2]),
        node("Conv", ["q", "V"], ["d"], name="second"),
        node("GlobalAveragePool", ["d"], ["e"], name="mean"),
        node("Flatten", ["e"], ["f"], name="flat"),
        node("Gemm", ["f", "M", "c"], ["Y"], name="last"),
    ]
    arrays = feeds(inputs, rng)
    model = build(nodes, inputs, ["Y"], constants, opset=13)
    (tmp_path / "float.onnx").write_bytes(model)
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "int8.onnx", Examples(inputs), quant_format=QuantFormat[form],
        per_channel=per_channel, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    quantised = (tmp_path / "int8.onnx").read_bytes()
    kinds = {one.op_type for one in onnx.load_from_string(quantised).graph.node}
    assert form == "QDQ" or {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QGemm"} <= kinds
    (found,) = ours_of(tmp_path, quantised, arrays)
    (plain,), (rounded,) = by_runtime(model, arrays), by_runtime(quantised, arrays)
    scale = np.abs(plain).max()
    assert 0 < np.abs(found - plain).max() < 0.02 * scale  # the weights are rounded
    assert np.abs(found - plain).max() < 1.5 * np.abs(rounded - plain).max()
    assert np.abs(found - rounded).max() < 0.05 * scale


def initializers(model):
    return {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(model).graph.initializer}


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamically_quantised_product_is_that_of_the_dequantised_weights(per_channel, tmp_path):
    rng = np.random.default_rng(6)
    constants = {"B": rng.normal(size=(6, 4)).astype(np.float32), "c": rng.normal(size=4).astype(np.float32)}
    inputs = {"X": ("N", "T", 6)}
    nodes = [node("MatMul", ["X", "B"], ["m"]), node("Add", ["m", "c"], ["Y"])]
    arrays = feeds(inputs, rng)
    model = quantised_by_runtime(tmp_path, build(nodes, inputs, ["Y"], constants), per_channel=per_channel)
    stored = initializers(model)
    weight = (stored["B_quantized"].astype(np.float64) - stored["B_zero_point"]) * stored["B_scale"]
    (found,) = ours_of(tmp_path, model, arrays)
    np.testing.assert_allclose(found, arrays["X"] @ weight + constants["c"], rtol=0, atol=1e-5)
    assert 0 < np.abs(found - by_runtime(model, arrays)[0]).max() < 0.1


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_dynamically_quantised_lstm_is_that_of_the_dequantised_weights(direction, per_channel, tmp_path):
    rng = np.random.default_rng(7)
    count = 2 if direction == "bidirectional" else 1

    def uniform(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    constants = {"W": uniform(count, 16, 5), "R": uniform(count, 16, 4), "B": uniform(count, 32)}
    constants |= {"h": np.repeat(uniform(count, 1, 4), BATCH, 1), "c": np.repeat(uniform(count, 1, 4), BATCH, 1)}
    constants["P"] = uniform(count, 12)
    inputs = {"X": ("T", "N", 5)}
    names = ["X", "W", "R", "B", "", "h", "c", "P"]
    made = node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=4, direction=direction)
    plain = build([made], inputs, ["Y", "Y_h", "Y_c"], constants)
    model = quantised_by_runtime(tmp_path, plain, op_types_to_quantize=["LSTM"], per_channel=per_channel)
    assert any(one.op_type == "DynamicQuantizeLSTM" for one in onnx.load_from_string(model).graph.node)
    stored, restored = initializers(model), dict(constants)
    for name in "WR":
        scale, zero = (stored[f"{name}_{what}"] for what in ("scale", "zero_point"))
        shape = (count, 1, -1) if scale.ndim else ()
        weight = (stored[f"{name}_quantized"].astype(np.float64) - zero.reshape(shape)) * scale.reshape(shape)
        restored[name] = weight.transpose(0, 2, 1).astype(np.float32)
    arrays = feeds(inputs, rng)
    theirs = by_runtime(build([made], inputs, ["Y", "Y_h", "Y_c"], restored), arrays)
    ours = compare(tmp_path, model, arrays, theirs)
    rounded = by_runtime(model, arrays)
    for found, other in zip(predictions(ours, [rows_first(arrays["X"])]), rounded, strict=True):
        assert 0 < np.abs(found - rows_first(other)).max() < 0.05


def test_whole_numbers_of_a_dynamic_quantisation_are_no_result(tmp_path):
    made = node("DynamicQuantizeLinear", ["X"], ["q", "Y", ""])
    with pytest.raises(cylstm.UnsupportedError, match=r"dynamicquantizelinear_node.*output reads"):
        load(tmp_path, build([made], {"X": ("N", "T", 6)}, ["Y"]))
    nodes = [node("DynamicQuantizeLinear", ["X"], ["q", "s", "z"]), node("Relu", ["s"], ["Y"])]
    with pytest.raises(cylstm.UnsupportedError, match="Relu"):
        load(tmp_path, build(nodes, {"X": ("N", "T", 6)}, ["Y"]))


def test_whole_numbers_of_a_quantisation_are_no_result(tmp_path):
    constants = {"s": np.float32(0.01), "z": np.uint8(0)}
    made = node("QuantizeLinear", ["X", "s", "z"], ["Y"])
    with pytest.raises(cylstm.UnsupportedError, match="not computed, only what they stand for"):
        load(tmp_path, build([made], {"X": ("N", "T", 6)}, ["Y"], constants))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("has_zero", [False, True])
def test_a_matrix_of_a_few_bits_gives_onnx_runtimes_numbers(tmp_path, bits, has_zero):
    rng = np.random.default_rng(bits)
    rows, columns, size, blocks = 6, 40, 16, 3
    constants = {
        "B": rng.integers(0, 256, (rows, blocks, size * bits // 8)).astype(np.uint8),
        "s": rng.uniform(0.01, 0.03, rows * blocks).astype(np.float32),
    }
    if has_zero:
        constants["z"] = rng.integers(0, 256, rows * -(-blocks * bits // 8)).astype(np.uint8)
    options = {"K": columns, "N": rows, "block_size": size, "bits": bits}
    made = node("com.microsoft.MatMulNBits", ["x", "B", "s", *(["z"] if has_zero else [])], ["y"], **options)
    inputs = {"x": ("N", "T", columns)}
    model = build([made], inputs, ["y"], constants)
    compare(tmp_path, model, feeds(inputs, rng), time="T")
