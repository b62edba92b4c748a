"""What each kind of layer does with channels that are constant, that repeat another, or that are taken out.

A *channel* is a place along the last axis of a value: a unit of a recurrent layer is a channel of its output. A rule of
`RULES` says three things of a kind of layer: what is known of the channels of its result, given those that it reads;
which channels can only go together (that of an activation and that of what it reads) or must stay, and why; and how its
weights and options change once it is decided. A kind without a rule keeps all that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from cylstm.explain.units import LayerUnits
from cylstm.graph.graph import Graph, Layer

#: numbers of channels, or all of them
Places: TypeAlias = np.ndarray | slice
#: the tensors of a layer that change, by role, and its options
Edit: TypeAlias = tuple[dict[str, np.ndarray], dict[str, Any]]

ALL = slice(None)

#: functions and merges that make little of a little difference
SMOOTH_FUNCTIONS = (
    "neg", "abs", "square", "exp", "exp2", "expm1", "sin", "cos", "atan", "sinh", "cosh", "asinh", "erf", "erfc",
)  # fmt: skip
SMOOTH_MERGES = ("concat", "sum", "mul", "ave", "sub", "max", "min")

CONV_LSTM = "a unit of a ConvLSTM is a filter at one of many places"


class Channels:
    """What is known of the channels of a value. All arrays are (channels,).

    Attributes
    ----------
    constant : ndarray
        The number that a channel always has, in float64; NaN for one that changes.
    like : ndarray of int
        The first channel that always has the same numbers; its own place if none does.
    partly : ndarray of bool
        Constants that only hold at the steps that `mask` says count.
    mask : str or None
    loose : ndarray of bool
        Where all this only holds to within rounding: what has jumps may tell the numbers apart.
    """

    def __init__(
        self,
        constant: np.ndarray,
        like: np.ndarray | None = None,
        partly: np.ndarray | None = None,
        mask: str | None = None,
        loose: np.ndarray | None = None,
    ) -> None:
        size = len(constant)
        self.constant = constant
        self.like = np.arange(size) if like is None else like
        self.partly = np.zeros(size, bool) if partly is None else partly
        self.mask = mask
        self.loose = np.zeros(size, bool) if loose is None else loose

    @staticmethod
    def unknown(size: int) -> Channels:
        """Channels that all change, each in its own way."""
        return Channels(np.full(size, np.nan))

    @property
    def is_known(self) -> np.ndarray:
        """Those that a reader can do without."""
        found: np.ndarray = ~np.isnan(self.constant) | (self.like != np.arange(len(self.like)))
        return found

    @property
    def offsets(self) -> np.ndarray:
        """The constants that are not 0, and 0 elsewhere."""
        found: np.ndarray = np.nan_to_num(self.constant, nan=0.0)
        return found


class Network:
    """A graph, what is known of the channels of its values, and which of them may be taken out.

    Parameters
    ----------
    graph : Graph
    units : dict of str to LayerUnits
    is_exact : bool
        Whether a unit may go only if nothing changes by it; else it becomes its mean, whatever that does.
    compute : callable
        ``compute(layer, arrays)`` is what a layer makes of vectors, by role.
    """

    def __init__(
        self,
        graph: Graph,
        units: Mapping[str, LayerUnits],
        is_exact: bool,
        compute: Callable[[Layer, Mapping[str, np.ndarray]], np.ndarray],
    ) -> None:
        self.graph = graph
        self.units = units
        self.is_exact = is_exact
        self.compute = compute
        self.has_empty_rows = any(one.empty for one in units.values())
        self.readers: dict[str, list[Layer]] = {}
        for layer in graph.layers:
            for name in layer.inputs.values():
                self.readers.setdefault(name, []).append(layer)
        sizes = {name: value.features for name, value in graph.values.items() if value.kind not in ("mask", "index")}
        starts = np.cumsum([0, *sizes.values()])
        self._places = {name: slice(int(at), int(at) + size) for (name, size), at in zip(sizes.items(), starts)}
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._blocked: list[tuple[np.ndarray, str]] = []
        self.facts = {name: Channels.unknown(size) for name, size in sizes.items()}
        #: layer -> the unit, never 0, that stands in its recurrence for others that are constant
        self.stand_ins: dict[str, int] = {}
        #: layer -> for each channel that it weighs, the sum of the squares of the weights
        self._weighed: list[tuple[str, np.ndarray]] = []
        shared = _shared(graph)
        self.block(graph.inputs, ALL, "it is an input of the network")
        self.block(graph.outputs, ALL, "it is an output of the network")
        for layer in graph.layers:
            rule = RULES.get(layer.kind, KEEPS)
            if layer.name in shared:
                why = f"layer {layer.name!r} has the weights of layer {shared[layer.name]!r} too"
                self.block([*layer.inputs.values(), *layer.outputs.values()], ALL, why)
                continue
            read = rule.roles(layer)
            for role, name in layer.inputs.items():
                if role not in read:
                    self.block([name], ALL, f"layer {layer.name!r} ({layer.kind}) reads it as {role}")
            rule.read(self, layer)
        if is_exact:
            for layer in graph.layers:
                if layer.name in units and layer.name not in shared:
                    RULES.get(layer.kind, KEEPS).settle(self, layer)
            self._keep_one_of_each()

    def tie(self, a: str, b: str, at_a: Places = ALL, at_b: Places = ALL) -> None:
        """Channels of two values go together or stay together."""
        self._ties.append((self._ids(a)[at_a], self._ids(b)[at_b]))

    def block(self, names: Sequence[str], at: Places, why: str) -> None:
        """Channels stay, for this reason."""
        for name in names:
            if name in self._places:
                ids = self._ids(name)[at]
                if len(ids):
                    self._blocked.append((ids, why))

    def weigh(self, name: str, squares: np.ndarray) -> None:
        """A layer multiplies the channels by weights with these sums of squares."""
        self._weighed.append((name, squares))

    def is_read(self, name: str) -> bool:
        """Whether a layer reads a value, or it is an output."""
        return name in self.readers or name in self.graph.outputs

    def tensor(self, layer: Layer, role: str) -> np.ndarray:
        """A weight in float64."""
        return np.array(self.graph.tensors[layer.weights[role]], np.float64)

    def groups(self) -> np.ndarray:
        """For each channel of all values the first of those that go together."""
        total = sum(where.stop - where.start for where in self._places.values())
        found = np.arange(total)
        is_changed = True
        while is_changed:
            before = found.copy()
            for a, b in self._ties:
                least = np.minimum(found[a], found[b])
                np.minimum.at(found, a, least)
                np.minimum.at(found, b, least)
                # the first of a group follows too
            found = found[found]
            is_changed = bool((found != before).any())
        return found

    def reasons(self) -> tuple[np.ndarray, dict[int, str]]:
        """The groups, and group -> why it stays, of those that do."""
        groups = self.groups()
        why: dict[int, str] = {}
        for ids, reason in self._blocked:
            for group in np.unique(groups[ids]).tolist():
                why.setdefault(group, reason)
        for name, where in self._places.items():
            for group in np.unique(groups[where][~self.facts[name].is_known]).tolist():
                why.setdefault(group, f"its place in {name!r} has numbers that change")
        return groups, why

    def of(self, name: str, groups: np.ndarray) -> np.ndarray:
        """The groups of the channels of a value."""
        return groups[self._places[name]]

    def removable(self) -> dict[str, np.ndarray]:
        """Value -> the channels that can go."""
        groups, why = self.reasons()
        stays = np.isin(groups, list(why))
        return {name: ~stays[where] for name, where in self._places.items()}

    def chosen(self, groups: np.ndarray, chosen: Sequence[int]) -> dict[str, np.ndarray]:
        """Value -> its channels that are in the groups that were chosen."""
        goes = np.isin(groups, list(chosen))
        return {name: goes[where] for name, where in self._places.items()}

    def outgoing(self) -> dict[str, np.ndarray]:
        """Value -> for each channel the sum of the squares of all weights that it is multiplied by, on all ways."""
        found = np.zeros(sum(where.stop - where.start for where in self._places.values()))
        for name, squares in self._weighed:
            found[self._places[name]] += squares
        groups = self.groups()
        total = np.bincount(groups, found, len(found))
        return {name: total[groups[where]] for name, where in self._places.items()}

    def _ids(self, name: str) -> np.ndarray:
        where = self._places[name]
        return np.arange(where.start, where.stop)

    def _keep_one_of_each(self) -> None:
        """No value loses all its channels."""
        is_whole = False
        while not is_whole:
            is_whole = True
            for name, goes in self.removable().items():
                if goes.all():
                    self.block([name], np.array([0]), f"{name!r} has to keep one channel")
                    is_whole = False
                    break


class Rule:
    """What a kind of layer does with channels. This one keeps all that it reads.

    Parameters
    ----------
    why : str
        Of the kind, for the reason why units are kept.
    """

    def __init__(self, why: str = "") -> None:
        self.why = why

    def roles(self, layer: Layer) -> tuple[str, ...]:
        """The inputs that `read` cares for; all others are kept whole."""
        return tuple(layer.inputs)

    def read(self, net: Network, layer: Layer) -> None:
        """Note what is known of the results, and what goes together or stays."""
        why = f" ({self.why})" if self.why else ""
        net.block(list(layer.inputs.values()), ALL, f"layer {layer.name!r} of kind {layer.kind} reads it{why}")

    def settle(self, net: Network, layer: Layer) -> None:
        """Of recurrent layers, once all layers are read: what their own recurrence asks for."""

    def edit(self, net: Network, layer: Layer, gone: Mapping[str, np.ndarray]) -> Edit:
        """The weights and options that change where these channels are gone, by value."""
        return {}, {}


KEEPS = Rule()


class Dense(Rule):
    """A sum over the channels: a constant goes into the bias, a repeated one's weights to those of the first."""

    matrix = "weight"

    def roles(self, layer: Layer) -> tuple[str, ...]:
        return ("x",)

    def read(self, net: Network, layer: Layer) -> None:
        weight = net.tensor(layer, self.matrix)
        net.weigh(layer.inputs["x"], (weight**2).reshape(-1, weight.shape[-1]).sum(axis=0))
        block_partly(net, layer)

    def edit(self, net: Network, layer: Layer, gone: Mapping[str, np.ndarray]) -> Edit:
        x = layer.inputs["x"]
        if not gone[x].any():
            return {}, {}
        weight, extra = merged(net.tensor(layer, self.matrix), net.facts[x], gone[x])
        extra = extra.reshape(len(extra), -1).sum(axis=1)  # of all taps of a kernel
        return {self.matrix: weight, **with_bias(net, layer, "bias", extra)}, {}


