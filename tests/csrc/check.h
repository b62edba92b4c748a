/* Assertions: a failed one prints itself, is counted, and lets the test go on. */
#ifndef CHECK_H
#define CHECK_H

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int check_failures;

/* CHECK(condition, "format", ...): the format says of what case it is true */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition) && atomic_fetch_add(&check_failures, 1) < 20) {                                               \
            printf("%s:%d: FAILED: %s: ", __FILE__, __LINE__, #condition);                                             \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
            fflush(stdout);                                                                                            \
        }                                                                                                              \
    } while (0)

/* seconds until a test that waits for ever is ended; the Makefile allows more under an emulator */
#ifndef MOST_SECONDS
#define MOST_SECONDS 300
#endif

/* runs a test, a function whose name is a sentence; the time is that of all its threads */
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        int before = atomic_load(&check_failures);                                                                     \
        clock_t start = clock();                                                                                       \
        alarm(MOST_SECONDS);                                                                                           \
        test();                                                                                                        \
        printf("%s %6.2f s  %s\n", atomic_load(&check_failures) == before ? "ok    " : "FAILED",                       \
               (double)(clock() - start) / CLOCKS_PER_SEC, #test);                                                     \
        fflush(stdout);                                                                                                \
    } while (0)

/* what main returns */
static inline int check_result(void) {
    int failures = atomic_load(&check_failures);
    if (failures) {
        printf("%d failures\n", failures);
    }
    return failures != 0;
}

#endif
