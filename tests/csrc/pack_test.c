/* Packed arrays: what is packed can be read back, kept, and given to another model; nothing else fits. */
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = RECURRENT_KINDS + 2 }; /* those with weights: also Dense and ConvLSTM */

/* one layer of `units`, over more features than units, so that no two sizes are equal */
static Network *one_layer(int kind, int32_t units) {
    Network *network = network_create();
    if (kind < RECURRENT_KINDS) {
        int32_t x = network_input(network, CYL_SEQUENCE, units + 3, NULL);
        network_output(network, network_recurrent(network, (RecurrentKind)kind, x, units, &PLAIN, NULL, NULL));
    } else if (kind == RECURRENT_KINDS) {
        int32_t x = network_input(network, CYL_SEQUENCE, units + 3, NULL);
        network_output(network, network_dense(network, x, units, "relu"));
    } else {
        int32_t x = network_input(network, CYL_SEQUENCE, 3 * 4 * 2, NULL);
        network_output(network, network_conv_lstm(network, x, 3, 4, units, true, &PLAIN));
    }
    return network;
}

static int64_t columns_of(const CylTensor *tensor) { return tensor->rank > 1 ? tensor->shape[1] : 1; }

/* a model whose only layer has these arrays, or none where `arrays` is NULL and none of its tensors' numbers */
static CylStatus build(const Network *network, CylEngine engine, CylIsa isa, const CylArray *arrays, int32_t count,
                       CylModel **model) {
    CylBlas blas = plain_blas();
    CylStatus status = cyl_model_create(engine, isa, &blas, model);
    for (int32_t v = 0; status == CYL_OK && v < network->value_count; v++) {
        int32_t index;
        status = cyl_model_add_value(*model, network->kinds[v], network->features[v], &index);
    }
    CylLayerSpec spec = network->layers[0].spec;
    CylTensor tensors[MOST_TENSORS];
    for (int32_t t = 0; t < spec.tensor_count; t++) {
        tensors[t] = spec.tensors[t];
        tensors[t].data = NULL;
    }
    spec.tensors = tensors;
    spec.arrays = arrays;
    spec.array_count = count;
    return status == CYL_OK ? cyl_model_add_layer(*model, &spec) : status;
}

static CylStatus finish(const Network *network, CylModel *model) {
    return cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                            network->output_count);
}

/* the packed arrays of a model's only layer; returns their number */
static int32_t arrays_of(const CylModel *model, CylArray arrays[16]) {
    int32_t count = cyl_model_array_count(model, 0);
    CHECK(count <= 16, "%d arrays", (int)count);
    for (int32_t i = 0; i < count; i++) {
        arrays[i] = cyl_model_array(model, 0, i);
    }
    CHECK(cyl_model_array(model, 0, count).data == NULL && cyl_model_array(model, 1, 0).data == NULL, "no more arrays");
    return count;
}

static void check_same(const Network *network, const CylModel *a, const CylModel *b, const char *what, int kind) {
    Data *data = data_create(network, 3, (int64_t[]){7, 7, 7, 7}, false);
    Result first = predict(network, a, data, 1), second = predict(network, b, data, 2);
    CHECK(result_same(&first, &second), "%s, layer %d", what, kind);
    result_free(&first);
    result_free(&second);
    data_free(data);
}

