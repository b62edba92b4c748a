"""Keras's ``stateful=True``: what loading says of it, and streams that go on as Keras does."""

import pickle
import warnings

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder
from cylstm.loading import read
from cylstm.summary import summary_text

from tests import DATA
from tests.builders.networks import lstm_model, reloaded, same
from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_keras,
)

pytest.importorskip("h5py")

FOLDER = DATA / "keras2_stateful"


def write(path, rng, first, second, shape=(None, 3)):
    """LSTM "first" -> LSTM "second" -> Dense, each stateful or not."""
    model = keras_model(
        keras_input(*shape),
        keras_lstm("first", 5, return_sequences=True, stateful=first),
        keras_lstm("second", 4, stateful=second),
        keras_dense("out", 2),
    )
    weights = {
        "layers/lstm/cell": keras_lstm_weights(rng, 3, 5),
        "layers/lstm_1/cell": keras_lstm_weights(rng, 5, 4),
        "layers/dense": keras_dense_weights(rng, 4, 2),
    }
    return write_keras(path, model, weights)


def loaded(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cylstm.CylstmWarning)
        return cylstm.load(path)


def test_a_file_of_our_own_says_it_in_words_of_its_own(tmp_path, rng):
    """It may have come from Keras or from ONNX."""
    loaded(write(tmp_path / "net.keras", rng, True, False)).save(tmp_path / "net.cylstm")
    with pytest.warns(cylstm.CylstmWarning) as found:
        cylstm.load(tmp_path / "net.cylstm")
    (warning,) = found
    expected = (
        "net.cylstm: layers whose state is meant to go on from one call of predict to the next: first. Here every"
    )
    assert expected in str(warning.message) and "Keras" not in str(warning.message)


def test_loading_a_stateful_model_says_so_once(tmp_path, rng):
    path = write(tmp_path / "net.keras", rng, True, True)
    with pytest.warns(cylstm.CylstmWarning) as found:
        model = cylstm.load(path)
    (warning,) = found
    assert f"{path}: layers with stateful=True: first, second." in str(warning.message)
    assert "every call of predict starts from zero" in str(warning.message) and "stream()" in str(warning.message)
    assert warning.filename == __file__
    model.predict(np.ones((4, 3), np.float32))
    model.stream().step(np.ones(3, np.float32))


def test_the_summary_says_which_layers_are_stateful(tmp_path, rng):
    text = summary_text(loaded(write(tmp_path / "net.keras", rng, False, True)))
    assert "stateful: second: predict starts them from zero; use stream(), which carries their state on" in text
    text = summary_text(loaded(write(tmp_path / "net.keras", rng, False, False)))
    assert "stateful" not in text


@pytest.mark.parametrize("first, second", [(True, True), (True, False), (False, True)])
def test_each_run_of_a_stream_is_a_call_that_stateful_layers_alone_go_on_into(tmp_path, rng, first, second):
    model = loaded(write(tmp_path / "net.keras", rng, first, second))
    batch = 3
    stream = model.stream(batch)
    state = [tuple(np.zeros((batch, size), np.float32) for _ in range(2)) for size in (5, 4)]
    for steps in (4, 1, 1, 6):
        x = rng.normal(size=(batch, steps, 3)).astype(np.float32)
        kept = [
            tuple(array if goes_on else np.zeros_like(array) for array in arrays)
            for arrays, goes_on in zip(state, (first, second))
        ]
        expected, state = model.predict(x, initial_state=kept, return_state=True)
        found = stream.step(x[:, 0]) if steps == 1 else stream.run(x)
        assert same(found, expected)
    assert not same(expected, model.predict(x))
    stream.reset()
    assert same(stream.run(x), model.predict(x))


def test_rows_of_a_stateful_stream_go_on_by_themselves(tmp_path, rng):
    model = loaded(write(tmp_path / "net.keras", rng, True, False))
    stream, alone = model.stream(4), [model.stream() for _ in range(4)]
    for turn in range(12):
        active = rng.random(4) < 0.6
        x = rng.normal(size=(4, 3)).astype(np.float32)
        if turn == 5:
            stream.reset([1, 2])
            alone[1].reset()
            alone[2].reset()
        if turn == 8:
            stream = pickle.loads(pickle.dumps(stream)).copy()
        y = stream.step(x, active=active)
        for row in range(4):
            assert same(y[row], alone[row].step(x[row]) if active[row] else np.zeros(2, np.float32))


