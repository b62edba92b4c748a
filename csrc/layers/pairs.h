/* Functions of two numbers, element by element (pairs.c). */
#ifndef CYL_PAIRS_H
#define CYL_PAIRS_H

#include "model/model.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    CYL_PAIR_POW = 0,
    CYL_PAIR_MOD,
    CYL_PAIR_FMOD,
    CYL_PAIR_FLOOR_DIV,
    CYL_PAIR_ATAN2,
    CYL_PAIR_HYPOT,
    CYL_PAIR_COPYSIGN,
    CYL_PAIR_EQUAL,
    CYL_PAIR_NOT_EQUAL,
    CYL_PAIR_LESS,
    CYL_PAIR_LESS_EQUAL,
    CYL_PAIR_GREATER,
    CYL_PAIR_GREATER_EQUAL,
    CYL_PAIR_AND,
    CYL_PAIR_OR,
    CYL_PAIR_XOR,
    CYL_PAIR_COUNT
} CylPair;

/* multiply-adds that a function is worth */
int32_t cyl_pair_work(CylPair pair);

/* y[i] = pair(x[0][i*steps[0]], x[1][i*steps[1]]), with the subnormal rule: a CylElementwise */
void cyl_pair_run(const CylModel *model, int pair, const char *const *x, const int64_t *steps, char *y, int64_t size);

#endif
