"""Where a Keras model's weights are found: a live model, a ``.keras`` archive, a legacy ``.h5`` file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.arrays import as_numpy, shape_text
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.cudnn import from_cudnn
from cylstm.formats.untrusted.hdf5 import Hdf5File

#: what an older .h5 file calls its groups of layers' weights, at its root
LEGACY_NAMES = ("layer_names", "layer_names0")
#: what an archive calls its groups of layers; Keras 2.12 and 2.13 had another name
ARCHIVE_ROOTS = ("layers", "_layer_checkpoint_dependencies")
#: groups of an archive, and of an older file's root, that only training needs
_TRAINING = ("optimizer", "metrics", "optimizer_weights")
#: what SpectralNormalization divides a kernel by in training
_VECTOR_U = "vector_u"


def is_weight(path: str) -> bool:
    """Whether a dataset is a weight: not the state of an optimizer, a metric, or what only training reads."""
    parts = path.split("/")
    return parts[0] not in _TRAINING and "seed_generator" not in parts and _role(path) != _VECTOR_U


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
    storage: str

    def read(self) -> np.ndarray: ...


class Taken(NamedTuple):
    """A weight that was read: its name in the file, how it was stored and laid out anew, and its numbers."""

    name: str
    storage: str
    array: np.ndarray


class Weights(Protocol):
    """Where a model's weights are found.

    `is_archive` tells whether each object's own weights stand apart from those of the objects in it, and those of LoRA
    have been added to the weights that they belong to.
    """

    is_archive: bool

    def tensors(
        self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Keras role -> tensor of ``parts[index]`` of a layer. Exactly `roles`, or it raises `FormatError`."""

    def all_tensors(self, layer: LayerConfig, part: Part) -> Mapping[str, Tensor]:
        """Those of a layer of which nothing else is known, in the order in which the layer made them.

        By the names that the layer gave them, behind those of layers in it: ``"W"``, ``"dense/kernel"``. A file that
        has no names has ``"var0"``, ``"var1"``, ``"dense/var0"``, the layers in it in the order of the alphabet.
        """

    def left(self, used: set[str]) -> list[str]:
        """Names of the tensors that are not among `used`."""


def _short_names(layer: str, paths: Sequence[str]) -> list[str]:
    """What weights are called in a layer, by their paths."""
    found: list[str] = []
    for path in paths:
        parts = path.split(":")[0].split("/")
        within = parts[len(parts) - parts[::-1].index(layer) :] if layer in parts[:-1] else parts[-1:]
        name = "/".join(within)
        found.append(name if name not in found else f"{name}_{len(found)}")
    return found


class _LiveTensor:
    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.array = as_numpy(name, value)
        self.shape = self.array.shape
        self.storage = f"{self.array.dtype} {shape_text(self.shape)}"

    def read(self) -> np.ndarray:
        return self.array


class LiveWeights:
    """The weights of a live Keras model."""

    is_archive = False

    def __init__(self, model: Any, layers: Sequence[LayerConfig]) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        missing = [layer.name for layer in layers if layer.name not in self.layers]
        if missing:
            raise FormatError(f"Keras model: its config names a layer that it does not have: {missing[0]!r}")

    def tensors(
        self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]
    ) -> Mapping[str, Tensor]:
        live = self.layers[layer.name]
        for step in parts[index].attributes:
            live = live[step] if isinstance(step, int) else getattr(live, step)
        arrays = live.get_weights()
        start = "/".join(map(str, (layer.name, *parts[index].attributes)))
        if len(arrays) != len(roles):
            raise FormatError(f"Keras model: {start!r}: expected {', '.join(roles)}, found {len(arrays)} arrays")
        names = [str(getattr(weight, "name", "")) for weight in getattr(live, "weights", ())]
        if sorted(names) == sorted(roles):
            # those that are not trained stand last, whatever their order in the layer
            arrays = [arrays[names.index(role)] for role in roles]
        return {role: _LiveTensor(f"{start}/{role}", array) for role, array in zip(roles, arrays, strict=True)}

    def all_tensors(self, layer: LayerConfig, part: Part) -> Mapping[str, Tensor]:
        live = self.layers[layer.name]
        for step in part.attributes:
            live = live[step] if isinstance(step, int) else getattr(live, step)
        start = "/".join(map(str, (layer.name, *part.attributes)))
        variables = list(getattr(live, "weights", []))
        paths = [str(getattr(one, "path", None) or getattr(one, "name", "")) for one in variables]
        arrays = live.get_weights()
        if len(arrays) != len(paths):
            paths = [f"var{k}" for k in range(len(arrays))]
        names = _short_names(live.name, paths)
        # layers in it are called by their attributes, as in an archive
        for attribute, inner in {**vars(live), **getattr(live, "_modules", {})}.items():
            if not attribute.startswith("_") and hasattr(inner, "get_weights") and hasattr(inner, "weights"):
                own = {id(one): k for k, one in enumerate(inner.weights)}
                short = _short_names(inner.name, [str(getattr(one, "path", None) or one.name) for one in inner.weights])
                for k, one in enumerate(variables):
                    if id(one) in own:
                        names[k] = f"{attribute}/{short[own[id(one)]]}"
        return {name: _LiveTensor(f"{start}/{name}", array) for name, array in zip(names, arrays, strict=True)}

    def left(self, used: set[str]) -> list[str]:
        return []


