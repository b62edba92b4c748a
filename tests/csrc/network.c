/* See network.h. */
#include "network.h"
#include "threads/openmp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers: xorshift64* ---- */

static uint64_t random_state = 88172645463325252u;

void random_seed(uint64_t seed) { random_state = seed * 2654435769u + 88172645463325252u; }

uint32_t random_bits(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)(random_state * 2685821657736338717u >> 32);
}

float random_float(float scale) { return ((float)(int32_t)(random_bits() >> 8) * 0x1p-23f - 1.0f) * scale; }

static float *random_floats(int64_t count, float scale) {
    float *x = need((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        x[i] = random_float(scale);
    }
    return x;
}

void *need(size_t bytes) {
    void *memory = calloc(bytes ? bytes : 1, 1);
    if (!memory) {
        puts("out of memory");
        abort();
    }
    return memory;
}

static void demand(bool condition, const char *what) {
    if (!condition) {
        printf("%s\n", what);
        fflush(stdout);
        abort();
    }
}

/* ---- describing a network ---- */

Network *network_create(void) { return need(sizeof(Network)); }

void network_free(Network *network) {
    for (int32_t n = 0; n < network->layer_count; n++) {
        for (int32_t t = 0; t < MOST_TENSORS; t++) {
            free(network->layers[n].weights[t]);
        }
    }
    free(network);
}

int32_t network_value(Network *network, CylValueKind kind, int32_t features) {
    demand(network->value_count < MOST_VALUES, "too many values");
    network->kinds[network->value_count] = kind;
    network->features[network->value_count] = features;
    network->axes[network->value_count] = -1;
    return network->value_count++;
}

int32_t network_input(Network *network, CylValueKind kind, int32_t features, int32_t *mask) {
    demand(network->input_count < MOST_ENDS, "too many inputs");
    int32_t value = network_value(network, kind, features), input = network->input_count++;
    network->inputs[input] = value;
    network->axes[value] = kind == CYL_SEQUENCE ? input : -1;
    network->masks[input] = -1;
    if (mask) {
        *mask = network->masks[input] = network_value(network, CYL_MASK, 1);
        network->axes[*mask] = input;
    }
    return value;
}

void network_output(Network *network, int32_t value) {
    demand(network->output_count < MOST_ENDS, "too many outputs");
    network->outputs[network->output_count++] = value;
}

Layer *network_layer(Network *network, const char *name) {
    demand(network->layer_count < MOST_NODES, "too many layers");
    Layer *layer = &network->layers[network->layer_count++];
    layer->kind = -1;
    layer->spec = (CylLayerSpec){name, layer->inputs, layer->outputs, layer->options, layer->tensors, .input_count = 0};
    return layer;
}

void layer_input(Layer *layer, const char *role, int32_t value) {
    demand(layer->spec.input_count < MOST_PORTS, "too many ports");
    layer->inputs[layer->spec.input_count++] = (CylPort){role, value};
}

void layer_output(Layer *layer, const char *role, int32_t value) {
    demand(layer->spec.output_count < MOST_PORTS, "too many ports");
    layer->outputs[layer->spec.output_count++] = (CylPort){role, value};
}

static void option(Layer *layer, CylOption option) {
    demand(layer->spec.option_count < MOST_OPTIONS, "too many options");
    layer->options[layer->spec.option_count++] = option;
}

void layer_number(Layer *layer, const char *name, double number) { option(layer, (CylOption){name, NULL, number}); }
void layer_text(Layer *layer, const char *name, const char *text) { option(layer, (CylOption){name, text, 0.0}); }

float *layer_tensor(Layer *layer, const char *role, int32_t rows, int32_t columns, float scale) {
    int32_t t = layer->spec.tensor_count++;
    demand(t < MOST_TENSORS, "too many tensors");
    layer->weights[t] = random_floats((int64_t)rows * (columns ? columns : 1), scale);
    layer->tensors[t] = (CylTensor){role, layer->weights[t], columns ? 2 : 1, {rows, columns}, NULL};
    return layer->weights[t];
}

#define PLAIN_FUNCTION(name, expression)                                                                               \
    static double name##_of(double x, double alpha, double beta) {                                                     \
        (void)alpha;                                                                                                   \
        (void)beta;                                                                                                    \
        return expression;                                                                                             \
    }
PLAIN_FUNCTION(linear, x)
PLAIN_FUNCTION(tanh, tanh(x))
PLAIN_FUNCTION(sigmoid, 1 / (1 + exp(-x)))
PLAIN_FUNCTION(relu, x > 0 ? x : 0)
PLAIN_FUNCTION(leaky_relu, x > 0 ? x : alpha * x)
PLAIN_FUNCTION(elu, x > 0 ? x : alpha * expm1(x))
PLAIN_FUNCTION(selu, 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x)))
PLAIN_FUNCTION(softplus, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
PLAIN_FUNCTION(softsign, x / (1 + fabs(x)))
PLAIN_FUNCTION(silu, x / (1 + exp(-x)))
PLAIN_FUNCTION(gelu, 0.5 * x * erfc(-x / sqrt(2.0)))
PLAIN_FUNCTION(gelu_tanh, 0.5 * x * (1 + tanh(0.79788456080286541 * (x + 0.044715 * x * x * x))))
PLAIN_FUNCTION(exponential, exp(x))
PLAIN_FUNCTION(hard_sigmoid, fmin(fmax(alpha *x + beta, 0), 1))
PLAIN_FUNCTION(clip, fmin(fmax(x, alpha), beta))
#undef PLAIN_FUNCTION

/* parameters as in cylstm/graph/activations.py */
const Activation ACTIVATIONS[] = {
    {"linear", 0, 0, linear_of},
    {"tanh", 0, 0, tanh_of},
    {"sigmoid", 0, 0, sigmoid_of},
    {"relu", 0, 0, relu_of},
    {"leaky_relu", 0.01, 0, leaky_relu_of},
    {"elu", 1, 0, elu_of},
    {"selu", 0, 0, selu_of},
    {"softplus", 0, 0, softplus_of},
    {"softsign", 0, 0, softsign_of},
    {"silu", 0, 0, silu_of},
    {"gelu", 0, 0, gelu_of},
    {"gelu_tanh", 0, 0, gelu_tanh_of},
    {"exponential", 0, 0, exponential_of},
    {"clip", -1, 1, clip_of},
    {"hard_sigmoid", 1.0 / 6.0, 0.5, hard_sigmoid_of},
    {"softmax", 0, 0, NULL},
};
const int ACTIVATION_COUNT = sizeof ACTIVATIONS / sizeof *ACTIVATIONS - 1;

void layer_activation(Layer *layer, const char *slot, const char *name) {
    static const char *const names[3][3] = {
        {"activation", "activation_alpha", "activation_beta"},
        {"recurrent_activation", "recurrent_activation_alpha", "recurrent_activation_beta"},
        {"output_activation", "output_activation_alpha", "output_activation_beta"},
    };
    const char *const *slots = names[slot[0] == 'a' ? 0 : slot[0] == 'r' ? 1 : 2];
    layer_text(layer, slots[0], name);
    for (int a = 0; a <= ACTIVATION_COUNT; a++) {
        if (strcmp(ACTIVATIONS[a].name, name) == 0) {
            layer_number(layer, slots[1], ACTIVATIONS[a].alpha);
            layer_number(layer, slots[2], ACTIVATIONS[a].beta);
        }
    }
}

static const CylOption *find_option(const Layer *layer, const char *name) {
    for (int32_t i = 0; i < layer->spec.option_count; i++) {
        if (strcmp(layer->options[i].name, name) == 0) {
            return &layer->options[i];
        }
    }
    return NULL;
}

static const float *find_tensor(const Layer *layer, const char *role) {
    for (int32_t i = 0; i < layer->spec.tensor_count; i++) {
        if (strcmp(layer->tensors[i].role, role) == 0) {
            return layer->weights[i];
        }
    }
    return NULL;
}

static int32_t find_port(const CylPort *ports, int32_t count, const char *role) {
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(ports[i].role, role) == 0) {
            return ports[i].value;
        }
    }
    return -1;
}

