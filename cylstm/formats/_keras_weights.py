"""Where a Keras model's weights are found: a live model, a ``.keras`` archive, a legacy ``.h5`` file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import FormatError
from . import _hdf5
from ._arrays import as_numpy
from ._keras_config import LayerConfig


class Part(NamedTuple):
    """One set of weights of a layer: the layer's own, one direction's, or one cell's.

    Attributes
    ----------
    path : tuple of str
        Groups below the layer's group in a ``.keras`` archive.
    attributes : tuple of (str or int)
        The way from the live layer: attributes, and positions in lists.
    names : tuple of tuple of str
        Combinations of names, the likeliest first, that stand in the path of these weights in an ``.h5`` file.
    below : tuple of str
        Of a layer in a nested model: the names of the models and layers it is in, its own last.
    """

    path: tuple[str, ...] = ()
    attributes: tuple[str | int, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()
    below: tuple[str, ...] = ()


class Tensor(Protocol):
    """One weight: name and shape are known, the numbers are read on demand."""

    name: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray: ...


class Weights(Protocol):
    """Where a model's weights are found."""

    def tensors(self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]) -> dict[str, Tensor]:
        """Keras role -> tensor of ``parts[index]`` of a layer. Exactly `roles`, or it raises `FormatError`."""

    def left(self, used: set[str]) -> list[str]:
        """Names of the tensors that are not among `used`."""


class _LiveTensor:
    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.array = as_numpy(name, value)
        self.shape = self.array.shape

    def read(self) -> np.ndarray:
        return self.array


class LiveWeights:
    """The weights of a live Keras model."""

    def __init__(self, model: object, layers: Sequence[LayerConfig]) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        missing = [layer.name for layer in layers if layer.name not in self.layers]
        if missing:
            raise FormatError(f"Keras model: its config names a layer that it does not have: {missing[0]!r}")

    def tensors(self, layer, parts, index, roles):
        live = self.layers[layer.name]
        for step in parts[index].attributes:
            live = live[step] if isinstance(step, int) else getattr(live, step)
        arrays = live.get_weights()
        start = "/".join(map(str, (layer.name, *parts[index].attributes)))
        if len(arrays) != len(roles):
            raise FormatError(f"Keras model: {start!r}: expected {', '.join(roles)}, found {len(arrays)} arrays")
        return {role: _LiveTensor(f"{start}/{role}", array) for role, array in zip(roles, arrays, strict=True)}

    def left(self, used):
        return []


class ArchiveWeights:
    """``model.weights.h5`` of a ``.keras`` archive: ``layers/<class>[_<n>]/.../vars/<j>``."""

    def __init__(self, where: str, file, layers: Sequence[LayerConfig]) -> None:
        self.where = where
        self.file = file
        # Keras 2.12 and 2.13 had another name for the same group.
        self.root = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in file), "layers")
        groups = numbered([layer.class_name for layer in layers])
        self.groups = {layer.name: group for layer, group in zip(layers, groups, strict=True)}

    def tensors(self, layer, parts, index, roles):
        path = "/".join((self.root, self.groups[layer.name], *parts[index].path, "vars"))
        group = _hdf5.child(self.where, self.file, path)
        if set(group) != {str(j) for j in range(len(roles))}:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: expected {', '.join(roles)} as {path}/0 to {len(roles) - 1}, "
                f"found {', '.join(group) or 'nothing'}"
            )
        return {role: self.tensor(f"{path}/{j}") for j, role in enumerate(roles)}

    def tensor(self, path: str) -> _hdf5.Hdf5Tensor:
        return _hdf5.Hdf5Tensor(self.where, path, _hdf5.child(self.where, self.file, path, dataset=True))

    def left(self, used):
        found = []
        waiting = [self.root] if self.root in self.file else []
        visited = 0
        while waiting:
            path = waiting.pop()
            visited += 1
            if visited > _hdf5.MAX_DATASETS or path.count("/") > _hdf5.MAX_PATH_PARTS:
                raise FormatError(f"{self.where}: too many or too deeply nested groups")
            for name in _hdf5.child(self.where, self.file, path):
                inner = f"{path}/{name}"
                child = _hdf5.child(self.where, self.file, inner, dataset=None)
                if hasattr(child, "shape"):
                    # Dropout keeps its random generator's state beside the weights.
                    if inner not in used and "seed_generator" not in inner.split("/"):
                        found.append(inner)
                else:
                    waiting.append(inner)
        return found


