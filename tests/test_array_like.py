"""Arrays, frames, tables and tensors of other libraries as inputs, and the errors about those that are none."""

import numpy as np
import pytest

import cylstm
import cylstm.explain
from cylstm.array_like import to_array
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests.builders.layers import weight
from tests.builders.networks import bits, lstm_model, same


class _WithDlpack:
    """An array that has nothing but DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class _WithStream:
    """A table that has nothing but a stream of Arrow."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.fixture
def x(rng):
    return rng.standard_normal((24, 3)).astype(np.float32)


def columns(x):
    """Columns of several types, and the array that they are."""
    table = {"pm": x[:, 0], "hour": np.arange(24) % 7, "temp": x[:, 2].astype(np.float64)}
    return table, np.stack([np.asarray(column, np.float64) for column in table.values()], axis=1)


def one_feature(rng):
    return lstm_model(rng, 1, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((24,), r"found shape \(24,\); for one feature give x\[..., None\], of shape \(24, 1\)"),
        ((5, 24), r"expected 1 feature, found 24 .*; for one feature give x\[..., None\], of shape \(5, 24, 1\)"),
    ],
)
def test_a_missing_axis_of_the_only_feature_has_a_hint_that_works(rng, shape, message):
    model, given = one_feature(rng), rng.standard_normal(shape).astype(np.float32)
    with pytest.raises(ShapeError, match=message):
        model.predict(given)
    assert len(model.predict(given[..., None])) == shape[0]


def test_a_step_of_one_feature_has_a_hint_that_works(rng):
    model = one_feature(rng)
    with pytest.raises(ShapeError, match=r"one number is given as \[x\]"):
        model.stream().step(0.5)
    assert model.stream().step([0.5]).shape == (3,)
    with pytest.raises(ShapeError, match=r"give x\[..., None\], of shape \(4, 1\)"):
        model.stream(4).step(np.ones(4))
    with pytest.raises(ShapeError, match=r"expected 1 feature, found 2 in shape \(4, 5, 2\)$"):
        model.predict(np.ones((4, 5, 2)))
    with pytest.raises(ShapeError, match=r"expected 3 features, found 24 in shape \(5, 24\)$"):
        lstm_model(rng, 3, 4).predict(np.ones((5, 24)))


def test_rows_of_different_lengths_are_to_be_padded(rng):
    model = one_feature(rng)
    with pytest.raises(ShapeError, match="different lengths: 2, 1; pad them to one length and give lengths="):
        model.predict([[[1.0], [2.0]], [[1.0]]])
    assert model.predict([[[1.0], [2.0]], [[1.0], [0.0]]], lengths=[2, 1]).shape == (2, 2, 3)


def test_the_row_that_is_unlike_the_others_is_named(rng):
    stream = lstm_model(rng, 3, 5).stream(20)
    rows = rng.normal(size=(20, 3)).tolist()
    for wrong, message in (([1.0], "; item 17 has 1$"), (None, "; item 17 is None$"), (2.0, "; item 17 is 2.0$")):
        with pytest.raises(ShapeError, match=message):
            stream.step([*rows[:17], wrong, *rows[18:]])


def test_masked_values_are_refused_and_not_dropped(rng, x):
    model = lstm_model(rng, 3, 5)
    masked = np.ma.array(x, mask=np.zeros(x.shape, bool))
    assert same(model.predict(masked), model.predict(x))
    masked[7, 1] = np.ma.masked
    for call in (
        lambda: model.predict(masked),
        lambda: model.predict([masked, masked]),
        lambda: model.predict([[*x[:7], masked[7]]]),
        lambda: model.stream(24).step(masked),
        lambda: model.stream().run(masked),
        lambda: model.trace(masked),
        lambda: model.predict(x, initial_state=[(np.ma.masked_all((1, 5)), np.zeros((1, 5)))]),
        lambda: model.predict(x[None], lengths=np.ma.array([3], mask=[True])),
    ):
        with pytest.raises(ShapeError, match="are masked, the first at"):
            call()
    with pytest.raises(ShapeError, match=r"1 values of this masked array are masked, the first at \(7, 1\)"):
        model.predict(masked)