class Conv1d(Dense):
    """As `Dense` at each tap; a constant other than 0 is none where there is padding."""

    def read(self, net: Network, layer: Layer) -> None:
        x, options = layer.inputs["x"], layer.options
        what = f"layer {layer.name!r} ({layer.kind})"
        if options["groups"] != 1:
            net.block([x], ALL, f"{what} reads it in groups of channels")
            return
        super().read(net, layer)
        if is_padded(layer):
            block_offsets(net, layer, f"{what} pads it with zeros")


class Recurrent(Rule):
    """LSTM, GRU and simple RNN: a sum over the channels of x and over those of its own output one step before."""

    def roles(self, layer: Layer) -> tuple[str, ...]:
        return ("x", "mask")

    def read(self, net: Network, layer: Layer) -> None:
        x, options = layer.inputs["x"], layer.options
        what = f"layer {layer.name!r} ({layer.kind})"
        weight = net.tensor(layer, "weight_ih")
        if len(net.graph.values[x].step_shape) > 1:
            net.block([x], ALL, f"{what} reads several axes of it as one")
        else:
            net.weigh(x, (weight**2).sum(axis=0))
            block_partly(net, layer, layer.inputs.get("mask"))
            if options.get("layer_norm"):
                block_offsets(net, layer, f"{what} normalises what it makes of it")
        if layer.name in net.units:
            self._read_own(net, layer, net.units[layer.name])

    def _read_own(self, net: Network, layer: Layer, units: LayerUnits) -> None:
        y, h, c = layer.outputs["y"], layer.outputs["h"], layer.outputs.get("c")
        recurrent = net.tensor(layer, "weight_hh")
        net.weigh(y, (recurrent**2).sum(axis=0))
        is_projected = "weight_hr" in layer.weights
        if layer.options.get("layer_norm"):
            net.block([y], ALL, "the layer's normalisation mixes its units")
        if {"h0", "c0"} & set(layer.inputs):
            net.block([y], ALL, "the network computes the layer's initial state")
        if c is not None and not is_projected and net.is_read(c):
            readers = [repr(one.name) for one in net.readers.get(c, [])]
            what = f"layer {readers[0]} reads" if readers else "the network gives out"
            net.block([y], ALL, f"{what} the cells of the layer after the last step")
        if net.is_exact:
            constant, like = units.constant.copy(), np.where(units.duplicate_of >= 0, units.duplicate_of, -1)
            like = np.where(like < 0, np.arange(len(like)), like)
            partly = (np.nan_to_num(constant) != 0.0) & (units.skipped > 0)
            net.facts[y] = Channels(constant, like, partly, layer.inputs.get("mask"), units.difference > 0.0)
            if layer.kind == "gru" and not layer.options["reset_after"]:
                self._check_resets(net, layer, recurrent)
        else:
            net.facts[y] = Channels(units.mean.copy())
        if net.is_read(h):
            net.tie(y, h)
            facts = net.facts[y]
            net.facts[h] = Channels(facts.constant, facts.like, loose=facts.loose)
            if net.is_exact and units.empty:
                bad = np.flatnonzero(facts.offsets)
                net.block([h], bad, "rows without any step end with a state of zeros, not with its constant")

    def _check_resets(self, net: Network, layer: Layer, recurrent: np.ndarray) -> None:
        """Of a GRU whose reset gate comes before the product: r differs from unit to unit, and multiplies h."""
        facts = net.facts[layer.outputs["y"]]
        units = recurrent.shape[1]
        of_r, of_n = recurrent[:units], recurrent[2 * units :]
        is_used = np.array([np.delete(of_n[:, k], k).any() for k in range(units)])
        bad = np.flatnonzero((facts.offsets != 0.0) & is_used)
        net.block([layer.outputs["y"]], bad, "its reset gate changes what its constant does in the layer's recurrence")
        # two units' reset gates are the same if their weights are, those of equal units taken together
        joined, _ = merged(of_r, facts, facts.like != np.arange(units))
        rows = [joined, net.tensor(layer, "weight_ih")[:units]]
        if "bias_ih" in layer.weights:
            rows.append(net.tensor(layer, "bias_ih")[:units, np.newaxis])
        whole = np.concatenate(rows, axis=1)
        differs = (whole != whole[facts.like]).any(axis=1) & is_used
        net.block([layer.outputs["y"]], np.flatnonzero(differs), "its reset gate is another than that of its duplicate")

    def settle(self, net: Network, layer: Layer) -> None:
        y = layer.outputs["y"]
        facts, recurrent = net.facts[y], net.tensor(layer, "weight_hh")
        size = recurrent.shape[1]
        if "weight_hr" not in layer.weights:  # a unit's own gates go with it
            own = recurrent.reshape(-1, size, size)
            own[:, np.arange(size), np.arange(size)] = 0.0
        offsets = facts.offsets
        goes = net.removable()[y] & (offsets != 0.0) & recurrent.any(axis=0)
        if not goes.any():
            return
        # before the first step the state is 0, so a bias cannot stand for these; one of them can, for all others
        kept = np.flatnonzero(~net.removable()[y] & (offsets != 0.0))
        if len(kept):
            first = int(kept[np.abs(offsets[kept]).argmax()])
        else:
            left = np.flatnonzero(goes)
            first = int(left[np.abs(offsets[left]).argmax()])
            why = (
                f"its constant, {offsets[first]:.6g}, goes into the layer's own recurrence, where the state before the "
                "first step is 0"
            )
            net.block([y], np.array([first]), why)
        net.stand_ins[layer.name] = first

    def edit(self, net: Network, layer: Layer, gone: Mapping[str, np.ndarray]) -> Edit:
        x, y = layer.inputs["x"], layer.outputs["y"]
        weights: dict[str, np.ndarray] = {}
        extra: Any = 0.0
        own: Any = 0.0
        if gone[x].any():
            weights["weight_ih"], extra = merged(net.tensor(layer, "weight_ih"), net.facts[x], gone[x])
        if gone[y].any():
            weights["weight_hh"], own = self._own(net, layer, gone[y])
        if np.any(extra) or np.any(own):
            weights |= self._biases(net, layer, extra, own)
        if gone[y].any():
            if "weight_hr" in layer.weights:
                weights["weight_hr"] = net.tensor(layer, "weight_hr")[~gone[y]]
            else:
                weights = self._without_rows(net, layer, weights, ~gone[y])
        return weights, {}

    def _own(self, net: Network, layer: Layer, gone: np.ndarray) -> tuple[np.ndarray, Any]:
        """The recurrent weights without the columns of units, and what these add to the gates."""
        facts, weight = net.facts[layer.outputs["y"]], net.tensor(layer, "weight_hh")
        if not net.is_exact:
            return merged(weight, facts, gone)
        if layer.name in net.stand_ins:
            first = net.stand_ins[layer.name]
            for k in np.flatnonzero(gone & (facts.offsets != 0.0)):
                weight[:, first] += weight[:, k] * (facts.constant[k] / facts.constant[first])
        # constants that are left are 0, or their columns are
        zeros = Channels(np.where(np.isnan(facts.constant), np.nan, 0.0), facts.like)
        return merged(weight, zeros, gone)

    def _biases(self, net: Network, layer: Layer, extra: Any, own: Any) -> dict[str, np.ndarray]:
        """What the channels that are gone add to the gates, from x and from its own output."""
        if layer.kind != "gru":
            return with_bias(net, layer, "bias", extra + own)
        if layer.options["reset_after"]:
            found = with_bias(net, layer, "bias_ih", extra) if np.any(extra) else {}
            return {**found, **(with_bias(net, layer, "bias_hh", own) if np.any(own) else {})}
        return with_bias(net, layer, "bias_ih", extra + own)

    def _without_rows(
        self, net: Network, layer: Layer, weights: dict[str, np.ndarray], kept: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All tensors without the gates of the units that are gone."""
        found = {}
        for role in (*layer.weights, *(role for role in weights if role not in layer.weights)):
            tensor = weights[role] if role in weights else net.tensor(layer, role)
            found[role] = tensor[np.tile(kept, len(tensor) // len(kept))]
        return found


class GruBefore(Recurrent):
    """A GRU: where the reset gate comes before the product, a mean goes into it times the mean of its gate."""

    def _own(self, net: Network, layer: Layer, gone: np.ndarray) -> tuple[np.ndarray, Any]:
        weight, own = super()._own(net, layer, gone)
        if net.is_exact or layer.options["reset_after"]:
            return weight, own
        units = net.units[layer.name]
        of_n = net.tensor(layer, "weight_hh")[2 * len(gone) :, gone]
        own[2 * len(gone) :] = of_n @ (units.mean * units.gate_mean["r"])[gone]
        return weight, own


class ConvLstm(Rule):
    """Its units are filters, each at many places."""

    def read(self, net: Network, layer: Layer) -> None:
        super().read(net, layer)
        net.block(list(layer.outputs.values()), ALL, CONV_LSTM)


class EachChannel(Rule):
    """Every channel of the result is computed from that channel alone, and from weights of its own."""

    def roles(self, layer: Layer) -> tuple[str, ...]:
        return ("x",)

    def read(self, net: Network, layer: Layer) -> None:
        x, y = layer.inputs["x"], layer.outputs["y"]
        facts = net.facts[x]
        if layer.options.get("activation") == "softmax":
            net.block([x], ALL, f"layer {layer.name!r} divides by a sum over all of them (softmax)")
            return
        size = len(facts.constant)
        own = [net.tensor(layer, role) for role in layer.weights]
        if any(tensor.size not in (1, size) for tensor in own):
            net.block([x], ALL, f"layer {layer.name!r} ({layer.kind}) has weights for several axes of it")
            return
        net.tie(x, y)
        constant = constants_of(net.compute(layer, {"x": facts.offsets}), np.isnan(facts.constant))
        differs = np.zeros(size, bool)
        for tensor in own:
            if tensor.size == size:
                differs |= tensor != tensor[facts.like]
        like = np.where(differs, np.arange(size), facts.like)
        net.facts[y] = Channels(constant, like, facts.partly, facts.mask, facts.loose)
        if layer.options.get("function", "abs") not in SMOOTH_FUNCTIONS:
            block_loose(net, layer, [x])
        why = f"layer {layer.name!r} ({layer.kind}) treats it otherwise than its duplicate"
        net.block([x], np.flatnonzero(differs), why)

    def edit(self, net: Network, layer: Layer, gone: Mapping[str, np.ndarray]) -> Edit:
        kept = ~gone[layer.inputs["x"]]
        if kept.all():
            return {}, {}
        tensors = {role: net.tensor(layer, role) for role in layer.weights}
        return {role: tensor[kept] for role, tensor in tensors.items() if tensor.size == len(kept)}, {}


class Moves(Rule):
    """Steps are chosen, put in another order, repeated or summarised; every channel by itself.

    Parameters
    ----------
    reads_valid : bool
        Whether it reads the steps alone that its mask says count.
    """

    def __init__(self, reads_valid: bool = False) -> None:
        super().__init__()
        self.reads_valid = reads_valid

    def roles(self, layer: Layer) -> tuple[str, ...]:
        return ("x", "mask")

    def read(self, net: Network, layer: Layer) -> None:
        x, y = layer.inputs["x"], layer.outputs["y"]
        value, facts = net.graph.values[x], net.facts[x]
        what = f"layer {layer.name!r} ({layer.kind})"
        axis = layer.options.get("axis", 0)
        rank = len(value.shape)
        is_of_steps = rank == 2 and isinstance(axis, int) and axis % rank == 0
        if not is_of_steps and not (layer.kind == "repeat_vector" and rank == 1):
            net.block([x], ALL, f"{what} works along its units")
            return
        net.tie(x, y)
        net.facts[y] = Channels(facts.constant, facts.like, loose=facts.loose)
        mask = layer.inputs.get("mask") if self.reads_valid else None
        block_partly(net, layer, mask)
        # whether rows have no step in another mask than the units' own, nobody knows
        if mask is not None and (net.has_empty_rows or mask != facts.mask):
            block_offsets(net, layer, f"{what} gives another number than its constant for rows without any step")
        self.check(net, layer)

    def check(self, net: Network, layer: Layer) -> None:
        """Block what a kind cannot pass on."""


class Reduce(Moves):
    """Over time; a constant stays what it is in the mean and the extremes, and 0 in a sum and a norm too."""

    def check(self, net: Network, layer: Layer) -> None:
        what, mode = f"layer {layer.name!r} ({layer.kind})", layer.options["mode"]
        facts = net.facts[layer.inputs["x"]]
        constants = np.flatnonzero(~np.isnan(facts.constant))
        if mode in ("sum", "norm") and net.is_exact:
            block_offsets(net, layer, f"{what} makes of its constant what depends on the number of steps")
        elif mode not in ("mean", "max", "min"):
            net.block([layer.inputs["x"]], constants, f"{what} has the mode {mode!r}")
            if mode not in ("prod", "var", "logsumexp"):
                block_loose(net, layer, [layer.inputs["x"]])
        if "mask" in layer.inputs and (net.has_empty_rows or layer.inputs["mask"] != facts.mask):
            net.block([layer.inputs["x"]], constants, f"{what} has no number for rows without any step")


class Pool(Moves):
    """Windows of time; a constant other than 0 is none where there is padding."""

    def check(self, net: Network, layer: Layer) -> None:
        if is_padded(layer) or layer.options["ceil_mode"]:
            block_offsets(net, layer, f"layer {layer.name!r} ({layer.kind}) pads its windows")


class Slice(Moves):
    """A part of the time, or of the channels."""

    def read(self, net: Network, layer: Layer) -> None:
        x = layer.inputs["x"]
        places = self.places(net, layer)
        if places is None:
            super().read(net, layer)
            return
        facts = net.facts[x]
        net.tie(x, layer.outputs["y"], places)
        like = first_alike(facts.like[places])
        net.facts[layer.outputs["y"]] = Channels(
            facts.constant[places], like, facts.partly[places], facts.mask, facts.loose[places]
        )

    def places(self, net: Network, layer: Layer) -> np.ndarray | None:
        """The channels that it takes; None if it takes steps, or every so many channels."""
        value, y, options = net.graph.values[layer.inputs["x"]], net.graph.values[layer.outputs["y"]], layer.options
        if options["axis"] != len(value.shape) - 1 or value.shape[-1] is None or options["step"] != 1:
            return None
        start = int(options["start"])
        start += value.features if start < 0 else 0
        return np.arange(start, start + y.features)

    def edit(self, net: Network, layer: Layer, gone: Mapping[str, np.ndarray]) -> Edit:
        places, kept = self.places(net, layer), ~gone[layer.inputs["x"]]
        if places is None or kept.all():
            return {}, {}
        count = int(kept[places].sum())
        return {}, {"start": int(kept[: places[0]].sum()), "count": count, "before_end": 0}


class Merge(Rule):
    """Side by side, or element by element: then a channel can go if it can in all inputs."""

    def read(self, net: Network, layer: Layer) -> None:
        y, names = layer.outputs["y"], list(layer.inputs.values())
        facts = [net.facts[name] for name in names]
        size = net.graph.values[y].features
        masks = {one.mask for one in facts if one.offsets.any()}
        mask = masks.pop() if len(masks) == 1 else None
        if masks:
            for name, one in zip(names, facts):
                net.block([name], np.flatnonzero(one.partly), f"layer {layer.name!r} merges values of different masks")
        if layer.options["mode"] == "concat" and layer.options["axis"] == -1:
            starts = np.cumsum([0, *(len(one.constant) for one in facts)])
            for name, one, start in zip(names, facts, starts):
                net.tie(name, y, ALL, np.arange(start, start + len(one.constant)))
            net.facts[y] = Channels(
                np.concatenate([one.constant for one in facts]),
                np.concatenate([one.like + start for one, start in zip(facts, starts)]),
                np.concatenate([one.partly for one in facts]),
                mask,
                np.concatenate([one.loose for one in facts]),
            )
            return
        if any(len(one.constant) != size for one in facts):
            net.block(names, ALL, f"layer {layer.name!r} (merge) repeats the numbers of some of its inputs")
            return
        for name in names:
            net.tie(name, y)
        constants = np.stack([one.constant for one in facts])
        if layer.options["mode"] == "concat":  # along another axis
            constant = np.where((constants == constants[0]).all(axis=0), constants[0], np.nan)
        else:
            given = {role: one.offsets for role, one in zip(layer.inputs, facts)}
            constant = constants_of(net.compute(layer, given), np.isnan(constants).any(axis=0))
        kinds = [
            tuple((one.like[k] if np.isnan(one.constant[k]) else None, str(one.constant[k])) for one in facts)
            for k in range(size)
        ]
        firsts = {kind: k for k, kind in reversed(list(enumerate(kinds)))}
        like = np.array([firsts[kind] for kind in kinds])
        like = np.where(np.isnan(constant), like, np.arange(size))
        partly = np.any([one.partly for one in facts], axis=0)
        net.facts[y] = Channels(constant, like, partly, mask, np.any([one.loose for one in facts], axis=0))
        if layer.options["mode"] not in SMOOTH_MERGES:
            block_loose(net, layer, names)
        for name, one in zip(names, facts):
            stuck = np.flatnonzero(one.is_known & ~net.facts[y].is_known)
            why = f"layer {layer.name!r} (merge, {layer.options['mode']}) joins it with a number that changes"
            net.block([name], stuck, why)


class TimeAlone(Rule):
    """Of x it reads how many steps there are, and none of the numbers."""

    def read(self, net: Network, layer: Layer) -> None:
        pass


#: kind -> its rule; all others keep what they read
RULES: Mapping[str, Rule] = {
    "activation": EachChannel(),
    "attention": Rule("it compares and mixes steps by all of their units"),
    "batch_norm": EachChannel(),
    "conv1d": Conv1d(),
    "conv_lstm": ConvLstm(),
    "dense": Dense(),
    "dropout": EachChannel(),
    "function": EachChannel(),
    "group_norm": Rule("its statistics are of several units"),
    "gru": GruBefore(),
    "last": Moves(reads_valid=True),
    "layer_norm": Rule("its statistics are of all units together"),
    "lstm": Recurrent(),
    "merge": Merge(),
    "pool1d": Pool(),
    "positions": TimeAlone(),
    "prelu": EachChannel(),
    "reduce": Reduce(reads_valid=True),
    "repeat_vector": Moves(),
    "reverse": Moves(),
    "rnn": Recurrent(),
    "slice": Slice(),
    "softmax": Rule("it divides by a sum over an axis"),
    "step_table": TimeAlone(),
    "upsample": Moves(),
}


def merged(weight: np.ndarray, facts: Channels, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (..., channels) without the columns that are gone, and what these columns add: (...,).

    The column of a channel that repeats another is added to the other's.
    """
    weight = weight.copy()
    constants = np.flatnonzero(gone & ~np.isnan(facts.constant))
    extra = weight[..., constants] @ facts.constant[constants]
    for k in np.flatnonzero(gone & np.isnan(facts.constant)):
        weight[..., facts.like[k]] += weight[..., k]
    return weight[..., ~gone], extra


def with_bias(net: Network, layer: Layer, role: str, extra: Any) -> dict[str, np.ndarray]:
    """The bias with what is added to it; none if nothing is."""
    if not np.any(extra):
        return {}
    return {role: net.tensor(layer, role) + extra if role in layer.weights else np.array(extra)}


def constants_of(results: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """What a layer made of constants, as such; NaN for channels that change, and for what is not finite."""
    found = np.asarray(results, np.float64)
    return np.where(changes | ~np.isfinite(found), np.nan, found)


def first_alike(like: np.ndarray) -> np.ndarray:
    """For each number the place of the first that is equal."""
    firsts: dict[int, int] = {}
    return np.array([firsts.setdefault(int(one), k) for k, one in enumerate(like)])


def is_padded(layer: Layer) -> bool:
    """Whether windows of a convolution or a pooling may reach beyond the sequence."""
    options = layer.options
    return options["padding"] in ("same", "causal") or bool(options["pad_before"]) or bool(options["pad_after"])


def block_partly(net: Network, layer: Layer, mask: str | None = None) -> None:
    """Keep what is constant only at steps that count, unless the layer reads these alone: those of its own `mask`."""
    facts = net.facts[layer.inputs["x"]]
    if net.is_exact and facts.partly.any() and (mask is None or mask != facts.mask):
        why = f"layer {layer.name!r} ({layer.kind}) also reads the steps that do not count, at which it is not constant"
        net.block([layer.inputs["x"]], np.flatnonzero(facts.partly), why)


def block_loose(net: Network, layer: Layer, names: Sequence[str]) -> None:
    """Keep what is constant or repeated only to within rounding."""
    if net.is_exact:
        why = f"layer {layer.name!r} ({layer.kind}) can make much of a difference within rounding"
        for name in names:
            net.block([name], np.flatnonzero(net.facts[name].loose), why)


def block_offsets(net: Network, layer: Layer, why: str) -> None:
    """Keep what is constant, but not 0."""
    if net.is_exact:
        x = layer.inputs["x"]
        net.block([x], np.flatnonzero(net.facts[x].offsets), f"{why}, and it is not 0")


def _shared(graph: Graph) -> dict[str, str]:
    """Layer -> another layer that has one of its tensors."""
    owners: dict[str, list[str]] = {}
    for layer in graph.layers:
        for name in layer.weights.values():
            owners.setdefault(name, []).append(layer.name)
    found: dict[str, str] = {}
    for names in owners.values():
        for name in names:
            others = [other for other in names if other != name]
            if others:
                found.setdefault(name, others[0])
    return found
