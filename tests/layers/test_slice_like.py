"""As many steps of a sequence as another has."""

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

from tests import reference


def skip(rng, start, time=None, dtype="float32"):
    """A network whose skip connection is cut to the length of what has been halved and doubled again."""
    builder = GraphBuilder()
    x = builder.input("x", (time, 3))
    wide = builder.add("conv1d", "wide", {"x": x}, {"weight": rng.normal(size=(5, 2, 3)).astype("f")})["y"]
    y = builder.add("conv1d", "halved", {"x": wide}, {"weight": rng.normal(size=(4, 3, 5)).astype("f")}, {"stride": 2})
    y = builder.add("upsample", "doubled", {"x": y["y"]}, options={"size": 2})["y"]
    cut = builder.add("slice_like", "cut", {"x": wide, "x1": y}, options={"start": start})["y"]
    both = builder.add("merge", "both", {"x": y, "x1": cut}, options={"mode": "concat"})["y"]
    weights = {"weight_ih": rng.normal(size=(8, 9)).astype("f"), "weight_hh": rng.normal(size=(8, 2)).astype("f")}
    builder.output(builder.add("lstm", "lstm", {"x": both}, weights)["y"])
    builder.output(cut)
    return cylstm.Model(builder.build(), dtype=dtype)


@pytest.mark.parametrize("start", [0, 1])
def test_the_steps_are_those_of_the_definition_for_every_length(start):
    rng = np.random.default_rng(0)
    model = skip(rng, start)
    for time in range(4, 30):
        x = rng.normal(size=(3, time, 3)).astype("f")
        y, cut = model.predict(x)
        expected, _ = reference.predict(model.graph, x)
        assert cut.shape == (3, (time - 2) // 2 * 2, 5)
        np.testing.assert_allclose(y, expected[0], atol=1e-5)
        np.testing.assert_allclose(cut, expected[1], atol=1e-5)


@pytest.mark.parametrize("start", [0, 1])
def test_a_stream_gives_the_bits_of_the_whole_sequence_in_chunks_of_every_length(start):
    rng = np.random.default_rng(1)
    model = skip(rng, start)
    x = rng.normal(size=(3, 40, 3)).astype("f")
    expected = model.predict(x)
    for chunk in (2, 4, 6, 8, 10):
        stream = model.stream(batch=3)
        parts = [stream.run(x[:, first : first + chunk]) for first in range(0, 40, chunk)]
        for k in range(2):
            np.testing.assert_array_equal(np.concatenate([part[k] for part in parts], axis=1), expected[k])


def test_a_long_sequence_in_pieces_is_the_definition():
    rng = np.random.default_rng(2)
    model = skip(rng, 1, dtype="float64")
    x = rng.normal(size=(2, 30_001, 3))
    for found, expected in zip(model.predict(x), reference.predict(model.graph, x)[0]):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_fixed_time_is_cut_too():
    rng = np.random.default_rng(3)
    model = skip(rng, 1, time=9)
    x = rng.normal(size=(3, 9, 3)).astype("f")
    np.testing.assert_allclose(model.predict(x)[1], reference.predict(model.graph, x)[0][1], atol=1e-5)


@pytest.mark.parametrize("time", [None, 8])
def test_a_sequence_that_may_be_too_short_is_refused(time):
    with pytest.raises(cylstm.ShapeError, match="'cut': 'wide' of .* may have fewer steps after the first 2 than"):
        skip(np.random.default_rng(4), 2, time=time)


def test_sequences_of_two_inputs_are_refused():
    builder = GraphBuilder()
    x, other = builder.input("x", (None, 3)), builder.input("other", (None, 2))
    with pytest.raises(cylstm.ShapeError, match="'cut': 'x' of"):
        builder.add("slice_like", "cut", {"x": x, "x1": other})


def test_a_saved_network_keeps_its_numbers(tmp_path):
    rng = np.random.default_rng(5)
    model = skip(rng, 1)
    x = rng.normal(size=(3, 21, 3)).astype("f")
    for packed in (False, True):
        model.save(tmp_path / "skip.cylstm", packed=packed)
        for found, expected in zip(cylstm.load(tmp_path / "skip.cylstm").predict(x), model.predict(x)):
            np.testing.assert_array_equal(found, expected)
