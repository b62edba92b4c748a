"""Images, such as spectrograms and lines of text: convolution, pooling, and what makes steps of them.

PyTorch's layout is (batch, channels, rows, columns). Here images are (batch, rows, columns, channels), where the rows
may be a time of any length; or with ``time="columns"``, in each of these layers, (batch, columns, rows, channels),
where the columns may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cylstm.errors import ShapeError
from cylstm.formats.state_dict.wiring.convolution import filters_first
from cylstm.formats.state_dict.wiring.layer import Activation, Layer, Weighted, slot_options
from cylstm.graph.values import Option, Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class _OfImages(Layer):
    """A layer whose options are a number for rows and columns, or one for each."""

    needs_time: ClassVar[bool] = True

    time: str

    def _keep(self, parameters: dict[str, Any]) -> None:
        super()._keep(parameters)
        if self.time not in ("rows", "columns"):
            raise ShapeError(f"{type(self).__name__}: time expected 'rows' or 'columns', found {self.time!r}")

    def along(self, name: str, found: int | tuple[int, ...]) -> tuple[int, int]:
        """An option along the first axis of the value and along the second."""
        rows, columns = (found, found) if isinstance(found, int) else found if len(found) == 2 else (None, None)
        if rows is None or columns is None:
            raise ShapeError(f"{type(self).__name__}: {name} expected a number, or one for rows and columns")
        return (rows, columns) if self.time == "rows" else (columns, rows)

    def check_image(self, assembler: Assembler, x: Value) -> None:
        """Raise `ShapeError` unless `x` is an image."""
        if len(x.shape) != 3 or not x.has_time:
            order = "rows, columns" if self.time == "rows" else "columns, rows"
            raise ShapeError(
                f"{assembler.where}: {type(self).__name__} expected an image ({order}, channels), found {x.shape}; "
                f"begin with Input(({order}, channels)), of which the first may be None"
            )


class Conv2d(_OfImages, Weighted):
    """``torch.nn.Conv2d`` of a state dict; sizes and bias are read from the tensors.

    Parameters
    ----------
    prefix : str
        The part of the names before ``.weight`` (filters, channels/groups, rows, columns) and ``.bias``.
    stride, dilation : int or (int, int)
        A number, or one for rows and one for columns.
    padding : int, (int, int), "valid", "same" or "causal"
        Rows and columns of zeros at both ends; "same" as PyTorch has it; "causal" puts those of the time in front, as
        far as the kernel reaches, and none elsewhere.
    groups : int
    activation : str, Activation or None
    time : {"rows", "columns"}
        Which of them is the first axis here, whose length may vary.
    """

    stride: int | tuple[int, ...]
    padding: int | tuple[int, int] | str
    dilation: int | tuple[int, ...]
    groups: int
    activation: str | Activation | None

    def __init__(
        self,
        prefix: str,
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: str | Activation | None = "linear",
        time: str = "rows",
    ) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        name, tensor = self.graph_name, self.tensor("weight")
        self.check_image(assembler, x)
        weight = assembler.take(self.what, tensor)
        if weight.ndim != 4 or not weight.size or weight.shape[1] * self.groups != x.features:
            raise assembler.misshaped(self.what, tensor, f"(filters, {x.features}/{self.groups}, rows, columns)")
        order = (0, 2, 3, 1) if self.time == "rows" else (0, 3, 2, 1)
        weights = {"weight": assembler.register_as(name, "weight", tensor, np.asarray(weight).transpose(order))}
        if self.tensor("bias") in assembler.tensors:
            assembler.expect(self.what, self.tensor("bias"), (weight.shape[0],))
            weights |= assembler.register(name, {"bias": self.tensor("bias")})
        options: dict[str, Option] = {
            "groups": self.groups,
            **slot_options("activation", self.activation, where=self.what),
        }
        strides, dilations = self.along("stride", self.stride), self.along("dilation", self.dilation)
        for axis, stride, dilation in zip(("rows", "columns"), strides, dilations):
            options |= {f"stride_{axis}": stride, f"dilation_{axis}": dilation}
        reaches = [(weight.shape[order[i + 1]] - 1) * dilation for i, dilation in enumerate(dilations)]
        options |= self._padding(reaches)
        return assembler.builder.add("conv2d", name, {"x": x}, weights, options)["y"]

    def _padding(self, reaches: list[int]) -> dict[str, Option]:
        if self.padding in ("valid", "causal"):
            return {"padding": str(self.padding)}
        if self.padding == "same":
            pads = [(reach // 2, reach - reach // 2) for reach in reaches]
        elif isinstance(self.padding, str):
            raise ShapeError(
                f"{self.what}: padding expected numbers, 'valid', 'same' or 'causal', found {self.padding!r}"
            )
        else:
            pads = [(one, one) for one in self.along("padding", self.padding)]
        names = ("pad_before", "pad_after", "pad_left", "pad_right")
        return {"padding": "explicit", **dict(zip(names, (*pads[0], *pads[1])))}


class ConvTranspose2d(_OfImages, Weighted):
    """``torch.nn.ConvTranspose2d`` of a state dict; sizes and bias are read from the tensors.

    Parameters
    ----------
    prefix : str
        The part of the names before ``.weight`` (channels, filters/groups, rows, columns) and ``.bias``.
    stride, output_padding, dilation : int or (int, int)
        A number, or one for rows and one for columns.
    padding : int or (int, int)
        Rows and columns that are cut off the result at both ends.
    groups : int
    activation : str, Activation or None
    time : {"rows", "columns"}
        As in `Conv2d`.
    """

    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...]
    output_padding: int | tuple[int, ...]
    groups: int
    dilation: int | tuple[int, ...]
    activation: str | Activation | None

    def __init__(
        self,
        prefix: str,
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
        activation: str | Activation | None = "linear",
        time: str = "rows",
    ) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        name, tensor, groups = self.graph_name, self.tensor("weight"), self.groups
        self.check_image(assembler, x)
        weight = np.asarray(assembler.take(self.what, tensor))
        if weight.ndim != 4 or not weight.size or len(weight) != x.features or groups < 1 or len(weight) % groups:
            raise assembler.misshaped(self.what, tensor, f"({x.features}, filters/{groups}, rows, columns)")
        array = filters_first(weight if self.time == "rows" else weight.swapaxes(2, 3), groups)
        weights = {"weight": assembler.register_as(name, "weight", tensor, array)}
        if self.tensor("bias") in assembler.tensors:
            assembler.expect(self.what, self.tensor("bias"), (len(array),))
            weights |= assembler.register(name, {"bias": self.tensor("bias")})
        options: dict[str, Option] = {"groups": groups, **slot_options("activation", self.activation, where=self.what)}
        for option in ("stride", "dilation", "output_padding"):
            rows, columns = self.along(option, getattr(self, option))
            options |= {f"{option}_rows": rows, f"{option}_columns": columns}
        rows, columns = self.along("padding", self.padding)
        options |= {"crop_before": rows, "crop_after": rows, "crop_left": columns, "crop_right": columns}
        return assembler.builder.add("conv_transpose", name, {"x": x}, weights, options)["y"]


class _Pool2d(_OfImages):
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...]
    ceil_mode: bool

    def options(self, place: int) -> dict[str, Option]:
        """Those of the graph's layer along one axis of the value."""
        sizes = {"pool": self.kernel_size, "stride": self.stride}
        options: dict[str, Option] = {name: self.along(name, found)[place] for name, found in sizes.items()}
        padding = self.along("padding", self.padding)[place]
        if padding:
            options |= {"padding": "explicit", "pad_before": padding, "pad_after": padding}
        return options | {"ceil_mode": self.ceil_mode, "axis": place}

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        self.check_image(assembler, x)
        for place, name in enumerate(("pool", "pool.across")):
            x = assembler.builder.add("pool1d", name, {"x": x}, options=self.options(place))["y"]
        return x


