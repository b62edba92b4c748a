/*
 * The product of the packed engine: acc = acc + W x for one column or many.
 *
 * Each accumulator is one chain: it starts at the bias (or at what it holds) and adds its products in ascending k
 * with fused multiply-adds. A register tile holds TILE_VECTORS x TILE_COLUMNS chains at once to hide the latency
 * of a multiply-add; which chains share a tile changes nothing in any of them, so the bits do not depend on the
 * vector width, on the number of columns or on the thread.
 *
 * Where a multiply-add can take one number of a register (X_NUMBERS of a simd header), the loops take that many k at
 * once, and the rest one by one.
 */

/* each type of weights has its own of these: see products.h */
#define tile NAMED(tile)
#define tile_of NAMED(tile_of)
#define Group NAMED(Group)
#define group_tile NAMED(group_tile)
#define group_of NAMED(group_of)
#define product_of_column NAMED(product_of_column)
#define product NAMED(product)

/* columns times vectors at most: fewer where registers are few */
#ifndef TILE_CHAINS
#define TILE_CHAINS (TILE_COLUMNS * TILE_VECTORS)
#endif

/* a loop whose count inlining makes a constant, unrolled before the compiler decides what stays in registers */
#define UNROLLED _Pragma("GCC unroll 8")

/* acc[c][v] for `vectors` vectors and `columns` columns; constants after inlining */
static inline __attribute__((always_inline)) void tile(const W *weights /* [k][k_stride] */, int64_t k_stride,
                                                       const CylOperand *operands, int32_t operand_count, int64_t first,
                                                       const REAL *start, int64_t start_stride, REAL *acc,
                                                       int64_t acc_stride, const int vectors, const int columns) {
    V sum[TILE_COLUMNS][TILE_VECTORS];
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_load(start + c * start_stride + v * 16); }
    }
    for (int32_t o = 0; o < operand_count; o++) {
        const W *w = weights + operands[o].first * k_stride;
        const int64_t stride = operands[o].stride;
        const REAL *x = (const REAL *)operands[o].x + first * stride;
        const int32_t count = operands[o].count;
        int32_t k = 0;
#ifdef X_NUMBERS
        for (; k + X_NUMBERS <= count; k += X_NUMBERS) {
            X xs[TILE_COLUMNS];
            UNROLLED for (int c = 0; c < columns; c++) { xs[c] = x_load(x + c * stride + k); }
            UNROLLED for (int j = 0; j < X_NUMBERS; j++, w += k_stride) {
                UNROLLED for (int v = 0; v < vectors; v++) {
                    V row = w_load(w + v * 16);
                    UNROLLED for (int c = 0; c < columns; c++) { sum[c][v] = v_fma_x(row, xs[c], j, sum[c][v]); }
                }
            }
        }
#endif
        for (; k < count; k++, w += k_stride) {
            V row[TILE_VECTORS];
            UNROLLED for (int v = 0; v < vectors; v++) { row[v] = w_load(w + v * 16); }
            UNROLLED for (int c = 0; c < columns; c++) {
                V xk = v_set1(x[c * stride + k]);
                UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_fma(row[v], xk, sum[c][v]); }
            }
        }
    }
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) { v_store(acc + c * acc_stride + v * 16, sum[c][v]); }
    }
}

#if GROUP_BLOCKS > 0

/*
 * One column: several full blocks, and the narrow tail block behind the last of them, in one pass over k. A tail by
 * itself has too few chains to hide the latency of a multiply-add.
 */
typedef struct {
    const W *weights, *tail_weights; /* of the first block; of the tail */
    int64_t block_size, k_stride, tail_k_stride;
    const REAL *start, *tail_start;
    REAL *acc, *tail_acc;
    int64_t block_rows;
} Group;

