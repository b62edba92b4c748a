/* The options and weights of a simple recurrent layer: see rnn.c. */
#ifndef CYL_LAYERS_RNN_H
#define CYL_LAYERS_RNN_H

#include "model/matrix.h"
#include "model/recurrent.h"
#include "model/spec.h"

struct CylRnn {
    CylRecurrent recurrent;
    CylMatrix gates;        /* one gate over [x, h], or x alone: see cyl_gates_prepare */
    CylMatrix hidden_gates; /* over h, or units 0 */
    double gate_clip;
    CylActivationSpec activation;
};

#endif
