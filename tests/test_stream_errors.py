"""Rows whose input is wrong, in a stream of many: they are named, change nothing, and need not stop the others."""

import pickle
import warnings

import numpy as np
import pytest

import cylstm
from cylstm import ArgumentError, RowError, ShapeError
from cylstm.graph.builder import GraphBuilder

from tests.builders.layers import weight
from tests.builders.networks import bits, lstm_model, same, same_states
from tests.test_stream_rows import outputs_of, random_input, state_row, streaming_goldens, word_graph

CHANNELS, WORDS = 5, 6


def spoken_graph(rng):
    """Words beside a sequence of numbers, and who speaks, which has no time."""
    builder = GraphBuilder()
    x = builder.input("signal", (None, CHANNELS))
    words = builder.input("words", (None,), indices=True, time_of="signal")
    speaker = builder.input("speaker", (3,))
    weight = rng.normal(size=(WORDS, CHANNELS)).astype("f")
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight})["y"]
    dense = {"weight": rng.normal(size=(CHANNELS, 3)).astype("f")}
    scale = builder.add("dense", "scale", {"x": speaker}, dense)["y"]
    x = builder.add("merge", "scaled", {"x": x, "x1": scale}, options={"mode": "mul"})["y"]
    x = builder.add("merge", "both", {"x": x, "x1": y}, options={"mode": "sum"})["y"]
    lstm = {
        "weight_ih": rng.normal(size=(28, CHANNELS)).astype("f"),
        "weight_hh": rng.normal(size=(28, 7)).astype("f"),
    }
    builder.output(builder.add("lstm", "lstm", {"x": x}, lstm)["y"])
    return builder.build()


@pytest.fixture
def spoken(rng):
    return cylstm.Model(spoken_graph(rng))


def spoken_inputs(rng, batch, time=None):
    shape = (batch,) if time is None else (batch, time)
    signal = rng.normal(size=(*shape, CHANNELS)).astype("f")
    return {"signal": signal, "words": rng.integers(0, WORDS, shape), "speaker": rng.normal(size=(batch, 3))}


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("is_chunk", [False, True])
def test_the_other_rows_advance_as_without_the_wrong_ones(rng, window, is_chunk):
    model = cylstm.Model(word_graph(rng))
    stream = model.stream(6, window=window)
    stream.run(rng.integers(1, 4, (6, 5)))
    twin, before = stream.copy(), stream.copy()
    words = rng.integers(1, 4, (6, 3) if is_chunk else 6)  # 0 does not count
    right = words.copy()
    active = np.array([True, True, True, True, False, True])
    words.reshape(6, -1)[[1, 3, 4], -1] = 4, -1, 99  # row 4 rests
    errors = {7: "of an earlier call"}
    found = (stream.run if is_chunk else stream.step)(words, active=active, errors=errors)
    assert list(errors) == [1, 3] and all(isinstance(error, ShapeError) for error in errors.values())
    position = 2 if is_chunk else 0
    assert str(errors[1]) == f"input 'words': index 4 in row 1, position {position}: expected 0 to 3"
    assert "found -1 in row 3" in str(errors[3])
    others = np.array([True, False, True, False, False, True])
    wanted = (twin.run if is_chunk else twin.step)(right, active=others)
    assert same(found[others], wanted[others])
    assert np.isnan(found[[1, 3]]).all() and not bits(found[4]).any()
    np.testing.assert_array_equal(stream.steps, twin.steps)
    x = rng.integers(1, 4, 6)
    again, earlier = stream.step(x), before.step(x)
    assert same(again, twin.step(x))
    assert same(again[~others], earlier[~others]) and not same(again[others], earlier[others])


