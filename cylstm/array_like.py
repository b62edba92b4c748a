"""What other libraries hand over, as arrays of NumPy: frames and tables, tensors, masked arrays, lists.

No library is imported here that the object does not come from, except one to read an Arrow stream with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from cylstm.errors import ShapeError, UnsupportedError, described

#: that are recognised by the modules of their classes
_LIBRARIES = ("pandas", "polars", "pyarrow", "xarray")
#: how many names of columns a message lists
_LISTED = 12
#: types of numbers in lists
_PLAIN_ITEMS = frozenset({float, int, bool, np.float32, np.float64, np.int32, np.int64, np.bool_})


def to_array(given: Any, what: str, ragged_hint: str = "") -> np.ndarray:
    """`given` as an array, without a copy where that can be; nothing in it is missing.

    Parameters
    ----------
    given : array_like, frame or table, or object with ``__array__`` or ``__dlpack__``
        The columns of a frame (pandas, Polars, Arrow) are the last axis, in the order of the frame, and so are the
        variables of an xarray Dataset.
    what : str
        Its name in messages.
    ragged_hint : str
        What else to do with rows of different lengths.

    Raises
    ------
    ShapeError
        If a number is missing (masked, null, NA), a column is not of numbers, rows have different lengths or the object
        cannot be read; names the place and the column.
    UnsupportedError
        If an Arrow table is from a library that needs another one to be read.
    """
    if type(given) is np.ndarray:
        if given.dtype.hasobject:
            _refuse_objects(given, what)
        return given
    if isinstance(given, (list, tuple)):
        return _of_list(given, what, ragged_hint)
    if isinstance(given, np.ndarray):
        return _unmasked(given, what)
    columns = _columns_of(given, what)
    if columns is not None:
        return _of_columns(columns, what)
    _refuse_nulls(given, what)
    array = _read(given, what)
    if array.dtype.hasobject:
        _refuse_objects(array, what)
    return array


def column_names(given: Any) -> list[str]:
    """The names of the columns of a frame or table; none of anything else."""
    try:
        names = list(getattr(given, "columns", ()))
    except TypeError:
        return []
    if not all(isinstance(name, str) for name in names):
        names = list(getattr(given, "column_names", ()))
    return [str(name) for name in names]


def check_dimensions(given: Any, names: tuple[str, ...], what: str) -> None:
    """Raise `ShapeError` if xarray says that the batch or the time lies elsewhere than they are expected.

    Parameters
    ----------
    names : tuple of str
        Of the expected axes with a batch; one less than these, it came without.
    """
    if isinstance(given, (list, tuple)) or _library(given) != "xarray":
        return
    if hasattr(given, "data_vars"):
        dims = next(((*map(str, one.dims), "features") for one in given.data_vars.values()), ())
    else:
        dims = tuple(map(str, given.dims))
    expected = names[len(names) - len(dims) :]
    if len(dims) < len(names) - 1 or len(dims) > len(names):
        return  # the rank is wrong, which is said elsewhere
    for name in ("batch", "time"):
        if name in dims and (name not in expected or dims.index(name) != expected.index(name)):
            raise ShapeError(
                f"{what}: expected the dimensions ({', '.join(expected)}), found ({', '.join(dims)}); "
                "x.transpose(...) puts them in order"
            )


def _read(given: Any, what: str) -> np.ndarray:
    """An object that is no frame, through ``__array__`` or ``__dlpack__``."""
    try:
        if (
            not hasattr(given, "__array__")
            and not hasattr(given, "__array_interface__")
            and hasattr(given, "__dlpack__")
        ):
            return np.from_dlpack(given)
        return np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # whatever another library raises
        hint = ""
        if getattr(given, "requires_grad", False) is True:
            hint = "; a tensor that requires gradients is given as x.detach()"
        elif str(getattr(given, "device", "cpu")) != "cpu":
            hint = "; a tensor on another device is given as x.cpu()"
        elif "bfloat16" in str(getattr(given, "dtype", "")):
            hint = "; a tensor of bfloat16 is given as x.float()"
        reason = " ".join(str(error).split())[:200] if not hint else f"found {described(given)}"
        raise ShapeError(f"{what}: expected an array of real numbers: {reason}{hint}") from error


def _library(given: object) -> str:
    """Which of the libraries with tables its class, or a class that it is derived from, belongs to; "" for none."""
    for kind in type(given).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in _LIBRARIES:
            return library
    return ""


def _is_read_by_numpy(given: object) -> bool:
    return hasattr(given, "__array__") or hasattr(given, "__array_interface__")


def _of_list(given: Sequence[Any], what: str, ragged_hint: str) -> np.ndarray:
    _refuse_masked_items(given, what)
    try:
        array = np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # whatever the items raise
        lengths = _lengths(given)
        if lengths is not None:
            shown = ", ".join(map(str, lengths[:_LISTED])) + (", ..." if len(lengths) > _LISTED else "")
            raise ShapeError(
                f"{what}: expected an array of real numbers, found a list of items of different lengths: {shown}"
                f"{_odd_item(lengths)}{ragged_hint}"
            ) from error
        grad = any([getattr(item, "requires_grad", False) is True for item in given])
        hint = "; tensors that require gradients are given as x.detach()" if grad else ""
        if isinstance(error, ValueError) and any(map(_is_listed, given)) and not all(map(_is_listed, given)):
            place = next(place for place, item in enumerate(given) if not _is_listed(item))
            hint = f"; item {place} is {described(given[place])}"
        raise ShapeError(f"{what}: expected an array of real numbers: {error}{hint}") from error
    if array.dtype.kind in "OUSMm":
        _refuse_objects(np.array(given, object), what, str(array.dtype))
    return array


def _lengths(given: Sequence[Any]) -> list[int] | None:
    """The lengths of the items, if all have one and they differ."""
    try:
        found = [len(item) for item in given]
    except TypeError:
        return None
    return found if len(set(found)) > 1 else None


def _odd_item(lengths: Sequence[int]) -> str:
    """Which item has another length than most."""
    from collections import Counter

    usual = Counter(lengths).most_common(1)[0][0]
    place = next(place for place, length in enumerate(lengths) if length != usual)
    return f"; item {place} has {lengths[place]}" if len(lengths) > 2 else ""


def _is_listed(item: object) -> bool:
    return isinstance(item, (list, tuple, np.ndarray))


def _refuse_masked_items(given: Sequence[Any], what: str) -> None:
    """Raise about masked arrays in lists, of which NumPy would take what lies under the mask."""
    # nothing is masked in a process that has not loaded it, and numbers are not looked at one by one
    if "numpy.ma" not in sys.modules or not given or type(given[0]) in _PLAIN_ITEMS:
        return
    for item in given:
        if isinstance(item, (list, tuple)):
            _refuse_masked_items(item, what)
        elif type(item) is not np.ndarray and isinstance(item, np.ndarray):
            _unmasked(item, what)


def _unmasked(given: np.ndarray, what: str) -> np.ndarray:
    """A subclass of an array as an array, if nothing in it is masked."""
    if "numpy.ma" in sys.modules and isinstance(given, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(given)
        if masked.any():
            place = tuple(int(i) for i in np.argwhere(masked)[0])
            raise ShapeError(
                f"{what}: {int(masked.sum())} values of this masked array are masked, the first at {place}; fill them "
                "(x.filled(value)), or say which steps count with lengths= or mask= of predict"
            )
    array = np.asarray(given)
    if array.dtype.hasobject:
        _refuse_objects(array, what)
    return array


def _refuse_objects(array: np.ndarray, what: str, dtype: str = "object") -> NoReturn:
    """Raise about an array of objects, naming the first of them that is no number."""
    for place, item in np.ndenumerate(array):
        if isinstance(item, (bool, int, float, np.bool_, np.integer, np.floating)):
            continue
        missing = {"NoneType": "None", "NAType": "pandas.NA", "NaTType": "pandas.NaT"}.get(type(item).__name__)
        found = described(item) if missing is None else f"{missing} (a missing value)"
        raise ShapeError(f"{what}: expected real numbers, found dtype {dtype} with {found} at {_where(place)}")
    raise ShapeError(f"{what}: expected real numbers, found dtype {dtype}; give x.astype(float)")


def _where(place: tuple[int, ...]) -> str:
    if not place:
        return "its only place"
    return str(place if len(place) > 1 else f"position {place[0]}")


_ARROW_INTEGERS = ("int8", "int16", "int32", "int64")
#: name, dtype in words, whether it is of numbers, how many are missing, the array
_Column = tuple[str, str, bool, int, Callable[[], np.ndarray]]


def _columns_of(given: Any, what: str) -> list[_Column] | None:
    """The columns of a frame or table; None of anything else."""
    library = _library(given)
    if library == "pandas" and hasattr(given, "columns"):
        return [_of_pandas(name, given.iloc[:, k]) for k, name in enumerate(given.columns)]
    if library == "polars" and hasattr(given, "collect") and not hasattr(given, "get_columns"):
        raise ShapeError(f"{what}: found {described(given)}, which holds no numbers yet; give x.collect()")
    if library == "polars" and hasattr(given, "get_columns"):
        return [_of_polars(column) for column in given.get_columns()]
    if library == "xarray":
        return _of_xarray(given, what) if hasattr(given, "data_vars") else None
    if library == "pyarrow":
        is_table = hasattr(given, "schema") and hasattr(given, "column")
        return [_of_arrow(field, given.column(k)) for k, field in enumerate(given.schema)] if is_table else None
    is_arrow = hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__")
    if is_arrow and not _is_read_by_numpy(given) and not hasattr(given, "__dlpack__"):
        return _columns_of(_arrow_table(given, what), what)
    return None


def _arrow_table(given: Any, what: str) -> Any:
    """What gives an Arrow stream, as a table of a library that is installed."""
    try:
        import pyarrow

        return pyarrow.table(given)
    except ImportError:
        pass
    except MemoryError:
        raise
    except Exception as error:  # what is no table
        raise ShapeError(f"{what}: expected a table of numbers: {' '.join(str(error).split())[:200]}") from error
    try:
        import polars

        return polars.DataFrame(given)
    except ImportError:
        raise UnsupportedError(
            f"{what}: {described(given)} is read with pyarrow or polars, and neither is installed: pip install pyarrow"
        ) from None


def _of_pandas(name: object, column: Any) -> _Column:
    dtype = column.dtype
    plain = getattr(dtype, "numpy_dtype", None)  # of those that can be NA
    if plain is None and isinstance(dtype, np.dtype):
        is_number = dtype.kind in "fiub"
        return str(name), str(dtype), is_number, 0, lambda: np.asarray(column)
    if plain is None and hasattr(dtype, "fill_value"):  # sparse
        plain = dtype.subtype
        return str(name), str(dtype), plain.kind in "fiub", 0, lambda: np.asarray(column)
    if plain is None:
        return str(name), str(dtype), False, 0, lambda: np.asarray(column)
    return str(name), str(dtype), plain.kind in "fiub", int(column.isna().sum()), lambda: column.to_numpy(plain)


def _of_polars(column: Any) -> _Column:
    text = str(column.dtype)
    is_number = text.startswith(("Float", "Int", "UInt", "Boolean")) and not text.startswith("Interval")
    return column.name, text, is_number, int(column.null_count()), lambda: np.asarray(column.to_numpy())


def _of_arrow(field: Any, column: Any) -> _Column:
    text = str(field.type)
    is_number = text in ("bool", "float", "double", "halffloat") or text.lstrip("u") in _ARROW_INTEGERS
    # of a RecordBatch it is one array, of a Table several
    options = {} if hasattr(column, "chunks") else {"zero_copy_only": False}
    return field.name, text, is_number, int(column.null_count), lambda: np.asarray(column.to_numpy(**options))


def _of_xarray(dataset: Any, what: str) -> list[_Column]:
    """The variables of a Dataset, which all have the same dimensions."""
    dims = {name: tuple(variable.dims) for name, variable in dataset.data_vars.items()}
    if len(set(dims.values())) > 1:
        listed = ", ".join(f"{name} {found}" for name, found in dims.items())
        raise ShapeError(f"{what}: expected variables of the same dimensions, found {listed[:300]}")

    def column(name: object) -> _Column:
        array = np.asarray(dataset[name].values)
        return str(name), str(array.dtype), array.dtype.kind in "fiub", 0, lambda: array

    return [column(name) for name in dims]


def _of_columns(columns: list[_Column], what: str) -> np.ndarray:
    wrong = [f"{name!r} ({dtype})" for name, dtype, is_number, *_ in columns if not is_number]
    if wrong:
        shown = ", ".join(wrong[:_LISTED]) + (", ..." if len(wrong) > _LISTED else "")
        raise ShapeError(f"{what}: expected columns of real numbers, found {shown}; drop or encode them")
    for name, _, _, missing, _ in columns:
        if missing:
            raise ShapeError(f"{what}: column {name!r} has {missing} missing values; fill them or drop their rows")
    if not columns:
        raise ShapeError(f"{what}: expected columns of real numbers, found a table without columns")
    return np.stack([read() for *_, read in columns], axis=-1)


def _refuse_nulls(given: Any, what: str) -> None:
    """Raise about a single column of Polars or Arrow, or a Series of pandas, with missing values."""
    library = _library(given)
    missing = 0
    if library == "polars" and hasattr(given, "null_count"):
        missing = int(given.null_count())
    elif library == "pyarrow":
        missing = int(getattr(given, "null_count", 0))
    elif library == "pandas" and getattr(getattr(given, "dtype", None), "numpy_dtype", None) is not None:
        missing = int(given.isna().sum())
    if missing:
        raise ShapeError(f"{what}: {missing} values of this {type(given).__name__} are missing; fill them")
