"""A trace: the gates, cells and results that a prediction is made of, and the same bits as the prediction."""

import threading

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.trace import Trace

from tests import reference
from tests.builders.layers import ENGINES
from tests.builders.networks import random_states, same
from tests.builders.recurrent import CONV_LSTM_SHAPE, KINDS, conv_lstm, gru, lstm, numbers, plain_lstm, rnn, weight

BATCH, TIME, UNITS = 3, 7, 21


def network(rng, make, *, reverse=False, masked=False, engine="packed", dtype="float32"):
    """A recurrent layer and a linear head."""
    builder = GraphBuilder()
    is_image = make is conv_lstm
    x = builder.input("x", (None, *CONV_LSTM_SHAPE) if is_image else (None, 5), masked=masked)
    kind, weights, options = conv_lstm(rng, 4) if is_image else make(rng, 5, UNITS)
    options = options | {"reverse": True} if reverse else options
    y = builder.add(kind, "cell", {"x": x}, weights, options)["y"]
    if is_image:
        y = builder.add("reshape", "flat", {"x": y}, options={"shape": "time,-1"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, y.features)})["y"])
    return cylstm.Model(builder.build(), engine=engine, dtype=dtype)


def batch_of(rng, model):
    return numbers(rng, BATCH, TIME, *model.graph.values["x"].shape[1:])


def expected_parts(model, x, mask=None):
    layer = model.graph.layers[0]
    weights = {role: np.asarray(w, np.float64) for role, w in model.graph.layer_tensors(layer).items()}
    states = tuple(np.zeros((BATCH, *shape)) for _, shape in model.graph.states()[0][1])
    parts = {}
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    parts["h"], _ = reference.run_recurrent(layer, weights, np.asarray(x, np.float64), mask, states, parts)
    return parts


