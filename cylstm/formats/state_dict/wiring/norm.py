"""Normalisation."""

from __future__ import annotations

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
        name = self.required[0][1] if self.required else self._named(assembler, "weight", "gamma")
        return (int(assembler.take(self.what, self.tensor(name)).size),)

    def _named(self, assembler: Assembler, name: str, other: str) -> str:
        """The name of a tensor, or its other one, which layers of one's own and BERT's first files have."""
        is_other = self.tensor(name) not in assembler.tensors and self.tensor(other) in assembler.tensors
        return other if is_other else name

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        optional = (
            ("gain", self._named(assembler, "weight", "gamma")),
            ("shift", self._named(assembler, "bias", "beta")),
        )
        given = [(role, name) for role, name in optional if self.tensor(name) in assembler.tensors]
        names = {role: self.tensor(name) for role, name in (*given, *self.required)}
        for tensor in names.values():
            assembler.expect(self.what, tensor, (x.features,))
        weights = assembler.register(self.graph_name, names)
        return assembler.builder.add(self.kind, self.graph_name, {"x": x}, weights, self.options())["y"]


class BatchNorm1d(_Normalization):
    """``torch.nn.BatchNorm1d`` of a state dict, over the last axis: ``prefix.running_mean`` and so on."""

    kind: ClassVar[str] = "batch_norm"
    required: ClassVar[tuple[tuple[str, str], ...]] = (("mean", "running_mean"), ("variance", "running_var"))

    def __init__(self, prefix: str, eps: float = 1e-5) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        counter = self.tensor("num_batches_tracked")
        if counter in assembler.tensors:
            assembler.used[counter] = f"{self.graph_name}/not used in prediction"
        return super().add_to(assembler, x, following)


class BatchNorm2d(BatchNorm1d):
    """``torch.nn.BatchNorm2d`` of a state dict, over the channels of an image, which are its last axis."""

    def __init__(self, prefix: str, eps: float = 1e-5) -> None:
        self._keep(locals())


class LayerNorm(_Normalization):
    """``torch.nn.LayerNorm`` of a state dict over the last axis; weight and bias, or gamma and beta, are used if they
    exist.
    """

    def __init__(self, prefix: str, eps: float = 1e-5) -> None:
        self._keep(locals())


class RMSNorm(_Normalization):
    """``torch.nn.RMSNorm`` of a state dict over the last axis; `eps` None is PyTorch's own, 2^-23."""

    def __init__(self, prefix: str, eps: float | None = None) -> None:
        eps = 2.0**-23 if eps is None else eps
        self._keep(locals())

    def options(self) -> dict[str, Option]:
        return {**super().options(), "mode": "rms"}


class GroupNorm(_Normalization):
    """``torch.nn.GroupNorm(num_groups, ...)`` of a state dict, over all steps."""

    kind: ClassVar[str] = "group_norm"

    num_groups: int

    def __init__(self, prefix: str, num_groups: int, eps: float = 1e-5) -> None:
        self._keep(locals())

    def options(self) -> dict[str, Option]:
        return {**super().options(), "groups": self.num_groups}
