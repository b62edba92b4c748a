"""Scaling of features and targets: from their units to the network's numbers, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cylstm.errors import ArgumentError, described

#: kind -> its numbers, and of some a default
KINDS: dict[str, dict[str, float | None]] = {
    "arcsinh": {},
    "log1p": {},
    "standard": {"mean": None, "std": None},
    "min_max": {"low": None, "high": None, "to_low": 0.0, "to_high": 1.0},
    "robust": {"median": None, "iqr": None},
    # of the window that a forecast is made from, column by column; see `_local`
    "local_standard": {"eps": 0.0, "variance_eps": 0.0, "ddof": 0.0, "offset": 0.0},
    "local_robust": {"eps": 0.0, "offset": 0.0},
    "local_min_max": {"eps": 0.0, "to_low": 0.0, "to_high": 1.0, "offset": 0.0},
}
#: functions without numbers, and their inverses
_FUNCTIONS: dict[str, tuple[np.ufunc, np.ufunc]] = {"arcsinh": (np.arcsinh, np.sinh), "log1p": (np.log1p, np.expm1)}
#: the quantile 0.75 of a standard normal number, which the median absolute deviation is of the standard deviation
_MAD = 0.6744897501960817
_MOST_PARTS = 8

#: one number, one for each step of the horizon, or of a resolved local scaler one for each row of a batch
Numbers = float | tuple[float, ...] | np.ndarray


class Part(NamedTuple):
    """One scaler: its kind and its numbers, each one number, or one for each step of the horizon."""

    kind: str
    numbers: Mapping[str, Numbers]

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Units to the network's numbers, float64."""
        if self.kind in _FUNCTIONS:
            return np.asarray(_FUNCTIONS[self.kind][0](x))
        if self.kind == "min_max":
            scale, offset = self._of_range()
            return np.asarray(x * scale + offset)
        center, scale = self._of_center()
        return np.asarray((x - center) / scale)

    def in_units(self, y: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`."""
        if self.kind in _FUNCTIONS:
            return np.asarray(_FUNCTIONS[self.kind][1](y))
        if self.kind == "min_max":
            scale, offset = self._of_range()
            return np.asarray((y - offset) / scale)
        center, scale = self._of_center()
        y = y * scale + center
        return np.asarray(y + self.numbers["offset"] if "offset" in self.numbers else y)

    @property
    def is_local(self) -> bool:
        """Whether its numbers are those of the window that a forecast is made from."""
        return self.kind.startswith("local_")

    def at(self, window: np.ndarray) -> Part:
        """Itself, or of a local one the scaler for windows (batch, time)."""
        return _local(self, window) if self.is_local else self

    def spread_in_units(self, y: np.ndarray) -> np.ndarray:
        """A difference of two numbers of the network, in units; of a kind that is a straight line."""
        if self.kind == "min_max":
            return np.asarray(y / self._of_range()[0])
        return np.asarray(y * self._of_center()[1])

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        numbers = {name: list(one) if isinstance(one, tuple) else one for name, one in self.numbers.items()}
        return {"kind": self.kind, **numbers}

    def _of_range(self) -> tuple[Any, Any]:
        # in the order of scikit-learn's MinMaxScaler, so that the bits are the same
        low, high, to_low, to_high = [_as_operand(self.numbers[name]) for name in KINDS["min_max"]]
        scale = (to_high - to_low) / (high - low)
        return scale, to_low - low * scale

    def _of_center(self) -> tuple[Any, Any]:
        center, scale = [_as_operand(self.numbers[name]) for name in KINDS[self.kind]]
        return center, scale


def _local(part: Part, x: np.ndarray) -> Part:
    """The center and the scale of each row of windows (batch, time), (batch, 1) each.

    A scale of 0 is taken as 1 before `eps` is added. The median is the lower one of two in the middle. A median
    absolute deviation of 0 is taken from the standard deviation.
    """
    numbers = {key: float(one) for key, one in part.numbers.items() if isinstance(one, float)}
    if part.kind == "local_standard":
        center = x.mean(axis=1, keepdims=True)
        squares = ((x - center) ** 2).sum(axis=1, keepdims=True)
        scale = np.sqrt(squares / (x.shape[1] - numbers["ddof"]) + numbers["variance_eps"])
    elif part.kind == "local_robust":
        center = _lower_median(x)
        scale = _lower_median(np.abs(x - center))
        scale = np.where(scale == 0, x.std(axis=1, keepdims=True) * _MAD, scale)
    else:
        center = x.min(axis=1, keepdims=True)
        scale = x.max(axis=1, keepdims=True) - center
    scale = np.where(scale == 0, 1.0, scale) + numbers["eps"]
    if part.kind == "local_min_max":
        scale = scale / (numbers["to_high"] - numbers["to_low"])
        center = center - numbers["to_low"] * scale
    return Part("standard", {"mean": center, "std": scale, "offset": numbers["offset"]})


def _lower_median(x: np.ndarray) -> np.ndarray:
    middle = (x.shape[1] - 1) // 2
    return np.partition(x, middle, axis=1)[:, middle : middle + 1]


def _as_operand(numbers: Numbers) -> float | np.ndarray:
    return np.array(numbers) if isinstance(numbers, tuple) else numbers


class Scaling(NamedTuple):
    """Scalers, applied one after the other; none leaves numbers as they are."""

    parts: tuple[Part, ...] = ()

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Units to the network's numbers, float64; the last axis is that of the horizon if numbers have one."""
        for part in self.parts:
            x = part.scaled(x)
        return x

    def in_units(self, y: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`."""
        for part in reversed(self.parts):
            y = part.in_units(y)
        return y

    def spread_in_units(self, y: np.ndarray) -> np.ndarray:
        """A standard deviation in units; only if `is_linear`."""
        for part in reversed(self.parts):
            y = part.spread_in_units(y)
        return y

    @property
    def is_linear(self) -> bool:
        """Whether it is a straight line."""
        return all(part.kind not in _FUNCTIONS for part in self.parts)

    @property
    def is_local(self) -> bool:
        """Whether it has numbers of the window that a forecast is made from."""
        return any(part.is_local for part in self.parts)

    @property
    def center(self) -> tuple[float, float] | None:
        """What is subtracted and divided by, if that is all that it does."""
        if len(self.parts) != 1 or self.parts[0].kind not in ("standard", "robust"):
            return None
        center, scale = self.parts[0].numbers.values()
        return (center, scale) if isinstance(center, float) and isinstance(scale, float) else None

    def at(self, window: np.ndarray) -> Scaling:
        """Itself, with the numbers of windows (batch, time) in units where it is local."""
        parts = []
        for part in self.parts:
            parts.append(part.at(window))
            window = parts[-1].scaled(window)
        return Scaling(tuple(parts))

    def to_list(self) -> list[dict[str, object]]:
        """For JSON."""
        return [part.to_dict() for part in self.parts]


def as_scaling(what: str, given: object, horizon: int = 1, name: str | None = None) -> Scaling:
    """What a user gives as the scaling of one feature or target.

    Parameters
    ----------
    what : str
        For messages.
    given : object
        None; ``"log1p"`` or ``"arcsinh"``; a dict such as ``{"kind": "standard", "mean": 3.0, "std": 2.0}``; a fitted
        scaler of scikit-learn; or a list of these, applied in that order.
    horizon : int
        If above 1, each number may also be a list of so many.
    name : str, optional
        Which column of a fitted scaler, by its ``feature_names_in_``.

    Raises
    ------
    ArgumentError
        If it is none of these, or a number is not finite or leaves nothing to invert.
    """
    if given is None:
        return Scaling()
    items = given if isinstance(given, (list, tuple)) and not isinstance(given, Scaling) else [given]
    if isinstance(given, Scaling):
        return given
    if len(items) > _MOST_PARTS:
        raise ArgumentError(f"{what}: expected at most {_MOST_PARTS} scalers, found {len(items)}")
    return Scaling(tuple(_part(what, item, horizon, name) for item in items))


def _part(what: str, given: object, horizon: int, name: str | None) -> Part:
    if isinstance(given, str) and given in _FUNCTIONS:
        given = {"kind": given}
    if is_fitted_scaler(given):
        return _of_column(what, given, horizon, name)
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{what}: expected None, 'log1p' or another kind without numbers, a dict with a kind ({', '.join(KINDS)}) "
            "and its numbers, a fitted StandardScaler, MinMaxScaler or RobustScaler, "
            f"or a list of these, found {described(given)}"
        )
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ArgumentError(f"{what}: kind expected one of {', '.join(KINDS)}, found {described(kind)}")
    fields = KINDS[kind]
    unknown = [key for key in given if key != "kind" and key not in fields]
    missing = [key for key, default in fields.items() if default is None and key not in given]
    if unknown or missing:
        wrong = f"found {described(unknown[0])} too" if unknown else f"{missing[0]} is missing"
        raise ArgumentError(f"{what}: {kind} has {', '.join(fields) or 'no numbers'}; {wrong}")
    numbers = {key: _numbers(f"{what}: {key}", given.get(key, default), horizon) for key, default in fields.items()}
    for key in {"standard": ["std"], "robust": ["iqr"]}.get(kind, []):
        if not (np.asarray(numbers[key]) > 0).all():
            raise ArgumentError(f"{what}: {key} expected above 0, found {described(given[key])}")
    if kind.startswith("local_"):
        _check_local(what, kind, numbers)
    for low, high in [("low", "high"), ("to_low", "to_high")] if kind == "min_max" else []:
        if not (np.asarray(numbers[low]) < np.asarray(numbers[high])).all():
            raise ArgumentError(f"{what}: expected {low} below {high}, found {numbers[low]} and {numbers[high]}")
        with np.errstate(all="ignore"):
            size = np.asarray(numbers[high]) - np.asarray(numbers[low])
            is_usable = np.isfinite(size) & np.isfinite(1.0 / size)
        if not is_usable.all():
            raise ArgumentError(f"{what}: {low} and {high} are too close or too far apart to divide by")
    return Part(kind, numbers)


def _check_local(what: str, kind: str, numbers: Mapping[str, Numbers]) -> None:
    """Raises `ArgumentError` if a local scaler would divide by what is not above 0."""
    for key, one in numbers.items():
        if not isinstance(one, float) or (key in ("eps", "variance_eps") and one < 0):
            raise ArgumentError(f"{what}: {key} of a {kind} expected a number of at least 0, found {described(one)}")
        if key == "ddof" and one not in (0.0, 1.0):
            raise ArgumentError(f"{what}: ddof expected 0 or 1, found {described(one)}")
    if kind == "local_min_max" and not np.asarray(numbers["to_low"]) < np.asarray(numbers["to_high"]):
        raise ArgumentError(
            f"{what}: expected to_low below to_high, found {numbers['to_low']} and {numbers['to_high']}"
        )


def _numbers(what: str, given: Any, horizon: int) -> Numbers:
    """A finite number, or with a horizon above 1 so many."""
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "iuf":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{what} expected a number, found {described(given)}") from None
    if array.shape not in ((), (horizon,) if horizon > 1 else ()):
        lists = f", or {horizon} of them, one for each step" if horizon > 1 else ""
        raise ArgumentError(f"{what} expected a number{lists}, found {described(given)}")
    if not np.isfinite(array).all():
        raise ArgumentError(f"{what} expected a finite number, found {described(given)}")
    return tuple(array.tolist()) if array.ndim else float(array)


_FITTED = {
    "StandardScaler": {"mean": "mean_", "std": "scale_"},
    "MinMaxScaler": {"low": "data_min_", "high": "data_max_"},
    "RobustScaler": {"median": "center_", "iqr": "scale_"},
}
#: attribute -> the flags of the scaler without which it is not used
_FLAGS = {"mean_": ("with_mean",), "center_": ("with_centering",), "scale_": ("with_std", "with_scaling")}


def is_fitted_scaler(given: object) -> bool:
    """Whether it is a scaler of scikit-learn, fitted or not; told by the name of its class."""
    return type(given).__name__ in _FITTED and type(given).__module__.startswith("sklearn.")


def of_fitted_scaler(what: str, given: Any, features: Sequence[str]) -> dict[str, Scaling]:
    """The scalings of all features, of a scaler of scikit-learn that was fitted on them.

    Raises
    ------
    ArgumentError
        If it was fitted on others, or not at all.
    """
    count = _count_of(what, given)
    names = getattr(given, "feature_names_in_", None)
    if count != len(features) or (names is not None and list(names) != list(features)):
        found = f"{count} features" if names is None else f"on {', '.join(map(str, names))}"
        raise ArgumentError(f"{what}: expected a scaler fitted on {', '.join(features)}, in this order, found {found}")
    parts = _columns_of(what, given)
    return {name: Scaling((part,)) for name, part in zip(features, parts)}


def _count_of(what: str, given: Any) -> int:
    count = getattr(given, "n_features_in_", None)
    if not isinstance(count, int):
        raise ArgumentError(f"{what}: the {type(given).__name__} is not fitted; call its fit first")
    return count


def _of_column(what: str, given: Any, horizon: int, name: str | None) -> Part:
    """One column of a fitted scaler: its only one, that of this name, or of as many as the horizon all of them."""
    count = _count_of(what, given)
    parts = _columns_of(what, given)
    names = getattr(given, "feature_names_in_", None)
    if count == 1:
        return parts[0]
    if names is not None and name in list(names):
        return parts[list(names).index(name)]
    if count == horizon > 1:
        numbers: dict[str, Numbers] = {}
        for key in KINDS[parts[0].kind]:
            column = [part.numbers[key] for part in parts]
            numbers[key] = tuple(one for one in column if isinstance(one, float))
        return Part(parts[0].kind, numbers)
    raise ArgumentError(f"{what}: expected a scaler fitted on 1 feature, found {count}")


def _columns_of(what: str, given: Any) -> list[Part]:
    kind = type(given).__name__
    count = _count_of(what, given)
    if getattr(given, "clip", False):
        raise ArgumentError(f"{what}: a MinMaxScaler with clip=True cannot be inverted")
    columns: dict[str, np.ndarray] = {}
    for key, attribute in _FITTED[kind].items():
        found = getattr(given, attribute, None)
        # a scaler that does not subtract its mean may know it all the same
        is_used = all(getattr(given, flag, True) for flag in _FLAGS.get(attribute, ()))
        if found is None or not is_used:
            found = np.full(count, 1.0 if attribute == "scale_" else 0.0)
        columns[key] = np.asarray(found, np.float64)
    if kind == "MinMaxScaler":
        # a column that never changes is divided by 1
        low, high = columns["low"], columns["high"]
        columns["high"] = np.where(high - low < 10 * np.finfo(np.float64).eps, low + 1.0, high)
        to_low, to_high = given.feature_range
        columns["to_low"], columns["to_high"] = np.full(count, float(to_low)), np.full(count, float(to_high))
    ours = {"StandardScaler": "standard", "MinMaxScaler": "min_max", "RobustScaler": "robust"}[kind]
    return [
        _part(what, {"kind": ours, **{key: float(column[i]) for key, column in columns.items()}}, 1, None)
        for i in range(count)
    ]
