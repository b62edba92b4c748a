/* Every status code has its words and can be met; no wrong description of a network crashes. */
#include "cylstm.h"
#include "run/stop.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool met[CYL_STATUS_COUNT];

#define CHECK_STATUS(expression, wanted)                                                                               \
    do {                                                                                                               \
        CylStatus status = (expression);                                                                               \
        met[(unsigned)status < CYL_STATUS_COUNT ? status : 0] = true;                                                  \
        CHECK(status == (wanted), "%s gives \"%s\", not \"%s\"", #expression, cyl_status_text(status),                 \
              cyl_status_text(wanted));                                                                                \
    } while (0)

/* ---- a model to spoil ---- */

/* a description of one layer of each kind, over values made for it */
static CylModel *values_of(const Network *network) {
    CylModel *model;
    CylBlas blas = plain_blas();
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_SCALAR, &blas, &model), CYL_OK);
    for (int32_t v = 0; v < network->value_count; v++) {
        int32_t index;
        CHECK_STATUS(cyl_model_add_value(model, network->kinds[v], network->features[v], &index), CYL_OK);
    }
    return model;
}

/* the status of adding the network's layers and, if they can be, of finishing */
static CylStatus build(const Network *network) {
    CylModel *model = values_of(network);
    CylStatus status = CYL_OK;
    for (int32_t n = 0; status == CYL_OK && n < network->layer_count; n++) {
        status = cyl_model_add_layer(model, &network->layers[n].spec);
    }
    if (status == CYL_OK) {
        status = cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                                  network->output_count);
    }
    if (status == CYL_OK) { /* then it must run */
        Data *data = data_create(network, 2, (int64_t[]){3, 4, 5, 6}, true);
        cyl_model_free(model);
        model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        Result result = predict(network, model, data, 2);
        result_free(&result);
        data_free(data);
    }
    cyl_model_free(model);
    met[status] = true;
    return status;
}

/* one layer of each operation, in a network that can be built; layer 0 is the one to spoil */
enum { NODE_KINDS = RECURRENT_KINDS + 4 };
static const char *layer_name(int kind) {
    static const char *const others[] = {"dense", "merge", "last", "activation"};
    return kind < RECURRENT_KINDS ? RECURRENT_NAMES[kind] : others[kind - RECURRENT_KINDS];
}

static Network *one_layer(int kind) {
    Network *network = network_create();
    RecurrentOptions options = PLAIN;
    int32_t x = network_input(network, CYL_SEQUENCE, 5, &options.mask), h, c;
    if (kind < RECURRENT_KINDS) {
        network_output(network, network_recurrent(network, (RecurrentKind)kind, x, 5, &options, &h, &c));
        network_output(network, h);
        if (state_count_of((RecurrentKind)kind) == 2) {
            network_output(network, c);
        }
    } else if (kind == RECURRENT_KINDS) {
        network_output(network, network_dense(network, x, 4, "relu"));
    } else if (kind == RECURRENT_KINDS + 1) {
        network_output(network, network_merge(network, "concat", (int32_t[]){x, x}, 2));
    } else if (kind == RECURRENT_KINDS + 2) {
        network_output(network, network_last(network, x, options.mask));
    } else {
        Layer *layer = network_layer(network, "activation");
        int32_t y = network_value(network, CYL_SEQUENCE, 5);
        network->axes[y] = 0;
        layer_input(layer, "x", x);
        layer_output(layer, "y", y);
        layer_activation(layer, "activation", "tanh");
        network_output(network, y);
    }
    return network;
}

static void the_networks_to_spoil_can_be_built(void) {
    for (int k = 0; k < NODE_KINDS; k++) {
        Network *network = one_layer(k);
        CHECK_STATUS(build(network), CYL_OK);
        network_free(network);
    }
}

static void an_unknown_operation_is_refused(void) {
    Network *network = one_layer(0);
    network->layers[0].spec.kind = "transformer";
    CHECK_STATUS(build(network), CYL_E_LAYER);
    network_free(network);
}

