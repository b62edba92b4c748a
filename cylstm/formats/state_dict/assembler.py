"""Takes tensors by name and builds the graph of the layers that they belong to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import shape_text, warn_not_finite
from cylstm.formats.state_dict.names import AVERAGED, reparametrisation, unwrapped
from cylstm.formats.state_dict.reparametrised import multiplied_out, parts_of
from cylstm.formats.state_dict.wiring.layer import Input, Layer, Weighted, add_chain, flattened
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph
from cylstm.graph.values import Value
from cylstm.graph.weights import Tensor

# the most tensors that a message lists
_LISTED = 60


class Assembler:
    """The tensors of a state dict while layers use them, and the graph that the layers add to.

    Attributes
    ----------
    where : str
        Where the tensors come from, for messages.
    tensors : dict of str to Tensor
        By their names without what wrappers put in front.
    names : dict of str to str
        Name in `tensors` -> name as given.
    used : dict of str to str
        Name in `tensors` -> the graph's layer and role that it became.
    builder : GraphBuilder
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str, layers: Sequence[Layer]) -> None:
        self.where = where
        self.used: dict[str, str] = {}
        self.builder = GraphBuilder()
        prefixes = [layer.prefix for layer in flattened(layers) if isinstance(layer, Weighted)]
        self.prefix, self.names = unwrapped(where, tensors, prefixes if layers else None)
        found = {name: tensors[given] for name, given in self.names.items()}
        self.tensors, self.parts = multiplied_out(where, found, self.names)
        self.given = dict(self.names)
        self.names |= {name: name for name in self.parts}
        if len(self.names) < len(tensors):
            self.used[AVERAGED] = "not a weight: the number of models averaged"
        for name in self.tensors:
            kind = reparametrisation(name, self.tensors)
            if kind is not None:
                raise UnsupportedError(
                    f"{where}: tensor {self.names[name]!r} is part of a weight reparametrised by {kind}"
                    f"{_beside(name, self.tensors)}; in PyTorch make it one weight before saving: "
                    "torch.nn.utils.parametrize.remove_parametrizations(module, name), or for hooks "
                    "remove_weight_norm, remove_spectral_norm or prune.remove, or for adapters merge_and_unload()"
                )

    def assemble(self, layers: Sequence[Layer], provenance: Mapping[str, object]) -> Graph:
        """The graph of the layers, each of which reads the result of the one before."""
        value = self.add_input(layers)
        rest = layers[1:] if isinstance(layers[0], Input) else layers
        return self.finish(add_chain(self, value, rest), provenance)

    def finish(self, output: Value, provenance: Mapping[str, object]) -> Graph:
        """The graph with `output` as its last output, after checking that every tensor was used."""
        self.builder.output(output)
        left = [name for name in self.tensors if name not in self.used]
        if left:
            raise FormatError(
                f"{self.where}: tensors that belong to no layer given: {self.listing(left)}\n"
                "Name their layers too, or, if the network does not compute with them in prediction, leave them out: "
                "from_state_dict takes a dict without them"
            )
        warn_not_finite(self.where, self.tensors)
        used = {
            self.given.get(part, part): role
            for name, role in self.used.items()
            for part in self.parts.get(name, (name,))
        }
        return self.builder.build(provenance={**provenance, "prefix": self.prefix, "tensors": used})

    def add_input(self, layers: Sequence[Layer]) -> Value:
        """The network's input: its shape from an `Input`, else from the first tensor and what the layers need."""
        given = layers[0] if isinstance(layers[0], Input) else None
        layers = [*layers[:1], *flattened(layers[1:])] if given else flattened(layers)
        if any(isinstance(layer, Input) for layer in layers[1:]):
            raise FormatError(f"{self.where}: Input() has to be the first layer")
        weighted = [layer for layer in layers if isinstance(layer, Weighted)]
        taken = {layer.prefix for layer in weighted}
        name = next(name for name in ("input" + "_" * i for i in itertools.count()) if name not in taken)
        rest = layers[1:] if given else layers
        if rest and rest[0].reads_indices:
            return self.builder.input(name, given.shape if given else (None,), indices=True)
        if given:
            return self.builder.input(name, given.shape)
        if not weighted:
            raise FormatError(f"{self.where}: no layer with weights among {list(layers)}; begin with Input(shape)")
        step = weighted[0].input_shape(self)
        return self.builder.input(name, (None, *step) if any(layer.needs_time for layer in layers) else step)

    # Tensors

    def take(self, what: str, name: str) -> Tensor:
        """A floating-point tensor that must be there."""
        if name not in self.tensors:
            raise FormatError(f"{self.where}: layer {what}: tensor {name!r} is missing. {self.listing()}")
        array = self.tensors[name]
        if array.dtype.kind != "f":
            raise FormatError(
                f"{self.where}: layer {what}, tensor {self.names[name]!r}: expected floating-point numbers, found "
                f"{array.dtype}"
            )
        return array

    def expect(self, what: str, name: str, shape: tuple[int, ...]) -> None:
        """Raise `FormatError` unless the tensor is there and has this shape."""
        if self.take(what, name).shape != shape:
            raise self.misshaped(what, name, shape_text(shape))

    def misshaped(self, what: str, name: str, expected: str) -> FormatError:
        """The error about a tensor of another shape than expected."""
        found = shape_text(self.tensors[name].shape)
        given = self.names[name]
        return FormatError(f"{self.where}: layer {what}, tensor {given!r}: expected shape {expected}, found {found}")

    def register(self, layer: str, weights: Mapping[str, str | tuple[str, str]]) -> dict[str, str]:
        """Role -> name in the graph of the tensors of a layer; a pair is summed. A layer used again shares them."""
        found = {}
        for role, source in weights.items():
            sources = (source,) if isinstance(source, str) else source
            found[role] = f"{layer}.{role}"
            if all(self.used.get(name) == f"{layer}/{role}" for name in sources):
                continue
            array = self.tensors[sources[0]]
            for name in sources[1:]:
                array = np.asarray(array) + np.asarray(self.tensors[name])
            self.builder.tensor(found[role], array)
            self.used.update(dict.fromkeys(sources, f"{layer}/{role}"))
        return found

    def register_as(self, layer: str, role: str, source: str, array: np.ndarray) -> str:
        """Name in the graph of a tensor that is stored in another layout; a layer used again shares it."""
        if self.used.get(source) != f"{layer}/{role}":
            self.builder.tensor(f"{layer}.{role}", array)
            self.used[source] = f"{layer}/{role}"
        return f"{layer}.{role}"

    def listing(self, names: Sequence[str] | None = None) -> str:
        """The tensors found, or those of `names`, with their shapes."""
        shown = list(self.tensors if names is None else names)
        lines = [f"  {self.names[name]} {self._listed(name)}" for name in shown[:_LISTED]]
        if len(shown) > _LISTED:
            lines.append(f"  and {len(shown) - _LISTED} more")
        return ("Tensors found:\n" if names is None else "\n") + "\n".join(lines)

    def _listed(self, name: str) -> str:
        of = f", of {' and '.join(self.given[part] for part in self.parts[name])}" if name in self.parts else ""
        return f"{shape_text(self.tensors[name].shape)}{of}"


def _beside(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The other parts of the weight that a tensor is a part of, for a message."""
    found = parts_of(name)
    others = [other for other in tensors if found and other != name and (parts_of(other) or ("",))[0] == found[0]]
    return f" (beside {', '.join(repr(other) for other in others[:6])})" if others else ""
