"""Files of ``torch.export.save``: those of each version of PyTorch, and hostile ones made by hand."""

import io
import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.torch.pt2 import read_program
from cylstm.program.program import Body, NumberType, Operation, Reference, Size, TensorType

from tests.builders.hostile import needs_proc
from tests.builders.pt2_files import (
    FOLDER,
    SMALL_VERSIONS,
    VERSIONS,
    body,
    document,
    higher,
    meta,
    node,
    payload,
    size,
    tree,
    value,
    write_fixture,
    write_pt2,
)
from tests.builders.weight_files import call, dictionary, integer, ordered_dict, program, tensor, text, write_torch

R = Reference
WEIGHTS = "net/data/weights/model_weights_config.json"
CONSTANTS = "net/data/constants/model_constants_config.json"
MODEL = "net/models/model.json"


# What PyTorch wrote


def test_the_fixtures_are_of_every_version_that_is_read():
    assert [version.rpartition(".")[0] for version in VERSIONS] == [f"2.{minor}" for minor in range(6, 14)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_program_of_every_version_is_read_with_its_tensors(tmp_path, version):
    found = read_program(write_fixture(tmp_path / "net.pt2", version))
    expected = np.load(FOLDER / "expected.npz")
    assert found.source == f"PyTorch {version} export"
    assert found.inputs == ("x",)
    assert found.input_names == {"x": "x"}
    assert found.fixed == {"states": None, "top": 2}
    paths = {name.partition("/")[2] for name in expected if name.startswith("weights/")}
    assert set(found.constant_names.values()) == paths
    for name, path in found.constant_names.items():
        array = found.constants[name]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[f"weights/{path}"])
    dtypes = {found.constant_names[name]: found.types[name].dtype for name in found.constants}
    assert dtypes["gain"] == "float16" and dtypes["offset"] == "bfloat16" and dtypes["fc.bias"] == "float32"
    batch = found.types["x"].shape[0]
    assert isinstance(batch, Size) and found.ranges == {batch.text: (0, None)}
    assert found.types["x"] == TensorType("float32", (batch, 5, 3))
    assert found.mutated == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operations_of_every_version_are_read_in_order(tmp_path, version):
    found = read_program(write_fixture(tmp_path / "net.pt2", version))
    made = {operation.target: operation for operation in found.operations}
    assert set(found.outputs) == {"y", "rest"}
    hidden, nothing, (last, pooled) = found.outputs["rest"]
    assert nothing is None
    lstm = made["aten.lstm.input"]
    assert lstm.arguments["input"] == R("x")
    assert [found.constant_names[one.name] for one in lstm.arguments["params"]] == [
        f"lstm.{kind}_{of}_l{layer}" for layer in (0, 1) for kind in ("weight", "bias") for of in ("ih", "hh")
    ]
    others = {name: lstm.arguments[name] for name in ("num_layers", "batch_first", "bidirectional", "train")}
    assert others == {"num_layers": 2, "batch_first": True, "bidirectional": False, "train": False}
    assert (lstm.where, lstm.layer) == ("net.py line 12", "lstm")
    zeros = made["aten.zeros.default"]
    (count,) = made["aten.sym_size.int"].outputs
    assert zeros.arguments["size"] == (2, R(count), 4) and zeros.arguments["dtype"] == "float32"
    assert found.types[count] == NumberType("int", found.types["x"].shape[0])
    assert made["aten.chunk.default"].outputs[0] == ("getitem_3", "getitem_4")
    assert made["aten.linear.default"].where == "net.py line 13"
    assert made["aten.tanh.default"].where == "net.py line 14"
    masked = made["aten.masked_fill.Scalar"]
    assert masked.arguments["value"] == -np.inf and masked.outputs == (hidden.name,)
    assert made["aten.select.int"].outputs == (last.name,)
    assert found.operations[-1].outputs in ((last.name,), (pooled.name,))
    assert len(lstm.outputs) == 3


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_a_network_of_every_layout_loads_and_predicts_what_pytorch_did(tmp_path, version):
    model = cylstm.load(write_fixture(tmp_path / "net.pt2", version, "small-"))
    expected = np.load(FOLDER / "small-expected.npz")
    x, y = expected["x"], expected["y"]
    np.testing.assert_allclose(model.predict(x), y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict(x[:2]), y[:2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[2], VERSIONS[-1]])
