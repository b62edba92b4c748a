/* Weights of a smaller type: rounded alike everywhere, and the same bits as real weights that were rounded before. */
#include "check.h"
#include "model/weight_types.h"
#include "network.h"
#include "platform/ieee.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = RECURRENT_KINDS + 2 }; /* those with matrices: also Dense and ConvLSTM */

/* those whose numbers are rounded one by one */
static const CylWeightType ROUNDED[] = {CYL_WEIGHTS_FLOAT16, CYL_WEIGHTS_BFLOAT16};
enum { ROUNDED_TYPES = sizeof ROUNDED / sizeof *ROUNDED };

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* bits behind the first, and the exponents of the least normal number and of the first one that is too large */
static const struct {
    int bits, least, beyond;
} SHAPES[CYL_WEIGHTS_COUNT] = {[CYL_WEIGHTS_FLOAT16] = {10, -14, 16}, [CYL_WEIGHTS_BFLOAT16] = {7, -126, 128}};

/* The number of a type next to x, ties to even, by libm. Infinity beyond the largest; +0 for what rounds to 0 and, in
   bfloat16, for what the subnormal rule drops. */
static float rounded(CylWeightType type, float x) {
    if (isnan(x) || isinf(x) || x == 0.0f) {
        return x == 0.0f ? 0.0f : x;
    }
    if (type == CYL_WEIGHTS_BFLOAT16 && fabsf(x) < CYL_TINY) {
        return 0.0f;
    }
    const int exponent = ilogb((double)x), least = SHAPES[type].least;
    const int unit = (exponent < least ? least : exponent) - SHAPES[type].bits;
    const double result = ldexp(nearbyint(ldexp((double)x, -unit)), unit);
    if (result == 0.0) {
        return 0.0f;
    }
    return fabs(result) >= ldexp(1.0, SHAPES[type].beyond) ? (float)copysign(INFINITY, result) : (float)result;
}

static bool same(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)); }

/* one number of a row, at place `at` of it */
static CylStatus pack_one(CylWeightType type, uint16_t *row, int64_t at, float x) {
    const CylPackedRow place = {.numbers = row, .stride = 1, .first = at};
    return cyl_weight_formats[type].pack(sizeof(float), &place, &x, 1);
}

static float unpack_one(CylWeightType type, const uint16_t *row, int64_t at) {
    const CylPackedRow place = {.numbers = (void *)row, .stride = 1, .first = at};
    float x;
    cyl_weight_formats[type].unpack(sizeof(float), &place, &x, 1);
    return x;
}

static void check_rounding(CylWeightType type, float x) {
    uint16_t packed[3] = {1, 2, 3};
    const float expected = rounded(type, x);
    const CylStatus status = pack_one(type, packed, 0, x);
    const float found = unpack_one(type, packed, 0);
    CHECK(same(found, expected), "%a becomes %a, not %a", (double)x, (double)found, (double)expected);
    CHECK(status == (isinf(expected) && !isinf(x) ? CYL_E_RANGE : CYL_OK), "the status of %a", (double)x);
    CHECK(packed[1] == 2 && packed[2] == 3, "one number is written");
    pack_one(type, packed, 1, found);
    CHECK(packed[0] == packed[1] && same(found, unpack_one(type, packed, 1)), "%a is not packed twice alike",
          (double)x);
}

