"""Predictions for the rows of a block, without an engine."""

import numpy as np
import pytest

import cylstm
from cylstm.distributed.rows import Request
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import linear_tensors
from tests.distributed.builders import FEATURES, TARGETS, dense, recurrent, saved, stepwise, table


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


@pytest.fixture
def pyarrow():
    return pytest.importorskip("pyarrow")


@pytest.fixture
def network(tmp_path, rng):
    return cylstm.load(saved(dense(rng), tmp_path / "net.cylstm"))


def columns_of(frame, names):
    return np.stack([np.asarray(frame[name]) for name in names], 1)


def test_features_are_found_by_name_and_all_else_stays_with_its_index(network, rng, pandas):
    x, frame = table(rng, 7)
    found = Request().checked(network).predict_frame(network, frame)
    assert list(found.columns) == ["id", *TARGETS] and found.index.equals(frame.index)
    assert columns_of(found, TARGETS).tobytes() == network.predict(x).tobytes()
    assert list(frame.columns) == ["id", "wind", "sun", "rain"]


def test_a_table_of_arrow_gives_the_same_as_a_frame(network, rng, pandas, pyarrow):
    x, frame = table(rng, 7)
    found = Request().checked(network).predict_arrow(network, pyarrow.Table.from_pandas(frame, preserve_index=False))
    assert found.column_names == ["id", *TARGETS]
    assert columns_of(found, TARGETS).tobytes() == network.predict(x).tobytes()


def test_columns_keep_and_names_choose_what_is_read_kept_and_made(network, rng, pandas):
    x, frame = table(rng, 7)
    asked = Request(["sun", "sun2", "wind"], keep=["rain"], names=["a", "b"]).checked(network)
    found = asked.predict_frame(network, frame.assign(sun2=frame["rain"] * 2))
    assert list(found.columns) == ["rain", "a", "b"]
    given = np.stack([x[:, 1], x[:, 0] * 2, x[:, 2]], 1)
    assert columns_of(found, ["a", "b"]).tobytes() == network.predict(given).tobytes()


def test_outputs_without_names_are_called_after_the_output(rng, pandas):
    model = dense(rng)
    found = Request(list(FEATURES), keep=[]).checked(model).predict_frame(model, table(rng, 4)[1])
    assert list(found.columns) == ["second.0", "second.1"]


def test_the_steps_of_a_row_lie_one_after_the_other(rng, pandas):
    model = recurrent(rng)
    x = rng.standard_normal((6, 4, 3)).astype(np.float32)
    frame = pandas.DataFrame(x.reshape(6, 12))
    found = Request(time=4).checked(model).predict_frame(model, frame)
    assert columns_of(found, list(found.columns)).tobytes() == model.predict(x).tobytes()
    fixed = recurrent(rng, L.Input((4, 3)))
    found = Request().checked(fixed).predict_frame(fixed, frame)
    assert columns_of(found, list(found.columns)).tobytes() == fixed.predict(x).tobytes()


def test_a_row_is_never_taken_for_a_sequence_of_one_step_unless_that_is_said(rng, pandas):
    model = recurrent(rng)
    with pytest.raises(ArgumentError, match="time: each row of the table is one sample; expected how many steps"):
        Request().checked(model)
    x, frame = table(rng, 5)
    found = Request(list(FEATURES), time=1).checked(model).predict_frame(model, frame)
    assert columns_of(found, list(found.columns)[1:]).tobytes() == model.predict(x[:, np.newaxis]).tobytes()


def test_cells_may_be_whole_samples_and_predictions_of_each_step(rng, pandas, pyarrow):
    model = stepwise(rng)
    x = rng.standard_normal((6, 4, 3)).astype(np.float32)
    asked = Request("x").checked(model)
    frame = pandas.DataFrame({"x": list(x), "id": range(6)})
    found = asked.predict_frame(model, frame)
    assert list(found.columns) == ["id", "fc"]
    assert np.stack(found["fc"]).tobytes() == model.predict(x).tobytes()
    lists = pyarrow.table(
        {"x": pyarrow.array(x.tolist(), pyarrow.list_(pyarrow.list_(pyarrow.float32()))), "id": range(6)}
    )
    for given in (lists, lists.slice(2, 3), pyarrow.concat_tables([lists.slice(4), lists.slice(0, 2)])):
        rows = np.array(given["id"].to_pylist())
        found = asked.predict_arrow(model, given)
        assert np.array(found["fc"].to_pylist(), np.float32).tobytes() == model.predict(x[rows]).tobytes()
    tensors = pyarrow.FixedShapeTensorArray.from_numpy_ndarray(x)
    found = asked.predict_arrow(model, pyarrow.table({"x": tensors}))
    assert np.array(found["fc"].to_pylist(), np.float32).tobytes() == model.predict(x).tobytes()
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.FixedSizeListArray.from_arrays(x.reshape(-1), 3), 4)
    found = asked.predict_arrow(model, pyarrow.table({"x": fixed}).slice(1, 4))
    assert np.array(found["fc"].to_pylist(), np.float32).tobytes() == model.predict(x[1:5]).tobytes()


