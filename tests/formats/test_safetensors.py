"""safetensors files, and the native format that is one."""

import json
import os

import numpy as np
import pytest

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.registry import write
from cylstm.formats.state_dict import wiring as L
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.loading import read

from tests.builders.weight_files import linear_tensors, lstm_tensors, write_safetensors

LAYERS = [L.LSTM("lstm"), L.Last(), L.Linear("fc")]


@pytest.fixture
def tensors(rng):
    return lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)


@pytest.fixture
def graph(rng):
    """A graph with several kinds of layer, a shared layer, both float types and metadata."""
    tensors = lstm_tensors(rng, "rnn", 6, 5, layers=2, directions=2, projection=3)
    tensors |= lstm_tensors(rng, "top", 6, 4, dtype=np.float64)
    tensors |= linear_tensors(rng, "embed", 6, 6) | linear_tensors(rng, "fc", 4, 2)
    layers = [
        L.Linear("embed", L.LeakyReLU(0.3)),
        L.Linear("embed"),
        L.LSTM("rnn", activation="softsign"),
        L.Dropout(1 / 3),
        L.LSTM("top", recurrent_activation="hard_sigmoid"),
        L.Last(),
        L.ELU(0.7),
        L.Linear("fc"),
    ]
    return from_state_dict(tensors, layers)._replace(metadata={"unit": "degrees ü", "scale": "1.5"})


def assert_equal(found, expected):
    assert found.values == expected.values
    assert found.layers == expected.layers
    assert (found.inputs, found.outputs, found.metadata) == (expected.inputs, expected.outputs, expected.metadata)
    assert set(found.tensors) == set(expected.tensors)
    for name, array in expected.tensors.items():
        assert found.tensors[name].dtype == array.dtype
        assert found.tensors[name].tobytes() == array.tobytes()


