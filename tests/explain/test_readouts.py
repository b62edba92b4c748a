"""What a head reads out of each recurrent layer: of the topmost one, at the last step, the prediction itself."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, UnsupportedError
from cylstm.explain import readouts
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import linear_state_dict, lstm_model, lstm_state_dict, same
from tests.builders.recurrent import gru, numbers, plain_lstm, rnn, weight

BATCH, TIME, UNITS = 3, 8, 21


def stacked(rng, *, steps=None, last="last", **options):
    """Three recurrent layers, of which two have the size of the topmost one, and a head of several layers."""
    builder = GraphBuilder()
    x = builder.input("x", (steps, 5))
    for k, (make, units) in enumerate(((rnn, 9), (gru, UNITS), (plain_lstm, UNITS))):
        kind, weights, more = make(rng, x.features, units)
        made = builder.add(kind, f"cell{k}", {"x": x}, weights, more)
        x = made["y"]
    if last == "state":
        x = made["h"]
    elif last == "slice":
        x = builder.add("slice", "cut", {"x": x}, options={"start": -1, "count": 1})["y"]
        x = builder.add("reshape", "flat", {"x": x}, options={"shape": "-1"})["y"]
    elif last == "last":
        x = builder.add("last", "last", {"x": x})["y"]
    x = builder.add("dropout", "drop", {"x": x})["y"]
    vectors = {role: rng.uniform(0.3, 1.5, UNITS).astype(np.float32) for role in ("mean", "variance", "gain", "shift")}
    x = builder.add("batch_norm", "norm", {"x": x}, vectors)["y"]
    x = builder.add("dense", "hidden", {"x": x}, {"weight": weight(rng, 6, UNITS)}, {"activation": "relu"})["y"]
    x = builder.add("dense", "head", {"x": x}, {"weight": weight(rng, 3, 6), "bias": numbers(rng, 3)})["y"]
    builder.output(builder.add("softmax", "soft", {"x": x}, options={"axis": -1})["y"])
    return cylstm.Model(builder.build(), **options)


@pytest.mark.parametrize("steps", [None, TIME])
@pytest.mark.parametrize("last", ["last", "state", "slice", "none"])
def test_the_topmost_layer_gives_the_prediction(rng, last, steps):
    model = stacked(rng, last=last, steps=steps)
    x = numbers(rng, BATCH, TIME, 5)
    trace = model.trace(x)
    found = readouts(model, trace, ["cell1", "cell2"])
    y = found["cell2"] if last == "none" else found["cell2"][:, -1]
    assert same(y, model.predict(x))
    assert found["cell1"].shape == (BATCH, TIME, 3)
    alone = readouts(model, model.trace(x[1]), ["cell1", "cell2"])
    assert same(alone["cell1"], found["cell1"][1])


def test_another_layer_is_read_by_the_same_head(rng):
    model = stacked(rng, engine="blas", dtype="float64")
    x = rng.normal(size=(BATCH, TIME, 5))
    trace = model.trace(x)
    w = {name: np.asarray(tensor) for name, tensor in model.graph.tensors.items()}
    for layer in ("cell1", "cell2"):
        h = (trace[layer].h - w["norm.mean"]) / np.sqrt(w["norm.variance"] + 1e-5) * w["norm.gain"] + w["norm.shift"]
        scores = np.maximum(h @ w["hidden.weight"].T, 0.0) @ w["head.weight"].T + w["head.bias"]
        wanted = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
        np.testing.assert_allclose(readouts(model, trace, layer)[layer], wanted, rtol=0, atol=1e-12)
    assert np.abs(readouts(model, trace, "cell1")["cell1"] - readouts(model, trace, "cell2")["cell2"]).max() > 1e-2


def test_steps_that_do_not_count_are_nan(rng):
    tensors = lstm_state_dict(rng, 5, 7, 2) | linear_state_dict(rng, 7, 2)
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")])
    x, lengths = numbers(rng, BATCH, TIME, 5), np.array([3, TIME, 1])
    found = readouts(model, model.trace(x, lengths=lengths))
    assert len(found) == 2
    y = model.predict(x, lengths=lengths)
    top = list(found)[-1]
    for row, length in enumerate(lengths):
        assert same(found[top][row, length - 1], y[row])
        for one in found.values():
            assert np.isnan(one[row, length:]).all() and not np.isnan(one[row, :length]).any()


def test_layers_of_another_size_and_heads_of_several_layers_are_refused(rng):
    model = stacked(rng)
    trace = model.trace(numbers(rng, BATCH, TIME, 5))
    with pytest.raises(UnsupportedError, match=r"layer 'cell0': the head reads 21 numbers, those of layer 'cell2'"):
        readouts(model, trace)
    model = lstm_model(rng, 5, 7, bidirectional=True, last=True)
    with pytest.raises(UnsupportedError, match=r"\(merge\), behind the recurrent layers, reads several values"):
        readouts(model, model.trace(numbers(rng, BATCH, TIME, 5)))
    for kind, options, why in (
        ("reduce", {"mode": "mean", "axis": 0}, "computes with more than one step"),
        ("slice", {"axis": 1, "start": -1, "count": 1}, "computes with more than one step"),
        ("reverse", {}, "computes with more than one step"),
    ):
        builder = GraphBuilder()
        x = builder.input("x", (None, 5))
        name, weights, more = gru(rng, 5, 6)
        y = builder.add(kind, "other", {"x": builder.add(name, "cell", {"x": x}, weights, more)["y"]}, {}, options)["y"]
        builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, y.features)})["y"])
        model = cylstm.Model(builder.build())
        with pytest.raises(UnsupportedError, match=rf"layer 'other' \({kind}\), .*{why}"):
            readouts(model, model.trace(numbers(rng, BATCH, TIME, 5)))
    builder = GraphBuilder()
    x = builder.input("x", (None, 5))
    name, weights, more = gru(rng, 5, 6)
    last = builder.add(name, "cell", {"x": x}, weights, more)["h"]
    y = builder.add("slice", "unit", {"x": last}, options={"start": -1, "count": 1})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, 1)})["y"])
    model = cylstm.Model(builder.build())
    with pytest.raises(UnsupportedError, match=r"layer 'unit' \(slice\)"):
        readouts(model, model.trace(numbers(rng, BATCH, TIME, 5)))
    builder = GraphBuilder()
    x = builder.input("x", (None, 5))
    name, weights, more = gru(rng, 5, 6)
    builder.output(builder.add(name, "cell", {"x": x}, weights, more)["y"])
    model = cylstm.Model(builder.build())
    with pytest.raises(UnsupportedError, match="no head behind layer 'cell'"):
        readouts(model, model.trace(numbers(rng, BATCH, TIME, 5)))
    builder = GraphBuilder()
    builder.output(builder.add("dense", "head", {"x": builder.input("x", (5,))}, {"weight": weight(rng, 2, 5)})["y"])
    model = cylstm.Model(builder.build())
    with pytest.raises(UnsupportedError, match="no recurrent layer before it"):
        readouts(model, model.trace(numbers(rng, BATCH, 5)))


def test_wrong_arguments_are_named(rng):
    model = stacked(rng)
    trace = model.trace(numbers(rng, BATCH, TIME, 5))
    with pytest.raises(ArgumentError, match="has h of cell0, cell1, cell2, not of 'head'"):
        readouts(model, trace, "head")
    with pytest.raises(ArgumentError, match="layers: expected a text or a list"):
        readouts(model, trace, 3)
    with pytest.raises(ArgumentError, match="the part h of a recurrent layer, found head"):
        readouts(model, model.trace(numbers(rng, BATCH, TIME, 5), "head"))
    with pytest.raises(ArgumentError, match="expected one of soft, found 'hard'"):
        readouts(model, trace, output="hard")
    with pytest.raises(ArgumentError, match="expected a Model"):
        readouts("model", trace)
