# cython: language_level=3, boundscheck=False, embedsignature=True, freethreading_compatible=True
"""The only door to C: checks, releases the GIL and calls."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from ._cylstm cimport *

import os

import numpy as np

from .arrays import as_input, as_state, check_out, index_error
from .errors import CylstmError, ShapeError, StreamBusyError, UnsupportedError

cnp.import_array()

cdef enum:
    MAX_PORTS = 64

# multiply-adds that take about 20 us: longer calls release the GIL, shorter ones keep it
cdef int64_t GIL_WORK = 1000000


class EngineError(CylstmError, RuntimeError):
    """C refused what Python had let through: a defect of CyLSTM, please report it."""


cdef int check(CylStatus status, str what) except -1:
    if status == CYL_OK:
        return 0
    text = f"{what}: {cyl_status_text(status).decode()}"
    if status == CYL_E_MEMORY:
        raise MemoryError(text)
    if status == CYL_E_ISA or status == CYL_E_STREAM:
        raise UnsupportedError(text)
    if status == CYL_E_BUSY:
        raise StreamBusyError(f"{what}: another thread is inside this stream; give each thread its own stream")
    raise EngineError(text)


def isa_names():
    """The instruction sets that this build knows and this machine can run, weakest first."""
    return [cyl_isa_name(<CylIsa>isa).decode() for isa in range(CYL_ISA_COUNT) if cyl_isa_available(<CylIsa>isa)]


def chosen_isa():
    """The instruction set of new models: ``CYLSTM_ISA`` if set, else the best one of `isa_names`.

    Raises
    ------
    UnsupportedError
        If ``CYLSTM_ISA`` names a set that does not exist or that this CPU or build lacks.
    """
    wanted = os.environ.get("CYLSTM_ISA", "")
    if not wanted:
        return cyl_isa_name(cyl_isa_best()).decode()
    names = isa_names()
    if wanted not in names:
        raise UnsupportedError(f"CYLSTM_ISA={wanted}: expected one that this machine has: {', '.join(names)}")
    return wanted


def has_openmp():
    """Whether this build runs threads."""
    return bool(cyl_has_openmp())


def status_texts():
    """The text of every status code of C."""
    return [cyl_status_text(<CylStatus>status).decode() for status in range(CYL_STATUS_COUNT)]


cdef class PackedModel:
    """A graph in C: immutable, shared by any number of threads and streams.

    Parameters
    ----------
    graph : Graph
        Without dropout nodes.
    engine : {"packed", "blas"}
    isa : str
        For the packed engine.
    blas : Blas or None
        For the BLAS engine.
    dtype : numpy.dtype
        float32, or float64 with the BLAS engine.
    """

    cdef CylModel *model
    cdef int32_t input_count, output_count, state_count
    cdef readonly int64_t work, nbytes
    cdef readonly object dtype
    cdef int real_type
    cdef int64_t input_features[MAX_PORTS]
    cdef int64_t output_features[MAX_PORTS]
    cdef bint input_is_sequence[MAX_PORTS]
    cdef bint is_flat
    cdef readonly int64_t step_multiple
    cdef readonly list input_names, output_names, output_shapes, output_times, state_groups, derived
    cdef readonly dict limits
    cdef object __weakref__

    def __cinit__(self, graph, str engine, str isa, blas, dtype):
        cdef CylBlas c_blas
        cdef CylIsa c_isa = CYL_ISA_SCALAR
        cdef CylEngine c_engine = CYL_ENGINE_PACKED
        self.dtype = np.dtype(dtype)
        self.real_type = cnp.NPY_FLOAT64 if self.dtype == np.float64 else cnp.NPY_FLOAT32
        memset(&c_blas, 0, sizeof(c_blas))
        if engine == "blas":
            c_engine = CYL_ENGINE_BLAS64 if self.dtype == np.float64 else CYL_ENGINE_BLAS32
            addresses = blas.addresses
            c_blas.sgemv, c_blas.sgemm = addresses["sgemv"], addresses["sgemm"]
            c_blas.dgemv, c_blas.dgemm = addresses["dgemv"], addresses["dgemm"]
            c_blas.set_threads, c_blas.get_threads = addresses["set_threads"], addresses["get_threads"]
            c_blas.is_int64 = blas.is_int64
        else:
            for index in range(CYL_ISA_COUNT):
                if cyl_isa_name(<CylIsa>index).decode() == isa:
                    c_isa = <CylIsa>index
        check(cyl_model_create(c_engine, c_isa, &c_blas, &self.model), "model")
        self.build(graph)

    def __dealloc__(self):
        cyl_model_free(self.model)

    cdef build(self, graph):
        cdef int32_t index
        cdef int32_t inputs[MAX_PORTS]
        cdef int32_t masks[MAX_PORTS]
        cdef int32_t outputs[MAX_PORTS]
        from .streaming import derived_axes, index_limits

        cdef int32_t shape[CYL_MAX_RANK]
        kinds = {
            "sequence": CYL_SEQUENCE,
            "vector": CYL_VECTOR,
            "mask": CYL_MASK,
            "state": CYL_STATE,
            "index": CYL_INDEX,
        }
        indices = {}
        for value in graph.values.values():
            if len(value.shape) > CYL_MAX_RANK:
                raise UnsupportedError(f"value {value.name!r}: at most {CYL_MAX_RANK} axes are supported")
            for axis, size in enumerate(value.shape):
                shape[axis] = size or 0
            check(
                cyl_model_add_tensor(self.model, kinds[value.kind], shape, len(value.shape), &index),
                f"value {value.name!r} of shape {value.shape}",
            )
            indices[value.name] = index
        for node in graph.nodes:
            self.add_node(node, graph.node_tensors(node), indices)
        if len(graph.inputs) > MAX_PORTS or len(graph.outputs) > MAX_PORTS:
            raise UnsupportedError(f"at most {MAX_PORTS} inputs and outputs are supported")
        self.is_flat = True
        self.input_names, self.output_names = list(graph.inputs), list(graph.outputs)
        self.input_count, self.output_count = len(graph.inputs), len(graph.outputs)
        for i, name in enumerate(graph.inputs):
            value = graph.values[name]
            inputs[i] = indices[name]
            masks[i] = indices[value.mask] if value.mask is not None else -1
            self.input_features[i] = value.size
            self.input_is_sequence[i] = value.has_time
            self.is_flat = self.is_flat and len(value.step_shape) == 1 and value.kind != "index"
        self.derived, self.limits = derived_axes(graph), index_limits(graph)
        self.output_shapes, self.output_times = [], []
        for i, name in enumerate(graph.outputs):
            value = graph.values[name]
            outputs[i] = indices[name]
            self.output_features[i] = value.size
            self.output_shapes.append(value.step_shape)
            self.output_times.append(value.axis if value.axis is not None else value.shape[0] if value.has_time else None)
            self.is_flat = self.is_flat and len(value.step_shape) == 1
            self.is_flat = self.is_flat and (value.axis is None) == (not value.has_time) and not self.derived
        check(cyl_model_finish(self.model, inputs, masks, self.input_count, outputs, self.output_count), "model")
        self.state_count = cyl_model_state_count(self.model)
        self.state_groups = [(name, tuple(shape for _, shape in parts)) for name, parts in graph.states()]
        self.step_multiple = cyl_model_step_multiple(self.model)
        self.work = cyl_model_work(self.model)
        self.nbytes = cyl_model_bytes(self.model)

    cdef add_node(self, node, tensors, indices):
        """One node: names and arrays are kept alive in Python lists while C reads them."""
        cdef CylPort inputs[MAX_PORTS]
        cdef CylPort outputs[MAX_PORTS]
        cdef CylOption options[MAX_PORTS]
        cdef CylTensor arrays[MAX_PORTS]
        cdef CylNodeSpec spec
        cdef cnp.ndarray array
        if max(len(node.inputs), len(node.outputs), len(node.options), len(tensors)) > MAX_PORTS:
            raise UnsupportedError(f"layer {node.name!r}: at most {MAX_PORTS} inputs, options and tensors are supported")
        kept = [node.op.encode()]
        spec.op = <bytes>kept[0]
        for i, (role, name) in enumerate(node.inputs.items()):
            kept.append(role.encode())
            inputs[i].role, inputs[i].value = <bytes>kept[-1], indices[name]
        for i, (role, name) in enumerate(node.outputs.items()):
            kept.append(role.encode())
            outputs[i].role, outputs[i].value = <bytes>kept[-1], indices[name]
        for i, (key, option) in enumerate(node.options.items()):
            kept.append(key.encode())
            options[i].name, options[i].text, options[i].number = <bytes>kept[-1], NULL, 0.0
            if isinstance(option, str):
                kept.append(option.encode())
                options[i].text = <bytes>kept[-1]
            else:
                options[i].number = float(option)
        for i, (role, tensor) in enumerate(tensors.items()):
            array = np.ascontiguousarray(tensor, dtype=self.dtype).reshape(tensor.shape)
            kept.extend((role.encode(), array))
            arrays[i].role, arrays[i].data = <bytes>kept[-2], cnp.PyArray_DATA(array)
            arrays[i].rank = array.ndim
            for axis in range(min(array.ndim, 4)):
                arrays[i].shape[axis] = array.shape[axis]
        spec.inputs, spec.outputs, spec.options, spec.tensors = inputs, outputs, options, arrays
        spec.input_count, spec.output_count = len(node.inputs), len(node.outputs)
        spec.option_count, spec.tensor_count = len(node.options), len(tensors)
        check(cyl_model_add_node(self.model, &spec), f"layer {node.name!r}")

    def result_shapes(self, int64_t batch, list times, bint is_step=False):
        """Shapes of the outputs for inputs of these numbers of steps.

        With `is_step`, for a stream's single step, those without the time axis that are of one step each.

        Raises
        ------
        ShapeError
            If there are too few steps for a layer.
        """
        if self.derived:
            from .streaming import check_lengths

            check_lengths(self.derived, dict(zip(self.input_names, times)))
        shapes = []
        for shape, time in zip(self.output_shapes, self.output_times):
            if time is None or (is_step and not isinstance(time, int) and not time.rules):
                shapes.append((batch, *shape))
            elif isinstance(time, int):
                shapes.append((batch, time, *shape))
            else:
                shapes.append((batch, time.length(times[self.input_names.index(time.source)]), *shape))
        return shapes

    def refuse_index(self, list inputs):
        """Raise `ShapeError` about the first index out of range of the inputs."""
        for name, array in zip(self.input_names, inputs):
            error = index_error(name, array, self.limits[name]) if name in self.limits else None
            if error is not None:
                raise error

    def worthwhile_threads(self, int64_t rows, int64_t time, int threads):
        """How many of `threads` threads are worth using for `rows` rows of `time` steps."""
        return cyl_model_worthwhile_threads(self.model, rows, time, threads)

    def predict(self, list inputs, list masks, list outputs, initial_state, final_state, int threads):
        """Run a whole call; every array is checked, C-contiguous and of the right dtype already.

        Parameters
        ----------
        inputs : list of ndarray
            (batch, time, features) or (batch, features).
        masks : list of (ndarray of uint8 (batch, time), or None)
        outputs : list of ndarray
            Written to; (batch, time, features) or (batch, features).
        initial_state, final_state : list of ndarray (batch, ...), or None
        """
        cdef CylCall call
        cdef const void *in_data[MAX_PORTS]
        cdef const uint8_t *mask_data[MAX_PORTS]
        cdef void *out_data[MAX_PORTS]
        cdef int64_t times[MAX_PORTS]
        cdef const void **states = NULL
        cdef CylStatus status
        cdef cnp.ndarray array
        cdef int64_t longest = 1
        for i in range(self.input_count):
            array = inputs[i]
            in_data[i] = cnp.PyArray_DATA(array)
            times[i] = array.shape[1] if self.input_is_sequence[i] else 1
            longest = max(longest, times[i])
            mask_data[i] = NULL
            if masks[i] is not None:
                array = masks[i]
                mask_data[i] = <const uint8_t *>cnp.PyArray_DATA(array)
        for i in range(self.output_count):
            array = outputs[i]
            out_data[i] = cnp.PyArray_DATA(array)
        array = inputs[0]
        call.rows, call.times, call.threads = array.shape[0], times, threads
        call.inputs, call.masks, call.outputs = in_data, mask_data, out_data
        call.initial_state, call.final_state = NULL, NULL
        if initial_state is not None or final_state is not None:
            states = <const void **>PyMem_Calloc(max(1, 2 * self.state_count), sizeof(void *))
            if states == NULL:
                raise MemoryError
            for i in range(self.state_count):
                if initial_state is not None:
                    array = initial_state[i]
                    states[i] = cnp.PyArray_DATA(array)
                if final_state is not None:
                    array = final_state[i]
                    states[self.state_count + i] = cnp.PyArray_DATA(array)
            if initial_state is not None:
                call.initial_state = states
            if final_state is not None:
                call.final_state = <void *const *>(states + self.state_count)
        if self.work * call.rows * longest > GIL_WORK:
            with nogil:
                status = cyl_predict(self.model, &call)
        else:
            status = cyl_predict(self.model, &call)
        PyMem_Free(states)
        if status == CYL_E_INDEX:
            self.refuse_index(inputs)
        check(status, "predict")


cdef class Stream:
    """One running state of a model: feed it step by step, or chunk by chunk.

    Made by `Model.stream`. One thread at a time may use it (`StreamBusyError` otherwise); give each thread its own.

    Attributes
    ----------
    model : Model
    batch, threads : int
    """

    cdef readonly object model
    cdef PackedModel packed
    cdef CylStream *stream
    cdef readonly int64_t batch
    cdef readonly int threads

    def __cinit__(self, model, int64_t batch=1, int threads=1):
        self.model = model
        self.packed = model._packed
        self.batch = batch
        self.threads = threads
        check(cyl_stream_create(self.packed.model, batch, threads, &self.stream), "stream")
        check(cyl_stream_reset(self.stream), "stream")

    def __dealloc__(self):
        cyl_stream_free(self.stream)

    cdef run_arrays(self, list inputs, list outputs, int64_t time):
        cdef CylCall call
        cdef const void *in_data[MAX_PORTS]
        cdef void *out_data[MAX_PORTS]
        cdef int64_t times[MAX_PORTS]
        cdef cnp.ndarray array
        for i in range(self.packed.input_count):
            array = inputs[i]
            in_data[i] = cnp.PyArray_DATA(array)
            times[i] = time
        for i in range(self.packed.output_count):
            array = outputs[i]
            out_data[i] = cnp.PyArray_DATA(array)
        call.rows, call.times, call.threads = self.batch, times, self.threads
        call.inputs, call.masks, call.outputs = in_data, NULL, out_data
        call.initial_state, call.final_state = NULL, NULL
        if self.packed.limits:
            self.packed.refuse_index(inputs)
        self.run_call(&call, time)

    cdef int run_call(self, CylCall *call, int64_t time) except -1:
        cdef CylStatus status
        if self.packed.work * self.batch * time > GIL_WORK:
            with nogil:
                status = cyl_stream_run(self.stream, call)
        else:
            status = cyl_stream_run(self.stream, call)
        if status != CYL_OK:
            check(status, "stream")
        return 0

    def step(self, x, *, out=None):
        """Advance by one step.

        Parameters
        ----------
        x : array_like
            (features,) for a stream of batch 1, or (batch, features). Several inputs: a list in the order of
            `Model.inputs` or a dict by name.
        out : ndarray, optional
            Where to write the result: C-contiguous, of the model's dtype and the result's shape. Then nothing is
            allocated.

        Returns
        -------
        ndarray
            A fresh array: (outputs,) if x was (features,), else (batch, outputs); a list for several outputs.

        Raises
        ------
        ShapeError
            If x or out has another shape, rank or dtype.
        StreamBusyError
            If another thread is inside this stream.
        """
        cdef PackedModel packed = self.packed
        cdef CylCall call
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t one = 1
        cdef cnp.ndarray array, result
        cdef cnp.npy_intp shape[2]
        cdef int rank
        if packed.input_count != 1 or packed.output_count != 1 or not packed.is_flat or not cnp.PyArray_CheckExact(x):
            return self.step_any(x, out)
        array = x
        if cnp.PyArray_TYPE(array) != packed.real_type or not cnp.PyArray_ISCARRAY_RO(array):
            # NumPy's default is float64: converted here without the long way of step_any
            if not (cnp.PyArray_ISFLOAT(array) or cnp.PyArray_ISINTEGER(array)):
                return self.step_any(x, out)
            array = cnp.PyArray_FROM_OTF(x, packed.real_type, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST)
        rank = cnp.PyArray_NDIM(array)
        # (features,) of one row or (batch, features); all else goes the long way, which says what is wrong
        if not (
            (rank == 2 and array.shape[0] == self.batch or rank == 1 and self.batch == 1)
            and array.shape[rank - 1] == packed.input_features[0]
        ):
            return self.step_any(x, out)
        shape[0] = self.batch
        shape[rank - 1] = packed.output_features[0]
        if out is None:
            result = cnp.PyArray_EMPTY(rank, shape, packed.real_type, 0)
        else:
            if not cnp.PyArray_CheckExact(out):
                return self.step_any(x, out)
            result = out
            if not (
                cnp.PyArray_TYPE(result) == packed.real_type
                and cnp.PyArray_ISCARRAY(result)
                and cnp.PyArray_NDIM(result) == rank
                and result.shape[rank - 1] == shape[rank - 1]
                and result.shape[0] == shape[0]
            ):
                return self.step_any(x, out)
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        call.rows, call.times, call.threads = self.batch, &one, self.threads
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state = NULL, NULL
        self.run_call(&call, 1)
        return result

    def step_any(self, x, out=None):
        """`step` for every other kind of input: lists, other dtypes, several inputs and outputs."""
        return self.run_any(x, out, True)

    def run(self, chunk, *, out=None):
        """Advance by the steps of a chunk.

        Parameters
        ----------
        chunk : array_like
            (time, features) for a stream of batch 1, or (batch, time, features); several inputs as in `step`.
        out : ndarray, optional
            As in `step`.

        Returns
        -------
        ndarray
            What `Model.predict` would give for this chunk with the stream's state as initial state; a list for
            several outputs.

        Raises
        ------
        ShapeError, StreamBusyError
            As in `step`.
        """
        return self.run_any(chunk, out, False)

    cdef run_any(self, x, out, bint is_step):
        cdef PackedModel packed = self.packed
        model = self.model
        inputs, alone, time = [], None, None
        for value, array in zip(model._input_values, model._input_list(x)):
            array, is_alone = as_input(array, value, packed.dtype, is_step=is_step, batch=self.batch)
            if alone is not None and alone != is_alone:
                raise ShapeError("inputs: expected all with a batch axis or all without")
            if time is not None and time != array.shape[1]:
                raise ShapeError(f"inputs: expected equal time, found {time} and {array.shape[1]}")
            alone, time = is_alone, array.shape[1]
            inputs.append(array)
        if time % packed.step_multiple:
            raise ShapeError(f"stream: expected a multiple of {packed.step_multiple} steps at once, found {time}")
        outputs, results = [], []
        shapes = packed.result_shapes(self.batch, [time] * packed.input_count, is_step)
        given = [None] * packed.output_count if out is None else (out if isinstance(out, (list, tuple)) else [out])
        if len(given) != packed.output_count:
            raise ShapeError(f"out: expected {packed.output_count} arrays, found {len(given)}")
        for i in range(packed.output_count):
            shape = shapes[i][1:] if alone else shapes[i]
            if given[i] is None:
                result = np.empty(shape, packed.dtype)
            else:
                result = check_out(given[i], shape, packed.dtype, inputs)
            results.append(result)
            outputs.append(result)
        self.run_arrays(inputs, outputs, time)
        return results if packed.output_count > 1 else results[0]

    @property
    def state(self):
        """The states: a list with one tuple per stateful layer, as in `Model.predict`; arrays (batch, size), or with
        spatial axes (batch, rows, columns, channels).

        Reading copies; setting checks shapes.
        """
        cdef cnp.ndarray array
        cdef int32_t index = 0
        state = []
        for _, shapes in self.packed.state_groups:
            arrays = []
            for shape in shapes:
                array = np.empty((self.batch, *shape), self.packed.dtype)
                check(cyl_stream_get_state(self.stream, index, cnp.PyArray_DATA(array)), "stream")
                arrays.append(array)
                index += 1
            state.append(tuple(arrays))
        return state

    @state.setter
    def state(self, state):
        cdef cnp.ndarray array
        cdef int32_t index = 0
        for array in as_state(state, self.packed.state_groups, self.batch, self.packed.dtype):
            check(cyl_stream_set_state(self.stream, index, cnp.PyArray_DATA(array)), "stream")
            index += 1

    def reset(self):
        """Set every state to zero, as at the start."""
        check(cyl_stream_reset(self.stream), "stream")

    def copy(self):
        """A stream of its own that goes on from the same state."""
        cdef Stream other = Stream(self.model, self.batch, self.threads)
        other._restore(*self._saved())
        return other

    def _saved(self):
        cdef bytearray flags = bytearray(cyl_stream_flags_size(self.stream))
        cdef uint8_t *data = flags
        check(cyl_stream_get_flags(self.stream, data), "stream")
        return self.state, bytes(flags)

    def _restore(self, state, bytes flags):
        cdef const uint8_t *data = flags
        self.state = state
        if len(flags) != cyl_stream_flags_size(self.stream):
            raise ShapeError("stream: the saved state is of another model")
        check(cyl_stream_set_flags(self.stream, data), "stream")

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return _restore_stream, (self.model, self.batch, self.threads, *self._saved())

    def __repr__(self):
        return f"<cylstm.Stream batch={self.batch} threads={self.threads} of {self.model!r}>"


def _restore_stream(model, batch, threads, state, flags):
    stream = Stream(model, batch, threads)
    stream._restore(state, flags)
    return stream
