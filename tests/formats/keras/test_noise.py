"""What the layers of a Keras file draw in training, as the graph keeps it."""

import pytest

from cylstm.errors import FormatError
from cylstm.loading import read

from tests.builders.keras_files import arrays_of, dense_file, one_layer_file, recurrent, write_lstm
from tests.builders.weight_files import keras_input, keras_layer, keras_lstm_weights, keras_model, write_keras

pytest.importorskip("h5py")

INPUT, BOTH = {"dropout": 0.2, "recurrent_dropout": 0.0}, {"dropout": 0.2, "recurrent_dropout": 0.3}


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        # a mask for each gate where the state is dropped, or with implementation 1
        ("3.8.0", INPUT, {"dropout": 0.2}),
        ("3.15.1", BOTH, {**BOTH, "masks": "gates"}),
        ("3.15.1", {**INPUT, "implementation": 1}, {"dropout": 0.2, "masks": "gates"}),
        # one for all
        ("3.7.0", BOTH, BOTH),
        # the rate of the state was that of the input
        ("3.1.0", BOTH, {"dropout": 0.2, "recurrent_dropout": 0.2}),
        ("3.1.0", {"dropout": 0.0, "recurrent_dropout": 0.3}, {}),
        # TensorFlow: new at each step where cuDNN could run the layer
        ("2.15.0", INPUT, {"dropout": 0.2, "masks": "steps"}),
        ("2.15.0", {**INPUT, "implementation": 1}, {"dropout": 0.2, "masks": "steps"}),
        ("2.3.0-tf", INPUT, {"dropout": 0.2, "masks": "steps"}),
        ("2.15.0", {**INPUT, "activation": "relu"}, {"dropout": 0.2}),
        ("2.15.0", {**INPUT, "activation": "relu", "implementation": 1}, {"dropout": 0.2, "masks": "gates"}),
        ("2.15.0", {**INPUT, "unroll": True}, {"dropout": 0.2}),
        ("2.15.0", BOTH, {**BOTH, "masks": "gates"}),
        # Keras before it was TensorFlow's alone
        ("2.3.1", {**INPUT, "implementation": 2}, {"dropout": 0.2}),
        ("2.2.4", {**INPUT, "implementation": 1}, {"dropout": 0.2, "masks": "gates"}),
        ("3.15.1", {"dropout": 0.0, "recurrent_dropout": 0.0}, {}),
    ],
)
def test_an_lstm_keeps_its_rates_and_how_its_keras_drops(tmp_path, rng, version, options, expected):
    graph = read(write_lstm(tmp_path / "a.h5", keras_lstm_weights(rng, 3, 5), version=version, **options))
    assert graph.noise == ({"rnn": expected} if expected else {})


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        ("3.15.1", {"reset_after": True, **BOTH}, {**BOTH, "masks": "gates"}),
        ("3.7.0", {"reset_after": True, **BOTH}, {**BOTH, "masks": "state"}),
        ("3.7.0", {"reset_after": True, **INPUT}, {"dropout": 0.2}),
        ("2.15.0", {"reset_after": True, **INPUT}, {"dropout": 0.2, "masks": "steps"}),
        ("2.15.0", {"reset_after": False, **INPUT}, {"dropout": 0.2}),
    ],
)
def test_a_gru_keeps_its_rates_and_how_its_keras_drops(tmp_path, rng, version, options, expected):
    bias = (2, 12) if options["reset_after"] else (12,)
    config = recurrent("GRU", "rnn", units=4, **options)
    path = one_layer_file(tmp_path / "a.h5", config, {"gru": arrays_of(rng, (3, 12), (4, 12), bias)}, version=version)
    assert read(path).noise == {"rnn": expected}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras_layer("Dropout", "x", rate=0.3, noise_shape=None), None),
        (keras_layer("Dropout", "x", rate=0.3, noise_shape=[None, 1, 4]), {"shared": "0"}),
        (keras_layer("Dropout", "x", rate=0.3, noise_shape=[1, None, 1]), {"shared": "b1"}),
        (keras_layer("SpatialDropout1D", "x", rate=0.3), {"shared": "0"}),
        (keras_layer("GaussianDropout", "x", rate=0.3), {"form": "gaussian"}),
        (keras_layer("GaussianNoise", "x", stddev=0.3), {"form": "additive"}),
        (keras_layer("AlphaDropout", "x", rate=0.3, noise_shape=None), {"form": "alpha"}),
        (keras_layer("TimeDistributed", "x", layer=keras_layer("Dropout", "d", rate=0.3, noise_shape=[None, 1])),
         {"shared": "1"}),
    ],
)  # fmt: skip
def test_a_layer_that_drops_keeps_its_form_and_its_shared_axes(tmp_path, layer, expected):
    graph = read(write_keras(tmp_path / "a.keras", keras_model(keras_input(None, 4), layer), {}))
    (found,) = graph.layers
    assert (found.kind, found.options["rate"]) == ("dropout", 0.3)
    assert dict(graph.noise) == ({} if expected is None else {found.name: expected})


@pytest.mark.parametrize(("data_format", "expected"), [("channels_last", "01"), ("channels_first", "12"), (None, "01")])
def test_a_spatial_dropout_of_images_drops_channels(tmp_path, data_format, expected):
    layer = keras_layer("SpatialDropout2D", "x", rate=0.3, data_format=data_format)
    graph = read(write_keras(tmp_path / "a.keras", keras_model(keras_input(5, 6, 4), layer), {}))
    assert graph.noise == {"x": {"shared": expected}}


def test_a_noise_shape_of_another_rank_is_an_error(tmp_path):
    layer = keras_layer("Dropout", "x", rate=0.3, noise_shape=[None, 1, 2])
    with pytest.raises(FormatError, match="noise_shape expected 2 sizes, found"):
        read(dense_file(tmp_path / "a.keras", layer))
