"""What stands in the ``layers=[...]`` of a state dict: plain data, in PyTorch's names."""

from __future__ import annotations

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.activations import activation_options, resolve_activation

__all__ = [
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "AvgPool1d",
    "BatchNorm1d",
    "Conv1d",
    "ConvLSTM",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalPool1d",
    "GroupNorm",
    "Hardsigmoid",
    "Hardtanh",
    "Input",
    "Last",
    "LastState",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Reverse",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Transpose",
]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_whole(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, tuple) and all(_is_whole(item) for item in value))


def _is_number(value: object) -> bool:
    return isinstance(value, float) or _is_whole(value)


def _is_function(value: object) -> bool:
    return value is None or isinstance(value, (str, Activation))


_WHOLES = ("a whole number, or one for each axis", _are_whole)
_FLAG = ("True or False", _is_flag)
_NUMBER = ("a number", _is_number)
_NUMBER_OR_NONE = ("a number or None", lambda value: value is None or _is_number(value))
_CLIP = ("a positive number or None", _NUMBER_OR_NONE[1])
_TEXT_OR_NONE = ("a text or None", lambda value: value is None or _is_text(value))
_FUNCTION = ("the name of an activation, an Activation or None", _is_function)
_PADDING = (
    "a text, a whole number or a pair of them",
    lambda value: _is_text(value) or _is_whole(value) or (_are_whole(value) and len(value) == 2),
)

#: name of a layer's parameter -> what it must be, in words and as a test; which of these there are shows later
_PARAMETERS = {
    "activation": _FUNCTION,
    "alpha": _NUMBER_OR_NONE,
    "backward": ("a layer or None", lambda value: value is None or isinstance(value, Layer)),
    "beta": _NUMBER_OR_NONE,
    "ceil_mode": _FLAG,
    "cell_clip": _CLIP,
    "conv_padding": ("a text", _is_text),
    "count_include_pad": _FLAG,
    "coupled": _TEXT_OR_NONE,
    "dilation": _WHOLES,
    "empty_state": ("a text", _is_text),
    "eps": _NUMBER,
    "epsilon": _NUMBER,
    "forget_gate": _FLAG,
    "gate_clip": _CLIP,
    "groups": ("a whole number", _is_whole),
    "kernel_size": ("a whole number", _is_whole),
    "layer_norm": ("False, 'carried' or 'output'", lambda value: value is False or _is_text(value)),
    "merge": _TEXT_OR_NONE,
    "mode": ("a text", _is_text),
    "name": _TEXT_OR_NONE,
    "num_groups": ("a whole number", _is_whole),
    "output_activation": _FUNCTION,
    "padding": _PADDING,
    "peepholes": _FLAG,
    "prefix": ("a text", _is_text),
    "rate": _NUMBER,
    "recurrent_activation": _FUNCTION,
    "reset_after": _FLAG,
    "reverse": _FLAG,
    "shape": (
        "a tuple of whole numbers or None",
        lambda value: isinstance(value, tuple) and all(item is None or _is_whole(item) for item in value),
    ),
    "spatial_shape": ("a tuple of whole numbers", lambda value: isinstance(value, tuple) and _are_whole(value)),
    "stride": ("a whole number", _is_whole),
    "strides": _WHOLES,
}


