"""What a forward asks of its tensors, keeps and changes: right, or refused, and never left in the user's module."""

import copy
import random
import threading
import types

import numpy as np
import pytest

import cylstm
from cylstm.checks import torch as torch_check
from cylstm.formats.torch import export as torch_export

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.frameworks

CALLS = []
COUNT = 0
CACHE = {}


class Net(nn.Module):
    """A GRU and a Linear, and a forward given as a function of the module and its arguments."""

    count = 3

    def __init__(self, forward=None, **attributes):
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.fc = nn.Linear(6, 3)
        for name, value in attributes.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


class Optional(Net):
    """Whose second argument is optional."""

    def forward(self, x, h=None):
        return self.function(self, x, h)


def made(kind, forward, **attributes):
    torch.manual_seed(5)
    return kind(forward, **attributes).eval()


def contents(module):
    """All that a module keeps, by identity and by number."""
    found = {}
    for name, part in module.named_modules():
        for place in (vars(part), part._buffers, part._parameters, part._modules):
            found |= {(name, id(place), key): value for key, value in place.items()}
    numbers = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    return found, numbers


def assert_same(before, after):
    assert list(before[0]) == list(after[0])
    assert all(after[0][key] is value for key, value in before[0].items())
    assert list(before[1]) == list(after[1])
    assert all(torch.equal(after[1][name], tensor) for name, tensor in before[1].items())


def assert_right(module, *inputs, **options):
    """It is converted to PyTorch's numbers, and left as it was."""
    before = contents(module)
    model = cylstm.from_torch(module, **options)
    assert_same(before, contents(module))
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in inputs or [(3, 7, 4)]]
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, arrays))
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = model.predict(arrays if len(arrays) > 1 else arrays[0])
    for one, other in zip(found if isinstance(found, list) else [found], expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=2e-6)
    return model


def assert_refused(module, message, **options):
    """It raises an error with a clear message, and is left as it was."""
    before = contents(module)
    with pytest.raises(cylstm.CylstmError, match=message):
        cylstm.from_torch(module, **options)
    assert_same(before, contents(module))


# Arguments


def first_state(m, x, h):
    if h is None:
        h = m.h0.expand(1, x.size(0), 6).contiguous()
    y, h = m.gru(x, h)
    return m.fc(y)


def test_an_optional_argument_keeps_its_default():
    model = assert_right(made(Optional, first_state, h0=nn.Parameter(torch.randn(1, 1, 6))))
    assert model.inputs == ("x",)
    plain = made(Optional, lambda m, x, h: m.fc(m.gru(x)[0]) if h == None else x)  # noqa: E711
    assert_right(plain)
    assert_right(made(Optional, lambda m, x, h: m.fc(m.gru(x, h)[0])))
    assert_right(made(Optional, lambda m, x, h: m.fc(m.gru(x)[0]) if not h else x))


def test_an_optional_argument_is_an_input_where_inputs_names_it():
    module = made(Optional, first_state, h0=nn.Parameter(torch.randn(1, 1, 6)))
    for inputs in ({"h": (1, "N", 6)}, [("N", "T", 4), (1, "N", 6)]):
        model = cylstm.from_torch(module, inputs=inputs)
        assert model.inputs == ("x", "h")
        x, h = torch.randn(3, 7, 4), torch.randn(1, 3, 6)
        with torch.no_grad():
            expected = module(x, h).numpy()
        np.testing.assert_allclose(model.predict([x.numpy(), h.numpy()[0][:, np.newaxis]]), expected, rtol=0, atol=2e-6)


def test_numbers_flags_and_collected_arguments_have_what_a_call_without_them_gives():
    class Several(Net):
        def forward(self, x, *more, scale=2.0, returns_state=False, **named):
            if more or named or len(more) or "h" in named or named.get("mask") is not None:
                return x
            y, h = self.gru(x)
            y = self.fc(y) * scale
            return (y, h) if returns_state else y

    assert_right(made(Several, None))


def test_lengths_that_a_forward_cannot_do_without_are_given_to_predict():
    class Packed(Net):
        def forward(self, x, lengths=None):
            x = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            _, h = self.gru(x)
            return self.fc(h[-1])

    module = made(Packed, None)
    model = cylstm.from_torch(module)
    x = torch.randn(3, 7, 4)
    with torch.no_grad():
        expected = module(x, torch.tensor([7, 2, 4])).numpy()
    np.testing.assert_allclose(model.predict(x.numpy(), lengths=[7, 2, 4]), expected, rtol=0, atol=2e-6)


