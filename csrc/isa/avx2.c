/* The packed kernels for the instruction set "avx2". */
#include "../internal.h"

#include "../simd/avx2.h"

#include "packed.h"

#define CYL_TABLE cyl_kernels_avx2
#define CYL_TABLE_NAME "avx2"
#include "table.h"
