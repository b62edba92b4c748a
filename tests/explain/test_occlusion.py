"""Occlusion: what is predicted without a group, by hand; of models, functions, and any output."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.explain import Background, occlusion
from cylstm.explain import coalitions as shared
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import lstm_model, random_states
from tests.builders.recurrent import gru, numbers, plain_lstm, weight
from tests.test_trace import network

BATCH, TIME = 3, 9


@pytest.fixture
def always_shared(monkeypatch):
    """Share beginnings wherever that can be done."""
    monkeypatch.setattr(shared, "_WORTH", 10.0)
    monkeypatch.setattr(shared, "_WORK_SAVED", -1e18)


@pytest.mark.parametrize("groups", ["features", "time", 4, ("features", 4), {"some": (slice(2, 5), [0, 3])}])
def test_values_are_differences_of_predictions(rng, groups):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x, baseline = numbers(rng, BATCH, TIME, 5), numbers(rng, 5)
    found = occlusion(model, x, groups, baseline)
    whole = model.predict(x).astype(np.float64)
    np.testing.assert_array_equal(found.prediction, whole)
    for k in range(len(found.names)):
        without = np.where(found.owner == k, baseline, x)
        np.testing.assert_array_equal(found.values[:, k], whole - model.predict(without))
    base = model.predict(np.where(found.owner >= 0, baseline, x))
    np.testing.assert_array_equal(found.base_value, base)
    np.testing.assert_allclose(found.residual, whole - base - found.values.sum(axis=1), rtol=0, atol=1e-15)
    assert np.abs(found.residual).max() > 1e-4 or len(found.names) == 1
    assert (found.error == 0.0).all()
    assert found.evaluations == BATCH * (len(found.names) + (1 if len(found.names) == 1 else 2))


def test_an_input_without_a_batch_gives_values_without_one(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x = numbers(rng, BATCH, TIME, 5)
    whole, alone = occlusion(model, x, 3), occlusion(model, x[1], 3)
    for part in ("values", "prediction", "base_value", "residual", "error"):
        np.testing.assert_array_equal(getattr(alone, part), getattr(whole, part)[1])
    np.testing.assert_array_equal(alone["steps 3-5"], whole["steps 3-5"][1])
    np.testing.assert_array_equal(alone.on_input(), whole.on_input()[1])
    assert alone.on_input().shape == (TIME, 5, 2)
    np.testing.assert_array_equal(alone.on_input()[4, 2], alone["steps 3-5"])
    some = occlusion(model, x, {"a": 2}, output=0)
    assert (some.on_input()[:, :, 0] == 0.0).all()
    np.testing.assert_array_equal(some.on_input()[:, 0, 2], some["a"])


def test_a_background_is_averaged_over_outputs_or_inputs(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x, data = numbers(rng, BATCH, TIME, 5), numbers(rng, 7, TIME, 5)
    found = occlusion(model, x, "features", Background(data))
    whole = model.predict(x).astype(np.float64)
    for k in range(5):
        for row in range(BATCH):
            each = model.predict(np.where(found.owner == k, data, x[row])).astype(np.float64)
            np.testing.assert_allclose(found.values[row, k], whole[row] - each.mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.base_value, np.tile(model.predict(data).astype(float).mean(axis=0), (BATCH, 1)))
    mean = occlusion(model, x, "features", Background(data, "inputs"))
    np.testing.assert_array_equal(mean.values, occlusion(model, x, "features", data.mean(axis=0)).values)


def test_a_baseline_of_each_row_is_its_own(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x, other = numbers(rng, BATCH, TIME, 5), numbers(rng, BATCH, TIME, 5)
    whole = occlusion(model, x, 4, other)
    for row in range(BATCH):
        np.testing.assert_array_equal(whole.values[row], occlusion(model, x[row], 4, other[row]).values)


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize("groups", ["time", 4, ("features", 4), {"some": (slice(2, 5), [0, 3]), "end": (-1, 4)}])
@pytest.mark.parametrize("make", ["last", "sequence"])
def test_shared_beginnings_give_the_same_bits(rng, always_shared, make, groups, rows):
    model = lstm_model(rng, 5, 21, 2, last=make == "last", num_layers=2)
    x, data = numbers(rng, BATCH, TIME, 5), Background(numbers(rng, 2, TIME, 5))
    calls = []
    stream = cylstm.Model.stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cylstm.Model, "stream", lambda *a, **k: calls.append(1) or stream(*a, **k))
        found = occlusion(model, x, groups, data, rows=rows)
        assert calls
        calls.clear()
        plain = occlusion(model, x, groups, data, rows=rows, share=False)
        assert not calls
    np.testing.assert_array_equal(found.values, plain.values)
    np.testing.assert_array_equal(found.base_value, plain.base_value)
    assert found.evaluations == plain.evaluations


def test_networks_that_do_not_stream_and_given_lengths_share_nothing(rng, always_shared):
    model = lstm_model(rng, 5, 9, 2, bidirectional=True)
    x = numbers(rng, BATCH, TIME, 5)
    assert not model.can_stream
    np.testing.assert_array_equal(occlusion(model, x, 3).values, occlusion(model, x, 3, share=False).values)
    model = network(rng, gru, masked=True)
    lengths = np.array([4, TIME, 2])
    found = occlusion(model, x, 3, lengths=lengths)
    for row, length in enumerate(lengths):
        alone = occlusion(model, x[row], 3, lengths=length)
        np.testing.assert_array_equal(found.values[row], alone.values)
        assert (found.values[row, :, length:] == 0.0).all()
    mask = np.arange(TIME) < lengths[:, np.newaxis]
    np.testing.assert_array_equal(found.values, occlusion(model, x, 3, mask=mask).values)
    np.testing.assert_array_equal(occlusion(model, x[0], 3, mask=mask[0]).values, found.values[0])


def test_initial_states_are_those_of_each_row(rng):
    model = network(rng, plain_lstm)
    x, state = numbers(rng, BATCH, TIME, 5), random_states(rng, model, BATCH)
    found = occlusion(model, x, 3, initial_state=state)
    without = np.where(found.owner == 1, np.float32(0), x)
    wanted = model.predict(x, initial_state=state).astype(float) - model.predict(without, initial_state=state)
    np.testing.assert_array_equal(found.values[:, 1], wanted)
    alone = occlusion(model, x[2], 3, initial_state=[tuple(part[2] for part in parts) for parts in state])
    np.testing.assert_array_equal(alone.values, found.values[2])
    with pytest.raises(ShapeError, match="state of layer 'cell'"):
        occlusion(model, x, 3, initial_state=[(state[0][0],)])


def test_outputs_are_chosen_by_index_function_and_name(rng):
    model = lstm_model(rng, 5, 21, 4)
    x = numbers(rng, BATCH, TIME, 5)
    whole = occlusion(model, x, 3)
    assert whole.values.shape == (BATCH, 3, TIME, 4)
    for output in (2, (-1, 0), (slice(1, 3), 3), -1):
        found = occlusion(model, x, 3, output=output)
        key = output if isinstance(output, tuple) else (output,)
        np.testing.assert_array_equal(found.values, whole.values[(slice(None), slice(None), *key)])
        np.testing.assert_array_equal(found.prediction, whole.prediction[(slice(None), *key)])
    found = occlusion(model, x, 3, output=lambda y: y[:, -1].max(axis=1))
    np.testing.assert_array_equal(found.prediction, model.predict(x)[:, -1].max(axis=1))
    builder = GraphBuilder()
    value = builder.input("x", (None, 5))
    kind, weights, options = gru(rng, 5, 9)
    y = builder.add(kind, "cell", {"x": value}, weights, options)
    builder.output(builder.add("dense", "head", {"x": y["y"]}, {"weight": weight(rng, 2, 9)})["y"])
    builder.output(builder.add("dense", "total", {"x": y["h"]}, {"weight": weight(rng, 3, 9)})["y"])
    model = cylstm.Model(builder.build())
    steps, total = model.predict(x)
    np.testing.assert_array_equal(occlusion(model, x, output="total").prediction, total)
    np.testing.assert_array_equal(occlusion(model, x, output=("head", -1, 1)).prediction, steps[:, -1, 1])
    np.testing.assert_array_equal(occlusion(model, x, output=lambda y: y[1][:, 0]).prediction, total[:, 0])
    with pytest.raises(ArgumentError, match="the network has head, total; choose one"):
        occlusion(model, x)
    with pytest.raises(ArgumentError, match="expected one of head, total, found 'last'"):
        occlusion(model, x, output="last")


def test_several_outputs_share_beginnings_too(rng, always_shared):
    builder = GraphBuilder()
    value = builder.input("x", (None, 5))
    kind, weights, options = gru(rng, 5, 9)
    y = builder.add(kind, "cell", {"x": value}, weights, options)
    builder.output(builder.add("dense", "head", {"x": y["y"]}, {"weight": weight(rng, 2, 9)})["y"])
    builder.output(builder.add("dense", "total", {"x": y["h"]}, {"weight": weight(rng, 3, 9)})["y"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, BATCH, TIME, 5)
    for output in ("head", "total", lambda y: y[0][:, :, 0] * y[1][:, :1]):
        found, plain = (occlusion(model, x, 2, output=output, share=share) for share in (True, False))
        np.testing.assert_array_equal(found.values, plain.values)


def test_a_function_of_a_batch_stands_for_a_model(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x = numbers(rng, BATCH, TIME, 5)
    sizes = []

    def function(batch):
        sizes.append(len(batch))
        return model.predict(batch)

    found = occlusion(function, x, ("features", 4), 0.5, rows=10)
    np.testing.assert_array_equal(found.values, occlusion(model, x, ("features", 4), 0.5).values)
    assert max(sizes) == 10 and sum(sizes) == found.evaluations
    # numbers in float64 stay so
    found = occlusion(lambda batch: batch.sum(axis=(1, 2)), x.astype(np.float64) / 3.0)
    np.testing.assert_allclose(found.values, (x.astype(np.float64) / 3.0).sum(axis=1), rtol=1e-12)
    # rows of features without time
    found = occlusion(lambda batch: batch @ np.arange(1.0, 6.0), x[:, 0].astype(np.float64))
    np.testing.assert_allclose(found.values, x[:, 0] * np.arange(1.0, 6.0), rtol=1e-12)


def test_indices_are_replaced_step_by_step(rng):
    tensors = {"e.weight": numbers(rng, 11, 4)}
    from tests.builders.networks import linear_state_dict, lstm_state_dict

    tensors |= lstm_state_dict(rng, 4, 6) | linear_state_dict(rng, 6, 2)
    layers = [cylstm.Embedding("e"), cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]
    model = cylstm.from_state_dict(tensors, layers)
    words = rng.integers(1, 11, (BATCH, TIME))
    found = occlusion(model, words, "time", 0)
    without = words.copy()
    without[:, 4] = 0
    wanted = model.predict(words).astype(float) - model.predict(without)
    np.testing.assert_array_equal(found["step 4"], wanted)
    with pytest.raises(ArgumentError, match="have no features"):
        occlusion(model, words, "features")
    with pytest.raises(ShapeError, match="whole numbers"):
        occlusion(model, words, "time", 0.5)


def test_wrong_arguments_are_named(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    x = numbers(rng, BATCH, TIME, 5)
    with pytest.raises(ShapeError, match="expected 5 features"):
        occlusion(model, x[:, :, :4])
    with pytest.raises(ShapeError, match=r"shape \(5,\), \(9, 5\) or \(3, 9, 5\), found \(4,\)"):
        occlusion(model, x, baseline=np.zeros(4))
    for output in (2, (0, 0), (slice(None), 0, 1)):
        with pytest.raises(ArgumentError, match=r"output: one row's result has shape \(2,\)"):
            occlusion(model, x, output=output)
    with pytest.raises(ArgumentError, match="chooses nothing"):
        occlusion(model, x, output=slice(5, None))
    for output in (1.0, True, [0]):
        with pytest.raises(ArgumentError, match="output: expected an index"):
            occlusion(model, x, output=output)
    with pytest.raises(ArgumentError, match="no names, found 'fc'"):
        occlusion(model.predict, x, output="fc")
    with pytest.raises(ShapeError, match="numbers for each of"):
        occlusion(model, x, output=lambda y: y.sum())
    with pytest.raises(ArgumentError, match="rows: expected a number"):
        occlusion(model, x, rows=0)
    with pytest.raises(ArgumentError, match="share: expected True or False"):
        occlusion(model, x, share=1)
    with pytest.raises(ArgumentError, match="no argument 'length'"):
        occlusion(model, x, length=3)
    with pytest.raises(ArgumentError, match="lengths: is for a Model"):
        occlusion(model.predict, x, lengths=[1, 2, 3])
    with pytest.raises(ArgumentError, match="expected a Model or a function"):
        occlusion("model", x)
    with pytest.raises(ShapeError, match="for a function expected numbers"):
        occlusion(model.predict, x[0, 0])
    with pytest.raises(ShapeError, match="lengths: expected 3 whole numbers"):
        occlusion(network(rng, gru, masked=True), x, lengths=[1, 2])
    with pytest.raises(ArgumentError, match="expected one of feature 0"):
        occlusion(model, x)["feature 7"]


def test_networks_of_several_inputs_are_explained_as_functions_of_one(rng):
    builder = GraphBuilder()
    first, second = builder.input("first", (4,)), builder.input("second", (3,))
    y = builder.add("merge", "both", {"x": first, "x1": second})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, 7)})["y"])
    model = cylstm.Model(builder.build())
    a, b = numbers(rng, BATCH, 4), numbers(rng, BATCH, 3)
    with pytest.raises(UnsupportedError, match="the inputs first, second; explain a function of one"):
        occlusion(model, [a, b])
    found = occlusion(lambda rows: model.predict([rows, np.tile(b[:1], (len(rows), 1))]), a[:1])
    w = model.graph.tensors["head.weight"]
    np.testing.assert_allclose(found.values[0], (w[:, :4] * a[0]).T, rtol=0, atol=1e-6)


def test_networks_with_other_orders_of_axes_are_explained_as_functions(rng):
    model = network(rng, gru)
    turned = cylstm.Model(model.graph._replace(layouts={"x": "10"}))
    x = numbers(rng, BATCH, TIME, 5)
    with pytest.raises(UnsupportedError, match="input 'x' has its time or features elsewhere"):
        occlusion(turned, x.transpose(0, 2, 1))
    found = occlusion(turned.predict, x.transpose(0, 2, 1), {"first": (0, slice(None))})
    np.testing.assert_array_equal(found["first"], occlusion(model, x, {"first": 0})["first"])


def test_a_result_is_printed_as_a_table(rng):
    model = lstm_model(rng, 5, 21, 2, last=True)
    text = str(occlusion(model, numbers(rng, BATCH, TIME, 5), ["a", "b", "c", "d", "e"], output=1))
    assert text.splitlines()[0].split() == ["group", "value", "standard", "error"]
    assert [line.split()[0] for line in text.splitlines()[6:]] == ["base", "residual", "prediction", "and"]
    assert "choose it with output=" in str(occlusion(model, numbers(rng, BATCH, TIME, 5)))
