"""States that a model takes as inputs and gives as outputs."""

import pickle

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.states import proposed_states, tie_states

from tests.builders.onnx_files import graph, model, node, tensor, value

HIDDEN, FEATURES = 4, 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Cell:
    """Weights of an LSTM in ONNX's order, i o f c, and its step in float64."""

    def __init__(self, rng):
        self.w = rng.standard_normal((1, 4 * HIDDEN, FEATURES)).astype("f4")
        self.r = rng.standard_normal((1, 4 * HIDDEN, HIDDEN)).astype("f4")
        self.b = rng.standard_normal((1, 8 * HIDDEN)).astype("f4")

    @property
    def tensors(self):
        numbers = {"axis0": [0], "axis1": [1], "first": [0], "last": [1], "end": [2]}
        return [
            *(tensor(name, getattr(self, name)) for name in "wrb"),
            *(tensor(name, np.array(found)) for name, found in numbers.items()),
        ]

    def step(self, x, h, c):
        total = x.astype("f8") @ self.w[0].T + h @ self.r[0].T + self.b[0, : 4 * HIDDEN] + self.b[0, 4 * HIDDEN :]
        i, o, f, g = np.split(total, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c


def lstm(inputs, outputs):
    return node("LSTM", ["steps", "w", "r", "b", "", *inputs], ["all", *outputs], hidden_size=HIDDEN)


def two_states(cell):
    """x, h and c -> tanh(h'), h', c', one step at each call."""
    nodes = [
        node("Unsqueeze", ["x", "axis0"], ["steps"]),
        node("Unsqueeze", ["h", "axis0"], ["h_in"]),
        node("Unsqueeze", ["c", "axis0"], ["c_in"]),
        lstm(["h_in", "c_in"], ["h_out", "c_out"]),
        node("Squeeze", ["h_out", "axis0"], ["hn"]),
        node("Squeeze", ["c_out", "axis0"], ["cn"]),
        node("Tanh", ["hn"], ["y"]),
    ]
    inputs = [value("x", ("batch", FEATURES)), *(value(name, ("batch", HIDDEN)) for name in "hc")]
    return graph(nodes, inputs, [value(name, None) for name in ("y", "hn", "cn")], cell.tensors)


def one_tensor(cell, how):
    """x and a state (2, batch, hidden), taken apart and joined in different ways."""
    apart = {
        "gather": [
            node("Gather", ["state", "first"], ["h_in"], axis=0),
            node("Gather", ["state", "last"], ["c_in"], axis=0),
        ],
        "slice": [
            node("Slice", ["state", "first", "last", "axis0"], ["h_in"]),
            node("Slice", ["state", "last", "end", "axis0"], ["c_in"]),
        ],
        "split": [node("Split", ["state"], ["h_in", "c_in"], axis=0)],
    }[how]
    nodes = [
        node("Unsqueeze", ["x", "axis0"], ["steps"]),
        *apart,
        lstm(["h_in", "c_in"], ["h_out", "c_out"]),
        node("Concat", ["h_out", "c_out"], ["stateN"], axis=0),
        node("Squeeze", ["h_out", "axis0"], ["h"]),
        node("Tanh", ["h"], ["y"]),
    ]
    inputs = [value("x", ("batch", FEATURES)), value("state", (2, "batch", HIDDEN))]
    return graph(nodes, inputs, [value("y", None), value("stateN", None)], cell.tensors)


def load(folder, found, **options):
    path = folder / "net.onnx"
    path.write_bytes(model(found))
    return cylstm.load(path, **options)


TIED = {"hn": "h", "cn": "c"}


def expected(cell, x, h, c):
    """What steps (batch, time, features) give one after the other, and the last states."""
    found = []
    for t in range(x.shape[1]):
        h, c = cell.step(x[:, t], h, c)
        found.append(np.tanh(h))
    return np.stack(found, 1), h, c


@pytest.fixture
def cell(rng):
    return Cell(rng)


@pytest.fixture(params=["two", "gather", "slice", "split"])
def net(request, cell, tmp_path):
    if request.param == "two":
        return load(tmp_path, two_states(cell), states=TIED)
    return load(tmp_path, one_tensor(cell, request.param), states={"stateN": "state"})


def test_states_are_those_of_a_recurrent_layer(net, cell, rng):
    assert (net.inputs, net.outputs) == (("x",), ("y",))
    x = rng.standard_normal((3, 5, FEATURES)).astype("f4")
    h, c = rng.standard_normal((2, 3, HIDDEN)).astype("f4")
    wanted, last_h, last_c = expected(cell, x, h, c)
    state = [(h, c)]
    for t in range(5):
        y, state = net.predict(x[:, t], initial_state=state, return_state=True)
        np.testing.assert_allclose(y, wanted[:, t], atol=2e-6)
    np.testing.assert_allclose(state[0][0], last_h, atol=2e-6)
    np.testing.assert_allclose(state[0][1], last_c, atol=2e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_call_is_a_step_of_a_stream(net, cell, rng, threads):
    assert net.can_stream
    x = rng.standard_normal((3, 6, FEATURES)).astype("f4")
    zero = np.zeros((3, HIDDEN))
    wanted, *_ = expected(cell, x, zero, zero)
    stream = net.stream(3, threads=threads)
    found = [stream.step(x[:, t]) for t in range(4)]
    np.testing.assert_allclose(np.stack(found, 1), wanted[:, :4], atol=2e-6)
    assert stream.steps.tolist() == [4, 4, 4]
    other = stream.copy([2, 0])
    saved = pickle.loads(pickle.dumps(stream))
    np.testing.assert_allclose(stream.run(x[:, 4:]), wanted[:, 4:], atol=2e-6)
    np.testing.assert_allclose(other.run(x[[2, 0], 4:]), wanted[[2, 0], 4:], atol=2e-6)
    np.testing.assert_allclose(saved.step(x[:, 4]), wanted[:, 4], atol=2e-6)
    stream.reset([1])
    np.testing.assert_allclose(stream.step(x[:, 0])[1], wanted[1, 0], atol=2e-6)


def test_rows_that_are_not_active_keep_their_state(net, cell, rng):
    x = rng.standard_normal((3, 2, FEATURES)).astype("f4")
    stream = net.stream(3)
    stream.step(x[:, 0], active=np.array([True, False, True]))
    zero = np.zeros((3, HIDDEN))
    wanted, *_ = expected(cell, x, zero, zero)
    fresh, *_ = expected(cell, x[:, 1:], zero, zero)
    y = stream.step(x[:, 1])
    np.testing.assert_allclose(y[[0, 2]], wanted[[0, 2], 1], atol=2e-6)
    np.testing.assert_allclose(y[1], fresh[1, 0], atol=2e-6)


def test_a_stream_has_the_bits_of_predict(net, rng):
    x = rng.standard_normal((3, 4, FEATURES)).astype("f4")
    stream, state = net.stream(3), None
    for t in range(4):
        y, state = net.predict(x[:, t], initial_state=state, return_state=True)
        np.testing.assert_array_equal(stream.step(x[:, t]), y)


def test_a_saved_network_keeps_its_states(net, tmp_path, rng, recwarn):
    net.save(tmp_path / "net.cylstm")
    again = cylstm.load(tmp_path / "net.cylstm")
    x = rng.standard_normal((3, 4, FEATURES)).astype("f4")
    np.testing.assert_array_equal(again.stream(3).run(x), net.stream(3).run(x))
    assert not recwarn.list
    net.summary()


def test_chunks_of_any_shape_that_fits_are_taken(net, rng):
    x = rng.standard_normal((5, FEATURES)).astype("f4")
    alone = net.stream()
    np.testing.assert_array_equal(alone.run(x), net.stream().run(x[np.newaxis])[0])
    with pytest.raises(cylstm.errors.ShapeError, match="expected .batch, time, features."):
        alone.run(x[0])


def test_the_error_of_a_stream_proposes_the_pairs(cell, tmp_path):
    net = load(tmp_path, two_states(cell))
    assert net.inputs == ("x", "h", "c")
    with pytest.raises(UnsupportedError, match=r"states=\{'hn': 'h', 'cn': 'c'\}"):
        net.stream()
    net = load(tmp_path, one_tensor(cell, "gather"))
    with pytest.raises(UnsupportedError, match=r"states=\{'stateN': 'state'\}"):
        net.stream()


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"hn": "c", "cn": "h"}, "'hn' is not the state that 'c' is: it does not hold the state 'c'"),
        ({"hn": "h"}, "carries all of its states on or none, and its state 'c' begins as 'c'; name the pair"),
        ({"y": "h", "cn": "c"}, "'y' is not the state that 'h' is"),
        ({"hn": "x", "cn": "c"}, "'x' is: it is the initial state of no LSTM, GRU or RNN.*layer '.*' .* reads it"),
        ({"hn": "h", "cn": "h"}, "an input twice"),
        ({"h": "hn"}, "no output 'h'; there are y, hn, cn"),
        ({"hn": "state"}, "no input 'state'; there are x, h, c"),
        (["hn"], "expected a dict of outputs to inputs"),
        ({"hn": 1}, "expected a dict of outputs to inputs"),
    ],
)
def test_pairs_that_are_none_are_refused_with_the_cause(cell, tmp_path, states, message):
    with pytest.raises(FormatError, match=message):
        load(tmp_path, two_states(cell), states=states)


