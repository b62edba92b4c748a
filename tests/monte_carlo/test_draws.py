"""The random numbers of predictions with dropout."""

import statistics

import numpy as np
import pytest

from cylstm.engine._engine import draw_factors
from cylstm.monte_carlo.draws import kept_and_lost, limit_of, normal_numbers, random_words

from tests.builders.drawn import words


def test_words_are_those_that_the_documentation_states():
    for seed, key, sample, count in ((0, 0, 0, 1), (3, 5, 7, 10), (2**64 - 1, 9, 2, 33)):
        np.testing.assert_array_equal(random_words(seed, key, sample, count), words(seed, key, sample, count))


def test_words_stay_the_same():
    """Known numbers, so that another NumPy or machine cannot change what a seed draws."""
    assert random_words(1, 2, 3, 5).tolist() == [2633121721, 3087819010, 875163877, 1766373909, 3417344502]


def test_normal_numbers_are_the_inverse_of_the_distribution_function():
    found = np.concatenate([np.arange(300), 2**31 + np.arange(-200, 200), 2**32 - 1 - np.arange(300)])
    found = np.concatenate([found, np.random.default_rng(1).integers(0, 2**32, 2000)]).astype(np.uint32)
    normal = statistics.NormalDist()
    expected = [normal.inv_cdf((int(word) + 0.5) / 2**32) for word in found]
    np.testing.assert_allclose(normal_numbers(found), expected, rtol=1e-13, atol=1e-15)


def test_a_rate_decides_by_the_words_alone():
    assert limit_of(0.25) == 2**30
    assert limit_of(1 - 2**-40) == 2**32 - 1
    assert kept_and_lost("dropout", 0.25, "factor") == (4 / 3, 0.0)
    for dtype in (np.float32, np.float64):
        for count in (1, 7, 64, 65, 200):
            found = np.empty((3, count), dtype)
            draw_factors(5, 6, 7, 2**31, 2.0, -1.0, found)
            for sample, row in enumerate(found):
                np.testing.assert_array_equal(row, np.where(words(5, 6, 7 + sample, count) < 2**31, -1.0, 2.0))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_and_variance(rate):
    alpha = -1.7580993408473766
    factor = kept_and_lost("alpha", rate, "factor")[::-1]
    term = kept_and_lost("alpha", rate, "term")[::-1]
    assert factor[0] == 0
    assert term[0] == pytest.approx(factor[1] * alpha * (1 - rate))
    mean = (1 - rate) * term[1] + rate * term[0]
    variance = (1 - rate) * (factor[1] ** 2 + term[1] ** 2) + rate * term[0] ** 2 - mean**2
    assert mean == pytest.approx(0, abs=1e-12)
    assert variance == pytest.approx(1)
