"""Predictions with dropout: all samples of all rows are rows of one batch, in calls of bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_count, check_flag
from cylstm.errors import ArgumentError, described
from cylstm.inputs import as_masks, as_state, new_array, read_inputs
from cylstm.monte_carlo.draws import drawn_inputs
from cylstm.monte_carlo.plan import FixedTimeNeeded, Plan
from cylstm.monte_carlo.rates import rates_of
from cylstm.monte_carlo.result import Moments, MonteCarlo
from cylstm.prediction import threads_of_call, to_users

if TYPE_CHECKING:
    from cylstm.model import Model
    from cylstm.packing import PackedModel

#: at most so many bytes of inputs, masks and results has a call of the engine, if one sample fits into them
_CALL_BYTES = 64 << 20
#: The engine runs so many rows at once, and keeps working memory of so many bytes for the next call (tuning.h in
#: csrc/platform): new memory costs more than fewer rows, but of a call of few.
_TILE_ROWS, _KEPT_BYTES, _LEAST_ROWS = 48, 4_000_000, 16


def predict_monte_carlo(
    model: Model,
    x: Any,
    samples: int,
    seed: int,
    rates: Any,
    initial_state: Any,
    lengths: Any,
    mask: Any,
    keep_samples: bool,
    threads: int | None,
) -> MonteCarlo:
    """As `Model.predict_mc`."""
    samples = check_count("samples", samples)
    seed = _checked_seed(seed)
    check_flag("keep_samples", keep_samples)
    active = rates_of(model.graph, rates)
    packed = model._packed
    inputs, alone = read_inputs(packed, x, packed.inputs, packed.layouts)
    batch = len(inputs[0])
    masks = as_masks(packed, inputs, alone, lengths, mask)
    state = None if initial_state is None else as_state(initial_state, packed.state_groups, batch, packed.dtype)
    times = {value.name: array.shape[1] for value, array in zip(packed.inputs, inputs) if value.has_time}
    plan = _plan_of(model, active, times)
    steps = [times.get(value.name, 1) for value in packed.inputs]
    shapes = packed.result_shapes(batch, steps)
    moments = [Moments(shape) for shape in shapes]
    kept = [new_array((samples, *shape), model.dtype) for shape in shapes] if keep_samples else None
    each = sum(array.nbytes for array in (*inputs, *(state or ())))
    each += model.dtype.itemsize * sum(int(np.prod(shape)) for shape in shapes)
    each += batch * model.dtype.itemsize * sum(draw.count(times) * len(draw.inputs) for draw in plan.draws)
    at_once = max(1, min(samples, _CALL_BYTES // max(each, 1)))
    rows = _KEPT_BYTES // max(plan.run_bytes(times), 1)
    if rows < _TILE_ROWS:
        at_once = max(1, min(at_once, max(rows, _LEAST_ROWS) // batch))
    for first in range(0, samples, at_once):
        chosen = range(first, min(first + at_once, samples))
        results = plan_results(plan, active, inputs, masks, state, times, seed, chosen, threads)
        results = [one.reshape(len(chosen), batch, *one.shape[1:]) for one in results]
        for one, moment in zip(results, moments):
            moment.add(one)
        for one, array in zip(results, kept or []):
            array[first : chosen.stop] = one

    def given(arrays: list[np.ndarray], axis: int = 0) -> Any:
        if alone:
            arrays = [array.squeeze(axis) for array in arrays]
        arrays = _in_users_order(packed, arrays, axis)
        return arrays if len(arrays) > 1 else arrays[0]

    return MonteCarlo(
        given([moment.mean() for moment in moments]),
        given([moment.std() for moment in moments]),
        None if kept is None else given(kept, 1),
        samples,
        seed,
        active,
    )


def _in_users_order(packed: PackedModel, arrays: list[np.ndarray], axis: int) -> list[np.ndarray]:
    if not packed.layouts:
        return arrays
    if axis == 0:
        return to_users(packed, arrays)
    rows = [to_users(packed, [array[k] for array in arrays]) for k in range(len(arrays[0]))]
    return [np.stack(one) for one in zip(*rows)]


def plan_results(
    plan: Plan,
    rates: Mapping[str, Mapping[str, Any]],
    inputs: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None],
    state: Sequence[np.ndarray] | None,
    times: Mapping[str, int],
    seed: int,
    samples: Sequence[int],
    threads: int | None,
) -> list[np.ndarray]:
    """The outputs of some samples, (samples * batch, ...), sample by sample."""
    packed, batch, count = plan.packed, len(inputs[0]), len(samples)

    def repeated(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, (count, *array.shape)).reshape(count * batch, *array.shape[1:])

    arrays = {value.name: repeated(array) for value, array in zip(packed.inputs, inputs)}
    for draw in plan.draws:
        arrays |= drawn_inputs(draw, float(rates[draw.layer][draw.rate]), times, seed, samples, batch, packed.dtype)
    # those that are drawn stand behind those of the network, and have no mask
    ordered = [np.ascontiguousarray(arrays[value.name]) for value in packed.inputs]
    all_masks = [None if one is None else repeated(one) for one in masks]
    all_masks += [None] * (len(ordered) - len(all_masks))
    states = None if state is None else [repeated(one) for one in state]
    steps = [array.shape[1] if value.has_time else 1 for value, array in zip(packed.inputs, ordered)]
    results = [new_array(shape, packed.dtype) for shape in packed.result_shapes(count * batch, steps)]
    workers = threads_of_call(packed, count * batch, max(steps), threads)
    if not packed.predict(ordered, all_masks, results, states, None, workers, None):
        packed.check_indices(ordered)
    return results


def _checked_seed(seed: object) -> int:
    number = seed.item() if isinstance(seed, np.integer) else seed
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 64:
        raise ArgumentError(f"seed: expected a whole number from 0 to 2**64 - 1, found {described(seed)}")
    return number


def _plan_of(model: Model, rates: Mapping[str, Mapping[str, Any]], times: Mapping[str, int]) -> Plan:
    """The plan for what is drawn, kept with the model; its rates do not matter."""
    entries = [(name, key, one if isinstance(one, str) else "") for name in rates for key, one in rates[name].items()]
    form, steps = tuple(sorted(entries)), tuple(sorted(times.items()))
    plans = model._plans
    for key in (("monte carlo", form), ("monte carlo", form, steps)):
        found: Plan | None = plans.get(key)  # another thread may clear them
        if found is not None:
            return found
    if len(plans) >= 16:
        plans.clear()
    try:
        made = plans["monte carlo", form] = Plan(model, rates, None)
    except FixedTimeNeeded:
        made = plans["monte carlo", form, steps] = Plan(model, rates, times)
    return made
