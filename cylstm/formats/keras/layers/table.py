"""Keras's layers by class name, in the table `LAYERS`, and those that are refused with advice.

A layer's function adds what it becomes to the graph and returns its outputs with the masks that Keras gives them. Most
return values alone, and `cylstm.formats.keras.masks` says whether the layer hands its input's mask on.
"""

from __future__ import annotations

from collections.abc import Mapping

from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.layers.activations import (
    add_activation,
    add_activation_layer,
    add_prelu,
    add_relu,
    add_softmax,
    add_thresholded_relu,
)
from cylstm.formats.keras.layers.attention import add_attention, add_grouped_query_attention, add_multi_head_attention
from cylstm.formats.keras.layers.conv import (
    adaptive_pooling_of,
    add_conv1d,
    add_conv1d_transpose,
    add_depthwise_conv1d,
    add_separable_conv1d,
    channels_last,
    global_pooling_of,
    pooling_of,
)
from cylstm.formats.keras.layers.dense import add_dense, add_embedding, add_reversible_embedding
from cylstm.formats.keras.layers.einsum import add_einsum_dense
from cylstm.formats.keras.layers.kind import LayerKind, always, scaled
from cylstm.formats.keras.layers.merge import add_concatenate, add_dot, merge_of
from cylstm.formats.keras.layers.nested import (
    add_masking,
    add_network,
    add_spectral_normalization,
    add_time_distributed,
)
from cylstm.formats.keras.layers.norm import (
    add_batch_normalization,
    add_group_normalization,
    add_layer_normalization,
    add_normalization,
    add_rescaling,
    add_rms_normalization,
    add_unit_normalization,
    axes_last,
)
from cylstm.formats.keras.layers.recurrent import RECURRENT_LAYERS, add_bidirectional, add_recurrent
from cylstm.formats.keras.layers.shape import (
    add_cropping,
    add_flatten,
    add_inert,
    add_permute,
    add_repeat_vector,
    add_reshape,
    add_up_sampling,
    add_zero_padding,
)
from cylstm.formats.keras.network import MODELS


def _weighted_inside(layer: LayerConfig) -> bool:
    """Whether the layers in a model or wrapper have weights."""
    entries = layer.config.get("layers") if layer.class_name in MODELS else [layer.config.get("layer")]
    return any(has_weights(layer.inner(entry, "layer", may_be_custom=True)) for entry in entries or [])


def has_weights(layer: LayerConfig) -> bool:
    """Whether a layer has weights, so that an ``.h5`` file counts it."""
    kind = LAYERS.get(layer.class_name)
    return not layer.is_operation and kind is not None and kind.weighted(layer)


def may_have_weights(layer: LayerConfig) -> bool:
    """Whether a layer is of a class that is not known here, or holds such layers, so that a file alone can tell."""
    if layer.is_operation or has_weights(layer):
        return False
    if layer.class_name not in LAYERS:
        return layer.class_name not in ("InputLayer", "Lambda")
    is_wrapper = layer.class_name == "TimeDistributed"
    entries = [layer.config.get("layer")] if is_wrapper else layer.config.get("layers")
    if not isinstance(entries, list) or not (is_wrapper or layer.class_name in MODELS):
        return False
    inside = [one for one in entries if isinstance(one, dict)]
    return any(may_have_weights(layer.inner(one, "layer", may_be_custom=True)) for one in inside)


_RECURRENT = ("initial_state", "mask", "training")


