# cython: language_level=3, boundscheck=False, binding=False, embedsignature=True, embedsignature.format=clinic, freethreading_compatible=True
"""The only interface to C: it checks, releases the GIL and calls. What is plain Python stands in the modules that use it.

`EngineModel` and `EngineStream` are what `cylstm.packing.PackedModel` and `cylstm.stream.Stream` are made of. Methods
without an underscore are those of the public classes; the others expect arguments that Python has checked.

Lists instead of generators: the types that Cython makes for the latter cost every start a tenth of a millisecond.
"""

cimport cython
cimport numpy as cnp
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from ._cylstm cimport *

cdef extern from "Python.h":
    # without Cython's check for an exception
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept nogil

import os

import numpy as np

from cylstm.errors import CylstmError, FormatError, ShapeError, StreamBusyError, UnsupportedError

cnp.import_array()
# before the process can fork: a child must not run on OpenMP's threads of its parent
cyl_threads_watch_fork()

cdef enum:
    MAX_PORTS = 64

# the thread on which Python runs the handlers of signals; 0 where that is not known
cdef unsigned long main_thread = 0
cdef bint watches_fork = False
# see use_all_threads
cdef bint uses_all_threads = False
# Multiply-adds that take about 20 us on one thread of a server. A call of more releases the GIL; a shorter one keeps it:
# beside one busy Python thread, releasing it made the 99th percentile of a step's time 5 ms, keeping it 0.4 us.
cdef double GIL_WORK = 1e6
# of packed arrays: how C calls what NumPy calls by this name (it has no bfloat16), and the other way round
ARRAY_TYPES = {"float32": "float32", "float64": "float64", "float16": "float16", "uint16": "bfloat16", "int8": "int8"}
NUMBER_TYPES = {b"float16": cnp.NPY_FLOAT16, b"bfloat16": cnp.NPY_UINT16, b"int8": cnp.NPY_INT8}
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


def draw_words(uint64_t seed, uint64_t key, uint64_t sample, cnp.ndarray words):
    """Fill `words`, uint32 in C order, with what (seed, key, sample) draws: see cylstm.h."""
    if words.dtype != np.uint32 or not words.flags.c_contiguous or not words.flags.writeable:
        raise TypeError("words: expected uint32 in C order")
    cdef int64_t count = words.size
    cdef uint32_t *data = <uint32_t *>cnp.PyArray_DATA(words)
    with nogil:
        cyl_draw_words(seed, key, sample, count, data)


def draw_factors(uint64_t seed, uint64_t key, uint64_t first, uint32_t limit, double kept, double lost,
                 cnp.ndarray factors):
    """Fill row n of `factors` (samples, count), of float32 or float64 in C order, with what sample first + n draws."""
    cdef bint is_double = factors.dtype == np.float64
    cdef int64_t samples = len(factors), count = factors.size // samples, n
    if not (is_double or factors.dtype == np.float32) or not factors.flags.c_contiguous or not factors.flags.writeable:
        raise TypeError("factors: expected float32 or float64 in C order")
    cdef char *data = <char *>cnp.PyArray_DATA(factors)
    with nogil:
        for n in range(samples):
            cyl_draw_factors(seed, key, first + <uint64_t>n, count, limit, kept, lost, is_double,
                             data + n * count * (8 if is_double else 4))


def isa_names():
    """The instruction sets that this build knows and this machine can run, weakest first."""
    return [cyl_isa_name(<CylIsa>isa).decode() for isa in range(CYL_ISA_COUNT) if cyl_isa_available(<CylIsa>isa)]


def best_isa():
    """The one of `isa_names` that new models use."""
    return cyl_isa_name(cyl_isa_best()).decode()


def isa_fuses(str isa):
    """Whether a multiply-add is one instruction in this instruction set."""
    return isa in [cyl_isa_name(<CylIsa>index).decode() for index in range(CYL_ISA_COUNT) if cyl_isa_fuses(<CylIsa>index)]


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


def threads_are_taken():
    """Whether a call that comes now takes one thread, because other calls use all cores."""
    return cyl_threads_are_taken()


def enter_standard_mode():
    """Round to nearest and keep subnormal numbers on this thread; returns what `leave_standard_mode` puts back."""
    return cyl_mode_enter()


def leave_standard_mode(uint64_t mode):
    """Put back what the thread had."""
    cyl_mode_leave(mode)


def leave_threads_after(int64_t checkpoints):
    """After how many steps and layers the threads of a call leave it to the first; 0: where they have lost their cores."""
    cyl_threads_leave_after(checkpoints)


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



