"""How much of the past is left in the state of a recurrent layer, and what each step contributed to it.

The cell of an LSTM is a sum over the past: ``c[T] = sum over t of (product of f[s] for s in t+1..T) * i[t] * g[t]``,
and what the initial cell left, ``(product of all f) * c[0]`` (read this way by Wang et al., arXiv 1512.08849, and
Murdoch and Szlam, arXiv 1702.02540). The state of a GRU is one with ``z`` for ``f`` and ``(1 - z) * n`` for ``i * g``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described

if TYPE_CHECKING:
    from cylstm.trace import LayerTrace, Trace


class Memory:
    """What is left of the past in a recurrent layer's state at one step, all in float64.

    Attributes
    ----------
    layer : str
    step : int
        The step whose state it is about.
    reverse : bool
        Whether the layer runs from the end to the beginning: its past are the steps after.
    has_batch : bool
        Whether the arrays have a batch axis.
    left : ndarray
        (batch, time, units): the part of what entered at each step that is left; 1 at `step` itself, 0 after it.
    log_left : ndarray
        Its logarithm, which does not underflow.
    contributions : ndarray
        (batch, time, units): what each step contributed to the state.
    initial : ndarray
        (batch, units): what is left of the state before the first step.
    residual : ndarray
        (batch, units): the state as it was computed less contributions and `initial`: rounding, and what a clip of the
        cell cut off.
    state : ndarray
        (batch, units): the state as it was computed, of an LSTM its cell.
    output : ndarray or None
        (batch, time, units): what each step contributed to the output ``h`` at `step`. Of an LSTM by telescoping
        ``h = o * tanh(c)`` over the partial sums of the cell, in the order of time; of a GRU `contributions` itself.
        None for an LSTM with a projection, or that shows its cell through a normalisation or a rare activation.
    output_initial, output_residual : ndarray or None
        (batch, units): as `initial` and `residual`, of the output.
    mean_log_gate : ndarray
        (batch, units): the mean logarithm of the gate that keeps the state, over the steps up to `step`.

    Without a batch axis where the trace has none.
    """

    def __init__(
        self, layer: str, step: int, *, reverse: bool = False, has_batch: bool = True, **arrays: np.ndarray | None
    ) -> None:
        self.layer = layer
        self.step = step
        self.reverse = reverse
        self.has_batch = has_batch
        self.left: np.ndarray
        self.log_left: np.ndarray
        self.contributions: np.ndarray
        self.initial: np.ndarray
        self.residual: np.ndarray
        self.state: np.ndarray
        self.output: np.ndarray | None
        self.output_initial: np.ndarray | None
        self.output_residual: np.ndarray | None
        self.mean_log_gate: np.ndarray
        for name, array in arrays.items():
            setattr(self, name, array)

    def half_life(self) -> np.ndarray:
        """After how many steps half of what entered is gone, by `mean_log_gate`.

        Returns
        -------
        ndarray
            (batch, units), infinite where nothing is forgotten.
        """
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(0.5) / self.mean_log_gate)

    def through(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Contributions to the outputs of a linear head that reads the output ``h`` at `step`.

        Parameters
        ----------
        weight : array_like
            (outputs, units), as the graph and PyTorch have it; Keras's kernel is its transpose. The head's bias is
            nobody's contribution.

        Returns
        -------
        contributions : ndarray
            (batch, time, outputs): they sum, with the next two and the bias, to the head's result.
        initial, residual : ndarray
            (batch, outputs)

        Raises
        ------
        UnsupportedError
            Where `output` is None.
        ShapeError
            If the weight is no such matrix.
        """
        if self.output is None or self.output_initial is None or self.output_residual is None:
            raise UnsupportedError(
                f"layer {self.layer!r} has a projection, or shows its cell in a rare way: its output is no sum over "
                "the past here; contributions are to its cell"
            )
        matrix = np.asarray(weight, np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.output.shape[-1]:
            raise ShapeError(f"weight: expected (outputs, {self.output.shape[-1]}), found {matrix.shape}")
        return self.output @ matrix.T, self.output_initial @ matrix.T, self.output_residual @ matrix.T

    def __repr__(self) -> str:
        return f"<Memory of layer {self.layer!r} at step {self.step}: left {self.left.shape}>"


@in_standard_mode
def memory(trace: Trace, layer: str, step: int = -1) -> Memory:
    """How much of each past step is left in the state of a recurrent layer, and what it contributed.

    This is about one layer: what enters the second of two stacked layers at a step has a past of its own in the first.

    Parameters
    ----------
    trace : Trace
        Of `Model.trace`, with the parts ``i f g o c`` and ``h`` of an LSTM, or ``z n h`` of a GRU.
    layer : str
        An LSTM or a GRU.
    step : int
        Of whose state; the last one by default. Of a layer that runs from the end to the beginning its last step is 0,
        and so is the default; its past are the steps after.

    Returns
    -------
    Memory
        Computed in float64 from the gates as they were; ``left`` of gates near zero from what goes into their sigmoid,
        if the trace has it (``f_pre`` or ``z_pre``).

    Raises
    ------
    ArgumentError
        If there is no such layer, part or step.
    UnsupportedError
        For layers whose state is no sum over the past: a simple RNN, an LSTM with layer normalisation of the cell that
        it carries, and all that are not recurrent.
    """
    if layer not in trace:
        raise ArgumentError(f"layer: the trace has {', '.join(trace)}, no {described(layer)}")
    one = trace[layer]
    if one.kind not in ("lstm", "conv_lstm", "gru"):
        why = "the state of a simple RNN is no sum over its past" if one.kind == "rnn" else "it has no gates"
        raise UnsupportedError(f"layer {layer!r} ({one.kind}): {why}; memory is for LSTM, ConvLSTM and GRU")
    if one.options.get("layer_norm") == "carried":
        raise UnsupportedError(
            f"layer {layer!r} normalises the cell that it carries, so that it is no sum over the past"
        )
    needed = ("z", "n", "h") if one.kind == "gru" else ("i", "f", "g", "o", "c", "h")
    missing = [part for part in needed if part not in one.parts]
    if missing:
        raise ArgumentError(
            f"layer {layer!r}: the trace has {', '.join(one.parts)}; memory needs {', '.join(missing)} too"
        )
    return _memory_of(one, step)


def _memory_of(one: LayerTrace, step: int) -> Memory:
    is_gru = one.kind == "gru"

    def wide(part: str) -> np.ndarray:
        array = np.asarray(one[part], np.float64)
        array = array if one.has_batch else array[np.newaxis]
        # from here on in the order of processing
        return array[:, ::-1] if one.options["reverse"] else array

    keep = wide("z" if is_gru else "f")
    time = keep.shape[1]
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not -time <= step < time:
        raise ArgumentError(f"step: expected one of {time} steps, found {described(step)}")
    default = step == -1
    step = int(step) % time
    last = step
    if one.options["reverse"]:
        last = time - 1 if default else time - 1 - step
        step = time - 1 - last
    counts = ~np.isnan(keep)
    entered = np.where(counts, (1.0 - keep) * wide("n") if is_gru else wide("i") * wide("g"), 0.0)
    logs = np.where(counts, _log_of(one, "z" if is_gru else "f", keep, wide), 0.0)
    states = wide("h" if is_gru else "c")
    # the last state up to each step: masked ones leave it as it was
    state = _last_counted(states, counts, last)
    log_left = np.full(keep.shape, -np.inf)
    log_left[:, last] = 0.0
    for t in range(last - 1, -1, -1):
        log_left[:, t] = log_left[:, t + 1] + logs[:, t + 1]
    left = np.exp(log_left)
    contributions = left * entered
    initial = np.zeros_like(state)
    if not one.is_from_zero:
        # the first step that counts: c[0] = (c[1] - i[1] g[1]) / f[1], of which f[1] is multiplied again
        first = np.argmax(counts, axis=1)[:, np.newaxis]
        at_first = np.take_along_axis(left, first, 1) * (
            np.take_along_axis(states, first, 1) - np.take_along_axis(entered, first, 1)
        )
        initial = np.where(counts.any(axis=1), at_first[:, 0], np.nan)
    residual = state - initial - contributions.sum(axis=1)
    found: dict[str, np.ndarray | None] = {
        "left": left, "log_left": log_left, "contributions": contributions, "initial": initial, "residual": residual,
        "state": state,
    }  # fmt: skip
    with np.errstate(invalid="ignore"):
        found["mean_log_gate"] = logs[:, : last + 1].sum(axis=1) / counts[:, : last + 1].sum(axis=1)
    partial = initial[:, np.newaxis] + np.cumsum(contributions, axis=1)
    found |= _output_of(one, contributions, initial, residual, partial, wide, counts, last)

    def as_given(name: str, array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        has_time = name in ("left", "log_left", "contributions", "output")
        array = array[:, ::-1] if has_time and one.options["reverse"] else array
        return array if one.has_batch else array[0]

    arrays = {name: as_given(name, array) for name, array in found.items()}
    return Memory(one.name, step, reverse=bool(one.options["reverse"]), has_batch=one.has_batch, **arrays)


def _last_counted(array: np.ndarray, counts: np.ndarray, last: int) -> np.ndarray:
    """Of each row and unit the number at the last step up to `last` that counts; 0 where none does."""
    before = counts[:, : last + 1]
    place = last - np.argmax(before[:, ::-1], axis=1)[:, np.newaxis]
    return np.where(before.any(axis=1), np.take_along_axis(array, place, 1)[:, 0], 0.0)


def _log_of(one: LayerTrace, part: str, gate: np.ndarray, wide: Callable[[str], np.ndarray]) -> np.ndarray:
    """The logarithm of a gate, from what goes into its sigmoid where that is known."""
    if (gate < 0.0).any():
        raise UnsupportedError(
            f"layer {one.name!r}: the gate {part} is below 0 at some step, so that what is left is no part of what "
            "entered"
        )
    with np.errstate(divide="ignore"):
        logs = np.asarray(np.log(gate))
    name = f"{part}_pre"
    is_sigmoid = one.options["recurrent_activation"] == "sigmoid" and not one.options.get("gate_clip")
    if name in one.parts and is_sigmoid:
        pre = wide(name)
        logs = np.where(np.isnan(pre), logs, -np.logaddexp(0.0, -np.nan_to_num(pre)))
    return logs


def _output_of(
    one: LayerTrace,
    contributions: np.ndarray,
    initial: np.ndarray,
    residual: np.ndarray,
    partial: np.ndarray,
    wide: Callable[[str], np.ndarray],
    counts: np.ndarray,
    last: int,
) -> dict[str, np.ndarray | None]:
    """What each step contributed to the output, by telescoping over the partial sums of the cell, `partial`."""
    if one.kind == "gru":
        return {"output": contributions, "output_initial": initial, "output_residual": residual}
    shows = _SHOWN.get(str(one.options["output_activation" if one.kind == "lstm" else "activation"]))
    h = wide("h")
    if shows is None or h.shape[2:] != partial.shape[2:] or one.options.get("layer_norm"):
        return {"output": None, "output_initial": None, "output_residual": None}
    gate = _last_counted(wide("o"), counts, last)
    shown = shows(np.concatenate([initial[:, np.newaxis], partial], axis=1))
    to_output = gate[:, np.newaxis] * np.diff(shown, axis=1)
    of_initial = gate * shown[:, 0]
    rest = _last_counted(h, counts, last) - of_initial - to_output.sum(axis=1)
    return {"output": to_output, "output_initial": of_initial, "output_residual": rest}


#: activations through which an LSTM shows its cell
_SHOWN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
}
