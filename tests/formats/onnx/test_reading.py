"""Models of ONNX written by hand: every way to store what they hold, and which axes of their inputs are what."""

import struct

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.onnx.model import AttributeReference
from cylstm.formats.onnx.read import model_of
from cylstm.formats.onnx.tensors import read_array

from tests.builders import onnx_files as made
from tests.builders.onnx_files import attribute, function, graph, model, node, packed, tensor, value


def load(folder, data, **options):
    path = folder / "net.onnx"
    path.write_bytes(data)
    return cylstm.load(path, **options)


def relu(x, w, b):
    return np.maximum(x.astype("f8") @ w + b, 0)


def close(found, expected):
    found, expected = np.asarray(found, "f8"), np.asarray(expected, "f8")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())


def network(nodes, inputs, outputs, tensors=(), **options):
    return model(graph(nodes, inputs, outputs, tensors), **options)


# What is computed


def test_a_network_predicts_and_streams(rng, tmp_path):
    data, (w, b) = made.dense(rng)
    net = load(tmp_path, data)
    x = rng.standard_normal((3, 7, 5)).astype("f4")
    y = net.predict(x)
    close(y, relu(x, w, b))
    stream = net.stream(3)
    np.testing.assert_array_equal(np.stack([stream.step(x[:, t]) for t in range(7)], 1), y)
    assert (net.inputs, net.outputs) == (("x",), ("y",))
    assert net.graph.layers[0].name == "/matmul"
    assert net.provenance["format"] == "onnx" and net.provenance["version"] == 17
    assert net.provenance["framework_version"] == "tests"


def test_an_extension_is_not_needed(rng, tmp_path):
    path = tmp_path / "weights.bin"
    data, (w, b) = made.dense(rng)
    path.write_bytes(data)
    x = rng.standard_normal((3, 2, 5)).astype("f4")
    close(cylstm.load(path).predict(x), relu(x, w, b))


def test_a_saved_network_needs_no_argument(rng, tmp_path):
    nodes = [node("Mul", ["x", "scale"], ["y"])]
    data = network(nodes, [value("x", ("n", 4)), value("scale", ())], [value("y", None)])
    net = load(tmp_path, data, constants={"scale": 2.5})
    net.save(tmp_path / "net.cylstm")
    x = rng.standard_normal((3, 4)).astype("f4")
    close(cylstm.load(tmp_path / "net.cylstm").predict(x), 2.5 * x)
    assert net.inputs == ("x",)


def test_the_command_line_converts(rng, tmp_path):
    from cylstm.cli import main

    nodes = [node("Mul", ["x", "scale"], ["y"])]
    data = network(nodes, [value("x", ("n", 4)), value("scale", ())], [value("y", None)])
    (tmp_path / "net.onnx").write_bytes(data)
    paths = [str(tmp_path / name) for name in ("net.onnx", "net.cylstm")]
    assert main(["convert", *paths, "--constant", "scale=2.5"]) == 0
    x = rng.standard_normal((3, 4)).astype("f4")
    close(cylstm.load(paths[1]).predict(x), 2.5 * x)
    with pytest.raises(SystemExit):
        main(["convert", *paths, "--constant", "scale=__import__('os')"])


def test_several_outputs_keep_their_names_and_order(rng, tmp_path):
    nodes = [node("Relu", ["x"], ["b"]), node("Tanh", ["x"], ["a"])]
    net = load(tmp_path, network(nodes, [value("x", ("n", 4))], [value("a", None), value("b", None)]))
    x = rng.standard_normal((3, 4)).astype("f4")
    assert net.outputs == ("a", "b")
    a, b = net.predict(x)
    close(a, np.tanh(x.astype("f8")))
    close(b, np.maximum(x, 0))


def test_an_output_of_a_nodes_name_moves_the_node_aside(rng, tmp_path):
    nodes = [node("Relu", ["x"], ["r"], "y"), node("Tanh", ["r"], ["y"], "tanh")]
    net = load(tmp_path, network(nodes, [value("x", ("n", 4))], [value("y", None)]))
    assert net.outputs == ("y",)
    x = rng.standard_normal((3, 4)).astype("f4")
    close(net.predict(x), np.tanh(np.maximum(x.astype("f8"), 0)))