class MaxPool2d(_Pool2d):
    """``torch.nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=...)``; `time` as in `Conv2d`."""

    dilation: int | tuple[int, ...]

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        *,
        ceil_mode: bool = False,
        time: str = "rows",
    ) -> None:
        stride = kernel_size if stride is None else stride
        self._keep(locals())

    def options(self, place: int) -> dict[str, Option]:
        return super().options(place) | {"mode": "max", "dilation": self.along("dilation", self.dilation)[place]}


class AvgPool2d(_Pool2d):
    """``torch.nn.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad)``; `time` as in `Conv2d`."""

    count_include_pad: bool

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        time: str = "rows",
    ) -> None:
        stride = kernel_size if stride is None else stride
        self._keep(locals())

    def options(self, place: int) -> dict[str, Option]:
        return super().options(place) | {"mode": "average", "count_include_pad": self.count_include_pad}


class Steps(Layer):
    """The first axis of an image as time, each step with all numbers of its row or column, the channels outermost.

    ``x.permute(0, 3, 1, 2).flatten(2)`` of PyTorch's (batch, channels, rows, columns) behind layers with
    ``time="columns"``, and ``x.permute(0, 2, 1, 3).flatten(2)`` behind others.
    """

    needs_time: ClassVar[bool] = True

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        if len(x.shape) != 3 or not x.has_time:
            raise ShapeError(f"{assembler.where}: Steps() expected an image, found {x.shape}")
        x = assembler.builder.add("permute", "steps.permute", {"x": x}, options={"order": "021"})["y"]
        return assembler.builder.add("reshape", "steps", {"x": x}, options={"shape": "time,-1"})["y"]
