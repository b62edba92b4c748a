"""Whole PyTorch networks through `from_torch`: PyTorch's numbers, and the same bits however they are computed."""

import copy
import os
import pickle
import re

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names

from tests import DATA
from tests.builders.networks import bits, same
from tests.builders.promise import check

torch = pytest.importorskip("torch")
torch_models = pytest.importorskip("tests.builders.torch_models")

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def predictions(model, arrays, **options):
    found = model.predict(arrays if len(arrays) > 1 else arrays[0], **options)
    return found if isinstance(found, list) else [found]


def write_golden(name, model, arrays, theirs, ours):
    """The model, its inputs, PyTorch's outputs and the bits of ours, for test_goldens.py."""
    folder = DATA / "goldens" / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"torch_{name.replace(' ', '_')}.cylstm"
    model.save(path)
    kept = {f"x{i}": array for i, array in enumerate(arrays)}
    kept |= {f"y{i}": array for i, array in enumerate(theirs)} | {f"ours{i}": array for i, array in enumerate(ours)}
    np.savez_compressed(path.with_suffix(".npz"), **kept)


@pytest.mark.parametrize("name", torch_models.CASES)
def test_a_network_gives_torchs_numbers(name, tmp_path, record_property):
    case = torch_models.CASES[name]
    module, tensors = torch_models.build(name)
    with torch.no_grad():
        theirs = [one.numpy() for one in torch_models.leaves(module(*tensors))]
        model = cylstm.from_torch(module, inputs=case.inputs)
        exact = copy.deepcopy(module).double()(*[one.double() if one.is_floating_point() else one for one in tensors])
    exact = [one.numpy() for one in torch_models.leaves(exact)]
    arrays = [one.numpy() for one in tensors]
    worst = 0.0
    found = predictions(model, arrays)
    for engine in ("packed", "blas"):
        ours = predictions(cylstm.Model(model.graph, engine=engine), arrays)
        worst = max([worst, *(check(*three) for three in zip(ours, theirs, exact, strict=True))])
    record_property("worst_error", float(worst))

    for n in range(len(arrays[0])):
        for one, whole in zip(predictions(model, [array[n] for array in arrays]), found, strict=True):
            np.testing.assert_array_equal(bits(one), bits(np.ascontiguousarray(whole[n])))
    model.save(tmp_path / "model.cylstm")
    for one, whole in zip(predictions(cylstm.load(tmp_path / "model.cylstm"), arrays), found, strict=True):
        np.testing.assert_array_equal(bits(np.ascontiguousarray(one)), bits(np.ascontiguousarray(whole)))
    if case.streams is not None:
        assert model.can_stream == case.streams
    if os.environ.get("CYLSTM_WRITE_GOLDENS") and name in torch_models.GOLDENS:
        write_golden(name, model, arrays, theirs, found)


SELECTED = ["wavenet", "voice detector", "attention pooling", "encoder and decoder", "self attention", "unet", "tcn"]


@pytest.mark.parametrize("name", SELECTED)
def test_a_network_gives_the_same_bits_everywhere(name, monkeypatch):
    module, tensors = torch_models.build(name)
    model = cylstm.from_torch(module, inputs=torch_models.CASES[name].inputs)
    arrays = [one.numpy() for one in tensors]
    found = predictions(model, arrays)
    for threads in (2, 3):
        for one, other in zip(predictions(model, arrays, threads=threads), found):
            assert same(one, other)
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        for one, other in zip(predictions(cylstm.Model(model.graph), arrays), found):
            assert same(one, other)


