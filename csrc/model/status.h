/* Leaving a function that fails. */
#ifndef CYL_STATUS_H
#define CYL_STATUS_H

#include "cylstm.h"

/*
 * Returns what the expression gives from the function, unless that is CYL_OK. Nothing is freed on the way: all that a
 * function allocates belongs at once to the model, the layer or the workspace that is being made, and whoever makes
 * that frees it in one place.
 */
#define CYL_TRY(expression)                                                                                            \
    do {                                                                                                               \
        const CylStatus cyl_tried = (expression);                                                                      \
        if (cyl_tried != CYL_OK) {                                                                                     \
            return cyl_tried;                                                                                          \
        }                                                                                                              \
    } while (0)

#endif