cdef class EngineModel:
    """A model of C, which `cylstm.packing.PackedModel` builds: immutable then, shared by any number of threads."""

    cdef CylModel *model
    cdef int32_t input_count, output_count, state_count
    cdef readonly int64_t work, nbytes, step_multiple, settles
    cdef readonly object dtype
    cdef int real_type
    cdef bint input_is_sequence[MAX_PORTS]
    # one input of real numbers and one output: the shapes of a row of either, where 0 is any time and -1 what follows
    # from it by rules, and how many numbers those are of each step; `predict_array` looks at nothing else
    cdef bint is_plain
    cdef int x_rank, y_rank
    cdef cnp.npy_intp x_shape[CYL_MAX_RANK]
    cdef cnp.npy_intp y_shape[CYL_MAX_RANK]
    cdef int64_t x_numbers, y_numbers
    # where the user has other orders of axes: the user's axis that each axis of a row of x is, and the axis of a row of
    # y that each axis of the user's is
    cdef bint x_is_turned, y_is_turned
    cdef cnp.npy_intp x_order[CYL_MAX_RANK]
    cdef cnp.npy_intp y_order[CYL_MAX_RANK]
    # loads what calls on several threads need of OpenMP; None for our own pool. It is never set again: without a GIL
    # another thread could read a reference that is being given up
    cdef object load_openmp
    # whether it is still to be called; a number, which threads may set at once
    cdef bint needs_openmp
    cdef object __weakref__

    def __dealloc__(self):
        cyl_model_free(self.model)

    def _create(self, str engine, str isa, blas, dtype, load_openmp):
        """Begin a model that is then built by the methods below, in the order in which they stand.

        `load_openmp` is `cylstm.engine.openmp.load` for a model that runs on OpenMP's threads, else None.
        """
        cdef CylBlas c_blas
        cdef CylIsa c_isa = CYL_ISA_SCALAR
        cdef CylEngine c_engine = CYL_ENGINE_PACKED
        if self.model != NULL:
            raise AttributeError("a model never changes; make another one")
        self.dtype = dtype
        self.real_type = cnp.NPY_FLOAT64 if dtype == np.float64 else cnp.NPY_FLOAT32
        memset(&c_blas, 0, sizeof(c_blas))
        if engine == "blas":
            c_engine = CYL_ENGINE_BLAS64 if dtype == np.float64 else CYL_ENGINE_BLAS32
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
        self.load_openmp, self.needs_openmp = load_openmp, load_openmp is not None
        cyl_model_set_threads(self.model, CYL_THREADS_POOL if load_openmp is None else CYL_THREADS_OPENMP)

    def _add_value(self, str name, str kind, tuple shape):
        """Declare a value; its index. A time that is not known in advance is 0."""
        cdef int32_t sizes[CYL_MAX_RANK]
        cdef int32_t index
        if len(shape) > CYL_MAX_RANK:
            raise UnsupportedError(f"value {name!r}: at most {CYL_MAX_RANK} axes are supported")
        for axis, size in enumerate(shape):
            sizes[axis] = size
        kinds = {
            "sequence": CYL_SEQUENCE,
            "vector": CYL_VECTOR,
            "mask": CYL_MASK,
            "state": CYL_STATE,
            "index": CYL_INDEX,
        }
        check(
            cyl_model_add_tensor(self.model, kinds[kind], sizes, len(shape), &index),
            f"value {name!r} of shape {shape}",
        )
        return index

    def _share_time(self, int32_t value, int32_t of, str what):
        """Say that an input has always as many steps as another before it."""
        check(cyl_model_share_time(self.model, value, of), what)

    def _add_layer(self, layer, dict indices, tensors, types, packed):
        """Declare a layer of the graph.

        `indices` are those of the values, `types` the types of its matrices by role where they are not real,
        `packed` its packed arrays or None.

        Names and arrays are kept alive in Python lists while C reads them.
        """
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
            arrays[i].rank, arrays[i].type = tensor.ndim, NULL
            if role in types:
                kept.append(types[role].encode())
                arrays[i].type = <bytes>kept[-1]
            for axis in range(min(tensor.ndim, CYL_MAX_RANK)):
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
                kept.append(ARRAY_TYPES[array.dtype.name].encode())
                packed_arrays[i].data, packed_arrays[i].size = cnp.PyArray_DATA(array), array.shape[0]
                packed_arrays[i].type = <bytes>kept[-1]
            spec.arrays, spec.array_count = packed_arrays, len(packed)
        status = cyl_model_add_layer(self.model, &spec)
        PyMem_Free(<void *>spec.arrays)
        check(status, f"layer {layer.name!r}")

    def _write_tensor(self, int32_t layer, str role, int64_t first, cnp.ndarray rows, str what):
        """Pack rows of a tensor of the layer of this index, C-contiguous and of `dtype`.

        False where the type of the layer's matrices cannot hold one of the numbers.
        """
        cdef bytes name = role.encode()
        cdef const char *role_text = name
        cdef int64_t count = rows.shape[0]
        cdef const void *data = cnp.PyArray_DATA(rows)
        cdef CylStatus status
        with nogil:
            status = cyl_model_write_tensor(self.model, layer, role_text, first, count, data)
        if status == CYL_E_RANGE:
            return False
        check(status, what)
        return True

    def _read_tensor(self, int32_t layer, str role, int64_t first, cnp.ndarray rows, str what):
        """Unpack rows of a tensor: of `dtype`, in the packed engine after the subnormal rule."""
        cdef bytes name = role.encode()
        check(
            cyl_model_read_tensor(self.model, layer, name, first, rows.shape[0], cnp.PyArray_DATA(rows)),
            what,
        )

    def _packed_arrays(self, int32_t layer):
        """The packed weights of a layer, read-only arrays of one axis that lie in this model."""
        cdef CylArray packed
        cdef cnp.npy_intp size
        cdef cnp.ndarray array
        arrays = []
        for i in range(cyl_model_array_count(self.model, layer)):
            packed = cyl_model_array(self.model, layer, i)
            size = packed.size
            number = NUMBER_TYPES.get(packed.type, self.real_type)
            array = cnp.PyArray_SimpleNewFromData(1, &size, number, <void *>packed.data)
            cnp.set_array_base(array, self)
            array.setflags(write=False)
            arrays.append(array)
        return arrays

    def _finish(self, list inputs, list masks, list outputs, list are_sequences, plain):
        """End building: False if a layer's weights hold numbers that make no sense.

        Parameters
        ----------
        inputs, masks, outputs : list of int
            Indices of values; a mask is -1 where an input has none.
        are_sequences : list of bool
            Of the inputs, whether they have time.
        plain : tuple or None
            The shapes of a row of the only input and of the only output, with 0 for any time and -1 for what follows from
            it by rules, and of each the order of axes, if the user has another: of the input the user's axis that each
            axis is, of the output the axis that each of the user's is, else None. None for networks whose calls must go
            through `cylstm.prediction.predict_any`.
        """
        cdef int32_t input_indices[MAX_PORTS]
        cdef int32_t mask_indices[MAX_PORTS]
        cdef int32_t *output_indices
        cdef CylStatus status
        if len(inputs) > MAX_PORTS:
            raise UnsupportedError(f"at most {MAX_PORTS} inputs are supported")
        output_indices = <int32_t *>PyMem_Calloc(max(1, len(outputs)), sizeof(int32_t))
        if output_indices == NULL:
            raise MemoryError
        for i in range(len(inputs)):
            input_indices[i], mask_indices[i], self.input_is_sequence[i] = inputs[i], masks[i], are_sequences[i]
        for i in range(len(outputs)):
            output_indices[i] = outputs[i]
        self.input_count, self.output_count = len(inputs), len(outputs)
        self.is_plain = plain is not None
        if plain is not None:
            x_shape, y_shape, x_order, y_order = plain
            self.x_is_turned, self.y_is_turned = x_order is not None, y_order is not None
            for i, axis in enumerate(x_order or ()):
                self.x_order[i] = axis
            for i, axis in enumerate(y_order or ()):
                self.y_order[i] = axis
            self.x_rank, self.y_rank = len(x_shape), len(y_shape)
            self.x_numbers = self.y_numbers = 1
            for i, size in enumerate(x_shape):
                self.x_shape[i] = size
                self.x_numbers *= max(1, <int64_t>size)
            for i, size in enumerate(y_shape):
                self.y_shape[i] = size
                self.y_numbers *= max(1, <int64_t>size)
        status = cyl_model_finish(
            self.model, input_indices, mask_indices, self.input_count, output_indices, self.output_count
        )
        PyMem_Free(output_indices)
        if status == CYL_E_TENSOR:
            return False
        check(status, "model")
        self.state_count = cyl_model_state_count(self.model)
        self.step_multiple = cyl_model_step_multiple(self.model)
        self.settles = cyl_model_settles(self.model)
        self.work = cyl_model_work(self.model)
        self.nbytes = cyl_model_bytes(self.model)
        return True

    def kept_sizes(self):
        """``[(index of a layer, numbers), ...]``: what a stream keeps of a row beside its states."""
        cdef int32_t layer = -1
        found = []
        for i in range(cyl_model_kept_count(self.model)):
            size = cyl_model_kept_size(self.model, i, &layer)
            found.append((layer, size))
        return found

    def run_bytes(self, times):
        """Bytes that a run of one row takes: of a stream with `times` None, else of so many steps of each input."""
        cdef int64_t steps[MAX_PORTS]
        cdef int64_t found
        cdef int i
        for i in range(self.input_count if times is not None else 0):
            steps[i] = times[i]
        check(cyl_model_run_bytes(self.model, NULL if times is None else steps, &found), "model")
        return found

    @cython.final
    cdef int useful(self, int64_t rows, int64_t time, int threads) noexcept:
        return threads if uses_all_threads else cyl_model_worthwhile_threads(self.model, rows, time, threads)

    def useful_threads(self, int64_t rows, int64_t time, int threads):
        """How many of `threads` threads a call of `rows` rows of `time` steps uses: fewer where more would be slower.

        The rule is one of shape alone; the result of a call does not depend on it.
        """
        return self.useful(rows, time, threads)

    @cython.final
    cdef int prepare_threads(self) except -1:
        """Before the first call on several threads."""
        if self.needs_openmp:
            self.load_openmp()
            self.needs_openmp = False
        return 0

    @cython.final
    cdef int run(self, CylCall *call, int64_t time) except -1:
        """Predict by a call that is filled in but for what is decided here.

        0 if an index is out of range, -2 if there are too few steps for a layer: the caller says which.
        """
        cdef CylStatus status
        if call.threads > 1:
            self.prepare_threads()
        call.should_stop = NULL
        if is_long(self.work, call.rows, time):
            watch_signals(call)
            with nogil:
                status = cyl_predict(self.model, call)
        else:
            status = cyl_predict(self.model, call)
        if status == CYL_E_INDEX:
            return 0
        if status == CYL_E_TIME:
            return -2
        if status != CYL_OK:
            check(status, "predict")
        return 1

    def predict_array(self, x, out, threads):
        """The common call of `Model.predict`: one array in, one out.

        Returns
        -------
        ndarray or None
            None for anything else, and for anything wrong: `cylstm.prediction.predict_any` then does it or says what
            is wrong.
        """
        cdef CylCall call
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t time = 1, steps = 1
        cdef cnp.ndarray array, result
        cdef cnp.npy_intp shape[CYL_MAX_RANK + 1]
        cdef int first, axis, overflow = 0
        cdef long most
        if not self.is_plain:
            return None
        if self.x_is_turned:
            x = turned(x, self.x_rank, self.x_order)
        array = as_readable(x, self.real_type, True)
        if array is None or (self.y_is_turned and out is not None):
            return None
        first = cnp.PyArray_NDIM(array) - self.x_rank
        # with a batch axis or without it
        if first != 0 and first != 1 or not has_shape(array.shape + first, self.x_shape, self.x_rank):
            return None
        call.rows = array.shape[0] if first else 1
        if self.input_is_sequence[0]:
            time = array.shape[first]
        if call.rows == 0 or time == 0:
            return None
        if threads is None:
            most = CYL_MAX_THREADS if is_long(self.work, call.rows, time) else 1
        elif type(threads) is int:
            most = PyLong_AsLongAndOverflow(threads, &overflow)
            if overflow or not 1 <= most <= CYL_MAX_THREADS:
                return None
        else:
            return None
        shape[0] = call.rows
        # there is room for more than most results have, and a loop costs a step more
        shape[first], shape[first + 1], shape[first + 2] = self.y_shape[0], self.y_shape[1], self.y_shape[2]
        for axis in range(3, self.y_rank):
            shape[first + axis] = self.y_shape[axis]
        if self.y_rank > 0 and self.y_shape[0] <= 0:
            steps = time
            if self.y_shape[0] < 0 and cyl_model_steps(self.model, &time, 0, &steps) != CYL_OK:
                return None
            shape[first] = steps
        if <double>call.rows * <double>steps * <double>self.y_numbers > MOST_NUMBERS:
            return None
        # of a fixed number of steps these are among the numbers of a row
        result = as_writable(
            out, first + self.y_rank, shape, call.rows * steps * self.y_numbers, self.real_type, array,
            call.rows * (time if self.x_shape[0] == 0 else 1) * self.x_numbers,
        )
        if result is None:
            return None
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        if most > 1:
            most = self.useful(call.rows, time, <int>most)
        if most > 1 and threads is None and cyl_threads_are_taken():
            most = 1
        if most > 1 and threads is None:  # asked last: it takes microseconds, in which no other thread runs Python
            from cylstm.engine.threads import available_threads

            most = min(most, <long>available_threads())
        call.times, call.threads = &time, <int>most
        call.inputs, call.masks, call.outputs = &in_data, NULL, &out_data
        call.initial_state, call.final_state, call.traces = NULL, NULL, NULL
        if self.run(&call, time) != 1:
            return None
        return turned(result, self.y_rank, self.y_order) if self.y_is_turned else result

    def predict(self, list inputs, list masks, list outputs, initial_state, final_state, int threads, list traces=None):
        """Run a whole call; every array is checked, C-contiguous and of the right dtype already.

        Parameters
        ----------
        inputs : list of ndarray
            (batch, time, features) or (batch, features).
        masks : list of (ndarray of uint8 (batch, time), or None)
        outputs : list of ndarray
            Written to; (batch, time, features) or (batch, features).
        initial_state, final_state : list of ndarray (batch, ...), or None
        traces : list of (layer index, steps, pre, gates, cell, pre_skips, gates_skips), or None
            Arrays (batch, steps, ...) or None to which recurrent layers write, and bits of the gates that are left out
            of the first two, as `CylTrace` has them.

        Returns
        -------
        bool
            False if an index of the inputs is out of range: nothing is predicted then.
        """
        cdef CylCall call
        cdef const void *in_data[MAX_PORTS]
        cdef const uint8_t *mask_data[MAX_PORTS]
        cdef int64_t times[MAX_PORTS]
        cdef void **out_data = NULL
        cdef void **initial = NULL
        cdef void **final = NULL
        cdef CylLayerTrace *traced = NULL
        cdef cnp.ndarray array
        cdef int64_t longest = 1
        cdef int done
        for i in range(self.input_count):
            array = inputs[i]
            in_data[i] = cnp.PyArray_DATA(array)
            times[i] = array.shape[1] if self.input_is_sequence[i] else 1
            longest = max(longest, times[i])
            mask_data[i] = NULL
            if masks[i] is not None:
                array = masks[i]
                mask_data[i] = <const uint8_t *>cnp.PyArray_DATA(array)
        array = inputs[0]
        call.rows, call.times, call.threads = array.shape[0], times, threads
        call.inputs, call.masks = in_data, mask_data
        try:
            out_data = addresses_of(outputs)
            call.outputs = out_data
            if initial_state is not None:
                initial = addresses_of(initial_state)
            if final_state is not None:
                final = addresses_of(final_state)
            call.initial_state, call.final_state = <const void *const *>initial, <void *const *>final
            if traces is not None:
                traced = traces_of(traces)
                call.trace_count = len(traces)
            call.traces = traced
            done = self.run(&call, longest)
            if done < 0:  # the lengths are checked before
                check(CYL_E_TIME, "predict")
            return bool(done)
        finally:
            PyMem_Free(out_data)
            PyMem_Free(initial)
            PyMem_Free(final)
            PyMem_Free(traced)


