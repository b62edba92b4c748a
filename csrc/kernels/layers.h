/*
 * The bodies of the layers around recurrent ones. A sum over a row of numbers is 16 chains, number i in chain i mod 16,
 * and then the chains by halves, 8, 4, 2, 1: one order on every machine.
 */

/* y = x * scale + shift, of batch normalisation */
static void scale_shift(const void *x_data, const void *scale_data, const void *shift_data, void *y_data,
                        int64_t size) {
    const REAL *x = x_data, *scale = scale_data, *shift = shift_data;
    REAL *y = y_data;
    EACH_SPAN(size) {
        V a = load_lanes(x + at, (int32_t)lanes), b = load_lanes(scale + at, (int32_t)lanes);
        store_lanes(y + at, v_flush(v_fma(a, b, load_lanes(shift + at, (int32_t)lanes))), (int32_t)lanes);
    }
}

/* sum of (x - mean) or (x - mean)^2 over `count` segments of `size` numbers, `stride` apart */
static inline REAL sum_of(const REAL *x, int64_t count, int64_t stride, int64_t size, REAL mean, const bool is_square) {
    V sum = v_zero();
    for (int64_t s = 0; s < count; s++) {
        const REAL *segment = x + s * stride;
        EACH_SPAN(size) {
            V a = v_sub(load_lanes(segment + at, (int32_t)lanes), load_lanes_of(mean, (int32_t)lanes));
            a = v_guard(a);
            sum = is_square ? v_fma(a, a, sum) : v_add(sum, a);
        }
    }
    return sum_lanes(sum);
}

/* moments[0] = mean, moments[1] = biased variance about it; or, not centred, 0 and the mean of squares */
static void moments(const void *x, int64_t count, int64_t stride, int64_t size, bool is_centred, double *found) {
    REAL total = (REAL)(count * size), mean = 0;
    if (is_centred) {
        mean = sum_of(x, count, stride, size, 0, false) / total;
    }
    found[0] = (double)mean;
    found[1] = (double)(sum_of(x, count, stride, size, mean, true) / total);
}

/* y = (x - mean) / sqrt(variance + epsilon) * gain + shift; gain and shift of `size` or, with step 0, of one number */
static void normalise_row(const void *x_data, const void *gain_data, const void *shift_data, int step, void *y_data,
                          int64_t size, double mean, double variance, double epsilon) {
    const REAL *x = x_data, *gain = gain_data, *shift = shift_data;
    REAL *y = y_data;
    V centre = v_set1((REAL)mean), root = v_sqrt(v_add(v_set1((REAL)variance), v_set1((REAL)epsilon)));
    EACH_SPAN(size) {
        V a = v_div(v_sub(load_lanes(x + at, (int32_t)lanes), centre), root);
        V g = step ? load_lanes(gain + at, (int32_t)lanes) : v_set1(gain[0]);
        V s = step ? load_lanes(shift + at, (int32_t)lanes) : v_set1(shift[0]);
        store_lanes(y + at, v_flush(v_fma(v_guard(a), g, s)), (int32_t)lanes);
    }
}

/* y = x where x > 0, else slope * x; the slope of one number with step 0 */
static void prelu(const void *x_data, const void *slope_data, int step, void *y_data, int64_t size) {
    const REAL *x = x_data, *slope = slope_data;
    REAL *y = y_data;
    EACH_SPAN(size) {
        V a = load_lanes(x + at, (int32_t)lanes);
        V s = step ? load_lanes(slope + at, (int32_t)lanes) : v_set1(slope[0]);
        store_lanes(y + at, v_flush(v_where_positive(a, v_mul(s, v_guard(a)))), (int32_t)lanes);
    }
}

/* y = a * activation(b), of gated linear units */
static void gated(const CylActivationSpec *spec, const void *a_data, const void *b_data, void *y_data, int64_t size) {
    const REAL *a = a_data, *b = b_data;
    REAL *y = y_data;
    EACH_SPAN(size) {
        V value = v_guard(load_lanes(a + at, (int32_t)lanes));
        V factor = v_flush(gate(spec, spec->id, load_lanes(b + at, (int32_t)lanes)));
        store_lanes(y + at, v_flush(v_mul(value, factor)), (int32_t)lanes);
    }
}

/* Outputs that depthwise convolution computes at once: their chains share each weight that is loaded. */
#if defined(TILE_COLUMNS) && TILE_COLUMNS > 4
#define DEPTHWISE_COLUMNS 8
#elif !defined(DEPTHWISE_COLUMNS)
#define DEPTHWISE_COLUMNS 4
#endif

