"""Models of Keras as tf2onnx converts them (`tests/data/tf2onnx/generate.py`), with Keras's own numbers."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import UnsupportedError

from tests import DATA

FOLDER = DATA / "tf2onnx"
REFUSED = ("masked",)
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx") if path.stem not in REFUSED)
#: models whose layers are Loops in the file -> the kind of layer that they are
LOOPS = {
    "rnn": "rnn",
    "gru_reset_before": "gru",
    "gru_cell": "gru",
    "recurrent_dropout": "lstm",
    "rnn_from_states": "rnn",
}


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as found:
        return dict(found)


def load(name, **options):
    return cylstm.load(FOLDER / f"{name}.onnx", **options)


def test_there_is_a_model_of_every_kind():
    assert len(NAMES) == 18 and set(LOOPS) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_tf2onnx_converted_gives_kerass_numbers(name, expected):
    found = load(name).predict(expected[f"{name}.x"])
    found = found if isinstance(found, (list, tuple)) else [found]
    for i, ours in enumerate(found):
        theirs = expected[f"{name}.y{i}"]
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_is_one_cell_is_its_layer(name):
    assert LOOPS[name] in [layer.kind for layer in load(name).graph.layers]


@pytest.mark.parametrize("name", ["causal", "states", "rnn", "gru_reset_before", "recurrent_dropout"])
def test_a_stream_goes_on_step_by_step(name, expected):
    """Keras's causal convolutions are a padding in front of a convolution without any."""
    model, x = load(name), expected[f"{name}.x"]
    stream = model.stream(len(x))
    steps = [stream.step(x[:, t]) for t in range(x.shape[1])]
    steps = [one[0] if isinstance(one, (list, tuple)) else one for one in steps]
    whole = model.predict(x)
    np.testing.assert_array_equal(np.stack(steps, 1), whole[0] if isinstance(whole, (list, tuple)) else whole)


def test_an_rnn_with_masks_is_refused_with_the_way_out():
    with pytest.raises(
        UnsupportedError,
        match=r"\(Loop\): Loop, which repeats .* is supported where it is one LSTM, GRU or RNN; here its body is no "
        r"such cell; tf2onnx writes such loops for an RNN with masks .*: save the Keras model as a \.keras file",
    ):
        load("masked")