@pytest.mark.parametrize("name", ["wavenet", "voice detector", "tcn"])
def test_a_streamed_network_gives_the_bits_of_the_whole(name):
    module, tensors = torch_models.build(name)
    model = cylstm.from_torch(module)
    x = tensors[0].numpy()  # (batch, channels, time)
    whole = model.predict(x)
    steps = model._packed.step_multiple
    axis = 2 if name == "tcn" else 1
    for sizes in ((1, 3, 2, 14), (20,), (7, 13)):
        stream, pieces, start = model.stream(len(x)), [], 0
        for size in sizes:
            pieces.append(stream.run(np.ascontiguousarray(x[:, :, start : start + size * steps])))
            start += size * steps
        assert same(np.concatenate(pieces, axis=axis), whole)


def test_arrays_lie_as_the_module_has_them_with_and_without_batch_and_in_out():
    module, (x,) = torch_models.build("tcn")
    model = cylstm.from_torch(module)
    y = model.predict(x.numpy())
    out = np.empty((3, 8, 20), np.float32)
    assert model.predict(x.numpy(), out=out) is out
    assert same(out, np.ascontiguousarray(y))
    assert model.predict(x.numpy()[0]).shape == (8, 20)
    with pytest.raises(cylstm.ShapeError, match=r"batch, 5, time"):
        model.predict(x.numpy()[0, 0])
    with pytest.raises(cylstm.ShapeError, match="5 features"):
        model.predict(x.numpy().transpose(0, 2, 1))
    with pytest.raises(cylstm.ShapeError, match="out"):
        model.predict(x.numpy(), out=np.empty((3, 20, 8), np.float32))


def test_layouts_come_back_from_packed_and_pickled_models_and_damaged_ones_are_refused(tmp_path):
    module, (x,) = torch_models.build("raw sound")
    model = cylstm.from_torch(module)
    y = model.predict(x.numpy())
    model.save(tmp_path / "packed.cylstm", packed=True)
    for again in (cylstm.load(tmp_path / "packed.cylstm"), pickle.loads(pickle.dumps(model))):
        assert same(np.ascontiguousarray(again.predict(x.numpy())), np.ascontiguousarray(y))
    (name,) = model.outputs
    for layouts in (
        {name: "01"},
        {name: "00"},
        {name: ""},
        {name: "2"},
        {name: 0},
        {"other": "0"},
        {"c": "0", "d": "0"},
    ):
        damaged = cylstm.Model(model.graph._replace(layouts=layouts))
        damaged.save(tmp_path / "damaged.cylstm")
        if layouts == {name: "01"}:
            assert cylstm.load(tmp_path / "damaged.cylstm").graph.layouts == layouts
            continue
        with pytest.raises(cylstm.FormatError, match="layout"):
            cylstm.load(tmp_path / "damaged.cylstm")


