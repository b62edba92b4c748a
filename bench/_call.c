/*
 * Steps of a recurrent layer from C, without Python: through the interface, and by its kernels alone.
 *
 *   call kind input hidden units time
 *
 * `units` of a dense layer behind it, 0 for none; `time` steps in each call: 1 for the steps of a stream, else whole
 * sequences. For every line "interface count" or "kernels count" read from the standard input, that many calls (after
 * a tenth as many untimed ones), then a line with the nanoseconds and the allocations of one step.
 */
#include "_model.h"

#include "kernels/kernels.h"
#include "layers/gru.h"
#include "layers/lstm.h"
#include "layers/rnn.h"
#include "model/model.h"
#include "platform/memory.h"
#include "run/recurrent.h"
#include "platform/tuning.h"

enum { INPUTS = 100 };

long bench_allocations(void);

static Kind kind;
static CylModel *model;
static CylStream *stream;
static int64_t time_steps;
static int32_t input, units;

static void run_interface(const float *x, float *y) {
    const void *read[1] = {x};
    void *written[1] = {y};
    const CylCall call = {.rows = 1, .times = &time_steps, .inputs = read, .outputs = written, .threads = 1};
    check(stream ? cyl_stream_run(stream, &call) : cyl_predict(model, &call));
}

/* ---- the kernels alone, with all that they take bound ---- */

typedef struct {
    const CylRecurrent *recurrent;
    const void *layer;
    CylStep step;
    float *h[2], *acc, *y, *dense_acc;
    int64_t block; /* steps whose input halves are computed at once */
    int now;
} Kernels;

static float *zeros(int64_t count) {
    float *memory = cyl_aligned_alloc((size_t)count * sizeof *memory);
    if (!memory) {
        exit(1);
    }
    return memory;
}

static Kernels bind_kernels(int32_t hidden) {
    const CylRecurrent *r = model->layers[0].recurrent;
    const CylMatrix *m = r->input_matrix;
    const int64_t stride = cyl_state_stride(hidden);
    const bool in_blocks = time_steps > 1 && input * m->row_size > CYL_BLOCK_LEAST_WEIGHTS;
    Kernels k = {.recurrent = r, .layer = model->layers[0].data, .h = {zeros(stride), zeros(stride)}};
    k.block = !in_blocks ? 1 : input * m->row_size > CYL_LARGE_INPUT ? CYL_BLOCK_COLUMNS_LARGE : CYL_BLOCK_COLUMNS;
    k.acc = zeros(m->row_size * k.block);
    k.y = zeros(hidden * time_steps);
    k.dense_acc = units ? zeros(CYL_DENSE_COLUMNS * ((const CylMatrix *)model->layers[1].data)->row_size) : NULL;
    k.step = (CylStep){.rows = 1,
                       .operands = {{.stride = input, .count = input},
                                    {.stride = stride, .first = kind == GRU ? 0 : input, .count = hidden}},
                       .h_stride = stride,
                       .c = zeros(stride),
                       .c_stride = stride,
                       .acc_stride = m->row_size * k.block,
                       .scratch = zeros(r->scratch_size + 16),
                       .scratch_stride = r->scratch_size,
                       .y_stride = hidden * time_steps};
    return k;
}

static void run_step(Kernels *k) {
    const CylKernels *kernels = model->kernels;
    const CylMatrix *m = k->recurrent->input_matrix;
    CylStep *step = &k->step;
    const CylOperand *both = step->operands;
    if (kind == GRU) {
        const CylGru *gru = k->layer;
        if (!step->continued) {
            cyl_product(model, m, both, 1, 1, step->acc, step->acc_stride, false, step->descending, 0, m->blocks);
        }
        cyl_product(model, &gru->gates, both + 1, 1, 1, step->scratch, step->scratch_stride, false, step->descending, 0,
                    m->blocks);
        kernels->gru_cell(gru, step, 0, m->blocks);
        return;
    }
    cyl_product(model, m, step->continued ? both + 1 : both, step->continued ? 1 : 2, 1, step->acc, step->acc_stride,
                step->continued, step->descending, 0, m->blocks);
    if (kind == LSTM) {
        kernels->lstm_cell(k->layer, step, 0, m->blocks);
    } else {
        kernels->rnn_cell(k->layer, step, 0, m->blocks);
    }
}

