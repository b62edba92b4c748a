"""Traces of streams: what layers compute at a step, while the stream goes on with the same bits as without."""

import copy
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.inputs import to_layout

from tests import DATA
from tests.builders.layers import ENGINES
from tests.builders.networks import lstm_model, same, same_states
from tests.builders.recurrent import KINDS, conv_lstm, gru, numbers, plain_lstm
from tests.builders.threads import runs_that_meet
from tests.test_stream_warm_up import CHANNELS, LAYERS, SEEDS, chain, conditioned, conv, lstm, pieces_of
from tests.test_trace import BATCH, batch_of, network

GOLDENS = DATA / "goldens"
#: how a chunk of a stream is run: as steps or as a whole, traced or not
WAYS = ("step", "trace", "run", "trace_run")


def listed(y):
    return list(y) if isinstance(y, list) else [y]


def equal(a, b):
    """Of results, any of which may be None; to the bit, and NaN where the other is NaN."""
    pairs = list(zip(listed(a), listed(b), strict=True))
    return all((x is None) == (y is None) and (x is None or np.array_equal(x, y, equal_nan=True)) for x, y in pairs)


def random_x(rng, model, batch, time):
    """Arrays (batch, time, ...) for the inputs of a model."""
    found = []
    for name in model.inputs:
        value = model.graph.values[name]
        shape = (batch, *((time,) if value.has_time else ()), *(value.step_shape if value.has_time else value.shape))
        if value.kind == "index":
            found.append(rng.integers(0, model._packed.limits.get(name, 2), shape).astype(np.int32))
        else:
            found.append(rng.normal(size=shape).astype(model.dtype))
    return found


def part_of(model, arrays, begin, end):
    """The steps [begin, end) of all inputs, as a call takes them; without the time axis where end is None."""
    steps, parts = begin if end is None else slice(begin, end), []
    for name, array in zip(model.inputs, arrays):
        value, layout = model.graph.values[name], model.graph.layouts.get(name)
        part = array[:, steps] if value.has_time else array
        # a step has one order of axes only
        parts.append(part if layout is None or end is None else to_layout(part, layout, len(value.shape)))
    return parts if len(parts) > 1 else parts[0]


def interleave(rng, model, arrays, **options):
    """Run a stream in chunks, traced now and then, beside one that is never traced; the traces and their chunks."""
    time = max(array.shape[1] for array, name in zip(arrays, model.inputs) if model.graph.values[name].has_time)
    batch = len(arrays[0])
    stream, plain = model.stream(batch, **options), model.stream(batch, **options)
    multiple = model._packed.step_multiple if options.get("window") is None else 1
    begin, traces = 0, []
    for steps in pieces_of(rng, time // multiple * multiple, multiple):
        way = str(rng.choice(WAYS))
        if steps > 1 and way in ("step", "trace"):
            way = "run" if way == "step" else "trace_run"
        is_step = way in ("step", "trace")
        x = part_of(model, arrays, begin, None if is_step else begin + steps)
        wanted = plain.step(x) if is_step else plain.run(x)
        found = getattr(stream, way)(x)
        if way.startswith("trace"):
            traces.append((begin, steps, found))
            found = found.outputs
        assert equal(found, wanted), (way, begin, steps)
        begin += steps
    assert stream.steps.tolist() == plain.steps.tolist()
    return stream, plain, traces


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("engine", "dtype", "error"), ENGINES)
@pytest.mark.parametrize("make", [*KINDS, conv_lstm])
def test_steps_traces_and_runs_in_any_order_give_the_same_bits(rng, make, engine, dtype, error, threads):
    model = network(rng, make, engine=engine, dtype=dtype)
    x = numbers(rng, BATCH, 40, *model.graph.values["x"].shape[1:])
    stream, plain, traces = interleave(rng, model, [x], threads=threads)
    assert all(np.array_equal(a, b) for one, two in zip(stream.state, plain.state) for a, b in zip(one, two))
    whole = model.trace(x)
    assert len(traces) > 1
    for begin, steps, trace in traces:
        for name in whole:
            assert trace[name].parts == whole[name].parts
            for part in whole[name].parts:
                found, wanted = trace[name][part], whole[name][part][:, begin : begin + steps]
                assert found.shape == wanted.shape
                if engine == "packed":
                    assert np.array_equal(found, wanted, equal_nan=True), (name, part)
                else:
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=20 * error, err_msg=part)


