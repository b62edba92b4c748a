"""Targets whose bytes are the members of an archive, which is right around them, or the parts of a packed file.

The members stand one after another, `BETWEEN` between them: a name, a line's end, and its content. A name that begins
with ``*`` is of a member that is compressed. A change of the bytes changes names, members or their contents, and is
never one that a checksum stops.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cylstm
from cylstm.errors import CylstmError
from cylstm.formats.state_dict.wiring import LSTM, Last, Linear

from tests.builders import pt2_files
from tests.builders import weight_files as made

BETWEEN = b"\n=\x00=\n"
_LAYERS = [LSTM("lstm"), Last(), Linear("fc")]
_MOST_MEMBERS = 40


def members_of(data: bytes) -> list[tuple[str, bytes]]:
    """Names and contents."""
    parts = [part.partition(b"\n") for part in data.split(BETWEEN)[:_MOST_MEMBERS]]
    return [(name.decode("utf-8", "replace"), content) for name, _, content in parts]


def joined(members: dict[str, bytes]) -> bytes:
    """As `members_of` takes it."""
    return BETWEEN.join(name.encode() + b"\n" + content for name, content in members.items())


def archive(data: bytes) -> bytes:
    """The zip of the members, with right sizes and checksums; names may repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members_of(data):
            method = zipfile.ZIP_DEFLATED if name.startswith("*") else zipfile.ZIP_STORED
            if len(name) < 200:
                file.writestr(zipfile.ZipInfo(name.removeprefix("*")), content, method)
    return buffer.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    """An array as a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def members_in(content: bytes) -> bytes:
    """`joined` of the members of a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return joined({name: file.read(name) for name in file.namelist()})


def targets(folder: Path, read_both: Callable, read_model: Callable) -> dict[str, Callable[[bytes], None]]:
    """By name; files are written to `folder`."""

    def write(name: str, content: bytes) -> str:
        path = folder / name
        path.write_bytes(content)
        return str(path)

    def torch_archive(data: bytes) -> None:
        read_both(write("archive.pt", archive(data)), _LAYERS)

    def npz_archive(data: bytes) -> None:
        read_both(write("archive.npz", archive(data)), _LAYERS)

    def pt2_archive(data: bytes) -> None:
        read_model(write("archive.pt2", archive(data)))

    def keras_archive(data: bytes) -> None:
        read_model(write("archive.keras", archive(data)))

    def trace_archive(data: bytes) -> None:
        trace = cylstm.Trace.load(write("trace.npz", archive(data)))
        repr(trace)
        for name in trace:
            for part in trace[name].parts:
                assert trace[name][part].ndim < 65

    def packed(data: bytes) -> None:
        """A native file whose first line is its header, and the rest its arrays: packed ones are mapped and run."""
        header, _, rest = data.partition(b"\n")
        header += b" " * (-len(header) % 64 + 56)
        path = write("packed.cylstm", len(header).to_bytes(8, "little") + header + rest)
        for options in ({}, {"mmap": True}, {"weights": "float32"}):
            try:
                run(cylstm.load(path, **options))
            except CylstmError as error:
                str(error)

    found = {"torch_archive": torch_archive, "npz_archive": npz_archive, "pt2_archive": pt2_archive, "packed": packed}
    return found | {"keras_archive": keras_archive, "trace_archive": trace_archive}


def run(model: cylstm.Model) -> None:
    """A prediction, where it takes no more memory than a small file should lead to."""
    arrays = []
    for name in model.inputs:
        value = model.graph.values[name]
        shape = (2, *(3 if size is None else size for size in value.shape))
        if np.prod(shape, dtype=float) > 1e5 or model._packed.nbytes > 1e7:
            return
        arrays.append(np.ones(shape, np.int32 if value.kind == "index" else np.float32))
    outputs = [model.graph.values[name] for name in model.outputs]
    if any(np.prod([size or 100 for size in value.shape], dtype=float) > 1e6 for value in outputs):
        return
    times = [
        model.graph.values[name].shape[0] or 3 if model.graph.values[name].has_time else 1 for name in model.inputs
    ]
    if model._packed.run_bytes(times) < 1e7:
        model.predict(arrays if len(arrays) > 1 else arrays[0])


def seeds(name: str, folder: Path) -> list[bytes]:
    """Members of files as they should be."""
    rng = np.random.default_rng(7)
    tensors = made.lstm_tensors(rng, "lstm", 1, 1) | made.linear_tensors(rng, "fc", 1, 1)
    if name == "torch_archive":
        return [members_in(made.write_torch(folder / "seed.pt", tensors).read_bytes())]
    if name == "npz_archive":
        np.savez(folder / "seed.npz", **tensors)
        compressed = {f"*{key}.npy": npy_of(array) for key, array in tensors.items()}
        return [members_in((folder / "seed.npz").read_bytes()), joined(compressed)]
    if name == "pt2_archive":
        return [joined(pt2_files.members(*pt2_files.document(rng)))]
    if name == "keras_archive":
        return _keras_seeds(folder)
    if name == "trace_archive":
        model = cylstm.from_state_dict(tensors, _LAYERS)
        model.trace(rng.standard_normal((2, 3, 1)).astype(np.float32)).save(folder / "seed.npz")
        return [members_in((folder / "seed.npz").read_bytes())]
    return _packed_seeds(folder)


def _keras_seeds(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(8)
    model = made.keras_model(made.keras_input(None, 1), made.keras_lstm("rnn", 1), made.keras_dense("fc", 1))
    weights = {
        "layers/lstm/cell": made.keras_lstm_weights(rng, 1, 1),
        "layers/dense": made.keras_dense_weights(rng, 1, 1),
    }
    path = folder / "seed.keras"
    return [members_in(Path(made.write_keras(path, model, weights) or path).read_bytes())]


@functools.cache
def _packed_seeds(folder: Path) -> list[bytes]:
    from tests.builders.native_networks import networks

    found = []
    for name, weights in (
        ("lstm", None),
        ("gru", "int8a16"),
        ("lstm_stacked_bidirectional_projected", "float16"),
        ("layers_words", None),
        ("layers_along", None),
        ("layers_convolutions", None),
        ("conv_lstm_1d", "bfloat16"),
    ):
        model = cylstm.Model(networks()[name][0].graph, weights=weights)
        for is_packed in (True, False):
            path = folder / "seed.cylstm"
            model.save(path, packed=is_packed)
            content = path.read_bytes()
            length = int.from_bytes(content[:8], "little")
            header = json.dumps(json.loads(content[8 : 8 + length]), separators=(",", ":")).encode()
            found.append(header + b"\n" + content[8 + length :])
    return found
