"""The user's own entries in a ``.cylstm`` file: texts in ``metadata``, all other values of JSON in ``metadata_values``.

A CyLSTM from before ``metadata_values`` refuses a file that has it, by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.errors import FormatError, described
from cylstm.formats.untrusted.json import parse_json

_MOST_DEPTH = 64
_PLAIN = (str, bool, type(None))


def checked_metadata(metadata: object) -> dict[str, Any]:
    """A copy of metadata as the user gives it, of strings, numbers, truths, None, lists and dicts alone.

    Raises
    ------
    FormatError
        If it is no mapping of names to values that JSON has, or too large for a file to be read again.
    """
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise FormatError(f"metadata expected a mapping of names to values of JSON, found {described(metadata)}")
    found: dict[str, Any] = {name: _value(item, f"metadata {name!r:.80}", 0) for name, item in metadata.items()}
    values = values_of(found)
    if values:
        import json

        # as it will be read
        parse_json(json.dumps(values), "metadata")
    return found


def texts_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {name: item for name, item in metadata.items() if isinstance(item, str)}


def values_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in metadata.items() if not isinstance(item, str)}


def with_values(path: str, texts: Mapping[str, str], text: str) -> dict[str, Any]:
    """The user's entries of a file, of the texts and of the text of ``metadata_values``. Raises `FormatError`."""
    values = parse_json(text, f"{path}: metadata_values")
    if not isinstance(values, dict) or any(isinstance(item, str) for item in values.values()):
        raise FormatError(f"{path}: metadata_values expected an object of values that are no strings")
    both = sorted(set(texts) & set(values))
    if both:
        raise FormatError(f"{path}: {both[0]!r:.80} is in metadata and in metadata_values")
    found = {**texts, **values}
    return {name: found[name] for name in sorted(found)}


def _value(item: Any, what: str, depth: int) -> Any:
    """A copy of a value of JSON, numbers of NumPy as Python's."""
    if depth > _MOST_DEPTH:
        raise FormatError(f"{what}: nested in itself, or more than {_MOST_DEPTH} levels deep")
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, _PLAIN):
        return item
    if isinstance(item, int):
        if not -(1 << 63) <= item < 1 << 64:
            raise FormatError(f"{what}: expected whole numbers of at most 64 bits, found one of {item.bit_length()}")
        return int(item)
    if isinstance(item, float):
        if not math.isfinite(item):
            raise FormatError(f"{what}: JSON has no {float(item)}; expected finite numbers")
        return float(item)
    if isinstance(item, (list, tuple)):
        return [_value(one, what, depth + 1) for one in item]
    if isinstance(item, Mapping):
        if not all(isinstance(name, str) for name in item):
            raise FormatError(f"{what}: expected names that are strings in {described(item)}")
        return {str(name): _value(one, what, depth + 1) for name, one in item.items()}
    hint = "; write x.tolist()" if hasattr(item, "tolist") else ""
    raise FormatError(f"{what}: expected a value of JSON, found {described(item)}{hint}")
