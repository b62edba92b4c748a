"""The command line, and `convert` behind it."""

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import cylstm
import cylstm.explain
import cylstm.formats
from cylstm.cli import main, parse_layers
from cylstm.errors import ArgumentError, FormatError
from cylstm.formats.state_dict import wiring as L

from tests import ROOT
from tests.builders.weight_files import dictionary, linear_tensors, lstm_tensors, write_torch

LAYERS = 'LSTM("lstm"), Last(), Linear("fc", activation="tanh")'


@pytest.fixture
def tensors(rng):
    return lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)


@pytest.fixture
def source(tmp_path, tensors):
    return write_torch(tmp_path / "net.pt", tensors)


@pytest.mark.parametrize(
    "text",
    [
        LAYERS,
        f"[{LAYERS}]",
        f"layers=[{LAYERS}]",
        'cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc", activation="tanh")',
    ],
)
def test_layers_are_read_from_text(text):
    assert parse_layers(text) == [L.LSTM("lstm"), L.Last(), L.Linear("fc", activation="tanh")]


def test_layers_may_be_arguments_of_layers():
    found = parse_layers('LSTM("a", backward=LSTM("", activation="relu")), Linear("b", LeakyReLU(-0.5))')
    assert found == [L.LSTM("a", backward=L.LSTM("", activation="relu")), L.Linear("b", L.LeakyReLU(-0.5))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LSTM(", "not understood"),
        ("__import__('os').system('true')", "is no layer"),
        ("os.system('true')", "is no layer"),
        ("Layer()", "is no layer"),
        ("LAYER_KINDS()", "is no layer"),
        ("LSTM(open('x'))", "open is no layer"),
        ("LSTM(x)", "expected a layer or a literal, found x"),
        ("[LSTM('a') for _ in (1,)]", "expected a layer or a literal"),
        ("LSTM(**{})", "expected named arguments"),
        ("LSTM('a', units=3)", "unexpected keyword argument 'units'"),
        ("(" * 5000, "not understood"),
    ],
)
def test_text_that_is_no_layer_is_refused(text, message):
    with pytest.raises(FormatError, match=message):
        parse_layers(text)


def test_a_file_is_converted_and_predicts_the_same_bits(tmp_path, source, rng, capsys):
    target = tmp_path / "net.cylstm"
    arguments = ["convert", str(source), str(target), "--layers", LAYERS, "--metadata", "unit=a=b"]
    assert main(arguments) == 0
    found = cylstm.load(target)
    assert found.metadata == {"unit": "a=b"}
    x = rng.standard_normal((3, 4, 3)).astype(np.float32)
    expected = cylstm.load(source, layers=parse_layers(LAYERS)).predict(x)
    assert found.predict(x).tobytes() == expected.tobytes()
    size = f"{target.stat().st_size:,}"
    out, err = capsys.readouterr()
    assert out == ""
    parameters = f"{found.graph.parameters():,}"
    assert err == f"cylstm: wrote {target}: 3 layers, {parameters} parameters, {size} bytes, read from {source}\n"


def test_a_state_dict_is_chosen_by_its_key(tmp_path, tensors):
    def wrap(state):
        return dictionary({"model": state, "ema": state})

    source = write_torch(tmp_path / "net.pt", tensors, wrap=wrap)
    cylstm.convert(source, tmp_path / "net.cylstm", layers=parse_layers(LAYERS), key="ema")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "net.cylstm").graph.tensors["fc.weight"], tensors["fc.weight"])


def test_the_weights_are_converted_to_the_dtype_asked_for(tmp_path, rng):
    source = write_torch(tmp_path / "net.pt", lstm_tensors(rng, "", 3, 4, dtype=np.float64))
    for dtype in (None, "float32", "float64"):
        cylstm.convert(source, tmp_path / "net.cylstm", layers=[L.LSTM("")], dtype=dtype)
        found = cylstm.loading.read(tmp_path / "net.cylstm").tensors
        assert {array.dtype.name for array in found.values()} == {dtype or "float64"}
    with pytest.raises(ArgumentError, match="float16"):
        cylstm.convert(source, tmp_path / "net.cylstm", layers=[L.LSTM("")], dtype="float16")


def test_metadata_that_json_does_not_have_is_refused(tmp_path, source):
    with pytest.raises(FormatError, match=r"metadata 'scale': expected a value of JSON, found .*; write x.tolist\(\)"):
        cylstm.convert(source, tmp_path / "net.cylstm", layers=parse_layers(LAYERS), metadata={"scale": np.ones(3)})
    assert not (tmp_path / "net.cylstm").exists()


