"""Predictions with Spark: of a DataFrame, of columns, and of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
from pyspark.sql.types import DoubleType, FloatType, LongType, StructField, StructType

from cylstm.distributed.files import Done, file_tasks, finish, predict_file
from cylstm.distributed.place import at
from cylstm.distributed.rows import Request
from cylstm.distributed.series import STEP, SeriesRequest
from cylstm.distributed.source import Source, network_of, source_of
from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.forecasting import Forecaster
from cylstm.model import Model

#: tasks of `predict_files` at most; beyond, a task has several files
_MOST_TASKS = 4096


def predict_table(
    model: str | os.PathLike[str] | Model,
    frame: Any,
    *,
    columns: Sequence[str] | str | Mapping[str, Any] | None = None,
    time: int | Mapping[str, int] | None = None,
    lengths: Any = None,
    mask: Any = None,
    keep: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    threads: int = 1,
) -> Any:
    """Predictions for the rows of a DataFrame, each of which is a sample.

    The rows come in batches of Arrow, of ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows (10,000).

    Parameters
    ----------
    model : path or Model
        A file that `load` reads without more arguments and that every worker has under the same path, best a packed
        one, which they map; or a network, which is broadcast.
    frame : pyspark.sql.DataFrame
    columns : list of str, str or dict, optional
        The columns that the network reads, in its order; by default the ``features`` in its metadata, or else all. Or
        the name of one column whose cells are whole samples, arrays of arrays. Cells of
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
        Of one task; ``spark.task.cpus`` should be the same.

    Returns
    -------
    pyspark.sql.DataFrame
        Computed when it is asked for. NULL is refused, as missing values are everywhere, and NaN is a number. What is
        refused then is an error of Spark, whose text is ours and says of which partition and row.

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
    chosen = request.of_table(network, frame.columns)
    empty = request.predict_arrow(network, to_arrow_schema(frame.schema).empty_table())
    made = [StructField(name, from_arrow_type(empty.schema.field(name).type)) for name in chosen.made]
    sent = _sent(source, frame.sparkSession)

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        first, task = 0, TaskContext.get()
        place = "a partition" if task is None else f"partition {task.partitionId()}"
        for batch in batches:
            with at(f"{place}, the {batch.num_rows} rows from row {first}"):
                found = request.predict_arrow(network_of(sent()), pyarrow.Table.from_batches([batch]))
            first += batch.num_rows
            yield from found.to_batches()

    return frame.mapInArrow(predict, StructType([frame.schema[name] for name in chosen.kept] + made))


def predict_udf(
    model: str | os.PathLike[str] | Model,
    *,
    time: int | None = None,
    names: Sequence[str] | None = None,
    threads: int = 1,
) -> Callable[..., Any]:
    """A function of columns, for ``withColumn`` and, once it is registered, for SQL.

    Parameters
    ----------
    model, time, names, threads
        As `predict_table` takes them. The network has one output, which is no sequence.

    Returns
    -------
    pandas_udf
        ``udf("pressure", "wind")`` takes the columns of the features in the order of the network, whatever they are
        called. It gives a number, or a struct with a field of each name. To pandas NULL is NaN, and what depends on it
        is NaN; `predict_table` refuses it.

    Raises
    ------
    ArgumentError
        If an argument has a value that it cannot have.
    UnsupportedError
        If the network has several inputs or outputs, or an output at each step.
    CylstmError, OSError
        If the file cannot be loaded here.
    """
    source, network = source_of(model)
    if len(network.inputs) > 1:
        raise UnsupportedError(
            f"predict_udf takes a network with one input, found {', '.join(network.inputs)}; predict_table takes any"
        )
    request = Request(None, time, [], names, threads).checked(network)
    made = request.made(network)
    if len(network.outputs) > 1 or network.graph.values[network.outputs[0]].has_time:
        raise UnsupportedError(
            f"predict_udf takes a network with one output that is no sequence, found {', '.join(network.outputs)}; "
            "Model.extract makes one, and predict_table takes any"
        )
    session = SparkSession.getActiveSession()
    if session is None:
        raise ArgumentError("predict_udf: expected a session of Spark, found none; SparkSession.builder makes one")
    sent = _sent(source, session)
    number = FloatType() if str(network.dtype) == "float32" else DoubleType()

    def predict(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[Any]:
        task = TaskContext.get()
        place = "a partition" if task is None else f"partition {task.partitionId()}"
        for series in batches:
            with at(place):
                given = pd.concat(series, axis=1, keys=range(len(series)))
                asked = request._replace(columns=list(given.columns))
                found = asked.predict_frame(network_of(sent()), given)
            yield found[made[0]] if len(made) == 1 else found

    if len(made) == 1:
        predict.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]], "return": Iterator[pd.Series]}
        return pandas_udf(predict, number)  # type: ignore[no-any-return]
    predict.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]], "return": Iterator[pd.DataFrame]}
    return pandas_udf(predict, StructType([StructField(name, number) for name in made]))  # type: ignore[no-any-return]


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
    """Predict file by file, in the active session; each file is a task, up to 4,096 of them.

    Everything else is as `cylstm.distributed.dask.predict_files` says.
    """
    source, network = source_of(model)
    tasks = file_tasks(network, inputs, folder, columns, window, ending, threads)
    session = SparkSession.getActiveSession()
    if session is None:
        raise ArgumentError("predict_files: expected a session of Spark, found none; SparkSession.builder makes one")
    sent = _sent(source, session)
    schema = pyarrow.schema({"number": pyarrow.int64(), "problem": pyarrow.string(), "host": pyarrow.string()})

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield pyarrow.RecordBatch.from_pylist([predict_file(sent(), tasks[number])._asdict()], schema)

    numbers = session.range(0, len(tasks), 1, min(len(tasks), _MOST_TASKS))
    done = numbers.mapInArrow(predict, "number long, problem string, host string").collect()
    return finish(tasks, [Done(*row) for row in done])


def forecast_table(
    forecaster: str | os.PathLike[str] | Forecaster,
    frame: Any,
    *,
    by: str,
    order: str | None = None,
    steps: int | None = None,
) -> Any:
    """Forecast many series, each of which is some rows of a table; all rows of one come together.

    Everything else is as `cylstm.distributed.dask.forecast_table` says.
    """
    source, found = source_of(forecaster, Forecaster)
    _check_frame(frame)
    request = SeriesRequest(by, order, steps).checked(found, frame.columns)
    sent = _sent(source, frame.sparkSession)

    def forecast(group: pd.DataFrame) -> pd.DataFrame:
        return request.forecast(network_of(sent()), group)

    made = [StructField(STEP, LongType()), StructField(found.target, DoubleType())]
    return frame.groupBy(by).applyInPandas(forecast, StructType([frame.schema[by], *made]))


def _check_frame(frame: Any) -> None:
    if not hasattr(frame, "mapInArrow"):
        raise ArgumentError(f"frame: expected a pyspark.sql.DataFrame, found {described(frame)}")


def _sent(source: Source, session: Any) -> Callable[[], Source]:
    """What gives the source in a worker: a network that is pickled is broadcast."""
    if source.pickled is None:
        return lambda: source
    try:
        kept = session.sparkContext.broadcast(source)
    except Exception:  # Spark Connect has no context: the network goes with each task
        return lambda: source
    return lambda: kept.value