def test_a_state_in_another_order_is_refused(cell, tmp_path):
    found = one_tensor(cell, "split").replace(b"h_out\x0a\x05c_out\x12\x06stateN", b"c_out\x0a\x05h_out\x12\x06stateN")
    with pytest.raises(FormatError, match="is at another place in it"):
        load(tmp_path, found, states={"stateN": "state"})


def gru_of(rng, builder, x, h, name="gru"):
    weights = {
        "weight_ih": rng.standard_normal((6, 3)).astype("f4"),
        "weight_hh": rng.standard_normal((6, 2)).astype("f4"),
    }
    return builder.add("gru", name, {"x": x, "h0": h}, weights)


def test_a_time_of_any_length_goes_on_from_chunk_to_chunk(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (None, 3)), builder.input("h", (2,))
    found = gru_of(rng, builder, x, h)
    builder.output(found["y"])
    builder.output(builder.add("activation", "hn", {"x": found["h"]})["y"])
    whole = builder.build()
    assert proposed_states(whole) == {"hn": "h"}
    tied = tie_states(whole, {"hn": "h"})
    assert tied.stateful == () and tied.inputs == ("x",)
    net, before = cylstm.Model(tied), cylstm.Model(whole)
    data = rng.standard_normal((3, 7, 3)).astype("f4")
    stream, state = net.stream(3), np.zeros((3, 2), np.float32)
    for part in (data[:, :3], data[:, 3:]):
        y, state = before.predict([part, state])
        np.testing.assert_allclose(stream.run(part), y, atol=1e-6)


