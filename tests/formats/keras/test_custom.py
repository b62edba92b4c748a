"""Custom layers and Lambdas as functions of the user's: what they get, what they may return, what is refused."""

import numpy as np
import pytest

import cylstm
from cylstm import program as xp
from cylstm.errors import CylstmError

from tests import ROOT
from tests.builders.weight_files import keras_input, keras_layer, keras_lstm, keras_model, write_h5, write_keras

h5py = pytest.importorskip("h5py")

W, B = (np.random.default_rng(5).standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,)))
X = np.random.default_rng(6).standard_normal((3, 7, 3)).astype(np.float32)


def mine(name="mine", class_name="Mine", **config):
    return {**keras_layer(class_name, name, trainable=True, **config), "module": "my.code", "registered_name": None}


def file(path, *layers, time=None, weights=(W, B)):
    """A model of one custom layer with a matrix and a bias, then `layers`."""
    model = keras_model(keras_input(time, 3), mine(rate=2.0), *layers)
    if path.suffix == ".keras":
        return write_keras(path, model, {"layers/mine": weights})
    for layer in model["config"]["layers"]:
        layer.pop("module", None)
        layer.pop("registered_name", None)
    return write_h5(path, model, {"mine": dict(zip(("mine/w:0", "mine/b:0"), weights, strict=False))})


def affine(x, weights, config):
    return xp.tanh(x @ weights["var0"] + weights["var1"]) * config["rate"]


def expected(x):
    return 2.0 * np.tanh(x.astype(np.float64) @ W + B)


def load(path, function, name="Mine"):
    return cylstm.load(path, custom_layers={name: function})


def test_a_function_gives_what_the_layer_computes(path):
    model = load(file(path), affine)
    np.testing.assert_allclose(model.predict(X), expected(X), atol=1e-6)
    assert model.outputs == ("mine",) and model.can_stream
    stream = model.stream(batch=3)
    assert (np.stack([stream.step(X[:, t]) for t in range(7)], axis=1) == model.predict(X)).all()


def test_a_layer_is_named_by_its_class_or_by_its_own_name(path):
    by_class = load(file(path), affine)
    by_name = load(path, affine, "mine")
    assert (by_class.predict(X) == by_name.predict(X)).all()


def test_a_class_is_made_with_the_config_and_called(path):
    class Mine:
        def __init__(self, config):
            self.rate = config["rate"]

        def __call__(self, x, weights, config):
            w, b = weights.values()
            return self.rate * xp.tanh(x @ w + b)

    np.testing.assert_allclose(load(file(path), Mine).predict(X), expected(X), atol=1e-6)


def test_weights_have_the_names_of_the_file_and_their_places(path):
    seen = {}

    def function(x, weights, config):
        seen.update(weights)
        assert "var1" in weights and weights.get("none") is None and weights["var1"].tobytes() == B.tobytes()
        return affine(x, weights, config)

    load(file(path), function)
    assert list(seen) == (["var0", "var1"] if path.suffix == ".keras" else ["w", "b"])


def test_a_native_file_of_the_model_needs_no_function(path, tmp_path):
    model = load(file(path), affine)
    model.save(tmp_path / "model.cylstm")
    assert (cylstm.load(tmp_path / "model.cylstm").predict(X) == model.predict(X)).all()


def test_a_conversion_takes_functions_too(path, tmp_path):
    cylstm.convert(file(path), tmp_path / "model.cylstm", custom_layers={"Mine": affine})
    assert (cylstm.load(tmp_path / "model.cylstm").predict(X) == load(path, affine).predict(X)).all()


def test_a_lambda_is_named_by_its_layer(tmp_path):
    model = keras_model(keras_input(None, 3), keras_layer("Lambda", "twice", trainable=True, function="x"))
    path = write_keras(tmp_path / "a.keras", model, {})
    assert (load(path, lambda x, weights, config: x + x, "twice").predict(X) == 2 * X).all()
    with pytest.raises(cylstm.ArgumentError, match="'Lambda': a Lambda is named by its layer's name, such as"):
        load(path, lambda x, weights, config: x + x, "Lambda")
    with pytest.raises(cylstm.UnsupportedError, match=r'custom_layers=\{"twice": twice\}'):
        cylstm.load(path)


