"""A row of a table for each step: learned positions."""

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder


def model(rng, rows=7, time=None):
    builder = GraphBuilder()
    x = builder.input("x", (time, 3))
    table = rng.normal(size=(rows, 5)).astype(np.float32)
    builder.output(builder.add("step_table", "steps", {"x": x}, {"table": table})["y"])
    return cylstm.Model(builder.build()), table


def test_each_step_has_its_row_and_no_sequence_may_be_longer():
    rng = np.random.default_rng(0)
    made, table = model(rng)
    for time in (1, 6, 7):
        x = rng.normal(size=(3, time, 3)).astype(np.float32)
        np.testing.assert_array_equal(made.predict(x), np.broadcast_to(table[:time], (3, time, 5)))
    with pytest.raises(cylstm.ShapeError, match="'steps' has a row for each of 7 steps, found 8"):
        made.predict(np.zeros((3, 8, 3), np.float32))


def test_a_fixed_time_that_is_too_long_is_refused_when_the_network_is_made():
    with pytest.raises(cylstm.ShapeError, match="at most 7 steps, found 8"):
        model(np.random.default_rng(0), time=8)


def test_it_does_not_stream_and_says_why():
    made, _ = model(np.random.default_rng(0))
    with pytest.raises(cylstm.UnsupportedError, match="its table has a row for each step and ends"):
        made.stream()
