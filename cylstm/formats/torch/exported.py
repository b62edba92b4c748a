"""The program of ``torch.export`` in the JSON that PyTorch writes, checked and turned into plain data.

The schema is that of ``torch/_export/serde/schema.py``. A dataclass is an object with its fields; a union is an object
with the one field that is set, ``{"as_int": 3}``. Of a list of tensors that an operation returns, the elements have
names here; the ``getitem`` that takes them out in the traced graph is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.untrusted.json import parse_json
from cylstm.program.program import Body, NumberType, Operation, Reference, Size, TensorType

_MAJOR_VERSION = 8
_MAX_OPERATIONS = 100_000
_MAX_RANK = 32
_MAX_NAME = 300
_MAX_ELEMENTS = 1 << 59
_MAX_SIZE = 1 << 62

DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
_LAYOUTS = {
    1: "sparse_coo",
    2: "sparse_csr",
    3: "sparse_csc",
    4: "sparse_bsr",
    5: "sparse_bsc",
    6: "_mkldnn",
    7: "strided",
}
_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
#: what a program does to more than its own values, and nothing to numbers: its body stands in its place
_GRADIENT_MODE = "higher_order.wrap_with_set_grad_enabled"
_RESAVE = "save it again with PyTorch 2.6 to 2.13"


class ConstantSpec(NamedTuple):
    """A value that is a tensor of the network: its path there, and whether its state dict has it."""

    path: str
    persistent: bool


class Exported(NamedTuple):
    """A program without the numbers of its constants; the rest is as in `Program`."""

    inputs: tuple[str, ...]
    input_names: Mapping[str, str]
    fixed: Mapping[str, Any]
    operations: tuple[Operation, ...]
    outputs: Any
    constants: Mapping[str, ConstantSpec]
    types: Mapping[str, TensorType | NumberType]
    ranges: Mapping[str, tuple[int, int | None]]
    mutated: Mapping[str, str]
    source: str


def read_exported(document: object, what: str) -> Exported:
    """Check and convert the JSON of an exported program.

    Parameters
    ----------
    document : object
        As `parse_json` returns it.
    what : str
        The file, for messages.

    Raises
    ------
    FormatError
        If it is damaged, refers to values that do not exist or gives one twice.
    UnsupportedError
        If its version is another, or it needs something that is more than data.
    """
    return _Reader(what).read(document)


# Reading of JSON with messages


class JsonFields:
    """Access to fields; `what` is the file."""

    def __init__(self, what: str) -> None:
        self.what = what

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.what}: {message}")

    def field(self, owner: object, name: str, kind: type | tuple[type, ...], where: str) -> Any:
        """A field of an object, of a type."""
        if not isinstance(owner, dict):
            self.fail(f"{where}: expected an object, found {_shown(owner)}")
        if name not in owner:
            self.fail(f"{where}: {name!r} is missing")
        found = owner[name]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(found) not in kinds:
            self.fail(f"{where}: {name!r} expected {_KINDS[kinds[0]]}, found {_shown(found)}")
        return found

    def name(self, owner: object, name: str, where: str) -> str:
        found: str = self.field(owner, name, str, where)
        if not 0 < len(found) <= _MAX_NAME or not found.isprintable():
            self.fail(f"{where}: {name!r} expected a name, found {_shown(found)}")
        return found

    def union(self, value: object, where: str) -> tuple[str, Any]:
        """The field of a union that is set, and its value."""
        if not isinstance(value, dict) or len(value) != 1:
            self.fail(f"{where}: expected an object with one entry, found {_shown(value)}")
        ((kind, found),) = value.items()
        return kind, found

    def items(self, value: object, where: str) -> list[Any]:
        if not isinstance(value, list):
            self.fail(f"{where}: expected a list, found {_shown(value)}")
        return value

    def number(self, value: object, where: str) -> int:
        if type(value) is not int or abs(value) >= 1 << 63:
            self.fail(f"{where}: expected an integer of at most 64 bits, found {_shown(value)}")
        return value

    def count(self, value: object, where: str) -> int:
        if type(value) is not int or not 0 <= value < _MAX_SIZE:
            self.fail(f"{where}: expected a natural number of at most 62 bits, found {_shown(value)}")
        return value

    def real(self, value: object, where: str) -> float:
        """A float; JSON has no infinity, so that PyTorch writes it as a text."""
        if isinstance(value, str) and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if type(value) not in (int, float):
            self.fail(f"{where}: expected a number, found {_shown(value)}")
        return float(value)  # type: ignore[arg-type]

    def text(self, value: object, where: str) -> str:
        if not isinstance(value, str):
            self.fail(f"{where}: expected a text, found {_shown(value)}")
        return value

    def flag(self, value: object, where: str) -> bool:
        if not isinstance(value, bool):
            self.fail(f"{where}: expected true or false, found {_shown(value)}")
        return value

    def known(self, value: object, table: Mapping[int, str], kind: str, where: str) -> str:
        if type(value) is not int or value not in table:
            self.fail(f"{where}: {kind} {_shown(value)} is not known")
        return table[value]


_KINDS = {dict: "an object", list: "a list", str: "a text", int: "an integer", bool: "true or false"}


def _shown(value: object) -> str:
    """A JSON value for messages, short."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)[:80]


