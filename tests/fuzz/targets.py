"""What is fuzzed: each target makes a file out of any bytes and reads it; only a `CylstmError` may come out.

A target wraps the bytes where a random change would otherwise die at the first length or checksum: the wrapping is
right, what is inside is the fuzzer's.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import io
import json
import math
import os
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cylstm.errors import CylstmError
from cylstm.formats.onnx.read import model_of
from cylstm.formats.onnx.tensors import read_array
from cylstm.formats.state_dict.wiring import LSTM, Dropout, Last, Layer, Linear
from cylstm.formats.torch.tensors import FUNCTIONS, storage_of
from cylstm.formats.untrusted.json import parse_json
from cylstm.formats.untrusted.pickle import load_pickle
from cylstm.formats.untrusted.zip import Archive
from cylstm.graph.weights import as_stored
from cylstm.loading import read
from cylstm.model import Model
from cylstm.program.size import Size

from tests import DATA
from tests.builders import onnx_files, pt2_files
from tests.builders import weight_files as made
from tests.builders.audio_models import guitarml, guitarml_tensors, rtneural_layer
from tests.fuzz import containers, given, memory_folder

_FOLDER = Path(tempfile.mkdtemp(prefix="cylstm-fuzz-", dir=memory_folder()))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_LAYERS = [LSTM("lstm"), Last(), Linear("fc")]
_ONE = [Linear("fc")]
_READ_LIMIT = 1 << 16
_MOST_WEIGHTS = 1 << 20


def run(name: str, data: bytes) -> None:
    """Read what target `name` makes of `data`. Anything but success and `CylstmError` is a finding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            TARGETS[name](data)
        except CylstmError as error:
            str(error)


def _file(extension: str, *parts: bytes) -> str:
    path = _FOLDER / f"{os.getpid()}{extension}"
    path.write_bytes(b"".join(parts))
    return str(path)


def _zip_of(members: dict[str, bytes]) -> bytes:
    """An archive of stored members without checksums, as PyTorch may write it."""
    body, directory = b"", b""
    for name, data in members.items():
        encoded = name.encode()
        sizes = struct.pack("<3I2H", 0, len(data), len(data), len(encoded), 0)
        directory += b"PK\x01\x02" + bytes(12) + sizes + bytes(10) + struct.pack("<I", len(body)) + encoded
        body += b"PK\x03\x04" + bytes(10) + sizes + encoded + data
    count = len(members)
    return body + directory + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, count, count, len(directory), len(body), 0)


def _read_model(path: str, **options: object) -> None:
    """Read a file and make a model of it, as `cylstm.load` does."""
    graph = read(path, **options)
    if sum(math.prod(tensor.shape) for tensor in as_stored(graph.tensors).values()) < _MOST_WEIGHTS:
        Model(graph)


def _read_both(path: str, layers: list[Layer]) -> None:
    """Read without a wiring, for the sake of the proposal, and with one."""
    try:
        _read_model(path)
    except CylstmError as error:
        str(error)
    _read_model(path, layers=layers)


# Targets: bytes -> None


def fuzz_pickle(data: bytes) -> None:
    load_pickle(data, "fuzz", FUNCTIONS, storage_of)


def fuzz_json(data: bytes) -> None:
    parse_json(data, "fuzz")


def fuzz_zip(data: bytes) -> None:
    with Archive(_file(".zip", data)) as archive:
        for name in archive.names:
            archive.read(name, _READ_LIMIT)


def fuzz_torch(data: bytes) -> None:
    storage = bytes(range(256)) * 2
    members = {"a/data.pkl": data, "a/byteorder": b"little", "a/version": b"3"}
    members |= {f"a/data/{i}": storage[: 16 * (i + 1)] for i in range(6)}
    _read_both(_file(".pt", _zip_of(members)), _LAYERS)


def _read_program(member: str, data: bytes) -> None:
    from cylstm.formats.torch.pt2 import read_program

    program = read_program(_file(".pt2", _zip_with_checksums(_program() | {member: data})))
    for name in program.constants:
        assert program.constants[name].shape == program.types[name].shape
    repr(program)


def fuzz_pt2(data: bytes) -> None:
    _read_program("net/models/model.json", data)


def fuzz_pt2_network(data: bytes) -> None:
    _read_model(_file(".pt2", _zip_with_checksums(_program() | {"net/models/model.json": data})))


def fuzz_pt2_config(data: bytes) -> None:
    _read_program("net/data/weights/model_weights_config.json", data)