const char *const RECURRENT_NAMES[RECURRENT_KINDS] = {"LSTM",
                                                      "projected LSTM",
                                                      "LSTM with peepholes",
                                                      "LSTM with coupled gates",
                                                      "normalised LSTM",
                                                      "GRU reset-before",
                                                      "GRU reset-after",
                                                      "RNN"};
const RecurrentOptions PLAIN = {-1, -1, -1, false, false, NULL, NULL, 0.0f};

int state_count_of(RecurrentKind kind) { return kind <= LSTM_NORMALISED || kind == CONV_LSTM ? 2 : 1; }

static int gate_count_of(RecurrentKind kind) {
    return kind == RNN ? 1 : kind == LSTM_COUPLED || state_count_of(kind) == 1 ? 3 : 4;
}

static int32_t state_value(Network *network, int32_t size, const char *role, Layer *layer) {
    int32_t value = network_value(network, CYL_STATE, size);
    layer_output(layer, role, value);
    return value;
}

/* what all recurrent layers share: ports, options and states; h and c may be NULL */
static Layer *recurrent_layer(Network *network, const char *name, RecurrentKind kind, int32_t x, int32_t output,
                              int32_t hidden, const RecurrentOptions *options, int32_t *h, int32_t *c) {
    Layer *layer = network_layer(network, name);
    layer->kind = (int)kind;
    layer_input(layer, "x", x);
    if (options->mask >= 0) {
        layer_input(layer, "mask", options->mask);
    }
    if (options->h0 >= 0) {
        layer_input(layer, "h0", options->h0);
    }
    if (options->c0 >= 0) {
        layer_input(layer, "c0", options->c0);
    }
    int32_t y = network_value(network, CYL_SEQUENCE, output);
    network->axes[y] = network->axes[x];
    layer_output(layer, "y", y);
    if (h) {
        *h = state_value(network, output, "h", layer);
    }
    if (c) {
        *c = state_value(network, hidden, "c", layer);
    }
    layer_number(layer, "reverse", options->is_reverse);
    layer_text(layer, "padding", options->repeats_padding ? "repeat" : "zero");
    layer_text(layer, "empty_state", "initial");
    layer_activation(layer, "activation", options->activation ? options->activation : "tanh");
    demand(network->state_count + 2 <= MOST_STATES, "too many states");
    network->state_sizes[network->state_count++] = output;
    if (state_count_of(kind) == 2) {
        network->state_sizes[network->state_count++] = hidden;
    }
    return layer;
}

int32_t network_recurrent(Network *network, RecurrentKind kind, int32_t x, int32_t hidden,
                          const RecurrentOptions *options, int32_t *h, int32_t *c) {
    options = options ? options : &PLAIN;
    bool is_lstm = state_count_of(kind) == 2, is_gru = kind == GRU_BEFORE || kind == GRU_AFTER;
    int32_t input = network->features[x], rows = gate_count_of(kind) * hidden;
    int32_t output = kind == LSTM_PROJECTED ? hidden * 2 / 3 + 1 : hidden;
    Layer *layer = recurrent_layer(network,
                                   is_lstm  ? "lstm"
                                   : is_gru ? "gru"
                                            : "rnn",
                                   kind, x, output, hidden, options, h, is_lstm ? c : NULL);
    if (kind != RNN) {
        layer_activation(layer, "recurrent_activation",
                         options->recurrent_activation ? options->recurrent_activation : "sigmoid");
    }
    layer_number(layer, "gate_clip", kind == LSTM_PEEPHOLES ? 0.875 : 0.0);
    if (is_lstm) {
        layer_activation(layer, "output_activation", options->activation ? options->activation : "tanh");
        layer_number(layer, "forget_gate", 1.0);
        layer_text(layer, "coupled", kind == LSTM_COUPLED ? "f=1-i" : "");
        layer_text(layer, "layer_norm", kind != LSTM_NORMALISED ? "" : hidden % 2 ? "carried" : "output");
        layer_number(layer, "epsilon", 0x1p-16);
        layer_number(layer, "cell_clip", kind == LSTM_PEEPHOLES ? 0.6875 : 0.0);
    } else if (is_gru) {
        layer_number(layer, "reset_after", kind == GRU_AFTER);
    }
    float scale = options->scale > 0.0f ? options->scale : 1.5f / sqrtf((float)(input + output));
    layer_tensor(layer, "weight_ih", rows, input, scale);
    layer_tensor(layer, "weight_hh", rows, output, scale);
    layer_tensor(layer, is_gru ? "bias_ih" : "bias", rows, 0, scale);
    if (kind == LSTM_PROJECTED) {
        layer_tensor(layer, "weight_hr", output, hidden, 1.5f / sqrtf((float)hidden));
    } else if (kind == GRU_AFTER) {
        layer_tensor(layer, "bias_hh", rows, 0, scale);
    } else if (kind == LSTM_PEEPHOLES) {
        layer_tensor(layer, "peephole_i", hidden, 0, 0.5f);
        layer_tensor(layer, "peephole_f", hidden, 0, 0.5f);
        layer_tensor(layer, "peephole_o", hidden, 0, 0.5f);
    } else if (kind == LSTM_NORMALISED) {
        layer_tensor(layer, "norm_ih_gain", rows, 0, 0.7f);
        layer_tensor(layer, "norm_ih_shift", rows, 0, 0.3f);
        layer_tensor(layer, "norm_hh_gain", rows, 0, 0.7f);
        layer_tensor(layer, "norm_hh_shift", rows, 0, 0.3f);
        layer_tensor(layer, "norm_c_gain", hidden, 0, 1.0f);
        layer_tensor(layer, "norm_c_shift", hidden, 0, 0.3f);
    }
    return find_port(layer->outputs, layer->spec.output_count, "y");
}

