"""Functions of two numbers, and choices between them: their values, their errors and their special cases."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.layers.merge import PAIR_MODES

from tests import reference
from tests.builders.layers import ENGINES, one_layer
from tests.builders.networks import bits

NAN, INF = np.nan, np.inf
TINY = np.float32(2.0**-40)  # what is smaller counts as zero
LARGEST = np.finfo(np.float32).max


def pair(mode, size=1000, **options):
    """A model of one function of two vectors."""
    builder = GraphBuilder()
    values = {"x": builder.input("a", (size,)), "x1": builder.input("b", (size,))}
    builder.output(builder.add("merge", "pair", values, options={"mode": mode})["y"])
    return cylstm.Model(builder.build(), **options)


def flushed(array):
    """As float32 numbers are on entry: no tiny ones, and no zero below 0."""
    return np.where(np.abs(array) < TINY, np.float32(0), array.astype(np.float32))


def log_uniform(rng, low, high, shape):
    """Numbers of both signs from 2^low to 2^high."""
    return (np.exp2(rng.uniform(low, high, shape)) * rng.choice([-1, 1], shape)).astype(np.float32)


SPECIAL = [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5, -7.25, 1e-9, -1e9, 1e30, -1e-12, 16777217.0, 128.0,
           -126.0, -149.0, 1.0000001, LARGEST, -LARGEST, INF, -INF, NAN]  # fmt: skip


@pytest.mark.parametrize("mode", PAIR_MODES)
def test_special_numbers_are_taken_as_numpy_takes_them(mode):
    a, b = (np.array(column, np.float32) for column in zip(*itertools.product(SPECIAL, repeat=2)))
    with np.errstate(all="ignore"):
        wide = reference.PAIRS[mode](a.astype(np.float64), b.astype(np.float64)).astype(np.float64)
        of_entered = reference.PAIRS[mode](flushed(a).astype(np.float64), flushed(b).astype(np.float64))
        expected = flushed(of_entered.astype(np.float32))
    found = pair(mode, a.size, engine="blas", dtype="float64").predict([a.astype(np.float64), b.astype(np.float64)])
    np.testing.assert_allclose(found, wide, rtol=1e-14)
    zeros = (wide == 0) & np.isfinite(a) & np.isfinite(b)
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(wide[zeros]))
    for engine in ("packed", "blas"):
        found = pair(mode, a.size, engine=engine).predict([a, b])
        np.testing.assert_allclose(found, expected, rtol=1.2e-7, atol=0, err_msg=engine)
        assert not np.signbit(found[found == 0]).any()


def ulps(found, exact):
    """The distance in units of the last place of float32 at the exact number."""
    below = np.abs(exact).astype(np.float32)
    below = np.where(below > np.abs(exact), np.nextafter(below, np.float32(0)), below)
    return np.abs(found - exact) / np.spacing(below).astype(np.longdouble)


RANGES = [(-1, 1, -1, 1), (-20, 20, -3, 3), (-0.01, 0.01, 0, 30), (-39, 127, -39, 7), (-1e-6, 1e-6, 20, 30)]


@pytest.mark.parametrize("mode", ["pow", "atan2", "hypot"])
@pytest.mark.parametrize("low, high, second_low, second_high", RANGES)
def test_a_function_is_rounded_to_the_nearest_float(rng, mode, low, high, second_low, second_high):
    """Within 0.5001 ulp, where rounding alone makes 0.5, wherever the result is no infinity and not tiny."""
    a, b = log_uniform(rng, low, high, (200, 1000)), log_uniform(rng, second_low, second_high, (200, 1000))
    a = np.abs(a) if mode == "pow" else a
    found = pair(mode).predict([a, b])
    with np.errstate(all="ignore"):
        exact = reference.PAIRS[mode](flushed(a).astype(np.longdouble), flushed(b).astype(np.longdouble))
    in_range = (np.abs(exact) >= TINY) & (np.abs(exact) < LARGEST)
    assert in_range.mean() > 0.1
    assert ulps(found[in_range], exact[in_range]).max() < 0.5001
    assert (np.abs(found[np.abs(exact) > 1.00001 * np.longdouble(LARGEST)]) == INF).all()
    assert (found[np.abs(exact) < 0.99999 * TINY] == 0).all()


def test_powers_that_a_float_holds_are_exact():
    bases, exponents = (grid.ravel().astype(np.float32) for grid in np.meshgrid(np.arange(-9, 10), np.arange(8)))
    found = pair("pow", bases.size).predict([bases, exponents])
    np.testing.assert_array_equal(found, [float(int(a) ** int(b)) for a, b in zip(bases, exponents)])
    twos = np.arange(-40, 128, dtype=np.float32)
    np.testing.assert_array_equal(
        pair("pow", twos.size).predict([np.full_like(twos, 2), twos]), 2.0 ** twos.astype(float)
    )
    squares = np.arange(1, 4000, dtype=np.float32) ** 2
    found = pair("pow", squares.size).predict([squares, np.full_like(squares, 0.5)])
    np.testing.assert_array_equal(found, np.arange(1, 4000))


def test_a_negative_base_has_powers_of_whole_exponents_alone(rng):
    bases = -np.exp2(rng.uniform(-8, 8, 1000)).astype(np.float32)
    exponents = np.concatenate([rng.integers(-15, 16, 500), rng.uniform(-15, 15, 500)]).astype(np.float32)
    found = pair("pow").predict([bases, exponents])
    with np.errstate(all="ignore"):
        exact = np.power(bases.astype(np.float64), exponents.astype(np.float64))
    assert np.isnan(found[500:]).all() and np.isnan(exact[500:]).all()
    assert (found[:500] < 0).any() and (found[:500] > 0).any()
    np.testing.assert_allclose(found[:500], exact[:500], rtol=6.1e-8, atol=TINY)


@pytest.mark.parametrize("low, high", [(-3, 3), (-39, 80), (0, 40)])
def test_remainders_have_the_bits_of_numpy(rng, low, high):
    a, b = log_uniform(rng, low, high, (40, 1000)), log_uniform(rng, low, high, (40, 1000))
    a[:, ::3] = np.rint(a[:, ::3] / b[:, ::3]) * b[:, ::3]  # multiples, or nearly
    for mode, function in (("mod", np.mod), ("fmod", np.fmod)):
        np.testing.assert_array_equal(bits(pair(mode).predict([a, b])), bits(flushed(function(flushed(a), flushed(b)))))


def test_floor_division_is_the_whole_number_below_rounded_once(rng):
    a, b = log_uniform(rng, -6, 60, (4, 1000)), log_uniform(rng, -6, 12, (4, 1000))
    a[:, ::3] = np.rint(a[:, ::3] / b[:, ::3]) * b[:, ::3]
    exact = [float(np.float32(float(Fraction(float(x)) // Fraction(float(y))))) for x, y in zip(a.ravel(), b.ravel())]
    np.testing.assert_array_equal(pair("floor_div").predict([a, b]).ravel(), exact)


@pytest.mark.parametrize("mode", PAIR_MODES)
def test_a_function_of_two_has_the_same_bits_on_every_machine(rng, mode, monkeypatch):
    a, b = log_uniform(rng, -30, 30, (5, 1003)), log_uniform(rng, -6, 6, (5, 1003))
    a[:, ::5] = b[:, ::5]
    a[:, 1::5], b[:, 2::7] = 0, 0
    expected = bits(pair(mode, 1003).predict([a, b], threads=1))
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        for engine in ("packed", "blas"):
            model = pair(mode, 1003, engine=engine)
            for threads in (1, 2):
                np.testing.assert_array_equal(bits(model.predict([a, b], threads=threads)), expected)
    np.testing.assert_array_equal(bits(pair(mode, 1003).predict([a[3:4], b[3:4]]))[0], expected[3])


def test_a_function_of_two_takes_two_inputs(rng):
    for mode in PAIR_MODES:
        with pytest.raises(ShapeError, match=f"layer 'tested': merge mode '{mode}' takes two inputs, found 3"):
            one_layer(rng, "merge", (None, 3), {"mode": mode}, others=[("x1", (3,)), ("x2", (3,))])
        with pytest.raises(ShapeError, match="takes two inputs, found 1"):
            one_layer(rng, "merge", (None, 3), {"mode": mode})
    with pytest.raises(UnsupportedError, match=r"merge mode expected one of concat, .*, xor, found 'median'"):
        one_layer(rng, "merge", (None, 3), {"mode": "median"}, others=[("x1", (3,))])
    with pytest.raises(ShapeError, match=r"shapes \(None, 3\) of 'input' and \(4,\) of 'input.x1' do not match"):
        one_layer(rng, "merge", (None, 3), {"mode": "less"}, others=[("x1", (4,))])


SHAPES = [
    ((7, 5), (7, 5), (7, 5)),
    ((1,), (7, 5), (5,)),
    ((7, 1), (1, 5), (1, 1)),
    ((7, 3, 5), (3, 1), (1, 5)),
    ((5,), (3, 5), (7, 1, 1)),
    ((7, 1, 1), (1, 1, 1), (1,)),
    ((2, 3, 1, 5), (3, 4, 1), (1, 1, 1, 1)),
    ((1, 1), (1,), (1, 1)),
]


@pytest.mark.parametrize("condition, first, second", SHAPES)
@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_where_and_functions_of_two_repeat_what_is_shorter(rng, condition, first, second, engine, dtype, tolerance):
    builder = GraphBuilder()
    values = [builder.input(f"input{i}", shape) for i, shape in enumerate((condition, first, second))]
    builder.output(builder.add("where", "where", dict(zip(("condition", "x", "x1"), values)))["y"])
    builder.output(builder.add("merge", "less", {"x": values[1], "x1": values[2]}, options={"mode": "less"})["y"])
    builder.output(builder.add("merge", "mul", {"x": values[2], "x1": values[0]}, options={"mode": "mul"})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    inputs = [rng.integers(0, 2, (3, *condition)).astype("f"), *(rng.normal(size=(3, *s)).astype("f")
              for s in (first, second))]  # fmt: skip
    expected, _ = reference.predict(model.graph, *inputs)
    for found, wanted in zip(model.predict(inputs), expected):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_what_is_not_chosen_is_not_computed_with(engine):
    builder = GraphBuilder()
    values = {role: builder.input(role, (4,)) for role in ("condition", "x", "x1")}
    builder.output(builder.add("where", "where", values)["y"])
    model = cylstm.Model(builder.build(), engine=engine)
    a, b = np.array([[1, NAN, INF, 2]], "f"), np.array([[NAN, 5, 6, -INF]], "f")
    np.testing.assert_array_equal(model.predict([np.array([[-3, 0, 0, NAN]], "f"), a, b]), [[1, 5, 6, 2]])
    np.testing.assert_array_equal(model.predict([np.array([[0, 1, 1, 0]], "f"), a, b]), [[NAN, NAN, INF, -INF]])


def test_a_choice_between_two_recurrent_layers_streams_and_keeps_the_mask(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    lstms = [
        builder.add("lstm", f"lstm{i}", {"x": x}, {"weight_ih": (rng.normal(size=(20, 3)) / 2).astype("f"),
                                                   "weight_hh": (rng.normal(size=(20, 5)) / 2).astype("f")})["y"]
        for i in range(2)
    ]  # fmt: skip
    first = builder.add("slice", "first", {"x": x}, options={"axis": 1, "start": 0, "count": 1})["y"]
    second = builder.add("slice", "second", {"x": x}, options={"axis": 1, "start": 1, "count": 1})["y"]
    is_less = builder.add("merge", "is_less", {"x": first, "x1": second}, options={"mode": "less"})["y"]
    y = builder.add("where", "where", {"condition": is_less, "x": lstms[0], "x1": lstms[1]})["y"]
    assert y.mask == x.mask
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 5000, 3)).astype("f")
    whole = model.predict(x)
    expected, _ = reference.predict(model.graph, x[:, :40])
    np.testing.assert_allclose(whole[:, :40], expected[0], rtol=0, atol=4e-6)
    stream = model.stream(3)
    pieces = [np.stack([stream.step(x[:, t]) for t in range(9)], 1), stream.run(x[:, 9:4200]), stream.run(x[:, 4200:])]
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