def test_a_file_in_memory_and_other_paths_are_read_alike(tmp_path, version):
    path = write_fixture(tmp_path / "net.pt2", version)
    first = read_program(path)
    for source in (str(path), io.BytesIO(path.read_bytes())):
        again = read_program(source)
        assert again.operations == first.operations
        for name in first.constants:
            np.testing.assert_array_equal(again.constants[name], first.constants[name])
    with open(path, "rb") as file:
        assert read_program(file).operations == first.operations
        assert not file.closed


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_that_is_cut_off_is_refused(tmp_path, version):
    path = write_fixture(tmp_path / "net.pt2", version)
    data = path.read_bytes()
    for length in range(1, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        with pytest.raises(FormatError):
            read_program(path)


# By hand


@pytest.fixture
def made(rng):
    return document(rng)


def rejects(path, made, message, edit=lambda members: None, change=lambda document: None, error=FormatError):
    content, arrays = made
    change(content)
    path = write_pt2(path / "net.pt2", content, arrays, edit)
    with pytest.raises(error, match=message) as raised:
        read_program(path)
    assert str(path) in str(raised.value)
    assert type(raised.value) is error


def test_a_program_is_plain_data(tmp_path, made):
    found = read_program(write_pt2(tmp_path / "net.pt2", *made))
    s = Size("s77")
    assert found.operations == (
        Operation("aten.sym_size.int", {"self": R("x"), "dim": 0}, ("n",), ""),
        Operation(
            "aten.linear.default",
            {"input": R("x"), "weight": R("p_w"), "bias": R("p_bias")},
            ("linear",),
            "net.py line 12",
            "parts.fc",
        ),
        Operation("aten.chunk.default", {"self": R("linear"), "chunks": 2, "dim": -1}, (("a", "b"),), ""),
        Operation("aten.mul.Tensor", {"self": R("a"), "other": R("b")}, ("y",), ""),
    )
    assert (found.inputs, found.input_names, found.fixed) == (("x",), {"x": "x"}, {"mask": None})
    assert found.outputs == {"y": R("y"), "rest": (None, R("a"))}
    assert found.types["n"] == NumberType("int", s)
    assert found.types["linear"] == TensorType("float32", (s, 5, 4))
    assert found.constant_names == {"p_w": "parts.fc.weight", "p_bias": "bias"}
    for name, path in found.constant_names.items():
        np.testing.assert_array_equal(found.constants[name], made[1][path])
    assert found.ranges == {"s77": (0, None)}
    assert found.source == "PyTorch 2.13.0 export"


ARGUMENTS = [
    ({"as_none": True}, None),
    ({"as_int": -3}, -3),
    ({"as_ints": [1, -2]}, (1, -2)),
    ({"as_ints": []}, ()),
    ({"as_int_lists": [[1, 2], []]}, ((1, 2), ())),
    ({"as_float": 0.5}, 0.5),
    ({"as_float": 2}, 2.0),
    ({"as_float": "-Infinity"}, -np.inf),
    ({"as_floats": ["Infinity", 1.5]}, (np.inf, 1.5)),
    ({"as_float_lists": [[1.5], [2.5]]}, ((1.5,), (2.5,))),
    ({"as_string": "mean"}, "mean"),
    ({"as_strings": ["a", "b"]}, ("a", "b")),
    ({"as_bool": True}, True),
    ({"as_bools": [True, False]}, (True, False)),
    ({"as_tensor": {"name": "x"}}, R("x")),
    ({"as_tensors": [{"name": "x"}, {"name": "y"}]}, (R("x"), R("y"))),
    ({"as_nested_tensors": [[{"name": "x"}], []]}, ((R("x"),), ())),
    ({"as_optional_tensor": {"as_none": True}}, None),
    ({"as_optional_tensor": {"as_tensor": {"name": "a"}}}, R("a")),
    ({"as_optional_tensors": [{"as_none": True}, {"as_tensor": {"name": "a"}}]}, (None, R("a"))),
    ({"as_sym_int": {"as_name": "n"}}, R("n")),
    ({"as_sym_int": {"as_int": 4}}, 4),
    ({"as_sym_ints": [{"as_int": 4}, {"as_name": "n"}]}, (4, R("n"))),
    ({"as_sym_float": {"as_float": 1.5}}, 1.5),
    ({"as_sym_floats": [{"as_float": 1.5}]}, (1.5,)),
    ({"as_sym_bool": {"as_bool": True}}, True),
    ({"as_sym_bools": [{"as_bool": True}]}, (True,)),
    ({"as_scalar_type": 13}, "bfloat16"),
    ({"as_memory_format": 1}, "contiguous_format"),
    ({"as_memory_format": 3}, "channels_last_3d"),
    ({"as_memory_format": 4}, "preserve_format"),
    ({"as_layout": 7}, "strided"),
    ({"as_device": {"type": "cuda", "index": 1}}, "cuda:1"),
    ({"as_device": {"type": "cpu", "index": None}}, "cpu"),
    ({"as_device": {"type": "cpu"}}, "cpu"),
    ({"as_complex": {"real": 1.5, "imag": "Infinity"}}, complex(1.5, np.inf)),
    ({"as_string_to_argument": {"a": {"as_int": 1}, "b": {"as_tensor": {"name": "x"}}}}, {"a": 1, "b": R("x")}),
    ({"as_operator": "aten.add.Tensor"}, "aten.add.Tensor"),
]


@pytest.mark.parametrize(("argument", "expected"), ARGUMENTS, ids=[json.dumps(one)[:60] for one, _ in ARGUMENTS])
def test_every_kind_of_argument_is_read(tmp_path, made, argument, expected):
    content, arrays = made
    nodes = content["graph_module"]["graph"]["nodes"]
    nodes.append(node("torch.ops.aten.something.default", [], first={"as_int": 1}, second=argument))
    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays)).operations[-1].arguments
    assert found == {"first": 1, "second": expected}
    assert type(found["second"]) is type(expected)


