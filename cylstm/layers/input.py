"""The input of a network, where the layers do not say enough."""

from __future__ import annotations

from ._op import Layer


class Input(Layer):
    """The shape of a state dict's input, as the first of its layers.

    Only needed where it does not follow: for a number of steps that is known in advance, which `Flatten` and
    `Transpose` need.

    Parameters
    ----------
    shape : tuple of int or None
        Without batch: (features,), (time, features) or, for an `Embedding`, (time,); None for a time that varies.
    """

    def __init__(self, shape: tuple[int | None, ...]) -> None:
        super().__init__(shape=tuple(shape))