def fuzz_pt2_size(data: bytes) -> None:
    size = Size(data.decode("utf-8", "replace"))
    assert Size(size.text).text == size.text
    size.evaluate(dict.fromkeys(size.symbols, 7))


def fuzz_torch_stream(data: bytes) -> None:
    _read_both(_file(".pt", _STREAM_START, data), _ONE)


def fuzz_safetensors(data: bytes) -> None:
    header, _, rest = data.partition(b"\n")
    _read_both(_file(".safetensors", len(header).to_bytes(8, "little"), header, rest), _LAYERS)


def fuzz_safetensors_header(data: bytes) -> None:
    from cylstm.formats.untrusted.safetensors import SafetensorsFile

    header, _, rest = data.partition(b"\n")
    file = SafetensorsFile(_file(".safetensors", len(header).to_bytes(8, "little"), header, rest))
    for name in file.entries:
        stored = file.stored(name)
        assert file.rows(name, 0, stored.shape[0] if stored.shape else 1).shape[1:] == stored.shape[1:]


def fuzz_cylstm(data: bytes) -> None:
    # The header holds the graph as escaped text; here the graph itself is the fuzzer's.
    header, graph, rest = _native()
    header["__metadata__"]["graph"] = data.decode("utf-8", "replace")
    text = json.dumps(header).encode()
    del graph
    _read_model(_file(".cylstm", len(text).to_bytes(8, "little"), text, rest))


def fuzz_check(data: bytes) -> None:
    from cylstm.formats.native.check import read_check
    from cylstm.formats.untrusted.safetensors import SafetensorsFile

    header, _, rest = _native()
    header["__metadata__"]["check"] = data.decode("utf-8", "replace")
    header["x"] = {"dtype": "F32", "shape": [1, 2, 1], "data_offsets": [len(rest), len(rest) + 8]}
    text = json.dumps(header).encode()
    path = _file(".cylstm", len(text).to_bytes(8, "little"), text, rest + bytes(8))
    graph = read(path)
    read_check(SafetensorsFile(path), graph)


def fuzz_npz(data: bytes) -> None:
    start = b"\x93NUMPY\x01\x00"
    header, _, rest = data.partition(b"\n")
    member = start + struct.pack("<H", min(len(header) + 1, 0xFFFF)) + header + b"\n" + rest
    _read_both(_file(".npz", _zip_with_checksums({"fc.weight.npy": member})), _ONE)


def fuzz_index(data: bytes) -> None:
    if not (_FOLDER / "a.safetensors").exists():
        made.write_safetensors(_FOLDER / "a.safetensors", _tensors())
        made.write_torch(_FOLDER / "a.bin", _tensors())
    _read_both(_file(".index.json", data), _LAYERS)


def fuzz_keras_config(data: bytes) -> None:
    members = {"metadata.json": b'{"keras_version": "3.0"}', "config.json": data, "model.weights.h5": _hdf5_archive()}
    _read_model(_file(".keras", _zip_with_checksums(members)))


def fuzz_keras_config_2(data: bytes) -> None:
    _read_model(_file(".weights.h5", _hdf5_archive()), architecture=data, keras_version="2.1.5")


def fuzz_keras_op_layer(data: bytes) -> None:
    from cylstm.formats.keras.operations.op_layers import node_of

    text = data.decode("utf-8", "replace")
    node_of("fuzz", parse_json(data, "fuzz") if text[:1] == "{" else text)


def fuzz_keras_hdf5(data: bytes) -> None:
    _read_model(_file(".weights.h5", data), architecture=_KERAS_MODEL)


def fuzz_keras_hdf5_layers(data: bytes) -> None:
    _read_model(_file(".weights.h5", data), layers=[LSTM("lstm"), Last(), Linear("dense")])


def fuzz_keras_h5(data: bytes) -> None:
    _read_model(_file(".h5", data))


def fuzz_keras_index(data: bytes) -> None:
    shard = _FOLDER / "a.weights.h5"
    if not shard.exists():
        shard.write_bytes(_hdf5_archive())
    _read_model(_file(".weights.json", data), architecture=_KERAS_MODEL)


def fuzz_keras_ordered(data: bytes) -> None:
    path = _file(".npz", containers.archive(data))
    for options in ({"architecture": _KERAS_MODEL}, {"layers": _LAYERS}):
        try:
            _read_model(path, **options)
        except CylstmError as error:
            str(error)


