"""Layers along one axis, and products of two values, where the other tests do not reach."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import CylstmError, FormatError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.values import StaticTimeNeeded

from tests import reference
from tests.builders.layers import ENGINES, FOLDS, T, inputs_of, one_layer, weight
from tests.builders.networks import bits, same, same_states

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


# cumulate


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
@pytest.mark.parametrize("mode", ["sum", "prod", "max", "min"])
def test_what_a_cumulation_carries_on_continues_the_same_bits(rng, mode, engine, dtype, tolerance):
    graph = one_layer(rng, "cumulate", (None, 2, 9), {"mode": mode})
    model = cylstm.Model(graph, engine=engine, dtype=dtype)
    x = (rng.normal(size=(3, 40, 2, 9)) * 1e-4).astype("f")
    x[0, 7, 0, 0], x[1, 3, 1, 2], x[2, 9, 0, 4] = INF, NAN, 1e30
    whole, state = model.predict(x, return_state=True)
    assert [part.shape for part in state[0]] == [(3, 3, 18)]
    for at in (1, 11, 39):
        first, half = model.predict(x[:, :at], return_state=True)
        second, end = model.predict(x[:, at:], initial_state=half, return_state=True)
        np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
        for a, b in zip(end[0], state[0]):
            np.testing.assert_array_equal(a, b)
        stream = model.stream(3)
        stream.state = half
        np.testing.assert_array_equal(stream.run(x[:, at:]), whole[:, at:])
    # in float32 products far below the threshold of the subnormal rule come back
    if mode == "prod":
        again = model.predict(np.full((1, 6, 2, 9), 1e-5, "f"), return_state=True)[1]
        found = model.predict(np.full((1, 6, 2, 9), 1e5, "f"), initial_state=again)
        np.testing.assert_allclose(found[:, -1], 1.0, rtol=1e-6)
    _, finals = reference.predict(graph, x[2:])
    np.testing.assert_array_equal(np.asarray(finals[0][0], float), np.asarray(state[0][0][2:], float))


def test_a_running_state_of_nonsense_counts_as_zero(rng):
    model = cylstm.Model(one_layer(rng, "cumulate", (None, 3), {"mode": "sum"}))
    state = [(np.full((1, 3, 3), 0, "f"),)]
    x = rng.normal(size=(1, 5, 3)).astype("f")
    wanted = model.predict(x, initial_state=state)
    np.testing.assert_array_equal(wanted, model.predict(x))
    for nonsense in (NAN, INF, -1.0, -INF, 1e30, 2.0**22):
        state[0][0][:] = nonsense
        np.testing.assert_array_equal(model.predict(x, initial_state=state), wanted)


@pytest.mark.parametrize("mode, first", [("sum", 0), ("prod", 1), ("max", -INF), ("min", INF)])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_exclusive_cumulation_begins_with_what_changes_nothing(rng, mode, first, axis):
    for reverse in (False, True):
        options = {"mode": mode, "exclusive": True, "axis": axis, "reverse": reverse}
        graph = one_layer(rng, "cumulate", (None, 7), options)
        x = rng.normal(size=(3, T, 7)).astype("f")
        for (found,), _ in in_every_engine(graph, x):
            np.testing.assert_array_equal(np.take(found, -1 if reverse else 0, 1 + axis), first)
        (expected,), _ = reference.predict(graph, x)
        np.testing.assert_allclose(cylstm.Model(graph).predict(x), expected, rtol=1e-6)


def test_a_long_sum_is_that_of_double_in_every_division(rng, monkeypatch):
    graph = one_layer(rng, "cumulate", (None, 3), {"mode": "sum"})
    x = rng.random((2, 60_000, 3)).astype("f")
    found = cylstm.Model(graph).predict(x, threads=1)
    np.testing.assert_allclose(found, np.cumsum(x.astype(float), axis=1), rtol=1e-7)
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        assert same(cylstm.Model(graph).predict(x, threads=2), found)


def test_a_cumulation_from_the_end_or_over_known_steps_carries_nothing(rng):
    reverse = cylstm.Model(one_layer(rng, "cumulate", (None, 3), {"reverse": True}))
    with pytest.raises(UnsupportedError, match="'tested' cannot run step by step: it begins at the end"):
        reverse.stream()
    for shape, options in (((None, 3), {"reverse": True}), ((T, 3), {}), ((None, 3), {"axis": 1})):
        model = cylstm.Model(one_layer(rng, "cumulate", shape, options))
        assert model.predict(rng.normal(size=(2, T, 3)).astype("f"), return_state=True)[1] == []


# take


@pytest.mark.filterwarnings("ignore:.*NaN or infinity in tested")
@pytest.mark.parametrize("index", [7, -1, 1.5, NAN, INF])
@pytest.mark.parametrize("packed", [False, True])
def test_a_constant_index_outside_of_its_axis_is_refused_by_name(rng, tmp_path, index, packed):
    found = r"layer 'tested', tensor 'indices': expected whole numbers from 0 to 6, found "
    builder = GraphBuilder()
    x = builder.input("x", (None, 7))
    with pytest.raises(ShapeError, match=found):
        builder.add("take", "tested", {"x": x}, {"indices": np.array([3, index], "f")})
    graph = one_layer(rng, "take", (None, 7), {}, {"indices": (3,)})
    graph.tensors["tested.indices"][:] = [1, 5, 2]
    path = tmp_path / "a.cylstm"
    cylstm.Model(graph).save(path, packed=packed)
    data = path.read_bytes()
    place = np.array([1, 5, 2], "f").tobytes()
    assert data.count(place) == 1
    path.write_bytes(data.replace(place, np.array([1, index, 2], "f").tobytes()))
    for options in ({}, {"mmap": True}) if packed else ({},):
        with pytest.raises(FormatError, match=found):
            cylstm.load(path, **options)


# take_along


def test_the_step_that_an_input_says_is_taken_from_a_time_of_any_length(rng):
    builder = GraphBuilder()
    x, length = builder.input("x", (None, 4)), builder.input("length", (1,))
    last = builder.add("batch_norm", "less 1", {"x": length}, {"mean": np.ones(1, "f"), "variance": np.ones(1, "f")},
                       {"epsilon": 0.0})["y"]  # fmt: skip
    h = builder.add("gru", "gru", {"x": x}, {"weight_ih": weight(rng, 15, 4), "weight_hh": weight(rng, 15, 5)})["y"]
    builder.output(builder.add("take_along", "tested", {"x": h, "indices": last}, options={"axis": 0})["y"])
    graph = builder.build()
    x = rng.normal(size=(4, T, 4)).astype("f")
    lengths = np.array([[1], [5], [T], [3]])
    check(graph, x, lengths)
    model = cylstm.Model(graph)
    found = model.predict([x, lengths])
    assert found.shape == (4, 1, 5)
    long = np.concatenate([x, rng.normal(size=(4, 5000, 4)).astype("f")], axis=1)
    assert same(model.predict([long, lengths]), found)
    assert same(model.predict([x, lengths], threads=2), found)
    with pytest.raises(UnsupportedError, match="needs all steps at once"):
        model.stream()


@pytest.mark.parametrize("chosen", [(None,), (3,)])
def test_indices_of_the_network_choose_like_numbers_and_end_at_the_axis(rng, chosen):
    builder = GraphBuilder()
    x = builder.input("x", (5, 6))
    indices = builder.input("chosen", (*chosen, 6), indices=True)
    builder.output(builder.add("take_along", "tested", {"x": x, "indices": indices}, options={"axis": 0})["y"])
    graph = builder.build()
    x, indices = rng.normal(size=(7, 5, 6)).astype("f"), rng.integers(0, 9, (7, 3, 6))
    check(graph, x, indices)
    model = cylstm.Model(graph)
    found = model.predict([x, indices], threads=1)
    places = np.clip(indices, 0, 4)
    np.testing.assert_array_equal(found, np.take_along_axis(x, places, 1))
    np.testing.assert_array_equal(model.predict([x, indices], threads=3), found)
    np.testing.assert_array_equal(model.predict([x[3:5], indices[3:5]]), found[3:5])
    numbers = one_layer(rng, "take_along", (5, 6), {"axis": 0}, others=[("indices", (*chosen, 6))])
    np.testing.assert_array_equal(cylstm.Model(numbers).predict([x, indices]), found)
    extremes = np.array([NAN, INF, -INF, 2.9, -0.5, 4.0], "f") * np.ones((7, 3, 1), "f")
    found = cylstm.Model(numbers).predict([x, extremes])
    np.testing.assert_array_equal(found, np.take_along_axis(x, np.array([[[0, 4, 0, 2, 0, 4]]] * 7), 1).repeat(3, 1))


def test_the_place_that_a_layer_finds_is_taken(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 5))
    place = builder.add("reduce", "place", {"x": x}, options={"mode": "argmax"})["y"]
    builder.output(builder.add("take_along", "highest", {"x": x, "indices": place}, options={"axis": 0})["y"])
    sorted_ = builder.add("topk", "sorted", {"x": x}, options={"k": 0})
    builder.output(sorted_["y"])
    builder.output(builder.add("take_along", "again", {"x": x, "indices": sorted_["indices"]})["y"])
    over = builder.add("topk", "over time", {"x": x}, options={"k": 0, "axis": 0, "largest": False})
    builder.output(over["y"])
    builder.output(builder.add("take_along", "over", {"x": x, "indices": over["indices"]}, options={"axis": 0})["y"])
    graph = builder.build()
    for time in (T, 3000):
        x = rng.normal(size=(3, time, 5)).astype("f")
        model = cylstm.Model(graph)
        highest, largest, again, rising, over = model.predict(x)
        np.testing.assert_array_equal(highest[:, 0], x.max(axis=1))
        np.testing.assert_array_equal(largest, -np.sort(-x, axis=2))
        np.testing.assert_array_equal(again, largest)
        np.testing.assert_array_equal(rising, np.sort(x, axis=1))
        np.testing.assert_array_equal(over, rising)
        for a, b in zip(model.predict(x, threads=2), (highest, largest, again, rising, over)):
            assert same(a, b)
        check(graph, x)


def test_numbers_taken_within_steps_stream(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 8))
    found = builder.add("topk", "topk", {"x": x}, options={"k": 3})
    scaled = builder.add("dense", "scaled", {"x": x}, {"weight": weight(rng, 8, 8)})["y"]
    builder.output(builder.add("take_along", "tested", {"x": scaled, "indices": found["indices"]})["y"])
    builder.output(found["indices"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, T, 8)).astype("f")
    whole = model.predict(x)
    stream = model.stream(2)
    for t in range(T):
        for a, b in zip(stream.step(x[:, t]), whole):
            assert same(a, b[:, t])


def test_indices_that_do_not_fit_are_refused(rng):
    for shape, indices, axis, error, message in (
        ((None, 5), (None, 5), 1, ShapeError, "their times come from different inputs"),
        (
            (None, 5),
            (4, 5),
            1,
            ShapeError,
            r"shapes \(None, 5\) of 'input' and \(4, 5\) of the indices .* do not match",
        ),
        ((None, 5), (4, 2), 0, ShapeError, "do not match but along axis 0"),
        ((None, 5), (2, 3, 5), 0, ShapeError, "have more axes"),
        ((None, 5), (None, 3), 2, ShapeError, "expected an axis"),
    ):
        with pytest.raises(error, match=message) as caught:
            one_layer(rng, "take_along", shape, {"axis": axis}, others=[("indices", indices)])
        assert isinstance(caught.value, CylstmError) and "'tested'" in str(caught.value)


# matmul


def two_of_one_time(rng, shapes, options):
    """A product of two values that dense layers make of one input, of steps of these shapes."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    values = []
    for i, shape in enumerate(shapes):
        y = builder.add("dense", f"d{i}", {"x": x}, {"weight": weight(rng, int(np.prod(shape)), 4)})["y"]
        to = {"shape": ",".join(map(str, ("time", *shape)))}
        values.append(builder.add("reshape", f"r{i}", {"x": y}, options=to)["y"])
    builder.output(builder.add("matmul", "tested", dict(zip(("x", "x1"), values)), options=options)["y"])
    return builder.build()


