"""Convolution, pooling, padding and upsampling of sequences and images, (batch, channels, time) and (batch, channels,
rows, columns): spatial axes in the order of the program. An option of these is a number for all, or one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cylstm.graph.values import Option, Value
from cylstm.program.network import Network
from cylstm.program.operations.elementwise import activation, cast, where
from cylstm.program.operations.frames import has_frames, on_frames
from cylstm.program.operations.parts import cut, slice_axis
from cylstm.program.operations.reduce import reduce
from cylstm.program.tensor import BATCH, Dim, DType, Tensor


@dataclass(frozen=True)
class _Image:
    """A tensor (batch, channels, *spatial) as a value [frames,] (*spatial, channels).

    Attributes
    ----------
    value : Value
    order : tuple of int
        The program's spatial axes in the order of the value: one of open length is first.
    batch : int or tuple of int
        Its axis of the batch, joined with that of the frames where steps are rows.
    """

    value: Value
    order: tuple[int, ...]
    batch: Any

    @property
    def frames(self) -> int:
        """How many axes of the value are in front of the spatial ones: 0 or 1."""
        return 1 if isinstance(self.batch, tuple) else 0

    def by_place(self, numbers: Sequence[Any]) -> list[Any]:
        """What is given for each spatial axis, in the order of the value."""
        return [numbers[axis - 2] for axis in self.order]

    def tensor(self, value: Value) -> Tensor:
        """A result with its axes in the same places."""
        axes: list[Any] = [None] * (len(self.order) + 2)
        axes[0] = self.batch
        for i, axis in enumerate((*self.order, 1)):
            axes[axis] = i + self.frames
        return Tensor(value, tuple(axes))


def _image(net: Network, x: Tensor, *, frames_behind: bool = False) -> _Image:
    """`x` with its channels last; with `frames_behind` a value (time, frames, channels) if the time is open."""
    if len(x.axes) not in (3, 4) or not (x.axes[0] == BATCH or has_frames(x)):
        raise net.refuse(
            f"expected a tensor (batch, channels, time) or (batch, channels, rows, columns), found {x.shape}"
        )
    for axis in range(1, len(x.axes)):
        x = net.solid(x, axis)
    places = x.axes[0]
    spatial = list(range(2, len(x.axes)))
    if sum(isinstance(x.size(i), Dim) for i in spatial) > 1:
        raise net.needs_time("an image of which two axes are of open length")
    stored: list[Any] = [x.axes[i] for i in spatial]
    if None not in stored:
        spatial.sort(key=lambda i: x.axes[i])  # type: ignore[arg-type, return-value]
    spatial.sort(key=lambda i: not isinstance(x.size(i), Dim))
    if not isinstance(places, tuple):
        return _Image(net.arrange(x, [*spatial, 1]), tuple(spatial), BATCH)
    if len(places) > 2:
        raise net.refuse("steps that are rows, of more than two axes")
    plain = net.plain(x)
    frames = next(i for i, place in enumerate(places) if place != BATCH)
    moved = [i + 1 for i in (*spatial, 1)]
    wanted = [moved[0], frames, moved[1]] if frames_behind else [frames, *moved]
    batch = tuple(BATCH if place == BATCH else 0 for place in places)
    return _Image(net.arrange(plain, wanted), tuple(spatial), batch)


def _each(net: Network, number: Any, count: int, what: str) -> tuple[int, ...]:
    """An option of each spatial axis: a number for all of them, or a tuple of one or of all."""
    numbers = tuple(number) if isinstance(number, (tuple, list)) else (number,)
    numbers = numbers * count if len(numbers) == 1 else numbers
    if len(numbers) != count or any(isinstance(one, bool) or not isinstance(one, (int, np.integer)) for one in numbers):
        raise net.refuse(f"{what} expected a whole number for each of {count} axes, found {number!r}")
    return tuple(int(one) for one in numbers)


#: padding of an axis of open length: as much as gives length / stride windows, rounded up; the odd number is behind
CEIL = "ceil"


def _pairs(net: Network, padding: Any, count: int, what: str = "padding") -> list[Any]:
    """Numbers before and after each spatial axis, or `CEIL`: of numbers as `_each` takes them, both; or of pairs."""
    if isinstance(padding, (tuple, list)) and padding and all(isinstance(one, (tuple, list, str)) for one in padding):
        if len(padding) != count:
            raise net.refuse(f"{what} expected a pair for each of {count} axes, found {padding!r}")
        return [one if one == CEIL else _each(net, one, 2, what) for one in padding]
    return [(one, one) for one in _each(net, padding, count, what)]


def conv(
    net: Network,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """A cross-correlation; weight (filters, channels/groups, *kernel).

    `padding` is a number for each axis, or a pair (before, after) or `CEIL`; or it is "same" (PyTorch's: the odd number
    behind) or "valid".
    """
    x = net.tensor(x)
    array = net.array(weight)
    count = len(x.axes) - 2
    if array.ndim != count + 2 or count not in (1, 2):
        raise net.refuse(
            f"expected (batch, channels, time) and a weight (filters, channels, kernel), or (batch, channels, rows, "
            f"columns) and (filters, channels, kernel_rows, kernel_columns), found {x.shape} and {array.shape}"
        )
    strides, dilations = _each(net, stride, count, "stride"), _each(net, dilation, count, "dilation")
    reaches = [(kernel - 1) * one for kernel, one in zip(array.shape[2:], dilations)]
    if padding == "same":
        pads = [(reach // 2, reach - reach // 2) for reach in reaches]
    else:
        pads = _pairs(net, 0 if padding == "valid" else padding, count)
    if count == 2 and has_frames(x) and any(isinstance(x.size(i), Dim) for i in (2, 3)):
        return on_frames(net, lambda one: conv(net, one, weight, bias, strides, pads, dilations, groups), (x,))  # type: ignore[no-any-return]
    while x.unpadded is not None and x.unpadded[1] in range(2, count + 2) and pads[x.unpadded[1] - 2] != CEIL:
        x, axis, before, after = x.unpadded
        pads[axis - 2] = (pads[axis - 2][0] + before, pads[axis - 2][1] + after)
    cropped = 0
    for i, reach in enumerate(reaches):
        is_open = isinstance(x.size(i + 2), Dim)
        if is_open and pads[i] == (reach, reach) and strides[i] == 1 and reach and _is_cropped(net, i + 2, reach):
            pads[i], cropped = (reach, 0), reach
    weights = {"weight": array, "bias": net.array(bias)}
    if count == 1 and not has_frames(x):
        image = _image(net, x)
        rows = _window(strides[0], pads[0], reaches[0])
        options = {**rows, "stride": strides[0], "dilation": dilations[0], "groups": groups}
        weights["weight"] = array.transpose(0, 2, 1)
        value = net.add_layer("conv1d", image.value, weights, options)
    else:
        image, value = _conv2d(net, x, weights, strides, pads, dilations, groups)
    y = image.tensor(value)
    return Tensor(y.value, y.axes, cropped=cropped) if cropped else y


def _window(stride: int, pads: Any, reach: int) -> dict[str, Any]:
    """The options of a convolution's first axis that say how it is padded."""
    if pads == CEIL:
        return {"padding": "same"}
    before, after = pads
    # with a stride the last window has to end at the last step for the number of windows to be the same
    if before == reach and after == 0 and (stride == 1 or not reach):
        return {"padding": "causal" if reach else "valid"}
    return {"padding": "explicit", "pad_before": before, "pad_after": after} if before or after else {}


