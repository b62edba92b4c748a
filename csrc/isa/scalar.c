/* The packed kernels for the instruction set "scalar". */
#include "../internal.h"

#include "../simd/scalar.h"

#include "packed.h"

#define CYL_TABLE cyl_kernels_scalar
#define CYL_TABLE_NAME "scalar"
#include "table.h"
