"""A test that hangs ends the run with a traceback, wherever it hangs."""

import os
import subprocess
import sys
import tomllib

import pytest

from tests import ROOT

CONFIGURATION = ROOT / "pyproject.toml"

#: what hangs; the last in C that never lets the GIL go, where no Python code can run any more
HANGS = {
    "in Python": "while True: pass",
    "in C": "time.sleep(1e6)",
    "at a lock": "threading.Barrier(2).wait()",
    "in C with the GIL": "collections.deque(itertools.repeat(0), maxlen=0)",
}

TESTS = """
import collections
import itertools
import threading
import time

def test_first():
    pass

def test_that_hangs():
    {hang}
"""


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_test_that_hangs_ends_the_run_with_a_traceback(tmp_path, hang):
    (tmp_path / "test_a.py").write_text(TESTS.format(hang=hang))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", CONFIGURATION]
    command += [f"--rootdir={tmp_path}", "-o", "faulthandler_timeout=1", tmp_path / "test_a.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert found.returncode == 1
    assert "Timeout (0:00:01)!" in found.stderr
    assert 'test_a.py", line 11 in test_that_hangs' in found.stderr


def test_the_limit_is_two_minutes():
    options = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert (options["faulthandler_timeout"], options["faulthandler_exit_on_timeout"]) == (120, True)
