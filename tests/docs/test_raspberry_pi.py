"""The program of docs/raspberry-pi.md, run as it stands there."""

import os
import re
import subprocess
import sys

import numpy as np

import cylstm

from tests import ROOT
from tests.builders.networks import lstm_model

PAGE = ROOT / "docs" / "raspberry-pi.md"


def test_the_service_prints_the_step_of_each_line_that_it_reads(tmp_path, rng):
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"<!-- begin service program -->\n\n```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "forecast.py").write_text(found[1])
    lstm_model(rng, 3, 5).save(tmp_path / "model.cylstm")
    x = rng.standard_normal((4, 3)).astype(np.float32)
    stream = cylstm.load(tmp_path / "model.cylstm").stream()
    expected = [stream.step(row) for row in x]
    printed = subprocess.run(
        [sys.executable, "forecast.py", "model.cylstm"],
        input="".join(" ".join(map(str, row)) + "\n" for row in x),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert printed.returncode == 0, printed.stderr
    lines = [np.array(line.split(), np.float32) for line in printed.stdout.splitlines()]
    assert np.array(lines).tobytes() == np.array(expected).tobytes()
