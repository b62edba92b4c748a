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
#define tiles_of_block NAMED(tiles_of_block)
#define widen NAMED(widen)
#define panels_of_block NAMED(panels_of_block)
#define product_of_block NAMED(product_of_block)
#define w_load_first NAMED(w_load_first)
#define w_load_second NAMED(w_load_second)
#define product NAMED(product)
#define product_output NAMED(product_output)

/* how many columns lie side by side, and numbers of one vector with them */
#ifdef W_PAIRS
#define W_COLUMNS 2
#else
#define W_COLUMNS 1
#endif
#define W_NUMBERS (16 * W_COLUMNS)

#if defined(W_PAIRS) && (GROUP_BLOCKS > 0 || !defined(WIDENED_COLUMNS) || WIDENED_COLUMNS > 1)
/* one half of 16 pairs */
static inline V w_load_first(const W *p) {
    V first, second;
    w_load_pair(p, &first, &second);
    return first;
}
static inline V w_load_second(const W *p) {
    V first, second;
    w_load_pair(p, &first, &second);
    return second;
}
#endif

/* where all columns are widened there are no tiles of another type */
#if !defined(W_WIDENED) || !defined(WIDENED_COLUMNS) || WIDENED_COLUMNS > 1
#define W_TILES
#endif
/* a clone for constant arguments is worth its code where weights are real, for convolutions of few columns */
#ifdef W_WIDENED
#define TILES __attribute__((noinline, noclone))
#else
#define TILES __attribute__((noinline))
#endif

/* columns times vectors at most: fewer where registers are few */
#ifndef TILE_CHAINS
#define TILE_CHAINS (TILE_COLUMNS * TILE_VECTORS)
#endif

/* columns at most where they have one vector each, whose chains are too few to hide a multiply-add's latency */
#if TILE_COLUMNS > 2 && !defined(X_NUMBERS) && !defined(W_PAIRS)
#define TILE_WIDE (2 * TILE_COLUMNS)
#else
#define TILE_WIDE TILE_COLUMNS
#endif

#ifndef CYL_TILE_END
#define CYL_TILE_END
/* what a tile stores: its sums; or with the subnormal rule they, or their relu, so that they need no other pass */
typedef enum { END_SUMS = 0, END_FLUSHED, END_RELU } TileEnd;
#endif

#ifdef W_TILES
/* acc[c][v] for `vectors` vectors, the last of `lanes` numbers, and `columns` columns; constants after inlining */
static inline __attribute__((always_inline)) void tile(const W *weights /* [k][k_stride] */, int64_t k_stride,
                                                       const CylOperand *operands, int32_t operand_count, int64_t first,
                                                       const REAL *start, int64_t start_stride, REAL *acc,
                                                       int64_t acc_stride, int32_t lanes, TileEnd end,
                                                       const int vectors, const int columns) {
#define LANES(v) ((v) == vectors - 1 ? lanes : 16)
/* one column of the weights at w, times a number xk of each x[c] */
#define TILE_COLUMN(load, xk)                                                                                          \
    V row[TILE_VECTORS];                                                                                               \
    UNROLLED for (int v = 0; v < vectors; v++) { row[v] = load(w + v * W_NUMBERS); }                                   \
    UNROLLED for (int c = 0; c < columns; c++) {                                                                       \
        UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_fma(row[v], v_set1(xk), sum[c][v]); }               \
    }
    V sum[TILE_WIDE][TILE_VECTORS];
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            sum[c][v] = load_lanes(start + c * start_stride + v * 16, LANES(v));
        }
    }
    for (int32_t o = 0; o < operand_count; o++) {
        const int64_t stride = operands[o].stride;
        const REAL *x = (const REAL *)operands[o].x + first * stride;
        const int32_t count = operands[o].count;
        int32_t k = 0;
#ifdef W_PAIRS
        const W *w = weights + operands[o].first / 2 * 2 * k_stride;
        if (operands[o].first % 2) { /* the second of a pair */
            TILE_COLUMN(w_load_second, x[c * stride])
            k = 1;
            w += 2 * k_stride;
        }
        for (; k + 2 <= count; k += 2, w += 2 * k_stride) {
            V row[TILE_VECTORS], second[TILE_VECTORS];
            UNROLLED for (int v = 0; v < vectors; v++) { w_load_pair(w + v * 32, &row[v], &second[v]); }
            UNROLLED for (int c = 0; c < columns; c++) {
                V xk = v_set1(x[c * stride + k]);
                UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_fma(row[v], xk, sum[c][v]); }
            }
            UNROLLED for (int c = 0; c < columns; c++) {
                V xk = v_set1(x[c * stride + k + 1]);
                UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_fma(second[v], xk, sum[c][v]); }
            }
        }
        if (k < count) {
            TILE_COLUMN(w_load_first, x[c * stride + k])
        }
