/*
 * The product with weights of int8: acc = acc + W x, where row r of W is scale[r] * (whole numbers of 8 bits).
 *
 * The activations of each column are made whole numbers of 16 bits (or of 8) with a scale of their own:
 *
 *   m = max |x[k]|, a[k] = round(x[k] * (most/m)), t = m * (1/most), most = 32767 (or 127)
 *
 * Sums of whole numbers are exact in 32 bits over pieces of CYL_INT8_PIECE columns. After each piece
 * acc = fma(sum, t*scale[r], acc), pieces in ascending order, from the bias or from what acc holds: one chain of few
 * multiply-adds, in which nothing depends on how a machine computes the sums. A column of zeros adds nothing; one with
 * NaN or infinity gives NaN.
 *
 * W_NAME is the type, IS_WIDE whether activations have 16 bits, DOTS whose sums are taken (simd/dots).
 */

#define column_scale NAMED(column_scale)
#define block_tile NAMED(block_tile)
#define block_of NAMED(block_of)
#define blocks_of NAMED(blocks_of)
#define chunk_of NAMED(chunk_of)
#define product NAMED(product)
#define D(name) CYL_JOIN(CYL_JOIN(name, _), DOTS)
#define SUMS D(I)
#define MOST_DIGITS (IS_WIDE ? 32767.0f : 127.0f)
#define COLUMNS_OF_TILE (IS_WIDE ? D(DOT_WIDE_COLUMNS) : D(DOT_COLUMNS))

#ifndef CYL_INT8_CHUNK
/* pieces of columns whose digits are made at once, and lie on the stack */
#define CYL_INT8_CHUNK 24

/* what a product is about, and where its columns go */
typedef struct {
    const CylMatrix *matrix;
    const CylOperand *operands; /* a second one is multiplied by matrix->next */
    int32_t operand_count;
    const REAL *start; /* accumulators of column 0 of what the sums are added to */
    int64_t start_stride;
    REAL *acc;
    int64_t acc_stride;
    int32_t begin, end;
    bool descending;
} WholeProduct;

/* CYL_INT8_PIECE columns of a matrix, or the last of them, with what multiplies these */
typedef struct {
    const int8_t *weights; /* of the matrix, as stored_columns and scales are */
    const float *scales, *sums;
    const uint8_t *digits; /* of the first column of the product */
    const float *t;
    int32_t stored_columns, first, quads;
} WholePiece;
#endif

/* t of one column; *factor is what makes whole numbers of its numbers */
static float column_scale(const float *x, int32_t count, float *factor) {
    const uint32_t bits = D(dot_largest)(x, count);
    *factor = 0.0f;
    if (bits == 0) {
        return 0.0f;
    }
    if (bits >= 0x7f800000u) {
        return NAN;
    }
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    *factor = MOST_DIGITS / largest;
    return largest * (1.0f / MOST_DIGITS);
}

/* one block and one piece of its columns, for `columns` columns of the product */
static inline __attribute__((always_inline)) void block_tile(const int8_t *w, const uint8_t *digits, int32_t quads,
                                                             const float *sums, const float *scales, const float *t,
                                                             const REAL *start, int64_t start_stride, REAL *acc,
                                                             int64_t acc_stride, const int vectors, const int columns) {
    SUMS sum[COLUMNS_OF_TILE][4];
    UNROLLED for (int v = 0; v < vectors; v++) {
        const SUMS first = D(i_start)(sums + v * 16, IS_WIDE);
        UNROLLED for (int c = 0; c < columns; c++) { sum[c][v] = first; }
    }
    D(dot_sums)(w, digits, quads, sum, vectors, columns, IS_WIDE);
    UNROLLED for (int c = 0; c < columns; c++) {
        const V scale = v_set1(t[c]);
        UNROLLED for (int v = 0; v < vectors; v++) {
            const V from = v_load(start + c * start_stride + v * 16);
            const V found = v_fma(D(i_real)(sum[c][v]), v_mul(scale, v_load(scales + v * 16)), from);
            v_store(acc + c * acc_stride + v * 16, found);
        }
    }
}

#define BLOCK_TILE(vectors, columns)                                                                                   \
    block_tile(w, digits, quads, sums, scales, t, start, start_stride, acc, acc_stride, vectors, columns)
#define BLOCK_TILES(columns)                                                                                           \
    switch (vectors) {                                                                                                 \
    case 1:                                                                                                            \
        BLOCK_TILE(1, columns);                                                                                        \
        break;                                                                                                         \
    case 2:                                                                                                            \
        BLOCK_TILE(2, columns);                                                                                        \
        break;                                                                                                         \
    case 3:                                                                                                            \
        BLOCK_TILE(3, columns);                                                                                        \
        break;                                                                                                         \
    default:                                                                                                           \
        BLOCK_TILE(4, columns);                                                                                        \
        break;                                                                                                         \
    }

/* a tile of a run-time size: its columns are 1, 2, 3 or, where tiles are that wide, all of a tile */
static inline __attribute__((always_inline)) void block_of(const int8_t *w, const uint8_t *digits, int32_t quads,
                                                           const float *sums, const float *scales, const float *t,
                                                           const REAL *start, int64_t start_stride, REAL *acc,
                                                           int64_t acc_stride, int vectors, int columns) {
    if (columns == 1) {
        BLOCK_TILES(1)
    } else if (COLUMNS_OF_TILE > 1 && columns == 2) {
        BLOCK_TILES(COLUMNS_OF_TILE > 1 ? 2 : 1)
    } else if (COLUMNS_OF_TILE > 2 && columns == 3) {
        BLOCK_TILES(COLUMNS_OF_TILE > 2 ? 3 : 1)
    } else if (COLUMNS_OF_TILE > 3) {
        BLOCK_TILES(COLUMNS_OF_TILE)
    }
}