def test_an_argument_that_is_tested_and_that_the_forward_cannot_do_without_is_refused(monkeypatch):
    def forward(m, x, h):
        y, _ = m.gru(x)
        return m.fc(y * 2) if h is None and len(h) else m.fc(y * h.mean())

    assert_refused(made(Optional, forward), r"cannot be called with x .*TypeError: object of type 'NoneType'")

    def needs(m, x, h):
        if h is None:
            raise ValueError("give h")
        return m.fc(m.gru(x)[0])

    module = made(Optional, needs)
    assert cylstm.from_torch(module).inputs == ("x",)
    monkeypatch.setattr(torch_check, "_call", lambda *arguments: ValueError("cannot be run"))
    assert_refused(module, "has the default None, and without it the forward fails")


# What Python asks of a tensor


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(x, torch.Tensor) else x,
        lambda m, x: m.fc(m.gru(x if torch.is_tensor(x) else torch.as_tensor(x))[0]),
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(m.gru(x)[0], torch.Tensor) else m.gru(x)[0],
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(m.gru(x), tuple) else m.gru(x),
        lambda m, x: m.fc(m.gru(x)[0]) if not isinstance(x, (list, tuple, nn.utils.rnn.PackedSequence)) else x,
        lambda m, x: m.fc(m.gru(x)[0]) if type(x) is torch.Tensor else x,
        lambda m, x: m.fc(m.gru(x)[0]) if type(x) in (torch.Tensor, nn.Parameter) else x,
        lambda m, x: m.fc(m.gru(x)[0]) if type(x).__name__ == "Tensor" else x,
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(type(x), type) and type(m.count) is int else x,
        lambda m, x: m.fc(m.gru(x)[0]) if not hasattr(x, "lengths") and not hasattr(x, "count") else x,
        lambda m, x: m.fc(m.gru(x)[0]) if getattr(x, "mask", None) is None else x,
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(x.size(2), int) and isinstance(x.shape, torch.Size) else x,
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(m.fc.weight, nn.Parameter) else x,
        lambda m, x: m.fc(m.gru(x)[0]) if isinstance(x.max(dim=1), tuple) and isinstance(x[:, 0], torch.Tensor) else x,
        lambda m, x: {3: m.fc, 2: m.gru}.get(x.dim(), torch.relu)(m.gru(x)[0]),
        lambda m, x: m.fc(m.gru(x)[0]) if x.dim() in (3, 4) and x.dim() in {3, 4} else x,
        lambda m, x: m.fc(m.gru(x)[0]) if x in {x: 1} and {x: 5}[x] == 5 else x,
        lambda m, x: m.fc(m.gru(x)[0]) * float(x.size(2)) if not torch.is_grad_enabled() else x,
        lambda m, x: m.fc(m.gru(x)[0]) if not (torch.jit.is_scripting() or torch.jit.is_tracing()) else x,
        lambda m, x: m.fc(m.gru(x)[0]) if not m.training else x,
    ],
)  # fmt: skip
def test_what_a_forward_asks_of_its_tensors_is_answered_as_by_tensors(forward):
    assert_right(made(Net, forward))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: m.fc(m.gru(x)[0]) if callable(x) else m.fc(m.gru(x)[0]) * 2, None),
        (lambda m, x: m.fc(m.gru(x)[0]) * {"Tensor": 2.0}.get(x.__class__.__mro__[0].__name__ + "?", 1.0), None),
        (lambda m, x: m.fc(m.gru(x)[0]) if x.shape in {(3, 61, 4): 1} else m.gru(x)[0], "a choice by it, needs"),
        (lambda m, x: m.fc(m.gru(x)[0]) if x.shape in {(2, 61, 4): 1} else m.gru(x)[0], "does not see"),
        (lambda m, x: m.fc(m.gru(torch.from_numpy(np.asarray(x)))[0]), "numpy"),
        (lambda m, x: m.fc(m.gru(x)[0]) if x.mean() > 0 else x, "depends on the numbers in a tensor"),
        (lambda m, x: (yield m.gru(x)), "no tensor: generator"),
    ],
)
def test_what_a_tensor_of_the_export_does_not_show_is_refused(forward, message):
    if message is None:
        assert_right(made(Net, forward))
    else:
        assert_refused(made(Net, forward), message, inputs=("N", "T", 4))


def test_an_exception_that_the_forward_swallows_hides_nothing():
    def forward(m, x):
        try:
            steps = 2 if x.sum() > 0 else 3
        except Exception:
            steps = 4
        return m.fc(m.gru(x)[0]) * steps

    assert_refused(made(Net, forward), "does not see", inputs=("N", "T", 4))


def test_a_constant_that_is_changed_in_place_is_what_it_was_when_it_was_read():
    def forward(m, x):
        h = torch.full((6,), 0.5)
        y = m.gru(x)[0] + h
        h += 1
        return m.fc(y * h)

    assert_right(made(Net, forward))


