"""Damaged Keras files are refused, or read as what they still say."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError
from cylstm.loading import read

from tests.builders.keras2 import FILES, FOLDER, options_of
from tests.builders.keras_files import lstm_model, write_lstm
from tests.builders.weight_files import (
    keras_lstm_weights,
    write_h5,
    write_keras,
    write_zip,
)

h5py = pytest.importorskip("h5py")


KERNEL = "layers/lstm/cell/vars/0"


def _replace(make):
    def edit(file):
        del file[KERNEL]
        make(file)

    return edit


def _external_storage(file):
    file.create_dataset(KERNEL, (3, 20), "f4", external=[("/etc/hostname", 0, 240)])


def _virtual(file):
    layout = h5py.VirtualLayout((3, 20), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 20))
    file.create_virtual_dataset(KERNEL, layout)


def _link_in_the_middle(link):
    def edit(file):
        file.move("layers/lstm", "elsewhere")
        file["layers/lstm"] = link

    return edit


def _unknown_filter(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 20))
    properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((3, 20))
    h5py.h5d.create(file.id, KERNEL.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def _cycle(file):
    file["layers/lstm/cell/again"] = file["layers"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_replace(lambda file: file.update({KERNEL: h5py.SoftLink("/layers/lstm/cell/vars/1")})), "soft or external"),
        (_replace(lambda file: file.update({KERNEL: h5py.ExternalLink("/etc/x.h5", "x")})), "missing|soft or external"),
        (_link_in_the_middle(h5py.SoftLink("/elsewhere")), "soft or external"),
        (_replace(_external_storage), "its data is in another file"),
        (_replace(_virtual), "its data is in another file"),
        (_replace(lambda file: file.update({KERNEL: h5py.Empty("f4")})), "no data"),
        (
            _replace(lambda file: file.create_dataset(KERNEL, (1 << 20, 1 << 20), "f4", chunks=(64, 64))),
            "takes 4398046511104 bytes, 0 are stored",
        ),
        (_replace(lambda file: file.create_dataset(KERNEL, (3, 20), "f4")), "takes 240 bytes, 0 are stored"),
        (_replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), "c8"))), "floating-point"),
        (
            _replace(lambda file: file.create_dataset(KERNEL, dtype=h5py.ref_dtype, data=np.full((3, 20), file.ref))),
            "expected floating-point numbers, found references",
        ),
        (
            _replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), [("a", "f4")]))),
            "expected floating-point numbers",
        ),
        (_replace(lambda file: file.create_dataset(KERNEL, data=np.zeros((3, 20), "V2"))), "floating-point"),
        (_replace(lambda file: file.create_group(KERNEL)), "as layers/lstm/cell/vars/0 to 2, found 1, 2"),
        (_replace(_unknown_filter), "HDF5 filter 305 is not supported"),
        (_cycle, "is an object that stands elsewhere in the file too"),
    ],
)  # fmt: skip
def test_a_hostile_dataset_is_refused(tmp_path, rng, edit, message):
    path = write_keras(
        tmp_path / "a.keras", lstm_model(), {"layers/lstm/cell": keras_lstm_weights(rng, 3, 5)}, edit=edit
    )
    with pytest.raises(CylstmError, match=message) as caught:
        read(path)
    assert "a.keras" in str(caught.value)


@pytest.mark.parametrize("name", ["/model_weights/rnn", "../rnn", "a//b", "rnn/./x", "", "."])
def test_an_unsafe_path_in_an_attribute_is_refused(tmp_path, rng, name):
    def edit(file):
        file["model_weights"].attrs["layer_names"] = [name]

    path = write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": {}}, edit=edit)
    with pytest.raises(FormatError, match="unsafe HDF5 path"):
        read(path)


def _attribute(name, value):
    def edit(file):
        file["model_weights"].attrs[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_attribute("layer_names", np.arange(3.0)), "attribute 'layer_names' expected text"),
        (_attribute("layer_names", np.arange(3)), "attribute 'layer_names' expected text"),
        (_attribute("layer_names", h5py.Empty("f4")), "expected text"),
        (_attribute("layer_names", np.array([b"\xff"])), "not UTF-8"),
        (_attribute("layer_names", ["none"]), "'model_weights/none' is missing in the HDF5 file"),
        (lambda file: file["model_weights"].attrs.pop("layer_names"), "attribute 'layer_names' is missing"),
        (lambda file: file.pop("model_weights"), "'model_weights' is missing"),
        (lambda file: file.attrs.update(model_config="{"), "model_config: not valid JSON"),
        (lambda file: file.attrs.update(model_config=3), "attribute 'model_config' expected text"),
        (lambda file: file.attrs.update(model_config=["a"]), "model_config expected text"),
        (lambda file: file.attrs.update(keras_version=["2"]), "keras_version expected text"),
    ],
)
def test_a_damaged_h5_file_is_refused(tmp_path, edit, message):
    with pytest.raises(FormatError, match=message):
        read(write_h5(tmp_path / "a.h5", lstm_model(), {"rnn": {}}, edit=edit))


def test_weights_without_a_config_are_refused_with_advice(tmp_path, rng):
    with pytest.raises(FormatError, match="an HDF5 file, but not a Keras model"):
        read(write_h5(tmp_path / "a.h5", None, {}))
    with h5py.File(tmp_path / "b.weights.h5", "w") as file:
        file.create_group("layers/lstm/cell/vars")
    with pytest.raises(FormatError, match=r"give architecture=.*or layers="):
        read(tmp_path / "b.weights.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.attrs["layer_names"] = ["rnn"]
    with pytest.raises(FormatError, match=r"give architecture=.*or layers="):
        read(tmp_path / "c.h5")


def test_an_archive_without_its_members_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"model\.weights\.h5 is missing; found config\.json"):
        read(write_zip(tmp_path / "a.keras", [("config.json", b"{}")]))
    with pytest.raises(FormatError, match=r"config\.json is missing"):
        read(write_zip(tmp_path / "a.keras", [("model.weights.h5", b"x")]))
    members = [("config.json", json.dumps(lstm_model()).encode()), ("model.weights.h5", b"hello")]
    with pytest.raises(FormatError, match="names no keras_version"):
        read(write_zip(tmp_path / "a.keras", members))
    with pytest.raises(FormatError, match="expected an HDF5 file, found bytes that begin with b'hello'"):
        read(write_zip(tmp_path / "a.keras", [*members, ("metadata.json", b'{"keras_version": "3.0"}')]))


def test_every_truncation_is_refused(path, rng):
    data = write_lstm(path, keras_lstm_weights(rng, 3, 5)).read_bytes()
    for size in [*range(0, len(data), 499), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match="model"):
            read(path)


def test_a_text_heap_on_which_hdf5_would_loop_for_ever_is_refused(tmp_path, rng):
    path = write_lstm(tmp_path / "a.h5", keras_lstm_weights(rng, 3, 5))
    data = bytearray(path.read_bytes())
    # The second byte of the size of the version's text in the heap.
    place = data.index(b"\x06" + bytes(7) + b"3.15.1")
    data[place + 1] = 2
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the text heap at byte"):
        read(path)


@pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning")
def test_a_changed_byte_gives_a_graph_or_our_own_error(path, rng):
    data = write_lstm(path, keras_lstm_weights(rng, 3, 5)).read_bytes()
    for position in rng.integers(len(data), size=300):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            read(path)
        except CylstmError as error:
            assert "model" in str(error)


def edited(file, folder, edit):
    """A copy of a fixture whose HDF5 file `edit` has changed."""
    target = folder / file
    if not file.endswith(".keras"):
        shutil.copy(FOLDER / file, target)
        with h5py.File(target, "r+") as opened:
            edit(opened)
        return target
    with zipfile.ZipFile(FOLDER / file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as opened:
        edit(opened)
    members["model.weights.h5"] = buffer.getvalue()
    return write_zip(target, list(members.items()))


def tensors_of(file):
    """Paths of the datasets of weights."""
    found = []

    def visit(name, entry):
        if isinstance(entry, h5py.Dataset) and "seed_generator" not in name:
            found.append(name)

    if file.endswith(".keras"):
        with zipfile.ZipFile(FOLDER / file) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    else:
        source = FOLDER / file
    with h5py.File(source) as opened:
        opened.visititems(visit)
    return found


def refused(path, file, message):
    with pytest.raises(CylstmError, match=message) as caught:
        read(path, **options_of(file))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_any_tensor_removed_is_an_error_that_says_where(tmp_path, file):
    for name in tensors_of(file):
        refused(edited(file, tmp_path, lambda opened: opened.pop(name)), file, "expected|missing")  # noqa: B023


@pytest.mark.parametrize("file", FILES)
def test_a_tensor_added_is_named(tmp_path, file):
    name = tensors_of(file)[-1]
    extra = f"{name.rpartition('/')[0]}/extra"
    refused(edited(file, tmp_path, lambda opened: opened.update({extra: np.ones(2, "f4")})), file, "extra")


@pytest.mark.parametrize("file", FILES)
def test_any_tensor_transposed_is_named_with_both_shapes(tmp_path, file):
    def edit(opened):
        array = opened[name][()]
        attributes = dict(opened[name].attrs)
        del opened[name]
        opened[name] = array.T
        opened[name].attrs.update(attributes)

    for name in tensors_of(file):
        with h5py.File(edited(file, tmp_path, lambda opened: None) if file.endswith("h5") else _inner(file)) as opened:
            shape = opened[name].shape
        if shape != shape[::-1]:
            shapes = rf"expected shape \({', '.join(map(str, shape))}\), found"
            refused(edited(file, tmp_path, edit), file, shapes)


def _inner(file):
    with zipfile.ZipFile(FOLDER / file) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_short_is_refused(tmp_path, file):
    data = (FOLDER / file).read_bytes()
    for size in np.linspace(0, len(data) - 1, 12, dtype=int):
        (tmp_path / file).write_bytes(data[:size])
        refused(tmp_path / file, file, "truncated|empty|damaged|expected")


ODD = [None, True, -1, 0, 1, 1 << 40, 1.5, "", "x", [], {}, [[]], [None], {"class_name": "x"}, {"a": {}}, ["x", 1]]


def places_in(tree, start=()):
    """The way to every value in a config."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*start, key)
        yield from places_in(value, (*start, key))


