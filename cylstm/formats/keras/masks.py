"""What becomes of a mask in each layer, which depends on the version of Keras that wrote the model.

Read in Keras 2.0.9 to 3.15 (``supports_masking``, ``compute_mask`` and ``call`` of each layer, and the base layer), and
compared live with those that run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cylstm.formats.keras.call import Flow, LayerCall, NoMask
from cylstm.formats.keras.config import LayerConfig
from cylstm.graph.values import Value

Version = tuple[int, int]

#: What a layer does with the mask of its input. KEEPS: the output has it too. ENDS: the output has none. OWN: the
#: layer's function decides, as of what reads masks, makes them or has several inputs.
KEEPS, ENDS, OWN = "keeps", "ends", "own"

_KEPT, _ENDED, _OF_ITS_OWN = ((0, 0), KEEPS), ((0, 0), ENDS), ((0, 0), OWN)

#: Layers over time or images: their names, with "#" for the number of dimensions, and the most of these.
_SPATIAL = (
    ("Conv#D", 3), ("Conv#DTranspose", 3), ("DepthwiseConv#D", 2), ("SeparableConv#D", 2), ("MaxPooling#D", 3),
    ("AveragePooling#D", 3), ("AdaptiveMaxPooling#D", 3), ("AdaptiveAveragePooling#D", 3), ("GlobalMaxPooling#D", 3),
    ("GlobalAveragePooling#D", 3), ("Cropping#D", 3), ("ZeroPadding#D", 3), ("UpSampling#D", 3),
)  # fmt: skip

#: Keras's class name -> (first version, what) in ascending order. Before 2.4 Keras (not tf.keras) refused to build a
#: layer that ends masks behind one that gives a mask; since then the mask ends silently, or with a warning.
MASKS: Mapping[str, Sequence[tuple[Version, str]]] = {
    **dict.fromkeys(
        ("Dense", "Activation", "LeakyReLU", "ELU", "ReLU", "ThresholdedReLU", "PReLU", "Softmax", "Dropout",
         "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout",
         "AlphaDropout", "ActivityRegularization",
         "BatchNormalization", "LayerNormalization", "UnitNormalization", "GroupNormalization"),
        (_KEPT,),
    ),
    **dict.fromkeys(("Identity", "Normalization", "Rescaling"), (_ENDED, ((3, 0), KEEPS))),
    **dict.fromkeys(
        ("RMSNormalization", "Flatten", "Reshape", "Permute", "RepeatVector", "Dot", "EinsumDense",
         *(name.replace("#", str(n)) for name, most in _SPATIAL for n in range(1, most + 1))),
        (_ENDED,),
    ),
    **dict.fromkeys(
        ("Embedding", "ReversibleEmbedding", "Masking", "SpectralNormalization", "GroupQueryAttention",
         "GroupedQueryAttention", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate",
         "Attention", "AdditiveAttention", "MultiHeadAttention", "TimeDistributed", "Bidirectional", "LSTM", "GRU",
         "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "Sequential", "Functional", "Model"),
        (_OF_ITS_OWN,),
    ),
}  # fmt: skip

#: These take a mask, and end it.
_TAKES = ("GlobalAveragePooling1D", "Dot")

#: Merge layers take the neutral number, or the other input, at masked steps, and a step counts where any input's does.
#: From 3.0 on Keras did not see the masks of several inputs when it made the output's.
_FILLS, _LOSES = (3, 4), (3, 0)
#: The output's mask is the call's own argument; before, Keras 3 took that of the input in any case.
_OWN_ARGUMENT = (3, 11)
#: The argument with which attention gives its scores, too.
SCORES = "return_attention_scores"
#: MultiHeadAttention reads masks, and takes them away from its inputs. Where no step counts, its attention is the mean
#: of all without dropout, and 0 with it; before, 1e9 was taken from the scores of steps that do not count.
_ATTENTION_READS, _ATTENTION_TAKES, _ATTENTION_AVERAGES, _ATTENTION_ZEROES = (2, 10), (3, 8), (3, 7), (3, 10)


def rule_of(class_name: str, version: Version) -> str:
    """What a layer of this class does with a mask, by the version of Keras."""
    return [what for since, what in MASKS[class_name] if since <= version][-1]


def passed_mask(call: LayerCall) -> Value | NoMask | None:
    """The mask of the output of a layer that hands a mask on."""
    is_explicit, mask = call.explicit_mask()
    reads_argument = not (3, 0) <= call.layer.version < _OWN_ARGUMENT
    return mask if is_explicit and reads_argument else call.flows[0].mask.value


def mask_behind(call: LayerCall) -> Value | NoMask | None:
    """The mask of the output of a layer whose function leaves it to the table."""
    layer, maker = call.layer, call.maker
    if rule_of(layer.class_name, layer.version) == KEEPS:
        return passed_mask(call)
    refuses = layer.version < (2, 4) and not maker.is_tensorflow and layer.class_name not in _TAKES
    for flow in call.flows if refuses else ():
        if flow.mask.value is not None:
            call.refuse_mask(
                flow.mask.value,
                f"a layer that does not support masking, behind one that gives a mask: Keras {layer.version[0]}."
                f"{layer.version[1]} does not build that; give the keras_version that wrote the model",
            )
    return None


def loses_masks(call: LayerCall) -> bool:
    """Whether this Keras loses the masks of a layer that is called with a list."""
    return _LOSES <= call.layer.version < _FILLS


def merged_mask(
    call: LayerCall, masks: Sequence[Value | NoMask | None], *, along_time: bool = False
) -> Value | NoMask | None:
    """The mask of a merge: since Keras 3.4 any of the inputs' counts, in Keras 2 all of those that are there."""
    if loses_masks(call):
        return None
    is_old = call.layer.version < _FILLS
    found = [mask for mask in masks if mask is not None]
    if not found or (len(found) < len(masks) and not is_old):
        # A missing mask counts everywhere, and so does it in any of several.
        return None
    if along_time:
        inputs = [call.maker.inputs_of(mask) for mask in found]
        together = frozenset().union(*inputs) if all(inputs) else frozenset()
        return NoMask("masks joined along the time; drop the masks before", together)
    return call.merged_mask(found, "all" if is_old else "any", f"{call.name}.mask")