# The program


class _Reader(JsonFields):
    def read(self, document: object) -> Exported:
        version = self.field(document, "schema_version", dict, "the program")
        major = self.field(version, "major", int, "schema_version")
        if major != _MAJOR_VERSION:
            raise UnsupportedError(
                f"{self.what}: an exported program of schema version {major}; {_MAJOR_VERSION} is read: {_RESAVE}"
            )
        written = self.field(document, "torch_version", str, "the program")[:40].partition("+")[0]
        module = self.field(document, "graph_module", dict, "the program")
        graph = _Graph(self.what, self.field(module, "graph", dict, "graph_module"), "")
        signature = self.field(module, "signature", dict, "graph_module")
        calls = self.field(module, "module_call_graph", list, "graph_module")
        inputs = _Inputs(self, graph, self.field(signature, "input_specs", list, "signature"))
        graph.refused |= inputs.refused
        graph.read_operations()
        flat, mutated = self.outputs(graph, inputs, self.field(signature, "output_specs", list, "signature"))
        call = next((call for call in calls if isinstance(call, dict) and call.get("fqn") == ""), {}).get("signature")
        return Exported(
            tuple(inputs.user),
            self.argument_names(call, inputs),
            inputs.fixed,
            tuple(graph.operations),
            self.structure(call, flat),
            inputs.constants,
            graph.types,
            self.ranges(self.field(document, "range_constraints", dict, "the program")),
            mutated,
            f"PyTorch {written if written.isprintable() else '?'} export",
        )

    def outputs(self, graph: _Graph, inputs: _Inputs, specs: list[Any]) -> tuple[list[Any], dict[str, str]]:
        """What the user gets, flat, and what is written: its path or name -> the value."""
        values = graph.outputs
        if len(specs) != len(values):
            self.fail(f"the signature has {len(specs)} outputs, the graph {len(values)}")
        flat: list[Any] = []
        mutated = _written_in_place(graph.operations, inputs)
        for value, spec in zip(values, specs):
            kind, fields = self.union(spec, "output_specs")
            if kind in ("user_output", "loss_output"):
                argument = self.field(fields, "arg", dict, kind)
                same = graph.argument(argument if kind == "user_output" else {"as_tensor": argument}, kind)
                if same != value and same == same:
                    self.fail(f"{kind}: the graph and the signature have different outputs")
                flat.append(value)
            elif kind in ("buffer_mutation", "parameter_mutation", "user_input_mutation") and isinstance(
                value, Reference
            ):
                key = {"buffer_mutation": "buffer_name", "parameter_mutation": "parameter_name"}
                mutated[self.name(fields, key.get(kind, "user_input_name"), kind)] = value.name
            else:
                raise UnsupportedError(f"{self.what}: an output of the kind {kind[:40]!r} is not supported")
        return flat, mutated

    def ranges(self, constraints: dict[str, Any]) -> dict[str, tuple[int, int | None]]:
        found = {}
        for symbol, limits in constraints.items():
            where = f"range_constraints of {symbol[:40]!r}"
            low, high = (
                None if one is None else self.number(one, where)
                for one in (self.field(limits, key, (int, type(None)), where) for key in ("min_val", "max_val"))
            )
            if symbol.isidentifier():
                found[symbol] = (max(low or 0, 0), None if high is None or high >= _MAX_SIZE - 1 else high)
        return found

    # How the user calls the network

    def argument_names(self, call: object, inputs: _Inputs) -> dict[str, str]:
        """Input -> its name among the arguments, as far as it is known."""
        if not isinstance(call, dict):
            return {}
        tree, names = self.tree(call.get("in_spec")), call.get("forward_arg_names")
        if not isinstance(tree, tuple) or len(tree) != 2 or not isinstance(tree[0], tuple):
            return {}
        positional, keywords = tree
        known = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
        if len(known) < len(positional) or not isinstance(keywords, dict):
            return {}
        leaves = [leaf for name, one in zip(known, positional) for leaf in _leaves(one, name)]
        leaves += [leaf for name, one in keywords.items() for leaf in _leaves(one, str(name))]
        if len(leaves) != len(inputs.leaves):
            return {}
        user = set(inputs.user)
        return {
            value: name[:_MAX_NAME]
            for value, name in zip(inputs.leaves, leaves)
            if value in user and name.isprintable()
        }

    def structure(self, call: object, flat: list[Any]) -> Any:
        """The outputs as the function returned them."""
        tree = self.tree(call.get("out_spec")) if isinstance(call, dict) else None
        if tree is not None and sum(1 for _ in _leaves(tree, "")) == len(flat):
            return _filled(tree, iter(flat))
        return tuple(flat)

    def tree(self, text: object) -> Any:
        """Nested tuples and dicts whose leaves are `_LEAF`; None if it has containers that are not known."""
        if not isinstance(text, str):
            return None
        version, *tree = self.items(parse_json(text, f"{self.what}: a tree of arguments"), "a tree of arguments")
        try:
            return self._tree(tree[0]) if version == 1 and len(tree) == 1 else None
        except KeyError:
            return None

    def _tree(self, node: object) -> Any:
        """Raises KeyError for a container that is not known."""
        where = "a tree of arguments"
        kind = self.field(node, "type", (str, type(None)), where)
        children = self.field(node, "children_spec", list, where)
        if kind is None:
            return _LEAF
        inner = [self._tree(child) for child in children]
        if kind in ("builtins.tuple", "builtins.list", "collections.namedtuple", "collections.deque"):
            return tuple(inner)
        if kind not in ("builtins.dict", "collections.OrderedDict"):
            raise KeyError(kind)
        context = self.field(node, "context", (str, list), where)
        keys = self.items(parse_json(context, f"{self.what}: {where}") if isinstance(context, str) else context, where)
        if len(keys) != len(inner) or not all(isinstance(key, (str, int)) for key in keys):
            raise KeyError(kind)
        return dict(zip(keys, inner))


