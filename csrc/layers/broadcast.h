/* Element by element over values of different shapes, an axis of size 1, or one that is not there, repeated as the
   others need it (broadcast.c). */
#ifndef CYL_BROADCAST_H
#define CYL_BROADCAST_H

#include "cylstm.h"
#include "model/model.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sizes of the axes of a value from the last to the first, time included, 0 for one unknown; returns their number */
int32_t cyl_sizes_of(const CylValue *value, int64_t steps, int64_t *sizes /* (CYL_MAX_RANK) */);

/* Checks that y has the shape to which all inputs are repeated, and says whose time it has. */
CylStatus cyl_check_broadcast(const CylModel *model, CylLayer *layer);

/* Inputs that are read beside each other. */
#define CYL_BROADCAST_INPUTS 3

/* y[i] of the numbers i*steps[k] of each input x[k], for `size` numbers, by what `function` is to the layer; steps[k]
   is 1, or 0 where one number is repeated */
typedef void CylElementwise(const CylModel *model, int function, const char *const *x, const int64_t *steps, char *y,
                            int64_t size);

/* What is done element by element: of layer->inputs `count`, from `first` on. Resolved for pieces of one shape; strides
   are in bytes. */
typedef struct {
    const CylModel *model;
    CylElementwise *elementwise;
    int function;
    int32_t count;
    int32_t axes;     /* of several numbers in one step, from the last on; at least one */
    bool joins_steps; /* several steps only make the first of these axes longer */
    const CylView *x[CYL_BROADCAST_INPUTS], *y;
    int64_t inner[CYL_BROADCAST_INPUTS];                                            /* along the last axis, in reals */
    int64_t sizes[CYL_MAX_RANK];                                                    /* (axes) */
    int64_t x_strides[CYL_BROADCAST_INPUTS][CYL_MAX_RANK], y_strides[CYL_MAX_RANK]; /* (axes) */
    int64_t x_rows[CYL_BROADCAST_INPUTS], y_row, x_steps[CYL_BROADCAST_INPUTS], y_step;
} CylBroadcast;

/* Places `count` of them in the layer's state->bound, as CylLayerKind.bind does. */
size_t cyl_broadcast_bind(const CylLayer *layer, CylWorkspace *workspace, char *memory, int32_t count);
/* Fills in one that holds all but what depends on the shape of the piece, inputs [first, first + count) of the layer.
 */
void cyl_broadcast_resolve(const CylLayer *layer, const CylWorkspace *workspace, int32_t first, CylBroadcast *b);
/* Steps [step, step + steps) of y in one row. */
void cyl_broadcast_steps(const CylBroadcast *b, int64_t row, int64_t step, int64_t steps);
/* This thread's share of all rows and steps. */
void cyl_broadcast_run(const CylLayer *layer, const CylBroadcast *b, CylWorkspace *workspace, const CylTeam *team);

#endif
