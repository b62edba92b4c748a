"""Convolution over rows and columns: what its rows may be, how it agrees with one dimension, and what is refused."""

import numpy as np
import pytest

import cylstm
from cylstm import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import conv, conv2d, graph_of, weight
from tests.builders.networks import bits


def graph_between(rng, x_shape, weight_shape, **options):
    """A graph of one convolution of random weights."""
    builder = GraphBuilder()
    weights = {"weight": weight(rng, *weight_shape), "bias": weight(rng, weight_shape[0])}
    builder.output(builder.add("conv2d", "conv", {"x": builder.input("x", x_shape)}, weights, options)["y"])
    return builder.build()


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("is_transposed", [False, True], ids=["over rows", "over columns"])
def test_a_kernel_of_one_column_or_row_gives_the_bits_of_a_convolution_over_time(rng, groups, is_transposed):
    graph = graph_of(rng, conv(groups=groups, filters=12, kernel=4, stride=2, dilation=2, padding="causal"))
    tensors = graph.tensors
    x = rng.normal(size=(3, 40, 6)).astype("f")
    builder = GraphBuilder()
    taps = tensors["tested.weight"]
    weights = {"bias": tensors["tested.bias"]}
    if is_transposed:
        options = {"stride_columns": 2, "dilation_columns": 2, "pad_left": 6}
        weights["weight"] = taps[:, np.newaxis]
        image = builder.input("x", (None, 40, 6))
    else:
        options = {"stride_rows": 2, "dilation_rows": 2, "padding": "causal"}
        weights["weight"] = taps[:, :, np.newaxis]
        image = builder.input("x", (None, 1, 6))
    builder.output(builder.add("conv2d", "conv", {"x": image}, weights, {"groups": groups, **options})["y"])
    found = cylstm.Model(builder.build()).predict(x[:, np.newaxis] if is_transposed else x[:, :, np.newaxis])
    expected = cylstm.Model(graph).predict(x)
    np.testing.assert_array_equal(bits(found.reshape(expected.shape)), bits(expected))


def test_images_that_follow_each_other_give_the_bits_of_each_alone(rng):
    options = {"padding": "same", "stride_rows": 2, "activation": "tanh"}
    series = graph_between(rng, (None, 7, 9, 4), (5, 3, 3, 4), **options)
    builder = GraphBuilder()
    weights = {role: series.tensors[f"conv.{role}"] for role in ("weight", "bias")}
    builder.output(builder.add("conv2d", "conv", {"x": builder.input("x", (None, 9, 4))}, weights, options)["y"])
    alone = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 5, 7, 9, 4)).astype("f")
    found = cylstm.Model(series).predict(x)
    for t in range(5):
        np.testing.assert_array_equal(bits(found[:, t]), bits(alone.predict(x[:, t])))


