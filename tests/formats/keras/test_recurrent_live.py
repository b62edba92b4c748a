"""Networks of LSTMs against Keras: the same numbers from the files that it writes and from live models."""

import numpy as np
import pytest

import cylstm

from tests import reference
from tests.builders.promise import check

# what the frameworks warn of is theirs
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def keras_networks(keras):
    """name -> Sequential model of the layers of this version."""
    layers = keras.layers
    lstm = layers.LSTM

    def network(*parts, features=6):
        return keras.Sequential([layers.Input((None, features)), *parts])

    return {
        "last": network(lstm(13), layers.Dense(2)),
        "sequence": network(lstm(13, return_sequences=True), layers.Dense(24, activation="relu"), layers.Dense(2)),
        "stacked": network(lstm(13, return_sequences=True), layers.Dropout(0.3), lstm(7), layers.Dense(4, "softmax")),
        "bidirectional": network(layers.Bidirectional(lstm(13)), layers.Dense(2, "sigmoid")),
        "bidirectional sequence": network(layers.Bidirectional(lstm(13, return_sequences=True)), layers.Dense(2)),
        "sum": network(layers.Bidirectional(lstm(13, return_sequences=True), merge_mode="sum"), lstm(5)),
        "mul": network(layers.Bidirectional(lstm(13), merge_mode="mul"), layers.Dense(2)),
        "ave": network(layers.Bidirectional(lstm(13), merge_mode="ave"), layers.Dense(2)),
        "another backward layer": network(
            layers.Bidirectional(lstm(13), backward_layer=lstm(13, activation="relu", go_backwards=True)),
            layers.Dense(2),
        ),
        "no bias": network(lstm(13, use_bias=False), layers.Dense(2, use_bias=False)),
        "activations": network(
            lstm(13, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
            lstm(9, activation="softsign", recurrent_activation="sigmoid"),
            layers.Dense(5),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Dense(5, activation="elu"),
            layers.Activation("gelu"),
            layers.Dense(3, activation="selu"),
        ),
    }


KERAS_NETWORKS = [
    "last", "sequence", "stacked", "bidirectional", "bidirectional sequence", "sum", "mul", "ave",
    "another backward layer", "no bias", "activations",
]  # fmt: skip


@pytest.mark.parametrize("how", [".keras", ".h5", "live"])
@pytest.mark.parametrize("name", KERAS_NETWORKS)
def test_a_keras_network_gives_kerass_numbers(keras, rng, tmp_path, name, how):
    network = keras_networks(keras)[name]
    for variable in network.trainable_variables:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    if how == "live":
        model = cylstm.from_keras(network)
    else:
        network.save(tmp_path / f"network{how}")
        model = cylstm.load(tmp_path / f"network{how}")
    x = rng.normal(size=(4, 15, 6)).astype(np.float32)
    expected = np.asarray(network.predict(x, verbose=0))
    (exact,), _ = reference.predict(model.graph, x)
    check(model.predict(x), expected, exact)
    check(cylstm.Model(model.graph, engine="blas").predict(x), expected, exact)
    model.save(tmp_path / "again.cylstm")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "again.cylstm").predict(x), model.predict(x))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks_give_what_kerass_masks_give(keras, rng, bidirectional, return_sequences):
    lstm = keras.layers.LSTM(13, return_sequences=return_sequences)
    layer = keras.layers.Bidirectional(lstm) if bidirectional else lstm
    network = keras.Sequential([keras.layers.Input((None, 6)), layer])
    for variable in network.trainable_variables:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    x = rng.normal(size=(6, 11, 6)).astype(np.float32)
    mask = rng.random((6, 11)) > 0.4
    mask[0], mask[1, :5], mask[2, 7:] = False, False, False
    expected = np.asarray(keras.ops.convert_to_numpy(layer(x, mask=keras.ops.convert_to_tensor(mask))))
    found = cylstm.from_keras(network).predict(x, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
