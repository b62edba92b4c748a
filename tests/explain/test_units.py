"""Units of no use: planted ones are found, and no others; any division of the data gives the same report."""

import sys
import tracemalloc

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain import units
from cylstm.explain.units import _parted
from cylstm.graph.builder import GraphBuilder

from tests.builders.recurrent import conv_lstm, gru, lstm, numbers, plain_lstm, rnn
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


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
def test_a_report_says_how_many_steps_and_rows_do_not_count(rng, make):
    model = network(rng, make, masked=True)
    x = numbers(rng, 3, 6, *model.graph.values["x"].shape[1:])
    mask = np.ones((3, 6), bool)
    mask[0, 2:], mask[1] = False, False
    found = units(model, x, mask=mask)["cell"]
    assert (found.steps, found.skipped, found.empty, found.is_from_zero) == (8, 10, 1, True)
    h = model.trace(x, mask=mask)["cell"].h[mask].reshape(8, -1).astype(np.float64)
    np.testing.assert_allclose(found.mean, h.mean(axis=0), rtol=0, atol=1e-12)


def test_batches_come_with_their_own_lengths(rng):
    model = network(rng, plain_lstm, masked=True)
    x, lengths = numbers(rng, 7, 6, 5), np.array([2, 6, 4, 1, 6, 5, 3])
    whole = units(model, x, lengths=lengths)["cell"]
    parts = ((x[k : k + 2], {"lengths": lengths[k : k + 2]}) for k in range(0, 7, 2))
    found = units(model, parts)["cell"]
    assert (found.steps, found.skipped) == (whole.steps, whole.skipped) == (27, 15)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.open["f"], whole.open["f"])


PLANTED = {plain_lstm: "ifo", gru: "rz"}


@pytest.mark.parametrize("make", PLANTED)
def test_gates_that_are_always_open_or_shut_are_found_one_by_one(rng, make):
    """Unit 2k has its k-th gate always open, unit 2k + 1 always shut; all other gates move."""
    gates = PLANTED[make]
    places = {"i": 0, "f": 1, "o": 3, "r": 0, "z": 1}
    model = network(rng, make)
    count = 4 if make is plain_lstm else 3

    def edit(tensors):
        bias = tensors["cell.bias" if make is plain_lstm else "cell.bias_ih"].reshape(count, UNITS)
        for k, gate in enumerate(gates):
            bias[places[gate], 2 * k], bias[places[gate], 2 * k + 1] = 12.0, -12.0

    model = changed(model, edit)
    x = numbers(rng, 40, 12, 5)
    found = units(model, x)["cell"]
    trace = model.trace(x)["cell"]
    for k, gate in enumerate(gates):
        assert np.flatnonzero(found.always_open[gate]).tolist() == [2 * k]
        assert np.flatnonzero(found.always_shut[gate]).tolist() == [2 * k + 1]
        np.testing.assert_allclose(found.gate_mean[gate], trace[gate].mean(axis=(0, 1), dtype=np.float64), rtol=1e-9)


def test_a_unit_that_never_moves_far_from_zero_is_always_zero(rng):
    model = planted(rng)

    def edit(tensors):
        tensors["cell.bias"].reshape(4, UNITS)[3, 3] = -17.0  # of 4e-8, not 0

    found = units(changed(model, edit), numbers(rng, 150, 12, 5))["cell"]
    assert np.flatnonzero(found.dead).tolist() == [3] and 0.0 < found.variance[3] < 1e-12
    assert found.constant[3] == 0.0 and np.isnan(np.delete(found.constant, 3)).all()


def test_no_unit_repeats_a_dead_one(rng):
    model = planted(rng)

    def edit(tensors):
        for role in ("weight_ih", "weight_hh", "bias"):
            gates = tensors[f"cell.{role}"].reshape(4, UNITS, -1)
            gates[3, 3] = 0.0
            gates[:, 7] = gates[:, 3]
        rows = tensors["cell.bias"].reshape(4, UNITS)
        rows[3, 3], rows[3, 7] = -8.0, -7.9

    model, x = changed(model, edit), numbers(rng, 150, 12, 5)
    ranges = units(model, x)["cell"]
    spread = ranges.maximum - ranges.minimum
    assert spread[3] < spread[7] < 1.2 * spread[3]
    found = units(model, x, tolerance=float(spread[3] + spread[7]) / 2)["cell"]
    assert found.dead[3] and not found.dead[7] and found.duplicate_of[7] == -1


def test_duplicates_of_many_units_are_found_exactly(rng):
    size = 700
    model = network(rng, lambda rng, inputs, hidden: lstm(rng, inputs, size, vectors=[("bias", 4 * size)]))
    copies = {int(copy): int(first) for first, copy in np.sort(rng.permutation(size)[:240].reshape(-1, 2), axis=1)}
    nearly = next(k for k in range(3, size) if k not in copies and k not in copies.values())

    def edit(tensors):
        for role in ("weight_ih", "weight_hh", "bias"):
            rows = tensors[f"cell.{role}"].reshape(4, size, -1)
            for copy, first in copies.items():
                rows[:, copy] = rows[:, first]
            rows[:, nearly] = rows[:, 0]
        tensors["cell.bias"][nearly] += 0.001  # nearly unit 0

    model = changed(model, edit)
    found = units(model, numbers(rng, 20, 5, 5))["cell"]
    assert {k: int(first) for k, first in enumerate(found.duplicate_of) if first >= 0} == copies


