"""The layers around recurrent ones: each op against the float64 reference, in every engine, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import CylstmError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.values import StaticTimeNeeded

from tests import reference
from tests.builders.networks import bits, lstm_model, reloaded

T = 11
ENGINES = (("packed", "float32", 4e-6), ("blas", "float32", 4e-6), ("blas", "float64", 1e-12))


def weight(rng, *shape):
    return rng.uniform(-0.9, 0.9, shape).astype(np.float32)


def one_node(rng, op, shape, options=None, weights=None, *, others=(), masks=()):
    """A graph of one node; `others` are further inputs, role -> shape; `masks` the roles that read an input's mask."""
    builder = GraphBuilder()
    values = {"x": builder.input("input", shape)}
    for role, other in others:
        values[role] = builder.input(f"input.{role}", other)
    inputs = dict(values)
    for role, of in masks:
        inputs[role] = builder.value(values[of].mask)
    arrays = {role: weight(rng, *size) for role, size in (weights or {}).items()}
    if "variance" in arrays:
        arrays["variance"] = np.abs(arrays["variance"]) + 0.1
    builder.output(builder.add(op, "node", inputs, arrays, options)["y"])
    return builder.build()


def conv(groups=1, channels=6, filters=8, kernel=3, **options):
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


def pool(**options):
    return ("pool1d", (None, 5), options)


POOLS = [
    pool(stride=2),
    pool(pool=3, stride=2, padding="same"),
    pool(pool=4, padding="same", mode="average"),
    pool(pool=3, stride=3, mode="average"),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, mode="average", count_include_pad=True),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, mode="average"),
    pool(pool=3, padding="explicit", pad_before=1, pad_after=1, dilation=2),
    pool(pool=3, stride=2, ceil_mode=True),
    pool(pool=4, stride=3, ceil_mode=True, mode="average", count_include_pad=True),
    pool(pool=4, stride=3, ceil_mode=True, mode="average", padding="explicit", pad_before=1, pad_after=1),
    pool(
        pool=4, stride=3, ceil_mode=True, mode="average", padding="explicit", pad_before=1, pad_after=1,
        count_include_pad=True,
    ),
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
]

REDUCTIONS = [
    *(("reduce", (None, 5), {"mode": mode}) for mode in ("mean", "sum", "max", "min")),
    ("reduce", (None, 5), {"mode": "max", "axis": 1}),
    ("reduce", (None, 3, 4), {"mode": "mean", "axis": -2}),
    ("reduce", (None, 3, 4), {"mode": "mean", "axis": 0}),
    ("reduce", (6,), {"mode": "sum"}),
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
]

ONE_INPUT = [*CONVOLUTIONS, *POOLS, *NORMS, *SHAPES, *REDUCTIONS]


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
    ("dot", (None, 5), {}, {}, [("x1", (4, 5))]),
    ("dot", (20,), {"normalize": True}, {}, [("x1", (20,))]),
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

NODES = [(case[0], case[1], *(case[2:] if len(case) > 2 else ())) for case in (*ONE_INPUT, *SEVERAL)]
IDS = [f"{i} {case[0]} {case[1]} {case[2]}" for i, case in enumerate(NODES)]


def graph_of(rng, case):
    op, shape, options, *rest = case
    return one_node(rng, op, shape, options, rest[0] if rest else {}, others=rest[1] if len(rest) > 1 else ())


def inputs_of(rng, graph, batch=3, time=T):
    return [
        rng.normal(size=(batch, *(time if size is None else size for size in graph.values[name].shape))).astype("f")
        for name in graph.inputs
    ]


def ask(model, inputs, **options):
    return model.predict(inputs if len(inputs) > 1 else inputs[0], **options)


@pytest.mark.parametrize("case", NODES, ids=IDS)
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


@pytest.mark.parametrize("case", NODES, ids=IDS)
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


@pytest.mark.parametrize("case", NODES, ids=IDS)
def test_a_layer_that_streams_gives_the_bits_of_the_whole_and_another_says_why_not(rng, case):
    graph = graph_of(rng, case)
    model = cylstm.Model(graph)
    if not model.can_stream:
        with pytest.raises(UnsupportedError, match="no time axis|fixed number of steps|cannot run step by step"):
            model.stream()
        return
    multiple = model._packed.step_multiple
    (x,) = inputs_of(rng, graph, time=12 * multiple)
    whole, state = model.predict(x, return_state=True)
    stream = model.stream(3)
    pieces, at = [], 0
    for steps in (1, 4, 2, 5):
        pieces.append(stream.run(x[:, at * multiple : (at + steps) * multiple]))
        at += steps
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
    for found, wanted in zip(stream.state, state):
        np.testing.assert_array_equal(found[0], wanted[0])
    if multiple > 1:
        with pytest.raises(ShapeError, match=f"expected a multiple of {multiple} steps at once, found 1"):
            stream.step(x[:, 0])


@pytest.mark.parametrize("case", NODES, ids=IDS)
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


