/* The tables of both engines in float for the set CYL_SET, whose logical vector is included before. They differ in the
   products alone. */
#include "isa/packed.h"

#define CYL_TABLE CYL_JOIN(cyl_kernels_blas32_, CYL_SET)
#define CYL_TABLE_NAME "blas32, " CYL_TEXT(CYL_SET)
#define CYL_TABLE_IS_PACKED false
#define CYL_TABLE_PRODUCT cyl_blas32_product
#define CYL_TABLE_PRODUCT_OUTPUT cyl_blas32_product_output
#include "isa/table.h"
