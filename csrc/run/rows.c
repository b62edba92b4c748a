/* Rows of streams and windows: which numbers there are, and who may change them. */
#include "model/status.h"
#include "run/rows.h"

#include <stdbool.h>

static bool are_rows(const CylRows *rows, const int64_t *numbers, int64_t count) {
    for (int64_t n = 0; n < count; n++) {
        if (numbers[n] < 0 || numbers[n] >= rows->count) {
            return false;
        }
    }
    return count >= 0;
}

CylStatus cyl_rows_reset(CylRows *rows, const int64_t *numbers, int64_t count, void (*reset)(CylRows *, int64_t row)) {
    if (!are_rows(rows, numbers, count)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_enter(rows));
    for (int64_t n = 0; n < count; n++) {
        reset(rows, numbers[n]);
    }
    cyl_leave(rows);
    return CYL_OK;
}

CylStatus cyl_rows_copy(CylRows *to, const int64_t *to_numbers, CylRows *from, const int64_t *from_numbers,
                        int64_t count, void (*copy)(CylRows *, int64_t, const CylRows *, int64_t)) {
    if (to == from || !are_rows(to, to_numbers, count) || !are_rows(from, from_numbers, count)) {
        return CYL_E_ARGUMENT;
    }
    CYL_TRY(cyl_enter(to));
    CylStatus status = cyl_enter(from);
    if (status == CYL_OK) {
        for (int64_t n = 0; n < count; n++) {
            copy(to, to_numbers[n], from, from_numbers[n]);
        }
        cyl_leave(from);
    }
    cyl_leave(to);
    return status;
}
