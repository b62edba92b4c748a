/* Axes of time (axes.c). */
#ifndef CYL_AXES_H
#define CYL_AXES_H

#include "cylstm.h"
#include "model/model.h"

#include <stdbool.h>
#include <stdint.h>

/* steps of an axis where the inputs have `times` (inputs); 0 if there are none, -1 if more than CYL_LONGEST */
int64_t cyl_axis_length(const CylModel *model, int32_t axis, const int64_t *times);
/* the axis of a constant number of steps, or the one that a rule makes of another; CYL_E_VALUE if it cannot be said */
CylStatus cyl_axis_constant(CylModel *model, int64_t steps, int32_t *axis);
CylStatus cyl_axis_derive(CylModel *model, int32_t from, CylTimeRule rule, int32_t *axis);
/* whether both always have the same number of steps */
bool cyl_axis_same(const CylModel *model, int32_t a, int32_t b);

#endif
