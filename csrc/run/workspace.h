/* The memory of one run over some rows (workspace.c). */
#ifndef CYL_WORKSPACE_H
#define CYL_WORKSPACE_H

#include "cylstm.h"
#include "model/model.h"
#include "platform/rare.h"
#include "run/stop.h"
#include "threads/team.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* a function that few steps call: apart from the others, whose registers it would need */
#define CYL_SELDOM __attribute__((noinline))

/* where a value lies: element (row, step, feature) is data + row*row_stride + step*step_stride + feature, in reals */
typedef struct {
    char *data;
    int64_t row_stride, step_stride;
} CylView;

/* the input halves of a layer's steps where they are known before the run: a window's, each computed when its step
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
    int64_t taken;      /* steps of the last run */
    int resting;        /* the h of the rows that a run on some rows leaves out */
    bool descending;    /* see CylStep; alternates, from one call of a stream to the next too */
    bool is_stopped;    /* the layer's threads leave it: written by the first of them, read by all after a barrier */
    bool stores_states; /* other layers read its last states */
    bool has_end;       /* see cyl_recurrent_end; for the first thread alone */
    int64_t block_steps;
    const CylHalves *halves; /* NULL where the run computes them */
    CylTrace trace;          /* steps 0 for none */
    void *masked;            /* CylStep.masked, or NULL */
    void *bound;             /* what the layer has resolved for the pieces of one shape, or NULL */
} CylLayerState;

/* the rows and steps of a call that are run at once, `total` being the steps of the whole call */
typedef struct {
    int64_t first_row, rows, first_step, steps, total;
    int64_t taken; /* steps of a stream before the call */
} CylPiece;

/* an input of the call: where a piece of it begins, and where the workspace holds it */
typedef struct {
    CylView *view;
    char *own;          /* NULL where no layer reads it, and for indices, which stay where they are */
    int64_t skipped;    /* steps before the piece */
    int64_t offset;     /* bytes before the piece of row 0 */
    int64_t row_stride; /* bytes, in the call's array */
    int64_t count;      /* numbers of one row */
    bool is_loaded;     /* for this piece */
    bool may_stay;      /* in the call's array, as far as its shape goes */
    bool is_raw;        /* and as far as its numbers go: the layers that read it look at them */
} CylSource;

/* an output of the call: how many bytes before the piece */
typedef struct {
    CylView *view;
    int64_t offset;
} CylTarget;

/* a layer that runs in a piece, and what it has in this workspace */
typedef struct {
    const CylLayer *layer;
    void (*run)(const CylModel *model, const CylLayer *layer, CylWorkspace *workspace, const CylTeam *team);
    CylLayerState *state;
} CylPlanned;

struct CylWorkspace {
    const CylModel *model;
    int64_t rows_capacity, time_capacity;
    int threads;
    int64_t rows, first_row;
    int64_t first_step;   /* of the current piece */
    const int64_t *order; /* (rows): row n of this run is row first_row + order[n] of the call; NULL: first_row + n */
    bool is_stream;       /* what follows the call's last step is not known yet */
    int64_t taken;        /* steps of a stream before the current call, at most CylModel.settles; else 0 */
    int64_t *times;       /* (axes): steps of the current run */
    int64_t *begins;      /* (axes): and of the stream, or call, before it */
    int64_t *call_begins; /* (axes): where those of the call begin */
    int64_t *call_ends;   /* (axes): and end */
    int64_t *capacities;  /* (axes): steps that there is room for */
    bool in_pieces;       /* a long sequence is run piece by piece */
    bool is_first_chunk, is_last_chunk; /* of the inputs' steps; to be read between a layer's barriers only */
    CylView *views;                     /* (values) */
    CylView *own;                       /* (values): views of the workspace's own memory; data NULL for model outputs */
    CylPiece bound;                     /* what views, sources, targets and plan are bound to; rows 0 at first */
    int64_t *call_times;                /* (inputs): the steps of the call that they are bound to */
    CylSource *sources;                 /* (inputs) */
    CylTarget *targets;                 /* (outputs) */
    CylPlanned *plan;                   /* (planned of layers): those that run in the piece, in order */
    int32_t planned;
    bool is_short;              /* one input that may be read where it is and one output, all steps at once */
    bool loads_alone;           /* one thread loads the inputs before the others begin: a barrier costs more */
    const uint8_t **masks;      /* (slots): from this run's first step on, or NULL; see cyl_mask_row */
    bool has_masks;             /* some of those of the inputs may not be NULL */
    int64_t *mask_strides;      /* (slots) */
    uint8_t **own_masks;        /* (slots): memory of the computed ones */
    CylLayerState *states;      /* (layers) */
    char *arrays;               /* where the arrays above lie */
    char *arena;                /* memory of values */
    char *memory;               /* of masks, states and scratch */
    size_t bytes;               /* of all of it */
    CylHandover handover;       /* between the halves of the team; 0 given while there are none */
    CylStop *stop;              /* of the current call, where it may end anywhere; else NULL */
    bool is_stopped;            /* as in CylLayerState, of the whole team */
    atomic_llong second_halves; /* that are through, while there are halves and a stop */
};

