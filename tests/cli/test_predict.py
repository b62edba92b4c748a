"""``predict``: a file of predictions with the bits of `Model.predict`, whatever the size and the kind of file."""

from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm.cli import main, predictions
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import lstm_tensors
from tests.cli.program import ran, read_csv, write_csv

FEATURES = ("rain", "sun", "wind")


@pytest.fixture
def small_pieces(monkeypatch):
    """Files are read in pieces of 4 rows, or of 256 steps."""
    monkeypatch.setattr(predictions, "_MOST_ROWS", 4)
    monkeypatch.setattr(predictions, "_NUMBERS", 1)


@pytest.fixture
def calls(monkeypatch):
    """The first axes of what `Model.predict` and `Stream.run` are called with."""
    found = []

    def watch(kind, name):
        real = getattr(kind, name)

        def called(self, x, *arguments, **options):
            found.append((name, len(x)))
            return real(self, x, *arguments, **options)

        monkeypatch.setattr(kind, name, called)

    watch(cylstm.Model, "predict")
    watch(cylstm.Stream, "run")
    return found


def same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32 and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def predicted(model, path, given, folder, *options, ending="npy"):
    """The file that the command writes for an input."""
    if isinstance(given, np.ndarray):
        np.save(folder / "x.npy", given)
        given = folder / "x.npy"
    target = folder / f"y.{ending}"
    assert main(["predict", path, str(given), "-o", str(target), *options]) == 0
    return np.load(target) if ending == "npy" else target


@pytest.mark.parametrize("name", ["sequence", "last", "both_ways", "words", "dense"])
@pytest.mark.parametrize("is_batch", [False, True])
def test_an_array_gives_the_array_of_predict(request, tmp_path, rng, name, is_batch, small_pieces):
    model, path = request.getfixturevalue(name)
    x = rng.integers(0, 9, (6, 11)) if name == "words" else rng.standard_normal((6, 11, 3))
    x = x[:, 0] if name == "dense" else x
    x = x if is_batch else x[3]
    same_bits(predicted(model, path, x, tmp_path), model.predict(x))


def test_arrays_of_any_order_and_type_are_read(tmp_path, rng, last):
    model, path = last
    x = np.asfortranarray(rng.standard_normal((6, 11, 3)).astype(np.float32))
    same_bits(predicted(model, path, x, tmp_path), model.predict(x))
    same_bits(predicted(model, path, (x * 9).astype(np.int16), tmp_path), model.predict((x * 9).astype(np.int16)))


def test_a_batch_is_predicted_in_groups_of_rows(tmp_path, rng, last, small_pieces, calls):
    model, path = last
    x = rng.standard_normal((10, 7, 3)).astype(np.float32)
    found = predicted(model, path, x, tmp_path)
    assert calls == [("predict", 4), ("predict", 4), ("predict", 2)]
    same_bits(found, model.predict(x))


def test_groups_are_smaller_where_rows_take_more_memory(sequence, monkeypatch):
    monkeypatch.setattr(predictions, "_PIECE", 1 << 20)
    short, long = (predictions._rows_at_once(sequence[0], [time]) for time in (10, 1000))
    assert 1 < long < short < predictions._MOST_ROWS
    assert predictions._rows_at_once(sequence[0], [1 << 24]) == 1


@pytest.mark.parametrize("name", ["sequence", "last"])
def test_a_long_sequence_goes_through_a_stream_with_the_same_bits(request, tmp_path, rng, name, small_pieces, calls):
    model, path = request.getfixturevalue(name)
    x = rng.standard_normal((700, 3)).astype(np.float32)
    names = FEATURES if name == "sequence" else None
    found = predicted(model, path, write_csv(tmp_path / "x.csv", x, names), tmp_path)
    assert calls == [("run", 256), ("run", 256), ("run", 188)]
    same_bits(found, model.predict(x))


def test_a_long_sequence_of_a_network_that_cannot_stream_is_read_as_a_whole(
    tmp_path, rng, both_ways, small_pieces, calls
):
    model, path = both_ways
    x = rng.standard_normal((700, 3)).astype(np.float32)
    found = predicted(model, path, write_csv(tmp_path / "x.csv", x), tmp_path)
    assert calls == [("predict", 700)]
    same_bits(found, model.predict(x))


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_over_time_reach_over_the_ends_of_pieces(tmp_path, rng, save, small_pieces, calls, stride):
    tensors = {"conv.weight": rng.standard_normal((4, 3, 5)), "conv.bias": rng.standard_normal(4)}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()} | lstm_tensors(rng, "lstm", 4, 5)
    model, path = save(cylstm.from_state_dict(tensors, [L.Conv1d("conv", stride=stride), L.LSTM("lstm")]), "conv")
    x = rng.standard_normal((701, 3)).astype(np.float32)
    found = predicted(model, path, x, tmp_path)
    # a stream of the second takes two steps at once, and the last is alone
    assert [name for name, _ in calls] == (["run"] * 3 if stride == 1 else ["predict"])
    same_bits(found, model.predict(x))


