"""Heads of a distribution: quantiles, (mu, sigma), and sample paths."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError

from tests.builders.networks import linear_state_dict, lstm_model, lstm_state_dict
from tests.forecasting.builders import FEATURES, SCALING, scaled, series


def normal(rng, horizon=1, window=None, **options):
    """A forecaster of (mu, sigma) of each step; sigma is positive."""
    tensors = lstm_state_dict(rng, 3, 5)
    tensors |= linear_state_dict(rng, 5, horizon, "mu.") | linear_state_dict(rng, 5, horizon, "sigma.")
    layers = [
        cylstm.LSTM("lstm"),
        *([] if window is None else [cylstm.Last()]),
        cylstm.Heads([cylstm.Linear("mu")], [cylstm.Linear("sigma"), cylstm.Softplus()]),
    ]
    return cylstm.Forecaster(
        cylstm.from_state_dict(tensors, layers),
        features=FEATURES,
        target="load",
        outputs=["mu", "sigma"],
        scaling=SCALING,
        horizon=horizon,
        window=window,
        feedback={"load": "load"},
        **options,
    )


def known(ahead):
    return {name: ahead[name] for name in ("temperature", "wind")}


def test_heads_are_given_by_name_in_units(rng):
    forecaster, columns = normal(rng, 3), series(rng, 12)
    mu, sigma = (y[-1].astype(np.float64) for y in forecaster.model.predict(scaled(columns)))
    found = forecaster.forecast(columns, outputs=["sigma", "mu"])
    np.testing.assert_array_equal(found["mu"], mu * 12.5 + 40.0)
    np.testing.assert_array_equal(found["sigma"], sigma * 12.5)
    np.testing.assert_array_equal(forecaster.forecast(columns), found["mu"])


def test_quantiles_are_given_by_name_and_the_median_is_the_forecast(rng, tmp_path):
    names = ["q0.1", "q0.5", "q0.95"]
    forecaster = cylstm.Forecaster(
        lstm_model(rng, 3, 5, 6),
        features=FEATURES,
        target="load",
        outputs=names,
        scaling=SCALING,
        target_scaling=["log1p", {"kind": "standard", "mean": 3.0, "std": 0.5}],
        horizon=2,
        feedback={"q0.5": "load"},
    )
    columns = series(rng, 12)
    y = forecaster.model.predict(scaled(columns))[-1].reshape(2, 3).astype(np.float64)
    forecaster.save(tmp_path / "quantiles.cylstm")
    for one in (forecaster, cylstm.Forecaster.load(tmp_path / "quantiles.cylstm")):
        found = one.forecast(columns, outputs=names)
        for i, name in enumerate(names):
            np.testing.assert_allclose(found[name], np.expm1(y[:, i] * 0.5 + 3.0), rtol=1e-15)
        np.testing.assert_array_equal(one.forecast(columns), found["q0.5"])
    ahead = known(series(rng, 4))
    assert one.forecast(columns, 4, ahead).shape == (4,)
    with pytest.raises(ShapeError, match="'q0.1' of 4 steps: beyond the horizon of 2"):
        one.forecast(columns, 4, ahead, outputs=["q0.1"])
    assert set(one.forecast(columns, 4, ahead, outputs=["q0.5"])) == {"q0.5"}
    with pytest.raises(ArgumentError, match="samples: paths are drawn from the outputs 'mu' and 'sigma', found q0.1"):
        one.forecast(columns, samples=5)


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("horizon", [1, 2])
def test_each_sample_path_is_a_loop_of_its_own(rng, window, horizon):
    forecaster = normal(rng, horizon, window)
    columns, ahead = series(rng, 15), series(rng, 6)
    x, rest = scaled(columns), scaled(ahead)
    found = forecaster.forecast(columns, 5, known(ahead), samples=4, seed=9)
    noise = [np.random.default_rng([9, step]).standard_normal(4) for step in range(6)]
    for sample in range(4):
        path, expected = x, []
        while len(expected) < 5:
            mu, sigma = forecaster.model.predict(path if window is None else path[-window:])
            mu, sigma = (mu[-1], sigma[-1]) if window is None else (mu, sigma)
            at = len(expected)
            drawn = np.array(
                [np.float32(float(mu[k]) + float(sigma[k]) * noise[at + k][sample]) for k in range(horizon)]
            )
            expected.extend(drawn.astype(np.float64) * 12.5 + 40.0)
            rows = rest[at : at + horizon].copy()
            rows[:, 0] = drawn[: len(rows)]
            path = np.concatenate([path, rows])
        np.testing.assert_array_equal(found[sample], expected[:5])


def test_a_draw_depends_on_its_seed_its_row_and_its_step_alone(rng):
    forecaster, columns, ahead = normal(rng), series(rng, 15), known(series(rng, 9))
    many = forecaster.forecast(columns, 9, ahead, samples=20, seed=3)
    assert many.shape == (20, 9) and len(np.unique(many)) == many.size
    np.testing.assert_array_equal(forecaster.forecast(columns, 4, ahead, samples=6, seed=3), many[:6, :4])
    assert (forecaster.forecast(columns, 9, ahead, samples=20, seed=4) != many).all()
    stream = forecaster.stream()
    stream.run(columns)
    for _ in range(2):  # the stream stays where it is
        np.testing.assert_array_equal(stream.forecast(9, ahead, samples=20, seed=3), many)


def test_samples_have_the_distribution_that_the_network_gives(rng):
    forecaster, columns = normal(rng, 3), series(rng, 15)
    heads = forecaster.forecast(columns, outputs=["mu", "sigma"])
    paths = forecaster.forecast(columns, samples=40_000)
    np.testing.assert_allclose(paths.mean(axis=0), heads["mu"], atol=4 * heads["sigma"].max() / 200)
    np.testing.assert_allclose(paths.std(axis=0), heads["sigma"], rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(paths.T), np.eye(3), atol=0.02)
    clipped = normal(np.random.default_rng(20261120), 3, limits=(float(heads["mu"][0]), None))
    low = clipped.forecast(columns, samples=1000)
    assert low.min() == heads["mu"][0] and 0.4 < (low[:, 0] == heads["mu"][0]).mean() < 0.6


def test_what_heads_cannot_be_is_refused(rng):
    columns = series(rng, 15)
    with pytest.raises(ArgumentError, match="with log1p 'mu' and 'sigma' are not those of the target in units"):
        normal(rng, target_scaling="log1p")
    forecaster = normal(rng)
    ahead = known(series(rng, 3))
    with pytest.raises(ShapeError, match="'sigma' of 3 steps: beyond the horizon"):
        forecaster.forecast(columns, 3, ahead, outputs=["sigma"])
    with pytest.raises(ArgumentError, match="give one of samples and outputs"):
        forecaster.forecast(columns, samples=3, outputs=["mu"])
    with pytest.raises(ArgumentError, match="samples: an interval is that of the forecast"):
        forecaster.forecast(columns, samples=3, interval=True)
    for arguments, message in [({"samples": 0}, "samples: expected"), ({"samples": 2, "seed": -1}, "seed: expected")]:
        with pytest.raises(ArgumentError, match=message):
            forecaster.forecast(columns, **arguments)
    linear = cylstm.Forecaster(
        lstm_model(rng, 3, 5, 8), features=FEATURES, target="load", outputs=["mu", "sigma"], scaling=SCALING, horizon=4
    )
    assert (linear.model.predict(scaled(columns))[-1].reshape(4, 2)[:, 1] < 0).any()
    for arguments in ({"samples": 3}, {"outputs": ["sigma"]}):
        with pytest.raises(ArgumentError, match="the network gives -.* as a 'sigma', expected 0 or more"):
            linear.forecast(columns, **arguments)
    with pytest.raises(ArgumentError, match="is the name of a head"):
        cylstm.Forecaster(lstm_model(rng, 3, 5, 1), features=["load", "mu", "wind"], target="load")
