"""Models from what is in memory, and native files from files of any kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from .model import Model, real_dtype, text_metadata


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    layers: Sequence[object] | None = None,
    key: str | None = None,
    architecture: object = None,
    keras_version: str | None = None,
    dtype: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Read a network from a file of any kind and write it as a native ``.cylstm``, which needs no further arguments.

    Parameters
    ----------
    source, target : path-like
    layers, key, architecture, keras_version
        As for `load`.
    dtype : {"float32", "float64"}, optional
        Of the weights written. None keeps each as it is.
    metadata : dict of str to str, optional
        Free text to put into the file: scaling, units, names. It is added to what the source has.

    Raises
    ------
    FormatError, UnsupportedError, ShapeError
        As `load` does.
    OSError
        If `target` cannot be written; a file that was there before is then untouched.
    """
    from .formats import read, write

    kind = None if dtype is None else real_dtype(dtype)
    added = {} if metadata is None else text_metadata(metadata)
    graph = read(source, layers=layers, key=key, architecture=architecture, keras_version=keras_version)
    if kind is not None:
        graph = graph._replace(tensors={name: array.astype(kind) for name, array in graph.tensors.items()})
    write(graph._replace(metadata={**graph.metadata, **added}), target)


def from_state_dict(
    mapping: Mapping[str, Any],
    layers: Sequence[object] | None = None,
    *,
    engine: str | None = None,
    dtype: str | None = None,
) -> Model:
    """A model from tensors in memory, named as PyTorch names them (NumPy arrays or tensors). See `load`."""
    from .formats.state_dict import from_state_dict as build

    return Model(build(mapping, layers), engine=engine, dtype=dtype)


def from_keras(keras_model: Any, *, engine: str | None = None, dtype: str | None = None) -> Model:
    """A model from a live Keras model. See `load` for the errors raised."""
    from .formats.keras import from_keras as build

    return Model(build(keras_model), engine=engine, dtype=dtype)


def from_torch(module: Any, *, inputs: Any = None, engine: str | None = None, dtype: str | None = None) -> Model:
    """A model from a live PyTorch layer, or from a whole network that torch.fx can trace.

    `predict` takes and gives the same arrays as the module: (batch, channels, time) where that is what it reads. Only
    the batch comes first always, also for a module whose time comes first.

    Parameters
    ----------
    module : torch.nn.Module
        Weights are copied. It is taken as after ``module.eval()``.
    inputs : tuple, list of tuple or dict, optional
        The shapes of the arguments of its forward where the first layer to read each does not tell them: "N" for the
        batch, "T" for a time of any length and numbers, as ``[("N", "T", 6)]`` or ``{"x": ("N", 3, 20)}``.
    engine, dtype : str, optional
        See `Model`.

    Raises
    ------
    UnsupportedError
        If it cannot be traced, or has a layer or an operation that is not computed; the message names it.
    ShapeError
        If the layers do not fit together, or one needs a number of steps that `inputs` has to say.
    """
    from .formats.torch import from_torch as build

    return Model(build(module, inputs), engine=engine, dtype=dtype)
