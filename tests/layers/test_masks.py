"""Masks between layers: merged, read by attention, and masked steps filled with something else."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import T, one_layer, weight
from tests.builders.networks import bits


def test_masks_merge_and_steer_attention(rng):
    builder = GraphBuilder()
    a, b = builder.input("a", (None, 6)), builder.input("b", (8, 6))
    masked = builder.add("masking", "masking", {"x": a})
    given = builder.value(a.mask)
    for mode in ("any", "all"):
        both = builder.add("mask_merge", mode, {"mask": masked["mask"], "mask1": given}, options={"mode": mode})["mask"]
        for rule in ("exclude", "zero", "average", "penalty"):
            for role in ("mask", "mask_query"):
                y = builder.add(
                    "attention",
                    f"{mode}.{rule}.{role}",
                    {"x": masked["y"], "key": masked["y"], "value": masked["y"], role: given, "mask_value": both},
                    options={"masked": rule, "heads": 2},
                )["y"]
                builder.output(y)
    other = builder.add(
        "attention", "other", {"x": b, "key": a, "value": a, "mask_value": given}, options={"masked": "zero"}
    )["y"]
    builder.output(other)
    graph = builder.build()
    a, b = rng.normal(size=(3, T, 6)).astype("f"), rng.normal(size=(3, 8, 6)).astype("f")
    a[:, 2:4] = 0
    a[2] = 0
    mask = rng.random((3, T)) > 0.4
    mask[1] = False
    expected, _ = reference.predict(graph, a, b, mask={"a": mask})
    for engine, dtype, tolerance in (("packed", "float32", 4e-6), ("blas", "float64", 1e-12)):
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        for found, wanted, name in zip(model.predict([a, b], mask={"a": mask}), expected, graph.outputs):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=name)


def fills(width):
    """Two values, the one filled at masked steps by a number, by the other and by a vector; `width` of its steps."""
    builder = GraphBuilder()
    x, vector = builder.input("x", (None, 5)), builder.input("v", (5,))
    table = np.arange(5.0 * width).reshape(width, 5).astype(np.float32) / 7 - 1
    other = builder.add("dense", "other", {"x": x}, {"weight": table})["y"]
    mask = builder.value(x.mask)
    for name, roles, options in (
        ("number", {"x": x}, {"value": -2.5}),
        ("steps", {"x": x, "x1": other}, {}),
        ("back", {"x": other, "x1": x}, {}),
        ("vector", {"x": other, "x1": vector}, {}),
    ):
        builder.output(builder.add("mask_fill", name, {"mask": mask, **roles}, options=options)["y"])
    return builder.build()


@pytest.mark.parametrize("width", [5, 1])
@pytest.mark.parametrize(("engine", "dtype"), [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
def test_masked_steps_become_a_number_another_value_or_a_vector(rng, width, engine, dtype):
    graph = fills(width)
    x, vector = rng.normal(size=(3, T, 5)).astype("f"), rng.normal(size=(3, 5)).astype("f")
    mask = rng.random((3, T)) > 0.4
    mask[1] = False
    model = cylstm.Model(graph, engine=engine, dtype=dtype)
    for masks in ({"x": mask}, None):
        expected, _ = reference.predict(graph, x, vector, mask=masks)
        found = model.predict([x, vector], mask=masks)
        for y, wanted in zip(found, expected):
            np.testing.assert_allclose(y, wanted, rtol=0, atol=2e-6)
    again = cylstm.Model(graph, engine=engine, dtype=dtype).predict([x, vector], mask={"x": mask}, threads=2)
    for y, other in zip(again, model.predict([x, vector], mask={"x": mask})):
        np.testing.assert_array_equal(bits(y), bits(other))


def test_what_is_filled_is_chosen_and_never_multiplied(rng):
    """Where a step does not count its numbers are not read, infinite or NaN; those of the other value are kept."""
    builder = GraphBuilder()
    x, other = builder.input("x", (6, 3)), builder.input("other", (6, 3))
    roles = {"x": x, "mask": builder.value(x.mask)}
    builder.output(builder.add("mask_fill", "number", roles, options={"value": 1.0})["y"])
    builder.output(builder.add("mask_fill", "steps", {**roles, "x1": other})["y"])
    x, other = rng.normal(size=(2, 6, 3)).astype("f"), rng.normal(size=(2, 6, 3)).astype("f")
    mask = np.array([[True, False, True, False, True, False]] * 2)
    x[0, 1], x[0, 3, 1], x[1, 2, 0] = np.nan, np.inf, np.nan
    other[0, 3, 2], other[1, 1], other[1, 2] = np.nan, -np.inf, np.inf
    for engine in ("packed", "blas"):
        model = cylstm.Model(builder.build(), engine=engine)
        number, steps = model.predict([x, other], mask={"x": mask})
        np.testing.assert_array_equal(number, np.where(mask[..., np.newaxis], x, 1.0))
        np.testing.assert_array_equal(steps, np.where(mask[..., np.newaxis], x, other))


def test_a_fill_streams_and_a_long_sequence_gives_the_bits_of_its_pieces(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    masked = builder.add("masking", "masking", {"x": x})
    y = builder.add("dense", "dense", {"x": masked["y"]}, {"weight": weight(rng, 4, 4)})["y"]
    y = builder.add("mask_fill", "fill", {"x": y, "mask": masked["mask"], "x1": x})["y"]
    y = builder.add("mask_fill", "number", {"x": y, "mask": masked["mask"]}, options={"value": 3.0})["y"]
    lstm = {"weight_ih": weight(rng, 20, 4), "weight_hh": weight(rng, 20, 5)}
    builder.output(builder.add("lstm", "lstm", {"x": y}, lstm)["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 9000, 4)).astype("f")
    x[0, ::3] = x[1, 4000:4100] = 0.0
    expected, _ = reference.predict(model.graph, x[:, :50])
    whole = model.predict(x)
    np.testing.assert_allclose(whole[:, :50], expected[0], rtol=0, atol=4e-6)
    stream = model.stream(batch=2)
    steps = [stream.step(x[:, t]) for t in range(40)]
    rest = [stream.run(x[:, a:b]) for a, b in ((40, 4060), (4060, 9000))]
    np.testing.assert_array_equal(bits(np.concatenate([np.stack(steps, 1), *rest], axis=1)), bits(whole))


def test_a_fill_of_values_that_do_not_match_is_refused(rng):
    match = "steps have the same shape, or one of which is a single number"
    for other in ((None, 4), (7, 3), (None, 2, 3)):
        with pytest.raises(ShapeError, match=match):
            one_layer(rng, "mask_fill", (None, 3), {}, others=[("x1", other)], masks=[("mask", "x")])
    with pytest.raises(ShapeError, match="mask 'input.x1.mask' is not of the time of 'input'"):
        one_layer(rng, "mask_fill", (None, 3), {}, others=[("x1", (3, 3))], masks=[("mask", "x1")])
    with pytest.raises(ShapeError, match="inputs expected x, mask"):
        one_layer(rng, "mask_fill", (None, 3))
    with pytest.raises(UnsupportedError, match="option value expected a number"):
        one_layer(rng, "mask_fill", (None, 3), {"value": np.inf}, masks=[("mask", "x")])


@pytest.mark.parametrize(("engine", "dtype"), [("packed", "float32"), ("blas", "float64")])
def test_the_last_step_of_a_row_of_which_none_counts_is_zero(rng, engine, dtype):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    builder.output(builder.add("last", "last", {"x": x})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    x = rng.normal(size=(3, 5, 3)).astype(dtype)
    mask = np.array([[True] * 4 + [False], [False] * 5, [True] + [False] * 4])
    found = model.predict(x, mask=mask)
    np.testing.assert_array_equal(found, [x[0, 3], np.zeros(3), x[2, 0]])


@pytest.mark.parametrize(("engine", "dtype"), [("packed", "float32"), ("blas", "float64")])
def test_steps_that_a_number_marks_become_zero_and_do_not_count(rng, engine, dtype):
    builder = GraphBuilder()
    masked = builder.add("masking", "masking", {"x": builder.input("x", (None, 3))}, options={"mask_value": -1.5})
    builder.output(masked["y"])
    builder.output(builder.add("last", "last", {"x": masked["y"]})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    x = rng.normal(size=(3, 5, 3)).astype(dtype)
    x[0, 1] = x[1, 3:] = -1.5
    x[2, 4, :2] = -1.5  # a step of which one number is another counts
    expected = x.copy()
    expected[0, 1] = expected[1, 3:] = 0.0
    y, last = model.predict(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(last, [x[0, 4], x[1, 2], x[2, 4]])
