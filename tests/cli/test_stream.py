"""``predict --stream``: a line in is a step, and its prediction is a line out, through real pipes."""

import json
import os
import signal

import numpy as np
import pytest

import cylstm
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import lstm_tensors
from tests.cli.program import csv_text, program, ran, write_csv


def numbers(text):
    """The numbers of lines with commas, as float32."""
    return np.array([list(map(np.float32, line.split(","))) for line in text.splitlines()])


def test_each_line_is_answered_before_the_next_one_comes(sequence, rng):
    model, path = sequence
    stream = model.stream()
    process = program("predict", path, "--stream")
    for step in rng.standard_normal((5, 3)).astype(np.float32):
        process.stdin.write(csv_text([step]).encode())
        process.stdin.flush()
        found = process.stdout.readline().decode()
        assert numbers(found).tobytes() == stream.step(step).tobytes()
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_an_answer_has_the_form_of_its_line(sequence, rng):
    model, path = sequence
    stream = model.stream()
    x = rng.standard_normal((3, 3)).astype(np.float32)
    rain, sun, wind = x[2].tolist()
    lines = [csv_text(x[:1]), json.dumps(x[1].tolist()) + "\n"]
    lines.append(json.dumps({"wind": wind, "at": "noon", "rain": rain, "sun": sun}) + "\r\n")
    status, out, err = ran("predict", path, "--stream", given="".join(lines))
    assert (status, err) == (0, "")
    first, second, third = out.splitlines()
    assert numbers(first)[0].tobytes() == stream.step(x[0]).tobytes()
    assert np.array(json.loads(second), np.float32).tobytes() == stream.step(x[1]).tobytes()
    found = json.loads(third)
    assert list(found) == ["high", "low"]
    assert np.array([*found.values()], np.float32).tobytes() == stream.step(x[2]).tobytes()


def test_names_in_a_first_line_say_where_the_features_are(sequence, rng):
    model, path = sequence
    x = rng.standard_normal((4, 3)).astype(np.float32)
    given = "# a log\n\nat,wind,rain,sun\n" + "".join(f"noon,{w!r},{r!r},{s!r}\n" for r, s, w in x.tolist())
    status, out, err = ran("predict", path, "--stream", given=given)
    assert (status, err) == (0, "")
    assert numbers(out).tobytes() == model.predict(x).tobytes()


@pytest.mark.parametrize("features", [["rain", "sun", "wind"], ["rain"], 3, {"rain": 0}], ids=str)
def test_names_may_be_any_value_of_json_and_count_where_they_are_a_list_of_as_many(sequence, tmp_path, rng, features):
    model, _ = sequence
    path = str(tmp_path / "named.cylstm")
    model.save(path, metadata={"features": features, "targets": ["high", "low"]})
    rain, sun, wind = x = rng.standard_normal(3).astype(np.float32)
    given = json.dumps({"wind": float(wind), "rain": float(rain), "sun": float(sun)}) + "\n"
    status, out, err = ran("predict", path, "--stream", given=given)
    if features == ["rain", "sun", "wind"]:
        assert (status, err) == (0, "")
        assert np.array([*json.loads(out).values()], np.float32).tobytes() == model.stream().step(x).tobytes()
        assert list(json.loads(out)) == ["high", "low"]
    else:
        assert status == 1 and "the file does not name its features" in err


def test_names_that_are_others_refuse_all_lines_below(sequence):
    status, out, err = ran("predict", sequence[1], "--stream", given="rain,sun,snow\n1,2,3\n4,5,6\n")
    assert (status, out, err.count("\n")) == (1, "", 3)
    assert "line 3: the first line: expected the columns rain, sun, wind" in err


BAD = {
    "1,x,3": "column 2: expected a number, found 'x'",
    "1,2": "expected 3 features, found 2",
    "1,2,nan": "column 3: expected a number, found 'nan'",
    "1,2,1e39": "column 3: expected a number, found '1e39'",
    '"1,2,3': "line",
    "[1, 2, NaN]": "NaN is no number",
    "[1, 2, 1e999]": "expected a number, found Infinity",
    "[1, 2, true]": "expected a number, found true",
    '[1, 2, "3"]': 'expected a number, found "3"',
    "[1, [2], 3]": "expected lists of equal length",
    "[1, 2": "expected JSON",
    "[" * 100000: "nested too deeply",
    f"[1, 2, 1{'0' * 400}]": "expected a number, found 1000",
    '{"rain": 1, "sun": 2}': "wind is missing",
    '{"rain": 1, "sun": 2, "wind": [3]}': "wind: expected a number, found [3]",
    '{"rain": 1, "sun": 2, "wind": 3, "rain": 4}': "a name is there twice",
    "[[1, 2, 3]]": "expected numbers of shape (3,), found (1, 3)",
    "{}": "rain, sun, wind is missing",
}


