"""Predictions for the rows of a block: of an array, of a frame of pandas or of a table of Arrow."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.arguments import check_count, check_threads
from cylstm.cli.tables.results import outputs_of
from cylstm.distributed.arrow_columns import Cells
from cylstm.distributed.blocks import ArrowTable, Block, Frame
from cylstm.distributed.place import at
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.graph.names import feature_names, target_names

if TYPE_CHECKING:
    from cylstm.graph.values import Value
    from cylstm.model import Model


class InputColumns(NamedTuple):
    """Which columns of a table one input of the network reads.

    Attributes
    ----------
    value : Value
        The input.
    read : list
        Those of the features in their order, or the one whose cells are samples.
    are_cells : bool
        Whether it is the latter.
    lengths : object
        The column that says how many steps of each row count, or None.
    mask : object
        The column whose cells say which steps count, or None.
    """

    value: Value
    read: list[Any]
    are_cells: bool
    lengths: Any
    mask: Any

    @property
    def further(self) -> list[Any]:
        """The columns beside those of the numbers."""
        return [name for name in (self.lengths, self.mask) if name is not None]


class Columns(NamedTuple):
    """Which columns of a table are read, kept and made.

    Attributes
    ----------
    inputs : list of InputColumns
        In the order of the network's inputs.
    kept : list
        Those that the result has too, before the predictions.
    made : list of str
        The predictions.
    """

    inputs: list[InputColumns]
    kept: list[Any]
    made: list[str]


class Request(NamedTuple):
    """What a user asks for, of a table: the arguments of `predict_table`."""

    columns: Any = None
    time: Any = None
    keep: Any = None
    names: Any = None
    threads: int = 1
    lengths: Any = None
    mask: Any = None

    def checked(self, model: Model) -> Request:
        """Itself, for this network.

        Raises
        ------
        ArgumentError
            If an argument has a value that it cannot have.
        UnsupportedError
            If the axes of an input lie otherwise.
        """
        for name, given in (("keep", self.keep), ("names", self.names)):
            if given is not None and not isinstance(given, (list, tuple)):
                raise ArgumentError(f"{name}: expected a list of names, found {described(given)}")
        check_threads(self.threads)
        values = _inputs_of(model)
        for argument in ("columns", "time", "lengths", "mask"):
            given = getattr(self, argument)
            if isinstance(given, Mapping):
                check_inputs(argument, given, [*values], all_of_them=argument == "columns")
        if len(values) > 1 and not isinstance(self.columns, Mapping):
            raise ArgumentError(
                f"columns: the network has {len(values)} inputs; expected a dict of {', '.join(map(repr, values))}, "
                'each with the name of one column whose cells are samples ("x"), or with the list of its features '
                f'(["a", "b"]), found {described(self.columns)}'
            )
        if self.lengths is not None and self.mask is not None:
            raise ArgumentError("give lengths or mask, not both")
        for argument in ("lengths", "mask"):
            self._check_steps_that_count(argument, values)
        for value in values.values():
            self._check_input(model, value)
        self.made(model)
        return self

    def _check_steps_that_count(self, argument: str, values: Mapping[str, Value]) -> None:
        given = getattr(self, argument)
        if given is None:
            return
        masked = [name for name, value in values.items() if value.mask is not None]
        if not masked:
            raise ArgumentError(f"{argument}: no layer of the network reads which steps of an input count")
        if not isinstance(given, Mapping) and len(masked) > 1:
            raise ArgumentError(
                f"{argument}: the network has {len(masked)} sequences; expected a dict by input ({', '.join(masked)})"
            )
        for name, one in given.items() if isinstance(given, Mapping) else [(masked[0], given)]:
            if name not in masked:
                raise ArgumentError(f"{argument}: no layer reads which steps of the input {name!r} count")
            if one is None or isinstance(one, (list, tuple, dict, np.ndarray)):
                raise ArgumentError(f"{argument}: expected the name of one column, found {described(one)}")

    def _check_input(self, model: Model, value: Value) -> None:
        given, where = self._columns_of(value), f" of {value.name!r}" if len(model.inputs) > 1 else ""
        are_cells = isinstance(given, str)
        if value.name in model.graph.layouts and not are_cells:
            raise UnsupportedError(
                f"input {value.name!r}: its axes lie as {model.input_shapes[value.name]}; give columns= the "
                "name of one column whose cells are such arrays"
            )
        if given is not None and not are_cells and not isinstance(given, (list, tuple)):
            raise ArgumentError(f"columns{where}: expected a list of names, found {described(given)}")
        time = self._time_of(value)
        if time is not None:
            if not value.has_time:
                whose = "this input" if where else "the network"
                raise ArgumentError(f"time{where}: expected None, because {whose} has no time")
            if are_cells:
                raise ArgumentError(f"time{where}: expected None, because cells that are samples have their steps")
            if value.shape[0] not in (None, check_count("time", time)):
                raise ArgumentError(f"time{where}: the network takes {value.shape[0]} steps, found {time}")
        elif value.has_time and value.shape[0] is None and not are_cells:
            raise ArgumentError(
                f"time{where}: each row of the table is one sample; expected how many steps a row has, one after the "
                "other (time=1 for sequences of one step), or columns= the name of one column whose cells are samples"
            )

    def _columns_of(self, value: Value) -> Any:
        return self.columns[value.name] if isinstance(self.columns, Mapping) else self.columns

    def _time_of(self, value: Value) -> Any:
        """How many steps its columns have, if that is said."""
        if isinstance(self.time, Mapping):
            return self.time.get(value.name)
        # one number for several inputs is that of those which need one
        if isinstance(self.columns, Mapping) and (not value.has_time or isinstance(self._columns_of(value), str)):
            return None
        return self.time

    def _steps_that_count(self, value: Value, given: Any) -> Any:
        """What `lengths` or `mask`, which is `given`, says of this input."""
        if isinstance(given, Mapping):
            return given.get(value.name)
        return given if value.mask is not None else None

    def made(self, model: Model) -> list[str]:
        """The names of the columns of predictions: an output at each step is one column, whose cells are arrays."""
        found: list[str] = []
        for output in outputs_of(model, True, target_names(model.graph)):
            found += [output.value.name] if output.value.has_time else output.names
        if self.names is None:
            return found
        names = [str(name) for name in self.names]
        if len(names) != len(found) or len(set(names)) != len(names):
            raise ArgumentError(
                f"names: expected {len(found)} different ones, for {', '.join(found)}, found {', '.join(names)}"
            )
        return names

    def of_table(self, model: Model, found: Sequence[Any]) -> Columns:
        """Which columns these are, of a table that has `found`.

        Raises
        ------
        ArgumentError
            If one is missing or there twice, or the result would have two of one name.
        """
        counts = Counter(found)
        inputs = [self._input_columns(model, value, counts) for value in _inputs_of(model).values()]
        others = counts.keys() - {name for one in inputs for name in (*one.read, *one.further)}
        kept = [name for name in found if name in others] if self.keep is None else list(self.keep)
        _check_once("keep: ", kept, counts)
        made = self.made(model)
        for name in kept:
            if name in made:
                raise ArgumentError(
                    f"the table has a column {described(name)} already, as the predictions would be called; names= "
                    "gives them other names, or keep= says which columns stay"
                )
        return Columns(inputs, kept, made)

    def _input_columns(self, model: Model, value: Value, counts: Counter[Any]) -> InputColumns:
        given, what = self._columns_of(value), f"input {value.name!r}: " if len(model.inputs) > 1 else ""
        are_cells = isinstance(given, str)
        if are_cells:
            read = [given]
        elif given is not None:
            read = list(given)
        else:
            # the names are those of one step
            names = None if value.has_time and self._steps(value) != 1 else feature_names(model.graph)
            others = {self._steps_that_count(value, self.lengths), self._steps_that_count(value, self.mask)}
            read = [name for name in counts if name not in others] if names is None else list(names)
        _check_once(what, read, counts)
        if not are_cells:
            per_step, steps = math.prod(value.step_shape), self._steps(value)
            if len(read) != per_step * steps:
                times = f"{steps} steps of {per_step} features, one after the other" if value.has_time else "features"
                raise ArgumentError(
                    f"{what}expected {per_step * steps} columns, the {times}, found {len(read)} ({_listed(read)}); "
                    "columns= says which" + (", time= how many steps a row has" if value.has_time else "")
                )
        lengths, mask = self._steps_that_count(value, self.lengths), self._steps_that_count(value, self.mask)
        columns = InputColumns(value, read, are_cells, lengths, mask)
        _check_once("lengths: " if mask is None else "mask: ", columns.further, counts)
        return columns

    def _steps(self, value: Value) -> int:
        return (self._time_of(value) or value.shape[0] or 1) if value.has_time else 1

    def predict_frame(self, model: Model, frame: Any) -> Any:
        """A frame of pandas with the index of this one."""
        return self._predict(model, Frame(frame))

    def predict_arrow(self, model: Model, table: Any) -> Any:
        """A table of Arrow."""
        return self._predict(model, ArrowTable(table))

    def _predict(self, model: Model, block: Block) -> Any:
        columns = self.of_table(model, block.names)
        outputs = outputs_of(model, True, None)
        if not block.rows and any(one.are_cells for one in columns.inputs):  # cells without a shape
            found: list[Cells] = [
                np.empty((0, *(1,) * output.value.has_time, len(output.names)), model.dtype) for output in outputs
            ]
        else:
            arguments = self._arguments(block, columns)
            groups = [np.arange(block.rows)] if arguments.are_alike else arguments.groups()
            parts = []
            for rows in groups:
                given = arguments if len(groups) == 1 else arguments.of(rows)
                with contextlib.nullcontext() if len(groups) == 1 else at(_place(rows, given)):
                    results = predict_rows(model, given.inputs, self.threads, given.lengths or None, given.mask or None)
                parts.append([output.rows(array) for output, array in zip(outputs, results)])
            found = [_in_order(groups, [part[k] for part in parts]) for k in range(len(outputs))]
        made: list[Cells] = []
        for output, y in zip(outputs, found):
            # of outputs without time all rows are alike
            made += [y] if output.value.has_time else [np.ascontiguousarray(one) for one in np.asarray(y).T]
        return block.result(columns.kept, list(zip(columns.made, made)))

    def _arguments(self, block: Block, columns: Columns) -> Arguments:
        found = Arguments([], {}, {}, {})
        for one in columns.inputs:
            value, what = one.value, f"the column {described(one.read[0])}"
            if one.are_cells:
                found.inputs.append(block.cells(one.read[0], what))
            else:
                steps = (self._steps(value),) if value.has_time else ()
                found.inputs.append(block.numbers(one.read).reshape(block.rows, *steps, *value.step_shape))
            for name in one.further:
                found.names[value.name] = f"the column {described(name)}"
                if one.mask is None:
                    found.lengths[value.name] = block.numbers([name])[:, 0]
                else:
                    found.mask[value.name] = block.cells(name, found.names[value.name])
        found.check([one.value.name for one in columns.inputs])
        return found


class Arguments(NamedTuple):
    """What `Model.predict` takes, of some rows.

    Attributes
    ----------
    inputs : list
        (rows, ...) of each input, or of each row an array where their shapes differ.
    lengths, mask : dict
        Of each input that has them, likewise.
    names : dict of str to str
        What lengths and masks are called in messages.
    """

    inputs: list[Cells]
    lengths: dict[str, np.ndarray]
    mask: dict[str, Cells]
    names: dict[str, str]

    @property
    def are_alike(self) -> bool:
        """Whether the arrays of all rows have one shape."""
        return all(isinstance(array, np.ndarray) for array in self.inputs)

    def groups(self) -> list[np.ndarray]:
        """The rows whose arrays have the same shapes, which are predicted as one batch: nothing is padded."""
        found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for row, arrays in enumerate(zip(*self.inputs)):
            found.setdefault(tuple(np.shape(array) for array in arrays), []).append(row)
        return [np.array(rows) for rows in found.values()]

    def of(self, rows: np.ndarray) -> Arguments:
        """Those of some rows, whose arrays have the same shapes."""
        return Arguments(
            [_rows_of(array, rows) for array in self.inputs],
            {name: array[rows] for name, array in self.lengths.items()},
            {name: _rows_of(array, rows) for name, array in self.mask.items()},
            self.names,
        )

    def check(self, inputs: Sequence[str]) -> None:
        """Raise `ShapeError` about lengths and masks that do not fit the inputs of these names."""
        for name, array in zip(inputs, self.inputs):
            if name in self.lengths:
                lengths, what = self.lengths[name], self.names[name]
                if lengths.dtype.kind not in "iu":
                    raise ShapeError(f"{what}: expected lengths, whole numbers, found {lengths.dtype}")
                steps = _steps_of(array)
                for wrong in np.flatnonzero((lengths < 1) | (lengths > steps)):
                    raise ShapeError(
                        f"{what}: expected a length of 1 to {steps[wrong]} in row {wrong}, found {lengths[wrong]}"
                    )
            if name in self.mask:
                for row, (cell, time) in enumerate(zip(self.mask[name], _steps_of(array))):
                    if cell.dtype != np.bool_ or cell.shape != (time,):
                        raise ShapeError(
                            f"{self.names[name]}: expected {time} bools in row {row}, found {cell.dtype} of shape "
                            f"{cell.shape}"
                        )


def _steps_of(array: Cells) -> np.ndarray:
    """(rows,): the length of the first axis of each."""
    if isinstance(array, np.ndarray):
        return np.full(len(array), array.shape[1] if array.ndim > 1 else 1)
    return np.array([len(cell) if cell.ndim else 1 for cell in array])


def _rows_of(array: Cells, rows: np.ndarray) -> np.ndarray:
    return array[rows] if isinstance(array, np.ndarray) else np.stack([array[row] for row in rows])


def _in_order(groups: Sequence[np.ndarray], parts: Sequence[np.ndarray]) -> Cells:
    """The results of groups of rows as those of all rows."""
    if len(groups) == 1:
        return parts[0]
    found: list[Any] = [None] * sum(map(len, groups))
    for rows, part in zip(groups, parts):
        for row, y in zip(rows, part):
            found[row] = y
    return np.stack(found) if len({y.shape for y in found}) == 1 else found


def _place(rows: np.ndarray, given: Arguments) -> str:
    shapes = ", ".join(str(np.shape(array)[1:]) for array in given.inputs)
    listed = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    return f"the rows {listed}, of shape {shapes}"


def predict_rows(
    model: Model, given: Sequence[Cells], threads: int, lengths: Any = None, mask: Any = None
) -> list[np.ndarray]:
    """What `Model.predict` gives for a batch, of each output. Raises `ShapeError` about one sample without a batch."""
    for value, array in zip(_inputs_of(model).values(), given):
        rank = len(model.graph.layouts.get(value.name, value.shape)) + 1
        if np.ndim(array) != rank:
            raise ShapeError(
                f"input {value.name!r}: expected rank {rank}, the rows first, found shape {np.shape(array)}"
            )
    found = model.predict(given[0] if len(given) == 1 else list(given), lengths=lengths, mask=mask, threads=threads)
    return found if isinstance(found, list) else [found]


def check_inputs(argument: str, given: Mapping[Any, Any], names: Sequence[str], *, all_of_them: bool) -> None:
    """Raise `ArgumentError` about a dict by input that names others, or too few."""
    unknown = [name for name in given if name not in names]
    missing = [name for name in names if name not in given] if all_of_them else []
    if unknown or missing:
        raise ArgumentError(
            f"{argument}: expected a dict of {', '.join(map(repr, names))}, the inputs of the network, found "
            f"{', '.join(map(described, given)) or 'none'}"
        )


def _inputs_of(model: Model) -> dict[str, Value]:
    return {name: model.graph.values[name] for name in model.inputs}


def _check_once(what: str, wanted: Sequence[Any], counts: Counter[Any]) -> None:
    for name in wanted:
        if counts[name] != 1:
            how = "is there twice" if counts[name] else "is missing"
            raise ArgumentError(f"{what}the column {described(name)} {how}; found {_listed([*counts])}")


def _listed(names: Sequence[Any]) -> str:
    return (", ".join(str(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")) or "none"