class _Leaf:
    """Where a value stands in a tree of arguments."""


_LEAF = _Leaf()


def _leaves(tree: Any, path: str) -> Iterator[str]:
    """How each leaf is called, in order."""
    if isinstance(tree, _Leaf):
        yield path
    else:
        for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(inner, f"{path}[{key!r}]")


def _filled(tree: Any, values: Iterator[Any]) -> Any:
    if isinstance(tree, _Leaf):
        return next(values)
    if isinstance(tree, dict):
        return {key: _filled(inner, values) for key, inner in tree.items()}
    return tuple([_filled(inner, values) for inner in tree])


def _written_in_place(operations: Sequence[Operation], inputs: _Inputs) -> dict[str, str]:
    """Constants, by path, and inputs that an operation writes because its name ends in ``_``."""
    found = {}
    user = set(inputs.user)
    for operation in operations:
        name = operation.target.split(".")[1] if operation.target.count(".") == 2 else ""
        if not name.endswith("_") or name.endswith("__"):
            continue
        first = next(iter(operation.arguments.values()), None)
        if isinstance(first, Reference) and operation.outputs and isinstance(operation.outputs[0], str):
            if first.name in inputs.constants:
                found[inputs.constants[first.name].path] = operation.outputs[0]
            elif first.name in user:
                found[first.name] = operation.outputs[0]
    return found


