"""A network as plain data: layers that read and write values.

The graph knows no framework, no file and no C. A *value* is what flows (a sequence, a vector, a mask, a state); a
*layer* is one call of a layer, in one direction; *weights* are its tensors, in the canonical layout, named once and
shared by every layer that uses them. `cylstm.graph.builder` makes graphs and checks every shape.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Option, ReadOnly, Value
from cylstm.graph.weights import Tensor, as_stored


class ReadOnlyDict(dict[Any, Any]):
    """A dict that cannot be changed; copies of it, pickled ones too, are ordinary dicts. Made by `read_only`.

    (`types.MappingProxyType` can neither be pickled nor written as JSON.)
    """

    __slots__ = ()

    def __init__(self) -> None:
        pass  # dict's own would fill it again

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise TypeError("this dict is read-only; change a copy of it: dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def read_only(item: Any) -> Any:
    """A dict as a `ReadOnlyDict`, a list as a tuple, and likewise whatever they and tuples hold; the rest as it is."""
    kind = type(item)
    if kind is dict or kind is ReadOnlyDict:
        return _read_only_dict({key: read_only(value) for key, value in item.items()})
    if kind is list or kind is tuple:
        return tuple([read_only(value) for value in item])
    return item


def _read_only_dict(item: Any) -> Any:
    """As `read_only`, for a dict whose values are read-only already."""
    if type(item) is not dict:
        return item
    found: ReadOnlyDict = dict.__new__(ReadOnlyDict)
    dict.update(found, item)
    return found


class Layer(ReadOnly):
    """One call of one layer. Its dicts are read-only.

    Attributes
    ----------
    kind : str
        A key of `cylstm.graph.layers.LAYER_KINDS`.
    name : str
        Unique in the graph; used in messages and state labels.
    inputs, outputs : dict of str to str
        Role -> value name, for example ``{"x": "input", "mask": "input.mask"}`` and ``{"y": "lstm"}``.
    weights : dict of str to str
        Role -> tensor name, for example ``{"weight_ih": "lstm.weight_ih"}``.
    options : dict
        Plain scalars and strings; every option of the kind is present.
    """

    kind: str
    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    weights: Mapping[str, str]
    options: Mapping[str, Option]

    def __init__(
        self,
        kind: str,
        name: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        weights: Mapping[str, str],
        options: Mapping[str, Option],
    ) -> None:
        self._set(
            kind=kind,
            name=name,
            inputs=_read_only_dict(inputs),
            outputs=_read_only_dict(outputs),
            weights=_read_only_dict(weights),
            options=_read_only_dict(options),
        )

    @property
    def op(self) -> str:
        """The old name of `kind`.

        .. deprecated:: 0.1
            It goes with the next release.
        """
        _warn_old_name("Layer.op", "kind")
        return self.kind


class Graph(ReadOnly):
    """A whole network, read-only. `cylstm.graph.builder.GraphBuilder` makes and checks one.

    Attributes
    ----------
    values : dict of str to Value
    layers : tuple of Layer
        Each comes after those it reads from.
    inputs, outputs : tuple of str
        Value names. The mask of an input is that value's `Value.mask`; giving it is optional.
    tensors : mapping of str to ndarray
        float32 or float64, C order, canonical layout. A loaded model's are unpacked when asked for.
    metadata : dict of str to any value of JSON
        The user's own, which travels in the native file (scaling, units, names).
    provenance : dict
        What the loader did: format, version, tensors used.
    layouts : dict of str to str
        The axis order of inputs and outputs whose arrays have another one than their value: for each axis of the
        user's array, batch not counted, the axis of the value. "10" is (batch, channels, time) for a value (time,
        channels). Axes of the value that are not named have size 1, so "0" is (batch, time) for a value (time, 1).
    window : int or None
        Number of steps of the sequences that the network was trained on, each from a zero state, where the file
        states it.
    stateful : tuple of str
        Layers whose state carries over from one call of the network to the next (Keras's ``stateful=True``; states
        that were inputs and outputs, see `cylstm.graph.states`). All others start at zero.
    weight_types : dict of (str, str) to str
        Layer and role of the matrices that the engine holds in another type than float32 -> that type, one of
        `cylstm.graph.weights.WEIGHT_TYPES`. Their tensors are float32 all the same, and rounded in a loaded model.
    noise : dict of str to dict
        The layers that draw more in training than a plain dropout does -> what they draw (`cylstm.graph.noise`).
    """

    values: Mapping[str, Value]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any]
    provenance: Mapping[str, object]
    layouts: Mapping[str, str]
    window: int | None
    stateful: tuple[str, ...]
    weight_types: Mapping[tuple[str, str], str]
    noise: Mapping[str, Mapping[str, Option]]

    def __init__(
        self,
        values: Mapping[str, Value],
        layers: tuple[Layer, ...],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        tensors: Mapping[str, np.ndarray],
        metadata: Mapping[str, Any],
        provenance: Mapping[str, object],
        layouts: Mapping[str, str] = {},
        window: int | None = None,
        stateful: tuple[str, ...] = (),
        weight_types: Mapping[tuple[str, str], str] = {},
        noise: Mapping[str, Mapping[str, Option]] = {},
    ) -> None:
        self._set(
            values=_read_only_dict(values),
            layers=layers,
            inputs=inputs,
            outputs=outputs,
            tensors=_read_only_dict(tensors),
            metadata=read_only(metadata),
            provenance=_read_only_dict(provenance),
            layouts=_read_only_dict(layouts),
            window=window,
            stateful=stateful,
            weight_types=_read_only_dict(weight_types),
            noise=read_only(noise),
        )

    def types_of(self, layer: str) -> dict[str, str]:
        """Role -> type of those matrices of a layer that are not float32."""
        return {role: kind for (name, role), kind in self.weight_types.items() if name == layer}

    @property
    def has_inert_layers(self) -> bool:
        """Whether some of its layers give what they get at inference, such as dropout."""
        return any([LAYER_KINDS[layer.kind].is_inert for layer in self.layers])

    def layer_tensors(self, layer: Layer) -> dict[str, np.ndarray]:
        """Role -> array of one layer's weights."""
        return {role: self.tensors[name] for role, name in layer.weights.items()}

    def stored_tensors(self, layer: Layer) -> dict[str, Tensor]:
        """As `layer_tensors`, where only shapes and dtypes are needed."""
        stored = as_stored(self.tensors)
        return {role: stored[name] for role, name in layer.weights.items()}

    def states(self) -> list[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]]:
        """``[(name, ((label, shape without batch), ...)), ...]`` of the layers that carry state, in graph order."""
        found = []
        for layer in self.layers:
            parts = LAYER_KINDS[layer.kind].state(self.stored_tensors(layer), layer.options)
            if parts:
                found.append((layer.name, tuple(parts)))
        return found

    def inputs_of_one_time(self) -> list[tuple[str, str]]:
        """``[(input, other), ...]`` of the inputs that always have the number of steps of another, not fixed."""
        values = [self.values[name] for name in self.inputs]
        return [(x.name, x.axis.source) for x in values if x.axis is not None and x.axis.source != x.name]

    def parameters(self) -> int:
        """Number of weights, each tensor counted once."""
        return sum(int(tensor.size) for tensor in as_stored(self.tensors).values())

    @property
    def nodes(self) -> tuple[Layer, ...]:
        """The old name of `layers`.

        .. deprecated:: 0.1
            It goes with the next release.
        """
        _warn_old_name("Graph.nodes", "layers")
        return self.layers

    def node_tensors(self, layer: Layer) -> dict[str, np.ndarray]:
        """The old name of `layer_tensors`.

        .. deprecated:: 0.1
            It goes with the next release.
        """
        _warn_old_name("Graph.node_tensors", "layer_tensors")
        return self.layer_tensors(layer)


def _warn_old_name(old: str, new: str) -> None:
    warnings.warn(f"{old} is now called {new}; the old name goes with the next release", DeprecationWarning, 3)