@given(LAYERS, SEEDS, st.sampled_from(["sequence", "vector", "all", "all vector"]))
@settings(max_examples=60)
def test_traces_of_chunks_together_are_that_of_the_whole_also_while_a_network_warms_up(layers, seed, ends):
    rng = np.random.default_rng(seed)
    model = cylstm.Model(chain(rng, layers, ends))
    if not model.can_stream:
        return
    multiple = model._packed.step_multiple
    time = model._packed.settles + multiple * int(rng.integers(1, 12))
    x = rng.normal(size=(2, time, CHANNELS)).astype("f")
    stream, parts, last = model.stream(2), {}, None
    for steps in pieces_of(rng, time, multiple):
        begin = int(stream.steps[0])
        last = stream.trace_run(x[:, begin : begin + steps])
        for name in last:
            for part in last[name].parts:
                parts.setdefault((name, part), []).append(last[name][part])
    try:
        whole = model.trace(x)
    except ShapeError:
        return  # too few steps for some layer
    for (name, part), arrays in parts.items():
        is_step = model.graph.values[model.graph.layers[list(whole).index(name)].outputs["y"]].axis is None
        found = arrays[-1] if is_step else np.concatenate(arrays, 1)
        assert same(found, whole[name][part]), (name, part)
    interleave(rng, model, [x])


