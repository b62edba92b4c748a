/*
 * Every number that was tuned by measuring, with what was measured: on one core of an AVX-512 server unless it says
 * otherwise. None of them changes a result. How many registers a product's tiles take belongs to the instruction set,
 * and stands in simd/.
 */
#ifndef CYL_TUNING_H
#define CYL_TUNING_H

/* ---- rows and pieces ---- */

/* The rows that one workspace takes at once: more of them reuse each weight that is read, until their values leave the
   second cache. */
#define CYL_TILE_ROWS 48
/* The numbers of the widest value in one piece of a sequence: a piece's values stay in the second cache. */
#define CYL_PIECE_REALS 32768
#define CYL_PIECE_LEAST_STEPS 8
/* A stream can end between its pieces only: they are not more than some 10 ms of work, in multiply-adds. */
#define CYL_STREAM_PIECE_WORK ((int64_t)1 << 29)
/* An input of up to so many numbers is loaded by the thread that makes the call: a barrier costs more than that. */
#define CYL_LOADED_ALONE 4096

/* ---- the input halves of recurrent layers ---- */

/* How many columns (steps times rows) are computed at once, enough to reuse each weight that is read: */
#define CYL_BLOCK_COLUMNS 24
/* where the input's weights fill a good part of a second cache (256 KB), reading them drives out the recurrent ones,
   so that it is done less often; */
#define CYL_LARGE_INPUT 65536
#define CYL_BLOCK_COLUMNS_LARGE 96
/* and a gemm packs the weights anew at each call. */
#define CYL_BLOCK_COLUMNS_GEMM 128
/* Fewer weights than these stay in the first cache, and so many rows are columns enough: each step is done alone. */
#define CYL_BLOCK_LEAST_WEIGHTS 4096
#define CYL_BLOCK_MOST_ROWS 8
#define CYL_BLOCK_MOST_ROWS_GEMM 16
/* A window keeps the input halves of layers of at least so many features: fewer are computed as fast as fetched. */
#define CYL_KEPT_LEAST_FEATURES 8

/* ---- other layers ---- */

/* The columns (rows or steps) of a dense layer whose accumulators are held at once, and for a gemm. */
#define CYL_DENSE_COLUMNS 24
#define CYL_DENSE_COLUMNS_GEMM 96
/* The steps of a convolution that are computed at once. */
#define CYL_CONV_COLUMNS 24

/* ---- threads ---- */

/* The multiply-adds for which one more thread is worth while; one core does some 50 per nanosecond from its own cache.
   Threads that run rows apart meet at the end of the call, those that share rows at every step. */
#define CYL_WORK_ROWS_APART 1e5
#define CYL_WORK_ROWS_SHARED 32e3
/* The multiply-adds of a call on one thread, some 20 us, from which it counts as one that others leave a core to. */
#define CYL_WORK_COUNTED 1e6
/* For so long after there were as many calls as cores, calls take one thread. */
#define CYL_CROWD_NANOSECONDS 100000000
/* A call of two layers in halves of a team: side by side, or one fed by the other, which waits for every step. */
#define CYL_WORK_IN_HALVES (2.0 * CYL_WORK_ROWS_APART)
#define CYL_WORK_FED (15.0 * CYL_WORK_ROWS_APART)
/* Fewer steps are faster with one layer after the other. */
#define CYL_FED_STEPS 8
/* A layer that feeds the next has at most so many weights: a core's second cache holds those of either. */
#define CYL_FED_WEIGHTS (128 * 1024)

/* A thread that waits for the others of its call, or for the next call, does so awake for this long before it sleeps:
   on a busy machine being woken can take a whole scheduler tick of 4 ms, which a step of microseconds would pay. */
#define CYL_SPIN_NANOSECONDS 2000000
#define CYL_SPINS_PER_LOOK 64
/* At first it does not offer its core to others: a process of lower priority would take it for a whole tick. */
#define CYL_KEEP_NANOSECONDS 30000
/* The multiply-adds of one core in a nanosecond, to estimate how long a call takes, and the part of that time for which
   it waits for sleeping threads if that is long enough to wake one. */
#define CYL_WORK_PER_NANOSECOND 50.0
#define CYL_PATIENCE 0.25
#define CYL_LEAST_PATIENCE_NANOSECONDS 20000

/* Where threads lose their cores to other processes. A call is left to its first thread when that has waited for at
   least so long; */
#define CYL_LATE_LEAST_NANOSECONDS 1000000
/* calls take one thread when they have waited for so much more than their threads have lately saved; */
#define CYL_LATE_CREDIT_NANOSECONDS 20000000
/* the first time for so long, then for twice as long each time, up to this. */
#define CYL_LATE_PERIOD_NANOSECONDS 20000000
#define CYL_LATE_MOST_NANOSECONDS 1280000000
/* No call saves more than so many times what its work tells, on a small CPU: the rest is its own core that was lost. */
#define CYL_LATE_SAVED_MOST 10

/* ---- ending a call early ---- */

/* Between two questions: one may have to wait for a lock of the caller's, and then comes less often. */
#define CYL_ASK_NANOSECONDS 5000000
#define CYL_ASK_MOST_NANOSECONDS 50000000
#define CYL_ASK_PART_OF_TIME 10
/* The multiply-adds between two looks within a layer, some 0.1 ms, and the most items: the smallest take some 50 ns. */
#define CYL_WORK_OF_A_LOOK (1 << 22)
#define CYL_ITEMS_OF_A_LOOK 4096
/* The same between layers, and the numbers of an input that are loaded between two looks. */
#define CYL_WORK_BETWEEN_LAYERS 4e6
#define CYL_LOADED_AT_ONCE (1 << 18)

/* ---- memory ---- */

/* What a model keeps for its next calls; docs/performance.md and `Model` state both numbers. A call on many threads
   takes as many workspaces. */
#define CYL_IDLE_WORKSPACES 16
#define CYL_IDLE_BYTES ((size_t)4 << 20)

#endif
