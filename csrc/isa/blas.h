/* The BLAS engine in float on an instruction set: all but the product is the packed engine's, included before. */
#define CYL_TABLE CYL_JOIN(cyl_kernels_blas32_, CYL_ISA)
#define CYL_TABLE_NAME "blas32, " CYL_ISA_NAME
#define CYL_TABLE_PRODUCT cyl_product_blas32
#define CYL_TABLE_IS_PACKED false
#include "table.h"