def test_rows_that_began_at_different_times_have_nan_in_front_of_gates_too(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    y = conv(rng, builder, "conv", x, 4, activation="tanh")
    builder.output(lstm(rng, builder, "lstm", y)["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 12, CHANNELS)).astype("f")
    stream, plain = model.stream(3), model.stream(3)
    first = np.array([True, False, False])
    for one in (stream, plain):
        one.run(x[:, :6], active=first)
        one.run(x[:, :1], active=np.array([False, True, False]))
    trace, wanted = stream.trace_run(x[:, 6:10]), plain.run(x[:, 6:10])
    assert equal(trace.outputs, wanted)
    gates = trace["lstm"].f
    assert gates.shape == (3, 4, 4)
    whole = model.trace(np.concatenate([x[:1, :6], x[:1, 6:10]], 1))["lstm"].f
    assert same(gates[0], whole[0, 3:])
    late = model.trace(np.concatenate([x[1:2, :1], x[1:2, 6:10]], 1))["lstm"].f
    assert np.isnan(gates[1, :2]).all() and same(gates[1, 2:], late[0])
    assert np.isnan(gates[2, :3]).all() and same(gates[2, 3:], model.trace(x[2:, 6:10])["lstm"].f[0])
    assert same(trace["conv"].y[1, 2:], model.trace(np.concatenate([x[1:2, :1], x[1:2, 6:10]], 1))["conv"].y[0])
    # one after the other, none has come at first
    alone = model.stream()
    none = alone.trace(x[0, 0])
    assert none.outputs is None and none["lstm"].f.shape == (0, 4) and none["conv"].y.shape == (0, CHANNELS)
    with pytest.raises(UnsupportedError, match="has no output yet, and cannot be saved"):
        none.save("trace")
    several = model.stream(2).trace(x[:2, 0])
    assert several.outputs is None and several[1:].outputs is None and several[1:]["lstm"].f.shape == (1, 0, 4)
    assert not os.path.exists("trace")


def test_rows_that_rest_are_nan_in_gates_and_keep_their_state(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    stream, plain = model.stream(BATCH), model.stream(BATCH)
    alone = [model.stream() for _ in range(BATCH)]
    for t in range(x.shape[1]):
        active = rng.random(BATCH) < 0.6
        given = np.where(active[:, np.newaxis], x[:, t], np.nan)
        trace, wanted = stream.trace(given, active=active), plain.step(given, active=active)
        assert same(trace.outputs, wanted)
        for row in range(BATCH):
            if active[row]:
                one = alone[row].trace(x[row, t])
                assert all(same(trace["cell"][part][row], one["cell"][part]) for part in one["cell"].parts)
            else:
                assert np.isnan(trace["cell"].f[row]).all() and np.isnan(trace["cell"].c[row]).all()
                assert not trace["cell"].h[row].any()
        assert same_states(stream.state, plain.state)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [plain_lstm, gru])
@pytest.mark.parametrize(("engine", "dtype", "error"), ENGINES)
def test_a_window_is_traced_whole(rng, make, engine, dtype, error, threads):
    model = network(rng, make, engine=engine, dtype=dtype)
    x = numbers(rng, BATCH, 25, 5)
    stream, plain, traces = interleave(rng, model, [x], threads=threads, window=4)
    assert len(traces) > 1
    for begin, steps, trace in traces:
        end = begin + steps
        if end < 4:
            assert all(np.isnan(trace["cell"][part]).all() for part in trace["cell"].parts)
            continue
        wanted = model.trace(x[:, end - 4 : end])
        for part in wanted["cell"].parts:
            np.testing.assert_allclose(
                trace["cell"][part], wanted["cell"][part], rtol=0, atol=0 if engine == "packed" else 20 * error
            )
        assert trace["cell"].is_from_zero
    # of the rows the first rests, and the last is new
    for one in (stream, plain):
        one.reset(2)
    active = np.array([False, True, True])
    trace, wanted = stream.trace(x[:, 0], active=active), plain.step(x[:, 0], active=active)
    assert equal(trace.outputs, wanted)
    part = "z" if make is gru else "f"
    last = model.trace(np.concatenate([x[1:2, 22:], x[1:2, :1]], 1))["cell"][part]
    np.testing.assert_allclose(trace["cell"][part][1:2], last, rtol=0, atol=0 if engine == "packed" else 20 * error)
    assert np.isnan(trace["cell"][part][[0, 2]]).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_each_of_many_rows_of_a_window_keeps_its_place(rng, threads):
    model = lstm_model(rng, 21, 17, bidirectional=True)
    x = numbers(rng, 70, 9, 21)
    stream, plain = model.stream(70, threads=threads, window=5), model.stream(70, threads=threads, window=5)
    past = [[] for _ in range(70)]
    for t in range(9):
        active = rng.random(70) < 0.8
        trace, wanted = stream.trace(x[:, t], active=active), plain.step(x[:, t], active=active)
        assert equal(trace.outputs, wanted)
        for row in np.flatnonzero(active):
            past[row].append(x[row, t])
    whole = np.array([active[row] and len(past[row]) >= 5 for row in range(70)])
    assert 20 < whole.sum() < 70
    expected = model.trace(np.stack([past[row][-5:] for row in np.flatnonzero(whole)]))
    for name in expected:
        for part in expected[name].parts:
            assert same(trace[name][part][whole], expected[name][part])
            if part not in ("h", "y"):
                assert np.isnan(trace[name][part][~whole]).all()
    assert stream.steps.tolist() == plain.steps.tolist()
    assert equal(stream.run(x[:, :3]), plain.run(x[:, :3]))


@pytest.mark.parametrize("path", sorted((GOLDENS / "networks").glob("*.cylstm")), ids=lambda path: path.stem)
def test_whole_networks_are_traced_as_they_run(rng, path):
    model = cylstm.load(path)
    values = [model.graph.values[name] for name in model.inputs]
    if model.can_stream and any(value.has_time for value in values):
        interleave(rng, model, random_x(rng, model, 2, model._packed.settles + 6 * model._packed.step_multiple))
    if any(value.has_time for value in values):
        window = next((value.shape[0] for value in values if value.has_time and value.shape[0]), None)
        window = window or model._packed.settles + 2 * model._packed.step_multiple
        interleave(rng, model, random_x(rng, model, 2, window + 3), window=window)


def test_stateful_networks_are_traced_call_by_call(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, CHANNELS))
    y = conv(rng, builder, "conv", x, 3)
    y = lstm(rng, builder, "forgets", y)["y"]
    builder.output(lstm(rng, builder, "lstm", y)["y"])
    model = cylstm.Model(builder.build()._replace(stateful=("lstm",)))
    x = rng.normal(size=(1, 11, CHANNELS)).astype("f")
    stream, state = model.stream(), None
    for k, chunk in enumerate((x[:, :4], x[:, 4:7], x[:, 7:])):
        wanted = model.trace(chunk, initial_state=state, return_state=True)
        state = [tuple(map(np.zeros_like, wanted.state[0])), wanted.state[1]]
        if k == 1:
            assert same(stream.run(chunk), wanted.outputs)
            continue
        found = stream.trace_run(chunk)
        assert same(found.outputs, wanted.outputs)
        for name in ("conv", "forgets", "lstm"):
            assert all(same(found[name][part], wanted[name][part]) for part in wanted[name].parts)


def test_a_network_without_time_is_traced_call_by_call(rng):
    builder = GraphBuilder()
    x = builder.input("x", (12,))
    x = builder.add("reshape", "steps", {"x": x}, options={"shape": "3,4"})["y"]
    y = lstm(rng, builder, "cell", x)["y"]
    builder.output(builder.add("last", "last", {"x": y})["y"])
    model = cylstm.Model(builder.build()._replace(stateful=("cell",)))
    stream, state = model.stream(2), None
    x = rng.normal(size=(2, 5, 12)).astype("f")
    for t in range(5):
        wanted = model.trace(x[:, t], initial_state=state, return_state=True)
        state = wanted.state
        found = stream.trace(x[:, t])
        assert same(found.outputs, wanted.outputs)
        assert same(found["cell"].f, wanted["cell"].f) and same(found["cell"].h, wanted["cell"].h)
    with pytest.raises(UnsupportedError, match="each call is a step; trace takes one"):
        stream.trace_run(x)


def test_inputs_without_time_stand_for_traces_too(rng):
    model = conditioned(rng)
    x = rng.normal(size=(2, 12, CHANNELS)).astype("f")
    knobs = rng.normal(size=(2, 3)).astype("f")
    wanted = model.trace([x, knobs])
    stream = model.stream(2)
    with pytest.raises(ShapeError, match="'knobs': expected it with the first step"):
        stream.trace([x[:, 0], None])
    parts = [stream.trace_run([x[:, :4], knobs])["lstm"].f, stream.trace_run([x[:, 4:7], None])["lstm"].f]
    parts += [stream.trace({"signal": x[:, t]})["lstm"].f for t in range(7, 12)]
    assert same(np.concatenate(parts, 1), wanted["lstm"].f)


def test_a_network_whose_axes_lie_otherwise_is_traced_into_the_same_memory(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 5))
    kind, weights, options = plain_lstm(rng, 5, 7)
    y = builder.add(kind, "cell", {"x": x}, weights, options)["y"]
    builder.output(y)
    graph = builder.build()
    graph = graph._replace(layouts={"x": "10", graph.outputs[0]: "10"})
    model = cylstm.Model(graph)
    x = numbers(rng, 3, 5, 9)
    trace = model.trace(x)
    assert trace.outputs.shape == (3, 7, 9) and same(trace.outputs, model.predict(x))
    assert same(trace["cell"].h, trace.outputs.transpose(0, 2, 1))
    kept = trace["cell"].h.copy()
    again = model.trace(-x, out=trace)
    assert same(again.outputs, model.predict(-x)) and same(again["cell"].h, again.outputs.transpose(0, 2, 1))
    assert not same(again["cell"].h, kept)
    stream = model.stream(3)
    found = stream.trace_run(x[:, :, :4])
    assert same(found.outputs, model.predict(x)[:, :, :4]) and same(found["cell"].h, kept[:, :4])
    assert same(stream.trace(x[:, :, 4]).outputs, model.predict(x)[:, :, 4])


def test_memory_of_a_stream_is_written_again(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    stream, plain = model.stream(BATCH), model.stream(BATCH)
    trace = stream.trace(x[:, 0])
    fresh = plain.trace(x[:, 0])
    gates = trace["cell"].f
    again, fresh = stream.trace(x[:, 1], out=trace), plain.trace(x[:, 1])
    assert again["cell"].f.base is gates.base and same(gates, fresh["cell"].f) and same(again.outputs, fresh.outputs)
    rests = stream.trace(x[:, 2], out=again, active=np.array([True, False, True]))
    assert np.isnan(rests["cell"].f[1]).all()
    with pytest.raises(ArgumentError, match="the same method of this stream"):
        stream.trace(x[:, 1], out=model.trace(x))
    with pytest.raises(ArgumentError, match="the same method of this stream"):
        stream.trace(x[:, 1], out=fresh)
    with pytest.raises(ArgumentError, match="a trace that Model.trace gave"):
        model.trace(x, out=trace)
    before = stream.state
    with pytest.raises(ShapeError, match="out"):
        stream.trace_run(x[:, :4], out=trace)
    with pytest.raises(ArgumentError, match="no layer 'lstm'"):
        stream.trace(x[:, 1], "lstm")
    with pytest.raises(ShapeError, match="expected 5 features"):
        stream.trace(x[:, 1, :4])
    assert same_states(stream.state, before)


@pytest.mark.parametrize("window", [None, 3])
def test_steps_into_the_same_memory_are_those_into_new(rng, window):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    x = np.concatenate([x, x[:, ::-1], -x], 1)
    stream, plain = model.stream(BATCH, window=window), model.stream(BATCH, window=window)
    trace = stream.trace(x[:, 0])
    plain.trace(x[:, 0])
    for t in range(1, x.shape[1]):
        given = x[:, t] if t % 3 else np.ascontiguousarray(x[:, t])
        given = given.astype(np.float64) if t % 7 == 3 else given
        active = np.array([True, False, True]) if t % 5 == 2 else None
        trace = stream.trace(given, out=trace, active=active)
        wanted = plain.trace(x[:, t].copy(), active=active)
        assert equal(trace.outputs, wanted.outputs)
        for part in wanted["cell"].parts:
            assert np.array_equal(trace["cell"][part], wanted["cell"][part], equal_nan=True), (t, part)
        assert equal(stream.step(x[:, 0]), plain.step(x[:, 0]))
    alone, other = model.stream(window=window), model.stream(window=window)
    trace = alone.trace(x[0, 0])
    other.step(x[0, 0])
    for t in range(1, 6):
        trace = alone.trace(np.array(x[0, t]), out=trace)
        assert equal(trace.outputs, other.step(x[0, t]))
    if window is None:
        assert same(trace["cell"].f[0], model.trace(x[:1])["cell"].f[0, 5])
    with pytest.raises(ArgumentError, match="the same method of this stream"):
        other.trace(x[0, 0].copy(), out=trace)


def test_gates_alone_are_not_written_into_the_memory_of_fewer_steps(rng):
    model = lstm_model(rng, 5, 8, last=True)
    x = numbers(rng, 3, 9, 5)
    trace = model.trace(x[:, :4], what=["f"])
    with pytest.raises(ShapeError, match=r"out: layer 'lstm.*' has \(batch, steps\) \(3, 9\), and .* one of \(3, 4\)"):
        model.trace(x, what=["f"], out=trace)


def test_a_traced_stream_is_copied_pickled_and_started_again(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    stream, plain = model.stream(BATCH), model.stream(BATCH)
    stream.trace(x[:, 0])
    plain.step(x[:, 0])
    for other in (copy.copy(stream), pickle.loads(pickle.dumps(stream))):
        assert same(other.trace(x[:, 1])["cell"].f, plain.copy().trace(x[:, 1])["cell"].f)
        assert not same_states(other.state, stream.state)
    stream.reset()
    assert same(stream.trace(x[:, 0])["cell"].f[:, 0], model.trace(x)["cell"].f[:, 0])


def test_threads_that_trace_one_stream_are_told(rng):
    model = lstm_model(rng, 30, 300)
    stream = model.stream(8)
    x = np.zeros((8, 60, 30), np.float32)
    ran = runs_that_meet([lambda: stream.run(x), lambda: stream.trace_run(x)])
    assert int(stream.steps[0]) == 60 * ran