def add_merge(call: LayerCall, mode: str) -> list[Flow]:
    """A merge of all inputs, and what Keras makes of those that are masked."""
    values = call.values
    call.maker.share_time(values)
    mask = merged_mask(call, call.listed_masks())
    rank = max(len(value.shape) for value in values)
    # Keras reads the masks of the tensors, and an input of lower rank gets an axis, so that it is another tensor.
    masks = [flow.mask.value if len(flow.value.shape) == rank else None for flow in call.flows]
    if call.layer.version < _FILLS or mode not in ("mul", "max", "min") or not any(masks):
        y = call.add("merge", {f"x{k or ''}": value for k, value in enumerate(values)}, mode=mode)
    elif rank != 2:
        found = next(mask for mask in masks if mask is not None)
        call.refuse_mask(found, "a mask of an input of more axes than (batch, time, features) is not supported")
    else:
        readable = [call.readable(mask) for mask in masks]
        y = (_product if mode == "mul" else _extreme)(call, mode, values, readable)
    return call.result(y, mask, call.flows[0].order)


def _product(call: LayerCall, mode: str, values: Sequence[Value], masks: Sequence[Value | None]) -> Value:
    """1 at the masked steps of each input, and 0 where no input counts if all have a mask."""
    is_one = len({mask and mask.name for mask in masks}) == 1
    if not is_one:
        values = [
            value if mask is None else call.add("mask_fill", {"x": value, "mask": mask}, None, f".input{k}", value=1.0)
            for k, (value, mask) in enumerate(zip(values, masks, strict=True))
        ]
    suffix = ".product" if all(masks) else ""
    y = call.add("merge", {f"x{k or ''}": value for k, value in enumerate(values)}, None, suffix, mode=mode)
    if not all(masks):
        return y
    found = [mask for mask in masks if mask is not None]
    both = found[0] if is_one else call.readable(call.merged_mask(found, "any", f"{call.name}.mask"))
    return call.add("mask_fill", {"x": y, "mask": both}, value=0.0)


