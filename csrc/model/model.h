/* A model and what it is made of (model.c). */
#ifndef CYL_MODEL_H
#define CYL_MODEL_H

#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/pack.h"
#include "threads/team.h"

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef struct CylLayer CylLayer;
typedef struct CylRecurrent CylRecurrent;

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
    CylValueKind kind;
    int32_t features;            /* numbers of one step, or of the whole if there is no time axis */
    int32_t rank;                /* of one step, or of the whole */
    int32_t shape[CYL_MAX_RANK]; /* of one step, or of the whole */
    bool has_time;
    int64_t time;     /* steps if known in advance, else 0 */
    int32_t axis;     /* index in the model's axes, -1 for a value without time; axis i is that of input i */
    int32_t slot;     /* mask: index in the workspace's masks, those of the inputs first; else -1 */
    int32_t output;   /* index of the model output that this is, -1 for none */
    int32_t limit;    /* indices: all must be below this */
    bool is_read;     /* by a layer, or an output */
    bool feeds_layer; /* so that it is stored with the subnormal rule */
    bool is_given;    /* while planning: an input, or written by a layer already planned */
    bool is_chunked;  /* its time is an input's, so that a piece of a sequence has a piece of it */
    bool is_late;     /* known after the last step only */
    int32_t first_layer, last_layer; /* the layers between which it is needed; first -1 for an input */
} CylValue;

#define CYL_MAX_STATES 2

typedef struct CylWorkspace CylWorkspace;

/* A kind of layer: one file in layers/. */
typedef struct {
    /* checks the spec, fills layer->data, and says where the weights go (pack.c) */
    CylStatus (*prepare)(CylModel *model, CylLayer *layer, const CylLayerSpec *spec);
    /* makes layer->derived of the weights when all are there; NULL where there is nothing to make */
    CylStatus (*finish)(const CylModel *model, CylLayer *layer);
    /* bytes of memory that a workspace of this capacity needs for the layer, and its placing there */
    size_t (*bind)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, char *memory);
    /* computes the layer's outputs for the workspace's current rows and steps; called by every thread of the team */
    void (*run)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team);
} CylLayerKind;

/* the kind of this name, NULL if there is none (layers/layers.c) */
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
    int32_t x, y, mask;    /* values, -1 for none */
    int32_t mask_out;      /* the mask that it computes, -1 for none */
    int32_t states_in[2];  /* values h0, c0 */
    int32_t states_out[2]; /* values h, c */
    int32_t first_state;   /* index of the layer's first state array in the model */
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
    CylLayer *layers;
    int32_t value_count, layer_count;
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
    bool has_pairs;       /* of layers that run beside each other */
    bool has_fed_pairs;   /* and of layers of which one feeds the other */
    bool is_chunkable;    /* a long sequence may be run in pieces, state carried on */
    bool can_stream;
};

static inline int64_t cyl_state_stride(int64_t size) { return (size + 15) / 16 * 16; }
static inline char *cyl_at(const CylModel *model, const void *base, int64_t reals) {
    return (char *)base + reals * (int64_t)model->kernels->real_size;
}

#endif
