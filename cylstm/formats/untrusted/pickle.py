"""An inert reader of pickles: nothing is imported, called or built beyond plain data.

A pickle is a program. Python's unpickler cannot be made safe: even with its hooks replaced it calls what the pickle
names, and it has no limits of memory or depth. The one of ``torch.load(weights_only=True)`` needs PyTorch.

This is an interpreter of the opcodes in which naming a class or a function only makes a `Global`, a name. When such a
name is called, the few functions that a checkpoint of tensors needs are replaced by the caller's own; every other call
makes a `Placeholder`, which remembers the name and swallows whatever the program does to it.

The opcodes are those of protocols 2 to 5 that Python's pickler writes; see the ``pickletools`` module of Python.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from cylstm.errors import FormatError

# Far more than any checkpoint needs: one tensor takes about 50 operations and 5 kB.
_MAX_OPERATIONS = 600_000
_MAX_MEMORY = 48 << 20
_MAX_MARKS = 1_000
_MAX_INTEGER_BYTES = 128
_MAX_NAME_BYTES = 256
# Roughly what Python takes for an object, a container, one of its entries and an entry of the memo.
_OBJECT_BYTES, _CONTAINER_BYTES, _ENTRY_BYTES, _MEMO_BYTES = 40, 80, 8, 100
_CALL_BYTES = 1000


@dataclass(frozen=True)
class Global:
    """The name of a class or function, and nothing more."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Placeholder:
    """An object that the pickle builds by calling an unknown function, which is not called.

    Attributes
    ----------
    made_by : str
        What was to be called, for messages.
    state : dict or None
        The last plain dict that the pickle set as its state: the attributes of an object.
    items : tuple or None
        The last tuple that it set as its state: what an object of a class written in C++ is made of.
    """

    __slots__ = ("items", "made_by", "state")

    def __init__(self, made_by: object) -> None:
        self.made_by = str(made_by)
        self.state: dict[object, object] | None = None
        self.items: tuple[object, ...] | None = None

    def __str__(self) -> str:
        return self.made_by


def load_pickle(
    source: bytes | bytearray | BinaryIO,
    what: str,
    functions: Mapping[str, Callable[..., object]],
    persistent: Callable[[object], object],
    size: int | None = None,
) -> object:
    """Interpret a pickle.

    Parameters
    ----------
    source : bytes or file
        One pickle; what follows its STOP is not read.
    what : str
        For messages.
    functions : dict of str to callable
        Dotted name -> what is called in its place; it is to raise `FormatError` on arguments it does not like.
    persistent : callable
        Persistent id -> object.
    size : int, optional
        Bytes that `source`, if it is a file, has left from where it stands.

    Returns
    -------
    object
        Numbers, strings, bytes, None, lists, tuples, dicts, sets (as lists), `Global`, `Placeholder` and what
        `functions` and `persistent` return.

    Raises
    ------
    FormatError
        If the pickle is damaged, uses an opcode that checkpoints do not, or makes more objects than they do.
    """
    if isinstance(source, (bytes, bytearray)):
        size = len(source)
        source = io.BytesIO(source)
    return _Interpreter(source, what, functions, persistent, size or 0).run()


