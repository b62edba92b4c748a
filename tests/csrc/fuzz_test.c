/*
 * Fuzzing: bytes become a network, right or wrong, and what is done with it. A status may refuse it; nothing may crash,
 * leak or hang, and what runs must give the same bits on two instruction sets, on several threads, in every row alone,
 * from its packed arrays, in pieces, in streams whose rows come and go, and in windows.
 *
 * As a test it runs the networks of tests/fuzz/corpora/network, and seeded changes of them. `make fuzz-c` builds it
 * with -DCYL_LIBFUZZER for libFuzzer, which looks for changes that reach new code. tests/fuzz/networks.py writes such
 * bytes; the words are in fuzz_words.def.
 */
#include "check.h"
#include "cylstm.h"
#include "model/axes.h"
#include "model/model.h"
#include "model/recurrent.h"
#include "network.h"
#include "platform/memory.h"
#include "run/call.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MUST(condition, ...)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: FAILED: ", __FILE__, __LINE__);                                                             \
            printf(__VA_ARGS__);                                                                                       \
            fail();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* says what ran, and ends the program */
static void fail(void);

/* ---- bytes ---- */

typedef struct {
    const uint8_t *at;
    size_t left;
} Bytes;

/* 0 where none is left */
static uint8_t take(Bytes *bytes) {
    if (!bytes->left) {
        return 0;
    }
    bytes->left--;
    return *bytes->at++;
}

static uint64_t take_many(Bytes *bytes, int count) {
    uint64_t number = 0;
    for (int i = 0; i < count; i++) {
        number |= (uint64_t)take(bytes) << (8 * i);
    }
    return number;
}

static const char *const KINDS[] = {
#define KIND(word) word,
#include "fuzz_words.def"
};
static const char *const ROLES[] = {
#define ROLE(word) word,
#include "fuzz_words.def"
};
static const char *const OPTIONS[] = {
#define OPTION(word) word,
#include "fuzz_words.def"
};
static const char *const TEXTS[] = {
#define TEXT(word) word,
#include "fuzz_words.def"
};
static const char *const TYPES[] = {NULL, "float16", "bfloat16", "int8a16", "int8a8", "float32", "int8", "float24"};
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WORD(words, bytes) (words)[take(bytes) % COUNT(words)]

/* a size: most bytes are one, the last ones say of which kind */
static int64_t take_size(Bytes *bytes) {
    static const int64_t odd[] = {-1, 1 << 24, (1 << 24) + 1, INT32_MAX, (int64_t)1 << 32, INT64_MAX, INT64_MIN};
    const uint8_t first = take(bytes);
    return first < 240    ? first
           : first == 240 ? (int64_t)take_many(bytes, 2)
           : first == 241 ? (int64_t)take_many(bytes, 8)
                          : odd[(first - 242) % (int)COUNT(odd)];
}

static double take_number(Bytes *bytes) {
    static const double odd[] = {
        (double)NAN, (double)INFINITY, -(double)INFINITY, 0.5,     0.25,   0.1, 1e-3, 1e-5, 1e-12, 1e30, 1e31, 1e300,
        -0.5,        0x1p24,           0x1p31 - 1,        -0x1p31, 0x1p53, 1.5, 0.7,  -1e30};
    const uint8_t first = take(bytes);
    uint64_t bits;
    double number;
    if (first < 210) {
        return first - 64;
    }
    if (first < 250) {
        return odd[(first - 210) % (int)COUNT(odd)];
    }
    bits = take_many(bytes, 8);
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* ---- the network ---- */

enum { MOST = 64, MOST_NUMBERS = 1 << 14, MOST_RUNS = 1 << 20, MOST_MEMORY = 1 << 22 };

typedef struct {
    CylValueKind kind;
    int32_t rank, shape[CYL_MAX_RANK];
    bool is_plain; /* declared by its features alone */
} Value;

/* how a tensor's numbers are made, and whether they are written later */
typedef struct {
    uint8_t fill;
    bool is_late;
    uint32_t seed;
    float *numbers; /* NULL for more than MOST_NUMBERS, which no layer may read */
    int64_t count;
} Fill;

typedef struct {
    CylLayerSpec spec;
    CylPort inputs[MOST], outputs[MOST];
    CylOption options[MOST];
    CylTensor tensors[16];
    Fill fills[16];
} Described;

typedef struct {
    Value values[MOST + MOST];
    Described *layers; /* (layer_count) */
    int32_t shares[4][2], inputs[8], masks[8], outputs[8];
    int32_t value_count, layer_count, share_count, input_count, output_count;
} Description;

/* random numbers that depend on `seed` and the place alone */
static uint32_t mixed(uint32_t seed, uint32_t place) {
    uint32_t x = seed * 2654435769u + place * 2246822519u + 374761393u;
    x = (x ^ x >> 15) * 2246822519u;
    x = (x ^ x >> 13) * 3266489917u;
    return x ^ x >> 16;
}

static float number_of(uint8_t fill, uint32_t seed, int64_t place) {
    static const float special[] = {NAN,    INFINITY, -INFINITY, -0.0f, 1e-45f,   -1e-38f, 0x1p-40f, 0x1p-41f,
                                    1e-30f, 3.4e38f,  -3.4e38f,  65504, 65520.0f, 1e-8f,   1.0f,     -1.0f};
    const uint32_t bits = mixed(seed, (uint32_t)place);
    const float plain = (float)(int32_t)(bits >> 8) * 0x1p-23f - 1.0f;
    switch (fill % 8) {
    case 0:
        return plain * 0.6f;
    case 1:
        return (float)(bits % (uint32_t)(fill / 8 + 1));
    case 2:
        return 0.1f + fabsf(plain);
    case 3:
        return bits % 4 ? plain : special[bits / 4 % COUNT(special)];
    case 4:
        return 0.0f;
    case 5:
        return plain * ldexpf(1.0f, fill / 8 * 8 - 130);
    case 6:
        return plain * 4.0f;
    default:
        return bits % 3 ? 0.0f : plain;
    }
}

static void describe_tensor(Bytes *bytes, Described *layer, uint32_t seed) {
    CylTensor *tensor = &layer->tensors[layer->spec.tensor_count];
    Fill *fill = &layer->fills[layer->spec.tensor_count++];
    tensor->role = WORD(ROLES, bytes);
    tensor->type = TYPES[take(bytes) % COUNT(TYPES)];
    tensor->rank = take(bytes) % (CYL_MAX_RANK + 1);
    uint64_t count = 1;
    for (int32_t axis = 0; axis < tensor->rank; axis++) {
        tensor->shape[axis] = take_size(bytes);
        bool fits = tensor->shape[axis] >= 0 && tensor->shape[axis] <= MOST_NUMBERS && count <= MOST_NUMBERS;
        count = fits ? count * (uint64_t)tensor->shape[axis] : (uint64_t)MOST_NUMBERS + 1;
    }
    fill->fill = take(bytes);
    fill->is_late = fill->fill % 16 == 15;
    fill->seed = seed;
    if (count <= MOST_NUMBERS) {
        fill->count = (int64_t)count;
        fill->numbers = need(count * sizeof *fill->numbers);
        for (int64_t i = 0; i < fill->count; i++) {
            fill->numbers[i] = number_of(fill->fill, seed, i);
        }
    }
}

static void describe_layer(Bytes *bytes, Described *layer, uint32_t seed) {
    CylLayerSpec *spec = &layer->spec;
    *spec = (CylLayerSpec){
        .inputs = layer->inputs, .outputs = layer->outputs, .options = layer->options, .tensors = layer->tensors};
    spec->kind = WORD(KINDS, bytes);
    spec->input_count = take(bytes) % MOST;
    for (int32_t i = 0; i < spec->input_count; i++) {
        layer->inputs[i].role = WORD(ROLES, bytes);
        layer->inputs[i].value = (int8_t)take(bytes);
    }
    spec->output_count = take(bytes) % MOST;
    for (int32_t i = 0; i < spec->output_count; i++) {
        layer->outputs[i].role = WORD(ROLES, bytes);
        layer->outputs[i].value = (int8_t)take(bytes);
    }
    spec->option_count = take(bytes) % MOST;
    for (int32_t i = 0; i < spec->option_count; i++) {
        layer->options[i].name = WORD(OPTIONS, bytes);
        const uint8_t text = take(bytes); /* 0 for a number */
        layer->options[i].text = text ? TEXTS[(text - 1) % COUNT(TEXTS)] : NULL;
        layer->options[i].number = text ? 0.0 : take_number(bytes);
    }
    for (int count = take(bytes) % 16; count > 0; count--) {
        describe_tensor(bytes, layer, mixed(seed, (uint32_t)count));
    }
}

static void describe(Bytes *bytes, Description *network) {
    network->value_count = take(bytes) % (MOST + MOST);
    for (int32_t v = 0; v < network->value_count; v++) {
        Value *value = &network->values[v];
        const uint8_t kind = take(bytes);
        value->kind = (CylValueKind)(kind % 5);
        value->is_plain = kind >= 128;
        value->rank = value->is_plain ? 1 : take(bytes) % (CYL_MAX_RANK + 1);
        for (int32_t axis = 0; axis < value->rank; axis++) {
            value->shape[axis] = (int32_t)take_size(bytes);
        }
    }
    network->layer_count = take(bytes) % MOST;
    network->layers = need((size_t)network->layer_count * sizeof *network->layers);
    for (int32_t n = 0; n < network->layer_count; n++) {
        describe_layer(bytes, &network->layers[n], (uint32_t)n);
    }
    network->share_count = take(bytes) % 4;
    for (int32_t i = 0; i < network->share_count; i++) {
        network->shares[i][0] = (int8_t)take(bytes);
        network->shares[i][1] = (int8_t)take(bytes);
    }
    network->input_count = take(bytes) % 8;
    for (int32_t i = 0; i < network->input_count; i++) {
        network->inputs[i] = (int8_t)take(bytes);
        network->masks[i] = (int8_t)take(bytes);
    }
    network->output_count = take(bytes) % 8;
    for (int32_t i = 0; i < network->output_count; i++) {
        network->outputs[i] = (int8_t)take(bytes);
    }
}

static const Description *running;
static Bytes running_bytes;

static void print_ports(const char *what, const CylPort *ports, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        printf("%s%s %d", i ? ", " : what, ports[i].role, (int)ports[i].value);
    }
}

static void fail(void) {
    printf("\n  bytes ");
    for (size_t at = 0; at < running_bytes.left; at++) {
        printf("%02x", running_bytes.at[at]);
    }
    printf("\n");
    for (int32_t v = 0; running && v < running->value_count; v++) {
        const Value *value = &running->values[v];
        printf("  value %d of kind %d:", (int)v, (int)value->kind);
        for (int32_t axis = 0; axis < value->rank; axis++) {
            printf(" %d", (int)value->shape[axis]);
        }
        printf("\n");
    }
    for (int32_t n = 0; running && n < running->layer_count; n++) {
        const CylLayerSpec *spec = &running->layers[n].spec;
        printf("  %s", spec->kind);
        print_ports(" reads ", spec->inputs, spec->input_count);
        print_ports("; writes ", spec->outputs, spec->output_count);
        for (int32_t i = 0; i < spec->option_count; i++) {
            const CylOption *option = &spec->options[i];
            printf("%s%s=", i ? ", " : "; ", option->name);
            if (option->text) {
                printf("%s", option->text);
            } else {
                printf("%g", option->number);
            }
        }
        printf("\n");
    }
    fflush(stdout);
    abort();
}

static void description_free(Description *network) {
    for (int32_t n = 0; n < network->layer_count; n++) {
        for (int32_t t = 0; t < network->layers[n].spec.tensor_count; t++) {
            free(network->layers[n].fills[t].numbers);
        }
    }
    free(network->layers);
}

/* ---- building it ---- */

static CylStatus add_values(CylModel *model, const Description *network) {
    CylStatus status = CYL_OK;
    for (int32_t v = 0; v < network->value_count && status == CYL_OK; v++) {
        const Value *value = &network->values[v];
        int32_t index;
        status = value->is_plain ? cyl_model_add_value(model, value->kind, value->shape[0], &index)
                                 : cyl_model_add_tensor(model, value->kind, value->shape, value->rank, &index);
        MUST(status != CYL_OK || index == v, "value %d", (int)v);
    }
    return status;
}

static void *real_numbers(const float *numbers, int64_t count, size_t real_size) {
    char *real = need((size_t)count * real_size);
    for (int64_t i = 0; i < count; i++) {
        double wide = (double)numbers[i];
        memcpy(real + (size_t)i * real_size, real_size == sizeof wide ? (const void *)&wide : (const void *)&numbers[i],
               real_size);
    }
    return real;
}

