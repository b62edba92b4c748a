/* What a layer that pools as it writes asks of the pooling behind it (pool1d.c). */
#ifndef CYL_POOL1D_H
#define CYL_POOL1D_H

#include "model/model.h"

#include <stdint.h>

/* If a pooling takes maxima of windows that lie side by side, without padding: how many numbers each has along an axis
   of x, and which axis that is, the time counted. Else 0. */
int32_t cyl_pool_maxima(const CylLayer *layer, int32_t *axis);

#endif
