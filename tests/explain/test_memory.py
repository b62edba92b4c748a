"""What is left of the past in a state: the sums are the state, and each term what the equations say."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.explain import memory

from tests.builders.networks import random_states
from tests.builders.recurrent import coupled, gru, gru_before, lstm, normalised, normalised_output, plain_lstm, rnn
from tests.test_trace import BATCH, TIME, UNITS, batch_of, network


def old_lstm(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], forget_gate=False)


def projected(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, projection=5, vectors=[("bias", 4 * hidden)])


def peepholes(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, vectors=[(f"peephole_{gate}", hidden) for gate in "ifo"])


SUMS = [plain_lstm, old_lstm, projected, peepholes, coupled, gru, gru_before]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", SUMS)
def test_contributions_sum_to_the_state_and_the_output(rng, make, reverse):
    model = network(rng, make, reverse=reverse, engine="blas", dtype="float64")
    x = batch_of(rng, model).astype(np.float64)
    initial = [tuple(np.asarray(a, np.float64) for a in state) for state in random_states(rng, model, BATCH)]
    for given in (None, initial):
        trace = model.trace(x, initial_state=given, return_state=True)
        found = memory(trace, "cell")
        whole = found.contributions.sum(axis=1) + found.initial
        np.testing.assert_allclose(whole, trace.state[0][-1], rtol=0, atol=1e-12)
        assert np.abs(found.residual).max() < 1e-12
        assert (np.abs(found.initial).max() > 1e-3) == (given is not None)
        if make is projected:
            assert found.output is None
            continue
        h = trace.state[0][0]
        np.testing.assert_allclose(found.output.sum(axis=1) + found.output_initial, h, rtol=0, atol=1e-12)
        weight = model.graph.tensors["head.weight"]
        terms, of_initial, of_residual = found.through(weight)
        total = terms.sum(axis=1) + of_initial + of_residual
        last = 0 if reverse else -1
        np.testing.assert_allclose(total, trace.outputs[:, last], rtol=0, atol=1e-12)


def test_a_term_is_the_product_of_the_gates_after_it(rng):
    model = network(rng, plain_lstm, engine="blas", dtype="float64")
    trace = model.trace(batch_of(rng, model))
    one = trace["cell"]
    for step in (-1, 4, 0):
        found = memory(trace, "cell", step)
        last = step % TIME
        assert found.step == last
        for t in range(TIME):
            left = np.prod(one.f[:, t + 1 : last + 1], axis=1) if t <= last else 0.0 * one.f[:, 0]
            np.testing.assert_allclose(found.left[:, t], left, rtol=1e-12, atol=0)
            np.testing.assert_allclose(found.contributions[:, t], left * one.i[:, t] * one.g[:, t], rtol=1e-12, atol=0)
        np.testing.assert_allclose(found.state, one.c[:, last], rtol=0, atol=1e-15)


def test_a_gate_too_small_for_float32_has_a_logarithm(rng):
    model = network(rng, plain_lstm)
    weights = {name: np.array(tensor) for name, tensor in model.graph.tensors.items()}
    weights["cell.bias"][UNITS : 2 * UNITS] = -200.0
    small = cylstm.Model(model.graph._replace(tensors=weights))
    x = batch_of(rng, model)
    found = memory(small.trace(x), "cell")
    assert (found.left[:, 0] == 0.0).all()
    assert np.isfinite(found.log_left).all()
    assert (found.log_left[:, 0] < -190.0 * (TIME - 1)).all()
    assert (memory(small.trace(x, what=["i", "f", "g", "o", "c", "h"]), "cell").log_left[:, 0] == -np.inf).all()


def test_the_form_of_1997_forgets_nothing(rng):
    model = network(rng, old_lstm)
    found = memory(model.trace(batch_of(rng, model)), "cell")
    assert (found.left == 1.0).all()
    assert np.isinf(found.half_life()).all()


def test_half_lives_are_those_of_the_mean_gate(rng):
    model = network(rng, gru)
    trace = model.trace(batch_of(rng, model))
    found = memory(trace, "cell")
    wanted = np.log(0.5) / np.log(np.asarray(trace["cell"].z, np.float64)).mean(axis=1)
    np.testing.assert_allclose(found.half_life(), wanted, rtol=1e-5)


@pytest.mark.parametrize("make", [plain_lstm, gru])
def test_steps_that_do_not_count_contribute_nothing(rng, make):
    model = network(rng, make, masked=True)
    x = batch_of(rng, model)
    lengths = np.array([4, TIME, 1])
    whole = memory(model.trace(x, lengths=lengths), "cell")
    for row, length in enumerate(lengths):
        alone = memory(model.trace(x[row, :length]), "cell")
        np.testing.assert_allclose(whole.contributions[row, :length], alone.contributions, rtol=0, atol=1e-12)
        assert (whole.contributions[row, length:] == 0.0).all()
        np.testing.assert_allclose(whole.output[row].sum(axis=0), alone.output.sum(axis=0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(whole.half_life()[row], alone.half_life(), rtol=1e-12)


def test_float32_leaves_a_residual_of_rounding(rng):
    model = network(rng, plain_lstm)
    found = memory(model.trace(batch_of(rng, model)), "cell")
    assert 0.0 < np.abs(found.residual).max() < 1e-5
    assert np.abs(found.output_residual).max() < 1e-5


def test_a_clip_of_the_cell_is_in_the_residual(rng):
    def clipped(rng, inputs, hidden):
        return lstm(rng, inputs, hidden, vectors=[("bias", 4 * hidden)], cell_clip=0.05)

    model = network(rng, clipped, engine="blas", dtype="float64")
    trace = model.trace(batch_of(rng, model))
    found = memory(trace, "cell")
    assert np.abs(found.residual).max() > 1e-3
    total = found.contributions.sum(axis=1) + found.residual
    np.testing.assert_allclose(total, trace["cell"].c[:, -1], rtol=0, atol=1e-12)


def test_a_saved_trace_has_the_same_memory(rng, tmp_path):
    model = network(rng, plain_lstm, reverse=True)
    trace = model.trace(batch_of(rng, model), initial_state=random_states(rng, model, BATCH))
    trace.save(tmp_path / "t.npz")
    again = memory(cylstm.Trace.load(tmp_path / "t.npz"), "cell")
    np.testing.assert_array_equal(again.contributions, memory(trace, "cell").contributions)
    np.testing.assert_array_equal(again.initial, memory(trace, "cell").initial)


def test_a_slice_of_later_steps_has_a_state_before_it(rng):
    model = network(rng, plain_lstm, engine="blas", dtype="float64")
    trace = model.trace(batch_of(rng, model))
    found = memory(trace[:, 3:], "cell")
    np.testing.assert_allclose(
        found.contributions.sum(axis=1) + found.initial, trace["cell"].c[:, -1], rtol=0, atol=1e-12
    )
    assert np.abs(found.residual).max() < 1e-12
    assert np.abs(found.initial).max() > 1e-4


def test_what_has_no_sum_over_the_past_is_refused(rng):
    model = network(rng, rnn)
    trace = model.trace(batch_of(rng, model))
    with pytest.raises(UnsupportedError, match="a simple RNN is no sum"):
        memory(trace, "cell")
    with pytest.raises(UnsupportedError, match=r"'head' \(dense\): it has no gates"):
        memory(trace, "head")
    with pytest.raises(ArgumentError, match="the trace has cell, head, no 'lstm'"):
        memory(trace, "lstm")
    model = network(rng, normalised)
    with pytest.raises(UnsupportedError, match="normalises the cell"):
        memory(model.trace(batch_of(rng, model)), "cell")
    model = network(rng, normalised_output)
    found = memory(model.trace(batch_of(rng, model)), "cell")
    assert found.output is None
    with pytest.raises(UnsupportedError, match="no sum over the past here"):
        found.through(np.ones((2, UNITS)))


def test_wrong_arguments_are_named(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    with pytest.raises(ArgumentError, match=r"memory needs i, g, o, c, h too"):
        memory(model.trace(x, what=["f"]), "cell")
    trace = model.trace(x)
    for wrong in (TIME, -TIME - 1, 1.0, "last", True):
        with pytest.raises(ArgumentError, match="expected one of 7 steps"):
            memory(trace, "cell", wrong)
    with pytest.raises(ShapeError, match=r"expected \(outputs, 21\), found \(21, 2\)"):
        memory(trace, "cell").through(np.ones((UNITS, 2)))