static void weights_written_in_pieces_are_packed_alike_and_read_back(void) {
    static const CylEngine engines[] = {CYL_ENGINE_PACKED, CYL_ENGINE_BLAS32};
    for (int k = 0; k < LAYERS; k++) {
        for (int32_t units = 3; units < 90; units = units * 2 + 1) {
            for (int e = 0; e < 2; e++) {
                Network *network = one_layer(k, units);
                CylModel *whole = network_model(network, engines[e], CYL_ISA_SCALAR), *model;
                CHECK(build(network, engines[e], CYL_ISA_SCALAR, NULL, 0, &model) == CYL_OK, "layer %d", k);
                const CylLayerSpec *spec = &network->layers[0].spec;
                for (int32_t t = 0; t < spec->tensor_count; t++) {
                    const CylTensor *tensor = &spec->tensors[t];
                    int64_t columns = columns_of(tensor), rows = tensor->shape[0];
                    const float *weights = tensor->data;
                    for (int64_t first = 0; first < rows; first += 5) {
                        int64_t count = rows - first < 5 ? rows - first : 5;
                        CHECK(cyl_model_write_tensor(model, 0, tensor->role, first, count, weights + first * columns) ==
                                  CYL_OK,
                              "layer %d, %s", k, tensor->role);
                    }
                    float *found = need((size_t)(rows * columns) * sizeof *found);
                    CHECK(cyl_model_read_tensor(whole, 0, tensor->role, 0, rows, found) == CYL_OK, "layer %d, %s", k,
                          tensor->role);
                    CHECK(memcmp(found, weights, (size_t)(rows * columns) * sizeof *found) == 0, "layer %d, %s", k,
                          tensor->role);
                    CHECK(cyl_model_read_tensor(whole, 0, tensor->role, rows - 1, 1, found) == CYL_OK &&
                              memcmp(found, weights + (rows - 1) * columns, (size_t)columns * sizeof *found) == 0,
                          "layer %d, last row of %s", k, tensor->role);
                    CHECK(cyl_model_read_tensor(whole, 0, tensor->role, rows - 1, 2, found) == CYL_E_TENSOR &&
                              cyl_model_read_tensor(whole, 0, tensor->role, -1, 1, found) == CYL_E_ARGUMENT &&
                              cyl_model_read_tensor(whole, 0, tensor->role, INT64_MAX, 1, found) == CYL_E_TENSOR &&
                              cyl_model_read_tensor(whole, 1, tensor->role, 0, 1, found) == CYL_E_ARGUMENT &&
                              cyl_model_read_tensor(whole, 0, "other", 0, 1, found) == CYL_E_TENSOR,
                          "layer %d, beyond %s", k, tensor->role);
                    CHECK(cyl_model_write_tensor(whole, 0, tensor->role, 0, rows, weights) == CYL_E_ARGUMENT,
                          "a finished model never changes");
                    free(found);
                }
                CHECK(finish(network, model) == CYL_OK, "layer %d", k);
                check_same(network, whole, model, "in pieces", k);
                cyl_model_free(whole);
                cyl_model_free(model);
                network_free(network);
            }
        }
    }
}

static void packed_arrays_fit_every_instruction_set(void) {
    for (int k = 0; k < LAYERS; k++) {
        for (int32_t units = 3; units < 90; units = units * 2 + 1) {
            Network *network = one_layer(k, units);
            CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
            CylArray arrays[16];
            int32_t count = arrays_of(plain, arrays);
            for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
                if (!cyl_isa_available((CylIsa)isa)) {
                    continue;
                }
                CylModel *model;
                CHECK(build(network, CYL_ENGINE_PACKED, (CylIsa)isa, arrays, count, &model) == CYL_OK, "layer %d", k);
                const CylTensor *tensor = &network->layers[0].spec.tensors[0];
                CHECK(cyl_model_write_tensor(model, 0, tensor->role, 0, 1, tensor->data) == CYL_E_ARGUMENT,
                      "given arrays are never written");
                CHECK(finish(network, model) == CYL_OK, "layer %d", k);
                CHECK(cyl_model_array(model, 0, 0).data == arrays[0].data, "layer %d copies", k);
                check_same(network, plain, model, cyl_isa_name((CylIsa)isa), k);
                cyl_model_free(model);
            }
            cyl_model_free(plain);
            network_free(network);
        }
    }
}

static void arrays_that_do_not_fit_are_refused(void) {
    for (int k = 0; k < LAYERS; k++) {
        Network *network = one_layer(k, 19);
        CylModel *plain = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR), *model;
        CylArray arrays[16];
        int32_t count = arrays_of(plain, arrays);
        arrays[count] = arrays[0];
        for (int32_t wrong = 0; wrong < count + 2; wrong += 1 + (wrong == count - 1)) {
            CHECK(build(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, wrong, &model) == CYL_E_LAYOUT,
                  "layer %d with %d arrays of %d", k, (int)wrong, (int)count);
            cyl_model_free(model);
        }
        for (int32_t i = 0; i < count; i++) {
            static const int64_t changes[] = {-1, 1, -16, 16, 1 << 20, INT64_MIN / 2};
            CylArray saved = arrays[i];
            for (int c = 0; c < 8; c++) {
                arrays[i].size = c < 6 ? saved.size + changes[c] : saved.size;
                arrays[i].data = c == 6 ? NULL : c == 7 ? (const char *)saved.data + 4 : saved.data;
                CHECK(build(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR, arrays, count, &model) == CYL_E_LAYOUT,
                      "layer %d, array %d, case %d", k, (int)i, c);
                cyl_model_free(model);
                arrays[i] = saved;
            }
        }
        CHECK(build(network, CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, arrays, count, &model) == CYL_E_ARGUMENT,
              "the BLAS engine has another layout");
        cyl_model_free(model);
        cyl_model_free(plain);
        network_free(network);
    }
}

