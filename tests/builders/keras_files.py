"""Keras files of one layer or a few, written without Keras."""

import numpy as np

from tests.builders.weight_files import (
    keras_bidirectional,
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_keras,
)

LSTM_NAMES = ("kernel", "recurrent_kernel", "bias")


def lstm_model(**options):
    return keras_model(keras_input(None, 3), keras_lstm("rnn", 5, **options))


def write_lstm(path, weights, **options):
    """A model of one LSTM; `options` are the layer's, or `version`."""
    version = options.pop("version", "3.15.1")
    if path.suffix == ".keras":
        return write_keras(path, lstm_model(**options), {"layers/lstm/cell": weights}, version=version)
    names = [f"rnn/lstm_cell/{name}:0" for name in LSTM_NAMES]
    named = dict(zip(names, weights, strict=False))
    return write_h5(path, lstm_model(**options), {"rnn": named}, version=version)


def dense_file(path, *layers, version="3.15.1", edit=None, **options):
    """A model of a Dense layer with 3 inputs and 2 units, then `layers`."""
    rng = np.random.default_rng(23)
    model = keras_model(keras_input(3), keras_dense("fc", 2, **options), *layers)
    return write_keras(path, model, {"layers/dense": keras_dense_weights(rng, 3, 2)}, version=version, edit=edit)


def bidirectional_file(path, rng, *, config=None, names=("forward_rnn", "backward_rnn"), version="3.15.1", swap=False):
    """A model of one Bidirectional LSTM and the six arrays, forward first."""
    config = config or keras_bidirectional("both", keras_lstm("rnn", 5, return_sequences=True))
    weights = keras_lstm_weights(rng, 3, 5), keras_lstm_weights(rng, 3, 5)
    model = keras_model(keras_input(None, 3), config)
    if path.suffix == ".keras":
        parts = zip(("forward", "backward"), weights, strict=True)
        groups = {f"layers/bidirectional/{part}_layer/cell": arrays for part, arrays in parts}
        return weights, write_keras(path, model, groups, version=version)
    named = {}
    for title, arrays in sorted(zip(names, weights, strict=True), key=lambda pair: pair[0], reverse=not swap):
        named.update({f"both/{title}/cell/{n}:0": array for n, array in zip(LSTM_NAMES, arrays, strict=True)})
    return weights, write_h5(path, model, {"both": named}, version=version)


def recurrent(class_name, name, **options):
    """A serialised recurrent layer or cell with the options that every version writes."""
    return keras_layer(class_name, name, **{"activation": "tanh", "recurrent_activation": "sigmoid", **options})


def arrays_of(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def one_layer_file(path, config, parts, shape=(None, 3), version="3.15.1"):
    """A model of one layer; `parts` maps where a set of weights stands in the .keras file to its arrays."""
    model = keras_model(keras_input(*shape), config)
    if path.suffix == ".keras":
        return write_keras(path, model, {f"layers/{group}": arrays for group, arrays in parts.items()}, version=version)
    named = {f"{g}/{n}:0": a for g, arrays in parts.items() for n, a in zip(LSTM_NAMES, arrays, strict=False)}
    return write_h5(path, model, {config["config"]["name"]: named}, version=version)