class _Inputs:
    """What the graph's inputs are: the user's, constants of the network, and arguments that are fixed.

    Attributes
    ----------
    user : list of str
    fixed : dict
    constants : dict of str to ConstantSpec
    leaves : list of str
        Of the user's arguments, fixed ones too, in order.
    refused : dict
        Values that cannot be read -> why; the program may be fine without them.
    """

    def __init__(self, json: JsonFields, graph: _Graph, specs: list[Any]) -> None:
        self.user: list[str] = []
        self.fixed: dict[str, Any] = {}
        self.constants: dict[str, ConstantSpec] = {}
        self.leaves: list[str] = []
        self.refused: dict[str, str] = {}
        if len(specs) != len(graph.inputs):
            json.fail(f"the signature has {len(specs)} inputs, the graph {len(graph.inputs)}")
        paths = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        for (kind_of_value, value), spec in zip(graph.inputs, specs):
            kind, fields = json.union(spec, "input_specs")
            where = f"input_specs: {kind[:40]}"
            name = value
            if kind in paths:
                name = json.name(json.field(fields, "arg", dict, where), "name", where)
                path = json.name(fields, paths[kind], where)
                persistent = kind != "buffer" or json.field(fields, "persistent", bool, where)
                self.constants[name] = ConstantSpec(path, kind != "tensor_constant" and persistent)
                if kind_of_value != "as_tensor":
                    json.fail(f"{where}: {name!r} is no tensor")
            elif kind == "user_input":
                argument = json.field(fields, "arg", dict, where)
                if kind_of_value in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
                    name = graph.name_of(argument, where)
                    self.user.append(name)
                    self.leaves.append(name)
                elif kind_of_value == "as_custom_obj":
                    raise UnsupportedError(f"{json.what}: the input {value!r} is a custom object, which is not read")
                else:
                    self.leaves.append(f"argument {len(self.leaves)}")
                    self.fixed[self.leaves[-1]] = value
                    continue
            elif kind == "constant_input":
                name = json.name(fields, "name", where)
                self.leaves.append(name)
                self.fixed[name] = graph.constant(json.field(fields, "value", dict, where), where)
                if kind_of_value == "as_tensor":
                    json.fail(f"{where}: {name!r} is a tensor")
                continue
            elif kind in ("custom_obj", "token"):
                self.refused[str(value)] = "a custom object" if kind == "custom_obj" else "a token of side effects"
            else:
                raise UnsupportedError(f"{json.what}: an input of the kind {kind[:40]!r} is not supported")
            if name != value:
                json.fail(f"{where}: the graph calls this input {_shown(value)}, the signature {name!r}")


