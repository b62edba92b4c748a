# The public header of csrc, for _engine.pyx.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

cdef extern from "cylstm.h" nogil:
    ctypedef enum CylStatus:
        CYL_OK
        CYL_E_MEMORY
        CYL_E_ARGUMENT
        CYL_E_ISA
        CYL_E_TENSOR
        CYL_E_BLAS
        CYL_E_STREAM
        CYL_E_BUSY
        CYL_E_INDEX
        CYL_E_TIME
        CYL_E_LAYOUT
        CYL_E_STOPPED
        CYL_E_RANGE
        CYL_STATUS_COUNT
    const char *cyl_status_text(CylStatus status)

    ctypedef enum CylIsa:
        CYL_ISA_SCALAR
        CYL_ISA_COUNT
    const char *cyl_isa_name(CylIsa isa)
    int cyl_isa_available(CylIsa isa)
    int cyl_isa_fuses(CylIsa isa)
    CylIsa cyl_isa_best()
    ctypedef enum CylFeature:
        CYL_FEATURE_DOT_PRODUCT
        CYL_FEATURE_FP16
    int cyl_feature_available(CylFeature feature)
    void cyl_draw_words(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t *words) nogil
    void cyl_draw_factors(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t limit, double kept,
                          double lost, bint is_double, void *factors) nogil

    ctypedef enum CylEngine:
        CYL_ENGINE_PACKED
        CYL_ENGINE_BLAS32
        CYL_ENGINE_BLAS64

    ctypedef struct CylBlas:
        uintptr_t sgemv, sgemm, dgemv, dgemm, set_threads, get_threads, exchange_threads
        int threads_are_local, is_int64

    ctypedef struct CylModel:
        pass
    ctypedef enum CylValueKind:
        CYL_SEQUENCE
        CYL_VECTOR
        CYL_MASK
        CYL_STATE
        CYL_INDEX
    enum:
        CYL_MAX_RANK
    ctypedef struct CylPort:
        const char *role
        int32_t value
    ctypedef struct CylOption:
        const char *name
        const char *text
        double number
    ctypedef struct CylTensor:
        const char *role
        const void *data
        int32_t rank
        int64_t shape[CYL_MAX_RANK]
        const char *type
    enum: CYL_LAYOUT_VERSION
    ctypedef struct CylArray:
        const void *data
        int64_t size
        const char *type
    ctypedef struct CylLayerSpec:
        const char *kind
        const CylPort *inputs
        const CylPort *outputs
        const CylOption *options
        const CylTensor *tensors
        int32_t input_count, output_count, option_count, tensor_count
        const CylArray *arrays
        int32_t array_count

    CylStatus cyl_model_create(CylEngine engine, CylIsa isa, const CylBlas *blas, CylModel **model)
    void cyl_model_free(CylModel *model)
    CylStatus cyl_model_add_value(CylModel *model, CylValueKind kind, int32_t features, int32_t *index)
    CylStatus cyl_model_add_tensor(CylModel *model, CylValueKind kind, const int32_t *shape, int32_t rank, int32_t *index)
    CylStatus cyl_model_add_layer(CylModel *model, const CylLayerSpec *spec)
    CylStatus cyl_model_write_tensor(CylModel *model, int32_t layer, const char *role, int64_t first_row, int64_t rows,
                                     const void *data)
    CylStatus cyl_model_read_tensor(const CylModel *model, int32_t layer, const char *role, int64_t first_row,
                                    int64_t rows, void *data)
    int32_t cyl_model_array_count(const CylModel *model, int32_t layer)
    CylArray cyl_model_array(const CylModel *model, int32_t layer, int32_t index)
    CylStatus cyl_model_share_time(CylModel *model, int32_t value, int32_t of)
    CylStatus cyl_model_finish(CylModel *model, const int32_t *inputs, const int32_t *masks, int32_t input_count,
                               const int32_t *outputs, int32_t output_count)
    int64_t cyl_model_step_multiple(const CylModel *model)
    int64_t cyl_model_settles(const CylModel *model)
    int32_t cyl_model_kept_count(const CylModel *model)
    int32_t cyl_model_kept_size(const CylModel *model, int32_t index, int32_t *layer)
    int64_t cyl_model_work(const CylModel *model)
    int64_t cyl_model_bytes(const CylModel *model)
    CylStatus cyl_model_steps(const CylModel *model, const int64_t *times, int32_t output, int64_t *steps)
    CylStatus cyl_model_run_bytes(const CylModel *model, const int64_t *times, int64_t *bytes)
    int32_t cyl_model_state_count(const CylModel *model)
    int32_t cyl_model_state_size(const CylModel *model, int32_t index)
    int cyl_model_worthwhile_threads(const CylModel *model, int64_t rows, int64_t time, int threads)

    ctypedef struct CylTrace:
        void *pre
        void *gates
        void *cell
        int64_t steps
        uint8_t pre_skips
        uint8_t gates_skips
    ctypedef struct CylLayerTrace:
        int32_t layer
        CylTrace to

    int CYL_MAX_THREADS
    ctypedef struct CylCall:
        int64_t rows
        const int64_t *times
        const void *const *inputs
        const uint8_t *const *masks
        void *const *outputs
        const void *const *initial_state
        void *const *final_state
        int threads
        int (*should_stop)(void *stop_context) noexcept
        void *stop_context
        const CylLayerTrace *traces
        int32_t trace_count
    CylStatus cyl_predict(const CylModel *model, const CylCall *call)

    ctypedef struct CylStream:
        pass
    CylStatus cyl_stream_create(const CylModel *model, int64_t rows, int threads, CylStream **stream)
    void cyl_stream_free(CylStream *stream)
    CylStatus cyl_stream_carry(CylStream *stream, const uint8_t *carried)
    CylStatus cyl_stream_run(CylStream *stream, const CylCall *call)
    CylStatus cyl_stream_run_active(CylStream *stream, const CylCall *call, const uint8_t *active)
    CylStatus cyl_stream_run_settled(CylStream *stream, const CylCall *call, const uint8_t *active)
    CylStatus cyl_stream_run_on(CylStream *stream, CylStream *other, const CylCall *call, const uint8_t *active)
    CylStatus cyl_stream_reset(CylStream *stream)
    CylStatus cyl_stream_reset_rows(CylStream *stream, const int64_t *rows, int64_t count)
    CylStatus cyl_stream_copy_rows(CylStream *to, const int64_t *to_rows, CylStream *from_, const int64_t *from_rows,
                                   int64_t count)
    CylStatus cyl_stream_get_steps(CylStream *stream, int64_t *steps)
    CylStatus cyl_stream_get_taken(CylStream *stream, int64_t *taken)

    ctypedef struct CylStreamState:
        void *const *states
        void *const *kept
        int64_t *taken
        uint8_t *flags
    int64_t cyl_stream_flags_size(const CylStream *stream)
    CylStatus cyl_stream_save(CylStream *stream, const CylStreamState *state)
    CylStatus cyl_stream_restore(CylStream *stream, const CylStreamState *state)

    ctypedef struct CylWindow:
        pass
    CylStatus cyl_window_create(const CylModel *model, int64_t rows, int64_t steps, int threads, CylWindow **window)
    void cyl_window_free(CylWindow *window)
    CylStatus cyl_window_run(CylWindow *window, const CylCall *call, const uint8_t *active)
    CylStatus cyl_window_run_on(CylWindow *window, CylWindow *other, const CylCall *call, const uint8_t *active)
    CylStatus cyl_window_reset(CylWindow *window)
    CylStatus cyl_window_reset_rows(CylWindow *window, const int64_t *rows, int64_t count)
    CylStatus cyl_window_copy_rows(CylWindow *to, const int64_t *to_rows, CylWindow *from_, const int64_t *from_rows,
                                   int64_t count)
    CylStatus cyl_window_get(CylWindow *window, void *const *inputs, int64_t *counts)
    CylStatus cyl_window_set(CylWindow *window, const void *const *inputs, const int64_t *counts)

    ctypedef enum CylThreads:
        CYL_THREADS_POOL
        CYL_THREADS_OPENMP
    ctypedef struct CylRegion:
        pass
    void cyl_model_set_threads(CylModel *model, CylThreads threads)
    void cyl_threads_watch_fork()
    void cyl_openmp_bind(CylRegion *region)
    const char *cyl_threads_name()
    void cyl_threads_patience(int64_t nanoseconds)
    bint cyl_threads_are_taken()
    uint64_t cyl_mode_enter()
    void cyl_mode_leave(uint64_t mode)
    void cyl_threads_leave_after(int64_t checkpoints)
