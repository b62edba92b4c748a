"""The bits of many results, as SHA-256, the same on every machine: ``data/goldens/bits.json``, checked by test_goldens.

``python -m tests.builders.golden_bits`` writes the file anew, where a change of the bits is meant.
"""

import hashlib
import json

import numpy as np

import cylstm

from tests import DATA
from tests.builders.networks import bits

FOLDER = DATA / "goldens"
FILE = FOLDER / "bits.json"
#: types of weights whose bits are kept too
TYPES = ("float16", "bfloat16", "int8a16", "int8a8")
KINDS = {"lstm": cylstm.LSTM, "gru": cylstm.GRU, "rnn": cylstm.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SIZES = [(1, 1), (3, 7), (5, 17), (2, 37), (9, 50), (16, 67)]


def golden_files():
    """The models of the goldens that need no reader of their own."""
    return sorted((FOLDER / "matrix").glob("*.cylstm"))


def decaying_networks():
    """Names of layers of odd sizes whose states fade to zero: input at the first step only."""
    return [f"{kind} {inputs} {hidden}" for kind in KINDS for inputs, hidden in SIZES]


def digest(arrays):
    """SHA-256 over the bits of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(bits(array).astype("<u4").tobytes())
    return found.hexdigest()


def digest_of_file(path, weights=None):
    """Of a golden model's outputs and final states, with this type of weights."""
    model = cylstm.load(path, weights=weights)
    with np.load(path.with_suffix(".npz")) as golden:
        names = sorted((name for name in golden if name.startswith("state")), key=lambda name: int(name[5:]))
        flat = iter(golden[name] for name in names)
        state = [tuple(next(flat) for _ in parts) for _, parts in model.graph.states()] if names else None
        y, final = model.predict(golden["x"], mask=golden.get("mask"), initial_state=state, return_state=True)
    return digest([*(y if isinstance(y, list) else [y]), *(part for parts in final for part in parts)])


def digest_of_decay(name):
    """Of 300 steps of one of `decaying_networks`, for three rows; from integers, which every NumPy draws alike."""
    kind, inputs, hidden = name.split()
    inputs, hidden = int(inputs), int(hidden)
    rng = np.random.default_rng([inputs, hidden, GATES[kind]])

    def numbers(*shape):
        return (rng.integers(-(2**20), 2**20, shape) / 2**20).astype(np.float32)

    rows = GATES[kind] * hidden
    scale = np.float32(0.9 / hidden)
    tensors = {
        "net.weight_ih_l0": numbers(rows, inputs),
        "net.weight_hh_l0": numbers(rows, hidden) * scale,
        "net.bias_ih_l0": np.zeros(rows, np.float32),
        "net.bias_hh_l0": np.zeros(rows, np.float32),
    }
    model = cylstm.from_state_dict(tensors, [KINDS[kind]("net")])
    x = np.zeros((3, 300, inputs), np.float32)
    x[:, 0] = numbers(3, inputs)
    y, final = model.predict(x, return_state=True)
    return digest([y, *(part for parts in final for part in parts)])


def main():
    """Write the file."""
    found = {path.stem: digest_of_file(path) for path in golden_files()}
    found |= {f"{path.stem} {kind}": digest_of_file(path, kind) for path in golden_files() for kind in TYPES}
    found |= {name: digest_of_decay(name) for name in decaying_networks()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
