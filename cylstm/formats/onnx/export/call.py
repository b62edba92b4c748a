"""One layer while it is exported: what it reads, has and gives, and the refusal of what is left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.formats.onnx.export.nodes import Nodes
from cylstm.graph.activations import ACTIVATIONS
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Option, ReadOnly, Value

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph, Layer


class Mask(ReadOnly):
    """Which steps are valid.

    Attributes
    ----------
    name : str or None
        A tensor of bool (batch, time); None: all steps are.
    like : str
        A tensor that has the same batch and time first.
    lengths : str or None
        A tensor of int64 (batch,) that says the same: each row's first steps are valid.
    """

    name: str | None
    like: str
    lengths: str | None

    def __init__(self, name: str | None, like: str, lengths: str | None = None) -> None:
        self._set(name=name, like=like, lengths=lengths)


class Call:
    """One layer of the graph.

    What an exporter does not ask for or give is refused by `finish`: an input, a weight, an output, a state, or an
    option that is not the kind's default. So an option that is new, or that an exporter forgot, is never ignored.

    Parameters
    ----------
    graph : Graph
    layer : Layer
    nodes : Nodes
        To which the layer's operators are added.
    names : dict of str to str
        Value -> tensor, of all layers so far; the layer's outputs are added.
    masks : dict of str to Mask
        The same for masks.
    batch : str
        The size of the batch, a tensor (1,).
    states : mapping of str to tuple
        Label -> shape, without batch, of the layer's states that the file takes and gives.
    new_state : callable
        ``new_state(name, shape)`` makes an input of the file and gives its name.

    Attributes
    ----------
    nodes, batch
        As above.
    finals : dict of str to str
        The layer's states after the last step, by their labels.
    """

    def __init__(
        self,
        graph: Graph,
        layer: Layer,
        nodes: Nodes,
        names: dict[str, str],
        masks: dict[str, Mask],
        batch: str,
        states: Mapping[str, tuple[int, ...]],
        new_state: Callable[[str, tuple[int, ...]], str],
    ) -> None:
        self.nodes = nodes
        self.batch = batch
        self.finals: dict[str, str] = {}
        self._graph = graph
        self._layer = layer
        self._names = names
        self._masks = masks
        self._new_state = new_state
        self._tensors = graph.layer_tensors(layer)
        self._left: dict[str, set[str]] = {
            "input": set(layer.inputs),
            "weight": set(layer.weights),
            "option": set(layer.options),
        }
        self._states = states

    @property
    def is_double(self) -> bool:
        """Whether the network computes in float64."""
        return self.nodes.dtype == np.float64

    def has_input(self, role: str) -> bool:
        """Whether the layer reads such a value."""
        return role in self._layer.inputs

    def value(self, role: str = "x") -> Value:
        """What the graph knows of an input."""
        return self._graph.values[self._layer.inputs[role]]

    def input(self, role: str = "x") -> str:
        """The tensor of an input."""
        self._left["input"].discard(role)
        return self._names[self._layer.inputs[role]]

    def inputs(self) -> list[tuple[str, Value]]:
        """All inputs in their order."""
        return [(self.input(role), self.value(role)) for role in self._layer.inputs]

    def mask(self, role: str = "mask") -> str | None:
        """The tensor of a mask; None if the layer has none, or one whose steps are all valid."""
        return self.mask_as_given(role).name if role in self._layer.inputs else None

    def mask_as_given(self, role: str) -> Mask:
        """A mask, also one whose steps are all valid."""
        self._left["input"].discard(role)
        return self._masks[self._layer.inputs[role]]

    def masks(self) -> list[Mask]:
        """All inputs, which are masks, in their order."""
        return [self.mask_as_given(role) for role in self._layer.inputs]

    def has_weight(self, role: str) -> bool:
        """Whether the layer has such a weight."""
        return role in self._tensors

    def weight(self, role: str) -> np.ndarray:
        """A weight that the layer has."""
        self._left["weight"].discard(role)
        return self._tensors[role]

    def option(self, name: str) -> Option:
        """An option as it is."""
        self._left["option"].discard(name)
        return self._layer.options[name]

    def text(self, name: str) -> str:
        """An option that is a text."""
        return str(self.option(name))

    def number(self, name: str) -> float:
        """An option that is a number."""
        return float(self.option(name))

    def whole(self, name: str) -> int:
        """An option that is a whole number."""
        return int(self.option(name))

    def flag(self, name: str) -> bool:
        """An option that is True or False."""
        return bool(self.option(name))

    def activation(self, slot: str) -> tuple[str, float, float]:
        """The name and the parameters of a slot."""
        name = self.text(slot)
        alpha, beta = self.number(f"{slot}_alpha"), self.number(f"{slot}_beta")
        if name not in ACTIVATIONS:
            raise self.refuse(f"option {slot}={name!r}: there is no such activation")
        return name, alpha, beta

    def ignore(self, *options: str) -> None:
        """Options that follow from others, or that matter in training alone."""
        self._left["option"].difference_update(options)

    def has_output(self, role: str) -> bool:
        """Whether the layer gives such a value."""
        return role in self._layer.outputs

    def output(self, role: str = "y") -> Value:
        """What the graph knows of an output."""
        return self._graph.values[self._layer.outputs[role]]

    def give(self, tensor: str, role: str = "y") -> None:
        """Say what an output is."""
        self._names[self._layer.outputs[role]] = tensor

    def give_mask(self, mask: Mask) -> None:
        """Say what the output that is a mask is."""
        self._masks[self._layer.outputs["mask"]] = mask

    def initial(self, label: str) -> str | None:
        """The state before the first step; None if it is 0.

        It is the input ``label0`` of the layer, or with ``states=True`` an input of the file.
        """
        if self.has_input(f"{label}0"):
            return self.input(f"{label}0")
        if label not in self._states:
            return None
        return self._new_state(f"{self._layer.name}.{label}", self._states[label])

    def final(self, label: str, tensor: str) -> None:
        """Say what a state is after the last step."""
        if label in self._states:
            self.finals[label] = tensor

    def refuse(self, why: str) -> UnsupportedError:
        """The error about what cannot be exported."""
        return UnsupportedError(f"layer {self._layer.name!r} ({self._layer.kind}) cannot be exported to ONNX: {why}")

    def finish(self) -> None:
        """Raise `UnsupportedError` about what was not asked for."""
        defaults: Mapping[str, Option] = LAYER_KINDS[self._layer.kind].defaults
        for option in sorted(self._left["option"]):
            found = self._layer.options[option]
            if found != defaults[option]:
                raise self.refuse(f"option {option}={found!r} is not known there")
        for what in ("input", "weight"):
            if self._left[what]:
                raise self.refuse(f"{what} {min(self._left[what])!r} is not known there")
        for role, name in self._layer.outputs.items():
            if name not in self._names and name not in self._masks:
                raise self.refuse(f"its output {role!r} has no form there")
        for label in self._states:
            if label not in self.finals:
                raise self.refuse(f"its state {label!r} has no form there; states=False leaves states out")
