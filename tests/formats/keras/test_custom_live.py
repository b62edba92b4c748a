"""Custom layers and Lambdas of live models and of files, with the functions of docs/custom-layers.md, against Keras."""

import re

import numpy as np
import pytest

import cylstm
from cylstm import program as xp

from tests import ROOT

keras = pytest.importorskip("keras")
layers, ops = keras.layers, keras.ops

pytestmark = pytest.mark.frameworks

TIME, FEATURES = 9, 6


def documented():
    """What the examples of the page define."""
    text = (ROOT / "docs" / "custom-layers.md").read_text(encoding="utf-8")
    found = {}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec("\n".join(block for block in blocks if block.startswith(("from ", "def ", "custom_layers"))), found)
    return found


DOCUMENTED = documented()


@keras.saving.register_keras_serializable(package="tutorials")
class AttentionWeightedAverage(layers.Layer):
    def __init__(self, return_attention=False, **kwargs):
        super().__init__(**kwargs)
        self.return_attention = return_attention
        self.supports_masking = True

    def build(self, shape):
        self.W = self.add_weight(shape=(shape[-1], 1), initializer="random_normal", name="W")

    def call(self, x, mask=None):
        logits = ops.squeeze(ops.matmul(x, self.W), axis=-1)
        ai = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
        if mask is not None:
            ai = ai * ops.cast(mask, "float32")
        weights = ai / (ops.sum(ai, axis=1, keepdims=True) + 1e-7)
        result = ops.sum(x * ops.expand_dims(weights, -1), axis=1)
        return (result, weights) if self.return_attention else result

    def compute_mask(self, x, mask=None):
        return [None, None] if self.return_attention else None

    def get_config(self):
        return {**super().get_config(), "return_attention": self.return_attention}


class AttentionWithContext(layers.Layer):
    def build(self, shape):
        self.W = self.add_weight(shape=(shape[-1], shape[-1]), initializer="random_normal", name="W")
        self.b = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="b")
        self.u = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="u")

    def call(self, x):
        a = ops.softmax(ops.matmul(ops.tanh(ops.matmul(x, self.W) + self.b), self.u), axis=1)
        return ops.sum(x * ops.expand_dims(a, -1), axis=1)


class BahdanauAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.W1, self.W2, self.V = (
            layers.Dense(n, bias_initializer="random_normal") for n in (units, units, 1)
        )  # fmt: skip

    def build(self, query_shape, values_shape):
        self.W1.build((query_shape[0], 1, query_shape[1]))
        self.W2.build(values_shape)
        self.V.build((None, None, self.units))

    def call(self, query, values):
        score = self.V(ops.tanh(self.W1(ops.expand_dims(query, 1)) + self.W2(values)))
        weights = ops.softmax(score, axis=1)
        return ops.sum(weights * values, axis=1), weights

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class DotAttention(layers.Layer):
    def build(self, shape):
        self.q, self.k, self.v = (
            self.add_weight(shape=(shape[-1], n), initializer="random_normal", name=name)
            for name, n in (("q", 4), ("k", 4), ("v", 5))
        )

    def call(self, x):
        q, k, v = (ops.matmul(x, w) for w in (self.q, self.k, self.v))
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) / ops.sqrt(4.0)
        return ops.matmul(ops.softmax(scores, axis=-1), v)


class SqueezeExcite(layers.Layer):
    def build(self, shape):
        n = shape[-1]
        self.w1 = self.add_weight(shape=(n, 2), initializer="random_normal", name="w1")
        self.b1 = self.add_weight(shape=(2,), initializer="random_normal", name="b1")
        self.w2 = self.add_weight(shape=(2, n), initializer="random_normal", name="w2")
        self.b2 = self.add_weight(shape=(n,), initializer="random_normal", name="b2")

    def call(self, x):
        s = ops.relu(ops.matmul(ops.mean(x, axis=1), self.w1) + self.b1)
        return x * ops.expand_dims(ops.sigmoid(ops.matmul(s, self.w2) + self.b2), 1)


class Time2Vec(layers.Layer):
    def build(self, shape):
        n = shape[-1]
        self.w0 = self.add_weight(shape=(n,), initializer="random_normal", name="w0")
        self.b0 = self.add_weight(shape=(n,), initializer="random_normal", name="b0")
        self.w = self.add_weight(shape=(n, 3), initializer="random_normal", name="w")
        self.b = self.add_weight(shape=(3,), initializer="random_normal", name="b")

    def call(self, x):
        return ops.concatenate([x * self.w0 + self.b0, ops.sin(ops.tensordot(x, self.w, axes=1) + self.b)], axis=-1)


