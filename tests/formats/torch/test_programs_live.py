"""What goes wrong silently in programs: writes in place, sizes that coincide, numbers that depend on the time."""

import warnings

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, ShapeError, UnsupportedError
from cylstm.formats.torch.live import convert_module

torch = pytest.importorskip("torch")
Denoiser = pytest.importorskip("tests.builders.torch_models").Denoiser
nn = torch.nn
F = nn.functional

pytestmark = pytest.mark.frameworks


class Net(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(x)


class Kept(Net):
    """Of which some steps count."""

    def forward(self, x, keep):
        return self.function(x, keep)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def assert_like(model, module, *arrays):
    """`model` predicts what `module` gives, of a copy of the arrays."""
    with torch.no_grad():
        expected = module(*(torch.from_numpy(array.copy()) for array in arrays))
    found = model.predict(list(arrays) if len(arrays) > 1 else arrays[0])
    expected = list(expected) if isinstance(expected, tuple) else [expected]
    for ours, theirs in zip(found if isinstance(found, list) else [found], expected, strict=True):
        assert ours.shape == tuple(theirs.shape)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


def unchecked(module, *inputs):
    """The model without the comparison that `from_torch` makes, which files do not have either."""
    return cylstm.Model(convert_module(module.eval(), inputs[0] if len(inputs) == 1 else list(inputs))[0])


def exported(tmp_path, module, *shapes, **options):
    """The model of a file that was exported with arrays of these shapes."""
    given = tuple(torch.from_numpy(numbers(*shape)) for shape in shapes)
    path = tmp_path / "net.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch's own, of the weights of an LSTM
        torch.export.save(torch.export.export(module.eval(), given), path)
    return cylstm.load(path, **options)


# Writes in place


def adds_to_zeros(x):
    y = torch.zeros(x.shape[0], x.shape[1], 6)
    y += x[:, -1:]
    return y.sum(1)


def writes_a_cast_copy(x):
    y = x.to(torch.float64).to(torch.float32)
    y.mul_(2)
    return x.mean(1) + y.mean(1)


def compares_in_place(x):
    y = x * 2
    y.gt_(0)
    return (y + y).mean(1)


def writes_two_views_deep(x):
    y = x.clone()[:, :, 1:4]
    y[:, :, 1].mul_(3)
    return y.mean(1)


def reads_before_and_after(x):
    y = x.clone()
    view = y[:, :, 0]
    y += 1
    before = view * 2
    view.add_(5)
    return before.mean(1, keepdim=True) + y.mean(1)


def writes_a_chunk(x):
    y = x.clone()
    a, b = y.chunk(2, -1)
    a += b
    b.mul_(a)
    return y.mean(1), a.mean(1)


def joins_truths_in_place(x):
    truth = x > 0
    truth |= x < -1
    truth &= x < 2
    return truth.float().mean(1)


def writes_every_second(x):
    y = x.new_zeros(x.shape[0], 12)
    y[:, ::2] = x[:, 0]
    y[:, 1::2] = x[:, -1]
    y[:, 3] *= 2
    return y


def swaps_by_a_view(x):
    y = x[:, -1].clone()
    first = y[:, 0]
    y[:, 0] = y[:, 1]
    y[:, 1] = first
    return y


@pytest.mark.parametrize(
    "function",
    [
        writes_every_second,
        swaps_by_a_view,
        adds_to_zeros,
        writes_a_cast_copy,
        compares_in_place,
        writes_two_views_deep,
        reads_before_and_after,
        writes_a_chunk,
        joins_truths_in_place,
    ],
)
def test_writes_in_place_give_pytorchs_numbers(function):
    module = Net(function)
    model = unchecked(module, ("N", "T", 6))
    for batch, time in ((4, 24), (3, 31)):
        assert_like(model, module, numbers(batch, time, 6))


@pytest.mark.parametrize(
    "copied",
    [lambda x: x.transpose(1, 2).contiguous(), lambda x: x.transpose(1, 2).reshape(x.shape[0], 3, 2, -1),
     lambda x: x.transpose(1, 2).flatten(2)],
)  # fmt: skip
def test_a_write_to_what_may_be_a_copy_is_refused_where_the_original_is_read(copied):
    def function(x):
        y = copied(x)
        y.mul_(2)
        return x.mean(1) + y.mean(-1).flatten(1)[:, :1]

    with pytest.raises(UnsupportedError, match=r"written in place: whether that was a copy .* use .view\(\)"):
        unchecked(Net(function), ("N", "T", 6))


def test_a_write_to_what_may_be_a_copy_is_right_where_the_original_is_not_read():
    def function(x):
        y = (x + 1).transpose(1, 2).contiguous()
        y[:, 0] = 0
        return y.mean(2)

    module = Net(function)
    assert_like(unchecked(module, ("N", "T", 6)), module, numbers(4, 13, 6))


# Operations


def joined(x):
    return x[:, -1].reshape(-1, 2, 3).transpose(1, 2).flatten(1)


def attends_with_raw_scores(x):
    y = x[..., :4].transpose(1, 2)
    later = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
    return (y @ y.transpose(1, 2)).masked_fill(later, -1e9) / 1e9


@pytest.mark.parametrize(
    "function",
    [
        lambda x: joined(x).var(1, keepdim=True),
        lambda x: joined(x).std(1, keepdim=True),
        lambda x: joined(x).argmax(1, keepdim=True).float(),
        lambda x: joined(x).logsumexp(1, keepdim=True),
        lambda x: x.flatten(1).flip(1).unflatten(1, (-1, 6))[:, -1],
        lambda x: ((x > 0) + (x > -0.5)).float().mean(1),
        lambda x: x[:, -1, :1].unsqueeze(-1).any(-1).float(),
        lambda x: (x / 0.0).clamp(min=0.5).nan_to_num(posinf=5.0).mean(1),
        lambda x: (x / 0.0).clamp(max=0.5).nan_to_num(neginf=-5.0).mean(1),
        lambda x: (torch.zeros(x.shape[0], x.shape[1], 6) + x[:, -1:]).sum(1),
        lambda x: torch.einsum("btf,fg,btg->bf", x, torch.eye(6).flip(0) + 0.5, x),
        lambda x: x.sum(1) / x.shape[1],
        lambda x: x * (torch.arange(x.shape[1])[:, None] / x.shape[1]),
    ],
)
def test_operations_give_pytorchs_numbers(function):
    module = Net(function)
    model = unchecked(module, ("N", "T", 6))
    for batch, time in ((4, 24), (3, 31)):
        assert_like(model, module, numbers(batch, time, 6))


@pytest.mark.parametrize("keys", [9, 5])
@pytest.mark.parametrize("is_truth", [False, True])
def test_attention_with_a_mask_that_is_also_causal_gives_pytorchs_numbers(is_truth, keys):
    """PyTorch joins both where it computes with heads on the CPU, in float32."""
    mask = torch.linspace(-1, 2, 9 * keys).sin().reshape(9, keys)
    mask = mask > 0.2 if is_truth else mask
    attend = torch.nn.functional.scaled_dot_product_attention
    module = Net(lambda x: attend(x[:, None], x[:, None, :keys], x[:, None, -keys:], mask, 0, True)[:, 0])
    x = numbers(4, 9, 6)
    assert_like(cylstm.from_torch(module, torch.from_numpy(x)), module, x)


def test_scores_that_are_masked_with_a_large_number_and_returned_have_that_number():
    module = Net(attends_with_raw_scores)
    assert_like(unchecked(module, ("N", 9, 6)), module, numbers(4, 9, 6))


# What two examples do not show


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y[:, : y.shape[1] // 3 * 3].mean(1),
        lambda y: y[:, : min(y.shape[1], 100)].mean(1),
        lambda y: y.mean(1) if y.shape[1] < 100 else y.sum(1),
        lambda y: y.sum(1) * torch.tensor(1 / y.shape[1]),
        lambda y: y.sum(1) / torch.tensor(float(y.shape[1])),
    ],
)
def test_what_depends_on_the_time_in_another_way_than_two_lengths_show_is_refused(function):
    gru = nn.GRU(4, 6, batch_first=True)
    module = Net(lambda x: function(gru(x)[0]), gru=gru)
    with pytest.raises(CylstmError, match="recording its forward does not see|changes with the time"):
        cylstm.from_torch(module, inputs=("N", "T", 4))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_skips_that_are_cut_to_what_came_back_are_right_for_every_length(depth):
    torch.manual_seed(depth)
    module = Denoiser(depth=depth).eval()
    model = cylstm.from_torch(module)
    for time in (*range(22, 42), 150, 151):
        assert_like(model, module, numbers(3, 1, time))