class ArchiveWeights:
    """``model.weights.h5`` of a ``.keras`` archive, or the files it is spread over.

    The path of a weight is ``layers/<class>[_<n>]/.../vars/<j>``, with a counter per class. In the file of a model that
    is a class of its own, layers stand under the names of its attributes too, beside ``layers``.
    """

    is_archive = True

    def __init__(self, where: str, files: Sequence[Hdf5File], layers: Sequence[LayerConfig]) -> None:
        self.where = where
        self.files: dict[str, Hdf5File] = {}
        self.vars: dict[str, list[str]] = {}
        self.root = next((root for root in ARCHIVE_ROOTS for file in files if root in file), ARCHIVE_ROOTS[0])
        for file in files:
            for path in filter(is_weight, file.datasets("")):
                if path in self.files:
                    raise FormatError(f"{where}: {path!r} stands in {self.files[path].path} and in {file.path}")
                self.files[path] = file
                group, _, variable = path.rpartition("/")
                self.vars.setdefault(group, []).append(variable)
        groups = numbered([layer.class_name for layer in layers])
        self.groups = {layer.name: group for layer, group in zip(layers, groups, strict=True)}

    def tensors(
        self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]
    ) -> Mapping[str, Tensor]:
        path = "/".join((self.root, self.groups[layer.name], *parts[index].path, "vars"))
        found = self.vars.get(path, [])
        if set(found) != {str(j) for j in range(len(roles))}:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: expected {', '.join(roles)} as {path}/0 to {len(roles) - 1}, "
                f"found {', '.join(sorted(found)[:40]) or 'nothing'}{self.hint()}"
            )
        return {role: self.files[f"{path}/{j}"].tensor(f"{path}/{j}") for j, role in enumerate(roles)}

    def all_tensors(self, layer: LayerConfig, part: Part) -> Mapping[str, Tensor]:
        start = "/".join((self.root, self.groups[layer.name], *part.path)) + "/"
        found: dict[str, Tensor] = {}
        for group in sorted((one for one in self.vars if f"{one}/".startswith(start)), key=lambda one: one.count("/")):
            if group.rpartition("/")[2] != "vars":
                continue
            within = group[len(start) :].rpartition("/")[0]
            numbers = sorted(self.vars[group], key=lambda one: (not one.isdecimal(), len(one), one))
            for variable in numbers:
                name = f"var{variable}" if variable.isdecimal() else variable
                path = f"{group}/{variable}"
                found[f"{within}/{name}" if within else name] = self.files[path].tensor(path)
        return found

    def hint(self) -> str:
        """What to do about a file in which layers stand elsewhere."""
        beside = [group for group in self.vars if group.partition("/")[0] != self.root]
        if not beside:
            return ""
        return (
            f"; the file also has {', '.join(sorted(beside)[:20])}, under the attributes of a model that is a class of "
            "its own: give layers=, or save the weights of a Sequential or Functional model of the same layers"
        )

    def left(self, used: set[str]) -> list[str]:
        return [path for path in self.files if path not in used]


