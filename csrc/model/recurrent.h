/* What recurrent layers have in common (recurrent.c reads it from a spec). Each step is a list of phases. */
#ifndef CYL_MODEL_RECURRENT_H
#define CYL_MODEL_RECURRENT_H

#include "cylstm.h"
#include "kernels/kernels.h"
#include "model/matrix.h"
#include "model/model.h"
#include "platform/rare.h"

#include <stdbool.h>
#include <stdint.h>

/* One part of a recurrent step: items [begin, end) of it for every row. Phases that share a partition of their
   items need no barrier between them; `barrier_after` says that the next phase reads what other threads wrote. */
typedef struct {
    void (*run)(const CylModel *model, const CylLayer *layer, const CylStep *step, int32_t begin, int32_t end);
    int32_t items;
    bool barrier_after;
} CylPhase;

#define CYL_MAX_PHASES 4

struct CylRecurrent {
    int32_t hidden_size, input_size;
    int32_t output_size; /* of h, which differs from hidden_size with a projection */
    int32_t state_count; /* 1: h; 2: h and c */
    /* With an input h_mask, a vector (h_copies * output), the recurrent product reads so many copies of h side by side,
       each times its part of the mask, and has a column for each number of them; h itself goes on as it is. Else
       0. */
    int32_t h_copies, h_mask; /* h_mask: the value */
    bool is_reverse, repeats_padding;
    bool zeroes_empty;  /* a row whose mask excludes every step ends with states of 0 instead of its initial ones */
    bool is_spatial;    /* a convolution, each of whose positions reads a part of x: the input has no half of its own */
    int32_t gate_count; /* of a trace */
    int64_t positions;  /* rows of accumulators for one row of a step: 1, or the spatial positions of a convolution */
    const CylMatrix *input_matrix; /* whose columns 0..input_size multiply x; its accumulators start a step */
    int64_t scratch_size;          /* reals per row in which phases leave results for later ones */
    CylPhase phases[CYL_MAX_PHASES];
    int32_t phase_count;
};

typedef enum { CYL_CODE_ZERO = 0, CYL_CODE_USE = 1, CYL_CODE_REPEAT = 2 } CylCode;

#define CYL_MAX_GATES 4

/* Where the cells write what they compute of one step, from the arrays of a CylTrace; NULL where nobody asks. Row n of
   the step is row order[n] there, or n where order is NULL. */
typedef struct {
    void *pre, *gates; /* real (rows, gates, units) */
    void *cell;        /* real (rows, units) */
    int64_t pre_stride, gates_stride, cell_stride;
    int64_t pre_at[CYL_MAX_GATES], gates_at[CYL_MAX_GATES]; /* of each gate within a row; -1 where it is left out */
    const int64_t *order;
} CylStepTrace;

/* the gates that are not left out of an array of a CylTrace, NULL for none */
static inline int64_t cyl_traced_gates(const void *array, int32_t gate_count, uint8_t skips) {
    int64_t count = 0;
    for (int32_t g = 0; array && g < gate_count; g++) {
        count += !(skips >> g & 1);
    }
    return count;
}

/* one step of a recurrent layer, for all rows */
struct CylStep {
    int64_t rows;
    /* x, real (rows, input), and h_previous, with the columns of the matrix that multiplies each */
    CylOperand operands[2];
    const void *h_previous; /* real (rows, output), stride h_stride */
    void *h_next;
    int64_t h_stride;
    void *c; /* real (rows, hidden), stride c_stride; updated in place */
    int64_t c_stride;
    void *acc; /* real (rows, input_matrix->row_size) */
    int64_t acc_stride;
    bool continued;  /* acc already holds bias + W x */
    bool descending; /* see CylKernels.product */
    void *scratch;   /* real (rows, scratch_stride) */
    int64_t scratch_stride;
    const uint8_t *codes; /* (rows) of CylCode, or NULL: all CYL_CODE_USE */
    void *y;              /* real (rows, output), stride y_stride; or NULL */
    int64_t y_stride;
    const CylStepTrace *trace; /* NULL as a rule */
    const void *h_masks;       /* real (rows, h_copies * output), stride h_masks_stride; NULL as a rule */
    int64_t h_masks_stride;
    void *masked; /* real (rows, h_copies * output), stride masked_stride: what the recurrent product then reads */
    int64_t masked_stride;
};

/* Whether a layer whose weight_hh has `columns` of them fits an output of this size: as many, or with an input h_mask a
   multiple, the size of that. Fills in h_copies and h_mask. */
CYL_RARE CylStatus cyl_recurrent_read_mask(const CylModel *model, const CylLayerSpec *spec, int64_t output,
                                           int64_t columns, CylRecurrent *recurrent);
/* step->masked = the copies of what is in `h`, real (rows, stride), times their masks: of blocks [begin, end) of 16
   units */
void cyl_recurrent_mask(const CylModel *model, const CylLayer *layer, const CylStep *step, const void *h,
                        int64_t stride, int32_t begin, int32_t end);
/* how many of those blocks there are */
static inline int32_t cyl_recurrent_mask_blocks(int64_t output) { return (int32_t)((output + 15) / 16); }
/*
 * The matrices of the gates over x and h: of the tensors weight_ih and weight_hh, and of bias if there is one. Both are
 * in `gates` where they can lie in one matrix; where their types differ, or have scales, `gates` is over x alone and
 * `hidden_gates` over h. It has no units otherwise. Where both have the same scaled type, one product takes both.
 */
CYL_RARE CylStatus cyl_gates_prepare(const CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *gates,
                                     CylMatrix *hidden_gates, int32_t units, int32_t gate_count);
/* acc = bias + W x + R h of one step, for the blocks [begin, end); one chain of multiply-adds in any case */
static inline void cyl_gates_product(const CylModel *model, const CylMatrix *gates, const CylMatrix *hidden_gates,
                                     const CylStep *step, int32_t begin, int32_t end) {
    if (!hidden_gates->units || (gates->next && !step->continued)) {
        cyl_product(model, gates, step->operands + step->continued, 2 - step->continued, step->rows, step->acc,
                    step->acc_stride, step->continued, step->descending, begin, end);
        return;
    }
    if (!step->continued) {
        cyl_product(model, gates, &step->operands[0], 1, step->rows, step->acc, step->acc_stride, false,
                    step->descending, begin, end);
    }
    cyl_product(model, hidden_gates, &step->operands[1], 1, step->rows, step->acc, step->acc_stride, true,
                step->descending, begin, end);
}

/* fills the parts of layer and recurrent that all recurrent layers share; sizes must be set */
CYL_RARE CylStatus cyl_recurrent_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec,
                                         CylRecurrent *recurrent);

#endif