def _extreme(call: LayerCall, mode: str, values: Sequence[Value], masks: Sequence[Value | None]) -> Value:
    """One input after the other: at the masked steps of one it is the other, of both the first."""
    y, mask = values[0], masks[0]
    for k, (x, of_x) in enumerate(zip(values[1:], masks[1:], strict=True), 1):
        if of_x is not None:
            x = call.add("mask_fill", {"x": x, "mask": of_x, "x1": y}, None, f".input{k}")
        if mask is not None:
            y = call.add("mask_fill", {"x": y, "mask": mask, "x1": x}, None, f".before{k}")
        is_last = k == len(values) - 1
        if mask is None or of_x is None:
            mask = None
        elif not is_last:
            mask = call.readable(call.merged_mask([mask, of_x], "any", f"{call.name}.mask{k}"))
        y = call.add("merge", {"x": y, "x1": x}, None, "" if is_last else f".{mode}{k}", mode=mode)
    return y


def attention_masks(
    call: LayerCall, query: Flow, value: Flow, key: Flow
) -> tuple[dict[str, Value | None], str, Value | NoMask | None]:
    """The masks that a MultiHeadAttention reads, by role; its rule for steps that do not count; its output's mask.

    Roles and rules are those of the operation ``attention``.
    """
    version = call.layer.version
    # With the scores as a result, Keras computes them as with dropout.
    rule = _masked_scores(version, bool(call.layer.config.get("dropout")) or call.flag_argument(SCORES))
    if version < _ATTENTION_READS:
        return {}, rule, None
    # Since 3.8 MultiHeadAttention does not read its argument query_mask.
    takes = version >= _ATTENTION_TAKES and call.layer.class_name == "MultiHeadAttention"
    is_explicit, of_query = call.explicit_mask("query_mask")
    if not is_explicit or takes:
        of_query = query.mask.value
    found = []
    for name, flow in (("value", value), ("key", key)):
        is_explicit, mask = call.explicit_mask(f"{name}_mask")
        if not is_explicit and (name == "value" or call.arguments.get("key") is not None):
            mask = flow.mask.value
        if mask is not None:
            found.append(mask)
    of_value = call.readable(call.merged_mask(found, "all", f"{call.name}.mask")) if found else None
    masks = {"mask_query": call.readable(of_query), "mask_value": of_value}
    mask = query.mask.value
    if takes:
        for flow in (query, value, key):
            # Keras takes the masks from the tensors themselves: calls after this one see none.
            flow.mask.value = None
    return masks, rule, mask


def _masked_scores(version: Version, has_scores: bool) -> str:
    if version >= _ATTENTION_AVERAGES and not has_scores:
        return "average"
    return "zero" if version >= _ATTENTION_ZEROES else "penalty"


def inner_mask(call: LayerCall, inner: LayerConfig, mask: Value | NoMask | None) -> Value | NoMask | None:
    """The mask that is seen inside TimeDistributed: in a model, that of its step."""
    if mask is not None and inner.class_name == "Softmax":
        call.refuse_mask(mask, "a softmax layer with a mask is not supported; use Activation('softmax')")
    return mask if inner.class_name in ("Sequential", "Functional", "Model") else None


def mask_of_frames(call: LayerCall, made: Flow, mask: Value | NoMask | None) -> Value | NoMask | None:
    """The mask behind TimeDistributed: that of its input, or in Keras 2 the one that is made inside."""
    if call.layer.version < (3, 0) and isinstance(made.mask.value, NoMask):
        return made.mask.value
    return mask
