/* How long a call waits for threads that have lost their cores (late.c). */
#ifndef CYL_LATE_H
#define CYL_LATE_H

#include "platform/tuning.h"
#include "threads/team.h"

#include <stdbool.h>

/* Of one call. What its first thread alone writes, and from which checkpoint on it is alone (0: none). */
struct CylLate {
    int64_t start;         /* of the call, or of the first waiting; 0: there was none */
    int64_t waited, alone; /* nanoseconds: of waiting, and what the call takes on one thread as its work tells */
    int threads;
    bool is_late;
    atomic_llong leave_at;
};

/* whether calls take one thread now */
bool cyl_takes_one_thread(void);
void cyl_late_start(CylLate *late, int threads, double work);
/* The first thread has waited. */
void cyl_late_waited(CylLate *late, int64_t since, int64_t now);
/* The call is over. */
void cyl_late_end(const CylLate *late);

#endif