def test_a_lambda_may_drop_the_only_row_of_an_image(tmp_path):
    layers = [keras_layer("Permute", "turn", dims=[2, 1, 3]), keras_layer("Lambda", "lambda", function="x")]
    path = write_keras(tmp_path / "a.keras", keras_model(keras_input(7, 1, 3), *layers), {})
    found = load(path, lambda x, weights, config: xp.squeeze(x, 1), "lambda").predict(X[:, :, np.newaxis])
    np.testing.assert_array_equal(found, X)
    with pytest.raises(cylstm.UnsupportedError, match=r"\ndef lambda_\(x, weights, config\):"):
        cylstm.load(path)


def test_a_loop_over_the_steps_takes_their_number_from_the_shape_of_the_input(path):
    def function(x, weights, config):
        h = xp.zeros((x.shape[0], 4))
        for t in range(x.shape[1]):
            h = xp.tanh(x[:, t] @ weights["var0"] + weights["var1"] + 0.5 * h)
        return h

    h = np.zeros((3, 4))
    for t in range(7):
        h = np.tanh(X[:, t].astype(np.float64) @ W + B + 0.5 * h)
    np.testing.assert_allclose(load(file(path, time=7), function).predict(X), h, atol=1e-6)
    with pytest.raises(cylstm.ShapeError, match=r"'mine'.* needs the number of steps in advance \(test_custom.py line"):
        load(file(path), function)


def test_the_last_step_and_sums_over_the_time_follow_any_length(path):
    def function(x, weights, config):
        y = x @ weights["var0"] + weights["var1"]
        return xp.sum(y, axis=1) / x.shape[1] + y[:, -1]

    model = load(file(path), function)
    for steps in (2, 7):
        y = X[:, :steps].astype(np.float64) @ W + B
        np.testing.assert_allclose(model.predict(X[:, :steps]), y.mean(1) + y[:, -1], atol=1e-6)


def test_a_result_without_features_is_an_output_alone(path):
    def function(x, weights, config):
        return (x @ weights["var0"] + weights["var1"])[:, :, 2]

    found = load(file(path), function).predict(X)
    assert found.shape == (3, 7)
    np.testing.assert_allclose(found, (X.astype(np.float64) @ W + B)[:, :, 2], atol=1e-6)
    softmax = keras_layer("Activation", "soft", activation="softmax")
    with pytest.raises(cylstm.ShapeError, match=r"'soft' \(Activation\): reads \(batch, time\) of 'mine', which needs"):
        load(file(path, softmax), function)
    y = (X.astype(np.float64) @ W + B)[:, :, 2]
    y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(load(file(path, softmax, time=7), function).predict(X), y, atol=1e-6)


def test_a_mask_is_handed_on_only_where_the_function_says_so(tmp_path):
    masking = keras_layer("Masking", "m", mask_value=0.0)
    rng = np.random.default_rng(8)
    lstm = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 20), (5, 20), (20,))]
    model = keras_model(keras_input(None, 3), masking, mine(rate=2.0), keras_lstm("rnn", 5))
    path = write_keras(tmp_path / "a.keras", model, {"layers/mine": (W, B), "layers/lstm/cell": lstm})
    with pytest.raises(cylstm.UnsupportedError, match=r"supports_masking = True or False"):
        load(path, affine)
    x = X.copy()
    x[1, 4:] = 0.0

    def passing(*given):
        return affine(*given)

    def ending(*given):
        return affine(*given)

    passing.supports_masking, ending.supports_masking = True, False
    whole = load(path, ending).predict(x)
    masked = load(path, passing).predict(x)
    assert (masked[1] == load(path, ending).predict(x[1:2, :4])[0]).all() and (masked[0] == whole[0]).all()
    assert (masked[1] != whole[1]).any()


def test_a_function_that_takes_a_mask_gets_that_of_its_input(tmp_path):
    model = keras_model(keras_input(None, 3), keras_layer("Masking", "m", mask_value=0.0), mine(rate=2.0))
    path = write_keras(tmp_path / "a.keras", model, {"layers/mine": (W, B)})

    def function(x, weights, config, mask=None):
        y = affine(x, weights, config)
        return xp.sum(xp.where(xp.expand_dims(mask, axis=2), y, 0.0), axis=1)

    x = X.copy()
    x[1, 4:] = 0.0
    y = expected(x)
    y[1, 4:] = 0.0
    np.testing.assert_allclose(load(path, function).predict(x), y.sum(axis=1), atol=3e-6)


