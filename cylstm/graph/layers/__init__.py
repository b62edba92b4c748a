"""The operations of a graph: what each needs and gives, one file each or one for a few of a kind.

A file is imported when its operation is first used: a program that loads an LSTM starts faster without the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cylstm.graph.layers._layer import LayerKind

__all__ = ["LAYER_KINDS"]

#: operation -> its file; the class there has the operation's name, as ``ConvLstmLayer``
_MODULES = {
    "lstm": "lstm",
    "gru": "gru",
    "rnn": "rnn",
    "conv_lstm": "conv_lstm",
    "dense": "dense",
    "activation": "activation",
    "dropout": "dropout",
    "last": "last",
    "merge": "merge",
    "reverse": "reverse",
    "conv1d": "conv1d",
    "pool1d": "conv1d",
    "batch_norm": "norm",
    "layer_norm": "norm",
    "group_norm": "norm",
    "embedding": "embedding",
    "prelu": "gated",
    "glu": "gated",
    "reshape": "rearrange",
    "permute": "rearrange",
    "slice": "rearrange",
    "pad": "rearrange",
    "upsample": "rearrange",
    "repeat_vector": "rearrange",
    "reduce": "reduce",
    "softmax": "reduce",
    "masking": "masking",
    "index_mask": "masking",
    "mask_merge": "masking",
    "mask_fill": "masking",
    "attention": "attention",
    "dot": "attention",
}


class _LayerKinds(Mapping):
    """Name -> `LayerKind`; each is made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, LayerKind] = {}

    def __getitem__(self, name: str) -> LayerKind:
        if name not in self._made:
            kind = "".join(part.capitalize() for part in name.split("_")) + "Layer"
            self._made[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), kind)()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


LAYER_KINDS: Mapping[str, LayerKind] = _LayerKinds()
