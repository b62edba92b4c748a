"""Linear and other layers with a weight of their own that work step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cylstm.errors import UnsupportedError
from cylstm.formats.state_dict.wiring.layer import Activation, Layer, Weighted, slot_options
from cylstm.graph.values import Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class Linear(Weighted):
    """A linear layer of a state dict; its sizes and whether it has a bias are read from the tensors.

    Parameters
    ----------
    prefix : str
        The part of the tensors' names before ``.weight`` and ``.bias``; "" if there is none.
    activation : str, Activation or None
        Applied to the result.
    """

    activation: str | Activation | None

    def __init__(self, prefix: str, activation: str | Activation | None = "linear") -> None:
        self._keep(locals())

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        weight = assembler.take(self.what, self.tensor("weight"))
        if weight.ndim != 2 or not weight.size:
            raise assembler.misshaped(self.what, self.tensor("weight"), "(output, input)")
        return (weight.shape[1],)

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        weight = assembler.take(self.what, self.tensor("weight"))
        if weight.ndim != 2 or not weight.size or weight.shape[1] != x.features:
            raise assembler.misshaped(self.what, self.tensor("weight"), f"(output, {x.features})")
        names = {"weight": self.tensor("weight")}
        if self.tensor("bias") in assembler.tensors:
            names["bias"] = self.tensor("bias")
            assembler.expect(self.what, names["bias"], (weight.shape[0],))
        options = slot_options("activation", self.activation, where=self.what)
        weights = assembler.register(self.graph_name, names)
        return assembler.builder.add("dense", self.graph_name, {"x": x}, weights, options)["y"]


Dense = Linear


class Embedding(Weighted):
    """``torch.nn.Embedding`` of a state dict: ``prefix.weight`` (rows, size). Only as the first layer.

    The network's input is then indices, (batch, time) of whole numbers.
    """

    needs_time: ClassVar[bool] = True
    reads_indices: ClassVar[bool] = True

    def __init__(self, prefix: str) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        weight = self.tensor("weight")
        if assembler.take(self.what, weight).ndim != 2:
            raise assembler.misshaped(self.what, weight, "(rows, size)")
        if x.kind != "index":
            raise UnsupportedError(f"{assembler.where}: layer {self.what}: an embedding has to be the first layer")
        weights = assembler.register(self.graph_name, {"weight": weight})
        return assembler.builder.add("embedding", self.graph_name, {"indices": x}, weights)["y"]


class PReLU(Weighted):
    """``torch.nn.PReLU`` of a state dict: ``prefix.weight`` of one number or one per feature."""

    def __init__(self, prefix: str) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        assembler.take(self.what, self.tensor("weight"))
        weights = assembler.register(self.graph_name, {"slope": self.tensor("weight")})
        return assembler.builder.add("prelu", self.graph_name, {"x": x}, weights)["y"]