def test_an_image_without_time_is_convolved(rng):
    """The last state of a convolutional LSTM over rows and columns."""
    builder = GraphBuilder()
    cell = {"weight_ih": weight(rng, 12, 4 * 2), "weight_hh": weight(rng, 12, 4 * 3)}
    kernel = {"kernel_rows": 2, "kernel_columns": 2}
    state = builder.add("conv_lstm", "cell", {"x": builder.input("x", (None, 6, 5, 2))}, cell, kernel)["h"]
    weights = {"weight": weight(rng, 7, 3, 2, 3)}
    y = builder.add("conv2d", "conv", {"x": state}, weights, {"padding": "causal", "pad_right": 1})["y"]
    assert (y.kind, y.shape) == ("vector", (5, 4, 7))
    builder.output(y)
    graph = builder.build()
    x = rng.normal(size=(3, 6, 6, 5, 2)).astype("f")
    (expected,), _ = reference.predict(graph, x)
    model = cylstm.Model(graph)
    assert [name for name in model.state_names if "conv" in name] == []
    for threads in (1, 3):
        np.testing.assert_allclose(model.predict(x, threads=threads), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("columns", [5, 9])
def test_a_row_is_divided_among_threads_that_do_not_all_get_columns_of_it(rng, columns):
    """Four parts of five columns are 2, 2, 1 and none."""
    model = cylstm.Model(graph_between(rng, (None, columns + 2, 3), (7, 4, 3, 3)))
    x = rng.normal(size=(1, 4, columns + 2, 3)).astype("f")
    expected = model.predict(x, threads=1)
    assert expected.shape == (1, 1, columns, 7)
    for threads in (2, 3, 4, 5, 6):
        np.testing.assert_array_equal(bits(model.predict(x, threads=threads)), bits(expected))


def test_a_stream_by_rows_carries_the_rows_before(rng):
    graph = graph_of(rng, conv2d(columns=4, channels=3, padding="causal", kernel=(3, 2), dilation_rows=2))
    model = cylstm.Model(graph)
    x = rng.normal(size=(2, 9, 4, 3)).astype("f")
    stream = model.stream(2)
    stream.run(x)
    ((history,),) = stream.state
    np.testing.assert_array_equal(history, x[:, -4:])
    few = model.stream(2)
    few.run(x[:, :1])
    few.run(x[:, 1:3])  # fewer rows than the history has
    np.testing.assert_array_equal(few.state[0][0], np.concatenate([np.zeros((2, 1, 4, 3)), x[:, :3]], axis=1))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("is_framed", [False, True], ids=["rows", "images"])
@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
def test_numbers_of_an_image_below_the_threshold_count_as_zero(rng, padding, groups, is_framed, threads):
    shape = (None, 13, 17, 5) if is_framed else (None, 17, 5)
    options = {"padding": padding, "groups": groups, "pad_left": int(padding == "causal")}
    graph = graph_between(rng, shape, (5, 3, 2, 5 // groups), **options)
    # so large that a number which is no zero shows
    graph.tensors["conv.weight"][:, 1, 1] *= np.float32(1e38)
    model = cylstm.Model(graph)
    x = rng.normal(size=(3, *[size or 61 for size in shape])).astype("f")
    x[rng.random(x.shape) < 0.1] = np.float32(2.0**-41)
    x[rng.random(x.shape) < 0.1] = np.float32(-1e-42)
    x[rng.random(x.shape) < 0.1] = np.float32(-0.0)
    zeroed = np.where(np.abs(x) < 2.0**-40, np.float32(0), x)
    before = x.copy()
    expected = model.predict(zeroed, threads=threads)
    np.testing.assert_array_equal(bits(model.predict(x, threads=threads)), bits(expected))
    np.testing.assert_array_equal(bits(x), bits(before))
    if model.can_stream:
        stream, other = model.stream(3), model.stream(3)
        stream.run(x[:, :3])
        other.run(zeroed[:, :3])
        for kept, wanted in zip(stream.state, other.state, strict=True):
            for one, another in zip(kept, wanted, strict=True):
                np.testing.assert_array_equal(bits(one), bits(another))
        np.testing.assert_array_equal(bits(stream.run(x[:, 3:])), bits(other.run(zeroed[:, 3:])))


#: layers in a row behind a convolution: an activation, a batch normalisation, or a second reader
FOLLOWING = [
    ("relu",),
    ("tanh",),
    ("batch_norm", "relu"),
    ("relu", "batch_norm", "elu"),
    ("batch_norm", "batch_norm"),
    ("softmax", "relu"),
    ("sum", "relu"),
]


def following_graph(rng, kinds, has_all, activation):
    """Two convolutions, both with the layers `kinds` behind them; their values are outputs too if `has_all`."""
    builder = GraphBuilder()
    y = builder.input("x", (None, 19, 3))
    for stage, channels in enumerate((3, 17)):
        weights = {"weight": weight(rng, 17, 3, 3, channels)}
        options = {"padding": "causal", "pad_left": 1, "pad_right": 1, "activation": activation}
        values = [builder.add("conv2d", f"conv{stage}", {"x": y}, weights, options)["y"]]
        for number, kind in enumerate(kinds):
            name = f"{kind}{stage}{number}"
            if kind == "batch_norm":
                numbers = {role: rng.normal(size=17).astype("f") for role in ("gain", "shift", "mean")}
                numbers["variance"] = rng.uniform(0.5, 2.0, 17).astype("f")
                layer = builder.add("batch_norm", name, {"x": values[-1]}, numbers)
            elif kind == "sum":
                half = builder.add("activation", f"half{stage}", {"x": values[-1]}, options={"activation": "sigmoid"})
                other = builder.add("activation", f"other{stage}", {"x": values[-1]}, options={"activation": "elu"})
                layer = builder.add("merge", name, {"x": half["y"], "x1": other["y"]}, options={"mode": "sum"})
            else:
                layer = builder.add("activation", name, {"x": values[-1]}, options={"activation": kind})
            values.append(layer["y"])
        y = values[-1]
        for value in values[:-1] if has_all else ():
            builder.output(value)
    builder.output(y)
    return builder.build()


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("kinds", FOLLOWING, ids="-".join)
def test_layers_that_follow_a_convolution_give_the_bits_of_each_by_itself(kinds, activation, engine):
    models = [
        cylstm.Model(following_graph(np.random.default_rng(3), kinds, has_all, activation), engine=engine)
        for has_all in (False, True)
    ]
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 29, 19, 3)).astype("f")
    x[0, 5:9] = np.float32(2.0**-39)  # some sums are below the threshold
    x[1, 20, 7, 1] = np.nan
    together = models[0].predict(x, threads=1)
    *_, apart = models[1].predict(x, threads=1)
    assert np.isnan(together[1]).any()
    assert not np.isnan(together[[0, 2]]).any()
    np.testing.assert_array_equal(bits(together), bits(apart))
    np.testing.assert_array_equal(bits(models[0].predict(x, threads=3)), bits(together))
    (*_, expected), _ = reference.predict(models[1].graph, np.nan_to_num(x))
    atol = 1e-5 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(models[0].predict(np.nan_to_num(x)), expected, rtol=0, atol=atol)
    stream = models[0].stream(3)
    pieces = [stream.run(x[:, at : at + 4]) for at in range(0, 29, 4)]
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(together))