def test_what_no_output_needs_is_left_out(rng, tmp_path):
    nodes = [node("Relu", ["x"], ["y"]), node("NonMaxSuppression", ["x"], ["z"])]
    net = load(tmp_path, network(nodes, [value("x", ("n", 4))], [value("y", None)]))
    assert len(net.graph.layers) == 1


def test_nodes_may_come_in_any_order(rng, tmp_path):
    nodes = [node("Tanh", ["r"], ["y"]), node("Relu", ["x"], ["r"])]
    net = load(tmp_path, network(nodes, [value("x", ("n", 4))], [value("y", None)]))
    x = rng.standard_normal((3, 4)).astype("f4")
    close(net.predict(x), np.tanh(np.maximum(x.astype("f8"), 0)))


# How numbers are stored

_BITS = np.array([0x3F80, 0xC000, 0x3E20, 0x4049], np.uint16)  # 1, -2, 0.15625, 3.140625 in bfloat16
_HALF = np.array([1.0, -2.0, 0.15625, 3.140625], np.float16)
_NUMBERS = np.array([1, -2, 100, 7])
_NATURAL = np.array([1, 2, 100, 7])


@pytest.mark.parametrize(
    ("dtype", "fields", "expected"),
    [
        ("float32", {"f9": struct.pack("<4f", *_HALF)}, _HALF.astype("f4")),
        ("float32", {"f4": struct.pack("<4f", *_HALF)}, _HALF.astype("f4")),
        ("float32", {"f4": [1.0, -2.0, 0.15625, 3.140625]}, _HALF.astype("f4")),
        ("float64", {"f9": struct.pack("<4d", *_HALF)}, _HALF.astype("f8")),
        ("float64", {"f10": struct.pack("<4d", *_HALF)}, _HALF.astype("f8")),
        ("float16", {"f9": _HALF.tobytes()}, _HALF.astype("f4")),
        ("float16", {"f5": packed(_HALF.view(np.uint16))}, _HALF.astype("f4")),
        ("float16", {"f5": [int(one) for one in _HALF.view(np.uint16)]}, _HALF.astype("f4")),
        ("bfloat16", {"f9": _BITS.tobytes()}, _HALF.astype("f4")),
        ("bfloat16", {"f5": packed(_BITS)}, _HALF.astype("f4")),
        *((kind, {"f9": _NUMBERS.astype(kind).tobytes()}, _NUMBERS.astype(kind)) for kind in ("int8", "int16", "int32",
                                                                                            "int64")),
        *((kind, {"f5": packed(_NUMBERS)}, _NUMBERS.astype(kind)) for kind in ("int8", "int16", "int32")),
        ("int64", {"f7": packed(_NUMBERS)}, _NUMBERS),
        ("int64", {"f7": [1, -2, 100, 7]}, _NUMBERS),
        *((kind, {"f9": _NATURAL.astype(kind).tobytes()}, _NATURAL.astype(kind)) for kind in ("uint8", "uint16",
                                                                                            "uint32", "uint64")),
        *((kind, {"f5": packed(_NATURAL)}, _NATURAL.astype(kind)) for kind in ("uint8", "uint16")),
        *((kind, {"f11": packed(_NATURAL)}, _NATURAL.astype(kind)) for kind in ("uint32", "uint64")),
        ("bool", {"f9": b"\x01\x00\x00\x01"}, np.array([True, False, False, True])),
        ("bool", {"f5": packed([1, 0, 0, 1])}, np.array([True, False, False, True])),
        ("uint4", {"f9": b"\x21\xf7"}, np.array([1, 2, 7, 15], np.uint8)),
        ("int4", {"f9": b"\xe1\xf7"}, np.array([1, -2, 7, -1], np.int8)),
        ("int4", {"f5": packed([0xE1, 0xF7])}, np.array([1, -2, 7, -1], np.int8)),
    ],
)  # fmt: skip
def test_numbers_of_every_type_are_read_however_they_lie(dtype, fields, expected):
    data = model(graph([], [], [], [tensor("w", np.zeros(0), dtype, (2, 2), **fields)]))
    found = read_array(model_of(data, "net.onnx").graph.initializers["w"], "net.onnx", "initializer")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected.reshape(2, 2))


