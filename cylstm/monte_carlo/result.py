"""What predictions with dropout give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, described
from cylstm.graph.graph import read_only

#: how many numbers of an output a notebook shows one by one
_MOST_SHOWN = 24


class MonteCarlo:
    """Predictions with dropout, of `Model.predict_mc`.

    Of a network of several outputs each is a list, in the order of `Model.outputs`.

    Attributes
    ----------
    mean, std : ndarray or list of ndarray
        float64, of the shape of the prediction: over the samples, `std` with n - 1 in the denominator (NaN of a single
        sample).
    samples : ndarray or list of ndarray, or None
        (samples, batch, ...), of the model's dtype; None if they were not kept.
    count, seed : int
    rates : dict
        What was drawn: layer -> its rates. Read-only.
    """

    def __init__(
        self,
        mean: Any,
        std: Any,
        samples: Any,
        count: int,
        seed: int,
        rates: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.mean = mean
        self.std = std
        self.samples = samples
        self.count = count
        self.seed = seed
        self.rates = read_only(dict(rates))

    @in_standard_mode
    def quantile(self, q: Any) -> Any:
        """Quantiles over the samples, as ``numpy.quantile`` gives them: ``quantile([0.05, 0.95])`` is (2, batch, ...).

        Raises
        ------
        ArgumentError
            If `q` is outside [0, 1], or the samples were not kept.
        """
        if self.samples is None:
            raise ArgumentError("quantile: needs the samples; leave keep_samples at True")
        try:
            levels = np.asarray(q, np.float64)
            is_level = bool(((levels >= 0) & (levels <= 1)).all())
        except (TypeError, ValueError):
            is_level = False
        if not is_level:
            raise ArgumentError(f"q: expected numbers in [0, 1], found {described(q)}")
        if isinstance(self.samples, list):
            return [np.quantile(samples, levels, axis=0) for samples in self.samples]
        return np.quantile(self.samples, levels, axis=0)

    def __repr__(self) -> str:
        mean = self.mean if isinstance(self.mean, list) else [self.mean]
        shapes = ", ".join(str(array.shape) for array in mean)
        return f"MonteCarlo({self.count} samples of {shapes}, seed {self.seed}, rates {dict(self.rates)})"

    def _repr_html_(self) -> str:
        from cylstm.shown import html_table

        rows: list[tuple[str, ...]] = [("output", "at", "mean", "deviation")]
        pairs = zip(*[one if isinstance(one, list) else [one] for one in (self.mean, self.std)])
        for number, (mean, std) in enumerate(pairs):
            if mean.size > _MOST_SHOWN:
                rows.append((str(number), f"all of {mean.shape}", f"{mean.mean():.6g} on average", f"{std.mean():.3g}"))
                continue
            rows += [
                (str(number), str(place), f"{mean[place]:.6g}", f"{std[place]:.3g}") for place in np.ndindex(mean.shape)
            ]
        rates = [f"{layer}: {dict(one)}" for layer, one in self.rates.items()]
        return html_table(f"{self.count} predictions with dropout, seed {self.seed}", rows, rates[:_MOST_SHOWN])


class Moments:
    """Mean and deviation of samples that come some at a time, in float64: sums, one sample after the other, of how far
    each is from the first and of the squares.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self._first = np.zeros(shape)
        self._sum = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, samples: np.ndarray) -> None:
        """Samples (count, ...)."""
        if not self.count:
            self._first = samples[0].astype(np.float64)
        self.count += len(samples)
        distances = samples - self._first
        for distance, square in zip(distances, distances * distances):
            self._sum += distance
            self._squares += square

    def mean(self) -> np.ndarray:
        return self._first + self._sum / self.count

    def std(self) -> np.ndarray:
        """With n - 1 in the denominator; NaN of a single sample."""
        if self.count < 2:
            return np.full_like(self._sum, np.nan)
        squares = np.maximum(self._squares - self._sum * self._sum / self.count, 0.0)
        found: np.ndarray = np.sqrt(squares / (self.count - 1))
        return found