@pytest.mark.parametrize("time", [None, 4])
def test_every_input_of_a_row_is_looked_at(rng, spoken, time):
    stream = spoken.stream(5)
    stream.step(spoken_inputs(rng, 5), active=np.array([True, True, True, True, False]))
    twin = stream.copy()
    x = spoken_inputs(rng, 5, time)
    words = x["words"].astype(float)
    words.reshape(5, -1)[1, 0], words.reshape(5, -1)[2, -1] = 0.5, WORDS
    wrong = {"signal": x["signal"], "words": words}  # nobody has said who speaks in row 4
    errors = {}
    advance, advance_twin = (stream.step, twin.step) if time is None else (stream.run, twin.run)
    found = advance(wrong, errors=errors)
    assert list(errors) == [1, 2, 4]
    assert "found 0.5 in row 1" in str(errors[1]) and f"index {WORDS} in row 2" in str(errors[2])
    assert "'speaker': row 4 was given none yet" in str(errors[4])
    others = np.array([True, False, False, True, False])
    wanted = advance_twin({"signal": x["signal"], "words": x["words"]}, active=others)
    assert same(found[others], wanted[others]) and np.isnan(found[~others]).all()
    assert same_states(stream.state, twin.state)
    # what a row that did not advance was given is not remembered
    x["words"][2] = WORDS
    advance(x, errors=errors)
    assert list(errors) == [2]
    step = {name: array[:, 0] if time and name != "speaker" else array for name, array in x.items()}
    step["words"][:] = 1
    del step["speaker"]
    step = {name: array[2] for name, array in step.items()}
    assert same(stream.copy(2).step(step), twin.copy(2).step(step))


def test_a_call_without_a_wrong_row_is_one_without_errors(rng):
    model = lstm_model(rng, 3, 9)
    stream, twin, errors = model.stream(4), model.stream(4), {1: "old"}
    x = rng.normal(size=(4, 3)).astype("f")
    assert same(stream.step(x, errors=errors), twin.step(x)) and errors == {}
    errors[1] = "old"
    assert same(stream.step(x.tolist(), errors=errors), twin.step(x)) and errors == {}
    errors[1] = "old"
    out = np.empty((4, 1, 3), "f")
    assert stream.run(x[:, np.newaxis], out=out, errors=errors) is out and errors == {}
    assert same(out[:, 0], twin.step(x))


def test_a_stream_of_one_row_can_be_wrong_too(rng):
    model = cylstm.Model(word_graph(rng))
    stream, errors = model.stream(), {}
    stream.step(2)
    before = stream.state
    assert np.isnan(stream.step(7, errors=errors)).all() and list(errors) == [0]
    assert np.isnan(stream.run([1, 7, 1], errors=errors)).all() and list(errors) == [0]
    out = np.ones(5, "f")
    assert stream.step(7, out=out, errors=errors) is out and np.isnan(out).all()
    assert same_states(stream.state, before)


def test_all_rows_may_be_wrong(rng):
    stream, errors = cylstm.Model(word_graph(rng)).stream(300), {}
    stream.step(rng.integers(0, 4, 300))
    before = stream.state
    assert np.isnan(stream.step(np.full(300, 4), errors=errors)).all()
    assert list(errors) == list(range(300)) and same_states(stream.state, before)


def test_what_is_wrong_with_the_whole_call_is_raised(rng):
    stream = cylstm.Model(word_graph(rng)).stream(3)
    stream.step([1, 2, 3])
    before, errors = stream.state, {}
    for call, message in [
        (lambda: stream.step([1, 2], errors=errors), "expected a batch of 3, found 2"),
        (lambda: stream.step([1, 99, 1], active=[True], errors=errors), "active"),
        (lambda: stream.step([1, 99, 1], out=np.zeros(3, "f"), errors=errors), "out"),
        (lambda: stream.run([[1, 2], [1], [1, 2]], errors=errors), "lengths: 2, 1, 2; item 1 has 1"),
        (lambda: stream.step([1, "a", 1], errors=errors), "'a' at position 1"),
    ]:
        with pytest.raises(ShapeError, match=message):
            call()
        assert errors == {}
    for wrong in ("row", [], True, 1):
        for advance, x in ((stream.step, [1, 2, 3]), (stream.run, [[1], [2], [3]])):
            with pytest.raises(ArgumentError, match="errors: expected a dict to put the error of each wrong row in"):
                advance(x, errors=wrong)
    with pytest.raises(ArgumentError, match="errors: expected a dict"):
        lstm_model(rng, 3, 9).stream(2).step(np.zeros((2, 3), "f"), errors="row")
    assert same_states(stream.state, before)


