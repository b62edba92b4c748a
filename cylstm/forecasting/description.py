"""What a forecaster is beside its network, as JSON in the metadata of its ``.cylstm`` file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cylstm.errors import FormatError, UnsupportedError, described
from cylstm.formats.untrusted.json import parse_json

#: the key of the metadata
KEY = "cylstm.forecaster"
VERSION = 2
MOST_BYTES = 8 << 20

#: entry -> the types that JSON may give it
_ENTRIES: dict[str, tuple[type, ...]] = {
    "calibration": (dict, type(None)),
    "change": (bool,),
    "features": (list,),
    "feedback": (dict,),
    "horizon": (int,),
    "limits": (list,),
    "outputs": (list,),
    "scaling": (dict,),
    "target": (str,),
    "target_scaling": (list,),
    "time": (str, type(None)),
    "units": (dict,),
    "version": (int,),
    "window": (int, type(None)),
}
#: those that version 2 added, with what their absence means
_ADDED: dict[str, tuple[tuple[type, ...], object]] = {
    "carry": ((bool,), False),
    "dropout": ((dict, type(None)), None),
    "normalised": ((dict, type(None)), None),
    "shifted": ((dict,), {}),
}


def write_description(entries: Mapping[str, object]) -> str:
    """As JSON. Equal forecasters give equal text; what version 1 can say is written as version 1."""
    kept = {key: one for key, one in entries.items() if key not in _ADDED or one != _ADDED[key][1]}
    is_old = not set(kept) & set(_ADDED) and not _has_new_scaling(kept)
    version = 1 if is_old else VERSION
    return json.dumps({**kept, "version": version}, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _has_new_scaling(entries: Mapping[str, Any]) -> bool:
    parts = [part for one in (*entries["scaling"].values(), entries["target_scaling"]) for part in one]
    return any(part["kind"] not in ("log1p", "standard", "min_max", "robust") for part in parts)


def read_description(path: object, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The entries of a file's forecaster, each of its type; what they hold is checked where it is used.

    Raises
    ------
    FormatError
        If the file has none, it is too large, is no strict JSON, or an entry is missing, unknown or of another type.
    UnsupportedError
        If a newer CyLSTM wrote it.
    """
    what = f"{path}: {KEY}"
    if KEY not in metadata:
        raise FormatError(
            f"{path}: the file holds a network and no forecaster; cylstm.load reads it, and "
            "cylstm.Forecaster(model, ...) makes one of it"
        )
    text = metadata[KEY]
    if len(text) > MOST_BYTES:
        raise FormatError(f"{what}: expected at most {MOST_BYTES:,} characters, found {len(text):,}")
    found = parse_json(text, what)
    if not isinstance(found, dict):
        raise FormatError(f"{what}: expected an object, found a {type(found).__name__}")
    version = found.get("version")
    if type(version) is not int or version < 1:
        raise FormatError(f"{what}: version expected a number of at least 1, found {described(version)}")
    if version > VERSION:
        raise UnsupportedError(f"{what}: written by a newer CyLSTM: version {version}, this one reads up to {VERSION}")
    for key in found:
        if key not in _ENTRIES and (key not in _ADDED or version < 2):
            raise FormatError(f"{what}: unknown entry {described(key)}")
    for key, (_, default) in _ADDED.items():
        found.setdefault(key, default)
    for key, kinds in {**_ENTRIES, **{key: kinds for key, (kinds, _) in _ADDED.items()}}.items():
        if key not in found:
            raise FormatError(f"{what}: the entry {key!r} is missing")
        if type(found[key]) not in kinds:
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise FormatError(f"{what}: {key} expected {expected}, found {described(found[key])}")
    del found["version"]
    return found
