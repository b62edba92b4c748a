"""Writes the files beside it: ``python generate.py`` in an environment with tensorflow-cpu==2.15.* (Keras 2.15).

Functions of TensorFlow and Keras's backend between the layers of a model, which become TFOpLambda and SlicingOpLambda.
``expected.npz`` holds the input ``x``, and for each file what Keras predicts: ``NAME.y0``, ``NAME.y1``, ...
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
import tensorflow as tf
from tensorflow.keras import Input, Model, layers
from tensorflow.keras import backend as K

FOLDER = Path(__file__).parent
rng = np.random.default_rng(216)
V = rng.normal(size=5).astype(np.float32)
W = rng.normal(size=(5, 3)).astype(np.float32)

#: name -> function of the input (batch, 6, 4), the steps of an LSTM (batch, 6, 5) and the same as positive numbers
FUNCTIONS = {
    "arithmetic": lambda i, h, p: [
        h + p, h + 1.5, 1 - h, h - V, h * p, h / p, h / 3.0, 2.0 / p, h // 0.3, h % 0.3, h**2, p**0.5, 2.0**h, -h,
        abs(h),
        tf.add(h, p), tf.math.divide_no_nan(p, tf.nn.relu(h)), tf.math.multiply_no_nan(h, tf.nn.relu(p - 0.5)),
        tf.math.squared_difference(h, p), tf.maximum(h, 0.1), tf.minimum(h, p - 0.4), tf.math.atan2(h, p - 0.5),
        tf.add_n([h, p, h]), tf.clip_by_value(h, -0.1, 0.2), tf.math.floormod(h, -0.3),
    ],
    "functions": lambda i, h, p: [
        tf.abs(h), tf.square(h), tf.sqrt(p), tf.math.rsqrt(p), tf.exp(h), tf.math.log(p), tf.math.log1p(p),
        tf.math.expm1(h), tf.sin(h), tf.cos(h), tf.tan(h), tf.asin(h), tf.acos(h), tf.atan(h), tf.sinh(h), tf.cosh(h),
        tf.math.asinh(h), tf.math.acosh(p + 1), tf.math.atanh(h), tf.sign(h), tf.round(h * 7), tf.math.rint(h * 7),
        tf.floor(h * 7), tf.math.ceil(h * 7), tf.math.reciprocal(p), tf.math.erf(h), tf.math.erfc(h), tf.negative(h),
    ],
    "activations": lambda i, h, p: [
        tf.nn.relu(h), tf.nn.relu6(h * 9), tf.nn.elu(h), tf.nn.selu(h), tf.nn.softplus(h), tf.nn.softsign(h),
        tf.tanh(h),
        tf.sigmoid(h), tf.math.log_sigmoid(h), tf.nn.silu(h), tf.nn.swish(h, 1.7), tf.nn.gelu(h),
        tf.nn.gelu(h, approximate=True), tf.nn.leaky_relu(h, alpha=0.1), tf.nn.leaky_relu(h), tf.nn.softmax(h),
        tf.nn.softmax(h, axis=1), tf.nn.log_softmax(h), tf.keras.activations.hard_sigmoid(h * 3),
        tf.keras.activations.mish(h), tf.math.l2_normalize(h, axis=-1), tf.nn.bias_add(h, V),
        tf.nn.batch_normalization(h, V, V * V, V, V, 0.001),
    ],
    "choices": lambda i, h, p: [
        tf.cast(one, tf.float32) for one in (
            h > p - 0.5, h >= 0.1, h < 0.1, h <= p, tf.equal(tf.round(h * 3), 0.0), tf.not_equal(tf.nn.relu(h), 0.0),
            tf.logical_and(h > 0, p > 0.5), tf.logical_or(h > 0, p > 0.5), tf.math.logical_xor(h > 0, p > 0.5),
            tf.logical_not(h > 0), tf.math.is_nan(tf.math.log(h)), tf.math.is_inf(1.0 / tf.nn.relu(h)),
            tf.math.is_finite(tf.math.log(h)), tf.reduce_any(h > 0.2, axis=1), tf.reduce_all(h > -0.2, axis=-1))
    ] + [tf.where(h > 0, h, p), tf.where(h > 0, h, tf.zeros_like(h)), tf.where(h > 0, 1.0, h), tf.cast(h * 9,
    tf.int32)],
    "reductions": lambda i, h, p: [
        f(h, axis=axis, keepdims=keeps) for f in (
            tf.reduce_mean, tf.reduce_sum, tf.reduce_max, tf.reduce_min, tf.math.reduce_std, tf.math.reduce_variance)
        for axis, keeps in ((1, False), (-1, True), ([1, 2], False))
    ] + [
        tf.reduce_prod(h, axis=1), tf.reduce_logsumexp(h, axis=1), tf.math.reduce_euclidean_norm(h, axis=-1),
        tf.norm(h, axis=-1), tf.norm(h, ord=1, axis=1), tf.argmax(h, axis=-1), tf.argmin(h, axis=1),
        tf.math.count_nonzero(tf.nn.relu(h), axis=1), tf.cumsum(h, axis=1), tf.cumsum(h, axis=2, exclusive=True),
        tf.cumsum(h, axis=1, reverse=True), tf.math.cumprod(h, axis=1), tf.sort(h, axis=-1),
        tf.sort(h, axis=1, direction="DESCENDING"), tf.argsort(h, axis=-1), *tf.math.top_k(h, 2),
        *tf.nn.moments(h, [1]),
    ],
    "shapes": lambda i, h, p: [
        h[:, -1, :], h[:, -3:], h[:, ::2], h[:, 1:-1, :2], h[:, -1, tf.newaxis, :], h + i[:, :, 0:1], h[:, ::-1],
        tf.reshape(h, (-1, 30)), tf.reshape(h, (tf.shape(h)[0], 30)), tf.reshape(h, (-1, 3, 10)),
        tf.transpose(h, [0, 2, 1]), tf.expand_dims(h[:, -1], 1), tf.squeeze(h[:, -1:], axis=1),
        tf.concat([i, h], axis=-1), tf.concat([h, p[:, :2]], axis=1), tf.stack([h[:, 0], h[:, 1]], axis=1),
        *tf.split(h, [2, 3], axis=-1), *tf.split(i, 2, axis=-1), tf.unstack(h, axis=1)[2], tf.tile(h[:, -1:], [1, 3,
        1]),
        tf.repeat(h, 2, axis=1), tf.pad(h, [[0, 0], [1, 0], [0, 0]]), tf.pad(h, [[0, 0], [1, 2], [0, 0]],
        constant_values=0.7),
        tf.pad(h, [[0, 0], [2, 1], [0, 0]], mode="REFLECT"), tf.reverse(h, [1]), tf.roll(h, 1, axis=1),
        tf.gather(h, [0, 2], axis=2), tf.gather(h, [4, 1], axis=1), tf.gather(h, tf.argmax(p[:, :, 0], axis=1),
        axis=1, batch_dims=1),
        tf.identity(h) * 2, tf.stop_gradient(h) * 2, tf.ones_like(h) + h, tf.one_hot(tf.argmax(h, -1), 5),
        tf.one_hot(tf.argmax(h, -1), 5, on_value=2.0, off_value=-1.0, axis=1), tf.linalg.band_part(h, 1, 2),
        tf.linalg.diag_part(h), tf.signal.frame(tf.transpose(h, [0, 2, 1]), 3, 2), tf.broadcast_to(h[:, :1],
        tf.shape(h)),
        tf.slice(h, [0, 1, 2], [-1, 3, 2]), tf.linspace(h, p, 3, axis=1),
    ],
    "products": lambda i, h, p: [
        tf.matmul(h, p, transpose_b=True), tf.matmul(h, p, transpose_a=True), h @ W, tf.matmul(h, W),
        tf.tensordot(h, W, axes=[[2], [0]]), tf.tensordot(h, W, 1), tf.linalg.matvec(h, p[:, 0]),
        tf.linalg.cross(h[:, :, :3], p[:, :, 2:]),
        tf.matmul(tf.nn.softmax(tf.matmul(h, p, transpose_b=True) / 5.0**0.5), h),
    ],
    "backend": lambda i, h, p: [
        K.mean(h, axis=1), K.sum(h, axis=1, keepdims=True), K.max(h, axis=-1), K.std(h, axis=1), K.sqrt(p), K.exp(h),
        K.l2_normalize(h, -1), K.permute_dimensions(h, (0, 2, 1)), K.concatenate([i, h]), K.expand_dims(h, 1),
        K.softmax(h), K.dot(h, K.constant(W)), K.batch_dot(h, p, axes=2), K.repeat_elements(h, 2, 1), K.repeat(h[:,
        0], 3),
        K.relu(h, alpha=0.1), K.clip(h, 0, 1), K.square(h), K.stack([h, p], axis=1), K.batch_flatten(h), K.reverse(h,
        1),
        K.squeeze(h[:, 1:2], 1), K.hard_sigmoid(h), K.temporal_padding(h, (1, 2)), K.sign(h),
    ],
}  # fmt: skip


def main():
    expected = {"x": rng.normal(size=(3, 6, 4)).astype(np.float32)}
    for name, function in FUNCTIONS.items():
        K.clear_session()
        i = Input((6, 4), name="x")
        h = layers.LSTM(5, return_sequences=True)(i)
        p = tf.abs(h) + 0.3
        model = Model(i, function(i, h, p))
        weights = [rng.uniform(-0.9, 0.9, array.shape).astype(np.float32) for array in model.get_weights()]
        model.set_weights(weights)
        for k, y in enumerate(model(expected["x"])):
            expected[f"{name}.y{k}"] = np.asarray(y, np.float32)
        if name in ("shapes", "products"):
            model.save(FOLDER / f"{name}.h5")
        path = FOLDER / f"{name}.keras"
        model.save(path)
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for member, data in members.items():
                archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
