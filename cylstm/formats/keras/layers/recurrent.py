"""Recurrent layers: plain, of cells, convolutional, bidirectional."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, shape_text
from cylstm.formats.keras.config import MAX_UNITS, LayerConfig
from cylstm.formats.keras.layers.quantized import affine
from cylstm.formats.keras.masks import passed_mask
from cylstm.formats.keras.weights import Part, numbered
from cylstm.graph.layers.merge import DIRECTION_MERGES
from cylstm.graph.noise import RATES
from cylstm.graph.values import Option, Value

RECURRENT_LAYERS = ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D")

#: class of a layer or a cell -> kind of layer in the graph
_KINDS = {
    "LSTM": "lstm",
    "LSTMCell": "lstm",
    "GRU": "gru",
    "GRUCell": "gru",
    "SimpleRNN": "rnn",
    "SimpleRNNCell": "rnn",
    "ConvLSTM1D": "conv_lstm",
    "ConvLSTM2D": "conv_lstm",
}
_GATES = {"lstm": 4, "gru": 3, "rnn": 1, "conv_lstm": 4}
_CELLS = ("LSTMCell", "GRUCell", "SimpleRNNCell")
_AXES = ("rows", "columns")

_LAYER_OPTIONS = {"return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "time_major"}
_CONVOLUTION_OPTIONS = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate"}
_CELL_OPTIONS = {
    "lstm": {"units", "use_bias", "activation", "recurrent_activation"},
    "gru": {"units", "use_bias", "activation", "recurrent_activation", "reset_after"},
    "rnn": {"units", "use_bias", "activation"},
    "conv_lstm": {"use_bias", "activation", "recurrent_activation", *_CONVOLUTION_OPTIONS},
}


@dataclass(frozen=True)
class _Recurrent:
    """One recurrent layer, or one direction of a Bidirectional, as its config describes it."""

    layer: LayerConfig
    cells: tuple[LayerConfig, ...]
    is_stack: bool
    returns_sequences: bool
    returns_state: bool
    goes_backwards: bool
    zeroes_masked: bool
    is_stateful: bool

    @property
    def is_convolution(self) -> bool:
        return _KINDS[self.cells[0].class_name] == "conv_lstm"

    @property
    def ignores_zero_output(self) -> bool:
        """Keras 2's ConvLSTM does not hand zero_output_for_mask on (``ConvRNN.call``)."""
        return self.is_convolution and self.layer.version < (3, 0)


def add_recurrent(call: LayerCall) -> list[Flow]:
    """Add one of `RECURRENT_LAYERS`; returns its output and, with return_state, its final states."""
    layer = call.layer
    recurrent = _read(layer)
    zero = recurrent.zeroes_masked and not recurrent.ignores_zero_output
    if zero and not recurrent.returns_sequences:
        raise UnsupportedError(
            f"{layer.what}: option zero_output_for_mask without return_sequences is not supported; set it to False "
            "if no mask is used"
        )
    _check_outputs(call, recurrent)
    x, initial, mask = _inputs(call)
    states_of = _initial_states(call, [recurrent], initial, x)
    parts = _cell_parts(recurrent, (), (), ((),))
    y, states = _add_direction(
        call, recurrent, parts, 0, call.name, x, mask, states_of[0], zero, flipped=recurrent.goes_backwards
    )
    return _outputs(call, recurrent, [y], states)


