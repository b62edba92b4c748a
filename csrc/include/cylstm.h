/*
 * CyLSTM: inference of recurrent networks in plain C11. The public header; nothing here knows Python.
 *
 * A CylModel is built once from values and layers, finished, and then never changes: any number of threads may
 * share it. A CylStream is one running state on a model; one thread at a time may use it. The model must outlive
 * its streams. Every function that can fail returns a status; none prints, exits or sets global state other than
 * what it restores (the floating-point mode).
 *
 * Real numbers are float in the packed engine and in CYL_ENGINE_BLAS32, double in CYL_ENGINE_BLAS64; a `void *`
 * below that is said to be real points to those.
 */
#ifndef CYLSTM_H
#define CYLSTM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CYL_VERSION "0.1.0"

typedef enum {
    CYL_OK = 0,
    CYL_E_MEMORY,   /* out of memory, or a size that does not fit */
    CYL_E_ARGUMENT, /* an argument out of its range */
    CYL_E_LAYER,    /* no such kind of layer */
    CYL_E_OPTION,   /* an option missing, unknown or out of range */
    CYL_E_TENSOR,   /* a tensor missing or of another shape */
    CYL_E_VALUE,    /* a value missing or of another kind or size */
    CYL_E_ISA,      /* an instruction set this CPU or build lacks */
    CYL_E_BLAS,     /* the BLAS engine without a BLAS */
    CYL_E_STREAM,   /* the model cannot run step by step */
    CYL_E_BUSY,     /* another thread is inside the stream */
    CYL_E_INDEX,    /* an index out of the range of what it chooses from */
    CYL_E_TIME,     /* a number of steps that the model cannot run */
    CYL_E_LAYOUT,   /* packed arrays that do not fit the layer */
    CYL_E_STOPPED,  /* should_stop ended the call */
    CYL_E_RANGE,    /* a weight that its type cannot hold */
    CYL_STATUS_COUNT
} CylStatus;

const char *cyl_status_text(CylStatus status);

/* ---- instruction sets ---- */

/* CYL_ISA_SCALAR, which is 0, CYL_ISA_SSE2 and so on, as the list beside this header has them; of one machine's sets,
   the weakest comes first. */
typedef enum {
#define CYL_ISA(name, NAME, ...) CYL_ISA_##NAME,
#define CYL_ISA_DOTS(name, NAME, ...) CYL_ISA_##NAME,
#include "cylstm_isa.def"
    CYL_ISA_COUNT
} CylIsa;

const char *cyl_isa_name(CylIsa isa);
/* 1 if this build has the kernels and this CPU and system can run them */
int cyl_isa_available(CylIsa isa);
/* 1 if a multiply-add is one instruction there; else it is put together exactly, of some ten */
int cyl_isa_fuses(CylIsa isa);
CylIsa cyl_isa_best(void);

/* what a newer ARM CPU has, beyond any set above: integer dot products (asimddp), arithmetic on float16 (asimdhp) */
typedef enum { CYL_FEATURE_DOT_PRODUCT = 0, CYL_FEATURE_FP16, CYL_FEATURE_COUNT } CylFeature;

/* 1 if the system says that this CPU has it */
int cyl_feature_available(CylFeature feature);

/* ---- engines ---- */

typedef enum { CYL_ENGINE_PACKED = 0, CYL_ENGINE_BLAS32, CYL_ENGINE_BLAS64 } CylEngine;

/* Addresses of the CBLAS functions of a library that stays loaded; 0 for what it lacks. */
typedef struct {
    uintptr_t sgemv, sgemm, dgemv, dgemm;
    uintptr_t set_threads;      /* void (int) or void (intptr_t), or 0 */
    uintptr_t get_threads;      /* int (void) or intptr_t (void), or 0 */
    uintptr_t exchange_threads; /* int (int), or 0: sets the calling thread's number and returns what it was */
    int threads_are_local;      /* 1 if set_threads and get_threads are about the calling thread alone */
    int is_int64;               /* 1 if the library's integers are 64 bits wide */
} CylBlas;

/* ---- building a model ---- */

typedef struct CylModel CylModel;

/* a sequence, a mask and indices have a time axis, a vector and a state have none; indices are int32_t */
typedef enum { CYL_SEQUENCE = 0, CYL_VECTOR, CYL_MASK, CYL_STATE, CYL_INDEX } CylValueKind;

