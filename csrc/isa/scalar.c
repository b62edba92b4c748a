/* The kernels for the instruction set "scalar". */
#include "../internal.h"

#include "../simd/scalar.h"

#define CYL_ISA scalar
#define CYL_ISA_NAME "scalar"
#include "packed.h"
