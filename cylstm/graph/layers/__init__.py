"""The kinds of layers that a graph is made of: what each needs and gives.

A kind's file has the name of its file in ``csrc/layers``; most hold one kind, some a few closely related ones. A file
is imported when its kind is first used, so that a program that loads an LSTM starts without the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from cylstm.graph.layers._layer import LayerKind

__all__ = ["LAYER_KINDS"]

#: kind -> its file; the class there has the kind's name, for example ``ConvLstmLayer``
_MODULES = {
    "activation": "activation",
    "attention": "attention",
    "batch_norm": "batch_norm",
    "conv1d": "conv1d",
    "conv2d": "conv2d",
    "constant": "constant",
    "conv_lstm": "conv_lstm",
    "conv_transpose": "conv_transpose",
    "cumulate": "cumulate",
    "dense": "dense",
    "dot": "attention",
    "dropout": "dropout",
    "embedding": "embedding",
    "function": "function",
    "glu": "prelu",
    "group_norm": "layer_norm",
    "gru": "gru",
    "index_mask": "masking",
    "last": "last",
    "layer_norm": "layer_norm",
    "lstm": "lstm",
    "mask_fill": "masking",
    "mask_merge": "masking",
    "mask_numbers": "numbers",
    "masking": "masking",
    "matmul": "matmul",
    "merge": "merge",
    "number_mask": "numbers",
    "numbers": "numbers",
    "pad": "rearrange",
    "permute": "rearrange",
    "pool1d": "pool1d",
    "positions": "positions",
    "prelu": "prelu",
    "reduce": "reduce",
    "repeat_vector": "rearrange",
    "reshape": "rearrange",
    "reverse": "reverse",
    "rnn": "rnn",
    "slice": "rearrange",
    "slice_like": "rearrange",
    "softmax": "reduce",
    "step_table": "step_table",
    "take": "take",
    "take_along": "take",
    "topk": "topk",
    "upsample": "rearrange",
    "where": "where",
}


class _LayerKinds(Mapping[str, "LayerKind"]):
    """Name -> `LayerKind`; each is made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, LayerKind] = {}

    def __getitem__(self, name: str) -> LayerKind:
        made = self._made.get(name)
        if made is None:
            kind = "".join(part.capitalize() for part in name.split("_")) + "Layer"
            made = cast("LayerKind", getattr(import_module(f"{__name__}.{_MODULES[name]}"), kind)())
            made = self._made.setdefault(name, made)  # there may be another thread's
        return made

    def __contains__(self, name: object) -> bool:
        return name in _MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


LAYER_KINDS: Mapping[str, LayerKind] = _LayerKinds()
