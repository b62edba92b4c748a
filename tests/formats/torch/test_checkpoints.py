"""PyTorch checkpoints, read without PyTorch."""

import zipfile

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests.builders.weight_files import (
    array_tensor,
    call,
    dictionary,
    global_,
    integer,
    linear_tensors,
    lstm_tensors,
    ordered_dict,
    program,
    storage,
    tensor,
    text,
    tuple_of,
    write_torch,
    write_zip,
)

LAYERS = [L.LSTM("lstm"), L.Last(), L.Linear("fc")]


@pytest.fixture
def tensors(rng):
    return lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)


def assert_same(graph, tensors):
    """The graph holds exactly these tensors of ``LAYERS``."""
    expected = {
        "lstm.l0.weight_ih": tensors["lstm.weight_ih_l0"],
        "lstm.l0.weight_hh": tensors["lstm.weight_hh_l0"],
        "lstm.l0.bias": tensors["lstm.bias_ih_l0"] + tensors["lstm.bias_hh_l0"],
        "fc.weight": tensors["fc.weight"],
        "fc.bias": tensors["fc.bias"],
    }
    assert set(graph.tensors) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(graph.tensors[name], array, err_msg=name)


def linear_file(path, body, data, **options):
    """A checkpoint whose ``fc.weight`` is `body`, with storage "0" of `data`."""
    state = ordered_dict({"fc.weight": body})
    return write_torch(path, {}, body=state, members=[("net/data/0", data)], **options)


def read_linear(path):
    return read(path, layers=[L.Linear("fc")]).tensors["fc.weight"]


@pytest.mark.parametrize("extension", [".pt", ".pth", ".anything"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_state_dict_is_read(tmp_path, tensors, extension, order):
    path = write_torch(tmp_path / f"net{extension}", tensors, order=order)
    graph = read(path, layers=LAYERS)
    assert_same(graph, tensors)
    assert graph.provenance["format"] == "torch"
    assert graph.provenance["version"] == "3"
    assert graph.provenance["source"] == str(path)
    assert graph.provenance["tensors"]["fc.bias"] == "fc/bias"


def test_a_path_may_be_text_and_the_root_folder_absent(tmp_path, tensors):
    assert_same(read(str(write_torch(tmp_path / "net.pt", tensors, root="archive")), layers=LAYERS), tensors)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "weights"])
def test_a_state_dict_inside_a_checkpoint_is_found(tmp_path, tensors, key):
    def wrap(state):
        optimizer = dictionary({"state": b"}", "param_groups": b"]"})
        return dictionary({"epoch": integer(3), "args": call("argparse.Namespace"), key: state, "optimizer": optimizer})

    assert_same(read(write_torch(tmp_path / "net.pt", tensors, wrap=wrap), layers=LAYERS), tensors)


def test_numbers_and_text_among_the_tensors_are_ignored(tmp_path, tensors):
    def wrap(state):
        return state + b"(" + text("hidden") + integer(5) + text("name") + text("x") + b"u"

    assert_same(read(write_torch(tmp_path / "net.pt", tensors, wrap=wrap), layers=LAYERS), tensors)


def test_parameters_are_read_as_their_tensors(tmp_path):
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain = array_tensor("0", data)
    parameter = call("torch._utils._rebuild_parameter", plain, b"\x88", call("collections.OrderedDict"))
    typed = call(
        "torch._tensor._rebuild_from_type_v2",
        global_("torch._utils._rebuild_parameter"),
        global_("torch.nn.parameter.Parameter"),
        tuple_of(plain, b"\x88", call("collections.OrderedDict")),
        b"N",
    )
    for body in (parameter, typed):
        np.testing.assert_array_equal(read_linear(linear_file(tmp_path / "a.pt", body, data.tobytes())), data)


def test_strides_and_offsets_are_obeyed(tmp_path):
    data = np.arange(20, dtype=np.float32)
    body = tensor("Float", "0", 20, 3, (2, 4), (1, 3))
    expected = np.lib.stride_tricks.as_strided(data[3:], (2, 4), (4, 12))
    np.testing.assert_array_equal(read_linear(linear_file(tmp_path / "a.pt", body, data.tobytes())), expected)


