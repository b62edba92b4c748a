/*
 * The subnormal rule (see CYL_TINY in platform/ieee.h): no calculation of the packed engine has a subnormal operand
 * or result, however small its weights, inputs and states are or become. The CPU tells: on x86 it records in MXCSR
 * that an operand was subnormal and that a result was. Elsewhere nothing is asserted.
 */
#include "cylstm.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define HAS_FLAGS 1
#define SUBNORMAL_OPERAND 0x02u
#define UNDERFLOW_RESULT 0x10u

static void clear_flags(void) { _mm_setcsr(_mm_getcsr() & ~0x3fu); }
static unsigned raised_flags(void) { return _mm_getcsr() & (SUBNORMAL_OPERAND | UNDERFLOW_RESULT); }
#else
#define HAS_FLAGS 0
static void clear_flags(void) {}
static unsigned raised_flags(void) { return 0; }
#endif

/* predicts and streams on one thread, whose flags can be read, with every instruction set */
static void check_flags(const Network *network, const Data *data, const char *name) {
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        if (!cyl_isa_available((CylIsa)isa)) {
            continue;
        }
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa);
        clear_flags();
        Result whole = predict(network, model, data, 1);
        unsigned raised = raised_flags();
        CHECK(raised == 0, "%s on %s has%s%s", name, cyl_isa_name((CylIsa)isa),
              raised & 0x02u ? " subnormal operands" : "", raised & 0x10u ? " subnormal results" : "");
        result_free(&whole);
        cyl_model_free(model);
    }
}

static void scale_all(float *x, int64_t count, float scale) {
    for (int64_t i = 0; i < count; i++) {
        x[i] *= scale;
    }
}

static int64_t input_count(const Network *network, const Data *data) {
    return data->rows * data->times[0] * network->features[network->inputs[0]];
}

/* a layer whose states go to zero, slowly: gates far from saturation, no input, no bias but the forget gate's */
static void states_that_decay_to_zero_stay_normal(void) {
    static const float forget[] = {-0.7f, 1.0f, 4.0f}; /* sigmoid: 0.33, 0.73, 0.98 */
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        for (int f = 0; f < 3; f++) {
            random_seed((uint64_t)(k * 10 + f));
            RecurrentOptions options = PLAIN;
            options.scale = 1e-3f;
            Network *network = network_create();
            int32_t x = network_input(network, CYL_SEQUENCE, 3, NULL);
            network_output(network, network_recurrent(network, (RecurrentKind)k, x, 19, &options, NULL, NULL));
            Layer *layer = &network->layers[0];
            float *bias = layer->weights[2];
            memset(bias, 0, (size_t)layer->tensors[2].shape[0] * sizeof *bias);
            for (int j = 0; j < 19 && k != RNN; j++) {
                float wanted = forget[f] * (0.9f + 0.01f * (float)j);
                bias[k == LSTM_COUPLED ? j : 19 + j] = k == LSTM_COUPLED ? -wanted : wanted; /* f, z, or i = 1 - f */
            }
            if (k == GRU_AFTER) {
                memset(layer->weights[3], 0, 3 * 19 * sizeof(float));
            }
            int64_t time = f == 2 ? 4000 : 400;
            Data *data = data_create(network, 2, &time, false);
            memset(data->inputs[0], 0, (size_t)input_count(network, data) * sizeof(float));
            char name[100];
            snprintf(name, sizeof name, "%s, forget bias %g", RECURRENT_NAMES[k], (double)forget[f]);
            check_flags(network, data, name);
            data_free(data);
            network_free(network);
        }
    }
}

