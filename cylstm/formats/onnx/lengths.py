"""Numbers of a model of a fixed number of steps that may depend on it.

In a model that was exported with 24 steps, ``x.sum(1) / x.shape[1]`` says ``x.sum(1) / 24``. If the time is to be of
any length such a number stands for nothing that is known, so that the number of steps has to be the exported one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.model import Node
from cylstm.program.lengths import check_number, example_steps
from cylstm.program.tensor import Dim, is_constant, shape_of

#: operators that compute with plain numbers
_OF_NUMBERS = frozenset((
    "Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Mean", "Sum", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Where", "Clip",
))  # fmt: skip
#: operators that make an axis as long as they are told, and the input that tells it
_MAKERS: Mapping[str, int] = {"Expand": 1, "ConstantOfShape": 0, "Tile": 1, "Range": 1, "Resize": 3}
#: operators that use up what a padding adds, and those that a padding may reach them through
_WINDOWS = frozenset(("Conv", "MaxPool", "AveragePool", "LpPool"))
_BETWEEN = frozenset(("Identity", "Unsqueeze", "Squeeze", "Transpose", "Reshape"))


def check_call(call: Call, outputs: Sequence[str], readers: Mapping[str, Sequence[Node]]) -> None:
    """Raise `StaticTimeNeeded` if an operator is given a number that may depend on the number of steps.

    Parameters
    ----------
    call : Call
    outputs : sequence of str
        The node's.
    readers : mapping
        Value -> the nodes that read it.
    """
    net, name = call.net, call.operator
    if name not in _OF_NUMBERS and name not in _MAKERS and name != "Pad":
        return
    steps = example_steps(net)
    if not steps:
        return
    if name in _OF_NUMBERS and not all(one is None or is_constant(one) for one in call.inputs):
        for found in call.inputs:
            check_number(net, found, call.inputs, steps)
    if name in _MAKERS and _makes_time(call, _MAKERS[name]):
        raise net.needs_time("an axis as long as the time was, or of a number of places of its own,")
    if name == "Pad" and _pads_time(call):
        read = [reader for output in outputs for reader in _beyond(output, readers)]
        if not read or not all(reader.operator in _WINDOWS for reader in read):
            raise net.needs_time("a padding of the time, which may fill it up to some length,")


def _makes_time(call: Call, role: int) -> bool:
    """Whether a size that is a number was taken for a time."""
    found = call.input(role)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
        return False
    sizes = [call.net.size(int(size)) for size in found.reshape(-1)]
    own: list[object] = list(shape_of(call.input(0))) if call.operator == "Expand" else []
    own = [None] * (len(sizes) - len(own)) + own
    return any(isinstance(size, Dim) and size.axis is not None and size != before for size, before in zip(sizes, own))


def _pads_time(call: Call) -> bool:
    """Whether something is added before or after a time."""
    shape, pads = shape_of(call.input(0)), call.input(1)
    given = call.attribute("pads", ()) if pads is None else pads.reshape(-1) if isinstance(pads, np.ndarray) else ()
    axes: Sequence[object] = range(len(shape)) if call.input(3) is None else call.sizes(3, "axes")
    for k, axis in enumerate(axes):
        size = shape[axis] if isinstance(axis, int) else None
        if isinstance(size, Dim) and size.axis and any(one != 0 for one in given[k :: len(axes)]):
            return True
    return False


def _beyond(name: str, readers: Mapping[str, Sequence[Node]]) -> list[Node]:
    """The nodes that read a value, or what only changes its shape."""
    found: list[Node] = []
    waiting, known = [name], {name}
    while waiting:
        for reader in readers.get(waiting.pop(), ()):
            if reader.operator not in _BETWEEN:
                found.append(reader)
                continue
            new = [output for output in reader.outputs if output not in known]
            known.update(new)
            waiting += new
    return found
