"""Whole models as Keras saved them, with what it computed: checked here without it (generate_keras_models.py)."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names

from tests import DATA

FOLDER = DATA / "keras_models"
FILES = sorted(FOLDER.glob("*.keras"))


def golden(path):
    """Inputs and outputs."""
    with np.load(path.with_suffix(".npz")) as arrays:
        found = [[arrays[f"{kind}{k}"] for k in range(sum(name[0] == kind for name in arrays))] for kind in "xy"]
    return found


def load(name, **options):
    pytest.importorskip("h5py")
    return cylstm.load(FOLDER / f"{name}.keras", **options)


def list_of(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def test_the_models_are_there():
    assert len(FILES) >= 42


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kerass_results_are_repeated(path, engine):
    model = load(path.stem, engine=engine)
    inputs, expected = golden(path)
    found = list_of(model.predict(inputs if len(inputs) > 1 else inputs[0]))
    assert len(found) == len(expected)
    for y, other in zip(found, expected):
        np.testing.assert_allclose(y, other, rtol=0, atol=5e-6 * max(1.0, np.abs(other).max()))


def test_a_summary_shows_the_graph(capsys):
    load("activity_recognition").summary()
    text = capsys.readouterr().out
    for part in ("conv1d", "pool1d", "lstm", "merge", "softmax", "reduce", "(batch, time, 6)", "KB packed", "streams:"):
        assert part in text
    load("nested_twice").summary()
    text = capsys.readouterr().out
    assert "shell/core/same" in text
    assert "shell/core/same#2" in text


def test_a_fixed_number_of_steps_is_kept_only_where_a_layer_needs_it():
    assert load("autoencoder").graph.values["input_layer"].shape == (None, 4)
    assert load("anomaly_score").graph.values["input_layer"].shape == (12, 4)
    graph = load("static_embedding").graph
    assert graph.values["place"].kind == "index"
    assert graph.values["place"].shape == (1,)


def test_an_image_of_any_width_gives_more_steps_the_wider_it_is():
    model = load("text_of_a_line")
    (x,), (y,) = golden(FOLDER / "text_of_a_line.keras")
    assert model.graph.layouts == {model.inputs[0]: "102"}
    wider = np.concatenate([x, x[:, :, :8]], axis=2)
    assert model.predict(wider).shape == (3, model.predict(x).shape[1] + 4, y.shape[2])
    with pytest.raises(cylstm.ShapeError, match=r"expected rank 4 \(batch, 32, time, 1\)"):
        model.predict(x[..., 0, 0])
    for k in range(len(x)):
        np.testing.assert_array_equal(model.predict(x[k]), model.predict(x)[k])


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_an_image_streams_column_by_column(engine):
    model = load("columns_one_by_one", engine=engine)
    (x,), _ = golden(FOLDER / "columns_one_by_one.keras")
    whole = model.predict(x)
    # a BLAS may add in another order where there are fewer columns
    atol = 1e-6 if engine == "blas" else 0

    def check(found, expected):
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    stream = model.stream(batch=len(x))
    pieces = [stream.run(np.ascontiguousarray(x[:, :, t : t + 5])) for t in range(0, x.shape[2], 5)]
    check(np.concatenate([piece[0] for piece in pieces], axis=1), whole[0])
    check(np.concatenate([piece[1] for piece in pieces], axis=2), whole[1])
    stream = model.stream(batch=len(x))
    steps = [stream.step(x[:, :, t]) for t in range(x.shape[2])]
    check(np.stack([step[0] for step in steps], axis=1), whole[0])
    check(np.stack([step[1] for step in steps], axis=2), whole[1])


@pytest.mark.parametrize("name", ["text_of_a_line", "sound_events", "video", "first_transposed", "volume_conv_same"])
def test_images_give_the_same_bits_everywhere(name, monkeypatch):
    model = load(name)
    (x,), _ = golden(FOLDER / f"{name}.keras")
    found = list_of(model.predict(x))
    for threads in (1, 3):
        for one, other in zip(list_of(model.predict(x, threads=threads)), found):
            np.testing.assert_array_equal(one, other)
    for row in range(len(x)):
        for one, other in zip(list_of(model.predict(x[row])), found):
            np.testing.assert_array_equal(one, other[row])
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        for one, other in zip(list_of(cylstm.Model(model.graph).predict(x)), found):
            np.testing.assert_array_equal(one, other)


def test_sequences_that_meet_step_by_step_have_one_length():
    model = load("words_and_tags")
    (words, tags, x), _ = golden(FOLDER / "words_and_tags.keras")
    assert [model.graph.values[name].shape for name in model.graph.inputs] == [(None,), (None,), (None, 3)]
    assert [y.shape for y in model.predict([words[:, :7], tags[:, :7], x[:, :7]])] == [(3, 7, 10), (3, 2)]
    with pytest.raises(cylstm.ShapeError, match="have one time, found 12 and 11 steps"):
        model.predict([words, tags, x[:, :11]])


def test_frames_of_an_unknown_number_stream_as_they_come():
    model = load("open_frames_conv1d_stride")
    (x,), (y,) = golden(FOLDER / "open_frames_conv1d_stride.keras")
    stream = model.stream(batch=len(x))
    for t in range(x.shape[1]):
        last = stream.step(x[:, t])
    np.testing.assert_array_equal(last, model.predict(x))
    np.testing.assert_allclose(last, y, atol=1e-6)


def test_causal_convolutions_stream_step_by_step():
    model = load("temporal_convolutions")
    (x,), _ = golden(FOLDER / "temporal_convolutions.keras")
    expected = model.predict(x)
    stream = model.stream(batch=len(x))
    for t in range(x.shape[1]):
        np.testing.assert_array_equal(stream.step(x[:, t]), expected[:, t])


def test_a_mask_that_no_layer_would_read_is_refused():
    model = load("temporal_convolutions")
    (x,), _ = golden(FOLDER / "temporal_convolutions.keras")
    with pytest.raises(cylstm.ShapeError, match="lengths: no layer reads a mask"):
        model.predict(x, lengths=[3] * len(x))
