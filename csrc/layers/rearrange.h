/* What a layer that moves its numbers as it writes them asks of the layer behind it (rearrange.c). */
#ifndef CYL_REARRANGE_H
#define CYL_REARRANGE_H

#include "model/model.h"

#include <stdbool.h>
#include <stdint.h>

/* whether a layer exchanges the two axes of each step */
bool cyl_is_transposition(const CylLayer *layer);
/* whether a layer leaves the numbers of all steps where they are */
bool cyl_is_in_place(const CylModel *model, const CylLayer *layer);
/* y (columns, rows) = x (rows, columns) the other way round, of reals */
void cyl_transpose(const CylModel *model, const char *x, int64_t rows, int64_t columns, char *y);

#endif
