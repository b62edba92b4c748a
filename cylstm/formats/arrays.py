"""Arrays and tensors of any kind as plain NumPy arrays that the graph owns."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cylstm.array_like import to_array
from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.graph.weights import StoredTensor


class Tensors(NamedTuple):
    """What a file of tensors holds: name -> tensor, and the provenance that tells how they were found.

    Large tensors may stay in the file until they are packed, piece by piece, so that memory holds them once.

    The provenance has ``format``, ``version``, ``framework_version``, ``source`` and ``layouts`` (name -> how the
    tensor was stored), and whatever else the format records.
    """

    arrays: Mapping[str, np.ndarray | StoredTensor]
    provenance: Mapping[str, Any]


def shape_text(shape: tuple[int, ...]) -> str:
    """``(16, 3)`` for messages."""
    return str(tuple(int(size) for size in shape))


def bfloat16_bits_to_float32(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 numbers held as uint16; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def as_numpy(name: str, value: Any) -> np.ndarray:
    """A copy of an array or of a tensor of PyTorch (which is not imported).

    Returns
    -------
    ndarray
        C order, native byte order; float32 or float64 (half precision becomes float32), integer or bool.

    Raises
    ------
    FormatError
        If it is nothing of that kind, or a masked array in which something is masked.
    """
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        if getattr(value, "is_quantized", False):
            value = value.dequantize()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        try:
            value = value.numpy()
        except (RuntimeError, TypeError) as error:
            raise UnsupportedError(f"tensor {name!r} cannot become an array: {error}") from error
    try:
        array = to_array(value, f"tensor {name!r}")
    except (ShapeError, UnsupportedError) as error:
        raise FormatError(str(error)) from error
    if array.dtype.name in ("float16", "bfloat16"):
        return np.array(array, dtype=np.float32, order="C")
    if array.dtype.kind in "iub" or (array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)):
        return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    raise FormatError(f"tensor {name!r}: expected floating-point numbers of at most 64 bits, found {array.dtype}")


def warn_not_finite(where: str, tensors: Mapping[str, np.ndarray | StoredTensor]) -> None:
    """Warn, naming them, if tensors hold NaN or infinity; the file is loaded nevertheless."""
    found = [name for name, tensor in tensors.items() if not all(np.isfinite(rows).all() for rows in _pieces(tensor))]
    if found:
        warnings.warn(f"{where}: NaN or infinity in {', '.join(found)}", UserWarning, stacklevel=2)


def _pieces(tensor: np.ndarray | StoredTensor) -> Iterable[np.ndarray]:
    return (rows for _, rows in tensor.pieces()) if isinstance(tensor, StoredTensor) else (tensor,)