@pytest.mark.parametrize(("engine", "dtype", "error"), ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", [*KINDS, conv_lstm])
def test_every_part_is_that_of_the_equations(rng, make, reverse, engine, dtype, error):
    model = network(rng, make, reverse=reverse, engine=engine, dtype=dtype)
    x = batch_of(rng, model)
    trace = model.trace(x)
    found, wanted = trace["cell"], expected_parts(model, x)
    assert set(wanted) <= set(found.parts)
    for part in found.parts:
        if part in wanted:
            np.testing.assert_allclose(found[part], wanted[part], rtol=0, atol=20 * error, err_msg=part)
        else:
            assert np.isnan(found[part]).all(), part  # a gate that this variant has no weights for
    assert same(trace.outputs, model.predict(x))


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
def test_steps_that_do_not_count_are_nan_in_gates(rng, make):
    model = network(rng, make, masked=True)
    x, mask = batch_of(rng, model), rng.random((BATCH, TIME)) < 0.6
    trace = model.trace(x, mask=mask)
    wanted = expected_parts(model, x, mask)
    for part in wanted:
        np.testing.assert_allclose(trace["cell"][part], wanted[part], rtol=0, atol=1e-4, err_msg=part)
    # written again without a mask, none of them is left
    again = model.trace(x, out=trace)
    for part in again["cell"].parts:
        assert not np.isnan(again["cell"][part]).any()
    # and the other way round
    last = model.trace(x, mask=mask, out=again)
    for part in wanted:
        np.testing.assert_allclose(last["cell"][part], wanted[part], rtol=0, atol=1e-4, err_msg=part)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trace_has_the_bits_of_the_prediction_in_a_deep_network_of_two_directions(rng, threads):
    builder = GraphBuilder()
    x = builder.input("x", (None, 6))
    for depth in range(2):
        directions = []
        for reverse in (False, True):
            kind, weights, options = plain_lstm(rng, x.features, 40)
            name = f"l{depth}.{'back' if reverse else 'forth'}"
            directions.append(builder.add(kind, name, {"x": x}, weights, options | {"reverse": reverse})["y"])
        x = builder.add("merge", f"l{depth}", {"x": directions[0], "x1": directions[1]}, options={"mode": "concat"})[
            "y"
        ]
    x = builder.add("dropout", "drop", {"x": x}, options={"rate": 0.5})["y"]
    last = builder.add("last", "last", {"x": x})["y"]
    builder.output(builder.add("dense", "head", {"x": last}, {"weight": weight(rng, 3, last.features)})["y"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, 70, 50, 6)
    trace = model.trace(x, threads=threads)
    assert same(trace.outputs, model.predict(x))
    assert list(trace) == [layer.name for layer in model.graph.layers]
    assert same(trace["drop"].y, trace["l1"].y)
    assert same(trace["l1"].y, np.concatenate([trace["l1.forth"].h, trace["l1.back"].h], axis=2))
    whole = model.extract(outputs=["l0.back"])
    assert same(whole.predict(x), trace["l0.back"].h)
    alone = [model.trace(x[row : row + 1])["l1.back"].f for row in range(3)]
    assert same(np.concatenate(alone), trace["l1.back"].f[:3])


def test_a_long_sequence_is_traced_from_its_first_step_to_its_last(rng):
    model = network(rng, plain_lstm)
    x = numbers(rng, 1, 5000, 5)
    trace = model.trace(x, "cell")["cell"]
    half = model.trace(x[:, :2500], "cell", return_state=True)
    rest = model.trace(x[:, 2500:], "cell", initial_state=half.state)
    for part in trace.parts:
        assert same(trace[part], np.concatenate([half["cell"][part], rest["cell"][part]], axis=1)), part


def test_parts_and_layers_can_be_chosen(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    whole = model.trace(x)
    some = model.trace(x, what=["f", "c", "g_pre"])
    assert list(some) == ["cell"]
    assert some["cell"].parts == ("f", "g_pre", "c")
    for part in some["cell"].parts:
        assert same(some["cell"][part], whole["cell"][part])
    assert list(model.trace(x, layers="head")) == ["head"]
    assert same(model.trace(x, layers=["head"])["head"].y, model.predict(x))
    with pytest.raises(ArgumentError, match=r"no layer 'lstm'; the network has cell, head"):
        model.trace(x, layers="lstm")
    with pytest.raises(ArgumentError, match=r"layer 'head' \(dense\) has y, no 'f'"):
        model.trace(x, layers=["cell", "head"], what=["f"])
    with pytest.raises(ArgumentError, match="no layer of the network has z"):
        model.trace(x, what=["f", "z"])
    for wrong in (3, [], [1], b"f"):
        with pytest.raises(ArgumentError, match="expected a text or a list of texts"):
            model.trace(x, what=wrong)
    with pytest.raises(AttributeError, match="has f, g_pre, c, no 'o'"):
        _ = some["cell"].o
    with pytest.raises(KeyError, match="no 'o'"):
        some["cell"]["o"]
    with pytest.raises(KeyError, match="the layers cell, no 'x'"):
        some["x"]


def test_memory_is_written_again(rng):
    model = network(rng, plain_lstm)
    first, second = batch_of(rng, model), batch_of(rng, model)
    trace = model.trace(first)
    kept = {part: trace["cell"][part].copy() for part in trace["cell"].parts}
    again = model.trace(second, out=trace)
    wanted = model.trace(second)
    for part in kept:
        assert np.shares_memory(again["cell"][part], trace["cell"][part])
        assert same(again["cell"][part], wanted["cell"][part])
        assert not same(again["cell"][part], kept[part])
    with pytest.raises(ArgumentError, match="other layers and parts"):
        model.trace(first, what="f", out=trace)
    with pytest.raises(ArgumentError, match="another model"):
        network(rng, plain_lstm).trace(first, out=trace)
    with pytest.raises(ShapeError, match="out"):
        model.trace(first[:2], out=trace)
    with pytest.raises(ShapeError, match="out"):
        model.trace(first[:, :3], out=trace)
    with pytest.raises(ArgumentError, match="expected a trace"):
        model.trace(first, out=first)


def test_an_input_without_a_batch_gives_a_trace_without_one(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    alone, whole = model.trace(x[1]), model.trace(x)
    for part in alone["cell"].parts:
        assert same(alone["cell"][part], whole["cell"][part][1])
    assert same(alone.outputs, whole.outputs[1])


def test_a_trace_takes_slices_of_rows_and_steps(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    trace = model.trace(x)
    part = trace[1:, 2:5]
    assert same(part["cell"].f, trace["cell"].f[1:, 2:5])
    assert same(part["head"].y, trace["head"].y[1:, 2:5])
    assert same(trace[:2].outputs, trace.outputs[:2])
    with pytest.raises(ArgumentError, match="slices of rows and steps"):
        trace[3]


def test_a_saved_trace_is_read_back(rng, tmp_path):
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    path = tmp_path / "trace.npz"
    trace.save(path)
    found = Trace.load(path)
    assert list(found) == list(trace)
    assert same(found.outputs, trace.outputs)
    for name in trace:
        assert found[name].kind == trace[name].kind
        assert found[name].parts == trace[name].parts
        for part in trace[name].parts:
            assert same(found[name][part], trace[name][part])
    assert [one.name for one in tmp_path.iterdir()] == ["trace.npz"]
    with pytest.raises(UnsupportedError, match=r"\.npz"):
        trace.save(tmp_path / "trace.csv")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match=r"other\.npz: expected a trace"):
        Trace.load(tmp_path / "other.npz")
    for cut in (10, 200, path.stat().st_size - 20):
        (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(FormatError, match="expected a trace"):
            Trace.load(tmp_path / "cut.npz")


def test_a_trace_becomes_a_data_frame(rng):
    pandas = pytest.importorskip("pandas")
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    frame = trace.to_pandas("cell", row=2)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (TIME, 10 * UNITS)
    np.testing.assert_array_equal(frame["f"].to_numpy(), trace["cell"].f[2])


def test_small_weights_give_the_same_trace_bits_as_the_prediction(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 9))
    kind, weights, options = lstm(rng, 9, 40, vectors=[("bias", 160)])
    builder.output(builder.add(kind, "cell", {"x": x}, weights, options)["y"])
    model = cylstm.Model(builder.build(), weights="float16")
    x = numbers(rng, 2, 30, 9)
    assert same(model.trace(x).outputs, model.predict(x))


def test_many_threads_trace_one_model(rng):
    model = network(rng, plain_lstm)
    inputs = [batch_of(rng, model) for _ in range(4)]
    wanted = [model.trace(x)["cell"].f for x in inputs]
    wrong = []

    def work(k):
        for _ in range(20):
            if not same(model.trace(inputs[k])["cell"].f, wanted[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_results_of_too_many_layers_at_once_are_refused(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    for k in range(70):
        x = builder.add("activation", f"a{k}", {"x": x}, options={"activation": "tanh"})["y"]
    builder.output(x)
    model = cylstm.Model(builder.build())
    with pytest.raises(UnsupportedError, match="of at most 64 at once; choose some"):
        model.trace(numbers(rng, 1, 4, 3))
    assert model.trace(numbers(rng, 1, 4, 3), layers=["a3", "a69"])["a3"].y.shape == (1, 4, 3)


def test_states_and_lengths_are_taken_as_predict_takes_them(rng):
    model = network(rng, plain_lstm, masked=True)
    x, lengths = batch_of(rng, model), [2, 7, 4]
    initial = random_states(rng, model, BATCH)
    trace = model.trace(x, initial_state=initial, lengths=lengths, return_state=True)
    wanted, state = model.predict(x, initial_state=initial, lengths=lengths, return_state=True)
    assert same(trace.outputs, wanted)
    for a, b in zip(trace.state, state):
        for one, other in zip(a, b):
            assert same(one, other)