def test_large_numbers_of_many_bytes_are_read():
    numbers = np.array([0, 127, 128, -1, 1 << 40, -(1 << 63), (1 << 63) - 1])
    data = model(graph([], [], [], [tensor("w", numbers, f7=packed(map(int, numbers)))]))
    found = read_array(model_of(data, "net.onnx").graph.initializers["w"], "net.onnx", "initializer")
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("length", [True, False])
def test_numbers_beside_the_file_are_read(rng, tmp_path, length):
    w = rng.standard_normal((5, 4)).astype("f4")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "w.bin").write_bytes(b"12345678" + w.tobytes() + (b"more" if length else b""))
    pairs = {"location": "more/w.bin", "offset": "8", **({"length": str(w.nbytes)} if length else {})}
    external = [made.message({1: key, 2: text}) for key, text in pairs.items()]
    stored = tensor("w", w, f13=external, f14=1)
    data = network([node("MatMul", ["x", "w"], ["y"])], [value("x", ("n", 5))], [value("y", None)], [stored])
    x = rng.standard_normal((3, 5)).astype("f4")
    close(load(tmp_path, data).predict(x), x.astype("f8") @ w)


def test_float64_stays_float64(rng, tmp_path):
    w = rng.standard_normal((5, 4))
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    data = network(nodes, [value("x", ("n", 5), "float64")], [value("y", None)], [tensor("w", w)])
    net = load(tmp_path, data, dtype="float64")
    x = rng.standard_normal((3, 5))
    assert np.abs(net.predict(x) - x @ w).max() < 1e-13


@pytest.mark.parametrize("version", [7, 9, 13, 17, 21, 25])
@pytest.mark.parametrize("ir", [3, 4, 8, 13])
def test_every_version_of_the_file_is_read(rng, tmp_path, version, ir):
    w = rng.standard_normal((5, 4)).astype("f4")
    inputs = [value("x", ("n", 5))] + ([value("w", (5, 4))] if ir == 3 else [])
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    data = network(nodes, inputs, [value("y", None)], [tensor("w", w)], version=version, ir=ir)
    net = load(tmp_path, data)
    x = rng.standard_normal((3, 5)).astype("f4")
    assert net.inputs == ("x",)
    close(net.predict(x), x.astype("f8") @ w)


@pytest.mark.parametrize(("version", "ir", "what"), [(6, 8, "version 6 of ONNX's operators"), (17, 2, "IR version 2")])
def test_older_versions_are_refused_with_what_to_do(rng, tmp_path, version, ir, what):
    data = network([node("Relu", ["x"], ["y"])], [value("x", ("n", 5))], [value("y", None)], version=version, ir=ir)
    with pytest.raises(UnsupportedError, match=f"{what}.*version_converter"):
        load(tmp_path, data)


def test_attributes_of_every_kind_are_read():
    given = {"i": 3, "f": 0.5, "s": "text", "ints": [1, -2], "floats": [0.5, 2.0], "strings": ["a", "b"]}
    nodes = [node("Any", ["x"], ["y"], **given, r=("ref", "alpha", 1), t=np.arange(3.0))]
    (found,) = model_of(network(nodes, [value("x", (1,))], [value("y", None)]), "net.onnx").graph.nodes
    assert {key: found.attributes[key] for key in given} == {
        key: tuple(one) if isinstance(one, list) else one for key, one in given.items()
    }
    assert found.attributes["r"] == AttributeReference("alpha")
    np.testing.assert_array_equal(read_array(found.attributes["t"], "", ""), np.arange(3.0))


# Functions and branches