@pytest.mark.parametrize("given", [True, 3, "a", [1]])
def test_numbers_of_a_graph_that_are_no_object_are_refused(tmp_path, made, given):
    content, _ = made
    content["graph_module"]["graph"]["sym_float_values"] = given
    rejects(tmp_path, made, "'sym_float_values' expected an object")


def test_a_graph_that_is_an_argument_is_a_program_with_names_of_its_own(tmp_path, made):
    content, arrays = made
    inside = content["graph_module"]["graph"]
    inside["tensor_values"]["c"] = meta(("s77", 5, 3))
    operands = {"as_tensors": [{"name": "x"}]}
    inside["nodes"].append(
        higher("torch.ops.higher_order.cond", {"as_bool": True}, body(), body(), operands, outputs=[value("c")])
    )
    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays)).operations[-1]
    expected = Body(
        ("x",),
        (Operation("aten.sin.default", {"self": R("x")}, ("z",), ""),),
        (R("z"),),
        dict.fromkeys("xz", TensorType("float32", (Size("s77"), 5, 3))),
    )
    assert found.target == "higher_order.cond"
    assert found.arguments == {"0": True, "1": expected, "2": expected, "3": (R("x"),)}


@pytest.mark.parametrize("form", ["tensor", "list"])
@pytest.mark.parametrize("returned", ["z", "x"])
def test_what_runs_without_gradients_stands_where_it_runs(tmp_path, made, form, returned):
    content, arrays = made
    inside = content["graph_module"]["graph"]
    inside["tensor_values"] |= {"z": meta(("s77", 5, 2)), "g": meta(("s77", 5, 2)), "last": meta(("s77", 5, 2))}
    outputs = [value("g")] if form == "tensor" else [{"as_tensors": [{"name": "g"}]}]
    inside["nodes"] += [
        node("torch.ops.aten.cos.default", [value("z")], self=value("y")),
        higher(
            "torch.ops.higher_order.wrap_with_set_grad_enabled",
            {"as_bool": False},
            body(value(returned)),
            value("a"),
            outputs=outputs,
        ),
        node("torch.ops.aten.neg.default", [value("last")], self=value("g")),
    ]
    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays))
    # "z" is taken by the program around
    assert found.operations[-2:] == (
        Operation("aten.sin.default", {"self": R("a")}, ("z.1",), ""),
        Operation("aten.neg.default", {"self": R("z.1" if returned == "z" else "a")}, ("last",), ""),
    )
    assert found.types["z.1"] == TensorType("float32", (Size("s77"), 5, 3))
    assert "g" not in found.types


def test_operations_that_write_a_buffer_are_told(tmp_path, made):
    content, arrays = made
    inside, signature = content["graph_module"]["graph"], content["graph_module"]["signature"]
    inside["tensor_values"] |= {"add_": meta((4,)), "mul_": meta(("s77", 5, 3)), "lstm_": meta((4,))}
    inside["nodes"] += [
        node("torch.ops.aten.add_.Tensor", [value("add_")], self=value("p_bias"), other={"as_int": 1}),
        node("torch.ops.aten.mul_.Scalar", [value("mul_")], self=value("x"), other={"as_int": 2}),
    ]
    inside["outputs"].insert(0, value("linear"))
    mutation = {"arg": {"name": "linear"}, "buffer_name": "running"}
    signature["output_specs"].insert(0, {"buffer_mutation": mutation})
    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays))
    assert found.mutated == {"bias": "add_", "x": "mul_", "running": "linear"}
    assert found.outputs == {"y": R("y"), "rest": (None, R("a"))}


