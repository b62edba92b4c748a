"""Stream: steps, chunks, states, copies, and what is refused."""

import copy
import pickle
import threading

import numpy as np
import pytest

import cylstm
from cylstm import ShapeError, StreamBusyError, UnsupportedError
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.networks import bits, linear_state_dict, lstm_model, random_states, same_states
from tests.builders.threads import runs_that_meet


def test_steps_match_the_float64_reference(rng):
    for engine, dtype, tolerance in (
        ("packed", "float32", 2e-6),
        ("blas", "float32", 2e-6),
        ("blas", "float64", 1e-13),
    ):
        model = lstm_model(rng, 3, 21, num_layers=2, engine=engine, dtype=dtype)
        x = rng.normal(size=(4, 15, 3))
        stream = model.stream(batch=4)
        y = np.stack([stream.step(x[:, t]) for t in range(15)], axis=1)
        (expected,), states = reference.predict(model.graph, x.astype(dtype))
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
        for found, wanted in zip(stream.state, states):
            for a, b in zip(found, wanted):
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_each_step_returns_a_fresh_array_of_the_inputs_rank(rng):
    stream = lstm_model(rng, 3, 9, outputs=2).stream()
    first = stream.step(np.ones(3, np.float32))
    kept = first.copy()
    second = stream.step(np.ones((1, 3), np.float32))
    assert first.shape == (2,) and second.shape == (1, 2)
    np.testing.assert_array_equal(first, kept)
    assert stream.run(np.ones((5, 3), np.float32)).shape == (5, 2)
    assert stream.run(np.ones((1, 5, 3), np.float32)).shape == (1, 5, 2)


def test_any_real_dtype_is_converted_in_a_step(rng):
    model = lstm_model(rng, 3, 9)
    expected = model.stream().step(np.array([1, 2, 3], np.float32))
    strided = np.array([1, 0, 2, 0, 3, 0], np.float32)[::2]
    for x in ([1, 2, 3], np.array([1, 2, 3]), np.array([1, 2, 3], np.float64), strided, strided.astype(">f4")):
        np.testing.assert_array_equal(model.stream().step(x), expected)


def test_out_receives_the_step(rng):
    model = lstm_model(rng, 3, 9, outputs=2)
    stream = model.stream()
    out = np.full(2, np.nan, np.float32)
    assert stream.step(np.ones(3, np.float32), out=out) is out
    np.testing.assert_array_equal(out, model.stream().step([1, 1, 1]))
    chunk = np.full((4, 2), np.nan, np.float32)
    assert stream.run(np.ones((4, 3)), out=chunk) is chunk
    for bad in (np.zeros(3, np.float32), np.zeros(2), np.zeros((1, 2), np.float32), [0, 0], np.zeros(4, "f")[::2]):
        with pytest.raises(ShapeError, match="out"):
            stream.step(np.ones(3, np.float32), out=bad)


def two_ends(rng):
    """Two inputs of 3 features and two outputs of 3."""
    builder = GraphBuilder()
    for name in ("a", "b"):
        weights = {
            "weight_ih": rng.normal(size=(12, 3)).astype(np.float32),
            "weight_hh": rng.normal(size=(12, 3)).astype(np.float32),
            "bias": rng.normal(size=12).astype(np.float32),
        }
        builder.output(builder.add("lstm", f"lstm_{name}", {"x": builder.input(name, (None, 3))}, weights)["y"])
    return cylstm.Model(builder.build())


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_an_output_that_shares_memory_with_an_input_is_refused(rng, engine):
    model = lstm_model(rng, 3, 9, engine=engine)
    memory = rng.normal(size=(5, 2, 3)).astype(np.float32)
    flat, one, stream = memory.reshape(-1), model.stream(), model.stream(2)
    stream.run(memory.transpose(1, 0, 2))
    before, shifted = stream.state, flat[3:9].reshape(2, 3)
    for call, x, out in (
        (stream.step, memory[0], memory[0]),
        (stream.step, memory[0], shifted),
        (stream.step, shifted, memory[0]),
        (stream.step, memory[1], shifted),
        (stream.run, memory[:2], memory[:2]),
        (one.step, flat[:3], flat[2:5]),
        (one.step, flat[2:5], flat[:3]),
    ):
        with pytest.raises(ShapeError, match="out: shares memory with an input"):
            call(x, out=out)
    assert same_states(stream.state, before)
    # beside each other they are welcome, and so is what is copied before it is read
    x, active = memory[2].copy(), np.array([True, False])
    expected = stream.copy().step(x)
    np.testing.assert_array_equal(bits(stream.copy().step(x, out=memory[3])), bits(expected))
    np.testing.assert_array_equal(bits(stream.copy().step(memory[2], out=memory[3])), bits(expected))
    expected[1] = 0
    np.testing.assert_allclose(stream.copy().step(x, out=x, active=active), expected, rtol=0, atol=1e-6)


