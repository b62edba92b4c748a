"""A check in a file: what it keeps, what `verify` says on another machine, and what is refused."""

import json
import warnings

import numpy as np
import pytest

import cylstm
from cylstm.checks import bits_of
from cylstm.cli import main
from cylstm.errors import CheckError, FormatError, ShapeError, UnsupportedError
from cylstm.formats.native.check import MOST_BYTES, Check
from cylstm.formats.registry import write
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read
from cylstm.verify import verify

from tests.builders.weight_files import linear_tensors, lstm_tensors, write_safetensors, write_torch


@pytest.fixture
def model(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    return cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Last(), L.Linear("fc")])


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 7, 3)).astype(np.float32)


def words(rng):
    """A network that reads indices."""
    tensors = {"e.weight": rng.standard_normal((9, 3)).astype(np.float32)} | lstm_tensors(rng, "lstm", 3, 5)
    return cylstm.from_state_dict(tensors, [L.Embedding("e"), L.LSTM("lstm")])


def rewritten(path, change):
    """The file with its header, a dict, and its data changed."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    check = json.loads(header["__metadata__"]["check"])
    change(header, check, rest)
    header["__metadata__"]["check"] = check if isinstance(check, str) else json.dumps(check)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(rest))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_with_a_check_is_verified_and_predicts_as_one_without(tmp_path, model, x, packed, capsys):
    path = tmp_path / "a.cylstm"
    model.save(path, check=x, packed=packed)
    assert main(["verify", str(path)]) == 0
    shown = capsys.readouterr()
    assert f"{path}: as expected: input (4, 7, 3) gives fc (4, 2), bit for bit as where it was saved" in shown.out
    assert bits_of(model.predict(x))[:16] in shown.out
    assert shown.err == ""
    for again in [cylstm.load(path), *([cylstm.load(path, mmap=True)] if packed else [])]:
        assert again.predict(x).tobytes() == model.predict(x).tobytes()
        assert set(again.graph.tensors) == set(model.graph.tensors)


def test_a_sample_without_batch_a_dict_and_indices_are_kept(tmp_path, rng, model, x):
    for given, shown in (
        (x[0], "(1, 7, 3)"),
        ({"input": x}, "(4, 7, 3)"),
        (x.astype(np.float64).tolist(), "(4, 7, 3)"),
    ):
        model.save(tmp_path / "a.cylstm", check=given)
        assert f"input {shown} gives" in verify(tmp_path / "a.cylstm")
    words(rng).save(tmp_path / "b.cylstm", check=[[1, 8, 0], [3, 3, 2]])
    assert "input (2, 3) gives" in verify(str(tmp_path / "b.cylstm"))


def test_a_check_is_the_same_bytes_each_time(tmp_path, model, x):
    for name in "ab":
        model.save(tmp_path / f"{name}.cylstm", check=x)
    assert (tmp_path / "a.cylstm").read_bytes() == (tmp_path / "b.cylstm").read_bytes()


def test_layouts_are_kept_as_predict_takes_them(tmp_path, rng, model, x):
    turned = cylstm.Model(model.graph._replace(layouts={"input": "10"}))
    turned.save(tmp_path / "a.cylstm", check=x.transpose(0, 2, 1))
    assert "input (4, 3, 7) gives" in verify(tmp_path / "a.cylstm")


def test_the_hash_does_not_depend_on_what_a_nan_looks_like():
    bits = np.array([0x7FC00000, 0x3F800000, 0x80000000], np.uint32)
    expected = bits_of(bits.view(np.float32))
    for nan in (0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FC12345):
        bits[0] = nan
        assert bits_of(bits.view(np.float32)) == expected
    bits[2] = 0  # a zero of the other sign is another number
    assert bits_of(bits.view(np.float32)) != expected


def test_nan_and_infinity_in_the_input_are_kept(tmp_path, model, x):
    x[0, 3, 1], x[1, 0, 0] = np.nan, np.inf
    model.save(tmp_path / "a.cylstm", check=x)
    assert "as expected" in verify(tmp_path / "a.cylstm")


def test_other_bits_are_told_with_both_hashes(tmp_path, model, x, capsys):
    path = tmp_path / "a.cylstm"
    model.save(path, check=x)
    expected = bits_of(model.predict(x))[:16]
    rewritten(path, lambda header, check, rest: rest.__setitem__(2, rest[2] ^ 1))
    with pytest.raises(CheckError, match=f"output 'fc': expected shape \\(4, 2\\) and the bits {expected}, found"):
        verify(path)
    assert main(["verify", str(path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("cylstm: ")
    rewritten(path, lambda header, check, rest: check.update(version="0.0.1"))
    with pytest.raises(CheckError, match="CyLSTM 0.0.1 saved it, this is"):
        verify(path)


def test_a_file_without_a_check_says_so_and_how_to_add_one(tmp_path, rng, model, x, capsys):
    model.save(tmp_path / "a.cylstm", check=x)
    cylstm.load(tmp_path / "a.cylstm").save(tmp_path / "a.cylstm")  # it is not given again
    source = write_torch(tmp_path / "a.pt", linear_tensors(rng, "fc", 5, 2))
    for path in (tmp_path / "a.cylstm", source):
        assert main(["verify", str(path)]) == 2
        assert "it keeps no check; model.save" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none.cylstm")]) == 2


def test_a_check_that_does_not_fit_or_is_too_large_is_refused_and_nothing_is_written(tmp_path, model, x):
    path = tmp_path / "a.cylstm"
    for given, message in (
        (x[..., :2], "3 features"),
        (np.zeros((1, MOST_BYTES // 12 + 1, 3), np.float32), "at most 1,048,576 bytes"),
        ({"y": x}, "expected input, found y"),
        ("x", "real numbers"),
    ):
        with pytest.raises(ShapeError, match=message):
            model.save(path, check=given)
    for options in ({"engine": "blas"}, {"dtype": "float64"}):
        with pytest.raises(UnsupportedError, match="sums depend on the BLAS"):
            cylstm.Model(model.graph, **options).save(path, check=x)
    assert not path.exists()


def test_convert_keeps_a_check_too(tmp_path, rng, x, capsys):
    tensors = lstm_tensors(rng, "lstm", 3, 5)
    source = write_torch(tmp_path / "a.pt", tensors)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", input=x)
    target = str(tmp_path / "a.cylstm")
    for name in ("x.npy", "x.npz"):
        arguments = ["convert", str(source), target, "--layers", 'LSTM("lstm")', "--check", str(tmp_path / name)]
        assert main(arguments) == 0
        assert main(["verify", target]) == 0
        assert "input (4, 7, 3) gives" in capsys.readouterr().out
    assert main([*arguments[:-1], str(source)]) == 2
    wide = write_torch(tmp_path / "b.pt", lstm_tensors(rng, "lstm", 3, 5, dtype=np.float64))
    with pytest.raises(UnsupportedError, match="float64"):
        cylstm.convert(wide, target, layers=[L.LSTM("lstm")], check=x)
    cylstm.convert(wide, target, layers=[L.LSTM("lstm")], check=x, dtype="float32")
    assert "as expected" in verify(target)


OUTPUT = {"name": "fc", "sha256": "0" * 64, "shape": [4, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, c, r: c.update(more=1), "expected an object with inputs, outputs and version"),
        (lambda h, c, r: c.pop("version"), "expected an object with inputs, outputs and version"),
        (lambda h, c, r: c.update(version="1" * 65), "expected an object with inputs, outputs and version"),
        (lambda h, c, r: c.update(version="\x1b[2J"), "expected an object with inputs, outputs and version"),
        (lambda h, c, r: c.update(inputs=[]), "expected an object with inputs, outputs and version"),
        (lambda h, c, r: c.update(inputs={}), "tensors that no layer uses"),
        (lambda h, c, r: c.update(inputs={"y": "check:input"}), "expected the inputs input, found y"),
        (lambda h, c, r: c.update(inputs={"input": "none"}), "'none' is no tensor of the file"),
        (lambda h, c, r: c.update(inputs={"input": 3}), "3 is no tensor of the file"),
        (lambda h, c, r: c["inputs"].update(y="check:input"), "two inputs share a tensor"),
        (lambda h, c, r: c.update(inputs={"input": "fc.weight"}), "is not in the graph"),
        (lambda h, c, r: h["check:input"].update(shape=[4, 21]), r"of shape \('batch', None, 3\)"),
        (lambda h, c, r: h["check:input"].update(shape=[4, 3, 7]), r"of shape \('batch', None, 3\)"),
        (lambda h, c, r: h["check:input"].update(dtype="I32"), "expected F32"),
        (lambda h, c, r: c.update(outputs=[]), "expected the outputs fc"),
        (lambda h, c, r: c.update(outputs=[OUTPUT, OUTPUT]), "expected the outputs fc"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "name": ["fc"]}]), "expected the outputs fc"),
        (lambda h, c, r: c.update(outputs=[3]), "expected name, sha256 and shape"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "sha256": "0" * 63 + "x"}]), "a shape and a SHA-256"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "sha256": "0" * 63}]), "a shape and a SHA-256"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "shape": [-1, 2]}]), "a shape and a SHA-256"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "shape": [4.0, 2]}]), "a shape and a SHA-256"),
        (lambda h, c, r: c.update(outputs=[{**OUTPUT, "shape": [0, 2]}]), "a shape and a SHA-256"),
    ],
)
def test_a_check_that_does_not_fit_its_file_is_refused_when_it_is_loaded(tmp_path, model, x, change, message):
    model.save(tmp_path / "a.cylstm", check=x)
    path = rewritten(tmp_path / "a.cylstm", change)
    with pytest.raises(FormatError, match=message):
        cylstm.load(path)


def test_an_input_of_a_check_larger_than_one_may_be_is_refused(tmp_path, model):
    large = np.zeros((1, MOST_BYTES // 12 + 1, 3), np.float32)
    write(model.graph, tmp_path / "a.cylstm", None, Check({"input": large}, (("fc", (1, 2), "0" * 64),), "1"))
    with pytest.raises(FormatError, match="at most 1,048,576 bytes of input"):
        cylstm.load(tmp_path / "a.cylstm")


def test_a_layer_called_check_and_a_tensor_called_as_the_checks_is_are_kept_apart(tmp_path, rng, x):
    tensors = lstm_tensors(rng, "check", 3, 5) | linear_tensors(rng, "check:input", 5, 2)
    model = cylstm.from_state_dict(tensors, [L.LSTM("check"), L.Linear("check:input")])
    for packed in (False, True):
        model.save(tmp_path / "a.cylstm", check=x, packed=packed)
        assert "as expected" in verify(tmp_path / "a.cylstm")


# At import


@pytest.mark.frameworks
def test_a_module_is_predicted_beside_the_model_and_the_error_is_kept(torch, x):
    torch.manual_seed(4)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(7)).train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.warns(UserWarning, match="training mode"):
        model = cylstm.from_torch(module, inputs=[("N", 7, 3)], check=x)
    found = model.provenance["check"]
    assert found["framework"] == f"torch {torch.__version__}"
    assert found["inputs"] == "input (4, 7, 3)"
    assert 0 <= found["error"] < found["tolerance"] == 1e-5
    assert module.training
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in state.items())
    assert torch.equal(torch.get_rng_state(), random)
    for given in (torch.from_numpy(x), {"input": x}, x[0]):
        assert "check" in cylstm.from_torch(module.eval(), inputs=[("N", 7, 3)], check=given).provenance


@pytest.mark.frameworks
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_module_with_the_time_first_is_given_its_own_axes(torch, x, dtype):
    torch.manual_seed(4)
    for module in (torch.nn.LSTM(3, 5), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LSTM(3, 5)),
                   torch.nn.GRUCell(3, 5), torch.nn.Linear(3, 5), torch.nn.RNN(3, 5, 2, batch_first=True)):  # fmt: skip
        given = x if type(module).__name__ in ("RNN", "GRUCell") else x.transpose(1, 0, 2)
        given = given[0] if isinstance(module, torch.nn.Linear) else given
        options = {"inputs": [("T", "N", 3)]} if isinstance(module, torch.nn.Sequential) else {}
        module = module.to(getattr(torch, dtype)).eval()
        model = cylstm.from_torch(module, dtype=dtype, check=given, **options)
        assert model.provenance["check"]["error"] < (1e-5 if dtype == "float32" else 1e-11)


@pytest.mark.frameworks
def test_a_module_whose_numbers_are_others_is_refused_with_both_numbers(torch, x):
    torch.manual_seed(4)
    module = torch.nn.Linear(3, 2).eval()

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = module

        def forward(self, x):
            # less than what the trial on random numbers takes for another network
            return self.layer(x) * (1 if "Fake" in repr(x) else 1.0001)

    with torch.no_grad():
        theirs = (1.0001 * module(torch.from_numpy(x[:, 0]))).numpy()
    with pytest.raises(CheckError, match="as the framework gives, found") as error:
        cylstm.from_torch(Scaled(), check=x[:, 0])
    place = np.unravel_index(np.abs(theirs).argmax(), theirs.shape)
    assert f"differs most at {tuple(map(int, place))}: expected {float(theirs[place])!r}"[:-4] in str(error.value)
    assert "1.0e-04 of the largest number, allowed is 1e-05" in str(error.value)
    with pytest.raises(ShapeError, match="the module itself fails on it"):
        cylstm.from_torch(module, check=x[:, 0, :2])
    with pytest.raises(ShapeError, match="expected shape"):
        cylstm.from_torch(module, check=x)
    with pytest.raises(ShapeError, match="inputs: expected input, found z"):
        cylstm.from_torch(module, check={"z": x})


@pytest.mark.frameworks
def test_a_network_that_makes_rounding_larger_passes_by_the_error_of_its_own_float32(torch, rng):
    torch.manual_seed(4)
    module = torch.nn.RNN(3, 24, nonlinearity="tanh", batch_first=True).eval()
    with torch.no_grad():
        module.weight_hh_l0.mul_(18)  # chaotic: each step makes an error several times larger
    x = rng.standard_normal((2, 40, 3)).astype(np.float32)
    found = cylstm.from_torch(module, check=x).provenance["check"]
    assert found["error"] > found["tolerance"]


@pytest.mark.frameworks
def test_a_keras_model_is_predicted_beside_the_model(keras, rng, x):
    keras.utils.set_random_seed(3)
    one, two = keras.Input((None, 3), name="one"), keras.Input((4,), name="two")
    y = keras.layers.Masking()(one)
    y = keras.layers.Dropout(0.5)(keras.layers.Bidirectional(keras.layers.GRU(5))(y))
    y = keras.layers.Concatenate()([y, keras.layers.BatchNormalization()(two)])
    network = keras.Model([one, two], [keras.layers.Dense(2, name="p")(y), keras.layers.Dense(1, name="q")(y)])
    x[2, 4:] = 0
    more = rng.standard_normal((4, 4)).astype(np.float32)
    for given in ([x, more], {"two": more, "one": x}):
        found = cylstm.from_keras(network, check=given).provenance["check"]
        assert found["framework"] == f"keras {keras.__version__}"
        assert found["inputs"] == "one (4, 7, 3), two (4, 4)"
        assert 0 <= found["error"] < found["tolerance"] == 1e-5
    with pytest.raises(ShapeError, match="Keras itself fails on it"):
        cylstm.from_keras(network, check=[x[..., :2], more])


@pytest.mark.frameworks
def test_the_states_of_a_stateful_keras_model_are_left_as_they_were(keras, x):
    keras.utils.set_random_seed(3)
    network = keras.Sequential([keras.Input(batch_shape=(4, 7, 3)), keras.layers.LSTM(5, stateful=True)])
    network(x)
    layer = network.layers[-1]
    before = [keras.ops.convert_to_numpy(state).copy() for state in layer.states]
    assert all(state.any() for state in before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cylstm.CylstmWarning)
        model = cylstm.from_keras(network, check=x)
    assert model.provenance["check"]["error"] < 1e-5
    for state, kept in zip(layer.states, before):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), kept)


@pytest.mark.frameworks
def test_a_keras_layer_that_is_computed_otherwise_is_refused_with_both_numbers(keras, x, monkeypatch):
    network = keras.Sequential([keras.Input((7, 3)), keras.layers.Dense(2, name="d")])
    call = keras.layers.Dense.call
    monkeypatch.setattr(keras.layers.Dense, "call", lambda self, x, training=None: call(self, x) * 1.0001)
    with pytest.raises(CheckError, match=r"output 'd' differs most at \(\d, \d, \d\): expected .* found"):
        cylstm.from_keras(network, check=x)


def test_a_file_has_the_same_weights_with_and_without_a_check(tmp_path, rng):
    tensors = linear_tensors(rng, "fc", 3, 2)
    tensors["fc.weight"][0, 0] = 1e-20  # 0 for the engine, not for the file
    write_torch(tmp_path / "weights.pt", tensors)
    files = [tmp_path / "without.cylstm", tmp_path / "with.cylstm"]
    for path, check in zip(files, (None, np.ones((2, 3), np.float32))):
        cylstm.convert(tmp_path / "weights.pt", path, layers=[L.Linear("fc")], check=check)
    graphs = [read(path) for path in files]
    assert graphs[0].tensors["fc.weight"][0, 0] == np.float32(1e-20)
    for name, array in graphs[0].tensors.items():
        np.testing.assert_array_equal(array, graphs[1].tensors[name])


def test_verify_of_a_state_dict_says_that_it_keeps_no_check(tmp_path, rng):
    write_safetensors(tmp_path / "weights.safetensors", linear_tensors(rng, "fc", 3, 2))
    with pytest.raises(FormatError, match="it keeps no check"):
        verify(tmp_path / "weights.safetensors")
