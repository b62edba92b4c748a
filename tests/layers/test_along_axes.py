"""Layers along one axis, and products of two values, where the other tests do not reach."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import ENGINES, FOLDS, T, one_layer
from tests.builders.networks import bits

NAN, INF = np.nan, np.inf


def in_every_engine(graph, *inputs, mask=None):
    """`(outputs, tolerance)` of each engine, a list of outputs."""
    for engine, dtype, tolerance in ENGINES:
        data = list(inputs) if len(inputs) > 1 else inputs[0]
        found = cylstm.Model(graph, engine=engine, dtype=dtype).predict(data, mask=mask)
        yield found if isinstance(found, list) else [found], tolerance


def check(graph, *inputs, mask=None):
    """Every engine has the reference's numbers."""
    with np.errstate(all="ignore"):
        expected, _ = reference.predict(graph, *inputs, mask=mask)
    for found, tolerance in in_every_engine(graph, *inputs, mask=mask):
        for a, b in zip(found, expected):
            scale = max(1.0, np.abs(b[np.isfinite(b)]).max(initial=0.0))
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


# reduce


@pytest.mark.parametrize("mode", ["mean", "sum", "prod", "var", "norm", "any", "all"])
def test_a_mask_leaves_steps_out_of_a_reduction_over_time(rng, mode):
    builder = GraphBuilder()
    x = builder.input("x", (None, 18))
    correction = 1.0 if mode == "var" else 0.0
    roles = {"x": x, "mask": builder.value(x.mask)}
    y = builder.add("reduce", "tested", roles, options={"mode": mode, "correction": correction})["y"]
    builder.output(y)
    graph = builder.build()
    x = rng.normal(size=(4, T, 18)).astype("f")
    x[x > 1] = 0
    mask = rng.random((4, T)) > 0.4
    mask[1], mask[2] = False, np.arange(T) == 3
    x[:, :, 0][~mask] = NAN
    check(graph, x, mask=mask)
    check(graph, x)
    none = {"prod": 1.0, "all": 1.0, "mean": NAN, "var": NAN}.get(mode, 0.0)
    for (found,), _ in in_every_engine(graph, x, mask=mask):
        np.testing.assert_array_equal(found[1], np.full(18, none))


@pytest.mark.parametrize("mode", ["max", "argmax", "logsumexp"])
def test_a_mask_of_a_reduction_that_has_no_number_for_no_steps_is_refused(rng, mode):
    with pytest.raises(UnsupportedError, match=f"'tested': a mask is for mean, .*, found mode '{mode}' over axis 0"):
        one_layer(rng, "reduce", (None, 3), {"mode": mode}, masks=[("mask", "x")])
    with pytest.raises(UnsupportedError, match="found mode 'var' over axis 1"):
        one_layer(rng, "reduce", (None, 3), {"mode": "var", "axis": 1}, masks=[("mask", "x")])


@pytest.mark.parametrize("axis", [0, 1])
def test_the_place_of_an_extreme_is_that_of_the_first_and_nan_exceeds_all(rng, axis):
    rows = [
        ([1, 3, 3, 2], 1, 0),
        ([5, 5, 5, 5], 0, 0),
        ([2, 1, 4, 1], 2, 1),
        ([-INF, INF, INF, -INF], 1, 0),
        ([1, NAN, 7, NAN], 1, 1),
        ([NAN, -INF, INF, 0], 0, 0),
        ([0, 2.0**-41, 0, 0], 0, 0),  # which counts as zero in float32
    ]
    x = np.array([row for row, *_ in rows], np.float32)[:, :, np.newaxis]
    x = x if axis == 0 else x.swapaxes(1, 2)
    for i, mode in enumerate(("argmax", "argmin")):
        graph = one_layer(rng, "reduce", (None, x.shape[2]), {"mode": mode, "axis": axis})
        wanted = [row[1 + i] for row in rows]
        for engine, dtype, _ in ENGINES[:2]:
            found = cylstm.Model(graph, engine=engine, dtype=dtype).predict(x)
            np.testing.assert_array_equal(found.reshape(-1), wanted)


def test_a_place_beyond_what_a_short_number_holds_is_exact(rng):
    graph = one_layer(rng, "reduce", (None, 1), {"mode": "argmax"})
    x = np.zeros((1, 70_001, 1), "f")
    x[0, 70_000] = 1
    assert cylstm.Model(graph).predict(x)[0, 0] == 70_000


def test_products_squares_and_variances_are_taken_in_double(rng):
    (x,) = np.array([[[1e-9, 1e-9, 1e9, 1e9]]], "f").swapaxes(1, 2)[np.newaxis]
    for mode, wanted in (("prod", 1.0), ("norm", np.sqrt(2) * 1e9)):
        found = cylstm.Model(one_layer(rng, "reduce", (None, 1), {"mode": mode})).predict(x)
        np.testing.assert_allclose(found, [[wanted]], rtol=1e-6)
    large = np.full((1, 2, 1), 3e38, "f")
    found = cylstm.Model(one_layer(rng, "reduce", (None, 1), {"mode": "norm"})).predict(large)
    assert found[0, 0] == INF  # of what float32 cannot hold
    found = cylstm.Model(one_layer(rng, "reduce", (None, 1), {"mode": "norm"})).predict(large / 4)
    np.testing.assert_allclose(found, [[3e38 / 4 * np.sqrt(2)]], rtol=1e-6)
    x = (1e4 + rng.normal(size=(2, 50_000, 1))).astype("f")
    found = cylstm.Model(one_layer(rng, "reduce", (None, 1), {"mode": "var", "correction": 1})).predict(x)
    np.testing.assert_allclose(found, x.astype(float).var(axis=1, ddof=1), rtol=1e-6)


def test_a_variance_of_no_more_numbers_than_the_correction_is_numpys(rng):
    x = rng.normal(size=(2, 3, 2)).astype("f")
    x[1] = 1.5
    for correction in (3, 4.5):
        graph = one_layer(rng, "reduce", (3, 2), {"mode": "var", "correction": correction})
        for (found,), _ in in_every_engine(graph, x):
            np.testing.assert_array_equal(found, [[INF, INF], [NAN, NAN]])


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_the_logarithm_of_a_sum_of_exponentials_is_accurate_at_all_scales(rng, engine, dtype, tolerance):
    x = np.array(
        [[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [0, -50, -50], [-INF, 2, -INF], [-INF] * 3, [INF, 1, INF], [NAN, INF, 0]]
    )
    graph = one_layer(rng, "reduce", (3,), {"mode": "logsumexp"})
    expected = [1e4 + np.log(2), -1e4 + np.log(3), np.log1p(2 * np.exp(-50)), 2, -INF, INF, NAN]
    found = cylstm.Model(graph, engine=engine, dtype=dtype).predict(x)
    if dtype == "float32":
        expected[2] = 0.0  # the subnormal rule
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-7 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("mode", FOLDS)
def test_a_reduction_streams_within_steps_and_not_over_them(rng, mode):
    within = cylstm.Model(one_layer(rng, "reduce", (None, 3, 4), {"mode": mode, "axis": 1}))
    assert within.can_stream
    x = rng.normal(size=(2, 6, 3, 4)).astype("f")
    stream = within.stream(2)
    steps = np.stack([stream.step(x[:, t]) for t in range(6)], axis=1)
    np.testing.assert_array_equal(bits(steps), bits(within.predict(x)))
    over = cylstm.Model(one_layer(rng, "reduce", (None, 3, 4), {"mode": mode, "axis": 0}))
    with pytest.raises(UnsupportedError, match="it needs all steps at once"):
        over.stream()