@pytest.mark.parametrize("shapes", [((6,), (7,)), ((1,), (7,)), ((6,), (1,)), ((1,), (1,))])
def test_a_product_sums_over_a_time_of_any_length(rng, shapes):
    graph = two_of_one_time(rng, shapes, {"transpose_x": True})
    for time in (1, T, 3000):
        x = (rng.normal(size=(3, time, 4)) / np.sqrt(time)).astype("f")
        check(graph, x)
    model = cylstm.Model(graph)
    found = model.predict(x, threads=1)
    assert same(model.predict(x, threads=3), found)
    assert same(model.predict(x[1:2], threads=2), found[1:2])
    with pytest.raises(UnsupportedError, match="'tested' cannot run step by step: it sums over all steps"):
        model.stream()


@pytest.mark.parametrize(
    "shapes, options",
    [
        (((3, 5), (5, 4)), {}),
        (((3, 5), (4, 5)), {"transpose_x1": True}),
        (((5, 3), (5, 4)), {"transpose_x": True}),
        (((5, 3), (4, 5)), {"transpose_x": True, "transpose_x1": True}),
        (((5, 3), (1, 5)), {"transpose_x": True, "transpose_x1": True}),
        (((2, 3, 5), (2, 5, 1)), {}),
    ],
)
def test_a_product_of_each_step_streams(rng, shapes, options):
    graph = two_of_one_time(rng, shapes, options)
    x = rng.normal(size=(3, T, 4)).astype("f")
    check(graph, x)
    model = cylstm.Model(graph)
    stream = model.stream(3)
    steps = np.concatenate([stream.run(x[:, :4]), stream.run(x[:, 4:])], axis=1)
    assert same(steps, model.predict(x))