def add_conv_lstm(call: LayerCall) -> list[Flow]:
    """As `add_recurrent`, for a ConvLSTM; where its channels come first, sequence and states are read otherwise."""
    layer = call.layer
    if layer.config.get("data_format") != "channels_first":
        return add_recurrent(call.natural())
    count = 1 if layer.class_name == "ConvLSTM1D" else 2

    def turned(flow: Flow, *, back: bool) -> Flow:
        """With the axis of the channels behind those of the image, or before them again."""
        begin = len(flow.order) - count - 1
        steps, image = flow.order[:begin], flow.order[begin:]
        image = (image[-1], *image[:-1]) if back else (*image[1:], image[0])
        return dataclasses.replace(flow, order=(*steps, *image))

    def states_turned(nest: Any) -> Any:
        if isinstance(nest, (list, tuple)):
            return [states_turned(one) for one in nest]
        return turned(nest, back=False) if isinstance(nest, Flow) else nest

    arguments = {key: states_turned(one) if key == "initial_state" else one for key, one in call.arguments.items()}
    last = dataclasses.replace(layer, config={**layer.config, "data_format": "channels_last"})
    call = dataclasses.replace(call, layer=last, flows=states_turned(call.flows), arguments=arguments)
    return [turned(one, back=True) for one in add_recurrent(call.natural())]


def add_bidirectional(call: LayerCall) -> list[Flow]:
    """Add a Bidirectional layer; returns its output (two with merge_mode None) and perhaps its final states."""
    layer = call.layer
    layer.check_options({"merge_mode", "layer", "backward_layer"})
    mode = layer.config.get("merge_mode", "concat")
    if mode is not None and (not isinstance(mode, str) or mode not in DIRECTION_MERGES):
        raise UnsupportedError(
            f"{layer.what}: option merge_mode expected None or one of {', '.join(DIRECTION_MERGES)}, found {mode!r:.80}"
        )
    if mode is None and not call.is_last:
        raise UnsupportedError(
            f"{layer.what}: option merge_mode=None gives two outputs, which a Sequential has in its last layer only; "
            f"choose one of {', '.join(DIRECTION_MERGES)}"
        )
    forward = _read(layer.inner(layer.config.get("layer"), "forward layer"))
    forward_names: tuple[str, ...] = (f"forward_{forward.layer.name}", forward.layer.name)
    if layer.config.get("backward_layer") is None:
        backward = dataclasses.replace(forward, goes_backwards=not forward.goes_backwards)
        backward_names: tuple[str, ...] = (f"backward_{forward.layer.name}",)
    else:
        backward = _read(layer.inner(layer.config["backward_layer"], "backward layer"))
        backward_names = (backward.layer.name,)
    if forward.goes_backwards == backward.goes_backwards:
        raise FormatError(f"{layer.what}: option go_backwards is {forward.goes_backwards} in both directions")
    for option in ("returns_sequences", "returns_state"):
        if getattr(forward, option) != getattr(backward, option):
            name = option.replace("returns", "return")
            raise FormatError(f"{layer.what}: option {name} differs between the two directions")
    _check_outputs(call, forward)
    # Bidirectional sets zero_output_for_mask itself; Keras before 2.4 (not tf.keras) did not have it yet.
    forced = forward.returns_sequences and (layer.version >= (2, 4) or call.maker.is_tensorflow)
    first = _cell_parts(forward, ("forward_layer",), ("forward_layer",), tuple((name,) for name in forward_names))
    second = _cell_parts(backward, ("backward_layer",), ("backward_layer",), tuple((name,) for name in backward_names))
    x, initial, mask = _inputs(call)
    states_of = _initial_states(call, [forward, backward], initial, x)
    outputs, states = [], []
    for k, (recurrent, part) in enumerate(((forward, "forward"), (backward, "backward"))):
        # Both sequences come in the order of processing, and Keras flips the second one, whichever way it went: so
        # both are in the input's time order, or both in the opposite one.
        y, final = _add_direction(
            call,
            recurrent,
            [*first, *second],
            k * len(first),
            f"{call.name}.{part}",
            x,
            mask,
            states_of[k],
            forced and not recurrent.ignores_zero_output,
            flipped=forward.goes_backwards,
        )
        outputs.append(y)
        states += final
    if mode is not None:
        outputs = [call.add("merge", {"x": outputs[0], "x1": outputs[1]}, mode=mode)]
    return _outputs(call, forward, outputs, states)


