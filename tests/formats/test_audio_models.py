"""GuitarML's and RTNeural's JSON: what is computed, and what is refused."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.loading import read

from tests.builders import weight_files as made
from tests.builders.audio_models import guitarml, guitarml_tensors, rtneural, rtneural_layer, write


def real(rng, *shape):
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


# GuitarML


@pytest.mark.parametrize(
    ("inputs", "outputs", "skip"), [(1, 1, 1), (1, 1, 0), (3, 1, 1), (2, 2, 2), (3, 2, 2), (2, 1, 2), (1, 1, 5)]
)
@pytest.mark.parametrize(("unit", "layers"), [("LSTM", 1), ("LSTM", 2), ("GRU", 1), ("RNN", 1)])
def test_the_first_features_of_the_input_are_added_to_the_output(rng, tmp_path, unit, layers, inputs, outputs, skip):
    sizes = {"unit": unit, "layers": layers, "inputs": inputs, "outputs": outputs, "hidden": 7}
    tensors = guitarml_tensors(rng, **sizes)
    model = cylstm.load(write(tmp_path / "a.json", guitarml(tensors, skip=skip, **sizes)))
    plain = cylstm.from_state_dict(tensors, [getattr(cylstm, unit)("rec"), cylstm.Linear("lin")])
    x = rng.standard_normal((3, 9, inputs)).astype("f")
    expected = plain.predict(x) + (x[:, :, :skip] if skip else 0)
    np.testing.assert_array_equal(model.predict(x), expected)
    np.testing.assert_array_equal(model.stream(batch=3).run(x), expected)
    assert set(model.provenance["tensors"]) == set(tensors) and model.provenance["format"] == "guitarml"


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a"])
@pytest.mark.parametrize("options", [{}, {"indent": 4}])
def test_a_guitarml_model_is_recognised_by_content_and_saved(rng, tmp_path, name, options):
    content = guitarml(guitarml_tensors(rng, bias=False), bias=False) | {"training_info": {"loss": 0.1}}
    content = {name: content[name] for name in ("state_dict", "training_info", "model_data")}
    model = cylstm.load(write(tmp_path / name, content, **options))
    assert model.provenance["beside"] == ("training_info",)
    model.save(tmp_path / "b.cylstm")
    x = rng.standard_normal((2, 5, 1)).astype("f")
    np.testing.assert_array_equal(cylstm.load(tmp_path / "b.cylstm").predict(x), model.predict(x))


def edited(edit):
    def make(rng):
        content = guitarml(guitarml_tensors(rng))
        edit(content["model_data"], content["state_dict"], content)
        return content

    return make


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d, s, c: d.update(model="RecNet"), "a GuitarML model 'RecNet'; SimpleRNN is read"),
        (lambda d, s, c: d.update(unit_type="SRU"), "unit_type expected LSTM, GRU or RNN, found 'SRU'"),
        (lambda d, s, c: d.update(unit_type=["LSTM"]), "unit_type expected"),
        (lambda d, s, c: d.update(unit_type="GRU"), r"'rec\.weight_ih_l0': expected shape \(24, 1\), found \(32, 1\)"),
        (lambda d, s, c: d.update(bidirectional=True), "model_data has 'bidirectional', which is not known"),
        (lambda d, s, c: d.update(hidden_size=9), r"expected shape \(36, 1\)"),
        (lambda d, s, c: d.pop("hidden_size"), "hidden_size expected a whole number"),
        (lambda d, s, c: d.update(hidden_size=10**19), "hidden_size expected"),
        (lambda d, s, c: d.update(input_size=0), "input_size expected"),
        (lambda d, s, c: d.update(skip=-1), "skip expected"),
        (lambda d, s, c: d.update(skip=True), "skip expected"),
        (lambda d, s, c: d.update(output_size=2), r"lin\.weight.*expected shape \(2, 8\)"),
        (lambda d, s, c: d.update(bias_fl=False), r"bias_fl is False, and tensor 'lin\.bias' is there"),
        (lambda d, s, c: s.pop("lin.bias"), r"bias_fl is True, and tensor 'lin\.bias' is not there"),
        (lambda d, s, c: d.update(bias_fl="yes"), "bias_fl expected"),
        (lambda d, s, c: d.update(num_layers=2), r"'rec\.weight_ih_l1' is missing"),
        (lambda d, s, c: s.update({"rec.weight_ih_l1": [[0.5]]}), "num_layers is 1, found tensor"),
        (lambda d, s, c: s.update(other=[1.0]), r"belong to no layer given: \n  other \(1,\)"),
        (lambda d, s, c: s.pop("rec.bias_hh_l0"), r"'rec\.bias_hh_l0' is missing"),
        (lambda d, s, c: s.update({"lin.bias": 0.5}), r"lin\.bias"),
        (lambda d, s, c: s.update({"lin.bias": "x"}), "expected numbers, found a str"),
        (lambda d, s, c: s.update({"lin.bias": [True]}), "expected numbers, found a bool"),
        (lambda d, s, c: s.update({"lin.bias": [None]}), "expected numbers"),
        (lambda d, s, c: s.update({"lin.bias": [1e300]}), "a number out of range"),
        (lambda d, s, c: s.update({"lin.weight": [[1.0], 2.0]}), "lists of different lengths"),
        (lambda d, s, c: s.update({"lin.weight": [[1.0], [1.0, 2.0]]}), "lists of different lengths"),
        (lambda d, s, c: s.update({"lin.weight": {}}), "expected numbers, found a dict"),
        (lambda d, s, c: s.update({"lin.weight": []}), "expected shape"),
        (lambda d, s, c: c.update(state_dict={}), "expected model_data and state_dict"),
        (lambda d, s, c: c.update(model_data=[1]), "expected model_data and state_dict"),
    ],
)
def test_a_damaged_guitarml_model_is_refused(rng, tmp_path, edit, message):
    with pytest.raises(CylstmError, match=message):
        read(write(tmp_path / "a.json", edited(edit)(rng)))


# RTNeural

GRU = {"activation": "tanh", "recurrent_activation": "sigmoid", "return_sequences": True}


def rtneural_network(rng):
    """A dense layer, an LSTM, a GRU and a dense layer: RTNeural's file, and Keras's config and weights."""
    weights = [
        [real(rng, 2, 6), real(rng, 6)],
        [real(rng, 6, 20), real(rng, 5, 20), real(rng, 20)],
        [real(rng, 5, 12), real(rng, 4, 12), real(rng, 2, 12)],
        [real(rng, 4, 3), real(rng, 3)],
    ]
    shape = [None, None]
    content = rtneural(
        (*shape, 2),
        rtneural_layer("time-distributed-dense", (*shape, 6), weights[0], "tanh"),
        rtneural_layer("lstm", (*shape, 5), weights[1], "tanh"),
        rtneural_layer("gru", (*shape, 4), weights[2], "tanh"),
        rtneural_layer("dense", (*shape, 3), weights[3], "softmax"),
    )
    config = made.keras_model(
        made.keras_input(None, 2),
        made.keras_layer("Dense", "a", units=6, activation="tanh"),
        made.keras_lstm("b", 5, return_sequences=True),
        made.keras_layer("GRU", "c", units=4, **GRU, reset_after=True),
        made.keras_layer("Dense", "d", units=3, activation="softmax"),
    )
    return content, config, weights


def test_a_chain_computes_what_keras_does_of_the_same_weights(rng, tmp_path):
    pytest.importorskip("h5py")
    content, config, weights = rtneural_network(rng)
    groups = ("layers/dense", "layers/lstm/cell", "layers/gru/cell", "layers/dense_1")
    model = cylstm.load(write(tmp_path / "a.json", content, indent=4))
    twin = cylstm.load(made.write_keras(tmp_path / "a.keras", config, dict(zip(groups, weights))))
    x = rng.standard_normal((3, 7, 2)).astype("f")
    expected = twin.predict(x)
    np.testing.assert_array_equal(model.predict(x), expected)
    np.testing.assert_array_equal(model.stream(batch=3).run(x), expected)
    assert model.provenance["format"] == "rtneural" and len(model.provenance["tensors"]) == 10


def test_a_convolution_looks_back_only_unless_the_shapes_say_that_it_does_not_pad(rng, tmp_path):
    kernel, bias = real(rng, 3, 2, 4), real(rng, 4)
    x = rng.standard_normal((3, 9, 2)).astype("f")
    padded = np.concatenate([np.zeros((3, 4, 2), "f"), x], 1)
    causal = sum(padded[:, 2 * k : 2 * k + 9] @ kernel[k] for k in range(3)) + bias
    for steps, out, expected in ((None, None, causal), (9, 9, causal), (9, 5, causal[:, 4:])):
        layer = rtneural_layer("conv1d", (None, out, 4), [kernel, bias], kernel_size=[3], dilation=[2])
        model = cylstm.load(write(tmp_path / "a.json", rtneural((None, steps, 2), layer)))
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-5)
        assert model.graph.window == steps


def test_slopes_statistics_and_activations(rng, tmp_path):
    slope, statistics = real(rng, 1, 4), [real(rng, 4), real(rng, 4), real(rng, 4), real(rng, 4) ** 2]
    x = real(rng, 3, 5, 4)
    shape = (None, None, 4)
    content = rtneural(
        shape,
        rtneural_layer("batchnorm", shape, statistics, epsilon=0.01),
        rtneural_layer("prelu", shape, [slope]),
        rtneural_layer("batchnorm", shape, statistics[2:], epsilon=0.02),
        rtneural_layer("activation", shape, activation="elu"),
    )
    y = statistics[0] * (x - statistics[2]) / np.sqrt(statistics[3] + 0.01) + statistics[1]
    y = np.where(y > 0, y, slope[0] * y)
    y = (y - statistics[2]) / np.sqrt(statistics[3] + 0.02)
    y = np.where(y > 0, y, np.expm1(y))
    found = cylstm.load(write(tmp_path / "a.json", content)).predict(x)
    np.testing.assert_allclose(found, y, rtol=2e-5, atol=2e-6)


def test_a_recurrent_layer_gives_its_last_step_where_its_shape_has_no_time(rng, tmp_path):
    weights = [real(rng, 2, 20), real(rng, 5, 20), real(rng, 20)]
    whole = cylstm.load(
        write(tmp_path / "a.json", rtneural((None, None, 2), rtneural_layer("lstm", (None, None, 5), weights)))
    )
    last = cylstm.load(write(tmp_path / "b.json", rtneural((None, 12, 2), rtneural_layer("lstm", (None, 5), weights))))
    flat = cylstm.load(write(tmp_path / "c.json", rtneural((None, 2), rtneural_layer("lstm", (None, 5), weights))))
    x = real(rng, 3, 12, 2)
    np.testing.assert_array_equal(last.predict(x), whole.predict(x)[:, -1])
    np.testing.assert_array_equal(flat.predict(x), whole.predict(x))


def test_a_gru_with_one_bias_applies_its_reset_gate_before_the_product(rng, tmp_path):
    pytest.importorskip("h5py")
    weights = [real(rng, 2, 12), real(rng, 4, 12), real(rng, 12)]
    content = rtneural((None, None, 2), rtneural_layer("gru", (None, None, 4), weights))
    config = made.keras_model(
        made.keras_input(None, 2),
        made.keras_layer("GRU", "c", units=4, **GRU, reset_after=False),
    )
    twin = cylstm.load(made.write_keras(tmp_path / "a.keras", config, {"layers/gru/cell": weights}))
    x = real(rng, 3, 7, 2)
    np.testing.assert_array_equal(cylstm.load(write(tmp_path / "a.json", content)).predict(x), twin.predict(x))


def test_a_network_of_dense_layers_takes_vectors(rng, tmp_path):
    kernel = real(rng, 3, 4)
    model = cylstm.load(write(tmp_path / "a.json", rtneural((None, 3), rtneural_layer("dense", (None, 4), [kernel]))))
    x = real(rng, 5, 3)
    np.testing.assert_allclose(model.predict(x), x @ kernel, rtol=0, atol=1e-5)


def test_aida_x_adds_its_input_to_the_output(rng, tmp_path):
    kernel, bias = real(rng, 2, 1), real(rng, 1)
    layer = rtneural_layer("dense", (None, None, 1), [kernel, bias])
    more = {"in_skip": 1, "in_gain": 0, "metadata": {"name": "amp", "samplerate": 48000}}
    model = cylstm.load(write(tmp_path / "a.aidax", rtneural((None, None, 2), layer, **more)))
    x = real(rng, 3, 6, 2)
    np.testing.assert_allclose(model.predict(x), x @ kernel + bias + x[..., :1], rtol=0, atol=1e-5)
    assert model.provenance["beside"] == ("in_gain", "metadata")


def changed(edit):
    def make(rng):
        content, _, _ = rtneural_network(rng)
        edit(content, content["layers"])
        return content

    return make


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda c, layers: layers[1].update(type="bidirectional"),
            r"layers\[1\] \('bidirectional'\): .* type are not supported",
        ),
        (lambda c, layers: layers[1].update(type="unknown"), "not supported"),
        (lambda c, layers: layers[1].update(type=3), r"layers\[1\]: expected a mapping with a type"),
        (lambda c, layers: layers.append(7), r"layers\[4\]: expected a mapping"),
        (lambda c, layers: layers.clear(), "layers expected a list"),
        (lambda c, layers: layers[1].update(activation="relu"), "RTNeural computes tanh, whatever the file says"),
        (lambda c, layers: layers[0].update(activation="gelu"), "activation expected one of"),
        (lambda c, layers: layers[0].update(activation=["tanh"]), "activation expected one of"),
        (lambda c, layers: layers[0]["weights"].append([1.0]), "weights expected a list of 2 or 1, found 3"),
        (lambda c, layers: layers[0].update(weights=None), "weights expected a list"),
        (lambda c, layers: layers[0]["weights"].__setitem__(0, [[1.0, 2.0]]), r"expected weights of shape \(2, any\)"),
        (lambda c, layers: layers[1]["weights"].__setitem__(1, [[1.0]]), r"expected weights of shape \(6, 4\)|shape"),
        (lambda c, layers: layers[1]["weights"].__setitem__(2, [1.0]), r"expected weights of shape \(20\)"),
        (lambda c, layers: layers[1]["weights"].__setitem__(1, 1.0), "expected weights of shape"),
        (lambda c, layers: layers[2]["weights"].pop(), "whether Keras's reset_after was set"),
        (
            lambda c, layers: layers[2]["weights"].__setitem__(2, [[1.0] * 12] * 3),
            r"expected weights of shape \(2, 12\)",
        ),
        (lambda c, layers: layers[0]["weights"].__setitem__(1, [1.0] * 5 + [1e39]), "out of range"),
        (lambda c, layers: layers[3].update(shape=[None, None, 4]), "of a layer with 3 features"),
        (lambda c, layers: layers[3].update(shape=[None, 2, 3, 4]), "two dimensions are not supported"),
        (lambda c, layers: layers[3].update(shape="x"), "shape expected"),
        (lambda c, layers: c.update(in_shape=[None, None, 3]), r"expected weights of shape \(3, any\)"),
        (lambda c, layers: c.update(in_shape=[None, None, None]), "the number of features last"),
        (lambda c, layers: c.update(in_shape=[2]), "in_shape expected"),
        (lambda c, layers: c.update(in_shape=[None, None, -2]), "in_shape expected"),
        (lambda c, layers: c.update(in_shape=[None, None, 10**18]), "in_shape expected"),
        (lambda c, layers: c.update(in_gain=3.0), r"in_gain 3\.0 \(in decibel\) is not applied"),
        (lambda c, layers: c.update(out_gain="x"), "out_gain"),
        (lambda c, layers: c.update(in_skip=-1), "in_skip expected"),
        (lambda c, layers: c.update(in_skip=2), "shapes"),
        (lambda c, layers: layers[1].update(shape=[None, 5]), "expected a sequence, found the last step"),
        (
            lambda c, layers: layers.insert(1, rtneural_layer("activation", [None, None, 6])),
            "not one that RTNeural's exporter",
        ),
        (
            lambda c, layers: layers.insert(1, rtneural_layer("conv1d", [None, None, 1], [[[[1.0]] * 6]], strides=[2])),
            "strides 2 are not supported",
        ),
        (
            lambda c, layers: layers.insert(1, rtneural_layer("conv1d", [None, None, 1], [[[[1.0]] * 6]], groups=4)),
            "4 groups of 6 channels",
        ),
        (
            lambda c, layers: layers.insert(1, rtneural_layer("conv1d", [None, None, 1], [[[[1.0]] * 6]], groups=0)),
            "0 groups of 6 channels",
        ),
        (
            lambda c, layers: layers.insert(
                1, rtneural_layer("conv1d", [None, None, 1], [[[[1.0]] * 6]], kernel_size=[2])
            ),
            r"expected weights of shape \(2, 6, any\)",
        ),
        (
            lambda c, layers: layers.insert(
                1, rtneural_layer("conv1d", [None, None, 1], [[[[1.0]] * 6]], dilation=["x"])
            ),
            "dilation expected a whole number",
        ),
        (
            lambda c, layers: layers.insert(1, rtneural_layer("prelu", [None, None, 6], [[[0.1] * 6] * 2])),
            "differ by time",
        ),
        (
            lambda c, layers: layers.insert(
                1, rtneural_layer("batchnorm", [None, None, 6], [[1.0] * 6, [-1.0] * 6], epsilon=0)
            ),
            "variance",
        ),
        (
            lambda c, layers: layers.insert(
                1, rtneural_layer("batchnorm", [None, None, 6], [[1.0] * 6] * 2, epsilon="x")
            ),
            "epsilon expected a number",
        ),
    ],
)
def test_a_damaged_rtneural_model_is_refused(rng, tmp_path, edit, message):
    with pytest.raises(CylstmError, match=message):
        read(write(tmp_path / "a.json", changed(edit)(rng)))


@pytest.mark.parametrize("name", ["guitarml", "rtneural"])
def test_hostile_json_takes_no_memory(tmp_path, refused, name):
    start = {
        "guitarml": '{"model_data": {}, "state_dict": {"a": ',
        "rtneural": '{"in_shape": [], "layers": [{"type": ',
    }[name]
    for text, message in (
        ("[" * 100_000, "nested too deeply"),
        ("[" + "[]," * 2_000_000, "too many elements"),
        ("1" * 1_000_000 + "}}", "an integer of 1000000 digits"),
        ("NaN", "NaN is not JSON"),
        ("", "not valid JSON"),
    ):
        (tmp_path / "a.json").write_text(start + text)
        refused(tmp_path / "a.json", message, layers=False)


def test_a_text_above_64_mb_is_not_looked_into(tmp_path, refused):
    with open(tmp_path / "a.json", "wb") as file:
        file.write(b'{"model_data": {}, "state_dict": {}, "x": "')
        file.truncate((64 << 20) + 1)
    refused(tmp_path / "a.json", "JSON file of no known kind|config without weights", layers=False)


def test_options_that_such_files_do_not_take_are_refused(rng, tmp_path):
    path = write(tmp_path / "a.json", guitarml(guitarml_tensors(rng)))
    with pytest.raises(FormatError, match="a GuitarML model, of which load takes none of its options"):
        cylstm.load(path, layers=[cylstm.LSTM("rec")])
    with pytest.raises(UnsupportedError, match="Neural Amp Modeler"):
        read(write(tmp_path / "a.nam", {"version": "0.5.4", "architecture": "LSTM", "config": {}, "weights": [0.5]}))
    assert json.loads(path.read_text())["model_data"]["model"] == "SimpleRNN"