def test_times_that_are_alike_in_the_examples_are_told_apart():
    one, two = nn.Conv1d(4, 3, 3, stride=3, padding=1), nn.Conv1d(4, 5, 3, stride=3, padding=2)

    def function(x):
        y = one(x)
        return torch.cat([two(x)[..., : y.shape[-1]], y], 1)

    module = Net(function, one=one, two=two)
    model = cylstm.from_torch(module, inputs=("N", 4, "T"))
    for time in range(20, 32):
        assert_like(model, module, numbers(3, 4, time))


@pytest.mark.parametrize(
    "part",
    [
        lambda y, n: y[:, :n],
        lambda y, n: y[:, 0:n:1, 1:],
        lambda y, n: y[..., :n, :5],
        lambda y, n: y[:, None, :n, 2],
        lambda y, n: y[:, :n, -1, None],
        lambda y, n: y[:, : y.shape[1] + 3],
        lambda y, n: y[:, 1 : y.shape[1] + 3, :9],
    ],
)
def test_parts_that_are_whole_in_an_example_are_those_of_every_length(part):
    up = nn.Sequential(nn.MaxPool1d(4), nn.Upsample(scale_factor=4))

    def function(x):
        y = up(x.mT)
        return part(x, y.shape[-1]), y

    module = Net(function, up=up)
    model = cylstm.from_torch(module, inputs=("N", "T", 5))
    for time in (8, 13, 15, 16, 24, 61, 64):
        assert_like(model, module, numbers(3, time, 5))


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 2, "mode": "linear"},
        {"scale_factor": 2.3, "mode": "linear"},
        {"scale_factor": 0.4, "mode": "linear", "recompute_scale_factor": True},
        {"scale_factor": 3, "mode": "linear", "align_corners": True},
        {"size": 5, "mode": "linear"},
        {"size": 1, "mode": "linear", "align_corners": True},
        {"size": 5},
        {"size": 42},
        {"scale_factor": 1.5},
        {"scale_factor": 2.7},
        {"scale_factor": 0.3},
    ],
)
def test_a_time_of_known_length_is_resized(options):
    lstm = nn.LSTM(4, 5, batch_first=True)
    module = Net(lambda x: nn.functional.interpolate(lstm(x)[0].mT, **options), lstm=lstm)
    assert_like(cylstm.from_torch(module, inputs=("N", 21, 4)), module, numbers(3, 21, 4))