def _conv2d(
    net: Network,
    x: Tensor,
    weights: dict[str, Any],
    strides: Sequence[int],
    pads: Sequence[Any],
    dilations: Sequence[int],
    groups: int,
) -> tuple[_Image, Value]:
    """An image, or steps as rows: these are the rows of an image, or its columns where the time itself is open."""
    array = weights["weight"]
    given = list(zip(array.shape[2:], strides, pads, dilations))
    if array.ndim == 3:
        is_open = isinstance(x.size(2), Dim)
        image = _image(net, x, frames_behind=is_open)
        one = (1, 1, (0, 0), 1)
        axes = [given[0], one] if is_open else [one, given[0]]
        kernel = array[:, :, :, None] if is_open else array[:, :, None, :]
        if is_open:
            image = _FramesBehind(image.value, image.order, image.batch)
    else:
        image = _image(net, x)
        axes = image.by_place(given)
        kernel = array.transpose(0, 1, *image.order)
    (rows, stride_rows, pad_rows, dilation_rows), (_, stride_columns, pad_columns, dilation_columns) = axes
    options: dict[str, Any] = {
        "stride_rows": stride_rows,
        "stride_columns": stride_columns,
        "dilation_rows": dilation_rows,
        "dilation_columns": dilation_columns,
        "groups": groups,
        **_window(stride_rows, pad_rows, (rows - 1) * dilation_rows),
    }
    if any(pad_columns):
        options |= {"pad_left": pad_columns[0], "pad_right": pad_columns[1]}
    found = {**weights, "weight": kernel.transpose(0, 2, 3, 1)}
    return image, net.add_layer("conv2d", image.value, found, options)


