"""What holds under load, in many processes, beside other libraries and for a long time.

Each test runs a slice that takes seconds. With ``CYLSTM_TEST_WHOLE=1`` it runs all of it, which takes minutes: the
targets ``make test-load``, ``test-processes``, ``test-neighbours`` and ``test-long``.
"""

import os
import subprocess
import sys

from tests import ROOT

WHOLE = bool(os.environ.get("CYLSTM_TEST_WHOLE"))


def run(program, *arguments, timeout=110, **environment):
    """What a program prints in a process of its own."""
    found = subprocess.run(
        [sys.executable, *([program] if str(program).endswith(".py") else ["-c", program]), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | environment,
        timeout=3000 if WHOLE else timeout,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout
