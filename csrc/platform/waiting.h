/* Waiting for another thread. */
#ifndef CYL_THREADS_H
#define CYL_THREADS_H

#include "platform/tuning.h"

#include <stdint.h>
#include <time.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

static inline void cyl_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__ARM_ARCH_7A__)
    __asm__ volatile("yield");
#endif
}

/* The thread waited for may need this core if there are more threads than cores. */
static inline void cyl_let_others_run(void) {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

static inline int64_t cyl_nanoseconds(void) {
    struct timespec now;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* One look's end: offers the core where the wait has been long; false when it is time to sleep. `*start` is 0 at
   first. */
static inline int cyl_keeps_waiting(int64_t *start) {
    int64_t now = cyl_nanoseconds();
    *start = *start ? *start : now;
    if (now - *start > CYL_KEEP_NANOSECONDS) {
        cyl_let_others_run();
    }
    return now - *start < CYL_SPIN_NANOSECONDS;
}

#endif
