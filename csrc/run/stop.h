/* Ending a call early (stop.c). */
#ifndef CYL_STOP_H
#define CYL_STOP_H

#include "cylstm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* of a call that has a should_stop; its threads share it */
typedef struct {
    int (*should_stop)(void *context);
    void *context;
    const void *caller; /* the thread that made the call */
    int64_t next;       /* when it asks again, in nanoseconds */
    atomic_bool is_requested;
} CylStop;

void cyl_stop_init(CylStop *stop, const CylCall *call);
/* `stop`, or NULL if the call has no should_stop */
static inline CylStop *cyl_stop_start(CylStop *stop, const CylCall *call) {
    if (!call->should_stop) {
        return NULL;
    }
    cyl_stop_init(stop, call);
    return stop;
}
/* whether the call is to end; NULL never is */
static inline bool cyl_stop_is_requested(const CylStop *stop) {
    return stop && atomic_load_explicit(&stop->is_requested, memory_order_acquire);
}
/* the same, and asks if this is the thread that made the call and it is time */
bool cyl_stop_look(CylStop *stop);
/* the thread that made the call waits for other threads, until `count` is `wanted` or the call is to end */
void cyl_stop_wait(CylStop *stop, const atomic_llong *count, int64_t wanted);
/* for tests: whether the caller is asked at every look, and every step and item is followed by one */
void cyl_stop_ask_always(bool yes);
/* how many items of `work` multiply-adds each lie between two looks */
int64_t cyl_stop_pace(int64_t work);

/* A thread's share of a layer's items, between which a call may end: what comes after them must not need them all.
   for (int64_t j = cyl_items(&items, ...); cyl_goes_on(&items, j); j++) */
typedef struct {
    CylStop *stop;
    int64_t end, last, pace; /* up to `end` without a look, of all up to `last` */
} CylItems;

void cyl_items_start(CylItems *items, int64_t begin, int64_t work);
bool cyl_items_more(CylItems *items);

static inline bool cyl_goes_on(CylItems *items, int64_t j) {
    return j < items->end || (items->stop && cyl_items_more(items));
}

#endif