def test_a_storage_may_be_shared_and_an_element_repeated(tmp_path):
    data = np.arange(6, dtype=np.float32)
    state = ordered_dict(
        {"a.weight": tensor("Float", "0", 6, 0, (2, 3), (3, 1)), "b.weight": tensor("Float", "0", 6, 4, (3, 2), (0, 1))}
    )
    path = write_torch(tmp_path / "a.pt", {}, body=state, members=[("net/data/0", data.tobytes())])
    found = read(path, layers=[L.Linear("a"), L.Linear("b")]).tensors
    np.testing.assert_array_equal(found["a.weight"], data.reshape(2, 3))
    np.testing.assert_array_equal(found["b.weight"], [[4, 5]] * 3)


def test_half_precision_becomes_float32_and_double_stays(tmp_path, rng):
    data = rng.standard_normal((2, 3))
    half = data.astype(np.float16)
    found = read_linear(linear_file(tmp_path / "a.pt", array_tensor("0", half), half.tobytes()))
    np.testing.assert_array_equal(found, half.astype(np.float32))
    found = read_linear(linear_file(tmp_path / "b.pt", array_tensor("0", data), data.tobytes()))
    np.testing.assert_array_equal(found, data)
    bits = (data.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    found = read_linear(linear_file(tmp_path / "c.pt", array_tensor("0", bits), bits.tobytes()))
    np.testing.assert_array_equal(found, (bits.astype(np.uint32) << 16).view(np.float32))
    assert found.dtype == np.float32


def test_without_layers_the_error_names_the_file_and_proposes_them(tmp_path, tensors):
    path = write_torch(tmp_path / "net.pt", tensors)
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert 'layers=[cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]' in str(caught.value)


def test_an_integer_tensor_left_over_is_named(tmp_path, tensors):
    tensors["norm.num_batches_tracked"] = np.array(5, np.int64)
    with pytest.raises(FormatError, match=r"norm\.num_batches_tracked \(\)"):
        read(write_torch(tmp_path / "net.pt", tensors), layers=LAYERS)


def test_a_pickle_that_calls_os_system_is_refused_by_name(tmp_path):
    marker = tmp_path / "made"
    path = write_torch(tmp_path / "a.pt", {}, body=call("os.system", text(f"touch {marker}")))
    with pytest.raises(UnsupportedError, match=r"calls os\.system, which is not run"):
        read(path, layers=LAYERS)
    assert not marker.exists()


def test_a_tensor_made_by_os_system_is_refused_by_name(tmp_path, tensors):
    def wrap(state):
        return state + b"(" + text("fc.extra") + call("os.system", text("true")) + b"u"

    with pytest.raises(UnsupportedError, match=r"'fc\.extra' is made by os\.system"):
        read(write_torch(tmp_path / "a.pt", tensors, wrap=wrap), layers=LAYERS)


def test_a_call_beside_the_state_dict_stays_inert(tmp_path, tensors):
    marker = tmp_path / "made"

    def wrap(state):
        return dictionary({"hook": call("os.system", text(f"touch {marker}")), "state_dict": state})

    assert_same(read(write_torch(tmp_path / "a.pt", tensors, wrap=wrap), layers=LAYERS), tensors)
    assert not marker.exists()


def test_a_state_dict_made_by_an_unknown_call_is_named(tmp_path):
    body = dictionary({"state_dict": call("my.module.Weights"), "epoch": integer(1)})
    with pytest.raises(FormatError, match=r"'state_dict' \(made by my\.module\.Weights\)"):
        read(write_torch(tmp_path / "a.pt", {}, body=body), layers=LAYERS)


def test_a_pickled_module_is_refused_with_advice(tmp_path):
    body = global_("__main__.Net") + b")\x81" + dictionary({"training": b"\x89"}) + b"b"
    with pytest.raises(UnsupportedError, match=r"__main__\.Net.*save module\.state_dict\(\)"):
        read(write_torch(tmp_path / "a.pt", {}, body=body), layers=LAYERS)


def test_several_state_dicts_are_listed(tmp_path, tensors):
    def wrap(state):
        other = ordered_dict({"x": tensor("Float", "0", 60, 0, (2,), (1,))})
        return dictionary({"model": state, "ema": other})

    path = write_torch(tmp_path / "a.pt", tensors, wrap=wrap)
    with pytest.raises(FormatError, match="several state dicts; choose one with key='model' or key='ema'"):
        read(path, layers=LAYERS)
    graph = read(path, layers=LAYERS, key="model")
    assert_same(graph, tensors)
    assert (graph.provenance["key"], graph.provenance["beside"]) == ("model", ("ema",))
    with pytest.raises(FormatError, match="no state dict under 'net'; found key='model' or key='ema'"):
        read(path, layers=LAYERS, key="net")


def module_of(parameters=None, modules=None, **state):
    """The opcodes of a pickled module."""
    parts = {"training": b"\x89", "_parameters": dictionary(parameters or {}), "_buffers": b"}"}
    parts |= {"_modules": dictionary(modules or {}), **state}
    return global_("__main__.Net") + b")\x81" + dictionary(parts) + b"b"


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: dictionary({"net": body, "epoch": integer(1)})])
def test_a_pickled_module_gives_its_weights(tmp_path, tensors, wrap):
    def opcodes(prefix):
        names = [name for name in tensors if name.startswith(prefix)]
        return {name[len(prefix) :]: array_tensor(str(list(tensors).index(name)), tensors[name]) for name in names}

    children = {"lstm": module_of(opcodes("lstm.")), "fc": module_of(opcodes("fc."))}
    graph = read(write_torch(tmp_path / "a.pt", tensors, body=wrap(module_of(modules=children))), layers=LAYERS)
    assert_same(graph, tensors)
    assert graph.provenance["note"] == "the weights of a pickled module; its class is not imported"


