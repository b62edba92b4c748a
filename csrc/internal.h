/* What the files of csrc share. Not installed. */
#ifndef CYL_INTERNAL_H
#define CYL_INTERNAL_H

#ifdef __FAST_MATH__
#error "CyLSTM promises the same bits everywhere: build it without -ffast-math"
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "activations.h"
#include "cylstm.h"

/*
 * The subnormal rule. Weights and inputs on entry, states and layer outputs when stored, become +0 where their
 * magnitude is below 2^-40 (9.1e-13). What remains is a multiple of 2^-63, a product of two such numbers a
 * multiple of 2^-126, and a rounded sum of such products again one: so no multiply-add of a layer can make a
 * subnormal number, and none costs the hundred cycles that one costs on many CPUs.
 */
#define CYL_TINY 0x1p-40f

/* the multiply-add of code without an instruction set's flags is one instruction */
#if defined(__FP_FAST_FMAF) || defined(FP_FAST_FMAF) || defined(__ARM_FEATURE_FMA)
#define CYL_HAVE_FMA
#endif

#define CYL_ALIGNMENT 64
/* reals read past the end of a row of accumulators by the cells of a narrow tail block */
#define CYL_ROW_PADDING 16

/* ---- sizes: of memory in bytes, of arrays in numbers ---- */

/* The largest size. A test on a machine of 64 bits may be built with that of one of 32 bits. */
#ifndef CYL_SIZE_LIMIT
#define CYL_SIZE_LIMIT SIZE_MAX
#endif

/* the most rows and steps of a call: what is added to them, and the products of a few small numbers with them, stay
   far from what 64 bits hold; all other sizes that depend on them are made by the functions below */
#define CYL_LONGEST ((int64_t)1 << 40)
/* the most steps that a row of a stream may say it has taken: a process never takes as many more */
#define CYL_MOST_STEPS (INT64_MAX / 2)

/* Sums and products that stay at CYL_SIZE_LIMIT where they would be larger; cyl_alloc and cyl_aligned_alloc refuse
   such a size. The arguments are counts, at least 0, and sizes made by these functions. */
static inline size_t cyl_size_add(uint64_t a, uint64_t b) {
    return a > CYL_SIZE_LIMIT || b > CYL_SIZE_LIMIT - a ? (size_t)CYL_SIZE_LIMIT : (size_t)(a + b);
}
static inline size_t cyl_size_mul(uint64_t a, uint64_t b) {
    return b > 0 && a > CYL_SIZE_LIMIT / b ? (size_t)CYL_SIZE_LIMIT : (size_t)(a * b);
}
/* up to a multiple */
static inline size_t cyl_size_round(uint64_t a, uint64_t multiple) {
    size_t most = cyl_size_add(a, multiple - 1);
    return most == CYL_SIZE_LIMIT ? most : most / multiple * multiple;
}

/* ---- memory (memory.c); NULL where there is not enough, or the size is at its limit ---- */

void *cyl_alloc(int64_t count, size_t bytes);                /* zeroed; freed with free */
void *cyl_resize(void *memory, int64_t count, size_t bytes); /* as realloc, to `count` elements */
void *cyl_aligned_alloc(size_t bytes);                       /* zeroed; freed with cyl_aligned_free */
void cyl_aligned_free(void *memory);

/* ---- threads (threads.c, threads_pool.c) ---- */

typedef struct CylBarrier CylBarrier;

/* steps that one half of a team has given the other so far, and how many of them the other's threads take next */
typedef struct {
    atomic_llong given;
    int64_t taken;
} CylHandover;

/* one thread's place among those that run one call */
typedef struct {
    int thread, threads;
    CylBarrier *barrier;
    CylHandover *gives_to, *takes_from; /* in halves of a team of which the second reads what the first writes */
} CylTeam;

typedef void CylTask(void *context, const CylTeam *team);

/* Runs task(context, team) on up to `threads` of the model's threads at once, on this one too, with a BLAS held at one
   thread in each; returns when all have. `work`: the multiply-adds of the call, to judge how long it is worth waiting
   for threads that sleep. */
void cyl_parallel(const CylModel *model, CylTask *task, void *context, int threads, double work);
/* the same on the threads of our own pool, at least 2, and no BLAS */
void cyl_pool_parallel(CylTask *task, void *context, int threads, double work);
void cyl_barrier(const CylTeam *team);
/* The half of a team of at least two, not a half itself, to which this thread belongs: 0 or 1. */
int cyl_team_half(const CylTeam *team, CylTeam *half);
/* How many more steps than `taken` there are to take, of at most `most`; waits for one. Every thread of the half. */
int64_t cyl_take_steps(const CylTeam *half, int64_t taken, int64_t most);
/* Says that steps [0, given) may be read, after a barrier of the half if it is of several threads. */
void cyl_give_steps(const CylTeam *half, int64_t given);

