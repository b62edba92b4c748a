"""What the pages take from the code is as the code is, and every public name stands in the reference."""

import importlib.util
import re

import pytest

import cylstm
import cylstm.explain
import cylstm.explain.plot
import cylstm.forecasting

from tests import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate():
    specification = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_the_pages_take_from_the_code_is_as_the_code_is(generate, capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_differs_from_the_code_is_named(generate, monkeypatch, tmp_path, capsys):
    for page in generate.SECTIONS:
        (tmp_path / page).write_text((DOCS / page).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    stale = (tmp_path / "supported.md").read_text(encoding="utf-8").replace("`LSTM`", "")
    (tmp_path / "supported.md").write_text(stale, encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert "not as the code is: supported.md;" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def section(page, title):
    """The text below a heading of the second level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def without_rank(name):
    return re.sub("[123]D", "", name)


def test_the_table_of_kerass_layers_names_each_of_the_list():
    from cylstm.formats.keras.layers.table import LAYERS

    rows = [line for line in section("layers.md", "Layers of Keras").splitlines() if line.startswith("| ")]
    named = set(re.findall(r"\b[A-Z]\w+", without_rank(" ".join(row.split("|")[1] for row in rows))))
    elsewhere = {"GroupedQueryAttention", "Model", "Functional", "Sequential"}  # another name; models in models
    assert {without_rank(name) for name in set(LAYERS) - elsewhere} - named == set()


def test_the_tables_of_onnx_name_each_operator_of_the_list():
    from cylstm.formats.onnx.operators import OPERATORS

    titles = ("Operators of ONNX that are layers", "Operators of ONNX that compute and move numbers")
    named = set(re.findall(r"\b[A-Z]\w+", " ".join(section("layers.md", title) for title in titles)))
    assert {name.rpartition(".")[2] for name in OPERATORS} - named == set()


@pytest.mark.parametrize(
    ("module", "pages"),
    [
        (cylstm, "*.rst"),
        (cylstm.explain, "explain.rst"),
        (cylstm.explain.plot, "explain.rst"),
        (cylstm.forecasting, "forecasting.rst"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_name_stands_in_the_reference(module, pages):
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob(pages))
    found = {name.rpartition(".")[2] for name in re.findall(r"^\.\. (?:auto\w+|data):: ([\w.]+)$", text, re.MULTILINE)}
    assert set(module.__all__) - found == set()


@pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").exists(), reason="not all pages are in this copy")
def test_every_page_is_in_the_navigation_once():
    """Each section's page lists its own; the site is built of these lists."""
    listed = [(ROOT / "docs" / "index.md").resolve()]
    for page in listed:
        if page.suffix == ".md":
            text = "".join(
                re.findall(r"<!-- begin pages -->\n(.*?)<!-- end pages -->", page.read_text("utf-8"), re.DOTALL)
            )
            found = re.findall(r"^[-|] \[[^\]]*\]\(([\w./-]+)\)", text, re.MULTILINE)
            listed += [(page.parent / path).resolve() for path in found]
    assert len(listed) == len(set(listed))
    pages = {page for pattern in ("*.md", "*.rst") for page in DOCS.rglob(pattern)}
    assert pages - set(listed) == set()
