"""Fixtures that read a hostile file in a process with little memory."""

import json
import os
import re
import select
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.builders.weight_files import (
    keras_input,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    linear_tensors,
    lstm_tensors,
    write_h5,
    write_keras,
    write_safetensors,
    write_torch,
)

MB = 1 << 20
ROOM = 64 * MB
_TIMEOUT = 120

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A process that reads files in children; the end of its input ends it."""
    import cylstm
    from cylstm.formats.state_dict import wiring as L

    folder = tmp_path_factory.mktemp("warm")
    rng = np.random.default_rng(2)
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    warm = [write_torch(folder / "a.pt", tensors), write_safetensors(folder / "a.safetensors", tensors)]
    np.savez(folder / "a.npz", **tensors)
    cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")]).save(folder / "a.cylstm")
    index = {"weight_map": dict.fromkeys(tensors, "a.safetensors")}
    (folder / "a.index.json").write_text(json.dumps(index))
    warm += [folder / "a.npz", folder / "a.cylstm", folder / "a.index.json", *_keras_files(folder, rng)]
    package = str(Path(cylstm.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "hostile_runner.py", *warm],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert _line(process) == b"ready\n"
    yield process
    process.stdin.close()
    process.wait(_TIMEOUT)
    process.stdout.close()


def _keras_files(folder, rng):
    try:
        import h5py  # noqa: F401
    except ImportError:
        return []
    model, weights = keras_model(keras_input(None, 3), keras_lstm("rnn", 5)), keras_lstm_weights(rng, 3, 5)
    named = {f"rnn/{name}:0": array for name, array in zip(("kernel", "recurrent_kernel", "bias"), weights)}
    return [
        write_keras(folder / "a.keras", model, {"layers/lstm/cell": weights}),
        write_h5(folder / "a.h5", model, {"rnn": named}),
    ]


def _line(process):
    ready, _, _ = select.select([process.stdout], [], [], _TIMEOUT)
    if not ready:
        process.kill()
        pytest.fail(f"no answer in {_TIMEOUT} s")
    return process.stdout.readline()


@pytest.fixture
def refused(runner):
    """``refused(path, message)``: the file is refused within its memory, with a `CylstmError` that says so."""

    def check(path, message, layers=True, **options):
        size = os.path.getsize(path)
        request = {"path": str(path), "room": size + ROOM, "layers": layers, "options": options}
        runner.stdin.write(json.dumps(request).encode() + b"\n")
        runner.stdin.flush()
        found = json.loads(_line(runner))
        if "CYLSTM_HOSTILE_LOG" in os.environ:
            with open(os.environ["CYLSTM_HOSTILE_LOG"], "a") as file:
                file.write(json.dumps({"test": os.environ["PYTEST_CURRENT_TEST"], "size": size, **found}) + "\n")
        assert found["error"] in ("FormatError", "UnsupportedError", "ShapeError"), found
        assert re.search(message, found["message"]), found
        assert str(path) in found["message"]
        assert found["memory"] <= size + ROOM

    return check
