"""The series of the example, and its forecasters."""

import sys

import pytest

from tests import ROOT


@pytest.fixture
def example(monkeypatch):
    """The module of the example's series; its attribute `forecaster` is that of its forecasters."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "pollution"))
    for name in ("series", "forecaster"):
        sys.modules.pop(name, None)
    import forecaster
    import series

    series.forecaster = forecaster
    return series
