"""Files that no honest writer writes: each attack is refused by an error of ours that says where it is."""

import os
import time
import tracemalloc

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.onnx import limits, run
from cylstm.formats.onnx.read import model_of
from cylstm.formats.onnx.tensors import read_array
from cylstm.formats.untrusted import protobuf
from cylstm.loading import read

from tests.builders import onnx_files as made
from tests.builders.onnx_files import field, function, graph, message, model, node, opset, packed, tensor, value, varint

X, Y = value("x", ("n", 4)), value("y", None)


def load(folder, data, **options):
    path = folder / "net.onnx"
    path.write_bytes(data)
    return cylstm.load(path, **options)


def refused(folder, data, error, message, **options):
    start = time.process_time()
    with pytest.raises(error, match=message) as raised:
        load(folder, data, **options)
    assert "net.onnx" in str(raised.value) and len(str(raised.value)) < 2000
    assert time.process_time() - start < 5


# The wire format


def test_a_file_that_is_cut_off_anywhere_is_refused(rng, tmp_path):
    data, _ = made.dense(rng)
    for length in range(len(data)):
        try:
            load(tmp_path, data[:length])
        except CylstmError as error:
            assert "net.onnx" in str(error)
        else:
            pytest.fail(f"{length} of {len(data)} bytes were read as a network")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (b"\x3a\xff\xff\xff\xff\x0f", r"Model: 4294967295 bytes expected, .* found; truncated"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", r"Model: \d+ bytes expected"),
        (b"\x3a" + b"\xff" * 10, "a number that does not end or has more than 64 bits"),
        (b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "more than 64 bits"),
        (b"\x3b", "a field of wire type 3, which is not used"),
        (b"\x08\x08", "Model.ir_version: a field that occurs once is there twice"),
        (field(7, graph([])), "Model.graph: a field that occurs once is there twice"),
        (b"\x0a\x01\x08", "Model.ir_version: expected wire type 0, found 2"),
        (field(7, 5), "Model.graph: expected wire type 2, found 0"),
        (b"\x12\x02\xff\xfe", "Model.producer_name: expected a text in UTF-8"),
        (b"\x00\x00", "field number 0 is none"),
    ],
)
def test_wrong_bytes_are_refused_with_the_message_that_they_are_in(tmp_path, part, message):
    start = made.message({1: 8, 7: graph([node("Relu", ["x"], ["y"])], [X], [Y]), 8: opset(17)})
    refused(tmp_path, start + part, FormatError, message)


@pytest.mark.parametrize("kind", ["Model", "Graph", "Node", "Tensor", "Attribute"])
def test_fields_that_are_not_known_are_refused_as_of_a_newer_version(tmp_path, kind):
    new = field(99, 1)
    attribute = made.attribute("a", 1) + (new if kind == "Attribute" else b"")
    nodes = [node("Relu", ["x"], ["y"]) + field(5, attribute) + (new if kind == "Node" else b"")]
    tensors = [tensor("w", np.ones(2)) + (new if kind == "Tensor" else b"")]
    data = model(graph(nodes, [X], [Y], tensors) + (new if kind == "Graph" else b"")) + (
        new if kind == "Model" else b""
    )
    refused(tmp_path, data, UnsupportedError, f"{kind}: field 99 is not known; .* newer version")


def test_messages_within_one_another_have_a_limit(tmp_path):
    inner = graph([node("Relu", ["x"], ["y"])], [], [Y])
    for _ in range(40):
        inner = graph([node("If", ["c"], ["y"], then_branch=inner, else_branch=inner[:0])], [], [Y])
    refused(tmp_path, model(inner), FormatError, "more than 64 messages within one another")


def test_the_number_of_fields_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(protobuf, "MOST_FIELDS", 1000)
    data = model(graph([], [X], [Y], [tensor("w", np.zeros(0), "float32", (2000,), f4=[1.0] * 2000)]))
    refused(tmp_path, data, FormatError, "more than 1,000 fields")


# Structure


