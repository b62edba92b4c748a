/* A model and what it is made of. build.c builds it; plan.c derives how its layers run. */
#ifndef CYL_MODEL_H
#define CYL_MODEL_H

#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/pack.h"
#include "platform/ieee.h"
#include "platform/tuning.h"
#include "threads/team.h"

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef struct CylLayer CylLayer;
typedef struct CylRecurrent CylRecurrent;

/* A rule derives the length floor((length + add) / divide) * multiply from another: the effect of strides, padding,
   cropping and upsampling. */
typedef struct {
    int64_t add, divide, multiply;
} CylTimeRule;

#define CYL_MAX_TIME_RULES 4

/* A time axis has as many steps as an input, or what rules derive from those, or a constant number. */
typedef struct {
    int32_t input;    /* -1 for a constant */
    int64_t constant; /* steps of a constant axis, 0 for others */
    int32_t rule_count;
    CylTimeRule rules[CYL_MAX_TIME_RULES];
} CylTimeAxis;

typedef struct {
    CylValueKind kind;
    int32_t features;            /* numbers of one step, or of the whole value without a time axis */
    int32_t rank;                /* of one step, or of the whole */
    int32_t shape[CYL_MAX_RANK]; /* of one step, or of the whole */
    bool has_time;
    int64_t time;     /* steps if known in advance, else 0 */
    int32_t axis;     /* index in the model's axes, -1 for a value without time; axis i is that of input i */
    int32_t time_of;  /* of an input that has always as many steps as another: that value; else -1 */
    int32_t slot;     /* of a mask: its index in the workspace's masks, of which the inputs' come first; else -1 */
    int32_t output;   /* which output of the model this is, -1 for none */
    int32_t limit;    /* of indices: all must be below this */
    bool is_read;     /* a layer reads it, or it is an output of the model */
    bool feeds_layer; /* a layer reads it, so it is stored with the subnormal rule */
    bool may_be_raw;  /* all layers that read it apply the subnormal rule themselves */
    bool is_given;    /* while planning: it is an input, or a layer planned before writes it */
    bool is_chunked;  /* its length depends on an input's, so each piece of a sequence has a piece of it */
    bool is_late;     /* it is known only after the last step */
    bool is_constant; /* its layer keeps its numbers, the same for all rows and calls */
    bool is_passed;   /* it is never stored: its only reader follows the layer that writes it */
    int32_t first_layer, last_layer; /* from and to which layer it is needed; first is -1 for an input */
} CylValue;

#define CYL_MAX_STATES 2

typedef struct CylWorkspace CylWorkspace;
typedef struct CylIdle CylIdle;

/*
 * A kind of layer: one file of layers/ defines it, and a line of layers/layers.def names it.
 *
 * The life of a layer. `prepare` is called when the layer is added, `finish` when the model is finished, both on one
 * thread; from then on the layer never changes, and any number of threads read it. `bind` is called when a workspace
 * is made, `resolve` when a workspace is about to run pieces of another shape, both on one thread; `run` for each piece
 * of a call, by every thread of the team at once.
 */
