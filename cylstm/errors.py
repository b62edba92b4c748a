"""The exceptions of CyLSTM. Each says what was wrong, where, what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable

#: characters of a line of a message that are shown
_LONGEST_LINE = 10_000


class CylstmError(Exception):
    """Base of every exception raised by CyLSTM on purpose. A name of megabytes in its message is cut in the middle."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= _LONGEST_LINE else "\n".join(map(_cut, text.split("\n")))


def _cut(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} … {line[-half:]}"


class FormatError(CylstmError, ValueError):
    """A file or a mapping of tensors is damaged, incomplete or of another kind than expected."""


class MissingFileError(FormatError, FileNotFoundError):
    """There is no such file; a `FileNotFoundError` too, as `open` raises."""

    def __new__(cls, *args: object) -> MissingFileError:
        # that of ValueError, the first of its bases, refuses to make an OSError; libraries that copy errors call it
        return FileNotFoundError.__new__(cls, *args)

    def __str__(self) -> str:
        return _cut(str(self.args[0]))  # without the number that an `OSError` puts before it


class ShapeError(CylstmError, ValueError):
    """An array or a state has another shape, rank, size or dtype than the model needs."""


class RowError(ShapeError):
    """Numbers of some rows of a batch are wrong. The message is about the first; the other rows could be computed.

    Attributes
    ----------
    rows : dict of int to ShapeError
        Every row that was found to be wrong, and what is wrong with it.
    """

    def __init__(self, message: str, find: Callable[[], dict[int, ShapeError]]) -> None:
        super().__init__(message)
        self._find = find  # of a million rows, a million messages: made when they are asked for
        self._rows: dict[int, ShapeError] | None = None

    @property
    def rows(self) -> dict[int, ShapeError]:
        if self._rows is None:
            self._rows = self._find()
        return self._rows

    def __reduce__(self) -> tuple[Callable[..., RowError], tuple[object, ...]]:
        return _restore_row_error, (str(self), self.rows)


def _restore_row_error(message: str, rows: dict[int, ShapeError]) -> RowError:
    """What pickle calls."""
    return RowError(message, lambda: rows)


class ArgumentError(ShapeError):
    """An argument that is no array, such as a flag, a name or a number of threads, has a value that it cannot have."""

    # a `ShapeError` for one release, because that is what was raised; then a `CylstmError` and `ValueError`


class MetadataArgumentError(ArgumentError, FormatError):
    """An `ArgumentError` about metadata; for one release a `FormatError` too, as above."""


class UnsupportedError(CylstmError, NotImplementedError):
    """A layer, an option or a file type that CyLSTM knows of and does not compute."""


class ChoiceArgumentError(ArgumentError, UnsupportedError):
    """An `ArgumentError` about an engine or a dtype; for one release an `UnsupportedError` too, as above."""


class CheckError(CylstmError, ValueError):
    """A model gives other numbers than the framework it comes from, or other bits than where it was saved."""


class StreamBusyError(CylstmError, RuntimeError):
    """Two threads entered one stream at the same time; give each its own stream."""


class BlasNotFoundError(CylstmError, ImportError):
    """``engine="blas"`` found no usable BLAS; the message lists what was tried."""


class CylstmWarning(UserWarning):
    """What a network computes here may not be what its user expects; the message says why and what to do."""


_SHOWN = 80
_PLAIN = (str, bytes, int, float, complex, type(None), type(...), slice, range)


def described(value: object) -> str:
    """`value` for a message: on one line and short, and an array by its type and shape, whatever it is."""
    try:
        if isinstance(value, type):
            return f"the class {value.__name__}"
        kind = type(value)
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape is not None and dtype is not None:
            is_number = kind.__module__ == "numpy" and kind.__name__ != "ndarray" and len(repr(value)) < _SHOWN
            return repr(value) if is_number else f"a {kind.__module__}.{kind.__name__} of {dtype} {tuple(shape)}"
        if isinstance(value, (list, tuple, dict, set, frozenset)):
            items = [*value, *value.values()] if isinstance(value, dict) else list(value)
            plain = len(items) <= _SHOWN and all(isinstance(item, _PLAIN) or _is_ours(item) for item in items)
            text = repr(value) if plain else ""
            return text if 0 < len(text) <= 3 * _SHOWN else f"a {kind.__name__} of {len(value)}"
        if isinstance(value, _PLAIN) or _is_ours(value):
            text = repr(value)
            return text if len(text) <= _SHOWN + 3 or _is_ours(value) else f"{text[:_SHOWN]}..."
        return f"a {kind.__module__}.{kind.__qualname__}".replace("a builtins.", "a ")
    except Exception:  # an object whose attributes or representation raise
        return f"a {type(value).__name__}"


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith("cylstm.formats.state_dict.wiring")
