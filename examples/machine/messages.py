"""What is sent: a chunk of vibration as JSON, or as the bytes that a sensor has.

JSON is ``{"sequence": 17, "acceleration": [0.0312, ...]}``. Bytes are the sequence, an unsigned number of 32 bits, and
the samples: float32 in g, or the int16 of an accelerometer that reaches from -16 to 16 g. All are little-endian.

Nothing that a machine sends is trusted: what is not exactly such a message is refused with a sentence that says why.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from vibration import CHUNK

_FIELDS = {"sequence", "acceleration"}
_LONGEST = 64 * CHUNK


#: what a message may be -> the type of its samples, if it is bytes
FORMS = {"json": None, "float32": np.dtype("<f4"), "int16": np.dtype("<i2")}
#: steps of an int16 in one g
INT16_PER_G = 2048
_SEQUENCE = np.dtype("<u4")
#: g; NaN, infinity and what float32 cannot hold are not smaller than this
_MOST = 1e6


class BadMessage(ValueError):
    """A message that is not what a machine should send."""


class Vibration(NamedTuple):
    """A message: its number, counted from 0 when the machine starts, and its acceleration in g, float32 of (CHUNK,)."""

    sequence: int
    acceleration: np.ndarray


def encode(vibration: Vibration, form: str = "json") -> bytes:
    """The message as it is sent, in one of `FORMS`. What int16 cannot hold becomes the nearest that it can."""
    samples = vibration.acceleration
    if form == "json":
        # so many digits that each float32 is read back as it was
        numbers = [float(str(number)) for number in samples]
        return json.dumps({"sequence": vibration.sequence, "acceleration": numbers}).encode()
    if form == "int16":
        samples = np.clip(np.rint(samples * INT16_PER_G), -(2**15), 2**15 - 1)
    return np.array(vibration.sequence, _SEQUENCE).tobytes() + samples.astype(FORMS[form]).tobytes()


def decode(payload: bytes, form: str = "json") -> Vibration:
    """The message that was sent, in one of `FORMS`.

    Raises
    ------
    BadMessage
        If it is none.
    """
    if form not in FORMS:
        raise BadMessage(f"expected the topic machines/ID/vibration, or below it float32 or int16, found {form[:40]!r}")
    kind = FORMS[form]
    if kind is not None:
        return _decode_samples(payload, kind)
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
        if type(number) not in (int, float) or not abs(number) < _MOST:
            raise BadMessage(f"acceleration[{n}]: expected a number of g, found {repr(number)[:40]}")
    return np.array(found, np.float32)


def _decode_samples(payload: bytes, kind: np.dtype) -> Vibration:
    expected = _SEQUENCE.itemsize + CHUNK * kind.itemsize
    if len(payload) != expected:
        raise BadMessage(
            f"expected {expected:,} bytes, {_SEQUENCE.itemsize} of the sequence and {CHUNK} samples of "
            f"{kind.itemsize}, found {len(payload):,}"
        )
    sequence = int(np.frombuffer(payload, _SEQUENCE, 1)[0])
    samples = np.frombuffer(payload, kind, offset=_SEQUENCE.itemsize).astype(np.float32)
    if kind.kind == "i":
        return Vibration(sequence, samples / np.float32(INT16_PER_G))
    for n in np.flatnonzero(~(np.abs(samples) < _MOST)):
        raise BadMessage(f"acceleration[{n}]: expected a number of g, found {samples[n]}")
    return Vibration(sequence, samples)
