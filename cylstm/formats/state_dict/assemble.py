"""State dicts: tensors by PyTorch's names, and the layers that the user says they belong to.

PyTorch's names and shapes are those of ``torch.nn.LSTM``, ``GRU`` and ``RNN``: ``weight_ih_l{k}`` (G*hidden, input),
``weight_hh_l{k}`` (G*hidden, output), ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (G*hidden,), ``weight_hr_l{k}``
(projection, hidden), each again with ``_reverse``; gates in the order i, f, g, o or r, z, n, which is the graph's own.
"""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.arrays import as_numpy, shape_text, warn_not_finite
from cylstm.formats.state_dict.wiring import (
    GLU,
    GRU,
    LSTM,
    RNN,
    Activation,
    AvgPool1d,
    BatchNorm1d,
    Conv1d,
    ConvLSTM,
    Dropout,
    Embedding,
    Flatten,
    GlobalPool1d,
    GroupNorm,
    Input,
    Last,
    LastState,
    Layer,
    LayerNorm,
    Linear,
    MaxPool1d,
    PReLU,
    Reverse,
    RMSNorm,
    Transpose,
    slot_options,
    window_options,
)
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Graph
from cylstm.graph.layers.lstm import lstm_gates
from cylstm.graph.layers.merge import DIRECTION_MERGES
from cylstm.graph.values import Value
from cylstm.graph.weights import StoredTensor

# What torch.compile, FSDP and activation checkpointing put into names, and DataParallel before them.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PARALLEL = "module."
_AVERAGED = "n_averaged"
_REPARAMETRISED = re.compile(
    r"(?:^|\.)parametrizations\..*|(?:^|\.)(?:lora_[AB]|base_layer)\..*"
    r"|(?:^|\.)(?:weight|bias)(?:_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?)?_(?P<part>g|v|raw|orig|mask|u)$"
)
_LISTED = 60
_MAX_NAME = 500
_MAX_PROPOSED = 64
_CHAIN_STEPS = 20_000
_RECURRENT = (LSTM, GRU, RNN, ConvLSTM)
# layers with tensors, and those that need a time axis
_WEIGHTED = (*_RECURRENT, Linear, Conv1d, BatchNorm1d, LayerNorm, RMSNorm, GroupNorm, Embedding, PReLU)
_TIMED = (*_RECURRENT, Last, Reverse, Conv1d, MaxPool1d, AvgPool1d, GlobalPool1d, Embedding, Transpose)
_NORM_NAMES = {"weight": "gain", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
_OPS = {LSTM: "lstm", GRU: "gru", RNN: "rnn"}
_KINDS = {4: LSTM, 3: GRU, 1: RNN}
# tensors of the classical variants, role -> the name before "_l{k}", and the part behind it
_PEEPHOLES = {"peephole_i": ("weight_pi", ""), "peephole_f": ("weight_pf", ""), "peephole_o": ("weight_po", "")}
_NORMS = {
    f"{norm}_{role}": (norm, f".{part}")
    for norm in ("norm_ih", "norm_hh", "norm_c")
    for role, part in (("gain", "weight"), ("shift", "bias"))
}


def from_state_dict(mapping: Mapping[str, object], layers: Sequence[Layer] | None = None) -> Graph:
    """The graph of tensors in memory and the layers they belong to.

    Parameters
    ----------
    mapping : dict of str to array or tensor
        PyTorch's names; the values are copied. Half precision becomes float32, float64 stays.
    layers : sequence of Layer
        In the order of computation, for example ``[LSTM("lstm"), Last(), Linear("fc")]``.

    Raises
    ------
    FormatError
        If a tensor is missing, left over, mis-shaped or of a type that holds no weights; without `layers`, with a
        proposal for them.
    ShapeError
        If a layer does not fit the one before it.
    UnsupportedError
        If the tensors belong to a layer or an option that is not computed.
    """
    if not isinstance(mapping, Mapping) or not all(isinstance(name, str) for name in mapping):
        raise FormatError(f"state dict: expected a mapping of names to tensors, found {type(mapping).__name__}")
    nested = [name for name, value in mapping.items() if isinstance(value, Mapping)]
    if nested:
        raise FormatError(
            f"state dict: {nested[0]!r} is itself a mapping; give the one that holds the tensors, "
            f"for example checkpoint[{nested[0]!r}]"
        )
    tensors = {name: as_numpy(name, value) for name, value in mapping.items()}
    layouts = {name: _memory_layout(mapping[name], array) for name, array in tensors.items()}
    provenance = {
        "format": "state dict",
        "version": None,
        "framework_version": None,
        "source": "memory",
        "layouts": layouts,
    }
    return graph_from_tensors(tensors, layers, where="state dict", provenance=provenance)


def graph_from_tensors(
    tensors: Mapping[str, np.ndarray | StoredTensor],
    layers: Sequence[Layer] | None,
    *,
    where: str,
    provenance: Mapping[str, object],
) -> Graph:
    """As `from_state_dict`, for tensors that belong to the caller of a reader; `where` names their source."""
    if not tensors:
        raise FormatError(f"{where}: no tensors")
    longest = max(tensors, key=len)
    if len(longest) > _MAX_NAME:
        raise FormatError(f"{where}: a tensor's name of {len(longest)} characters: {longest[:40]!r}...")
    if layers is None:
        assembler = _Assembler(tensors, where, ())
        raise FormatError(
            f"{where}: a state dict says nothing about the wiring, so layers= is needed. {assembler.listing()}\n"
            f"{_proposal(assembler.tensors)}"
        )
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(layer, Layer) for layer in layers):
        raise FormatError(
            f'{where}: layers= expected a list such as [cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")], '
            f"found {layers!r}"
        )
    return _Assembler(tensors, where, layers).assemble(_last_state_first(where, layers), provenance)