/* writes a tensor in two parts, and reads it back */
static CylStatus write_late(CylModel *model, int32_t layer, const CylTensor *tensor, const void *data, int64_t count) {
    const int64_t rows = tensor->rank ? tensor->shape[0] : 0, half = rows / 2;
    CylStatus status = CYL_OK;
    if (rows < 1 || !data) {
        return CYL_E_TENSOR;
    }
    const size_t row = (size_t)(count / rows) * cyl_model_real_size(model);
    if (half) {
        status = cyl_model_write_tensor(model, layer, tensor->role, 0, half, data);
    }
    return status == CYL_OK ? cyl_model_write_tensor(model, layer, tensor->role, half, rows - half,
                                                     (const char *)data + (size_t)half * row)
                            : status;
}

static CylStatus add_layer(CylModel *model, const Described *layer, int32_t index, const CylModel *packed) {
    CylLayerSpec spec = layer->spec;
    CylTensor tensors[16];
    CylArray arrays[MOST];
    void *data[16] = {NULL};
    for (int32_t t = 0; t < spec.tensor_count; t++) {
        const Fill *fill = &layer->fills[t];
        tensors[t] = spec.tensors[t];
        if (fill->numbers) {
            data[t] = real_numbers(fill->numbers, fill->count, cyl_model_real_size(model));
        }
        tensors[t].data = packed || fill->is_late ? NULL : data[t];
    }
    spec.tensors = tensors;
    if (packed) {
        spec.array_count = cyl_model_array_count(packed, index);
        for (int32_t a = 0; a < spec.array_count && a < MOST; a++) {
            arrays[a] = cyl_model_array(packed, index, a);
        }
        spec.arrays = spec.array_count && spec.array_count <= MOST ? arrays : NULL;
    }
    CylStatus status = cyl_model_add_layer(model, &spec);
    for (int32_t t = 0; t < spec.tensor_count; t++) {
        if (status == CYL_OK && layer->fills[t].is_late && !spec.arrays) {
            status = write_late(model, index, &tensors[t], data[t], layer->fills[t].count);
        }
        free(data[t]);
    }
    return status;
}

/* `packed`: a model whose packed arrays are taken; NULL if it cannot be built */
static CylModel *build(const Description *network, CylEngine engine, CylIsa isa, const CylModel *packed,
                       CylStatus *status) {
    const CylBlas blas = plain_blas();
    CylModel *model;
    *status = cyl_model_create(engine, isa, &blas, &model);
    MUST(*status == CYL_OK, "no model of a set that there is");
    *status = add_values(model, network);
    for (int32_t n = 0; n < network->layer_count && *status == CYL_OK; n++) {
        *status = add_layer(model, &network->layers[n], n, packed);
    }
    for (int32_t i = 0; i < network->share_count && *status == CYL_OK; i++) {
        *status = cyl_model_share_time(model, network->shares[i][0], network->shares[i][1]);
    }
    if (*status == CYL_OK) {
        *status = cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                                   network->output_count);
    }
    if (*status == CYL_OK) {
        return model;
    }
    cyl_model_free(model);
    return NULL;
}

/* ---- what a call reads and writes ---- */

typedef struct {
    int64_t rows, times[8];
    float *numbers[8]; /* (rows, time, features), or int32_t */
    uint8_t *masks[8];
    float **states; /* (states), or NULL */
    int32_t state_count;
} Feed;

static int64_t steps_of(const CylModel *model, const int64_t *times, int32_t input) {
    return model->values[model->inputs[input]].has_time ? times[input] : 1;
}

/* numbers of one row of an input */
static int64_t row_size(const CylModel *model, const int64_t *times, int32_t input) {
    return steps_of(model, times, input) * model->values[model->inputs[input]].features;
}

static const CylLayer *layer_of_state(const CylModel *model, int32_t state) {
    int32_t n = model->layer_count - 1;
    while (n > 0 && (model->layers[n].first_state < 0 || model->layers[n].first_state > state)) {
        n--;
    }
    return &model->layers[n];
}

static Feed *feed_create(const CylModel *model, int64_t rows, const int64_t *times, uint8_t fill, uint8_t masked,
                         bool has_states, uint32_t seed) {
    Feed *feed = need(sizeof *feed);
    feed->rows = rows;
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        const int64_t count = rows * row_size(model, times, i);
        feed->times[i] = times[i];
        feed->numbers[i] = need((size_t)count * sizeof(float));
        for (int64_t k = 0; k < count; k++) {
            if (value->kind == CYL_INDEX) {
                const uint32_t bits = mixed(seed + (uint32_t)i, (uint32_t)k);
                const int32_t index = fill == 3 && bits % 64 == 0 ? (int32_t)bits
                                      : value->limit > 0          ? (int32_t)(bits % (uint32_t)value->limit)
                                                                  : 0;
                memcpy(&feed->numbers[i][k], &index, sizeof index);
            } else if (value->kind != CYL_MASK) {
                feed->numbers[i][k] = number_of(fill, seed + (uint32_t)i, k);
            }
        }
        if (model->masks[i] >= 0 && masked >> i & 1) {
            const int64_t steps = steps_of(model, times, i);
            feed->masks[i] = need((size_t)(rows * steps));
            for (int64_t k = 0; k < rows * steps; k++) {
                feed->masks[i][k] = mixed(seed ^ 77u, (uint32_t)(k / steps)) % 5 && mixed(seed ^ 78u, (uint32_t)k) % 3;
            }
        }
    }
    feed->state_count = model->state_count;
    if (has_states) {
        feed->states = need((size_t)model->state_count * sizeof *feed->states);
        for (int32_t s = 0; s < model->state_count; s++) {
            const int64_t count = rows * model->state_sizes[s];
            feed->states[s] = need((size_t)count * sizeof(float));
            /* a state that counts steps has whole numbers, the second of them for many steps alone */
            const bool counts = layer_of_state(model, s)->kind == cyl_layer_kind("positions");
            for (int64_t k = 0; k < count; k++) {
                const uint8_t made_by = counts ? (k % 2 ? 4 : 8 * 20 + 1) : fill == 3 ? 3 : 0;
                feed->states[s][k] = number_of(made_by, seed + 100 + (uint32_t)s, k);
            }
        }
    }
    return feed;
}

static void feed_free(Feed *feed) {
    for (int i = 0; i < 8; i++) {
        free(feed->numbers[i]);
        free(feed->masks[i]);
    }
    for (int32_t s = 0; feed->states && s < feed->state_count; s++) {
        free(feed->states[s]);
    }
    free(feed->states);
    free(feed);
}

