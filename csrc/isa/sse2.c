/* The kernels for the instruction set "sse2". */
#include "../internal.h"

#include "../simd/sse2.h"

#define CYL_ISA sse2
#define CYL_ISA_NAME "sse2"
#include "packed.h"

#include "blas.h"
