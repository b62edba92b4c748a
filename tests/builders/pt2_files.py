"""Files of ``torch.export.save``: those that PyTorch wrote, from tests/data/pt2, and others made by hand."""

import gzip
import json

import numpy as np

from tests import DATA
from tests.builders.weight_files import write_zip

FOLDER = DATA / "pt2"


def _versions(start):
    """Those of PyTorch that wrote the files of this start, in the order of their numbers."""
    found = [path.name.removeprefix(start).removesuffix(".pt2.gz") for path in FOLDER.glob(f"{start}*.pt2.gz")]
    return sorted(
        (version for version in found if version[0].isdigit()),
        key=lambda version: [int(part) for part in version.split(".")],
    )


#: of `Net` and of `Small` in `tests.builders.generate_pt2`
VERSIONS, SMALL_VERSIONS = _versions(""), _versions("small-")
CODES = {"float32": 7, "float64": 8, "float16": 6, "bfloat16": 13, "int64": 5, "bool": 12}


def write_fixture(path, version, start=""):
    """A network of `tests.builders.generate_pt2` as this version of PyTorch saved it; ``"small-"`` is the other one."""
    path.write_bytes(gzip.decompress((FOLDER / f"{start}{version}.pt2.gz").read_bytes()))
    return path


def size(value):
    """``{"as_int": 3}`` of a number, an expression of a text."""
    return {"as_int": value} if isinstance(value, int) else {"as_expr": {"expr_str": value, "hint": None}}


def meta(shape, dtype="float32", strides=None, offset=0):
    """The type of a tensor."""
    strides = strides or [1] * len(shape)
    return {
        "dtype": CODES.get(dtype, dtype),
        "sizes": [size(one) for one in shape],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [size(one) for one in strides],
        "storage_offset": size(offset),
        "layout": 7,
    }


def value(name):
    return {"as_tensor": {"name": name}}


def node(target, outputs, metadata=None, **arguments):
    """An operation; outputs and arguments are unions."""
    return {
        "target": target,
        "inputs": [{"name": name, "arg": argument, "kind": 1} for name, argument in arguments.items()],
        "outputs": outputs,
        "metadata": metadata or {},
        "is_hop_single_tensor_return": None,
        "name": target.split(".")[-2],
    }


def tree(content):
    """The text of a tree of arguments: tuples, dicts, and None for leaves."""

    def spec(one):
        if one is None:
            return {"type": None, "context": None, "children_spec": []}
        if isinstance(one, dict):
            inner = [spec(inner) for inner in one.values()]
            return {"type": "builtins.dict", "context": json.dumps(list(one)), "children_spec": inner}
        return {"type": "builtins.tuple", "context": "null", "children_spec": [spec(inner) for inner in one]}

    return json.dumps([1, spec(content)])


def graph(inputs, nodes, outputs, types, **symbolic):
    return {
        "inputs": inputs,
        "outputs": outputs,
        "nodes": nodes,
        "tensor_values": types,
        "sym_int_values": {},
        "sym_bool_values": {},
        "sym_float_values": {},
        "custom_obj_values": {},
        "is_single_tensor_return": False,
    } | symbolic


def body(*outputs):
    """A graph as an argument: ``z = sin(x)``."""
    inner = node("torch.ops.aten.sin.default", [value("z")], self=value("x"))
    types = {"x": meta(("s77", 5, 3)), "z": meta(("s77", 5, 3))}
    return {
        "as_graph": {
            "name": "true_graph_0",
            "graph": graph([value("x")], [inner], list(outputs) or [value("z")], types),
        }
    }


def higher(target, *arguments, outputs):
    """An operation whose arguments have no names."""
    found = node(target, outputs)
    found["inputs"] = [{"name": "", "arg": argument, "kind": 1} for argument in arguments]
    return found


