"""What every kind of layer tells the graph about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TypeAlias

import numpy as np

from cylstm.errors import CylstmError
from cylstm.graph.layers._checks import check_roles
from cylstm.graph.values import Option, Value
from cylstm.graph.weights import Tensor

Inputs: TypeAlias = Mapping[str, Value]
Weights: TypeAlias = Mapping[str, Tensor]
Options: TypeAlias = MutableMapping[str, Option]
Outputs: TypeAlias = dict[str, Value]
#: ``((label, shape without batch), ...)``
States: TypeAlias = Sequence[tuple[str, tuple[int, ...]]]


class LayerKind:
    """One kind of layer. Each is a subclass; `cylstm.graph.layers.LAYER_KINDS` holds one instance of each.

    Attributes
    ----------
    name : str
        The key in `LAYER_KINDS`, and the kind's name in ``csrc/layers``.
    inputs, optional_inputs : tuple of str
        The roles of the values that a layer reads.
    weights, optional_weights : tuple of str
        The roles of its tensors.
    matrices : tuple of str
        Those of its weights that the engine can hold in any of `cylstm.graph.weights.WEIGHT_TYPES`.
    defaults : dict
        Every option with its default; a layer's options have exactly these keys.
    reads_mask : bool
        Whether the mask of "x" becomes the input "mask" unless the caller gives one.
    is_inert : bool
        Whether the layer gives what it gets at inference, so that it is left out of the packed model.
    """

    name: str
    inputs: tuple[str, ...] = ("x",)
    optional_inputs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    optional_weights: tuple[str, ...] = ()
    matrices: tuple[str, ...] = ()
    defaults: Mapping[str, Option] = {}
    reads_mask = False
    is_inert = False

    def check_roles(self, where: str, inputs: Inputs, weights: Weights) -> None:
        """Raise `ShapeError` unless a layer has the inputs and weights that it needs, and no others."""
        check_roles(where, inputs, self.inputs, self.optional_inputs, "inputs")
        check_roles(where, weights, self.weights, self.optional_weights, "weights")

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        """Check a call whose roles are right, and describe its outputs by role; the caller sets their names.

        Options that follow from the inputs are filled in.

        Raises
        ------
        ShapeError, UnsupportedError
            With `where`, the layer's name, in the message.
        """
        raise NotImplementedError

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        """What a layer carries from step to step; empty if nothing."""
        return ()

    def streams(self, options: Mapping[str, Option]) -> str | None:
        """None if the kind can run piece by piece over time, else the reason why it cannot."""
        return None

    def limit(self, weights: Weights, options: Mapping[str, Option]) -> int | None:
        """The number that all its indices must be below; None for a kind that reads none."""
        return None

    def check_numbers(
        self,
        where: str,
        read: Callable[[str], np.ndarray],
        options: Mapping[str, Option],
        error: type[CylstmError],
    ) -> None:
        """Raise `error` if numbers of a tensor make no sense, where the kind knows such; ``read(role)`` gives them."""


def like(x: Value, shape: tuple[int | None, ...] | None = None) -> Value:
    """A result with the time and mask of `x`, and its shape unless another one is given."""
    return Value("", "sequence" if x.has_time else "vector", x.shape if shape is None else shape, x.mask, x.axis)
