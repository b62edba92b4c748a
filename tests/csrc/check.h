/* Assertions: a failed one prints itself, is counted, and lets the test go on. */
#ifndef CHECK_H
#define CHECK_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* seconds until a test that hangs is ended; the Makefile allows more under an emulator or a sanitizer */
#ifndef MOST_SECONDS
#define MOST_SECONDS 120
#endif

static const char *check_running;

/* says which test hangs and dies of the signal, as a forked child's parent expects; only what a handler may call */
static inline void check_hangs(int number) {
    const char *parts[] = {"FAILED  hangs    ", check_running, "\n"};
    for (int i = 0; i < 3; i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0) {
            break;
        }
    }
    signal(number, SIG_DFL);
    raise(number);
}

/* ends the program with the name of this test unless the next one begins within so many seconds */
static inline void check_watch(const char *test, unsigned seconds) {
    check_running = test;
    signal(SIGALRM, check_hangs);
    alarm(seconds);
}

/* in a test of many parts, each of which may take as long as a whole one */
#define GO_ON() alarm(MOST_SECONDS)

/* whether this one of many cases is run: each, or where a tool makes all of them take hours, with EVERY=n in the
   environment every n-th */
static inline bool check_is_due(int number) {
    const char *every = getenv("EVERY");
    const int n = every ? atoi(every) : 1;
    return n < 2 || number % n == 0;
}

/* runs a test, a function whose name is a sentence; the time is that of all its threads */
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        int before = atomic_load(&check_failures);                                                                     \
        clock_t start = clock();                                                                                       \
        check_watch(#test, MOST_SECONDS);                                                                              \
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
