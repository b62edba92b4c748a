/*
 * Ending a call early: whoever made it is asked every few milliseconds whether to go on.
 *
 * The thread that made the call asks, wherever it comes by; the others look at the answer. Between two steps or layers
 * that threads share they leave together, by what the first of them has seen before a barrier.
 */
#define _POSIX_C_SOURCE 200809L

#include "cylstm.h"
#include "run/stop.h"
#include "platform/tuning.h"
#include "platform/waiting.h"

static atomic_bool asks_always;

/* its address tells threads apart */
static _Thread_local char this_thread;

void cyl_stop_ask_always(bool yes) { atomic_store(&asks_always, yes); }

void cyl_stop_init(CylStop *stop, const CylCall *call) {
    stop->should_stop = call->should_stop;
    stop->context = call->stop_context;
    stop->caller = &this_thread;
    stop->next = 0;
    atomic_init(&stop->is_requested, false);
}

bool cyl_stop_look(CylStop *stop) {
    if (stop->caller == &this_thread && !cyl_stop_is_requested(stop)) {
        int64_t now = cyl_nanoseconds();
        stop->next = stop->next ? stop->next : now + CYL_ASK_NANOSECONDS;
        if (now >= stop->next || atomic_load_explicit(&asks_always, memory_order_relaxed)) {
            if (stop->should_stop(stop->context)) {
                atomic_store_explicit(&stop->is_requested, true, memory_order_release);
            }
            int64_t after = cyl_nanoseconds(), pause = (after - now) * CYL_ASK_PART_OF_TIME;
            pause = pause < CYL_ASK_NANOSECONDS ? CYL_ASK_NANOSECONDS : pause;
            stop->next = after + (pause < CYL_ASK_MOST_NANOSECONDS ? pause : CYL_ASK_MOST_NANOSECONDS);
        }
    }
    return cyl_stop_is_requested(stop);
}

void cyl_stop_wait(CylStop *stop, const atomic_llong *count, int64_t wanted) {
    int64_t start = 0;
    while (atomic_load_explicit(count, memory_order_acquire) < wanted && !cyl_stop_look(stop)) {
        for (int spin = 0; spin < CYL_SPINS_PER_LOOK; spin++) {
            cyl_pause();
        }
        cyl_keeps_waiting(&start);
    }
}

int64_t cyl_stop_pace(int64_t work) {
    if (atomic_load_explicit(&asks_always, memory_order_relaxed)) {
        return 1;
    }
    int64_t items = CYL_WORK_OF_A_LOOK / (work > 1 ? work : 1);
    return items < 1 ? 1 : items < CYL_ITEMS_OF_A_LOOK ? items : CYL_ITEMS_OF_A_LOOK;
}

void cyl_items_start(CylItems *items, int64_t begin, int64_t work) {
    items->pace = cyl_stop_pace(work);
    items->end = items->last - begin < items->pace ? items->last : begin + items->pace;
}

bool cyl_items_more(CylItems *items) {
    if (items->end == items->last || cyl_stop_look(items->stop)) {
        return false;
    }
    items->end = items->last - items->end < items->pace ? items->last : items->end + items->pace;
    return true;
}
