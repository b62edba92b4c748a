"""Which function exports a kind of layer, and which kinds ONNX cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cylstm.formats.onnx.export import attention, elementwise, masks, normalise, rearrange, recurrent, reduce, windows
from cylstm.formats.onnx.export.call import Call

#: kind -> the function that adds its operators
EXPORTERS: Mapping[str, Callable[[Call], None]] = {
    "activation": elementwise.activation,
    "attention": attention.attention,
    "batch_norm": normalise.batch_norm,
    "constant": rearrange.constant,
    "conv1d": windows.conv1d,
    "conv2d": windows.conv2d,
    "conv_lstm": recurrent.conv_lstm,
    "conv_transpose": windows.conv_transpose,
    "cumulate": reduce.cumulate,
    "dense": reduce.dense,
    "dot": reduce.dot,
    "dropout": rearrange.dropout,
    "embedding": rearrange.embedding,
    "function": elementwise.function,
    "glu": elementwise.glu,
    "group_norm": normalise.group_norm,
    "gru": recurrent.gru,
    "index_mask": masks.index_mask,
    "last": masks.last,
    "layer_norm": normalise.layer_norm,
    "lstm": recurrent.lstm,
    "mask_fill": masks.mask_fill,
    "mask_merge": masks.mask_merge,
    "mask_numbers": masks.mask_numbers,
    "masking": masks.masking,
    "matmul": reduce.matmul,
    "merge": elementwise.merge,
    "number_mask": masks.number_mask,
    "numbers": rearrange.numbers,
    "pad": rearrange.pad,
    "permute": rearrange.permute,
    "pool1d": windows.pool1d,
    "positions": rearrange.positions,
    "prelu": elementwise.prelu,
    "reduce": reduce.reduce,
    "repeat_vector": rearrange.repeat_vector,
    "reshape": rearrange.reshape,
    "reverse": rearrange.reverse,
    "rnn": recurrent.rnn,
    "slice": rearrange.slice_,
    "slice_like": rearrange.slice_like,
    "softmax": reduce.softmax,
    "step_table": rearrange.step_table,
    "take": rearrange.take,
    "take_along": rearrange.take_along,
    "topk": rearrange.topk,
    "upsample": rearrange.upsample,
    "where": elementwise.where,
}

#: kind -> why it cannot be exported
REFUSED: Mapping[str, str] = {}