static void floats_are_rounded_to_the_nearest_number_of_their_type(void) {
    for (int t = 0; t < ROUNDED_TYPES; t++) {
        const CylWeightType type = ROUNDED[t];
        for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 1021) {
            check_rounding(type, from_bits((uint32_t)bits));
        }
        /* around each number, and around the middle between it and the next */
        const uint32_t infinity = type == CYL_WEIGHTS_FLOAT16 ? 0x7c00 : 0x7f80;
        for (uint32_t number = 0; number < infinity; number++) {
            const uint16_t packed[2] = {(uint16_t)number, (uint16_t)(number + 1)};
            const float begin = unpack_one(type, packed, 0), next = unpack_one(type, packed, 1);
            const float middle = number + 1 < infinity         ? (begin / 2 + next / 2)
                                 : type == CYL_WEIGHTS_FLOAT16 ? 65520.0f
                                                               : from_bits(0x7f7f8000u);
            for (int sign = -1; sign < 2; sign += 2) {
                check_rounding(type, (float)sign * begin);
                check_rounding(type, (float)sign * middle);
                check_rounding(type, (float)sign * nextafterf(middle, 0.0f));
                check_rounding(type, (float)sign * nextafterf(middle, INFINITY));
            }
        }
        check_rounding(type, INFINITY);
        check_rounding(type, -INFINITY);
        check_rounding(type, NAN);
    }
}

/* models are built, and their tensors read, in the mode of the caller */
static void the_rounding_mode_of_the_caller_changes_nothing(void) {
#ifdef FE_DOWNWARD
    for (int t = 0; t < ROUNDED_TYPES; t++) {
        for (uint32_t number = 0; number < 0x10000; number++) {
            const CylWeightType type = ROUNDED[t];
            const uint16_t packed = (uint16_t)number;
            uint16_t again = 0;
            const float expected = unpack_one(type, &packed, 0);
            const int before = fegetround();
            fesetround(FE_DOWNWARD);
            const float found = unpack_one(type, &packed, 0);
            pack_one(type, &again, 0, found);
            fesetround(before);
            const bool is_zero = expected == 0.0f || (type == CYL_WEIGHTS_BFLOAT16 && fabsf(expected) < CYL_TINY);
            CHECK(same(found, expected), "%#x is %a, not %a", (unsigned)number, (double)found, (double)expected);
            CHECK(isnan(expected) || again == (is_zero ? 0 : number), "%#x becomes %#x", (unsigned)number, again);
        }
    }
#endif
}

enum { INT8_ROW = 1100, INT8_PIECES = 3 };

/* a row packed as int8, at a stride of 5 */
typedef struct {
    int8_t numbers[5 * (INT8_ROW + 4)];
    float scale, sums[2 * INT8_PIECES];
} Int8Row;

static CylStatus pack_int8(Int8Row *row, const float *x, int64_t count) {
    memset(row, 0, sizeof *row);
    const CylPackedRow place = {
        .numbers = row->numbers, .stride = 5, .scale = &row->scale, .sums = row->sums, .sums_stride = 2};
    return cyl_weight_formats[CYL_WEIGHTS_INT8A16].pack(sizeof(float), &place, x, count);
}

static void unpack_int8(const Int8Row *row, float *x, int64_t count) {
    Int8Row copy = *row;
    const CylPackedRow place = {
        .numbers = copy.numbers, .stride = 5, .scale = &copy.scale, .sums = copy.sums, .sums_stride = 2};
    cyl_weight_formats[CYL_WEIGHTS_INT8A16].unpack(sizeof(float), &place, x, count);
}

static int8_t int8_at(const Int8Row *row, int64_t k) { return row->numbers[k / 4 * 20 + k % 4]; }

