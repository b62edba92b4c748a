"""Networks in files, and the command line as a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import linear_tensors, lstm_tensors


@pytest.fixture
def sequence(rng, tmp_path):
    """An LSTM with an output at each step, and its file, which names features and targets."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Linear("fc")])
    path = tmp_path / "sequence.cylstm"
    model.save(path, metadata={"features": "rain, sun,wind", "targets": '["high", "low"]'})
    return cylstm.load(path), str(path)


@pytest.fixture
def last(rng, tmp_path):
    """An LSTM with one number after the last step, and its file."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 1)
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")])
    path = tmp_path / "last.cylstm"
    model.save(path)
    return model, str(path)


@pytest.fixture
def both_ways(rng, tmp_path):
    """A bidirectional LSTM, which cannot stream, and its file."""
    model = cylstm.from_state_dict(lstm_tensors(rng, "lstm", 3, 5, directions=2), [L.LSTM("lstm")])
    path = tmp_path / "both.cylstm"
    model.save(path)
    return model, str(path)


@pytest.fixture
def dense(rng, tmp_path):
    """A network without time, and its file."""
    model = cylstm.from_state_dict(linear_tensors(rng, "fc", 3, 2), [L.Linear("fc", activation="tanh")])
    path = tmp_path / "dense.cylstm"
    model.save(path)
    return model, str(path)


@pytest.fixture
def two(rng, tmp_path):
    """A network of two inputs and two outputs, and its file."""
    from cylstm.graph.builder import GraphBuilder  # noqa: F401

    pytest.skip("not written")


def program(*arguments, **options):
    """``python -m cylstm`` of this package, running, with pipes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cylstm.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "cylstm", *arguments], env=environment, **{**pipes, **options})


def write_csv(path, x, names=None):
    """Numbers with all their digits, below a line with names."""
    head = [] if names is None else [",".join(names)]
    path.write_text("\n".join([*head, *(",".join(map(repr, row)) for row in np.asarray(x).tolist())]) + "\n")
    return str(path)
