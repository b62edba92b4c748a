"""Kernels and tables as Keras 3 stores them: in float32, with LoRA beside them, or quantised to int8 and int4.

A quantised weight is its dequantised numbers. With int8 Keras also rounds what a layer reads, to 127 steps of the
largest number in it, and so does `product`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import LayerCall
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.layers.activations import activated
from cylstm.graph.values import Option, Value

#: added to a number of less than 2**22 and taken away again, it leaves a whole number, ties to even
_ROUNDING = 1.5 * 2.0**23


@dataclass(frozen=True)
class Rounding:
    """How a layer rounds its input: ``clip(round(x * highest / (max |x| + epsilon)), lowest, highest)``."""

    lowest: float = -127.0
    highest: float = 127.0
    epsilon: float = 1e-7


@dataclass(frozen=True)
class Quantization:
    """The quantisation of a layer: `mode` "int8" or "int4"; `block`, how many numbers of int4 share a scale."""

    mode: str
    block: int | None
    rounding: Rounding | None


@dataclass(frozen=True)
class Kernel:
    """A kernel in Keras's shape.

    Attributes
    ----------
    array : ndarray
    scale : ndarray or None
        What results are divided by, one for each column of the kernel; None if it is in the kernel already.
    rounding : Rounding or None
        How the input is rounded before.
    """

    array: np.ndarray
    scale: np.ndarray | None = None
    rounding: Rounding | None = None


def quantization(layer: LayerConfig) -> Quantization | None:
    """How a layer is quantised. Raises `UnsupportedError` for a way that is not computed."""
    policy = layer.config.get("dtype")
    inner = policy.get("config") if isinstance(policy, dict) else None
    mode = inner.get("mode") if isinstance(inner, dict) else None
    if not isinstance(policy, dict) or policy.get("class_name") in ("DTypePolicy", "Policy") or mode is None:
        return None
    name, _, block_text = str(mode).partition("/")
    if policy.get("class_name") not in ("QuantizedDTypePolicy", "Int4DTypePolicy") or name not in ("int8", "int4"):
        raise UnsupportedError(
            f"{layer.what}: quantised as {mode!r:.40}, which is not supported: int8 and int4 are; save the model "
            "before quantize() is called"
        )
    block: int | None = None
    if name == "int4" and policy.get("class_name") == "Int4DTypePolicy":
        try:
            block = int(block_text)
        except ValueError:
            raise FormatError(f"{layer.what}: option dtype: mode {mode!r:.40} names no block size") from None
        block = block if block > 0 else None
    return Quantization(name, block, _rounding(layer, name))


def _rounding(layer: LayerConfig, mode: str) -> Rounding | None:
    """How the input is rounded, by the layer's own quantization_config if it has one."""
    given = layer.config.get("quantization_config")
    if given is None:
        return Rounding() if mode == "int8" or layer.class_name == "ReversibleEmbedding" else None
    inner = given.get("config") if isinstance(given, dict) else None
    if not isinstance(inner, dict):
        raise FormatError(f"{layer.what}: option quantization_config expected an object, found {given!r:.80}")
    quantizer = inner.get("activation_quantizer")
    if quantizer is None:
        return None
    options = quantizer.get("config") if isinstance(quantizer, dict) else None
    if not isinstance(options, dict) or quantizer.get("class_name") != "AbsMaxQuantizer":
        raise UnsupportedError(f"{layer.what}: option activation_quantizer expected AbsMaxQuantizer")
    limits, epsilon = options.get("value_range", [-127, 127]), options.get("epsilon", 1e-7)
    numbers = [*limits, epsilon] if isinstance(limits, list) and len(limits) == 2 else []
    if not numbers or not all(type(number) in (int, float) and abs(number) < 2**20 for number in numbers):
        raise FormatError(f"{layer.what}: option activation_quantizer expected a value_range, found {options!r:.80}")
    return Rounding(float(limits[0]), float(limits[1]), float(epsilon))


