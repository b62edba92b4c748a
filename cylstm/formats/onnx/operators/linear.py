"""Products of matrices, with ONNX Runtime's operators that join one with what comes before or after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import check_count
from cylstm.formats.onnx.operators.quantised import (
    Quantised,
    check_scaled,
    constant_parameter,
    dequantised,
    dequantised_value,
    limits_of,
    quantised,
)
from cylstm.program.operations import activations, elementwise, shape
from cylstm.program.operations.linear import linear, matmul
from cylstm.program.tensor import dtype_of, is_constant, shape_of


def check_float(call: Call, *found: Any) -> None:
    """Raise `UnsupportedError` about whole numbers that the network computes with."""
    if any(not is_constant(one) and one is not None and dtype_of(one) != "float" for one in found):
        raise call.refuse("a product of whole numbers is not supported; Cast them to floating-point ones")


def gemm(call: Call) -> Any:
    """alpha A B + beta C."""
    a, b, c = call.input(0), call.input(1), call.input(2)
    check_float(call, a, b, c)
    net = call.net
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    a = shape.transpose(net, a, 0, 1) if call.attribute("transA", 0) else a
    b = b if call.attribute("transB", 0) else shape.transpose(net, b, 0, 1)  # (outputs, inputs)
    if len(shape_of(a)) != 2 or len(shape_of(b)) != 2:
        raise call.refuse(f"expected two matrices, found {shape_of(call.input(0))} and {shape_of(call.input(1))}")
    c = None if c is None or beta == 0 else scaled(call, c, beta)
    if is_constant(b) and not is_constant(a):
        matrix = scaled(call, b, alpha)
        outputs = matrix.shape[0]
        if c is not None and is_constant(c) and shape_of(c) in ((), (1,), (outputs,), (1, 1), (1, outputs)):
            return linear(net, a, matrix, np.broadcast_to(np.asarray(c).reshape(-1), outputs))
        y = linear(net, a, matrix)
    else:
        y = scaled(call, multiplied(call, a, shape.transpose(net, b, 0, 1)), alpha)
    return y if c is None else elementwise.add(net, y, c)


def scaled(call: Call, found: Any, factor: float) -> Any:
    """`found` times a number; a constant stays of its type."""
    if factor == 1.0:
        return found
    if isinstance(found, (np.ndarray, np.generic)):
        return (np.asarray(found, np.float64) * factor).astype(np.asarray(found).dtype)
    return elementwise.multiply(call.net, found, factor)


def mat_mul(call: Call) -> Any:
    a, b = call.input(0), call.input(1)
    check_float(call, a, b)
    return multiplied(call, a, b)


def multiplied(call: Call, a: Any, b: Any) -> Any:
    """The product of matrices; of constants, only of as many numbers as a constant may have."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.ndim and b.ndim:
        try:
            lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise call.refuse(f"a product of shapes {a.shape} and {b.shape} does not fit") from None
        check_count(call, [*lead, *a.shape[:-1][-1:], *b.shape[1:][-1:]])
    return matmul(call.net, a, b)


def fused_mat_mul(call: Call) -> Any:
    a, b = call.input(0), call.input(1)
    check_float(call, a, b)
    net = call.net
    sides = []
    for found, name in ((a, "A"), (b, "B")):
        one = found
        if call.attribute(f"transBatch{name}", 0):
            # the first axis goes to the place before the last
            rank = len(shape_of(one))
            one = shape.permute(net, one, [*range(1, rank - 1), 0, rank - 1])
        sides.append(shape.transpose(net, one, -2, -1) if call.attribute(f"trans{name}", 0) else one)
    return scaled(call, multiplied(call, *sides), float(call.attribute("alpha", 1.0)))


def fused_gemm(call: Call) -> Any:
    return activated(call, gemm(call), "activation", ("activation_alpha", "activation_beta", "activation_gamma"))


#: ONNX's name -> ours, and whether it takes alpha and beta
_FUSED: Mapping[str, tuple[str, int]] = {
    "Relu": ("relu", 0),
    "Tanh": ("tanh", 0),
    "Sigmoid": ("sigmoid", 0),
    "LeakyRelu": ("leaky_relu", 1),
    "Elu": ("elu", 1),
    "Clip": ("clip", 2),
    "HardSigmoid": ("hard_sigmoid", 2),
    "Softplus": ("softplus", 0),
    "Softsign": ("softsign", 0),
}