static void rows_of_int8_are_whole_numbers_with_a_scale(void) {
    static const float sizes[] = {1.0f, 3e-9f, 1e30f, 7.3e-12f, 1e-20f};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int64_t count = 1; count <= INT8_ROW; count = count * 2 + 1) {
            static float x[INT8_ROW], found[INT8_ROW], again[INT8_ROW];
            static Int8Row row, second;
            float largest = 0;
            for (int64_t k = 0; k < count; k++) {
                x[k] = random_float(sizes[s] * (k % 11 == 10 ? 1e-12f : k % 7 ? 1.0f : 0.001f));
                largest = fmaxf(largest, fabsf(x[k]));
            }
            CHECK(pack_int8(&row, x, count) == CYL_OK, "a row of %d", (int)count);
            const bool is_zero = largest / 127 < CYL_TINY;
            CHECK(is_zero ? row.scale == 0
                          : row.scale >= largest / 127 * (1 - 1e-7f) && row.scale <= largest / 127 * (1 + 0x1p-14f),
                  "a scale of %a for %a", (double)row.scale, (double)largest);
            int64_t sums[INT8_PIECES] = {0};
            unpack_int8(&row, found, count);
            for (int64_t k = 0; k < count; k++) {
                const double exact = is_zero ? 0 : nearbyint((double)x[k] / (double)row.scale);
                CHECK(int8_at(&row, k) == (fabsf(x[k]) < CYL_TINY ? 0 : exact), "%a of scale %a becomes %d",
                      (double)x[k], (double)row.scale, int8_at(&row, k));
                CHECK((double)found[k] == (double)row.scale * int8_at(&row, k), "number %d is not exact", (int)k);
                sums[k / CYL_INT8_PIECE] += int8_at(&row, k);
            }
            for (int64_t p = 0; p <= (count - 1) / CYL_INT8_PIECE; p++) {
                CHECK(row.sums[2 * p] == (float)sums[p], "the sum of piece %d", (int)p);
            }
            CHECK(pack_int8(&second, found, count) == CYL_OK && memcmp(&row, &second, sizeof row) == 0,
                  "a row of %d is not packed twice alike", (int)count);
#ifdef FE_DOWNWARD
            const int before = fegetround();
            fesetround(FE_UPWARD);
            pack_int8(&second, x, count);
            unpack_int8(&second, again, count);
            fesetround(before);
            CHECK(memcmp(&row, &second, sizeof row) == 0 && memcmp(found, again, (size_t)count * sizeof *found) == 0,
                  "the rounding mode changes a row of %d", (int)count);
#endif
            x[count / 2] = s % 2 ? NAN : INFINITY;
            CHECK(pack_int8(&row, x, count) == CYL_E_RANGE, "a row that is not finite");
        }
    }
}

/* of scales of few bits, whose halves are floats */
static void a_number_between_two_whole_ones_becomes_the_even_one(void) {
    static const float halves[] = {127.0f, 0.5f, 1.5f, 2.5f, 62.5f, 63.5f, -0.5f, -1.5f, -2.5f, 125.5f, 126.5f};
    static const int expected[] = {127, 0, 2, 2, 62, 64, 0, -2, -2, 126, 126};
    enum { COUNT = sizeof halves / sizeof *halves };
    static const float scales[] = {1.0f, 0x1.8p-20f, 0x1.4p9f};
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        Int8Row row;
        float x[COUNT];
        for (int k = 0; k < COUNT; k++) {
            x[k] = halves[k] * scales[s];
        }
        CHECK(pack_int8(&row, x, COUNT) == CYL_OK && row.scale == scales[s], "a scale of %a", (double)row.scale);
        for (int k = 0; k < COUNT; k++) {
            CHECK(int8_at(&row, k) == expected[k], "%g becomes %d", (double)halves[k], int8_at(&row, k));
        }
    }
}

/* one layer of `units`, over more features than units, so that no two sizes are equal */
static Network *one_layer(int kind, int32_t units) {
    Network *network = network_create();
    RecurrentOptions options = PLAIN;
    if (kind < RECURRENT_KINDS) {
        int32_t x = network_input(network, CYL_SEQUENCE, units + 3, &options.mask);
        network_output(network, network_recurrent(network, (RecurrentKind)kind, x, units, &options, NULL, NULL));
    } else if (kind == RECURRENT_KINDS) {
        int32_t x = network_input(network, CYL_SEQUENCE, units + 3, NULL);
        network_output(network, network_dense(network, x, units, "relu"));
    } else {
        int32_t x = network_input(network, CYL_SEQUENCE, 3 * 4 * 2, NULL);
        network_output(network, network_conv_lstm(network, x, 3, 4, units, true, &PLAIN));
    }
    return network;
}