/* This thread's contiguous share [*begin, *end) of `items`. */
static inline void cyl_share(const CylTeam *team, int64_t items, int64_t *begin, int64_t *end) {
    if (team->threads == 1) { /* a division costs as much as a small layer's step has to spare */
        *begin = 0;
        *end = items;
        return;
    }
    *begin = items * team->thread / team->threads;
    *end = items * (team->thread + 1) / team->threads;
}

/* ---- ending a call early (stop.c) ---- */

/* of a call that has a should_stop; its threads share it */
typedef struct {
    int (*should_stop)(void *context);
    void *context;
    const void *caller; /* the thread that made the call */
    int64_t next;       /* when it asks again, in nanoseconds */
    atomic_bool is_requested;
} CylStop;

void cyl_stop_init(CylStop *stop, const CylCall *call);
/* `stop`, or NULL if the call has no should_stop */
static inline CylStop *cyl_stop_start(CylStop *stop, const CylCall *call) {
    if (!call->should_stop) {
        return NULL;
    }
    cyl_stop_init(stop, call);
    return stop;
}
/* whether the call is to end; NULL never is */
static inline bool cyl_stop_is_requested(const CylStop *stop) {
    return stop && atomic_load_explicit(&stop->is_requested, memory_order_acquire);
}
/* the same, and asks if this is the thread that made the call and it is time */
bool cyl_stop_look(CylStop *stop);
/* the thread that made the call waits for other threads, until `count` is `wanted` or the call is to end */
void cyl_stop_wait(CylStop *stop, const atomic_llong *count, int64_t wanted);
/* for tests: whether the caller is asked at every look, and every step and item is followed by one */
void cyl_stop_ask_always(bool yes);
/* how many items of `work` multiply-adds each lie between two looks */
int64_t cyl_stop_pace(int64_t work);

/* A thread's share of a layer's items, between which a call may end: what comes after them must not need them all.
   for (int64_t j = cyl_items(&items, ...); cyl_goes_on(&items, j); j++) */
typedef struct {
    CylStop *stop;
    int64_t end, last, pace; /* up to `end` without a look, of all up to `last` */
} CylItems;

void cyl_items_start(CylItems *items, int64_t begin, int64_t work);
bool cyl_items_more(CylItems *items);

static inline bool cyl_goes_on(CylItems *items, int64_t j) {
    return j < items->end || (items->stop && cyl_items_more(items));
}

/* ---- packed arrays (pack.c) ---- */

typedef struct CylNode CylNode;

/*
 * A matrix of gates*units rows and `columns` columns, cut into blocks of `width` units (the last may be narrower).
 * Packed engine: weights are [block][column][gate][width], each block's gates*width rounded up to a multiple of
 * 16; with width 16 this is [block of 16 units][k][gate][16]. BLAS engines: [block][gate][width][column], no rounding.
 * A row of accumulators is [block][gate][width] in both.
 */
typedef struct {
    int32_t units, gates, columns;
    int32_t blocks, width, tail_width; /* tail_width: of the last block, = width if it is full */
    int64_t block_rows;                /* accumulators of a full block */
    int64_t tail_rows;                 /* of the last block, rounded up in the packed engine */
    int64_t row_size;                  /* accumulators of all blocks, with CYL_ROW_PADDING */
    void *weights;                     /* real; the node's, like bias */
    void *bias;                        /* real (row_size), zeros where there is none */
} CylMatrix;

/* rows first_row .. first_row + gates*units of a tensor that is in the spec; axes behind the first are one */
typedef struct {
    const char *role;
    int64_t first_row;
} CylPart;

/* where some rows of a tensor lie in a packed array; the tensors of a layer and their places fill each other */
typedef struct {
    const char *role; /* a literal */
    int64_t first_row, rows, columns;
    const CylMatrix *matrix; /* in its weights from first_column on, or in a row of its accumulators; NULL: plain */
    int32_t first_column;
    bool is_row;
    bool is_transposed; /* plain, as (columns, rows) */
    bool is_exact;      /* kept without the subnormal rule */
    void *data;         /* real */
} CylPlace;

static inline int32_t cyl_block_width(const CylMatrix *m, int32_t block) {
    return block == m->blocks - 1 ? m->tail_width : m->width;
}
static inline int64_t cyl_block_offset(const CylMatrix *m, int32_t block) { return block * m->block_rows; }
/* Whether the accumulators of one column are its units and nothing else: a product may write them where they belong. */
static inline bool cyl_accumulates_in_place(const CylMatrix *m) {
    return m->gates == 1 && m->width == 16 && m->tail_width == m->width;
}

/*
 * What `prepare` calls for each of its packed arrays, in an order that depends on the spec alone: each becomes the
 * node's, zeroed and of `size` reals, or is the next of spec->arrays. A role that may be absent from the spec leaves
 * zeros; the shapes of all others must have been checked.
 */
CylStatus cyl_array_prepare(const CylModel *model, CylNode *node, const CylNodeSpec *spec, int64_t size, void **data);
/* the parts side by side (their columns follow each other), and bias (gates*units), NULL for none */
CylStatus cyl_matrix_prepare(const CylModel *model, CylNode *node, const CylNodeSpec *spec, CylMatrix *m, int32_t units,
                             int32_t gates, const CylPart *parts, int32_t part_count, const char *bias);