def test_a_torchscript_archive_gives_its_weights(tmp_path, tensors):
    def child(prefix):
        names = [name for name in tensors if name.startswith(prefix)]
        state = {name[len(prefix) :]: array_tensor(str(list(tensors).index(name)), tensors[name]) for name in names}
        return global_("__torch__.torch.nn.Any") + b")\x81" + dictionary({"training": b"\x89", **state}) + b"b"

    state = {"training": b"\x88", "lstm": child("lstm."), "fc": child("fc.")}
    body = global_("__torch__.Net") + b")\x81" + dictionary(state) + b"b"
    path = write_torch(tmp_path / "a.pt", tensors, body=body, members=[("net/constants.pkl", program(b")"))])
    graph = read(path, layers=LAYERS)
    assert_same(graph, tensors)
    assert graph.provenance["format"] == "torchscript"
    assert "its program is not run" in graph.provenance["note"]


def test_a_module_that_holds_itself_is_refused(tmp_path):
    inner = b"h\x05"
    body = global_("__main__.Net") + b")\x81q\x05"
    body += dictionary({"_parameters": b"}", "_modules": dictionary({"a": inner, "b": inner})}) + b"b"
    with pytest.raises(FormatError, match="nested without end"):
        read(write_torch(tmp_path / "a.pt", {}, body=body), layers=LAYERS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"}", "no state dict found; the entries are none"),
        (b"]", "expected a state dict, found a list"),
        (tensor("Float", "0", 1, 0, (1,), (1,)), "a single tensor"),
        (b"K\x05", "expected a state dict, found a int"),
        (dictionary({"a": dictionary({"b": b"}"})}), "the entries are 'a'"),
    ],
)
def test_a_checkpoint_without_a_state_dict_is_refused(tmp_path, body, message):
    path = write_torch(tmp_path / "a.pt", {}, body=body, members=[("net/data/0", b"abcd")])
    with pytest.raises(FormatError, match=message):
        read(path, layers=LAYERS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (tensor("Float", "0", 12, 0, (3, 4), (4, 2)), "reach element 14 of a storage of 12"),
        (tensor("Float", "0", 12, 8, (5,), (1,)), "reach element 12"),
        (tensor("Float", "0", 12, -1, (2,), (1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (-2,), (1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (2,), (-1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (2, 3), (1,)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (1 << 40,), (0,)), "4398046511104 bytes from storages of only 48"),
        (tensor("Float", "0", 12, 0, (0, 1 << 61), (1, 1)), "natural numbers"),
        (tensor("Float", "0", 12, 0, (1,) * 33, (1,) * 33), "natural numbers"),
        (tensor("Float", "0", 13, 0, (2,), (1,)), "expected 52 bytes, found 48"),
        (tensor("Double", "0", 12, 0, (2,), (1,)), "expected 96 bytes, found 48"),
        (tensor("Float", "7", 12, 0, (2,), (1,)), "'net/data/7', is missing"),
        (tensor("Float", "../0", 12, 0, (2,), (1,)), "is missing"),
        (tensor("ComplexFloat", "0", 6, 0, (2,), (1,)), r"torch\.ComplexFloatStorage is not supported"),
        (call("torch._utils._rebuild_tensor_v2", b"N", b"N", b"N", b"N", b"N", b"N"), "without a storage"),
        (call("torch._utils._rebuild_tensor_v2", storage("Float", "0", 12)), "arguments it does not take"),
        (
            call(
                "torch._utils._rebuild_tensor_v3", storage("Float", "0", 12), integer(0), tuple_of(integer(2)),
                tuple_of(integer(1)), b"\x89", b"}", global_("torch.int64"),
            ),
            "a int64 tensor in a float32 storage",
        ),
        (
            call(
                "torch._utils._rebuild_tensor_v2", storage("Float", "0", 12), integer(0), tuple_of(integer(2)),
                tuple_of(integer(1)), b"\x89", b"}", dictionary({"conj": b"\x88"}),
            ),
            "conjugated",
        ),
        (text("storage") + b"Q", "names no storage"),
        (tuple_of(text("file"), b"N", b"N", b"N", b"N") + b"Q", "names no storage"),
        (tuple_of(text("storage"), text("x"), text("0"), text("cpu"), integer(1)) + b"Q", "unknown way"),
    ],
)  # fmt: skip
def test_a_hostile_tensor_is_refused(tmp_path, body, message):
    with pytest.raises(CylstmError, match=message):
        read_linear(linear_file(tmp_path / "a.pt", body, bytes(48)))


def test_many_small_repeated_tensors_do_not_add_up_to_gigabytes(tmp_path):
    state = ordered_dict({f"w{i}": tensor("Float", "0", 12, 0, (1000, 1 + i), (0, 0)) for i in range(2000)})
    path = write_torch(tmp_path / "a.pt", {}, body=state, members=[("net/data/0", bytes(48))])
    with pytest.raises(FormatError, match="from storages of only 48"):
        read(path, layers=LAYERS)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("net/data.pkl", b"x"), ("net/data.pkl", b"y")], "two members are named 'net/data.pkl'"),
        ([("net/data.pkl", b"x"), ("/etc/passwd", b"y")], "unsafe member name"),
        ([("net/data.pkl", b"x"), ("../up", b"y")], "unsafe member name"),
        ([("net/data.pkl", b"x"), ("a\\b", b"y")], "unsafe member name"),
        ([("a/data.pkl", b"x"), ("b/data.pkl", b"y")], r"expected one data\.pkl.*found 2"),
        ([("net/data.pkl", b"x"), ("net/byteorder", b"middle")], "found 'middle'"),
        ([("something", b"x")], "neither a PyTorch checkpoint nor a Keras model; it holds something"),
        ([], "it holds nothing"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_is_no_checkpoint_is_refused(tmp_path, members, message):
    with pytest.raises(CylstmError, match=message):
        read(write_zip(tmp_path / "a.pt", members), layers=LAYERS)


def test_a_compressed_checkpoint_is_refused(tmp_path, tensors):
    path = write_torch(tmp_path / "a.pt", tensors, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="compressed"):
        read(path, layers=LAYERS)


def test_a_compression_bomb_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.pt", [("net/data.pkl", bytes(10_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="claims 10000000 bytes"):
        read(path, layers=LAYERS)


def test_an_encrypted_archive_is_refused(tmp_path, tensors):
    path = write_torch(tmp_path / "a.pt", tensors)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsupportedError, match="encrypted"):
        read(path, layers=LAYERS)


