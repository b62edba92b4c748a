/* The table of the BLAS engine for scalar code is in blas32.c: there a multiply-add may be rounded twice. */
#include "simd/scalar.h"
#define CYL_SET scalar
#include "isa/packed.h"
