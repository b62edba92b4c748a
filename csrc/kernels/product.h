/*
 * The product of the packed engine: acc = acc + W x for one column or many.
 *
 * Each accumulator is one chain: it starts at the bias (or at what it holds) and adds its products in ascending k
 * with fused multiply-adds. A register tile holds TILE_VECTORS x TILE_COLUMNS chains at once to hide the latency
 * of a multiply-add; which chains share a tile changes nothing in any of them, so the bits do not depend on the
 * vector width, on the number of columns or on the thread.
 */

/* acc[c][v] for `vectors` vectors and `columns` columns; constants after inlining */
static inline __attribute__((always_inline)) void tile(const REAL *weights /* [k][k_stride] */, int64_t k_stride,
                                                       const CylOperand *operands, int32_t operand_count, int64_t first,
                                                       const REAL *start, int64_t start_stride, REAL *acc,
                                                       int64_t acc_stride, const int vectors, const int columns) {
    V sum[TILE_COLUMNS][4];
    for (int c = 0; c < columns; c++) {
        for (int v = 0; v < vectors; v++) {
            sum[c][v] = v_load(start + c * start_stride + v * 16);
        }
    }
    for (int32_t o = 0; o < operand_count; o++) {
        const REAL *w = weights + operands[o].first * k_stride;
        const int64_t stride = operands[o].stride;
        const REAL *x = (const REAL *)operands[o].x + first * stride;
        const int32_t count = operands[o].count;
        for (int32_t k = 0; k < count; k++, w += k_stride) {
            V row[4];
            for (int v = 0; v < vectors; v++) {
                row[v] = v_load(w + v * 16);
            }
            for (int c = 0; c < columns; c++) {
                V xk = v_set1(x[c * stride + k]);
                for (int v = 0; v < vectors; v++) {
                    sum[c][v] = v_fma(row[v], xk, sum[c][v]);
                }
            }
        }
    }
    for (int c = 0; c < columns; c++) {
        for (int v = 0; v < vectors; v++) {
            v_store(acc + c * acc_stride + v * 16, sum[c][v]);
        }
    }
}

#if TILE_PAIRS_BLOCKS
/* two full blocks of one column at once: eight chains where one block has four */
static inline __attribute__((always_inline)) void tile_pair(const REAL *weights, int64_t block_size, int64_t k_stride,
                                                            const CylOperand *operands, int32_t operand_count,
                                                            int64_t first, const REAL *start, REAL *acc,
                                                            int64_t block_rows, const int vectors) {
    V sum[2][4];
    for (int b = 0; b < 2; b++) {
        for (int v = 0; v < vectors; v++) {
            sum[b][v] = v_load(start + b * block_rows + v * 16);
        }
    }
    for (int32_t o = 0; o < operand_count; o++) {
        const REAL *w = weights + operands[o].first * k_stride;
        const REAL *x = (const REAL *)operands[o].x + first * operands[o].stride;
        const int32_t count = operands[o].count;
        for (int32_t k = 0; k < count; k++, w += k_stride) {
            V xk = v_set1(x[k]);
            for (int b = 0; b < 2; b++) {
                for (int v = 0; v < vectors; v++) {
                    sum[b][v] = v_fma(v_load(w + b * block_size + v * 16), xk, sum[b][v]);
                }
            }
        }
    }
    for (int b = 0; b < 2; b++) {
        for (int v = 0; v < vectors; v++) {
            v_store(acc + b * block_rows + v * 16, sum[b][v]);
        }
    }
}
#endif

#define TILE_ARGUMENTS w, k_stride, operands, operand_count, first, start, start_stride, acc, acc_stride

/* a tile of a run-time size */
static void tile_of(const REAL *w, int64_t k_stride, const CylOperand *operands, int32_t operand_count, int64_t first,
                    const REAL *start, int64_t start_stride, REAL *acc, int64_t acc_stride, int vectors, int columns) {
    switch (columns * 8 + vectors) {
    case 1 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 1);
        break;
    case 1 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 1);
        break;
    case 1 * 8 + 3:
        tile(TILE_ARGUMENTS, 3, 1);
        break;
    case 1 * 8 + 4:
        tile(TILE_ARGUMENTS, 4, 1);
        break;
    case 2 * 8 + 1:
        tile(TILE_ARGUMENTS, 1, 2);
        break;
    case 2 * 8 + 2:
        tile(TILE_ARGUMENTS, 2, 2);
        break;
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
                    int64_t n, void *acc_data, int64_t acc_stride, bool continued, bool backward, int32_t begin,
                    int32_t end) {
    (void)model;
    const REAL *weights = m->weights, *bias = m->bias;
    REAL *acc = acc_data;
    const int32_t step = backward ? -1 : 1;
    for (int32_t block = backward ? end - 1 : begin; begin <= block && block < end; block += step) {
        const int64_t offset = cyl_block_offset(m, block);
        const int block_vectors = (m->gates * cyl_block_width(m, block) + 15) / 16;
        const int64_t k_stride = (int64_t)block_vectors * 16;
        const REAL *w = weights + offset * m->columns;
        const REAL *start = continued ? acc + offset : bias + offset;
        const int64_t start_stride = continued ? acc_stride : 0;
#if TILE_PAIRS_BLOCKS
        const int32_t other = block + step;
        if (n == 1 && block_vectors > 2 && begin <= other && other < end && cyl_block_width(m, block) == m->width &&
            cyl_block_width(m, other) == m->width) {
            const int64_t low = cyl_block_offset(m, backward ? other : block);
            const REAL *pair = weights + low * m->columns, *pair_start = (continued ? acc : bias) + low;
            if (block_vectors == 4) {
                tile_pair(pair, m->block_rows * m->columns, k_stride, operands, operand_count, 0, pair_start, acc + low,
                          m->block_rows, 4);
            } else {
                tile_pair(pair, m->block_rows * m->columns, k_stride, operands, operand_count, 0, pair_start, acc + low,
                          m->block_rows, 3);
            }
            block = other;
            continue;
        }
#endif
        const int most_vectors = n == 1 ? 4 : TILE_VECTORS;
        for (int64_t first = 0; first < n;) {
            int64_t left = n - first;
            /* no single column at the end of many: two tiles of about one size */
            int columns = left >= 2 * TILE_COLUMNS ? TILE_COLUMNS
                          : left > TILE_COLUMNS    ? (int)((left + 1) / 2)
                                                   : (int)left;
            for (int v = 0; v < block_vectors; v += most_vectors) {
                int vectors = block_vectors - v < most_vectors ? block_vectors - v : most_vectors;
                tile_of(w + v * 16, k_stride, operands, operand_count, first, start + first * start_stride + v * 16,
                        start_stride, acc + first * acc_stride + offset + v * 16, acc_stride, vectors, columns);
            }
            first += columns;
        }
    }
}