/* the two cross-correlations of a ConvLSTM, of the input and of h */
typedef struct {
    int32_t input[2], output[2], kernel[2], stride[2], before[2]; /* rows, columns */
    int32_t channels;
} Window;

static void windows(const Layer *layer, Window *x, Window *h) {
    static const char *const names[3][2] = {
        {"input_rows", "input_columns"}, {"kernel_rows", "kernel_columns"}, {"stride_rows", "stride_columns"}};
    bool is_same = strcmp(find_option(layer, "conv_padding")->text, "same") == 0;
    for (int a = 0; a < 2; a++) {
        int32_t input = (int32_t)find_option(layer, names[0][a])->number;
        int32_t kernel = (int32_t)find_option(layer, names[1][a])->number;
        int32_t stride = (int32_t)find_option(layer, names[2][a])->number;
        int32_t output = is_same ? (input + stride - 1) / stride : (input - kernel) / stride + 1;
        int32_t padding = (output - 1) * stride + kernel - input;
        x->input[a] = input;
        x->stride[a] = stride;
        x->before[a] = is_same && padding > 0 ? padding / 2 : 0;
        h->input[a] = x->output[a] = h->output[a] = output;
        x->kernel[a] = h->kernel[a] = kernel;
        h->stride[a] = 1;
        h->before[a] = (kernel - 1) / 2;
    }
    int32_t taps = x->kernel[0] * x->kernel[1];
    x->channels = (int32_t)layer->tensors[0].shape[1] / taps;
    h->channels = (int32_t)layer->tensors[1].shape[1] / taps;
}

int32_t network_conv_lstm(Network *network, int32_t x, int32_t rows, int32_t columns, int32_t filters, bool is_same,
                          const RecurrentOptions *options) {
    const int32_t kernel[2] = {2, 3}, stride[2] = {1, 2};
    int32_t channels = network->features[x] / (rows * columns), taps = kernel[0] * kernel[1];
    int32_t output_rows = is_same ? rows : rows - kernel[0] + 1;
    int32_t output_columns = is_same ? (columns + 1) / 2 : (columns - kernel[1]) / 2 + 1;
    int32_t size = output_rows * output_columns * filters;
    Layer *layer = recurrent_layer(network, "conv_lstm", CONV_LSTM, x, size, size, options, NULL, NULL);
    layer_activation(layer, "recurrent_activation",
                     options->recurrent_activation ? options->recurrent_activation : "sigmoid");
    layer_text(layer, "conv_padding", is_same ? "same" : "valid");
    layer_number(layer, "input_rows", rows);
    layer_number(layer, "input_columns", columns);
    layer_number(layer, "kernel_rows", kernel[0]);
    layer_number(layer, "kernel_columns", kernel[1]);
    layer_number(layer, "stride_rows", stride[0]);
    layer_number(layer, "stride_columns", stride[1]);
    layer_number(layer, "dilation_rows", 1);
    layer_number(layer, "dilation_columns", 1);
    float scale = options->scale > 0.0f ? options->scale : 1.5f / sqrtf((float)(taps * (channels + filters)));
    layer_tensor(layer, "weight_ih", 4 * filters, taps * channels, scale);
    layer_tensor(layer, "weight_hh", 4 * filters, taps * filters, scale);
    layer_tensor(layer, "bias", 4 * filters, 0, scale);
    return find_port(layer->outputs, layer->spec.output_count, "y");
}

/* a value like x, of other features */
static int32_t value_along(Network *network, int32_t x, int32_t features) {
    int32_t y = network_value(network, network->kinds[x] == CYL_SEQUENCE ? CYL_SEQUENCE : CYL_VECTOR, features);
    network->axes[y] = network->axes[x];
    return y;
}

int32_t network_dense(Network *network, int32_t x, int32_t units, const char *activation) {
    Layer *layer = network_layer(network, "dense");
    int32_t y = value_along(network, x, units), input = network->features[x];
    layer_input(layer, "x", x);
    layer_output(layer, "y", y);
    layer_activation(layer, "activation", activation);
    layer_tensor(layer, "weight", units, input, 2.0f / sqrtf((float)input));
    layer_tensor(layer, "bias", units, 0, 0.5f);
    return y;
}

int32_t network_last(Network *network, int32_t x, int32_t mask) {
    Layer *layer = network_layer(network, "last");
    int32_t y = network_value(network, CYL_VECTOR, network->features[x]);
    layer_input(layer, "x", x);
    if (mask >= 0) {
        layer_input(layer, "mask", mask);
    }
    layer_output(layer, "y", y);
    return y;
}

int32_t network_merge(Network *network, const char *mode, const int32_t *values, int32_t count) {
    static const char *const roles[MOST_PORTS] = {"x", "x1", "x2", "x3"};
    Layer *layer = network_layer(network, "merge");
    int32_t features = 0;
    for (int32_t i = 0; i < count; i++) {
        layer_input(layer, roles[i], values[i]);
        features = strcmp(mode, "concat") == 0 ? features + network->features[values[i]] : network->features[values[i]];
    }
    int32_t y = value_along(network, values[0], features);
    layer_output(layer, "y", y);
    layer_text(layer, "mode", mode);
    layer_number(layer, "axis", -1.0);
    return y;
}

/* ---- data ---- */

static int64_t steps_of(const Network *network, const int64_t *times, int32_t value) {
    return network->kinds[value] == CYL_SEQUENCE ? times[network->axes[value]] : 1;
}

/* whether row `row` uses step t of `time`: rows of six kinds in turn, the second of them all masked */
static bool is_used(int64_t row, int64_t t, int64_t time) {
    switch (row % 6) {
    case 0:
        return random_bits() % 3 != 0;
    case 1:
        return false;
    case 2:
        return t >= time / 3;
    case 3:
        return t < time / 2 + 1;
    case 4:
        return t < time / 4 || t >= time / 2;
    default:
        return true;
    }
}

