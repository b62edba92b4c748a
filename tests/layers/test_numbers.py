"""Numbers that are no input: constants, the numbers of the steps, indices and masks to compute with."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import ENGINES, ask, weight
from tests.builders.networks import bits, reloaded


def lstm_of(rng, inputs, hidden):
    return {"weight_ih": weight(rng, 4 * hidden, inputs), "weight_hh": weight(rng, 4 * hidden, hidden)}


def constant(builder, name, array, **options):
    return builder.add("constant", name, {}, {"value": array}, options)["y"]


def rest(builder, name, y):
    """Whatever has a fixed number of steps as one vector."""
    return builder.add("reshape", name, {"x": y}, options={"shape": "-1"})["y"]


def network_of_constants(rng, place):
    """A network whose constants are what `place(builder, name, array, has_time)` makes of them."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    vector = place(builder, "vector", weight(rng, 4), False)
    steps = place(builder, "steps", weight(rng, 6, 4), True)
    cube = place(builder, "cube", weight(rng, 2, 3, 4), False)
    one = place(builder, "one", weight(rng, 1), False)
    state = place(builder, "state", weight(rng, 5), False)

    def merge(name, mode, a, b):
        return builder.add("merge", name, {"x": a, "x1": b}, options={"mode": mode})["y"]

    y = merge("scaled", "mul", merge("moved", "sum", x, vector), one)
    y = merge("repeated", "sub", vector, y)
    y = builder.add("where", "chosen", {"condition": merge("less", "less", x, one), "x": y, "x1": vector})["y"]
    y = builder.add("lstm", "lstm", {"x": y, "h0": state}, lstm_of(rng, 4, 5))["y"]
    builder.output(y)
    attended = {"x": x, "key": steps, "value": steps}
    builder.output(builder.add("attention", "attention", attended)["y"])
    # of constants alone: with a batch of rows that are one and the same
    dense = {"weight": weight(rng, 7, 4), "bias": weight(rng, 7)}
    builder.output(builder.add("dense", "dense", {"x": vector}, dense)["y"])
    builder.output(rest(builder, "flat", builder.add("dense", "dense steps", {"x": steps}, dense)["y"]))
    y = builder.add("gru", "gru", {"x": steps}, {"weight_ih": weight(rng, 9, 4), "weight_hh": weight(rng, 9, 3)})["y"]
    builder.output(builder.add("last", "last", {"x": y})["y"])
    conv = {"weight": weight(rng, 8, 3, 4)}
    builder.output(builder.add("conv1d", "conv", {"x": steps}, conv, {"padding": "same"})["y"])
    builder.output(merge("cubes", "mul", cube, builder.add("last", "last of x", {"x": x})["y"]))
    builder.output(builder.add("reverse", "reverse", {"x": steps})["y"])
    builder.output(builder.add("reduce", "mean", {"x": steps})["y"])
    builder.output(merge("both", "concat", steps, steps))
    return builder.build()


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_a_constant_is_what_an_input_of_the_same_numbers_is(engine, dtype, tolerance):
    given = []

    def as_input(builder, name, array, has_time):
        value = builder.input(name, array.shape if has_time or array.ndim == 1 else (array.size,), masked=False)
        given.append(array.ravel().reshape(value.shape))
        if value.shape == array.shape:
            return value
        y = builder.add("reshape", f"{name} shaped", {"x": value}, options={"shape": "2,3,4"})["y"]
        return y

    def as_constant(builder, name, array, has_time):
        return constant(builder, name, array, has_time=has_time)

    model = cylstm.Model(network_of_constants(np.random.default_rng(1), as_constant), engine=engine, dtype=dtype)
    wanted = cylstm.Model(network_of_constants(np.random.default_rng(1), as_input), engine=engine, dtype=dtype)
    x = np.random.default_rng(2).normal(size=(5, 13, 4)).astype("f")
    found = model.predict(x)
    expected = wanted.predict([x, *(np.repeat(array[np.newaxis], 5, axis=0) for array in given)])
    exact, _ = reference.predict(model.graph, x)
    for y, other, right, name in zip(found, expected, exact, model.outputs):
        np.testing.assert_allclose(y, right, rtol=0, atol=tolerance, err_msg=name)
        if engine == "packed":
            np.testing.assert_array_equal(bits(y), bits(other), err_msg=name)
            for threads in (2, 3):
                again = model.predict(x, threads=threads)[model.outputs.index(name)]
                np.testing.assert_array_equal(bits(again), bits(y), err_msg=name)