def split(path):
    """Header and data of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


# State dicts


@pytest.mark.parametrize("extension", [".safetensors", ".bin"])
def test_a_state_dict_is_read(tmp_path, tensors, extension):
    path = write_safetensors(tmp_path / f"net{extension}", tensors, {"format": "pt"})
    graph = read(path, layers=LAYERS)
    assert graph.provenance["format"] == "safetensors"
    assert graph.provenance["tensors"]["fc.weight"] == "fc/weight"
    np.testing.assert_array_equal(graph.tensors["fc.weight"], tensors["fc.weight"])
    np.testing.assert_array_equal(graph.tensors["lstm.l0.weight_hh"], tensors["lstm.weight_hh_l0"])


def test_half_precision_becomes_float32_and_double_stays(tmp_path, rng):
    data = rng.standard_normal((2, 3))
    bits = (data.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    stored = {"a.weight": data, "b.weight": data.astype(np.float16).T.copy(), "c.weight": bits}
    found = read(write_safetensors(tmp_path / "a.safetensors", stored), layers=[L.Linear(name) for name in "abc"])
    np.testing.assert_array_equal(found.tensors["a.weight"], data)
    np.testing.assert_array_equal(found.tensors["b.weight"], data.astype(np.float16).T.astype(np.float32))
    np.testing.assert_array_equal(found.tensors["c.weight"], (bits.astype(np.uint32) << 16).view(np.float32))


def test_tensors_may_stand_in_any_order_and_the_header_may_be_padded(tmp_path, tensors):
    path = write_safetensors(tmp_path / "a.safetensors", tensors)
    header, data = split(path)
    padded = json.dumps(dict(reversed(header.items()))).encode() + b"   "
    found = read(join(path, padded, data), layers=LAYERS)
    np.testing.assert_array_equal(found.tensors["fc.bias"], tensors["fc.bias"])


def test_without_layers_the_error_proposes_them(tmp_path, tensors):
    with pytest.raises(FormatError, match=r"a\.safetensors.*\n(.*\n)*.*cylstm\.Linear\(\"fc\"\)\]"):
        read(write_safetensors(tmp_path / "a.safetensors", tensors))


def _entry(**changed):
    return lambda header: {**header, "fc.bias": {**header["fc.bias"], **changed}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_entry(dtype="F8_E4M3"), "type 'F8_E4M3' is not supported"),
        (_entry(dtype=3), "type 3 is not supported"),
        (_entry(shape=[3]), r"F32 of shape \(3,\) takes 12 bytes, found 8"),
        (_entry(shape=[1.0, 2]), "natural numbers"),
        (_entry(shape=[-2, -1]), "natural numbers"),
        (_entry(shape=[True, 2]), "natural numbers"),
        (_entry(shape=2), "natural numbers"),
        (_entry(shape=[0, 1 << 60, 1 << 60]), "too large"),
        (_entry(shape=[1] * 33), "natural numbers"),
        (_entry(data_offsets=[8]), "natural numbers"),
        (_entry(data_offsets=[8, 0]), "takes 8 bytes, found -8"),
        (_entry(data_offsets=[0, 8]), "a gap or an overlap"),
        (_entry(extra=1), "expected dtype, shape and data_offsets"),
        (lambda header: {**header, "fc.bias": [1]}, "expected dtype, shape and data_offsets"),
        (lambda header: {**header, "__metadata__": {"a": 1}}, "expected strings only"),
        (lambda header: {**header, "__metadata__": []}, "expected strings only"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, tensors, change, message):
    with pytest.raises(CylstmError, match=message) as caught:
        read(write_safetensors(tmp_path / "a.safetensors", tensors, header=change), layers=LAYERS)
    assert "a.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
        (b"{" + b'"a": [' * 100_000, "nested too deeply|not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a"', "not valid JSON"),
        (b" [1]", "expected an object, found a list"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, header, message):
    with pytest.raises(FormatError, match=message):
        read(join(tmp_path / "a.safetensors", header, b""), layers=LAYERS)


def test_a_wrong_size_is_refused(tmp_path, tensors):
    path = write_safetensors(tmp_path / "a.safetensors", tensors, rest=b"x")
    with pytest.raises(FormatError, match="the tensors end at byte"):
        read(path, layers=LAYERS)
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(FormatError, match=f"a header of {1 << 62} bytes in a file of 10"):
        read(path, layers=LAYERS)


def test_every_truncation_is_refused(tmp_path, tensors):
    data = write_safetensors(tmp_path / "a.safetensors", tensors).read_bytes()
    path = tmp_path / "b.safetensors"
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"b\.safetensors"):
            read(path, layers=LAYERS)


# The native file


def test_a_graph_is_written_and_read_back_bit_for_bit(tmp_path, graph):
    write(graph, tmp_path / "a.cylstm")
    found = read(tmp_path / "a.cylstm")
    assert_equal(found, graph)
    assert found.provenance["format"] == "cylstm"
    assert found.provenance["version"] == "1"
    assert found.provenance["tensors"]["rnn.l1.reverse.weight_hr"] == "rnn.l1.reverse/weight_hr"
    assert found.provenance["layouts"]["rnn.l1.reverse.weight_hr"].startswith("F32 (3, 5) at byte ")


def test_values_that_are_not_finite_survive_with_a_warning(tmp_path, rng):
    tensors = lstm_tensors(rng, "", 3, 5)
    tensors["weight_hh_l0"][0] = [np.nan, np.inf, -np.inf, -0.0, 1e-40]
    with pytest.warns(UserWarning, match="NaN or infinity"):
        graph = from_state_dict(tensors, [L.LSTM("")])
    write(graph, tmp_path / "a.cylstm")
    with pytest.warns(UserWarning, match=r"NaN or infinity in lstm\.l0\.weight_hh"):
        assert_equal(read(tmp_path / "a.cylstm"), graph)


def test_equal_graphs_give_equal_bytes(tmp_path, graph):
    write(graph, tmp_path / "a.cylstm")
    write(read(tmp_path / "a.cylstm"), tmp_path / "b.cylstm")
    assert (tmp_path / "a.cylstm").read_bytes() == (tmp_path / "b.cylstm").read_bytes()


def test_tensors_of_whole_blocks_are_aligned_to_64_bytes(tmp_path, graph):
    write(graph, tmp_path / "a.cylstm")
    header, data = split(tmp_path / "a.cylstm")
    start = (tmp_path / "a.cylstm").stat().st_size - len(data)
    assert start % 64 == 0
    aligned = 0
    for name, entry in header.items():
        if name != "__metadata__" and graph.tensors[name].nbytes % 64 == 0:
            assert entry["data_offsets"][0] % 64 == 0
            aligned += 1
    assert aligned > 2


def test_writing_replaces_a_file_and_leaves_no_other(tmp_path, graph):
    path = tmp_path / "a.cylstm"
    path.write_bytes(b"old")
    write(graph, path)
    assert read(path).outputs == graph.outputs
    assert os.listdir(tmp_path) == ["a.cylstm"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, graph, monkeypatch):
    path = tmp_path / "a.cylstm"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(graph, path)
    assert os.listdir(tmp_path) == ["a.cylstm"]
    assert path.read_bytes() == b"old"


def test_only_cylstm_files_are_written(tmp_path, graph):
    with pytest.raises(UnsupportedError, match="written as .cylstm files only"):
        write(graph, tmp_path / "a.safetensors")


def test_layers_are_refused_for_a_file_that_holds_its_wiring(tmp_path, graph):
    write(graph, tmp_path / "a.cylstm")
    with pytest.raises(FormatError, match="leave out layers="):
        read(tmp_path / "a.cylstm", layers=LAYERS)


def _metadata(**changed):
    def change(header):
        found = {**header["__metadata__"], **changed}
        header["__metadata__"] = {key: value for key, value in found.items() if value is not None}

    return change


def _graph(edit):
    def change(header):
        described = json.loads(header["__metadata__"]["graph"])
        edit(described)
        header["__metadata__"]["graph"] = json.dumps(described)

    return change


def _node(name, /, **changed):
    def edit(described):
        next(node for node in described["nodes"] if node["name"] == name).update(changed)

    return _graph(edit)


def _option(name, key, option):
    def edit(described):
        next(node for node in described["nodes"] if node["name"] == name)["options"][key] = option

    return _graph(edit)


def _value(name, /, **changed):
    def edit(described):
        next(value for value in described["values"] if value["name"] == name).update(changed)

    return _graph(edit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_metadata(format_version="2"), "newer CyLSTM: format_version 2, this one reads up to 1"),
        (_metadata(format_version="0"), "format_version expected 1 or more, found 0"),
        (_metadata(format_version="x"), "format_version expected a number, found 'x'"),
        (_metadata(format_version=None), "format_version expected a number"),
        (_metadata(mood="good"), "unknown entries in __metadata__: mood"),
        (_metadata(graph=None), "not valid JSON"),
        (_metadata(graph="[]"), "expected an object with values, nodes, inputs, outputs"),
        (_metadata(metadata='{"a": 1}'), "mapping of strings to strings"),
        (_graph(lambda g: g.update(extra=1)), "expected an object with values"),
        (_graph(lambda g: g.update(nodes={})), "nodes expected a list"),
        (_graph(lambda g: g.update(inputs=[1])), "inputs expected names"),
        (_graph(lambda g: g.update(inputs=["none"])), "input 'none' is no value"),
        (_graph(lambda g: g.update(outputs=["none"])), "output 'none' is no value"),
        (_graph(lambda g: g.update(outputs=["input.mask"])), "a mask cannot be an output"),
        (_graph(lambda g: g.update(outputs=[])), "at least one input, one layer and one output"),
        (_graph(lambda g: g["nodes"].reverse()), "which nothing before it gives"),
        (_graph(lambda g: g["nodes"].pop()), "output 'fc' is no value"),
        (_graph(lambda g: g["nodes"].append(g["nodes"][-1])), "two layers of the graph have one name"),
        (_graph(lambda g: g["values"].append(g["values"][-1])), "do not follow from its layers"),
        (_graph(lambda g: g["values"].pop()), "do not follow from its layers"),
        (_graph(lambda g: g["nodes"].insert(0, 3)), "expected an object with inputs, name, op"),
        (_node("fc", op="mamba"), "layer 'fc': no layer of kind 'mamba'; known are activation"),
        (_node("fc", name=3), "name expected a str, found a int"),
        (_node("fc", name="last"), "two layers of the graph have one name"),
        (_node("fc", weights={"weight": "none"}), "tensor 'none' is not in the graph"),
        (_node("fc", weights={"weight": 3}), "mapping of roles to names"),
        (_node("fc", weights={"weight": "fc.weight"}), "tensors that no layer uses: fc.bias"),
        (_node("fc", weights={"weight": "fc.weight", "b": "fc.bias"}), "layer 'fc': weights expected weight"),
        (_node("fc", weights={"weight": "fc.bias", "bias": "fc.weight"}), "expected shape"),
        (_node("fc", inputs={}), "layer 'fc': inputs expected x; found none"),
        (_node("fc", outputs={"y": "fc", "z": "last"}), "do not follow from its layers"),
        (_option("fc", "units", 3), "dense has no option 'units'"),
        (_option("fc", "activation", 3), "option 'activation': expected a str, found 3"),
        (_option("fc", "activation", "swish"), "canonical name 'silu'"),
        (_option("fc", "activation", "mish"), "unknown activation 'mish'"),
        (_option("fc", "activation_alpha", "x"), "expected a float, found 'x'"),
        (_option("rnn.l0", "reverse", 1), "expected a bool, found 1"),
        (_option("rnn.l0", "padding", "same"), "expected 'zero' or 'repeat', found 'same'"),
        (_option("rnn.l0", "activation", "softmax"), "softmax needs the whole axis"),
        (_option("dropout", "rate", 1.5), r"dropout rate expected in \[0, 1\]"),
        (_option("rnn.l0.merge", "mode", "median"), "merge mode expected one of"),
        (_graph(lambda g: g.update(noise={"none": {"dropout": 0.1}})), "noise expected names of layers"),
        (_graph(lambda g: g.update(noise={})), "noise expected names of layers"),
        (_graph(lambda g: g.update(noise={"fc": {}})), r"noise of layer 'fc' \(dense\): found \{\}"),
        (_graph(lambda g: g.update(noise={"fc": {"dropout": 1.5}})), "noise of layer 'fc'"),
        (_graph(lambda g: g.update(noise={"fc": {"masks": "gates"}})), "noise of layer 'fc'"),
        (_graph(lambda g: g.update(noise={"dropout": {"shared": "7"}})), r"noise of layer 'dropout' \(dropout\)"),
        (_graph(lambda g: g.update(noise={"dropout": {"shared": "00"}})), "noise of layer 'dropout'"),
        (_graph(lambda g: g.update(noise={"dropout": {"form": "pink"}})), "noise of layer 'dropout'"),
        (_graph(lambda g: g.update(noise={"dropout": {"rate": 0.2}})), "noise of layer 'dropout'"),
        (_graph(lambda g: g.update(noise={"dropout": 0.2})), "noise of layer 'dropout'"),
        (_value("fc", shape=[3]), "do not follow from its layers"),
        (_value("fc", shape=[0]), "positive integers or null"),
        (_value("fc", shape=["2"]), "positive integers or null"),
        (_value("fc", mask=3), "mask expected a name or null"),
        (_value("fc", kind="state"), "do not follow from its layers"),
        (_value("fc", extra=1), "expected an object with kind, mask, name, shape"),
        (_value("input", shape=[None, 7]), r"layer 'embed', tensor 'weight': expected shape \(6, 7\), found \(6, 6\)"),
        (_value("input", shape=[None, None, 2]), "neither"),
    ],
)
def test_a_wrong_native_file_is_refused(tmp_path, graph, change, message):
    path = tmp_path / "a.cylstm"
    write(graph, path)
    header, data = split(path)
    change(header)
    with pytest.raises(CylstmError, match=message) as caught:
        read(join(path, header, data))
    assert "a.cylstm" in str(caught.value)


def test_an_option_that_a_file_does_not_name_has_its_default(tmp_path, graph):
    path = tmp_path / "a.cylstm"
    write(graph, path)
    header, data = split(path)
    _node("dropout", options={})(header)
    _option("elu", "activation_alpha", 2)(header)
    found = {layer.name: layer for layer in read(join(path, header, data)).layers}
    assert found["dropout"].options == {"rate": 0.5}
    assert found["elu"].options["activation_alpha"] == 2.0


def test_a_native_file_with_integer_weights_is_refused(tmp_path, rng):
    graph = from_state_dict({"fc.weight": rng.standard_normal((2, 2)).astype(np.float32)}, [L.Linear("fc")])
    write(graph, tmp_path / "a.cylstm")
    header, data = split(tmp_path / "a.cylstm")
    header["fc.weight"] = {"dtype": "I32", "shape": [2, 2], "data_offsets": [0, 16]}
    with pytest.raises(FormatError, match="'fc.weight': expected float32 or float64, found int32"):
        read(join(tmp_path / "a.cylstm", header, data))


def test_every_truncation_of_a_native_file_is_refused(tmp_path, graph):
    write(graph, tmp_path / "a.cylstm")
    data = (tmp_path / "a.cylstm").read_bytes()
    path = tmp_path / "b.cylstm"
    for size in range(0, len(data), 101):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"b\.cylstm"):
            read(path)


# The reference implementation


@pytest.mark.frameworks
def test_the_reference_reader_opens_a_native_file(tmp_path, graph):
    safetensors = pytest.importorskip("safetensors")
    write(graph, tmp_path / "a.cylstm")
    with safetensors.safe_open(tmp_path / "a.cylstm", "numpy") as file:
        assert file.metadata()["format"] == "cylstm"
        assert set(file.keys()) == set(graph.tensors)
        for name, array in graph.tensors.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


@pytest.mark.frameworks
def test_what_the_reference_writer_writes_is_read_back(tmp_path, tensors):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(tensors, tmp_path / "a.safetensors", {"format": "np"})
    found = read(tmp_path / "a.safetensors", layers=LAYERS)
    np.testing.assert_array_equal(found.tensors["lstm.l0.weight_ih"], tensors["lstm.weight_ih_l0"])
