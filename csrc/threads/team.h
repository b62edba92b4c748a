/* The threads of one call (team.c, pool.c). */
#ifndef CYL_TEAM_H
#define CYL_TEAM_H

#include "cylstm.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct CylBarrier CylBarrier;
typedef struct CylLate CylLate;

/* steps that one half of a team has given the other so far, and how many of them the other's threads take next */
typedef struct {
    atomic_llong given;
    int64_t taken;
} CylHandover;

/* one thread's place among those that run one call */
typedef struct CylTeam CylTeam;
struct CylTeam {
    int thread, threads;
    CylBarrier *barrier;
    CylHandover *gives_to, *takes_from; /* in halves of a team of which the second reads what the first writes */
    CylLate *late;                      /* of the call; NULL where nobody looks */
    CylTeam *own;                       /* itself, to be changed when threads leave; NULL in halves of a team */
    int64_t passed;                     /* checkpoints */
    bool has_left;
};

typedef void CylTask(void *context, const CylTeam *team);

/* Runs task(context, team) on up to `threads` threads at once, at least 2, this one among them; returns when all have.
   `work`: the multiply-adds of the call, to judge how long it is worth waiting for threads that sleep. */
void cyl_team_run(CylThreads whose, CylTask *task, void *context, int threads, double work);
/* the same on the threads of our own pool */
void cyl_pool_parallel(CylTask *task, void *context, int threads, double work);
/* How many of `threads` threads a call may use beside the calls that run now, at least 1; they count until
   cyl_threads_leave (crowd.c). */
int cyl_threads_enter(int threads);
void cyl_threads_leave(int threads);
/* what cyl_threads_patience was given */
int64_t cyl_least_patience(void);
void cyl_meet(const CylTeam *team);
/* all threads of the team, which may be one, have come here before any of them goes on */
static inline void cyl_barrier(const CylTeam *team) {
    if (team->threads > 1) {
        cyl_meet(team);
    }
}
/* Between two of these all threads of the team have met. True where the others leave the first, which may have waited
   too long for them (late.c): the first one's team is then of one thread, and the others have `has_left` and must
   return without touching what the call shares. */
bool cyl_late_pass(CylTeam *own);
static inline bool cyl_checkpoint(const CylTeam *team) {
    return team->threads > 1 && team->own && cyl_late_pass(team->own);
}
/* The half of a team of at least two, not a half itself, to which this thread belongs: 0 or 1. */
int cyl_team_half(const CylTeam *team, CylTeam *half);
/* How many more steps than `taken` there are to take, of at most `most`; waits for one. Every thread of the half. */
int64_t cyl_wait_for_steps(const CylTeam *half, int64_t taken, int64_t most);
static inline int64_t cyl_take_steps(const CylTeam *half, int64_t taken, int64_t most) {
    return half->takes_from ? cyl_wait_for_steps(half, taken, most) : most;
}
/* Says that steps [0, given) may be read, after a barrier of the half if it is of several threads. */
static inline void cyl_give_steps(const CylTeam *half, int64_t given) {
    if (half->gives_to && half->thread == 0) {
        atomic_store_explicit(&half->gives_to->given, given, memory_order_release);
    }
}

/* This thread's contiguous share [*begin, *end) of `items`. */
static inline void cyl_share(const CylTeam *team, int64_t items, int64_t *begin, int64_t *end) {
    if (team->threads == 1) { /* a division costs as much as a small layer's step has to spare */
        *begin = 0;
        *end = items;
        return;
    }
    *begin = items * team->thread / team->threads;
    *end = items * (team->thread + 1) / team->threads;
}

#endif