#: Layers by Keras's class name.
LAYERS: dict[str, LayerKind] = {
    "Dense": LayerKind(add_dense, always),
    "EinsumDense": LayerKind(add_einsum_dense, always),
    "Embedding": LayerKind(add_embedding, always),
    "ReversibleEmbedding": LayerKind(add_reversible_embedding, always, ("reverse",)),
    "Activation": LayerKind(add_activation),
    "LeakyReLU": LayerKind(add_activation_layer),
    "ELU": LayerKind(add_activation_layer),
    "ReLU": LayerKind(add_relu),
    "ThresholdedReLU": LayerKind(add_thresholded_relu),
    "PReLU": LayerKind(add_prelu, always),
    "Softmax": LayerKind(add_softmax, arguments=("mask",)),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization",
         "Identity"),
        LayerKind(add_inert),
    ),
    "BatchNormalization": LayerKind(axes_last(add_batch_normalization), always, ("training", "mask")),
    "LayerNormalization": LayerKind(axes_last(add_layer_normalization), scaled),
    "RMSNormalization": LayerKind(axes_last(add_rms_normalization), always),
    "UnitNormalization": LayerKind(axes_last(add_unit_normalization)),
    "GroupNormalization": LayerKind(axes_last(add_group_normalization), scaled),
    "Normalization": LayerKind(add_normalization, lambda layer: layer.config.get("mean") is None),
    "Rescaling": LayerKind(add_rescaling),
    "Conv1D": LayerKind(channels_last(add_conv1d), always),
    "Conv1DTranspose": LayerKind(channels_last(add_conv1d_transpose), always),
    "DepthwiseConv1D": LayerKind(channels_last(add_depthwise_conv1d), always),
    "SeparableConv1D": LayerKind(channels_last(add_separable_conv1d), always),
    "MaxPooling1D": LayerKind(channels_last(pooling_of("max"))),
    "AveragePooling1D": LayerKind(channels_last(pooling_of("average"))),
    "AdaptiveMaxPooling1D": LayerKind(channels_last(adaptive_pooling_of("max"))),
    "AdaptiveAveragePooling1D": LayerKind(channels_last(adaptive_pooling_of("mean"))),
    "GlobalMaxPooling1D": LayerKind(channels_last(global_pooling_of("max"))),
    "GlobalAveragePooling1D": LayerKind(channels_last(global_pooling_of("mean")), arguments=("mask",)),
    "Flatten": LayerKind(channels_last(add_flatten, is_flat=True)),
    "Reshape": LayerKind(add_reshape),
    "Permute": LayerKind(add_permute),
    "RepeatVector": LayerKind(add_repeat_vector),
    "Cropping1D": LayerKind(add_cropping),
    "ZeroPadding1D": LayerKind(channels_last(add_zero_padding)),
    "UpSampling1D": LayerKind(add_up_sampling),
    "Add": LayerKind(merge_of("sum"), arguments=("mask",)),
    "Subtract": LayerKind(merge_of("sub"), arguments=("mask",)),
    "Multiply": LayerKind(merge_of("mul"), arguments=("mask",)),
    "Average": LayerKind(merge_of("ave"), arguments=("mask",)),
    "Maximum": LayerKind(merge_of("max"), arguments=("mask",)),
    "Minimum": LayerKind(merge_of("min"), arguments=("mask",)),
    "Concatenate": LayerKind(add_concatenate, arguments=("mask",)),
    "Dot": LayerKind(add_dot, arguments=("mask",)),
    "Attention": LayerKind(
        add_attention,
        lambda layer: bool(layer.config.get("use_scale") or layer.config.get("score_mode") == "concat"),
        ("mask", "training", "return_attention_scores", "use_causal_mask"),
    ),
    "AdditiveAttention": LayerKind(
        add_attention, lambda layer: bool(layer.config.get("use_scale", True)),
        ("mask", "training", "return_attention_scores", "use_causal_mask"),
    ),
    "MultiHeadAttention": LayerKind(
        add_multi_head_attention, always,
        ("value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
         "training", "use_causal_mask"),
    ),
    **dict.fromkeys(
        ("GroupQueryAttention", "GroupedQueryAttention"),
        LayerKind(
            add_grouped_query_attention, always,
            ("value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
             "training", "use_causal_mask"),
        ),
    ),
    "Masking": LayerKind(add_masking),
    "SpectralNormalization": LayerKind(add_spectral_normalization, always, ("training",)),
    "TimeDistributed": LayerKind(add_time_distributed, _weighted_inside, ("training", "mask")),
    "Bidirectional": LayerKind(add_bidirectional, always, _RECURRENT),
    **dict.fromkeys(RECURRENT_LAYERS, LayerKind(add_recurrent, always, _RECURRENT)),
    **dict.fromkeys(MODELS, LayerKind(add_network, _weighted_inside, ("training", "mask"))),
}  # fmt: skip


#: Layers that are not computed -> what to do instead.
INSTEAD: Mapping[str, str] = {
    "ConvLSTM3D": "ConvLSTM1D and ConvLSTM2D are",
    "Lambda": "a Lambda is a program, which is not run; build the model of Keras's own layers and operations, such as "
    "x[:, -1] or keras.ops.sum(x, axis=1) in a Functional one, and set_weights(old.get_weights())",
    "Conv2D": "Conv1D is: convolutions over time",
    "StringLookup": "look the words up before predict, and give indices",
    "TextVectorization": "look the words up before predict, and give indices",
    "IntegerLookup": "look the numbers up before predict, and give indices",
}
