#include "simd/neon.h"
#define CYL_SET neon
#define CYL_DOTS neon
#define CYL_DOTS_HEADER "simd/dots/neon.h"
#ifdef __aarch64__
#define CYL_DOTS_SET neon_dot
#define CYL_DOTS_SET_HEADER "simd/dots/neon_dot.h"
#endif
#include "isa/set.h"
