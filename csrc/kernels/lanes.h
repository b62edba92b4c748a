/* Loads and stores of the first 1 to 16 numbers of a logical vector. */

static inline V load_lanes(const REAL *p, int32_t lanes) { return lanes == 16 ? v_load(p) : v_load_part(p, lanes); }

static inline void store_lanes(REAL *p, V a, int32_t lanes) {
    if (lanes == 16) {
        v_store(p, a);
    } else {
        v_store_part(p, a, lanes);
    }
}
