/* The options and weights of a GRU: see gru.c. */
#ifndef CYL_LAYERS_GRU_H
#define CYL_LAYERS_GRU_H

#include "model/matrix.h"
#include "model/recurrent.h"
#include "model/spec.h"

#include <stdbool.h>

struct CylGru {
    CylRecurrent recurrent;
    CylMatrix input;     /* r z n over x */
    CylMatrix gates;     /* over h: r z n (reset-after) or r z (reset-before) */
    CylMatrix candidate; /* reset-before: n over r*h */
    bool is_reset_after;
    double gate_clip; /* 0 for none */
    CylActivationSpec activation, recurrent_activation;
};

#endif
