/* What the kinds of convolutions share: their weights, and the outputs of windows side by side (convolution.c). */
#ifndef CYL_CONVOLUTION_H
#define CYL_CONVOLUTION_H

#include "kernels/kernels.h"
#include "model/matrix.h"
#include "model/model.h"
#include "model/spec.h"
#include "platform/rare.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* the first member of what a kind of convolution keeps of a layer */
typedef struct {
    int32_t groups, channels, filters; /* channels and filters of all groups */
    int32_t kernel_rows, kernel_columns;
    bool is_depthwise;
    void *taps, *bias; /* depthwise: real (kernel_rows * kernel_columns, filters) and (filters) */
    CylActivationSpec activation;
    CylMatrix *matrices; /* (groups); NULL if depthwise */
} CylConvolution;

/* Asks for the packed weights and the bias of the filters [first_row, first_row + units), a group's. */
CYL_RARE CylStatus cyl_group_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, CylMatrix *m,
                                     int32_t units, int64_t first_row);
/* Makes layer->data, of `size` bytes, and fills its CylConvolution from the options `groups` and `activation` and the
   tensors `weight` (filters, kernel_columns or kernel_rows and kernel_columns, channels / groups) and `bias`. The
   channels are the last axis of x, and `axes` the axes of the kernel. */
CYL_RARE CylStatus cyl_convolution_prepare(CylModel *model, CylLayer *layer, const CylLayerSpec *spec, size_t size,
                                           int32_t axes);
/* the multiply-adds of one output */
int64_t cyl_convolution_work(const CylConvolution *conv);
/* Computes n outputs side by side: y (n, y_stride). */
void cyl_convolve(const CylModel *model, const CylConvolution *conv, const CylWindows *windows, char *y,
                  int64_t y_stride, int64_t n);

#endif