class LegacyWeights:
    """``model_weights`` of an ``.h5`` file: a group per layer, the weights' names in its attribute.

    `weighted` are the layers that have weights: Keras too matches these by their order, not by name.
    """

    def __init__(self, where: str, group, weighted: Sequence[LayerConfig]) -> None:
        self.where = where
        self.group = group
        stored: list[tuple[str, list[str]]] = []
        for name in _hdf5.names(where, group, "layer_names"):
            names = _hdf5.names(where, _hdf5.child(where, group, name), "weight_names")
            if names:
                stored.append((name, names))
        self.all = [f"{name}/{weight}" for name, names in stored for weight in names]
        self.stored = {layer.name: found for layer, found in zip(weighted, stored, strict=False)}

    def tensors(self, layer, parts, index, roles):
        if layer.name not in self.stored:
            raise FormatError(f"{self.where}: layer {layer.name!r}: its weights are missing")
        group, names = self.stored[layer.name]
        if parts[index].below:
            names = self.nested(layer, parts[index].below, names)
        if len(parts) > 1:
            names = self.divided(layer, parts, names)[index]
        by_role = {}
        for name in names:
            role = name.rsplit("/", 1)[-1].split(":")[0]
            if role not in roles or role in by_role:
                raise FormatError(
                    f"{self.where}: layer {layer.name!r}: weight {name!r} is not expected; expected {', '.join(roles)}"
                )
            path = f"{group}/{name}"
            child = _hdf5.child(self.where, self.group, path, dataset=True)
            by_role[role] = _hdf5.Hdf5Tensor(self.where, path, child)
        missing = [role for role in roles if role not in by_role]
        if missing:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: weight {missing[0]!r} is missing; found {', '.join(names)}"
            )
        return by_role

    def nested(self, layer: LayerConfig, below: tuple[str, ...], names: list[str]) -> list[str]:
        """Those of a nested model's weights whose paths name the layer ``below[-1]``, and no other model than its own.

        Their order does not do: weights that are frozen stand behind the others.
        """
        found = [name for name in names if below[-1] in name.split("/")[:-1]]
        # Keras writes the names of Sequential models into the paths, and not those of Functional ones.
        depth = {name: sum(part in below for part in set(name.split("/")[:-1])) for name in found}
        rank = {name: (name.split("/").index(below[-1]) + 1 - depth[name], -depth[name]) for name in found}
        found = [name for name in found if rank[name] == min(rank.values())]
        if not found:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: the weights of {'/'.join(below)!r} in it are missing"
            )
        return found

    def divided(self, layer: LayerConfig, parts: Sequence[Part], names: list[str]) -> list[list[str]]:
        """The names of each part: by the names in their paths, else in the order in which Keras writes them.

        The order alone does not do: weights that are frozen stand behind the others.
        """
        parents: dict[str, list[str]] = {}
        for name in names:
            parents.setdefault(name.rpartition("/")[0], []).append(name)
        if len(parents) != len(parts):
            what = (
                "two directions" if len(parts) == 2 and layer.class_name == "Bidirectional" else f"{len(parts)} cells"
            )
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: expected the weights of {what}, found {', '.join(names)}"
            )
        found = [_only_parent(part, parents) for part in parts]
        named = [parent for parent in found if parent is not None]
        if len(set(named)) != len(named):
            found = [None] * len(parts)
        rest = iter([parent for parent in parents if parent not in found])
        return [parents[parent if parent is not None else next(rest)] for parent in found]

    def left(self, used):
        return [name for name in self.all if name not in used]


def _only_parent(part: Part, parents: Sequence[str]) -> str | None:
    """The one path that holds the names of `part`, None if none does or several do."""
    for names in part.names:
        found = [parent for parent in parents if set(names) <= set(parent.split("/"))]
        if len(found) == 1:
            return found[0]
    return None


def numbered(class_names: Sequence[str]) -> list[str]:
    """The groups that Keras makes for objects of these classes: in snake case, counted per class from the second on."""
    counts: dict[str, int] = {}
    found = []
    for class_name in class_names:
        name = _snake_case(class_name)
        count = counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}_{count}" if count else name)
    return found


def _snake_case(name: str) -> str:
    """Keras's own rule for the names of groups (``keras.src.utils.naming.to_snake_case``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
