"""Predictions with Ray: of a dataset of Ray Data, and of files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import ray.data

from cylstm.arguments import check_count
from cylstm.distributed.files import file_tasks, finish, predict_file
from cylstm.distributed.place import at
from cylstm.distributed.rows import Request
from cylstm.distributed.series import SeriesRequest
from cylstm.distributed.source import Source, network_of, source_of
from cylstm.errors import ArgumentError, CylstmWarning, described
from cylstm.forecasting import Forecaster
from cylstm.model import Model


def predict_table(
    model: str | os.PathLike[str] | Model,
    dataset: Any,
    *,
    columns: Sequence[str] | str | Mapping[str, Any] | None = None,
    time: int | Mapping[str, int] | None = None,
    lengths: Any = None,
    mask: Any = None,
    keep: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    threads: int = 1,
    batch_size: int = 4096,
    workers: int | tuple[int, int] | None = None,
) -> Any:
    """Predictions for the rows of a dataset, each of which is a sample.

    Parameters
    ----------
    model : path or Model
        A file that `load` reads without more arguments and that every worker has under the same path, best a packed
        one, which they map; or a network, which goes to each worker once.
    dataset : ray.data.Dataset
        Of columns of numbers, or with a column of tensors, as `ray.data.from_numpy` makes them.
    columns : list of str, str or dict, optional
        The columns that the network reads, in its order; by default the ``features`` in its metadata, or else all. Or
        the name of one column whose cells are whole samples, such as ``"data"``. Cells of
        different lengths, and a dict for several inputs: as `cylstm.distributed.dask.predict_table` says.
    time : int or dict, optional
        How many steps a row has, one after the other: ``time * features`` columns. By default as many as the network
        fixes.
    lengths, mask : column or dict of them, optional
        The column of lengths or of masks, as `cylstm.distributed.dask.predict_table` says.
    keep : list of str, optional
        The columns that the result has before the predictions; by default those that the network does not read.
    names : list of str, optional
        Of the columns of predictions; by default the ``targets`` in the metadata, or else the name of the output,
        ``"fc"`` or ``"fc.0"``, ``"fc.1"``. An output at each step is one column, whose cells are arrays.
    threads : int
        Of one worker, for which Ray sets aside as many CPUs.
    batch_size : int
        Rows of one call of `predict`. The bits do not depend on it.
    workers : int or (int, int), optional
        How many actors predict, or at least and at most how many; by default as Ray chooses. They keep their CPUs to
        the end: what reads and writes the rows needs others.

    Returns
    -------
    ray.data.Dataset
        Computed when it is read. What `predict` refuses is then an error of Ray, whose text is ours and shows where the
        batch begins; what is known of the columns before is refused here.

    Raises
    ------
    ArgumentError
        If a column is missing, there are too few, or an argument has a value that it cannot have.
    CylstmError, OSError
        If the file cannot be loaded here.

    Warns
    -----
    CylstmWarning
        If the actors would take all CPUs that the cluster has now: Ray then waits, until it has more.
    """
    source, network = source_of(model)
    request = Request(columns, time, keep, names, threads, lengths, mask).checked(network)
    if not isinstance(dataset, ray.data.Dataset):
        raise ArgumentError(f"dataset: expected a ray.data.Dataset, found {described(dataset)}")
    schema = dataset.schema(fetch_if_missing=False)  # which may be known only when the rows are read
    if schema is not None:
        request.of_table(network, schema.names)
    return dataset.map_batches(
        Predictor,
        fn_constructor_args=(source, request),
        batch_size=check_count("batch_size", batch_size),
        batch_format="pyarrow",
        num_cpus=threads,
        compute=_actors(workers, threads),
        udf_modifying_row_count=False,
    )


def _actors(workers: Any, threads: int) -> Any:
    """What Ray calls so many actors. Raises `ArgumentError`."""
    if workers is None:
        return None
    counts = workers if isinstance(workers, (tuple, list)) else (workers, workers)
    if len(counts) != 2:
        raise ArgumentError(f"workers: expected a number or (least, most), found {described(workers)}")
    least, most = (check_count("workers", count) for count in counts)
    if least > most:
        raise ArgumentError(f"workers: expected (least, most), found {described(workers)}")
    cpus = int(ray.cluster_resources().get("CPU", 0)) if ray.is_initialized() else least * threads + 1
    if least * threads >= cpus:
        warnings.warn(
            f"{least} workers of {threads} threads take all {cpus} CPUs of the cluster, and none is left to read and "
            "write rows: Ray waits until it has more; give fewer workers",
            CylstmWarning,
            stacklevel=3,
        )
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


class Predictor:
    """What an actor of Ray Data does; it has the network from its start."""

    def __init__(self, source: Source, request: Request) -> None:
        self._model, self._request = network_of(source), request

    def __call__(self, table: Any) -> Any:
        with at(self._place_of(table)):
            return self._request.predict_arrow(self._model, table)

    def _place_of(self, table: Any) -> str:
        """Ray does not tell which block this is; its first row does, by the columns that are not features."""
        try:
            kept = self._request.of_table(self._model, table.column_names).kept
        except ArgumentError:  # which is raised again
            kept = table.column_names
        first = ", ".join(f"{name}={str(table.column(name)[0])[:60]}" for name in kept[:4] if len(table))
        return f"the batch of {len(table)} rows" + (f" that begins with {first}" if first else "")


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
    """Predict file by file; each file is a task, which Ray repeats up to three times if its process dies.

    Everything else is as `cylstm.distributed.dask.predict_files` says.
    """
    source, network = source_of(model)
    tasks = file_tasks(network, inputs, folder, columns, window, ending, threads)
    sent = ray.put(source)
    predict = ray.remote(num_cpus=threads)(predict_file)
    return finish(tasks, ray.get([predict.remote(sent, task) for task in tasks]))


def forecast_table(
    forecaster: str | os.PathLike[str] | Forecaster,
    dataset: Any,
    *,
    by: str,
    order: str | None = None,
    steps: int | None = None,
) -> Any:
    """Forecast many series, each of which is some rows of a table; all rows of one come together.

    Everything else is as `cylstm.distributed.dask.forecast_table` says, but for the names of columns:
    where Ray does not know them before, a worker checks them.
    """
    source, found = source_of(forecaster, Forecaster)
    if not isinstance(dataset, ray.data.Dataset):
        raise ArgumentError(f"dataset: expected a ray.data.Dataset, found {described(dataset)}")
    request = SeriesRequest(by, order, steps)
    schema = dataset.schema(fetch_if_missing=False)
    if schema is not None:
        request.checked(found, schema.names)
    return dataset.groupby(by).map_groups(_forecast_group, fn_args=(source, request), batch_format="pandas", num_cpus=1)


def _forecast_group(group: Any, source: Source, request: SeriesRequest) -> Any:
    forecaster = network_of(source)
    return request.checked(forecaster, list(group.columns)).forecast(forecaster, group)
