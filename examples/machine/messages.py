"""What is sent: a chunk of vibration as JSON, ``{"sequence": 17, "acceleration": [0.0312, ...]}``.

Nothing that a machine sends is trusted: what is not exactly such a message is refused with a sentence that says why.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from vibration import CHUNK

_FIELDS = {"sequence", "acceleration"}
_LONGEST = 64 * CHUNK


class BadMessage(ValueError):
    """A message that is not what a machine should send."""


class Vibration(NamedTuple):
    """A message: its number, counted from 0 when the machine starts, and its acceleration in g, float32 of (CHUNK,)."""

    sequence: int
    acceleration: np.ndarray


def encode(vibration: Vibration) -> bytes:
    """The message as it is sent."""
    # so many digits that each float32 is read back as it was
    numbers = [float(str(number)) for number in vibration.acceleration]
    return json.dumps({"sequence": vibration.sequence, "acceleration": numbers}).encode()


def decode(payload: bytes) -> Vibration:
    """The message that was sent.

    Raises
    ------
    BadMessage
        If it is none.
    """
    if len(payload) > _LONGEST:
        raise BadMessage(f"expected at most {_LONGEST:,} bytes, found {len(payload):,}")
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:  # a text that is not of UTF-8 is a ValueError, too
        raise BadMessage(f"expected JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadMessage(f"expected a JSON object, found {type(fields).__name__}")
    if set(fields) != _FIELDS:
        found = ", ".join(sorted(map(repr, fields))) or "none"
        raise BadMessage(f"expected the fields {', '.join(sorted(map(repr, _FIELDS)))}, found {found}"[:500])
    return Vibration(_sequence(fields["sequence"]), _acceleration(fields["acceleration"]))


def _sequence(found: Any) -> int:
    if type(found) is not int or not 0 <= found < 2**63:
        raise BadMessage(f"sequence: expected a whole number from 0 on, found {repr(found)[:40]}")
    return found


def _acceleration(found: Any) -> np.ndarray:
    if not isinstance(found, list) or len(found) != CHUNK:
        what = f"{len(found)} of them" if isinstance(found, list) else type(found).__name__
        raise BadMessage(f"acceleration: expected a list of {CHUNK} numbers, found {what}")
    for n, number in enumerate(found):
        # NaN, infinity and what float32 cannot hold are not smaller than this
        if type(number) not in (int, float) or not abs(number) < 1e6:
            raise BadMessage(f"acceleration[{n}]: expected a number of g, found {repr(number)[:40]}")
    return np.array(found, np.float32)