/* the same of some rows and, of inputs with time, some steps */
static Feed *feed_part(const CylModel *model, const Feed *feed, int64_t row, int64_t rows, int64_t step,
                       int64_t steps) {
    Feed *part = need(sizeof *part);
    part->rows = rows;
    for (int32_t i = 0; i < model->input_count; i++) {
        const bool has_time = model->values[model->inputs[i]].has_time;
        const int64_t all = steps_of(model, feed->times, i), from = has_time ? step : 0;
        const int64_t features = model->values[model->inputs[i]].features;
        const int64_t count = steps && has_time ? steps : all;
        part->times[i] = has_time ? count : feed->times[i];
        part->numbers[i] = need((size_t)(rows * count * features) * sizeof(float));
        part->masks[i] = feed->masks[i] ? need((size_t)(rows * count)) : NULL;
        for (int64_t n = 0; n < rows; n++) {
            memcpy(part->numbers[i] + n * count * features, feed->numbers[i] + ((row + n) * all + from) * features,
                   (size_t)(count * features) * sizeof(float));
            if (feed->masks[i]) {
                memcpy(part->masks[i] + n * count, feed->masks[i] + (row + n) * all + from, (size_t)count);
            }
        }
    }
    part->state_count = feed->state_count;
    if (feed->states) {
        part->states = need((size_t)feed->state_count * sizeof *part->states);
        for (int32_t s = 0; s < feed->state_count; s++) {
            const int64_t size = model->state_sizes[s];
            part->states[s] = need((size_t)(rows * size) * sizeof(float));
            memcpy(part->states[s], feed->states[s] + row * size, (size_t)(rows * size) * sizeof(float));
        }
    }
    return part;
}

/* outputs, then states */
typedef struct {
    int32_t count, output_count;
    int64_t rows;
    int64_t *sizes; /* (count): numbers of one row */
    void **arrays;  /* (count) */
} Found;

/* with room for outputs of these sizes; a size below 0 counts as 0 */
static Found found_create(const CylModel *model, int64_t rows, const int64_t *output_sizes) {
    Found found = {model->output_count + model->state_count, model->output_count, rows, NULL, NULL};
    found.sizes = need((size_t)found.count * sizeof *found.sizes);
    found.arrays = need((size_t)found.count * sizeof *found.arrays);
    for (int32_t i = 0; i < found.count; i++) {
        const int64_t size = i < model->output_count ? output_sizes[i] : model->state_sizes[i - model->output_count];
        found.sizes[i] = size < 0 ? 0 : size;
        /* no byte more than it may write: not what `need` gives for nothing */
        found.arrays[i] = need((size_t)(rows * found.sizes[i]) * cyl_model_real_size(model));
    }
    return found;
}

static void found_free(Found *found) {
    for (int32_t i = 0; i < found->count; i++) {
        free(found->arrays[i]);
    }
    free(found->arrays);
    free(found->sizes);
    *found = (Found){.count = 0};
}

/* whether `count` numbers from these on are the same bits, or both NaN */
static bool same(const CylModel *model, const void *a, int64_t at_a, const void *b, int64_t at_b, int64_t count) {
    for (int64_t k = 0; k < count; k++) {
        const double x = cyl_get(model, a, at_a + k), y = cyl_get(model, b, at_b + k);
        if (memcmp(&x, &y, sizeof x) != 0 && !(x != x && y != y)) {
            return false;
        }
    }
    return true;
}

/* the numbers of a row of each output; false if that is too much to run */
static bool output_sizes(const CylModel *model, const int64_t *times, int64_t *sizes) {
    for (int32_t o = 0; o < model->output_count; o++) {
        const CylValue *value = &model->values[model->outputs[o]];
        const int64_t steps = value->axis >= 0 ? cyl_axis_length(model, value->axis, times) : 1;
        if (steps > MOST_RUNS / value->features) {
            return false;
        }
        sizes[o] = steps * value->features;
    }
    return true;
}

typedef struct {
    CylLayerTrace *layers;
    int32_t count;
} Traces;

static Traces traces_create(const CylModel *model, int64_t rows, int64_t steps, uint8_t skips) {
    Traces traces = {need((size_t)model->layer_count * sizeof *traces.layers), 0};
    for (int32_t n = 0; n < model->layer_count; n++) {
        const CylRecurrent *recurrent = model->layers[n].recurrent;
        if (!recurrent) {
            continue;
        }
        const bool is_gru = model->layers[n].kind == cyl_layer_kind("gru");
        const bool is_rnn = model->layers[n].kind == cyl_layer_kind("rnn");
        int gates = is_gru ? 3 : is_rnn ? 1 : 4;
        const int64_t units = rows * steps * recurrent->hidden_size;
        const size_t real = cyl_model_real_size(model);
        CylLayerTrace *trace = &traces.layers[traces.count++];
        int kept = 0;
        trace->layer = n;
        trace->to.steps = steps;
        trace->to.pre_skips = trace->to.gates_skips = skips % 16;
        for (int gate = 0; gate < gates; gate++) {
            kept += !(skips >> gate & 1);
        }
        trace->to.pre = need((size_t)(units * kept) * real);
        trace->to.gates = need((size_t)(units * kept) * real);
        trace->to.cell = gates == 4 ? need((size_t)units * real) : NULL;
    }
    return traces;
}

static void traces_free(Traces *traces) {
    for (int32_t n = 0; n < traces->count; n++) {
        free(traces->layers[n].to.pre);
        free(traces->layers[n].to.gates);
        free(traces->layers[n].to.cell);
    }
    free(traces->layers);
}

/* the call's arrays in the model's precision */
typedef struct {
    CylCall call;
    void *inputs[8], **states;
} Call;

static Call call_create(const CylModel *model, const Feed *feed, const Found *found, int threads) {
    const size_t real = cyl_model_real_size(model);
    Call made = {.states = need((size_t)model->state_count * sizeof *made.states)};
    for (int32_t i = 0; i < model->input_count; i++) {
        const int64_t count = feed->rows * row_size(model, feed->times, i);
        const bool is_index = model->values[model->inputs[i]].kind == CYL_INDEX;
        made.inputs[i] = real_numbers(feed->numbers[i], count, is_index ? sizeof(int32_t) : real);
    }
    for (int32_t s = 0; feed->states && s < model->state_count; s++) {
        made.states[s] = real_numbers(feed->states[s], feed->rows * model->state_sizes[s], real);
    }
    made.call = (CylCall){.rows = feed->rows,
                          .times = feed->times,
                          .masks = (const uint8_t *const *)feed->masks,
                          .outputs = found->arrays,
                          .initial_state = feed->states ? (const void *const *)made.states : NULL,
                          .final_state = found->arrays + found->output_count,
                          .threads = threads};
    return made;
}

static void call_free(const CylModel *model, Call *made) {
    for (int32_t i = 0; i < 8; i++) {
        free(made->inputs[i]);
    }
    for (int32_t s = 0; s < model->state_count; s++) {
        free(made->states[s]);
    }
    free(made->states);
}

