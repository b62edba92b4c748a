/*
 * Convolutions over rows and columns against the sum written out in double: windows inside the image, across its edges
 * and beyond them, on every instruction set and number of threads, in one piece and in many.
 */
#include "cylstm.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3 };

/* one layer; sizes with index 0 are of rows, with 1 of columns */
typedef struct {
    int32_t input[2], kernel[2], stride[2], dilation[2], before[2], after[2];
    int32_t channels, filters, groups;
    bool is_causal, is_framed; /* framed: BATCH frames, each of input[0] rows */
    int32_t output[2];
    float *weight, *bias, *x; /* owned */
} Case;

static int32_t random_whole(int32_t least, int32_t most) {
    return least + (int32_t)(random_bits() % (uint32_t)(most - least + 1));
}

static float *random_numbers(int64_t count) {
    float *numbers = need((size_t)count * sizeof *numbers);
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = random_float(1.0f);
    }
    return numbers;
}

static int64_t x_size(const Case *c) {
    return (int64_t)c->input[0] * c->input[1] * c->channels * (c->is_framed ? BATCH : 1);
}
static int64_t y_size(const Case *c) {
    return (int64_t)c->output[0] * c->output[1] * c->filters * (c->is_framed ? BATCH : 1);
}

/* a random layer; of depthwise ones there are as many as of others, some of them such that neighbours share inputs */
static Case case_create(int number) {
    Case c = {.is_causal = number % 3 == 0, .is_framed = number % 4 == 3};
    const bool shares = number % 8 == 5;
    const int32_t per_group = number % 2 ? 1 : random_whole(1, 9);
    const int32_t units = shares ? 1 : random_whole(1, number % 5 ? 5 : 70);
    c.groups = shares            ? random_whole(16, 37)
               : number % 2      ? random_whole(2, 37)
               : number % 8 == 0 ? random_whole(2, 3)
                                 : 1;
    c.channels = c.groups * per_group;
    c.filters = c.groups * units;
    for (int axis = 0; axis < 2; axis++) {
        c.kernel[axis] = random_whole(1, 4);
        c.stride[axis] = random_whole(1, 3);
        c.dilation[axis] = random_whole(1, 3);
        if (axis == 1 && shares) {
            c.kernel[axis] = 3;
            c.dilation[axis] = c.stride[axis];
        }
        const int32_t reach = (c.kernel[axis] - 1) * c.dilation[axis] + 1;
        c.before[axis] = number % 7 ? random_whole(0, reach - 1) : random_whole(0, 12);
        c.after[axis] = number % 7 ? random_whole(0, reach - 1) : random_whole(0, 12);
        if (axis == 0 && c.is_causal) {
            c.before[axis] = reach - 1;
            c.after[axis] = 0;
        }
        /* now and then more columns or rows than are computed at once */
        c.input[axis] = random_whole(1, number % 6 == 2 * (1 - axis) || (axis == 1 && shares) ? 80 : 9);
        if (axis == 0 && c.is_causal) {
            c.input[axis] *= c.stride[axis]; /* whole pieces of a stream */
        }
        if (c.input[axis] + c.before[axis] + c.after[axis] < reach) {
            c.input[axis] = reach;
        }
        c.output[axis] = (c.input[axis] + c.before[axis] + c.after[axis] - reach) / c.stride[axis] + 1;
    }
    c.weight = random_numbers((int64_t)c.filters * c.kernel[0] * c.kernel[1] * per_group);
    c.bias = random_numbers(c.filters);
    c.x = random_numbers(BATCH * x_size(&c));
    return c;
}

static void case_free(Case *c) {
    free(c->weight);
    free(c->bias);
    free(c->x);
}

/* output f of one image at (row, column) */
static double output_of(const Case *c, const float *image, int32_t row, int32_t column, int32_t f) {
    const int32_t per_group = c->channels / c->groups, first = f / (c->filters / c->groups) * per_group;
    double sum = (double)c->bias[f];
    const float *w = c->weight + (int64_t)f * c->kernel[0] * c->kernel[1] * per_group;
    for (int32_t i = 0; i < c->kernel[0]; i++) {
        for (int32_t j = 0; j < c->kernel[1]; j++, w += per_group) {
            const int32_t r = row * c->stride[0] + i * c->dilation[0] - c->before[0];
            const int32_t q = column * c->stride[1] + j * c->dilation[1] - c->before[1];
            for (int32_t k = 0; k < per_group && r >= 0 && r < c->input[0] && q >= 0 && q < c->input[1]; k++) {
                sum += (double)w[k] * (double)image[((int64_t)r * c->input[1] + q) * c->channels + first + k];
            }
        }
    }
    return sum > 0 ? sum : 0; /* relu */
}