static void options_missing_or_unknown_are_refused(void) {
    for (int k = 0; k < NODE_KINDS; k++) {
        Network *network = one_layer(k);
        CylLayerSpec *spec = &network->layers[0].spec;
        for (int32_t o = 0; o < spec->option_count; o++) {
            CylOption *option = &network->layers[0].options[o], saved = *option;
            bool is_parameter = strstr(option->name, "_alpha") || strstr(option->name, "_beta");
            option->name = "other";
            CHECK(build(network) == (is_parameter ? CYL_OK : CYL_E_OPTION), "%s without %s", layer_name(k), saved.name);
            *option = saved;
            if (!is_parameter) {
                option->text = saved.text ? NULL : "yes";
                CHECK(build(network) == CYL_E_OPTION, "%s with %s of the other type", layer_name(k), saved.name);
                *option = saved;
            }
            if (strstr(saved.name, "clip") || strcmp(saved.name, "axis") == 0) {
                option->number = -saved.number - 1.0; /* limits are not negative, and axes count from the last */
                CHECK(build(network) == CYL_E_OPTION, "%s with %s of the other sign", layer_name(k), saved.name);
                option->number = NAN;
                CHECK(build(network) == CYL_E_OPTION, "%s with NaN as %s", layer_name(k), saved.name);
                *option = saved;
            }
            if (saved.text) {
                option->text = "unheard of";
                CHECK(build(network) == CYL_E_OPTION, "%s with an unknown %s", layer_name(k), saved.name);
                *option = saved;
                if (strcmp(saved.name, "coupled") != 0 && strcmp(saved.name, "layer_norm") != 0) {
                    option->text = "";
                    CHECK(build(network) == CYL_E_OPTION, "%s with an empty %s", layer_name(k), saved.name);
                    *option = saved;
                }
            }
            if (saved.text && k < RECURRENT_KINDS && strstr(saved.name, "activation")) {
                option->text = "softmax";
                CHECK(build(network) == CYL_E_OPTION, "%s with softmax as %s", layer_name(k), saved.name);
                *option = saved;
            }
        }
        network_free(network);
    }
}

static void a_bias_that_the_layer_has_no_place_for_is_refused(void) {
    Network *network = one_layer(GRU_AFTER);
    for (int32_t o = 0; o < network->layers[0].spec.option_count; o++) {
        if (strcmp(network->layers[0].options[o].name, "reset_after") == 0) {
            network->layers[0].options[o].number = 0.0;
        }
    }
    CHECK_STATUS(build(network), CYL_E_OPTION);
    network_free(network);
}

static void tensors_missing_or_of_another_shape_are_refused(void) {
    static const int64_t wrong[] = {
        0, -1, -4, 1, 3, 6, 19, (1 << 24) + 1, (int64_t)1 << 32 | 5, (int64_t)1 << 40, INT64_MAX, INT64_MIN};
    static const float enough[1000]; /* for those shapes that are no larger */
    for (int k = 0; k < NODE_KINDS; k++) {
        Network *network = one_layer(k);
        CylLayerSpec *spec = &network->layers[0].spec;
        for (int32_t t = 0; t < spec->tensor_count; t++) {
            CylTensor *tensor = &network->layers[0].tensors[t], saved = *tensor;
            if (!strstr(saved.role, "bias") && !strstr(saved.role, "peephole")) {
                tensor->role = "other";
                CHECK(build(network) == CYL_E_TENSOR, "%s without %s", layer_name(k), saved.role);
                *tensor = saved;
            }
            for (int32_t rank = 0; rank <= 4; rank++) {
                tensor->rank = rank;
                tensor->shape[2] = tensor->shape[3] = 1;
                CHECK((build(network) == CYL_OK) == (rank == saved.rank), "%s with %s of rank %d", layer_name(k),
                      saved.role, (int)rank);
                *tensor = saved;
            }
            for (int32_t axis = 0; axis < saved.rank; axis++) {
                for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
                    tensor->shape[axis] = wrong[w];
                    tensor->data = enough;
                    CylStatus status = build(network);
                    /* a wrong input size is a wrong value, since weights say what it is */
                    CHECK(status == CYL_E_TENSOR || status == CYL_E_VALUE, "%s with %s of %lld on axis %d: %s",
                          layer_name(k), saved.role, (long long)wrong[w], (int)axis, cyl_status_text(status));
                    *tensor = saved;
                }
            }
        }
        network_free(network);
    }
}

static void an_output_that_the_layer_does_not_write_is_refused(void) {
    static const char *const roles[] = {"h", "c", "indices", "bias", "z"};
    for (int k = RECURRENT_KINDS; k < NODE_KINDS; k++) {
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
            Network *network = one_layer(k);
            int32_t more = network_value(network, CYL_STATE, 4);
            layer_output(&network->layers[0], roles[r], more);
            network_output(network, more);
            CHECK(build(network) == CYL_E_VALUE, "%s that writes %s", layer_name(k), roles[r]);
            network_free(network);
        }
    }
}

static void a_tensor_that_is_there_twice_is_refused(void) {
    static const float one[1];
    for (int k = 0; k <= RECURRENT_KINDS; k++) {
        Network *network = one_layer(k);
        Layer *layer = &network->layers[0];
        CylTensor *more = &layer->tensors[layer->spec.tensor_count++];
        *more = (CylTensor){layer->tensors[0].role, one, 1, {1}, NULL};
        CHECK(build(network) == CYL_E_TENSOR, "%s with %s twice", layer_name(k), more->role);
        layer->spec.tensor_count--;
        network_free(network);
    }
}

static void weights_that_their_type_cannot_hold_are_refused(void) {
    Network *network = one_layer(RECURRENT_KINDS); /* dense */
    network->layers[0].tensors[0].type = "float16";
    network->layers[0].weights[0][1] = 1e5f;
    CHECK_STATUS(build(network), CYL_E_RANGE);
    network->layers[0].weights[0][1] = 1e4f;
    CHECK_STATUS(build(network), CYL_OK);
    network->layers[0].tensors[0].type = "unheard of";
    CHECK_STATUS(build(network), CYL_E_OPTION);
    network_free(network);
}

