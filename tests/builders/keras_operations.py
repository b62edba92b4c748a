"""Operations of ``keras.ops`` behind an LSTM: every one that is computed, and its options.

`OPERATIONS` maps a family and a name to a function of ``(ops, h, p, x)`` with the steps of an LSTM (batch, time, 5),
the same as positive numbers, and the network's input (batch, time, 4). `Networks` is a model of all of a family,
`network` of one.
"""

import numpy as np

from tests.builders.configurations import seed
from tests.builders.keras_models import numbers

TIME, BATCH, FEATURES, UNITS = 6, 3, 4, 5

_rng = np.random.default_rng(11)
_VECTOR = _rng.normal(size=UNITS).astype(np.float32)
_MATRIX = _rng.normal(size=(UNITS, 3)).astype(np.float32)
_TABLE = _rng.normal(size=(9, 2)).astype(np.float32)
#: which keys a query sees: one sees none, and another none but later ones
_SEEN = np.array([[c == "x" for c in row] for row in [".x.x.x", "xx.xx.", "......", "x.xxx.", "xxx..x", "xx...x"]])[
    None, None
]
_BIAS = _rng.normal(size=(1, 2, TIME, TIME)).astype(np.float32)


def _frames(ops, h):
    """(batch, time, 2, 3)."""
    return ops.stack([h[:, :, :3], h[:, :, 2:] * 0.5], axis=2)


NUMBERS = {
    "add": lambda o, h, p, x: o.add(h, p), "add number": lambda o, h, p, x: h + 0.3,
    "add vector": lambda o, h, p, x: h + _VECTOR, "add matrix": lambda o, h, p, x: h[:, :, :3] + _MATRIX[:1],
    "subtract": lambda o, h, p, x: h - p, "number minus": lambda o, h, p, x: 1 - h,
    "vector minus": lambda o, h, p, x: o.subtract(_VECTOR, h), "multiply": lambda o, h, p, x: h * p,
    "multiply vector": lambda o, h, p, x: h * _VECTOR, "divide": lambda o, h, p, x: o.divide(h, p),
    "true_divide": lambda o, h, p, x: h / p, "divide by number": lambda o, h, p, x: h / 3.0,
    "number by": lambda o, h, p, x: 1.0 / p, "divide by power of two": lambda o, h, p, x: h / 4.0,
    "divide_no_nan": lambda o, h, p, x: o.divide_no_nan(p, o.relu(h)), "floor_divide": lambda o, h, p, x: h // 0.21,
    "floor_divide tensors": lambda o, h, p, x: o.floor_divide(h, p * 0.3), "mod": lambda o, h, p, x: o.mod(h, 0.17),
    "mod negative": lambda o, h, p, x: o.mod(h, -0.17), "mod tensors": lambda o, h, p, x: o.mod(h, p * 0.3),
    "fmod": lambda o, h, p, x: o.fmod(h, 0.17), "power 2": lambda o, h, p, x: o.power(h, 2),
    "power 3": lambda o, h, p, x: h**3, "power half": lambda o, h, p, x: p**0.5, "power -1": lambda o, h, p, x: p**-1,
    "power 1.7": lambda o, h, p, x: p**1.7, "power of number": lambda o, h, p, x: 2.0**h,
    "power tensors": lambda o, h, p, x: o.power(p, h), "maximum": lambda o, h, p, x: o.maximum(h, 0.1),
    "maximum tensors": lambda o, h, p, x: o.maximum(h, p - 0.4), "minimum": lambda o, h, p, x: o.minimum(0.1, h),
    "minimum tensors": lambda o, h, p, x: o.minimum(h, p - 0.4), "fmax": lambda o, h, p, x: o.fmax(h, p - 0.4),
    "fmin": lambda o, h, p, x: o.fmin(h, p - 0.4), "arctan2": lambda o, h, p, x: o.arctan2(h, p - 0.5),
    "hypot": lambda o, h, p, x: o.hypot(h, p),
    "ldexp": lambda o, h, p, x: o.ldexp(h, o.cast(o.round(h * 4), "int32")),
    "logaddexp": lambda o, h, p, x: o.logaddexp(h * 5, p), "logaddexp2": lambda o, h, p, x: o.logaddexp2(h * 5, p),
    "heaviside": lambda o, h, p, x: o.heaviside(o.relu(h), p), "clip": lambda o, h, p, x: o.clip(h, -0.1, 0.2),
    "round": lambda o, h, p, x: o.round(h * 7), "round halves": lambda o, h, p, x: o.round(o.round(h * 9) / 2),
    "round decimals": lambda o, h, p, x: o.round(h, 1), "negative": lambda o, h, p, x: -h,
    "absolute": lambda o, h, p, x: o.absolute(h), "abs": lambda o, h, p, x: abs(h),
    "fabs": lambda o, h, p, x: o.fabs(h),
    "sign": lambda o, h, p, x: o.sign(h), "square": lambda o, h, p, x: o.square(h),
    "reciprocal": lambda o, h, p, x: o.reciprocal(p), "exp": lambda o, h, p, x: o.exp(h),
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(p) for name in (
        "sqrt", "rsqrt", "log", "log2", "log10", "log1p")},
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(h * 3) for name in (
        "cbrt", "floor", "ceil", "trunc", "exp2", "expm1", "sin", "cos", "sinh", "cosh", "erf", "erfc",
        "arctan", "arcsinh", "sinc", "deg2rad", "rad2deg")},
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(h * 0.9) for name in ("arcsin", "arccos", "arctanh")},
    "tan": lambda o, h, p, x: o.tan(h), "arccosh": lambda o, h, p, x: o.arccosh(p + 1),
    "copy": lambda o, h, p, x: o.copy(h) * 2,
    "real": lambda o, h, p, x: o.real(h) * 2, "conj": lambda o, h, p, x: o.conj(h) * 2,
    "conjugate": lambda o, h, p, x: o.conjugate(h) * 2,
    "stop_gradient": lambda o, h, p, x: o.stop_gradient(h) * 2,
    "convert_to_tensor": lambda o, h, p, x: o.convert_to_tensor(h) * 2, "array": lambda o, h, p, x: o.array(h) * 2,
    "nan_to_num": lambda o, h, p, x: o.nan_to_num(o.log(o.relu(h)), neginf=-3.0),
    "zeros_like": lambda o, h, p, x: o.zeros_like(h) + h, "ones_like": lambda o, h, p, x: o.ones_like(h) + h,
    "empty_like": lambda o, h, p, x: o.zeros_like(o.empty_like(h)) + h,  # its own numbers may be any
    "full_like": lambda o, h, p, x: o.full_like(h, 2.5) * h,
    "ones_like output": lambda o, h, p, x: o.ones_like(h),
}  # fmt: skip