def fuzz_guitarml(data: bytes) -> None:
    state = json.dumps(guitarml(_amp(), hidden=2)["state_dict"]).encode()
    _read_model(_file(".json", b'{"state_dict": ', state, b', "model_data": ', data, b"}"))


def fuzz_guitarml_state(data: bytes) -> None:
    _read_model(_file(".json", b'{"model_data": {"hidden_size": 2}, "state_dict": ', data, b"}"))


def fuzz_rtneural(data: bytes) -> None:
    _read_model(_file(".json", b'{"in_shape": [null, null, 2], "layers": ', data, b"}"))


def fuzz_onnx(data: bytes) -> None:
    _read_model(_file(".onnx", b"\x08\x08\x42\x02\x10\x11", data))


def fuzz_onnx_graph(data: bytes) -> None:
    # The sizes of the messages around are right; what a change makes of them dies at once elsewhere.
    _read_model(_file(".onnx", onnx_files.model(data)), constants={"rate": 2}, states={"h1": "h"})


def fuzz_onnx_message(data: bytes) -> None:
    """Messages alone, and the numbers of their tensors, some of which lie in a file beside."""
    beside = _FOLDER / "beside.bin"
    if not beside.exists():
        beside.write_bytes(bytes(range(256)))
    path = str(_FOLDER / "fuzz.onnx")
    for tensor in model_of(b"\x08\x08\x42\x02\x10\x11" + data, path).graph.initializers.values():
        try:
            assert read_array(tensor, path, "fuzz").shape == tensor.shape
        except CylstmError as error:
            str(error)


def fuzz_file(data: bytes) -> None:
    _read_both(_file(".bin", data), _LAYERS)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "pickle": fuzz_pickle,
    "json": fuzz_json,
    "zip": fuzz_zip,
    "torch": fuzz_torch,
    "torch_stream": fuzz_torch_stream,
    "pt2": fuzz_pt2,
    "pt2_network": fuzz_pt2_network,
    "pt2_config": fuzz_pt2_config,
    "pt2_size": fuzz_pt2_size,
    "safetensors": fuzz_safetensors,
    "safetensors_header": fuzz_safetensors_header,
    "cylstm": fuzz_cylstm,
    "check": fuzz_check,
    "npz": fuzz_npz,
    "index": fuzz_index,
    "guitarml": fuzz_guitarml,
    "guitarml_state": fuzz_guitarml_state,
    "rtneural": fuzz_rtneural,
    "onnx": fuzz_onnx,
    "onnx_graph": fuzz_onnx_graph,
    "onnx_message": fuzz_onnx_message,
    "file": fuzz_file,
}
_GIVEN = given.targets(_FOLDER)
_CONTAINERS = containers.targets(_FOLDER, _read_both, _read_model)
TARGETS |= _GIVEN | _CONTAINERS
#: those that read HDF5
_OF_H5PY = ("keras_archive", "custom_layers")
if not importlib.util.find_spec("h5py"):
    for name in _OF_H5PY:
        del TARGETS[name]
else:
    TARGETS |= {
        "keras_config": fuzz_keras_config,
        "keras_config_2": fuzz_keras_config_2,
        "keras_op_layer": fuzz_keras_op_layer,
        "keras_hdf5": fuzz_keras_hdf5,
        "keras_hdf5_layers": fuzz_keras_hdf5_layers,
        "keras_h5": fuzz_keras_h5,
        "keras_index": fuzz_keras_index,
        "keras_ordered": fuzz_keras_ordered,
    }


# Seeds

_ONNX = DATA / "onnx"
_KERAS_MODEL = made.keras_model(made.keras_input(None, 1), made.keras_lstm("rnn", 1), made.keras_dense("fc", 1))


def _keras_weights() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(3)
    return [made.keras_lstm_weights(rng, 1, 1), made.keras_dense_weights(rng, 1, 1)]


def _in_order() -> list[np.ndarray]:
    return [array for arrays in _keras_weights() for array in arrays]