def test_tensors_whose_bytes_overlap_are_refused(tmp_path, tensors):
    path = write_torch(tmp_path / "a.pt", tensors)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"net/data/{i}").header_offset for i in (2, 3))
    # Both directory entries of the two equally long biases then name the same bytes.
    entry = data.rindex(b"net/data/3") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 42 : entry + 46] = first.to_bytes(4, "little")
    assert first != second
    path.write_bytes(data)
    with pytest.raises(FormatError, match="overlaps"):
        read(path, layers=LAYERS)


def test_every_truncation_of_a_checkpoint_is_refused(tmp_path, tensors):
    data = write_torch(tmp_path / "a.pt", tensors).read_bytes()
    path = tmp_path / "b.pt"
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"b\.pt"):
            read(path, layers=LAYERS)


@pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning")
def test_a_changed_byte_gives_a_graph_or_our_own_error(tmp_path, rng):
    tensors = lstm_tensors(rng, "", 1, 1)
    data = write_torch(tmp_path / "a.pt", tensors).read_bytes()
    path = tmp_path / "b.pt"
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            read(path, layers=[L.LSTM("")])
        except CylstmError as error:
            assert "b.pt" in str(error)


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.pt", b"", FormatError, "the file is empty"),
        ("a.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", FormatError, "protocol: 1 bytes expected, 0 left"),
        ("a.pt", program(b"}"), UnsupportedError, "plain pickles"),
        ("a.pkl", b"(dp0\n.", UnsupportedError, "plain pickles"),
        ("a.pt", bytes(257) + b"ustar\x0000" + bytes(300), UnsupportedError, "tar archive"),
        ("a.pt", b"hello world", FormatError, "expected a PyTorch checkpoint"),
        ("a.onnx", b"\x08\x0a\x12\x07pytorch", FormatError, "which version of ONNX's operators it has; truncated"),
        ("a.onnx", b"hello world", FormatError, "expected a model of ONNX"),
        ("a.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(9), UnsupportedError, "TensorFlow Lite"),
        ("a.bin", b"\x1c\x00\x00\x00TFL3" + bytes(9), UnsupportedError, "TensorFlow Lite"),
        ("saved_model.pb", b"\x08\x01\x12", UnsupportedError, "SavedModel"),
        ("a.npy", b"\x93NUMPY\x01\x00", UnsupportedError, "single NumPy array"),
        ("a.json", b"[1]", UnsupportedError, "config without weights"),
        ("a.json", b'{"class_name": "Sequential", "config": {}}', FormatError, "with architecture= this file"),
        ("a.json", b'{"architectures": ["X"], "model_type": "x"}', UnsupportedError, "the file of weights beside it"),
        ("a.json", b'{"modelTopology": {}, "weightsManifest": []}', UnsupportedError, "TensorFlow.js"),
        ("a.nam", b'{"version": "0.5", "architecture": "LSTM", "weights": []}', UnsupportedError, "Neural Amp Modeler"),
        ("a.json", b'{"something": 1, "else": 2}', FormatError, "no known kind.*found 'else', 'something'"),
        ("a.json", b'{"something": 1,', FormatError, "not valid JSON"),
        (
            "a.keras",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 123\n",
            FormatError,
            "a pointer of Git LFS to a file of 123 bytes, .*git lfs pull",
        ),
        ("a.h5", b"<!DOCTYPE html><html>", FormatError, "a web page .*download the file itself"),
        ("a.pt", b"\n  <html lang='en'>", FormatError, "a web page"),
        ("a.xml", b"<?xml version='1.0'?><net/>", UnsupportedError, "an XML text"),
        ("a.pt", b"\x1f\x8b\x08\x00", FormatError, "compressed with gzip; unpack it"),
        ("a.keras", b"\x28\xb5\x2f\xfd\x00", FormatError, "compressed with Zstandard"),
        ("checkpoint", b'model_checkpoint_path: "w"\n', UnsupportedError, "TensorFlow checkpoints .*load_weights"),
        ("w.data-00000-of-00001", bytes(40), UnsupportedError, "TensorFlow checkpoints"),
        ("w.index", bytes(40) + bytes.fromhex("57fb808b247547db"), UnsupportedError, "TensorFlow checkpoints"),
        ("a.bin", bytes(40) + bytes.fromhex("57fb808b247547db"), UnsupportedError, "TensorFlow checkpoints"),
        ("a.bin", b"\x08\x01\x12\xf5\xa9\x02\x0a", UnsupportedError, "SavedModel"),
        (
            "keras_metadata.pb",
            b"\x0a\x9e\x20\x08\x01\x12\x04root\x22\x13_tf_keras_sequential",
            UnsupportedError,
            "SavedModel",
        ),
        ("a.bin", b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder", UnsupportedError, "frozen graph"),
        ("a.bin", b"\x08\x08\x12\x07pytorch\x1a\x04", FormatError, "Model: 4 bytes expected, 0 found; truncated"),
        ("a.bin", b"\x08\x07\x3a\xff\x01\x0a", FormatError, "Model: 255 bytes expected, 1 found; truncated"),
        ("a.bin", b"\x08\x04\x12\x50\x0a\x20", UnsupportedError, "Core ML"),
        ("a.bin", b"GGUF\x03", UnsupportedError, "GGUF"),
        ("a.mat", b"MATLAB 5.0 MAT-file, Platform", UnsupportedError, "scipy.io.loadmat"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False", UnsupportedError, "Python objects"),
        ("a.keras", b"hello world", FormatError, "expected a Keras archive"),
        ("a.h5", b"hello world", FormatError, "expected a Keras model in HDF5"),
        ("a.xyz", b"hello world", UnsupportedError, "unknown kind of file"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name, data, error, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_savedmodel_directory_is_refused_by_name(tmp_path):
    with pytest.raises(FormatError, match="a directory, .* it is empty"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(UnsupportedError, match="SavedModels are not supported"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["w.index", "w.data-00000-of-00001", "checkpoint"], UnsupportedError, "TensorFlow checkpoints"),
        (["Manifest.json", "Data"], UnsupportedError, "Core ML"),
        (["b.safetensors", "a.pt", "notes.txt"], FormatError, "give one of those in it: a.pt, b.safetensors$"),
        (["notes.txt"], FormatError, "no weights are in it: it holds notes.txt"),
    ],
)
def test_a_folder_tells_what_in_it_can_be_read(tmp_path, names, error, message):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(error, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("member", "message"),
    [("net/saved_model.pb", "it holds a SavedModel"), ("models/a.keras", "unpack it and load models/a.keras")],
)
def test_an_archive_tells_what_in_it_can_be_read(tmp_path, member, message):
    write_zip(tmp_path / "a.zip", [(member, b"x"), ("readme.txt", b"y")])
    with pytest.raises(CylstmError, match=message):
        read(tmp_path / "a.zip")


def test_a_missing_file_is_not_found_and_what_lies_near_is_named(tmp_path):
    for name in ("model.pt", "other.h5", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"modle\.pt: no such file; the folder has model\.pt$") as caught:
        read(tmp_path / "modle.pt")
    assert isinstance(caught.value, FormatError) and caught.value.filename == str(tmp_path / "modle.pt")
    with pytest.raises(FormatError, match=r"the folder has model\.pt, other\.h5$"):
        read(tmp_path / "xyz")
    with pytest.raises(FormatError, match="nor its folder"):
        read(tmp_path / "none" / "a.pt")


def test_the_prefix_of_a_tensorflow_checkpoint_is_told_although_no_such_file_is_there(tmp_path):
    (tmp_path / "w.index").write_bytes(b"x")
    with pytest.raises(UnsupportedError, match="TensorFlow checkpoints are not supported"):
        read(tmp_path / "w")


@pytest.mark.parametrize("path", ["a\0b.pt", "\ud800", "x" * 300, "a/" * 3000])
def test_a_text_that_can_be_no_path_is_refused(path):
    with pytest.raises(FormatError, match="takes the path of a file, found .*, which can be none") as caught:
        read(path)
    assert len(str(caught.value)) < 250
