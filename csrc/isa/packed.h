/* The tables of the packed engine for the set CYL_SET, whose logical vector is included before, and for the set with
   dot products that is made of it, CYL_DOTS_SET, if there is one. CYL_DOTS are the whole-number sums of the first. */
#define CYL_JOIN_(a, b) a##b
#define CYL_JOIN(a, b) CYL_JOIN_(a, b)
#define CYL_TEXT_(a) #a
#define CYL_TEXT(a) CYL_TEXT_(a)

#define CYL_PRODUCT_BODY "kernels/products.h"
#include "isa/bodies.h"

#define CYL_TABLE CYL_JOIN(cyl_kernels_, CYL_SET)
#define CYL_TABLE_NAME CYL_TEXT(CYL_SET)
#define CYL_TABLE_IS_PACKED true
#define CYL_TABLE_DOTS CYL_DOTS
#include "isa/table.h"

#ifdef CYL_DOTS_SET
#define CYL_TABLE CYL_JOIN(cyl_kernels_, CYL_DOTS_SET)
#define CYL_TABLE_NAME CYL_TEXT(CYL_DOTS_SET)
#define CYL_TABLE_IS_PACKED true
#define CYL_TABLE_DOTS CYL_DOTS_SET
#include "isa/table.h"
#endif