def test_a_class_is_no_module():
    with pytest.raises(cylstm.UnsupportedError, match="found the class Net"):
        cylstm.from_torch(Net)


# What it keeps


def reads_and_assigns(m, x):
    y, m.hidden = m.gru(x, m.hidden)
    return m.fc(y)


def keeps_weights(m, x):
    y, m.last = m.gru(x)
    m.inner.weights = torch.softmax(m.fc(y), -1)
    m.sizes = x.shape
    return m.fc(y)


def starts_anew(m, x):
    m.hidden = torch.zeros(1, x.size(0), 6)
    y, m.hidden = m.gru(x, m.hidden)
    return m.fc(y)


def counts(m, x):
    m.calls += 1
    return m.fc(m.gru(x)[0])


def counts_in_place(m, x):
    m.calls.add_(1)
    return m.fc(m.gru(x)[0])


def appends(m, x):
    m.history.append(m.gru(x)[0])
    return m.fc(m.history[-1])


def raises(m, x):
    m.hidden = m.gru(x)[0]
    m.new = [m.hidden]
    del m.gru
    raise ZeroDivisionError("something of the user's")


def test_attributes_that_are_assigned_before_they_are_read_do_not_matter():
    assert_right(made(Net, keeps_weights, inner=nn.Linear(1, 1), last=None))
    assert_right(made(Net, starts_anew))


@pytest.mark.parametrize(
    ("forward", "attributes", "message"),
    [
        (reads_and_assigns, {"hidden": torch.zeros(1, 1, 6)}, "keeps 'hidden' from an earlier call"),
        (reads_and_assigns, {"hidden": None}, "reads 'hidden' and then assigns it"),
        (counts, {"calls": torch.zeros(1)}, "changes 'calls'"),
        (lambda m, x: (m.register_buffer("more", x), m.fc(m.gru(x)[0]))[1], {}, "changes 'more'"),
        (counts, {"calls": 0}, "reads 'calls' and then assigns it"),
        (counts_in_place, {"calls": torch.zeros(1)}, "changes (a parameter or a buffer|'calls')"),
        (appends, {"history": []}, "changes 'history'"),
        (lambda m, x: (m.seen.update(x=x), m.fc(m.gru(x)[0]))[1], {"seen": {}}, "changes 'seen.x'"),
        (
            lambda m, x: (setattr(m.options, "last", x), m.fc(m.gru(x)[0]))[1],
            {"options": types.SimpleNamespace(last=None)},
            "changes",
        ),
        (lambda m, x: (m.layers.append(nn.ReLU()), m.fc(m.gru(x)[0]))[1], {"layers": nn.ModuleList()}, "changes"),
        (lambda m, x: (m.fc.weight.data.mul_(2), m.fc(m.gru(x)[0]))[1], {}, "changes"),
        (lambda m, x: (setattr(m, "fc", nn.Linear(6, 3)), m.fc(m.gru(x)[0]))[1], {}, "changes|cannot be traced"),
        (raises, {"hidden": None}, "ZeroDivisionError"),
    ],
)
def test_what_a_forward_keeps_from_call_to_call_is_refused_and_put_back(forward, attributes, message):
    module = made(Net, forward)
    module.inner = made(Net, lambda m, x: x)
    for name, value in attributes.items():
        value = copy.deepcopy(value)
        if isinstance(value, torch.Tensor) and name == "calls":
            module.register_buffer(name, value)
        else:
            setattr(module, name, value)
    kept = {name: getattr(module, name) for name in attributes}
    before = copy.deepcopy({name: vars(value) if hasattr(value, "__dict__") else value for name, value in kept.items()})
    assert_refused(module, message)
    for name, value in kept.items():
        assert getattr(module, name) is value
        now = vars(value) if hasattr(value, "__dict__") else value
        assert str(now) == str(before[name])
    torch.nn.Module.state_dict(module)
    copy.deepcopy(module)


def test_a_state_that_only_a_second_call_shows_is_refused():
    def forward(m, x):
        y = m.gru(x)[0]
        scale = getattr(m, "scale", 1.0)
        m.scale = scale + 1.0
        return m.fc(y) * scale

    assert_refused(made(Net, forward), "assigns 'scale'|second call")


def counts_globally(m, x):
    global COUNT
    COUNT += 1
    return m.fc(m.gru(x)[0])


def keeps_globally(m, x):
    CALLS.append(x)
    CACHE["x"] = x
    return m.fc(m.gru(x)[0])


class OfItsClass(Net):
    count = 0

    def forward(self, x):
        type(self).count += 1
        return self.fc(self.gru(x)[0])


