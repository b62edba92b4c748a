"""Fixtures shared by the tests of Keras files."""

import pytest


@pytest.fixture(params=[".keras", ".h5"])
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"
