"""Graphs of one layer around recurrent ones, over all its options, and their inputs."""

import numpy as np

from cylstm.graph.builder import GraphBuilder

#: steps of the inputs
T = 11
#: engine, dtype, the error that it may make
ENGINES = (("packed", "float32", 4e-6), ("blas", "float32", 4e-6), ("blas", "float64", 1e-12))


def weight(rng, *shape):
    """Random float32 numbers, all different."""
    return rng.uniform(-0.9, 0.9, shape).astype(np.float32)


def weights_of(rng, kind, shape, options, sizes):
    """Random arrays for the weights of a layer of x of `shape`, role -> size, that its kind takes."""
    arrays = {role: weight(rng, *size) for role, size in sizes.items()}
    if "variance" in arrays:
        arrays["variance"] = np.abs(arrays["variance"]) + np.float32(0.1)
    if kind == "take":
        size = shape[options.get("axis", -1)] or T
        arrays["indices"] = rng.integers(0, size, arrays["indices"].shape).astype(np.float32)
    return arrays


def one_layer(rng, kind, shape, options=None, weights=None, *, others=(), masks=()):
    """A graph of one layer; `others` are further inputs, role -> shape; `masks` the roles that read an input's mask."""
    builder = GraphBuilder()
    values = {"x": builder.input("input", shape)}
    for role, other in others:
        values[role] = builder.input(f"input.{role}", other)
    inputs = dict(values)
    for role, of in masks:
        inputs[role] = builder.value(values[of].mask)
    arrays = weights_of(rng, kind, shape, options or {}, weights or {})
    builder.output(builder.add(kind, "tested", inputs, arrays, options)["y"])
    return builder.build()


