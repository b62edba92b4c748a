"""Predictions with Dask: of a `dask.array`, of a `dask.dataframe`, and of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import dask
import dask.array
import numpy as np

from cylstm.arguments import check_threads
from cylstm.distributed.files import file_tasks, finish, predict_file
from cylstm.distributed.place import at
from cylstm.distributed.rows import Request, predict_rows
from cylstm.distributed.series import SeriesRequest
from cylstm.distributed.source import Source, network_of, source_of
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.forecasting import Forecaster
from cylstm.model import Model


def predict_array(model: str | os.PathLike[str] | Model, x: Any, *, threads: int = 1) -> Any:
    """What `Model.predict` gives for a batch whose rows lie in blocks, with the same bits.

    Parameters
    ----------
    model : path or Model
        A file that `load` reads without more arguments and that every worker has under the same path, best a packed
        one, which they map; or a network, which goes to each worker once.
    x : dask.array.Array
        (batch, time, features), or (batch, features) of a network without time. Blocks that do not have whole rows
        are put together.
    threads : int
        Of one task: as many tasks as a worker has threads run at the same time.

    Returns
    -------
    dask.array.Array
        Computed when it is asked for, in the blocks of the rows of `x`. An error of `predict` says of which block.

    Raises
    ------
    ShapeError
        If `x` does not fit the network.
    ArgumentError
        If `x` is no array of Dask, or the sizes of its other axes are not known.
    UnsupportedError
        If the network has several inputs or outputs.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    check_threads(threads)
    source, network = source_of(model)
    if len(network.inputs) > 1 or len(network.outputs) > 1:
        raise UnsupportedError(
            f"predict_array takes a network with one input and one output, found {', '.join(network.inputs)} and "
            f"{', '.join(network.outputs)}; Model.extract makes one"
        )
    if not isinstance(x, dask.array.Array):
        raise ArgumentError(f"x: expected a dask.array.Array, found {described(x)}; dask.array.from_array makes one")
    if any(np.isnan(size) for size in x.shape[1:]):
        raise ArgumentError(f"x: the sizes of its axes are not known, found {x.shape}; call x.compute_chunk_sizes()")
    (first,) = predict_rows(network, np.zeros((0, *x.shape[1:]), x.dtype), threads)
    if any(count > 1 for count in x.numblocks[1:]):
        x = x.rechunk({axis: -1 for axis in range(1, x.ndim)})
    return dask.array.map_blocks(
        _predict_block,
        x,
        source=_once(source),
        threads=threads,
        dtype=first.dtype,
        meta=np.empty((0,) * first.ndim, first.dtype),
        drop_axis=list(range(1, x.ndim)),
        new_axis=list(range(1, first.ndim)) or None,
        chunks=(x.chunks[0], *((size,) for size in first.shape[1:])),
    )


def _predict_block(block: np.ndarray, source: Source, threads: int, block_info: Any = None) -> np.ndarray:
    with at(_place_of(block_info)):
        (found,) = predict_rows(network_of(source), block, threads)
    return found


def _place_of(block_info: Any) -> str:
    if not block_info:
        return "a block"
    number = block_info[0]["chunk-location"][0]
    first, end = block_info[0]["array-location"][0]
    if first != first or end != end:  # NaN: the sizes of the blocks are not known
        return f"block {number}"
    return f"block {number} (rows {first} to {end - 1})"


