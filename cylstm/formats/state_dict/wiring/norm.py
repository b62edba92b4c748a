"""Normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cylstm.formats.state_dict.wiring.layer import Layer, Weighted
from cylstm.graph.values import Option, Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class _Normalization(Weighted):
    kind: ClassVar[str] = "layer_norm"
    #: (role in the graph, name) of the tensors that have to be there
    required: ClassVar[tuple[tuple[str, str], ...]] = ()
    eps: float

    def options(self) -> dict[str, Option]:
        return {"epsilon": float(self.eps)}

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        name = self.required[0][1] if self.required else "weight"
        return (int(assembler.take(self.what, self.tensor(name)).size),)

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        optional = (("gain", "weight"), ("shift", "bias"))
        given = [(role, name) for role, name in optional if self.tensor(name) in assembler.tensors]
        names = {role: self.tensor(name) for role, name in (*given, *self.required)}
        for tensor in names.values():
            assembler.expect(self.what, tensor, (x.features,))
        weights = assembler.register(self.graph_name, names)
        return assembler.builder.add(self.kind, self.graph_name, {"x": x}, weights, self.options())["y"]


@dataclass(frozen=True, repr=False, eq=False)
class BatchNorm1d(_Normalization):
    """``torch.nn.BatchNorm1d`` of a state dict, over the last axis: ``prefix.running_mean`` and so on."""

    kind: ClassVar[str] = "batch_norm"
    required: ClassVar[tuple[tuple[str, str], ...]] = (("mean", "running_mean"), ("variance", "running_var"))

    eps: float = 1e-5

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        counter = self.tensor("num_batches_tracked")
        if counter in assembler.tensors:
            assembler.used[counter] = f"{self.graph_name}/not used in prediction"
        return super().add_to(assembler, x, following)


@dataclass(frozen=True, repr=False, eq=False)
class LayerNorm(_Normalization):
    """``torch.nn.LayerNorm`` of a state dict over the last axis; weight and bias are used if they exist."""

    eps: float = 1e-5


@dataclass(frozen=True, repr=False, eq=False)
class RMSNorm(_Normalization):
    """``torch.nn.RMSNorm`` of a state dict over the last axis; `eps` None is PyTorch's own, 2^-23."""

    eps: float | None = None  # type: ignore[assignment]  # a number once it is made

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps is None:
            object.__setattr__(self, "eps", 2.0**-23)

    def options(self) -> dict[str, Option]:
        return {**super().options(), "mode": "rms"}


@dataclass(frozen=True, repr=False, eq=False)
class GroupNorm(_Normalization):
    """``torch.nn.GroupNorm(num_groups, ...)`` of a state dict, over all steps."""

    kind: ClassVar[str] = "group_norm"

    num_groups: int
    eps: float = 1e-5

    def options(self) -> dict[str, Option]:
        return {**super().options(), "groups": self.num_groups}
