"""The program of docs/raspberry-pi.md, run as it stands there."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import cylstm

from tests import ROOT
from tests.builders.networks import lstm_model

PAGE = ROOT / "docs" / "raspberry-pi.md"


@pytest.fixture
def service(tmp_path, rng):
    """Starts the program in a folder that has a model of 3 features."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"<!-- begin service program -->\n\n<!-- [^\n]* -->\n```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "forecast.py").write_text(found[1])
    lstm_model(rng, 3, 5).save(tmp_path / "model.cylstm")

    def start():
        return subprocess.Popen(
            [sys.executable, "forecast.py", "model.cylstm", "state"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    return start


@pytest.fixture
def readings(tmp_path, rng, service):
    """Five readings and the step that a stream of the model makes of each."""
    x = rng.standard_normal((5, 3)).astype(np.float32)
    stream = cylstm.load(tmp_path / "model.cylstm").stream()
    return [" ".join(map(str, row)) + "\n" for row in x], [stream.step(row) for row in x]


def same_bits(lines, expected):
    found = np.array([line.split() for line in lines], np.float32)
    assert found.tobytes() == np.array(expected).tobytes()


def test_the_service_prints_the_step_of_each_line_that_it_reads(service, readings):
    lines, expected = readings
    running = service()
    out, err = running.communicate("".join(lines))
    assert (running.returncode, err) == (0, "")
    same_bits(out.splitlines(), expected)


def test_the_service_skips_bad_readings_and_goes_on(service, readings):
    (first, *others), expected = readings
    bad = ["1 nan 2\n", "1 2\n", "0.5\n", "1 2 warm\n", "\n", "1 2 1e400\n"]
    running = service()
    out, err = running.communicate("".join([first, *bad, *others]))
    assert running.returncode == 0
    assert [line.split(" is ")[0] for line in err.splitlines()] == [f"reading {n}" for n in range(2, 8)]
    same_bits(out.splitlines(), expected)


@pytest.mark.parametrize("how", ["the input ends", "a signal"])
def test_the_service_goes_on_where_it_was_stopped(service, readings, how):
    lines, expected = readings
    running = service()
    if how == "a signal":
        running.stdin.writelines(lines[:2])
        running.stdin.flush()
        found = [running.stdout.readline(), running.stdout.readline()]
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate()
        assert out == ""
    else:
        out, err = running.communicate("".join(lines[:2]))
        found = out.splitlines()
    assert (running.returncode, err) == (0, "")
    out, err = service().communicate("".join(lines[2:]))
    assert err == ""
    same_bits(found + out.splitlines(), expected)