#else
        const W *w = weights + operands[o].first * k_stride;
#ifdef X_NUMBERS
        for (; k + X_NUMBERS <= count; k += X_NUMBERS) {
            X xs[TILE_WIDE];
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
            TILE_COLUMN(w_load, x[c * stride + k])
        }
#endif
    }
    if (end == END_RELU) {
        UNROLLED for (int c = 0; c < columns; c++) {
            UNROLLED for (int v = 0; v < vectors; v++) {
                store_lanes(acc + c * acc_stride + v * 16, v_relu_flushed(sum[c][v]), LANES(v));
            }
        }
        return;
    }
    if (end == END_FLUSHED) {
        UNROLLED for (int c = 0; c < columns; c++) {
            UNROLLED for (int v = 0; v < vectors; v++) { sum[c][v] = v_flush(sum[c][v]); }
        }
    }
    UNROLLED for (int c = 0; c < columns; c++) {
        UNROLLED for (int v = 0; v < vectors; v++) { store_lanes(acc + c * acc_stride + v * 16, sum[c][v], LANES(v)); }
    }
#undef LANES
#undef TILE_COLUMN
}

#endif

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
/* one column of the weights, times a number of x */
#define GROUP_COLUMN(load, number)                                                                                     \
    const V xk = v_set1(number);                                                                                       \
    UNROLLED for (int b = 0; b < blocks; b++) {                                                                        \
        UNROLLED for (int v = 0; v < vectors; v++) {                                                                   \
            sum[b][v] = v_fma(load(w + b * block_size + v * W_NUMBERS), xk, sum[b][v]);                                \
        }                                                                                                              \
    }                                                                                                                  \
    UNROLLED for (int v = 0; v < tail; v++) { tail_sum[v] = v_fma(load(tail_w + v * W_NUMBERS), xk, tail_sum[v]); }
    V sum[2 * GROUP_BLOCKS - 1][4], tail_sum[3];
    UNROLLED for (int b = 0; b < blocks; b++) {
        UNROLLED for (int v = 0; v < vectors; v++) {
            sum[b][v] = v_load(group->start + b * group->block_rows + v * 16);
        }
    }
    UNROLLED for (int v = 0; v < tail; v++) { tail_sum[v] = v_load(group->tail_start + v * 16); }
    for (int32_t o = 0; o < operand_count; o++) {
        const int32_t at = operands[o].first / W_COLUMNS * W_COLUMNS;
        const W *w = group->weights + at * group->k_stride;
        const W *tail_w = tail ? group->tail_weights + at * group->tail_k_stride : w;
        const REAL *x = operands[o].x;
        const int32_t count = operands[o].count;
        const int64_t block_size = group->block_size, k_stride = group->k_stride, tail_stride = group->tail_k_stride;
        int32_t k = 0;
#ifdef W_PAIRS
        if (operands[o].first % 2) { /* the second of a pair */
            GROUP_COLUMN(w_load_second, x[0])
            k = 1;
            w += 2 * k_stride;
            tail_w += 2 * tail_stride;
        }
        for (; k + 2 <= count; k += 2, w += 2 * k_stride, tail_w += 2 * tail_stride) {
            const V xk = v_set1(x[k]), next = v_set1(x[k + 1]);
            V row, second;
            UNROLLED for (int b = 0; b < blocks; b++) {
                UNROLLED for (int v = 0; v < vectors; v++) {
                    w_load_pair_once(w + b * block_size + v * 32, &row, &second);
                    sum[b][v] = v_fma(second, next, v_fma(row, xk, sum[b][v]));
                }
            }
            UNROLLED for (int v = 0; v < tail; v++) {
                w_load_pair_once(tail_w + v * 32, &row, &second);
                tail_sum[v] = v_fma(second, next, v_fma(row, xk, tail_sum[v]));
            }
        }
        if (k < count) {
            GROUP_COLUMN(w_load_first, x[k])
        }
#else
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
            GROUP_COLUMN(w_load, x[k])
        }
