#include "simd/avx2.h"
#define CYL_SET avx2
#include "isa/set.h"