def test_a_network_with_the_time_first_takes_the_batch_first():
    torch.manual_seed(1)
    nn = torch.nn
    module = torch_models.Traced(lambda m, x: m.out(m.rnn(x)[0]), rnn=nn.LSTM(6, 7), out=nn.Linear(7, 2)).eval()
    x = np.random.default_rng(1).normal(size=(9, 4, 6)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    found = cylstm.from_torch(module).predict(x.transpose(1, 0, 2))
    np.testing.assert_allclose(found, expected.transpose(1, 0, 2), rtol=0, atol=2e-6)


def test_a_mask_of_padding_is_what_predict_is_given():
    torch.manual_seed(2)
    nn = torch.nn
    module = torch_models.Two(
        lambda m, x, y: m.a(m.fc(x), m.fc(x), m.fc(x), key_padding_mask=y, need_weights=False)[0],
        a=nn.MultiheadAttention(8, 2, batch_first=True),
        fc=nn.Linear(6, 8),
    ).eval()
    x = np.random.default_rng(1).normal(size=(3, 9, 6)).astype(np.float32)
    padding = np.arange(9) >= np.array([9, 4, 1])[:, np.newaxis]
    with torch.no_grad():
        expected = module(torch.from_numpy(x), torch.from_numpy(padding)).numpy()
    model = cylstm.from_torch(module, inputs={"x": ("N", "T", 6)})
    assert model.inputs == ("x",)
    np.testing.assert_allclose(model.predict(x, mask=~padding), expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(model.predict(x, lengths=[9, 4, 1]), model.predict(x, mask=~padding))


def packed_sequences(m, x, lengths=None):
    if lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    y, (h, _) = m.rnn(x)
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    return m.out(h[-1]), y


def test_packed_sequences_are_what_predict_is_given_with_lengths():
    torch.manual_seed(3)
    nn = torch.nn
    packing = nn.utils.rnn.pack_padded_sequence
    module = torch_models.Two(packed_sequences, rnn=nn.LSTM(6, 7, 2, batch_first=True), out=nn.Linear(7, 2)).eval()
    x = np.random.default_rng(1).normal(size=(3, 9, 6)).astype(np.float32)
    lengths = [4, 9, 1]
    with torch.no_grad():
        expected = module(torch.from_numpy(x), torch.tensor(lengths))
    model = cylstm.from_torch(module)
    assert nn.utils.rnn.pack_padded_sequence is packing
    assert model.inputs == ("x",)
    for one, other in zip(model.predict(x, lengths=lengths), expected):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            lambda m, x, n, pack, pad: pad(m.rnn(pack(x, (n > 2).sum(1), True))[0], True)[0],
            r"say total_length=x.size\(1\)",
        ),
        (lambda m, x, n, pack, pad: pad(m.rnn(pack(x, torch.tensor([4, 3, 2]), True))[0], True)[0], "for each row"),
        (
            lambda m, x, n, pack, pad: pad(m.rnn(pack(x, torch.full((len(x),), 4), True))[0], True)[0],
            "no argument of the forward",
        ),
        (lambda m, x, n, pack, pad: pad(m.rnn(pack(x, n.cpu()))[0])[0], "batch_first=False, and recurrent layers"),
        (
            lambda m, x, n, pack, pad: pad(m.rnn(pack(x, n.cpu(), True))[0])[0],
            "batch_first=False, and recurrent layers",
        ),
        (lambda m, x, n, pack, pad: pad(m.rnn(pack(x, n, True))[0], True, total_length=9)[0], "a total_length"),
        (lambda m, x, n, pack, pad: pad(m.rnn(pack(x, n, True))[0], True, padding_value=-1.0)[0], "a padding_value"),
        (lambda m, x, n, pack, pad: pad(m.rnn(pack(x, n, True))[0], True)[0][:, -1], "the layer's state"),
        (lambda m, x, n, pack, pad: torch.relu(pad(m.rnn(pack(x, n, True))[0], True)[0])[:, -1], "the layer's state"),
        (lambda m, x, n, pack, pad: m.out(pad(m.rnn(pack(x, n, True))[0], True)[0])[:, -1], "the layer's state"),
    ],
)
def test_a_packed_sequence_whose_plain_one_would_give_other_numbers_is_refused(forward, message):
    def packs(m, x, lengths):
        rnn = torch.nn.utils.rnn
        return forward(m, x, lengths, rnn.pack_padded_sequence, rnn.pad_packed_sequence)

    module = torch_models.Two(packs, rnn=torch.nn.GRU(6, 7, batch_first=True), out=torch.nn.Linear(7, 2)).eval()
    with pytest.raises(cylstm.UnsupportedError, match=message):
        cylstm.from_torch(module)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_softmax_in_a_narrower_type_is_refused(name):
    function = getattr(torch.nn.functional, name)
    module = torch_models.Traced(lambda m, x: function(m.out(x), -1, dtype=torch.float16), out=torch.nn.Linear(6, 4))
    with pytest.raises(cylstm.UnsupportedError, match="computed in torch.float16 is not supported"):
        cylstm.from_torch(module.eval(), inputs=[("N", "T", 6)])
    module = torch_models.Traced(lambda m, x: function(m.out(x), -1, dtype=torch.float32), out=torch.nn.Linear(6, 4))
    assert cylstm.from_torch(module.eval(), inputs=[("N", "T", 6)]).outputs