CHOICES = {
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(h, p - 0.5) for name in (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal")},
    "greater number": lambda o, h, p, x: h > 0.1, "not_equal number": lambda o, h, p, x: o.not_equal(o.relu(h), 0),
    "less number": lambda o, h, p, x: h > 0.1, "logical_not": lambda o, h, p, x: o.logical_not(h > 0),
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(h > 0, p > 0.5) for name in (
        "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor")},
    "bitwise_not": lambda o, h, p, x: o.bitwise_not(h > 0),
    "bitwise_invert": lambda o, h, p, x: o.bitwise_invert(h > 0),
    "logical_and of numbers": lambda o, h, p, x: o.logical_and(o.relu(h), p),
    "isclose": lambda o, h, p, x: o.isclose(h, o.round(h, 1), atol=0.02),
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(o.log(h)) for name in ("isnan", "isfinite")},
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(o.log(o.relu(h))) for name in ("isinf", "isneginf")},
    "isposinf": lambda o, h, p, x: o.isposinf(1.0 / o.relu(h)),
    "isin": lambda o, h, p, x: o.isin(o.round(h * 3), np.array([-1.0, 1.0], np.float32)),
    "digitize": lambda o, h, p, x: o.digitize(h, np.array([-0.2, 0.0, 0.1], np.float32)),
    "where": lambda o, h, p, x: o.where(h > 0, h, p), "where number": lambda o, h, p, x: o.where(h > 0, h, -1.0),
    "where constant": lambda o, h, p, x: o.where(np.array([True, False, True, True, False]), h, p),
    "select": lambda o, h, p, x: o.select([h > 0.1, h > 0], [h, p], default=-1.0),
    "cast int": lambda o, h, p, x: o.cast(h * 9, "int32"), "cast bool": lambda o, h, p, x: o.cast(o.relu(h), "bool"),
    "cast truth": lambda o, h, p, x: o.cast(h > 0, "float32") * h,
    "saturate_cast": lambda o, h, p, x: o.saturate_cast(
        h * 9, "int32"),
    "mean of truths": lambda o, h, p, x: o.mean(o.cast(h > 0, "float32"), axis=1),
}  # fmt: skip

