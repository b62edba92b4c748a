"""Completion of the command line in bash, with argcomplete."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cylstm
from cylstm.cli.commands import COMMANDS

pytest.importorskip("argcomplete")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture
def completed(tmp_path):
    """What bash offers after a line that is typed."""
    script = tmp_path / "bin" / "cylstm"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom cylstm.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    register = "import sys; from argcomplete import shellcode; print(shellcode(['cylstm']))"
    code = subprocess.run([sys.executable, "-c", register], check=True, capture_output=True, text=True).stdout
    (tmp_path / "completion.sh").write_text(code)

    def complete(line):
        bash = f"""
            source {tmp_path / "completion.sh"}
            COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9
            _python_argcomplete cylstm
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        environment = {
            **os.environ,
            "PATH": f"{script.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(cylstm.__file__).parents[1]),
        }
        found = subprocess.run(
            ["bash", "--norc", "-c", bash], check=True, capture_output=True, text=True, env=environment, cwd=tmp_path,
            timeout=120,
        )  # fmt: skip
        return {word.strip() for word in found.stdout.split()}

    return complete


def test_commands_are_completed(completed):
    assert {command.name for command in COMMANDS} <= completed("cylstm ")
    assert completed("cylstm fore") == {"forecast"}


def test_options_choices_and_files_are_completed(completed, tmp_path):
    assert completed("cylstm forecast --ste") == {"--steps"}
    assert completed("cylstm forecast m.cylstm h.csv --interval ") == {"conformal", "dropout", "both"}
    (tmp_path / "history.csv").write_text("")
    assert "history.csv" in completed("cylstm forecast m.cylstm hist")


def test_both_entries_say_that_they_can_be_completed():
    root = Path(cylstm.__file__).parent
    for path in (root / "__main__.py", root / "cli" / "__init__.py"):
        assert "PYTHON_ARGCOMPLETE_OK" in path.read_text(encoding="utf-8")[:1024]
