"""Several outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cylstm.errors import FormatError, ShapeError, described
from cylstm.formats.state_dict.wiring.layer import Input, Layer, add_chain
from cylstm.formats.state_dict.wiring.recurrent import last_state_first
from cylstm.graph.values import Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


class Heads(Layer):
    """Several outputs: each list of layers reads what comes before and gives one of them. Only as the last layer.

    ``[LSTM("lstm"), Last(), Heads([Linear("policy")], [Linear("value"), Tanh()])]`` has two outputs, in that order.

    Parameters
    ----------
    *heads : list of layers
    """

    heads: tuple[tuple[Layer, ...], ...]

    def __init__(self, *heads: Any) -> None:
        for head in heads:
            if not (isinstance(head, (list, tuple)) and head and all(isinstance(layer, Layer) for layer in head)):
                raise ShapeError(f"Heads: expected lists of layers, one for each output, found {described(head)}")
            if any(isinstance(layer, Input) for layer in head):
                raise ShapeError("Heads: Input() has to be the first layer of the network")
        if len(heads) < 2:
            raise ShapeError(f"Heads: expected two or more lists of layers, found {len(heads)}")
        self._set(heads=tuple(tuple(head) for head in heads))

    def chains(self) -> tuple[tuple[Layer, ...], ...]:
        return self.heads

    def __repr__(self) -> str:
        return f"Heads({', '.join(repr(list(head)) for head in self.heads)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.heads

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        if following is not None:
            raise FormatError(f"{assembler.where}: Heads() has to be the last layer, found {following} after it")
        *others, last = [last_state_first(assembler.where, head) for head in self.heads]
        for head in others:
            assembler.builder.output(add_chain(assembler, x, head))
        return add_chain(assembler, x, last)
