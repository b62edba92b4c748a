"""The example of windows, which shows what a running state costs."""

import pytest

from tests import ROOT


@pytest.mark.frameworks
def test_the_example_shows_what_a_running_state_costs(capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import windows

    windows.main()
    lines = capsys.readouterr().out.splitlines()
    predicted, moving, running, persistence = (float(line.split()[-1]) for line in lines[1:5])
    assert predicted == moving < 0.6 * running and predicted < 0.6 * persistence
    assert lines[5] == "stream(window=24) gives the bits of predict: True"
