"""Keras weights without a config, which the user wires with ``layers=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.arrays import shape_text
from cylstm.formats.keras.cudnn import from_cudnn
from cylstm.formats.keras.weights import ArchiveWeights, Tensor, is_weight, legacy_names
from cylstm.formats.state_dict.assemble import graph_from_tensors
from cylstm.formats.state_dict.wiring import GRU, ConvLSTM, Layer
from cylstm.formats.state_dict.wiring.layer import join
from cylstm.formats.untrusted.hdf5 import Hdf5File, Hdf5Tensor
from cylstm.graph.graph import Graph


class Group(NamedTuple):
    """One direction of a layer in a file of weights: the layer's name there, and Keras role -> tensor."""

    name: str
    is_backward: bool
    tensors: Mapping[str, Tensor]


#: Groups between a layer's group and its variables, which are not part of the layer's name.
_WITHIN = ("cell", "forward_layer", "backward_layer")


def archive_groups(path: str, files: Sequence[Hdf5File]) -> list[Group]:
    """The variables of all layers, whose order tells what they are.

    A layer is named by its group, which is below ``layers`` or, for an attribute of a model that is a class of its own,
    beside it; by the whole path if another layer has that name too.
    """
    weights = ArchiveWeights(path, files, [])
    whole = {group: [part for part in group.split("/")[:-1] if part not in _WITHIN] for group in weights.vars}
    short = {group: "/".join(parts[1:] if parts[:1] == [weights.root] else parts) for group, parts in whole.items()}
    owners: dict[str, set[str]] = {}
    for group, name in short.items():
        owners.setdefault(name, set()).add("/".join(whole[group]))
    found = []
    for group, variables in weights.vars.items():
        parts = group.split("/")
        roles = ("kernel", "recurrent_kernel", "bias") if "cell" in parts or len(variables) == 3 else ("kernel", "bias")
        if not short[group]:
            raise UnsupportedError(f"{path}: {group!r} holds weights of the model itself, which layers= cannot name")
        if sorted(variables) != [str(j) for j in range(len(variables))] or len(variables) > len(roles):
            raise UnsupportedError(
                f"{path}: {group!r} is of no layer that layers= can name; give architecture=, "
                f"found {len(variables)} arrays"
            )
        tensors = {
            role: weights.files[f"{group}/{j}"].tensor(f"{group}/{j}") for j, role in zip(range(len(variables)), roles)
        }
        name = short[group] if len(owners[short[group]]) == 1 else "/".join(whole[group])
        found.append(Group(name, "backward_layer" in parts, tensors))
    return found


def legacy_groups(file: Hdf5File) -> list[Group]:
    """The groups that an older file names in attributes; the second set in a group is the backward layer's."""
    found = []
    left = dict.fromkeys(filter(is_weight, file.datasets("")))
    for layer, names in legacy_names(file, ""):
        sets: dict[str, dict[str, Hdf5Tensor]] = {}
        for name in names:
            parent, _, role = name.rpartition("/")
            sets.setdefault(parent, {})[role.split(":")[0]] = file.tensor(f"{layer}/{name}")
            left.pop(f"{layer}/{name}", None)
        backward = [parent for parent in sets if any(part.startswith("backward_") for part in parent.split("/"))]
        if len(sets) > 2 or (len(sets) == 2 and len(backward) != 1):
            raise UnsupportedError(
                f"{file.path}: {layer!r} is of no layer that layers= can name; give architecture=, "
                f"found {', '.join(names[:12])}"
            )
        found += [Group(layer, parent in backward, tensors) for parent, tensors in sets.items()]
    if left:
        raise FormatError(
            f"{file.path}: weights that belong to no layer that its attribute layer_names names: "
            f"{', '.join(list(left)[:40])}"
        )
    return found


