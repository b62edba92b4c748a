/*
 * Transposed convolutions over time and over rows and columns against the numbers added one by one in double: strides
 * and dilations with and without gaps, what is cut off and what is added, on every instruction set and number of
 * threads, in one piece and in many.
 */
#include "cylstm.h"
#include "check.h"
#include "network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 3 };

/* one layer; sizes with index 0 are of the time or the rows, with 1 of the columns, 1 where there are none */
typedef struct {
    int32_t input[2], kernel[2], stride[2], dilation[2], before[2], after[2], more[2], output[2];
    int32_t channels, filters, groups;
    bool is_flat, is_framed, is_in_pieces; /* framed: BATCH frames; flat: without columns */
    float *weight, *bias, *x;              /* owned */
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

static int64_t images_of(const Case *c) { return BATCH * (c->is_framed ? BATCH : 1); }
static int64_t x_size(const Case *c) { return (int64_t)c->input[0] * c->input[1] * c->channels; }
static int64_t y_size(const Case *c) { return (int64_t)c->output[0] * c->output[1] * c->filters; }

static Case case_create(int number) {
    Case c = {.is_flat = number % 2, .is_framed = number % 5 == 4};
    c.is_in_pieces = number % 3 == 0 && !c.is_framed;
    c.groups = number % 4 == 2 ? random_whole(2, 5) : 1;
    c.channels = c.groups * random_whole(1, 9);
    c.filters = c.groups * random_whole(1, number % 7 ? 5 : 70);
    for (int axis = 0; axis < 2; axis++) {
        const bool is_none = axis == 1 && c.is_flat;
        c.kernel[axis] = is_none ? 1 : random_whole(1, number % 6 ? 5 : 20);
        c.stride[axis] = is_none ? 1 : random_whole(1, 4);
        c.dilation[axis] = is_none ? 1 : random_whole(1, 3);
        c.input[axis] = is_none ? 1 : random_whole(1, axis == 1 && number % 6 == 0 ? 80 : 9);
        c.more[axis] = is_none ? 0 : random_whole(0, 3);
        const int32_t reach = (c.kernel[axis] - 1) * c.dilation[axis] + 1;
        if (axis == 0 && c.is_in_pieces) { /* as many outputs as the stride for each step */
            c.more[axis] = reach < c.stride[axis] ? c.stride[axis] - reach : 0;
            c.after[axis] = reach - c.stride[axis] + c.more[axis];
        } else if (!is_none) {
            const int32_t whole = (c.input[axis] - 1) * c.stride[axis] + reach + c.more[axis];
            c.before[axis] = random_whole(0, (whole - 1) / 2);
            c.after[axis] = random_whole(0, (whole - 1) / 2);
        }
        c.output[axis] = (c.input[axis] - 1) * c.stride[axis] + reach + c.more[axis] - c.before[axis] - c.after[axis];
    }
    c.weight = random_numbers((int64_t)c.filters * c.kernel[0] * c.kernel[1] * (c.channels / c.groups));
    c.bias = random_numbers(c.filters);
    c.x = random_numbers(images_of(&c) * x_size(&c));
    return c;
}

static void case_free(Case *c) {
    free(c->weight);
    free(c->bias);
    free(c->x);
}

/* adds what one number of x, channel k of its group, gives to the outputs that its taps reach */
static void scatter(const Case *c, double x, int32_t row, int32_t column, int32_t group, int32_t k, double *y) {
    const int32_t per_group = c->channels / c->groups, units = c->filters / c->groups;
    for (int32_t i = 0; i < c->kernel[0]; i++) {
        for (int32_t j = 0; j < c->kernel[1]; j++) {
            const int32_t r = row * c->stride[0] + i * c->dilation[0] - c->before[0];
            const int32_t q = column * c->stride[1] + j * c->dilation[1] - c->before[1];
            if (r < 0 || r >= c->output[0] || q < 0 || q >= c->output[1]) {
                continue;
            }
            for (int32_t u = 0; u < units; u++) {
                const int32_t f = group * units + u;
                const int64_t tap = ((int64_t)f * c->kernel[0] + i) * c->kernel[1] + j;
                y[((int64_t)r * c->output[1] + q) * c->filters + f] += x * (double)c->weight[tap * per_group + k];
            }
        }
    }
}

static double *expected_of(const Case *c) {
    const int64_t images = images_of(c), size = y_size(c);
    double *y = need((size_t)(images * size) * sizeof *y);
    for (int64_t at = 0; at < images * size; at++) {
        y[at] = (double)c->bias[at % c->filters];
    }
    const float *x = c->x;
    for (int64_t n = 0; n < images; n++) {
        for (int32_t row = 0; row < c->input[0]; row++) {
            for (int32_t column = 0; column < c->input[1]; column++) {
                for (int32_t k = 0; k < c->channels; k++, x++) {
                    const int32_t per_group = c->channels / c->groups;
                    scatter(c, (double)*x, row, column, k / per_group, k % per_group, y + n * size);
                }
            }
        }
    }
    return y;
}

/* the shape of one row of a value, time first; returns its rank */
static int32_t shape_of(const Case *c, const int32_t size[2], int32_t features, int32_t *shape) {
    int32_t rank = 0;
    shape[rank++] = 0;
    if (c->is_framed) {
        shape[rank++] = size[0];
    }
    if (!c->is_flat) {
        shape[rank++] = size[1];
    }
    shape[rank++] = features;
    return rank;
}

/* ends the program if it cannot be built */
static CylModel *build(const Case *c, CylEngine engine, CylIsa isa) {
    const CylBlas blas = plain_blas();
    const int32_t none = -1, zero = 0, one = 1;
    int32_t from[4], to[4], index;
    const int32_t rank = shape_of(c, c->input, c->channels, from);
    shape_of(c, c->output, c->filters, to);
    const CylPort x = {"x", 0}, y = {"y", 1};
    const int64_t per_group = c->channels / c->groups;
    const CylTensor tensors[] = {{"weight",
                                  c->weight,
                                  c->is_flat ? 3 : 4,
                                  {c->filters, c->kernel[0], c->is_flat ? per_group : c->kernel[1], per_group},
                                  NULL},
                                 {"bias", c->bias, 1, {c->filters}, NULL}};
    const CylOption options[] = {{"activation", "linear", 0.0},
                                 {"groups", NULL, c->groups},
                                 {"stride_rows", NULL, c->stride[0]},
                                 {"stride_columns", NULL, c->stride[1]},
                                 {"dilation_rows", NULL, c->dilation[0]},
                                 {"dilation_columns", NULL, c->dilation[1]},
                                 {"crop_before", NULL, c->before[0]},
                                 {"crop_after", NULL, c->after[0]},
                                 {"crop_left", NULL, c->before[1]},
                                 {"crop_right", NULL, c->after[1]},
                                 {"output_padding_rows", NULL, c->more[0]},
                                 {"output_padding_columns", NULL, c->more[1]}};
    const CylLayerSpec spec = {"conv_transpose", &x, &y, options, tensors, 1, 1, 12, 2, NULL, 0};
    CylModel *model;
    CylStatus status = cyl_model_create(engine, isa, &blas, &model);
    if (status == CYL_OK) {
        status = cyl_model_add_tensor(model, CYL_SEQUENCE, from, rank, &index);
    }
    if (status == CYL_OK) {
        status = cyl_model_add_tensor(model, CYL_SEQUENCE, to, rank, &index);
    }
    if (status == CYL_OK) {
        status = cyl_model_add_layer(model, &spec);
    }
    if (status == CYL_OK) {
        status = cyl_model_finish(model, &zero, &none, 1, &one, 1);
    }
    if (status != CYL_OK) {
        printf("no model: %s\n", cyl_status_text(status));
        exit(1);
    }
    return model;
}

/* y of BATCH rows, owned by the caller */
static float *predict_case(const Case *c, const CylModel *model, int threads) {
    const int64_t time = c->is_framed ? BATCH : c->input[0];
    float *y = need((size_t)(images_of(c) * y_size(c)) * sizeof *y);
    const void *input = c->x;
    void *output = y;
    const CylCall call = {.rows = BATCH, .times = &time, .inputs = &input, .outputs = &output, .threads = threads};
    const CylStatus status = cyl_predict(model, &call);
    CHECK(status == CYL_OK, "%s", cyl_status_text(status));
    return y;
}

static void check_numbers(const Case *c, const double *expected, const float *y, const char *what, int number) {
    double most = 0;
    for (int64_t at = 0; at < images_of(c) * y_size(c); at++) {
        most = fmax(most, fabs((double)y[at] - expected[at]));
    }
    CHECK(most < 3e-5, "case %d, %s: an error of %g", number, what, most);
}

static void check_pieces(const Case *c, const CylModel *model, const float *wanted, int number) {
    static const int64_t pieces[] = {1, 3, 2};
    const int64_t x_row = (int64_t)c->input[1] * c->channels, y_row = (int64_t)c->output[1] * c->filters;
    const int64_t stride = c->stride[0];
    for (int threads = 1; threads <= 3; threads += 2) {
        CylStream *stream;
        CHECK(cyl_stream_create(model, BATCH, threads, &stream) == CYL_OK, "case %d: a stream", number);
        float *x = need((size_t)(BATCH * x_size(c)) * sizeof *x), *y = need((size_t)(BATCH * y_size(c)) * sizeof *y);
        bool is_same = true;
        for (int64_t at = 0, i = 0, steps; at < c->input[0]; at += steps, i++) {
            steps = pieces[i % 3] < c->input[0] - at ? pieces[i % 3] : c->input[0] - at;
            for (int64_t n = 0; n < BATCH; n++) {
                memcpy(x + n * steps * x_row, c->x + (n * c->input[0] + at) * x_row,
                       (size_t)(steps * x_row) * sizeof *x);
            }
            const void *input = x;
            void *output = y;
            const CylCall call = {
                .rows = BATCH, .times = &steps, .inputs = &input, .outputs = &output, .threads = threads};
            CHECK(cyl_stream_run(stream, &call) == CYL_OK, "case %d: a piece", number);
            for (int64_t n = 0; n < BATCH; n++) {
                is_same =
                    is_same && memcmp(y + n * steps * stride * y_row, wanted + (n * c->output[0] + at * stride) * y_row,
                                      (size_t)(steps * stride * y_row) * sizeof *y) == 0;
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
        double *expected = expected_of(&c);
        CylModel *model = build(&c, CYL_ENGINE_PACKED, cyl_isa_best());
        float *wanted = predict_case(&c, model, 1);
        const size_t bytes = (size_t)(images_of(&c) * y_size(&c)) * sizeof *wanted;
        check_numbers(&c, expected, wanted, "packed", number);
        if (c.is_in_pieces) {
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
        check_numbers(&c, expected, y, "BLAS", number);
        free(y);
        free(wanted);
        free(expected);
        cyl_model_free(model);
        case_free(&c);
    }
}

/* ---- what is refused ---- */

/* adds conv_transpose between values of the shapes `from` and `to`, with a kernel of these rows and columns */
static CylStatus add(const int32_t *from, const int32_t *to, int64_t rows, int64_t columns, double stride,
                     double dilation, double crop) {
    CylModel *model;
    int32_t index;
    const CylPort x = {"x", 0}, y = {"y", 1};
    const CylTensor weight = {"weight", NULL, 4, {to[2], rows, columns, from[2]}, NULL};
    const CylOption options[] = {{"activation", "linear", 0.0},     {"groups", NULL, 1.0},
                                 {"stride_rows", NULL, stride},     {"stride_columns", NULL, 1.0},
                                 {"dilation_rows", NULL, dilation}, {"dilation_columns", NULL, 1.0},
                                 {"crop_before", NULL, 0.0},        {"crop_after", NULL, crop},
                                 {"crop_left", NULL, 0.0},          {"crop_right", NULL, 0.0},
                                 {"output_padding_rows", NULL, 0},  {"output_padding_columns", NULL, 0}};
    const CylLayerSpec spec = {"conv_transpose", &x, &y, options, &weight, 1, 1, 12, 1, NULL, 0};
    CHECK(cyl_model_create(CYL_ENGINE_PACKED, cyl_isa_best(), NULL, &model) == CYL_OK, "model");
    CHECK(cyl_model_add_tensor(model, CYL_SEQUENCE, from, 3, &index) == CYL_OK, "x");
    CHECK(cyl_model_add_tensor(model, CYL_SEQUENCE, to, 3, &index) == CYL_OK, "y");
    const CylStatus status = cyl_model_add_layer(model, &spec);
    cyl_model_free(model);
    return status;
}

static void hostile_sizes_are_refused(void) {
    const int32_t x[] = {0, 9, 2}, y[] = {0, 11, 4}, wide[] = {0, 1 << 20, 1 << 8}, wide_y[] = {0, 1 << 20, 1};
    CHECK(add(x, y, 3, 3, 1, 1, 2) == CYL_OK, "as it should be");
    CHECK(add(x, x, 3, 3, 1, 1, 2) == CYL_E_TENSOR || add(x, x, 3, 3, 1, 1, 2) == CYL_E_VALUE,
          "columns that do not follow");
    CHECK(add(x, y, 3, 3, 0, 1, 2) == CYL_E_OPTION, "no stride");
    CHECK(add(x, y, 3, 3, 1 << 21, 1, 2) == CYL_E_OPTION, "a stride of 2^21");
    CHECK(add(x, y, 3, 3, 1, 1, -1) == CYL_E_OPTION, "less than nothing cut off");
    CHECK(add(x, y, 1 << 21, 3, 1, 1, 0) == CYL_E_TENSOR, "too many taps");
    CHECK(add(x, y, 1 << 10, 3, 1, 1 << 20, 0) == CYL_E_OPTION, "a reach of 2^30");
    CHECK(add(wide, wide_y, 3, 1, 1, 1, 2) == CYL_E_OPTION, "a history of 2^29 numbers");
    CHECK(add(wide, wide_y, 3, 1, 1, 1, 0) == CYL_OK, "none");
}

int main(void) {
    RUN(they_are_right_and_the_same_bits_everywhere);
    RUN(hostile_sizes_are_refused);
    return check_result();
}
