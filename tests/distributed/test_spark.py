"""Spark with two executors of one core each: two processes of Java, each with its process of Python."""

import sys
from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError

from tests.distributed.builders import (
    FEATURES,
    SEVERAL_COLUMNS,
    TARGETS,
    KilledOnce,
    arrays_of_several_inputs,
    check_predictions,
    check_results,
    check_table,
    columns_of_several_inputs,
    dense,
    files_in,
    input_files,
    many_series,
    prepare,
    processes,
    recipes,
    recurrent,
    run_recipe,
    saved,
    stepwise,
    table,
    with_several_inputs,
)
from tests.forecasting.builders import one_shot

sql = pytest.importorskip("pyspark.sql")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("pandas")

import pyarrow  # noqa: E402

# PySpark warns about versions of pandas that it has not been tested with
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            sql.SparkSession.builder.master("local-cluster[2,1,1024]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", 7)
            .config("spark.sql.shuffle.partitions", 2)
            .config("spark.log.level", "OFF")
            .getOrCreate()
        )
        yield session
        session.stop()


@pytest.fixture
def distributed(spark):
    """The module, which imports PySpark."""
    from cylstm.distributed import spark as found

    return found


def frame_of(spark, folder, columns, partitions):
    """A DataFrame of Spark, from a file."""
    parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    frame = spark.read.parquet(str(folder / "rows.parquet"))
    return frame.repartitionByRange(partitions, "id") if partitions > 1 else frame.coalesce(1)


def columns_of(x):
    return {"id": range(len(x)), **{name: x[:, FEATURES.index(name)] for name in FEATURES[::-1]}}


def linear(rng, outputs):
    weight = rng.standard_normal((outputs, 3)).astype(np.float32)
    return cylstm.from_state_dict({"fc.weight": weight}, [cylstm.Linear("fc")])


def rows_of(frame):
    return sorted(frame.collect(), key=lambda row: row["id"])


def numbers(rows, names):
    return np.array([[row[name] for name in names] for row in rows], np.float32)


def test_a_table_has_the_bits_of_predict_whatever_its_partitions(spark, distributed, rng, tmp_path):
    model = dense(rng)
    path = saved(model, tmp_path / "net.cylstm")
    x = rng.standard_normal((45, 3)).astype(np.float32)
    for given, partitions in ((path, 1), (path, 4), (cylstm.load(path), 4)):
        found = distributed.predict_table(given, frame_of(spark, tmp_path, columns_of(x), partitions))
        assert found.columns == ["id", *TARGETS] and dict(found.dtypes)["low"] == "float"
        rows = rows_of(found)
        assert [row["id"] for row in rows] == list(range(45))
        assert numbers(rows, TARGETS).tobytes() == model.predict(x).tobytes()