def test_a_part_is_refused_where_the_steps_say_which_of_two_times_is_shorter():
    short, long = nn.Conv1d(4, 3, 3, stride=2), nn.Conv1d(4, 3, 4)

    def function(x):
        y = long(x[..., 20:])
        return short(x)[..., : y.shape[-1]].mean(-1) + y.mean(-1)

    module = Net(function, short=short, long=long)
    with pytest.raises(CylstmError, match="which of two times is shorter"):
        cylstm.from_torch(module, inputs=("N", 4, "T"))


def test_truths_are_compared_as_truths():
    gru = nn.GRU(4, 6, batch_first=True)

    def function(x, keep):
        y = gru(x)[0] * (~keep).unsqueeze(-1)
        return y.sum(1) / (~keep).sum(1, keepdim=True)

    module = Kept(function, gru=gru)
    inputs = [("N", 20, 4), ("N", 20)]
    model = cylstm.from_torch(module, inputs=inputs)
    keep = np.random.default_rng(1).random((3, 20)) < 0.3
    with torch.no_grad():
        expected = module(torch.from_numpy(numbers(3, 20, 4)), torch.from_numpy(keep)).numpy()
    np.testing.assert_allclose(model.predict([numbers(3, 20, 4), keep]), expected, rtol=1e-4, atol=1e-5)


def test_a_module_that_counts_its_calls_and_takes_truths_is_seen_to_differ():
    gru = nn.GRU(4, 6, batch_first=True)

    def function(x, keep):
        y = gru(x)[0].mean(1) + (~keep).sum(1, keepdim=True)
        return y if torch.compiler.is_compiling() else y * 2  # what recording does not see

    with pytest.raises(UnsupportedError, match="that recording its forward does not see"):
        cylstm.from_torch(Kept(function, gru=gru), inputs=[("N", 20, 4), ("N", 20)])


# One program in a file


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.i, self.h = nn.Linear(6, 5), nn.Linear(5, 5)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 5)
        for t in range(x.shape[1]):
            h = torch.tanh(self.i(x[:, t]) + self.h(h))
        return h


class Repeated(nn.Module):
    """An autoencoder, whose decoder has as many steps as it is told."""

    def __init__(self, *, is_joined):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(6, 5, batch_first=True), nn.LSTM(5, 4, batch_first=True)
        self.is_joined = is_joined

    def forward(self, x):
        h = self.encoder(x)[0][:, -1]
        y = self.decoder(h.unsqueeze(1).expand(-1, 24, -1))[0]
        return torch.cat([x, y], -1) if self.is_joined else y