static bool is_matrix(const CylTensor *tensor) { return tensor->rank == 2; }

static int64_t size_of(const CylTensor *tensor) { return tensor->shape[0] * (tensor->rank > 1 ? tensor->shape[1] : 1); }

/* some numbers that are subnormal in float16, or nothing */
static void add_small_weights(Network *network) {
    for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
        float *weights = network->layers[0].weights[t];
        for (int64_t k = 0; k < size_of(&network->layers[0].tensors[t]); k += 7) {
            weights[k] *= k % 2 ? 0x1p-16f : 0x1p-26f;
        }
    }
}

/* the type of all matrices, NULL for real numbers */
static void set_type(Network *network, const char *type) {
    for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
        network->layers[0].tensors[t].type = is_matrix(&network->layers[0].tensors[t]) ? type : NULL;
    }
}

static void round_matrices(Network *network, CylWeightType type) {
    for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
        const CylTensor *tensor = &network->layers[0].tensors[t];
        for (int64_t k = 0; is_matrix(tensor) && k < size_of(tensor); k++) {
            network->layers[0].weights[t][k] = rounded(type, network->layers[0].weights[t][k]);
        }
    }
}

static void check_same(const Result *a, const Result *b, const char *what, int kind, int isa, int units) {
    CHECK(result_same(a, b), "%s, layer %d of %d units, %s", what, kind, units, cyl_isa_name((CylIsa)isa));
}

/* every set, number of threads, row alone and division in pieces gives `expected` */
static void check_everywhere(const Network *network, CylModel *const *models, const Data *data, const Result *expected,
                             int k, int units) {
    static const int64_t pieces[] = {1, 3, 2};
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        for (int threads = 1; models[isa] && threads <= 3; threads += 2) {
            Result found = predict(network, models[isa], data, threads);
            check_same(&found, expected, "all rows", k, isa, units);
            result_free(&found);
            found = stream(network, models[isa], data, pieces, 3, threads);
            check_same(&found, expected, "in pieces", k, isa, units);
            result_free(&found);
            Result alone = predict_row(network, models[isa], data, 3, threads);
            Result row = result_row(expected, 5, 3);
            check_same(&alone, &row, "one row", k, isa, units);
            result_free(&alone);
            result_free(&row);
        }
    }
}

/* a model of each set that the machine has */
static void make_models(const Network *network, CylModel **models) {
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        models[isa] = cyl_isa_available((CylIsa)isa) ? network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa) : NULL;
    }
}

static void free_models(CylModel **models) {
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        cyl_model_free(models[isa]);
    }
}

static void smaller_types_give_the_bits_of_weights_that_were_rounded_before(void) {
    for (int k = 0; k < LAYERS * ROUNDED_TYPES; k++) {
        const CylWeightType type = ROUNDED[k % ROUNDED_TYPES];
        for (int32_t units = 3, number = k; units < 90; units = units * 2 + 1, number++) {
            if (!check_is_due(number)) {
                continue;
            }
            GO_ON();
            Network *network = one_layer(k / ROUNDED_TYPES, units);
            add_small_weights(network);
            CylModel *models[CYL_ISA_COUNT];
            set_type(network, cyl_weight_formats[type].name);
            make_models(network, models);
            round_matrices(network, type);
            set_type(network, NULL);
            CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
            Data *data = data_create(network, 5, (int64_t[]){9, 9, 9, 9}, true);
            Result expected = predict(network, plain, data, 1);
            check_everywhere(network, models, data, &expected, k, (int)units);
            result_free(&expected);
            free_models(models);
            cyl_model_free(plain);
            data_free(data);
            network_free(network);
        }
    }
}

/* int8 is for whole operands: the taps of a convolution are several */
enum { INT8_LAYERS = RECURRENT_KINDS + 1 };
static const char *const INT8_TYPES[] = {"int8a16", "int8a8"};

