"""Pruned networks: planted units go, those that cannot go stay and say why, and the outputs stay the same."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain import Pruning, units
from cylstm.explain.channels import RULES
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.layers.lstm import lstm_gates

from tests.builders.networks import same
from tests.builders.recurrent import (
    CONV_LSTM_SHAPE,
    KINDS,
    conv_lstm,
    coupled,
    gru,
    gru_before,
    lstm,
    numbers,
    peepholes,
    plain_lstm,
    projected,
    rnn,
    weight,
)

FEATURES, UNITS = 5, 12
#: units that are always 0, that are constant, and pairs whose second repeats the first
ZEROS, CONSTANTS, COPIES = (1, 4), {2: 0.8, 7: -1.3, 9: 0.4}, ((3, 8), (3, 10))


def no_forget(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], forget_gate=False)


def coupled_input(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], coupled="f=1-i")


def wide_peepholes(rng, inputs, hidden):
    vectors = [("bias", 4 * hidden), *((f"peephole_{gate}", hidden) for gate in "ifo")]
    return lstm(rng, inputs, hidden, vectors=vectors)


def projected_wide(rng, inputs, hidden):
    return lstm(rng, inputs, 2 * hidden, projection=hidden, vectors=[("bias", 8 * hidden)])


def as_double(made):
    kind, weights, options = made
    return kind, {role: array.astype(np.float64) for role, array in weights.items()}, options


def gates_of(kind, options):
    if kind == "lstm":
        defaults = {"coupled": "", "forget_gate": True}
        return lstm_gates(defaults | options)
    return {"gru": "rzn", "rnn": "h"}[kind]


def plant(made, zeros=(), constants=None, copies=()):
    """The layer with units that are always 0, always tanh(tanh(number)) or tanh(number), or that repeat another."""
    kind, weights, options = made
    weights = {role: array.copy() for role, array in weights.items()}
    if "weight_hr" in weights:
        weights["weight_hr"][list(zeros)] = 0.0
        for first, copy in copies:
            weights["weight_hr"][copy] = weights["weight_hr"][first]
        return kind, weights, options
    gates = gates_of(kind, options)
    rows = len(weights["weight_ih"])
    units = rows // len(gates)
    weights.setdefault("bias_ih" if kind == "gru" else "bias", np.zeros(rows, weights["weight_ih"].dtype))
    blocks = {role: array.reshape(len(gates), units, -1) for role, array in weights.items() if len(array) == rows}
    value = "g" if kind == "lstm" else gates[-1]
    bias = blocks["bias_ih" if kind == "gru" else "bias"]
    for unit in (*zeros, *(constants or {})):
        for block in blocks.values():
            block[gates.index(value), unit] = 0.0
    for unit, number in (constants or {}).items():
        bias[gates.index(value), unit] = number
        for gate, shut in {"i": 900.0, "f": -900.0, "o": 900.0, "z": -900.0}.items():
            if gate in gates:
                for block in blocks.values():
                    block[gates.index(gate), unit] = 0.0
                bias[gates.index(gate), unit] = shut
    for first, copy in copies:
        for block in blocks.values():
            block[:, copy] = block[:, first]
        for gate in "ifo":
            if f"peephole_{gate}" in weights:
                weights[f"peephole_{gate}"][copy] = weights[f"peephole_{gate}"][first]
    return kind, weights, options


class Net:
    """A network in the making: `then` adds a layer behind the last one."""

    def __init__(self, rng, *, masked=False, dtype=np.float64, features=FEATURES, time=None):
        self.rng, self.dtype = rng, dtype
        self.builder = GraphBuilder()
        self.x = self.builder.input("x", (time, features), masked=masked)
        self.y = self.x

    def cell(self, name, made, x=None, **inputs):
        kind, weights, options = made
        weights = {role: array.astype(self.dtype) for role, array in weights.items()}
        outputs = self.builder.add(kind, name, {"x": self.y if x is None else x, **inputs}, weights, options)
        self.y = outputs["y"]
        return outputs

    def then(self, kind, name, weights=None, inputs=None, **options):
        weights = {role: array.astype(self.dtype) for role, array in (weights or {}).items()}
        self.y = self.builder.add(kind, name, inputs or {"x": self.y}, weights, options)["y"]
        return self.y

    def head(self, name="head", size=3):
        weights = {"weight": weight(self.rng, size, self.y.features), "bias": numbers(self.rng, size)}
        return self.then("dense", name, weights)

    def model(self, *outputs):
        for value in outputs or (self.y,):
            self.builder.output(value)
        dtype = "float64" if self.dtype == np.float64 else "float32"
        return cylstm.Model(self.builder.build({"unit": "ug"}), dtype=dtype)


def as_list(found):
    return found if isinstance(found, list) else [found]


def check_same(model, smaller, x, **more):
    error = 1e-12 if model.dtype == np.float64 else 3e-5
    for a, b in zip(as_list(model.predict(x, **more)), as_list(smaller.predict(x, **more)), strict=True):
        assert np.abs(a).max() > 0.01
        np.testing.assert_allclose(b, a, rtol=0, atol=error)


def removed(model, layer="cell"):
    return sorted(model.pruning[layer].removed)


def kept(model, layer="cell"):
    return model.pruning[layer].kept


def pruned(model, x, **more):
    smaller = model.prune(units(model, x, **more))
    check_same(model, smaller, x, **more)
    return smaller


MAKERS = [plain_lstm, wide_peepholes, coupled, coupled_input, gru, gru_before, rnn]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", [*MAKERS, no_forget, peepholes, projected_wide])
def test_units_that_are_always_zero_or_repeat_another_go_from_every_kind(rng, make, reverse, dtype):
    net = Net(rng, dtype=dtype)
    kind, weights, options = plant(make(rng, FEATURES, UNITS), ZEROS, copies=COPIES)
    net.cell("cell", (kind, weights, options | {"reverse": reverse}))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x)
    assert smaller.pruning["cell"].removed == {1: "always 0", 4: "always 0", 8: "as unit 3", 10: "as unit 3"}
    assert kept(smaller) == {}
    assert smaller.graph.values["cell"].features == UNITS - 4
    # what was planted goes for any data
    check_same(model, smaller, 3.0 * numbers(rng, 3, 30, FEATURES))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", [one for one in MAKERS if one is not gru_before])
def test_of_constant_units_one_stands_in_for_all(rng, make, reverse):
    net = Net(rng)
    kind, weights, options = plant(make(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES)
    net.cell("cell", (kind, weights, options | {"reverse": reverse}))
    net.head()
    model = net.model()
    smaller = pruned(model, numbers(rng, 4, 9, FEATURES))
    assert removed(smaller) == [1, 2, 4, 8, 9, 10]
    assert list(kept(smaller)) == [7] and "the state before the first step is 0" in kept(smaller)[7]
    check_same(model, smaller, numbers(rng, 3, 1, FEATURES))


def test_a_constant_unit_that_its_own_layer_does_not_read_goes(rng):
    net = Net(rng)
    kind, weights, options = plant(plain_lstm(rng, FEATURES, UNITS), constants={2: 0.8})
    weights["weight_hh"][:, 2] = 0.0
    net.cell("cell", (kind, weights, options))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert smaller.pruning["cell"].removed == {2: f"always {np.tanh(np.tanh(0.8)):.6g}"}


def test_a_gru_with_reset_before_keeps_what_its_reset_gates_tell_apart(rng):
    net = Net(rng)
    kind, weights, options = plant(gru_before(rng, FEATURES, UNITS), ZEROS, {2: 0.8}, COPIES)
    weights["weight_ih"][10] += 0.5  # the reset gate of one copy
    net.cell("cell", (kind, weights, options))
    net.head()
    model = net.model()
    smaller = pruned(model, numbers(rng, 4, 9, FEATURES))
    assert removed(smaller) == [1, 4, 8]
    assert "reset gate" in kept(smaller)[2] and "reset gate" in kept(smaller)[10]


def test_a_network_without_units_to_remove_stays_as_it_is(rng):
    net = Net(rng)
    net.cell("cell", plain_lstm(rng, FEATURES, UNITS))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x)
    assert removed(smaller) == [] and kept(smaller) == {} and same(smaller.predict(x), model.predict(x))


def test_a_layer_keeps_one_unit_where_all_are_of_no_use(rng):
    net = Net(rng)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), zeros=range(UNITS)))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller) == list(range(1, UNITS)) and "keep one" in kept(smaller)[0]


@pytest.mark.parametrize("reader", [plain_lstm, projected, gru, gru_before, rnn])
def test_constants_go_into_the_biases_of_the_next_recurrent_layer(rng, reader):
    net = Net(rng)
    net.cell("first", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES))
    kind, weights, options = reader(rng, UNITS, 7)
    for bias in ("bias", "bias_ih"):
        weights.pop(bias, None)  # it gets one
    net.cell("second", (kind, weights, options))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller, "first") == [1, 2, 4, 8, 9, 10] and removed(smaller, "second") == []


def test_a_normalised_reader_takes_no_constant_but_zero(rng):
    net = Net(rng)
    net.cell("first", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES))
    normalised = next(make for make in KINDS if make.__name__ == "normalised")
    net.cell("second", plant(normalised(rng, UNITS, 7)))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller, "first") == [1, 4, 8, 10]
    assert all("normalises" in kept(smaller, "first")[k] for k in CONSTANTS)


def test_a_normalised_layer_keeps_its_units(rng):
    normalised = next(make for make in KINDS if make.__name__ == "normalised")
    net = Net(rng)
    kind, weights, options = normalised(rng, FEATURES, UNITS)
    for role, array in weights.items():
        if not role.startswith("norm_c"):
            array.reshape(4, UNITS, -1)[:, 8] = array.reshape(4, UNITS, -1)[:, 3]
        else:
            array[8] = array[3]
    net.cell("cell", (kind, weights, options))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert kept(smaller) == {8: "the layer's normalisation mixes its units"}


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
def test_two_directions(rng, mode):
    net = Net(rng)
    sides = []
    for name, zeros in (("forward", (1, 4)), ("backward", (4, 6))):
        kind, weights, options = plant(plain_lstm(rng, FEATURES, UNITS), zeros, copies=((3, 8),))
        options = options | {"reverse": name == "backward"}
        sides.append(net.cell(name, (kind, weights, options), x=net.x)["y"])
    net.then("merge", "both", inputs={"x": sides[0], "x1": sides[1]}, mode=mode)
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    if mode == "concat":
        assert removed(smaller, "forward") == [1, 4, 8] and removed(smaller, "backward") == [4, 6, 8]
    else:
        assert removed(smaller, "forward") == removed(smaller, "backward") == [4, 8]
        assert "changes" in kept(smaller, "forward")[1] and "changes" in kept(smaller, "backward")[6]


def test_last_states_of_two_directions_joined(rng):
    net = Net(rng)
    states = []
    for name in ("forward", "backward"):
        kind, weights, options = plant(gru(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES)
        states.append(net.cell(name, (kind, weights, options | {"reverse": name == "backward"}), x=net.x)["h"])
    net.then("merge", "both", inputs={"x": states[0], "x1": states[1]})
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller, "forward") == removed(smaller, "backward") == [1, 2, 4, 8, 9, 10]


def test_an_addition_keeps_a_unit_unless_all_that_it_adds_can_go(rng):
    net = Net(rng)
    first = net.cell("first", plant(plain_lstm(rng, FEATURES, UNITS), (1, 4), copies=((3, 8),)))["y"]
    second = net.cell("second", plant(plain_lstm(rng, UNITS, UNITS), (4, 6), {2: 0.8}, ((3, 8), (5, 10))))["y"]
    net.then("merge", "add", inputs={"x": first, "x1": second}, mode="sum")
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller, "first") == removed(smaller, "second") == [4, 8]
    assert "'add' (merge, sum) joins it with a number that changes" in kept(smaller, "first")[1]
    assert set(kept(smaller, "first")) == {1} and set(kept(smaller, "second")) == {2, 6, 10}


def test_an_input_that_is_added_keeps_the_units(rng):
    net = Net(rng, features=UNITS)
    y = net.cell("cell", plant(plain_lstm(rng, UNITS, UNITS), ZEROS, copies=COPIES))["y"]
    net.then("merge", "add", inputs={"x": y, "x1": net.x}, mode="sum")
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, UNITS))
    assert removed(smaller) == [] and len(kept(smaller)) == 4


def features(rng, dtype=np.float64):
    return {"mean": numbers(rng, UNITS), "variance": rng.uniform(0.5, 2.0, UNITS), "gain": numbers(rng, UNITS)}


#: layers between the cell and the head -> which planted units go through them
#: (0, constants and copies), and a word of the reason for the others
EVERYTHING = [1, 2, 4, 8, 9, 10]
BETWEEN = {
    "relu": (lambda n: n.then("activation", "a", activation="relu"), EVERYTHING, ""),
    "sigmoid": (lambda n: n.then("activation", "a", activation="sigmoid"), EVERYTHING, ""),
    "softmax": (lambda n: n.then("activation", "a", activation="softmax"), [], "softmax"),
    "softmax layer": (lambda n: n.then("softmax", "a"), [], "sum over an axis"),
    "dropout": (lambda n: n.then("dropout", "a", rate=0.3), EVERYTHING, ""),
    "cosine": (lambda n: n.then("function", "a", function="cos"), EVERYTHING, ""),
    "prelu": (lambda n: n.then("prelu", "a", {"slope": np.array([0.2])}), EVERYTHING, ""),
    "batch norm": (lambda n: n.then("batch_norm", "a", features(n.rng)), [1, 2, 4, 9], "otherwise than its duplicate"),
    "layer norm": (lambda n: n.then("layer_norm", "a"), [], "statistics are of all units"),
    "group norm": (lambda n: n.then("group_norm", "a", groups=2), [], "statistics"),
    "reshape": (lambda n: n.then("reshape", "a", shape="time,3,4"), [], "of kind reshape reads it"),
    "conv": (lambda n: n.then("conv1d", "a", {"weight": weight(n.rng, 6, 2, UNITS)}), EVERYTHING, ""),
    "causal conv": (
        lambda n: n.then("conv1d", "a", {"weight": weight(n.rng, 6, 2, UNITS)}, padding="causal"),
        [1, 4, 8, 10],
        "pads it with zeros",
    ),
    "grouped conv": (
        lambda n: n.then("conv1d", "a", {"weight": weight(n.rng, 6, 2, UNITS // 2)}, groups=2),
        [],
        "groups of channels",
    ),
    "pool": (lambda n: n.then("pool1d", "a", pool=2, stride=2), EVERYTHING, ""),
    "padded pool": (
        lambda n: n.then(
            "pool1d", "a", pool=2, padding="explicit", pad_before=1, mode="average", count_include_pad=True
        ),
        [1, 4, 8, 10],
        "pads its windows",
    ),
    "mean": (lambda n: n.then("reduce", "a"), EVERYTHING, ""),
    "sum": (lambda n: n.then("reduce", "a", mode="sum"), [1, 4, 8, 10], "number of steps"),
    "variance": (lambda n: n.then("reduce", "a", mode="var"), [8, 10], "mode 'var'"),
    "mean of units": (lambda n: n.then("reduce", "a", axis=1), [], "along its units"),
    "last": (lambda n: n.then("last", "a"), EVERYTHING, ""),
    "repeated": (lambda n: (n.then("last", "a"), n.then("repeat_vector", "b", count=4)), EVERYTHING, ""),
    "reverse": (lambda n: n.then("reverse", "a"), EVERYTHING, ""),
    "upsample": (lambda n: n.then("upsample", "a", size=3), EVERYTHING, ""),
    "steps": (lambda n: n.then("slice", "a", start=1, before_end=2), EVERYTHING, ""),
    # of those that repeat unit 3, which is not among them, the first is the one that stays
    "some units": (lambda n: n.then("slice", "a", axis=1, start=-6, count=5), [1, 2, 4, 9, 10], "numbers that change"),
    "every other unit": (lambda n: n.then("slice", "a", axis=1, step=2), [], "along its units"),
    "squared": (lambda n: n.then("merge", "a", inputs={"x": n.y, "x1": n.y}, mode="mul"), EVERYTHING, ""),
    "twice": (lambda n: n.then("merge", "a", inputs={"x": n.y, "x1": n.y}, mode="concat", axis=-1), EVERYTHING, ""),
    "joined in time": (
        lambda n: n.then("merge", "a", inputs={"x": n.y, "x1": n.y}, mode="concat", axis=-2),
        EVERYTHING,
        "",
    ),
    "explicit conv": (
        lambda n: n.then("conv1d", "a", {"weight": weight(n.rng, 6, 2, UNITS)}, padding="explicit"),
        EVERYTHING,
        "",
    ),
    "attention": (
        lambda n: n.then("attention", "a", inputs={"x": n.y, "key": n.y, "value": n.y}),
        [],
        "compares and mixes",
    ),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_what_lies_between_passes_units_on_or_keeps_them(rng, what):
    add, expected, reason = BETWEEN[what]
    net = Net(rng, time=9 if what == "joined in time" else None)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES))
    add(net)
    if net.y.step_shape != (net.y.features,):
        net.then("reshape", "flat", shape="time,-1")
    net.head()
    model = net.model()
    smaller = pruned(model, numbers(rng, 4, 9, FEATURES))
    assert set(removed(smaller)) == set(expected)
    others = [why for unit, why in kept(smaller).items() if unit != 7]
    assert all(reason in why for why in others) and (reason == "") == (not others)
    check_same(model, smaller, 2.0 * numbers(rng, 3, 9 if what == "joined in time" else 14, FEATURES))


@pytest.mark.parametrize("function", ["sign", "cos"])
def test_a_unit_that_is_constant_to_within_rounding_stays_where_a_function_jumps(rng, function):
    net = Net(rng)
    kind, weights, options = plant(as_double(plain_lstm(rng, FEATURES, UNITS)), ZEROS, copies=COPIES)
    weights["bias"].reshape(4, UNITS)[3, 5] = -40.0  # of 4e-18, of either sign
    weights["weight_ih"].reshape(4, UNITS, FEATURES)[1, 8] += 1e-15 * numbers(rng, FEATURES)
    net.cell("cell", (kind, weights, options))
    net.then("function", "a", function=function)
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    report = units(model, x)
    difference = report["cell"].difference
    assert np.flatnonzero(difference > 1e-17).tolist() in ([8], [8, 10]) and 0.0 < difference[5] < 1e-16
    smaller = pruned(model, x)
    if function == "sign":
        assert set(removed(smaller)) <= {1, 4, 10} and {1, 4} <= set(removed(smaller))
        assert "within rounding" in kept(smaller)[5] and "within rounding" in kept(smaller)[8]
    else:
        assert removed(smaller) == [1, 4, 5, 8, 10]


@pytest.mark.parametrize("mode", ["div", "max"])
def test_a_unit_that_is_constant_to_within_rounding_stays_where_a_merge_jumps(rng, mode):
    net = Net(rng)
    kind, weights, options = plant(as_double(plain_lstm(rng, FEATURES, UNITS)), copies=((3, 8),))
    weights["weight_ih"].reshape(4, UNITS, FEATURES)[1, 8] += 1e-15 * numbers(rng, FEATURES)
    y = net.cell("cell", (kind, weights, options))["y"]
    net.then("merge", "a", inputs={"x": y, "x1": y}, mode=mode)
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller) == ([8] if mode == "max" else []) and len(kept(smaller)) == (mode == "div")


def test_a_constant_that_becomes_infinite_stays(rng):
    net = Net(rng)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), (1,)))
    net.then("function", "a", function="log")
    net.then("activation", "b", activation="sigmoid")  # 0 there
    net.then("function", "c", function="isnan")
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = model.prune(units(model, x))
    assert same(smaller.predict(x), model.predict(x)) and removed(smaller) == []


def test_units_that_the_network_gives_out_stay(rng):
    net = Net(rng)
    y = net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, copies=COPIES))["y"]
    head = net.head()
    smaller = pruned(net.model(head, y), numbers(rng, 4, 9, FEATURES))
    assert set(kept(smaller).values()) == {"it is an output of the network"} and len(kept(smaller)) == 4


@pytest.mark.parametrize("role", ["h", "c"])
def test_units_whose_states_another_layer_starts_from_stay(rng, role):
    net = Net(rng)
    first = net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, copies=COPIES))
    second = plant(plain_lstm(rng, FEATURES, UNITS), ZEROS)
    states = {"h0": first["h"]} if role == "h" else {"h0": first["h"], "c0": first["c"]}
    net.cell("second", second, x=net.x, **states)
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES))
    assert removed(smaller) == removed(smaller, "second") == []
    assert len(kept(smaller)) == 4


def test_units_whose_cells_are_read_or_given_out_stay(rng):
    for is_read in (False, True):
        net = Net(rng)
        found = net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, copies=COPIES))
        head = net.head()
        net.y = found["c"]
        cells = net.head("of cells") if is_read else net.y
        smaller = pruned(net.model(head, cells), numbers(rng, 4, 9, FEATURES))
        wanted = "layer 'of cells' reads" if is_read else "the network gives out"
        assert set(kept(smaller).values()) == {f"{wanted} the cells of the layer after the last step"}
        assert removed(smaller) == []


def test_layers_that_share_their_weights_keep_their_units(rng):
    net = Net(rng)
    kind, weights, options = as_double(plant(plain_lstm(rng, FEATURES, UNITS), ZEROS))
    x1 = net.builder.input("x1", (None, FEATURES), masked=False)
    a = net.builder.add(kind, "cell", {"x": net.x}, weights, options)["y"]
    names = {role: f"cell.{role}" for role in weights}
    b = net.builder.add(kind, "cell", {"x": x1}, names, options)["y"]
    heads = []
    for value in (a, b):
        net.y = value
        net.then("last", f"last {value.name}")
        heads.append(net.head(f"head {value.name}"))
    model = net.model(*heads)
    x = [numbers(rng, 3, 6, FEATURES), numbers(rng, 3, 7, FEATURES)]
    report = units(model, [x])
    assert report["cell"].dead.sum() == 2
    smaller = model.prune(report)
    check_same(model, smaller, x)
    assert removed(smaller) == [] and "has the weights of layer 'cell#2' too" in kept(smaller)[1]


def test_a_conv_lstm_keeps_its_units(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, *CONV_LSTM_SHAPE))
    kind, weights, options = conv_lstm(rng, 4)
    for array in weights.values():
        array.reshape(4, 4, -1)[2, 1] = 0.0
    y = builder.add(kind, "cell", {"x": x}, weights, options)["y"]
    y = builder.add("reshape", "flat", {"x": y}, options={"shape": "time,-1"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, y.features)})["y"])
    model, x = cylstm.Model(builder.build()), numbers(rng, 3, 4, *CONV_LSTM_SHAPE)
    smaller = pruned(model, x)
    assert removed(smaller) == [] and len(kept(smaller)) == 15
    assert removed(model.prune(fraction=0.5, data=x)) == []


# ---- masks


def masked_net(rng, add, padding="zero"):
    net = Net(rng, masked=True)
    kind, weights, options = plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES)
    net.cell("cell", (kind, weights, options | {"padding": padding}))
    add(net)
    return net.model()


@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_constants_stay_where_steps_that_do_not_count_are_read_too(rng, padding):
    model, x = masked_net(rng, Net.head, padding), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x, lengths=[2, 9, 4, 7])
    assert removed(smaller) == [1, 4, 8, 10]
    assert all("do not count" in kept(smaller)[k] for k in (2, 7, 9))
    for mask in (rng.random((4, 9)) < 0.5, np.ones((4, 9), bool)):
        check_same(model, smaller, x, mask=mask)
    # without steps that do not count in the data, they go
    assert removed(pruned(model, x)) == EVERYTHING


def then_lstm(net):
    net.cell("second", plain_lstm(net.rng, UNITS, 6))
    net.head()


def then_last(net):
    net.then("last", "a")
    net.head()


def then_sigmoid_and_lstm(net):
    net.then("activation", "a", activation="sigmoid")
    then_lstm(net)


@pytest.mark.parametrize("add", [then_lstm, then_last, then_sigmoid_and_lstm])
def test_constants_go_where_only_the_steps_that_count_are_read(rng, add):
    model, x = masked_net(rng, add), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x, lengths=[2, 9, 4, 7])
    assert removed(smaller) == EVERYTHING
    for mask in (rng.random((4, 9)) < 0.7, np.ones((4, 9), bool)):
        mask[:, 4] = True
        check_same(model, smaller, x, mask=mask)


def test_rows_without_any_step_keep_constants_that_are_read_at_the_last(rng):
    model, x = masked_net(rng, then_last), numbers(rng, 4, 9, FEATURES)
    mask = rng.random((4, 9)) < 0.7
    mask[1] = False
    smaller = pruned(model, x, mask=mask)
    assert removed(smaller) == [1, 4, 8, 10]
    net = Net(rng, masked=True)
    net.y = net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES))["h"]
    net.head()
    smaller = pruned(net.model(), x, mask=mask)
    assert removed(smaller) == [1, 4, 8, 10] and "rows without any step" in kept(smaller)[2]


def test_the_mean_over_time_of_rows_without_any_step_is_none(rng):
    net = Net(rng, masked=True)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, copies=COPIES))
    mask = net.builder.value(net.x.mask)
    net.then("reduce", "mean", inputs={"x": net.y, "mask": mask})
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    assert removed(pruned(model, x, lengths=[2, 9, 4, 7])) == [1, 4, 8, 10]
    mask = rng.random((4, 9)) < 0.7
    mask[1] = False
    smaller = model.prune(units(model, x, mask=mask))
    assert removed(smaller) == [8, 10] and "has no number for rows without any step" in kept(smaller)[1]
    np.testing.assert_allclose(smaller.predict(x, mask=mask), model.predict(x, mask=mask), rtol=0, atol=1e-12)


def test_a_layer_with_a_mask_of_its_own_reads_steps_that_do_not_count_before(rng):
    net = Net(rng, masked=True)
    valid = net.builder.add("masking", "masking", {"x": net.x})["mask"]
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES), x=net.x)
    net.cell("second", plain_lstm(rng, UNITS, 6), mask=valid)
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    x[2, 7:] = 0.0
    smaller = pruned(model, x, lengths=[2, 9, 4, 7])
    assert removed(smaller) == [1, 4, 8, 10] and "do not count" in kept(smaller)[2]


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_constants_of_two_directions_with_one_mask_go(rng, mode):
    net = Net(rng, masked=True)
    sides = []
    for name in ("forward", "backward"):
        kind, weights, options = plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS)
        sides.append(net.cell(name, (kind, weights, options | {"reverse": name == "backward"}), x=net.x)["y"])
    net.then("merge", "both", inputs={"x": sides[0], "x1": sides[1]}, mode=mode)
    net.cell("next", plain_lstm(rng, net.y.features, 6))
    net.head()
    smaller = pruned(net.model(), numbers(rng, 4, 9, FEATURES), lengths=[2, 9, 4, 7])
    assert removed(smaller, "forward") == removed(smaller, "backward") == [1, 2, 4, 9]


@pytest.mark.parametrize("kind", ["last", "reduce"])
def test_rows_without_any_step_in_a_mask_of_another_layer_keep_constants(rng, kind):
    net = Net(rng)
    valid = net.builder.add("masking", "masking", {"x": net.x})["mask"]
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES), x=net.x)
    net.then(kind, "a", inputs={"x": net.y, "mask": valid})
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    x[2] = 0.0
    smaller = model.prune(units(model, x))
    np.testing.assert_allclose(smaller.predict(x), model.predict(x), rtol=0, atol=1e-12)
    assert removed(smaller) == ([1, 4, 8, 10] if kind == "last" else [8, 10])
    assert "rows without any step" in kept(smaller)[2]


def test_values_of_different_masks_that_are_added_keep_constants(rng):
    net = Net(rng, masked=True)
    masked = net.builder.add("masking", "masking", {"x": net.x})
    first = plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS)
    second = plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS)
    a = net.cell("first", first, x=net.x)["y"]
    b = net.cell("second", second, x=net.x, mask=masked["mask"])["y"]
    net.then("merge", "add", inputs={"x": a, "x1": b}, mode="sum")
    then_lstm(net)
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    x[2, 7:] = 0.0
    smaller = model.prune(units(model, x, lengths=[2, 9, 4, 7]))
    check_same(model, smaller, x, lengths=[2, 9, 4, 7])
    assert removed(smaller, "first") == removed(smaller, "second") == [1, 4]
    assert "different masks" in kept(smaller, "first")[2]


# ---- the model that comes out


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_smaller_model_is_a_model_like_any_other(rng, dtype, tmp_path, capsys):
    net = Net(rng, dtype=dtype)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS, COPIES))
    net.then("dropout", "drop", rate=0.25)
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    before = {name: np.array(tensor) for name, tensor in model.graph.tensors.items()}
    wanted = model.predict(x)
    smaller = pruned(model, x)
    # nothing changed in the full one
    assert model.pruning is None and same(model.predict(x), wanted)
    assert all(same(array, model.graph.tensors[name]) for name, array in before.items())
    assert [layer.name for layer in smaller.graph.layers] == ["cell", "drop", "head"]
    assert smaller.graph.layers[1].options["rate"] == 0.25
    assert smaller.metadata == {"unit": "ug"} and smaller.inputs == model.inputs and smaller.outputs == model.outputs
    assert (smaller.engine, smaller.dtype) == (model.engine, model.dtype)
    found = smaller.predict(x)
    smaller.save(tmp_path / "small.cylstm")
    again = cylstm.load(tmp_path / "small.cylstm", dtype=str(model.dtype))
    assert same(again.predict(x), found) and again.pruning is None
    copy = pickle.loads(pickle.dumps(smaller))
    assert same(copy.predict(x), found) and str(copy.pruning) == str(smaller.pruning)
    if model.engine == "packed":
        smaller.save(tmp_path / "packed.cylstm", packed=True)
        assert same(cylstm.load(tmp_path / "packed.cylstm", mmap=True).predict(x), found)
    smaller.summary()
    assert "(batch, time, 6)" in capsys.readouterr().out
    stream = smaller.stream()
    steps = np.stack([stream.step(row) for row in x[0]])
    np.testing.assert_allclose(steps, found[0], rtol=0, atol=1e-12 if dtype == np.float64 else 0)
    told = smaller.pruning
    assert told.parameters_before == model.graph.parameters() and told.parameters_after == smaller.graph.parameters()
    assert told.bytes_after == smaller._packed.nbytes <= told.bytes_before == model._packed.nbytes
    assert "12" in str(told) and "kept 7" in str(told) and "cell 12 -> 6 units" in repr(told)


def test_states_of_the_units_that_are_left_go_on(rng):
    net = Net(rng)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, copies=COPIES))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x)
    _, [(h, c)] = model.predict(x, return_state=True)
    _, [(small_h, small_c)] = smaller.predict(x, return_state=True)
    left = smaller.pruning["cell"].remaining
    np.testing.assert_allclose(small_h, h[:, left], rtol=0, atol=1e-13)
    np.testing.assert_allclose(small_c, c[:, left], rtol=0, atol=1e-13)
    more = numbers(rng, 4, 5, FEATURES)
    wanted = model.predict(more, initial_state=[(h, c)])
    np.testing.assert_allclose(smaller.predict(more, initial_state=[(small_h, small_c)]), wanted, rtol=0, atol=1e-12)
    with pytest.raises(ShapeError):
        smaller.predict(more, initial_state=[(h, c)])


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn])
def test_the_smaller_model_is_traced_as_the_units_that_are_left(rng, make):
    net = Net(rng)
    net.cell("cell", plant(make(rng, FEATURES, UNITS), ZEROS, copies=COPIES))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = pruned(model, x)
    trace, full = smaller.trace(x), model.trace(x)
    np.testing.assert_allclose(trace.outputs, smaller.predict(x), rtol=0, atol=1e-13)
    left = smaller.pruning["cell"].remaining
    assert trace["cell"].parts == full["cell"].parts and len(left) == UNITS - 4
    for part in full["cell"].parts:
        np.testing.assert_allclose(trace["cell"][part], full["cell"][part][..., left], rtol=0, atol=1e-12)


def test_weights_in_half_precision_stay_so(rng):
    net = Net(rng, dtype=np.float32)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS))
    net.head()
    model, x = cylstm.Model(net.model().graph, weights="float16"), numbers(rng, 4, 9, FEATURES)
    smaller = model.prune(units(model, x))
    assert removed(smaller) == [1, 4] and smaller.graph.weight_types == model.graph.weight_types
    assert np.abs(smaller.predict(x) - model.predict(x)).max() < 1e-6


def test_layers_are_chosen_by_name(rng):
    net = Net(rng)
    net.cell("first", plant(gru(rng, FEATURES, UNITS), ZEROS))
    net.cell("second", plant(gru(rng, UNITS, UNITS), ZEROS))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    smaller = model.prune(units(model, x), layers="second", data=x)
    assert list(smaller.pruning) == ["second"] and removed(smaller, "second") == [1, 4]
    assert smaller.graph.values["first"].features == UNITS and smaller.graph.values["second"].features == UNITS - 2
    assert smaller.pruning.error_max < 1e-12 and smaller.pruning.speed > 0.0
    with pytest.raises(KeyError, match="no 'first'"):
        smaller.pruning["first"]


# ---- a share of the units


def test_the_units_with_the_least_variance_times_weights_go(rng):
    net = Net(rng)
    net.cell("first", plain_lstm(rng, FEATURES, UNITS))
    net.cell("second", gru(rng, UNITS, 9))
    net.head()
    model, x = net.model(), numbers(rng, 6, 20, FEATURES)
    smaller = model.prune(fraction=0.5, data=x)
    trace = model.trace(x)
    squares = {name: np.asarray(tensor) ** 2 for name, tensor in model.graph.tensors.items()}
    for name, reader, size in (("first", "second.weight_ih", 6), ("second", "head.weight", 4)):
        outgoing = squares[f"{name}.weight_hh"].sum(axis=0) + squares[reader].sum(axis=0)
        scores = trace[name].h.reshape(-1, trace[name].h.shape[-1]).var(axis=0) * outgoing
        assert removed(smaller, name) == sorted(np.argsort(scores)[:size].tolist())
    told = smaller.pruning
    differences = smaller.predict(x) - model.predict(x)
    assert told.error_max == pytest.approx(np.abs(differences).max(), abs=1e-14)
    assert told.error_rms == pytest.approx(np.sqrt((differences**2).mean()), rel=1e-9)
    assert told.output_rms == pytest.approx(np.sqrt((model.predict(x) ** 2).mean()), rel=1e-9)
    assert 0.0 < told.error_rms < told.output_rms and told.speed > 0.0
    assert "rms" in str(told) and "times as fast" in str(told) and not told.is_exact


@pytest.mark.parametrize("make", [plain_lstm, gru, gru_before, rnn, projected_wide])
def test_a_unit_that_goes_becomes_its_mean(rng, make):
    # one unit is nearly constant: as its mean it is hardly missed, as 0 it would be
    net = Net(rng)
    kind, weights, options = plant(make(rng, FEATURES, UNITS), constants={2: 0.8})
    if make is projected_wide:
        weights["weight_hr"][2] = 0.001 * weights["weight_hr"][2]
    else:
        weights["weight_ih"][-UNITS + 2 if kind != "lstm" else 2 * UNITS + 2] = 0.001
    net.cell("cell", (kind, weights, options))
    net.head()
    model, x = net.model(), numbers(rng, 6, 40, FEATURES)
    smaller = model.prune(fraction=1.01 / UNITS, data=x)
    assert removed(smaller) == [2]
    differences = np.abs(smaller.predict(x) - model.predict(x))
    # the reset gate multiplies the unit, by a number that changes
    assert differences[:, 10:].max() < (0.02 if make is gru_before else 0.005) and smaller.pruning.error_rms < 0.02


def test_sizes_are_kept_a_multiple(rng):
    net = Net(rng, dtype=np.float32)
    net.cell("first", plain_lstm(rng, FEATURES, 40))
    net.cell("second", rnn(rng, 40, 12))
    net.head()
    model, x = net.model(), numbers(rng, 6, 20, FEATURES)
    told = model.prune(fraction=0.5, data=x, multiple_of=16).pruning
    assert len(told["first"].remaining) == 32 and len(told["second"].remaining) == 12
    told = model.prune(fraction=0.7, data=x, multiple_of=4).pruning
    assert len(told["first"].remaining) == 12 and len(told["second"].remaining) == 4
    told = model.prune(fraction=0.7, data=[x[:2], x[2:]], layers=["first"]).pruning
    assert list(told) == ["first"] and len(told["first"].remaining) == 12


def test_added_layers_lose_the_same_units(rng):
    net = Net(rng)
    first = net.cell("first", plain_lstm(rng, FEATURES, UNITS))["y"]
    second = net.cell("second", plain_lstm(rng, UNITS, UNITS))["y"]
    net.then("merge", "add", inputs={"x": first, "x1": second}, mode="sum")
    net.head()
    model, x = net.model(), numbers(rng, 6, 20, FEATURES)
    smaller = model.prune(fraction=0.25, data=x)
    assert removed(smaller, "first") == removed(smaller, "second") and len(removed(smaller, "first")) == 3
    assert smaller.pruning.error_rms < 0.5 * smaller.pruning.output_rms
    alone = model.prune(fraction=0.25, data=x, layers="first")
    assert removed(alone, "first") == [] and len(kept(alone, "first")) == UNITS


def test_errors_are_of_the_steps_that_count(rng):
    net = Net(rng, masked=True)
    net.cell("cell", plain_lstm(rng, FEATURES, UNITS))
    net.head()
    model, x, lengths = net.model(), numbers(rng, 4, 9, FEATURES), np.array([2, 9, 4, 7])
    told = model.prune(fraction=0.3, data=x, lengths=lengths)
    counts = np.arange(9) < lengths[:, None]
    differences = (told.predict(x, lengths=lengths) - model.predict(x, lengths=lengths))[counts]
    assert told.pruning.error_max == pytest.approx(np.abs(differences).max(), abs=1e-14)
    assert told.pruning.error_rms == pytest.approx(np.sqrt((differences**2).mean()), rel=1e-9)
    pairs = [(x[:2], {"lengths": lengths[:2]}), (x[2:], {"lengths": lengths[2:]})]
    assert model.prune(fraction=0.3, data=pairs).pruning.error_rms == pytest.approx(told.pruning.error_rms, rel=1e-9)


def test_a_smaller_network_is_faster(rng):
    net = Net(rng, dtype=np.float32, features=16)
    net.cell("cell", plain_lstm(rng, 16, 256))
    net.head()
    model, x = net.model(), numbers(rng, 4, 40, 16)
    told = model.prune(fraction=0.75, data=x, multiple_of=16).pruning
    assert len(told["cell"].remaining) == 64 and told.speed > 2.0


# ---- what is refused


def test_wrong_arguments_are_named(rng):
    def small(size=UNITS, name="cell"):
        net = Net(rng, dtype=np.float32)
        net.cell(name, plant(plain_lstm(rng, FEATURES, size), ZEROS))
        net.head()
        return net.model()

    model, x = small(), numbers(rng, 4, 9, FEATURES)
    report = units(model, x)
    for arguments, message in (
        ({}, "expected a report of cylstm.explain.units, or fraction="),
        ({"report": report, "fraction": 0.5}, "expected a report of cylstm.explain.units, or fraction="),
        ({"report": 0.5}, "a share of the units goes by fraction="),
        ({"report": {"cell": 1}}, "report: expected what cylstm.explain.units gives"),
        ({"report": report, "multiple_of": 16}, "goes with fraction"),
        ({"report": report, "lengths": [1, 2, 3, 4]}, "lengths: is said of data"),
        ({"report": report, "layers": "head"}, "the report has no layer 'head'; it has cell"),
        ({"report": report, "layers": []}, "layers: expected a text or a list"),
        ({"report": report, "progress": 1}, "progress: expected True or False"),
        ({"fraction": 0.5}, "none were given"),
        ({"fraction": 0.0, "data": x}, "a number between 0 and 1"),
        ({"fraction": 1, "data": x}, "a number between 0 and 1"),
        ({"fraction": True, "data": x}, "a number between 0 and 1"),
        ({"fraction": float("nan"), "data": x}, "a number between 0 and 1"),
        ({"fraction": 0.5, "data": x, "multiple_of": 0}, "multiple_of: expected a whole number"),
        ({"fraction": 0.5, "data": x, "multiple_of": 16.0}, "multiple_of: expected a whole number"),
        ({"fraction": 0.5, "data": iter([x])}, "found an iterator"),
        ({"fraction": 0.5, "data": x, "layers": "head"}, "no recurrent layer 'head'"),
        ({"fraction": 0.5, "data": []}, "at least one step"),
        ({"fraction": 0.5, "data": [(x, {"initial_state": [(np.zeros((4, 12)),) * 2]})]}, "initial state"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.prune(**arguments)
    for other, message in (
        (small(), "other weights, options or dtype"),
        (small(13), "layer 'cell' has 13 units, found 12"),
        (small(name="other"), "no lstm layer 'cell'"),
        (cylstm.Model(model.graph, dtype="float64"), "other weights, options or dtype"),
    ):
        with pytest.raises(ArgumentError, match=message):
            other.prune(report)
    started = units(model, x, initial_state=[(np.ones((4, 12), np.float32),) * 2])
    with pytest.raises(ArgumentError, match="began with an initial state"):
        model.prune(started)
    with pytest.raises(ShapeError):
        model.prune(fraction=0.5, data=x[:, :, :3])


def test_the_report_of_a_model_loaded_again_is_taken(rng, tmp_path):
    net = Net(rng, dtype=np.float32)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    model.save(tmp_path / "model.cylstm")
    again = cylstm.load(tmp_path / "model.cylstm")
    assert removed(again.prune(units(model, x))) == [1, 4]


def test_every_rule_is_of_a_kind_of_layers():
    assert set(RULES) <= set(LAYER_KINDS)


def test_what_was_pruned_reads_back_from_plain_data(rng):
    net = Net(rng)
    net.cell("cell", plant(plain_lstm(rng, FEATURES, UNITS), ZEROS, CONSTANTS))
    net.head()
    model, x = net.model(), numbers(rng, 4, 9, FEATURES)
    told = model.prune(units(model, x), data=x).pruning
    again = Pruning.from_dict(told.to_dict())
    assert str(again) == str(told) and again["cell"].kept == told["cell"].kept


# ---- random wirings


@st.composite
def wirings(draw):
    """A seed and a list of layers to put behind each other."""
    count = draw(st.integers(1, 5))
    between = st.sampled_from(
        ["relu", "sigmoid", "dropout", "batch norm", "layer norm", "conv", "causal conv", "pool", "reverse", "steps",
         "some units", "residual", "twice", "dense", "squared", "cosine", "upsample"]
    )  # fmt: skip
    cells = st.sampled_from(["lstm", "gru", "gru before", "rnn", "peepholes", "projected", "both", "both summed"])
    layers = [draw(cells)]
    for _ in range(count):
        layers.append(draw(st.one_of(cells, between)))
    end = draw(st.sampled_from(["head", "last", "mean", "sum"]))
    return draw(st.integers(0, 2**32 - 1)), layers, end, draw(st.booleans()), draw(st.booleans())


def random_cell(net, what, name, x):
    rng, size = net.rng, UNITS
    make = {"lstm": plain_lstm, "gru": gru, "gru before": gru_before, "rnn": rnn, "peepholes": wide_peepholes,
            "projected": projected_wide}[what]  # fmt: skip
    units_of = rng.permutation(size)
    zeros, copies = units_of[: rng.integers(0, 4)], units_of[4 : 4 + rng.integers(0, 3)]
    constants = {int(k): float(rng.normal()) for k in units_of[7 : 7 + rng.integers(0, 4)]}
    pairs = [(int(units_of[11]), int(k)) for k in copies]
    kind, weights, options = plant(make(rng, x.features, size), [int(k) for k in zeros], constants, pairs)
    options = options | {"reverse": bool(rng.integers(0, 2))}
    return net.cell(name, (kind, weights, options), x=x)["y"]


def add_random(net, what, name):
    rng, x = net.rng, net.y
    if what in ("both", "both summed"):
        sides = [random_cell(net, "lstm", f"{name} {side}", x) for side in "ab"]
        mode = "concat" if what == "both" else "sum"
        net.then("merge", name, inputs={"x": sides[0], "x1": sides[1]}, mode=mode)
    elif what == "residual":
        y = random_cell(net, "gru", f"{name} cell", x)
        if x.features == y.features and x.axis == y.axis:
            net.then("merge", name, inputs={"x": x, "x1": y}, mode=str(rng.choice(["sum", "mul", "max"])))
    elif what == "twice":
        net.then("merge", name, inputs={"x": x, "x1": x}, mode="concat")
    elif what == "dense":
        net.then("dense", name, {"weight": weight(rng, UNITS, x.features)}, activation="tanh")
    elif what == "batch norm":
        size = x.features
        weights = {"mean": numbers(rng, size), "variance": rng.uniform(0.5, 2.0, size)}
        net.then("batch_norm", name, weights)
    elif what in ("conv", "causal conv"):
        padding = "causal" if what == "causal conv" else "valid"
        net.then("conv1d", name, {"weight": weight(rng, UNITS, 2, x.features)}, padding=padding)
    elif what == "some units":
        net.then("slice", name, axis=1, start=int(rng.integers(0, 4)), count=x.features - 4 if x.features > 7 else 1)
    elif what in ("relu", "sigmoid"):
        net.then("activation", name, activation=what)
    elif what == "cosine":
        net.then("function", name, function="cos")
    elif what == "squared":
        net.then("merge", name, inputs={"x": x, "x1": x}, mode="mul")
    elif what == "pool":
        net.then("pool1d", name, pool=2, stride=1, mode=str(rng.choice(["max", "average"])))
    elif what == "steps":
        net.then("slice", name, start=1)
    elif what == "layer norm":
        net.then("layer_norm", name)
    elif what == "upsample":
        net.then("upsample", name, size=2)
    elif what in ("dropout", "reverse"):
        net.then(what, name)
    else:
        random_cell(net, what, name, x)


@settings(max_examples=150)
@given(wirings())
def test_random_wirings_give_the_outputs_of_the_full_network(found):
    seed, layers, end, masked, empty = found
    rng = np.random.default_rng(seed)
    net = Net(rng, masked=masked)
    for k, what in enumerate(layers):
        add_random(net, what, f"l{k}")
    if end == "last":
        net.then("last", "end")
    elif end != "head":
        net.then("reduce", "end", mode=end)
    net.head()
    model = net.model()
    x = numbers(rng, 4, 14, FEATURES)
    more = {}
    if masked:
        mask = rng.random((4, 14)) < 0.7
        mask[0] = True
        mask[1] &= not empty
        more = {"mask": mask}
    smaller = model.prune(units(model, x, **more))
    wanted = model.predict(x, **more)
    np.testing.assert_allclose(smaller.predict(x, **more), wanted, rtol=1e-11, atol=1e-11)
    # a share of the units goes from any of these networks, too
    half = model.prune(fraction=0.5, data=x, **more)
    assert np.isfinite(half.predict(x, **more)).all() and half.pruning.error_rms >= 0.0
