"""Many machines as the rows of one stream, so that one call advances all that have something new."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from vibration import CHUNK

import cylstm


class Fleet:
    """The running states of machines, each of which goes on as in a stream of its own.

    Parameters
    ----------
    most : int
        More machines than this are refused.
    """

    def __init__(self, model: cylstm.Model, most: int = 1024) -> None:
        self._model, self._most = model, most
        self._stream = model.stream(batch=min(4, most))
        if self._stream.warm_up >= CHUNK:
            raise ValueError(f"the network needs more than one message of {CHUNK} samples before it says anything")
        self._rows: dict[str, int] = {}

    @property
    def machines(self) -> list[str]:
        """Those that have a row."""
        return list(self._rows)

    def run(self, chunks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Advance some machines, new ones among them, by a chunk each.

        Parameters
        ----------
        chunks : mapping of str to ndarray, (CHUNK,)

        Returns
        -------
        dict of str to ndarray, (STATES,)
            What the network says after the chunk. A new machine is not in it if the fleet is full.
        """
        known = [machine for machine in chunks if self._enter(machine)]
        if not known:
            return {}
        rows = [self._rows[machine] for machine in known]
        x = np.zeros((self._stream.batch, CHUNK, 1), np.float32)
        active = np.zeros(self._stream.batch, bool)
        x[rows, :, 0] = [chunks[machine] for machine in known]
        active[rows] = True
        # the last step: rows that are new have fewer steps than others, at the end
        last = self._stream.run(x, active=active)[:, -1]
        return {machine: last[row] for machine, row in zip(known, rows)}

    def leave(self, machine: str) -> None:
        """Forget a machine; its row is free for another one."""
        row = self._rows.pop(machine, None)
        if row is not None:
            self._stream.reset(row)

    def _enter(self, machine: str) -> bool:
        """Whether the machine has a row, now at the latest."""
        if machine in self._rows:
            return True
        if len(self._rows) == self._most:
            return False
        if len(self._rows) == self._stream.batch:
            smaller, self._stream = self._stream, self._model.stream(batch=min(2 * self._stream.batch, self._most))
            self._stream.replace(range(smaller.batch), smaller)
        self._rows[machine] = min(set(range(self._stream.batch)) - set(self._rows.values()))
        return True

    def state(self) -> dict[str, np.ndarray]:
        """The machines and their running states, as arrays that `numpy.savez` takes."""
        arrays = {"machines": np.array(self.machines, str)}
        if self._rows:
            state = self._stream.copy(list(self._rows.values())).state
            arrays |= {f"state.{n}.{k}": array for n, group in enumerate(state) for k, array in enumerate(group)}
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave, of the same model."""
        machines = arrays["machines"].tolist()
        if len(machines) > self._most:
            raise ValueError(f"expected at most {self._most} machines, found {len(machines)}")
        stream = self._model.stream(batch=min(max(4, len(machines)), self._most))
        if machines:
            state = [tuple(arrays[f"state.{n}.{k}"] for k in range(len(group))) for n, group in enumerate(stream.state)]
            stream.replace(range(len(machines)), state)
        self._stream, self._rows = stream, {machine: row for row, machine in enumerate(machines)}
