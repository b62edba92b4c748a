/* Looking up what a spec says of a layer (spec.c). */
#ifndef CYL_SPEC_H
#define CYL_SPEC_H

#include "cylstm.h"
#include "model/activations.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct CylActivationSpec {
    CylActivation id;
    double alpha, beta;
} CylActivationSpec;

/* NULL or -1 where there is no such thing */
const CylTensor *cyl_spec_tensor(const CylLayerSpec *spec, const char *role);
int32_t cyl_spec_input(const CylLayerSpec *spec, const char *role);
int32_t cyl_spec_output(const CylLayerSpec *spec, const char *role);

/* CYL_E_TENSOR unless the tensor is there with this shape; columns -1 for rank 1 */
CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns);
/* the same of one that may be absent */
CylStatus cyl_check_optional(const CylTensor *tensor, int64_t rows, int64_t columns);

/*
 * Readers of options. Each gives CYL_E_OPTION and leaves what it points to as it was if the option is missing, of
 * another type or out of range.
 */

/* any number; and one of at least `least` and at most 1e30 */
CylStatus cyl_spec_real(const CylLayerSpec *spec, const char *name, double *number);
CylStatus cyl_spec_number(const CylLayerSpec *spec, const char *name, double least, double *number);
/* a whole number from `least` to `most` */
CylStatus cyl_spec_whole(const CylLayerSpec *spec, const char *name, int32_t least, int32_t most, int32_t *number);
/* a number that is true unless it is 0 */
CylStatus cyl_spec_flag(const CylLayerSpec *spec, const char *name, bool *flag);
CylStatus cyl_spec_text(const CylLayerSpec *spec, const char *name, const char **text);
/* the index of the option's text among `choices`, which end with NULL */
CylStatus cyl_spec_choice(const CylLayerSpec *spec, const char *name, const char *const *choices, int *index);
/* an activation from the options `slot`, `slot`_alpha and `slot`_beta, of which the last two may be missing */
CylStatus cyl_spec_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation);
/* one that is taken number by number, so no softmax */
CylStatus cyl_spec_gate_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation);
/* true if the option is there, whatever it is */
bool cyl_spec_has_option(const CylLayerSpec *spec, const char *name);

#endif
