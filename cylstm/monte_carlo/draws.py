"""Random numbers that depend on the seed, the layer, the sample and the place in the sample alone.

With Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) as
``numpy.random.Philox`` has it, of key (seed, 4 * index of the layer in the graph + what of it: `READ`, `STATE` or
`RESULT`) and counter (0, 0, sample, 0), each number of a sample takes 32 bits in order, the lower half of a word first;
the numbers of a row follow those of the row before. A number is dropped where its 32 bits are below rate * 2**32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cylstm.engine._engine import draw_factors, draw_words

#: what is drawn of a layer: for a dropout, or what a recurrent layer reads; for its state; for its result
READ, STATE, RESULT = 0, 1, 2

#: what is multiplied, or added
Role = Literal["factor", "term"]


@dataclass
class Draw:
    """What one layer draws for one thing: numbers for each row.

    Attributes
    ----------
    key : int
        The second word of the key.
    form : str
        One of `cylstm.graph.noise.FORMS`.
    shape : tuple of int or None
        Of one row, None for the steps of `time_of`.
    of_batch : bool
        One draw for all rows.
    inputs : dict
        "factor" and "term" -> name of the input of the plan.
    """

    key: int
    layer: str
    rate: str
    form: str
    shape: tuple[int | None, ...]
    time_of: str | None
    of_batch: bool
    inputs: dict[Role, str] = field(default_factory=dict)

    def count(self, times: Mapping[str, int]) -> int:
        """How many numbers one row has."""
        found = 1
        for size in self.shape:
            found *= times[self.time_of or ""] if size is None else size
        return found


def drawn_inputs(
    draw: Draw,
    rate: float,
    times: Mapping[str, int],
    seed: int,
    samples: Sequence[int],
    batch: int,
    dtype: np.dtype,
) -> dict[str, np.ndarray]:
    """What is drawn of these samples, by the name of the input, (samples * batch, ...)."""
    each = draw.count(times)
    rows = 1 if draw.of_batch else batch
    found = {}
    for role, name in draw.inputs.items():
        numbers = np.empty((len(samples), rows * each), dtype)
        if draw.form in ("gaussian", "additive"):
            for row, sample in zip(numbers, samples):
                row[:] = normal_factors(draw.form, rate, random_words(seed, draw.key, sample, rows * each))
        else:
            kept, lost = kept_and_lost(draw.form, rate, role)
            draw_factors(seed, draw.key, samples[0], limit_of(rate), kept, lost, numbers)
        numbers = numbers.reshape(len(samples), rows, each)
        found[name] = np.ascontiguousarray(np.broadcast_to(numbers, (len(samples), batch, each)))
    shape: tuple[int, ...] = (each,)
    if draw.shape[0] is None:
        steps = times[draw.time_of or ""]
        shape = (steps, *(int(size or 1) for size in draw.shape[1:]))
    return {name: array.reshape(len(samples) * batch, *shape) for name, array in found.items()}


def random_words(seed: int, key: int, sample: int, count: int) -> np.ndarray:
    """The first numbers of 32 bits of one sample."""
    words = np.empty(count, np.uint32)
    draw_words(seed, key, sample, words)
    return words


def normal_numbers(words: np.ndarray) -> np.ndarray:
    """Standard normal numbers, float64, of words of 32 bits: the inverse of the distribution function at (word + 0.5) /
    2**32 by Wichura's algorithm AS 241 (1988), to 1e-15. In additions, multiplications, divisions and square roots
    alone, so that all machines give the same bits.
    """
    p = (words + 0.5) * 2.0**-32
    q = p - 0.5
    r = 0.180625 - q * q
    central = q * _polynomial(_CENTRAL[0], r) / _polynomial(_CENTRAL[1], r)
    tail = np.sqrt(-_logarithm(np.minimum(p, 1.0 - p)))
    near, far = tail - 1.6, tail - 5.0
    found = np.where(
        tail <= 5.0,
        _polynomial(_NEAR[0], near) / _polynomial(_NEAR[1], near),
        _polynomial(_FAR[0], far) / _polynomial(_FAR[1], far),
    )
    normal: np.ndarray = np.where(np.abs(q) <= 0.425, central, np.where(q < 0, -found, found))
    return normal


def _polynomial(coefficients: Sequence[float], x: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = found * x + coefficient
    return found


def _logarithm(x: np.ndarray) -> np.ndarray:
    """log(x) of numbers in (0, 1): the series of atanh, of the mantissa in [sqrt(1/2), sqrt(2))."""
    mantissa, exponent = np.frexp(x)
    is_small = mantissa < 0.7071067811865476
    mantissa = np.where(is_small, 2 * mantissa, mantissa)
    exponent = exponent - is_small
    s = (mantissa - 1) / (mantissa + 1)
    series = _polynomial([1.0 / (2 * k + 1) for k in range(12)], s * s)
    logarithm: np.ndarray = 2 * s * series + exponent * 0.6931471805599453
    return logarithm


_CENTRAL = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
_NEAR = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
     0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip

#: the SELU function's limit at minus infinity, -scale * alpha
_SELU_LIMIT = -1.7580993408473766


def limit_of(rate: float) -> int:
    """A number is dropped where its word is below this."""
    return min(round(rate * 2.0**32), 2**32 - 1)


def kept_and_lost(form: str, rate: float, role: Role) -> tuple[float, float]:
    """The factor or term of a number that is kept, and of one that is dropped.

    What is kept is scaled by 1 / (1 - rate), so that the mean is as it was; with "alpha" mean and variance of what had
    0 and 1 stay.
    """
    if form != "alpha":
        return 1.0 / (1.0 - rate), 0.0
    scale = 1.0 / math.sqrt((1.0 - rate) * (1.0 + rate * _SELU_LIMIT**2))
    shift = -scale * _SELU_LIMIT * rate
    return (scale, 0.0) if role == "factor" else (shift, scale * _SELU_LIMIT + shift)


def normal_factors(form: str, rate: float, words: np.ndarray) -> np.ndarray:
    """Factors of deviation sqrt(rate / (1 - rate)) around 1, or with "additive" terms of deviation `rate`, float64."""
    normal = normal_numbers(words)
    return normal * rate if form == "additive" else 1.0 + normal * math.sqrt(rate / (1.0 - rate))
