"""Programs that PyTorch exports and saves here and now, against the modules that they are made of."""

import io
import warnings

import numpy as np
import pytest

from cylstm.formats.torch.pt2 import read_program
from cylstm.program.program import Body, NumberType, Reference, Size, TensorType

pytestmark = pytest.mark.frameworks

R = Reference


@pytest.fixture
def nn(torch):
    return torch.nn


def exported(torch, module, arguments, keywords=None, **options):
    """The exported program and what is read of its file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), arguments, keywords or {}, **options)
        file = io.BytesIO()
        torch.export.save(program, file)
    found = read_program(file)
    check(torch, program, found)
    return program, found


def check(torch, program, found):
    """Every constant, type and operation of the file against PyTorch's own program."""
    signature = program.graph_signature
    paths = signature.inputs_to_parameters | signature.inputs_to_buffers | signature.inputs_to_lifted_tensor_constants
    assert found.constant_names == paths
    tensors = {**program.constants, **program.state_dict}
    for name, path in paths.items():
        tensor = tensors[path].detach()
        assert found.types[name] == TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        expected = (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
        assert found.constants[name].dtype == expected.dtype
        np.testing.assert_array_equal(found.constants[name], expected)
    assert found.inputs == tuple(name for name in signature.user_inputs if name in found.types)
    nodes = {node.name: node for node in program.graph.nodes}
    for name, type_ in found.types.items():
        if name not in nodes or "val" not in nodes[name].meta:
            continue  # of a result that nothing uses
        value = nodes[name].meta["val"]
        if isinstance(type_, NumberType):
            assert not isinstance(value, torch.Tensor)
            continue
        assert type_.dtype == str(value.dtype).removeprefix("torch.")
        assert [str(size) for size in type_.shape] == [str(Size(str(size))) for size in value.shape]
    targets = [operation.target for operation in found.operations]
    expected = [
        str(node.target)
        for node in program.graph.nodes
        if node.op == "call_function" and getattr(node.target, "namespace", "") == "aten"
    ]
    if not any(target.startswith("higher_order.") for target in map(str, targets)) and len(targets) == len(expected):
        assert targets == expected


def compute(torch, found, inputs):
    """What the program computes, by PyTorch's own operators, from nothing but what was read."""
    values = {name: torch.from_numpy(np.array(array)) for name, array in found.constants.items()}
    for name, type_ in found.types.items():
        if name in values:
            values[name] = values[name].to(getattr(torch, type_.dtype))
    values |= dict(zip(found.inputs, inputs))

    def given(argument):
        if isinstance(argument, R):
            return values[argument.name]
        if isinstance(argument, tuple):
            return [given(one) for one in argument]
        return argument

    for operation in found.operations:
        namespace, name, overload = operation.target.split(".")
        operator = getattr(getattr(getattr(torch.ops, namespace), name), overload)
        arguments = {key: given(argument) for key, argument in operation.arguments.items()}
        if isinstance(arguments.get("dtype"), str):
            arguments["dtype"] = getattr(torch, arguments["dtype"])
        if isinstance(arguments.get("layout"), str):
            arguments["layout"] = getattr(torch, arguments["layout"])
        if "self" in arguments:  # a name that the call keeps for itself
            schema = [argument.name for argument in operator._schema.arguments]
            first = [arguments.pop(key) for key in schema[: schema.index("self") + 1]]
            result = operator(*first, **arguments)
        else:
            result = operator(**arguments)
        results = result if isinstance(result, (tuple, list)) else (result,)
        names = operation.outputs[0] if operation.outputs and isinstance(operation.outputs[0], tuple) else None
        values.update(zip(names or operation.outputs, results))

    def filled(structure):
        if isinstance(structure, dict):
            return {key: filled(inner) for key, inner in structure.items()}
        if isinstance(structure, tuple):
            return tuple(filled(inner) for inner in structure)
        return given(structure)

    return filled(found.outputs)


def same(torch, found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(torch, found[key], expected[key])
    elif isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            same(torch, one, other)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    else:
        assert found == expected


def test_a_program_holds_all_that_it_needs_to_be_computed(torch, nn):
    """Recurrent layers, slices, a list of tensors, nested outputs with None, for another batch than at export."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 4)
            self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True, proj_size=3)
            self.gru = nn.GRU(6, 4, batch_first=True)
            self.norm = nn.LayerNorm(4)
            self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3)])

        def forward(self, ids, scale=1.5):
            x, (h, c) = self.lstm(self.embed(ids))
            y, _ = self.gru(x)
            a, b = self.norm(y).split(2, dim=-1)
            mask = (ids > 3).unsqueeze(-1)
            y = torch.where(mask, torch.cat([b, a], -1) * scale, float("-inf"))
            return {
                "y": y.max(dim=1).values,
                "rest": [None, (h, c[0])],
                "heads": [head(y[:, -1]) for head in self.heads],
            }

    net = Net()
    ids = torch.randint(0, 11, (3, 7))
    _, found = exported(torch, net, (ids,), dynamic_shapes={"ids": {0: torch.export.Dim("n")}})
    assert found.inputs == ("ids",) and found.input_names == {"ids": "ids"}
    other = torch.randint(0, 11, (5, 7))
    same(torch, compute(torch, found, (other,)), net(other))
    made = {operation.target: operation for operation in found.operations}
    layers = {"aten.lstm.input": "lstm", "aten.linear.default": "heads.1", "aten.where.ScalarOther": ""}
    for target, layer in layers.items():
        assert made[target].layer == layer
        assert made[target].where.startswith("test_pt2_live.py line ")


def test_tied_parameters_are_one_array(torch, nn):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.rnn = nn.RNN(4, 4, batch_first=True, nonlinearity="relu")
            self.out = nn.Linear(4, 7, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.rnn(self.embed(ids))[0])

    net = Tied()
    ids = torch.randint(0, 7, (3, 5))
    _, found = exported(torch, net, (ids,))
    paths = {path: name for name, path in found.constant_names.items()}
    tied = [found.constants[paths[path]] for path in ("embed.weight", "out.weight") if path in paths]
    assert tied and all(np.array_equal(one, net.embed.weight.detach().numpy()) for one in tied)
    same(torch, compute(torch, found, (ids,)), net(ids))


def test_parameters_of_any_type_stride_and_storage(torch, nn):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.randn(6, 10)
            self.transposed = nn.Parameter(torch.randn(4, 3).t())
            self.halved = nn.Parameter(torch.randn(3, 4).half())
            self.brain = nn.Parameter(torch.randn(3, 4, dtype=torch.bfloat16).t().contiguous().t())
            self.doubled = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
            self.part = nn.Parameter(whole[1:4, 2:9:2])
            self.register_buffer("other_part", whole[3:6, 0:4])
            self.register_buffer("counts", torch.arange(12).reshape(3, 4))
            self.register_buffer("small", torch.arange(-2, 2, dtype=torch.int8))
            self.register_buffer("unsigned", torch.arange(4, dtype=torch.uint8))
            self.register_buffer("flags", torch.tensor([True, False, True, True]))
            self.register_buffer("repeated", torch.randn(1, 4).expand(3, 4), persistent=False)
            self.register_buffer("scalar", torch.tensor(2.5))
            self.register_buffer("empty", torch.zeros(0, 4))

        def forward(self, x):
            y = x + self.transposed + self.halved + self.brain + self.doubled + self.part + self.other_part
            y = torch.where(self.flags, y * self.scalar, y - self.repeated) + self.counts + self.small * self.unsigned
            return torch.cat([y, self.empty.double()])

    net = Mixed()
    x = torch.randn(3, 4)
    _, found = exported(torch, net, (x,))
    assert len(found.constants) == 13
    same(torch, compute(torch, found, (x,)), net(x))


def test_buffers_that_change_and_those_that_are_kept_apart(torch, nn):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.tensor(3))
            self.register_buffer("offset", torch.randn(4), persistent=False)

        def forward(self, x):
            self.calls.add_(1)
            return x * self.calls + self.offset + torch.tensor([0.5, 1.5, 2.5, 3.5])

    net = Counter()
    x = torch.randn(3, 4)
    program, found = exported(torch, net, (x,))
    assert set(found.mutated) == {"calls"}
    assert "offset" not in program.state_dict and "offset" in found.constant_names.values()
    same(torch, compute(torch, found, (x,)), Counter.forward(net, x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = program.run_decompositions()
        file = io.BytesIO()
        torch.export.save(program, file)
    found = read_program(file)
    assert found.mutated == {"calls": program.graph_signature.output_specs[0].arg.name}
    assert isinstance(found.outputs, R)


def test_two_open_sizes_and_sizes_that_depend_on_them(torch, nn):
    class Windows(nn.Module):
        def forward(self, x):
            n, time = x.shape[0], x.shape[1]
            y = torch.nn.functional.avg_pool1d(x, 2)
            return y, x.reshape(n * time, 3), torch.cat([x, x[:, : time // 2]], 1), time * 2

    batch, half = torch.export.Dim("batch"), torch.export.Dim("half", min=3, max=50)
    _, found = exported(torch, Windows(), (torch.randn(3, 8, 3),))
    assert found.ranges == {}
    assert found.types[found.outputs[2].name].shape == (3, 12, 3)
    _, found = exported(torch, Windows(), (torch.randn(3, 8, 3),), dynamic_shapes={"x": {0: batch, 1: 2 * half}})
    n, t = found.types["x"].shape[:2]
    (symbol,) = t.symbols
    assert t.text == f"2*{symbol}" and n.symbols == (n.text,)
    assert found.ranges == {n.text: (0, None), symbol: (3, 50)}
    given = {n.text: 5, symbol: 7}
    sizes = [
        size.evaluate(given) if isinstance(size, Size) else size
        for output in found.outputs[:3]
        for size in found.types[output.name].shape
    ]
    expected = [size for output in Windows()(torch.randn(5, 14, 3))[:3] for size in output.shape]
    assert sizes == expected
    doubled = found.types[found.outputs[3].name]
    assert doubled.kind == "int" and doubled.value.evaluate(given) == 28


def test_keywords_nested_arguments_and_numbers_that_the_user_gives(torch, nn):
    class Net(nn.Module):
        def forward(self, x, states, *, batch, times=2, name="a", flag=None):
            h, c = states
            return x * times + h + c * batch["w"]

    x, h, c, w = (torch.randn(3, 4) for _ in range(4))
    _, found = exported(torch, Net(), (x, (h, c)), {"batch": {"w": w}, "times": 3, "name": "a"})
    assert [found.input_names[name] for name in found.inputs] == ["x", "states[0]", "states[1]", "batch['w']"]
    assert sorted(found.fixed.values(), key=str) == [3, "a"]
    same(torch, compute(torch, found, (x, h, c, w)), Net()(x, (h, c), batch={"w": w}, times=3))


def test_what_runs_without_gradients_and_conditions(torch, nn):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                y, (h, _) = self.lstm(x)
                z = torch.tanh(y)
            return self.fc(z), h, y

    net = Frozen()
    x = torch.randn(3, 5, 3)
    _, found = exported(torch, net, (x,))
    assert not any(operation.target.startswith("higher_order") for operation in found.operations)
    same(torch, compute(torch, found, (x,)), net(x))

    class Branch(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos() + 1, (x,))

    _, found = exported(torch, Branch(), (torch.randn(3, 4),))
    (cond,) = [operation for operation in found.operations if operation.target == "higher_order.cond"]
    bodies = [argument for argument in cond.arguments.values() if isinstance(argument, Body)]
    assert [[one.target for one in body.operations] for body in bodies] == [
        ["aten.sin.default"],
        ["aten.cos.default", "aten.add.Tensor"],
    ]


def test_numbers_computed_from_data_are_symbols(torch, nn):
    class Item(nn.Module):
        def forward(self, x):
            n = (x[0, 0] > 0).sum().item()
            torch._check(n >= 0)
            torch._check(n <= 3)
            return x[:, :n]

    _, found = exported(torch, Item(), (torch.randn(3, 5, 3),))
    made = {operation.target: operation for operation in found.operations}
    (item,) = made["aten.item.default"].outputs
    symbol = found.types[item].value
    assert found.types[item].kind == "int" and found.ranges[symbol.text] == (0, 3)
    assert found.types[found.outputs.name].shape == (3, symbol, 3)
    assert made["_operator.le"].arguments == {"a": R(item), "b": 3}
    assert found.types[made["_operator.le"].outputs[0]] == NumberType("bool", None)


def test_weights_under_parametrizations_are_constants_and_operations(torch, nn):
    net = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    x = torch.randn(3, 3)
    _, found = exported(torch, net, (x,))
    assert "parametrizations.weight.original1" in found.constant_names.values()
    same(torch, compute(torch, found, (x,)), net(x))


def test_attention_convolutions_and_upsampling(torch, nn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3, padding=1)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.bn = nn.BatchNorm1d(4)

        def forward(self, x):
            y = self.bn(self.conv(x)).transpose(1, 2)
            z, _ = self.attention(y, y, y, need_weights=False)
            up = torch.nn.functional.interpolate(z, scale_factor=2.0)
            return up, z.topk(2)[1], z.unbind(1)[0], z.std(dim=(1, 2), keepdim=True)

    net = Net()
    x = torch.randn(3, 3, 6)
    _, found = exported(torch, net, (x,))
    same(torch, compute(torch, found, (x,)), net(x))


def test_dicts_with_none_constants_and_empty_lists_are_returned(torch, nn):
    class Net(nn.Module):
        def forward(self, x):
            return {"a": (x + 1, None), "b": [], "c": 3, "d": {"e": x * 2.5}}

    x = torch.randn(3, 4)
    _, found = exported(torch, Net(), (x,))
    assert found.outputs["a"][1] is None and found.outputs["c"] == 3
    expected = Net()(x)
    same(torch, compute(torch, found, (x,)), expected | {"b": ()})


def test_a_tensor_subclass_that_is_pickled_is_refused_by_name(torch, nn):
    from cylstm.errors import UnsupportedError

    class Tagged(torch.Tensor):
        pass

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("w", torch.randn(4))

        def forward(self, x):
            return x * self.w

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net(), (torch.randn(3, 4),))
    program.state_dict["w"] = torch.randn(4).as_subclass(Tagged)
    file = io.BytesIO()
    Tagged.__qualname__ = Tagged.__name__
    globals()["Tagged"] = Tagged
    try:
        torch.export.save(program, file)
    finally:
        del globals()["Tagged"]
    try:
        found = read_program(file)
    except UnsupportedError as error:
        assert "'w', which the program calls" in str(error) and "Tagged" in str(error)
    else:
        np.testing.assert_array_equal(found.constants["b_w"], program.state_dict["w"].numpy())
