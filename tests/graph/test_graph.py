"""The graph: what it wires by itself, and what it refuses."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.registry import write
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import Axis, Value
from cylstm.loading import read


@pytest.fixture
def builder():
    return GraphBuilder()


def lstm(rng, inputs, hidden, projection=None):
    output = projection or hidden
    shapes = {"weight_ih": (4 * hidden, inputs), "weight_hh": (4 * hidden, output), "bias": (4 * hidden,)}
    if projection:
        shapes["weight_hr"] = (projection, hidden)
    return {role: rng.standard_normal(shape).astype(np.float32) for role, shape in shapes.items()}


def dense(rng, inputs, outputs):
    return {
        "weight": rng.standard_normal((outputs, inputs)).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }


def encoder_decoder(rng):
    """Two inputs embedded by one shared layer; a bidirectional encoder hands its states to a decoder; two outputs."""
    builder = GraphBuilder()
    source = builder.input("source", (None, 4))
    target = builder.input("target", (None, 4))
    embed = dense(rng, 4, 3)
    embedded_source = builder.add("dense", "embed", {"x": source}, embed, {"activation": "tanh"})["y"]
    shared = {"weight": "embed.weight", "bias": "embed.bias"}
    embedded_target = builder.add("dense", "embed", {"x": target}, shared, {"activation": "tanh"})["y"]
    forward = builder.add("lstm", "encoder.forward", {"x": embedded_source}, lstm(rng, 3, 5))
    backward = builder.add("lstm", "encoder.backward", {"x": embedded_source}, lstm(rng, 3, 6), {"reverse": True})
    h0 = builder.add("merge", "bridge.h", {"x": forward["h"], "x1": backward["h"]})["y"]
    c0 = builder.add("merge", "bridge.c", {"x": forward["c"], "x1": backward["c"]})["y"]
    c0 = builder.add("dense", "bridge.c.narrow", {"x": c0}, dense(rng, 11, 8))["y"]
    h0 = builder.add("dense", "bridge.h.narrow", {"x": h0}, dense(rng, 11, 2))["y"]
    decoder = builder.add("lstm", "decoder", {"x": embedded_target, "h0": h0, "c0": c0}, lstm(rng, 3, 8, 2))
    head = builder.add("dense", "head", {"x": decoder["y"]}, dense(rng, 2, 7), {"activation": "softmax"})["y"]
    builder.output(head)
    builder.output(decoder["c"])
    return builder.build({"task": "translation"})


def test_an_encoder_decoder_with_states_passed_and_a_shared_layer_is_wired(rng):
    graph = encoder_decoder(rng)
    layers = {layer.name: layer for layer in graph.layers}
    assert graph.inputs == ("source", "target")
    assert graph.outputs == ("head", "decoder.c")
    assert layers["embed"].weights == layers["embed#2"].weights
    assert layers["encoder.forward"].inputs == {"x": "embed", "mask": "source.mask"}
    assert layers["decoder"].inputs == {
        "x": "embed#2",
        "h0": "bridge.h.narrow",
        "c0": "bridge.c.narrow",
        "mask": "target.mask",
    }
    assert graph.values["head"] == Value("head", "sequence", (None, 7), "target.mask", Axis("target"))
    assert graph.values["decoder.c"] == Value("decoder.c", "state", (8,))
    assert graph.states() == [
        ("encoder.forward", (("h", (5,)), ("c", (5,)))),
        ("encoder.backward", (("h", (6,)), ("c", (6,)))),
        ("decoder", (("h", (2,)), ("c", (8,)))),
    ]
    shared = 4 * 3 + 3
    assert graph.parameters() == sum(array.size for array in graph.tensors.values())
    assert graph.tensors["embed.weight"].size + graph.tensors["embed.bias"].size == shared


def test_an_encoder_decoder_survives_its_file(rng, tmp_path):
    graph = encoder_decoder(rng)
    write(graph, tmp_path / "a.cylstm")
    found = read(tmp_path / "a.cylstm")
    assert found.layers == graph.layers
    assert found.values == graph.values
    assert found.metadata == {"task": "translation"}


def test_a_mask_travels_with_its_sequence_until_the_last_step(rng, builder):
    x = builder.input("x", (None, 3))
    y = builder.add("dense", "a", {"x": x}, dense(rng, 3, 4))["y"]
    y = builder.add("activation", "b", {"x": y}, options={"activation": "relu"})["y"]
    y = builder.add("dropout", "c", {"x": y})["y"]
    y = builder.add("merge", "d", {"x": y, "x1": y})["y"]
    y = builder.add("lstm", "e", {"x": y}, lstm(rng, 8, 5))["y"]
    assert y.mask == "x.mask"
    last = builder.add("last", "f", {"x": y})["y"]
    assert last == Value("f", "vector", (5,), None)
    builder.output(last)
    assert builder.build().layers[-1].inputs == {"x": "e", "mask": "x.mask"}


def test_a_sequence_may_come_without_a_mask(rng, builder):
    x = builder.input("x", (None, 3), masked=False)
    builder.output(builder.add("lstm", "a", {"x": x}, lstm(rng, 3, 5))["y"])
    graph = builder.build()
    assert graph.layers[0].inputs == {"x": "x"}
    assert set(graph.values) == {"x", "a", "a.h", "a.c"}


def test_options_not_given_have_their_defaults(rng, builder):
    x = builder.input("x", (None, 3))
    builder.output(builder.add("lstm", "a", {"x": x}, lstm(rng, 3, 5), {"reverse": True})["y"])
    layer = builder.build().layers[0]
    assert layer.options == {**LAYER_KINDS["lstm"].defaults, "reverse": True}
    assert LAYER_KINDS["lstm"].streams(layer.options) is not None
    assert LAYER_KINDS["lstm"].streams(LAYER_KINDS["lstm"].defaults) is None


def test_a_transposed_weight_is_stored_in_c_order(rng, builder):
    x = builder.input("x", (3,))
    weight = rng.standard_normal((3, 4))
    builder.output(builder.add("dense", "a", {"x": x}, {"weight": weight.T})["y"])
    stored = builder.build().tensors["a.weight"]
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(stored, weight.T)


def _zeros(*shape):
    return np.zeros(shape, np.float32)


_LSTM = {"weight_ih": _zeros(20, 3), "weight_hh": _zeros(20, 5), "bias": _zeros(20)}
_THREE_GATES = {"weight_ih": _zeros(15, 3), "weight_hh": _zeros(15, 5)}
_NORMS = {f"norm_{part}": _zeros(20) for part in ("ih_gain", "ih_shift", "hh_gain", "hh_shift")}
_NORMS |= {"norm_c_gain": _zeros(5), "norm_c_shift": _zeros(5)}


@pytest.mark.parametrize(
    ("kind", "weights", "options", "error", "message"),
    [
        ("mamba", {}, {}, UnsupportedError, "layer 'a': no layer of kind 'mamba'; known are activation"),
        ("dense", {}, {}, ShapeError, "layer 'a': weights expected weight .*; found none"),
        ("dense", {"weight": _zeros(2, 4)}, {}, ShapeError, r"'weight': expected shape \(2, 3\), found \(2, 4\)"),
        ("dense", {"weight": _zeros(3)}, {}, ShapeError, r"expected shape \(output, 3\), found \(3,\)"),
        ("dense", {"weight": _zeros(2, 3), "bias": _zeros(3)}, {}, ShapeError, r"expected shape \(2,\), found \(3,\)"),
        ("dense", {"weight": _zeros(2, 3), "extra": _zeros(3)}, {}, ShapeError, "found weight, extra"),
        ("dense", {"weight": "none"}, {}, FormatError, "tensor 'none' is not in the graph"),
        ("dense", {"weight": np.zeros((2, 3), np.int64)}, {}, FormatError, "expected float32 or float64, found int64"),
        ("dense", {"weight": _zeros(2, 3)}, {"units": 2}, UnsupportedError, "dense has no option 'units'"),
        ("dense", {"weight": _zeros(2, 3)}, {"activation": "swish"}, UnsupportedError, "canonical name 'silu'"),
        ("activation", {}, {"activation": "mish"}, UnsupportedError, "unknown activation 'mish'"),
        ("activation", {}, {"activation": "elu", "activation_alpha": np.inf}, UnsupportedError, "not finite"),
        ("activation", {"weight": _zeros(1)}, {}, ShapeError, "weights expected none; found weight"),
        ("dropout", {}, {"rate": -0.1}, ShapeError, r"expected in \[0, 1\], found -0.1"),
        ("merge", {}, {"mode": "median"}, UnsupportedError, "merge mode expected one of concat, sum, mul, ave"),
        ("lstm", {**_LSTM, "weight_ih": _zeros(20, 4)}, {}, ShapeError, r"expected shape \(20, 3\), found \(20, 4\)"),
        ("lstm", {**_LSTM, "weight_hh": _zeros(20, 4)}, {}, ShapeError, r"'weight_hh': expected shape \(20, 5\)"),
        ("lstm", {**_LSTM, "weight_hh": _zeros(22, 5)}, {}, ShapeError, r"expected shape \(4\*hidden, size\)"),
        ("gru", _LSTM, {}, ShapeError, "weights expected weight_ih, weight_hh"),
        (
            "lstm",
            _LSTM,
            {"coupled": "f=i"},
            UnsupportedError,
            "option coupled expected '' or 'f=1-i' or 'i=1-f', found 'f=i'",
        ),
        ("lstm", _LSTM, {"coupled": "f=1-i", "forget_gate": False}, UnsupportedError, "contradicts forget_gate=False"),
        (
            "lstm",
            _LSTM,
            {"cell_clip": -1.0},
            UnsupportedError,
            "cell_clip expected a number of at least 0.0, found -1.0",
        ),
        ("lstm", _LSTM, {"gate_clip": np.nan}, UnsupportedError, "gate_clip expected a number"),
        ("lstm", {**_LSTM, "peephole_i": _zeros(4)}, {}, ShapeError, r"'peephole_i': expected shape \(5,\)"),
        ("lstm", {**_LSTM, "norm_c_gain": _zeros(5)}, {}, UnsupportedError, "contradicts option layer_norm"),
        (
            "lstm",
            _LSTM,
            {"layer_norm": "carried"},
            ShapeError,
            "weights of the layer normalisation expected norm_ih_gain",
        ),
        ("lstm", _LSTM, {"empty_state": "one"}, UnsupportedError, "empty_state expected"),
        ("lstm", {**_LSTM, "bias": _zeros(5)}, {}, ShapeError, r"'bias': expected shape \(20,\), found \(5,\)"),
        ("lstm", {**_LSTM, "weight_hr": _zeros(4, 5)}, {}, ShapeError, r"'weight_hr': expected shape \(5, 5\)"),
        ("lstm", {"weight_ih": _zeros(20, 3)}, {}, ShapeError, "weights expected weight_ih, weight_hh"),
        ("lstm", _LSTM, {"padding": "same"}, UnsupportedError, "expected 'zero' or 'repeat', found 'same'"),
        ("lstm", _LSTM, {"activation": "softmax"}, UnsupportedError, "softmax needs the whole axis"),
        (
            "lstm",
            {**_THREE_GATES, "peephole_f": _zeros(5)},
            {"forget_gate": False},
            UnsupportedError,
            "peephole_f contradicts options without that gate",
        ),
        (
            "lstm",
            {**_LSTM, **_NORMS, "weight_hh": _zeros(20, 2), "weight_hr": _zeros(2, 5)},
            {"layer_norm": "carried"},
            UnsupportedError,
            "layer normalisation with a projection",
        ),
        (
            "gru",
            {**_THREE_GATES, "bias_hh": _zeros(15)},
            {"reset_after": False},
            ShapeError,
            "reset_after=False has no second bias, found 'bias_hh'",
        ),
        ("pool1d", {}, {"padding": "causal"}, UnsupportedError, "pooling has no padding='causal'"),
        (
            "pool1d",
            {},
            {"pool": 3, "padding": "explicit", "pad_before": 2},
            UnsupportedError,
            r"padding of more than half the window \(1\) is not supported",
        ),
        ("slice", {}, {"count": 2, "before_end": 1}, UnsupportedError, "takes a count, or a start of at least 0"),
        ("slice", {}, {"start": -2}, UnsupportedError, "takes a count, or a start of at least 0"),
        ("step_table", {"table": _zeros(7)}, {}, ShapeError, r"'table': expected shape \(rows, size\), found \(7,\)"),
    ],
)
def test_a_layer_that_does_not_fit_is_named_with_what_was_expected(builder, kind, weights, options, error, message):
    x = builder.input("x", (None, 3))
    with pytest.raises(error, match=message) as caught:
        builder.add(kind, "a", {"x": x}, weights, options)
    assert "a" in str(caught.value)


@pytest.mark.parametrize(
    ("role", "size", "message"),
    [
        ("h0", 4, "initial state 'h0' expected shape .*5,.*, found"),
        ("c0", 4, "initial state 'c0' expected shape .*5,.*, found"),
    ],
)
def test_an_initial_state_of_another_size_is_refused(builder, role, size, message):
    x, state = builder.input("x", (None, 3)), builder.input("state", (size,))
    with pytest.raises(ShapeError, match=message):
        builder.add("lstm", "a", {"x": x, role: state}, _LSTM)


def test_a_value_of_the_wrong_kind_is_refused(rng, builder):
    x, vector = builder.input("x", (None, 3)), builder.input("v", (3,))
    wide = builder.input("w", (None, 5))
    with pytest.raises(ShapeError, match="'a': expected a sequence as input, found the vector 'v'"):
        builder.add("lstm", "a", {"x": vector}, _LSTM)
    with pytest.raises(ShapeError, match="'d': expected a state or vector as input, found the sequence 'w'"):
        builder.add("lstm", "d", {"x": x, "h0": wide}, _LSTM)
    with pytest.raises(ShapeError, match="'e': expected a mask as input, found the sequence 'w'"):
        builder.add("lstm", "e", {"x": x, "mask": wide}, _LSTM)
    with pytest.raises(ShapeError, match="'b': expected a mask"):
        builder.add("last", "b", {"x": x, "mask": vector})
    with pytest.raises(ShapeError, match="'b': expected a sequence"):
        builder.add("last", "b", {"x": vector})
    with pytest.raises(ShapeError, match="'c': expected equal shapes but for axis -1, found"):
        builder.add("merge", "c", {"x": x, "x1": vector})
    with pytest.raises(ShapeError, match=r"'c': shapes \(None, 3\) of 'x' and \(None, 5\) of 'w' do not match"):
        builder.add("merge", "c", {"x": x, "x1": wide}, options={"mode": "sum"})


def test_inputs_that_do_not_fit_each_other_are_named(builder):
    x, other = builder.input("x", (None, 6)), builder.input("other", (None, 6))
    narrow, vector = builder.input("narrow", (None, 4)), builder.input("vector", (6,))
    table = builder.input("table", (None, 2), indices=True)
    with pytest.raises(ShapeError, match=r"'a': expected \(time, features in 4 heads\), found \(None, 6\)"):
        builder.add("attention", "a", {"x": x, "key": x, "value": x}, options={"heads": 4})
    with pytest.raises(ShapeError, match=r"'a': query and key of different sizes, \(None, 6\) and \(None, 4\)"):
        builder.add("attention", "a", {"x": x, "key": narrow, "value": x})
    with pytest.raises(ShapeError, match="'a': key and value of different times, 'other' and 'x'"):
        builder.add("attention", "a", {"x": x, "key": other, "value": x})
    with pytest.raises(ShapeError, match=r"'b': masks of different times, 'x\.mask' and 'other\.mask'"):
        masks = {"mask": builder.value(x.mask), "mask1": builder.value(other.mask)}
        builder.add("mask_merge", "b", masks)
    with pytest.raises(ShapeError, match=r"'c': expected indices of shape \(time,\), found \(None, 2\)"):
        builder.add("index_mask", "c", {"indices": table})
    with pytest.raises(ShapeError, match=r"'d', tensor 'weight': expected shape \(rows, size\), found \(7,\)"):
        builder.add("embedding", "d", {"indices": table}, {"weight": _zeros(7)})
    for shape, message in [("time,2,3", "keeps a time that 'vector'"), ("time*2,3", "divides the steps of 'vector'")]:
        with pytest.raises(ShapeError, match=message):
            builder.add("reshape", "e", {"x": vector}, options={"shape": shape})
    with pytest.raises(FormatError, match=r"no value is named 'vector\.mask'"):
        builder.value("vector.mask")


def test_a_value_of_another_graph_is_refused(rng, builder):
    other = GraphBuilder().input("other", (None, 3))
    with pytest.raises(ShapeError, match="is not a value of this graph"):
        builder.add("lstm", "a", {"x": other}, _LSTM)


@pytest.mark.parametrize("shape", [(), (None,), (None, None), (0,), (None, None, 3), (None, *range(1, 9))])
def test_an_input_that_is_neither_sequence_nor_vector_is_refused(builder, shape):
    with pytest.raises(UnsupportedError, match="input 'x': shape"):
        builder.input("x", shape)


def test_a_graph_without_input_layer_or_output_is_refused(builder):
    with pytest.raises(FormatError, match="at least one input"):
        builder.build()
    builder.input("x", (3,))
    with pytest.raises(FormatError, match="at least one input"):
        builder.build()


def test_names_are_given_once(builder):
    builder.input("x", (None, 3))
    with pytest.raises(FormatError, match=r"two values are named 'x\.mask'"):
        builder.input("x", (None, 3))
    builder.tensor("w", _zeros(1))
    with pytest.raises(FormatError, match="tensor 'w' is given twice"):
        builder.tensor("w", _zeros(1))


def test_a_mask_cannot_be_an_output(builder):
    x = builder.input("x", (None, 3))
    with pytest.raises(UnsupportedError, match="a mask cannot be an output"):
        builder.output(Value(x.mask, "mask", (None,)))


def test_a_merge_of_more_than_ten_inputs_comes_back_from_a_file(tmp_path):
    builder = GraphBuilder()
    x = builder.input("x", (12,))
    parts = [builder.add("slice", f"s{k}", {"x": x}, None, {"start": k, "count": 1})["y"] for k in range(12)]
    builder.output(builder.add("merge", "m", {f"x{k or ''}": part for k, part in enumerate(parts[::-1])})["y"])
    model = cylstm.Model(builder.build())
    model.save(tmp_path / "m.cylstm")
    numbers = np.arange(24, dtype=np.float32).reshape(2, 12)
    for again in (model, cylstm.load(tmp_path / "m.cylstm")):
        np.testing.assert_array_equal(again.predict(numbers), numbers[:, ::-1])


def test_old_names_work_and_warn(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    builder.output(builder.add("dense", "a", {"x": x}, {"weight": rng.normal(size=(5, 3))})["y"])
    graph = builder.build()
    with pytest.warns(DeprecationWarning, match=r"Graph\.nodes is now called layers"):
        assert graph.nodes == graph.layers
    with pytest.warns(DeprecationWarning, match=r"Layer\.op is now called kind"):
        assert graph.layers[0].op == "dense"
    with pytest.warns(DeprecationWarning, match=r"Graph\.node_tensors is now called layer_tensors") as caught:
        found = graph.node_tensors(graph.layers[0])
    assert found["weight"] is graph.layer_tensors(graph.layers[0])["weight"]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_matrices_are_weights_of_their_kind(kind):
    spec = LAYER_KINDS[kind]
    assert spec.name == kind
    assert {*spec.matrices} <= {*spec.weights, *spec.optional_weights}


def test_a_time_that_follows_from_the_inputs_by_too_many_rules_is_refused():
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    with pytest.raises(UnsupportedError, match="time follows from that of input 'x' by more than 4 strides"):
        for i in range(6):
            x = builder.add("upsample", f"up{i}", {"x": x}, options={"axis": 0, "size": 3})["y"]
            x = builder.add("slice", f"cut{i}", {"x": x}, options={"axis": 0, "start": 1, "step": 2})["y"]
    assert len(x.axis.rules) == 4
