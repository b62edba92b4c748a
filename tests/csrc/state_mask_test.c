/*
 * Masks of the state that the recurrent product reads (the input h_mask), exactly: with masks of 0 and 2 a row has the
 * bits of a network without masks whose columns of weight_hh are multiplied instead. On every instruction set, with
 * several threads, with one mask for all gates and with one for each.
 */
#include "check.h"
#include "network.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 5, TIME = 9, INPUTS = 3 };

static int gates_of(int kind) {
    return kind == RNN ? 1 : kind == GRU_BEFORE || kind == GRU_AFTER || kind == LSTM_COUPLED ? 3 : 4;
}

/* x, a recurrent layer (layer 0) and its output; the same weights in every call */
static Network *plain(int kind, int32_t hidden, bool is_reverse) {
    random_seed((uint64_t)(100 * kind + hidden));
    Network *network = network_create();
    RecurrentOptions options = PLAIN;
    options.is_reverse = is_reverse;
    int32_t x = network_input(network, CYL_SEQUENCE, INPUTS, &options.mask);
    network_output(network, network_recurrent(network, (RecurrentKind)kind, x, hidden, &options, NULL, NULL));
    return network;
}

/* the same with an input h_mask of so many copies, each of which one gate reads, or all of the only one */
static Network *masked(int kind, int32_t hidden, bool is_reverse, int32_t copies) {
    Network *network = plain(kind, hidden, is_reverse);
    Layer *layer = &network->layers[0];
    CylTensor *tensor = &layer->tensors[1];
    const int32_t rows = (int32_t)tensor->shape[0], output = (int32_t)tensor->shape[1];
    const int32_t each = copies > 1 ? rows / copies : rows;
    float *wide = need((size_t)(rows * output * copies) * sizeof *wide);
    for (int32_t r = 0; r < rows; r++) {
        memcpy(wide + (r * copies + r / each) * output, layer->weights[1] + r * output, (size_t)output * sizeof *wide);
    }
    free(layer->weights[1]);
    layer->weights[1] = wide;
    tensor->data = wide;
    tensor->shape[1] = copies * output;
    layer_input(layer, "h_mask", network_input(network, CYL_VECTOR, copies * output, NULL));
    return network;
}

/* the plain one with the columns of weight_hh times one row's masks */
static Network *scaled(int kind, int32_t hidden, bool is_reverse, int32_t copies, const float *masks) {
    Network *network = plain(kind, hidden, is_reverse);
    Layer *layer = &network->layers[0];
    const int32_t rows = (int32_t)layer->tensors[1].shape[0], output = (int32_t)layer->tensors[1].shape[1];
    const int32_t each = copies > 1 ? rows / copies : rows;
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t k = 0; k < output; k++) {
            layer->weights[1][r * output + k] *= masks[(r / each) * output + k];
        }
    }
    return network;
}

static void compare(int kind, int32_t hidden, bool is_reverse, int32_t copies, CylIsa isa, bool has_masks) {
    Network *network = masked(kind, hidden, is_reverse, copies);
    const int64_t times[MOST_ENDS] = {TIME, 1};
    Data *data = data_create(network, ROWS, times, has_masks);
    const int32_t size = network->features[network->inputs[1]];
    for (int32_t i = 0; i < ROWS * size; i++) {
        data->inputs[1][i] = random_bits() % 3 ? 2.0f : 0.0f;
    }
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, isa);
    Result one = predict(network, model, data, 1), several = predict(network, model, data, 3);
    CHECK(result_same(&one, &several), "%s of %d units, %d copies, %s: threads give other bits", RECURRENT_NAMES[kind],
          (int)hidden, (int)copies, cyl_isa_name(isa));
    for (int64_t row = 0; row < ROWS; row++) {
        Network *other = scaled(kind, hidden, is_reverse, copies, data->inputs[1] + row * size);
        CylModel *unmasked = network_model(other, CYL_ENGINE_PACKED, isa);
        Result found = result_row(&one, ROWS, row), expected = predict_row(other, unmasked, data, row, 1);
        CHECK(result_same(&found, &expected), "%s of %d units, %d copies, %s: row %d has other bits",
              RECURRENT_NAMES[kind], (int)hidden, (int)copies, cyl_isa_name(isa), (int)row);
        result_free(&found);
        result_free(&expected);
        cyl_model_free(unmasked);
        network_free(other);
    }
    result_free(&one);
    result_free(&several);
    cyl_model_free(model);
    data_free(data);
    network_free(network);
}

static void a_masked_row_has_the_bits_of_masked_weights(void) {
    static const int32_t sizes[] = {5, 17, 70};
    for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
        for (int kind = 0; kind < RECURRENT_KINDS && cyl_isa_available((CylIsa)isa); kind++) {
            for (int k = 0; k < 3; k++) {
                GO_ON();
                compare(kind, sizes[k], k == 1, 1, (CylIsa)isa, k != 1);
                compare(kind, sizes[k], k == 0, gates_of(kind), (CylIsa)isa, k == 1);
            }
        }
    }
}

/* a mask of another size, a layer without room for one, and weights that do not fit */
static void masks_that_do_not_fit_are_refused(void) {
    for (int kind = 0; kind < RECURRENT_KINDS; kind++) {
        Network *network = masked(kind, 6, false, 1);
        for (int wrong = 0; wrong < 3; wrong++) {
            CylModel *model;
            CHECK(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, &model) == CYL_OK, "create");
            CylLayerSpec spec = network->layers[0].spec;
            for (int32_t v = 0, index; v < network->value_count; v++) {
                const bool is_mask = v == network->inputs[1];
                const CylValueKind value = is_mask && wrong == 1 ? CYL_SEQUENCE : network->kinds[v];
                const int32_t size = network->features[v] + (is_mask && wrong == 0);
                CHECK(cyl_model_add_value(model, value, size, &index) == CYL_OK, "value");
            }
            CylTensor *tensor = &network->layers[0].tensors[1];
            tensor->shape[1] -= wrong == 2;
            const CylStatus status = cyl_model_add_layer(model, &spec);
            tensor->shape[1] += wrong == 2;
            CHECK(status == CYL_E_VALUE, "%s, case %d: %s", RECURRENT_NAMES[kind], wrong, cyl_status_text(status));
            cyl_model_free(model);
        }
        network_free(network);
    }
}

int main(void) {
    RUN(a_masked_row_has_the_bits_of_masked_weights);
    RUN(masks_that_do_not_fit_are_refused);
    return check_result();
}
