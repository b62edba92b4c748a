"""``python -m cylstm verify``: whether a file gives the same bits here as where it was saved."""

from __future__ import annotations

import os
import warnings

from cylstm._version import __version__
from cylstm.checks import bits_of, describe_inputs, predictions
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import CheckError, CylstmWarning, FormatError
from cylstm.formats import File
from cylstm.formats.native import is_native
from cylstm.formats.native.check import read_check
from cylstm.loading import load

_LISTED = 16


@in_standard_mode
def verify(path: str | os.PathLike[str]) -> str:
    """Predict the input that a file keeps, and compare the bits with those where it was saved.

    Returns
    -------
    str
        What was checked, a sentence.

    Raises
    ------
    FormatError
        If the file keeps no check, or is damaged.
    CheckError
        If the bits are others.
    """
    path = os.fsdecode(path)
    check = None
    with File(path) as file:
        tensors = file.safetensors
        if tensors is not None and is_native(file) and "check" in tensors.metadata:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CylstmWarning)  # about what a user may do with the model
                model = load(path, engine="packed", dtype="float32")
            check = read_check(tensors, model.graph)
    if check is None:
        raise FormatError(
            f'{path}: it keeps no check; model.save("....cylstm", check=x), or python -m cylstm convert --check FILE, '
            "writes one: an input and the hash of what it gives"
        )
    found = predictions(model, list(check.inputs.values()))
    for (name, shape, bits), array in zip(check.outputs, found, strict=True):
        if array.shape != shape or bits_of(array) != bits:
            newer = "" if check.version == __version__ else f" CyLSTM {check.version} saved it, this is {__version__}."
            raise CheckError(
                f"{path}: output {name!r}: expected shape {shape} and the bits {bits[:16]}, found {array.shape} and "
                f"{bits_of(array)[:16]}: this machine computes something else than the one that saved the file."
                f"{newer} Run python -m cylstm bench; if its bits are as expected the file is damaged: copy it again"
            )
    shown = ", ".join(f"{name} {shape}" for name, shape, _ in check.outputs[:_LISTED])
    bits = ", ".join(bits[:16] for *_, bits in check.outputs[:_LISTED])
    given = describe_inputs(model, list(check.inputs.values()))
    return f"{path}: as expected: {given} gives {shown}, bit for bit as where it was saved ({bits})"
