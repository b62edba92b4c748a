"""Make the kept checkpoints and the libraries' forecasts beside this file: ``python -m`` this module from the root,
perhaps with the names of some.

It needs Darts, NeuralForecast and pytorch-forecasting: ``make test-forecasting-libraries`` installs them. Each ``.npz``
has the state dict of a small model ("state.NAME"), what `..._config` of docs/forecasting-recipes.md read of it
("config", JSON), the history and what is known in advance ("history.NAME", "future.NAME"), and what the library's own
`predict` gave ("expected.NAME").
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.forecasting.library_cases import CASES, check, made

#: of each library one of each kind of network and scaling
KEPT = (
    "darts_rnn_lstm_future",
    "darts_rnn_gaussian",
    "darts_block_lstm_all",
    "darts_block_gru_recursion",
    "darts_block_revin",
    "neuralforecast_lstm_all",
    "neuralforecast_gru_recurrent",
    "neuralforecast_lstm_quantiles",
    "neuralforecast_lstm_revin",
    "neuralforecast_rnn_minmax1",
    "pytorch_forecasting_lstm_all",
    "pytorch_forecasting_gru_encoder",
    "pytorch_forecasting_lstm_log1p",
)
PACKAGES = {"darts": "darts", "neuralforecast": "neuralforecast", "pytorch_forecasting": "pytorch-forecasting"}


def main() -> None:
    assert set(KEPT) <= set(CASES)
    for name in sys.argv[1:] or KEPT:
        case = made(name)
        check(case)
        arrays = {
            f"{part}.{key}": array
            for part in ("state", "history", "future", "expected")
            for key, array in case[part].items()
        }
        config = json.dumps(
            {
                "library": case["library"],
                "version": version(PACKAGES[case["library"]]),
                "steps": case["steps"],
                "config": case["config"],
            },
            sort_keys=True,
        )
        np.savez_compressed(Path(__file__).with_name(f"{name}.npz"), config=config, **arrays)
        print(name)


if __name__ == "__main__":
    main()
