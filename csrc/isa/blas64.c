/* The BLAS engine in double precision: CBLAS for the products, libm for the functions. */
#include "simd/plain.h"

#include "kernels/functions_libm.h"

#define GEMV dgemv
#define GEMM dgemm
#define PRODUCT cyl_blas64_product
#define PRODUCT_OUTPUT cyl_blas64_product_output
#define CYL_PRODUCT_BODY "kernels/product_blas.h"
#define CYL_SMALL
#include "isa/bodies.h"

#define CYL_TABLE cyl_kernels_blas64
#define CYL_TABLE_NAME "blas64"
#define CYL_TABLE_IS_PACKED false
#define CYL_TABLE_PRODUCT cyl_blas64_product
#define CYL_TABLE_PRODUCT_OUTPUT cyl_blas64_product_output
#include "isa/table.h"
