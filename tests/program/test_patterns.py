"""LSTM and GRU cells written out as products, gates and sums become one layer; what is none stays as it is."""

import tracemalloc
from itertools import permutations

import numpy as np
import pytest

import cylstm
from cylstm.program.network import Network
from cylstm.program.operations.elementwise import activation, add, multiply, subtract
from cylstm.program.operations.linear import linear
from cylstm.program.operations.parts import chunk, concat, slice_axis, split
from cylstm.program.patterns import with_biases, with_cells
from cylstm.program.tensor import BATCH, Tensor

INPUT, HIDDEN, BATCHES = 5, 4, 3


def network(**sizes):
    """A network, and its inputs as tensors (batch, size)."""
    net = Network()
    found = []
    for name, size in sizes.items():
        net.name = name
        found.append(Tensor(net.builder.input(name, (size,)), (BATCH, 0)))
    net.name = "step"
    return net, found


def checked(net, results, kind, rng, count=1):
    """The graph with its cells as layers has `count` layers of this kind, and gives the numbers of the one without."""
    for one in results:
        net.builder.output(net.arrange(one, [1]))
    graph = net.builder.build()
    found = with_cells(graph)
    kinds = [layer.kind for layer in found.layers]
    assert kinds.count(kind) == count, kinds
    arrays = [rng.normal(size=(BATCHES, *graph.values[name].shape)).astype(np.float32) for name in graph.inputs]
    ours, plain = (cylstm.Model(one).predict(arrays) for one in (found, graph))
    ours, plain = ([one] if isinstance(one, np.ndarray) else one for one in (ours, plain))
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    return found


def uniform(rng, *shape):
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def sigmoid(net, x):
    return activation(net, x, "sigmoid")


def tanh(net, x):
    return activation(net, x, "tanh")


def lstm_states(net, i, f, g, o, c, functions=("sigmoid", "tanh", "tanh")):
    """c and h of the numbers before the gates."""
    gate, candidate, output = functions
    i, f, o = (activation(net, one, gate) for one in (i, f, o))
    new = add(net, multiply(net, f, c), multiply(net, i, activation(net, g, candidate)))
    return multiply(net, o, activation(net, new, output)), new


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
@pytest.mark.parametrize("functions", [("sigmoid", "tanh", "tanh"), ("hard_sigmoid", "relu", "softsign")])
def test_an_lstm_cell_with_its_gates_in_any_order_is_one_layer(order, functions):
    rng = np.random.default_rng(1)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    a = linear(net, x, uniform(rng, 4 * HIDDEN, INPUT), uniform(rng, 4 * HIDDEN))
    b = linear(net, h, uniform(rng, 4 * HIDDEN, HIDDEN), uniform(rng, 4 * HIDDEN))
    gates = chunk(net, add(net, a, b), 4, 1)
    results = lstm_states(net, *(gates[k] for k in order), c, functions)
    found = checked(net, results, "lstm", rng)
    assert len(found.layers) == 4  # a reshape, the cell, and its states as outputs


def test_an_lstm_cell_of_x_and_h_side_by_side_is_one_layer():
    rng = np.random.default_rng(2)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    joined = concat(net, [x, h], 1)
    gates = linear(net, joined, uniform(rng, 4 * HIDDEN, INPUT + HIDDEN), uniform(rng, 4 * HIDDEN))
    i, g, f, o = split(net, gates, HIDDEN, 1)
    checked(net, lstm_states(net, i, add(net, f, 1.0), g, o, c), "lstm", rng)


def test_an_lstm_cell_of_a_product_for_each_gate_is_one_layer():
    rng = np.random.default_rng(3)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    gates = []
    for _ in range(4):
        a = add(net, linear(net, x, uniform(rng, HIDDEN, INPUT)), uniform(rng, HIDDEN))
        gates.append(add(net, a, linear(net, h, uniform(rng, HIDDEN, HIDDEN))))
    checked(net, lstm_states(net, *gates, c), "lstm", rng)


