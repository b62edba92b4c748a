/* Whole-number sums on NEON without dot products; the meaning is in scalar.h. */
#ifndef CYL_DOTS_NEON_H
#define CYL_DOTS_NEON_H

#include "simd/dots/common.h"

typedef struct {
    int32x4_t a, b, c, d;
} I_neon;

#define DOT_COLUMNS_neon 1
#define DOT_WIDE_COLUMNS_neon 1

static inline I_neon i_start_neon(const float *sums, bool is_wide) {
    (void)sums, (void)is_wide;
    const int32x4_t zero = vdupq_n_s32(0);
    return (I_neon){zero, zero, zero, zero};
}
static inline V i_real_neon(I_neon x) {
    return (V){vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}

static inline uint32_t dot_largest_neon(const float *x, int32_t count) {
    uint32x4_t largest = vdupq_n_u32(0);
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + k));
        largest = vmaxq_u32(largest, vandq_u32(vdupq_n_u32(0x7fffffff), bits));
    }
    uint32_t lane[4], found = 0;
    vst1q_u32(lane, largest);
    for (int j = 0; j < 4; j++) {
        found = lane[j] > found ? lane[j] : found;
    }
    for (; k < count; k++) {
        const uint32_t bits = magnitude_bits(x[k]);
        found = bits > found ? bits : found;
    }
    return found;
}

/* 8 numbers of 16 bits; rounded by adding 1.5*2^23, because 32-bit ARM has no such conversion */
static inline int16x8_t round_8_neon(const float *x, int32_t count, float factor) {
    float few[8] = {0};
    if (count < 8) {
        memcpy(few, x, (size_t)count * sizeof(float));
        x = few;
    }
    const float32x4_t magic = vdupq_n_f32(12582912.0f);
    const int32x4_t bits = vdupq_n_s32(0x4b400000);
    const float32x4_t low = vaddq_f32(vmulq_n_f32(vld1q_f32(x), factor), magic);
    const float32x4_t high = vaddq_f32(vmulq_n_f32(vld1q_f32(x + 4), factor), magic);
    return vcombine_s16(vmovn_s32(vsubq_s32(vreinterpretq_s32_f32(low), bits)),
                        vmovn_s32(vsubq_s32(vreinterpretq_s32_f32(high), bits)));
}
static inline void dot_round_neon(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    for (int32_t k = 0; k < count; k += 8) {
        const int16x8_t numbers = round_8_neon(x + k, count - k, factor);
        if (is_wide) {
            vst1q_s16((int16_t *)(void *)digits + k, numbers);
        } else {
            vst1_s8((int8_t *)digits + k, vmovn_s16(numbers));
        }
    }
}

/* the sums of numbers that lie side by side */
static inline int32x4_t add_pairs_neon(int32x4_t x, int32x4_t y) {
#ifdef __aarch64__
    return vpaddq_s32(x, y);
#else
    return vcombine_s32(vpadd_s32(vget_low_s32(x), vget_high_s32(x)), vpadd_s32(vget_low_s32(y), vget_high_s32(y)));
#endif
}

/* four columns of four rows, in each of four registers: adjacent loads, which the compiler pairs */
typedef struct {
    int8x16_t rows[4];
} Quad_neon;
DOT_INLINE Quad_neon load_quad_neon(const int8_t *w) {
    return (Quad_neon){{vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)}};
}

/* the same four numbers for each row; the upper half of a register is multiplied as it is only on 64 bits */
#ifdef __aarch64__
#define MULTIPLY_HIGH(w, x) vmull_high_s8(w, x)
#define ADD_HIGH(sum, w, x) vmlal_high_s8(sum, w, x)
#define ADD_HIGH_WIDE(sum, w, x) vmlal_high_s16(sum, w, x)
#define WIDEN_HIGH(w) vmovl_high_s8(w)
#define NARROW_VECTORS 2 /* whose sums stay in registers */
#else
#define MULTIPLY_HIGH(w, x) vmull_s8(vget_high_s8(w), vget_high_s8(x))
#define ADD_HIGH(sum, w, x) vmlal_s8(sum, vget_high_s8(w), vget_high_s8(x))
#define ADD_HIGH_WIDE(sum, w, x) vmlal_s16(sum, vget_high_s16(w), vget_high_s16(x))
#define WIDEN_HIGH(w) vmovl_s8(vget_high_s8(w))
#define NARROW_VECTORS 1
#endif
static inline int8x16_t spread_neon(const uint8_t *p) { return vreinterpretq_s8_s32(vdupq_n_s32(load_32(p))); }

