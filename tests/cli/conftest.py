"""Networks in files."""

import numpy as np
import pytest

import cylstm
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder

from tests.builders.weight_files import linear_tensors, lstm_tensors


@pytest.fixture
def save(tmp_path):
    """Writes a network to a file of this name, and gives it as loaded, and the path."""

    def write(model, name, **options):
        path = tmp_path / f"{name}.cylstm"
        model.save(path, **options)
        return cylstm.load(path), str(path)

    return write


@pytest.fixture
def sequence(rng, save):
    """An LSTM with an output at each step, whose file names features and targets."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Linear("fc")])
    return save(model, "sequence", metadata={"features": "rain, sun,wind", "targets": '["high", "low"]'})


@pytest.fixture
def last(rng, save):
    """An LSTM with one number after the last step."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 1)
    return save(cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")]), "last")


@pytest.fixture
def both_ways(rng, save):
    """A bidirectional LSTM, which cannot stream."""
    return save(cylstm.from_state_dict(lstm_tensors(rng, "lstm", 3, 5, directions=2), [L.LSTM("lstm")]), "both_ways")


@pytest.fixture
def dense(rng, save):
    """A network without time."""
    return save(cylstm.from_state_dict(linear_tensors(rng, "fc", 3, 2), [L.Linear("fc")]), "dense")


@pytest.fixture
def words(rng, save):
    """A network of indices."""
    tensors = {"emb.weight": rng.standard_normal((9, 3)).astype(np.float32)} | lstm_tensors(rng, "lstm", 3, 5)
    return save(cylstm.from_state_dict(tensors, [L.Embedding("emb"), L.LSTM("lstm")]), "words")


@pytest.fixture
def two(rng, save):
    """A network of two inputs, of which one has no time, and an output of each."""
    builder = GraphBuilder()
    for name, shape, width in (("x", (None, 3), 4), ("knob", (2,), 1)):
        weight = rng.standard_normal((width, shape[-1])).astype(np.float32)
        bias = rng.standard_normal(width).astype(np.float32)
        weights = {"weight": weight, "bias": bias}
        builder.output(builder.add("dense", f"{name} out", {"x": builder.input(name, shape)}, weights)["y"])
    return save(cylstm.Model(builder.build()), "two")