def test_masked_weights_backgrounds_and_data_are_refused_too(rng, x):
    masked = np.ma.array(x, mask=np.zeros(x.shape, bool))
    model = lstm_model(rng, 3, 5)
    head = [cylstm.Linear("fc")]
    cylstm.from_state_dict({"fc.weight": masked}, head)
    cylstm.explain.units(model, masked)
    masked[7, 1] = np.ma.masked
    for call in (
        lambda: cylstm.from_state_dict({"fc.weight": masked}, head),
        lambda: cylstm.explain.units(model, masked),
        lambda: cylstm.explain.units(model, [masked]),
        lambda: cylstm.explain.Background(masked),
        lambda: cylstm.explain.occlusion(model, x, baseline=masked[7]),
        lambda: cylstm.explain.occlusion(model, masked),
        lambda: cylstm.explain.report(model, masked, "never-written.html"),
        lambda: model.save("never-written.cylstm", check=masked),
    ):
        with pytest.raises(cylstm.CylstmError, match="are masked, the first at"):
            call()


def test_a_missing_or_wrong_item_is_named_with_its_place(rng):
    pandas = pytest.importorskip("pandas")
    stream = lstm_model(rng, 2, 5).stream(3)
    stream.step(np.ones((3, 2)))
    before = stream.state
    for item, message in (
        (pandas.NA, r"found dtype object with pandas.NA \(a missing value\) at \(1, 0\)"),
        (None, r"None \(a missing value\) at \(1, 0\)"),
        ("n/a", r"found dtype <U\d+ with 'n/a' at \(1, 0\)"),
    ):
        rows = [[1.0, 2.0], [item, 4.0], [5.0, 6.0]]
        with pytest.raises(ShapeError, match=message):
            stream.step(rows)
        with pytest.raises(ShapeError, match="found dtype object"):
            stream.step(np.array(rows, object))
    for layer, kept in zip(stream.state, before):
        assert all(same(a, b) for a, b in zip(layer, kept))


def test_a_frame_of_pandas_is_its_columns_in_their_order(rng, x):
    pandas = pytest.importorskip("pandas")
    model = lstm_model(rng, 3, 5)
    table, array = columns(x)
    frame = pandas.DataFrame(table)
    expected = bits(model.predict(array))
    np.testing.assert_array_equal(bits(model.predict(frame)), expected)
    np.testing.assert_array_equal(bits(model.predict(frame.convert_dtypes())), expected)
    np.testing.assert_array_equal(bits(model.stream().run(frame)), expected)
    np.testing.assert_array_equal(bits(model.stream().step(frame.iloc[0])), expected[0])
    np.testing.assert_array_equal(bits(model.trace(frame).outputs), expected)
    own = type("Frame", (pandas.DataFrame,), {"__module__": "geo"})
    np.testing.assert_array_equal(bits(model.predict(own(frame.convert_dtypes()))), expected)
    assert not same(model.predict(frame[["temp", "hour", "pm"]]), model.predict(frame))
    frame["where"] = "Beijing"
    frame["when"] = pandas.Timestamp("2026-01-01")
    with pytest.raises(ShapeError, match=r"columns of real numbers, found 'where' \(\w+\), 'when' \(datetime64"):
        model.predict(frame)
    with pytest.raises(ShapeError, match=r"expected 3 features, found 2 .*\(columns pm, hour\)"):
        model.predict(frame[["pm", "hour"]])
    missing = pandas.DataFrame(table).astype({"hour": "Int64"})
    missing.loc[3, "hour"] = pandas.NA
    with pytest.raises(ShapeError, match="column 'hour' has 1 missing values"):
        model.predict(missing)
    with pytest.raises(ShapeError, match=r"a Series is given as x.to_frame\(\)"):
        one_feature(rng).predict(frame["pm"])


def test_columns_of_flags_categories_and_sparse_numbers_are_told_apart(rng, x):
    pandas = pytest.importorskip("pandas")
    flags = x[:, 0] > 0
    frame = pandas.DataFrame({"pm": x[:, 0], "flag": flags, "sparse": pandas.arrays.SparseArray(x[:, 2])})
    np.testing.assert_array_equal(to_array(frame, "x"), np.stack([x[:, 0], flags, x[:, 2]], 1))
    frame["flag"] = pandas.Categorical(["a", "b"] * 12)
    frame["sparse"] = pandas.interval_range(0, 24)
    with pytest.raises(ShapeError, match=r"found 'flag' \(category\), 'sparse' \(interval"):
        to_array(frame, "x")


def test_a_frame_of_polars_is_its_columns_in_their_order(rng, x):
    polars = pytest.importorskip("polars")
    model = lstm_model(rng, 3, 5)
    table, array = columns(x)
    frame = polars.DataFrame(table)
    np.testing.assert_array_equal(bits(model.predict(frame)), bits(model.predict(array)))
    with pytest.raises(ShapeError, match=r"found 'where' \(String\)"):
        model.predict(frame.with_columns(where=polars.lit("Beijing")))
    with pytest.raises(ShapeError, match="column 'hour' has 1 missing values"):
        model.predict(frame.with_columns(hour=polars.Series([None, *range(23)])))
    with pytest.raises(ShapeError, match=r"give x.collect\(\)"):
        model.predict(frame.lazy())
    with pytest.raises(ShapeError, match="1 values of this Series are missing"):
        one_feature(rng).predict(polars.Series([1.0, None]))