class Counting:
    """Does something else every time."""

    def __init__(self, config):
        self.calls = 0

    def __call__(self, x, weights, config):
        self.calls += 1
        return affine(x, weights, config) * self.calls


class Keeping:
    """Computes with an array of the call before."""

    def __init__(self, config):
        self.kept = None

    def __call__(self, x, weights, config):
        if self.kept is None:
            self.kept = x
        return affine(self.kept, weights, config)


def failing(x, weights, config):
    return affine(x, weights, config).missing


def changing_config(x, weights, config):
    y = affine(x, weights, config)
    config["rate"] = 3.0
    return y


def changing_weights(x, weights, config):
    weights["var0"][0, 0] = 1.0
    return affine(x, weights, config)


def with_bias(function):
    return lambda x, weights, config: function(affine(x, weights, config))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (with_bias(lambda y: None), "returned nothing, expected an array whose first axis is the batch"),
        (with_bias(lambda y: "y"), "returned something of type str, expected"),
        (with_bias(lambda y: 3.0), "returned a constant, expected"),
        (with_bias(lambda y: ()), "returned nothing"),
        (with_bias(lambda y: {"y": y}), "returned something of type dict, expected"),
        (lambda x, weights, config: weights["var0"] + weights["var1"], r"returned a constant of shape \(3, 4\)"),
        (with_bias(lambda y: y.T), r"returned an array \(4, time, batch\), expected"),
        (with_bias(lambda y: xp.reshape(y, (-1, 4))), r"returned an array \(batch \* time, 4\), whose first axis has"),
        (with_bias(lambda y: xp.sum(y, axis=(1, 2))), r"one number for each row.*expand_dims\(y, axis=1\)"),
        (with_bias(xp.sum), "mixes the rows of a batch.*say which axes"),
        (with_bias(lambda y: y - xp.mean(y, axis=0)), "mixes the rows of a batch"),
        (with_bias(lambda y: y[0]), "mixes the rows of a batch"),
        (with_bias(lambda y: [row for row in y]), "a loop over the first axis mixes the rows of a batch"),
        (with_bias(lambda y: y if y.shape[0] == 3 else -y), "uses the number of rows of a batch"),
        (with_bias(lambda y: y if y.shape[1] > 3 else -y), "needs the number of steps in advance"),
        (with_bias(lambda y: y if y[:, 0] > 3 else -y), "is true is not known while a model is loaded; choose with"),
        (with_bias(np.cumsum), "numpy.cumsum does not take arrays of a network"),
        (with_bias(np.cbrt), "numpy.cbrt does not take arrays of a network"),
        (with_bias(np.array), "has no numbers while a model is loaded"),
        (with_bias(float), "has no numbers while a model is loaded"),
        (with_bias(lambda y: xp.softmax(y, axis=3)), r"expected an axis of an array of shape \(batch, time, 4\), fou"),
        (with_bias(lambda y: xp.squeeze(y, axis=1)), "dropping axis 1 of an array of shape .* needs the number"),
        (with_bias(lambda y: y @ np.ones((5, 2), np.float32)), r"a product of shapes .*4\) and \(5, 2\) does not fit"),
        (with_bias(lambda y: y + np.ones(5, np.float32)), "do not match"),
        (with_bias(lambda y: y + object()), "expected an array or a number, found object"),
        (with_bias(lambda y: y & 1), r"&, \|, \^ and ~ are of truths"),
        (with_bias(lambda y: y[0, 0, 0, 0]), "4 places of an array"),
        (failing, r"raised AttributeError: .*missing.* \(test_custom.py line \d+\)"),
        (lambda x: x, "raised TypeError: .*takes 1 positional argument but 3 were given"),
        (lambda x, weights, config: x, r"never reads weights\['var0'\] \(3, 4\), weights\['var1'\] \(4,\); read"),
        (lambda x, weights, config: x @ weights["v0"], r"it has no weight 'v0'.*its weights are 'var0' \(3, 4\)"),
        (changing_config, "changes its config; work on a copy"),
        (changing_weights, "raised ValueError: assignment destination is read-only"),
        (Counting, "does not do the same when it is called again"),
        (Keeping, "is an array of another call of the function"),
    ],
)  # fmt: skip
def test_a_function_that_does_not_fit_is_an_error_that_names_the_layer(tmp_path, function, message):
    path = tmp_path / "model.keras"
    with pytest.raises(CylstmError, match=message) as caught:
        load(file(path), function)
    assert "layer 'mine'" in str(caught.value) and path.name in str(caught.value)
    assert "<cylstm" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([affine], "custom_layers expected a dict of names to functions, found list"),
        ({"Mine": 3}, r"'Mine': expected a function \(x, weights, config\), found int"),
        ({"Mien": affine}, r"'Mien': the model has no layer of this class or name \(near: 'Mine'"),
        ({"Dense": affine}, "'Dense': the model has no layer of this class or name"),
    ],
)
def test_names_that_the_model_has_not_are_refused(path, given, message):
    with pytest.raises(cylstm.ArgumentError, match=message):
        cylstm.load(file(path), custom_layers=given)


