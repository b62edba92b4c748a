"""What `Model.predict_mc` draws, as docs/look-inside.md states it: written apart from the package."""

import numpy as np


def words(seed, key, sample, count):
    """The first numbers of 32 bits of one sample."""
    generator = np.random.Philox(key=np.array([seed, key], np.uint64), counter=np.array([0, 0, sample, 0], np.uint64))
    raw = generator.random_raw((count + 1) // 2)
    return np.stack([raw & np.uint64(0xFFFFFFFF), raw >> np.uint64(32)], axis=1).reshape(-1)[:count]


def factors(seed, key, sample, shape, rate):
    """Numbers 0 with probability `rate`, else 1 / (1 - rate), (batch, ...)."""
    found = words(seed, key, sample, int(np.prod(shape))) >= round(rate * 2**32)
    return found.reshape(shape) / (1.0 - rate)


def masks(seed, key, sample, batch, copies, size, rate):
    """Those of a recurrent layer, (copies, batch, size)."""
    return factors(seed, key, sample, (batch, copies, size), rate).transpose(1, 0, 2)