static void int8_gives_the_same_bits_everywhere(void) {
    for (int k = 0; k < INT8_LAYERS * 2; k++) {
        for (int32_t units = 3; units < 90; units = units * 2 + 1) {
            GO_ON();
            Network *network = one_layer(k / 2, units);
            add_small_weights(network);
            CylModel *models[CYL_ISA_COUNT];
            set_type(network, INT8_TYPES[k % 2]);
            make_models(network, models);
            Data *data = data_create(network, 5, (int64_t[]){9, 9, 9, 9}, true);
            Result expected = predict(network, models[CYL_ISA_SCALAR], data, 1);
            check_everywhere(network, models, data, &expected, k, (int)units);
            result_free(&expected);
            free_models(models);
            data_free(data);
            network_free(network);
        }
    }
}

/* matrices of a layer may have different types, and the sums are still one chain */
static void the_halves_of_a_layer_may_have_types_of_their_own(void) {
    static const char *const types[] = {NULL, "float16", "bfloat16", "int8a16", "int8a8"};
    for (int k = 0; k < RECURRENT_KINDS * 25; k++) {
        if (!check_is_due(k)) {
            continue;
        }
        GO_ON();
        Network *network = one_layer(k / 25, 37);
        CylTensor *tensors = network->layers[0].tensors;
        for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
            const bool is_input = strcmp(tensors[t].role, "weight_ih") == 0;
            tensors[t].type = is_matrix(&tensors[t]) ? types[is_input ? k % 5 : k / 5 % 5] : NULL;
        }
        CylModel *models[CYL_ISA_COUNT];
        make_models(network, models);
        Data *data = data_create(network, 5, (int64_t[]){9, 9, 9, 9}, true);
        Result expected = predict(network, models[CYL_ISA_SCALAR], data, 1);
        check_everywhere(network, models, data, &expected, k, 37);
        result_free(&expected);
        free_models(models);
        data_free(data);
        network_free(network);
    }
}

/* y of one unit: by the definition in kernels/product_int8.h, number by number */
static float by_definition(const float *x, const float *weight, int64_t count, float bias, float most) {
    static Int8Row row;
    pack_int8(&row, weight, count);
    float largest = 0;
    for (int64_t k = 0; k < count; k++) {
        largest = fmaxf(largest, fabsf(x[k]));
    }
    float sum = bias;
    for (int64_t first = 0; first < count; first += CYL_INT8_PIECE) {
        int64_t dots = 0;
        for (int64_t k = first; k < count && k < first + CYL_INT8_PIECE; k++) {
            const float factor = most / largest;
            dots += int8_at(&row, k) * (int64_t)nearbyintf(x[k] * factor);
        }
        const float scale = largest * (1.0f / most) * row.scale;
        sum = fmaf((float)dots, scale, sum);
    }
    return sum;
}

/* a dense layer of more columns than one piece */
static void products_of_int8_are_what_they_are_defined_as(void) {
    for (int t = 0; t < 2; t++) {
        for (int32_t inputs = 1; inputs <= INT8_ROW; inputs = inputs * 3 + 2) {
            GO_ON();
            const int32_t units = 19;
            Network *network = network_create();
            int32_t x = network_input(network, CYL_SEQUENCE, inputs, NULL);
            network_output(network, network_dense(network, x, units, "linear"));
            set_type(network, INT8_TYPES[t]);
            CylModel *models[CYL_ISA_COUNT];
            make_models(network, models);
            Data *data = data_create(network, 5, (int64_t[]){9, 9, 9, 9}, true);
            Result found = predict(network, models[CYL_ISA_SCALAR], data, 1);
            for (int64_t n = 0; n < 5 * 9 * units; n++) {
                const float *row = (const float *)data->inputs[0] + n / units * inputs;
                const float *weight = network->layers[0].weights[0] + n % units * inputs;
                const float bias = network->layers[0].weights[1][n % units];
                const float expected = by_definition(row, weight, inputs, bias, t ? 127.0f : 32767.0f);
                CHECK(((const float *)found.arrays[0])[n] == expected, "%s of %d numbers: %a, not %a", INT8_TYPES[t],
                      (int)inputs, (double)((const float *)found.arrays[0])[n], (double)expected);
            }
            check_everywhere(network, models, data, &found, t, (int)units);
            result_free(&found);
            free_models(models);
            data_free(data);
            network_free(network);
        }
    }
}

