"""Convolution and pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.state_dict.wiring.layer import Activation, Layer, Weighted, slot_options
from cylstm.formats.state_dict.wiring.recurrent import LastState
from cylstm.graph.values import Option, Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class Conv1d(Weighted):
    """A convolution of a state dict, ``torch.nn.Conv1d``; sizes and bias are read from the tensors.

    PyTorch's layout is (batch, channels, time); here sequences stay (batch, time, channels), so leave out the
    transpositions that only exist to feed it: ``conv(x.transpose(1, 2)).transpose(1, 2)`` is this layer alone.

    Parameters
    ----------
    prefix : str
        The part of the names before ``.weight`` (filters, channels/groups, kernel) and ``.bias``.
    stride, dilation, groups : int
    padding : int, (int, int), "valid", "same" or "causal"
        A number pads both ends, a pair the front and the end, "causal" the front as far as the kernel reaches, which
        carries over in a stream.
    activation : str, Activation or None
    """

    needs_time: ClassVar[bool] = True

    stride: int
    padding: int | tuple[int, int] | str
    dilation: int
    groups: int
    activation: str | Activation | None

    def __init__(
        self,
        prefix: str,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int = 1,
        groups: int = 1,
        activation: str | Activation | None = "linear",
    ) -> None:
        self._keep(locals())

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        weight = assembler.take(self.what, self.tensor("weight"))
        if weight.ndim != 3 or not weight.size:
            raise assembler.misshaped(self.what, self.tensor("weight"), "(filters, channels/groups, kernel)")
        return (weight.shape[1] * self.groups,)

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        name, tensor = self.graph_name, self.tensor("weight")
        weight = assembler.take(self.what, tensor)
        if weight.ndim != 3 or not weight.size or weight.shape[1] * self.groups != x.features:
            raise assembler.misshaped(self.what, tensor, f"(filters, {x.features}/{self.groups}, kernel)")
        weights = {"weight": assembler.register_as(name, "weight", tensor, np.asarray(weight).transpose(0, 2, 1))}
        if self.tensor("bias") in assembler.tensors:
            assembler.expect(self.what, self.tensor("bias"), (weight.shape[0],))
            weights |= assembler.register(name, {"bias": self.tensor("bias")})
        options = {
            **_window_options(self.stride, self.dilation, self.padding),
            "groups": self.groups,
            **slot_options("activation", self.activation, where=self.what),
        }
        return assembler.builder.add("conv1d", name, {"x": x}, weights, options)["y"]


class ConvTranspose1d(Weighted):
    """A transposed convolution of a state dict, ``torch.nn.ConvTranspose1d``, of sequences (batch, time, channels).

    Parameters
    ----------
    prefix : str
        The part of the names before ``.weight`` (channels, filters/groups, kernel) and ``.bias``.
    stride, output_padding, groups, dilation : int
    padding : int or (int, int)
        Steps that are cut off the result: a number at both ends, a pair at the front and the end. It streams if none
        is cut off in front and each step gives as many as the stride: (0, (kernel - 1)*dilation + 1 - stride).
    activation : str, Activation or None
    """

    needs_time: ClassVar[bool] = True

    stride: int
    padding: int | tuple[int, ...]
    output_padding: int
    groups: int
    dilation: int
    activation: str | Activation | None

    def __init__(
        self,
        prefix: str,
        *,
        stride: int = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int = 0,
        groups: int = 1,
        dilation: int = 1,
        activation: str | Activation | None = "linear",
    ) -> None:
        self._keep(locals())
        if isinstance(self.padding, tuple) and len(self.padding) != 2:
            raise ShapeError(f"ConvTranspose1d: padding expected a number or a pair, found {self.padding}")

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        weight = assembler.take(self.what, self.tensor("weight"))
        if weight.ndim != 3 or not weight.size:
            raise assembler.misshaped(self.what, self.tensor("weight"), "(channels, filters/groups, kernel)")
        return (weight.shape[0],)

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        name, tensor, groups = self.graph_name, self.tensor("weight"), self.groups
        weight = np.asarray(assembler.take(self.what, tensor))
        if weight.ndim != 3 or not weight.size or len(weight) != x.features or groups < 1 or len(weight) % groups:
            raise assembler.misshaped(self.what, tensor, f"({x.features}, filters/{groups}, kernel)")
        array = filters_first(weight, groups)
        weights = {"weight": assembler.register_as(name, "weight", tensor, array)}
        if self.tensor("bias") in assembler.tensors:
            assembler.expect(self.what, self.tensor("bias"), (len(array),))
            weights |= assembler.register(name, {"bias": self.tensor("bias")})
        before, after = (self.padding, self.padding) if isinstance(self.padding, int) else self.padding
        options: dict[str, Option] = {
            "stride_rows": self.stride,
            "dilation_rows": self.dilation,
            "output_padding_rows": self.output_padding,
            "crop_before": before,
            "crop_after": after,
            "groups": groups,
            **slot_options("activation", self.activation, where=self.what),
        }
        return assembler.builder.add("conv_transpose", name, {"x": x}, weights, options)["y"]


def filters_first(weight: np.ndarray, groups: int) -> np.ndarray:
    """PyTorch's weight of a transposed convolution, (channels, filters/groups, *kernel), as the graph has it: (filters,
    *kernel, channels/groups)."""
    channels, filters, *kernel = weight.shape
    apart = weight.reshape(groups, channels // groups, filters, *kernel)
    return np.moveaxis(apart, 1, -1).reshape(groups * filters, *kernel, channels // groups)


class _Pool(Layer):
    needs_time: ClassVar[bool] = True

    kernel_size: int
    stride: int | None
    padding: int | tuple[int, int] | str
    ceil_mode: bool

    def options(self) -> dict[str, Option]:
        raise NotImplementedError

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        options = self.options() | {"pool": self.kernel_size, "ceil_mode": self.ceil_mode}
        return assembler.builder.add("pool1d", "pool", {"x": x}, options=options)["y"]


class MaxPool1d(_Pool):
    """``torch.nn.MaxPool1d(kernel_size, stride, padding, dilation, ceil_mode=...)`` over time."""

    dilation: int

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int | tuple[int, int] | str = 0,
        dilation: int = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        stride = kernel_size if stride is None else stride
        self._keep(locals())

    def options(self) -> dict[str, Option]:
        return _window_options(self.stride, self.dilation, self.padding) | {"mode": "max"}


class AvgPool1d(_Pool):
    """``torch.nn.AvgPool1d(kernel_size, stride, padding, ceil_mode, count_include_pad)`` over time."""

    count_include_pad: bool

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int | tuple[int, int] | str = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        stride = kernel_size if stride is None else stride
        self._keep(locals())

    def options(self) -> dict[str, Option]:
        window = _window_options(self.stride, 1, self.padding)
        return window | {"mode": "average", "count_include_pad": self.count_include_pad}


def _window_options(stride: int | None, dilation: int, padding: int | tuple[int, int] | str) -> dict[str, Option]:
    """The graph's options of a window as PyTorch's layers describe it."""
    options: dict[str, Option] = {"stride": 1 if stride is None else stride, "dilation": dilation}
    if isinstance(padding, str):
        return options | {"padding": padding}
    before, after = (padding, padding) if isinstance(padding, int) else padding
    if before or after:
        options |= {"padding": "explicit", "pad_before": before, "pad_after": after}
    return options


class ConvLSTM(Weighted):
    """A ConvLSTM of a state dict, one direction.

    PyTorch has none; the tensors are laid out like those of ``torch.nn.Conv1d`` and ``Conv2d``: ``prefix.weight_ih``
    (4*filters, channels, [rows,] columns), ``prefix.weight_hh`` (4*filters, filters, [rows,] columns), optional
    ``prefix.bias`` (4*filters,), gates in the order i, f, g, o. The input is (batch, time, [rows,] columns,
    channels).

    Parameters
    ----------
    prefix : str
        The part of the tensors' names before ``.weight_ih``; "" if there is none.
    spatial_shape : tuple of int
        (columns,) or (rows, columns) of the input.
    strides, dilation : int or tuple of int
        Of the input convolution, one number per spatial axis.
    conv_padding : {"valid", "same"}
        Of the input convolution; the recurrent one is "same".
    activation, recurrent_activation : str or Activation
        The functions of the candidate g and of the cell in the output, and of the gates i, f and o.
    reverse, padding, empty_state
        As in `LSTM`.
    """

    needs_time: ClassVar[bool] = True
    has_state: ClassVar[bool] = True

    spatial_shape: tuple[int, ...]
    strides: int | tuple[int, ...]
    dilation: int | tuple[int, ...]
    conv_padding: str
    activation: str | Activation | None
    recurrent_activation: str | Activation | None
    reverse: bool
    padding: str
    empty_state: str

    def __init__(
        self,
        prefix: str,
        spatial_shape: tuple[int, ...],
        *,
        strides: int | tuple[int, ...] = 1,
        dilation: int | tuple[int, ...] = 1,
        conv_padding: str = "valid",
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        reverse: bool = False,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        self._keep(locals())

    @property
    def graph_name(self) -> str:
        return self.prefix or "conv_lstm"

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        weight = assembler.take(self.what, self.tensor("weight_ih"))
        if weight.ndim not in (3, 4) or not weight.size:
            expected = "(4*filters, channels, [rows,] columns)"
            raise assembler.misshaped(self.what, self.tensor("weight_ih"), expected)
        return (*self.spatial_shape, weight.shape[1])

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        name, what, axes = self.graph_name, self.what, len(self.spatial_shape)
        weight_ih, weight_hh = (assembler.take(what, self.tensor(role)) for role in ("weight_ih", "weight_hh"))
        if axes not in (1, 2) or x.shape[1:-1] != self.spatial_shape:
            raise FormatError(
                f"{assembler.where}: layer {what}: spatial_shape {self.spatial_shape} expected (columns,) or "
                f"(rows, columns) of its input {x.shape}"
            )
        rows = weight_ih.shape[0] if weight_ih.ndim else 0
        if weight_ih.ndim != 2 + axes or rows % 4 or weight_ih.shape[1] != x.features or not weight_ih.size:
            expected = f"(4*filters, {x.features}, {axes} kernel sizes)"
            raise assembler.misshaped(what, self.tensor("weight_ih"), expected)
        kernel = weight_ih.shape[2:]
        assembler.expect(what, self.tensor("weight_hh"), (rows, rows // 4, *kernel))
        weights = {}
        for role, array in (("weight_ih", weight_ih), ("weight_hh", weight_hh)):
            # the graph has the taps first, each with its channels
            taps_first = np.moveaxis(np.asarray(array), 1, -1).reshape(rows, -1)
            weights[role] = assembler.register_as(name, role, self.tensor(role), taps_first)
        if self.tensor("bias") in assembler.tensors:
            assembler.expect(what, self.tensor("bias"), (rows,))
            weights |= assembler.register(name, {"bias": self.tensor("bias")})
        options: dict[str, Option] = {
            "conv_padding": self.conv_padding,
            "padding": self.padding,
            "empty_state": self.empty_state,
            "reverse": self.reverse,
            **slot_options("activation", self.activation, where=what),
            **slot_options("recurrent_activation", self.recurrent_activation, where=what),
        }
        for option, given in (("kernel", kernel), ("stride", self.strides), ("dilation", self.dilation)):
            sizes = (given,) * axes if isinstance(given, int) else given
            if len(sizes) != axes:
                raise UnsupportedError(
                    f"{assembler.where}: layer {what}: {option} expected {axes} numbers, found {given}"
                )
            options |= {f"{option}_{axis}": size for axis, size in zip(("rows", "columns")[2 - axes :], sizes)}
        outputs = assembler.builder.add("conv_lstm", name, {"x": x}, weights, options)
        return outputs["h" if isinstance(following, LastState) else "y"]
