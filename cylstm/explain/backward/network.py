"""A whole network backwards: from an output to its inputs, over the trace of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.explain.backward import RULES
from cylstm.explain.backward.dense import DenseRule
from cylstm.explain.backward.rule import Call, Relevance
from cylstm.graph.layers import LAYER_KINDS
from cylstm.inputs import as_masks, as_state, read_inputs, to_layout

if TYPE_CHECKING:
    from cylstm.graph.graph import Layer
    from cylstm.model import Model

#: layers whose results a trace has at once
_TRACED = 48
#: inputs and states below it are 0 in float32
_SMALLEST = 2.0**-40


class Found(NamedTuple):
    """What a way back found, (batch, ...) each.

    Attributes
    ----------
    prediction : ndarray
        (batch,): the explained number, or the sum of several.
    inputs : list of ndarray
        Of each input, in the order of axes of the network.
    states : list of list of ndarray
        Of the initial states of each layer that has any, also where these are zero.
    """

    prediction: np.ndarray
    inputs: list[np.ndarray]
    states: list[list[np.ndarray]]


class Given(NamedTuple):
    """What a prediction is made of, checked, with a batch axis, in the network's order of axes."""

    inputs: list[np.ndarray]
    has_batch: bool
    masks: list[np.ndarray | None]
    states: list[list[np.ndarray]] | None

    def rows(self, rows: slice | np.ndarray) -> Given:
        """The same of some rows."""
        return Given(
            [array[rows] for array in self.inputs],
            self.has_batch,
            [None if mask is None else mask[rows] for mask in self.masks],
            None if self.states is None else [[part[rows] for part in parts] for parts in self.states],
        )


