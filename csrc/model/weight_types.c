/*
 * How the weights of a matrix are stored: each type's packing and unpacking. Rounding is done here in integers, so that
 * every machine packs the same bits; widening, in kernels too, is exact.
 */
#include "model/weight_types.h"
#include "platform/ieee.h"

#include <math.h>
#include <string.h>

static float flushed(float x) { return fabsf(x) < CYL_TINY ? 0.0f : x; } /* the subnormal rule */

static CylStatus pack_real(size_t real_size, const CylPackedRow *row, const void *source, int64_t count) {
    if (real_size == sizeof(double)) {
        for (int64_t j = 0; j < count; j++) {
            ((double *)row->numbers)[(row->first + j) * row->stride] = ((const double *)source)[j];
        }
    } else {
        for (int64_t j = 0; j < count; j++) {
            ((float *)row->numbers)[(row->first + j) * row->stride] = flushed(((const float *)source)[j]);
        }
    }
    return CYL_OK;
}

static void unpack_real(size_t real_size, const CylPackedRow *row, void *target, int64_t count) {
    if (real_size == sizeof(double)) {
        for (int64_t j = 0; j < count; j++) {
            ((double *)target)[j] = ((const double *)row->numbers)[(row->first + j) * row->stride];
        }
    } else {
        for (int64_t j = 0; j < count; j++) {
            ((float *)target)[j] = ((const float *)row->numbers)[(row->first + j) * row->stride];
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

static CylStatus pack_float16(size_t real_size, const CylPackedRow *row, const void *source, int64_t count) {
    (void)real_size;
    CylStatus status = CYL_OK;
    for (int64_t j = 0; j < count; j++) {
        float number = ((const float *)source)[j];
        uint16_t half = round_to_half(number);
        if ((half & 0x7fffu) == HALF_INFINITY && !isinf(number)) {
            status = CYL_E_RANGE;
        }
        ((uint16_t *)row->numbers)[(row->first + j) * row->stride] = half;
    }
    return status;
}

static void unpack_float16(size_t real_size, const CylPackedRow *row, void *target, int64_t count) {
    (void)real_size;
    for (int64_t j = 0; j < count; j++) {
        ((float *)target)[j] = widen_half(((const uint16_t *)row->numbers)[(row->first + j) * row->stride]);
    }
}

/* ---- bfloat16, of real numbers in float: the first 16 bits of a float; pairs of columns lie side by side ---- */

enum { BFLOAT_COLUMNS = 2 };

/* Rounded to nearest even, and +0 by the subnormal rule; beyond the largest number it becomes infinity. */
static uint16_t round_to_bfloat(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > FLOAT_INFINITY) { /* the payload's first bits, quiet */
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    if (fabsf(x) < CYL_TINY) {
        return 0;
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static CylStatus pack_bfloat16(size_t real_size, const CylPackedRow *row, const void *source, int64_t count) {
    (void)real_size;
    CylStatus status = CYL_OK;
    for (int64_t j = 0; j < count; j++) {
        const float number = ((const float *)source)[j];
        const uint16_t rounded = round_to_bfloat(number);
        if ((rounded & 0x7fffu) == FLOAT_INFINITY >> 16 && !isinf(number)) {
            status = CYL_E_RANGE;
        }
        ((uint16_t *)row->numbers)[cyl_packed_place(BFLOAT_COLUMNS, row->stride, row->first + j)] = rounded;
    }
    return status;
}

static void unpack_bfloat16(size_t real_size, const CylPackedRow *row, void *target, int64_t count) {
    (void)real_size;
    for (int64_t j = 0; j < count; j++) {
        const uint32_t bits =
            (uint32_t)((const uint16_t *)row->numbers)[cyl_packed_place(BFLOAT_COLUMNS, row->stride, row->first + j)]
            << 16;
        memcpy((float *)target + j, &bits, sizeof bits);
    }
}

/*
 * ---- int8: whole numbers of -127..127 with a scale for each row; quads of columns lie side by side ----
 *
 * The scale is max |w| / 127, rounded up to 16 significant bits. So a number times the scale is exact in float, and
 * packing what was unpacked gives the same numbers and the same scale. A row whose scale would be below 2^-40 is 0.
 */

enum { INT8_COLUMNS = 4, INT8_MOST = 127, SCALE_BITS = 16 };

/* mantissa * 2^exponent */
typedef struct {
    uint64_t mantissa;
    int exponent;
} Parts;

/* of a finite number that the subnormal rule lets pass, without its sign */
static Parts parts_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (Parts){(bits & 0x007fffffu) | 0x00800000u, (int)(bits >> 23 & 0xffu) - 150};
}

static Parts scale_of(float largest) {
    Parts scale = parts_of(largest);
    scale.mantissa = ((scale.mantissa << 24) + INT8_MOST - 1) / INT8_MOST;
    scale.exponent -= 24;
    int shift = 0;
    while (scale.mantissa >> shift >= (uint64_t)1 << SCALE_BITS) {
        shift++;
    }
    scale.mantissa = (scale.mantissa + ((uint64_t)1 << shift) - 1) >> shift;
    scale.exponent += shift;
    return scale;
}

/* x / scale rounded to the nearest whole number, ties to even; x is at most 127 scales */
static int8_t whole_of(float x, Parts scale) {
    if (fabsf(x) < CYL_TINY) {
        return 0;
    }
    const Parts parts = parts_of(x);
    const int shift = parts.exponent - scale.exponent;
    uint64_t dividend = parts.mantissa, divisor = scale.mantissa;
    if (shift >= 0) {
        dividend <<= shift;
    } else if (shift > -32) {
        divisor <<= -shift;
    } else {
        return 0;
    }
    uint64_t whole = dividend / divisor;
    const uint64_t twice = dividend % divisor * 2;
    whole += twice > divisor || (twice == divisor && (whole & 1u));
    return (int8_t)(signbit(x) ? -(int)whole : (int)whole);
}

static CylStatus pack_int8(size_t real_size, const CylPackedRow *row, const void *source, int64_t count) {
    (void)real_size;
    const float *numbers = source;
    float largest = 0.0f;
    for (int64_t j = 0; j < count; j++) {
        if (!isfinite(numbers[j])) {
            return CYL_E_RANGE;
        }
        largest = fabsf(numbers[j]) > largest ? fabsf(numbers[j]) : largest;
    }
    Parts scale = {0, 0};
    *row->scale = 0.0f;
    if (largest >= CYL_TINY) {
        scale = scale_of(largest);
        *row->scale = ldexpf((float)scale.mantissa, scale.exponent);
    }
    const bool is_zero = *row->scale < CYL_TINY;
    *row->scale = is_zero ? 0.0f : *row->scale;
    for (int64_t first = 0; first < count; first += CYL_INT8_PIECE) {
        const int64_t end = count - first < CYL_INT8_PIECE ? count : first + CYL_INT8_PIECE;
        int32_t sum = 0;
        for (int64_t j = first; j < end; j++) {
            const int8_t whole = is_zero ? 0 : whole_of(numbers[j], scale);
            ((int8_t *)row->numbers)[cyl_packed_place(INT8_COLUMNS, row->stride, j)] = whole;
            sum += whole;
        }
        row->sums[first / CYL_INT8_PIECE * row->sums_stride] = (float)sum;
    }
    return CYL_OK;
}

static void unpack_int8(size_t real_size, const CylPackedRow *row, void *target, int64_t count) {
    (void)real_size;
    for (int64_t j = 0; j < count; j++) {
        const int8_t whole = ((const int8_t *)row->numbers)[cyl_packed_place(INT8_COLUMNS, row->stride, j)];
        ((float *)target)[j] = whole ? (float)whole * *row->scale : 0.0f;
    }
}

const CylWeightFormat cyl_weight_formats[CYL_WEIGHTS_COUNT] = {
    [CYL_WEIGHTS_REAL] = {"float32", 0, "float32", 1, false, pack_real, unpack_real},
    [CYL_WEIGHTS_FLOAT16] = {"float16", sizeof(uint16_t), "float16", 1, false, pack_float16, unpack_float16},
    [CYL_WEIGHTS_BFLOAT16] = {"bfloat16", sizeof(uint16_t), "bfloat16", BFLOAT_COLUMNS, false, pack_bfloat16,
                              unpack_bfloat16},
    [CYL_WEIGHTS_INT8A16] = {"int8a16", sizeof(int8_t), "int8", INT8_COLUMNS, true, pack_int8, unpack_int8},
    [CYL_WEIGHTS_INT8A8] = {"int8a8", sizeof(int8_t), "int8", INT8_COLUMNS, true, pack_int8, unpack_int8},
};

const char *cyl_weight_type_name(CylWeightType type, size_t real_size) {
    return type == CYL_WEIGHTS_REAL && real_size == sizeof(double) ? "float64" : cyl_weight_formats[type].name;
}

const char *cyl_weight_array_type(CylWeightType type, size_t real_size) {
    return type == CYL_WEIGHTS_REAL && real_size == sizeof(double) ? "float64" : cyl_weight_formats[type].array_type;
}

int cyl_weight_type_from_name(const char *name, size_t real_size) {
    for (int type = 0; type < CYL_WEIGHTS_COUNT; type++) {
        if (!name || strcmp(name, cyl_weight_type_name((CylWeightType)type, real_size)) == 0) {
            return type;
        }
    }
    return -1;
}
