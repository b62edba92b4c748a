"""Keras models of images: layers in two and three dimensions with their options, and networks that read columns.

They are among `keras_models.MODELS` once this is imported. The sizes of all axes differ.
"""

from tests.builders.keras_models import MODELS, TIME, model, sequential

#: those of which a file is kept (generate_keras_models.py)
KEPT = [
    "text_of_a_line", "keyword", "sound_events", "video", "image_conv_same", "first_transposed", "volume_conv_same",
    "open_columns_depthwise_strides", "columns_one_by_one",
]  # fmt: skip

ROWS, COLUMNS, CHANNELS, DEPTH = 7, 9, 4, 5
IMAGE, FIRST = (ROWS, COLUMNS, CHANNELS), (CHANNELS, ROWS, COLUMNS)
VOLUME = (DEPTH, 6, ROWS, 3)

#: layers that read (batch, rows, columns, channels)
IMAGES = {
    "cropping": lambda L: L.Cropping2D(((1, 2), (0, 3))),
    "cropping_equal": lambda L: L.Cropping2D((2, 1)),
    "cropping_none": lambda L: L.Cropping2D(0),
    "padding": lambda L: L.ZeroPadding2D(((1, 2), (0, 3))),
    "upsampling": lambda L: L.UpSampling2D((3, 2)),
    "upsampling_bilinear": lambda L: L.UpSampling2D((3, 2), interpolation="bilinear"),
    "global_max": lambda L: L.GlobalMaxPooling2D(),
    "global_average": lambda L: L.GlobalAveragePooling2D(),
    "global_max_kept": lambda L: L.GlobalMaxPooling2D(keepdims=True),
    "global_average_kept": lambda L: L.GlobalAveragePooling2D(keepdims=True),
    "flatten": lambda L: L.Flatten(),
    "reshape": lambda L: L.Reshape((COLUMNS, -1)),
    "permute": lambda L: L.Permute((2, 3, 1)),
    "batch_norm": lambda L: L.BatchNormalization(),
    "batch_norm_rows": lambda L: L.BatchNormalization(axis=1),
    "batch_norm_columns": lambda L: L.BatchNormalization(axis=2),
    "layer_norm": lambda L: L.LayerNormalization(),
    "layer_norm_image": lambda L: L.LayerNormalization(axis=[1, 2, 3]),
    "layer_norm_two": lambda L: L.LayerNormalization(axis=[1, 3]),
    "group_norm": lambda L: L.GroupNormalization(2),
    "group_norm_columns": lambda L: L.GroupNormalization(3, axis=2),
    "rms_norm": lambda L: L.RMSNormalization(),
    "unit_norm": lambda L: L.UnitNormalization(axis=[2, 3]),
    "dropout": lambda L: L.SpatialDropout2D(0.3),
    "dense": lambda L: L.Dense(5, "softmax"),
    "activation": lambda L: L.Activation("softmax"),
    "leaky_relu": lambda L: L.LeakyReLU(0.2),
    "prelu": lambda L: L.PReLU(),
    "prelu_shared": lambda L: L.PReLU(shared_axes=[1, 2]),
    "prelu_columns": lambda L: L.PReLU(shared_axes=[1, 3]),
    "softmax_rows": lambda L: L.Softmax(axis=1),
    "rescaling": lambda L: L.Rescaling(1 / 255, offset=0.5),
    "conv": lambda L: L.Conv2D(5, (2, 3)),
    "conv_same": lambda L: L.Conv2D(5, (2, 4), strides=(3, 2), padding="same", activation="relu"),
    "conv_strides": lambda L: L.Conv2D(5, (3, 2), strides=(1, 2), use_bias=False, activation="tanh"),
    "conv_dilated": lambda L: L.Conv2D(5, (3, 2), dilation_rate=(2, 3), padding="same"),
    "conv_groups": lambda L: L.Conv2D(6, (3, 2), groups=2, activation="softmax"),
    "conv_mish": lambda L: L.Conv2D(5, 1, activation="mish"),
    "depthwise": lambda L: L.DepthwiseConv2D((2, 3), activation="relu"),
    "depthwise_multiplier": lambda L: L.DepthwiseConv2D(3, depth_multiplier=3, padding="same", use_bias=False),
    "depthwise_strides": lambda L: L.DepthwiseConv2D((2, 3), strides=2, padding="same"),
    "separable": lambda L: L.SeparableConv2D(5, (2, 3), activation="relu"),
    "separable_same": lambda L: L.SeparableConv2D(6, (3, 2), depth_multiplier=2, strides=2, padding="same"),
    "transposed": lambda L: L.Conv2DTranspose(5, (2, 3)),
    "transposed_strides": lambda L: L.Conv2DTranspose(5, (3, 2), strides=(2, 3), activation="relu"),
    "transposed_same": lambda L: L.Conv2DTranspose(5, (4, 3), strides=(2, 1), padding="same"),
    "transposed_dilated": lambda L: L.Conv2DTranspose(5, (3, 2), dilation_rate=(2, 3), use_bias=False),
    "transposed_padded": lambda L: L.Conv2DTranspose(5, 3, strides=2, output_padding=1, activation="softmax"),
    "max_pooling": lambda L: L.MaxPooling2D((2, 3)),
    "max_pooling_same": lambda L: L.MaxPooling2D((3, 4), strides=(2, 3), padding="same"),
    "max_pooling_one": lambda L: L.MaxPooling2D((2, 1)),
    "average_pooling": lambda L: L.AveragePooling2D((2, 3), strides=(1, 2)),
    "average_pooling_same": lambda L: L.AveragePooling2D(3, strides=2, padding="same"),
    "adaptive_max": lambda L: L.AdaptiveMaxPooling2D((3, 4)),
    "adaptive_average": lambda L: L.AdaptiveAveragePooling2D((7, 2)),
    "spectral": lambda L: L.SpectralNormalization(L.Conv2D(5, (2, 3))),
}
for key, part in IMAGES.items():
    sequential(f"image_{key}", IMAGE, lambda L, part=part: [part(L)])