static void a_refused_layer_leaves_the_model_as_it_was(void) {
    for (int k = 0; k <= RECURRENT_KINDS; k++) {
        Network *network = one_layer(k);
        CylLayerSpec *spec = &network->layers[0].spec;
        CylModel *model = values_of(network);
        float *weight = &network->layers[0].weights[0][1], saved = *weight;
        for (int32_t t = 0; t < spec->tensor_count; t++) {
            network->layers[0].tensors[t].type = spec->tensors[t].rank == 2 ? "float16" : NULL;
        }
        *weight = 1e5f;
        CHECK_STATUS(cyl_model_add_layer(model, spec), CYL_E_RANGE);
        CHECK(cyl_model_state_count(model) == 0 && cyl_model_work(model) == 0 && cyl_model_bytes(model) == 0,
              "%s is refused, but leaves something", layer_name(k));
        *weight = saved;
        CHECK_STATUS(cyl_model_add_layer(model, spec), CYL_OK);
        CHECK_STATUS(cyl_model_finish(model, network->inputs, network->masks, network->input_count, network->outputs,
                                      network->output_count),
                     CYL_OK);
        CHECK(cyl_model_state_count(model) == network->state_count, "%s has %d states", layer_name(k),
              (int)cyl_model_state_count(model));
        cyl_model_free(model);
        network_free(network);
    }
}

static void packed_arrays_of_another_size_are_refused(void) {
    static const float weights[16];
    for (int k = 0; k <= RECURRENT_KINDS; k++) {
        Network *network = one_layer(k);
        CylLayerSpec spec = network->layers[0].spec;
        CylModel *model = values_of(network);
        spec.arrays = &(CylArray){.data = weights, .size = 16};
        spec.array_count = 1;
        CHECK_STATUS(cyl_model_add_layer(model, &spec), CYL_E_LAYOUT);
        cyl_model_free(model);
        network_free(network);
    }
}

static void values_missing_or_out_of_range_are_refused(void) {
    static const int32_t wrong[] = {-1, -2, 1000, INT32_MAX, INT32_MIN};
    for (int k = 0; k < NODE_KINDS; k++) {
        Network *network = one_layer(k);
        CylLayerSpec *spec = &network->layers[0].spec;
        for (int32_t p = 0; p < spec->input_count + spec->output_count; p++) {
            bool is_input = p < spec->input_count;
            CylPort *port =
                is_input ? &network->layers[0].inputs[p] : &network->layers[0].outputs[p - spec->input_count];
            CylPort saved = *port;
            for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
                port->value = wrong[w];
                CHECK(build(network) == CYL_E_VALUE, "%s with %s of index %d", layer_name(k), saved.role,
                      (int)wrong[w]);
                *port = saved;
            }
            if (strcmp(saved.role, "x") == 0 || strcmp(saved.role, "y") == 0) {
                port->role = "other";
                CHECK(build(network) == CYL_E_VALUE, "%s without %s", layer_name(k), saved.role);
                *port = saved;
            }
        }
        network_free(network);
    }
}

/* each port in turn given a value of each other kind, and one of other features */
static void values_of_another_kind_or_size_never_crash(void) {
    for (int k = 0; k < NODE_KINDS; k++) {
        for (int32_t p = 0; p < 2 * MOST_PORTS; p++) {
            for (int kind = CYL_SEQUENCE; kind <= CYL_STATE; kind++) {
                for (int32_t features = 4; features <= 6; features++) {
                    Network *network = one_layer(k);
                    CylLayerSpec *spec = &network->layers[0].spec;
                    bool is_input = p < spec->input_count;
                    if (p < spec->input_count + spec->output_count) {
                        CylPort *port = is_input ? &network->layers[0].inputs[p]
                                                 : &network->layers[0].outputs[p - spec->input_count];
                        CylValueKind before = network->kinds[port->value];
                        int32_t features_before = network->features[port->value];
                        port->value = network_value(network, (CylValueKind)kind, features);
                        network->axes[port->value] = kind == CYL_SEQUENCE ? 0 : -1;
                        CylStatus status = build(network);
                        /* nothing computes the value: even one of the right kind is of no use as an input, and as
                           an output it leaves the network's output without a layer */
                        CHECK(status == CYL_E_VALUE || status == CYL_E_TENSOR,
                              "%s with %s of kind %d and %d features (not %d, %d): %s", layer_name(k), port->role, kind,
                              (int)features, (int)before, (int)features_before, cyl_status_text(status));
                    }
                    network_free(network);
                }
            }
        }
    }
}

/* ---- wiring ---- */

