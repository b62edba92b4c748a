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


def test_the_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cylstm.__version__}\n" in text
