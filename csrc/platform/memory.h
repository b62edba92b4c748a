/* Sizes, and memory of them (memory.c). */
#ifndef CYL_MEMORY_H
#define CYL_MEMORY_H

#include "platform/rare.h"

#include <stdint.h>
#include <stddef.h>

/* The largest size. A test on a machine of 64 bits may be built with that of one of 32 bits. */
#ifndef CYL_SIZE_LIMIT
#define CYL_SIZE_LIMIT SIZE_MAX
#endif

/* the most rows and steps of a call: what is added to them, and the products of a few small numbers with them, stay
   far from what 64 bits hold; all other sizes that depend on them are made by the functions below */
#define CYL_LONGEST ((int64_t)1 << 40)
/* the most steps that a row of a stream may say it has taken: a process never takes as many more */
#define CYL_MOST_STEPS (INT64_MAX / 2)

/* Sums and products that stay at CYL_SIZE_LIMIT where they would be larger; cyl_alloc and cyl_aligned_alloc refuse
   such a size. The arguments are counts, at least 0, and sizes made by these functions. */
static inline size_t cyl_size_add(uint64_t a, uint64_t b) {
    return a > CYL_SIZE_LIMIT || b > CYL_SIZE_LIMIT - a ? (size_t)CYL_SIZE_LIMIT : (size_t)(a + b);
}
static inline size_t cyl_size_mul(uint64_t a, uint64_t b) {
    return b > 0 && a > CYL_SIZE_LIMIT / b ? (size_t)CYL_SIZE_LIMIT : (size_t)(a * b);
}
/* Rounds up to a multiple, or to CYL_SIZE_LIMIT. */
static inline size_t cyl_size_round(uint64_t a, uint64_t multiple) {
    size_t most = cyl_size_add(a, multiple - 1);
    return most == CYL_SIZE_LIMIT ? most : most / multiple * multiple;
}

/* ---- memory; NULL where there is not enough, or the size is at its limit ---- */

#define CYL_ALIGNMENT 64

CYL_RARE void *cyl_alloc(int64_t count, size_t bytes);                /* zeroed; freed with free */
CYL_RARE void *cyl_resize(void *memory, int64_t count, size_t bytes); /* as realloc, to `count` elements */
CYL_RARE void *cyl_aligned_alloc(size_t bytes);                       /* zeroed; freed with cyl_aligned_free */
CYL_RARE void *cyl_aligned_alloc_unset(size_t bytes);                 /* the same of any content */
CYL_RARE void cyl_aligned_free(void *memory);

/* places the next `rows` rows of `count` elements of `bytes` in a region that starts at `memory` (NULL while only
   counting), aligned */
CYL_RARE void *cyl_place(char *memory, size_t *used, int64_t rows, uint64_t count, size_t bytes);

#endif
