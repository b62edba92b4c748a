/* The product of the BLAS engine in float precision; the tables with it are those of the instruction sets. */
#include "../internal.h"

#define REAL float
#define GEMV sgemv
#define GEMM sgemm
#define PRODUCT cyl_product_blas32
#include "../kernels/product_blas.h"