Data *data_create(const Network *network, int64_t rows, const int64_t *times, bool has_masks) {
    Data *data = need(sizeof *data);
    data->rows = rows;
    for (int32_t i = 0; i < network->input_count; i++) {
        int32_t value = network->inputs[i];
        data->times[i] = network->kinds[value] == CYL_SEQUENCE ? times[i] : 1;
        data->inputs[i] = random_floats(rows * data->times[i] * network->features[value], 1.0f);
        if (!has_masks || network->masks[i] < 0) {
            continue;
        }
        data->masks[i] = need((size_t)(rows * times[i]));
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t t = 0; t < times[i]; t++) {
                /* any number but 0 says that a step counts */
                data->masks[i][row * times[i] + t] = is_used(row, t, times[i]) ? (uint8_t)(1 + row % 255) : 0;
            }
        }
    }
    for (int32_t s = 0; s < network->state_count; s++) {
        data->states[s] = random_floats(rows * network->state_sizes[s], 1.0f);
    }
    return data;
}

void data_free(Data *data) {
    for (int32_t i = 0; i < MOST_ENDS; i++) {
        free(data->inputs[i]);
        free(data->masks[i]);
    }
    for (int32_t s = 0; s < MOST_STATES; s++) {
        free(data->states[s]);
    }
    free(data);
}

static Result result_create(const Network *network, int64_t rows, const int64_t *times, size_t real_size) {
    Result result = {.count = network->output_count + network->state_count, .real_size = real_size};
    for (int32_t i = 0; i < result.count; i++) {
        int32_t state = i - network->output_count;
        int64_t size = state >= 0
                           ? network->state_sizes[state]
                           : steps_of(network, times, network->outputs[i]) * network->features[network->outputs[i]];
        result.sizes[i] = (size_t)(rows * size);
        result.arrays[i] = need(result.sizes[i] * real_size);
        memset(result.arrays[i], 0xff, result.sizes[i] * real_size); /* NaN, until written */
    }
    return result;
}

void result_free(Result *result) {
    for (int32_t i = 0; i < result->count; i++) {
        free(result->arrays[i]);
    }
}

bool result_same(const Result *a, const Result *b) {
    bool same = a->count == b->count && a->real_size == b->real_size;
    for (int32_t i = 0; same && i < a->count; i++) {
        same = a->sizes[i] == b->sizes[i] && memcmp(a->arrays[i], b->arrays[i], a->sizes[i] * a->real_size) == 0;
    }
    return same;
}

uint64_t result_hash(const Result *result, uint64_t hash) {
    for (int32_t i = 0; i < result->count; i++) {
        const unsigned char *bytes = result->arrays[i];
        for (size_t at = 0; at < result->sizes[i] * result->real_size; at++) {
            hash = (hash ^ bytes[at]) * 1099511628211u + 1469598103934665603u;
        }
    }
    return hash;
}

static double read(const Result *result, int32_t i, size_t at) {
    return result->real_size == sizeof(float) ? (double)((float *)result->arrays[i])[at]
                                              : ((double *)result->arrays[i])[at];
}

double result_error(const Result *result, const Result *truth) {
    double worst = 0.0;
    for (int32_t i = 0; i < truth->count; i++) {
        double scale = 0.0, error = 0.0;
        for (size_t at = 0; at < truth->sizes[i]; at++) {
            double difference = fabs(read(result, i, at) - read(truth, i, at));
            scale = fmax(scale, fabs(read(truth, i, at)));
            error = difference <= error ? error : difference; /* NaN stays */
        }
        double relative = error == 0.0 ? 0.0 : error / scale;
        worst = relative <= worst ? worst : relative;
    }
    return worst;
}

Result result_row(const Result *result, int64_t rows, int64_t row) {
    Result one = *result;
    for (int32_t i = 0; i < result->count; i++) {
        one.sizes[i] = result->sizes[i] / (size_t)rows;
        size_t bytes = one.sizes[i] * result->real_size;
        one.arrays[i] = need(bytes);
        memcpy(one.arrays[i], (char *)result->arrays[i] + (size_t)row * bytes, bytes);
    }
    return one;
}

/* ---- the engine ---- */

static void *to_real(const float *x, size_t count, size_t real_size) {
    void *real = need(count * real_size);
    for (size_t i = 0; i < count; i++) {
        if (real_size == sizeof(float)) {
            ((float *)real)[i] = x[i];
        } else {
            ((double *)real)[i] = (double)x[i];
        }
    }
    return real;
}

#define GEMV(name, REAL)                                                                                               \
    static void name(int order, int trans, int m, int n, REAL alpha, const REAL *a, int lda, const REAL *x, int incx,  \
                     REAL beta, REAL *y, int incy) {                                                                   \
        demand(order == 101 && trans == 111 && n <= lda, "gemv of another kind");                                      \
        for (int i = 0; i < m; i++) {                                                                                  \
            REAL sum = 0;                                                                                              \
            for (int k = 0; k < n; k++) {                                                                              \
                sum += a[(size_t)i * (size_t)lda + (size_t)k] * x[k * incx];                                           \
            }                                                                                                          \
            y[i * incy] = alpha * sum + beta * y[i * incy];                                                            \
        }                                                                                                              \
    }
#define GEMM(name, REAL)                                                                                               \
    static void name(int order, int trans_a, int trans_b, int m, int n, int k, REAL alpha, const REAL *a, int lda,     \
                     const REAL *b, int ldb, REAL beta, REAL *c, int ldc) {                                            \
        demand(order == 101 && trans_a == 111 && trans_b == 112 && k <= lda && k <= ldb && n <= ldc,                   \
               "gemm of another kind");                                                                                \
        for (int i = 0; i < m; i++) {                                                                                  \
            for (int j = 0; j < n; j++) {                                                                              \
                REAL sum = 0;                                                                                          \
                for (int l = 0; l < k; l++) {                                                                          \
                    sum += a[(size_t)i * (size_t)lda + (size_t)l] * b[(size_t)j * (size_t)ldb + (size_t)l];            \
                }                                                                                                      \
                REAL *to = &c[(size_t)i * (size_t)ldc + (size_t)j];                                                    \
                *to = alpha * sum + beta * *to;                                                                        \
            }                                                                                                          \
        }                                                                                                              \
    }
GEMV(plain_sgemv, float)
GEMV(plain_dgemv, double)
GEMM(plain_sgemm, float)
GEMM(plain_dgemm, double)

CylBlas plain_blas(void) {
    return (CylBlas){.sgemv = (uintptr_t)plain_sgemv,
                     .sgemm = (uintptr_t)plain_sgemm,
                     .dgemv = (uintptr_t)plain_dgemv,
                     .dgemm = (uintptr_t)plain_dgemm};
}

bool are_threads_openmp(void) {
    const char *name = getenv("TEST_THREADS");
    return name && strcmp(name, "openmp") == 0;
}

CylModel *network_model(const Network *network, CylEngine engine, CylIsa isa) {
    CylBlas blas = plain_blas();
    return network_model_with(network, engine, isa, &blas);
}

