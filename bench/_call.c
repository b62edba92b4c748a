/*
 * A step of an LSTM from C, without Python: for every number read from the standard input, that many steps (after a
 * tenth as many untimed ones), then a line with the nanoseconds and the allocations of one step.
 */
#include "_model.h"

enum { INPUTS = 100 };

long bench_allocations(void);

int main(int argc, char **argv) {
    if (argc != 3) {
        return 2;
    }
    const int32_t input = atoi(argv[1]), hidden = atoi(argv[2]);
    CylModel *model = make_model(input, hidden);
    CylStream *stream;
    check(cyl_stream_create(model, 1, 1, &stream));
    const float *x = random_floats((int64_t)INPUTS * input, 1.0f);
    float *y = random_floats(hidden, 0.0f);
    const int64_t one = 1;
    const void *read[1];
    void *written[1] = {y};
    const CylCall call = {.rows = 1, .times = &one, .inputs = read, .outputs = written, .threads = 1};
    long count;
    while (scanf("%ld", &count) == 1) {
        double start = 0.0;
        long before = 0;
        for (long i = -(count / 10 + 2); i < count; i++) {
            if (i == 0) {
                before = bench_allocations();
                start = now_ns();
            }
            read[0] = x + (size_t)((i + count) % INPUTS) * (size_t)input;
            check(cyl_stream_run(stream, &call));
        }
        const double elapsed = now_ns() - start;
        printf("%.3f %.3f\n", elapsed / (double)count, (double)(bench_allocations() - before) / (double)count);
        fflush(stdout);
    }
    cyl_stream_free(stream);
    cyl_model_free(model);
    return 0;
}
