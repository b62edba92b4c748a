"""Recurrent layers with rare options together: masks, empty rows, reverse, pieces, states handed on, threads."""

import itertools

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import ENGINES
from tests.builders.networks import bits, random_states, same, same_states
from tests.builders.recurrent import (
    CONV_LSTM_SHAPE,
    KINDS,
    conv_lstm,
    gru,
    gru_before,
    lstm,
    normalised,
    numbers,
    plain_lstm,
    projected,
    rnn,
    weight,
)


@pytest.mark.parametrize("make", [*KINDS, conv_lstm])
def test_readers_of_final_states_that_divide_their_work_wait_for_them(rng, make):
    builder = GraphBuilder()
    x = builder.input("x", (None, *CONV_LSTM_SHAPE) if make is conv_lstm else (None, 8))
    kind, weights, options = conv_lstm(rng, 17) if make is conv_lstm else make(rng, 8, 192)
    outputs = builder.add(kind, "recurrent", {"x": x}, weights, options)
    for role in sorted({"h", "c"} & set(outputs)):
        state = outputs[role]
        if make is conv_lstm:
            state = builder.add("reshape", f"{role}.flat", {"x": state}, options={"shape": "-1"})["y"]
        dense = {"weight": weight(rng, 512, state.size)}
        builder.output(builder.add("dense", f"{role}.dense", {"x": state}, dense)["y"])
    model = cylstm.Model(builder.build())
    # of what two calls in turn leave behind, nothing fits the other
    inputs = [numbers(rng, 1, 3, *x.shape[1:]) for _ in range(2)]
    wanted = []
    for x in inputs:
        found = model.predict(x, threads=1)
        found = found if isinstance(found, list) else [found]
        for a, b in zip(found, reference.predict(model.graph, x)[0]):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)
        wanted.append(found)
    wrong = 0
    for call in range(40):
        found = model.predict(inputs[call % 2], threads=2)
        found = found if isinstance(found, list) else [found]
        wrong += not all(same(a, b) for a, b in zip(found, wanted[call % 2]))
    assert wrong == 0


@pytest.mark.parametrize("make", KINDS)
def test_a_layer_that_starts_from_a_state_waits_for_it(rng, make):
    """Threads divide its units, and each reads the whole state at the first step."""
    builder = GraphBuilder()
    kind, weights, options = make(rng, 1, 256)
    x, v = builder.input("x", (None, 1)), builder.input("v", (8,))
    inputs = {"x": x}
    # threads come from the end of another layer together
    for role in ("h0", "c0") if kind == "lstm" else ("h0",):
        size = 256 if role == "c0" else weights["weight_hh"].shape[1]
        inputs[role] = builder.add("dense", role, {"x": v}, {"weight": weight(rng, size, 8)})["y"]
    builder.output(builder.add(kind, "recurrent", inputs, weights, options)["y"])
    model = cylstm.Model(builder.build())
    given = [[numbers(rng, 1, 1, 1), numbers(rng, 1, 8)] for _ in range(2)]
    wanted = [model.predict(arrays, threads=1) for arrays in given]
    for arrays, found in zip(given, wanted):
        np.testing.assert_allclose(found, reference.predict(model.graph, *arrays)[0][0], rtol=0, atol=2e-5)
    for call in range(100):
        assert same(model.predict(given[call % 2], threads=2), wanted[call % 2])


