"""What every layer beside a state dict is: plain data that knows how it becomes layers of a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from cylstm.errors import FormatError, ShapeError, described
from cylstm.graph.activations import activation_options, resolve_activation
from cylstm.graph.values import Option, ReadOnly, Value

if TYPE_CHECKING:
    from cylstm.formats.state_dict.assembler import Assembler


#: of a clip: numbers stay within [-limit, limit]
Limit: TypeAlias = float | None


def is_whole(value: object) -> bool:
    """Whether it is an int; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or is_whole(value)


def _are_whole(value: object) -> bool:
    return isinstance(value, tuple) and all(is_whole(item) for item in value)


#: type of a parameter, as its class says it -> what is expected, in words and as a test
_EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Limit": ("a positive number or None", lambda value: value is None or _is_number(value)),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "bool | str": ("False, 'carried' or 'output'", lambda value: value is False or isinstance(value, str)),
    "float": ("a number", _is_number),
    "float | None": ("a number or None", lambda value: value is None or _is_number(value)),
    "int": ("a whole number", is_whole),
    "int | None": ("a whole number or None", lambda value: value is None or is_whole(value)),
    "int | tuple[int, ...]": (
        "a whole number, or one for each axis",
        lambda value: is_whole(value) or _are_whole(value),
    ),
    "int | tuple[int, int] | str": (
        "a text, a whole number or a pair of them",
        lambda value: isinstance(value, str) or is_whole(value) or (_are_whole(value) and len(value) == 2),
    ),
    "Layer | None": ("a layer or None", lambda value: value is None or isinstance(value, Layer)),
    "str": ("a text", lambda value: isinstance(value, str)),
    "str | Activation | None": (
        "the name of an activation, an Activation or None",
        lambda value: value is None or isinstance(value, (str, Activation)),
    ),
    "str | None": ("a text or None", lambda value: value is None or isinstance(value, str)),
    "tuple[int | None, ...]": (
        "a tuple of whole numbers or None",
        lambda value: isinstance(value, tuple) and all(item is None or is_whole(item) for item in value),
    ),
    "tuple[int, ...]": ("a tuple of whole numbers", _are_whole),
}


class Layer(ReadOnly):
    """A layer of a state dict: plain data, compared and shown by its parameters.

    Every class that users call has an ``__init__`` of its own, because Python calls an inherited one by the base's name
    where arguments are wrong.

    Raises
    ------
    ShapeError
        If a parameter is not of its type.
    """

    #: whether the layer reads a sequence, so that the network's input has a time axis
    needs_time: ClassVar[bool] = False
    #: whether the layer reads indices, so that the network's input is whole numbers
    reads_indices: ClassVar[bool] = False
    #: whether `LastState` may follow
    has_state: ClassVar[bool] = False

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the parameters of ``__init__``, which are its ``locals()``, each checked by its annotation."""
        kinds: dict[str, str] = {}
        for base in reversed(type(self).__mro__):
            kinds |= getattr(base, "__annotations__", {})
        given = {name: value for name, value in parameters.items() if name != "self"}
        self._set(**{name: self._checked(name, kinds[name], value) for name, value in given.items()})

    def _checked(self, name: str, kind: str, value: object) -> object:
        """The value of a parameter, NumPy's scalars as Python's and lists as tuples. Raises `ShapeError`."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, (list, tuple)):
            value = tuple([item.item() if isinstance(item, np.generic) else item for item in value])
        expected, fits = _EXPECTED[kind]
        if not fits(value):
            raise ShapeError(f"{type(self).__name__}: {name} expected {expected}, found {described(value)}")
        return value

    def chains(self) -> tuple[tuple[Layer, ...], ...]:
        """Layers inside this one, each chain in its order."""
        return ()

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        """Add the graph's layers for this one, which reads `x`, and return their result.

        Raises
        ------
        FormatError
            If a tensor is missing or has another shape.
        UnsupportedError
            If the tensors belong to a layer or an option that is not computed.
        """
        raise NotImplementedError


class Weighted(Layer):
    """A layer with tensors, whose names begin with `prefix`."""

    prefix: str

    def __init__(self, prefix: str) -> None:
        self._keep(locals())

    @property
    def what(self) -> str:
        """The layer as messages call it."""
        return f"{type(self).__name__}({self.prefix!r})"

    @property
    def graph_name(self) -> str:
        """The name of its layer in the graph."""
        return self.prefix or type(self).__name__.lower()

    def tensor(self, name: str) -> str:
        """The full name of a tensor."""
        return join(self.prefix, name)

    def input_shape(self, assembler: Assembler) -> tuple[int, ...]:
        """The shape of one step of what the layer reads, where its tensors say it. Raises `FormatError` elsewhere."""
        raise FormatError(f"{assembler.where}: {self} does not say what comes before it; begin with Input(shape)")


class Input(Layer):
    """The shape of a state dict's input, as the first of its layers.

    Only needed where it does not follow from the tensors: for a number of steps that is known in advance, which
    `Flatten` and `Transpose` need.

    Parameters
    ----------
    shape : tuple of int or None
        Without batch: (features,), (time, features) or, for an `Embedding`, (time,); None for a time that varies.
    """

    shape: tuple[int | None, ...]

    def __init__(self, shape: tuple[int | None, ...]) -> None:
        self._keep(locals())

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        raise FormatError(f"{assembler.where}: Input() has to be the first layer")


class Activation(Layer):
    """An activation function, as a layer of its own or as an option of another layer.

    Parameters
    ----------
    name : str
        A key of `cylstm.graph.activations.ACTIVATIONS` or `cylstm.graph.activations.ALIASES`.
    alpha, beta : float, optional
        Its parameters; by default the activation's own.

    Raises
    ------
    UnsupportedError
        If the name is unknown or a parameter is not finite.
    """

    name: str
    alpha: float | None
    beta: float | None

    def __init__(self, name: str, alpha: float | None = None, beta: float | None = None) -> None:
        self._keep(locals())
        resolve_activation(self.name, self.alpha, self.beta, where="Activation")

    def add_to(self, assembler: Assembler, x: Value, following: Layer | None) -> Value:
        options = slot_options("activation", self, where="Activation")
        return assembler.builder.add("activation", self.name, {"x": x}, options=options)["y"]


def slot_options(slot: str, activation: str | Activation | None, *, where: str) -> dict[str, Option]:
    """The graph's options of the activation in `slot`, given by name or as an `Activation` with parameters."""
    if isinstance(activation, Activation):
        return activation_options(slot, activation.name, activation.alpha, activation.beta, where=where)
    return activation_options(slot, activation, where=where)


def add_chain(assembler: Assembler, x: Value, layers: Sequence[Layer]) -> Value:
    """Add layers that each read the result of the one before, the first of them `x`; returns the result."""
    for layer, following in zip(layers, [*layers[1:], None]):
        x = layer.add_to(assembler, x, following)
    return x


def flattened(layers: Sequence[Layer]) -> list[Layer]:
    """The layers and those inside them, in order."""
    return [
        one for layer in layers for one in (layer, *(inner for chain in layer.chains() for inner in flattened(chain)))
    ]


def join(prefix: str, name: str) -> str:
    """The name of a tensor behind a prefix, which may be empty."""
    return f"{prefix}.{name}" if prefix else name
