"""How a prediction changes where a part of the input is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.explain.coalitions import Explained

if TYPE_CHECKING:
    from cylstm.explain.attribution import Attribution
    from cylstm.model import Model


@in_standard_mode
def occlusion(
    model: Model | Callable[[np.ndarray], Any],
    x: Any,
    groups: Any = "features",
    baseline: Any = 0.0,
    *,
    output: Any = None,
    rows: int | None = None,
    share: bool = True,
    **given: Any,
) -> Attribution:
    """How much the prediction changes where each group of the input, alone, is replaced by a baseline.

    Parameters
    ----------
    model : Model or callable
        A model of one input; or a function of a batch of inputs that gives an output for each, an array (rows, ...).
    x : array_like
        As `Model.predict` takes it; for a function a batch, (batch, ..., features) with time first.
    groups : str, int, list, dict or tuple
        "features": each feature, over all of the time; a list of texts names them. "time": each step; a number n:
        blocks of n steps, counted from the end. A tuple of one of features and one of time, ``("features", 24)``: each
        feature in each block. A dict from names to groups: of features an index, a slice or a list; a tuple that
        indexes steps and features of a sample; or a mask of bool of the shape of a sample. Numbers that are in no group
        stay as they are.
    baseline : float, array_like or Background
        What stands in their place: a number, one for each feature, a sample, a sample for each row of `x`, or data
        (see `Background`).
    output : int, slice, tuple, str or callable, optional
        Which outputs are explained: an index of one row's result as NumPy takes it, such as ``0`` or ``(-1, 0)``; of
        several outputs of a network a name, or a tuple of a name and an index; or a function of the outputs. By default
        all.
    rows : int, optional
        The most rows of a batch; by default what keeps a batch at 16 MB or less in float32.
    share : bool
        Compute steps once in which inputs agree, by copying the states of a stream, where the model streams and it is
        worth while. In ``engine="packed"`` the numbers have the same bits either way.
    **given
        ``lengths``, ``mask``, ``initial_state`` or ``threads``, as `Model.predict` takes them.

    Returns
    -------
    Attribution
        ``values[:, k]`` is the prediction less that without group k.

    Raises
    ------
    ArgumentError
        If groups overlap or are not in the input, or there is no such output.
    ShapeError
        If `x` or the baseline has another shape than is needed.
    UnsupportedError
        For a model of several inputs: explain a function of one of them.
    """
    explained = Explained(model, x, output, rows=rows, share=share, given=given)
    divided, instead = explained.divided(groups, baseline)
    count = len(divided)
    # all are there, each is not, none is; of one group the last two are the same
    present = np.concatenate([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
    if count > 1:
        present = np.concatenate([present, np.zeros((1, count), bool)])
    found = explained.of(divided, instead, present)
    values = found[:, :1] - found[:, 1 : count + 1]
    return explained.result("occlusion", divided, values, np.zeros_like(values), found[:, [-1, 0]])
