/*
 * cyl_parallel on threads of its own, for ThreadSanitizer, which does not see what OpenMP's runtime waits for: it
 * takes the place of the library's threads.c, whose barrier it keeps.
 */
#define cyl_parallel cyl_parallel_serial
#include "../../csrc/threads.c"
#undef cyl_parallel

#include <stdlib.h>

enum { MOST_THREADS = 16 };

typedef struct {
    void (*fn)(void *context, const CylTeam *team);
    void *context;
    CylTeam team;
} Member;

static void *run_member(void *argument) {
    Member *member = argument;
    CylIeee saved = cyl_ieee_enter();
    member->fn(member->context, &member->team);
    cyl_ieee_leave(saved);
    return NULL;
}

void cyl_parallel(void (*fn)(void *context, const CylTeam *team), void *context, int threads) {
    if (threads <= 1) {
        cyl_parallel_serial(fn, context, 1);
        return;
    }
    Member members[MOST_THREADS];
    pthread_t handles[MOST_THREADS];
    CylBarrier barrier = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    for (int i = 0; i < threads; i++) {
        if (i == MOST_THREADS) {
            abort();
        }
        members[i] = (Member){fn, context, {i, threads, &barrier}};
        if (i > 0 && pthread_create(&handles[i], NULL, run_member, &members[i]) != 0) {
            abort();
        }
    }
    run_member(&members[0]);
    for (int i = 1; i < threads; i++) {
        pthread_join(handles[i], NULL);
    }
}