def test_a_product_of_a_value_with_itself(rng):
    builder = GraphBuilder()
    x, v = builder.input("x", (None, 4)), builder.input("v", (5, 1))
    builder.output(builder.add("matmul", "time", {"x": x, "x1": x}, options={"transpose_x": True})["y"])
    builder.output(builder.add("matmul", "inner", {"x": v, "x1": v}, options={"transpose_x": True})["y"])
    builder.output(builder.add("matmul", "outer", {"x": v, "x1": v}, options={"transpose_x1": True})["y"])
    check(builder.build(), rng.normal(size=(3, T, 4)).astype("f"), rng.normal(size=(3, 5, 1)).astype("f"))


def test_a_product_keeps_nan_and_infinities_whatever_they_are_multiplied_with(rng):
    for options in ({}, {"transpose_x1": True}):
        graph = one_layer(rng, "matmul", (2, 3), options, others=[("x1", (3, 3))])
        x = np.zeros((3, 2, 3), "f")
        x[0, 0, 1], x[1, 1, 2], x[2] = NAN, INF, 1
        y = np.zeros((3, 3, 3), "f")
        y[2, 1, 0] = INF
        check(graph, x, y)


def test_a_product_whose_result_does_not_have_the_time_first_is_refused(rng):
    for shapes, options in (
        (((None, 5), (None, 5)), {"transpose_x1": True}),
        (((5, 3), (None, 3)), {"transpose_x1": True}),
        (((None, 3), (2, 3, 5)), {}),
        (((2, 3, 5), (None, 3)), {"transpose_x1": True}),
    ):
        with pytest.raises((StaticTimeNeeded, ShapeError), match="layer 'tested'"):
            one_layer(rng, "matmul", shapes[0], options, others=[("x1", shapes[1])])
    with pytest.raises(StaticTimeNeeded, match="does not have the time first needs the number of steps in advance"):
        one_layer(rng, "matmul", (None, 3), {}, others=[("x1", (2, 3, 5))])
    with pytest.raises(StaticTimeNeeded, match=r"\(None, 5\) of 'input' and \(None, 5\) of 'input.x1'"):
        one_layer(rng, "matmul", (None, 5), {"transpose_x1": True}, others=[("x1", (None, 5))])
    with pytest.raises(ShapeError, match=r"cannot be multiplied: 5 and 4 numbers to sum over"):
        one_layer(rng, "matmul", (None, 5), {}, others=[("x1", (4, 5))])
    with pytest.raises(ShapeError, match="their times come from different inputs"):
        one_layer(rng, "matmul", (None, 3, 5), {}, others=[("x1", (None, 5, 2))])
    with pytest.raises(ShapeError, match="transposed .*their times come from different inputs"):
        one_layer(rng, "matmul", (None, 3), {"transpose_x": True}, others=[("x1", (None, 5))])
    with pytest.raises(ShapeError, match="different axes before the matrices"):
        one_layer(rng, "matmul", (3, 4, 5), {}, others=[("x1", (2, 5, 4))])
    with pytest.raises(ShapeError, match=r"a vector of n numbers is a matrix \(1, n\) or \(n, 1\)"):
        one_layer(rng, "matmul", (5,), {}, others=[("x1", (5, 4))])


