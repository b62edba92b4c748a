/*
 * The matrix product of an LSTM's gates alone, [x, h] against all their weights, on one thread, beside the peak of
 * _probe.c: they take turns, `rounds` times for some milliseconds each.
 *
 *   product rounds rows input hidden [input hidden ...]
 *
 * A line for each pair: best and median of multiply-adds per second, the bytes of weights, and the best rate at which
 * _probe.c reads as many bytes; and the best and median peak at the end.
 */
#include "_model.h"
#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/matrix.h"
#include "model/model.h"
#include "platform/memory.h"
#include "run/recurrent.h"

#include <string.h>

enum { MOST_SIZES = 16, MOST_ROUNDS = 1000 };
static const double SECONDS = 0.005;

double probe_multiply_add(int threads, double seconds);
double probe_read(int64_t bytes, int backward_too, int threads, double seconds);

typedef struct {
    const CylModel *model;
    const CylMatrix *matrix;
    CylOperand operand;
    int64_t rows, bytes;
    float *acc;
    double rates[MOST_ROUNDS], best_reading;
} Product;

static void prepare(Product *p, int32_t input, int32_t hidden, int64_t rows) {
    p->model = make_network(LSTM, input, hidden, 0);
    p->matrix = p->model->layers[0].recurrent->input_matrix;
    p->rows = rows;
    p->bytes = cyl_model_bytes(p->model);
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
    bool descending = false;
    while (end - start < 1e9 * SECONDS) {
        cyl_product(p->model, m, &p->operand, 1, p->rows, p->acc, m->row_size, false, descending, 0, m->blocks);
        descending = !descending; /* as steps do */
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
    printf("%.6g %.6g", rates[rounds - 1], rates[rounds / 2]);
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
            for (int backward_too = 0; backward_too < 2; backward_too++) {
                double reading = probe_read(products[s].bytes, backward_too, 1, SECONDS);
                products[s].best_reading = reading > products[s].best_reading ? reading : products[s].best_reading;
            }
        }
    }
    for (int s = 0; s < sizes; s++) {
        print(products[s].rates, rounds);
        printf(" %lld %.6g\n", (long long)products[s].bytes, products[s].best_reading);
    }
    print(peak, rounds);
    printf("\n");
    return 0;
}
