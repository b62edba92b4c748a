/* The products with weights of int8 by the whole-number sums of DOTS: with activations of 16 bits, and of 8. */
#define W_NAME CYL_JOIN(_int8a16_, DOTS)
#define IS_WIDE true
#include "kernels/product_int8.h"
#undef W_NAME
#undef IS_WIDE

#define W_NAME CYL_JOIN(_int8a8_, DOTS)
#define IS_WIDE false
#include "kernels/product_int8.h"
#undef W_NAME
#undef IS_WIDE
