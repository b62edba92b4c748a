"""How Sphinx makes the site of these pages: `make docs`, into build/site.

The source is the root of the repository, so that the pages' relative links are the same here and on a code host. The
navigation is that of the pages: each page that ends in a list of links between ``<!-- begin pages -->`` and
``<!-- end pages -->`` is a section that holds these.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
# the package of this tree, not one that is installed beside it
sys.path.insert(0, str(ROOT))

import cylstm  # noqa: E402

project = "CyLSTM"
version = release = cylstm.__version__
copyright = "the authors of CyLSTM; BSD-3 licence"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    *(
        "docs/**",
        "examples/*/README.md",
        "bench/*.md",
        "bench/results/*.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    )
]
# folders that need not be looked through
exclude_patterns = [".*", "build", "csrc", "cylstm", "tests", "dist", "*.egg-info", "docs/site"]

# headings have the anchors that a code host gives them
myst_heading_anchors = 4

# in docstrings `x` is a name of Python's, a link if the site has it, or an argument
default_role = "py:obj"
# what reads the docstrings of cylstm.distributed need not have the engines
autodoc_mock_imports = ["dask", "distributed", "ray", "pyspark", "pyarrow", "pandas"]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
maximum_signature_line_length = 100

# dashes, and no quotes: docstrings and pages have values in them, which are to be copied
smartquotes_action = "D"

html_theme = "pydata_sphinx_theme"
html_title = f"CyLSTM {release}"
html_static_path = ["site/static"]
html_extra_path = ["site/root"]
html_css_files = ["cylstm.css"]
html_copy_source = False
html_show_sphinx = False
html_sidebars = {"docs/index": []}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

#: the list of pages that a section's page shows: bullets, or the rows of a table
PAGES = re.compile(r"<!-- begin pages -->\n(.*?)<!-- end pages -->", re.DOTALL)


def pages_of(text: str) -> list[tuple[str, str]]:
    """The pages that a section's page lists: their names there, none in a table, and their paths from it."""
    listed = "".join(PAGES.findall(text))
    found = re.findall(r"^([-|]) \[([^\]]*)\]\(([\w./-]+\.(?:md|rst))\)", listed, re.MULTILINE)
    return [(name if mark == "-" else "", path) for mark, name, path in found]


def add_navigation(app: Sphinx, name: str, content: list[str]) -> None:
    """The tree of pages that Sphinx wants, from the list that readers see."""
    found = [(title, path.rsplit(".", 1)[0]) for title, path in pages_of(content[0])]
    if found:
        tree = "\n".join(f"{title} <{path}>" if title else path for title, path in found)
        content[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"


def name_links(app: Sphinx, document: nodes.document) -> None:
    """What a link shows: of a page its title in the place of its path, and of another file its path alone.

    The site holds no sources: a link to a file of the repository that is no page of the site becomes its path.
    """
    page = ROOT / app.env.doc2path(app.env.docname, base=False)
    links = [*document.findall(addnodes.pending_xref), *document.findall(addnodes.download_reference)]
    for link in links:
        target, text = link.get("reftarget", ""), link.astext()
        if link.get("reftype") != "myst" or target.startswith("#") or re.match(r"\w+:", target):
            continue
        if link.get("refdomain") == "doc":
            link["refexplicit"] = not re.fullmatch(r"[\w./-]+\.md", text)
            continue
        path = (page.parent / target.split("#")[0]).resolve()
        if path.exists():  # else a mistake, which Sphinx names
            name = str(path.relative_to(ROOT))
            shown: list[nodes.Node] = [nodes.literal(text=name)]
            if text not in name:
                shown = [*link.children, nodes.Text(" ("), *shown, nodes.Text(")")]
            link.replace_self(shown)


def refuse_other_hosts(app: Sphinx, error: Exception | None) -> None:
    """The site works offline: no page of it loads anything from elsewhere. Links may lead there."""
    if error is not None:
        return
    loads = re.compile(
        r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//"""
    )
    for page in Path(app.outdir).rglob("*.html"):
        found = loads.search(page.read_text(encoding="utf-8"))
        if found:
            logging.getLogger(__name__).warning("%s loads from another host: %s", page, found[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", name_links, priority=1)
    app.connect("build-finished", refuse_other_hosts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
