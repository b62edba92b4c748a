"""What a peer is: one engine that runs one LSTM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Cell:
    """A network to measure: stacked recurrent layers, nothing else.

    Attributes
    ----------
    input_size, hidden_size, layers : int
    tensors : dict of str to ndarray of float32
        ``weight_ih_l0`` (G*hidden, input), ``weight_hh_l0`` (G*hidden, hidden), ``bias_ih_l0``, ``bias_hh_l0``
        (G*hidden,), ``weight_ih_l1``, ...: PyTorch's names, its two biases, and its order of the G gates: i, f, g, o
        of an LSTM, r, z, n of a GRU.
    kind : {"lstm", "gru", "rnn"}
    bidirectional : bool
        Then there are also ``weight_ih_l0_reverse``, ...
    """

    input_size: int
    hidden_size: int
    layers: int
    tensors: dict[str, np.ndarray]
    kind: str = "lstm"
    bidirectional: bool = False

    @property
    def states(self) -> int:
        """State arrays of a layer."""
        return 2 if self.kind == "lstm" else 1

    def layer(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``weight_ih, weight_hh, bias_ih, bias_hh`` of layer `k`."""
        return tuple(self.tensors[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


class Peer(ABC):
    """One engine with one cell, one batch and one number of threads.

    `step` and `sequence` may be instance attributes bound to the engine's own callable: a Python frame in between
    would cost as much as a small step. They take what `step_input` and `sequence_input` give and return the engine's
    own kind of array, which `result` turns into NumPy's for the check. Neither conversion is timed: each engine gets
    and gives arrays as it likes them. But the values of a step are new at every call, as in use; bringing them where
    the engine reads them belongs to its call.

    Attributes
    ----------
    name : str
        The column's title.
    modes : tuple of str
        Which of "step" and "sequence" it measures.
    kinds : tuple of str
        Which kinds of `Cell` its adapter knows.
    dtype : str
        Of its arithmetic, or of its weights where they take fewer bytes; "fastest peer" is of those with float32.
    is_ours : bool
        CyLSTM itself: measured beside the peers, never one that a ratio is taken with.
    ratio_title : str or None
        For one of ours: the title of the column with its ratio to the fastest peer.
    beside : str or None
        Name of the engine that this one is a variant of; a column has how many times longer that takes.
    tolerance : float
        Largest difference from the float64 reference at which it is still timed.
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[str, ...]] = ("step", "sequence")
    kinds: ClassVar[tuple[str, ...]] = ("lstm",)
    dtype: ClassVar[str] = "float32"
    is_ours: ClassVar[bool] = False
    ratio_title: ClassVar[str | None] = None
    beside: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-4

    step: Callable[[Any], Any]
    sequence: Callable[[Any], Any]

    @abstractmethod
    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        """Build the network; `NotImplementedError` if the engine cannot run this one."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Of the engine. Raises `ImportError` if it cannot be used here."""

    @abstractmethod
    def reset(self) -> None:
        """Set the state that steps carry on to zero."""

    def step_input(self, x: np.ndarray) -> Any:
        """x (batch, input) of one step as the engine takes it."""
        return x

    def sequence_input(self, x: np.ndarray) -> Any:
        """x (batch, time, input) as the engine takes it."""
        return x

    def result(self, y: Any) -> np.ndarray:
        """What `step` or `sequence` returned as (batch, hidden) or (batch, time, hidden); a copy."""
        return np.array(y)

    def repeat_step(self, inputs: list) -> None:
        """Steps over all the inputs; this is what is timed."""
        step = self.step
        for x in inputs:
            step(x)

    def repeat_sequence(self, inputs: list) -> None:
        """Sequences over all the inputs; this is what is timed."""
        sequence = self.sequence
        for x in inputs:
            sequence(x)

    def running(self) -> AbstractContextManager:
        """Entered around every round, outside the timing."""
        return nullcontext()
