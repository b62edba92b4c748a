"""PyTorch's own samples of its operations: each is computed right or refused, and never wrong in silence.

`op_db` holds sample inputs of every operation of PyTorch, with the arguments that its own tests find hard. A call is
recorded as its ATen operations, and becomes a program whose input is the first tensor (or all of them), in two ways:
the rows of the batch are the sample and others like it, the axes that the call names moved by one; or the sample's own
first axis is the batch. PyTorch computes the same call in double precision.
"""

import contextlib
import functools
import gc
import itertools
import logging
import math
import warnings
import zlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError
from cylstm.formats.torch.aten.build import Given, build_graph
from cylstm.formats.torch.aten.run import OPERATIONS, Run
from cylstm.program.program import Operation, Program, Reference, TensorType
from cylstm.program.tensor import Constant, Tensor, dtype_of

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

pytestmark = pytest.mark.frameworks

PARTS = 8
SAMPLES = 2
#: operations that draw random numbers, or whose numbers are whatever the memory held
NO_NUMBERS = ("empty", "new_empty", "empty_like", "empty_permuted", "empty_strided", "new_empty_strided", "bernoulli")
#: operations that give places of numbers in order
ORDERED = ("sort", "argsort", "topk", "msort")
#: arguments that name axes from the front
AXES = ("dim", "dims", "dim0", "dim1", "axis0", "axis1", "start_dim", "end_dim", "source", "destination", "axis")
#: arguments that are a whole shape
SHAPES = ("size", "shape")


class Call(NamedTuple):
    """One ATen operation; `Ref` for the results of others and for the tensors that the sample holds."""

    target: object
    args: tuple
    kwargs: dict


class Ref(NamedTuple):
    """The tensor `number` of the sample, or of the result `call`, of which it is perhaps one element."""

    call: int
    number: int | None = None


class Invalid(Exception):
    """PyTorch itself does not take the call."""


def mapped(function, found):
    """A function of everything in a nest of arguments that is no list and no dict."""
    if isinstance(found, Ref) or not isinstance(found, (tuple, list, dict)):
        return function(found)
    if isinstance(found, dict):
        return {key: mapped(function, one) for key, one in found.items()}
    return [mapped(function, one) for one in found]


def leaves(found):
    """The tensors in a nest, in order."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (tuple, list)):
        return [one for part in found for one in leaves(part)]
    return [found] if isinstance(found, torch.Tensor) else []


# Recording


@contextlib.contextmanager
def no_collection():
    """No unfinished generator of samples is collected: PyTorch sets its modes at the end of one, and records that."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def record(function, sample):
    """The ATen operations of a call, the tensors of the sample, and which results it returns."""
    from torch.fx.experimental.proxy_tensor import make_fx

    tensors = leaves([sample.input, sample.args, sample.kwargs])

    def call(*given):
        remaining = iter(given)
        filled = mapped(
            lambda one: next(remaining) if isinstance(one, torch.Tensor) else one,
            [sample.input, list(sample.args), sample.kwargs],
        )
        return function(filled[0], *filled[1], **filled[2])

    with no_collection():
        graph = make_fx(call, pre_dispatch=True)(*tensors).graph
    refs, calls, tensors = {}, [], list(tensors)
    place = 0
    results = []
    for node in graph.nodes:
        if node.op == "placeholder":
            refs[node] = Ref(-1, place)
            place += 1
        elif node.op == "get_attr":
            refs[node] = Ref(-1, len(tensors))
            tensors.append(getattr(graph.owning_module, node.target))
        elif node.op == "output":
            results = leaves_of_nodes(node.args, refs)
        elif not hasattr(node.target, "_schema") and node.target.__name__ != "getitem":
            continue  # of gradients, which are off
        elif node.target.__name__ == "getitem":
            refs[node] = Ref(refs[node.args[0]].call, node.args[1])
        else:

            def resolved(one):
                return refs[one] if isinstance(one, torch.fx.Node) else one

            calls.append(Call(node.target, mapped(resolved, node.args), mapped(resolved, node.kwargs)))
            refs[node] = Ref(len(calls) - 1)
    return calls, tensors, results


def leaves_of_nodes(found, refs):
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (tuple, list)):
        return [one for part in found for one in leaves_of_nodes(part, refs)]
    return [refs[found]] if isinstance(found, torch.fx.Node) else []


def name_of(target):
    return target._schema.name.partition("::")[2]


