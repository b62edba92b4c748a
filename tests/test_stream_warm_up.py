"""Streams whose windows over time reach into earlier steps: at first fewer steps come out than go in."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

import cylstm
from cylstm import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.streaming import settles, step_multiple

from tests import reference
from tests.builders.networks import bits, same

CHANNELS = 5


def lstm(rng, builder, name, x, hidden=4):
    size = x.features
    weights = {
        "weight_ih": rng.normal(size=(4 * hidden, size)).astype("f"),
        "weight_hh": rng.normal(size=(4 * hidden, hidden)).astype("f"),
        "bias": rng.normal(size=4 * hidden).astype("f"),
    }
    return builder.add("lstm", name, {"x": x}, weights)


def conv(rng, builder, name, x, kernel, filters=CHANNELS, **options):
    groups = options.get("groups", 1)
    weights = {
        "weight": rng.normal(size=(filters, kernel, x.features // groups)).astype("f"),
        "bias": rng.normal(size=filters).astype("f"),
    }
    return builder.add("conv1d", name, {"x": x}, weights, options)["y"]


def layer_of(rng, builder, name, x, kind, a, b):
    """One layer over time of any kind that streams, whose window is up to `a` steps, every `b`."""
    match kind:
        case "valid":
            return conv(rng, builder, name, x, a, stride=b, activation="tanh")
        case "dilated":
            return conv(rng, builder, name, x, a, dilation=b)
        case "depthwise":
            return conv(rng, builder, name, x, a, stride=b, groups=CHANNELS)
        case "grouped":
            return conv(
                rng, builder, name, x, a, groups=CHANNELS, filters=2 * CHANNELS, dilation=b, activation="softmax"
            )
        case "causal":
            return conv(rng, builder, name, x, a, padding="causal", stride=b)
        case "front":
            return conv(rng, builder, name, x, a, padding="explicit", pad_before=min(b, a - 1))
        case "same":
            return conv(rng, builder, name, x, min(a, b), stride=b, padding="same")
        case "max" | "average":
            return builder.add("pool1d", name, {"x": x}, options={"mode": kind, "pool": a, "stride": b})["y"]
        case "pool same":
            options = {"mode": "average", "pool": b, "stride": b, "padding": "same"}
            return builder.add("pool1d", name, {"x": x}, options=options)["y"]
        case "pool ceil":
            return builder.add("pool1d", name, {"x": x}, options={"pool": b, "stride": b, "ceil_mode": True})["y"]
        case "crop":
            return builder.add("slice", name, {"x": x}, options={"start": b - 1, "before_end": a})["y"]
        case "every":
            return builder.add("slice", name, {"x": x}, options={"start": a - 1, "step": b})["y"]
        case "upsample":
            return builder.add("upsample", name, {"x": x}, options={"size": b})["y"]
        case "lstm":
            return lstm(rng, builder, name, x, CHANNELS)["y"]
    raise AssertionError(kind)


KINDS = [
    "valid", "dilated", "depthwise", "causal", "front", "same", "max", "average", "pool same", "pool ceil", "crop",
    "every", "upsample", "lstm",
]  # fmt: skip
LAYERS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)


def chain(rng, layers, ends="sequence"):
    """Layers over time one after the other, each once more an output, or the last step's state alone."""
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    outputs = []
    for n, (kind, a, b) in enumerate(layers):
        x = layer_of(rng, builder, f"{kind}.{n}", x, kind, a, b)
        outputs.append(x)
    found = lstm(rng, builder, "end", x)
    if "all" in ends:
        for y in outputs:
            builder.output(y)
    if "vector" in ends:
        builder.output(found["h"])
    else:
        builder.output(found["y"])
    return builder.build()


def outputs_of(y):
    return list(y) if isinstance(y, list) else [y]


def pieces_of(rng, total, multiple):
    """Lengths, multiples of a number, that together are `total`."""
    left = total // multiple
    while left:
        piece = int(rng.integers(1, min(left, rng.choice([1, 3, 20])) + 1))
        yield piece * multiple
        left -= piece


