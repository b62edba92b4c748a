"""Small models of Darts, NeuralForecast and pytorch-forecasting, trained for a moment, and their own forecasts.

Each case gives the library's name, the state dict, the description that the recipe reads of the model, the history,
what is known in advance, and the outputs that the library forecasts, by name.
"""

import logging
import warnings

import numpy as np

from tests.forecasting.recipes import recipes, table

#: rows of the history; what follows is known in advance
TIME = 60
AHEAD = 24
TRAINER = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "logger": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def _table():
    return table(np.random.default_rng(7), TIME + AHEAD)


def _case(library, state, config, columns, known, steps, expected, **options):
    whole = _table()
    arrays = {
        name: np.asarray(one.detach().cpu().numpy() if hasattr(one, "detach") else one) for name, one in state.items()
    }
    return {
        "library": library,
        "state": {name: array for name, array in arrays.items() if array.dtype.kind == "f"},
        "config": config,
        "history": {name: whole[name][:TIME] for name in columns},
        "future": {name: whole[name][TIME:] for name in known},
        "steps": steps,
        "expected": {name: np.asarray(one, np.float64) for name, one in expected.items()},
        **options,
    }


def darts_case(
    kind,
    cell,
    *,
    steps,
    targets=("y",),
    past=(),
    future=(),
    static=False,
    scaler="MinMaxScaler",
    likelihood=None,
    **options,
):
    import pandas as pd
    import sklearn.preprocessing
    import torch
    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler
    from darts.models import BlockRNNModel, RNNModel
    from darts.utils.likelihood_models.torch import GaussianLikelihood, QuantileRegression

    whole = _table()
    frame = pd.DataFrame(whole, index=pd.date_range("2024-01-01", periods=TIME + AHEAD, freq="D")).astype(np.float32)

    def series(names, time):
        return TimeSeries.from_dataframe(frame[list(names)][:time]) if names else None

    def scaled(one, fit):
        if one is None or scaler is None:
            return None, one
        transformer = Scaler(getattr(sklearn.preprocessing, scaler)()).fit(fit)
        return transformer, transformer.transform(one)

    y = series(targets, TIME)
    if static:
        y = y.with_static_covariates(pd.DataFrame({"size": [1.5], "age": [-0.5]}))
    target_scaler, y = scaled(y, y)
    past_scaler, p = scaled(series(past, TIME + AHEAD), series(past, TIME))
    future_scaler, f = scaled(series(future, TIME + AHEAD), series(future, TIME))
    given = {
        "hidden_dim": 6,
        "n_rnn_layers": 2,
        "n_epochs": 1,
        "batch_size": 8,
        "random_state": 3,
        "pl_trainer_kwargs": TRAINER,
        "likelihood": {"gaussian": GaussianLikelihood, "quantile": lambda: QuantileRegression([0.1, 0.5, 0.9])}.get(
            likelihood, lambda: None
        )(),
        **options,
    }
    if kind == "RNNModel":
        model = RNNModel(input_chunk_length=14, training_length=18, model=cell, **given)
    else:
        model = BlockRNNModel(input_chunk_length=14, model=cell, **given)
    covariates = {}
    if p is not None:
        covariates["past_covariates"] = p
    if f is not None:
        covariates["future_covariates"] = f
    model.fit(y, **covariates)
    with torch.no_grad():  # RevIN's own numbers are 1 and 0 after so few steps
        for name, one in model.model.named_parameters():
            if name.startswith("rin."):
                one += 0.1 * torch.arange(1, len(one) + 1)
    # of a likelihood the parameters, which come in the scale of the network
    is_parameters = likelihood is not None
    found = model.predict(steps, y, predict_likelihood_parameters=is_parameters, **covariates)
    if is_parameters:
        names = {"gaussian": ["mu", "sigma"], "quantile": ["q0.1", "q0.5", "q0.9"]}[likelihood]
        fitted = target_scaler._fitted_params[0]
        expected = {
            name: (numbers - (0 if name == "sigma" else fitted.min_)) / fitted.scale_
            for name, numbers in zip(names, found.values().T)
        }
    else:
        found = found if target_scaler is None else target_scaler.inverse_transform(found)
        expected = dict(zip(targets, found.values().T))
    config = recipes().darts_config(
        model,
        target_scaler=target_scaler,
        past=past,
        past_scaler=past_scaler,
        future=future,
        future_scaler=future_scaler,
    )
    return _case(
        "darts", model.model.state_dict(), config, [*targets, *past, *future], [*past, *future], steps, expected
    )


