/* The table of the packed engine for the set CYL_SET, whose logical vector is included before. */
#define CYL_JOIN_(a, b) a##b
#define CYL_JOIN(a, b) CYL_JOIN_(a, b)
#define CYL_TEXT_(a) #a
#define CYL_TEXT(a) CYL_TEXT_(a)

#define CYL_PRODUCT_BODY "kernels/products.h"
#include "isa/bodies.h"

#define CYL_TABLE CYL_JOIN(cyl_kernels_, CYL_SET)
#define CYL_TABLE_NAME CYL_TEXT(CYL_SET)
#define CYL_TABLE_IS_PACKED true
#include "isa/table.h"