#define CYL_MAX_RANK 8

typedef struct {
    const char *role;
    int32_t value; /* index returned by cyl_model_add_value */
} CylPort;

typedef struct {
    const char *name;
    const char *text; /* NULL for a number */
    double number;
} CylOption;

typedef struct {
    const char *role;
    const void *data; /* real, C order, canonical layout; copied, not kept. NULL: cyl_model_write_tensor brings it */
    int32_t rank;
    int64_t shape[CYL_MAX_RANK];
    /* how a matrix is stored: NULL for real numbers, or in the packed engine the name of another type: "float16",
       "bfloat16", "int8a16" or "int8a8". All other weights are real. */
    const char *type;
} CylTensor;

/* packed weights: `size` numbers of a type, "float32" (as NULL), "float16", "bfloat16", "int8" or, of
   CYL_ENGINE_BLAS64, "float64" */
typedef struct {
    const void *data;
    int64_t size;
    const char *type;
} CylArray;

/* of the packed arrays of the packed engine, which are the same on every machine: 2 added arrays of float16, 3 those of
   bfloat16 and int8 */
#define CYL_LAYOUT_VERSION 3

typedef struct {
    const char *kind;
    const CylPort *inputs;
    const CylPort *outputs;
    const CylOption *options;
    const CylTensor *tensors;
    int32_t input_count, output_count, option_count, tensor_count;
    /* The layer's weights as cyl_model_array gave them, for the packed engine; or NULL. Of `tensors` the shapes alone
       count then. Used where they lie: aligned to 64 bytes, never written, and to outlive the model. */
    const CylArray *arrays;
    int32_t array_count;
} CylLayerSpec;

/* The model is owned by the caller and freed with cyl_model_free. `isa` matters in float only, `blas`
   (copied) to the BLAS engines only and may be NULL otherwise. */
CylStatus cyl_model_create(CylEngine engine, CylIsa isa, const CylBlas *blas, CylModel **model);
void cyl_model_free(CylModel *model);
CylStatus cyl_model_add_value(CylModel *model, CylValueKind kind, int32_t features, int32_t *index);
/* A value of any shape, without batch. With a time axis that comes first, 0 where its length is not known in advance;
   indices and masks may have that axis alone. */
CylStatus cyl_model_add_tensor(CylModel *model, CylValueKind kind, const int32_t *shape /* (rank) */, int32_t rank,
                               int32_t *index);
/* Layers run in the order in which they are added. A layer that is refused leaves the model as it was. */
CylStatus cyl_model_add_layer(CylModel *model, const CylLayerSpec *spec);
/* Rows [first_row, first_row + rows) of a tensor of a layer whose `data` was NULL; a tensor of rank 1 has rows of one
   number. Layers count from 0 in the order in which they were added. CYL_E_RANGE for a number that the type of the
   layer's matrices cannot hold: 65520 and above in float16. */
CylStatus cyl_model_write_tensor(CylModel *model, int32_t layer, const char *role, int64_t first_row, int64_t rows,
                                 const void *data /* real (rows, columns) */);
/* Says that `value`, which will be an input whose time is not known in advance, has always as many steps as another
   such input, `of`, which stands before it among the inputs. Layers take their times for one. */
CylStatus cyl_model_share_time(CylModel *model, int32_t value, int32_t of);
/* masks[i] is the index of the mask value of inputs[i], or -1. No layer can be added afterwards. */
CylStatus cyl_model_finish(CylModel *model, const int32_t *inputs /* (input_count) */,
                           const int32_t *masks /* (input_count) */, int32_t input_count,
                           const int32_t *outputs /* (output_count) */, int32_t output_count);

/* What was written, in the packed engine after the rule that numbers below 2^-40 become +0, and as rounded where the
   layer's matrices have another type. */
CylStatus cyl_model_read_tensor(const CylModel *model, int32_t layer, const char *role, int64_t first_row, int64_t rows,
                                void *data /* real (rows, columns) */);
/* a layer's packed arrays, which belong to the model; data NULL where there is no such array */
int32_t cyl_model_array_count(const CylModel *model, int32_t layer);
CylArray cyl_model_array(const CylModel *model, int32_t layer, int32_t index);

size_t cyl_model_real_size(const CylModel *model);
/* A stream takes multiples of this many steps at once. */
int64_t cyl_model_step_multiple(const CylModel *model);
/* A stream remembers how many steps a row has taken up to this many, a multiple of those: windows over time reach over
   so many, and until then fewer steps come out of a run than of a later one as long, at first none. */