/* every activation in both places, with weights and inputs of all sizes */
static void every_activation_keeps_tiny_numbers_normal(void) {
    static const struct {
        float weights, inputs, states;
    } scales[] = {
        {0.3f, 0.0f, 1.0f},         {0.3f, 1e-20f, 1e-10f},  {1e-20f, 1.0f, 1.0f},    {0x1p-39f, 0x1p-39f, 0x1p-39f},
        {0x1p-38f, 1.0f, 0x1p-39f}, {1e-6f, 1e-6f, 1e-6f},   {1e-5f, 1e-38f, 1e-38f}, {1.0f, 0x1p-39f, 0x1p-30f},
        {0.3f, 1e4f, 1.0f},         {2e-38f, 2e-38f, 2e-38f}};
    for (int a = 0; a < ACTIVATION_COUNT * ACTIVATION_COUNT; a++) {
        RecurrentOptions options = PLAIN;
        options.activation = ACTIVATIONS[a / ACTIVATION_COUNT].name;
        options.recurrent_activation = ACTIVATIONS[a % ACTIVATION_COUNT].name;
        for (int k = 0; k < RECURRENT_KINDS; k++) {
            for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
                if (!check_is_due(a + k + (int)s)) {
                    continue;
                }
                random_seed((uint64_t)(a * 100 + k * 10) + s);
                options.scale = scales[s].weights;
                Network *network = network_create();
                int32_t x = network_input(network, CYL_SEQUENCE, 3, NULL);
                int32_t y = network_recurrent(network, (RecurrentKind)k, x, 5, &options, NULL, NULL);
                network_output(network, y);
                int64_t time = 12;
                Data *data = data_create(network, 1, &time, false);
                scale_all(data->inputs[0], input_count(network, data), scales[s].inputs);
                for (int i = 0; i < network->state_count; i++) {
                    scale_all(data->states[i], network->state_sizes[i], scales[s].states);
                }
                char name[160];
                snprintf(name, sizeof name, "%s, activation %s, gates %s, weights %g, inputs %g, states %g",
                         RECURRENT_NAMES[k], options.activation, options.recurrent_activation,
                         (double)scales[s].weights, (double)scales[s].inputs, (double)scales[s].states);
                check_flags(network, data, name);
                data_free(data);
                network_free(network);
            }
        }
    }
}

/* gates that are shut, or wide open */
static void saturated_gates_keep_numbers_normal(void) {
    static const float biases[] = {-1e4f, 1e4f, -90.0f, -87.4f, -28.0f, -55.0f};
    for (int a = 0; a < ACTIVATION_COUNT; a++) {
        for (int b = 0; b < 6; b++) {
            for (int k = 0; k < RECURRENT_KINDS; k++) {
                random_seed((uint64_t)(a * 100 + b * 10 + k));
                RecurrentOptions options = PLAIN;
                options.recurrent_activation = ACTIVATIONS[a].name;
                Network *network = network_create();
                int32_t x = network_input(network, CYL_SEQUENCE, 3, NULL);
                network_output(network, network_recurrent(network, (RecurrentKind)k, x, 18, &options, NULL, NULL));
                Layer *layer = &network->layers[0];
                for (int64_t j = 0; j < layer->tensors[2].shape[0]; j++) {
                    if (random_bits() % 2) {
                        layer->weights[2][j] += biases[b];
                    }
                }
                int64_t time = 20;
                Data *data = data_create(network, 2, &time, false);
                char name[100];
                snprintf(name, sizeof name, "%s, gates %s, biases %g", RECURRENT_NAMES[k], ACTIVATIONS[a].name,
                         (double)biases[b]);
                check_flags(network, data, name);
                data_free(data);
                network_free(network);
            }
        }
    }
}

/*
 * Sums that cancel: weights and inputs just above the threshold, in pairs whose products differ in their last bits.
 * What is left of 2^-80 - 2^-80 is as small as a number can be here, down to 2^-126, and goes through every
 * activation, and through a second layer.
 */
static void sums_that_cancel_stay_normal(void) {
    for (int a = 0; a <= ACTIVATION_COUNT; a++) {
        random_seed((uint64_t)a);
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 2, NULL);
        int32_t y = network_dense(network, x, 70, ACTIVATIONS[a].name);
        network_output(network, y);
        network_output(network, network_dense(network, network_dense(network, y, 5, "linear"), 3, ACTIVATIONS[a].name));
        int32_t z = network_dense(network, x, 33, "linear");
        Layer *layer = network_layer(network, "activation");
        int32_t activated = network_value(network, CYL_SEQUENCE, 33);
        network->axes[activated] = 0;
        layer_input(layer, "x", z);
        layer_output(layer, "y", activated);
        layer_activation(layer, "activation", ACTIVATIONS[a].name);
        network_output(network, activated);
        int64_t time = 9;
        Data *data = data_create(network, 2, &time, false);
        for (int64_t i = 0; i < input_count(network, data); i++) {
            data->inputs[0][i] = 0x1p-40f + (float)(random_bits() % 8) * 0x1p-63f;
        }
        for (int n = 0; n < 4; n++) {
            int64_t count = network->layers[n].tensors[0].shape[0] * network->layers[n].tensors[0].shape[1];
            float *weights = network->layers[n].weights[0], *bias = network->layers[n].weights[1];
            for (int64_t i = 0; i < count; i++) {
                weights[i] = (i % 2 ? -1.0f : 1.0f) * (0x1p-40f + (float)(random_bits() % 8) * 0x1p-63f);
            }
            memset(bias, 0, (size_t)network->layers[n].tensors[0].shape[0] * sizeof *bias);
        }
        check_flags(network, data, ACTIVATIONS[a].name);
        data_free(data);
        network_free(network);
    }
}