def activated(call: Call, y: Any, name: str, parameters: tuple[str, ...] | str) -> Any:
    """`y` with the activation that an attribute names; its parameters are attributes, or one attribute's list."""
    function = call.attribute(name, "") or ""
    if not function:
        return y
    if isinstance(parameters, str):
        numbers = [float(number) for number in call.attribute(parameters, ()) or ()]
    else:
        given = [call.attribute(one, None) for one in parameters]
        numbers = [float(number) for number in given if number is not None]
    if function == "HardSwish":
        return activations.hardswish(call.net, y)
    if function not in _FUSED or len(numbers) < _FUSED[function][1]:
        raise call.refuse(f"the activation {function!r} with the parameters {numbers} is not supported")
    ours, count = _FUSED[function]
    return elementwise.activation(call.net, y, ours, *numbers[:count])


def mat_mul_integer(call: Call) -> Any:
    """(A - its zero point) (B - its zero point)."""
    b, zero = call.input(1), constant_parameter(call, call.input(3), "a zero point")
    if not isinstance(b, np.ndarray):
        raise call.refuse("a second matrix of whole numbers that the network computes is not supported")
    check_scaled(call, call.input(0))
    matrix = dequantised(b, None, _of_columns(zero))
    return multiplied(call, whole(call, call.input(0), call.input(2)), matrix)


def whole(call: Call, x: Any, zero: Any) -> Any:
    """What x - zero is, times its scale if that is known to the program alone."""
    if isinstance(x, Quantised) and x.scale is None:
        return x.real
    if isinstance(x, Quantised):
        zero = constant_parameter(call, zero, "a zero point")
        return dequantised_value(call, x, np.ones((), np.float32), zero)
    if isinstance(x, np.ndarray):
        return dequantised(x, None, constant_parameter(call, zero, "a zero point"), 0)
    zero = constant_parameter(call, zero, "a zero point")
    return dequantised_value(call, x, np.ones((), np.float32), zero, 0)


def _of_columns(parameter: np.ndarray | None) -> np.ndarray | None:
    """A number, or one for each column of a matrix, beside the matrix."""
    return parameter if parameter is None or parameter.ndim != 1 else parameter.reshape(1, -1)


def mat_mul_integer_to_float(call: Call) -> Any:
    """A B and a bias, of whole numbers with their scales and zero points."""
    a, b = call.input(0), call.input(1)
    scale, zero = (constant_parameter(call, call.input(k), "a scale or zero point") for k in (3, 5))
    if not isinstance(b, np.ndarray):
        raise call.refuse("a second matrix of whole numbers that the network computes is not supported")
    if not (isinstance(a, Quantised) and a.scale is None):
        own = constant_parameter(call, call.input(2), "a scale")
        assert own is not None
        a = dequantised_value(call, a, own, constant_parameter(call, call.input(4), "a zero point"), 0)
    else:
        a = a.real
    y = multiplied(call, a, dequantised(b, _of_columns(scale), _of_columns(zero)))
    bias = call.input(6)
    return y if bias is None else elementwise.add(call.net, y, bias)


def dynamic_quantize_mat_mul(call: Call) -> Any:
    """A, quantised by its extremes, times B of whole numbers, and a bias."""
    b = call.input(1)
    scale, zero = (constant_parameter(call, call.input(k), "a scale or zero point") for k in (2, 3))
    if not isinstance(b, np.ndarray):
        raise call.refuse("a second matrix of whole numbers that the network computes is not supported")
    y = multiplied(call, call.input(0), dequantised(b, _of_columns(scale), _of_columns(zero)))
    bias = call.input(4)
    return y if bias is None else elementwise.add(call.net, y, bias)


