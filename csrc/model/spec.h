/* Looking up what a spec says of a layer (model.c). */
#ifndef CYL_SPEC_H
#define CYL_SPEC_H

#include "cylstm.h"
#include "model/activations.h"

#include <stdint.h>

typedef struct CylActivationSpec {
    CylActivation id;
    double alpha, beta;
} CylActivationSpec;

/* lookups in a spec; the result is NULL or -1 where absent */
const CylTensor *cyl_spec_tensor(const CylLayerSpec *spec, const char *role);
const CylOption *cyl_spec_option(const CylLayerSpec *spec, const char *name);
int32_t cyl_spec_input(const CylLayerSpec *spec, const char *role);
int32_t cyl_spec_output(const CylLayerSpec *spec, const char *role);
/* `slot`, `slot`_alpha and `slot`_beta */
CylStatus cyl_spec_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation);
/* the number of an option; CYL_E_OPTION unless it is there and at least `least` */
CylStatus cyl_spec_number(const CylLayerSpec *spec, const char *name, double least, double *number);
/* CYL_E_TENSOR unless the tensor is there with this shape; columns -1 for rank 1 */
CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns);

#endif
