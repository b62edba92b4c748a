"""Files that are bytes, or that are open, are read as those at a path are; whatever else is told where it goes."""

import gc
import io
import os

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError

from tests.builders.networks import bits, lstm_model
from tests.formats.test_registry import FILES, KERAS, LAYERS, folder

__all__ = ["folder"]

#: options that a file cannot be loaded without
OPTIONS = {
    "net.pt": {"layers": LAYERS},
    "stream.pt": {"layers": LAYERS},
    "net.npz": {"layers": LAYERS},
    "net.safetensors": {"layers": LAYERS},
    "net.weights.h5": {"architecture": (KERAS / "bidirectional.json")},
    "old.weights.h5": {"architecture": (KERAS / "cudnn.json")},
}
#: those that are several files, or of which no network is built without more
SEVERAL = {"folder", "net.safetensors.index.json", "net.weights.json", "ordered.npz"}


def prediction(model):
    x = [
        np.linspace(-1, 1, num=int(np.prod(shape))).reshape(shape).astype(np.float32)
        for shape in ([size or 4 for size in shape] for shape in model.input_shapes.values())
    ]
    found = model.predict(x if len(x) > 1 else x[0])
    return [bits(array) for array in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("name", sorted(set(FILES) - SEVERAL))
def test_bytes_and_open_files_are_read_as_the_file_is(folder, name):
    if name.endswith(("h5", ".keras")):
        pytest.importorskip("h5py")
    path, options = folder / name, OPTIONS.get(name, {})
    if "architecture" in options and not options["architecture"].exists():
        pytest.skip("no config is kept beside these weights")
    model = cylstm.load(path, **options)
    expected, source = prediction(model), model.provenance["source"]
    data = path.read_bytes()
    gc.collect()  # files of earlier tests, which would be closed in between
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with open(path, "rb") as file:
        for given, shown in (
            (data, "<bytes>"),
            (bytearray(data), "<bytearray>"),
            (memoryview(data), "<memoryview>"),
            (io.BytesIO(data), "<BytesIO>"),
            (file, str(path)),
        ):
            model = cylstm.load(given, **options)
            for array, wanted in zip(prediction(model), expected, strict=True):
                np.testing.assert_array_equal(array, wanted)
            assert model.provenance["source"] == source.replace(str(path), shown)
            assert "cylstm-" not in str(model.provenance) and "/proc" not in str(model.provenance)
    if before:
        assert set(os.listdir("/proc/self/fd")) == before


def test_bytes_are_converted_too(rng, tmp_path):
    model = lstm_model(rng, 3, 5)
    model.save(tmp_path / "a.cylstm", packed=True)
    cylstm.convert((tmp_path / "a.cylstm").read_bytes(), tmp_path / "b.cylstm")
    np.testing.assert_array_equal(prediction(cylstm.load(tmp_path / "b.cylstm"))[0], prediction(model)[0])


@pytest.mark.parametrize("make", [bytes, io.BytesIO])
def test_errors_name_what_was_given_and_not_the_copy(make):
    shown = f"<{make.__name__}>"
    for data, message in (
        (b"", "the file is empty"),
        (b"nonsense" * 100, "an unknown kind of file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5|needs h5py"),
        (b"PK\x03\x04" + bytes(100), "zip"),
        (b'{"weight_map": {"w": "3"}}', "the file 3 is missing beside it"),
    ):
        with pytest.raises((FormatError, UnsupportedError), match=message) as caught:
            cylstm.load(make(data), layers=LAYERS)
        assert shown in str(caught.value)
        assert "cylstm-" not in str(caught.value) and "/proc" not in str(caught.value)


def test_bytes_are_a_content_and_never_a_path(rng, tmp_path, monkeypatch):
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FormatError, UnsupportedError)):
        cylstm.load(b"a.cylstm")


def test_a_file_of_texts_and_one_that_cannot_be_mapped_are_refused(rng, tmp_path):
    model = lstm_model(rng, 3, 5)
    model.save(tmp_path / "a.cylstm", packed=True)
    with open(tmp_path / "a.cylstm", encoding="latin-1") as file, pytest.raises(FormatError, match='with mode "rb"'):
        cylstm.load(file)
    with pytest.raises(UnsupportedError, match="mmap=True maps the file at a path"):
        cylstm.load((tmp_path / "a.cylstm").read_bytes(), mmap=True)


def test_a_copy_on_a_system_without_files_in_memory_is_removed(rng, tmp_path, monkeypatch):
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm")
    data = (tmp_path / "a.cylstm").read_bytes()
    (tmp_path / "folder").mkdir()
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "folder"))
    expected = prediction(cylstm.load(tmp_path / "a.cylstm"))[0]
    np.testing.assert_array_equal(prediction(cylstm.load(data))[0], expected)
    with pytest.raises(FormatError):
        cylstm.load(data[:-1])
    assert not list((tmp_path / "folder").iterdir())


class Named:
    """What pretends to be of another module."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("torch.nn.modules.rnn", r"goes to cylstm.from_torch\(module\)"),
        ("keras.src.models.sequential", r"goes to cylstm.from_keras\(model\)"),
        ("tensorflow.python.keras.engine", r"goes to cylstm.from_keras\(model\)"),
        ("torch.export.exported_program", r"torch.export.save"),
    ],
)
def test_a_live_model_is_told_the_function_that_takes_it(module, message):
    kind = type("Net", (Named,), {"__module__": module})
    own = type("MyNet", (kind,), {"__module__": "__main__"})
    for given in (kind(), own()):
        with pytest.raises(UnsupportedError, match=message):
            cylstm.load(given)


def test_a_state_dict_and_a_loaded_model_are_told_where_they_go(rng):
    with pytest.raises(UnsupportedError, match=r"goes to cylstm.from_state_dict\(tensors, layers="):
        cylstm.load({"fc.weight": np.ones((2, 3))})
    with pytest.raises(UnsupportedError, match="it has been loaded already"):
        cylstm.load(lstm_model(rng, 3, 5))


@pytest.mark.frameworks
def test_live_models_of_the_frameworks_are_told_their_function():
    torch = pytest.importorskip("torch")
    with pytest.raises(UnsupportedError, match="from_torch"):
        cylstm.load(torch.nn.LSTM(3, 5))
    with pytest.raises(UnsupportedError, match="from_state_dict"):
        cylstm.load(torch.nn.LSTM(3, 5).state_dict())
    keras = pytest.importorskip("keras")
    with pytest.raises(UnsupportedError, match="from_keras"):
        cylstm.load(keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(5)]))
