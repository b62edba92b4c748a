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
from cylstm.formats.keras.layers.conv import convolution_of, depthwise_of, separable_of, transposed_of
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
from cylstm.formats.keras.layers.pooling import adaptive_pooling_of, global_pooling_of, pooling_of
from cylstm.formats.keras.layers.recurrent import (
    RECURRENT_LAYERS,
    add_bidirectional,
    add_conv_lstm,
    add_recurrent,
)
from cylstm.formats.keras.layers.shape import (
    add_flatten,
    add_inert,
    add_permute,
    add_repeat_vector,
    add_reshape,
    cropping_of,
    up_sampling_of,
    zero_padding_of,
)
from cylstm.formats.keras.layers.spatial import channels_last
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
    "Dense": LayerKind(add_dense, always, any_order=True),
    "EinsumDense": LayerKind(add_einsum_dense, always),
    "Embedding": LayerKind(add_embedding, always),
    "ReversibleEmbedding": LayerKind(add_reversible_embedding, always, ("reverse",)),
    "Activation": LayerKind(add_activation, any_order=True),
    "LeakyReLU": LayerKind(add_activation_layer, any_order=True),
    "ELU": LayerKind(add_activation_layer, any_order=True),
    "ReLU": LayerKind(add_relu, any_order=True),
    "ThresholdedReLU": LayerKind(add_thresholded_relu, any_order=True),
    "PReLU": LayerKind(add_prelu, always, any_order=True),
    "Softmax": LayerKind(add_softmax, arguments=("mask",), any_order=True),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout",
         "AlphaDropout", "ActivityRegularization", "Identity"),
        LayerKind(add_inert, any_order=True),
    ),
    "BatchNormalization": LayerKind(
        axes_last(add_batch_normalization), always, ("training", "mask"), any_order=True
    ),
    "LayerNormalization": LayerKind(axes_last(add_layer_normalization), scaled, any_order=True),
    "RMSNormalization": LayerKind(axes_last(add_rms_normalization), always, any_order=True),
    "UnitNormalization": LayerKind(axes_last(add_unit_normalization), any_order=True),
    "GroupNormalization": LayerKind(axes_last(add_group_normalization), scaled, any_order=True),
    "Normalization": LayerKind(add_normalization, lambda layer: layer.config.get("mean") is None),
    "Rescaling": LayerKind(add_rescaling, any_order=True),
    **{f"Conv{n}D": LayerKind(channels_last(convolution_of(n)), always, any_order=True) for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": LayerKind(channels_last(transposed_of(n)), always, any_order=True) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": LayerKind(channels_last(depthwise_of(n)), always, any_order=True) for n in (1, 2)},
    **{f"SeparableConv{n}D": LayerKind(channels_last(separable_of(n)), always, any_order=True) for n in (1, 2)},
    **{
        f"{name}Pooling{n}D": LayerKind(channels_last(pooling_of(name.lower(), n)), any_order=True)
        for name in ("Max", "Average")
        for n in (1, 2, 3)
    },
    **{
        f"Adaptive{name}Pooling{n}D": LayerKind(channels_last(adaptive_pooling_of(mode, n)), any_order=True)
        for name, mode in (("Max", "max"), ("Average", "mean"))
        for n in (1, 2, 3)
    },
    **{
        f"Global{name}Pooling{n}D": LayerKind(
            channels_last(global_pooling_of(mode, n)), arguments=("mask",) if mode == "mean" else (), any_order=True
        )
        for name, mode in (("Max", "max"), ("Average", "mean"))
        for n in (1, 2, 3)
    },
    "Flatten": LayerKind(channels_last(add_flatten, is_flat=True), any_order=True),
    "Reshape": LayerKind(add_reshape, any_order=True),
    "Permute": LayerKind(add_permute, any_order=True),
    "RepeatVector": LayerKind(add_repeat_vector),
    **{f"Cropping{n}D": LayerKind(channels_last(cropping_of(n)), any_order=True) for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": LayerKind(channels_last(zero_padding_of(n)), any_order=True) for n in (1, 2, 3)},
    **{f"UpSampling{n}D": LayerKind(channels_last(up_sampling_of(n)), any_order=True) for n in (1, 2, 3)},
    "Add": LayerKind(merge_of("sum"), arguments=("mask",), any_order=True),
    "Subtract": LayerKind(merge_of("sub"), arguments=("mask",), any_order=True),
    "Multiply": LayerKind(merge_of("mul"), arguments=("mask",), any_order=True),
    "Average": LayerKind(merge_of("ave"), arguments=("mask",), any_order=True),
    "Maximum": LayerKind(merge_of("max"), arguments=("mask",), any_order=True),
    "Minimum": LayerKind(merge_of("min"), arguments=("mask",), any_order=True),
    "Concatenate": LayerKind(add_concatenate, arguments=("mask",), any_order=True),
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
    "TimeDistributed": LayerKind(add_time_distributed, _weighted_inside, ("training", "mask"), any_order=True),
    "Bidirectional": LayerKind(add_bidirectional, always, _RECURRENT),
    **dict.fromkeys(RECURRENT_LAYERS, LayerKind(add_recurrent, always, _RECURRENT)),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D"), LayerKind(add_conv_lstm, always, _RECURRENT, any_order=True)),
    **dict.fromkeys(MODELS, LayerKind(add_network, _weighted_inside, ("training", "mask"), any_order=True)),
}  # fmt: skip


#: Layers that are not computed -> what to do instead.
INSTEAD: Mapping[str, str] = {
    "ConvLSTM3D": "ConvLSTM1D and ConvLSTM2D are",
    "Lambda": "a Lambda is a program, which is not run; build the model of Keras's own layers and operations, such as "
    "x[:, -1] or keras.ops.sum(x, axis=1) in a Functional one, and set_weights(old.get_weights())",
    "StringLookup": "look the words up before predict, and give indices",
    "TextVectorization": "look the words up before predict, and give indices",
    "IntegerLookup": "look the numbers up before predict, and give indices",
}
