"""Sizes that no machine, or not this one, can hold: refused in words, never wrapped into small ones."""

import sys

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import lstm_model

IS_64_BITS = sys.maxsize > 2**32


def test_a_stream_of_more_rows_than_fit_is_refused(rng):
    model = lstm_model(rng, 8, 256)
    # of 32 bits: each row takes some 7 KB, so that these take a little more than a multiple of 4 GiB
    rows = [2**38, 2**40, 2**47, 2**62, 2**63 - 1, 2**63, 2**64 + 1, 10**30]
    for batch in rows if IS_64_BITS else [*range(2_990_000, 3_010_000, 97), *rows]:
        with pytest.raises(MemoryError, match=f"a stream of {batch} rows"):
            model.stream(batch)
    stream = model.stream(3)
    assert np.isfinite(stream.step(np.ones((3, 8), np.float32))).all()


def wide_model(rng):
    """Of one number 2^20 of them at each of 2^24 steps: 2^46 bytes a row."""
    builder = GraphBuilder()
    x = builder.input("input", (1,))
    y = builder.add("dense", "wide", {"x": x}, {"weight": rng.normal(size=(2**20, 1)).astype("f")})["y"]
    builder.output(builder.add("repeat_vector", "long", {"x": y}, options={"count": 2**24})["y"])
    return cylstm.Model(builder.build())


@pytest.mark.parametrize("batch", [4, 2**18, 2**18 + 1])
def test_outputs_that_do_not_fit_are_refused(rng, batch):
    # 2^64 bytes and some more: NumPy cannot count them
    model = wide_model(rng)
    for x in (np.ones((batch, 1), np.float32), [[1.0]] * batch):
        with pytest.raises(MemoryError, match=rf"\({batch}, {2**24}, {2**20}\)"):
            model.predict(x)
    with pytest.raises(MemoryError, match=rf"\({batch}, {2**24}, {2**20}\)"):
        model.predict(np.ones((batch, 1), np.float32), return_state=True)


def long_model():
    """Of one step 2^45 within, of which the mean is taken."""
    builder = GraphBuilder()
    y = builder.input("input", (None, 2))
    for name in "abc":
        y = builder.add("upsample", name, {"x": y}, options={"size": 2**15})["y"]
    builder.output(builder.add("reduce", "mean", {"x": y}, options={"mode": "mean"})["y"])
    return cylstm.Model(builder.build())


@pytest.mark.parametrize("shape", [(1, 2), (3, 7, 2)])
def test_steps_within_a_network_that_do_not_fit_are_refused(shape):
    with pytest.raises(MemoryError, match="out of memory, or a size that does not fit"):
        long_model().predict(np.ones(shape, np.float32))