#: node, batch, steps: just past the number of steps, columns, rows or numbers that a kernel takes at once
PAST_CONSTANTS = [
    (conv(kernel=3, stride=2, filters=70), 3, 51),  # 24 columns of a convolution
    (conv(kernel=3, stride=3, padding="same"), 2, 149),
    (conv(groups=2, stride=2, kernel=9), 2, 109),
    (conv(groups=6, filters=18, stride=2, dilation=2), 2, 109),
    (conv(channels=33, filters=5, kernel=2, activation="softmax"), 2, 50),
    (pool(pool=3, stride=2, padding="same"), 49, 25),
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


OTHERS = [("last", (None, 5), {}), ("reverse", (None, 5), {}), ("activation", (None, 3, 5), {"activation": "tanh"})]


@pytest.mark.parametrize("case", [*NODES, *OTHERS], ids=[*IDS, *(case[0] for case in OTHERS)])
def test_a_layer_and_its_neighbours_wait_for_each_other_where_threads_divide_their_work(rng, case):
    """Between two dense layers, whose units are divided; every other layer divides steps, rows or nothing."""
    op, shape, options, *rest = case
    arrays = {role: weight(rng, *size) for role, size in (rest[0] if rest else {}).items()}
    if "variance" in arrays:
        arrays["variance"] = np.abs(arrays["variance"]) + np.float32(0.1)
    builder = GraphBuilder()
    values = {}
    for role, size in [("x", shape), *(rest[1] if len(rest) > 1 else [])]:
        whole = [T if n is None else n for n in size]
        y = builder.input(f"input.{role}", (7,))
        y = builder.add("dense", f"before.{role}", {"x": y}, {"weight": weight(rng, int(np.prod(whole)), 7)})["y"]
        to = {"shape": ",".join(map(str, whole))}
        values[role] = builder.add("reshape", f"to.{role}", {"x": y}, options=to)["y"]
    y = builder.add(op, "node", values, arrays, options)["y"]
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


@pytest.mark.parametrize("packed", [False, True])
def test_a_files_variance_that_is_not_above_0_is_refused_by_name(rng, tmp_path, packed):
    path = tmp_path / "a.cylstm"
    graph = graph_of(rng, NORMS[0])
    graph.tensors["node.variance"][3] = 77.25
    cylstm.Model(graph).save(path, packed=packed)
    data = path.read_bytes()
    assert data.count(np.float32(77.25).tobytes()) == 1
    path.write_bytes(data.replace(np.float32(77.25).tobytes(), np.float32(-77.25).tobytes()))
    with pytest.raises(CylstmError, match="layer 'node', tensor 'variance': expected numbers above 0") as caught:
        cylstm.load(path)
    assert "a.cylstm" in str(caught.value)


def test_a_tiny_variance_is_no_zero(rng):
    graph = one_node(rng, "batch_norm", (None, 3), {"epsilon": 0.0}, {"mean": (3,), "variance": (3,)})
    graph.tensors["node.variance"][:] = [1e-14, 1e-20, 0.3]
    (x,) = inputs_of(rng, graph)
    (expected,), _ = reference.predict(graph, x)
    np.testing.assert_allclose(cylstm.Model(graph).predict(x), expected, rtol=1e-4)


def test_layers_that_run_beside_each_other_keep_their_values_apart(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, 32))
    y = builder.add("dense", "dense", {"x": x}, {"weight": weight(rng, 32, 32)})["y"]
    values = []
    for name, of in (("first", y), ("second", x), ("third", y), ("fourth", x)):
        weights = {role: weight(rng, 128, 32) for role in ("weight_ih", "weight_hh")}
        values.append(builder.add("lstm", name, {"x": of}, weights)["y"])
    # the dense layer's values are read by the third for the last time: their place must not be the fourth's
    merged = {"x" + str(i or ""): value for i, value in enumerate(values)}
    y = builder.add("merge", "merge", merged, options={"mode": "concat"})["y"]
    builder.output(builder.add("dense", "out", {"x": y}, {"weight": weight(rng, 3, 128)})["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(1, 300, 32)).astype("f")
    expected = bits(model.predict(x, threads=1))
    for threads in (2, 4):
        for _ in range(5):
            np.testing.assert_array_equal(bits(model.predict(x, threads=threads)), expected)


def test_a_first_prediction_imports_what_it_needs_alone(rng, tmp_path):
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm")
    code = (
        "import sys, cylstm, numpy; cylstm.load(sys.argv[1]).predict(numpy.zeros((1, 2, 3), 'f')); "
        "print(*(name for name in sys.modules if name.startswith('cylstm.')))"
    )
    root = Path(cylstm.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, tmp_path / "a.cylstm"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    engine = {"engine", "engine._engine", "engine.threads"}
    graph = {f"graph{name}" for name in ("", ".activations", ".builder", ".graph", ".passes", ".values", ".weights")}
    layers = {f"graph.layers{name}" for name in ("", "._checks", "._layer", "._recurrent", ".dense", ".lstm")}
    readers = (
        ".format",
        ".native",
        ".native.read",
        ".registry",
        ".untrusted",
        ".untrusted.json",
        ".untrusted.safetensors",
    )
    formats = {f"formats{name}" for name in ("", *readers)}
    expected = {"errors", "model"} | engine | graph | layers | formats
    assert set(done.stdout.split()) == {f"cylstm.{name}" for name in expected}


def test_a_sequence_longer_than_a_chunk_gives_the_bits_of_its_pieces(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, 5))
    y = builder.add("conv1d", "a", {"x": x}, {"weight": weight(rng, 40, 4, 5)}, {"padding": "causal", "stride": 2})["y"]
    y = builder.add("pool1d", "b", {"x": y}, options={"pool": 3, "stride": 3})["y"]
    y = builder.add("upsample", "c", {"x": y}, options={"size": 2})["y"]
    y = builder.add("lstm", "d", {"x": y}, {"weight_ih": weight(rng, 28, 40), "weight_hh": weight(rng, 28, 7)})["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 6 * 1501, 5)).astype("f")
    stream = model.stream(2)
    pieces = [stream.run(x[:, at : at + 6 * 79]) for at in range(0, 6 * 1501, 6 * 79)]
    whole = model.predict(x)
    assert whole.shape == (2, 3002, 7)
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
    # steps beyond a multiple: what they complete is given
    (expected,), _ = reference.predict(model.graph, x[:, :59])
    np.testing.assert_allclose(model.predict(x[:, :59]), expected, atol=2e-6)
    np.testing.assert_array_equal(bits(model.predict(x[:, :59])), bits(whole[:, : expected.shape[1]]))


def test_the_history_of_a_convolution_is_a_state_like_any_other(rng):
    graph = graph_of(rng, conv(padding="causal", dilation=2, kernel=3))
    model = cylstm.Model(graph)
    assert model.state_names == [("node.history",)]
    x = rng.normal(size=(2, 20, 6)).astype("f")
    whole = model.predict(x)
    _, state = model.predict(x[:, :9], return_state=True)
    np.testing.assert_array_equal(state[0][0], x[:, 5:9])
    np.testing.assert_array_equal(bits(model.predict(x[:, 9:], initial_state=state)), bits(whole[:, 9:]))
    stream = model.stream(2)
    stream.run(x[:, :9])
    other = stream.copy()
    np.testing.assert_array_equal(bits(other.run(x[:, 9:])), bits(whole[:, 9:]))
    stream.reset()
    np.testing.assert_array_equal(bits(stream.run(x)), bits(whole))
    with pytest.raises(ShapeError, match="node"):
        stream.state = [(np.zeros((2, 3, 6)),)]


def sentence_model(rng, rows=9, size=5, padding=0):
    """Indices -> embedding with a mask -> LSTM that is masked -> last step; and a masked mean."""
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    mask = builder.add("index_mask", "counts", {"indices": words}, options={"padding": padding})["mask"]
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, rows, size)})["y"]
    lstm = {"weight_ih": weight(rng, 24, size), "weight_hh": weight(rng, 24, 6)}
    y = builder.add("lstm", "lstm", {"x": y, "mask": mask}, lstm, {"padding": "repeat"})["y"]
    builder.output(builder.add("last", "last", {"x": y, "mask": mask})["y"])
    builder.output(builder.add("reduce", "mean", {"x": y, "mask": mask})["y"])
    return cylstm.Model(builder.build())