SHAPES = {
    "h[:, -1]": lambda o, h, p, x: h[:, -1], "h[:, 2]": lambda o, h, p, x: h[:, 2],
    "h[:, -1, :]": lambda o, h, p, x: h[:, -1, :], "h[..., :2]": lambda o, h, p, x: h[..., :2],
    "h[..., -1]": lambda o, h, p, x: h[..., -1], "h[:, ::2]": lambda o, h, p, x: h[:, ::2],
    "h[:, 1:-1]": lambda o, h, p, x: h[:, 1:-1], "h[:, -3:]": lambda o, h, p, x: h[:, -3:],
    "h[:, :, None]": lambda o, h, p, x: h[:, :, None], "h[:, None]": lambda o, h, p, x: h[:, None],
    "h[:, -1, None]": lambda o, h, p, x: h[:, -1, None], "h[:, 1, 2]": lambda o, h, p, x: h[:, 1, 2],
    "h[:, :4][:, 1:]": lambda o, h, p, x: h[:, :4][:, 1:],
    "reshape": lambda o, h, p, x: o.reshape(h, (-1, TIME * UNITS)),
    "reshape time": lambda o, h, p, x: o.reshape(h, (-1, TIME // 2, 2 * UNITS)),
    "reshape features": lambda o, h, p, x: o.reshape(x, (-1, TIME, 2, 2)),
    "transpose": lambda o, h, p, x: o.transpose(h, (0, 2, 1)),
    "expand_dims": lambda o, h, p, x: o.expand_dims(h, 1),
    "expand_dims last": lambda o, h, p, x: o.expand_dims(h, -1),
    "expand_dims several": lambda o, h, p, x: o.expand_dims(h, (1, 3)),
    "squeeze": lambda o, h, p, x: o.squeeze(h[:, 1:2], 1), "squeeze all": lambda o, h, p, x: o.squeeze(h[:, :, 1:2]),
    "swapaxes": lambda o, h, p, x: o.swapaxes(h, 1, 2),
    "moveaxis": lambda o, h, p, x: o.moveaxis(_frames(o, h), 1, -1),
    "broadcast_to": lambda o, h, p, x: o.multiply(o.full((1, TIME, UNITS), 2.0), h),
    "concatenate": lambda o, h, p, x: o.concatenate([h, x, p], axis=-1),
    "concatenate time": lambda o, h, p, x: o.concatenate([h, p[:, :2]], axis=1),
    "concatenate truths": lambda o, h, p, x: o.concatenate([h > 0, p > 0.5], axis=-1),
    "append": lambda o, h, p, x: o.append(h, x, axis=2), "stack": lambda o, h, p, x: o.stack([h, p], axis=1),
    "stack last": lambda o, h, p, x: o.stack([h, p, h], axis=-1), "hstack": lambda o, h, p, x: o.hstack([h, p]),
    "dstack": lambda o, h, p, x: o.dstack([h, x]), "split": lambda o, h, p, x: o.split(x, 2, axis=-1),
    "split places": lambda o, h, p, x: o.split(h, [2, 3], axis=-1),
    "split time": lambda o, h, p, x: o.split(h, 3, axis=1)[1],
    "array_split": lambda o, h, p, x: o.array_split(h, 2, axis=2),
    "hsplit": lambda o, h, p, x: o.hsplit(h, 2), "dsplit": lambda o, h, p, x: o.dsplit(x, 2),
    "unstack": lambda o, h, p, x: o.unstack(h, axis=2), "unstack time": lambda o, h, p, x: o.unstack(h, axis=1)[2],
    "flip": lambda o, h, p, x: o.flip(h, axis=1), "flip features": lambda o, h, p, x: o.flip(h, axis=(1, 2)),
    "fliplr": lambda o, h, p, x: o.fliplr(h),
    "take": lambda o, h, p, x: o.take(h, [0, 2], axis=-1),
    "take any order": lambda o, h, p, x: o.take(h, [3, 0, 0], axis=-1),
    "take number": lambda o, h, p, x: o.take(h, -1, axis=1),
    "take steps": lambda o, h, p, x: o.take(h, [4, 1], axis=1),
    "take matrix": lambda o, h, p, x: o.take(h, np.array([[0, 1], [2, -1]]), axis=-1),
    "take rows": lambda o, h, p, x: o.take(_TABLE, o.argmax(h, axis=-1), axis=0),
    "take_along_axis": lambda o, h, p, x: o.take_along_axis(h, o.argsort(p, axis=-1), axis=-1),
    "take_along_axis negative": lambda o, h, p, x: o.take_along_axis(h, o.argsort(p, axis=-1) - 2, axis=-1),
    "take_along_axis step": lambda o, h, p, x: o.take_along_axis(h, o.argmax(h, axis=1, keepdims=True), axis=1),
    "repeat": lambda o, h, p, x: o.repeat(h, 2, axis=1),
    "repeat one": lambda o, h, p, x: o.repeat(h[:, -1:], 3, axis=1),
    "tile": lambda o, h, p, x: o.tile(h, (1, 2, 1)), "tile one": lambda o, h, p, x: o.tile(h[:, -1:], (1, 3, 2)),
    "roll": lambda o, h, p, x: o.roll(h, 1, axis=1), "roll features": lambda o, h, p, x: o.roll(h, -2, axis=-1),
    "rot90": lambda o, h, p, x: o.rot90(h, axes=(1, 2)), "pad": lambda o, h, p, x: o.pad(h, ((0, 0), (1, 0), (0, 0))),
    "pad number": lambda o, h, p, x: o.pad(h, ((0, 0), (1, 2), (0, 1)), constant_values=0.7),
    "pad reflect": lambda o, h, p, x: o.pad(h, ((0, 0), (2, 1), (0, 0)), mode="reflect"),
    "pad symmetric": lambda o, h, p, x: o.pad(h, ((0, 0), (1, 0), (0, 1)), mode="symmetric"),
    "tril": lambda o, h, p, x: o.tril(h), "triu": lambda o, h, p, x: o.triu(h, k=1),
    "diagonal": lambda o, h, p, x: o.diagonal(h, offset=1, axis1=1, axis2=2),
    "trace": lambda o, h, p, x: o.trace(h, axis1=1, axis2=2),
    "extract_sequences": lambda o, h, p, x: o.extract_sequences(h, 3, 1),
}  # fmt: skip

AXES = {
    **{f"{name} features": lambda o, h, p, x, name=name: getattr(o, name)(h, axis=-1) for name in (
        "sum", "mean", "prod", "max", "min", "amax", "amin", "argmax", "argmin", "var", "std", "ptp", "norm",
        "logsumexp", "cumsum", "cumprod", "sort", "argsort", "median", "nansum", "nanprod", "nanmax", "nanmin",
        "nanmean", "nanvar", "nanstd", "nancumsum", "nancumprod", "normalize", "diff", "trapezoid",
        "average")},
    **{f"{name} time": lambda o, h, p, x, name=name: getattr(o, name)(h, axis=1) for name in (
        "sum", "mean", "prod", "max", "min", "argmax", "argmin", "var", "std", "ptp", "norm", "logsumexp", "cumsum",
        "cumprod", "sort", "argsort", "median", "nansum", "nanmax", "nanmean", "normalize", "diff", "trapezoid",
        "average")},
    **{f"{name} both": lambda o, h, p, x, name=name: getattr(o, name)(h, axis=(1, 2)) for name in (
        "sum", "mean", "prod", "max", "var", "std", "norm", "logsumexp")},
    **{f"{name} kept": lambda o, h, p, x, name=name: getattr(o, name)(h, axis=1, keepdims=True) for name in (
        "sum", "mean", "prod", "max", "min", "argmax", "var", "std", "ptp", "norm", "logsumexp", "median")},
    "max initial": lambda o, h, p, x: o.max(h, axis=1, initial=0.1),
    "min initial": lambda o, h, p, x: o.min(h, axis=1, initial=0.1),
    "any": lambda o, h, p, x: o.any(h > 0.2, axis=-1), "all": lambda o, h, p, x: o.all(h > -0.2, axis=-1),
    "any time": lambda o, h, p, x: o.any(h > 0.2, axis=1, keepdims=True), "all numbers": lambda o, h, p, x: o.all(
        o.relu(h), axis=1),
    "moments": lambda o, h, p, x: o.moments(h, axes=[1]), "moments both": lambda o, h, p, x: o.moments(
        h, axes=[1, 2], keepdims=True),
    "average weighted": lambda o, h, p, x: o.average(h, axis=-1, weights=np.abs(_VECTOR)),
    "nansum with nan": lambda o, h, p, x: o.nansum(o.log(h), axis=1),
    "nanmean with nan": lambda o, h, p, x: o.nanmean(o.log(h), axis=-1),
    "nanmax with nan": lambda o, h, p, x: o.nanmax(o.log(h), axis=1),
    "norm 1": lambda o, h, p, x: o.norm(h, ord=1, axis=-1), "norm 3": lambda o, h, p, x: o.norm(h, ord=3, axis=-1),
    "norm matrix 1": lambda o, h, p, x: o.norm(h, ord=1, axis=(1, 2)),
    "norm fro": lambda o, h, p, x: o.norm(h, ord="fro", axis=(1, 2)),
    "normalize 1": lambda o, h, p, x: o.normalize(h, axis=-1, order=1),
    "diff 2": lambda o, h, p, x: o.diff(h, n=2, axis=1),
    "trapezoid dx": lambda o, h, p, x: o.trapezoid(h, dx=0.3, axis=1),
    "top_k": lambda o, h, p, x: list(o.top_k(h, 2)), "in_top_k": lambda o, h, p, x: o.in_top_k(
        o.argmax(x[:, -1], axis=-1), h[:, -1, :4], 2),
    "quantile": lambda o, h, p, x: o.quantile(h, 0.3, axis=1), "quantile kept": lambda o, h, p, x: o.quantile(
        h, 0.3, axis=-1, keepdims=True), "percentile lower": lambda o, h, p, x: o.percentile(
        h, 30.0, axis=-1, method="lower"), "percentile nearest": lambda o, h, p, x: o.percentile(
        h, 40.0, axis=-1, method="nearest"),
    "percentile": lambda o, h, p, x: o.percentile(h, 70.0, axis=1),
}  # fmt: skip

PRODUCTS = {
    "matmul": lambda o, h, p, x: o.matmul(h, o.transpose(p, (0, 2, 1))),
    "matmul constant": lambda o, h, p, x: h @ _MATRIX,
    "matmul of constant": lambda o, h, p, x: o.matmul(_MATRIX.T, o.swapaxes(h, 1, 2)),
    "matmul swapped": lambda o, h, p, x: o.matmul(o.swapaxes(h, 1, 2), p),
    "einsum": lambda o, h, p, x: o.einsum("btf,bsf->bts", h, p), "einsum constant": lambda o, h, p, x: o.einsum(
        "btf,fg->bgt", h, _MATRIX),
    "einsum three": lambda o, h, p, x: o.einsum("btf,btg,fh->bgh", h, x, _MATRIX),
    "einsum ellipsis": lambda o, h, p, x: o.einsum("...f,fg->...g", h, _MATRIX),
    "tensordot": lambda o, h, p, x: o.tensordot(h, _MATRIX, axes=[[2], [0]]),
    "tensordot number": lambda o, h, p, x: o.tensordot(h, _MATRIX, axes=1),
    "dot": lambda o, h, p, x: o.dot(h, _MATRIX), "dot vector": lambda o, h, p, x: o.dot(h, _VECTOR),
    "inner": lambda o, h, p, x: o.inner(h, _MATRIX.T),
    "outer by hand": lambda o, h, p, x: h[:, -1][:, :, None] * p[:, 0][:, None, :],
    "attention by hand": lambda o, h, p, x: o.matmul(
        o.softmax(o.matmul(h, o.transpose(p, (0, 2, 1))) / np.sqrt(5.0).item(), axis=-1), h),
    "attention of steps": lambda o, h, p, x: o.sum(o.softmax(o.tanh(h @ _MATRIX[:, :1]), axis=1) * h, axis=1),
    "dot_product_attention": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p)),
    "dot_product_attention causal": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p), is_causal=True, scale=0.7),
    "dot_product_attention mask": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p), mask=_SEEN),
    "dot_product_attention mask causal": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p), mask=_SEEN, is_causal=True),
    "dot_product_attention bias causal": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p), bias=_BIAS, is_causal=True),
    "dot_product_attention computed mask causal": lambda o, h, p, x: o.dot_product_attention(
        _frames(o, h), _frames(o, p), _frames(o, h * p), mask=o.reshape(x[:, :, 0] > 0, (-1, 1, 1, TIME)),
        is_causal=True),
}  # fmt: skip

