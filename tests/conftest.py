"""Fixtures shared by the tests."""

import numpy as np
import pytest
from hypothesis import settings

# machines are shared and noisy: no test fails for being slow; and the same examples every time
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture
def rng():
    return np.random.default_rng(20261120)