def shifted(call, rank, batch):
    """A call for tensors with another axis in front: axes that it names moved by one."""
    given = dict(zip([one.name for one in call.target._schema.arguments], call.args)) | call.kwargs
    for argument in call.target._schema.arguments:
        name = argument.name
        value = given.get(name, argument.default_value)
        if name in AXES and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            given[name] = value + 1
        elif name in AXES and isinstance(value, (list, tuple)) and value:
            given[name] = [one + 1 if one >= 0 else one for one in value]
            if name == "dims" and name_of(call.target) == "permute":
                given[name] = [0, *given[name]]
        elif name in AXES and value in (None, []) and "optional" in str(argument.type).lower() + "optional":
            if rank:
                is_list = "List" in str(argument.type)
                given[name] = list(range(1, rank + 1)) if is_list else None
        elif name in SHAPES and isinstance(value, (list, tuple)):
            given[name] = [batch, *value]
        elif name in ("repeats", "dims") and isinstance(value, (list, tuple)):
            given[name] = [1, *value]
    names = {one.name for one in call.target._schema.arguments if not one.kwarg_only}
    positional = []
    for argument in call.target._schema.arguments:
        if argument.name not in names or argument.name not in given:
            break
        positional.append(given.pop(argument.name))
    return Call(call.target, positional, given)


# Running and building


def computed(calls, tensors):
    """The result of each call on these tensors. Raises `Invalid`."""
    found = []

    def value(one):
        if isinstance(one, Ref):
            whole = tensors if one.call < 0 else found[one.call]
            return whole if one.number is None else whole[one.number]
        return one

    try:
        for call in calls:
            found.append(call.target(*mapped(value, call.args), **mapped(value, call.kwargs)))
    except Exception as error:
        raise Invalid(str(error)) from error
    return found


def wide(calls, tensors):
    """The same call in double precision."""

    def widened(one):
        if isinstance(one, torch.Tensor):
            return one.double() if one.is_floating_point() else one
        return torch.float64 if one is torch.float32 else one

    calls = [Call(call.target, mapped(widened, call.args), mapped(widened, call.kwargs)) for call in calls]
    return calls, [widened(one) for one in tensors]


def picked(results, found, tensors):
    """The tensors that the call returns."""
    kept = []
    for one in results:
        whole = tensors if one.call < 0 else found[one.call]
        kept += leaves(whole if one.number is None else whole[one.number])
    return kept


def build_program(calls, tensors, results, inputs):
    """The calls as a `Program`. Of whole numbers, the input is of floating-point ones, and cast."""
    found = computed(calls, tensors)
    types, operations, names, constants = {}, [], {}, {}

    def described(name, one):
        types[name] = TensorType(str(one.dtype).removeprefix("torch."), tuple(one.shape))
        return name

    for number, one in enumerate(tensors):
        name = f"input{number}" if number in inputs else f"constant{number}"
        if number not in inputs:
            constants[name] = one.numpy()
        elif one.dtype == torch.int64:
            types[name] = TensorType("float32", tuple(one.shape))
            arguments = {"self": Reference(name), "dtype": "int64"}
            name = f"whole{number}"
            operations.append(Operation("aten.to.dtype", arguments, (name,), ""))
        names[-1, number] = described(name, one)
    for place, (call, result) in enumerate(zip(calls, found)):
        schema = call.target._schema
        is_list = len(schema.returns) == 1 and isinstance(result, (list, tuple))
        each = []
        for number, one in enumerate(result if isinstance(result, (list, tuple)) else [result]):
            name = f"result{place}_{number}"
            each.append(described(name, one) if isinstance(one, torch.Tensor) else name)
            names[place, number] = name
        names[place, None] = each[0] if not isinstance(result, (list, tuple)) else tuple(each)

        def argument(one):
            if isinstance(one, Ref):
                made = names[one.call, one.number]
                return tuple(map(Reference, made)) if isinstance(made, tuple) else Reference(made)
            kinds = (torch.dtype, torch.device, torch.layout, torch.memory_format)
            return str(one).removeprefix("torch.") if isinstance(one, kinds) else one

        given = dict(zip([one.name for one in schema.arguments], call.args)) | dict(call.kwargs)
        arguments = {key: as_tuples(mapped(argument, one)) for key, one in given.items()}
        overload = call.target._overloadname
        outputs = (tuple(each),) if is_list else tuple(each)
        operations.append(Operation(f"aten.{name_of(call.target)}.{overload}", arguments, outputs, ""))
    outputs = []
    for one in results:
        made = names[one.call, one.number]
        outputs += map(Reference, made) if isinstance(made, tuple) else [Reference(made)]
    given = tuple(f"input{number}" for number in inputs)
    return Program(given, {}, {}, tuple(operations), tuple(outputs), constants, {}, types, {}, {}, "test")


