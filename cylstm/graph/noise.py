"""What layers draw at random in training, beside the rate of a plain dropout: `Graph.noise`.

Layer name -> its entries. Prediction has no use for them; `cylstm.monte_carlo` draws by them.

- Of a layer of kind "dropout": ``form``, one of `FORMS`, and ``shared``, the axes that share one draw: digits, axes of
  the value without batch, and "b" for the batch. "0" of a value (time, features) is one mask for all steps. Without
  entries the layer draws for each number on its own.
- Of recurrent layers ("lstm", "gru", "rnn"): the rates ``dropout`` of what they read and ``recurrent_dropout`` of their
  state, and ``masks``, one of `MASKS`.
- Of any other kind: the rates ``dropout`` and ``recurrent_dropout`` of what happens within the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cylstm.errors import FormatError

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph
    from cylstm.graph.values import Option

#: of a dropout layer: numbers set to zero and the others scaled up; a factor of a normal distribution around 1; a
#: normally distributed number added, whose deviation the rate is; numbers set to the limit of the SELU function
FORMS = ("dropout", "gaussian", "additive", "alpha")
#: of a recurrent layer: one mask for all steps and gates; one for all steps of each gate; one for all gates of each
#: step, of what the layer reads; one for all steps, which multiplies the state of a GRU itself
MASKS = ("sequence", "gates", "steps", "state")
RATES = ("dropout", "recurrent_dropout")
RECURRENT = ("lstm", "gru", "rnn")


def check_noise(where: str, entries: object, graph: Graph) -> Mapping[str, Mapping[str, Option]]:
    """Entries that a file holds, checked. Raises `FormatError`."""
    layers = {layer.name: layer for layer in graph.layers}
    if not isinstance(entries, dict) or not entries or not set(entries) <= set(layers):
        raise FormatError(f"{where}: noise expected names of layers, found {entries!r:.80}")
    for name, found in entries.items():
        kind = layers[name].kind
        rank = len(graph.values[layers[name].outputs["y"]].shape) if kind == "dropout" else 0
        if not isinstance(found, dict) or not found or not all(_fits(kind, rank, *item) for item in found.items()):
            raise FormatError(f"{where}: noise of layer {name!r} ({kind}): found {found!r:.80}")
    return entries


def _fits(kind: str, rank: int, key: object, entry: object) -> bool:
    if kind == "dropout":
        if key == "form":
            return isinstance(entry, str) and entry in FORMS
        axes = {"b", *map(str, range(rank))}
        return key == "shared" and isinstance(entry, str) and len(set(entry)) == len(entry) and set(entry) <= axes
    if key == "masks":
        return kind in RECURRENT and isinstance(entry, str) and entry in MASKS
    return key in RATES and type(entry) in (int, float) and 0.0 <= entry <= 1.0  # type: ignore[operator]
