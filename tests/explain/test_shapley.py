"""Shapley values: by their definition, by their axioms, in closed form, and within the error that they state."""

import sys
from itertools import permutations

import numpy as np
import pytest

from cylstm.errors import ArgumentError
from cylstm.explain import Background, shapley
from cylstm.explain import coalitions as shared

from tests.builders.networks import lstm_model
from tests.builders.recurrent import numbers

BATCH, TIME = 3, 8


def by_definition(function, x, baseline, owner, count):
    """What each group adds, averaged over all orders: (rows, groups, outputs)."""
    total = 0.0
    orders = list(permutations(range(count)))
    for order in orders:
        values, there = {}, owner == -1
        before = function(np.where(there, x, baseline))
        for group in order:
            there = there | (owner == group)
            after = function(np.where(there, x, baseline))
            values[group], before = after - before, after
        total = total + np.stack([values[group] for group in range(count)], axis=1)
    return total / len(orders)


@pytest.mark.parametrize(
    "groups",
    [
        "features",
        2,
        (["a", "b"], 4),
        {"past": (slice(0, 5), slice(None)), "a": (slice(5, None), 0)},
        {"only": 1},
    ],
)
def test_values_are_those_of_the_definition(rng, groups):
    features = 2 if isinstance(groups, tuple) else 4
    model = lstm_model(rng, features, 13, 2, last=True, engine="blas", dtype="float64")
    x, baseline = numbers(rng, BATCH, TIME, features), numbers(rng, features)
    found = shapley(model, x, groups, baseline)
    wanted = by_definition(model.predict, x, baseline, found.owner, len(found.names))
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-14)
    assert np.abs(wanted).max() > 1e-3
    assert (found.error == 0.0).all()
    np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-14)
    assert found.evaluations == BATCH * 2 ** len(found.names)


