"""What a model gives where some groups of its input are there and the others at a baseline: many such inputs at once.

A recurrent network that has read the same steps is in the same state. Where a model streams, inputs that agree in their
first steps are computed together up to the step at which they part, and its states are copied there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from cylstm.arguments import check_flag, check_threads
from cylstm.array_like import to_array
from cylstm.engine.threads import available_threads
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.explain.attribution import Attribution
from cylstm.explain.groups import Groups, baseline_of, groups_of
from cylstm.inputs import as_input, as_masks, as_state
from cylstm.packing import PackedModel

if TYPE_CHECKING:
    from cylstm.model import Model
    from cylstm.stream import Stream

#: the most rows of a batch, and numbers of its inputs
_MOST_ROWS, _MOST_NUMBERS = 4096, 1 << 22
#: beginnings are shared where at most this part of the steps is left to compute, and so much work is saved for each
#: time that states are copied (as `PackedModel.work` counts it; measured)
_WORTH, _WORK_SAVED = 0.4, 1.5e7
_GIVEN = ("lengths", "mask", "initial_state", "threads")


class Explained:
    """A model or a function of a batch, its input, and which of its outputs are to be explained.

    Attributes
    ----------
    x : ndarray
        (batch, ...)
    has_batch : bool
        Whether the input came with a batch axis.
    has_time, has_features : bool
        Whether the first axis of a sample is time, and the last one features.
    shape : tuple of int
        Of the explained outputs of one row, once something was computed.
    evaluations : int
        Of how many inputs an output was computed so far.
    """

    def __init__(
        self,
        model: Model | Callable[[np.ndarray], Any],
        x: Any,
        output: Any,
        *,
        rows: int | None,
        share: bool,
        given: Mapping[str, Any],
    ) -> None:
        unknown = set(given) - set(_GIVEN)
        if unknown:
            raise ArgumentError(f"no argument {sorted(unknown)[0]!r}; of a model there are {', '.join(_GIVEN)}")
        self._given = {name: value for name, value in given.items() if value is not None}
        self._model: Model | None = cast("Model", model) if is_model(model) else None
        self._output = output
        self.evaluations = 0
        self.shape: tuple[int, ...] = ()
        if self._model is not None:
            self.x, self.has_batch = self._read(self._model, x)
            value = self._model.graph.values[self._model.inputs[0]]
            self.has_time, self.has_features = value.has_time, bool(value.step_shape)
            self._function: Callable[[np.ndarray], Any] = self._model.predict
        else:
            if not callable(model):
                raise ArgumentError(f"model: expected a Model or a function of a batch, found {described(model)}")
            if self._given:
                raise ArgumentError(f"{sorted(self._given)[0]}: is for a Model; a function has it inside")
            self.x, self.has_batch = _rows_of(x), True
            self.has_time, self.has_features = self.x.ndim > 2, True
            self._function = model
        self._rows = _rows_limit(rows, self.x)
        self._share = check_flag("share", share)

    def _read(self, model: Model, x: Any) -> tuple[np.ndarray, bool]:
        packed = model._packed
        if len(model.inputs) > 1:
            raise UnsupportedError(
                f"model: the network has the inputs {', '.join(model.inputs)}; explain a function of one of them, such "
                "as lambda a: model.predict([a, others])"
            )
        value = packed.inputs[0]
        if value.name in packed.layouts:
            raise UnsupportedError(
                f"input {value.name!r} has its time or features elsewhere than first and last; explain model.predict"
            )
        if isinstance(x, Mapping):
            raise ShapeError(f"x: expected an array, found {described(x)}")
        array, is_alone = as_input(x, value, packed.dtype)
        lengths, mask = self._given.pop("lengths", None), self._given.pop("mask", None)
        flags = as_masks(packed, [array], is_alone, lengths, mask)[0]
        if flags is not None:
            self._given["mask"] = flags.astype(bool)
        if "initial_state" in self._given:
            flat = iter(as_state(self._given["initial_state"], packed.state_groups, len(array), packed.dtype))
            self._given["initial_state"] = [[next(flat) for _ in shapes] for _, shapes in packed.state_groups]
        return array, not is_alone

    def _given_of(self, rows: np.ndarray) -> dict[str, Any]:
        """What is given about the rows of x, for inputs that are made of these."""
        found = dict(self._given)
        if "mask" in found:
            found["mask"] = found["mask"][rows]
        if "initial_state" in found:
            found["initial_state"] = [tuple(part[rows] for part in parts) for parts in found["initial_state"]]
        return found

    def divided(self, groups: Any, baseline: Any) -> tuple[Groups, np.ndarray]:
        """The groups and the baseline that a user asks for, as `groups_of` and `baseline_of` give them."""
        found = groups_of(groups, self.x.shape[1:], has_time=self.has_time, has_features=self.has_features)
        return found, baseline_of(baseline, self.x)

    def result(
        self, method: str, groups: Groups, values: np.ndarray, error: np.ndarray, ends: np.ndarray, pruned: int = 0
    ) -> Attribution:
        """What a user gets, of values and errors (batch, groups, outputs), and of the predictions without any group and
        with all, (batch, 2, outputs).
        """
        arrays = {
            "values": values.reshape(*values.shape[:2], *self.shape),
            "error": error.reshape(*error.shape[:2], *self.shape),
            "base_value": ends[:, 0].reshape(-1, *self.shape),
            "prediction": ends[:, 1].reshape(-1, *self.shape),
        }
        if not self.has_batch:
            arrays = {name: array[0] for name, array in arrays.items()}
        return Attribution(
            method,
            groups.names,
            groups.owner,
            **arrays,
            evaluations=self.evaluations,
            pruned=pruned,
            has_batch=self.has_batch,
        )

    def _predict(self, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The explained outputs, flat and in float64 (inputs, outputs), of inputs made of these rows of x."""
        self.evaluations += len(inputs)
        given = self._given_of(rows) if self._given else {}
        return self._chosen(self._function(inputs, **given), len(inputs))

    def _chosen(self, outputs: Any, count: int) -> np.ndarray:
        """Of all outputs those that are explained, flat: (inputs, outputs)."""
        names = () if self._model is None else self._model.outputs
        chosen = np.asarray(choose_output(outputs, self._output, names, count), np.float64)
        self.shape = chosen.shape[1:]
        return chosen.reshape(count, -1)

    def of(self, groups: Groups, baseline: np.ndarray, present: np.ndarray) -> np.ndarray:
        """The explained outputs, (batch, coalitions, outputs), averaged over the rows of a background.

        Parameters
        ----------
        baseline : ndarray
            As `baseline_of` gives it.
        present : ndarray of bool
            (coalitions, groups), each once: those that are there; the others are at the baseline.
        """
        is_whole = present.all(axis=1)
        if is_whole.any() and baseline.shape[1] > 1:
            # of the input itself no background is needed
            whole = self.of(groups, baseline[:, :1], present[is_whole])
            found = np.empty((len(self.x), len(present), whole.shape[2]))
            found[:, is_whole] = whole
            if not is_whole.all():
                found[:, ~is_whole] = self.of(groups, baseline, present[~is_whole])
            return found
        # the last column is of what is in no group
        there = np.concatenate([present, np.ones((len(present), 1), bool)], axis=1)
        levels = _levels(groups, present) if self._streams() else []
        batch, count, backgrounds = len(self.x), len(present), baseline.shape[1]
        if levels:
            assert self._model is not None
            steps = len(present) * self.x.shape[1]
            computed = sum((level.stop - level.start) * len(level.examples) for level in levels)
            saved = (steps - computed) * len(self.x) * baseline.shape[1] * self._model._packed.work
            if computed <= _WORTH * steps and saved >= _WORK_SAVED * len(levels):
                return self._in_stream(groups, baseline, there, levels)
        sums: np.ndarray | None = None
        for first in range(0, batch * count * backgrounds, self._rows):
            places = np.arange(first, min(first + self._rows, batch * count * backgrounds))
            row, coalition, of_background = np.unravel_index(places, (batch, count, backgrounds))
            keeps = there[coalition][:, groups.owner]
            inputs = np.where(keeps, self.x[row], baseline[row if len(baseline) > 1 else 0, of_background])
            outputs = self._predict(inputs, row)
            sums = np.zeros((batch * count, outputs.shape[1])) if sums is None else sums
            np.add.at(sums, places // backgrounds, outputs)
        assert sums is not None
        return np.asarray(sums / backgrounds).reshape(batch, count, -1)

    def _streams(self) -> bool:
        """Whether a stream computes what `predict` does, and its states can be copied."""
        model = self._model
        if model is None or not self._share or set(self._given) - {"threads"}:
            return False
        packed = model._packed
        outputs = [model.graph.values[name] for name in model.outputs]
        is_plain = not packed.layouts and not packed.warms_up and packed.carried is None and packed.step_multiple == 1
        keeps_time = all(value.axis is None or not value.axis.rules for value in outputs)
        return is_plain and keeps_time and self.has_time and model.can_stream

    def _in_stream(
        self, groups: Groups, baseline: np.ndarray, there: np.ndarray, levels: Sequence[_Level]
    ) -> np.ndarray:
        """As `of`, where inputs that agree in their first steps are computed together up to where they part."""
        model = self._model
        assert model is not None
        batch, count, backgrounds = len(self.x), len(there), baseline.shape[1]
        threads = self._given.get("threads")
        threads = available_threads() if threads is None else check_threads(threads)
        has_time = [model.graph.values[name].has_time for name in model.outputs]
        sums: np.ndarray | None = None
        # each: a level, the rows (of x and the background) and beginnings to go on with, and where their states are
        left = _pieces(_Piece(0, *_pairs(batch * backgrounds, levels[0]), None, None, []), self._rows)
        while left:
            at, root, node, stream, places, parts = left.pop()
            level = levels[at]
            row, of_background = np.divmod(root, backgrounds)
            steps = slice(level.start, level.stop)
            keeps = there[level.examples[node]][:, groups.owner[steps]]
            inputs = np.where(
                keeps, self.x[row, steps], baseline[row if len(baseline) > 1 else 0, of_background, steps]
            )
            if stream is None or places is None:
                stream = model.stream(len(root), threads=threads, window=None)
            else:
                stream = stream.copy(places)
                parts = [[earlier[places] for earlier in part] for part in parts]
            outputs = stream.run(inputs)
            news = outputs if isinstance(outputs, list) else [outputs]
            parts = [
                [*part, new] if timed else [new] for part, new, timed in zip(parts or [[]] * len(news), news, has_time)
            ]
            if at + 1 < len(levels):
                parents, children = _children(level, levels[at + 1], node)
                whole = _Piece(at + 1, root[parents], children, stream, parents, parts)
                left += _pieces(whole, self._rows)
                continue
            joined = [np.concatenate(part, axis=1) if len(part) > 1 else part[0] for part in parts]
            self.evaluations += len(root)
            chosen = self._chosen(joined if len(joined) > 1 else joined[0], len(root))
            sums = np.zeros((batch * count, chosen.shape[1])) if sums is None else sums
            # at the last level each beginning is a whole coalition
            np.add.at(sums, row * count + level.examples[node], chosen)
        assert sums is not None
        return np.asarray(sums / backgrounds).reshape(batch, count, -1)


class _Level(NamedTuple):
    """Steps in which no two inputs part: from `start` to before `stop`.

    Attributes
    ----------
    nodes : ndarray
        (coalitions,): which beginning each has, up to these steps.
    examples : ndarray
        (beginnings,): a coalition of each.
    """

    start: int
    stop: int
    nodes: np.ndarray
    examples: np.ndarray


class _Piece(NamedTuple):
    """Some of the beginnings of a level, and the stream and the rows there whose states they go on from."""

    level: int
    roots: np.ndarray
    nodes: np.ndarray
    stream: Stream | None
    places: np.ndarray | None
    #: of each output of the network its results so far
    parts: list[list[np.ndarray]]


def _levels(groups: Groups, present: np.ndarray) -> list[_Level]:
    """The steps between those at which coalitions part."""
    found: list[_Level] = []
    nodes, examples = np.zeros(len(present), np.int64), np.zeros(1, np.int64)
    count = 0
    for start, stop in groups.segments():
        inside = np.unique(groups.owner[start:stop])
        inside = inside[inside >= 0]
        for k in range(0, len(inside), 30):
            bits = present[:, inside[k : k + 30]]
            nodes = nodes << bits.shape[1] | bits @ (1 << np.arange(bits.shape[1]))
            _, examples, nodes = np.unique(nodes, return_index=True, return_inverse=True)
        if len(examples) == count:  # none part here
            found[-1] = found[-1]._replace(stop=stop)
            continue
        count = len(examples)
        found.append(_Level(start, stop, nodes, examples))
    return found


def _pairs(roots: int, level: _Level) -> tuple[np.ndarray, np.ndarray]:
    """Each root with each beginning of the first level."""
    count = len(level.examples)
    return np.repeat(np.arange(roots), count), np.tile(np.arange(count), roots)


def _children(level: _Level, following: _Level, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The beginnings at the following level that go on from `nodes`: the places of these, and they themselves."""
    parent = level.nodes[following.examples]
    order = np.argsort(parent, kind="stable")
    counts = np.bincount(parent, minlength=len(level.examples))
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    of_each = counts[nodes]
    parents = np.repeat(np.arange(len(nodes)), of_each)
    within = np.arange(len(parents)) - np.repeat(np.cumsum(of_each) - of_each, of_each)
    return parents, order[firsts[nodes][parents] + within]


def _pieces(piece: _Piece, rows: int) -> list[_Piece]:
    """The same in pieces of at most so many rows, the first one last."""
    return [
        piece._replace(
            roots=piece.roots[k : k + rows],
            nodes=piece.nodes[k : k + rows],
            places=None if piece.places is None else piece.places[k : k + rows],
        )
        for k in range(0, len(piece.roots), rows)
    ][::-1]


def is_model(model: object) -> bool:
    """Whether it is a `Model`, whose own methods import this folder."""
    return isinstance(getattr(model, "_packed", None), PackedModel)


def choose_output(outputs: Any, output: Any, names: Sequence[str], count: int) -> np.ndarray:
    """The outputs that are to be explained, (rows, ...).

    Parameters
    ----------
    outputs : ndarray or list of ndarray
        Of `count` rows.
    output : int, slice, tuple, str or callable, optional
        An index of one row's result, as NumPy takes it; of several outputs a name, or a tuple of a name and an index;
        or a function of the outputs.
    names : sequence of str
        Of the outputs of a network.

    Raises
    ------
    ArgumentError
        If there is no such output.
    ShapeError
        If a function gives something else than numbers for each row.
    """
    if callable(output):
        outputs, output = output(outputs), None
        names = ()
    name, index = None, output
    if isinstance(output, str):
        name, index = output, None
    elif isinstance(output, tuple) and output and isinstance(output[0], str):
        name, index = output[0], output[1:]
    if name is not None and name not in names:
        raise ArgumentError(f"output: expected one of {', '.join(names) or 'no names'}, found {name!r}")
    if isinstance(outputs, (list, tuple)) and len(names) > 1:
        if name is None:
            raise ArgumentError(
                f"output: the network has {', '.join(names)}; choose one by its name, or give a function of their list"
            )
        outputs = outputs[list(names).index(name)]
    try:
        array = np.asarray(outputs)
    except ValueError as error:
        raise ShapeError(f"outputs: expected numbers (rows, ...): {error}") from error
    if array.ndim < 1 or len(array) != count or array.dtype.kind not in "fiub":
        raise ShapeError(f"outputs: expected numbers for each of {count} rows, found {described(array)}")
    if index is None or index == ():
        return array
    key = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, (bool, np.bool_)) or not isinstance(part, (int, np.integer, slice)) for part in key):
        raise ArgumentError(
            f"output: expected an index of one row's result of shape {array.shape[1:]}, a name or a function, found "
            f"{described(output)}"
        )
    try:
        chosen = array[(slice(None), *key)]
    except IndexError:
        raise ArgumentError(
            f"output: one row's result has shape {array.shape[1:]}, which {described(output)} is not in"
        ) from None
    if not chosen.size:
        raise ArgumentError(f"output: {described(output)} chooses nothing of a result of shape {array.shape[1:]}")
    return np.asarray(chosen)


def _rows_of(x: Any) -> np.ndarray:
    """The input of a function: rows of real numbers, at least two axes, in float64 unless they are float32."""
    array = to_array(x, "x")
    if array.dtype.kind not in "fiub" or array.ndim < 2 or not array.size:
        raise ShapeError(f"x: for a function expected numbers (batch, ..., features), found {described(array)}")
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _rows_limit(rows: Any, x: np.ndarray) -> int:
    if rows is None:
        return max(1, min(_MOST_ROWS, _MOST_NUMBERS // math.prod(x.shape[1:])))
    if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 1:
        raise ArgumentError(f"rows: expected a number from 1 on, found {described(rows)}")
    return int(rows)
