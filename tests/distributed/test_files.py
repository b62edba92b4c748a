"""Predictions file by file, without an engine."""

import numpy as np
import pytest

from cylstm.distributed.files import Done, file_tasks, finish, predict_file
from cylstm.distributed.source import source_of
from cylstm.errors import ArgumentError, FormatError, UnsupportedError

from tests.distributed.builders import check_results, dense, input_files, recurrent


@pytest.fixture
def model(rng):
    return recurrent(rng)


@pytest.fixture
def arrays(rng, tmp_path):
    (tmp_path / "out").mkdir()
    return input_files(rng, tmp_path / "in", 3)


def tasks_of(model, root, **options):
    names = ("columns", "window", "ending", "threads")
    given = {name: options.get(name, 1 if name == "threads" else None) for name in names}
    return file_tasks(model, options.get("inputs", root / "in"), options.get("folder", root / "out"), **given)


def test_a_file_that_is_predicted_again_is_the_same_and_what_a_dead_process_left_goes(model, arrays, tmp_path):
    source, _ = source_of(model)
    tasks = tasks_of(model, tmp_path)
    for _ in range(2):
        done = [predict_file(source, task) for task in tasks]
    left = tmp_path / "out" / ".part 001.npz.0123abcd.tmp"
    left.write_bytes(b"half")
    (tmp_path / "out" / ".other.npz.0123abcd.tmp").write_bytes(b"of somebody else")
    assert finish(tasks, reversed(done)) == [task.result for task in tasks]
    assert not left.exists()
    (tmp_path / "out" / ".other.npz.0123abcd.tmp").unlink()
    check_results(tmp_path / "out", arrays, model)


def test_results_that_were_written_elsewhere_are_told(model, arrays, tmp_path):
    tasks = tasks_of(model, tmp_path)
    done = [Done(number, None, "node7") for number in range(len(tasks))]
    with pytest.raises(FormatError, match=r"3 of 3 files are not to be .*part 000\.npy \(written on node7\)"):
        finish(tasks, done)


def test_many_errors_are_counted_and_the_first_listed(model, arrays, tmp_path):
    for number in range(8):
        np.save(tmp_path / "in" / f"bad {number}.npy", np.zeros((2, 5, 4)))
    tasks = tasks_of(model, tmp_path)
    source, _ = source_of(model)
    with pytest.raises(FormatError, match=r"8 of 11 files could not be predicted.*bad 0.*bad 4.*; and 3 more$"):
        finish(tasks, [predict_file(source, task) for task in tasks])
    check_results(tmp_path / "out", arrays, model)


def test_no_result_replaces_an_input_or_another(model, arrays, tmp_path):
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "part 000.npy", np.zeros((2, 5, 3)))
    first = tmp_path / "in" / "part 000.npy"
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for options, message in (
        ({"inputs": [first, tmp_path / "more" / "part 000.npy"]}, "2 inputs would be predicted into one file"),
        ({"folder": tmp_path / "in"}, "part 000.npy: the predictions would replace an input"),
        ({"folder": tmp_path / "link"}, "part 000.npy: the predictions would replace an input"),
        ({"inputs": []}, "inputs: expected at least one file"),
        ({"inputs": [3]}, "inputs: expected a path or a list of paths"),
        ({"folder": None}, "folder: expected a path"),
        ({"columns": "rain"}, "columns: expected a list of names"),
        ({"window": 0}, "window: expected a whole number"),
        ({"threads": 0}, "threads: expected a whole number"),
    ):
        with pytest.raises(ArgumentError, match=message):
            tasks_of(model, tmp_path, **options)
    for options, message in (
        ({"inputs": tmp_path / "out"}, "expected .csv, .parquet, .npy, .npz files, found none"),
        ({"folder": tmp_path / "none"}, "there is no such folder"),
        ({"ending": ".txt"}, "predictions are written to"),
    ):
        with pytest.raises(FormatError, match=message):
            tasks_of(model, tmp_path, **options)


def test_a_window_of_a_network_without_time_is_refused(rng, arrays, tmp_path):
    with pytest.raises(UnsupportedError, match="has no time axis"):
        tasks_of(dense(rng), tmp_path, window=3)