/* a tensor of gates*units numbers as a row of m's accumulators; role may be NULL, for zeros */
CylStatus cyl_row_prepare(const CylModel *model, CylNode *node, const CylNodeSpec *spec, const CylMatrix *m,
                          const char *role, void **row);
/* a tensor of rank 1 and this size, whose shape is checked here, padded */
CylStatus cyl_vector_prepare(const CylModel *model, CylNode *node, const CylNodeSpec *spec, const char *role,
                             int64_t size, void **vector);
/* says where rows of a tensor lie, in an array of the node */
CylStatus cyl_tensor_place(CylNode *node, CylPlace place);
/* says that a tensor of rank 1 lies plainly at `data`, in an array of the node */
CylStatus cyl_vector_place(CylNode *node, const CylTensor *tensor, const char *role, void *data);
void cyl_arrays_free(CylNode *node);

/* ---- kernels: a table per instruction set for each engine in float, and one for the BLAS engine in double ---- */

typedef struct {
    const void *x;  /* real (n, count) */
    int64_t stride; /* reals from one of the n to the next; for a BLAS at least count */
    int32_t first;  /* the matrix column that x's first number multiplies */
    int32_t count;
} CylOperand;

typedef struct CylStep CylStep;
typedef struct CylLstm CylLstm;
typedef struct CylGru CylGru;
typedef struct CylRnn CylRnn;

typedef struct {
    CylActivation id;
    double alpha, beta;
} CylActivationSpec;

typedef struct {
    const char *name;
    size_t real_size;
    bool is_packed;
    /*
     * acc[j][rows of blocks begin..end) = (continued ? acc : bias) + sum over operands and their columns k,
     * ascending, of W[row][k] * x[j][k], one fused multiply-add each; j in 0..n. `backward` takes the blocks from the
     * last to the first: done at every other step, it finds in the cache what the step before read last.
     */
    void (*product)(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, void *acc /* real (n, acc_stride) */, int64_t acc_stride, bool continued, bool backward,
                    int32_t begin, int32_t end);
    /* y = activation(acc) for columns j in 0..n and the units of blocks begin..end (softmax excepted) of a matrix of
       one gate; y may be acc. `is_flushed`: with the subnormal rule */
    void (*dense_output)(const CylMatrix *m, const CylActivationSpec *activation, int64_t n, const void *acc,
                         int64_t acc_stride, void *y /* real (n, y_stride) */, int64_t y_stride, bool is_flushed,
                         int32_t begin, int32_t end);
    void (*activate)(const CylActivationSpec *activation, const void *x, void *y, int64_t size, bool is_flushed);
    /* the logarithm of a softmax of the row; y may be x */
    void (*log_softmax)(const void *x, void *y, int64_t size);
    void (*flush)(const void *x, void *y, int64_t size);
    /* y = y (op) x, see CylMergeMode; with step 0 x is one number */
    void (*merge)(int mode, const void *x, int step, void *y, int64_t size, double scale);
    /* see kernels/layers.h */
    void (*scale_shift)(const void *x, const void *scale, const void *shift, void *y, int64_t size);
    void (*moments)(const void *x, int64_t count, int64_t stride, int64_t size, bool is_centred,
                    double *found /* (2) */);
    void (*normalise)(const void *x, const void *gain, const void *shift, int step, void *y, int64_t size, double mean,
                      double variance, double epsilon);
    void (*prelu)(const void *x, const void *slope, int step, void *y, int64_t size);
    void (*gated)(const CylActivationSpec *spec, const void *a, const void *b, void *y, int64_t size);
    void (*depthwise)(const CylActivationSpec *spec, const void *weight, const void *bias, const void *x,
                      int64_t x_stride, int64_t taps, int64_t multiplier, void *y, int64_t units);
    double (*dot)(const void *a, const void *b, int64_t size);
    double (*additive)(const void *a, const void *b, const void *scale, int step, double factor, int64_t size);
    void (*add_scaled)(const void *x, double weight, void *y, int64_t size);
    void (*lstm_cell)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    /* layer normalisation: gates and the new cell before its norm (scratch: see layers/lstm.c), then the norm and h */
    void (*lstm_norm_gates)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    void (*lstm_norm_cell)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    void (*rnn_cell)(const CylRnn *rnn, const CylStep *step, int32_t begin, int32_t end);
    void (*state_output)(const CylMatrix *m, const CylStep *step, const void *acc, int64_t acc_stride, int32_t begin,
                         int32_t end);
    void (*gru_gates)(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end);
    void (*gru_cell)(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end);
} CylKernels;

/* those whose CYL_HAVE_ is defined, beside the scalar ones */
extern const CylKernels cyl_kernels_scalar, cyl_kernels_sse2, cyl_kernels_avx2, cyl_kernels_avx512, cyl_kernels_neon;
extern const CylKernels cyl_kernels_blas32_scalar, cyl_kernels_blas32_sse2, cyl_kernels_blas32_avx2,
    cyl_kernels_blas32_avx512, cyl_kernels_blas32_neon;