typedef struct {
    /* The size of layer->data, which is the kind's own: `prepare` finds it zeroed, and the model frees it. 0 if there
       is none, or if `prepare` allocates it because its size depends on the spec. */
    size_t data_size;
    /* The layer writes a mask and nothing else. */
    bool only_masks;
    /* The layer reads a mask and nothing else: that is its x too. */
    bool reads_mask_alone;
    /* The layer has no input, and no x. */
    bool reads_nothing;
    /*
     * Checks the spec and fills the layer. It may assume that the values of all ports exist and are of a kind that
     * suits their role; that layer->x is there unless it reads nothing, and layer->y, or with only_masks
     * layer->mask_out; and that the sizes of all tensors are at least 1 and at most INT32_MAX. Whether the options and
     * tensors are there, of what kind and shape the values are, and whether products of sizes fit, is for it to check.
     * It has to
     *   - ask for the packed arrays of all weights (pack.h), in an order that depends on the spec alone, because the
     *     numbers come later, or are those of a file;
     *   - say how time goes through the layer, in time_kind, rule, next_rule, time_from, mixes_times, repeats_time,
     *     is_whole, or reach and what follows it (cyl_time1d_set_rule does; run/kept.h has what such a layer calls);
     *   - set history_size or recurrent if it carries a state, and `work` to its multiply-adds.
     * If it fails, the layer and all that it holds are freed, and the model is as it was.
     */
    CylStatus (*prepare)(CylModel *model, CylLayer *layer, const CylLayerSpec *spec);
    /* Computes layer->derived from the weights, which are all there by then. NULL if nothing is derived. If it fails,
       layer->derived is freed; the model is not finished, and it may be called again. */
    CylStatus (*finish)(const CylModel *model, CylLayer *layer);
    /* Places the layer's states and scratch in the memory of a workspace, with cyl_place, and says where in
       workspace->states[layer->index]. Returns how many bytes it needs for the workspace's capacities of rows and steps
       and its threads. Called first with memory NULL, only for that number, and then with memory for it, zeroed. NULL
       if the layer needs nothing. */
    size_t (*bind)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory);
    /* Computes what the runs on pieces of one shape have in common, into memory of `bind`. The rows, the steps, the
       strides of all views and, from one piece to the next, the views' addresses are those of `run`; the data of a view
       may be the call's, so it is for `run` to read. NULL if there is nothing to compute. */
    void (*resolve)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace);
    /*
     * Computes the layer's outputs for the workspace's current rows and steps. It cannot fail and allocates nothing.
     * What it reads has been written before it is called, and the threads divide the work as they like (cyl_share,
     * cyl_items), but each number has one thread that computes it, in an order that does not depend on how many there
     * are. The runner (run/pieces.c) lets the team meet when the layer has returned, so that the next one may read all
     * of it: also when workspace->stop ended the call early, after which the outputs are unspecified. A layer needs a
     * barrier of its own only where its threads read what others of them wrote.
     *
     * A sequence may come in pieces. A chunked layer, which reads or writes a value whose time is that of the pieces,
     * runs for each of them and finds in its state what it needs of those before; its outputs without time (late
     * values) are to be right after the last piece, so they stay in memory from one piece to the next. A layer that
     * reads late values but nothing chunked runs once, after the last piece; one that reads neither, with the first.
     */
    void (*run)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team);
    /* Whether the layer can compute `next` too, which reads its output or that of its last follower so far, and then is
       a follower as well. The layer writes y in parts, and has one output. NULL for kinds that nothing follows. */
    bool (*may_take)(const CylModel *model, const CylLayer *layer, const CylLayer *next);
    /* Whether a layer with one input and one output computes each number from the same number of x and its place in the
       last axis, so that it may follow the layer that writes x; and what `run` does, in place, for `count` numbers that
       begin and end with a last axis. Both NULL for other kinds. */
    bool (*may_follow)(const CylLayer *layer);
    void (*follow)(const CylModel *model, const CylLayer *layer, void *y, int64_t count);
} CylLayerKind;

/* The kind of this name, or NULL (layers/layers.c). */
const CylLayerKind *cyl_layer_kind(const char *name);

/* how a layer's outputs with time relate to the time of its input */
typedef enum {
    CYL_TIME_KEPT = 0, /* the same axis */
    CYL_TIME_RULED,    /* by layer->rule */
    CYL_TIME_FIXED     /* a number of steps of its own, checked by the layer */
} CylTimeKind;

struct CylLayer {
    const CylLayerKind *kind;
    int32_t index;
    int32_t x, y, mask;    /* indices of values, -1 for none */
    int32_t mask_out;      /* the mask that it computes, -1 for none */
    int32_t states_in[2];  /* values h0, c0 */
    int32_t states_out[2]; /* values h, c */
    int32_t first_state;   /* index of the layer's first state array in the model */
    CylTimeKind time_kind;
    CylTimeRule rule, next_rule; /* next_rule goes on from what `rule` gives; its divide is 0 where there is none */
    int32_t time_from; /* the value from whose axis those of the outputs follow; x unless `prepare` changes it */
    bool mixes_times;  /* its inputs may have different lengths */
    bool repeats_time; /* an input with one step is repeated for all steps */
    bool is_whole;     /* it needs all steps at once */
    bool flushes_x;    /* it reads x with the subnormal rule, and keeps nothing of it as a state */
    bool is_led;       /* y has the steps of time_from, and x may be ahead of them; `reach` is planned */
    int64_t reach;     /* step t of y is of x's steps [t*rule.divide - pads_before, + reach), which may lie in earlier
                          pieces; 0 where it is of one step of x */
    int64_t pads_before;
    int64_t needs_multiple; /* a sequence of no multiple of so many steps is padded by its length, so that it cannot
                               come in pieces; 1 for none */
    bool is_chunked;        /* it runs for every piece of a sequence; the others run once */
    bool is_late;           /* it runs once, after the last piece */
    bool runs_beside_next;  /* the next layer reads nothing of it and costs the same, like the two directions of a
                               bidirectional layer */
    bool feeds_next; /* the next layer reads its steps in the order in which they are written, like stacked layers */
    const struct CylLayer *follower; /* computes its y from what this layer would write, which then writes that y; or
                                        NULL */
    bool is_follower;                /* it does not run itself */
    int32_t history_size;            /* reals per row that hold earlier steps and are carried as a state; 0 for none */
    int32_t kept_size;       /* the same, kept for the pieces of one sequence alone, and no state of a call; planned */
    int64_t work;            /* multiply-adds of one row at one step */
    CylRecurrent *recurrent; /* NULL unless the layer is recurrent; part of data */
    void *data;              /* what only the kind knows of it; owned */
    CylArray *arrays;        /* packed weights in the order of `prepare`; owned unless keeps_arrays */
    CylPlace *places;
    int32_t array_count, place_count;
    bool keeps_arrays; /* the arrays are the caller's and read-only */
    void *derived;     /* real: what `finish` makes of the weights, owned */
    int32_t *inputs;   /* the values that it reads, in the order of the spec; owned */
    int32_t *outputs;  /* the values that it writes; owned */
    int32_t input_count, output_count;
};

