"""One model and one input give the same float32 bits whatever the instruction set, threads, batch and chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm.engine._engine import isa_names

from tests.builders.networks import lstm_model, random_states, same, same_states

SIZES = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 20, 31, 33, 50, 64, 67])
NETWORKS = st.fixed_dictionaries(
    {
        "input_size": SIZES,
        "hidden_size": SIZES,
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "last": st.booleans(),
        "outputs": st.sampled_from([1, 3, 16, 24, 65]),
    }
)
STREAMING = NETWORKS.map(lambda network: network | {"bidirectional": False})
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=25)
@given(NETWORKS, SEEDS, st.integers(1, 9), st.integers(1, 12))
def test_every_instruction_set_gives_the_same_bits(network, seed, batch, time):
    rng = np.random.default_rng(seed)
    graph = lstm_model(rng, **network).graph
    x = rng.normal(size=(batch, time, network["input_size"])).astype(np.float32)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for isa in isa_names():
            patch.setenv("CYLSTM_ISA", isa)
            model = cylstm.Model(graph)
            state = random_states(np.random.default_rng(seed), model, batch)
            results.append(model.predict(x, initial_state=state, return_state=True))
    for y, state in results[1:]:
        assert same(y, results[0][0])
        assert same_states(state, results[0][1])


@settings(max_examples=60)
@given(NETWORKS, SEEDS, st.integers(1, 60), st.integers(1, 40), st.data())
def test_any_number_of_threads_gives_the_same_bits(network, seed, batch, time, data):
    rng = np.random.default_rng(seed)
    model = lstm_model(rng, **network)
    x = rng.normal(size=(batch, time, network["input_size"])).astype(np.float32)
    state = random_states(rng, model, batch)
    y, final = model.predict(x, initial_state=state, return_state=True, threads=1)
    threads = data.draw(st.integers(2, 4), label="threads")
    y2, final2 = model.predict(x, initial_state=state, return_state=True, threads=threads)
    assert same(y, y2)
    assert same_states(final, final2)
    # one row on several threads: they divide the units instead of the rows
    one = model.predict(x[:1], initial_state=[tuple(s[:1] for s in parts) for parts in state], threads=threads)
    assert same(one, y[:1])


@settings(max_examples=60)
@given(NETWORKS, SEEDS, st.integers(2, 110), st.integers(1, 12))
def test_a_row_alone_gives_the_bits_it_gives_inside_a_batch(network, seed, batch, time):
    rng = np.random.default_rng(seed)
    model = lstm_model(rng, **network)
    x = rng.normal(size=(batch, time, network["input_size"])).astype(np.float32)
    state = random_states(rng, model, batch)
    mask = rng.random((batch, time)) > 0.3
    y = model.predict(x, initial_state=state, mask=mask)
    for row in rng.choice(batch, size=min(batch, 5), replace=False):
        alone = [tuple(s[row : row + 1] for s in parts) for parts in state]
        assert same(y[row], model.predict(x[row], initial_state=alone, mask=mask[row]))
    part = slice(0, batch // 2 + 1)
    assert same(
        y[part], model.predict(x[part], initial_state=[tuple(s[part] for s in p) for p in state], mask=mask[part])
    )


@settings(max_examples=60)
@given(STREAMING, SEEDS, st.integers(1, 9), st.integers(1, 60), st.data())
def test_steps_and_chunks_give_the_bits_of_the_whole_sequence(network, seed, batch, time, data):
    rng = np.random.default_rng(seed)
    model = lstm_model(rng, **network)
    x = rng.normal(size=(batch, time, network["input_size"])).astype(np.float32)
    initial = random_states(rng, model, batch)
    whole, final = model.predict(x, initial_state=initial, return_state=True)
    stream = model.stream(batch, threads=data.draw(st.integers(1, 2), label="threads"))
    stream.state = initial
    pieces, at = [], 0
    while at < time:
        steps = data.draw(st.integers(1, time - at), label="chunk")
        pieces.append(stream.run(x[:, at : at + steps]))
        at += steps
    assert same_states(stream.state, final)
    stream.state = initial
    single = [stream.step(x[:, t]) for t in range(time)]
    assert same_states(stream.state, final)
    if network["last"]:
        assert same(pieces[-1], whole)
        assert same(single[-1], whole)
    else:
        assert same(np.concatenate(pieces, axis=1), whole)
        assert same(np.stack(single, axis=1), whole)


def test_a_sequence_longer_than_a_chunk_gives_the_bits_of_its_steps(rng):
    model = lstm_model(rng, 7, 70, num_layers=2)
    x = rng.normal(size=(1, 3001, 7)).astype(np.float32)
    stream = model.stream()
    steps = np.array([stream.step(x_t) for x_t in x[0]])
    assert same(model.predict(x, threads=1)[0], steps)
    assert same(model.predict(x, threads=2)[0], steps)


def test_the_last_step_that_counts_is_found_across_chunks(rng):
    model = lstm_model(rng, 7, 70, last=True)
    x = rng.normal(size=(3, 3000, 7)).astype(np.float32)
    lengths = np.array([5, 3000, 1700])
    together = model.predict(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert same(together[row], model.predict(x[row, :length]))


def test_the_callers_floating_point_mode_changes_no_bits(rng):
    torch = pytest.importorskip("torch")
    model = lstm_model(rng, 3, 20)
    x = (rng.normal(size=(200, 3)) * 1e-30).astype(np.float32)
    expected = model.predict(x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        found = model.predict(x)
    finally:
        torch.set_flush_denormal(False)
    assert same(expected, found)
