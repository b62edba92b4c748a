"""How near to a framework's numbers ours have to be."""

import numpy as np


def check(found, theirs, exact):
    """`found` is as exact as is promised, given the framework's result and that of the float64 reference.

    The error is at most the larger of 1e-6 of the scale of the exact numbers and four times the framework's own error.
    Returns the error on that scale.
    """
    assert found.shape == theirs.shape == exact.shape
    scale = max(1.0, float(np.abs(exact).max()))
    error, theirs_error = float(np.abs(found - exact).max()), float(np.abs(theirs - exact).max())
    assert error <= max(1e-6 * scale, 4 * theirs_error), (error, theirs_error, scale)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5 * scale)
    return error / scale
