/* The tables of one instruction set, whose logical vector and name (CYL_ISA, CYL_ISA_NAME) were defined before: of
   the packed engine, and of the BLAS engine in float, which shares all but the product. */
#include "../kernels/functions.h"

#include "../kernels/activation.h"

#include "../kernels/product.h"

#include "../kernels/cells.h"

#include "../kernels/elementwise.h"

#define CYL_JOIN_(a, b) a##b
#define CYL_JOIN(a, b) CYL_JOIN_(a, b)

#define CYL_TABLE CYL_JOIN(cyl_kernels_, CYL_ISA)
#define CYL_TABLE_NAME CYL_ISA_NAME
#define CYL_TABLE_PRODUCT product
#define CYL_TABLE_IS_PACKED true
#include "table.h"

#define CYL_TABLE CYL_JOIN(cyl_kernels_blas32_, CYL_ISA)
#define CYL_TABLE_NAME "blas32, " CYL_ISA_NAME
#define CYL_TABLE_PRODUCT cyl_product_blas32
#define CYL_TABLE_IS_PACKED false
#include "table.h"