@functools.cache
def _hdf5_archive(version: str = "earliest", **options: object) -> bytes:
    """The weights of `_KERAS_MODEL` as an archive has them; `version` is that of the HDF5 format."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w", libver=version) as file:
        for group, arrays in zip(("layers/lstm/cell", "layers/dense"), _keras_weights()):
            for j, array in enumerate(arrays):
                file.create_dataset(f"{group}/vars/{j}", data=array, **options)
    return content.getvalue()


def _older_h5(config: object, *, fixed: bool) -> bytes:
    roles = ("kernel", "recurrent_kernel", "bias"), ("kernel", "bias")
    weights = {
        layer: {f"{layer}/{role}:0": array for role, array in zip(names, arrays)}
        for layer, names, arrays in zip(("rnn", "fc"), roles, _keras_weights())
    }
    return made.write_h5(_FOLDER / "seed.h5", config, weights, fixed=fixed).read_bytes()


def _keras_seeds(name: str) -> list[bytes]:
    """As `seeds`, of the targets that need h5py."""
    two = made.keras_bidirectional("b", made.keras_layer("GRU", "g", units=1, activation="relu", reset_after=True))
    cells = {"class_name": "StackedRNNCells", "config": {"name": "s", "cells": [made.keras_lstm("c", 1)]}}
    rich = made.keras_model(made.keras_input(None, 1), two, made.keras_layer("RNN", "r", cell=cells))
    conv = made.keras_layer("ConvLSTM1D", "v", filters=1, kernel_size=[1], strides=[1], padding="same")
    old = {"class_name": "Sequential", "config": _KERAS_MODEL["config"]["layers"]}
    rnn, dense = "/layers/lstm/cell/vars", "/layers/dense/vars"
    index = {"metadata": {}, "weight_map": {rnn: ["a.weights.h5"], dense: ["a.weights.h5"]}}
    archives = [_hdf5_archive(), _hdf5_archive("latest"), _hdf5_archive(chunks=True, compression="gzip", shuffle=True)]
    configs = [json.dumps(model).encode() for model in (_KERAS_MODEL, old, rich, made.keras_model(conv))]
    attributes = {"keep_dims": {"b": True}, "T": {"type": "DT_FLOAT"}, "axis": {"list": {"i": ["1", "-1"]}}}
    attributes |= {"alpha": {"f": 0.5}, "mode": {"s": "UkVGTEVDVA=="}}
    node = {"name": "s", "op": "Sum", "input": ["a", "b"], "attr": attributes}
    text = b"\n\x03add\x12\x05AddV2\x1a\x03Abs\x1a\x05add/y*\x07\n\x01T\x12\x020\x01"
    return {
        "keras_op_layer": [json.dumps(node).encode(), text],
        "keras_config": configs,
        "keras_config_2": configs,
        "keras_hdf5": archives,
        "keras_hdf5_layers": archives,
        "keras_h5": [_older_h5(_KERAS_MODEL, fixed=fixed) for fixed in (True, False)],
        "keras_ordered": [
            containers.joined({f"arr_{i}.npy": containers.npy_of(array) for i, array in enumerate(_in_order())})
        ],
        "keras_index": [json.dumps(index).encode()],
    }[name]


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return made.lstm_tensors(rng, "lstm", 1, 1) | made.linear_tensors(rng, "fc", 1, 1)


@functools.cache
def _program() -> dict[str, bytes]:
    """The members of a small file of torch.export."""
    return pt2_files.members(*pt2_files.document(np.random.default_rng(4)))


def _amp() -> dict[str, np.ndarray]:
    return guitarml_tensors(np.random.default_rng(2), hidden=2)


def _chain() -> list[dict]:
    rng = np.random.default_rng(4)
    arrays = {shape: rng.standard_normal(shape) for shape in ((2, 3), (3,), (3, 8), (2, 8), (8,), (2, 6), (1, 2, 2))}
    three, two = (None, None, 3), (None, None, 2)
    return [
        rtneural_layer("dense", three, [arrays[2, 3], arrays[3,]], "tanh"),
        rtneural_layer("lstm", two, [arrays[3, 8], arrays[2, 8], arrays[8,]]),
        rtneural_layer("gru", two, [arrays[2, 6], arrays[2, 6], arrays[2, 6]], "tanh"),
        rtneural_layer("conv1d", two, [arrays[1, 2, 2]], kernel_size=[1], dilation=[2]),
        rtneural_layer("prelu", two, [[[0.1, 0.2]]]),
        rtneural_layer("batchnorm", two, [[0.1, 0.2], [0.3, 0.4]], epsilon=0.001),
        rtneural_layer("activation", two, activation="elu"),
    ]


def _onnx_graphs() -> list[bytes]:
    """Graphs with a recurrent layer, its state as input and output, a branch, a constant, sizes, and more operators."""
    node, value, tensor = onnx_files.node, onnx_files.value, onnx_files.tensor
    rng = np.random.default_rng(5)
    gru = [rng.standard_normal(shape).astype("f4") for shape in ((1, 6, 3), (1, 6, 2), (1, 12))]
    branch = [
        onnx_files.graph([node(one, ["s"], [one])], [], [value(one, None)]) for one in ("Tanh", "Sigmoid")
    ]  # fmt: skip
    nodes = [
        node("GRU", ["x", "w", "r", "b", "", "h"], ["a", "h1"], hidden_size=2, linear_before_reset=1),
        node("Squeeze", ["a", "one"], ["s"]),
        node("Equal", ["rate", "two"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    tensors = [tensor(name, array) for name, array in zip("wrb", gru)]
    tensors += [tensor("one", np.array([1])), tensor("two", np.array(2), f7=onnx_files.packed([2]))]
    inputs = [value("x", ("time", "batch", 3)), value("h", (1, "batch", 2)), value("rate", (), "int64")]
    recurrent = onnx_files.graph(nodes, inputs, [value("y", None), value("h1", None)], tensors)
    shapes = [
        node("Shape", ["x"], ["size"]),
        node("Gather", ["size", "zero"], ["rows"], axis=0),
        node("Unsqueeze", ["rows", "axes"], ["first"]),
        node("Concat", ["first", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["flat"]),
        node("Slice", ["flat", "start", "stop", "axes1"], ["part"]),
        node("Gemm", ["part", "m", "n"], ["g"], transB=1, alpha=0.5),
        node("Clip", ["g", "low", "high"], ["k"]),
        node("Softmax", ["k"], ["y"], axis=-1),
    ]
    numbers = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([6]), "start": np.array([1]),
               "stop": np.array([5]), "axes1": np.array([1])}  # fmt: skip
    reals = {
        "m": rng.standard_normal((2, 4)),
        "n": rng.standard_normal(2),
        "low": np.array(-1.0),
        "high": np.array(1.0),
    }
    tensors = [tensor(name, array) for name, array in numbers.items()]
    tensors += [tensor(name, array.astype("f4")) for name, array in reals.items()]
    sizes = onnx_files.graph(shapes, [value("x", ("n", 2, 3))], [value("y", None)], tensors)
    conv = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1], kernel_shape=[3]),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2], strides=[2]),
        node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
        node("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0),
    ]
    kernel = tensor("k", rng.standard_normal((2, 3, 3)).astype("f4"))
    return [recurrent, sizes, onnx_files.graph(conv, [value("x", (1, 3, 8))], [value("y", None)], [kernel])]


def _tensors_of_onnx() -> bytes:
    """A graph of tensors of several types, within the file and beside it."""
    tensor = onnx_files.tensor
    beside = [onnx_files.field(13, onnx_files.message([(1, key), (2, text)])) for key, text in
              (("location", "beside.bin"), ("offset", "16"), ("length", "24"))]  # fmt: skip
    kinds = ("float32", "float64", "int8", "uint8", "int32", "int64", "bool", "float16")
    tensors = [tensor(kind, np.ones((2, 3)), kind) for kind in kinds]
    tensors.append(onnx_files.message([(1, 2), (1, 3), (2, 1), (8, "beside"), (14, 1)]) + b"".join(beside))
    return onnx_files.graph([], [], [], tensors)


def _zip_with_checksums(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _native() -> tuple[dict, str, bytes]:
    """Header, graph and data of a small native file."""
    from cylstm.formats.registry import write
    from cylstm.formats.state_dict.assemble import from_state_dict

    if not _NATIVE:
        path = _FOLDER / "seed.cylstm"
        write(from_state_dict(_tensors(), [LSTM("lstm"), Dropout(0.5), Last(), Linear("fc")]), path)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        _NATIVE.append((data[8 : 8 + length], data[8 + length :]))
    text, rest = _NATIVE[0]
    header = json.loads(text)
    return header, header["__metadata__"]["graph"], rest


_NATIVE: list[tuple[bytes, bytes]] = []
_STREAM_START = made.program(made.integer(0x1950A86A20F9469CFC6C))


def _state_program() -> bytes:
    state = {}
    for i, (name, array) in enumerate(_tensors().items()):
        state[name] = made.tensor("Float", str(i), 4 * (i + 1), i % 3, array.shape, [1] * array.ndim)
    return made.ordered_dict(state)


def _quantised_program() -> bytes:
    weight = made.quantised_tensor("0", np.zeros((1, 1), np.int8), 0.5, 3)
    packed = made.tuple_of(weight, made.tensor("Float", "1", 8, 0, (1,), (1,)))
    matrix = made.script_object("quantized.LinearPackedParamsBase", made.tuple_of(weight, b"N"))
    state = made.tuple_of(made.text("quantized_dynamic"), b"]", b"]", b"]", b"](" + matrix + matrix + b"e")
    cell = made.script_object("rnn.CellParamsBase", state)
    return made.ordered_dict({"fc._packed_params._packed_params": packed, "lstm._all_weight_values.0.param": cell})


def seeds(name: str) -> list[bytes]:
    """A few files as they should be, in the form that target `name` takes."""
    if name in _CONTAINERS:
        return containers.seeds(name, _FOLDER)
    if name in _GIVEN:
        return given.seeds(name, _FOLDER)
    if name.startswith("keras"):
        return _keras_seeds(name)
    import pickle

    tensors = _tensors()
    state = _state_program()
    small = made.ordered_dict({"fc.weight": made.tensor("Float", "0", 1, 0, (1, 1), (1, 1))})
    system = made.dictionary({"little_endian": b"\x88", "protocol_version": made.integer(1001)})
    stream = made.program(made.integer(1001)) + made.program(system)
    stream += made.program(small) + made.program(b"](" + made.text("0") + b"e")
    path = _FOLDER / "seed.safetensors"
    made.write_safetensors(path, tensors)
    safetensors = path.read_bytes()
    length = int.from_bytes(safetensors[:8], "little")
    npy = containers.npy_of(np.ones((1, 1), np.float32))
    whole = made.write_torch(_FOLDER / "seed.pt", tensors).read_bytes()
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "a.safetensors")}).encode()
    npz = _zip_with_checksums({"fc.weight.npy": npy})
    graph = _native()[1].encode()
    output = {"name": "fc", "sha256": "0f" * 32, "shape": [1, 1]}
    programs = (pt2_files.rich_document, pt2_files.document)
    check = {"inputs": {"input": "x"}, "outputs": [output], "version": "1.0"}
    return {
        "pickle": [made.program(state), pickle.dumps({"a": [1, 2.5, (None, True)], "b": {"c": b"x", "d": {3}}}, 4)],
        "json": [index, graph, b'{"a": [1, -2.5e3, true, null, "\\u00fc"]}'],
        "zip": [whole, npz, _zip_of({"a": b"x", "b/c": b"yy"})],
        "torch": [
            made.program(state),
            made.program(made.dictionary({"model": state, "epoch": made.integer(2)})),
            made.program(_quantised_program()),
        ],
        "torch_stream": [stream + struct.pack("<q", 1) + b"abcd"],
        "pt2": [json.dumps(one(np.random.default_rng(4))[0]).encode() for one in programs],
        "pt2_network": [json.dumps(one(np.random.default_rng(4))[0]).encode() for one in programs],
        "pt2_config": [_program()["net/data/weights/model_weights_config.json"]],
        "pt2_size": [
            b"2*s77 + 1",
            b"(s0 - 1)//2 % 3",
            b"Add(Mul(Integer(-2), Symbol('s0', positive=True)), max(s1, 4))",
        ],
        "safetensors_header": [safetensors[8 : 8 + length] + b"\n" + safetensors[8 + length :]],
        "safetensors": [safetensors[8 : 8 + length] + b"\n" + safetensors[8 + length :]],
        "cylstm": [graph],
        "check": [json.dumps(check).encode()],
        "npz": [npy[10:], b"{'descr': '>f8', 'fortran_order': True, 'shape': (1,), }\n" + bytes(8)],
        "index": [index, index.replace(b"a.safetensors", b"a.bin")],
        "guitarml": [json.dumps(guitarml(_amp(), hidden=2)["model_data"]).encode()],
        "guitarml_state": [json.dumps(guitarml(_amp(), hidden=2)["state_dict"]).encode()],
        "rtneural": [json.dumps(_chain()).encode()],
        "onnx": [
            *(onnx_files.field(7, one) for one in _onnx_graphs()[1:]),
            *(onnx_files.field(7, onnx_files.fields(path.read_bytes())[7][0]) for path in sorted(_ONNX.glob("*.onnx"))),
        ],
        "onnx_graph": _onnx_graphs(),
        "onnx_message": [
            *(onnx_files.field(7, one) for one in _onnx_graphs()),
            onnx_files.field(7, _tensors_of_onnx()),
        ],
        "file": [whole, safetensors, npz, _STREAM_START + stream + struct.pack("<q", 1) + b"abcd", index],
    }[name]
