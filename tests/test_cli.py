"""The command line, and `convert` behind it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cylstm
import cylstm.formats
from cylstm.cli import main, parse_layers
from cylstm.errors import ArgumentError, FormatError
from cylstm.formats.state_dict import wiring as L

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
    assert capsys.readouterr() == ("", "")


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


def test_metadata_that_is_not_text_is_refused(tmp_path, source):
    with pytest.raises(FormatError, match="metadata expected a mapping of strings to strings"):
        cylstm.convert(source, tmp_path / "net.cylstm", layers=parse_layers(LAYERS), metadata={"scale": 3})
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
    assert main([argument.replace("{source}", str(source)) for argument in arguments]) == 1
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