def test_a_linear_function_has_its_closed_form(rng):
    w, x, data = rng.normal(size=(TIME, 6)), rng.normal(size=(BATCH, TIME, 6)), rng.normal(size=(20, TIME, 6))

    def function(batch):
        return (batch * w).sum(axis=(1, 2))

    for samples in (None, 3):
        found = shapley(function, x, baseline=Background(data), samples=samples)
        wanted = (w * (x - data.mean(axis=0))).sum(axis=1)
        np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-12)
        assert found.error.max() < 1e-12
    cells = shapley(function, x, ("features", "time"), data[0], samples=2)
    np.testing.assert_allclose(cells.on_input(), w * (x - data[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [None, 5])
def test_the_axioms_hold(rng, samples):
    x = rng.normal(size=(BATCH, 4))
    x[:, 1] = x[:, 0]

    def function(batch):  # symmetric in the first two, blind to the last
        return np.stack([batch[:, 0] * batch[:, 1] * batch[:, 2] + batch[:, 2] ** 2, batch[:, 2]], axis=1)

    found = shapley(function, x, baseline=0.3, samples=samples)
    # efficiency
    np.testing.assert_allclose(found.values.sum(axis=1), found.prediction - found.base_value, rtol=0, atol=1e-12)
    # dummy
    assert (found["feature 3"] == 0.0).all()
    if samples is None:  # symmetry, which a sample has on the average only
        np.testing.assert_allclose(found["feature 0"], found["feature 1"], rtol=0, atol=1e-14)
    # additivity
    both = shapley(lambda batch: function(batch).sum(axis=1), x, baseline=0.3, samples=samples)
    np.testing.assert_allclose(both.values, found.values.sum(axis=2), rtol=0, atol=1e-12)


def test_a_sample_is_within_its_stated_error(rng):
    model = lstm_model(rng, 5, 13, 1, last=True, engine="blas", dtype="float64")
    x, baseline = numbers(rng, 1, TIME, 5), numbers(rng, TIME, 5)
    exact = shapley(model, x, 1, baseline, output=0)
    assert len(exact.names) == 8
    scores = []
    for seed in range(60):
        found = shapley(model, x, 1, baseline, samples=64, seed=seed, output=0)
        assert np.abs(found.residual).max() < 1e-14
        scores.append((found.values - exact.values) / found.error)
    scores = np.concatenate(scores)
    assert np.abs(scores.mean()) < 0.15
    assert 0.9 < scores.std() < 1.15
    assert 0.91 < (np.abs(scores) < 2.0).mean() < 0.98
    # four times as many halve it
    few, many = (shapley(model, x, 1, baseline, samples=n, output=0).error.mean() for n in (50, 800))
    assert 0.8 < few / many / 4.0 < 1.25


def test_more_groups_than_twelve_are_sampled_with_a_seed(rng):
    model = lstm_model(rng, 5, 13, 1, last=True)
    x = numbers(rng, BATCH, 13, 5)
    found = shapley(model, x, "time", output=0)
    assert (found.error > 0.0).all()
    np.testing.assert_array_equal(found.values, shapley(model, x, "time", seed=0, output=0).values)
    assert not np.array_equal(found.values, shapley(model, x, "time", seed=1, output=0).values)
    assert (shapley(model, x[:, 1:], "time", output=0).error == 0.0).all()
    assert np.isnan(shapley(model, x, "time", samples=1, output=0).error).all()
    # pieces of pairs, as large inputs need them
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["cylstm.explain.shapley"], "_MOST_NUMBERS", 100)
        again = shapley(model, x, "time", output=0)
    np.testing.assert_array_equal(found.values, again.values)
    np.testing.assert_array_equal(found.error, again.error)


@pytest.mark.parametrize("samples", [None, 6])
@pytest.mark.parametrize("groups", ["time", 2, (["a", "b", "c"], 3), "features"])
def test_shared_beginnings_give_the_same_bits(rng, monkeypatch, groups, samples):
    model = lstm_model(rng, 3, 21, 2, last=True, num_layers=2)
    x, baseline = numbers(rng, BATCH, TIME, 3), numbers(rng, BATCH, TIME, 3)
    plain = shapley(model, x, groups, baseline, samples, share=False)
    monkeypatch.setattr(shared, "_WORTH", 10.0)
    monkeypatch.setattr(shared, "_WORK_SAVED", -1e18)
    for rows in (None, 7):
        found = shapley(model, x, groups, baseline, samples, rows=rows)
        np.testing.assert_array_equal(found.values, plain.values)


def test_the_distant_past_is_pruned_where_it_does_not_matter(rng):
    model = lstm_model(rng, 4, 13, 2, last=True)
    x, baseline = numbers(rng, BATCH, 40, 4), numbers(rng, 4)

    def matters(steps):
        """The Shapley value of the first steps, of two groups."""
        there = {(past, rest): np.where(np.arange(40)[:, np.newaxis] < steps, past, rest) for past in (0, 1)
                 for rest in (0, 1)}  # fmt: skip
        v = {key: model.predict(np.where(mask, x, baseline)).astype(float) for key, mask in there.items()}
        return np.abs(0.5 * (v[1, 0] - v[0, 0] + v[1, 1] - v[0, 1])).max()

    for tolerance in (1e-2, 1e-3):
        found = shapley(model, x, "time", baseline, samples=4, prune=tolerance)
        assert 0 < found.pruned < 40
        assert matters(found.pruned) <= tolerance
        assert all(matters(steps) > tolerance for steps in range(found.pruned + 1, 40))
        assert found.names[:2] == (f"past, steps 0-{found.pruned - 1}", f"step {found.pruned}")
        assert (found.owner[: found.pruned] == 0).all()
        assert np.abs(found.residual).max() < 1e-12
    # features are then those of the recent past
    found = shapley(model, x, "features", baseline, prune=1e-2)
    assert matters(found.pruned) <= 1e-2 < matters(found.pruned + 1)
    assert found.names == (f"past, steps 0-{found.pruned - 1}", *(f"feature {k}" for k in range(4)))
    assert (found.owner[found.pruned :] == np.arange(1, 5)).all()
    cells = shapley(model, x, (["a", "b", "c", "d"], 10), baseline, prune=1e-2, samples=2)
    assert cells.pruned in (10, 20, 30) and cells.names[0] == f"past, steps 0-{cells.pruned - 1}"
    assert len(cells.names) == 1 + 4 * (40 - cells.pruned) // 10
    nothing = shapley(model, x, 10, baseline, prune=0.0)
    assert nothing.pruned == 0 and len(nothing.names) == 4


def test_a_forecast_that_feeds_itself_is_explained_as_a_function(rng):
    model = lstm_model(rng, 3, 13, 3, last=True)
    history = numbers(rng, BATCH, TIME, 3)

    def forecast(batch):  # as docs/look-inside.md has it
        stream = model.stream(batch=len(batch), window=None)
        found = [stream.run(batch)]
        for _ in range(4):
            found.append(stream.step(found[-1]))
        return np.stack(found, axis=1)

    found = shapley(forecast, history, 2)
    assert found.values.shape == (BATCH, 4, 5, 3)
    np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-12)
    wanted = by_definition(forecast, history, np.float32(0), found.owner, 4)
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-6)
    # the first step is that of the model itself, the later ones are not
    np.testing.assert_array_equal(found.values[:, :, 0], shapley(model, history, 2).values)
    np.testing.assert_array_equal(found.prediction, forecast(history))


