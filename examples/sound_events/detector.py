"""From the network's probabilities, frame by frame, to events."""

from __future__ import annotations

import numpy as np
from frames import HOP, LENGTH
from sounds import KINDS, SAMPLE_RATE, Event

import cylstm

#: an event is cut after so many frames, so that a sound that never ends is reported as well
LONGEST = 300


def time_of(frame: int) -> float:
    """The middle of a frame, in seconds."""
    return (frame * HOP + LENGTH / 2) / SAMPLE_RATE


class Events:
    """Puts frames of sound together to events.

    An event is a run of frames that are likelier no background; its kind is the likeliest one over all of them.

    Parameters
    ----------
    delay : int
        The probabilities that come with a frame are of the frame so many before: half of what the convolutions see.
    """

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._begin = self._end = 0.0
        self._sum = np.zeros(len(KINDS))
        self._frames = 0

    def push(self, frame: int, probabilities: np.ndarray) -> Event | None:
        """The event that has ended, if one has, with the probabilities (KINDS,) that came with a frame."""
        is_sound = probabilities[0] < 0.5
        if is_sound:
            middle = time_of(frame - self._delay)
            if not self._frames:
                self._begin = middle - HOP / SAMPLE_RATE / 2
            self._end = middle + HOP / SAMPLE_RATE / 2
            self._sum += probabilities
            self._frames += 1
        return self.close() if not is_sound or self._frames == LONGEST else None

    def close(self) -> Event | None:
        """The event that goes on, which is taken to end here."""
        if not self._frames:
            return None
        kind = KINDS[1 + int(np.argmax(self._sum[1:]))]
        self._sum[:] = 0
        self._frames = 0
        return Event(kind, self._begin, self._end)


def delay_of(model: cylstm.Model) -> int:
    """How many frames before the newest one the middle of what its convolutions see is."""
    return model.stream().warm_up // 2