int64_t cyl_model_settles(const CylModel *model);
/* what a stream keeps beside its states for windows over time, layer by layer: a row's numbers of the last steps that
   the layer has read, -1 if there is no such array, and which layer that is */
int32_t cyl_model_kept_count(const CylModel *model);
int32_t cyl_model_kept_size(const CylModel *model, int32_t index, int32_t *layer);
/* multiply-adds of one row at one step */
int64_t cyl_model_work(const CylModel *model);
/* bytes of packed weights */
int64_t cyl_model_bytes(const CylModel *model);
/* The steps that an output of cyl_predict has where the inputs have so many, 1 if it has no time. CYL_E_ARGUMENT and
   CYL_E_TIME as cyl_predict has them. */
CylStatus cyl_model_steps(const CylModel *model, const int64_t *times /* (inputs) */, int32_t output, int64_t *steps);
/* Bytes of values, states and scratch of a run of one row on one thread: of a stream with `times` NULL, else of
   cyl_predict with so many steps. CYL_E_STREAM, CYL_E_ARGUMENT and CYL_E_TIME as those have them. */
CylStatus cyl_model_run_bytes(const CylModel *model, const int64_t *times /* (inputs) */, int64_t *bytes);
/* the state arrays, layer by layer in graph order */
int32_t cyl_model_state_count(const CylModel *model);
int32_t cyl_model_state_size(const CylModel *model, int32_t index);
/* the number of threads worth using for `rows` rows of `time` steps when up to `threads` may be used */
int cyl_model_worthwhile_threads(const CylModel *model, int64_t rows, int64_t time, int threads);

/* ---- random numbers (platform/random.c) ---- */

/* The first `count` words of 32 bits that follow from these three alone: Philox4x64-10 of key (seed, key) and counter
   (1, 0, sample, 0) and up, the lower half of each word of 64 bits first. */
void cyl_draw_words(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t *words);
/* The same as numbers, float or double: `lost` where the word is below `limit`, `kept` elsewhere. */
void cyl_draw_factors(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t limit, double kept,
                      double lost, bool is_double, void *factors);

/* ---- running ---- */

/*
 * What a recurrent layer computes at each step on the way to its states, arrays of the caller's: the gates i f g o of
 * an LSTM or ConvLSTM whatever its options, r z n of a GRU, and an RNN's only one, each for the units of the layer's
 * cell. Nothing is written for a step that does not count, for a row that rests, and for steps beyond `steps` of a
 * call.
 */
typedef struct {
    /* real (rows, steps, gates, units) or NULL: the gates before their activations, biases and peepholes included and
       not yet clipped. A gate of an LSTM that has no weights has none. */
    void *pre;
    void *gates;   /* real (rows, steps, gates, units) or NULL: after them; 1 for the forget gate that there is not */
    void *cell;    /* real (rows, steps, units) or NULL: of an LSTM the new cell, before its layer normalisation */
    int64_t steps; /* of a call at most: how the arrays lie */
    /* Gate n is left out of `pre` or `gates` where bit n is set: the others lie side by side. */
    uint8_t pre_skips, gates_skips;
} CylTrace;

/* what one layer writes in a call of cyl_predict */
typedef struct {
    int32_t layer;
    CylTrace to;
} CylLayerTrace;

typedef struct {
    int64_t rows;                /* batch; at least 1 */
    const int64_t *times;        /* (inputs): steps of each sequence input, at least 1; 1 for a vector */
    const void *const *inputs;   /* (inputs) of real or int32_t (rows, [time,] features), C order */
    const uint8_t *const *masks; /* (inputs) of (rows, time) or NULL; or NULL. Non-zero means: use the step */
    void *const *outputs;        /* (outputs) of real (rows, [time,] features), C order; not in the inputs' memory */
    const void *const *initial_state; /* (states) of real (rows, size); or NULL for zeros */
    void *const *final_state;         /* (states) of real (rows, size); or NULL */
    int threads;                      /* at least 1 */
    /* NULL, or what a long call asks every few milliseconds, on the thread that made it: anything but 0 ends it with
       CYL_E_STOPPED. What it would have written is then unspecified. */
    int (*should_stop)(void *stop_context);
    void *stop_context;
    const CylLayerTrace *traces; /* (trace_count): what layers write on the way; or NULL */
    int32_t trace_count;
} CylCall;

