"""EinsumDense: a product with a constant kernel over any axes but the batch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.keras.call import LayerCall, shape_text
from cylstm.formats.keras.layers.activations import activated, output_activation
from cylstm.formats.keras.layers.quantized import affine, product, take_kernel
from cylstm.graph.values import Value

_SPELLINGS = (
    re.compile(r"(?P<x>[a-zA-Z]+),(?P<kernel>[a-zA-Z]+)->(?P<y>[a-zA-Z]+)"),
    re.compile(r"\.\.\.(?P<x>[a-zA-Z]+),(?P<kernel>[a-zA-Z]+)->\.\.\.(?P<y>[a-zA-Z]+)"),
    re.compile(r"(?P<x>[a-zA-Z]{2,})\.\.\.,(?P<kernel>[a-zA-Z]+)->(?P<y>[a-zA-Z]+)\.\.\."),
)


class Equation(NamedTuple):
    """The labels of the axes of input, kernel and output, the batch of both first; each `...` is digits."""

    x: str
    kernel: str
    y: str

    @property
    def contracted(self) -> list[str]:
        """The axes that are summed over, in the kernel's order."""
        return [label for label in self.kernel if label not in self.y]

    @property
    def columns(self) -> list[str]:
        """The axes that the kernel brings, in the output's order."""
        return [label for label in self.y if label not in self.x]

    @property
    def shared(self) -> list[str]:
        """The axes along which every index has a kernel of its own."""
        return [label for label in self.x if label in self.kernel and label in self.y]

    @property
    def free(self) -> list[str]:
        """The axes of the input that the kernel does not have, without the batch."""
        return [label for label in self.x[1:] if label in self.y and label not in self.kernel]


def _read_equation(call: LayerCall, rank: int) -> Equation:
    """The equation of an input of `rank` axes, batch counted."""
    text = call.layer.config.get("equation")
    found = next((match for match in (one.fullmatch(str(text)) for one in _SPELLINGS) if match), None)
    if found is None:
        raise FormatError(f"{call.what}: option equation expected one such as 'abc,cd->abd', found {text!r:.80}")
    x, kernel, y = found["x"], found["kernel"], found["y"]
    # digits are no labels of an equation
    elided = "0123456789"[: max(rank - len(x), 0)]
    if str(text).startswith("..."):
        x, y = elided + x, elided + y
    elif "..." in str(text):
        x, y = x + elided, y + elided
    if len(x) != rank:
        raise ShapeError(f"{call.what}: option equation {text!r:.80} does not fit the input {shape_text(call.x)}")
    if any(len(set(labels)) != len(labels) for labels in (x, kernel, y)) or not set(y) <= set(x + kernel):
        raise UnsupportedError(f"{call.what}: option equation {text!r:.80} repeats an axis or makes one of nothing")
    if x[0] != y[0] or x[0] in kernel:
        raise UnsupportedError(
            f"{call.what}: option equation {text!r:.80}: the first axis of the input is the batch, which must come out "
            "first and not be in the kernel"
        )
    if len(y) == 1:
        raise UnsupportedError(
            f"{call.what}: option equation {text!r:.80} gives a single number for each sample, without an axis, which "
            "is not supported; give the kernel an axis of size 1"
        )
    if not set(kernel) <= set(x + y):
        raise FormatError(f"{call.what}: option equation {text!r:.80}: the kernel has an axis of its own")
    return Equation(x, kernel, y)


def _sizes(call: LayerCall, equation: Equation) -> dict[str, int | None]:
    """Label -> size; None for a time that is not known in advance."""
    sizes: dict[str, int | None] = dict(zip(equation.x[1:], call.x.shape[call.first :], strict=True))
    given = call.layer.config.get("output_shape")
    given = [given] if type(given) is int else given
    named = [label for label in equation.y[1:] if not label.isdigit()]
    if str(call.layer.config["equation"]).startswith("..."):
        # the batch is among those that are left out
        named = [label for label in equation.y if not label.isdigit()]
    if not isinstance(given, list) or len(given) != len(named):
        raise FormatError(f"{call.what}: option output_shape expected {len(named)} sizes, found {given!r:.80}")
    for label, size in zip(named, given, strict=True):
        if label in equation.columns:
            if type(size) is not int or size < 1:
                raise FormatError(f"{call.what}: option output_shape expected sizes, found {given!r:.80}")
            sizes[label] = size
    return sizes


