/* What all kernels use: loads and stores of the first 1 to 16 numbers of a logical vector, and loops unrolled. */

/* a loop whose count inlining makes a constant, unrolled before the compiler decides what stays in registers */
#define UNROLLED _Pragma("GCC unroll 16")

static inline V load_lanes(const REAL *p, int32_t lanes) { return lanes == 16 ? v_load(p) : v_load_part(p, lanes); }

static inline void store_lanes(REAL *p, V a, int32_t lanes) {
    if (lanes == 16) {
        v_store(p, a);
    } else {
        v_store_part(p, a, lanes);
    }
}
