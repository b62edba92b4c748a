"""Predictions with Dask: of a `dask.array`, of a `dask.dataframe`, and of files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dask
import dask.array
import numpy as np

from cylstm.arguments import check_threads
from cylstm.array_like import to_array
from cylstm.distributed.files import file_tasks, finish, predict_file
from cylstm.distributed.place import at
from cylstm.distributed.rows import Request, check_inputs, predict_rows
from cylstm.distributed.series import SeriesRequest
from cylstm.distributed.source import Source, network_of, source_of
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.forecasting import Forecaster
from cylstm.model import Model


def predict_array(
    model: str | os.PathLike[str] | Model, x: Any, *, lengths: Any = None, mask: Any = None, threads: int = 1
) -> Any:
    """What `Model.predict` gives for a batch whose rows lie in blocks, with the same bits.

    Parameters
    ----------
    model : path or Model
        A file that `load` reads without more arguments and that every worker has under the same path, best a packed
        one, which they map; or a network, which goes to each worker once.
    x : dask.array.Array, or list or dict of them
        (batch, time, features), or (batch, features) of a network without time. Blocks that do not have whole rows
        are put together. Several inputs: a list in the order of the network, or a dict by name; they are divided as the
        first of them is.
    lengths, mask : dask.array.Array, array_like, or dict of them, optional
        (batch,) and (batch, time), as `Model.predict` takes them; they are divided as `x` is.
    threads : int
        Of one task: as many tasks as a worker has threads run at the same time.

    Returns
    -------
    dask.array.Array
        Computed when it is asked for, in the blocks of the rows of `x`. An error of `predict` says of which block.

    Raises
    ------
    ShapeError
        If `x` does not fit the network, or the arrays do not fit each other.
    ArgumentError
        If `x` is no array of Dask, or the sizes of its other axes are not known.
    UnsupportedError
        If the network has several outputs.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    check_threads(threads)
    source, network = source_of(model)
    if len(network.outputs) > 1:
        raise UnsupportedError(
            f"predict_array takes a network with one output, found {', '.join(network.outputs)}; Model.extract makes "
            "one"
        )
    arrays = _named_inputs(network, x)
    shape = arrays[0][1].shape[:1], arrays[0][1].chunks[0]
    for argument, given in (("lengths", lengths), ("mask", mask)):
        for name, one in given.items() if isinstance(given, Mapping) else [(None, given)]:
            if one is not None:
                what = argument if name is None else f"{argument}[{name!r}]"
                arrays.append((what, one if isinstance(one, dask.array.Array) else _as_dask(one, what, *shape)))
    whole = [arrays[0][1], *(_divided_as(*arrays[0], what, one) for what, one in arrays[1:])]
    # where nothing is to be put together the sizes of the blocks need not be known
    whole = [
        one.rechunk({axis: -1 for axis in range(1, one.ndim)}) if any(count > 1 for count in one.numblocks[1:]) else one
        for one in whole
    ]
    request = _ArrayRequest(
        len(network.inputs),
        tuple(one.ndim for one in whole),
        tuple(lengths) if isinstance(lengths, Mapping) else lengths is not None,
        tuple(mask) if isinstance(mask, Mapping) else mask is not None,
        threads,
    )
    first = request.predict(network, [np.zeros((0, *one.shape[1:]), one.dtype) for one in whole])
    most = max(first.ndim, *request.ranks)
    # of one rank, so that `map_blocks` puts their first axes together
    alike = [one[(..., *[np.newaxis] * (most - one.ndim))] for one in whole]
    return dask.array.map_blocks(
        _predict_block,
        *alike,
        source=_once(source),
        request=request,
        dtype=first.dtype,
        meta=np.empty((0,) * first.ndim, first.dtype),
        drop_axis=list(range(1, most)),
        new_axis=list(range(1, first.ndim)) or None,
        chunks=(alike[0].chunks[0], *((size,) for size in first.shape[1:])),
    )