def test_the_error_prints_the_function_to_fill_in(path):
    with pytest.raises(cylstm.UnsupportedError) as caught:
        cylstm.load(file(path))
    lines = str(caught.value).splitlines()
    start = lines.index("def mine(x, weights, config, mask=None):")
    names = ("'var0'", "'var1'") if path.suffix == ".keras" else ("'w'", "'b'")
    assert "    # x: (batch, time, 3)" in lines[start:]
    assert f"    # weights: {names[0]} (3, 4), {names[1]} (4,)" in lines[start:]
    assert "    # config: {'rate': 2.0}" in lines[start:]
    assert lines[-1] == f'model = cylstm.load("{path}", custom_layers={{"Mine": mine}})'
    # as it stands it is a function, that returns nothing of use
    found = {}
    exec("\n".join(line for line in lines[1:-1]), found)
    with pytest.raises(cylstm.ArgumentError, match="returned something of type ellipsis"):
        load(path, found["mine"])


def test_an_older_file_of_a_class_that_is_called_as_one_of_keras_takes_the_function(tmp_path):
    model = keras_model(keras_input(None, 3), keras_layer("Attention", "att", trainable=True, rate=2.0))
    for layer in model["config"]["layers"]:
        layer.pop("module", None)
    path = write_h5(tmp_path / "a.h5", model, {"att": {"att/w:0": W, "att/b:0": B}}, version="2.4.0")
    np.testing.assert_allclose(load(path, affine, "Attention").predict(X), expected(X), atol=1e-6)


def test_a_file_of_another_kind_takes_no_custom_layers(tmp_path):
    np.savez(tmp_path / "a.npz", w=W)
    with pytest.raises(cylstm.FormatError, match="leave out custom_layers="):
        load(tmp_path / "a.npz", affine)


DATA = ROOT / "tests" / "data" / "custom"


def attention(x, weights, config):
    w, b = weights.values()
    return xp.sum(x * xp.softmax(xp.tanh(x @ w + b), axis=1), axis=1)


def bahdanau(x, weights, config):
    query, values = x
    if "V/var0" in weights:
        parts = [weights[f"{name}/var{k}"] for name in ("W1", "W2", "V") for k in (0, 1)]
    else:
        parts = list(weights.values())
    w1, b1, w2, b2, v, b = parts
    scores = xp.softmax(xp.tanh(xp.expand_dims(query, 1) @ w1 + b1 + values @ w2 + b2) @ v + b, axis=1)
    return xp.sum(scores * values, axis=1), scores


@pytest.mark.parametrize("extension", ["h5", "keras"])
@pytest.mark.parametrize(
    ("name", "custom"),
    [
        ("attention", {"Attention": attention}),
        ("bahdanau", {"BahdanauAttention": bahdanau}),
        ("bahdanau", {"tutorial>BahdanauAttention": bahdanau}),
        ("average", {"average": lambda x, weights, config: xp.mean(x, axis=1)}),
    ],
)
def test_files_of_keras_2_give_its_numbers(name, custom, extension):
    expected = np.load(DATA / "expected.npz")
    found = cylstm.load(DATA / f"{name}.{extension}", custom_layers=custom).predict(expected["x"])
    for i, y in enumerate(found if isinstance(found, list) else [found]):
        np.testing.assert_allclose(y, expected[f"{name}_{i}"], atol=1e-6)


def test_an_older_file_with_a_class_called_as_one_of_keras_says_that_it_may_be_a_custom_one():
    with pytest.raises(
        CylstmError, match=r'one of your own, say what it computes with custom_layers=\{"Attention": fu'
    ):
        cylstm.load(DATA / "attention.h5")
