#include "simd/avx512.h"
#define CYL_SET avx512
#define CYL_DOTS avx2
#define CYL_DOTS_HEADER "simd/dots/avx2.h"
#define CYL_DOTS_SET avx512_vnni
#define CYL_DOTS_SET_HEADER "simd/dots/avx512_vnni.h"
#include "isa/set.h"
