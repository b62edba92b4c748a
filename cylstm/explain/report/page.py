"""From what a report shows to the page: data, style and script in one HTML file, with a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def page_of(contents: Mapping[str, Any]) -> str:
    """The HTML of a page.

    Names from files are in two places alone: the title, where they are escaped, and the data, which the script puts on
    the page as text. The policy lets the browser run the one script and use the one style whose hashes it has, and load
    nothing.
    """
    script, style = _template("page.js"), _template("page.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(str(contents["title"])),
        "style": style,
        "script": script,
        "data": embedded_json(contents),
    }
    # in one pass, so that nothing within the parts is taken for a place
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _template("page.html"))


def embedded_json(contents: Any) -> str:
    """JSON that may stand within a ``<script>``: it holds no ``<``, ``>``, ``&`` nor anything beyond ASCII."""
    text = json.dumps(contents, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(name: str) -> str:
    # a browser hashes the text with "\n" at the ends of lines
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