def _inputs(call: LayerCall) -> tuple[Value, list[Flow | np.ndarray], Value | None]:
    """The sequence, the initial states that the call gives, and the mask to compute with."""
    flows, initial = call.flows, call.arguments.get("initial_state")
    if isinstance(initial, tuple):
        initial = list(initial)
    given = _given_states(call, initial)
    if call.layer.version < (3, 0) and len(flows) > 1:
        # Keras 2 writes the states as further inputs.
        flows, given = flows[:1], [*flows[1:], *given]
    call = dataclasses.replace(call, flows=flows)
    is_explicit, mask = call.explicit_mask()
    if not is_explicit:
        # Keras 3 takes the mask of the sequence only where that is the only tensor of the call.
        mask = None if given and call.layer.version >= (3, 0) else call.flow.mask.value
    return call.x, given, call.readable(mask)


def _given_states(call: LayerCall, nest: Any) -> list[Flow | np.ndarray]:
    """The initial states that a call gives, in order: tensors, and constants as numbers of one row."""
    if nest is None:
        return []
    if isinstance(nest, Flow):
        return [nest]
    if isinstance(nest, dict):
        inner = nest.get("config")
        if nest.get("class_name") in ("__numpy__", "__tensor__") and isinstance(inner, dict):
            return [_constant_row(call, inner.get("value"))]
    elif isinstance(nest, (list, tuple)):
        if _rank(nest) in (1, 2):
            return [_constant_row(call, nest)]
        return [state for inner in nest for state in _given_states(call, inner)]
    raise UnsupportedError(f"{call.what}: argument initial_state expected tensors or constants, found {nest!r:.80}")


def _rank(nest: object) -> int | None:
    """How deep lists of numbers are nested; None if there is anything else in them."""
    rank = 0
    while isinstance(nest, (list, tuple)) and nest and rank < 8:
        nest, rank = nest[0], rank + 1
    return rank if type(nest) in (int, float) else None


def _constant_row(call: LayerCall, given: object) -> np.ndarray:
    """The numbers of a constant state (units,) or (batch, units), of which every row must be the same."""
    try:
        array = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.ndim not in (1, 2) or not array.size or array.size > MAX_UNITS or not np.isfinite(array).all():
        raise UnsupportedError(f"{call.what}: argument initial_state expected (batch, units) numbers")
    rows = array.reshape(-1, array.shape[-1])
    if (rows != rows[0]).any():
        raise UnsupportedError(
            f"{call.what}: argument initial_state: a constant state that differs from row to row of the batch is not "
            "supported; make it an input of the model"
        )
    row: np.ndarray = rows[0]
    return row


def _constant_state(call: LayerCall, x: Value, row: np.ndarray, name: str) -> Value:
    """A vector of constants: zeros made of the first number of the sequence, and `row` added."""
    y = call.add("slice", x, None, f".{name}.step", axis=0, start=0, count=1)
    y = call.add("reshape", y, None, f".{name}.numbers", shape="-1")
    y = call.add("slice", y, None, f".{name}.first", axis=0, start=0, count=1)
    y = call.add("activation", y, None, f".{name}.zero", activation="clip", activation_alpha=0.0, activation_beta=0.0)
    y = call.add("pad", y, None, f".{name}.zeros", axis=0, before=0, after=len(row) - 1)
    return affine(call, y, 1.0, row, f".{name}")


def _initial_states(
    call: LayerCall, directions: Sequence[_Recurrent], given: list[Flow | np.ndarray], x: Value
) -> list[list[dict[str, Value]]]:
    """For each direction and cell, role -> initial state."""
    roles = [
        [("h0", "c0") if _KINDS[cell.class_name] in ("lstm", "conv_lstm") else ("h0",) for cell in direction.cells]
        for direction in directions
    ]
    expected = sum(len(cell) for cells in roles for cell in cells)
    if given and len(given) != expected:
        raise FormatError(f"{call.what}: argument initial_state expected {expected} tensors, found {len(given)}")
    flat = iter(
        call.numbers(one) if isinstance(one, Flow) else _constant_state(call, x, one, f"state{k}")
        for k, one in enumerate(given)
    )
    return [[{role: next(flat) for role in cell} if given else {} for cell in cells] for cells in roles]


