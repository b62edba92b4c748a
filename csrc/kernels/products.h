/*
 * The products of the packed engine, one for each type of weights. product.h is the body of all whose weights are
 * widened to real numbers: W is the type of a packed number, w_load(p) the 16 at p as a logical vector.
 * W_WIDENED says that it is not real, so that a set with WIDENED_COLUMNS may widen it once for many columns.
 * product_int8.h is that of weights which are whole numbers with a scale.
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
#define W_WIDENED
#define w_load v_load_half
#include "kernels/product.h"
#undef W_NAME
#undef W
#undef W_WIDENED
#undef w_load

/* pairs of columns: w_load_pair(p, &first, &second) takes the 16 pairs at p apart */
#define W_NAME _bfloat16
#define W uint16_t
#define W_WIDENED
#define W_PAIRS
#define w_load_pair v_load_bfloat_pair
#define w_load_pair_once v_load_bfloat_pair_once
#include "kernels/product.h"
#undef W_NAME
#undef W
#undef W_WIDENED
#undef W_PAIRS
#undef w_load_pair
#undef w_load_pair_once

/* weights of int8, with the whole-number sums of CYL_DOTS and, in a set beside this one, of CYL_DOTS_SET */
#include CYL_DOTS_HEADER
#define DOTS CYL_DOTS
#include "kernels/products_int8.h"
#undef DOTS

#ifdef CYL_DOTS_SET
#include CYL_DOTS_SET_HEADER
#define DOTS CYL_DOTS_SET
#include "kernels/products_int8.h"
#undef DOTS
#endif

#undef NAMED
