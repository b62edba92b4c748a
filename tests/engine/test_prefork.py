"""gunicorn with --preload: the parent predicts on several threads, forks, and its workers predict at once."""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import cylstm

from tests.builders.networks import lstm_model

pytest.importorskip("gunicorn")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")

#: loaded by the parent; a request is answered by the worker's process, then what it predicts
APP = """
import os
import numpy as np
import cylstm

cylstm.engine._engine.use_all_threads(True)
cylstm.engine._engine.wait_for_threads(10.0)
model = cylstm.load("model.cylstm", engine={engine!r})
x = np.load("x.npy")
parent, stream = os.getpid(), model.stream(4, threads=2)
y = model.predict(x, threads=2)
stream.run(x[:, :20])


def app(environ, start_response):
    assert os.getpid() != parent
    running = stream.copy()
    parts = [model.predict(x, threads=2), running.run(x[:, 20:])]
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    return [y.tobytes(), *(part.tobytes() for part in parts)]
"""


@pytest.mark.parametrize("threads", ["pool", "openmp"])
@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_workers_of_a_parent_that_has_predicted_on_threads_predict(rng, tmp_path, engine, threads):
    model = lstm_model(rng, 5, 40, num_layers=2, engine=engine)
    x = rng.normal(size=(4, 50, 5)).astype(np.float32)
    model.save(tmp_path / "model.cylstm")
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "app.py").write_text(APP.format(engine=engine))
    root = Path(cylstm.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "CYLSTM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0", "app:app"]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        lines = []
        for line in server.stderr:
            lines.append(line)
            found = re.search(r"Listening at: (http://\S+)", line)
            if found:
                break
        else:
            raise AssertionError("".join(lines))
        answers = {}
        for _ in range(300):
            with urllib.request.urlopen(found[1], timeout=60) as answer:
                answers[answer.headers["X-Process"]] = np.frombuffer(answer.read(), np.float32)
            if len(answers) == 2:
                break
    finally:
        server.terminate()
        server.communicate(timeout=30)
    wanted = model.predict(x)
    expected = np.concatenate([wanted.ravel(), wanted.ravel(), wanted[:, 20:].ravel()])
    assert 1 <= len(answers) <= 2 and str(server.pid) not in answers
    for found in answers.values():
        if engine == "packed":
            np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
