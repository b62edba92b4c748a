#include "simd/sse2.h"
#define CYL_SET sse2
#define CYL_DOTS sse2
#define CYL_DOTS_HEADER "simd/dots/sse2.h"
#include "isa/set.h"
