"""Scalers against their formulas and against scikit-learn's."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError
from cylstm.forecasting.scaling import as_scaling

from tests.builders.networks import lstm_model

SCALERS = [
    None,
    "log1p",
    {"kind": "standard", "mean": 3.0, "std": 0.7},
    {"kind": "min_max", "low": -2.0, "high": 9.0},
    {"kind": "min_max", "low": -2.0, "high": 9.0, "to_low": -1.0, "to_high": 1.0},
    {"kind": "robust", "median": 1.5, "iqr": 2.5},
    ["log1p", {"kind": "min_max", "low": 0.1, "high": 3.0}, {"kind": "standard", "mean": 0.2, "std": 0.3}],
]


@pytest.mark.parametrize("given", SCALERS)
def test_the_inverse_of_a_scaling_gives_the_units_back(rng, given):
    scaling, x = as_scaling("x", given), rng.uniform(0, 9, (40, 3))
    np.testing.assert_allclose(scaling.in_units(scaling.scaled(x)), x, rtol=1e-13)
    again = as_scaling("x", scaling.to_list())
    assert again == scaling


def test_scalers_are_what_their_names_say():
    x = np.array([0.5, 2.0, 7.0])
    for given, expected in [
        ("log1p", np.log1p(x)),
        ({"kind": "standard", "mean": 3, "std": 2}, (x - 3) / 2),
        ({"kind": "robust", "median": 3, "iqr": 2}, (x - 3) / 2),
        ({"kind": "min_max", "low": 1, "high": 5}, (x - 1) / 4),
        ({"kind": "min_max", "low": 1, "high": 5, "to_low": -1, "to_high": 1}, (x - 1) / 2 - 1),
        (["log1p", {"kind": "standard", "mean": 3, "std": 2}], (np.log1p(x) - 3) / 2),
    ]:
        np.testing.assert_allclose(as_scaling("x", given).scaled(x), expected, rtol=1e-14)


def fitted(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = rng.normal(5, 3, (50, 3)) * [1, 20, 0] + [0, 0, 7]  # one column never changes
    return x, [
        preprocessing.StandardScaler().fit(x),
        preprocessing.StandardScaler(with_mean=False).fit(x),
        preprocessing.StandardScaler(with_std=False).fit(x),
        preprocessing.MinMaxScaler((-1, 1)).fit(x),
        preprocessing.RobustScaler().fit(x),
        preprocessing.RobustScaler(with_centering=False, unit_variance=True).fit(x),
    ]


def test_fitted_scalers_of_scikit_learn_give_their_own_bits(rng, tmp_path):
    x, scalers = fitted(rng)
    x = x + rng.normal(size=x.shape)  # other rows than those that the scalers saw
    model = lstm_model(rng, 3, 4, 1)
    for scaler in scalers:
        forecaster = cylstm.Forecaster(model, features=["a", "b", "c"], target="b", scaling=scaler)
        forecaster.save(tmp_path / "f.cylstm")
        for one in (forecaster, cylstm.Forecaster.load(tmp_path / "f.cylstm")):
            scaled = one._scaled("x", x, one.features)
            np.testing.assert_array_equal(scaled, scaler.transform(x).astype(np.float32))
            y = rng.normal(size=(7, 3))
            found = one._in_units("b", y, np.zeros(7))
            expected = scaler.inverse_transform(np.stack([y[:, 0]] * 3, axis=1))[:, 1]
            np.testing.assert_array_equal(found[:, 0], expected)


def test_a_scaler_of_scikit_learn_must_be_fitted_on_the_features(rng):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    pandas = pytest.importorskip("pandas")
    x, scalers = fitted(rng)
    model = lstm_model(rng, 3, 4, 2)

    def make(**arguments):
        return cylstm.Forecaster(model, features=["a", "b", "c"], target="b", horizon=2, **arguments)

    with pytest.raises(ArgumentError, match="is not fitted; call its fit first"):
        make(scaling=preprocessing.StandardScaler())
    with pytest.raises(ArgumentError, match="expected a scaler fitted on a, b, c, in this order, found 2 features"):
        make(scaling=preprocessing.StandardScaler().fit(x[:, :2]))
    named = preprocessing.StandardScaler().fit(pandas.DataFrame(x, columns=["b", "a", "c"]))
    with pytest.raises(ArgumentError, match="found on b, a, c"):
        make(scaling=named)
    with pytest.raises(ArgumentError, match="clip=True cannot be inverted"):
        make(scaling=preprocessing.MinMaxScaler(clip=True).fit(x))
    with pytest.raises(ArgumentError, match="scaling: a: expected a scaler fitted on 1 feature, found 3"):
        make(scaling={"a": scalers[0], "b": None, "c": None})
    by_name = make(scaling={name: named for name in "abc"})
    found = by_name._scaled("x", x[:, [1, 0, 2]], "abc")
    expected = named.transform(pandas.DataFrame(x, columns=["b", "a", "c"]))[:, [1, 0, 2]]
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    targets = preprocessing.StandardScaler().fit(x[:, :2])
    found = make(target_scaling=targets)._in_units("b", np.array([[0.5, -2.0]]), np.zeros(1))
    np.testing.assert_array_equal(found, targets.inverse_transform([[0.5, -2.0]]))
