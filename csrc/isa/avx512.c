#include "simd/avx512.h"
#define CYL_SET avx512
#include "isa/set.h"