extern const CylKernels cyl_kernels_blas64;
/* the CylKernels.product of the BLAS engine, in float and in double precision */
void cyl_product_blas32(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                        int64_t n, void *acc, int64_t acc_stride, bool continued, bool backward, int32_t begin,
                        int32_t end);
void cyl_product_blas64(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                        int64_t n, void *acc, int64_t acc_stride, bool continued, bool backward, int32_t begin,
                        int32_t end);
const CylKernels *cyl_kernels_of(CylEngine engine, CylIsa isa);

typedef enum {
    CYL_MERGE_SUM = 0,
    CYL_MERGE_MUL,
    CYL_MERGE_SUB,
    CYL_MERGE_MAX,
    CYL_MERGE_MIN,
    CYL_MERGE_DIV,
    CYL_MERGE_COPY,
    CYL_MERGE_SCALE /* y = y * scale, without x */
} CylMergeMode;

/* ---- the model ---- */

/* a length to floor((length + add) / divide) * multiply: what strides, padding, cropping, upsampling make of time */
typedef struct {
    int64_t add, divide, multiply;
} CylTimeRule;

#define CYL_MAX_TIME_RULES 4

/* A time axis: as many steps as an input has, those by some rules, or a constant number. */
typedef struct {
    int32_t input;    /* -1 for a constant */
    int64_t constant; /* steps of a constant axis, 0 for others */
    int32_t rule_count;
    CylTimeRule rules[CYL_MAX_TIME_RULES];
} CylTimeAxis;

typedef struct {
    CylKind kind;
    int32_t features;            /* numbers of one step, or of the whole if there is no time axis */
    int32_t rank;                /* of one step, or of the whole */
    int32_t shape[CYL_MAX_RANK]; /* of one step, or of the whole */
    bool has_time;
    int64_t time;    /* steps if known in advance, else 0 */
    int32_t axis;    /* index in the model's axes, -1 for a value without time; axis i is that of input i */
    int32_t slot;    /* mask: index in the workspace's masks, those of the inputs first; else -1 */
    int32_t output;  /* index of the model output that this is, -1 for none */
    int32_t limit;   /* indices: all must be below this */
    bool is_read;    /* by a node, or an output */
    bool feeds_node; /* so that it is stored with the subnormal rule */
    bool is_given;   /* while planning: an input, or written by a node already planned */
    bool is_chunked; /* its time is an input's, so that a piece of a sequence has a piece of it */
    bool is_late;    /* known after the last step only */
    int32_t first_node, last_node; /* the nodes between which it is needed; first -1 for an input */
} CylValue;

#define CYL_MAX_STATES 2

typedef struct CylWorkspace CylWorkspace;

/* A layer: one file in layers/. */
typedef struct {
    const char *op;
    /* checks the spec, fills node->data, and says where the weights go (pack.c) */
    CylStatus (*prepare)(CylModel *model, CylNode *node, const CylNodeSpec *spec);
    /* makes node->derived of the weights when all are there; NULL where there is nothing to make */
    CylStatus (*finish)(const CylModel *model, CylNode *node);
    /* bytes of memory that a workspace of this capacity needs for the node, and its placing there */
    size_t (*bind)(const CylModel *model, const CylNode *node, CylWorkspace *workspace, char *memory);
    /* computes the node's outputs for the workspace's current rows and steps; called by every thread of the team */
    void (*run)(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team);
} CylLayer;

/* how a node's outputs with time relate to the time of its input */
typedef enum {
    CYL_TIME_KEPT = 0, /* the same axis */
    CYL_TIME_RULED,    /* by node->rule */
    CYL_TIME_FIXED     /* a number of steps of its own, checked by the layer */
} CylTimeKind;

extern const CylLayer cyl_layer_lstm, cyl_layer_gru, cyl_layer_rnn, cyl_layer_conv_lstm, cyl_layer_reverse,
    cyl_layer_dense, cyl_layer_activation, cyl_layer_last, cyl_layer_merge, cyl_layer_conv1d, cyl_layer_pool1d,
    cyl_layer_batch_norm, cyl_layer_layer_norm, cyl_layer_group_norm, cyl_layer_embedding, cyl_layer_prelu,
    cyl_layer_glu, cyl_layer_reshape, cyl_layer_permute, cyl_layer_slice, cyl_layer_pad, cyl_layer_upsample,
    cyl_layer_repeat_vector, cyl_layer_softmax, cyl_layer_reduce, cyl_layer_masking, cyl_layer_mask_merge,
    cyl_layer_mask_fill, cyl_layer_index_mask, cyl_layer_attention, cyl_layer_dot;

/* One part of a recurrent step: items [begin, end) of it for every row. Phases that share a partition of their
   items need no barrier between them; `barrier_after` says that the next phase reads what other threads wrote. */
