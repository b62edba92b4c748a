/* See network.h. */
#include "network.h"

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
        abort();
    }
}

/* ---- describing a network ---- */

Network *network_create(void) { return need(sizeof(Network)); }

void network_free(Network *network) {
    for (int32_t n = 0; n < network->node_count; n++) {
        for (int32_t t = 0; t < MOST_TENSORS; t++) {
            free(network->nodes[n].weights[t]);
        }
    }
    free(network);
}

int32_t network_value(Network *network, CylKind kind, int32_t features) {
    demand(network->value_count < MOST_VALUES, "too many values");
    network->kinds[network->value_count] = kind;
    network->features[network->value_count] = features;
    network->axes[network->value_count] = -1;
    return network->value_count++;
}

int32_t network_input(Network *network, CylKind kind, int32_t features, int32_t *mask) {
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

Node *network_node(Network *network, const char *op) {
    demand(network->node_count < MOST_NODES, "too many nodes");
    Node *node = &network->nodes[network->node_count++];
    node->spec = (CylNodeSpec){op, node->inputs, node->outputs, node->options, node->tensors, .input_count = 0};
    return node;
}

void node_input(Node *node, const char *role, int32_t value) {
    demand(node->spec.input_count < MOST_PORTS, "too many ports");
    node->inputs[node->spec.input_count++] = (CylPort){role, value};
}

void node_output(Node *node, const char *role, int32_t value) {
    demand(node->spec.output_count < MOST_PORTS, "too many ports");
    node->outputs[node->spec.output_count++] = (CylPort){role, value};
}

static void option(Node *node, CylOption option) {
    demand(node->spec.option_count < MOST_OPTIONS, "too many options");
    node->options[node->spec.option_count++] = option;
}

void node_number(Node *node, const char *name, double number) { option(node, (CylOption){name, NULL, number}); }
void node_text(Node *node, const char *name, const char *text) { option(node, (CylOption){name, text, 0.0}); }

float *node_tensor(Node *node, const char *role, int32_t rows, int32_t columns, float scale) {
    int32_t t = node->spec.tensor_count++;
    demand(t < MOST_TENSORS, "too many tensors");
    node->weights[t] = random_floats((int64_t)rows * (columns ? columns : 1), scale);
    node->tensors[t] = (CylTensor){role, node->weights[t], columns ? 2 : 1, {rows, columns}};
    return node->weights[t];
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

/* parameters as in cylstm/activations.py */
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

void node_activation(Node *node, const char *slot, const char *name) {
    static const char *const names[3][3] = {
        {"activation", "activation_alpha", "activation_beta"},
        {"recurrent_activation", "recurrent_activation_alpha", "recurrent_activation_beta"},
        {"output_activation", "output_activation_alpha", "output_activation_beta"},
    };
    const char *const *slots = names[slot[0] == 'a' ? 0 : slot[0] == 'r' ? 1 : 2];
    node_text(node, slots[0], name);
    for (int a = 0; a <= ACTIVATION_COUNT; a++) {
        if (strcmp(ACTIVATIONS[a].name, name) == 0) {
            node_number(node, slots[1], ACTIVATIONS[a].alpha);
            node_number(node, slots[2], ACTIVATIONS[a].beta);
        }
    }
}

const char *const RECURRENT_NAMES[RECURRENT_KINDS] = {"LSTM", "projected LSTM", "GRU reset-before", "GRU reset-after"};
const RecurrentOptions PLAIN = {-1, -1, -1, false, false, NULL, NULL, 0.0f};

static int32_t state_value(Network *network, int32_t size, const char *role, Node *node) {
    int32_t value = network_value(network, CYL_STATE, size);
    node_output(node, role, value);
    return value;
}

int32_t network_recurrent(Network *network, RecurrentKind kind, int32_t x, int32_t hidden,
                          const RecurrentOptions *options, int32_t *h, int32_t *c) {
    options = options ? options : &PLAIN;
    bool is_lstm = kind == LSTM || kind == LSTM_PROJECTED;
    int32_t input = network->features[x], gates = is_lstm ? 4 : 3;
    int32_t output = kind == LSTM_PROJECTED ? hidden * 2 / 3 + 1 : hidden;
    Node *node = network_node(network, is_lstm ? "lstm" : "gru");
    node_input(node, "x", x);
    if (options->mask >= 0) {
        node_input(node, "mask", options->mask);
    }
    if (options->h0 >= 0) {
        node_input(node, "h0", options->h0);
    }
    if (options->c0 >= 0) {
        node_input(node, "c0", options->c0);
    }
    int32_t y = network_value(network, CYL_SEQUENCE, output);
    network->axes[y] = network->axes[x];
    node_output(node, "y", y);
    if (h) {
        *h = state_value(network, output, "h", node);
    }
    if (c) {
        *c = state_value(network, hidden, "c", node);
    }
    node_number(node, "reverse", options->is_reverse);
    node_text(node, "padding", options->repeats_padding ? "repeat" : "zero");
    node_activation(node, "activation", options->activation ? options->activation : "tanh");
    node_activation(node, "recurrent_activation",
                    options->recurrent_activation ? options->recurrent_activation : "sigmoid");
    node_text(node, "empty_state", "initial");
    node_number(node, "gate_clip", 0.0);
    if (is_lstm) {
        node_activation(node, "output_activation", options->activation ? options->activation : "tanh");
        node_number(node, "forget_gate", 1.0);
        node_text(node, "coupled", "");
        node_text(node, "layer_norm", "");
        node_number(node, "epsilon", 0.0);
        node_number(node, "cell_clip", 0.0);
    } else {
        node_number(node, "reset_after", kind == GRU_AFTER);
    }
    float scale = options->scale > 0.0f ? options->scale : 1.5f / sqrtf((float)(input + output));
    node_tensor(node, "weight_ih", gates * hidden, input, scale);
    node_tensor(node, "weight_hh", gates * hidden, output, scale);
    node_tensor(node, is_lstm ? "bias" : "bias_ih", gates * hidden, 0, scale);
    if (kind == LSTM_PROJECTED) {
        node_tensor(node, "weight_hr", output, hidden, 1.5f / sqrtf((float)hidden));
    }
    if (kind == GRU_AFTER) {
        node_tensor(node, "bias_hh", gates * hidden, 0, scale);
    }
    demand(network->state_count + 2 <= MOST_STATES, "too many states");
    network->state_sizes[network->state_count++] = output;
    if (is_lstm) {
        network->state_sizes[network->state_count++] = hidden;
    }
    return y;
}

/* a value like x, of other features */
static int32_t value_along(Network *network, int32_t x, int32_t features) {
    int32_t y = network_value(network, network->kinds[x] == CYL_SEQUENCE ? CYL_SEQUENCE : CYL_VECTOR, features);
    network->axes[y] = network->axes[x];
    return y;
}

int32_t network_dense(Network *network, int32_t x, int32_t units, const char *activation) {
    Node *node = network_node(network, "dense");
    int32_t y = value_along(network, x, units), input = network->features[x];
    node_input(node, "x", x);
    node_output(node, "y", y);
    node_activation(node, "activation", activation);
    node_tensor(node, "weight", units, input, 2.0f / sqrtf((float)input));
    node_tensor(node, "bias", units, 0, 0.5f);
    return y;
}

int32_t network_last(Network *network, int32_t x, int32_t mask) {
    Node *node = network_node(network, "last");
    int32_t y = network_value(network, CYL_VECTOR, network->features[x]);
    node_input(node, "x", x);
    if (mask >= 0) {
        node_input(node, "mask", mask);
    }
    node_output(node, "y", y);
    return y;
}

int32_t network_merge(Network *network, const char *mode, const int32_t *values, int32_t count) {
    static const char *const roles[MOST_PORTS] = {"x", "x1", "x2", "x3"};
    Node *node = network_node(network, "merge");
    int32_t features = 0;
    for (int32_t i = 0; i < count; i++) {
        node_input(node, roles[i], values[i]);
        features = strcmp(mode, "concat") == 0 ? features + network->features[values[i]] : network->features[values[i]];
    }
    int32_t y = value_along(network, values[0], features);
    node_output(node, "y", y);
    node_text(node, "mode", mode);
    node_number(node, "positions", 1.0);
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

CylModel *network_model(const Network *network, CylEngine engine, CylIsa isa) {
    CylModel *model;
    CylBlas blas = plain_blas();
    demand(cyl_model_create(engine, isa, &blas, &model) == CYL_OK, "no model");
    size_t real_size = cyl_model_real_size(model);
    for (int32_t v = 0; v < network->value_count; v++) {
        int32_t index;
        CylStatus status = cyl_model_add_value(model, network->kinds[v], network->features[v], &index);
        demand(status == CYL_OK && index == v, "no value");
    }
    for (int32_t n = 0; n < network->node_count; n++) {
        CylNodeSpec spec = network->nodes[n].spec;
        CylTensor tensors[MOST_TENSORS];
        for (int32_t t = 0; t < spec.tensor_count; t++) {
            tensors[t] = spec.tensors[t];
            size_t count = (size_t)(tensors[t].shape[0] * (tensors[t].rank > 1 ? tensors[t].shape[1] : 1));
            tensors[t].data = to_real(tensors[t].data, count, real_size);
        }
        spec.tensors = tensors;
        CylStatus status = cyl_model_add_node(model, &spec);
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
        demand(cyl_stream_set_state(running, s, state) == CYL_OK, "set_state");
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
        demand(cyl_stream_get_state(running, s, result.arrays[network->output_count + s]) == CYL_OK, "get_state");
    }
    cyl_stream_free(running);
    return result;
}

/* ---- the reference: the equations, in double ---- */

static const CylOption *find_option(const Node *node, const char *name) {
    for (int32_t i = 0; i < node->spec.option_count; i++) {
        if (strcmp(node->options[i].name, name) == 0) {
            return &node->options[i];
        }
    }
    return NULL;
}

static const float *find_tensor(const Node *node, const char *role) {
    for (int32_t i = 0; i < node->spec.tensor_count; i++) {
        if (strcmp(node->tensors[i].role, role) == 0) {
            return node->weights[i];
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

/* the activation of `slot` with the node's parameters, which have the precision of a model's */
static Activation find_activation(const Node *node, const char *slot) {
    char name[40];
    snprintf(name, sizeof name, "%s_alpha", slot);
    double alpha = (double)(float)find_option(node, name)->number;
    snprintf(name, sizeof name, "%s_beta", slot);
    double beta = (double)(float)find_option(node, name)->number;
    int a = 0;
    while (strcmp(ACTIVATIONS[a].name, find_option(node, slot)->text) != 0) {
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
    const Node *node;
    int32_t input, hidden, output;
    Activation gate, state; /* recurrent_activation and activation */
} Cell;

static void lstm_step(const Cell *cell, const double *x, double *h, double *c) {
    const Node *node = cell->node;
    int32_t input = cell->input, hidden = cell->hidden, output = cell->output;
    const float *ih = find_tensor(node, "weight_ih"), *hh = find_tensor(node, "weight_hh");
    const float *bias = find_tensor(node, "bias"), *hr = find_tensor(node, "weight_hr");
    double *m = need((size_t)hidden * sizeof *m);
    for (int32_t j = 0; j < hidden; j++) {
        double gates[4];
        for (int32_t g = 0; g < 4; g++) {
            int64_t row = (int64_t)g * hidden + j;
            gates[g] = apply(g == 2 ? &cell->state : &cell->gate,
                             dot(ih, bias, row, x, input) + dot(hh, NULL, row, h, output));
        }
        c[j] = gates[1] * c[j] + gates[0] * gates[2];
        m[j] = gates[3] * apply(&cell->state, c[j]);
    }
    for (int32_t j = 0; j < output; j++) {
        h[j] = hr ? dot(hr, NULL, j, m, hidden) : m[j];
    }
    free(m);
}

static void gru_step(const Cell *cell, const double *x, double *h) {
    const Node *node = cell->node;
    int32_t input = cell->input, hidden = cell->hidden;
    bool is_reset_after = find_option(node, "reset_after")->number != 0.0;
    const float *ih = find_tensor(node, "weight_ih"), *hh = find_tensor(node, "weight_hh");
    const float *bias_ih = find_tensor(node, "bias_ih"), *bias_hh = find_tensor(node, "bias_hh");
    double *r = need((size_t)hidden * sizeof *r), *z = need((size_t)hidden * sizeof *z);
    double *reset = need((size_t)hidden * sizeof *reset), *next = need((size_t)hidden * sizeof *next);
    for (int32_t j = 0; j < hidden; j++) {
        r[j] = apply(&cell->gate, dot(ih, bias_ih, j, x, input) + dot(hh, bias_hh, j, h, hidden));
        z[j] = apply(&cell->gate, dot(ih, bias_ih, hidden + j, x, input) + dot(hh, bias_hh, hidden + j, h, hidden));
        reset[j] = r[j] * h[j];
    }
    for (int32_t j = 0; j < hidden; j++) {
        int64_t row = 2 * (int64_t)hidden + j;
        double recurrent =
            is_reset_after ? r[j] * dot(hh, bias_hh, row, h, hidden) : dot(hh, bias_hh, row, reset, hidden);
        next[j] = z[j] * h[j] + (1.0 - z[j]) * apply(&cell->state, dot(ih, bias_ih, row, x, input) + recurrent);
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
    double *values[MOST_VALUES]; /* (rows, steps, features) */
    double *states[MOST_STATES]; /* (rows, size) */
} Reference;

static double *value_at(const Reference *r, int32_t value, int64_t row, int64_t t) {
    int64_t steps = steps_of(r->network, r->data->times, value);
    return r->values[value] + (row * steps + t) * r->network->features[value];
}

static void run_recurrent(Reference *r, const Node *node, int32_t first_state) {
    const Network *network = r->network;
    const Data *data = r->data;
    const CylNodeSpec *spec = &node->spec;
    int32_t x = find_port(node->inputs, spec->input_count, "x"), y = find_port(node->outputs, spec->output_count, "y");
    int32_t mask = find_port(node->inputs, spec->input_count, "mask");
    const char *in_roles[2] = {"h0", "c0"}, *out_roles[2] = {"h", "c"};
    bool is_lstm = strcmp(spec->op, "lstm") == 0, is_reverse = find_option(node, "reverse")->number != 0.0;
    bool repeats = strcmp(find_option(node, "padding")->text, "repeat") == 0;
    int32_t output = network->features[y], hidden = (int32_t)node->tensors[0].shape[0] / (is_lstm ? 4 : 3);
    Cell cell = {node,
                 network->features[x],
                 hidden,
                 output,
                 find_activation(node, "recurrent_activation"),
                 find_activation(node, "activation")};
    int64_t time = data->times[network->axes[x]];
    const uint8_t *used = mask >= 0 ? data->masks[network->axes[mask]] : NULL;
    for (int32_t s = 0; s < 1 + is_lstm; s++) {
        int32_t given = find_port(node->inputs, spec->input_count, in_roles[s]);
        if (given >= 0) {
            size_t count = (size_t)(data->rows * network->state_sizes[first_state + s]);
            memcpy(r->states[first_state + s], r->values[given], count * sizeof(double));
        }
    }
    for (int64_t row = 0; row < data->rows; row++) {
        double *h = r->states[first_state] + row * output;
        double *c = is_lstm ? r->states[first_state + 1] + row * hidden : NULL;
        const double *previous = NULL;
        for (int64_t n = 0; n < time; n++) {
            int64_t t = is_reverse ? time - 1 - n : n;
            double *to = value_at(r, y, row, t);
            if (!used || used[row * time + t]) {
                if (is_lstm) {
                    lstm_step(&cell, value_at(r, x, row, t), h, c);
                } else {
                    gru_step(&cell, value_at(r, x, row, t), h);
                }
                memcpy(to, h, (size_t)output * sizeof *to);
                previous = to;
            } else if (repeats && previous) {
                memcpy(to, previous, (size_t)output * sizeof *to);
            }
        }
    }
    for (int32_t s = 0; s < 1 + is_lstm; s++) {
        int32_t value = find_port(node->outputs, spec->output_count, out_roles[s]);
        if (value >= 0) {
            size_t count = (size_t)(data->rows * network->state_sizes[first_state + s]);
            memcpy(r->values[value], r->states[first_state + s], count * sizeof(double));
        }
    }
}

/* the activation of one row of features; softmax needs all of them */
static void activate_row(const Node *node, double *y, int32_t count) {
    Activation activation = find_activation(node, "activation");
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

static void run_merge(Reference *r, const Node *node, int32_t y, int64_t row, int64_t t) {
    const char *mode = find_option(node, "mode")->text;
    double *to = value_at(r, y, row, t);
    int32_t count = node->spec.input_count, at = 0;
    for (int32_t i = 0; i < count; i++) {
        const double *from = value_at(r, node->inputs[i].value, row, t);
        for (int32_t j = 0; j < r->network->features[node->inputs[i].value]; j++) {
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

static void run_last(Reference *r, const Node *node, int32_t x, int32_t y, int64_t row) {
    int32_t mask = find_port(node->inputs, node->spec.input_count, "mask");
    int64_t time = r->data->times[r->network->axes[x]], t = time - 1;
    const uint8_t *used = mask >= 0 ? r->data->masks[r->network->axes[mask]] : NULL;
    while (t >= 0 && used && !used[row * time + t]) {
        t--;
    }
    if (t >= 0) {
        memcpy(value_at(r, y, row, 0), value_at(r, x, row, t), (size_t)r->network->features[x] * sizeof(double));
    }
}

static void run_node(Reference *r, const Node *node) {
    const Network *network = r->network;
    int32_t x = find_port(node->inputs, node->spec.input_count, "x");
    int32_t y = find_port(node->outputs, node->spec.output_count, "y");
    for (int64_t row = 0; row < r->data->rows; row++) {
        for (int64_t t = 0; t < steps_of(network, r->data->times, y); t++) {
            double *to = value_at(r, y, row, t);
            if (strcmp(node->spec.op, "dense") == 0) {
                for (int32_t j = 0; j < network->features[y]; j++) {
                    to[j] = dot(find_tensor(node, "weight"), find_tensor(node, "bias"), j, value_at(r, x, row, t),
                                network->features[x]);
                }
                activate_row(node, to, network->features[y]);
            } else if (strcmp(node->spec.op, "activation") == 0) {
                memcpy(to, value_at(r, x, row, t), (size_t)network->features[y] * sizeof *to);
                activate_row(node, to, network->features[y]);
            } else if (strcmp(node->spec.op, "merge") == 0) {
                run_merge(r, node, y, row, t);
            } else {
                run_last(r, node, x, y, row);
            }
        }
    }
}

Result reference(const Network *network, const Data *data) {
    Reference r = {network, data, {0}, {0}};
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
    for (int32_t n = 0; n < network->node_count; n++) {
        const Node *node = &network->nodes[n];
        bool is_lstm = strcmp(node->spec.op, "lstm") == 0;
        if (is_lstm || strcmp(node->spec.op, "gru") == 0) {
            run_recurrent(&r, node, state);
            state += 1 + is_lstm;
        } else {
            run_node(&r, node);
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