#: layers that read (batch, channels, rows, columns)
CHANNELS_FIRST = {
    "cropping": lambda L: L.Cropping2D(((1, 2), (0, 3)), data_format="channels_first"),
    "padding": lambda L: L.ZeroPadding2D(((1, 2), (0, 3)), data_format="channels_first"),
    "upsampling": lambda L: L.UpSampling2D((3, 2), data_format="channels_first"),
    "upsampling_bilinear": lambda L: L.UpSampling2D((1, 4), data_format="channels_first", interpolation="bilinear"),
    "global_max": lambda L: L.GlobalMaxPooling2D(data_format="channels_first"),
    "global_average_kept": lambda L: L.GlobalAveragePooling2D(data_format="channels_first", keepdims=True),
    "flatten": lambda L: L.Flatten(data_format="channels_first"),
    "batch_norm": lambda L: L.BatchNormalization(axis=1),
    "prelu": lambda L: L.PReLU(shared_axes=[2, 3]),
    "dropout": lambda L: L.SpatialDropout2D(0.3, data_format="channels_first"),
    "conv": lambda L: L.Conv2D(5, (2, 3), strides=(2, 1), padding="same", data_format="channels_first"),
    "conv_softmax": lambda L: L.Conv2D(5, (2, 3), activation="softmax", data_format="channels_first"),
    "depthwise": lambda L: L.DepthwiseConv2D((2, 3), depth_multiplier=2, data_format="channels_first"),
    "separable": lambda L: L.SeparableConv2D(6, (2, 3), activation="relu", data_format="channels_first"),
    "transposed": lambda L: L.Conv2DTranspose(5, (2, 3), strides=(3, 2), data_format="channels_first"),
    "max_pooling": lambda L: L.MaxPooling2D((3, 2), padding="same", data_format="channels_first"),
    "average_pooling": lambda L: L.AveragePooling2D((3, 2), data_format="channels_first"),
    "adaptive": lambda L: L.AdaptiveAveragePooling2D((4, 2), data_format="channels_first"),
}
for key, part in CHANNELS_FIRST.items():
    sequential(f"first_{key}", FIRST, lambda L, part=part: [part(L)])

