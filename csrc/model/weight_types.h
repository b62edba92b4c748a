/* How the weights of a matrix are stored (weight_types.c); the list of the types is kernels/weight_types.def. */
#ifndef CYL_WEIGHT_TYPES_H
#define CYL_WEIGHT_TYPES_H

#include "cylstm.h"

#include <stdint.h>
#include <stddef.h>

typedef enum {
#define CYL_WEIGHT_TYPE(NAME, name) CYL_WEIGHTS_##NAME,
#include "kernels/weight_types.def"
    CYL_WEIGHTS_COUNT
} CylWeightType;

typedef struct {
    /* what specs and arrays call it; "float64" stands for real numbers too, where they are double */
    const char *name;
    size_t size; /* bytes of one number; 0 for that of a real number */
    /*
     * From and to `count` real numbers, of real_size bytes each; those packed lie `stride` numbers apart. Numbers below
     * 2^-40 become +0, except in double precision. Gives CYL_E_RANGE where the type cannot hold a number.
     */
    CylStatus (*pack)(size_t real_size, void *packed, int64_t stride, const void *source, int64_t count);
    void (*unpack)(size_t real_size, const void *packed, int64_t stride, void *target, int64_t count);
} CylWeightFormat;

extern const CylWeightFormat cyl_weight_formats[CYL_WEIGHTS_COUNT];

/* the type of this name where real numbers have real_size bytes, NULL for the real one; -1 for no type's name */
int cyl_weight_type_from_name(const char *name, size_t real_size);
const char *cyl_weight_type_name(CylWeightType type, size_t real_size);
static inline size_t cyl_weight_size(CylWeightType type, size_t real_size) {
    return cyl_weight_formats[type].size ? cyl_weight_formats[type].size : real_size;
}

#endif
