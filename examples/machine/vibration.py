"""Synthetic vibration of rotating machines: sound ones, unbalanced ones, and ones whose bearing has a fault."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 4000
#: samples in a message
CHUNK = 256
#: what the network tells apart, in the order of its outputs
STATES = ("normal", "imbalance", "bearing fault")


class Machine:
    """The acceleration of a machine's housing in g, chunk after chunk.

    An imbalance is a strong vibration once per turn. A fault in the outer ring of a bearing is hit by each ball, which
    makes the housing ring for a few milliseconds.

    Parameters
    ----------
    state : str
        One of `STATES`.
    seed : int
        Another one is another machine: its speed, noise, size of the fault and so on.
    """

    def __init__(self, state: str, seed: int) -> None:
        if state not in STATES:
            raise ValueError(f"state: expected one of {', '.join(STATES)}, found {state!r}")
        self.state = state
        self._rng = rng = np.random.default_rng(seed)
        self._samples = 0
        self._speed = rng.uniform(18, 35)
        self._turning = rng.uniform(0.2, 0.6) if state == "imbalance" else rng.uniform(0.02, 0.12)
        self._twice = rng.uniform(0.01, 0.08)
        self._noise = rng.uniform(0.03, 0.1)
        self._phases = rng.uniform(0, 2 * np.pi, 2)
        self._hit = rng.uniform(0.3, 0.9) if state == "bearing fault" else 0.0
        self._hits_per_turn = rng.uniform(3.0, 4.2)
        self._ringing, self._fading = rng.uniform(900, 1700), rng.uniform(0.001, 0.003)
        #: when the last balls hit the fault, and the next one will
        self._hits = [0.0]

    def chunk(self) -> np.ndarray:
        """The next `CHUNK` samples, of float32."""
        t = (self._samples + np.arange(CHUNK)) / SAMPLE_RATE
        self._samples += CHUNK
        once, twice = (np.sin(2 * np.pi * n * self._speed * t + phase) for n, phase in enumerate(self._phases, 1))
        vibration = self._turning * once + self._twice * twice + self._noise * self._rng.normal(size=CHUNK)
        if self._hit:
            vibration += self._hit * self._rings(t)
        return vibration.astype(np.float32)

    def _rings(self, t: np.ndarray) -> np.ndarray:
        """The ringing at some times, after the hits so far."""
        while self._hits[-1] < t[-1]:
            # balls slip a little
            turns = self._rng.normal(1, 0.02) / self._hits_per_turn
            self._hits.append(self._hits[-1] + turns / self._speed)
        self._hits = [hit for hit in self._hits if hit > t[0] - 10 * self._fading]
        since = t - np.array(self._hits)[:, np.newaxis]
        rings = np.exp(-np.maximum(since, 0) / self._fading) * np.sin(2 * np.pi * self._ringing * since)
        return np.where(since >= 0, rings, 0).sum(axis=0)


def machine(number: int) -> Machine:
    """One of as many machines as there are numbers, a third of them in each state."""
    return Machine(STATES[number % len(STATES)], number)