/* bytes of a number of a packed array */
static int64_t bytes_of(const char *type) { return strcmp(type, "int8") == 0 ? 1 : strstr(type, "16") ? 2 : 4; }

static void matrices_take_the_bytes_of_their_type_and_all_else_stays_real(void) {
    for (int k = 0; k < LAYERS * ROUNDED_TYPES; k++) {
        const CylWeightType type = ROUNDED[k % ROUNDED_TYPES];
        Network *network = one_layer(k / ROUNDED_TYPES, 21);
        CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        set_type(network, cyl_weight_formats[type].name);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        CHECK(cyl_model_array_count(model, 0) == cyl_model_array_count(plain, 0), "layer %d", k);
        int64_t bytes = 0;
        for (int32_t i = 0; i < cyl_model_array_count(model, 0); i++) {
            CylArray array = cyl_model_array(model, 0, i), real = cyl_model_array(plain, 0, i);
            bool is_half = strcmp(array.type, cyl_weight_formats[type].name) == 0;
            CHECK(strcmp(real.type, "float32") == 0, "layer %d", k);
            /* one more column of bfloat16, and up to a line */
            CHECK(is_half ? array.size >= real.size && array.size < real.size * 2 && array.size % 32 == 0
                          : array.size == real.size,
                  "layer %d, array %d of %d numbers", k, (int)i, (int)array.size);
            CHECK(is_half || strcmp(array.type, "float32") == 0, "layer %d", k);
            bytes += array.size * bytes_of(array.type);
        }
        CHECK(cyl_model_bytes(model) == bytes && bytes < cyl_model_bytes(plain), "layer %d", k);
        for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
            const CylTensor *tensor = &network->layers[0].tensors[t];
            float *found = need((size_t)size_of(tensor) * sizeof *found);
            CHECK(cyl_model_read_tensor(model, 0, tensor->role, 0, tensor->shape[0], found) == CYL_OK, "layer %d", k);
            for (int64_t i = 0; i < size_of(tensor); i++) {
                float weight = network->layers[0].weights[t][i];
                CHECK(found[i] == (is_matrix(tensor) ? rounded(type, weight) : weight), "layer %d, %s", k,
                      tensor->role);
            }
            free(found);
        }
        cyl_model_free(plain);
        cyl_model_free(model);
        network_free(network);
    }
}

/* the status of adding the only layer of a network to a model of its values, given `arrays` or its tensors */
static CylStatus add_layer(const Network *network, CylEngine engine, CylIsa isa, const CylArray *arrays, int32_t count,
                           CylModel **model) {
    CylBlas blas = plain_blas();
    CylStatus status = cyl_model_create(engine, isa, &blas, model);
    for (int32_t v = 0; status == CYL_OK && v < network->value_count; v++) {
        int32_t index;
        status = cyl_model_add_value(*model, network->kinds[v], network->features[v], &index);
    }
    CylLayerSpec spec = network->layers[0].spec;
    spec.arrays = arrays;
    spec.array_count = count;
    return status == CYL_OK ? cyl_model_add_layer(*model, &spec) : status;
}

