"""Many streams in one: rows stepped, reset, taken out and put in one by one."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm import ShapeError
from cylstm.graph.builder import GraphBuilder

from tests import DATA
from tests.builders.networks import (
    bits,
    linear_state_dict,
    lstm_model,
    lstm_state_dict,
    random_states,
    same,
    same_states,
)
from tests.builders.threads import runs_that_meet

MATRIX = sorted((DATA / "goldens" / "matrix").glob("*.cylstm"))
SIZES = st.sampled_from([1, 3, 8, 16, 17, 33, 50, 64])
NETWORKS = st.fixed_dictionaries(
    {
        "input_size": SIZES,
        "hidden_size": SIZES,
        "num_layers": st.integers(1, 3),
        "last": st.booleans(),
        "outputs": st.sampled_from([1, 3, 16, 24]),
    }
)
SEEDS = st.integers(0, 2**32 - 1)


def state_row(state, row):
    return [tuple(array[row : row + 1] for array in parts) for parts in state]


def streaming_goldens():
    """Of every family of layers, the first models that stream."""
    models = {}
    for path in MATRIX:
        model = cylstm.load(path)
        if model.can_stream and len(model.inputs) == 1:
            models.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
    return [path for paths in models.values() for path in paths]


def random_input(rng, model, *shape):
    (value,) = model._packed.inputs
    if value.kind == "index":
        return rng.integers(0, model._packed.limits[value.name], (*shape, *value.shape[1:]))
    return rng.normal(size=(*shape, *value.shape[1:])).astype(np.float32)


def outputs_of(y):
    return y if isinstance(y, list) else [y]


def check_against_separate_streams(rng, model, batch, turns, threads=1, tolerance=None):
    """Random activity, steps and chunks, resets and moves; every row beside a stream of its own."""
    many = model.stream(batch, threads=threads)
    ones = [model.stream() for _ in range(batch)]
    state = random_states(rng, model, batch)
    many.state = state
    for row, one in enumerate(ones):
        one.state = state_row(state, row)

    def agree(a, b):
        return same(a, b) if tolerance is None else np.allclose(a, b, rtol=0, atol=tolerance)

    for _ in range(turns):
        active = rng.random(batch) < rng.choice([0.0, 0.2, 0.5, 0.9, 1.0])
        multiple = model._packed.step_multiple
        time = int(rng.choice([0, 1, 2, 5] if multiple == 1 else [multiple, 3 * multiple]))  # 0: a step
        x = random_input(rng, model, *((batch, time) if time else (batch,)))
        x[~active] = rng.choice([np.nan, np.inf, 3e38] if x.dtype.kind == "f" else [-7, 10**6])
        found = outputs_of(many.run(x, active=active) if time else many.step(x, active=active))
        for row, one in enumerate(ones):
            if active[row]:
                wanted = outputs_of(one.run(x[row]) if time else one.step(x[row]))
                assert all(agree(a[row], b) for a, b in zip(found, wanted))
            else:
                assert not any(bits(a[row]).any() for a in found)
        row, other = rng.integers(batch, size=2)
        match rng.integers(4):
            case 0:
                many.reset(row)
                ones[row].reset()
            case 1:
                many.replace(row, ones[other])
                ones[row] = ones[other].copy()
            case 2:
                many.replace(row, many.copy(other))
                ones[row].replace(0, ones[other].state)
    state = many.state
    for row, one in enumerate(ones):
        assert all(agree(a, b) for x, y in zip(state_row(state, row), one.state) for a, b in zip(x, y))


@settings(max_examples=60)
@given(NETWORKS, SEEDS, st.integers(1, 12), st.integers(1, 3))
def test_rows_give_the_bits_of_streams_of_their_own(network, seed, batch, threads):
    rng = np.random.default_rng(seed)
    check_against_separate_streams(rng, lstm_model(rng, **network), batch, 12, threads)


@settings(max_examples=20)
@given(SIZES, SIZES, SEEDS, st.sampled_from(["float32", "float64"]))
def test_rows_of_the_blas_engine_agree_with_streams_of_their_own(input_size, hidden_size, seed, dtype):
    rng = np.random.default_rng(seed)
    model = lstm_model(rng, input_size, hidden_size, num_layers=2, engine="blas", dtype=dtype)
    check_against_separate_streams(rng, model, 6, 12, tolerance=2e-6)


@pytest.mark.parametrize("path", streaming_goldens(), ids=lambda path: path.stem)
def test_rows_of_every_kind_of_layer_give_the_bits_of_streams_of_their_own(rng, path):
    check_against_separate_streams(rng, cylstm.load(path), 5, 10)


def convolution_graph(rng, stride):
    """Convolutions that carry history, of which one in groups, then an LSTM and normalisation."""
    builder = GraphBuilder()
    x = builder.input("input", (None, 6))
    wide = {"weight": rng.normal(size=(9, 3, 6)).astype("f"), "bias": rng.normal(size=9).astype("f")}
    y = builder.add("conv1d", "wide", {"x": x}, wide, {"padding": "causal", "dilation": 2, "activation": "tanh"})["y"]
    groups = {"weight": rng.normal(size=(9, 4, 3)).astype("f")}
    y = builder.add("conv1d", "groups", {"x": y}, groups, {"padding": "causal", "groups": 3, "stride": stride})["y"]
    lstm = {"weight_ih": rng.normal(size=(20, 9)).astype("f"), "weight_hh": rng.normal(size=(20, 5)).astype("f")}
    y = builder.add("lstm", "lstm", {"x": y}, lstm)["y"]
    y = builder.add("layer_norm", "norm", {"x": y}, {"gain": rng.normal(size=5).astype("f")})["y"]
    builder.output(builder.add("upsample", "twice", {"x": y}, options={"size": 2})["y"] if stride > 1 else y)
    return builder.build()


def word_graph(rng):
    """Indices that say which steps count."""
    builder = GraphBuilder()
    words = builder.input("words", (None,), indices=True)
    mask = builder.add("index_mask", "counts", {"indices": words})["mask"]
    y = builder.add("embedding", "table", {"indices": words}, {"weight": rng.normal(size=(4, 7)).astype("f")})["y"]
    gru = {"weight_ih": rng.normal(size=(15, 7)).astype("f"), "weight_hh": rng.normal(size=(15, 5)).astype("f")}
    builder.output(builder.add("gru", "gru", {"x": y, "mask": mask}, gru, {"padding": "repeat"})["y"])
    return builder.build()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "make", [partial(convolution_graph, stride=1), partial(convolution_graph, stride=3), word_graph]
)
def test_rows_carry_history_and_masks_with_them(rng, make, threads):
    check_against_separate_streams(rng, cylstm.Model(make(rng)), 7, 40, threads)


def test_an_index_out_of_range_is_named_in_active_rows_alone(rng):
    stream = cylstm.Model(word_graph(rng)).stream(3)
    words = np.array([[1, 99], [2, 3], [-1, 0]], np.int64)
    active = np.array([False, True, False])
    assert bits(stream.run(words, active=active)[1]).any()
    state = stream.state
    active[0] = True
    with pytest.raises(ShapeError, match="index 99 in row 0, position 1: expected 0 to 3"):
        stream.run(words, active=active)
    active[:] = False, True, True
    with pytest.raises(ShapeError, match="at least 0, found -1 in row 2, position 0"):
        stream.run(words, active=active)
    assert same_states(stream.state, state)


def test_the_goldens_have_streams_of_every_recurrent_layer():
    kinds = {layer.kind for path in streaming_goldens() for layer in cylstm.load(path).graph.layers}
    assert {"lstm", "gru", "rnn", "conv_lstm"} <= kinds


def test_inactive_rows_keep_their_states_and_give_zeros(rng):
    model = lstm_model(rng, 3, 21, num_layers=2)
    stream = model.stream(6)
    stream.run(rng.normal(size=(6, 4, 3)))
    before = stream.state
    active = np.array([False, True, True, False, False, True])
    y = stream.step(rng.normal(size=(6, 3)).astype(np.float32), active=active)
    after = stream.state
    for row in range(6):
        assert same_states(state_row(before, row), state_row(after, row)) != active[row]
        assert (y[row] != 0).all() if active[row] else not bits(y[row]).any()


def test_a_stream_without_active_rows_gives_zeros_and_changes_nothing(rng):
    stream = lstm_model(rng, 3, 21).stream(4)
    stream.run(rng.normal(size=(4, 4, 3)))
    before = stream.state
    none = np.zeros(4, bool)
    assert not bits(stream.step(np.full((4, 3), np.nan, np.float32), active=none)).any()
    assert not bits(stream.run(np.full((4, 5, 3), np.nan), active=none)).any()
    assert same_states(stream.state, before)


def test_a_stream_of_one_row_can_be_inactive(rng):
    stream = lstm_model(rng, 3, 9, outputs=2).stream()
    first = stream.step([1, 2, 3])
    stream.reset()
    np.testing.assert_array_equal(stream.step([1, 2, np.nan], active=[False]), [0, 0])
    assert same(stream.step([1, 2, 3], active=[True]), first)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, ">f4"])
@pytest.mark.parametrize("is_list", [False, True])
def test_a_step_of_any_dtype_and_any_mask_gives_the_same(rng, dtype, is_list):
    model = lstm_model(rng, 3, 9)
    x = rng.integers(-5, 5, (4, 3))
    active = np.array([True, False, True, True])
    expected = model.stream(4).step(x.astype(np.float32), active=active)
    stepped = np.repeat(active, 2)[::2] if not is_list else active.tolist()
    given_x = x.astype(dtype).tolist() if is_list else x.astype(dtype)
    assert same(model.stream(4).step(given_x, active=stepped), expected)


def test_what_inactive_rows_hold_never_warns(rng):
    stream = lstm_model(rng, 3, 9).stream(3)
    active = np.array([True, False, True])
    x = np.ones((3, 3))
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for garbage in (1e300, np.nan, -np.inf, 5e-324):
            x[1] = garbage
            assert np.isfinite(stream.step(x, active=active)).all()
            assert np.isfinite(stream.run(x[:, np.newaxis], active=active)).all()


def test_out_receives_the_rows_and_zeros(rng):
    model = lstm_model(rng, 3, 9, outputs=2)
    x = rng.normal(size=(3, 3)).astype(np.float32)
    active = np.array([False, False, True])
    expected = model.stream(3).step(x, active=active)
    out = np.full((3, 2), np.nan, np.float32)
    assert model.stream(3).step(x, active=active, out=out) is out
    assert same(out, expected)
    out[:] = np.nan
    assert model.stream(3).step(x.tolist(), active=active, out=out) is out
    assert same(out, expected)
    chunk = np.full((3, 4, 2), np.nan, np.float32)
    assert model.stream(3).run(np.repeat(x[:, np.newaxis], 4, 1), active=active, out=chunk) is chunk
    assert same(chunk[:, 0], expected) and not bits(chunk[:2]).any()


@pytest.mark.parametrize(
    "active, message",
    [
        (np.ones(3, bool), r"expected bool of shape \(4,\), found bool of shape \(3,\)"),
        (np.ones(4, np.uint8), "found uint8"),
        (np.ones(4), "found float64"),
        ([0, 2], f"found {np.dtype(int)}"),
        (np.ones((4, 1), bool), r"found bool of shape \(4, 1\)"),
        (True, r"found bool of shape \(\)"),
        ([[True], [True, False]], "active: expected 4 bools"),
        ("1111", "active: expected bool"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_and_changes_nothing(rng, active, message):
    stream = lstm_model(rng, 3, 9).stream(4)
    stream.step(np.ones((4, 3)))
    before = stream.state
    for advance, x in ((stream.step, np.ones((4, 3), np.float32)), (stream.run, np.ones((4, 2, 3)))):
        with pytest.raises(ShapeError, match=message):
            advance(x, active=active)
    with pytest.raises(ShapeError, match="expected 3 features"):
        stream.step(np.ones((4, 2), np.float32), active=np.ones(4, bool))
    assert same_states(stream.state, before)


ROWS = [
    (2, [2]),
    (-1, [4]),
    (np.int64(1), [1]),
    ([3, 0], [3, 0]),
    ((1, -2), [1, 3]),
    (np.array([4, 2], np.uint8), [4, 2]),
    (slice(1, 4), [1, 2, 3]),
    (slice(None, None, -2), [4, 2, 0]),
    (np.array([True, False, False, True, False]), [0, 3]),
]


@pytest.mark.parametrize("rows, indices", ROWS)
def test_rows_are_chosen_as_numpy_chooses(rng, rows, indices):
    model = lstm_model(rng, 3, 9, num_layers=2)
    stream = model.stream(5)
    stream.run(rng.normal(size=(5, 4, 3)))
    before = stream.state

    part = stream.copy(rows)
    assert part.batch == len(indices) and part.model is model
    for n, row in enumerate(indices):
        assert same_states(state_row(part.state, n), state_row(before, row))

    stream.reset(rows)
    zeros = model.stream().state
    for row in range(5):
        assert same_states(state_row(stream.state, row), zeros if row in indices else state_row(before, row))

    stream.replace(rows, part)
    assert same_states(stream.state, before)
    stream.reset()
    stream.replace(rows, part.state)
    for row in range(5):
        assert same_states(state_row(stream.state, row), state_row(before, row) if row in indices else zeros)


def test_choosing_no_row_resets_and_replaces_nothing(rng):
    model = lstm_model(rng, 3, 9)
    stream = model.stream(3)
    stream.step(np.ones((3, 3)))
    before = stream.state
    nothing = [tuple(array[:0] for array in parts) for parts in before]
    for rows in ([], slice(0, 0), np.zeros(3, bool)):
        stream.reset(rows)
        stream.replace(rows, nothing)
        with pytest.raises(ShapeError, match="at least one"):
            stream.copy(rows)
    assert same_states(stream.state, before)


@pytest.mark.parametrize(
    "rows", [5, -6, [0, 5], 1.0, [0.0], "1", True, [[0, 1]], np.ones(4, bool), slice("a"), [None], [[0], [1, 2]], 2**70]
)
def test_rows_that_do_not_exist_are_refused_and_nothing_changes(rng, rows):
    model = lstm_model(rng, 3, 9)
    stream = model.stream(5)
    stream.step(np.ones((5, 3)))
    before = stream.state
    for refuse in (stream.reset, stream.copy, lambda rows: stream.replace(rows, model.stream())):
        with pytest.raises(ShapeError, match="rows: "):
            refuse(rows)
    assert same_states(stream.state, before)


def test_a_source_that_does_not_fit_is_refused_and_nothing_changes(rng):
    model = lstm_model(rng, 3, 9)
    stream = model.stream(4)
    stream.step(np.ones((4, 3)))
    before = stream.state
    state = model.stream(2).state
    twin = cylstm.Model(model.graph)
    for rows, source, message in [
        ([0, 1], model.stream(3), "expected 2 rows, found a stream of 3"),
        (0, twin.stream(), "the same Model object"),
        ([1, 1], model.stream(2), "expected each row once"),
        ([1, -3], model.stream(2), "expected each row once"),
        (0, state, "expected shape"),
        ([0, 1], state[0], "state"),
        (0, None, "expected a list"),
    ]:
        with pytest.raises(ShapeError, match=message):
            stream.replace(rows, source)
    assert same_states(stream.state, before)
    stream.replace(0, twin.stream().state)  # a state is taken from anywhere


def test_rows_of_one_stream_change_places(rng):
    stream = lstm_model(rng, 3, 9).stream(3)
    stream.run(rng.normal(size=(3, 4, 3)))
    before = stream.state
    stream.replace([2, 0, 1], stream)
    for row, place in ((0, 2), (1, 0), (2, 1)):
        assert same_states(state_row(stream.state, place), state_row(before, row))


def test_one_rows_state_may_come_without_its_batch(rng):
    model = lstm_model(rng, 3, 9, num_layers=2)
    stream = model.stream(3)
    state = random_states(rng, model, 1)
    stream.replace(1, [tuple(array[0] for array in parts) for parts in state])
    assert same_states(state_row(stream.state, 1), state)


def test_copies_and_pickles_keep_rows_that_are_in_different_places(rng):
    model = lstm_model(rng, 3, 21, num_layers=2)
    stream = model.stream(5)
    for _ in range(9):
        stream.step(rng.normal(size=(5, 3)), active=rng.random(5) < 0.5)
    x = rng.normal(size=(7, 5, 3)).astype(np.float32)
    active = rng.random((7, 5)) < 0.5
    others = [stream.copy(), pickle.loads(pickle.dumps(stream))]
    rows = [stream.copy(row) for row in range(5)]
    expected = [stream.step(x[t], active=active[t]) for t in range(7)]
    for t in range(7):
        for other in others:
            assert same(other.step(x[t], active=active[t]), expected[t])
        for row in np.flatnonzero(active[t]):
            assert same(rows[row].step(x[t, row]), expected[t][row])


def test_a_server_moves_its_users_in_and_out_of_places(rng):
    """The design that the interface is for: fewer places than users, and every user's outputs are its own."""
    model = lstm_model(rng, 3, 17)
    x = rng.normal(size=(20, 6, 3)).astype(np.float32)
    places, seated, waiting = model.stream(3), [None] * 3, {}
    results = [[] for _ in range(6)]
    for x_t in x:
        users = rng.choice(6, size=3, replace=False)
        for place in range(3):
            if seated[place] is not None:
                waiting[seated[place]] = pickle.dumps(places.copy(place).state)
        for place, user in enumerate(users):
            if user in waiting:
                places.replace(place, pickle.loads(waiting.pop(user)))
            else:
                places.reset(place)
            seated[place] = user
        y = places.step(x_t[users])
        for place, user in enumerate(users):
            results[user].append((x_t[user], y[place]))
    for history in results:
        alone = model.stream()
        for x_t, y_t in history:
            assert same(alone.step(x_t), y_t)


