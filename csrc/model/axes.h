/* Time axes: how many steps a value has, from how many the inputs have (axes.c). */
#ifndef CYL_AXES_H
#define CYL_AXES_H

#include "cylstm.h"
#include "model/model.h"
#include "platform/rare.h"

#include <stdbool.h>
#include <stdint.h>

/* Returns the steps of an axis if the inputs have `times` (inputs) steps; 0 if it has none, -1 if more than
   CYL_LONGEST. */
int64_t cyl_axis_length(const CylModel *model, int32_t axis, const int64_t *times);
/* The same where its input has had `steps` steps; and what `steps` more steps add to those of an axis after `before`,
   which is all of a constant axis. */
int64_t cyl_axis_after(const CylModel *model, int32_t axis, int64_t steps);
int64_t cyl_axis_gain(const CylModel *model, int32_t axis, int64_t before, int64_t steps);
/* Returns how many steps its input must have had so that no rule has too few of them: from then on equal numbers of
   steps, multiples of what the rules divide by, add equal numbers to the axis. */
int64_t cyl_axis_settles(const CylModel *model, int32_t axis);
/* Finds or makes the axis with a constant number of steps, or the one that a rule derives from another. They give
   CYL_E_VALUE or CYL_E_OPTION if there is no such axis or its numbers are too large. */
CYL_RARE CylStatus cyl_axis_constant(CylModel *model, int64_t steps, int32_t *axis);
CYL_RARE CylStatus cyl_axis_derive(CylModel *model, int32_t from, CylTimeRule rule, int32_t *axis);
/* Finds by how many steps an axis leads another, at least where the other has any, and at most. Gives CYL_E_VALUE if
   that grows or shrinks without end, or if it would take too long to find out. */
CYL_RARE CylStatus cyl_axis_lead(const CylModel *model, int32_t axis, int32_t other, int64_t *least, int64_t *most);
/* Returns the greatest common divisor of two numbers of at least 1. */
int64_t cyl_common_divisor(int64_t a, int64_t b);
/* Returns whether two axes always have the same number of steps. */
bool cyl_axis_same(const CylModel *model, int32_t a, int32_t b);

#endif