static void finish_refuses_inputs_and_outputs_that_make_no_sense(void) {
    Network *network = one_layer(RECURRENT_KINDS); /* values: x, mask, y */
    int32_t other = network_value(network, CYL_SEQUENCE, 5), x = 0, mask = 1, y = 2, none = -1;
    const struct {
        int32_t input, mask, output;
    } wrong[] = {{-1, mask, y},  {100, mask, y}, {x, 100, y},      {x, -2, y},      {x, mask, -1},
                 {x, mask, 100}, {x, mask, x},   {x, mask, mask},  {y, none, y},    {mask, none, y},
                 {x, x, y},      {x, y, y},      {x, mask, other}, {other, mask, y}};
    for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
        CylModel *model = values_of(network);
        CHECK_STATUS(cyl_model_add_layer(model, &network->layers[0].spec), CYL_OK);
        CylStatus status = cyl_model_finish(model, &wrong[w].input, &wrong[w].mask, 1, &wrong[w].output, 1);
        CHECK(status == CYL_E_VALUE, "input %d, mask %d, output %d: %s", (int)wrong[w].input, (int)wrong[w].mask,
              (int)wrong[w].output, cyl_status_text(status));
        /* and the model is as it was */
        CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, &y, 1), CYL_OK);
        cyl_model_free(model);
    }
    CylModel *model = values_of(network);
    CHECK_STATUS(cyl_model_share_time(model, x, x), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_share_time(model, x, 100), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_share_time(model, -1, x), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, &y, 1), CYL_E_ARGUMENT); /* no layer */
    CHECK_STATUS(cyl_model_add_layer(model, &network->layers[0].spec), CYL_OK);
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 0, &y, 1), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, &y, 0), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, -1, &y, -1), CYL_E_ARGUMENT);
    int32_t twice[2] = {y, y}, inputs[2] = {x, x}, masks[2] = {mask, mask};
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, twice, 2), CYL_E_VALUE);
    CHECK_STATUS(cyl_model_finish(model, inputs, masks, 2, &y, 1), CYL_E_VALUE);
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, &y, 1), CYL_OK);
    int32_t index;
    CHECK_STATUS(cyl_model_finish(model, &x, &mask, 1, &y, 1), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_add_layer(model, &network->layers[0].spec), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_share_time(model, x, other), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_add_value(model, CYL_VECTOR, 1, &index), CYL_E_ARGUMENT);
    cyl_model_free(model);
    network_free(network);
}

static void layers_that_read_what_is_not_yet_computed_are_refused(void) {
    /* two dense layers in the wrong order, and one that reads what it writes */
    for (int is_loop = 0; is_loop < 2; is_loop++) {
        for (int is_vector = 0; is_vector < 2; is_vector++) {
            Network *network = network_create();
            int32_t x = network_input(network, is_vector ? CYL_VECTOR : CYL_SEQUENCE, 5, NULL);
            int32_t a = network_dense(network, x, 5, "relu"), b = network_dense(network, a, 5, "relu");
            network->layers[0].inputs[0].value = is_loop ? a : b;
            network_output(network, b);
            CHECK_STATUS(build(network), CYL_E_VALUE);
            network_free(network);
        }
    }
    /* a state, a merged value and a mask that nothing gives */
    for (int what = 0; what < 4; what++) {
        Network *network = network_create();
        RecurrentOptions options = PLAIN;
        int32_t x = network_input(network, CYL_SEQUENCE, 5, &options.mask);
        if (what == 0) {
            options.h0 = network_value(network, CYL_STATE, 5);
        } else if (what == 1) {
            options.c0 = network_value(network, CYL_VECTOR, 5);
        } else if (what == 2) {
            options.mask = network_value(network, CYL_MASK, 1);
            network->axes[options.mask] = 0;
        }
        int32_t y[2] = {network_recurrent(network, LSTM, x, 5, &options, NULL, NULL), -1};
        y[1] = what == 3 ? network_value(network, CYL_SEQUENCE, 5) : x;
        network_output(network, network_merge(network, "sum", y, 2));
        CHECK_STATUS(build(network), CYL_E_VALUE);
        network_free(network);
    }
    /* two layers that write one value, and one that writes an input */
    for (int is_input = 0; is_input < 2; is_input++) {
        Network *network = network_create();
        int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL);
        int32_t a = network_dense(network, x, 5, "relu");
        network_dense(network, x, 5, "relu");
        network->layers[1].outputs[0].value = is_input ? x : a;
        network_output(network, a);
        CHECK_STATUS(build(network), CYL_E_VALUE);
        network_free(network);
    }
}

