"""What a module and its code keep between calls: taken before its forward runs, put back exactly afterwards.

A forward may assign attributes, fill lists, count in a buffer or in a global. While it is recorded what it assigns are
symbols, and none of them may stay in the user's module.
"""

from __future__ import annotations

import collections
import dis
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from cylstm.errors import UnsupportedError

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (dict, list, set, collections.deque)
_MOST_VISITED = 100_000
_DEEPEST = 6
_MISSING = object()


class Change(NamedTuple):
    """Something that is not as it was: what to call it, and where it is kept: a mapping and a key of it.

    `attribute_of` is the mapping if it is one of a module's own, of attributes or of buffers, else None.
    """

    name: str
    attribute_of: dict[Any, Any] | None
    key: object


class Kept:
    """A copy of all that `module` keeps: attributes, parameters, buffers, modules, containers, globals, generators.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module: Any) -> None:
        import torch

        self._torch = torch
        self._containers: list[tuple[str, Any, Any, bool]] = []
        self._slots: list[tuple[str, Any, str, object]] = []
        self._tensors: list[tuple[str, Any, Any, int]] = []
        self._seen: set[int] = set()
        self._code: set[Any] = set()
        for name, part in module.named_modules():
            self._visit_module(f"{name}." if name else "", part)
        self._random = _random_states(torch)
        self._dtype = torch.get_default_dtype()

    def changes(self, *, contents: bool = False) -> list[Change]:
        """What has changed since; with `contents` the numbers of all tensors are compared too."""
        found = []
        for path, container, before, is_own in self._containers:
            if isinstance(container, dict):
                keys = [key for key in before if not _same(container.get(key, _MISSING), before[key])]
                keys += [key for key in container if key not in before]
                found += [Change(f"{path}{key}", container if is_own else None, key) for key in keys]
            elif len(container) != len(before) or not all(map(_same, container, before)):
                found.append(Change(path.rstrip("."), None, None))
        for path, owner, name, before in self._slots:
            if not _same(_slot(owner, name), before):
                found.append(Change(path, None, name))
        for path, tensor, before, count in self._tensors:
            if version(tensor) != count or (contents and not equal(tensor, before)):
                found.append(Change(path, None, None))
        return found

    def drew_random_numbers(self) -> bool:
        """Whether a generator of PyTorch, NumPy or Python has moved."""
        return any(
            not is_same(now, before) for now, (before, _, is_same) in zip(_random_now(self._torch), self._random)
        )

    def restore(self, *, contents: bool = False) -> None:
        """Put everything back as it was; with `contents` the numbers of tensors whose count of changes says nothing."""
        torch = self._torch
        for _, container, before, _ in self._containers:
            if isinstance(container, dict):
                if list(container) != list(before) or not all(map(_same, container.values(), before.values())):
                    container.clear()
                    container.update(before)
            elif len(container) != len(before) or not all(map(_same, container, before)):
                container.clear()
                container.update(before) if isinstance(container, set) else container.extend(before)
        for _, owner, name, before in self._slots:
            if not _same(_slot(owner, name), before):
                _set_slot(owner, name, before)
        with torch.no_grad():
            for i, (path, tensor, before, count) in enumerate(self._tensors):
                if not contents and version(tensor) == count:
                    continue
                if tensor.shape != before.shape:
                    tensor.data = before.clone()
                elif not equal(tensor, before):
                    tensor.data.copy_(before)
                self._tensors[i] = (path, tensor, before, version(tensor))
        for now, (before, put_back, is_same) in zip(_random_now(torch), self._random):
            if not is_same(now, before):
                put_back(before)
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)

    def _visit_module(self, path: str, part: Any) -> None:
        if id(part) in self._seen:
            return
        self._seen.add(id(part))
        own = vars(part)
        self._containers.append((path, own, dict(own), True))
        for name, value in own.items():
            if name in ("_parameters", "_buffers", "_modules") and isinstance(value, dict):
                self._seen.add(id(value))
                self._containers.append((path, value, dict(value), name == "_buffers"))
                if name != "_modules":
                    for key, tensor in value.items():
                        self._visit(f"{path}{key}", tensor, 0)
            else:
                self._visit(f"{path}{name}", value, 0)
        for kind in type(part).__mro__:
            if kind.__module__.split(".")[0] in ("torch", "builtins"):
                break
            if id(kind) not in self._seen:
                self._seen.add(id(kind))
                self._visit_class(kind)

    def _visit_class(self, kind: type) -> None:
        for name, value in list(vars(kind).items()):
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if isinstance(function, types.FunctionType):
                self._visit_function(function)
            elif not name.startswith("__"):
                self._slots.append((f"{kind.__name__}.{name}", kind, name, value))
                self._visit(f"{kind.__name__}.{name}", value, 1)

    def _visit_function(self, function: Any) -> None:
        """The globals that it assigns, the containers among those it reads, and the variables it closes over."""
        function = getattr(function, "__wrapped__", function)
        code = getattr(function, "__code__", None)
        if code is None or code in self._code:
            return
        self._code.add(code)
        scope, codes = function.__globals__, [code]
        while codes:
            code = codes.pop()
            codes += [one for one in code.co_consts if isinstance(one, types.CodeType)]
            for instruction in dis.get_instructions(code):
                name = instruction.argval
                if instruction.opname == "STORE_GLOBAL":
                    self._slots.append((f"the global {name}", scope, name, scope.get(name, _MISSING)))
                if instruction.opname in ("STORE_GLOBAL", "LOAD_GLOBAL") and isinstance(scope.get(name), _CONTAINERS):
                    self._visit(f"the global {name}", scope[name], 1)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            value = _slot(cell, "cell_contents")
            self._slots.append((f"the variable {name}", cell, "cell_contents", value))
            self._visit(f"the variable {name}", value, 1)

    def _visit(self, path: str, value: object, depth: int) -> None:
        torch = self._torch
        if isinstance(value, _PLAIN) or depth > _DEEPEST or id(value) in self._seen or len(self._seen) > _MOST_VISITED:
            return
        self._seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and not value.is_meta and not torch.nn.parameter.is_lazy(value):
                self._tensors.append((path, value, value.detach().clone(), version(value)))
        elif isinstance(value, torch.nn.Module):
            self._visit_module(f"{path}.", value)
        elif isinstance(value, dict):
            self._containers.append((f"{path}.", value, dict(value), False))
            for key, item in list(value.items()):
                self._visit(f"{path}.{key}", item, depth + 1)
        elif isinstance(value, (list, set, collections.deque)):
            self._containers.append((f"{path}.", value, list(value), False))
            for item in list(value):
                self._visit(path, item, depth + 1)
        elif isinstance(value, (tuple, frozenset)):
            for item in value:
                self._visit(path, item, depth + 1)
        elif isinstance(value, types.FunctionType):
            self._visit_function(value)
        elif isinstance(value, types.MethodType):
            self._visit_function(value.__func__)
        elif _is_record(value):
            self._visit(path, vars(value), depth + 2)


def _is_record(value: object) -> bool:
    """Whether it is an object of a user's class; Python's own, such as locks, are not restored."""
    if isinstance(value, (type, types.ModuleType)) or not isinstance(getattr(value, "__dict__", None), dict):
        return False
    owner = type(value).__module__.split(".")[0]
    return type(value).__name__ in ("SimpleNamespace", "Namespace") or owner not in sys.stdlib_module_names


def _same(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and isinstance(one, _PLAIN) and repr(one) == repr(other))


def _slot(owner: Any, name: str) -> object:
    if isinstance(owner, dict):
        return owner.get(name, _MISSING)
    if isinstance(owner, type):
        return vars(owner).get(name, _MISSING)
    try:
        return getattr(owner, name)
    except (AttributeError, ValueError):  # ValueError: an empty cell
        return _MISSING


def _set_slot(owner: Any, name: str, value: object) -> None:
    if isinstance(owner, dict):
        if value is _MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def version(tensor: Any) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # made in inference mode
        return 0


def equal(one: Any, other: Any) -> bool:
    one = one.detach()
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def _random_states(torch: Any) -> list[tuple[Any, Any, Any]]:
    """For each random generator: its state, a function that restores one, a function that compares two."""
    import random

    import numpy as np

    found = [
        (torch.random.get_rng_state(), torch.random.set_rng_state, torch.equal),
        (np.random.get_state(), np.random.set_state, _equal_states),
        (random.getstate(), random.setstate, lambda one, other: one == other),
    ]
    if torch.cuda.is_initialized():
        found.append(
            (
                torch.cuda.get_rng_state_all(),
                torch.cuda.set_rng_state_all,
                lambda one, other: all(map(torch.equal, one, other)),
            )
        )
    return found


def draw_once() -> None:
    """Move all generators on."""
    import random

    import numpy as np
    import torch

    torch.rand(1)
    np.random.rand()
    random.random()


def _equal_states(one: Any, other: Any) -> bool:
    return one[0] == other[0] and bool((one[1] == other[1]).all()) and one[2:] == other[2:]


def _random_now(torch: Any) -> Iterator[Any]:
    """Their states now, in the same order."""
    return (state for state, _, _ in _random_states(torch))


def describe(changes: list[Change]) -> str:
    """The names of what changed, the first few."""
    names = list(dict.fromkeys(change.name for change in changes))
    return ", ".join(repr(name) for name in names[:4]) + (", ..." if len(names) > 4 else "")


class ChangesError(UnsupportedError):
    """A forward changes something that stays changed: other inputs need not be tried."""

    def __init__(self, kind: str, changes: list[Change]) -> None:
        super().__init__(
            f"{kind}: its forward changes {describe(changes)}, which is not supported; give what it keeps from call to "
            "call as arguments and results of the forward"
        )


def tensors_kept(module: Any) -> list[str]:
    """Attributes of a user's modules that hold tensors of an earlier call, and are neither parameters nor buffers."""
    import torch

    return [
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        if not type(part).__module__.startswith("torch.")
        for name, value in vars(part).items()
        if not name.startswith("_")
        and any(isinstance(one, torch.Tensor) for one in (value if isinstance(value, (tuple, list)) else (value,)))
    ][:4]


def without(changes: list[Change]) -> None:
    """Take what a forward assigns out of the modules, so that reading it before it is assigned fails."""
    for change in changes:
        if change.attribute_of is not None:
            change.attribute_of.pop(change.key, None)
