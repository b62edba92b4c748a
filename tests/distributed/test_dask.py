"""Dask with two worker processes of one thread each."""

import logging
import os
import pickle
import signal
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
    recipes,
    recurrent,
    run_recipe,
    saved,
    stepwise,
    table,
    with_several_inputs,
)
from tests.forecasting.builders import one_shot

pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402

from cylstm.distributed.dask import forecast_table, predict_array, predict_files, predict_table  # noqa: E402

# Dask uses what newer versions of pandas warn about
pytestmark = pytest.mark.filterwarnings("ignore:.*inplace keyword")


def two_workers():
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=logging.CRITICAL
    )


@pytest.fixture(scope="module")
def client():
    """Of a cluster that is used by every computation of these tests."""
    with two_workers() as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def mortals():
    """The client of a cluster of its own, of which a test kills a worker."""
    with two_workers() as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def in_this_process():
    """Tasks run here, one after the other: a test sees what they do."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(params=["path", "model"])
def network(request, tmp_path, rng):
    """What is given as the network, and the network."""
    model = recurrent(rng)
    return saved(model, tmp_path / "net.cylstm") if request.param == "path" else model, model


def test_an_array_has_the_bits_of_predict_whatever_its_blocks(client, network, rng):
    given, model = network
    x = rng.standard_normal((23, 6, 3)).astype(np.float32)
    expected = model.predict(x).tobytes()
    for chunks in ((23, 6, 3), (5, 6, 3), (7, 4, 2)):
        found = predict_array(given, da.from_array(x, chunks=chunks))
        assert found.shape == (23, 2) and found.dtype == np.float32 and found.chunks[0][0] == chunks[0]
        assert found.compute().tobytes() == expected


def test_an_output_at_each_step_keeps_its_axes(client, rng):
    model = stepwise(rng)
    x = rng.standard_normal((9, 6, 3)).astype(np.float32)
    found = predict_array(model, da.from_array(x, chunks=(4, 3, 3)))
    assert found.shape == (9, 6, 2) and found.chunks == ((4, 4, 1), (6,), (2,))
    assert found.compute().tobytes() == model.predict(x).tobytes()
    assert found[3:5, 2].compute().tobytes() == model.predict(x)[3:5, 2].tobytes()


def test_rows_whose_number_is_not_known_are_predicted(in_this_process, rng):
    model = dense(rng)
    x = rng.standard_normal((20, 3)).astype(np.float32)
    lazy = da.from_array(x, chunks=(6, 3))
    found = predict_array(model, lazy[lazy[:, 0] > 0])
    assert found.compute().tobytes() == model.predict(x[x[:, 0] > 0]).tobytes()
    none = predict_array(model, lazy[lazy[:, 0] > 99])
    assert none.compute().shape == (0, 2)


def test_a_table_keeps_its_partitions_and_its_index(client, rng, tmp_path):
    model = dense(rng)
    path = saved(model, tmp_path / "net.cylstm")
    x, frame = table(rng, 23)
    for given in (path, cylstm.load(path)):
        for count in (1, 5):
            lazy = dd.from_pandas(frame, npartitions=count)
            found = predict_table(given, lazy)
            assert list(found.columns) == ["id", *TARGETS] and found.divisions == lazy.divisions
            computed = found.compute()
            assert computed.index.equals(frame.index) and list(computed["id"]) == list(frame["id"])
            assert dict(computed.dtypes) == dict(found.dtypes) and computed["low"].dtype == np.float32
            assert computed[list(TARGETS)].to_numpy().tobytes() == model.predict(x).tobytes()


def test_several_inputs_lengths_and_masks_are_divided_as_the_first_input(client, rng, tmp_path):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 23)
    mask = rng.random((23, 6)) < 0.6
    path = saved(model, tmp_path / "net.cylstm")
    lazy = {
        "knobs": da.from_array(x["knobs"], chunks=(4, 1)),
        "signal": da.from_array(x["signal"], chunks=(7, 4, 2)),
        "notes": da.from_array(x["notes"], chunks=(23, 4, 1)),
    }
    found = predict_array(path, lazy)
    assert found.shape == (23, 2) and found.chunks[0] == (7, 7, 7, 2)
    assert found.compute().tobytes() == model.predict(x).tobytes()
    listed = [lazy[name] for name in model.inputs]
    for options, expected in (
        ({"lengths": lengths}, {"lengths": lengths}),
        (
            {"lengths": {"notes": da.from_array(lengths["notes"], chunks=3)}},
            {"lengths": {"notes": lengths["notes"]}},
        ),
        ({"mask": {"signal": da.from_array(mask, chunks=(5, 2))}}, {"mask": {"signal": mask}}),
    ):
        found = predict_array(model, listed, **options).compute()
        assert found.tobytes() == model.predict(x, **expected).tobytes() != model.predict(x).tobytes()
    steps = stepwise(rng)
    for options in ({"lengths": lengths["signal"]}, {"mask": mask}):
        found = predict_array(steps, lazy["signal"], **options)
        assert found.compute().tobytes() == steps.predict(x["signal"], **options).tobytes()


def test_inputs_whose_numbers_of_rows_are_not_known_go_together(in_this_process, rng):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 20)
    kept = x["knobs"][:, 0] > 0
    chosen = da.from_array(kept, chunks=6)
    lazy = {name: da.from_array(array, chunks=(6, *array.shape[1:]))[chosen] for name, array in x.items()}
    known = {name: array[kept] for name, array in x.items()}
    assert predict_array(model, lazy).compute().tobytes() == model.predict(known).tobytes()
    given = {"notes": da.from_array(lengths["notes"], chunks=6)[chosen]}
    expected = model.predict(known, lengths={"notes": lengths["notes"][kept]})
    assert predict_array(model, lazy, lengths=given).compute().tobytes() == expected.tobytes()
    with pytest.raises(ArgumentError, match=r"lengths\['notes'\]: how many rows the blocks of x have is not known"):
        predict_array(model, lazy, lengths={"notes": lengths["notes"][kept]})
    with pytest.raises(ShapeError, match=r"x\['notes'\]: expected 4 blocks of rows as x\['signal'\] has"):
        predict_array(model, lazy | {"notes": da.from_array(x["notes"], chunks=(10, 4, 1))})


def test_a_table_has_columns_for_each_input_and_cells_of_any_length(client, rng, monkeypatch):
    pandas = pytest.importorskip("pandas")
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 23)
    frame = pandas.DataFrame(columns_of_several_inputs(x, lengths))
    named = {name: f"{name} steps" for name in lengths}
    with pytest.raises(ArgumentError, match="the column 's': expected cells that are arrays, found text, which Dask"):
        predict_table(model, dd.from_pandas(frame, npartitions=4), columns=SEVERAL_COLUMNS, time=4)
    monkeypatch.setitem(dask.config.config["dataframe"], "convert-string", False)
    lazy = dd.from_pandas(frame, npartitions=4)
    found = predict_table(model, lazy, columns=SEVERAL_COLUMNS, time=4, lengths=named, names=TARGETS)
    assert list(found.columns) == ["id", *TARGETS]
    computed = found.compute()[list(TARGETS)].to_numpy()
    assert computed.tobytes() == model.predict(x, lengths=lengths).tobytes()
    steps = stepwise(rng)
    cells = [rng.standard_normal((int(n), 3)).astype(np.float32) for n in lengths["signal"]]
    lazy = dd.from_pandas(pandas.DataFrame({"x": [cell.tolist() for cell in cells]}), npartitions=3)
    found = predict_table(steps, lazy, columns="x").compute()
    assert [y.tobytes() for y in found["fc"]] == [steps.predict(cell).tobytes() for cell in cells]


def test_partitions_that_are_empty_stay_empty(in_this_process, rng):
    model = dense(rng)
    x, frame = table(rng, 12)
    lazy = dd.from_pandas(frame, npartitions=4)
    found = predict_table(model, lazy[lazy["rain"] > 0], columns=FEATURES, keep=[]).compute()
    assert found.to_numpy().tobytes() == model.predict(x[x[:, 0] > 0]).tobytes()
    assert len(predict_table(model, lazy[lazy["rain"] > 99], columns=FEATURES).compute()) == 0


def test_workers_map_a_packed_file_and_load_it_once(client, rng, tmp_path):
    path = saved(recurrent(rng), tmp_path / "net.cylstm")

    def count_loads():
        from cylstm.distributed import source

        source.loads = 0
        load = source._load_file

        def counted(given):
            source.loads += 1
            return load(given)

        source._load_file = counted

    def loads_and_maps():
        from cylstm.distributed import source

        return source.loads, path in Path("/proc/self/maps").read_text()

    client.run(count_loads)
    predict_array(path, da.random.random((40, 6, 3), chunks=(2, 6, 3))).compute()
    if sys.platform == "linux":
        assert list(client.run(loads_and_maps).values()) == [(1, True), (1, True)]


def test_a_pickled_network_is_a_task_and_no_part_of_each_block(rng):
    cloudpickle = pytest.importorskip("cloudpickle")
    model, flat = recurrent(rng, hidden=100), dense(rng)
    for network, lazy in (
        (model, predict_array(model, da.zeros((50, 6, 3), chunks=(1, 6, 3)))),
        (flat, predict_table(flat, dd.from_pandas(table(rng, 50)[1], npartitions=50), columns=FEATURES)),
    ):
        # each task is sent by itself
        tasks = dict(dask.optimize(lazy)[0].__dask_graph__())
        size = len(pickle.dumps(network)) // 2
        assert len(tasks) > 50
        holders = [key for key, one in tasks.items() if b"Model" in cloudpickle.dumps(one)]
        assert len(holders) == 1 and len(cloudpickle.dumps(tasks[holders[0]])) > size


def test_each_task_takes_one_thread_or_as_many_as_are_asked_for(in_this_process, monkeypatch, rng, tmp_path):
    taken = []
    predict = cylstm.Model.predict

    def recorded(self, x, **options):
        taken.append(options["threads"])
        return predict(self, x, **options)

    monkeypatch.setattr(cylstm.Model, "predict", recorded)
    model = dense(rng)
    _, frame = table(rng, 8)
    arrays = input_files(rng, tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    for options, expected in (({}, 1), ({"threads": 2}, 2)):
        taken.clear()
        predict_array(model, da.zeros((8, 3), chunks=(4, 3)), **options).compute()
        predict_table(model, dd.from_pandas(frame, npartitions=2), columns=FEATURES, **options).compute()
        predict_files(recurrent(rng), tmp_path / "in", tmp_path / "out", **options)
        assert len(taken) >= 4 + len(arrays) and set(taken) == {expected}


def test_files_become_files_of_the_same_names(client, network, rng, tmp_path):
    given, model = network
    arrays = input_files(rng, tmp_path / "in", 7)
    (tmp_path / "out").mkdir()
    found = predict_files(given, tmp_path / "in", tmp_path / "out")
    assert found == [str(tmp_path / "out" / name) for name in sorted(arrays)]
    check_results(tmp_path / "out", arrays, model)


def test_tables_in_files_are_read_by_name_and_windows_are_those_of_the_command(in_this_process, rng, tmp_path):
    model = recurrent(rng)
    path = saved(model, tmp_path / "net.cylstm")
    x, frame = table(rng, 9)
    frame.to_csv(tmp_path / "x.csv", index=False)
    (tmp_path / "out").mkdir()
    (found,) = predict_files(path, [tmp_path / "x.csv"], tmp_path / "out", window=4, ending=".npy")
    windows = np.lib.stride_tricks.sliding_window_view(x, 4, axis=0).transpose(0, 2, 1)
    assert np.load(found)[3:].tobytes() == model.predict(windows).tobytes()


def test_series_are_forecast_one_by_one(client, rng, tmp_path):
    frame, histories = many_series(rng)
    forecaster = one_shot(rng, time="hour")
    forecaster.save(tmp_path / "load.cylstm", packed=True)
    for given in (tmp_path / "load.cylstm", forecaster):
        found = forecast_table(given, dd.from_pandas(frame, npartitions=4, sort=False), by="shop").compute()
        assert sorted(set(found["shop"])) == ["a", "b", "c"] and len(found) == 12
        for name, history in histories.items():
            y = found["load"][found["shop"] == name].to_numpy()
            assert y.tobytes() == forecaster.forecast(history).tobytes()


def test_an_array_survives_the_death_of_a_worker(mortals, rng):
    model = recurrent(rng, hidden=60)
    x = rng.standard_normal((400, 500, 3)).astype(np.float32)
    lazy = predict_array(model, da.from_array(x, chunks=(5, 500, 3)))
    pid = next(iter(mortals.run(os.getpid).values()))
    (running,) = mortals.persist([lazy])
    blocks = distributed.futures_of(running)
    distributed.wait(blocks, return_when="FIRST_COMPLETED")
    os.kill(pid, signal.SIGKILL)
    assert not all(block.done() for block in blocks)
    assert running.compute().tobytes() == model.predict(x).tobytes()


def test_files_survive_the_death_of_a_worker_and_none_is_lost_or_doubled(mortals, rng, tmp_path):
    model = recurrent(rng, hidden=60)
    arrays = input_files(rng, tmp_path / "in", 40, steps=3000)
    (tmp_path / "out").mkdir()
    pids = list(mortals.run(os.getpid).values())
    with KilledOnce(lambda: files_in(tmp_path / "out"), 5, len(arrays), lambda: pids):
        predict_files(model, tmp_path / "in", tmp_path / "out")
    check_results(tmp_path / "out", arrays, model)


def test_an_error_says_in_which_block_partition_or_file_it_is(client, rng, tmp_path):
    model = recurrent(rng)
    indices = cylstm.from_state_dict(
        {"e.weight": rng.standard_normal((5, 3)).astype(np.float32)}, [cylstm.Embedding("e"), cylstm.Last()]
    )
    x = np.ones((12, 4), np.int64)
    x[7, 2] = 9
    with pytest.raises(ShapeError, match=r"^block 1 \(rows 5 to 9\): input .*index 9 in row 2"):
        predict_array(indices, da.from_array(x, chunks=(5, 4))).compute()
    _, frame = table(rng, 12)
    lazy = dd.from_pandas(frame.assign(sun=frame["sun"].astype("Float32").where(frame["id"] != "row 7")), npartitions=3)
    with pytest.raises(ShapeError, match="^partition 1: the table: column 'sun' has 1 missing values"):
        predict_table(dense(rng), lazy, columns=FEATURES).compute()
    arrays = input_files(rng, tmp_path / "in", 4)
    np.save(tmp_path / "in" / "part 000.npy", np.zeros((2, 5, 4)))
    (tmp_path / "in" / "part 002.npy").write_text("text")
    (tmp_path / "out").mkdir()
    with pytest.raises(
        FormatError, match=r"2 of 4 files could not be predicted.*000\.npy: .*expected 3 feat.*part 002"
    ):
        predict_files(model, tmp_path / "in", tmp_path / "out")
    del arrays["part 000.npy"], arrays["part 002.npy"]
    check_results(tmp_path / "out", arrays, model)


def test_a_file_that_workers_cannot_see_is_told(client, rng, tmp_path):
    path = Path(saved(recurrent(rng, hidden=9), tmp_path / "net.cylstm"))
    lazy = predict_array(str(path), da.zeros((8, 6, 3), chunks=(4, 6, 3)))
    path.rename(tmp_path / "elsewhere.cylstm")
    with pytest.raises(FormatError, match=r"^block \d .*net\.cylstm: the worker on .* cannot read this file"):
        lazy.compute()


def test_what_can_be_known_before_is_refused_before(rng):
    model = recurrent(rng)
    ok = da.zeros((8, 6, 3), chunks=(4, 6, 3))
    two = cylstm.from_state_dict(
        {"a.weight": rng.standard_normal((2, 3)), "b.weight": rng.standard_normal((2, 3))},
        [cylstm.Heads([cylstm.Linear("a")], [cylstm.Linear("b")])],
        dtype="float32",
    )
    for given, x, error, message in (
        (model, np.zeros((8, 6, 3)), ArgumentError, "x: expected a dask.array.Array"),
        (model, ok[..., :2], ShapeError, "expected 3 features, found 2"),
        (model, ok[0], ShapeError, r"expected rank 3, the rows first, found shape \(0, 3\)"),
        (model, ok.astype("datetime64[s]"), ShapeError, "expected real numbers, found dtype datetime64"),
        (two, ok[:, 0], UnsupportedError, "a network with one output, found a, b"),
        (3, ok, ArgumentError, "model: expected a path or a Model"),
    ):
        with pytest.raises(error, match=message):
            predict_array(given, x)
    with pytest.raises(ArgumentError, match="threads: expected a whole number"):
        predict_array(model, ok, threads=0)
    _, frame = table(rng, 8)
    lazy = dd.from_pandas(frame, npartitions=2)
    for given, error, message in (
        (frame, ArgumentError, "frame: expected a dask.dataframe.DataFrame"),
        (lazy.drop(columns="sun"), ArgumentError, "the column 'sun' is missing"),
        (lazy.assign(sun="text"), ShapeError, "expected columns of real numbers, found 'sun'"),
    ):
        with pytest.raises(error, match=message):
            predict_table(dense(rng), given, columns=FEATURES)


def test_arrays_that_do_not_go_together_are_refused_by_name(rng):
    model = with_several_inputs(rng)
    x, lengths = arrays_of_several_inputs(rng, 8)
    lazy = {name: da.from_array(array, chunks=(3, *array.shape[1:])) for name, array in x.items()}
    for given, options, error, message in (
        (lazy["signal"], {}, ArgumentError, r"x: the network has 3 inputs; .*\(signal, notes, knobs\) or a dict"),
        ({"signal": lazy["signal"]}, {}, ArgumentError, "x: expected a dict of 'signal', 'notes', 'knobs'"),
        (lazy | {"notes": x["notes"]}, {}, ArgumentError, r"x\['notes'\]: expected a dask.array.Array"),
        (lazy | {"knobs": lazy["knobs"][:7]}, {}, ShapeError, r"x\['knobs'\]: expected 8 rows as x\['signal'\] has"),
        ([*lazy.values()][::-1], {}, ShapeError, "input 'signal': expected rank 3"),
        (lazy, {"lengths": lengths["signal"]}, ShapeError, "lengths: the network has 2 sequence inputs"),
        (lazy, {"lengths": {"signal": lengths["signal"][:7]}}, ShapeError, r"lengths\['signal'\]: expected 8 rows"),
        (lazy, {"lengths": {"knobs": lengths["signal"]}}, ShapeError, "lengths: no sequence input is named knobs"),
        (lazy, {"mask": {"notes": np.ones((8, 5), bool)}}, ShapeError, r"mask: expected bool of shape \(0, 4\)"),
        (
            lazy,
            {"mask": {"notes": np.ones((8, 4), bool)}, "lengths": lengths},
            ArgumentError,
            "give lengths or mask, not both",
        ),
    ):
        with pytest.raises(error, match=message):
            predict_array(model, given, **options)
    wrong = lengths["signal"].copy()
    wrong[4] = 9
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(ShapeError, match=r"block 1 \(rows 3 to 5\): lengths: .*found 9 in row 1"),
    ):
        predict_array(model, lazy, lengths={"signal": wrong}).compute()


def test_the_recipe_of_the_page_predicts_what_predict_does(client, rng, tmp_path):
    prepare(rng, tmp_path)
    (program,) = recipes("Dask")
    names = run_recipe(program, tmp_path, "tcp://scheduler:8786", client.scheduler.address)
    names["client"].close()
    model = cylstm.load(tmp_path / "model.cylstm")
    assert names["y"].tobytes() == model.predict(np.load(tmp_path / "windows.npy")).tobytes()
    check_table(dd.read_parquet(tmp_path / "scores").compute(), tmp_path)
    check_predictions(tmp_path)