def test_arguments_are_called_as_the_forward_calls_them(tmp_path, made):
    content, arrays = made
    module = content["graph_module"]
    names = ["x", "args_0", "args_1", "kw"]
    module["graph"]["inputs"] = [*module["graph"]["inputs"][:2], *map(value, names)]
    specs = module["signature"]["input_specs"]
    specs[2:] = [{"user_input": {"arg": value(name)}} for name in names]
    module["graph"]["tensor_values"] |= {name: meta((2,)) for name in names[1:]}
    call = module["module_call_graph"][0]["signature"]
    call["in_spec"] = tree(((None, {"a": None, "b": (None,)}), {"key": None}))
    call["forward_arg_names"] = ["x", "parts", "key"]
    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays))
    expected = {"x": "x", "args_0": "parts['a']", "args_1": "parts['b'][0]", "kw": "key"}
    assert (found.inputs, found.input_names) == (tuple(names), expected)
    call["in_spec"] = tree(((None,), {}))  # of another number of arguments: the names are not known
    assert read_program(write_pt2(tmp_path / "net.pt2", content, arrays)).input_names == {}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (tree(None), (R("y"), None, R("a"))),  # of another number of values
        (tree((None, [None], {"k": None})), (R("y"), (None,), {"k": R("a")})),
        (tree((None, None, None)).replace("builtins.tuple", "net.MyOutput"), (R("y"), None, R("a"))),
        (tree((None, None, None)).replace("builtins.tuple", "collections.namedtuple"), (R("y"), None, R("a"))),
        ('[2, {"type": null}]', (R("y"), None, R("a"))),
        (None, (R("y"), None, R("a"))),
    ],
)
def test_outputs_are_as_the_forward_returned_them_or_flat(tmp_path, made, spec, expected):
    content, arrays = made
    content["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = spec
    assert read_program(write_pt2(tmp_path / "net.pt2", content, arrays)).outputs == expected


def stored(members, config, path, type_, file, data):
    """Change how the config describes a tensor, and its file."""
    changed = json.loads(members[config])
    changed["config"][path] = payload(file, type_)
    members[config] = json.dumps(changed).encode()
    if data is not None:
        folder = config.rpartition("/")[0]
        members[f"{folder}/{file}"] = data


@pytest.mark.parametrize(
    ("dtype", "stored_as", "read_as"),
    [
        ("float32", "<f4", "float32"),
        ("float64", "<f8", "float64"),
        ("float16", "<f2", "float32"),
        ("int64", "<i8", "int64"),
        ("bool", "?", "bool"),
    ],
)
def test_strides_and_offsets_of_shared_storage_are_followed(tmp_path, rng, made, dtype, stored_as, read_as):
    content, arrays = made
    content["graph_module"]["graph"]["tensor_values"]["p_w"]["dtype"] = meta((), dtype)["dtype"]
    flat = rng.integers(0, 2 if dtype == "bool" else 100, 40).astype(stored_as)

    def edit(members):
        stored(members, WEIGHTS, "parts.fc.weight", meta((4, 3), dtype, (2, 9), 5), "weight_7", flat.tobytes())

    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays, edit))
    expected = np.array([[flat[5 + 2 * i + 9 * j] for j in range(3)] for i in range(4)])
    assert found.constants["p_w"].dtype == read_as
    np.testing.assert_array_equal(found.constants["p_w"], expected.astype(read_as))


def test_a_large_weight_is_read_when_it_is_asked_for(tmp_path, rng, made):
    content, arrays = made
    large = rng.standard_normal((700, 600)).astype(np.float32)
    content["graph_module"]["graph"]["tensor_values"]["p_w"] = meta(large.shape, strides=(600, 1))

    def edit(members):
        stored(members, WEIGHTS, "parts.fc.weight", meta(large.shape, strides=(600, 1)), "weight_0", large.tobytes())

    found = read_program(write_pt2(tmp_path / "net.pt2", content, arrays, edit))
    assert not isinstance(found.constants.stored["p_w"], np.ndarray)
    np.testing.assert_array_equal(found.constants["p_w"], large)


def test_numbers_of_a_big_endian_machine_are_read(tmp_path, made):
    def edit(members):
        members["net/byteorder"] = b"big"
        for name in ("net/data/weights/weight_0", "net/data/constants/tensor_0"):
            members[name] = np.frombuffer(members[name], "<f4").astype(">f4").tobytes()

    found = read_program(write_pt2(tmp_path / "net.pt2", *made, edit))
    np.testing.assert_array_equal(found.constants["p_w"], made[1]["parts.fc.weight"])


