"""An order of units in which similar ones lie side by side."""

from __future__ import annotations

import numpy as np

#: steps that are looked at, evenly spaced
_STEPS = 256


def similar_order(values: np.ndarray) -> np.ndarray:
    """The units in the order of their angle in the plane of the first two principal components.

    Units that move alike have like angles (Friendly, "Corrgrams", The American Statistician 56, 2002). The circle is
    cut at its widest gap. Units that never move come last.

    Parameters
    ----------
    values : ndarray
        (time, units). Steps that hold NaN are left out.

    Returns
    -------
    ndarray of int
        (units,): a permutation.
    """
    steps, units = values.shape
    own = np.arange(units)
    rows = np.asarray(values[:: max(1, -(-steps // _STEPS))], np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if units < 3 or len(rows) < 3:
        return own
    rows = rows - rows.mean(axis=0)
    scale = np.sqrt((rows**2).sum(axis=0))
    moves = scale > 1e-12 * max(1.0, float(np.abs(values[np.isfinite(values)]).max()))
    if moves.sum() < 3:
        return np.concatenate([own[moves], own[~moves]])
    rows = rows[:, moves] / scale[moves]
    # the smaller of the two products has the same components
    if rows.shape[1] <= rows.shape[0]:
        vectors = np.linalg.eigh(rows.T @ rows)[1][:, [-1, -2]]
    else:
        vectors = rows.T @ np.linalg.eigh(rows @ rows.T)[1][:, [-1, -2]]
        vectors /= np.maximum(np.sqrt((vectors**2).sum(axis=0)), 1e-300)
    angle = np.arctan2(vectors[:, 1], vectors[:, 0])
    order = np.argsort(angle, kind="stable")
    gaps = np.diff(np.append(angle[order], angle[order[0]] + 2 * np.pi))
    order = np.roll(order, -(int(np.argmax(gaps)) + 1))
    return np.concatenate([own[moves][order], own[~moves]])