class Backward:
    """The way back through a network from one of its outputs. What has no rule is refused when it is made.

    Parameters
    ----------
    model : Model
    output : int, slice, tuple or str, optional
        As `gradients` takes it.
    how : Relevance, optional
        Relevance instead of gradients.
    """

    def __init__(self, model: Model, output: Any, how: Relevance | None = None) -> None:
        graph = model.graph
        self.model = model
        self.how = how
        name, self._index = _chosen_output(output, model.outputs)
        self._place = 0 if name is None else model.outputs.index(name)
        self._output = model.outputs[self._place]
        made_by = {value: layer for layer in graph.layers for value in layer.outputs.values()}
        self._layers = _needed(self._output, made_by, [layer.name for layer in graph.layers])
        # those through which the output depends on an input
        depends = set(graph.inputs)
        self._on_the_way: set[str] = set()
        for layer in self._layers:
            if depends & set(layer.inputs.values()):
                depends.update(layer.outputs.values())
                self._on_the_way.add(layer.name)
        self._scores = self._find_scores(made_by) if how is not None else None
        for layer in self._layers:
            if layer.name in self._on_the_way:
                self._check(layer)
            elif self._read_states(layer):
                raise UnsupportedError(
                    f"layer {layer.name!r} ({layer.kind}): its last state is read, and it depends on no input"
                )
        if self._output not in depends:
            raise ArgumentError(f"output {self._output!r} depends on no input")
        self._tensors: dict[str, np.ndarray] = {}

    def _find_scores(self, made_by: Mapping[str, Layer]) -> Layer | None:
        """The layer with the softmax that gives the explained output, where one does."""
        name = self._output
        while name in made_by and LAYER_KINDS[made_by[name].kind].is_inert:
            name = made_by[name].inputs["x"]
        layer = made_by.get(name)
        if layer is None or layer.kind not in ("dense", "activation", "softmax"):
            return None
        is_softmax = layer.kind == "softmax" or layer.options["activation"] == "softmax"
        return layer if is_softmax else None

    def _read_states(self, layer: Layer) -> bool:
        """Whether the states after the last step of a layer are read."""
        states = {name for role, name in layer.outputs.items() if role in ("h", "c")}
        return self._output in states or any(states & set(other.inputs.values()) for other in self._layers)

    def _check(self, layer: Layer) -> None:
        """Raise `UnsupportedError` unless there is a rule for the layer."""
        what = "relevance" if self.how is not None else "the gradient"
        rule = RULES.get(layer.kind)
        if layer.kind == "mask_merge":
            return  # nothing goes back through which steps count
        if rule is None:
            raise UnsupportedError(
                f"layer {layer.name!r} ({layer.kind}): {what} has no rule for layers of this kind; there are rules "
                f"for {', '.join(RULES)}. Occlusion and Shapley values explain any network"
            )
        numbers = [role for role in layer.inputs if not role.startswith("mask")]
        reason = rule.refusal(layer.options, len(numbers))
        if reason is None and self.how is not None and layer is not self._scores:
            reason = rule.relevance_refusal(layer.options, len(numbers))
        if reason is not None:
            raise UnsupportedError(f"layer {layer.name!r} ({layer.kind}): {reason}")

    def read(self, x: Any, given: Mapping[str, Any]) -> Given:
        """The arguments of a prediction, checked."""
        unknown = set(given) - {"lengths", "mask", "initial_state"}
        if unknown:
            raise ArgumentError(f"no argument {sorted(unknown)[0]!r}; there are lengths, mask, initial_state")
        packed = self.model._packed
        for value in packed.inputs:
            if value.kind == "index":
                raise UnsupportedError(
                    f"input {value.name!r} is whole numbers, which have no gradients; extract the part behind the "
                    "embedding with Model.extract, or explain it by occlusion"
                )
        inputs, is_alone = read_inputs(packed, x, packed.inputs, packed.layouts)
        masks = as_masks(packed, inputs, is_alone, given.get("lengths"), given.get("mask"))
        states = None
        if given.get("initial_state") is not None:
            flat = iter(as_state(given["initial_state"], packed.state_groups, len(inputs[0]), packed.dtype))
            states = [[next(flat) for _ in shapes] for _, shapes in packed.state_groups]
        flags = [None if mask is None else mask.astype(bool) for mask in masks]
        return Given(inputs, not is_alone, flags, states)

    def run(self, given: Given) -> Found:
        """Predict, and go back."""
        model, graph = self.model, self.model.graph
        calls, values, outputs = self._predict(given)
        whole = outputs[self._place] if isinstance(outputs, list) else outputs
        start = np.zeros(values[self._output].shape)
        layout = model._packed.layouts.get(self._output)
        seen = start if layout is None else to_layout(start, layout, start.ndim - 1)
        numbers = np.asarray(whole, np.float64)
        if self._scores is not None:
            scored = calls[self._scores.name]
            scores = DenseRule.scores(scored) if scored.layer.kind == "dense" else scored.x
            numbers = scores if layout is None else to_layout(scores, layout, scores.ndim - 1)
        key = self._key(numbers.shape[1:])
        chosen = numbers[key]
        prediction = chosen.reshape(len(chosen), -1).sum(axis=1)
        seen[key] = chosen if self.how is not None else 1.0
        of_values = {self._output: start}
        of_states: dict[str, list[np.ndarray]] = {}
        for layer in reversed(self._layers):
            out = {role: of_values[name] for role, name in layer.outputs.items() if name in of_values}
            if layer.name not in self._on_the_way or not out:
                continue
            call, rule = calls[layer.name], RULES[layer.kind]
            found = dict(rule.gradient(call, out) if self.how is None else rule.relevance(call, out, self.how))
            for role, name in layer.inputs.items():
                if role in found:
                    of_values[name] = of_values[name] + found[role] if name in of_values else found[role]
            kept = [role for role in ("h0", "c0") if role in found]
            of_states[layer.name] = [
                np.zeros_like(found[role]) if role in layer.inputs else found[role] for role in kept
            ]
        batch = len(prediction)
        of_inputs = [
            of_values.get(name, np.zeros((batch, *array.shape[1:]))) for name, array in zip(graph.inputs, given.inputs)
        ]
        groups = model._packed.state_groups
        states = [of_states.get(name, [np.zeros((batch, *shape)) for shape in shapes]) for name, shapes in groups]
        return Found(prediction, of_inputs, states)

    def _key(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Which numbers of the outputs are explained."""
        if self._index is None:
            if int(np.prod(shape)) != 1:
                raise ArgumentError(
                    f"output: one row's result has shape {shape}; choose a number of it by an index, or several, whose "
                    "sum is explained, by slices"
                )
            return (slice(None),)
        try:
            empty = not np.empty((1, *shape))[(slice(None), *self._index)].size
        except IndexError:
            raise ArgumentError(
                f"output: one row's result has shape {shape}, which {described(self._index)} is not in"
            ) from None
        if empty:
            raise ArgumentError(f"output: {described(self._index)} chooses nothing of a result of shape {shape}")
        return (slice(None), *self._index)

    def _predict(self, given: Given) -> tuple[dict[str, Call], dict[str, np.ndarray], Any]:
        """Each layer's call, the values of the network, and its outputs."""
        model, graph = self.model, self.model.graph
        packed = model._packed
        users = [
            to_layout(array, packed.layouts[value.name], len(value.shape)) if value.name in packed.layouts else array
            for value, array in zip(packed.inputs, given.inputs)
        ]
        more: dict[str, Any] = {}
        masked = {value.name: mask for value, mask in zip(packed.inputs, given.masks) if mask is not None}
        if masked:
            more["mask"] = masked
        if given.states is not None:
            more["initial_state"] = given.states
        names = [layer.name for layer in self._layers if "y" in layer.outputs]
        traces, outputs = {}, None
        for k in range(0, len(names), _TRACED):
            trace = model.trace(users, names[k : k + _TRACED], **more) if len(users) > 1 else model.trace(
                users[0], names[k : k + _TRACED], **more
            )  # fmt: skip
            outputs = trace.outputs
            traces.update({name: trace[name] for name in trace})
        batch = len(given.inputs[0])
        masks = {str(value.mask): mask for value, mask in zip(packed.inputs, given.masks) if mask is not None}
        values = {name: np.asarray(array, np.float64) for name, array in zip(graph.inputs, given.inputs)}
        groups = [name for name, _ in packed.state_groups]
        calls: dict[str, Call] = {}
        for layer in self._layers:
            self._add_mask(layer, values, masks)
            if layer.name not in traces:
                continue
            trace = traces[layer.name]
            y = np.asarray(trace["h" if "h" in trace.parts else "y"], np.float64)
            values[layer.outputs["y"]] = y
            if layer.name not in self._on_the_way:
                continue
            own = {"own": masks[layer.outputs["mask"]]} if layer.outputs.get("mask") in masks else {}
            initial = {}
            if layer.name in groups:
                place = groups.index(layer.name)
                shapes = packed.state_groups[place][1]
                for k, (role, shape) in enumerate(zip(("h0", "c0"), shapes)):
                    if role in layer.inputs:
                        initial[role] = values[layer.inputs[role]]
                    elif given.states is not None:
                        initial[role] = np.asarray(given.states[place][k], np.float64)
                    else:
                        initial[role] = np.zeros((batch, *shape))
            call = Call(
                layer,
                {role: self._tensor(name) for role, name in layer.weights.items()},
                {role: values[name] for role, name in layer.inputs.items() if name in values},
                {role: masks[name] for role, name in layer.inputs.items() if name in masks} | own,
                y,
                trace,
                initial,
            )
            calls[layer.name] = call
            if self._read_states(layer):
                for role, state in RULES[layer.kind].states(call).items():
                    values[layer.outputs[role]] = state
        return calls, values, outputs

    def _add_mask(self, layer: Layer, values: Mapping[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
        """Which steps count, where a layer finds that out. One that is not known is all of them."""
        if "mask" not in layer.outputs:
            return
        if layer.kind == "masking":
            x = values[layer.inputs["x"]]
            if self.model.dtype == np.float32:
                x = np.where(np.abs(x) < _SMALLEST, 0.0, x)
            value = float(self.model.dtype.type(layer.options["mask_value"]))
            masks[layer.outputs["mask"]] = (x != value).any(axis=tuple(range(2, x.ndim)))
        elif layer.kind == "mask_merge":
            known = [masks.get(name) for name in layer.inputs.values()]
            given = [mask for mask in known if mask is not None]
            if layer.options["mode"] == "all" and given:
                masks[layer.outputs["mask"]] = np.logical_and.reduce(given)
            elif len(given) == len(known):
                masks[layer.outputs["mask"]] = np.logical_or.reduce(given)

    def _tensor(self, name: str) -> np.ndarray:
        if name not in self._tensors:
            self._tensors[name] = np.asarray(self.model.graph.tensors[name], np.float64)
        return self._tensors[name]


def _needed(output: str, made_by: Mapping[str, Layer], order: list[str]) -> list[Layer]:
    """The layers that an output depends on, in the order of the network."""
    found: dict[str, Layer] = {}
    left = [output]
    while left:
        layer = made_by.get(left.pop())
        if layer is not None and layer.name not in found:
            found[layer.name] = layer
            left += layer.inputs.values()
    return [found[name] for name in order if name in found]


def _chosen_output(output: Any, names: tuple[str, ...]) -> tuple[str | None, tuple[Any, ...] | None]:
    """The name of an output and the index of one row's result. Raises `ArgumentError`."""
    name, index = None, output
    if isinstance(output, str):
        name, index = output, None
    elif isinstance(output, tuple) and output and isinstance(output[0], str):
        name, index = output[0], output[1:] or None
    if name is not None and name not in names:
        raise ArgumentError(f"output: expected one of {', '.join(names)}, found {name!r}")
    if name is None and len(names) > 1:
        raise ArgumentError(f"output: the network has {', '.join(names)}; choose one by its name")
    if index is None:
        return name, None
    key = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, (bool, np.bool_)) or not isinstance(part, (int, np.integer, slice)) for part in key):
        raise ArgumentError(f"output: expected an index of one row's result, found {described(output)}")
    return name, key
