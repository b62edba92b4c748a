/* The library of OpenMP's threads (openmp.c), which the rest of csrc/ does not link. */
#ifndef CYL_OPENMP_H
#define CYL_OPENMP_H

#if defined(__GNUC__)
#define CYL_OPENMP_EXPORT __attribute__((visibility("default")))
#else
#define CYL_OPENMP_EXPORT
#endif

/* part(context, thread, threads) on each of up to `threads` threads at once, this one among them: the CylRegion of
   cyl_openmp_bind. */
CYL_OPENMP_EXPORT void cyl_openmp_region(void (*part)(void *context, int thread, int threads), void *context,
                                         int threads);

/* addresses in the OpenMP runtime, which stays loaded: of GOMP_parallel, omp_get_thread_num, omp_get_num_threads */
typedef struct {
    void (*parallel)(void (*outlined)(void *), void *data, unsigned threads, unsigned flags);
    int (*thread_num)(void);
    int (*num_threads)(void);
} CylOpenmpRuntime;

/* Before the first region; `found` is copied. Not there with CYL_OPENMP_LINKED. */
CYL_OPENMP_EXPORT void cyl_openmp_use(const CylOpenmpRuntime *found);

#endif