def neuralforecast_case(
    cell, *, steps=None, h=4, hist=(), futr=(), static=False, local_scaler_type=None, loss=None, **options
):
    import neuralforecast.models
    import pandas as pd
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE, DistributionLoss, MQLoss

    whole = _table()
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=TIME + AHEAD, freq="D"), **whole})
    frame = frame[["unique_id", "ds", "y", *hist, *futr]]
    statics = pd.DataFrame({"unique_id": ["a"], "size": [1.5], "age": [-0.5]}) if static else None
    losses = {
        None: MAE,
        "quantiles": lambda: MQLoss(quantiles=[0.1, 0.5, 0.9]),
        "normal": lambda: DistributionLoss("Normal", level=[80], return_params=True),
    }
    given = {
        "input_size": 14,
        "encoder_hidden_size": 6,
        "decoder_hidden_size": 5,
        "max_steps": 3,
        "scaler_type": "robust",
        "hist_exog_list": list(hist) or None,
        "futr_exog_list": list(futr) or None,
        "stat_exog_list": ["size", "age"] if static else None,
        "loss": losses[loss](),
        **TRAINER,
        **options,
    }
    model = getattr(neuralforecast.models, cell)(h=h, alias="m", **given)
    nf = NeuralForecast([model], freq="D", local_scaler_type=local_scaler_type)
    nf.fit(frame[:TIME], static_df=statics)
    steps = h if steps is None else steps
    ahead = {} if steps == h else {"h": steps}
    found = nf.predict(futr_df=frame[TIME : TIME + steps][["unique_id", "ds", *futr]] if futr else None, **ahead)
    if loss == "quantiles":
        names = [name for name in found.columns if name.startswith("m")]
        expected = {f"q{level}": found[name] for level, name in zip([0.1, 0.5, 0.9], names)}
    elif loss == "normal":
        expected = {"mu": found["m-loc"], "sigma": found["m-scale"]}
    else:
        expected = {"y": found["m"]}
    config = recipes().neuralforecast_config(nf, static={"size": 1.5, "age": -0.5} if static else None)
    return _case("neuralforecast", nf.models[0].state_dict(), config, ["y", *hist, *futr], list(futr), steps, expected)


def pytorch_forecasting_case(
    cell, *, reals=(), unknown=(), categories=False, static=False, lags=None, normalizer="group", **options
):
    import lightning.pytorch as pl
    import pandas as pd
    from pytorch_forecasting import (
        EncoderNormalizer,
        GroupNormalizer,
        RecurrentNetwork,
        TimeSeriesDataSet,
    )
    from pytorch_forecasting.data.encoders import TorchNormalizer

    steps, whole = 6, _table()
    parts = []
    for i, shop in enumerate(["north", "south"]):
        part = pd.DataFrame(whole)[: TIME + steps].copy()
        part["y"] = part["y"] * (1 + i) + 3 * i
        part["t"], part["shop"], part["size"] = np.arange(len(part)), shop, 1.5 + i
        part["day"] = [f"d{k % 3}" for k in range(len(part))]
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    normalizers = {
        "group": lambda: GroupNormalizer(groups=["shop"]),
        "log1p": lambda: GroupNormalizer(groups=["shop"], transformation="log1p"),
        "encoder": lambda: EncoderNormalizer(),
        "torch": lambda: TorchNormalizer(),
    }
    dataset = TimeSeriesDataSet(
        frame[frame.t < TIME],
        time_idx="t",
        target="y",
        group_ids=["shop"],
        min_encoder_length=14,
        max_encoder_length=14,
        min_prediction_length=steps,
        max_prediction_length=steps,
        time_varying_unknown_reals=["y", *unknown],
        time_varying_known_reals=list(reals),
        time_varying_known_categoricals=["day"] if categories else [],
        static_categoricals=["shop"] if static else [],
        static_reals=["size"] if static else [],
        lags={"y": lags} if lags else None,
        target_normalizer=normalizers[normalizer](),
    )
    pl.seed_everything(5)
    model = RecurrentNetwork.from_dataset(dataset, cell_type=cell, hidden_size=6, rnn_layers=2, dropout=0.1, **options)
    trainer = pl.Trainer(max_steps=3, **TRAINER)
    trainer.fit(model, dataset.to_dataloader(train=True, batch_size=16, num_workers=0))
    # the table goes on to the last step that is forecast, where the target is not known
    asked = frame.copy()
    asked.loc[asked.t >= TIME, "y"] = 1.0
    test = TimeSeriesDataSet.from_dataset(dataset, asked, predict=True)
    found = model.predict(
        test.to_dataloader(train=False, batch_size=4, num_workers=0), return_index=True, trainer_kwargs=dict(TRAINER)
    )
    row = int(np.flatnonzero(next(one for one in found if hasattr(one, "columns"))["shop"] == "south")[0])
    config = recipes().pytorch_forecasting_config(model, dataset, {"shop": "south", "size": 2.5})
    case = _case(
        "pytorch_forecasting",
        model.state_dict(),
        config,
        ["y", *reals, *unknown],
        list(reals),
        steps,
        {"y": found[0][row]},
    )
    case["history"]["y"] = case["history"]["y"] * 2 + 3
    if categories:
        for k in range(3):
            column = (np.arange(TIME + AHEAD) % 3 == k).astype(float)
            case["history"][f"day=d{k}"], case["future"][f"day=d{k}"] = column[:TIME], column[TIME:]
    return case