typedef struct {
    void (*run)(const CylModel *model, const CylNode *node, const CylStep *step, int32_t begin, int32_t end);
    int32_t items;
    bool barrier_after;
} CylPhase;

#define CYL_MAX_PHASES 4

typedef struct {
    int32_t hidden_size, output_size, input_size; /* output_size: of h; differs with a projection */
    int32_t state_count;                          /* 1: h; 2: h and c */
    bool is_reverse, repeats_padding;
    bool zeroes_empty; /* a row without any step that counts ends with states 0 instead of its initial ones */
    int64_t positions; /* rows of accumulators of one row's step: 1, or the spatial positions of a convolution */
    const CylMatrix *input_matrix; /* whose columns 0..input_size multiply x; its accumulators start a step */
    int64_t scratch_size;          /* reals per row that phases hand to each other */
    CylPhase phases[CYL_MAX_PHASES];
    int32_t phase_count;
} CylRecurrent;

struct CylNode {
    const CylLayer *layer;
    int32_t index;
    int32_t x, y, mask;    /* values, -1 for none */
    int32_t mask_out;      /* the mask that it computes, -1 for none */
    int32_t states_in[2];  /* values h0, c0 */
    int32_t states_out[2]; /* values h, c */
    int32_t first_state;   /* index of the node's first state array in the model */
    CylTimeKind time_kind;
    CylTimeRule rule;
    int32_t time_from;       /* the value whose axis the outputs take or derive theirs from; x unless changed */
    bool mixes_times;        /* its inputs may have times of their own */
    bool repeats_time;       /* an input of one step is repeated */
    bool is_whole;           /* needs all steps at once */
    bool is_chunked;         /* runs for every piece of a sequence; others run once */
    bool is_late;            /* runs after the last piece */
    bool runs_beside_next;   /* neither reads what the other writes, and they cost the same: two directions */
    bool feeds_next;         /* the next reads this one's steps in the order of writing: stacked layers */
    int32_t history_size;    /* reals per row of the steps before, carried as a state; 0 for none */
    int64_t work;            /* multiply-adds of one row at one step */
    CylRecurrent *recurrent; /* NULL if the layer has no state; owned through data */
    void *data;              /* the layer's own, owned */
    CylArray *arrays;        /* packed weights in the order of `prepare`; owned unless keeps_arrays */
    CylPlace *places;
    int32_t array_count, place_count;
    bool keeps_arrays; /* they are the caller's, and read-only */
    void *derived;     /* real: what `finish` makes of the weights, owned */
    int32_t *inputs;   /* all values that it reads, in the order of the spec, owned */
    int32_t *outputs;  /* all that it writes, owned */
    int32_t input_count, output_count;
};

struct CylModel {
    CylEngine engine;
    const CylKernels *kernels;
    CylThreads threads;
    CylBlas blas;
    CylValue *values;
    CylNode *nodes;
    int32_t value_count, node_count;
    int32_t *inputs, *masks, *outputs;
    int32_t input_count, output_count;
    CylTimeAxis *axes; /* those of the inputs first */
    int32_t axis_count;
    int32_t slot_count;    /* masks, those of the inputs first */
    int64_t step_multiple; /* pieces of a sequence are multiples of this many steps */
    int32_t state_count;
    int32_t *state_sizes;
    int64_t work, bytes;
    int64_t input_reals; /* of all inputs, one row at one step */
    bool is_finished;
    struct CylIdle *idle; /* all that changes once the model is finished */
    bool has_pairs;       /* of nodes that run beside each other */
    bool has_fed_pairs;   /* and of nodes of which one feeds the other */
    bool is_chunkable;    /* a long sequence may be run in pieces, state carried on */
    bool can_stream;
};

/* lookups in a spec; the result is NULL or -1 where absent */
const CylTensor *cyl_spec_tensor(const CylNodeSpec *spec, const char *role);
const CylOption *cyl_spec_option(const CylNodeSpec *spec, const char *name);
int32_t cyl_spec_input(const CylNodeSpec *spec, const char *role);
int32_t cyl_spec_output(const CylNodeSpec *spec, const char *role);
/* `slot`, `slot`_alpha and `slot`_beta */
CylStatus cyl_spec_activation(const CylNodeSpec *spec, const char *slot, CylActivationSpec *activation);
/* the number of an option; CYL_E_OPTION unless it is there and at least `least` */
CylStatus cyl_spec_number(const CylNodeSpec *spec, const char *name, double least, double *number);
/* CYL_E_TENSOR unless the tensor is there with this shape; columns -1 for rank 1 */
CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns);

/* ---- a workspace: the memory of one run over some rows (workspace.c) ---- */

/* where a value lies: element (row, step, feature) is data + row*row_stride + step*step_stride + feature, in reals */
typedef struct {
    char *data;
    int64_t row_stride, step_stride;
} CylView;

/* the input halves of a node's steps where they are known before the run: a window's, each computed when its step
   came (window.c) */
typedef struct {
    char *acc; /* real (rows, steps, input_matrix->row_size): each row a ring */
    int64_t steps;
    const int64_t *rows;   /* (rows of the call): which row of acc belongs to each */
    const int64_t *oldest; /* (rows of acc): where its ring begins */
} CylHalves;

