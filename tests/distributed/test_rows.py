"""Predictions for the rows of a block, without an engine."""

import numpy as np
import pytest

import cylstm
from cylstm.distributed.rows import Request
from cylstm.errors import ArgumentError, ShapeError
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import linear_tensors
from tests.distributed.builders import (
    FEATURES,
    SEVERAL_COLUMNS,
    TARGETS,
    arrays_of_several_inputs,
    columns_of_several_inputs,
    dense,
    recurrent,
    saved,
    stepwise,
    table,
    with_several_inputs,
)


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
        ([good, [[1.0, 2.0]]], "the column 'x': expected steps of one length|expected 3 features, found 2"),
        ([good, None], "the column 'x'.*(missing|NoneType|None)"),
        ([good, [[1.0, None, 3.0]]], "the column 'x'.*(missing|NoneType|None)"),
        ([[["a", "b", "c"]]], "the column 'x'.*: expected real numbers, found"),
        ([[[1.0, 2.0]]], "expected 3 features, found 2"),
        ([1.0, 2.0], "expected rank 3, the rows first"),
    ):
        with pytest.raises(ShapeError, match=message):
            asked.predict_frame(model, pandas.DataFrame({"x": cells}))
        with pytest.raises(ShapeError, match=message):
            asked.predict_arrow(model, pyarrow.table({"x": cells}))
    with pytest.raises(ShapeError, match=r"the column 'x', row 1: expected an array, found text, '\[\[1.0"):
        asked.predict_frame(model, pandas.DataFrame({"x": [good, str(good)]}))
    with pytest.raises(ShapeError, match="the column 'x': expected real numbers, found"):
        asked.predict_arrow(model, pyarrow.table({"x": [str(good)]}))


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


def test_each_input_has_columns_of_its_own(rng, pandas, pyarrow):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 9)
    columns = columns_of_several_inputs(x, lengths)
    named = {"signal": "signal steps", "notes": "notes steps"}
    for asked, expected in (
        (Request(SEVERAL_COLUMNS, time=4), model.predict(x)),
        (Request(SEVERAL_COLUMNS, time={"notes": 4}, lengths=named), model.predict(x, lengths=lengths)),
        (
            Request(SEVERAL_COLUMNS, time=4, lengths={"notes": "notes steps"}),
            model.predict(x, lengths={"notes": lengths["notes"]}),
        ),
    ):
        asked = asked.checked(model)
        for found in (
            asked.predict_frame(model, pandas.DataFrame(columns)),
            asked.predict_arrow(model, pyarrow.table(columns)).to_pandas(),
        ):
            read = [] if asked.lengths is None else list(asked.lengths.values())
            left = [name for name in named.values() if name not in read]
            assert list(found.columns) == ["id", *left, "fc.0", "fc.1"]
            assert columns_of(found, ["fc.0", "fc.1"]).tobytes() == expected.tobytes()
    assert not np.array_equal(model.predict(x), model.predict(x, lengths=lengths))


def test_lengths_and_masks_are_columns(rng, pandas, pyarrow):
    model = stepwise(rng)
    x, lengths = rng.standard_normal((7, 5, 3)).astype(np.float32), rng.integers(1, 6, 7)
    mask = rng.random((7, 5)) < 0.6
    columns = {"x": x.tolist(), "n": lengths, "counts": mask.tolist(), "id": range(7)}
    flat = pandas.DataFrame(x.reshape(7, 15)).assign(n=lengths)
    for asked, expected in (
        (Request("x", lengths="n", keep=["id"]), model.predict(x, lengths=lengths)),
        (Request("x", mask="counts", keep=["id"]), model.predict(x, mask=mask)),
    ):
        asked = asked.checked(model)
        found = asked.predict_frame(model, pandas.DataFrame(columns))
        assert np.stack(found["fc"]).tobytes() == expected.tobytes()
        found = asked.predict_arrow(model, pyarrow.table(columns))
        assert np.array(found["fc"].to_pylist(), np.float32).tobytes() == expected.tobytes()
    # the lengths are no feature
    found = Request(time=5, lengths="n").checked(model).predict_frame(model, flat)
    assert list(found.columns) == ["fc"]
    assert np.stack(found["fc"]).tobytes() == model.predict(x, lengths=lengths).tobytes()