class MixtureHead(layers.Layer):
    def __init__(self, components, **kwargs):
        super().__init__(**kwargs)
        self.components = components

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3 * self.components), initializer="random_normal", name="w")
        self.b = self.add_weight(shape=(3 * self.components,), initializer="random_normal", name="b")

    def call(self, x):
        y, n = ops.matmul(x, self.w) + self.b, self.components
        return ops.concatenate([ops.softmax(y[:, :n], axis=-1), y[:, n : 2 * n], ops.exp(y[:, 2 * n :])], axis=-1)

    def get_config(self):
        return {**super().get_config(), "components": self.components}


class MinimalGatedCell(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="random_normal", name="w")
        self.u = self.add_weight(shape=(self.units, self.units), initializer="random_normal", name="u")
        self.built = True

    def call(self, x, states, training=None):
        f = ops.sigmoid(x @ self.w + states[0] @ self.u)
        h = f * states[0] + (1 - f) * ops.tanh(x @ self.w)
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class MinimalGated(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.rnn = layers.RNN(MinimalGatedCell(units), return_sequences=True)

    def build(self, shape):
        self.rnn.build(shape)

    def call(self, x):
        return self.rnn(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def weighted_average():
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(
        x, layers.Dense(3)(AttentionWeightedAverage(name="att")(layers.LSTM(5, return_sequences=True)(x)))
    )


def masked_average():
    x = keras.Input((None, FEATURES), name="x")
    h = layers.LSTM(5, return_sequences=True)(layers.Masking()(x))
    return keras.Model(x, list(AttentionWeightedAverage(return_attention=True, name="att")(h)))


def context():
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, layers.Dense(3)(AttentionWithContext()(layers.GRU(5, return_sequences=True)(x))))


def bahdanau():
    x = keras.Input((None, FEATURES), name="x")
    values, state = layers.GRU(5, return_sequences=True, return_state=True)(x)
    summary, weights = BahdanauAttention(4, name="bahdanau")(state, values)
    return keras.Model(x, [layers.Dense(3)(summary), weights])


def dot():
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, layers.LSTM(4)(DotAttention(name="dot")(x)))


def excite():
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, layers.LSTM(4)(SqueezeExcite(name="se")(layers.Conv1D(7, 3)(x))))


def periods():
    x = keras.Input((TIME, FEATURES), name="x")
    return keras.Model(x, layers.LSTM(4, return_sequences=True)(Time2Vec(name="t2v")(x)))


def mixture():
    x = keras.Input((None, FEATURES), name="x")
    return keras.Model(x, MixtureHead(4, name="mdn")(layers.LSTM(5)(x)))


def cell():
    x = keras.Input((TIME, FEATURES), name="x")
    return keras.Model(x, layers.Dense(2)(MinimalGated(5, name="gated")(x)))


def average():
    return keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            layers.LSTM(5, return_sequences=True),
            layers.Lambda(lambda x: ops.mean(x, axis=1), name="average"),
            layers.Dense(2),
        ]
    )


FUNCTIONS = {
    "AttentionWeightedAverage": DOCUMENTED["attention_weighted_average"],
    "AttentionWithContext": DOCUMENTED["attention_with_context"],
    "BahdanauAttention": DOCUMENTED["bahdanau_attention"],
    "DotAttention": DOCUMENTED["dot_attention"],
    "SqueezeExcite": DOCUMENTED["squeeze_excite"],
    "Time2Vec": DOCUMENTED["time2vec"],
    "MixtureHead": DOCUMENTED["mixture_head"],
    "MinimalGated": DOCUMENTED["minimal_gated"],
    **DOCUMENTED["custom_layers"],
}

NETWORKS = {
    weighted_average: "AttentionWeightedAverage",
    masked_average: "AttentionWeightedAverage",
    context: "AttentionWithContext",
    bahdanau: "BahdanauAttention",
    dot: "DotAttention",
    excite: "SqueezeExcite",
    periods: "Time2Vec",
    mixture: "MixtureHead",
    cell: "MinimalGated",
    average: "average",
}


def randomized(model):
    rng = np.random.default_rng(7)
    model.set_weights([rng.standard_normal(w.shape).astype(np.float32) * 0.4 for w in model.get_weights()])
    return model