@pytest.mark.parametrize(
    ("nodes", "tensors", "message"),
    [
        ([node("Relu", ["b"], ["y"]), node("Relu", ["y"], ["b"])], (), "the nodes form a cycle"),
        ([node("Relu", ["y"], ["y"], "self")], (), "node 'self'.*the nodes form a cycle"),
        ([node("Relu", ["nothing"], ["y"])], (), "'nothing' is computed by no node"),
        ([node("Relu", ["x"], ["y"])] * 2, (), "the value 'y' is there twice"),
        ([node("Relu", ["x"], ["x"])], (), "the value 'x' is there twice"),
        ([node("Relu", ["x"], ["y"])], [tensor("y", np.ones(1))], "the value 'y' is there twice"),
        ([node("Relu", ["x"], ["y"])], [tensor("w", np.ones(1))] * 2, "two initializers of one name"),
        ([node("Relu", ["x"], ["z"])], (), "'y' is computed by no node"),
        ([message({1: ["x"], 2: ["y"]})], (), "a node without an operator"),
        (
            [node("Relu", ["x"], ["y"]) + field(5, made.attribute("a", 1)) * 2],
            (),
            "'a': without a name, or there twice",
        ),
        ([node("Relu", ["x"], ["y"], a=("ref", "b", 1))], (), None),
    ],
)
def test_graphs_that_make_no_sense_are_refused(tmp_path, nodes, tensors, message):
    data = model(graph(nodes, [X], [Y], tensors))
    if message is None:  # an attribute of no function, which has no value
        load(tmp_path, data)
    else:
        refused(tmp_path, data, FormatError, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({1: "a", 2: 1.0, 20: 2}, "its value is in 'i', and f are there"),
        ({1: "a", 2: 1.0, 3: 5, 20: 1}, "its value is in 'f', and f, i are there"),
        ({1: "a", 20: 4}, "its value is missing"),
        ({1: "a", 20: 5}, "its value is missing"),
        ({1: "a", 20: 99}, "an attribute of type 99"),
        ({1: "a", 22: message({3: 1}), 20: 11}, "an attribute of type 11"),
        ({1: "a"}, "an attribute of type 0"),
    ],
)
def test_attributes_whose_type_lies_are_refused(tmp_path, fields, message):
    data = model(graph([node("Relu", ["x"], ["y"]) + field(5, made.message(fields))], [X], [Y]))
    refused(tmp_path, data, (FormatError, UnsupportedError), f"'y' \\(Relu\\), attribute 'a': .*{message}")


def test_functions_that_call_themselves_are_refused(tmp_path):
    own = function("Own", ["a"], ["b"], [node("Own", ["a"], ["b"], domain="own")])
    data = model(graph([node("Own", ["x"], ["y"], domain="own")], [X], [Y]), functions=[own], domains=["own"])
    refused(tmp_path, data, FormatError, "more than 32 functions or branches within one another")


def test_functions_that_double_at_each_call_are_refused(tmp_path, monkeypatch):
    from cylstm.formats.onnx import run

    monkeypatch.setattr(run, "_MOST_NODES", 2000)
    functions = [function("F0", ["a"], ["b"], [node("Relu", ["a"], ["b"])])]
    for k in range(1, 30):
        calls = [node(f"F{k - 1}", [one], [other], domain="own") for one, other in (("a", "c"), ("c", "b"))]
        functions.append(function(f"F{k}", ["a"], ["b"], calls))
    data = model(graph([node("F29", ["x"], ["y"], domain="own")], [X], [Y]), functions=functions, domains=["own"])
    refused(tmp_path, data, FormatError, "more than 2,000 nodes")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (node("Own", ["x", "x"], ["y"], domain="own"), "2 inputs for a function of 1"),
        (node("Own", ["x"], ["y"], domain="own", b=1), "no attribute 'b'"),
        (node("Own", ["x"], ["y", "z"], domain="own", a=1), "2 outputs, of which 1 are computed"),
        (node("Own", ["x"], ["y"], domain="own"), "attribute 'a' is missing"),
    ],
)
def test_calls_that_do_not_fit_their_function_are_refused(tmp_path, call, message):
    own = function("Own", ["a"], ["b"], [node("Relu", ["a"], ["b"])], attributes=["a"])
    data = model(graph([call], [X], [Y]), functions=[own], domains=["own"])
    refused(tmp_path, data, (FormatError, UnsupportedError), message)


def test_an_if_without_its_branches_is_refused(tmp_path):
    data = model(graph([node("If", ["c"], ["y"], "choice")], [X], [Y], [tensor("c", np.array(True))]))
    refused(tmp_path, data, FormatError, "'choice'.*an If without two branches")


def test_a_branch_that_needs_its_own_if_is_refused(tmp_path):
    inner = graph([node("Relu", ["y"], ["z"])], [], [value("z", None)])
    data = model(
        graph([node("If", ["c"], ["y"], "choice", then_branch=inner, else_branch=inner)], [X], [Y],
              [tensor("c", np.array(True))])
    )  # fmt: skip
    refused(tmp_path, data, FormatError, "the nodes form a cycle")


# Tensors


