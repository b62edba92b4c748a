/*
 * The workspaces of calls that are over, kept by their model for the next: a call that finds one to fit allocates
 * nothing.
 *
 * A workspace belongs to whoever took it out of its slot, by one exchange: no lock, and two calls at once never meet in
 * one. The last one kept comes first; the oldest ones go where there are too many of them, or too many bytes.
 */
#include "run/idle.h"
#include "platform/tuning.h"
#include "run/workspace.h"

#include <stdatomic.h>
#include <stdlib.h>

struct CylIdle {
    _Atomic(CylWorkspace *) slots[CYL_IDLE_WORKSPACES];
    atomic_size_t bytes; /* of those in slots, and of those on their way there */
};

CylIdle *cyl_idle_create(void) {
    CylIdle *idle = calloc(1, sizeof *idle);
    for (int s = 0; idle && s < CYL_IDLE_WORKSPACES; s++) {
        atomic_init(&idle->slots[s], NULL);
    }
    if (idle) {
        atomic_init(&idle->bytes, 0);
    }
    return idle;
}

static CylWorkspace *take_slot(CylIdle *idle, int slot) {
    /* an exchange costs some 20 cycles, a look nothing */
    CylWorkspace *w = atomic_load_explicit(&idle->slots[slot], memory_order_relaxed);
    return w ? atomic_exchange_explicit(&idle->slots[slot], NULL, memory_order_acquire) : NULL;
}

static void drop(CylIdle *idle, CylWorkspace *w) {
    atomic_fetch_sub_explicit(&idle->bytes, w->bytes, memory_order_relaxed);
    cyl_workspace_free(w);
}

CylWorkspace *cyl_idle_take(CylIdle *idle, int64_t rows, const int64_t *times, int threads) {
    for (int s = 0; s < CYL_IDLE_WORKSPACES; s++) {
        CylWorkspace *w = take_slot(idle, s), *none = NULL;
        if (w && cyl_workspace_fits(w, rows, times, threads)) {
            atomic_fetch_sub_explicit(&idle->bytes, w->bytes, memory_order_relaxed);
            return w;
        }
        if (w && !atomic_compare_exchange_strong_explicit(&idle->slots[s], &none, w, memory_order_release,
                                                          memory_order_relaxed)) {
            drop(idle, w); /* another call has filled the slot */
        }
    }
    return NULL;
}

void cyl_idle_keep(CylIdle *idle, CylWorkspace *w) {
    if (w->bytes > CYL_IDLE_BYTES) {
        cyl_workspace_free(w);
        return;
    }
    atomic_fetch_add_explicit(&idle->bytes, w->bytes, memory_order_relaxed);
    for (int s = CYL_IDLE_WORKSPACES - 1;
         s >= 0 && atomic_load_explicit(&idle->bytes, memory_order_relaxed) > CYL_IDLE_BYTES; s--) {
        CylWorkspace *oldest = take_slot(idle, s);
        if (oldest) {
            drop(idle, oldest);
        }
    }
    if (atomic_load_explicit(&idle->bytes, memory_order_relaxed) > CYL_IDLE_BYTES) {
        drop(idle, w); /* the others are on their way */
        return;
    }
    for (int s = 0; s < CYL_IDLE_WORKSPACES && w; s++) {
        w = atomic_exchange_explicit(&idle->slots[s], w, memory_order_acq_rel);
    }
    if (w) {
        drop(idle, w);
    }
}

void cyl_idle_free(CylIdle *idle) {
    for (int s = 0; idle && s < CYL_IDLE_WORKSPACES; s++) {
        cyl_workspace_free(atomic_load(&idle->slots[s]));
    }
    free(idle);
}