class _Graph(JsonFields):
    """A graph: that of the program, or one that is an argument of an operation.

    Attributes
    ----------
    inputs : list of tuple
        The kind of each, ``"as_tensor"``, and its name, or its value if it is no tensor.
    operations : list of Operation
    types : dict
        Of every value.
    refused : dict
        Values that must not be used -> why.
    """

    def __init__(self, what: str, graph: dict[str, Any], prefix: str) -> None:
        super().__init__(what)
        self.prefix = prefix
        self.graph = graph
        self.nodes = self.field(graph, "nodes", list, "graph")
        if len(self.nodes) > _MAX_OPERATIONS:
            self.fail(f"{len(self.nodes)} operations; at most {_MAX_OPERATIONS} are read")
        self.described = {
            kind: self.field(graph, field, dict, "graph")
            for kind, field in (
                ("as_tensor", "tensor_values"),
                ("as_sym_int", "sym_int_values"),
                ("as_sym_bool", "sym_bool_values"),
            )
        }
        floats = "sym_float_values"  # not in files of older versions
        self.described["as_sym_float"] = self.field(graph, floats, dict, "graph") if graph.get(floats) else {}
        self.types: dict[str, TensorType | NumberType] = {}
        self.operations: list[Operation] = []
        self.refused: dict[str, str] = {}
        #: value of an operation whose body stands in its place -> what it is
        self.replaced: dict[str, Any] = {}
        self.sizes: dict[str, int | Size] = {}
        self.inputs = [self.input(value) for value in self.field(graph, "inputs", list, "graph")]

    @property
    def outputs(self) -> list[Any]:
        """`Reference` and constants; to be read after the operations."""
        found = [self.argument(value, "an output") for value in self.field(self.graph, "outputs", list, "graph")]
        if any(isinstance(value, Body) for value in found):
            self.fail("an output is a graph")
        return found

    def input(self, value: object) -> tuple[str, Any]:
        kind, content = self.union(value, "an input of the graph")
        if kind in self.described:
            name = self.name_of({kind: content}, "an input of the graph")
            self.define(kind, name, "an input of the graph")
            return kind, name
        if kind in ("as_custom_obj", "as_token"):
            name = self.name(content, "name", "an input of the graph")
            self.refused[name] = "a custom object"
            return kind, name
        return kind, self.constant({kind: content}, "an input of the graph")

    def define(self, kind: str, name: str, where: str) -> str:
        """Note the type of a value that is new."""
        if name in self.types:
            self.fail(f"{where}: the value {name!r} is made twice")
        if name not in self.described[kind]:
            self.fail(f"{where}: the value {name!r} has no type")
        self.types[name] = self.type(kind, name, self.described[kind][name])
        return name

    # Types

    def type(self, kind: str, name: str, content: object) -> TensorType | NumberType:
        where = f"the type of {name!r}"
        if kind == "as_tensor":
            return self.tensor_type(content, where)
        form, value = self.union(content, where)
        if kind == "as_sym_int":
            return NumberType("int", self.size(content, where, signed=True))
        if form == "as_expr":
            return NumberType("bool" if kind == "as_sym_bool" else "float", None)
        if kind == "as_sym_bool":
            return NumberType("bool", self.flag(value, where))
        return NumberType("float", self.real(value, where))

    def tensor_type(self, content: object, where: str) -> TensorType:
        dtype = self.known(self.field(content, "dtype", int, where), DTYPES, "the dtype", where)
        layout = self.known(self.field(content, "layout", int, where), _LAYOUTS, "the layout", where)
        if layout != "strided":
            raise UnsupportedError(f"{self.what}: {where}: a tensor in the layout {layout} is not supported")
        sizes = self.field(content, "sizes", list, where)
        if len(sizes) > _MAX_RANK:
            self.fail(f"{where}: {len(sizes)} axes; at most {_MAX_RANK} are read")
        shape = tuple([self.size(size, where) for size in sizes])
        if math.prod(max(size, 1) for size in shape if isinstance(size, int)) >= _MAX_ELEMENTS:
            self.fail(f"{where}: the shape ({', '.join(map(str, shape))}) is too large")
        return TensorType(dtype, shape)

    def size(self, content: object, where: str, *, signed: bool = False) -> int | Size:
        kind, value = self.union(content, where)
        if kind == "as_int":
            return self.number(value, where) if signed else self.count(value, where)
        if kind != "as_expr":
            self.fail(f"{where}: a size is given as {kind[:40]!r}")
        text = self.field(value, "expr_str", str, where)
        if text not in self.sizes:
            try:
                size = Size(text)
                self.sizes[text] = size if size.symbols else size.evaluate({})
            except CylstmError as error:
                raise type(error)(f"{self.what}: {where}: {error}") from error
        return self.sizes[text]

    # Arguments

    def name_of(self, argument: object, where: str) -> str:
        """The name of a value in an argument that is a tensor or a symbolic number."""
        kind, content = self.union(argument, where)
        if kind == "as_tensor":
            return self.name(content, "name", where)
        if kind not in self.described:
            self.fail(f"{where}: expected a value, found {kind[:40]!r}")
        return self.name(content, "as_name", where)

    def reference(self, name: str, where: str) -> Any:
        if name in self.refused:
            raise UnsupportedError(f"{self.what}: {where}: {name!r} is {self.refused[name]}, which is not read")
        if name in self.replaced:
            return self.replaced[name]
        if name not in self.types:
            known = any(name in values for values in self.described.values())
            how = "is used before it is made" if known else "is made by no operation"
            self.fail(f"{where}: the value {name!r} {how}")
        return Reference(name)

    def constant(self, argument: object, where: str) -> Any:
        """An argument that is no value."""
        found = self.argument(argument, where)
        if found is not None and not isinstance(found, (bool, int, float, complex, str)):
            self.fail(f"{where}: expected a constant")
        return found

    def argument(self, argument: object, where: str) -> Any:
        kind, value = self.union(argument, where)
        if kind not in _ARGUMENTS:
            raise UnsupportedError(f"{self.what}: {where}: an argument of the kind {kind[:40]!r} is not supported")
        return _ARGUMENTS[kind](self, value, where)

    def symbolic(self, value: object, where: str) -> Any:
        """A number that is a value, or given."""
        kind, content = self.union(value, where)
        if kind == "as_name":
            return self.reference(self.name(value, "as_name", where), where)
        return self.constant({kind: content}, where)

    def tensor(self, value: object, where: str) -> Any:
        return self.reference(self.name(value, "name", where), where)

    def optional_tensor(self, value: object, where: str) -> Any:
        kind, content = self.union(value, where)
        return self.tensor(content, where) if kind == "as_tensor" else None

    def device(self, value: object, where: str) -> str:
        index = self.field(value, "index", (int, type(None)), where) if "index" in _dict(value) else None
        return self.name(value, "type", where) + ("" if index is None else f":{index}")

    def complex(self, value: object, where: str) -> complex:
        return complex(
            *(self.real(self.field(value, key, (float, int, str), where), where) for key in ("real", "imag"))
        )

    def body(self, value: object, where: str) -> Body:
        graph = _Graph(self.what, self.field(value, "graph", dict, where), "")
        names = []
        for kind, name in graph.inputs:
            if kind not in graph.described:
                raise UnsupportedError(f"{self.what}: {where}: a graph with an input of the kind {kind[:40]!r}")
            names.append(name)
        graph.read_operations()
        return Body(tuple(names), tuple(graph.operations), tuple(graph.outputs), graph.types)

    def named(self, value: object, where: str) -> dict[str, Any]:
        return {key: self.argument(inner, where) for key, inner in _dict(value).items()}

    def refuse_object(self, value: object, where: str) -> NoReturn:
        name = self.name(value, "name", where)
        raise UnsupportedError(f"{self.what}: {where}: {name!r} is a custom object, which is not read")

    # Operations

    def read_operations(self) -> None:
        for node in self.nodes:
            self.operation(node)
            if len(self.operations) > _MAX_OPERATIONS:
                self.fail(f"more than {_MAX_OPERATIONS} operations")

    def operation(self, node: object) -> None:
        target = self.name(node, "target", "an operation").removeprefix("torch.ops.")
        whence, layer = _where(_dict(node).get("metadata"))
        what = f"the operation {target}" + (f" ({whence})" if whence else "")
        arguments: dict[str, Any] = {}
        for entry in self.field(node, "inputs", list, what):
            name = self.field(entry, "name", str, what)[:_MAX_NAME] or str(len(arguments))
            if name in arguments:
                self.fail(f"{what}: the argument {name!r} is given twice")
            arguments[name] = self.argument(self.field(entry, "arg", dict, what), f"{what}, argument {name!r}")
        outputs = self.field(node, "outputs", list, what)
        if target == _GRADIENT_MODE and isinstance(arguments.get("1"), Body):
            self.inline(arguments, outputs, what)
            return
        found = tuple([self.output(output, what) for output in outputs])
        self.operations.append(Operation(target, arguments, found, whence, layer))

    def output(self, value: object, where: str) -> str | tuple[str, ...] | None:
        kind, content = self.union(value, where)
        if kind == "as_none":
            return None
        if kind == "as_tensors":
            tensors = self.items(content, where)
            return tuple([self.define("as_tensor", self.name(one, "name", where), where) for one in tensors])
        if kind not in self.described:
            raise UnsupportedError(f"{self.what}: {where}: a result of the kind {kind[:40]!r} is not supported")
        return self.define(kind, self.name_of(value, where), where)

    def inline(self, arguments: dict[str, Any], outputs: list[Any], where: str) -> None:
        """Put the operations of a body in the place of the operation that only runs it."""
        body: Body = arguments["1"]
        given = list(arguments.values())[2:]
        results: list[Any] = []
        for output in outputs:
            kind, content = self.union(output, where)
            results += [{"as_tensor": one} for one in self.items(content, where)] if kind == "as_tensors" else [output]
        if len(given) != len(body.inputs) or len(results) != len(body.outputs):
            self.fail(f"{where}: its graph has another number of inputs or outputs")
        names: dict[str, Any] = dict(zip(body.inputs, given))
        for operation in body.operations:
            made = tuple([self._renamed(output, names, body) for output in operation.outputs])
            inner = {name: _substituted(value, names) for name, value in operation.arguments.items()}
            self.operations.append(replace(operation, arguments=inner, outputs=made))
        for result, value in zip(results, body.outputs):
            if "as_none" in result:
                continue
            name = self.name_of(result, where)
            if name in self.types or name in self.replaced:
                self.fail(f"{where}: the value {name!r} is made twice")
            self.replaced[name] = _substituted(value, names)

    def _renamed(self, output: Any, names: dict[str, Any], body: Body) -> Any:
        if isinstance(output, tuple):
            return tuple([self._renamed(one, names, body) for one in output])
        if output is None:
            return None
        described = self.described.values()
        name, count = output, 0
        while name in self.types or name in self.replaced or any(name in values for values in described):
            count += 1
            name = f"{output}.{count}"
        names[output] = Reference(name)
        self.types[name] = body.types[output]
        return name


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _substituted(value: Any, names: Mapping[str, Any]) -> Any:
    """An argument with the references of a body replaced. A body in it keeps its own names."""
    if isinstance(value, Reference):
        return names[value.name]
    if isinstance(value, tuple):
        return tuple([_substituted(one, names) for one in value])
    if isinstance(value, dict):
        return {key: _substituted(one, names) for key, one in value.items()}
    return value


