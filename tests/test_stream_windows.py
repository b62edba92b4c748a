"""Windows that move along: each step of a stream is the prediction of the last steps, bit for bit."""

import pickle
import warnings
from copy import copy
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm import CylstmWarning, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.inputs import to_layout
from cylstm.summary import summary_text

from tests import DATA
from tests.builders.networks import bits, lstm_model, reloaded, same
from tests.builders.threads import runs_that_meet
from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_keras,
)

GOLDENS = DATA / "goldens"


SIZES = st.sampled_from([1, 3, 8, 17, 33, 50])


NETWORKS = st.fixed_dictionaries(
    {
        "input_size": SIZES,
        "hidden_size": SIZES,
        "num_layers": st.integers(1, 3),
        "last": st.booleans(),
        "bidirectional": st.booleans(),
        "outputs": st.sampled_from([1, 3, 24]),
    }
)


def goldens():
    """Of every family of layers some models, and the whole networks."""
    paths = {}
    for path in sorted((GOLDENS / "matrix").glob("*.cylstm")):
        paths.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
    return [path for found in paths.values() for path in found[:3]] + sorted((GOLDENS / "networks").glob("*.cylstm"))


def list_of(y):
    return y if isinstance(y, list) else [y]


def random_inputs(rng, model, batch, steps):
    """Of every input (batch, steps, ...), or (batch, ...) without time."""
    found = []
    for value in model._packed.inputs:
        shape = (batch, *((steps,) if value.has_time else ()), *value.step_shape)
        if value.kind == "index":
            found.append(rng.integers(0, model._packed.limits.get(value.name, 5), shape))
        else:
            found.append(rng.normal(size=shape).astype(np.float32))
    return found


def given_as(model, arrays, *, is_step=False):
    """One input as an array, several as a list, their axes in the order that the user has; a step has one order."""
    layouts = {} if is_step else model.graph.layouts
    arrays = [
        to_layout(array, layouts[value.name], len(value.shape)) if value.name in layouts else array
        for value, array in zip(model._packed.inputs, arrays)
    ]
    return arrays if len(arrays) > 1 else arrays[0]


class Rows:
    """What the rows of a windowed stream should give: each keeps its own steps, and is predicted alone."""

    def __init__(self, model, batch, window):
        self.model, self.window = model, window
        self.past = [[] for _ in range(batch)]
        self.vectors = [None] * batch

    def take(self, row, arrays):
        for t in range(max(a.shape[1] for a, v in zip(arrays, self.model._packed.inputs) if v.has_time)):
            self.past[row].append([a[row, t] for a, v in zip(arrays, self.model._packed.inputs) if v.has_time])
        self.vectors[row] = [a[row] for a, v in zip(arrays, self.model._packed.inputs) if not v.has_time]

    def predicted(self, row):
        """None before there are as many steps."""
        past = self.past[row][-self.window :]
        if len(past) < self.window:
            return None
        steps, vectors = iter(range(len(past[0]))), iter(self.vectors[row])
        x = [
            np.stack([one[next_] for one in past])[np.newaxis]
            if value.has_time and (next_ := next(steps)) is not None
            else next(vectors)[np.newaxis]
            for value in self.model._packed.inputs
        ]
        return [y[0] for y in list_of(self.model.predict(given_as(self.model, x)))]


def check_windows(rng, model, batch, window, turns, threads=1, tolerance=None):
    """Random activity, steps and chunks, resets and moves; every row beside predictions of its own."""
    stream, rows = model.stream(batch, threads=threads, window=window), Rows(model, batch, window)
    for _ in range(turns):
        active = rng.random(batch) < rng.choice([0.2, 0.7, 1.0, 1.0])
        time = int(rng.choice([0, 0, 1, 2, window, window + 3]))  # 0: a step
        arrays = random_inputs(rng, model, batch, time or 1)
        for row in np.flatnonzero(active):
            rows.take(row, arrays)
        x = [a[:, 0] if not time and v.has_time else a for a, v in zip(arrays, model._packed.inputs)]
        x, call = given_as(model, x, is_step=not time), stream.run if time else stream.step
        found = list_of(call(x) if active.all() else call(x, active=active))
        for row in range(batch):
            wanted = rows.predicted(row) if active[row] else [np.zeros_like(y[row]) for y in found]
            for y, one in zip(found, wanted or found):
                if wanted is None:
                    assert np.isnan(y[row]).all()
                elif tolerance is None:
                    assert y[row].shape == one.shape and same(y[row], one)
                else:
                    np.testing.assert_allclose(y[row], one, rtol=0, atol=tolerance)
        row, other = (int(place) for place in rng.integers(batch, size=2))
        match rng.integers(6):
            case 0:
                stream.reset(row)
                rows.past[row] = []
            case 1:
                stream.replace(row, stream.copy(other))
                rows.past[row], rows.vectors[row] = list(rows.past[other]), rows.vectors[other]
            case 2:
                stream = pickle.loads(pickle.dumps(stream))
            case 3:
                stream = copy(stream)
    return rows


