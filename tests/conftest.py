"""Fixtures shared by the tests."""

import numpy as np
import pytest
from hypothesis import settings

from cylstm.engine import _engine

from tests.builders.hostile import refused, runner  # noqa: F401

# machines are shared and noisy: no test fails for being slow; and the same examples every time
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def exact_threads():
    """Tests are small, and mean the number of threads that they ask for: no rule of size lowers it."""
    _engine.use_all_threads(True)
    _engine.wait_for_threads(10.0)
    yield
    _engine.wait_for_threads(0.0)
    _engine.use_all_threads(False)


@pytest.fixture
def rng():
    return np.random.default_rng(20261120)
