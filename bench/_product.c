/*
 * The matrix product of an LSTM's gates alone, [x, h] against all their weights, on one thread, beside the peak of
 * _probe.c: they take turns, `rounds` times for some milliseconds each.
 *
 *   product rounds rows input hidden [input hidden ...]
 *
 * A line for each pair: best and median of multiply-adds per second; and the best and median peak at the end.
 */
#include "_model.h"
#include "internal.h"

#include <string.h>

enum { MOST_SIZES = 16, MOST_ROUNDS = 1000 };
static const double SECONDS = 0.005;

double probe_multiply_add(int threads, double seconds);

typedef struct {
    const CylModel *model;
    const CylMatrix *matrix;
    CylOperand operand;
    int64_t rows;
    float *acc;
    double rates[MOST_ROUNDS];
} Product;

static void prepare(Product *p, int32_t input, int32_t hidden, int64_t rows) {
    p->model = make_model(input, hidden);
    p->matrix = p->model->nodes[0].recurrent->input_matrix;
    p->rows = rows;
    int32_t columns = p->matrix->columns;
    p->operand = (CylOperand){random_floats(rows * columns, 1.0f), columns, 0, columns};
    size_t bytes = (size_t)(rows * p->matrix->row_size) * sizeof *p->acc;
    p->acc = cyl_aligned_alloc(bytes);
    if (!p->acc) {
        exit(1);
    }
}

static double rate(const Product *p) {
    const CylMatrix *m = p->matrix;
    double start = now_ns(), end = start, amount = 0.0;
    while (end - start < 1e9 * SECONDS) {
        p->model->kernels->product(p->model, m, &p->operand, 1, p->rows, p->acc, m->row_size, false, false, 0,
                                   m->blocks);
        amount += (double)(p->rows * m->columns) * m->units * m->gates;
        end = now_ns();
    }
    return amount / (1e-9 * (end - start));
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(double *rates, int rounds) {
    qsort(rates, (size_t)rounds, sizeof *rates, compare);
    printf("%.6g %.6g\n", rates[rounds - 1], rates[rounds / 2]);
}

int main(int argc, char **argv) {
    static Product products[MOST_SIZES];
    static double peak[MOST_ROUNDS];
    int rounds = argc > 4 ? atoi(argv[1]) : 0, sizes = (argc - 3) / 2;
    if (rounds < 1 || rounds > MOST_ROUNDS || sizes > MOST_SIZES || atoi(argv[2]) < 1) {
        return 2;
    }
    for (int s = 0; s < sizes; s++) {
        prepare(&products[s], atoi(argv[3 + 2 * s]), atoi(argv[4 + 2 * s]), atoi(argv[2]));
    }
    for (int round = 0; round < rounds; round++) {
        peak[round] = probe_multiply_add(1, SECONDS);
        for (int s = 0; s < sizes; s++) {
            products[s].rates[round] = rate(&products[s]);
        }
    }
    for (int s = 0; s < sizes; s++) {
        print(products[s].rates, rounds);
    }
    print(peak, rounds);
    return 0;
}