def as_tuples(found):
    return tuple(map(as_tuples, found)) if isinstance(found, list) else found


def rows_like(seed, tensor, count):
    """The tensor and others with its numbers in another order, as rows of a batch."""
    rng = np.random.default_rng(seed)
    rows = [tensor]
    for _ in range(count - 1):
        order = torch.from_numpy(rng.permutation(tensor.numel()))
        rows.append(tensor.reshape(-1)[order].reshape(tensor.shape))
    return torch.stack(rows)


def longer(seed, tensor, count):
    """The tensor with `count` rows."""
    order = np.random.default_rng(seed).permutation(len(tensor)) if len(tensor) else []
    rows = [*range(len(tensor)), *itertools.islice(itertools.cycle(order), max(count - len(tensor), 0))]
    return tensor[rows[:count]]


def arrangements(calls, tensors):
    """(what it is, calls and tensors for each of three batches, which tensors are inputs) of a recorded call."""
    if not tensors or not calls:
        return
    first = tensors[0]
    others = [k for k, one in enumerate(tensors) if k]
    if len(calls) == 1:
        sizes = (3, 5, 4)
        for inputs in dict.fromkeys([(0,), (0, *others), tuple(others[-1:]) or (0,)]):
            stacked = [
                [rows_like(k, one, size) if k in inputs else one for k, one in enumerate(tensors)] for size in sizes
            ]
            yield "rows", [[shifted(calls[0], tensors[inputs[0]].ndim, size)] for size in sizes], stacked, sizes, inputs
    if first.ndim:
        size = len(first)
        sizes = (size, size + 2, size + 1)
        like = [k for k in others if tensors[k].ndim and len(tensors[k]) == size]
        for inputs in dict.fromkeys([(0,), (0, *like), tuple(like[-1:]) or (0,)]):
            given = [
                [longer(k, one, count) if k in inputs else one for k, one in enumerate(tensors)] for count in sizes
            ]
            try:
                computed(calls, given[1])
                yield "own", [calls] * 3, given, sizes, inputs
            except Invalid:
                yield "own", [calls] * 2, [given[0], given[0]], (size, size), inputs


# Judging


@contextlib.contextmanager
def types_are_compared():
    """The kind of each result is compared with the recorded one: a wrong one makes what is computed from it wrong."""
    before = Run.check

    def check(self, operation):
        before(self, operation)
        for name in self.values.keys() & set(self.first.types):
            found = self.values[name]
            if isinstance(found, (Tensor, Constant, np.ndarray)):
                recorded = self.first.types[name].dtype
                kind = "bool" if recorded == "bool" else "int" if recorded.startswith("int") else "float"
                assert dtype_of(found) == kind, f"{operation.target}: {dtype_of(found)} where {recorded} was recorded"

    Run.check = check
    try:
        yield
    finally:
        Run.check = before


def check(calls, tensors, results, sizes, inputs):
    """ "right", or what is wrong. Raises `CylstmError` where it is refused and `Invalid` where PyTorch refuses."""
    with torch.no_grad():
        programs = [build_program(c, t, results, inputs) for c, t in zip(calls[:-1], tensors[:-1])]
        found = picked(results, computed(calls[-1], tensors[-1]), tensors[-1])
        double_calls, double = wide(calls[-1], tensors[-1])
        expected = picked(results, computed(double_calls, double), double)
    given = []
    for number in inputs:
        one = tensors[0][number]
        kind = "truths" if one.dtype == torch.bool else "numbers"
        given.append(Given(f"input{number}", ("N", *one.shape[1:]), kind))
    examples = [(size, {}) for size in sizes[:-1]]
    graph, batches = build_graph(programs, given, examples, np.dtype(np.float32), "sample")
    model = cylstm.Model(graph)
    arrays = [tensors[-1][number].numpy() for number in inputs]
    arrays = [one.astype(np.float32) if one.dtype != bool else one for one in arrays]
    predicted = model.predict(arrays if len(arrays) > 1 else arrays[0])
    predicted = predicted if isinstance(predicted, list) else [predicted]
    if len(predicted) != len(expected):
        return f"{len(predicted)} results instead of {len(expected)}", 0.0
    worst = 0.0
    for own, batch, single, reference in zip(predicted, batches, found, expected):
        own = np.moveaxis(np.asarray(own, np.float64), 0, batch)
        single, reference = (np.asarray(one.detach().to(torch.float64)) for one in (single, reference))
        if own.shape != reference.shape:
            return f"shape {own.shape} instead of {reference.shape}", math.inf
        fits, error = compare(own, single, reference)
        if fits is None:
            raise Invalid("it draws random numbers")
        worst = max(worst, error)
        if not fits:
            return f"differs by {error:.3g} of the scale", error
    return "right", worst