typedef struct {
    void *h[2];     /* real (rows, state_stride(output)) each; `current` says which one holds the state */
    void *c;        /* real (rows, state_stride(hidden)) */
    void *acc;      /* real (block_steps * rows, input_matrix->row_size) */
    void *scratch;  /* real (rows, scratch_size) */
    uint8_t *codes; /* (time, rows) of CylCode */
    uint8_t *seen;  /* (rows): has a step counted since the start */
    int current;
    int resting;     /* the h of the rows that a run on some rows leaves out */
    bool backward;   /* see CylStep; alternates, from one call of a stream to the next too */
    bool is_stopped; /* the node's threads leave it: written by the first of them, read by all after a barrier */
    int64_t block_steps;
    const CylHalves *halves; /* NULL where the run computes them */
} CylNodeState;

struct CylWorkspace {
    const CylModel *model;
    int64_t rows_capacity, time_capacity;
    int threads;
    int64_t rows, first_row;
    int64_t first_step;   /* of the current piece */
    const int64_t *order; /* (rows): row n of this run is row first_row + order[n] of the call; NULL: first_row + n */
    bool is_stream;       /* what follows the call's last step is not known yet */
    int64_t *times;       /* (axes): steps of the current run */
    int64_t *capacities;  /* (axes): steps that there is room for */
    bool in_pieces;       /* a long sequence is run piece by piece */
    bool is_first_chunk, is_last_chunk; /* to be read between a node's barriers only */
    CylView *views;                     /* (values) */
    CylView *own;                       /* (values): views of the workspace's own memory; data NULL for model outputs */
    const uint8_t **masks;              /* (slots): from this run's first step on, or NULL; see cyl_mask_row */
    int64_t *mask_strides;              /* (slots) */
    uint8_t **own_masks;                /* (slots): memory of the computed ones */
    CylNodeState *states;               /* (nodes) */
    char *arrays;                       /* where the arrays above lie */
    char *memory;                       /* of values, states and scratch */
    size_t bytes;                       /* of all of it */
    CylHandover handover;               /* between the halves of the team; 0 given while there are none */
    CylStop *stop;                      /* of the current call, where it may end anywhere; else NULL */
    bool is_stopped;                    /* as in CylNodeState, of the whole team */
    atomic_llong second_halves;         /* that are through, while there are halves and a stop */
};

/* `times` (inputs): the steps to come, NULL where that is not known; `in_pieces`: there is room for a piece of them */
CylStatus cyl_workspace_create(const CylModel *model, int64_t rows, const int64_t *times, bool in_pieces, int threads,
                               CylWorkspace **out);
void cyl_workspace_free(CylWorkspace *workspace);
/* whether the workspace of another call of cyl_predict will do for one of these rows, times and threads */
bool cyl_workspace_fits(const CylWorkspace *workspace, int64_t rows, const int64_t *times, int threads);
void cyl_workspace_reset(CylWorkspace *workspace);
/* all that is remembered of one row: to the start, exchanged with another row's, copied from another workspace's */
void cyl_workspace_reset_row(CylWorkspace *workspace, int64_t row);
void cyl_workspace_swap_rows(CylWorkspace *workspace, int64_t a, int64_t b);
/* before a call that only the states of nodes n with carried[n] not 0 (nodes) go on into: no more is remembered;
   of the rows n with active[n] not 0 (rows), NULL for all */
void cyl_workspace_forget(CylWorkspace *workspace, const uint8_t *carried, const uint8_t *active);
/* the next run is on rows [0, count) only, the others keep their states; and afterwards on all rows again */
void cyl_workspace_leave_rows(CylWorkspace *workspace, int64_t count);
void cyl_workspace_rejoin_rows(CylWorkspace *workspace);
void cyl_workspace_copy_row(CylWorkspace *to, int64_t to_row, const CylWorkspace *from, int64_t from_row);
/* the states of rows [first, first + count) of a recurrent node: to the start */
void cyl_node_state_reset(const CylModel *model, const CylNode *node, CylNodeState *state, int64_t first,
                          int64_t count);
/* copies state array `index` of this workspace's rows from or to real (rows, size) */
void cyl_workspace_set_state(CylWorkspace *workspace, int32_t index, const void *state);
void cyl_workspace_get_state(const CylWorkspace *workspace, int32_t index, void *state);
/* the steps that one run takes at most, for a sequence of `time` steps */
int64_t cyl_chunk_steps(const CylModel *model, int64_t rows, int64_t time);

/* ---- whole calls (run.c) ---- */

/* How a call divides its rows: `apart`, each of some workspaces with some rows at once on a thread of its own; or all
   rows in one, whose threads divide every layer. */
typedef struct {
    bool apart;
    int workspaces;
    int64_t rows; /* of each workspace */
} CylDivision;

CylDivision cyl_divide_rows(int64_t rows, int threads);
/* cyl_predict, of a call that is checked, in workspaces that were made for at least as many rows and threads;
   CYL_E_STOPPED if it was ended early */
