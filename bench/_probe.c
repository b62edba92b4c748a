/*
 * What one or more cores can do at best: how fast they read memory over and over, and how many multiply-adds they
 * make. Compiled on the fly by _bounds.py for the machine it runs on.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#define LANES (WIDTH / (int)sizeof(float))
#define MOST_THREADS 256

typedef float V __attribute__((vector_size(WIDTH)));

enum { CHAINS = 8, PIECE = 4096, HUGE_PAGE = 2 << 20 };

typedef struct {
    pthread_barrier_t *barrier;
    size_t bytes; /* of this thread's memory, a multiple of PIECE */
    int backward_too;
    double seconds;
    double amount, start, end; /* bytes or multiply-adds done between the two moments */
    float sink;
} Task;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void read_piece(const char *at, V *sums) {
    for (int i = 0; i < PIECE / WIDTH; i += CHAINS) {
        for (int k = 0; k < CHAINS; k++) {
            sums[k] += *(const V *)(at + (i + k) * WIDTH);
        }
    }
}

static void *read_memory(void *data) {
    Task *task = data;
    char *memory = NULL;
    if (posix_memalign((void **)&memory, HUGE_PAGE, task->bytes)) {
        abort();
    }
#ifdef MADV_HUGEPAGE
    madvise(memory, task->bytes, MADV_HUGEPAGE);
#endif
    memset(memory, 0, task->bytes);
    V sums[CHAINS] = {{0}};
    const size_t pieces = task->bytes / PIECE;
    const int passes = (int)(1 + (1 << 20) / task->bytes);
    pthread_barrier_wait(task->barrier);
    task->start = now();
    do {
        for (int pass = 0; pass < passes; pass++) {
            for (size_t p = 0; p < pieces; p++) {
                read_piece(memory + p * PIECE, sums);
            }
            for (size_t p = pieces; p-- > 0;) {
                read_piece(memory + (task->backward_too ? p : pieces - 1 - p) * PIECE, sums);
            }
        }
        task->amount += 2.0 * passes * (double)task->bytes;
        task->end = now();
    } while (task->end - task->start < task->seconds);
    for (int k = 0; k < CHAINS; k++) {
        task->sink += sums[k][0];
    }
    free(memory);
    return NULL;
}

/* 12 chains: no instruction waits for the one before */
static void *multiply_add(void *data) {
    Task *task = data;
    V sums[12], a, b;
    for (int l = 0; l < LANES; l++) {
        a[l] = 0.5f + 0.001f * (float)task->bytes;
        b[l] = 0.25f;
    }
    for (int k = 0; k < 12; k++) {
        sums[k] = b;
    }
    pthread_barrier_wait(task->barrier);
    task->start = now();
    do {
        for (int i = 0; i < 10000; i++) {
            for (int k = 0; k < 12; k++) {
                sums[k] = sums[k] * a + b;
            }
        }
        task->amount += 10000.0 * 12 * LANES;
        task->end = now();
    } while (task->end - task->start < task->seconds);
    for (int k = 0; k < 12; k++) {
        task->sink += sums[k][0];
    }
    return NULL;
}

/* `threads` at once; amount per second of all together, 0 if that cannot be measured */
static double run(void *(*work)(void *), size_t bytes, int backward_too, int threads, double seconds) {
    Task tasks[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    pthread_barrier_t barrier;
    if (threads < 1 || threads > MOST_THREADS || pthread_barrier_init(&barrier, NULL, (unsigned)threads)) {
        return 0.0;
    }
    size_t share = bytes / (size_t)threads / PIECE * PIECE;
    for (int t = 0; t < threads; t++) {
        tasks[t] = (Task){&barrier, share ? share : PIECE, backward_too, seconds, 0.0, 0.0, 0.0, 0.0f};
        if (pthread_create(&ids[t], NULL, work, &tasks[t])) {
            abort();
        }
    }
    double rate = 0.0;
    for (int t = 0; t < threads; t++) {
        pthread_join(ids[t], NULL);
        rate += tasks[t].amount / (tasks[t].end - tasks[t].start);
    }
    pthread_barrier_destroy(&barrier);
    return rate;
}

/* bytes per second over `bytes` of memory, divided among the threads; forward only, or back and forth */
double probe_read(int64_t bytes, int backward_too, int threads, double seconds) {
    return run(read_memory, (size_t)bytes, backward_too, threads, seconds);
}

/* multiply-adds per second */
double probe_multiply_add(int threads, double seconds) { return run(multiply_add, 0, 0, threads, seconds); }

int probe_vector_bytes(void) { return WIDTH; }
