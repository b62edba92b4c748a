"""The recipes of docs/forecasting-recipes.md against Darts, NeuralForecast and pytorch-forecasting, live."""

import pytest

pytestmark = pytest.mark.frameworks
for library in ("darts", "neuralforecast", "pytorch_forecasting"):
    pytest.importorskip(library)

from tests.forecasting.library_cases import CASES, check, made  # noqa: E402
from tests.forecasting.recipes import recipes  # noqa: E402


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", CASES)
def test_the_forecasts_are_those_of_the_library(name):
    check(made(name))


@pytest.mark.filterwarnings("ignore")
def test_a_lag_shorter_than_the_horizon_is_refused():
    from tests.forecasting.library_cases import pytorch_forecasting_case

    with pytest.raises(ValueError, match="a lag of 3 steps is not supported with max_prediction_length=6"):
        pytorch_forecasting_case("LSTM", lags=[3])


@pytest.mark.filterwarnings("ignore")
def test_a_gap_before_the_forecast_is_refused():
    from tests.forecasting.library_cases import darts_case

    with pytest.raises(ValueError, match="output_chunk_shift=2"):
        darts_case("BlockRNNModel", "LSTM", steps=3, output_chunk_length=3, output_chunk_shift=2)
    assert callable(recipes().darts_config)