def test_cells_that_are_sequences_and_outputs_of_each_step_are_arrays(spark, distributed, rng, tmp_path):
    model = stepwise(rng)
    x = rng.standard_normal((9, 4, 3)).astype(np.float32)
    cells = pyarrow.array(x.tolist(), pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    frame = frame_of(spark, tmp_path, {"id": range(9), "x": cells}, 2)
    found = distributed.predict_table(model, frame, columns="x")
    assert dict(found.dtypes)["fc"] == "array<array<float>>"
    assert np.array([row["fc"] for row in rows_of(found)], np.float32).tobytes() == model.predict(x).tobytes()


def test_each_input_has_columns_and_sequences_have_lengths_of_their_own(spark, distributed, rng, tmp_path):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 20)
    columns = columns_of_several_inputs(x, lengths)
    columns["s"] = pyarrow.array(columns["s"], pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    named = {name: f"{name} steps" for name in lengths}
    frame = frame_of(spark, tmp_path, columns, 3)
    found = distributed.predict_table(model, frame, columns=SEVERAL_COLUMNS, time=4, lengths=named, names=TARGETS)
    assert found.columns == ["id", *TARGETS]
    assert numbers(rows_of(found), TARGETS).tobytes() == model.predict(x, lengths=lengths).tobytes()
    steps = stepwise(rng)
    cells = [rng.standard_normal((int(n), 3)).astype(np.float32) for n in lengths["signal"]]
    lists = pyarrow.array([cell.tolist() for cell in cells], pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    frame = frame_of(spark, tmp_path, {"id": range(20), "x": lists}, 3)
    found = rows_of(distributed.predict_table(steps, frame, columns="x"))
    found = [np.array(row["fc"], np.float32) for row in found]
    assert [y.tobytes() for y in found] == [steps.predict(cell).tobytes() for cell in cells]
    with pytest.raises(UnsupportedError, match="predict_udf takes a network with one input, found signal, notes"):
        distributed.predict_udf(model)


def test_a_function_of_columns_gives_a_struct_or_a_number(spark, distributed, rng, tmp_path):
    model = dense(rng)
    x = rng.standard_normal((20, 3)).astype(np.float32)
    frame = frame_of(spark, tmp_path, columns_of(x), 3)
    for given in (saved(model, tmp_path / "net.cylstm"), model):
        udf = distributed.predict_udf(given, names=["high", "low"])
        rows = rows_of(frame.withColumn("y", udf(*FEATURES)).select("id", "y.*"))
        assert numbers(rows, TARGETS).tobytes() == model.predict(x).tobytes()
    single = linear(rng, 1)
    spark.udf.register("score", distributed.predict_udf(single))
    frame.createOrReplaceTempView("rows")
    rows = rows_of(spark.sql("SELECT id, score(rain, sun, wind) AS y FROM rows"))
    assert numbers(rows, ["y"]).tobytes() == single.predict(x).tobytes()


def test_null_is_refused_in_tables_and_nan_to_functions_of_columns(spark, distributed, rng, tmp_path):
    model = dense(rng)
    x = rng.standard_normal((20, 3)).astype(np.float32)
    columns = columns_of(x)
    columns["sun"] = pyarrow.array(x[:, 1], mask=np.arange(20) == 17)
    frame = frame_of(spark, tmp_path, columns, 2)
    with pytest.raises(Exception, match=r"partition 1, the \d rows from row \d+: .*'sun' has 1 missing values"):
        distributed.predict_table(model, frame, columns=FEATURES).collect()
    rows = rows_of(frame.withColumn("y", distributed.predict_udf(model)(*FEATURES)).select("id", "y.*"))
    x[17, 1] = np.nan
    np.testing.assert_array_equal(numbers(rows, ["second.0", "second.1"]), model.predict(x))


def test_series_are_forecast_one_by_one(spark, distributed, rng, tmp_path):
    frame, histories = many_series(rng)
    forecaster = one_shot(rng)
    parquet.write_table(pyarrow.Table.from_pandas(frame, preserve_index=False), tmp_path / "series.parquet")
    rows = spark.read.parquet(str(tmp_path / "series.parquet")).repartition(3)
    found = distributed.forecast_table(forecaster, rows, by="shop", order="hour").collect()
    found = sorted(found, key=lambda row: (row["shop"], row["step"]))
    assert [row["shop"] for row in found] == [name for name in "abc" for _ in range(4)]
    expected = np.concatenate([forecaster.forecast(histories[name]) for name in "abc"])
    assert np.array([row["load"] for row in found]).tobytes() == expected.tobytes()


def test_a_table_survives_the_death_of_an_executor(spark, distributed, rng, tmp_path):
    model = recurrent(rng, hidden=60)
    x = rng.standard_normal((400, 500, 3)).astype(np.float32)
    cells = pyarrow.array(list(x.reshape(400, -1)), pyarrow.list_(pyarrow.float32()))
    frame = frame_of(spark, tmp_path, {"id": range(400), "x": cells}, 40)
    flat = frame.select("id", *[frame["x"][i].alias(f"x{i}") for i in range(1500)])
    assert flat.rdd.getNumPartitions() == 40
    lazy = distributed.predict_table(model, flat, columns=[f"x{i}" for i in range(1500)], time=500)

    def done():
        status = spark.sparkContext.statusTracker()
        stages = [status.getStageInfo(stage) for stage in status.getActiveStageIds()]
        return max((stage.numCompletedTasks for stage in stages if stage and stage.numTasks == 40), default=0)

    with KilledOnce(done, 3, 40, lambda: processes("CoarseGrainedExecutorBackend", "--cores")):
        rows = rows_of(lazy)
    assert [row["id"] for row in rows] == list(range(400))
    assert numbers(rows, ["fc.0", "fc.1"]).tobytes() == model.predict(x).tobytes()


def test_files_survive_the_death_of_a_worker_and_none_is_lost_or_doubled(spark, distributed, rng, tmp_path):
    model = recurrent(rng, hidden=60)
    arrays = input_files(rng, tmp_path / "in", 40, steps=3000)
    (tmp_path / "out").mkdir()
    with KilledOnce(lambda: files_in(tmp_path / "out"), 5, len(arrays), lambda: processes("pyspark.daemon")):
        found = distributed.predict_files(model, tmp_path / "in", tmp_path / "out")
    assert found == [str(tmp_path / "out" / name) for name in sorted(arrays)]
    check_results(tmp_path / "out", arrays, model)


def test_files_that_cannot_be_predicted_are_named_and_the_others_written(spark, distributed, rng, tmp_path):
    model = recurrent(rng)
    arrays = input_files(rng, tmp_path / "in", 3)
    np.save(tmp_path / "in" / "part 000.npy", np.zeros((2, 5, 4)))
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError, match=r"1 of 3 files could not be predicted.*part 000\.npy: .*expected 3 features"):
        distributed.predict_files(model, tmp_path / "in", tmp_path / "out")
    del arrays["part 000.npy"]
    check_results(tmp_path / "out", arrays, model)


def test_a_file_that_workers_cannot_see_is_told(spark, distributed, rng, tmp_path):
    path = Path(saved(linear(rng, 2), tmp_path / "net.cylstm"))
    x = rng.standard_normal((20, 3)).astype(np.float32)
    lazy = distributed.predict_table(str(path), frame_of(spark, tmp_path, columns_of(x), 2))
    path.rename(tmp_path / "elsewhere.cylstm")
    with pytest.raises(Exception, match=r"partition \d.*net\.cylstm: the worker on .* cannot read this file"):
        lazy.collect()


def test_what_can_be_known_before_is_refused_before(spark, distributed, rng, tmp_path):
    model = dense(rng)
    frame = frame_of(spark, tmp_path, columns_of(rng.standard_normal((8, 3)).astype(np.float32)), 1)
    text = frame.withColumn("sun", frame["sun"].cast("string"))
    for given, error, message in (
        (table(rng, 3)[1], ArgumentError, "frame: expected a pyspark.sql.DataFrame"),
        (frame.drop("sun"), ArgumentError, "the column 'sun' is missing; found id, wind, rain"),
        (text, ShapeError, "expected columns of real numbers, found 'sun'"),
    ):
        with pytest.raises(error, match=message):
            distributed.predict_table(model, given, columns=FEATURES)
    with pytest.raises(UnsupportedError, match="predict_udf takes a network with one output that is no sequence"):
        distributed.predict_udf(stepwise(rng), time=4)


def test_the_recipe_of_the_page_predicts_what_predict_does(spark, rng, tmp_path):
    prepare(rng, tmp_path)
    (program,) = recipes("Spark")
    master = '.master("spark://master:7077")'
    names = run_recipe(program, tmp_path, master, "")
    for name in ("scores", "columns"):
        check_table(parquet.read_table(tmp_path / name).to_pandas(), tmp_path)
    check_predictions(tmp_path)
    assert names["spark"] is spark
