"""Live Keras models as graphs. Keras is not imported."""

from __future__ import annotations

import sys

from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.keras.build import Model
from cylstm.formats.keras.weights import LiveWeights
from cylstm.formats.untrusted.json import parse_json
from cylstm.graph.graph import Graph


def from_keras(model: object, custom_layers: object = None) -> Graph:
    """The graph of a live Keras model; its weights are copied. Keras is not imported by this function.

    `custom_layers` as of `cylstm.from_keras`.

    Raises
    ------
    UnsupportedError
        If the model has a layer or an option that is not computed.
    """
    roots = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    root = next((name for name in roots if name in ("keras", "tf_keras", "tensorflow")), None)
    if root is None or not hasattr(model, "to_json"):
        raise UnsupportedError(
            f"from_keras takes a Keras model, found {type(model).__module__}.{type(model).__name__}; for a file use "
            "load(path), for a module of PyTorch from_torch"
        )
    if not getattr(model, "built", False):
        raise FormatError("from_keras: the model has no weights yet; build it or call it once")
    library = sys.modules.get("keras" if root == "tensorflow" else root, sys.modules[root])
    try:
        text = model.to_json()
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UnsupportedError(f"from_keras: the model cannot be described: {error}") from error
    described = Model("Keras model", parse_json(text, "Keras model"), library.__version__, custom_layers)
    weights = LiveWeights(model, described.layers)
    backend = getattr(getattr(library, "backend", None), "backend", lambda: None)()
    return described.graph(weights, {"format": "keras live", "source": "live model", "backend": backend})