def test_functions_are_computed_where_they_are_called(rng, tmp_path):
    inner = function(
        "Leaky", ["a"], ["b"], [node("LeakyRelu", ["a"], ["b"], alpha=("ref", "slope", 1))],
        defaults=[attribute("slope", 0.25)],
    )  # fmt: skip
    outer = function(
        "Twice", ["a", "shift"], ["c"],
        [node("Leaky", ["a"], ["b"], domain="own", slope=("ref", "slope", 1)),
         node("Leaky", ["b"], ["d"], domain="own"), node("Sub", ["d", "shift"], ["c"])],
        attributes=["slope"],
    )  # fmt: skip
    nodes = [node("Twice", ["x", "s"], ["y"], domain="own", slope=0.5)]
    shift = np.array(0.125, np.float32)
    data = network(
        nodes, [value("x", ("n", 4))], [value("y", None)], [tensor("s", shift)], functions=[inner, outer],
        domains=["own"],
    )  # fmt: skip
    x = rng.standard_normal((3, 4)).astype("f4")
    close(load(tmp_path, data).predict(x), np.where(x < 0, 0.125 * x, x) - 0.125)


def branch(operator, *inputs):
    """A graph that computes one value of those around it."""
    return graph([node(operator, inputs, [f"{operator}_result"])], [], [value(f"{operator}_result", None)])


def chosen(condition, tensors=(), more=(), inputs=()):
    nodes = [*more, node("If", [condition], ["y"], then_branch=branch("Relu", "x"), else_branch=branch("Tanh", "x"))]
    return network(nodes, [value("x", ("n", 4)), *inputs], [value("y", None)], tensors)


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_is_chosen_by_a_constant(rng, tmp_path, condition):
    net = load(tmp_path, chosen("c", [tensor("c", np.array(condition))]))
    x = rng.standard_normal((3, 4)).astype("f4")
    close(net.predict(x), np.maximum(x, 0) if condition else np.tanh(x.astype("f8")))
    assert len(net.graph.layers) == 1


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_branch_is_chosen_by_a_constant_that_is_given(rng, tmp_path, rate):
    more = [node("Equal", ["sr", "rate"], ["c"])]
    data = chosen("c", [tensor("rate", np.array(16000))], more, [value("sr", (), "int64")])
    x = rng.standard_normal((3, 4)).astype("f4")
    y = load(tmp_path, data, constants={"sr": rate}).predict(x)
    close(y, np.maximum(x, 0) if rate == 16000 else np.tanh(x.astype("f8")))
    with pytest.raises(UnsupportedError, match="'sr': a single number .*constants="):
        load(tmp_path, data)


@pytest.mark.parametrize("size", [4, 5])
def test_a_branch_is_chosen_by_a_shape(rng, tmp_path, size):
    more = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "one"], ["width"], axis=0),
        node("Equal", ["width", "size"], ["c"]),
    ]
    data = chosen("c", [tensor("one", np.array(1)), tensor("size", np.array(size))], more)
    x = rng.standard_normal((3, 4)).astype("f4")
    close(load(tmp_path, data).predict(x), np.maximum(x, 0) if size == 4 else np.tanh(x.astype("f8")))


def test_a_branch_that_numbers_choose_is_refused(tmp_path):
    more = [node("ReduceSum", ["x", "axes"], ["s"], keepdims=0), node("Cast", ["s"], ["c"], to=9)]
    with pytest.raises(UnsupportedError, match="'y' .If.: If with a condition that depends on the numbers"):
        load(tmp_path, chosen("c", [tensor("axes", np.array([1]))], more))


def test_the_branch_that_is_not_taken_may_hold_anything(rng, tmp_path):
    unknown = graph([node("Unknown", ["far"], ["u"])], [], [value("u", None)])
    more = [node("NonZero", ["x"], ["far"])]
    nodes = [*more, node("If", ["c"], ["y"], then_branch=branch("Relu", "x"), else_branch=unknown)]
    data = network(nodes, [value("x", ("n", 4))], [value("y", None)], [tensor("c", np.array(True))])
    x = rng.standard_normal((3, 4)).astype("f4")
    close(load(tmp_path, data).predict(x), np.maximum(x, 0))


# What is refused


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_a_loop_without_a_body_is_damaged(tmp_path, operator):
    data = network([node(operator, ["x"], ["y"], "rnn/while")], [value("x", ("n", 4))], [value("y", None)])
    with pytest.raises(FormatError, match=rf"'rnn/while' \({operator}\): without a body"):
        load(tmp_path, data)


