"""Writes the files of this folder with TensorFlow 2.15 and its Keras: ``python tests/data/custom/make.py``.

A class of the user's that is called as one of Keras's, one that is registered and called with two arguments, and a
Lambda; `expected.npz` has an input and the outputs.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.keras import backend, layers

FOLDER = Path(__file__).resolve().parent


class Attention(layers.Layer):
    def build(self, shape):
        self.W = self.add_weight(name="att_weight", shape=(shape[-1], 1), initializer="normal")
        self.b = self.add_weight(name="att_bias", shape=(shape[1], 1), initializer="normal")
        super().build(shape)

    def call(self, x):
        a = backend.softmax(backend.tanh(backend.dot(x, self.W) + self.b), axis=1)
        return backend.sum(x * a, axis=1)


@tf.keras.utils.register_keras_serializable("tutorial")
class BahdanauAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.W1, self.W2, self.V = layers.Dense(units), layers.Dense(units), layers.Dense(1)

    def call(self, query, values):
        score = self.V(tf.nn.tanh(self.W1(tf.expand_dims(query, 1)) + self.W2(values)))
        weights = tf.nn.softmax(score, axis=1)
        return tf.reduce_sum(weights * values, axis=1), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def attention():
    x = layers.Input((9, 6))
    return tf.keras.Model(x, layers.Dense(2)(Attention(name="att")(layers.LSTM(5, return_sequences=True)(x))))


def bahdanau():
    x = layers.Input((None, 6))
    values, state = layers.GRU(5, return_sequences=True, return_state=True)(x)
    summary, weights = BahdanauAttention(4, name="bahdanau")(state, values)
    return tf.keras.Model(x, [layers.Dense(2)(summary), weights])


def average():
    return tf.keras.Sequential(
        [
            layers.Input((9, 6)),
            layers.LSTM(5, return_sequences=True),
            layers.Lambda(lambda x: backend.mean(x, axis=1), name="average"),
            layers.Dense(2),
        ]
    )


def main():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 9, 6)).astype(np.float32)
    expected = {"x": x}
    for make in (attention, bahdanau, average):
        model = make()
        model.set_weights([0.5 * rng.standard_normal(w.shape) for w in model.get_weights()])
        found = model.predict(x, verbose=0)
        for i, y in enumerate(found if isinstance(found, list) else [found]):
            expected[f"{make.__name__}_{i}"] = y
        for extension in ("h5", "keras"):
            model.save(FOLDER / f"{make.__name__}.{extension}")
    np.savez(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
