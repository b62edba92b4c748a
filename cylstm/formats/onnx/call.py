"""What an operator is given: its inputs, constants and attributes, and the network that it adds layers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.program.network import Network, describe
from cylstm.program.tensor import Dim

_MISSING: Any = object()


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator.

    Attributes
    ----------
    net : Network
    operator : str
        Its name; with the domain in front, and a dot, if that is not ONNX's own.
    name : str
        The node's.
    inputs : tuple
        None where one is left out; NumPy arrays for what is constant (of dtype object if they hold sizes that are no
        numbers, `Dim`), `cylstm.program.tensor.Constant` for constants over such sizes, `Tensor` and its like for what
        the network computes. Those left out at the end are not there.
    attributes : mapping
        int, float, str, bytes, tuples of these, and arrays.
    opset : int
        The version of the operators of its domain.
    outputs : int
        How many outputs the node names; those that it leaves out at the end do not count.
    readers : callable
        Gives, of the number of an output, the operators that read it; of what the model gives, "output" too.
    """

    net: Network
    operator: str
    name: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int = 1
    readers: Callable[[int], set[str]] = lambda i: set()

    def input(self, i: int) -> Any:
        """An input, None if it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def required(self, i: int) -> Any:
        """An input that may not be left out."""
        found = self.input(i)
        if found is None:
            raise self.refuse(f"input {i} is missing")
        return found

    def attribute(self, name: str, default: Any = _MISSING) -> Any:
        """An attribute; without a default it has to be there."""
        found = self.attributes.get(name, default)
        if found is _MISSING:
            raise self.refuse(f"attribute {name!r} is missing")
        return found

    def array(self, i: int, what: str) -> np.ndarray:
        """An input that has to be a constant of known numbers."""
        found = self.required(i)
        if not isinstance(found, np.ndarray) or found.dtype == object:
            raise self.refuse(f"{what} that the network computes is not supported, found {describe(found)}")
        return found

    def sizes(self, i: int, what: str) -> list[int | Dim]:
        """An input that is a list of whole numbers and sizes."""
        found = self.required(i)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuO":
            raise self.refuse(f"{what} that the network computes is not supported, found {describe(found)}")
        return [one if isinstance(one, Dim) else int(one) for one in found.reshape(-1)]

    def refuse(self, why: str) -> UnsupportedError:
        """The error about what is not supported, which names the node and its operator."""
        return self.net.refuse(why)


#: adds an operator's layers: one value, or a tuple of them
Operator: TypeAlias = Callable[[Call], Any]


def settled(found: Any) -> Any:
    """A result as later operators take it: constants as arrays, and those of sizes with numbers alone as int64."""
    if isinstance(found, Dim):
        array = np.empty((), object)
        array[()] = found
        return array
    if isinstance(found, (bool, int, float, np.generic)):
        found = np.asarray(found)
    if (
        isinstance(found, np.ndarray)
        and found.dtype == object
        and not any(isinstance(one, Dim) for one in found.reshape(-1))
    ):
        return found.astype(np.int64)
    return found