static CylStatus predict_feed(const CylModel *model, const Feed *feed, int threads, int traced, Found *found) {
    int64_t sizes[8];
    MUST(output_sizes(model, feed->times, sizes), "sizes");
    *found = found_create(model, feed->rows, sizes);
    Call made = call_create(model, feed, found, threads);
    Traces traces = {NULL, 0};
    made.call.inputs = (const void *const *)made.inputs;
    if (traced >= 0) {
        int64_t longest = 1;
        for (int32_t i = 0; i < model->input_count; i++) {
            longest = steps_of(model, feed->times, i) > longest ? steps_of(model, feed->times, i) : longest;
        }
        traces = traces_create(model, feed->rows, traced / 16 % 2 ? longest : (longest + 1) / 2, (uint8_t)traced);
        made.call.traces = traces.layers;
        made.call.trace_count = traces.count;
    }
    CylStatus status = cyl_predict(model, &made.call);
    traces_free(&traces);
    call_free(model, &made);
    return status;
}

static void must_be_same(const CylModel *model, const Found *a, const Found *b, const char *what) {
    MUST(a->count == b->count && a->rows == b->rows, "%s", what);
    for (int32_t i = 0; i < a->count; i++) {
        MUST(a->sizes[i] == b->sizes[i], "%s: array %d has %d numbers", what, (int)i, (int)b->sizes[i]);
        for (int64_t k = 0; k < a->rows * a->sizes[i]; k++) {
            MUST(same(model, a->arrays[i], k, b->arrays[i], k, 1), "%s: array %d of %d, number %d is %g and not %g",
                 what, (int)i, (int)a->output_count, (int)k, cyl_get(model, b->arrays[i], k),
                 cyl_get(model, a->arrays[i], k));
        }
    }
}

/* ---- what is done with it ---- */

static void check_rows(const CylModel *model, const Feed *feed, const Found *found) {
    for (int64_t row = 0; row < feed->rows && row < 4; row++) {
        Feed *one = feed_part(model, feed, row, 1, 0, 0);
        Found alone;
        MUST(predict_feed(model, one, 1, -1, &alone) == CYL_OK, "row %d", (int)row);
        for (int32_t i = 0; i < found->count; i++) {
            MUST(same(model, found->arrays[i], row * found->sizes[i], alone.arrays[i], 0, found->sizes[i]),
                 "row %d alone: array %d of %d", (int)row, (int)i, (int)found->output_count);
        }
        found_free(&alone);
        feed_free(one);
    }
}

static bool has_masks(const CylModel *model, const Feed *feed) {
    bool found = false;
    for (int32_t i = 0; i < model->input_count; i++) {
        found |= feed->masks[i] != NULL;
    }
    return found;
}

/* whether the final states of rows without any step that counts are zero, which is a rule of whole sequences alone */
static bool zeroes_empty(const CylModel *model) {
    bool found = false;
    for (int32_t n = 0; n < model->layer_count; n++) {
        found |= model->layers[n].recurrent && model->layers[n].recurrent->zeroes_empty;
    }
    return found;
}

/* steps of every input with time, which a stream needs to be the same; 0 if they are not */
static int64_t common_steps(const CylModel *model, const Feed *feed) {
    int64_t steps = 0;
    for (int32_t i = 0; i < model->input_count; i++) {
        if (model->values[model->inputs[i]].has_time) {
            if (steps && steps != feed->times[i]) {
                return 0;
            }
            steps = feed->times[i];
        }
    }
    return steps;
}

/* numbers of a row of each output of a run of a stream that has taken `taken` steps */
static void gained_sizes(const CylModel *model, const Feed *feed, int64_t taken, int64_t *sizes) {
    const CylCall call = {.times = feed->times};
    for (int32_t o = 0; o < model->output_count; o++) {
        const CylValue *value = &model->values[model->outputs[o]];
        sizes[o] = cyl_call_steps(model, &call, value, taken) * value->features;
    }
}

/* the whole sequence in pieces of `piece` steps */
static void check_pieces(const CylModel *model, const Feed *feed, const Found *whole, int64_t piece, int threads) {
    const int64_t steps = common_steps(model, feed), multiple = cyl_model_step_multiple(model);
    CylStream *stream;
    if (!steps || steps % multiple || (has_masks(model, feed) && zeroes_empty(model))) {
        return;
    }
    const CylStatus status = cyl_stream_create(model, feed->rows, threads, &stream);
    if (status != CYL_OK) {
        MUST(status == CYL_E_STREAM || status == CYL_E_MEMORY, "%s", cyl_status_text(status));
        return;
    }
    for (int32_t s = 0; feed->states && s < model->state_count; s++) {
        void *state = real_numbers(feed->states[s], feed->rows * model->state_sizes[s], cyl_model_real_size(model));
        void **states = need((size_t)model->state_count * sizeof *states);
        states[s] = state;
        MUST(cyl_stream_restore(stream, &(CylStreamState){.states = states}) == CYL_OK, "state %d", (int)s);
        free(states);
        free(state);
    }
    piece = piece * multiple < steps ? piece * multiple : steps;
    int64_t at[8] = {0}, sizes[8];
    for (int64_t first = 0; first < steps; first += piece) {
        const int64_t count = piece < steps - first ? piece : steps - first;
        Feed *part = feed_part(model, feed, 0, feed->rows, first, count);
        const int64_t settles = cyl_model_settles(model);
        gained_sizes(model, part, first < settles ? first : settles, sizes);
        Found found = found_create(model, feed->rows, sizes);
        Call made = call_create(model, part, &found, threads);
        made.call.inputs = (const void *const *)made.inputs;
        const CylStatus ran = cyl_stream_run(stream, &made.call);
        MUST(ran == CYL_OK, "a piece from step %d: %s", (int)first, cyl_status_text(ran));
        for (int32_t o = 0; o < model->output_count; o++) {
            const CylValue *value = &model->values[model->outputs[o]];
            const bool grows = value->axis >= 0 && model->axes[value->axis].input >= 0;
            /* with masks, what has no time is that of the piece's steps */
            const bool is_last = first + count >= steps && !has_masks(model, feed);
            for (int64_t row = 0; row < feed->rows && (grows || is_last); row++) {
                const int64_t from = row * whole->sizes[o] + (grows ? at[o] : 0);
                MUST((grows ? at[o] : 0) + found.sizes[o] <= whole->sizes[o] &&
                         same(model, whole->arrays[o], from, found.arrays[o], row * found.sizes[o], found.sizes[o]),
                     "pieces of %d steps, from step %d: output %d, row %d", (int)piece, (int)first, (int)o, (int)row);
            }
            at[o] += grows ? found.sizes[o] : 0;
        }
        call_free(model, &made);
        found_free(&found);
        feed_free(part);
    }
    int64_t *output_ends = at;
    for (int32_t o = 0; o < model->output_count; o++) {
        const CylValue *value = &model->values[model->outputs[o]];
        const bool grows = value->axis >= 0 && model->axes[value->axis].input >= 0;
        MUST(!grows || output_ends[o] == whole->sizes[o], "output %d has all its steps", (int)o);
    }
    void **states = need((size_t)model->state_count * sizeof *states);
    for (int32_t s = 0; s < model->state_count; s++) {
        states[s] = need((size_t)(feed->rows * model->state_sizes[s]) * cyl_model_real_size(model));
    }
    MUST(cyl_stream_save(stream, &(CylStreamState){.states = states}) == CYL_OK, "save");
    for (int32_t s = 0; s < model->state_count; s++) {
        MUST(same(model, whole->arrays[model->output_count + s], 0, states[s], 0, feed->rows * model->state_sizes[s]),
             "state %d after pieces of %d steps", (int)s, (int)piece);
        free(states[s]);
    }
    free(states);
    cyl_stream_free(stream);
}

