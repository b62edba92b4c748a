"""Writes the files beside it: ``python generate.py`` in an environment with tensorflow-cpu==2.15.* (Keras 2.15).

Each model is saved with seeded weights, all different, and ``expected.npz`` holds what Keras itself predicts: for a
model NAME the input ``NAME.x`` and the outputs ``NAME.y0``, ``NAME.y1``, ... Files whose names differ only in their
ending are of one model.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
import tensorflow as tf
from tensorflow.compat.v1.keras.layers import CuDNNGRU, CuDNNLSTM
from tensorflow.keras import Input, Model, Sequential, layers
from tensorflow.keras.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Bidirectional,
    ConvLSTM1D,
    ConvLSTM2D,
    Dense,
    Dropout,
    GRUCell,
    LeakyReLU,
    LSTMCell,
    Masking,
    SimpleRNN,
)

FOLDER = Path(__file__).parent
rng = np.random.default_rng(215)
expected: dict[str, np.ndarray] = {}


def model_of(name, shape, *layers):
    model = Sequential([Input(shape), *layers], name=name)
    model.set_weights([rng.normal(0.0, 0.6, array.shape).astype(np.float32) for array in model.get_weights()])
    return model


def predict(name, model, x):
    outputs = model.predict(x, verbose=0)
    expected[f"{name}.x"] = x
    for i, y in enumerate(outputs if isinstance(outputs, list) else [outputs]):
        expected[f"{name}.y{i}"] = y


def save(name, model, *endings, shape=(3, 6, 3), x=None):
    """Predict and write `model` under each of the endings."""
    if model is not None:
        predict(name, model, rng.standard_normal(shape).astype(np.float32) if x is None else x)
    for ending in endings:
        path = FOLDER / f"{name}{ending}"
        if ending == ".json":
            path.write_text(model.to_json())
        elif ending in (".h5", ".keras"):
            model.save(path)  # never compiled, so without an optimizer
        else:  # ".weights.h5" is written as Keras 3 does, any other ".h5" in the older way
            model.save_weights(path)


def masks() -> None:
    """Masking before each layer that keeps the steps, then one LSTM, which sees the mask or not; merges; attention."""
    rng = np.random.default_rng(2150)
    x, other = Input((6, 3)), Input((6, 3))
    masked, second = Masking()(x), Dense(3)(Masking()(other))
    recurrent = LSTM(2)
    each = [
        Dense(3), Activation("tanh"), LeakyReLU(0.1), layers.ELU(), layers.ReLU(), layers.PReLU(shared_axes=[1]),
        Dropout(0.3), layers.SpatialDropout1D(0.3), layers.GaussianNoise(0.1), layers.GaussianDropout(0.1),
        layers.AlphaDropout(0.1), layers.ActivityRegularization(0.1), layers.BatchNormalization(),
        layers.LayerNormalization(), layers.UnitNormalization(), layers.Identity(),
        layers.Normalization(mean=1.0, variance=4.0), layers.Rescaling(0.5, 1.0), layers.Conv1D(3, 2, padding="same"),
        layers.DepthwiseConv1D(2, padding="same"), layers.SeparableConv1D(3, 2, padding="same"),
        layers.MaxPooling1D(2, 1, "same"), layers.AveragePooling1D(2, 1, "same"), layers.Reshape((6, 3)),
        layers.Permute((1, 2)), layers.Cropping1D((1, 0)), layers.ZeroPadding1D((0, 1)), layers.UpSampling1D(2),
    ]  # fmt: skip
    made = [recurrent(layer(masked)) for layer in each]
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
        for pair in ([Dense(3)(masked), second], [Dense(3)(masked), other]):
            y = getattr(layers, kind)()(pair)
            made += [recurrent(y), layers.GlobalMaxPooling1D()(y)]
    made.append(recurrent(Dense(3)(layers.Concatenate()([masked, second]))))
    for causal in (False, True):
        for pair in ((second, second), (Dense(3)(masked), second)):
            y = layers.MultiHeadAttention(2, 2)(*pair, use_causal_mask=causal)
            made += [layers.Flatten()(y), recurrent(y)]
    model = Model([x, other], layers.Concatenate()(made), name="masks")
    shapes = [array.shape for array in model.get_weights()]
    model.set_weights([np.abs(rng.normal(0.0, 0.6, shape)).astype(np.float32) + 0.1 for shape in shapes])
    arrays = rng.standard_normal((2, 3, 6, 3)).astype(np.float32)
    arrays[0, 1, 3:] = arrays[0, 2, :2] = arrays[1, 0, 4:] = arrays[1, 2, 1] = arrays[1, 2, 5] = 0.0
    predict("masks", model, list(arrays))
    save_small(model, "masks.keras")


def save_small(model, file) -> None:
    """A `.keras` archive, compressed, without dates."""
    model.save(FOLDER / file)
    with zipfile.ZipFile(FOLDER / file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(FOLDER / file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


def images() -> None:
    """Layers of images and volumes, each on its own; padding is odd where TensorFlow's rule for it shows."""
    rng = np.random.default_rng(2151)
    x = Input((7, 6, 4))
    volume = layers.Reshape((7, 3, 2, 4))(x)
    each = [
        layers.Conv2D(3, (2, 3), strides=(2, 1), padding="same", activation="relu"),
        layers.Conv2D(4, (3, 2), groups=2, dilation_rate=(1, 2)),
        layers.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same", strides=2),
        layers.SeparableConv2D(3, (3, 2), depth_multiplier=2, activation="tanh"),
        layers.Conv2DTranspose(2, (3, 2), strides=(2, 3), padding="same"),
        layers.Conv2DTranspose(2, (4, 3), strides=2, padding="same"),
        layers.Conv2DTranspose(2, (2, 3), strides=3, output_padding=(1, 2), activation="relu"),
        layers.MaxPooling2D((2, 3), padding="same"),
        layers.AveragePooling2D((2, 4), strides=(2, 1), padding="same"),
        layers.GlobalMaxPooling2D(keepdims=True),
        layers.GlobalAveragePooling2D(),
        layers.Cropping2D(((1, 2), (0, 3))),
        layers.ZeroPadding2D(((1, 0), (0, 2))),
        layers.UpSampling2D((2, 1)),
        layers.UpSampling2D((2, 3), interpolation="bilinear"),
        layers.PReLU(shared_axes=[1, 2]),
        layers.SpatialDropout2D(0.3),
        layers.LayerNormalization(axis=[2]),
        layers.BatchNormalization(axis=2),
    ]  # fmt: skip
    of_volumes = [
        layers.Conv3D(3, (2, 3, 2), strides=(2, 1, 2), padding="same"),
        layers.Conv3DTranspose(2, (2, 3, 1), strides=(1, 2, 2), padding="same"),
        layers.AveragePooling3D((2, 2, 3), strides=1, padding="same"),
    ]  # fmt: skip
    made = [layers.Flatten()(layer(x)) for layer in each] + [layers.Flatten()(layer(volume)) for layer in of_volumes]
    model = Model(x, layers.Concatenate()(made), name="images")
    shapes = [array.shape for array in model.get_weights()]
    model.set_weights([rng.uniform(0.1, 0.9, shape).astype(np.float32) for shape in shapes])
    predict("images", model, rng.standard_normal((3, 7, 6, 4)).astype(np.float32))
    save_small(model, "images.keras")
    model.save(FOLDER / "images.h5")


