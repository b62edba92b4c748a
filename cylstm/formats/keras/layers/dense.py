"""Dense and Embedding."""

from __future__ import annotations

from cylstm.errors import UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, NoMask, Rebuild, shape_text
from cylstm.formats.keras.layers.activations import output_activation
from cylstm.formats.keras.layers.quantized import affine, product, take_kernel, take_table
from cylstm.formats.keras.masks import mask_behind
from cylstm.graph.values import Value


def add_dense(call: LayerCall) -> list[Flow]:
    layer, call = call.layer, call.last_is_last()
    layer.check_options({"units", "use_bias", "activation", "lora_rank", "lora_alpha", "quantization_config"})
    units, bias = layer.whole("units", old_name="output_dim"), layer.flag("use_bias", True)
    activation = output_activation(layer)
    kernel, shift = take_kernel(call, (call.x.features, units), [0], (units,) if bias else None)
    y = product(call, call.x, kernel, kernel.array.T, shift, activation)
    return call.result(y, mask_behind(call), call.flow.order)


_TABLE = {"input_dim", "output_dim", "mask_zero", "weights", "lora_rank", "lora_alpha", "quantization_config"}


def add_embedding(call: LayerCall) -> list[Flow]:
    call.layer.check_options(_TABLE)
    return _looked_up(call)


def _looked_up(call: LayerCall, *, is_tied: bool = True) -> list[Flow]:
    """Rows of the layer's table."""
    layer = call.layer
    rows, size = layer.whole("input_dim"), layer.whole("output_dim")
    flow = call.flow
    if flow.value.kind != "index":
        if not call.maker.is_input(flow.value):
            raise UnsupportedError(
                f"{call.what}: indices that the network computes are not supported, found {flow.value.name!r}; "
                "an Embedding reads an input of the model"
            )
        raise Rebuild(indices=[flow.value.name])
    table = take_table(call, rows, size, is_tied=is_tied)
    y = call.add("embedding", {"indices": flow.value}, {"weight": table.array})
    mask: Value | NoMask | None = None
    if layer.flag("mask_zero", False):
        if len(flow.value.shape) == 1 and not call.first:
            mask = call.maker.mask_of(flow.value, 0, call.what)
        else:
            mask = NoMask(f"mask_zero of indices of shape {shape_text(flow.value)}, for (batch, time) it is")
    return [Flow(y, Mask(mask))]


def add_reversible_embedding(call: LayerCall) -> list[Flow]:
    """An Embedding, or with ``reverse=True`` the logits of each of its rows."""
    layer = call.layer
    layer.check_options(_TABLE | {"tie_weights", "reverse_dtype", "logit_soft_cap"})
    is_tied = layer.flag("tie_weights", True)
    if not call.flag_argument("reverse"):
        return _looked_up(call, is_tied=is_tied)
    if layer.config.get("reverse_dtype") not in (None, "float32"):
        raise UnsupportedError(
            f"{call.what}: option reverse_dtype={layer.config['reverse_dtype']!r:.80} is not supported"
        )
    kernel = take_table(call, layer.whole("input_dim"), layer.whole("output_dim"), is_tied=is_tied).reverse
    cap = layer.config.get("logit_soft_cap")
    y = product(call, call.x, kernel, kernel.array.T, None, None, ".logits")
    if cap is not None:
        limit = layer.number("logit_soft_cap", None)
        y = affine(call, y, 1.0 / limit, 0.0, ".capped")
        y = call.add("activation", y, None, ".tanh", activation="tanh")
        y = affine(call, y, limit, 0.0, ".soft")
    return [Flow(y, Mask(None))]