CylModel *network_model_with(const Network *network, CylEngine engine, CylIsa isa, const CylBlas *blas) {
    CylModel *model;
    demand(cyl_model_create(engine, isa, blas, &model) == CYL_OK, "no model");
#ifdef CYL_OPENMP_LINKED
    cyl_openmp_bind(cyl_openmp_region);
#else
    demand(!are_threads_openmp(), "built without OpenMP");
#endif
    cyl_model_set_threads(model, are_threads_openmp() ? CYL_THREADS_OPENMP : CYL_THREADS_POOL);
    size_t real_size = cyl_model_real_size(model);
    for (int32_t v = 0; v < network->value_count; v++) {
        int32_t index;
        CylStatus status = cyl_model_add_value(model, network->kinds[v], network->features[v], &index);
        demand(status == CYL_OK && index == v, "no value");
    }
    for (int32_t n = 0; n < network->layer_count; n++) {
        CylLayerSpec spec = network->layers[n].spec;
        CylTensor tensors[MOST_TENSORS];
        for (int32_t t = 0; t < spec.tensor_count; t++) {
            tensors[t] = spec.tensors[t];
            size_t count = (size_t)(tensors[t].shape[0] * (tensors[t].rank > 1 ? tensors[t].shape[1] : 1));
            tensors[t].data = to_real(tensors[t].data, count, real_size);
        }
        spec.tensors = tensors;
        CylStatus status = cyl_model_add_layer(model, &spec);
        for (int32_t t = 0; t < spec.tensor_count; t++) {
            free((void *)tensors[t].data);
        }
        demand(status == CYL_OK, cyl_status_text(status));
    }
    CylStatus status = cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                                        network->output_count);
    demand(status == CYL_OK, cyl_status_text(status));
    demand(cyl_model_state_count(model) == network->state_count, "states");
    for (int32_t s = 0; s < network->state_count; s++) {
        demand(cyl_model_state_size(model, s) == network->state_sizes[s], "state sizes");
    }
    return model;
}

/* rows [first, first + rows) of the data */
static Result predict_rows(const Network *network, const CylModel *model, const Data *data, int64_t first, int64_t rows,
                           int threads) {
    size_t real_size = cyl_model_real_size(model);
    Result result = result_create(network, rows, data->times, real_size);
    void *inputs[MOST_ENDS] = {0}, *states[MOST_STATES] = {0};
    const uint8_t *masks[MOST_ENDS] = {0};
    for (int32_t i = 0; i < network->input_count; i++) {
        int64_t size = data->times[i] * network->features[network->inputs[i]];
        inputs[i] = to_real(data->inputs[i] + first * size, (size_t)(rows * size), real_size);
        masks[i] = data->masks[i] ? data->masks[i] + first * data->times[i] : NULL;
    }
    for (int32_t s = 0; s < network->state_count; s++) {
        int64_t size = network->state_sizes[s];
        states[s] = to_real(data->states[s] + first * size, (size_t)(rows * size), real_size);
    }
    CylCall call = {.rows = rows,
                    .times = data->times,
                    .inputs = (const void *const *)inputs,
                    .masks = masks,
                    .outputs = result.arrays,
                    .initial_state = (const void *const *)states,
                    .final_state = result.arrays + network->output_count,
                    .threads = threads};
    CylStatus status = cyl_predict(model, &call);
    demand(status == CYL_OK, cyl_status_text(status));
    for (int32_t i = 0; i < MOST_ENDS; i++) {
        free(inputs[i]);
    }
    for (int32_t s = 0; s < MOST_STATES; s++) {
        free(states[s]);
    }
    return result;
}

Result predict(const Network *network, const CylModel *model, const Data *data, int threads) {
    return predict_rows(network, model, data, 0, data->rows, threads);
}

Result predict_row(const Network *network, const CylModel *model, const Data *data, int64_t row, int threads) {
    return predict_rows(network, model, data, row, 1, threads);
}

CylStatus get_state(CylStream *stream, int32_t index, void *state) {
    void *states[MOST_STATES] = {NULL};
    states[index] = state;
    return cyl_stream_save(stream, &(CylStreamState){.states = states});
}

CylStatus set_state(CylStream *stream, int32_t index, const void *state) {
    const void *states[MOST_STATES] = {NULL};
    states[index] = state;
    return cyl_stream_restore(stream, &(CylStreamState){.states = (void *const *)states});
}

Result stream(const Network *network, const CylModel *model, const Data *data, const int64_t *steps, int step_count,
              int threads) {
    size_t real_size = cyl_model_real_size(model);
    int64_t rows = data->rows, time = data->times[0], features = network->features[network->inputs[0]];
    demand(network->input_count == 1, "one input");
    Result result = result_create(network, rows, data->times, real_size);
    CylStream *running;
    demand(cyl_stream_create(model, rows, threads, &running) == CYL_OK, "no stream");
    for (int32_t s = 0; s < network->state_count; s++) {
        void *state = to_real(data->states[s], (size_t)(rows * network->state_sizes[s]), real_size);
        demand(set_state(running, s, state) == CYL_OK, "set_state");
        free(state);
    }
    int turn = 0;
    for (int64_t first = 0; first < time; turn = (turn + 1) % step_count) {
        int64_t count = steps[turn] < time - first ? steps[turn] : time - first;
        float *x = need((size_t)(rows * count * features) * sizeof *x);
        uint8_t *mask = data->masks[0] ? need((size_t)(rows * count)) : NULL;
        for (int64_t row = 0; row < rows; row++) {
            memcpy(x + row * count * features, data->inputs[0] + (row * time + first) * features,
                   (size_t)(count * features) * sizeof *x);
            if (mask) {
                memcpy(mask + row * count, data->masks[0] + row * time + first, (size_t)count);
            }
        }
        const void *input = to_real(x, (size_t)(rows * count * features), real_size);
        const uint8_t *masks[1] = {mask};
        Result chunk = result_create(network, rows, &count, real_size);
        CylCall call = {.rows = rows,
                        .times = &count,
                        .inputs = &input,
                        .masks = masks,
                        .outputs = chunk.arrays,
                        .threads = threads};
        CylStatus status = cyl_stream_run(running, &call);
        demand(status == CYL_OK, cyl_status_text(status));
        for (int32_t i = 0; i < network->output_count; i++) {
            bool is_sequence = network->kinds[network->outputs[i]] == CYL_SEQUENCE;
            size_t bytes = (size_t)network->features[network->outputs[i]] * real_size;
            size_t from = bytes * (is_sequence ? (size_t)count : 1), to = bytes * (is_sequence ? (size_t)time : 1);
            for (size_t row = 0; row < (size_t)rows; row++) {
                memcpy((char *)result.arrays[i] + row * to + (is_sequence ? (size_t)first * bytes : 0),
                       (char *)chunk.arrays[i] + row * from, from);
            }
        }
        result_free(&chunk);
        free((void *)input);
        free(x);
        free(mask);
        first += count;
    }
    for (int32_t s = 0; s < network->state_count; s++) {
        demand(get_state(running, s, result.arrays[network->output_count + s]) == CYL_OK, "get_state");
    }
    cyl_stream_free(running);
    return result;
}