#: layers that read (batch, depth, rows, columns, channels)
VOLUMES = {
    "cropping": lambda L: L.Cropping3D(((1, 2), (0, 3), (2, 0))),
    "padding": lambda L: L.ZeroPadding3D(((1, 2), (0, 3), (2, 0))),
    "upsampling": lambda L: L.UpSampling3D((2, 3, 1)),
    "upsampling_first": lambda L: L.UpSampling3D((2, 3, 1), data_format="channels_first"),
    "global_max": lambda L: L.GlobalMaxPooling3D(),
    "global_average": lambda L: L.GlobalAveragePooling3D(keepdims=True),
    "global_average_first": lambda L: L.GlobalAveragePooling3D(data_format="channels_first"),
    "dropout": lambda L: L.SpatialDropout3D(0.3),
    "batch_norm": lambda L: L.BatchNormalization(axis=-1),
    "conv": lambda L: L.Conv3D(4, (2, 3, 1), activation="relu"),
    "conv_same": lambda L: L.Conv3D(4, (3, 2, 4), strides=(2, 1, 3), padding="same"),
    "conv_dilated": lambda L: L.Conv3D(4, (2, 3, 2), dilation_rate=(3, 1, 2), use_bias=False),
    "conv_groups": lambda L: L.Conv3D(6, 2, groups=3, padding="same", activation="softmax"),
    "conv_first": lambda L: L.Conv3D(4, (2, 3, 1), data_format="channels_first"),
    "transposed": lambda L: L.Conv3DTranspose(4, (2, 3, 2)),
    "transposed_same": lambda L: L.Conv3DTranspose(4, (3, 2, 4), strides=(2, 3, 2), padding="same"),
    "transposed_strides": lambda L: L.Conv3DTranspose(4, (1, 3, 2), strides=(3, 2, 1), activation="relu"),
    "max_pooling": lambda L: L.MaxPooling3D((2, 3, 2), strides=(1, 2, 3), padding="same"),
    "average_pooling": lambda L: L.AveragePooling3D((2, 3, 1)),
    "adaptive": lambda L: L.AdaptiveMaxPooling3D((2, 3, 7)),
}
for key, part in VOLUMES.items():
    sequential(f"volume_{key}", VOLUME, lambda L, part=part: [part(L)])

#: layers that read frames of images, of which there may be any number
FRAMES = {
    key: IMAGES[key]
    for key in (
        "cropping", "padding", "upsampling", "global_max", "global_average", "global_average_kept", "flatten",
        "reshape", "permute", "batch_norm", "batch_norm_rows", "layer_norm_image", "dense", "prelu_shared",
        "softmax_rows", "upsampling_bilinear", "conv_same", "conv_groups", "depthwise_multiplier", "separable",
        "transposed_same", "max_pooling", "average_pooling_same", "adaptive_max",
    )
}  # fmt: skip
FRAMES |= {
    f"first_{key}": CHANNELS_FIRST[key]
    for key in ("padding", "global_max", "batch_norm", "conv", "transposed", "max_pooling")
}
for key, part in FRAMES.items():
    sequential(f"image_frames_{key}", (None, *IMAGE), lambda L, part=part: [L.TimeDistributed(part(L))])

#: layers on images whose columns are the time, of which there may be any number: (batch, rows, time, channels)
COLUMNS_OPEN = {
    key: IMAGES[key]
    for key in (
        "cropping", "padding", "upsampling", "global_max", "global_average", "batch_norm", "batch_norm_rows",
        "layer_norm", "dropout", "dense", "activation", "leaky_relu", "softmax_rows", "rescaling", "permute",
        "conv", "conv_same", "conv_dilated", "conv_groups", "depthwise_strides", "separable_same", "transposed_same",
        "transposed_strides", "max_pooling", "max_pooling_same", "average_pooling",
    )
}  # fmt: skip
for key, part in COLUMNS_OPEN.items():
    sequential(f"open_columns_{key}", (ROWS, None, CHANNELS), lambda L, part=part: [part(L)])