@pytest.mark.parametrize(
    ("forward", "inputs", "message"),
    [
        (lambda m, x: m.rnn(x)[0] if x.size(0) > 8 else x, ("N", "T", 6), "does not see"),
        (lambda m, x: m.rnn(x)[0] if x.size(1) > 8 else x, ("N", "T", 6), "does not see"),
        (lambda m, x: m.rnn(x)[0] if x.mean() > 0 else x, ("N", "T", 6), "depends on the numbers"),
        (
            lambda m, x: torch.stack([x[:, t] * 2 for t in range(x.shape[1])], dim=1),
            ("N", "T", 6),
            "a loop over the time",
        ),
        (
            lambda m, x: torch.stack([m.rnn(one[None])[0] for one in x]),
            ("N", 4, 6),
            "a loop over the batch, or a choice by its size, mixes the rows",
        ),
    ],
)
def test_what_forward_does_must_not_depend_on_the_batch_or_on_a_time_of_any_length(forward, inputs, message):
    module = refused(forward, rnn=torch.nn.GRU(6, 6, batch_first=True))
    with pytest.raises(cylstm.CylstmError, match=message):
        cylstm.from_torch(module, inputs=inputs)


def test_a_module_in_training_is_taken_as_in_evaluation_and_left_as_it_is():
    nn = torch.nn
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    module.train()
    module[0].eval()
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    with pytest.warns(UserWarning, match="training mode"):
        found = cylstm.from_torch(module).predict(x)
    assert [part.training for part in module] == [False, True, True, True]
    with torch.no_grad():
        np.testing.assert_allclose(found, module.eval()(torch.from_numpy(x)).numpy(), rtol=0, atol=2e-6)


def branches(m, x):
    return m.a(x) if x.sum() > 0 else x


def refused(forward, **layers):
    return torch_models.Traced(forward, **layers).eval()


def refusals():
    """Modules, the shapes of their inputs and what the error says."""
    nn, F = torch.nn, torch.nn.functional
    linear, conv = nn.Linear(6, 6), nn.Conv1d(6, 6, 1)
    steps = ("N", "T", 6)
    return [
        (refused(branches, a=linear), None, "control flow"),
        (refused(lambda m, x: m.a(x).mean(), a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: m.a(x).mean(0), a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: m.a(x)[0], a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: m.a(x)[1:], a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: torch.cat([m.a(x), x]), a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: m.a(x).cumsum(0), a=linear), None, "mixes (the|its) rows"),
        (refused(lambda m, x: m.a(x).reshape(-1, 3), a=linear), None, "mixes (the|its) rows|put them apart"),
        (refused(lambda m, x: m.a(x).reshape(-1, 6), a=linear), steps, "put them apart again"),
        (refused(lambda m, x: m.a(x).reshape(x.size(0) * x.size(1), 6), a=linear), steps, "put them apart again"),
        (refused(lambda m, x: m.a(x)[x[:, 0] > 0], a=linear), None, "numbers in a tensor|depends on the numbers"),
        (refused(lambda m, x: torch.nonzero(m.a(x)), a=linear), None, "numbers in a tensor|depends on the numbers"),
        (refused(lambda m, x: m.a(x) + torch.randn(6), a=linear), None, "draws random numbers"),
        (refused(lambda m, x: torch.fft.rfft(m.a(x)).abs(), a=linear), None, "fft_rfft.default is not supported"),
        (refused(lambda m, x: F.interpolate(m.a(x), scale_factor=1.5), a=conv), None, "resizing the time"),
        (refused(lambda m, x: F.interpolate(m.a(x), scale_factor=2, mode="linear"), a=conv), None, "mode='nearest'"),
        (nn.Sequential(conv, nn.MaxPool1d(2, return_indices=True)).eval(), None, "return_indices"),
        (nn.Sequential(conv, nn.BatchNorm1d(6, track_running_stats=False)).eval(), None, "running statistics"),
        (nn.Sequential(nn.Linear(6, 6), nn.Embedding(3, 4)).eval(), None, "Embedding|embedding|indices"),
        (nn.Sequential(nn.ReLU()).eval(), None, r"inputs=\["),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(refusals())))