def check_chunks(rng, model, total, batch=2, threads=1, tolerance=None):
    """Any chunks one after the other give what predict gives for all of them."""
    value = model.graph.values[model.inputs[0]]
    x = rng.normal(size=(batch, total, *value.step_shape)).astype(model.dtype)
    wanted = outputs_of(model.predict(x))
    stream = model.stream(batch, threads=threads)
    found, at = [], 0
    for steps in pieces_of(rng, total, model._packed.step_multiple):
        found.append(outputs_of(stream.run(x[:, at : at + steps])))
        at += steps
    for o, expected in enumerate(wanted):
        parts = [y[o] for y in found]
        joined = np.concatenate(parts, 1) if model.graph.values[model.outputs[o]].has_time else parts[-1]
        assert joined.shape == expected.shape
        if tolerance is None:
            assert same(joined, expected), model.outputs[o]
        else:
            assert np.allclose(joined, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("part", range(8))  # each takes a while beside other programs, as its threads meet often
def test_all_chunks_together_give_the_bits_of_one_prediction(part):
    @hypothesis_seed(part)
    @settings(max_examples=50)
    @given(LAYERS, SEEDS, st.sampled_from(["sequence", "vector", "all sequence", "all vector"]), st.integers(1, 3))
    def check(layers, seed, ends, threads):
        rng = np.random.default_rng(seed)
        model = cylstm.Model(chain(rng, layers, ends))
        if not model.can_stream:
            assert "multiple of" in model._why_no_stream()
            return
        multiple = model._packed.step_multiple
        assert model._packed.settles == settles(model.graph) and multiple == step_multiple(model.graph)
        least = model._packed.settles + multiple
        check_chunks(rng, model, least + multiple * int(rng.integers(0, 12)), 2, threads)

    check()


@settings(max_examples=60)
@given(LAYERS, SEEDS, st.sampled_from(["float32", "float64"]))
def test_all_chunks_together_agree_with_one_prediction_of_the_blas_engine(layers, seed, dtype):
    rng = np.random.default_rng(seed)
    model = cylstm.Model(chain(rng, layers, "all sequence"), engine="blas", dtype=dtype)
    if model.can_stream:
        least = model._packed.settles + model._packed.step_multiple
        check_chunks(
            rng, model, least + 8 * model._packed.step_multiple, tolerance=1e-4 if dtype == "float32" else 1e-12
        )


IMAGES = st.sampled_from(["valid", "causal", "front", "same", "max", "pool same", "crop", "every", "columns"])


@pytest.mark.parametrize("part", range(4))
def test_chunks_of_images_whose_rows_are_the_time_give_the_bits_of_one_prediction(part):
    layers_of_images = st.tuples(IMAGES, st.integers(1, 4), st.integers(1, 3))

    @hypothesis_seed(part)
    @settings(max_examples=30)
    @given(st.lists(layers_of_images, min_size=1, max_size=4), SEEDS, st.integers(1, 3))
    def check(layers, seed, threads):
        rng = np.random.default_rng(seed)
        builder = GraphBuilder()
        x = builder.input("input", (None, 4, 3))
        for n, (kind, a, b) in enumerate(layers):
            name, rows = f"{kind}.{n}", min(a, b) if kind == "same" else a
            if kind in ("valid", "causal", "front", "same"):
                options = {
                    "padding": "explicit" if kind == "front" else kind,
                    "stride_rows": 1 if kind == "front" else b,
                }
                options |= {"pad_before": min(b, a - 1)} if kind == "front" else {}
                options |= {} if kind == "same" else {"pad_left": 1, "pad_right": 1}
                weight = rng.normal(size=(3, rows, 3, 3)).astype("f")
                x = builder.add("conv2d", name, {"x": x}, {"weight": weight}, options | {"activation": "tanh"})["y"]
            elif kind == "columns":
                options = {"pool": 2, "stride": 1, "axis": 1, "padding": "same"}
                x = builder.add("pool1d", name, {"x": x}, options=options)["y"]
            else:
                x = layer_of(rng, builder, name, x, kind, a, b)
        flat = builder.add("reshape", "flat", {"x": x}, options={"shape": "time,-1"})["y"]
        builder.output(lstm(rng, builder, "end", flat)["y"])
        model = cylstm.Model(builder.build())
        if not model.can_stream:
            assert "multiple of" in model._why_no_stream()
            return
        multiple = model._packed.step_multiple
        check_chunks(rng, model, model._packed.settles + multiple * int(rng.integers(1, 12)), 2, threads)

    check()


@pytest.mark.parametrize("stride", [2, 3])
def test_windows_of_one_row_behind_a_crop_begin_where_they_do_in_a_prediction(rng, stride):
    builder = GraphBuilder()
    x = builder.input("input", (None, 4, 3))
    x = builder.add("slice", "crop", {"x": x}, options={"start": 0, "before_end": 1})["y"]
    weight = rng.normal(size=(2, 1, 3, 3)).astype("f")
    options = {"padding": "same", "stride_rows": stride}
    builder.output(builder.add("conv2d", "same", {"x": x}, {"weight": weight}, options)["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(1, 6 * stride, 4, 3)).astype("f")
    wanted, stream = model.predict(x), model.stream()
    found = [stream.run(x[:, at : at + stride]) for at in range(0, 6 * stride, stride)]
    assert same(np.concatenate(found, 1), wanted)
    assert np.allclose(wanted, reference.predict(model.graph, x)[0][0], rtol=0, atol=1e-5)


def test_a_long_prediction_in_pieces_is_that_of_the_whole(rng):
    layers = [("valid", 5, 2), ("max", 3, 1), ("pool same", 1, 1), ("crop", 4, 3), ("lstm", 1, 1), ("depthwise", 3, 3)]
    model = cylstm.Model(chain(rng, layers))
    x = rng.normal(size=(2, 60000, CHANNELS)).astype("f")
    whole = model.predict(x)
    axis = model.graph.values[model.outputs[0]].axis
    for total in (59999, 31007, 40):
        assert same(model.predict(x[:, :total]), whole[:, : axis.length(total)])
    expected, _ = reference.predict(model.graph, x[:, :9000])
    assert np.allclose(whole[:, : axis.length(9000)], expected[0], rtol=0, atol=1e-4)
    check_chunks(rng, model, 60000)


def valid_model(rng, **options):
    """Two valid convolutions; as outputs an LSTM behind them, its last state, and what comes of the first alone."""
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    first = conv(rng, builder, "first", x, 3)
    second = conv(rng, builder, "second", first, 4)
    near = builder.add("slice", "crop", {"x": first}, options={"start": 2, "before_end": 1})["y"]
    both = builder.add("merge", "add", {"x": second, "x1": near}, options={"mode": "sum"})["y"]
    found = lstm(rng, builder, "lstm", both)
    builder.output(found["y"])
    builder.output(found["h"])
    builder.output(first)
    return cylstm.Model(builder.build(), **options)


def test_steps_give_none_until_there_is_an_output(rng):
    model = valid_model(rng)
    x = rng.normal(size=(12, CHANNELS)).astype("f")
    y, h, first = model.predict(x[np.newaxis])
    stream = model.stream()
    assert stream.warm_up == 5
    out = [np.full(4, 7, "f"), np.full(4, 8, "f"), np.full(CHANNELS, 9, "f")]
    for t in range(12):
        options = {"out": out} if t == 4 else {}
        found = stream.step(x[t], **options)
        assert [part is None for part in found] == [t < 5, t < 5, t < 2]
        if t == 4:
            assert (out[0] == 7).all() and (out[1] == 8).all() and same(out[2], first[0, 2])
        if t >= 5:
            assert same(found[0], y[0, t - 5]) and same(found[1], model.predict(x[np.newaxis, : t + 1])[1][0])
        if t >= 2:
            assert same(found[2], first[0, t - 2])
    assert stream.steps.tolist() == [12] and same(found[1], h[0])


def test_chunks_give_no_steps_and_nan_for_what_has_no_time_until_there_is_an_output(rng):
    model = valid_model(rng)
    x = rng.normal(size=(2, 12, CHANNELS)).astype("f")
    stream = model.stream(2)
    y, h, first = stream.run(x[:, :4])
    assert y.shape == (2, 0, 4) and np.isnan(h).all() and first.shape == (2, 2, CHANNELS)
    y, h, first = stream.run(x[:, 4:])
    assert y.shape == (2, 7, 4) and first.shape == (2, 8, CHANNELS)
    assert same(h, model.predict(x)[1])


def test_rows_that_began_at_different_times_have_nan_in_front(rng):
    model = valid_model(rng)
    x = rng.normal(size=(4, 20, CHANNELS)).astype("f")
    many, ones = model.stream(4), [model.stream() for _ in range(4)]
    for at, steps, active in [(0, 3, [1, 1, 0, 0]), (3, 4, [1, 0, 1, 1]), (7, 1, [0, 1, 1, 0]), (8, 5, [1, 1, 1, 0])]:
        active = np.array(active, bool)
        given = np.where(active[:, None, None], x[:, at : at + steps], np.nan).astype("f")
        found = many.step(given[:, 0], active=active) if steps == 1 else many.run(given, active=active)
        for row in range(4):
            if not active[row]:
                assert not any(bits(part[row]).any() for part in found)
                continue
            wanted = ones[row].run(x[row, at : at + steps])
            for part, one in zip(found, wanted):
                mine = part[row : row + 1] if steps == 1 and one.ndim == 2 else part[row]
                behind = mine[len(mine) - len(one) :] if one.ndim == 2 else mine
                assert same(behind, one) and np.isnan(mine[: len(mine) - len(one)]).all()
        if at == 3:
            many.reset(1)
            ones[1].reset()
            many.replace(2, many.copy(0))
            ones[2] = ones[0].copy()
    assert many.step(np.zeros((4, CHANNELS), "f"), active=np.zeros(4, bool))[0] is not None


def test_no_active_row_gives_zeros_at_the_start_too(rng):
    model = cylstm.Model(chain(rng, [("valid", 3, 1)]))
    stream, none = model.stream(2), np.zeros(2, bool)
    x = np.full((2, CHANNELS), np.nan, "f")
    out = np.full((2, 4), 7, "f")
    assert stream.step(x, out=out, active=none) is out and not out.any()
    chunk = stream.run(np.repeat(x[:, np.newaxis], 4, 1), active=none)
    assert chunk.shape == (2, 4, 4) and not chunk.any()
    assert stream.steps.tolist() == [0, 0] and stream.step(np.ones((2, CHANNELS), "f")) is None


@pytest.mark.parametrize(
    ("layers", "multiple", "gain"),
    [
        ([("valid", 3, 1), ("lstm", 1, 1)], 1, 1),
        ([("max", 3, 1), ("upsample", 1, 3)], 1, 3),
        ([("valid", 4, 2), ("max", 3, 3)], 6, 1),
        ([("upsample", 1, 3), ("valid", 5, 2)], 2, 3),
    ],
)
def test_steps_and_chunks_take_the_short_way_once_the_warm_up_is_over(rng, monkeypatch, layers, multiple, gain):
    model = cylstm.Model(chain(rng, layers))
    settled = model._packed.settles
    total = settled + 12 * multiple
    x = rng.normal(size=(3, total, CHANNELS)).astype("f")
    wanted, stream, alone = model.predict(x), model.stream(3), model.stream()
    assert model._packed.step_multiple == multiple
    begun = stream.run(x[:, :settled])
    alone.run(x[1, :settled])
    monkeypatch.setattr(cylstm.Stream, "_run_any", None)  # the general way
    found, at = [begun], settled
    for steps in [multiple, 3 * multiple, *[multiple] * 4]:
        out = np.empty((3, steps // multiple * gain, 4), "f")
        assert stream.run(x[:, at : at + steps], out=out) is out
        chunk = alone.run(x[1, at : at + steps].astype("d"))
        assert same(chunk, out[1])
        found.append(out)
        at += steps
    for _ in range(4 if multiple == 1 else 0):
        y, one = stream.step(x[:, at]), alone.step(x[1, at])
        assert y.shape == ((3, 4) if gain == 1 else (3, gain, 4)) and same(one, y[1])
        found.append(y.reshape(3, gain, 4))
        at += 1
    joined = np.concatenate(found, 1)
    assert same(joined, wanted[:, : joined.shape[1]])
    monkeypatch.undo()
    with pytest.raises(ShapeError):
        stream.run(x[:, : multiple + 1] if multiple > 1 else x[:, :0])
    if multiple > 1:
        with pytest.raises(ShapeError, match="multiple of"):
            stream.step(x[:, 0])


def test_rows_that_settle_later_go_the_general_way_and_the_others_the_short_one(rng, monkeypatch):
    model = cylstm.Model(chain(rng, [("valid", 4, 1)]))
    x = rng.normal(size=(2, 12, CHANNELS)).astype("f")
    wanted, stream = model.predict(x), model.stream(2)
    stream.run(x[:, :8])
    stream.reset(0)
    assert np.isnan(stream.step(x[:, 8])[0]).all()
    monkeypatch.setattr(cylstm.Stream, "_run_any", None)
    found = stream.step(np.ascontiguousarray(x[:, 9]), active=np.array([False, True]))
    assert same(found[1], wanted[1, 6]) and not found[0].any()
    with pytest.raises(TypeError):
        stream.step(x[:, 10])


def test_images_step_the_short_way(rng, monkeypatch):
    builder = GraphBuilder()
    x = builder.input("input", (None, 4, 3))
    weight = rng.normal(size=(2, 3, 3, 3)).astype("f")
    builder.output(builder.add("conv2d", "conv", {"x": x}, {"weight": weight}, {"padding": "valid"})["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 9, 4, 3)).astype("f")
    wanted, stream, alone = model.predict(x), model.stream(2), model.stream()
    assert stream.step(x[:, 0]) is None and alone.step(x[1, 0]) is None
    stream.run(x[:, 1:2])
    alone.step(x[1, 1])
    monkeypatch.setattr(cylstm.Stream, "_run_any", None)
    for t in range(2, 6):
        assert same(stream.step(x[:, t]), wanted[:, t - 2]) and same(alone.step(x[1, t]), wanted[1, t - 2])
    assert same(stream.run(x[:, 6:]), wanted[:, 4:])
    monkeypatch.undo()
    for wrong in (x[:, 0, :, :2], x[:, 0, :3], x[:1, 0], x[0, 0]):
        with pytest.raises(ShapeError):
            stream.step(wrong)


def test_a_state_goes_on_in_the_middle_of_a_warm_up(rng):
    model = valid_model(rng)
    x = rng.normal(size=(3, 15, CHANNELS)).astype("f")
    wanted = model.predict(x)
    for cut in (1, 3, 5, 8):
        stream = model.stream(3)
        begun = stream.run(x[:, :cut])
        state = stream.state
        assert [tuple(array.shape for array in parts) for parts in state] == [
            ((3, 4), (3, 4)), ((3, 2, CHANNELS),), ((3, 3, CHANNELS),), ((3, 1, CHANNELS),), ((3, 1),),
        ]  # fmt: skip
        assert (state[-1][0] == min(cut, 5)).all()
        taken = model.stream(3)
        taken.run(x[:, :7])  # whatever it was at
        taken.state = state
        replaced = model.stream(3)
        replaced.replace([2, 0, 1], [tuple(array[[2, 0, 1]] for array in parts) for parts in state])
        for other in (stream.copy(), pickle.loads(pickle.dumps(stream)), taken, replaced, stream):
            found = other.run(x[:, cut:])
            for o in (0, 2):
                assert same(np.concatenate([begun[o], found[o]], 1), wanted[o])
            assert same(found[1], wanted[1])


@pytest.mark.parametrize("steps", [-1, 1.5, 6, np.nan])
def test_a_state_of_steps_that_no_row_can_have_taken_is_refused(rng, steps):
    stream = valid_model(rng).stream(2)
    state = stream.state
    state[-1][0][1] = steps
    with pytest.raises(ShapeError, match="'steps': expected a multiple of 1 up to 5"):
        stream.state = state
    assert (stream.state[-1][0] == 0).all()


def test_a_prediction_has_the_states_of_recurrent_layers_alone(rng):
    model = valid_model(rng)
    x = rng.normal(size=(1, 9, CHANNELS)).astype("f")
    _, state = model.predict(x, return_state=True)
    assert len(state) == len(model.state_names) == 1
    with pytest.raises(ShapeError, match="one tuple per stateful layer"):
        model.predict(x, initial_state=model.stream().state)


def test_same_padding_of_a_length_that_is_no_multiple_is_left_to_predictions(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    builder.output(conv(rng, builder, "same", x, 4, stride=4, padding="same"))
    model = cylstm.Model(builder.build())
    check_chunks(rng, model, 48)
    assert model.stream().warm_up == 0 and model.predict(np.ones((1, 7, CHANNELS))).shape[1] == 2
    with pytest.raises(ShapeError, match="a multiple of 4 steps at once, found 7"):
        model.stream().run(np.ones((7, CHANNELS)))


def test_same_padding_behind_a_convolution_that_leaves_no_multiple_says_why_it_cannot_stream(rng):
    model = cylstm.Model(chain(rng, [("valid", 4, 1), ("pool same", 1, 2)]))
    with pytest.raises(UnsupportedError, match=r"'pool same.1' cannot run step by step: it pads .* no multiple of 2"):
        model.stream()
    assert cylstm.Model(chain(rng, [("valid", 5, 1), ("pool same", 1, 2)])).can_stream


def test_an_interrupted_warm_up_has_taken_some_of_its_steps(rng):
    model = valid_model(rng)
    stream = model.stream()
    stream.run(rng.normal(size=(3, CHANNELS)).astype("f"))
    assert stream.steps.tolist() == [3] and stream.state[-1][0].tolist() == [[3.0]]
    stream.reset()
    assert stream.steps.tolist() == [0] and stream.state[-1][0].tolist() == [[0.0]]


def test_stateful_networks_begin_their_convolutions_anew_with_each_call(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    y = conv(rng, builder, "conv", x, 3)
    builder.output(lstm(rng, builder, "lstm", y)["y"])
    graph = builder.build()._replace(stateful=("lstm",))
    model = cylstm.Model(graph)
    x = rng.normal(size=(1, 11, CHANNELS)).astype("f")
    stream, state = model.stream(), None
    for chunk in (x[:, :4], x[:, 4:7], x[:, 7:]):
        wanted, state = model.predict(chunk, initial_state=state, return_state=True)
        assert same(stream.run(chunk), wanted)
        assert len(stream.state) == 1 and all(same(a, b) for a, b in zip(stream.state[0], state[0]))
    assert stream.warm_up == 0
    with pytest.raises(ShapeError, match="2 steps are too few"):
        stream.run(x[:, :2])


def test_windows_tell_how_many_steps_are_nan(rng):
    model = valid_model(rng)
    stream = model.stream(window=8)
    assert stream.warm_up == 7
    x = rng.normal(size=(8, CHANNELS)).astype("f")
    for t in range(8):
        found = stream.step(x[t])
        assert np.isnan(found[1]).all() == (t < 7)
    assert same(found[0], model.predict(x[np.newaxis])[0][0])


# ---- inputs without time beside a sequence, and two sequences of one time ----


def conditioned(rng):
    """A sequence, and numbers that scale and shift it."""
    builder = GraphBuilder()
    x = builder.input("signal", (None, CHANNELS))
    knobs = builder.input("knobs", (3,))
    dense = {"weight": rng.normal(size=(CHANNELS, 3)).astype("f"), "bias": rng.normal(size=CHANNELS).astype("f")}
    scale = builder.add("dense", "scale", {"x": knobs}, dense)["y"]
    x = builder.add("merge", "scaled", {"x": x, "x1": scale}, options={"mode": "mul"})["y"]
    x = conv(rng, builder, "valid", x, 3)
    builder.output(lstm(rng, builder, "lstm", x)["y"])
    return cylstm.Model(builder.build())


def test_an_input_without_time_is_given_once_and_changed_at_will(rng):
    model = conditioned(rng)
    x = rng.normal(size=(2, 12, CHANNELS)).astype("f")
    knobs = rng.normal(size=(2, 3)).astype("f")
    wanted = model.predict([x, knobs])
    stream = model.stream(2)
    with pytest.raises(ShapeError, match="'knobs': expected it with the first step"):
        stream.run([x[:, :1], None])
    parts = [stream.run([x[:, :4], knobs]), stream.run([x[:, 4:7], None])]
    parts += [stream.step({"signal": x[:, t]})[:, np.newaxis] for t in range(7, 12)]
    assert same(np.concatenate(parts, 1), wanted)
    other = model.stream(2)
    for t in range(12):  # the same, given with each step
        found = other.step([x[:, t], knobs])
    assert same(found, wanted[:, -1])
    changed = [stream.step([x[:, 0], -knobs]), other.step([x[:, 0], -knobs])]
    assert same(*changed) and same(stream.step([x[:, 1], None]), other.step([x[:, 1], -knobs]))
    alone = model.stream()
    found = [alone.run([x[0, :7], knobs[0]]), alone.run([x[0, 7:], None])]
    assert same(np.concatenate(found), wanted[0])


def test_rows_keep_their_own_inputs_without_time(rng):
    model = conditioned(rng)
    x = rng.normal(size=(3, 10, CHANNELS)).astype("f")
    knobs = rng.normal(size=(3, 3)).astype("f")
    stream = model.stream(3)
    stream.run([x[:, :5], knobs])
    new = rng.normal(size=(3, 3)).astype("f")
    only = np.array([False, True, False])
    stream.run([x[:, 5:6], new], active=only)
    again = [stream.copy([1, 2]), pickle.loads(pickle.dumps(stream)).copy([1, 2])]
    found = stream.run([x[:, 6:], None])
    for one in again:
        assert same(one.run([x[1:, 6:], None]), found[1:])
    apart = model.stream()
    apart.run([x[1:2, :5], knobs[1:2]])
    apart.run([x[1:2, 5:6], new[1:2]])
    assert same(apart.run([x[1:2, 6:], new[1:2]]), found[1:2])
    stream.reset(2)
    with pytest.raises(ShapeError, match="row 2 was given none yet"):
        stream.step([x[:, 0], None])
    stream.step([x[:, 0], None], active=np.array([True, True, False]))
    stream.replace(2, stream.copy(1))
    assert same(stream.step([x[[0, 1, 1], 1], None])[2], stream.copy(1).state[0][0][0])


def test_a_window_takes_the_last_input_without_time(rng):
    model = conditioned(rng)
    x = rng.normal(size=(2, 6, CHANNELS)).astype("f")
    knobs = rng.normal(size=(2, 3)).astype("f")
    stream = model.stream(2, window=4)
    stream.run([x[:, :3], knobs])
    assert same(stream.run([x[:, 3:], None]), model.predict([x[:, 2:], knobs]))
    assert same(pickle.loads(pickle.dumps(stream)).step([x[:, 0], None]), stream.step([x[:, 0], None]))


def test_two_sequences_of_one_time_stream_together(rng):
    builder = GraphBuilder()
    a, b = builder.input("a", (None, CHANNELS)), builder.input("b", (None, 2), time_of="a")
    a = conv(rng, builder, "left", a, 3)
    b = conv(rng, builder, "right", b, 3)
    both = builder.add("merge", "both", {"x": a, "x1": b}, options={"mode": "concat"})["y"]
    builder.output(lstm(rng, builder, "lstm", both)["y"])
    model = cylstm.Model(builder.build())
    x = [rng.normal(size=(2, 11, n)).astype("f") for n in (CHANNELS, 2)]
    wanted = model.predict(x)
    stream, parts = model.stream(2), []
    for at, steps in ((0, 1), (1, 4), (5, 6)):
        parts.append(stream.run([part[:, at : at + steps] for part in x]))
    assert same(np.concatenate(parts, 1), wanted)
    with pytest.raises(ShapeError, match="have one time"):
        stream.run([x[0][:, :2], x[1][:, :3]])