def test_blocks_without_rows_give_none_of_the_same_types(network, rng, pandas, pyarrow):
    frame = table(rng, 3)[1]
    asked = Request().checked(network)
    full, empty = asked.predict_frame(network, frame), asked.predict_frame(network, frame[:0])
    assert len(empty) == 0 and list(empty.dtypes) == list(full.dtypes)
    model = stepwise(rng)
    lists = pyarrow.table({"x": [[[1.0, 2.0, 3.0]]]})
    asked = Request("x").checked(model)
    assert asked.predict_arrow(model, lists[:0]).schema == asked.predict_arrow(model, lists).schema


def test_bad_columns_are_refused_by_name(network, rng, pandas):
    frame = table(rng, 3)[1]
    for asked, given, message in (
        (Request(), frame.drop(columns="sun"), "the column 'sun' is missing; found id, wind, rain"),
        (Request(["rain", "sun"]), frame, r"expected 3 columns, the features, found 2 \(rain, sun\)"),
        (Request(["rain", "sun", "id"]), frame, r"the table: expected columns of real numbers, found 'id'"),
        (Request(keep=["none"]), frame, "keep: the column 'none' is missing"),
        (Request(), frame.assign(low=1.0), "a column 'low' already, as the predictions would be called; names="),
        (Request(), pandas.concat([frame, frame[["sun"]]], axis=1), "the column 'sun' is there twice"),
    ):
        with pytest.raises((ArgumentError, ShapeError), match=message):
            asked.checked(network).predict_frame(network, given)


def test_nan_is_a_number_and_missing_values_are_refused(network, rng, pandas, pyarrow):
    x, frame = table(rng, 5)
    frame.loc[frame.index[2], "sun"] = x[2, 1] = np.nan
    found = Request().checked(network).predict_frame(network, frame)
    np.testing.assert_array_equal(columns_of(found, TARGETS), network.predict(x))
    assert np.isnan(found["high"]).tolist() == [False, False, True, False, False]
    with pytest.raises(ShapeError, match="column 'sun' has 1 missing values"):
        Request().checked(network).predict_frame(network, frame.astype({"sun": "Float32"}))
    with pytest.raises(ShapeError, match="column 'sun' has 1 missing values"):
        Request().checked(network).predict_arrow(network, pyarrow.Table.from_pandas(frame))


def test_bad_cells_are_refused(rng, pandas, pyarrow):
    model = recurrent(rng)
    asked = Request("x").checked(model)
    good = [[1.0, 2.0, 3.0]]
    for cells, message in (
        ([good, good * 2], r"the column 'x': expected .*1, 2.*pad them to one length"),
        ([good, None], "the column 'x'.*(missing|NoneType|None)"),
        ([good, [[1.0, None, 3.0]]], "the column 'x'.*(missing|NoneType|None)"),
        ([[["a", "b", "c"]]], "the column 'x': expected real numbers, found"),
        ([[[1.0, 2.0]]], "expected 3 features, found 2"),
        ([1.0, 2.0], "expected rank 3, the rows first"),
    ):
        with pytest.raises(ShapeError, match=message):
            asked.predict_frame(model, pandas.DataFrame({"x": cells}))
        with pytest.raises(ShapeError, match=message):
            asked.predict_arrow(model, pyarrow.table({"x": cells}))


def test_bad_arguments_are_refused_before_the_work_begins(rng):
    model, flat = recurrent(rng), dense(rng)
    for network, asked, message in (
        (model, Request(time=0), "time: expected a whole number"),
        (recurrent(rng, L.Input((4, 3))), Request(time=5), "time: the network takes 4 steps, found 5"),
        (flat, Request(time=2), "time: expected None, because the network has no time"),
        (model, Request("x", time=2), "time: expected None, because cells that are samples"),
        (flat, Request(names=["a"]), "names: expected 2 different ones, for second.0, second.1, found a"),
        (flat, Request(names=["a", "a"]), "names: expected 2 different ones"),
        (flat, Request(keep="id"), "keep: expected a list of names"),
        (flat, Request(columns=3), "columns: expected a list of names"),
        (flat, Request(threads=0), "threads: expected a whole number"),
    ):
        with pytest.raises(ArgumentError, match=message):
            asked.checked(network)


def test_several_outputs_are_side_by_side(rng, pandas):
    tensors = linear_tensors(rng, "a", 3, 2) | linear_tensors(rng, "b", 3, 1)
    model = cylstm.from_state_dict(tensors, [L.Heads([L.Linear("a")], [L.Linear("b")])])
    x, frame = table(rng, 5)
    found = Request(list(FEATURES), keep=[]).checked(model).predict_frame(model, frame)
    assert list(found.columns) == ["a.0", "a.1", "b"]
    assert columns_of(found, ["a.0", "a.1"]).tobytes() == model.predict(x)[0].tobytes()
    assert columns_of(found, ["b"]).tobytes() == model.predict(x)[1].tobytes()


def test_several_inputs_are_refused_with_what_takes_them(rng):
    tensors = linear_tensors(rng, "a", 3, 2) | linear_tensors(rng, "b", 3, 1)
    heads = L.Heads([L.Linear("a"), L.Tanh()], [L.Linear("b"), L.Sigmoid()])
    whole = cylstm.from_state_dict(tensors, [heads])
    model = whole.extract(["a", "b"], whole.outputs)
    with pytest.raises(UnsupportedError, match=r"a table has one input, and the network has 2 .*predict_files takes"):
        Request().checked(model)