@pytest.mark.parametrize(
    "module",
    [
        Net(lambda x: x.sum(1) / x.shape[1]),
        Net(lambda x: x.sum(1) * (1 / x.shape[1])),
        Net(lambda x: x.sum(1) / x.shape[1] ** 0.5),
        Net(lambda x: x * (torch.arange(x.shape[1]) / (x.shape[1] - 1))[:, None]),
        Net(lambda x: torch.tanh(x[:, x.shape[1] - 1])),
        Net(lambda x: torch.tanh(x[:, x.shape[1] - 5 :].mean(1))),
        Net(lambda x: F.pad(x, (0, 0, 0, 32 - x.shape[1])).mean(1)),
        Loop(),
        Repeated(is_joined=False),
    ],
)
def test_a_file_whose_numbers_may_depend_on_its_time_keeps_it(tmp_path, module):
    model = exported(tmp_path, module, (3, 24, 6))
    assert_like(model, module, numbers(4, 24, 6))
    for time in (17, 30):
        with pytest.raises(ShapeError, match=f"expected 24 (steps|features), found {time}"):
            model.predict(numbers(3, time, 6))
    with pytest.raises(CylstmError, match="needs the number of steps in advance"):
        exported(tmp_path, module, (3, 24, 6), time="T")


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 5, 3)

    def forward(self, x):
        return self.conv(F.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)


@pytest.mark.parametrize(
    "module",
    [
        Repeated(is_joined=True),
        Causal(),
        Net(lambda x: x + torch.arange(x.shape[1])[:, None] * 0.01),
        Net(lambda x: torch.cat([x, torch.zeros(x.shape[0], x.shape[1], 2)], -1)),
        Net(lambda x: torch.tanh(x[:, 2:].mean(1) + x[:, 0]) / 3),
    ],
)
def test_a_file_whose_numbers_show_that_its_time_is_free_takes_any(tmp_path, module):
    model = exported(tmp_path, module, (3, 24, 6))
    for batch, time in ((4, 24), (3, 30), (2, 17)):
        if not isinstance(module, Repeated):
            assert_like(model, module, numbers(batch, time, 6))
    assert model.predict(numbers(2, 17, 6)).shape[:1] == (2,)


def test_the_features_are_not_taken_for_the_time_where_the_steps_have_to_be_known(tmp_path):
    model = exported(tmp_path, Net(lambda x: torch.tanh(x[:, x.shape[1] - 1])), (3, 24, 6))
    with pytest.raises(ShapeError):
        model.predict(numbers(3, 24, 8))


class OfOneRow(nn.Module):
    """An LSTM whose steps are rows for a while, and one whose last state is flattened."""

    def __init__(self, *, has_steps):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2)
        self.has_steps = has_steps

    def forward(self, x):
        y, (h, _) = self.lstm(x)
        if not self.has_steps:
            return self.fc(h.transpose(0, 1).reshape(x.shape[0], -1))
        return self.fc(y.reshape(-1, 5)).reshape(x.shape[0], x.shape[1], 2)


@pytest.mark.parametrize("has_steps", [False, True])
def test_a_file_exported_with_one_row_takes_any_number_of_rows(tmp_path, has_steps):
    module = OfOneRow(has_steps=has_steps)
    model = exported(tmp_path, module, (1, 24, 6))
    for batch, time in ((1, 24), (3, 24), (4, 9)):
        assert_like(model, module, numbers(batch, time, 6))


@pytest.mark.parametrize(
    "function", [lambda x: x.view(-1, 6).mean(0, keepdim=True), lambda x: x.reshape(24, 6).unsqueeze(0).cumsum(1)]
)
def test_a_file_exported_with_one_row_does_not_lose_its_batch(tmp_path, function):
    with pytest.raises(UnsupportedError, match="mixes the rows of a batch"):
        exported(tmp_path, Net(function), (1, 24, 6))


def test_places_chosen_by_known_truths_are_those():
    module = Net(lambda x: x[:, -1, [True, False, True, True, False, False]])
    assert_like(unchecked(module, ("N", "T", 6)), module, numbers(3, 9, 6))


class Averaged(torch.nn.Module):
    """The mean over the time of an unpacked sequence, as long as its longest row or as its input."""

    def __init__(self, *, is_whole):
        super().__init__()
        self.rnn = torch.nn.GRU(4, 5, batch_first=True)
        self.is_whole = is_whole

    def forward(self, x, lengths):
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        total = x.size(1) if self.is_whole else None
        y, _ = rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=total)
        return y.mean(1)


def test_a_mean_over_an_unpacked_sequence_needs_its_whole_length():
    torch.manual_seed(2)
    with pytest.raises(cylstm.UnsupportedError, match="the mean over the time of a sequence that was packed before"):
        cylstm.from_torch(Averaged(is_whole=False).eval())
    module = Averaged(is_whole=True).eval()
    model = cylstm.from_torch(module)
    x = torch.randn(3, 9, 4)
    with torch.no_grad():
        expected = module(x, torch.tensor([4, 7, 2])).numpy()
    np.testing.assert_allclose(model.predict(x.numpy(), lengths=[4, 7, 2]), expected, rtol=0, atol=2e-6)