def test_layers_that_start_from_zero_at_each_call_do_so_in_a_stream_too(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (None, 3)), builder.input("h", (2,))
    found = gru_of(rng, builder, x, h)
    other = gru_of(rng, builder, x, None, "other")
    builder.output(builder.add("merge", "sum", {"x": found["y"], "x1": other["y"]}, None, {"mode": "sum"})["y"])
    builder.output(builder.add("activation", "hn", {"x": found["h"]})["y"])
    whole = builder.build()
    tied = tie_states(whole, {"hn": "h"})
    assert tied.stateful == ("gru",)
    before, stream = cylstm.Model(whole), cylstm.Model(tied).stream(3)
    data = rng.standard_normal((3, 7, 3)).astype("f4")
    state = np.zeros((3, 2), np.float32)
    for part in (data[:, :3], data[:, 3:]):
        y, state = before.predict([part, state])
        np.testing.assert_allclose(stream.run(part), y, atol=1e-6)


def test_a_state_that_is_read_elsewhere_is_refused(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (1, 3)), builder.input("h", (2,))
    found = gru_of(rng, builder, x, h)
    builder.output(builder.add("merge", "sum", {"x": found["h"], "x1": h}, None, {"mode": "sum"})["y"])
    builder.output(builder.add("activation", "hn", {"x": found["h"]})["y"])
    with pytest.raises(FormatError, match=r"'h' is not only the initial state of a layer: 'sum' \(merge\) reads it"):
        tie_states(builder.build(), {"hn": "h"})