def test_outputs_that_share_memory_are_refused(rng):
    model = two_ends(rng)
    x = [rng.normal(size=(2, 4, 3)).astype(np.float32) for _ in "ab"]
    expected, memory = model.predict(x), np.zeros((4, 4, 3), np.float32)
    stream = model.stream(2)
    for out, message in (
        ([x[0], memory[:2]], "shares memory with an input"),
        ([memory[:2], x[0]], "shares memory with an input"),
        ([memory[:2], x[1]], "shares memory with an input"),
        ([memory[:2], memory[:2]], "two of its arrays share memory"),
        ([memory[:2], memory[1:3]], "two of its arrays share memory"),
    ):
        for call in (model.predict, stream.run):
            with pytest.raises(ShapeError, match=f"out: {message}"):
                call(x, out=out)
        steps = [np.ascontiguousarray(array[:, 0]) for array in x]
        with pytest.raises(ShapeError, match="out: shares memory with an input"):
            stream.step(steps, out=[steps[1], np.zeros((2, 3), np.float32)])
    for found, wanted in zip(stream.run(x, out=[memory[:2], memory[2:]]), expected):
        np.testing.assert_array_equal(bits(found), bits(wanted))


def test_an_output_that_shares_memory_with_a_state_or_a_mask_is_refused(rng):
    model = lstm_model(rng, 3, 9, outputs=9)
    x, memory = rng.normal(size=(60, 4, 3)).astype(np.float32), np.zeros((60, 4, 9), np.float32)
    state = [(memory[:, 0].copy(), memory.reshape(240, 9)[:60])]
    with pytest.raises(ShapeError, match="out: shares memory with an input"):
        model.predict(x, initial_state=state, out=memory)
    mask = memory.view(np.bool_).reshape(-1)[:240].reshape(60, 4)
    mask[...] = True
    with pytest.raises(ShapeError, match="out: shares memory with an input"):
        model.predict(x, mask=mask, out=memory)


def test_arrays_that_are_not_aligned_are_copied_or_refused(rng):
    def unaligned(array):
        found = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        found[...] = array
        assert not found.flags.aligned
        return found

    model = lstm_model(rng, 3, 9)
    x, state = rng.normal(size=(2, 4, 3)).astype(np.float32), random_states(rng, model, 2)
    expected, stream = model.predict(x, initial_state=state), model.stream(2)
    shifted = [tuple(unaligned(array) for array in parts) for parts in state]
    np.testing.assert_array_equal(bits(model.predict(unaligned(x), initial_state=shifted)), bits(expected))
    stream.state = shifted
    np.testing.assert_array_equal(bits(stream.run(unaligned(x))), bits(expected))
    for call in (model.predict, stream.run):
        with pytest.raises(ShapeError, match="out: expected a writable .*, not aligned"):
            call(x, out=unaligned(expected))


def test_what_does_not_fit_a_stream_is_refused_before_anything_changes(rng):
    model = lstm_model(rng, 3, 9, num_layers=2)
    stream = model.stream(2)
    stream.step(np.ones((2, 3), np.float32))
    before = stream.state
    state = random_states(rng, model, 2)
    flags = stream.__reduce__()[1][-1]
    for bad_state, bad_flags, message in (
        (state, b"", "expected saved flags of 20 bytes, found 0 bytes"),
        (state, bytes(21), "expected saved flags of 20 bytes, found 21 bytes"),
        (state, None, "found NoneType"),
        ([state[0], state[1][:1]], flags, "layer 'lstm.l1'"),
        ([state[0], (state[1][0], state[1][1][:, :3])], flags, "layer 'lstm.l1'"),
    ):
        with pytest.raises(ShapeError, match=message):
            stream._restore(bad_state, bad_flags)
        assert same_states(stream.state, before)
    with pytest.raises(ShapeError, match="layer 'lstm.l1'"):
        stream.state = [state[0], (state[1][0], state[1][1][:, :3])]
    assert same_states(stream.state, before)
    with pytest.raises(ShapeError, match="layer 'lstm.l1'"):
        stream.replace([0, 1], [state[0], (state[1][0], state[1][1][:, :3])])
    assert same_states(stream.state, before)
    stream._restore(state, flags)
    assert same_states(stream.state, state)


