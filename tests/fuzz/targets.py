"""What is fuzzed: each target makes a file out of any bytes and reads it; only a `CylstmError` may come out.

A target wraps the bytes where a random change would otherwise die at the first length or checksum: the wrapping is
right, what is inside is the fuzzer's.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cylstm.errors import CylstmError
from cylstm.formats import read
from cylstm.formats._json import parse_json
from cylstm.formats._pickle import load_pickle
from cylstm.formats._torch_tensors import FUNCTIONS, storage_of
from cylstm.formats._zip import Archive
from cylstm.layers import LSTM, Dropout, Last, Layer, Linear

sys.path.append(str(Path(__file__).parents[1]))

import weight_files as made

_FOLDER = Path(tempfile.mkdtemp(prefix="cylstm-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_LAYERS = [LSTM("lstm"), Last(), Linear("fc")]
_ONE = [Linear("fc")]
_READ_LIMIT = 1 << 16


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


def _read_both(path: str, layers: list[Layer]) -> None:
    """Read without a wiring, for the sake of the proposal, and with one."""
    try:
        read(path)
    except CylstmError as error:
        str(error)
    read(path, layers=layers)


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


def fuzz_torch_stream(data: bytes) -> None:
    _read_both(_file(".pt", _STREAM_START, data), _ONE)


def fuzz_safetensors(data: bytes) -> None:
    header, _, rest = data.partition(b"\n")
    _read_both(_file(".safetensors", len(header).to_bytes(8, "little"), header, rest), _LAYERS)


def fuzz_cylstm(data: bytes) -> None:
    # The header holds the graph as escaped text; here the graph itself is the fuzzer's.
    header, graph, rest = _native()
    header["__metadata__"]["graph"] = data.decode("utf-8", "replace")
    text = json.dumps(header).encode()
    del graph
    read(_file(".cylstm", len(text).to_bytes(8, "little"), text, rest))


def fuzz_npz(data: bytes) -> None:
    start = b"\x93NUMPY\x01\x00"
    header, _, rest = data.partition(b"\n")
    member = start + struct.pack("<H", min(len(header) + 1, 0xFFFF)) + header + b"\n" + rest
    _read_both(_file(".npz", _zip_with_checksums({"fc.weight.npy": member})), _ONE)


def fuzz_index(data: bytes) -> None:
    shard = _FOLDER / "a.safetensors"
    if not shard.exists():
        made.write_safetensors(shard, _tensors())
    _read_both(_file(".index.json", data), _LAYERS)


def fuzz_file(data: bytes) -> None:
    _read_both(_file(".bin", data), _LAYERS)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "pickle": fuzz_pickle,
    "json": fuzz_json,
    "zip": fuzz_zip,
    "torch": fuzz_torch,
    "torch_stream": fuzz_torch_stream,
    "safetensors": fuzz_safetensors,
    "cylstm": fuzz_cylstm,
    "npz": fuzz_npz,
    "index": fuzz_index,
    "file": fuzz_file,
}


# Seeds


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return made.lstm_tensors(rng, "lstm", 1, 1) | made.linear_tensors(rng, "fc", 1, 1)


def _zip_with_checksums(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def _native() -> tuple[dict, str, bytes]:
    """Header, graph and data of a small native file."""
    from cylstm.formats import write
    from cylstm.formats.state_dict import from_state_dict

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


def seeds(name: str) -> list[bytes]:
    """A few files as they should be, in the form that target `name` takes."""
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
    npy = io.BytesIO()
    np.save(npy, np.ones((1, 1), np.float32))
    whole = made.write_torch(_FOLDER / "seed.pt", tensors).read_bytes()
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "a.safetensors")}).encode()
    npz = _zip_with_checksums({"fc.weight.npy": npy.getvalue()})
    graph = _native()[1].encode()
    return {
        "pickle": [made.program(state), pickle.dumps({"a": [1, 2.5, (None, True)], "b": {"c": b"x", "d": {3}}}, 4)],
        "json": [index, graph, b'{"a": [1, -2.5e3, true, null, "\\u00fc"]}'],
        "zip": [whole, npz, _zip_of({"a": b"x", "b/c": b"yy"})],
        "torch": [made.program(state), made.program(made.dictionary({"model": state, "epoch": made.integer(2)}))],
        "torch_stream": [stream + struct.pack("<q", 1) + b"abcd"],
        "safetensors": [safetensors[8 : 8 + length] + b"\n" + safetensors[8 + length :]],
        "cylstm": [graph],
        "npz": [npy.getvalue()[10:], b"{'descr': '>f8', 'fortran_order': True, 'shape': (1,), }\n" + bytes(8)],
        "index": [index],
        "file": [whole, safetensors, npz, _STREAM_START + stream + struct.pack("<q", 1) + b"abcd", index],
    }[name]
