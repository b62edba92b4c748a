"""Which layers draw what in training, with which rates: as the file keeps them, or as the user gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.errors import ArgumentError, UnsupportedError, described
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.noise import MASKS, RATES, RECURRENT

#: the rate of a layer's result
OUTPUT = "output_dropout"
#: how many names a message has
_LIST = 12


def rates_of(graph: Graph, rates: object) -> dict[str, dict[str, Any]]:
    """Layer -> what it draws with which rates, of those that draw anything.

    Keys: ``rate``, ``form`` and ``shared`` of dropout layers; ``dropout``, ``recurrent_dropout`` and ``masks`` of
    recurrent ones; ``output_dropout`` of a layer's result, number by number.

    Raises
    ------
    ArgumentError
        If `rates` names what is not there or no rate, or nothing is drawn.
    UnsupportedError
        If a layer drops within it, where no mask reaches.
    """
    layers = {layer.name: layer for layer in graph.layers}
    found: dict[str, dict[str, Any]] = {}
    for layer in graph.layers:
        kept: dict[str, Any] = dict(graph.noise.get(layer.name, {}))
        if layer.kind == "dropout":
            kept = {"rate": layer.options["rate"], **kept}
        if layer.kind == "attention" and not kept:
            kept = {"dropout": None}
        if kept:
            found[layer.name] = kept
    if rates is not None and not isinstance(rates, Mapping):
        raise ArgumentError(f'rates: expected a dict such as {{"lstm": 0.2}}, found {described(rates)}')
    for name, given in (rates or {}).items():
        for each, entries in _entries(graph, layers, name, given):
            found[each] = {**found.get(each, {}), **entries}
    active: dict[str, dict[str, Any]] = {}
    for name, entries in found.items():
        kept = _active(layers[name], entries)
        if kept:
            active[name] = kept
    if not active:
        raise ArgumentError(_without_rates(graph))
    return active


def _entries(
    graph: Graph, layers: Mapping[str, Layer], name: object, given: object
) -> list[tuple[str, dict[str, Any]]]:
    """Layer -> what ``rates[name]`` says of it."""
    if not isinstance(name, str):
        raise ArgumentError(f"rates: expected names of layers, found {described(name)}")
    where = f"rates: {name!r}"
    within = [layer for layer in layers.values() if layer.name.startswith(f"{name}.") and layer.kind in RECURRENT]
    layer = layers.get(name)
    if layer is None and not within:
        known = [one.name for one in graph.layers]
        shown = ", ".join(known[:_LIST]) + (f" and {len(known) - _LIST} more" if len(known) > _LIST else "")
        raise ArgumentError(f"{where}: there is no such layer; the network has {shown}")
    if isinstance(given, Mapping):
        if not given:
            raise ArgumentError(f"{where}: expected a rate or a dict of rates, found an empty dict")
        targets = within if within and set(given) <= {*RATES, "masks"} else [layer] if layer else within
        return [(one.name, _given_rates(where, one, given)) for one in targets]
    rate = _rate(where, given)
    if layer is not None and not within:
        return [(name, _plain_rate(where, layer, rate))]
    stacked = [re.fullmatch(r"\.l(\d+)(\.reverse)?", one.name[len(name) :]) for one in within]
    levels = sorted({int(one[1]) for one in stacked if one})
    if not levels:
        return [(one.name, {"dropout": rate}) for one in within]
    if len(levels) == 1:
        raise ArgumentError(
            f"{where}: PyTorch drops between stacked layers, and this is one; name {within[0].name!r} to drop what "
            f"it reads, or give a dict such as {{'recurrent_dropout': {rate}}}"
        )
    between: list[tuple[str, dict[str, Any]]] = []
    for level in levels[:-1]:
        base = f"{name}.l{level}"
        if f"{base}.dropout" in layers:
            between.append((f"{base}.dropout", {"rate": rate}))
        else:
            between.append((f"{base}.merge" if f"{base}.merge" in layers else base, {OUTPUT: rate}))
    return between


def _rate(where: str, given: object) -> float:
    number = given.item() if isinstance(given, np.generic) else given
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0.0 <= number < 1.0:
        raise ArgumentError(f"{where}: expected a rate in [0, 1), found {described(given)}")
    return float(number)


def _plain_rate(where: str, layer: Layer, rate: float) -> dict[str, Any]:
    """What a number says of a layer."""
    if layer.kind == "dropout":
        return {"rate": rate}
    if layer.kind in RECURRENT or (layer.kind in ("attention", "conv_lstm") and rate == 0.0):
        return {"dropout": rate} if layer.kind in RECURRENT else dict.fromkeys(RATES, 0.0)
    return _given_rates(where, layer, {OUTPUT: rate})


def _given_rates(where: str, layer: Layer, given: Mapping[Any, Any]) -> dict[str, Any]:
    """What a dict says of a layer."""
    keys: tuple[str, ...] = ("rate",) if layer.kind == "dropout" else (OUTPUT,)
    if layer.kind in RECURRENT:
        keys = (*RATES, OUTPUT, "masks")
    elif layer.kind in ("attention", "conv_lstm"):
        keys = (*RATES, OUTPUT)
    found: dict[str, Any] = {}
    for key, entry in given.items():
        if key not in keys:
            raise ArgumentError(f"{where}: layer {layer.name!r} ({layer.kind}) takes {', '.join(keys)}, found {key!r}")
        if key == "masks":
            if entry not in MASKS[:3]:
                raise ArgumentError(f"{where}: masks expected one of {', '.join(MASKS[:3])}, found {described(entry)}")
            found[key] = entry
        else:
            found[key] = _rate(f"{where}: {key}", entry)
    if OUTPUT in found and not {"y", "h"} & set(layer.outputs):
        raise ArgumentError(f"{where}: layer {layer.name!r} ({layer.kind}) gives no numbers to drop")
    return found


def _active(layer: Layer, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a layer that draws something, complete; empty of one that does not."""
    where = f"layer {layer.name!r}"
    if layer.kind == "dropout":
        rate = float(entries["rate"])
        if rate >= 1.0 and entries.get("form") != "additive":
            raise UnsupportedError(
                f"{where}: its rate is {rate:g}, with which nothing is left; give another, such as "
                f"rates={{{layer.name!r}: 0.5}}"
            )
        return dict(entries) if rate else {}
    if layer.kind not in RECURRENT:
        if entries.get("dropout", 0.0) is None:
            raise UnsupportedError(
                f"{where}: the file does not say whether this attention drops weights in training, and predict_mc "
                f"cannot; rates={{{layer.name!r}: 0}} leaves it without"
            )
        if any(entries.get(key) for key in RATES):
            raise UnsupportedError(
                f"{where}: what a layer of kind {layer.kind} drops within it is not supported; "
                f"rates={{{layer.name!r}: 0}} leaves it without"
            )
        return {OUTPUT: entries[OUTPUT]} if entries.get(OUTPUT) else {}
    rates = {key: float(entries[key]) for key in (*RATES, OUTPUT) if entries.get(key)}
    if any(rate >= 1.0 for rate in rates.values()):
        raise UnsupportedError(
            f"{where}: a rate of 1 leaves nothing; give others, such as rates={{{layer.name!r}: 0.5}}"
        )
    if not set(rates) & set(RATES):
        return dict(rates)
    masks = entries.get("masks")
    if masks == "state":
        raise UnsupportedError(
            f"{where}: the recurrent dropout of a GRU of Keras 3.0 to 3.7 multiplies the state itself, which is not "
            f"supported; rates={{{layer.name!r}: {{'masks': 'gates'}}}} drops as the Keras before and after"
        )
    # Keras has a mask for each gate where a state is dropped
    default = "gates" if rates.get("recurrent_dropout") and layer.kind != "rnn" else "sequence"
    return {**rates, "masks": masks or default}


def _without_rates(graph: Graph) -> str:
    """What to say where nothing is drawn."""
    recurrent = [layer.name for layer in graph.layers if layer.kind in RECURRENT]
    other = [layer.name for layer in graph.layers if layer.kind in ("dense", "conv1d", "conv2d", "embedding")]
    inert = [layer.name for layer in graph.layers if layer.kind == "dropout"]
    names = [*inert, *recurrent, *other][:_LIST]
    example = f'{{"{names[0]}": 0.2}}' if names else "{...}"
    advice = f"give the rates of its training, such as rates={example}"
    if recurrent:
        advice += f', or rates={{"{recurrent[0]}": {{"dropout": 0.2, "recurrent_dropout": 0.1}}}}'
    return (
        "predict_mc: the network has no dropout with a rate above 0, or its file dropped them; "
        f"{advice}; layers: {', '.join(names)}"
    )