def pickled(path, array):
    """The bytes of ``torch.save`` of one tensor."""
    body = tensor("Float", "0", array.size, 0, array.shape, [step // 4 for step in array.strides])
    return write_torch(path, {}, body=body, members=[("net/data/0", array.tobytes())]).read_bytes()


def test_a_tensor_that_was_pickled_is_read_without_running_the_pickle(tmp_path, made):
    data = pickled(tmp_path / "one.pt", made[1]["parts.fc.weight"])

    def edit(members):
        changed = json.loads(members[WEIGHTS])
        changed["config"]["parts.fc.weight"]["use_pickle"] = True
        members[WEIGHTS] = json.dumps(changed).encode()
        members["net/data/weights/weight_0"] = data

    found = read_program(write_pt2(tmp_path / "net.pt2", *made, edit))
    np.testing.assert_array_equal(found.constants["p_w"], made[1]["parts.fc.weight"])


# Refused


def test_what_is_no_exported_program_is_refused(tmp_path, made):
    rejects(tmp_path, made, "no program of torch.export in this archive", lambda members: members.pop(MODEL))
    with pytest.raises(FormatError, match="damaged or truncated zip"):
        (tmp_path / "net.pt2").write_bytes(b"not a zip at all")
        read_program(tmp_path / "net.pt2")


def test_a_compiled_package_is_refused_with_what_to_save(tmp_path, made):
    def compiled(members):
        del members[MODEL]
        members["net/data/aotinductor/model/abc.so"] = b"\x7fELF"

    message = r"compiled by AOTInductor.*torch\.export\.save"
    rejects(tmp_path, made, message, compiled, error=UnsupportedError)
    with pytest.raises(UnsupportedError, match=message):
        cylstm.load(tmp_path / "net.pt2")


def test_several_programs_are_refused_by_their_names(tmp_path, made):
    rejects(
        tmp_path,
        made,
        r"2 programs \('model', 'other'\); one per file",
        lambda members: members.update({"net/models/other.json": members[MODEL]}),
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net/archive_version", b"1", "archive_version '1' is not supported"),
        ("net/archive_format", b"pt3", "archive_format 'pt3' is not supported"),
        ("net/byteorder", b"middle", "byteorder expected"),
        (MODEL, b"[]", "the program: expected an object, found a list"),
        (MODEL, b"{}", "'schema_version' is missing"),
        (MODEL, b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (MODEL, b"\xff", "not UTF-8"),
        (MODEL, b"[" * 200, "nested too deeply"),
        (WEIGHTS, b'{"config": []}', "'config' expected an object, found a list"),
        (WEIGHTS, b'{"config": {}}', r"'parts\.fc\.weight', which the program calls 'p_w', is missing"),
        (CONSTANTS, b'{"config": {}}', "'bias', which the program calls 'p_bias', is missing"),
        (WEIGHTS, b"{", "not valid JSON"),
    ],
)
def test_a_damaged_member_is_named(tmp_path, made, name, content, message):
    error = UnsupportedError if "is not supported" in message else FormatError
    rejects(tmp_path, made, message, lambda members: members.update({name: content}), error=error)


@pytest.mark.parametrize("name", [WEIGHTS, CONSTANTS, "net/data/weights/weight_0", "net/data/constants/tensor_0"])
def test_a_missing_member_is_named(tmp_path, made, name):
    rejects(tmp_path, made, rf"{name.rpartition('/')[2]}'? is missing", lambda members: members.pop(name))


TENSORS = [
    ({"sizes": [size(4), size(4)]}, r"reach element \d+ of a storage of 12"),
    ({"storage_offset": size(1)}, r"offset 1 reach element 12 of a storage of 12"),
    ({"strides": [size(3), size(2)]}, r"reach element 13"),
    ({"strides": [size(3)]}, "2 axes and 1 strides"),
    ({"sizes": [size(4), size(-3)]}, "expected a natural number"),
    ({"strides": [size(1 << 62), size(1)]}, "expected a natural number"),
    ({"strides": [size(1 << 61), size(1)]}, "reach element"),
    ({"storage_offset": size("s77")}, "a size that is no number"),
    ({"storage_offset": size((1 << 62) - 1)}, "reach element"),
    ({"sizes": [size(10**6), size(10**6)]}, "reach element"),
    ({"sizes": [size(10**6), size(10**6)], "strides": [size(0), size(0)]}, r"from storages of only 48"),
    ({"sizes": [size(1 << 40), size(1 << 40)]}, "is too large"),
    ({"dtype": 8}, r"reach element 11 of a storage of 6"),
    ({"dtype": 5}, r"reach element 11 of a storage of 6"),
    ({"dtype": 2}, "is int8 of shape .4, 3.; the program says float32"),
    ({"dtype": 99}, "the dtype 99 is not known"),
    ({"dtype": "7"}, "'dtype' expected an integer"),
    ({"sizes": [size(12)], "strides": [size(1)]}, r"of shape \(12,\); the program says float32 of shape \(4, 3\)"),
    ({"sizes": [size(1)] * 40, "strides": [size(1)] * 40}, "40 axes"),
]


@pytest.mark.parametrize("of", ["the config", "the config and the program"])
@pytest.mark.parametrize(("change", "message"), TENSORS, ids=[message[:30] for _, message in TENSORS])
def test_a_tensor_that_is_not_as_its_file_is_refused_by_name(tmp_path, made, change, message, of):
    type_ = meta((4, 3), strides=(3, 1)) | change
    name = r"parts\.fc\.weight"
    if of == "the config":
        message += "|the program says float32"
    else:
        if "the program says" in message:
            return  # both agree, and the file has enough bytes
        made[0]["graph_module"]["graph"]["tensor_values"]["p_w"] = type_
        name = f"({name}|the type of 'p_w')"
    rejects(
        tmp_path,
        made,
        f"{name}.*({message}|too large|not known|expected)",
        lambda members: stored(members, WEIGHTS, "parts.fc.weight", type_, "weight_0", None),
    )


def test_the_path_of_a_tensor_stays_in_its_folder(tmp_path, made):
    for file in ("../constants/tensor_0", "/etc/passwd", "a/b", ""):
        rejects(
            tmp_path,
            made,
            r"'parts\.fc\.weight': (its file .* is missing|'path_name' expected a name)",
            lambda members, file=file: stored(
                members, WEIGHTS, "parts.fc.weight", meta((4, 3), strides=(3, 1)), file, None
            ),
        )


def test_a_compressed_tensor_is_refused(tmp_path, made):
    import zipfile

    from tests.builders.pt2_files import members
    from tests.builders.weight_files import write_zip

    path = write_zip(tmp_path / "net.pt2", list(members(*made).items()), zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="weight_0 is compressed"):
        read_program(path)


@pytest.mark.parametrize("dtype", [9, 10, 29, 33])
def test_types_that_are_not_read_are_named(tmp_path, made, dtype):
    type_ = meta((1, 1), dtype)
    made[0]["graph_module"]["graph"]["tensor_values"]["p_w"] = type_
    rejects(
        tmp_path,
        made,
        r"'parts\.fc\.weight': (complex|float8)\w+ is not supported",
        lambda members: stored(members, WEIGHTS, "parts.fc.weight", type_, "weight_0", bytes(48)),
        error=UnsupportedError,
    )


def test_objects_are_refused_if_the_program_needs_them_and_ignored_otherwise(tmp_path, made):
    def add(members):
        changed = json.loads(members[CONSTANTS])
        changed["config"]["thing"] = payload("custom_obj_0", None, pickled=True)
        changed["config"]["other"] = payload("opaque_obj_0", None, pickled=True)
        members[CONSTANTS] = json.dumps(changed).encode()
        members["net/data/constants/custom_obj_0"] = b"cos\nsystem\n(S'true'\ntR."
        members["net/data/constants/opaque_obj_0"] = b"cos\nsystem\n(S'true'\ntR."

    content, arrays = made
    assert read_program(write_pt2(tmp_path / "net.pt2", content, arrays, add)).inputs == ("x",)
    module = content["graph_module"]
    thing = {"as_custom_obj": {"name": "obj_thing", "class_fqn": "__torch__.Thing"}}
    spec = {"custom_obj": {"arg": thing["as_custom_obj"], "custom_obj_name": "thing"}}
    module["graph"]["inputs"].append(thing)
    module["signature"]["input_specs"].append(spec)
    assert read_program(write_pt2(tmp_path / "net.pt2", content, arrays, add)).inputs == ("x",)
    module["graph"]["nodes"].append(higher("torch.ops.higher_order.call_torchbind", thing, outputs=[]))
    rejects(tmp_path, made, "call_torchbind, argument '0': 'obj_thing' is a custom object", add, error=UnsupportedError)


def test_a_constant_that_is_an_object_is_refused_by_name(tmp_path, made):
    def edit(members):
        stored(members, WEIGHTS, "parts.fc.weight", None, "custom_obj_0", b"cos\nsystem\n(S'true'\ntR.")

    message = r"'parts\.fc\.weight', which the program calls 'p_w', is the object 'custom_obj_0', which is not read"
    rejects(tmp_path, made, message, edit, error=UnsupportedError)


def test_a_pickle_that_calls_something_is_refused_by_what_it_calls(tmp_path, made):
    called = tmp_path / "called"
    body = call("os.system", text(f"touch {called}"))
    data = write_torch(tmp_path / "one.pt", {}, body=body).read_bytes()

    def edit(members):
        changed = json.loads(members[WEIGHTS])
        changed["config"]["parts.fc.weight"]["use_pickle"] = True
        members[WEIGHTS] = json.dumps(changed).encode()
        members["net/data/weights/weight_0"] = data

    rejects(tmp_path, made, r"is made by os\.system, which is not run", edit, error=UnsupportedError)
    assert not called.exists()


# The layout of PyTorch 2.6 and 2.7


def write_old(path, content, states):
    from tests.builders.weight_files import write_zip

    members = [("serialized_exported_program.json", json.dumps(content).encode()), ("version", b"8.2")]
    return write_zip(path, members + list(states.items()))


@pytest.fixture
def states(tmp_path, made):
    """The two members with tensors."""
    w, bias = made[1]["parts.fc.weight"], made[1]["bias"]
    weights = write_torch(tmp_path / "w.pt", {"parts.fc.weight": w}).read_bytes()
    constants = write_torch(tmp_path / "c.pt", {"bias": bias}).read_bytes()
    return {"serialized_state_dict.pt": weights, "serialized_constants.pt": constants}


def test_the_older_layout_is_read(tmp_path, made, states):
    found = read_program(write_old(tmp_path / "net.pt2", made[0], states))
    for name, path in found.constant_names.items():
        np.testing.assert_array_equal(found.constants[name], made[1][path])


def test_a_large_weight_of_the_older_layout_is_read_when_it_is_asked_for(tmp_path, rng, made, states):
    large = rng.standard_normal((700, 600)).astype(np.float32)
    made[0]["graph_module"]["graph"]["tensor_values"]["p_w"] = meta(large.shape, strides=(600, 1))
    weights = write_torch(tmp_path / "w.pt", {"other": large[:3], "parts.fc.weight": large}).read_bytes()
    states = {"serialized_constants.pt": states["serialized_constants.pt"], "serialized_state_dict.pt": weights}
    found = read_program(write_old(tmp_path / "net.pt2", made[0], states))
    assert not isinstance(found.constants.stored["p_w"], np.ndarray)
    np.testing.assert_array_equal(found.constants["p_w"], large)


@pytest.mark.parametrize(
    ("member", "body", "message"),
    [
        ("serialized_state_dict.pt", b"", r"'parts\.fc\.weight', .*, is missing"),
        ("serialized_state_dict.pt", None, r"serialized_state_dict\.pt is missing"),
        ("serialized_state_dict.pt", integer(3), "expected a dict, found int"),
        ("serialized_state_dict.pt", ordered_dict({"parts.fc.weight": integer(3)}), "is a int and no tensor"),
        (
            "serialized_constants.pt",
            dictionary({"bias": call("os.system", text("true"))}),
            "os.system, which is not run",
        ),
        ("serialized_constants.pt", call("os.system", text("true")), "expected a dict, found Placeholder"),
        ("serialized_constants.pt", b"\xff", "opcode"),
        ("serialized_constants.pt", ordered_dict({"bias": tensor("Float", "0", 9, 0, (9,), (1,))}), "shape .9,."),
    ],
)
def test_what_is_wrong_in_the_older_layout_is_named(tmp_path, made, states, member, body, message):
    states.pop(member)
    if body is not None:
        data = body and write_torch(tmp_path / "s.pt", {}, body=body, members=[("net/data/0", bytes(36))]).read_bytes()
        states[member] = data
    with pytest.raises(CylstmError, match=message):
        read_program(write_old(tmp_path / "net.pt2", made[0], states))


def test_a_pickle_beside_the_program_is_never_read(tmp_path, made, states):
    states["serialized_example_inputs.pt"] = program(call("os.system", text("true")))
    assert read_program(write_old(tmp_path / "net.pt2", made[0], states)).inputs == ("x",)


# Programs that lie


def graph_of(content):
    return content["graph_module"]["graph"]


def nodes_of(content):
    return graph_of(content)["nodes"]


def signature_of(content):
    return content["graph_module"]["signature"]


def swap(content):
    nodes = nodes_of(content)
    nodes[1], nodes[3] = nodes[3], nodes[1]


def cycle(content):
    """a needs y, which needs a."""
    nodes_of(content)[1]["inputs"][0]["arg"] = value("y")


def types_of(content):
    return graph_of(content)["tensor_values"]


LIES = [
    (swap, "aten.mul.Tensor, argument 'self': the value 'a' is used before it is made"),
    (cycle, r"aten.linear.default .net.py line 12., argument 'input': the value 'y' is used before"),
    (lambda c: nodes_of(c).pop(2), "the value 'a' is used before it is made"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg=value("q")), "the value 'q' is made by no operation"),
    (lambda c: nodes_of(c).append(nodes_of(c)[1]), "the value 'linear' is made twice"),
    (lambda c: nodes_of(c)[3].update(outputs=[value("x")]), "the value 'x' is made twice"),
    (lambda c: nodes_of(c)[3].update(outputs=[value("p_w")]), "the value 'p_w' is made twice"),
    (lambda c: graph_of(c)["inputs"].append(value("x")), "the value 'x' is made twice"),
    (lambda c: types_of(c).pop("linear"), "the value 'linear' has no type"),
    (lambda c: types_of(c).pop("x"), "the value 'x' has no type"),
    (lambda c: graph_of(c)["sym_int_values"].clear(), "the value 'n' has no type"),
    (lambda c: types_of(c)["linear"].update(dtype=0), "the type of 'linear': the dtype 0 is not known"),
    (lambda c: types_of(c)["linear"].update(layout=9), "the layout 9 is not known"),
    (lambda c: types_of(c)["linear"].update(sizes=[{"as_int": -1}]), "expected a natural number"),
    (lambda c: types_of(c)["linear"].update(sizes=[{"as_int": 1 << 62}]), "expected a natural number"),
    (lambda c: types_of(c)["linear"].update(sizes=[{"as_int": 1 << 40}] * 2), r"shape \(1099511627776, .* too large"),
    (lambda c: types_of(c)["linear"].update(sizes=[{"as_int": True}]), "expected a natural number"),
    (lambda c: types_of(c)["linear"].update(sizes=[{"as_float": 1.0}]), "a size is given as 'as_float'"),
    (lambda c: types_of(c)["linear"].update(sizes=[size("1" * 5000)]), "an expression of a size of 5000 characters"),
    (lambda c: types_of(c)["linear"].update(sizes=[size("s0 +")]), "the type of 'linear': 's0 .' is no expression"),
    (lambda c: types_of(c)["linear"].update(sizes=[size("2**90")]), "cannot be computed"),
    (lambda c: types_of(c)["linear"].update(sizes=[size(1)] * 40), "40 axes"),
    (lambda c: types_of(c)["linear"].update(sizes=3), "'sizes' expected a list, found 3"),
    (lambda c: nodes_of(c)[3]["inputs"].append(nodes_of(c)[3]["inputs"][0]), "the argument 'self' is given twice"),
    (lambda c: nodes_of(c)[3].update(target=""), "'target' expected a name"),
    (lambda c: nodes_of(c)[3].update(target="a" * 400), "'target' expected a name"),
    (lambda c: nodes_of(c)[3].update(target="a\nb.c.d"), "'target' expected a name"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={}), "expected an object with one entry"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_int": 1 << 63}), "an integer of at most 64 bits"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_int": True}), "expected an integer"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_bool": 1}), "expected true or false"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_float": "1e3"}), "expected a number, found '1e3'"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_scalar_type": 77}), "the dtype 77 is not known"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_memory_format": 7}), "the memory format 7 is not known"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_tensors": {}}), "expected a list, found an object"),
    (lambda c: nodes_of(c)[3]["inputs"][0].update(arg=body(value("w"))), "the value 'w' is made by no operation"),
    (lambda c: signature_of(c)["input_specs"].pop(), "the signature has 3 inputs, the graph 4"),
    (lambda c: signature_of(c)["output_specs"].pop(), "the signature has 2 outputs, the graph 3"),
    (lambda c: signature_of(c)["input_specs"].reverse(), "input_specs"),
    (
        lambda c: signature_of(c)["input_specs"][0]["parameter"]["arg"].update(name="x"),
        "calls this input 'p_w', .* 'x'",
    ),
    (lambda c: signature_of(c)["output_specs"].reverse(), "have different outputs"),
    (lambda c: graph_of(c)["outputs"].__setitem__(0, value("q")), "an output: the value 'q' is made by no operation"),
    (lambda c: c["range_constraints"].update(s77=3), "range_constraints of 's77': expected an object"),
    (lambda c: c["range_constraints"].update(s77={"min_val": 0}), "'max_val' is missing"),
    (lambda c: c.pop("graph_module"), "'graph_module' is missing"),
    (lambda c: c["graph_module"]["module_call_graph"][0]["signature"].update(out_spec="{"), "not valid JSON"),
    (lambda c: c["graph_module"]["module_call_graph"][0]["signature"].update(out_spec="[1, 3]"), "expected an object"),
]


