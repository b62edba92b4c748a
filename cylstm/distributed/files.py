"""Predictions file by file, each written whole or not at all: a file that is predicted twice is the same file."""

from __future__ import annotations

import glob
import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cylstm.arguments import check_threads, check_window
from cylstm.cli.predictions import predict_in_pieces
from cylstm.cli.tables import check_result_path, open_inputs, open_results
from cylstm.cli.tables.results import outputs_of
from cylstm.cli.tables.table import Columns
from cylstm.distributed.source import Source, network_of
from cylstm.errors import ArgumentError, CylstmError, FormatError, described
from cylstm.graph.names import feature_names, target_names

if TYPE_CHECKING:
    from cylstm.model import Model

#: of the files of a folder that are inputs
_ENDINGS = (".csv", ".parquet", ".npy", ".npz")
#: errors that a message lists
_LISTED = 5


class Done(NamedTuple):
    """What became of a file.

    Attributes
    ----------
    number : int
        Of the input.
    problem : str or None
        Why there are no predictions.
    host : str
        Where it was predicted.
    """

    number: int
    problem: str | None
    host: str


class FileTask(NamedTuple):
    """One input, and the result that it becomes."""

    number: int
    path: str
    result: str
    columns: tuple[str, ...] | None
    window: int | None
    threads: int


def file_tasks(
    model: Model, inputs: Any, folder: Any, columns: Any, window: Any, ending: Any, threads: Any
) -> list[FileTask]:
    """The work of `predict_files`, whose arguments these are.

    Raises
    ------
    ArgumentError
        If an argument has a value that it cannot have.
    FormatError
        If there is no file or no folder, or predictions cannot be written to files of this ending.
    """
    check_threads(threads)
    if window is not None:
        window = check_window([model.graph.values[name] for name in model.inputs], window)
    if columns is not None and not isinstance(columns, (list, tuple)):
        raise ArgumentError(f"columns: expected a list of names, found {described(columns)}")
    if not isinstance(folder, (str, os.PathLike)):
        raise ArgumentError(f"folder: expected a path, found {described(folder)}")
    paths = _listed_inputs(inputs)
    target = os.path.abspath(os.fspath(folder))
    results = []
    for path in paths:
        stem, own = os.path.splitext(os.path.basename(path))
        results.append(os.path.join(target, stem + (own if ending is None else str(ending))))
        check_result_path(results[-1])
    for name, count in Counter(map(os.path.realpath, results)).items():
        if count > 1:
            raise ArgumentError(f"{count} inputs would be predicted into one file, {name}; predict them apart")
    taken = {*map(os.path.realpath, paths)} & {*map(os.path.realpath, results)}
    if taken:
        raise ArgumentError(f"{min(taken)}: the predictions would replace an input; give another folder")
    wanted = None if columns is None else tuple(columns)
    return [
        FileTask(number, path, result, wanted, window, threads)
        for number, (path, result) in enumerate(zip(paths, results))
    ]


def _listed_inputs(inputs: Any) -> list[str]:
    if isinstance(inputs, (str, os.PathLike)):
        path = os.path.abspath(os.fspath(inputs))
        if not os.path.isdir(path):
            inputs = [path]
        else:
            names = sorted(name for name in os.listdir(path) if os.path.splitext(name)[1].lower() in _ENDINGS)
            if not names:
                raise FormatError(f"{path}: expected {', '.join(_ENDINGS)} files, found none")
            return [os.path.join(path, name) for name in names]
    if not isinstance(inputs, (list, tuple)) or not all(isinstance(one, (str, os.PathLike)) for one in inputs):
        raise ArgumentError(f"inputs: expected a path or a list of paths, found {described(inputs)}")
    if not inputs:
        raise ArgumentError("inputs: expected at least one file, found an empty list")
    return [os.path.abspath(os.fspath(one)) for one in inputs]


def predict_file(source: Source, task: FileTask) -> Done:
    """Write the predictions of one file. What is wrong with it is told, and the others are predicted all the same."""
    problem = None
    model = network_of(source)
    try:
        _predict_file(model, task)
    except (CylstmError, OSError) as error:
        text = str(error)
        problem = text if text.startswith(task.path) else f"{task.path}: {text}"
    return Done(task.number, problem, socket.gethostname())


def _predict_file(model: Model, task: FileTask) -> None:
    wanted = feature_names(model.graph) if task.columns is None else task.columns
    with open_inputs(task.path, model, Columns(wanted, task.columns is not None)) as inputs:
        outputs = outputs_of(model, inputs.is_batch or task.window is not None, target_names(model.graph))
        with open_results(task.result, outputs) as write:
            for pieces in predict_in_pieces(model, inputs, task.window, task.threads, lambda more: None):
                write(pieces)


def finish(tasks: Sequence[FileTask], done: Iterable[Done]) -> list[str]:
    """The paths of the results, once all files are done.

    What a process left that died while it wrote is removed.

    Raises
    ------
    FormatError
        If some files have no predictions, or their results are not to be seen from here.
    """
    found = sorted(done)
    for task in tasks:
        folder, name = os.path.split(task.result)
        for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.????????.tmp")):
            os.unlink(left)
    problems = [one.problem for one in found if one.problem is not None]
    if problems:
        _fail(problems, len(tasks), "could not be predicted; the others are written")
    lost = [
        f"{tasks[one.number].result} (written on {one.host})"
        for one in found
        if not os.path.exists(tasks[one.number].result)
    ]
    if lost:
        _fail(lost, len(tasks), "are not to be seen from here: give a folder that all workers share")
    return [task.result for task in tasks]


def _fail(listed: Sequence[str], count: int, how: str) -> None:
    more = f"; and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    raise FormatError(f"{len(listed)} of {count} files {how}: {'; '.join(listed[:_LISTED])}{more}")
