"""Parquet files, where pyarrow is installed."""

import sys

import numpy as np
import pytest

from cylstm.cli import main, predictions

FEATURES = ("rain", "sun", "wind")


@pytest.fixture
def parquet(monkeypatch):
    """pyarrow's module; files are read in pieces of 256 steps."""
    monkeypatch.setattr(predictions, "_NUMBERS", 1)
    return pytest.importorskip("pyarrow.parquet")


def write(parquet, path, columns):
    import pyarrow

    parquet.write_table(pyarrow.table(columns), path)


def test_predictions_go_from_parquet_to_parquet(tmp_path, rng, sequence, parquet):
    model, path = sequence
    x = rng.standard_normal((700, 3)).astype(np.float32)
    columns = {"at": [f"hour {i}" for i in range(700)], **dict(zip(FEATURES[::-1], x.T[::-1]))}
    write(parquet, tmp_path / "x.parquet", columns)
    target = tmp_path / "y.parquet"
    assert main(["predict", path, str(tmp_path / "x.parquet"), "-o", str(target)]) == 0
    found = parquet.read_table(target)
    assert found.column_names == ["high", "low"]
    arrays = [column.to_numpy() for column in found.columns]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    assert np.stack(arrays, 1).tobytes() == model.predict(x).tobytes()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, 2.0], "b": ["x", "y"], "c": [1, 2]}, "column 2 ('b'): expected numbers"),
        ({"a": [1.0, None], "b": [1, 2], "c": [1, 2]}, "column 1 ('a'), row 2: expected a number, found nan"),
        ({"a": [1, 2], "b": [1, None], "c": [1, 2]}, "column 2 ('b'), row 2: expected a number, found nan"),
        ({"a": [1.0, 1e39], "b": [1, 2], "c": [1, 2]}, "column 1 ('a'), row 2: expected a number, found 1e+39"),
        ({"a": [1.0], "b": [1]}, "expected 3 features, found 2"),
        ({"a": [], "b": [], "c": []}, "expected at least one row of numbers, found none"),
        (None, "expected a parquet file"),
    ],
    ids=range(7),
)
def test_a_parquet_file_that_is_no_table_of_numbers_is_refused(tmp_path, dense, parquet, columns, message, capsys):
    path = tmp_path / "x.parquet"
    if columns is None:
        path.write_bytes(b"no parquet file at all")
    else:
        write(parquet, path, columns)
    assert main(["predict", dense[1], str(path), "-o", str(tmp_path / "y.parquet")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "y.parquet").exists()


def test_without_pyarrow_the_error_names_it(tmp_path, dense, monkeypatch, capsys):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "x.csv").write_text("1,2,3\n")
    for source, target in (("x.parquet", "y.csv"), ("x.csv", "y.parquet")):
        assert main(["predict", dense[1], str(tmp_path / source), "-o", str(tmp_path / target)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "parquet files need pyarrow: pip install pyarrow" in err
        assert not (tmp_path / target).exists()