def _known(call: LayerCall, sizes: dict[str, int | None], labels: Sequence[str]) -> tuple[int, ...]:
    """The sizes of `labels`. Raises `StaticTimeNeeded` if one is a time that is not known."""
    if any(sizes[label] is None for label in labels):
        call.known_sizes(call.x, call.first)
    return tuple(sizes[label] or 0 for label in labels)


def add_einsum_dense(call: LayerCall) -> Value:
    """The input as (axes that it keeps, axes of both, axes that are summed over), then one product over the last."""
    layer, x = call.layer, call.x
    layer.check_options(
        {"equation", "output_shape", "bias_axes", "activation", "lora_rank", "lora_alpha", "quantization_config"}
    )
    equation = _read_equation(call, len(x.shape) - call.first + 1)
    sizes = _sizes(call, equation)
    activation = output_activation(layer)
    bias_labels, bias_shape = _bias(call, equation, sizes)
    reduced = [k for k, label in enumerate(equation.kernel) if label in equation.contracted]
    scale_axes = [equation.kernel.index(label) for label in equation.y if label in equation.kernel]
    shape = _known(call, sizes, equation.kernel)
    kernel, bias = take_kernel(call, shape, reduced, bias_shape, _scale_shape(equation, shape, reduced), scale_axes)
    groups, inner, columns = (
        _known(call, sizes, labels) for labels in (equation.shared, equation.contracted, equation.columns)
    )
    count = math.prod(groups)
    if count > 1 and kernel.rounding is not None:
        raise UnsupportedError(
            f"{call.what}: option equation {layer.config['equation']!r:.80}, in which input, kernel and output share "
            "an axis, is not supported where the layer rounds its input (int8)"
        )

    y, order = x, list(equation.x[1:])
    for label in [label for label in order if label not in equation.y and label not in equation.kernel]:
        axis = order.index(label)
        if len(order) == 1:
            raise UnsupportedError(f"{call.what}: a sum over the only axis of {shape_text(x)} is not supported")
        y = call.add("reduce", y, None, f".sum{axis}", mode="sum", axis=axis + call.first)
        order.remove(label)
    y = _ordered(call, y, order, [*equation.free, *equation.shared, *equation.contracted], ".input")
    y = _reshaped(call, y, sizes, equation.free, (count * math.prod(inner),), ".rows")
    places = [*equation.shared, *equation.columns, *equation.contracted]
    full = kernel.array.transpose([equation.kernel.index(label) for label in places])
    weight = full.reshape(-1, math.prod(inner))
    own_bias = None
    if bias is not None and not equation.shared and set(bias_labels) <= set(equation.columns):
        # of the kernel's own axes alone: it can be added by the product
        each = [size if label in bias_labels else 1 for label, size in zip(equation.columns, columns, strict=True)]
        own_bias, bias = np.broadcast_to(bias.reshape(each), columns).reshape(-1), None

    result = [*equation.free, *equation.shared, *equation.columns]
    wanted = list(equation.y[1:])
    if bias is None and result == wanted and len(equation.columns) == 1 and not equation.shared:
        return product(call, y, kernel, weight, own_bias, activation)
    is_grouped = count > 1
    y = _grouped(call, y, weight, count) if is_grouped else product(call, y, kernel, weight, own_bias, None, ".product")
    y = _reshaped(call, y, sizes, equation.free, (*groups, *columns), ".axes")
    y = _ordered(call, y, result, wanted, ".order")
    if bias is not None:
        y = _shifted(call, y, sizes, equation, bias)
    return activated(call, activation, "activation", y)


