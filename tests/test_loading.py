"""An installation that does not fit the machine is said in a sentence."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import cylstm

FOREIGN = "_engine.cpython-309-mips-linux-gnu.so"


#: an editable installation finds what the copy lacks
IMPORT = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import cylstm
"""


def import_error(folder, engines):
    """What importing a copy of the package that holds these compiled files prints."""
    source = Path(cylstm.__file__).parent
    shutil.copytree(source, folder / "cylstm", ignore=shutil.ignore_patterns("_engine.*", "__pycache__"))
    for name, content in engines.items():
        (folder / "cylstm" / name).write_bytes(content)
    found = subprocess.run(
        [sys.executable, "-c", IMPORT],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert found.returncode == 1
    return found.stderr.splitlines()[-1]


def test_a_source_tree_without_its_compiled_part_says_how_to_install_it(tmp_path):
    assert "holds no compiled part" in import_error(tmp_path, {})


def test_a_package_for_another_python_or_machine_is_told_by_its_name(tmp_path):
    found = import_error(tmp_path, {FOREIGN: b"\x7fELF"})
    assert "not for this machine" in found
    assert f"found {FOREIGN}, expected _engine{EXTENSION_SUFFIXES[0]}" in found


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(200)], ids=["empty", "another format"])
def test_a_compiled_part_that_the_system_refuses_is_told_with_the_reason(tmp_path, content):
    found = import_error(tmp_path, {f"_engine{EXTENSION_SUFFIXES[0]}": content})
    assert "not for this machine" in found
    assert f"_engine{EXTENSION_SUFFIXES[0]} cannot be loaded: " in found


def test_a_missing_dependency_keeps_its_own_error(tmp_path):
    (tmp_path / "numpy.py").write_text('raise ModuleNotFoundError("No module named \'numpy\'", name="numpy")\n')
    program = "import sys; sys.path.insert(0, sys.argv[1]); import cylstm"
    environment = os.environ | {"PYTHONPATH": str(Path(cylstm.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert found.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'numpy'"