/* units from `at` on of a tap at x, of whose channels each has `multiplier` units */
static __attribute__((noinline)) V repeated_channels(const REAL *x, int64_t multiplier, int64_t at, int32_t lanes) {
    REAL lane[16] = {0};
    for (int32_t i = 0; i < lanes; i++) {
        lane[i] = x[(at + i) / multiplier];
    }
    return v_load(lane);
}

/* `lanes` units from `at` on of `columns` outputs from `first` on. Constants after inlining: columns, lanes where they
   are 16, the multiplier where it is 1, and whether neighbours share the inputs of three taps. */
static inline __attribute__((always_inline)) void
depthwise_tile(const REAL *weight, const REAL *bias, const CylWindows *windows, const int64_t multiplier, int64_t first,
               REAL *y, int64_t y_stride, int64_t units, int64_t at, CylActivation id, const int32_t lanes,
               const bool is_shared, const int columns) {
    const int64_t stride = windows->stride, tap_stride = windows->tap_stride;
    const V start = load_lanes(bias + at, lanes);
    V sum[DEPTHWISE_COLUMNS];
    weight += at;
    UNROLLED for (int c = 0; c < columns; c++) { sum[c] = start; }
    for (int32_t i = 0; i < windows->kernel_rows; i++) {
        const REAL *x = (const REAL *)windows->rows[i] + first * stride;
        if (is_shared) {
            const V w0 = load_lanes(weight, lanes), w1 = load_lanes(weight + units, lanes);
            const V w2 = load_lanes(weight + 2 * units, lanes);
            UNROLLED for (int c = 0; c < columns + 2; c++) {
                const V a = v_kept(load_lanes(x + c * stride + at, lanes));
                if (c >= 2) {
                    sum[c - 2] = v_fma(w2, a, sum[c - 2]);
                }
                if (c >= 1 && c <= columns) {
                    sum[c - 1] = v_fma(w1, a, sum[c - 1]);
                }
                if (c < columns) {
                    sum[c] = v_fma(w0, a, sum[c]);
                }
            }
            weight += 3 * units;
            continue;
        }
        for (int32_t j = 0; j < windows->kernel_columns; j++, x += tap_stride, weight += units) {
            const V w = load_lanes(weight, lanes);
            UNROLLED for (int c = 0; c < columns; c++) {
                const V a = multiplier == 1 ? load_lanes(x + c * stride + at, lanes)
                                            : repeated_channels(x + c * stride, multiplier, at, lanes);
                sum[c] = v_fma(w, a, sum[c]);
            }
        }
    }
    y += first * y_stride + at;
    if (id == CYL_ACT_RELU) {
        UNROLLED for (int c = 0; c < columns; c++) { sum[c] = v_relu_flushed(sum[c]); }
    }
    if (id == CYL_ACT_LINEAR) {
        UNROLLED for (int c = 0; c < columns; c++) { sum[c] = v_flush(sum[c]); }
    }
    UNROLLED for (int c = 0; c < columns; c++) { store_lanes(y + c * y_stride, sum[c], lanes); }
}

/* all n outputs, in tiles of which the last overlaps where n is no multiple */
static inline __attribute__((always_inline)) void depthwise_span(const REAL *weight, const REAL *bias,
                                                                 const CylWindows *windows, const int64_t multiplier,
                                                                 int64_t n, REAL *y, int64_t y_stride, int64_t units,
                                                                 int64_t at, CylActivation id, const int32_t lanes,
                                                                 const bool is_shared, const int columns) {
    for (int64_t first = 0; first < n; first += columns) {
        const int64_t from = first + columns > n ? n - columns : first;
        depthwise_tile(weight, bias, windows, multiplier, from, y, y_stride, units, at, id, lanes, is_shared, columns);
    }
}

/*
 * Depthwise convolution at n outputs side by side: y[o][u] = activation(bias[u] + sum over taps (i, j), ascending, of
 * weight[i*kernel_columns + j][u] * x[tap (i, j) of output o][u / multiplier]), one fused multiply-add each; a softmax
 * is left to be taken
 */
