# cython: language_level=3, boundscheck=False, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The only interface to C: checks, releases the GIL and calls.

Lists instead of generators: the types that Cython makes for the latter cost every start a tenth of a millisecond.
"""

cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t
from libc.string cimport memset

from ._cylstm cimport *

cdef extern from "Python.h":
    # without Cython's looks whether there is an exception
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept nogil

import os
from functools import partial

import numpy as np

from cylstm.engine import threads as _threads
from cylstm.errors import CylstmError, FormatError, ShapeError, StreamBusyError, UnsupportedError
from cylstm.graph.weights import StoredTensor, StoredTensors, as_stored

cnp.import_array()
# before the process can fork: a child must not run on OpenMP's threads of its parent
cyl_threads_watch_fork()

cdef enum:
    MAX_PORTS = 64

# the modules of these names, imported with the first stream: what only predicts starts without them
cdef object _arrays = None
cdef object _prediction = None
# the thread on which Python runs the handlers of signals; 0 where that is not known
cdef unsigned long main_thread = 0
cdef bint watches_fork = False
# see use_all_threads
cdef bint uses_all_threads = False
# multiply-adds that take about 20 us: longer calls release the GIL, shorter ones keep it
cdef double GIL_WORK = 1e6
# of an array: NumPy counts its bytes in the type of an address
cdef double MOST_NUMBERS = <double>(<size_t>-1) / 16


class EngineError(CylstmError, RuntimeError):
    """C refused what Python had let through: a defect of CyLSTM, please report it."""


cdef int check(CylStatus status, str what) except -1:
    if status == CYL_OK:
        return 0
    if status == CYL_E_STOPPED:
        return -1  # the exception of the signal's handler is set
    text = f"{what}: {cyl_status_text(status).decode()}"
    if status == CYL_E_MEMORY:
        raise MemoryError(text)
    if status == CYL_E_ISA or status == CYL_E_STREAM:
        raise UnsupportedError(text)
    if status == CYL_E_BUSY:
        raise StreamBusyError(f"{what}: another thread is inside this stream; give each thread its own stream")
    if status == CYL_E_LAYOUT:
        raise FormatError(text)
    raise EngineError(text)


cdef int find_main_thread() except -1:
    global main_thread, watches_fork
    import threading

    if not watches_fork and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget_main_thread)
    watches_fork = True
    main_thread = threading.main_thread().ident
    return 0


def forget_main_thread():
    """Whoever forked is the child's main thread."""
    global main_thread
    main_thread = 0


cdef int run_handlers(void *context) noexcept nogil:
    """Run the handlers of signals that have come; whether one of them raised, which leaves its exception set."""
    with gil:
        return PyErr_CheckSignals()


cdef inline bint is_long(int64_t work, int64_t rows, int64_t time) noexcept:
    """Whether a call of so many multiply-adds a step takes so long that it releases the GIL."""
    return <double>work * <double>rows * <double>time > GIL_WORK


cdef int watch_signals(CylCall *call) except -1:
    """Let signals end a long call: on the main thread, where their handlers run."""
    if main_thread == 0:
        find_main_thread()
    if PyThread_get_thread_ident() == main_thread:
        call.should_stop, call.stop_context = run_handlers, NULL
    return 0


def isa_names():
    """The instruction sets that this build knows and this machine can run, weakest first."""
    return [cyl_isa_name(<CylIsa>isa).decode() for isa in range(CYL_ISA_COUNT) if cyl_isa_available(<CylIsa>isa)]


def isa_fuses(str isa):
    """Whether a multiply-add is one instruction in this instruction set."""
    return isa in [cyl_isa_name(<CylIsa>index).decode() for index in range(CYL_ISA_COUNT) if cyl_isa_fuses(<CylIsa>index)]


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


def cpu_features():
    """What a newer ARM CPU has beyond its instruction set, as the system says."""
    names = {CYL_FEATURE_DOT_PRODUCT: "dot products", CYL_FEATURE_FP16: "float16 arithmetic"}
    return [name for feature, name in names.items() if cyl_feature_available(<CylFeature>feature)]


def threads_name():
    """What threads this build has itself: "pool" or "none"; OpenMP's are in a library beside it."""
    return cyl_threads_name().decode()


def bind_openmp(uintptr_t region):
    """Run the calls of models with OpenMP's threads by the function at this address; 0 for our own threads again."""
    cyl_openmp_bind(<CylRegion *>region)


def wait_for_threads(double seconds):
    """At least for how long a call waits for threads that sleep; tests mean the threads that they ask for."""
    cyl_threads_patience(<int64_t>(seconds * 1e9))


def use_all_threads(bint yes):
    """Whether calls use every thread that they may, where fewer would be faster too; for tests, like the above."""
    global uses_all_threads
    uses_all_threads = yes


def layout_version():
    """Of the packed arrays that `PackedModel.arrays` gives; the same on every machine."""
    return CYL_LAYOUT_VERSION


def status_texts():
    """The text of every status code of C."""
    return [cyl_status_text(<CylStatus>status).decode() for status in range(CYL_STATUS_COUNT)]