def test_an_lstm_cell_with_one_sigmoid_of_three_gates_is_one_layer():
    rng = np.random.default_rng(4)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    a = linear(net, x, uniform(rng, 4 * HIDDEN, INPUT), uniform(rng, 4 * HIDDEN))
    gates = add(net, a, linear(net, h, uniform(rng, 4 * HIDDEN, HIDDEN)))
    three = sigmoid(net, slice_axis(net, gates, 1, 0, 3 * HIDDEN))
    i, f, o = split(net, three, HIDDEN, 1)
    g = tanh(net, slice_axis(net, gates, 1, 3 * HIDDEN, None))
    new = add(net, multiply(net, i, g), multiply(net, c, f))
    checked(net, [multiply(net, tanh(net, new), o), new], "lstm", rng)


def test_steps_of_a_cell_one_after_the_other_are_layers_whose_states_go_on():
    rng = np.random.default_rng(5)
    net, (x, h, c) = network(x=3 * INPUT, h=HIDDEN, c=HIDDEN)
    weights = [uniform(rng, 4 * HIDDEN, INPUT), uniform(rng, 4 * HIDDEN), uniform(rng, 4 * HIDDEN, HIDDEN)]
    for step in split(net, x, INPUT, 1):
        gates = add(net, linear(net, step, *weights[:2]), linear(net, h, weights[2]))
        h, c = lstm_states(net, *chunk(net, gates, 4, 1), c)
    found = checked(net, [h, c], "lstm", rng, 3)
    states = [layer.inputs["h0"] for layer in found.layers if layer.kind == "lstm"]
    assert states[0] == "h" and len(set(states)) == 3
    assert len({layer.weights["weight_ih"] for layer in found.layers if layer.kind == "lstm"}) == 1


