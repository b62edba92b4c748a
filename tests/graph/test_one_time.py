"""Inputs that always have the same number of steps, whatever it is."""

import numpy as np
import pytest

import cylstm
from cylstm.formats.native import write as native_write
from cylstm.graph.builder import GraphBuilder
from cylstm.loading import read

from tests.reference import predict


def two_inputs(rng, time=None, *, backward=False):
    """Joined step by step, the second through a convolution, then an LSTM and a Dense layer."""
    builder = GraphBuilder()
    a = builder.input("a", (time, 3))
    b = builder.input("b", (time, 2), time_of="a" if time is None else None)

    def weight(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    conv = builder.add("conv1d", "conv", {"x": b}, {"weight": weight(4, 3, 2)}, {"padding": "causal"})["y"]
    y = builder.add("merge", "join", {"x": a, "x1": conv})["y"]
    cell = {"weight_ih": weight(20, 7), "weight_hh": weight(20, 5), "bias": weight(20)}
    mask = builder.value(b.mask)
    y = builder.add("lstm", "lstm", {"x": y, "mask": mask}, cell, {"reverse": backward})["y"]
    builder.output(builder.add("dense", "fc", {"x": y}, {"weight": weight(2, 5)})["y"])
    return builder.build()


def arrays(rng, time, batch=3):
    return [rng.normal(size=(batch, time, size)).astype(np.float32) for size in (3, 2)]


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_they_give_what_a_fixed_number_of_steps_gives(engine):
    for time in (1, 7, 300):
        x = arrays(np.random.default_rng(2), time)
        open_model = cylstm.Model(two_inputs(np.random.default_rng(1)), engine=engine)
        fixed = cylstm.Model(two_inputs(np.random.default_rng(1), time), engine=engine)
        mask = np.random.default_rng(3).random((3, time)) > 0.3
        np.testing.assert_array_equal(open_model.predict(x), fixed.predict(x))
        found = open_model.predict(x, mask={"b": mask})
        np.testing.assert_array_equal(found, fixed.predict(x, mask={"b": mask}))
        exact, _ = predict(open_model.graph, *x, mask={"b": mask})
        np.testing.assert_allclose(found, exact[0], atol=2e-6)


def test_they_stream_together(rng):
    model = cylstm.Model(two_inputs(rng))
    x = arrays(rng, 9)
    whole, stream = model.predict(x), model.stream(batch=3)
    steps = [stream.step([one[:, t] for one in x]) for t in range(4)]
    np.testing.assert_array_equal(np.stack(steps, 1), whole[:, :4])
    np.testing.assert_array_equal(stream.run([one[:, 4:] for one in x]), whole[:, 4:])


@pytest.mark.parametrize("threads", [1, 2])
def test_long_sequences_in_pieces_give_the_same_bits(rng, threads):
    model = cylstm.Model(two_inputs(rng))
    x = arrays(rng, 5000, batch=2)
    whole, stream = model.predict(x, threads=threads), model.stream(batch=2)
    np.testing.assert_array_equal(stream.run(x), whole)


def test_other_numbers_of_steps_are_refused(rng):
    model = cylstm.Model(two_inputs(rng, backward=True))
    a, b = arrays(rng, 6)
    with pytest.raises(cylstm.ShapeError, match="inputs: 'a' and 'b' have one time, found 6 and 5 steps"):
        model.predict([a, b[:, :5]])
    assert model.predict([a, b]).shape == (3, 6, 2)


def test_a_file_keeps_their_time(rng, tmp_path):
    model = cylstm.Model(two_inputs(rng))
    model.save(tmp_path / "net.cylstm")
    model.save(tmp_path / "packed.cylstm", packed=True)
    x = arrays(rng, 6)
    for name in ("net", "packed"):
        again = cylstm.load(tmp_path / f"{name}.cylstm")
        assert again.graph.values == model.graph.values
        np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "times",
    [3, {"b": 3}, {"b": "c"}, {"a": "b"}, {"b": "b"}, {"c": "a"}, {"b": "a.mask"}, {"a": "a", "b": "a"}],
)
def test_a_file_that_says_nonsense_about_times_is_refused(rng, tmp_path, monkeypatch, times):
    write_json = native_write._json
    monkeypatch.setattr(
        native_write,
        "_json",
        lambda value, **options: write_json(value | ({"times": times} if "nodes" in value else {}), **options),
    )
    cylstm.Model(two_inputs(rng)).save(tmp_path / "net.cylstm")
    with pytest.raises(cylstm.CylstmError, match="times expected names of inputs|cannot have the time of"):
        read(tmp_path / "net.cylstm")


@pytest.mark.parametrize(
    ("shape", "of"), [((5, 2), "a"), ((None, 2), "fixed"), ((None, 2), "nothing"), ((2,), "a"), ((None, 2), "c")]
)
def test_an_input_has_the_time_of_one_before_it_that_is_not_fixed_either(shape, of):
    builder = GraphBuilder()
    builder.input("a", (None, 3))
    builder.input("fixed", (5, 3))
    builder.input("c", (None, 3), time_of="a")
    with pytest.raises(cylstm.ShapeError, match=f"input 'b': it cannot have the time of '{of}'"):
        builder.input("b", shape, time_of=of)


def test_steps_that_become_several_are_cut_in_any_length(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 6))
    y = builder.add("reshape", "parts", {"x": x}, options={"shape": "time*3,2"})["y"]
    assert y.axis.length(5) == 15
    cell = {"weight_ih": rng.normal(size=(20, 2)), "weight_hh": rng.normal(size=(20, 5))}
    cell = {role: array.astype(np.float32) for role, array in cell.items()}
    builder.output(builder.add("lstm", "lstm", {"x": y}, cell)["y"])
    model = cylstm.Model(builder.build())
    for time in (1, 4, 2000):
        x = rng.normal(size=(3, time, 6)).astype(np.float32)
        found = model.predict(x)
        (exact,), _ = predict(model.graph, x)
        np.testing.assert_allclose(found, exact, atol=3e-6)
        np.testing.assert_array_equal(model.stream(batch=3).run(x), found)
    for shape in ("time*4,2", "time*3", "time*0,6", "time*3,-1", "time*x,2"):
        with pytest.raises(cylstm.CylstmError, match="layer 'bad': (a step|option shape expected)"):
            builder.add("reshape", "bad", {"x": builder.value("x")}, options={"shape": shape})
