/* The activation functions by number and by name; what they compute is in kernels/activation.h. */
#ifndef CYL_ACTIVATIONS_H
#define CYL_ACTIVATIONS_H

typedef enum CylActivation {
    CYL_ACT_LINEAR = 0,
    CYL_ACT_TANH,
    CYL_ACT_SIGMOID,
    CYL_ACT_RELU,
    CYL_ACT_LEAKY_RELU,
    CYL_ACT_ELU,
    CYL_ACT_SELU,
    CYL_ACT_SOFTPLUS,
    CYL_ACT_SOFTSIGN,
    CYL_ACT_SILU,
    CYL_ACT_GELU,
    CYL_ACT_GELU_TANH,
    CYL_ACT_EXPONENTIAL,
    CYL_ACT_HARD_SIGMOID,
    CYL_ACT_CLIP,
    CYL_ACT_SOFTMAX, /* taken over a whole row, so it is never a gate's activation */
    CYL_ACT_COUNT
} CylActivation;

/* The number of the activation that cylstm/graph/activations.py calls `name`, or -1. */
int cyl_activation_from_name(const char *name);

#endif
