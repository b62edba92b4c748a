"""Masking, layers that contain layers, and models as layers."""

from __future__ import annotations

import math
from dataclasses import replace

from cylstm.errors import UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, NoMask, shape_text
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.masks import inner_mask, mask_of_frames, passed_mask
from cylstm.formats.keras.network import MODELS
from cylstm.formats.keras.weights import Part
from cylstm.graph.values import StaticTimeNeeded, Value


def add_masking(call: LayerCall) -> list[Flow]:
    layer, x = call.layer, call.x
    layer.check_options({"mask_value"})
    if call.first or x.kind != "sequence":
        raise UnsupportedError(f"{call.what}: expected an input (batch, time, features), found {shape_text(x)}")
    if len(x.shape) > 2:
        # the last axis is masked at each place of the others
        known = call.known_sizes(x, 0)
        flat = call.add("reshape", x, None, ".places", shape=f"{math.prod(known[:-1])},{known[-1]}")
        y = call.add("masking", flat, None, ".masked", mask_value=layer.number("mask_value", 0.0))
        y = call.add("reshape", y, shape=",".join(map(str, known)))
        return [Flow(y, Mask(NoMask(f"Masking of an input {shape_text(x)}, for (batch, time, features) it is")))]
    made = call.add_layer("masking", call.name, {"x": x}, None, {"mask_value": layer.number("mask_value", 0.0)})
    return [Flow(made["y"], Mask(made["mask"]))]


#: Layers that SpectralNormalization can hold; of an Embedding Keras makes whole numbers.
_WITH_KERNEL = (
    "Dense", "EinsumDense", *(f"Conv{n}D{ending}" for n in (1, 2, 3) for ending in ("", "Transpose")),
)  # fmt: skip


def add_spectral_normalization(call: LayerCall) -> list[Flow]:
    """The layer inside, whose kernel training has normalised, with the mask that it gives: Keras 3 leaves that."""
    layer = call.layer
    layer.check_options({"layer", "power_iterations"})
    inner = layer.inner(layer.config.get("layer"), "layer")
    if inner.class_name not in _WITH_KERNEL:
        raise UnsupportedError(
            f"{call.what}: of a layer of class {inner.class_name} is not supported; of {', '.join(_WITH_KERNEL)} it is"
        )
    mask = call.flow.mask.value
    if mask is not None and layer.version < (3, 0):
        call.refuse_mask(mask, "SpectralNormalization of Keras 2 with a mask is not supported")
    if call.maker.is_archive:
        # the kernel of the layer inside once more, and what training divides it by
        own = ["kernel", "vector_u"]
        call.take(dict.fromkeys(own, ()), dict.fromkeys(own, "(not used)"), ignored=own)
    within = Part((*call.within.path, "layer"), (*call.within.attributes, "layer"), (), call.within.below)
    return call.maker.call_layer(replace(call, layer=inner, within=within, arguments={}))


def add_time_distributed(call: LayerCall) -> list[Flow]:
    call.layer.check_options({"layer"})
    inner = call.layer.inner(call.layer.config.get("layer"), "layer", may_be_custom=True)
    call = call if call.flow.order[:1] == (0,) else call.natural()
    x, (is_explicit, mask) = call.flow.value, call.explicit_mask()
    flow = replace(call.flow, mask=Mask(mask)) if is_explicit else call.flow
    if call.first or not x.has_time or len(x.shape) < 2:
        raise UnsupportedError(f"{call.what}: expected an input (batch, time, ...), found {shape_text(x)}")
    within = Part((*call.within.path, "layer"), (*call.within.attributes, "layer"), (), call.within.below)
    if not _works_on_each_step(inner):
        return _frame_by_frame(call, inner, within, call.maker.arranged(flow, range(len(flow.order))))
    given = replace(flow, mask=Mask(inner_mask(call, inner, flow.mask.value)))
    made = call.maker.call_layer(
        LayerCall(call.maker, inner, call.name, call.owner, within, [given], first=1, is_last=call.is_last)
    )
    mask = passed_mask(call)
    return [replace(one, mask=Mask(mask_of_frames(call, one, mask))) for one in made]


