/* The BLAS engine in float precision: its product, and its table for machines without a vector set. */
#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/ieee.h"
#include "platform/blas.h"
#include "run/recurrent.h"

#define CYL_FMA_BY_DOUBLE
#include "simd/scalar.h"

#include "kernels/functions.h"

#include "kernels/activation.h"

#define GEMV sgemv
#define GEMM sgemm
#define PRODUCT cyl_product_blas32
#include "kernels/product_blas.h"

#include "kernels/cells.h"

#include "kernels/elementwise.h"

#include "kernels/layers.h"

#define CYL_TABLE cyl_kernels_blas32_scalar
#define CYL_TABLE_NAME "blas32, scalar"
#define CYL_TABLE_PRODUCT cyl_product_blas32
#define CYL_TABLE_IS_PACKED false
#include "table.h"