class _ArrayRequest(NamedTuple):
    """What the arrays of a block are.

    Attributes
    ----------
    inputs : int
        How many of them, at the front, are inputs of the network.
    ranks : tuple of int
        Of each array.
    lengths, mask : bool, or tuple of str
        Whether one of the arrays is that; or the names of the inputs that have one.
    threads : int
    """

    inputs: int
    ranks: tuple[int, ...]
    lengths: bool | tuple[str, ...]
    mask: bool | tuple[str, ...]
    threads: int

    def predict(self, model: Model, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """The prediction of the only output."""
        arrays = [block.reshape(block.shape[:rank]) for block, rank in zip(blocks, self.ranks)]
        further = iter(arrays[self.inputs :])
        lengths, mask = (
            {name: next(further) for name in names} if isinstance(names, tuple) else next(further) if names else None
            for names in (self.lengths, self.mask)
        )
        (found,) = predict_rows(model, arrays[: self.inputs], self.threads, lengths, mask)
        return found


def _named_inputs(network: Model, x: Any) -> list[tuple[str, Any]]:
    """The inputs, in the order of the network, with what they are called in messages."""
    names = network.inputs
    if isinstance(x, Mapping):
        check_inputs("x", x, names, all_of_them=True)
        found = [(f"x[{name!r}]", x[name]) for name in names]
    elif len(names) == 1:
        found = [("x", x)]
    elif isinstance(x, (list, tuple)) and len(x) == len(names):
        found = [(f"x[{number}] ({name!r})", one) for number, (name, one) in enumerate(zip(names, x))]
    else:
        raise ArgumentError(
            f"x: the network has {len(names)} inputs; expected a list of {len(names)} arrays "
            f"({', '.join(names)}) or a dict by name, found {described(x)}"
        )
    for what, one in found:
        if not isinstance(one, dask.array.Array):
            raise ArgumentError(
                f"{what}: expected a dask.array.Array, found {described(one)}; dask.array.from_array makes one"
            )
        if any(np.isnan(size) for size in one.shape[1:]):
            raise ArgumentError(
                f"{what}: the sizes of its axes are not known, found {one.shape}; call x.compute_chunk_sizes()"
            )
    return found


def _as_dask(given: Any, what: str, shape: tuple[float, ...], chunks: tuple[float, ...]) -> Any:
    """Lengths or a mask that are here, as an array of Dask with the rows of the inputs."""
    array = to_array(given, what)
    if array.ndim == 0 or (not np.isnan(shape[0]) and len(array) != shape[0]):
        raise ShapeError(f"{what}: expected {shape[0]} rows, found shape {array.shape}")
    if np.isnan(shape[0]):
        raise ArgumentError(
            f"{what}: how many rows the blocks of x have is not known; call x.compute_chunk_sizes(), or give an array "
            "of Dask of the same blocks"
        )
    return dask.array.from_array(array, chunks=(chunks, *array.shape[1:]))


def _divided_as(first: str, like: Any, what: str, array: Any) -> Any:
    """An array whose rows are divided as those of the first input, if they are as many. Raises `ShapeError`."""
    if array.ndim == 0:
        raise ShapeError(f"{what}: expected an array with the rows first, found shape ()")
    rows, expected = array.shape[0], like.shape[0]
    if np.isnan(rows) or np.isnan(expected):
        if array.numblocks[0] != like.numblocks[0]:
            raise ShapeError(
                f"{what}: expected {like.numblocks[0]} blocks of rows as {first} has, whose sizes are not known, found "
                f"{array.numblocks[0]}; compute_chunk_sizes() of both finds out"
            )
        return array
    if rows != expected:
        raise ShapeError(f"{what}: expected {expected} rows as {first} has, found {rows}")
    return array.rechunk({0: like.chunks[0]})


def _predict_block(*blocks: np.ndarray, source: Source, request: _ArrayRequest, block_info: Any = None) -> np.ndarray:
    with at(_place_of(block_info)):
        return request.predict(network_of(source), blocks)


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
    columns: Sequence[Any] | str | Mapping[str, Any] | None = None,
    time: int | Mapping[str, int] | None = None,
    lengths: Any = None,
    mask: Any = None,
    keep: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    threads: int = 1,
) -> Any:
    """Predictions for the rows of a table, each of which is a sample.

    Parameters
    ----------
    model, threads
        As `predict_array` takes them.
    frame : dask.dataframe.DataFrame
    columns : list, str or dict, optional
        The columns that the network reads, in its order; by default the ``features`` in its metadata, or else all. Or
        the name of one column whose cells are whole samples; where these differ in length, nothing is padded: each row
        has the bits that it has by itself. Several inputs: a dict of either by the input's name, such as
        ``{"signal": "x", "knobs": ["low", "high"]}``.
    time : int or dict, optional
        How many steps a row has, one after the other: ``time * features`` columns. By default as many as the network
        fixes. Of several inputs that differ a dict by name.
    lengths : column or dict of them, optional
        The column that says how many steps of each row count, of sequences that are padded to one length; of several
        sequences a dict by input.
    mask : column or dict of them, optional
        The column whose cells say of each step whether it counts, as arrays of bool; instead of `lengths`.
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
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    source, network = source_of(model)
    request = Request(columns, time, keep, names, threads, lengths, mask).checked(network)
    _check_frame(frame)
    for one in request.of_table(network, list(frame.columns)).inputs:
        if one.are_cells and str(frame.dtypes[one.read[0]]) in ("str", "string"):
            raise ArgumentError(
                f"the column {described(one.read[0])}: expected cells that are arrays, found text, which Dask makes of "
                'lists in frames of pandas unless dask.config.set({"dataframe.convert-string": False})'
            )
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
