"""From messages about vibration to messages about health, whatever carries them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from fleet import Fleet
from messages import BadMessage, Vibration, decode
from vibration import STATES

import cylstm


class Monitor:
    """Answers messages on ``machines/ID/vibration`` with others on ``machines/ID/health`` or ``machines/ID/error``.

    Those on ``machines/ID/vibration/float32`` and ``machines/ID/vibration/int16`` are bytes.

    A message that says "stopped" on ``machines/ID/status`` ends a machine. A machine of which messages are missing, or
    which counts from 0 again, starts again; one that is sent twice counts once.

    Parameters
    ----------
    publish
        Called with the topic and the content of each answer.
    most : int
        How many machines there may be.
    """

    def __init__(self, model: cylstm.Model, publish: Callable[[str, bytes], object], most: int = 1024) -> None:
        self._fleet, self._most, self._publish = Fleet(model, most), most, publish
        #: the number of each machine's last message
        self._last: dict[str, int] = {}

    def take(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Answer messages, topic and payload of each: those of different machines together, where they can be."""
        together: dict[str, Vibration] = {}
        for topic, payload in messages:
            _, machine, what, *form = topic.split("/")
            if machine in together:
                self._answer(together)
                together = {}
            if what == "vibration":
                try:
                    vibration = decode(payload, *form)
                except BadMessage as error:
                    self._refuse(machine, str(error))
                    continue
                if self._is_new(machine, vibration.sequence):
                    together[machine] = vibration
            elif payload == b"stopped":
                self._forget(machine)
            else:
                self._refuse(machine, f"status: expected stopped, found {payload[:40]!r}")
        self._answer(together)

    def _is_new(self, machine: str, sequence: int) -> bool:
        """Whether a message was not seen before. The machine starts again if this one is not the next."""
        expected = self._last.get(machine, sequence - 1) + 1
        if 0 < sequence < expected:
            return False
        if sequence != expected:
            self._forget(machine)
        if sequence > expected:
            self._refuse(machine, f"messages {expected} to {sequence - 1} are missing: the machine starts again")
        return True

    def _answer(self, vibrations: Mapping[str, Vibration]) -> None:
        """Advance some machines by a message each."""
        found = self._fleet.run({machine: vibration.acceleration for machine, vibration in vibrations.items()})
        for machine, vibration in vibrations.items():
            if machine not in found:
                self._refuse(machine, f"there are {self._most} machines already, and no more can be monitored")
                continue
            self._last[machine] = vibration.sequence
            probabilities = dict(zip(STATES, found[machine].tolist()))
            state = STATES[int(np.argmax(found[machine]))]
            health = {"sequence": vibration.sequence, "state": state, "probabilities": probabilities}
            self._publish(f"machines/{machine}/health", json.dumps(health).encode())

    def _forget(self, machine: str) -> None:
        self._fleet.leave(machine)
        self._last.pop(machine, None)

    def _refuse(self, machine: str, error: str) -> None:
        self._publish(f"machines/{machine}/error", json.dumps({"error": error}).encode())

    def state(self) -> dict[str, np.ndarray]:
        """All that `restore` needs to go on from here, as arrays that `numpy.savez` takes."""
        arrays = self._fleet.state()
        return arrays | {"last": np.array([self._last[machine] for machine in self._fleet.machines], np.int64)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave, of the same model."""
        self._fleet.restore(arrays)
        self._last = dict(zip(self._fleet.machines, arrays["last"].tolist()))
