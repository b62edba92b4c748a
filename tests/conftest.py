"""Fixtures shared by the tests."""

import os

import numpy as np
import pytest
from hypothesis import settings

from cylstm.engine import _engine

from tests.builders.hostile import refused, runner  # noqa: F401

# machines are shared and noisy: no test fails for being slow; and the same examples every time
settings.register_profile("default", deadline=None, derandomize=True)
settings.load_profile("default")


@pytest.fixture(autouse=True, scope="session")
def takes_all_threads():
    """Whether a call takes all the threads that a test asks for, which the package's rules refuse to small networks.

    With ``CYLSTM_TEST_THREADS=shipped`` the rules hold: how many threads a call takes, and how long it waits for them.
    """
    takes_all = os.environ.get("CYLSTM_TEST_THREADS") != "shipped"
    _engine.use_all_threads(takes_all)
    _engine.wait_for_threads(10.0 if takes_all else 0.0)
    yield takes_all
    _engine.wait_for_threads(0.0)
    _engine.use_all_threads(False)


@pytest.fixture
def rng():
    return np.random.default_rng(20261120)


@pytest.fixture
def torch():
    """PyTorch on one thread, with a seed."""
    found = pytest.importorskip("torch")
    threads = found.get_num_threads()
    found.set_num_threads(1)
    found.manual_seed(20261120)
    yield found
    found.set_num_threads(threads)


@pytest.fixture
def keras(request, monkeypatch):
    """Keras with a seed, on the backend that ``KERAS_BACKEND`` names; without it on PyTorch, which takes one thread."""
    if os.environ.get("KERAS_BACKEND", "torch") == "torch":
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        request.getfixturevalue("torch")
    found = pytest.importorskip("keras")
    found.utils.set_random_seed(20261120)
    return found
