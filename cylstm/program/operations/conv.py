"""Convolution, pooling, padding and upsampling over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cylstm.graph.values import Option, Value
from cylstm.program.network import Network
from cylstm.program.operations.elementwise import activation, cast, where
from cylstm.program.operations.parts import cut, slice_axis
from cylstm.program.operations.reduce import reduce
from cylstm.program.tensor import BATCH, Dim, DType, Tensor


def channels_last(net: Network, x: Any) -> tuple[Tensor, Value]:
    """A tensor (batch, channels, time) and its value (time, channels)."""
    x = net.tensor(x)
    if len(x.axes) != 3 or x.axes[0] != BATCH:
        raise net.refuse(f"expected a tensor (batch, channels, time), found {x.shape}")
    x = net.solid(net.solid(x, 1), 2)
    return x, net.arrange(x, [2, 1])


def single(net: Network, number: Any, what: str) -> int:
    """An option of one axis: a number, or a tuple of one."""
    if isinstance(number, (tuple, list)) and len(number) == 1:
        number = number[0]
    if type(number) is not int:
        raise net.refuse(f"{what} expected a whole number, found {number!r}")
    return number


def conv1d(
    net: Network,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    x = net.tensor(x)
    array = net.array(weight)
    if array.ndim != 3:
        raise net.refuse(f"expected a weight (filters, channels, kernel), found shape {array.shape}")
    stride, dilation = single(net, stride, "stride"), single(net, dilation, "dilation")
    reach = (array.shape[2] - 1) * dilation
    if padding == "same":
        before, after = reach // 2, reach - reach // 2
    elif padding == "valid":
        before = after = 0
    else:
        before = after = single(net, padding, "padding")
    if padding_mode != "zeros" and (before or after):
        mode = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}[padding_mode]
        x, before, after = pad_axis(net, x, 2, before, after, mode), 0, 0
    cropped = 0
    if padding_mode == "zeros" and x.unpadded is not None and x.unpadded[1] == 2:
        x, _, more_before, more_after = x.unpadded
        before, after = before + more_before, after + more_after
    if before == after == reach and stride == 1 and reach and _is_cropped(net, reach):
        after, cropped = 0, reach
    x, value = channels_last(net, x)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups}
    if before == reach and after == 0:
        options["padding"] = "causal" if reach else "valid"
        # the last window has to end at the last step for the number of windows to be the same
        if stride > 1 and reach:
            options |= {"padding": "explicit", "pad_before": before}
    elif before or after:
        options |= {"padding": "explicit", "pad_before": before, "pad_after": after}
    value = net.add_layer("conv1d", value, {"weight": array.transpose(0, 2, 1), "bias": net.array(bias)}, options)
    return Tensor(value, (BATCH, 1, 0), cropped=cropped)


def _is_cropped(net: Network, steps: int) -> bool:
    """Whether everything that reads the operation only cuts so many steps off its end, ``y[:, :, :-steps]``."""
    readers = net.readers()
    return bool(readers) and all(name == "slice" and taken == (2, None, -steps, 1) for name, taken in readers)


def pad_axis(net: Network, x: Tensor, axis: int, before: int, after: int, mode: str = "zero") -> Tensor:
    """Numbers before and after one of PyTorch's axes; negative ones cut."""
    axis = net.axis(x, axis)
    if before < 0 or after < 0:
        x = cut(net, x, axis, max(-before, 0), max(-after, 0))
        before, after = max(before, 0), max(after, 0)
    if not before and not after:
        return x
    x, place = net.stored_axis(x, axis)
    options: dict[str, Option] = {"axis": place, "before": before, "after": after, "mode": mode}
    value = net.add_layer("pad", x.value, options=options, part="pad")
    return Tensor(value, x.axes, x.dtype, unpadded=(x, axis, before, after) if mode == "zero" else None)


