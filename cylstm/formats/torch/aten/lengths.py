"""Numbers of a program recorded once that may be, or depend on, the number of steps it was recorded with.

In a file that was exported with 24 steps, ``x.sum(1) / x.shape[1]`` says ``x.sum(1) / 24``. If the time is to be of any
length such a number stands for nothing that is known, so that the number of steps has to be the exported one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cylstm.program.lengths import check_number, example_steps
from cylstm.program.network import Network
from cylstm.program.program import Operation, Program, Reference, TensorType
from cylstm.program.tensor import Dim, shape_of

#: operations that compute with plain numbers, and the arguments that are these
NUMBERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("add", "sub", "rsub", "mul", "div", "subtract", "multiply", "divide", "true_divide", "floor_divide",
         "remainder", "fmod", "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum"),
        ("self", "other", "alpha"),
    ),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), ("min", "max")),
    **dict.fromkeys(("full", "full_like", "new_full"), ("fill_value",)),
    **dict.fromkeys(("fill", "masked_fill", "addcmul", "addcdiv"), ("value",)),
    "linspace": ("start", "end"),
    "pow": ("self",),
    "where": ("self", "other"),
}  # fmt: skip
#: operations that make an axis as long as they are told, and the argument that tells it
_MAKERS: Mapping[str, str] = {
    **dict.fromkeys(("expand", "broadcast_to", "full", "zeros", "ones", "empty", "new_zeros", "new_ones", "new_full",
                     "new_empty"), "size"),
    "repeat": "repeats",
    "tile": "dims",
    "arange": "end",
    **dict.fromkeys(("upsample_nearest1d", "upsample_linear1d"), "output_size"),
}  # fmt: skip
#: operations that need tensors of one length
_OF_ONE_LENGTH = frozenset((
    "add", "sub", "rsub", "mul", "div", "cat", "concat", "concatenate", "stack", "where", "maximum", "minimum",
    "masked_fill", "lerp", "addcmul", "addcdiv", "copy_", "add_", "sub_", "mul_", "div_", "eq", "ne", "lt", "le", "gt",
    "ge", "logical_and", "logical_or", "bitwise_and", "bitwise_or",
))  # fmt: skip
#: operations that use up what a padding adds
_WINDOWS = ("conv", "pool", "unfold")


def check_numbers(
    net: Network,
    program: Program,
    operation: Operation,
    name: str,
    arguments: Mapping[str, Any],
    readers: Mapping[str, Sequence[Operation]],
    name_of: Callable[[Operation], str],
) -> None:
    """Raise `StaticTimeNeeded` if a number of an operation may depend on the number of steps.

    Parameters
    ----------
    net : Network
    program : Program
    operation : Operation
    name : str
        The operation's, without overload and underscore.
    arguments : mapping
        Its arguments as they are.
    readers : mapping
        Value of the program -> the operations that read it.
    name_of : callable
    """
    steps = example_steps(net)
    if not steps:
        return
    for key in NUMBERS.get(name, ()):
        check_number(net, arguments.get(key), list(arguments.values()), steps)
    if name in ("pad", "constant_pad_nd"):
        _check_padding(net, operation, arguments, readers, name_of)
    if (
        name in _MAKERS
        and _makes_time(net, name, arguments)
        and not _is_joined_by(program, operation, set(steps), readers, name_of)
    ):
        raise net.needs_time("an axis as long as the time was, or of a number of places of its own,")


def _check_padding(
    net: Network,
    operation: Operation,
    arguments: Mapping[str, Any],
    readers: Mapping[str, Sequence[Operation]],
    name_of: Callable[[Operation], str],
) -> None:
    """A time made longer is as long as a convolution or a pooling needs it, or it may be filled up to some length."""
    x, pairs = arguments["self"], arguments["pad"]
    rank = len(shape_of(x))
    for i in range(len(pairs) // 2):
        size = shape_of(x)[rank - 1 - i]
        before, after = pairs[2 * i : 2 * i + 2]
        if not isinstance(size, Dim) or not (before > 0 or after > 0):
            continue
        found = [name_of(reader) for output in operation.outputs for reader in readers.get(str(output), ())]
        if not found or not all(any(window in one for window in _WINDOWS) for one in found):
            raise net.needs_time("a padding of the time, which may fill it up to some length,")


def _makes_time(net: Network, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an axis that an operation makes was taken for a time."""
    given = arguments.get(_MAKERS[name])
    sizes = list(given) if isinstance(given, (tuple, list)) else [given]
    own: list[Any] = list(shape_of(arguments["self"])) if name in ("expand", "broadcast_to") else []
    own = [None] * (len(sizes) - len(own)) + own
    for size, before in zip(sizes, own):
        found = net.size(size) if type(size) is int else size
        if type(size) is int and isinstance(found, Dim) and found.axis is not None and before != found:
            return True
    return False


def _is_joined_by(
    program: Program,
    operation: Operation,
    steps: set[int],
    readers: Mapping[str, Sequence[Operation]],
    name_of: Callable[[Operation], str],
) -> bool:
    """Whether what an operation makes meets another tensor that has to be as long."""
    reached = {str(output) for output in operation.outputs}
    waiting = list(reached)
    while waiting:
        for reader in readers.get(waiting.pop(), ()):
            others = [one for one in _names(reader.arguments) if one not in reached]
            if name_of(reader) in _OF_ONE_LENGTH and any(
                one not in program.constants and steps & set(_shape(program, one)) for one in others
            ):
                return True
            for output in _names(tuple(Reference(str(one)) for one in _flat(reader.outputs))):
                if output not in reached and steps & set(_shape(program, output)):
                    reached.add(output)
                    waiting.append(output)
    return False


def _shape(program: Program, name: str) -> tuple[Any, ...]:
    kind = program.types.get(name)
    return kind.shape if isinstance(kind, TensorType) else ()


def _flat(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, (tuple, list)):
        for one in found:
            yield from _flat(one)


def _names(found: Any) -> Iterator[str]:
    """The values that arguments refer to."""
    if isinstance(found, Reference):
        yield found.name
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from _names(one)
    elif isinstance(found, (tuple, list)):
        for one in found:
            yield from _names(one)