@pytest.mark.parametrize(("change", "message"), LIES, ids=[message[:50] for _, message in LIES])
def test_a_program_that_does_not_hold_together_is_refused(tmp_path, made, change, message):
    rejects(tmp_path, made, message, change=change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["schema_version"].update(major=9), "schema version 9; 8 is read: save it again with PyTorch"),
        (lambda c: c["schema_version"].update(major=7), "schema version 7; 8 is read"),
        (lambda c: nodes_of(c)[3]["inputs"][0].update(arg={"as_new": 1}), "an argument of the kind 'as_new'"),
        (lambda c: nodes_of(c)[3].update(outputs=[{"as_new": 1}]), "a result of the kind 'as_new'"),
        (lambda c: signature_of(c)["input_specs"].__setitem__(0, {"new": {}}), "an input of the kind 'new'"),
        (
            lambda c: signature_of(c)["output_specs"].__setitem__(0, {"gradient_to_parameter": {}}),
            "an output of the kind 'gradient_to_parameter'",
        ),
        (lambda c: types_of(c)["x"].update(layout=1), "the layout sparse_coo is not supported"),
        (lambda c: types_of(c)["x"].update(sizes=[size("Piecewise(s0)")]), "the function Piecewise in the size"),
    ],
)
def test_what_is_beyond_the_reader_is_named(tmp_path, made, change, message):
    rejects(tmp_path, made, message, change=change, error=UnsupportedError)