def replaced(tree, place, value):
    found = json.loads(json.dumps(tree))
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


@pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning")
@pytest.mark.parametrize("file", ["bidirectional.weights.h5", "cells.h5", "conv_lstm_2d.keras", "nested.keras"])
def test_a_config_with_any_value_replaced_gives_a_graph_or_our_own_error(tmp_path, file, rng):
    if file.endswith(".keras"):
        with zipfile.ZipFile(FOLDER / file) as archive:
            config = json.loads(archive.read("config.json"))
            (tmp_path / "a.h5").write_bytes(archive.read("model.weights.h5"))
    else:
        shutil.copy(FOLDER / file, tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as opened:
            text = opened.attrs.pop("model_config", None)
            for name in opened.get("model_weights", {}):
                opened.move(f"model_weights/{name}", name)
            opened.attrs.update(opened["model_weights"].attrs if text else {})
            if text:
                del opened["model_weights"]
        config = json.loads(text or (FOLDER / "bidirectional.json").read_text())
    config["keras_version"] = "2.15.0"
    places = list(places_in(config))
    for _ in range(150):
        place, value = places[rng.integers(len(places))], ODD[rng.integers(len(ODD))]
        try:
            read(tmp_path / "a.h5", architecture=replaced(config, place, value))
        except CylstmError as error:
            assert str(error)
        except Exception as error:
            pytest.fail(f"{place} = {value!r}: {error!r}")
