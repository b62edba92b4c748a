/* The kernels: a table per instruction set for each engine in float, and one for the BLAS engine in double. */
#ifndef CYL_KERNELS_H
#define CYL_KERNELS_H

#include "cylstm.h"
#include "model/weight_types.h"

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

typedef struct {
    const void *x;  /* real (n, count) */
    int64_t stride; /* reals from one of the n to the next; for a BLAS at least count, or 0 */
    int32_t first;  /* the matrix column that x's first number multiplies */
    int32_t count;
} CylOperand;

/* The windows of a convolution whose outputs lie side by side: tap (i, j) of output o begins at
   rows[i] + o*stride + j*tap_stride. */
typedef struct {
    const void *const *rows; /* real, (kernel_rows): the first taps of the first output */
    int32_t kernel_rows, kernel_columns;
    int64_t tap_stride, stride; /* reals */
} CylWindows;

typedef struct CylMatrix CylMatrix;
typedef struct CylActivationSpec CylActivationSpec;
typedef struct CylStep CylStep;
typedef struct CylLstm CylLstm;
typedef struct CylGru CylGru;
typedef struct CylRnn CylRnn;

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

typedef struct {
    const char *name;
    size_t real_size;
    bool is_packed;
    /* the products by the type of the matrix's weights */
#define CYL_PRODUCT(name, arguments) void(*name[CYL_WEIGHTS_COUNT]) arguments;
#define CYL_KERNEL(type, name, arguments) type(*name) arguments;
#include "kernels/kernels.def"
} CylKernels;

/* There are the tables of the sets whose CYL_HAVE_ is 1. */
#define CYL_ISA(name, ...) extern const CylKernels cyl_kernels_##name, cyl_kernels_blas32_##name;
#define CYL_ISA_DOTS(name, ...) extern const CylKernels cyl_kernels_##name;
#include "cylstm_isa.def"
extern const CylKernels cyl_kernels_blas64;

/* Of these machines all have another set too: scalar code runs where it is asked for, and is to be small. */
#if defined(__x86_64__) || defined(__aarch64__)
#define CYL_SCALAR_IS_SPARE 1
#else
#define CYL_SCALAR_IS_SPARE 0
#endif

#define CYL_PRODUCT(name, arguments)                                                                                   \
    void cyl_blas32_##name arguments;                                                                                  \
    void cyl_blas64_##name arguments;
#define CYL_KERNEL(type, name, arguments)
#include "kernels/kernels.def"

/* The table of an engine for an available set; the BLAS engine in double has one for all. */
const CylKernels *cyl_kernels_of(CylEngine engine, CylIsa isa);

#endif