def test_units_with_the_same_steps_in_another_order_are_no_duplicates(rng):
    # sums of their numbers are the same
    columns = numbers(rng, 1, 50).astype(np.float64).repeat(3, axis=0)
    columns[1] = columns[1, ::-1]
    assert _parted(np.zeros(3, np.int64), columns, 1e-6).tolist() == [0, 1, 0]


def test_a_group_that_parts_forms_groups_anew(rng):
    columns = numbers(rng, 2, 50).astype(np.float64)[[0, 1, 0, 1, 1]]
    assert _parted(np.array([0, 0, 0, 0, 4]), columns, 1e-6).tolist() == [0, 1, 0, 1, 4]


def test_duplicates_are_found_in_double_precision_too(rng):
    model = cylstm.Model(planted(rng).graph, dtype="float64")
    found = units(model, numbers(rng, 150, 12, 5))["cell"]
    assert found.duplicate_of.tolist() == [8 if k == 9 else -1 for k in range(UNITS)] and found.tolerance == 1e-13


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_are_no_numbers_are_an_error_that_says_where(rng, make, bad):
    model = network(rng, make, masked=True)
    x = numbers(rng, 70, 6, *model.graph.values["x"].shape[1:])
    x[66, 2] = bad
    if np.isnan(bad):
        with pytest.raises(ArgumentError, match="layer 'cell' is not finite in row 66 of its batch from step 2 on"):
            units(model, x)
        with pytest.raises(ArgumentError, match="in row 66"):
            units(model, [x[:3], x], layers="cell")
    # where the steps do not count, they do not matter
    mask = np.ones((70, 6), bool)
    mask[66, 2] = False
    assert units(model, x, mask=mask)["cell"].steps == 70 * 6 - 1


def test_memory_does_not_grow_with_the_data(rng):
    model = network(rng, plain_lstm)

    def peak(count):
        tracemalloc.start()
        units(model, (numbers(rng, 64, 20, 5) for _ in range(count)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is kept from call to call
    assert peak(24) < 1.2 * peak(3)


def test_long_sequences_are_traced_a_few_rows_at_a_time(rng, monkeypatch):
    model = network(rng, plain_lstm)
    x = numbers(rng, 10, 40, 5)
    whole = units(model, x)["cell"]
    monkeypatch.setattr(sys.modules["cylstm.explain.units"], "_NUMBERS", 3 * 40 * 5 * UNITS)
    rows = []
    trace = cylstm.Model.trace
    monkeypatch.setattr(
        cylstm.Model, "trace", lambda self, x, *a, **k: (rows.append(len(x)), trace(self, x, *a, **k))[1]
    )
    found = units(model, x)["cell"]
    assert rows == [3, 3, 3, 1] and found.steps == 400
    np.testing.assert_allclose(found.mean, whole.mean, rtol=0, atol=1e-12)


def test_layers_of_several_kinds_are_reported_in_the_order_of_the_network(rng):
    builder = GraphBuilder()
    y = builder.input("x", (None, 5), masked=False)
    for name, make in (("first", plain_lstm), ("second", gru), ("third", rnn), ("fourth", plain_lstm)):
        kind, weights, options = make(rng, y.features, 6)
        y = builder.add(kind, name, {"x": y}, weights, options)["y"]
    builder.output(y)
    model, x = cylstm.Model(builder.build()), numbers(rng, 9, 6, 5)
    report = units(model, x)
    assert list(report) == ["first", "second", "third", "fourth"] and set(report["third"].open) == set()
    assert list(units(model, x, ["third", "first"])) == ["third", "first"]
    for name in report:
        h = model.trace(x)[name].h.reshape(54, 6).astype(np.float64)
        np.testing.assert_allclose(report[name].variance, h.var(axis=0), rtol=1e-9)


def test_networks_with_several_inputs_take_lists_and_dicts(rng):
    builder = GraphBuilder()
    names = [builder.input(name, (None, 5), masked=False) for name in "ab"]
    cells = []
    for value, make in zip(names, (plain_lstm, gru)):
        kind, weights, options = make(rng, 5, 6)
        cells.append(builder.add(kind, f"cell {value.name}", {"x": value}, weights, options)["h"])
    builder.output(builder.add("merge", "both", {"x": cells[0], "x1": cells[1]})["y"])
    model, a, b = cylstm.Model(builder.build()), numbers(rng, 9, 6, 5), numbers(rng, 9, 4, 5)
    wanted = units(model, [[a, b]])
    for data in ({"a": a, "b": b}, [{"a": a[:4], "b": b[:4]}, [a[4:], b[4:]]], [((a, b), {})]):
        found = units(model, data)
        assert found["cell a"].steps == 54 and found["cell b"].steps == 36
        np.testing.assert_allclose(found["cell b"].mean, wanted["cell b"].mean, rtol=0, atol=1e-12)


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
