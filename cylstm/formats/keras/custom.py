"""Layers that a file names and cannot bring along: custom layers and Lambdas, as functions that the user gives.

Nothing of the file is run. ``custom_layers={"Name": function}`` is the user's own Python; it is called while the graph
is built, with arrays that stand for those of the network (`cylstm.program.array`).
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import inspect
import keyword
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, NoReturn

import numpy as np

from cylstm.errors import ArgumentError, CylstmError, FormatError, ShapeError, UnsupportedError
from cylstm.formats.arrays import shape_text
from cylstm.formats.keras.call import Flow, LayerCall, Mask, NoMask, Rebuild
from cylstm.formats.keras.call import shape_text as value_text
from cylstm.formats.keras.config import LayerConfig
from cylstm.formats.keras.operations.network import KerasNetwork
from cylstm.formats.keras.weights import Taken, Tensor
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Layer
from cylstm.graph.values import Option, Value
from cylstm.program import tensor as program
from cylstm.program.array import Array, SymbolicSize, adding_to, array_of, given_of
from cylstm.program.tensor import BATCH, is_constant

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
#: what every layer's config has, and a Lambda's program
_USUAL = {"name", "trainable", "dtype", "function", "function_type", "module", "batch_input_shape", "output_shape",
          "output_shape_type", "output_shape_module", "batch_shape"}  # fmt: skip


class LayerWeights(Mapping[str, np.ndarray]):
    """The weights of a custom layer: name -> array that cannot be written, in the order in which the layer made them.

    ``var0``, ``var1``, ... name them by that order too, whatever the file calls them. It notes which have been read.
    """

    def __init__(self, what: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._what = what
        self._arrays: dict[str, np.ndarray] = {}
        self.read: set[str] = set()
        for name, array in arrays.items():
            fixed = np.array(array)
            fixed.setflags(write=False)
            self._arrays[name] = fixed[...]  # a view of an array that cannot be written cannot be made writable

    def __getitem__(self, name: object) -> np.ndarray:
        found = self._find(name)
        if found is None:
            known = ", ".join(f"{key!r} {shape_text(array.shape)}" for key, array in self._arrays.items()) or "none"
            near = _near(name, list(self._arrays))
            raise FormatError(f"{self._what}: it has no weight {name!r:.60}{near}; its weights are {known}")
        self.read.add(found)
        return self._arrays[found]

    def _find(self, name: object) -> str | None:
        """The name under which it stands, None if there is none."""
        if not isinstance(name, str) or name in self._arrays:
            return name if isinstance(name, str) else None
        parent, _, last = name.rpartition("/")
        counted = re.fullmatch(r"var(\d{1,6})", last)
        beside = [one for one in self._arrays if one.rpartition("/")[0] == parent]
        if counted is None or int(counted[1]) >= len(beside):
            return None
        return beside[int(counted[1])]

    def get(self, name: object, default: Any = None) -> Any:
        return default if self._find(name) is None else self[name]

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {shape_text(array.shape)}" for name, array in self._arrays.items()) + "}"


class CustomNetwork(KerasNetwork):
    """Adds the layers that a user's function computes.

    Attributes
    ----------
    names : dict of int to str
        The names of those layers, by their number, whose results are the custom layer's own.
    """

    def __init__(
        self, builder: GraphBuilder, share_time: Callable[[Sequence[Value]], None], what: str, dtype: Any
    ) -> None:
        super().__init__(builder, share_time)
        self.dtype = np.dtype(dtype)
        self.what = what
        self.names: dict[int, str] = {}
        self._count = 0

    def begin(self, names: Mapping[int, str]) -> None:
        """Count the layers anew."""
        self.names, self._count = dict(names), 0

    def mark(self) -> Any:
        """What `rewind` takes to forget what was added since."""
        return self.builder.mark(), {key: list(known) for key, known in self._registered.items()}

    def rewind(self, mark: Any) -> None:
        self.builder.rewind(mark[0])
        self._before_reshape.clear()
        self._registered = {key: list(known) for key, known in mark[1].items()}

    def add_layers(
        self,
        kind: str,
        value: Value | None,
        /,
        weights: Mapping[str, np.ndarray | None] | None = None,
        options: Mapping[str, Option] | None = None,
        *,
        part: str = "",
        **others: Value | None,
    ) -> dict[str, Value]:
        before = self.name
        if self._count in self.names:
            self.name, part = self.names[self._count], ""
        self._count += 1
        try:
            return super().add_layers(kind, value, weights, options, part=part, **others)
        finally:
            self.name = before


class CustomLayers:
    """The functions that a user gives for layers of a model, by the names of classes or of layers.

    Parameters
    ----------
    where : str
        The file, for messages.
    given : mapping or None
        As the user gave it.
    config : object
        That of the model, which has to have what is named.
    is_known : callable
        Whether a class is one of Keras's that is computed.

    Raises
    ------
    ArgumentError
        If it is no mapping of names to functions or classes, or names what the model does not have.
    """

    def __init__(self, where: str, given: object, config: object, is_known: Callable[[str], bool]) -> None:
        self.where = where
        self.is_known = is_known
        if given is None:
            given = {}
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise ArgumentError(
                f"{where}: custom_layers expected a dict of names to functions, found {type(given).__name__}"
            )
        self.functions: dict[str, Any] = dict(given)
        #: values (time, 1) that are (batch, time) in Keras, of a time of any length
        self.bare: set[str] = set()
        self.whole: Mapping[str, str] = {}
        self._weights: dict[Any, LayerWeights] = {}
        self._instances: dict[Any, Any] = {}
        self._networks: dict[Any, CustomNetwork] = {}
        for name, function in self.functions.items():
            self._check(name, function)
        if self.functions:
            self._check_names(config)

    def _check(self, name: str, function: Any) -> None:
        kind = function if isinstance(function, type) else type(function)
        roots = {base.__module__.partition(".")[0] for base in kind.__mro__}
        if roots & {"keras", "tf_keras", "tensorflow", "torch"}:
            raise ArgumentError(
                f"{self.where}: custom_layers, {name!r}: a layer of {sorted(roots - {'builtins'})[0]}, which computes "
                "on arrays of its own; give a function (x, weights, config) of the functions of cylstm.program"
            )
        if not callable(function):
            raise ArgumentError(
                f"{self.where}: custom_layers, {name!r}: expected a function (x, weights, config), found "
                f"{type(function).__name__}"
            )

    def _check_names(self, config: object) -> None:
        """Every name is that of a class or of a layer of the model."""
        custom: dict[str, None] = {}  # of what is not Keras's own, for messages
        others: dict[str, None] = {}
        own: dict[str, None] = {}  # of what is computed as Keras's own
        waiting = [config]
        while waiting:
            entry = waiting.pop()
            if isinstance(entry, list):
                waiting += entry
            elif isinstance(entry, dict):
                waiting += entry.values()
                class_name, inner = entry.get("class_name"), entry.get("config")
                if not isinstance(class_name, str) or not isinstance(inner, dict):
                    continue
                registered, module = entry.get("registered_name"), str(entry.get("module") or "")
                is_of_keras = module.partition(".")[0] in ("keras", "tf_keras", "tensorflow")
                is_plain = registered in (None, class_name) and ">" not in class_name
                names = [inner.get("name", entry.get("name"))]
                if class_name != "Lambda":
                    names += [class_name, registered, class_name.rpartition(">")[2]]
                if is_plain and is_of_keras and self.is_known(class_name):
                    found = own
                else:
                    found = custom if class_name == "Lambda" or not (is_plain and is_of_keras) else others
                found.update(dict.fromkeys(name for name in names if isinstance(name, str)))
        for name in self.functions:
            start = f"{self.where}: custom_layers, {name!r}:"
            if name in custom or name in others:
                continue
            if name == "Lambda":
                example = next((one for one in custom if "lambda" in one.lower()), "lambda")
                raise ArgumentError(f"{start} a Lambda is named by its layer's name, such as {example!r}")
            if name in own:
                raise ArgumentError(f"{start} that is one of Keras's own layers, and is computed as such")
            near = _near(name, [one for one in (*custom, *own) if ">" not in one])
            has = f"custom are {', '.join(list(custom)[:20])}" if custom else "it has no custom layer and no Lambda"
            raise ArgumentError(f"{start} the model has no layer of this class or name{near}; {has}")

    # What is asked while the graph is built

    def key(self, layer: LayerConfig) -> str | None:
        """The name under which a function is given for a layer; None if there is none."""
        if layer.is_operation:
            return None
        if self.is_known(layer.class_name):
            return layer.class_name if layer.class_name in self.functions and not layer.module else None
        names = [layer.name]
        if layer.class_name != "Lambda":
            names += [layer.class_name, layer.class_name.rpartition(">")[2]]
        return next((name for name in names if name in self.functions), None)

    def add(
        self,
        call: LayerCall,
        builder: GraphBuilder,
        tensors: Mapping[str, Tensor],
        taken: dict[str, Taken],
        whole: Mapping[str, str],
        share_time: Callable[[Sequence[Value]], None],
    ) -> list[Flow]:
        """The outputs of a call of a layer for which there is a function.

        `taken` gets the weights that are read; `whole` has the inputs of whole numbers and truths, with their type;
        `share_time` lets the times of several inputs be one.
        """
        self.whole = whole
        name = self.key(call.layer)
        assert name is not None
        if call.first:
            raise UnsupportedError(f"{call.what}: inside TimeDistributed it cannot be a custom layer")
        known = (call.owner.name, call.within, call.layer.name)
        if known not in self._weights:
            for tensor in tensors.values():
                if tensor.name not in taken:
                    taken[tensor.name] = Taken(tensor.name, tensor.storage, _read(call.what, tensor))
            arrays = {role: taken[tensor.name].array for role, tensor in tensors.items()}
            self._weights[known] = LayerWeights(call.what, arrays)
        weights = self._weights[known]
        function = self.functions[name]
        if isinstance(function, type):
            if known not in self._instances:
                config = copy.deepcopy(dict(call.layer.config))
                self._instances[known] = _guarded(call.what, name, lambda: self.functions[name](config))
            function = self._instances[known]
            if not callable(function):
                raise ArgumentError(f"{call.what}: instances of the class given for {name!r} cannot be called")
        call = _with_all_inputs(call, _parameters(function))
        net = self._networks.get(known)
        if net is None or net.builder is not builder:
            is_double = any(array.dtype == np.float64 for array in weights._arrays.values())
            net = CustomNetwork(builder, share_time, call.what, np.float64 if is_double else np.float32)
            self._networks[known] = net
        values = _run_twice(net, call, name, function, weights, self)
        unread = [f"weights[{one!r}] {shape_text(weights._arrays[one].shape)}" for one in weights
                  if one not in weights.read]  # fmt: skip
        if unread:
            raise ArgumentError(
                f"{call.what}: the function given for {name!r} never reads {', '.join(unread)}; read what a prediction "
                "does not need too, so that no weight is left out by mistake"
            )
        self.bare.update(value.name for value, is_bare in values if is_bare)
        return [Flow(value, Mask(_mask_behind(call, name, function, value))) for value, _ in values]

    def refusal(self, call: LayerCall, why: str, tensors: Mapping[str, Tensor]) -> UnsupportedError:
        """That a layer is not computed, with the function to fill in."""
        layer = call.layer
        call = _with_all_inputs(call, set())
        name = layer.name if layer.class_name == "Lambda" else layer.class_name.rpartition(">")[2]
        function = re.sub(r"\W|^(?=\d)", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).lower() or "function"
        function += "_" * keyword.iskeyword(function)
        shapes = [value_text(flow.value) for flow in call.flows]
        given = shapes[0] if not call.is_list else f"a list of {', '.join(shapes)}"
        named = ", ".join(f"{key!r} {shape_text(tensor.shape)}" for key, tensor in tensors.items()) or "none"
        options = {key: one for key, one in layer.config.items() if key not in _USUAL}
        masked = any(isinstance(flow.mask.value, Value) for flow in call.flows)
        arguments = "x, weights, config" + (", mask=None" if masked else "")
        if self.where == "Keras model":
            use = f'model = cylstm.from_keras(keras_model, custom_layers={{"{name}": {function}}})'
        else:
            use = f'model = cylstm.load("{self.where}", custom_layers={{"{name}": {function}}})'
        lines = [
            f"{call.what}: {why}. Say what it computes with a function on arrays of the network:",
            "",
            "from cylstm import program as xp",
            "",
            f"def {function}({arguments}):",
            f"    # x: {given}",
            *(["    # mask: the steps that count, (batch, time), or None"] if masked else []),
            f"    # weights: {named}",
            f"    # config: {options!r:.300}",
            "    y = ...  # operators, and functions such as xp.exp(x), xp.sum(x, axis=1), x @ w",
            "    return y",
            "",
            use,
        ]
        return UnsupportedError("\n".join(lines))


def _near(name: object, known: Sequence[str]) -> str:
    """A hint at names like one that there is not."""
    lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(name).lower(), list(lower), 3, 0.6)
    return f" (near: {', '.join(repr(lower[one]) for one in found)})" if found else ""


def _read(what: str, tensor: Tensor) -> np.ndarray:
    array = tensor.read()
    if array.dtype.kind not in "fiub":
        raise FormatError(f"{what}, tensor {tensor.name!r}: expected numbers, found {array.dtype}")
    return array


# Calls of functions


def _run_twice(
    net: CustomNetwork, call: LayerCall, name: str, function: Any, weights: LayerWeights, custom: CustomLayers
) -> list[tuple[Value, bool]]:
    """What the function computes, called twice: it has to do the same both times."""
    mark = net.mark()
    start = len(net.builder.layers())
    net.begin({})
    first = _run(net, call, name, function, weights, custom)
    added = net.builder.layers()[start:]
    made = {output: number for number, layer in enumerate(added) for output in layer.outputs.values()}
    before = _signature(net.builder, added, first)
    net.rewind(mark)
    names = {}
    for k, (value, _) in enumerate(first):
        if value.name in made and added[made[value.name]].outputs.get("y") == value.name:
            names[made[value.name]] = call.name if len(first) == 1 else f"{call.name}.{k}"
    net.begin(names)
    second = _run(net, call, name, function, weights, custom)
    after = _signature(net.builder, net.builder.layers()[start:], second)
    if before != after:
        raise ArgumentError(
            f"{call.what}: the function given for {name!r} does not do the same when it is called again: it keeps "
            "something from one call to the next, or draws random numbers"
        )
    return second


def _signature(builder: GraphBuilder, layers: Sequence[Layer], results: Sequence[tuple[Value, bool]]) -> list[Any]:
    """What layers compute, whatever they are called."""
    made = {output: (number, role) for number, layer in enumerate(layers) for role, output in layer.outputs.items()}
    found: list[Any] = [
        (
            layer.kind,
            tuple(sorted((role, repr(made.get(one, one))) for role, one in layer.inputs.items())),
            tuple(sorted((key, repr(option)) for key, option in layer.options.items())),
            tuple((role, array.dtype.str, array.shape, array.tobytes()) for role, array in
                  ((role, np.asarray(builder.tensors()[one])) for role, one in sorted(layer.weights.items()))),
        )
        for layer in layers
    ]  # fmt: skip
    return [*found, [(repr(made.get(value.name, value.name)), is_bare) for value, is_bare in results]]


def _run(
    net: CustomNetwork, call: LayerCall, name: str, function: Any, weights: LayerWeights, custom: CustomLayers
) -> list[tuple[Value, bool]]:
    """The values that the function gives, and whether each is a time of any length without features."""
    net.name = call.name
    xs = [_array(net, flow, custom) for flow in call.flows]
    options: dict[str, Any] = {}
    taken = _parameters(function)
    if "mask" in taken:
        masks = [_mask_array(net, call, mask) for mask in _masks(call)]
        options["mask"] = masks if call.is_list else masks[0]
    for key, given in call.arguments.items():
        if key in ("mask", "training", "input names"):
            continue
        if key in taken:
            options[key] = _argument(net, call, key, given, custom)
        elif given not in (None, False):
            raise ArgumentError(
                f"{call.what}: is called with {key}=, which the function given for {name!r} does not take; write "
                f"def function(x, weights, config, {key}=None)"
            )
    config = copy.deepcopy(dict(call.layer.config))
    with adding_to(net, call.name):
        found = _guarded(
            call.what, name, lambda: function(list(xs) if call.is_list else xs[0], weights, config, **options)
        )
    if config != dict(call.layer.config):
        raise ArgumentError(f"{call.what}: the function given for {name!r} changes its config; work on a copy")
    several = found if isinstance(found, (tuple, list)) else [found]
    if not several:
        raise ArgumentError(f"{call.what}: the function given for {name!r} returned nothing")
    return [_value(net, call, name, one) for one in several]


def _with_all_inputs(call: LayerCall, taken: Set[str]) -> LayerCall:
    """The call with all tensors as inputs, those by name that a function does not take behind the first.

    Keras 2 gives a name to every argument but the first.
    """
    more = {key: one for key, one in call.arguments.items() if isinstance(one, Flow) and key not in (*taken, "mask")}
    if not more:
        return call
    rest = {key: one for key, one in call.arguments.items() if key not in more}
    return dataclasses.replace(call, flows=[*call.flows, *more.values()], is_list=True, arguments=rest)


def _parameters(function: Any) -> set[str]:
    """The names of a function's parameters."""
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _array(net: CustomNetwork, flow: Flow, custom: CustomLayers) -> Any:
    value = flow.value
    kind: Any = "int" if value.kind == "index" else custom.whole.get(value.name, "float")
    rank = 1 if value.name in custom.bare else len(value.shape)
    return array_of(net, program.Tensor(value, (BATCH, *range(rank)), kind))