static void sequences_of_two_lengths_do_not_mix(void) {
    for (int what = 0; what < 3; what++) {
        Network *network = network_create();
        RecurrentOptions options = PLAIN;
        int32_t mask, x = network_input(network, CYL_SEQUENCE, 5, &mask),
                      other = network_input(network, CYL_SEQUENCE, 5, &options.mask);
        if (what == 0) {
            network_output(network, network_merge(network, "sum", (int32_t[]){x, other}, 2));
        } else if (what == 1) { /* the other's mask */
            network_output(network, network_recurrent(network, GRU_BEFORE, x, 5, &options, NULL, NULL));
        } else {
            network_output(network, network_last(network, x, options.mask));
        }
        CHECK_STATUS(build(network), CYL_E_VALUE);
        network_free(network);
    }
    /* a whole sequence is no vector */
    Network *network = network_create();
    int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL), y = network_dense(network, x, 4, "relu");
    network->kinds[y] = CYL_VECTOR;
    network->axes[y] = -1;
    network_output(network, y);
    CHECK_STATUS(build(network), CYL_E_VALUE);
    network_free(network);
}

static void layers_and_inputs_that_nothing_reads_do_no_harm(void) {
    for (int k = 0; k < NODE_KINDS; k++) {
        Network *network = one_layer(k);
        int32_t x = network->inputs[0], unread = network_input(network, CYL_SEQUENCE, 3, NULL);
        (void)unread;
        network->output_count = 0;
        network_output(network, network_dense(network, x, 3, "relu"));
        CHECK(build(network) == CYL_OK, "%s", layer_name(k));
        network_free(network);
    }
}

/* ---- arguments ---- */

static void values_and_models_out_of_range_are_refused(void) {
    CylModel *model;
    int32_t index;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, &model), CYL_OK);
    CHECK_STATUS(cyl_model_add_value(model, CYL_SEQUENCE, 0, &index), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_add_value(model, CYL_SEQUENCE, -3, &index), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_add_value(model, (CylValueKind)5, 1, &index), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_add_value(model, (CylValueKind)-1, 1, &index), CYL_E_ARGUMENT);
    CHECK(cyl_model_state_size(model, 0) == -1 && cyl_model_state_size(model, -1) == -1, "no state");
    cyl_model_free(model);
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_COUNT, NULL, &model), CYL_E_ISA);
    CHECK(!model, "no model");
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, (CylIsa)-1, NULL, &model), CYL_E_ISA);
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, NULL, &model), CYL_E_BLAS);
    CylBlas blas = plain_blas();
    CHECK_STATUS(cyl_model_create((CylEngine)3, CYL_ISA_SCALAR, &blas, &model), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_model_create((CylEngine)-1, CYL_ISA_SCALAR, &blas, &model), CYL_E_ARGUMENT);
    blas.dgemm = 0;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_BLAS64, CYL_ISA_SCALAR, &blas, &model), CYL_E_BLAS);
    blas.sgemv = 0;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, &blas, &model), CYL_E_BLAS);
    cyl_model_free(NULL);
    cyl_stream_free(NULL);
    CHECK(cyl_isa_available(CYL_ISA_SCALAR) && !cyl_isa_available(CYL_ISA_COUNT), "scalar code is everywhere");
    CHECK(cyl_isa_available(cyl_isa_best()), "the best can be run");
    CHECK(!cyl_isa_fuses(CYL_ISA_COUNT), "no set beyond the last");
    for (int isa = CYL_ISA_SCALAR + 1; isa < CYL_ISA_COUNT; isa++) {
        /* SSE2 has it where the compiler may use FMA everywhere */
        CHECK(isa == CYL_ISA_SSE2 || !cyl_isa_fuses((CylIsa)isa) == !cyl_isa_available((CylIsa)isa),
              "vector sets but SSE2 have multiply-add");
    }
    CHECK(strcmp(cyl_isa_name(CYL_ISA_COUNT), "unknown") == 0, "a name for each set");
}

static int say_yes(void *context) {
    (void)context;
    return 1;
}

