/* The packed kernels for the instruction set "sse2". */
#include "../internal.h"

#include "../simd/sse2.h"

#include "packed.h"

#define CYL_TABLE cyl_kernels_sse2
#define CYL_TABLE_NAME "sse2"
#include "table.h"
