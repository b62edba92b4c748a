"""Writes the files beside it: ``python generate.py`` with tensorflow-cpu==2.15.*, tf2onnx==1.17.* and onnx==1.16.*.

Models of Keras 2.15 with seeded weights, all different, as tf2onnx converts them; ``expected.npz`` holds what Keras
predicts: for a model NAME the input ``NAME.x`` and the outputs ``NAME.y0``, ``NAME.y1``, ...
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow.keras import Input, Model, Sequential
from tensorflow.keras import layers as L

FOLDER = Path(__file__).parent
OPSET = 18
rng = np.random.default_rng(2026)


def stack(*layers, shape=(None, 3), batch=None):
    return Sequential([Input(shape, batch_size=batch), *layers])


def applied(function, shape):
    x = Input(shape)
    return Model(x, function(x))


def encoder_decoder(x):
    _, h, c = L.LSTM(4, return_state=True)(x)
    return L.TimeDistributed(L.Dense(2))(L.LSTM(4, return_sequences=True)(x, initial_state=[h, c]))


def with_states(x):
    return L.LSTM(4, return_sequences=True, return_state=True)(x)


def pooled_by_attention(x):
    y = L.GRU(4, return_sequences=True)(x)
    weights = L.Softmax(axis=1)(L.Dense(1, activation="tanh")(y))
    return L.Lambda(lambda found: tf.reduce_sum(found[0] * found[1], axis=1))([y, weights])


def self_attention(x):
    y = L.LSTM(4, return_sequences=True)(x)
    return L.LayerNormalization()(L.Add()([y, L.MultiHeadAttention(2, 3)(y, y)]))


def crnn(x):
    y = L.MaxPooling2D((1, 2))(L.Conv2D(3, 3, padding="same", activation="relu")(x))
    y = L.Reshape((3, 36))(L.Permute((2, 1, 3))(y))
    return L.Dense(3)(L.Bidirectional(L.GRU(4, return_sequences=True))(y))


MODELS = {
    "backwards": lambda: stack(L.LSTM(4, go_backwards=True, return_sequences=True)),
    "bidirectional": lambda: stack(L.Bidirectional(L.LSTM(4, return_sequences=True))),
    "bidirectional_last": lambda: stack(L.Bidirectional(L.GRU(4)), L.Dense(2)),
    "stateful": lambda: stack(L.LSTM(4, return_sequences=True, stateful=True), batch=3),
    "states": lambda: applied(with_states, (None, 3)),
    "causal": lambda: stack(
        L.Conv1D(4, 3, padding="causal", activation="relu"),
        L.Conv1D(4, 2, padding="causal", dilation_rate=4),
        L.LSTM(4, return_sequences=True),
    ),
    "conv_pool": lambda: stack(L.Conv1D(4, 3, padding="same", activation="relu"), L.MaxPooling1D(2), L.LSTM(4)),
    "time_distributed": lambda: stack(
        L.TimeDistributed(L.Conv2D(2, 3, activation="relu")),
        L.TimeDistributed(L.Flatten()),
        L.LSTM(4),
        shape=(None, 5, 5, 1),
    ),
    "encoder_decoder": lambda: applied(encoder_decoder, (None, 3)),
    "layer_norm": lambda: stack(L.LSTM(4, return_sequences=True), L.LayerNormalization()),
    "pooled_by_attention": lambda: applied(pooled_by_attention, (None, 3)),
    "self_attention": lambda: applied(self_attention, (7, 3)),
    "crnn": lambda: applied(crnn, (12, 6, 1)),
    # those below are Loops
    "rnn": lambda: stack(L.SimpleRNN(4, return_sequences=True)),
    "gru_reset_before": lambda: stack(L.GRU(4, reset_after=False, return_sequences=True)),
    "gru_cell": lambda: stack(L.RNN(L.GRUCell(4)), L.Dense(2)),
    "recurrent_dropout": lambda: stack(L.LSTM(4, recurrent_dropout=0.2, return_sequences=True)),
    "rnn_from_states": lambda: applied(
        lambda x: L.SimpleRNN(4, activation="relu")(x, initial_state=L.Dense(4)(L.LSTM(5)(x))), (None, 3)
    ),
    "masked": lambda: stack(L.Masking(0.0), L.LSTM(4, return_sequences=True)),
}


def main() -> None:
    expected = {}
    for name, build in MODELS.items():
        tf.keras.backend.clear_session()
        model = build()
        model.set_weights([rng.normal(0.0, 0.5, array.shape).astype(np.float32) for array in model.get_weights()])
        x = rng.standard_normal([3, *(7 if size is None else size for size in model.input_shape[1:])])
        expected[f"{name}.x"] = x = x.astype(np.float32)
        outputs = model.predict(x, verbose=0)
        for i, y in enumerate(outputs if isinstance(outputs, list) else [outputs]):
            expected[f"{name}.y{i}"] = y
        model.reset_states()
        signature = (tf.TensorSpec(model.input_shape, tf.float32, name="x"),)
        path = str(FOLDER / f"{name}.onnx")
        tf2onnx.convert.from_keras(model, input_signature=signature, opset=OPSET, output_path=path)
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