def test_the_fact_survives_saving_and_pickling(tmp_path, rng):
    model = loaded(write(tmp_path / "net.keras", rng, True, False))
    x = rng.normal(size=(6, 3)).astype(np.float32)
    expected = [model.stream().run(x), *_chunks(model, x)]
    with pytest.warns(cylstm.CylstmWarning, match=r"state is meant to go on .*: first\. Here"):
        again = reloaded(model, tmp_path)
    for other in [*again, pickle.loads(pickle.dumps(model))]:
        assert other.graph.stateful == ("first",) and other.graph.window is None
        for found, one in zip([other.stream().run(x), *_chunks(other, x)], expected):
            assert same(found, one)


def _chunks(model, x):
    stream = model.stream()
    return [stream.run(x[:2]), stream.run(x[2:])]


def test_a_stateful_layer_that_is_called_twice_is_refused(tmp_path, rng):
    # its second call goes on from the first one's state, within one prediction
    lstm = keras_lstm("shared", 3, return_sequences=True, stateful=True)
    inner = keras_model(keras_input(None, 3), lstm)
    inner["config"]["name"] = "inner"

    def tensor(layer, call):
        config = {"shape": [None, None, 3], "dtype": "float32", "keras_history": [layer, call, 0]}
        return {"class_name": "__keras_tensor__", "config": config}

    entry = keras_input(None, 3, name="x") | {"name": "x", "inbound_nodes": []}
    calls = [{"args": [tensor(*source)], "kwargs": {}} for source in (("x", 0), ("shared", 0))]
    model = {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "net",
            "layers": [entry, lstm | {"name": "shared", "inbound_nodes": calls}],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["shared", 1, 0]],
        },
        "registered_name": None,
    }
    path = write_keras(tmp_path / "net.keras", model, {"layers/lstm/cell": keras_lstm_weights(rng, 3, 3)})
    with pytest.raises(cylstm.UnsupportedError, match="'shared'.*stateful=True of a layer that is called more"):
        read(path)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_model_of_keras_2_goes_on_as_it_did_there(ending):
    expected = np.load(FOLDER / "stateful.npz")
    model = loaded(FOLDER / f"stateful{ending}")
    assert model.graph.stateful == ("kept",)
    stream = model.stream(3)
    for i in range(5):
        if i == 4:
            stream.reset()
        x, y = expected[f"x{i}"], expected[f"y{i}"]
        found = stream.step(x[:, 0]) if x.shape[1] == 1 else stream.run(x)
        np.testing.assert_allclose(found, y, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"stateful": []}, "stateful expected names of layers with state"),
        ({"stateful": ["fc"]}, "stateful expected names of layers with state"),
        ({"stateful": [3]}, "stateful expected names"),
        ({"stateful": "lstm"}, "stateful expected names of layers with state"),
        ({"window": 0}, "window expected the number of steps"),
        ({"window": True}, "window expected the number of steps"),
        ({"window": 2.0}, "window expected the number of steps"),
        ({"window": 1 << 28}, "window expected the number of steps"),
        ({"windows": 3}, "expected an object with"),
    ],
)
def test_a_native_file_that_says_nonsense_is_refused(tmp_path, rng, monkeypatch, entries, message):
    from cylstm.formats.native import write as native_write

    write_json = native_write._json
    monkeypatch.setattr(
        native_write,
        "_json",
        lambda value, **options: write_json(value | (entries if "nodes" in value else {}), **options),
    )
    lstm_model(rng, 3, 4).save(tmp_path / "net.cylstm")
    with pytest.raises(cylstm.FormatError, match=message):
        cylstm.load(tmp_path / "net.cylstm")


def test_a_window_other_than_the_steps_that_an_input_fixes_is_refused(tmp_path, rng):
    builder = GraphBuilder()
    value = builder.input("x", (6, 3))
    builder.output(builder.add("rnn", "rnn", {"x": value}, _rnn_weights(rng))["y"])
    graph = builder.build()
    assert graph.window == 6
    path = tmp_path / "net.cylstm"
    from cylstm.formats.registry import write as write_native

    write_native(graph, path)
    assert read(path).window == 6
    write_native(graph._replace(window=7), path)
    with pytest.raises(cylstm.FormatError, match="window expected the number of steps of the inputs, found 7"):
        read(path)


def _rnn_weights(rng):
    return {
        "weight_ih": rng.normal(size=(4, 3)).astype(np.float32),
        "weight_hh": rng.normal(size=(4, 4)).astype(np.float32),
    }