CylStatus cyl_predict(const CylModel *model, const CylCall *call);

typedef struct CylStream CylStream;

/* Allocates all memory that its runs will ever use. Owned by the caller, freed with cyl_stream_free. */
CylStatus cyl_stream_create(const CylModel *model, int64_t rows, int threads, CylStream **stream);
void cyl_stream_free(CylStream *stream);
/* From now on each run is a call of its own, as of a stateful model in Keras: only the states of layers n with
   carried[n] not 0 go on from one to the next, and all else starts from zero. `carried` is copied. */
CylStatus cyl_stream_carry(CylStream *stream, const uint8_t *carried /* (layers) */);
/* `call->rows` must be the stream's, `call->threads` is cut to it; the call's states are not read or written. An output
   with time has the steps that so many more steps of the inputs add to it, perhaps none, and CYL_E_TIME unless those
   are the same for all rows (cyl_stream_get_taken). Allocates nothing. Like every function of a stream, CYL_E_BUSY if
   another thread is inside it. After CYL_E_STOPPED the stream has taken the first of the steps, as many as
   cyl_stream_get_steps says, and their outputs are right. */
CylStatus cyl_stream_run(CylStream *stream, const CylCall *call);
/* The same for the rows n whose active[n] is not 0: the others keep all that the stream remembers of them, their
   inputs and masks are not read, and their outputs are zeros. `active` is (rows), or NULL for all. */
CylStatus cyl_stream_run_active(CylStream *stream, const CylCall *call, const uint8_t *active);
/* The same, but CYL_E_TIME, and nothing changes, while one of these rows has taken fewer steps than the model settles
   after (cyl_model_settles): so that every output has as many steps as in any other such call of the length. */
CylStatus cyl_stream_run_settled(CylStream *stream, const CylCall *call, const uint8_t *active);
CylStatus cyl_stream_reset(CylStream *stream);
/* only rows[0..count), as if they had just been made */
CylStatus cyl_stream_reset_rows(CylStream *stream, const int64_t *rows, int64_t count);
/* Row to_rows[n] of `to` goes on as row from_rows[n] of `from`, another stream of the same model, for n in 0..count.
   CYL_E_BUSY if another thread is inside either. */
CylStatus cyl_stream_copy_rows(CylStream *to, const int64_t *to_rows, CylStream *from, const int64_t *from_rows,
                               int64_t count);
/* As cyl_stream_run_active, from what `stream` remembers and into it, but of the outputs and layers of `other`: a
   stream of as many rows, whose model has the same layers and may have other outputs. What `other` remembered is lost.
   CYL_E_ARGUMENT if what the two keep is not of the same sizes, CYL_E_BUSY if another thread is inside either. */
CylStatus cyl_stream_run_on(CylStream *stream, CylStream *other, const CylCall *call, const uint8_t *active);
/* the steps that each row has taken since the stream was made or the row reset: (rows) */
CylStatus cyl_stream_get_steps(CylStream *stream, int64_t *steps);
/* the same up to cyl_model_settles; 0 where each run is a call of its own */
CylStatus cyl_stream_get_taken(CylStream *stream, int64_t *taken);

/* All that a stream remembers, of one moment. What is NULL is left out, a single state too, and restoring leaves it as
   it is. */
typedef struct {
    void *const *states; /* (states) of real (rows, size) */
    void *const *kept;   /* (kept) of real (rows, size), none of them NULL */
    int64_t *taken;      /* (rows): as cyl_stream_get_taken has them */
    uint8_t *flags;      /* (cyl_stream_flags_size): whether a masked row has had a step that counted, and all steps */
} CylStreamState;

int64_t cyl_stream_flags_size(const CylStream *stream);
CylStatus cyl_stream_save(CylStream *stream, const CylStreamState *state);
/* Nothing is written to the arrays. CYL_E_ARGUMENT if no row can have taken so many steps. */
CylStatus cyl_stream_restore(CylStream *stream, const CylStreamState *state);

/* ---- windows: each step is the prediction of the last steps, from a zero state ---- */

typedef struct CylWindow CylWindow;

