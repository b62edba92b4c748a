/*
 * Whole-number sums on 64-bit ARM with dot products of bytes with a sign. A number of 16 bits is 256*high + low + 128,
 * both with a sign, so the sums of low bytes start at 128 * (sum of the row's weights). The meaning is in scalar.h.
 */
#ifndef CYL_DOTS_NEON_DOT_H
#define CYL_DOTS_NEON_DOT_H

#include "simd/dots/neon.h"

typedef I_neon I_neon_dot;

#define DOT_COLUMNS_neon_dot 1
#define DOT_WIDE_COLUMNS_neon_dot 1

static inline I_neon_dot i_start_neon_dot(const float *sums, bool is_wide) {
    if (!is_wide) {
        return i_start_neon(sums, is_wide);
    }
#define START(at) vshlq_n_s32(vcvtq_s32_f32(vld1q_f32(sums + (at))), 7)
    return (I_neon_dot){START(0), START(4), START(8), START(12)};
#undef START
}
static inline V i_real_neon_dot(I_neon_dot x) { return i_real_neon(x); }
static inline uint32_t dot_largest_neon_dot(const float *x, int32_t count) { return dot_largest_neon(x, count); }

static inline void dot_round_neon_dot(const float *x, int32_t count, float factor, bool is_wide, uint8_t *digits) {
    for (int32_t k = 0; k < (count + 15) / 16 * 16; k += 8) {
        const int16x8_t numbers = k < count ? round_8_neon(x + k, count - k, factor) : vdupq_n_s16(0);
        if (!is_wide) {
            vst1_s8((int8_t *)digits + k, vmovn_s16(numbers));
            continue;
        }
        const uint8x8_t low = veor_u8(vreinterpret_u8_s8(vmovn_s16(numbers)), vdup_n_u8(0x80));
        vst1_u8(digits + k, low);
        vst1_s8((int8_t *)digits + DOT_HIGH + k, vshrn_n_s16(numbers, 8));
    }
}

/* by hand: the set is compiled without dot products */
#define ADD_DOTS(sum, weights, x)                                                                                      \
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(weights), "w"(x))
#define ADD_DOTS_LANE(sum, weights, x, lane)                                                                           \
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sum) : "w"(weights), "w"(x))
/* all four registers of a quad, so that the compiler pairs their loads */
#define ADD_QUAD_LANE(s, quad, x, lane)                                                                                \
    __asm__(".arch armv8.2-a+dotprod\n"                                                                                \
            "\tsdot %0.4s, %4.16b, %8.4b[" #lane "]\n"                                                                 \
            "\tsdot %1.4s, %5.16b, %8.4b[" #lane "]\n"                                                                 \
            "\tsdot %2.4s, %6.16b, %8.4b[" #lane "]\n"                                                                 \
            "\tsdot %3.4s, %7.16b, %8.4b[" #lane "]"                                                                   \
            : "+&w"((s).a), "+&w"((s).b), "+&w"((s).c), "+&w"((s).d)                                                   \
            : "w"((quad).rows[0]), "w"((quad).rows[1]), "w"((quad).rows[2]), "w"((quad).rows[3]), "w"(x))

#define EACH_QUARTER(each) each(a, 0) each(b, 1) each(c, 2) each(d, 3)

DOT_INLINE void narrow_sums_neon_dot(const int8_t *w, const uint8_t *digits, int32_t quads, I_neon_dot *sums,
                                     const int vectors) {
    int32_t k = 0;
    for (; k + 4 <= quads; k += 4, w += vectors * 256, digits += 16) {
        const int8x16_t x = vld1q_s8((const int8_t *)digits);
#define ADD_QUAD(lane)                                                                                                 \
    UNROLLED for (int v = 0; v < vectors; v++) {                                                                       \
        const Quad_neon quad = load_quad_neon(w + (lane * vectors + v) * 64);                                          \
        ADD_QUAD_LANE(sums[v], quad, x, lane);                                                                         \
    }
        ADD_QUAD(0)
        ADD_QUAD(1)
        ADD_QUAD(2)
        ADD_QUAD(3)
#undef ADD_QUAD
    }
    for (; k < quads; k++, w += vectors * 64, digits += 4) {
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(load_32(digits)));
        UNROLLED for (int v = 0; v < vectors; v++) {
            const Quad_neon quad = load_quad_neon(w + v * 64);
#define ADD_QUARTER(part, at) ADD_DOTS(sums[v].part, quad.rows[at], x);
            EACH_QUARTER(ADD_QUARTER)
#undef ADD_QUARTER
        }
    }
}