def test_a_running_stream_hands_out_no_state(rng):
    """Reading, setting, saving: each of one moment, or refused while another thread is inside."""
    model = lstm_model(rng, 30, 300, num_layers=3)
    stream, x = model.stream(4), rng.normal(size=(4, 200, 30)).astype(np.float32)
    twin, moments = model.stream(4), [model.stream(4).state]
    for _ in range(3):
        twin.run(x)
        moments.append(twin.state)

    def run():
        for _ in range(3):
            while True:
                try:
                    stream.run(x)
                    break
                except StreamBusyError:
                    pass

    worker = threading.Thread(target=run)
    worker.start()
    while worker.is_alive():
        for look in (
            lambda: stream.state,
            lambda: pickle.loads(pickle.dumps(stream)).state,
            lambda: stream.copy().state,
        ):
            try:
                found = look()
            except StreamBusyError:
                continue
            assert any(same_states(found, moment) for moment in moments)
    worker.join()
    assert same_states(stream.state, moments[-1])


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros(4, np.float32), "expected 3 features, found 4"),
        (np.zeros((2, 3), np.float32), "expected a batch of 1, found 2"),
        (np.zeros((1, 1, 3), np.float32), "expected rank 2"),
        (np.float32(0), "expected rank 2"),
        (np.zeros((0, 3), np.float32), "at least one sample"),
        (np.zeros(3, complex), "complex128"),
        (np.zeros(3, object), "object"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_and_changes_nothing(rng, x, message):
    stream = lstm_model(rng, 3, 9).stream()
    stream.step(np.ones(3, np.float32))
    before = stream.state
    with pytest.raises(ShapeError, match=message):
        stream.step(x)
    np.testing.assert_array_equal(stream.state[0][0], before[0][0])


@pytest.mark.parametrize(
    "chunk, message",
    [
        (np.zeros((5, 4), np.float32), "expected 3 features, found 4"),
        (np.zeros((2, 5, 3), np.float32), "expected a batch of 1, found 2"),
        (np.zeros(3, np.float32), "expected rank 3"),
        (np.zeros((0, 3), np.float32), "at least one sample and one step"),
        (np.zeros((5, 3), object), "object"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(rng, chunk, message):
    with pytest.raises(ShapeError, match=message):
        lstm_model(rng, 3, 9).stream().run(chunk)


def test_state_reads_copies_and_sets_checked(rng):
    model = lstm_model(rng, 3, 9, num_layers=2)
    stream = model.stream(batch=2)
    state = random_states(rng, model, 2)
    stream.state = state
    for found, wanted in zip(stream.state, state):
        for a, b in zip(found, wanted):
            np.testing.assert_array_equal(a, b)
    stream.state[0][0][:] = 7
    np.testing.assert_array_equal(stream.state[0][0], state[0][0])
    with pytest.raises(ShapeError, match="layer 'lstm.l1'"):
        stream.state = [state[0], (state[1][0],)]
    np.testing.assert_array_equal(stream.state[0][0], state[0][0])


def test_a_state_without_batch_fits_a_stream_of_one_row(rng):
    stream = lstm_model(rng, 3, 9).stream()
    stream.state = [(np.full(9, 0.5), np.full(9, 0.25))]
    assert stream.state[0][0].shape == (1, 9)


def test_reset_goes_back_to_the_start(rng):
    stream = lstm_model(rng, 3, 9).stream()
    x = np.ones(3, np.float32)
    first = stream.step(x)
    stream.step(x)
    stream.reset()
    np.testing.assert_array_equal(bits(stream.step(x)), bits(first))


def test_copies_and_pickles_go_on_by_themselves(rng):
    model = lstm_model(rng, 3, 9, num_layers=2)
    stream = model.stream(batch=2)
    x = rng.normal(size=(10, 2, 3)).astype(np.float32)
    for t in range(5):
        stream.step(x[t])
    others = [stream.copy(), copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))]
    expected = [stream.step(x[t]) for t in range(5, 10)]
    for other in others:
        assert other.batch == 2
        for t in range(5, 10):
            np.testing.assert_array_equal(bits(other.step(x[t])), bits(expected[t - 5]))


def test_last_streams(rng):
    model = lstm_model(rng, 3, 9, last=True)
    stream = model.stream()
    x = rng.normal(size=(6, 3)).astype(np.float32)
    steps = [stream.step(x_t) for x_t in x]
    np.testing.assert_array_equal(bits(steps[-1]), bits(model.predict(x)))
    assert stream.run(x).shape == (3,)


def test_what_cannot_stream_says_which_layer_and_why(rng):
    model = lstm_model(rng, 3, 9, bidirectional=True)
    assert not model.can_stream
    with pytest.raises(
        UnsupportedError, match=r"layer 'lstm.l0.reverse' cannot run step by step: a backward direction"
    ):
        model.stream()
    dense = cylstm.from_state_dict(linear_state_dict(rng, 3, 2), [cylstm.Linear("fc")])
    with pytest.raises(UnsupportedError, match="no time axis"):
        dense.stream()


@pytest.mark.parametrize("batch", [0, -1, 1.0, "1", None, True])
def test_a_batch_that_makes_no_sense_is_refused(rng, batch):
    with pytest.raises(ShapeError, match="batch: expected"):
        lstm_model(rng, 3, 9).stream(batch)


def test_two_threads_in_one_stream_are_told(rng):
    stream = lstm_model(rng, 30, 400).stream(batch=8)
    x = np.zeros((8, 60, 30), np.float32)
    runs_that_meet([lambda: stream.run(x)] * 2)
    assert np.isfinite(stream.run(x)).all()
