/* The barrier of one call's threads (threads.c): made by cyl_parallel on its stack. */
#ifndef CYL_BARRIER_H
#define CYL_BARRIER_H

#include "internal.h"

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

void cyl_barrier_start(CylBarrier *barrier);
void cyl_barrier_end(CylBarrier *barrier);

#endif
