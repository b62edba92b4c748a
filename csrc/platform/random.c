/*
 * Random numbers by counting: Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2,
 * 3", 2011), the words of 64 bits in the order in which numpy.random.Philox gives them, from counter 1 on.
 */
#include "cylstm.h"

#include <stdbool.h>

typedef struct {
    uint64_t words[4];
} Block;

static inline uint64_t multiply(uint64_t a, uint64_t b, uint64_t *high) {
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 Wide;
    const Wide product = (Wide)a * b;
    *high = (uint64_t)(product >> 64);
    return (uint64_t)product;
#else
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t low = a0 * b0, one = a1 * b0, other = a0 * b1;
    const uint64_t middle = (low >> 32) + (uint32_t)one + (uint32_t)other;
    *high = a1 * b1 + (one >> 32) + (other >> 32) + (middle >> 32);
    return a * b;
#endif
}

/* ten rounds, in each x0, x1, x2, x3 = high(M1*x2)^x1^k0, low(M1*x2), high(M0*x0)^x3^k1, low(M0*x0) */
static inline Block philox(uint64_t counter, uint64_t sample, uint64_t k0, uint64_t k1) {
    uint64_t x0 = counter, x1 = 0, x2 = sample, x3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t high0, high1;
        const uint64_t low0 = multiply(UINT64_C(0xD2E7470EE14C6C93), x0, &high0);
        const uint64_t low1 = multiply(UINT64_C(0xCA5A826395121157), x2, &high1);
        x0 = high1 ^ x1 ^ k0;
        x1 = low1;
        x2 = high0 ^ x3 ^ k1;
        x3 = low0;
        k0 += UINT64_C(0x9E3779B97F4A7C15);
        k1 += UINT64_C(0xBB67AE8584CAA73B);
    }
    return (Block){{x0, x1, x2, x3}};
}

void cyl_draw_words(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t *words) {
    for (int64_t at = 0; at < count; at += 8) {
        const Block block = philox((uint64_t)(at / 8) + 1, sample, seed, key);
        for (int64_t i = at; i < at + 8 && i < count; i++) {
            words[i] = (uint32_t)(block.words[(i - at) / 2] >> ((i - at) % 2 * 32));
        }
    }
}

void cyl_draw_factors(uint64_t seed, uint64_t key, uint64_t sample, int64_t count, uint32_t limit, double kept,
                      double lost, bool is_double, void *factors) {
    const float few[2] = {(float)kept, (float)lost};
    const double many[2] = {kept, lost};
    uint32_t words[64];
    for (int64_t at = 0; at < count; at += 64) {
        const int64_t left = count - at < 64 ? count - at : 64;
        for (int64_t i = 0; i < left; i += 8) {
            const Block block = philox((uint64_t)((at + i) / 8) + 1, sample, seed, key);
            for (int k = 0; k < 4; k++) {
                words[i + 2 * k] = (uint32_t)block.words[k];
                words[i + 2 * k + 1] = (uint32_t)(block.words[k] >> 32);
            }
        }
        for (int64_t i = 0; i < left && is_double; i++) {
            ((double *)factors)[at + i] = many[words[i] < limit];
        }
        for (int64_t i = 0; i < left && !is_double; i++) {
            ((float *)factors)[at + i] = few[words[i] < limit];
        }
    }
}