/* Keeps the last `steps` steps of each row, and allocates all memory that it will ever use. Owned by the caller, freed
   with cyl_window_free; as with streams the model must outlive it, one thread at a time may use it, and the others
   get CYL_E_BUSY. CYL_E_STREAM if no input has time, CYL_E_ARGUMENT if one has another number of steps, CYL_E_TIME if
   the steps are too few for a layer. */
CylStatus cyl_window_create(const CylModel *model, int64_t rows, int64_t steps, int threads, CylWindow **window);
void cyl_window_free(CylWindow *window);
/* Takes the steps of the call, as many of each input with time, and gives the outputs of cyl_predict on the last
   `steps` steps: NaN for a row that has not had as many yet. An input without time is the last one given. Only the rows
   n with active[n] not 0 advance, as in cyl_stream_run_active; NULL for all. The call's masks and states are not
   read. Allocates nothing. After CYL_E_STOPPED the steps are taken, and the outputs are unspecified. */
CylStatus cyl_window_run(CylWindow *window, const CylCall *call, const uint8_t *active);
/* As cyl_stream_run_on, of windows of as many steps. Layers write their traces of the prediction on the last steps: NaN
   for a row that has not had as many yet, or rests. */
CylStatus cyl_window_run_on(CylWindow *window, CylWindow *other, const CylCall *call, const uint8_t *active);
/* no row has had a step; or only rows[0..count) */
CylStatus cyl_window_reset(CylWindow *window);
CylStatus cyl_window_reset_rows(CylWindow *window, const int64_t *rows, int64_t count);
/* as cyl_stream_copy_rows, of windows of as many steps */
CylStatus cyl_window_copy_rows(CylWindow *to, const int64_t *to_rows, CylWindow *from, const int64_t *from_rows,
                               int64_t count);
/* All that it keeps: of each input (rows, steps, features), the oldest step first, or without time (rows, features);
   and how many steps each row has had, counts (rows), of which it keeps the last ones. `inputs` may be NULL. */
CylStatus cyl_window_get(CylWindow *window, void *const *inputs, int64_t *counts);
CylStatus cyl_window_set(CylWindow *window, const void *const *inputs, const int64_t *counts);

/* ---- threads ---- */

#define CYL_MAX_THREADS 1024

#if defined(__GNUC__)
#define CYL_EXPORT __attribute__((visibility("default")))
#else
#define CYL_EXPORT
#endif

/* Whose threads run the calls of a model. */
typedef enum { CYL_THREADS_POOL = 0, CYL_THREADS_OPENMP } CylThreads;

/* Before the model is shared. At first a model of the packed engine has CYL_THREADS_POOL, one of the BLAS engines
   CYL_THREADS_OPENMP. */
void cyl_model_set_threads(CylModel *model, CylThreads threads);
/* From now on a fork is noticed: the child does not run on OpenMP's threads, which its parent may have used.
   cyl_model_set_threads does it too. */
void cyl_threads_watch_fork(void);

/* Runs part(context, thread, threads) on each of up to `threads` threads at once, the calling one among them. */
typedef void CylRegion(void (*part)(void *context, int thread, int threads), void *context, int threads);

/* Brings OpenMP's threads: cyl_openmp_region (openmp.h) of a library that stays loaded. Until then, with NULL, and in
   forked children, our own threads run the calls of models with CYL_THREADS_OPENMP. */
void cyl_openmp_bind(CylRegion *region);

/* What the library has itself: "pool" or "none". Exported, because threadpoolctl knows a library by its symbols. */
CYL_EXPORT const char *cyl_threads_name(void);
/* At least for how long a call waits for threads that sleep; 0 at first: then it is a small part of the time that the
   call takes alone. And a call then takes its threads, however busy the cores are with other calls. For tests that mean
   the threads they ask for: results do not depend on it. */
void cyl_threads_patience(int64_t nanoseconds);
/* Whether a call that comes now takes one thread, whatever it asks for, because other calls use all cores or did so a
   moment ago: known in less time than it takes to ask how many threads there are. */
int cyl_threads_are_taken(void);
/* Sets the floating-point mode of this thread that everything here computes in (round to nearest, subnormal numbers, no
   traps), for what a caller computes before and after; returns what cyl_mode_leave puts back. */
uint64_t cyl_mode_enter(void);
void cyl_mode_leave(uint64_t mode);
/* For tests: the other threads of a call leave it to the first after so many steps and layers that they share, as they
   do where they have lost their cores to other processes; 0: only there. */
void cyl_threads_leave_after(int64_t checkpoints);

#endif
