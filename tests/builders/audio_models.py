"""The JSON files of GuitarML and RTNeural, as their own exporters write them."""

from __future__ import annotations

import json

import numpy as np


def guitarml(tensors, *, unit="LSTM", inputs=1, hidden=8, outputs=1, layers=1, skip=1, bias=True, **data):
    """What ``SimpleRNN.save_model`` of CoreAudioML writes; `data` changes or adds entries of ``model_data``."""
    described = {
        "model": "SimpleRNN", "input_size": inputs, "skip": skip, "output_size": outputs, "unit_type": unit,
        "num_layers": layers, "hidden_size": hidden, "bias_fl": bias,
    }  # fmt: skip
    state = {name: np.asarray(array).tolist() for name, array in tensors.items()}
    return {"model_data": described | data, "state_dict": state}


def guitarml_tensors(rng, *, unit="LSTM", inputs=1, hidden=8, outputs=1, layers=1, bias=True):
    rows = {"LSTM": 4, "GRU": 3, "RNN": 1}[unit] * hidden
    shapes = {}
    for k in range(layers):
        shapes[f"rec.weight_ih_l{k}"] = (rows, hidden if k else inputs)
        shapes[f"rec.weight_hh_l{k}"] = (rows, hidden)
        shapes[f"rec.bias_ih_l{k}"] = shapes[f"rec.bias_hh_l{k}"] = (rows,)
    shapes["lin.weight"] = (outputs, hidden)
    if bias:
        shapes["lin.bias"] = (outputs,)
    return {name: (rng.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}


def rtneural_layer(kind, shape, weights=(), activation="", **more):
    """One layer as ``save_layer`` of RTNeural's model_utils.py describes it."""
    arrays = [np.asarray(array).tolist() for array in weights]
    return {"type": kind, "activation": activation, "shape": list(shape), **more, "weights": arrays}


def rtneural(in_shape, *layers, **more):
    return {"in_shape": list(in_shape), **more, "layers": list(layers)}


def rtneural_of(keras, model):
    """What ``save_model_json`` of RTNeural's model_utils.py makes of a live Keras model."""
    of = keras.layers
    kinds = (
        (of.TimeDistributed, "time-distributed-dense"), (of.GRU, "gru"), (of.LSTM, "lstm"), (of.Dense, "dense"),
        (of.Conv1D, "conv1d"), (of.PReLU, "prelu"), (of.BatchNormalization, "batchnorm"), (of.Activation, "activation"),
    )  # fmt: skip
    names = ("tanh", "relu", "sigmoid", "softmax", "elu")
    found = []
    for layer in model.layers:
        if isinstance(layer, of.InputLayer):
            continue
        kind = next((name for kind, name in kinds if isinstance(layer, kind)), "unknown")
        inner = layer.layer if kind == "time-distributed-dense" else layer
        activation = getattr(getattr(inner, "activation", None), "__name__", "")
        more = {}
        if kind == "conv1d":
            more = {"kernel_size": list(layer.kernel_size), "dilation": list(layer.dilation_rate)}
        if kind == "batchnorm":
            more = {"epsilon": layer.epsilon}
        activation = activation if activation in names else ""
        found.append(rtneural_layer(kind, layer.output.shape, layer.get_weights(), activation, **more))
    return rtneural(model.input_shape, *found)


def write(path, content, **options):
    path.write_text(json.dumps(content, **options))
    return path
