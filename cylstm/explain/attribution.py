"""What `occlusion` and `shapley` find: how much each group of an input's numbers did to a prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cylstm.errors import ArgumentError, described


class Attribution:
    """How much each group of an input's numbers did to a prediction, in float64. Printed, it is a table.

    Attributes
    ----------
    method : {"occlusion", "shapley"}
    names : tuple of str
        Of the groups.
    owner : ndarray of int
        Of the shape of one sample: which group each number of it is in, -1 for those that stay as they are.
    values : ndarray
        (batch, groups, ...): what each group did; behind the groups the axes of the explained outputs, none where it
        is one number.
    error : ndarray
        The standard error of `values`; 0 where they are exact, NaN after a single pair of orders.
    prediction : ndarray
        (batch, ...): of the input as it is.
    base_value : ndarray
        (batch, ...): of the input all of whose groups are at the baseline.
    evaluations : int
        Of how many inputs an output was computed.
    pruned : int
        The first steps that are one group together, see `shapley`.

    Without a batch axis where the input came without one.
    """

    def __init__(
        self,
        method: str,
        names: Sequence[str],
        owner: np.ndarray,
        *,
        values: np.ndarray,
        error: np.ndarray,
        prediction: np.ndarray,
        base_value: np.ndarray,
        evaluations: int,
        pruned: int = 0,
        has_batch: bool = True,
    ) -> None:
        self.method = method
        self.names = tuple(names)
        self.owner = owner
        self.values = values
        self.error = error
        self.prediction = prediction
        self.base_value = base_value
        self.evaluations = evaluations
        self.pruned = pruned
        self.has_batch = has_batch

    @property
    def residual(self) -> np.ndarray:
        """(batch, ...): ``prediction - base_value - sum of values``.

        Of Shapley values it is rounding. Of occlusion it is what groups do together, not each alone.
        """
        groups = 1 if self.has_batch else 0
        return np.asarray(self.prediction - self.base_value - self.values.sum(axis=groups))

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of one group, (batch, ...). Raises `ArgumentError` if there is none of the name."""
        if name not in self.names:
            raise ArgumentError(f"group: expected one of {', '.join(self.names)}, found {described(name)}")
        return np.asarray(self.values[(slice(None),) * self.has_batch + (self.names.index(name),)])

    def on_input(self) -> np.ndarray:
        """The values laid over the input: each number has the value of its group, those in no group 0.

        Returns
        -------
        ndarray
            (batch, ...) of the shape of the input, then the axes of the explained outputs.
        """
        axis = 1 if self.has_batch else 0
        shape = (*self.values.shape[:axis], 1, *self.values.shape[axis + 1 :])
        padded = np.concatenate([self.values, np.zeros(shape)], axis=axis)
        return np.asarray(np.take(padded, self.owner, axis=axis))  # -1 is the last one

    def __str__(self) -> str:
        values, error = (array[0] if self.has_batch else array for array in (self.values, self.error))
        prediction, base = (array[0] if self.has_batch else array for array in (self.prediction, self.base_value))
        residual = self.residual[0] if self.has_batch else self.residual
        if values.ndim > 1:
            return f"{self!r}: a table is of one output; choose it with output="
        rows = [("group", "value", "standard error")]
        rows += [
            (self.names[k], f"{values[k]:+.6g}", f"{error[k]:.2g}" if error[k] else "")
            for k in np.argsort(-np.abs(values), kind="stable")
        ]
        rows += [
            ("base value", f"{float(base):+.6g}", ""),
            ("residual", f"{float(residual):+.2g}", ""),
            ("prediction", f"{float(prediction):+.6g}", ""),
        ]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [
            f"{name.ljust(widths[0])}  {value.rjust(widths[1])}  {error.rjust(widths[2])}".rstrip()
            for name, value, error in rows
        ]
        more = len(self.values) - 1 if self.has_batch else 0
        return "\n".join(lines + ([f"and {more} more rows"] if more else []))

    def __repr__(self) -> str:
        return f"<Attribution by {self.method}: {len(self.names)} groups, values {self.values.shape}>"
