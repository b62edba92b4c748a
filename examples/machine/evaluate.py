"""How well the network knows machines that it was not trained on: ``python evaluate.py``. Needs no PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fleet import Fleet
from vibration import CHUNK, SAMPLE_RATE, STATES, machine

import cylstm

#: messages in the first second, in which the network is not sure yet
UNSURE = -(-SAMPLE_RATE // CHUNK)


def confusion(model: cylstm.Model, machines: int, seconds: float) -> np.ndarray:
    """How many messages of machines in one state (row) were taken for another (column): (STATES, STATES)."""
    fleet, found = Fleet(model), np.zeros((len(STATES), len(STATES)), int)
    running = {str(number): machine(number) for number in range(machines)}
    for sequence in range(round(seconds * SAMPLE_RATE / CHUNK)):
        for name, health in fleet.run({name: one.chunk() for name, one in running.items()}).items():
            if sequence >= UNSURE:
                found[STATES.index(running[name].state), health.argmax()] += 1
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=300, help="at most 1000; default: %(default)s")
    options = parser.parse_args(arguments)
    if not 1 <= options.machines <= 1000:
        parser.error(f"--machines: expected 1 to 1000, found {options.machines}: others were trained on")
    model = cylstm.load(Path(__file__).with_name("machine.cylstm"))
    found = confusion(model, options.machines, 8.0)
    print(f"{'messages of':15s}" + "".join(f"{'as ' + state:>18s}" for state in STATES))
    for state, row in zip(STATES, found):
        print(f"{state:15s}" + "".join(f"{number:18,d}" for number in row))
    print(f"right: {np.trace(found) / found.sum():.2%} of the messages after the first second")


if __name__ == "__main__":
    main()