class LegacyWeights:
    """``model_weights`` of an ``.h5`` file: a group per layer, the weights' names in its attribute.

    Parameters
    ----------
    where : str
    file : Hdf5File
    root : str
        The group that has them; "" for the file itself.
    weighted : sequence of LayerConfig
        The layers that have weights: Keras too matches these by their order, not by name.
    """

    is_archive = False

    def __init__(self, where: str, file: Hdf5File, root: str, weighted: Sequence[LayerConfig]) -> None:
        self.where = where
        self.file = file
        self.start = f"{root}/" if root else ""
        stored = [(name, [*filter(is_weight, weights)]) for name, weights in legacy_names(file, root)]
        in_layers = {f"{name}/{weight}" for name, weights in stored for weight in weights}
        start = len(self.start)
        present = [path[start:] for path in file.datasets(root) if is_weight(path[start:])]
        self.all = [*in_layers, *(path for path in present if path not in in_layers)]
        stored = [(name, weights) for name, weights in stored if weights]
        self.stored = {layer.name: found for layer, found in zip(weighted, stored, strict=False)}

    @staticmethod
    def weighted_groups(file: Hdf5File, root: str) -> list[str]:
        """The groups that have weights, in order."""
        return [name for name, weights in legacy_names(file, root) if weights]

    def all_tensors(self, layer: LayerConfig, part: Part) -> Mapping[str, Tensor]:
        if layer.name not in self.stored:
            return {}
        group, names = self.stored[layer.name]
        if part.below:
            names = [name for name in names if part.below[-1] in name.split("/")[:-1]]
        short = _short_names(part.below[-1] if part.below else layer.name, names)
        return {one: self.tensor(f"{group}/{name}") for one, name in zip(short, names, strict=True)}

    def tensors(
        self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]
    ) -> Mapping[str, Tensor]:
        if layer.name not in self.stored:
            raise FormatError(f"{self.where}: layer {layer.name!r}: its weights are missing")
        group, names = self.stored[layer.name]
        if parts[index].below:
            names = self.nested(layer, parts[index].below, names)
        if len(parts) > 1:
            names = self.divided(layer, parts, names)[index]
        by_role: dict[str, str] = {}
        for name in names:
            role = _role(name)
            role = role if role in roles else _COUNTER.sub("", role)
            if role not in roles or role in by_role:
                raise FormatError(
                    f"{self.where}: layer {layer.name!r}: weight {name!r} is not expected; expected {', '.join(roles)}"
                )
            by_role[role] = f"{group}/{name}"
        missing = [role for role in roles if role not in by_role]
        if missing:
            raise FormatError(
                f"{self.where}: layer {layer.name!r}: weight {missing[0]!r} is missing; found {', '.join(names)}"
            )
        return {role: self.tensor(by_role[role]) for role in roles}

    def tensor(self, path: str) -> Tensor:
        found = self.file.tensor(self.start + path)
        found.name, found.is_legacy = path, True
        return found

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
        if len(parents) == 1:
            parents = _counted(names)
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

    def left(self, used: set[str]) -> list[str]:
        return [name for name in self.all if name not in used]


def _only_parent(part: Part, parents: Iterable[str]) -> str | None:
    """The one path that holds the names of `part`, None if none does or several do."""
    for names in part.names:
        found = [parent for parent in parents if set(names) <= set(parent.split("/"))]
        if len(found) == 1:
            return found[0]
    return None


#: What TensorFlow 1 appends to a name that it has given before: ``kernel``, ``kernel_1``.
_COUNTER = re.compile(r"_\d{1,6}$")


def _role(name: str) -> str:
    """The last part of a weight's name, without TensorFlow's ``:0``."""
    return name.rsplit("/", 1)[-1].split(":")[0]


def _counted(names: Sequence[str]) -> dict[str, list[str]]:
    """The names by their counter, in order: the cells of one layer, where Keras before 2.4 gave them no names."""
    found: dict[int, list[str]] = {}
    for name in names:
        counter = _COUNTER.search(_role(name))
        found.setdefault(int(counter[0][1:]) if counter else 0, []).append(name)
    return {str(count): found[count] for count in sorted(found)}