/* the same in the gates of recurrent layers; with no input and the first gate all but shut, so that it makes what is
   left of the recurrent half smaller yet */
static void gates_that_cancel_stay_normal(void) {
    for (int c = 0; c < ACTIVATION_COUNT * 2; c++) {
        const int a = c / 2, is_shut = c % 2;
        for (int k = 0; k < RECURRENT_KINDS; k++) {
            random_seed((uint64_t)(a * 10 + k));
            RecurrentOptions options = PLAIN;
            options.activation = ACTIVATIONS[a].name;
            options.recurrent_activation = ACTIVATIONS[a].name;
            Network *network = network_create();
            int32_t x = network_input(network, CYL_SEQUENCE, 4, NULL);
            network_output(network, network_recurrent(network, (RecurrentKind)k, x, 18, &options, NULL, NULL));
            Layer *layer = &network->layers[0];
            for (int t = 0; t < layer->spec.tensor_count; t++) {
                const CylTensor *tensor = &layer->tensors[t];
                bool is_bias = strstr(tensor->role, "bias");
                for (int64_t i = 0; i < tensor->shape[0] * (tensor->rank == 2 ? tensor->shape[1] : 1); i++) {
                    float tiny = 0x1p-40f + (float)(random_bits() % 8) * 0x1p-63f;
                    layer->weights[t][i] = is_bias ? 0.0f : i % 2 ? -tiny : tiny;
                }
            }
            for (int j = 0; is_shut && j < 18; j++) {
                layer->weights[2][j] = -5.0f;
            }
            int64_t time = 9;
            Data *data = data_create(network, 2, &time, false);
            for (int64_t i = 0; i < input_count(network, data); i++) {
                data->inputs[0][i] = is_shut ? 0.0f : 0x1p-40f + (float)(random_bits() % 8) * 0x1p-63f;
            }
            for (int s = 0; s < network->state_count; s++) {
                for (int64_t i = 0; i < 2 * network->state_sizes[s]; i++) {
                    data->states[s][i] = 0x1p-40f + (float)(random_bits() % 8) * 0x1p-63f;
                }
            }
            char name[100];
            snprintf(name, sizeof name, "%s, %s%s", RECURRENT_NAMES[k], ACTIVATIONS[a].name,
                     is_shut ? ", the first gate shut" : "");
            check_flags(network, data, name);
            data_free(data);
            network_free(network);
        }
    }
}

static void merges_and_layers_in_a_row_keep_tiny_numbers_normal(void) {
    static const char *const modes[] = {"concat", "sum", "mul", "ave"};
    static const float scales[] = {1.0f, 1e-8f, 1e-12f, 1e-20f, 2e-38f};
    for (int m = 0; m < 4; m++) {
        for (int s = 0; s < 5; s++) {
            random_seed((uint64_t)(m * 10 + s));
            RecurrentOptions options = PLAIN;
            options.scale = 0.3f * scales[s];
            Network *network = network_create();
            int32_t x = network_input(network, CYL_SEQUENCE, 6, &options.mask), y[4];
            y[0] = x;
            y[1] = network_dense(network, x, 6, "linear");
            y[2] = network_recurrent(network, LSTM, x, 6, &options, NULL, NULL);
            options.is_reverse = true;
            y[3] = network_recurrent(network, GRU_BEFORE, x, 6, &options, NULL, NULL);
            int32_t merged = network_merge(network, modes[m], y, 4);
            merged = network_dense(network, network_dense(network, merged, 9, "elu"), 6, "exponential");
            merged = network_merge(network, modes[m], (int32_t[]){merged, x, merged, y[2]}, 4);
            network_output(network, merged);
            network_output(network, network_dense(network, network_last(network, merged, options.mask), 5, "softmax"));
            scale_all(network->layers[0].weights[0], 36, scales[s]);
            scale_all(network->layers[0].weights[1], 6, scales[s]);
            int64_t time = 30;
            Data *data = data_create(network, 6, &time, true);
            scale_all(data->inputs[0], input_count(network, data), scales[s]);
            char name[100];
            snprintf(name, sizeof name, "%s, scale %g", modes[m], (double)scales[s]);
            check_flags(network, data, name);
            data_free(data);
            network_free(network);
        }
    }
}

