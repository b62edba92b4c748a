/* What streams and windows share: one thread at a time is inside, and rows are named by their numbers (rows.c). */
#ifndef CYL_ROWS_H
#define CYL_ROWS_H

#include "cylstm.h"

#include <stdatomic.h>
#include <stdint.h>

/* the first member of a stream and of a window */
typedef struct {
    atomic_flag busy;
    int64_t count;
} CylRows;

static inline CylStatus cyl_enter(CylRows *rows) {
    return atomic_flag_test_and_set_explicit(&rows->busy, memory_order_acquire) ? CYL_E_BUSY : CYL_OK;
}
static inline void cyl_leave(CylRows *rows) { atomic_flag_clear_explicit(&rows->busy, memory_order_release); }

/* resets rows numbers[0..count) */
CylStatus cyl_rows_reset(CylRows *rows, const int64_t *numbers, int64_t count, void (*reset)(CylRows *, int64_t row));
/* row to_numbers[n] of `to` goes on as row from_numbers[n] of `from`, which is another of the same kind */
CylStatus cyl_rows_copy(CylRows *to, const int64_t *to_numbers, CylRows *from, const int64_t *from_numbers,
                        int64_t count, void (*copy)(CylRows *, int64_t, const CylRows *, int64_t));

#endif
