"""ConvLSTM in one or two dimensions (Shi et al., 2015), as Keras computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ShapeError, UnsupportedError
from ..graph import Value
from ._op import Layer, check_roles, check_shape
from ._recurrent import RECURRENT_DEFAULTS, RecurrentOp, activation_defaults, check_choice, check_vectors, hidden_size

if TYPE_CHECKING:
    from .activation import Activation

_AXES = ("rows", "columns")


class ConvLstmOp(RecurrentOp):
    """One direction of one ConvLSTM layer, channels last.

    ``x`` is a sequence of shape (time, columns, channels) or (time, rows, columns, channels); the states have the
    spatial shape of the output. One dimension is two dimensions with one row.

    Weights (gate blocks in the order i, f, g, o): ``weight_ih`` (4*filters, kernel_rows*kernel_columns*channels),
    ``weight_hh`` (4*filters, kernel_rows*kernel_columns*filters), optional ``bias`` (4*filters,); taps in row-major
    order, each with all its channels.

    Options beside those of `RecurrentOp`: ``kernel_rows``, ``kernel_columns``, and of the input convolution
    ``stride_*``, ``dilation_*`` and ``conv_padding`` ("valid" or "same"); the recurrent convolution has stride 1 and
    padding "same". ``activation`` of g and of c in the output, ``recurrent_activation`` of i, f and o. ``input_rows``,
    ``input_columns`` and ``spatial_axes`` are filled in from x.
    """

    name = "conv_lstm"
    slots = ("activation", "recurrent_activation")
    defaults = {
        **RECURRENT_DEFAULTS,
        **activation_defaults(activation="tanh", recurrent_activation="sigmoid"),
        "conv_padding": "valid",
        "spatial_axes": 1,
        **{f"{what}_{axis}": 1 for what in ("kernel", "stride", "dilation", "input") for axis in _AXES},
    }

    def infer(self, where, inputs, weights, options):
        check_roles(where, weights, ("weight_ih", "weight_hh"), ("bias",), "weights")
        filters = hidden_size(where, weights, 4)
        check_choice(where, options, "conv_padding", ("valid", "same"))
        for name in (f"{what}_{axis}" for what in ("kernel", "stride", "dilation") for axis in _AXES):
            if not isinstance(options[name], int) or isinstance(options[name], bool) or not 0 < options[name] < 10**6:
                raise UnsupportedError(
                    f"layer {where!r}: option {name} expected a positive whole number, found {options[name]!r}"
                )
        shape = inputs["x"].shape if "x" in inputs else ()
        if len(shape) not in (3, 4) or None in shape[1:]:
            raise ShapeError(
                f"layer {where!r}: expected (time, columns, channels) or (time, rows, columns, channels) with sizes "
                f"known in advance, found {shape}"
            )
        sizes = (1, *shape[1:-1]) if len(shape) == 3 else shape[1:-1]
        output = [self.output_size(where, axis, size, options) for axis, size in zip(_AXES, sizes)]
        state = (*output[len(output) - (len(shape) - 2) :], filters)
        self.check_call(where, inputs, options, {"h0": state, "c0": state})
        taps = options["kernel_rows"] * options["kernel_columns"]
        if 2 * taps > 1024:
            raise UnsupportedError(f"layer {where!r}: kernels of at most 512 taps are supported, found {taps}")
        check_shape(where, "weight_ih", weights["weight_ih"], (4 * filters, taps * shape[-1]))
        check_shape(where, "weight_hh", weights["weight_hh"], (4 * filters, taps * filters))
        check_vectors(where, weights, {"bias": 4 * filters})
        options["input_rows"], options["input_columns"] = sizes
        options["spatial_axes"] = len(shape) - 2
        return {
            "y": Value("", "sequence", (inputs["x"].shape[0], *state), inputs["x"].mask, inputs["x"].axis),
            "h": Value("", "state", state),
            "c": Value("", "state", state),
        }

    def state(self, weights, options):
        filters = weights["weight_ih"].shape[0] // 4
        positions = [self.output_size("", axis, options[f"input_{axis}"], options) for axis in _AXES]
        shape = (*positions[2 - options["spatial_axes"] :], filters)
        return (("h", shape), ("c", shape))

    @staticmethod
    def output_size(where: str, axis: str, size: int, options) -> int:
        """Positions of one spatial axis of the output."""
        stride = options[f"stride_{axis}"]
        if options["conv_padding"] == "same":
            return -(-size // stride)
        reach = (options[f"kernel_{axis}"] - 1) * options[f"dilation_{axis}"] + 1
        if reach > size:
            raise ShapeError(f"layer {where!r}: a kernel that reaches over {reach} {axis} does not fit {size}")
        return (size - reach) // stride + 1


class ConvLSTM(Layer):
    """A ConvLSTM of a state dict, one direction.

    PyTorch has none; the tensors are laid out like those of ``torch.nn.Conv1d`` and ``Conv2d``: ``prefix.weight_ih``
    (4*filters, channels, [rows,] columns), ``prefix.weight_hh`` (4*filters, filters, [rows,] columns), optional
    ``prefix.bias`` (4*filters,), gates in the order i, f, g, o. The input is (batch, time, [rows,] columns,
    channels).

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih`` in the tensors' names; "" if nothing does.
    spatial_shape : tuple of int
        (columns,) or (rows, columns) of the input.
    strides, dilation : int or tuple of int
        Of the input convolution, one number per spatial axis.
    conv_padding : {"valid", "same"}
        Of the input convolution; the recurrent one is "same".
    activation, recurrent_activation : str or Activation
        Of the candidate g and of the cell in the output; of the gates i, f and o.
    reverse, padding, empty_state
        As in `LSTM`.
    """

    def __init__(
        self,
        prefix: str,
        spatial_shape: tuple[int, ...],
        *,
        strides: int | tuple[int, ...] = 1,
        dilation: int | tuple[int, ...] = 1,
        conv_padding: str = "valid",
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        reverse: bool = False,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        super().__init__(
            prefix=prefix,
            spatial_shape=tuple(spatial_shape),
            strides=strides,
            dilation=dilation,
            conv_padding=conv_padding,
            activation=activation,
            recurrent_activation=recurrent_activation,
            reverse=reverse,
            padding=padding,
            empty_state=empty_state,
        )
