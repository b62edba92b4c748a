/*
 * Whole-number sums of a product with int8 weights, on any machine; the meaning that the other headers here share.
 *
 * I holds 16 sums of 32 bits, which wrap around: a sum that comes out right may overflow on the way. Weights are
 * [quad of columns][vector][16 rows][4 columns]. The activations of one column of the product are `digits`, in
 * an order of each header's own: DOT_BYTES for CYL_INT8_PIECE of them, whole numbers of 8 bits or, where the product
 * is wide, of 16. A header whose digits have an offset (digit = number + offset) starts its sums at
 * -offset * (sum of the row's weights).
 */
#ifndef CYL_DOTS_SCALAR_H
#define CYL_DOTS_SCALAR_H

#include "simd/dots/common.h"

typedef struct {
    int32_t lane[16];
} I_scalar;

/* columns of the product that one tile takes, with digits of 8 and of 16 bits */
#define DOT_COLUMNS_scalar 1
#define DOT_WIDE_COLUMNS_scalar 1

static inline I_scalar i_start_scalar(const float *sums, bool is_wide) {
    (void)sums, (void)is_wide;
    return (I_scalar){{0}};
}

static inline V i_real_scalar(I_scalar a) {
    float lane[16];
    EACH_ROW { lane[row_] = (float)a.lane[row_]; }
    return v_load(lane);
}

/* the largest |x[k]|, as the bits of a float: above those of infinity if there is a NaN */
static inline uint32_t dot_largest_scalar(const float *x, int32_t count) {
    uint32_t largest = 0;
    for (int32_t k = 0; k < count; k++) {
        const uint32_t bits = magnitude_bits(x[k]);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* digits of x[k]*factor, rounded to the nearest whole number, ties to even; 0 up to a multiple of 16 */
static inline void dot_round_scalar(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    for (int32_t k = 0; k < (count + 15) / 16 * 16; k++) {
        const int16_t number = k < count ? (int16_t)nearest(x[k] * factor) : 0;
        if (is_wide) {
            memcpy(digits + 2 * k, &number, sizeof number);
        } else {
            digits[k] = (uint8_t)(int8_t)number;
        }
    }
}

/* sums[c][v] += the weights of `quads` quads times the digits of column c */
static void dot_sums_scalar(const int8_t *w, const uint8_t *digits, int32_t quads, I_scalar (*sums)[4],
                            const int vectors, const int columns, const bool is_wide) {
    for (int c = 0; c < columns; c++, digits += DOT_BYTES) {
        const int8_t *row = w;
        for (int32_t k = 0; k < 4 * quads; k += 4) {
            for (int v = 0; v < vectors; v++) {
                EACH_ROW {
                    for (int j = 0; j < 4; j++) {
                        int16_t number = (int8_t)digits[k + j];
                        if (is_wide) {
                            memcpy(&number, digits + 2 * (k + j), sizeof number);
                        }
                        sums[c][v].lane[row_] += *row++ * number;
                    }
                }
            }
        }
    }
}

#endif