def test_globals_classes_and_closures_that_a_forward_changes_are_put_back():
    assert_refused(made(Net, counts_globally), "the global COUNT")
    assert_refused(made(Net, keeps_globally), "the global C")
    assert_refused(made(OfItsClass, None), "OfItsClass.count")
    assert (COUNT, CALLS, CACHE, OfItsClass.count) == (0, [], {}, 0)
    calls = 0

    def closes_over(m, x):
        nonlocal calls
        calls += 1
        return m.fc(m.gru(x)[0])

    assert_refused(made(Net, closes_over), "the variable calls")
    assert calls == 0


def test_constants_of_a_forward_leave_no_attribute_behind():
    module = made(Net, lambda m, x: m.fc(m.gru(x)[0]) * torch.tensor([1.0, 2.0, 3.0]))
    assert_right(module)
    assert not any("constant" in name for name in vars(module))


def test_a_loop_that_does_not_end_is_refused(monkeypatch):
    monkeypatch.setattr(torch_export, "_MOST_OPERATIONS", 2000)

    def forward(m, x):
        y = m.gru(x)[0]
        while True:
            try:
                y = y + 1
            except Exception:
                y = y * 2

    assert_refused(made(Net, forward), "perhaps a loop that does not end")

    def asks(m, x):
        y = m.gru(x)[0]
        while x.size(2) > 3:
            y = y + 1

    assert_refused(made(Net, asks), "perhaps a loop that does not end")


# Random numbers, global state, threads


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.fc(m.gru(x)[0]) + torch.randn(3),
        lambda m, x: m.fc(m.gru(x)[0]) * random.random(),
        lambda m, x: m.fc(m.gru(x)[0]) * float(np.random.rand()),
        lambda m, x: nn.functional.dropout(m.fc(m.gru(x)[0]), 0.5),
    ],
)
def test_random_numbers_are_refused_and_the_generators_are_put_back(forward):
    module = made(Net, forward)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert_refused(module, "random numbers")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_torchs_global_state_is_left_as_it_was():
    def forward(m, x):
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float64)
        return m.fc(m.gru(x)[0])

    before = torch.get_rng_state()
    packing = nn.utils.rnn.pack_padded_sequence
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            cylstm.from_torch(made(Net, forward))
            assert torch.is_grad_enabled() == enabled
    assert torch.get_default_dtype() == torch.float32
    assert nn.utils.rnn.pack_padded_sequence is packing
    assert "type" not in globals()
    torch.manual_seed(5)
    cylstm.from_torch(made(Net, lambda m, x: m.fc(m.gru(x)[0])))
    state = torch.get_rng_state()
    made(Net, None)
    assert torch.equal(torch.get_rng_state(), state)
    del before


def test_hooks_and_forwards_of_one_object_are_followed():
    lstm = nn.LSTM(4, 6, batch_first=True)
    lstm.register_forward_hook(lambda m, x, y: (y[0] * 2, y[1]))
    x = torch.randn(3, 7, 4)
    with torch.no_grad():
        y, (h, c) = lstm(x)
    found = cylstm.from_torch(lstm).predict(x.numpy())
    for one, other in zip(found, (y, h, c), strict=True):
        other = other.numpy() if other is y else other.numpy().transpose(1, 0, 2)
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    module = made(Net, lambda m, x: m.fc(m.gru(x)[0]))
    module.fc.register_forward_pre_hook(lambda m, given: (torch.tanh(given[0]) * 3,))
    assert_right(module)
    module = made(Net, None)
    module.forward = lambda x: module.fc(module.gru(x)[0]) * 3
    assert_right(module)
    module = made(Net, lambda m, x: m.fc(m.gru(x)[0]))
    module.fc.forward = lambda x: x[..., :3] * 2
    assert_right(module)


def test_modules_of_other_threads_run_while_one_is_recorded():
    other = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3)).eval()
    inside, done, failures = threading.Event(), threading.Event(), []

    def forward(m, x):
        inside.set()
        assert done.wait(60)
        return m.fc(m.gru(x)[0])

    def run():
        assert inside.wait(60)
        try:
            y, _ = other(torch.randn(5, 2, 4))
            packed = nn.utils.rnn.pack_padded_sequence(y, torch.tensor([5, 3]))
            assert isinstance(packed, nn.utils.rnn.PackedSequence)
            assert type(y) is torch.Tensor
        except Exception as error:
            failures.append(error)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert_right(made(Net, forward))
    thread.join()
    assert failures == []


def test_modules_are_recorded_on_several_threads_at_once():
    modules = [made(Net, lambda m, x: m.fc(torch.relu(m.gru(x)[0]))) for _ in range(4)]
    patched = vars(nn.Module)["__call__"], vars(nn.Module)["__getattr__"]
    found = [None] * 4
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, cylstm.from_torch(modules[i]).outputs))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
    assert (vars(nn.Module)["__call__"], vars(nn.Module)["__getattr__"]) == patched
