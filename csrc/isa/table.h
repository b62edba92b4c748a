/* A table of the kernels included before. Defined are CYL_TABLE, CYL_TABLE_NAME and CYL_TABLE_IS_PACKED. The packed
   engine has a product for each type of weights, those of int8 with the whole-number sums of CYL_TABLE_DOTS; the others
   have CYL_TABLE_PRODUCT and CYL_TABLE_PRODUCT_OUTPUT, for real ones. */

const CylKernels CYL_TABLE = {
    .name = CYL_TABLE_NAME,
    .real_size = sizeof(REAL),
    .is_packed = CYL_TABLE_IS_PACKED,
#define CYL_PRODUCT(name, arguments)
#define CYL_KERNEL(type, name, arguments) .name = name,
#include "kernels/kernels.def"
#if CYL_TABLE_IS_PACKED
#define product_int8a16 CYL_JOIN(product_int8a16_, CYL_TABLE_DOTS)
#define product_int8a8 CYL_JOIN(product_int8a8_, CYL_TABLE_DOTS)
/* of convolutions, which have no such weights: cyl_group_prepare */
#define product_output_int8a16 NULL
#define product_output_int8a8 NULL
#define CYL_WEIGHT_TYPE(NAME, name)                                                                                    \
    .product[CYL_WEIGHTS_##NAME] = product_##name, .product_output[CYL_WEIGHTS_##NAME] = product_output_##name,
#include "kernels/weight_types.def"
#undef product_int8a16
#undef product_int8a8
#undef product_output_int8a16
#undef product_output_int8a8
#else
    .product[CYL_WEIGHTS_REAL] = CYL_TABLE_PRODUCT,
    .product_output[CYL_WEIGHTS_REAL] = CYL_TABLE_PRODUCT_OUTPUT,
#endif
};

#undef CYL_TABLE
#undef CYL_TABLE_NAME
#undef CYL_TABLE_IS_PACKED
#undef CYL_TABLE_DOTS
#undef CYL_TABLE_PRODUCT
#undef CYL_TABLE_PRODUCT_OUTPUT