cdef class PackedModel:
    """A graph in C: immutable, shared by any number of threads and streams.

    Parameters
    ----------
    graph : Graph
        Without dropout layers.
    engine : {"packed", "blas"}
    isa : str
        Of everything in float32 but the products of the BLAS.
    blas : Blas or None
        For the BLAS engine.
    dtype : numpy.dtype
        float32, or float64 with the BLAS engine.
    arrays : dict of str to list of ndarray of float32, optional
        The packed weights of every layer that has any, by its name, as `arrays` gives them; the packed engine only.
        The graph's tensors are not read then; the arrays are kept, are aligned to 64 bytes and must never change.

    Attributes
    ----------
    inputs, outputs : tuple of Value
        What calls are checked against, as all below; whatever becomes of the graph.
    layouts : dict of str to str
    state_groups : tuple of (layer name, shapes without batch)

    Raises
    ------
    FormatError
        If `arrays` are of another type, order or number than the engine's own; names the layer.
    """

    cdef CylModel *model
    cdef int32_t input_count, output_count, state_count
    cdef readonly int64_t work, nbytes
    cdef readonly object dtype
    cdef int real_type
    cdef int64_t input_features[MAX_PORTS]
    cdef int64_t output_features[MAX_PORTS]
    cdef bint input_is_sequence[MAX_PORTS]
    # whether arrays of one sequence or vector of features go straight to C, without the checks in Python
    cdef bint is_flat
    cdef bint output_has_time[MAX_PORTS]
    cdef readonly int64_t step_multiple
    cdef readonly tuple inputs, outputs, state_groups
    cdef readonly dict layouts
    cdef list input_names, output_shapes, output_times, derived
    cdef readonly dict limits
    cdef dict layer_indices
    # of each layer, whether its state goes on from call to call; None where all do
    cdef bytes carried
    cdef object kept
    # until the first call on several threads has loaded what it needs of OpenMP
    cdef bint wants_openmp
    cdef object __weakref__

    def __cinit__(self, graph, str engine, str isa, blas, dtype, arrays=None):
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
            c_blas.exchange_threads = addresses["exchange_threads"]
            c_blas.threads_are_local, c_blas.is_int64 = blas.threads_are_local, blas.is_int64
        for index in range(CYL_ISA_COUNT):
            if cyl_isa_name(<CylIsa>index).decode() == isa:
                c_isa = <CylIsa>index
        check(cyl_model_create(c_engine, c_isa, &c_blas, &self.model), "model")
        if arrays is not None:
            check_packed(graph, arrays, c_engine == CYL_ENGINE_PACKED)
        self.wants_openmp = _threads.backend_of(engine) == "openmp"
        if self.wants_openmp:
            # here, since an import at a call could fall into a fork, and its lock stay taken in the child
            from cylstm.engine import openmp
        cyl_model_set_threads(self.model, CYL_THREADS_OPENMP if self.wants_openmp else CYL_THREADS_POOL)
        self.kept = None if arrays is None else [list(packed) for packed in arrays.values()]
        self.build(graph, arrays)

    def __dealloc__(self):
        cyl_model_free(self.model)

    cdef build(self, graph, arrays):
        cdef int32_t index
        cdef int32_t inputs[MAX_PORTS]
        cdef int32_t masks[MAX_PORTS]
        cdef int32_t outputs[MAX_PORTS]
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
        self.layer_indices = {layer.name: i for i, layer in enumerate(graph.layers)}
        self.carried = bytes([layer.name in graph.stateful for layer in graph.layers]) if graph.stateful else None
        for layer in graph.layers:
            tensors = graph.stored_tensors(layer)
            if arrays is None:
                self.add_layer(layer, tensors, indices, None)
                for role, tensor in tensors.items():
                    self.write_tensor(layer.name, role, tensor)
            else:
                self.add_layer(layer, tensors, indices, arrays.get(layer.name, []))
        if len(graph.inputs) > MAX_PORTS or len(graph.outputs) > MAX_PORTS:
            raise UnsupportedError(f"at most {MAX_PORTS} inputs and outputs are supported")
        self.layouts = dict(graph.layouts)
        self.is_flat = not self.layouts
        self.inputs = tuple([graph.values[name] for name in graph.inputs])
        self.outputs = tuple([graph.values[name] for name in graph.outputs])
        self.input_names = list(graph.inputs)
        self.input_count, self.output_count = len(graph.inputs), len(graph.outputs)
        for i, name in enumerate(graph.inputs):
            value = graph.values[name]
            inputs[i] = indices[name]
            masks[i] = indices[value.mask] if value.mask is not None else -1
            self.input_features[i] = value.size
            self.input_is_sequence[i] = value.has_time
            self.is_flat = self.is_flat and len(value.step_shape) == 1 and value.kind != "index"
            self.is_flat = self.is_flat and (value.axis is not None) == value.has_time
        self.derived, self.limits = [], {}
        if [value for value in graph.values.values() if value.kind == "index" or value.axis is not None and value.axis.rules]:
            from cylstm.graph.streaming import derived_axes, index_limits

            self.derived, self.limits = derived_axes(graph), index_limits(graph)
        self.output_shapes, self.output_times = [], []
        for i, name in enumerate(graph.outputs):
            value = graph.values[name]
            outputs[i] = indices[name]
            self.output_features[i] = value.size
            self.output_has_time[i] = value.has_time
            self.output_shapes.append(value.step_shape)
            self.output_times.append(value.axis if value.axis is not None else value.shape[0] if value.has_time else None)
            self.is_flat = self.is_flat and len(value.step_shape) == 1
            self.is_flat = self.is_flat and (value.axis is not None) == value.has_time and not self.derived
        cdef CylStatus status = cyl_model_finish(
            self.model, inputs, masks, self.input_count, outputs, self.output_count
        )
        if status == CYL_E_TENSOR:
            self.refuse_numbers(graph)
        check(status, "model")
        self.state_count = cyl_model_state_count(self.model)
        self.state_groups = tuple(
            [(name, tuple([state_shape for _, state_shape in parts])) for name, parts in graph.states()]
        )
        self.step_multiple = cyl_model_step_multiple(self.model)
        self.work = cyl_model_work(self.model)
        self.nbytes = cyl_model_bytes(self.model)

    def run_bytes(self, times):
        """Bytes that a run of one row takes: of a stream with `times` None, else of so many steps of each input."""
        cdef int64_t steps[MAX_PORTS]
        cdef int64_t found
        cdef int i
        for i in range(self.input_count if times is not None else 0):
            steps[i] = times[i]
        check(cyl_model_run_bytes(self.model, NULL if times is None else steps, &found), "model")
        return found

    cdef refuse_numbers(self, graph):
        """Raise `FormatError` about the first layer whose kind finds numbers among its weights that make no sense."""
        from cylstm.graph.layers import LAYER_KINDS

        for layer in graph.layers:
            tensors = graph.stored_tensors(layer)

            def read(role):
                return self.read_tensor(layer.name, role, tensors[role].shape, 0, tensors[role].shape[0])

            LAYER_KINDS[layer.kind].check_numbers(layer.name, read, layer.options, FormatError)

    cdef add_layer(self, layer, tensors, indices, packed):
        """One layer: names and arrays are kept alive in Python lists while C reads them."""
        cdef CylPort inputs[MAX_PORTS]
        cdef CylPort outputs[MAX_PORTS]
        cdef CylOption options[MAX_PORTS]
        cdef CylTensor arrays[MAX_PORTS]
        cdef CylArray *packed_arrays
        cdef CylLayerSpec spec
        cdef CylStatus status
        cdef cnp.ndarray array
        memset(&spec, 0, sizeof(spec))
        if max(len(layer.inputs), len(layer.outputs), len(layer.options), len(tensors)) > MAX_PORTS:
            raise UnsupportedError(f"layer {layer.name!r}: at most {MAX_PORTS} inputs, options and tensors are supported")
        kept = [layer.kind.encode()]
        spec.kind = <bytes>kept[0]
        for i, (role, name) in enumerate(layer.inputs.items()):
            kept.append(role.encode())
            inputs[i].role, inputs[i].value = <bytes>kept[-1], indices[name]
        for i, (role, name) in enumerate(layer.outputs.items()):
            kept.append(role.encode())
            outputs[i].role, outputs[i].value = <bytes>kept[-1], indices[name]
        for i, (key, option) in enumerate(layer.options.items()):
            kept.append(key.encode())
            options[i].name, options[i].text, options[i].number = <bytes>kept[-1], NULL, 0.0
            if isinstance(option, str):
                kept.append(option.encode())
                options[i].text = <bytes>kept[-1]
            else:
                options[i].number = float(option)
        for i, (role, tensor) in enumerate(tensors.items()):
            kept.append(role.encode())
            arrays[i].role, arrays[i].data = <bytes>kept[-1], NULL
            arrays[i].rank = tensor.ndim
            for axis in range(min(tensor.ndim, 4)):
                arrays[i].shape[axis] = tensor.shape[axis]
        spec.inputs, spec.outputs, spec.options, spec.tensors = inputs, outputs, options, arrays
        spec.input_count, spec.output_count = len(layer.inputs), len(layer.outputs)
        spec.option_count, spec.tensor_count = len(layer.options), len(tensors)
        if packed is not None:
            # a convolution in groups has two of each group
            packed_arrays = <CylArray *>PyMem_Calloc(max(1, len(packed)), sizeof(CylArray))
            if packed_arrays == NULL:
                raise MemoryError
            for i, array in enumerate(packed):
                packed_arrays[i].data, packed_arrays[i].size = cnp.PyArray_DATA(array), array.shape[0]
            spec.arrays, spec.array_count = packed_arrays, len(packed)
        status = cyl_model_add_layer(self.model, &spec)
        PyMem_Free(<void *>spec.arrays)
        check(status, f"layer {layer.name!r}")

    cdef write_tensor(self, str layer, str role, tensor):
        """Pack one tensor; a stored one is read piece by piece, so that no copy of it is ever whole in memory."""
        cdef cnp.ndarray array
        cdef int32_t index = self.layer_indices[layer]
        cdef bytes name = role.encode()
        cdef const char *role_text = name
        cdef int64_t first, rows
        cdef const void *data
        cdef CylStatus status
        for first, piece in tensor.pieces() if isinstance(tensor, StoredTensor) else ((0, tensor),):
            array = np.ascontiguousarray(piece, dtype=self.dtype)
            rows, data = array.shape[0], cnp.PyArray_DATA(array)
            with nogil:
                status = cyl_model_write_tensor(self.model, index, role_text, first, rows, data)
            check(status, f"layer {layer!r}, tensor {role!r}")

    def read_tensor(self, str layer, str role, tuple shape, int64_t first, int64_t count):
        """Rows of a tensor as it was packed: of the model's dtype, in the packed engine after the subnormal rule."""
        cdef cnp.ndarray array = np.empty((count, *shape[1:]), self.dtype)
        cdef int32_t index = self.layer_indices[layer]
        cdef bytes name = role.encode()
        check(
            cyl_model_read_tensor(self.model, index, name, first, count, cnp.PyArray_DATA(array)),
            f"layer {layer!r}, tensor {role!r}",
        )
        return array

    def tensors(self, graph):
        """The tensors of the graph that this was made from, unpacked when asked for: its weights are held once."""
        stored = dict(as_stored(graph.tensors))
        for layer in graph.layers:
            for role, name in layer.weights.items():
                shape = tuple(stored[name].shape)
                stored[name] = StoredTensor(shape, self.dtype, partial(self.read_tensor, layer.name, role, shape))
        return StoredTensors(stored)

    def arrays(self):
        """Layer name -> its packed weights, read-only arrays of one axis that lie in this model."""
        cdef CylArray packed
        cdef cnp.npy_intp size
        cdef cnp.ndarray array
        found = {}
        for name, index in self.layer_indices.items():
            arrays = []
            for i in range(cyl_model_array_count(self.model, index)):
                packed = cyl_model_array(self.model, index, i)
                size = packed.size
                array = cnp.PyArray_SimpleNewFromData(1, &size, self.real_type, <void *>packed.data)
                cnp.set_array_base(array, self)
                array.setflags(write=False)
                arrays.append(array)
            if arrays:
                found[name] = arrays
        return found

    def result_shapes(self, int64_t batch, list times, bint is_step=False):
        """Shapes of the outputs for inputs of these numbers of steps.

        With `is_step`, for a stream's single step, those without the time axis that are of one step each.

        Raises
        ------
        ShapeError
            If there are too few steps for a layer.
        """
        if self.derived:
            from cylstm.graph.streaming import check_lengths

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

    cdef refuse_index(self, list inputs, const uint8_t *active):
        """Raise `ShapeError` about the first index out of range of the inputs, in the active rows; NULL: all."""
        from cylstm.inputs import index_error

        rows = None if active == NULL else [row for row in range(len(inputs[0])) if active[row]]
        for name, array in zip(self.input_names, inputs):
            error = index_error(name, array, self.limits[name], rows) if name in self.limits else None
            if error is not None:
                raise error

    cdef int useful(self, int64_t rows, int64_t time, int threads) noexcept:
        return threads if uses_all_threads else cyl_model_worthwhile_threads(self.model, rows, time, threads)

    cdef load_openmp(self):
        from cylstm.engine.openmp import load

        load()
        self.wants_openmp = False

    def useful_threads(self, int64_t rows, int64_t time, int threads):
        """How many of `threads` threads a call of `rows` rows of `time` steps uses: fewer where more would be slower.

        The rule is one of shape alone; the result of a call does not depend on it.
        """
        return self.useful(rows, time, threads)

    def predict_array(self, x, out, threads):
        """The common call of `Model.predict`: one array in, one out.

        Returns
        -------
        ndarray or None
            None for anything else, and for anything wrong: `Model.predict` then goes the long way, which says what.
        """
        cdef CylCall call
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t time = 1
        cdef cnp.ndarray array, result
        cdef cnp.npy_intp shape[3]
        cdef int rank = 2 if self.input_is_sequence[0] else 1, first, last, out_rank, overflow = 0
        cdef long most
        cdef CylStatus status
        if self.input_count != 1 or self.output_count != 1 or not self.is_flat or not cnp.PyArray_CheckExact(x):
            return None
        array = x
        first = cnp.PyArray_NDIM(array) - rank
        # with a batch axis or without it
        if first != 0 and first != 1 or cnp.PyArray_SIZE(array) == 0:
            return None
        last = first + rank - 1
        if array.shape[last] != self.input_features[0]:
            return None
        call.rows = array.shape[0] if first else 1
        if rank == 2:
            time = array.shape[first]
        if threads is None:
            most = CYL_MAX_THREADS if is_long(self.work, call.rows, time) else 1
        elif type(threads) is int:
            most = PyLong_AsLongAndOverflow(threads, &overflow)
            if overflow or not 1 <= most <= CYL_MAX_THREADS:
                return None
        else:
            return None
        if cnp.PyArray_TYPE(array) != self.real_type or not cnp.PyArray_ISCARRAY_RO(array):
            if not (cnp.PyArray_ISFLOAT(array) or cnp.PyArray_ISINTEGER(array)):
                return None
            array = cnp.PyArray_FROM_OTF(x, self.real_type, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST)
        shape[0] = call.rows
        out_rank = first
        if self.output_has_time[0]:
            shape[out_rank] = time
            out_rank += 1
        shape[out_rank] = self.output_features[0]
        out_rank += 1
        if <double>call.rows * <double>time * <double>self.output_features[0] > MOST_NUMBERS:
            return None
        if out is None:
            result = cnp.PyArray_EMPTY(out_rank, shape, self.real_type, 0)
        else:
            if not cnp.PyArray_CheckExact(out):
                return None
            result = out
            if not (
                cnp.PyArray_TYPE(result) == self.real_type
                and cnp.PyArray_ISCARRAY(result)
                and cnp.PyArray_NDIM(result) == out_rank
                and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(result), shape, out_rank)
                and not overlap(array, cnp.PyArray_SIZE(array), result, cnp.PyArray_SIZE(result))
            ):
                return None
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        if most > 1:
            most = self.useful(call.rows, time, <int>most)
        if most > 1 and threads is None:  # asked last: it takes microseconds
            most = min(most, <long>_threads.available_threads())
        if most > 1 and self.wants_openmp:
            self.load_openmp()
        call.times, call.threads = &time, <int>most
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state = NULL, NULL
        call.should_stop = NULL
        if is_long(self.work, call.rows, time):
            watch_signals(&call)
            with nogil:
                status = cyl_predict(self.model, &call)
        else:
            status = cyl_predict(self.model, &call)
        if status != CYL_OK:
            check(status, "predict")
        return result

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
        if threads > 1 and self.wants_openmp:
            self.load_openmp()
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
        call.should_stop = NULL
        if is_long(self.work, call.rows, longest):
            watch_signals(&call)
            with nogil:
                status = cyl_predict(self.model, &call)
        else:
            status = cyl_predict(self.model, &call)
        PyMem_Free(states)
        if status == CYL_E_INDEX:
            self.refuse_index(inputs, NULL)
        check(status, "predict")