def test_layers_that_are_stateful_are_not_cut_where_pieces_end(
    tmp_path, rng, sequence, save, small_pieces, calls, capsys
):
    graph = sequence[0].graph
    with pytest.warns(cylstm.CylstmWarning, match="stateful"):
        model, path = save(cylstm.Model(graph._replace(stateful=("lstm.l0",))), "stateful")
    x = rng.standard_normal((700, 3)).astype(np.float32)
    found = predicted(model, path, x, tmp_path)
    assert calls == [("predict", 700)]
    err = capsys.readouterr().err
    assert err.startswith("cylstm: warning: ") and "is meant to go on from one call" in err and err.count("\n") == 1
    same_bits(found, model.predict(x))


def test_axes_in_the_order_of_a_user_stay_so_and_a_table_has_time_first(tmp_path, rng, sequence, save, small_pieces):
    layouts = {sequence[0].inputs[0]: "10", sequence[0].outputs[0]: "10"}
    model, path = save(cylstm.Model(sequence[0].graph._replace(layouts=layouts)), "turned")
    x = rng.standard_normal((3, 300)).astype(np.float32)
    expected = model.predict(x)
    assert expected.shape == (2, 300)
    same_bits(predicted(model, path, x, tmp_path), expected)
    table = write_csv(tmp_path / "x.csv", x.T)
    same_bits(predicted(model, path, table, tmp_path), expected)
    same_bits(read_csv(predicted(model, path, table, tmp_path, ending="csv"))[1], expected.T.copy())
    batch = rng.standard_normal((6, 3, 8)).astype(np.float32)
    same_bits(predicted(model, path, batch, tmp_path), model.predict(batch))
    found = read_csv(predicted(model, path, batch, tmp_path, ending="csv"))[1][:, 2:]
    same_bits(found, model.predict(batch).swapaxes(1, 2).reshape(-1, 2))


def test_the_columns_of_a_csv_are_the_targets_with_all_their_digits(tmp_path, rng, sequence, small_pieces):
    model, path = sequence
    x = (rng.standard_normal((700, 3)) * 1e-3).astype(np.float32)
    names, found = read_csv(predicted(model, path, write_csv(tmp_path / "x.csv", x), tmp_path, ending="csv"))
    assert names == ["high", "low"]
    same_bits(found, model.predict(x))


def test_a_csv_of_a_batch_of_sequences_says_the_row_and_the_step(tmp_path, rng, sequence, small_pieces):
    model, path = sequence
    x = rng.standard_normal((6, 3, 3))
    names, found = read_csv(predicted(model, path, x, tmp_path, ending="csv"))
    assert names == ["row", "step", "high", "low"]
    assert found[:, 0].tolist() == np.repeat(range(6), 3).tolist() and found[:, 1].tolist() == [0, 1, 2] * 6
    same_bits(found[:, 2:], model.predict(x).reshape(18, 2))


def test_a_csv_of_one_number_has_the_name_of_the_output(tmp_path, rng, last):
    model, path = last
    x = rng.standard_normal((6, 4, 3))
    names, found = read_csv(predicted(model, path, x, tmp_path, ending="csv"))
    assert names == ["fc"]
    same_bits(found, model.predict(x))
    same_bits(read_csv(predicted(model, path, x[0], tmp_path, ending="csv"))[1], model.predict(x[:1]))


def test_a_table_of_a_network_without_time_is_a_batch(tmp_path, rng, dense, small_pieces):
    model, path = dense
    x = rng.standard_normal((10, 3)).astype(np.float32)
    found = predicted(model, path, write_csv(tmp_path / "x.csv", x), tmp_path, ending="csv")
    assert read_csv(found)[0] == ["fc.0", "fc.1"]
    same_bits(read_csv(found)[1], model.predict(x))


def test_a_table_of_indices_is_read(tmp_path, words):
    model, path = words
    (tmp_path / "x.csv").write_text("word\n3\n0\n8\n")
    same_bits(predicted(model, path, tmp_path / "x.csv", tmp_path), model.predict(np.array([3, 0, 8])))


