"""Arrays of NumPy's files that are damaged: one error of ours, whatever NumPy raises."""

import io
import zipfile

import numpy as np
import pytest

import cylstm
from cylstm.cli import main
from cylstm.errors import FormatError
from cylstm.formats.numpy_file import load_arrays

from tests import DATA
from tests.builders.networks import lstm_model

DAMAGED = sorted((DATA / "fuzz" / "arrays").iterdir())


def test_the_arrays_of_both_kinds_of_file_are_read_and_mapped(rng, tmp_path):
    array = rng.standard_normal((4, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", first=array, second=array[0])
    for is_mapped in (False, True):
        assert np.array_equal(load_arrays(tmp_path / "a.npy", is_mapped=is_mapped), array)
        found = load_arrays(tmp_path / "a.npz", is_mapped=is_mapped)
        assert list(found) == ["first", "second"] and np.array_equal(found["second"], array[0])
    assert isinstance(load_arrays(tmp_path / "a.npy", is_mapped=True), np.memmap)


@pytest.mark.parametrize("path", DAMAGED, ids=lambda path: path.name)
def test_a_damaged_file_is_named_in_one_error(path, tmp_path):
    copy = tmp_path / "damaged.npy"
    for start in (b"", b"\x93NUMPY\x01\x00"):
        copy.write_bytes(start + path.read_bytes())
        with pytest.raises(FormatError, match=r"damaged\.npy: expected a \.npy or \.npz file of numbers: "):
            load_arrays(copy)


def test_a_member_that_is_no_array_and_numbers_beyond_memory_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("note.npy", b"no array")
    with pytest.raises(FormatError, match="'note' is no array"):
        load_arrays(tmp_path / "a.npz")
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (1 << 58,)})
    (tmp_path / "a.npy").write_bytes(content.getvalue())
    with pytest.raises(FormatError, match=r"a\.npy: expected"):
        load_arrays(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "none.npy")


def test_the_command_line_and_traces_say_the_same(rng, tmp_path, capsys):
    model = lstm_model(rng, 2, 3)
    model.save(tmp_path / "m.cylstm")
    damaged = tmp_path / "x.npy"
    damaged.write_bytes(b"\x93NUMPY\x01\x00" + (DATA / "fuzz" / "arrays" / "header-that-does-not-end").read_bytes())
    assert main(["predict", str(tmp_path / "m.cylstm"), str(damaged), "-o", str(tmp_path / "y.npy")]) == 2
    assert "x.npy: expected a .npy or .npz file of numbers" in capsys.readouterr().err
    with pytest.raises(FormatError, match=r"x\.npy: expected a trace that Trace.save wrote"):
        cylstm.Trace.load(damaged)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(FormatError, match="found one array"):
        cylstm.Trace.load(tmp_path / "one.npy")


def test_an_array_of_a_traces_folder_that_was_damaged_since_is_refused(rng, tmp_path):
    model = lstm_model(rng, 2, 3)
    model.trace(rng.standard_normal((3, 5, 2)).astype(np.float32), path=tmp_path / "trace")
    for file in (tmp_path / "trace").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(FormatError, match=r"expected a \.npy or \.npz file of numbers"):
        trace = cylstm.Trace.load(tmp_path / "trace")
        [trace[name][part] for name in trace for part in trace[name].parts]
