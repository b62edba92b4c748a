"""Which axes of a model's inputs are the batch and the time: by their names, by their places, and by what can be built.

A size that the file leaves open is the batch or a time. One that it fixes may be either as well: an export of a batch
of one row, or of sequences of 24 steps, computes any other number alike if nothing in it shows otherwise. So there are
several ways to read the same inputs. The network is built in the first of these ways in which it can be, which makes no
result wrong, since rows stay apart and no step is taken for another in any graph that is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.onnx.model import Subgraph, ValueInfo, type_name
from cylstm.program.interface import Given, InputKind

#: what stands for sizes that are open beside one that is not: primes that no network has
_ANY_BATCH, _ANY_TIME, _OTHER_TIME = 7919, 104_729, 104_743

_BATCH_NAME = re.compile(r"(?:.*batch.*|n|b|bs|nb|num_?samples)", re.IGNORECASE)
_TIME_NAME = re.compile(r"(?:.*(?:time|seq|len|frame|step|window|token|sample).*|t|l|s|width|w)", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """One way to read the inputs.

    Attributes
    ----------
    batch : int
        Which axis of the input with the most axes is the batch.
    given : tuple of Given
    examples : tuple of (int, dict)
        As `Network.examples`.
    """

    batch: int
    given: tuple[Given, ...]
    examples: tuple[tuple[int, Mapping[str, int]], ...]


def possible_readings(
    inputs: Sequence[ValueInfo], time: str | int | None, *, has_windows: bool = True
) -> Iterator[Reading]:
    """The ways in which inputs can be read, the likeliest first.

    Parameters
    ----------
    inputs : sequence of ValueInfo
    time : "T", int or None
    has_windows : bool
        Whether something shows which axis is the time, where that is not the first behind the batch.

    Raises
    ------
    FormatError
        If `time` is no number of steps that the inputs can have.
    UnsupportedError
        If an input is nothing that a network takes.
    """
    if time is not None and time != "T" and (type(time) is not int or time < 1):
        raise FormatError(f"time expected 'T' or a number of steps, found {time!r:.60}")
    if not inputs:
        raise UnsupportedError("a model without inputs, or all of whose inputs are constants, is not supported")
    shapes = {one.name: _shape_of(one) for one in inputs}
    kinds = {one.name: _kind_of(one) for one in inputs}
    first = max(inputs, key=lambda one: len(shapes[one.name])).name
    last_error: UnsupportedError | FormatError | None = None
    count = 0
    for batch in _batch_axes(shapes[first]):
        for place in _time_axes(shapes[first], batch, kinds[first], time, has_windows):
            try:
                reading = _reading(shapes, kinds, first, batch, place, time)
            except (UnsupportedError, FormatError) as error:
                last_error = last_error or error
                continue
            count += 1
            yield reading
    if not count:
        raise last_error or FormatError(f"time={time!r}: no axis of {_text(shapes[first])} can be a time")


def with_lengths(given: Sequence[Given], graph: Subgraph) -> list[Given]:
    """The inputs, where one that only says how many steps of the others count is that: `predict` takes ``lengths=``.

    It has to be a whole number for each row that nothing but recurrent layers reads, as their ``sequence_lens``, and
    there has to be one input alone whose steps it can be about.
    """
    sequences = [one.name for one in given if "T" in one.shape]
    if not sequences:
        sequences = [one.name for one in given if one.kind == "numbers" and len(one.shape) == 3]
    lengths = [
        one for one in given if one.kind == "indices" and one.shape == ("N",) and _is_read_as_lengths(one.name, graph)
    ]
    if len(sequences) != 1 or not lengths:
        return list(given)
    others = [one for one in given if one not in lengths]
    return [*others, *(replace(one, kind="lengths", of=sequences[0]) for one in lengths)]


def _is_read_as_lengths(name: str, graph: Subgraph) -> bool:
    """Whether a value, or the same of another type, is read as ``sequence_lens`` alone."""
    names, count = {name}, 0
    for node in graph.nodes:
        read = [k for k, one in enumerate(node.inputs) if one in names]
        if not read:
            continue
        if node.key in ("Cast", "Identity"):
            names.update(node.outputs)
        elif node.key in ("LSTM", "GRU", "RNN") and read == [4]:
            count += 1
        else:
            return False
    return count > 0 and not any(one.name in names for one in graph.outputs)


def _shape_of(info: ValueInfo) -> tuple[int | str | None, ...]:
    if info.kind != "tensor":
        raise UnsupportedError(f"input {info.name!r:.200}: a {info.kind} is not supported, tensors are")
    if info.shape is None:
        raise UnsupportedError(f"input {info.name!r:.200}: the file does not say how many axes it has")
    if not info.shape:
        raise UnsupportedError(
            f"input {info.name!r:.200}: a single number for all rows is not supported as an input; if it never changes "
            f"give it when the model is loaded: constants={{{info.name!r:.200}: ...}}"
        )
    if 0 in info.shape:
        raise UnsupportedError(f"input {info.name!r:.200}: an input without numbers, shape {_text(info.shape)}")
    return info.shape


def _kind_of(info: ValueInfo) -> InputKind:
    name = type_name(info.data_type)
    if name == "bool":
        return "truths"
    if name.startswith(("int", "uint")):
        return "indices"
    if name in ("float32", "float64", "float16", "bfloat16"):
        return "numbers"
    raise UnsupportedError(f"input {info.name!r:.200}: an input of {name} is not supported")


def _batch_axes(shape: Sequence[int | str | None]) -> list[int]:
    """The axes that may be the batch."""
    named = [k for k, size in enumerate(shape) if isinstance(size, str) and _BATCH_NAME.fullmatch(size)]
    if named:
        return named[:1]
    axes = [0, 1] if len(shape) == 3 else [0]
    if len(axes) == 2 and isinstance(shape[0], str) and _TIME_NAME.fullmatch(shape[0]):
        axes.reverse()
    return axes


def _time_axes(
    shape: Sequence[int | str | None], batch: int, kind: InputKind, time: str | int | None, has_windows: bool
) -> list[int | None]:
    """The axes that may be the time, None for no open one."""
    others = [k for k in range(len(shape)) if k != batch]
    opened = [k for k in others if not isinstance(shape[k], int)]
    if opened:
        named = [k for k in opened if isinstance(shape[k], str) and _TIME_NAME.fullmatch(str(shape[k]))]
        return [*(named or opened)]
    if isinstance(time, int):
        return [None] if time in [shape[k] for k in others] else []
    least = 2 if kind == "indices" else 3
    found: list[int | None] = []
    if len(shape) >= least:
        likely = others if has_windows and least == 3 and batch == 0 else others[:1]
        found = [k for k in likely if shape[k] != 1 or time == "T"]
    return found if time == "T" else [*found, None]


def _reading(
    shapes: Mapping[str, Sequence[int | str | None]],
    kinds: Mapping[str, InputKind],
    first: str,
    batch: int,
    place: int | None,
    time: str | int | None,
) -> Reading:
    """The inputs where these axes of the first are the batch and the time."""
    batch_size = shapes[first][batch]
    steps = None if place is None else shapes[first][place]
    is_opened = place is not None and isinstance(steps, int)
    given: list[Given] = []
    times: dict[str, int] = {}
    time_of: dict[str, str] = {}
    for name, sizes in shapes.items():
        at = batch if name == first else _batch_axis(sizes, batch, batch_size)
        if at is None:
            raise UnsupportedError(
                f"input {name!r:.200}: no axis of {_text(sizes)} is the batch; if it never changes give it when the "
                f"model is loaded: constants={{{name!r:.200}: ...}}"
            )
        shape: list[str | int] = []
        axis: str | None = None
        for k, size in enumerate(sizes):
            if k == at:
                shape.append("N")
                continue
            is_time = (
                k == place
                if name == first
                else (
                    not isinstance(size, int) or (is_opened and size == steps and "T" not in shape and len(sizes) > 2)
                )
            )
            if not is_time and isinstance(size, int):
                shape.append(size)
                continue
            if "T" in shape or axis is not None:
                raise UnsupportedError(
                    f"input {name!r:.200}: a third size that is open in {_text(sizes)}, beside batch and time, is not "
                    "supported; export it with a number there"
                )
            axis = str(size) if isinstance(size, str) else ""
            shape.append(time if isinstance(time, int) else "T")
        own = None
        if "T" in shape:
            times[name] = int(steps) if is_opened and isinstance(steps, int) else _ANY_TIME
            key = axis or ("" if is_opened else name)
            own = time_of.get(key)
            time_of.setdefault(key, name)
        given.append(Given(name, tuple(shape), kinds[name], time_of=own))
    rows = batch_size if isinstance(batch_size, int) else None
    if is_opened:
        return Reading(batch, tuple(given), ((_ANY_BATCH if rows is None else rows, times),))
    if rows is None:
        return Reading(batch, tuple(given), ())
    return Reading(batch, tuple(given), ((rows, times), (rows, dict.fromkeys(times, _OTHER_TIME))))


def _batch_axis(sizes: Sequence[int | str | None], batch: int, batch_size: int | str | None) -> int | None:
    """The axis of another input that is the batch."""
    order: list[int] = [k for k in (batch, 0, 1) if k < len(sizes)]
    order += range(len(sizes))
    for k in order:
        if sizes[k] == batch_size and batch_size is not None:
            return k
    if batch_size is None or isinstance(batch_size, str):
        for k in order[:3]:
            if sizes[k] is None:
                return k
    return None


def _text(shape: Sequence[int | str | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size)[:60] for size in shape) + ")"
