"""Random networks that must give the same bits however they are run, and the numbers of float64 within the bound.

Each network (`tests.fuzz.networks.random_graph`) is predicted on every instruction set, on several threads, in parts
of its batch, in pieces, step by step, from plain, packed and mapped files, with steps that do not count, traced, and
with weights that were rounded before. The float64 engine, whose sums are a BLAS's, says how far the float32 numbers
are from the exact ones: no further than 1e-6 of their scale, more for long sums, 16 times the error of the same
float32 network on a BLAS, or what a change of the inputs and weights in their last bit makes of the exact numbers. A
BLAS adds a row in many parts where the engine, for the same bits everywhere, adds it in order, and its functions are
the C library's, which err by half an ulp and not by 2.5. Networks that jump (comparisons, rounding, extremes) have no
such bound, nor those that leave float32.

``python -m tests.fuzz differential --seconds N --seed S``; network n of seed S is always the same.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ShapeError
from cylstm.graph.graph import Graph

from tests.builders.networks import reloaded
from tests.fuzz import memory_folder
from tests.fuzz.networks import random_graph

#: kinds, and options of kinds, whose results jump or grow without bound
_JUMPS = {"topk", "where", "take_along", "number_mask", "masking"}
_JUMPING = {"less", "equal", "and", "mod", "atan2", "pow", "argmax", "any", "all", "sign", "floor", "ceil", "round",
            "trunc", "tan", "reciprocal", "rsqrt", "log", "log2", "log10", "log1p", "acosh", "atanh", "asin", "acos",
            "logical_not", "isnan", "isinf", "isfinite", "exp", "exp2", "expm1", "sinh", "cosh", "sqrt", "cbrt", "prod",
            "exponential", "norm"}  # fmt: skip
#: kinds that compute each step by itself or know which steps count
_TAKE_MASKS = {"lstm", "gru", "rnn", "conv_lstm", "dense", "activation", "function", "batch_norm", "embedding", "last",
               "merge", "prelu", "glu"}  # fmt: skip
_FACTOR = 16
#: how much larger than a BLAS's an error may be
_BLAS_FACTOR = 16
#: of a sum of so many products 1e-6 of the scale is allowed, of a longer one as much more as its root is larger
_SUM = 100
#: numbers beyond are no longer those of a network, and squares of them leave float32
_LARGEST = 1e15


class Difference(AssertionError):
    """Two ways to run one network give other numbers."""


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Models made here are of this set."""
    before = os.environ.get("CYLSTM_ISA")
    os.environ["CYLSTM_ISA"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["CYLSTM_ISA"]
        else:
            os.environ["CYLSTM_ISA"] = before


def _arrays(found: Any) -> list[np.ndarray]:
    """A prediction, or a prediction and its final state, as a flat list."""
    if isinstance(found, np.ndarray):
        return [found]
    return [array for part in found for array in _arrays(part)]


def _demand_same(expected: Any, found: Any, what: str) -> None:
    for i, (a, b) in enumerate(zip(_arrays(expected), _arrays(found), strict=True)):
        # the payload of NaN is no part of the promise
        is_same = (
            (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b)) if a.shape == b.shape else False
        )
        if not np.all(is_same):
            raise Difference(f"{what}: array {i} of shapes {a.shape} and {b.shape}")