NN = {
    **{name: lambda o, h, p, x, name=name: getattr(o, name)(h * 3) for name in (
        "relu", "relu6", "sigmoid", "tanh", "softplus", "softsign", "silu", "selu", "hard_sigmoid", "sparse_sigmoid",
        "hard_tanh", "hard_silu", "log_sigmoid", "tanh_shrink", "soft_shrink", "hard_shrink", "elu", "leaky_relu",
        "celu", "gelu", "squareplus", "sparse_plus", "sparsemax", "softmax", "log_softmax")},
    "soft_shrink 0.3": lambda o, h, p, x: o.soft_shrink(h, 0.3),
    "hard_shrink 0.3": lambda o, h, p, x: o.hard_shrink(h, 0.3),
    "elu 0.6": lambda o, h, p, x: o.elu(h, 0.6), "leaky_relu 0.1": lambda o, h, p, x: o.leaky_relu(h, 0.1),
    "celu 0.6": lambda o, h, p, x: o.celu(h, 0.6), "gelu exact": lambda o, h, p, x: o.gelu(h, approximate=False),
    "squareplus 2": lambda o, h, p, x: o.squareplus(h, 2), "threshold": lambda o, h, p, x: o.threshold(h, 0.1, -0.5),
    "glu": lambda o, h, p, x: o.glu(h[:, :, :4]), "softmax time": lambda o, h, p, x: o.softmax(h, axis=1),
    "log_softmax time": lambda o, h, p, x: o.log_softmax(h, axis=1),
    "sparsemax time": lambda o, h, p, x: o.sparsemax(h * 3, axis=1),
    "one_hot": lambda o, h, p, x: o.one_hot(o.argmax(h, axis=-1), UNITS),
    "one_hot axis": lambda o, h, p, x: o.one_hot(o.argmax(h, axis=-1), UNITS, axis=1),
    "multi_hot": lambda o, h, p, x: o.multi_hot(o.argmax(h, axis=-1), UNITS),
    "batch_normalization": lambda o, h, p, x: o.batch_normalization(
        h, _VECTOR, np.abs(_VECTOR), axis=-1, offset=_VECTOR * 2, scale=_VECTOR * 0.5),
    "layer_normalization": lambda o, h, p, x: o.layer_normalization(h, _VECTOR, _VECTOR * 2, epsilon=1e-3),
    "layer_normalization plain": lambda o, h, p, x: o.layer_normalization(h, axis=-1),
    "rms_normalization": lambda o, h, p, x: o.rms_normalization(h, _VECTOR, axis=-1),
    "max_pool": lambda o, h, p, x: o.max_pool(h, 2), "max_pool same": lambda o, h, p, x: o.max_pool(h, 3, 1, "same"),
    "max_pool images": lambda o, h, p, x: o.max_pool(o.expand_dims(h, -1), (3, 2), (1, 2), "same")[..., 0],
    "average_pool images": lambda o, h, p, x: o.average_pool(o.stack([h, -h * h], 1), 2, data_format="channels_first"),
    "average_pool": lambda o, h, p, x: o.average_pool(h, 3, 2),
    "average_pool same": lambda o, h, p, x: o.average_pool(
        h, 2, 1, "same"),
}  # fmt: skip

