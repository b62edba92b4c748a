"""The layer `function`: every function over floats of all sizes, against NumPy in float64."""

import re

import numpy as np
import pytest

import cylstm
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.functions import FUNCTIONS

from tests import ROOT, reference
from tests.builders.layers import ENGINES, one_layer, weight
from tests.builders.networks import bits

TINY = 2.0**-40  # what is smaller counts as zero
SMALLEST = 2.0**-126  # of the floats that are not subnormal
#: where functions change their way, have limits, or leave the floats
EDGES = [
    0.0, 1e-45, 2.0**-126, 2.0**-41, 2.0**-40, 2.0**-24, 2.0**-12, 0.25, 0.41421357, 0.5, 0.70710677, 0.7853982, 1.0,
    1.4142135, 1.5, 1.5707964, 2.0, 2.4142137, 2.5, 3.0, 3.1415927, 3.5, 4.5, 9.2, 10.0, 11.0, 87.4, 88.8, 89.5, 126.0,
    128.0, 149.0, 150.0, 2.0**20, 2.0**23 - 0.5, 2.0**23, 2.0**24 + 2, 2.0**52, 2.0**63, 2.0**64, 1.8e19, 3.4028235e38,
    np.inf, np.nan,
]  # fmt: skip


def floats(rng):
    """Edges with their neighbours, and floats of random bits, each with both signs."""
    edges = np.array(EDGES, np.float32)
    with np.errstate(over="ignore"):
        above = np.nextafter(edges, np.float32(np.inf))
    x = np.concatenate(
        [
            edges,
            np.nextafter(edges, np.float32(0)),
            above,
            rng.integers(0, 2**31, 2**15 - 3 * len(edges), dtype=np.uint32).view(np.float32),
            rng.uniform(0, 4, 2**13).astype(np.float32),
        ]
    )
    x = np.concatenate([x, -x])
    return x[: x.size // 32 * 32].reshape(4, -1, 8)


def exact(name, x):
    """The function of x in float64, which has no subnormal results."""
    with np.errstate(all="ignore"):
        y = reference.FUNCTIONS[name](x.astype(np.float64)).astype(np.float64)
    return np.where(np.abs(y) < SMALLEST, np.copysign(0.0, y), y)


def check_rounded(found, y, ulps):
    """`found` in float32 is y within so many units in the last place, with its signs of zeros, infinities and NaN."""
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.isnan(y))
    found, y = found[~np.isnan(y)].astype(np.float64), y[~np.isnan(y)]
    np.testing.assert_array_equal(np.signbit(found), np.signbit(y))
    with np.errstate(over="ignore"):
        rounded = y.astype(np.float32).astype(np.float64)
    special = (rounded == 0) | np.isinf(rounded)
    np.testing.assert_array_equal(found[special], rounded[special])
    found, y = found[~special], y[~special]
    unit = 2.0 ** (np.frexp(y)[1] - 24)
    assert (np.abs(found - y) / unit).max(initial=0) <= ulps


#: those that are rounded correctly
EXACT = [
    "neg", "abs", "sign", "square", "reciprocal", "sqrt", "floor", "ceil", "round", "trunc",
    "logical_not", "isnan", "isinf", "isfinite",
]  # fmt: skip


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_any_float_is_the_truth_rounded(rng, name, engine):
    x = floats(rng)
    model = cylstm.Model(one_layer(rng, "function", (None, 8), {"function": name}), engine=engine)
    given = np.where(np.abs(x) < TINY, np.float32(0), x)
    check_rounded(model.predict(x), exact(name, given), 0.5 if name in EXACT else 0.501)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_in_float64_is_numpys(rng, name):
    model = cylstm.Model(one_layer(rng, "function", (None, 8), {"function": name}), engine="blas", dtype="float64")
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = floats(rng).astype(np.float64)
    # numbers that float32 has not, among them subnormal ones and those that float32 rounds to an integer
    x[:, 1::2] *= rng.uniform(0.5, 1.5, x[:, 1::2].shape)
    x[0, 0, :4] = 5e-324, 1e300, 2.5 + 2**-40, -1e-310
    with np.errstate(all="ignore"):
        y = reference.FUNCTIONS[name](x).astype(np.float64)
    found = model.predict(x)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.signbit(found[y == 0]), np.signbit(y[y == 0]))
    np.testing.assert_allclose(found, y, rtol=1e-14, atol=0)