for key in (
    "cropping", "padding", "upsampling", "global_max", "batch_norm", "dropout", "conv", "depthwise", "transposed",
    "max_pooling",
):  # fmt: skip
    sequential(
        f"open_rows_first_{key}", (CHANNELS, None, COLUMNS), lambda L, part=CHANNELS_FIRST[key]: [part(L)],
    )  # fmt: skip
    sequential(
        f"open_columns_first_{key}", (CHANNELS, ROWS, None), lambda L, part=CHANNELS_FIRST[key]: [part(L)],
    )  # fmt: skip


@model
def columns_to_steps(keras, rng):
    """An image of any number of columns, pooled to one row, whose columns a recurrent layer reads."""
    L, ops = keras.layers, keras.ops
    x = keras.Input((ROWS, None, CHANNELS))
    y = L.Concatenate()([L.Dense(3)(x), L.LeakyReLU()(x)])
    y = L.Add()([y, L.BatchNormalization(axis=1)(y)])
    y = L.Concatenate(axis=1)([y, L.Cropping2D(((1, 0), (0, 0)))(y)])
    p = L.TimeDistributed(L.Flatten())(L.Permute((2, 1, 3))(y))
    q = L.Reshape((-1, 7))(L.Cropping2D(((5, 2 * ROWS - 7), (0, 0)))(y))
    r = ops.squeeze(ops.max(y, axis=1, keepdims=True), 1)
    return keras.Model(x, [L.GRU(3, return_sequences=True)(L.Concatenate()([p, q, r])), L.Permute((2, 1, 3))(y), y])


@model
def rows_to_steps(keras, rng):
    """A spectrogram of any number of steps."""
    L = keras.layers
    x = keras.Input((None, COLUMNS, CHANNELS))
    y = L.LayerNormalization()(L.Dense(3, "relu")(x))
    p, q = L.Reshape((-1, 3 * COLUMNS))(y), L.TimeDistributed(L.GlobalAveragePooling1D())(y)
    return keras.Model(x, L.Bidirectional(L.LSTM(3))(L.Concatenate()([p, q])))


@model
def columns_of_a_known_number(keras, rng):
    L = keras.layers
    x = keras.Input((ROWS, TIME, CHANNELS))
    y = L.Permute((2, 1, 3))(L.ZeroPadding2D((1, 0))(x))
    y = L.Reshape((TIME, -1))(L.Dropout(0.1)(y))
    return keras.Model(x, L.Dense(5, "softmax")(L.Bidirectional(L.LSTM(3, return_sequences=True))(y)))


#: layers that read (batch, depth, rows, columns, channels) of any depth
for key in ("conv", "conv_dilated", "transposed_same", "max_pooling"):
    sequential(f"open_depth_{key}", (None, *VOLUME[1:]), lambda L, part=VOLUMES[key]: [part(L)])


@model
def text_of_a_line(keras, rng):
    """An image of 32 rows and any number of columns, read by two recurrent layers: a CRNN with a skip in it."""
    L, ops = keras.layers, keras.ops
    x = keras.Input((32, None, 1))
    y = L.MaxPooling2D(2)(L.Conv2D(4, 3, padding="same", activation="relu")(x))
    y = L.Conv2D(6, 3, padding="same", use_bias=False)(y)
    y = L.LeakyReLU(0.1)(L.BatchNormalization()(y))
    y = L.Add()([y, L.Conv2D(6, (3, 1), padding="same")(y)])
    y = L.MaxPooling2D((2, 1))(L.Dropout(0.2)(L.ZeroPadding2D(((0, 0), (1, 1)))(y)))
    y = L.MaxPooling2D((4, 1))(L.SeparableConv2D(8, 3, padding="same", activation="relu")(y))
    y = ops.squeeze(L.Conv2D(7, (2, 2), activation="relu")(y), 1)
    y = L.Bidirectional(L.LSTM(5, return_sequences=True))(y)
    return keras.Model(x, L.Dense(6, "softmax")(L.Bidirectional(L.GRU(4, return_sequences=True))(y)))


@model
def columns_one_by_one(keras, rng):
    """An image each of whose columns is read for itself and then by an LSTM, so that it may come column by column."""
    L = keras.layers
    x = keras.Input((6, None, 2))
    y = L.MaxPooling2D((2, 1))(L.Conv2D(4, (3, 1), activation="relu")(x))
    y = L.BatchNormalization()(y)
    z = L.LSTM(3, return_sequences=True)(L.Reshape((-1, 8))(L.Permute((2, 1, 3))(y)))
    return keras.Model(x, [z, y])


