"""A page about one model and one input: one HTML file, which any browser shows without a network.

`contents` gathers what is shown, `page` puts it into the templates beside it, ``page.html``, ``page.css`` and
``page.js``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cylstm.errors import ArgumentError, described

if TYPE_CHECKING:
    from cylstm.model import Model

__all__ = ["report"]


def report(
    model: Model,
    x: Any,
    path: str | os.PathLike[str],
    *,
    row: int = 0,
    title: str | None = None,
    names: Sequence[str] | None = None,
    lengths: Any = None,
    mask: Any = None,
    initial_state: Any = None,
) -> None:
    """Write an HTML page that shows what a network does with an input.

    The page has the input and the prediction, the gates and states of every layer as heat maps, what each past step
    contributed to the last state of each LSTM and GRU (`cylstm.explain.memory`), what the units did over all rows of
    `x` (`cylstm.explain.units`), and the layers. It needs no network and loads nothing; a policy in it forbids both. It
    takes some 8 MB at most: of long or wide traces it shows means of neighbouring steps or units, and says so.

    Parameters
    ----------
    model : Model
    x : array_like, list or dict
        As `Model.predict` takes it.
    path : str or PathLike
        Of the page; an existing one is replaced once the new one is complete.
    row : int
        Which row of a batch is shown.
    title : str, optional
        By default the ``title`` in the model's metadata, if there is one.
    names : list of str, optional
        Of the features of the (first) input.
    lengths, mask, initial_state
        As `Model.predict` takes them.

    Raises
    ------
    ArgumentError
        If there is no such row, `names` are not as many as features, or `title` is no text.
    ShapeError
        If `x` is not as the model needs it.
    OSError
        If the file cannot be written.
    """
    from cylstm.explain.report.contents import contents_of
    from cylstm.explain.report.page import page_of
    from cylstm.formats.whole_file import whole_file

    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path: expected the name of a file, found {described(path)}")
    if title is not None and not isinstance(title, str):
        raise ArgumentError(f"title: expected a text, found {described(title)}")
    given = {"lengths": lengths, "mask": mask, "initial_state": initial_state}
    contents = contents_of(model, x, row, title, names, {key: one for key, one in given.items() if one is not None})
    text = page_of(contents)
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
