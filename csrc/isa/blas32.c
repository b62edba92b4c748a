/*
 * The BLAS engine in float precision: its product; and where scalar code may be the best that a machine has, its table
 * for that. There a multiply-add may be rounded twice, in a fraction of the time. Elsewhere that table is in scalar.c.
 */
#define CYL_FMA_BY_DOUBLE
#include "simd/scalar.h"

#define GEMV sgemv
#define GEMM sgemm
#define PRODUCT cyl_blas32_product
#define PRODUCT_OUTPUT cyl_blas32_product_output
#include "kernels/kernels.h"
#if CYL_SCALAR_IS_SPARE
#include "model/activations.h"
#include "model/model.h"
#include "model/spec.h"

#include "kernels/product_blas.h"
#else
#define CYL_PRODUCT_BODY "kernels/product_blas.h"
#include "isa/bodies.h"

#define CYL_TABLE cyl_kernels_blas32_scalar
#define CYL_TABLE_NAME "blas32, scalar"
#define CYL_TABLE_IS_PACKED false
#define CYL_TABLE_PRODUCT cyl_blas32_product
#define CYL_TABLE_PRODUCT_OUTPUT cyl_blas32_product_output
#include "isa/table.h"
#endif
