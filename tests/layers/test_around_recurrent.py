"""The layers around recurrent ones: each against the float64 reference, in every engine."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import (
    CASES,
    ENGINES,
    IDS,
    T,
    ask,
    conv,
    conv2d,
    graph_of,
    inputs_of,
    one_layer,
    pool,
    transpose,
    weight,
    weights_of,
)
from tests.builders.networks import bits, reloaded


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_layer_gives_the_references_numbers_in_every_engine(rng, case):
    graph = graph_of(rng, case)
    inputs = inputs_of(rng, graph)
    if case[0] == "masking":
        inputs[0][:, ::3] = 0
    (expected,), _ = reference.predict(graph, *inputs)
    scale = max(1.0, np.abs(expected).max())
    for engine, dtype, tolerance in (
        ("packed", "float32", 4e-6),
        ("blas", "float32", 4e-6),
        ("blas", "float64", 1e-12),
    ):
        found = ask(cylstm.Model(graph, engine=engine, dtype=dtype), inputs)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=f"{engine} {dtype}")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_layer_gives_the_same_bits_on_every_machine_and_in_every_batch(rng, case, monkeypatch):
    graph = graph_of(rng, case)
    inputs = inputs_of(rng, graph, batch=5)
    expected = bits(ask(cylstm.Model(graph), inputs, threads=1))
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.Model(graph)
        for threads in (1, 2, 7):
            np.testing.assert_array_equal(bits(ask(model, inputs, threads=threads)), expected)
        for row in (0, 4):
            alone = [x[row : row + 1] for x in inputs]
            np.testing.assert_array_equal(bits(ask(model, alone, threads=2))[0], expected[row])


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_layer_that_streams_gives_the_bits_of_the_whole_and_another_says_why_not(rng, case):
    graph = graph_of(rng, case)
    model = cylstm.Model(graph)
    if not model.can_stream:
        with pytest.raises(UnsupportedError, match="no time axis|fixed number of steps|cannot run step by step"):
            model.stream()
        return
    multiple = model._packed.step_multiple
    inputs = inputs_of(rng, graph, time=12 * multiple)
    whole, state = model.predict(inputs if len(inputs) > 1 else inputs[0], return_state=True)

    def part(at):
        taken = [x[:, at] if value.has_time else x for x, value in zip(inputs, model._packed.inputs)]
        return taken if len(taken) > 1 else taken[0]

    stream = model.stream(3)
    pieces, at = [], 0
    for steps in (1, 4, 2, 5):
        pieces.append(stream.run(part(slice(at * multiple, (at + steps) * multiple))))
        at += steps
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
    for found, wanted in zip(stream.state, state):
        np.testing.assert_array_equal(found[0], wanted[0])
    if multiple > 1:
        with pytest.raises(ShapeError, match=f"expected a multiple of {multiple} steps at once, found 1"):
            stream.step(part(0))


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_layer_survives_every_way_of_saving_and_loading(rng, case, tmp_path):
    graph = graph_of(rng, case)
    inputs = inputs_of(rng, graph)
    model = cylstm.Model(graph)
    expected = bits(ask(model, inputs))
    for again in reloaded(model, tmp_path):
        assert again.graph.layers == graph.layers
        assert dict(again.graph.values) == dict(graph.values)
        np.testing.assert_array_equal(bits(ask(again, inputs)), expected)
        for name, array in graph.tensors.items():
            np.testing.assert_array_equal(again.graph.tensors[name], array)


#: layer, batch, steps: just past the number of steps, columns, rows or numbers that a kernel takes at once
PAST_CONSTANTS = [
    (conv(kernel=3, stride=2, filters=70), 3, 51),  # 24 columns of a convolution
    (conv(kernel=3, stride=3, padding="same"), 2, 149),
    (conv(groups=2, stride=2, kernel=9), 2, 109),
    (conv(groups=6, filters=18, stride=2, dilation=2), 2, 109),
    (conv(channels=33, filters=5, kernel=2, activation="softmax"), 2, 50),
    (conv2d(51, filters=70, stride_columns=2, padding="same"), 3, 5),  # 24 columns of a row
    (conv2d(49, groups=6, filters=18, padding="causal"), 3, 5),
    (conv2d(6, channels=3, padding="same", stride_rows=2), 2, 67),  # 16 rows from one copy
    (conv2d(25, groups=2, kernel=(3, 5), padding="explicit", pad_left=30, pad_right=30), 3, 7),
    (transpose((None, 3), filters=65, kernel=(19,), stride_rows=2, crop_after=17), 3, 51),
    (transpose((None, 49, 2), filters=3, kernel=(4, 5), stride_rows=2, stride_columns=2, crop_before=1), 3, 5),
    (pool(pool=3, stride=2, padding="same"), 49, 25),
    (("pool1d", (None, 25, 17), {"axis": 1, "pool": 3, "stride": 2, "padding": "same"}), 49, 3),
    (("dense", (None, 70), {"activation": "softmax"}, {"weight": (130, 70), "bias": (130,)}), 3, 49),
    (("dense", (None, 2, 33), {}, {"weight": (65, 33)}), 97, 5),
    (("dense", (None, 5), {}, {"weight": (3, 5)}), 1, 257),
    (("dense", (9,), {"activation": "relu"}, {"weight": (81, 9)}), 97, 1),  # 48 rows
    (("layer_norm", (None, 33), {}, {"gain": (33,)}), 49, 25),
    (("group_norm", (None, 12), {"groups": 3}, {}), 49, 25),
    (("glu", (None, 66), {}), 49, 3),
    (("prelu", (None, 33), {}, {"slope": (1,)}), 49, 3),
    (("softmax", (None, 65), {}), 49, 3),
    (("softmax", (None, 5), {"axis": 0}), 3, 65),
    (("reduce", (None, 130), {"mode": "mean", "axis": 0}), 49, 33),
    (("reduce", (None, 35), {"mode": "var", "axis": 0}), 3, 130),
    (("reduce", (None, 3, 33), {"mode": "logsumexp", "axis": 2}), 3, 25),
    (("cumulate", (None, 35), {"mode": "sum"}), 3, 130),
    (("take", (None, 33), {}, {"indices": (70,)}), 3, 25),
    (("topk", (None, 130), {"k": 65}), 3, 25),
    (("topk", (None, 17), {"k": 0, "axis": 0}), 3, 65),
    (("take_along", (None, 33), {"axis": 0}, {}, [("indices", (65, 33))]), 3, 25),
    (("matmul", (None, 33), {}, {}, [("x1", (33, 70))]), 3, 65),
    (("matmul", (None, 33), {"transpose_x1": True}, {}, [("x1", (65, 33))]), 3, 65),
    (("matmul", (65, 33), {"transpose_x": True}, {}, [("x1", (65, 17))]), 3, 1),
    # 4,096 numbers of a merge: more steps than are combined at once, and rows that end within
    (("merge", (None, 130), {"mode": "sub"}, {}, [("x1", (130,))]), 3, 64),
    (("merge", (None, 130), {"mode": "mul"}, {}, [("x1", (1, 130))]), 3, 33),
    (("merge", (None, 3, 70), {"mode": "max"}, {}, [("x1", (3, 1)), ("x2", (70,))]), 3, 41),
    (("merge", (5,), {"mode": "min"}, {}, [("x1", (None, 5))]), 49, 1000),
    (("attention", (None, 8), {"heads": 2}, {}, [("key", (300, 8)), ("value", (300, 6))]), 3, 40),
    (("attention", (None, 34), {"causal": True}, {}, [("key", (33, 34)), ("value", (33, 38))]), 3, 33),
    (("dot", (None, 33), {"normalize": True}, {}, [("x1", (65, 33))]), 3, 25),
]


@pytest.mark.parametrize(
    "case, batch, time", PAST_CONSTANTS, ids=[f"{i} {c[0][0]}" for i, c in enumerate(PAST_CONSTANTS)]
)
def test_sizes_just_past_what_a_kernel_takes_at_once_are_like_any_other(rng, case, batch, time):
    graph = graph_of(rng, case)
    inputs = inputs_of(rng, graph, batch, time)
    (expected,), _ = reference.predict(graph, *inputs)
    scale = max(1.0, np.abs(expected).max())
    for engine, dtype, tolerance in ENGINES:
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        found = ask(model, inputs, threads=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2 * tolerance * scale, err_msg=f"{engine} {dtype}")
        if engine == "packed":
            for threads in (2, 3):
                np.testing.assert_array_equal(bits(ask(model, inputs, threads=threads)), bits(found))
            for _ in range(10):  # threads that meet within one row
                alone = ask(model, [x[-1:] for x in inputs], threads=2)
                np.testing.assert_array_equal(bits(alone[0]), bits(found[-1]))


OTHERS = [("last", (None, 5), {}), ("activation", (None, 3, 5), {"activation": "tanh"})]


@pytest.mark.parametrize("case", [*CASES, *OTHERS], ids=[*IDS, *(case[0] for case in OTHERS)])
def test_a_layer_and_its_neighbours_wait_for_each_other_where_threads_divide_their_work(rng, case):
    """Between two dense layers, whose units are divided; every other layer divides steps, rows or nothing."""
    kind, shape, options, *rest = case
    arrays = weights_of(rng, kind, shape, options, rest[0] if rest else {})
    builder = GraphBuilder()
    values = {}
    for role, size in [("x", shape), *(rest[1] if len(rest) > 1 else [])]:
        whole = [T if n is None else n for n in size]
        y = builder.input(f"input.{role}", (7,))
        y = builder.add("dense", f"before.{role}", {"x": y}, {"weight": weight(rng, int(np.prod(whole)), 7)})["y"]
        to = {"shape": ",".join(map(str, whole))}
        values[role] = builder.add("reshape", f"to.{role}", {"x": y}, options=to)["y"]
    y = builder.add(kind, "tested", values, arrays, options)["y"]
    if len(y.shape) > 1:
        y = builder.add("reshape", "flat", {"x": y}, options={"shape": "-1"})["y"]
    builder.output(builder.add("dense", "after", {"x": y}, {"weight": weight(rng, 192, y.size)})["y"])
    model = cylstm.Model(builder.build())
    inputs = [[weight(rng, 1, 7) for _ in values] for _ in range(2)]
    wanted = [bits(ask(model, given, threads=1)) for given in inputs]
    # in turn, since what is left of one must not fit the other
    for call in range(20):
        np.testing.assert_array_equal(bits(ask(model, inputs[call % 2], threads=2)), wanted[call % 2])


def test_a_convolution_in_many_groups_survives_packing(rng, tmp_path):
    graph = graph_of(rng, conv(groups=50, channels=100, filters=150))
    (x,) = inputs_of(rng, graph)
    expected = bits(cylstm.Model(graph).predict(x))
    for again in reloaded(cylstm.Model(graph), tmp_path):
        np.testing.assert_array_equal(bits(again.predict(x)), expected)


def test_a_tiny_variance_is_no_zero(rng):
    graph = one_layer(rng, "batch_norm", (None, 3), {"epsilon": 0.0}, {"mean": (3,), "variance": (3,)})
    graph.tensors["tested.variance"][:] = [1e-14, 1e-20, 0.3]
    (x,) = inputs_of(rng, graph)
    (expected,), _ = reference.predict(graph, x)
    np.testing.assert_allclose(cylstm.Model(graph).predict(x), expected, rtol=1e-4)


@pytest.mark.parametrize("engine, dtype", [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
def test_the_log_of_a_softmax_is_accurate_at_both_ends(rng, engine, dtype):
    graph = one_layer(rng, "softmax", (4,), {"log": True})
    model = cylstm.Model(graph, engine=engine, dtype=dtype)
    x = np.array([[40.0, 3.0, -2.0, 1.5], [1e4, -1e4, 0.5, 1e4], [-3e4, -3e4, -3e4, -3e4]], dtype)
    x = np.concatenate([x, np.array([[0.5, -np.inf, 1.0, 0.25]], dtype)])
    d = np.sort(x.astype(np.float64) - x.max(axis=1, keepdims=True), axis=1)
    exact = x - x.max(axis=1, keepdims=True).astype(np.float64) - np.log1p(np.exp(d[:, :3]).sum(axis=1, keepdims=True))
    assert -1e-15 < exact[0, 0] < 0  # where the logarithm of the softmax itself would be 0
    np.testing.assert_allclose(model.predict(x), exact, rtol=3e-6 if dtype == "float32" else 1e-14)