@pytest.mark.parametrize("engine, dtype", [engine[:2] for engine in ENGINES])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_function_has_no_tiny_numbers_in_float32(rng, name, engine, dtype):
    builder = GraphBuilder()
    x = builder.input("x", (None, 8))
    y = builder.add("function", "first", {"x": x}, options={"function": name})["y"]
    builder.output(builder.add("function", "second", {"x": y}, options={"function": "reciprocal"})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    x = np.array([[[2.0**-38, -(2.0**-21), 2.0**21, 2.0**41, -30.0, 0.0, -1.0, 1.0]]])
    alone = cylstm.Model(one_layer(rng, "function", (None, 8), {"function": name}), engine=engine, dtype=dtype)
    read = alone.predict(x)
    if dtype == "float32":
        read = np.where(np.abs(read) < TINY, np.float32(0), read)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(model.predict(x), 1 / read)


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_a_function_reads_a_state_and_a_vector(rng, engine, dtype, tolerance):
    builder = GraphBuilder()
    x, v = builder.input("x", (None, 5)), builder.input("v", (7,))
    weights = {"weight_ih": weight(rng, 28, 5), "weight_hh": weight(rng, 28, 7), "bias": weight(rng, 28)}
    state = builder.add("lstm", "lstm", {"x": x}, weights)["c"]
    builder.output(builder.add("function", "of_state", {"x": state}, options={"function": "sinh"})["y"])
    builder.output(builder.add("function", "of_vector", {"x": v}, options={"function": "cos"})["y"])
    graph = builder.build()
    inputs = [rng.normal(size=(3, 6, 5)).astype(np.float32), rng.normal(size=(3, 7)).astype(np.float32)]
    expected, _ = reference.predict(graph, *inputs)
    for found, y in zip(cylstm.Model(graph, engine=engine, dtype=dtype).predict(inputs), expected):
        np.testing.assert_allclose(found, y, rtol=0, atol=tolerance * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_runs_step_by_step(rng, name):
    model = cylstm.Model(one_layer(rng, "function", (None, 8), {"function": name}))
    x = floats(rng)[:, :50]
    stream = model.stream(4)
    found = np.stack([stream.step(x[:, t]) for t in range(50)], axis=1)
    np.testing.assert_array_equal(bits(found), bits(model.predict(x)))


def test_the_engine_and_the_graph_have_the_same_functions():
    listed = (ROOT / "csrc" / "layers" / "elementary.def").read_text()
    assert re.findall(r"^CYL_FUNCTION\((\w+),", listed, re.MULTILINE) == list(FUNCTIONS) == [*FUNCTIONS]
    assert set(FUNCTIONS) == set(reference.FUNCTIONS)


@pytest.mark.parametrize("options, found", [({}, "''"), ({"function": "gamma"}, "'gamma'")])
def test_a_function_that_does_not_exist_is_refused_with_those_that_do(rng, options, found):
    with pytest.raises(
        UnsupportedError, match=f"layer 'tested': unknown function {found}; known are abs, acos, .*trunc"
    ):
        one_layer(rng, "function", (None, 8), options)


def test_a_function_of_indices_is_refused():
    builder = GraphBuilder()
    x = builder.input("x", (None,), indices=True)
    with pytest.raises(ShapeError, match="layer 'f': expected a sequence or vector or state as input, found the index"):
        builder.add("function", "f", {"x": x}, options={"function": "abs"})
