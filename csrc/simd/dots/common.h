/* What the headers of whole-number sums share; see scalar.h. */
#ifndef CYL_DOTS_COMMON_H
#define CYL_DOTS_COMMON_H

#include "model/weight_types.h"

#include <math.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* digits of one column of a product: of 16 bits, or the low bytes and behind them the high ones */
#define DOT_HIGH CYL_INT8_PIECE
#define DOT_BYTES (2 * CYL_INT8_PIECE)

#define DOT_INLINE static inline __attribute__((always_inline))
#define EACH_ROW for (int row_ = 0; row_ < 16; row_++)

static inline uint32_t magnitude_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* the nearest whole number, ties to even, for |x| < 2^22 */
static inline int32_t nearest(float x) {
    const float shifted = x + 12582912.0f; /* 1.5*2^23 leaves no bits for a fraction */
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

/* 4 numbers of 8 bits, or 2 of 16, as they lie */
static inline int32_t load_32(const uint8_t *p) {
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}
static inline int64_t load_64(const uint8_t *p) {
    int64_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits;
}

#endif
