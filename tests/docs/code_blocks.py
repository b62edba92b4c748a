"""The fenced blocks of a page, and how they are run: in their order, in one namespace and one folder.

A comment before a block, which a reader of the page does not see, says what is peculiar to it:

- ``<!-- not run: REASON -->``: it cannot be run here.
- ``<!-- needs: torch, pandas -->``: it needs these packages, so its page is run beside the frameworks.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests import ROOT

#: how long a block of commands may take, in seconds, on an emulated CPU too
PATIENCE = 1000
RUN = ("python", "pycon", "sh", "console")
_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>not run|needs): (?P<said>[^\n]+) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block of a page.

    Attributes
    ----------
    page : Path
    line : int
        Of the page, from 1, at which the text begins.
    language : str
    text : str
    reason : str
        Why it is not run; empty if it is.
    needs : tuple of str
        Packages that are imported.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str
    needs: tuple[str, ...]


def blocks_of(page: Path) -> list[Block]:
    """The blocks that are code of Python or of a shell."""
    found = []
    content = page.read_text(encoding="utf-8")
    for one in _FENCE.finditer(content):
        if one["language"] in RUN:
            line = content.count("\n", 0, one.start("text")) + 1
            said = one["said"] or ""
            needs = tuple(name.strip() for name in said.split(",")) if one["mark"] == "needs" else ()
            reason = said if one["mark"] == "not run" else ""
            found.append(Block(page, line, one["language"], one["text"], reason, needs))
    return found


def run(block: Block, namespace: dict[str, Any], folder: Path) -> None:
    """Run a block; raise what it raises, or `AssertionError` where it does not do what it says."""
    where = f"{os.path.relpath(block.page, ROOT)}:{block.line}"
    if block.language == "python":
        _run_python(block, namespace)
    elif block.language == "pycon":
        _run_session(block, namespace, where)
    elif block.language == "console":
        for command, expected in _commands(block.text):
            _compare(_run_shell(command, folder, where), expected, f"{where}: {command}")
    else:
        _run_shell(block.text, folder, where)


def _run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Statement by statement; an expression with a value in its comment has this value."""
    name = str(block.page)
    lines = ("\n" * (block.line - 1) + block.text).splitlines()
    for statement in ast.parse("\n".join(lines), name).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
            comment = lines[statement.end_lineno - 1][statement.end_col_offset :].strip().removeprefix("#").strip()
            try:
                expected = ast.literal_eval(comment)
            except (SyntaxError, ValueError):
                continue  # no value, but words
            assert _plain(value) == expected, f"{name}:{statement.lineno}: found {value!r}, the page says {comment}"
        else:
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _run_session(block: Block, namespace: dict[str, Any], where: str) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, namespace, where, str(block.page), block.line - 1)
    test.globs = namespace
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command, after ``$ ``, with the output that follows it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        n = 1
        while lines[n - 1].endswith("\\\n"):
            n += 1
        yield "".join(lines[:n]), "".join(lines[n:])


def _compare(found: str, expected: str, where: str) -> None:
    check = doctest.OutputChecker()
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if expected.strip() and not check.check_output(expected, found, flags):
        raise AssertionError(f"{where} printed\n{found}\nand not\n{expected}")


def _run_shell(text: str, folder: Path, where: str) -> str:
    """What the commands print; ``python`` and ``cylstm`` are those that run this."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    for name, arguments in (("python", ""), ("python3", ""), ("cylstm", "-m cylstm ")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    package = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        ["sh", "-euc", text],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": package, "MPLBACKEND": "agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, f"{where} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout
