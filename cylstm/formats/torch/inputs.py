"""The shapes of a module's inputs: as the user gives them, or guessed from the first layer that reads each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cylstm.errors import FormatError
from cylstm.formats.torch.module import Shape


def given_shapes(names: Sequence[str], inputs: Any) -> dict[str, Shape]:
    """The shapes that the user gives, by argument of the forward."""
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        given = dict(inputs)
    elif isinstance(inputs, tuple) and inputs and all(isinstance(size, (str, int)) for size in inputs):
        given = {names[0]: inputs} if names else {}
    else:
        given = dict(zip(names, inputs))
        if len(inputs) > len(names):
            raise FormatError(f"inputs: the module has {len(names)} ({', '.join(names)}), found {len(inputs)}")
    for name, shape in given.items():
        if name not in names:
            raise FormatError(f"inputs: the module has {', '.join(names)}, found {name!r}")
        shape = given[name] = tuple(shape)
        if (
            shape.count("N") != 1
            or shape.count("T") > 1
            or not all(size in ("N", "T") or (type(size) is int and size > 0) for size in shape)
        ):
            raise FormatError(
                f"inputs: {name!r}: expected 'N' for the batch, perhaps 'T' for a time of any length, and numbers, "
                f"such as ('N', 'T', 6); found {shape}"
            )
    return given


def guesses(
    placeholders: Sequence[Any], module: Any, given: Mapping[str, Shape], is_asked: bool
) -> Iterator[dict[str, Shape | None]]:
    """Shapes by input name; None for an optional argument that is left out, or for one that is not read."""
    choices: list[list[Shape | None]] = []
    # without a layer that has its time first, axis 0 is the batch
    time_first = any(getattr(layer, "batch_first", None) is False for layer in module.modules())
    for node in placeholders:
        if node.target in given:
            choices.append([given[node.target]])
        elif node.args or not node.users:
            choices.append([None])
        else:
            choices.append(
                [shape for shape in _likely_shapes(node, module, is_asked) if time_first or not _is_time_first(shape)]
            )
    for shapes in itertools.product(*choices):
        yield {node.target: shape for node, shape in zip(placeholders, shapes)}


def _is_time_first(shape: Shape | None) -> bool:
    return shape is not None and shape[:2] == ("T", "N")


def _likely_shapes(placeholder: Any, module: Any, is_asked: bool) -> list[Shape | None]:
    """Shapes that the first layer to read an input suggests, the most likely first; else, if `is_asked`, the module's
    first layer.
    """
    queue, seen = [placeholder], {placeholder}
    while queue:
        node = queue.pop(0)
        for user in node.users:
            found = _shapes_at(user, node, module)
            if found is not None:
                return found
            if user not in seen:
                seen.add(user)
                queue.append(user)
    if not is_asked:
        return []
    of_layers = (_shapes_of(layer, 0) for layer in module.modules())
    return next((shapes for shapes in of_layers if shapes is not None), [])


def _shapes_at(user: Any, source: Any, module: Any) -> list[Shape | None] | None:
    if user.op == "call_function" and getattr(user.target, "__name__", "") in ("linear", "conv1d"):
        weight = user.args[1] if len(user.args) > 1 else user.kwargs.get("weight")
        if getattr(weight, "op", "") != "get_attr":
            return None
        size = user.graph.constants[weight.target].shape[1]
        kind = {"linear": "Linear", "conv1d": "Conv1d"}[user.target.__name__]
        if kind == "Conv1d":
            size *= user.args[6] if len(user.args) > 6 else user.kwargs.get("groups", 1)
        return _orders(kind, size, True)
    if user.op != "call_module":
        return None
    layer = module.get_submodule(user.target)
    if "key_padding_mask" in user.kwargs and user.kwargs["key_padding_mask"] is source:
        return [None]
    return _shapes_of(layer, user.args.index(source) if source in user.args else None)


def _shapes_of(layer: Any, place: int | None) -> list[Shape | None] | None:
    """Shapes of the argument `place` of a layer."""
    kind = type(layer).__name__.removeprefix("Parametrized")
    batch_first = getattr(layer, "batch_first", True)
    if kind in ("LSTM", "GRU", "RNN"):
        if place != 0:  # the initial state
            count = layer.num_layers * (2 if layer.bidirectional else 1)
            sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)
            return [(count, "N", size) for size in dict.fromkeys(sizes)]
        return _orders(kind, layer.input_size, batch_first)
    if kind in ("LSTMCell", "GRUCell", "RNNCell"):
        return [("N", layer.input_size if place == 0 else layer.hidden_size)]
    if kind == "MultiheadAttention":
        size: Any = layer.kdim if place == 1 else layer.vdim if place == 2 else layer.embed_dim
        return _orders(kind, size, batch_first)
    if kind == "Embedding":
        return [("N", "T"), ("T", "N")]
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
