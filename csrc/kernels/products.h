/*
 * The products of the packed engine, one for each type of weights. product.h is the body of all whose weights are
 * widened to real numbers: W is the type of a packed number, w_load(p) the 16 at p as a logical vector.
 */
#define NAMED(name) CYL_JOIN(name, W_NAME)

#define W_NAME _real
#define W REAL
#define w_load v_load
#include "kernels/product.h"
#undef W_NAME
#undef W
#undef w_load

#define W_NAME _float16
#define W uint16_t
#define w_load v_load_half
#include "kernels/product.h"
#undef W_NAME
#undef W
#undef w_load

#undef NAMED
