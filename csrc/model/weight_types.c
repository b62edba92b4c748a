/*
 * How the weights of a matrix are stored: each type's packing and unpacking. Rounding is done here in integers, so that
 * every machine packs the same bits; widening, in kernels too, is exact.
 */
#include "model/weight_types.h"
#include "platform/ieee.h"

#include <math.h>
#include <string.h>

static float flushed(float x) { return fabsf(x) < CYL_TINY ? 0.0f : x; } /* the subnormal rule */

static CylStatus pack_real(size_t real_size, void *packed, int64_t stride, const void *source, int64_t count) {
    if (real_size == sizeof(double)) {
        for (int64_t j = 0; j < count; j++) {
            ((double *)packed)[j * stride] = ((const double *)source)[j];
        }
    } else {
        for (int64_t j = 0; j < count; j++) {
            ((float *)packed)[j * stride] = flushed(((const float *)source)[j]);
        }
    }
    return CYL_OK;
}

static void unpack_real(size_t real_size, const void *packed, int64_t stride, void *target, int64_t count) {
    if (real_size == sizeof(double)) {
        for (int64_t j = 0; j < count; j++) {
            ((double *)target)[j] = ((const double *)packed)[j * stride];
        }
    } else {
        for (int64_t j = 0; j < count; j++) {
            ((float *)target)[j] = ((const float *)packed)[j * stride];
        }
    }
}

/* ---- float16, of real numbers in float: a sign, 5 bits of exponent, 10 of fraction ---- */

#define FLOAT_INFINITY 0x7f800000u
#define HALF_INFINITY 0x7c00u
/* as bits of float: 2^-14, the least normal number of float16, and 2^-25, half of its least number */
#define LEAST_NORMAL (113u << 23)
#define HALF_OF_LEAST (102u << 23)

/* Rounded to nearest even. What rounds to 0 becomes +0, so that packing what was unpacked changes nothing; beyond the
   largest number it becomes infinity. */
static uint16_t round_to_half(float x) {
    uint32_t bits, half;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > FLOAT_INFINITY) { /* the payload's first bits, quiet */
        return (uint16_t)(sign | HALF_INFINITY | 0x200u | (bits >> 13 & 0x1ffu));
    }
    if (bits <= HALF_OF_LEAST) {
        return 0;
    }
    /* the bits to keep, and how many go */
    uint32_t shift = 13;
    if (bits >= LEAST_NORMAL) {
        bits -= LEAST_NORMAL - (1u << 23);
    } else {
        shift = 126 - (bits >> 23);
        bits = (bits & 0x007fffffu) | 0x00800000u;
    }
    half = bits >> shift;
    uint32_t rest = bits & ((1u << shift) - 1), middle = 1u << (shift - 1);
    half += rest > middle || (rest == middle && (half & 1u));
    return (uint16_t)(sign | (half < HALF_INFINITY ? half : HALF_INFINITY));
}

static float widen_half(uint16_t half) {
    uint32_t bits = (half & 0x7fffu) << 13;
    if (bits >= 31u << 23) {
        bits += 224u << 23; /* infinity and NaN */
    } else if (bits >= 1u << 23) {
        bits += 112u << 23;
    } else { /* exact, and +0 for 0 in every rounding mode */
        const float x = (float)(half & 0x3ffu) * 0x1p-24f;
        memcpy(&bits, &x, sizeof bits);
    }
    bits |= (half & 0x8000u) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static CylStatus pack_float16(size_t real_size, void *packed, int64_t stride, const void *source, int64_t count) {
    (void)real_size;
    CylStatus status = CYL_OK;
    for (int64_t j = 0; j < count; j++) {
        float number = ((const float *)source)[j];
        uint16_t half = round_to_half(number);
        if ((half & 0x7fffu) == HALF_INFINITY && !isinf(number)) {
            status = CYL_E_RANGE;
        }
        ((uint16_t *)packed)[j * stride] = half;
    }
    return status;
}

static void unpack_float16(size_t real_size, const void *packed, int64_t stride, void *target, int64_t count) {
    (void)real_size;
    for (int64_t j = 0; j < count; j++) {
        ((float *)target)[j] = widen_half(((const uint16_t *)packed)[j * stride]);
    }
}

const CylWeightFormat cyl_weight_formats[CYL_WEIGHTS_COUNT] = {
    [CYL_WEIGHTS_REAL] = {"float32", 0, pack_real, unpack_real},
    [CYL_WEIGHTS_FLOAT16] = {"float16", sizeof(uint16_t), pack_float16, unpack_float16},
};

const char *cyl_weight_type_name(CylWeightType type, size_t real_size) {
    return type == CYL_WEIGHTS_REAL && real_size == sizeof(double) ? "float64" : cyl_weight_formats[type].name;
}

int cyl_weight_type_from_name(const char *name, size_t real_size) {
    for (int type = 0; type < CYL_WEIGHTS_COUNT; type++) {
        if (!name || strcmp(name, cyl_weight_type_name((CylWeightType)type, real_size)) == 0) {
            return type;
        }
    }
    return -1;
}
