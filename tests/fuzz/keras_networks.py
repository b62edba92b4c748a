"""Random functional Keras networks over sequences, frames and vectors, of layers and functions in any order."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras import layers, ops

import cylstm

from tests.fuzz import memory_folder
from tests.fuzz.against_frameworks import CannotExportError, Drawn, moved_by_last_bits, outputs_of
from tests.fuzz.dice import Dice

_CURVES = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "softsign", "elu", "selu", "softplus", "gelu", "silu",
           "leaky_relu", "relu6", "exponential", "mish")  # fmt: skip
#: of a cell, which an activation without bound would let grow
_OF_CELLS = ("tanh", "tanh", "tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "softsign", "elu", "softplus")
_Maker = Callable[[Dice, Any], Any]


# ---- over sequences, (batch, time, features) ----


def _recurrent_layer(d: Dice, **options: Any) -> Any:
    given: dict[str, Any] = {
        "return_sequences": d.often(0.75),
        "go_backwards": d.often(0.2),
        "use_bias": d.often(0.85),
        "activation": d.one_of(_OF_CELLS),
        "zero_output_for_mask": d.often(0.2),
    }
    if d.often(0.2):
        given |= {"dropout": 0.2, "recurrent_dropout": 0.1}
    given |= options
    units, gates = d.whole(1, 9), d.one_of(["sigmoid", "sigmoid", "hard_sigmoid", "tanh"])
    makers = [
        lambda: layers.LSTM(units, recurrent_activation=gates, unit_forget_bias=d.often(), **given),
        lambda: layers.GRU(units, recurrent_activation=gates, reset_after=d.often(), **given),
        lambda: layers.SimpleRNN(units, **given),
    ]
    return d.one_of([makers[0], *makers])()


def _again(layer: Any, **options: Any) -> Any:
    """Another layer of the same kind and size."""
    return type(layer).from_config({**layer.get_config(), "name": None, **options})


def _recurrent(d: Dice, x: Any) -> Any:
    return _recurrent_layer(d)(x)


def _bidirectional(d: Dice, x: Any) -> Any:
    layer = _recurrent_layer(d, go_backwards=False)
    options: dict[str, Any] = {"merge_mode": d.one_of(["concat", "sum", "mul", "ave"])}
    if d.often(0.2):
        options["backward_layer"] = _again(layer, go_backwards=True)
    if d.often(0.2):
        return d.one_of(layers.Bidirectional(_again(layer, return_state=True), merge_mode="concat")(x))
    return layers.Bidirectional(layer, **options)(x)


def _states(d: Dice, x: Any) -> Any:
    """A state, or a second layer that begins at the states of a first."""
    layer = _recurrent_layer(d, return_state=True)
    y, *states = layer(x)
    if d.often(0.3):
        return d.one_of([y, *states])
    return _again(layer, return_state=False, go_backwards=False)(x, initial_state=states)


def _cells(d: Dice, x: Any) -> Any:
    cells = [
        d.one_of([layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell])(d.whole(1, 6)) for _ in range(d.whole(1, 3))
    ]
    of_one = cells if len(cells) > 1 else cells[0]
    return layers.RNN(of_one, return_sequences=d.often(0.7), go_backwards=d.often(0.2))(x)


def _convolution(d: Dice, x: Any) -> Any:
    features = x.shape[2]
    stride, groups, padding = d.whole(1, 3), d.one_of([1, 1, features]), d.one_of(["valid", "same", "causal"])
    dilation = d.whole(1, 3) if stride == 1 else 1
    taps, symmetric = d.whole(1, 4), d.one_of(["valid", "same"])
    options = {"activation": d.one_of(_CURVES), "use_bias": d.often(0.8)}
    makers = [
        lambda: layers.Conv1D(
            groups * d.whole(1, 4), taps, stride, padding, dilation_rate=dilation, groups=groups, **options
        ),
        lambda: layers.SeparableConv1D(d.whole(1, 6), taps, padding=padding, depth_multiplier=d.whole(1, 2)),
        lambda: layers.DepthwiseConv1D(taps, d.whole(1, 2), symmetric, depth_multiplier=d.whole(1, 2)),
        lambda: layers.Conv1DTranspose(d.whole(1, 5), taps, stride, symmetric),
    ]
    return d.one_of([makers[0], *makers])()(x)


def _pooling(d: Dice, x: Any) -> Any:
    if d.often(0.3):
        return d.one_of([layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D])(keepdims=d.often(0.3))(x)
    size, strides = d.whole(1, 3), d.one_of([None, 1, 2])
    if d.often():
        return layers.MaxPooling1D(size, strides, d.one_of(["valid", "same"]))(x)
    # with padding="same" Keras on PyTorch has other averages than on TensorFlow and JAX, and a file does not say which
    return layers.AveragePooling1D(size, strides)(x)


def _norm(d: Dice, x: Any) -> Any:
    parts = {"center": d.often(0.8), "scale": d.often(0.8)}
    divisors = [groups for groups in range(1, x.shape[2] + 1) if x.shape[2] % groups == 0]
    makers = [
        lambda: layers.LayerNormalization(epsilon=1e-3, **parts),
        lambda: layers.BatchNormalization(**parts),
        lambda: layers.GroupNormalization(d.one_of(divisors)),
        lambda: layers.UnitNormalization(),
        lambda: layers.RMSNormalization(),
    ]
    return d.one_of(makers)()(x)


def _per_step(d: Dice, x: Any) -> Any:
    units, curve = d.whole(1, 8), d.one_of(_CURVES)
    makers = [
        lambda: layers.Dense(units, curve, use_bias=d.often(0.8)),
        lambda: layers.TimeDistributed(layers.Dense(units, curve)),
        lambda: layers.EinsumDense("btf,fo->bto", (None, units), bias_axes="o"),
        lambda: layers.Activation(curve),
        lambda: layers.LeakyReLU(negative_slope=0.2),
        lambda: layers.PReLU(shared_axes=[1]),
        lambda: layers.ReLU(d.one_of([None, 1.0]), d.one_of([0.0, 0.1]), d.one_of([0.0, 0.2])),
        lambda: layers.Softmax(d.one_of([-1, 1, 2])),
        lambda: layers.Masking(0.0),
    ]
    return d.one_of(makers)()(x)


def _inert(d: Dice, x: Any) -> Any:
    makers = [layers.Dropout, layers.SpatialDropout1D, layers.GaussianNoise, layers.GaussianDropout]
    return d.one_of([*(lambda maker=maker: maker(0.3) for maker in makers), layers.Identity])()(x)


def _moved(d: Dice, x: Any) -> Any:
    steps, features = x.shape[1:]
    makers = [
        lambda: layers.ZeroPadding1D(d.one_of([1, (0, 2), (2, 1)])),
        lambda: layers.Cropping1D(d.one_of([1, (0, 1), (1, 0)])),
        lambda: layers.UpSampling1D(d.whole(1, 3)),
        lambda: layers.Permute((2, 1)),
    ]
    if steps:
        makers += [lambda: layers.Flatten(), lambda: layers.Reshape((features, steps)), lambda: layers.Reshape((-1, 1))]
    return d.one_of(makers)()(x)


def _attention(d: Dice, x: Any) -> Any:
    causal = d.often(0.4)
    if d.often():
        layer = layers.MultiHeadAttention(d.whole(1, 3), d.whole(1, 4), use_bias=d.often(0.8))
        return layer(x, x, use_causal_mask=causal)
    makers = [lambda: layers.Attention(d.often(), d.one_of(["dot", "concat"])), lambda: layers.AdditiveAttention()]
    return d.one_of(makers)()([x, x], use_causal_mask=causal)


def _inner_network(d: Dice, x: Any) -> Any:
    """A network in the network, or one layer twice."""
    if d.often(0.3):
        layer = _recurrent_layer(d, return_sequences=True)
        y = layer(x)
        return layer(y) if y.shape[-1] == x.shape[-1] else y
    makers = [
        lambda: layers.Dense(d.whole(1, 5), "tanh"),
        lambda: layers.LayerNormalization(),
        lambda: _recurrent_layer(d, return_sequences=True),
        lambda: layers.Conv1D(d.whole(1, 4), 2, padding="same"),
    ]
    return keras.Sequential([d.one_of(makers)() for _ in range(d.whole(1, 3))])(x)


_FUNCTIONS: Sequence[Callable[[Any], Any]] = (
    lambda x: x[:, -1],
    lambda x: x[:, 0],
    lambda x: x[:, ::2],
    lambda x: x[:, 1:],
    lambda x: x[:, :-1],
    lambda x: x[..., :1],
    lambda x: x[:, -1:, :],
    lambda x: x[:, -1] - x[:, 0],
    lambda x: ops.mean(x, axis=1),
    lambda x: ops.max(x, axis=-1, keepdims=True),
    lambda x: ops.sum(x, axis=1, keepdims=True),
    lambda x: ops.std(x, axis=-1),
    lambda x: ops.var(x, axis=1),
    lambda x: ops.logsumexp(x, axis=-1, keepdims=True),
    lambda x: ops.cumsum(x, axis=1),
    lambda x: ops.tanh(x) * 2 - 1,
    lambda x: ops.abs(x),
    lambda x: x * x,
    lambda x: ops.clip(x, -0.5, 0.5),
    lambda x: ops.log1p(ops.abs(x)),
    lambda x: ops.where(x > 0, x, -x * 0.3),
    lambda x: ops.softmax(x, axis=-1),
    lambda x: ops.sort(x, axis=-1),
    lambda x: ops.flip(x, axis=1),
    lambda x: ops.roll(x, 1, axis=1),
    lambda x: ops.transpose(x, (0, 2, 1)),
    lambda x: ops.expand_dims(x, 1),
    lambda x: ops.squeeze(x[:, :1], 1),
    lambda x: ops.stack([x, x * 2], axis=-1),
    lambda x: ops.repeat(x, 2, axis=2),
    lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 0))),
    lambda x: ops.concatenate([x[:, 1:], x[:, :-1]], axis=-1),
    lambda x: ops.split(x, [1], axis=-1)[0],
    lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    lambda x: ops.einsum("btf,bsf->bts", x, x),
)


def _function(d: Dice, x: Any) -> Any:
    return d.one_of(_FUNCTIONS)(x)


# ---- over vectors, (batch, features), and frames, (batch, time, rows, features) ----


def _vector(d: Dice, x: Any) -> Any:
    makers = [
        lambda: layers.Dense(d.whole(1, 8), d.one_of(_CURVES), use_bias=d.often(0.8)),
        lambda: layers.RepeatVector(d.whole(1, 6)),
        lambda: layers.Activation(d.one_of([*_CURVES, "softmax"])),
        lambda: layers.BatchNormalization(),
        lambda: layers.LayerNormalization(),
        lambda: layers.Reshape((x.shape[1], 1)),
        lambda: layers.Reshape((1, x.shape[1])),
        lambda: layers.PReLU(),
        lambda: lambda x: ops.expand_dims(x, -1),
        lambda: lambda x: x * 2.5 - 1,
        lambda: lambda x: ops.mean(x, axis=1, keepdims=True),
        lambda: lambda x: ops.concatenate([x, -x], axis=1),
    ]
    return d.one_of(makers)()(x)


def _frames(d: Dice, x: Any) -> Any:
    padding, wide = d.one_of(["valid", "same"]), d.one_of(["valid", "same", "causal"])
    filters, taps = d.whole(1, 4), d.whole(1, 3)
    makers = [
        lambda: layers.Conv2D(filters, taps, d.whole(1, 2), padding, activation=d.one_of(_CURVES)),
        lambda: layers.DepthwiseConv2D(taps, padding=padding),
        lambda: layers.TimeDistributed(layers.Conv1D(filters, taps, padding=wide)),
        lambda: layers.TimeDistributed(d.one_of([layers.Flatten, layers.GlobalAveragePooling1D])()),
        lambda: layers.TimeDistributed(_recurrent_layer(d)),
        lambda: layers.ConvLSTM1D(
            filters, taps, d.whole(1, 2), padding, return_sequences=d.often(0.7), go_backwards=d.often(0.2)
        ),
        lambda: layers.MaxPooling2D(d.whole(1, 2), padding=padding),
        lambda: layers.AveragePooling2D(d.whole(1, 2)),
        lambda: d.one_of([layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D])(),
        lambda: layers.BatchNormalization(),
        lambda: layers.Permute(d.one_of([(2, 1, 3), (1, 3, 2), (3, 1, 2)])),
        lambda: layers.Reshape((-1, x.shape[2] * x.shape[3])),
        lambda: layers.UpSampling2D((1, 2)),
        lambda: layers.ZeroPadding2D((1, 0)),
        lambda: lambda x: ops.mean(x, axis=2),
        lambda: lambda x: x[:, :, 0],
        lambda: lambda x: x[:, -1],
    ]
    return d.one_of(makers)()(x)


def _merged(d: Dice, x: Any, others: Sequence[Any]) -> Any:
    y = d.one_of([other for other in others if other.shape == x.shape])
    makers = [layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum]
    choices = [lambda maker=maker: maker()([x, y]) for maker in makers]
    choices += [
        lambda: layers.Concatenate(d.one_of([-1, 1]))([x, y]),
        lambda: layers.Dot(d.one_of([2, 1]), normalize=d.often())([x, y]),
        lambda: x * ops.sigmoid(y),
        lambda: ops.maximum(x, y),
    ]
    return d.one_of(choices)()


#: what is made over sequences, some of it more often
_MAKERS: Sequence[_Maker] = (
    *[_recurrent] * 5, *[_bidirectional] * 3, _states, _cells, *[_convolution] * 3, _pooling, _pooling, _norm, _norm,
    *[_per_step] * 4, _inert, _moved, _moved, _attention, _inner_network, *[_function] * 4,
)  # fmt: skip


# ---- networks ----


def _inputs(d: Dice, steps: int | None) -> tuple[list[Any], list[Any]]:
    """The inputs of a network, and what its layers may read."""
    if d.often(0.1):
        indices = keras.Input((steps,), dtype="int32")
        return [indices], [layers.Embedding(d.whole(3, 9), d.whole(1, 5), mask_zero=d.often())(indices)]
    inner = (d.whole(2, 5), d.whole(1, 3)) if d.often(0.1) else (d.whole(1, 6),)
    inputs = [keras.Input((steps, *inner))]
    values = list(inputs)
    if d.often(0.25) and len(inner) == 1:
        values.append(layers.Masking(d.one_of([0.0, 0.0, -1.0]))(inputs[0]))
    if d.often(0.1):
        inputs.append(keras.Input((steps, d.whole(1, 6))))
        values.append(inputs[1])
    return inputs, values


def _network(d: Dice) -> Any:
    inputs, values = _inputs(d, d.one_of([None, None, None, d.whole(3, 10)]))
    for _ in range(d.whole(1, 6)):
        x = values[-1] if d.often(0.75) else d.one_of(values)
        maker = {2: _vector, 3: d.one_of(_MAKERS), 4: _frames}[len(x.shape)]
        try:
            y = _merged(d, x, values) if d.often(0.15) else maker(d, x)
        except Exception:  # what Keras says of layers that do not fit is of many kinds
            continue
        if len(y.shape) in (2, 3, 4) and all(size is None or size > 0 for size in y.shape):
            values.append(y)
    outputs = [values[-1], *([d.one_of(values)] if d.often(0.2) else [])]
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


def _weight(rng: np.random.Generator, tensor: Any) -> np.ndarray:
    """Random numbers for a tensor, none of them as it was made."""
    scale = 0.5 if len(tensor.shape) < 2 else 1 / np.sqrt(max(1, np.prod(tensor.shape[:-1])))
    array = (rng.normal(size=tensor.shape) * scale).astype(np.float32)
    return np.abs(array) + np.float32(0.3) if "variance" in tensor.path else array


def _rows(d: Dice, given: Any, batch: int, steps: int) -> np.ndarray:
    """An input, some of whose steps a layer may mask."""
    shape = (batch, *(steps if size is None else size for size in given.shape[1:]))
    if given.dtype == "int32":
        return d.rng.integers(0, 3, shape).astype(np.int32)
    array = d.rng.normal(size=shape).astype(np.float32)
    if d.often(0.7):
        at_the_end = np.arange(shape[1]) >= d.rng.integers(1, shape[1] + 1, batch)[:, None]
        array[at_the_end if d.often() else d.rng.random(shape[:2]) < 0.35] = 0.0 if d.often(0.8) else -1.0
    return array


def _text(model: Any) -> str:
    lines = []
    for layer in model.layers:
        read = [f"{one.name}{one.shape}" for node in layer._inbound_nodes[:1] for one in node.input_tensors]
        lines.append(f"  {type(layer).__name__} {layer.name} of {', '.join(read)}: {layer.get_config()!s:.500}")
    return "\n".join(lines)


def draw(d: Dice) -> Drawn:
    """A network with a time that is open, or of 3 to 10 steps."""
    keras.utils.set_random_seed(d.whole(0, 2**30))
    model = _network(d)
    weights = [tensor for tensor in model.weights if "seed" not in tensor.path]
    for tensor in weights:
        tensor.assign(_weight(d.rng, tensor))

    def inputs(batch: int, steps: int | None) -> list[np.ndarray]:
        return [_rows(d, given, batch, steps or 20) for given in model.inputs]

    def compute(arrays: list[np.ndarray], *, moved: bool = False) -> list[np.ndarray]:
        if not moved:
            found = model(arrays if len(arrays) > 1 else arrays[0], training=False)
            return outputs_of(found, ops.convert_to_numpy)
        kept = [np.array(ops.convert_to_numpy(tensor)) for tensor in weights]
        try:
            for tensor, array in zip(weights, kept):
                tensor.assign(moved_by_last_bits(d.rng, array))
            return compute([a if a.dtype == np.int32 else moved_by_last_bits(d.rng, a) for a in arrays])
        finally:
            for tensor, array in zip(weights, kept):
                tensor.assign(array)

    def saved(ending: str) -> cylstm.Model:
        with tempfile.TemporaryDirectory(prefix="cylstm-fuzz-", dir=memory_folder()) as folder:
            path = Path(folder, f"network.{ending}")
            try:
                with contextlib.redirect_stderr(None):
                    model.save(path)
            except Exception as error:
                raise CannotExportError from error
            return cylstm.load(path)

    ways = {"from_keras": lambda: cylstm.from_keras(model)}
    if d.often(0.2):
        ways[".keras"] = lambda: saved("keras")
    if d.often(0.2):
        ways[".h5"] = lambda: saved("h5")
    return Drawn(inputs, compute, ways, _text(model))