CylStatus cyl_predict_in(const CylModel *model, const CylCall *call, CylDivision division, CylWorkspace **workspaces);
/* whether all indices of the inputs are in range; of all rows, or the active ones */
bool cyl_has_indices(const CylModel *model, const CylCall *call, const uint8_t *active);

/* ---- workspaces between calls (idle.c): any number of threads at once ---- */

typedef struct CylIdle CylIdle;

CylIdle *cyl_idle_create(void); /* NULL if there is no memory */
void cyl_idle_free(CylIdle *idle);
/* one that fits, with all that it remembers of another call; NULL if there is none */
CylWorkspace *cyl_idle_take(CylIdle *idle, int64_t rows, const int64_t *times, int threads);
/* keeps it or frees it */
void cyl_idle_keep(CylIdle *idle, CylWorkspace *workspace);

/* ---- axes (axes.c) ---- */

/* steps of an axis where the inputs have `times` (inputs); 0 if there are none, -1 if more than CYL_LONGEST */
int64_t cyl_axis_length(const CylModel *model, int32_t axis, const int64_t *times);
/* the axis of a constant number of steps, or the one that a rule makes of another; CYL_E_VALUE if it cannot be said */
CylStatus cyl_axis_constant(CylModel *model, int64_t steps, int32_t *axis);
CylStatus cyl_axis_derive(CylModel *model, int32_t from, CylTimeRule rule, int32_t *axis);
/* whether both always have the same number of steps */
bool cyl_axis_same(const CylModel *model, int32_t a, int32_t b);

/* steps of a value in this run, 1 for one without time */
static inline int64_t cyl_steps(const CylWorkspace *workspace, int32_t value) {
    int32_t axis = workspace->model->values[value].axis;
    return axis >= 0 ? workspace->times[axis] : 1;
}
/* the row of the call's arrays that is row `row` of this run */
static inline int64_t cyl_call_row(const CylWorkspace *workspace, int64_t row) {
    return workspace->first_row + (workspace->order ? workspace->order[row] : row);
}
/* the slot of a mask value that says something in this run; -1 if there is no such value, or all steps count */
static inline int32_t cyl_mask_slot(const CylWorkspace *workspace, int32_t value) {
    int32_t slot = value >= 0 ? workspace->model->values[value].slot : -1;
    return slot >= 0 && workspace->masks[slot] ? slot : -1;
}
/* (time): a row of this run of the mask in `slot`, which must have one; an input's are in the order of the call */
static inline const uint8_t *cyl_mask_row(const CylWorkspace *workspace, int32_t slot, int64_t row) {
    int64_t at = slot < workspace->model->input_count ? cyl_call_row(workspace, row) : row;
    return workspace->masks[slot] + at * workspace->mask_strides[slot];
}

/* this thread's share of `items` items of `work` multiply-adds each; returns the first */
static inline int64_t cyl_items(CylItems *items, const CylWorkspace *workspace, const CylTeam *team, int64_t count,
                                int64_t work) {
    int64_t begin;
    cyl_share(team, count, &begin, &items->last);
    items->stop = workspace->stop;
    items->end = items->last;
    if (items->stop) {
        cyl_items_start(items, begin, work);
    }
    return begin;
}

static inline int64_t cyl_state_stride(int64_t size) { return (size + 15) / 16 * 16; }
static inline char *cyl_at(const CylModel *model, const void *base, int64_t reals) {
    return (char *)base + reals * (int64_t)model->kernels->real_size;
}

/* one step of one row of a value; its steps follow each other without gaps */
static inline char *cyl_step_at(const CylWorkspace *workspace, int32_t value, int64_t row, int64_t step) {
    const CylView *view = &workspace->views[value];
    return cyl_at(workspace->model, view->data, row * view->row_stride + step * view->step_stride);
}

/* places the next `rows` rows of `count` elements of `bytes` in a region that starts at `memory` (NULL while only
   counting), aligned */
static inline void *cyl_place(char *memory, size_t *used, int64_t rows, uint64_t count, size_t bytes) {
    void *at = memory ? memory + *used : NULL;
    size_t size = cyl_size_mul(cyl_size_mul((uint64_t)rows, count), bytes);
    *used = cyl_size_add(*used, cyl_size_round(size, CYL_ALIGNMENT));
    return at;
}

/* ---- windows over time (time1d.c) ---- */

typedef enum { CYL_PAD_VALID = 0, CYL_PAD_SAME, CYL_PAD_CAUSAL, CYL_PAD_EXPLICIT } CylPadding;

typedef struct {
    CylPadding padding;
    int32_t kernel, stride, dilation, before, after; /* before, after: explicit padding */
    int32_t counted_after;                           /* of `after`, what an average may count */
    int64_t reach;                                   /* steps from the first tap to the last, both counted */
} CylTime1d;

