/* Aligned memory from the standard allocator. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

void *cyl_aligned_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - 2 * CYL_ALIGNMENT) {
        return NULL;
    }
    char *raw = malloc(bytes + CYL_ALIGNMENT + sizeof(void *));
    if (!raw) {
        return NULL;
    }
    uintptr_t at = ((uintptr_t)raw + sizeof(void *) + CYL_ALIGNMENT - 1) / CYL_ALIGNMENT * CYL_ALIGNMENT;
    memcpy((char *)at - sizeof(void *), &raw, sizeof raw);
    memset((void *)at, 0, bytes);
    return (void *)at;
}

void cyl_aligned_free(void *memory) {
    if (memory) {
        void *raw;
        memcpy(&raw, (char *)memory - sizeof(void *), sizeof raw);
        free(raw);
    }
}
