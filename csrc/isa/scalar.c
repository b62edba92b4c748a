#include "kernels/kernels.h"

#include "simd/scalar.h"
#define CYL_SET scalar
#define CYL_DOTS scalar
#define CYL_DOTS_HEADER "simd/dots/scalar.h"
#if CYL_SCALAR_IS_SPARE
#include "isa/set.h"
#else /* the table of the BLAS engine is in blas32.c */
#include "isa/packed.h"
#endif
