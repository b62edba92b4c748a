/* The kernels for the instruction set "avx2". */
#include "../internal.h"

#include "../simd/avx2.h"

#define CYL_ISA avx2
#define CYL_ISA_NAME "avx2"
#include "packed.h"

#include "blas.h"
