/* The packed kernels for the instruction set "avx512". */
#include "../internal.h"

#include "../simd/avx512.h"

#include "packed.h"

#define CYL_TABLE cyl_kernels_avx512
#define CYL_TABLE_NAME "avx512"
#include "table.h"
