/* The packed engine on the logical vector included before, with CYL_ISA and CYL_ISA_NAME defined. */
#include "kernels/functions.h"

#include "kernels/activation.h"

#include "kernels/product.h"

#include "kernels/cells.h"

#include "kernels/elementwise.h"

#include "kernels/layers.h"

#define CYL_JOIN_(a, b) a##b
#define CYL_JOIN(a, b) CYL_JOIN_(a, b)

#define CYL_TABLE CYL_JOIN(cyl_kernels_, CYL_ISA)
#define CYL_TABLE_NAME CYL_ISA_NAME
#define CYL_TABLE_PRODUCT product
#define CYL_TABLE_IS_PACKED true
#include "table.h"