def _cell_of(layer: LayerConfig, entry: object) -> LayerConfig:
    """A cell, also of a class that is none of Keras's, which is refused by name then."""
    return layer.inner(entry, "cell", may_be_custom=True)


def _read(layer: LayerConfig) -> _Recurrent:
    """Check a recurrent layer's own options and find its cells."""
    if layer.class_name not in RECURRENT_LAYERS:
        raise UnsupportedError(
            f"{layer.what}: {layer.class_name} is not supported here; supported are {', '.join(RECURRENT_LAYERS)}"
        )
    cells: tuple[LayerConfig, ...] = (layer,)
    is_stack = False
    if layer.class_name == "RNN":
        layer.check_options({"cell", *_LAYER_OPTIONS})
        cell = _cell_of(layer, layer.config.get("cell"))
        cells = (cell,)
        if cell.class_name == "StackedRNNCells":
            cell.check_options({"cells"})
            entries = cell.config.get("cells")
            if not isinstance(entries, list) or not 0 < len(entries) <= 1000:
                raise FormatError(f"{cell.what}: option cells expected a list of 1 to 1000 cells")
            cells = tuple(_cell_of(layer, entry) for entry in entries)
            is_stack = True
        for cell in cells:
            if cell.class_name not in _CELLS:
                raise UnsupportedError(
                    f"{cell.what}: cells of class {cell.class_name.rpartition('>')[2]} are not supported; supported "
                    f"are {', '.join(_CELLS)}. A cell of your own is a program, which a file does not hold: put its "
                    "RNN into a layer of your own and give custom_layers= what that computes, step by step "
                    "(docs/custom-layers.md)"
                )
    for cell in cells:
        cell.check_options(_CELL_OPTIONS[_KINDS[cell.class_name]] | (_LAYER_OPTIONS if cell is layer else set()))
    if layer.flag("time_major", False):
        raise UnsupportedError(
            f"{layer.what}: option time_major=True is not supported; build the layer with time_major=False, whose "
            "weights are the same, and give (batch, time, features)"
        )
    return _Recurrent(
        layer,
        cells,
        is_stack,
        layer.flag("return_sequences", False),
        layer.flag("return_state", False),
        layer.flag("go_backwards", False),
        layer.flag("zero_output_for_mask", False),
        layer.flag("stateful", False),
    )


def _check_outputs(call: LayerCall, recurrent: _Recurrent) -> None:
    if recurrent.returns_state and not call.is_last:
        raise UnsupportedError(
            f"{call.what}: option return_state=True gives several outputs, which a Sequential has in its last layer "
            "only; set it to False, and ask predict for the states with return_state=True"
        )


def _cell_parts(
    recurrent: _Recurrent, path: tuple[str, ...], attributes: tuple[str, ...], names: Sequence[tuple[str, ...]]
) -> list[Part]:
    """Where the weights of each cell stand, below the `path`, `attributes` and `names` of the direction."""
    if not recurrent.is_stack:
        return [Part((*path, "cell"), attributes, tuple(names))]
    groups = numbered([cell.class_name for cell in recurrent.cells])
    return [
        Part(
            (*path, "cell", "cells", group),
            (*attributes, "cell", "cells", k),
            tuple((*start, cell.name) for start in names),
        )
        for k, (cell, group) in enumerate(zip(recurrent.cells, groups, strict=True))
    ]


