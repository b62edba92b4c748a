"""Hostile Keras files, as tests/formats/untrusted/test_hostile.py: HDF5, archives of it, JSON and configs."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest

from tests.builders.hostile import MB, needs_proc
from tests.builders.weight_files import (
    keras_bidirectional,
    keras_dense,
    keras_input,
    keras_layer,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_keras,
    write_zip,
)

h5py = pytest.importorskip("h5py")

pytestmark = needs_proc

KERNEL = "layers/lstm/cell/vars/0"
OLD_KERNEL = "model_weights/rnn/rnn/kernel:0"


def lstm_model(**options):
    return keras_model(keras_input(None, 3), keras_lstm("rnn", 5, **options))


def archive(path, edit=None, config=None, **options):
    """A model of one LSTM; `edit` changes its HDF5 file."""
    weights = keras_lstm_weights(np.random.default_rng(47), 3, 5)
    config = lstm_model() if config is None else config
    return write_keras(path, config, {"layers/lstm/cell": weights}, edit=edit, **options)


def older(path, edit=None, config=None):
    """The same as an older ``.h5``."""
    weights = keras_lstm_weights(np.random.default_rng(47), 3, 5)
    named = {f"rnn/{name}:0": array for name, array in zip(("kernel", "recurrent_kernel", "bias"), weights)}
    return write_h5(path, lstm_model() if config is None else config, {"rnn": named}, edit=edit)


# Links, storage elsewhere, shapes and types: the kernel is something else


def link(target):
    def make(file, name):
        file[name] = target

    return make


def external_storage(file, name):
    file.create_dataset(name, (3, 20), "f4", external=[("/etc/passwd", 0, 240)])


def virtual(source):
    def make(file, name):
        layout = h5py.VirtualLayout((3, 20), "f4")
        layout[:] = h5py.VirtualSource(source, "x", (3, 20))
        file.create_virtual_dataset(name, layout)

    return make


def dataset(*shape, type_="f4", **options):
    return lambda file, name: file.create_dataset(name, shape, type_, **options)


def of_type(type_):
    def make(file, name):
        made = h5py.h5d.create(file.id, name.encode(), type_, h5py.h5s.create_simple((3, 20)))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(60 * type_.get_size(), np.uint8), type_)

    return make


def chunked(data, chunk=(3, 20), shape=(3, 20), count=1):
    """A compressed dataset whose chunks are `data` as they stand in the file."""

    def make(file, name):
        options = {"chunks": chunk, "maxshape": (None,) * len(shape), "compression": "gzip"}
        made = file.create_dataset(name, shape, "f4", **options)
        for k in range(count):
            try:
                made.id.write_direct_chunk((k * chunk[0],) + (0,) * (len(shape) - 1), data)
            except OSError as error:  # of a chunk much larger than it should be
                pytest.skip(f"this version of HDF5 does not write it: {error}")

    return make


def compressed(size):
    return zlib.compress(bytes(size), 9)


def text_type():
    return h5py.h5t.py_create(h5py.string_dtype(), logical=True)


def enumeration():
    found = h5py.h5t.enum_create(h5py.h5t.STD_I32LE)
    found.enum_insert(b"a", 1)
    return found


ENTRIES = {
    "a soft link": (link(h5py.SoftLink("/layers/lstm/cell/vars/1")), "soft or external link"),
    "a soft link to nothing": (link(h5py.SoftLink("/nowhere")), "soft or external link"),
    "an external link": (link(h5py.ExternalLink("/etc/passwd", "x")), "soft or external link"),
    "external storage": (external_storage, "its data is in another file"),
    "a virtual dataset": (virtual("/etc/passwd"), "its data is in another file"),
    "a virtual dataset of the file itself": (virtual("."), "its data is in another file"),
    "no data": (link(h5py.Empty("f4")), "no data"),
    "2^40 elements, chunked": (dataset(1 << 20, 1 << 20, chunks=(64, 64)), "takes 4398046511104 bytes, 0 are stored"),
    "2^40 elements, compressed": (dataset(1 << 20, 1 << 20, chunks=(64, 64), compression="gzip"), "0 are stored"),
    "2^40 elements, contiguous": (dataset(1 << 20, 1 << 20), "takes 4398046511104 bytes, 0 are stored"),
    "zeros that were never written": (dataset(3, 20), "takes 240 bytes, 0 are stored"),
    "a chunk that expands to 256 MB": (chunked(compressed(256 * MB)), "a chunk has another size than 240 bytes"),
    "a declared expansion of 256 times": (
        chunked(compressed(4 * MB), (1024, 1024), (65536, 1024), 64),
        r"shape \(65536, 1024\) takes 268435456 bytes",
    ),
    "a chunk of 4 GB": (chunked(compressed(240), (1 << 15, 1 << 14)), "its chunks are not as many or not as large"),
    "chunks that are missing": (chunked(compressed(120), (1, 20), count=2), "its chunks are not as many"),
    "a damaged chunk": (chunked(b"x" * 300), "a damaged chunk"),
    "another filter": (dataset(3, 20, chunks=(3, 20), compression="lzf"), "HDF5 filter 32000 is not supported"),
    "a checksum filter": (dataset(3, 20, chunks=(3, 20), fletcher32=True), "HDF5 filter 3 is not supported"),
    "object references": (of_type(h5py.h5t.STD_REF_OBJ), "expected floating-point numbers, found references"),
    "region references": (of_type(h5py.h5t.STD_REF_DSETREG), "expected floating-point numbers, found references"),
    "lists of numbers": (of_type(h5py.h5t.vlen_create(h5py.h5t.IEEE_F32LE)), "found lists of variable length"),
    "texts": (of_type(text_type()), "found lists of variable length"),
    "an enumeration": (of_type(enumeration()), "found an enumeration"),
    "a compound": (link(np.zeros((3, 20), [("a", "f4")])), "found a compound"),
    "arrays": (of_type(h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (4,))), "expected floating-point"),
    "complex numbers": (link(np.zeros((3, 20), "c8")), "expected floating-point numbers, found"),
    "opaque bytes": (link(np.zeros((3, 20), "V3")), "expected floating-point numbers, found"),
    "integers": (link(np.ones((3, 20), "i8")), "expected floating-point numbers, found int64"),
    "wide numbers": (link(np.ones((3, 20), np.longdouble)), "expected floating-point numbers"),
    "a group": (lambda file, name: file.create_group(name), "expected"),
    "a type": (link(np.dtype("f4")), "neither a group nor a dataset"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("name", list(ENTRIES))
def test_a_hostile_dataset_is_refused(tmp_path, refused, kind, name):
    if name == "wide numbers" and np.longdouble(0).itemsize == 8:
        pytest.skip("longdouble is double here")
    make, message = ENTRIES[name]
    place = KERNEL if kind == ".keras" else OLD_KERNEL

    def edit(file):
        del file[place]
        make(file, place)

    refused((archive if kind == ".keras" else older)(tmp_path / f"a{kind}", edit), message)


def patched(path, *changes):
    """`path` with pieces of bytes replaced; each must be there."""
    data = path.read_bytes()
    for old, new in changes:
        assert old in data and len(old) == len(new)
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def test_a_shape_that_the_file_does_not_hold_is_refused(tmp_path, refused):
    sizes = struct.pack("<2Q", 3, 20), struct.pack("<2Q", 1 << 20, 1 << 20)
    stored = struct.pack("<Q", 240), struct.pack("<Q", 1 << 42)
    refused(patched(older(tmp_path / "a.h5"), sizes, stored), "damaged|are stored")
    refused(patched(older(tmp_path / "b.h5"), sizes), "damaged|are stored")
    refused(patched(older(tmp_path / "c.h5"), stored), "damaged|are stored")


def test_datasets_that_share_their_bytes_are_refused(tmp_path, refused):
    """40 kernels of 1 MB in a file of 1 MB."""
    count = 40
    layers = [keras_dense(f"d{i}", 512, use_bias=False) for i in range(count)]
    weights = {f"d{i}": {} for i in range(count)}

    def edit(file):
        root = file["model_weights"]
        for i in range(count):
            root[f"d{i}"].attrs["weight_names"] = [f"d{i}/kernel:0"]
            made = root[f"d{i}"].create_dataset(f"d{i}/kernel:0", (512, 512), "f4")
            if i == 0:
                made[...] = np.ones((512, 512))
                addresses.append(made.id.get_offset())

    addresses = []
    path = write_h5(tmp_path / "a.h5", keras_model(keras_input(512), *layers), weights, edit=edit)
    # layout of version 3, contiguous, nowhere
    patched(path, (b"\x03\x01" + b"\xff" * 8, b"\x03\x01" + struct.pack("<Q", addresses[0])))
    refused(path, "the datasets claim more bytes than the file has")


# Groups


def cycle(file):
    file["layers/lstm/cell/again"] = file["layers"]


def itself(file):
    file["layers/lstm/lstm"] = file["layers/lstm"]


def alias(file):
    file["layers/lstm/cell/vars/3"] = file[KERNEL]


def deep(file):
    group = file["layers"]
    for _ in range(2000):
        group = group.create_group("g")


def middle(target):
    def edit(file):
        file.move("layers/lstm", "elsewhere")
        file["layers/lstm"] = target

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (cycle, "an object that stands elsewhere"),
        (itself, "an object that stands elsewhere"),
        (alias, "an object that stands elsewhere"),
        (deep, "too many or too deeply nested groups"),
        (middle(h5py.SoftLink("/elsewhere")), "soft or external link"),
        (middle(h5py.ExternalLink("/etc/passwd", "/")), "soft or external link"),
    ],
)
def test_hostile_groups_are_refused(tmp_path, refused, edit, message):
    refused(archive(tmp_path / "a.keras", edit), message)


def behind(path, target):
    """What stood at `path` stands elsewhere, and `path` is a link."""

    def edit(file):
        file.move(path, "elsewhere")
        file[path] = target

    return edit


@pytest.mark.parametrize("target", [h5py.SoftLink("/elsewhere"), h5py.ExternalLink("/etc/passwd", "/")])
@pytest.mark.parametrize("path", ["model_weights", "model_weights/rnn", "model_weights/rnn/rnn"])
def test_a_link_at_any_depth_of_an_older_file_is_refused(tmp_path, refused, path, target):
    refused(older(tmp_path / "a.h5", behind(path, target)), "soft or external link")


@pytest.mark.parametrize("target", [h5py.SoftLink("/elsewhere"), h5py.ExternalLink("/etc/passwd", "/")])
@pytest.mark.parametrize("path", ["layers", "layers/lstm", "layers/lstm/cell", "layers/lstm/cell/vars"])
def test_a_link_at_any_depth_of_an_archive_is_refused(tmp_path, refused, path, target):
    refused(archive(tmp_path / "a.keras", behind(path, target)), "soft or external link")


@pytest.mark.parametrize("name", ["/model_weights/rnn", "../rnn", "a//b", "rnn/./x", "", ".", "a\0b", "x/" * 100])
@pytest.mark.parametrize("attribute", ["layer_names", "weight_names"])
def test_an_unsafe_name_in_an_attribute_is_refused(tmp_path, refused, name, attribute):
    def edit(file):
        owner = file["model_weights" if attribute == "layer_names" else "model_weights/rnn"]
        owner.attrs[attribute] = np.array([name.encode()], "S") if "\0" not in name else [name.replace("\0", "/../")]

    refused(older(tmp_path / "a.h5", edit), "unsafe HDF5 path|is missing|is not expected")


# Attributes


def attribute(name, value):
    def edit(file):
        del file["model_weights"].attrs[name]
        file["model_weights"].attrs[name] = value

    return edit


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.arange(3), "attribute 'layer_names' expected text"),
        (np.arange(3.0), "attribute 'layer_names' expected text"),
        (h5py.Empty("f4"), "attribute 'layer_names' expected text"),
        (np.array([b"\xff"]), "not UTF-8"),
        (np.zeros(3, [("a", "f4")]), "attribute 'layer_names' expected text"),
        (np.zeros(3, "V8"), "attribute 'layer_names' expected text"),
    ],
)
def test_an_attribute_of_another_type_is_refused(tmp_path, refused, value, message):
    refused(older(tmp_path / "a.h5", attribute("layer_names", value)), message)


def test_an_attribute_of_references_is_refused(tmp_path, refused):
    def edit(file):
        file["model_weights"].attrs["layer_names"] = np.array([file.ref] * 3, h5py.ref_dtype)

    refused(older(tmp_path / "a.h5", edit), "attribute 'layer_names' expected text")


def reference_of(data, attribute):
    """Where a file has the length, heap and index of an attribute's first text."""
    place = data.index(attribute.encode() + b"\0")
    while data[int.from_bytes(data[place + 4 : place + 12], "little") :][:4] != b"GCOL":
        place += 1
    return place