/* `times` (inputs): the steps to come, NULL where that is not known; `in_pieces`: there is room for a piece of them */
CYL_RARE CylStatus cyl_workspace_create(const CylModel *model, int64_t rows, const int64_t *times, bool in_pieces,
                                        int threads, CylWorkspace **out);
CYL_RARE void cyl_workspace_free(CylWorkspace *workspace);
/* whether the workspace of another call of cyl_predict will do for one of these rows, times and threads */
bool cyl_workspace_fits(const CylWorkspace *workspace, int64_t rows, const int64_t *times, int threads);
void cyl_workspace_reset(CylWorkspace *workspace);
/* all that is remembered of one row: to the start, exchanged with another row's, copied from another workspace's */
void cyl_workspace_reset_row(CylWorkspace *workspace, int64_t row);
void cyl_workspace_swap_rows(CylWorkspace *workspace, int64_t a, int64_t b);
/* before a call that only the states of layers n with carried[n] not 0 (layers) go on into: no more is remembered;
   of the rows n with active[n] not 0 (rows), NULL for all */
void cyl_workspace_forget(CylWorkspace *workspace, const uint8_t *carried, const uint8_t *active);
/* around a run on the first rows alone: the others keep their states */
void cyl_workspace_leave_rows(CylWorkspace *workspace);
void cyl_workspace_rejoin_rows(CylWorkspace *workspace);
/* of the same model, or of another that is alike */
void cyl_workspace_copy_row(CylWorkspace *to, int64_t to_row, const CylWorkspace *from, int64_t from_row);
/* whether all that one remembers of a row has a place of its size in the other, layer by layer */
bool cyl_workspace_is_alike(const CylWorkspace *workspace, const CylWorkspace *other);
/* what layers write in the runs to come, which has been checked; and that they write nothing any more */
void cyl_workspace_trace(CylWorkspace *workspace, const CylLayerTrace *traces, int32_t count);
void cyl_workspace_untrace(CylWorkspace *workspace, const CylLayerTrace *traces, int32_t count);
/* the states of rows [first, first + count) of a recurrent layer: to the start */
void cyl_layer_state_reset(const CylModel *model, const CylLayer *layer, CylLayerState *state, int64_t first,
                           int64_t count);
/* copies state array `index` of the first `rows` rows from real (rows, row_stride), or to real (rows, size) */
void cyl_workspace_set_state(CylWorkspace *workspace, int32_t index, int64_t rows, const void *state,
                             int64_t row_stride);
void cyl_workspace_get_state(const CylWorkspace *workspace, int32_t index, int64_t rows, void *state);
/* the same of what a layer keeps: real (rows, kept_size) */
void cyl_workspace_set_kept(CylWorkspace *workspace, const CylLayer *layer, int64_t rows, const void *kept);
void cyl_workspace_get_kept(const CylWorkspace *workspace, const CylLayer *layer, int64_t rows, void *kept);
/* the steps that one run takes at most, for a sequence of `time` steps */
int64_t cyl_chunk_steps(const CylModel *model, int64_t rows, int64_t time);

/* steps of a value in this run, 1 for one without time */
static inline int64_t cyl_steps(const CylWorkspace *workspace, int32_t value) {
    int32_t axis = workspace->model->values[value].axis;
    return axis >= 0 ? workspace->times[axis] : 1;
}
/* whether this run has the first steps of a value with time that the call has, or the last */
static inline bool cyl_begins_call(const CylWorkspace *workspace, int32_t value) {
    const int32_t axis = workspace->model->values[value].axis;
    return workspace->begins[axis] == workspace->call_begins[axis];
}
static inline bool cyl_ends_call(const CylWorkspace *workspace, int32_t value) {
    const int32_t axis = workspace->model->values[value].axis;
    return workspace->begins[axis] + workspace->times[axis] == workspace->call_ends[axis];
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

/* one step of one row of a value; its steps follow each other without gaps */
static inline char *cyl_step_at(const CylWorkspace *workspace, int32_t value, int64_t row, int64_t step) {
    const CylView *view = &workspace->views[value];
    return cyl_at(workspace->model, view->data, row * view->row_stride + step * view->step_stride);
}

#endif
