/* Looking up what a spec says of a layer (spec.c). */
#ifndef CYL_SPEC_H
#define CYL_SPEC_H

#include "cylstm.h"
#include "model/activations.h"
#include "platform/rare.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct CylActivationSpec {
    CylActivation id;
    double alpha, beta;
} CylActivationSpec;

/* They return NULL or -1 if the spec has no such tensor or port. */
CYL_RARE const CylTensor *cyl_spec_tensor(const CylLayerSpec *spec, const char *role);
CYL_RARE int32_t cyl_spec_input(const CylLayerSpec *spec, const char *role);
CYL_RARE int32_t cyl_spec_output(const CylLayerSpec *spec, const char *role);

/* Gives CYL_E_TENSOR unless the tensor is there and has this shape; columns is -1 for a tensor of rank 1. */
CYL_RARE CylStatus cyl_check_tensor(const CylTensor *tensor, int64_t rows, int64_t columns);
/* The same for a tensor that may be absent. */
CYL_RARE CylStatus cyl_check_optional(const CylTensor *tensor, int64_t rows, int64_t columns);

/*
 * Readers of options. Each gives CYL_E_OPTION and leaves what it points to as it was if the option is missing, of
 * another type or out of range.
 */

/* Any number, and a number from `least` to 1e30. */
CYL_RARE CylStatus cyl_spec_real(const CylLayerSpec *spec, const char *name, double *number);
CYL_RARE CylStatus cyl_spec_number(const CylLayerSpec *spec, const char *name, double least, double *number);
/* A whole number from `least` to `most`. */
CYL_RARE CylStatus cyl_spec_whole(const CylLayerSpec *spec, const char *name, int32_t least, int32_t most,
                                  int32_t *number);
/* A number that means true unless it is 0. */
CYL_RARE CylStatus cyl_spec_flag(const CylLayerSpec *spec, const char *name, bool *flag);
CYL_RARE CylStatus cyl_spec_text(const CylLayerSpec *spec, const char *name, const char **text);
/* The index of the option's text among `choices`, whose last is NULL. */
CYL_RARE CylStatus cyl_spec_choice(const CylLayerSpec *spec, const char *name, const char *const *choices, int *index);
/* An activation, from the options `slot`, `slot`_alpha and `slot`_beta; the last two may be missing. */
CYL_RARE CylStatus cyl_spec_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation);
/* The same for an activation that is computed number by number, which a softmax is not. */
CYL_RARE CylStatus cyl_spec_gate_activation(const CylLayerSpec *spec, const char *slot, CylActivationSpec *activation);
/* Returns whether the spec has the option at all. */
CYL_RARE bool cyl_spec_has_option(const CylLayerSpec *spec, const char *name);

#endif