static void packed_arrays_keep_their_type(void) {
    static const char *const types[] = {"float16", "bfloat16", "int8a16", "int8a8"};
    for (int k = 0; k < INT8_LAYERS * 4; k++) {
        Network *network = one_layer(k / 4, 21);
        set_type(network, types[k % 4]);
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR), *other;
        CylArray arrays[16];
        int32_t count = cyl_model_array_count(model, 0);
        for (int32_t i = 0; i < count; i++) {
            arrays[i] = cyl_model_array(model, 0, i);
        }
        Data *data = data_create(network, 3, (int64_t[]){7, 7, 7, 7}, true);
        Result expected = predict(network, model, data, 1);
        for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
            if (cyl_isa_available((CylIsa)isa)) {
                CHECK(add_layer(network, CYL_ENGINE_PACKED, (CylIsa)isa, arrays, count, &other) == CYL_OK, "layer %d",
                      k);
                CHECK(cyl_model_finish(other, network->inputs, network->masks, network->input_count, network->outputs,
                                       network->output_count) == CYL_OK,
                      "layer %d", k);
                CHECK(cyl_model_array(other, 0, 0).data == arrays[0].data, "layer %d copies", k);
                Result found = predict(network, other, data, 2);
                check_same(&found, &expected, "given arrays", k, isa, 21);
                result_free(&found);
                cyl_model_free(other);
            }
        }
        set_type(network, NULL);
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, count, &other) == CYL_E_LAYOUT,
              "layer %d of real weights takes another type", k);
        cyl_model_free(other);
        set_type(network, types[k % 4]);
        arrays[0].type = NULL;
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, count, &other) == CYL_E_LAYOUT,
              "layer %d of another type takes real weights", k);
        cyl_model_free(other);
        result_free(&expected);
        data_free(data);
        cyl_model_free(model);
        network_free(network);
    }
}

static void what_has_no_such_weights_refuses_them(void) {
    CylModel *model;
    for (int k = 0; k < LAYERS; k++) {
        Network *network = one_layer(k, 5);
        set_type(network, "float24");
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION, "layer %d", k);
        cyl_model_free(model);
        set_type(network, "float16");
        for (int engine = CYL_ENGINE_BLAS32; engine <= CYL_ENGINE_BLAS64; engine++) {
            CHECK(add_layer(network, (CylEngine)engine, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION,
                  "layer %d, engine %d", k, engine);
            cyl_model_free(model);
        }
        network->layers[0].weights[0][3] = -65519.996f;
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_OK, "layer %d", k);
        cyl_model_free(model);
        network->layers[0].weights[0][3] = -65520.0f;
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_RANGE, "layer %d", k);
        cyl_model_free(model);
        network_free(network);
    }
    for (int t = 0; t < 2; t++) { /* the taps of a convolution */
        Network *network = one_layer(LAYERS - 1, 5);
        set_type(network, INT8_TYPES[t]);
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION, "ConvLSTM");
        cyl_model_free(model);
        network_free(network);
    }
    Network *network = network_create(); /* a layer without a matrix */
    int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL);
    network_output(network, network_last(network, x, -1));
    CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_OK, "no matrix");
    cyl_model_free(model);
    network_free(network);
    network = one_layer(RECURRENT_KINDS, 5); /* a bias is none */
    network->layers[0].tensors[1].type = "float16";
    CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION, "a bias");
    cyl_model_free(model);
    network_free(network);
}

int main(void) {
    RUN(floats_are_rounded_to_the_nearest_number_of_their_type);
    RUN(rows_of_int8_are_whole_numbers_with_a_scale);
    RUN(a_number_between_two_whole_ones_becomes_the_even_one);
    RUN(the_rounding_mode_of_the_caller_changes_nothing);
    RUN(matrices_take_the_bytes_of_their_type_and_all_else_stays_real);
    RUN(packed_arrays_keep_their_type);
    RUN(what_has_no_such_weights_refuses_them);
    RUN(smaller_types_give_the_bits_of_weights_that_were_rounded_before);
    RUN(products_of_int8_are_what_they_are_defined_as);
    RUN(int8_gives_the_same_bits_everywhere);
    RUN(the_halves_of_a_layer_may_have_types_of_their_own);
    return check_result();
}
