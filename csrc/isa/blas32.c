/* The BLAS engine in float precision: CBLAS for the products, libm for the functions. */
#include "../internal.h"

#define REAL float
#define GEMV sgemv
#define GEMM sgemm

#include "blas.h"

#define CYL_TABLE cyl_kernels_blas32
#define CYL_TABLE_NAME "blas32"
#include "table.h"
