#include "simd/avx2.h"
#define CYL_SET avx2
#define CYL_DOTS avx2
#define CYL_DOTS_HEADER "simd/dots/avx2.h"
#define CYL_DOTS_SET avx_vnni
#define CYL_DOTS_SET_HEADER "simd/dots/avx_vnni.h"
#include "isa/set.h"