DOT_INLINE void wide_sums_neon_dot(const int8_t *first, const uint8_t *numbers, int32_t quads, I_neon_dot *sums,
                                   const int vectors) {
    UNROLLED for (int v0 = 0; v0 < vectors; v0 += 2) {
        const int taken = vectors - v0 < 2 ? vectors - v0 : 2;
        const int8_t *w = first + v0 * 64;
        const uint8_t *digits = numbers;
        I_neon_dot low[2], high[2];
        UNROLLED for (int v = 0; v < taken; v++) { low[v] = high[v] = i_start_neon(NULL, false); }
        int32_t k = 0;
        for (; k + 4 <= quads; k += 4, w += vectors * 256, digits += 16) {
            const int8x16_t x = vld1q_s8((const int8_t *)digits), y = vld1q_s8((const int8_t *)digits + DOT_HIGH);
#define ADD_QUARTER(part, at, lane)                                                                                    \
    {                                                                                                                  \
        ADD_DOTS_LANE(low[v].part, quad.rows[at], x, lane);                                                            \
        ADD_DOTS_LANE(high[v].part, quad.rows[at], y, lane);                                                           \
    }
#define ADD_QUAD(lane)                                                                                                 \
    UNROLLED for (int v = 0; v < taken; v++) {                                                                         \
        const Quad_neon quad = load_quad_neon(w + (lane * vectors + v) * 64);                                          \
        ADD_QUARTER(a, 0, lane) ADD_QUARTER(b, 1, lane) ADD_QUARTER(c, 2, lane) ADD_QUARTER(d, 3, lane)                \
    }
            ADD_QUAD(0)
            ADD_QUAD(1)
            ADD_QUAD(2)
            ADD_QUAD(3)
#undef ADD_QUAD
#undef ADD_QUARTER
        }
        for (; k < quads; k++, w += vectors * 64, digits += 4) {
            const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(load_32(digits)));
            const int8x16_t y = vreinterpretq_s8_s32(vdupq_n_s32(load_32(digits + DOT_HIGH)));
            UNROLLED for (int v = 0; v < taken; v++) {
                const Quad_neon quad = load_quad_neon(w + v * 64);
#define ADD_QUARTER(part, at)                                                                                          \
    {                                                                                                                  \
        ADD_DOTS(low[v].part, quad.rows[at], x);                                                                       \
        ADD_DOTS(high[v].part, quad.rows[at], y);                                                                      \
    }
                EACH_QUARTER(ADD_QUARTER)
#undef ADD_QUARTER
            }
        }
        UNROLLED for (int v = 0; v < taken; v++) {
            I_neon_dot *s = &sums[v0 + v];
#define ADD_QUARTER(part, at) s->part = vaddq_s32(s->part, vaddq_s32(low[v].part, vshlq_n_s32(high[v].part, 8)));
            EACH_QUARTER(ADD_QUARTER)
#undef ADD_QUARTER
        }
    }
}

#undef ADD_DOTS
#undef ADD_DOTS_LANE
#undef ADD_QUAD_LANE
#undef EACH_QUARTER

DOT_INLINE void dot_sums_neon_dot(const int8_t *w, const uint8_t *digits, int32_t quads, I_neon_dot (*sums)[4],
                                  const int vectors, const int columns, const bool is_wide) {
    for (int c = 0; c < columns; c++) {
        if (is_wide) {
            wide_sums_neon_dot(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        } else {
            narrow_sums_neon_dot(w, digits + c * DOT_BYTES, quads, sums[c], vectors);
        }
    }
}

#endif
