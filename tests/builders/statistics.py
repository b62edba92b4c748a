"""Whether two sets of samples come from one distribution, as far as means and covariances tell."""

import numpy as np


def distance(one, other):
    """The largest difference of a mean or covariance, in standard errors of both: (samples, ...) each."""
    moments = []
    for samples in (one, other):
        flat = np.asarray(samples, np.float64).reshape(len(samples), -1)
        centred = flat - flat.mean(axis=0)
        products = np.einsum("ni,nj->nij", centred, centred).reshape(len(flat), -1)
        both = np.concatenate([flat, products], axis=1)
        moments.append((both.mean(axis=0), both.var(axis=0) / len(both)))
    (mean, variance), (other_mean, other_variance) = moments
    error = np.sqrt(variance + other_variance)
    gap = np.abs(mean - other_mean)
    scale = np.abs(mean).max()
    return float((gap / np.maximum(error, 1e-6 * scale)).max())
