/* What layers do element by element: activations, merging, the subnormal rule on entry. */

/* f(group of 16 lanes at p); the tail's group is narrower */
#define EACH_SPAN(size)                                                                                                \
    for (int64_t at = 0, lanes = (size) < 16 ? (size) : 16; at < (size);                                               \
         at += 16, lanes = (size) - at < 16 ? (size) - at : 16)

static void flush(const void *x_data, void *y_data, int64_t size) {
    const REAL *x = x_data;
    REAL *y = y_data;
    EACH_SPAN(size) { store_lanes(y + at, v_flush(load_lanes(x + at, (int32_t)lanes)), (int32_t)lanes); }
}

/* activation(x) as it is: the subnormal rule is for what another layer reads */
static inline __attribute__((always_inline)) V activated(const CylActivationSpec *spec, const int id, V x) {
    return v_activate(id, x, (REAL)spec->alpha, (REAL)spec->beta);
}

static inline __attribute__((always_inline)) void activate_body(const CylActivationSpec *spec, const REAL *x, REAL *y,
                                                                int64_t size, const int id) {
    EACH_SPAN(size) { store_lanes(y + at, activated(spec, id, load_lanes(x + at, (int32_t)lanes)), (int32_t)lanes); }
}

static void activate(const CylActivationSpec *spec, const void *x, void *y, int64_t size) {
    if (spec->id == CYL_ACT_SOFTMAX) {
        softmax_row(y, x, (int)size);
    } else {
        activate_body(spec, x, y, size, spec->id);
    }
}

/* 0, or NaN where a is NaN */
static inline V nan_of(V a) {
    V bounded = v_min(v_set1((REAL)1), v_max(v_set1((REAL)-1), a));
    return v_sub(bounded, bounded);
}

static void merge(int mode, const void *x_data, int step, void *y_data, int64_t size, double scale) {
    const REAL *x = x_data;
    REAL *y = y_data;
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
            a = v_add(v_max(a, b), nan_of(a));
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

static void dense_output(const CylMatrix *m, const CylActivationSpec *spec, int64_t n, const void *acc_data,
                         int64_t acc_stride, void *y_data, int64_t y_stride, int32_t begin, int32_t end) {
    for (int64_t j = 0; j < n; j++) {
        const REAL *acc = (const REAL *)acc_data + j * acc_stride;
        REAL *y = (REAL *)y_data + j * y_stride;
        EACH_GROUP(m, begin, end) {
            V a = v_load(acc + cyl_block_offset(m, block) + at);
            if (spec->id != CYL_ACT_LINEAR && spec->id != CYL_ACT_SOFTMAX) {
                a = activated(spec, spec->id, a);
            }
            store_lanes(y + unit, a, lanes);
        }
    }
}