def test_unknown_operators_are_named_together_with_a_node_of_each(tmp_path):
    nodes = [
        node("NonMaxSuppression", ["x"], ["a"], "first"),
        node("NonMaxSuppression", ["a"], ["b"], "second"),
        node("Grid", ["b"], ["y"], "third", domain="com.example"),
    ]
    data = network(nodes, [value("x", ("n", 4))], [value("y", None)], domains=["com.example"])
    with pytest.raises(
        UnsupportedError, match=r"NonMaxSuppression \(node 'first'\), com.example.Grid \(node 'third'\)$"
    ):
        load(tmp_path, data)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"rate": 1}, FormatError, "no input 'rate'; its inputs are x, sr"),
        ({"sr": 1.5}, FormatError, "'sr': expected numbers of int64"),
        ({"sr": [1, 2]}, FormatError, r"'sr': expected the shape \(\), found \(2,\)"),
        ({"sr": "text"}, FormatError, "'sr': expected numbers"),
        ({"sr": 1 << 70}, FormatError, "'sr': "),
        ([16000], FormatError, "expected a dict of inputs"),
    ],
)
def test_constants_have_to_fit_the_inputs(tmp_path, given, error, message):
    data = chosen("c", [tensor("c", np.array(True))], (), [value("sr", (), "int64")])
    with pytest.raises(error, match=message):
        load(tmp_path, data, constants=given)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((), "a single number for all rows"), (None, "how many axes"), ((0, 4), "without numbers")],
)
def test_inputs_that_no_network_takes_are_refused(tmp_path, shape, message):
    data = network([node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", None)])
    with pytest.raises(UnsupportedError, match=f"input 'x': .*{message}"):
        load(tmp_path, data)


# Which axes are the batch and the time


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("batch", "time", 5), (None, 5)),
        (("N", None, 5), (None, 5)),
        ((None, None, 5), (None, 5)),
        (("s0", "s1", 5), (None, 5)),
        (("batch", 7, 5), (None, 5)),
        ((1, "T", 5), (None, 5)),
        ((1, 7, 5), (None, 5)),
        ((4, 7, 5), (None, 5)),
        ((1, 5), (5,)),
        (("batch", 5), (5,)),
    ],
)
def test_axes_are_batch_and_time_by_names_and_places(rng, tmp_path, shape, expected):
    data, (w, b) = made.dense(rng, shape)
    net = load(tmp_path, data)
    assert net.graph.values["x"].shape == expected
    for batch in (1, 3):
        x = rng.standard_normal((batch, *(7 if size is None else size for size in expected))).astype("f4")
        close(net.predict(x), relu(x, w, b))


@pytest.mark.parametrize(("time", "expected"), [("T", None), (7, 7), (None, None)])
def test_the_time_can_be_said(rng, tmp_path, time, expected):
    data, (w, b) = made.dense(rng, (1, 7, 5))
    net = load(tmp_path, data, time=time)
    assert net.graph.values["x"].shape == (expected, 5)
    x = rng.standard_normal((3, expected or 9, 5)).astype("f4")
    close(net.predict(x), relu(x, w, b))


def test_an_open_time_can_be_fixed(rng, tmp_path):
    net = load(tmp_path, made.dense(rng)[0], time=6)
    assert net.graph.values["x"].shape == (6, 5)


@pytest.mark.parametrize("time", [8, 0, -1, "t", 2.5, True])
def test_a_time_that_the_model_cannot_have_is_refused(rng, tmp_path, time):
    with pytest.raises(FormatError, match="time"):
        load(tmp_path, made.dense(rng, (1, 7, 5))[0], time=time)


