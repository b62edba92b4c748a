/* What a call asks for, and whether it can be had (call.c). */
#ifndef CYL_CALL_H
#define CYL_CALL_H

#include "cylstm.h"
#include "model/model.h"

#include <stdbool.h>
#include <stdint.h>

/* whether a value of the inputs can have so many steps, and each axis that is made of them has some */
CylStatus cyl_check_times(const CylModel *model, const int64_t *times);
/* the first of the two */
CylStatus cyl_check_input_times(const CylModel *model, const int64_t *times);
/* whether all indices of the inputs are in range: of all rows, or of those n with active[n] not 0 */
CylStatus cyl_check_indices(const CylModel *model, const CylCall *call, const uint8_t *active);
/* both, and the numbers of rows and threads */
CylStatus cyl_check_call(const CylModel *model, const CylCall *call);
/* whether each layer that the call traces has gates, and room for them */
CylStatus cyl_check_traces(const CylModel *model, const CylCall *call);
/* the multiply-adds of the call */
double cyl_call_work(const CylModel *model, const CylCall *call);
/* the steps that a value has in the whole call, which `taken` steps of a stream came before */
int64_t cyl_call_steps(const CylModel *model, const CylCall *call, const CylValue *value, int64_t taken);

#endif
