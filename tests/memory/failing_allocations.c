/*
 * A library to preload, in which allocations fail when they are told to: of the code between two addresses, or of all.
 *
 * It takes the place of malloc, calloc, realloc and free of the C library (glibc, whose own functions have second
 * names) and looks at the address that each call returns to.
 */
#include <execinfo.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void __libc_free(void *memory);

enum { ENDED_BY_WATCHED_CODE = 71, ENDED_BY_OTHERS = 72, NEAR_FRAMES = 9, NEAR_FRAMES_OF_FAULT = 5 };

void watch_code(uintptr_t begin, uintptr_t end);
void tell_crashes(void);
void fail_at(long allocation, int is_lasting, int of_this_thread);
long fail_never(void);
long pieces_held(void);

static atomic_uintptr_t code_begin, code_end; /* of the watched code */
static atomic_long first_failure = -1;        /* the number of the allocation that fails; negative: none is counted */
static atomic_long seen;                      /* allocations since fail_at */
static atomic_long held;                      /* pieces that the watched code has not freed */
static atomic_int fails_on;                   /* those after it fail too */
static atomic_int is_of_thread;               /* only those of `thread` count */
static pthread_t thread;

/* The addresses of the code that is watched. */
void watch_code(uintptr_t begin, uintptr_t end) {
    atomic_store(&code_begin, begin);
    atomic_store(&code_end, end);
}

/* The allocation of this number from now on, from 0, fails, and with `is_lasting` all after it: of the watched code, or
   with `of_this_thread` of any code on this thread. A negative number: they are counted, and none fails. */
void fail_at(long allocation, int is_lasting, int of_this_thread) {
    thread = pthread_self();
    atomic_store(&fails_on, is_lasting);
    atomic_store(&is_of_thread, of_this_thread);
    atomic_store(&seen, 0);
    atomic_store(&first_failure, allocation < 0 ? LONG_MAX : allocation);
}

/* Returns how many there were. */
long fail_never(void) {
    atomic_store(&first_failure, -1);
    return atomic_load(&seen);
}

long pieces_held(void) { return atomic_load(&held); }

static bool is_watched(void *from) {
    return (uintptr_t)from >= atomic_load_explicit(&code_begin, memory_order_relaxed) &&
           (uintptr_t)from < atomic_load_explicit(&code_end, memory_order_relaxed);
}

static bool is_granted(void *from) {
    long first = atomic_load_explicit(&first_failure, memory_order_relaxed);
    if (first < 0 || (atomic_load(&is_of_thread) ? !pthread_equal(pthread_self(), thread) : !is_watched(from))) {
        return true;
    }
    long number = atomic_fetch_add(&seen, 1);
    return number < first || (number > first && !atomic_load(&fails_on));
}

/* Not what a handler may do, but the process ends here anyway. The nearest frames are this handler's and the system's,
   and those that called what crashed: the two next to what read a bad address, which may have got it from them, and
   more of what ended the process itself, as `free` does through several functions. Python 3.11 reads a bad address
   where there is no memory for an iterator over a dict, four functions away from the code that wants one. */
static void end_process(int number) {
    void *frames[NEAR_FRAMES];
    int count = backtrace(frames, number == SIGSEGV ? NEAR_FRAMES_OF_FAULT : NEAR_FRAMES), status = ENDED_BY_OTHERS;
    for (int i = 0; i < count; i++) {
        status = is_watched(frames[i]) ? ENDED_BY_WATCHED_CODE : status;
    }
    dprintf(STDOUT_FILENO, "crash at allocation %ld\n", atomic_load(&first_failure));
    _exit(status);
}

/* A crash ends the process with one of the statuses above: whether the watched code is near it. */
void tell_crashes(void) {
    void *frame;
    backtrace(&frame, 1); /* loads what it needs */
    signal(SIGSEGV, end_process);
    signal(SIGABRT, end_process);
}

static void *hold(void *memory, void *from) {
    if (memory && is_watched(from)) {
        atomic_fetch_add(&held, 1);
    }
    return memory;
}

void *malloc(size_t size) {
    void *from = __builtin_return_address(0);
    return is_granted(from) ? hold(__libc_malloc(size), from) : NULL;
}

void *calloc(size_t count, size_t size) {
    void *from = __builtin_return_address(0);
    return is_granted(from) ? hold(__libc_calloc(count, size), from) : NULL;
}

void *realloc(void *memory, size_t size) {
    void *from = __builtin_return_address(0);
    if (!is_granted(from)) {
        return NULL;
    }
    void *moved = __libc_realloc(memory, size);
    return memory ? moved : hold(moved, from);
}

void free(void *memory) {
    if (memory && is_watched(__builtin_return_address(0))) {
        atomic_fetch_sub(&held, 1);
    }
    __libc_free(memory);
}
