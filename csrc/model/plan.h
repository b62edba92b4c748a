/* How the layers of a model run (plan.c). */
#ifndef CYL_PLAN_H
#define CYL_PLAN_H

#include "cylstm.h"
#include "model/model.h"
#include "platform/rare.h"

/*
 * Plans a model whose inputs, masks and outputs are set: that each value is written before it is read, and by one layer
 * only; the axis of time of each; whether a sequence can be run in pieces, and step by step; and which layers run
 * beside each other. It may be called again after it has failed.
 */
CYL_RARE CylStatus cyl_model_plan(CylModel *model);

#endif