def _bias(call: LayerCall, equation: Equation, sizes: dict[str, int | None]) -> tuple[str, tuple[int, ...] | None]:
    """The labels of the bias, and its shape: of the output's axes from the first of them on."""
    labels = call.layer.config.get("bias_axes")
    if labels is None:
        return "", None
    if not isinstance(labels, str) or not labels or not set(labels) <= set(equation.y[1:]):
        raise UnsupportedError(f"{call.what}: option bias_axes expected axes of the output, found {labels!r:.80}")
    axes = equation.y[min(equation.y.index(label) for label in labels) :]
    shape = tuple(_known(call, sizes, [label])[0] if label in labels else 1 for label in axes)
    return labels, shape


def _scale_shape(equation: Equation, shape: tuple[int, ...], reduced: Sequence[int]) -> tuple[int, ...]:
    """The shape that Keras gives the scale of an int8 kernel (``_analyze_quantization_info``)."""
    missing = [k for k, label in enumerate(equation.y) if label not in equation.kernel]
    missing_inputs = [k for k, label in enumerate(equation.y) if label not in equation.x]
    order = [equation.kernel.index(label) for label in equation.y if label in equation.kernel]
    at = equation.y.find(equation.kernel[-1])
    for label in equation.x:
        if label not in equation.y and missing_inputs:
            at = missing_inputs.pop(0)
    squeezed = []
    for axis in reduced:
        if missing:
            at = missing.pop(0)
        else:
            squeezed.append(axis)
        order.insert(at, axis)
    found = [1 if axis in reduced else shape[axis] for axis in order]
    for axis in sorted(missing):
        found.insert(axis, 1)
    for axis in sorted(squeezed, reverse=True):
        found.pop(axis)
    return tuple(found)


def _ordered(call: LayerCall, y: Value, order: Sequence[str], wanted: Sequence[str], suffix: str) -> Value:
    """`y` with its axes `order` as `wanted`."""
    if list(order) == list(wanted):
        return y
    digits = [*range(call.first), *(order.index(label) + call.first for label in wanted)]
    return call.add("permute", y, None, suffix, order="".join(map(str, digits)))


def _reshaped(
    call: LayerCall, y: Value, sizes: dict[str, int | None], kept: Sequence[str], rest: Sequence[int], suffix: str
) -> Value:
    """`y` with the axes `kept` and then those of sizes `rest`."""
    if y.shape[call.first :] == (*(sizes[label] for label in kept), *rest):
        return y
    if call.first:
        return call.add("reshape", y, None, suffix, shape=_text("time", _known(call, sizes, kept), rest))
    if y.has_time and kept and y.shape[0] == sizes[kept[0]]:
        return call.add("reshape", y, None, suffix, shape=_text("time", _known(call, sizes, kept[1:]), rest))
    return call.add("reshape", y, None, suffix, shape=_text("", _known(call, sizes, kept), rest))


def _text(start: str, *sizes: Sequence[int]) -> str:
    return ",".join([*([start] if start else []), *(str(size) for part in sizes for size in part)])


def _grouped(call: LayerCall, y: Value, weight: np.ndarray, groups: int) -> Value:
    """A product for each part of the last axis with a kernel of its own: a convolution of one tap in groups."""
    steps = y.shape[:-1]
    if y.has_time and len(steps) == 1:
        return call.add("conv1d", y, {"weight": weight[:, np.newaxis]}, ".product", groups=groups)
    known = call.known_sizes(y, 0)[:-1]
    flat = call.add("reshape", y, None, ".flat", shape=f"{math.prod(known)},{y.features}")
    y = call.add("conv1d", flat, {"weight": weight[:, np.newaxis]}, ".product", groups=groups)
    return call.add("reshape", y, None, ".unflat", shape=_text("", known, [len(weight)]))


def _shifted(call: LayerCall, y: Value, sizes: dict[str, int | None], equation: Equation, bias: np.ndarray) -> Value:
    """`y` plus a bias of its last axes."""
    axes = equation.y[len(equation.y) - bias.ndim :]
    before = equation.y[1 : len(equation.y) - bias.ndim]
    known = _known(call, sizes, axes)
    full = np.broadcast_to(bias, known).reshape(-1)
    if len(known) == 1:
        return affine(call, y, 1.0, full, ".shifted")
    y = _reshaped(call, y, sizes, before, (math.prod(known),), ".together")
    y = affine(call, y, 1.0, full, ".shifted")
    return _reshaped(call, y, sizes, before, known, ".apart")