static void calls_out_of_range_are_refused(void) {
    Network *network = one_layer(LSTM);
    CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
    float x[6 * 5] = {0}, y[6 * 5], h[2 * 5], c[2 * 5];
    const void *input = x;
    void *outputs[3] = {y, h, c};
    int64_t time = 3;
    const CylCall good = {.rows = 2, .times = &time, .inputs = &input, .outputs = outputs, .threads = 1};
    CHECK_STATUS(cyl_predict(model, &good), CYL_OK);
    CylStream *stream;
    CHECK_STATUS(cyl_stream_create(model, 2, 1, &stream), CYL_OK);
    CHECK_STATUS(cyl_stream_run(stream, &good), CYL_OK);
    static const int64_t rows[] = {0, -1, INT64_MIN};
    static const int threads[] = {0, -1, CYL_MAX_THREADS + 1, INT32_MAX};
    CylCall call = good;
    for (int i = 0; i < 3; i++) {
        call.rows = rows[i];
        CHECK_STATUS(cyl_predict(model, &call), CYL_E_ARGUMENT);
        CHECK_STATUS(cyl_stream_run(stream, &call), CYL_E_ARGUMENT);
        CylStream *none;
        CHECK_STATUS(cyl_stream_create(model, rows[i], 1, &none), CYL_E_ARGUMENT);
        CHECK(!none, "no stream");
    }
    cyl_stop_ask_always(true);
    call = good;
    call.should_stop = say_yes;
    CHECK_STATUS(cyl_predict(model, &call), CYL_E_STOPPED);
    cyl_stop_ask_always(false);
    call.rows = 3; /* not the stream's */
    CHECK_STATUS(cyl_stream_run(stream, &call), CYL_E_ARGUMENT);
    call = good;
    for (int i = 0; i < 4; i++) {
        call.threads = threads[i];
        CHECK_STATUS(cyl_predict(model, &call), CYL_E_ARGUMENT);
        CylStream *none;
        CHECK_STATUS(cyl_stream_create(model, 2, threads[i], &none), CYL_E_ARGUMENT);
    }
    call = good;
    for (time = 0; time > -3; time--) {
        CHECK_STATUS(cyl_predict(model, &call), CYL_E_ARGUMENT);
        CHECK_STATUS(cyl_stream_run(stream, &call), CYL_E_ARGUMENT);
    }
    CylStream *other;
    CHECK_STATUS(cyl_stream_create(model, 3, 1, &other), CYL_OK);
    static const int64_t own[] = {1, 0}, beyond[] = {0, 2}, before[] = {-1, 0};
    CHECK_STATUS(cyl_stream_reset_rows(stream, own, 2), CYL_OK);
    CHECK_STATUS(cyl_stream_reset_rows(stream, beyond, 2), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_reset_rows(stream, before, 2), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_reset_rows(stream, own, -1), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_copy_rows(stream, own, other, beyond, 2), CYL_OK);
    CHECK_STATUS(cyl_stream_copy_rows(stream, beyond, other, own, 2), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_copy_rows(stream, own, other, before, 2), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_copy_rows(stream, own, other, own, -1), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_copy_rows(stream, own, stream, own, 2), CYL_E_ARGUMENT);
    cyl_stream_free(other);
    CylModel *twin = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
    CHECK_STATUS(cyl_stream_create(twin, 2, 1, &other), CYL_OK);
    CHECK_STATUS(cyl_stream_copy_rows(stream, own, other, own, 2), CYL_E_ARGUMENT);
    cyl_stream_free(other);
    cyl_model_free(twin);
    static const int64_t huge[] = {(int64_t)1 << 46, (int64_t)1 << 55, INT64_MAX / 8, INT64_MAX};
    for (int i = 0; i < 4; i++) {
        CylStream *none;
        CHECK_STATUS(cyl_stream_create(model, huge[i], 1, &none), CYL_E_MEMORY);
        CHECK(!none, "no stream");
    }
    cyl_stream_free(stream);
    cyl_model_free(model);

    model = values_of(network); /* not finished */
    CHECK_STATUS(cyl_predict(model, &good), CYL_E_ARGUMENT);
    CHECK_STATUS(cyl_stream_create(model, 1, 1, &stream), CYL_E_ARGUMENT);
    cyl_model_free(model);
    network_free(network);
}

static void models_that_cannot_stream_say_so(void) {
    for (int what = 0; what < 2; what++) {
        Network *network = network_create();
        RecurrentOptions options = PLAIN;
        options.is_reverse = what == 0;
        if (what == 1) {
            options.h0 = network_input(network, CYL_STATE, 4, NULL);
        }
        int32_t x = network_input(network, CYL_SEQUENCE, 5, NULL);
        network_output(network, network_recurrent(network, LSTM, x, 4, &options, NULL, NULL));
        CylModel *model = network_model(network, CYL_ENGINE_PACKED, CYL_ISA_SCALAR);
        CylStream *stream;
        CHECK_STATUS(cyl_stream_create(model, 1, 1, &stream), CYL_E_STREAM);
        cyl_model_free(model);
        network_free(network);
    }
}

/* ---- a stream entered twice: a BLAS function that calls back is inside it for certain ---- */

static CylStream *entered, *idle;
static int calls_back;
static int blas_threads = 4;

static int get_threads(void) { return blas_threads; }
static void set_threads(int threads) { blas_threads = threads; }

static void gemv(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                 float beta, float *y, int incy) {
    CylBlas blas = plain_blas();
    ((void (*)(int, int, int, int, float, const float *, int, const float *, int, float, float *, int))blas.sgemv)(
        order, trans, m, n, alpha, a, lda, x, incx, beta, y, incy);
    calls_back++;
    CHECK(blas_threads == 1, "the BLAS has %d threads", blas_threads);
    float values[5];
    uint8_t flags[1] = {0};
    int64_t time = 1;
    const void *input = values;
    void *outputs[3] = {values, values, values};
    CylCall call = {.rows = 1, .times = &time, .inputs = &input, .outputs = outputs, .threads = 1};
    CHECK_STATUS(cyl_stream_run(entered, &call), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_reset(entered), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_carry(entered, flags), CYL_E_BUSY);
    int64_t row = 0;
    CHECK_STATUS(cyl_stream_reset_rows(entered, &row, 1), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_copy_rows(entered, &row, idle, &row, 1), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_copy_rows(idle, &row, entered, &row, 1), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_reset_rows(idle, &row, 1), CYL_OK); /* neither attempt holds it */
    CHECK_STATUS(get_state(entered, 0, values), CYL_E_BUSY);
    CHECK_STATUS(set_state(entered, 0, values), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_save(entered, &(CylStreamState){.flags = flags}), CYL_E_BUSY);
    CHECK_STATUS(cyl_stream_restore(entered, &(CylStreamState){.flags = flags}), CYL_E_BUSY);
}