#endif
    }
    UNROLLED for (int b = 0; b < blocks; b++) {
        UNROLLED for (int v = 0; v < vectors; v++) { v_store(group->acc + b * group->block_rows + v * 16, sum[b][v]); }
    }
    UNROLLED for (int v = 0; v < tail; v++) { v_store(group->tail_acc + v * 16, tail_sum[v]); }
#undef GROUP_COLUMN
}

#define GROUP_OF(blocks, vectors, most)                                                                                \
    switch (tail) {                                                                                                    \
    case 0:                                                                                                            \
        if ((blocks) > 0) {                                                                                            \
            group_tile(group, operands, operand_count, blocks, vectors, 0);                                            \
        }                                                                                                              \
        break;                                                                                                         \
    case 1:                                                                                                            \
        group_tile(group, operands, operand_count, blocks, vectors, 1);                                                \
        break;                                                                                                         \
    case 2:                                                                                                            \
        if ((most) > 1) {                                                                                              \
            group_tile(group, operands, operand_count, blocks, vectors, 2);                                            \
        }                                                                                                              \
        break;                                                                                                         \
    default:                                                                                                           \
        if ((most) > 2) {                                                                                              \
            group_tile(group, operands, operand_count, blocks, vectors, 3);                                            \
        }                                                                                                              \
        break;                                                                                                         \
    }                                                                                                                  \
    break;

/* A group of a run-time size. A block has a vector for each gate, or four of one gate, and its tail fewer; there may be
   a tail alone. */
