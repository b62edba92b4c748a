"""Operations between the layers of Keras models, as they stand in files: against NumPy, and those that are refused."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, ShapeError, UnsupportedError

from tests.builders.weight_files import keras_input, keras_lstm, keras_lstm_weights, write_h5, write_keras
from tests.formats.keras.test_network import called, functional, tensor

pytest.importorskip("h5py")

TIME, FEATURES = 6, 4
X = np.random.default_rng(3).normal(size=(3, TIME, FEATURES)).astype(np.float32)
VECTOR = np.array([0.3, -1.2, 0.7, 2.0], np.float32)


def array(values, dtype="float32"):
    """A constant as Keras 3 writes it."""
    return {"class_name": "__numpy__", "config": {"value": np.asarray(values).tolist(), "dtype": dtype}}


def part(start=None, stop=None, step=None):
    return {"class_name": "__slice__", "config": {"start": start, "stop": stop, "step": step}}


def operation(class_name, *args, name="op", **options):
    entry = {"module": "keras.src.ops.numpy", "class_name": class_name, "config": {"name": name, **options}}
    return called({**entry, "registered_name": class_name}, *args)


def load(tmp_path, *operations, shape=(TIME, FEATURES), outputs=("op", 0, 0), **options):
    """A model of an input x and operations."""
    model = functional(["x", 0, 0], list(outputs), called(keras_input(*shape, name="x")), *operations)
    return cylstm.load(write_keras(tmp_path / "a.keras", model, {}, version="3.15.1"), **options)


def one(tmp_path, class_name, *args, **options):
    return load(tmp_path, operation(class_name, tensor("x"), *args, **options)).predict(X)


@pytest.mark.parametrize(
    ("class_name", "args", "options", "expected"),
    [
        ("GetItem", [[part(), part(None, None, -1)]], {}, X[:, ::-1]),
        ("GetItem", [[part(), part(), part(None, None, -2)]], {}, X[:, :, ::-2]),
        ("GetItem", [[part(), part(), [3, 0]]], {}, X[:, :, [3, 0]]),
        ("GetItem", [[part(), array([1, 4], "int64")]], {}, X[:, [1, 4]]),
        ("GetItem", [[{"class_name": "__ellipsis__", "config": {}}, None, 1]], {}, X[..., None, 1]),
        ("Slice", [[0, 1, 2]], {"shape": [3, 4, 2]}, X[:, 1:5, 2:4]),
        ("SliceUpdate", [[0, 2, 1], array(np.full((1, 2, 2), 7.0))], {}, None),
        ("Repeat", [], {"repeats": [1, 0, 2, 1], "axis": 2}, np.repeat(X, [1, 0, 2, 1], axis=2)),
        ("Linspace", [array(VECTOR)], {"num": 3, "axis": 1}, np.linspace(X, np.broadcast_to(VECTOR, X.shape), 3,
        axis=1)),
        ("Linspace", [2.0], {"num": 4, "axis": -1, "endpoint": False},
         np.linspace(X, np.full_like(X, 2.0), 4, axis=-1, endpoint=False)),
        ("Logspace", [1.0], {"num": 3, "axis": 1, "base": 3}, np.logspace(X, np.ones_like(X), 3, base=3, axis=1)),
        ("Cross", [], {}, None),
        ("CountNonzero", [], {"axis": 1}, np.count_nonzero(X, axis=1)),
        ("Softmax", [], {"axis": [1, 2]}, np.exp(X) / np.exp(X).sum((1, 2), keepdims=True)),
        ("Average", [array(VECTOR)], {"axis": 2}, np.average(X, axis=2, weights=VECTOR)),
        ("Average", [array(np.arange(1.0, 7.0))], {"axis": 1}, np.average(X, axis=1, weights=np.arange(1, 7))),
        ("Quantile", [array([0.2, 0.9])], {"axis": 1}, None),
        ("Norm", [], {"axis": [1, 2], "ord": 1}, np.linalg.norm(X, ord=1, axis=(1, 2))),
        ("Norm", [], {"axis": 2, "ord": 0}, np.linalg.norm(X, ord=0, axis=2)),
        ("IsIn", [array([0.5, 9.0])], {"invert": True}, np.ones(X.shape)),
        ("NanToNum", [], {"nan": 1.0}, X),
        ("BitwiseNot", [], {}, None),
        ("Pad", [], {"pad_width": [[0, 0], [1, 1], [2, 0]], "mode": "constant"}, np.pad(X, ((0, 0), (1, 1), (2, 0)))),
        ("Diff", [], {"n": 2, "axis": 1}, np.diff(X, n=2, axis=1)),
        ("Trapezoid", [array([0.0, 0.5, 2.0, 2.5])], {"axis": -1}, None),
    ],
)  # fmt: skip
def test_an_operation_gives_numpys_numbers(tmp_path, class_name, args, options, expected):
    given = [tensor("x"), *args]
    if class_name == "SliceUpdate":
        given, expected = [tensor("x"), args[0], tensor("new")], X.copy()
        new = operation("GetItem", tensor("x"), [part(), part(0, 2), part(0, 2)], name="new")
        expected[:, 2:4, 1:3] = X[:, :2, :2]
        found = load(tmp_path, new, operation(class_name, *given)).predict(X)
    elif class_name == "Cross":
        first = operation("GetItem", tensor("x"), [part(), part(), part(0, 3)], name="a")
        second = operation("GetItem", tensor("x"), [part(), part(), part(1, 4)], name="b")
        expected = np.cross(X[..., :3], X[..., 1:])
        found = load(tmp_path, first, second, operation("Cross", tensor("a"), tensor("b"))).predict(X)
    elif class_name == "BitwiseNot":
        truths = operation("Greater", tensor("x"), 0.2, name="truths")
        expected = ~(X > 0.2)
        found = load(tmp_path, truths, operation("BitwiseNot", tensor("truths"))).predict(X)
    elif class_name == "Trapezoid":
        expected = (
            np.trapezoid(X, [0.0, 0.5, 2.0, 2.5]) if hasattr(np, "trapezoid") else np.trapz(X, [0.0, 0.5, 2.0, 2.5])
        )
        found = one(tmp_path, "Trapezoid", x=args[0], axis=-1)
    elif class_name == "Quantile":
        with pytest.raises(UnsupportedError, match="whose first axis is not the batch"):
            one(tmp_path, class_name, *args, **options)
        return
    else:
        found = load(tmp_path, operation(class_name, *given, **options)).predict(X)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_search_sorted_counts_on_either_side(tmp_path):
    places = array([-0.5, 0.0, 0.0, 0.8])
    for side in ("left", "right"):
        found = load(tmp_path, operation("SearchSorted", places, tensor("x"), side=side)).predict(X)
        np.testing.assert_array_equal(found, np.searchsorted([-0.5, 0.0, 0.0, 0.8], X, side))


def test_an_output_may_be_one_number_of_each_row_and_have_its_time_behind(tmp_path):
    model = load(tmp_path, operation("Sum", tensor("x"), axis=[1, 2]))
    np.testing.assert_allclose(model.predict(X), X.sum((1, 2)), rtol=1e-5)
    model = load(tmp_path, operation("Transpose", tensor("x"), axes=[0, 2, 1]), shape=(None, FEATURES))
    np.testing.assert_array_equal(model.predict(X), X.transpose(0, 2, 1))
    assert model.predict(X[:, :4]).shape == (3, FEATURES, 4)
    model.save(tmp_path / "b.cylstm")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "b.cylstm").predict(X), X.transpose(0, 2, 1))


def test_attention_by_hand_runs_over_any_number_of_steps(tmp_path):
    operations = [
        operation("Transpose", tensor("x"), axes=[0, 2, 1], name="k"),
        operation("Matmul", tensor("x"), tensor("k"), name="scores"),
        operation("Softmax", tensor("scores"), axis=-1, name="weights"),
        operation("Matmul", tensor("weights"), tensor("x")),
    ]
    model = load(tmp_path, *operations, shape=(None, FEATURES))
    assert [layer.kind for layer in model.graph.layers] == ["attention"]
    for x in (X, X[:, :4]):
        scores = np.exp(x @ x.transpose(0, 2, 1))
        expected = scores / scores.sum(-1, keepdims=True) @ x
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-5, atol=1e-6)


def test_the_last_step_streams(tmp_path):
    model = load(tmp_path, operation("GetItem", tensor("x"), [part(), -1]), shape=(None, FEATURES))
    stream = model.stream(batch=3)
    for t in range(TIME):
        np.testing.assert_array_equal(stream.step(X[:, t]), X[:, t])


def test_the_last_step_is_the_last_whatever_the_lengths(tmp_path):
    """Keras's operations read no masks."""
    lstm = called(keras_lstm("rnn", 5), tensor("x"))
    last = operation("GetItem", tensor("x"), [part(), -1])
    ends = [["rnn", 0, 0], ["op", 0, 0]]
    model = functional(["x", 0, 0], ends, called(keras_input(None, FEATURES, name="x")), lstm, last)
    weights = keras_lstm_weights(np.random.default_rng(5), FEATURES, 5)
    loaded = cylstm.load(write_keras(tmp_path / "a.keras", model, {"layers/lstm/cell": weights}, version="3.15.1"))
    h, found = loaded.predict(X, lengths=[6, 4, 2])
    np.testing.assert_array_equal(found, X[:, -1])
    assert np.abs(h[1] - loaded.predict(X)[0][1]).max() > 1e-3