cdef check_packed(graph, arrays, bint is_packed):
    """Raise `FormatError` unless C can read these packed arrays as they lie; how many and how large is C's to see."""
    cdef cnp.ndarray array
    if not is_packed:
        raise FormatError('packed arrays are for engine="packed" in float32')
    unknown = set(arrays) - {layer.name for layer in graph.layers}
    if unknown:
        raise FormatError(f"packed arrays of no layer: {', '.join(sorted(map(str, unknown)))}")
    for name, packed in arrays.items():
        for i, given in enumerate(packed):
            what = f"layer {name!r}, packed array {i}: expected native float32 of one axis, contiguous, aligned to 64 bytes"
            if not cnp.PyArray_CheckExact(given):
                raise FormatError(f"{what}, found {type(given).__name__}")
            array = given
            if (
                cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT32
                or cnp.PyArray_NDIM(array) != 1
                or not cnp.PyArray_ISCARRAY_RO(array)
                or <size_t>cnp.PyArray_DATA(array) % 64
            ):
                place = <size_t>cnp.PyArray_DATA(array) % 64
                raise FormatError(f"{what}, found {given.dtype} {given.shape}, strides {given.strides}, at {place} of 64")


cdef inline bint overlap(cnp.ndarray a, int64_t a_size, cnp.ndarray b, int64_t b_size) noexcept:
    """Whether two C-contiguous arrays of one dtype and so many numbers share memory."""
    cdef int64_t item = cnp.PyArray_ITEMSIZE(a)
    cdef const char *a_data = <const char *>cnp.PyArray_DATA(a)
    cdef const char *b_data = <const char *>cnp.PyArray_DATA(b)
    return a_data < b_data + b_size * item and b_data < a_data + a_size * item