ROWS, COLUMNS = {"axis": 0, "pool": 2, "stride": 2}, {"axis": 1, "pool": 2, "stride": 2}
RELU, TURN, FLAT = {"activation": "relu"}, {"order": "021"}, {"shape": "time,-1"}

#: layers behind a convolution that pool its rows or move its numbers: some of them it computes itself
MOVING = {
    "rows": [("pool1d", ROWS)],
    "columns": [("pool1d", COLUMNS)],
    "rows and columns": [("pool1d", ROWS), ("pool1d", COLUMNS)],
    "columns and rows": [("pool1d", COLUMNS), ("pool1d", ROWS)],
    "three rows and five columns": [
        ("pool1d", {"axis": 0, "pool": 3, "stride": 3}), ("pool1d", {"axis": 1, "pool": 5, "stride": 5})
    ],
    "nine rows": [("pool1d", {"axis": 0, "pool": 9, "stride": 9})],
    "rows twice": [("pool1d", ROWS), ("pool1d", ROWS)],
    "filters": [("pool1d", {"axis": 2, "pool": 2, "stride": 2})],
    "windows that overlap": [("pool1d", {"axis": 1, "pool": 3, "stride": 2})],
    "windows apart": [("pool1d", {"axis": 0, "pool": 2, "stride": 3})],
    "windows with gaps": [("pool1d", {"axis": 1, "pool": 2, "stride": 2, "dilation": 2})],
    "the average": [("pool1d", {**COLUMNS, "mode": "average"})],
    "padded columns": [("pool1d", {**COLUMNS, "padding": "same"})],
    "one column more": [("pool1d", {**COLUMNS, "ceil_mode": True})],
    "between activations": [("activation", RELU), ("pool1d", COLUMNS), ("activation", {"activation": "tanh"})],
    "an activation between": [("pool1d", ROWS), ("activation", {"activation": "elu"}), ("pool1d", COLUMNS)],
    "turned": [("permute", TURN)],
    "turned and flat": [("activation", RELU), ("permute", TURN), ("reshape", FLAT)],
    "pooled, turned and flat": [
        ("pool1d", ROWS), ("pool1d", COLUMNS), ("activation", {"activation": "sigmoid"}), ("permute", TURN),
        ("reshape", FLAT),
    ],
    "flat": [("pool1d", COLUMNS), ("reshape", FLAT)],
    "turned twice": [("permute", TURN), ("permute", TURN)],
    "pooled when turned": [("permute", TURN), ("pool1d", COLUMNS)],
    "a softmax when flat": [("reshape", FLAT), ("activation", {"activation": "softmax"})],
    "an activation when turned": [("permute", TURN), ("activation", RELU)],
}  # fmt: skip