def test_half_of_a_state_is_refused(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (1, 3)), builder.input("h", (4,))
    part = builder.add("slice", "part", {"x": h}, None, {"axis": 0, "start": 0, "count": 2})["y"]
    found = gru_of(rng, builder, x, part)
    builder.output(found["y"])
    builder.output(builder.add("activation", "hn", {"x": found["h"]})["y"])
    with pytest.raises(FormatError, match="of its 4 numbers the layers read 2 as initial states"):
        tie_states(builder.build(), {"hn": "h"})


def test_the_last_output_is_the_state_too(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (None, 3)), builder.input("h", (2,))
    found = gru_of(rng, builder, x, h)
    builder.output(found["y"])
    builder.output(builder.add("last", "end", {"x": found["y"]})["y"])
    whole = builder.build()
    assert proposed_states(whole) == {"end": "h"}
    data = rng.standard_normal((3, 4, 3)).astype("f4")
    y, end = cylstm.Model(whole).predict([data, np.zeros((3, 2), np.float32)])
    net = cylstm.Model(tie_states(whole, {"end": "h"}))
    found_y, state = net.predict(data, return_state=True)
    np.testing.assert_array_equal(found_y, y)
    np.testing.assert_array_equal(state[0][0], end)


def test_a_backward_layer_within_a_call_carries_its_state_on_too(rng):
    builder = GraphBuilder()
    x, h = builder.input("x", (12,)), builder.input("h", (2,))
    steps = builder.add("reshape", "steps", {"x": x}, None, {"shape": "4,3"})["y"]
    weights = {role: rng.standard_normal((6, size)).astype("f4") for role, size in (("weight_ih", 3), ("weight_hh", 2))}
    found = builder.add("gru", "gru", {"x": steps, "h0": h}, weights, {"reverse": True})
    forward = gru_of(rng, builder, steps, None, "other")
    both = builder.add("merge", "both", {"x": found["y"], "x1": forward["y"]}, None, {"mode": "sum"})["y"]
    builder.output(both)
    builder.output(builder.add("activation", "hn", {"x": found["h"]})["y"])
    whole = builder.build()
    before, net = cylstm.Model(whole), cylstm.Model(tie_states(whole, {"hn": "h"}))
    state, stream = np.zeros((3, 2), np.float32), net.stream(3)
    for _ in range(3):
        data = rng.standard_normal((3, 12)).astype("f4")
        y, state = before.predict([data, state])
        np.testing.assert_array_equal(stream.step(data), y)
        np.testing.assert_array_equal(stream.state[0][0], state)


def test_the_last_states_of_a_row_of_no_steps_are_zero_whatever_it_started_from(cell, rng, tmp_path):
    """As ONNX Runtime has it; a row of some steps keeps the states of its last one."""
    nodes = [
        node(
            "LSTM",
            ["steps", "w", "r", "b", "lengths", "h0", "c0"],
            ["all", "h_out", "c_out"],
            hidden_size=HIDDEN,
        ),
        node("Squeeze", ["h_out", "axis0"], ["hn"]),
        node("Squeeze", ["c_out", "axis0"], ["cn"]),
    ]
    inputs = [value("steps", ("time", "batch", FEATURES)), value("lengths", ("batch",), "int32")]
    inputs += [value(name, (1, "batch", HIDDEN)) for name in ("h0", "c0")]
    net = load(tmp_path, graph(nodes, inputs, [value(name, None) for name in ("hn", "cn")], cell.tensors))
    x = rng.standard_normal((3, 5, FEATURES)).astype("f4")
    h0, c0 = rng.standard_normal((2, 3, HIDDEN)).astype("f4")
    mask = np.arange(5) < np.array([[4], [0], [1]])
    hn, cn = net.predict({"steps": x, "h0": h0[:, np.newaxis], "c0": c0[:, np.newaxis]}, mask={"steps": mask})
    for row, length in enumerate(mask.sum(1)):
        _, h, c = expected(cell, x[row : row + 1, :length], h0[row : row + 1], c0[row : row + 1]) if length else [0] * 3
        np.testing.assert_allclose(hn[row], np.broadcast_to(h, (1, HIDDEN))[0], rtol=0, atol=2e-6)
        np.testing.assert_allclose(cn[row], np.broadcast_to(c, (1, HIDDEN))[0], rtol=0, atol=2e-6)