/* outputs that would be near 2^-70 are stored as +0: their products with each other would be subnormal */
static void tiny_outputs_can_be_multiplied(void) {
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        random_seed((uint64_t)k);
        RecurrentOptions options = PLAIN;
        options.scale = 1e-11f;
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL), y[4];
        for (int i = 0; i < 4; i++) {
            y[i] = network_recurrent(network, (RecurrentKind)k, x, 18, &options, NULL, NULL);
            Layer *layer = &network->layers[i];
            for (int64_t j = 0; j < layer->tensors[2].shape[0] && k != RNN; j++) {
                layer->weights[2][j] -= 25.0f; /* gates of 1e-11, above the threshold */
            }
        }
        network_output(network, network_merge(network, "mul", y, 4));
        int64_t time = 3;
        Data *data = data_create(network, 2, &time, false);
        for (int i = 0; i < network->state_count; i++) {
            scale_all(data->states[i], 2 * network->state_sizes[i], 1e-10f);
        }
        check_flags(network, data, RECURRENT_NAMES[k]);
        data_free(data);
        network_free(network);
    }
}

/* subnormal numbers from outside are made +0 without any calculation having seen them */
static void subnormal_weights_inputs_and_states_are_zero(void) {
    for (int k = 0; k < RECURRENT_KINDS; k++) {
        random_seed((uint64_t)k);
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 6, NULL);
        int32_t y = network_recurrent(network, (RecurrentKind)k, x, 24, NULL, NULL, NULL);
        network_output(network, network_dense(network, y, 4, "linear"));
        int64_t time = 6;
        Data *data = data_create(network, 2, &time, false);
        float *tensors[] = {network->layers[0].weights[0], network->layers[0].weights[2], network->layers[1].weights[0],
                            data->inputs[0], data->states[0]};
        float saved[5][8];
        for (int t = 0; t < 5; t++) {
            for (int i = 0; i < 8; i++) {
                saved[t][i] = tensors[t][3 * i] = (i % 2 ? -1.0f : 1.0f) * (i < 4 ? 1e-40f : 1e-13f);
            }
        }
        check_flags(network, data, RECURRENT_NAMES[k]);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        Result tiny = predict(network, model, data, 1);
        cyl_model_free(model);
        for (int t = 0; t < 5; t++) {
            for (int i = 0; i < 8; i++) {
                tensors[t][3 * i] = 0.0f * saved[t][i];
            }
        }
        model = network_model(network, CYL_ENGINE_PACKED, cyl_isa_best());
        Result zero = predict(network, model, data, 1);
        CHECK(result_same(&tiny, &zero), "%s: %g", RECURRENT_NAMES[k], result_error(&tiny, &zero));
        result_free(&tiny);
        result_free(&zero);
        cyl_model_free(model);
        data_free(data);
        network_free(network);
    }
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    if (!HAS_FLAGS) {
        puts("this machine's flags are not read: only the results of subnormal numbers are checked");
    }
    RUN(states_that_decay_to_zero_stay_normal);
    RUN(every_activation_keeps_tiny_numbers_normal);
    RUN(saturated_gates_keep_numbers_normal);
    RUN(sums_that_cancel_stay_normal);
    RUN(gates_that_cancel_stay_normal);
    RUN(merges_and_layers_in_a_row_keep_tiny_numbers_normal);
    RUN(tiny_outputs_can_be_multiplied);
    RUN(subnormal_weights_inputs_and_states_are_zero);
    return check_result();
}
