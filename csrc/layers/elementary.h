/* The elementary functions: sin, log, floor and the like, number by number (elementary.c). */
#ifndef CYL_LAYERS_ELEMENTARY_H
#define CYL_LAYERS_ELEMENTARY_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
#define CYL_FUNCTION(name, NAME, ...) CYL_FUNCTION_##NAME,
#include "layers/elementary.def"
    CYL_FUNCTION_COUNT
} CylFunction;

/* their names in the order of the enum, and NULL at the end */
extern const char *const cyl_function_names[CYL_FUNCTION_COUNT + 1];

/* y = f(x), the same bits on every machine; y may be x. `is_flushed`: with the subnormal rule */
void cyl_function_float(CylFunction function, const float *x, float *y, int64_t size, bool is_flushed);
/* y = f(x) with libm's functions; y may be x */
void cyl_function_double(CylFunction function, const double *x, double *y, int64_t size);

#endif
