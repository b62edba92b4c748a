"""NaN, infinities, zeros with a sign and numbers that count as zero, through every layer."""

import itertools

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import CASES, ENGINES, FOLDS, IDS, ask, graph_of, inputs_of, one_layer, weight, weights_of
from tests.builders.networks import bits
from tests.builders.recurrent import KINDS, conv_lstm

NAN, INF = np.nan, np.inf
TINY = np.float32(2.0**-40)  # what is smaller counts as zero
BELOW = np.nextafter(TINY, np.float32(0))


def check_like_reference(graph, inputs, engines=ENGINES):
    """NaN and infinities where the reference has them, and its numbers elsewhere."""
    with np.errstate(all="ignore"):
        expected, _ = reference.predict(graph, *inputs)
    for engine, dtype, tolerance in engines:
        found = ask(cylstm.Model(graph, engine=engine, dtype=dtype), inputs)
        for a, b in zip(found if isinstance(found, list) else [found], expected):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=f"{engine} {dtype}")
            finite = np.isfinite(b)
            scale = max(1.0, np.abs(b[finite]).max(initial=0.0))
            np.testing.assert_allclose(
                a[finite], b[finite], rtol=0, atol=tolerance * scale, err_msg=f"{engine} {dtype}"
            )
            infinite = np.isinf(b)
            np.testing.assert_array_equal(a[infinite], b[infinite], err_msg=f"{engine} {dtype}")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_nan_in_any_input_of_a_layer_goes_where_the_reference_has_it(rng, case):
    graph = graph_of(rng, case)
    inputs = inputs_of(rng, graph)
    for array in inputs:
        array[1].reshape(-1)[array[1].size // 3] = NAN
        array[2].reshape(-1)[-1] = NAN
    check_like_reference(graph, inputs)
    for array in inputs:
        array[1].reshape(-1)[0] = NAN
    check_like_reference(graph, inputs)


def merged(rng, mode, shapes):
    builder = GraphBuilder()
    values = {f"x{i or ''}": builder.input(f"input{i}", shape) for i, shape in enumerate(shapes)}
    builder.output(builder.add("merge", "merge", values, options={"mode": mode})["y"])
    return builder.build()


@pytest.mark.parametrize("mode", ["sum", "ave", "sub", "mul", "max", "min", "div"])
@pytest.mark.parametrize("shapes", [[(21,)] * 2, [(21,)] * 3, [(21,), (1,)], [(1,), (21,)], [(2, 21), (21,)]])
def test_merging_takes_nan_infinities_and_zeros_as_numpy_does(rng, mode, shapes):
    graph = merged(rng, mode, shapes)
    specials = [NAN, INF, -INF, 0.0, 1.0, -2.0]
    rows = list(itertools.product(specials, repeat=len(shapes)))
    inputs = [np.array([row[i] for row in rows], np.float32) for i in range(len(shapes))]
    # the same number everywhere in a row, and then only in its last place
    whole = [np.broadcast_to(x.reshape(-1, *[1] * len(s)), (len(rows), *s)).copy() for x, s in zip(inputs, shapes)]
    check_like_reference(graph, whole)
    ends = [rng.normal(size=x.shape).astype(np.float32) + 3 for x in whole]
    for end, x in zip(ends, whole):
        end[..., -1] = x[..., -1]
    check_like_reference(graph, ends)


POOLED = [
    ("pool1d", {"mode": "max", "pool": 3}),
    ("pool1d", {"mode": "average", "pool": 3}),
    ("pool1d", {"mode": "max", "pool": 3, "padding": "same"}),
    *(("reduce", {"mode": mode, "axis": axis}) for mode in ("max", "min", "sum", "mean", *FOLDS) for axis in (0, 1)),
    *(("cumulate", {"mode": mode, "axis": axis}) for mode in ("max", "min", "sum", "prod") for axis in (0, 1)),
    *(("topk", {"k": 0, "axis": axis, "largest": largest}) for largest in (True, False) for axis in (0, 1)),
]


@pytest.mark.parametrize("special", [NAN, INF, -INF])
@pytest.mark.parametrize("kind, options", POOLED)
def test_pooling_finds_a_special_number_at_every_place_of_its_window(rng, kind, options, special):
    graph = one_layer(rng, kind, (None, 18), options)
    x = rng.normal(size=(3 * 18, 3, 18)).astype(np.float32)
    x.reshape(3 * 18, 3 * 18)[np.arange(3 * 18), np.arange(3 * 18)] = special
    check_like_reference(graph, [x])
    x[:, 1, 4] = -special  # a window of both infinities, or of two NaN
    check_like_reference(graph, [x])


#: name, parameters -> the limits at minus and plus infinity
LIMITS = [
    ("linear", (), -INF, INF),
    ("tanh", (), -1, 1),
    ("sigmoid", (), 0, 1),
    ("relu", (), 0, INF),
    ("leaky_relu", (0.2,), -INF, INF),
    ("elu", (1.3,), -1.3, INF),
    ("selu", (), -1.7580993408473766, INF),
    ("softplus", (), 0, INF),
    ("softsign", (), -1, 1),
    ("silu", (), 0, INF),
    ("gelu", (), 0, INF),
    ("gelu_tanh", (), 0, INF),
    ("exponential", (), 0, INF),
    ("hard_sigmoid", (0.2, 0.5), 0, 1),
    ("clip", (-0.3, 0.8), -0.3, 0.8),
    ("clip", (1.0, -1.0), -1.0, -1.0),  # the upper one wins, as in NumPy
]


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
@pytest.mark.parametrize("name, parameters, low, high", LIMITS, ids=[f"{a} {b}" for a, b, *_ in LIMITS])
def test_an_activation_keeps_nan_and_has_its_limits_at_infinities(
    rng, name, parameters, low, high, engine, dtype, tolerance
):
    options = {"activation": name, **dict(zip(("activation_alpha", "activation_beta"), parameters))}
    x = rng.normal(size=(2, 3, 19)).astype(np.float32)
    x[0, 1, :4], x[1, 2, -4:] = (NAN, INF, -INF, -0.0), (-INF, NAN, 0.0, INF)
    with np.errstate(all="ignore"):
        expected = reference.activate(name, *(*parameters, 0.0, 0.0)[:2], x.astype(np.float64))
    expected[x == INF], expected[x == -INF] = high, low
    # of an output, of what another layer reads, and as the activation of a layer
    for parts in (["activation"], ["activation", "reverse"], ["dense"], ["dense", "reverse"]):
        builder = GraphBuilder()
        y = builder.input("x", (None, 19))
        for part in parts:
            weights = {"weight": weight(rng, 19, 19)} if part == "dense" else {}
            if part == "dense":  # of one input each, since 0 times infinity is NaN
                y = builder.add("reshape", "apart", {"x": y}, options={"shape": "time,19,1"})["y"]
                weights = {"weight": np.ones((1, 1), np.float32)}
            y = builder.add(part, part, {"x": y}, weights, options if part != "reverse" else {})["y"]
        builder.output(y)
        found = cylstm.Model(builder.build(), engine=engine, dtype=dtype).predict(x).reshape(x.shape)
        wanted = expected[:, ::-1] if parts[-1] == "reverse" else expected
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("engine, dtype", [engine[:2] for engine in ENGINES])
@pytest.mark.parametrize(
    "make, clips", [*((make, clips) for make in KINDS for clips in ({}, {"gate_clip": 0.5})), (conv_lstm, {})]
)
@pytest.mark.parametrize("activation", ["tanh", "relu", "hard_sigmoid", "clip"])
def test_nan_in_a_step_stays_in_its_row_and_in_all_steps_after(rng, make, clips, activation, engine, dtype):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3, 5, 2) if make is conv_lstm else (None, 7))
    kind, weights, options = conv_lstm(rng, 17) if make is conv_lstm else make(rng, 7, 21)
    options |= clips | {"activation": activation}
    options |= {"activation_alpha": 0.3, "activation_beta": 0.5} if activation == "hard_sigmoid" else {}
    options |= {"activation_alpha": -0.7, "activation_beta": 0.7} if activation == "clip" else {}
    builder.output(builder.add(kind, "recurrent", {"x": x}, weights, options)["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    x = rng.normal(size=(3, 6, *x.shape[1:])).astype(np.float32)
    clean = model.predict(x)
    x[1, 2].reshape(-1)[1] = NAN
    found = model.predict(x)
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])
    np.testing.assert_array_equal(found[1, :2], clean[1, :2])
    with np.errstate(all="ignore"):
        (expected,), _ = reference.predict(model.graph, x)
    assert np.isnan(expected[1, 5]).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