static void a_stream_that_is_running_is_busy(void) {
    Network *network = one_layer(LSTM);
    CylModel *model;
    CylBlas blas = plain_blas();
    blas.sgemv = (uintptr_t)gemv;
    blas.get_threads = (uintptr_t)get_threads;
    blas.set_threads = (uintptr_t)set_threads;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_BLAS32, CYL_ISA_SCALAR, &blas, &model), CYL_OK);
    int32_t index;
    for (int32_t v = 0; v < network->value_count; v++) {
        CHECK_STATUS(cyl_model_add_value(model, network->kinds[v], network->features[v], &index), CYL_OK);
    }
    CHECK_STATUS(cyl_model_add_layer(model, &network->layers[0].spec), CYL_OK);
    CHECK_STATUS(cyl_model_finish(model, network->inputs, network->masks, 1, network->outputs, 3), CYL_OK);
    CHECK_STATUS(cyl_stream_create(model, 1, 1, &entered), CYL_OK);
    CHECK_STATUS(cyl_stream_create(model, 1, 1, &idle), CYL_OK);
    float x[5] = {1, 2, 3, 4, 5}, y[5], h[5], c[5];
    const void *input = x;
    void *outputs[3] = {y, h, c};
    int64_t time = 1;
    CylCall call = {.rows = 1, .times = &time, .inputs = &input, .outputs = outputs, .threads = 1};
    for (int step = 0; step < 3; step++) {
        CHECK_STATUS(cyl_stream_run(entered, &call), CYL_OK);
    }
    CHECK(calls_back > 0, "the BLAS was called");
    CHECK(blas_threads == 4, "the BLAS has %d threads afterwards", blas_threads);
    CHECK_STATUS(cyl_stream_reset(entered), CYL_OK);
    cyl_stream_free(entered);
    cyl_stream_free(idle);
    cyl_model_free(model);
    network_free(network);
}

/* windows of two steps over an embedding of five rows */
static void indices_and_steps_that_do_not_fit_are_refused(void) {
    float table[5 * 3] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, y[6 * 3], expected[3] = {7, 8, 9};
    const int32_t shapes[3][2] = {{0, 0}, {0, 3}, {0, 3}};
    const CylValueKind kinds[3] = {CYL_INDEX, CYL_SEQUENCE, CYL_SEQUENCE};
    CylPort ports[4] = {{"indices", 0}, {"y", 1}, {"x", 1}, {"y", 2}};
    CylTensor weight = {"weight", table, 2, {5, 3}, NULL};
    CylOption options[9] = {{"mode", "max", 0},      {"count_include_pad", NULL, 0}, {"pool", NULL, 2},
                            {"stride", NULL, 2},     {"dilation", NULL, 1},          {"padding", "valid", 0},
                            {"pad_before", NULL, 0}, {"pad_after", NULL, 0},         {"axis", NULL, 0}};
    CylLayerSpec specs[2] = {{"embedding", &ports[0], &ports[1], NULL, &weight, 1, 1, 0, 1, NULL, 0},
                             {"pool1d", &ports[2], &ports[3], options, NULL, 1, 1, 9, 0, NULL, 0}};
    CylModel *model;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, &model), CYL_OK);
    int32_t index, input = 0, output = 2, none = -1;
    for (int v = 0; v < 3; v++) {
        CHECK_STATUS(cyl_model_add_tensor(model, kinds[v], shapes[v], v ? 2 : 1, &index), CYL_OK);
    }
    CHECK_STATUS(cyl_model_add_layer(model, &specs[0]), CYL_OK);
    CHECK_STATUS(cyl_model_add_layer(model, &specs[1]), CYL_OK);
    CHECK_STATUS(cyl_model_finish(model, &input, &none, 1, &output, 1), CYL_OK);
    CHECK(cyl_model_step_multiple(model) == 2, "a stream takes two steps at once");
    int32_t indices[4] = {0, 2, 1, 0};
    const void *given = indices;
    void *written = y;
    int64_t time = 2;
    CylCall call = {.rows = 1, .times = &time, .inputs = &given, .outputs = &written, .threads = 1};
    CylStream *one;
    CHECK_STATUS(cyl_stream_create(model, 1, 1, &one), CYL_OK);
    CHECK_STATUS(cyl_predict(model, &call), CYL_OK);
    CHECK(memcmp(y, expected, sizeof expected) == 0, "the larger row");
    CHECK_STATUS(cyl_stream_run(one, &call), CYL_OK);
    for (int wrong = -1; wrong <= 5; wrong += 6) {
        indices[1] = wrong;
        CHECK_STATUS(cyl_predict(model, &call), CYL_E_INDEX);
        CHECK_STATUS(cyl_stream_run(one, &call), CYL_E_INDEX);
    }
    indices[1] = 2;
    time = 1;
    CHECK_STATUS(cyl_predict(model, &call), CYL_E_TIME);
    time = 3;
    CHECK_STATUS(cyl_predict(model, &call), CYL_OK);
    CHECK_STATUS(cyl_stream_run(one, &call), CYL_E_TIME);
    cyl_stream_free(one);
    cyl_model_free(model);
}

/* a group normalisation of six channels: `number` for the option at `place` */
static CylStatus add_group_norm(CylModel *model, int place, double number) {
    CylPort x = {"x", 0}, y = {"y", 1};
    CylOption options[2] = {{"groups", NULL, 3}, {"epsilon", NULL, 1e-3}};
    options[place].number = number;
    const CylLayerSpec spec = {"group_norm", &x, &y, options, NULL, 1, 1, 2, 0, NULL, 0};
    return cyl_model_add_layer(model, &spec);
}

static void numbers_of_options_that_make_no_sense_are_refused(void) {
    CylModel *model;
    CHECK_STATUS(cyl_model_create(CYL_ENGINE_PACKED, CYL_ISA_SCALAR, NULL, &model), CYL_OK);
    const int32_t shape[2] = {0, 6};
    int32_t index;
    for (int v = 0; v < 2; v++) {
        CHECK_STATUS(cyl_model_add_tensor(model, CYL_SEQUENCE, shape, 2, &index), CYL_OK);
    }
    const double no_groups[] = {2.5, 0.0, -3.0, 1e18, INFINITY, NAN};
    for (int k = 0; k < 6; k++) {
        CHECK(add_group_norm(model, 0, no_groups[k]) == CYL_E_OPTION, "%g groups", no_groups[k]);
    }
    const double no_epsilon[] = {-1e-3, 1e31, INFINITY, NAN};
    for (int k = 0; k < 4; k++) {
        CHECK(add_group_norm(model, 1, no_epsilon[k]) == CYL_E_OPTION, "an epsilon of %g", no_epsilon[k]);
    }
    CHECK_STATUS(add_group_norm(model, 0, 4.0), CYL_E_VALUE); /* which six channels do not divide into */
    CHECK_STATUS(add_group_norm(model, 0, 3.0), CYL_OK);
    cyl_model_free(model);
}

/* last: the others have met what can be met */
static void every_code_has_words_and_was_met(void) {
    for (int status = 0; status < CYL_STATUS_COUNT; status++) {
        const char *text = cyl_status_text((CylStatus)status);
        CHECK(text && *text && strcmp(text, cyl_status_text(CYL_STATUS_COUNT)) != 0, "code %d has no text", status);
        CHECK(met[status], "\"%s\" was not met", text);
        for (int other = 0; other < status; other++) {
            CHECK(strcmp(text, cyl_status_text((CylStatus)other)) != 0, "codes %d and %d", status, other);
        }
    }
    CHECK(cyl_status_text((CylStatus)-1) && cyl_status_text((CylStatus)1000), "words for codes that are none");
}

int main(void) {
    cyl_threads_patience(INT64_MAX);
    RUN(the_networks_to_spoil_can_be_built);
    RUN(an_unknown_operation_is_refused);
    RUN(options_missing_or_unknown_are_refused);
    RUN(a_bias_that_the_layer_has_no_place_for_is_refused);
    RUN(tensors_missing_or_of_another_shape_are_refused);
    RUN(an_output_that_the_layer_does_not_write_is_refused);
    RUN(a_tensor_that_is_there_twice_is_refused);
    RUN(weights_that_their_type_cannot_hold_are_refused);
    RUN(a_refused_layer_leaves_the_model_as_it_was);
    RUN(packed_arrays_of_another_size_are_refused);
    RUN(values_missing_or_out_of_range_are_refused);
    RUN(values_of_another_kind_or_size_never_crash);
    RUN(finish_refuses_inputs_and_outputs_that_make_no_sense);
    RUN(layers_that_read_what_is_not_yet_computed_are_refused);
    RUN(sequences_of_two_lengths_do_not_mix);
    RUN(layers_and_inputs_that_nothing_reads_do_no_harm);
    RUN(values_and_models_out_of_range_are_refused);
    RUN(calls_out_of_range_are_refused);
    RUN(models_that_cannot_stream_say_so);
    RUN(a_stream_that_is_running_is_busy);
    RUN(indices_and_steps_that_do_not_fit_are_refused);
    RUN(numbers_of_options_that_make_no_sense_are_refused);
    RUN(every_code_has_words_and_was_met);
    return check_result();
}