struct CylModel {
    CylEngine engine;
    const CylKernels *kernels;
    CylThreads threads;
    CylBlas blas;
    CylValue *values;
    CylLayer *layers;
    int32_t value_count, layer_count;
    int32_t *inputs, *masks, *outputs;
    int32_t input_count, output_count;
    CylTimeAxis *axes; /* those of the inputs first */
    int32_t axis_count;
    int32_t slot_count;    /* masks, those of the inputs first */
    int64_t step_multiple; /* pieces of a sequence have multiples of this many steps */
    int64_t settles; /* a multiple of these, after which pieces of equal length have equal lengths in every axis */
    int32_t state_count;
    int32_t *state_sizes;
    int64_t work, bytes;
    int64_t input_reals; /* numbers of all inputs, of one row at one step */
    bool has_indices;    /* some inputs are indices */
    bool is_finished;
    CylIdle *idle;      /* the only part that changes once the model is finished */
    bool has_pairs;     /* some layers run beside each other */
    bool has_fed_pairs; /* some layers feed the next */
    bool is_chunkable;  /* a long sequence may be run in pieces, whose states are carried on */
    bool is_timeless;   /* no input has time: each call of a stream is a step, and no layer runs in pieces */
    bool can_stream;
};

/* cyl_parallel with a team of several threads, a BLAS, or so much work that it counts for others (threads.c) */
void cyl_parallel_on_team(const CylModel *model, CylTask *task, void *context, int threads, double work);

/* Runs a task on up to `threads` of the model's threads at once, on this one too, as cyl_team_run does. */
static inline void cyl_parallel(const CylModel *model, CylTask *task, void *context, int threads, double work) {
    if (threads == 1 && work < CYL_WORK_COUNTED && model->kernels->is_packed) {
        const CylTeam alone = {.threads = 1};
        task(context, &alone);
    } else {
        cyl_parallel_on_team(model, task, context, threads, work);
    }
}

/* The workspaces that the model keeps for its next call (run/idle.c); NULL if there is no memory. */
CylIdle *cyl_idle_create(void);
void cyl_idle_free(CylIdle *idle);

/* whether a value lies with its layer alone, one row for all: what is a result of the network is copied */
static inline bool cyl_is_shared(const CylValue *value) { return value->is_constant && value->output < 0; }

/* ---- numbers of the model's type ---- */

static inline int64_t cyl_state_stride(int64_t size) { return (size + 15) / 16 * 16; }
/* CylKernels.product for the type of m's weights */
static inline void cyl_product(const CylModel *model, const CylMatrix *m, const CylOperand *operands,
                               int32_t operand_count, int64_t n, void *acc, int64_t acc_stride, bool continued,
                               bool descending, int32_t begin, int32_t end) {
    model->kernels->product[m->type](model, m, operands, operand_count, n, acc, acc_stride, continued, descending,
                                     begin, end);
}
static inline char *cyl_at(const CylModel *model, const void *base, int64_t reals) {
    return (char *)base + reals * (int64_t)model->kernels->real_size;
}

/* one number, to pass to a kernel by its address */
typedef union {
    float narrow;
    double wide;
} CylReal;

static inline CylReal cyl_real(const CylModel *model, double value) {
    return model->kernels->real_size == sizeof(float) ? (CylReal){.narrow = (float)value} : (CylReal){.wide = value};
}
/* number i of `data` */
static inline double cyl_get(const CylModel *model, const void *data, int64_t i) {
    return model->kernels->real_size == sizeof(float) ? (double)((const float *)data)[i] : ((const double *)data)[i];
}
static inline void cyl_set(const CylModel *model, void *data, int64_t i, double value) {
    if (model->kernels->real_size == sizeof(float)) {
        ((float *)data)[i] = (float)value;
    } else {
        ((double *)data)[i] = value;
    }
}

/* cyl_set with the subnormal rule, which float32 has */
static inline void cyl_set_flushed(const CylModel *model, void *data, int64_t i, double value) {
    const double tiny = (double)CYL_TINY;
    bool is_zero = model->kernels->real_size == sizeof(float) && value < tiny && value > -tiny;
    cyl_set(model, data, i, is_zero ? 0.0 : value);
}

#endif