def rows(masked=False):
    x = np.random.default_rng(3).standard_normal((3, TIME, FEATURES)).astype(np.float32)
    if masked:
        x[1, 5:] = 0.0
        x[2, 3:] = 0.0
    return x


def outputs(found):
    return [np.asarray(one) for one in (found if isinstance(found, (list, tuple)) else [found])]


def assert_close(found, expected):
    for a, b in zip(outputs(found), outputs(expected), strict=True):
        b = ops.convert_to_numpy(b) if hasattr(b, "numpy") else b
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_cell_of_ones_own_is_refused_with_what_to_do():
    model = keras.Sequential([keras.Input((TIME, FEATURES)), layers.RNN(MinimalGatedCell(5))])
    with pytest.raises(
        cylstm.UnsupportedError, match="cells of class MinimalGatedCell.*layer of your own.*custom_layers="
    ):
        cylstm.from_keras(model, custom_layers={})


@pytest.mark.parametrize("where", ["live", ".keras", ".h5"])
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_the_functions_of_the_page_give_the_numbers_of_keras(tmp_path, make, where):
    model = randomized(make())
    custom = {NETWORKS[make]: FUNCTIONS[NETWORKS[make]]}
    if make is bahdanau and where == ".h5":
        # the weights of the Dense layers in it are called by their names there, which count up
        def renamed(x, weights, config):
            names = [name for name in weights if name.endswith(("kernel", "bias"))]
            found = dict(zip(("W1/var0", "W1/var1", "W2/var0", "W2/var1", "V/var0", "V/var1"), names, strict=True))
            return FUNCTIONS["BahdanauAttention"](x, {key: weights[name] for key, name in found.items()}, config)

        custom = {"BahdanauAttention": renamed}
    x = rows(make is masked_average)
    if where == "live":
        ours = cylstm.from_keras(model, custom_layers=custom)
    else:
        path = tmp_path / f"model{where}"
        model.save(path)
        ours = cylstm.load(path, custom_layers=custom)
    found = ours.predict(x)
    assert_close(found, model.predict(x, verbose=0))
    ours.save(tmp_path / "model.cylstm")
    for a, b in zip(outputs(cylstm.load(tmp_path / "model.cylstm").predict(x)), outputs(found)):
        assert (a == b).all()


class Gate(layers.Layer):
    """A custom layer of several inputs, an option of the call and a mask for each input."""

    def build(self, shapes):
        self.w = self.add_weight(shape=(shapes[0][-1], shapes[1][-1]), initializer="random_normal", name="w")
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs, mask=None, power=1.0):
        x, y = inputs
        gate = ops.sigmoid(ops.matmul(x, self.w)) ** power
        if mask is not None and mask[0] is not None:
            gate = gate * ops.cast(mask[0], "float32")[:, :, None]
        return gate * y


def gate(x, weights, config, mask=None, power=1.0):
    x, y = x
    gates = xp.sigmoid(x @ weights["var0"]) ** power
    if mask[0] is not None:
        gates = gates * xp.astype(mask[0], "float32")[:, :, None]
    return gates * y


gate.supports_masking = False


def compared(tmp_path, model, custom, x):
    """A live model and its files against Keras."""
    model = randomized(model)
    expected = model.predict(x, verbose=0)
    found = [cylstm.from_keras(model, custom_layers=custom)]
    for extension in (".keras", ".h5"):
        model.save(tmp_path / f"model{extension}")
        found.append(cylstm.load(tmp_path / f"model{extension}", custom_layers=custom))
    model.save_weights(tmp_path / "model.weights.h5")
    options = {"architecture": model.to_json(), "custom_layers": custom}
    found.append(cylstm.load(tmp_path / "model.weights.h5", **options))
    for ours in found:
        assert_close(ours.predict(x), expected)
    return found[0]


def test_a_layer_of_two_inputs_called_twice_shares_its_weights(tmp_path):
    x, shared = keras.Input((TIME, FEATURES), name="x"), Gate(name="gate")
    a = layers.LSTM(FEATURES, return_sequences=True)(layers.Masking()(x))
    y = shared([a, x], power=2.0)
    y = layers.Dense(3)(shared([y, x]))
    ours = compared(tmp_path, keras.Model(x, y), {"Gate": gate}, rows(masked=True))
    tensors = {name for layer in ours.graph.layers if layer.name.startswith("gate") for name in layer.weights.values()}
    assert (
        sum(array.shape == (FEATURES, FEATURES) for name, array in ours.graph.tensors.items() if name in tensors) == 1
    )


