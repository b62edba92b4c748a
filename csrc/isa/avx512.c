/* The kernels for the instruction set "avx512". */
#include "../internal.h"

#include "../simd/avx512.h"

#define CYL_ISA avx512
#define CYL_ISA_NAME "avx512"
#include "packed.h"

#include "blas.h"
