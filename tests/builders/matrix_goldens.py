"""A fixed part of the differential matrix, kept as files so that ``make test`` checks it without the frameworks.

The live matrices write it: ``CYLSTM_WRITE_GOLDENS=1 KERAS_BACKEND=torch python -m pytest -m frameworks -k matrix``.
Each golden is a model in the native format beside an ``.npz`` with the input, mask, initial state and the framework's
own outputs.
"""

import os

import numpy as np

from tests import DATA
from tests.builders.configurations import seed

FOLDER = DATA / "goldens" / "matrix"


def record(identity, model, x, theirs, *, every, mask=None, initial_state=None):
    """Keep one configuration in `every`, if asked to and if the model is small.

    Parameters
    ----------
    identity : tuple
        What names the configuration; its first item names the family.
    model : Model
    x : ndarray
    theirs : list of ndarray
        The framework's outputs, in the order of the model's.
    every : int
    mask : ndarray of bool (batch, time), optional
    initial_state : list of tuple of ndarray, optional
    """
    is_large = model.graph.parameters() > 22000
    if not os.environ.get("CYLSTM_WRITE_GOLDENS") or seed("golden", identity) % every or is_large:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = f"{identity[0].lower()}_{seed(identity):08x}"
    arrays = {f"y{k}": np.asarray(y, np.float32) for k, y in enumerate(theirs)}
    if mask is not None:
        arrays["mask"] = mask
    for k, array in enumerate(array for parts in initial_state or () for array in parts):
        arrays[f"state{k}"] = array
    model.save(FOLDER / f"{name}.cylstm", metadata={"configuration": repr(identity)})
    np.savez_compressed(FOLDER / f"{name}.npz", x=x, **arrays)