def test_cells_of_different_lengths_have_the_bits_of_each_by_itself(rng, pandas, pyarrow):
    model = stepwise(rng)
    cells = [rng.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 2, 7, 2, 4, 1)]
    expected = [model.predict(cell) for cell in cells]
    lengths = [3, 2, 5, 1, 4, 1]
    lists = pyarrow.array([cell.tolist() for cell in cells], pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    table = pyarrow.table({"x": lists, "n": lengths, "m": [[True, False] * 3 + [True]] * 2 + [[True] * 7] * 4})
    split = pyarrow.concat_tables([table.slice(0, 3), table.slice(3)])
    asked, with_lengths = Request("x", keep=[]).checked(model), Request("x", keep=[], lengths="n").checked(model)
    for frame in (pandas.DataFrame({"x": cells, "n": lengths}), table.to_pandas()):
        found = asked.predict_frame(model, frame)["fc"]
        assert [y.tobytes() for y in found] == [y.tobytes() for y in expected]
        found = with_lengths.predict_frame(model, frame)["fc"]
        for y, cell, length in zip(found, cells, lengths):
            assert y.tobytes() == model.predict(cell[np.newaxis], lengths=[length])[0].tobytes()
    for given in (table, split):
        found = asked.predict_arrow(model, given)["fc"].to_pylist()
        assert [np.array(y, np.float32).tobytes() for y in found] == [y.tobytes() for y in expected]
    last = recurrent(rng)
    found = Request("x", keep=[]).checked(last).predict_arrow(last, split).to_pandas()
    assert columns_of(found, ["fc.0", "fc.1"]).tobytes() == np.stack([last.predict(cell) for cell in cells]).tobytes()


def test_what_is_wrong_with_one_of_several_inputs_names_it(rng, pandas):
    model = with_several_inputs(rng)
    columns = SEVERAL_COLUMNS
    for asked, message in (
        (
            Request(["s"]),
            "columns: the network has 3 inputs; expected a dict of 'signal', 'notes', 'knobs'.*found \\['s'\\]",
        ),
        (Request({"signal": "s"}), "columns: expected a dict of 'signal', 'notes', 'knobs'.*found 'signal'"),
        (Request(columns | {"x": "s"}), "columns: expected a dict of .*'x'"),
        (Request(columns), "time of 'notes': each row of the table is one sample"),
        (Request(columns, time={"notes": 4, "knobs": 2}), "time of 'knobs': expected None, because this input has no"),
        (Request(columns, time={"notes": 4, "signal": 6}), "time of 'signal': expected None, because cells"),
        (Request(columns | {"knobs": 3}, time=4), "columns of 'knobs': expected a list of names, found 3"),
        (
            Request(columns, time=4, lengths="signal steps"),
            r"lengths: the network has 2 sequences; .*\(signal, notes\)",
        ),
        (Request(columns, time=4, lengths={"knobs": "id"}), "lengths: no layer reads which steps of the input 'knobs'"),
        (Request(columns, time=4, mask={"signal": ["a"]}), r"mask: expected the name of one column, found \['a'\]"),
        (Request(columns, time=4, mask={"notes": "m"}, lengths={"signal": "n"}), "give lengths or mask, not both"),
    ):
        with pytest.raises(ArgumentError, match=message):
            asked.checked(model)
    with pytest.raises(ArgumentError, match="lengths: no layer of the network reads which steps"):
        Request(lengths="n").checked(dense(rng))
    x, lengths = arrays_of_several_inputs(rng, 5)
    frame = pandas.DataFrame(columns_of_several_inputs(x, lengths))
    wrong = lengths["signal"].copy()
    wrong[3] = 7
    by_name = {"signal": "signal steps"}
    cut = frame["s"].copy()
    cut[2] = cut[2][:5]
    for asked, given, message in (
        (Request(columns, 4), frame.drop(columns="high"), "input 'knobs': the column 'high' is missing"),
        (Request(columns | {"knobs": ["low"]}, 4), frame, "input 'knobs': expected 2 columns, the features, found 1"),
        (Request(columns, 4, lengths={"signal": "n"}), frame, "lengths: the column 'n' is missing"),
        (
            Request(columns, 4, lengths=by_name),
            frame.assign(**{"signal steps": wrong}),
            "the column 'signal steps': expected a length of 1 to 6 in row 3, found 7",
        ),
        (
            Request(columns, 4, lengths=by_name),
            frame.assign(**{"signal steps": lengths["signal"], "s": cut}).assign(**{"signal steps": [1, 1, 6, 1, 1]}),
            "the column 'signal steps': expected a length of 1 to 5 in row 2, found 6",
        ),
        (
            Request(columns, 4, lengths=by_name),
            frame.assign(**{"signal steps": lengths["signal"] + 0.5}),
            "the column 'signal steps': expected lengths, whole numbers, found float64",
        ),
        (
            Request(columns, 4, mask={"signal": "m"}),
            frame.assign(m=[[True] * 6] * 4 + [[True] * 5]),
            r"the column 'm': expected 6 bools in row 4, found bool of shape \(5,\)",
        ),
        (
            Request(columns, 4, mask={"signal": "low"}),
            frame,
            "the column 'low': expected 6 bools in row 0, found float64",
        ),
    ):
        with pytest.raises((ArgumentError, ShapeError), match=message):
            asked.checked(model).predict_frame(model, given)


def test_an_error_in_a_row_of_another_length_says_which_rows_it_is_among(rng, pandas):
    weights = {"e.weight": rng.standard_normal((5, 3)).astype(np.float32)}
    model = cylstm.from_state_dict(weights, [L.Embedding("e"), L.Last()])
    frame = pandas.DataFrame({"x": [[1, 2], [3], [4, 9], [0]]})
    with pytest.raises(ShapeError, match=r"^the rows 0, 2, of shape \(2,\): input .*index 9 in row 1"):
        Request("x").checked(model).predict_frame(model, frame)