#: all but whole numbers
WEIGHTED = [(case, name) for case, name in zip(CASES, IDS) if len(case) > 3 and case[3] and case[0] != "take"]


def flushed(array):
    return np.where(np.abs(array) < TINY, np.float32(0), array)


def plant_tiny(rng, array):
    """Numbers around the threshold of the subnormal rule among the others."""
    flat = array.reshape(-1)
    for number in (BELOW, -BELOW, TINY, -TINY, np.float32(2.0**-80), np.float32(1e-40), np.float32(-0.0)):
        flat[rng.integers(flat.size)] = number
    flat[0] = BELOW


def recurrent_graph(rng, make):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3, 5, 2) if make is conv_lstm else (None, 7))
    kind, weights, options = conv_lstm(rng, 17) if make is conv_lstm else make(rng, 7, 21)
    builder.output(builder.add(kind, "recurrent", {"x": x}, weights, options)["y"])
    return builder.build()


@pytest.mark.parametrize("engine, dtype", [engine[:2] for engine in ENGINES])
@pytest.mark.parametrize(
    "make",
    [*(lambda rng, case=case: graph_of(rng, case) for case, _ in WEIGHTED)]
    + [lambda rng, make=make: recurrent_graph(rng, make) for make in (*KINDS, conv_lstm)],
    ids=[name for _, name in WEIGHTED] + [make.__name__ for make in (*KINDS, conv_lstm)],
)
def test_weights_below_the_threshold_count_as_zero_in_float32(rng, make, engine, dtype):
    graph = make(rng)
    planted = {name: array for name, array in graph.tensors.items() if not name.endswith("variance")}
    for array in planted.values():
        plant_tiny(rng, array)
    held = cylstm.Model(graph, engine=engine, dtype=dtype).graph.tensors
    for name, array in planted.items():
        wanted = array if dtype == "float64" else flushed(array)
        np.testing.assert_array_equal(held[name], wanted, err_msg=name)
        np.testing.assert_array_equal(np.signbit(held[name]), np.signbit(wanted), err_msg=name)


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_a_large_input_does_not_bring_a_tiny_weight_back(engine, dtype, tolerance):
    tensors = {"fc.weight": np.array([[2.0**-50, 0], [2.0**-40, 0.5]], np.float32)}
    model = cylstm.from_state_dict(tensors, [cylstm.Linear("fc")], engine=engine, dtype=dtype)
    expected = [2.0**-20 if dtype == "float64" else 0.0, 2.0**-10]
    np.testing.assert_array_equal(model.predict(np.array([2.0**30, 0])), expected)


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_a_tiny_product_of_reset_gate_and_state_counts_as_zero(engine):
    builder = GraphBuilder()
    x = builder.input("x", (None, 1))
    weights = {
        "weight_ih": np.zeros((3, 1), np.float32),
        "weight_hh": np.array([[0], [0], [2.0**30]], np.float32),
        "bias_ih": np.array([-20, -80, 0], np.float32),
    }
    builder.output(builder.add("gru", "gru", {"x": x}, weights, {"reset_after": False})["y"])
    model = cylstm.Model(builder.build(), engine=engine)
    # r is 2e-9, so that r*h is 2^-49 and 2^-39
    states = [[(np.full((1, 1), h, np.float32),)] for h in (2.0**-20, 2.0**-10)]
    first, second = (model.predict(np.zeros((1, 1, 1)), initial_state=state)[0, 0, 0] for state in states)
    assert bits(first) == 0
    np.testing.assert_allclose(second, np.tanh(2.0**20 / (1 + np.exp(20.0))), rtol=1e-5)


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_tiny_number_of_a_softmax_counts_as_zero_for_the_next_layer(engine, axis):
    builder = GraphBuilder()
    x = builder.input("x", (None, 2))
    y = builder.add("softmax", "softmax", {"x": x}, options={"axis": axis})["y"]
    builder.output(builder.add("reverse", "reverse", {"x": y})["y"])
    builder.output(builder.add("softmax", "last", {"x": x}, options={"axis": axis})["y"])
    x = np.array([[0, -40], [-40, 0]], np.float32)
    read, shown = cylstm.Model(builder.build(), engine=engine).predict(x)
    np.testing.assert_array_equal(bits(read[::-1]), bits(np.eye(2)))
    np.testing.assert_allclose(shown, [[1, np.exp(-40.0)], [np.exp(-40.0), 1]], rtol=1e-5)


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_another_layer_reads_is_zero_or_not_tiny(rng, case, engine):
    kind, shape, options, *rest = case
    builder = GraphBuilder()
    values = {"x": builder.input("input", shape)}
    for role, other in rest[1] if len(rest) > 1 else []:
        values[role] = builder.input(f"input.{role}", other)
    roles = ("mean", "shift", "bias")  # which would hide what is small
    sizes = {role: size for role, size in (rest[0] if rest else {}).items() if role not in roles or role == "mean"}
    arrays = weights_of(rng, kind, shape, options, sizes)
    if "mean" in arrays:
        arrays["mean"][:] = 0
    y = builder.add(kind, "tested", values, arrays, options)["y"]
    copied = {"axis": 0, "start": 0, "before_end": 0}
    builder.output(builder.add("slice", "copy", {"x": y}, options=copied)["y"])
    graph = builder.build()
    model = cylstm.Model(graph, engine=engine)
    for scale in (2.0**-39, 2.0**-19, 30.0):
        inputs = [x * np.float32(scale) for x in inputs_of(rng, graph)]
        found = ask(model, inputs)
        assert not ((found != 0) & (np.abs(found) < TINY)).any()
        assert not np.signbit(found[found == 0]).any()