def _listed(one: Callable[[_Graph, Any, str], Any]) -> Callable[[_Graph, Any, str], Any]:
    return lambda graph, value, where: tuple([one(graph, item, where) for item in graph.items(value, where)])


def _none(graph: _Graph, value: object, where: str) -> None:
    return None


#: kind of an argument -> what it becomes
_ARGUMENTS: dict[str, Callable[[_Graph, Any, str], Any]] = {
    "as_none": _none,
    "as_tensor": _Graph.tensor,
    "as_tensors": _listed(_Graph.tensor),
    "as_nested_tensors": _listed(_listed(_Graph.tensor)),
    "as_optional_tensor": _Graph.optional_tensor,
    "as_optional_tensors": _listed(_Graph.optional_tensor),
    "as_int": JsonFields.number,
    "as_ints": _listed(JsonFields.number),
    "as_int_lists": _listed(_listed(JsonFields.number)),
    "as_float": JsonFields.real,
    "as_floats": _listed(JsonFields.real),
    "as_float_lists": _listed(_listed(JsonFields.real)),
    "as_string": JsonFields.text,
    "as_strings": _listed(JsonFields.text),
    "as_bool": JsonFields.flag,
    "as_bools": _listed(JsonFields.flag),
    "as_sym_int": _Graph.symbolic,
    "as_sym_ints": _listed(_Graph.symbolic),
    "as_sym_float": _Graph.symbolic,
    "as_sym_floats": _listed(_Graph.symbolic),
    "as_sym_bool": _Graph.symbolic,
    "as_sym_bools": _listed(_Graph.symbolic),
    "as_scalar_type": lambda graph, value, where: graph.known(value, DTYPES, "the dtype", where),
    "as_memory_format": lambda graph, value, where: graph.known(value, _MEMORY_FORMATS, "the memory format", where),
    "as_layout": lambda graph, value, where: graph.known(value, _LAYOUTS, "the layout", where),
    "as_device": _Graph.device,
    "as_complex": _Graph.complex,
    "as_graph": _Graph.body,
    "as_string_to_argument": _Graph.named,
    "as_operator": JsonFields.text,
    "as_custom_obj": _Graph.refuse_object,
}


