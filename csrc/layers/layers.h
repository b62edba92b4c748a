/* All layers: each is one file of this folder. */
#ifndef CYL_LAYERS_LAYERS_H
#define CYL_LAYERS_LAYERS_H

#include "model/model.h"

extern const CylLayerKind cyl_layer_lstm, cyl_layer_gru, cyl_layer_rnn, cyl_layer_conv_lstm, cyl_layer_reverse,
    cyl_layer_dense, cyl_layer_activation, cyl_layer_last, cyl_layer_merge, cyl_layer_conv1d, cyl_layer_pool1d,
    cyl_layer_batch_norm, cyl_layer_layer_norm, cyl_layer_group_norm, cyl_layer_embedding, cyl_layer_prelu,
    cyl_layer_glu, cyl_layer_reshape, cyl_layer_permute, cyl_layer_slice, cyl_layer_pad, cyl_layer_upsample,
    cyl_layer_repeat_vector, cyl_layer_softmax, cyl_layer_reduce, cyl_layer_masking, cyl_layer_mask_merge,
    cyl_layer_mask_fill, cyl_layer_index_mask, cyl_layer_attention, cyl_layer_dot;

#endif