class _FramesBehind(_Image):
    """A value (time, frames, channels) of (batch * frames, channels, time)."""

    def tensor(self, value: Value) -> Tensor:
        batch = tuple(BATCH if place == BATCH else 1 for place in self.batch)
        return Tensor(value, (batch, 2, 0))


def conv_transpose(
    net: Network,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transposed convolution; weight (channels, filters/groups, *kernel).

    `padding`, a number for each axis or a pair, is cut off the result; `output_padding` makes it longer at the end.
    """
    x = net.tensor(x)
    array = net.array(weight)
    count = len(x.axes) - 2
    if array.ndim != count + 2 or count not in (1, 2) or array.shape[0] % groups:
        raise net.refuse(
            f"expected (batch, channels, time) and a weight (channels, filters, kernel), or (batch, channels, rows, "
            f"columns) and (channels, filters, kernel_rows, kernel_columns), found {x.shape} and {array.shape}"
        )
    strides, dilations = _each(net, stride, count, "stride"), _each(net, dilation, count, "dilation")
    more, crops = _each(net, output_padding, count, "output_padding"), _pairs(net, padding, count)
    if has_frames(x) and any(isinstance(x.size(i), Dim) for i in range(2, count + 2)):
        return on_frames(  # type: ignore[no-any-return]
            net,
            lambda one: conv_transpose(net, one, weight, bias, strides, crops, more, groups, dilations),
            (x,),
        )
    image = _image(net, x)
    # (groups, channels, filters, *kernel) to (groups, filters, *kernel, channels)
    channels, filters, *kernel = array.shape
    apart = array.reshape(groups, channels // groups, filters, *kernel)
    apart = apart.transpose(0, 2, *(axis + 1 for axis in image.order), 1)
    weights = {"weight": apart.reshape(groups * filters, *apart.shape[2:]), "bias": net.array(bias)}
    options: dict[str, Any] = {"groups": groups}
    names = (("rows", "before", "after"), ("columns", "left", "right"))
    for (axis, first, last), one, gap, crop, end in zip(
        names, *(image.by_place(given) for given in (strides, dilations, crops, more))
    ):
        options |= {f"stride_{axis}": one, f"dilation_{axis}": gap, f"output_padding_{axis}": end}
        options |= {f"crop_{first}": crop[0], f"crop_{last}": crop[1]}
    return image.tensor(net.add_layer("conv_transpose", image.value, weights, options))


def _is_cropped(net: Network, axis: int, steps: int) -> bool:
    """Whether everything that reads the operation only cuts so many steps off its end, ``y[:, :, :-steps]``."""
    readers = net.readers()
    return bool(readers) and all(name == "slice" and taken == (axis, None, -steps, 1) for name, taken in readers)


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


def pool(
    net: Network,
    x: Any,
    mode: str,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    divisor: int | None = None,
) -> Tensor:
    """The "max" or "average" of windows, by PyTorch's rules, axis by axis.

    A size in `kernel` may be that of the whole axis, of any length. `padding` is a number for each axis, a pair or
    `CEIL`.
    `divisor` takes the place of the numbers of a window in an average.
    """
    x = net.tensor(x)
    count = len(x.axes) - 2
    kernels = tuple(kernel) if isinstance(kernel, (tuple, list)) else (kernel,)
    kernels = kernels * count if len(kernels) == 1 else kernels
    sizes = [x.size(i + 2) for i in range(count)]
    whole = [isinstance(size, Dim) and one == size for one, size in zip(kernels, sizes)]
    fixed = [1 if all_of_it else one for one, all_of_it in zip(kernels, whole)]
    windows = _each(net, fixed, count, "kernel_size")
    strides = _each(net, fixed if stride in (None, (), []) else _unless_whole(stride, sizes), count, "stride")
    pads, dilations = _pairs(net, padding, count), _each(net, dilation, count, "dilation")
    if has_frames(x) and any(isinstance(size, Dim) for size in sizes):
        return on_frames(  # type: ignore[no-any-return]
            net,
            lambda one: pool(net, one, mode, kernel, stride, padding, dilation, ceil_mode, count_include_pad, divisor),
            (x,),
        )
    image = _image(net, x)
    value = image.value
    scale = 1.0
    for i, axis in enumerate(image.order):
        k = axis - 2
        if whole[k]:
            if any(pads[k]) or divisor is not None:
                raise net.refuse("a window of all steps with padding or a divisor of its own is not supported")
            continue
        has_more = ceil_mode and _has_more(sizes[k], windows[k], strides[k], pads[k], dilations[k])
        options: dict[str, Option] = {"mode": mode, "pool": windows[k], "stride": strides[k], "dilation": dilations[k]}
        options |= {"ceil_mode": has_more, "count_include_pad": bool(count_include_pad), "axis": i + image.frames}
        if divisor is not None:
            if has_more:
                raise net.refuse("divisor_override with windows that are not full (ceil_mode) is not supported")
            scale *= windows[k]
            options["count_include_pad"] = True
        if pads[k] == CEIL:
            if count_include_pad:
                raise net.needs_time("an average that counts a padding which depends on it")
            options["padding"] = "same"
        elif any(pads[k]):
            options |= {"padding": "explicit", "pad_before": pads[k][0], "pad_after": pads[k][1]}
        if windows[k] > 1 or strides[k] > 1 or any(pads[k]) or count == 1:
            value = net.add_layer("pool1d", value, options=options, part="columns" if i else "")
    y = image.tensor(value)
    for i, all_of_it in enumerate(whole):
        if all_of_it:  # F.max_pool1d(x, x.shape[2])
            y = reduce(net, y, {"average": "mean"}.get(mode, mode), i + 2, True)
    return y if divisor is None else net.affine(y, scale / divisor, 0.0)


def _unless_whole(stride: Any, sizes: Sequence[Any]) -> Any:
    """Strides, of which one that is the size of a whole axis is as good as any."""
    strides = tuple(stride) if isinstance(stride, (tuple, list)) else (stride,)
    strides = strides * len(sizes) if len(strides) == 1 else strides
    return tuple(1 if isinstance(one, Dim) and one == size else one for one, size in zip(strides, sizes))


def _has_more(size: Any, window: int, stride: int, pads: tuple[int, int], dilation: int) -> bool:
    """Whether ceil_mode adds a window, which begins within the axis or the padding before it."""
    if not isinstance(size, int):
        return stride > 1
    left = size + sum(pads) - (window - 1) * dilation - 1
    last = -(-left // stride) * stride
    return left % stride != 0 and last < size + pads[0]


#: most windows of different sizes of an adaptive pooling, each a layer of its own
_MOST_WINDOWS = 64


def adaptive_pool(net: Network, x: Any, mode: str, size: Any) -> Tensor:
    """The "mean" or "max" of windows that share out each axis by PyTorch's rule; None keeps an axis as it is."""
    y = net.tensor(x)
    count = len(y.axes) - 2
    sizes = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    sizes = sizes * count if len(sizes) == 1 else sizes
    if count not in (1, 2) or len(sizes) != count:
        raise net.refuse(f"expected a size for each spatial axis of {y.shape}, found {size!r}")
    for i, one in enumerate(map(net.size, sizes)):
        if one is not None and one != y.size(i + 2):
            y = _shared_out(net, y, mode, i + 2, *_each(net, one, 1, "output_size"))
    return y


def _shared_out(net: Network, x: Tensor, mode: str, axis: int, size: int) -> Tensor:
    if size == 1:
        return reduce(net, x, mode, axis, True)  # type: ignore[no-any-return]
    steps = x.size(axis)
    if not isinstance(steps, int) or (steps % size and size > _MOST_WINDOWS):
        many = steps if isinstance(steps, int) else "any number of"
        raise net.refuse(f"adaptive pooling of {many} steps to {size} is not supported")
    if steps % size:
        # window k begins at k steps / size, rounded down, and ends at (k + 1) steps / size, rounded up
        windows = [(k * steps // size, -(-(k + 1) * steps // size)) for k in range(size)]
        return net.concat([reduce(net, slice_axis(net, x, axis, *one), mode, axis, True) for one in windows], axis)
    options: dict[str, Option] = {"mode": {"mean": "average"}.get(mode, mode), "pool": steps // size}
    if has_frames(x) or len(x.axes) == 4:
        x, place = net.stored_axis(x, axis)
        if x.value.kind == "sequence":
            options |= {"stride": steps // size, "axis": place}
            return Tensor(net.add_layer("pool1d", x.value, options=options), x.axes)
    image = _image(net, x)
    options |= {"stride": steps // size, "axis": image.order.index(axis) + image.frames}
    return image.tensor(net.add_layer("pool1d", image.value, options=options))
