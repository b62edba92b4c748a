/* The packed kernels for the instruction set "neon". */
#include "../internal.h"

#include "../simd/neon.h"

#include "packed.h"

#define CYL_TABLE cyl_kernels_neon
#define CYL_TABLE_NAME "neon"
#include "table.h"