@pytest.mark.parametrize(
    ("dtype", "shape", "fields", "message"),
    [
        ("float32", (2, 2), {"f9": bytes(12)}, r"16 bytes expected for float32 \(2, 2\), found 12"),
        ("float32", (2, 2), {"f9": bytes(20)}, r"16 bytes expected for float32 \(2, 2\), found 20"),
        ("float32", (1 << 40,), {"f9": bytes(4)}, "bytes expected"),
        ("float32", (1 << 20, 1 << 20, 1 << 20), {"f9": b""}, "numbers, shape"),
        ("float32", (1 << 62, 4, 0), {"f9": bytes(4)}, "0 bytes expected"),
        ("float32", (-1, 2), {"f9": bytes(8)}, "a negative size"),
        ("float32", (2,), {"f4": [1.0]}, r"2 numbers expected for shape \(2,\), found 1"),
        ("float32", (2,), {"f4": bytes(7)}, "7 bytes are no whole number of numbers"),
        ("float32", (2,), {"f9": bytes(8), "f4": [1.0, 2.0]}, "data twice"),
        ("float32", (2,), {"f5": packed([1, 2])}, "numbers of float32 lie in float_data, found int32_data"),
        ("int8", (2,), {"f5": packed([1, 300])}, "numbers beyond -128 to 127"),
        ("uint8", (2,), {"f5": packed([1, -1])}, "numbers beyond 0 to 255"),
        ("bool", (2,), {"f9": b"\x01\x02"}, "numbers beyond 0 to 1"),
        ("float16", (2,), {"f5": packed([1, 70000])}, "numbers beyond 0 to 65535"),
        ("int64", (2,), {"f7": b"\x01\x80"}, "a number that does not end"),
        ("int64", (1,), {"f7": b"\x80" * 10 + b"\x01"}, "more than 64 bits"),
        ("int4", (3,), {"f9": b"\x11"}, "2 bytes expected"),
        ("string", (1,), {"f6": "a"}, "numbers of string are not supported"),
        ("float32", (2,), {"f3": b"", "f9": bytes(8)}, "a tensor in segments"),
        ("float32", (1,) * 40, {"f9": bytes(4)}, "40 axes; at most 32"),
        ("float32", (2,), {"f14": 2, "f9": bytes(8)}, "data_location 2 is none"),
        ("float32", (2,), {}, "2 numbers expected|8 bytes expected"),
    ],
)
def test_tensors_that_lie_are_refused_by_name(tmp_path, dtype, shape, fields, message):
    stored = tensor("weights", np.zeros(0), dtype, shape, **(fields or {"f2": made.TYPES[dtype]}))
    if not fields:
        stored = made.message({1: list(shape), 2: made.TYPES[dtype], 8: "weights"})
    nodes = [node("Add", ["x", "weights"], ["y"])]
    refused(tmp_path, model(graph(nodes, [X], [Y], [stored])), CylstmError, f"(?s){message}")
    with pytest.raises(CylstmError) as raised:
        found = model_of(model(graph([], [], [], [stored])), "net.onnx").graph.initializers["weights"]
        read_array(found, "net.onnx", "initializer")
    assert "weights" in str(raised.value) or "Tensor." in str(raised.value)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret.bin", "without '..'"),
        ("more/../../secret.bin", "without '..'"),
        ("/etc/hostname", "without '..'"),
        ("C:secret.bin", "without '..'"),
        ("..\\secret.bin", "without '..'"),
        ("", "without '..'"),
        ("a//b", "without '..'"),
        ("nothing.bin", "No such file"),
        ("link.bin", "is a link"),
        ("linked/secret.bin", "is a link"),
        ("folder", "no file|directory"),
        ("pipe", "is no file"),
    ],
)
def test_external_data_elsewhere_are_refused(tmp_path, location, message):
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    os.symlink(tmp_path, folder / "linked")
    if location == "pipe":
        os.mkfifo(folder / "pipe")
    external = [made.message({1: "location", 2: location})]
    stored = tensor("w", np.zeros(0), "float32", (4,), f13=external, f14=1)
    data = model(graph([node("Add", ["x", "w"], ["y"])], [X], [Y], [stored]))
    refused(folder, data, FormatError, f"tensor 'w': external data: .*{message}")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("location", "w.bin"), ("offset", "8")], "16 bytes expected .*found 8"),
        ([("location", "w.bin"), ("offset", "4"), ("length", "16")], "bytes 4 to 20 of .*which has 16"),
        ([("location", "w.bin"), ("offset", "99")], "which has 16"),
        ([("location", "w.bin"), ("offset", "-4")], "offset expected a number"),
        ([("location", "w.bin"), ("length", "1e9")], "length expected a number"),
        ([("location", "w.bin"), ("length", "9" * 40)], "length expected a number"),
        ([("location", "w.bin"), ("location", "w.bin")], "'location' twice"),
        ([("location", "w.bin"), ("basepath", "/")], "expected location, offset and length"),
        ([("offset", "0")], "expected location, offset and length"),
    ],
)
def test_external_data_of_other_sizes_are_refused(tmp_path, pairs, message):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    external = [made.message({1: key, 2: text}) for key, text in pairs]
    stored = tensor("w", np.zeros(0), "float32", (4,), f13=external, f14=1)
    data = model(graph([node("Add", ["x", "w"], ["y"])], [X], [Y], [stored]))
    refused(tmp_path, data, FormatError, f"tensor 'w': external data: .*{message}")


