"""The list of formats: what each recognises, and which options of `load` it takes."""

import json
import shutil

import numpy as np
import pytest

import cylstm
from cylstm.cli import main
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.registry import all_formats
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests import DATA
from tests.builders.audio_models import guitarml, guitarml_tensors, rtneural, rtneural_layer
from tests.builders.audio_models import write as write_json
from tests.builders.networks import lstm_model
from tests.builders.onnx_files import dense as onnx_dense
from tests.builders.pt2_files import SMALL_VERSIONS, write_fixture
from tests.builders.weight_files import linear_tensors, lstm_tensors, write_safetensors, write_stream, write_torch

KERAS = DATA / "keras2"
LAYERS = [L.LSTM("lstm"), L.Last(), L.Linear("fc")]
LAYERS_TEXT = 'LSTM("lstm"), Last(), Linear("fc")'

#: name of a file -> what it is, and the options that it takes
FILES = {
    "net.pt": ("a PyTorch checkpoint", ("layers", "key")),
    "stream.pt": ("a PyTorch checkpoint", ("layers", "key")),
    "net.pt2": ("a program of torch.export", ("time",)),
    "net.npz": ("a NumPy archive", ("layers",)),
    "net.safetensors": ("a safetensors file", ("layers",)),
    "net.safetensors.index.json": ("an index of weights", ("layers",)),
    "net.cylstm": ("a .cylstm file", ()),
    "packed.cylstm": ("a packed .cylstm file", ("mmap",)),
    "net.keras": ("a Keras archive", ("keras_version", "custom_layers")),
    "folder": ("a Keras archive", ("keras_version", "custom_layers")),
    "net.h5": ("a Keras model in HDF5", ("keras_version", "custom_layers")),
    "net.weights.h5": ("a file of Keras weights alone", ("layers", "architecture", "keras_version", "custom_layers")),
    "old.weights.h5": ("a file of Keras weights alone", ("layers", "architecture", "keras_version", "custom_layers")),
    "net.weights.json": ("an index of Keras weights", ("layers", "architecture", "keras_version", "custom_layers")),
    "ordered.npz": (
        "a NumPy archive of arrays without names",
        ("layers", "architecture", "keras_version", "custom_layers"),
    ),
    "amp.json": ("a GuitarML model", ()),
    "chain.json": ("an RTNeural model", ()),
    "net.onnx": ("a model of ONNX", ("time", "constants", "states")),
}
GIVEN = {
    "layers": LAYERS,
    "key": "",
    "architecture": "{}",
    "keras_version": "2.15.0",
    "custom_layers": {},
    "time": 5,
    "constants": {"sr": 16000},
    "states": {"hn": "h"},
    "mmap": True,
}


