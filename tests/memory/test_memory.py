"""Memory that is not there, and memory that is not given back: slices of `make test-memory`, in processes apart."""

import platform
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests import ROOT

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocations of glibc are those that fail"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the library that makes them fail"),
]


def run(program, *arguments):
    command = [sys.executable, "-W", "ignore", "-m", f"tests.memory.{program}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def refusals(output):
    """How many allocations failed in a call that raised."""
    return sum(int(count) for count in re.findall(r"(\d+) raised MemoryError", output))


def test_an_allocation_of_the_core_that_fails_is_a_memory_error_and_nothing_else():
    assert refusals(run("failures", "--first", 3, "--every", 61)) > 50


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="Python without GIL has one allocator")
def test_an_allocation_of_python_that_fails_is_a_memory_error_and_nothing_else():
    calls = ("predict", "predict_lists", "stream", "step_lists", "trace")
    # Python 3.13 asks less often than 3.11
    assert refusals(run("failures", *calls, "--of", "python", "--first", 5, "--every", 41)) > 5


def test_what_is_done_again_and_again_takes_no_more_memory():
    actions = ("load native.cylstm", "load state.pt", "predict", "streams", "traces", "errors", "threads")
    output = run("leaks", *actions, "--times", 60)
    assert output.count("ok ") == len(actions)