def _argument(net: CustomNetwork, call: LayerCall, key: str, given: Any, custom: CustomLayers) -> Any:
    """An argument of a call beside the first."""
    if isinstance(given, Flow):
        return _array(net, given, custom)
    if isinstance(given, (list, tuple)):
        return [_argument(net, call, key, one, custom) for one in given]
    if given is None or isinstance(given, (bool, int, float, str)):
        return given
    raise UnsupportedError(f"{call.what}: argument {key}={given!r:.80} is not supported")


def _masks(call: LayerCall) -> list[Value | NoMask | None]:
    if call.is_list:
        return call.listed_masks()
    is_explicit, mask = call.explicit_mask()
    return [mask if is_explicit else call.flow.mask.value]


def _mask_array(net: CustomNetwork, call: LayerCall, mask: Value | NoMask | None) -> Any:
    mask = call.readable(mask)
    if mask is None:
        return None
    value = net.add_layer("mask_numbers", None, part="mask", mask=mask)
    return array_of(net, program.Tensor(value, (BATCH, 0), "bool"))


def _guarded(what: str, name: str, function: Callable[[], Any]) -> Any:
    """``function()``; whatever it raises, an error of ours that says which layer and where."""
    try:
        return function()
    except Rebuild:
        raise
    except CylstmError as error:
        place = _place(error)
        text = str(error) if what in str(error) else f"{what}: {error}"
        if isinstance(error, ShapeError):
            raise type(error)(f"{text}{place}") from error
        kind = type(error) if type(error) in (FormatError, UnsupportedError) else ArgumentError
        raise kind(f"{text}{place}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"{what}: the function given for {name!r} raised {type(error).__name__}: {error!s:.300}{_place(error)}"
        ) from error


def _place(error: BaseException) -> str:
    """Where in the user's code an error arose."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not os.path.abspath(file).startswith(_PACKAGE + os.sep):
            found = f" ({os.path.basename(file)} line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _value(net: CustomNetwork, call: LayerCall, name: str, found: Any) -> tuple[Value, bool]:
    """What a function returned as a value whose axes lie as Keras's, and whether it is a time without features."""
    start = f"{call.what}: the function given for {name!r} returned"
    wanted = "expected an array whose first axis is the batch"
    if isinstance(found, (np.ndarray, np.generic, bool, int, float, SymbolicSize)):
        shape = f" of shape {shape_text(found.shape)}" if isinstance(found, np.ndarray) else ""
        raise ArgumentError(f"{start} a constant{shape}, {wanted}")
    if not isinstance(found, Array):
        raise ArgumentError(f"{start} {_kind(found)}, {wanted}")

    def arranged() -> tuple[Value, bool]:
        given = given_of(net, found)
        net.name = f"{call.name}/output"
        tensor = net.constant(given) if is_constant(given) else net.tensor(given)
        if tensor.batch != 0:
            _refuse(f"{start} {found!r}, {wanted}")
        if tensor.ndim < 2:
            _refuse(f"{start} one number for each row, {found!r}; give them an axis with expand_dims(y, axis=1)")
        for i, places in enumerate(tensor.axes):
            if isinstance(places, tuple):
                if BATCH in places:
                    _refuse(f"{start} {found!r}, whose first axis has the rows and another axis in one; {wanted}")
                tensor = net.solid(tensor, i)
        value = net.arrange(tensor, range(1, tensor.ndim))
        return value, tensor.ndim == 2 and len(value.shape) == 2

    made: tuple[Value, bool] = _guarded(call.what, name, arranged)
    return made


def _kind(found: object) -> str:
    return "nothing" if found is None else f"something of type {type(found).__name__}"


def _refuse(text: str) -> NoReturn:
    raise ArgumentError(text)


def _mask_behind(call: LayerCall, name: str, function: Any, value: Value) -> Value | NoMask | None:
    """The mask of an output: of one input and of as many steps, where the function says that it is handed on."""
    masks = [flow.mask.value for flow in call.flows]
    found = [mask for mask in masks if mask is not None]
    says = getattr(function, "supports_masking", None)
    if not found or says is False:
        return None
    inputs = [call.maker.inputs_of(mask) for mask in found]
    together = frozenset().union(*inputs) if all(inputs) else frozenset()
    if says is not True:
        return NoMask(
            f"whether the custom layer {call.layer.name!r} hands it on is not known; say it with "
            "function.supports_masking = True or False",
            together,
        )
    mask = found[0]
    if len(call.flows) > 1 or isinstance(mask, NoMask):
        return NoMask(f"the custom layer {call.layer.name!r} has several inputs, or an input whose mask is not "
                      "computed", together)  # fmt: skip
    fits = value.has_time and value.shape[:1] == mask.shape and value.axis == mask.axis
    return mask if fits else None