def _unpacked(packed: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Numbers of 4 bits, two to a byte along an axis, the first in the lower half."""
    bits = packed.astype(np.uint8)
    both = np.stack([bits & 15, bits >> 4], axis=axis % packed.ndim + 1)
    shape = list(packed.shape)
    shape[axis] *= 2
    signed = (both.reshape(shape).astype(np.int8) ^ 8) - 8
    return np.take(signed, np.arange(count), axis=axis).astype(np.float32)


def _groups(call: LayerCall, found: np.ndarray, count: int) -> np.ndarray:
    """Which group each number belongs to. Raises `FormatError` if there is no such group."""
    groups = found.astype(np.int64)
    if (groups < 0).any() or (groups >= count).any():
        raise FormatError(f"{call.what}: weight g_idx expected groups 0 to {count - 1}")
    return groups


def _as_float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


def take_kernel(
    call: LayerCall,
    shape: tuple[int, ...],
    reduced: Sequence[int],
    bias_shape: tuple[int, ...] | None,
    scale_shape: tuple[int, ...] | None = None,
    scale_axes: Sequence[int] | None = None,
) -> tuple[Kernel, np.ndarray | None]:
    """The kernel of a Dense or an EinsumDense, whose axes `reduced` are summed over, and its bias if it has one.

    `scale_shape` is that of the scale of an int8 kernel, whose numbers are those of the kernel's `scale_axes`.
    """
    layer, way = call.layer, quantization(call.layer)
    bias = {} if bias_shape is None else {"bias": bias_shape}
    roles = {"kernel": "weight", "bias": "bias", "kernel_scale": "weight", "kernel_zero": "weight", "g_idx": "weight"}
    if way is None:
        arrays = take_with_lora(call, "kernel", shape, bias, roles)
        return Kernel(arrays["kernel"]), arrays.get("bias")
    if call.layer.config.get("lora_rank") and not call.maker.is_archive:
        raise UnsupportedError(f"{call.what}: option lora_rank of a quantised layer is read from a .keras file alone")
    rows = math.prod(shape[k] for k in reduced)
    columns = math.prod(shape) // rows
    if way.mode == "int8":
        shapes = {"kernel": shape, **bias, "kernel_scale": scale_shape or (columns,)}
        arrays = call.take(shapes, roles, integers=["kernel"])
        kernel = arrays["kernel"].astype(np.float32)
        scale = _as_float32(arrays["kernel_scale"]).reshape(-1)
        if way.rounding is None and scale_axes is not None:
            kept = sorted(scale_axes)
            by_axis = scale.reshape([shape[k] for k in scale_axes])
            scale = by_axis.transpose([list(scale_axes).index(k) for k in kept])
        return _scaled(kernel, reduced, scale, way.rounding), arrays.get("bias")
    shapes = {"kernel": (rows, (columns + 1) // 2), **bias}
    if way.block is None:
        arrays = call.take({**shapes, "kernel_scale": (columns,)}, roles, integers=["kernel"])
        flat = _unpacked(arrays["kernel"], columns, -1)
        if layer.class_name == "Dense":
            return _scaled(flat, reduced, arrays["kernel_scale"], way.rounding), arrays.get("bias")
        flat = flat / _as_float32(arrays["kernel_scale"])
        return Kernel(flat.reshape(shape), None, way.rounding), arrays.get("bias")
    count = -(-rows // way.block)
    shapes |= {"kernel_scale": (count, columns), "kernel_zero": (count, columns), "g_idx": (rows,)}
    arrays = call.take(shapes, roles, integers=["kernel", "kernel_zero"])
    groups = _groups(call, arrays["g_idx"], count)
    flat = _unpacked(arrays["kernel"], columns, -1) - arrays["kernel_zero"].astype(np.float32)[groups]
    flat = flat * _as_float32(arrays["kernel_scale"])[groups]
    return Kernel(flat.reshape(shape)), arrays.get("bias")


def _scaled(kernel: np.ndarray, reduced: Sequence[int], scale: np.ndarray, rounding: Rounding | None) -> Kernel:
    """A kernel of whole numbers, and what its columns are divided by."""
    if rounding is not None:
        return Kernel(kernel, _as_float32(scale).reshape(-1), rounding)
    kept = [1 if k in reduced else size for k, size in enumerate(kernel.shape)]
    return Kernel(kernel / _as_float32(scale).reshape(kept))


def take_with_lora(
    call: LayerCall,
    name: str,
    shape: tuple[int, ...],
    others: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """The weights of a layer; with LoRA, the product that it adds to the weight `name` is added.

    A ``.keras`` file holds their sum, a live model and an ``.h5`` file hold the parts.
    """
    layer = call.layer
    rank = layer.config.get("lora_rank")
    if not rank or call.maker.is_archive:
        return call.take({name: shape, **others}, roles)
    if type(rank) is not int or rank < 1:
        raise FormatError(f"{call.what}: option lora_rank expected a number of at least 1, found {rank!r:.80}")
    alpha = layer.number("lora_alpha", rank) if layer.config.get("lora_alpha") is not None else float(rank)
    first, second = f"lora_{name}_a", f"lora_{name}_b"
    shapes = {name: shape, **others, first: (*shape[:-1], rank), second: (rank, shape[-1])}
    arrays = call.take(shapes, {**roles, first: roles[name], second: roles[name]})
    added = np.float32(alpha / rank) * (arrays.pop(first).astype(np.float32) @ arrays.pop(second).astype(np.float32))
    return {**arrays, name: arrays[name] + added}


def product(
    call: LayerCall,
    x: Value,
    kernel: Kernel,
    weight: np.ndarray,
    bias: np.ndarray | None,
    activation: str | dict[str, Option] | None,
    suffix: str = "",
) -> Value:
    """``weight @ x + bias`` over the last axis, then the activation; `kernel` says how x is rounded before."""
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    plain = {} if activation is None else activation
    if kernel.rounding is None:
        if activation is None:
            return call.add("dense", x, weights, suffix)
        return activated(call, plain, "dense", x, weights)
    rounded, scale = _rounded(call, x, kernel.rounding)
    y = call.add("dense", rounded, {"weight": weight}, f"{suffix}.rounded")
    divisor = np.ones(len(weight), np.float32) if kernel.scale is None else kernel.scale
    by = call.add("dense", scale, {"weight": divisor[:, np.newaxis]}, f"{suffix}.scale")
    last = suffix if bias is None and activation is None else f"{suffix}.divided"
    y = call.add("merge", {"x": y, "x1": by}, None, last, mode="div")
    if bias is not None:
        y = affine(call, y, 1.0, bias, suffix if activation is None else f"{suffix}.shifted")
    return y if activation is None else activated(call, plain, "activation", y)


def affine(call: LayerCall, x: Value, gain: float, shift: float | np.ndarray, suffix: str) -> Value:
    """``gain * x + shift``."""
    ones = np.ones(x.features, np.float32)
    weights = {"mean": ones * 0, "variance": ones, "gain": ones * np.float32(gain), "shift": ones * np.float32(shift)}
    return call.add("batch_norm", x, weights, suffix, epsilon=0.0)


def _rounded(call: LayerCall, x: Value, way: Rounding) -> tuple[Value, Value]:
    """x as whole numbers, and what it was multiplied by, one number for the last axis."""
    shape = ",".join(["time", *map(str, x.shape[1:-1]), "1"] if x.has_time else [*map(str, x.shape[:-1]), "1"])
    axis = len(x.shape) - 1
    high = call.add("reduce", x, None, ".highest", mode="max", axis=axis)
    low = call.add("reduce", x, None, ".lowest", mode="min", axis=axis)
    most = call.add("merge", {"x": high, "x1": affine(call, low, -1.0, 0.0, ".negative")}, None, ".most", mode="max")
    most = call.add("reshape", most, None, ".largest", shape=shape)
    top = affine(call, most, 0.0, way.highest, ".steps")
    by = affine(call, most, 1.0, way.epsilon, ".range")
    scale = call.add("merge", {"x": top, "x1": by}, None, ".unit", mode="div")
    y = call.add("merge", {"x": x, "x1": scale}, None, ".multiplied", mode="mul")
    y = affine(call, affine(call, y, 1.0, _ROUNDING, ".up"), 1.0, -_ROUNDING, ".down")
    y = call.add(
        "activation", y, None, ".whole", activation="clip", activation_alpha=way.lowest, activation_beta=way.highest
    )
    return y, scale


class Table(NamedTuple):
    """The table of an Embedding, and as a kernel of shape (size, rows) what multiplies vectors to give logits."""

    array: np.ndarray
    reverse: Kernel


def take_table(call: LayerCall, rows: int, size: int, *, is_tied: bool = True) -> Table:
    """The table of an Embedding, dequantised; `is_tied` tells whether it has no second one for logits."""
    way = quantization(call.layer)
    names = ("embeddings", "embeddings_scale", "embeddings_zero", "g_idx")
    roles = dict.fromkeys([*names, *(f"reverse_{name}" for name in names)], "weight")
    if way is None:
        others = {} if is_tied else {"reverse_embeddings": (size, rows)}
        arrays = take_with_lora(call, "embeddings", (rows, size), others, roles)
        table = arrays["embeddings"]
        return Table(table, Kernel(table.T if is_tied else arrays["reverse_embeddings"]))
    if call.layer.config.get("lora_rank") and not call.maker.is_archive:
        raise UnsupportedError(f"{call.what}: option lora_rank of a quantised layer is read from a .keras file alone")
    count = None if way.mode == "int8" or way.block is None else -(-size // way.block)
    is_packed, integers = way.mode == "int4", ["embeddings", "embeddings_zero", "reverse_embeddings"]
    stored = (size + 1) // 2 if is_packed else size
    shapes: dict[str, tuple[int, ...]] = {"embeddings": (rows, stored)}
    shapes |= {"embeddings_scale": (rows,)} if count is None else {
        "embeddings_scale": (rows, count), "embeddings_zero": (rows, count), "g_idx": (size,)
    }  # fmt: skip
    if not is_tied:
        shapes |= {"reverse_embeddings": (stored, rows)}
        shapes |= {"reverse_embeddings_scale": (rows,)} if count is None else {
            "reverse_embeddings_scale": (count, rows), "reverse_embeddings_zero": (count, rows)
        }  # fmt: skip
    arrays = call.take(shapes, roles, integers=integers)

    def whole(name: str, axis: int) -> np.ndarray:
        return _unpacked(arrays[name], size, axis) if is_packed else _as_float32(arrays[name])

    table, scale = whole("embeddings", 1), _as_float32(arrays["embeddings_scale"])
    reverse = table.T if is_tied else whole("reverse_embeddings", 0)
    if count is None:
        of_reverse = scale if is_tied else _as_float32(arrays["reverse_embeddings_scale"])
        return Table(table / scale[:, np.newaxis], _scaled(reverse, [0], of_reverse, way.rounding))
    groups = _groups(call, arrays["g_idx"], count)
    table = (table - _as_float32(arrays["embeddings_zero"])[:, groups]) * scale[:, groups]
    if is_tied:
        return Table(table, Kernel(table.T, None, way.rounding))
    reverse = reverse - _as_float32(arrays["reverse_embeddings_zero"])[groups]
    reverse = reverse * _as_float32(arrays["reverse_embeddings_scale"])[groups]
    return Table(table, Kernel(reverse, None, way.rounding))
