"""Which matrices of a network take fewer bytes, and what that does to its predictions.

The types themselves are the engine's (docs/design/numbers.md); here are the rules that choose among them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.choose import chosen_isa
from cylstm.errors import ArgumentError, CylstmWarning, ShapeError, UnsupportedError, described
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.weights import WEIGHT_TYPES, StoredTensor, Tensor, as_stored, is_int8

if TYPE_CHECKING:
    from cylstm.graph.graph import Graph, Layer
    from cylstm.model import Model

#: what `Model.quantize` takes
QUANTIZED = ("int8", "float16", "bfloat16")
#: machines whose best activations are known; those whose products of int8 are not faster with 16 bits come last
TARGETS = ("x86", "pi5", "pi4", "pi3")
_WITHOUT_DOT_PRODUCTS = ("pi4", "pi3")
#: A matrix of fewer weights stays in a core's first cache in any type.
_SMALL = 4096
#: Below so many weights in all, int8 was not faster than float32 anywhere.
_LEAST = 8192
#: Columns whose largest weights differ by more than this are of inputs in units of very different size.
_SPREAD = 16.0
#: the largest number of float16
_MOST_FLOAT16 = 65504.0
#: kinds of layers whose results are at most about 1 in size
_BOUNDED = ("lstm", "gru", "rnn")
_BOUNDED_ACTIVATIONS = ("tanh", "sigmoid", "hard_sigmoid", "softmax", "softsign")
#: that give what they get, or parts of it
_PASSING = ("dropout", "last", "reverse", "masking")


class QuantizedPart:
    """One matrix of a quantised model.

    Attributes
    ----------
    layer, role : str
    shape : tuple of int
    type : str
        Of `cylstm.graph.weights.WEIGHT_TYPES`: "int8a16" is int8 with activations of 16 bits, "int8a8" of 8.
    bytes, bytes_before : int
        Of its weights and their scales, without padding.
    error : float
        The rms difference from the weights before, as a part of their rms; of those that are finite.
    reason : str
        Why it has this type, where the rules did not give it what was asked for.
    """

    __slots__ = ("bytes", "bytes_before", "error", "layer", "reason", "role", "shape", "type")

    def __init__(self, layer: str, role: str, shape: tuple[int, ...], kind: str, error: float, reason: str) -> None:
        self.layer = layer
        self.role = role
        self.shape = shape
        self.type = kind
        self.error = error
        self.reason = reason
        size = math.prod(shape)
        self.bytes_before = 4 * size
        self.bytes = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}[WEIGHT_TYPES[kind]] * size
        if is_int8(kind):
            self.bytes += 4 * shape[0]

    def __repr__(self) -> str:
        from cylstm.shown import shown_name

        part = f"{shown_name(self.layer)}.{self.role}"
        return f"<QuantizedPart {part} {self.type}: {self.bytes:,} of {self.bytes_before:,} bytes>"


class Comparison:
    """How the predictions of a model differ from those of another, each over all outputs.

    Attributes
    ----------
    maximum, mean, rms : float
        Of the absolute differences; of several outputs the largest.
    outputs : dict of str to tuple of float
        (maximum, mean, rms) by output.
    target_rmse : tuple of float or None
        With a target: the root mean square error of the model, and of the other one.
    """

    def __init__(
        self, outputs: Mapping[str, tuple[float, float, float]], target_rmse: tuple[float, float] | None
    ) -> None:
        self.outputs = dict(outputs)
        self.maximum, self.mean, self.rms = (max(found) for found in zip(*outputs.values()))
        self.target_rmse = target_rmse

    def __repr__(self) -> str:
        text = f"<Comparison: maximum {self.maximum:.3g}, mean {self.mean:.3g}, rms {self.rms:.3g}"
        if self.target_rmse is not None:
            before, after = self.target_rmse
            change = f" ({(after - before) / before:+.3%})" if before else ""
            text += f"; RMSE {before:.6g}, of the other {after:.6g}{change}"
        return text + ">"


def with_weights(graph: Graph, weights: object) -> Graph:
    """The graph with this type for every matrix that can have it; "int8" chooses by the rules for this machine.

    Raises
    ------
    ArgumentError
        If there is no such type.
    """
    if not isinstance(weights, str) or weights not in (*WEIGHT_TYPES, "int8"):
        raise ArgumentError(f"weights: expected one of {', '.join(WEIGHT_TYPES)} or int8, found {described(weights)}")
    if weights == "int8":
        is_there = any(is_int8(kind) for kind in graph.weight_types.values())
        return graph if is_there else quantized_graph(graph, weights)[0]
    if weights == "float32":
        return graph._replace(weight_types={})
    able = [
        (layer.name, role)
        for layer in graph.layers
        for role in LAYER_KINDS[layer.kind].matrices_of(layer.weights, layer.options)
        if not is_int8(weights) or role in LAYER_KINDS[layer.kind].int8_matrices
    ]
    return graph._replace(weight_types=dict.fromkeys(able, weights))


def quantized_graph(
    graph: Graph,
    weights: object,
    activations: object = None,
    keep_float32: Collection[str] = (),
    target: object = None,
) -> tuple[Graph, dict[tuple[str, str], str]]:
    """The graph with smaller types for its matrices by the rules, and why some have another type than asked for.

    Raises
    ------
    ArgumentError, UnsupportedError
        As `cylstm.Model.quantize`.
    """
    if not isinstance(weights, str) or weights not in QUANTIZED:
        raise ArgumentError(f"weights: expected one of {', '.join(QUANTIZED)}, found {described(weights)}")
    if graph.weight_types:
        (name, role), kind = next(iter(graph.weight_types.items()))
        raise UnsupportedError(
            f"layer {name!r}: {role} is of {kind} already, and rounding it again would add to the error; quantise the "
            'model of float32, or load this one with weights="float32" if there is none'
        )
    numbers = _activations(weights, activations, target)
    kept = _kept(graph, keep_float32)
    types, reasons = {}, {}
    for layer in graph.layers:
        kind_of_layer = LAYER_KINDS[layer.kind]
        tensors = graph.stored_tensors(layer)
        for role in kind_of_layer.matrices_of(layer.weights, layer.options):
            place = layer.name, role
            if place in kept:
                reasons[place] = "kept as asked"
                continue
            kind, reason = weights, ""
            if weights == "int8":
                kind, reason = _int8_type(graph, layer, role, tensors[role], numbers)
            if kind != "float32":
                types[place] = kind
            if reason:
                reasons[place] = reason
        if kind_of_layer.has_one_type:
            _share_type(layer.name, kind_of_layer.matrices_of(layer.weights, layer.options), types, reasons)
    return graph._replace(weight_types=types), reasons


#: types that a matrix may get, the widest last
_WIDTHS = ("int8a8", "int8a16", "float16", "bfloat16", "float32")


def _share_type(
    layer: str, roles: Sequence[str], types: dict[tuple[str, str], str], reasons: dict[tuple[str, str], str]
) -> None:
    """Give matrices that have to be of one type the widest of theirs."""
    found = {role: types.get((layer, role), "float32") for role in roles}
    widest = max(found.values(), key=_WIDTHS.index)
    for role, kind in found.items():
        if kind != widest:
            types[layer, role] = widest
            reasons[layer, role] = f"of one type with {next(one for one in roles if found[one] == widest)}"
            if widest == "float32":
                del types[layer, role]


def _activations(weights: str, activations: object, target: object) -> str:
    """ "int16" or "int8"."""
    if target is not None and (not isinstance(target, str) or target not in TARGETS):
        raise ArgumentError(f"target: expected one of {', '.join(TARGETS)} or None, found {described(target)}")
    if activations is not None and (not isinstance(activations, str) or activations not in ("int16", "int8")):
        raise ArgumentError(f'activations: expected "int16", "int8" or None, found {described(activations)}')
    if activations is not None and weights != "int8":
        raise ArgumentError(f'activations: those of weights="{weights}" are float32; leave activations out')
    without_dots = target in _WITHOUT_DOT_PRODUCTS or (target is None and chosen_isa() == "neon")
    if activations == "int16" and without_dots:
        warnings.warn(
            "int8 weights with int16 activations take more instructions than float32 on a machine without dot "
            'products, such as a Raspberry Pi 3 or 4; activations="int8" takes fewer, and weights="float16" is exact',
            CylstmWarning,
            stacklevel=6,
        )
    return str(activations) if activations is not None else "int8" if without_dots else "int16"


def _kept(graph: Graph, names: Collection[str]) -> set[tuple[str, str]]:
    """The matrices that names of layers, or of their parts, stand for."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise ArgumentError(f"keep_float32: expected a list of names, found {described(names)}")
    places = {
        f"{layer.name}.{role}": (layer.name, role)
        for layer in graph.layers
        for role in LAYER_KINDS[layer.kind].matrices_of(layer.weights, layer.options)
    }
    found = set()
    for name in names:
        matching = {place for text, place in places.items() if name in (place[0], text)}
        if not matching:
            raise ArgumentError(
                f"keep_float32: {described(name)} is no layer with a matrix, nor a part of one; there are "
                f"{', '.join(places)}"
            )
        found |= matching
    return found


