/* The BLAS engine in double precision: CBLAS for the products, libm for the functions. */
#include "../internal.h"

#define REAL double
#define GEMV dgemv
#define GEMM dgemm

#include "blas.h"

#define CYL_TABLE cyl_kernels_blas64
#define CYL_TABLE_NAME "blas64"
#include "table.h"
