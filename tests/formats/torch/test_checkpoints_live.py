"""Every kind of file that PyTorch writes, written by PyTorch and read without it."""

import warnings

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.loading import read

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore::FutureWarning")]

LAYERS = [L.LSTM("lstm"), L.Last(), L.Linear("fc")]
CONTAINERS = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "stream": {"_use_new_zipfile_serialization": False},
    "stream, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}
FLOATS = ["float32", "float64", "float16", "bfloat16"]


class Net(torch.nn.Module):
    """LSTM and Linear."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 5, batch_first=True)
        self.fc = torch.nn.Linear(5, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.fc(y[:, -1])


@pytest.fixture
def net():
    torch.manual_seed(3)
    return Net()


@pytest.fixture(params=CONTAINERS.values(), ids=list(CONTAINERS))
def container(request):
    return request.param


def assert_same(graph, state):
    """The graph holds what the state dict does, bit for bit after conversion to the type it is held in."""
    wide = torch.float64 if next(iter(state.values())).dtype == torch.float64 else torch.float32
    state = {name: tensor.detach().to(wide).numpy() for name, tensor in state.items()}
    expected = {
        "lstm.l0.weight_ih": state["lstm.weight_ih_l0"],
        "lstm.l0.weight_hh": state["lstm.weight_hh_l0"],
        "lstm.l0.bias": state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"],
        "fc.weight": state["fc.weight"],
        "fc.bias": state["fc.bias"],
    }
    assert set(graph.tensors) == set(expected)
    for name, array in expected.items():
        assert graph.tensors[name].dtype == array.dtype
        assert graph.tensors[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_state_dict_of_every_float_type_is_read_bit_for_bit(tmp_path, net, container, dtype):
    state = net.to(getattr(torch, dtype)).state_dict()
    torch.save(state, tmp_path / "net.pt", **container)
    graph = read(tmp_path / "net.pt", layers=LAYERS)
    assert_same(graph, state)
    stream = "_use_new_zipfile_serialization" in container
    assert graph.provenance["format"] == ("torch stream" if stream else "torch")
    assert graph.provenance["version"] == ("1001" if stream else "3")
    assert graph.provenance["layouts"]["lstm.weight_ih_l0"].startswith(f"{dtype} (20, 3) in storage ")


@pytest.mark.parametrize(
    "dtype", ["int64", "int32", "int16", "int8", "uint8", "bool", "uint16", "uint32", "uint64", *FLOATS]
)
def test_every_type_of_tensor_is_read_by_value(tmp_path, container, dtype):
    from cylstm.formats.torch.checkpoint import read_torch_tensors

    if dtype in ("uint16", "uint32", "uint64") and "_use_new_zipfile_serialization" in container:
        pytest.skip("PyTorch's stream does not hold these")
    values = torch.tensor([[0, 1, 2], [3, 100, 1]]).to(getattr(torch, dtype))
    torch.save({"a": values, "b": values.t(), "c": values[1:, 1:], "d": values[0, 1]}, tmp_path / "a.pt", **container)
    found = read_torch_tensors(str(tmp_path / "a.pt")).arrays
    for name, value in {"a": values, "b": values.t(), "c": values[1:, 1:], "d": values[0, 1]}.items():
        expected = (value.float() if dtype in ("float16", "bfloat16") else value).numpy()
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_shared_strided_offset_and_expanded_tensors_are_read(tmp_path, container):
    torch.manual_seed(4)
    base = torch.randn(6, 8)
    state = {
        "a.weight": base[1:4, 2:7],
        "b.weight": base.t()[:4, :3],
        "c.weight": torch.nn.Parameter(base[:4, :4]),
        "d.weight": torch.randn(4).expand(4, 4),
        "e.weight": base[:4, :4],
    }
    torch.save(state, tmp_path / "net.pt", **container)
    graph = read(tmp_path / "net.pt", layers=[L.Linear(name) for name in "abcde"])
    for name, value in state.items():
        np.testing.assert_array_equal(graph.tensors[name], value.detach().numpy())
    assert graph.provenance["layouts"]["a.weight"].startswith("float32 (3, 5), strides (8, 1), offset 10 in storage")


def test_a_lightning_checkpoint_is_read(tmp_path, net, container):
    state = net.state_dict()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 4, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.1",
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "best_k_models": {}}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"hidden": 5},
    }
    torch.save(checkpoint, tmp_path / "net.ckpt", **container)
    graph = read(tmp_path / "net.ckpt", layers=LAYERS)
    assert_same(graph, state)
    assert graph.provenance["framework_version"] == "Lightning 2.5.1"
    assert (graph.provenance["key"], graph.provenance["prefix"]) == ("state_dict", "model.")
    assert "optimizer_states" in graph.provenance["beside"]
    assert graph.provenance["tensors"]["model.fc.bias"] == "fc/bias"


def test_an_optimizer_by_parameter_names_is_not_taken_for_the_weights(tmp_path, net):
    moments = {name: torch.zeros_like(tensor) for name, tensor in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "optimizer": {"state": {"exp_avg": moments}}}, tmp_path / "net.pt")
    graph = read(tmp_path / "net.pt", layers=LAYERS)
    assert_same(graph, net.state_dict())
    assert graph.provenance["key"] == "model"


def test_a_state_dict_deep_in_a_checkpoint_is_chosen_by_its_path(tmp_path, net):
    other = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    torch.save({"nets": {"generator": net.state_dict(), "critic": other}}, tmp_path / "net.pt")
    with pytest.raises(FormatError, match="key='nets/generator' or key='nets/critic'"):
        read(tmp_path / "net.pt", layers=LAYERS)
    assert_same(read(tmp_path / "net.pt", layers=LAYERS, key="nets/critic"), other)
    assert_same(cylstm.load(tmp_path / "net.pt", layers=LAYERS, key="nets/generator").graph, net.state_dict())


@pytest.mark.parametrize("wrap", ["DataParallel", "compile", "both", "AveragedModel"])
def test_what_wrappers_put_before_the_names_is_taken_off(tmp_path, net, wrap):
    wrapped = {
        "DataParallel": torch.nn.DataParallel,
        "compile": torch.compile,
        "both": lambda module: torch.nn.DataParallel(torch.compile(module)),
        "AveragedModel": torch.optim.swa_utils.AveragedModel,
    }[wrap](net)
    torch.save(wrapped.state_dict(), tmp_path / "net.pt")
    graph = read(tmp_path / "net.pt", layers=LAYERS)
    assert_same(graph, net.state_dict())
    assert set(graph.provenance["tensors"]) == set(wrapped.state_dict())


def test_a_compiled_part_inside_a_network_is_found(tmp_path, net):
    state = {name.replace("lstm.", "lstm._orig_mod."): tensor for name, tensor in net.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    assert_same(read(tmp_path / "net.pt", layers=LAYERS), net.state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_torchscript_archive_gives_its_weights_and_says_so(tmp_path, net, how):
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    module = torch.jit.trace(net, torch.zeros(1, 4, 3)) if how == "trace" else torch.jit.script(net)
    module.save(str(tmp_path / "net.pt"))
    graph = read(tmp_path / "net.pt", layers=LAYERS)
    assert_same(graph, state)
    assert graph.provenance["format"] == "torchscript"
    assert "its program is not run" in graph.provenance["note"]


def test_a_pickled_module_gives_its_weights_and_says_so(tmp_path, net, container):
    net.register_buffer("scratch", torch.zeros(3), persistent=False)
    for saved in (net, {"net": net, "epoch": 3}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(saved, tmp_path / "net.pt", **container)
        graph = read(tmp_path / "net.pt", layers=LAYERS)
        assert_same(graph, net.state_dict())
        assert "its class is not imported" in graph.provenance["note"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: torch.nn.utils.parametrizations.orthogonal(net.lstm, "weight_hh_l0"), "a parametrization"),
        (
            lambda net: torch.nn.utils.parametrizations.spectral_norm(
                torch.nn.utils.parametrizations.weight_norm(net.fc)
            ),
            "weight_norm",
        ),
    ],
)
def test_a_reparametrised_weight_is_refused_by_name(tmp_path, net, change, message):
    change(net)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(UnsupportedError, match=f"reparametrised by {message}"):
        read(tmp_path / "net.pt", layers=LAYERS)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: torch.zeros(2, 2, dtype=torch.complex64), "ComplexFloatStorage is not supported"),
        (lambda: torch.zeros(2, 2, dtype=torch.float8_e4m3fn), "float8_e4m3fn is not supported"),
        (lambda: torch.zeros(2, 2).to_sparse(), "made by torch._utils._rebuild_sparse_tensor"),
        (
            lambda: torch.quantize_per_channel(torch.zeros(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint4x2),
            "QUInt4x2Storage|quantised by",
        ),
        (lambda: torch.zeros(2, 2, dtype=torch.complex64).conj().imag, "Complex|conjugated or negated|not supported"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_hold_no_plain_numbers_are_refused_by_name(tmp_path, tensor, message):
    torch.save({"fc.weight": torch.zeros(2, 2), "fc.bias": tensor()}, tmp_path / "net.pt")
    with pytest.raises(UnsupportedError, match=message):
        read(tmp_path / "net.pt", layers=[L.Linear("fc")])


def test_a_checkpoint_without_checksums_is_read(tmp_path, net):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(net.state_dict(), tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert_same(read(tmp_path / "net.pt", layers=LAYERS), net.state_dict())


@pytest.mark.parametrize("dtype", FLOATS)
def test_safetensors_of_tensors_are_read_whole_and_sharded(tmp_path, net, dtype):
    import json

    from safetensors.torch import save_file

    state = net.to(getattr(torch, dtype)).state_dict()
    save_file(state, tmp_path / "net.safetensors")
    assert_same(read(tmp_path / "net.safetensors", layers=LAYERS), state)
    names = list(state)
    parts = {"a-00001-of-00002.safetensors": names[:3], "a-00002-of-00002.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, tmp_path / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "a.safetensors.index.json").write_text(json.dumps(index))
    assert_same(read(tmp_path / "a.safetensors.index.json", layers=LAYERS), state)


def test_a_mapping_of_tensors_is_read_of_every_float_type(net):
    for dtype in FLOATS:
        state = net.to(getattr(torch, dtype)).state_dict()
        graph = from_state_dict(state, LAYERS)
        assert_same(graph, state)
        assert graph.provenance["layouts"]["fc.bias"] == f"{dtype} (2,)"


def test_a_checkpoint_in_memory_is_refused_with_the_entry_to_take(net):
    with pytest.raises(FormatError, match=r"checkpoint\['model'\]"):
        cylstm.from_state_dict({"model": net.state_dict()}, LAYERS)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_prediction_of_a_loaded_file_is_pytorchs(tmp_path, net, container, dtype):
    net = net.to(getattr(torch, dtype))
    torch.save(net.state_dict(), tmp_path / "net.pt", **container)
    model = cylstm.load(tmp_path / "net.pt", layers=LAYERS, dtype="float32")
    x = torch.randn(4, 7, 3)
    with torch.no_grad():
        expected = net.to(torch.float64)(x.double()).numpy()
    assert np.abs(model.predict(x.numpy()) - expected).max() < 2e-6


@pytest.mark.frameworks
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_what_pytorch_writes_is_read_back(tmp_path, protocol, dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    module = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2).to(getattr(torch, dtype))
    path = tmp_path / "net.pt"
    optimizer = torch.optim.Adam(module.parameters())
    checkpoint = {"model_state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(checkpoint, path, pickle_protocol=protocol)
    graph = read(path, layers=[L.LSTM("")])
    wide = torch.float64 if dtype == "float64" else torch.float32
    state = {name: value.to(wide).numpy() for name, value in module.state_dict().items()}
    for k in range(2):
        for suffix, layer in ((f"_l{k}", f"lstm.l{k}"), (f"_l{k}_reverse", f"lstm.l{k}.reverse")):
            for role in ("weight_ih", "weight_hh", "weight_hr"):
                np.testing.assert_array_equal(graph.tensors[f"{layer}.{role}"], state[role + suffix])
            bias = state[f"bias_ih{suffix}"] + state[f"bias_hh{suffix}"]
            np.testing.assert_array_equal(graph.tensors[f"{layer}.bias"], bias)


@pytest.mark.frameworks
def test_views_parameters_and_tied_weights_that_pytorch_writes_are_read_back(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(6)
    base = torch.randn(6, 8)
    state = {
        "a.weight": base[1:4, 2:7],
        "b.weight": base.t()[:4, :3],
        "c.weight": torch.nn.Parameter(base[:4, :4]),
        "d.weight": torch.randn(4).expand(4, 4),
    }
    torch.save(state, tmp_path / "net.pt")
    found = read(tmp_path / "net.pt", layers=[L.Linear(name) for name in "abcd"]).tensors
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.detach().numpy())


@pytest.mark.frameworks
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "Linear"])
def test_a_live_module_is_copied(kind):
    torch = pytest.importorskip("torch")
    from cylstm.formats.torch.live import from_torch

    torch.manual_seed(7)
    module = getattr(torch.nn, kind)(3, 5)
    graph = from_torch(module)
    assert graph.provenance["framework_version"] == torch.__version__
    expected = {name: array.copy() for name, array in graph.tensors.items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    for name, array in graph.tensors.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.any()


@pytest.mark.frameworks
def test_what_is_no_module_is_refused_with_advice():
    pytest.importorskip("torch")
    from cylstm.formats.torch.live import from_torch

    for found in (object(), {"weight": 1}, "model.pt"):
        with pytest.raises(UnsupportedError, match="from_state_dict"):
            from_torch(found)
