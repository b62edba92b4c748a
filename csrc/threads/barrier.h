/* The barriers of one call's threads (threads.c): made by cyl_parallel on its stack. */
#ifndef CYL_BARRIER_H
#define CYL_BARRIER_H

#include "platform/memory.h"
#include "threads/team.h"

#include <stdatomic.h>

#if !defined(_WIN32)
#include <pthread.h>
#endif

struct CylBarrier {
    _Alignas(CYL_ALIGNMENT) atomic_int arrived;
    _Alignas(CYL_ALIGNMENT) atomic_uint generation;
    _Alignas(CYL_ALIGNMENT) atomic_int sleepers;
#if !defined(_WIN32)
    pthread_mutex_t mutex;
    pthread_cond_t wake;
#endif
};

/* of the team, of its first half and of its second */
enum { CYL_TEAM_BARRIERS = 3 };

void cyl_barriers_start(CylBarrier *barriers /* (CYL_TEAM_BARRIERS) */);
void cyl_barriers_end(CylBarrier *barriers /* (CYL_TEAM_BARRIERS) */);

#endif