def test_indices_choose_rows_and_make_a_mask(rng):
    model = sentence_model(rng)
    words = rng.integers(0, 9, (4, 12))
    words[1] = 0
    words[2, 5:] = 0
    words[3, :5] = 0
    expected, _ = reference.predict(model.graph, words)
    for x in (words, words.astype(np.int16), words.astype(np.float32), words.tolist()):
        for found, wanted in zip(model.predict(x), expected):
            np.testing.assert_allclose(found, wanted, atol=2e-6)  # NaN where no step counts
    assert np.isnan(model.predict(words)[1][1]).all()
    np.testing.assert_array_equal(bits(model.predict(words[2])[0]), bits(model.predict(words)[0][2]))


@pytest.mark.parametrize("rows", [(5, 10), (10, 5), (5, 10, 7)])
def test_an_index_has_to_be_in_every_table_that_reads_it(rng, rows):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    tables = {f"t{i}": builder.add("embedding", f"t{i}", {"indices": words}, {"weight": weight(rng, count, 4)})["y"]
              for i, count in enumerate(rows)}  # fmt: skip
    for table in tables.values():
        builder.output(table)
    model = cylstm.Model(builder.build())
    for words in (np.array([[0, 4, 7]]), np.array([[0, 4, 7]], np.int32), [[0, 4, 5]]):
        with pytest.raises(ShapeError, match=r"index \d in row 0, position 2: expected 0 to 4"):
            model.predict(words)
        with pytest.raises(ShapeError, match=r"index \d in row 0.* expected 0 to 4"):
            model.stream().run(words)
    with pytest.raises(ShapeError, match="expected 0 to 4"):
        model.predict(np.zeros((3, 6), int) + 9)
    words = rng.integers(0, 5, (3, 6))
    for found, wanted in zip(model.predict(words), reference.predict(model.graph, words)[0]):
        np.testing.assert_array_equal(found, wanted.astype("f"))