def _int8_type(graph: Graph, layer: Layer, role: str, tensor: Tensor, activations: str) -> tuple[str, str]:
    """The type of a matrix of a network that int8 is asked for, and why if that is another one."""
    if tensor.size < _SMALL:
        return "float32", f"fewer than {_SMALL:,} weights"
    largest, spread = _sizes(tensor)
    half = "float16" if largest <= _MOST_FLOAT16 else "bfloat16"
    if role not in LAYER_KINDS[layer.kind].int8_matrices:
        return half, "a convolution or a table, whose error in int8 is too large"
    if not math.isfinite(largest):
        return half, "weights that are not finite"
    if spread > _SPREAD and not _is_bounded(graph, _read_by(layer, role)):
        return half, f"columns that differ {spread:.0f} times in size, as those of inputs in raw units do"
    read = _read_by(layer, role)
    if activations == "int8" and not (_is_bounded(graph, read) if read is not None else _has_bound(layer, role)):
        return "int8a16", "what it multiplies has no bound: activations of 16 bits"
    return ("int8a8" if activations == "int8" else "int8a16"), ""


def _sizes(tensor: Tensor) -> tuple[float, float]:
    """The largest weight, and how many times the largest one of a column is that of another column."""
    columns = np.zeros(tensor.shape[-1] if tensor.ndim > 1 else 1, np.float32)
    for _, rows in tensor.pieces() if isinstance(tensor, StoredTensor) else [(0, tensor)]:
        columns = np.maximum(columns, np.abs(rows).reshape(-1, columns.size).max(axis=0))
    used = columns[columns > 0]
    return float(columns.max()), float(used.max() / used.min()) if used.size else 1.0