def test_a_bad_line_is_told_with_its_number_and_changes_nothing(sequence, rng):
    model, path = sequence
    x = rng.standard_normal((len(BAD) + 1, 3)).astype(np.float32)
    good = csv_text(x).splitlines()
    lines = [line for pair in zip(good, BAD) for line in pair] + good[-1:]
    status, out, err = ran("predict", path, "--stream", given="\n".join(lines))
    assert status == 1
    assert numbers(out).tobytes() == model.predict(x).tobytes()
    told = err.splitlines()
    assert len(told) == len(BAD)
    for number, (message, line) in enumerate(zip(BAD.values(), told), 1):
        assert line.startswith(f"cylstm: line {2 * number}: ") and message in line and len(line) < 400


def test_bytes_that_are_no_text_and_lines_without_end_are_refused(sequence, rng):
    model, path = sequence
    x = rng.standard_normal((2, 3)).astype(np.float32)
    first, second = (line.encode() + b"\n" for line in csv_text(x).splitlines())
    given = first + b"\xff1,2,3\n" + b"1" * (33 << 20) + b"\n" + second
    status, out, err = ran("predict", path, "--stream", given=given)
    assert status == 1
    assert "line 2: expected UTF-8" in err and "line 3: expected at most 16,777,216 bytes" in err
    assert numbers(out).tobytes() == model.predict(x).tobytes()


def test_stop_on_error_ends_at_the_first_bad_line(sequence):
    status, out, err = ran("predict", sequence[1], "--stream", "--stop-on-error", given="1,2,3\n1,x,3\n1,2,3\n")
    assert status == 2 and out.count("\n") == 1
    assert err == "cylstm: line 2: column 2: expected a number, found 'x'\n"


def test_a_reader_that_has_enough_ends_the_command_quietly(sequence):
    process = program("predict", sequence[1], "--stream")
    process.stdin.write(b"1,2,3\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.stdout.close()
    with pytest.raises(BrokenPipeError):  # it has ended
        while process.poll() is None:
            process.stdin.write(b"4,5,6\n" * 1000)
            process.stdin.flush()
        raise BrokenPipeError
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
    process.stderr.close()
    with pytest.raises(BrokenPipeError):
        process.stdin.close()
        raise BrokenPipeError


def test_a_chain_of_pipes_runs_to_the_end(sequence, rng):
    path = sequence[1]
    x = rng.standard_normal((300, 3)).astype(np.float32)
    first = program("predict", path, "--stream")
    # two targets are no three features, so that each line is refused
    second = program("predict", path, "--stream", stdin=first.stdout)
    first.stdout.close()
    first.stdin.write(csv_text(x).encode())
    first.stdin.close()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 1 and out == b"" and err.count(b"\n") == 300
    assert first.wait(timeout=60) == 0
    first.stderr.close()


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_window_has_no_numbers_until_it_is_full(last, rng, form):
    model, path = last
    x = rng.standard_normal((6, 3)).astype(np.float32)
    given = csv_text(x) if form == "csv" else "".join(json.dumps(step) + "\n" for step in x.tolist())
    status, out, err = ran("predict", path, "--stream", "--window", "4", given=given)
    assert (status, err) == (0, "")
    expected = np.stack([model.predict(x[t - 3 : t + 1]) for t in range(3, 6)])
    lines = out.splitlines()
    assert lines[:3] == ["nan" if form == "csv" else "[null]"] * 3
    found = numbers("\n".join(lines[3:])) if form == "csv" else np.array([*map(json.loads, lines[3:])], np.float32)
    assert found.tobytes() == expected.tobytes()


def test_a_network_that_warms_up_has_no_numbers_at_first(rng, save):
    tensors = {"conv.weight": rng.standard_normal((4, 3, 3)), "conv.bias": rng.standard_normal(4)}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()} | lstm_tensors(rng, "lstm", 4, 5)
    model, path = save(cylstm.from_state_dict(tensors, [L.Conv1d("conv"), L.LSTM("lstm")]), "conv")
    x = rng.standard_normal((6, 3)).astype(np.float32)
    status, out, err = ran("predict", path, "--stream", given=csv_text(x[:1]) + f"{x[1].tolist()}\n" + csv_text(x[2:]))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["nan,nan,nan,nan,nan", "[null, null, null, null, null]"]
    assert numbers("\n".join(lines[2:])).tobytes() == model.predict(x).tobytes()


def test_a_network_that_takes_several_steps_at_once_is_refused(rng, save):
    tensors = {"conv.weight": rng.standard_normal((4, 3, 3)).astype(np.float32), "conv.bias": np.ones(4, np.float32)}
    tensors |= lstm_tensors(rng, "lstm", 4, 5)
    path = save(cylstm.from_state_dict(tensors, [L.Conv1d("conv", stride=2), L.LSTM("lstm")]), "conv")[1]
    status, out, err = ran("predict", path, "--stream", given="1,2,3\n")
    assert (status, out, err.count("\n")) == (
        2,
        "",
        1,
    ) and "takes 2 steps at once, and a line is one; --window N" in err


