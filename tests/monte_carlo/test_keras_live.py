"""Keras's own dropout, ``model(x, training=True)``, and `predict_mc`: one distribution."""

import numpy as np
import pytest

import cylstm

from tests.builders.statistics import distance

pytestmark = pytest.mark.frameworks

SAMPLES, TIME, INPUTS = 4000, 4, 3
#: standard errors; of some hundred numbers each
LIMIT = 5.0


def recurrent(layer, units=3, **options):
    return lambda L: [getattr(L, layer)(units, return_sequences=True, **options)]


NETWORKS = {
    "lstm input": recurrent("LSTM", dropout=0.3),
    "lstm recurrent": recurrent("LSTM", recurrent_dropout=0.4),
    "lstm both": recurrent("LSTM", dropout=0.3, recurrent_dropout=0.4),
    "lstm unrolled": recurrent("LSTM", dropout=0.3, unroll=True, activation="relu"),
    "gru input": recurrent("GRU", dropout=0.3),
    "gru after": recurrent("GRU", dropout=0.3, recurrent_dropout=0.4),
    "gru before": recurrent("GRU", dropout=0.3, recurrent_dropout=0.4, reset_after=False),
    "rnn": recurrent("SimpleRNN", dropout=0.3, recurrent_dropout=0.4),
    "backwards": recurrent("GRU", recurrent_dropout=0.4, go_backwards=True),
    "bidirectional": lambda L: [L.Bidirectional(L.LSTM(2, return_sequences=True, dropout=0.3, recurrent_dropout=0.3))],
    "cells": lambda L: [
        L.RNN([L.LSTMCell(3, dropout=0.3), L.GRUCell(2, recurrent_dropout=0.4)], return_sequences=True)
    ],
    "stacked": lambda L: [
        L.LSTM(3, return_sequences=True, dropout=0.2), L.Dropout(0.3), L.GRU(3, recurrent_dropout=0.3), L.Dense(2)
    ],
    "masked": lambda L: [L.Masking(), L.LSTM(3, dropout=0.3, recurrent_dropout=0.3)],
    "dropout": lambda L: [L.Dropout(0.3)],
    "noise shape": lambda L: [L.Dropout(0.3, noise_shape=(None, 1, None))],
    "spatial": lambda L: [L.SpatialDropout1D(0.3)],
    "time distributed": lambda L: [L.TimeDistributed(L.Dropout(0.3))],
    "gaussian dropout": lambda L: [L.GaussianDropout(0.3)],
    "gaussian noise": lambda L: [L.GaussianNoise(0.3)],
    "alpha": lambda L: [L.AlphaDropout(0.3)],
    "convolution": lambda L: [L.Conv1D(3, 2, strides=2), L.Dropout(0.3), L.LSTM(2, dropout=0.3)],
}  # fmt: skip


def built(keras, rng, network):
    model = keras.Sequential([keras.Input((TIME, INPUTS)), *NETWORKS[network](keras.layers)])
    model.set_weights([rng.uniform(-1.3, 1.3, weight.shape).astype(np.float32) for weight in model.get_weights()])
    x = rng.normal(size=(1, TIME, INPUTS)).astype(np.float32)
    if network == "masked":
        x[0, 1] = 0.0
    return model, x


def keras_samples(model, x, count=SAMPLES):
    """Every row of a batch is dropped on its own."""
    return np.asarray(model(np.repeat(x, count, axis=0), training=True).detach())


@pytest.mark.parametrize("network", NETWORKS)
def test_samples_are_of_the_distribution_that_keras_draws_from(keras, rng, network, tmp_path):
    model, x = built(keras, rng, network)
    expected = keras_samples(model, x)
    assert expected.std(axis=0).max() > 0.02
    found = cylstm.from_keras(model)
    assert distance(found.predict_mc(x, SAMPLES, seed=1).samples[:, 0], expected) < LIMIT
    model.save(tmp_path / "model.keras")
    loaded = cylstm.load(tmp_path / "model.keras")
    assert loaded.graph.noise == found.graph.noise


@pytest.mark.parametrize(
    ("network", "rates"),
    [
        ("lstm input", {"masks": "steps"}),
        ("lstm both", {"masks": "steps"}),
        ("lstm both", {"masks": "sequence"}),
        ("lstm recurrent", {"masks": "sequence"}),
        ("gru after", {"masks": "sequence"}),
        ("gru before", {"recurrent_dropout": 0.5}),
        ("rnn", {"masks": "steps"}),
        ("rnn", {"dropout": 0.25}),
    ],
)
def test_the_comparison_tells_another_rule(keras, rng, network, rates):
    model, x = built(keras, rng, network)
    found = cylstm.from_keras(model)
    name = next(layer.name for layer in found.graph.layers if layer.kind in ("lstm", "gru", "rnn"))
    given = found.predict_mc(x, SAMPLES, seed=1, rates={name: rates}).samples[:, 0]
    assert distance(given, keras_samples(model, x)) > LIMIT + 1


def test_what_is_not_scaled_is_told(keras, rng):
    model, x = built(keras, rng, "dropout")
    samples = cylstm.from_keras(model).predict_mc(x, SAMPLES, seed=1).samples[:, 0]
    assert distance(samples * 0.7, keras_samples(model, x)) > LIMIT + 1
