"""The differential matrix against PyTorch: LSTM, GRU and RNN over their options, states and packed lengths."""

import numpy as np
import pytest

import cylstm

from tests import reference
from tests.builders.configurations import configurations, label, seed
from tests.builders.matrix_goldens import record
from tests.builders.networks import bits, random_states
from tests.builders.promise import check

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

TIME, BATCH = 8, 4

SHARED = {
    "sizes": [(5, 19), (1, 16), (7, 3), (33, 70)],
    "num_layers": [1, 2, 3],
    "bias": [True, False],
    "bidirectional": [False, True],
    "lengths": [None, (8, 1, 5, 8)],
    "initial": [True, False],
}
OPTIONS = {
    "LSTM": {**SHARED, "proj_size": [0, 2]},
    "GRU": SHARED,
    "RNN": {**SHARED, "nonlinearity": ["tanh", "relu"]},
}
CASES = [
    pytest.param(name, configuration, id=f"{name} {label(configuration, options)}")
    for name, options in OPTIONS.items()
    for configuration in configurations(options)
]


@pytest.mark.parametrize("name, configuration", CASES)
def test_a_configuration_gives_torchs_numbers(name, configuration, tmp_path, record_property):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed(name, configuration))
    options = dict(configuration)
    lengths, initial, (input_size, hidden_size) = (options.pop(key) for key in ("lengths", "initial", "sizes"))
    layer = getattr(torch.nn, name)(input_size, hidden_size, batch_first=True, **options)
    scale = 0.5 if name == "LSTM" else 1.5 / np.sqrt(hidden_size)
    layer.load_state_dict(
        {
            key: torch.from_numpy(rng.uniform(-scale, scale, tensor.shape).astype(np.float32))
            for key, tensor in layer.state_dict().items()
        }
    )
    model = cylstm.from_torch(layer)
    x = rng.normal(size=(BATCH, TIME, input_size)).astype(np.float32)
    state = random_states(rng, model, BATCH) if initial else None
    mask = np.arange(TIME) < np.array(lengths)[:, np.newaxis] if lengths else None

    given = None
    if initial:
        stacked = tuple(torch.from_numpy(np.stack(parts)) for parts in zip(*state))
        given = stacked if name == "LSTM" else stacked[0]
    source = torch.from_numpy(x)
    if lengths:
        source = torch.nn.utils.rnn.pack_padded_sequence(source, torch.tensor(lengths), True, enforce_sorted=False)
    with torch.no_grad():
        sequence, final = layer(source, given)
    if lengths:
        sequence, _ = torch.nn.utils.rnn.pad_packed_sequence(sequence, batch_first=True, total_length=TIME)
    final = final if name == "LSTM" else (final,)
    theirs = [sequence.numpy(), *(part[k].numpy() for k in range(len(final[0])) for part in final)]
    (exact,), exact_final = reference.predict(model.graph, x, mask=mask, initial_state=state)
    exact = [exact, *(part for parts in exact_final for part in parts)]

    worst = 0.0
    for engine in ("packed", "blas"):
        ours = cylstm.Model(model.graph, engine=engine)
        y, found = ours.predict(x, lengths=lengths, initial_state=state, return_state=True)
        found = [y, *(part for parts in found for part in parts)]
        worst = max([worst, *(check(*three) for three in zip(found, theirs, exact, strict=True))])
    record_property("worst_error", float(worst))
    record((f"torch_{name}", configuration), model, x, theirs[:1], every=14, mask=mask, initial_state=state)

    model.save(tmp_path / "model.cylstm")
    again = cylstm.load(tmp_path / "model.cylstm").predict(x, lengths=lengths, initial_state=state)
    np.testing.assert_array_equal(bits(again), bits(model.predict(x, lengths=lengths, initial_state=state)))
    if model.can_stream and not lengths:
        stream = model.stream(BATCH)
        if initial:
            stream.state = state
        steps = np.stack([stream.step(x[:, t]) for t in range(TIME)], axis=1)
        np.testing.assert_array_equal(bits(steps), bits(again))
