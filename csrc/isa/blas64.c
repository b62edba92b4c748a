/* The BLAS engine in double precision: CBLAS for the products, libm for the functions. */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#include "simd/plain.h"

#include "kernels/functions_libm.h"

#include "kernels/activation.h"

#define GEMV dgemv
#define GEMM dgemm
#define PRODUCT cyl_product_blas64
#include "kernels/product_blas.h"

#include "kernels/cells.h"

#include "kernels/elementwise.h"

#include "kernels/layers.h"

#define CYL_TABLE cyl_kernels_blas64
#define CYL_TABLE_NAME "blas64"
#define CYL_TABLE_PRODUCT cyl_product_blas64
#define CYL_TABLE_IS_PACKED false
#include "table.h"
