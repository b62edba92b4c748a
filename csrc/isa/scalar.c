/* The table of the BLAS engine is in blas32.c, where a multiply-add may be rounded twice. */
#include "simd/scalar.h"
#define CYL_SET scalar
#include "isa/packed.h"
