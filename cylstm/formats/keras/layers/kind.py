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
        `LayerCall` -> outputs: a `Value`, whose mask follows from `MASKS`, or a list of `Flow`, whose masks are final.
    weighted : callable
        `LayerConfig` -> whether the layer has weights.
    arguments : tuple of str
        What the layer is called with, in order, beside the first.
    """

    add: Callable[[LayerCall], Value | list[Flow]]
    weighted: Callable[[LayerConfig], bool] = lambda layer: False
    arguments: tuple[str, ...] = ()


def always(layer: LayerConfig) -> bool:
    return True


def scaled(layer: LayerConfig) -> bool:
    return bool(layer.config.get("scale", True) or layer.config.get("center", True) or layer.config.get("rms_scaling"))
