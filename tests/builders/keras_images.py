"""Keras models of images: layers in two and three dimensions with their options, and networks that read columns.

They are among `keras_models.MODELS` once this is imported. The sizes of all axes differ.
"""

from tests.builders.keras_models import TIME, model, sequential

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
}
for key, part in IMAGES.items():
    sequential(f"image_{key}", IMAGE, lambda L, part=part: [part(L)])

#: layers that read (batch, channels, rows, columns)
CHANNELS_FIRST = {
    "cropping": lambda L: L.Cropping2D(((1, 2), (0, 3)), data_format="channels_first"),
    "padding": lambda L: L.ZeroPadding2D(((1, 2), (0, 3)), data_format="channels_first"),
    "upsampling": lambda L: L.UpSampling2D((3, 2), data_format="channels_first"),
    "global_max": lambda L: L.GlobalMaxPooling2D(data_format="channels_first"),
    "global_average_kept": lambda L: L.GlobalAveragePooling2D(data_format="channels_first", keepdims=True),
    "flatten": lambda L: L.Flatten(data_format="channels_first"),
    "batch_norm": lambda L: L.BatchNormalization(axis=1),
    "prelu": lambda L: L.PReLU(shared_axes=[2, 3]),
    "dropout": lambda L: L.SpatialDropout2D(0.3, data_format="channels_first"),
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
}
for key, part in VOLUMES.items():
    sequential(f"volume_{key}", VOLUME, lambda L, part=part: [part(L)])

#: layers that read frames of images, of which there may be any number
FRAMES = {
    key: IMAGES[key]
    for key in (
        "cropping", "padding", "upsampling", "global_max", "global_average", "global_average_kept", "flatten",
        "reshape", "permute", "batch_norm", "batch_norm_rows", "layer_norm_image", "dense", "prelu_shared",
        "softmax_rows",
    )
}  # fmt: skip
FRAMES |= {f"first_{key}": CHANNELS_FIRST[key] for key in ("padding", "global_max", "batch_norm")}
for key, part in FRAMES.items():
    sequential(f"image_frames_{key}", (None, *IMAGE), lambda L, part=part: [L.TimeDistributed(part(L))])

#: layers on images whose columns are the time, of which there may be any number: (batch, rows, time, channels)
COLUMNS_OPEN = {
    key: IMAGES[key]
    for key in (
        "cropping", "padding", "upsampling", "global_max", "global_average", "batch_norm", "batch_norm_rows",
        "layer_norm", "dropout", "dense", "activation", "leaky_relu", "softmax_rows", "rescaling", "permute",
    )
}  # fmt: skip
for key, part in COLUMNS_OPEN.items():
    sequential(f"open_columns_{key}", (ROWS, None, CHANNELS), lambda L, part=part: [part(L)])
for key in ("cropping", "padding", "upsampling", "global_max", "batch_norm", "dropout"):
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
