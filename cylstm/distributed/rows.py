"""Predictions for the rows of a block: of an array, of a frame of pandas or of a table of Arrow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.arguments import check_count, check_threads
from cylstm.array_like import to_array
from cylstm.cli.tables.results import outputs_of
from cylstm.distributed.arrow_columns import array_of_cells, column_of
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.graph.names import feature_names, target_names

if TYPE_CHECKING:
    from cylstm.graph.values import Value
    from cylstm.model import Model


class Columns(NamedTuple):
    """Which columns of a table are read, kept and made.

    Attributes
    ----------
    read : list
        Those of the features in their order, or the one whose cells are samples.
    are_cells : bool
        Whether it is the latter.
    kept : list
        Those that the result has too, before the predictions.
    made : list of str
        The predictions.
    """

    read: list[Any]
    are_cells: bool
    kept: list[Any]
    made: list[str]


class Request(NamedTuple):
    """What a user asks for, of a table: the arguments of `predict_table`."""

    columns: Any = None
    time: int | None = None
    keep: Any = None
    names: Any = None
    threads: int = 1

    def checked(self, model: Model) -> Request:
        """Itself, for this network.

        Raises
        ------
        ArgumentError
            If an argument has a value that it cannot have.
        UnsupportedError
            If the network has several inputs, or its axes lie otherwise.
        """
        if len(model.inputs) > 1:
            raise UnsupportedError(
                f"a table has one input, and the network has {len(model.inputs)} ({', '.join(model.inputs)}): "
                "predict_files takes .npz files with their names, and Model.extract makes a network of fewer inputs"
            )
        if model.inputs[0] in model.graph.layouts and not isinstance(self.columns, str):
            raise UnsupportedError(
                f"input {model.inputs[0]!r}: its axes lie as {model.input_shapes[model.inputs[0]]}; give columns= the "
                "name of one column whose cells are such arrays"
            )
        for name, given in (("columns", self.columns), ("keep", self.keep), ("names", self.names)):
            is_one = isinstance(given, str) and name == "columns"
            if given is not None and not is_one and not isinstance(given, (list, tuple)):
                raise ArgumentError(f"{name}: expected a list of names, found {described(given)}")
        check_threads(self.threads)
        value = model.graph.values[model.inputs[0]]
        if self.time is not None:
            if not value.has_time:
                raise ArgumentError("time: expected None, because the network has no time")
            if isinstance(self.columns, str):
                raise ArgumentError("time: expected None, because cells that are samples have their steps")
            if value.shape[0] not in (None, check_count("time", self.time)):
                raise ArgumentError(f"time: the network takes {value.shape[0]} steps, found {self.time}")
        elif value.has_time and value.shape[0] is None and not isinstance(self.columns, str):
            raise ArgumentError(
                "time: each row of the table is one sample; expected how many steps a row has, one after the other "
                "(time=1 for sequences of one step), or columns= the name of one column whose cells are samples"
            )
        self.made(model)
        return self

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
        value = model.graph.values[model.inputs[0]]
        are_cells = isinstance(self.columns, str)
        if are_cells:
            read = [self.columns]
        elif self.columns is not None:
            read = list(self.columns)
        else:
            # the names are those of one step
            names = None if value.has_time and self._steps(value) != 1 else feature_names(model.graph)
            read = list(found) if names is None else list(names)
        counts = Counter(found)
        _check_once("", read, counts)
        if not are_cells:
            per_step, steps = math.prod(value.step_shape), self._steps(value)
            if len(read) != per_step * steps:
                times = f"{steps} steps of {per_step} features, one after the other" if value.has_time else "features"
                raise ArgumentError(
                    f"expected {per_step * steps} columns, the {times}, found {len(read)} ({_listed(read)}); columns= "
                    "says which" + (", time= how many steps a row has" if value.has_time else "")
                )
        others = counts.keys() - set(read)
        kept = [name for name in found if name in others] if self.keep is None else list(self.keep)
        _check_once("keep: ", kept, counts)
        made = self.made(model)
        for name in kept:
            if name in made:
                raise ArgumentError(
                    f"the table has a column {described(name)} already, as the predictions would be called; names= "
                    "gives them other names, or keep= says which columns stay"
                )
        return Columns(read, are_cells, kept, made)

    def _steps(self, value: Value) -> int:
        return (self.time or value.shape[0] or 1) if value.has_time else 1

    def predict_frame(self, model: Model, frame: Any) -> Any:
        """A frame of pandas with the index of this one."""
        columns = self.of_table(model, list(frame.columns))
        if columns.are_cells:
            column, what = frame[columns.read[0]], _named(columns)
            if column.isna().any():
                raise ShapeError(f"{what}: {column.isna().sum()} cells are missing; fill them or drop their rows")
            given = to_array(list(column), what, "; pad them to one length") if len(frame) else None
        else:
            given = self._samples(model, to_array(frame[columns.read], "the table"))
        found = self._predict(model, given)
        made = {name: array if array.ndim == 1 else _objects(list(array)) for name, array in zip(columns.made, found)}
        return frame[columns.kept].assign(**made)

    def predict_arrow(self, model: Model, table: Any) -> Any:
        """A table of Arrow."""
        columns = self.of_table(model, list(table.column_names))
        if columns.are_cells:
            column = table.column(columns.read[0])
            given = array_of_cells(column, _named(columns)) if len(table) else None
        else:
            given = self._samples(model, to_array(table.select(columns.read), "the table"))
        found = table.select(columns.kept)
        for name, array in zip(columns.made, self._predict(model, given)):
            found = found.append_column(name, column_of(array))
        return found

    def _samples(self, model: Model, array: np.ndarray) -> np.ndarray:
        value = model.graph.values[model.inputs[0]]
        steps = (self._steps(value),) if value.has_time else ()
        return array.reshape(len(array), *steps, *value.step_shape)

    def _predict(self, model: Model, given: np.ndarray | None) -> list[np.ndarray]:
        """The columns of predictions: (rows,), or (rows, steps, numbers) of an output at each step."""
        outputs = outputs_of(model, True, None)
        if given is None:  # a block without rows, whose cells have no shape
            arrays = [
                np.empty((0, *(1,) * output.value.has_time, len(output.names)), model.dtype) for output in outputs
            ]
        else:
            results = predict_rows(model, given, self.threads)
            arrays = [output.rows(array) for output, array in zip(outputs, results)]
        found: list[np.ndarray] = []
        for output, array in zip(outputs, arrays):
            found += [array] if output.value.has_time else [np.ascontiguousarray(one) for one in array.T]
        return found


def predict_rows(model: Model, given: np.ndarray, threads: int) -> list[np.ndarray]:
    """What `Model.predict` gives for a batch, of each output. Raises `ShapeError` about one sample without a batch."""
    value = model.graph.values[model.inputs[0]]
    rank = len(model.graph.layouts.get(value.name, value.shape)) + 1
    if given.ndim != rank:
        raise ShapeError(f"input {value.name!r}: expected rank {rank}, the rows first, found shape {given.shape}")
    found = model.predict(given, threads=threads)
    return found if isinstance(found, list) else [found]


def _objects(items: list[np.ndarray]) -> np.ndarray:
    """Arrays as the cells of one column."""
    found = np.empty(len(items), object)
    for i, item in enumerate(items):
        found[i] = item
    return found


def _check_once(what: str, wanted: Sequence[Any], counts: Counter[Any]) -> None:
    for name in wanted:
        if counts[name] != 1:
            how = "is there twice" if counts[name] else "is missing"
            raise ArgumentError(f"{what}the column {described(name)} {how}; found {_listed([*counts])}")


def _named(columns: Columns) -> str:
    return f"the column {described(columns.read[0])}"


def _listed(names: Sequence[Any]) -> str:
    return (", ".join(str(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")) or "none"
