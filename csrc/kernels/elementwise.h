/* What layers do element by element: activations, merging, the subnormal rule on entry. */

/* Loops over groups of 16 numbers at `at`; `lanes` is 16, or less in the last group. */
#define EACH_SPAN(size)                                                                                                \
    for (int64_t at = 0, lanes = (size) < 16 ? (size) : 16; at < (size);                                               \
         at += 16, lanes = (size) - at < 16 ? (size) - at : 16)

static void flush(const void *x_data, void *y_data, int64_t size) {
    const REAL *x = x_data;
    REAL *y = y_data;
    EACH_SPAN(size) { store_lanes(y + at, v_flush(load_lanes(x + at, (int32_t)lanes)), (int32_t)lanes); }
}

/* a number that the subnormal rule changes: -0, or one below the threshold that is not +0 */
static bool has_tiny(const void *x, int64_t size) {
    typedef int32_t Bits __attribute__((vector_size(64)));
    const int32_t threshold = 0x2b800000, magnitude = INT32_MAX; /* the bits of CYL_TINY, and all but the sign */
    const char *at = x;
    if (sizeof(REAL) != sizeof(int32_t)) {
        return false; /* float64 has no such rule */
    }
    while (size > 0) {
        Bits found = {0};
        for (int n = 0; n < 64 && size > 0; n++, at += sizeof found, size -= 16) {
            Bits bits = {0};
            memcpy(&bits, at, size < 16 ? (size_t)size * sizeof(int32_t) : sizeof bits);
            found |= ((bits & magnitude) < threshold) & (bits != 0);
        }
        int32_t any = 0;
        UNROLLED for (int i = 0; i < 16; i++) { any |= found[i]; }
        if (any) {
            return true;
        }
    }
    return false;
}

/* activation(x); as it is, or for what another layer reads with the subnormal rule */
static inline __attribute__((always_inline)) void activate_body(const CylActivationSpec *spec, const REAL *x, REAL *y,
                                                                int64_t size, const int id, const bool is_flushed) {
    const REAL alpha = (REAL)spec->alpha, beta = (REAL)spec->beta;
    EACH_SPAN(size) {
        V a = load_lanes(x + at, (int32_t)lanes);
        a = is_flushed ? v_activate_flushed(id, a, alpha, beta) : v_activate_inline(id, a, alpha, beta);
        store_lanes(y + at, a, (int32_t)lanes);
    }
}

/* Compiled once for each usual activation, so that the constants of a loop stay in registers. */
static inline __attribute__((always_inline)) void activate_by(const int id, const CylActivationSpec *spec,
                                                              const REAL *x, REAL *y, int64_t size, bool is_flushed) {
    if (is_flushed) {
        activate_body(spec, x, y, size, id, true);
    } else {
        activate_body(spec, x, y, size, id, false);
    }
}

static void activate(const CylActivationSpec *spec, const void *x, void *y, int64_t size, bool is_flushed) {
    switch (spec->id) {
    case CYL_ACT_LINEAR:
        activate_by(CYL_ACT_LINEAR, spec, x, y, size, is_flushed);
        break;
    case CYL_ACT_RELU:
        activate_by(CYL_ACT_RELU, spec, x, y, size, is_flushed);
        break;
    case CYL_ACT_TANH:
        activate_by(CYL_ACT_TANH, spec, x, y, size, is_flushed);
        break;
    case CYL_ACT_SIGMOID:
        activate_by(CYL_ACT_SIGMOID, spec, x, y, size, is_flushed);
        break;
    default:
        if (spec->id == CYL_ACT_SOFTMAX) {
            softmax_row(y, x, (int)size);
        } else {
            activate_body(spec, x, y, size, spec->id, false);
        }
        if (is_flushed) {
            flush(y, y, size);
        }
    }
}

static void log_softmax(const void *x, void *y, int64_t size) { log_softmax_row(y, x, (int)size); }

/* 0, or NaN where a is NaN */
static inline V nan_of(V a) {
    V bounded = v_min(v_set1((REAL)1), v_max(v_set1((REAL)-1), a));
    return v_sub(bounded, bounded);
}

#ifndef HAVE_LARGER
/* the larger of a and b, or NaN if either is; of zeros of both signs either, which the subnormal rule makes +0 */
static inline V v_larger(V a, V b) { return v_add(v_max(a, b), nan_of(a)); }
#endif

static inline __attribute__((always_inline)) void merge_body(const int mode, const REAL *x, int step, REAL *y,
                                                             int64_t size, double scale) {
    EACH_SPAN(size) {
        V b = load_lanes(y + at, (int32_t)lanes), a = b;
        if (mode != CYL_MERGE_SCALE) {
            a = step ? load_lanes(x + at, (int32_t)lanes) : v_set1(x[0]);
        }
        switch (mode) {
        case CYL_MERGE_SUM:
            a = v_add(b, a);
            break;
        case CYL_MERGE_MUL:
            a = v_mul(v_guard(b), v_guard(a));
            break;
        case CYL_MERGE_SUB:
            a = v_sub(b, a);
            break;
        case CYL_MERGE_MAX: /* NaN if either is */
            a = v_larger(a, b);
            break;
        case CYL_MERGE_MIN:
            a = v_add(v_min(a, b), nan_of(a));
            break;
        case CYL_MERGE_DIV:
            a = v_div(b, a);
            break;
        case CYL_MERGE_SCALE:
            a = v_mul(v_guard(b), v_set1((REAL)scale));
            break;
        default: /* CYL_MERGE_COPY */
            break;
        }
        store_lanes(y + at, v_flush(a), (int32_t)lanes);
    }
}

static void merge(int mode, const void *x, int step, void *y, int64_t size, double scale) {
    if (mode == CYL_MERGE_COPY && step) {
        flush(x, y, size);
    } else if (mode == CYL_MERGE_SUM && step) { /* the usual modes have loops of their own */
        merge_body(CYL_MERGE_SUM, x, 1, y, size, scale);
    } else if (mode == CYL_MERGE_MUL && step) {
        merge_body(CYL_MERGE_MUL, x, 1, y, size, scale);
    } else {
        merge_body(mode, x, step, y, size, scale);
    }
}

static void dense_output(const CylMatrix *m, const CylActivationSpec *spec, int64_t n, const void *acc_data,
                         int64_t acc_stride, void *y_data, int64_t y_stride, bool is_flushed, int32_t begin,
                         int32_t end) {
    /* a matrix of one gate has its accumulators in the order of its units; a softmax is taken of whole rows later */
    const CylActivationSpec linear = {.id = CYL_ACT_LINEAR}, *function = spec->id == CYL_ACT_SOFTMAX ? &linear : spec;
    const int64_t first = (int64_t)begin * m->width;
    int64_t size = smaller(m->units, end * m->width) - first;
    const REAL *acc = (const REAL *)acc_data + first;
    REAL *y = (REAL *)y_data + first;
    if (size == acc_stride && size == y_stride) {
        size *= n;
        n = 1;
    }
    for (int64_t j = 0; j < n; j++) {
        activate(function, acc + j * acc_stride, y + j * y_stride, size, is_flushed);
    }
}