def document(rng):
    """A program of a few operations and its two constants: ``(document, {path: array})``.

    ``a, b = (x @ w.T + bias).chunk(2, -1)``, ``y = a * b``; it returns ``{"y": y, "rest": (None, a)}``.
    """
    w, bias = rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    batch = "Symbol('s77', positive=True, integer=True)"
    types = {
        "p_w": meta((4, 3), strides=(3, 1)),
        "p_bias": meta((4,)),
        "x": meta((batch, 5, 3)),
        "linear": meta((batch, 5, 4)),
        "a": meta((batch, 5, 2)),
        "b": meta((batch, 5, 2)),
        "y": meta((batch, 5, 2)),
    }
    trace = 'File "/home/user/net.py", line 12, in forward\n  File "/x/site-packages/torch/nn/rnn.py", line 9, in f\n'
    stack = "L__self__,,net.Net;L__self___fc,parts.fc,torch.nn.modules.linear.Linear"
    nodes = [
        node("torch.ops.aten.sym_size.int", [{"as_sym_int": {"as_name": "n"}}], self=value("x"), dim={"as_int": 0}),
        node(
            "torch.ops.aten.linear.default",
            [value("linear")],
            {"stack_trace": trace, "nn_module_stack": stack},
            input=value("x"),
            weight=value("p_w"),
            bias=value("p_bias"),
        ),
        node(
            "torch.ops.aten.chunk.default",
            [{"as_tensors": [{"name": "a"}, {"name": "b"}]}],
            self=value("linear"),
            chunks={"as_int": 2},
            dim={"as_int": -1},
        ),
        node("torch.ops.aten.mul.Tensor", [value("y")], self=value("a"), other=value("b")),
    ]
    outputs = [value("y"), {"as_none": True}, value("a")]
    inside = graph(
        [value("p_w"), value("p_bias"), value("x"), {"as_none": True}],
        nodes,
        outputs,
        types,
        sym_int_values={"n": size(batch)},
    )
    specs = [
        {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "parts.fc.weight"}},
        {"buffer": {"arg": {"name": "p_bias"}, "buffer_name": "bias", "persistent": False}},
        {"user_input": {"arg": value("x")}},
        {"constant_input": {"name": "mask", "value": {"as_none": True}}},
    ]
    call = {
        "inputs": [],
        "outputs": [],
        "in_spec": tree(((None,), {"mask": None})),
        "out_spec": tree({"y": None, "rest": (None, None)}),
        "forward_arg_names": ["x", "mask"],
    }
    content = {
        "graph_module": {
            "graph": inside,
            "signature": {"input_specs": specs, "output_specs": [{"user_output": {"arg": one}} for one in outputs]},
            "module_call_graph": [{"fqn": "", "signature": call}, {"fqn": "parts.fc", "signature": None}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 0, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0+cpu",
        "guards_code": [],
    }
    return content, {"parts.fc.weight": w, "bias": bias}


def rich_document(rng):
    """As `document`, with arguments of many kinds, a condition, a part without gradients and a written buffer."""
    content, arrays = document(rng)
    inside = content["graph_module"]["graph"]
    shape = ("s77", 5, 3)
    inside["tensor_values"] |= {name: meta(shape) for name in ("c", "g", "w_")} | {"m": meta(("2*s77 + 1",), "bool")}
    inside["sym_bool_values"]["ge"] = {"as_expr": {"expr_str": "GreaterThan(Symbol('u0'), Integer(0))", "hint": None}}
    inside["sym_float_values"]["f"] = {"as_float": 0.5}
    inside["nodes"] += [
        higher(
            "torch.ops.higher_order.cond", value("x"), body(), {"as_tensors": [{"name": "x"}]}, outputs=[value("c")]
        ),
        higher(
            "torch.ops.higher_order.wrap_with_set_grad_enabled",
            {"as_bool": False},
            body(),
            value("x"),
            outputs=[value("g")],
        ),
        node("torch.ops.aten.add_.Tensor", [value("w_")], self=value("p_bias"), other={"as_float": "-Infinity"}),
        node("_operator.ge", [{"as_sym_bool": {"as_name": "ge"}}], a={"as_sym_int": {"as_name": "n"}}, b={"as_int": 1}),
        node("math.sqrt", [{"as_sym_float": {"as_name": "f"}}], a={"as_sym_int": {"as_int": 2}}),
        node(
            "torch.ops.aten.something.default",
            [value("m"), {"as_none": True}],
            a={"as_ints": [1, -2]},
            b={"as_sym_ints": [{"as_int": 2}, {"as_name": "n"}]},
            c={"as_optional_tensors": [{"as_none": True}, value("g")]},
            d={"as_device": {"type": "cpu", "index": 0}},
            e={"as_scalar_type": 13},
            f={"as_layout": 7},
            g={"as_string_to_argument": {"k": {"as_complex": {"real": 1.5, "imag": 2}}}},
            h={"as_nested_tensors": [[{"name": "x"}]]},
            i={"as_string": "mean"},
            j={"as_memory_format": 1},
        ),
    ]
    return content, arrays


def payload(file, type_, *, pickled=False):
    return {"path_name": file, "is_param": True, "use_pickle": pickled, "tensor_meta": type_}


def members(content, arrays):
    """Name -> bytes of the archive that ``torch.export.save`` of PyTorch 2.13 writes; `content` may be bytes."""
    w, bias = arrays["parts.fc.weight"], arrays["bias"]
    weights = {"config": {"parts.fc.weight": payload("weight_0", meta(w.shape, strides=(3, 1)))}}
    constants = {"config": {"bias": payload("tensor_0", meta(bias.shape))}}
    return {
        "net/data/weights/weight_0": w.tobytes(),
        "net/data/weights/model_weights_config.json": json.dumps(weights).encode(),
        "net/data/constants/tensor_0": bias.tobytes(),
        "net/data/constants/model_constants_config.json": json.dumps(constants).encode(),
        "net/models/model.json": content if isinstance(content, bytes) else json.dumps(content).encode(),
        "net/data/sample_inputs/model.pt": b"",
        "net/archive_format": b"pt2",
        "net/archive_version": b"0",
        "net/byteorder": b"little",
    }


def write_pt2(path, content, arrays, edit=lambda members: None):
    """A file made by hand; `edit` may change the members before they are written."""
    found = members(content, arrays)
    edit(found)
    write_zip(path, list(found.items()))
    return path