def _memory_layout(value: object, array: np.ndarray) -> str:
    """How an array or tensor in memory was stored."""
    type_ = str(getattr(value, "dtype", array.dtype)).removeprefix("torch.")
    return f"{type_} {shape_text(array.shape)}"


def _last_state_first(where: str, layers: Sequence[Layer]) -> list[Layer]:
    """The layers with each `LastState` moved before the dropouts between it and its recurrent layer."""
    found: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, LastState):
            found.append(layer)
            continue
        place = len(found)
        while place and isinstance(found[place - 1], Dropout):
            place -= 1
        if not place or not isinstance(found[place - 1], _RECURRENT):
            before = found[place - 1] if place else "nothing"
            raise FormatError(f"{where}: LastState() has to follow a recurrent layer directly, found after {before}")
        found.insert(place, layer)
    return found


class _Assembler:
    """Takes tensors by name and adds the nodes they belong to."""

    def __init__(self, tensors: Mapping[str, np.ndarray | StoredTensor], where: str, layers: Sequence[Layer]) -> None:
        self.where = where
        self.used: dict[str, str] = {}
        self.builder = GraphBuilder()
        self.prefix, self.names = _unwrapped(where, tensors, layers)
        self.tensors = {name: tensors[given] for name, given in self.names.items()}
        if len(self.names) < len(tensors):
            self.used[_AVERAGED] = "not a weight: the number of models averaged"
        for name in self.tensors:
            kind = _reparametrisation(name, self.tensors)
            if kind is not None:
                raise UnsupportedError(
                    f"{where}: tensor {self.names[name]!r} is part of a weight reparametrised by {kind}; "
                    "remove the parametrisation in PyTorch (or merge the adapter) before saving"
                )

    def assemble(self, layers: list[Layer], provenance: Mapping[str, object]) -> Graph:
        value = self.add_input(layers)
        layers = [layer for layer in layers if not isinstance(layer, Input)]
        for layer, following in itertools.zip_longest(layers, layers[1:]):
            value = self.add(layer, value, following)
        self.builder.output(value)
        left = [name for name in self.tensors if name not in self.used]
        if left:
            raise FormatError(f"{self.where}: tensors that belong to no layer given: {self.listing(left)}")
        warn_not_finite(self.where, self.tensors)
        used = {self.names.get(name, name): role for name, role in self.used.items()}
        return self.builder.build(provenance={**provenance, "prefix": self.prefix, "tensors": used})

    def add_input(self, layers: list[Layer]) -> Value:
        """The network's input: its shape from an `Input`, else from the first tensor and what the layers need."""
        given = layers[0] if isinstance(layers[0], Input) else None
        if any(isinstance(layer, Input) for layer in layers[1:]):
            raise FormatError(f"{self.where}: Input() has to be the first layer")
        weighted = [layer for layer in layers if isinstance(layer, _WEIGHTED)]
        names = {layer.prefix for layer in weighted}
        name = next(name for name in ("input" + "_" * i for i in itertools.count()) if name not in names)
        first = layers[1 if given else 0] if len(layers) > bool(given) else None
        if isinstance(first, Embedding):
            return self.builder.input(name, given.shape if given else (None,), indices=True)
        if given:
            return self.builder.input(name, given.shape)
        features = self.input_features(layers)
        spatial = weighted[0].spatial_shape if isinstance(weighted[0], ConvLSTM) else ()
        sequence = any(isinstance(layer, _TIMED) for layer in layers)
        return self.builder.input(name, (None, *spatial, features) if sequence else (features,))

    def add(self, layer: Layer, value: Value, following: Layer | None) -> Value:
        """Add the nodes of one layer and return its result."""
        match layer:
            case ConvLSTM():
                return self.add_conv_lstm(layer, value, state=isinstance(following, LastState))
            case LSTM() | GRU() | RNN():
                state = isinstance(following, LastState)
                return self.add_recurrent(layer, value, state=state, is_last=following is None)
            case Linear():
                return self.add_linear(layer, value)
            case Activation():
                options = slot_options("activation", layer, where="Activation")
                return self.builder.add("activation", layer.name, {"x": value}, options=options)["y"]
            case Dropout():
                return self.builder.add("dropout", "dropout", {"x": value}, options={"rate": float(layer.rate)})["y"]
            case Reverse():
                return self.builder.add("reverse", "reverse", {"x": value})["y"]
            case Conv1d():
                return self.add_conv1d(layer, value)
            case MaxPool1d() | AvgPool1d():
                return self.add_pool1d(layer, value)
            case BatchNorm1d() | LayerNorm() | RMSNorm() | GroupNorm():
                return self.add_norm(layer, value)
            case Embedding():
                return self.add_embedding(layer, value)
            case PReLU():
                name, what = layer.prefix or "prelu", f"PReLU({layer.prefix!r})"
                self.take(what, _join(layer.prefix, "weight"))
                weights = self.register(name, {"slope": _join(layer.prefix, "weight")})
                return self.builder.add("prelu", name, {"x": value}, weights)["y"]
            case GLU():
                return self.builder.add("glu", "glu", {"x": value})["y"]
            case GlobalPool1d():
                return self.builder.add("reduce", "pool", {"x": value}, options={"mode": layer.mode})["y"]
            case Flatten():
                return self.builder.add("reshape", "flatten", {"x": value}, options={"shape": "-1"})["y"]
            case Transpose():
                return self.builder.add("permute", "transpose", {"x": value}, options={"order": "10"})["y"]
            case Last():
                return self.builder.add("last", "last", {"x": value})["y"]
            case LastState():
                # The recurrent layer before has already given its state.
                return value

    def add_linear(self, layer: Linear, value: Value) -> Value:
        prefix, name = layer.prefix, layer.prefix or "linear"
        what = f"Linear({prefix!r})"
        weight = self.take(what, _join(prefix, "weight"))
        if weight.ndim != 2 or not weight.size or weight.shape[1] != value.features:
            raise self.misshaped(what, _join(prefix, "weight"), f"(output, {value.features})")
        weights = {"weight": _join(prefix, "weight")}
        if _join(prefix, "bias") in self.tensors:
            weights["bias"] = _join(prefix, "bias")
            self.expect(what, weights["bias"], (weight.shape[0],))
        options = slot_options("activation", layer.activation, where=what)
        return self.builder.add("dense", name, {"x": value}, self.register(name, weights), options)["y"]

    def add_conv1d(self, layer: Conv1d, value: Value) -> Value:
        prefix, name = layer.prefix, layer.prefix or "conv1d"
        what, weight_name = f"Conv1d({prefix!r})", _join(prefix, "weight")
        weight = self.take(what, weight_name)
        if weight.ndim != 3 or not weight.size or weight.shape[1] * layer.groups != value.features:
            raise self.misshaped(what, weight_name, f"(filters, {value.features}/{layer.groups}, kernel)")
        weights = {"weight": self.register_as(name, "weight", weight_name, np.asarray(weight).transpose(0, 2, 1))}
        if _join(prefix, "bias") in self.tensors:
            self.expect(what, _join(prefix, "bias"), (weight.shape[0],))
            weights |= self.register(name, {"bias": _join(prefix, "bias")})
        options = {
            **window_options(layer.stride, layer.dilation, layer.padding),
            "groups": layer.groups,
            **slot_options("activation", layer.activation, where=what),
        }
        return self.builder.add("conv1d", name, {"x": value}, weights, options)["y"]

    def add_pool1d(self, layer: MaxPool1d | AvgPool1d, value: Value) -> Value:
        is_max = isinstance(layer, MaxPool1d)
        options = {
            **window_options(layer.stride, layer.dilation if is_max else 1, layer.padding),
            "mode": "max" if is_max else "average",
            "pool": layer.kernel_size,
            "count_include_pad": False if is_max else layer.count_include_pad,
            "ceil_mode": layer.ceil_mode,
        }
        return self.builder.add("pool1d", "pool", {"x": value}, options=options)["y"]

    def add_norm(self, layer: BatchNorm1d | LayerNorm | RMSNorm | GroupNorm, value: Value) -> Value:
        kind = type(layer).__name__
        prefix, name, what = layer.prefix, layer.prefix or kind.lower(), f"{kind}({layer.prefix!r})"
        found = {role: _join(prefix, part) for part, role in _NORM_NAMES.items() if _join(prefix, part) in self.tensors}
        if isinstance(layer, BatchNorm1d):
            found |= {"mean": _join(prefix, "running_mean"), "variance": _join(prefix, "running_var")}
            counter = _join(prefix, "num_batches_tracked")
            if counter in self.tensors:
                self.used[counter] = f"{name}/not used in prediction"
        for tensor in found.values():
            self.expect(what, tensor, (value.features,))
        options: dict[str, object] = {"epsilon": float(layer.eps)}
        op = "batch_norm" if isinstance(layer, BatchNorm1d) else "layer_norm"
        if isinstance(layer, GroupNorm):
            op = "group_norm"
            options["groups"] = layer.num_groups
        elif isinstance(layer, RMSNorm):
            options["mode"] = "rms"
        return self.builder.add(op, name, {"x": value}, self.register(name, found), options)["y"]

    def add_embedding(self, layer: Embedding, value: Value) -> Value:
        name, what = layer.prefix or "embedding", f"Embedding({layer.prefix!r})"
        tensor = _join(layer.prefix, "weight")
        if self.take(what, tensor).ndim != 2:
            raise self.misshaped(what, tensor, "(rows, size)")
        if value.kind != "index":
            raise UnsupportedError(f"{self.where}: layer {what}: an embedding has to be the first layer")
        return self.builder.add("embedding", name, {"indices": value}, self.register(name, {"weight": tensor}))["y"]

    def add_recurrent(self, layer: LSTM | GRU | RNN, value: Value, *, state: bool, is_last: bool) -> Value:
        """One node per layer and direction; the result is the sequence, or with `state` the final h."""
        op = _OPS[type(layer)]
        prefix, name = layer.prefix, layer.prefix or op
        what = f"{type(layer).__name__}({prefix!r})"
        cell = _join(prefix, "weight_ih") in self.tensors
        depth, directions = (1, 1) if cell else self.extent(prefix)
        backward = layer if layer.backward is None else layer.backward
        if type(backward) is not type(layer):
            raise UnsupportedError(
                f"{self.where}: layer {what}: backward expected {type(layer).__name__}(...), found {backward!r}"
            )
        if layer.merge is not None and layer.merge not in DIRECTION_MERGES:
            raise UnsupportedError(
                f"{self.where}: layer {what}: merge mode expected None or one of {', '.join(DIRECTION_MERGES)}, "
                f"found {layer.merge!r}"
            )
        if layer.reverse and directions == 2:
            raise UnsupportedError(
                f"{self.where}: layer {what}: reverse=True contradicts the tensors of two directions"
            )
        if directions == 1 and (layer.backward is not None or layer.merge != "concat"):
            raise UnsupportedError(
                f"{self.where}: layer {what}: merge= and backward= are for two directions, its tensors are of one"
            )
        for k in range(depth):
            node = name if cell else f"{name}.l{k}"
            top = state and k == depth - 1
            results = []
            for reverse, described in ((False, layer), (True, backward))[:directions]:
                options = self.recurrent_options(described, what)
                suffix = "" if cell else f"_l{k}_reverse" if reverse else f"_l{k}"
                call = f"{node}.reverse" if reverse else node
                weights = self.recurrent_weights(described, prefix, options, what, suffix, value.features)
                outputs = self.builder.add(
                    op,
                    call,
                    {"x": value},
                    self.register(call, weights),
                    {**options, "reverse": reverse or bool(layer.reverse)},
                )
                results.append(outputs["h" if top else "y"])
            if directions == 1:
                (value,) = results
            elif layer.merge is None:
                if not is_last or k < depth - 1:
                    raise UnsupportedError(
                        f"{self.where}: layer {what}: merge=None gives two outputs, in the last layer of a network only"
                    )
                self.builder.output(results[0])
                value = results[1]
            else:
                merge = f"{node}.last_state" if top else f"{node}.merge"
                pair = {"x": results[0], "x1": results[1]}
                value = self.builder.add("merge", merge, pair, options={"mode": layer.merge})["y"]
        return value

    def add_conv_lstm(self, layer: ConvLSTM, value: Value, *, state: bool) -> Value:
        """One node; the result is the sequence, or with `state` the final h."""
        prefix, name = layer.prefix, layer.prefix or "conv_lstm"
        what = f"ConvLSTM({prefix!r})"
        axes = len(layer.spatial_shape)
        channels = value.features
        weight_ih, weight_hh = (self.take(what, _join(prefix, role)) for role in ("weight_ih", "weight_hh"))
        if axes not in (1, 2) or value.shape[1:-1] != layer.spatial_shape:
            raise FormatError(
                f"{self.where}: layer {what}: spatial_shape {layer.spatial_shape} expected (columns,) or "
                f"(rows, columns) of its input {value.shape}"
            )
        if weight_ih.ndim != 2 + axes or weight_ih.shape[0] % 4 or weight_ih.shape[1] != channels or not weight_ih.size:
            raise self.misshaped(what, _join(prefix, "weight_ih"), f"(4*filters, {channels}, {axes} kernel sizes)")
        rows, kernel = weight_ih.shape[0], weight_ih.shape[2:]
        self.expect(what, _join(prefix, "weight_hh"), (rows, rows // 4, *kernel))
        weights = {}
        for role, array in (("weight_ih", weight_ih), ("weight_hh", weight_hh)):
            # the graph has the taps first, each with its channels
            weights[role] = self.builder.tensor(
                f"{name}.{role}", np.moveaxis(np.asarray(array), 1, -1).reshape(rows, -1)
            )
            self.used[_join(prefix, role)] = f"{name}/{role}"
        if _join(prefix, "bias") in self.tensors:
            self.expect(what, _join(prefix, "bias"), (rows,))
            weights |= self.register(name, {"bias": _join(prefix, "bias")})
        options: dict[str, object] = {
            "conv_padding": layer.conv_padding,
            "padding": layer.padding,
            "empty_state": layer.empty_state,
            "reverse": bool(layer.reverse),
        }
        for slot in ("activation", "recurrent_activation"):
            options |= slot_options(slot, getattr(layer, slot), where=what)
        for option, given in (("kernel", kernel), ("stride", layer.strides), ("dilation", layer.dilation)):
            sizes = (given,) * axes if isinstance(given, int) else tuple(given)
            if len(sizes) != axes:
                raise UnsupportedError(f"{self.where}: layer {what}: {option} expected {axes} numbers, found {given}")
            options |= {f"{option}_{axis}": size for axis, size in zip(("rows", "columns")[2 - axes :], sizes)}
        return self.builder.add("conv_lstm", name, {"x": value}, weights, options)["h" if state else "y"]

    def recurrent_options(self, layer: LSTM | GRU | RNN, what: str) -> dict[str, object]:
        """Node options of a described layer."""
        options: dict[str, object] = {
            "padding": layer.padding,
            "empty_state": layer.empty_state,
            "gate_clip": self.clip(what, "gate_clip", layer.gate_clip),
        }
        for slot in ("activation", "recurrent_activation", "output_activation"):
            if hasattr(layer, slot):
                options |= slot_options(slot, getattr(layer, slot), where=what)
        if isinstance(layer, GRU):
            options["reset_after"] = bool(layer.reset_after)
        if isinstance(layer, LSTM):
            if layer.layer_norm not in (False, "carried", "output"):
                raise UnsupportedError(
                    f"{self.where}: layer {what}: layer_norm expected False, 'carried' (the normalised cell is carried "
                    f"on) or 'output' (it is used in the output alone), found {layer.layer_norm!r}"
                )
            options |= {
                "forget_gate": bool(layer.forget_gate),
                "coupled": layer.coupled or "",
                "cell_clip": self.clip(what, "cell_clip", layer.cell_clip),
                "layer_norm": layer.layer_norm or "",
                "epsilon": float(layer.epsilon),
            }
        return options

    def clip(self, what: str, name: str, limit: float | None) -> float:
        """A limit as an option, 0 for none."""
        if limit is None:
            return 0.0
        if isinstance(limit, (bool, str)) or not 0.0 < float(limit) < float("inf"):
            raise UnsupportedError(
                f"{self.where}: layer {what}: {name} expected a positive number or None, found {limit!r}"
            )
        return float(limit)

    def extent(self, prefix: str) -> tuple[int, int]:
        """Number of layers and of directions, from the names."""
        pattern = re.compile(re.escape(_join(prefix, "")) + r"(?:weight|bias)_(?:ih|hh|hr)_l(\d{1,6})(_reverse)?")
        found = [match for name in self.tensors if (match := pattern.fullmatch(name))]
        depth = max((int(match[1]) + 1 for match in found), default=1)
        return depth, 2 if any(match[2] for match in found) else 1

    def recurrent_weights(
        self,
        layer: LSTM | GRU | RNN,
        prefix: str,
        options: Mapping[str, object],
        what: str,
        suffix: str,
        features: int,
    ) -> dict[str, str | tuple[str, str]]:
        """Role -> tensor name of one layer and direction, shapes checked; a pair of names is to be summed."""
        gates = 3 if isinstance(layer, GRU) else 1
        if isinstance(layer, LSTM):
            if layer.coupled not in (None, "", "f=1-i", "i=1-f"):
                raise UnsupportedError(
                    f"{self.where}: layer {what}: coupled expected None, 'f=1-i' or 'i=1-f', found {layer.coupled!r}"
                )
            gates = len(lstm_gates(options))
        names = {
            role: _join(prefix, role + suffix) for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        }
        weight_ih, weight_hh = self.take(what, names["weight_ih"]), self.take(what, names["weight_hh"])
        projected = names["weight_hr"] in self.tensors and isinstance(layer, LSTM)
        if not projected:
            self.refuse_another_cell(layer, prefix, gates, what, weight_ih, weight_hh, names["weight_hh"])
        rows_text = f"{gates}*hidden" if gates > 1 else "hidden"
        if weight_ih.ndim != 2 or not weight_ih.size or weight_ih.shape[0] % gates or weight_ih.shape[1] != features:
            raise self.misshaped(what, names["weight_ih"], f"({rows_text}, {features})")
        rows = weight_ih.shape[0]
        hidden = output = rows // gates
        weights: dict[str, str | tuple[str, str]] = {"weight_ih": names["weight_ih"], "weight_hh": names["weight_hh"]}
        if projected:
            weight_hr = self.take(what, names["weight_hr"])
            if weight_hr.ndim != 2 or not weight_hr.size or weight_hr.shape[1] != hidden:
                raise self.misshaped(what, names["weight_hr"], f"(projection, {hidden})")
            output = weight_hr.shape[0]
            weights["weight_hr"] = names["weight_hr"]
        self.expect(what, names["weight_hh"], (rows, output))
        if names["bias_ih"] in self.tensors or names["bias_hh"] in self.tensors:
            self.expect(what, names["bias_ih"], (rows,))
            self.expect(what, names["bias_hh"], (rows,))
            if not isinstance(layer, GRU):
                weights["bias"] = (names["bias_ih"], names["bias_hh"])
            elif layer.reset_after:
                weights |= {"bias_ih": names["bias_ih"], "bias_hh": names["bias_hh"]}
            else:
                weights["bias_ih"] = (names["bias_ih"], names["bias_hh"])
        variants = {}
        if isinstance(layer, LSTM) and layer.peepholes:
            present = lstm_gates(options)
            variants |= {role: name for role, name in _PEEPHOLES.items() if role[-1] in present}
        if isinstance(layer, LSTM) and layer.layer_norm:
            variants |= _NORMS
        for role, (stem, part) in variants.items():
            weights[role] = _join(prefix, stem + suffix + part)
            self.expect(what, weights[role], (rows if role.startswith(("norm_ih", "norm_hh")) else hidden,))
        return weights

    def refuse_another_cell(
        self,
        layer: Layer,
        prefix: str,
        gates: int,
        what: str,
        weight_ih: np.ndarray | StoredTensor,
        weight_hh: np.ndarray | StoredTensor,
        name: str,
    ) -> None:
        """Say so if the tensors are those of another recurrent layer than the one given."""
        for count, other in _KINDS.items():
            if (
                count != gates
                and _KINDS[count] is not type(layer)
                and weight_ih.ndim == weight_hh.ndim == 2
                and weight_hh.shape == (count * weight_hh.shape[1], weight_hh.shape[1])
                and weight_ih.shape[0] == weight_hh.shape[0]
            ):
                raise FormatError(
                    f"{self.where}: layer {what}, tensor {name!r} of shape {shape_text(weight_hh.shape)} is that of "
                    f'{other.__name__}; write cylstm.{other.__name__}("{prefix}")'
                )

    # Tensors

    def take(self, what: str, name: str) -> np.ndarray | StoredTensor:
        """A floating-point tensor that must be there."""
        if name not in self.tensors:
            raise FormatError(f"{self.where}: layer {what}: tensor {name!r} is missing. {self.listing()}")
        array = self.tensors[name]
        if array.dtype.kind != "f":
            raise FormatError(
                f"{self.where}: layer {what}, tensor {self.names[name]!r}: expected floating-point numbers, found "
                f"{array.dtype}"
            )
        return array

    def expect(self, what: str, name: str, shape: tuple[int, ...]) -> None:
        if self.take(what, name).shape != shape:
            raise self.misshaped(what, name, shape_text(shape))

    def misshaped(self, what: str, name: str, expected: str) -> FormatError:
        found = shape_text(self.tensors[name].shape)
        given = self.names[name]
        return FormatError(f"{self.where}: layer {what}, tensor {given!r}: expected shape {expected}, found {found}")

    def register(self, node: str, weights: Mapping[str, str | tuple[str, str]]) -> dict[str, str]:
        """Role -> name in the graph; a layer called again finds its tensors there already. A pair is summed."""
        found = {}
        for role, source in weights.items():
            sources = (source,) if isinstance(source, str) else source
            found[role] = f"{node}.{role}"
            if all(self.used.get(name) == f"{node}/{role}" for name in sources):
                continue
            array = self.tensors[sources[0]]
            for name in sources[1:]:
                array = np.asarray(array) + np.asarray(self.tensors[name])
            self.builder.tensor(found[role], array)
            self.used.update(dict.fromkeys(sources, f"{node}/{role}"))
        return found

    def register_as(self, node: str, role: str, source: str, array: np.ndarray) -> str:
        """Name in the graph of a tensor in another layout; a layer called again finds it there already."""
        if self.used.get(source) != f"{node}/{role}":
            self.builder.tensor(f"{node}.{role}", array)
            self.used[source] = f"{node}/{role}"
        return f"{node}.{role}"

    def input_features(self, layers: list[Layer]) -> int:
        """Size of the last axis of the network's input, from the first tensor met."""
        first = next((layer for layer in layers if isinstance(layer, _WEIGHTED)), None)
        if first is None:
            raise FormatError(f"{self.where}: no layer with weights among {layers}; begin with Input(shape)")
        if isinstance(first, (Embedding, PReLU)):
            raise FormatError(f"{self.where}: {first} does not say what comes before it; begin with Input(shape)")
        what = f"{type(first).__name__}({first.prefix!r})"
        name = _join(first.prefix, "weight")
        if isinstance(first, ConvLSTM):
            weight = self.take(what, _join(first.prefix, "weight_ih"))
            if weight.ndim not in (3, 4) or not weight.size:
                raise self.misshaped(what, _join(first.prefix, "weight_ih"), "(4*filters, channels, [rows,] columns)")
            return weight.shape[1]
        if isinstance(first, _RECURRENT):
            cell = _join(first.prefix, "weight_ih")
            name = cell if cell in self.tensors else _join(first.prefix, "weight_ih_l0")
        if isinstance(first, (BatchNorm1d, LayerNorm, RMSNorm, GroupNorm)):
            name = _join(first.prefix, "running_mean") if isinstance(first, BatchNorm1d) else name
            return self.take(what, name).size
        weight = self.take(what, name)
        if isinstance(first, Conv1d):
            if weight.ndim != 3 or not weight.size:
                raise self.misshaped(what, name, "(filters, channels/groups, kernel)")
            return weight.shape[1] * first.groups
        if weight.ndim != 2 or not weight.size:
            expected = "(gates*hidden, input)" if isinstance(first, _RECURRENT) else "(output, input)"
            raise self.misshaped(what, name, expected)
        return weight.shape[1]

    def listing(self, names: Sequence[str] | None = None) -> str:
        """The tensors found, or those of `names`, with their shapes."""
        shown = list(self.tensors if names is None else names)
        lines = [f"  {self.names[name]} {shape_text(self.tensors[name].shape)}" for name in shown[:_LISTED]]
        if len(shown) > _LISTED:
            lines.append(f"  and {len(shown) - _LISTED} more")
        return ("Tensors found:\n" if names is None else "\n") + "\n".join(lines)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _unwrapped(
    where: str, tensors: Mapping[str, np.ndarray | StoredTensor], layers: Sequence[Layer]
) -> tuple[str, dict[str, str]]:
    """The prefix that was removed from all names, and name without wrapper prefixes -> name as given.

    A first part that all names share, such as ``model.``, is removed too if no layer is named with it: the layers
    would not be found otherwise. AveragedModel's count of models is left out.
    """
    averaged = (
        len(tensors) > 1
        and _AVERAGED in tensors
        and all(name == _AVERAGED or name.startswith(_PARALLEL) for name in tensors)
    )
    given = [name for name in tensors if not (averaged and name == _AVERAGED)]
    found = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in given}
    if len(found) != len(given):
        raise FormatError(
            f"{where}: without their wrappers' parts ({', '.join(sorted(_WRAPPERS))}) two names are equal"
        )
    starts = {layer.prefix.partition(".")[0] for layer in layers if hasattr(layer, "prefix")}
    prefix = ""
    # What the first and the last in alphabetical order share, all share.
    for part, other in zip(min(found).split(".")[:-1], max(found).split(".")[:-1]):
        if part != other or (f"{part}." != _PARALLEL and (not layers or part in starts)):
            break
        prefix += f"{part}."
    return prefix, {name[len(prefix) :]: full for name, full in found.items()}


def _reparametrisation(name: str, names: Mapping[str, object]) -> str | None:
    """What made a tensor that is only part of a weight, or None if it is a whole one."""
    match = _REPARAMETRISED.search(name)
    if match is None:
        return None
    if match["part"] is None:
        if "lora_" in match[0] or "base_layer" in match[0]:
            return "a LoRA adapter"
        return "weight_norm (parametrizations)" if name[-9:-1] == "original" else "a parametrization"
    stem = name[: -len(match["part"]) - 1]
    if match["part"] in ("u", "v", "orig") and f"{stem}_u" in names:
        return "spectral_norm"
    return {"g": "weight_norm", "v": "weight_norm", "raw": "weight drop"}.get(match["part"], "pruning")


def _proposal(tensors: Mapping[str, np.ndarray | StoredTensor]) -> str:
    """A ``layers=[...]`` to start from, guessed from the names and shapes, and what hinders it if it does not load."""
    blocks: dict[str, tuple[str, int, int]] = {}
    unknown = []
    for name, array in tensors.items():
        prefix, _, role = name.rpartition(".")
        if re.fullmatch(r"(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?", role):
            # The widest output of the prefix so far, doubled if there are two directions, is the last layer's.
            if not re.fullmatch(r"weight_h[hr](?:_l\d+)?", role) or array.ndim != 2 or not array.size:
                continue
            first = _join(prefix, "weight_ih_l0" if "_l" in role else "weight_ih")
            hidden = array.shape[1] if "_hh" in role else array.shape[0]
            both = 2 if _join(prefix, "weight_ih_l0_reverse") in tensors else 1
            if first in tensors and tensors[first].ndim == 2:
                if _join(prefix, role.replace("_hh", "_hr")) in tensors:
                    blocks[prefix] = ("LSTM", tensors[first].shape[1], both * hidden)
                elif array.shape[0] % array.shape[1] == 0 and array.shape[0] // array.shape[1] in _KINDS:
                    kind = _KINDS[array.shape[0] // array.shape[1]].__name__
                    blocks[prefix] = (kind, tensors[first].shape[1], both * hidden)
                elif prefix not in blocks:
                    unknown.append(f"{prefix} (a recurrent layer of unknown kind)")
        elif re.fullmatch(r"weight_p[ifo](?:_l\d+(?:_reverse)?)?", role):
            continue
        elif role == "weight" and array.ndim == 2:
            blocks[prefix] = ("Linear", array.shape[1], array.shape[0])
        elif role != "bias" or _join(prefix, "weight") not in tensors:
            unknown.append(name)
    if len(blocks) > _MAX_PROPOSED:
        return f"No proposal for {len(blocks)} layers."
    order = _chain({prefix: (inputs, outputs) for prefix, (_, inputs, outputs) in blocks.items()})
    described: list[Layer] = []
    lines = []
    for i, prefix in enumerate(order):
        kind = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN, "Linear": Linear}[blocks[prefix][0]]
        peepholes = kind is LSTM and any(name.startswith(_join(prefix, "weight_p")) for name in tensors)
        described.append(kind(prefix, peepholes=True) if peepholes else kind(prefix))
        lines.append(f"cylstm.{kind.__name__}({_quoted(prefix)}{', peepholes=True' if peepholes else ''})")
        rest = {blocks[name][0] for name in order[i + 1 :]}
        if kind is not Linear and rest == {"Linear"}:
            described.append(Last())
            lines.append("cylstm.Last()")
    text = f"Proposal, from names and shapes alone:\n  layers=[{', '.join(lines)}]\n"
    text += "Put Dropout(), activations, Last() or LastState() where the model has them."
    if unknown:
        text += f" Not understood: {', '.join(unknown[:_LISTED])}."
    if described:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is not finite is reported when the file loads
                _Assembler(tensors, "proposal", described).assemble(described, {})
        except CylstmError as error:
            text += f" As it stands it does not load: {str(error).splitlines()[0]}"
    return text


def _quoted(text: str) -> str:
    """`text` as Python in double quotes."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _chain(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """The names in an order in which each one's input is as wide as the output before it, the given one if there
    is no other. Name -> (input, output)."""
    steps = _CHAIN_STEPS
    trail: list[str] = []
    waiting = [iter(sizes)]
    while waiting and steps:
        steps -= 1
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
            if trail:
                trail.pop()
        elif name not in trail and (not trail or sizes[trail[-1]][1] == sizes[name][0]):
            trail.append(name)
            if len(trail) == len(sizes):
                return trail
            waiting.append(iter(sizes))
    return list(sizes)