def moving_graph(layers, has_all, is_framed):
    """A convolution with `layers` behind it; what lies between is an output too if `has_all`."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder()
    weights = {"weight": weight(rng, 17, 3, 3, 3), "bias": weight(rng, 17)}
    padding = {"pad_left": 1, "pad_right": 1, "padding": "same" if is_framed else "causal"}
    y = builder.input("x", (None, *([11] if is_framed else []), 19, 3))
    y = builder.add("conv2d", "conv", {"x": y}, weights, padding)["y"]
    for number, (kind, options) in enumerate(layers):
        if has_all:
            builder.output(y)
        if is_framed and "axis" in options:
            options = {**options, "axis": options["axis"] + 1}
        elif is_framed and kind == "permute":
            options = {"order": "0132"}
        y = builder.add(kind, f"{kind}{number}", {"x": y}, options=options)["y"]
    builder.output(y)
    return builder.build()


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("is_framed", [False, True], ids=["rows", "images"])
@pytest.mark.parametrize("layers", MOVING.values(), ids=list(MOVING))
def test_poolings_and_moves_behind_a_convolution_give_the_bits_of_each_by_itself(layers, is_framed, engine):
    models = [cylstm.Model(moving_graph(layers, has_all, is_framed), engine=engine) for has_all in (False, True)]
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 6, 11, 19, 3) if is_framed else (3, 37, 19, 3)).astype("f")
    x[0, 2:5] = np.float32(2.0**-39)  # some sums are below the threshold
    wrong = x.copy()
    wrong[1, 3, 7, 1] = np.nan
    wrong[2, 4, 6] = np.inf
    for given in (x, wrong):
        together = models[0].predict(given, threads=1)
        *_, apart = models[1].predict(given, threads=1)
        np.testing.assert_array_equal(bits(together), bits(apart))
        for threads in (2, 5):
            np.testing.assert_array_equal(bits(models[0].predict(given, threads=threads)), bits(together))
        np.testing.assert_array_equal(bits(models[0].predict(given[:1], threads=3)), bits(together[:1]))
    assert np.isnan(together[1]).any()
    (*_, expected), _ = reference.predict(models[1].graph, x)
    together = models[0].predict(x)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))
    if models[0].can_stream:
        stream, multiple = models[0].stream(3), models[0]._packed.step_multiple
        pieces = [stream.run(x[:, at : at + multiple]) for at in range(0, x.shape[1] - multiple + 1, multiple)]
        found = np.concatenate(pieces, axis=1)
        np.testing.assert_array_equal(bits(found), bits(together[:, : found.shape[1]]))


@pytest.mark.parametrize(
    "shape, weight_shape, options, error, message",
    [
        ((None, 6), (4, 3, 3, 6), {}, ShapeError, r"expected \(rows, columns, channels\)"),
        ((None, 9, 6), (4, 3, 6), {}, ShapeError, r"expected shape \(filters, kernel_rows, kernel_columns, 6/1\)"),
        ((None, 9, 6), (4, 3, 3, 5), {}, ShapeError, r"expected shape \(4, 3, 3, 6\), found \(4, 3, 3, 5\)"),
        ((None, 9, 6), (4, 3, 3, 6), {"groups": 4}, ShapeError, "6/4"),
        ((None, 2, 6), (4, 3, 3, 6), {}, ShapeError, "a kernel that reaches over 3 columns does not fit 2"),
        ((2, 9, 6), (4, 3, 3, 6), {}, ShapeError, "2 steps are too few"),
        ((None, 9, 6), (4, 3, 3, 6), {"stride_columns": 0}, UnsupportedError, "stride_columns expected a whole number"),
        ((None, 9, 6), (4, 3, 3, 6), {"dilation_rows": 1.5}, UnsupportedError, "dilation_rows expected a whole number"),
        ((None, 9, 6), (4, 3, 3, 6), {"pad_before": 1}, UnsupportedError, "contradict padding='valid'"),
        ((None, 9, 6), (4, 3, 3, 6), {"padding": "same", "pad_left": 2}, UnsupportedError, "contradict padding='same'"),
        ((None, 9, 6), (4, 3, 3, 6), {"padding": "full"}, UnsupportedError, "padding expected 'valid' or 'same'"),
    ],
)
def test_what_does_not_fit_is_refused(rng, shape, weight_shape, options, error, message):
    with pytest.raises(error, match=message):
        graph_between(rng, shape, weight_shape, **options)


def test_a_convolution_that_looks_ahead_says_why_it_does_not_stream(rng):
    model = cylstm.Model(graph_of(rng, conv2d(padding="same")))
    with pytest.raises(UnsupportedError, match='padding="causal" does not'):
        model.stream()
    model = cylstm.Model(graph_of(rng, conv2d(kernel=(3, 1), stride_rows=2)))
    assert model.stream().warm_up == 2


def test_a_pooling_whose_windows_lie_in_two_chunks_of_a_stream_gives_the_bits_of_the_whole(rng):
    builder = GraphBuilder()
    weights = {"weight": weight(rng, 17, 2, 3, 3)}
    y = builder.add("conv2d", "conv", {"x": builder.input("x", (None, 19, 3))}, weights)["y"]
    builder.output(builder.add("pool1d", "pool", {"x": y}, options=ROWS)["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 24, 19, 3)).astype("f")
    stream = model.stream(3)
    found = np.concatenate([stream.run(x[:, at : at + 4]) for at in range(0, 24, 4)], axis=1)
    np.testing.assert_array_equal(bits(found), bits(model.predict(x)))