class _Case:
    """One network, and what it is asked."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.graph = random_graph(rng)
        self.batch = int(rng.integers(1, 8))
        self.time = int(rng.integers(1, 24))
        self.inputs = [self._input(name) for name in self.graph.inputs]
        self.model = cylstm.Model(self.graph)
        self.state = [
            tuple(self._state_part(label, shape) for label, shape in parts) for _, parts in self.model.graph.states()
        ]

    def _input(self, name: str) -> np.ndarray:
        value = self.graph.values[name]
        shape = (self.batch, *(self.time if size is None else size for size in value.shape))
        if value.kind == "index":
            return self.rng.integers(0, 2, shape).astype(np.int32)
        return self.rng.normal(size=shape).astype(np.float32)

    def _state_part(self, label: str, shape: tuple[int, ...]) -> np.ndarray:
        if label == "steps":  # a count
            return self.rng.integers(0, 9, (self.batch, *shape)).astype(np.float32)
        return self.rng.uniform(-0.9, 0.9, (self.batch, *shape)).astype(np.float32)

    def predict(
        self, model: cylstm.Model, rows: slice = slice(None), steps: np.ndarray | None = None, **options: Any
    ) -> Any:
        inputs = [array[rows] if steps is None else array[rows, steps] for array in self.inputs]
        state = [tuple(array[rows] for array in parts) for parts in self.state]
        if self.state:
            options |= {"initial_state": state, "return_state": True}
        return model.predict(inputs if len(inputs) > 1 else inputs[0], **options)

    def check(self, folder: Path, *, with_files: bool) -> None:
        """Raise `Difference` if two ways to run it differ."""
        whole = self.predict(self.model)
        for name in isa_names():
            with instruction_set(name):
                model = cylstm.Model(self.graph)
            _demand_same(whole, self.predict(model, threads=int(self.rng.integers(1, 4))), name)
        half = slice(0, self.batch // 2 + 1)
        for rows, what in ((half, "half of the batch"), (slice(self.batch - 1, None), "the last row alone")):
            found = self.predict(self.model, rows, threads=int(self.rng.integers(1, 3)))
            _demand_same([array[rows] for array in _arrays(whole)], found, what)
        self._check_pieces(whole)
        self._check_masks()
        self._check_trace(whole)
        self._check_rounded(whole)
        if with_files:
            for model, what in zip(reloaded(self.model, folder), ("plain", "packed", "mapped", "packed, then plain")):
                _demand_same(whole, self.predict(model), f"a {what} file")
        self._check_bound()

    def _check_pieces(self, whole: Any) -> None:
        model, multiple = self.model, self.model._packed.step_multiple
        times = {
            array.shape[1] for name, array in zip(self.graph.inputs, self.inputs) if self.graph.values[name].has_time
        }
        if not model.can_stream or len(times) != 1 or len(times & {0}) or next(iter(times)) % multiple:
            return
        time = times.pop()
        values = [model.graph.values[name] for name in model.outputs]
        for most in (1, int(self.rng.integers(1, time + 1))):
            stream = model.stream(self.batch, threads=int(self.rng.integers(1, 3)))
            if self.state:
                if not _is_plain_state(stream.state, self.state):
                    return
                stream.state = self.state
            pieces: list[list[np.ndarray]] = []
            at = 0
            while at < time:
                steps = min(time - at, most * multiple)
                part = [
                    array[:, at : at + steps] if self.graph.values[name].has_time else array
                    for name, array in zip(self.graph.inputs, self.inputs)
                ]
                found = stream.run(part if len(part) > 1 else part[0])
                pieces.append(found if isinstance(found, list) else [found])
                at += steps
            outputs = _arrays(whole)[: len(values)]
            for i, value in enumerate(values):
                parts = [piece[i] for piece in pieces if piece[i] is not None]
                joined = np.concatenate(parts, axis=1) if value.axis is not None else pieces[-1][i]
                _demand_same([outputs[i]], [joined], f"pieces of {most * multiple} steps, output {i}")
            if self.state:
                _demand_same(_arrays(whole)[len(values) :], _arrays(stream.state), f"states after pieces of {most}")

    def _check_masks(self) -> None:
        """A row with steps that do not count gives what its other steps give alone."""
        (name, *others), layers = self.graph.inputs, self.graph.layers
        if others or not {layer.kind for layer in layers} <= _TAKE_MASKS:
            return
        if self.graph.values[name].shape[:1] != (None,) or not any("mask" in layer.inputs for layer in layers):
            return
        if self.rng.random() < 0.5:
            lengths = self.rng.integers(1, self.time + 1, self.batch)
            mask, options = np.arange(self.time) < lengths[:, None], {"lengths": lengths}
        else:
            mask = self.rng.random((self.batch, self.time)) < 0.6
            mask[np.arange(self.batch), self.rng.integers(0, self.time, self.batch)] = True
            options = {"mask": mask}
        found = _arrays(self.predict(self.model, threads=int(self.rng.integers(1, 3)), **options))
        has_time = [self.graph.values[name].has_time for name in self.model.outputs]
        has_time += [False] * (len(found) - len(has_time))
        for row, counts in enumerate(mask):
            steps = np.flatnonzero(counts)
            alone = self.predict(self.model, slice(row, row + 1), steps)
            parts = [
                part[row : row + 1, steps] if timed else part[row : row + 1] for part, timed in zip(found, has_time)
            ]
            _demand_same(alone, parts, f"{', '.join(options)}: row {row}")

    def _check_trace(self, whole: Any) -> None:
        """What is traced leaves the outputs as they are."""
        inputs = self.inputs if len(self.inputs) > 1 else self.inputs[0]
        options = {"initial_state": self.state} if self.state else {}
        if any(layer.kind in ("lstm", "gru", "rnn") for layer in self.graph.layers):
            outputs = self.model.trace(inputs, threads=int(self.rng.integers(1, 3)), **options).outputs
            _demand_same(_arrays(whole)[: len(self.model.outputs)], outputs, "a trace")

    def _check_rounded(self, whole: Any) -> None:
        """Weights of two bytes give the bits of float32 weights that were rounded before."""
        types = self.graph.weight_types
        if types and not any(name.startswith("int8") for name in types.values()):
            rounded = self.model.graph
            tensors = {name: np.asarray(rounded.tensors[name]) for name in rounded.tensors}
            model = cylstm.Model(rounded._replace(tensors=tensors, weight_types={}))
            _demand_same(whole, self.predict(model), "weights rounded before")

    def _check_bound(self) -> None:
        layers = self.graph.layers
        if self.graph.weight_types or any(_jumps(layer) for layer in layers):
            return
        exact = _arrays(self.predict(_double(self.graph)))
        if not all(np.all(np.abs(truth) < _LARGEST) for truth in exact):
            return
        plain = _arrays(self.predict(cylstm.Model(self.graph, engine="blas")))
        if not all(np.all(np.isfinite(found)) for found in plain):
            return
        longest = max([math.prod(tensor.shape[1:]) for tensor in self.graph.tensors.values()], default=1)
        moved = [self._moved() for _ in range(3)]
        for i, (truth, found) in enumerate(zip(exact, _arrays(self.predict(self.model)), strict=True)):
            scale = max(1.0, float(np.abs(truth).max(initial=0.0)))
            allowed = max(
                1e-6 * scale * max(1.0, math.sqrt(longest / _SUM)),
                _BLAS_FACTOR * float(np.abs(plain[i] - truth).max(initial=0.0)),
                _FACTOR * max(float(np.abs(other[i] - truth).max(initial=0.0)) for other in moved),
            )
            error = float(np.abs(found - truth).max(initial=0.0))
            if not error <= allowed:
                raise Difference(f"array {i} is {error:.3g} from the exact numbers, {allowed:.3g} are allowed")

    def _moved(self) -> list[np.ndarray]:
        """The exact numbers of inputs and weights that differ in the last bit of float32."""

        def move(array: np.ndarray) -> np.ndarray:
            wide = np.asarray(array, np.float64)
            return wide * (1 + self.rng.uniform(-(2.0**-24), 2.0**-24, wide.shape))

        tensors = {}
        for layer in self.graph.layers:
            for role, name in layer.weights.items():
                array = np.asarray(self.graph.tensors[name], np.float64)
                tensors[name] = array if role == "indices" else move(array)
        model = cylstm.Model(self.graph._replace(tensors=tensors), dtype="float64")
        kept = self.inputs
        self.inputs = [array if array.dtype == np.int32 else move(array) for array in kept]
        try:
            return _arrays(self.predict(model))
        finally:
            self.inputs = kept


def _is_plain_state(found: Any, expected: Any) -> bool:
    """Whether a stream's state is the layers' own alone; windows over time keep more."""
    return [array.shape for array in _arrays(found)] == [array.shape for array in _arrays(expected)]


def _jumps(layer: Any) -> bool:
    return layer.kind in _JUMPS or not _JUMPING.isdisjoint(str(option) for option in layer.options.values())


def _double(graph: Graph) -> cylstm.Model:
    return cylstm.Model(graph, dtype="float64")


def case_of(seed: int, number: int) -> _Case:
    """Network `number` of a seed."""
    return _Case(np.random.default_rng([seed, number]))


@contextmanager
def _no_complaints() -> Iterator[None]:
    """A BLAS that refuses a call computes nothing, and says so on the terminal alone: raises `Difference`."""
    # what C has written and not yet handed on belongs to what was before
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            flush(None)
            for descriptor, before in zip((1, 2), kept):
                os.dup2(before, descriptor)
                os.close(before)
        file.seek(0)
        if said := file.read().decode("utf-8", "replace").strip():
            raise Difference(f"a library says: {said:.300}")


def run(seconds: float, seed: int, most: int | None = None) -> tuple[int, int]:
    """Check networks until the time is over; how many, and how many of them differ."""
    folder = Path(tempfile.mkdtemp(prefix="cylstm-fuzz-", dir=memory_folder()))
    until = time.monotonic() + seconds
    number = finds = 0
    try:
        while time.monotonic() < until and (most is None or number < most):
            try:
                with _no_complaints():
                    case_of(seed, number).check(folder, with_files=number % 8 == 0)
            except ShapeError as error:
                # of what a network may say when it is run: too few steps for a window
                if "steps" not in str(error):
                    finds += _tell(seed, number)
            except Exception:
                finds += _tell(seed, number)
            number += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{number:,} networks of seed {seed}, {finds} differ")
    return number, finds


def _tell(seed: int, number: int) -> int:
    print(f"FIND  network {number} of seed {seed}:\n{traceback.format_exc(limit=-3)}", file=sys.stderr, flush=True)
    return 1