def _read_by(layer: Layer, role: str) -> str | None:
    """The value that a matrix multiplies; None for a state of the layer itself."""
    return None if role in ("weight_hh", "weight_hr") else layer.inputs["x"]


def _has_bound(layer: Layer, role: str) -> bool:
    """Whether the state of a recurrent layer, or what its projection reads, is at most about 1 in size."""
    option = "output_activation" if layer.kind == "lstm" else "activation"
    is_projected = "weight_hr" in layer.weights and role != "weight_hr"
    return not is_projected and layer.options[option] in _BOUNDED_ACTIVATIONS


def _is_bounded(graph: Graph, value: str | None) -> bool:
    """Whether the numbers of a value are at most about 1 in size."""
    while value is not None:
        maker = next((layer for layer in graph.layers if value in layer.outputs.values()), None)
        if maker is None:
            return False
        if maker.kind in _PASSING:
            value = maker.inputs["x"]
            continue
        if maker.kind == "merge" and maker.options["mode"] == "concat":
            data = [name for role, name in maker.inputs.items() if role.startswith("x")]
            return all(_is_bounded(graph, name) for name in data)
        if maker.kind in _BOUNDED:
            return _has_bound(maker, "")
        return maker.options.get("activation") in _BOUNDED_ACTIVATIONS
    return True


def quantize_model(
    model: Model,
    weights: object,
    activations: object,
    keep_float32: Collection[str],
    target: object,
    budget: object,
    data: Any,
) -> Model:
    """As `cylstm.Model.quantize`."""
    if model.engine != "packed":
        raise UnsupportedError(
            f'weights of {weights} are for engine="packed", and this model has engine="{model.engine}"; load it '
            "without engine= and dtype="
        )
    if (budget is None) != (data is None):
        raise ArgumentError("budget: is about the predictions for data; give both or none")
    graph, reasons = quantized_graph(model.graph, weights, activations, keep_float32, target)
    if weights == "int8":
        _warn_if_small(graph)
    if budget is not None:
        graph, more = _within_budget(model, graph, budget, data)
        reasons |= more
    found = type(model)(graph)
    found._quantization = _report(model.graph, found.graph, reasons)
    return found


def _warn_if_small(graph: Graph) -> None:
    stored = as_stored(graph.tensors)
    whole = {
        layer.weights[role]
        for layer in graph.layers
        for role, kind in graph.types_of(layer.name).items()
        if is_int8(kind)
    }
    count = sum(stored[name].size for name in whole)
    if count < _LEAST:
        found = (
            f"int8 is not faster than float32 below {_LEAST:,} weights, and {count:,} of this network have it; "
            "it saves memory only"
        )
        warnings.warn(
            found if count else "no matrix of this network becomes int8; the report has the reasons",
            CylstmWarning,
            stacklevel=5,
        )


