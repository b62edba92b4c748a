"""A tensor program as plain data: a list of operations on tensors, in the order in which they are computed.

It is what `torch.export` and ONNX write. Nothing is known here of what an operation computes; its name and the names of
its arguments are those of the framework that the program comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from cylstm.program.size import Size

__all__ = ["Body", "NumberType", "Operation", "Program", "Reference", "Size", "TensorType"]


@dataclass(frozen=True, slots=True)
class Reference:
    """An argument that is a value of the program: an input, a constant or what an operation made."""

    name: str


@dataclass(frozen=True, slots=True)
class TensorType:
    """What is known of a tensor before it is computed.

    Attributes
    ----------
    dtype : str
        As NumPy and PyTorch call it: ``"float32"``, ``"bfloat16"``, ``"int64"``, ``"bool"``.
    shape : tuple of int or Size
        A `Size` where the program takes any.
    """

    dtype: str
    shape: tuple[int | Size, ...]


@dataclass(frozen=True, slots=True)
class NumberType:
    """What is known of a value that is a Python number and no tensor, such as a size.

    Attributes
    ----------
    kind : {"int", "float", "bool"}
    value : int, float, bool, Size or None
        What it is always; None if that is not known before it is computed, or is an expression of floats or truths.
    """

    kind: str
    value: int | float | bool | Size | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes
    ----------
    target : str
        Its name: ``"aten.add.Tensor"``, ``"aten.lstm.input"``, ``"aten.sym_size.int"``, ``"_operator.mul"``,
        ``"higher_order.cond"``. PyTorch's ends in the overload, which decides the arguments; one whose name before that
        ends in ``_`` (``"aten.add_.Tensor"``) also writes its first argument.
    arguments : mapping
        The operator's own name of an argument -> its value, of those that were given: `Reference`, int, float, bool,
        complex, str, None, tuples and dicts of these, and `Body`. Types are texts (``"float32"``), and so are layouts
        (``"strided"``), memory formats (``"contiguous_format"``) and devices (``"cpu"``). Arguments that have no name,
        of higher-order operations, are called ``"0"``, ``"1"``, ….
    outputs : tuple
        The name of each result; a tuple of names for a list of tensors (of split, chunk, unbind), None for none.
    where : str
        Whence it comes, for messages: ``"net.py line 12"``. It may be empty.
    layer : str
        The path of the framework's own layer that it is all or part of, ``"encoder.lstm"``; empty in the code of the
        network itself.
    """

    target: str
    arguments: Mapping[str, Any]
    outputs: tuple[str | tuple[str, ...] | None, ...]
    where: str
    layer: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """A program that is an argument of an operation, such as a branch of a condition.

    Its names are its own: the same name may mean something else around it.

    Attributes
    ----------
    inputs : tuple of str
        What the operation passes in, in order.
    operations, types
        As in `Program`.
    outputs : tuple
        `Reference` and constants.
    """

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Any, ...]
    types: Mapping[str, TensorType | NumberType]


#: `Reference`, constants, and tuples and dicts of these
Structure: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Program:
    """A network as a framework exported it.

    Every name that an operation or `outputs` refers to is an input, a constant, or an output of an operation before it;
    none is given twice.

    Attributes
    ----------
    inputs : tuple of str
        The values that the user gives, in order.
    input_names : mapping
        Input -> how the network's function calls it: ``"x"``, ``"states[0]"``, ``"batch['text']"``. Of some inputs it
        may not be known.
    fixed : mapping
        Arguments of that function that took a constant (None, a number, a text) when the program was made, and have no
        other value since.
    operations : tuple of Operation
    outputs : structure
        What the function returns: a `Reference`, a constant, or tuples (lists too) and dicts of these.
    constants : mapping
        Value -> array, of parameters, buffers and other tensors that are kept in the program. Half precision (float16
        and bfloat16) is widened to float32, although `types` says what it was. Values that share their numbers may be
        one array.
    constant_names : mapping
        Value -> its path in the network, ``"lstm.weight_ih_l0"``.
    types : mapping
        Value -> `TensorType` or `NumberType`, of every value.
    ranges : mapping
        Symbol of a size -> the smallest and the largest number that it may be; None for no limit.
    mutated : mapping
        What the program writes -> the value it writes. A buffer is called by its path, an input by its name. It has
        what the program says itself and what an operation that writes its first argument names there; a view may be
        written besides.
    source : str
        Who wrote it: ``"PyTorch 2.13.0 export"``.
    """

    inputs: tuple[str, ...]
    input_names: Mapping[str, str]
    fixed: Mapping[str, Any]
    operations: tuple[Operation, ...]
    outputs: Structure
    constants: Mapping[str, np.ndarray]
    constant_names: Mapping[str, str]
    types: Mapping[str, TensorType | NumberType]
    ranges: Mapping[str, tuple[int, int | None]]
    mutated: Mapping[str, str]
    source: str