/* reads stride, dilation, padding, pad_before, pad_after and ceil_mode (if there), and sets the node's rule of time */
CylStatus cyl_time1d_read(const CylNodeSpec *spec, CylNode *node, int32_t kernel, CylTime1d *time);
/* steps of padding around `steps` */
void cyl_time1d_pads(const CylTime1d *time, int64_t steps, int64_t *before, int64_t *after);

/* ---- the recurrent scheduler (recurrent.c) ---- */

typedef enum { CYL_CODE_ZERO = 0, CYL_CODE_USE = 1, CYL_CODE_REPEAT = 2 } CylCode;

/* one step of a recurrent layer, for all rows */
struct CylStep {
    int64_t rows;
    const void *x; /* real (rows, input) */
    int64_t x_stride;
    const void *h_previous; /* real (rows, output), stride h_stride */
    void *h_next;
    int64_t h_stride;
    void *c; /* real (rows, hidden), stride c_stride; updated in place */
    int64_t c_stride;
    void *acc; /* real (rows, input_matrix->row_size) */
    int64_t acc_stride;
    bool continued; /* acc already holds bias + W x */
    bool backward;  /* see CylKernels.product */
    void *scratch;  /* real (rows, scratch_stride) */
    int64_t scratch_stride;
    const uint8_t *codes; /* (rows) of CylCode, or NULL: all CYL_CODE_USE */
    void *y;              /* real (rows, output), stride y_stride; or NULL */
    int64_t y_stride;
};

/* how the input and the forget gate depend on each other */
typedef enum { CYL_GATES_FREE = 0, CYL_GATES_NO_FORGET, CYL_GATES_F_FROM_I, CYL_GATES_I_FROM_F } CylCoupling;

/* layer normalisation: gain*(a - mean)*rsqrt(variance + epsilon) + shift, over one row */
typedef struct {
    void *gain, *shift; /* real, in the layout of what is normalised */
} CylNorm;

struct CylLstm {
    CylRecurrent recurrent; /* first, so that a CylLstm is one */
    CylMatrix gates;        /* over [x, h]; with layer normalisation over x only */
    CylMatrix hidden_gates; /* layer normalisation: over h; else units 0 */
    CylMatrix projection;   /* (output, hidden); units 0 if there is none */
    CylCoupling coupling;
    int32_t at_i, at_f, at_g, at_o; /* place of each gate among the matrix's gates, -1 for a gate without weights */
    void *peepholes;                /* real (3, state_stride(hidden)): of i, f, o; or NULL */
    double cell_clip, gate_clip;    /* 0 for none */
    bool is_normalised, carries_normalised_cell;
    CylNorm input_norm, hidden_norm, cell_norm; /* of W x and R h (rows of accumulators) and of c (hidden) */
    void *bias;                                 /* with layer normalisation: real, a row of accumulators */
    double epsilon;
    CylActivationSpec activation, recurrent_activation, output_activation; /* of g; of i f o; of c in h */
};

struct CylRnn {
    CylRecurrent recurrent;
    CylMatrix gates; /* one gate over [x, h] */
    double gate_clip;
    CylActivationSpec activation;
};

struct CylGru {
    CylRecurrent recurrent;
    CylMatrix input;     /* r z n over x */
    CylMatrix gates;     /* over h: r z n (reset-after) or r z (reset-before) */
    CylMatrix candidate; /* reset-before: n over r*h */
    bool is_reset_after;
    double gate_clip; /* 0 for none */
    CylActivationSpec activation, recurrent_activation;
};

/* fills the parts of node and recurrent that all recurrent layers share; sizes must be set */
CylStatus cyl_recurrent_prepare(CylModel *model, CylNode *node, const CylNodeSpec *spec, CylRecurrent *recurrent);
size_t cyl_recurrent_bind(const CylModel *model, const CylNode *node, CylWorkspace *workspace, char *memory);
void cyl_recurrent_run(const CylModel *model, const CylNode *node, CylWorkspace *workspace, const CylTeam *team);

/* ---- the floating-point mode (ieee.c) ---- */

typedef struct {
    uint64_t control;
} CylIeee;

/* round to nearest, subnormals kept, no traps; and back to what the caller had */
CylIeee cyl_ieee_enter(void);
void cyl_ieee_leave(CylIeee saved);

/* ---- holding the BLAS at one thread (blas.c) ---- */

/* around the call, by the thread that calls: where the library has one number of threads for the whole process */
void cyl_blas_hold(const CylModel *model);
void cyl_blas_release(const CylModel *model);
/* around a product, within the call: cyl_blas_leave takes what cyl_blas_enter returns */
int cyl_blas_enter(void);
void cyl_blas_leave(int count);
/* from now on no fork falls into a product, and a child finds the libraries as they are without us */
void cyl_blas_watch_fork(void);
/* where it has one for each thread, each thread of the call holds its own: this task, with a CylHeld, does it around
   another */
bool cyl_blas_has_local_threads(const CylModel *model);
typedef struct {
    const CylModel *model;
    CylTask *task;
    void *context;
} CylHeld;
void cyl_blas_run_held(void *held, const CylTeam *team);

#endif