def pad(net: Network, x: Any, padding: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pairs of numbers (before, after), those of the last axis first."""
    given = net.tensor(x)
    if len(padding) % 2 or len(padding) > 2 * len(given.axes):
        raise net.refuse(f"expected pairs of padding, found {padding}")
    stored = {"constant": "zero", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}[mode]
    padded = _padded(net, given, padding, stored)
    if mode != "constant" or not value or padded is given:
        return padded
    ones = net.affine(activation(net, given, "clip", 0.0, 0.0), 1.0, 1.0)
    inside = cast(net, _padded(net, ones, padding, stored), "bool")
    found: Tensor = where(net, inside, padded, like(value, given.dtype))
    return found


def like(number: float, dtype: DType) -> float:
    """A number as a tensor of this type holds it: beside whole numbers its fraction is cut off."""
    return float(number) if dtype == "float" else int(number) if dtype == "int" else bool(number)


def _padded(net: Network, x: Tensor, padding: Sequence[int], mode: str) -> Tensor:
    for i in range(len(padding) // 2):
        before, after = padding[2 * i : 2 * i + 2]
        if before or after:
            x = pad_axis(net, x, len(x.axes) - 1 - i, before, after, mode)
    return x


def pool1d(
    net: Network,
    x: Any,
    mode: str,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> Tensor:
    x, value = channels_last(net, x)
    whole = kernel_size[0] if isinstance(kernel_size, (tuple, list)) and len(kernel_size) == 1 else kernel_size
    if whole == x.size(2) and isinstance(whole, Dim) and stride in (None, (), whole) and not padding:
        # F.max_pool1d(x, x.shape[2]): over all steps
        mode = {"average": "mean"}.get(mode, mode)
        return Tensor(net.add_layer("reduce", value, options={"mode": mode, "axis": 0}), (BATCH, 0, None))
    pool = single(net, kernel_size, "kernel_size")
    steps = pool if stride in (None, ()) else single(net, stride, "stride")
    around = single(net, padding, "padding")
    options: dict[str, Any] = {
        "mode": mode,
        "pool": pool,
        "stride": steps,
        "dilation": single(net, dilation, "dilation"),
    }
    options |= {"ceil_mode": bool(ceil_mode), "count_include_pad": bool(count_include_pad)}
    if around:
        options |= {"padding": "explicit", "pad_before": around, "pad_after": around}
    return Tensor(net.add_layer("pool1d", value, options=options), (BATCH, 1, 0))


def max_pool1d(
    net: Network,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices:
        raise net.refuse("return_indices is not supported")
    return pool1d(net, x, "max", kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    net: Network,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    return pool1d(net, x, "average", kernel_size, stride, padding, 1, ceil_mode, count_include_pad)


#: most windows of different sizes of an adaptive pooling, each a layer of its own
_MOST_WINDOWS = 64


def global_pool(net: Network, x: Any, mode: str, size: Any) -> Tensor:
    """An adaptive pooling of a known number of steps to any, or of any to one step."""
    x, value = channels_last(net, x)
    size = single(net, size, "output_size")
    if size == 1:
        return Tensor(net.add_layer("reduce", value, options={"mode": mode, "axis": 0}), (BATCH, 0, None))
    steps = value.shape[0]
    if steps is None or (steps % size and size > _MOST_WINDOWS):
        raise net.refuse(f"adaptive pooling of {steps or 'any number of'} steps to {size} is not supported")
    if steps % size:
        # window k begins at k steps / size, rounded down, and ends at (k + 1) steps / size, rounded up
        windows = [(k * steps // size, -(-(k + 1) * steps // size)) for k in range(size)]
        return net.concat([reduce(net, slice_axis(net, x, 2, *one), mode, 2, True) for one in windows], 2)
    options: dict[str, Option] = {"mode": {"mean": "average"}.get(mode, mode), "pool": steps // size}
    options["stride"] = steps // size
    return Tensor(net.add_layer("pool1d", value, options=options), (BATCH, 1, 0))


def upsample(net: Network, x: Any, size: Any, factor: Any, mode: str) -> Tensor:
    x = net.tensor(x)
    if mode != "nearest" or size is not None or len(x.axes) != 3:
        raise net.refuse(
            f"only mode='nearest' of (batch, channels, time) by a scale_factor is supported, found {mode!r}"
        )
    factor = factor[0] if isinstance(factor, tuple) else factor
    if not float(factor).is_integer() or factor < 1:
        raise net.refuse(f"scale_factor expected a whole number, found {factor!r}")
    axis = net.axis(x, 2)
    if x.axes[axis] is None:
        x = net.last(x, axis)
    return Tensor(net.add_layer("upsample", x.value, options={"axis": x.axes[axis], "size": int(factor)}), x.axes)
