"""Keras 2's layers for CuDNN, which Keras 3 no longer has, and their weights."""

from __future__ import annotations

import numpy as np

#: Layers for a GPU -> the layer that each computes, and the options that are fixed there.
_CUDNN = {
    "CuDNNLSTM": ("LSTM", {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}),
    "CuDNNGRU": (
        "GRU",
        {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "reset_after": True},
    ),
}
_MAX_DEPTH = 100


def without_cudnn(config: object, depth: int = 0) -> object:
    """A model's config in which each CuDNNLSTM is an LSTM and each CuDNNGRU a GRU, which compute the same.

    Their weights are recognised by the length of the bias and converted by `from_cudnn`.
    """
    if depth > _MAX_DEPTH:
        return config
    if isinstance(config, list):
        return [without_cudnn(item, depth + 1) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: without_cudnn(item, depth + 1) for key, item in config.items()}
    class_name, inner = found.get("class_name"), found.get("config")
    if isinstance(class_name, str) and class_name in _CUDNN and isinstance(inner, dict):
        plain, fixed = _CUDNN[class_name]
        found |= {"class_name": plain, "config": inner | fixed}
        if found.get("registered_name") == class_name:
            found["registered_name"] = plain
    return found


def from_cudnn(arrays: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    """The weights of a CuDNNLSTM (four gates) or CuDNNGRU (three) as those of an LSTM or a GRU(reset_after=True).

    CuDNN has one matrix (units, input) per gate; Keras keeps each as it lies in memory, in the shape (input, units).
    The two biases are concatenated (``preprocess_weights_for_loading`` in Keras 2).

    Parameters
    ----------
    arrays : dict
        ``kernel`` (input, gates*units), ``recurrent_kernel`` (units, gates*units), ``bias`` (2*gates*units,).
    gates : int

    Returns
    -------
    dict
        The same shapes, and ``bias`` (gates*units,) of an LSTM, (2, gates*units) of a GRU.
    """
    kernel, recurrent, bias = arrays["kernel"], arrays["recurrent_kernel"], arrays["bias"].reshape(2, -1)
    blocks = [block.reshape(block.shape[::-1]).T for block in np.split(kernel, gates, axis=1)]
    return {
        "kernel": np.concatenate(blocks, axis=1),
        "recurrent_kernel": np.concatenate([block.T for block in np.split(recurrent, gates, axis=1)], axis=1),
        "bias": bias[0] + bias[1] if gates == 4 else bias,
    }