def masked_rows(rng, time):
    """No step, only the last three, gaps, all, only the first two, only one in the middle."""
    mask = np.zeros((6, time), bool)
    mask[1, -3:] = True
    mask[2] = rng.random(time) > 0.4
    mask[3] = True
    mask[4, :2] = True
    mask[5, time // 2] = True
    return mask


OPTIONS = [
    {"reverse": reverse, "padding": padding, "empty_state": empty_state}
    for reverse, padding, empty_state in itertools.product((False, True), ("zero", "repeat"), ("initial", "zero"))
]


def option_label(options):
    return " ".join(str(value) for value in options.values())


def masked_graph(rng, make, options, *, handed=False, hidden=40):
    """Steps of zeros do not count. Outputs: y, and h and c as another layer sees them; states handed in, or not."""
    builder = GraphBuilder()
    x = builder.input("x", (None, *CONV_LSTM_SHAPE) if make is conv_lstm else (None, 60))
    masked = builder.add("masking", "masking", {"x": x})
    kind, weights, own = conv_lstm(rng, 17) if make is conv_lstm else make(rng, 60, hidden)
    inputs = {"x": masked["y"], "mask": masked["mask"]}
    if handed:
        inputs["h0"] = builder.input("h0", (weights["weight_hh"].shape[1],))
        if kind == "lstm":
            inputs["c0"] = builder.input("c0", (hidden,))
    outputs = builder.add(kind, "recurrent", inputs, weights, own | options)
    for role in ("y", "h", "c"):
        if role in outputs:
            builder.output(outputs[role])
    return builder.build()


def masked_input(rng, graph, time):
    shape = graph.values["x"].shape[1:]
    mask = masked_rows(rng, time)
    return numbers(rng, 6, time, *shape) * mask.reshape(6, time, *[1] * len(shape))


@pytest.mark.parametrize("options", OPTIONS, ids=option_label)
@pytest.mark.parametrize("make", [*KINDS, conv_lstm])
def test_masked_rows_of_a_sequence_in_pieces_are_those_of_the_reference(rng, make, options):
    graph = masked_graph(rng, make, options)
    # a piece has 32,768 numbers of the widest value, of all rows
    x = masked_input(rng, graph, 70 if make is conv_lstm else 300)
    state = random_states(rng, cylstm.Model(graph), 6)
    expected, expected_final = reference.predict(graph, x, initial_state=state)
    for engine, dtype, tolerance in ENGINES:
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        found, final = model.predict(x, initial_state=state, return_state=True, threads=1)
        for a, b in zip([*found, *final[0]], [*expected, *expected_final[0]]):
            np.testing.assert_allclose(a, b, rtol=0, atol=10 * tolerance, err_msg=f"{engine} {dtype}")
        if engine == "packed":
            again, final_again = model.predict(x, initial_state=state, return_state=True, threads=4)
            assert all(same(a, b) for a, b in zip(again, found)) and same_states(final_again, final)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=option_label)
@pytest.mark.parametrize("make", KINDS)
def test_a_stream_whose_rows_have_not_begun_keeps_its_states_and_shows_them_as_the_whole_does(rng, make, options):
    graph = masked_graph(rng, make, options)
    model = cylstm.Model(graph)
    x = masked_input(rng, graph, 30)
    state = random_states(rng, model, 6)
    kept = masked_graph(np.random.default_rng(20261120), make, options | {"empty_state": "initial"})
    assert all(np.array_equal(kept.tensors[name], array) for name, array in graph.tensors.items())
    _, expected_final = reference.predict(kept, x, initial_state=state)
    stream = model.stream(6)
    stream.state = state
    pieces = [stream.run(x[:, at : at + 7]) for at in range(0, 30, 7)]
    whole = model.predict(x, initial_state=state)
    assert same(np.concatenate([piece[0] for piece in pieces], axis=1), whole[0])
    for a, b in zip(pieces[-1][1:], whole[1:]):
        assert same(a, b)
    for a, b in zip(stream.state[0], expected_final[0]):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-5)
    np.testing.assert_array_equal(stream.state[0][0][0], state[0][0][0])  # the row without any step


@pytest.mark.parametrize("options", OPTIONS, ids=option_label)
@pytest.mark.parametrize("make", KINDS)
def test_states_handed_from_other_layers_meet_masks_as_in_the_reference(rng, make, options):
    graph = masked_graph(rng, make, options, handed=True, hidden=21)
    inputs = [masked_input(rng, graph, 30)]
    inputs += [rng.uniform(-0.9, 0.9, (6, *graph.values[name].shape)).astype("f") for name in graph.inputs[1:]]
    expected, expected_final = reference.predict(graph, *inputs)
    for engine, dtype, tolerance in ENGINES:
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        for threads in (1, 2):
            found, final = model.predict(inputs, return_state=True, threads=threads)
            for a, b in zip([*found, *final[0]], [*expected, *expected_final[0]]):
                np.testing.assert_allclose(a, b, rtol=0, atol=10 * tolerance, err_msg=f"{engine} {dtype}")