class Layer:
    """A layer of a state dict: plain data, compared and shown by its parameters.

    (A hand-written base, because creating a dataclass costs 0.4 ms each at every import.)
    """

    def __init__(self, **parameters: object) -> None:
        self.__dict__.update({name: self._checked(name, value) for name, value in parameters.items()})

    def _checked(self, name: str, value: object) -> object:
        """The value of a parameter, NumPy's scalars as Python's and lists as tuples. Raises `ShapeError`."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, (list, tuple)):
            value = tuple([item.item() if isinstance(item, np.generic) else item for item in value])
        expected, fits = _PARAMETERS[name]
        if not fits(value):
            raise ShapeError(f"{type(self).__name__}: {name} expected {expected}, found {value!r}")
        return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


class Input(Layer):
    """The shape of a state dict's input, as the first of its layers.

    Only needed where it does not follow: for a number of steps that is known in advance, which `Flatten` and
    `Transpose` need.

    Parameters
    ----------
    shape : tuple of int or None
        Without batch: (features,), (time, features) or, for an `Embedding`, (time,); None for a time that varies.
    """

    def __init__(self, shape: tuple[int | None, ...]) -> None:
        super().__init__(shape=shape)


class LSTM(Layer):
    """An LSTM of a state dict, ``torch.nn.LSTM`` or ``torch.nn.LSTMCell``, or one of its classical variants.

    Sizes, depth, directions, projection and biases are read from the tensors. PyTorch has no names for what the
    variants need; here they are, for layer k (and again with ``_reverse``): ``weight_pi_l{k}``, ``weight_pf_l{k}``,
    ``weight_po_l{k}`` (hidden,) for peepholes; ``norm_ih_l{k}``, ``norm_hh_l{k}`` (gates*hidden,) and ``norm_c_l{k}``
    (hidden,), each with ``.weight`` and ``.bias`` like ``torch.nn.LayerNorm``, for layer normalisation. A gate that
    the options take away has no rows in ``weight_ih``, ``weight_hh`` and the biases.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih_l0`` in the tensors' names; "" if nothing does.
    peepholes : bool
        i and f also see the old cell, o the new one (Gers, Schraudolph & Schmidhuber, 2002).
    forget_gate : bool
        False for the form of 1997, ``c = c + i*g``.
    coupled : {None, "f=1-i", "i=1-f"}
        One gate is 1 minus the other, and has no weights.
    activation, recurrent_activation, output_activation : str or Activation
        Of the candidate g; of the gates i, f and o; of the cell in the output (None: as `activation`).
    cell_clip, gate_clip : float or None
        Limit the stored cell, and every pre-activation, to [-clip, clip].
    layer_norm : {False, "carried", "output"}
        Layer normalisation of both products and of the cell: the normalised cell is carried on (TensorFlow Addons),
        or used in the output alone (Ba et al., 2016).
    epsilon : float
        Added to the variances of the normalisation.
    reverse : bool
        Time runs backwards; the output is in the time order of the input all the same.
    merge : {"concat", "sum", "mul", "ave", None}
        How the directions of a bidirectional layer become one; None for two outputs, in the last layer only.
    backward : LSTM, optional
        The options of the backward direction where they differ; its prefix is not used.
    padding : {"zero", "repeat"}
        What the output holds at steps that a length or a mask leaves out: zeros (PyTorch, ONNX) or the previous output
        (Keras).
    empty_state : {"initial", "zero"}
        The final states of a row without any step that counts: its initial ones, or zeros (ONNX Runtime). A stream
        has no end: its states carry on, whatever this says.
    """

    def __init__(
        self,
        prefix: str,
        *,
        peepholes: bool = False,
        forget_gate: bool = True,
        coupled: str | None = None,
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        output_activation: str | Activation | None = None,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        layer_norm: bool | str = False,
        epsilon: float = 1e-5,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: LSTM | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        super().__init__(
            prefix=prefix,
            peepholes=peepholes,
            forget_gate=forget_gate,
            coupled=coupled,
            activation=activation,
            recurrent_activation=recurrent_activation,
            output_activation=activation if output_activation is None else output_activation,
            cell_clip=cell_clip,
            gate_clip=gate_clip,
            layer_norm=layer_norm,
            epsilon=epsilon,
            reverse=reverse,
            merge=merge,
            backward=backward,
            padding=padding,
            empty_state=empty_state,
        )


class GRU(Layer):
    """A GRU of a state dict, ``torch.nn.GRU`` or ``torch.nn.GRUCell``.

    Sizes, depth, directions and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih_l0`` in the tensors' names; "" if nothing does.
    activation, recurrent_activation : str or Activation
        Of the candidate n; of the gates r and z.
    reset_after : bool
        Whether r multiplies the recurrent product of n (PyTorch) or the state before it (then ``bias_hh`` is
        added to ``bias_ih``).
    gate_clip : float or None
        Limits every pre-activation to [-clip, clip].
    reverse, merge, backward, padding, empty_state
        As in `LSTM`.
    """

    def __init__(
        self,
        prefix: str,
        *,
        activation: str | Activation | None = "tanh",
        recurrent_activation: str | Activation | None = "sigmoid",
        reset_after: bool = True,
        gate_clip: float | None = None,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: GRU | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        super().__init__(
            prefix=prefix,
            activation=activation,
            recurrent_activation=recurrent_activation,
            reset_after=reset_after,
            gate_clip=gate_clip,
            reverse=reverse,
            merge=merge,
            backward=backward,
            padding=padding,
            empty_state=empty_state,
        )


class RNN(Layer):
    """A simple recurrent layer of a state dict, ``torch.nn.RNN`` or ``torch.nn.RNNCell``.

    Sizes, depth, directions and biases are read from the tensors.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight_ih_l0`` in the tensors' names; "" if nothing does.
    activation : str or Activation
        PyTorch's ``nonlinearity``, which is not in a state dict.
    gate_clip : float or None
        Limits the pre-activation to [-clip, clip].
    reverse, merge, backward, padding, empty_state
        As in `LSTM`.
    """

    def __init__(
        self,
        prefix: str,
        *,
        activation: str | Activation | None = "tanh",
        gate_clip: float | None = None,
        reverse: bool = False,
        merge: str | None = "concat",
        backward: RNN | None = None,
        padding: str = "zero",
        empty_state: str = "initial",
    ) -> None:
        super().__init__(
            prefix=prefix,
            activation=activation,
            gate_clip=gate_clip,
            reverse=reverse,
            merge=merge,
            backward=backward,
            padding=padding,
            empty_state=empty_state,
        )


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
            spatial_shape=spatial_shape,
            strides=strides,
            dilation=dilation,
            conv_padding=conv_padding,
            activation=activation,
            recurrent_activation=recurrent_activation,
            reverse=reverse,
            padding=padding,
            empty_state=empty_state,
        )


class Linear(Layer):
    """A linear layer of a state dict; its sizes and whether it has a bias are read from the tensors.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight`` and ``.bias`` in the tensors' names; "" if nothing does.
    activation : str, Activation or None
        Applied to the result.
    """

    def __init__(self, prefix: str, activation: str | Activation | None = "linear") -> None:
        super().__init__(prefix=prefix, activation=activation)


Dense = Linear


class Conv1d(Layer):
    """A convolution of a state dict, ``torch.nn.Conv1d``; sizes and bias are read from the tensors.

    PyTorch's layout is (batch, channels, time); here sequences stay (batch, time, channels), so the transpositions that
    only exist to feed it are left out: ``conv(x.transpose(1, 2)).transpose(1, 2)`` is this layer alone.

    Parameters
    ----------
    prefix : str
        What stands before ``.weight`` (filters, channels/groups, kernel) and ``.bias``.
    stride, dilation, groups : int
    padding : int, (int, int), "valid", "same" or "causal"
        A number pads both ends, a pair the front and the end, "causal" the front as far as the kernel reaches, which
        carries over in a stream.
    activation : str, Activation or None
    """

    def __init__(
        self,
        prefix: str,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int = 1,
        groups: int = 1,
        activation: str | Activation | None = "linear",
    ) -> None:
        super().__init__(
            prefix=prefix, stride=stride, padding=padding, dilation=dilation, groups=groups, activation=activation
        )


class MaxPool1d(Layer):
    """``torch.nn.MaxPool1d(kernel_size, stride, padding, dilation, ceil_mode=...)`` over time."""

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        dilation: int = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )


class AvgPool1d(Layer):
    """``torch.nn.AvgPool1d(kernel_size, stride, padding, ceil_mode, count_include_pad)`` over time."""

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


def window_options(stride: int, dilation: int, padding: int | tuple[int, int] | str) -> dict[str, object]:
    """Node options of a window as PyTorch's layers describe it."""
    options: dict[str, object] = {"stride": stride, "dilation": dilation}
    if isinstance(padding, str):
        return options | {"padding": padding}
    before, after = (padding, padding) if isinstance(padding, int) else padding
    if before or after:
        options |= {"padding": "explicit", "pad_before": before, "pad_after": after}
    return options