/* the last `steps` steps, as a window that is fed in two calls gives them */
static void check_window(const CylModel *model, const Feed *feed, int64_t steps, int threads) {
    const int64_t all = common_steps(model, feed);
    int64_t sizes[8], times[8];
    CylWindow *window;
    const CylStatus status = cyl_window_create(model, feed->rows, steps, threads, &window);
    if (status != CYL_OK) {
        MUST(status == CYL_E_STREAM || status == CYL_E_ARGUMENT || status == CYL_E_TIME || status == CYL_E_MEMORY, "%s",
             cyl_status_text(status));
        return;
    }
    for (int32_t i = 0; i < model->input_count; i++) {
        times[i] = model->values[model->inputs[i]].has_time ? steps : feed->times[i];
    }
    if (all >= steps && output_sizes(model, times, sizes)) {
        Feed *last = feed_part(model, feed, 0, feed->rows, all - steps, steps);
        for (int32_t s = 0; last->states && s < model->state_count; s++) {
            memset(last->states[s], 0, (size_t)(feed->rows * model->state_sizes[s]) * sizeof(float));
        }
        for (int32_t i = 0; i < model->input_count; i++) {
            free(last->masks[i]);
            last->masks[i] = NULL;
        }
        Found expected, found = found_create(model, feed->rows, sizes);
        const CylStatus whole = predict_feed(model, last, 1, -1, &expected);
        const int64_t first = all / 2;
        CylStatus ran = CYL_OK;
        for (int part = 0; part < 2 && ran == CYL_OK; part++) {
            const int64_t count = part ? all - first : first;
            if (count) {
                Feed *fed = feed_part(model, feed, 0, feed->rows, part ? first : 0, count);
                Call made = call_create(model, fed, &found, threads);
                made.call.inputs = (const void *const *)made.inputs;
                ran = cyl_window_run(window, &made.call, NULL);
                call_free(model, &made);
                feed_free(fed);
            }
        }
        MUST(ran == CYL_E_INDEX || ran == whole, "a window gives \"%s\", its steps \"%s\"", cyl_status_text(ran),
             cyl_status_text(whole));
        for (int32_t o = 0; o < model->output_count && ran == CYL_OK; o++) {
            MUST(same(model, expected.arrays[o], 0, found.arrays[o], 0, feed->rows * expected.sizes[o]),
                 "output %d of a window of %d steps", (int)o, (int)steps);
        }
        found_free(&expected);
        found_free(&found);
        feed_free(last);
    }
    cyl_window_free(window);
}

/* a stream of several rows beside streams of one row each: rows rest, start again and go on as others */
enum { STREAM_ROWS = 3 };

typedef struct {
    const CylModel *model;
    CylStream *many, *ones[STREAM_ROWS];
    int threads;
} Streams;

/* one run; `active` is a bit for each row */
static void run_streams(Streams *streams, int64_t steps, uint8_t active, uint8_t fill, uint8_t masked, uint32_t seed) {
    const CylModel *model = streams->model;
    int64_t times[8], taken[STREAM_ROWS], sizes[8], most = 0;
    uint8_t flags[STREAM_ROWS];
    for (int32_t i = 0; i < model->input_count; i++) {
        times[i] = steps;
    }
    Feed *feed = feed_create(model, STREAM_ROWS, times, fill, masked, false, seed);
    MUST(cyl_stream_get_taken(streams->many, taken) == CYL_OK, "taken");
    for (int row = 0; row < STREAM_ROWS; row++) {
        flags[row] = active >> row & 1;
        most = flags[row] && taken[row] > most ? taken[row] : most;
    }
    /* where no row is active the steps are those of a settled stream */
    most = active & ((1 << STREAM_ROWS) - 1) ? most : cyl_model_settles(model);
    gained_sizes(model, feed, most, sizes);
    Found found = found_create(model, STREAM_ROWS, sizes);
    Call made = call_create(model, feed, &found, streams->threads);
    made.call.inputs = (const void *const *)made.inputs;
    const CylStatus status = cyl_stream_run_active(streams->many, &made.call, flags);
    for (int row = 0; row < STREAM_ROWS && status == CYL_OK; row++) {
        Feed *one = feed_part(model, feed, row, 1, 0, 0);
        Found alone = found_create(model, 1, sizes);
        if (flags[row]) {
            Call own = call_create(model, one, &alone, 1);
            own.call.inputs = (const void *const *)own.inputs;
            const CylStatus ran = cyl_stream_run(streams->ones[row], &own.call);
            MUST(ran == CYL_OK, "row %d alone in a stream: %s", row, cyl_status_text(ran));
            call_free(model, &own);
        }
        for (int32_t o = 0; o < model->output_count; o++) {
            MUST(same(model, found.arrays[o], row * found.sizes[o], alone.arrays[o], 0, found.sizes[o]),
                 "output %d of row %d of a stream", (int)o, row);
        }
        found_free(&alone);
        feed_free(one);
    }
    call_free(model, &made);
    found_free(&found);
    feed_free(feed);
}

