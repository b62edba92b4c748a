"""The examples, which are programs beside the package: their modules are imported from their own folders."""

import importlib
import os
import sys

from tests import ROOT


def import_from(monkeypatch, folder, *names):
    """Modules of an example, imported anew: examples have files of the same names."""
    path = ROOT / "examples" / folder
    monkeypatch.syspath_prepend(str(path))
    for file in path.glob("*.py"):
        sys.modules.pop(file.stem, None)
    return [importlib.import_module(name) for name in names]


def environment():
    """What a program of an example runs with, so that it finds this CyLSTM, and prints at once."""
    found = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(found), "PYTHONUNBUFFERED": "1"}
