/* What functions_body.h offers to functions_test.c. */
#ifndef CYL_FUNCTIONS_TEST_H
#define CYL_FUNCTIONS_TEST_H

#include <stdint.h>

#define CYL_TEST_ROW 96

struct InstructionSet {
    const char *name;
    /* n a multiple of 16 */
    void (*activate)(int id, float alpha, float beta, const float *x, float *y, long n);
    /* activate with the subnormal rule, as the cells have it */
    void (*activate_flushed)(int id, float alpha, float beta, const float *x, float *y, long n);
    /* float16 to float; NULL where the machine has no such operation */
    void (*widen)(const uint16_t *x, float *y, long n);
    void (*fused)(const float *a, const float *b, const float *c, float *y, long n);
    /* n at most CYL_TEST_ROW */
    void (*softmax)(const float *x, float *y, int n);
    void (*log_softmax)(const float *x, float *y, int n);
};

#endif