class Embedding(Layer):
    """``torch.nn.Embedding`` of a state dict: ``prefix.weight`` (rows, size). Only as the first layer.

    The network's input is then indices, (batch, time) of whole numbers.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)


class BatchNorm1d(Layer):
    """``torch.nn.BatchNorm1d`` of a state dict, over the last axis: ``prefix.running_mean`` and so on."""

    def __init__(self, prefix: str, eps: float = 1e-5) -> None:
        super().__init__(prefix=prefix, eps=eps)


class LayerNorm(Layer):
    """``torch.nn.LayerNorm`` of a state dict over the last axis; weight and bias are taken if they are there."""

    def __init__(self, prefix: str, eps: float = 1e-5) -> None:
        super().__init__(prefix=prefix, eps=eps)


class RMSNorm(Layer):
    """``torch.nn.RMSNorm`` of a state dict over the last axis; `eps` None is PyTorch's own, 2^-23."""

    def __init__(self, prefix: str, eps: float | None = None) -> None:
        super().__init__(prefix=prefix, eps=2.0**-23 if eps is None else eps)


class GroupNorm(Layer):
    """``torch.nn.GroupNorm(num_groups, ...)`` of a state dict, over all steps."""

    def __init__(self, prefix: str, num_groups: int, eps: float = 1e-5) -> None:
        super().__init__(prefix=prefix, num_groups=num_groups, eps=eps)


