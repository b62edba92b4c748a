/* The kernels for the instruction set "neon". */
#include "../internal.h"

#include "../simd/neon.h"

#define CYL_ISA neon
#define CYL_ISA_NAME "neon"
#include "packed.h"

#include "blas.h"
