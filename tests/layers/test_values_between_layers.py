"""What layers hand to each other: across the pieces of a long sequence, between threads, and in memory used again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import conv, graph_of, weight
from tests.builders.networks import bits


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
    assert model.state_names == [("tested.history",)]
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
    with pytest.raises(ShapeError, match="tested"):
        stream.state = [(np.zeros((2, 3, 6)),)]


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
    "running": lambda rng, f: ("cumulate", {}, {"mode": str(rng.choice(["sum", "max", "min"]))}),
    "taken": lambda rng, f: ("take", {"indices": rng.integers(0, f, 6).astype("f")}, {}),
    "sorted": lambda rng, f: ("topk", {}, {"k": 0, "axis": int(rng.integers(2)), "largest": bool(rng.integers(2))}),
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_random_networks_give_the_same_bits_everywhere(parts, seed):
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    y, before = builder.input("x", (None, 5)), {}
    outputs = 0
    for i, part in enumerate(parts):
        if not y.has_time or (y.axis is not None and len(y.axis.rules) > 3):
            break  # the engine takes four rules of time after each other
        kind, weights, options = PARTS[part](rng, y.features)
        inputs = {"x": y}
        if part == "shortcut":
            inputs["x1"] = before.get((y.axis, y.features), y)
        before[y.axis, y.features] = y
        y = builder.add(kind, f"{part}{i}", inputs, weights, options)["y"]
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
