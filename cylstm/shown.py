"""Texts from files, made fit to be shown: on one line, of bounded length, and nothing in them acts on the screen."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

#: how many characters of a name are shown
MOST_CHARACTERS = 120
#: how many rows of a table are shown in a notebook
_MOST_ROWS = 200


def shown_name(name: str, most: int = MOST_CHARACTERS) -> str:
    """A name of a layer, a feature or the like as it is drawn, printed or written on a page.

    Characters that have no shape of their own are written as escapes, ``\\n`` or ``\\u202e``: control characters, marks
    that turn the direction of writing, halves of surrogate pairs, separators of lines. What is beyond `most` characters
    is left out, and an ellipsis says so.
    """
    kept = name[: most + 1]
    text = kept[:most]
    if not (text.isascii() and text.isprintable()):
        text = "".join(_visible(character) for character in text)
    return text + "…" if len(kept) > most else text


def _visible(character: str) -> str:
    # Cc, Cf, Cs, Co, Cn; lines and paragraphs
    if unicodedata.category(character)[0] != "C" and unicodedata.category(character) not in ("Zl", "Zp"):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def shown_lines(text: str, most: int = 100_000) -> str:
    """A text of several lines, each as `shown_name` shows it."""
    return "\n".join(shown_name(line, most) for line in text.split("\n"))


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts, as `shown_name` shows them, as lines whose columns stand below each other."""
    shown = [[shown_name(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in shown) for k in range(len(shown[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in shown]


def html_table(title: str, rows: Sequence[Sequence[str]], facts: Sequence[str] = ()) -> str:
    """What a notebook shows: a title, a table whose first row is its head, and lines below; everything escaped."""
    head, *body = rows
    left = len(body) - _MOST_ROWS
    lines = [f"<p><b>{_html(title)}</b></p>", "<table><thead><tr>"]
    lines += [f"<th>{_html(cell)}</th>" for cell in head]
    lines.append("</tr></thead><tbody>")
    lines += ["<tr>" + "".join(f"<td>{_html(cell)}</td>" for cell in row) + "</tr>" for row in body[:_MOST_ROWS]]
    lines.append("</tbody></table>")
    lines += [f"<p>{left:,} more rows</p>"] if left > 0 else []
    lines += [f"<p>{_html(line, 2000)}</p>" for line in facts]
    return "\n".join(lines)


def _html(text: str, most: int = MOST_CHARACTERS) -> str:
    from html import escape

    return escape(shown_name(text, most))
