"""The documentation: its links lead somewhere, and the tables of its performance page are those of the results."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cylstm

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "bench/**/*.md", "examples/**/*.md") for page in ROOT.glob(pattern)
)

pytestmark = pytest.mark.skipif(not (ROOT / "bench").exists(), reason="the benchmarks are not in this copy")


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_of_the_repository_that_a_page_names_exists(page):
    named = re.findall(r"`((?:csrc|cylstm|tests|bench|docs|examples)/[\w./-]+)`", without_code(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_is_in_a_file_is_in_it(page):
    """As "`CYL_LAYER(reverse)`, in `csrc/layers/layers.def`" or "`RULES` of `cylstm/explain/channels.py`"."""
    for name, path in re.findall(r"`([^`\n]+)`\**,? (?:in|of)\s+`([\w./-]+\.\w+)`", without_code(page)):
        if (ROOT / path).is_file():
            assert name in (ROOT / path).read_text(encoding="utf-8"), f"{name} is not in {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_function_of_c_that_a_page_names_exists(page):
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "csrc").rglob("*.[ch]"))
    named = re.findall(r"`(cyl_\w*[a-z0-9])`", without_code(page))
    assert [name for name in named if not re.search(rf"\b{name}\b", sources)] == []


def test_the_tables_of_the_performance_page_are_those_of_the_results(tmp_path):
    page = ROOT / "docs" / "performance.md"
    copy = tmp_path / "performance.md"
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "bench" / "summary.py", "--page", copy], check=True)
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_the_picture_of_the_readme_is_that_of_the_results(tmp_path):
    subprocess.run([sys.executable, ROOT / "bench" / "picture.py", "--output", tmp_path / "step.svg"], check=True)
    kept = (ROOT / "bench" / "results" / "step.svg").read_text(encoding="utf-8")
    assert (tmp_path / "step.svg").read_text(encoding="utf-8") == kept


def test_the_figures_of_the_readme_are_those_of_the_performance_page():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    steps = page[page.index("**One step") : page.index("**A sequence")]
    rows = {}
    for size, *times in re.findall(r"^\| (\d+, \d+) +\| +([\d.]+) .*?\| +[A-Za-z ]+ ([\d.]+) \(", steps, re.MULTILINE):
        rows[size] = times
    start = dict(re.findall(r"^\| (CyLSTM|PyTorch) +\| +([\d.]+ \| +[\d.]+) \|", page, re.MULTILINE))
    ours, theirs = (re.split(r" \| +", start[name]) for name in ("CyLSTM", "PyTorch"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    small, large = rows["8, 32"], rows["128, 256"]
    assert (
        f"takes {small[0]} us, in the next engine {small[1]} us; of 128 and 256, {large[0]} us and {large[1]} us"
        in text
    )
    assert (
        f"{ours[0]} ms and {ours[1]} MB beyond NumPy to the first prediction, PyTorch {theirs[0]} ms and {theirs[1]} MB"
        in text
    )


def test_the_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cylstm.__version__}\n" in text