def test_a_sequence_whose_only_steps_come_late_starts_from_its_initial_state(rng):
    """`empty_state` is about whole sequences: a row that has not begun is not empty yet."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    kind, weights, options = plain_lstm(rng, 3, 5)
    mask = builder.value(x.mask)
    outputs = builder.add(kind, "lstm", {"x": x, "mask": mask}, weights, options | {"empty_state": "zero"})
    builder.output(outputs["y"])
    builder.output(outputs["h"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, 2, 9000, 3)
    mask = np.zeros((2, 9000), bool)
    mask[:, -3:] = True
    ones = [(np.ones((2, 5), np.float32), np.ones((2, 5), np.float32))]
    short = model.predict(x[:, -3:], initial_state=ones)
    found, final = model.predict(x, mask=mask, initial_state=ones, return_state=True)
    assert same(found[0][:, -3:], short[0]) and same(found[1], short[1]) and same(final[0][0], short[1])
    expected, _ = reference.predict(model.graph, x[:, -3:], initial_state=ones)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_a_row_all_masked_ends_with_a_whole_cell_of_zeros(rng, engine, dtype, tolerance):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    kind, weights, options = lstm(rng, 3, 40, projection=3)
    mask = builder.value(x.mask)
    outputs = builder.add(kind, "lstm", {"x": x, "mask": mask}, weights, options | {"empty_state": "zero"})
    builder.output(outputs["h"])
    builder.output(outputs["c"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    mask = np.ones((3, 7), bool)
    mask[1] = False
    ones = [(np.ones((3, 3), np.float32), np.ones((3, 40), np.float32))]
    x = numbers(rng, 3, 7, 3)
    found, final = model.predict(x, mask=mask, initial_state=ones, return_state=True)
    expected, _ = reference.predict(model.graph, x, mask=mask, initial_state=ones)
    for state, value, wanted in zip(final[0], found, expected):
        assert not wanted[1].any() and wanted[[0, 2]].all()
        np.testing.assert_array_equal(value[1], 0)
        np.testing.assert_array_equal(state[1], 0)
        np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance)
        np.testing.assert_allclose(state, wanted, rtol=0, atol=tolerance)


# input, hidden, steps: past the steps whose input halves are taken at once, 24, 96 for weights of more than 65,536
# numbers, and 128 with a BLAS; and a step short of them
BLOCKS = [(40, 33, 23), (40, 33, 25), (40, 33, 49), (200, 97, 95), (200, 97, 97), (200, 97, 200), (9, 18, 129)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("inputs, hidden, time", BLOCKS)
@pytest.mark.parametrize("make", [plain_lstm, projected, normalised, gru, gru_before, rnn])
def test_a_step_past_a_block_of_steps_is_like_any_other(rng, make, inputs, hidden, time, reverse):
    builder = GraphBuilder()
    x = builder.input("x", (None, inputs))
    kind, weights, options = make(rng, inputs, hidden)
    builder.output(builder.add(kind, "recurrent", {"x": x}, weights, options | {"reverse": reverse})["y"])
    graph = builder.build()
    x = numbers(rng, 2, time, inputs)
    (expected,), _ = reference.predict(graph, x)
    for engine, dtype, tolerance in ENGINES:
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        found = model.predict(x, threads=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=10 * tolerance, err_msg=f"{engine} {dtype}")
        if engine == "packed":
            assert same(model.predict(x, threads=4), found)
            assert same(model.predict(x[1], threads=2), found[1])
            wide = np.concatenate([x] * 5)  # too many rows for blocks of steps
            np.testing.assert_array_equal(bits(model.predict(wide, threads=1))[2:4], bits(found))
