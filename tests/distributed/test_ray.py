"""Ray with two workers, and a CPU for what reads and writes rows."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, CylstmWarning, FormatError

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

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from cylstm.distributed.ray import forecast_table, predict_files, predict_table  # noqa: E402

# Ray's own warnings say how it could be faster
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def rows_of(dataset):
    """All of it, in the order of the column ``id``."""
    found = {}
    for batch in dataset.iter_batches(batch_format="numpy", batch_size=None):
        for name, column in batch.items():
            found.setdefault(name, []).extend(column)
    order = np.argsort(found["id"])
    return {name: np.array(column)[order] for name, column in found.items()}


def dataset_of(x, blocks, name="x"):
    ids = np.arange(len(x))
    parts = [{"id": i, name: row} for i, row in zip(ids, x)]
    return ray.data.from_items(parts, override_num_blocks=blocks)


def test_tensors_have_the_bits_of_predict_whatever_the_batches(rng, tmp_path):
    model = recurrent(rng)
    path = saved(model, tmp_path / "net.cylstm")
    x = rng.standard_normal((23, 6, 3)).astype(np.float32)
    for given, blocks, size in ((path, 4, 5), (cylstm.load(path), 3, 1000)):
        found = rows_of(predict_table(given, dataset_of(x, blocks), columns="x", batch_size=size, workers=2))
        assert list(found) == ["id", *TARGETS] and found["low"].dtype == np.float32
        assert np.stack([found["high"], found["low"]], 1).tobytes() == model.predict(x).tobytes()
        assert found["id"].tolist() == list(range(23))


def test_features_are_found_by_name_and_outputs_of_each_step_are_arrays(rng, tmp_path):
    model = dense(rng)
    x, frame = table(rng, 23)
    frame["id"] = range(23)
    lazy = predict_table(saved(model, tmp_path / "net.cylstm"), ray.data.from_pandas([frame[:10], frame[10:]]))
    found = rows_of(lazy)
    assert list(found) == ["id", *TARGETS]
    assert np.stack([found["high"], found["low"]], 1).tobytes() == model.predict(x).tobytes()
    steps = stepwise(rng)
    x = rng.standard_normal((7, 4, 3)).astype(np.float32)
    found = predict_table(steps, dataset_of(x, 2), columns="x").take_all()
    found = np.array([row["fc"] for row in sorted(found, key=lambda row: row["id"])], np.float32)
    assert found.tobytes() == steps.predict(x).tobytes()


def test_each_input_has_columns_and_sequences_have_lengths_of_their_own(rng):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 11)
    columns = columns_of_several_inputs(x, lengths)
    lazy = ray.data.from_items([dict(zip(columns, row)) for row in zip(*columns.values())], override_num_blocks=2)
    named = {name: f"{name} steps" for name in lengths}
    found = rows_of(predict_table(model, lazy, columns=SEVERAL_COLUMNS, time=4, lengths=named, batch_size=3))
    assert list(found) == ["id", "fc.0", "fc.1"]
    expected = model.predict(x, lengths=lengths)
    assert np.stack([found["fc.0"], found["fc.1"]], 1).tobytes() == expected.tobytes()
    steps = stepwise(rng)
    cells = [rng.standard_normal((int(n), 3)).astype(np.float32) for n in lengths["signal"]]
    found = predict_table(steps, dataset_of(cells, 3), columns="x").take_all()
    found = [np.array(row["fc"], np.float32) for row in sorted(found, key=lambda row: row["id"])]
    assert [y.tobytes() for y in found] == [steps.predict(cell).tobytes() for cell in cells]


def test_series_are_forecast_one_by_one(rng):
    frame, histories = many_series(rng)
    forecaster = one_shot(rng)
    found = forecast_table(forecaster, ray.data.from_pandas([frame[:30], frame[30:]]), by="shop", order="hour")
    found = found.to_pandas().sort_values(["shop", "step"])
    assert list(found["shop"]) == [name for name in "abc" for _ in range(4)]
    expected = np.concatenate([forecaster.forecast(histories[name]) for name in "abc"])
    assert found["load"].to_numpy().tobytes() == expected.tobytes()


def test_a_dataset_survives_the_death_of_an_actor(rng):
    model = recurrent(rng, hidden=60)
    x = rng.standard_normal((400, 500, 3)).astype(np.float32)
    lazy = predict_table(model, dataset_of(x, 80), columns="x", batch_size=5, workers=2)
    found, killed = [], False
    for row in lazy.iter_rows():
        found.append(row)
        if not killed:
            os.kill(processes("ray::", "Predictor")[0], signal.SIGKILL)
            killed = True
    found.sort(key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(400))
    names = ["fc.0", "fc.1"]
    assert (
        np.array([[row[name] for name in names] for row in found], np.float32).tobytes() == model.predict(x).tobytes()
    )


def test_files_survive_the_death_of_a_worker_and_none_is_lost_or_doubled(rng, tmp_path):
    model = recurrent(rng, hidden=60)
    arrays = input_files(rng, tmp_path / "in", 40, steps=3000)
    (tmp_path / "out").mkdir()
    with KilledOnce(lambda: files_in(tmp_path / "out"), 5, len(arrays), lambda: processes("ray::predict_file")):
        found = predict_files(model, tmp_path / "in", tmp_path / "out")
    assert found == [str(tmp_path / "out" / name) for name in sorted(arrays)]
    check_results(tmp_path / "out", arrays, model)


def test_an_actor_takes_the_threads_that_ray_sets_aside(rng, monkeypatch):
    asked = {}
    monkeypatch.setattr(ray.data.Dataset, "map_batches", lambda self, function, **options: asked.update(options))
    for options, threads in (({}, 1), ({"threads": 2}, 2)):
        predict_table(dense(rng), ray.data.from_items([{"x": [1.0, 2.0, 3.0]}]), columns="x", **options)
        assert asked["num_cpus"] == threads and asked["fn_constructor_args"][1].threads == threads


def test_an_error_names_the_batch_or_the_file(rng, tmp_path):
    _, frame = table(rng, 12)
    frame["sun"] = frame["sun"].astype("Float32").where(frame["id"] != "row 7")
    lazy = predict_table(dense(rng), ray.data.from_pandas([frame[:6], frame[6:]]), columns=FEATURES, batch_size=3)
    with pytest.raises(Exception, match="the batch of 3 rows that begins with id=row 6: .*'sun' has 1 missing values"):
        lazy.take_all()
    model, arrays = recurrent(rng), input_files(rng, tmp_path / "in", 3)
    np.save(tmp_path / "in" / "part 000.npy", np.zeros((2, 5, 4)))
    (tmp_path / "out").mkdir()
    with pytest.raises(FormatError, match=r"1 of 3 files could not be predicted.*part 000\.npy: .*expected 3 features"):
        predict_files(model, tmp_path / "in", tmp_path / "out")
    del arrays["part 000.npy"]
    check_results(tmp_path / "out", arrays, model)


def test_a_file_that_workers_cannot_see_is_told(rng, tmp_path):
    path = Path(saved(recurrent(rng, hidden=9), tmp_path / "net.cylstm"))
    lazy = predict_table(str(path), dataset_of(rng.standard_normal((8, 6, 3)), 2), columns="x")
    path.rename(tmp_path / "elsewhere.cylstm")
    with pytest.raises(Exception, match=r"net\.cylstm: the worker on .* cannot read this file"):
        lazy.take_all()


def test_what_can_be_known_before_is_refused_before(rng):
    _, frame = table(rng, 8)
    with pytest.raises(ArgumentError, match="dataset: expected a ray.data.Dataset"):
        predict_table(dense(rng), frame, columns=FEATURES)
    with pytest.raises(ArgumentError, match="the column 'sun' is missing"):
        predict_table(dense(rng), ray.data.from_pandas(frame.drop(columns="sun")), columns=FEATURES)
    with pytest.warns(CylstmWarning, match="3 workers of 1 threads take all 3 CPUs"):
        predict_table(dense(rng), ray.data.from_pandas(frame), columns=FEATURES, workers=(3, 4))
    for workers in (0, (2, 1), (1, 2, 3), "two"):
        with pytest.raises(ArgumentError, match="workers: expected"):
            predict_table(dense(rng), ray.data.from_pandas(frame), columns=FEATURES, workers=workers)
    with pytest.raises(ArgumentError, match="batch_size: expected a whole number"):
        predict_table(dense(rng), ray.data.from_pandas(frame), columns=FEATURES, batch_size=0)


def test_the_recipe_of_the_page_predicts_what_predict_does(rng, tmp_path):
    prepare(rng, tmp_path)
    (program,) = recipes("Ray")
    run_recipe(program, tmp_path, 'ray.init("auto")', "")
    check_table(ray.data.read_parquet(str(tmp_path / "scores")).to_pandas(), tmp_path)
    check_predictions(tmp_path)