class _Interpreter:
    def __init__(
        self,
        file: BinaryIO,
        what: str,
        functions: Mapping[str, Callable[..., object]],
        persistent: Callable[[object], object],
        size: int,
    ) -> None:
        self.file = file
        self.what = what
        self.functions = functions
        self.persistent = persistent
        self.size = size
        self.position = 0
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.memory = 0

    def fail(self, message: str) -> FormatError:
        return FormatError(f"{self.what}: {message}, at byte {self.position} of the pickle")

    def run(self) -> object:
        for _ in range(_MAX_OPERATIONS):
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                if len(self.stack) != 1 or self.marks:
                    raise self.fail(f"the pickle ends with {len(self.stack)} objects where one is expected")
                return self.stack[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise self.fail(f"opcode {bytes([code])!r} has no place in a checkpoint")
            operation(self)
        raise self.fail(f"more than {_MAX_OPERATIONS} operations; save the state dict on its own")

    # Reading, pushing and popping

    def spend(self, size: int) -> None:
        """Count the memory that is about to be taken; what is given back is not counted."""
        self.memory += size
        if self.memory > _MAX_MEMORY:
            raise self.fail(f"more than {_MAX_MEMORY >> 20} MB of objects; save the state dict on its own")

    def take(self, size: int) -> bytes:
        if size > self.size - self.position:
            raise self.fail(f"{size} bytes expected, {self.size - self.position} left; truncated?")
        if size > _OBJECT_BYTES:
            self.spend(size)
        found = self.file.read(size)
        self.position += len(found)
        if len(found) != size:
            raise self.fail(f"{size} bytes expected, {len(found)} left; truncated?")
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        found = self.file.readline(min(_MAX_NAME_BYTES, self.size - self.position))
        self.position += len(found)
        if not found.endswith(b"\n"):
            raise self.fail("a name without an end")
        return self.text(found[:-1])

    def text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.fail("a string that is not UTF-8") from error

    def push(self, value: object) -> None:
        self.spend(_OBJECT_BYTES)
        self.stack.append(value)

    def pop(self) -> object:
        # A mark is a border that only operations on marks may cross.
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.fail("nothing on the stack")
        return self.stack.pop()

    def top(self) -> object:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[object]:
        if not self.marks:
            raise self.fail("no mark on the stack")
        start = self.marks.pop()
        self.spend(_ENTRY_BYTES * (len(self.stack) - start))
        values = self.stack[start:]
        del self.stack[start:]
        return values

    # Operations

    def mark(self) -> None:
        if len(self.marks) >= _MAX_MARKS:
            raise self.fail(f"nested more than {_MAX_MARKS} deep")
        self.marks.append(len(self.stack))

    def long(self, size_bytes: int) -> None:
        size = self.number(size_bytes)
        if size > _MAX_INTEGER_BYTES:
            raise self.fail(f"an integer of {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def put(self, index: int) -> None:
        self.spend(_MEMO_BYTES)
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.fail(f"memo entry {index} does not exist")
        self.push(self.memo[index])

    def tuple_of(self, size: int) -> None:
        self.spend(_CONTAINER_BYTES)
        values = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    def empty(self, container: list[object] | dict[object, object]) -> None:
        self.spend(_CONTAINER_BYTES)
        self.push(container)

    def append(self, values: list[object]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Placeholder):
            raise self.fail(f"appending to a {type(target).__name__}")

    def set_items(self, values: list[object]) -> None:
        target = self.top()
        if isinstance(target, Placeholder):
            return
        if type(target) is not dict:
            raise self.fail(f"setting items of a {type(target).__name__}")
        if len(values) % 2:
            raise self.fail("a key without a value")
        self.spend(_MEMO_BYTES // 2 * len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    def dictionary(self) -> None:
        values = self.pop_mark()
        self.empty({})
        self.set_items(values)

    def make_global(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str) and module.isprintable() and name.isprintable()):
            raise self.fail("a global whose name is not printable text")
        if len(module) + len(name) > 2 * _MAX_NAME_BYTES:
            raise self.fail("a global whose name is too long")
        self.spend(_CALL_BYTES)
        self.push(Global(module, name))

    def stack_global(self) -> None:
        name = self.pop()
        self.make_global(self.pop(), name)

    def call(self, function: object, arguments: object) -> object:
        self.spend(_CALL_BYTES)
        if not isinstance(arguments, tuple):
            raise self.fail("a call whose arguments are not a tuple")
        self.spend(_MEMO_BYTES * sum(len(argument) for argument in arguments if isinstance(argument, (list, tuple))))
        if isinstance(function, Placeholder):
            return Placeholder(function)
        if not isinstance(function, Global):
            raise self.fail(f"a call of a {type(function).__name__}")
        ours = self.functions.get(str(function))
        if ours is None:
            return Placeholder(function)
        try:
            return ours(*arguments)
        except TypeError as error:
            raise self.fail(f"{function} with {len(arguments)} arguments it does not take") from error

    def reduce(self) -> None:
        arguments = self.pop()
        self.push(self.call(self.pop(), arguments))

    def new_object_ex(self) -> None:
        self.pop()
        arguments = self.pop()
        self.push(self.call(self.pop(), arguments))

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, Placeholder) and isinstance(state, dict):
            target.state = state
        if isinstance(target, Placeholder) and isinstance(state, tuple):
            target.items = state
        # A state dict carries its _metadata (module versions) as a state; it is not about the weights.
        metadata = type(target) is dict and isinstance(state, dict) and len(state) < 2 and state.keys() <= {"_metadata"}
        if not metadata and not isinstance(target, Placeholder):
            raise self.fail(f"setting the state of a {type(target).__name__}")

    def persistent_id(self) -> None:
        self.push(self.persistent(self.pop()))

    def frame(self) -> None:
        if self.number(8) > self.size - self.position:
            raise self.fail("a frame longer than the file; truncated?")

    def protocol(self) -> None:
        protocol = self.number(1)
        if not 2 <= protocol <= 5:
            raise self.fail(f"pickle protocol {protocol}; 2 to 5 are read")


def plain_key(key: object) -> object:
    """`key` if its hash is safe to take, else a placeholder: nested shared tuples hash in exponential time."""
    if key is None or isinstance(key, (str, int, float, bytes, Global, Placeholder)):
        return key
    return Placeholder(f"a {type(key).__name__} as key")


def _float(machine: _Interpreter) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


_OPERATIONS: dict[int, Callable[[_Interpreter], None]] = {
    code[0]: operation
    for code, operation in {
        b"\x80": _Interpreter.protocol,
        b"\x95": _Interpreter.frame,
        b"(": _Interpreter.mark,
        b"0": lambda m: m.pop(),
        b"1": lambda m: m.pop_mark(),
        b"2": lambda m: m.push(m.top()),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"K": lambda m: m.push(m.number(1)),
        b"M": lambda m: m.push(m.number(2)),
        b"J": lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
        b"\x8a": lambda m: m.long(1),
        b"\x8b": lambda m: m.long(4),
        b"G": _float,
        b"X": lambda m: m.push(m.text(m.take(m.number(4)))),
        b"\x8c": lambda m: m.push(m.text(m.take(m.number(1)))),
        b"\x8d": lambda m: m.push(m.text(m.take(m.number(8)))),
        b"T": lambda m: m.push(m.take(m.number(4)).decode("latin-1")),
        b"U": lambda m: m.push(m.take(m.number(1)).decode("latin-1")),
        b"B": lambda m: m.push(m.take(m.number(4))),
        b"C": lambda m: m.push(m.take(m.number(1))),
        b"\x8e": lambda m: m.push(m.take(m.number(8))),
        b"\x96": lambda m: m.push(m.take(m.number(8))),
        b"]": lambda m: m.empty([]),
        b"}": lambda m: m.empty({}),
        b")": lambda m: m.push(()),
        b"\x8f": lambda m: m.empty([]),
        b"t": lambda m: m.push(tuple(m.pop_mark())),
        b"l": lambda m: m.push(m.pop_mark()),
        b"d": _Interpreter.dictionary,
        b"\x91": lambda m: m.push(m.pop_mark()),
        b"\x85": lambda m: m.tuple_of(1),
        b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3),
        b"a": lambda m: m.append([m.pop()]),
        b"e": lambda m: m.append(m.pop_mark()),
        b"\x90": lambda m: m.append(m.pop_mark()),
        b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        b"u": lambda m: m.set_items(m.pop_mark()),
        b"c": lambda m: m.make_global(m.line(), m.line()),
        b"\x93": _Interpreter.stack_global,
        b"R": _Interpreter.reduce,
        b"b": _Interpreter.build,
        b"\x81": _Interpreter.reduce,
        b"\x92": _Interpreter.new_object_ex,
        b"Q": _Interpreter.persistent_id,
        b"q": lambda m: m.put(m.number(1)),
        b"r": lambda m: m.put(m.number(4)),
        b"\x94": lambda m: m.put(len(m.memo)),
        b"h": lambda m: m.get(m.number(1)),
        b"j": lambda m: m.get(m.number(4)),
    }.items()
}
