"""Models from what is in memory: from state dicts, and from live models of Keras and PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cylstm.engine.mode import in_standard_mode
from cylstm.graph.graph import Graph
from cylstm.loading import warn_stateful
from cylstm.model import Model

if TYPE_CHECKING:
    from cylstm.formats.state_dict.wiring import Layer


@in_standard_mode
def from_state_dict(
    mapping: Mapping[str, Any],
    layers: Sequence[Layer] | None = None,
    *,
    engine: str | None = None,
    dtype: str | None = None,
    weights: str | None = None,
) -> Model:
    """A model from tensors in memory, named as PyTorch names them (NumPy arrays or tensors). See `load`."""
    from cylstm.formats.state_dict.assemble import from_state_dict as build

    return Model(build(mapping, layers), engine=engine, dtype=dtype, weights=weights)


@in_standard_mode
def from_keras(
    keras_model: Any,
    *,
    custom_layers: Mapping[str, Any] | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    weights: str | None = None,
    check: Any = None,
) -> Model:
    """A model from a live Keras model.

    Parameters
    ----------
    keras_model : keras.Model
        Weights are copied. Keras is not imported by this function.
    custom_layers : dict of str to callable, optional
        What custom layers compute, by the name of their class, and Lambdas by the name of the layer; see `load`.
    engine, dtype, weights : str, optional
        See `Model`.
    check : array_like, list or dict, optional
        An input, as `predict` takes it, to predict with Keras, as in inference, and here, before `weights` rounds any.
        ``model.provenance["check"]`` then has the ``"framework"``, the shapes of the ``"inputs"``, the ``"error"``,
        which is the largest difference over the largest number of an output, and the ``"tolerance"`` (1e-5 in float32,
        1e-11 where both compute in float64; where rounding in float32 alone makes more, eight times that). A stateful
        model starts at zero. The Keras model is left as it was, with the states and seeds that it holds.

    Raises
    ------
    CheckError
        If Keras and the model differ by more; the message says where, and both numbers.
    ShapeError
        If `check` does not fit the model.
    FormatError, UnsupportedError
        As `load` does.
    """
    from cylstm.formats.keras.live import from_keras as build

    graph = build(keras_model, custom_layers)
    if graph.stateful:
        warn_stateful(graph, "")
    if check is None:
        return Model(graph, engine=engine, dtype=dtype, weights=weights)
    from cylstm.checks.keras import check_keras

    # a model of its own, so that the weights are packed once at a time
    found = check_keras(Model(graph, engine=engine, dtype=dtype), keras_model, check)
    return _again(graph, engine, dtype, weights, found)


@in_standard_mode
def from_torch(
    module: Any,
    example: Any = None,
    *,
    inputs: Any = None,
    engine: str | None = None,
    dtype: str | None = None,
    weights: str | None = None,
    check: Any = None,
) -> Model:
    """A model from a live PyTorch layer, or from a whole network that ``torch.export`` can export.

    `predict` takes and gives the same arrays as the module: (batch, channels, time) where that is what it reads. Only
    the batch comes first always, also for a module whose time comes first.

    The network is exported with two lengths of its time, and what differs between them follows it: the model then takes
    any length. Arguments of the forward with a default keep it, unless `example` or `inputs` names them. The network is
    also run on random numbers and compared, so that nothing that the export does not see goes by.

    Parameters
    ----------
    module : torch.nn.Module
        Weights are copied. It is taken as after ``module.eval()``, and left exactly as it was. One that was compiled,
        or that is in a ``DataParallel``, is taken out of it.
    example : tensor, array, tuple, list or dict, optional
        What the forward is called with, by position or by name; only shapes and types count. The first axis is the
        batch, the one behind it that may have another length the time. Without it, `inputs` or the first layers tell.
    inputs : tuple, list of tuple or dict, optional
        The shapes of the arguments of its forward where the first layer to read each does not tell them: "N" for the
        batch, "T" for a time of any length and numbers, as ``[("N", "T", 6)]`` or ``{"x": ("N", 3, 20)}``.
    engine, dtype, weights : str, optional
        See `Model`.
    check : array_like, tensor, list or dict, optional
        An input as the module takes it, its axes in the module's order, to predict with PyTorch and here, before
        `weights` rounds any. ``model.provenance["check"]`` then has the ``"framework"``, the shapes of the
        ``"inputs"``, the ``"error"``, which is the largest difference over the largest number of an output, and the
        ``"tolerance"`` (1e-5 in float32, 1e-11 where both compute in float64, 0.02 in float16 and 0.1 in bfloat16;
        where rounding in float32 alone makes more, eight times that).

    Raises
    ------
    UnsupportedError
        If it cannot be exported, has an operation that is not computed, or depends on more than its arguments, such as
        what it keeps from call to call; the message names it. If PyTorch is older than 2.6.
    ShapeError
        If the layers do not fit together, one needs a number of steps that `inputs` has to say, or `check` does not
        fit.
    CheckError
        If PyTorch and the model differ by more than the tolerance; the message says where, and both numbers.
    """
    from cylstm.formats.torch.live import convert_module as build

    graph, call = build(module, inputs, example)
    model = Model(graph, engine=engine, dtype=dtype)
    from cylstm.checks.torch import check_module, try_module

    try_module(model, call)
    if check is None and weights is None:
        return model
    found = None if check is None else check_module(model, call, check)
    del model  # so that the weights are packed once at a time
    return _again(graph, engine, dtype, weights, found)


def _again(
    graph: Graph, engine: str | None, dtype: str | None, weights: str | None, found: dict[str, object] | None
) -> Model:
    """The model once more, with what a check found in its provenance; a Model never changes."""
    if found is not None:
        graph = graph._replace(provenance={**graph.provenance, "check": found})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said once
        return Model(graph, engine=engine, dtype=dtype, weights=weights)
