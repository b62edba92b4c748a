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


#: sitecustomize.py: the finder of an editable installation finds there what a copy lacks
NO_EDITABLE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
"""
#: where no other cylstm is installed
IMPORT = """
import os, sys
here = os.getcwd()
sys.path[:] = [here, *(folder for folder in sys.path if not os.path.exists(os.path.join(folder, "cylstm")))]
import cylstm
"""


def copy_package(folder, engines=None):
    """The package in `folder`, with these compiled files only, name -> content, if given."""
    left_out = ["__pycache__", *([] if engines is None else ["_engine.*"])]
    shutil.copytree(Path(cylstm.__file__).parent, folder / "cylstm", ignore=shutil.ignore_patterns(*left_out))
    for name, content in (engines or {}).items():
        (folder / "cylstm" / "engine" / name).write_bytes(content)


def run_python(folder, *args, path=None):
    """Python in `folder`, where import looks first, then in `path`."""
    path = path or folder
    (path / "sitecustomize.py").write_text(NO_EDITABLE)
    environment = os.environ | {"PYTHONPATH": str(path)}
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=folder, env=environment)


def import_error(folder, engines):
    """What importing a copy of the package that holds these compiled files prints."""
    copy_package(folder, engines)
    found = run_python(folder, "-c", IMPORT)
    assert found.returncode == 1
    return found.stderr.splitlines()[-1]


def test_a_source_tree_without_its_compiled_part_says_how_to_install_it(tmp_path):
    assert "holds no compiled part" in import_error(tmp_path, {})


def test_a_package_for_another_python_or_machine_is_told_by_its_name(tmp_path):
    found = import_error(tmp_path, {FOREIGN: b"\x7fELF"})
    assert "not built for this machine" in found
    assert f"found {FOREIGN}, expected _engine{EXTENSION_SUFFIXES[0]}" in found


@pytest.mark.parametrize("engines", [{}, {FOREIGN: b"\x7fELF"}], ids=["not built", "built for another Python"])
def test_a_clone_that_is_not_built_says_how_to_install_it(tmp_path, engines):
    (tmp_path / "pyproject.toml").touch()
    assert f": pip install {tmp_path}" in import_error(tmp_path, engines)


@pytest.mark.parametrize("engines", [{}, {FOREIGN: b"\x7fELF"}], ids=["not built", "built for another Python"])
def test_in_a_clone_that_is_not_built_the_installed_package_runs_and_is_named(tmp_path, engines):
    clone, site = tmp_path / "clone", tmp_path / "site"
    copy_package(clone, engines)
    (clone / "pyproject.toml").touch()
    copy_package(site)
    found = run_python(clone, "-m", "cylstm", "config", path=site)
    assert found.returncode == 0, found.stderr
    assert "instruction set:" in found.stdout
    warning = found.stderr.splitlines()[0]
    assert f"the source in {clone / 'cylstm'} is not built" in warning
    assert f"installed in {site / 'cylstm'} is used" in warning

    program = "import cylstm, cylstm.model; print(cylstm.__file__, cylstm.model.__file__, cylstm.LSTM.__module__)"
    found = run_python(clone, "-W", "ignore", "-c", program, path=site)
    files = [str(site / "cylstm" / name) for name in ("__init__.py", "model.py")]
    assert found.stdout.split() == [*files, "cylstm.formats.state_dict.wiring.recurrent"], found.stderr


def test_a_clone_that_is_built_stands_before_the_installed_package(tmp_path):
    clone, site = tmp_path / "clone", tmp_path / "site"
    for folder in (clone, site):
        copy_package(folder)
    (clone / "pyproject.toml").touch()
    found = run_python(clone, "-W", "error", "-c", "import cylstm; print(cylstm.__file__)", path=site)
    assert found.stdout.strip() == str(clone / "cylstm" / "__init__.py"), found.stderr


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(200)], ids=["empty", "another format"])
def test_a_compiled_part_that_the_system_refuses_is_told_with_the_reason(tmp_path, content):
    found = import_error(tmp_path, {f"_engine{EXTENSION_SUFFIXES[0]}": content})
    assert "not built for this machine" in found
    assert f"_engine{EXTENSION_SUFFIXES[0]} cannot be loaded: " in found


def test_a_missing_dependency_keeps_its_own_error(tmp_path):
    (tmp_path / "numpy.py").write_text('raise ModuleNotFoundError("No module named \'numpy\'", name="numpy")\n')
    program = "import sys; sys.path.insert(0, sys.argv[1]); import cylstm"
    environment = os.environ | {"PYTHONPATH": str(Path(cylstm.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert found.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'numpy'"
