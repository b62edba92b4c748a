/* Memory from the standard allocator, by sizes that may have reached their limit. */
#ifdef __linux__
#define _DEFAULT_SOURCE
#include <sys/mman.h>
#endif
#include "platform/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The size on Linux on x86-64 and on ARM with pages of 4 KB. With larger pages the advice below has no effect on less
   than 32 MB. */
#define HUGE_PAGE ((size_t)2 << 20)

void *cyl_alloc(int64_t count, size_t bytes) {
    const size_t size = cyl_size_mul((uint64_t)count, bytes);
    return size < CYL_SIZE_LIMIT ? calloc(1, size) : NULL;
}

void *cyl_resize(void *memory, int64_t count, size_t bytes) {
    const size_t size = cyl_size_mul((uint64_t)count, bytes);
    return size < CYL_SIZE_LIMIT ? realloc(memory, size) : NULL;
}

static void *aligned(size_t bytes, bool is_zeroed) {
    const size_t alignment = bytes < HUGE_PAGE ? CYL_ALIGNMENT : HUGE_PAGE;
    if (bytes > CYL_SIZE_LIMIT - 2 * alignment) {
        return NULL;
    }
    /* calloc returns large blocks untouched, because the system's memory is zero already; clearing them here would
       allocate every page before the call could be stopped */
    const size_t size = bytes + alignment + sizeof(void *);
    char *raw = is_zeroed ? calloc(1, size) : malloc(size);
    if (!raw) {
        return NULL;
    }
    uintptr_t at = ((uintptr_t)raw + sizeof(void *) + alignment - 1) / alignment * alignment;
    memcpy((char *)at - sizeof(void *), &raw, sizeof raw);
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE) {
        /* A step reads all weights, which lie in more pages of 4 KB than the CPU's TLB holds. Only whole huge pages are
           asked for, because the rest of the last one would be wasted. If the system has none, nothing is lost. */
        (void)madvise((void *)at, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    }
#endif
    return (void *)at;
}

void *cyl_aligned_alloc(size_t bytes) { return aligned(bytes, true); }

void *cyl_aligned_alloc_unset(size_t bytes) { return aligned(bytes, false); }

void cyl_aligned_free(void *memory) {
    if (memory) {
        void *raw;
        memcpy(&raw, (char *)memory - sizeof(void *), sizeof raw);
        free(raw);
    }
}

void *cyl_place(char *memory, size_t *used, int64_t rows, uint64_t count, size_t bytes) {
    void *at = memory ? memory + *used : NULL;
    size_t size = cyl_size_mul(cyl_size_mul((uint64_t)rows, count), bytes);
    *used = cyl_size_add(*used, cyl_size_round(size, CYL_ALIGNMENT));
    return at;
}
