/*
 * Cores that other processes take: a call on several threads does not wait for ever for a thread that has lost its
 * core.
 *
 * The first thread of a call counts how long it waits for the others. When that is longer than the call would take
 * alone, the others leave and it does the rest by itself: bits do not depend on the number of threads. What calls wait
 * is set against what their threads save; as long as waiting is the greater part, calls take one thread, and from time
 * to time, which becomes rarer, one tries again.
 */
#include "threads/late.h"
#include "platform/waiting.h"

static atomic_llong balance = -CYL_LATE_CREDIT_NANOSECONDS; /* nanoseconds waited more than saved */
static atomic_llong alone_until, period;
static atomic_llong leaves_after; /* for tests: the number of checkpoints, 0 for none */

void cyl_threads_leave_after(int64_t checkpoints) { atomic_store(&leaves_after, checkpoints); }

bool cyl_takes_one_thread(void) {
    const int64_t until = atomic_load_explicit(&alone_until, memory_order_relaxed);
    return until != 0 && cyl_least_patience() == 0 && cyl_nanoseconds() < until;
}

void cyl_late_start(CylLate *late, int threads, double work) {
    late->start =
        atomic_load_explicit(&balance, memory_order_relaxed) > -CYL_LATE_CREDIT_NANOSECONDS ? cyl_nanoseconds() : 0;
    late->waited = 0;
    late->alone = (int64_t)(work / CYL_WORK_PER_NANOSECOND);
    late->threads = threads;
    late->is_late = false;
    atomic_init(&late->leave_at, atomic_load_explicit(&leaves_after, memory_order_relaxed));
}

void cyl_late_waited(CylLate *late, int64_t since, int64_t now) {
    late->start = late->start ? late->start : since;
    late->waited += now - since;
    /* the time that the others could have saved is a part of what has passed */
    const int64_t passed = now - late->start, others = late->threads - 1;
    late->is_late = late->waited > CYL_LATE_LEAST_NANOSECONDS && late->waited > late->alone &&
                    2 * late->threads * late->waited > others * passed;
}

bool cyl_late_pass(CylTeam *own) {
    CylLate *late = own->late;
    const int64_t leave_at = atomic_load_explicit(&late->leave_at, memory_order_relaxed);
    if (++own->passed == leave_at) {
        own->has_left = own->thread > 0;
        own->threads = 1;
        return true;
    }
    /* all see it when they have met once more */
    if (own->thread == 0 && late->is_late && leave_at <= 0 && cyl_least_patience() == 0) {
        atomic_store_explicit(&late->leave_at, own->passed + 1, memory_order_relaxed);
    }
    return false;
}

void cyl_late_end(const CylLate *late) {
    int64_t found = atomic_load_explicit(&balance, memory_order_relaxed);
    if (late->start == 0 || cyl_least_patience() > 0) {
        return;
    }
    const int64_t now = cyl_nanoseconds(), most = CYL_LATE_SAVED_MOST * late->alone;
    const int64_t own = (now - late->start - late->waited) * (late->threads - 1), saved = own < most ? own : most;
    found += late->waited - saved;
    if (found > 0) {
        const int64_t last = atomic_load(&period), twice = 2 * last;
        const int64_t next = last == 0                           ? CYL_LATE_PERIOD_NANOSECONDS
                             : twice < CYL_LATE_MOST_NANOSECONDS ? twice
                                                                 : CYL_LATE_MOST_NANOSECONDS;
        atomic_store(&period, next);
        atomic_store(&alone_until, now + next);
        found = -CYL_LATE_LEAST_NANOSECONDS;
    } else if (found <= -CYL_LATE_CREDIT_NANOSECONDS) {
        found = -CYL_LATE_CREDIT_NANOSECONDS;
        atomic_store(&period, 0);
        atomic_store(&alone_until, 0);
    }
    atomic_store_explicit(&balance, found, memory_order_relaxed);
}
