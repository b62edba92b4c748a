"""ONNX's operators over axes: sums, means and extremes, running sums, softmax, sorting, and Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cylstm.formats.onnx.call import Call
from cylstm.formats.onnx.folding import (
    axes_of,
    axis_of,
    check_count,
    computed,
    folded,
    is_array,
    is_scores,
    is_sizes,
    numbers,
    shape,
    size_array,
    unknown,
)
from cylstm.formats.onnx.operators.elementwise import as_kind
from cylstm.formats.onnx.operators.shapes import product
from cylstm.program.network import Network
from cylstm.program.operations import elementwise as ops
from cylstm.program.operations import parts
from cylstm.program.operations import shape as shapes
from cylstm.program.operations.linear import einsum
from cylstm.program.operations.reduce import cumulate, norm, reduce, top
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import BATCH_SIZE, Constant, Dim, Tensor, dtype_of

# Reductions


def reduction(name: str, since: int = 18) -> Callable[[Call], Any]:
    """A reduction, whose axes are an attribute up to the opset before `since` and an input from it on."""

    def operator(call: Call) -> Any:
        x = call.required(0)
        own = shape(call, x)
        if call.opset < since:
            given = call.attribute("axes", None)
            keeps_all = False
        else:
            given = numbers(call, 1, "axes")
            keeps_all = not given and bool(call.attribute("noop_with_empty_axes", 0))
        axes = axes_of(call, given, len(own)) if given else list(range(len(own)))
        keeps = bool(call.attribute("keepdims", 1))
        if keeps_all:
            if name in ("l1", "l2", "log_sum", "log_sum_exp", "sum_square"):
                raise call.refuse(
                    "noop_with_empty_axes=1 without axes, which programs take for nothing or for the function of each "
                    "number, is not supported"
                )
            return x
        if is_sizes(x):
            if name != "prod" or axes != list(range(len(own))):
                raise unknown(call, "a reduction of sizes", x)
            found = size_array(product(list(x.reshape(-1))))
            return found.reshape([1] * len(own)) if keeps else found
        if is_array(x):
            return _folded_reduction(call, name, x, axes, keeps)
        found = _reduced(call.net, name, x, axes, keeps)
        if dtype_of(x) == "float" or not isinstance(found, Tensor):
            return found
        return as_kind(call, found, dtype_of(x)) if found.dtype == "float" else found.of(dtype_of(x))

    return operator


def _folded_reduction(call: Call, name: str, x: np.ndarray, axes: list[int], keeps: bool) -> Any:
    """A reduction of a constant, of none of its numbers too."""
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    if not x.size:
        empty = {"max": -math.inf, "min": math.inf, "prod": 1, "log_sum": -math.inf, "log_sum_exp": -math.inf}
        left = [1 if i in axes else size for i, size in enumerate(x.shape) if keeps or i not in axes]
        if name == "mean" or x.dtype.kind != "f":
            raise call.refuse(f"a reduction of a constant without numbers, of shape {x.shape}, is not supported")
        return np.full(left, empty.get(name, 0)).astype(x.dtype)
    net = Network(np.float64)
    net.name, net.where = call.net.name, call.net.where
    if name in ("sum", "prod", "max", "min") or not axes:
        functions: Mapping[str, Callable[..., Any]] = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}
        if name in functions:
            return np.asarray(functions[name](wide, axis=tuple(axes), keepdims=keeps)).astype(x.dtype)
    with np.errstate(all="ignore"):
        return np.asarray(_reduced(net, name, wide.astype(np.float64), axes, keeps)).astype(x.dtype)


def _reduced(net: Network, name: str, x: Any, axes: list[int], keeps: bool) -> Any:
    if not axes:  # of one number: an axis of its own
        return _reduced(net, name, np.asarray(x)[np.newaxis] if isinstance(x, np.ndarray) else shapes.unsqueeze(
            net, x, 0), [0], False)  # fmt: skip
    if name == "l1":
        return reduce(net, ops.function(net, x, "abs"), "sum", axes, keeps)
    if name == "l2":
        return norm(net, x, 2, axes, keeps)
    if name == "log_sum":
        return ops.function(net, reduce(net, x, "sum", axes, keeps), "log")
    if name == "log_sum_exp":
        return reduce(net, x, "logsumexp", axes, keeps)
    if name == "sum_square":
        return reduce(net, ops.power(net, x, 2), "sum", axes, keeps)
    return reduce(net, x, name, axes, keeps)


def extreme_place(mode: str) -> Callable[[Call], Any]:
    """Where the first extreme along an axis is, or the last one."""

    def operator(call: Call) -> Any:
        x = call.required(0)
        own = shape(call, x)
        axis = axis_of(call, call.attribute("axis", 0), len(own))
        keeps, takes_last = bool(call.attribute("keepdims", 1)), bool(call.attribute("select_last_index", 0))
        if is_sizes(x):
            raise unknown(call, "the largest of sizes", x)
        if is_array(x):
            function = np.argmax if mode == "argmax" else np.argmin
            found = function(np.flip(x, axis) if takes_last else x, axis, keepdims=keeps)
            return np.asarray(x.shape[axis] - 1 - found if takes_last else found, np.int64)
        net = call.net
        if not takes_last:
            return reduce(net, computed(call, x), mode, axis, keeps)
        found = reduce(net, parts.flip(net, computed(call, x), [axis]), mode, axis, keeps)
        last = own[axis] - 1 if isinstance(own[axis], int) else ops.subtract(net, ops.length(net, own[axis]), 1)
        return ops.subtract(net, last, found).of("int")

    return operator


# Along an axis


def cumulated(mode: str) -> Callable[[Call], Any]:
    def operator(call: Call) -> Any:
        x = call.required(0)
        given = numbers(call, 1, "an axis") or []
        if len(given) != 1:
            raise call.refuse(f"expected one axis, found {given}")
        axis = axis_of(call, given[0], len(shape(call, x)))
        exclusive, backwards = (bool(call.attribute(name, 0)) for name in ("exclusive", "reverse"))
        if is_sizes(x):
            raise unknown(call, "a running sum of sizes", x)
        if is_array(x):
            wide = x.astype(np.float64) if x.dtype.kind == "f" else x
            return cumulate(call.net, wide, mode, axis, exclusive=exclusive, reverse=backwards).astype(x.dtype)
        return cumulate(call.net, x, mode, axis, exclusive=exclusive, reverse=backwards)

    return operator


def softmax_operator(log: bool) -> Callable[[Call], Any]:
    def operator(call: Call) -> Any:
        x = call.required(0)
        if is_scores(x) and not log and call.attribute("axis", -1 if call.opset >= 13 else 1) in (-1, x.ndim - 1):
            return softmax(call.net, x, -1)
        return over_axes(call, x, lambda net, one, axis: softmax(net, one, axis, log=log))

    return operator


def over_axes(call: Call, x: Any, function: Callable[..., Any]) -> Any:
    """A function over an axis; before opset 13, over that axis and all behind it as one."""
    own = shape(call, x)
    if call.opset >= 13:
        axis = axis_of(call, call.attribute("axis", -1), len(own))
        if is_array(x):
            return folded(call, lambda net, one: function(net, one, axis), x)
        return function(call.net, computed(call, x), axis)
    axis = axis_of(call, call.attribute("axis", 1), len(own)) if own else 0
    if is_array(x):
        flat = x.reshape(math.prod(own[:axis]), -1)
        return folded(call, lambda net, one: function(net, one, 1), flat).reshape(own)
    if all(isinstance(size, int) and size == 1 for size in own[axis + 1 :]):
        return function(call.net, computed(call, x), axis)
    if BATCH_SIZE in own[axis:]:
        call.net.axis(computed(call, x), own.index(BATCH_SIZE))
    if any(isinstance(size, Dim) for size in own[axis:]):
        raise call.net.needs_time("over the time and other axes at once")
    flat = shapes.reshape(call.net, computed(call, x), [*own[:axis], product(own[axis:])])
    return shapes.reshape(call.net, function(call.net, flat, axis), own)


def hardmax(call: Call) -> Any:
    """1 at the first of the largest numbers, 0 elsewhere."""
    return over_axes(call, call.required(0), _hardmax)


def _hardmax(net: Network, x: Any, axis: int) -> Any:
    found = reduce(net, x, "argmax", axis, True)
    own = shapes.size(net, x)
    places: Any
    if isinstance(own[axis], Dim):
        steps = net.positions(own[axis].axis, 0.0)
        places = steps.with_axes([steps.axes[0] if i == axis else None for i in range(len(own))])
    else:
        places = np.arange(own[axis]).reshape([-1 if i == axis else 1 for i in range(len(own))])
    return ops.cast(net, ops.binary(net, "equal", found, places), "float")


def topk(call: Call) -> Any:
    x = call.required(0)
    own = shape(call, x)
    axis = axis_of(call, call.attribute("axis", -1), len(own))
    largest = bool(call.attribute("largest", 1))
    given = [call.attribute("k", 0)] if call.opset < 10 else call.sizes(1, "the number of the largest numbers")
    if len(given) != 1 or is_sizes(x):
        raise call.refuse(f"expected one number k, found {given}")
    count = given[0]
    if isinstance(count, Dim):
        if count != own[axis]:
            raise unknown(call, "as many of the largest numbers as a size", size_array([count]))
        count = 0  # all of them
    elif count < 1:
        raise call.refuse("none of the largest numbers is not supported")
    elif isinstance(own[axis], int) and count > own[axis]:
        raise call.refuse(f"{count} of the largest of {own[axis]} numbers")
    if not is_array(x):
        return top(call.net, computed(call, x), count, axis, largest)
    order = np.argsort(-x.astype(np.float64) if largest else x, axis, kind="stable")
    if x.dtype.kind in "iu" and largest:
        order = np.argsort(np.iinfo(x.dtype).max - x, axis, kind="stable")
    order = np.take(order, np.arange(count), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


def einsum_operator(call: Call) -> Any:
    equation = call.attribute("equation")
    operands = list(call.inputs)
    if any(map(is_sizes, operands)):
        raise unknown(call, "a sum of products of sizes", *filter(is_sizes, operands))
    if all(map(is_array, operands)):
        _check_einsum(call, equation.replace(" ", ""), operands)
        return np.asarray(np.einsum(equation.replace(" ", ""), *operands), operands[0].dtype)
    operands = [call.net.constant(one) if isinstance(one, Constant) else one for one in operands]
    found = einsum(call.net, equation, operands)
    kind = ops.joined_dtype(*operands)
    return found if kind == "float" or not isinstance(found, Tensor) else found.of(kind)


def _check_einsum(call: Call, equation: str, operands: Sequence[np.ndarray]) -> None:
    """Raise `UnsupportedError` for a result of too many numbers; what ``...`` stands for counts as an operand."""
    terms, arrow, result = equation.partition("->")
    sizes: dict[str, int] = {}
    for term, array in zip(terms.split(","), operands):
        before, _, after = term.partition("...")
        sizes |= dict(zip(before, array.shape))
        sizes |= dict(zip(after[::-1], array.shape[::-1]))
    named = result.replace("...", "") if arrow else "".join(one for one in sizes if terms.count(one) == 1)
    repeated = max(array.size for array in operands) if "..." in terms else 1
    check_count(call, [*(sizes.get(one, 1) for one in named), repeated])


OPERATORS: Mapping[str, Callable[[Call], Any]] = {
    "ReduceSum": reduction("sum", 13),
    "ReduceMean": reduction("mean"),
    "ReduceMax": reduction("max"),
    "ReduceMin": reduction("min"),
    "ReduceProd": reduction("prod"),
    "ReduceL1": reduction("l1"),
    "ReduceL2": reduction("l2"),
    "ReduceLogSum": reduction("log_sum"),
    "ReduceLogSumExp": reduction("log_sum_exp"),
    "ReduceSumSquare": reduction("sum_square"),
    "ArgMax": extreme_place("argmax"),
    "ArgMin": extreme_place("argmin"),
    "CumSum": cumulated("sum"),
    "CumProd": cumulated("prod"),
    "Softmax": softmax_operator(False),
    "LogSoftmax": softmax_operator(True),
    "Hardmax": hardmax,
    "TopK": topk,
    "Einsum": einsum_operator,
}