def legacy_names(file: Hdf5File, root: str) -> list[tuple[str, list[str]]]:
    """Layer -> its weights, in the model's order, as the attributes of an ``.h5`` file name them."""
    start = f"{root}/" if root else ""
    names = file.names(file.group(root), "layer_names")
    return [(name, file.names(file.group(start + name), "weight_names")) for name in names]


def take_weights(
    weights: Weights,
    layer: LayerConfig,
    parts: Sequence[Part],
    index: int,
    shapes: Mapping[str, tuple[int, ...]],
    known: dict[str, Taken],
    *,
    cudnn_bias: int | None = None,
    ignored: Sequence[str] = (),
    integers: Sequence[str] = (),
) -> dict[str, Taken]:
    """Keras role -> weight of ``parts[index]`` of a layer; their number and shapes are those of the config.

    `known` are the weights read before, by name, to which these are added. `cudnn_bias` is the length of a bias that
    tells the weights of a CuDNN layer, which are converted. Those `ignored` are there and are not read; those of
    `integers` are whole numbers.
    """
    tensors = weights.tensors(layer, parts, index, list(shapes))
    if any(tensor.name not in known for tensor in tensors.values()):
        read = {role: shape for role, shape in shapes.items() if role not in ignored}
        for role, found in _read_weights(layer, tensors, read, cudnn_bias, integers).items():
            known[tensors[role].name] = found
        for role in ignored:
            known[tensors[role].name] = Taken(tensors[role].name, tensors[role].storage, np.empty(0, np.float32))
    return {role: known[tensor.name] for role, tensor in tensors.items()}


def _read_weights(
    layer: LayerConfig,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    cudnn_bias: int | None,
    integers: Sequence[str],
) -> dict[str, Taken]:
    """The numbers of a layer's tensors, converted if they are those of a CuDNN layer."""
    cudnn = "bias" in shapes and tensors["bias"].shape == (cudnn_bias,)
    is_recurrent = "recurrent_kernel" in shapes
    gates = shapes["recurrent_kernel"][-1] // shapes["recurrent_kernel"][-2] if is_recurrent else 1
    if cudnn and gates == 3 and shapes["bias"] != (2, tensors["bias"].shape[0] // 2):
        raise FormatError(
            f"{layer.what}, tensor {tensors['bias'].name!r}: the weights of a CuDNNGRU, which resets after the "
            "product, and the config says reset_after=False"
        )
    arrays = {}
    for role, shape in shapes.items():
        tensor = tensors[role]
        if tensor.shape != shape and not (cudnn and role == "bias"):
            raise FormatError(
                f"{layer.what}, tensor {tensor.name!r}: expected shape {shape_text(shape)}, "
                f"found {shape_text(tensor.shape)}"
            )
        arrays[role] = tensor.read()
        if arrays[role].dtype.kind not in ("iu" if role in integers else "f"):
            expected = "whole" if role in integers else "floating-point"
            raise FormatError(
                f"{layer.what}, tensor {tensor.name!r}: expected {expected} numbers, found {arrays[role].dtype}"
            )
    if cudnn:
        arrays = from_cudnn(arrays, gates)
    found = {}
    for role, array in arrays.items():
        notes = [tensors[role].storage]
        if cudnn:
            notes.append("both biases added" if role == "bias" and gates == 4 else "CuDNN's layout undone")
        if gates == 3:
            notes.append("gates z r h as r z h")
        if is_recurrent and role == "bias" and array.ndim == 2:
            notes.append("rows as two biases")
        if role in ("kernel", "recurrent_kernel"):
            notes.append("transposed" if array.ndim == 2 else "taps and channels transposed")
        found[role] = Taken(tensors[role].name, "; ".join(notes), array)
    return found


#: Keras's name of a class in a config -> the class's own, where they differ.
_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention"}


def numbered(class_names: Sequence[str]) -> list[str]:
    """The groups that Keras makes for objects of these classes: in snake case, counted per class from the second on."""
    counts: dict[str, int] = {}
    found = []
    for class_name in class_names:
        name = _snake_case(_CLASSES.get(class_name, class_name).rpartition(">")[2])
        count = counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}_{count}" if count else name)
    return found


def _snake_case(name: str) -> str:
    """Keras's own rule for the names of groups (``keras.src.utils.naming.to_snake_case``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