def _add_direction(
    call: LayerCall,
    recurrent: _Recurrent,
    parts: Sequence[Part],
    offset: int,
    name: str,
    value: Value,
    mask: Value | None,
    initial: Sequence[dict[str, Value]],
    zeroes_masked: bool,
    *,
    flipped: bool,
) -> tuple[Value, list[Value]]:
    """The layers of one direction, one per cell.

    Each cell of a stack reads the one before within the same step, so the cells are layers that share a mask.
    `flipped` puts the sequence in the opposite of the input's time order.
    """
    if value.kind != "sequence" or call.first:
        raise FormatError(
            f"{call.what}: expected a sequence as input, found the {value.kind} {value.name!r}; "
            "the layer before needs return_sequences"
        )
    states: list[Value] = []
    y = value
    for k, cell in enumerate(recurrent.cells):
        is_top = k == len(recurrent.cells) - 1
        options: dict[str, Option] = {
            "reverse": recurrent.goes_backwards,
            "padding": "repeat" if is_top and not zeroes_masked else "zero",
        }
        cell_name = f"{name}.cell{k}" if recurrent.is_stack else name
        inputs = {"x": y, "mask": mask, **initial[k]}
        made = _add_cell(call, cell, parts, offset + k, cell_name, inputs, options)
        y = made.pop("y")
        # Keras 3 starts from the initial state that a call gives, at every call.
        if recurrent.is_stateful and not (initial[k] and recurrent.layer.version >= (3, 0)):
            if y.name != cell_name:
                raise UnsupportedError(
                    f"{call.what}: option stateful=True of a layer that is called more than once in a model, each "
                    "time from the state that the call before has left, is not supported; set it to False"
                )
            call.maker.stateful.append(cell_name)
        states += made.values()
    if not recurrent.returns_sequences:
        return made["h"], states
    if flipped:
        y = call.add_layer("reverse", f"{name}.reverse", {"x": y})["y"]
    return y, states


def _outputs(call: LayerCall, recurrent: _Recurrent, outputs: list[Value], states: list[Value]) -> list[Flow]:
    """The outputs, with the mask that Keras gives them, then the states if the layer returns them."""
    mask = passed_mask(call)
    flows = [Flow(value, Mask(mask if recurrent.returns_sequences else None)) for value in outputs]
    return [*flows, *(Flow(state) for state in states if recurrent.returns_state)]


def _add_cell(
    call: LayerCall,
    cell: LayerConfig,
    parts: Sequence[Part],
    index: int,
    name: str,
    inputs: dict[str, Value | None],
    options: dict[str, Option],
) -> dict[str, Value]:
    """One layer of the graph. Keras's order of gates is i f c o, as ours, and in a GRU z r h for our r z n."""
    kind, value = _KINDS[cell.class_name], inputs["x"]
    assert value is not None
    options |= cell.activation("activation")
    if kind != "rnn":
        options |= cell.activation("recurrent_activation")
    if kind == "lstm":
        options |= cell.activation("activation", "output_activation")
    taps: tuple[int, ...] = ()
    if kind == "conv_lstm":
        units = cell.whole("filters")
        taps, convolution = _convolution(cell, value)
        options |= convolution
    else:
        units = cell.whole("units", old_name="output_dim")
        if len(value.shape) != 2:
            raise FormatError(f"{call.what}: expected an input (batch, time, features), found {shape_text(value)}")
    rows = _GATES[kind] * units
    bias_roles = ["bias"]
    if kind == "gru":
        # Keras before 2.1.3 had no such option, and its GRU applied r before the product.
        options["reset_after"] = cell.flag("reset_after", False)
        bias_roles = ["bias_ih", "bias_hh"] if options["reset_after"] else ["bias_ih"]
    shapes = {"kernel": (*taps, value.features, rows), "recurrent_kernel": (*taps, units, rows)}
    if cell.flag("use_bias", True):
        shapes["bias"] = (2, rows) if len(bias_roles) == 2 else (rows,)
    roles = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "+".join(bias_roles)}
    cudnn_bias = 2 * rows if cell.class_name in ("LSTM", "GRU") else None
    arrays = call.take_part(
        parts, index, shapes, {role: f"{name}/{roles[role]}" for role in shapes}, cudnn_bias=cudnn_bias
    )
    weights = {roles[role]: arrays[role].reshape(-1, rows).T for role in ("kernel", "recurrent_kernel")}
    if "bias" in arrays:
        weights |= dict(zip(bias_roles, arrays["bias"].reshape(-1, rows), strict=True))
    if kind == "gru":
        weights = {role: _reset_gate_first(weight) for role, weight in weights.items()}
    made = call.add_layer(kind, name, inputs, weights, options)
    noise = _noise(call, cell, kind, options)
    if noise:
        call.maker.noise[made["y"].name] = noise
    return made


