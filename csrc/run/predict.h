/* Whole calls (predict.c). */
#ifndef CYL_PREDICT_H
#define CYL_PREDICT_H

#include "cylstm.h"
#include "run/workspace.h"

#include <stdbool.h>
#include <stdint.h>

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

#endif