/* ---- the reference: the equations, in double ---- */

/* the activation of `slot` with the layer's parameters, which have the precision of a model's */
static Activation find_activation(const Layer *layer, const char *slot) {
    char name[40];
    snprintf(name, sizeof name, "%s_alpha", slot);
    double alpha = (double)(float)find_option(layer, name)->number;
    snprintf(name, sizeof name, "%s_beta", slot);
    double beta = (double)(float)find_option(layer, name)->number;
    int a = 0;
    while (strcmp(ACTIVATIONS[a].name, find_option(layer, slot)->text) != 0) {
        a++;
    }
    return (Activation){ACTIVATIONS[a].name, alpha, beta, ACTIVATIONS[a].function};
}

static double apply(const Activation *a, double x) { return a->function(x, a->alpha, a->beta); }

/* bias[row] + W[row] x */
static double dot(const float *weights, const float *bias, int64_t row, const double *x, int32_t columns) {
    double sum = bias ? (double)bias[row] : 0.0;
    for (int32_t k = 0; k < columns; k++) {
        sum += (double)weights[row * columns + k] * x[k];
    }
    return sum;
}

typedef struct {
    const Layer *layer;
    RecurrentKind kind;
    int32_t input, hidden, output;
    Activation gate, state; /* recurrent_activation and activation */
    ReferenceTrace trace;   /* of the current step: (gates, units), (units) */
} Cell;

/* records a gate of unit j before and after its activation, and gives the latter */
static double traced(const Cell *cell, int gate, int32_t j, double pre, double value) {
    if (cell->trace.gates) {
        cell->trace.pre[gate * cell->hidden + j] = pre;
        cell->trace.gates[gate * cell->hidden + j] = value;
    }
    return value;
}

static void traced_cell(const Cell *cell, int32_t j, double c) {
    if (cell->trace.cell) {
        cell->trace.cell[j] = c;
    }
}

static double clipped(double x, const Layer *layer, const char *option) {
    double limit = (double)(float)find_option(layer, option)->number;
    return limit > 0.0 ? fmax(-limit, fmin(limit, x)) : x;
}

/* x = gain*(x - mean)/sqrt(variance + epsilon) + shift */
static void normalise(const Layer *layer, const char *gain_role, const char *shift_role, double *x, int32_t count) {
    const float *gain = find_tensor(layer, gain_role), *shift = find_tensor(layer, shift_role);
    double mean = 0.0, variance = (double)(float)find_option(layer, "epsilon")->number;
    for (int32_t j = 0; j < count; j++) {
        mean += x[j] / count;
    }
    for (int32_t j = 0; j < count; j++) {
        variance += (x[j] - mean) * (x[j] - mean) / count;
    }
    for (int32_t j = 0; j < count; j++) {
        x[j] = (double)gain[j] * (x[j] - mean) / sqrt(variance) + (double)shift[j];
    }
}

/* W x + R h + b, or LN(W x) + LN(R h) + b */
static double *pre_activations(const Cell *cell, const double *x, const double *h) {
    const Layer *layer = cell->layer;
    const float *ih = find_tensor(layer, "weight_ih"), *hh = find_tensor(layer, "weight_hh");
    const float *bias = find_tensor(layer, "bias");
    int32_t rows = gate_count_of(cell->kind) * cell->hidden;
    double *a = need((size_t)rows * sizeof *a), *b = need((size_t)rows * sizeof *b);
    for (int32_t row = 0; row < rows; row++) {
        a[row] = dot(ih, NULL, row, x, cell->input);
        b[row] = dot(hh, NULL, row, h, cell->output);
    }
    if (cell->kind == LSTM_NORMALISED) {
        normalise(layer, "norm_ih_gain", "norm_ih_shift", a, rows);
        normalise(layer, "norm_hh_gain", "norm_hh_shift", b, rows);
    }
    for (int32_t row = 0; row < rows; row++) {
        a[row] += b[row] + (double)bias[row];
    }
    free(b);
    return a;
}

/* one gate of an LSTM, its place among i f g o; role of the peephole, or NULL */
static double lstm_gate(const Cell *cell, const Activation *activation, double a, int gate, const char *role, int32_t j,
                        double c) {
    const float *peephole = role ? find_tensor(cell->layer, role) : NULL;
    a += peephole ? (double)peephole[j] * c : 0.0;
    return traced(cell, gate, j, a, apply(activation, clipped(a, cell->layer, "gate_clip")));
}

static void lstm_step(const Cell *cell, const double *x, double *h, double *c) {
    const Layer *layer = cell->layer;
    int32_t hidden = cell->hidden;
    const float *hr = find_tensor(layer, "weight_hr");
    double *a = pre_activations(cell, x, h), *m = need((size_t)hidden * sizeof *m);
    bool is_coupled = cell->kind == LSTM_COUPLED;
    for (int32_t j = 0; j < hidden; j++) {
        double i = lstm_gate(cell, &cell->gate, a[j], 0, "peephole_i", j, c[j]);
        double f = is_coupled ? traced(cell, 1, j, (double)NAN, 1.0 - i)
                              : lstm_gate(cell, &cell->gate, a[hidden + j], 1, "peephole_f", j, c[j]);
        double g = lstm_gate(cell, &cell->state, a[(is_coupled ? 1 : 2) * hidden + j], 2, NULL, j, c[j]);
        c[j] = clipped(f * c[j] + i * g, layer, "cell_clip");
        traced_cell(cell, j, c[j]);
        m[j] = c[j];
    }
    if (cell->kind == LSTM_NORMALISED) {
        normalise(layer, "norm_c_gain", "norm_c_shift", m, hidden);
        if (strcmp(find_option(layer, "layer_norm")->text, "carried") == 0) {
            memcpy(c, m, (size_t)hidden * sizeof *c);
        }
    }
    for (int32_t j = 0; j < hidden; j++) {
        double o = lstm_gate(cell, &cell->gate, a[(is_coupled ? 2 : 3) * hidden + j], 3, "peephole_o", j, m[j]);
        m[j] = o * apply(&cell->state, m[j]);
    }
    for (int32_t j = 0; j < cell->output; j++) {
        h[j] = hr ? dot(hr, NULL, j, m, hidden) : m[j];
    }
    free(a);
    free(m);
}