static void run_dense(Kernels *k, float *y) {
    const CylKernels *kernels = model->kernels;
    const CylMatrix *m = model->layers[1].data; /* a dense layer's data begin with its matrix */
    const CylActivationSpec linear = {CYL_ACT_LINEAR, 0.0, 0.0};
    for (int64_t n = 0; n < time_steps; n += CYL_DENSE_COLUMNS) {
        const int64_t count = time_steps - n < CYL_DENSE_COLUMNS ? time_steps - n : CYL_DENSE_COLUMNS;
        const CylOperand x = {k->y + n * m->columns, m->columns, 0, m->columns};
        float *to = y + n * units, *sums = cyl_accumulates_in_place(m) ? to : k->dense_acc;
        const int64_t stride = cyl_accumulates_in_place(m) ? units : m->row_size;
        cyl_product(model, m, &x, 1, count, sums, stride, false, false, 0, m->blocks);
        kernels->dense_output(m, &linear, count, sums, stride, to, units, false, 0, m->blocks);
    }
}

static void run_kernels(Kernels *k, const float *x, float *y) {
    const CylMatrix *m = k->recurrent->input_matrix;
    float *h = units ? k->y : y;
    for (int64_t first = 0; first < time_steps; first += k->block) {
        const int64_t count = time_steps - first < k->block ? time_steps - first : k->block;
        k->step.continued = count > 1;
        if (count > 1) {
            const CylOperand block = {x + first * input, input, 0, input};
            cyl_product(model, m, &block, 1, count, k->acc, m->row_size, false, false, 0, m->blocks);
        }
        for (int64_t n = 0; n < count; n++) {
            k->step.operands[0].x = x + (first + n) * input;
            k->step.y = h + (first + n) * k->recurrent->hidden_size;
            k->step.acc = k->acc + n * m->row_size;
            k->step.operands[1].x = k->step.h_previous = k->h[k->now];
            k->step.h_next = k->h[1 - k->now];
            run_step(k);
            k->now = 1 - k->now;
            k->step.descending = !k->step.descending;
        }
    }
    if (units) {
        run_dense(k, y);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        return 2;
    }
    kind = kind_of(argv[1]);
    input = atoi(argv[2]);
    const int32_t hidden = atoi(argv[3]);
    units = atoi(argv[4]);
    time_steps = atoi(argv[5]);
    model = make_network(kind, input, hidden, units);
    if (time_steps == 1) {
        check(cyl_stream_create(model, 1, 1, &stream));
    }
    Kernels kernels = bind_kernels(hidden);
    const float *x = random_floats(INPUTS * input * time_steps, 1.0f);
    float *y = random_floats((hidden + units) * time_steps, 0.0f);
    char what[16];
    long count;
    while (scanf("%15s %ld", what, &count) == 2) {
        const bool is_interface = strcmp(what, "interface") == 0;
        double start = 0.0;
        long before = 0;
        for (long i = -(count / 10 + 2); i < count; i++) {
            if (i == 0) {
                before = bench_allocations();
                start = now_ns();
            }
            const float *from = x + (i + count) % INPUTS * input * time_steps;
            if (is_interface) {
                run_interface(from, y);
            } else {
                run_kernels(&kernels, from, y);
            }
        }
        const double elapsed = now_ns() - start, steps = (double)count * (double)time_steps;
        printf("%.3f %.3f\n", elapsed / steps, (double)(bench_allocations() - before) / steps);
        fflush(stdout);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
    return 0;
}