cdef turned(x, int rank, const cnp.npy_intp *order):
    """A view of an array whose axis i is axis order[i] of x, behind a batch axis if x has one; None if x is no such."""
    cdef cnp.npy_intp axes[CYL_MAX_RANK + 1]
    cdef cnp.PyArray_Dims dims
    cdef int first, axis
    if not cnp.PyArray_CheckExact(x):
        return None
    first = cnp.PyArray_NDIM(x) - rank
    if first != 0 and first != 1:
        return None
    axes[0] = 0
    for axis in range(rank):
        axes[first + axis] = first + order[axis]
    dims.ptr, dims.len = axes, first + rank
    return cnp.PyArray_Transpose(x, &dims)


cdef inline cnp.ndarray as_readable(x, int real_type, bint converts):
    """An array that C can read, of this type: x itself, or with `converts` converted; None where that is not so easy."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(x):
        return None
    array = x
    if cnp.PyArray_TYPE(array) == real_type and cnp.PyArray_ISCARRAY_RO(array):
        return array
    # NumPy's default is float64
    if not converts or not (cnp.PyArray_ISFLOAT(array) or cnp.PyArray_ISINTEGER(array)):
        return None
    cdef uint64_t mode = cyl_mode_enter()
    try:
        return cnp.PyArray_FROM_OTF(x, real_type, cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST)
    finally:
        cyl_mode_leave(mode)


cdef inline bint has_shape(const cnp.npy_intp *shape, const cnp.npy_intp *expected, int rank) noexcept:
    """Whether these are the sizes expected, where a first one of 0 is any; up to an image's rank without a loop."""
    cdef int axis
    if rank > 0 and shape[0] != expected[0] and expected[0] != 0:
        return False
    if rank == 2:
        return shape[1] == expected[1]
    if rank == 3:
        return shape[1] == expected[1] and shape[2] == expected[2]
    for axis in range(1, rank):
        if shape[axis] != expected[axis]:
            return False
    return True