def test_several_inputs_and_outputs_go_by_name(tmp_path, rng, two, capsys):
    model, path = two
    for batch in ((5,), ()):
        arrays = {"knob": rng.standard_normal((*batch, 2)), "x": rng.standard_normal((*batch, 7, 3))}
        np.savez(tmp_path / "x.npz", **arrays)
        found = np.load(predicted(model, path, tmp_path / "x.npz", tmp_path, ending="npz"))
        expected = model.predict(arrays)
        assert list(found) == list(model.outputs) == ["x out", "knob out"]
        for name, array in zip(model.outputs, expected):
            same_bits(found[name], array)
    for ending, message in (("csv", "different numbers of rows"), ("npy", "2 outputs: write them to an .npz file")):
        target = tmp_path / f"z.{ending}"
        assert main(["predict", path, str(tmp_path / "x.npz"), "-o", str(target)]) == 2
        assert message in capsys.readouterr().err and not target.exists()
    assert main(["predict", path, write_csv(tmp_path / "x.csv", [[1, 2, 3]]), "-o", str(tmp_path / "z.npz")]) == 2
    assert "give an .npz file with their names" in capsys.readouterr().err


def test_outputs_that_grow_and_that_do_not_are_written_together(tmp_path, rng, sequence, save, small_pieces, calls):
    model, path = save(sequence[0].extract(outputs=["fc", "lstm.l0.h"]), "parts")
    x = rng.standard_normal((700, 3)).astype(np.float32)
    found = np.load(predicted(model, path, write_csv(tmp_path / "x.csv", x), tmp_path, ending="npz"))
    assert [name for name, _ in calls] == ["run"] * 3
    for name, array in zip(model.outputs, model.predict(x)):
        same_bits(found[name], array)


@pytest.mark.parametrize("window", [1, 5, 24])
@pytest.mark.parametrize("name", ["last", "both_ways"])
def test_a_window_predicts_at_each_step_from_the_last_ones(request, tmp_path, rng, name, window, small_pieces):
    model, path = request.getfixturevalue(name)
    x = rng.standard_normal((31, 3)).astype(np.float32)
    found = predicted(model, path, write_csv(tmp_path / "x.csv", x), tmp_path, "--window", str(window))
    stream = model.stream(window=window)
    expected = np.stack([stream.step(step) for step in x])
    assert np.isnan(found[: window - 1]).all() and np.isfinite(found[window - 1 :]).all()
    same_bits(found[window - 1 :], expected[window - 1 :])