/* two quads of a row in one product of 16 bits, at most 2*127*127; two sums for each row of one or two vectors */
DOT_INLINE void narrow_sums_neon(const int8_t *first, const uint8_t *numbers, int32_t quads, I_neon *s,
                                 const int vectors, const int taken) {
    int32x4_t sum[8 * NARROW_VECTORS];
    UNROLLED for (int j = 0; j < 8 * taken; j++) { sum[j] = vdupq_n_s32(0); }
    const int8_t *w = first;
    const uint8_t *digits = numbers;
    int32_t k = 0;
    for (; k + 2 <= quads; k += 2, w += vectors * 128, digits += 8) {
        const int8x16_t x = spread_neon(digits), y = spread_neon(digits + 4);
        UNROLLED for (int v = 0; v < taken; v++) {
            const Quad_neon one = load_quad_neon(w + v * 64), two = load_quad_neon(w + (vectors + v) * 64);
            UNROLLED for (int j = 0; j < 4; j++) {
                const int8x16_t rows = one.rows[j], next = two.rows[j];
                int32x4_t *both = &sum[8 * v + 2 * j];
                const int16x8_t low = vmull_s8(vget_low_s8(rows), vget_low_s8(x));
                both[0] = vpadalq_s16(both[0], vmlal_s8(low, vget_low_s8(next), vget_low_s8(y)));
                both[1] = vpadalq_s16(both[1], ADD_HIGH(MULTIPLY_HIGH(rows, x), next, y));
            }
        }
    }
    if (k < quads) {
        const int8x16_t x = spread_neon(digits);
        UNROLLED for (int v = 0; v < taken; v++) {
            const Quad_neon one = load_quad_neon(w + v * 64);
            UNROLLED for (int j = 0; j < 4; j++) {
                int32x4_t *both = &sum[8 * v + 2 * j];
                both[0] = vpadalq_s16(both[0], vmull_s8(vget_low_s8(one.rows[j]), vget_low_s8(x)));
                both[1] = vpadalq_s16(both[1], MULTIPLY_HIGH(one.rows[j], x));
            }
        }
    }
    UNROLLED for (int v = 0; v < taken; v++) {
        s[v].a = vaddq_s32(s[v].a, add_pairs_neon(sum[8 * v], sum[8 * v + 1]));
        s[v].b = vaddq_s32(s[v].b, add_pairs_neon(sum[8 * v + 2], sum[8 * v + 3]));
        s[v].c = vaddq_s32(s[v].c, add_pairs_neon(sum[8 * v + 4], sum[8 * v + 5]));
        s[v].d = vaddq_s32(s[v].d, add_pairs_neon(sum[8 * v + 6], sum[8 * v + 7]));
    }
}

/* four columns of a row in one register: 16 rows have four sums each */
DOT_INLINE void wide_sums_neon(const int8_t *first, const uint8_t *numbers, int32_t quads, I_neon *s,
                               const int vectors) {
    int32x4_t sum[16];
    _Pragma("GCC unroll 16") for (int j = 0; j < 16; j++) { sum[j] = vdupq_n_s32(0); }
    const int8_t *w = first;
    const uint8_t *digits = numbers;
    for (int32_t k = 0; k < quads; k++, w += vectors * 64, digits += 8) {
        const int16x4_t half = vld1_s16((const int16_t *)(const void *)digits);
        const int16x8_t x = vcombine_s16(half, half);
        const Quad_neon quad = load_quad_neon(w);
        UNROLLED for (int j = 0; j < 4; j++) {
            const int8x16_t rows = quad.rows[j];
            const int16x8_t low = vmovl_s8(vget_low_s8(rows)), high = WIDEN_HIGH(rows);
            sum[4 * j] = vmlal_s16(sum[4 * j], vget_low_s16(low), half);
            sum[4 * j + 1] = ADD_HIGH_WIDE(sum[4 * j + 1], low, x);
            sum[4 * j + 2] = vmlal_s16(sum[4 * j + 2], vget_low_s16(high), half);
            sum[4 * j + 3] = ADD_HIGH_WIDE(sum[4 * j + 3], high, x);
        }
    }
#define ADD_ROWS(part, j)                                                                                              \
    s->part = vaddq_s32(s->part,                                                                                       \
                        add_pairs_neon(add_pairs_neon(sum[j], sum[j + 1]), add_pairs_neon(sum[j + 2], sum[j + 3])));
    ADD_ROWS(a, 0)
    ADD_ROWS(b, 4)
    ADD_ROWS(c, 8)
    ADD_ROWS(d, 12)
#undef ADD_ROWS
}
#undef MULTIPLY_HIGH
#undef ADD_HIGH
#undef ADD_HIGH_WIDE
#undef WIDEN_HIGH

DOT_INLINE void dot_sums_neon(const int8_t *w, const uint8_t *digits, int32_t quads, I_neon (*sums)[4],
                              const int vectors, const int columns, const bool is_wide) {
    for (int c = 0; c < columns; c++) {
        const uint8_t *numbers = digits + c * DOT_BYTES;
        if (is_wide) {
            UNROLLED for (int v = 0; v < vectors; v++) {
                wide_sums_neon(w + v * 64, numbers, quads, &sums[c][v], vectors);
            }
        } else {
            UNROLLED for (int v = 0; v < vectors; v += NARROW_VECTORS) {
                const int taken = vectors - v < NARROW_VECTORS ? vectors - v : NARROW_VECTORS;
                narrow_sums_neon(w + v * 64, numbers, quads, &sums[c][v], vectors, taken);
            }
        }
    }
}

#undef NARROW_VECTORS
#endif