/* ends the program if it cannot be built */
static CylModel *build(const Case *c, CylEngine engine, CylIsa isa) {
    const CylBlas blas = plain_blas();
    const int32_t framed = c->is_framed, rank = 3 + framed, none = -1, zero = 0, one = 1;
    const int32_t from[] = {0, c->input[0], c->input[1], c->channels},
                  to[] = {0, c->output[0], c->output[1], c->filters};
    const int32_t time_from[] = {0, c->input[1], c->channels}, time_to[] = {0, c->output[1], c->filters};
    const CylPort x = {"x", 0}, y = {"y", 1};
    const CylTensor tensors[] = {
        {"weight", NULL, 4, {c->filters, c->kernel[0], c->kernel[1], c->channels / c->groups}, NULL},
        {"bias", NULL, 1, {c->filters}, NULL}};
    const CylOption options[] = {{"activation", "relu", 0.0},
                                 {"groups", NULL, c->groups},
                                 {"stride_rows", NULL, c->stride[0]},
                                 {"stride_columns", NULL, c->stride[1]},
                                 {"dilation_rows", NULL, c->dilation[0]},
                                 {"dilation_columns", NULL, c->dilation[1]},
                                 {"padding", c->is_causal ? "causal" : "explicit", 0.0},
                                 {"pad_before", NULL, c->is_causal ? 0 : c->before[0]},
                                 {"pad_after", NULL, c->is_causal ? 0 : c->after[0]},
                                 {"pad_left", NULL, c->before[1]},
                                 {"pad_right", NULL, c->after[1]}};
    const CylLayerSpec spec = {.kind = "conv2d",
                               .inputs = &x,
                               .outputs = &y,
                               .options = options,
                               .tensors = tensors,
                               .input_count = 1,
                               .output_count = 1,
                               .option_count = sizeof options / sizeof *options,
                               .tensor_count = 2};
    CylModel *model;
    int32_t index;
    double *wide = NULL;
    const void *weight = c->weight, *bias = c->bias;
    const int64_t weights = (int64_t)c->filters * c->kernel[0] * c->kernel[1] * (c->channels / c->groups);
    if (engine == CYL_ENGINE_BLAS64) {
        wide = need((size_t)(weights + c->filters) * sizeof *wide);
        for (int64_t i = 0; i < weights + c->filters; i++) {
            wide[i] = i < weights ? (double)c->weight[i] : (double)c->bias[i - weights];
        }
        weight = wide;
        bias = wide + weights;
    }
    CylStatus status = cyl_model_create(engine, isa, &blas, &model);
    if (status == CYL_OK) {
        status = cyl_model_add_tensor(model, CYL_SEQUENCE, framed ? from : time_from, rank, &index);
    }
    if (status == CYL_OK) {
        status = cyl_model_add_tensor(model, CYL_SEQUENCE, framed ? to : time_to, rank, &index);
    }
    if (status == CYL_OK) {
        status = cyl_model_add_layer(model, &spec);
    }
    if (status == CYL_OK) {
        status = cyl_model_write_tensor(model, 0, "weight", 0, c->filters, weight);
    }
    if (status == CYL_OK) {
        status = cyl_model_write_tensor(model, 0, "bias", 0, c->filters, bias);
    }
    if (status == CYL_OK) {
        status = cyl_model_finish(model, &zero, &none, 1, &one, 1);
    }
    free(wide);
    if (status != CYL_OK) {
        printf("no model: %s\n", cyl_status_text(status));
        exit(1);
    }
    return model;
}

/* y of BATCH rows, owned by the caller */
static float *predict_case(const Case *c, const CylModel *model, int threads) {
    const int64_t time = c->is_framed ? BATCH : c->input[0];
    float *y = need((size_t)(BATCH * y_size(c)) * sizeof *y);
    const void *input = c->x;
    void *output = y;
    const CylCall call = {.rows = BATCH, .times = &time, .inputs = &input, .outputs = &output, .threads = threads};
    CylStatus status = cyl_predict(model, &call);
    CHECK(status == CYL_OK, "%s", cyl_status_text(status));
    int64_t steps = 0;
    CHECK(cyl_model_steps(model, &time, 0, &steps) == CYL_OK && steps == (c->is_framed ? BATCH : c->output[0]),
          "%d steps", (int)steps);
    return y;
}

