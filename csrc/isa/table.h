/* A table of the kernels included before. Defined are CYL_TABLE, CYL_TABLE_NAME, CYL_TABLE_IS_PACKED and
   CYL_TABLE_PRODUCT(name), the function that the table has for a product. */

const CylKernels CYL_TABLE = {
    .name = CYL_TABLE_NAME,
    .real_size = sizeof(REAL),
    .is_packed = CYL_TABLE_IS_PACKED,
#define CYL_PRODUCT(name, arguments) .name = CYL_TABLE_PRODUCT(name),
#define CYL_KERNEL(type, name, arguments) .name = name,
#include "kernels/kernels.def"
};

#undef CYL_TABLE
#undef CYL_TABLE_NAME
#undef CYL_TABLE_IS_PACKED
#undef CYL_TABLE_PRODUCT