def mat_mul_n_bits(call: Call) -> Any:
    """A times the transpose of B (N, K), of numbers of a few bits with a scale and a zero point for each block of K."""
    bits, size = int(call.attribute("bits", 4)), int(call.attribute("block_size"))
    rows, columns = int(call.attribute("N")), int(call.attribute("K"))
    if bits not in (2, 4, 8) or size < 1 or size * bits % 8 or rows < 1 or columns < 1:
        raise call.refuse(
            f"bits={bits}, block_size={size}, N={rows} and K={columns} do not fit; 2, 4 or 8 bits are read"
        )
    blocks = -(-columns // size)
    packed, scale = call.array(1, "a second matrix"), call.array(2, "a scale")
    if packed.dtype != np.uint8 or packed.size != rows * blocks * size * bits // 8 or scale.size != rows * blocks:
        raise call.refuse(
            f"expected B and scales of {rows} rows of {blocks} blocks, found {packed.shape}, {scale.shape}"
        )
    zero: Any = 1 << bits - 1
    if call.input(3) is not None:
        zero = call.array(3, "a zero point")
        zero = _of_bits(zero, rows, bits)[:, :blocks] if zero.dtype == np.uint8 else zero
        if zero.size != rows * blocks:
            raise call.refuse(f"expected a zero point for each of {rows * blocks} blocks, found {zero.size}")
        zero = zero.astype(np.float32).reshape(rows, blocks, 1)
    if call.input(4) is not None and not np.array_equal(call.array(4, "g_idx"), np.arange(columns) // size):
        raise call.refuse("blocks in another order (g_idx) are not supported")
    whole = _of_bits(packed, rows, bits).reshape(rows, blocks, size).astype(np.float32)
    matrix = ((whole - zero) * scale.astype(np.float32).reshape(rows, blocks, 1)).reshape(rows, -1)[:, :columns]
    y = multiplied(call, call.required(0), np.ascontiguousarray(matrix).T)
    bias = call.input(5)
    return y if bias is None else elementwise.add(call.net, y, bias)


def _of_bits(packed: np.ndarray, rows: int, bits: int) -> np.ndarray:
    """Numbers of a few bits, the first of a byte in its lowest bits."""
    if packed.size % rows:
        raise FormatError(f"{packed.size} bytes are not {rows} rows of them")
    parts = [packed.reshape(rows, -1) >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(rows, -1)


def q_linear_mat_mul(call: Call) -> Any:
    sides = []
    for k, axis in ((0, -2), (3, -1)):
        scale, zero = (constant_parameter(call, call.input(k + i), "a scale or zero point") for i in (1, 2))
        assert scale is not None
        sides.append(dequantised_value(call, call.input(k), scale, zero, axis))
    return requantised(call, multiplied(call, *sides), call.input(6), call.input(7))


def requantised(call: Call, y: Any, scale: Any, zero: Any, axis: int = 1) -> Any:
    """A result as the whole numbers that an operator of such writes."""
    scale, zero = (constant_parameter(call, one, "a scale or zero point") for one in (scale, zero))
    if scale is None:
        raise call.refuse("expected a scale of the result, found none")
    limits = limits_of(np.dtype(np.uint8) if zero is None else zero.dtype)
    if isinstance(y, (np.ndarray, np.generic)):
        shift = 0 if zero is None else zero.astype(np.float64)
        found = np.rint(np.asarray(y, np.float64) / scale.astype(np.float64)) + shift
        return np.clip(found, limits.min, limits.max).astype(limits.dtype)
    return quantised(call, y, scale, zero, axis, limits)


def q_gemm(call: Call) -> Any:
    """Of A with scale and zero point, B with its own, C of whole numbers; the result may be quantised again."""
    net = call.net
    a_scale, a_zero, b_scale, b_zero = (
        constant_parameter(call, call.input(k), "a scale or zero point") for k in (1, 2, 4, 5)
    )
    assert a_scale is not None and b_scale is not None
    alpha = float(call.attribute("alpha", 1.0))
    turned = bool(call.attribute("transB", 0))
    a = dequantised_value(call, call.input(0), a_scale, a_zero, 0)
    b = dequantised_value(call, call.input(3), b_scale, b_zero, 0 if turned else 1)
    a = shape.transpose(net, a, 0, 1) if call.attribute("transA", 0) else a
    b = b if turned else shape.transpose(net, b, 0, 1)
    if not is_constant(b):
        raise call.refuse("a second matrix of whole numbers that the network computes is not supported")
    c = call.input(6)
    if c is not None:
        c = dequantised_value(call, c, np.asarray(alpha * a_scale.astype(np.float64) * b_scale, np.float32), None, -1)
    y = linear(net, a, scaled(call, b, alpha))
    y = y if c is None else elementwise.add(net, y, c)
    scale = call.input(7)
    return y if scale is None else requantised(call, y, scale, call.input(8))


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "Gemm": gemm,
    "MatMul": mat_mul,
    "MatMulInteger": mat_mul_integer,
    "QLinearMatMul": q_linear_mat_mul,
    "com.microsoft.FusedMatMul": fused_mat_mul,
    "com.microsoft.TransposeMatMul": fused_mat_mul,
    "com.microsoft.FusedGemm": fused_gemm,
    "com.microsoft.MatMulIntegerToFloat": mat_mul_integer_to_float,
    "com.microsoft.DynamicQuantizeMatMul": dynamic_quantize_mat_mul,
    "com.microsoft.MatMulNBits": mat_mul_n_bits,
    "com.microsoft.QGemm": q_gemm,
}
