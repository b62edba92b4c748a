"""Weights that a state dict holds in parts, multiplied out where the parts alone say how.

PyTorch's hooks keep the parts beside the module's other tensors, and its parametrizations in a module of their own:

- weight norm: ``weight_g`` and ``weight_v``, or ``parametrizations.weight.original0`` and ``original1``;
- spectral norm: ``weight_orig``, ``weight_u`` and ``weight_v``, or ``parametrizations.weight.original``, ``0._u`` and
  ``0._v``;
- pruning: ``weight_orig`` and ``weight_mask``.

Weight norm: ``w = v * g / |v|``, the norm over every axis along which g has one element. Spectral norm, as in
evaluation: ``w = W / (u' W v)``, where W is the weight with the axis of u first and the others in one. Pruning:
``w = orig * mask``. All in float64, rounded once to the type of the weight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from cylstm.errors import FormatError
from cylstm.formats.arrays import shape_text
from cylstm.graph.weights import Tensor

_HOOKED = re.compile(
    r"(?P<weight>(?:.*\.)?(?:weight|bias)(?:_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?)?)_(?P<part>g|v|u|orig|mask)",
    re.DOTALL,
)
_PARAMETRIZED = re.compile(
    r"(?P<module>(?:.*\.)?)parametrizations\.(?P<name>[^.]+)\.(?P<part>original\d*|\d+\..+)", re.DOTALL
)
#: parts of a weight -> what made them, in the order in which they are multiplied out
_KNOWN: dict[frozenset[str], tuple[str, tuple[str, ...]]] = {
    frozenset(parts): (kind, parts)
    for kind, parts in (
        ("weight_norm", ("g", "v")),
        ("weight_norm", ("original0", "original1")),
        ("spectral_norm", ("orig", "u", "v")),
        ("spectral_norm", ("original", "0._u", "0._v")),
        ("pruning", ("orig", "mask")),
    )
}


def parts_of(name: str) -> tuple[str, str] | None:
    """The weight that a tensor is a part of and which part, or None."""
    found = _PARAMETRIZED.fullmatch(name)
    if found:
        return found["module"] + found["name"], found["part"]
    found = _HOOKED.fullmatch(name)
    return (found["weight"], found["part"]) if found else None


def multiplied_out(
    where: str, tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """The tensors with each weight that is there in known parts in one piece, and weight -> names of its parts.

    What is in parts that are not known together stays as it is.

    Raises
    ------
    FormatError
        If parts do not fit together, or the weight itself is there too. `names` has the names as given.
    """
    groups: dict[str, dict[str, str]] = {}
    for name in tensors:
        found = parts_of(name)
        if found is not None:
            groups.setdefault(found[0], {})[found[1]] = name
    made: dict[str, Tensor] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for weight, group in groups.items():
        known = _KNOWN.get(frozenset(group))
        if known is None:
            continue
        kind, order = known
        sources = tuple(group[part] for part in order)
        if weight in tensors:
            raise FormatError(
                f"{where}: tensor {names[weight]!r} is there in one piece and in the parts of {kind}, "
                f"{' and '.join(repr(names[name]) for name in sources)}; keep one of the two"
            )
        arrays = []
        for name in sources:
            array = np.asarray(tensors[name])
            if array.dtype.kind not in "fb":
                raise FormatError(
                    f"{where}: tensor {names[name]!r}, a part of {kind}: expected floating-point numbers, "
                    f"found {array.dtype}"
                )
            arrays.append(array)
        try:
            made[weight] = _FORMULAS[kind](*arrays)
        except ValueError as error:
            shapes = ", ".join(f"{names[name]!r} {shape_text(tensors[name].shape)}" for name in sources)
            raise FormatError(f"{where}: the parts of {kind} do not fit together: {error}, found {shapes}") from error
        parts[weight] = sources
    if not made:
        return dict(tensors), {}
    first = {sources[0]: weight for weight, sources in parts.items()}
    inside = {name for sources in parts.values() for name in sources}
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in first:
            whole[first[name]] = made[first[name]]
        elif name not in inside:
            whole[name] = tensor
    return whole, parts


def _weight_norm(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    if g.ndim not in (0, v.ndim) or any(size not in (1, whole) for size, whole in zip(g.shape, v.shape)):
        raise ValueError("expected a g of the shape of v with one element along every axis but one")
    axes = tuple(axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1)
    if v.ndim - len(axes) > 1:
        raise ValueError("expected a g of the shape of v with one element along every axis but one")
    exact = v.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # of a row of zeros PyTorch makes NaN too
        scale = g / np.sqrt(np.sum(exact * exact, axis=axes, keepdims=bool(g.ndim)))
        return np.asarray(exact * scale).astype(v.dtype)


def _spectral_norm(original: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    rows = [
        axis
        for axis, size in enumerate(original.shape)
        if u.shape == (size,) and size and v.shape == (original.size // size,)
    ]
    if not rows or original.ndim < 2:
        raise ValueError("expected a u of the length of one axis of the weight, and a v of that of the others together")
    exact = original.astype(np.float64)
    # PyTorch's own choice is the first axis for every layer that is read here
    matrix = np.moveaxis(exact, rows[0], 0).reshape(original.shape[rows[0]], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(exact / (u.astype(np.float64) @ (matrix @ v.astype(np.float64)))).astype(original.dtype)


def _pruned(original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if original.shape != mask.shape:
        raise ValueError("expected a mask of the shape of the weight")
    return np.asarray(original * mask).astype(original.dtype)


_FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "weight_norm": _weight_norm,
    "spectral_norm": _spectral_norm,
    "pruning": _pruned,
}