def graph_of_layers(
    path: str, groups: Sequence[Group], layers: Sequence[Layer] | None, provenance: Mapping[str, object]
) -> Graph:
    """The weights under PyTorch's names and in its layout, wired by `layers`."""
    arrays: dict[str, np.ndarray] = {}
    sources: dict[str, str] = {}
    storage: dict[str, str] = {}
    gru_biases: dict[str, int] = {}
    for group in groups:
        what = f"{path}: layer {group.name!r}"
        made = _as_pytorch(what, group)
        bias = group.tensors.get("bias")
        if "weight_ih_l0" in "".join(made) and bias is not None:
            gru_biases[group.name] = (
                1 if len(bias.shape) == 1 and bias.shape == group.tensors["kernel"].shape[-1:] else 2
            )
        for name, (role, array) in made.items():
            full = join(group.name, name)
            if full in arrays:
                raise FormatError(f"{what}: two sets of weights for {name!r}")
            arrays[full] = array
            sources[full] = group.tensors[role].name
            storage[group.tensors[role].name] = group.tensors[role].storage
    layer: Any
    for layer in layers if isinstance(layers, (list, tuple)) else ():
        expected = gru_biases.get(getattr(layer, "prefix", "")) if isinstance(layer, GRU) else None
        if expected is not None and (expected == 2) != layer.reset_after:
            raise FormatError(
                f"{path}: layer GRU({layer.prefix!r}): {expected} bias in the file is that of a GRU with "
                f"reset_after={expected == 2}; write GRU({layer.prefix!r}, reset_after={expected == 2})"
            )
        if isinstance(layer, ConvLSTM):
            raise UnsupportedError(f"{path}: layer {layer!r}: a ConvLSTM of Keras needs architecture=")
    base = {"version": None, "framework_version": None, **provenance, "layouts": storage}
    graph = graph_from_tensors(arrays, layers, where=path, provenance=base)
    used: dict[str, str] = {}
    roles: Any = graph.provenance["tensors"]
    for name, role in roles.items():
        source = sources.get(name, name)
        used[source] = role if used.get(source, role) == role else f"{used[source]}+{role.rpartition('/')[2]}"
    return graph._replace(provenance={**graph.provenance, "tensors": used})


def _as_pytorch(what: str, group: Group) -> dict[str, tuple[str, np.ndarray]]:
    """PyTorch's name -> Keras role, and array."""
    roles = set(group.tensors)
    if roles not in (
        {"kernel"},
        {"kernel", "bias"},
        {"kernel", "recurrent_kernel"},
        {"kernel", "recurrent_kernel", "bias"},
    ):
        raise UnsupportedError(
            f"{what}: of no layer that layers= can name; give architecture=, found {', '.join(sorted(roles))}"
        )
    arrays = {role: tensor.read() for role, tensor in group.tensors.items()}
    kernel = arrays["kernel"]
    if kernel.ndim != 2 or any(array.dtype.kind != "f" for array in arrays.values()):
        raise UnsupportedError(
            f"{what}: of no layer that layers= can name; give architecture=, found a kernel {shape_text(kernel.shape)}"
        )
    if "recurrent_kernel" not in arrays:
        return {"weight": ("kernel", kernel.T)} | ({"bias": ("bias", arrays["bias"])} if "bias" in arrays else {})
    recurrent = arrays["recurrent_kernel"]
    rows = kernel.shape[1]
    gates = rows // recurrent.shape[0] if recurrent.ndim == 2 and recurrent.size else 0
    if gates not in (1, 3, 4) or recurrent.shape != (rows // gates, rows):
        raise FormatError(
            f"{what}: expected a recurrent_kernel (units, gates*units), found {shape_text(recurrent.shape)} beside a "
            f"kernel {shape_text(kernel.shape)}"
        )
    if "bias" in arrays and arrays["bias"].shape == (2 * rows,) and gates > 1:
        arrays = from_cudnn(arrays, gates)
    found = {
        "weight_ih": ("kernel", arrays["kernel"].T),
        "weight_hh": ("recurrent_kernel", arrays["recurrent_kernel"].T),
    }
    if "bias" in arrays:
        bias = arrays["bias"]
        if bias.shape not in (((rows,), (2, rows)) if gates == 3 else ((rows,),)):
            raise FormatError(f"{what}: expected a bias ({rows},), found {shape_text(bias.shape)}")
        pair = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
        found |= {"bias_ih": ("bias", pair[0]), "bias_hh": ("bias", pair[1])}
    if gates == 3:
        found = {name: (role, _reset_gate_first(array)) for name, (role, array) in found.items()}
    suffix = "_l0_reverse" if group.is_backward else "_l0"
    return {name + suffix: entry for name, entry in found.items()}


def _reset_gate_first(array: np.ndarray) -> np.ndarray:
    """The blocks z r h of rows as r z h."""
    z, r, h = np.split(array, 3)
    return np.concatenate((r, z, h))
