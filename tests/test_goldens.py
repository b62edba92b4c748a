"""Files that PyTorch and Keras wrote, with what they computed: checked here without them.

The files come from generate_goldens.py and, for the matrix, from matrix_goldens.py."""

import json

import numpy as np
import pytest

import cylstm

from tests import DATA
from tests.builders import golden_bits

BITS = json.loads(golden_bits.FILE.read_text())
MATRIX = sorted((DATA / "goldens" / "matrix").glob("*.cylstm"))
NETWORKS = sorted((DATA / "goldens" / "networks").glob("*.cylstm"))
FOLDER = DATA / "goldens"
TORCH = ["torch_plain", "torch_stacked", "torch_bidirectional", "torch_lengths", "torch_projected", "torch_no_bias"]
KERAS = ["keras_plain", "keras_stacked", "keras_bidirectional", "keras_merge_sum"]


def file_of(name):
    (path,) = (path for path in FOLDER.glob(f"{name}.*") if path.suffix != ".npz")
    return path


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("name", TORCH)
def test_torchs_results_are_repeated(name, engine):
    with np.load(FOLDER / f"{name}.npz") as golden:
        head = str(golden["head"])
        layers = [cylstm.LSTM("lstm"), *([getattr(cylstm, head)()] if head else []), cylstm.Linear("fc")]
        model = cylstm.load(file_of(name), layers=layers, engine=engine)
        state = list(zip(golden["h0"], golden["c0"]))
        lengths = golden.get("lengths")
        y, final = model.predict(golden["x"], initial_state=state, lengths=lengths, return_state=True)
        np.testing.assert_allclose(y, golden["y"], rtol=0, atol=2e-6)
        for k, (h, c) in enumerate(final):
            np.testing.assert_allclose(h, golden["h_n"][k], rtol=0, atol=2e-6)
            np.testing.assert_allclose(c, golden["c_n"][k], rtol=0, atol=2e-6)


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("name", KERAS)
def test_kerass_results_are_repeated(name, engine):
    pytest.importorskip("h5py")
    with np.load(FOLDER / f"{name}.npz") as golden:
        model = cylstm.load(file_of(name), engine=engine)
        np.testing.assert_allclose(model.predict(golden["x"]), golden["y"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", TORCH[:2])
def test_a_saved_model_repeats_the_bits(name, tmp_path):
    with np.load(FOLDER / f"{name}.npz") as golden:
        layers = [cylstm.LSTM("lstm"), cylstm.Linear("fc")]
        model = cylstm.load(file_of(name), layers=layers)
        model.save(tmp_path / "model.cylstm", metadata={"unit": "ug/m3"})
        again = cylstm.load(tmp_path / "model.cylstm")
        assert again.metadata == {"unit": "ug/m3"}
        np.testing.assert_array_equal(again.predict(golden["x"]), model.predict(golden["x"]))


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_whole_networks_are_repeated_and_their_bits_too(path, engine):
    model = cylstm.load(path, engine=engine)
    with np.load(path.with_suffix(".npz")) as golden:
        x = [golden[f"x{i}"] for i in range(len(model.inputs))]
        found = model.predict(x if len(x) > 1 else x[0])
        found = found if isinstance(found, list) else [found]
        for i, y in enumerate(found):
            expected = golden[f"y{i}"]
            np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * max(1.0, np.abs(expected).max()))
            if engine == "packed":
                np.testing.assert_array_equal(
                    np.ascontiguousarray(y).view(np.uint32), np.ascontiguousarray(golden[f"ours{i}"]).view(np.uint32)
                )


def test_whole_networks_are_there():
    assert len(NETWORKS) >= 7


def test_the_matrix_has_goldens_of_every_family():
    families = {path.stem.rsplit("_", 1)[0] for path in MATRIX}
    assert len(MATRIX) >= 40
    onnx, torch = ("onnx_lstm", "onnx_gru", "onnx_rnn"), ("torch_lstm", "torch_gru", "torch_rnn")
    keras = ("lstm", "gru", "simple_rnn", "conv_lstm1d", "conv_lstm2d", "stack")
    for family in (*onnx, *torch, *(f"keras_{kind}" for kind in keras)):
        assert family in families


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("path", MATRIX, ids=lambda path: path.stem)
def test_the_matrixs_results_are_repeated(path, engine):
    model = cylstm.load(path, engine=engine)
    with np.load(path.with_suffix(".npz")) as golden:
        flat = iter(
            golden[name] for name in sorted((n for n in golden if n.startswith("state")), key=lambda n: int(n[5:]))
        )
        state = [tuple(next(flat) for _ in parts) for _, parts in model.graph.states()] if "state0" in golden else None
        found = model.predict(golden["x"], mask=golden.get("mask"), initial_state=state)
        found = found if isinstance(found, list) else [found]
        for k, y in enumerate(found):
            expected = golden[f"y{k}"]
            np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("path", golden_bits.golden_files(), ids=lambda path: path.stem)
def test_every_machine_gives_the_bits_of_the_golden_files(path):
    assert golden_bits.digest_of_file(path) == BITS[path.stem]


@pytest.mark.parametrize("weights", golden_bits.TYPES)
@pytest.mark.parametrize("path", golden_bits.golden_files(), ids=lambda path: path.stem)
def test_every_machine_gives_the_bits_of_smaller_weights(path, weights):
    assert golden_bits.digest_of_file(path, weights) == BITS[f"{path.stem} {weights}"]


@pytest.mark.parametrize("name", golden_bits.decaying_networks())
def test_every_machine_gives_the_bits_of_states_that_decay(name):
    assert golden_bits.digest_of_decay(name) == BITS[name]
