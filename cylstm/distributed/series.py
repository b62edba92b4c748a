"""Forecasts of many series in one table, each of which is a group of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cylstm.distributed.place import at
from cylstm.errors import ArgumentError, described
from cylstm.forecasting.roll import check_steps

if TYPE_CHECKING:
    from cylstm.forecasting import Forecaster

#: the column that says how many steps after the last row of its series a forecast is
STEP = "step"


class SeriesRequest(NamedTuple):
    """The arguments of `forecast_table`."""

    by: str
    order: str | None = None
    steps: int | None = None

    def checked(self, forecaster: Forecaster, found: Sequence[Any]) -> SeriesRequest:
        """Itself, for this forecaster and a table that has the columns `found`, with all that was left out.

        Raises
        ------
        ArgumentError
            If a column is missing, or an argument has a value that it cannot have.
        """
        order = forecaster._time if self.order is None else self.order
        if order is None:
            raise ArgumentError(
                "order: expected the column that says the order of the rows of a series, because engines do not keep it"
            )
        for name in (self.by, order, *forecaster.features):
            if not isinstance(name, str) or name not in found:
                raise ArgumentError(f"the column {described(name)} is missing; found {', '.join(map(str, found))}")
        if self.by in (STEP, forecaster.target, *forecaster.features):
            raise ArgumentError(
                f"by: expected a column that is no feature, and called neither {STEP!r} nor {forecaster.target!r}, "
                f"found {self.by!r}"
            )
        return SeriesRequest(self.by, order, check_steps(forecaster, self.steps))

    def forecast(self, forecaster: Forecaster, frame: Any) -> Any:
        """The forecasts of all series of a frame of pandas, each of which it has as a whole.

        Returns
        -------
        pandas.DataFrame
            Of each series `steps` rows: its value of `by`, the step from 1 on, and the target.
        """
        import pandas

        found = []
        for key, group in frame.groupby(self.by, sort=True, dropna=False):
            with at(f"the series {self.by}={str(key)[:60]}"):
                found.append(self.of_group(forecaster, group))
        if not found:
            return self.of_rows(forecaster, frame.iloc[:0], np.empty(0))
        return pandas.concat(found, ignore_index=True)

    def of_group(self, forecaster: Forecaster, group: Any) -> Any:
        """The forecasts of one series."""
        columns = [*forecaster.features, *([self.order] if self.order == forecaster._time else [])]
        # rows of one time stay as they lie, and the forecaster refuses them
        rows = group.sort_values(self.order, kind="stable")
        return self.of_rows(forecaster, group, forecaster.forecast(rows[columns], self.steps))

    def of_rows(self, forecaster: Forecaster, group: Any, forecast: np.ndarray) -> Any:
        """A forecast as rows."""
        keys = group[[self.by]].iloc[np.zeros(len(forecast), int)].reset_index(drop=True)
        return keys.assign(**{STEP: np.arange(1, len(forecast) + 1), forecaster.target: forecast})
