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

static const CylWeightFormat *const half = &cyl_weight_formats[CYL_WEIGHTS_FLOAT16];

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The number of float16 next to x, ties to even, by libm: 10 bits behind the first, of 2^-24 at least. Infinity beyond
   the largest; +0 for what rounds to 0. */
static float rounded(float x) {
    if (isnan(x) || isinf(x) || x == 0.0f) {
        return x == 0.0f ? 0.0f : x;
    }
    int unit = (ilogb((double)x) < -14 ? -14 : ilogb((double)x)) - 10;
    double result = ldexp(nearbyint(ldexp((double)x, -unit)), unit);
    return result == 0.0 ? 0.0f : fabs(result) > 65504.0 ? (float)copysign(INFINITY, result) : (float)result;
}

static bool same(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)); }

static void check_rounding(float x) {
    uint16_t packed[3] = {1, 2, 3};
    float found, again;
    CylStatus status = half->pack(sizeof(float), packed, 1, &x, 1);
    half->unpack(sizeof(float), packed, 1, &found, 1);
    CHECK(same(found, rounded(x)), "%a becomes %a, not %a", (double)x, (double)found, (double)rounded(x));
    CHECK(status == (isinf(rounded(x)) && !isinf(x) ? CYL_E_RANGE : CYL_OK), "the status of %a", (double)x);
    CHECK(packed[1] == 2 && packed[2] == 3, "one number is written");
    half->pack(sizeof(float), packed + 1, 1, &found, 1);
    half->unpack(sizeof(float), packed + 1, 1, &again, 1);
    CHECK(packed[0] == packed[1] && same(found, again), "%a is not packed twice alike", (double)x);
}

static void floats_are_rounded_to_the_nearest_float16(void) {
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 1021) {
        check_rounding(from_bits((uint32_t)bits));
    }
    /* around each number of float16, and around the middle between it and the next */
    for (uint32_t number = 0; number < 0x7c00; number++) {
        uint16_t packed[2] = {(uint16_t)number, (uint16_t)(number + 1)};
        float ends[2];
        half->unpack(sizeof(float), packed, 1, ends, 2);
        float middle = number == 0x7bff ? 65520.0f : (ends[0] + ends[1]) / 2;
        for (int sign = -1; sign < 2; sign += 2) {
            check_rounding((float)sign * ends[0]);
            check_rounding((float)sign * middle);
            check_rounding((float)sign * nextafterf(middle, 0.0f));
            check_rounding((float)sign * nextafterf(middle, INFINITY));
        }
    }
    check_rounding(INFINITY);
    check_rounding(-INFINITY);
    check_rounding(NAN);
}

/* models are built, and their tensors read, in the mode of the caller */
static void the_rounding_mode_of_the_caller_changes_nothing(void) {
#ifdef FE_DOWNWARD
    for (uint32_t number = 0; number < 0x10000; number++) {
        const uint16_t packed = (uint16_t)number;
        uint16_t again = 0;
        float expected, found;
        half->unpack(sizeof(float), &packed, 1, &expected, 1);
        const int before = fegetround();
        fesetround(FE_DOWNWARD);
        half->unpack(sizeof(float), &packed, 1, &found, 1);
        half->pack(sizeof(float), &again, 1, &found, 1);
        fesetround(before);
        CHECK(same(found, expected), "%#x is %a, not %a", (unsigned)number, (double)found, (double)expected);
        CHECK(isnan(expected) || again == (number == 0x8000 ? 0 : number), "%#x becomes %#x", (unsigned)number, again);
    }
#endif
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

static void round_matrices(Network *network) {
    for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
        const CylTensor *tensor = &network->layers[0].tensors[t];
        for (int64_t k = 0; is_matrix(tensor) && k < size_of(tensor); k++) {
            network->layers[0].weights[t][k] = rounded(network->layers[0].weights[t][k]);
        }
    }
}

static void check_same(const Result *a, const Result *b, const char *what, int kind, int isa, int units) {
    CHECK(result_same(a, b), "%s, layer %d of %d units, %s", what, kind, units, cyl_isa_name((CylIsa)isa));
}

