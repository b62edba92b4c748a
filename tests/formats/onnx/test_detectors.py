"""Small voice detectors as PyTorch's exporters write them (`tests/data/onnx/generate.py`), without PyTorch."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.loading import convert

from tests import DATA
from tests.builders import onnx_files as made
from tests.builders.networks import same

FOLDER = DATA / "onnx"
STATES = {"detector": {"stateN": "state"}, "cell": {"hn": "h", "cn": "c"}}


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as found:
        return dict(found)


@pytest.fixture(params=list(STATES))
def name(request):
    return request.param


def load(name, **options):
    return cylstm.load(FOLDER / f"{name}.onnx", states=STATES[name], **options)


def test_a_stream_gives_pytorchs_probabilities(name, expected):
    net = load(name)
    assert (net.inputs, net.outputs) == (("input",), ("output",))
    x = expected["x"]
    stream = net.stream(3)
    for t in range(5):
        np.testing.assert_allclose(stream.step(x[:, t]), expected[name][:, t], atol=1e-6)
    np.testing.assert_allclose(stream.state[0][0], expected[f"{name}_h"], atol=1e-6)
    assert [layer.kind for layer in net.graph.layers].count("lstm") == 1


def test_without_states_the_inputs_stay_and_any_number_of_rows_is_predicted(name, expected):
    net = cylstm.load(FOLDER / f"{name}.onnx")
    zero = [np.zeros((3, 2, 8), np.float32)] if name == "detector" else [np.zeros((3, 8), np.float32)] * 2
    y = net.predict([expected["x"][:, 0], *zero])[0]
    np.testing.assert_allclose(y, expected[name][:, 0], atol=1e-6)
    assert net.provenance["states"] == STATES[name]


def test_rows_threads_instruction_sets_and_files_give_the_same_bits(name, expected, tmp_path, monkeypatch):
    net, x = load(name), expected["x"]
    whole = net.stream(3).run(x)
    convert(FOLDER / f"{name}.onnx", tmp_path / "net.cylstm", states=STATES[name])
    again = cylstm.load(tmp_path / "net.cylstm")
    ways = [again.stream(3).run(x), net.stream(3, threads=2).run(x)]
    ways.append(np.concatenate([net.stream().run(x[k : k + 1]) for k in range(3)]))
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        ways.append(cylstm.Model(net.graph).stream(3).run(x))
    for way in ways:
        assert same(np.ascontiguousarray(way), whole)


def test_a_file_that_is_changed_anywhere_gives_a_network_or_our_own_error(name, tmp_path):
    data = (FOLDER / f"{name}.onnx").read_bytes()
    rng = np.random.default_rng(8)
    path = tmp_path / "net.onnx"
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            cylstm.load(path)
        except cylstm.CylstmError as error:
            assert "net.onnx" in str(error)


def test_the_rate_chooses_one_of_two_detectors(expected, tmp_path):
    """As the well-known detector has it: an If of the rate around all of the network."""
    source = made.fields(made.fields((FOLDER / "detector.onnx").read_bytes())[7][0])
    detector = made.message([(number, source[number]) for number in (1, 2, 5, 12)])
    other = made.graph([made.node("Identity", [one], [f"{one}_"]) for one in ("input", "state")], [],
                       [made.value("input_", None), made.value("state_", None)])  # fmt: skip
    nodes = [
        made.node("Equal", ["sr", "rate"], ["is_16k"]),
        made.node("If", ["is_16k"], ["y", "s"], then_branch=detector, else_branch=other),
    ]
    outputs = [made.value("y", None), made.value("s", None)]
    whole = made.message({
        1: nodes, 2: "whole", 5: [made.tensor("rate", np.array(16000))],
        11: [*source[11], made.value("sr", (), "int64")], 12: outputs,
    })  # fmt: skip
    path = tmp_path / "net.onnx"
    path.write_bytes(made.model(whole, version=16))
    net = cylstm.load(path, constants={"sr": 16000}, states={"s": "state"})
    np.testing.assert_allclose(net.stream(3).run(expected["x"]), expected["detector"], atol=1e-6)
