"""The series of the example."""

import sys

import pytest

from tests import ROOT


@pytest.fixture
def example(monkeypatch):
    """The module of the example's series."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "pollution"))
    sys.modules.pop("series", None)
    import series

    return series
