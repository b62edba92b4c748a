/* What layers along one axis share: where the numbers of each line along it lie (along.c). */
#ifndef CYL_ALONG_H
#define CYL_ALONG_H

#include "model/model.h"
#include "run/workspace.h"
#include "threads/team.h"

#include <stdbool.h>
#include <stdint.h>

/* Lines that are taken side by side, in accumulators of double. */
enum { CYL_LINES = 16 };

/* A piece of x, a step or the whole sequence, as (outer, size, inner), the axis being in the middle: a line is the
   numbers along it. */
typedef struct {
    bool over_time;
    int32_t axis;               /* of x, the time counted */
    int64_t outer, size, inner; /* over time the size is the number of steps of the run, and not known here */
} CylAlong;

/* Reads the option "axis", of the layer's x. */
CylStatus cyl_along_read(const CylModel *model, const CylLayer *layer, const CylLayerSpec *spec, CylAlong *along);

/* the pieces of a row that are computed apart from each other, and the numbers along the axis, in this run */
static inline int64_t cyl_along_pieces(const CylAlong *along, const CylLayer *layer, const CylWorkspace *workspace) {
    return along->over_time ? 1 : cyl_steps(workspace, layer->x);
}
static inline int64_t cyl_along_size(const CylAlong *along, const CylLayer *layer, const CylWorkspace *workspace) {
    return along->over_time ? cyl_steps(workspace, layer->x) : along->size;
}
/* the most numbers along the axis that a run has */
static inline int64_t cyl_along_longest(const CylModel *model, const CylAlong *along, const CylLayer *layer,
                                        const CylWorkspace *workspace) {
    return along->over_time ? workspace->capacities[model->values[layer->x].axis] : along->size;
}
/* the first number of line `line` of outer*inner; the next of the line is `inner` further */
static inline int64_t cyl_along_first(const CylAlong *along, int64_t size, int64_t line) {
    return line / along->inner * size * along->inner + line % along->inner;
}

/* Up to CYL_LINES lines of one piece of one row, which one thread takes together. */
typedef struct {
    int64_t row, piece, first; /* first: of the lines */
    int32_t count;
} CylLines;

/* Item j of cyl_along_items. */
CylLines cyl_along_lines(const CylAlong *along, int64_t pieces, int64_t j);
/* This thread's share of all lines, CYL_LINES at a time; returns the first. */
int64_t cyl_along_items(CylItems *items, const CylAlong *along, const CylLayer *layer, const CylWorkspace *workspace,
                        const CylTeam *team);

#endif
