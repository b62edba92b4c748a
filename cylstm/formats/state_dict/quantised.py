"""State dicts of dynamically quantised modules, whose weights PyTorch packs: their parts, under the usual names.

``torch.ao.nn.quantized.dynamic.Linear`` keeps ``_packed_params._packed_params``, a pair of the weight and the bias,
beside a ``scale`` and a ``zero_point`` of its output that are 1 and 0: only the input is quantised, anew at each call.
``LSTM`` and ``GRU`` keep one object of a class written in C++ for each layer and direction,
``_all_weight_values.{i}.param``. Such an object comes with its state, which is plain data: for these
``("quantized_dynamic", [bias_ih, bias_hh], [], [...], [weight_ih, weight_hh])``, in which each weight is such an object
again, with the state ``(weight, bias)``. (In ``"quantized_fp16"`` the biases are those of the two.) Behind the state in
a file stands the name of the class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.weights import Tensor

#: what a model says of itself whose weights were quantised
NOTE = (
    "weights of a dynamically quantised module, as float32; where it has 8 bits, PyTorch rounds the inputs of these "
    "layers too, and its numbers differ by that"
)

_LINEAR = re.compile(r"(?P<prefix>(?:.*\.)?)_packed_params\._packed_params", re.DOTALL)
_DTYPE = re.compile(r"(?P<prefix>(?:.*\.)?)_packed_params\.dtype", re.DOTALL)
_RECURRENT = re.compile(r"(?P<prefix>(?:.*\.)?)_all_weight_values\.(?P<index>\d{1,4})\.param", re.DOTALL)
_CELL = re.compile(r"(?:.*\.)?_packed_weight_[ih]h", re.DOTALL)
_FLOAT_MODULE = "save the state dict of the module as it was before it was quantised"


def is_packed(name: object) -> bool:
    """Whether an entry of a state dict of this name is a packed weight."""
    return isinstance(name, str) and any(p.fullmatch(name) for p in (_LINEAR, _RECURRENT, _CELL))


def unpacked(
    where: str, entries: Mapping[Any, Any], state_of: Callable[[Any], object]
) -> tuple[dict[Any, Any], list[str]]:
    """The entries of a state dict with each packed weight as the tensors in it, and the prefixes of linear layers.

    Parameters
    ----------
    where : str
        For messages.
    entries : dict
        Name -> tensor of any kind that has a shape, or what a quantised module has in its place.
    state_of : callable
        Object of a class written in C++ -> its state; None for anything else.

    Raises
    ------
    FormatError, UnsupportedError
        If a packed weight is not as PyTorch packs it, or does not say which layer it belongs to.
    """
    found: dict[Any, Any] = {}
    linear: list[str] = []
    cells: dict[str, dict[int, Any]] = {}
    for name, value in entries.items():
        text = name if isinstance(name, str) else ""
        if _CELL.fullmatch(text):
            raise UnsupportedError(
                f"{where}: {name!r} is of a quantised cell, whose biases PyTorch leaves out of the state dict; "
                f"{_FLOAT_MODULE}"
            )
        if match := _LINEAR.fullmatch(text):
            weight, bias = _pair(where, text, value, state_of)
            linear.append(match["prefix"])
            found[f"{match['prefix']}weight"] = weight
            if bias is not None:
                found[f"{match['prefix']}bias"] = bias
        elif match := _RECURRENT.fullmatch(text):
            if match["prefix"] not in cells:
                found |= {(match["prefix"],): None}  # its place, filled in below
            cells.setdefault(match["prefix"], {})[int(match["index"])] = _cell(where, text, value, state_of)
        elif not _DTYPE.fullmatch(text):
            found[name] = value
    if not cells:
        return found, linear
    whole: dict[Any, Any] = {}
    for name, value in found.items():
        if isinstance(name, tuple):
            whole |= _recurrent(where, name[0], cells[name[0]])
        else:
            whole[name] = value
    return whole, linear


def without_scales(where: str, arrays: Mapping[str, Tensor], linear: list[str]) -> dict[str, Tensor]:
    """The tensors without the scale and zero point of the outputs of linear layers.

    Raises `UnsupportedError` unless these are 1 and 0: then the outputs are quantised too.
    """
    left = dict(arrays)
    for prefix in linear:
        for part, neutral in (("scale", 1), ("zero_point", 0)):
            array = left.pop(prefix + part, None)
            if array is not None and not (array.size == 1 and float(np.asarray(array).reshape(())) == neutral):
                raise UnsupportedError(
                    f"{where}: tensor {prefix + part!r}: a statically quantised layer, whose outputs are rounded to "
                    f"8 bits too; {_FLOAT_MODULE}"
                )
    return left


def _state(value: Any, state_of: Callable[[Any], object]) -> Any:
    """The state of an object, without the name of its class behind it."""
    state = state_of(value)
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], tuple) and isinstance(state[1], str):
        return state[0]
    return state


def _pair(where: str, name: str, value: Any, state_of: Callable[[Any], object]) -> tuple[Any, Any]:
    """The weight and the bias of a packed matrix."""
    pair = value if isinstance(value, tuple) else _state(value, state_of)
    if not isinstance(pair, tuple) or len(pair) != 2 or len(getattr(pair[0], "shape", ())) != 2:
        raise FormatError(f"{where}: {name!r}: expected a packed weight, a pair of a matrix and a bias")
    if pair[1] is not None and len(getattr(pair[1], "shape", ())) != 1:
        raise FormatError(f"{where}: {name!r}: expected a bias of one axis beside the packed matrix")
    return pair


def _cell(where: str, name: str, value: Any, state_of: Callable[[Any], object]) -> tuple[Any, ...]:
    """weight_ih, weight_hh and perhaps bias_ih and bias_hh of one layer and direction."""
    state = _state(value, state_of)
    kind, biases, *_, matrices = state if isinstance(state, tuple) and len(state) == 5 else ("", (), ())
    if kind not in ("quantized_dynamic", "quantized_fp16"):
        raise UnsupportedError(
            f"{where}: {name!r} is not the weights of a dynamically quantised layer; {_FLOAT_MODULE}"
        )
    lists = isinstance(biases, (list, tuple)) and isinstance(matrices, (list, tuple))
    if not lists or len(matrices) != 2 or len(biases) not in (0, 2):
        raise FormatError(f"{where}: {name!r}: expected two matrices, and two biases or none")
    if any(len(getattr(bias, "shape", ())) != 1 for bias in biases):
        raise FormatError(f"{where}: {name!r}: expected biases of one axis")
    pairs = [_pair(where, name, matrix, state_of) for matrix in matrices]
    if kind == "quantized_fp16":
        biases = [bias for _, bias in pairs if bias is not None]
    return (*(weight for weight, _ in pairs), *biases)


def _recurrent(where: str, prefix: str, cells: Mapping[int, tuple[Any, ...]]) -> dict[str, Any]:
    """PyTorch's names of a recurrent layer whose layers and directions are only counted."""
    what = f"{where}: '{prefix}_all_weight_values'"
    if sorted(cells) != list(range(len(cells))):
        raise FormatError(f"{what}: expected entries 0 to {len(cells) - 1}, found {sorted(cells)}")
    inputs = [int(cells[i][0].shape[1]) for i in range(len(cells))]
    hidden = int(cells[0][1].shape[1])
    one = all(size == hidden for size in inputs[1:])
    two = not len(cells) % 2 and all(size == (inputs[0] if i < 2 else 2 * hidden) for i, size in enumerate(inputs))
    if one and two:
        raise UnsupportedError(
            f"{what}: {len(cells)} sets of weights may be two layers or two directions, as their input and hidden "
            f"sizes are equal; {_FLOAT_MODULE}"
        )
    if not one and not two:
        raise FormatError(
            f"{what}: matrices that read {inputs} features with hidden size {hidden} make no stack of layers"
        )
    found = {}
    for i, cell in sorted(cells.items()):
        suffix = f"_l{i // 2}{'_reverse' if i % 2 else ''}" if two else f"_l{i}"
        for role, tensor in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), cell):
            found[f"{prefix}{role}{suffix}"] = tensor
    return found