def test_a_table_of_arrow_is_its_columns_in_their_order(rng, x):
    pyarrow = pytest.importorskip("pyarrow")
    model = lstm_model(rng, 3, 5)
    table, array = columns(x)
    arrow = pyarrow.table(table)
    expected = bits(model.predict(array))
    for given in (arrow, arrow.to_batches()[0], _WithStream(arrow)):
        np.testing.assert_array_equal(bits(model.predict(given)), expected)
    with pytest.raises(ShapeError, match=r"found 'where' \(string\)"):
        model.predict(_WithStream(arrow.append_column("where", [["Beijing"] * 24])))
    with pytest.raises(ShapeError, match="column 'hour' has 1 missing values"):
        model.predict(arrow.set_column(1, "hour", [[None, *range(23)]]))


def test_a_stream_of_arrow_without_a_reader_says_what_to_install(rng, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(UnsupportedError, match="pip install pyarrow"):
        lstm_model(rng, 3, 5).predict(_WithStream(None))


def test_arrays_and_datasets_of_xarray_have_their_dimensions_in_order(rng, x):
    xarray = pytest.importorskip("xarray")
    model = lstm_model(rng, 3, 5)
    expected = bits(model.predict(x))
    array = xarray.DataArray(x, dims=("time", "features"))
    np.testing.assert_array_equal(bits(model.predict(array)), expected)
    dataset = array.to_dataset("features")
    np.testing.assert_array_equal(bits(model.predict(dataset)), expected)
    batch = xarray.DataArray(np.stack([x, x[::-1]]), dims=("batch", "time", "features"))
    np.testing.assert_array_equal(bits(model.predict(batch)), bits(model.predict(batch.values)))
    square = xarray.DataArray(x[None, :3], dims=("batch", "features", "time"))
    with pytest.raises(ShapeError, match=r"expected the dimensions \(batch, time, features\), found \(batch, features"):
        model.predict(square)
    np.testing.assert_array_equal(
        bits(model.predict(square.transpose("batch", "time", "features"))), bits(model.predict(x[:3].T[None]))
    )
    with pytest.raises(ShapeError, match="variables of the same dimensions"):
        model.predict(dataset.assign(place=1.0))
    named = array.to_dataset(name="input")
    np.testing.assert_array_equal(bits(model.predict(named)), expected)


def test_what_has_dlpack_alone_is_read_without_a_copy(rng, x):
    given = _WithDlpack(x)
    assert np.shares_memory(to_array(given, "x"), x)
    model = lstm_model(rng, 3, 5)
    np.testing.assert_array_equal(bits(model.predict(given)), bits(model.predict(x)))


@pytest.mark.frameworks
def test_tensors_of_pytorch_are_read_without_a_copy_or_say_what_to_do(rng, x):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x)
    assert np.shares_memory(to_array(tensor, "x"), x)
    model = lstm_model(rng, 3, 5)
    np.testing.assert_array_equal(bits(model.predict(tensor)), bits(model.predict(x)))
    with pytest.raises(ShapeError, match=r"requires gradients is given as x.detach\(\)"):
        model.predict(tensor.clone().requires_grad_())
    with pytest.raises(ShapeError, match=r"require gradients are given as x.detach\(\)"):
        model.predict([tensor.clone().requires_grad_()])
    with pytest.raises(ShapeError, match=r"bfloat16 is given as x.float\(\)"):
        model.predict(tensor.bfloat16())
    with pytest.raises(ShapeError, match=r"on another device is given as x.cpu\(\)"):
        model.predict(tensor.to("meta"))


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_a_batch_without_rows_gives_results_without_rows(rng, engine):
    model = lstm_model(rng, 3, 5, engine=engine)
    x = np.zeros((0, 4, 3), np.float32)
    y, state = model.predict(x, return_state=True, lengths=np.zeros(0, int))
    assert y.shape == (0, 4, 3) and y.dtype == model.dtype
    assert [[array.shape for array in arrays] for arrays in state] == [[(0, 5), (0, 5)]]
    assert model.predict(x, initial_state=state, mask=np.zeros((0, 4), bool)).shape == (0, 4, 3)
    out = np.empty((0, 4, 3), model.dtype)
    assert model.predict(x, out=out, threads=2) is out
    assert lstm_model(rng, 3, 5, last=True).predict(x).shape == (0, 3)
    for wrong in (np.zeros((0, 0, 3)), np.zeros((2, 0, 3)), np.zeros((0, 3))):
        with pytest.raises(ShapeError, match="at least one sample and one step"):
            model.predict(wrong)
    with pytest.raises(ShapeError, match="at least one sample"):
        model.trace(x)
    with pytest.raises(ShapeError, match="expected 3 features, found 4"):
        model.predict(np.zeros((0, 4, 4)))


