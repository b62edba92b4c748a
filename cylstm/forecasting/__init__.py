"""Forecasters: a network with the scaling of its features, the loop over the horizon, and intervals, in one file."""

from cylstm.forecasting.backtest import Evaluation, Score
from cylstm.forecasting.forecaster import Forecaster
from cylstm.forecasting.stream import ForecastStream

__all__ = ["Evaluation", "ForecastStream", "Forecaster", "Score"]
