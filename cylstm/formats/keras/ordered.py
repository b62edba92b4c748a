"""The arrays of Keras's ``model.get_weights()`` in a NumPy archive: ``numpy.savez("w.npz", *model.get_weights())``.

They are called ``arr_0``, ``arr_1`` and so on: they have an order, the model's, and no names. The order is that of the
layers, and within each that of Keras; with ``architecture=`` or ``layers=`` it says where each array belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats import File
from cylstm.formats.arrays import shape_text
from cylstm.formats.keras.alone import Group, graph_of_layers
from cylstm.formats.keras.architecture import read_architecture
from cylstm.formats.keras.build import Model
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.cudnn import without_cudnn
from cylstm.formats.keras.weights import Part, Tensor
from cylstm.formats.npz import read_npz_tensors
from cylstm.formats.state_dict.assemble import check_layers
from cylstm.formats.state_dict.wiring import GRU, LSTM, RNN, Layer, Linear
from cylstm.formats.state_dict.wiring.layer import Weighted
from cylstm.graph.graph import Graph

_LISTED = 60
_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}
_NAMED = 'numpy.savez("model.npz", **{name: tensor.numpy() for name, tensor in module.state_dict().items()})'


class Array:
    """One array: its name in the archive, its shape and how it was stored."""

    def __init__(self, name: str, storage: str, array: np.ndarray) -> None:
        self.name = name
        self.storage = storage
        self.array = array
        self.shape = array.shape

    def read(self) -> np.ndarray:
        """The numbers."""
        return self.array


class OrderedWeights:
    """Weights that only have an order: each layer takes the next ones."""

    is_archive = False

    def __init__(self, where: str, arrays: Sequence[Array], layers: Sequence[LayerConfig]) -> None:
        self.where = where
        self.arrays = arrays
        self.places = {layer.name: i for i, layer in enumerate(layers)}
        self.taken: dict[tuple[str, tuple[str | int, ...]], Mapping[str, Tensor]] = {}
        self.next = 0
        self.last = -1

    def tensors(
        self, layer: LayerConfig, parts: Sequence[Part], index: int, roles: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """As `cylstm.formats.keras.weights.Weights`."""
        part = parts[index]
        key = layer.name, part.attributes
        if key not in self.taken:
            place = self.places.get(layer.name, -1)
            if part.below or place < self.last:
                raise UnsupportedError(
                    f"{self.where}: layer {layer.name!r}: where its weights stand among those of get_weights() is only "
                    'known for a chain of layers; save them with model.save_weights("model.weights.h5")'
                )
            found = self.arrays[self.next : self.next + len(roles)]
            if len(found) < len(roles):
                raise FormatError(
                    f"{self.where}: layer {layer.name!r}: expected {', '.join(roles)} as arrays {self.next} to "
                    f"{self.next + len(roles) - 1}, found {len(self.arrays)} arrays in all"
                )
            self.last, self.next = place, self.next + len(roles)
            self.taken[key] = dict(zip(roles, found, strict=True))
        return self.taken[key]

    def all_tensors(self, layer: LayerConfig, part: Part) -> Mapping[str, Tensor]:
        """As `cylstm.formats.keras.weights.Weights`, of the last layer: it has all arrays that are left."""
        if part.below or self.places.get(layer.name, -1) != len(self.places) - 1:
            raise UnsupportedError(
                f"{self.where}: layer {layer.name!r}: which arrays are those of a custom layer is only known for the "
                'last layer; save the weights with model.save_weights("model.weights.h5")'
            )
        return self.tensors(layer, [part], 0, [f"var{k}" for k in range(len(self.arrays) - self.next)])

    def left(self, used: set[str]) -> list[str]:
        """As `cylstm.formats.keras.weights.Weights`."""
        return [array.name for array in self.arrays if array.name not in used]


def read_ordered(
    file: File,
    *,
    layers: Sequence[Layer] | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    custom_layers: object = None,
) -> Graph:
    """Read the arrays of ``get_weights()`` into a graph.

    Parameters
    ----------
    file : File
    layers : sequence of Layer, optional
        `LSTM`, `GRU`, `RNN` and `Linear` in the order of the arrays, under any names, and layers without weights.
    architecture, keras_version, custom_layers
        As in `cylstm.formats.keras.files.read_h5_weights`.

    Raises
    ------
    FormatError
        If the file is damaged, the arrays do not fit, or neither `layers` nor `architecture` is given; the message
        then proposes layers.
    UnsupportedError
        If their order does not say where they belong.
    """
    path = file.path
    found = read_npz_tensors(path)
    layouts = found.provenance["layouts"]
    names = [f"arr_{i}" for i in range(len(found.arrays))]
    if set(names) != found.arrays.keys():
        listed = ", ".join(sorted(found.arrays)[:_LISTED])
        raise FormatError(f"{path}: expected arr_0 to arr_{len(names) - 1}, found {listed}")
    arrays = [Array(name, layouts[name], np.asarray(found.arrays[name])) for name in names]
    provenance = {"format": "npz, in order", "source": path}
    if layers is not None and architecture is not None:
        raise FormatError(f"{path}: both architecture= and layers= say the wiring; leave out one")
    if architecture is not None:
        given = read_architecture(path, architecture)
        version = keras_version or given.version
        if not isinstance(version, str):
            raise FormatError(
                f"{path}: nothing tells which Keras wrote the config; give it, for example keras_version='2.2.4'"
            )
        model = Model(path, without_cudnn(given.config), version, custom_layers)
        return model.graph(OrderedWeights(path, arrays, model.layers), provenance)
    if keras_version is not None:
        raise FormatError(
            f"{path}: keras_version= is of the config that architecture= gives; leave it out with layers="
        )
    if custom_layers is not None:
        raise FormatError(f"{path}: custom_layers= is of the config that architecture= gives; leave it out")
    if layers is None:
        raise _without_wiring(path, arrays)
    check_layers(path, layers)
    return graph_of_layers(path, _groups(path, arrays, layers), layers, provenance)


def _size(arrays: Sequence[Array], start: int) -> tuple[str, int]:
    """The kind of layer whose arrays begin at `start`, by their shapes alone, and how many there are; "" for none."""
    shapes = [array.shape for array in arrays[start : start + 3]]
    if not shapes or len(shapes[0]) != 2 or 0 in shapes[0]:
        return "", 0
    rows = shapes[0][1]
    if len(shapes) > 1 and len(shapes[1]) == 2 and shapes[1][1] == rows and shapes[1][0]:
        gates, rest = divmod(rows, shapes[1][0])
        if not rest and gates in _GATES:
            has_bias = len(shapes) > 2 and shapes[2] in ((rows,), (2, rows))
            return _GATES[gates], 3 if has_bias else 2
    return "Linear", 2 if len(shapes) > 1 and shapes[1] == (rows,) else 1


def _groups(path: str, arrays: Sequence[Array], layers: Sequence[Layer]) -> list[Group]:
    """The arrays of each layer, in order."""
    groups: list[Group] = []
    start = 0
    for layer in layers:
        if not isinstance(layer, Weighted) or layer.prefix in {group.name for group in groups}:
            continue
        what = f"{path}: layer {layer.what}"
        if not isinstance(layer, (LSTM, GRU, RNN, Linear)):
            raise UnsupportedError(
                f"{what}: arrays in an order are read for LSTM, GRU, RNN and Linear; give architecture=, or save them "
                'with model.save_weights("model.weights.h5")'
            )
        kind, count = _size(arrays, start)
        expected = type(layer).__name__
        if kind != expected:
            near = ", ".join(f"{array.name} {shape_text(array.shape)}" for array in arrays[start : start + 3]) or "none"
            raise FormatError(
                f"{what}: its arrays come next, kernels as Keras lays them out, (input, units) or (input, "
                f"gates*units); found {near}. Tensors of PyTorch are saved by name: {_NAMED}"
            )
        roles = ("kernel", "bias") if expected == "Linear" else ("kernel", "recurrent_kernel", "bias")
        taken: dict[str, Tensor] = {}
        for role, array in zip(roles, arrays[start : start + count]):
            taken[role] = array
        groups.append(Group(layer.prefix, False, taken))
        start += count
    if start < len(arrays):
        left = ", ".join(f"{array.name} {shape_text(array.shape)}" for array in arrays[start:][:_LISTED])
        raise FormatError(f"{path}: arrays that belong to no layer given: {left}")
    return groups


def _without_wiring(path: str, arrays: Sequence[Array]) -> FormatError:
    """The error that asks for the wiring, with a proposal where the shapes allow one."""
    proposed: list[str] = []
    start = 0
    while start < len(arrays):
        kind, count = _size(arrays, start)
        if not kind:
            break
        proposed.append(f'cylstm.{kind}("{kind.lower()}_{len(proposed)}")')
        start += count
    listing = "\n".join(f"  {array.name} {shape_text(array.shape)}" for array in arrays[:_LISTED])
    text = (
        f"{path}: arrays without names, such as those of Keras's model.get_weights(): give architecture= (the text or "
        "file of model.to_json(), or a .keras or .h5 file of the whole model), or layers= in their order. Arrays found:"
        f"\n{listing}"
    )
    if start == len(arrays) and proposed:
        recurrent = [i for i, layer in enumerate(proposed) if not layer.startswith("cylstm.Linear")]
        if recurrent and recurrent[-1] + 1 < len(proposed):
            proposed.insert(recurrent[-1] + 1, "cylstm.Last()")
        text += (
            f"\nProposal, from shapes alone:\n  layers=[{', '.join(proposed)}]\nPut activations, Dropout(), Last() or "
            'LastState() where the model has them, and padding="repeat" where Keras masks.'
        )
    else:
        text += f"\nNo list of layers for these shapes; tensors of PyTorch are saved by name: {_NAMED}"
    return FormatError(text)