/* saves a stream, and restores what was saved, as it was or with a number of steps that is wrong */
static void save_and_restore(const CylModel *model, CylStream *stream, int64_t wrong) {
    const size_t real = cyl_model_real_size(model);
    const int32_t kept_count = cyl_model_kept_count(model);
    void **states = need((size_t)model->state_count * sizeof *states);
    void **kept = need((size_t)kept_count * sizeof *kept);
    uint8_t *flags = need((size_t)cyl_stream_flags_size(stream));
    int64_t taken[STREAM_ROWS];
    for (int32_t s = 0; s < model->state_count; s++) {
        states[s] = need((size_t)(STREAM_ROWS * model->state_sizes[s]) * real);
    }
    for (int32_t k = 0; k < kept_count; k++) {
        int32_t layer;
        kept[k] = need((size_t)STREAM_ROWS * (size_t)cyl_model_kept_size(model, k, &layer) * real);
    }
    CylStreamState state = {states, kept, taken, flags};
    MUST(cyl_stream_save(stream, &state) == CYL_OK, "save");
    if (wrong) {
        const int64_t right = taken[0];
        taken[0] = wrong;
        MUST(cyl_stream_restore(stream, &state) == CYL_E_ARGUMENT, "%d steps taken", (int)wrong);
        taken[0] = right;
    }
    MUST(cyl_stream_reset(stream) == CYL_OK && cyl_stream_restore(stream, &state) == CYL_OK, "restore");
    for (int32_t s = 0; s < model->state_count; s++) {
        free(states[s]);
    }
    for (int32_t k = 0; k < kept_count; k++) {
        free(kept[k]);
    }
    free(states);
    free(kept);
    free(flags);
}

static void check_streams(const CylModel *model, Bytes *bytes, int threads, uint8_t fill, uint8_t masked) {
    Streams streams = {.model = model, .threads = threads};
    const int64_t multiple = cyl_model_step_multiple(model);
    if (multiple > 32 || cyl_model_settles(model) > 256 ||
        cyl_stream_create(model, STREAM_ROWS, threads, &streams.many) != CYL_OK) {
        return;
    }
    bool is_made = true;
    for (int row = 0; row < STREAM_ROWS; row++) {
        is_made &= cyl_stream_create(model, 1, 1, &streams.ones[row]) == CYL_OK;
    }
    for (uint32_t turn = 0; turn < 10 && bytes->left && is_made; turn++) {
        const uint8_t action = take(bytes);
        int64_t row = action / 8 % STREAM_ROWS, other = action / 32 % STREAM_ROWS, zero = 0;
        switch (action % 8) {
        case 0:
            MUST(cyl_stream_reset_rows(streams.many, &row, 1) == CYL_OK &&
                     cyl_stream_reset(streams.ones[row]) == CYL_OK,
                 "reset");
            break;
        case 1:
            MUST(cyl_stream_copy_rows(streams.many, &row, streams.ones[other], &zero, 1) == CYL_OK, "copy");
            MUST(cyl_stream_copy_rows(streams.ones[row], &zero, streams.many, &row, 1) == CYL_OK, "copy back");
            break;
        case 2:
            save_and_restore(model, streams.many, action / 8 % 4 == 3 ? cyl_model_settles(model) + 1 : 0);
            break;
        default:
            run_streams(&streams, (1 + action / 8 % 4) * multiple, action % 8 == 7 ? 255 : take(bytes), fill, masked,
                        turn);
        }
    }
    for (int row = 0; row < STREAM_ROWS; row++) {
        cyl_stream_free(streams.ones[row]);
    }
    cyl_stream_free(streams.many);
}

/* Packed arrays of wrong numbers, as a file may hold them: refused, or run without a crash. */
static void run_wrong_arrays(const Description *network, CylIsa isa, CylModel *model, const Feed *feed, uint32_t seed) {
    CylStatus status;
    for (int32_t n = 0; n < model->layer_count; n++) {
        for (int32_t a = 0; a < model->layers[n].array_count; a++) {
            const CylArray array = cyl_model_array(model, n, a);
            const size_t number = array.type && strcmp(array.type, "int8") == 0                                ? 1
                                  : array.type && (array.type[0] == 'b' || strcmp(array.type, "float16") == 0) ? 2
                                                                                                               : 4;
            /* the model is this test's own, and is freed after it */
            uint8_t *data = (uint8_t *)array.data;
            for (int change = 0; change < 3 && array.size > 0; change++) {
                const uint32_t bits = mixed(seed, (uint32_t)(n * 64 + a * 4 + change));
                data[bits % ((uint64_t)array.size * number)] = (uint8_t)(bits >> 24);
            }
        }
    }
    CylModel *wrong = build(network, CYL_ENGINE_PACKED, isa, model, &status);
    if (wrong) {
        Found found;
        predict_feed(wrong, feed, 1, -1, &found);
        found_free(&found);
        cyl_model_free(wrong);
    }
}

static CylIsa take_isa(Bytes *bytes) {
    CylIsa there[CYL_ISA_COUNT];
    unsigned count = 0;
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        if (cyl_isa_available((CylIsa)isa)) {
            there[count++] = (CylIsa)isa;
        }
    }
    return there[take(bytes) % count];
}

static Feed *take_feed(const CylModel *model, Bytes *bytes, uint8_t *fill, uint8_t *masked) {
    const uint8_t rows = take(bytes), options = take(bytes);
    int64_t times[8] = {1, 1, 1, 1, 1, 1, 1, 1}, longest = 1, sizes[8], memory;
    *fill = options % 8 < 5 ? 0 : options % 8 == 5 ? 3 : options % 8 == 6 ? 5 + 128 : 6;
    *masked = options / 16 % 2 ? 255 : 0;
    for (int32_t i = 0; i < model->input_count; i++) {
        const CylValue *value = &model->values[model->inputs[i]];
        const uint8_t time = take(bytes);
        if (value->has_time) {
            times[i] = time == 255 ? 0 : value->time && time < 250 ? value->time : 1 + time % 24;
            times[i] = value->time_of >= 0 && time < 200 ? times[value->axis] : times[i];
            longest = times[i] > longest ? times[i] : longest;
        }
        if (value->features > MOST_NUMBERS || times[i] > MOST_NUMBERS / value->features) {
            return NULL;
        }
    }
    const int64_t row_count = rows >= 128 ? 1 + rows % 40 : 1 + rows % 5;
    if (longest > MOST_RUNS || cyl_model_work(model) > MOST_RUNS / (row_count * longest) ||
        !output_sizes(model, times, sizes) || cyl_model_run_bytes(model, times, &memory) == CYL_E_MEMORY ||
        memory > MOST_MEMORY || cyl_model_bytes(model) > MOST_MEMORY) {
        return NULL;
    }
    return feed_create(model, row_count, times, *fill, *masked, options & 8, options);
}