def test_data_in_the_file_and_beside_it_are_refused(tmp_path):
    external = [made.message({1: "location", 2: "w.bin"})]
    stored = tensor("w", np.zeros(0), "float32", (4,), f9=bytes(16), f13=external, f14=1)
    data = model(graph([node("Add", ["x", "w"], ["y"])], [X], [Y], [stored]))
    refused(tmp_path, data, FormatError, "data beside the file, and in it")


# Constants that a few bytes ask for


def huge(*numbers):
    return np.array(numbers)


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        ([node("ConstantOfShape", ["n"], ["c"])], {"n": huge(10**12)}),
        ([node("ConstantOfShape", ["n"], ["c"])], {"n": huge(10**6, 10**6)}),
        ([node("Expand", ["one", "n"], ["c"])], {"one": np.ones(1, np.float32), "n": huge(10**12)}),
        ([node("Tile", ["one", "n"], ["c"])], {"one": np.ones(1, np.float32), "n": huge(10**12)}),
        ([node("Range", ["zero", "n", "one"], ["c"])], {"zero": huge(0)[0], "n": huge(10**12)[0], "one": huge(1)[0]}),
        (
            [node("OneHot", ["zero", "n", "values"], ["c"])],
            {"zero": huge(0), "n": huge(10**12)[0], "values": np.array([0, 1], np.float32)},
        ),
        ([node("Pad", ["one", "n"], ["c"])], {"one": np.ones(1, np.float32), "n": huge(0, 10**12)}),
        ([node("Add", ["a", "b"], ["c"])], {"a": np.ones((30_000, 1)), "b": np.ones((1, 30_000))}),
        ([node("MatMul", ["a", "b"], ["c"])], {"a": np.ones((30_000, 1)), "b": np.ones((1, 30_000))}),
        ([node("Gemm", ["a", "b"], ["c"])], {"a": np.ones((30_000, 1)), "b": np.ones((1, 30_000))}),
        ([node("DFT", ["a", "n"], ["c"])], {"a": np.ones((1, 10, 1), np.float32), "n": huge(10**12)[0]}),
        (
            [node("Identity", ["a"], ["c0"])]
            + [node("Concat", [f"c{k}"] * 8, [f"c{k + 1}"], axis=0) for k in range(20)]
            + [node("Identity", ["c20"], ["c"])],
            {"a": np.ones(1000, np.float32)},
        ),
        (
            [node("Identity", ["n"], ["c0"])]
            + [node("Gather", [f"c{k}", f"c{k}"], [f"c{k + 1}"], axis=0) for k in range(20)]
            + [node("Identity", ["c20"], ["c"])],
            {"n": np.zeros((40, 40), np.int64)},
        ),
    ],
)
def test_constants_of_any_size_are_not_computed(tmp_path, nodes, tensors):
    nodes = [*nodes, node("Add", ["x", "c"], ["y"])]
    data = model(graph(nodes, [X], [Y], [tensor(name, array) for name, array in tensors.items()]))
    refused(tmp_path, data, (UnsupportedError, FormatError, cylstm.errors.ShapeError), "numbers|sizes")


#: numbers of one constant and of all, in the place of those of the package, so that the tests take little memory
ONE, ALL = 1 << 18, 1 << 20


def ramp(k):
    """Nodes that compute `ONE` numbers, a count and the same in double precision."""
    return [node("Range", ["zero", "n", "one"], [f"a{k}"]), node("Cast", [f"a{k}"], [f"b{k}"], to=11)]