cdef inline cnp.ndarray as_writable(
    out, int rank, cnp.npy_intp *shape, int64_t numbers, int real_type, cnp.ndarray read, int64_t read_numbers
):
    """A fresh array of so many numbers, or `out` if C can write to it while it reads the array `read`; else None.

    Sizes are given and shapes compared here, since a function of NumPy's takes nanoseconds that a step has not.
    """
    cdef cnp.ndarray result
    cdef const char *data
    cdef const char *read_data
    cdef int64_t item = 8 if real_type == cnp.NPY_FLOAT64 else 4
    cdef int axis
    if out is None:
        return cnp.PyArray_EMPTY(rank, shape, real_type, 0)
    if not cnp.PyArray_CheckExact(out):
        return None
    result = out
    if not (
        cnp.PyArray_TYPE(result) == real_type
        and cnp.PyArray_ISCARRAY(result)
        and cnp.PyArray_NDIM(result) == rank
    ):
        return None
    for axis in range(rank):
        if result.shape[axis] != shape[axis]:
            return None
    data, read_data = <const char *>cnp.PyArray_DATA(result), <const char *>cnp.PyArray_DATA(read)
    if data < read_data + read_numbers * item and read_data < data + numbers * item:
        return None  # they share memory
    return result


cdef inline const uint8_t *as_mask(active, int64_t batch) noexcept:
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


