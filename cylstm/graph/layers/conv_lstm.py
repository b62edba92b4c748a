"""ConvLSTM in one or two dimensions (Shi et al., 2015), as Keras computes it."""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.layers._layer import (
    RECURRENT_DEFAULTS,
    Inputs,
    Options,
    Outputs,
    RecurrentLayer,
    States,
    Weights,
    activation_defaults,
    check_choice,
    check_kind,
    check_shape,
    check_vectors,
    hidden_size,
    like,
)
from cylstm.graph.values import Option, Value

_AXES = ("rows", "columns")


class ConvLstmLayer(RecurrentLayer):
    """One direction of one ConvLSTM layer, channels last.

    ``x`` is a sequence of shape (time, columns, channels) or (time, rows, columns, channels); the states have the
    spatial shape of the output. One dimension is two dimensions with one row.

    Weights (gate blocks in the order i, f, g, o): ``weight_ih`` (4*filters, kernel_rows*kernel_columns*channels),
    ``weight_hh`` (4*filters, kernel_rows*kernel_columns*filters), optional ``bias`` (4*filters,); taps in row-major
    order, each with all its channels.

    Options beside those of `RecurrentLayer`: ``kernel_rows``, ``kernel_columns``, and of the input convolution
    ``stride_*``, ``dilation_*`` and ``conv_padding`` ("valid" or "same"); the recurrent convolution has stride 1 and
    padding "same". ``activation`` of g and of c in the output, ``recurrent_activation`` of i, f and o. ``input_rows``,
    ``input_columns`` and ``spatial_axes`` are filled in from x.
    """

    name = "conv_lstm"
    gates = ("i", "f", "g", "o")
    has_cell = True
    optional_inputs = ("mask", "h0", "c0")
    optional_weights = ("bias",)
    int8_matrices = ()
    has_one_type = True
    slots = ("activation", "recurrent_activation")
    defaults = {
        **RECURRENT_DEFAULTS,
        **activation_defaults(activation="tanh", recurrent_activation="sigmoid"),
        "conv_padding": "valid",
        "spatial_axes": 1,
        **{f"{what}_{axis}": 1 for what in ("kernel", "stride", "dilation", "input") for axis in _AXES},
    }

    def infer(self, where: str, inputs: Inputs, weights: Weights, options: Options) -> Outputs:
        filters = hidden_size(where, weights, 4)
        check_choice(where, options, "conv_padding", ("valid", "same"))
        for name in (f"{what}_{axis}" for what in ("kernel", "stride", "dilation") for axis in _AXES):
            size = options[name]
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 10**6:
                raise UnsupportedError(
                    f"layer {where!r}: option {name} expected a positive whole number, found {size!r}"
                )
        x = inputs["x"]
        check_kind(where, x, ("sequence",))
        shape = x.step_shape
        if len(x.shape) not in (3, 4) or None in x.shape[1:]:
            raise ShapeError(
                f"layer {where!r}: expected (time, columns, channels) or (time, rows, columns, channels) with sizes "
                f"known in advance, found {x.shape}"
            )
        sizes = (1, *shape[:-1]) if len(shape) == 2 else shape[:-1]
        output = [self.output_size(where, axis, size, options) for axis, size in zip(_AXES, sizes)]
        state = (*output[3 - len(shape) :], filters)
        self.check_call(where, inputs, options, {"h0": state, "c0": state})
        taps = int(options["kernel_rows"]) * int(options["kernel_columns"])
        if 2 * taps > 1024:
            raise UnsupportedError(f"layer {where!r}: kernels of at most 512 taps are supported, found {taps}")
        check_shape(where, "weight_ih", weights["weight_ih"], (4 * filters, taps * shape[-1]))
        check_shape(where, "weight_hh", weights["weight_hh"], (4 * filters, taps * filters))
        check_vectors(where, weights, {"bias": 4 * filters})
        options["input_rows"], options["input_columns"] = sizes
        options["spatial_axes"] = len(shape) - 1
        return {
            "y": like(x, (x.shape[0], *state)),
            "h": Value("", "state", state),
            "c": Value("", "state", state),
        }

    def state(self, weights: Weights, options: Mapping[str, Option]) -> States:
        filters = weights["weight_ih"].shape[0] // 4
        positions = [self.output_size("", axis, int(options[f"input_{axis}"]), options) for axis in _AXES]
        shape = (*positions[2 - int(options["spatial_axes"]) :], filters)
        return (("h", shape), ("c", shape))

    @staticmethod
    def output_size(where: str, axis: str, size: int, options: Mapping[str, Option]) -> int:
        """Positions of one spatial axis of the output."""
        stride = int(options[f"stride_{axis}"])
        if options["conv_padding"] == "same":
            return -(-size // stride)
        reach = (int(options[f"kernel_{axis}"]) - 1) * int(options[f"dilation_{axis}"]) + 1
        if reach > size:
            raise ShapeError(f"layer {where!r}: a kernel that reaches over {reach} {axis} does not fit {size}")
        return (size - reach) // stride + 1