#: name -> what makes the case; the first ones of each library are kept as files
CASES = {
    "darts_rnn_lstm_future": lambda: darts_case("RNNModel", "LSTM", steps=9, future=("promo", "warmth")),
    "darts_rnn_gru_targets": lambda: darts_case(
        "RNNModel", "GRU", steps=7, targets=("y", "z"), scaler="StandardScaler"
    ),
    "darts_rnn_rnn": lambda: darts_case("RNNModel", "RNN", steps=5, scaler=None, n_rnn_layers=1),
    "darts_rnn_gaussian": lambda: darts_case("RNNModel", "LSTM", steps=1, likelihood="gaussian", future=("promo",)),
    "darts_rnn_revin": lambda: darts_case("RNNModel", "LSTM", steps=1, use_reversible_instance_norm=True),
    "darts_block_lstm_all": lambda: darts_case(
        "BlockRNNModel",
        "LSTM",
        steps=4,
        output_chunk_length=4,
        past=("price",),
        future=("promo", "warmth"),
        static=True,
        hidden_fc_sizes=[7, 5],
        activation="Tanh",
        scaler="RobustScaler",
    ),
    "darts_block_gru_recursion": lambda: darts_case(
        "BlockRNNModel", "GRU", steps=9, output_chunk_length=3, past=("price",), future=("promo",)
    ),
    "darts_block_rnn_upsampled": lambda: darts_case(
        "BlockRNNModel", "RNN", steps=16, output_chunk_length=16, future=("promo",)
    ),
    "darts_block_quantiles": lambda: darts_case(
        "BlockRNNModel", "LSTM", steps=4, output_chunk_length=4, likelihood="quantile"
    ),
    "darts_block_revin": lambda: darts_case(
        "BlockRNNModel", "LSTM", steps=8, output_chunk_length=4, targets=("y", "z"), use_reversible_instance_norm=True
    ),
    "neuralforecast_lstm_all": lambda: neuralforecast_case(
        "LSTM", hist=("price",), futr=("promo", "warmth"), static=True
    ),
    "neuralforecast_gru_recurrent": lambda: neuralforecast_case("GRU", recurrent=True, h=7, futr=("warmth",)),
    "neuralforecast_lstm_recurrent": lambda: neuralforecast_case("LSTM", recurrent=True, h=5, scaler_type="standard"),
    "neuralforecast_rnn_minmax1": lambda: neuralforecast_case("RNN", scaler_type="minmax1"),
    "neuralforecast_gru_invariant": lambda: neuralforecast_case("GRU", scaler_type="invariant", decoder_layers=1),
    "neuralforecast_lstm_minmax": lambda: neuralforecast_case("LSTM", scaler_type="minmax", encoder_n_layers=1),
    "neuralforecast_lstm_revin": lambda: neuralforecast_case(
        "LSTM", scaler_type="revin", max_steps=30, learning_rate=0.05
    ),
    "neuralforecast_lstm_quantiles": lambda: neuralforecast_case("LSTM", loss="quantiles", futr=("promo",)),
    "neuralforecast_lstm_normal": lambda: neuralforecast_case("LSTM", loss="normal"),
    "neuralforecast_lstm_upsampled": lambda: neuralforecast_case("LSTM", h=17, futr=("promo",)),
    "neuralforecast_gru_recursion": lambda: neuralforecast_case("GRU", h=3, steps=9, futr=("warmth",)),
    "neuralforecast_lstm_local_scaler": lambda: neuralforecast_case(
        "LSTM", local_scaler_type="standard", scaler_type="identity", futr=("warmth",)
    ),
    "pytorch_forecasting_lstm_all": lambda: pytorch_forecasting_case(
        "LSTM", reals=("warmth",), categories=True, static=True, lags=[12]
    ),
    "pytorch_forecasting_gru_encoder": lambda: pytorch_forecasting_case(
        "GRU", reals=("warmth", "promo"), normalizer="encoder"
    ),
    "pytorch_forecasting_lstm_log1p": lambda: pytorch_forecasting_case("LSTM", normalizer="log1p"),
    "pytorch_forecasting_gru_torch": lambda: pytorch_forecasting_case("GRU", normalizer="torch", reals=("promo",)),
}


def made(name):
    """One of `CASES`, without what the libraries say while they train."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            return CASES[name]()
        finally:
            logging.disable(logging.NOTSET)


def check(case):
    """The recipe's forecaster gives the library's forecasts, also from its file's description."""
    forecaster = getattr(recipes(), f"{case['library']}_forecaster")(case["state"], case["config"])
    steps, expected = case["steps"], case["expected"]
    rows = dict(case["future"])
    found = forecaster.forecast(case["history"], steps, rows or None, outputs=list(expected))
    for name, array in expected.items():
        scale = np.abs(array).max()
        error = np.abs(found[name] - array).max() / scale
        assert error <= 2e-5, f"{name}: {error:.2e} of {scale:.3g}\nexpected {array}\nfound {found[name]}"
    return forecaster