def _noise(call: LayerCall, cell: LayerConfig, kind: str, options: Mapping[str, Option]) -> dict[str, Option]:
    """What a layer draws in training: its rates, and by which masks its Keras drops.

    Keras 3.8 and later, and the cells of Keras 2, have one mask for each gate with `implementation` 1, which
    `recurrent_dropout` turns on, else one for all; Keras 3 before that always one. A layer of TensorFlow's Keras 2 that
    suits cuDNN, on a CPU too, draws for each step what it reads.
    """
    rates = {key: min(max(cell.number(key, 0.0), 0.0), 1.0) for key in RATES if cell.config.get(key)}
    version, recurrent = cell.version, rates.get("recurrent_dropout", 0.0)
    if (3, 0) <= version < (3, 2) and recurrent:
        rates["recurrent_dropout"] = rates.get("dropout", 0.0)  # as these compute it
    noise: dict[str, Option] = {key: rate for key, rate in rates.items() if rate}
    if not noise or kind in ("rnn", "conv_lstm"):
        return noise
    is_fast = (
        (version >= (2, 4) or call.maker.is_tensorflow)
        and version < (3, 0)
        and cell.class_name in ("LSTM", "GRU")
        and (options["activation"], options["recurrent_activation"]) == ("tanh", "sigmoid")
        and not recurrent
        and not cell.flag("unroll", False)
        and cell.flag("use_bias", True)
        and (kind == "lstm" or cell.flag("reset_after", False))
    )
    if is_fast:
        noise["masks"] = "steps"
    elif (3, 0) <= version < (3, 8):
        if kind == "gru" and recurrent:
            noise["masks"] = "state"
    elif recurrent or cell.config.get("implementation", 2) in (0, 1):
        noise["masks"] = "gates"
    return noise


def _reset_gate_first(weight: np.ndarray) -> np.ndarray:
    """The blocks z r h of rows as r z h."""
    z, r, h = np.split(weight, 3)
    return np.concatenate((r, z, h))


def _convolution(cell: LayerConfig, value: Value) -> tuple[tuple[int, ...], dict[str, Option]]:
    """Size of the kernel, and the options of a ConvLSTM."""
    count = 1 if cell.class_name == "ConvLSTM1D" else 2
    if cell.config.get("data_format") != "channels_last":
        raise UnsupportedError(
            f"{cell.what}: option data_format={cell.config.get('data_format')!r:.80} is not supported; build the layer "
            "with 'channels_last', whose weights are the same, and give the channels last"
        )
    if len(value.shape) != 2 + count:
        axes = "columns" if count == 1 else "rows, columns"
        raise FormatError(f"{cell.what}: expected an input (batch, time, {axes}, channels), found {shape_text(value)}")
    padding = cell.config.get("padding")
    if padding not in ("valid", "same"):
        raise UnsupportedError(f"{cell.what}: option padding expected 'valid' or 'same', found {padding!r:.80}")
    options: dict[str, Option] = {"conv_padding": padding}
    for key, option in (("kernel_size", "kernel"), ("strides", "stride"), ("dilation_rate", "dilation")):
        for axis, size in zip(_AXES[2 - count :], cell.sizes(key, count), strict=True):
            options[f"{option}_{axis}"] = size
    return cell.sizes("kernel_size", count), options
