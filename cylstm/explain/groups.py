"""Which numbers of an input belong together, and what stands in the place of those that are taken away."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from cylstm.array_like import to_array
from cylstm.errors import ArgumentError, ShapeError, described

_FORMS = (
    '"features", "time", a number of steps, a list of names of the features, a dict of groups, or a tuple of one of '
    "features and one of time"
)


class Groups:
    """A division of the numbers of a sample.

    Attributes
    ----------
    names : tuple of str
    owner : ndarray of int
        Of the shape of a sample: the group of each number, -1 for those that are in none.
    """

    def __init__(self, names: list[str], owner: np.ndarray) -> None:
        self.names = tuple(names)
        self.owner = owner

    def __len__(self) -> int:
        return len(self.names)

    def segments(self) -> list[tuple[int, int]]:
        """The first step, and the one after the last, of each run of steps whose numbers are in the same groups."""
        steps = self.owner.reshape(len(self.owner), -1)
        changes = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
        bounds = [0, *changes.tolist(), len(steps)]
        return list(pairwise(bounds))

    def with_past(self, steps: int) -> Groups:
        """All numbers of the first `steps` steps that are in a group as one group; the others as they are."""
        owner = self.owner.copy()
        past = owner[:steps]
        kept = np.unique(owner[steps:])
        kept = kept[kept >= 0]
        names = [f"past, {_steps_text(0, steps)}", *(self.names[k] for k in kept)]
        place = np.full(len(self) + 1, -1)
        place[kept] = np.arange(1, len(kept) + 1)
        owner[steps:] = place[owner[steps:]]
        owner[:steps] = np.where(past >= 0, 0, -1)
        return Groups(names, owner)


def groups_of(groups: Any, shape: tuple[int, ...], *, has_time: bool, has_features: bool) -> Groups:
    """The groups that a user asks for, of samples of `shape`: time first, features last, where they are.

    Raises
    ------
    ArgumentError
        If it is none of the known forms, two groups overlap, or one is empty or outside.
    """
    if isinstance(groups, tuple):
        if len(groups) != 2:
            raise ArgumentError(f"groups: expected {_FORMS}, found a tuple of {len(groups)}")
        of_features = _of_features(groups[0], shape, has_features)
        of_time = _of_time(groups[1], shape, has_time)
        # side by side, in the order of the features and then of time
        both = np.where(
            (of_features.owner >= 0) & (of_time.owner >= 0), of_features.owner * len(of_time) + of_time.owner, -1
        )
        names = [f"{feature}, {steps}" for feature in of_features.names for steps in of_time.names]
        return _without_empty(names, both)
    if isinstance(groups, (int, np.integer)) or (isinstance(groups, str) and groups == "time"):
        return _of_time(groups, shape, has_time)
    return _of_features(groups, shape, has_features)


def _without_empty(names: list[str], owner: np.ndarray) -> Groups:
    """Without the pairs of a group of features and one of time that have no number in common."""
    found = np.unique(owner[owner >= 0])
    place = np.full(len(names) + 1, -1)
    place[found] = np.arange(len(found))
    return Groups([names[k] for k in found], place[owner])


def _of_features(groups: Any, shape: tuple[int, ...], has_features: bool) -> Groups:
    if isinstance(groups, Mapping):
        return _of_mapping(groups, shape)
    is_list = isinstance(groups, list) and all(isinstance(name, str) for name in groups)
    if not is_list and not (isinstance(groups, str) and groups == "features"):
        raise ArgumentError(f"groups: expected {_FORMS}, found {described(groups)}")
    if not has_features:
        raise ArgumentError(f"groups: samples of shape {shape} have no features; give groups of time")
    names = list(groups) if is_list else [f"feature {k}" for k in range(shape[-1])]
    if len(names) != shape[-1] or len(set(names)) != len(names):
        raise ArgumentError(
            f"groups: expected {shape[-1]} different names of features, found {described(groups)} ({len(names)})"
        )
    return Groups(names, np.broadcast_to(np.arange(shape[-1]), shape).copy())


def _of_time(size: Any, shape: tuple[int, ...], has_time: bool) -> Groups:
    """Blocks of steps, counted from the last one: the first block has what is left."""
    if not has_time:
        raise ArgumentError(f"groups: samples of shape {shape} have no time; give groups of features")
    if isinstance(size, str) and size == "time":
        size = 1
    if isinstance(size, (bool, str)) or not isinstance(size, (int, np.integer)) or size < 1:
        raise ArgumentError(f'groups: of time expected "time" or a number of steps from 1 on, found {described(size)}')
    steps = shape[0]
    blocks = -(-steps // int(size))
    block = blocks - 1 - np.arange(steps)[::-1] // int(size)
    names = []
    for k in range(blocks):
        inside = np.flatnonzero(block == k)
        names.append(_steps_text(int(inside[0]), int(inside[-1]) + 1))
    return Groups(names, np.broadcast_to(block.reshape(-1, *[1] * (len(shape) - 1)), shape).copy())


def _of_mapping(groups: Mapping[Any, Any], shape: tuple[int, ...]) -> Groups:
    owner = np.full(shape, -1)
    names: list[str] = []
    for name, chosen in groups.items():
        if not isinstance(name, str):
            raise ArgumentError(f"groups: expected texts as names, found {described(name)}")
        mask = np.zeros(shape, bool)
        is_mask = isinstance(chosen, np.ndarray) and chosen.dtype == np.bool_
        if is_mask and chosen.shape not in (shape, shape[-1:]):
            raise ArgumentError(f"groups: {name!r} is a mask of shape {chosen.shape}, expected {shape} or {shape[-1:]}")
        try:
            if is_mask:
                mask |= chosen
            elif isinstance(chosen, tuple):
                mask[chosen] = True
            else:
                mask[..., np.asarray(chosen, np.intp) if isinstance(chosen, list) else chosen] = True
        except (IndexError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"groups: {name!r} is {described(chosen)}, which is not in a sample of shape {shape} ({error}); "
                "expected an index, a slice, a list or a mask of features, a tuple that indexes steps and features, "
                "or a mask of a sample"
            ) from error
        if not mask.any():
            raise ArgumentError(f"groups: {name!r} is empty")
        taken = mask & (owner >= 0)
        if taken.any():
            place = tuple(int(k) for k in np.argwhere(taken)[0])
            raise ArgumentError(f"groups: {names[owner[place]]!r} and {name!r} overlap at {place} of a sample")
        owner[mask] = len(names)
        names.append(name)
    if not names:
        raise ArgumentError("groups: expected at least one group, found none")
    return Groups(names, owner)


def _steps_text(start: int, stop: int) -> str:
    return f"step {start}" if stop == start + 1 else f"steps {start}-{stop - 1}"


class Background:
    """Data whose rows, or whose mean, stand in the place of what is taken away.

    Parameters
    ----------
    data : array_like
        (rows, ...), of the shape of a sample each.
    average : {"outputs", "inputs"}
        "outputs": what is taken away is replaced by each row in turn, and the outputs are averaged over the rows, which
        costs as many predictions (the marginal expectation: the groups are taken as independent of each other).
        "inputs": it is replaced by the mean of the rows, once.

    Raises
    ------
    ArgumentError
        For another `average`.
    ShapeError
        If there are no rows.
    """

    def __init__(self, data: Any, average: str = "outputs") -> None:
        if average not in ("outputs", "inputs"):
            raise ArgumentError(f'average: expected "outputs" or "inputs", found {described(average)}')
        self.data = to_array(data, "background")
        self.average = average
        if self.data.ndim < 2 or not self.data.size or self.data.dtype.kind not in "fiub":
            raise ShapeError(f"background: expected numbers (rows, ...), found {described(self.data)}")

    def __repr__(self) -> str:
        return f"<Background of {len(self.data)} rows, average of {self.average}>"


def baseline_of(baseline: Any, x: np.ndarray) -> np.ndarray:
    """What stands in the place of what is taken away, (1 or batch, rows of a background, ...), of the dtype of `x`.

    Parameters
    ----------
    baseline : float, array_like or Background
        A number for all; one for each feature; a sample; a sample for each row of `x`; or data.
    x : ndarray
        (batch, ...)

    Raises
    ------
    ShapeError
        If it has another shape, or numbers that are not finite or that `x` cannot hold.
    """
    shape = x.shape[1:]
    if isinstance(baseline, Background):
        found = baseline.data if baseline.average == "outputs" else baseline.data.mean(axis=0, keepdims=True)
        if found.shape[1:] != shape:
            raise ShapeError(f"baseline: expected rows of shape {shape} as of x, found {baseline.data.shape}")
        found = found[np.newaxis]
    else:
        array = to_array(baseline, "baseline")
        if array.dtype.kind not in "fiub":
            raise ShapeError(f"baseline: expected real numbers or a Background, found {described(baseline)}")
        if array.shape == x.shape:
            found = array[:, np.newaxis]
        elif array.shape in ((), shape[-1:], shape):
            found = np.broadcast_to(array, shape)[np.newaxis, np.newaxis]
        else:
            raise ShapeError(
                f"baseline: expected a number or an array of shape {shape[-1:]}, {shape} or {x.shape}, found "
                f"{array.shape}"
            )
    if not np.isfinite(found).all():
        raise ShapeError("baseline: expected finite numbers")
    if x.dtype.kind in "iu" and (np.floor(found) != found).any():
        raise ShapeError("baseline: expected whole numbers, as those of x")
    return np.asarray(found, x.dtype)