cdef void **addresses_of(list arrays) except NULL:
    """The addresses of the numbers of arrays; to be freed."""
    cdef cnp.ndarray array
    cdef void **addresses = <void **>PyMem_Calloc(max(1, len(arrays)), sizeof(void *))
    if addresses == NULL:
        raise MemoryError
    for i, array in enumerate(arrays):
        addresses[i] = cnp.PyArray_DATA(array)
    return addresses


cdef CylLayerTrace *traces_of(list traces) except NULL:
    """What layers write in a call; to be freed."""
    cdef CylLayerTrace *found = <CylLayerTrace *>PyMem_Calloc(max(1, len(traces)), sizeof(CylLayerTrace))
    if found == NULL:
        raise MemoryError
    for i, (layer, steps, pre, gates, cell, pre_skips, gates_skips) in enumerate(traces):
        found[i].layer, found[i].to.steps = layer, steps
        found[i].to.pre_skips, found[i].to.gates_skips = pre_skips, gates_skips
        found[i].to.pre = NULL if pre is None else cnp.PyArray_DATA(pre)
        found[i].to.gates = NULL if gates is None else cnp.PyArray_DATA(gates)
        found[i].to.cell = NULL if cell is None else cnp.PyArray_DATA(cell)
    return found


cdef class EngineStream:
    """A stream of C, which `cylstm.stream.Stream` is made of: a running state, or a window that moves along."""

    cdef readonly object model
    cdef EngineModel packed
    # one of the two
    cdef CylStream *stream
    cdef CylWindow *kept
    cdef readonly int64_t batch
    cdef readonly int threads
    cdef readonly object window
    # steps that a call computes for each that it is given: the length of a window, or 1
    cdef int64_t length
    # whether `advance` knows the shapes of a call, which `_create` has more about
    cdef bint is_plain
    cdef int64_t multiple, gain, x_numbers, result_numbers
    cdef int real_type, x_rank, result_rank
    cdef cnp.npy_intp x_shape[CYL_MAX_RANK]
    cdef cnp.npy_intp result_shape[CYL_MAX_RANK + 2]

    def __dealloc__(self):
        cyl_stream_free(self.stream)
        cyl_window_free(self.kept)

    def _create(self, model, EngineModel packed, int64_t batch, int threads, window, carried, plain):
        """Make the stream of C.

        Parameters
        ----------
        window : int or None
        carried : bytes or None
            Of each layer, whether its state goes on from call to call; None where all do.
        plain : tuple or None
            The shape of a step of the only input of a network; that of the only result of the fewest steps that a call
            may have once the stream has settled, with a batch axis, and a time axis if those are several; and how many
            they are, 0 for a result without time, -1 of a window, and of a network
            without time. None if calls must go through `_run_any`.
        """
        if self.packed is not None:
            raise AttributeError("a stream is made once; make another one")
        self.length = 1 if window is None else window
        threads = packed.useful(batch, self.length, threads)
        if threads > 1:
            packed.prepare_threads()
        if window is None:
            check(cyl_stream_create(packed.model, batch, threads, &self.stream), f"a stream of {batch} rows")
            if carried is not None:
                check(cyl_stream_carry(self.stream, <bytes>carried), "stream")
        else:
            check(
                cyl_window_create(packed.model, batch, self.length, threads, &self.kept),
                f"a stream of {batch} rows with window={window}",
            )
        self.model, self.packed, self.batch, self.threads, self.window = model, packed, batch, threads, window
        self.is_plain = plain is not None
        if plain is not None:
            x_shape, shape, self.gain = plain
            self.multiple = 1 if self.gain < 0 else packed.step_multiple
            self.real_type, self.x_rank, self.result_rank = packed.real_type, len(x_shape), len(shape)
            self.x_numbers = self.result_numbers = 1
            for i, size in enumerate(x_shape):
                self.x_shape[i] = size
                self.x_numbers *= size
            for i, size in enumerate(shape):
                self.result_shape[i] = size
                self.result_numbers *= size

    @cython.final
    cdef int run(
        self, CylCall *call, int64_t time, const uint8_t *active, bint is_settled, EngineStream other
    ) except -1:
        """Run `time` steps, of the active rows alone if that is not NULL; on the stream `other`, if that is not None.

        0 if with `is_settled` some rows had not settled.
        """
        cdef CylStatus status
        cdef int64_t row, rows = self.batch
        call.rows, call.threads, call.masks = self.batch, self.threads, NULL
        call.initial_state, call.final_state = NULL, NULL
        call.should_stop = NULL
        if active != NULL:
            rows = 0
            for row in range(self.batch):
                rows += active[row] != 0
            if self.threads > 1:
                call.threads = self.packed.useful(rows, self.length, self.threads)
        # of a window the last step alone is computed
        if is_long(self.packed.work, rows, time if self.kept == NULL else self.length):
            watch_signals(call)
            with nogil:
                status = self.run_in_c(call, active, is_settled, other)
        else:
            status = self.run_in_c(call, active, is_settled, other)
        if status != CYL_OK:
            if status == CYL_E_TIME and is_settled:
                return 0
            check(status, "stream")
        return 1

    @cython.final
    cdef inline CylStatus run_in_c(
        self, const CylCall *call, const uint8_t *active, bint is_settled, EngineStream other
    ) noexcept nogil:
        if other is not None:
            if self.kept != NULL:
                return cyl_window_run_on(self.kept, other.kept, call, active)
            return cyl_stream_run_on(self.stream, other.stream, call, active)
        if self.kept != NULL:
            return cyl_window_run(self.kept, call, active)
        if is_settled:
            return cyl_stream_run_settled(self.stream, call, active)
        return cyl_stream_run_active(self.stream, call, active)

    def step(self, x, *, out=None, active=None, errors=None):
        """Advance by one step.

        Parameters
        ----------
        x : array_like
            (features,) for a stream of batch 1, or (batch, features). Several inputs: a list in the order of
            `Model.inputs` or a dict by name; one without time is given once, and None is what was given last.
        out : ndarray, optional
            Where to write the result: C-contiguous, of the model's dtype and the result's shape. Then nothing is
            allocated.
        active : array_like of bool, optional
            (batch,): rows to advance; results match separate streams. The others keep their whole running
            state, their x is not looked at (it may be NaN), and their outputs are zeros. The cost is that of the
            active rows. Default: all.
        errors : dict, optional
            Rows whose numbers are wrong, such as an index that is out of range, do not keep the others from advancing:
            they keep their running state, give NaN, and ``errors[row]`` is the `ShapeError` about each; the dict is
            emptied first. Without it, a `RowError` is raised and no row advances. NaN and infinity are numbers, and
            what they give stays in their row; `Model.check_step` finds them before.

        Returns
        -------
        ndarray
            A fresh array: (outputs,) if x was (features,), else (batch, outputs); a list for several outputs. With a
            window, what `Model.predict` gives for the last steps. None while `warm_up` lasts and there is no output:
            `out` is left as it is then.

        Raises
        ------
        ShapeError
            If x, active or out has another shape, rank or dtype.
        RowError
            A `ShapeError` too: if numbers of some rows are wrong; ``error.rows`` has all of them.
        StreamBusyError
            If another thread is inside this stream.
        """
        if errors is None:
            result = self.advance(x, out, active, True)
            if result is not None:
                return result
        return self._step_any(x, active, out, errors)

    def _run_array(self, x, out, active, bint is_step):
        """The common call of `run`, and of a `step` with errors: as `advance`."""
        return self.advance(x, out, active, is_step)

    @cython.final
    cdef inline advance(self, x, out, active, bint is_step):
        """One step, or a chunk of them, of a network whose shapes are known: the result, or None for anything else.

        Nothing has changed then, and the general way does it or says what is wrong.
        """
        cdef CylCall call
        cdef const void *in_data
        cdef void *out_data
        cdef int64_t time = 1, numbers
        cdef cnp.ndarray array, result
        cdef cnp.npy_intp *shape
        cdef cnp.npy_intp own_shape[CYL_MAX_RANK + 2]
        cdef const uint8_t *mask = NULL
        cdef int first, rank, axis
        if not self.is_plain:
            return None
        if active is not None:
            mask = as_mask(active, self.batch)
            if mask == NULL:
                return None
        # converting would look at the rows that are not active too
        array = as_readable(x, self.real_type, mask == NULL)
        if array is None:
            return None
        # with a batch axis, or without it for a batch of 1; a chunk has one of time behind that
        first = cnp.PyArray_NDIM(array) - self.x_rank
        if not is_step:
            first -= 1
            if first < 0 or self.gain < 0:
                return None
            time = array.shape[first]
        if first != 0 and first != 1 or (array.shape[0] if first else 1) != self.batch:
            return None
        if not has_shape(array.shape + first + (0 if is_step else 1), self.x_shape, self.x_rank):
            return None
        shape, rank, numbers = self.result_shape, self.result_rank, self.result_numbers
        if is_step:
            if self.multiple != 1:
                return None
        else:
            if time < 1 or time % self.multiple:
                return None
            if self.gain > 0:
                numbers = numbers // self.gain * (self.gain * (time // self.multiple))
                shape = own_shape
                shape[0], shape[1] = self.batch, self.gain * (time // self.multiple)
                rank -= self.gain > 1
                for axis in range(1, rank):
                    shape[axis + 1] = self.result_shape[axis + (self.gain > 1)]
                rank += 1
            if <double>self.result_numbers * <double>time > MOST_NUMBERS:
                return None
        result = as_writable(
            out, rank + first - 1, shape + 1 - first, numbers, self.real_type, array, self.x_numbers * self.batch * time
        )
        if result is None:
            return None
        in_data = cnp.PyArray_DATA(array)
        out_data = cnp.PyArray_DATA(result)
        call.times, call.inputs, call.outputs, call.traces = &time, &in_data, &out_data, NULL
        return result if self.run(&call, time, mask, True, None) else None

    def _run_arrays(
        self, list inputs, list outputs, int64_t time, cnp.ndarray active, EngineStream other=None, list traces=None
    ):
        """Run `time` steps; every array is checked, C-contiguous and of the right dtype already.

        With `other` the outputs are those of that stream, whose model has the same layers, and of the same batch and
        window; its layers write their `traces`, as in `EngineModel.predict`.
        """
        cdef CylCall call
        cdef const void *in_data[MAX_PORTS]
        cdef int64_t times[MAX_PORTS]
        cdef void **out_data = NULL
        cdef CylLayerTrace *traced = NULL
        cdef const uint8_t *active_data = NULL
        cdef cnp.ndarray array
        self.check_made()
        if other is not None and (other.batch != self.batch or (other.kept == NULL) != (self.kept == NULL)):
            raise EngineError("stream: the other one is of another batch or kind")
        for i in range(self.packed.input_count):
            array = inputs[i]
            in_data[i] = cnp.PyArray_DATA(array)
            times[i] = time if self.packed.input_is_sequence[i] else 1
        call.times, call.inputs = times, in_data
        if active is not None:
            active_data = <const uint8_t *>cnp.PyArray_DATA(active)
        try:
            out_data = addresses_of(outputs)
            if traces is not None:
                traced = traces_of(traces)
                call.trace_count = len(traces)
            call.outputs, call.traces = out_data, traced
            self.run(&call, time, active_data, False, other)
        finally:
            PyMem_Free(out_data)
            PyMem_Free(traced)

    def _count_steps(self, cnp.ndarray counts):
        """Write the steps that each row has taken to an array of int64 (batch,)."""
        cdef int64_t *data = <int64_t *>cnp.PyArray_DATA(counts)
        self.check_made()
        if self.kept != NULL:
            check(cyl_window_get(self.kept, NULL, data), "stream")
        else:
            check(cyl_stream_get_steps(self.stream, data), "stream")

    def _count_taken(self, cnp.ndarray counts):
        """Write the steps of each row up to those that the model settles after to an array of int64 (batch,)."""
        self.check_running()
        check(cyl_stream_get_taken(self.stream, <int64_t *>cnp.PyArray_DATA(counts)), "stream")

    def _reset_rows(self, cnp.ndarray rows):
        """Of all rows with None; else of those that `cylstm.inputs.as_rows` gave."""
        cdef CylStatus status
        cdef const int64_t *data = NULL
        self.check_made()
        if rows is not None:
            data = <const int64_t *>cnp.PyArray_DATA(rows)
        if self.kept != NULL:
            status = cyl_window_reset(self.kept) if rows is None else cyl_window_reset_rows(self.kept, data, len(rows))
        else:
            status = cyl_stream_reset(self.stream) if rows is None else cyl_stream_reset_rows(self.stream, data, len(rows))
        check(status, "stream")

    def _copy_rows(self, cnp.ndarray rows, EngineStream source not None, cnp.ndarray source_rows):
        """Rows of a stream of the same model and window, both as `as_rows` gives them, in the order of `rows`."""
        cdef const int64_t *to = <const int64_t *>cnp.PyArray_DATA(rows)
        cdef const int64_t *of = <const int64_t *>cnp.PyArray_DATA(source_rows)
        self.check_made()
        source.check_made()
        if self.kept != NULL and source.kept != NULL:
            check(cyl_window_copy_rows(self.kept, to, source.kept, of, len(rows)), "stream")
        elif self.stream != NULL and source.stream != NULL:
            check(cyl_stream_copy_rows(self.stream, to, source.stream, of, len(rows)), "stream")
        else:
            raise EngineError("stream: rows of a stream with a window and of one without")

    def _flags_size(self):
        """Bytes that a running state has beside its arrays."""
        self.check_running()
        return cyl_stream_flags_size(self.stream)

    def _save_state(self, list arrays, cnp.ndarray taken, bytearray flags):
        """Write all of one moment: the states, and after them what is kept of steps, to arrays; what `_count_taken`
        gives; and with `flags` what is remembered beside them."""
        cdef CylStreamState state
        cdef CylStatus status
        cdef void **addresses
        self.check_running()
        addresses = addresses_of(arrays)
        state.states, state.kept = addresses, NULL
        if len(arrays) > self.packed.state_count:
            state.kept = addresses + self.packed.state_count
        state.taken = <int64_t *>cnp.PyArray_DATA(taken)
        state.flags = NULL
        if flags is not None:
            state.flags = flags
        status = cyl_stream_save(self.stream, &state)
        PyMem_Free(addresses)
        check(status, "stream")

    def _restore_state(self, list arrays, cnp.ndarray taken, bytes flags):
        """Take over what `_save_state` gives; `taken` of a model that never settles is not looked at."""
        cdef CylStreamState state
        cdef CylStatus status
        cdef void **addresses
        self.check_running()
        addresses = addresses_of(arrays)
        state.states, state.kept = addresses, NULL
        if len(arrays) > self.packed.state_count:
            state.kept = addresses + self.packed.state_count
        state.taken = <int64_t *>cnp.PyArray_DATA(taken)
        state.flags = NULL
        if flags is not None:
            state.flags = <uint8_t *><const uint8_t *>flags
        status = cyl_stream_restore(self.stream, &state)
        PyMem_Free(addresses)
        check(status, "stream")

    def _save_window(self, list arrays, cnp.ndarray counts):
        """Write the kept steps of each input to arrays, and the steps taken by each row to `counts`."""
        cdef void **inputs
        cdef CylStatus status
        self.check_window()
        inputs = addresses_of(arrays)
        status = cyl_window_get(self.kept, inputs, <int64_t *>cnp.PyArray_DATA(counts))
        PyMem_Free(inputs)
        check(status, "stream")

    def _restore_window(self, list arrays, cnp.ndarray counts):
        """Take over kept steps; whether they can be of this model."""
        cdef void **inputs
        cdef CylStatus status
        self.check_window()
        inputs = addresses_of(arrays)
        status = cyl_window_set(
            self.kept, <const void *const *>inputs, <const int64_t *>cnp.PyArray_DATA(counts)
        )
        PyMem_Free(inputs)
        if status == CYL_E_ARGUMENT or status == CYL_E_INDEX:
            return False
        check(status, "stream")
        return True

    cdef int check_made(self) except -1:
        if self.packed is None:
            raise UnsupportedError("a stream is made by Model.stream")
        return 0

    cdef int check_running(self) except -1:
        if self.stream == NULL:
            raise UnsupportedError("this stream has no running state")
        return 0

    cdef int check_window(self) except -1:
        if self.kept == NULL:
            raise UnsupportedError("this stream has no window")
        return 0