static inline __attribute__((always_inline)) void group_tile(const Group *group, const CylOperand *operands,
                                                             int32_t operand_count, const int blocks, const int vectors,
                                                             const int tail) {
    V sum[2 * GROUP_BLOCKS - 1][4], tail_sum[3];
    UNROLLED for (int b = 0; b < blocks; b++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            sum[b][v] = v_load(group->start + b * group->block_rows + v * 16);
        }
    }
    UNROLLED for (int v = 0; v < tail; v++) { tail_sum[v] = v_load(group->tail_start + v * 16); }
    for (int32_t o = 0; o < operand_count; o++) {
        const W *w = group->weights + operands[o].first * group->k_stride;
        const W *tail_w = tail ? group->tail_weights + operands[o].first * group->tail_k_stride : w;
        const REAL *x = operands[o].x;
        const int32_t count = operands[o].count;
        const int64_t block_size = group->block_size, k_stride = group->k_stride, tail_stride = group->tail_k_stride;
        int32_t k = 0;
#ifdef X_NUMBERS
        /* the strides as constants, so that an offset is part of the load */
        for (; k + X_NUMBERS <= count; k += X_NUMBERS) {
            X xs = x_load(x + k);
            UNROLLED for (int j = 0; j < X_NUMBERS; j++, w += vectors * 16, tail_w += tail * 16) {
                UNROLLED for (int b = 0; b < blocks; b++) {
                    UNROLLED for (int v = 0; v < vectors; v++) {
                        sum[b][v] = v_fma_x(w_load(w + b * block_size + v * 16), xs, j, sum[b][v]);
                    }
                }
                UNROLLED for (int v = 0; v < tail; v++) {
                    tail_sum[v] = v_fma_x(w_load(tail_w + v * 16), xs, j, tail_sum[v]);
                }
            }
        }
#endif
        for (; k < count; k++, w += k_stride, tail_w += tail_stride) {
            V xk = v_set1(x[k]);
            UNROLLED for (int b = 0; b < blocks; b++) {
                UNROLLED for (int v = 0; v < vectors; v++) {
                    sum[b][v] = v_fma(w_load(w + b * block_size + v * 16), xk, sum[b][v]);
                }
            }
            UNROLLED for (int v = 0; v < tail; v++) { tail_sum[v] = v_fma(w_load(tail_w + v * 16), xk, tail_sum[v]); }
        }
    }
    UNROLLED for (int b = 0; b < blocks; b++) {
        UNROLLED for (int v = 0; v < vectors; v++) { v_store(group->acc + b * group->block_rows + v * 16, sum[b][v]); }
    }
    UNROLLED for (int v = 0; v < tail; v++) { v_store(group->tail_acc + v * 16, tail_sum[v]); }
}

#define GROUP_OF(blocks, vectors)                                                                                      \
    switch (tail) {                                                                                                    \
    case 0:                                                                                                            \
        group_tile(group, operands, operand_count, blocks, vectors, 0);                                                \
        break;                                                                                                         \
    case 1:                                                                                                            \
        group_tile(group, operands, operand_count, blocks, vectors, 1);                                                \
        break;                                                                                                         \
    case 2:                                                                                                            \
        group_tile(group, operands, operand_count, blocks, vectors, 2);                                                \
        break;                                                                                                         \
    default:                                                                                                           \
        group_tile(group, operands, operand_count, blocks, vectors, 3);                                                \
        break;                                                                                                         \
    }                                                                                                                  \
    break;

/* a group of a run-time size */
static void group_of(const Group *group, const CylOperand *operands, int32_t operand_count, int blocks, int vectors,
                     int tail) {
    switch (blocks * 8 + vectors) {
    case 8 + 1:
        GROUP_OF(1, 1)
    case 8 + 2:
        GROUP_OF(1, 2)
    case 8 + 3:
        GROUP_OF(1, 3)
    case 8 + 4:
        GROUP_OF(1, 4)
#if GROUP_BLOCKS > 1
    case 16 + 2:
        GROUP_OF(2, 2)
    case 16 + 3:
        GROUP_OF(2, 3)
    case 16 + 4:
        GROUP_OF(2, 4)
    case 24 + 2:
        GROUP_OF(3, 2)
    case 24 + 3:
        GROUP_OF(3, 3)
    case 24 + 4:
        GROUP_OF(3, 4)
#endif
    default:
        GROUP_OF(0, 0)
    }
}
#undef GROUP_OF

/* one column: the blocks in groups of GROUP_BLOCKS, one more in the last where that leaves none over */
static void product_of_column(const CylMatrix *m, const CylOperand *operands, int32_t operand_count, REAL *acc,
                              bool continued, bool descending, int32_t begin, int32_t end) {
    const W *weights = m->weights;
    const REAL *starts = continued ? acc : (const REAL *)m->bias;
    const int full_vectors = (int)((m->block_rows + 15) / 16);
    const int last_vectors = (m->gates * cyl_block_width(m, end - 1) + 15) / 16;
    const int tail = last_vectors < full_vectors ? last_vectors : 0;
    const int32_t full = end - begin - (tail > 0);
    const int32_t groups = full >= GROUP_BLOCKS ? full / GROUP_BLOCKS : 1;
    for (int32_t g = 0; g < groups; g++) {
        const int32_t index = descending ? groups - 1 - g : g, first = begin + index * GROUP_BLOCKS;
        const bool is_last = index == groups - 1;
        const int64_t at = cyl_block_offset(m, first), tail_at = cyl_block_offset(m, end - 1);
        const Group group = {.weights = weights + at * m->columns,
                             .tail_weights = weights + tail_at * m->columns,
                             .block_size = m->block_rows * m->columns,
                             .k_stride = full_vectors * 16,
                             .tail_k_stride = tail * 16,
                             .start = starts + at,
                             .tail_start = starts + tail_at,
                             .acc = acc + at,
                             .tail_acc = acc + tail_at,
                             .block_rows = m->block_rows};
        const int blocks = is_last ? (int)(full - index * GROUP_BLOCKS) : GROUP_BLOCKS;
        group_of(&group, operands, operand_count, blocks, full_vectors, is_last ? tail : 0);
    }
}

#endif

#define TILE_ARGUMENTS w, k_stride, operands, operand_count, first, start, start_stride, acc, acc_stride

/* a tile of a run-time size */
static void tile_of(const W *w, int64_t k_stride, const CylOperand *operands, int32_t operand_count, int64_t first,
                    const REAL *start, int64_t start_stride, REAL *acc, int64_t acc_stride, int vectors, int columns) {
    switch (columns * 8 + vectors) {
    case 1 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 1);
        break;
    case 1 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 1);
        break;
    case 2 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 2);
        break;
#if TILE_CHAINS > 2
    case 2 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 2);
        break;
#endif
#if TILE_COLUMNS > 2
    case 3 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 3);
        break;
    case 3 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 3);
        break;
#endif
#if TILE_COLUMNS > 3
    case 4 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 4);
        break;
    case 4 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 4);
        break;
    case 5 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 5);
        break;
    case 5 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 5);
        break;
    case 6 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 6);
        break;
    case 6 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 6);
        break;
#endif
#if TILE_VECTORS > 2
    case 1 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 1);
        break;
    case 1 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 1);
        break;
    case 2 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 2);
        break;
    case 2 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 2);
        break;
#if TILE_COLUMNS > 3
    case 3 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 3);
        break;
    case 3 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 3);
        break;
    case 4 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 4);
        break;
    case 4 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 4);
        break;
    case 5 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 5);
        break;
    case 5 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 5);
        break;
    case 6 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 6);
        break;
    case 6 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 6);
        break;
#endif
#endif
    }
}

static void product(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, void *acc_data, int64_t acc_stride, bool continued, bool descending, int32_t begin,
                    int32_t end) {
    (void)model;
    const W *weights = m->weights;
    const REAL *bias = m->bias;
    REAL *acc = acc_data;
    if (begin >= end) {
        return;
    }
#if GROUP_BLOCKS > 0
    if (n == 1) {
        product_of_column(m, operands, operand_count, acc, continued, descending, begin, end);
        return;
    }
#endif
    for (int32_t i = begin; i < end; i++) {
        const int32_t block = descending ? begin + end - 1 - i : i;
        const int64_t offset = cyl_block_offset(m, block);
        const int block_vectors = (m->gates * cyl_block_width(m, block) + 15) / 16;
        const int64_t k_stride = (int64_t)block_vectors * 16;
        const W *w = weights + offset * m->columns;
        const REAL *start = continued ? acc + offset : bias + offset;
        const int64_t start_stride = continued ? acc_stride : 0;
        for (int64_t first = 0; first < n;) {
            int64_t left = n - first;
            /* no single column at the end of many: two tiles of about one size */
            int columns = left >= 2 * TILE_COLUMNS ? TILE_COLUMNS
                          : left > TILE_COLUMNS    ? (int)((left + 1) / 2)
                                                   : (int)left;
            const int most = TILE_CHAINS / columns < TILE_VECTORS ? TILE_CHAINS / columns : TILE_VECTORS;
            for (int v = 0; v < block_vectors; v += most) {
                int vectors = block_vectors - v < most ? block_vectors - v : most;
                tile_of(w + v * 16, k_stride, operands, operand_count, first, start + first * start_stride + v * 16,
                        start_stride, acc + first * acc_stride + offset + v * 16, acc_stride, vectors, columns);
            }
            first += columns;
        }
    }
}

#undef tile
#undef tile_of
#undef Group
#undef group_tile
#undef group_of
#undef product_of_column
#undef product
#undef GROUP_OF
#undef TILE_ARGUMENTS
