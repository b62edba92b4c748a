/* How the weights of a matrix are stored (weight_types.c); the list of the types is kernels/weight_types.def. */
#ifndef CYL_WEIGHT_TYPES_H
#define CYL_WEIGHT_TYPES_H

#include "cylstm.h"

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef enum {
#define CYL_WEIGHT_TYPE(NAME, name) CYL_WEIGHTS_##NAME,
#include "kernels/weight_types.def"
    CYL_WEIGHTS_COUNT
} CylWeightType;

/* columns of int8 weights whose products are summed as whole numbers: 127*32767*512 < 2^31 */
#define CYL_INT8_PIECE 512

/* One row of a matrix, where it is packed. Columns are cyl_packed_place apart. */
typedef struct {
    void *numbers;  /* of column 0 */
    int64_t stride; /* numbers of one column of the whole block */
    int64_t first;  /* the column of the first number that is packed or unpacked */
    float *scale;   /* of a type with scales, else NULL, as sums is */
    float *sums;    /* (pieces, sums_stride), the first: the sums of the whole numbers of CYL_INT8_PIECE columns */
    int64_t sums_stride;
} CylPackedRow;

typedef struct {
    /* what specs call it; "float64" stands for real numbers too, where they are double */
    const char *name;
    size_t size;             /* bytes of one number; 0 for that of a real number */
    const char *array_type;  /* what packed arrays of it are called */
    int32_t columns_at_once; /* so many columns of a row lie side by side */
    bool has_scales;         /* whole numbers, with a scale for each row */
    /*
     * From and to `count` real numbers, of real_size bytes each. Numbers below 2^-40 become +0, except in double
     * precision. Gives CYL_E_RANGE where the type cannot hold a number. A type with scales takes whole rows.
     */
    CylStatus (*pack)(size_t real_size, const CylPackedRow *row, const void *source, int64_t count);
    void (*unpack)(size_t real_size, const CylPackedRow *row, void *target, int64_t count);
} CylWeightFormat;

/* numbers from a row's column 0 to another, where a column of the whole block is `stride` numbers */
static inline int64_t cyl_packed_place(int32_t columns_at_once, int64_t stride, int64_t column) {
    return column / columns_at_once * columns_at_once * stride + column % columns_at_once;
}

extern const CylWeightFormat cyl_weight_formats[CYL_WEIGHTS_COUNT];

/* the type of this name where real numbers have real_size bytes, NULL for the real one; -1 for no type's name */
int cyl_weight_type_from_name(const char *name, size_t real_size);
const char *cyl_weight_type_name(CylWeightType type, size_t real_size);
/* what its packed arrays are called */
const char *cyl_weight_array_type(CylWeightType type, size_t real_size);
static inline size_t cyl_weight_size(CylWeightType type, size_t real_size) {
    return cyl_weight_formats[type].size ? cyl_weight_formats[type].size : real_size;
}

#endif
