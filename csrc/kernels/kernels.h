/* The kernels: a table per instruction set for each engine in float, and one for the BLAS engine in double. */
#ifndef CYL_KERNELS_H
#define CYL_KERNELS_H

#include "cylstm.h"
#include "model/matrix.h"
#include "model/spec.h"

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef struct {
    const void *x;  /* real (n, count) */
    int64_t stride; /* reals from one of the n to the next; for a BLAS at least count */
    int32_t first;  /* the matrix column that x's first number multiplies */
    int32_t count;
} CylOperand;

typedef struct CylStep CylStep;
typedef struct CylLstm CylLstm;
typedef struct CylGru CylGru;
typedef struct CylRnn CylRnn;

typedef struct {
    const char *name;
    size_t real_size;
    bool is_packed;
    /*
     * acc[j][rows of blocks begin..end) = (continued ? acc : bias) + sum over operands and their columns k,
     * ascending, of W[row][k] * x[j][k], one fused multiply-add each; j in 0..n. `backward` takes the blocks from the
     * last to the first: done at every other step, it finds in the cache what the step before read last.
     */
    void (*product)(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                    int64_t n, void *acc /* real (n, acc_stride) */, int64_t acc_stride, bool continued, bool backward,
                    int32_t begin, int32_t end);
    /* y = activation(acc) for columns j in 0..n and the units of blocks begin..end (softmax excepted) of a matrix of
       one gate; y may be acc. `is_flushed`: with the subnormal rule */
    void (*dense_output)(const CylMatrix *m, const CylActivationSpec *activation, int64_t n, const void *acc,
                         int64_t acc_stride, void *y /* real (n, y_stride) */, int64_t y_stride, bool is_flushed,
                         int32_t begin, int32_t end);
    void (*activate)(const CylActivationSpec *activation, const void *x, void *y, int64_t size, bool is_flushed);
    /* the logarithm of a softmax of the row; y may be x */
    void (*log_softmax)(const void *x, void *y, int64_t size);
    void (*flush)(const void *x, void *y, int64_t size);
    /* y = y (op) x, see CylMergeMode; with step 0 x is one number */
    void (*merge)(int mode, const void *x, int step, void *y, int64_t size, double scale);
    /* see kernels/layers.h */
    void (*scale_shift)(const void *x, const void *scale, const void *shift, void *y, int64_t size);
    void (*moments)(const void *x, int64_t count, int64_t stride, int64_t size, bool is_centred,
                    double *found /* (2) */);
    void (*normalise)(const void *x, const void *gain, const void *shift, int step, void *y, int64_t size, double mean,
                      double variance, double epsilon);
    void (*prelu)(const void *x, const void *slope, int step, void *y, int64_t size);
    void (*gated)(const CylActivationSpec *spec, const void *a, const void *b, void *y, int64_t size);
    void (*depthwise)(const CylActivationSpec *spec, const void *weight, const void *bias, const void *x,
                      int64_t x_stride, int64_t taps, int64_t multiplier, void *y, int64_t units);
    double (*dot)(const void *a, const void *b, int64_t size);
    double (*additive)(const void *a, const void *b, const void *scale, int step, double factor, int64_t size);
    void (*add_scaled)(const void *x, double weight, void *y, int64_t size);
    void (*lstm_cell)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    /* layer normalisation: gates and the new cell before its norm (scratch: see layers/lstm.c), then the norm and h */
    void (*lstm_norm_gates)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    void (*lstm_norm_cell)(const CylLstm *lstm, const CylStep *step, int32_t begin, int32_t end);
    void (*rnn_cell)(const CylRnn *rnn, const CylStep *step, int32_t begin, int32_t end);
    void (*state_output)(const CylMatrix *m, const CylStep *step, const void *acc, int64_t acc_stride, int32_t begin,
                         int32_t end);
    void (*gru_gates)(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end);
    void (*gru_cell)(const CylGru *gru, const CylStep *step, int32_t begin, int32_t end);
} CylKernels;

/* those whose CYL_HAVE_ is defined, beside the scalar ones */
extern const CylKernels cyl_kernels_scalar, cyl_kernels_sse2, cyl_kernels_avx2, cyl_kernels_avx512, cyl_kernels_neon;
extern const CylKernels cyl_kernels_blas32_scalar, cyl_kernels_blas32_sse2, cyl_kernels_blas32_avx2,
    cyl_kernels_blas32_avx512, cyl_kernels_blas32_neon;
extern const CylKernels cyl_kernels_blas64;
/* the CylKernels.product of the BLAS engine, in float and in double precision */
void cyl_product_blas32(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                        int64_t n, void *acc, int64_t acc_stride, bool continued, bool backward, int32_t begin,
                        int32_t end);
void cyl_product_blas64(const CylModel *model, const CylMatrix *m, const CylOperand *operands, int32_t operand_count,
                        int64_t n, void *acc, int64_t acc_stride, bool continued, bool backward, int32_t begin,
                        int32_t end);
const CylKernels *cyl_kernels_of(CylEngine engine, CylIsa isa);

typedef enum {
    CYL_MERGE_SUM = 0,
    CYL_MERGE_MUL,
    CYL_MERGE_SUB,
    CYL_MERGE_MAX,
    CYL_MERGE_MIN,
    CYL_MERGE_DIV,
    CYL_MERGE_COPY,
    CYL_MERGE_SCALE /* y = y * scale, without x */
} CylMergeMode;

#endif
