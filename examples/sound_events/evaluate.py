"""How well the network hears recordings that it was not trained on: ``python evaluate.py``. Needs no PyTorch."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from detector import Events, delay_of, time_of
from frames import log_mels
from sounds import KINDS, Event, recording

import cylstm


@dataclass
class Score:
    """What was counted over recordings.

    Attributes
    ----------
    frames : ndarray of int, (KINDS, KINDS)
        How many frames of a kind (row) were heard as a kind (column).
    played, heard, right : ndarray of int, (KINDS,)
        Events of a kind, those that were heard, and those of them that overlap one played of the same kind.
    """

    frames: np.ndarray = field(default_factory=lambda: np.zeros((len(KINDS), len(KINDS)), int))
    played: np.ndarray = field(default_factory=lambda: np.zeros(len(KINDS), int))
    heard: np.ndarray = field(default_factory=lambda: np.zeros(len(KINDS), int))
    right: np.ndarray = field(default_factory=lambda: np.zeros(len(KINDS), int))

    def add(self, model: cylstm.Model, seconds: float, seed: int) -> None:
        """Count one recording."""
        samples, played = recording(seconds, seed)
        probabilities = model.predict(log_mels(samples))
        for event in played:
            self.played[KINDS.index(event.kind)] += 1
        waiting = list(played)
        for event in find_events(model, probabilities):
            kind = KINDS.index(event.kind)
            self.heard[kind] += 1
            same = [one for one in waiting if one.kind == event.kind and overlap(one, event)]
            if same:
                self.right[kind] += 1
                waiting.remove(same[0])
        delay = delay_of(model)
        for n, heard in enumerate(probabilities.argmax(axis=1)):
            middle = time_of(n + delay)
            kind = next((one.kind for one in played if one.begin <= middle < one.end), KINDS[0])
            self.frames[KINDS.index(kind), heard] += 1

    @property
    def accuracy(self) -> float:
        """The share of frames whose kind was heard."""
        return float(np.trace(self.frames) / self.frames.sum())

    def __str__(self) -> str:
        lines = ["            frames heard as it   events played   heard   right"]
        shares = np.diag(self.frames) / self.frames.sum(axis=1)
        lines.append(f"background  {shares[0]:18.1%}")
        for n, kind in list(enumerate(KINDS))[1:]:
            lines.append(f"{kind:11s} {shares[n]:18.1%}   {self.played[n]:13d} {self.heard[n]:7d} {self.right[n]:7d}")
        totals = self.played.sum(), self.heard.sum(), self.right.sum()
        lines.append(f"all         {self.accuracy:18.1%}   {totals[0]:13d} {totals[1]:7d} {totals[2]:7d}")
        return "\n".join(lines)


def overlap(one: Event, other: Event) -> bool:
    """Whether two events have some time in common."""
    return one.begin < other.end and other.begin < one.end


def find_events(model: cylstm.Model, probabilities: np.ndarray) -> list[Event]:
    """The events in what `predict` gives for a whole recording."""
    warm_up = model.stream().warm_up
    events = Events(delay_of(model))
    found = [events.push(warm_up + n, row) for n, row in enumerate(probabilities)]
    return [event for event in [*found, events.close()] if event is not None]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=50, help="of 20 seconds each; default: %(default)s")
    options = parser.parse_args(arguments)
    model = cylstm.load(Path(__file__).with_name("sound_events.cylstm"))
    score = Score()
    for seed in range(options.recordings):
        score.add(model, 20, seed)
    print(score)


if __name__ == "__main__":
    main()