static void float16_gives_the_bits_of_weights_that_were_rounded_before(void) {
    static const int64_t pieces[] = {1, 3, 2};
    for (int k = 0; k < LAYERS; k++) {
        for (int32_t units = 3; units < 90; units = units * 2 + 1) {
            GO_ON();
            Network *network = one_layer(k, units);
            add_small_weights(network);
            CylModel *models[CYL_ISA_COUNT] = {NULL};
            network->layers[0].spec.weight_type = "float16";
            for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
                models[isa] =
                    cyl_isa_available((CylIsa)isa) ? network_model(network, CYL_ENGINE_PACKED, (CylIsa)isa) : NULL;
            }
            round_matrices(network);
            network->layers[0].spec.weight_type = NULL;
            CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
            Data *data = data_create(network, 5, (int64_t[]){9, 9, 9, 9}, true);
            Result expected = predict(network, plain, data, 1);
            for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
                if (!models[isa]) {
                    continue;
                }
                for (int threads = 1; threads <= 3; threads += 2) {
                    Result found = predict(network, models[isa], data, threads);
                    check_same(&found, &expected, "all rows", k, isa, (int)units);
                    result_free(&found);
                    found = stream(network, models[isa], data, pieces, 3, threads);
                    check_same(&found, &expected, "in pieces", k, isa, (int)units);
                    result_free(&found);
                    Result alone = predict_row(network, models[isa], data, 3, threads);
                    Result row = result_row(&expected, 5, 3);
                    check_same(&alone, &row, "one row", k, isa, (int)units);
                    result_free(&alone);
                    result_free(&row);
                }
                cyl_model_free(models[isa]);
            }
            result_free(&expected);
            cyl_model_free(plain);
            data_free(data);
            network_free(network);
        }
    }
}

static void matrices_take_half_the_bytes_and_all_else_stays_real(void) {
    for (int k = 0; k < LAYERS; k++) {
        Network *network = one_layer(k, 21);
        CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        network->layers[0].spec.weight_type = "float16";
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        CHECK(cyl_model_array_count(model, 0) == cyl_model_array_count(plain, 0), "layer %d", k);
        int64_t bytes = 0;
        for (int32_t i = 0; i < cyl_model_array_count(model, 0); i++) {
            CylArray array = cyl_model_array(model, 0, i), real = cyl_model_array(plain, 0, i);
            bool is_half = strcmp(array.type, "float16") == 0;
            CHECK(strcmp(real.type, "float32") == 0, "layer %d", k);
            CHECK(is_half ? array.size >= real.size && array.size < real.size + 32 && array.size % 32 == 0
                          : array.size == real.size,
                  "layer %d, array %d of %d numbers", k, (int)i, (int)array.size);
            CHECK(is_half || strcmp(array.type, "float32") == 0, "layer %d", k);
            bytes += array.size * (is_half ? 2 : 4);
        }
        CHECK(cyl_model_bytes(model) == bytes && bytes < cyl_model_bytes(plain), "layer %d", k);
        for (int32_t t = 0; t < network->layers[0].spec.tensor_count; t++) {
            const CylTensor *tensor = &network->layers[0].tensors[t];
            float *found = need((size_t)size_of(tensor) * sizeof *found);
            CHECK(cyl_model_read_tensor(model, 0, tensor->role, 0, tensor->shape[0], found) == CYL_OK, "layer %d", k);
            for (int64_t i = 0; i < size_of(tensor); i++) {
                float weight = network->layers[0].weights[t][i];
                CHECK(found[i] == (is_matrix(tensor) ? rounded(weight) : weight), "layer %d, %s", k, tensor->role);
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
    for (int k = 0; k < LAYERS; k++) {
        Network *network = one_layer(k, 21);
        network->layers[0].spec.weight_type = "float16";
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
        network->layers[0].spec.weight_type = NULL;
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, count, &other) == CYL_E_LAYOUT,
              "layer %d of real weights takes float16", k);
        cyl_model_free(other);
        network->layers[0].spec.weight_type = "float16";
        arrays[0].type = NULL;
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, count, &other) == CYL_E_LAYOUT,
              "layer %d of float16 takes real weights", k);
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
        network->layers[0].spec.weight_type = "float24";
        CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION, "layer %d", k);
        cyl_model_free(model);
        network->layers[0].spec.weight_type = "float16";
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
    Network *network = network_create(); /* a layer without a matrix */
    int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL);
    network_output(network, network_last(network, x, -1));
    network->layers[0].spec.weight_type = "float16";
    CHECK(add_layer(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, 0, &model) == CYL_E_OPTION, "no matrix");
    cyl_model_free(model);
    network_free(network);
}

int main(void) {
    RUN(floats_are_rounded_to_the_nearest_float16);
    RUN(the_rounding_mode_of_the_caller_changes_nothing);
    RUN(matrices_take_half_the_bytes_and_all_else_stays_real);
    RUN(packed_arrays_keep_their_type);
    RUN(what_has_no_such_weights_refuses_them);
    RUN(float16_gives_the_bits_of_weights_that_were_rounded_before);
    return check_result();
}
