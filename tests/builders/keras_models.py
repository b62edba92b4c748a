"""Whole Keras models, Sequential and Functional, over the layers that are computed and their options; seeded.

`MODELS` maps a name to a function of ``(keras, rng)`` that returns a model; `arrays` makes its inputs and `masked` the
positions that Masking or ``mask_zero`` leave out. Sizes are small and all different.
"""

import numpy as np

from tests.builders.configurations import seed

TIME, BATCH, FEATURES, WORDS = 12, 3, 4, 11

MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def sequential(name, shape, parts):
    """Register a Sequential of ``parts(layers)``."""

    def make(keras, rng):
        return keras.Sequential([keras.Input(shape), *parts(keras.layers)])

    MODELS[name] = make


def build(keras, name):
    """The model of a name, with random weights, all different."""
    rng = np.random.default_rng(seed(name))
    keras.utils.set_random_seed(seed(name) % 2**31)
    keras.backend.clear_session()
    made = MODELS[name](keras, rng)
    for variable in made.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ("count", "g_idx") or variable.dtype != "float32":
            continue
        if kind.endswith("_scale"):
            # of quantised numbers
            variable.assign(np.asarray(keras.ops.convert_to_numpy(variable)) * rng.uniform(0.9, 1.1, variable.shape))
            continue
        low, high = {"moving_variance": (0.3, 1.5), "variance": (0.3, 1.5), "gamma": (0.5, 1.5)}.get(kind, (-0.4, 0.4))
        variable.assign(rng.uniform(low, high, variable.shape).astype(np.float32))
    return made


def arrays(made, name, batch=BATCH):
    """An array for each input: numbers whose last steps are 0 in all rows but the first, or indices likewise."""
    rng = np.random.default_rng(seed("input", name))
    found = []
    for tensor in made.inputs:
        shape = [TIME if size is None else size for size in tensor.shape[1:]]
        is_index = "int" in tensor.dtype or getattr(made, "indices", False)
        if is_index:
            x = rng.integers(1, WORDS, (batch, *shape)).astype(np.int32)
        else:
            x = rng.normal(size=(batch, *shape)).astype(np.float32)
        if (is_index or len(shape) > 1) and shape[0] > 4:
            for row in range(1, batch):
                x[row, shape[0] - 2 * row :] = 0
            x[-1, 1] = 0
        found.append(x)
    return found


# Every layer around a recurrent one, and its options

CONVOLUTIONS = {
    "valid": {},
    "same_stride": {"padding": "same", "strides": 2},
    "same_even": {"padding": "same", "kernel_size": 4},
    "causal_dilated": {"padding": "causal", "dilation_rate": 2},
    "causal_stride": {"padding": "causal", "strides": 3, "kernel_size": 5},
    "groups": {"groups": 2, "activation": "relu"},
    "plain": {"use_bias": False, "activation": "tanh", "kernel_size": 1},
}
for key, options in CONVOLUTIONS.items():
    sequential(
        f"conv1d_{key}", (None, FEATURES),
        lambda L, options=options: [L.Conv1D(6, **{"kernel_size": 3, **options}), L.LSTM(5), L.Dense(2)],
    )  # fmt: skip
for key, options in {
    "valid": {},
    "multiplier": {"depth_multiplier": 3, "padding": "same", "activation": "relu"},
    "stride": {"strides": 2, "use_bias": False},
}.items():
    sequential(
        f"depthwise_{key}", (None, FEATURES),
        lambda L, options=options: [L.DepthwiseConv1D(3, **options), L.GRU(5)],
    )  # fmt: skip
    sequential(
        f"separable_{key}", (None, FEATURES),
        lambda L, options=options: [L.SeparableConv1D(7, 3, **options), L.SimpleRNN(5)],
    )  # fmt: skip