def test_a_mask_may_be_computed_from_numbers(tmp_path):
    """Steps whose first number is positive count."""
    first = operation("GetItem", tensor("x"), [part(), part(), 0], name="first")
    mask = operation("Greater", tensor("first"), 0.0, name="mask")
    lstm = called(keras_lstm("rnn", 5), tensor("x"), mask=tensor("mask"))
    plain = called(keras_lstm("rnn", 5), tensor("x"))
    weights = keras_lstm_weights(np.random.default_rng(5), FEATURES, 5)
    models = []
    for shape in ((None, FEATURES), (TIME, FEATURES)):
        model = functional(["x", 0, 0], ["rnn", 0, 0], called(keras_input(*shape, name="x")), first, mask, lstm)
        models.append(
            write_keras(tmp_path / f"{len(models)}.keras", model, {"layers/lstm/cell": weights}, version="3.15.1")
        )
    bare = functional(["x", 0, 0], ["rnn", 0, 0], called(keras_input(None, FEATURES, name="x")), plain)
    path = write_keras(tmp_path / "plain.keras", bare, {"layers/lstm/cell": weights}, version="3.15.1")
    expected = cylstm.load(path).predict(X, mask=X[:, :, 0] > 0)
    for path in models:
        np.testing.assert_array_equal(cylstm.load(path).predict(X), expected)


