"""``quantize``: the file has the bits of `Model.quantize`, and the table is what it did."""

import numpy as np
import pytest

import cylstm
from cylstm.cli import main
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import linear_tensors, lstm_tensors


@pytest.fixture
def large(rng, save):
    """A network whose matrices are large enough for int8."""
    tensors = lstm_tensors(rng, "lstm", 30, 64) | linear_tensors(rng, "fc", 64, 2)
    return save(cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")]), "large")


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        (["--weights", "int8"], {"weights": "int8"}),
        (["--weights", "float16"], {"weights": "float16"}),
        (["--weights", "bfloat16", "--keep", "fc"], {"weights": "bfloat16", "keep_float32": ["fc"]}),
        (
            ["--weights", "int8", "--keep", "lstm.l0.weight_ih", "--keep", "fc", "--target", "pi4"],
            {"weights": "int8", "keep_float32": ["lstm.l0.weight_ih", "fc"], "target": "pi4"},
        ),
        (["--weights", "int8", "--activations", "int8"], {"weights": "int8", "activations": "int8"}),
    ],
    ids=range(5),
)
def test_the_file_has_the_bits_of_quantize_and_the_table_its_parts(tmp_path, rng, large, options, arguments, capsys):
    model, path = large
    target = tmp_path / "small.cylstm"
    assert main(["quantize", path, str(target), *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    expected = model.quantize(**arguments)
    x = rng.standard_normal((4, 9, 30))
    found = cylstm.load(target)
    assert found.graph.weight_types == expected.graph.weight_types
    assert found.predict(x).tobytes() == expected.predict(x).tobytes()
    head, *lines = out.split("\n\n")[0].splitlines()
    assert head.split() == ["part", "type", "bytes", "before", "error", "reason"]
    assert len(lines) == len(expected.quantization) == 3
    for line, part in zip(lines, expected.quantization):
        name, kind, size, before, error, *reason = line.split()
        assert (name, kind, " ".join(reason)) == (f"{part.layer}.{part.role}", part.type, part.reason)
        assert (size, before) == (f"{part.bytes:,}", f"{part.bytes_before:,}")
        assert float(error) == pytest.approx(part.error, rel=1e-2)
    total = sum(part.bytes for part in expected.quantization)
    assert f"matrices: 96,768 bytes before, {total:,} after" in out
    assert f"files: {(tmp_path / 'large.cylstm').stat().st_size:,} bytes before, {target.stat().st_size:,} after" in out


def test_a_budget_on_data_raises_parts(tmp_path, rng, large, capsys):
    model, path = large
    x = rng.standard_normal((20, 9, 30)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    target = tmp_path / "small.cylstm"
    budget = model.compare(model.quantize("int8"), x).rms / 2
    arguments = ["quantize", path, str(target), "--weights", "int8", "--budget", str(budget)]
    assert main([*arguments, "--data", str(tmp_path / "x.npy")]) == 0
    assert "raised to keep the error below" in capsys.readouterr().out
    assert 0 < model.compare(cylstm.load(target), x).rms <= budget


def test_warnings_are_lines_on_the_standard_error(tmp_path, sequence, capsys):
    assert main(["quantize", sequence[1], str(tmp_path / "small.cylstm"), "--weights", "int8"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("cylstm: warning: no matrix of this network becomes int8") and err.count("\n") == 1


def test_the_file_itself_may_be_the_one_that_is_written(large, capsys):
    _, path = large
    assert main(["quantize", path, path, "--weights", "int8"]) == 0
    assert cylstm.load(path).graph.weight_types
    before = capsys.readouterr().out.splitlines()[-1].split()[1]
    assert int(before.replace(",", "")) > 96_768
    assert main(["quantize", path, path, "--weights", "int8"]) == 2
    assert "rounding it again would add to the error" in capsys.readouterr().err