def test_a_chunk_of_two_sequences_that_are_apart_has_as_many_steps_of_both(rng):
    builder = GraphBuilder()
    for name, size in [("a", 3), ("b", 4)]:
        weights = {"weight_ih": weight(rng, 20, size), "weight_hh": weight(rng, 20, 5)}
        builder.output(builder.add("lstm", f"lstm_{name}", {"x": builder.input(name, (None, size))}, weights)["y"])
    stream = cylstm.Model(builder.build()).stream(3)
    a, b = rng.normal(size=(3, 5, 3)).astype("f"), rng.normal(size=(3, 6, 4)).astype("f")
    stream.run([a, b[:, :5]])
    before = stream.state
    with pytest.raises(ShapeError, match="inputs: expected equal time, found 5 and 6"):
        stream.run([a, b])
    assert same_states(stream.state, before)


def test_an_error_without_a_dict_names_all_rows_and_changes_nothing(rng):
    model = cylstm.Model(word_graph(rng))
    stream = model.stream(4)
    stream.run(rng.integers(0, 4, (4, 3)))
    before, steps = stream.state, stream.steps
    x = np.array([[1, 2], [3, 4], [0, 0], [-5, 9]])
    for call in (lambda: stream.run(x), lambda: model.predict(x)):
        with pytest.raises(RowError, match="found -5 in row 3, position 0") as caught:
            call()
        assert list(caught.value.rows) == [3]
    x[3, 0] = 1
    for call in (lambda: stream.run(x), lambda: model.predict(x)):
        with pytest.raises(RowError, match="index 4 in row 1, position 1: expected 0 to 3") as caught:
            call()
        for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
            assert list(error.rows) == [1, 3] and str(error) == str(error.rows[1])
            assert "index 9 in row 3, position 1" in str(error.rows[3])
    assert same_states(stream.state, before)
    np.testing.assert_array_equal(stream.steps, steps)


def test_a_chunk_of_a_network_without_time_takes_no_errors(rng):
    builder = GraphBuilder()
    x = builder.input("x", (12,))
    x = builder.add("reshape", "steps", {"x": x}, options={"shape": "3,4"})["y"]
    gru = {"weight_ih": rng.normal(size=(15, 4)).astype("f"), "weight_hh": rng.normal(size=(15, 5)).astype("f")}
    y = builder.add("gru", "gru", {"x": x}, gru)["y"]
    builder.output(builder.add("last", "last", {"x": y})["y"])
    stream = cylstm.Model(builder.build()._replace(stateful=("gru",))).stream(2)
    with pytest.raises(ArgumentError, match=r"give step\(errors=...\) one for each"):
        stream.run(np.zeros((2, 5, 12)), errors={})
    with pytest.raises(ArgumentError, match=r"out: .* give step\(out=...\) one for each"):
        stream.run(np.zeros((2, 5, 12)), out=np.zeros((2, 5, 5), "f"))
    with pytest.raises(ShapeError, match="inputs: expected 1 arrays, found 0"):
        stream.run({"y": np.zeros((2, 5, 12))})


# ---- NaN and infinity are numbers ----


