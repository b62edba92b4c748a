/* The bodies of the packed engine, on whichever logical vector was included before. */
#include "../kernels/functions.h"

#include "../kernels/activation.h"

#include "../kernels/product.h"

#include "../kernels/cells.h"

#include "../kernels/elementwise.h"

#include "../kernels/layers.h"

#define CYL_TABLE_IS_PACKED true