#: Inside TimeDistributed, layers that are called on single frames add as many layers to the graph.
_MOST_FRAMES = 256


#: Layers that TimeDistributed gives all its steps at once; any other is called frame by frame.
_PER_STEP = {
    "Dense", "Embedding", "Activation", "LeakyReLU", "ELU", "ReLU", "PReLU", "Softmax", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "Identity", "BatchNormalization", "LayerNormalization", "RMSNormalization",
    "UnitNormalization", "Normalization", "Rescaling", "Flatten", "Reshape", "Permute", "RepeatVector", "EinsumDense",
    "ThresholdedReLU", *(f"{name}{n}D" for n in (1, 2, 3) for name in (
        "GlobalMaxPooling", "GlobalAveragePooling", "MaxPooling", "AveragePooling", "AdaptiveMaxPooling",
        "AdaptiveAveragePooling", "Cropping", "ZeroPadding", "UpSampling")),
    *(f"{name}Conv{n}D" for n in (1, 2) for name in ("", "Depthwise", "Separable")), "Conv1DTranspose",
    "Conv2DTranspose",
    *MODELS,
}  # fmt: skip


def _works_on_each_step(layer: LayerConfig) -> bool:
    """Whether a layer, or all that a model holds, can be given all steps at once."""
    if layer.class_name in MODELS:
        entries = layer.config.get("layers") or []
        inside = [layer.inner(entry, "layer", may_be_custom=True) for entry in entries if isinstance(entry, dict)]
        return all(one.class_name == "InputLayer" or _works_on_each_step(one) for one in inside)
    if layer.class_name == "SpectralNormalization":
        return _works_on_each_step(layer.inner(layer.config.get("layer"), "layer"))
    return layer.class_name in _PER_STEP and not layer.is_operation


def _frame_by_frame(call: LayerCall, inner: LayerConfig, within: Part, flow: Flow) -> list[Flow]:
    """What is inside TimeDistributed called on each of a fixed number of frames, with one set of weights."""
    x = flow.value
    if x.kind == "index":
        raise UnsupportedError(
            f"{inner.what}: on frames of indices is not supported; put the Embedding into a TimeDistributed "
            "of its own, before this one"
        )
    if flow.mask.value is not None:
        call.refuse_mask(flow.mask.value, "a mask inside TimeDistributed is not supported")
    if x.shape[0] is None:
        raise StaticTimeNeeded(
            f"{inner.what}: inside TimeDistributed it needs the number of frames in advance: say it in the "
            f"shape of the input, found {shape_text(x)}"
        )
    if x.shape[0] > _MOST_FRAMES:
        raise UnsupportedError(f"{inner.what}: more than {_MOST_FRAMES} frames are not supported, found {x.shape[0]}")
    results: list[list[Value]] = []
    for k in range(x.shape[0]):
        frame = call.add("slice", {"x": x}, None, "/frame", axis=0, start=k, count=1)
        frame = call.add("reshape", frame, None, "/frame/shape", shape=",".join(map(str, x.shape[1:])))
        made = call.maker.call_layer(
            LayerCall(call.maker, inner, call.name, call.owner, within, [Flow(frame)], is_last=call.is_last)
        )
        rows = [
            call.add("reshape", one.value, None, "/row", shape=",".join(map(str, (1, *one.value.shape))))
            for one in made
        ]
        results.append(rows)
    joined = []
    for every in zip(*results, strict=True):
        inputs = {f"x{k or ''}": row for k, row in enumerate(every)}
        joined.append(Flow(call.add("merge", inputs, None, "/frames", mode="concat", axis=0)))
    return joined


def add_network(call: LayerCall) -> list[Flow]:
    return call.maker.call_network(call)