def test_what_is_not_computed_is_refused_by_name(number):
    module, inputs, message = refusals()[number]
    with pytest.raises(cylstm.CylstmError, match=message):
        cylstm.from_torch(module, inputs=inputs)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: torch.cumsum(m.a(x), 1),
        lambda m, x: m.a(x).masked_fill(x > 0, 1.0),
        lambda m, x: m.a(x).sort(2)[0],
        lambda m, x: m.a(x)[:, :, [1, 2, 5]],
        lambda m, x: m.a(x).max(2)[1].float(),
        lambda m, x: (lambda y: (y[:, :, :2].add_(1), y)[1])(m.a(x)),
        lambda m, x: m.a(x) if x.size(0) * 0 + 1 == 1 else x,
        lambda m, x: m.c(m.a(x).transpose(1, 2)),
        lambda m, x: m.a(x.reshape(-1, 6))[:, 2:].view(len(x), -1, 4),
        lambda m, x: torch.where(m.a(x) > 0.1, x.sqrt().nan_to_num(), torch.exp(-x)),
    ],
)
def test_operations_beside_the_layers_give_torchs_numbers(forward):
    torch.manual_seed(4)
    nn = torch.nn
    conv = nn.utils.weight_norm(nn.Conv1d(6, 4, 1))
    module = refused(forward, a=nn.Linear(6, 6), c=nn.Sequential(conv, nn.LPPool1d(2, 2)))
    x = np.random.default_rng(1).normal(size=(3, 8, 6)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    found = cylstm.from_torch(module, inputs=("N", "T", 6)).predict(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_what_needs_the_number_of_steps_says_so():
    nn = torch.nn
    for module, message in (
        (
            nn.Sequential(nn.Conv1d(7, 4, 3), nn.Flatten(), nn.Linear(72, 5)),
            r"say the shapes of the inputs.*inputs=\[\('N', 7, 'T'\)\]",
        ),
        (
            refused(lambda m, x: m.a(x)[0][:, -3:], a=nn.GRU(6, 4, batch_first=True)),
            r"number of steps in advance; .*inputs=\[",
        ),
    ):
        with pytest.raises(cylstm.CylstmError, match=message):
            cylstm.from_torch(module.eval())


@pytest.mark.parametrize(
    "inputs", [("T", 6), ("N", "N", 6), ("N", "T", "T"), ("N", 0), {"z": ("N", 6)}, [("N", 6), ("N", 6)], ("N", -1)]
)
def test_shapes_that_make_no_sense_are_refused(inputs):
    with pytest.raises(cylstm.FormatError, match="inputs"):
        cylstm.from_torch(torch.nn.Sequential(torch.nn.Linear(6, 2)), inputs=inputs)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(11, 2)), "('N', 'T', 11)"),
        (torch.nn.Sequential(torch.nn.GRU(5, 2)), "('N', 'T', 5)"),
        (torch.nn.Sequential(torch.nn.LSTMCell(4, 2)), "('N', 'T', 4)"),
        (torch.nn.Sequential(torch.nn.Embedding(9, 2), torch.nn.Linear(2, 2)), "('N', 'T')"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Conv2d(3, 2, 3)), "('N', 3, 32, 'T')"),
    ],
)
def test_the_hint_about_shapes_is_as_wide_as_the_first_layer(module, shape):
    with pytest.raises(cylstm.FormatError, match=re.escape(f"such as {shape}; found")):
        cylstm.from_torch(module, inputs=[("N", "N")])