for key, options in {
    "max": ("MaxPooling1D", {}),
    "max_same": ("MaxPooling1D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    "average": ("AveragePooling1D", {"pool_size": 3}),
    "average_same": ("AveragePooling1D", {"pool_size": 3, "strides": 1, "padding": "same"}),
}.items():
    sequential(
        f"pool_{key}", (None, FEATURES),
        lambda L, options=options: [L.LSTM(5, return_sequences=True), getattr(L, options[0])(**options[1]), L.GRU(3)],
    )  # fmt: skip
for key, options in {
    "max": ("GlobalMaxPooling1D", {}),
    "average": ("GlobalAveragePooling1D", {}),
    "max_kept": ("GlobalMaxPooling1D", {"keepdims": True}),
}.items():
    for masked in (False, True):
        if key == "max_kept" and masked:
            continue
        sequential(
            f"global_{key}{'_masked' if masked else ''}", (None, FEATURES),
            lambda L, options=options, masked=masked: [
                *([L.Masking()] if masked else []),
                L.GRU(5, return_sequences=True), getattr(L, options[0])(**options[1]), L.Dense(3, "softmax"),
            ],
        )  # fmt: skip

PER_STEP = {
    "batch_norm": lambda L: L.BatchNormalization(),
    "batch_norm_plain": lambda L: L.BatchNormalization(scale=False, center=False, epsilon=1e-2),
    "layer_norm": lambda L: L.LayerNormalization(),
    "layer_norm_no_shift": lambda L: L.LayerNormalization(center=False, epsilon=1e-4),
    "layer_norm_rms": lambda L: L.LayerNormalization(rms_scaling=True),
    "rms_norm": lambda L: L.RMSNormalization(),
    "unit_norm": lambda L: L.UnitNormalization(),
    "group_norm": lambda L: L.GroupNormalization(3),
    "instance_norm": lambda L: L.GroupNormalization(-1, scale=False),
    "relu_limited": lambda L: L.ReLU(max_value=0.3),
    "relu_threshold": lambda L: L.ReLU(threshold=0.1),
    "relu_all": lambda L: L.ReLU(max_value=0.4, negative_slope=0.2, threshold=0.15),
    "relu_slope_limited": lambda L: L.ReLU(max_value=0.2, negative_slope=0.3),
    "leaky_relu": lambda L: L.LeakyReLU(0.17),
    "elu": lambda L: L.ELU(0.6),
    "prelu_shared": lambda L: L.PReLU(shared_axes=[1]),
    "prelu_one": lambda L: L.PReLU(shared_axes=[1, 2]),
    "softmax": lambda L: L.Softmax(),
    "softmax_time": lambda L: L.Softmax(axis=1),
    "activation": lambda L: L.Activation("gelu"),
    "log_softmax": lambda L: L.Activation("log_softmax"),
    "dense_log_softmax": lambda L: L.Dense(7, activation="log_softmax"),
    "distributed_log_softmax": lambda L: L.TimeDistributed(L.Dense(37, activation="log_softmax")),
    "mish": lambda L: L.Activation("mish"),
    "dense_mish": lambda L: L.Dense(7, "mish"),
    "distributed_mish": lambda L: L.TimeDistributed(L.Dense(5, activation=L.Activation("mish"))),
    "separable_mish": lambda L: L.SeparableConv1D(7, 3, padding="same", activation="mish"),
    "conv1d_mish": lambda L: L.Conv1D(7, 3, padding="causal", activation="mish"),
    "depthwise_mish": lambda L: L.DepthwiseConv1D(3, padding="same", activation="mish"),
    "dropout": lambda L: L.Dropout(0.3),
    "spatial_dropout": lambda L: L.SpatialDropout1D(0.3),
    "noise": lambda L: L.GaussianNoise(0.7),
    "gaussian_dropout": lambda L: L.GaussianDropout(0.2),
    "alpha_dropout": lambda L: L.AlphaDropout(0.2),
    "rescaling": lambda L: L.Rescaling(0.3, offset=-0.7),
    "upsampling": lambda L: L.UpSampling1D(3),
    "cropping": lambda L: L.Cropping1D((2, 1)),
    "padding": lambda L: L.ZeroPadding1D((1, 3)),
    "distributed": lambda L: L.TimeDistributed(L.Dense(3, "relu")),
    "distributed_norm": lambda L: L.TimeDistributed(L.LayerNormalization()),
    "distributed_repeat": lambda L: L.TimeDistributed(L.RepeatVector(2)),
}
for key, part in PER_STEP.items():

    def around(L, part=part, key=key):
        flat = [L.TimeDistributed(L.Flatten())] if key == "distributed_repeat" else []
        return [L.LSTM(6, return_sequences=True), part(L), *flat, L.Bidirectional(L.LSTM(3))]

    sequential(f"around_{key}", (None, FEATURES), around)

FIXED = {
    "flatten": lambda L: [L.Flatten(), L.Dense(5, "relu")],
    "reshape": lambda L: [L.Reshape((6, -1)), L.GRU(4)],
    "permute": lambda L: [L.Permute((2, 1)), L.LSTM(4)],
    "prelu_steps": lambda L: [L.PReLU(), L.LSTM(4)],
    "prelu_time": lambda L: [L.PReLU(shared_axes=[2]), L.LSTM(4)],
    "norm_time": lambda L: [L.LayerNormalization(axis=[1, 2]), L.LSTM(4)],
    "squeeze_excite": lambda L: [L.Permute((2, 1)), L.Dense(TIME, "sigmoid"), L.Permute((2, 1)), L.GRU(3)],
}
for key, parts in FIXED.items():
    sequential(f"fixed_{key}", (TIME, FEATURES), lambda L, parts=parts: [L.LSTM(5, return_sequences=True), *parts(L)])

# Recurrent layers behind masks

for kind in ("LSTM", "GRU", "SimpleRNN"):
    for key, options in {
        "last": {},
        "sequence": {"return_sequences": True},
        "zero": {"return_sequences": True, "zero_output_for_mask": True},
        "backwards": {"return_sequences": True, "go_backwards": True},
    }.items():
        sequential(
            f"masked_{kind.lower()}_{key}", (None, FEATURES),
            lambda L, kind=kind, options=options: [
                L.Masking(), L.Dense(5), L.Dropout(0.2), L.LayerNormalization(),
                getattr(L, kind)(6, **options), L.Dense(2),
            ],
        )  # fmt: skip
sequential(
    "masked_with_ones", (None, FEATURES),
    lambda L: [L.Masking(mask_value=0.0), L.Bidirectional(L.LSTM(4, return_sequences=True)), L.GRU(3), L.Dense(2)],
)  # fmt: skip
sequential(
    "mask_dropped_by_convolution", (None, FEATURES),
    lambda L: [L.Masking(), L.Conv1D(5, 3, padding="same"), L.LSTM(4)],
)  # fmt: skip
sequential("mask_dropped_by_rms_norm", (None, FEATURES), lambda L: [L.Masking(), L.RMSNormalization(), L.LSTM(4)])

# Known shapes


@model
def activity_recognition(keras, rng):
    """Convolutions, a bidirectional LSTM, attention and softmax."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y = L.Conv1D(6, 3, padding="same", activation="relu")(x)
    y = L.BatchNormalization()(y)
    y = L.MaxPooling1D(2)(y)
    y = L.Bidirectional(L.LSTM(5, return_sequences=True))(y)
    score = L.Softmax(axis=1)(L.Dense(1, "tanh")(y))
    y = L.Multiply()([y, score])
    y = L.GlobalAveragePooling1D()(y)
    return keras.Model(x, L.Dense(4, "softmax")(L.Dropout(0.4)(y)))


@model
def text(keras, rng):
    """Embedding, stacked LSTM, Dense."""
    L = keras.layers
    return keras.Sequential(
        [keras.Input((None,), dtype="int32"), L.Embedding(WORDS, 5, mask_zero=True), L.SpatialDropout1D(0.2),
         L.LSTM(6, return_sequences=True), L.LSTM(4), L.Dense(1, "sigmoid")]
    )  # fmt: skip


@model
def encoder_decoder(keras, rng):
    """A forecaster: encode, repeat, decode with the encoder's states, one Dense for each step."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y, h, c = L.LSTM(6, return_state=True)(x)
    y = L.RepeatVector(5)(y)
    y = L.LSTM(6, return_sequences=True)(y, initial_state=[h, c])
    return keras.Model(x, L.TimeDistributed(L.Dense(2))(y))


@model
def autoencoder(keras, rng):
    L = keras.layers
    return keras.Sequential(
        [keras.Input((TIME, FEATURES)), L.LSTM(7, return_sequences=True), L.LSTM(3), L.RepeatVector(TIME),
         L.LSTM(3, return_sequences=True), L.LSTM(7, return_sequences=True), L.TimeDistributed(L.Dense(FEATURES))]
    )  # fmt: skip


@model
def anomaly_score(keras, rng):
    """How far an autoencoder of models in a model is from its input."""
    L = keras.layers
    x = keras.Input((TIME, FEATURES))
    encoder = keras.Sequential([keras.Input((TIME, FEATURES)), L.LSTM(5)], name="encoder")
    decoder = keras.Sequential(
        [keras.Input((5,)), L.RepeatVector(TIME), L.LSTM(5, return_sequences=True), L.Dense(FEATURES)], name="decoder"
    )
    error = decoder(encoder(x)) - x
    return keras.Model(x, keras.ops.mean(keras.ops.square(error), axis=2))


@model
def static_features(keras, rng):
    """A forecaster with a second input that has no time."""
    L = keras.layers
    x, static = keras.Input((None, FEATURES), name="history"), keras.Input((3,), name="place")
    y = L.Concatenate()([L.LSTM(6)(x), L.Dense(4, "relu")(static)])
    return keras.Model([x, static], [L.Dense(5, name="forecast")(y), L.Dense(1, "sigmoid", name="alarm")(y)])


@model
def static_embedding(keras, rng):
    """A forecaster with a place that is an index, and calendar features repeated to every step."""
    L = keras.layers
    x = keras.Input((TIME, FEATURES), name="history")
    place = keras.Input((1,), dtype="int32", name="place")
    vector = L.Flatten()(L.Embedding(WORDS, 3)(place))
    y = L.Concatenate()([x, L.RepeatVector(TIME)(vector)])
    return keras.Model({"history": x, "place": place}, L.Dense(2)(L.GRU(5)(y)))


# Functional models


@model
def shared_layers(keras, rng):
    L = keras.layers
    a, b = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    encode, dense = L.LSTM(5), L.Dense(3, "tanh")
    p, q = dense(encode(a)), dense(encode(b))
    return keras.Model([a, b], [L.Subtract()([p, q]), L.Dot(1, normalize=True)([p, q])])


@model
def shared_norm(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    both, norm = L.Bidirectional(L.GRU(2, return_sequences=True)), L.LayerNormalization()
    y = norm(both(norm(both(x))))
    return keras.Model(x, L.LSTM(3)(y))


@model
def residual(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y = L.Dense(6)(x)
    for _ in range(2):
        z = L.LSTM(6, return_sequences=True)(L.LayerNormalization()(y))
        y = L.Add()([y, L.Dropout(0.1)(z)])
    return keras.Model(x, L.Dense(2)(y))


@model
def residual_masked(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    masked = L.Masking()(x)
    y = L.Add()([L.Dense(5)(masked), L.GRU(5, return_sequences=True)(masked)])
    return keras.Model(x, [L.LSTM(3)(y), L.GlobalAveragePooling1D()(y)])


@model
def skip_connections(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y = x
    for size in (5, 3):
        y = L.Concatenate()([y, L.GRU(size, return_sequences=True)(y)])
    return keras.Model(x, L.Dense(2)(y))


@model
def temporal_convolutions(keras, rng):
    """Causal convolutions with growing dilation, residual."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y = L.Conv1D(6, 1)(x)
    for dilation in (1, 2, 4):
        z = L.Conv1D(6, 3, padding="causal", dilation_rate=dilation, activation="relu")(y)
        y = L.Add()([y, L.Conv1D(6, 1)(z)])
    return keras.Model(x, L.Dense(2)(y))


@model
def two_masks_added(keras, rng):
    """In Keras 3 a step of the sum counts where it counts in any."""
    L = keras.layers
    a, b = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    tokens = keras.Input((TIME,), dtype="int32")
    words = L.Embedding(WORDS, FEATURES, mask_zero=True)(tokens)
    fixed = keras.Input((TIME, FEATURES))
    y = L.Add()([words, L.Masking()(fixed)])
    z = L.Average()([L.Masking()(a), a])
    return keras.Model([a, b, tokens, fixed], [L.LSTM(4)(y), L.LSTM(3)(z), L.GRU(2)(b)])


@model
def masks_concatenated(keras, rng):
    L = keras.layers
    tokens, marks = keras.Input((TIME,), dtype="int32"), keras.Input((TIME,), dtype="int32")
    embed = L.Embedding(WORDS, 4, mask_zero=True)
    y = L.Concatenate()([embed(tokens), embed(marks)])
    return keras.Model([tokens, marks], L.GRU(5)(y))


@model
def mask_and_none_concatenated(keras, rng):
    L = keras.layers
    tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
    y = L.Concatenate()([L.Embedding(WORDS, 3, mask_zero=True)(tokens), x])
    return keras.Model([tokens, x], L.LSTM(5)(y))


@model
def explicit_mask(keras, rng):
    L = keras.layers
    tokens = keras.Input((None,), dtype="int32")
    embed = L.Embedding(WORDS, 4, mask_zero=True)
    words = embed(tokens)
    y = L.Conv1D(5, 3, padding="same")(words)
    return keras.Model(tokens, L.LSTM(4)(y, mask=embed.compute_mask(tokens)))


@model
def masked_states(keras, rng):
    """Initial states take the automatic mask away, in Keras 3."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    masked = L.Masking()(x)
    state = L.Dense(5, "tanh")(L.GlobalMaxPooling1D()(x))
    y = L.GRU(5, return_sequences=True)(masked, initial_state=state)
    return keras.Model(x, [y, L.LSTM(3)(y)])


@model
def states_as_outputs(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y, h, c = L.LSTM(5, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, L.Dense(2)(h), c])


@model
def bidirectional_states(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y, fh, fc, bh, bc = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True))(x)
    z = L.Bidirectional(L.LSTM(4, return_sequences=True))(y, initial_state=[fh, fc, bh, bc])
    state = L.Concatenate()([fh, bh])
    return keras.Model(x, [L.GlobalMaxPooling1D()(z), L.LSTM(8)(z, initial_state=[state, state])])


@model
def separate_directions(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    p, q = L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode=None)(x)
    return keras.Model(x, L.Dense(3)(L.Maximum()([p, q])))


@model
def translator(keras, rng):
    """Encoder and decoder of words, attention between them."""
    L = keras.layers
    source, target = keras.Input((None,), dtype="int32"), keras.Input((7,), dtype="int32")
    seen, h, c = L.LSTM(6, return_sequences=True, return_state=True)(L.Embedding(WORDS, 4)(source))
    made = L.LSTM(6, return_sequences=True)(L.Embedding(WORDS, 5)(target), initial_state=[h, c])
    context = L.Attention()([made, seen])
    return keras.Model([source, target], L.Dense(WORDS, "softmax")(L.Concatenate()([made, context])))


@model
def masked_attention(keras, rng):
    L = keras.layers
    source, target = keras.Input((None,), dtype="int32"), keras.Input((8,), dtype="int32")
    embed = L.Embedding(WORDS, 6, mask_zero=True)
    a, b = embed(source), embed(target)
    y = L.Attention(use_scale=True)([b, a])
    z = L.Attention(score_mode="concat", use_scale=True)([b, a, L.Dense(6)(a)], use_causal_mask=True)
    w = L.AdditiveAttention()([b, a])
    v = L.AdditiveAttention(use_scale=False)([b, a])
    return keras.Model([source, target], L.GRU(4)(L.Concatenate()([y, z, w, v])))


@model
def self_attention(keras, rng):
    L = keras.layers
    x = keras.Input((None, 6))
    y = L.LSTM(6, return_sequences=True)(x)
    z = L.MultiHeadAttention(2, 3)(y, y)
    y = L.LayerNormalization()(L.Add()([y, z]))
    return keras.Model(x, L.GlobalAveragePooling1D()(y))


@model
def transformer_decoder(keras, rng):
    L = keras.layers
    x, memory = keras.Input((None, 6)), keras.Input((9, 5))
    y = L.Add()([x, L.MultiHeadAttention(3, 2, dropout=0.1)(x, x, use_causal_mask=True)])
    y = L.LayerNormalization(epsilon=1e-6)(y)
    y = L.Add()([y, L.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)(y, memory, L.Dense(7)(memory))])
    y = L.Add()([y, L.Dense(6)(L.Dense(12, "gelu")(L.LayerNormalization()(y)))])
    return keras.Model([x, memory], L.Dense(3)(y))


@model
def masked_self_attention(keras, rng):
    """MultiHeadAttention takes the mask away from the calls after it."""
    L = keras.layers
    tokens = keras.Input((None,), dtype="int32")
    x = L.Embedding(WORDS, 6, mask_zero=True)(tokens)
    y = L.MultiHeadAttention(2, 4, output_shape=5)(x, x)
    return keras.Model(tokens, [L.GRU(3)(y), L.LSTM(4)(L.Add()([x, L.Dense(6)(y)]))])


@model
def gated_attention(keras, rng):
    L = keras.layers
    x = keras.Input((None, 6))
    return keras.Model(x, L.MultiHeadAttention(2, 3, use_gate=True)(x, L.GRU(4, return_sequences=True)(x)))


@model
def nested_models(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    inner = keras.Sequential([keras.Input((None, FEATURES)), L.LSTM(5, return_sequences=True), L.Dense(4)])
    start = keras.Input((None, 4))
    half = keras.Model(start, [L.GRU(3)(start), L.Dense(2, name="two")(start)], name="half")
    p, q = half(inner(x))
    r, _ = half(inner(x))
    return keras.Model(x, [p, L.LSTM(3)(q), r])


@model
def nested_twice(keras, rng):
    """A model in a model in a model, called twice."""
    L = keras.layers
    a, b = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    core = keras.Sequential([keras.Input((None, FEATURES)), L.Masking(), L.LSTM(4, name="same")], name="core")
    start = keras.Input((None, FEATURES))
    shell = keras.Model(start, L.Dense(3, name="same")(core(start)), name="shell")
    return keras.Model([a, b], L.Dense(2, name="same")(L.Multiply()([shell(a), shell(b)])))


@model
def nested_masked(keras, rng):
    L = keras.layers
    tokens = keras.Input((None,), dtype="int32")
    start = keras.Input((None, 5))
    inner = keras.Model(start, L.Dense(3)(L.GRU(4, return_sequences=True)(start)), name="inner")
    return keras.Model(tokens, L.LSTM(4)(inner(L.Embedding(WORDS, 5, mask_zero=True)(tokens))))


@model
def nested_embedding(keras, rng):
    L = keras.layers
    tokens = keras.Input((None,))
    inner = keras.Sequential([keras.Input((None,)), L.Embedding(WORDS, 5, mask_zero=True), L.LSTM(4)], name="inner")
    made = keras.Model(tokens, L.Dense(2)(inner(tokens)))
    made.indices = True
    return made


@model
def distributed_model(keras, rng):
    L = keras.layers
    x = keras.Input((None, 3, FEATURES))
    inner = keras.Sequential([keras.Input((3, FEATURES)), L.Dense(5, "relu"), L.Flatten(), L.Dense(4)], name="inner")
    return keras.Model(x, L.LSTM(3)(L.TimeDistributed(inner)(x)))


@model
def distributed_pooling(keras, rng):
    L = keras.layers
    x = keras.Input((None, 6, FEATURES))
    p = L.TimeDistributed(L.GlobalMaxPooling1D())(x)
    q = L.TimeDistributed(L.Flatten())(L.TimeDistributed(L.Permute((2, 1)))(L.TimeDistributed(L.Cropping1D((1, 2)))(x)))
    r = L.TimeDistributed(L.Reshape((8, 3)))(x)
    r = L.TimeDistributed(L.GlobalAveragePooling1D())(L.TimeDistributed(L.Softmax(axis=1))(r))
    return keras.Model(x, L.GRU(4)(L.Concatenate()([p, q, r])))


@model
def convolutions_of_frames(keras, rng):
    """A window cut into frames, convolutions over each, an LSTM over their features: activity recognition."""
    L = keras.layers
    parts = [L.Conv1D(6, 3, activation="relu"), L.Conv1D(5, 2, padding="same"), L.Dropout(0.5), L.MaxPooling1D(2)]
    parts = [L.TimeDistributed(part) for part in (*parts, L.Flatten())]
    return keras.Sequential([keras.Input((4, 9, FEATURES)), *parts, L.LSTM(7), L.Dense(3, "softmax")])


@model
def model_of_frames(keras, rng):
    """A Functional model, with operations in it, called on each frame; recurrent layers inside and around it."""
    L, ops = keras.layers, keras.ops
    frame = keras.Input((6, FEATURES))
    y = L.Bidirectional(L.GRU(3, return_sequences=True))(frame)
    y = L.Concatenate()([y[:, -1], ops.abs(L.GlobalMaxPooling1D()(L.Conv1D(4, 2, groups=2)(frame)))])
    inner = keras.Model(frame, L.GroupNormalization(2)(y))
    x = keras.Input((None, 6, FEATURES))
    fixed = keras.Input((5, 6, FEATURES))
    flat = keras.Model(frame2 := keras.Input((6, FEATURES)), L.Flatten()(L.LayerNormalization()(frame2)))
    y = L.LSTM(4, return_sequences=True)(L.TimeDistributed(inner)(fixed))
    z = L.TimeDistributed(L.LSTM(3))(fixed)
    return keras.Model([x, fixed], [L.LSTM(3)(L.TimeDistributed(flat)(x)), y, L.Dense(2)(z)])


@model
def distance_of_two(keras, rng):
    """One encoder for both: exp(-|a - b|)."""
    L, ops = keras.layers, keras.ops
    encoder = keras.Sequential([keras.Input((None, FEATURES)), L.LSTM(5)])
    a, b = keras.Input((None, FEATURES)), keras.Input((None, FEATURES))
    return keras.Model([a, b], ops.exp(-ops.sum(ops.abs(encoder(a) - encoder(b)), axis=1, keepdims=True)))


@model
def convolutional_lstm(keras, rng):
    L = keras.layers
    x = keras.Input((None, 7, 3))
    y = L.ConvLSTM1D(2, 3, padding="same", return_sequences=True)(x)
    y = L.BatchNormalization()(y)
    y = L.TimeDistributed(L.Flatten())(y)
    return keras.Model(x, L.LSTM(4)(y))


@model
def stacked_cells(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    y = L.RNN([L.LSTMCell(5), L.GRUCell(4)], return_sequences=True)(L.Masking()(x))
    return keras.Model(x, L.Bidirectional(L.RNN([L.GRUCell(3), L.LSTMCell(2)]))(y))


@model
def dot_products(keras, rng):
    L = keras.layers
    a, b = keras.Input((TIME, FEATURES)), keras.Input((5, FEATURES))
    v = L.LSTM(FEATURES)(a)
    scores = L.Dot((2, 2))([a, b])
    column = L.Dot((2, 1))([a, v])
    row = L.Dot((1, 2))([v, b])
    mixed = L.Dot((1, 1))([a, L.GRU(3, return_sequences=True)(a)])
    return keras.Model([a, b], [L.GRU(3)(scores), column, row, L.Flatten()(mixed)])


@model
def merges(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    a, b = L.GRU(5, return_sequences=True)(x), L.LSTM(5, return_sequences=True)(x)
    v = L.Dense(5)(L.LSTM(3)(x))
    y = L.Concatenate()(
        [L.Subtract()([a, b]), L.Maximum()([a, b]), L.Minimum()([a, b]), L.Average()([a, b, a]), L.Multiply()([a, v])]
    )
    return keras.Model(x, L.Dense(3)(y))


@model
def concatenated_in_time(keras, rng):
    L = keras.layers
    a, b = keras.Input((5, FEATURES)), keras.Input((7, FEATURES))
    return keras.Model([a, b], L.LSTM(4)(L.Concatenate(axis=1)([a, b])))


@model
def times_of_two_inputs(keras, rng):
    L = keras.layers
    a, b = keras.Input((TIME, 2)), keras.Input((TIME, 3))
    return keras.Model([a, b], L.LSTM(4)(L.Concatenate()([a, b])))


@model
def operations(keras, rng):
    L, ops = keras.layers, keras.ops
    x = keras.Input((None, FEATURES))
    y = L.LSTM(6, return_sequences=True)(x)
    y = ops.relu(y * 2.0 + 0.1) - 0.3 * y
    y = ops.concatenate([y[:, :, :2], ops.tanh(y[:, :, 2:])], axis=-1)
    y = 1.0 - ops.maximum(y, -0.2)
    last, first = y[:, -1, :], y[:, 0]
    logs = ops.log_softmax(last - first), ops.log_softmax(2.0 * y, axis=1)
    return keras.Model(x, [ops.softmax(last + first, axis=-1), *logs, ops.max(y, axis=1), ops.mean(y[:, 1:], axis=1)])


@model
def operations_on_shapes(keras, rng):
    L, ops = keras.layers, keras.ops
    x = keras.Input((TIME, FEATURES))
    y = L.GRU(6, return_sequences=True)(x)
    z = ops.transpose(ops.reshape(y, (-1, TIME // 2, 12)), (0, 2, 1))
    v = ops.squeeze(ops.expand_dims(y[:, 2], 1), 1)
    w = ops.sum(ops.flip(y, axis=1)[:, 2:9:3], axis=1, keepdims=True)
    return keras.Model(x, [L.LSTM(2)(z), L.Dense(2)(v), L.Flatten()(w), ops.sigmoid(-y) / 2.0])


@model
def normalised_input(keras, rng):
    L = keras.layers
    x = keras.Input((None, FEATURES))
    norm = L.Normalization()
    norm.adapt(rng.normal(size=(50, FEATURES)).astype(np.float32) * 3 + 1)
    y = L.LSTM(5)(norm(x))
    fixed = L.Normalization(mean=[0.1, -0.3], variance=[2.0, 0.5], invert=True)
    return keras.Model(x, [L.Normalization(axis=None, mean=0.3, variance=4.0)(y), fixed(L.Dense(2)(y))])


@model
def input_as_output(keras, rng):
    x = keras.Input((None, FEATURES))
    y = keras.layers.LSTM(3)(x)
    return keras.Model(x, [x, y, y])


@model
def dictionaries(keras, rng):
    L = keras.layers
    inputs = {"b": keras.Input((None, FEATURES), name="b"), "a": keras.Input((2,), name="a")}
    y = L.GRU(3)(inputs["b"])
    return keras.Model(inputs, {"sum": L.Dense(2)(y), "all": L.Concatenate()([y, inputs["a"]])})


@model
def two_frequencies(keras, rng):
    """Fine steps pooled, coarse ones repeated."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    coarse = L.UpSampling1D(2)(L.LSTM(4, return_sequences=True)(L.AveragePooling1D(2)(x)))
    cut = L.Cropping1D((0, 0))(L.GRU(3, return_sequences=True)(x))
    return keras.Model(x, [L.Dense(2)(coarse), L.GlobalMaxPooling1D()(cut)])


# Masks, whose meaning depends on the version of Keras


@model
def masked_products(keras, rng):
    """One mask, one of two inputs masked, two masks, weights of one feature, three inputs."""
    L = keras.layers
    tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
    words, steps = L.Embedding(WORDS, FEATURES, mask_zero=True)(tokens), L.Masking()(keras.ops.flip(x, axis=1))
    h = L.LSTM(5, return_sequences=True)(words)
    weighted = L.Multiply()([h, L.Dense(1, activation="sigmoid")(h)])
    half = L.Multiply()([x, L.Dense(FEATURES)(words)])
    both = L.Multiply()([steps, words])
    three = L.Multiply()([L.Dense(1)(steps), words, L.Dense(FEATURES)(steps)])
    made = [L.Flatten()(weighted), L.Flatten()(half), L.Flatten()(both), L.GRU(3)(both), L.Flatten()(three)]
    return keras.Model([tokens, x], made)


def _extremes(name):
    def make(keras, rng):
        """Two inputs and three, masked or not, steps of a single number, a vector."""
        L = keras.layers
        merge = getattr(L, name)
        tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
        words = L.Embedding(WORDS, FEATURES, mask_zero=True)(tokens)
        steps = L.Masking()(keras.ops.flip(x, axis=1))
        other = L.Dense(FEATURES)(x)
        first, second = merge()([L.Dense(FEATURES)(words), other]), merge()([other, L.Dense(FEATURES)(words)])
        both = merge()([words, L.Dense(FEATURES)(steps)])
        three = merge()([words, L.Dense(FEATURES)(steps), other])
        more = merge()([L.Dense(1)(words), L.Dense(FEATURES)(steps), L.Dense(1)(steps)])
        vector = merge()([L.Dense(FEATURES)(words), L.Dense(FEATURES)(L.GlobalMaxPooling1D()(x))])
        flat = [L.Flatten()(y) for y in (first, second, both, three, more, vector)]
        return keras.Model([tokens, x], [L.Concatenate()(flat), L.GRU(3)(both), L.GRU(2)(first)])

    MODELS[f"masked_{name.lower()}"] = make


for name in ("Maximum", "Minimum"):
    _extremes(name)


@model
def masked_sums(keras, rng):
    """Of two masks, and of one: these take the numbers of masked steps."""
    L = keras.layers
    tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
    words = L.Embedding(WORDS, FEATURES, mask_zero=True)(tokens)
    steps = L.Dense(FEATURES)(L.Masking()(keras.ops.flip(x, axis=1)))
    made = []
    for pair in ([words, steps], [steps, x]):
        for merge in (L.Add(), L.Average(), L.Subtract(), L.Concatenate()):
            y = merge(pair)
            made += [L.GRU(3)(y), L.GlobalMaxPooling1D()(y)]
        made.append(L.Flatten()(L.Dot(axes=2)(pair)))
    return keras.Model([tokens, x], L.Concatenate()(made))


def _queries(name, **options):
    def make(keras, rng):
        """Self-attention, a memory with a mask of its own, causal; the steps that are masked are outputs too."""
        L = keras.layers
        tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
        made = []
        for causal in (False, True):
            words = L.Embedding(WORDS, 6, mask_zero=True)(tokens)
            steps = L.Dense(6)(L.Masking()(keras.ops.flip(x, axis=1)))
            h = L.Dense(6)(words)
            own = L.MultiHeadAttention(2, 3, **options)(h, h, use_causal_mask=causal)
            first = L.Dense(6)(words)
            memory = L.MultiHeadAttention(3, 2, **options)(first, steps, use_causal_mask=causal)
            after = L.Flatten()(L.Multiply()([first, memory]))
            plain = L.MultiHeadAttention(1, 4, **options)(L.Dense(6)(x), L.Dense(6)(words), use_causal_mask=causal)
            made += [L.Flatten()(own), L.Flatten()(memory), after, L.Flatten()(plain), L.GRU(2)(own)]
        return keras.Model([tokens, x], [L.Concatenate()(made)])

    MODELS[name] = make


_queries("masked_query")
_queries("masked_query_dropout", dropout=0.2)


@model
def masks_handed_on(keras, rng):
    """A mask in the call against that of the tensor, behind layers that hand it on."""
    L = keras.layers
    tokens, x = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, FEATURES))
    words = L.Embedding(WORDS, 4, mask_zero=True)(tokens)
    mask = L.Masking().compute_mask(keras.ops.flip(x, axis=1))
    given = L.GRU(4, return_sequences=True)(words, mask=mask)
    bare = L.GRU(4, return_sequences=True)(L.Conv1D(3, 1)(words), mask=mask)
    product = L.Flatten()(L.Multiply()([given, L.Dense(4)(given)]))
    return keras.Model([tokens, x], [L.LSTM(3)(given), L.LSTM(3)(bare), product])


@model
def distributed_words(keras, rng):
    """Words of sentences: in Keras 3 the mask that an Embedding makes inside TimeDistributed ends there."""
    L = keras.layers
    tokens = keras.Input((6, 5), dtype="int32")
    words = L.TimeDistributed(L.Embedding(WORDS, 4, mask_zero=True))(tokens)
    return keras.Model(tokens, L.GRU(3)(L.TimeDistributed(L.LSTM(2))(words)))


@model
def masks_in_models(keras, rng):
    """A merge of masked inputs in a nested model."""
    L = keras.layers
    x = keras.Input((TIME, FEATURES))
    start = keras.Input((TIME, FEATURES))
    inner = keras.Model(start, L.Multiply()([start, L.Dense(FEATURES)(start)]), name="inner")
    y = inner(L.Masking()(x))
    return keras.Model(x, [L.Flatten()(y), L.GRU(3)(y)])


# Layers that become several of the graph

EQUATIONS = {
    "steps": ("abc,cd->abd", (None, 5), "d", {"activation": "softmax"}),
    "heads": ("abc,cde->abde", (None, 2, 3), "de", {"activation": "tanh"}),
    "columns_first": ("abc,cde->abed", (None, 3, 2), "d", {}),
    "of_time": ("abc,bd->adc", (5, FEATURES), "d", {}),
    "all_summed": ("abc,bcd->ad", (5,), "d", {"activation": "softmax"}),
    "a_sum": ("abc,bd->ad", (5,), None, {}),
    "shared": ("abc,cd->acd", (FEATURES, 3), "cd", {}),
    "shared_steps": ("abc,ce->abce", (None, FEATURES, 3), "c", {}),
    "step_bias": ("abc,cd->abd", (TIME, 5), "bd", {"activation": "relu"}),
    "left": ("...x,xy->...y", 5, "y", {}),
    "right": ("ab...,bc->ac...", (5,), "c", {}),
}
for key, (equation, shape, bias, options) in EQUATIONS.items():
    is_open = shape == 5 or (isinstance(shape, tuple) and None in shape)
    sequential(
        f"einsum_{key}", (None if is_open else TIME, FEATURES),
        lambda L, parts=(equation, shape, bias, options): [
            L.GRU(FEATURES, return_sequences=True), L.EinsumDense(*parts[:2], bias_axes=parts[2], **parts[3]),
        ],
    )  # fmt: skip


TRANSPOSED = {
    "valid": {"strides": 2},
    "same": {"strides": 2, "padding": "same", "activation": "tanh"},
    "gaps": {"kernel_size": 2, "strides": 3, "padding": "same"},
    "gaps_valid": {"kernel_size": 1, "strides": 3, "use_bias": False},
    "uneven": {"kernel_size": 5, "strides": 3},
    "wide": {"kernel_size": 7, "strides": 3, "padding": "same", "output_padding": 1, "activation": "softmax"},
    "dilated": {"dilation_rate": 2, "padding": "same"},
}
for key, options in TRANSPOSED.items():
    sequential(
        f"conv1d_transpose_{key}", (None, FEATURES),
        lambda L, options=options: [
            L.LSTM(5, return_sequences=True), L.Conv1DTranspose(6, **{"kernel_size": 3, **options}), L.GRU(3),
        ],
    )  # fmt: skip

CHANNELS_FIRST = {
    "conv1d": lambda L: L.Conv1D(5, 3, padding="same", data_format="channels_first", activation="relu"),
    "conv1d_softmax": lambda L: L.Conv1D(5, 3, data_format="channels_first", activation="softmax"),
    "separable": lambda L: L.SeparableConv1D(5, 3, data_format="channels_first"),
    "transposed": lambda L: L.Conv1DTranspose(5, 3, strides=2, data_format="channels_first"),
    "pool": lambda L: L.MaxPooling1D(2, data_format="channels_first"),
    "adaptive": lambda L: L.AdaptiveAveragePooling1D(5, data_format="channels_first"),
    "padding": lambda L: L.ZeroPadding1D(2, data_format="channels_first"),
    "global": lambda L: L.GlobalMaxPooling1D(data_format="channels_first", keepdims=True),
    "flatten": lambda L: L.Flatten(data_format="channels_first"),
}
for key, part in CHANNELS_FIRST.items():
    sequential(f"channels_first_{key}", (FEATURES, TIME), lambda L, part=part: [part(L), L.Flatten(), L.Dense(3)])

SEVERAL = {
    "adaptive_max": lambda L: L.AdaptiveMaxPooling1D(5),
    "adaptive_average": lambda L: L.AdaptiveAveragePooling1D(7),
    "adaptive_divides": lambda L: L.AdaptiveAveragePooling1D(4),
    "spectral_dense": lambda L: L.SpectralNormalization(L.Dense(5, activation="tanh")),
    "spectral_conv": lambda L: L.SpectralNormalization(L.Conv1D(5, 3), power_iterations=2),
    "spectral_steps": lambda L: L.TimeDistributed(L.SpectralNormalization(L.Dense(5))),
    "batch_norm_time": lambda L: L.BatchNormalization(axis=1),
    "group_norm_time": lambda L: L.GroupNormalization(3, axis=1),
    "unit_norm_time": lambda L: L.UnitNormalization(axis=1),
}
for key, part in SEVERAL.items():
    sequential(
        f"several_{key}", (TIME, FEATURES),
        lambda L, part=part: [L.Masking(), L.LSTM(6, return_sequences=True), part(L), L.LSTM(3)],
    )  # fmt: skip

FRAMES = {
    "conv1d": lambda L: L.Conv1D(5, 3, activation="relu"),
    "conv1d_stride": lambda L: L.Conv1D(5, 4, strides=2, padding="same", activation="softmax"),
    "conv1d_causal": lambda L: L.Conv1D(5, 3, dilation_rate=2, padding="causal"),
    "depthwise": lambda L: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="tanh"),
    "separable": lambda L: L.SeparableConv1D(6, 3, depth_multiplier=2),
    "max_pooling": lambda L: L.MaxPooling1D(3, strides=2, padding="same"),
    "average_pooling": lambda L: L.AveragePooling1D(2),
    "average_pooling_same": lambda L: L.AveragePooling1D(3, strides=1, padding="same"),
    "einsum": lambda L: L.EinsumDense("abc,cd->adb", (6, 8), bias_axes="db"),
}
for key, part in FRAMES.items():
    sequential(
        f"open_frames_{key}", (None, 8, 3),
        lambda L, part=part: [L.TimeDistributed(part(L)), L.TimeDistributed(L.Flatten()), L.LSTM(3)],
    )  # fmt: skip


@model
def open_frames_of_words(keras, rng):
    """Characters of words, of any number of words."""
    L = keras.layers
    tokens = keras.Input((None, 7), dtype="int32")
    y = L.TimeDistributed(L.Conv1D(4, 3))(L.TimeDistributed(L.Embedding(WORDS, 5))(tokens))
    return keras.Model(tokens, L.GRU(3)(L.TimeDistributed(L.GlobalMaxPooling1D())(y)))


@model
def words_and_tags(keras, rng):
    """Two sequences of indices of one time that is not known, and one of numbers."""
    L = keras.layers
    words, tags = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    x = keras.Input((None, 3))
    both = L.Concatenate()([L.Embedding(WORDS, 6, mask_zero=True)(words), L.Embedding(WORDS, 2, mask_zero=True)(tags)])
    y = L.Multiply()([L.Dense(4)(both), L.Dense(4)(L.Masking()(x))])
    return keras.Model([words, tags, x], [L.Bidirectional(L.LSTM(5, return_sequences=True))(y), L.GRU(2)(both)])


def _scored(name, attend):
    def make(keras, rng):
        """Attention with its scores, of steps that are masked and not, causal and not."""
        L = keras.layers
        x = keras.Input((TIME, FEATURES))
        made = []
        for causal in (False, True):
            for masked in (False, True):
                start = L.Masking()(x) if masked else x
                query, value = L.Dense(6)(start), L.Dense(6)(start)
                made += attend(L)(query, value, causal)
        return keras.Model(x, made)

    MODELS[f"scores_{name}"] = make


_SCORES = {"return_attention_scores": True}
_scored("attention", lambda L: lambda q, v, c: L.Attention(use_scale=True)([q, v], use_causal_mask=c, **_SCORES))
_scored("concat", lambda L: lambda q, v, c: L.Attention(score_mode="concat")([q, v], use_causal_mask=c, **_SCORES))
_scored("additive", lambda L: lambda q, v, c: L.AdditiveAttention()([q, v], use_causal_mask=c, **_SCORES))
_scored("heads", lambda L: lambda q, v, c: L.MultiHeadAttention(2, 3)(q, v, use_causal_mask=c, **_SCORES))
_scored("groups", lambda L: lambda q, v, c: L.GroupQueryAttention(3, 4, 2)(q, v, use_causal_mask=c, **_SCORES))
_scored(
    "none",
    lambda L: lambda q, v, c: [L.GroupQueryAttention(3, 4, 2, use_gate=True, use_bias=c)(q, v, use_causal_mask=c)],
)


@model
def constant_states(keras, rng):
    """Initial states that are numbers, the same for every row."""
    L = keras.layers
    x = keras.Input((None, FEATURES))
    start = [np.tile(rng.uniform(-1, 1, 5).astype(np.float32), (BATCH, 1)) for _ in range(4)]
    lstm = L.LSTM(5, return_sequences=True)(x, initial_state=start[:2])
    gru = L.Bidirectional(L.GRU(5))(L.Masking()(x), initial_state=start[2:])
    return keras.Model(x, [lstm, gru])


@model
def masked_places(keras, rng):
    """Masking of the last of more axes."""
    L = keras.layers
    x = keras.Input((TIME, 3, 2))
    return keras.Model(x, L.Flatten()(L.Masking()(x)))


@model
def reversible_embedding(keras, rng):
    L = keras.layers
    tokens = keras.Input((None,), dtype="int32")
    own = L.ReversibleEmbedding(WORDS, 6, mask_zero=True, logit_soft_cap=0.7)
    other = L.ReversibleEmbedding(WORDS, 5, tie_weights=False)
    return keras.Model(
        tokens,
        [
            own(L.LSTM(6, return_sequences=True)(own(tokens)), reverse=True),
            other(L.GRU(5)(other(tokens)), reverse=True),
        ],
    )


def _quantized(name, mode, **options):
    def make(keras, rng):
        """Quantised after its weights are set: `build` leaves whole numbers as they are."""
        L = keras.layers
        tokens, x = keras.Input((None,), dtype="int32"), keras.Input((None, FEATURES))
        y = L.Concatenate()([L.Embedding(WORDS, 5)(tokens), x])
        y = L.Dense(7, "tanh")(L.GRU(6, return_sequences=True)(y))
        y = L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(y)
        y = L.EinsumDense("abcd,cde->abe", (None, 4), bias_axes="e", activation="relu")(y)
        made = keras.Model([tokens, x], L.Dense(3, use_bias=False)(y))
        for variable in made.weights:
            variable.assign(rng.uniform(-0.7, 0.7, variable.shape).astype(np.float32))
        if mode == "lora":
            for layer in made.layers:
                if hasattr(layer, "enable_lora"):
                    layer.enable_lora(2, lora_alpha=3)
            return made
        config = getattr(keras.quantizers, options["config"])(**options["arguments"]) if options else None
        for layer in made.layers:
            if type(layer).__name__ in ("Dense", "EinsumDense", "Embedding"):
                layer.quantize(mode, config=config)
        return made

    MODELS[f"quantized_{name}"] = make


_quantized("int8", "int8")
_quantized("int8_weights", "int8", config="Int8QuantizationConfig", arguments={"activation_quantizer": None})
_quantized("int4", "int4")
_quantized("int4_blocks", "int4", config="Int4QuantizationConfig", arguments={"block_size": 3})
_quantized("lora", "lora")
MODELS["lora"] = MODELS.pop("quantized_lora")


def input_names(made):
    """Names of the inputs in the order of `arrays`."""
    return [tensor._keras_history.operation.name for tensor in made.inputs]


def in_order_of_the_config(made, inputs):
    """The inputs in the order in which they stand in the config."""
    entry = made.get_config().get("input_layers")
    if not isinstance(entry, dict):
        return inputs
    given = dict(zip(input_names(made), inputs))
    return [given[layer] for layer, _, _ in entry.values()]


def numbers(tensor):
    """A tensor of Keras's as an array, whatever the backend."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(tensor))


def outputs(made, inputs):
    """Keras's results in the order of the config."""
    if isinstance(getattr(made, "_inputs_struct", None), dict):
        inputs = [dict(zip(input_names(made), inputs))]
    result = made(inputs if len(inputs) > 1 else inputs[0], training=False)
    if isinstance(result, dict):
        result = [result[key] for key in made.get_config()["output_layers"]]
    result = result if isinstance(result, (list, tuple)) else [result]
    return [numbers(y) for y in result]