_ALL = {"numbers": NUMBERS, "choices": CHOICES, "shapes": SHAPES, "axes": AXES, "products": PRODUCTS, "nn": NN}
_SIZE = 28
#: parts of one kind, each small enough for the outputs of one model
FAMILIES = {
    f"{kind}_{k}": dict(list(found.items())[k * _SIZE : (k + 1) * _SIZE])
    for kind, found in _ALL.items()
    for k in range(-(-len(found) // _SIZE))
}
OPERATIONS = {(family, name): function for family, found in FAMILIES.items() for name, function in found.items()}


class Networks:
    """A model of all operations of a family, and where the outputs of each begin and end."""

    def __init__(self, keras, family, time=TIME, names=None):
        keras.backend.clear_session()
        x = keras.Input((time, FEATURES))
        h = keras.layers.LSTM(UNITS, return_sequences=True)(x)
        p = keras.ops.absolute(h) + 0.3
        outputs, self.places = [], {}
        for name in names or FAMILIES[family]:
            y = FAMILIES[family][name](keras.ops, h, p, x)
            y = list(y) if isinstance(y, (list, tuple)) else [y]
            self.places[name] = slice(len(outputs), len(outputs) + len(y))
            outputs += y
        self.model = keras.Model(x, outputs)
        rng = np.random.default_rng(seed(family))
        weights = [rng.uniform(-0.9, 0.9, array.shape).astype(np.float32) for array in self.model.get_weights()]
        self.model.set_weights(weights)


def network(keras, family, name, time=TIME):
    """The model of one operation."""
    return Networks(keras, family, time, [name]).model


def array(family):
    return np.random.default_rng(seed("input", family)).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)


def outputs(model, x):
    """Keras's results as arrays."""
    found = model(x)
    found = found if isinstance(found, (list, tuple)) else [found]
    return [numbers(y).astype(np.float64) for y in found]