static void group_of(const Group *group, const CylOperand *operands, int32_t operand_count, int blocks, int vectors,
                     int tail) {
    switch (blocks * 8 + vectors) {
    case 8 + 2:
        GROUP_OF(1, 2, 1)
    case 8 + 3:
        GROUP_OF(1, 3, 2)
    case 8 + 4:
        GROUP_OF(1, 4, 3)
#if GROUP_BLOCKS > 1
    case 16 + 2:
        GROUP_OF(2, 2, 1)
    case 16 + 3:
        GROUP_OF(2, 3, 2)
    case 16 + 4:
        GROUP_OF(2, 4, 3)
    case 24 + 2:
        GROUP_OF(3, 2, 1)
    case 24 + 3:
        GROUP_OF(3, 3, 2)
    case 24 + 4:
        GROUP_OF(3, 4, 3)
#endif
    default:
        GROUP_OF(0, 0, 3)
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
        const Group group = {.weights = weights + at * m->stored_columns,
                             .tail_weights = weights + tail_at * m->stored_columns,
                             .block_size = m->block_rows * m->stored_columns,
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

#ifdef W_TILES

#define TILE_ARGUMENTS w, k_stride, operands, operand_count, first, start, start_stride, acc, acc_stride, lanes, end

/* a tile of a run-time size */
static TILES void tile_of(const W *w, int64_t k_stride, const CylOperand *operands, int32_t operand_count,
                          int64_t first, const REAL *start, int64_t start_stride, REAL *acc, int64_t acc_stride,
                          int32_t lanes, TileEnd end, int vectors, int columns) {
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
#if TILE_WIDE > TILE_COLUMNS
    case TILE_WIDE * 8 + 1:
        tile(TILE_ARGUMENTS, 1, TILE_WIDE);
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

/* The first `numbers` sums of a block whose weights are at w, of all columns; start and acc are at the block's first.
   Apart from `product`, so that the one column of a step passes none of its registers. */
static TILES void tiles_of_block(const W *w, int64_t k_stride, const CylOperand *operands, int32_t operand_count,
                                 int64_t n, const REAL *start, int64_t start_stride, REAL *acc, int64_t acc_stride,
                                 int32_t numbers, TileEnd end) {
    int64_t done = 0;
#if TILE_WIDE > TILE_COLUMNS
    for (; numbers <= 16 && n - done >= TILE_WIDE; done += TILE_WIDE) {
        tile_of(w, k_stride, operands, operand_count, done, start + done * start_stride, start_stride,
                acc + done * acc_stride, acc_stride, numbers, end, 1, TILE_WIDE);
    }
#endif
    for (int64_t first = done; first < n;) {
        int64_t left = n - first;
        /* no single column at the end of many: two tiles of about one size */
        int columns = left >= 2 * TILE_COLUMNS ? TILE_COLUMNS : left > TILE_COLUMNS ? (int)((left + 1) / 2) : (int)left;
        const int most = TILE_CHAINS / columns < TILE_VECTORS ? TILE_CHAINS / columns : TILE_VECTORS;
        for (int at = 0; at < numbers; at += most * 16) {
            const int count = numbers - at < most * 16 ? numbers - at : most * 16;
            const int vectors = (count + 15) / 16;
            tile_of(w + at * W_COLUMNS, k_stride, operands, operand_count, first, start + first * start_stride + at,
                    start_stride, acc + first * acc_stride + at, acc_stride, count - (vectors - 1) * 16, end, vectors,
                    columns);
        }
        first += columns;
    }
}

#endif

#if defined(WIDENED_COLUMNS) && defined(W_WIDENED)
/* Columns [first, first + count) of a block's weights as real numbers. */
static void widen(const W *weights, int64_t k_stride, int32_t first, int32_t count, REAL *panel) {
#ifdef W_PAIRS
    for (int32_t k = 0; k < count;) {
        const W *w = weights + (first + k) / 2 * 2 * k_stride;
        const bool has_first = (first + k) % 2 == 0, has_second = k + has_first < count;
        for (int64_t v = 0; v < k_stride; v += 16) {
            V one, other;
            w_load_pair(w + 2 * v, &one, &other);
            if (has_first) {
                v_store(panel + k * k_stride + v, one);
            }
            if (has_second) {
                v_store(panel + (k + has_first) * k_stride + v, other);
            }
        }
        k += has_first + has_second;
    }
#else
    const W *w = weights + first * k_stride;
    for (int64_t i = 0; i < count * k_stride; i += 16) {
        v_store(panel + i, w_load(w + i));
    }
#endif
}

/* tiles_of_block for many columns: the weights are widened once for all of them, a panel that stays in the first cache
   after the other */
static __attribute__((noinline)) void panels_of_block(const W *w, int64_t k_stride, const CylOperand *operands,
                                                      int32_t operand_count, int64_t n, const REAL *start,
                                                      int64_t start_stride, REAL *acc, int64_t acc_stride,
                                                      int32_t numbers, TileEnd end) {
    REAL panel[WIDENED_NUMBERS];
    const int32_t most = (int32_t)(WIDENED_NUMBERS / k_stride);
    for (int32_t o = 0; o < operand_count; o++) {
        const CylOperand *all = &operands[o];
        int32_t k = 0;
        do {
            const int32_t count = all->count - k < most ? all->count - k : most;
            const CylOperand part = {.x = (const REAL *)all->x + k, .stride = all->stride, .count = count};
            const bool is_last = o == operand_count - 1 && k + count == all->count;
            widen(w, k_stride, all->first + k, count, panel);
            tiles_of_block_real(panel, k_stride, &part, 1, n, start, start_stride, acc, acc_stride, numbers,
                                is_last ? end : END_SUMS);
            start = acc;
            start_stride = acc_stride;
            k += count;
        } while (k < all->count);
    }
}
#endif

/* the same of a matrix */
static void product_of_block(const CylMatrix *m, int32_t block, const CylOperand *operands, int32_t operand_count,
                             int64_t n, const REAL *start, int64_t start_stride, REAL *acc, int64_t acc_stride,
                             int32_t numbers, TileEnd end) {
    const int64_t k_stride = ((int64_t)m->gates * cyl_block_width(m, block) + 15) / 16 * 16;
    const W *w = (const W *)m->weights + cyl_block_offset(m, block) * m->stored_columns;
#if defined(WIDENED_COLUMNS) && defined(W_WIDENED)
    if (n >= WIDENED_COLUMNS) {
        panels_of_block(w, k_stride, operands, operand_count, n, start, start_stride, acc, acc_stride, numbers, end);
        return;
    }
#endif
#ifdef W_TILES
    tiles_of_block(w, k_stride, operands, operand_count, n, start, start_stride, acc, acc_stride, numbers, end);
#endif
}

static void product(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, void *acc_data, int64_t acc_stride, bool continued, bool descending, int32_t begin,
                    int32_t end) {
    (void)model;
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
        const int32_t numbers = (m->gates * cyl_block_width(m, block) + 15) / 16 * 16;
        product_of_block(m, block, operands, operand_count, n, (continued ? acc : bias) + offset,
                         continued ? acc_stride : 0, acc + offset, acc_stride, numbers, END_SUMS);
    }
}

static void product_output(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                           int64_t n, const CylActivationSpec *activation, bool continued, void *y_data,
                           int64_t y_stride) {
    const REAL *bias = m->bias;
    REAL *y = y_data;
    const CylActivation id = activation ? activation->id : CYL_ACT_SOFTMAX;
    TileEnd end = id == CYL_ACT_RELU ? END_RELU : id == CYL_ACT_LINEAR ? END_FLUSHED : END_SUMS;
#if GROUP_BLOCKS > 0
    if (n == 1 && m->units % 16 == 0) {
        end = END_SUMS;
        /* through the table: with a second caller the compiler no longer inlines the one that each step takes */
        cyl_product(model, m, operands, operand_count, n, y, y_stride, continued, false, 0, m->blocks);
    } else
#endif
    {
        for (int32_t block = 0; block < m->blocks; block++) {
            const int32_t first = block * m->width, left = m->units - first;
            product_of_block(m, block, operands, operand_count, n, continued ? y + first : bias + first,
                             continued ? y_stride : 0, y + first, y_stride, left < m->width ? left : m->width, end);
        }
    }
    if (activation && end == END_SUMS) {
        model->kernels->dense_output(m, activation, n, y, y_stride, y, y_stride, id != CYL_ACT_SOFTMAX, 0, m->blocks);
    }
}

#undef W_COLUMNS
#undef W_NUMBERS
#undef W_TILES
#undef TILES
#undef w_load_first
#undef w_load_second
#undef tile
#undef tile_of
#undef Group
#undef group_tile
#undef group_of
#undef product_of_column
#undef tiles_of_block
#undef widen
#undef panels_of_block
#undef product_of_block
#undef product
#undef product_output
#undef GROUP_OF
#undef TILE_WIDE
#undef TILE_ARGUMENTS
