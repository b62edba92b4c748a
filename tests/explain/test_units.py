"""Units of no use: planted ones are found, and no others; any division of the data gives the same report."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain import units

from tests.builders.recurrent import conv_lstm, gru, numbers, plain_lstm, rnn
from tests.test_trace import UNITS, network


def changed(model, edit):
    """The model with other weights."""
    tensors = {name: np.array(tensor) for name, tensor in model.graph.tensors.items()}
    edit(tensors)
    return cylstm.Model(model.graph._replace(tensors=tensors))


def planted(rng):
    """Unit 3 is dead (its output gate shut), 5 never forgets, 6 always forgets, 9 is 8 again."""
    model = network(rng, plain_lstm, masked=True)

    def edit(tensors):
        w, r, b = (tensors[f"cell.{role}"] for role in ("weight_ih", "weight_hh", "bias"))
        for gates in (w, r, b):
            rows = gates.reshape(4, UNITS, *gates.shape[1:])
            rows[3, 3] = 0.0
            rows[1, 5], rows[1, 6] = 0.0, 0.0
            rows[:, 9] = rows[:, 8]
        b.reshape(4, UNITS)[3, 3] = -300.0
        b.reshape(4, UNITS)[1, 5], b.reshape(4, UNITS)[1, 6] = 9.0, -9.0

    return changed(model, edit)


def test_planted_units_are_found_and_no_others(rng):
    model = planted(rng)
    found = units(model, numbers(rng, 150, 12, 5))["cell"]
    assert np.flatnonzero(found.dead).tolist() == [3]
    assert found.duplicate_of.tolist() == [8 if k == 9 else -1 for k in range(UNITS)]
    assert np.flatnonzero(found.always_open["f"]).tolist() == [5]
    assert np.flatnonzero(found.always_shut["f"]).tolist() == [6]
    assert np.flatnonzero(found.always_shut["o"]).tolist() == [3]
    assert found.steps == 150 * 12
    table = str(units(model, numbers(rng, 150, 12, 5)))
    assert "f 1" in table and "cell" in table


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
def test_figures_are_those_of_the_whole_trace(rng, make):
    model = network(rng, make)
    x = numbers(rng, 130, 6, *model.graph.values["x"].shape[1:])
    trace = model.trace(x)["cell"]
    found = units(model, x)["cell"]
    h = np.asarray(trace.h, np.float64).reshape(130 * 6, -1)
    np.testing.assert_allclose(found.mean, h.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.variance, h.var(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, h.min(axis=0))
    np.testing.assert_array_equal(found.maximum, h.max(axis=0))
    for gate in found.open:
        numbers_of = trace[gate].reshape(130 * 6, -1)
        np.testing.assert_array_equal(found.open[gate], (numbers_of > 0.9).mean(axis=0))
        np.testing.assert_array_equal(found.shut[gate], (numbers_of < 0.1).mean(axis=0))
    assert set(found.open) == {plain_lstm: set("ifo"), gru: set("rz"), rnn: set(), conv_lstm: set("ifo")}[make]


def test_batches_one_after_the_other_give_the_report_of_all(rng):
    model = planted(rng)
    x = numbers(rng, 40, 9, 5)
    whole = units(model, x)["cell"]
    for data in ([x[:7], x[7:8], x[8:]], (x[k : k + 3] for k in range(0, 40, 3)), iter(x)):
        found = units(model, data)["cell"]
        np.testing.assert_allclose(found.mean, whole.mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-9)
        np.testing.assert_array_equal(found.duplicate_of, whole.duplicate_of)
        np.testing.assert_array_equal(found.open["f"], whole.open["f"])
        assert found.steps == whole.steps


def test_units_that_part_late_are_no_duplicates(rng):
    model = planted(rng)
    x = numbers(rng, 200, 6, 5)
    assert units(model, x)["cell"].duplicate_of[9] == 8

    def edit(tensors):
        tensors["cell.weight_ih"].reshape(4, UNITS, 5)[0, 9, 4] += 1.0

    # they differ in the last rows alone, where feature 4 is not zero
    x[:-1, :, 4] = 0.0
    assert units(changed(model, edit), x[:-1])["cell"].duplicate_of[9] == 8
    assert units(changed(model, edit), x)["cell"].duplicate_of[9] == -1


def test_steps_that_do_not_count_are_left_out(rng):
    model = planted(rng)
    x, lengths = numbers(rng, 3, 6, 5), [2, 6, 4]
    found = units(model, x, lengths=lengths)["cell"]
    rows = np.concatenate([model.trace(x[k, :n])["cell"].h for k, n in enumerate(lengths)]).astype(np.float64)
    assert found.steps == 12
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.minimum, rows.min(axis=0))


def test_wrong_arguments_are_named(rng):
    model = network(rng, plain_lstm)
    x = numbers(rng, 3, 6, 5)
    with pytest.raises(ArgumentError, match="no recurrent layer 'head'; the network has cell"):
        units(model, x, "head")
    with pytest.raises(ArgumentError, match="expected at least one step"):
        units(model, [])
    with pytest.raises(ShapeError, match="an array of 3 axes"):
        units(model, np.zeros(5))
    with pytest.raises(ShapeError):
        units(model, x[:, :, :4])
    with pytest.raises(ArgumentError, match="tolerance"):
        units(model, x, tolerance=-1.0)
    with pytest.raises(ArgumentError, match="data: expected"):
        units(model, 3)
    with pytest.raises(ArgumentError, match="no argument 'length'"):
        units(model, x, length=3)
    with pytest.raises(ArgumentError, match="lengths: of several batches"):
        units(model, [x], lengths=[1, 2, 3])


def test_a_progress_bar_is_shown_where_it_is_asked_for(rng, capsys):
    pytest.importorskip("tqdm")
    units(network(rng, plain_lstm), numbers(rng, 130, 6, 5), progress=True)
    assert "batches" in capsys.readouterr().err
