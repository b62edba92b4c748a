/* The table of the BLAS engine for scalar code is in blas32.c: there a multiply-add may be rounded twice. */
#include "simd/scalar.h"
#define CYL_SET scalar
#define CYL_DOTS scalar
#define CYL_DOTS_HEADER "simd/dots/scalar.h"
#include "isa/packed.h"
