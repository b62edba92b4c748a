"""What both training scripts share: the two phases, the windows they draw, the weights of the leads.

At one hour ahead most of the change is noise, and a network trained on the truth from random weights ends
up worse than ordinary least squares. So each network first learns to repeat the linear model's forecasts, which are
free of noise, and then refines them on targets between the linear forecast and the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from series import (
    LAGS,
    LEADS,
    TEST_YEAR,
    Scaling,
    Series,
    changes,
    future,
    linear_model,
    persistence,
    score_table,
    targets_in,
)

TRAIN_YEARS = (2010, 2011, 2012, 2013)
FOLDER = Path(__file__).resolve().parent / "weights"


@dataclass(frozen=True)
class Phase:
    """``steps`` gradient steps of Adam, its rate falling from ``rate`` to 0 along a cosine.

    ``truth`` is the share of the truth in the targets; the rest is the linear model's forecast.
    """

    steps: int
    rate: float
    truth: float


HIDDEN = 32
WINDOW = 96
BATCH = 64
CLIP = 1.0
#: One series holds little that the linear model does not use, so the univariate network stays closer to it.
PHASES = {
    "univariate": (Phase(1000, 5e-3, 0.0), Phase(600, 2e-3, 0.3)),
    "multivariate": (Phase(1000, 5e-3, 0.0), Phase(600, 2e-3, 0.5)),
}


def lead_weights() -> np.ndarray:
    """Weight of each lead's squared error: the first hours count more. float32 ``(LEADS,)``, mean 1."""
    weights = np.ones(LEADS)
    weights[0], weights[1:4] = 4.0, 2.5
    return (weights / weights.mean()).astype(np.float32)


def rate(phase: Phase, step: int) -> float:
    """The learning rate at a step: 50 steps of warm-up, then half a cosine."""
    return phase.rate * min(1.0, (step + 1) / 50) * 0.5 * (1.0 + np.cos(np.pi * step / phase.steps))


class Windows:
    """Random windows of the training years, the same for both frameworks.

    Parameters
    ----------
    series : Series
    kind : {"univariate", "multivariate"}
    years : sequence of int
        Scaling, linear model and truth come from these alone.
    """

    def __init__(self, series: Series, kind: str, years=TRAIN_YEARS):
        self.scaling = Scaling.fit(series, kind, years)
        self.inputs = self.scaling.scale(series.select(kind))
        self.truth = np.where(targets_in(series, years), changes(series), np.nan) / self.scaling.output_scale
        linear = linear_model(series, kind, years) - series.inputs[:, :1]
        self.linear = linear / self.scaling.output_scale
        train = np.flatnonzero(np.isin(series.years(), list(years)))
        self.first, self.last = int(train[0]), int(train[-1]) + 1 - WINDOW

    @property
    def features(self) -> int:
        """Inputs per hour."""
        return self.inputs.shape[1]

    def draw(self, phase: Phase, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ``phase.steps`` batches.

        Yields
        ------
        inputs : ndarray of float32, shape (BATCH, WINDOW, features)
        targets : ndarray of float32, shape (BATCH, WINDOW, LEADS)
            NaN where the loss must not look: a missing or later target, and the first `LAGS` hours, when the
            network has seen less than the linear model.
        """
        rng = np.random.default_rng(seed)
        for _ in range(phase.steps):
            hours = rng.integers(self.first, self.last + 1, BATCH)[:, None] + np.arange(WINDOW)
            targets = self.linear[hours]
            if phase.truth:
                targets = phase.truth * self.truth[hours] + (1.0 - phase.truth) * targets
            targets[:, :LAGS] = np.nan
            yield self.inputs[hours], targets.astype(np.float32)


def report(series: Series, kind: str, windows: Windows, outputs: np.ndarray, name: str) -> str:
    """Score the outputs of a network that ran over the whole series, ``(time, LEADS)``, on `TEST_YEAR`."""
    last_known = series.inputs[:, 0]
    truth = np.where(targets_in(series, [TEST_YEAR]), future(series), np.nan)
    forecasts = {
        "persistence": persistence(series),
        f"linear, {kind}": windows.scaling.forecast(windows.linear, last_known),
        name: windows.scaling.forecast(outputs, last_known),
    }
    return score_table(forecasts, {name: f"linear, {kind}"}, truth)