# Whence an operation comes


def _where(metadata: object) -> tuple[str, str]:
    """``net.py line 12``, the last line that is not PyTorch's own, and the path of the innermost layer of torch.nn."""
    where = layer = ""
    entries = _dict(metadata)
    stack = entries.get("nn_module_stack")
    if isinstance(stack, str):
        # "key,path,class" of each layer, from the outside in
        parts = stack.rpartition(";")[2].split(",")
        path = parts[1] if len(parts) > 2 else ""
        kind = parts[2] if len(parts) > 2 else ""
        of_torch = kind.startswith("torch.nn.") and ".container." not in kind
        if of_torch and path.isprintable() and not path.startswith("_empty_nn_module_stack"):
            layer = path[:_MAX_NAME]
    trace = entries.get("stack_trace")
    if isinstance(trace, str):
        lines = []
        for line in trace[-10_000:].splitlines():
            pieces = line.strip().split('"')
            if len(pieces) == 3 and pieces[0] == "File " and pieces[2].startswith(", line "):
                number = pieces[2].removeprefix(", line ").partition(",")[0]
                if number.isdecimal() and pieces[1].isprintable():
                    lines.append((pieces[1].replace("\\", "/"), number))
        own = [line for line in lines if "-packages/torch/" not in line[0] and not line[0].startswith("torch/")]
        for path, number in own[-1:]:
            where = f"{path.rpartition('/')[2][:100]} line {number[:9]}"
    return where, layer