def test_constants_have_the_same_bits_on_every_machine_in_every_batch_and_from_files(tmp_path, monkeypatch):
    graph = network_of_constants(np.random.default_rng(1), lambda b, n, a, t: constant(b, n, a, has_time=t))
    x = np.random.default_rng(2).normal(size=(5, 13, 4)).astype("f")
    expected = [bits(y) for y in cylstm.Model(graph).predict(x)]
    models = [*reloaded(cylstm.Model(graph), tmp_path)]
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        models.append(cylstm.Model(graph))
    for model in models:
        for y, wanted in zip(model.predict(x), expected):
            np.testing.assert_array_equal(bits(y), wanted)
        for y, wanted in zip(model.predict(x[3:4]), expected):
            np.testing.assert_array_equal(bits(y)[0], wanted[3])


@pytest.mark.parametrize("shape, has_time", [((3,), False), ((1,), False), ((2, 3), False), ((2, 3), True),
                                             ((1, 2, 1, 2, 3, 1, 2, 2), False)])  # fmt: skip
@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_a_constant_of_any_shape_can_be_a_result(rng, shape, has_time, engine, dtype, tolerance):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    y = constant(builder, "constant", weight(rng, *shape), has_time=has_time)
    assert (y.kind, y.shape) == ("sequence" if has_time else "vector", shape)
    builder.output(y)
    builder.output(builder.add("merge", "twice", {"x": y, "x1": y}, options={"mode": "sum"})["y"])
    builder.output(builder.add("last", "last", {"x": x})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    array = model.graph.tensors["constant.value"]
    x = rng.normal(size=(3, 9000, 4)).astype("f")
    for threads in (1, 2):
        found, twice, _ = model.predict(x, threads=threads)
        np.testing.assert_allclose(found, np.broadcast_to(array, (3, *shape)), rtol=0, atol=tolerance)
        np.testing.assert_allclose(twice, np.broadcast_to(2 * array, (3, *shape)), rtol=0, atol=tolerance)
    stream = model.stream(2)
    for _ in range(2):
        np.testing.assert_allclose(stream.run(x[:2, :3])[0], np.broadcast_to(array, (2, *shape)), atol=tolerance)


def test_a_constant_streams_beside_masks_and_rows_that_rest(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    masked = builder.add("masking", "masking", {"x": x})
    y = builder.add("merge", "moved", {"x": masked["y"], "x1": constant(builder, "c", weight(rng, 4))},
                    options={"mode": "sum"})["y"]  # fmt: skip
    assert y.mask == masked["mask"].name
    y = builder.add("mask_fill", "fill", {"x": y, "mask": masked["mask"], "x1": constant(builder, "d", weight(rng, 4))})
    y = builder.add("lstm", "lstm", {"x": y["y"], "mask": masked["mask"]}, lstm_of(rng, 4, 5))["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 6000, 4)).astype("f")
    x[1, 2:9] = 0
    whole = model.predict(x)
    exact, _ = reference.predict(model.graph, x[:, :60])
    np.testing.assert_allclose(whole[:, :60], exact[0], rtol=0, atol=4e-6)
    stream = model.stream(3)
    active = np.array([True, False, True])
    first = stream.step(x[:, 0], active=active)
    np.testing.assert_array_equal(bits(first[active]), bits(whole[active, 0]))
    stream.reset()
    pieces = [np.stack([stream.step(x[:, t]) for t in range(12)], 1), stream.run(x[:, 12:])]
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))


def test_numbers_of_all_steps_without_a_time_are_matched_step_by_step(rng):
    """A vector (steps, n) beside a sequence of so many steps, more of them than are combined at once."""
    builder = GraphBuilder()
    x = builder.input("x", (700, 20))
    table = constant(builder, "table", weight(rng, 700, 20))
    for mode in ("sum", "less"):
        builder.output(builder.add("merge", mode, {"x": x, "x1": table}, options={"mode": mode})["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 700, 20)).astype("f")
    for threads in (1, 2):
        total, is_less = model.predict(x, threads=threads)
        np.testing.assert_array_equal(total, x + model.graph.tensors["table.value"])
        np.testing.assert_array_equal(is_less, x < model.graph.tensors["table.value"])


def test_a_constant_that_is_no_value_is_refused(rng):
    for array, options, found in (
        (np.float32(1), {}, r"expected 1 to 8 axes .*, found shape \(\)"),
        (weight(rng, 3), {"has_time": True}, r"expected 2 to 8 axes"),
        (weight(rng, *[1] * 9), {}, r"expected 1 to 8 axes"),
        (np.zeros((3, 0), "f"), {}, r"expected .*, found shape \(3, 0\)"),
    ):
        with pytest.raises(ShapeError, match=f"layer 'c', tensor 'value': {found}"):
            constant(GraphBuilder(), "c", array, **options)
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    steps = constant(builder, "c", weight(rng, 6, 3), has_time=True)
    with pytest.raises(ShapeError, match="do not match"):
        builder.add("merge", "m", {"x": x, "x1": steps}, options={"mode": "sum"})
    with pytest.raises(ShapeError, match="inputs expected none; found x"):
        builder.add("constant", "d", {"x": x}, {"value": weight(rng, 3)})


def counting(start=0.0, step=1.0):
    builder = GraphBuilder()
    x = builder.input("x", (None, 2))
    builder.output(builder.add("positions", "positions", {"x": x}, options={"start": start, "step": step})["y"])
    return cylstm.Model(builder.build())


def test_positions_count_on_in_a_stream_each_row_for_itself(rng):
    model = counting()
    assert model.state_names == [("positions.steps",)]
    stream = model.stream(3)
    x = np.zeros((3, 5, 2), "f")
    np.testing.assert_array_equal(stream.run(x)[..., 0], [[0, 1, 2, 3, 4]] * 3)
    active = np.array([False, True, True])
    np.testing.assert_array_equal(stream.step(x[:, 0], active=active)[:, 0], [0, 5, 5])
    stream.reset(rows=[2])
    np.testing.assert_array_equal(stream.run(x[:, :2])[..., 0], [[5, 6], [6, 7], [0, 1]])
    np.testing.assert_array_equal(stream.state[0][0], [[7, 0], [8, 0], [2, 0]])
    copy = stream.copy()
    np.testing.assert_array_equal(copy.step(x[:, 0]), stream.step(x[:, 0]))


@pytest.mark.parametrize("start, step", [(0.0, 1.0), (-7.0, 0.25), (1e6, -0.1)])
def test_positions_go_on_past_what_one_float_counts_to(start, step):
    model = counting(start, step)
    first = 2**24 - 3
    x = np.zeros((2, 7000, 2), "f")
    y, state = model.predict(x, initial_state=[(np.array([[first, 0], [5, 3]], "f"),)], return_state=True)
    counts = np.array([first, 5 + 3 * 2**24])[:, np.newaxis] + np.arange(7000)
    np.testing.assert_array_equal(y[..., 0], (start + step * counts).astype("f"))
    np.testing.assert_array_equal(state[0][0], [[6997, 1], [7005, 3]])
    stream = model.stream(2)
    stream.state = [(np.array([[first, 0], [5, 3]], "f"),)]
    pieces = np.concatenate([stream.run(x[:, :5]), stream.run(x[:, 5:])], axis=1)
    np.testing.assert_array_equal(bits(pieces), bits(y))


def test_positions_of_any_time_are_those_of_its_steps(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    y = builder.add("conv1d", "strided", {"x": x}, {"weight": weight(rng, 3, 2, 4)}, {"stride": 2, "padding": "causal"})
    builder.output(builder.add("positions", "halves", {"x": y["y"]}, options={"start": 1.0})["y"])
    table = constant(builder, "table", weight(rng, 6, 3), has_time=True)
    fixed = builder.add("positions", "fixed", {"x": table}, options={"step": 0.5})["y"]
    builder.output(builder.add("reduce", "sum", {"x": fixed}, options={"mode": "sum"})["y"])
    model = cylstm.Model(builder.build())
    assert model.state_names == [("strided.history",), ("halves.steps",)]
    x = np.zeros((3, 20000, 4), "f")
    for threads in (1, 2):
        halves, total = model.predict(x, threads=threads)
        np.testing.assert_array_equal(halves, np.broadcast_to(np.arange(1, 10001)[:, np.newaxis], (3, 10000, 1)))
        np.testing.assert_array_equal(total, [[7.5]] * 3)
    stream = model.stream(3)
    for at in (0, 30, 80):
        np.testing.assert_array_equal(stream.run(x[:, : 30 if at < 30 else 50])[0][0, 0], at // 2 + 1)
    (expected, _), states = reference.predict(model.graph, x[:, :24])
    (halves, _), state = model.predict(x[:, :24], return_state=True)
    np.testing.assert_array_equal(halves, expected)
    np.testing.assert_array_equal(state[1][0], states[1][0])


def test_a_positional_encoding_is_the_same_in_pieces(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 6))
    at = builder.add("positions", "at", {"x": x}, options={"step": 0.1})["y"]
    rates = constant(builder, "rates", np.array([1, 0.5, 0.25, 0.125, 2, 3], "f"))
    angles = builder.add("merge", "angles", {"x": at, "x1": rates}, options={"mode": "mul"})["y"]
    bound = constant(builder, "bound", np.array([2.5], "f"))
    angles = builder.add("merge", "wrapped", {"x": angles, "x1": bound}, options={"mode": "mod"})["y"]
    y = builder.add("merge", "moved", {"x": x, "x1": angles}, options={"mode": "sum"})["y"]
    builder.output(builder.add("lstm", "lstm", {"x": y}, lstm_of(rng, 6, 5))["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, 3000, 6)).astype("f")
    whole = model.predict(x)
    exact, _ = reference.predict(model.graph, x[:, :20])
    np.testing.assert_allclose(whole[:, :20], exact[0], rtol=0, atol=4e-6)
    stream = model.stream(3)
    pieces = [np.stack([stream.step(x[:, t]) for t in range(8)], 1), stream.run(x[:, 8:900]), stream.run(x[:, 900:])]
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
    np.testing.assert_array_equal(bits(model.predict(x[1:2, :50])), bits(whole[1:2, :50]))


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
@pytest.mark.parametrize("shape", [(None,), (None, 3), (5, 2, 3)])
def test_indices_are_numbers_of_the_same_shape(rng, shape, engine, dtype, tolerance):
    builder = GraphBuilder()
    words = builder.input("words", shape, indices=True)
    y = builder.add("numbers", "numbers", {"indices": words})["y"]
    assert y.shape == (shape if len(shape) > 1 else (None, 1))
    assert y.mask == words.mask
    builder.output(y)
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    words = rng.integers(0, 2**24 + 1, (3, *(5 if size is None else size for size in shape)))
    words.reshape(-1)[:3] = 2**24, 2**24 - 1, 0
    for threads in (1, 2):
        np.testing.assert_array_equal(model.predict(words, threads=threads).reshape(words.shape), words)
    words.reshape(-1)[4] += 2**24 + 1
    with pytest.raises(ShapeError, match=r"input 'words': index \d+ in row 0, .*: expected 0 to 16777216"):
        model.predict(words)


def test_a_network_computes_with_the_indices_that_it_embeds(rng):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    ids = builder.add("numbers", "ids", {"indices": words})["y"]
    zero = constant(builder, "zero", np.zeros(1, "f"))
    is_word = builder.add("merge", "is_word", {"x": ids, "x1": zero}, options={"mode": "not_equal"})["y"]
    mask = builder.add("number_mask", "mask", {"x": is_word})["mask"]
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, 9, 4)})["y"]
    y = builder.add("lstm", "lstm", {"x": y, "mask": mask}, lstm_of(rng, 4, 5), {"padding": "repeat"})["y"]
    builder.output(builder.add("merge", "kept", {"x": y, "x1": is_word}, options={"mode": "mul"})["y"])
    model = cylstm.Model(builder.build())
    words = rng.integers(0, 9, (3, 7000))
    words[1, 5:] = 0
    words[:, ::3] = 0
    whole = model.predict(words)
    exact, _ = reference.predict(model.graph, words[:, :30])
    np.testing.assert_allclose(whole[:, :30], exact[0], rtol=0, atol=4e-6)
    stream = model.stream(3)
    pieces = [np.stack([stream.step(words[:, t]) for t in range(8)], 1), stream.run(words[:, 8:])]
    np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole))
    with pytest.raises(ShapeError, match="expected 0 to 8"):
        model.predict(words + 1)


@pytest.mark.parametrize("engine, dtype, tolerance", ENGINES)
def test_masks_are_numbers_and_numbers_are_masks(rng, engine, dtype, tolerance):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    masked = builder.add("masking", "masking", {"x": x})
    given = builder.add("mask_numbers", "given", {"mask": builder.value(x.mask)})["y"]
    found = builder.add("mask_numbers", "found", {"mask": masked["mask"]})["y"]
    assert given.mask is None and given.shape == (None, 1)
    either = builder.add("merge", "either", {"x": given, "x1": found}, options={"mode": "xor"})["y"]
    mask = builder.add("number_mask", "mask", {"x": either})["mask"]
    y = builder.add("lstm", "lstm", {"x": x, "mask": mask}, lstm_of(rng, 4, 5), {"padding": "repeat"})["y"]
    for value in (given, found, y, builder.add("mask_numbers", "again", {"mask": mask})["y"]):
        builder.output(value)
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    x = rng.normal(size=(4, 11, 4)).astype("f")
    x[:, 2:5] = 0
    mask = rng.random((4, 11)) > 0.4
    mask[1] = False
    for options in ({"mask": mask}, {"lengths": [5, 11, 1, 3]}, {}):
        used = options.get("mask")
        if "lengths" in options:
            used = np.arange(11) < np.array(options["lengths"])[:, np.newaxis]
        expected, _ = reference.predict(model.graph, x, mask=used)
        for threads in (1, 2):
            for y, wanted, name in zip(model.predict(x, threads=threads, **options), expected, model.outputs):
                np.testing.assert_allclose(y, wanted, rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_array_equal(model.predict(x)[0], np.ones((4, 11, 1)))


def test_a_computed_mask_has_the_same_bits_in_pieces_and_on_every_machine(rng, monkeypatch):
    builder = GraphBuilder()
    x = builder.input("x", (None, 1))
    limit = constant(builder, "limit", np.array([0.3], "f"))
    is_less = builder.add("merge", "is_less", {"x": x, "x1": limit}, options={"mode": "less"})["y"]
    mask = builder.add("number_mask", "mask", {"x": is_less})["mask"]
    y = builder.add("lstm", "lstm", {"x": x, "mask": mask}, lstm_of(rng, 1, 5), {"padding": "repeat"})["y"]
    builder.output(builder.add("merge", "y", {"x": y, "x1": builder.add("mask_numbers", "n", {"mask": mask})["y"]},
                               options={"mode": "concat"})["y"])  # fmt: skip
    graph = builder.build()
    x = rng.normal(size=(3, 8000, 1)).astype("f")
    x[1, 40] = np.nan
    whole = cylstm.Model(graph).predict(x)
    exact, _ = reference.predict(graph, x[:, :30])
    np.testing.assert_allclose(whole[:, :30], exact[0], rtol=0, atol=4e-6)
    np.testing.assert_array_equal(whole[..., 5], x[..., 0] < np.float32(0.3))
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.Model(graph)
        np.testing.assert_array_equal(bits(ask(model, [x[:, :500]], threads=2)), bits(whole[:, :500]))
        stream = model.stream(3)
        pieces = [stream.run(x[:, :7]), stream.step(x[:, 7])[:, np.newaxis], stream.run(x[:, 8:5000])]
        np.testing.assert_array_equal(bits(np.concatenate(pieces, axis=1)), bits(whole[:, :5000]))


def test_nan_counts_as_a_number_that_is_not_0():
    builder = GraphBuilder()
    x = builder.input("x", (None, 1))
    mask = builder.add("number_mask", "mask", {"x": x})["mask"]
    builder.output(builder.add("mask_numbers", "numbers", {"mask": mask})["y"])
    x = np.array([[[np.nan], [0.0], [-0.0], [1e-20], [-3.0], [np.inf]]], "f")
    for engine, tiny in (("packed", 0), ("blas", 0)):
        found = cylstm.Model(builder.build(), engine=engine).predict(x)
        np.testing.assert_array_equal(found[0, :, 0], [1, 0, 0, tiny, 1, 1])
    found = cylstm.Model(builder.build(), engine="blas", dtype="float64").predict(x.astype(float))
    np.testing.assert_array_equal(found[0, :, 0], [1, 0, 0, 1, 1, 1])


def test_what_is_no_mask_no_index_or_no_sequence_is_refused_by_name(rng):
    builder = GraphBuilder()
    x, v = builder.input("x", (None, 3)), builder.input("v", (3,))
    words = builder.input("words", (None,), indices=True)
    for kind, inputs, error, match in (
        ("number_mask", {"x": x}, ShapeError, r"layer 'l': expected one number a step, found \(None, 3\) of 'x'"),
        ("number_mask", {"x": v}, ShapeError, "expected a sequence as input, found the vector 'v'"),
        ("mask_numbers", {"mask": x}, ShapeError, "expected a mask as input, found the sequence 'x'"),
        ("numbers", {"indices": x}, ShapeError, "expected a index as input, found the sequence 'x'"),
        ("positions", {"x": v}, ShapeError, "expected a sequence as input, found the vector 'v'"),
        ("positions", {"x": words}, ShapeError, "expected a sequence as input, found the index 'words'"),
        ("where", {"condition": words, "x": x, "x1": v}, ShapeError, "found the index 'words'"),
        ("where", {"condition": x, "x": x}, ShapeError, "inputs expected condition, x, x1; found condition, x"),
    ):
        with pytest.raises(error, match=match):
            builder.add(kind, "l", inputs)
    for name in ("start", "step"):
        with pytest.raises(UnsupportedError, match=f"option {name} expected a number of at least"):
            builder.add("positions", "l", {"x": x}, options={name: np.inf})