@pytest.mark.parametrize(
    ("class_name", "args", "options", "message"),
    [
        ("Sum", [], {"axis": 0}, "another axis than the batch.*mixes the rows of a batch"),
        ("Sum", [], {"axis": None}, "over all axes it mixes the rows"),
        ("Sum", [], {"axis": 7}, r"option axis expected an axis of"),
        ("Cumsum", [], {"axis": None}, "mixes the rows"),
        ("GetItem", [[0]], {}, "expected the whole batch and then a part of"),
        ("GetItem", [[part(1, 2), 0]], {}, "a part of the batch mixes the rows"),
        ("GetItem", [[part(), "a"]], {}, "an index that the network computes is not supported"),
        ("GetItem", [[part(), 9]], {}, "expected a place in an axis of 6, found 9"),
        ("GetItem", [[part(), part(), part(), 1]], {}, "4 indices of a tensor"),
        ("BroadcastTo", [], {"shape": [2, 6, 4]}, "fixes the number of rows at 2"),
        ("Cast", [], {"dtype": "float16"}, "numbers computed in float16 are not supported"),
        ("Take", [[0, 9]], {"axis": 1}, "expected places in an axis of 6"),
        ("Reshape", [], {"newshape": [-1, 25]}, "a reshape of .* does not fit"),
        ("Split", [], {"indices_or_sections": 3, "axis": 2}, "a split of 4 places into 3 parts does not fit"),
        ("Quantile", [0.5], {"axis": 1, "method": "lower"}, "in place of which Keras computes 'linear'"),
        ("Pad", [], {"pad_width": [[0, 0], [2, 0], [0, 0]], "mode": "symmetric"}, "Keras's backends differ"),
        ("Pad", [], {"pad_width": [[1, 0], [0, 0], [0, 0]]}, "mixes the rows"),
        ("Tile", [], {"repeats": [2, 1, 1]}, "a repetition of the rows mixes"),
        ("FFT", [], {}, "keras.ops FFT is not supported; complex numbers are not computed"),
        ("Inv", [], {}, "keras.ops Inv is not supported; matrices are not decomposed"),
        ("Map", [], {}, "calls a function of Python's"),
        ("AllClose", [1.0], {}, "it mixes the rows"),
        ("Outer", [1.0], {}, r"multiply a\[:, :, None\] by b\[:, None, :\]"),
        ("Where", [], {}, "whose number depends on the numbers"),
        ("Clip", [], {}, "its arguments are not those of the operation"),
        ("Clip", [], {"x_min": 0, "x_max": 1, "speed": 3}, "its arguments are not those of the operation"),
        ("Clip", [], {"x_min": {"class_name": "__lambda__", "config": {}}, "x_max": 1},
        "an argument of class '__lambda__'"),
        ("Add", [{"class_name": "__numpy__", "config": {"value": [[1.0], [2.0, 3.0]], "dtype": "float32"}}], {},
         "a constant is no array"),
        ("Add", [{"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "float32"}}], {},
        "expected real numbers"),
        ("Add", [array([1.5], "int32")], {}, "a constant expected whole numbers, as its type int32 says"),
        ("Add", [array([1.0, 2.0, 3.0])], {}, "do(es)? not match"),
        ("OneHot", [], {"num_classes": 1 << 60}, "expected at most"),
        ("Repeat", [], {"repeats": 1 << 60, "axis": 1}, "expected at most"),
        ("Linspace", [1.0], {"num": 1 << 50}, "expected at most"),
        ("Einsum", [], {"subscripts": "ab,bc->ac"}, "einsum 'ab,bc->ac' of a tensor"),
        ("Transpose", [], {"axes": "no"}, "option axes expected a list of axes"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_and_says_why(tmp_path, class_name, args, options, message):
    with pytest.raises(CylstmError, match=message) as caught:
        load(tmp_path, operation(class_name, tensor("x"), *args, **options))
    text = str(caught.value)
    assert "a.keras" in text and "'op'" in text
    assert "object at 0x" not in text and "%" not in text
    assert isinstance(caught.value, (UnsupportedError, ShapeError, FormatError))


# TensorFlow's functions in files of Keras 2


def lambda_layer(function, *args, name="op", class_name="TFOpLambda", **options):
    """As Keras 2 writes it: tensors are [layer, call, output]."""
    entry = {"class_name": class_name, "module": "keras.src.layers.core.tf_op_layer", "registered_name": class_name,
             "config": {"name": name, "trainable": True, "dtype": "float32", "function": function}}  # fmt: skip
    first = args[0] if len(args) == 1 else [[*one, options] for one in args]
    node = [*first, options] if len(args) == 1 else first
    return entry | {"name": name, "inbound_nodes": [node]}


def load_tensorflow(path, *layers):
    source = keras_input(TIME, FEATURES, name="x")
    model = functional([["x", 0, 0]], [["op", 0, 0]], source | {"name": "x", "inbound_nodes": []}, *layers)
    if path.suffix == ".h5":
        return cylstm.load(write_h5(path, model, {}, version="2.15.0"))
    return cylstm.load(write_keras(path, model, {}, version="2.15.0"))


READ = ["x", 0, 0]
SLICE = {"start": None, "stop": None, "step": None}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda_layer("math.reduce_mean", READ, axis=1), X.mean(1)),
        (lambda_layer("math.subtract", ["_CONSTANT_VALUE", -1, 1.0], y=READ, name="op"), 1 - X),
        (lambda_layer("concat", READ, READ, axis=-1), np.concatenate([X, X], -1)),
        (lambda_layer("stack", READ, READ, axis=1), np.stack([X, X], 1)),
        (lambda_layer("compat.v1.transpose", READ, perm=[0, 2, 1]), X.transpose(0, 2, 1)),
        (lambda_layer("linalg.matmul", READ, b=READ, transpose_b=True), X @ X.transpose(0, 2, 1)),
        (lambda_layer("compat.v1.gather", READ, indices=[0, 2], axis=2, batch_dims=0), X[:, :, [0, 2]]),
        (lambda_layer("math.l2_normalize", READ, axis=-1), X / np.linalg.norm(X, axis=-1, keepdims=True)),
        (lambda_layer("math.cumsum", READ, axis=1, exclusive=True, reverse=True),
         np.cumsum(X[:, ::-1], 1)[:, ::-1] - X),
        (lambda_layer("split", READ, num_or_size_splits=[1, -1], axis=-1), X[:, :, :1]),
        (lambda_layer("sort", READ, axis=-1, direction="DESCENDING"), -np.sort(-X, axis=-1)),
        (lambda_layer("nn.swish", READ, beta=2.0), X / (1 + np.exp(-2 * X))),
        (lambda_layer("linalg.band_part", READ, num_lower=1, num_upper=0), np.triu(np.tril(X), -1)),
        (lambda_layer("__operators__.getitem", READ, class_name="SlicingOpLambda",
                      slice_spec=[SLICE, {"start": -2, "stop": None, "step": None}, 1]), X[:, -2:, 1]),
        (lambda_layer("__operators__.getitem", READ, class_name="SlicingOpLambda",
                      slice_spec=[{"class_name": "__ellipsis__"}, {"start": None, "stop": 2, "step": None}]), X[...,
                      :2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_function_of_tensorflow_gives_numpys_numbers(tmp_path, suffix, layer, expected):
    found = load_tensorflow(tmp_path / f"a{suffix}", layer).predict(X)
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)


def test_a_shape_of_tensorflow_is_one_that_reshapes(tmp_path):
    layers = [
        lambda_layer("compat.v1.shape", READ, name="shape", out_type="int32"),
        lambda_layer("__operators__.getitem", ["shape", 0, 0], name="rows", class_name="SlicingOpLambda", slice_spec=0),
        lambda_layer("reshape", READ, shape=[["rows", 0, 0], TIME * FEATURES]),
    ]
    np.testing.assert_array_equal(load_tensorflow(tmp_path / "a.h5", *layers).predict(X), X.reshape(3, -1))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda_layer("math.argmax", READ), "another axis than the batch"),
        (lambda_layer("image.resize", READ, size=[2, 2]), "the function tf.image.resize is not supported"),
        (lambda_layer("boolean_mask", READ, mask=[True]), "size depends on the numbers"),
        (lambda_layer("random.normal", READ), "random numbers"),
        (lambda_layer("einsum", ["_CONSTANT_VALUE", -1, "btf,bsf->bts"]), "the file does not say what tf.einsum reads"),
        (lambda_layer("nn.relu", READ, speed=3), "its arguments are not those of the operation|cannot be computed"),
        (lambda_layer(["no"], READ), r"option function expected a name, found \['no'\]"),
    ],
)
def test_what_is_not_computed_of_tensorflow_is_refused(tmp_path, layer, message):
    with pytest.raises(CylstmError, match=message):
        load_tensorflow(tmp_path / "a.keras", layer)