static void depthwise(const CylActivationSpec *spec, const void *weight, const void *bias, const CylWindows *windows,
                      int64_t multiplier, int64_t n, void *y_data, int64_t y_stride, int64_t units) {
    REAL *y = y_data;
    const CylActivation id = spec->id;
    const bool is_shared = windows->kernel_columns == 3 && windows->tap_stride == windows->stride;
    EACH_SPAN(units) {
        if (n < DEPTHWISE_COLUMNS / 2) {
            depthwise_span(weight, bias, windows, multiplier, n, y, y_stride, units, at, id, (int32_t)lanes, false, 1);
        } else if (n < DEPTHWISE_COLUMNS) {
            depthwise_span(weight, bias, windows, multiplier, n, y, y_stride, units, at, id, (int32_t)lanes, false,
                           DEPTHWISE_COLUMNS / 2);
        } else if (multiplier != 1 || lanes != 16) {
            depthwise_span(weight, bias, windows, multiplier, n, y, y_stride, units, at, id, (int32_t)lanes, false,
                           DEPTHWISE_COLUMNS);
        } else if (is_shared) {
            depthwise_span(weight, bias, windows, 1, n, y, y_stride, units, at, id, 16, true, DEPTHWISE_COLUMNS);
        } else {
            depthwise_span(weight, bias, windows, 1, n, y, y_stride, units, at, id, 16, false, DEPTHWISE_COLUMNS);
        }
        for (int64_t o = 0; o < n && id != CYL_ACT_SOFTMAX && id != CYL_ACT_RELU && id != CYL_ACT_LINEAR; o++) {
            activate(spec, y + o * y_stride + at, y + o * y_stride + at, lanes, true);
        }
    }
}
#undef DEPTHWISE_COLUMNS

/* `lanes` maxima from `at` on of n windows; the lanes are constant after inlining where they are 16, the sizes of the
   windows where they are usual */
static inline __attribute__((always_inline)) void largest_span(const CylWindows *windows, int64_t n, REAL *y,
                                                               int64_t size, int64_t at, const int32_t lanes,
                                                               const int32_t rows, const int32_t columns) {
    const int64_t stride = windows->stride, tap_stride = windows->tap_stride;
    for (int64_t o = 0; o < n; o++) {
        V most = load_lanes((const REAL *)windows->rows[0] + o * stride + at, lanes);
        UNROLLED for (int32_t i = 0; i < rows; i++) {
            const REAL *x = (const REAL *)windows->rows[i] + o * stride + at;
            UNROLLED for (int32_t j = i == 0; j < columns; j++) {
                most = v_larger(load_lanes(x + j * tap_stride, lanes), most);
            }
        }
        store_lanes(y + o * size + at, v_flush(most), lanes);
    }
}

/* the maxima of n windows, of `size` numbers each */
static void largest(const CylWindows *windows, int64_t n, void *y_data, int64_t size) {
    REAL *y = y_data;
    const int32_t rows = windows->kernel_rows, columns = windows->kernel_columns;
    EACH_SPAN(size) {
        if (lanes != 16) {
            largest_span(windows, n, y, size, at, (int32_t)lanes, rows, columns);
        } else if (rows == 1 && columns == 2) {
            largest_span(windows, n, y, size, at, 16, 1, 2);
        } else if (rows == 2 && columns == 2) {
            largest_span(windows, n, y, size, at, 16, 2, 2);
        } else {
            largest_span(windows, n, y, size, at, 16, rows, columns);
        }
    }
}

/* sum of a * b */
static double dot(const void *a_data, const void *b_data, int64_t size) {
    const REAL *a = a_data, *b = b_data;
    V sum = v_zero();
    EACH_SPAN(size) { sum = v_fma(load_lanes(a + at, (int32_t)lanes), load_lanes(b + at, (int32_t)lanes), sum); }
    return (double)sum_lanes(sum);
}

/* sum of scale * tanh(factor * (a + b)); the scale of one number with step 0 */
static double additive(const void *a_data, const void *b_data, const void *scale_data, int step, double factor,
                       int64_t size) {
    const REAL *a = a_data, *b = b_data, *scale = scale_data;
    V sum = v_zero();
    EACH_SPAN(size) {
        V c = v_mul(v_set1((REAL)factor),
                    v_guard(v_add(load_lanes(a + at, (int32_t)lanes), load_lanes(b + at, (int32_t)lanes))));
        V s = step ? load_lanes(scale + at, (int32_t)lanes) : load_lanes_of(scale[0], (int32_t)lanes);
        sum = v_fma(s, v_flush(v_tanh(c)), sum);
    }
    return (double)sum_lanes(sum);
}

/* y = y + weight * x */
static void add_scaled(const void *x_data, double weight, void *y_data, int64_t size) {
    const REAL *x = x_data;
    REAL *y = y_data;
    V w = v_set1((REAL)weight);
    EACH_SPAN(size) {
        V sum = v_fma(w, load_lanes(x + at, (int32_t)lanes), load_lanes(y + at, (int32_t)lanes));
        store_lanes(y + at, v_flush(sum), (int32_t)lanes);
    }
}
