"""Every block of code of every page runs as it stands there, in the order of the page, or says why not."""

import os

import numpy as np
import pytest

from tests import ROOT
from tests.docs.code_blocks import blocks_of, run
from tests.docs.page_fixtures import FIXTURES, everywhere, need

PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/**/*.md")
PAGES = {
    str(page.relative_to(ROOT)): blocks
    for pattern in PATTERNS
    for page in sorted(ROOT.glob(pattern))
    if (blocks := blocks_of(page))
}


def _parameters():
    """The pages with something to run; one that needs packages beside those of the tests is run with the frameworks."""
    for name, blocks in PAGES.items():
        if any(not block.reason for block in blocks):
            needs = any(block.needs for block in blocks)
            yield pytest.param(name, marks=[pytest.mark.frameworks] if needs else [])


# PyTorch's own export says so of its own LSTM
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("name", list(_parameters()))
def test_the_code_of_a_page_runs_as_it_stands_there(name, tmp_path, monkeypatch, request):
    blocks = PAGES[name]
    if os.name == "nt" and any(block.language in ("sh", "console") for block in blocks):
        pytest.skip("no shell of POSIX")
    for package in ["h5py", *(package for block in blocks for package in block.needs)]:
        need(package, request)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if name.startswith("examples/"):
        monkeypatch.syspath_prepend(str((ROOT / name).parent))
    rng = np.random.default_rng(20261130)
    namespace = everywhere(folder, rng)
    if name in FIXTURES:
        namespace |= FIXTURES[name](folder, rng, namespace)
    namespace["__name__"] = "page"
    for block in blocks:
        if not block.reason:
            run(block, namespace, folder)


def test_every_block_that_is_not_run_says_why():
    for name, blocks in PAGES.items():
        for block in blocks:
            assert not block.reason or len(block.reason.split()) > 3, f"{name}:{block.line}: {block.reason}"


@pytest.mark.parametrize(
    ("language", "text", "message"),
    [
        ("python", "x = 1\nx + 1  # 3\n", "page.md:5: found 2, the page says 3"),
        ("python", "x = 1\nx.y\n", "has no attribute 'y'"),
        ("python", "np.arange(2).reshape(2, 1)  # [0, 1]\n", r"the page says \[0, 1\]"),
        ("pycon", ">>> 2 + 2\n5\n", "Expected:\n +5"),
        ("sh", "true\nfalse\ntrue\n", "page.md:4 ended with 1"),
        ("console", "$ printf 'a\\n'\nb\n", "printed"),
        ("console", "$ true\n$ python -c 'raise SystemExit(3)'\n", "ended with 3"),
    ],
)
def test_a_block_that_does_something_else_than_it_says_fails(language, text, message, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```{language}\n{text}```\n")
    (block,) = blocks_of(page)
    with pytest.raises((AssertionError, AttributeError), match=message):
        run(block, {"np": np}, tmp_path)


def test_a_block_that_does_what_it_says_passes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- needs: torch, h5py -->\n```python\nx = np.arange(2)\nx.tolist()  # [0, 1]\nx.size  # a number\n```\n"
        "<!-- not run: it needs a Pi -->\n```sh\nfalse\n```\n"
        "```pycon\n>>> x.sum(), 0.123\n(..., 0.12...)\n```\n"
        "```console\n$ python -c 'print(3)' \\\n  ignored\n3\n```\n"
        "```ini\nfalse\n```\n"
    )
    blocks = blocks_of(page)
    assert [block.language for block in blocks] == ["python", "sh", "pycon", "console"]
    assert [block.needs for block in blocks] == [("torch", "h5py"), (), (), ()]
    assert [block.reason for block in blocks] == ["", "it needs a Pi", "", ""]
    namespace = {"np": np}
    for block in blocks:
        if not block.reason:
            run(block, namespace, tmp_path)


def main() -> None:
    """Print how many blocks there are, and those that are not run."""
    blocks = [block for found in PAGES.values() for block in found]
    left_out = [block for block in blocks if block.reason]
    print(f"{len(blocks) - len(left_out)} of {len(blocks)} blocks of {len(PAGES)} pages are run; not run:")
    for block in left_out:
        print(f"{os.path.relpath(block.page, ROOT)}:{block.line}: {block.reason}")


if __name__ == "__main__":
    main()
