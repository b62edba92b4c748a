"""Indices: the rows that they choose, the masks that they make, and which are refused."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ShapeError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.layers import weight
from tests.builders.networks import bits


def sentence_model(rng, rows=9, size=5, padding=0):
    """Indices -> embedding with a mask -> LSTM that is masked -> last step; and a masked mean."""
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    mask = builder.add("index_mask", "counts", {"indices": words}, options={"padding": padding})["mask"]
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, rows, size)})["y"]
    lstm = {"weight_ih": weight(rng, 24, size), "weight_hh": weight(rng, 24, 6)}
    y = builder.add("lstm", "lstm", {"x": y, "mask": mask}, lstm, {"padding": "repeat"})["y"]
    builder.output(builder.add("last", "last", {"x": y, "mask": mask})["y"])
    builder.output(builder.add("reduce", "mean", {"x": y, "mask": mask})["y"])
    return cylstm.Model(builder.build())


def test_indices_choose_rows_and_make_a_mask(rng):
    model = sentence_model(rng)
    words = rng.integers(0, 9, (4, 12))
    words[1] = 0
    words[2, 5:] = 0
    words[3, :5] = 0
    expected, _ = reference.predict(model.graph, words)
    for x in (words, words.astype(np.int16), words.astype(np.float32), words.tolist()):
        for found, wanted in zip(model.predict(x), expected):
            np.testing.assert_allclose(found, wanted, atol=2e-6)  # NaN where no step counts
    assert np.isnan(model.predict(words)[1][1]).all()
    np.testing.assert_array_equal(bits(model.predict(words[2])[0]), bits(model.predict(words)[0][2]))


@pytest.mark.parametrize("rows", [(5, 10), (10, 5), (5, 10, 7)])
def test_an_index_has_to_be_in_every_table_that_reads_it(rng, rows):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    tables = {f"t{i}": builder.add("embedding", f"t{i}", {"indices": words}, {"weight": weight(rng, count, 4)})["y"]
              for i, count in enumerate(rows)}  # fmt: skip
    for table in tables.values():
        builder.output(table)
    model = cylstm.Model(builder.build())
    for words in (np.array([[0, 4, 7]]), np.array([[0, 4, 7]], np.int32), [[0, 4, 5]]):
        with pytest.raises(ShapeError, match=r"index \d in row 0, position 2: expected 0 to 4"):
            model.predict(words)
        with pytest.raises(ShapeError, match=r"index \d in row 0.* expected 0 to 4"):
            model.stream().run(words)
    with pytest.raises(ShapeError, match="expected 0 to 4"):
        model.predict(np.zeros((3, 6), int) + 9)
    words = rng.integers(0, 5, (3, 6))
    for found, wanted in zip(model.predict(words), reference.predict(model.graph, words)[0]):
        np.testing.assert_array_equal(found, wanted.astype("f"))


def test_an_index_out_of_range_is_named_before_anything_runs(rng):
    model = sentence_model(rng)
    words = rng.integers(0, 9, (4, 12))
    words[2, 7] = 9
    with pytest.raises(ShapeError, match="input 'words': index 9 in row 2, position 7: expected 0 to 8"):
        model.predict(words)
    for wrong, message in (
        (-1, "found -1 in row 2, position 7"),
        (1.5, "found 1.5 in row 2"),
        (np.nan, "found nan in"),
        (2**40, "found"),
    ):
        bad = words.astype(object if wrong == 2**40 else float if isinstance(wrong, float) else np.int64)
        bad[2, 7] = wrong
        with pytest.raises(ShapeError, match=message):
            model.predict(bad if wrong != 2**40 else bad.astype(np.int64))
    with pytest.raises(ShapeError, match="expected whole numbers|real numbers"):
        model.predict(np.zeros((2, 3), complex))


def test_indices_stream(rng):
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    y = builder.add("embedding", "table", {"indices": words}, {"weight": weight(rng, 9, 5)})["y"]
    builder.output(
        builder.add("lstm", "lstm", {"x": y}, {"weight_ih": weight(rng, 24, 5), "weight_hh": weight(rng, 24, 6)})["y"]
    )
    model = cylstm.Model(builder.build())
    words = rng.integers(0, 9, (2, 7))
    whole = model.predict(words)
    stream = model.stream(2)
    np.testing.assert_array_equal(bits(np.stack([stream.step(words[:, t]) for t in range(7)], 1)), bits(whole))
    with pytest.raises(ShapeError, match="index 9 in row 1"):
        stream.step([0, 9])