@pytest.fixture
def folder(rng, tmp_path):
    """Every file of `FILES`."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    write_torch(tmp_path / "net.pt", tensors)
    write_stream(tmp_path / "stream.pt", tensors)
    write_fixture(tmp_path / "net.pt2", SMALL_VERSIONS[-1], "small-")
    write_safetensors(tmp_path / "net.safetensors", tensors)
    np.savez(tmp_path / "net.npz", **tensors)
    index = {"weight_map": dict.fromkeys(tensors, "net.safetensors")}
    (tmp_path / "net.safetensors.index.json").write_text(json.dumps(index))
    model = lstm_model(rng, 3, 5)
    model.save(tmp_path / "net.cylstm")
    model.save(tmp_path / "packed.cylstm", packed=True)
    shutil.copy(KERAS / "stacked.keras", tmp_path / "net.keras")
    shutil.unpack_archive(tmp_path / "net.keras", tmp_path / "folder", "zip")
    shutil.copy(KERAS / "stacked.h5", tmp_path / "net.h5")
    shutil.copy(KERAS / "bidirectional.weights.h5", tmp_path / "net.weights.h5")
    shutil.copy(KERAS / "cudnn.weights-only.h5", tmp_path / "old.weights.h5")
    index = {"weight_map": {"/layers/lstm/cell/vars": ["net.weights.h5"]}}
    (tmp_path / "net.weights.json").write_text(json.dumps(index))
    np.savez(tmp_path / "ordered.npz", *tensors.values())
    write_json(tmp_path / "amp.json", guitarml(guitarml_tensors(rng)))
    dense = rtneural_layer("dense", (None, 2), [rng.standard_normal((3, 2))])
    write_json(tmp_path / "chain.json", rtneural((None, 3), dense))
    (tmp_path / "net.onnx").write_bytes(onnx_dense(rng)[0])
    return tmp_path


def test_every_format_is_tried_here():
    assert {(format_.name, format_.options) for format_ in all_formats()} == set(FILES.values())


def ways(folder, name, option):
    """Every way to read a file with an option."""
    path, given = folder / name, {option: GIVEN[option]}
    yield lambda: cylstm.load(path, **given)
    if option != "mmap":
        yield lambda: read(path, **given)
        yield lambda: cylstm.convert(path, folder / "out.cylstm", **given)


@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("name", FILES)
def test_an_option_is_taken_or_refused_with_those_that_are_taken(folder, name, option):
    if name.endswith(("h5", "weights.json")):
        pytest.importorskip("h5py")
    what, taken = FILES[name]
    for way in ways(folder, name, option):
        if option in taken:
            try:
                way()
            except CylstmError as error:
                assert "leave out" not in str(error)
        else:
            expected = (
                " and ".join(", ".join(f"{n}=" for n in taken).rsplit(", ", 1)) or "none of its options but engine="
            )
            with pytest.raises(FormatError, match=f"{name}: this is {what}, of which load takes {expected}") as raised:
                way()
            assert f"leave out {option}= (" in str(raised.value)
    assert not (folder / "out.cylstm").exists() or option in taken


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.npz"])
def test_an_option_is_refused_beside_one_that_is_taken(folder, name):
    with pytest.raises(FormatError, match=r"leave out architecture= and keras_version= \(architecture= says which"):
        cylstm.load(folder / name, layers=LAYERS, architecture="{}", keras_version="2.15.0")
    with pytest.raises(FormatError, match="leave out mmap="):
        cylstm.load(folder / name, layers=LAYERS, mmap=True)
    with pytest.raises(FormatError, match="leave out architecture="):
        cylstm.load(folder / "net.pt", layers=LAYERS, key="", architecture="{}")


def test_a_version_of_keras_is_refused_beside_layers(folder):
    pytest.importorskip("h5py")
    layers = [L.LSTM("lstm")]
    for name in ("net.weights.h5", "old.weights.h5"):
        with pytest.raises(
            FormatError, match=r"keras_version= is of the config that architecture= gives; leave it out"
        ):
            cylstm.load(folder / name, layers=layers, keras_version="2.15.0")


@pytest.mark.parametrize(
    "option", ["--layers", "--key", "--architecture", "--keras-version", "--time", "--constant", "--state"]
)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["summary", "convert"])
def test_the_command_line_refuses_the_same(folder, capsys, command, name, option):
    if name.endswith(("h5", "weights.json")):
        pytest.importorskip("h5py")
    python = {"--constant": "constants", "--state": "states"}.get(option, option.removeprefix("--").replace("-", "_"))
    given = {"layers": LAYERS_TEXT, "constants": "sr=16000", "states": "hn=h"}.get(python) or str(GIVEN[python])
    target = [str(folder / "out.cylstm")] if command == "convert" else []
    status = main([command, str(folder / name), *target, option, given])
    is_refused = f"leave out {python}= (" in capsys.readouterr().err
    assert is_refused == (python not in FILES[name][1])
    assert status == 2 or not is_refused


def test_a_folder_of_tensorflow_is_told_whatever_lies_beside(tmp_path):
    for name in ("saved_model.pb", "config.json"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(CylstmError, match="TensorFlow SavedModels are not supported"):
        cylstm.load(tmp_path)


@pytest.mark.parametrize("given", [{"lstm.weight": 1}, object(), 3.5, None])
def test_what_is_no_path_is_refused_with_where_it_goes(given):
    with pytest.raises(UnsupportedError, match=r"takes the path of a file, found builtins\.\w+: .*from_state_dict"):
        cylstm.load(given)