@model
def keyword(keras, rng):
    """A spectrogram (time, mel, 1) of any length: depthwise separable blocks, attention over the steps of a GRU."""
    L = keras.layers
    x = keras.Input((None, 20, 1))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, (5, 4), strides=(2, 2), padding="same")(x)))
    for _ in range(2):
        y = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(y)))
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 1)(y)))
    y = L.GRU(5, return_sequences=True)(L.Reshape((-1, 60))(L.AveragePooling2D((1, 1))(y)))
    scores = L.Softmax(axis=1)(L.Dense(1)(y))
    return keras.Model(x, L.Dense(4, "softmax")(L.GlobalAveragePooling1D()(L.Multiply()([y, scores]))))


@model
def sound_events(keras, rng):
    """Channels first and any number of steps: convolutions, pooling of the frequencies, recurrent layers, two heads."""
    L = keras.layers
    x = keras.Input((2, None, 16))
    y = x
    for size in (4, 2):
        y = L.Conv2D(5, 3, padding="same", data_format="channels_first")(y)
        y = L.Activation("relu")(L.BatchNormalization(axis=1)(y))
        y = L.Dropout(0.1)(L.MaxPooling2D((1, size), data_format="channels_first")(y))
    y = L.Reshape((-1, 10))(L.Permute((2, 1, 3))(y))
    y = L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="mul")(y)
    events = L.TimeDistributed(L.Dense(3, "sigmoid"))(y)
    return keras.Model(x, [events, L.TimeDistributed(L.Dense(6, "tanh"))(y)])


@model
def video(keras, rng):
    """A whole network of images on any number of frames."""
    L = keras.layers
    frame = keras.Sequential(
        [
            keras.Input((10, 8, 3)), L.Conv2D(4, 3, activation="relu"), L.MaxPooling2D(2),
            L.Conv2D(5, (2, 3), padding="same", strides=2), L.BatchNormalization(), L.ELU(), L.Flatten(), L.Dense(6),
        ]
    )  # fmt: skip
    x = keras.Input((None, 10, 8, 3))
    return keras.Model(x, L.Dense(2)(L.LSTM(4)(L.TimeDistributed(frame)(x))))


@model
def images_between_states(keras, rng):
    """A ConvLSTM2D whose last state is pooled and made larger."""
    L = keras.layers
    x = keras.Input((None, 6, 8, 2))
    y = L.ConvLSTM2D(3, (2, 3), padding="same")(x)
    y = L.Conv2DTranspose(4, 2, strides=2)(L.MaxPooling2D(2)(y))
    return keras.Model(x, L.Conv2D(2, 3, padding="same")(y))


for count in (1, 2):

    def conv_lstm_first(keras, rng, count=count):
        """Two ConvLSTMs with the channels first, of which the second begins with the states of the first."""
        L = keras.layers
        options = {"padding": "same", "data_format": "channels_first", "return_state": True}
        layers = [
            getattr(L, f"ConvLSTM{count}D")(4, (2, 3)[:count], return_sequences=k == 0, **options) for k in (0, 1)
        ]
        x = keras.Input((None, 3, 5, 7)[: 2 + count])
        y, *states = layers[0](x)
        return keras.Model(x, [y, *layers[1](y, initial_state=states)])

    MODELS[f"conv_lstm_{count}d_first"] = conv_lstm_first


@model
def hourglass(keras, rng):
    """Down and up again, with skips: rows of any number."""
    L = keras.layers
    x = keras.Input((None, 8, 2))
    a = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    b = L.Conv2D(5, 3, padding="same", activation="relu")(L.MaxPooling2D((1, 2))(a))
    c = L.Concatenate()([L.Conv2DTranspose(3, (3, 2), strides=(1, 2), padding="same")(b), a])
    d = L.Concatenate()([L.UpSampling2D((1, 2))(b), c])
    return keras.Model(x, L.Conv2D(1, 1, activation="sigmoid")(d))
