/* The product of the BLAS engine: acc = acc + W x by CBLAS gemv for one column, gemm for many. */
#include "platform/blas.h"

#include <limits.h>
#include <string.h>

/* CBLAS_ORDER and CBLAS_TRANSPOSE of every CBLAS header */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

#define GEMV_TYPE(INT) void (*)(int, int, INT, INT, REAL, const REAL *, INT, const REAL *, INT, REAL, REAL *, INT)
#define GEMM_TYPE(INT)                                                                                                 \
    void (*)(int, int, int, INT, INT, INT, REAL, const REAL *, INT, const REAL *, INT, REAL, REAL *, INT)

void PRODUCT(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count, int64_t n,
             void *acc_data, int64_t acc_stride, bool continued, bool descending, int32_t begin, int32_t end) {
    (void)descending; /* one call for all blocks */
    if (begin >= end) {
        return;
    }
    const CylBlas *blas = &model->blas;
    int64_t offset = cyl_block_offset(m, begin);
    int64_t rows = cyl_block_offset(m, end - 1) + (int64_t)m->gates * cyl_block_width(m, end - 1) - offset;
    REAL *acc = (REAL *)acc_data + offset;
    if (!continued) {
        for (int64_t j = 0; j < n; j++) {
            memcpy(acc + j * acc_stride, (const REAL *)m->bias + offset, (size_t)rows * sizeof(REAL));
        }
    }
    const int count = cyl_blas_enter();
    for (int32_t o = 0; o < operand_count; o++) {
        const REAL *w = (const REAL *)m->weights + offset * m->columns + operands[o].first;
        const REAL *x = operands[o].x;
        int64_t stride = operands[o].stride;
        int32_t k = operands[o].count;
        /* a library with integers of 32 bits takes the columns one by one if they lie too far apart for it; all do
           where they are one and the same */
        bool is_far = !blas->is_int64 && (n > INT_MAX || stride > INT_MAX || acc_stride > INT_MAX);
        if (n == 1 || is_far || stride == 0) {
            for (int64_t j = 0; j < n; j++) {
                const REAL *column = x + j * stride;
                REAL *sums = acc + j * acc_stride;
                if (blas->is_int64) {
                    ((GEMV_TYPE(int64_t))blas->GEMV)(ROW_MAJOR, NO_TRANS, rows, k, 1, w, m->columns, column, 1, 1, sums,
                                                     1);
                } else {
                    ((GEMV_TYPE(int))blas->GEMV)(ROW_MAJOR, NO_TRANS, (int)rows, k, 1, w, m->columns, column, 1, 1,
                                                 sums, 1);
                }
            }
        } else if (blas->is_int64) {
            ((GEMM_TYPE(int64_t))blas->GEMM)(ROW_MAJOR, NO_TRANS, TRANS, n, rows, k, 1, x, stride, w, m->columns, 1,
                                             acc, acc_stride);
        } else {
            ((GEMM_TYPE(int))blas->GEMM)(ROW_MAJOR, NO_TRANS, TRANS, (int)n, (int)rows, k, 1, x, (int)stride, w,
                                         m->columns, 1, acc, (int)acc_stride);
        }
    }
    cyl_blas_leave(count);
}

void PRODUCT_OUTPUT(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, const CylActivationSpec *activation, bool continued, void *y, int64_t y_stride) {
    PRODUCT(model, m, operands, operand_count, n, y, y_stride, continued, false, 0, m->blocks);
    if (activation) {
        model->kernels->dense_output(m, activation, n, y, y_stride, y, y_stride, activation->id != CYL_ACT_SOFTMAX, 0,
                                     m->blocks);
    }
}
