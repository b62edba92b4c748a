/* A table of the kernels included before. Defined are CYL_TABLE, CYL_TABLE_NAME and CYL_TABLE_IS_PACKED. The packed
   engine has a product for each type of weights; the others have CYL_TABLE_PRODUCT and CYL_TABLE_PRODUCT_OUTPUT, for
   real ones. */

const CylKernels CYL_TABLE = {
    .name = CYL_TABLE_NAME,
    .real_size = sizeof(REAL),
    .is_packed = CYL_TABLE_IS_PACKED,
#define CYL_PRODUCT(name, arguments)
#define CYL_KERNEL(type, name, arguments) .name = name,
#include "kernels/kernels.def"
#if CYL_TABLE_IS_PACKED
#define CYL_WEIGHT_TYPE(NAME, name)                                                                                    \
    .product[CYL_WEIGHTS_##NAME] = product_##name, .product_output[CYL_WEIGHTS_##NAME] = product_output_##name,
#include "kernels/weight_types.def"
#else
    .product[CYL_WEIGHTS_REAL] = CYL_TABLE_PRODUCT,
    .product_output[CYL_WEIGHTS_REAL] = CYL_TABLE_PRODUCT_OUTPUT,
#endif
};

#undef CYL_TABLE
#undef CYL_TABLE_NAME
#undef CYL_TABLE_IS_PACKED
#undef CYL_TABLE_PRODUCT
#undef CYL_TABLE_PRODUCT_OUTPUT
