"""Layers without tensors: steps and axes, dropout, the gated linear unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cylstm.errors import ShapeError
from cylstm.formats.state_dict.wiring.layer import Layer
from cylstm.graph.values import Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class GLU(Layer):
    """``torch.nn.GLU`` over the features."""

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("glu", "glu", {"x": x})["y"]


class Reverse(Layer):
    """The sequence backwards in time.

    After a layer with ``reverse=True`` it gives the order of Keras's ``go_backwards``, that of processing.
    """

    needs_time: ClassVar[bool] = True

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("reverse", "reverse", {"x": x})["y"]


class Flatten(Layer):
    """All numbers of a sample in a row, ``torch.nn.Flatten()``. The input needs a fixed time: ``Input((time, ...))``.

    After a convolution PyTorch's order is (channels, time), here it is (time, channels): put ``Transpose()`` before it.
    """

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("reshape", "flatten", {"x": x}, options={"shape": "-1"})["y"]


class Transpose(Layer):
    """``x.transpose(1, 2)``: time and features exchanged; what follows sees the features as its time."""

    needs_time: ClassVar[bool] = True

    def __init__(self) -> None:
        pass  # without parameters

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("permute", "transpose", {"x": x}, options={"order": "10"})["y"]


class GlobalPool1d(Layer):
    """The "mean", "max", "min" or "sum" over time, ``AdaptiveAvgPool1d(1)`` and ``AdaptiveMaxPool1d(1)``."""

    needs_time: ClassVar[bool] = True

    mode: str

    def __init__(self, mode: str = "mean") -> None:
        self._keep(locals())
        if self.mode not in ("mean", "max", "min", "sum"):
            raise ShapeError(f"GlobalPool1d: mode expected 'mean', 'max', 'min' or 'sum', found {self.mode!r}")

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        return assembler.builder.add("reduce", "pool", {"x": x}, options={"mode": self.mode})["y"]
