"""PyTorch: checkpoints and exported programs, read without PyTorch, and live modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cylstm.formats import File, Format

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph

# what the first pickle of PyTorch's stream holds, behind a protocol and perhaps a frame
_STREAM_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"


def _is_checkpoint(file: File) -> bool:
    if file.head[:1] == b"\x80":
        return _STREAM_MAGIC in file.head[:32]
    return not file.is_folder and any(name == "data.pkl" or name.endswith("/data.pkl") for name in file.members)


def _read_checkpoint(file: File, **options: Any) -> Graph:
    from cylstm.formats.torch.checkpoint import read_torch

    return read_torch(file.path, **options)


def _is_exported(file: File) -> bool:
    if file.is_folder or not file.members:
        return False
    from cylstm.formats.torch.pt2 import is_exported

    return is_exported(file.members)


def _read_exported(file: File, **options: Any) -> Graph:
    from cylstm.formats.torch.aten.file import graph_from_pt2

    return graph_from_pt2(file.path, **options)


FORMATS = (
    Format("a PyTorch checkpoint", (".pt", ".pth", ".ckpt"), ("layers", "key"), _is_checkpoint, _read_checkpoint),
    Format("a program of torch.export", (".pt2",), ("time",), _is_exported, _read_exported),
)
