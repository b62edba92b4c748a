"""The operations of ``keras.ops`` by the names of their classes, and the call of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cylstm.errors import UnsupportedError
from cylstm.formats.keras.call import Computed, LayerCall
from cylstm.formats.keras.operations.arithmetic import ARITHMETIC
from cylstm.formats.keras.operations.axes import AXES
from cylstm.formats.keras.operations.masks import MASKS
from cylstm.formats.keras.operations.network import Operations
from cylstm.formats.keras.operations.nn import NN
from cylstm.formats.keras.operations.products import PRODUCTS
from cylstm.formats.keras.operations.shapes import SHAPES
from cylstm.program.network import MIXES

#: name of the class -> function of the network and of Keras's arguments by name
OPERATIONS: Mapping[str, Callable[..., Any]] = {**ARITHMETIC, **SHAPES, **AXES, **PRODUCTS, **NN}

_COMPLEX = "complex numbers are not computed"
_DECOMPOSED = "matrices are not decomposed or inverted"
_PYTHON = "it calls a function of Python's, which a file does not hold"
_DEPENDS = "its result's size depends on the numbers"
_LOSS = "a loss is no part of a prediction"

#: name of the class -> why it is not computed
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("AllClose", "Bincount", "Histogram", "Corrcoef", "SegmentSum", "SegmentMax", "SegmentMin", "SegmentProd",
         "SegmentReduction", "Vdot"),
        f"it {MIXES}",
    ),
    "Signbit": "the sign of zero is not kept; x < 0 is",
    "Outer": f"it {MIXES}; for an outer product of each row multiply a[:, :, None] by b[:, None, :]",
    **dict.fromkeys(("Unique", "Nonzero"), _DEPENDS),
    **dict.fromkeys(
        ("FFT", "FFT2", "IFFT2", "RFFT", "IRFFT", "STFT", "ISTFT", "Angle", "Imag", "Polar", "ViewAsComplex",
         "ViewAsReal"), _COMPLEX),
    **dict.fromkeys(
        ("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "Logdet", "Lstsq", "LuFactor", "MatrixRank",
         "Pinv", "Qr", "SVD", "Slogdet", "Solve", "SolveTriangular"), _DECOMPOSED),
    **dict.fromkeys(
        ("AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop", "JVP"), _PYTHON),
    **dict.fromkeys(
        ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "CTCLoss", "CTCDecode",
         "PSNR"), _LOSS),
    **dict.fromkeys(("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose"), "use the layer, which is"),
}  # fmt: skip


def add_operation(operations: Operations, call: LayerCall, args: Sequence[Any]) -> list[Any]:
    """The results of an operation on `args`. Raises `UnsupportedError` for one that is not computed, by its name."""
    name = call.layer.class_name
    function = OPERATIONS.get(name)
    if function is None:
        why = REFUSED.get(name, f"docs/layers.md lists the {len(OPERATIONS)} that are")
        raise UnsupportedError(f"{call.what}: the operation keras.ops {name} is not supported; {why}")
    options = {key: option for key, option in call.layer.config.items() if key != "name"} | dict(call.arguments)
    masked = MASKS[name](call, args) if name in MASKS else None
    if masked is not None:
        return [Computed(call.name, call.what, lambda: operations.add(call, function, args, options), masked)]
    return operations.results(call, operations.add(call, function, args, options))