def test_a_summary_tells_where_the_tensors_went(source, capsys):
    assert main(["summary", str(source), "--layers", LAYERS]) == 0
    text = capsys.readouterr().out
    assert "lstm.l0" in text
    assert "format: torch" in text
    assert "  fc.bias: fc/bias" in text
    assert "  lstm.weight_ih_l0: float32 (20, 3) in storage 0" in text


def test_a_summary_of_float64_weights_needs_no_option(tmp_path, rng, capsys):
    source = write_torch(tmp_path / "net.pt", lstm_tensors(rng, "", 3, 4, dtype=np.float64))
    assert main(["summary", str(source), "--layers", 'LSTM("")']) == 0
    assert "float64 (16, 3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "{source}"], 'layers=[cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]'),
        (["summary", "{source}.none"], "no such file; the folder has net.pt"),
        (["convert", "{source}", "{source}.cylstm", "--layers", "x"], "expected a layer or a literal"),
        (["convert", "{source}", "{source}.h5", "--layers", LAYERS], "written as .cylstm files only"),
        (["convert", "{source}", "{source}.cylstm", "--layers", LAYERS, "--metadata", "x"], "expected NAME=TEXT"),
        (["summary", "{source}", "--layers", LAYERS, "--key", "model"], "no state dict under 'model'"),
    ],
)
def test_what_fails_is_told_in_one_message_without_a_traceback(source, arguments, message, capsys):
    assert main([argument.replace("{source}", str(source)) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cylstm: ")
    assert message in captured.err


def test_the_module_runs_and_shows_the_configuration():
    for arguments in ([], ["config"]):
        ran = subprocess.run(
            [sys.executable, "-m", "cylstm", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(Path(cylstm.__file__).parents[1])},
        )
        assert ran.returncode == 0, ran.stderr
        assert "instruction set:" in ran.stdout


def test_the_version_is_printed_and_the_command_has_its_own_name(capsys, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"cylstm {cylstm.__version__}\n"
    for called, name in (("/usr/bin/cylstm", "cylstm"), ("/x/cylstm/__main__.py", "python -m cylstm")):
        monkeypatch.setattr(sys, "argv", [called])
        with pytest.raises(SystemExit):
            main(["--help"])
        assert capsys.readouterr().out.startswith(f"usage: {name} [-h] [--version]")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["cylstm"].split(":")
    assert getattr(__import__(module, fromlist=[function]), function) is main


def test_converting_says_nothing_in_a_program_that_did_not_ask(tmp_path, source, capsys, caplog):
    target = tmp_path / "net.onnx"
    cylstm.convert(source, target, layers=parse_layers(LAYERS))
    assert capsys.readouterr() == ("", "")
    with caplog.at_level("INFO", "cylstm"):
        cylstm.convert(source.read_bytes(), target, layers=parse_layers(LAYERS))
    (text,) = [record.message for record in caplog.records]
    assert text.startswith(f"wrote {target}: 3 layers, ") and text.endswith("bytes, read from bytes")


def test_errors_name_the_path_that_was_given(tmp_path, source, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = cylstm.load(source, layers=parse_layers(LAYERS))
    x = np.zeros((1, 4, 3), np.float32)
    for write, path in (
        (model.save, "none/net.cylstm"),
        (model.export_onnx, "none/net.onnx"),
        (lambda path: model.trace(x).save(path), "none/trace.npz"),
        (lambda path: model.trace(x).save(path), "none/trace"),
        (lambda path: model.trace(x, path=path), "none/trace"),
        (lambda path: cylstm.explain.report(model, x, path), "none/page.html"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            write(path)
        assert str(caught.value.filename) == path and str(tmp_path) not in str(caught.value)
    assert main(["convert", source.name, "none/a.cylstm", "--layers", LAYERS]) == 2
    err = capsys.readouterr().err
    assert "'none/a.cylstm'" in err and str(tmp_path) not in err
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    for path in ("bad.pt", "missing.pt"):
        with pytest.raises(FormatError, match=f"^{path}: "):
            cylstm.load(path)


def page_numbers(path):
    """The input and the output that a page shows."""
    (data,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    shown = json.loads(data)
    arrays = []
    for one in (shown["inputs"][0], shown["outputs"][0]):
        raw = np.frombuffer(base64.b64decode(one["values"]["data"]), "<f4")
        arrays.append(raw.reshape(one["values"]["shape"]))
    return shown, *arrays


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "csv with names"])
def test_explain_writes_a_page_about_the_input(tmp_path, source, rng, capsys, ending):
    x = rng.standard_normal((3, 6, 3)).astype(np.float32)
    path = tmp_path / f"x.{ending[:3]}"
    if ending == "npy":
        np.save(path, x)
    elif ending == "npz":
        np.savez(path, anything=x)
    else:
        head = "# the weather\nrain, sun,wind\n\n" if "names" in ending else ""
        path.write_text(head + "\n".join(",".join(map(repr, row)) for row in x[2].tolist()) + "\n")
    target = tmp_path / "page.html"
    row = ["--row", "2"] if ending.startswith("np") else []
    assert (
        main(["explain", str(source), str(path), "-o", str(target), "--layers", LAYERS, "--title", "Mine", *row]) == 0
    )
    assert capsys.readouterr() == (f"{target}\n", "")
    shown, inputs, outputs = page_numbers(target)
    np.testing.assert_array_equal(inputs, x[2])
    model = cylstm.load(source, layers=parse_layers(LAYERS))
    np.testing.assert_array_equal(outputs, model.predict(x[2])[None])
    assert shown["title"] == "Mine"
    named = ["rain", "sun", "wind"] if "names" in ending else ["feature 0", "feature 1", "feature 2"]
    assert shown["inputs"][0]["names"] == named


def test_explain_reads_indices_from_a_csv(tmp_path, rng):
    tensors = {"emb.weight": rng.standard_normal((9, 3)).astype(np.float32)}
    source = write_torch(tmp_path / "net.pt", tensors | lstm_tensors(rng, "lstm", 3, 5))
    (tmp_path / "x.csv").write_text("word\n3\n0\n8\n")
    arguments = ["explain", str(source), str(tmp_path / "x.csv"), "-o", str(tmp_path / "page.html")]
    assert main([*arguments, "--layers", 'Embedding("emb"), LSTM("lstm")']) == 0
    assert page_numbers(tmp_path / "page.html")[1].ravel().tolist() == [3, 0, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3\n1,x,3\n", "line 3, column 2: expected a number, found 'x'"),
        ("1,2,3\n\n1,2\n", "line 3: expected 3 columns, found 2"),
        ("1,2,3\n1,1_0,2\n", "line 2, column 2: expected a number, found '1_0'"),
        ("1,2,3\n1,nan,2\n", "line 2, column 2: expected a number, found 'nan'"),
        ("a,b,c\n", "expected at least one line of numbers, found none"),
        ("", "expected at least one line of numbers, found none"),
        ("1,2\n3,4\n", "3"),
        (b"\xff\xfe1,2", "expected a .csv file in UTF-8"),
        (b"1,2,3\n1,\x002,3\n", "line 2"),
    ],
    ids=range(9),
)
def test_a_csv_that_is_no_table_of_numbers_is_refused_in_one_line(tmp_path, source, text, message, capsys):
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    target = tmp_path / "page.html"
    assert main(["explain", str(source), str(path), "-o", str(target), "--layers", LAYERS]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cylstm: ") and message in err
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{source}", "{input}"], "layers="),
        (["{source}.none", "{input}"], "no such file"),
        (["{source}", "{input}.none.npy", "--layers", LAYERS], "No such file"),
        (["{source}", "{input}.txt", "--layers", LAYERS], "expected a .npy or .npz file of numbers"),
        (["{source}", "{input}", "--layers", LAYERS, "--row", "7"], "row: expected one of 2, found 7"),
        (["{source}", "{input}", "--layers", LAYERS, "-o", "{source}/page.html"], "{source}"),
        (["{source}", "{input}", "--layers", 'LSTM("other")'], "other"),
    ],
    ids=range(7),
)
def test_explain_says_what_fails_in_one_line_and_returns_2(tmp_path, source, arguments, message, capsys):
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 3), np.float32))
    (tmp_path / "x.npy.txt").write_text("no array")
    places = {"{source}": str(source), "{input}": str(tmp_path / "x.npy")}
    filled = []
    for argument in [*arguments, message]:
        for place, path in places.items():
            argument = argument.replace(place, path)
        filled.append(argument)
    *arguments, message = filled
    target = [] if "-o" in arguments else ["-o", str(tmp_path / "page.html")]
    assert main(["explain", *arguments, *target]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("cylstm: ") and message in err
    assert not (tmp_path / "page.html").exists()
