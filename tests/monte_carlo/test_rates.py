"""Which layers draw what: from the file, and as the user says."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.monte_carlo.rates import rates_of

from tests.builders.networks import linear_state_dict, lstm_state_dict


def stacked(rng, *, directions=1, num_layers=3, **options):
    tensors = lstm_state_dict(rng, 4, 5, num_layers=num_layers, bidirectional=directions == 2)
    tensors |= linear_state_dict(rng, 5 * directions, 2)
    layers = [cylstm.LSTM("lstm", **options), cylstm.Dropout(0.1), cylstm.Last(), cylstm.Linear("fc")]
    return cylstm.from_state_dict(tensors, layers).graph


def one_layer(kind, noise=None, **options):
    rng = np.random.default_rng(1)
    builder = GraphBuilder()
    x = builder.input("input", (None, 4))
    if kind == "attention":
        y = builder.add(kind, "it", {"x": x, "key": x, "value": x})["y"]
    elif kind == "dropout":
        y = builder.add(kind, "it", {"x": x}, options=options)["y"]
    else:
        gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
        weights = {"weight_ih": rng.normal(size=(gates * 4, 4)), "weight_hh": rng.normal(size=(gates * 4, 4))}
        y = builder.add(kind, "it", {"x": x}, weights, options)["y"]
    builder.output(builder.add("activation", "out", {"x": y})["y"])
    graph = builder.build()
    return graph if noise is None else graph._replace(noise={"it": noise})


def test_rates_of_stacked_layers_lie_between_them(rng):
    found = rates_of(stacked(rng, dropout=0.2), None)
    assert found == {"lstm.l0.dropout": {"rate": 0.2}, "lstm.l1.dropout": {"rate": 0.2}, "dropout": {"rate": 0.1}}
    found = rates_of(stacked(rng, dropout=0.2), {"lstm": 0.4, "dropout": 0})
    assert found == {"lstm.l0.dropout": {"rate": 0.4}, "lstm.l1.dropout": {"rate": 0.4}}


def test_rates_that_a_state_dict_does_not_hold_are_given_by_the_module(rng):
    found = rates_of(stacked(rng), {"lstm": 0.4, "dropout": 0})
    assert found == {"lstm.l0": {"output_dropout": 0.4}, "lstm.l1": {"output_dropout": 0.4}}
    found = rates_of(stacked(rng, directions=2), {"lstm": 0.4, "dropout": 0})
    assert found == {"lstm.l0.merge": {"output_dropout": 0.4}, "lstm.l1.merge": {"output_dropout": 0.4}}


def test_given_and_kept_rates_between_stacked_layers_predict_alike(rng):
    """The places of the draws differ, so do the numbers; what is drawn is of one distribution."""
    for directions in (1, 2):
        tensors = lstm_state_dict(rng, 4, 5, num_layers=2, bidirectional=directions == 2)
        x = rng.normal(size=(2, 6, 4)).astype(np.float32)
        kept = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm", dropout=0.4)]).predict_mc(x, 4000)
        given = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm")]).predict_mc(x, 4000, rates={"lstm": 0.4})
        error = np.sqrt((kept.std**2 + given.std**2) / 4000)
        assert (np.abs(kept.mean - given.mean) < 5 * error + 1e-7).all()
        np.testing.assert_allclose(kept.std, given.std, rtol=0.15)


def test_dicts_say_what_is_dropped_of_every_recurrent_layer_below_a_name(rng):
    found = rates_of(stacked(rng, num_layers=2), {"lstm": {"dropout": 0.2, "recurrent_dropout": 0.1}, "dropout": 0})
    entries = {"dropout": 0.2, "recurrent_dropout": 0.1, "masks": "gates"}
    assert found == {"lstm.l0": entries, "lstm.l1": entries}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("lstm", 0.2, {"dropout": 0.2, "masks": "sequence"}),
        ("gru", {"recurrent_dropout": 0.2}, {"recurrent_dropout": 0.2, "masks": "gates"}),
        ("rnn", {"recurrent_dropout": 0.2}, {"recurrent_dropout": 0.2, "masks": "sequence"}),
        ("gru", {"dropout": 0.1, "masks": "steps"}, {"dropout": 0.1, "masks": "steps"}),
        ("gru", {"output_dropout": np.float32(0.5)}, {"output_dropout": 0.5}),
        ("dropout", 0.25, {"rate": 0.25}),
    ],
)
def test_a_layer_takes_what_it_has(kind, given, expected):
    assert rates_of(one_layer(kind), {"it": given}) == {"it": expected}


def test_what_the_file_keeps_counts_unless_it_is_given():
    graph = one_layer("gru", {"dropout": 0.2, "recurrent_dropout": 0.3, "masks": "sequence"})
    assert rates_of(graph, None)["it"] == {"dropout": 0.2, "recurrent_dropout": 0.3, "masks": "sequence"}
    assert rates_of(graph, {"it": {"dropout": 0}})["it"] == {"recurrent_dropout": 0.3, "masks": "sequence"}
    assert rates_of(graph, {"it": {"masks": "gates"}})["it"]["masks"] == "gates"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0.2, r"rates: expected a dict such as \{\"lstm\": 0.2\}, found 0.2"),
        ({"that": 0.2}, "'that': there is no such layer; the network has it, out"),
        ({1: 0.2}, "rates: expected names of layers, found 1"),
        ({"it": 1.0}, r"'it': expected a rate in \[0, 1\), found 1.0"),
        ({"it": -0.1}, r"expected a rate in \[0, 1\), found -0.1"),
        ({"it": float("nan")}, r"expected a rate in \[0, 1\), found nan"),
        ({"it": True}, r"expected a rate in \[0, 1\), found True"),
        ({"it": "0.2"}, r"expected a rate in \[0, 1\), found '0.2'"),
        ({"it": {}}, "expected a rate or a dict of rates, found an empty dict"),
        ({"it": {"dropout": 2}}, r"'it': dropout: expected a rate in \[0, 1\), found 2"),
        ({"it": {"drop": 0.2}}, r"'it' \(lstm\) takes dropout, recurrent_dropout, output_dropout, masks, found 'drop'"),
        ({"it": {"masks": "state"}}, "masks expected one of sequence, gates, steps, found 'state'"),
        ({"out": {"dropout": 0.2}}, r"'out' \(activation\) takes output_dropout, found 'dropout'"),
    ],
)
def test_wrong_rates_are_named(given, message):
    with pytest.raises(ArgumentError, match=message):
        rates_of(one_layer("lstm"), given)


@pytest.mark.parametrize("given", [None, {}, {"it": 0}, {"it": {"recurrent_dropout": 0}}])
def test_a_network_that_drops_nothing_is_told_how_to_give_rates(given):
    message = (
        r'no dropout .* rates=\{"it": 0.2\}, or rates=\{"it": \{"dropout": 0.2, "recurrent_dropout": 0.1\}\}; layers'
    )
    with pytest.raises(ArgumentError, match=message):
        rates_of(one_layer("lstm"), given)


def test_one_layer_of_pytorch_has_nothing_between(rng):
    with pytest.raises(ArgumentError, match="this is one; name 'lstm.l0'"):
        rates_of(stacked(rng, num_layers=1), {"lstm": 0.2})


def test_what_drops_within_is_refused_unless_it_is_left_out():
    attention = one_layer("attention", {"dropout": 0.1})
    with pytest.raises(UnsupportedError, match="drops within it is not supported; rates={'it': 0} leaves it without"):
        rates_of(attention, {"out": 0.2})
    assert rates_of(attention, {"out": 0.2, "it": 0}) == {"out": {"output_dropout": 0.2}}
    assert rates_of(one_layer("attention", {"dropout": 0.0}), {"out": 0.2}) == {"out": {"output_dropout": 0.2}}
    with pytest.raises(UnsupportedError, match="the file does not say whether this attention drops"):
        rates_of(one_layer("attention"), {"out": 0.2})


def test_a_gru_of_keras_3_0_to_3_7_needs_another_rule():
    graph = one_layer("gru", {"recurrent_dropout": 0.2, "masks": "state"})
    with pytest.raises(UnsupportedError, match=r"Keras 3.0 to 3.7 .* rates=\{'it': \{'masks': 'gates'\}\}"):
        rates_of(graph, None)
    assert rates_of(graph, {"it": {"masks": "gates"}}) == {"it": {"recurrent_dropout": 0.2, "masks": "gates"}}


def test_a_rate_of_1_leaves_nothing_and_is_refused():
    for graph in (one_layer("dropout", rate=1.0), one_layer("lstm", {"dropout": 1.0})):
        with pytest.raises(UnsupportedError, match="layer 'it'.*such as rates={'it': 0.5}"):
            rates_of(graph, None)


def test_noise_is_kept_by_a_native_file_and_by_parts(rng, tmp_path):
    graph = one_layer("gru", {"dropout": 0.2, "recurrent_dropout": 0.3, "masks": "gates"})
    model = cylstm.Model(graph, dtype="float32")
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    for packed in (False, True):
        model.save(tmp_path / "model.cylstm", packed=packed)
        loaded = cylstm.load(tmp_path / "model.cylstm")
        assert loaded.graph.noise == graph.noise
        np.testing.assert_array_equal(loaded.predict_mc(x, 3).samples, model.predict_mc(x, 3).samples)
    assert model.extract(outputs=["it"]).graph.noise == graph.noise
