"""The recipes of docs/forecasting-recipes.md against the forecasts of other libraries, kept as files."""

import json

import numpy as np
import pytest

import cylstm
import cylstm.forecasting.scaling

from tests import ROOT

FILES = sorted((ROOT / "tests" / "data" / "forecasting_libraries").glob("*.npz"))

pytestmark = pytest.mark.frameworks  # the recipes rebuild the networks in PyTorch


def kept(path):
    """A case as `library_cases` makes it."""
    case = {"state": {}, "history": {}, "future": {}, "expected": {}}
    with np.load(path, allow_pickle=False) as file:
        case |= json.loads(str(file["config"]))
        for name in file.files:
            part, _, key = name.partition(".")
            if key:
                case[part][key] = file[name]
    return case


def forecaster_of(case):
    from tests.forecasting.recipes import recipes

    return getattr(recipes(), f"{case['library']}_forecaster")(case["state"], case["config"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_forecasts_are_those_of_the_library_also_from_one_file(path, tmp_path):
    from tests.forecasting.library_cases import check

    case = kept(path)
    forecaster = check(case)
    forecaster.save(tmp_path / "kept.cylstm")
    again = cylstm.Forecaster.load(tmp_path / "kept.cylstm")
    arguments = case["history"], case["steps"], case["future"] or None
    names = list(case["expected"])
    for name, array in forecaster.forecast(*arguments, outputs=names).items():
        np.testing.assert_array_equal(again.forecast(*arguments, outputs=names)[name], array)


def test_each_library_is_kept():
    assert {path.stem.rsplit("_", 2)[0].split("_")[0] for path in FILES} == {"darts", "neuralforecast", "pytorch"}
    assert all(path.stat().st_size < 40_000 for path in FILES)


def test_a_gaussian_likelihood_draws_paths():
    case = kept(next(path for path in FILES if path.stem == "darts_rnn_gaussian"))
    forecaster = forecaster_of(case)
    paths = forecaster.forecast(case["history"], 5, case["future"], samples=4000, seed=1)
    heads = forecaster.forecast(case["history"], 1, case["future"], outputs=["mu", "sigma"])
    assert paths.shape == (4000, 5)
    assert abs(paths[:, 0].mean() - heads["mu"][0]) < 0.1 * heads["sigma"][0]
    assert paths[:, 0].std() == pytest.approx(heads["sigma"][0], rel=0.1)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("darts_block_lstm_all", {"past": []}, "the network reads 4 features, found 3: y, promo, warmth"),
        ("darts_block_revin", {"likelihood": "GaussianLikelihood"}, "of several targets is not supported: y, z"),
        ("neuralforecast_gru_recurrent", {"hist": ["price"]}, r"hist_exog_list \(price\)"),
        ("neuralforecast_gru_recurrent", {"scaler": "revin"}, "revin"),
        ("neuralforecast_lstm_all", {"exclude_target": True}, "exclude_insample_y"),
        ("pytorch_forecasting_lstm_all", {"reals": ["y", "warmth"]}, "the network reads .* features, found"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(file, change, message):
    case = kept(next(path for path in FILES if path.stem == file))
    with pytest.raises(ValueError, match=message):
        forecaster_of({**case, "config": {**case["config"], **change}})


def test_scalers_are_read_as_they_scale_or_refused():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    from tests.forecasting.recipes import recipes

    rng = np.random.default_rng(3)
    x = rng.normal(5.0, 2.0, (40, 2))
    for scaler in (preprocessing.StandardScaler(), preprocessing.RobustScaler(), preprocessing.MinMaxScaler((-1, 2))):
        found = recipes().cylstm_scalings(scaler.fit(x), ["a", "b"])
        for i, name in enumerate("ab"):
            scaled = cylstm.forecasting.scaling.as_scaling("x", found[name]).scaled(x[:, i])
            np.testing.assert_allclose(scaled, scaler.transform(x)[:, i], rtol=1e-12)
    for scaler, message in [
        (preprocessing.StandardScaler(with_mean=False), "leave a part out"),
        (preprocessing.RobustScaler(with_scaling=False), "leave a part out"),
        (preprocessing.MinMaxScaler(clip=True), "clip=True"),
        (preprocessing.MaxAbsScaler(), "expected StandardScaler, MinMaxScaler, RobustScaler, found MaxAbsScaler"),
    ]:
        with pytest.raises(ValueError, match=message):
            recipes().cylstm_scalings(scaler.fit(x), ["a", "b"])
    with pytest.raises(ValueError, match="fitted on 2 columns, expected a"):
        recipes().cylstm_scalings(preprocessing.StandardScaler().fit(x), ["a"])