def predict_table(
    model: str | os.PathLike[str] | Model,
    frame: Any,
    *,
    columns: Sequence[Any] | str | None = None,
    time: int | None = None,
    keep: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    threads: int = 1,
) -> Any:
    """Predictions for the rows of a table, each of which is a sample.

    Parameters
    ----------
    model, threads
        As `predict_array` takes them; the network has one input.
    frame : dask.dataframe.DataFrame
    columns : list or str, optional
        The columns that the network reads, in its order; by default the ``features`` in its metadata, or else all. Or
        the name of one column whose cells are whole samples.
    time : int, optional
        How many steps a row has, one after the other: ``time * features`` columns. By default as many as the network
        fixes, else one.
    keep : list, optional
        The columns that the result has before the predictions; by default those that the network does not read.
    names : list of str, optional
        Of the columns of predictions; by default the ``targets`` in the metadata, or else the name of the output,
        ``"fc"`` or ``"fc.0"``, ``"fc.1"``. An output at each step is one column, whose cells are arrays.

    Returns
    -------
    dask.dataframe.DataFrame
        Computed when it is asked for, with the partitions and the index of `frame`. An error of `predict` says of
        which partition.

    Raises
    ------
    ArgumentError
        If a column is missing, there are too few, or an argument has a value that it cannot have.
    ShapeError
        If a column is not of numbers.
    UnsupportedError
        If the network has several inputs.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    source, network = source_of(model)
    request = Request(columns, time, keep, names, threads).checked(network)
    _check_frame(frame)
    meta = request.predict_frame(network, frame._meta)
    return frame.map_partitions(_predict_partition, source=_once(source), request=request, meta=meta)


def _predict_partition(frame: Any, source: Source, request: Request, partition_info: Any = None) -> Any:
    place = "a partition" if not partition_info else f"partition {partition_info['number']}"
    with at(place):
        return request.predict_frame(network_of(source), frame)


def predict_files(
    model: str | os.PathLike[str] | Model,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    window: int | None = None,
    ending: str | None = None,
    threads: int = 1,
) -> list[str]:
    """Predict file by file, as ``python -m cylstm predict`` does; each file is a task.

    Parameters
    ----------
    model, threads
        As `predict_array` takes them; the network may have several inputs and outputs.
    inputs : path or list of path
        The files, or a folder: its ``.csv``, ``.parquet``, ``.npy`` and ``.npz`` files.
    folder : path
        Where the predictions go, one file for each input, of its name; one that is there is replaced. It must be the
        same folder for every worker, and it must exist.
    columns : list of str, optional
        The columns of tables; by default the ``features`` in the metadata, or else all.
    window : int, optional
        Predict at each step from so many steps.
    ending : str, optional
        Of the files that are written, such as ``".npy"``; by default that of the input.

    Returns
    -------
    list of str
        The paths of the results, in the order of the inputs. Each is complete.

    Raises
    ------
    FormatError
        If a file cannot be predicted: once all others are written, with the names of those that are not.
    ArgumentError
        If two results would have one name, or one that of an input.
    CylstmError, OSError
        If the network cannot be loaded here.
    """
    source, network = source_of(model)
    tasks = file_tasks(network, inputs, folder, columns, window, ending, threads)
    sent, predict = _once(source), dask.delayed(predict_file, pure=False)
    return finish(tasks, dask.compute(*[predict(sent, task) for task in tasks]))


def forecast_table(
    forecaster: str | os.PathLike[str] | Forecaster,
    frame: Any,
    *,
    by: str,
    order: str | None = None,
    steps: int | None = None,
) -> Any:
    """Forecast many series, each of which is some rows of a table, as `Forecaster.forecast` does.

    The rows are shuffled, so that those of a series come together.

    Parameters
    ----------
    forecaster : path or Forecaster
        A file of `Forecaster.save` that every worker has under the same path, or a forecaster.
    frame : dask.dataframe.DataFrame
        The histories.
    by : str
        The column that says to which series a row belongs.
    order : str, optional
        The column that its rows are sorted by; by default the forecaster's ``time``.
    steps : int, optional
        By default the horizon. Beyond it all features must be fed back.

    Returns
    -------
    dask.dataframe.DataFrame
        With the columns `by`, ``"step"`` (from 1 on) and the target, `steps` rows for each series. Computed when it is
        asked for. An error of the forecaster says of which series.

    Raises
    ------
    ArgumentError
        If a column is missing, or an argument has a value that it cannot have.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    source, found = source_of(forecaster, Forecaster)
    _check_frame(frame)
    request = SeriesRequest(by, order, steps).checked(found, list(frame.columns))
    together = frame.shuffle(by)
    meta = request.forecast(found, frame._meta)
    return together.map_partitions(
        _forecast_partition, source=_once(source), request=request, meta=meta
    ).clear_divisions()


def _forecast_partition(frame: Any, source: Source, request: SeriesRequest) -> Any:
    return request.forecast(network_of(source), frame)


def _check_frame(frame: Any) -> None:
    if not hasattr(frame, "map_partitions") or not hasattr(frame, "columns"):
        raise ArgumentError(
            f"frame: expected a dask.dataframe.DataFrame, found {described(frame)}; dask.dataframe.from_pandas makes "
            "one"
        )


def _once(source: Source) -> Any:
    """A network that is pickled goes to each worker once, and not with each block."""
    return source if source.pickled is None else dask.delayed(source, pure=True)
