"""The record of a class of Keras layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cylstm.formats.keras.call import Flow, LayerCall
from cylstm.formats.keras.config import LayerConfig
from cylstm.graph.values import Value


class LayerKind(NamedTuple):
    """How a class of layers is added.

    Attributes
    ----------
    add : callable
        `LayerCall` -> outputs: a `Value`, whose mask follows from `MASKS` and whose axes lie as those of the input, or
        a list of `Flow`, whose masks and orders are final.
    weighted : callable
        `LayerConfig` -> whether the layer has weights.
    arguments : tuple of str
        What the layer is called with, in order, beside the first.
    any_order : bool
        Whether it reads inputs whose axes lie in any order (`Flow.order`); others get them as Keras has them.
    """

    add: Callable[[LayerCall], Value | list[Flow]]
    weighted: Callable[[LayerConfig], bool] = lambda layer: False
    arguments: tuple[str, ...] = ()
    any_order: bool = False


def always(layer: LayerConfig) -> bool:
    return True


def scaled(layer: LayerConfig) -> bool:
    return bool(layer.config.get("scale", True) or layer.config.get("center", True) or layer.config.get("rms_scaling"))