def test_an_index_out_of_range_is_named_before_anything_runs(rng):
    model = sentence_model(rng)
    words = rng.integers(0, 9, (4, 12))
    words[2, 7] = 9
    with pytest.raises(ShapeError, match="input 'words': index 9 in row 2, position 7: expected 0 to 8"):
        model.predict(words)
    for wrong, message in ((-1, "found -1 at"), (1.5, "found 1.5 at"), (np.nan, "found nan at"), (2**40, "found")):
        bad = words.astype(object if wrong == 2**40 else float if isinstance(wrong, float) else np.int64)
        bad[2, 7] = wrong
        with pytest.raises(ShapeError, match=message):
            model.predict(bad if wrong != 2**40 else bad.astype(np.int64))
    with pytest.raises(ShapeError, match="expected whole numbers|real numbers"):
        model.predict(np.zeros((2, 3), complex))


def test_indices_stream(rng):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, 9, 5)})["y"]
    builder.output(
        builder.add("lstm", "lstm", {"x": y}, {"weight_ih": weight(rng, 24, 5), "weight_hh": weight(rng, 24, 6)})["y"]
    )
    model = cylstm.Model(builder.build())
    words = rng.integers(0, 9, (2, 7))
    whole = model.predict(words)
    stream = model.stream(2)
    np.testing.assert_array_equal(bits(np.stack([stream.step(words[:, t]) for t in range(7)], 1)), bits(whole))
    with pytest.raises(ShapeError, match="index 9 in row 1"):
        stream.step([0, 9])


def test_masks_merge_and_steer_attention(rng):
    builder = GraphBuilder()
    a, b = builder.input("a", (None, 6)), builder.input("b", (8, 6))
    masked = builder.add("masking", "masking", {"x": a})
    given = builder.value(a.mask)
    for mode in ("any", "all"):
        both = builder.add("mask_merge", mode, {"mask": masked["mask"], "mask1": given}, options={"mode": mode})["mask"]
        for rule in ("exclude", "zero", "average", "penalty"):
            for role in ("mask", "mask_query"):
                y = builder.add(
                    "attention",
                    f"{mode}.{rule}.{role}",
                    {"x": masked["y"], "key": masked["y"], "value": masked["y"], role: given, "mask_value": both},
                    options={"masked": rule, "heads": 2},
                )["y"]
                builder.output(y)
    other = builder.add(
        "attention", "other", {"x": b, "key": a, "value": a, "mask_value": given}, options={"masked": "zero"}
    )["y"]
    builder.output(other)
    graph = builder.build()
    a, b = rng.normal(size=(3, T, 6)).astype("f"), rng.normal(size=(3, 8, 6)).astype("f")
    a[:, 2:4] = 0
    a[2] = 0
    mask = rng.random((3, T)) > 0.4
    mask[1] = False
    expected, _ = reference.predict(graph, a, b, mask={"a": mask})
    for engine, dtype, tolerance in (("packed", "float32", 4e-6), ("blas", "float64", 1e-12)):
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        for found, wanted, name in zip(model.predict([a, b], mask={"a": mask}), expected, graph.outputs):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=name)


def fills(width):
    """Two values, the one filled at masked steps by a number, by the other and by a vector; `width` of its steps."""
    builder = GraphBuilder()
    x, vector = builder.input("x", (None, 5)), builder.input("v", (5,))
    table = np.arange(5.0 * width).reshape(width, 5).astype(np.float32) / 7 - 1
    other = builder.add("dense", "other", {"x": x}, {"weight": table})["y"]
    mask = builder.value(x.mask)
    for name, roles, options in (
        ("number", {"x": x}, {"value": -2.5}),
        ("steps", {"x": x, "x1": other}, {}),
        ("back", {"x": other, "x1": x}, {}),
        ("vector", {"x": other, "x1": vector}, {}),
    ):
        builder.output(builder.add("mask_fill", name, {"mask": mask, **roles}, options=options)["y"])
    return builder.build()