cdef const uint8_t *plain_mask(active, int64_t batch) noexcept:
    """The data of a mask (batch,) that C can read as it is, else NULL."""
    cdef cnp.ndarray mask
    if not cnp.PyArray_CheckExact(active):
        return NULL
    mask = active
    if (
        cnp.PyArray_TYPE(mask) == cnp.NPY_BOOL
        and cnp.PyArray_ISCARRAY_RO(mask)
        and cnp.PyArray_NDIM(mask) == 1
        and mask.shape[0] == batch
    ):
        return <const uint8_t *>cnp.PyArray_DATA(mask)
    return NULL


cdef class Stream:
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

    cdef readonly object model
    cdef PackedModel packed
    cdef CylStream *stream
    cdef readonly int64_t batch
    cdef readonly int threads

    def __cinit__(self, model, batch=1, threads=1, window=None):
        global _arrays, _prediction
        if _arrays is None:
            from cylstm import inputs as arrays
            from cylstm import prediction

            _arrays, _prediction = arrays, prediction
        packed = getattr(model, "_packed", None)
        if not isinstance(packed, PackedModel):
            raise ShapeError(f"model: expected a cylstm.Model, found {type(model).__name__}")
        self.model = model
        self.packed = packed
        if isinstance(self, WindowStream):
            return  # it is made there
        if window is not None:
            raise UnsupportedError("a stream with a window is made by Model.stream(window=...)")
        reason = model._why_no_stream()
        if reason is not None:
            raise UnsupportedError(reason)
        self.batch = _arrays.check_batch(batch)
        self.threads = self.packed.useful(self.batch, 1, _threads.check_threads(threads))
        if self.threads > 1 and self.packed.wants_openmp:
            self.packed.load_openmp()
        check(cyl_stream_create(self.packed.model, self.batch, self.threads, &self.stream), f"a stream of {self.batch} rows")
        if self.packed.carried is not None:
            check(cyl_stream_carry(self.stream, self.packed.carried), "stream")

    def __dealloc__(self):
        cyl_stream_free(self.stream)

    @property
    def window(self):
        return None

    cdef run_arrays(self, list inputs, list outputs, int64_t time, const uint8_t *active):
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
            self.packed.refuse_index(inputs, active)
        if active == NULL:
            self.run_call(&call, time)
        else:
            self.run_active_call(&call, time, active)

    cdef int check_running(self) except -1:
        """Refuse a stream with a window where it is given to a method of this class by name."""
        if self.stream == NULL:
            raise UnsupportedError("a stream with a window has methods of its own: call them by the stream")
        return 0

    cdef int run_call(self, CylCall *call, int64_t time) except -1:
        cdef CylStatus status
        self.check_running()
        call.should_stop = NULL
        if is_long(self.packed.work, self.batch, time):
            watch_signals(call)
            with nogil:
                status = cyl_stream_run(self.stream, call)
        else:
            status = cyl_stream_run(self.stream, call)
        if status != CYL_OK:
            check(status, "stream")
        return 0

    cdef int run_active_call(self, CylCall *call, int64_t time, const uint8_t *active) except -1:
        cdef CylStatus status
        cdef int64_t row, rows = 0
        self.check_running()
        for row in range(self.batch):
            rows += active[row] != 0
        if self.threads > 1:
            call.threads = self.packed.useful(rows, 1, self.threads)
        call.should_stop = NULL
        if is_long(self.packed.work, rows, time):
            watch_signals(call)
            with nogil:
                status = cyl_stream_run_active(self.stream, call, active)
        else:
            status = cyl_stream_run_active(self.stream, call, active)
        if status != CYL_OK:
            check(status, "stream")
        return 0

    def step(self, x, *, out=None, active=None):
        """Advance by one step.

        Parameters
        ----------
        x : array_like
            (features,) for a stream of batch 1, or (batch, features). Several inputs: a list in the order of
            `Model.inputs` or a dict by name.
        out : ndarray, optional
            Where to write the result: C-contiguous, of the model's dtype and the result's shape. Then nothing is
            allocated.
        active : array_like of bool, optional
            (batch,): rows to advance; results match separate streams. The others keep their whole running
            state, their x is not looked at (it may be NaN), and their outputs are zeros. The cost is that of the
            active rows. Default: all.

        Returns
        -------
        ndarray
            A fresh array: (outputs,) if x was (features,), else (batch, outputs); a list for several outputs.

        Raises
        ------
        ShapeError
            If x, active or out has another shape, rank or dtype.
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
            return self.step_any(x, active, out)
        if active is not None:
            return self.step_active(x, active, out)
        array = x
        if cnp.PyArray_TYPE(array) != packed.real_type or not cnp.PyArray_ISCARRAY_RO(array):
            # NumPy's default is float64: converted here without the long way of step_any
            if not (cnp.PyArray_ISFLOAT(array) or cnp.PyArray_ISINTEGER(array)):
                return self.step_any(x, active, out)
            array = cnp.PyArray_FROM_OTF(x, packed.real_type, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST)
        rank = cnp.PyArray_NDIM(array)
        # (features,) of one row or (batch, features); all else goes the long way, which says what is wrong
        if not (
            (rank == 2 and array.shape[0] == self.batch or rank == 1 and self.batch == 1)
            and array.shape[rank - 1] == packed.input_features[0]
        ):
            return self.step_any(x, active, out)
        shape[0] = self.batch
        shape[rank - 1] = packed.output_features[0]
        if out is None:
            result = cnp.PyArray_EMPTY(rank, shape, packed.real_type, 0)
        else:
            if not cnp.PyArray_CheckExact(out):
                return self.step_any(x, active, out)
            result = out
            if not (
                cnp.PyArray_TYPE(result) == packed.real_type
                and cnp.PyArray_ISCARRAY(result)
                and cnp.PyArray_NDIM(result) == rank
                and result.shape[rank - 1] == shape[rank - 1]
                and result.shape[0] == shape[0]
                and not overlap(array, self.batch * packed.input_features[0], result, self.batch * packed.output_features[0])
            ):
                return self.step_any(x, active, out)
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        call.rows, call.times, call.threads = self.batch, &one, self.threads
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state = NULL, NULL
        self.run_call(&call, 1)
        return result

    cdef step_active(self, x, active, out):
        """`step` of some rows of one input that C can read as it is: converting would look at the other rows too."""
        cdef PackedModel packed = self.packed
        cdef CylCall call
        cdef const uint8_t *mask = plain_mask(active, self.batch)
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t one = 1
        cdef cnp.ndarray array = x, result
        cdef cnp.npy_intp shape[2]
        if not (
            mask != NULL
            and out is None
            and cnp.PyArray_TYPE(array) == packed.real_type
            and cnp.PyArray_ISCARRAY_RO(array)
            and cnp.PyArray_NDIM(array) == 2
            and array.shape[0] == self.batch
            and array.shape[1] == packed.input_features[0]
        ):
            return self.step_any(x, active, out)
        shape[0], shape[1] = self.batch, packed.output_features[0]
        result = cnp.PyArray_EMPTY(2, shape, packed.real_type, 0)
        in_data, out_data = cnp.PyArray_DATA(array), cnp.PyArray_DATA(result)
        call.rows, call.times, call.threads = self.batch, &one, self.threads
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state = NULL, NULL
        self.run_active_call(&call, 1, mask)
        return result

    def step_any(self, x, active=None, out=None):
        """`step` for every other kind of input: lists, other dtypes, several inputs and outputs."""
        return self.run_any(x, active, out, True)

    def run(self, chunk, *, out=None, active=None):
        """Advance by the steps of a chunk.

        Parameters
        ----------
        chunk : array_like
            (time, features) for a stream of batch 1, or (batch, time, features); several inputs as in `step`.
        out : ndarray, optional
            As in `step`.
        active : array_like of bool, optional
            (batch,): which rows advance, by the whole chunk; as in `step`.

        Returns
        -------
        ndarray
            What `Model.predict` would give for this chunk with the stream's state as initial state; a list for
            several outputs.

        Raises
        ------
        ShapeError, StreamBusyError
            As in `step`.
        KeyboardInterrupt
            Or whatever else the handler of a signal raises, after at most 0.1 s on the main thread: `steps` says how
            many steps the stream has taken then, and the rest of `out` is unspecified.
        """
        return self.run_any(chunk, active, out, False)

    cdef run_any(self, x, active, out, bint is_step):
        cdef PackedModel packed = self.packed
        cdef cnp.ndarray mask
        cdef const uint8_t *active_data = NULL
        if active is not None:
            mask = active = _arrays.as_active(active, self.batch)
            active_data = <const uint8_t *>cnp.PyArray_DATA(mask)
        inputs, alone, time = [], None, None
        # a step has one order of axes only
        layouts = {} if is_step else packed.layouts
        for value, array in zip(packed.inputs, _prediction.input_list(packed, x)):
            if value.name in layouts:
                array = _arrays.from_layout(array, layouts[value.name], value)
            array, is_alone = _arrays.as_input(array, value, packed.dtype, is_step=is_step, batch=self.batch, active=active)
            if alone is not None and alone != is_alone:
                raise ShapeError("inputs: expected all with a batch axis or all without")
            if time is not None and time != array.shape[1]:
                raise ShapeError(f"inputs: expected equal time, found {time} and {array.shape[1]}")
            alone, time = is_alone, array.shape[1]
            inputs.append(array)
        if time % packed.step_multiple:
            raise ShapeError(f"stream: expected a multiple of {packed.step_multiple} steps at once, found {time}")
        shapes = packed.result_shapes(self.batch, [time] * packed.input_count, is_step)
        results, given = _prediction.result_arrays(packed, shapes, alone, out, inputs, layouts)
        self.run_arrays(inputs, results, time, active_data)
        if layouts:
            results = _prediction.to_users(packed, results, given)
        return results if packed.output_count > 1 else results[0]

    @property
    def state(self):
        """The states: a list with one tuple per stateful layer, as in `Model.predict`; arrays (batch, size), or with
        spatial axes (batch, rows, columns, channels).

        Reading copies; setting checks shapes.
        """
        return self.save(None)

    @state.setter
    def state(self, state):
        self.restore(_arrays.as_state(state, self.packed.state_groups, self.batch, self.packed.dtype), None)

    cdef list save(self, bytearray flags):
        """The states, as `state` gives them, and into `flags` what is remembered beside them: all of one moment."""
        cdef cnp.ndarray array
        cdef uint8_t *flag_data = NULL
        cdef int32_t index = 0
        cdef CylStatus status
        self.check_running()
        cdef void **states = <void **>PyMem_Calloc(max(1, self.packed.state_count), sizeof(void *))
        if states == NULL:
            raise MemoryError
        try:
            state = []
            for _, shapes in self.packed.state_groups:
                arrays = tuple([np.empty((self.batch, *shape), self.packed.dtype) for shape in shapes])
                for array in arrays:
                    states[index] = cnp.PyArray_DATA(array)
                    index += 1
                state.append(arrays)
            if flags is not None:
                flag_data = flags
            status = cyl_stream_save(self.stream, states, flag_data)
        finally:
            PyMem_Free(states)
        check(status, "stream")
        return state

    cdef restore(self, list arrays, bytes flags):
        """Take over states as `as_state` gives them, and flags of the right length or None for those there are."""
        cdef cnp.ndarray array
        cdef const uint8_t *flag_data = NULL
        cdef int32_t index = 0
        cdef CylStatus status
        self.check_running()
        cdef const void **states = <const void **>PyMem_Calloc(max(1, self.packed.state_count), sizeof(void *))
        if states == NULL:
            raise MemoryError
        try:
            for array in arrays:
                states[index] = cnp.PyArray_DATA(array)
                index += 1
            if flags is not None:
                flag_data = flags
            status = cyl_stream_restore(self.stream, states, flag_data)
        finally:
            PyMem_Free(states)
        check(status, "stream")

    @property
    def steps(self):
        """The steps of the input that each row has taken since the stream was made or the row reset.

        Where a signal's handler ends `run` by an exception (Ctrl-C), the stream has taken the first steps of the chunk
        and no others: as many as this has grown by. It goes on from there (of a Keras model with layers of which only
        some are stateful, as after any call: the others start from zero).

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
        cdef cnp.ndarray array = np.empty(self.batch, np.int64)
        self.check_running()
        check(cyl_stream_get_steps(self.stream, <int64_t *>cnp.PyArray_DATA(array)), "stream")
        array.setflags(write=False)
        return array

    def reset(self, rows=None):
        """Start again: states of zero, no steps taken, and nothing remembered.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,), optional
            Only these rows, selected as in NumPy. Default: all.

        Raises
        ------
        ShapeError
            If there are no such rows.
        StreamBusyError
            If another thread is inside this stream.
        """
        cdef cnp.ndarray indices
        self.check_running()
        if rows is None:
            check(cyl_stream_reset(self.stream), "stream")
            return
        indices = _arrays.as_rows(rows, self.batch)
        check(cyl_stream_reset_rows(self.stream, <const int64_t *>cnp.PyArray_DATA(indices), len(indices)), "stream")

    def copy(self, rows=None):
        """A stream of its own that goes on from the same running state.

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
        ShapeError
            If there are no such rows, or none is chosen.
        StreamBusyError
            If another thread is inside this stream.
        """
        indices = _arrays.as_rows(rows, self.batch)
        if len(indices) == 0:
            raise ShapeError("rows: expected at least one, found none")
        cdef Stream other = Stream(self.model, len(indices), self.threads)
        other.copy_rows(_arrays.as_rows(None, len(indices)), self, indices)
        return other

    def replace(self, rows, source):
        """Let some rows go on from another running state: the opposite of `copy`.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,)
            Which rows, selected as in NumPy, each once.
        source : Stream, or list of tuple of array_like
            Row n goes to row ``rows[n]``. A stream of the same `Model`; or a state in the form of `state`, arrays
            (number of rows, size), for which the rows start again with it as their initial state.

        Raises
        ------
        ShapeError
            If there are no such rows, one is named twice, or source has another number of rows, other shapes or
            another model.
        StreamBusyError
            If another thread is inside either stream.
        """
        cdef Stream other
        indices = _arrays.as_rows(rows, self.batch)
        if len(np.unique(indices)) != len(indices):
            raise ShapeError(f"rows: expected each row once, found {indices.tolist()}")
        if isinstance(source, Stream):
            if source.model is not self.model or source.window is not None:
                raise ShapeError("source: expected a stream of the same Model object without window, or its state as a list of tuples")
            if source.batch != len(indices):
                raise ShapeError(f"source: expected {len(indices)} rows, found a stream of {source.batch}")
            # what is read must not have been written yet
            other = source.copy() if source is self else source
        else:
            arrays = _arrays.as_state(source, self.packed.state_groups, len(indices), self.packed.dtype)
            if len(indices) == 0:
                return
            other = Stream(self.model, len(indices), 1)
            other.restore(arrays, None)
        self.copy_rows(indices, other, _arrays.as_rows(None, len(indices)))

    cdef copy_rows(self, cnp.ndarray rows, Stream source, cnp.ndarray source_rows):
        """Rows of source, both as `as_rows` gives them, in the order of `rows`."""
        cdef CylStatus status
        self.check_running()
        source.check_running()
        status = cyl_stream_copy_rows(
            self.stream,
            <const int64_t *>cnp.PyArray_DATA(rows),
            source.stream,
            <const int64_t *>cnp.PyArray_DATA(source_rows),
            len(rows),
        )
        check(status, "stream")

    def _restore(self, state, flags):
        """Go on from what `__reduce__` saved; everything is checked before anything changes."""
        self.check_running()
        arrays = _arrays.as_state(state, self.packed.state_groups, self.batch, self.packed.dtype)
        if not isinstance(flags, bytes) or len(flags) != cyl_stream_flags_size(self.stream):
            found = f"{len(flags)} bytes" if isinstance(flags, bytes) else type(flags).__name__
            raise ShapeError(
                f"stream: expected saved flags of {cyl_stream_flags_size(self.stream)} bytes, found {found}; "
                "they are of another model or batch"
            )
        self.restore(arrays, flags)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        self.check_running()
        cdef bytearray flags = bytearray(cyl_stream_flags_size(self.stream))
        state = self.save(flags)
        return _restore_stream, (self.model, self.batch, self.threads, state, bytes(flags))

    def __repr__(self):
        return f"<cylstm.Stream batch={self.batch} threads={self.threads} of {self.model!r}>"