def test_a_batch_without_rows_has_every_output_and_any_order_of_axes(rng):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, 9, 4)})["y"]
    lstm = {"weight_ih": weight(rng, 20, 4), "weight_hh": weight(rng, 20, 5)}
    y = builder.add("lstm", "lstm", {"x": y}, lstm)["y"]
    builder.output(y)
    builder.output(builder.add("last", "last", {"x": y})["y"])
    model = cylstm.Model(builder.build())
    found = model.predict(np.zeros((0, 7), int))
    assert [array.shape for array in found] == [(0, 7, 5), (0, 5)]
    with pytest.raises(ShapeError, match="whole numbers, found dtype complex"):
        model.predict(np.zeros((0, 7), complex))
    plain = lstm_model(rng, 3, 5)
    swapped = cylstm.Model(plain.graph._replace(layouts={plain.inputs[0]: "10", plain.outputs[0]: "10"}))
    assert swapped.predict(np.zeros((0, 3, 7))).shape == (0, 3, 7)


def test_what_learns_from_predictions_refuses_a_batch_without_rows(rng, tmp_path):
    model, x = lstm_model(rng, 3, 5), np.zeros((0, 4, 3), np.float32)
    for call in (
        lambda: model.save(tmp_path / "a.cylstm", check=x),
        lambda: model.compare(model, x),
        lambda: model.quantize("float16", budget=0.1, data=x),
        lambda: model.prune(fraction=0.5, data=x),
        lambda: model.predict_mc(x, rates={"lstm.l0": 0.5}),
        lambda: cylstm.explain.units(model, x),
        lambda: cylstm.explain.occlusion(model, x),
        lambda: cylstm.explain.occlusion(model.predict, x),
        lambda: cylstm.explain.gradients(model, x),
        lambda: cylstm.explain.report(model, x, tmp_path / "page.html"),
        lambda: model.trace(x, path=tmp_path / "trace"),
        lambda: model.stream(2).step(x[:, 0]),
        lambda: model.stream(2).run(x),
    ):
        with pytest.raises(ShapeError):
            call()
    assert not list(tmp_path.iterdir())


def tokens_and_condition(rng):
    """Words, and a vector that stands beside all steps -> LSTM of both."""
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    beside = builder.input("beside", (2,))
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, 9, 4)})["y"]
    h = builder.add("dense", "start", {"x": beside}, {"weight": weight(rng, 4, 2)})["y"]
    y = builder.add("merge", "both", {"x": y, "x1": h}, options={"mode": "sum"})["y"]
    lstm = {"weight_ih": weight(rng, 20, 4), "weight_hh": weight(rng, 20, 5)}
    builder.output(builder.add("lstm", "lstm", {"x": y}, lstm)["y"])
    return cylstm.Model(builder.build())


@pytest.mark.parametrize(
    ("wrong", "message"), [(9, "index 9 in row 2"), (-1, "found -1 in row 2"), (0.5, "0.5 in row")]
)
def test_a_bad_token_in_one_row_is_named_and_leaves_every_row_as_it_was(rng, wrong, message):
    model = tokens_and_condition(rng)
    stream, twin = model.stream(4), model.stream(4)
    beside = rng.standard_normal((2, 4, 2))
    for one in (stream, twin):
        one.step([[1, 2, 3, 4], beside[0]])
    for call in (
        lambda: stream.step([[1, 2, wrong, 3], beside[1]]),
        lambda: stream.run([[[1, 2]] * 2 + [[1, wrong]] + [[1, 2]], beside[1]]),
        lambda: stream.step([[1, 2, wrong, 3], beside[1]], active=[True, True, True, False]),
        lambda: stream.trace([[1, 2, wrong, 3], beside[1]]),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    assert stream.steps.tolist() == [1] * 4
    # what was given beside the bad token is not remembered either
    np.testing.assert_array_equal(bits(stream.step([[5, 6, 7, 8], None])), bits(twin.step([[5, 6, 7, 8], None])))
    with pytest.raises(ShapeError, match="out"):
        stream.step([[1, 2, 3, 4], beside[1]], out=np.zeros(3))
    np.testing.assert_array_equal(bits(stream.step([[5, 6, 7, 8], None])), bits(twin.step([[5, 6, 7, 8], None])))