@pytest.mark.parametrize("width", [5, 1])
@pytest.mark.parametrize(("engine", "dtype"), [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
def test_masked_steps_become_a_number_another_value_or_a_vector(rng, width, engine, dtype):
    graph = fills(width)
    x, vector = rng.normal(size=(3, T, 5)).astype("f"), rng.normal(size=(3, 5)).astype("f")
    mask = rng.random((3, T)) > 0.4
    mask[1] = False
    model = cylstm.Model(graph, engine=engine, dtype=dtype)
    for masks in ({"x": mask}, None):
        expected, _ = reference.predict(graph, x, vector, mask=masks)
        found = model.predict([x, vector], mask=masks)
        for y, wanted in zip(found, expected):
            np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6)
    again = cylstm.Model(graph, engine=engine, dtype=dtype).predict([x, vector], mask={"x": mask}, threads=2)
    for y, other in zip(again, model.predict([x, vector], mask={"x": mask})):
        np.testing.assert_array_equal(bits(y), bits(other))


def test_what_is_filled_is_chosen_and_never_multiplied(rng):
    """Where a step does not count its numbers are not read, infinite or NaN; those of the other value are kept."""
    builder = GraphBuilder()
    x, other = builder.input("x", (6, 3)), builder.input("other", (6, 3))
    roles = {"x": x, "mask": builder.value(x.mask)}
    builder.output(builder.add("mask_fill", "number", roles, options={"value": 1.0})["y"])
    builder.output(builder.add("mask_fill", "steps", {**roles, "x1": other})["y"])
    x, other = rng.normal(size=(2, 6, 3)).astype("f"), rng.normal(size=(2, 6, 3)).astype("f")
    mask = np.array([[True, False, True, False, True, False]] * 2)
    x[0, 1], x[0, 3, 1], x[1, 2, 0] = np.nan, np.inf, np.nan
    other[0, 3, 2], other[1, 1], other[1, 2] = np.nan, -np.inf, np.inf
    for engine in ("packed", "blas"):
        model = cylstm.Model(builder.build(), engine=engine)
        number, steps = model.predict([x, other], mask={"x": mask})
        np.testing.assert_array_equal(number, np.where(mask[..., np.newaxis], x, 1.0))
        np.testing.assert_array_equal(steps, np.where(mask[..., np.newaxis], x, other))


def test_a_fill_streams_and_a_long_sequence_gives_the_bits_of_its_pieces(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    masked = builder.add("masking", "masking", {"x": x})
    y = builder.add("dense", "dense", {"x": masked["y"]}, {"weight": weight(rng, 4, 4)})["y"]
    y = builder.add("mask_fill", "fill", {"x": y, "mask": masked["mask"], "x1": x})["y"]
    y = builder.add("mask_fill", "number", {"x": y, "mask": masked["mask"]}, options={"value": 3.0})["y"]
    lstm = {"weight_ih": weight(rng, 20, 4), "weight_hh": weight(rng, 20, 5)}
    builder.output(builder.add("lstm", "lstm", {"x": y}, lstm)["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 9000, 4)).astype("f")
    x[0, ::3] = x[1, 4000:4100] = 0.0
    expected, _ = reference.predict(model.graph, x[:, :50])
    whole = model.predict(x)
    np.testing.assert_allclose(whole[:, :50], expected[0], rtol=0, atol=4e-6)
    stream = model.stream(batch=2)
    steps = [stream.step(x[:, t]) for t in range(40)]
    rest = [stream.run(x[:, a:b]) for a, b in ((40, 4060), (4060, 9000))]
    np.testing.assert_array_equal(bits(np.concatenate([np.stack(steps, 1), *rest], axis=1)), bits(whole))


def test_a_fill_of_values_that_do_not_match_is_refused(rng):
    match = "steps have the same shape, or one of which is a single number"
    for other in ((None, 4), (7, 3), (None, 2, 3)):
        with pytest.raises(ShapeError, match=match):
            one_node(rng, "mask_fill", (None, 3), {}, others=[("x1", other)], masks=[("mask", "x")])
    with pytest.raises(ShapeError, match="mask 'input.x1.mask' is not of the time of 'input'"):
        one_node(rng, "mask_fill", (None, 3), {}, others=[("x1", (3, 3))], masks=[("mask", "x1")])
    with pytest.raises(ShapeError, match="inputs expected x, mask"):
        one_node(rng, "mask_fill", (None, 3))
    with pytest.raises(UnsupportedError, match="option value expected a number"):
        one_node(rng, "mask_fill", (None, 3), {"value": np.inf}, masks=[("mask", "x")])


def test_memory_of_values_is_used_again(rng):
    """A deep network keeps the numbers of its shortcuts although later values lie where earlier ones were."""
    builder = GraphBuilder()
    y = builder.input("x", (20, 16))
    kept = []
    for i in range(12):
        y = builder.add("dense", f"d{i}", {"x": y}, {"weight": weight(rng, 16, 16) / 3}, {"activation": "tanh"})["y"]
        kept.append(y)
        if i % 3 == 2:
            pair = {"x": kept[i - 2], "x1": y}
            y = builder.add("merge", f"m{i}", pair, options={"mode": "sum" if i % 2 else "max"})["y"]
            y = builder.add("permute", f"p{i}", {"x": y}, options={"order": "10"})["y"]
            y = builder.add("permute", f"q{i}", {"x": y}, options={"order": "10"})["y"]
    builder.output(y)
    graph = builder.build()
    x = rng.normal(size=(4, 20, 16)).astype("f")
    (expected,), _ = reference.predict(graph, x)
    np.testing.assert_allclose(cylstm.Model(graph).predict(x), expected, atol=5e-6)


def test_what_is_known_at_the_end_only_may_still_be_given_to_every_step(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    mean = builder.add("reduce", "mean", {"x": x})["y"]
    y = builder.add("merge", "centred", {"x": x, "x1": mean}, options={"mode": "sub"})["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 5000, 4)).astype("f")
    np.testing.assert_allclose(model.predict(x), x - x.mean(axis=1, keepdims=True), atol=1e-4)
    with pytest.raises(UnsupportedError, match="layer 'mean' cannot run step by step: it needs all steps at once"):
        model.stream()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_kept_between_pieces_keeps_its_place(rng, threads):
    """Vectors that every piece reads again, an input and a value computed once, beside many values that come and go."""
    builder = GraphBuilder()
    x, v = builder.input("x", (None, 8)), builder.input("v", (8,))
    w = builder.add("dense", "once", {"x": v}, {"weight": weight(rng, 8, 8)}, {"activation": "tanh"})["y"]
    y = builder.add("merge", "with v", {"x": x, "x1": v}, options={"mode": "sum"})["y"]
    y = builder.add("merge", "with w", {"x": y, "x1": w}, options={"mode": "mul"})["y"]
    for i in range(4):
        y = builder.add("dense", f"d{i}", {"x": y}, {"weight": weight(rng, 8, 8)}, {"activation": "tanh"})["y"]
    builder.output(y)
    graph = builder.build()
    inputs = [rng.normal(size=(2, 30000, 8)).astype("f"), rng.normal(size=(2, 8)).astype("f")]
    (expected,), _ = reference.predict(graph, *inputs)
    np.testing.assert_allclose(cylstm.Model(graph).predict(inputs, threads=threads), expected, rtol=0, atol=5e-6)


def test_a_decoder_over_a_repeated_state_runs_and_says_why_it_cannot_stream(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    lstm = {"weight_ih": weight(rng, 20, 4), "weight_hh": weight(rng, 20, 5)}
    h = builder.add("lstm", "encoder", {"x": x}, lstm)["h"]
    y = builder.add("repeat_vector", "repeat", {"x": h}, options={"count": 7})["y"]
    decoder = {"weight_ih": weight(rng, 12, 5), "weight_hh": weight(rng, 12, 3)}
    builder.output(builder.add("lstm", "decoder", {"x": y}, decoder)["y"])
    graph = builder.build()
    x = rng.normal(size=(2, 3000, 4)).astype("f")
    (expected,), _ = reference.predict(graph, x)
    model = cylstm.Model(graph)
    assert model.predict(x).shape == (2, 7, 3)
    np.testing.assert_allclose(model.predict(x), expected, atol=2e-6)
    with pytest.raises(UnsupportedError, match="'decoder' cannot run step by step: its sequence is not the input's"):
        model.stream()


def test_too_few_steps_are_refused_with_the_layers_name(rng):
    model = cylstm.Model(graph_of(rng, conv(kernel=5)))
    with pytest.raises(ShapeError, match="input 'input': 4 steps are too few for layer 'node'"):
        model.predict(np.zeros((2, 4, 6), "f"))
    assert model.predict(np.zeros((2, 5, 6), "f")).shape == (2, 1, 8)


def test_an_input_of_a_fixed_number_of_steps_takes_no_other(rng):
    model = cylstm.Model(graph_of(rng, ("reshape", (T, 4), {"shape": "-1"})))
    with pytest.raises(ShapeError, match=f"expected {T} steps, found {T + 1}"):
        model.predict(np.zeros((2, T + 1, 4), "f"))
    assert model.predict(np.zeros((T, 4), "f")).shape == (4 * T,)


BAD = [
    ("conv1d", (None, 6), {}, {"weight": (8, 3, 5)}, ShapeError, r"expected shape \(8, 3, 6\)"),
    ("conv1d", (None, 6), {"groups": 4}, {"weight": (8, 3, 6)}, ShapeError, "6/4"),
    ("conv1d", (None, 6), {"stride": 0}, {"weight": (8, 3, 6)}, UnsupportedError, "option stride expected"),
    ("conv1d", (None, 6), {"stride": 1.5}, {"weight": (8, 3, 6)}, UnsupportedError, "option stride expected"),
    ("conv1d", (None, 6), {"dilation": 1 << 20}, {"weight": (8, 99, 6)}, UnsupportedError, "reaches over"),
    ("conv1d", (None, 6), {"padding": "full"}, {"weight": (8, 3, 6)}, UnsupportedError, "option padding expected"),
    ("conv1d", (None, 6), {"pad_before": 1}, {"weight": (8, 3, 6)}, UnsupportedError, "contradict"),
    ("conv1d", (2, 6), {}, {"weight": (8, 3, 6)}, ShapeError, "layer 'node': 2 steps are too few"),
    ("conv1d", (None, 2, 6), {}, {"weight": (8, 3, 6)}, ShapeError, r"expected \(time, channels\)"),
    ("pool1d", (None, 6), {"mode": "median"}, {}, UnsupportedError, "option mode expected"),
    ("pool1d", (None, 6), {"ceil_mode": True, "stride": 5}, {}, UnsupportedError, "ceil_mode with windows"),
    ("batch_norm", (None, 6), {}, {"mean": (6,)}, ShapeError, "weights expected mean, variance"),
    ("batch_norm", (None, 6), {"epsilon": -1.0}, {"mean": (6,), "variance": (6,)}, UnsupportedError, "epsilon"),
    ("layer_norm", (None, 6), {"axes": 2}, {}, StaticTimeNeeded, "number of steps in advance"),
    ("layer_norm", (None, 6), {"axes": 3}, {}, UnsupportedError, "option axes expected"),
    ("group_norm", (None, 6), {"groups": 4}, {}, ShapeError, "6 channels do not make 4 groups"),
    ("reshape", (None, 6), {"shape": "-1"}, {}, StaticTimeNeeded, "number of steps in advance"),
    ("reshape", (4, 6), {"shape": "5,-1"}, {}, ShapeError, "cannot be reshaped to '5,-1'"),
    ("reshape", (4, 6), {"shape": "-1,-1"}, {}, ShapeError, "cannot be reshaped"),
    ("reshape", (4, 6), {"shape": "a"}, {}, UnsupportedError, "option shape expected"),
    ("permute", (4, 6), {"order": "00"}, {}, ShapeError, "option order expected"),
    ("permute", (None, 6), {"order": "10"}, {}, StaticTimeNeeded, "moving the time axis"),
    ("slice", (None, 6), {"axis": 2}, {}, ShapeError, r"expected an axis of \(None, 6\)"),
    ("slice", (None, 6), {"axis": 1, "start": 4, "count": 3}, {}, ShapeError, "3 numbers from 4 on"),
    ("slice", (None, 6), {"start": -1, "count": 2}, {}, StaticTimeNeeded, "in advance"),
    ("pad", (None, 6), {"before": 1, "mode": "reflect"}, {}, StaticTimeNeeded, "in advance"),
    ("pad", (4, 6), {"before": 4, "mode": "reflect"}, {}, ShapeError, "too many"),
    ("pad", (4, 6), {"before": -1}, {}, UnsupportedError, "option before expected"),
    ("upsample", (None, 6), {"axis": -3}, {}, ShapeError, "expected an axis"),
    ("repeat_vector", (None, 6), {"count": 3}, {}, ShapeError, "expected a vector or state"),
    ("reduce", (None, 6), {"mode": "prod"}, {}, UnsupportedError, "option mode expected"),
    ("glu", (None, 5), {}, {}, ShapeError, "even number of features"),
    ("prelu", (None, 6), {}, {"slope": (5,)}, ShapeError, "'slope'"),
    ("softmax", (None, 6), {"axis": "last"}, {}, UnsupportedError, "option 'axis' expected a number"),
    ("embedding", (None, 6), {}, {"weight": (5, 3)}, ShapeError, "inputs expected indices"),
]


@pytest.mark.parametrize("case", BAD, ids=[f"{i} {case[0]}" for i, case in enumerate(BAD)])
def test_a_layer_that_does_not_fit_is_refused_by_name(rng, case):
    op, shape, options, weights, error, message = case
    with pytest.raises(error, match=message) as caught:
        one_node(rng, op, shape, options, weights)
    assert isinstance(caught.value, CylstmError) and "'node'" in str(caught.value)


def test_values_that_do_not_match_are_refused(rng):
    with pytest.raises(ShapeError, match=r"shapes \(None, 3\) of 'input' and \(4,\) of 'input.x1' do not match"):
        one_node(rng, "merge", (None, 3), {"mode": "sum"}, others=[("x1", (4,))])
    with pytest.raises(ShapeError, match="come from different inputs"):
        one_node(rng, "merge", (None, 3), {"mode": "sum"}, others=[("x1", (None, 3))])
    with pytest.raises(ShapeError, match="joining along the time"):
        one_node(rng, "merge", (None, 3), {"axis": 0}, others=[("x1", (None, 3))])
    with pytest.raises(ShapeError, match="query and key of different sizes"):
        one_node(rng, "attention", (None, 3), {}, others=[("key", (4, 2)), ("value", (4, 2))])
    with pytest.raises(ShapeError, match="mask_value .* is not of the time of"):
        one_node(
            rng,
            "attention",
            (None, 3),
            {},
            others=[("key", (4, 3)), ("value", (4, 2))],
            masks=[("mask_value", "x")],
        )


@pytest.mark.parametrize("engine, dtype", [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
def test_the_log_of_a_softmax_is_accurate_at_both_ends(rng, engine, dtype):
    graph = one_node(rng, "softmax", (4,), {"log": True})
    model = cylstm.Model(graph, engine=engine, dtype=dtype)
    x = np.array([[40.0, 3.0, -2.0, 1.5], [1e4, -1e4, 0.5, 1e4], [-3e4, -3e4, -3e4, -3e4]], dtype)
    x = np.concatenate([x, np.array([[0.5, -np.inf, 1.0, 0.25]], dtype)])
    d = np.sort(x.astype(np.float64) - x.max(axis=1, keepdims=True), axis=1)
    exact = x - x.max(axis=1, keepdims=True).astype(np.float64) - np.log1p(np.exp(d[:, :3]).sum(axis=1, keepdims=True))
    assert -1e-15 < exact[0, 0] < 0  # where the logarithm of the softmax itself would be 0
    np.testing.assert_allclose(model.predict(x), exact, rtol=3e-6 if dtype == "float32" else 1e-14)


PARTS = {
    "conv": lambda rng, f: (
        "conv1d",
        {"weight": weight(rng, 6, 3, f) / 2},
        {"padding": "causal", "stride": int(rng.integers(1, 3)), "dilation": int(rng.integers(1, 3))},
    ),
    "depthwise": lambda rng, f: ("conv1d", {"weight": weight(rng, 2 * f, 2, 1)}, {"groups": f, "padding": "causal"}),
    "pool": lambda rng, f: ("pool1d", {}, {"pool": 2, "stride": 2, "mode": str(rng.choice(["max", "average"]))}),
    "norm": lambda rng, f: ("layer_norm", {"gain": weight(rng, f)}, {"mode": str(rng.choice(["layer", "rms"]))}),
    "dense": lambda rng, f: ("dense", {"weight": weight(rng, 10, f) / 2}, {"activation": "tanh"}),
    "lstm": lambda rng, f: ("lstm", {"weight_ih": weight(rng, 28, f) / 2, "weight_hh": weight(rng, 28, 7) / 2}, {}),
    "up": lambda rng, f: ("upsample", {}, {"size": 2}),
    "shortcut": lambda rng, f: ("merge", {}, {"mode": str(rng.choice(["sum", "concat", "max"]))}),
    "softmax": lambda rng, f: ("softmax", {}, {"axis": 1, "log": bool(rng.integers(2))}),
    "same": lambda rng, f: ("conv1d", {"weight": weight(rng, 5, 4, f) / 2}, {"padding": "same"}),
    "mean": lambda rng, f: ("reduce", {}, {"axis": 0}),
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_random_networks_give_the_same_bits_everywhere(parts, seed):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    y, before = builder.input("x", (None, 5)), {}
    outputs = 0
    for i, part in enumerate(parts):
        if not y.has_time:
            break
        op, weights, options = PARTS[part](rng, y.features)
        inputs = {"x": y}
        if part == "shortcut":
            inputs["x1"] = before.get((y.axis, y.features), y)
        before[y.axis, y.features] = y
        y = builder.add(op, f"{part}{i}", inputs, weights, options)["y"]
        if rng.random() < 0.3:
            builder.output(y)
            outputs += 1
    if not outputs or y.name not in builder._outputs:
        builder.output(y)
    graph = builder.build()
    model = cylstm.Model(graph)
    multiple = model._packed.step_multiple
    x = rng.normal(size=(3, multiple * 6 + 1, 5)).astype("f")

    def run(given, **options):
        found = model.predict(given, **options)
        return found if isinstance(found, list) else [found]

    whole = run(x, threads=1)
    expected, _ = reference.predict(graph, x)
    for found, wanted in zip(whole, expected):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4 * max(1.0, np.abs(wanted).max()))
    for other, options in ((x, {"threads": 2}), (x[1:2], {"threads": 2}), (x[:2], {"threads": 1})):
        rows = slice(1, 2) if len(other) == 1 else slice(0, len(other))
        for found, wanted in zip(run(other, **options), whole):
            np.testing.assert_array_equal(bits(found), bits(wanted[rows]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYLSTM_ISA", "scalar")
        model = cylstm.Model(graph)
        for found, wanted in zip(run(x), whole):
            np.testing.assert_array_equal(bits(found), bits(wanted))
    if model.can_stream:
        stream = model.stream(3)
        pieces = [stream.run(x[:, at * multiple : (at + 2) * multiple]) for at in (0, 2, 4)]
        pieces = [piece if isinstance(piece, list) else [piece] for piece in pieces]
        for i, wanted in enumerate(run(x[:, : 6 * multiple])):
            np.testing.assert_array_equal(bits(np.concatenate([p[i] for p in pieces], axis=1)), bits(wanted))


def test_the_last_step_of_a_sequence_made_at_the_end_is_zero_where_none_counts(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    last = builder.add("slice", "last", {"x": x}, options={"axis": 0, "start": -1, "count": 1})["y"]
    zero = builder.add("merge", "zero", {"x": last, "x1": last}, options={"mode": "sub"})["y"]
    masked = builder.add("masking", "masking", {"x": zero})
    builder.output(builder.add("last", "end", {"x": masked["y"]})["y"])
    vector = builder.add("last", "vector", {"x": x})["y"]
    steps = builder.add("repeat_vector", "steps", {"x": vector}, options={"count": 4})["y"]
    nothing = builder.add("merge", "nothing", {"x": steps, "x1": steps}, options={"mode": "sub"})["y"]
    masked = builder.add("masking", "none", {"x": nothing})
    builder.output(builder.add("last", "of none", {"x": masked["y"]})["y"])
    model = cylstm.Model(builder.build())
    for time in (5, 6000):
        for y in model.predict(rng.normal(size=(2, time, 3)).astype("f")):
            np.testing.assert_array_equal(y, np.zeros((2, 3)))