/* Some pieces of the columns [first, first + n) of a product, block after block, so that a step that takes the blocks
   the other way round finds in the cache all that the step before read last. Apart from chunk_of, which would take
   registers from the sums. */
static __attribute__((noinline)) void blocks_of(const WholeProduct *p, int64_t first, int32_t n,
                                                const WholePiece *pieces, int32_t count, bool is_first) {
    const CylMatrix *m = p->matrix;
    for (int32_t i = p->begin; i < p->end; i++) {
        const int32_t block = p->descending ? p->begin + p->end - 1 - i : i;
        const int64_t at = cyl_block_offset(m, block);
        const int32_t rows = m->gates * cyl_block_width(m, block), vectors = (rows + 15) / 16;
        const REAL *start = (is_first ? p->start : p->acc) + at;
        int64_t start_stride = is_first ? p->start_stride : p->acc_stride;
        for (const WholePiece *piece = pieces; piece < pieces + count; piece++) {
            const int8_t *w = piece->weights + at * piece->stored_columns + (int64_t)piece->first * vectors * 16;
            for (int32_t c = 0; c < n;) {
                const int32_t left = n - c;
                const int32_t columns = left >= COLUMNS_OF_TILE ? COLUMNS_OF_TILE : left < 3 ? left : 3;
                const int64_t column = first + c;
                block_of(w, piece->digits + c * DOT_BYTES, piece->quads, piece->sums + at, piece->scales + at,
                         piece->t + c, start + column * start_stride, start_stride,
                         p->acc + column * p->acc_stride + at, p->acc_stride, vectors, columns);
                c += columns;
            }
            start = p->acc + at;
            start_stride = p->acc_stride;
        }
    }
}

/* columns [first, first + n) of a product, at most CYL_INT8_CHUNK */
static void chunk_of(const WholeProduct *p, int64_t first, int32_t n) {
    uint8_t digits[CYL_INT8_CHUNK * DOT_BYTES];
    float t[2][CYL_INT8_CHUNK], factor[2][CYL_INT8_CHUNK];
    WholePiece pieces[CYL_INT8_CHUNK];
    const int32_t most = CYL_INT8_CHUNK / n;
    int32_t count = 0;
    bool is_first = true;
    for (int32_t o = 0; o < p->operand_count; o++) {
        const CylOperand *all = &p->operands[o];
        const float *x = (const float *)all->x + first * all->stride;
        for (int32_t c = 0; c < n; c++) {
            t[o][c] = column_scale(x + c * all->stride, all->count, &factor[o][c]);
        }
    }
    for (int32_t o = 0; o < p->operand_count; o++) {
        const CylMatrix *m = o ? p->matrix->next : p->matrix;
        const CylOperand *all = &p->operands[o];
        const float *x = (const float *)all->x + first * all->stride;
        for (int32_t k = 0; k < m->stored_columns; k += CYL_INT8_PIECE) {
            const int32_t numbers = all->count - k < CYL_INT8_PIECE ? all->count - k : CYL_INT8_PIECE;
            uint8_t *to = digits + count * n * DOT_BYTES;
            for (int32_t c = 0; c < n; c++) {
                D(dot_round)(x + c * all->stride + k, numbers, factor[o][c], IS_WIDE, to + c * DOT_BYTES);
            }
            pieces[count++] = (WholePiece){.weights = m->weights,
                                           .scales = m->scales,
                                           .sums = (const float *)m->sums + k / CYL_INT8_PIECE * m->row_size,
                                           .digits = to,
                                           .t = t[o],
                                           .stored_columns = m->stored_columns,
                                           .first = k,
                                           .quads = (numbers + 3) / 4};
            if (count == most || (o == p->operand_count - 1 && k + CYL_INT8_PIECE >= m->stored_columns)) {
                blocks_of(p, first, n, pieces, count, is_first);
                is_first = false;
                count = 0;
            }
        }
    }
}

static void product(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, void *acc, int64_t acc_stride, bool continued, bool descending, int32_t begin,
                    int32_t end) {
    (void)model;
    const WholeProduct p = {.matrix = m,
                            .operands = operands,
                            .operand_count = operand_count,
                            .start = continued ? acc : m->bias,
                            .start_stride = continued ? acc_stride : 0,
                            .acc = acc,
                            .acc_stride = acc_stride,
                            .begin = begin,
                            .end = end,
                            .descending = descending};
    for (int64_t first = 0; first < n; first += CYL_INT8_CHUNK) {
        chunk_of(&p, first, (int32_t)(n - first < CYL_INT8_CHUNK ? n - first : CYL_INT8_CHUNK));
    }
}

#undef column_scale
#undef block_tile
#undef block_of
#undef blocks_of
#undef chunk_of
#undef product
#undef D
#undef SUMS
#undef MOST_DIGITS
#undef COLUMNS_OF_TILE
#undef BLOCK_TILE
#undef BLOCK_TILES
