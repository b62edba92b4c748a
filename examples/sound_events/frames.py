"""What the network hears: sound in overlapping frames, each as the logarithm of the energy in 32 bands of pitch.

A frame is 25 ms long and begins 10 ms after the one before. Each is computed by itself, so that sound which comes in
chunks of any size gives exactly the frames of the whole recording.
"""

from __future__ import annotations

import numpy as np
from sounds import SAMPLE_RATE

LENGTH, HOP, BANDS = 400, 160, 32
_FFT = 512
_WINDOW = np.hanning(LENGTH + 1)[:-1]


def _mel_filters() -> np.ndarray:
    """(BANDS, _FFT // 2 + 1): triangles that are equally wide on the mel scale, from 60 Hz to 7.6 kHz."""
    lowest, highest = 2595 * np.log10(1 + np.array([60, 7600]) / 700)
    corners = 700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1)
    low, middle, high = (corners[n : n + BANDS, np.newaxis] for n in range(3))
    frequencies = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


_FILTERS = _mel_filters()


def log_mel(frame: np.ndarray) -> np.ndarray:
    """The input of the network for one frame.

    Parameters
    ----------
    frame : ndarray of int16, (LENGTH,)

    Returns
    -------
    ndarray of float32, (BANDS,)
        Between -2 (silence) and about 3.
    """
    power = np.abs(np.fft.rfft(frame.astype(np.float64) / 32768 * _WINDOW, _FFT)) ** 2
    # a sum of its own for each band, in an order that depends on nothing else: a matrix product promises none
    energy = (_FILTERS * power).sum(axis=1)
    return (np.log10(energy + 1e-7) / 2 + 1.5).astype(np.float32)


def log_mels(samples: np.ndarray) -> np.ndarray:
    """All frames of a recording: (frames, BANDS), none if it is shorter than one."""
    if len(samples) < LENGTH:
        return np.empty((0, BANDS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples, LENGTH)[::HOP]
    return np.stack([log_mel(frame) for frame in windows])


class Framer:
    """Cuts bytes, which come in pieces of any size, into frames of samples."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def push(self, data: bytes) -> list[np.ndarray]:
        """The frames that are complete with these bytes: arrays of int16, (LENGTH,)."""
        self._waiting += data
        frames = []
        while len(self._waiting) >= 2 * LENGTH:
            frames.append(np.frombuffer(self._waiting[: 2 * LENGTH], "<i2"))
            del self._waiting[: 2 * HOP]
        return frames

    @property
    def ends_within_sample(self) -> bool:
        """Whether the bytes so far end with half of a sample."""
        return len(self._waiting) % 2 == 1