class PReLU(Layer):
    """``torch.nn.PReLU`` of a state dict: ``prefix.weight`` of one number or one per feature."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)


class GLU(Layer):
    """``torch.nn.GLU`` over the features."""


class Dropout(Layer):
    """Dropout with probability `rate` in training; does nothing here."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__(rate=rate)


class Last(Layer):
    """The last valid step of a sequence, ``output[:, length - 1]``.

    After a bidirectional layer its backward half has seen one step only; see `LastState`.
    """


class LastState(Layer):
    """The final hidden state of the recurrent layer just before, directions concatenated.

    What PyTorch's ``h_n`` holds for the topmost layer, and what a Keras ``Bidirectional`` returns: the backward
    half has seen the whole sequence.
    """


class Reverse(Layer):
    """The sequence backwards in time.

    After a layer with ``reverse=True`` it gives the order of Keras's ``go_backwards``, that of processing.
    """


class Flatten(Layer):
    """All numbers of a sample in a row, ``torch.nn.Flatten()``. Needs ``time=`` in the first layers' input.

    After a convolution PyTorch's order is (channels, time), here it is (time, channels): put ``Transpose()`` before it.
    """


class Transpose(Layer):
    """``x.transpose(1, 2)``: time and features exchanged; what follows sees the features as its time."""


class GlobalPool1d(Layer):
    """The "mean", "max", "min" or "sum" over time, ``AdaptiveAvgPool1d(1)`` and ``AdaptiveMaxPool1d(1)``."""

    def __init__(self, mode: str = "mean") -> None:
        super().__init__(mode=mode)
        if self.mode not in ("mean", "max", "min", "sum"):
            raise ShapeError(f"GlobalPool1d: mode expected 'mean', 'max', 'min' or 'sum', found {mode!r}")


class Activation(Layer):
    """An activation function, as a layer of its own or as an option of another layer.

    Parameters
    ----------
    name : str
        A key of `cylstm.graph.activations.ACTIVATIONS` or `cylstm.graph.activations.ALIASES`.
    alpha, beta : float, optional
        Its parameters; by default the activation's own.

    Raises
    ------
    UnsupportedError
        If the name is unknown or a parameter is not finite.
    """

    def __init__(self, name: str, alpha: float | None = None, beta: float | None = None) -> None:
        super().__init__(name=name, alpha=alpha, beta=beta)
        resolve_activation(self.name, self.alpha, self.beta, where="Activation")


def slot_options(slot: str, activation: str | Activation | None, *, where: str) -> dict[str, object]:
    """Node options of the activation in `slot`, given by name or as an `Activation` with parameters."""
    if isinstance(activation, Activation):
        return activation_options(slot, activation.name, activation.alpha, activation.beta, where=where)
    return activation_options(slot, activation, where=where)


def _without_parameters(torch_name: str, name: str):
    def make() -> Activation:
        return Activation(name)

    make.__name__ = make.__qualname__ = torch_name
    make.__doc__ = f"``torch.nn.{torch_name}()``: ``Activation({name!r})``."
    return make


ReLU = _without_parameters("ReLU", "relu")
ReLU6 = _without_parameters("ReLU6", "relu6")
Tanh = _without_parameters("Tanh", "tanh")
Sigmoid = _without_parameters("Sigmoid", "sigmoid")
SELU = _without_parameters("SELU", "selu")
Softplus = _without_parameters("Softplus", "softplus")
Softsign = _without_parameters("Softsign", "softsign")
SiLU = _without_parameters("SiLU", "silu")
Hardsigmoid = _without_parameters("Hardsigmoid", "hard_sigmoid")


def ELU(alpha: float = 1.0) -> Activation:
    """``torch.nn.ELU(alpha)``."""
    return Activation("elu", alpha)


def LeakyReLU(negative_slope: float = 0.01) -> Activation:
    """``torch.nn.LeakyReLU(negative_slope)``; Keras's own default slopes are 0.3 (layer) and 0.2 (by name)."""
    return Activation("leaky_relu", negative_slope)


def Hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    """``torch.nn.Hardtanh(min_val, max_val)``."""
    return Activation("clip", min_val, max_val)


def GELU(approximate: str = "none") -> Activation:
    """``torch.nn.GELU(approximate)`` with "none" (by erf) or "tanh"."""
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise UnsupportedError(f"GELU: approximate expected 'none' or 'tanh', found {approximate!r}")
    return Activation("gelu" if approximate == "none" else "gelu_tanh")


def Softmax(dim: int = -1) -> Activation:
    """``torch.nn.Softmax(dim=-1)``, over the last axis; others are refused."""
    if not _is_whole(dim) or dim != -1:
        raise UnsupportedError(f"Softmax: only the last axis, dim=-1, is supported; found dim={dim!r}")
    return Activation("softmax")