def main() -> None:
    stacked = model_of(
        "stacked",
        (6, 3),
        LSTM(5, return_sequences=True, name="first"),
        Dropout(0.3),
        LSTM(4, name="a.name-of_its.own", unroll=True),
        Dense(2, activation="relu"),
    )
    save("stacked", stacked, ".h5", ".keras")

    save("gru_reset_after", model_of("g", (None, 3), GRU(5, return_sequences=True)), ".h5")
    before = GRU(5, reset_after=False, recurrent_activation="hard_sigmoid", implementation=1, go_backwards=True)
    save("gru_reset_before", model_of("g", (None, 3), before, Dense(2)), ".weights-only.h5", ".json")
    save("simple_rnn", model_of("r", (None, 3), SimpleRNN(5, activation="relu", use_bias=False), LeakyReLU(0.1)), ".h5")
    activations = LSTM(5, activation="softsign", recurrent_activation="hard_sigmoid", return_sequences=True)
    save("hard_sigmoid", model_of("h", (None, 3), activations, Activation("hard_sigmoid")), ".keras")

    frozen = Bidirectional(LSTM(4, return_sequences=True), merge_mode="concat")
    differing = Bidirectional(GRU(5), backward_layer=GRU(5, go_backwards=True, name="other"), merge_mode="sum")
    both = model_of("b", (None, 3), frozen, differing, Dense(2))
    frozen.forward_layer.trainable = False
    save("bidirectional", both, ".h5", ".weights.h5", ".json")

    cells = model_of("c", (None, 3), RNN([LSTMCell(5), GRUCell(4), LSTMCell(2)], return_sequences=True))
    save("cells", cells, ".h5", ".keras")
    save("conv_lstm_1d", model_of("c1", (None, 6, 2), ConvLSTM1D(3, 3, padding="same")), ".h5", shape=(3, 4, 6, 2))
    two = ConvLSTM2D(2, (2, 3), return_sequences=True, recurrent_activation="hard_sigmoid")
    save("conv_lstm_2d", model_of("c2", (None, 5, 6, 2), two), ".keras", shape=(3, 4, 5, 6, 2))

    x = rng.standard_normal((3, 6, 3)).astype(np.float32)
    x[0, 4:] = x[1, :2] = x[2, 3] = 0.0
    masked = model_of("m", (None, 3), Masking(0.0), Bidirectional(LSTM(4, return_sequences=True)), GRU(3))
    save("masking", masked, ".keras", x=x)

    inner = model_of("inner", (None, 3), LSTM(4, return_sequences=True, name="a"), LSTM(3, name="b"))
    inner.layers[0].trainable = False
    nested = model_of("nested", (None, 3), inner, Dense(2))
    save("nested", nested, ".h5", ".keras")

    # A CuDNN layer computes on a GPU only: Keras loads its weights into the layers that it stands for.
    fast = [
        Sequential([Input((6, 3)), CuDNNLSTM(5, return_sequences=True), CuDNNGRU(4), Dense(2)]),
        Sequential([Input((6, 3)), Bidirectional(CuDNNLSTM(4), merge_mode="ave")]),
    ]
    plain = [
        Sequential([Input((6, 3)), LSTM(5, return_sequences=True), GRU(4), Dense(2)]),
        Sequential([Input((6, 3)), Bidirectional(LSTM(4), merge_mode="ave")]),
    ]
    for name, model, same in zip(("cudnn", "cudnn_bidirectional"), fast, plain):
        model.set_weights([rng.normal(0.0, 0.6, array.shape).astype(np.float32) for array in model.get_weights()])
        model.save_weights(FOLDER / f"{name}.weights-only.h5")
        if name == "cudnn":
            model.save(FOLDER / "cudnn.h5")
        same.load_weights(FOLDER / f"{name}.weights-only.h5")
        save(name, same, ".json")

    masks()
    images()
    np.savez_compressed(FOLDER / "expected.npz", **expected)
    print(tf.__version__, sum(path.stat().st_size for path in FOLDER.iterdir()) // 1024, "KB")


if __name__ == "__main__":
    main()