def _restore_stream(model, batch, threads, state, flags):
    stream = Stream(model, batch, threads)
    stream._restore(state, flags)
    return stream


cdef class WindowStream(Stream):
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

    cdef CylWindow *kept
    cdef int64_t length
    # inputs as a stream takes them, with any number of steps
    cdef list input_values
    # of the outputs
    cdef list shapes
    # whether arrays of one input go straight to C
    cdef bint is_plain
    cdef int result_rank
    cdef cnp.npy_intp result_shape[CYL_MAX_RANK + 2]

    def __cinit__(self, model, batch=1, threads=1, window=None):
        cdef PackedModel packed = self.packed
        cdef CylStatus status
        from cylstm.graph.streaming import check_window

        self.length = check_window(packed.inputs, window)
        self.batch = _arrays.check_batch(batch)
        self.threads = packed.useful(self.batch, self.length, _threads.check_threads(threads))
        if self.threads > 1 and packed.wants_openmp:
            packed.load_openmp()
        # first: it says which layer the steps are too few for
        self.shapes = packed.result_shapes(self.batch, [self.length] * packed.input_count)
        status = cyl_window_create(packed.model, self.batch, self.length, self.threads, &self.kept)
        if status != CYL_OK:
            check(status, f"a stream of {self.batch} rows with window={self.length}")
        self.input_values = [
            value._replace(shape=(None, *value.shape[1:])) if value.has_time else value for value in packed.inputs
        ]
        value = self.input_values[0]
        self.is_plain = (
            packed.input_count == 1 and packed.output_count == 1 and not packed.layouts
            and value.kind == "sequence" and len(value.shape) == 2
        )
        self.result_rank = len(self.shapes[0])
        for i, size in enumerate(self.shapes[0]):
            self.result_shape[i] = size

    def __dealloc__(self):
        cyl_window_free(self.kept)

    @property
    def window(self):
        return self.length

    @property
    def steps(self):
        """The steps that each row has taken since the stream was made or the row reset, as `Stream.steps`.

        Where a signal's handler ends `run` or `step` by an exception (Ctrl-C), all steps are taken.
        """
        cdef cnp.ndarray counts = np.empty(self.batch, np.int64)
        check(cyl_window_get(self.kept, NULL, <int64_t *>cnp.PyArray_DATA(counts)), "stream")
        counts.setflags(write=False)
        return counts

    cdef int run_kept(self, CylCall *call, const uint8_t *active) except -1:
        cdef CylStatus status
        cdef int64_t row, rows = self.batch
        if active != NULL:
            rows = 0
            for row in range(self.batch):
                rows += active[row] != 0
        call.should_stop = NULL
        if is_long(self.packed.work, rows, self.length):
            watch_signals(call)
            with nogil:
                status = cyl_window_run(self.kept, call, active)
        else:
            status = cyl_window_run(self.kept, call, active)
        if status != CYL_OK:
            check(status, "stream")
        return 0

    def step(self, x, *, out=None, active=None):
        """Take one step, and predict from the last `window` ones.

        Parameters
        ----------
        x, out, active
            As in `Stream.step`.

        Returns
        -------
        ndarray
            A fresh array: what `Model.predict` gives for the last steps, without a batch axis if x has none; NaN in
            the rows that have not had as many steps yet, zeros in those that are not active.

        Raises
        ------
        ShapeError, StreamBusyError
            As in `Stream.step`.
        """
        cdef PackedModel packed = self.packed
        cdef CylCall call
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t one = 1
        cdef cnp.ndarray array, result
        cdef int rank
        if not self.is_plain or out is not None or active is not None or not cnp.PyArray_CheckExact(x):
            return self.run_any(x, active, out, True)
        array = x
        rank = cnp.PyArray_NDIM(array)
        if not (
            cnp.PyArray_TYPE(array) == packed.real_type
            and cnp.PyArray_ISCARRAY_RO(array)
            and (rank == 2 and array.shape[0] == self.batch or rank == 1 and self.batch == 1)
            and array.shape[rank - 1] == packed.input_features[0]
        ):
            return self.run_any(x, active, out, True)
        if rank == 2:
            result = cnp.PyArray_EMPTY(self.result_rank, self.result_shape, packed.real_type, 0)
        else:
            result = cnp.PyArray_EMPTY(self.result_rank - 1, &self.result_shape[1], packed.real_type, 0)
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        call.rows, call.times, call.threads = self.batch, &one, self.threads
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state = NULL, NULL
        self.run_kept(&call, NULL)
        return result

    def run(self, chunk, *, out=None, active=None):
        """Take the steps of a chunk, and predict from the last `window` ones.

        Parameters
        ----------
        chunk, out, active
            As in `Stream.run`; an input without time has no steps.

        Returns
        -------
        ndarray
            What `step` returns for the last step of the chunk: only that is computed.

        Raises
        ------
        ShapeError, StreamBusyError
            As in `Stream.step`.
        """
        return self.run_any(chunk, active, out, False)

    cdef run_any(self, x, active, out, bint is_step):
        """`step` and `run` for every kind of input."""
        cdef PackedModel packed = self.packed
        cdef CylCall call
        cdef const void *in_data[MAX_PORTS]
        cdef void *out_data[MAX_PORTS]
        cdef int64_t times[MAX_PORTS]
        cdef const uint8_t *active_data = NULL
        cdef cnp.ndarray array
        # a step has one order of axes only
        layouts = {} if is_step else packed.layouts
        if active is not None:
            array = active = _arrays.as_active(active, self.batch)
            active_data = <const uint8_t *>cnp.PyArray_DATA(array)
        inputs, alone, time = [], None, None
        for value, given in zip(self.input_values, _prediction.input_list(packed, x)):
            if value.name in layouts:
                given = _arrays.from_layout(given, layouts[value.name], value)
            given, is_alone = _arrays.as_input(
                given, value, packed.dtype, is_step=is_step, batch=self.batch, active=active
            )
            if alone is not None and alone != is_alone:
                raise ShapeError("inputs: expected all with a batch axis or all without")
            if value.has_time:
                if time is not None and time != given.shape[1]:
                    raise ShapeError(f"inputs: expected equal time, found {time} and {given.shape[1]}")
                time = given.shape[1]
            alone = is_alone
            inputs.append(given)
        results, given = _prediction.result_arrays(packed, self.shapes, alone, out, inputs, packed.layouts)
        if packed.limits:
            packed.refuse_index(inputs, active_data)
        for i in range(packed.input_count):
            array = inputs[i]
            in_data[i] = cnp.PyArray_DATA(array)
            times[i] = time if packed.input_is_sequence[i] else 1
        for i in range(packed.output_count):
            array = results[i]
            out_data[i] = cnp.PyArray_DATA(array)
        call.rows, call.times, call.threads = self.batch, times, self.threads
        call.inputs, call.masks, call.outputs = in_data, NULL, out_data
        call.initial_state, call.final_state = NULL, NULL
        self.run_kept(&call, active_data)
        if packed.layouts:
            results = _prediction.to_users(packed, results, given)
        return results if packed.output_count > 1 else results[0]

    def refuse_state(self):
        raise UnsupportedError(
            f"a stream with window={self.length} has no running state: each step is predicted from a zero state; "
            "copy(), replace() with a stream, and pickle keep the last steps"
        )

    @property
    def state(self):
        """Raises `UnsupportedError`: there is no running state."""
        self.refuse_state()

    @state.setter
    def state(self, state):
        self.refuse_state()

    def reset(self, rows=None):
        """Start again: no step has come. As in `Stream.reset`."""
        cdef cnp.ndarray indices
        if rows is None:
            check(cyl_window_reset(self.kept), "stream")
            return
        indices = _arrays.as_rows(rows, self.batch)
        check(cyl_window_reset_rows(self.kept, <const int64_t *>cnp.PyArray_DATA(indices), len(indices)), "stream")

    def copy(self, rows=None):
        """A stream of its own that goes on from the same steps. As in `Stream.copy`."""
        indices = _arrays.as_rows(rows, self.batch)
        if len(indices) == 0:
            raise ShapeError("rows: expected at least one, found none")
        threads = self.packed.useful(len(indices), self.length, self.threads)
        cdef WindowStream other = WindowStream(self.model, len(indices), threads, self.length)
        other.copy_kept(_arrays.as_rows(None, len(indices)), self, indices)
        return other

    def replace(self, rows, source):
        """Let some rows go on from the steps of others: the opposite of `copy`.

        Parameters
        ----------
        rows : int, slice, array_like of int or of bool (batch,)
            Which rows, selected as in NumPy, each once.
        source : WindowStream
            Row n goes to row ``rows[n]``. A stream of the same `Model` and the same window.

        Raises
        ------
        ShapeError
            If there are no such rows, one is named twice, or source has another number of rows, another window or
            another model.
        UnsupportedError
            If source is a state.
        StreamBusyError
            If another thread is inside either stream.
        """
        cdef WindowStream other
        indices = _arrays.as_rows(rows, self.batch)
        if len(np.unique(indices)) != len(indices):
            raise ShapeError(f"rows: expected each row once, found {indices.tolist()}")
        if not isinstance(source, Stream):
            self.refuse_state()
        if source.model is not self.model or source.window != self.length:
            raise ShapeError(f"source: expected a stream of the same Model object with window={self.length}")
        if source.batch != len(indices):
            raise ShapeError(f"source: expected {len(indices)} rows, found a stream of {source.batch}")
        # what is read must not have been written yet
        other = source.copy() if source is self else source
        self.copy_kept(indices, other, _arrays.as_rows(None, len(indices)))

    cdef copy_kept(self, cnp.ndarray rows, WindowStream source, cnp.ndarray source_rows):
        """Rows of source, both as `as_rows` gives them, in the order of `rows`."""
        cdef CylStatus status = cyl_window_copy_rows(
            self.kept,
            <const int64_t *>cnp.PyArray_DATA(rows),
            source.kept,
            <const int64_t *>cnp.PyArray_DATA(source_rows),
            len(rows),
        )
        check(status, "stream")

    def _kept_shapes(self):
        """Shape and dtype of all that is kept of each input."""
        return [
            ((self.batch, *((self.length,) if value.has_time else ()), *value.step_shape),
             np.dtype(np.int32) if value.kind == "index" else self.packed.dtype)
            for value in self.input_values
        ]

    def _saved(self):
        cdef void *data[MAX_PORTS]
        cdef cnp.ndarray array, counts = np.empty(self.batch, np.int64)
        arrays = [np.empty(shape, dtype) for shape, dtype in self._kept_shapes()]
        for i, array in enumerate(arrays):
            data[i] = cnp.PyArray_DATA(array)
        check(cyl_window_get(self.kept, data, <int64_t *>cnp.PyArray_DATA(counts)), "stream")
        return arrays, counts

    def _restore(self, arrays, counts):
        cdef const void *data[MAX_PORTS]
        cdef cnp.ndarray array
        cdef CylStatus status
        arrays = list(arrays)
        expected = [*self._kept_shapes(), ((self.batch,), np.dtype(np.int64))]
        given = [*arrays, counts]
        if len(given) != len(expected) or any(
            [
                not isinstance(one, np.ndarray) or (one.shape, one.dtype) != known or not (one.flags.c_contiguous and one.flags.aligned)
                for one, known in zip(given, expected)
            ]
        ):
            raise ShapeError("stream: the saved steps are of another model")
        for i, array in enumerate(arrays):
            data[i] = cnp.PyArray_DATA(array)
        array = counts
        status = cyl_window_set(self.kept, data, <const int64_t *>cnp.PyArray_DATA(array))
        if status == CYL_E_ARGUMENT or status == CYL_E_INDEX:
            raise ShapeError("stream: the saved steps are of another model")
        check(status, "stream")

    def __reduce__(self):
        return _restore_window_stream, (self.model, self.batch, self.threads, self.length, *self._saved())

    def __repr__(self):
        return f"<cylstm.Stream batch={self.batch} threads={self.threads} window={self.length} of {self.model!r}>"


def _restore_window_stream(model, batch, threads, window, arrays, counts):
    stream = WindowStream(model, batch, threads, window)
    stream._restore(arrays, counts)
    return stream
