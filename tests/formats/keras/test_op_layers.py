"""Operations of TensorFlow as layers: files of Keras 2.15 in TensorFlow 1's graph mode (tests/data/keras2_op_layers).

tf.keras 2.0 to 2.3 write the same layers always. Those versions run on no Python of today, so that what differs in
their files, the form of a node and of constants, is after their source.
"""

import gzip
import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError
from cylstm.formats.keras.operations.op_layers import OPERATIONS, node_of

from tests import DATA
from tests.builders.keras2 import assert_results

h5py = pytest.importorskip("h5py")

FOLDER = DATA / "keras2_op_layers"
NAMES = sorted(path.name.partition(".")[0] for path in FOLDER.glob("*.h5.gz"))

#: Computed, and in none of the files: another version's name of one that is there, or seldom written.
NOT_IN_FILES = {
    "Add", "BatchMatMul", "BatchMatMulV3", "ClipByValue", "Div", "Fill", "Gather", "Inv", "MatrixDiagPart",
    "PreventGradient", "Range", "Rank", "Size", "Einsum",
}  # fmt: skip

X = np.random.default_rng(5).normal(size=(3, 6, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def file_of(tmp_path):
    """The file of a name, unpacked."""

    def found(name):
        path = tmp_path / f"{name}.h5"
        path.write_bytes(gzip.decompress((FOLDER / f"{name}.h5.gz").read_bytes()))
        return path

    return found


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("name", NAMES)
def test_kerass_results_are_repeated(expected, file_of, name, engine):
    assert f"{name}.y2" in expected
    assert_results(cylstm.load(file_of(name), engine=engine), expected, name)


def test_the_operations_that_are_computed_are_in_the_files(file_of):
    seen = set()
    for name in NAMES:
        with h5py.File(file_of(name)) as file:
            config = json.loads(file.attrs["model_config"])
        layers = [layer["config"] for layer in config["config"]["layers"]]
        seen |= {layer["node_def"]["op"] for layer in layers if "node_def" in layer}
    assert len(seen) > 90
    assert set(OPERATIONS) - seen <= NOT_IN_FILES


def test_nodes_as_the_text_of_their_bytes_are_those_of_json(expected, file_of):
    architecture = gzip.decompress((FOLDER / "older.json.gz").read_bytes()).decode()
    layers = json.loads(architecture)["config"]["layers"]
    older = {layer["name"]: layer["config"] for layer in layers if layer["class_name"] == "TensorFlowOpLayer"}
    with h5py.File(file_of("choices")) as file:
        newer = json.loads(file.attrs["model_config"])["config"]["layers"]
    for layer in newer:
        if layer["name"] in older:
            assert isinstance(older[layer["name"]]["node_def"], str)
            assert node_of("", older[layer["name"]]["node_def"]) == node_of("", layer["config"]["node_def"])
    assert_results(cylstm.load(FOLDER / "older.h5", architecture=architecture), expected, "choices")


# Single layers


def built(operation, constants, attributes, *, tensors=("x",), shape=(6, 4), text=None):
    """A model of one operation; `attributes` are as JSON has them."""
    inputs = [
        {"class_name": "InputLayer", "name": name, "inbound_nodes": [],
         "config": {"batch_input_shape": [None, *shape], "dtype": "float32", "name": name}}
        for name in tensors
    ]  # fmt: skip
    node = {"name": "o", "op": operation, "input": ["a", "b"], "attr": attributes}
    layer = {"class_name": "TensorFlowOpLayer", "name": "tf_op_layer_o",
             "config": {"name": "o", "trainable": True, "node_def": node if text is None else text,
                        "constants": constants},
             "inbound_nodes": [[[name, 0, 0, {}] for name in tensors]]}  # fmt: skip
    config = {"name": "m", "layers": [*inputs, layer], "input_layers": [[name, 0, 0] for name in tensors],
              "output_layers": [["tf_op_layer_o", 0, 0]]}  # fmt: skip
    return json.dumps({"class_name": "Model", "config": config, "keras_version": "2.4.0", "backend": "tensorflow"})


def predicted(tmp_path, *args, **options):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([], "S1")
        file.attrs["keras_version"] = "2.4.0"
    given = [X, X * X + 1][: len(options.get("tensors", "x"))]
    return cylstm.load(path, architecture=built(*args, **options)).predict(given if len(given) > 1 else X)


def type_of(name):
    return {"T": {"type": name}}


VALUES = np.arange(4.0)
BOTH = ("x", "z")


@pytest.mark.parametrize(
    ("operation", "constants", "attributes", "tensors", "right"),
    [
        ("Sub", {"0": [0.0, 1.0, 2.0, 3.0]}, type_of("DT_FLOAT"), "x", VALUES - X),
        ("Sub", {"1": [0.0, 1.0, 2.0, 3.0]}, type_of("DT_FLOAT"), "x", X - VALUES),
        ("Div", {"0": 2.0}, type_of("DT_FLOAT"), "x", 2 / X),
        ("ClipByValue", {"1": -0.25, "2": 0.5}, type_of("DT_FLOAT"), "x", np.clip(X, -0.25, 0.5)),
        ("ConcatV2", {"2": 1}, {"N": {"i": "2"}}, BOTH, np.concatenate([X, X * X + 1], 1)),
        ("Pack", {}, {"axis": {"i": "-1"}, "N": {"i": "2"}}, BOTH, np.stack([X, X * X + 1], -1)),
        ("BatchMatMul", {}, {"adj_x": {"b": False}, "adj_y": {"b": True}}, BOTH, X @ (X * X + 1).swapaxes(1, 2)),
        ("Einsum", {}, {"equation": {"s": "YnRmLGJzZi0+YnRz"}, "N": {"i": "2"}}, BOTH, X @ (X * X + 1).swapaxes(1, 2)),
        ("GatherV2", {"1": [5, 0], "2": 1}, {"batch_dims": {"i": "0"}}, "x", X[:, [5, 0]]),
        ("StridedSlice", {"1": [0, 1], "2": [0, 5], "3": [1, 2]}, {"begin_mask": {"i": "1"}, "end_mask": {"i": "1"}},
         "x", X[:, 1:5:2]),
        ("StridedSlice", {"1": [0, -1, 0], "2": [0, 0, 2], "3": [1, 1, 1]},
         {"ellipsis_mask": {"i": "1"}, "shrink_axis_mask": {"i": "2"}, "new_axis_mask": {"i": "4"}},
         "x", X[..., -1, None]),
        ("BiasAdd", {"1": [0.0, 1.0, 2.0, 3.0]}, {"data_format": {"s": "TkhXQw=="}}, "x", X + VALUES),
        ("LeakyRelu", {}, {"alpha": {"f": 0.25}}, "x", np.where(X > 0, X, 0.25 * X)),
        ("LeakyRelu", {}, {}, "x", np.where(X > 0, X, 0.2 * X)),
    ],
)  # fmt: skip
def test_an_operation_is_tensorflows(tmp_path, operation, constants, attributes, tensors, right):
    found = predicted(tmp_path, operation, constants, attributes, tensors=tensors)
    np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("operation", "constants", "attributes", "message"),
    [
        ("Conv2D", {}, {}, "TensorFlow's operation Conv2D is not supported; docs/supported.md lists"),
        ("RandomUniform", {}, {}, "RandomUniform: random numbers, which differ"),
        ("While", {}, {}, "While: it calls a function that the file does not hold"),
        ("Where", {}, {}, "Where: its result's size depends on the numbers; use tf.where of three"),
        ("Relu", {}, {"leak": {"f": 0.1}}, "Relu: its attribute leak=0.1 is not supported"),
        ("BiasAdd", {"1": [0.0] * 6}, {"data_format": {"s": "TkNIVw=="}}, "biases of the channels first"),
        ("Relu", {"3": 1.0}, {}, "a constant for input '3' of 1 others"),
        ("Relu", {"-1": 1.0}, {}, "a constant for input '-1'"),
        ("Relu", [1.0], {}, "option constants expected an object"),
        ("Relu", {}, {"alpha": 3}, "expected one value, found 3"),
        ("Relu", {}, {"T": {"i": "many"}}, "expected a value, found 'i' of 'many'"),
        ("Relu", {}, {"T": {"s": 1 << 31}}, "expected a value, found 's' of 2147483648"),
        ("Cast", {}, {"DstT": {"type": "DT_COMPLEX64"}}, "a cast to DT_COMPLEX64"),
        ("Gather", {"1": [2, 0]}, {"Tparams": {"type": "DT_FLOAT"}}, "mixes the rows"),
        ("Add", {"1": 1.0, "2": 1.0}, {}, "cannot be computed of"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, operation, constants, attributes, message):
    with pytest.raises(CylstmError, match=message) as error:
        predicted(tmp_path, operation, constants, attributes)
    assert "tf_op_layer_o" in str(error.value)


@pytest.mark.parametrize("text", ["", "\x12\x04Relu\x12\x04Relu", "\x12", 7, "\x12\x04Relu*\x03\x0a\x01T\x7f"])
def test_a_node_that_is_damaged_is_refused(tmp_path, text):
    with pytest.raises(CylstmError, match=r"tf_op_layer_o.*node_def"):
        predicted(tmp_path, "", {}, {}, text=text)