def test_a_custom_layer_inside_a_model_and_on_every_frame(tmp_path):
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), DotAttention(name="dot"), layers.Dense(4)], name="inner")
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.TimeDistributed(layers.Lambda(lambda one: one * one, name="square"))(inner(x))
    custom = {"DotAttention": FUNCTIONS["DotAttention"], "square": lambda x, weights, config: x * x}
    compared(tmp_path, keras.Model(x, y), custom, rows())


def test_frozen_and_unfrozen_layers_around_a_custom_one_keep_their_weights(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            layers.LSTM(5, return_sequences=True, trainable=False),
            AttentionWithContext(),
            layers.Lambda(lambda x: ops.tanh(x), name="squash"),
            layers.Dense(3),
        ]
    )
    custom = {
        "AttentionWithContext": FUNCTIONS["AttentionWithContext"],
        "squash": lambda x, weights, config: xp.tanh(x),
    }
    compared(tmp_path, model, custom, rows())


def test_an_encoder_decoder_of_keras_comes_apart():
    x, words = keras.Input((None, FEATURES), name="x"), keras.Input((None, 4), name="words")
    _, h, c = layers.LSTM(5, return_state=True, name="encoder")(x)
    y, _, _ = layers.LSTM(5, return_sequences=True, return_state=True, name="decoder")(words, initial_state=[h, c])
    model = randomized(keras.Model([x, words], layers.Dense(4, activation="softmax", name="next")(y)))
    ours = cylstm.from_keras(model)
    encoder = ours.extract("x", ["encoder.h", "encoder.c"])
    decoder = ours.extract(["words", "encoder.h", "encoder.c"], ["next", "decoder.h", "decoder.c"])
    given = np.random.default_rng(4).standard_normal((3, 6, 4)).astype(np.float32)
    states, found = encoder.predict(rows()), []
    for t in range(6):
        y, *states = decoder.predict([given[:, t : t + 1], *states])
        found.append(y)
    assert_close(np.concatenate(found, axis=1), model.predict([rows(), given], verbose=0))


def test_inputs_by_name_come_behind_the_first_or_by_their_names(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    values, state = layers.GRU(5, return_sequences=True, return_state=True)(x)
    summary, _ = BahdanauAttention(4, name="bahdanau")(state, values=values)
    model = randomized(keras.Model(x, layers.Dense(3)(summary)))
    function = FUNCTIONS["BahdanauAttention"]

    def named(x, weights, config, values=None):
        return function([x, values], weights, config)

    for one in (function, named):
        ours = cylstm.from_keras(model, custom_layers={"BahdanauAttention": one})
        assert_close(ours.predict(rows()), model.predict(rows(), verbose=0))


def test_a_state_of_several_axes_is_no_input_of_a_part():
    x = keras.Input((4, 8, 3), name="x")
    _, h, _ = layers.ConvLSTM1D(2, 3, return_state=True, name="rnn")(x)
    model = cylstm.from_keras(randomized(keras.Model(x, layers.Dense(3, name="fc")(layers.Flatten()(h)))))
    with pytest.raises(cylstm.ArgumentError, match=r"'rnn.h' \(batch, 6, 2\) has several axes and no time"):
        model.extract("rnn.h")


def test_two_inputs_of_open_length_that_meet_in_a_custom_layer_have_one_time():
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, 4), name="y")
    model = randomized(keras.Model([x, y], layers.LSTM(3)(Gate(name="gate")([x, y]))))
    ours = cylstm.from_keras(model, custom_layers={"Gate": gate})
    given = [rows(), np.random.default_rng(4).standard_normal((3, TIME, 4)).astype(np.float32)]
    assert_close(ours.predict(given), model.predict(given, verbose=0))


def test_operations_and_custom_layers_read_each_other(tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    h = ops.transpose(Time2Vec(name="t2v")(ops.tanh(x)) * 2.0, (0, 2, 1))
    model = keras.Model(x, ops.sum(DotAttention(name="dot")(h), axis=1))
    compared(tmp_path, model, {name: FUNCTIONS[name] for name in ("Time2Vec", "DotAttention")}, rows())


def test_a_time_of_any_length_without_features_is_no_input_of_a_layer():
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, layers.Activation("softmax", name="soft")(ops.sum(x, axis=-1)))
    with pytest.raises(cylstm.ShapeError, match="needs the number of steps in advance"):
        cylstm.from_keras(model)
