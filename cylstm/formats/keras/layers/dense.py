"""Dense and Embedding."""

from __future__ import annotations

from cylstm.errors import UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, NoMask, Rebuild, shape_text
from cylstm.formats.keras.layers.activations import activated, output_activation
from cylstm.graph.values import Value


def add_dense(call: LayerCall) -> Value:
    layer = call.layer
    layer.check_options({"units", "use_bias", "activation"})
    units, bias = layer.whole("units", old_name="output_dim"), layer.flag("use_bias", True)
    activation = output_activation(layer)
    shapes = {"kernel": (call.x.features, units)} | ({"bias": (units,)} if bias else {})
    arrays = call.take(shapes, {"kernel": "weight", "bias": "bias"})
    weights = {"weight": arrays["kernel"].T} | ({"bias": arrays["bias"]} if bias else {})
    return activated(call, activation, "dense", call.x, weights)


def add_embedding(call: LayerCall) -> list[Flow]:
    layer = call.layer
    layer.check_options({"input_dim", "output_dim", "mask_zero", "weights"})
    rows, size = layer.whole("input_dim"), layer.whole("output_dim")
    flow = call.flow
    if flow.value.kind != "index":
        if not call.maker.is_input(flow.value):
            raise UnsupportedError(
                f"{call.what}: indices that the network computes are not supported, found {flow.value.name!r}; "
                "an Embedding reads an input of the model"
            )
        raise Rebuild(indices=[flow.value.name])
    arrays = call.take({"embeddings": (rows, size)}, {"embeddings": "weight"})
    y = call.add("embedding", {"indices": flow.value}, {"weight": arrays["embeddings"]})
    mask: Value | NoMask | None = None
    if layer.flag("mask_zero", False):
        if len(flow.value.shape) == 1 and not call.first:
            mask = call.maker.mask_of(flow.value, 0, call.what)
        else:
            mask = NoMask(f"mask_zero of indices of shape {shape_text(flow.value)}, for (batch, time) it is")
    return [Flow(y, Mask(mask))]