def test_too_many_operations_are_refused(tmp_path, made, monkeypatch):
    from cylstm.formats.torch import exported

    monkeypatch.setattr(exported, "_MAX_OPERATIONS", 3)
    rejects(tmp_path, made, "4 operations; at most 3 are read")


@needs_proc
def test_a_million_operations_are_refused_in_little_memory(tmp_path, made, refused):
    content, arrays = made
    start, end = json.dumps(content).encode().split(b'"nodes": [', 1)
    one = b'{"target":"a.b.c","inputs":[],"outputs":[],"metadata":{}},'
    path = write_pt2(tmp_path / "net.pt2", start + b'"nodes": [' + one * 1_000_000 + end, arrays)
    refused(path, r"model\.json: too many elements", layers=None)


@needs_proc
@pytest.mark.parametrize("strides", [(10**6, 1), (0, 0)])
def test_a_constant_of_a_million_millions_is_refused_in_little_memory(tmp_path, made, refused, strides):
    content, arrays = made
    type_ = meta((10**6, 10**6), strides=strides)
    content["graph_module"]["graph"]["tensor_values"]["p_w"] = type_

    def edit(members):
        stored(members, WEIGHTS, "parts.fc.weight", type_, "weight_0", None)

    refused(write_pt2(tmp_path / "net.pt2", content, arrays, edit), r"parts\.fc\.weight", layers=None)


def test_a_program_is_recognised_by_its_content_and_takes_a_time(tmp_path, made):
    path = write_pt2(tmp_path / "net.bin", *made)
    with pytest.raises(
        FormatError, match=r"this is a program of torch.export, of which load takes time=; leave out key"
    ):
        cylstm.load(path, key="a")