def _report(before: Graph, after: Graph, reasons: Mapping[tuple[str, str], str]) -> tuple[QuantizedPart, ...]:
    """What each matrix became; `after` is of a model, so that its tensors are rounded."""
    parts = []
    for layer in after.layers:
        for role in LAYER_KINDS[layer.kind].matrices_of(layer.weights, layer.options):
            name, kind = layer.weights[role], after.types_of(layer.name).get(role, "float32")
            was, now = before.tensors[name], after.tensors[name]
            is_finite = np.isfinite(was)
            size = _rms(was[is_finite])
            error = _rms(np.subtract(now[is_finite], was[is_finite], dtype=np.float64))
            reason = reasons.get((layer.name, role), "")
            parts.append(QuantizedPart(layer.name, role, was.shape, kind, error / size if size else 0.0, reason))
    return tuple(parts)


def _rms(numbers: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(numbers, dtype=np.float64)))) if numbers.size else 0.0


def _within_budget(model: Model, graph: Graph, budget: object, data: Any) -> tuple[Graph, dict[tuple[str, str], str]]:
    """The graph whose predictions differ from the model's by at most `budget`, and which types were raised.

    The part with the worst error per byte that it saves is raised first, from int8 to float16, then to float32.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float, np.number)) or not 0 < float(budget) < math.inf:
        raise ArgumentError(f"budget: expected a number above 0, found {described(budget)}")
    expected = _predictions(model, data)

    def error(types: Mapping[tuple[str, str], str]) -> float:
        found = _predictions(type(model)(graph._replace(weight_types=types)), data)
        return max(_errors(a, b)[2] for a, b in zip(expected, found))

    types = dict(graph.weight_types)
    raised: dict[tuple[str, str], str] = {}
    stored = as_stored(graph.tensors)
    names = {(layer.name, role): name for layer in graph.layers for role, name in layer.weights.items()}
    while types and error(types) > float(budget):
        costs = {}
        for place, kind in types.items():
            saved = stored[names[place]].size * (3 if is_int8(kind) else 2)
            costs[place] = error({place: kind}) / saved
        worst = max(costs, key=lambda place: costs[place])
        raised[worst] = f"raised to keep the error below {float(budget):g}"
        if is_int8(types[worst]) and _sizes(stored[names[worst]])[0] <= _MOST_FLOAT16:
            types[worst] = "float16"
        else:
            del types[worst]
    return graph._replace(weight_types=types), raised


def _predictions(model: Model, x: Any) -> list[np.ndarray]:
    found = model.predict(x)
    outputs = found if isinstance(found, list) else [found]
    if not all(output.size for output in outputs):
        raise ShapeError(f"x: expected at least one sample and one step, found outputs of {outputs[0].shape}")
    if not all(np.isfinite(output).all() for output in outputs):
        raise ArgumentError("x: predictions are NaN or infinite there, which no error can be taken of")
    return outputs


def _errors(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """maximum, mean and rms"""
    difference = np.abs(np.subtract(a, b, dtype=np.float64))
    return float(difference.max()), float(difference.mean()), _rms(difference)


def compare_models(model: Model, other: Model, x: Any, target: Any) -> Comparison:
    """As `cylstm.Model.compare`."""
    if not isinstance(other, type(model)):
        raise ArgumentError(f"other: expected a Model, found {described(other)}")
    if _ports(model) != _ports(other):
        raise ArgumentError(
            f"other: expected a model of the same inputs and outputs, {_ports(model)}, found {_ports(other)}"
        )
    ours, theirs = _predictions(model, x), _predictions(other, x)
    errors = {name: _errors(a, b) for name, a, b in zip(model.outputs, ours, theirs)}
    if target is None:
        return Comparison(errors, None)
    return Comparison(errors, (_rmse(ours, target), _rmse(theirs, target)))


def _ports(model: Model) -> str:
    """The inputs and outputs of a model with their shapes, in words."""
    values = model.graph.values
    ports = [f"{name} {values[name].shape}" for name in model.inputs]
    return ", ".join(ports) + " -> " + ", ".join(f"{name} {values[name].shape}" for name in model.outputs)


def _rmse(outputs: Sequence[np.ndarray], target: Any) -> float:
    targets = list(target) if len(outputs) > 1 and isinstance(target, (list, tuple)) else [target]
    if len(targets) != len(outputs):
        raise ArgumentError(f"target: expected a list of {len(outputs)} arrays, one for each output")
    total, count = 0.0, 0
    for output, wanted in zip(outputs, targets):
        array = np.asarray(wanted)
        if array.shape != output.shape:
            raise ArgumentError(f"target: expected shape {output.shape}, found {array.shape}")
        total += float(np.square(np.subtract(output, array, dtype=np.float64)).sum())
        count += array.size
    return math.sqrt(total / count)