def test_names_that_are_all_one_large_text_are_refused(tmp_path, refused):
    """3000 names of 1 MB, which is in the file once."""

    def edit(file):
        root = file["model_weights"]
        root.attrs["large"] = "b" * MB
        root.attrs["layer_names"] = [f"n{i:04}" for i in range(3000)]

    path = older(tmp_path / "a.h5", edit)
    data = path.read_bytes()
    large, names = reference_of(data, "large"), reference_of(data, "layer_names")
    path.write_bytes(data[:names] + data[large : large + 16] * 3000 + data[names + 48000 :])
    refused(path, "attribute 'layer_names': the texts are too long, or all the same one")


@pytest.mark.parametrize(
    ("offset", "size", "value", "message"),
    [
        (0, 4, 0xF0000000, "has a text of 4026531840 bytes"),
        (4, 8, 1 << 40, "no text heap at byte"),
        (4, 8, 100, "no text heap at byte 100"),
        (12, 4, 999, "has no object 999"),
    ],
)
def test_a_text_that_is_not_where_it_should_be_is_refused(tmp_path, refused, offset, size, value, message):
    """The library would allocate and clear what the attribute claims."""
    path = older(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    place = reference_of(data, "model_config") + offset
    data[place : place + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    refused(path, message)


@pytest.mark.parametrize("size", [24, (1 << 32) - 16, (1 << 64) - 16, 1 << 63])
def test_a_heap_of_texts_that_lies_about_a_size_is_refused(tmp_path, refused, size):
    """The library would loop for ever."""
    path = older(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    place = data.index(b"\x06" + bytes(7) + b"2.15.0")
    data[place : place + 8] = size.to_bytes(8, "little")
    path.write_bytes(data)
    refused(path, "the text heap at byte|has no object|a text of")


def test_a_user_block_is_refused(tmp_path, refused):
    for path in (tmp_path / "a.h5", tmp_path / "b.keras"):
        content = io.BytesIO()
        with h5py.File(content, "w", userblock_size=512) as file:
            file["layers/lstm/cell/vars/0"] = np.ones(3)
        if path.suffix == ".h5":
            path.write_bytes(content.getvalue())
        else:
            members = [
                ("metadata.json", b'{"keras_version": "3.0"}'),
                ("config.json", json.dumps(lstm_model()).encode()),
            ]
            write_zip(path, [*members, ("model.weights.h5", content.getvalue())])
        refused(path, "expected an HDF5 file, found|expected a Keras model in HDF5 or")


# Archives


def members_of(path):
    with zipfile.ZipFile(archive(path)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_member_that_expands_to_256_mb_is_refused(tmp_path, refused, name):
    members = members_of(tmp_path / "a.keras") | {name: bytes(256 * MB)}
    refused(write_zip(tmp_path / "b.keras", list(members.items()), zipfile.ZIP_DEFLATED), "claims? 268\\d+ bytes")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_two_members_of_one_name_are_refused(tmp_path, refused, name):
    members = list(members_of(tmp_path / "a.keras").items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(tmp_path / "b.keras", [*members, (name, b"{}")])
    refused(path, "two members are named")


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "a\\b", "a/../../b"])
def test_an_unsafe_member_is_refused(tmp_path, refused, name):
    members = list(members_of(tmp_path / "a.keras").items())
    refused(write_zip(tmp_path / "b.keras", [*members, (name, b"x")]), "unsafe member name")


def test_overlapping_members_are_refused(tmp_path, refused):
    """The weights begin where the config does."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, data in members_of(tmp_path / "a.keras").items():
            opened.writestr(name, data)
    data = bytearray(content.getvalue())
    entries = [place for place in range(len(data)) if data[place : place + 4] == b"PK\x01\x02"]
    data[entries[2] + 42 : entries[2] + 46] = data[entries[1] + 42 : entries[1] + 46]
    (tmp_path / "b.keras").write_bytes(data)
    refused(tmp_path / "b.keras", "overlaps what follows")


def test_weights_in_pickled_arrays_are_refused(tmp_path, refused):
    members = members_of(tmp_path / "a.keras")
    del members["model.weights.h5"]
    members["model.weights.npz"] = b"x"
    refused(write_zip(tmp_path / "b.keras", list(members.items())), "model.weights.h5 is missing")


# JSON: in an archive, in an attribute, as a file beside the weights


def repeated_key(text):
    return text.replace('"units": 5', '"units": 5, "units": 6')


TEXTS = {
    "depth": (lambda text: "[" * MB, "nested too deeply"),
    "depth inside": (lambda text: text.replace('"units": 5', '"units": ' + "[" * 1000 + "]" * 1000), "too deeply"),
    "elements": (lambda text: "[" + "{}," * MB + "0]", "too many elements"),
    "duplicate keys": (repeated_key, "the key 'units' stands twice"),
    "a giant integer": (lambda text: text.replace('"units": 5', '"units": ' + "9" * 100_000), "an integer of 100000"),
    "2^40": (lambda text: text.replace('"units": 5', f'"units": {1 << 40}'), "option units expected 1 to 1000000"),
    "many units": (lambda text: text.replace('"units": 5', '"units": 1000000'), r"expected shape \(3, 4000000\)"),
    "minus": (lambda text: text.replace('"units": 5', '"units": -5'), "option units expected 1 to 1000000"),
    "a fraction": (lambda text: text.replace('"units": 5', '"units": 5.0'), "option units expected 1 to 1000000"),
    "not a number": (lambda text: text.replace('"units": 5', '"units": NaN'), "NaN is not JSON"),
    "infinity": (lambda text: text.replace('"units": 5', '"units": 1e999'), "a number out of range"),
    "not text": (lambda text: text.replace("rnn", "\ud800"), "JSON|UTF-8|name"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["config.json", "model_config", "architecture"])
@pytest.mark.parametrize("name", list(TEXTS))
def test_hostile_json_is_refused(tmp_path, refused, where, name):
    make, message = TEXTS[name]
    text = make(json.dumps(lstm_model())).encode("utf-8", "surrogatepass")
    options = {}
    if where == "config.json":
        path = archive(tmp_path / "a.keras", config=text)
    elif where == "model_config":
        if name == "not text":  # h5py writes no such text of variable length
            pytest.skip("in the other places")
        path = older(tmp_path / "a.h5", lambda file: file.attrs.update(model_config=text.decode()))
    else:
        (tmp_path / "a.json").write_bytes(text)
        path = tmp_path / "a.weights.h5"
        path.write_bytes(members_of(tmp_path / "a.keras")["model.weights.h5"])
        options = {"architecture": str(tmp_path / "a.json")}
    if where == "architecture":
        message += "|a.json"
    refused(path, message, **options)


# Configs: nothing in them is run


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAAAAAAA", "defaults": None, "closure": None}}


def deeply_bidirectional(depth):
    layer = keras_lstm("rnn", 5)
    for _ in range(depth):
        layer = keras_bidirectional("b", layer)
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras_layer("Lambda", "x", function=LAMBDA), "a Lambda is a program, which is not run"),
        (keras_layer("Lambda", "x", function=["4wEA", None, None], module="os"), "a Lambda is a program"),
        (keras_layer("Dense", "x", units=2, activation=LAMBDA), "__lambda__ is not supported"),
        (keras_layer("Dense", "x", units=2, activation={"class_name": "function", "config": "os.system"}), "os.system"),
        (keras_layer("Dense", "x", units=2, activation="os.system"), "activation 'os.system' is not supported"),
        ({**keras_layer("Dense", "x", units=2), "module": "os", "class_name": "system"}, "module 'os' is not one of"),
        ({**keras_layer("Mine", "x"), "registered_name": "pack>Mine"}, "custom objects are not supported"),
        ({**keras_layer("LSTM", "x"), "registered_name": "pack>LSTM"}, "custom objects are not supported"),
        (keras_layer("TorchModuleWrapper", "x", module="b64"), "TorchModuleWrapper"),
        (keras_layer("TFSMLayer", "x", filepath="/etc"), "TFSMLayer"),
        (keras_layer("StringLookup", "x", vocabulary="/etc/passwd"), "StringLookup"),
        (deeply_bidirectional(40), "Bidirectional|nested too deeply"),
        (keras_layer("RNN", "x", cell=LAMBDA), "without a name|__lambda__"),
        ({"class_name": "LSTM"}, "expected an object with class_name and config"),
        (None, "expected an object with class_name and config"),
    ],
)
def test_a_config_that_would_run_something_is_refused(tmp_path, refused, layer, message):
    config = keras_model(keras_input(None, 3), layer)
    refused(archive(tmp_path / "a.keras", config=config), message)
    refused(older(tmp_path / "b.h5", config=config), message)


def test_a_config_of_very_many_layers_is_refused(tmp_path, refused):
    config = keras_model(keras_input(None, 3), *[{"class_name": "Dense"}] * 20_000)
    refused(archive(tmp_path / "a.keras", config=config), "a list of 1 to 10000 layers")


# An index of weights


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": ["../../etc/passwd"]}, "an unsafe file name"),
        ({"a": ["/etc/passwd"]}, "an unsafe file name"),
        ({"a": ["x\0.h5"]}, "an unsafe file name"),
        ({"a": [f"{i}.h5" for i in range(2000)]}, "an index of 2000 files; at most 1000"),
        ({"a": [".."]}, "an unsafe file name"),
        ({"a": [["b"]]}, "expected the names of files"),
        ({"a": ["net.weights.json"]}, "expected an HDF5 file"),
    ],
)
def test_a_hostile_index_is_refused(tmp_path, refused, places, message):
    path = tmp_path / "net.weights.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    refused(path, message, layers=False, architecture=json.dumps(lstm_model()))
