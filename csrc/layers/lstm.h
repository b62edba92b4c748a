/* The options and weights of an LSTM: see lstm.c. */
#ifndef CYL_LAYERS_LSTM_H
#define CYL_LAYERS_LSTM_H

#include "model/matrix.h"
#include "model/recurrent.h"
#include "model/spec.h"

#include <stdbool.h>
#include <stdint.h>

/* how the input and the forget gate depend on each other */
typedef enum { CYL_GATES_FREE = 0, CYL_GATES_NO_FORGET, CYL_GATES_F_FROM_I, CYL_GATES_I_FROM_F } CylCoupling;

/* layer normalisation: gain*(a - mean)*rsqrt(variance + epsilon) + shift, over one row */
typedef struct {
    void *gain, *shift; /* real, in the layout of what is normalised */
} CylNorm;

struct CylLstm {
    CylRecurrent recurrent; /* first, so that a pointer to a CylLstm is one to it */
    CylMatrix gates;        /* over [x, h], or x alone: see cyl_gates_prepare; with layer normalisation x alone */
    CylMatrix hidden_gates; /* over h, or units 0 */
    CylMatrix projection;   /* (output, hidden); units 0 if there is none */
    CylCoupling coupling;
    int32_t at_i, at_f, at_g, at_o; /* place of each gate among the matrix's gates, -1 for a gate without weights */
    void *peepholes;                /* real (3, state_stride(hidden)): of i, f, o; or NULL */
    double cell_clip, gate_clip;    /* 0 for none */
    bool is_normalised, carries_normalised_cell;
    CylNorm input_norm, hidden_norm, cell_norm; /* the first two in the layout of accumulators, the third (hidden) */
    void *bias;                                 /* with layer normalisation: real, a row of accumulators */
    double epsilon;
    CylActivationSpec activation, recurrent_activation, output_activation; /* of g; of i f o; of c in h */
};

#endif