def test_a_number_that_may_be_the_time_keeps_it(rng, tmp_path):
    nodes = [
        node("ReduceSum", ["x", "axes"], ["s"], keepdims=0),
        node("Div", ["s", "count"], ["y"]),
    ]

    def data(count):
        tensors = [tensor("axes", np.array([1])), tensor("count", np.array(count, np.float32))]
        return network(nodes, [value("x", (1, 24, 5))], [value("y", None)], tensors)

    assert load(tmp_path, data(24.0)).graph.values["x"].shape == (24, 5)
    assert load(tmp_path, data(25.5)).graph.values["x"].shape == (None, 5)
    with pytest.raises(cylstm.errors.ShapeError, match="the number 24, which may be computed"):
        load(tmp_path, data(24.0), time="T")


def test_inputs_of_one_name_of_the_time_have_one(rng, tmp_path):
    nodes = [node("Add", ["a", "b"], ["y"])]

    def net(first, second):
        inputs = [value("a", ("n", first, 4)), value("b", ("n", second, 4))]
        return load(tmp_path, network(nodes, inputs, [value("y", None)]))

    found = net("time", "time")
    assert found.graph.inputs_of_one_time() == [("b", "a")]
    a, b = rng.standard_normal((2, 3, 6, 4)).astype("f4")
    close(found.predict([a, b]), a + b)
    with pytest.raises(cylstm.errors.ShapeError, match="do not match"):
        net("first", "second")


def test_a_batch_of_one_is_the_batch_through_literal_shapes(rng, tmp_path):
    w = rng.standard_normal((12, 4)).astype("f4")
    nodes = [
        node("Reshape", ["x", "shape"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Reshape", ["b", "back"], ["y"]),
    ]
    tensors = [tensor("shape", np.array([1, 12])), tensor("back", np.array([1, 2, 2])), tensor("w", w)]
    net = load(tmp_path, network(nodes, [value("x", (1, 3, 4))], [value("y", None)], tensors))
    x = rng.standard_normal((3, 3, 4)).astype("f4")
    close(net.predict(x), (x.reshape(3, 12).astype("f8") @ w).reshape(3, 2, 2))


@pytest.mark.parametrize("steps", ["time", 6])
@pytest.mark.parametrize("through", [False, True])
def test_an_input_of_lengths_is_the_argument_of_predict(rng, tmp_path, steps, through):
    w, r = (rng.standard_normal((1, 12, size)).astype("f4") for size in (3, 4))
    nodes = [
        *([node("Cast", ["lens"], ["lens32"], to=6)] if through else []),
        node("GRU", ["x", "w", "r", "", "lens32" if through else "lens"], ["all", "last"], hidden_size=4),
        node("Squeeze", ["all", "one"], ["y"]),
        node("Squeeze", ["last", "zero"], ["h"]),
        node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=0),
    ]
    inputs = [value("x", (steps, "batch", 3)), value("lens", ("batch",), "int64" if through else "int32")]
    tensors = [tensor("w", w), tensor("r", r), tensor("one", np.array([1])), tensor("zero", np.array([0]))]
    net = load(tmp_path, network(nodes, inputs, [value(name, None) for name in ("y", "h", "mean")], tensors))
    assert net.inputs == ("x",)
    x = rng.standard_normal((3, 6, 3)).astype("f4")
    y, h, mean = net.predict(x, lengths=[6, 2, 4])
    whole, _, _ = net.predict(x)
    for row, length in enumerate((6, 2, 4)):
        np.testing.assert_array_equal(y[row, :length], whole[row, :length])
        assert not y[row, length:].any()
        np.testing.assert_array_equal(h[row], whole[row, length - 1])
    close(mean, y.astype("f8").mean(1))


def test_lengths_that_are_computed_with_stay_an_input(rng, tmp_path):
    w, r = (rng.standard_normal((1, 12, size)).astype("f4") for size in (3, 4))
    nodes = [
        node("GRU", ["x", "w", "r", "", "lens"], ["all"], hidden_size=4),
        node("Squeeze", ["all", "one"], ["y"]),
        node("Cast", ["lens"], ["count"], to=1),
    ]
    inputs = [value("x", ("time", "batch", 3)), value("lens", ("batch",), "int32")]
    tensors = [tensor("w", w), tensor("r", r), tensor("one", np.array([1]))]
    net = load(tmp_path, network(nodes, inputs, [value("y", None), value("count", None)], tensors))
    assert net.inputs == ("x", "lens")