@settings(max_examples=50)
@given(NETWORKS, st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 3))
def test_steps_give_the_bits_of_predictions(network, seed, batch, window, threads):
    rng = np.random.default_rng(seed)
    check_windows(rng, lstm_model(rng, **network), batch, window, 3 * window + 6, threads)


@pytest.mark.parametrize("engine, dtype, tolerance", [("blas", "float32", 2e-6), ("blas", "float64", 1e-12)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_steps_of_the_blas_engine_agree_with_predictions(rng, engine, dtype, tolerance, bidirectional):
    model = lstm_model(rng, 7, 19, num_layers=2, bidirectional=bidirectional, engine=engine, dtype=dtype)
    check_windows(rng, model, 5, 6, 40, tolerance=tolerance)


@pytest.mark.parametrize("path", goldens(), ids=lambda path: path.stem)
def test_steps_of_every_kind_of_layer_give_the_bits_of_predictions(rng, path):
    model = cylstm.load(path)
    window = model.graph.window or 9
    try:
        model.predict(given_as(model, random_inputs(rng, model, 2, window)))
    except ShapeError:
        window = 40  # a convolution with strides
    check_windows(rng, model, 3, window, 14)


def weights(rng, *shapes):
    return [rng.normal(0.0, 0.5, shape).astype(np.float32) for shape in shapes]


def rnn(rng, builder, name, x, hidden, *, mask=None, **options):
    ih, hh = weights(rng, (hidden, x.features), (hidden, hidden))
    inputs = {"x": x} if mask is None else {"x": x, "mask": mask}
    return builder.add("rnn", name, inputs, {"weight_ih": ih, "weight_hh": hh}, options)


def masking_graph(rng):
    """Steps of zeros do not count, and the input is read by two layers in two directions."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    masked = builder.add("masking", "masking", {"x": x}, options={"mask_value": 0.0})
    there = rnn(rng, builder, "there", x, 5, mask=masked["mask"], padding="repeat")
    back = rnn(rng, builder, "back", x, 4, reverse=True)
    builder.output(there["y"])
    builder.output(back["h"])
    return builder.build()


def two_input_graph(rng):
    """A sequence, a sequence of indices and a vector."""
    builder = GraphBuilder()
    x, words, still = (
        builder.input("x", (None, 9)),
        builder.input("words", (None,), indices=True),
        builder.input("still", (4,)),
    )
    (table,) = weights(rng, (6, 5))
    read = builder.add("embedding", "table", {"indices": words}, {"weight": table})["y"]
    ends = [rnn(rng, builder, "first", x, 20)["h"], rnn(rng, builder, "second", read, 4, reverse=True)["h"], still]
    builder.output(
        builder.add("merge", "all", {"x": ends[0], "x1": ends[1], "x2": ends[2]}, {}, {"mode": "concat"})["y"]
    )
    return builder.build()


def fixed_graph(rng):
    """All steps side by side: the time is known in advance."""
    builder = GraphBuilder()
    x = builder.input("x", (6, 3))
    y = builder.add("reshape", "flat", {"x": rnn(rng, builder, "rnn", x, 5)["y"]}, options={"shape": "30"})["y"]
    (weight,) = weights(rng, (2, 30))
    builder.output(builder.add("dense", "dense", {"x": y}, {"weight": weight})["y"])
    return builder.build()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("make", [masking_graph, two_input_graph, fixed_graph])
def test_masks_several_inputs_and_fixed_times_give_the_bits_of_predictions(rng, make, batch, threads):
    check_windows(rng, cylstm.Model(make(rng)), batch, 6, 40, threads)


def test_steps_of_zeros_that_a_masking_layer_leaves_out_do_not_count(rng):
    model = cylstm.Model(masking_graph(rng))
    stream, x = model.stream(window=4), rng.normal(size=(12, 3)).astype(np.float32)
    x[[2, 5, 6, 7, 8]] = 0.0
    for t in range(12):
        found = stream.step(x[t])
        if t >= 3:
            assert all(same(a, b) for a, b in zip(found, model.predict(x[t - 3 : t + 1])))


def test_more_rows_than_one_thread_takes_at_once(rng):
    model = lstm_model(rng, 3, 17, last=True)
    for threads in (1, 3):
        stream = model.stream(130, threads=threads, window=5)
        x = rng.normal(size=(130, 8, 3)).astype(np.float32)
        assert np.isnan(stream.run(x[:, :4])).all()
        for t in range(4, 8):
            assert same(stream.step(x[:, t]), model.predict(x[:, t - 4 : t + 1]))


def test_a_window_longer_than_the_pieces_that_a_sequence_is_run_in(rng):
    # pieces of 109 steps: there is room for 32,768 numbers of the widest value
    model = lstm_model(rng, 9, 300, last=True)
    stream, x = model.stream(window=250), rng.normal(size=(260, 9)).astype(np.float32)
    assert np.isnan(stream.run(x[:40])).all()
    for first, last in ((40, 257), (257, 258), (258, 260)):
        assert same(stream.run(x[first:last]), model.predict(x[last - 250 : last]))


def test_results_are_nan_until_a_row_has_had_as_many_steps(rng):
    model = lstm_model(rng, 3, 9, last=True)
    stream, x = model.stream(3, window=4), rng.normal(size=(3, 3)).astype(np.float32)
    for _ in range(3):
        assert np.isnan(stream.step(x)).all()
    assert np.isfinite(stream.step(x)).all()
    stream.reset([1])
    y = stream.step(x, active=np.array([True, True, False]))
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all() and not bits(y[2]).any()
    stream.reset()
    assert np.isnan(stream.step(x)).all()


def test_a_result_has_the_shape_that_predict_gives(rng):
    sequences, last = lstm_model(rng, 3, 9), lstm_model(rng, 3, 9, last=True)
    for model, shape in ((sequences, (4, 3)), (last, (3,))):
        one, many = model.stream(window=4), model.stream(2, window=4)
        x = np.ones(3, np.float32)
        assert one.step(x).shape == shape and one.step([x]).shape == (1, *shape)
        assert many.step([x, x]).shape == many.run(np.ones((2, 7, 3))).shape == (2, *shape)
        assert one.run(np.ones((2, 3))).shape == shape and one.step(x).dtype == np.float32


def test_each_step_returns_a_fresh_array_or_out(rng):
    model = lstm_model(rng, 3, 9, last=True)
    stream, x = model.stream(2, window=2), rng.normal(size=(2, 5, 3)).astype(np.float32)
    kept = [stream.step(x[:, t]) for t in range(5)]
    for t in range(1, 5):
        assert same(kept[t], model.predict(x[:, t - 1 : t + 1]))
    out = np.empty((2, 3), np.float32)
    assert stream.step(x[:, 0], out=out) is out
    assert same(out, model.predict(x[:, [4, 0]]))
    assert stream.run(x, out=out, active=np.array([False, True])) is out
    assert not bits(out[0]).any() and same(out[1], model.predict(x[1, 3:]))
    with pytest.raises(ShapeError, match="out: expected a writable"):
        stream.step(x[:, 0], out=np.empty((2, 2, 3), np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, ">f4"])
def test_any_real_dtype_is_converted(rng, dtype):
    model = lstm_model(rng, 3, 9)
    stream, x = model.stream(window=3), rng.integers(-4, 4, (6, 3)).astype(dtype)
    for t in range(6):
        y = stream.step(x[t])
    assert same(y, model.predict(x[3:])) and same(stream.run(x.tolist()), y)
    assert same(stream._step_any(x[5], None, None), model.predict(x[[4, 5, 5]]))


def test_a_window_has_no_running_state(rng):
    model = lstm_model(rng, 3, 9)
    stream = model.stream(2, window=3)
    assert stream.window == 3 and isinstance(stream, cylstm.Stream) and "window=3" in repr(stream)
    assert model.stream(2, window=None).window is None
    with pytest.raises(UnsupportedError, match=r"made by Model.stream\(window=...\)"):
        cylstm.Stream(model, 2, 1, 3)
    message = "window=3 has no running state: each step is predicted from a zero state"
    with pytest.raises(UnsupportedError, match=message):
        stream.state  # noqa: B018
    with pytest.raises(UnsupportedError, match=message):
        stream.state = model.stream(2).state
    with pytest.raises(UnsupportedError, match=message):
        stream.replace([0, 1], model.stream(2).state)


def test_only_windows_of_the_same_model_and_length_exchange_rows(rng):
    model, other = lstm_model(rng, 3, 9), lstm_model(rng, 3, 9)
    stream = model.stream(2, window=3)
    for source in (model.stream(window=4), other.stream(window=3), model.stream()):
        with pytest.raises(ShapeError, match="same Model object with window=3"):
            stream.replace(0, source)
    with pytest.raises(ShapeError, match="expected 2 rows, found a stream of 1"):
        stream.replace([0, 1], model.stream(window=3))
    with pytest.raises(ShapeError, match="expected each row once"):
        stream.replace([0, 0], stream)
    with pytest.raises(ShapeError, match="same Model object without window"):
        model.stream(2).replace([0, 1], stream)
    with pytest.raises(ShapeError, match="at least one, found none"):
        stream.copy([])


def test_a_damaged_pickle_is_refused(rng):
    stream = lstm_model(rng, 3, 9).stream(2, window=3)
    make, (model, batch, threads, window, arrays, counts) = stream.__reduce__()
    for wrong in (
        ([arrays[0][:, :2]], counts),
        ([], counts),
        ([arrays[0].astype(np.float64)], counts),
        (arrays, counts[:1]),
        (arrays, counts - 1),
    ):
        with pytest.raises(ShapeError, match="the saved steps are of another model"):
            make(model, batch, threads, window, *wrong)


@pytest.mark.parametrize("window", [0, -3, 2.5, "3", True, 1 << 28])
def test_a_window_that_makes_no_sense_is_refused(rng, window):
    with pytest.raises(ShapeError, match="window: expected a whole number of at least 1, or None"):
        lstm_model(rng, 3, 9).stream(window=window)


def test_windows_that_a_network_cannot_have_are_refused(rng):
    fixed = cylstm.Model(fixed_graph(rng))
    with pytest.raises(ShapeError, match="window: input 'x' has 6 steps, found 5"):
        fixed.stream(window=5)
    with pytest.raises(UnsupportedError, match=r"fixed number of steps, 6.*; stream\(window=6\) predicts"):
        fixed.stream()
    builder = GraphBuilder()
    (weight,) = weights(rng, (2, 3))
    builder.output(builder.add("dense", "dense", {"x": builder.input("x", (3,))}, {"weight": weight})["y"])
    with pytest.raises(UnsupportedError, match="'x' has no time axis"):
        cylstm.Model(builder.build()).stream(window=3)
    builder = GraphBuilder()
    (weight,) = weights(rng, (2, 5, 3))
    options = {"padding": "valid", "reach": 5}
    builder.output(
        builder.add("conv1d", "wide", {"x": builder.input("x", (None, 3))}, {"weight": weight}, options)["y"]
    )
    with pytest.raises(ShapeError, match="3 steps are too few for layer 'wide'"):
        cylstm.Model(builder.build()).stream(window=3)


def test_what_cannot_stream_names_the_window(rng):
    with pytest.raises(UnsupportedError, match=r"backward direction.*; stream\(window=n\) predicts"):
        lstm_model(rng, 3, 9, bidirectional=True).stream()


def test_a_step_that_does_not_fit_is_refused_and_changes_nothing(rng):
    model = lstm_model(rng, 3, 9)
    stream, x = model.stream(2, window=3), rng.normal(size=(2, 4, 3)).astype(np.float32)
    stream.run(x[:, :3])
    for wrong, message in ((x[:, 0, :2], "3 features"), (x[:1, 0], "batch of 2"), ("x", "real numbers"), (x, "rank")):
        with pytest.raises(ShapeError, match=message):
            stream.step(wrong)
    with pytest.raises(ShapeError, match="active: expected bool"):
        stream.step(x[:, 0], active=[1, 0])
    assert same(stream.step(x[:, 3]), model.predict(x[:, 1:]))


def test_an_index_out_of_range_is_refused_and_changes_nothing(rng):
    model = cylstm.Model(two_input_graph(rng))
    stream, arrays = model.stream(2, window=3), random_inputs(rng, model, 2, 3)
    before = stream.run(arrays)
    wrong = [arrays[0], arrays[1].copy(), arrays[2]]
    wrong[1][1, 2] = 6
    with pytest.raises(ShapeError, match="index 6 in row 1, position 2: expected 0 to 5"):
        stream.run(wrong)
    stream.run([a[:, :1] if a.ndim > 1 and i < 2 else a for i, a in enumerate(arrays)])
    assert same(stream.run(arrays), before)


def test_threads_that_share_a_window_are_told(rng):
    stream = lstm_model(rng, 30, 300).stream(batch=8, window=30)
    x = np.zeros((8, 60, 30), np.float32)
    runs_that_meet([lambda: stream.run(x)] * 2)
    assert np.isfinite(stream.run(x)).all()


def write(path, rng, *shape, **options):
    """A Keras model with an input of this shape: LSTM -> Dense."""
    lstm = keras_lstm("lstm", 5, **options)
    model = keras_model(keras_input(*shape), lstm, keras_dense("out", 2))
    groups = {"layers/lstm/cell": keras_lstm_weights(rng, 3, 5), "layers/dense": keras_dense_weights(rng, 5, 2)}
    return write_keras(path, model, groups)


def told(act):
    """The warnings of ours that `act` gives."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        act()
    return [str(one.message) for one in found if issubclass(one.category, CylstmWarning)]


@pytest.mark.parametrize("steps, text", [(24, "24 steps"), (1, "1 step")])
def test_the_window_that_a_file_states_is_kept_and_said_once(tmp_path, rng, steps, text):
    model = cylstm.load(write(tmp_path / "net.keras", rng, steps, 3))
    for one in [model, *reloaded(model, tmp_path), pickle.loads(pickle.dumps(model))]:
        assert one.graph.window == steps
        assert f"trained on windows of {text} from a zero state" in summary_text(one)
        assert not told(partial(one.stream, window=None)) and not told(partial(one.stream, window=steps))
        (message,) = told(one.stream)
        assert f"trained on windows of {text} from a zero state" in message
        assert f"stream(window={steps})" in message and "stream(window=None)" in message
        assert not told(one.stream)


def test_the_rows_of_an_image_are_no_steps(rng):
    builder = GraphBuilder()
    weight = builder.tensor("w", rng.standard_normal((2, 3, 3, 1)).astype("f4"))
    builder.output(builder.add("conv2d", "conv", {"x": builder.input("x", (32, 8, 1))}, {"weight": weight})["y"])
    text = summary_text(cylstm.Model(builder.build()))
    assert "rows of its images: 32" in text and "windows" not in text


def test_the_warning_points_at_the_call(tmp_path, rng):
    model = cylstm.load(write(tmp_path / "net.keras", rng, 24, 3))
    with pytest.warns(CylstmWarning) as found:
        model.stream()
    assert found[0].filename == __file__


def test_no_window_is_stated_by_a_file_that_states_none(tmp_path, rng):
    model = cylstm.load(write(tmp_path / "net.keras", rng, None, 3))
    plain = lstm_model(rng, 3, 9)
    for one in (model, plain):
        assert one.graph.window is None and "window" not in summary_text(one) and not told(one.stream)


def test_a_stateful_model_means_the_running_state(tmp_path, rng):
    path = write(tmp_path / "net.keras", rng, 24, 3, stateful=True)
    with pytest.warns(CylstmWarning, match="stateful=True"):
        model = cylstm.load(path)
    assert model.graph.window is None and "windows" not in summary_text(model) and not told(model.stream)
    x = rng.normal(size=(30, 3)).astype(np.float32)
    assert same(model.stream(window=24).run(x), model.predict(x[-24:]))


def test_a_stream_that_is_copied_or_pickled_warns_no_more(tmp_path, rng):
    model = cylstm.load(write(tmp_path / "net.keras", rng, 24, 3))
    stream = model.stream(window=None)
    assert not told(lambda: pickle.loads(pickle.dumps(stream.copy())))


@pytest.mark.frameworks
def test_a_torch_module_states_a_window_where_its_inputs_are_fixed():
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.fc = torch.nn.LSTM(3, 5, batch_first=True), torch.nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(self.lstm(x)[0][:, -1])

    module = Net().eval()
    assert cylstm.from_torch(module).graph.window is None
    model = cylstm.from_torch(module, inputs=[("N", 6, 3)])
    assert model.graph.window == 6
    x = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    found = model.stream(window=6).run(x)
    with torch.no_grad():
        np.testing.assert_allclose(found, module(torch.tensor(x[np.newaxis, 3:]))[0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_live_keras_model_states_its_window(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = [keras.layers.LSTM(5), keras.layers.Dense(2)]
    assert cylstm.from_keras(keras.Sequential([keras.Input((24, 3)), *layers])).graph.window == 24
    assert cylstm.from_keras(keras.Sequential([keras.Input((None, 3)), *layers])).graph.window is None
    built = keras.Sequential([keras.layers.GRU(4), keras.layers.Dense(1)])
    built.build((None, 7, 2))
    assert cylstm.from_keras(built).graph.window == 7
    a, b = keras.Input((6, 3)), keras.Input((8, 3))
    both = keras.layers.Concatenate()([keras.layers.LSTM(4)(a), keras.layers.LSTM(4)(b)])
    assert cylstm.from_keras(keras.Model([a, b], both)).graph.window is None


def test_a_window_counts_the_steps_of_each_row(rng):
    stream = lstm_model(rng, 3, 9).stream(3, window=4)
    x = rng.normal(size=(3, 6, 3)).astype(np.float32)
    stream.run(x)
    stream.step(x[:, 0], active=np.array([True, False, True]))
    stream.reset(2)
    assert stream.steps.tolist() == [7, 6, 0]
    assert stream.copy([1, 0]).steps.tolist() == [6, 7]
    assert pickle.loads(pickle.dumps(stream)).steps.tolist() == [7, 6, 0]


def test_a_window_given_to_methods_of_stream_by_name_is_refused_or_served(rng):
    stream = lstm_model(rng, 3, 9).stream(2, window=3)
    stream.run(np.ones((2, 4, 3), np.float32))
    for call in (
        lambda: cylstm.Stream.__reduce__(stream),
        lambda: cylstm.Stream.state.__get__(stream),
        lambda: cylstm.Stream._restore(stream, [(np.ones((2, 9)), np.ones((2, 9)))], b""),
    ):
        with pytest.raises(UnsupportedError, match="has no running state"):
            call()
    assert cylstm.Stream.copy(stream).window == 3
    cylstm.Stream.reset(stream)
    assert cylstm.Stream.steps.__get__(stream).tolist() == [0, 0]


def test_a_stream_that_was_not_made_is_refused(rng):
    model = lstm_model(rng, 3, 9)
    stream = model.stream()
    for method in (stream.__init__, stream._create):
        with pytest.raises((AttributeError, TypeError)):
            method(model)
    for kind in (cylstm.Stream, type(model.stream(window=2))):
        bare = kind.__new__(kind)
        for call in (
            lambda bare=bare: bare.step(np.ones(3, np.float32)),
            lambda bare=bare: bare.run(np.ones((2, 3), np.float32)),
            lambda bare=bare: bare._run_arrays([], [], 1, None),
            bare.reset,
            bare.copy,
            lambda bare=bare: bare.steps,
            lambda bare=bare: bare.state,
            lambda bare=bare: stream._copy_rows(np.zeros(1, np.int64), bare, np.zeros(1, np.int64)),
        ):
            with pytest.raises((AttributeError, cylstm.CylstmError)):
                call()


def test_inputs_that_fix_different_steps_have_no_window(rng):
    builder = GraphBuilder()
    parts = []
    for name, steps in (("a", 5), ("b", 7)):
        x = builder.input(name, (steps, 2))
        parts.append(builder.add("reshape", f"{name}.flat", {"x": x}, options={"shape": "-1"})["y"])
    options = {"mode": "concat", "axis": 0}
    y = builder.add("merge", "y", {"x": parts[0], "x1": parts[1]}, options=options)["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    with pytest.raises(UnsupportedError) as raised:
        model.stream()
    assert "window" not in str(raised.value)