def check_they_stay_in_their_row(rng, model, threads=1):
    stream, twin = model.stream(7, threads=threads), model.stream(7)
    x = random_input(rng, model, 7, 2 * model._packed.step_multiple)
    stream.run(x), twin.run(x)
    wrong = np.array([False, True, False, False, True, False, True])
    for _ in range(3):
        x = random_input(rng, model, 7, 2 * model._packed.step_multiple)
        found_in = x.copy()
        found_in[1], found_in[4, -1], found_in[6, 0] = np.nan, np.inf, -np.inf
        with np.errstate(all="ignore"):
            found = outputs_of(stream.run(found_in))
        for a, b in zip(found, outputs_of(twin.run(x))):
            assert same(a[~wrong], b[~wrong])
    state, wanted = stream.state, twin.state
    for row in np.flatnonzero(~wrong):
        assert same_states(state_row(state, row), state_row(wanted, row))
    # a reset ends it
    for one in (stream, twin):
        one.reset(wrong)
    x = random_input(rng, model, 7, model._packed.step_multiple)
    for a, b in zip(outputs_of(stream.run(x)), outputs_of(twin.run(x))):
        assert same(a, b)


@pytest.mark.parametrize("path", streaming_goldens(), ids=lambda path: path.stem)
def test_nan_and_infinity_stay_in_their_row_of_a_stream(rng, path):
    model = cylstm.load(path)
    if model._packed.inputs[0].kind == "index":
        pytest.skip("indices are neither")
    check_they_stay_in_their_row(rng, model)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weights", ["float32", "float16", "bfloat16", "int8a16", "int8a8"])
def test_nan_and_infinity_stay_in_their_row_with_weights_of_any_type(rng, weights, threads):
    graph = lstm_model(rng, 5, 40, num_layers=2).graph
    check_they_stay_in_their_row(rng, cylstm.Model(graph, weights=weights), threads)


# ---- one step of one row, checked before it is queued ----


def test_a_checked_step_is_what_a_stream_takes(rng):
    model = lstm_model(rng, 3, 9)
    given = [1, 2.5, True]
    checked = model.check_step(given)
    assert checked.dtype == np.float32 and checked.shape == (3,)
    assert same(model.stream().step(checked), model.stream().step(given))
    words = cylstm.Model(word_graph(rng))
    assert words.check_step(3).dtype == np.int32 and words.check_step(3).shape == ()
    assert lstm_model(rng, 3, 9, dtype="float64").check_step(given).dtype == np.float64


def test_a_checked_step_of_several_inputs_is_a_list(rng, spoken):
    x = {name: array[0] for name, array in spoken_inputs(rng, 1).items()}
    checked = spoken.check_step(x, finite=True)
    assert [array.shape for array in checked] == [(CHANNELS,), (), (3,)]
    assert same(spoken.stream().step(checked), spoken.stream().step(x))
    x["words"] = WORDS
    with pytest.raises(ShapeError, match=f"index {WORDS}"):
        spoken.check_step(x)


@pytest.mark.parametrize(
    "x, message",
    [
        ([1, 2], r"expected 3 features, found 2 in shape \(2,\)"),
        ([[1, 2, 3]], r"expected one row of shape \(3,\), found 1 rows"),
        (np.zeros((4, 3)), "found 4 rows"),
        ("text", "expected real numbers"),
        (["1", "2", "3"], "expected real numbers, found dtype <U1 with '1' at position 0"),
        ([1, None, 3], r"None \(a missing value\) at position 1"),
        ([1, [2], 3], "inhomogeneous"),
        ({"x": [1, 2, 3]}, "expected input, found x"),
        (None, "expected"),
        (5, r"expected rank 2 \(batch, features\) or 1"),
    ],
)
def test_what_is_no_step_is_refused_before_it_is_queued(rng, x, message):
    with pytest.raises(ShapeError, match=message):
        lstm_model(rng, 3, 9).check_step(x)


@pytest.mark.parametrize("number, found", [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "inf")])
def test_numbers_that_are_not_finite_are_refused_if_asked(rng, number, found):
    model = lstm_model(rng, 3, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = f"input 'input': expected finite numbers within the range of float32, found {found} at position 1"
        with pytest.raises(ShapeError, match=message):
            model.check_step([1, number, 3], finite=True)
        assert model.check_step([1, number, 3]).shape == (3,)
    with pytest.raises(ArgumentError, match="finite"):
        model.check_step([1, 2, 3], finite="yes")
