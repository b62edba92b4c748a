/* A matrix of weights as the engines hold it; pack.c fills it. */
#ifndef CYL_MATRIX_H
#define CYL_MATRIX_H

#include "model/weight_types.h"

#include <stdbool.h>
#include <stdint.h>

/* The cells of a narrow tail block read this many reals past the end of a row of accumulators. */
#define CYL_ROW_PADDING 16

/*
 * A matrix of gates*units rows and `columns` columns, cut into blocks of `width` units (the last may be narrower).
 * Packed engine: weights are [block][column][gate][width], each block's gates*width rounded up to a multiple of
 * 16; with width 16 this is [block of 16 units][k][gate][16]. A type may store pairs of columns side by side, as
 * [block][k/2][gate][16][2] (columns_at_once in weight_types.h). BLAS engines: [block][gate][width][column], no
 * rounding. A row of accumulators is [block][gate][width] in both, and of real numbers whatever the type of the
 * weights.
 */
typedef struct CylMatrix {
    int32_t units, gates, columns;
    int32_t stored_columns;            /* columns, rounded up to what the type stores at once */
    int32_t blocks, width, tail_width; /* tail_width: of the last block, = width if it is full */
    int64_t block_rows;                /* accumulators of a full block */
    int64_t tail_rows;                 /* of the last block, rounded up in the packed engine */
    int64_t row_size;                  /* accumulators of all blocks, with CYL_ROW_PADDING */
    CylWeightType type;                /* of weights */
    void *weights;                     /* weights and bias are arrays of the layer */
    void *bias;                        /* real (row_size), zeros where there is none */
    void *scales, *sums; /* of a type with scales: real (row_size) and (pieces, row_size), see CylPackedRow */
    /* of a type with scales: a matrix of the same type and rows, which in one product multiplies the second operand */
    const struct CylMatrix *next;
} CylMatrix;

static inline int32_t cyl_block_width(const CylMatrix *m, int32_t block) {
    return block == m->blocks - 1 ? m->tail_width : m->width;
}
static inline int64_t cyl_block_offset(const CylMatrix *m, int32_t block) { return block * m->block_rows; }
/* Whether the accumulators of one column are its units and nothing else: a product may write them where they belong. */
static inline bool cyl_accumulates_in_place(const CylMatrix *m) {
    return m->gates == 1 && m->width == 16 && m->tail_width == m->width;
}

#endif