@pytest.mark.parametrize("form", ["difference", "complement"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_cell_is_one_layer(form, reset_after):
    rng = np.random.default_rng(6)
    net, (x, h) = network(x=INPUT, h=HIDDEN)
    ih, hh = uniform(rng, 3 * HIDDEN, INPUT), uniform(rng, 3 * HIDDEN, HIDDEN)
    a = chunk(net, linear(net, x, ih, uniform(rng, 3 * HIDDEN)), 3, 1)
    bias = uniform(rng, 3 * HIDDEN)
    b = chunk(net, linear(net, h, hh, bias), 3, 1)
    r, z = (sigmoid(net, add(net, a[k], b[k])) for k in (0, 1))
    inner = (
        multiply(net, r, b[2])
        if reset_after
        else linear(net, multiply(net, r, h), hh[2 * HIDDEN :], bias[2 * HIDDEN :])
    )
    n = tanh(net, add(net, a[2], inner))
    if form == "difference":
        new = add(net, multiply(net, subtract(net, h, n), z), n)
    else:
        new = add(net, multiply(net, z, h), multiply(net, subtract(net, 1.0, z), n))
    found = checked(net, [new], "gru", rng)
    assert next(layer for layer in found.layers if layer.kind == "gru").options["reset_after"] is reset_after


def test_steps_of_a_gru_one_after_the_other_are_layers():
    rng = np.random.default_rng(11)
    net, (x, h) = network(x=3 * INPUT, h=HIDDEN)
    ih, hh, bias = uniform(rng, 3 * HIDDEN, INPUT), uniform(rng, 3 * HIDDEN, HIDDEN), uniform(rng, 3 * HIDDEN)
    for step in split(net, x, INPUT, 1):
        a = chunk(net, linear(net, step, ih), 3, 1)
        b = chunk(net, add(net, linear(net, h, hh), bias), 3, 1)
        z, r = (sigmoid(net, add(net, a[k], b[k])) for k in (0, 1))
        n = tanh(net, add(net, a[2], multiply(net, r, b[2])))
        h = add(net, multiply(net, z, h), multiply(net, subtract(net, 1.0, z), n))
    checked(net, [h], "gru", rng, 3)


@pytest.mark.parametrize("hidden, count", [(64, 1), (65, 0)])
def test_a_large_cell_whose_product_with_its_input_was_computed_before_stays_as_it_is(hidden, count):
    rng = np.random.default_rng(12)
    net, (x, h, c) = network(x=4 * hidden, h=hidden, c=hidden)
    gates = add(net, x, linear(net, h, uniform(rng, 4 * hidden, hidden)))
    checked(net, lstm_states(net, *chunk(net, gates, 4, 1), c), "lstm", rng, count)


def test_sums_without_end_take_no_room():
    """A cell's numbers are sought in its own sums alone, not in all that a residual network adds up."""
    net, (x,) = network(x=1024)
    for k in range(40):
        net.name = f"block{k}"
        x = add(net, x, multiply(net, sigmoid(net, x), tanh(net, x)))
    net.builder.output(net.arrange(x, [1]))
    graph = net.builder.build()
    tracemalloc.start()
    assert with_cells(graph) is graph
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 28


NO_CELLS = {
    "c twice": lambda net, i, f, g, o, c: multiply(
        net, sigmoid(net, o), tanh(net, add(net, multiply(net, sigmoid(net, f), multiply(net, c, c)), c))
    ),
    "a difference": lambda net, i, f, g, o, c: multiply(
        net,
        sigmoid(net, o),
        tanh(net, subtract(net, multiply(net, sigmoid(net, f), c), multiply(net, sigmoid(net, i), tanh(net, g)))),
    ),
    "gates of two kinds": lambda net, i, f, g, o, c: multiply(
        net,
        sigmoid(net, o),
        tanh(net, add(net, multiply(net, tanh(net, f), c), multiply(net, sigmoid(net, i), tanh(net, g)))),
    ),
}


@pytest.mark.parametrize("name", NO_CELLS)
def test_what_is_no_cell_stays_as_it_is(name):
    rng = np.random.default_rng(7)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    gates = add(
        net,
        linear(net, x, uniform(rng, 4 * HIDDEN, INPUT), uniform(rng, 4 * HIDDEN)),
        linear(net, h, uniform(rng, 4 * HIDDEN, HIDDEN)),
    )
    checked(net, [NO_CELLS[name](net, *chunk(net, gates, 4, 1), c)], "lstm", rng, 0)


def test_peepholes_written_out_stay_as_they_are():
    rng = np.random.default_rng(8)
    net, (x, h, c) = network(x=INPUT, h=HIDDEN, c=HIDDEN)
    gates = add(
        net,
        linear(net, x, uniform(rng, 4 * HIDDEN, INPUT), uniform(rng, 4 * HIDDEN)),
        linear(net, h, uniform(rng, 4 * HIDDEN, HIDDEN)),
    )
    i, f, g, o = chunk(net, gates, 4, 1)
    i = add(net, i, multiply(net, c, uniform(rng, HIDDEN)))
    checked(net, lstm_states(net, i, f, g, o, c), "lstm", rng, 0)


@pytest.mark.parametrize("has_bias", [False, True])
def test_what_is_added_to_a_product_is_its_bias(has_bias):
    rng = np.random.default_rng(9)
    net, (x,) = network(x=INPUT)
    y = linear(net, x, uniform(rng, HIDDEN, INPUT), uniform(rng, HIDDEN) if has_bias else None)
    net.builder.output(net.arrange(tanh(net, add(net, y, uniform(rng, HIDDEN))), [1]))
    graph = net.builder.build()
    found = with_biases(graph)
    assert [layer.kind for layer in found.layers] == ["dense", "activation"]
    array = rng.normal(size=(BATCHES, INPUT)).astype(np.float32)
    ours, plain = (cylstm.Model(one).predict(array) for one in (found, graph))
    np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-6)


def test_a_product_that_is_read_besides_or_scaled_keeps_its_bias_apart():
    rng = np.random.default_rng(10)
    net, (x,) = network(x=INPUT)
    y = linear(net, x, uniform(rng, HIDDEN, INPUT))
    z = linear(net, x, uniform(rng, HIDDEN, INPUT))
    for one in (y, add(net, y, uniform(rng, HIDDEN)), multiply(net, z, uniform(rng, HIDDEN))):
        net.builder.output(net.arrange(one, [1]))
    graph = net.builder.build()
    assert with_biases(graph) is graph
