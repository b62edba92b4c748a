#include "simd/neon.h"
#define CYL_SET neon
#include "isa/set.h"