def conv(groups=1, channels=6, filters=8, kernel=3, **options):
    """A convolution as (kind, shape of the input, options, shapes of the weights)."""
    return (
        "conv1d",
        (None, channels),
        {"groups": groups, **options},
        {"weight": (filters, kernel, channels // groups), "bias": (filters,)},
    )


CONVOLUTIONS = [
    conv(),
    conv(kernel=1),
    conv(stride=2),
    conv(dilation=3),
    conv(padding="same"),
    conv(padding="same", kernel=4),
    conv(padding="same", kernel=4, stride=3),
    conv(padding="same", dilation=2, kernel=2),
    conv(padding="causal"),
    conv(padding="causal", dilation=2, stride=2, kernel=4),
    conv(padding="explicit", pad_before=2, pad_after=1, stride=2),
    conv(groups=2),
    conv(groups=3, channels=9, filters=6, dilation=2, padding="causal"),
    conv(groups=6, filters=6),
    conv(groups=5, channels=5, filters=15, stride=2, padding="same"),
    conv(groups=17, channels=17, filters=34, padding="causal", activation="tanh"),
    # more taps than are taken at once, apart from each other or in groups; multipliers of no power of 2
    conv(kernel=10, dilation=2, padding="causal"),
    conv(kernel=17, dilation=3, padding="same"),
    conv(groups=2, kernel=9, padding="causal"),
    conv(groups=7, channels=7, filters=21),
    conv(groups=19, channels=19, filters=95, padding="same"),
    conv(channels=1, filters=70, kernel=5, activation="relu"),
    conv(channels=33, filters=5, kernel=2, activation="softmax"),
]


def conv2d(columns=9, groups=1, channels=6, filters=8, kernel=(3, 3), front=(None,), **options):
    """A convolution over rows and columns, as `conv`; `front` are the axes of the input before its columns."""
    return (
        "conv2d",
        (*front, columns, channels),
        {"groups": groups, **options},
        {"weight": (filters, *kernel, channels // groups), "bias": (filters,)},
    )


CONVOLUTIONS_2D = [
    conv2d(),
    conv2d(kernel=(1, 1)),
    conv2d(kernel=(2, 4), stride_rows=2, stride_columns=3),
    conv2d(kernel=(3, 2), dilation_rows=2, dilation_columns=4),
    conv2d(padding="same"),
    conv2d(padding="same", kernel=(4, 2), stride_rows=3, stride_columns=2),
    conv2d(padding="same", kernel=(2, 6), dilation_columns=3, channels=5),  # windows wider than the columns
    conv2d(padding="causal"),
    conv2d(padding="causal", kernel=(4, 3), dilation_rows=2, stride_rows=2, pad_left=2, activation="relu"),
    conv2d(padding="causal", kernel=(1, 3), pad_right=2),
    conv2d(padding="explicit", kernel=(3, 4), pad_before=2, pad_after=1, pad_left=3, pad_right=5, stride_columns=2),
    conv2d(padding="explicit", pad_before=4, pad_left=11, pad_right=4),  # windows that lie in the padding alone
    conv2d(kernel=(5, 9), channels=1, filters=70, padding="same", activation="relu"),
    conv2d(groups=2, padding="causal"),
    conv2d(groups=3, channels=9, filters=6, dilation_rows=2, dilation_columns=2, padding="same"),
    conv2d(groups=6, filters=6, padding="same"),
    conv2d(groups=17, channels=17, filters=34, padding="causal", activation="tanh", pad_left=1, pad_right=1),
    conv2d(groups=19, channels=19, filters=19, columns=7, kernel=(2, 3), stride_columns=2, dilation_rows=3),
    conv2d(groups=7, channels=7, filters=21, kernel=(3, 1)),
    conv2d(columns=1, channels=33, filters=5, kernel=(2, 1), activation="softmax"),
    conv2d(groups=6, filters=12, activation="softmax"),
    conv2d(columns=27, channels=3, filters=64, padding="same"),
    # more operands than a product takes at once: rows, and taps that do not lie side by side
    conv2d(kernel=(9, 2), padding="causal"),
    conv2d(kernel=(3, 5), groups=2, padding="same"),
    # each step an image of its own, and an image without time
    conv2d(front=(None, 7)),
    conv2d(front=(None, 5), padding="causal", kernel=(2, 3), stride_columns=2, stride_rows=2),
    conv2d(front=(T, 8), padding="same", groups=6, filters=6),
    conv2d(front=(T,), padding="same"),
]


def pool(**options):
    """A pooling layer as (kind, shape of the input, options)."""
    return ("pool1d", (None, 5), options)


def transpose(shape=(None, 6), filters=8, kernel=(3,), groups=1, **options):
    """A transposed convolution as (kind, shape of the input, options, shapes of the weights)."""
    weights = {"weight": (filters, *kernel, shape[-1] // groups), "bias": (filters,)}
    return ("conv_transpose", shape, {"groups": groups, **options}, weights)


TRANSPOSED = [
    transpose(),
    transpose(kernel=(4,), stride_rows=2),
    transpose(kernel=(4,), stride_rows=2, crop_after=2, activation="tanh"),
    transpose(kernel=(2,), stride_rows=3, output_padding_rows=1),
    transpose(kernel=(5,), stride_rows=3, crop_before=1, crop_after=2),
    transpose(kernel=(3,), stride_rows=3),
    transpose(kernel=(3,), stride_rows=2, dilation_rows=2, crop_after=3),
    transpose(kernel=(3,), stride_rows=4, dilation_rows=2, output_padding_rows=3, crop_before=2),
    transpose(kernel=(7,), dilation_rows=3, crop_after=18),
    transpose((None, 33), filters=5, kernel=(25,), stride_rows=2, crop_after=23, activation="softmax"),
    transpose((None, 9), filters=6, groups=3, kernel=(4,), stride_rows=2, crop_after=2),
    transpose((None, 17), filters=34, groups=17, kernel=(3,), stride_rows=2),
    transpose((T, 4), filters=70, kernel=(3,), stride_rows=2, crop_before=1, output_padding_rows=1),
    transpose((None, 5, 4), filters=3, kernel=(4,), stride_rows=2, crop_before=1, crop_after=1),
    transpose((None, 5, 4), kernel=(3, 2)),
    transpose((None, 5, 4), filters=17, kernel=(4, 3), stride_rows=2, stride_columns=2, crop_after=2, crop_left=1),
    transpose((None, 5, 4), kernel=(2, 3), stride_rows=2, stride_columns=3, dilation_columns=2, crop_right=2),
    transpose((None, 3, 4), kernel=(5, 3), stride_rows=2, crop_before=2, crop_after=2, crop_left=1, crop_right=1),
    transpose((None, 3, 6), groups=2, kernel=(3, 3), dilation_rows=2, output_padding_columns=0, crop_after=4),
    transpose((5, 4, 3), kernel=(3, 3), stride_rows=2, stride_columns=2, crop_before=1, crop_left=1,
              output_padding_rows=1, output_padding_columns=1),
    transpose((None, 3, 5, 4), filters=6, kernel=(3, 4), stride_rows=2, stride_columns=3, crop_before=1, crop_right=2),
]  # fmt: skip


POOLS = [
    pool(stride=2),
    pool(pool=3, stride=2, padding="same"),
    pool(pool=4, padding="same", mode="average"),
    pool(pool=3, stride=3, mode="average"),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, mode="average", count_include_pad=True),
    pool(pool=4, stride=3, padding="same", mode="average", count_include_pad=True),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, mode="average"),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, dilation=2),
    pool(pool=3, stride=2, ceil_mode=True),
    pool(pool=4, stride=3, ceil_mode=True, mode="average", count_include_pad=True),
    pool(pool=4, stride=3, ceil_mode=True, mode="average", padding="explicit", pad_before=1, pad_after=1),
    pool(
        pool=4, stride=3, ceil_mode=True, mode="average", padding="explicit", pad_before=1, pad_after=1,
        count_include_pad=True,
    ),
    ("pool1d", (None, 7, 3), {"axis": 1, "pool": 3, "stride": 2}),
    ("pool1d", (None, 7, 3), {"axis": 1, "pool": 3, "stride": 2, "padding": "same", "mode": "average"}),
    ("pool1d", (None, 3, 7), {"axis": 2, "pool": 2, "stride": 3, "padding": "explicit", "pad_before": 1}),
    ("pool1d", (T, 8, 3, 2), {"axis": 1, "pool": 3, "stride": 2, "ceil_mode": True, "mode": "average"}),
    # a last window that begins within the input only for this many steps
    ("pool1d", (T, 4), {"pool": 3, "stride": 5, "ceil_mode": True}),
    ("pool1d", (T, 9, 2), {"axis": -2, "pool": 2, "stride": 4, "ceil_mode": True, "mode": "average"}),
    ("pool1d", (None, 9, 2), {"axis": 1, "pool": 3, "dilation": 2, "padding": "explicit", "pad_before": 2}),
    ("pool1d", (None, 5, 18), {"stride": 2, "mode": "average"}),
    # windows of the padding alone
    ("pool1d", (None, 2, 3), {"axis": 1, "dilation": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1}),
    ("pool1d", (2, 5), {"mode": "average", "dilation": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1,
                        "count_include_pad": True}),
    ("pool1d", (2, 5), {"mode": "average", "dilation": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1}),
]  # fmt: skip


NORMS = [
    (
        "batch_norm",
        (None, 7),
        {"epsilon": 1e-3},
        {"gain": (7,), "shift": (7,), "mean": (7,), "variance": (7,)},
    ),
    ("batch_norm", (None, 3, 19), {}, {"mean": (19,), "variance": (19,)}),
    ("batch_norm", (5,), {}, {"mean": (5,), "variance": (5,), "shift": (5,)}),
    ("layer_norm", (None, 21), {}, {"gain": (21,), "shift": (21,)}),
    ("layer_norm", (None, 3, 5), {"axes": 2}, {"gain": (15,)}),
    ("layer_norm", (T, 4), {"axes": 2}, {"gain": (4 * T,), "shift": (4 * T,)}),
    ("layer_norm", (None, 17), {"mode": "rms", "epsilon": 1e-6}, {"gain": (17,)}),
    ("layer_norm", (None, 40), {"mode": "scaled", "epsilon": 1e-3}, {"gain": (40,)}),
    ("layer_norm", (9,), {}, {}),
    ("group_norm", (None, 12), {"groups": 3}, {"gain": (12,), "shift": (12,)}),
    ("group_norm", (None, 5), {"groups": 5}, {}),
    ("group_norm", (None, 2, 8), {"groups": 2}, {"gain": (8,)}),
]


SHAPES = [
    ("reshape", (None, 12), {"shape": "time,3,-1"}),
    ("reshape", (None, 3, 4), {"shape": "time,-1"}),
    ("reshape", (T, 4), {"shape": "-1"}),
    ("reshape", (T, 4), {"shape": "2,-1,2"}),
    ("reshape", (12,), {"shape": "4,3"}),
    ("permute", (T, 4), {"order": "10"}),
    ("permute", (None, 3, 4, 2), {"order": "0312"}),
    ("permute", (T, 3, 4), {"order": "201"}),
    ("slice", (None, 7), {"axis": -1, "start": 2, "count": 3}),
    ("slice", (None, 7), {"axis": 1, "start": -3, "count": 2, "step": 2}),
    ("slice", (None, 7), {"axis": 0, "start": 2, "before_end": 3}),
    ("slice", (None, 7), {"axis": 0, "start": 1, "step": 3}),
    ("slice", (None, 7), {"axis": 0, "start": 0, "count": 1}),
    ("slice", (None, 7), {"axis": 0, "start": -1, "count": 1}),
    ("slice", (T, 3, 5), {"axis": 0, "start": -4, "count": 3}),
    ("slice", (9,), {"axis": 0, "start": 1, "step": 2, "before_end": 1}),
    ("pad", (None, 4), {"before": 2, "after": 3}),
    ("pad", (None, 4), {"before": 2, "after": 3, "mode": "replicate"}),
    ("pad", (T, 4), {"before": 3, "after": 2, "mode": "reflect"}),
    ("pad", (T, 4), {"before": 3, "after": 2, "mode": "circular"}),
    ("pad", (None, 4), {"axis": 1, "before": 1, "after": 2, "mode": "reflect"}),
    ("upsample", (None, 4), {"size": 3}),
    ("upsample", (None, 2, 3), {"axis": 1, "size": 2}),
    ("repeat_vector", (6,), {"count": 4}),
    ("reverse", (None, 5), {}),
    ("reverse", (T, 3), {}),
]


#: the modes of a reduction that are taken in double
FOLDS = ("prod", "var", "norm", "any", "all", "argmax", "argmin", "logsumexp")

REDUCTIONS = [
    *(("reduce", (None, 5), {"mode": mode}) for mode in ("mean", "sum", "max", "min")),
    ("reduce", (None, 5), {"mode": "max", "axis": 1}),
    ("reduce", (None, 3, 4), {"mode": "mean", "axis": -2}),
    ("reduce", (None, 3, 4), {"mode": "mean", "axis": 0}),
    ("reduce", (6,), {"mode": "sum"}),
    *(("reduce", (None, 5), {"mode": mode}) for mode in FOLDS),
    *(("reduce", (None, 3, 21), {"mode": mode, "axis": 1}) for mode in FOLDS),
    ("reduce", (None, 35), {"mode": "argmax", "axis": 1}),
    ("reduce", (None, 3, 4), {"mode": "argmin", "axis": 0}),
    ("reduce", (None, 2, 4), {"mode": "var", "axis": 1, "correction": 1}),
    ("reduce", (None, 2, 4), {"mode": "var", "axis": 1, "correction": 2.5}),
    ("reduce", (None, 40), {"mode": "logsumexp", "axis": -1}),
    ("reduce", (T, 4, 9), {"mode": "norm", "axis": 0}),
    ("reduce", (6,), {"mode": "prod"}),
    ("softmax", (None, 5), {"axis": 0}),
    ("softmax", (None, 3, 4), {"axis": 1}),
    ("softmax", (None, 37), {}),
    ("softmax", (None, 5), {"axis": 0, "log": True}),
    ("softmax", (None, 3, 4), {"axis": 1, "log": True}),
    ("softmax", (None, 37), {"log": True}),
    ("softmax", (1,), {"log": True}),
    ("prelu", (None, 6), {}, {"slope": (6,)}),
    ("prelu", (None, 3, 20), {}, {"slope": (60,)}),
    ("prelu", (None, 6), {}, {"slope": (1,)}),
    ("glu", (None, 38), {}),
    ("glu", (None, 3, 4), {"activation": "tanh"}),
    ("dense", (None, 3, 5), {"activation": "softmax"}, {"weight": (4, 5), "bias": (4,)}),
    ("dense", (T, 5), {}, {"weight": (70, 5)}),
    ("activation", (None, 3, 5), {"activation": "softmax"}),
    ("masking", (None, 3), {"mask_value": 0.0}),
    *(("function", (None, 7), {"function": name}) for name in ("sin", "cbrt", "asinh", "erf", "round", "isnan")),
    ("function", (None, 3, 5), {"function": "exp2"}),
    ("function", (19,), {"function": "tan"}),
    ("step_table", (None, 3), {}, {"table": (40, 5)}),
    ("step_table", (T, 2, 3), {}, {"table": (T, 70)}),
    ("positions", (None, 3), {}),
    ("positions", (None, 2, 3), {"start": -2.5, "step": 0.3}),
    ("positions", (T, 3), {"step": -1.0}),
]


#: layers along one axis that keep it
ALONG = [
    *(("cumulate", (None, 5), {"mode": mode}) for mode in ("sum", "prod", "max", "min")),
    *(("cumulate", (None, 5), {"mode": mode, "exclusive": True}) for mode in ("sum", "prod")),
    ("cumulate", (None, 3, 20), {"mode": "sum"}),
    ("cumulate", (None, 5), {"mode": "sum", "reverse": True}),
    ("cumulate", (None, 3, 6), {"mode": "prod", "axis": 1, "reverse": True, "exclusive": True}),
    ("cumulate", (T, 4), {"mode": "min"}),
    ("cumulate", (20,), {"mode": "max"}),
    ("take", (None, 7), {"axis": -1}, {"indices": (9,)}),
    ("take", (None, 3, 4), {"axis": 1}, {"indices": (5,)}),
    ("take", (T, 4), {"axis": 0}, {"indices": (6,)}),
    ("take", (9,), {}, {"indices": (4,)}),
    ("topk", (None, 21), {"k": 4}),
    ("topk", (None, 5, 3), {"k": 2, "axis": 1, "largest": False}),
    ("topk", (T, 4), {"k": 3, "axis": 0}),
    ("topk", (None, 5), {"k": 0, "axis": 0}),
    ("topk", (17,), {"k": 0, "largest": False}),
]


ONE_INPUT = [*CONVOLUTIONS, *CONVOLUTIONS_2D, *TRANSPOSED, *POOLS, *NORMS, *SHAPES, *REDUCTIONS, *ALONG]


#: layers of several inputs: (kind, shape, options, shapes of the weights, further inputs)
SEVERAL = [
    *(
        ("merge", (None, 3, 5), {"mode": mode}, {}, [("x1", (5,)), ("x2", (3, 1))])
        for mode in ("sum", "mul", "ave", "sub", "max", "min")
    ),
    ("merge", (None, 5), {"mode": "sum"}, {}, [("x1", (1, 5))]),
    ("merge", (5,), {"mode": "mul"}, {}, [("x1", (None, 5))]),
    ("merge", (None, 1), {"mode": "mul"}, {}, [("x1", (18,))]),
    ("merge", (6,), {"mode": "sub"}, {}, [("x1", (6,))]),
    ("merge", (T, 3), {"mode": "concat", "axis": 0}, {}, [("x1", (4, 3))]),
    ("merge", (T, 3, 2), {"mode": "concat", "axis": 1}, {}, [("x1", (T, 1, 2))]),
    ("merge", (6,), {"mode": "concat"}, {}, [("x1", (3,))]),
    *(
        ("merge", (None, 3, 5), {"mode": mode}, {}, [("x1", (3, 1))])
        for mode in ("mod", "fmod", "atan2", "hypot", "copysign", "less", "greater_equal", "and")
    ),
    ("merge", (None, 5), {"mode": "not_equal"}, {}, [("x1", (1, 5))]),
    ("merge", (5,), {"mode": "atan2"}, {}, [("x1", (None, 5))]),
    ("merge", (None, 1), {"mode": "hypot"}, {}, [("x1", (18,))]),
    ("merge", (T, 4), {"mode": "mod"}, {}, [("x1", (T, 1))]),
    ("where", (None, 3, 5), {}, {}, [("x1", (5,)), ("condition", (3, 1))]),
    ("where", (None, 1), {}, {}, [("x1", (7,)), ("condition", (1, 7))]),
    ("where", (6,), {}, {}, [("x1", (None, 6)), ("condition", (1, 1))]),
    ("dot", (None, 5), {}, {}, [("x1", (4, 5))]),
    ("dot", (20,), {"normalize": True}, {}, [("x1", (20,))]),
    ("take_along", (None, 7), {}, {}, [("indices", (3,))]),
    ("take_along", (None, 7), {"axis": 0}, {}, [("indices", (1,))]),
    ("take_along", (None, 7), {"axis": 0}, {}, [("indices", (None, 7))]),
    ("take_along", (None, 3, 4), {"axis": 1}, {}, [("indices", (5, 1))]),
    ("take_along", (1, 7), {"axis": 1}, {}, [("indices", (None, 2))]),
    ("take_along", (T, 3, 4), {"axis": 0}, {}, [("indices", (2, 1, 1))]),
    ("take_along", (9,), {}, {}, [("indices", (4,))]),
    ("matmul", (None, 5), {}, {}, [("x1", (5, 4))]),
    ("matmul", (None, 5), {"transpose_x1": True}, {}, [("x1", (4, 5))]),
    ("matmul", (None, 5), {}, {}, [("x1", (5, 1))]),
    ("matmul", (None, 3, 5), {}, {}, [("x1", (5, 4))]),
    ("matmul", (3, 5), {}, {}, [("x1", (None, 5, 4))]),
    ("matmul", (None, 5, 3), {"transpose_x": True, "transpose_x1": True}, {}, [("x1", (4, 5))]),
    ("matmul", (T, 3), {"transpose_x": True}, {}, [("x1", (T, 4))]),
    ("matmul", (2, 5, 3), {"transpose_x": True}, {}, [("x1", (5, 1))]),
    ("matmul", (5, 1), {"transpose_x": True}, {}, [("x1", (5, 4))]),
    ("matmul", (2, 1, 3, 5), {}, {}, [("x1", (4, 5, 6))]),
    ("attention", (None, 8), {"heads": 2, "scale": 0.5}, {}, [("key", (9, 8)), ("value", (9, 6))]),
    ("attention", (None, 8), {"causal": True}, {}, [("key", (9, 8)), ("value", (9, 6))]),
    (
        "attention",
        (None, 8),
        {"score": "additive"},
        {"weight": (8,)},
        [("key", (9, 8)), ("value", (9, 6))],
    ),
    (
        "attention",
        (None, 8),
        {"score": "concat", "factor": 0.7},
        {"weight": (1,)},
        [("key", (9, 8)), ("value", (9, 6))],
    ),
]


#: all of them, and a name for each
CASES = [(case[0], case[1], *(case[2:] if len(case) > 2 else ())) for case in (*ONE_INPUT, *SEVERAL)]


IDS = [f"{i} {case[0]} {case[1]} {case[2]}" for i, case in enumerate(CASES)]


def graph_of(rng, case):
    """The graph of one layer that `case`, one of `CASES`, describes."""
    kind, shape, options, *rest = case
    return one_layer(rng, kind, shape, options, rest[0] if rest else {}, others=rest[1] if len(rest) > 1 else ())


def inputs_of(rng, graph, batch=3, time=T):
    """Random arrays for the inputs of `graph`."""
    arrays = []
    for name in graph.inputs:
        shape = (batch, *(time if size is None else size for size in graph.values[name].shape))
        is_indices = name.endswith(".indices")
        array = rng.integers(-1, 12, shape) if is_indices else rng.normal(size=shape)
        arrays.append(array.astype("f"))
    return arrays


def ask(model, inputs, **options):
    """What `model` predicts of a list of `inputs`, which `predict` takes as a list only if there are several."""
    return model.predict(inputs if len(inputs) > 1 else inputs[0], **options)