def test_threads_that_share_a_stream_are_told_and_rows_stay_whole(rng):
    model = cylstm.from_state_dict(
        lstm_state_dict(rng, 30, 300) | linear_state_dict(rng, 300, 3), [cylstm.LSTM("lstm"), cylstm.Linear("fc")]
    )
    stream, x = model.stream(8), rng.normal(size=(8, 30, 30)).astype(np.float32)
    active = np.array([True, False] * 4)
    acts = [
        lambda: stream.run(x, active=active),
        lambda: stream.run(x, active=~active),
        lambda: stream.replace([1, 2], stream.copy([3, 4])),
    ]
    runs_that_meet(acts, least=20)
    stream.reset()
    alone = model.stream().run(x[0])
    assert same(stream.run(x, active=active)[0], alone)


@pytest.mark.parametrize("change", [lambda flags: b"", lambda flags: flags[:-1], lambda flags: flags + b"\1"])
def test_a_pickled_stream_with_flags_of_another_length_is_refused(rng, change):
    stream = lstm_model(rng, 3, 9, num_layers=2).stream(4)
    stream.step(np.ones((4, 3)))
    make, arguments = stream.__reduce__()
    assert sum(isinstance(argument, bytes) for argument in arguments) == 1
    assert make(*arguments).batch == 4
    arguments = [change(argument) if isinstance(argument, bytes) else argument for argument in arguments]
    with pytest.raises(cylstm.ShapeError, match="expected saved flags of .* bytes, found .* of another model"):
        make(*arguments)
