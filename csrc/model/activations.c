#include "model/activations.h"

#include <string.h>

static const char *const NAMES[CYL_ACT_COUNT] = {
    [CYL_ACT_LINEAR] = "linear",
    [CYL_ACT_TANH] = "tanh",
    [CYL_ACT_SIGMOID] = "sigmoid",
    [CYL_ACT_RELU] = "relu",
    [CYL_ACT_LEAKY_RELU] = "leaky_relu",
    [CYL_ACT_ELU] = "elu",
    [CYL_ACT_SELU] = "selu",
    [CYL_ACT_SOFTPLUS] = "softplus",
    [CYL_ACT_SOFTSIGN] = "softsign",
    [CYL_ACT_SILU] = "silu",
    [CYL_ACT_GELU] = "gelu",
    [CYL_ACT_GELU_TANH] = "gelu_tanh",
    [CYL_ACT_EXPONENTIAL] = "exponential",
    [CYL_ACT_HARD_SIGMOID] = "hard_sigmoid",
    [CYL_ACT_CLIP] = "clip",
    [CYL_ACT_SOFTMAX] = "softmax",
};

int cyl_activation_from_name(const char *name) {
    for (int id = 0; id < CYL_ACT_COUNT; id++)
        if (strcmp(name, NAMES[id]) == 0)
            return id;
    return -1;
}