static void run_all(const Description *network, CylModel *model, CylIsa isa, CylIsa other_isa, Bytes *bytes) {
    uint8_t fill, masked;
    CylStatus status;
    const uint8_t what = take(bytes), more = take(bytes);
    const int threads = 1 + what % 3;
    Feed *feed = take_feed(model, bytes, &fill, &masked);
    Found found, again;
    if (!feed) {
        return;
    }
    cyl_threads_patience(more % 16 == 1 ? 2000000 : 0);
    const CylStatus ran = predict_feed(model, feed, 1, -1, &found);
    CylModel *other = build(network, CYL_ENGINE_PACKED, other_isa, what & 4 ? model : NULL, &status);
    if (!other) {
        MUST(status == CYL_E_MEMORY, "%s is refused: %s", cyl_isa_name(other_isa), cyl_status_text(status));
    } else {
        const CylStatus also = predict_feed(other, feed, threads, what & 8 ? more : -1, &again);
        MUST(ran == also, "%s gives \"%s\", %s gives \"%s\"", cyl_isa_name(isa), cyl_status_text(ran),
             cyl_isa_name(other_isa), cyl_status_text(also));
        if (ran == CYL_OK) {
            must_be_same(model, &found, &again, cyl_isa_name(other_isa));
        }
        found_free(&again);
        cyl_model_free(other);
    }
    if (ran == CYL_OK && what & 16) {
        check_rows(model, feed, &found);
    }
    if (ran == CYL_OK && what & 32) {
        check_pieces(model, feed, &found, 1 + more / 16 % 8, threads);
    }
    if (what & 64) {
        check_window(model, feed, 1 + more / 2 % 8, threads);
    }
    if (what & 128) {
        check_streams(model, bytes, threads, fill, masked);
    }
    if (more % 4 == 3) {
        run_wrong_arrays(network, isa, model, feed, more);
    }
    found_free(&found);
    feed_free(feed);
}

static void run_bytes(const uint8_t *data, size_t size) {
    Bytes bytes = {data, size};
    Description network = {.value_count = 0};
    const uint8_t engine = take(&bytes);
    const CylIsa isa = take_isa(&bytes), other_isa = take_isa(&bytes);
    CylStatus status;
    describe(&bytes, &network);
    running = &network;
    running_bytes = (Bytes){data, size};
    CylModel *model = build(&network, CYL_ENGINE_PACKED, isa, NULL, &status);
    if (engine % 8 == 7) {
        CylModel *blas = build(&network, engine & 8 ? CYL_ENGINE_BLAS64 : CYL_ENGINE_BLAS32, isa, NULL, &status);
        if (blas) {
            Bytes copy = bytes;
            uint8_t fill, masked;
            const uint8_t what = take(&copy), more = take(&copy);
            Feed *feed = take_feed(blas, &copy, &fill, &masked);
            Found found;
            if (feed) {
                predict_feed(blas, feed, 1 + what % 3, what & 8 ? more : -1, &found);
                found_free(&found);
                feed_free(feed);
            }
            cyl_model_free(blas);
        }
    }
    if (model) {
        run_all(&network, model, isa, other_isa, &bytes);
        cyl_model_free(model);
    }
    running = NULL;
    description_free(&network);
}

#ifdef CYL_LIBFUZZER

#if !__has_feature(address_sanitizer) || !__has_feature(undefined_behavior_sanitizer)
#error "fuzzing without sanitizers finds little: build with `make fuzz`"
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run_bytes(data, size);
    return 0;
}

#else

/* ---- the networks kept, and a few changes of each ---- */

enum { LONGEST = 1 << 14 };

/* the line's bytes, which it has in base64; how many there are */
static size_t decode(const char *line, uint8_t *data) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t count = 0;
    uint32_t bits = 0;
    int held = 0;
    for (const char *found; *line && (found = strchr(digits, *line)) && count < LONGEST; line++) {
        bits = bits << 6 | (uint32_t)(found - digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            data[count++] = (uint8_t)(bits >> held);
        }
    }
    return count;
}

static void run_exactly(const uint8_t *data, size_t size) {
    uint8_t *own = need(size); /* so that a sanitizer sees its end */
    memcpy(own, data, size);
    run_bytes(own, size);
    free(own);
}

static size_t change(uint8_t *data, size_t size) {
    for (uint32_t times = 1 + random_bits() % 3; times > 0 && size > 0; times--) {
        const size_t at = random_bits() % size;
        switch (random_bits() % 4) {
        case 0:
            data[at] ^= (uint8_t)(1u << random_bits() % 8);
            break;
        case 1:
            data[at] = (uint8_t)random_bits();
            break;
        case 2:
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
            break;
        default:
            data[at] = (uint8_t)(data[at] + (random_bits() % 2 ? 1 : -1));
        }
    }
    return size;
}

static const char *corpus = "../tests/fuzz/corpora/network";
static int changes = 8;
static uint64_t seed = 20261130;

/* the networks of one file of the corpus */
static void run_file(const char *name, int least) {
    static char line[LONGEST * 2], path[4096];
    static uint8_t data[LONGEST], changed[LONGEST];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", corpus, name);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL, "%s can be read", path);
    random_seed(seed);
    while (file && fgets(line, sizeof line, file)) {
        const size_t size = decode(line, data);
        run_exactly(data, size);
        for (int n = 0; n < changes; n++) {
            memcpy(changed, data, size);
            run_exactly(changed, change(changed, size));
        }
        count++;
        GO_ON();
    }
    CHECK(count >= least, "%d networks in %s", count, name);
    if (file) {
        fclose(file);
    }
}

static void networks_as_the_package_builds_them_and_changed_ones_run_alike_or_are_refused(void) {
    run_file("built.txt", 100);
}

static void networks_that_reached_new_code_and_changed_ones_run_alike_or_are_refused(void) {
    run_file("inputs.txt", 50);
}

static void networks_that_once_went_wrong_and_changed_ones_run_alike_or_are_refused(void) { run_file("finds.txt", 7); }

int main(int count, char **arguments) {
    corpus = count > 1 ? arguments[1] : corpus;
    changes = count > 2 ? atoi(arguments[2]) : changes; /* of each network */
    seed = count > 3 ? strtoull(arguments[3], NULL, 10) : seed;
    RUN(networks_as_the_package_builds_them_and_changed_ones_run_alike_or_are_refused);
    RUN(networks_that_reached_new_code_and_changed_ones_run_alike_or_are_refused);
    RUN(networks_that_once_went_wrong_and_changed_ones_run_alike_or_are_refused);
    return check_result();
}

#endif