def test_wrong_arguments_are_named(rng):
    model = lstm_model(rng, 3, 5, 2, last=True)
    x = numbers(rng, BATCH, TIME, 3)
    for samples in (0, -1, 2.0, True, "many"):
        with pytest.raises(ArgumentError, match="samples: expected a number of pairs"):
            shapley(model, x, samples=samples)
    for seed in (-1, 0.5, None):
        with pytest.raises(ArgumentError, match="seed: expected"):
            shapley(model, x, samples=1, seed=seed)
    for prune in (-1.0, "a", True, float("nan")):
        with pytest.raises(ArgumentError, match="prune: expected"):
            shapley(model, x, "time", prune=prune)
    with pytest.raises(ArgumentError, match="prune: the input has no time"):
        shapley(lambda batch: batch, x[:, 0], prune=0.1)
    with pytest.raises(ArgumentError, match="output: one row's result"):
        shapley(model, x, output=2)


@pytest.mark.frameworks
def test_values_are_those_of_the_package_shap(rng):
    shap = pytest.importorskip("shap")
    model = lstm_model(rng, 5, 13, 2, last=True, engine="blas", dtype="float64")
    x, data = numbers(rng, BATCH, TIME, 5).astype(float), numbers(rng, 6, TIME, 5).astype(float)
    # features of one step, of sequences that are otherwise those of the first row of the data
    found = shapley(model, x, ("features", 4), Background(data), output=1)

    def function(flags):
        """Outputs of the first row with the blocks whose flag is 1 from x."""
        out = []
        for row in flags:
            there = row[found.owner].astype(bool)
            out.append(model.predict(np.where(there, x[0], data))[:, 1].mean())
        return np.array(out)

    exact = shap.explainers.Exact(function, np.zeros((1, 10)))(np.ones((1, 10)))
    np.testing.assert_allclose(found.values[0], exact.values[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.base_value[0], exact.base_values[0], rtol=0, atol=1e-12)
    # and of plain features with a background, as shap masks them
    vectors, rows = rng.normal(size=(BATCH, 5)), rng.normal(size=(9, 5))
    w = rng.normal(size=(5, 5))

    def quadratic(batch):
        return np.tanh((batch @ w * batch).sum(axis=1))

    wanted = shap.explainers.Exact(quadratic, shap.maskers.Independent(rows))(vectors)
    ours = shapley(quadratic, vectors, baseline=Background(rows))
    np.testing.assert_allclose(ours.values, wanted.values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.base_value, wanted.base_values, rtol=0, atol=1e-12)
