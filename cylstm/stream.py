"""Streams: a running state, or a window that moves along with the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_batch, check_threads, check_window
from cylstm.array_like import to_array
from cylstm.engine._engine import EngineStream
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, CylstmError, RowError, ShapeError, UnsupportedError, described
from cylstm.inputs import as_active, as_rows, as_state, read_inputs, refuse_rows
from cylstm.packing import PackedModel
from cylstm.prediction import result_arrays, to_users

if TYPE_CHECKING:
    from typing import NoReturn

    from cylstm.graph.values import Value
    from cylstm.model import Model
    from cylstm.trace import StreamTracer, Trace
    from cylstm.warm_up import Run


class Stream(EngineStream):
    """One running state of a model: feed it step by step, or chunk by chunk.

    Made by `Model.stream`. One thread at a time may use it (`StreamBusyError` otherwise); give each thread its own.

    The rows of its batch advance together, or some of them (``active`` of `step`), each as in a stream of its own;
    `reset`, `copy` and `replace` take single rows, so that users can come, go and change places.

    Attributes
    ----------
    model : Model
    batch, threads : int
    window : int or None
        Each step is the prediction of so many steps, see `Model.stream`; None: a running state.
    """

    #: of each input without time what was given last, (batch, ...), and of which rows: (batch,)
    __slots__ = ("_others", "_standing")

    _standing: dict[str, tuple[np.ndarray, np.ndarray]]
    #: streams of models with the same layers and other outputs, on which this one is run to be traced
    _others: dict[PackedModel, EngineStream]

    def __init__(self, model: Model, batch: int = 1, threads: int = 1, window: None = None) -> None:
        packed = _packed_of(model)
        if window is not None:
            raise UnsupportedError("a stream with a window is made by Model.stream(window=...)")
        reason = model._why_no_stream()
        if reason is not None:
            raise UnsupportedError(reason)
        batch = check_batch(batch)
        self._create(model, packed, batch, check_threads(threads), None, packed.carried, packed.stream_shapes(batch))
        self._standing, self._others = {}, {}

    # `step` is in `EngineStream`: a call from Python to Python alone would take longer than all of it may

    def run(
        self, chunk: Any, *, out: Any = None, active: Any = None, errors: dict[int, ShapeError] | None = None
    ) -> Any:
        """Advance by the steps of a chunk.

        Parameters
        ----------
        chunk : array_like
            (time, features) for a stream of batch 1, or (batch, time, features); several inputs as in `step`. An input
            without time is given once, and again where it changes: None, or leaving it out of a dict, is the last one.
        out : ndarray, optional
            As in `step`.
        active : array_like of bool, optional
            (batch,): which rows advance, by the whole chunk; as in `step`.
        errors : dict, optional
            As in `step`: a row advances by the whole chunk or not at all.

        Returns
        -------
        ndarray
            What `Model.predict` would give for this chunk with the stream's state as initial state; a list for
            several outputs. During a warm-up fewer steps, or none: all results one after the other are those of
            `Model.predict` for all chunks together. With a window, what `step` returns for the last step of the chunk:
            only that is computed.

        Raises
        ------
        ShapeError, RowError, StreamBusyError
            As in `step`.
        KeyboardInterrupt
            Or whatever else the handler of a signal raises, after at most 0.1 s on the main thread: `steps` says how
            many steps the stream has taken then, and the rest of `out` is unspecified.
        """
        if errors is not None:
            _clear(errors)
        result = self._run_array(chunk, out, active, False)
        if result is not None:
            return result
        if not any(value.has_time for value in self.model._packed.inputs):
            if errors is not None:
                raise ArgumentError(
                    "errors: a chunk of a network without time takes none; give step(errors=...) one for each"
                )
            return self._run_calls(chunk, active, out)
        return self._run_any(chunk, active, out, is_step=False, errors=errors)

    @in_standard_mode
    def trace(
        self,
        x: Any,
        layers: Sequence[str] | str | None = None,
        what: Sequence[str] | str | None = None,
        *,
        out: Trace | None = None,
        active: Any = None,
    ) -> Trace:
        """`step`, and what the layers compute on the way: gates, cells and results.

        The stream goes on as after `step`, with the same bits.

        Parameters
        ----------
        x, active
            As in `step`.
        layers, what
            As in `Model.trace`.
        out : Trace, optional
            What an earlier call of this stream for the same layers and parts gave: its arrays are written again, of
            the same shapes.

        Returns
        -------
        Trace
            ``trace.outputs`` is what `step` returns. All else is as of a run of one step: ``trace["lstm"].f`` is
            (batch, 1, units), or (1, units) if x came without a batch. Rows that rest are NaN in gates and cells. With
            a window it is of the whole window, (batch, window, units), and NaN of rows that have had fewer steps.

        Raises
        ------
        ArgumentError
            As `Model.trace`.
        ShapeError, StreamBusyError
            As in `step`.
        """
        from cylstm.trace import trace_stream

        return trace_stream(self, x, layers, what, out, active, is_step=True)

    @in_standard_mode
    def trace_run(
        self,
        chunk: Any,
        layers: Sequence[str] | str | None = None,
        what: Sequence[str] | str | None = None,
        *,
        out: Trace | None = None,
        active: Any = None,
    ) -> Trace:
        """`run`, and what the layers compute on the way: as `trace`, of the steps of a chunk.

        Parameters
        ----------
        chunk, active
            As in `run`.
        layers, what, out
            As in `trace`.

        Returns
        -------
        Trace
            ``trace.outputs`` is what `run` returns; arrays are (batch, time, units). While a network warms up
            (`warm_up`), a row with fewer steps than others has them at the end, behind NaN.

        Raises
        ------
        ArgumentError
            As `Model.trace`.
        UnsupportedError
            For a network without time, each of whose calls is a step: `trace` takes one.
        ShapeError, StreamBusyError, KeyboardInterrupt
            As in `run`.
        """
        from cylstm.trace import trace_stream

        if not any(value.has_time for value in self.model._packed.inputs):
            raise UnsupportedError("trace_run: the network has no time, so each call is a step; trace takes one")
        return trace_stream(self, chunk, layers, what, out, active, is_step=False)

    def _other_of(self, packed: PackedModel) -> EngineStream:
        """The stream of a model with the same layers and other outputs, to run this one on."""
        known = self._others.get(packed)
        if known is not None:
            return known
        if len(self._others) >= 4:
            self._others.clear()
        other = EngineStream()
        carried = packed.carried if self.window is None else None
        other._create(self.model, packed, self.batch, self.threads, self.window, carried, None)
        self._others[packed] = other
        return other

    @in_standard_mode
    def _run_calls(self, chunk: Any, active: Any, out: Any) -> Any:
        """`run` of a network without time, each of whose calls is a step: the chunk has a time before its features."""
        if out is not None:
            raise ArgumentError("out: a chunk of a network without time takes none; give step(out=...) one for each")
        values = self.model._packed.inputs
        given = chunk if isinstance(chunk, (list, tuple)) and len(values) > 1 else [chunk]
        if isinstance(chunk, dict):
            given = [chunk[value.name] for value in values if value.name in chunk]
        arrays = [to_array(one, f"input {value.name!r}") for value, one in zip(values, given)]
        if len(arrays) != len(values):
            raise ShapeError(f"inputs: expected {len(values)} arrays, found {len(arrays)}")
        alone = all(array.ndim == len(value.shape) + 1 for value, array in zip(values, arrays)) and self.batch == 1
        arrays = [array[np.newaxis] for array in arrays] if alone else arrays
        for value, array in zip(values, arrays):
            if array.ndim != len(value.shape) + 2 or array.shape[1] != arrays[0].shape[1] or not array.shape[1]:
                raise ShapeError(
                    f"input {value.name!r}: expected (batch, time, features) of one time, found shape {array.shape}"
                )
        steps = [
            self.step([array[:, t] for array in arrays] if len(arrays) > 1 else arrays[0][:, t], active=active)
            for t in range(arrays[0].shape[1])
        ]
        several = isinstance(steps[0], list)
        columns = zip(*steps) if several else [steps]
        results = [np.stack(column, axis=1) for column in columns]
        results = [result[0] for result in results] if alone else results
        return results if several else results[0]

    @in_standard_mode
    def _step_any(self, x: Any, active: Any, out: Any, errors: dict[int, ShapeError] | None = None) -> Any:
        """`step` for what is not one array that C can read: lists, several inputs and outputs, wrong ones."""
        if errors is not None:
            _clear(errors)
            result = self._run_array(x, out, active, True)
            if result is not None:
                return result
        return self._run_any(x, active, out, is_step=True, errors=errors)

    @in_standard_mode
    def _run_any(
        self,
        x: Any,
        active: Any,
        out: Any,
        is_step: bool,
        tracer: StreamTracer | None = None,
        errors: dict[int, ShapeError] | None = None,
    ) -> Any:
        """`step` and `run` in general. Rows that are wrong go to `errors`, and the others advance, if it is given."""
        if errors is None:
            return self._run_rows(x, active, out, is_step, tracer)
        rows = np.ones(self.batch, bool) if active is None else as_active(active, self.batch).copy()
        wrong: dict[int, ShapeError] = {}
        while True:  # at most once for each thing that can be wrong with a row
            try:
                results = self._run_rows(x, rows if wrong or active is not None else None, out, is_step, tracer)
                break
            except RowError as error:
                wrong |= error.rows
                rows[list(error.rows)] = False
        if wrong:
            for array in results if isinstance(results, list) else [results]:
                if array is not None:
                    array[... if self.batch == 1 else list(wrong)] = np.nan
        errors.update(sorted(wrong.items()))
        return results

    def _run_rows(self, x: Any, active: Any, out: Any, is_step: bool, tracer: StreamTracer | None) -> Any:
        packed = self.model._packed if tracer is None else tracer.packed
        run: Run = self._run_arrays if tracer is None else tracer.run
        if active is not None:
            active = as_active(active, self.batch)
        # a step has one order of axes only
        layouts = {} if is_step else packed.layouts
        values = self._input_values()
        last: list[str] = []
        if len(values) > 1 and any([value.has_time for value in values]):
            x, last = self._with_standing(x, values, is_step)
        inputs, is_alone = read_inputs(packed, x, values, layouts, is_step=is_step, batch=self.batch, active=active)
        if tracer is not None:
            tracer.is_alone = is_alone
        standing = self._standing if len(values) == 1 else self._next_standing(values, inputs, last, active)
        try:
            results = self._run_read(packed, run, values, inputs, is_alone, active, out, is_step)
        except (CylstmError, MemoryError):
            raise  # before any step was taken
        except BaseException:  # after some steps
            self._standing = standing
            raise
        self._standing = standing
        return results

    def _run_read(
        self,
        packed: PackedModel,
        run: Run,
        values: Sequence[Value],
        inputs: list[np.ndarray],
        is_alone: bool,
        active: np.ndarray | None,
        out: Any,
        is_step: bool,
    ) -> Any:
        """`_run_any` once the inputs have been read."""
        # of a network without time a call is a step
        time, *others = [array.shape[1] for value, array in zip(values, inputs) if value.has_time] or [1]
        for other in others:
            if other != time:
                raise ShapeError(f"inputs: expected equal time, found {time} and {other}")
        if self._warms_up():
            from cylstm.warm_up import run_warming_up

            return run_warming_up(self, packed, run, inputs, is_alone, time, active, out, is_step)
        shapes, layouts = self._result_shapes(packed, time, is_step)
        results, given = result_arrays(packed, shapes, is_alone, out, inputs, layouts)
        if packed.limits:
            packed.check_indices(inputs, active)
        run(inputs, results, time, active)
        if layouts:
            results = to_users(packed, results, given)
        return results if len(results) > 1 else results[0]

    def _with_standing(self, x: Any, values: Sequence[Value], is_step: bool) -> tuple[Any, list[str]]:
        """Inputs with what was given last in the place of those without time that are None or left out, and which."""
        standing = [value.name for value in values if not value.has_time]
        if len(standing) in (0, len(values)) or not isinstance(x, (list, tuple, dict)):
            return x, []
        given = dict(x) if isinstance(x, dict) else {value.name: one for value, one in zip(values, x)}
        if isinstance(x, dict):
            given = {name: None for name in standing} | given
        elif len(x) != len(values):
            return x, []
        timed = next(value for value in values if value.has_time)
        is_alone = np.ndim(given.get(timed.name, ())) == len(timed.step_shape) + (not is_step)
        last = [name for name in standing if given[name] is None]
        for name in last:
            if name not in self._standing:
                raise ShapeError(f"input {name!r}: expected it with the first step; later None is what was given last")
            array = self._standing[name][0]
            given[name] = array[0] if is_alone else array
        return given, last

    def _next_standing(
        self, values: Sequence[Value], inputs: Sequence[np.ndarray], last: Sequence[str], active: np.ndarray | None
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What is remembered of the inputs without time after a call, in which some rows advance."""
        standing = dict(self._standing)
        rows = np.ones(self.batch, bool) if active is None else active
        for value, array in zip(values, inputs):
            if value.has_time:
                continue
            kept, known = standing.get(value.name, (np.zeros_like(array), np.zeros(self.batch, bool)))
            if value.name in last:
                _refuse_unknown(value.name, rows & ~known)
            kept, known = kept.copy(), known.copy()
            kept[rows] = array[rows]
            known[rows] = True
            standing[value.name] = (kept, known)
        return standing

    def _copy_standing(self, rows: np.ndarray, source: Stream, source_rows: np.ndarray) -> None:
        """What rows of another stream of the model were given last; nothing where those were given nothing."""
        for name, (array, known) in source._standing.items():
            if name not in self._standing:
                self._standing[name] = (
                    np.zeros((self.batch, *array.shape[1:]), array.dtype),
                    np.zeros(self.batch, bool),
                )
            kept, of_rows = self._standing[name]
            kept[rows], of_rows[rows] = array[source_rows], known[source_rows]
        for name in set(self._standing) - set(source._standing):
            self._standing[name][1][rows] = False

    def _input_values(self) -> Sequence[Value]:
        """What the inputs of a call must be, whatever number of steps it has."""
        return self.model._packed.inputs

    def _warms_up(self) -> bool:
        return self.model._packed.warms_up

    @property
    def warm_up(self) -> int:
        """How many steps a row takes before as many come out of each call as of any other of its length.

        Until then there are fewer, mostly none: a convolution with a kernel of 3 and padding "valid" has no output for
        the first 2 steps. 0 where the first step gives an output as every other does. With a window of n steps n - 1.
        """
        packed = self.model._packed
        return packed.settles if packed.warms_up else 0

    def _check_multiple(self, time: int) -> None:
        multiple = self.model._packed.step_multiple
        if time % multiple:
            raise ShapeError(f"stream: expected a multiple of {multiple} steps at once, found {time}")

    def _result_shapes(
        self, packed: PackedModel, time: int, is_step: bool
    ) -> tuple[list[tuple[int, ...]], dict[str, str]]:
        """Of a call of so many steps, and the order of axes that the user has in them."""
        self._check_multiple(time)
        return packed.result_shapes(self.batch, [time] * len(packed.inputs), is_step), {} if is_step else packed.layouts

    @property
    def state(self) -> list[tuple[np.ndarray, ...]]:
        """The states: a list with one tuple per stateful layer, as in `Model.predict`; arrays (batch, size), or with
        spatial axes (batch, rows, columns, channels).

        Where windows over time reach into earlier chunks, other than of causal convolutions, tuples follow that
        `Model.predict` does not have: the last steps that a layer has read, (batch, steps, features), for each such
        layer; and with a warm-up the steps that each row has taken, (batch, 1), up to `warm_up`.

        Reading copies; setting checks shapes.
        """
        return self._saved(None)

    @state.setter
    def state(self, state: Sequence[Sequence[Any]]) -> None:
        self._restore_state(*self._as_state(state, self.batch), None)

    @in_standard_mode
    def _as_state(self, state: Any, batch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The arrays of a state, and the steps taken."""
        packed = self.model._packed
        arrays = as_state(state, packed.stream_groups, batch, packed.dtype)
        if not packed.warms_up:
            return arrays, np.zeros(batch, np.int64)
        found = arrays.pop()[:, 0]
        known = np.arange(0, packed.settles + 1, packed.step_multiple)
        for steps in found[~np.isin(found, known)][:1]:
            raise ShapeError(f"state 'steps': expected a multiple of {known[1]} up to {known[-1]}, found {steps}")
        return arrays, found.astype(np.int64)

    def _saved(self, flags: bytearray | None) -> list[tuple[np.ndarray, ...]]:
        """The states, as `state` gives them, and into `flags` what is remembered beside them: all of one moment."""
        packed = self.model._packed
        state = [
            tuple([np.empty((self.batch, *shape), packed.dtype) for shape in shapes])
            for _, shapes in packed.stream_groups
        ]
        taken = np.empty(self.batch, np.int64)
        flat = [array for arrays in state for array in arrays]
        self._save_state(flat[:-1] if packed.warms_up else flat, taken, flags)
        if packed.warms_up:
            flat[-1][:, 0] = taken
        return state

    @property
    def steps(self) -> np.ndarray:
        """The steps of the input that each row has taken since the stream was made or the row reset.

        Where a signal's handler ends `run` by an exception (Ctrl-C), the stream has taken the first steps of the chunk
        and no others: as many as this has grown by. It goes on from there (of a Keras model with layers of which only
        some are stateful, as after any call: the others start from zero). With a window, all steps are taken then.

        Returns
        -------
        ndarray of int64
            (batch,), a read-only copy. `copy`, `replace` by another stream and pickling carry it with a row; `replace`
            by a state starts at 0; setting `state` leaves it.

        Raises
        ------
        StreamBusyError
            If another thread is inside this stream.
        """
        counts = np.empty(self.batch, np.int64)
        self._count_steps(counts)
        counts.flags.writeable = False
        return counts

    def reset(self, rows: Any = None) -> None:
        """Start again: states of zero, no steps taken, and nothing remembered.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,), optional
            Only these rows, selected as in NumPy. Default: all.

        Raises
        ------
        ArgumentError
            If there are no such rows.
        StreamBusyError
            If another thread is inside this stream.
        """
        indices = None if rows is None else as_rows(rows, self.batch)
        self._reset_rows(indices)
        for _, known in self._standing.values():
            known[slice(None) if indices is None else indices] = False

    def copy(self, rows: Any = None) -> Stream:
        """A stream of its own that goes on from the same running state, or from the same steps of a window.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,), optional
            Only these rows, in this order: row n of the copy is row ``rows[n]`` of this stream. Default: all.

        Returns
        -------
        Stream
            As many rows as were chosen; the same model, at most as many threads.

        Raises
        ------
        ArgumentError
            If there are no such rows, or none is chosen.
        StreamBusyError
            If another thread is inside this stream.
        """
        indices = as_rows(rows, self.batch)
        if len(indices) == 0:
            raise ArgumentError("rows: expected at least one, found none")
        other = self._fresh(len(indices))
        other._copy_rows(as_rows(None, len(indices)), self, indices)
        other._copy_standing(as_rows(None, len(indices)), self, indices)
        return other

    def _fresh(self, batch: int) -> Stream:
        """A stream of the same kind, at its start."""
        return Stream(self.model, batch, self.threads)

    @in_standard_mode
    def replace(self, rows: Any, source: Stream | Sequence[Sequence[Any]]) -> None:
        """Let some rows go on from another running state, or from the steps of another window: the opposite of `copy`.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,)
            Which rows, selected as in NumPy, each once.
        source : Stream, or list of tuple of array_like
            Row n goes to row ``rows[n]``. A stream of the same `Model` and the same window; or, of a stream without
            window, a state in the form of `state`, arrays (number of rows, size), for which the rows start again with
            it as their initial state.

        Raises
        ------
        ArgumentError
            If there are no such rows, or one is named twice.
        ShapeError
            If source has another number of rows, other shapes, another window or another model.
        UnsupportedError
            If source is a state and this stream has a window.
        StreamBusyError
            If another thread is inside either stream.
        """
        indices = as_rows(rows, self.batch)
        if len(np.unique(indices)) != len(indices):
            raise ArgumentError(f"rows: expected each row once, found {indices.tolist()}")
        if isinstance(source, Stream):
            if source.model is not self.model or source.window != self.window:
                window = "without window, or its state as a list of tuples"
                window = window if self.window is None else f"with window={self.window}"
                raise ShapeError(f"source: expected a stream of the same Model object {window}")
            if source.batch != len(indices):
                raise ShapeError(f"source: expected {len(indices)} rows, found a stream of {source.batch}")
            # what is read must not have been written yet
            other = source.copy() if source is self else source
        else:
            arrays, taken = self._as_state(source, len(indices))
            if len(indices) == 0:
                return
            other = self._fresh(len(indices))
            other._restore_state(arrays, taken, None)
        self._copy_rows(indices, other, as_rows(None, len(indices)))
        self._copy_standing(indices, other, as_rows(None, len(indices)))

    @in_standard_mode
    def _restore(self, state: Any, flags: object) -> None:
        """Go on from what `__reduce__` saved; everything is checked before anything changes."""
        arrays, taken = self._as_state(state, self.batch)
        size = self._flags_size()
        if not isinstance(flags, bytes) or len(flags) != size:
            found = f"{len(flags)} bytes" if isinstance(flags, bytes) else type(flags).__name__
            raise ShapeError(
                f"stream: expected saved flags of {size} bytes, found {found}; they are of another model or batch"
            )
        self._restore_state(arrays, taken, flags)

    def _saved_standing(self) -> tuple[object, ...]:
        return (self._standing,) if self._standing else ()

    def _restore_standing(self, standing: Any) -> None:
        """Take over what `__reduce__` saved of the inputs without time, if it can be of this model."""
        values = {value.name: value for value in self.model._packed.inputs if not value.has_time}
        for name, (array, known) in dict(standing).items():
            value = values.get(name)
            if value is None or array.shape != (self.batch, *value.shape) or known.shape != (self.batch,):
                raise ShapeError("stream: the saved inputs without time are of another model")
            self._standing[name] = (array, known)

    def __copy__(self) -> Stream:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, object]) -> Stream:
        return self.copy()

    def __reduce__(self) -> tuple[Callable[..., Stream], tuple[object, ...]]:
        flags = bytearray(self._flags_size())
        state = self._saved(flags)
        return _restore_stream, (
            self.model,
            self.batch,
            self.threads,
            None,
            state,
            bytes(flags),
            *self._saved_standing(),
        )

    def __repr__(self) -> str:
        window = "" if self.window is None else f" window={self.window}"
        return f"<cylstm.Stream batch={self.batch} threads={self.threads}{window} of {self.model!r}>"


class WindowStream(Stream):
    """A stream whose every step is the prediction of the last `window` steps, from a zero state.

    Made by ``Model.stream(window=...)``. It has the methods of `Stream`; a result is bit for bit what `Model.predict`
    gives for the last steps (with ``engine="blas"`` within rounding), and has its shape. Until a row has had as many
    steps its results are NaN. An input without time is the one last given. There is no running state: `state` cannot
    be read or set.

    Attributes
    ----------
    model : Model
    batch, threads, window : int
    """

    __slots__ = ()

    window: int

    def __init__(self, model: Model, batch: int = 1, threads: int = 1, window: int | None = None) -> None:
        packed = _packed_of(model)
        length = check_window(packed.inputs, window)
        batch, threads = check_batch(batch), check_threads(threads)
        # first: it says which layer the steps are too few for
        shapes = packed.result_shapes(batch, [length] * len(packed.inputs))
        value = packed.inputs[0]
        is_plain = len(packed.inputs) == len(shapes) == 1 and not packed.layouts
        is_plain = is_plain and value.kind == "sequence"
        plain = (value.step_shape, shapes[0], -1) if is_plain else None
        self._create(model, packed, batch, threads, length, None, plain)
        self._standing, self._others = {}, {}

    def _warms_up(self) -> bool:
        return False  # a window of too few steps is NaN

    @property
    def warm_up(self) -> int:
        """The steps that a row takes before its window is whole, until which its results are NaN: n - 1."""
        return self.window - 1

    def _input_values(self) -> Sequence[Value]:
        return [
            value._replace(shape=(None, *value.shape[1:])) if value.has_time else value
            for value in self.model._packed.inputs
        ]

    def _result_shapes(
        self, packed: PackedModel, time: int, is_step: bool
    ) -> tuple[list[tuple[int, ...]], dict[str, str]]:
        return packed.result_shapes(self.batch, [self.window] * len(packed.inputs)), packed.layouts

    def _refuse_state(self) -> NoReturn:
        raise UnsupportedError(
            f"a stream with window={self.window} has no running state: each step is predicted from a zero state; "
            "copy(), replace() with a stream, and pickle keep the last steps"
        )

    @property
    def state(self) -> NoReturn:
        """Raises `UnsupportedError`: there is no running state."""
        self._refuse_state()

    @state.setter
    def state(self, state: object) -> None:
        self._refuse_state()

    def _as_state(self, state: object, batch: int) -> NoReturn:
        self._refuse_state()

    def _fresh(self, batch: int) -> WindowStream:
        return WindowStream(self.model, batch, self.threads, self.window)

    def _kept_shapes(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of all that is kept of each input."""
        packed = self.model._packed
        return [
            (
                (self.batch, *((self.window,) if value.has_time else ()), *value.step_shape),
                np.dtype(np.int32) if value.kind == "index" else packed.dtype,
            )
            for value in packed.inputs
        ]

    def _restore(self, arrays: Any, counts: Any) -> None:
        given = [*arrays, counts]
        expected = [*self._kept_shapes(), ((self.batch,), np.dtype(np.int64))]
        fits = len(given) == len(expected) and all(
            isinstance(array, np.ndarray)
            and (array.shape, array.dtype) == known
            and array.flags.c_contiguous
            and array.flags.aligned
            for array, known in zip(given, expected)
        )
        if not fits or not self._restore_window(given[:-1], counts):
            raise ShapeError("stream: the saved steps are of another model")

    def __reduce__(self) -> tuple[Callable[..., Stream], tuple[object, ...]]:
        arrays = [np.empty(shape, dtype) for shape, dtype in self._kept_shapes()]
        counts = np.empty(self.batch, np.int64)
        self._save_window(arrays, counts)
        return _restore_stream, (
            self.model,
            self.batch,
            self.threads,
            self.window,
            arrays,
            counts,
            *self._saved_standing(),
        )


def _refuse_unknown(name: str, is_unknown: np.ndarray) -> None:
    """Raise `RowError` about the rows for which None stands for what they were never given."""
    refuse_rows(
        is_unknown, lambda place: f"input {name!r}: row {place[0]} was given none yet, which None would stand for"
    )


def _clear(errors: object) -> None:
    """Empty the dict that is to hold the errors of a call. Raises `ArgumentError` if it is none."""
    if not isinstance(errors, dict):
        raise ArgumentError(f"errors: expected a dict to put the error of each wrong row in, found {described(errors)}")
    errors.clear()


def _packed_of(model: object) -> PackedModel:
    packed = getattr(model, "_packed", None)
    if not isinstance(packed, PackedModel):
        raise ArgumentError(f"model: expected a cylstm.Model, found {type(model).__name__}")
    return packed


def _restore_stream(
    model: Model, batch: int, threads: int, window: int | None, saved: Any, beside: Any, standing: Any = None
) -> Stream:
    """What pickle calls, with what `__reduce__` saved."""
    stream = Stream(model, batch, threads) if window is None else WindowStream(model, batch, threads, window)
    stream._restore(saved, beside)
    stream._restore_standing(standing or {})
    return stream
