"""Attention."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.call import Flow, LayerCall, Mask, shape_text
from cylstm.formats.keras.layers.quantized import affine
from cylstm.formats.keras.masks import SCORES, attention_masks, loses_masks
from cylstm.formats.keras.weights import Part
from cylstm.graph.values import Option, Value


def _scores(
    call: LayerCall,
    inputs: Mapping[str, Value | None],
    weights: Mapping[str, np.ndarray] | None,
    options: Mapping[str, Option],
) -> Value:
    """How much each step of the query takes of each key: what attention makes of the rows of an identity matrix.

    (heads, query, key), or (query, key) of one head that has no axis. The masks of the query leave the scores as they
    are.
    """
    key, heads = inputs["key"], int(options.get("heads", 0))
    assert key is not None
    count = call.known_sizes(key, 0)[0]
    eye = np.tile(np.eye(count, dtype=np.float32), (1, max(heads, 1))).reshape(-1)
    zeros = call.add("slice", key, None, ".first", axis=1, start=0, count=1)
    zeros = call.add("reshape", zeros, None, ".steps", shape="-1")
    zeros = call.add("activation", zeros, None, ".zeros", activation="clip", activation_alpha=0.0, activation_beta=0.0)
    zeros = call.add("pad", zeros, None, ".places", axis=0, before=0, after=len(eye) - count)
    rows = call.add(
        "reshape", affine(call, zeros, 1.0, eye, ".ones"), None, ".eye", shape=f"{count},{len(eye) // count}"
    )
    given = {role: value for role, value in inputs.items() if role != "mask"} | {"value": rows}
    y = call.add("attention", given, weights, ".scores", **options)
    if not heads:
        return y
    steps = call.known_sizes(y, 0)[0]
    y = call.add("reshape", y, None, ".by_head", shape=f"{steps},{heads},{count}")
    return call.add("permute", y, None, ".heads_first", order="102")


def add_attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    is_additive = layer.class_name == "AdditiveAttention"
    layer.check_options({"use_scale", "score_mode", "causal", "dropout"})
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
    made = [Flow(_with_rate(call, call.add("attention", inputs, weights, **options)), Mask(mask))]
    if call.flag_argument(SCORES):
        made.append(Flow(_scores(call, inputs, weights, options)))
    return made


def _with_rate(call: LayerCall, y: Value) -> Value:
    """The result of an attention, of whose weights the graph keeps the rate of dropping, 0 too."""
    rate = call.layer.number("dropout", 0.0) if call.layer.config.get("dropout") else 0.0
    call.maker.noise[y.name] = {"dropout": rate}
    return y


def add_multi_head_attention(call: LayerCall) -> list[Flow]:
    layer = call.layer
    layer.check_options(
        {"num_heads", "key_dim", "value_dim", "use_bias", "use_gate", "output_shape", "attention_axes", "dropout",
         "flash_attention", "query_shape", "key_shape", "value_shape"}
    )  # fmt: skip
    axes = layer.config.get("attention_axes")
    if axes not in (None, 1, -2, [1], [-2]):
        raise UnsupportedError(f"{call.what}: option attention_axes expected the time, found {axes!r:.80}")
    heads, size = layer.whole("num_heads"), layer.whole("key_dim")
    value_size = layer.whole("value_dim") if layer.config.get("value_dim") is not None else size
    width = call.flow.value.features if layer.config.get("output_shape") is None else layer.size("output_shape")
    # Keras 3 has public names of the layers inside, which it prefers
    return _add_heads(call, heads, heads, size, value_size, width, "" if layer.version >= (3, 0) else "_")


def add_grouped_query_attention(call: LayerCall) -> list[Flow]:
    """Heads of the query that share the keys and values of a smaller number of heads."""
    layer = call.layer
    layer.check_options(
        {"head_dim", "num_query_heads", "num_key_value_heads", "use_bias", "use_gate", "dropout", "flash_attention"}
    )
    heads, shared, size = layer.whole("num_query_heads"), layer.whole("num_key_value_heads"), layer.whole("head_dim")
    if heads % shared:
        raise FormatError(f"{call.what}: {heads} heads of the query do not share {shared} of the key")
    return _add_heads(call, heads, shared, size, size, call.flow.value.features, "_")


def _add_heads(
    call: LayerCall, heads: int, shared: int, size: int, value_size: int, width: int, under: str
) -> list[Flow]:
    """Attention of `heads` heads, of which as many as make `shared` have the same keys and values.

    `under` is what the names of the layers inside begin with in a file.
    """
    layer, query = call.layer, call.flow
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
    has_gate, bias = layer.flag("use_gate", False), layer.flag("use_bias", True)
    masks, rule, mask = attention_masks(call, query, value, key)
    parts = [("query", query, heads, size), ("key", key, shared, size), ("value", value, shared, value_size)]
    parts += [("gate", query, heads, value_size)] if has_gate else []
    places = [
        Part((f"{'_' if name == 'gate' else under}{name}_dense",), (f"_{name}_dense",), ((name,),))
        for name, *_ in parts
    ]
    places.append(Part((f"{under}output_dense",), ("_output_dense",), (("attention_output",),)))
    inputs = {}
    for k, (name, flow, count, each) in enumerate(parts):
        shapes: dict[str, tuple[int, ...]] = {"kernel": (flow.value.features, count, each)}
        shapes |= {"bias": (count, each)} if bias else {}
        part = f"{call.name}.{name}"
        arrays = call.take_part(places, k, shapes, {"kernel": f"{part}/weight", "bias": f"{part}/bias"})
        repeated = {role: np.repeat(array, heads // count, axis=-2) for role, array in arrays.items()}
        weights: dict[str, np.ndarray] = {"weight": repeated["kernel"].reshape(-1, heads * each).T}
        weights |= {"bias": repeated["bias"].reshape(-1)} if bias else {}
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
    y = _with_rate(call, call.add("attention", given, None, ".attention", **options))
    if has_gate:
        y = call.add("merge", {"x": y, "x1": inputs["gate"]}, None, ".gated", mode="mul")
    shapes = {"kernel": (heads, value_size, width)} | ({"bias": (width,)} if bias else {})
    roles = {"kernel": f"{call.name}/weight", "bias": f"{call.name}/bias"}
    arrays = call.take_part(places, len(parts), shapes, roles)
    weights = {"weight": arrays["kernel"].reshape(-1, width).T} | ({"bias": arrays["bias"]} if bias else {})
    made = [Flow(call.add("dense", y, weights), Mask(mask))]
    if call.flag_argument(SCORES):
        made.append(Flow(_scores(call, given, None, options)))
    return made