/* rows of weights for so many units: blocks of 16 in each gate, or 64 of one gate, and a tail of 4, 8 or 16, whose rows
   come to a multiple of 16 */
static void tails_are_packed_narrow(void) {
    static const struct {
        int32_t units;
        int64_t of_four, of_three, of_one; /* gates */
    } rows[] = {{1, 16, 16, 16},    {4, 16, 16, 16},    {5, 32, 32, 16},    {8, 32, 32, 16},   {9, 64, 48, 16},
                {16, 64, 48, 16},   {17, 80, 64, 32},   {20, 80, 64, 32},   {24, 96, 80, 32},  {25, 128, 96, 32},
                {36, 144, 112, 48}, {50, 208, 160, 64}, {65, 272, 208, 80}, {68, 272, 208, 80}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t units = rows[i].units;
        const struct {
            int kind;
            int64_t rows, columns;
        } layers[] = {{LSTM, rows[i].of_four, 2 * units + 3},
                      {LSTM_COUPLED, rows[i].of_three, 2 * units + 3},
                      {GRU_AFTER, rows[i].of_three, units + 3},
                      {RNN, rows[i].of_one, 2 * units + 3},
                      {RECURRENT_KINDS, rows[i].of_one, units + 3}}; /* dense */
        for (size_t l = 0; l < sizeof layers / sizeof *layers; l++) {
            Network *network = one_layer(layers[l].kind, units);
            CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
            CylArray arrays[16];
            arrays_of(model, arrays);
            CHECK(arrays[0].size == layers[l].rows * layers[l].columns, "layer %d of %d units: %d numbers, not %d",
                  layers[l].kind, (int)units, (int)arrays[0].size, (int)(layers[l].rows * layers[l].columns));
            cyl_model_free(model);
            network_free(network);
        }
    }
}

static void weights_below_the_threshold_are_packed_as_zeros(void) {
    static const struct {
        float given, packed;
    } numbers[] = {{0x1p-40f, 0x1p-40f},     {-0x1p-40f, -0x1p-40f}, {0x1.fffffep-41f, 0.0f},
                   {-0x1.fffffep-41f, 0.0f}, {0x1p-50f, 0.0f},       {0x1p-80f, 0.0f},
                   {0x1p-126f, 0.0f},        {0x1p-149f, 0.0f},      {-0.0f, 0.0f}};
    for (int k = 0; k < LAYERS; k++) {
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            Network *network = one_layer(k, 19);
            const CylLayerSpec *spec = &network->layers[0].spec;
            for (int32_t t = 0; t < spec->tensor_count; t++) {
                int64_t size = spec->tensors[t].shape[0] * columns_of(&spec->tensors[t]);
                network->layers[0].weights[t][size / 2] = numbers[i].given;
            }
            CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
            for (int32_t t = 0; t < spec->tensor_count; t++) {
                const CylTensor *tensor = &spec->tensors[t];
                int64_t columns = columns_of(tensor), at = tensor->shape[0] * columns / 2;
                float *found = need((size_t)(tensor->shape[0] * columns) * sizeof *found);
                CHECK(cyl_model_read_tensor(model, 0, tensor->role, 0, tensor->shape[0], found) == CYL_OK, "layer %d",
                      k);
                CHECK(memcmp(&found[at], &numbers[i].packed, sizeof *found) == 0, "layer %d, %s: %a is %a", k,
                      tensor->role, (double)numbers[i].given, (double)found[at]);
                free(found);
            }
            cyl_model_free(model);
            network_free(network);
        }
    }
}

int main(void) {
    RUN(tails_are_packed_narrow);
    RUN(weights_below_the_threshold_are_packed_as_zeros);
    RUN(weights_written_in_pieces_are_packed_alike_and_read_back);
    RUN(packed_arrays_fit_every_instruction_set);
    RUN(arrays_that_do_not_fit_are_refused);
    return check_result();
}
