"""Attention."""

from __future__ import annotations

import math

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, shape_text
from cylstm.formats.keras.masks import attention_masks, loses_masks
from cylstm.formats.keras.weights import Part
from cylstm.graph.values import Option


def _refuse_scores(call: LayerCall) -> None:
    if call.flag_argument("return_attention_scores"):
        raise UnsupportedError(f"{call.what}: argument return_attention_scores=True is not supported; leave it out")


def add_attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    is_additive = layer.class_name == "AdditiveAttention"
    layer.check_options({"use_scale", "score_mode", "causal", "dropout"})
    _refuse_scores(call)
    if not 2 <= len(call.flows) <= 3:
        raise FormatError(f"{call.what}: expected the inputs [query, value] or [query, value, key]")
    query, value, *rest = call.values
    key = rest[0] if rest else value
    use_scale = layer.flag("use_scale", is_additive)
    options: dict[str, Option] = {"score": "dot", "masked": "penalty"}
    options["causal"] = call.flag_argument("use_causal_mask") or layer.flag("causal", False)
    weights = {}
    if is_additive:
        options["score"] = "additive"
        weights["weight"] = np.ones(query.features, np.float32)
        if use_scale:
            weights["weight"] = call.take({"scale": (query.features,)}, {"scale": "weight"})["scale"]
    else:
        mode = layer.config.get("score_mode", "dot")
        if mode not in ("dot", "concat"):
            raise UnsupportedError(f"{call.what}: option score_mode expected 'dot' or 'concat', found {mode!r:.80}")
        names = [*(["scale"] if use_scale else []), *(["concat_score_weight"] if mode == "concat" else [])]
        arrays = call.take(dict.fromkeys(names, ()), {name: name for name in names}) if names else {}
        scale = float(arrays["scale"]) if use_scale else 1.0
        if mode == "concat":
            options |= {"score": "concat", "factor": scale}
            weights["weight"] = arrays["concat_score_weight"].reshape(1)
        else:
            options["scale"] = scale
    masks = [*call.listed_masks(), None, None]
    inputs = {
        "x": query, "key": key, "value": value,
        "mask": call.readable(masks[0]), "mask_value": call.readable(masks[1]),
    }  # fmt: skip
    mask = None if loses_masks(call) else masks[0]
    return [Flow(call.add("attention", inputs, weights, **options), Mask(mask))]


def add_multi_head_attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    layer.check_options(
        {"num_heads", "key_dim", "value_dim", "use_bias", "use_gate", "output_shape", "attention_axes", "dropout",
         "flash_attention", "query_shape", "key_shape", "value_shape"}
    )  # fmt: skip
    _refuse_scores(call)
    query = call.flow
    value = call.arguments.get("value")
    key = call.arguments.get("key")
    key = value if key is None else key
    if not isinstance(value, Flow) or not isinstance(key, Flow):
        raise FormatError(f"{call.what}: expected the inputs query and value")
    for flow in (query, value, key):
        if len(call.numbers(flow).shape) != 2:
            raise UnsupportedError(
                f"{call.what}: expected inputs (batch, time, features), found {shape_text(flow.value)}"
            )
    if call.arguments.get("attention_mask") is not None:
        raise UnsupportedError(f"{call.what}: argument attention_mask is not supported; use_causal_mask and masks are")
    axes = layer.config.get("attention_axes")
    if axes not in (None, 1, -2, [1], [-2]):
        raise UnsupportedError(f"{call.what}: option attention_axes expected the time, found {axes!r:.80}")
    heads, size = layer.whole("num_heads"), layer.whole("key_dim")
    value_size = layer.whole("value_dim") if layer.config.get("value_dim") is not None else size
    out = layer.config.get("output_shape")
    width = query.value.features if out is None else layer.size("output_shape")
    has_gate, bias = layer.flag("use_gate", False), layer.flag("use_bias", True)
    masks, rule, mask = attention_masks(call, query, value, key)
    parts = [("query", query, size), ("key", key, size), ("value", value, value_size)]
    parts += [("gate", query, value_size)] if has_gate else []
    under = "" if layer.version >= (3, 0) else "_"
    # Keras 3 has public names of the others, which it prefers
    places = [
        Part((f"{'_' if name == 'gate' else under}{name}_dense",), (f"_{name}_dense",), ((name,),))
        for name, _, _ in parts
    ]
    places.append(Part((f"{under}output_dense",), ("_output_dense",), (("attention_output",),)))
    inputs = {}
    for k, (name, flow, each) in enumerate(parts):
        shapes: dict[str, tuple[int, ...]] = {"kernel": (flow.value.features, heads, each)}
        shapes |= {"bias": (heads, each)} if bias else {}
        part = f"{call.name}.{name}"
        arrays = call.take_part(places, k, shapes, {"kernel": f"{part}/weight", "bias": f"{part}/bias"})
        weights: dict[str, np.ndarray] = {"weight": arrays["kernel"].reshape(-1, heads * each).T}
        weights |= {"bias": arrays["bias"].reshape(-1)} if bias else {}
        inputs[name] = call.add(
            "dense", flow.value, weights, f".{name}", activation="sigmoid" if name == "gate" else "linear"
        )
    options: dict[str, Option] = {
        "heads": heads,
        "scale": 1.0 / math.sqrt(size),
        "causal": call.flag_argument("use_causal_mask"),
        "masked": rule,
    }
    given = {"x": inputs["query"], "key": inputs["key"], "value": inputs["value"], **masks}
    y = call.add("attention", given, None, ".attention", **options)
    if has_gate:
        y = call.add("merge", {"x": y, "x1": inputs["gate"]}, None, ".gated", mode="mul")
    shapes = {"kernel": (heads, value_size, width)} | ({"bias": (width,)} if bias else {})
    roles = {"kernel": f"{call.name}/weight", "bias": f"{call.name}/bias"}
    arrays = call.take_part(places, len(parts), shapes, roles)
    weights = {"weight": arrays["kernel"].reshape(-1, width).T} | ({"bias": arrays["bias"]} if bias else {})
    return [Flow(call.add("dense", y, weights), Mask(mask))]
