"""Packed .cylstm files, and what loading a model costs in memory."""

import copy
import json
import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names, layout_version
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.native.packed import LAYOUT_VERSION
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder
from cylstm.loading import read
from cylstm.summary import summary_text

from tests import DATA
from tests.builders.networks import bits, lstm_model, lstm_state_dict, reloaded
from tests.builders.weight_files import linear_tensors, write_safetensors, write_stream, write_torch
from tests.formats.test_safetensors import join, split

_KEPT = sorted((DATA / "native").glob("layout-*/*.cylstm"))


def recurrent_model(rng, kind):
    """Two directions of two layers of this kind, a dense one that is called twice, and dropout between."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    tensors = {
        name.replace("lstm.", "rnn."): array[: gates * 19]
        for name, array in lstm_state_dict(rng, 5, 19, num_layers=2, bidirectional=True).items()
    }
    tensors |= linear_tensors(rng, "fc", 38, 38)
    layers = [getattr(L, kind)("rnn"), L.Linear("fc"), L.Dropout(0.5), L.Linear("fc", "tanh"), L.Last()]
    return cylstm.from_state_dict(tensors, layers)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("path", _KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_packed_file_of_every_layout_is_read_and_predicts_what_it_did(path, mmap):
    with np.load(path.with_suffix(".npz")) as arrays:
        x, y = arrays["x"], arrays["y0"]
    np.testing.assert_array_equal(bits(cylstm.load(path, mmap=mmap).predict(x)), bits(y))


def test_packed_files_of_every_layout_are_kept():
    layouts = {int(path.parent.name.removeprefix("layout-")) for path in _KEPT}
    assert layouts == set(range(1, LAYOUT_VERSION + 1))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_every_way_of_saving_and_loading_gives_the_same_bits_and_numbers(rng, tmp_path, kind):
    model = recurrent_model(rng, kind)
    x = rng.normal(size=(3, 7, 5)).astype(np.float32)
    y = model.predict(x)
    for again in [*reloaded(model, tmp_path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]:
        np.testing.assert_array_equal(bits(again.predict(x)), bits(y))
        assert set(again.graph.tensors) == set(model.graph.tensors)
        for name, array in model.graph.tensors.items():
            np.testing.assert_array_equal(again.graph.tensors[name], array)
        assert (summary_text(again), again.state_names) == (summary_text(model), model.state_names)


@pytest.mark.parametrize("units", [1, 4, 5, 9, 16, 17, 65])
@pytest.mark.parametrize("isa", isa_names())
def test_a_packed_file_is_the_same_on_every_instruction_set(rng, tmp_path, monkeypatch, units, isa):
    model = lstm_model(rng, 3, units)
    model.save(tmp_path / "a.cylstm", packed=True)
    monkeypatch.setenv("CYLSTM_ISA", isa)
    again = cylstm.load(tmp_path / "a.cylstm", mmap=True)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(bits(again.predict(x)), bits(model.predict(x)))
    cylstm.Model(model.graph).save(tmp_path / "b.cylstm", packed=True)
    assert (tmp_path / "a.cylstm").read_bytes() == (tmp_path / "b.cylstm").read_bytes()


def test_every_array_of_a_packed_file_is_aligned_to_64_bytes(rng, tmp_path):
    recurrent_model(rng, "GRU").save(tmp_path / "a.cylstm", packed=True)
    header, data = split(tmp_path / "a.cylstm")
    start = (tmp_path / "a.cylstm").stat().st_size - len(data)
    offsets = [start + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"]
    assert len(offsets) > 10
    assert not any(offset % 64 for offset in offsets)


def test_arrays_that_fill_no_whole_blocks_are_copied_where_a_file_is_mapped(rng, tmp_path):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    for name in ("first", "second"):
        table = {"table": rng.normal(size=(41, 3)).astype(np.float32)}
        steps = builder.add("step_table", name, {"x": x}, table)["y"]
        x = builder.add("merge", f"{name} sum", {"x": x, "x1": steps}, options={"mode": "sum"})["y"]
    builder.output(x)
    model = cylstm.Model(builder.build())
    model.save(tmp_path / "a.cylstm", packed=True)
    header, _ = split(tmp_path / "a.cylstm")
    assert [header[f"{name}/0"]["data_offsets"][0] % 64 for name in ("first", "second")] != [0, 0]
    again = cylstm.load(tmp_path / "a.cylstm", mmap=True)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(bits(again.predict(x)), bits(model.predict(x)))


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-6)])
def test_a_packed_file_runs_in_the_blas_engine_too(rng, tmp_path, dtype, tolerance):
    model = lstm_model(rng, 3, 21)
    model.save(tmp_path / "a.cylstm", packed=True)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    again = cylstm.load(tmp_path / "a.cylstm", engine="blas", dtype=dtype)
    assert (again.engine, again.dtype) == ("blas", dtype)
    np.testing.assert_allclose(again.predict(x), model.predict(x), atol=tolerance)


def test_only_the_packed_engine_writes_and_only_packed_files_are_mapped(rng, tmp_path):
    path = tmp_path / "a.cylstm"
    with pytest.raises(UnsupportedError, match=r'engine="packed", this model has engine=\'blas\'; save it unpacked'):
        lstm_model(rng, 3, 5, engine="blas").save(path, packed=True)
    lstm_model(rng, 3, 5).save(path)
    with pytest.raises(FormatError, match=r"a\.cylstm: .*; leave out mmap= \(.* packed=True"):
        cylstm.load(path, mmap=True)
    lstm_model(rng, 3, 5).save(path, packed=True)
    with pytest.raises(UnsupportedError, match=r'a\.cylstm: mmap=True maps the weights of engine="packed" in float32'):
        cylstm.load(path, mmap=True, engine="blas")
    with pytest.raises(UnsupportedError, match="mmap=True maps"):
        cylstm.load(path, mmap=True, dtype="float64")


def test_a_file_may_be_replaced_or_overwritten_under_a_model_that_copied_it(rng, tmp_path):
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    for packed in (False, True):
        path = tmp_path / "a.cylstm"
        model = lstm_model(rng, 3, 40)
        model.save(path, packed=packed)
        loaded, y = cylstm.load(path), model.predict(x)
        path.write_bytes(b"\0" * 7)
        np.testing.assert_array_equal(bits(loaded.predict(x)), bits(y))
        loaded.save(path, packed=packed)
        np.testing.assert_array_equal(bits(cylstm.load(path).predict(x)), bits(y))


def test_a_mapped_model_may_be_saved_over_its_own_file_and_survives_its_removal(rng, tmp_path):
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    path = tmp_path / "a.cylstm"
    model = lstm_model(rng, 3, 40)
    model.save(path, packed=True)
    mapped = cylstm.load(path, mmap=True)
    mapped.save(path, packed=True, metadata={"unit": "degrees"})
    np.testing.assert_array_equal(bits(mapped.predict(x)), bits(model.predict(x)))
    assert cylstm.load(path, mmap=True).metadata == {"unit": "degrees"}
    if os.name != "nt":
        path.unlink()
        np.testing.assert_array_equal(bits(mapped.predict(x)), bits(model.predict(x)))


def test_weights_that_are_not_finite_survive_packing_with_a_warning(rng, tmp_path):
    tensors = lstm_state_dict(rng, 3, 5)
    tensors["lstm.weight_hh_l0"][0] = [np.nan, np.inf, -np.inf, -0.0, 1e-40]
    with pytest.warns(UserWarning, match="NaN or infinity"):
        model = cylstm.from_state_dict(tensors, [L.LSTM("lstm")])
    np.testing.assert_array_equal(model.graph.tensors["lstm.l0.weight_hh"][0], [np.nan, np.inf, -np.inf, 0, 0])
    model.save(tmp_path / "a.cylstm", packed=True)
    with pytest.warns(UserWarning, match=r"NaN or infinity in lstm\.l0/0"):
        found = cylstm.load(tmp_path / "a.cylstm").graph.tensors["lstm.l0.weight_hh"]
    np.testing.assert_array_equal(found[0], [np.nan, np.inf, -np.inf, 0, 0])


def _metadata(**changed):
    return lambda header: header["__metadata__"].update(changed)


def _shape(name, shape):
    def change(header):
        described = json.loads(header["__metadata__"]["graph"])
        described["tensors"][name] = shape
        header["__metadata__"]["graph"] = json.dumps(described)

    return change


def _swap(a, b):
    def change(header):
        header[a], header[b] = header[b], header[a]

    return change


def _entry(name, **changed):
    return lambda header: header[name].update(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_metadata(layout_version="4"), "written by a newer CyLSTM: layout_version 4, this one reads up to 3"),
        (_metadata(layout_version=""), "layout_version expected a number, found ''"),
        (_metadata(layout_version="-1"), "layout_version expected a number"),
        (
            lambda header: header["__metadata__"].pop("layout_version"),
            "expected an object with values, nodes|leave out mmap=",
        ),
        (_shape("fc.weight", [2, 70]), r"expected shape \(2, 17\), found \(2, 70\)"),
        (_shape("fc.weight", [70, 17]), "fc.*do not follow|layer 'fc'.*expected shape"),
        (_shape("fc.weight", [1 << 30, 1 << 30]), "expected shape"),
        (_shape("fc.weight", []), "shape expected positive integers"),
        (_shape("fc.weight", [0, 17]), "shape expected positive integers"),
        (_shape("fc.weight", [1 << 31, 17]), "shape expected positive integers"),
        (_shape("fc.weight", "many"), "shape expected positive integers"),
        (_shape("other", [3]), "tensors that no layer uses: other"),
        (_swap("fc/0", "lstm.l0/0"), "layer 'lstm.l0': packed arrays that do not fit the layer"),
        (_swap("lstm.l0/1", "lstm.l0/0"), "layer 'lstm.l0': packed arrays that do not fit the layer"),
        (lambda header: header.update({"fc/3": header.pop("fc/1")}), "packed arrays that no layer uses: fc/3"),
        (lambda header: header.update({"fc/2": header.pop("lstm.l0/1")}), "packed arrays that do not fit"),
        (_entry("fc/0", dtype="I32"), "packed array 'fc/0': expected F32 or F16 or BF16 or I8 of one axis, found I32"),
    ],
)
@pytest.mark.parametrize("mmap", [False, True])
def test_a_wrong_packed_file_is_refused(rng, tmp_path, change, message, mmap):
    path = tmp_path / "a.cylstm"
    lstm_model(rng, 3, 17, outputs=2).save(path, packed=True)
    header, data = split(path)
    change(header)
    text = json.dumps(header).encode()
    with pytest.raises(CylstmError, match=message) as caught:
        cylstm.load(join(path, text + b" " * (-(8 + len(text)) % 64), data), mmap=mmap)
    assert "a.cylstm" in str(caught.value)


def test_an_array_of_two_axes_is_refused_and_one_that_is_not_aligned_is_copied_only(rng, tmp_path):
    path = tmp_path / "a.cylstm"
    model = lstm_model(rng, 3, 17, outputs=2)
    model.save(path, packed=True)
    header, data = split(path)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    text = json.dumps(header).encode()
    join(path, text + b" " * (4 + -(8 + len(text)) % 64), data)
    np.testing.assert_array_equal(bits(cylstm.load(path).predict(x)), bits(model.predict(x)))
    with pytest.raises(FormatError, match="not at a multiple of 64; leave out mmap=True"):
        cylstm.load(path, mmap=True)
    header["fc/0"]["shape"] = [2, header["fc/0"]["shape"][0] // 2]
    with pytest.raises(FormatError, match="expected F32 or F16 or BF16 or I8 of one axis"):
        cylstm.load(join(path, header, data))


@pytest.mark.parametrize("mmap", [False, True])
def test_every_truncation_of_a_packed_file_is_refused(rng, tmp_path, mmap):
    path = tmp_path / "a.cylstm"
    lstm_model(rng, 3, 17).save(path, packed=True)
    data = path.read_bytes()
    for size in range(0, len(data), 331):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"a\.cylstm"):
            cylstm.load(path, mmap=mmap)


def test_no_change_of_a_byte_of_the_header_does_more_than_raise(rng, tmp_path):
    path = tmp_path / "a.cylstm"
    lstm_model(rng, 3, 5).save(path, packed=True)
    data = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    x = np.ones((1, 2, 3), np.float32)
    for at in range(0, end, 3):
        for byte in (0, data[at] ^ 1, ord("9")):
            changed = bytearray(data)
            changed[at] = byte
            path.write_bytes(changed)
            try:
                cylstm.load(path, mmap=True).predict(x)
            except CylstmError as error:
                assert "a.cylstm" in str(error) or "input" in str(error)


def test_a_packed_file_is_read_as_a_graph_like_any_other(rng, tmp_path):
    model = lstm_model(rng, 3, 17)
    model.save(tmp_path / "a.cylstm", packed=True)
    graph = read(tmp_path / "a.cylstm")
    assert isinstance(graph.tensors, dict)
    np.testing.assert_array_equal(graph.tensors["lstm.l0.weight_hh"], model.graph.tensors["lstm.l0.weight_hh"])


MEMORY = """
import sys
import numpy as np
import cylstm
def peak():  # not ru_maxrss, which begins with the parent's
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
cylstm.load(sys.argv[1]).predict(np.zeros((1, 2, 8), np.float32))
before = peak()
layers = None if sys.argv[2].endswith(".cylstm") else [cylstm.LSTM("lstm")]
model = cylstm.load(sys.argv[2], layers=layers, mmap=sys.argv[3] == "True")
print(peak() - before, model._packed.nbytes / 1e6)
"""


def write_cylstm(path, tensors, packed=False):
    cylstm.from_state_dict(tensors, [L.LSTM("lstm")]).save(path, packed=packed)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="nothing tells the peak of memory")
@pytest.mark.parametrize(
    ("name", "write", "mmap"),
    [
        ("plain.cylstm", write_cylstm, False),
        ("packed.cylstm", partial(write_cylstm, packed=True), False),
        ("mapped.cylstm", partial(write_cylstm, packed=True), True),
        ("net.safetensors", write_safetensors, False),
        ("net.pt", write_torch, False),
        ("old.pt", write_stream, False),
    ],
)
def test_loading_fifty_megabytes_never_takes_them_twice(rng, tmp_path, name, write, mmap):
    lstm_model(rng, 8, 16).save(tmp_path / "small.cylstm")
    tensors = {
        "lstm.weight_ih_l0": rng.random((4 * 1700, 140), np.float32),
        "lstm.weight_hh_l0": rng.random((4 * 1700, 1700), np.float32),
    }
    write(tmp_path / name, tensors)
    del tensors
    command = [sys.executable, "-c", MEMORY, tmp_path / "small.cylstm", tmp_path / name, str(mmap)]
    root = os.path.dirname(os.path.dirname(cylstm.__file__))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    grown, weights = map(float, done.stdout.split())
    assert weights > 50
    assert grown < (0.4 if mmap else 1.4) * weights


@pytest.mark.frameworks
def test_the_reference_reader_opens_a_packed_file(rng, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    lstm_model(rng, 3, 17).save(tmp_path / "a.cylstm", packed=True)
    with safetensors.safe_open(tmp_path / "a.cylstm", "numpy") as file:
        assert file.metadata()["layout_version"] == "1"
        assert "lstm.l0/0" in set(file.keys())


def test_files_have_the_layout_version_of_the_engine():
    assert layout_version() == LAYOUT_VERSION
