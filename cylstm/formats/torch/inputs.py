"""The inputs of a module: as the user gives them, from an example, or guessed from its layers and tried."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cylstm.errors import CylstmError, FormatError, ShapeError, UnsupportedError, described
from cylstm.formats.torch.module import Shape, class_of, leaves
from cylstm.formats.torch.state import ChangesError, Kept, tensors_kept
from cylstm.program.interface import InputKind

REQUIRED = object()


@dataclass(frozen=True)
class Argument:
    """One of the forward's. `default` is `REQUIRED` if it has none."""

    name: str
    default: object

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED


def arguments(module: Any) -> list[Argument]:
    """Of the forward, in its order; ``*args`` and ``**kwargs`` are left out, for nothing is given for them."""
    empty = inspect.Parameter.empty
    return [
        Argument(parameter.name, REQUIRED if parameter.default is empty else parameter.default)
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


@dataclass(frozen=True)
class Input:
    """What a module is called with for one argument.

    Attributes
    ----------
    name : str
    shape : tuple
        With "N" for the batch and "T" for a time of any length.
    kind : {"numbers", "indices", "truths", "lengths", "padding"}
    of : str or None
        Of lengths and padding: the argument whose steps they are about.
    value : tensor or None
        What the user gave as an example.
    """

    name: str
    shape: Shape
    kind: InputKind = "numbers"
    of: str | None = None
    value: Any = None

    @property
    def has_time(self) -> bool:
        return "T" in self.shape

    @property
    def is_input(self) -> bool:
        """Whether the graph has it as an input."""
        return self.kind not in ("lengths", "padding")

    def tensor(self, batch: int, time: int, dtype: np.dtype) -> Any:
        """A tensor of this shape to call the module with."""
        import torch

        sizes: list[Any] = [batch if size == "N" else time if size == "T" else size for size in self.shape]
        if self.kind == "lengths":
            return torch.full((batch,), time, dtype=torch.int64)
        if self.kind in ("truths", "padding"):
            return torch.zeros(sizes, dtype=torch.bool)
        if self.kind == "indices":
            return torch.zeros(sizes, dtype=torch.int64)
        kind = torch.float64 if dtype == np.float64 else torch.float32
        return torch.linspace(-1.0, 1.0, int(np.prod(sizes)) or 1, dtype=kind).reshape(sizes)


def given_shapes(names: Sequence[str], inputs: Any, module: Any) -> dict[str, Shape]:
    """The shapes that the user gives, by argument of the forward."""
    such = _likely_shape(module)
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        given = dict(inputs)
    elif isinstance(inputs, tuple) and inputs and all(isinstance(size, (str, int)) for size in inputs):
        given = {names[0]: inputs} if names else {}
    elif not isinstance(inputs, (list, tuple)):
        raise FormatError(
            f"inputs: expected a shape for each argument, such as [{such}] or {{'x': {such}}}, "
            f"found {described(inputs)}"
        )
    else:
        given = dict(zip(names, inputs))
        if len(inputs) > len(names):
            raise FormatError(f"inputs: the module has {len(names)} ({', '.join(names)}), found {len(inputs)}")
    for name, shape in given.items():
        if name not in names:
            raise FormatError(f"inputs: the module has {', '.join(names)}, found {described(name)}")
        is_shape = isinstance(shape, (list, tuple)) and all(isinstance(size, (str, int)) for size in shape)
        shape = given[name] = tuple(shape) if is_shape else ()
        if (
            shape.count("N") != 1
            or shape.count("T") > 1
            or not all(size in ("N", "T") or (type(size) is int and size > 0) for size in shape)
        ):
            raise FormatError(
                f"inputs: {name!r}: expected 'N' for the batch, perhaps 'T' for a time of any length, and numbers, "
                f"such as {such}; found {described(inputs)}"
            )
    return given


def runs(
    module: Any,
    kept: Kept,
    given: Sequence[Input],
    batch: int,
    time: int,
    dtype: np.dtype,
    failures: list[CylstmError] | None = None,
) -> bool:
    """Whether a module can be called with these inputs; if not, why not is added to `failures`."""
    return _called(module, kept, given, batch, time, dtype, failures) is not None


@dataclass
class _Called:
    """What a call ran.

    Attributes
    ----------
    layers : list of torch.nn.Module
        Those of torch.nn, in order.
    padding : set of str
        The arguments that a layer of torch.nn took as a mask of the padding.
    lengths : set of str
        Those that were the lengths of a packed sequence.
    """

    layers: list[Any]
    padding: set[str]
    lengths: set[str]


class CallError(UnsupportedError):
    """A module cannot be called with the inputs that were tried."""


class _SingleRow(Exception):
    """A recurrent layer is called without a batch."""


def _called(
    module: Any,
    kept: Kept,
    given: Sequence[Input],
    batch: int,
    time: int,
    dtype: np.dtype,
    failures: list[CylstmError] | None,
) -> _Called | None:
    """What a call runs; None if the module cannot be called so."""
    import torch

    from cylstm.formats.torch.export import EndlessError, limited, quiet, stand_ins, told

    seen = _Called([], set(), set())
    lengths: list[Any] = []
    tensors = {one.name: one.tensor(batch, time, dtype) for one in given}

    def note_padding(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        bound = inspect.signature(layer.forward).bind_partial(*args, **kwargs).arguments
        masks = [one for name, one in bound.items() if name.endswith("key_padding_mask")]
        seen.padding.update(name for name, tensor in tensors.items() if any(tensor is one for one in masks))

    def note(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        first = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), None)
        rank = {"LSTM": 3, "GRU": 3, "RNN": 3, "LSTMCell": 2, "GRUCell": 2, "RNNCell": 2}.get(type(layer).__name__)
        if rank is not None and first is not None and first.ndim != rank:
            raise _SingleRow
        seen.layers.append(layer)

    hooks = [
        part.register_forward_pre_hook(note, with_kwargs=True)
        for part in module.modules()
        if _is_layer(part)
    ] + [
        part.register_forward_pre_hook(note_padding, with_kwargs=True)
        for part in module.modules()
        if "key_padding_mask" in str(inspect.signature(part.forward)) and type(part).__module__.startswith("torch.nn.")
    ]  # fmt: skip
    try:
        with torch.no_grad(), quiet(), stand_ins(torch, module, lengths), limited(torch, module):
            result = module(**tensors)
        seen.lengths.update(name for name, tensor in tensors.items() if any(tensor is one for one in lengths))
        found = list(leaves(result))
        if not found or not all(isinstance(one, torch.Tensor) for one in found):
            raise UnsupportedError(
                f"{type(module).__name__}: its forward gives something that is no tensor: "
                + ", ".join(sorted({type(one).__name__ for one in found} - {"Tensor"}) or ["nothing"])
            )
        for hook in hooks:
            hook.remove()
        changes = [change for change in kept.changes(contents=True) if change.attribute_of is None]
        if changes:
            raise ChangesError(type(module).__name__, changes)
        return seen
    except (EndlessError, ChangesError):
        raise
    except CylstmError as error:
        if failures is not None:
            failures.append(error)
    except _SingleRow:
        pass
    except MemoryError:
        raise
    except Exception as error:
        if failures is not None and not failures:
            shapes = ", ".join(f"{one.name} {one.shape}" for one in given)
            failures.append(
                CallError(
                    f"{type(module).__name__}: its forward cannot be called with {shapes}: {told(error)}; "
                    + _advice(module)
                )
            )
    finally:
        for hook in hooks:
            hook.remove()
        kept.restore()
    return None


def _advice(module: Any) -> str:
    names = tensors_kept(module)
    if names:
        return (
            f"it keeps {', '.join(map(repr, names))} from an earlier call: give it as an argument and a result of the "
            "forward, or set it to what it is before the first call"
        )
    return f"say the shapes of the inputs, for example {likely_shape(module)}"


def likely_shape(module: Any) -> str:
    """What to write for the shape of the inputs, as an example."""
    shape = _likely_shape(module)
    return f"inputs=[{shape}]" + (" of (batch, channels, rows, columns)" if shape.count(",") == 3 else "")


def _likely_shape(module: Any) -> str:
    """As wide as the first layer reads, and that of an image where the module has layers of such."""
    kinds = [(type(part).__name__.removesuffix("Cell"), part) for part in module.modules()]
    for kind, part in kinds:
        if kind in ("Conv2d", "ConvTranspose2d"):
            return f"('N', {part.in_channels}, 32, 'T')"
    for kind, part in kinds:
        if kind in ("LSTM", "GRU", "RNN"):
            return f"('N', 'T', {part.input_size})"
        if kind == "Linear":
            return f"('N', 'T', {part.in_features})"
        if kind in ("Conv1d", "ConvTranspose1d"):
            return f"('N', {part.in_channels}, 'T')"
        if kind == "Embedding":
            return "('N', 'T')"
    return "('N', 'T', 6)"


def _is_layer(part: Any) -> bool:
    children = [name for name, _ in part.named_children() if name != "parametrizations"]
    return _shapes_of(part, 0) is not None and (not children or type(part).__name__ == "MultiheadAttention")


#: batch and time that shapes are tried with
_TRIED = (7, 61)
_TRIED_LONG = (7, 1021)
_MOST_TRIED = 300


def guesses(
    module: Any,
    kept: Kept,
    wanted: Sequence[Argument],
    given: Mapping[str, Shape],
    failures: list[CylstmError],
    dtype: np.dtype,
) -> Iterator[list[Input]]:
    """Inputs with which the module runs: first those that the layer suggests which is the first to run."""
    time_first = any(getattr(layer, "batch_first", None) is False for layer in module.modules())
    layers = [part for part in module.modules() if _is_layer(part)]
    choices: list[list[tuple[Input, Any]]] = []
    for number, one in enumerate(wanted):
        if one.name in given:
            shape = given[one.name]
            kinds: list[InputKind] = ["numbers", "truths", "indices"]  # what has bits, ~ & |, is rather a truth
            choices.append([(Input(one.name, shape, kind), None) for kind in kinds])
            continue
        found: dict[tuple[Shape, str], tuple[Input, Any]] = {}
        if number:
            first = wanted[0].name
            if any(name in one.name.lower() for name in ("len", "size", "num")):
                found[("N",), "lengths"] = (Input(one.name, ("N",), "lengths", first), None)
        for layer in layers:
            several = _is_recurrent(layer) or type(layer).__name__ == "MultiheadAttention"
            places = range(3) if number and several else range(1)
            for place in places:
                for likely in _shapes_of(layer, place) or []:
                    if likely is not None and (time_first or likely[:2] != ("T", "N")):
                        kind: InputKind = "indices" if "Embedding" in type(layer).__name__ else "numbers"
                        found.setdefault((likely, kind), (Input(one.name, likely, kind), layer))
        if number:
            for shape, kind in ((("N",), "numbers"), (("N",), "indices"), (("N", "T"), "truths")):
                found.setdefault((shape, kind), (Input(one.name, shape, kind), None))
        choices.append(list(found.values()))
    matching: list[list[Input]] = []
    others: list[list[Input]] = []
    first_failure: list[CylstmError] = []
    for number, combination in enumerate(itertools.product(*choices)):
        if number >= _MOST_TRIED:
            break
        inputs = [one for one, _ in combination]
        seen = _called(module, kept, inputs, *_TRIED, dtype, first_failure)
        if seen is None and any(one.has_time for one in inputs):
            seen = _called(module, kept, inputs, *_TRIED_LONG, dtype, None)
        if seen is None:
            continue
        suggested = combination[0][1]
        embeddings = [layer for one, layer in combination if one.kind == "indices" and layer is not None]
        runs_first = suggested is None or (bool(seen.layers) and seen.layers[0] is suggested)
        taken_as: dict[str, InputKind] = {
            **{one.name: "padding" for one in inputs if one.name in seen.padding and one.has_time},
            **dict.fromkeys(seen.lengths, "lengths"),
        }
        inputs = [
            replace(one, kind=taken_as[one.name], of=inputs[0].name) if one.name in taken_as else one for one in inputs
        ]
        if runs_first and all(any(layer is one for one in seen.layers) for layer in embeddings):
            matching.append(inputs)
            if len(wanted) == len(given):
                break
        else:
            others.append(inputs)
        if len(matching) > 8:
            break
    if not matching and not others:
        samples = list(_of_samples(module, kept, given, dtype)) if len(wanted) == len(given) else []
        if not samples:
            failures.extend(sorted(first_failure, key=lambda error: isinstance(error, CallError)))
        yield from samples
    yield from matching
    yield from others


def _of_samples(module: Any, kept: Kept, given: Mapping[str, Shape], dtype: np.dtype) -> Iterator[list[Input]]:
    """Inputs with a batch, of a module that takes these shapes for a sample without one, such as an LSTM (T, 6)."""
    layers = [part for part in module.modules() if _is_layer(part)]
    time_first = any(getattr(layer, "batch_first", None) is False for layer in layers)
    choices: list[list[Input]] = []
    for number, (name, shape) in enumerate(given.items()):
        found: dict[Shape, Input] = {}
        for layer in layers:
            kind: InputKind = "indices" if "Embedding" in type(layer).__name__ else "numbers"
            for likely in _shapes_of(layer, min(number, 1)) or []:
                if likely is None or (likely[:2] == ("T", "N") and not time_first):
                    continue
                sample = [size for size in likely if size != "N"]
                if len(sample) == len(shape) and all(
                    one in ("T", other) or other == "N" for one, other in zip(sample, shape)
                ):
                    found.setdefault(likely, Input(name, likely, kind))
        choices.append(list(found.values()))
    for combination in itertools.islice(itertools.product(*choices), _MOST_TRIED):
        inputs = list(combination)
        if _called(module, kept, inputs, *_TRIED, dtype, None) is not None:
            shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
            warnings.warn(
                f"{type(module).__name__}: with these shapes it computes one sample without a batch; the model has a "
                f"batch besides: {shapes}",
                UserWarning,
                stacklevel=10,
            )
            yield inputs
            return


def _is_recurrent(layer: Any) -> bool:
    return type(layer).__name__.removesuffix("Cell") in ("LSTM", "GRU", "RNN")


def example_inputs(
    module: Any, kept: Kept, known: Sequence[Argument], example: Any, inputs: Any
) -> Iterator[list[Input]]:
    """The inputs as an example shows them: the first axis is the batch, and one behind it the time, if it may vary."""
    import torch

    names = [one.name for one in known]
    if isinstance(example, Mapping):
        given = dict(example)
    elif isinstance(example, (tuple, list)):
        if len(example) > len(names):
            raise ShapeError(f"example: the module takes {len(names)} ({', '.join(names)}), found {len(example)}")
        given = dict(zip(names, example))
    else:
        given = {names[0]: example} if names else {}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ShapeError(f"example: the module takes {', '.join(names)}, found {unknown[0]!r}")
    missing = [one.name for one in known if one.is_required and one.name not in given]
    if missing:
        raise ShapeError(f"example: the module also takes {', '.join(missing)}")
    said = given_shapes(names, inputs, module)
    wide = any(parameter.dtype == torch.float64 for parameter in module.parameters())
    dtype = np.dtype(np.float64 if wide else np.float32)
    found: list[Input] = []
    for name in names:
        if name not in given or given[name] is None:
            continue
        value = given[name] if isinstance(given[name], torch.Tensor) else torch.as_tensor(np.asarray(given[name]))
        kind: InputKind = (
            "truths" if value.dtype == torch.bool else "numbers" if value.is_floating_point() else "indices"
        )
        if value.ndim == 0:
            raise ShapeError(f"example: {name!r} expected an array with a batch, found a single number")
        if kind == "indices" and value.ndim == 1 and found:
            found.append(Input(name, ("N",), "lengths", found[0].name, value))
            continue
        shape: Shape = ("N", *map(int, value.shape[1:]))
        found.append(Input(name, said.get(name, shape), kind, None, value))
    # the time: an axis of the first input that has several, and those of equal size behind the batch of the others
    for places in _time_places(found):
        tried = [
            replace(one, shape=tuple("T" if k == place else size for k, size in enumerate(one.shape)))
            if place is not None and one.name not in said
            else one
            for one, place in zip(found, places)
        ]
        if any(one.has_time for one in tried) and not (
            runs(module, kept, tried, *_TRIED, dtype) or runs(module, kept, tried, *_TRIED_LONG, dtype)
        ):
            continue
        if not any(one.has_time for one in tried) and not runs(module, kept, tried, *_TRIED, dtype):
            yield from _of_samples(module, kept, {one.name: one.shape for one in tried}, dtype)
        yield tried


def _time_places(found: Sequence[Input]) -> Iterator[list[int | None]]:
    first = found[0] if found else None
    if first is not None and not first.has_time:
        least = 2 if first.kind == "numbers" else 1
        for place in range(1, len(first.shape)):
            if len(first.shape) > least:
                size = first.shape[place]
                yield [
                    place if one is first else next((k for k in range(1, len(one.shape)) if one.shape[k] == size
                                                     and len(one.shape) > 2), None)
                    for one in found
                ]  # fmt: skip
                yield [place if one is first else None for one in found]
    yield [None] * len(found)


def _shapes_of(layer: Any, place: int | None) -> list[Shape | None] | None:
    """Shapes of the argument `place` of a layer."""
    kind = type(layer).__name__.removeprefix("Parametrized")
    if not type(layer).__module__.startswith("torch.nn."):
        kind = class_of(layer).__mro__[1].__name__ if len(class_of(layer).__mro__) > 1 else kind
    batch_first = getattr(layer, "batch_first", True)
    if kind in ("LSTM", "GRU", "RNN"):
        if place != 0:  # the initial state
            count = layer.num_layers * (2 if layer.bidirectional else 1)
            sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)
            return [(count, "N", size) for size in dict.fromkeys(sizes)]
        return _orders(kind, layer.input_size, batch_first)
    if kind in ("LSTMCell", "GRUCell", "RNNCell"):
        cell: list[Shape | None] = [("N", layer.input_size if place == 0 else layer.hidden_size)]
        # (batch, time), of which the forward takes one step after the other
        return [("N", "T"), *cell] if place == 0 and layer.input_size == 1 else cell
    if kind == "MultiheadAttention":
        size: Any = layer.kdim if place == 1 else layer.vdim if place == 2 else layer.embed_dim
        return _orders(kind, size, batch_first)
    if kind == "Embedding":
        return [("N", "T"), ("T", "N"), ("N",)]
    names = ("in_features", "in_channels", "num_features", "num_channels", "normalized_shape")
    size = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    if size is None:
        return None
    return _orders(kind, size if isinstance(size, int) else size[-1], True)


def _orders(kind: str, size: int, batch_first: bool) -> list[Shape | None]:
    steps: Shape
    channels: Shape
    vector: Shape
    time_major: Shape
    steps, channels, vector, time_major = ("N", "T", size), ("N", size, "T"), ("N", size), ("T", "N", size)
    if kind in ("Conv1d", "InstanceNorm1d"):
        found: list[Shape | None] = [channels, steps]
    elif kind in ("BatchNorm1d", "GroupNorm"):
        found = [vector, channels, steps]
    elif kind in ("LSTM", "GRU", "RNN", "MultiheadAttention"):
        found = [steps, channels, time_major] if batch_first else [time_major, steps, channels]
    else:
        found = [vector, steps, channels, time_major]
    if size == 1:
        found.append(("N", "T"))
    # the vector is a single step to which the module adds an axis
    return [*found, vector] if vector not in found else found