@pytest.mark.parametrize(
    "makes",
    [
        lambda k: [node("ConstantOfShape", ["shape"], [f"big{k}"], value=np.array([1.5]))],
        lambda k: [node("Expand", ["n", "shape"], [f"big{k}"])],
        lambda k: [node("Tile", ["four", "repeats"], [f"big{k}"])],
        lambda k: [node("Range", ["zero", "n", "one"], [f"big{k}"])],
        lambda k: [node("Pad", ["four", "pads"], [f"big{k}"])],
        lambda k: [node("Resize", ["image", "", "", "sizes"], [f"big{k}"], mode="linear")],
        lambda k: [node("OneHot", ["four", "depth", "values"], [f"big{k}"])],
        lambda k: [*ramp(k), node("Erf", [f"b{k}"], [f"c{k}"]), node("Gelu", [f"c{k}"], [f"big{k}"])],
        lambda k: [*ramp(k), node("Sin", [f"b{k}"], [f"c{k}"]), node("Softmax", [f"c{k}"], [f"big{k}"])],
        lambda k: [*ramp(k), node("Concat", [f"b{k}"] * 1000, [f"big{k}"], axis=0)],
        lambda k: [*ramp(k), node("CumSum", [f"b{k}", "zero"], [f"big{k}"])],
        lambda k: [*ramp(k), node("TopK", [f"b{k}", "shape"], [f"big{k}", f"places{k}"])],
    ],
    ids=(
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "Pad",
        "Resize",
        "OneHot",
        "Erf",
        "Softmax",
        "Concat",
        "CumSum",
        "TopK",
    ),
)
def test_constants_take_no_more_memory_than_the_limits_say(tmp_path, monkeypatch, makes):
    """With the limits of the package: 0.5 GB for all, and 0.9 GB for one that is computed."""
    monkeypatch.setattr(limits, "MOST_NUMBERS", ONE)
    monkeypatch.setattr(run, "MOST_IN_ALL", ALL)
    tensors = {
        "zero": huge(0)[0], "one": huge(1)[0], "n": huge(ONE)[0], "shape": huge(ONE), "four": np.arange(4),
        "repeats": huge(ONE // 4), "pads": huge(0, ONE - 4), "image": np.ones((1, 1, 4), np.float32),
        "sizes": huge(1, 1, ONE // 4), "depth": huge(ONE // 4)[0], "values": np.array([0, 1]),
    }  # fmt: skip
    nodes = [one for k in range(17) for one in makes(k)]
    nodes += [node("ReduceMax", [f"big{k}"], [f"m{k}"], keepdims=0) for k in range(17)]
    nodes += [node("Max", [f"m{k}" for k in range(17)], ["c"]), node("Cast", ["c"], ["d"], to=1)]
    nodes += [node("Add", ["x", "d"], ["y"])]
    data = model(graph(nodes, [X], [Y], [tensor(name, array) for name, array in tensors.items()]), 20)
    tracemalloc.start()
    try:
        refused(
            tmp_path, data, UnsupportedError, "numbers of constants that are computed|numbers, computed from others"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 9 * ALL + 60 * ONE + (1 << 23)


def test_a_network_as_wide_as_a_few_bytes_say_takes_no_memory_for_that(tmp_path):
    nodes = [node("Mul", ["x", "two"], ["a"]), node("Add", ["a", "two"], ["y"])]
    wide = graph(nodes, [value("x", ("n", 1 << 26))], [Y], [tensor("two", np.float32(2))])
    path = tmp_path / "net.onnx"
    path.write_bytes(model(wide))
    tracemalloc.start()
    try:
        assert read(path).values["x"].shape == (1 << 26,)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_sizes_that_grow_at_each_node_are_refused(tmp_path):
    nodes = [node("Shape", ["x"], ["s0"])]
    nodes += [node("Mul", [f"s{k}", f"s{k}"], [f"s{k + 1}"]) for k in range(100)]
    nodes += [node("ConstantOfShape", ["s100"], ["c"]), node("Add", ["x", "c"], ["y"])]
    refused(tmp_path, model(graph(nodes, [X], [Y])), UnsupportedError, "sizes that no network has")


def test_a_chain_of_many_nodes_needs_no_deep_stack(tmp_path):
    count = 5000
    nodes = [node("Identity", [f"v{k}" if k else "x"], [f"v{k + 1}"]) for k in range(count)]
    nodes += [node("Relu", [f"v{count}"], ["y"])]
    assert len(load(tmp_path, model(graph(nodes[::-1], [X], [Y]))).graph.layers) == 1


def test_names_of_any_length_are_shortened_in_messages(tmp_path):
    name = "n" * 100_000
    data = model(graph([node(name, ["x"], ["y"], name)], [X], [Y]))
    refused(tmp_path, data, UnsupportedError, "not supported: n{200} ")


def test_a_large_number_is_written_in_ten_bytes():
    assert varint(-1) == b"\xff" * 9 + b"\x01"
