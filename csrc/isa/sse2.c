#include "simd/sse2.h"
#define CYL_SET sse2
#include "isa/set.h"