static void rnn_step(const Cell *cell, const double *x, double *h) {
    double *a = pre_activations(cell, x, h);
    for (int32_t j = 0; j < cell->hidden; j++) {
        h[j] = traced(cell, 0, j, a[j], apply(&cell->state, a[j]));
    }
    free(a);
}

/* one gate's row of weights over the taps of an image that fall inside, at one position of the output */
static double correlate(const Window *w, const float *weights, int64_t gate_row, const double *image, int32_t row,
                        int32_t column) {
    double sum = 0.0;
    for (int32_t i = 0; i < w->kernel[0]; i++) {
        for (int32_t j = 0; j < w->kernel[1]; j++) {
            int32_t at_row = row * w->stride[0] + i - w->before[0],
                    at_column = column * w->stride[1] + j - w->before[1];
            if (at_row < 0 || at_row >= w->input[0] || at_column < 0 || at_column >= w->input[1]) {
                continue;
            }
            int64_t tap = gate_row * w->kernel[0] * w->kernel[1] + i * w->kernel[1] + j;
            sum += dot(weights, NULL, tap, image + (at_row * w->input[1] + at_column) * w->channels, w->channels);
        }
    }
    return sum;
}

static void conv_lstm_step(const Cell *cell, const double *x, double *h, double *c) {
    const float *ih = find_tensor(cell->layer, "weight_ih"), *hh = find_tensor(cell->layer, "weight_hh");
    const float *bias = find_tensor(cell->layer, "bias");
    Window of_x, of_h;
    windows(cell->layer, &of_x, &of_h);
    int32_t filters = of_h.channels;
    double *next = need((size_t)cell->hidden * sizeof *next);
    for (int32_t j = 0; j < cell->hidden; j++) {
        int32_t filter = j % filters, row = j / filters / of_h.output[1], column = j / filters % of_h.output[1];
        double gates[4];
        for (int g = 0; g < 4; g++) {
            int64_t gate_row = (int64_t)g * filters + filter;
            double a = correlate(&of_x, ih, gate_row, x, row, column) + correlate(&of_h, hh, gate_row, h, row, column) +
                       (double)bias[gate_row];
            gates[g] = traced(cell, g, j, a, apply(g == 2 ? &cell->state : &cell->gate, a));
        }
        c[j] = gates[1] * c[j] + gates[0] * gates[2];
        traced_cell(cell, j, c[j]);
        next[j] = gates[3] * apply(&cell->state, c[j]);
    }
    memcpy(h, next, (size_t)cell->hidden * sizeof *h);
    free(next);
}

static void gru_step(const Cell *cell, const double *x, double *h) {
    const Layer *layer = cell->layer;
    int32_t input = cell->input, hidden = cell->hidden;
    bool is_reset_after = find_option(layer, "reset_after")->number != 0.0;
    const float *ih = find_tensor(layer, "weight_ih"), *hh = find_tensor(layer, "weight_hh");
    const float *bias_ih = find_tensor(layer, "bias_ih"), *bias_hh = find_tensor(layer, "bias_hh");
    double *r = need((size_t)hidden * sizeof *r), *z = need((size_t)hidden * sizeof *z);
    double *reset = need((size_t)hidden * sizeof *reset), *next = need((size_t)hidden * sizeof *next);
    for (int32_t j = 0; j < hidden; j++) {
        double a = dot(ih, bias_ih, j, x, input) + dot(hh, bias_hh, j, h, hidden);
        double b = dot(ih, bias_ih, hidden + j, x, input) + dot(hh, bias_hh, hidden + j, h, hidden);
        r[j] = traced(cell, 0, j, a, apply(&cell->gate, a));
        z[j] = traced(cell, 1, j, b, apply(&cell->gate, b));
        reset[j] = r[j] * h[j];
    }
    for (int32_t j = 0; j < hidden; j++) {
        int64_t row = 2 * (int64_t)hidden + j;
        double recurrent =
            is_reset_after ? r[j] * dot(hh, bias_hh, row, h, hidden) : dot(hh, bias_hh, row, reset, hidden);
        double a = dot(ih, bias_ih, row, x, input) + recurrent, n = traced(cell, 2, j, a, apply(&cell->state, a));
        next[j] = z[j] * h[j] + (1.0 - z[j]) * n;
    }
    memcpy(h, next, (size_t)hidden * sizeof *h);
    free(r);
    free(z);
    free(reset);
    free(next);
}

typedef struct {
    const Network *network;
    const Data *data;
    double *values[MOST_VALUES];  /* (rows, steps, features) */
    double *states[MOST_STATES];  /* (rows, size) */
    const ReferenceTrace *traces; /* (layers) or NULL */
} Reference;

static double *value_at(const Reference *r, int32_t value, int64_t row, int64_t t) {
    int64_t steps = steps_of(r->network, r->data->times, value);
    return r->values[value] + (row * steps + t) * r->network->features[value];
}

static void run_recurrent(Reference *r, const Layer *layer, int32_t first_state) {
    const Network *network = r->network;
    const Data *data = r->data;
    const CylLayerSpec *spec = &layer->spec;
    int32_t x = find_port(layer->inputs, spec->input_count, "x"),
            y = find_port(layer->outputs, spec->output_count, "y");
    int32_t mask = find_port(layer->inputs, spec->input_count, "mask");
    const char *in_roles[2] = {"h0", "c0"}, *out_roles[2] = {"h", "c"};
    RecurrentKind kind = (RecurrentKind)layer->kind;
    int states = state_count_of(kind);
    bool is_reverse = find_option(layer, "reverse")->number != 0.0;
    bool repeats = strcmp(find_option(layer, "padding")->text, "repeat") == 0;
    int32_t output = network->features[y], hidden = states > 1 ? network->state_sizes[first_state + 1] : output;
    Cell cell = {layer,
                 kind,
                 network->features[x],
                 hidden,
                 output,
                 find_activation(layer, kind == RNN ? "activation" : "recurrent_activation"),
                 find_activation(layer, "activation"),
                 {NULL, NULL, NULL}};
    const ReferenceTrace *trace = r->traces ? &r->traces[layer - network->layers] : NULL;
    const int64_t gates = states > 1 ? 4 : kind == RNN ? 1 : 3;
    int64_t time = data->times[network->axes[x]];
    const uint8_t *used = mask >= 0 ? data->masks[network->axes[mask]] : NULL;
    for (int32_t s = 0; s < states; s++) {
        int32_t given = find_port(layer->inputs, spec->input_count, in_roles[s]);
        if (given >= 0) {
            size_t count = (size_t)(data->rows * network->state_sizes[first_state + s]);
            memcpy(r->states[first_state + s], r->values[given], count * sizeof(double));
        }
    }
    for (int64_t row = 0; row < data->rows; row++) {
        double *h = r->states[first_state] + row * output;
        double *c = states > 1 ? r->states[first_state + 1] + row * hidden : NULL;
        const double *previous = NULL;
        for (int64_t n = 0; n < time; n++) {
            int64_t t = is_reverse ? time - 1 - n : n;
            double *to = value_at(r, y, row, t);
            if (!used || used[row * time + t]) {
                const double *now = value_at(r, x, row, t);
                if (trace && trace->gates) {
                    int64_t at = (row * time + t) * hidden;
                    cell.trace = (ReferenceTrace){trace->pre + at * gates, trace->gates + at * gates,
                                                  trace->cell ? trace->cell + at : NULL};
                }
                if (kind == CONV_LSTM) {
                    conv_lstm_step(&cell, now, h, c);
                } else if (kind == RNN) {
                    rnn_step(&cell, now, h);
                } else if (states > 1) {
                    lstm_step(&cell, now, h, c);
                } else {
                    gru_step(&cell, now, h);
                }
                memcpy(to, h, (size_t)output * sizeof *to);
                previous = to;
            } else if (repeats && previous) {
                memcpy(to, previous, (size_t)output * sizeof *to);
            }
        }
    }
    for (int32_t s = 0; s < states; s++) {
        int32_t value = find_port(layer->outputs, spec->output_count, out_roles[s]);
        if (value >= 0) {
            size_t count = (size_t)(data->rows * network->state_sizes[first_state + s]);
            memcpy(r->values[value], r->states[first_state + s], count * sizeof(double));
        }
    }
}

