"""What all commands have: help with an example, errors of one line, and tracebacks where they are asked for."""

import re
import shlex
from pathlib import Path

import pytest

from cylstm.cli import main, parse_arguments
from cylstm.cli.commands import COMMANDS

from tests.cli.program import ran

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_shows_an_example_that_the_command_takes(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"example:\n  python -m cylstm {command.example}" in shown
    assert parse_arguments(shlex.split(command.example)).command == command.name


def test_the_page_about_the_command_line_has_each_example_and_only_what_is_taken():
    text = PAGE.read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"python -m cylstm {command.example}\n" in text
    calls = re.findall(r"python -m cylstm ([^|\n]+)", "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)))
    assert len(calls) > len(COMMANDS)
    for call in calls:
        parse_arguments(shlex.split(call, comments=True))


@pytest.mark.parametrize(
    "text",
    [
        "predict net x.csv -o y.csv --window 3",
        "predict net --window 3 x.csv -o y.csv",
        "predict net -o y.csv --window 3 x.csv",
        "predict --window 3 -o y.csv net x.csv",
    ],
)
def test_options_may_stand_anywhere(text):
    found = parse_arguments(text.split())
    assert (found.source, found.input, found.output, found.window) == ("net", "x.csv", "y.csv", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "{model}", "x.csv", "y.csv"], "unrecognized arguments: y.csv"),
        (["summary", "{model}", "x.csv"], "unrecognized arguments: x.csv"),
        (["predict", "{model}", "--what"], "unrecognized arguments: --what"),
        (["foresee"], "invalid choice: 'foresee'"),
        (["predict"], "the following arguments are required: source"),
        (["predict", "{model}", "--window", "0"], "--window: expected a number of steps, or none, found '0'"),
        (["quantize", "{model}", "out.cylstm", "--weights", "int4"], "invalid choice: 'int4'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(dense, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main([argument.replace("{model}", dense[1]) for argument in arguments])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cylstm: ") and message in err and "--help" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "{model}"], "predict: expected INPUT -o OUTPUT, or --stream"),
        (["predict", "{model}", "x.csv"], "predict: expected INPUT -o OUTPUT, or --stream"),
        (
            ["predict", "{model}", "x.csv", "-o", "y.txt"],
            "y.txt: predictions are written to .csv, .npy, .npz, .parquet",
        ),
        (["predict", "{model}", "none.csv", "-o", "y.csv"], "No such file"),
        (["predict", "none.cylstm", "x.csv", "-o", "y.csv"], "none.cylstm: no such file"),
        (["predict", "{model}", "x.csv", "-o", "none/y.csv"], "none/y.csv: there is no such folder"),
        (["predict", "{model}", "x.csv", "-o", "x.csv"], "x.csv: expected another file than the input"),
        (["predict", "{model}", "x.csv", "-o", "y.csv", "--warm-up", "x.csv"], "are for --stream"),
        (["predict", "{model}", "x.csv", "-o", "y.csv", "--threads", "0"], "threads: expected"),
        (["predict", "{model}", "x.csv", "--stream"], "takes no input"),
        (["quantize", "{model}", "y.h5", "--weights", "int8"], "written as .cylstm files only"),
        (["quantize", "{model}", "y.cylstm", "--weights", "float16", "--budget", "1"], "give both or none"),
        (["quantize", "{model}", "y.cylstm", "--weights", "float16", "--keep", "gru"], "'gru' is no layer"),
    ],
)
def test_what_fails_is_told_in_one_line_and_leaves_no_file(dense, tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("1,2,3\n")
    before = sorted(tmp_path.iterdir())
    arguments = [argument.replace("{model}", dense[1]) for argument in arguments]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cylstm: ") and message in err
    assert sorted(tmp_path.iterdir()) == before
    assert main([*arguments, "--debug"]) == 2
    traced = capsys.readouterr().err
    assert traced.startswith("Traceback") and traced.endswith(err)


def test_memory_that_is_not_there_is_a_line(dense, tmp_path, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("cylstm.model.Model.predict", fails)
    (tmp_path / "x.csv").write_text("1,2,3\n")
    assert main(["predict", dense[1], str(tmp_path / "x.csv"), "-o", str(tmp_path / "y.csv")]) == 2
    assert capsys.readouterr().err == "cylstm: not enough memory\n"
    assert not (tmp_path / "y.csv").exists()


def test_the_program_itself_gives_these_statuses(dense):
    assert ran("predict", dense[1])[0] == 2
    assert ran("verify", dense[1])[0] == 2
    status, out, err = ran("predict")
    assert (status, out, err.count("\n")) == (2, "", 1)
