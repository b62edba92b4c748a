"""Operations by which Keras writes the computation of a mask into a config.

Masking, Embedding(mask_zero=True) and merges come so, and are read as the masks that they make. Each function gives
None where its arguments are numbers, of which a table of operations computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cylstm.formats.keras.call import Comparison, Computed, Everywhere, Flow, LayerCall, NoMask, Spread
from cylstm.graph.values import Value

#: what an operation is as a mask
Masked = Comparison | Spread | Everywhere | Value | NoMask

_MASKS = (Comparison, Spread, Everywhere, Value, NoMask)


def as_mask_of(given: Any) -> Any:
    """An argument as the mask that it is; itself if it is none."""
    return given.mask if isinstance(given, Computed) and given.mask is not None else given


def _axis(call: LayerCall, args: Sequence[Any], default: object = None) -> Any:
    axis = call.layer.config.get("axis", call.arguments.get("axis", args[1] if len(args) > 1 else default))
    return axis[0] if isinstance(axis, list) and len(axis) == 1 else axis


def _not_equal(call: LayerCall, args: Sequence[Any]) -> Masked | None:
    if len(args) != 2 or type(args[1]) not in (int, float) or not math.isfinite(args[1]):
        return None
    given = args[0]
    is_tensor = isinstance(given, Flow) or (isinstance(given, Computed) and given.mask is None)
    return Comparison(given, float(args[1])) if is_tensor else None


def _any(call: LayerCall, args: Sequence[Any]) -> Masked | None:
    """Over the features: of a comparison, or of joined masks."""
    given = as_mask_of(args[0]) if args else None
    keeps = call.layer.config.get("keepdims", call.arguments.get("keepdims", False))
    if not isinstance(given, (Comparison, Spread)) or _axis(call, args) not in (-1, 2) or keeps:
        return None
    if isinstance(given, Spread):
        if given.everywhere or not given.masks:
            return Everywhere()
        return call.merged_mask(given.masks, "any", call.name)
    if given.is_reduced or len(call.maker.flow_of(given.given).value.shape) != 2:
        return None
    return Comparison(given.given, given.number, is_reduced=True)


def _logical(mode: str) -> Callable[[LayerCall, Sequence[Any]], Masked | None]:
    def found(call: LayerCall, args: Sequence[Any]) -> Masked | None:
        given = [as_mask_of(one) for one in args]
        if not given or not all(isinstance(one, _MASKS) for one in given):
            return None
        if any(isinstance(one, Spread) for one in given):
            if mode == "all" or not all(isinstance(one, Spread) for one in given):
                return None
            return _joined(given)
        if any(isinstance(one, Everywhere) for one in given):
            rest = [one for one in given if not isinstance(one, Everywhere)]
            return Everywhere() if mode == "any" or not rest else rest[0]
        if any(isinstance(one, Comparison) and not _is_of_steps(call, one) for one in given):
            return None
        masks = [mask for mask in map(call.as_mask, given) if mask is not None]
        return call.merged_mask(masks, mode, call.name)

    return found


def _is_of_steps(call: LayerCall, given: Comparison) -> bool:
    """Whether a comparison is one truth a step."""
    value = call.maker.flow_of(given.given).value
    return given.is_reduced or value.kind == "index" or len(value.shape) == 1


def _joined(spreads: Sequence[Spread]) -> Spread:
    masks = tuple(mask for spread in spreads for mask in spread.masks)
    return Spread(masks, any(spread.everywhere for spread in spreads))


def _concatenate(call: LayerCall, args: Sequence[Any]) -> Masked | None:
    given = [as_mask_of(one) for one in (args[0] if args and isinstance(args[0], list) else args)]
    if not given or not all(isinstance(one, Spread) for one in given):
        return None
    if _axis(call, args, -1) not in (-1, 2):
        return NoMask("masks joined along the time; drop the masks before")
    return _joined(given)


def _expand_dims(call: LayerCall, args: Sequence[Any]) -> Masked | None:
    given = as_mask_of(args[0]) if args else None
    if isinstance(given, Everywhere):
        return Spread(everywhere=True)
    if not isinstance(given, _MASKS) or isinstance(given, Spread) or _axis(call, args) not in (-1, 2):
        return None
    if isinstance(given, Comparison) and not _is_of_steps(call, given):
        return None
    mask = call.as_mask(given)
    assert mask is not None
    return Spread((mask,))


def _like(everywhere: bool) -> Callable[[LayerCall, Sequence[Any]], Masked | None]:
    def found(call: LayerCall, args: Sequence[Any]) -> Masked | None:
        return Spread(everywhere=everywhere) if call.layer.config.get("dtype") == "bool" else None

    return found


def _as_it_is(call: LayerCall, args: Sequence[Any]) -> Masked | None:
    given = as_mask_of(args[0]) if args else None
    return given if isinstance(given, _MASKS) else None


#: operations by the name of their class
MASKS: Mapping[str, Callable[[LayerCall, Sequence[Any]], Masked | None]] = {
    "NotEqual": _not_equal,
    "Any": _any,
    "LogicalOr": _logical("any"),
    "LogicalAnd": _logical("all"),
    "Concatenate": _concatenate,
    "ExpandDims": _expand_dims,
    "ZerosLike": _like(False),
    "OnesLike": _like(True),
    "ConvertToTensor": _as_it_is,
    "StopGradient": _as_it_is,
}