# topk


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("shape, k, axis", [((None, 21), 5, 1), ((None, 6, 3), 0, 1), ((T, 4), 4, 0), ((9,), 9, 0)])
def test_the_places_of_sorted_numbers_are_the_first_of_equal_ones(rng, shape, k, axis, largest, monkeypatch):
    builder = GraphBuilder()
    x = builder.input("x", shape)
    found = builder.add("topk", "tested", {"x": x}, options={"k": k, "axis": axis, "largest": largest})
    builder.output(found["indices"])
    builder.output(found["y"])
    graph = builder.build()
    (x,) = inputs_of(rng, graph, batch=5)
    x = x.round()  # many are equal
    x.reshape(-1)[3::7] = NAN
    x.reshape(-1)[5::11] = -INF
    x.reshape(-1)[6::13] = INF
    expected, _ = reference.predict(graph, x)
    for (places, numbers), _ in in_every_engine(graph, x):
        np.testing.assert_array_equal(places, expected[0])
        np.testing.assert_array_equal(numbers, expected[1])
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        for threads in (1, 3):
            for a, b in zip(cylstm.Model(graph).predict(x, threads=threads), expected):
                np.testing.assert_array_equal(a, b)


def test_places_alone_may_be_read(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 6))
    places = builder.add("topk", "tested", {"x": x}, options={"k": 2})["indices"]
    builder.output(builder.add("merge", "double", {"x": places, "x1": places}, options={"mode": "sum"})["y"])
    check(builder.build(), rng.normal(size=(3, T, 6)).astype("f"))


def test_the_bits_of_a_state_are_the_same_everywhere(rng, monkeypatch):
    graph = one_layer(rng, "cumulate", (None, 37), {"mode": "prod"})
    x = rng.normal(size=(3, 50, 37)).astype("f")
    _, state = cylstm.Model(graph).predict(x, return_state=True)
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        assert same_states(cylstm.Model(graph).predict(x, return_state=True, threads=2)[1], state)
