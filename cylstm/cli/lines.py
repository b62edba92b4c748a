"""Predictions line by line: a line of a pipe is a step, and its prediction is a line."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

from cylstm.cli.tables.csv_table import is_header, numbers_of
from cylstm.cli.tables.table import Columns, as_input, chosen, fits
from cylstm.errors import CylstmError, FormatError, ShapeError, UnsupportedError
from cylstm.graph.names import feature_names, target_names

if TYPE_CHECKING:
    from types import EllipsisType

    from cylstm.graph.values import Value
    from cylstm.model import Model

#: bytes of a line
_LONGEST = 1 << 24


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a pipe, each as soon as it is there; a longer one than `_LONGEST` is cut to one byte more."""
    while line := file.readline(_LONGEST + 1):
        if len(line) > _LONGEST and not line.endswith(b"\n"):
            while (rest := file.readline(_LONGEST)) and not rest.endswith(b"\n"):
                pass
        yield line


class LinePredictor:
    """What makes predictions of lines, step by step, in the form that each line has.

    Parameters
    ----------
    model : Model
    window : int, None or ...
        As `Model.stream` takes it.
    columns : Columns
        Which columns of lines of text are read, by the names in a first line.

    Raises
    ------
    UnsupportedError
        If the network cannot predict step by step.
    """

    def __init__(self, model: Model, window: int | EllipsisType | None, columns: Columns) -> None:
        self._model, self._columns = model, columns
        self._values = [model.graph.values[name] for name in model.inputs]
        self._features, self._targets = feature_names(model.graph), target_names(model.graph)
        has_time = any(value.has_time for value in self._values)
        self.stream = None
        if has_time or model.graph.stateful or isinstance(window, int):
            self.stream = model.stream(window=window)
            if model._packed.step_multiple > 1 and not isinstance(window, int):
                raise UnsupportedError(
                    f"the network takes {model._packed.step_multiple} steps at once, and a line is one; --window N "
                    "predicts from the last N steps at every line"
                )
        self._width = 0
        self._places: list[int] | None = None
        self._is_first = True
        self._wrong_names: str | None = None

    def predict(self, line: bytes) -> str | None:
        """The prediction after a line; None for a line that has no step: an empty one, a comment, or names.

        Lines that begin with ``{`` or ``[`` are JSON, and so is what they give; all others have commas. Numbers that
        are not there yet, because a window is not full, are NaN, or null in JSON.

        Raises
        ------
        CylstmError
            If the line is none of these or does not fit the network; nothing has changed then.
        """
        if len(line) > _LONGEST:
            raise FormatError(f"expected at most {_LONGEST:,} bytes")
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise FormatError(f"expected UTF-8: {error}") from error
        if not text or text.startswith("#"):
            return None
        if text[0] in "{[":
            return self._of_json(text)
        cells = self._cells(text)
        if cells is None:
            return None
        step = self._array([numbers_of(cells, self._places, "line")])
        names_and_arrays = self._outputs(step)
        return ",".join(str(number) for _, array in names_and_arrays for number in array.ravel())

    def _cells(self, text: str) -> list[str] | None:
        """The cells of a line with commas, or None if it has the names of columns."""
        if len(self._values) > 1:
            raise FormatError(f"expected a JSON object with {', '.join(self._model.inputs)}, found {text[:40]!r}")
        try:
            (cells,) = csv.reader([text])
        except (csv.Error, ValueError) as error:
            raise FormatError(f"expected numbers with commas between them: {error}") from error
        if self._is_first:
            self._is_first = False
            names = [cell.strip() for cell in cells] if is_header(cells, self._columns.header) else None
            try:
                self._places = chosen("the first line", names, self._columns)
            except FormatError as error:
                self._wrong_names = str(error)
            if names is not None and self._wrong_names is None:
                self._width = len(cells)
                return None
        if self._wrong_names is not None:
            # the numbers below are of other columns
            raise FormatError(self._wrong_names)
        if self._width and len(cells) != self._width:
            raise FormatError(f"expected {self._width} columns, found {len(cells)}")
        return cells

    def _of_json(self, text: str) -> str:
        try:
            found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise FormatError("expected JSON: it is nested too deeply") from error
        except ValueError as error:
            raise FormatError(f"expected JSON: {error}") from error
        is_object = isinstance(found, dict)
        if len(self._values) > 1:
            if not is_object:
                raise FormatError(f"expected a JSON object with {', '.join(self._model.inputs)}")
            known = {value.name: value for value in self._values}
            step: Any = {
                name: self._checked(_numbers(one), known[name]) if name in known else one for name, one in found.items()
            }
        elif is_object:
            step = self._array([self._by_name(found)])
        else:
            step = self._checked(_numbers(found), self._values[0])
        results = self._outputs(step)
        plain = [_plain(array) for _, array in results]
        if not is_object:
            return json.dumps(plain if len(plain) > 1 else plain[0])
        # of a window there may be results of all its steps
        if self._targets is not None and results[0][1].size == len(self._targets):
            return json.dumps(dict(zip(self._targets, np.ravel(np.array(plain[0], object)).tolist())))
        return json.dumps({name: one for (name, _), one in zip(results, plain)})

    def _by_name(self, found: dict[str, Any]) -> list[float]:
        """The features of an object, in their order."""
        names = self._features if self._columns.wanted is None else tuple(self._columns.wanted)
        if names is None:
            raise FormatError(
                "expected a JSON list: the file does not name its features; convert --metadata features=NAME,NAME... "
                "puts their names into it"
            )
        missing = [name for name in names if name not in found]
        if missing:
            raise FormatError(f"expected the features {', '.join(names)}; {', '.join(missing)} is missing")
        for name in names:
            if isinstance(found[name], (list, dict)):
                raise FormatError(f"{name}: expected a number, found {json.dumps(found[name])[:40]}")
        return [float(_numbers(found[name], f"{name}: ")) for name in names]

    def _array(self, rows: list[list[float]]) -> np.ndarray:
        step: np.ndarray = as_input(np.array(rows, np.float64), self._values[0], "line")[0]
        return step

    def _checked(self, step: np.ndarray, value: Value) -> np.ndarray:
        """One step of an input, without a batch axis. Raises `ShapeError`."""
        if step.shape == (1,) and not value.step_shape:
            return step[0]  # type: ignore[no-any-return]
        if step.shape != value.step_shape and value.name not in self._model.graph.layouts:
            raise ShapeError(f"input {value.name!r}: expected numbers of shape {value.step_shape}, found {step.shape}")
        return step

    def _outputs(self, step: Any) -> list[tuple[str, np.ndarray]]:
        """The outputs after one more step, by name; NaN where there is none yet."""
        found = self._model.predict(step) if self.stream is None else self.stream.step(step)
        results = found if isinstance(found, list) else [found]
        values = [self._model.graph.values[name] for name in self._model.outputs]
        return [
            (value.name, np.full(value.step_shape, np.nan, np.float32) if result is None else result)
            for value, result in zip(values, results)
        ]


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _numbers(found: Any, what: str = "") -> np.ndarray:
    """A number, or lists of them, as an array of float64."""
    if isinstance(found, list):
        arrays = [_numbers(one, what) for one in found]
        try:
            stacked: np.ndarray = np.array(arrays, np.float64)
        except ValueError as error:
            raise ShapeError(f"{what}expected lists of equal length") from error
        return stacked
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    # an int can be larger than any float
    if not is_number or abs(found) > 1e300 or not fits(float(found)):
        raise FormatError(f"{what}expected a number, found {json.dumps(found)[:40]}")
    return np.array(float(found))


def _plain(array: np.ndarray) -> Any:
    """An array as lists of numbers of as few digits as float32 has; None for what is not finite, which JSON lacks."""
    if array.ndim:
        return [_plain(one) for one in array]
    number = array[()]
    return float(str(number)) if math.isfinite(number) else None


def predict_lines(
    predictor: LinePredictor,
    lines: Iterator[bytes],
    write: Callable[[str], object],
    tell: Callable[[str], object],
    stop_on_error: bool,
) -> int:
    """Write a line for each line that has a step; tell of each that is refused, and go on or stop.

    Returns
    -------
    int
        How many lines were refused.

    Raises
    ------
    CylstmError
        What is wrong with a line, if `stop_on_error`.
    """
    refused = 0
    for number, line in enumerate(lines, 1):
        try:
            found = predictor.predict(line)
        except CylstmError as error:
            text = " ".join(re.sub("^line[,:] ", "", str(error)).split())
            if stop_on_error:
                raise type(error)(f"line {number}: {text}") from error
            tell(f"line {number}: {text}")
            refused += 1
            continue
        if found is not None:
            write(found)
    return refused