def test_a_window_of_a_network_with_outputs_at_each_step_gives_all_of_them(sequence, rng):
    model, path = sequence
    x = rng.standard_normal((3, 3)).astype(np.float32)
    given = csv_text(x[:2]) + json.dumps(dict(zip(("rain", "sun", "wind"), x[2].tolist())))
    status, out, err = ran("predict", path, "--stream", "--window", "2", given=given)
    assert (status, err) == (0, "")
    found = json.loads(out.splitlines()[2])
    assert list(found) == ["fc"]
    assert np.array(found["fc"], np.float32).tobytes() == model.predict(x[1:]).tobytes()


def test_a_network_of_windows_warns_unless_it_is_said_what_is_meant(rng, save):
    model = cylstm.from_state_dict(lstm_tensors(rng, "lstm", 3, 5), [L.LSTM("lstm"), L.Last()])
    model, path = save(cylstm.Model(model.graph._replace(window=4)), "window")
    assert model.graph.window == 4
    status, out, err = ran("predict", path, "--stream", given="1,2,3\n")
    assert (status, out.count("\n"), err.count("\n")) == (0, 1, 1)
    assert err.startswith("cylstm: warning: the network was trained on windows of 4 steps")
    assert ": --window 4 predicts from the last 4 steps" in err and "--window none says" in err
    for window in ("4", "none"):
        assert ran("predict", path, "--stream", "--window", window, given="1,2,3\n")[2] == ""


@pytest.mark.parametrize("options", [[], ["--window", "5"]])
def test_the_steps_of_a_file_come_before_the_first_line(sequence, rng, tmp_path, options):
    model, path = sequence
    x = rng.standard_normal((9, 3)).astype(np.float32)
    before = write_csv(tmp_path / "before.csv", x[:8][:, [2, 1, 0]], ["wind", "sun", "rain"])
    status, out, err = ran("predict", path, "--stream", "--warm-up", before, *options, given=csv_text(x[8:]))
    assert (status, err) == (0, "")
    expected = model.predict(x[4:]) if options else model.predict(x)[-1]
    assert numbers(out).tobytes() == expected.tobytes()


def test_a_warm_up_that_cannot_be_is_refused(dense, sequence, rng, tmp_path):
    np.save(tmp_path / "batch.npy", rng.standard_normal((2, 4, 3)))
    status, _, err = ran("predict", sequence[1], "--stream", "--warm-up", str(tmp_path / "batch.npy"))
    assert status == 2 and "expected one sequence, (time, features), found a batch" in err
    status, _, err = ran("predict", dense[1], "--stream", "--warm-up", write_csv(tmp_path / "a.csv", [[1, 2, 3]]))
    assert status == 2 and "the network has no time" in err


def test_a_network_that_cannot_stream_says_what_does(both_ways):
    status, out, err = ran("predict", both_ways[1], "--stream", given="1,2,3\n")
    assert (status, out, err.count("\n")) == (2, "", 1) and "--window n predicts from the last steps" in err
    assert ran("predict", both_ways[1], "--stream", "--window", "2", given="1,2,3\n")[0] == 0


def test_lines_of_a_network_without_time_stand_alone(dense, rng):
    model, path = dense
    x = rng.standard_normal((3, 3)).astype(np.float32)
    status, out, err = ran("predict", path, "--stream", given=csv_text(x))
    assert (status, err) == (0, "")
    assert numbers(out).tobytes() == model.predict(x).tobytes()


def test_objects_need_names_in_the_metadata(dense):
    status, out, err = ran("predict", dense[1], "--stream", given='{"rain": 1, "sun": 2, "wind": 3}\n[1, 2, 3]\n')
    assert status == 1 and out.count("\n") == 1 and "the file does not name its features" in err


def test_lines_of_indices_are_whole_numbers(words):
    model, path = words
    status, out, err = ran("predict", path, "--stream", given="3\n1.5\n[0]\n8\n9\n1\n")
    assert status == 1
    assert "line 2: input 'input' takes whole numbers" in err and "line 5: " in err and "expected 0 to 8" in err
    assert err.count("\n") == 2
    found = numbers(out.replace("[", "").replace("]", ""))
    assert found.tobytes() == model.predict(np.array([3, 0, 8, 1])).tobytes()


def test_inputs_go_by_name_and_one_without_time_stays(two, rng):
    model, path = two
    x, knob = rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal(2).astype(np.float32)
    first = {"x": x[0].tolist(), "knob": knob.tolist()}
    given = "\n".join([json.dumps(first), json.dumps({"x": x[1].tolist()}), "1,2,3", "[1]"])
    status, out, err = ran("predict", path, "--stream", given=given)
    assert status == 1 and err.count("\n") == 2 and "line 3: expected a JSON object with x, knob" in err
    sequence, other = model.predict({"x": x, "knob": knob})
    for step, line in enumerate(out.splitlines()):
        found = json.loads(line)
        assert np.array(found["x out"], np.float32).tobytes() == sequence[step].tobytes()
        assert np.array(found["knob out"], np.float32).tobytes() == other.tobytes()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal to send")
def test_ctrl_c_ends_without_a_traceback(sequence):
    # tests that a script started in the background ignore the signal, and what they start would too
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = program("predict", sequence[1], "--stream")
    signal.signal(signal.SIGINT, before)
    process.stdin.write(b"1,2,3\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
