/*
 * The logical vector on NEON, of 64-bit ARM and of 32-bit ARM with VFPv4 (for the fused multiply-add).
 *
 * On 32-bit ARM, NEON takes and gives +0 for a subnormal number in any mode. There the bits agree wherever no operand
 * and no result is subnormal, which the subnormal rule (CYL_TINY in platform/ieee.h) sees to in every layer; the one
 * exception is a caller's own subnormal number: an activation's alpha or beta, a clip's limit or a norm's shift that
 * small counts as 0 there. Division and square root, which NEON lacks there, are done one by one.
 */
#ifndef CYL_SIMD_H
#define CYL_SIMD_H

#include <arm_neon.h>
#include <stdint.h>

#define REAL float

typedef float32x4_t Q;
typedef uint32x4_t QM; /* all bits set where true */

#ifdef __aarch64__ /* 32 registers */
#define TILE_COLUMNS 3
#define TILE_VECTORS 2
/* full blocks of one column taken together */
#define GROUP_BLOCKS 1
/* GCC would call these functions, and a call on this machine preserves no whole vector register */
#define INLINED static inline __attribute__((always_inline))
#define HAVE_CLAMP
#else /* 16 registers */
#define TILE_COLUMNS 2
#define TILE_VECTORS 2
#define TILE_CHAINS 2 /* one column of two vectors, or two of one */
/* one column is a tile as well: its 16 chains would take all registers */
#define GROUP_BLOCKS 0
#endif

static inline Q q_set1(float x) { return vdupq_n_f32(x); }
static inline Q q_load(const float *p) { return vld1q_f32(p); }
#ifdef __aarch64__
static inline Q q_load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
#else /* not every compiler has the type float16_t there */
static inline Q q_load_half(const uint16_t *p) {
    const uint32x4_t half = vmovl_u16(vld1_u16(p));
    const uint32x4_t magnitude = vshlq_n_u32(vandq_u32(half, vdupq_n_u32(0x7fff)), 13);
    const uint32x4_t is_subnormal = vcltq_u32(magnitude, vdupq_n_u32(1u << 23));
    const uint32x4_t is_infinite = vcgeq_u32(magnitude, vdupq_n_u32(31u << 23));
    /* the bias: 112, 224 or, of what 2^-14 is subtracted from, 113 */
    uint32x4_t bits = vaddq_u32(magnitude, vdupq_n_u32(112u << 23));
    bits = vaddq_u32(bits, vandq_u32(is_infinite, vdupq_n_u32(112u << 23)));
    bits = vaddq_u32(bits, vandq_u32(is_subnormal, vdupq_n_u32(1u << 23)));
    const Q least = vreinterpretq_f32_u32(vandq_u32(is_subnormal, vreinterpretq_u32_f32(vdupq_n_f32(0x1p-14f))));
    const uint32x4_t sign = vshlq_n_u32(vandq_u32(half, vdupq_n_u32(0x8000)), 16);
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(vsubq_f32(vreinterpretq_f32_u32(bits), least)), sign));
}
#endif
static inline void q_load_bfloat_pair(const uint16_t *p, Q *first, Q *second) {
    const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(p));
    *first = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
    *second = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
}
static inline void q_store(float *p, Q x) { vst1q_f32(p, x); }
static inline Q q_add(Q x, Q y) { return vaddq_f32(x, y); }
static inline Q q_sub(Q x, Q y) { return vsubq_f32(x, y); }
static inline Q q_mul(Q x, Q y) { return vmulq_f32(x, y); }
static inline Q q_fma(Q x, Q y, Q z) { return vfmaq_f32(z, x, y); }
/* not vminq_f32 and vmaxq_f32, which give NaN if either is */
static inline Q q_min(Q x, Q y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
static inline Q q_max(Q x, Q y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
static inline Q q_abs(Q x) { return vabsq_f32(x); }
static inline Q q_copysign(Q x, Q y) { return vbslq_f32(vdupq_n_u32(0x80000000u), y, x); }
static inline Q q_scale(Q x, Q n) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vcvtq_s32_f32(n), 23)));
}
static inline QM q_less(Q x, Q y) { return vcltq_f32(x, y); }
static inline Q q_select(QM m, Q x, Q y) { return vbslq_f32(m, x, y); }
static inline Q q_zero_below(Q x, float least) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcagtq_f32(vdupq_n_f32(least), x)));
}
#ifdef __aarch64__
static inline Q q_div(Q x, Q y) { return vdivq_f32(x, y); }
static inline Q q_sqrt(Q x) { return vsqrtq_f32(x); }
#else
static inline Q q_div(Q x, Q y) { return (Q){x[0] / y[0], x[1] / y[1], x[2] / y[2], x[3] / y[3]}; }
static inline Q q_sqrt(Q x) {
    return (Q){__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
}
#endif

#include "quarters.h"

#ifdef __aarch64__
#define HAVE_LARGER
static inline V v_larger(V x, V y) {
    return (V){vmaxq_f32(x.a, y.a), vmaxq_f32(x.b, y.b), vmaxq_f32(x.c, y.c), vmaxq_f32(x.d, y.d)};
}
/* vminq_f32 and vmaxq_f32 choose otherwise between -0 and +0, which are not asked for here */
static inline Q q_clamp(Q x, Q low, Q high) { return vmaxq_f32(low, vminq_f32(high, x)); }
static inline V v_clamp(V x, float low, float high) {
    Q l = q_set1(low), h = q_set1(high);
    return (V){q_clamp(x.a, l, h), q_clamp(x.b, l, h), q_clamp(x.c, l, h), q_clamp(x.d, l, h)};
}

/* x in registers of this many numbers, by one of which a multiply-add multiplies: w*x[k] + z */
#define X_NUMBERS 4
typedef Q X;
static inline X x_load(const float *p) { return q_load(p); }
#define FMA_BY(k)                                                                                                      \
    case k:                                                                                                            \
        return (V){vfmaq_laneq_f32(z.a, w.a, x, k), vfmaq_laneq_f32(z.b, w.b, x, k), vfmaq_laneq_f32(z.c, w.c, x, k),  \
                   vfmaq_laneq_f32(z.d, w.d, x, k)};
static inline __attribute__((always_inline)) V v_fma_x(V w, X x, const int k, V z) {
    switch (k) {
        FMA_BY(0)
        FMA_BY(1)
        FMA_BY(2)
    default:
        FMA_BY(3)
    }
}
#undef FMA_BY
#endif

#endif