/* the activation of one row of features; softmax needs all of them */
static void activate_row(const Layer *layer, double *y, int32_t count) {
    Activation activation = find_activation(layer, "activation");
    if (activation.function) {
        for (int32_t j = 0; j < count; j++) {
            y[j] = apply(&activation, y[j]);
        }
        return;
    }
    double most = y[0], sum = 0.0;
    for (int32_t j = 1; j < count; j++) {
        most = fmax(most, y[j]);
    }
    for (int32_t j = 0; j < count; j++) {
        sum += y[j] = exp(y[j] - most);
    }
    for (int32_t j = 0; j < count; j++) {
        y[j] /= sum;
    }
}

static void run_merge(Reference *r, const Layer *layer, int32_t y, int64_t row, int64_t t) {
    const char *mode = find_option(layer, "mode")->text;
    double *to = value_at(r, y, row, t);
    int32_t count = layer->spec.input_count, at = 0;
    for (int32_t i = 0; i < count; i++) {
        const double *from = value_at(r, layer->inputs[i].value, row, t);
        for (int32_t j = 0; j < r->network->features[layer->inputs[i].value]; j++) {
            if (strcmp(mode, "concat") == 0) {
                to[at++] = from[j];
            } else if (strcmp(mode, "mul") == 0) {
                to[j] = i ? to[j] * from[j] : from[j];
            } else {
                to[j] += strcmp(mode, "ave") == 0 ? from[j] / count : from[j];
            }
        }
    }
}

static void run_last(Reference *r, const Layer *layer, int32_t x, int32_t y, int64_t row) {
    int32_t mask = find_port(layer->inputs, layer->spec.input_count, "mask");
    int64_t time = r->data->times[r->network->axes[x]], t = time - 1;
    const uint8_t *used = mask >= 0 ? r->data->masks[r->network->axes[mask]] : NULL;
    while (t >= 0 && used && !used[row * time + t]) {
        t--;
    }
    if (t >= 0) {
        memcpy(value_at(r, y, row, 0), value_at(r, x, row, t), (size_t)r->network->features[x] * sizeof(double));
    }
}

static void run_layer(Reference *r, const Layer *layer) {
    const Network *network = r->network;
    int32_t x = find_port(layer->inputs, layer->spec.input_count, "x");
    int32_t y = find_port(layer->outputs, layer->spec.output_count, "y");
    for (int64_t row = 0; row < r->data->rows; row++) {
        for (int64_t t = 0; t < steps_of(network, r->data->times, y); t++) {
            double *to = value_at(r, y, row, t);
            if (strcmp(layer->spec.kind, "dense") == 0) {
                for (int32_t j = 0; j < network->features[y]; j++) {
                    to[j] = dot(find_tensor(layer, "weight"), find_tensor(layer, "bias"), j, value_at(r, x, row, t),
                                network->features[x]);
                }
                activate_row(layer, to, network->features[y]);
            } else if (strcmp(layer->spec.kind, "activation") == 0) {
                memcpy(to, value_at(r, x, row, t), (size_t)network->features[y] * sizeof *to);
                activate_row(layer, to, network->features[y]);
            } else if (strcmp(layer->spec.kind, "merge") == 0) {
                run_merge(r, layer, y, row, t);
            } else {
                run_last(r, layer, x, y, row);
            }
        }
    }
}

Result reference(const Network *network, const Data *data) { return reference_traced(network, data, NULL); }

Result reference_traced(const Network *network, const Data *data, const ReferenceTrace *traces) {
    Reference r = {network, data, {0}, {0}, traces};
    for (int32_t v = 0; v < network->value_count; v++) {
        if (network->kinds[v] != CYL_MASK) {
            int64_t count = data->rows * steps_of(network, data->times, v) * network->features[v];
            r.values[v] = need((size_t)count * sizeof(double));
            for (int32_t i = 0; i < network->input_count; i++) {
                for (int64_t at = 0; network->inputs[i] == v && at < count; at++) {
                    r.values[v][at] = (double)data->inputs[i][at];
                }
            }
        }
    }
    for (int32_t s = 0; s < network->state_count; s++) {
        r.states[s] = to_real(data->states[s], (size_t)(data->rows * network->state_sizes[s]), sizeof(double));
    }
    int32_t state = 0;
    for (int32_t n = 0; n < network->layer_count; n++) {
        const Layer *layer = &network->layers[n];
        if (layer->kind >= 0) {
            run_recurrent(&r, layer, state);
            state += state_count_of((RecurrentKind)layer->kind);
        } else {
            run_layer(&r, layer);
        }
    }
    Result result = result_create(network, data->rows, data->times, sizeof(double));
    for (int32_t i = 0; i < result.count; i++) {
        int32_t s = i - network->output_count;
        memcpy(result.arrays[i], s >= 0 ? r.states[s] : r.values[network->outputs[i]],
               result.sizes[i] * sizeof(double));
    }
    for (int32_t v = 0; v < MOST_VALUES; v++) {
        free(r.values[v]);
    }
    for (int32_t s = 0; s < MOST_STATES; s++) {
        free(r.states[s]);
    }
    return result;
}