def compare(own, single, reference):
    """Whether numbers are as near to the reference as promised, and how far they are as a part of the scale.

    None where PyTorch's own are far from the reference: they are random.
    """
    with np.errstate(all="ignore"):
        same = (own == reference) | (np.isnan(own) & np.isnan(reference)) | (own == single)
        same |= np.isnan(own) & np.isnan(single)
        usual = np.isfinite(reference)
        scale = float(np.abs(reference[usual]).max(initial=0.0)) or 1.0
        errors = np.where(same, 0.0, np.abs(own - reference))
        framework = np.abs(single - reference)[usual & np.isfinite(single)].max(initial=0.0)
    errors = np.where(np.isnan(errors), math.inf, errors)
    if framework > 0.01 * scale:
        return None, 0.0
    limit = max(1e-6 * scale, 4.0 * float(framework))
    worst = float(errors.max(initial=0.0))
    return worst <= limit, worst / scale


@functools.cache
def infos():
    """The operations of `op_db` that the table has, by a name that is unique: (function, info)."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = {}
    for info in op_db:
        variant = f" {info.variant_test_name}" if info.variant_test_name else ""
        for function, name in [(info, info.name), *((one.op, one.name) for one in info.aliases)]:
            short = name.rpartition(".")[2]
            known = {short, name.replace(".", "_"), info.aten_name, "_" + short} & set(OPERATIONS)
            if known and not known & set(NO_NUMBERS) and not name.startswith("_refs"):
                found[name + variant] = (function, info)
    return found


def samples(name, info, count):
    """Some samples, the first among them, of the kinds of numbers that the operation takes."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kinds = [one for one in (torch.float32, torch.int64, torch.bool) if one in info.dtypes]
    for dtype in kinds:
        generator = info.sample_inputs("cpu", dtype)
        every = list(itertools.islice(generator, 60))
        if hasattr(generator, "close"):
            generator.close()
        if dtype != torch.float32 and info.name in ORDERED:
            # where equal numbers go is decided by a stable sort alone
            every = [one for one in every if one.kwargs.get("stable")]
        kept = count if dtype == kinds[0] else count // 2
        chosen = sorted({0, *rng.permutation(len(every))[: kept - 1]}) if every else []
        for number in chosen:
            yield f"{str(dtype).removeprefix('torch.')} {number}", every[number]


def outcomes(name, function, info, count=SAMPLES):
    """(what was tried, "right" | "refused" | "WRONG" | "CRASH", why, the error) of the samples of an operation."""
    for label, sample in samples(name, info, count):
        if not isinstance(sample.input, (torch.Tensor, list, tuple)):
            continue
        try:
            with torch.no_grad():
                calls, tensors, results = record(function, sample)
        except Exception:  # what PyTorch itself cannot record
            continue
        tensors = [one.detach() for one in tensors]
        if any(one.numel() == 0 or one.dtype not in (torch.float32, torch.int64, torch.bool) for one in tensors):
            continue
        for kind, *arrangement, inputs in arrangements(calls, tensors):
            what = f"{name} [{label}, {kind}, inputs {inputs}] {calls} of {[tuple(one.shape) for one in tensors]}"
            try:
                said, error = check(arrangement[0], arrangement[1], results, arrangement[2], inputs)
            except Invalid:
                continue
            except CylstmError as refusal:
                yield what, "refused", str(refusal), 0.0
            except Exception as crash:
                yield what, "CRASH", f"{type(crash).__name__}: {crash}", 0.0
            else:
                yield what, "right" if said == "right" else "WRONG", said, error


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.filterwarnings("ignore:::torch")
def test_samples_of_pytorchs_own_are_right_or_refused(part):
    counts, faults = Counter(), []
    logging.disable(logging.CRITICAL)  # PyTorch's recording of each call writes down every step of it
    with warnings.catch_warnings(), types_are_compared():
        warnings.simplefilter("ignore")
        for name in sorted(infos())[part::PARTS]:
            for what, kind, why, _ in outcomes(name, *infos()[name]):
                counts[kind] += 1
                if kind in ("WRONG", "CRASH"):
                    faults.append(f"{kind}: {what}: {why}")
    logging.disable(logging.NOTSET)
    assert not faults, "\n".join(faults[:20])
    assert counts["right"] > counts["refused"]