def test_a_window_that_never_fills_is_refused(tmp_path, rng, last, capsys):
    x = write_csv(tmp_path / "x.csv", rng.standard_normal((4, 3)))
    assert main(["predict", last[1], x, "-o", str(tmp_path / "y.csv"), "--window", "5"]) == 2
    assert "--window: expected at least 5 steps, found 4" in capsys.readouterr().err
    np.save(tmp_path / "x.npy", rng.standard_normal((2, 9, 3)))
    assert main(["predict", last[1], str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.csv"), "--window", "5"]) == 2
    assert "--window: expected one sequence" in capsys.readouterr().err


def test_columns_are_found_by_their_names_wherever_they_are(tmp_path, rng, sequence):
    model, path = sequence
    x = rng.standard_normal((9, 3)).astype(np.float32)
    lines = [f"{w!r},2024-01-0{i},{r!r},{s!r}" for i, (r, s, w) in enumerate(x.tolist(), 1)]
    (tmp_path / "x.csv").write_text("\n".join([" wind,time,rain ,sun", *lines]))
    same_bits(predicted(model, path, tmp_path / "x.csv", tmp_path), model.predict(x))
    found = predicted(model, path, tmp_path / "x.csv", tmp_path, "--columns", "sun,wind,rain")
    same_bits(found, model.predict(x[:, [1, 2, 0]]))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("rain,sun,snow\n1,2,3\n", [], "expected the columns rain, sun, wind, each once, found rain, sun, snow"),
        ("rain,sun,wind,sun\n1,2,3,4\n", [], "expected the columns rain, sun, wind, each once"),
        ("1,2,3\n", ["--columns", "rain,sun,wind"], "expected a first line with names"),
        ("rain,sun,wind\n1,2,3\n", ["--header", "no"], "line 1, column 1: expected a number, found 'rain'"),
        ("1,x,3\n1,2,3\n", [], "line 1, column 2: expected a number, found 'x'"),
        (",0,1\n0,2,3\n", [], "line 1, column 1: expected a number, found ''"),
        ("rain,sun,wind\n1,2,3\n1,,3\n", [], "line 3, column 2: expected a number, found ''"),
        ("nan,nan,nan\n1,2,3\n", [], "line 1, column 1: expected a number, found 'nan'"),
        ("1,2,3\n1,2,1e39\n", [], "line 2, column 3: expected a number, found '1e39'"),
        ("rain;sun;wind\n1;2;3\n", ["--header", "no"], "line 1, column 1"),
        ("rain,sun,wind\n", [], "expected at least one line of numbers"),
    ],
    ids=range(11),
)
def test_a_csv_that_would_be_misread_is_refused_with_its_place(tmp_path, sequence, text, options, message, capsys):
    (tmp_path / "x.csv").write_text(text)
    assert main(["predict", sequence[1], str(tmp_path / "x.csv"), "-o", str(tmp_path / "y.csv"), *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "y.csv").exists()


def test_a_first_line_of_numbers_may_be_names(tmp_path, dense):
    (tmp_path / "x.csv").write_text("0,1,2\n3,4,5\n")
    found = predicted(*dense, tmp_path / "x.csv", tmp_path, "--header", "yes")
    same_bits(found, dense[0].predict(np.array([[3, 4, 5]])))


@pytest.mark.parametrize("ending", ["csv", "npy", "npz"])
def test_an_error_far_into_a_file_leaves_the_predictions_of_before(
    tmp_path, rng, sequence, small_pieces, ending, capsys
):
    path = write_csv(tmp_path / "x.csv", rng.standard_normal((900, 3)))
    with open(path, "a") as file:
        file.write("1,2,three\n")
    target = tmp_path / f"y.{ending}"
    target.write_text("before")
    files = sorted(tmp_path.iterdir())
    assert main(["predict", sequence[1], path, "-o", str(target)]) == 2
    assert "line 901, column 3" in capsys.readouterr().err
    assert target.read_text() == "before" and sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 2, 2, 3)), "expected 3 axes with a batch or 2 without"),
        (np.zeros(3), "expected 3 axes with a batch or 2 without"),
        (np.zeros((2, 5, 4)), "expected 3 features, found 4"),
        (np.zeros((2, 0, 3)), "expected at least one sample and one step, found shape (1, 0, 3)"),
        (np.zeros((2, 5, 3), complex), "real numbers"),
        (np.array(["a"]), "axes"),
        (np.array([None]), "expected a .npy or .npz file of numbers"),
    ],
    ids=range(7),
)
def test_an_array_that_the_network_does_not_take_is_refused(tmp_path, last, x, message, capsys):
    np.save(tmp_path / "x.npy", x)
    assert main(["predict", last[1], str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "y.npy").exists()


def test_an_empty_batch_gives_an_empty_file_of_the_right_shape(tmp_path, last):
    np.save(tmp_path / "x.npy", np.zeros((0, 5, 3), np.float32))
    assert main(["predict", last[1], str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]) == 0
    found = np.load(tmp_path / "y.npy")
    assert found.shape == last[0].predict(np.zeros((0, 5, 3), np.float32)).shape and not len(found)


def test_a_file_larger_than_the_memory_that_it_gets(tmp_path, rng, last):
    pytest.importorskip("resource")
    if not Path("/proc/self/status").exists():
        pytest.skip("the limit is of memory that Linux counts")
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (60_000, 50, 3))
    x[:] = rng.standard_normal((50, 3))
    x[-1] = 0.25
    del x
    assert (tmp_path / "x.npy").stat().st_size > 40 << 20
    # of anonymous memory, which mapped files are not
    limited = (
        "-c",
        "import resource, sys\n"
        "from cylstm.cli import main, predictions\n"
        "import cylstm.cli.tables\n"
        "predictions._PIECE = 4 << 20\n"
        "used = 1024 * int(open('/proc/self/status').read().split('VmData:')[1].split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + (24 << 20),) * 2)\n"
        "sys.exit(main(sys.argv[1:]))",
    )
    arguments = ("predict", last[1], str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy"), "--threads", "1")
    status, _, err = ran(*arguments, python=limited)
    assert (status, err) == (0, "")
    found = np.load(tmp_path / "y.npy")
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert len(found) == len(x)
    for rows in (slice(3), slice(-3, None)):
        same_bits(found[rows], last[0].predict(x[rows]))


@pytest.mark.parametrize("has_tqdm", [True, False])
def test_progress_goes_to_the_standard_error(tmp_path, rng, last, small_pieces, has_tqdm, monkeypatch, capsys):
    if has_tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    np.save(tmp_path / "x.npy", rng.standard_normal((10, 4, 3)))
    target = str(tmp_path / "y.npy")
    assert main(["predict", last[1], str(tmp_path / "x.npy"), "-o", target, "--progress"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{target}\n"
    assert ("100%" if has_tqdm else "cylstm: 10 of 10 rows\n") in err


def test_what_is_printed_is_the_file(tmp_path, rng, last, capsys):
    target = str(tmp_path / "y.csv")
    assert main(["predict", last[1], write_csv(tmp_path / "x.csv", rng.standard_normal((4, 3))), "-o", target]) == 0
    assert capsys.readouterr() == (f"{target}\n", "")
