/* The bodies of the BLAS engine, for the REAL, GEMV and GEMM defined before. */
#include "../simd/plain.h"

#include "../kernels/functions_libm.h"

#include "../kernels/activation.h"

#include "../kernels/product_blas.h"

#include "../kernels/cells.h"

#include "../kernels/elementwise.h"

#include "../kernels/layers.h"

#define CYL_TABLE_IS_PACKED false
