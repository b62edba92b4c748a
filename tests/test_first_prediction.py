"""What the first prediction of a process imports."""

import os
import subprocess
import sys
from pathlib import Path

import cylstm

from tests.builders.networks import lstm_model


def test_a_first_prediction_imports_what_it_needs_alone(rng, tmp_path):
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm")
    code = (
        "import sys, cylstm, numpy; cylstm.load(sys.argv[1]).predict(numpy.zeros((1, 2, 3), 'f')); "
        "print(*(name for name in sys.modules if name.startswith('cylstm.')))"
    )
    root = Path(cylstm.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, tmp_path / "a.cylstm"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    engine = {f"engine{name}" for name in ("", "._engine", ".choose", ".mode")}
    graph = {f"graph{name}" for name in ("", ".activations", ".builder", ".graph", ".values", ".weights")}
    layers = {f"graph.layers{name}" for name in ("", "._layer", ".dense", ".lstm")}
    readers = (".native", ".native.read", ".registry", ".untrusted", ".untrusted.json", ".untrusted.safetensors")
    formats = {f"formats{name}" for name in ("", *readers)}
    expected = {"errors", "forks", "loading", "model", "packing", "pickles"} | engine | graph | layers | formats
    assert set(done.stdout.split()) == {f"cylstm.{name}" for name in expected}