static void check_numbers(const Case *c, const float *y, const char *what, int number) {
    const int64_t images = BATCH * (c->is_framed ? BATCH : 1),
                  pixels = (int64_t)c->input[0] * c->input[1] * c->channels;
    double most = 0;
    for (int64_t n = 0, at = 0; n < images; n++) {
        for (int32_t row = 0; row < c->output[0]; row++) {
            for (int32_t column = 0; column < c->output[1]; column++) {
                for (int32_t f = 0; f < c->filters; f++, at++) {
                    double wanted = output_of(c, c->x + n * pixels, row, column, f);
                    most = fmax(most, fabs((double)y[at] - wanted));
                }
            }
        }
    }
    CHECK(most < 1e-5, "case %d, %s: an error of %g", number, what, most);
}

static void check_pieces(const Case *c, const CylModel *model, const float *wanted, int number) {
    static const int64_t pieces[] = {1, 3, 2};
    const int64_t x_row = (int64_t)c->input[1] * c->channels, y_row = (int64_t)c->output[1] * c->filters;
    const size_t x_bytes = (size_t)x_row * sizeof(float), y_bytes = (size_t)y_row * sizeof(float);
    for (int threads = 1; threads <= 3; threads += 2) {
        CylStream *stream;
        CHECK(cyl_stream_create(model, BATCH, threads, &stream) == CYL_OK, "case %d: a stream", number);
        float *x = need((size_t)BATCH * (size_t)c->input[0] * x_bytes),
              *y = need((size_t)BATCH * (size_t)c->output[0] * y_bytes);
        bool is_same = true;
        for (int64_t at = 0, i = 0, steps; at < c->output[0]; at += steps, i++) {
            steps = pieces[i % 3] < c->output[0] - at ? pieces[i % 3] : c->output[0] - at;
            const int64_t time = steps * c->stride[0];
            for (int64_t n = 0; n < BATCH; n++) {
                memcpy(x + n * time * x_row, c->x + (n * c->input[0] + at * c->stride[0]) * x_row,
                       (size_t)time * x_bytes);
            }
            const void *input = x;
            void *output = y;
            const CylCall call = {
                .rows = BATCH, .times = &time, .inputs = &input, .outputs = &output, .threads = threads};
            CHECK(cyl_stream_run(stream, &call) == CYL_OK, "case %d: a piece", number);
            for (int64_t n = 0; n < BATCH; n++) {
                is_same = is_same && memcmp(y + n * steps * y_row, wanted + (n * c->output[0] + at) * y_row,
                                            (size_t)steps * y_bytes) == 0;
            }
        }
        CHECK(is_same, "case %d: pieces on %d threads", number, threads);
        free(x);
        free(y);
        cyl_stream_free(stream);
    }
}

static void they_are_right_and_the_same_bits_everywhere(void) {
    for (int number = 0; number < 60; number++) {
        random_seed((uint64_t)number + 1);
        Case c = case_create(number);
        CylModel *model = build(&c, CYL_ENGINE_PACKED, cyl_isa_best());
        float *wanted = predict_case(&c, model, 1);
        const size_t bytes = (size_t)(BATCH * y_size(&c)) * sizeof *wanted;
        check_numbers(&c, wanted, "packed", number);
        if (c.is_causal && !c.is_framed) {
            check_pieces(&c, model, wanted, number);
        }
        cyl_model_free(model);
        for (int isa = 0; isa < CYL_ISA_COUNT; isa++) {
            if (!cyl_isa_available((CylIsa)isa)) {
                continue;
            }
            model = build(&c, CYL_ENGINE_PACKED, (CylIsa)isa);
            for (int threads = 1; threads <= 4; threads += 3) {
                float *y = predict_case(&c, model, threads);
                CHECK(memcmp(y, wanted, bytes) == 0, "case %d on %s, %d threads", number, cyl_isa_name((CylIsa)isa),
                      threads);
                free(y);
            }
            cyl_model_free(model);
        }
        model = build(&c, CYL_ENGINE_BLAS32, cyl_isa_best());
        float *y = predict_case(&c, model, 2);
        check_numbers(&c, y, "BLAS", number);
        free(y);
        free(wanted);
        cyl_model_free(model);
        case_free(&c);
    }
}

/* ---- what is refused ---- */

/* adds conv2d between values of the shapes `from` and `to`, with a kernel of these rows and columns */
static CylStatus add(const int32_t *from, const int32_t *to, int64_t rows, int64_t columns, double dilation,
                     const char *padding) {
    CylModel *model;
    int32_t index;
    const CylPort x = {"x", 0}, y = {"y", 1};
    const CylTensor weight = {"weight", NULL, 4, {to[2], rows, columns, from[2]}, NULL};
    const CylOption options[] = {{"activation", "linear", 0.0},     {"groups", NULL, 1.0},
                                 {"stride_rows", NULL, 1.0},        {"stride_columns", NULL, 1.0},
                                 {"dilation_rows", NULL, dilation}, {"dilation_columns", NULL, 1.0},
                                 {"padding", padding, 0.0},         {"pad_before", NULL, 0.0},
                                 {"pad_after", NULL, 0.0},          {"pad_left", NULL, 0.0},
                                 {"pad_right", NULL, 0.0}};
    const CylLayerSpec spec = {"conv2d", &x, &y, options, &weight, 1, 1, 11, 1, NULL, 0};
    CHECK(cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model) == CYL_OK, "model");
    CHECK(cyl_model_add_tensor(model, CYL_SEQUENCE, from, 3, &index) == CYL_OK, "x");
    CHECK(cyl_model_add_tensor(model, CYL_SEQUENCE, to, 3, &index) == CYL_OK, "y");
    CylStatus status = cyl_model_add_layer(model, &spec);
    cyl_model_free(model);
    return status;
}

static void hostile_sizes_are_refused(void) {
    const int32_t x[] = {0, 9, 2}, y[] = {0, 7, 4}, wide[] = {0, 1 << 20, 1 << 8}, wide_y[] = {0, 1 << 20, 1};
    CHECK(add(x, y, 3, 3, 1, "causal") == CYL_OK, "as it should be");
    CHECK(add(x, x, 3, 3, 1, "causal") == CYL_E_VALUE, "columns that do not follow");
    CHECK(add(x, y, 3, 3, 1, "full") == CYL_E_OPTION, "no such padding");
    CHECK(add(x, y, 1 << 20, 3, 1, "valid") == CYL_E_TENSOR, "too many taps");
    CHECK(add(x, y, 1 << 20, 1 << 20, 1, "valid") == CYL_E_TENSOR, "taps beyond 2^32");
    CHECK(add(x, y, 1 << 10, 3, 1 << 20, "causal") == CYL_E_OPTION, "a reach of 2^30");
    CHECK(add(wide, wide_y, 3, 1, 1, "causal") == CYL_E_OPTION, "a history of 2^29 numbers");
    CHECK(add(wide, wide_y, 3, 1, 1, "valid") == CYL_OK, "none");
}

static void steps_of_an_output_are_refused_where_there_are_none(void) {
    int64_t steps, time = 0, too_few = 0;
    Case c;
    for (int number = 1; too_few < 1; number += 12) { /* whose rows are the time, and not causal */
        if (number > 1) {
            case_free(&c);
        }
        random_seed((uint64_t)number);
        c = case_create(number);
        too_few = (c.kernel[0] - 1) * c.dilation[0] - c.before[0] - c.after[0];
    }
    CylModel *model = build(&c, CYL_ENGINE_PACKED, cyl_isa_best());
    CHECK(cyl_model_steps(model, &time, 0, &steps) == CYL_E_ARGUMENT, "an input without steps");
    CHECK(cyl_model_steps(model, &too_few, 0, &steps) == CYL_E_TIME, "%d steps", (int)too_few);
    time = c.input[0];
    CHECK(cyl_model_steps(model, &time, 0, &steps) == CYL_OK && steps == c.output[0], "%d steps", (int)steps);
    CHECK(cyl_model_steps(model, &time, 1, &steps) == CYL_E_ARGUMENT, "no such output");
    CHECK(cyl_model_steps(model, &time, -1, &steps) == CYL_E_ARGUMENT, "no output");
    cyl_model_free(model);
    case_free(&c);
}

int main(void) {
    RUN(they_are_right_and_the_same_bits_everywhere);
    RUN(steps_of_an_output_are_refused_where_there_are_none);
    RUN(hostile_sizes_are_refused);
    return check_result();
}
