"""Affine maps and products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cylstm.errors import ShapeError
from cylstm.program.network import MIXES, Network, describe
from cylstm.program.operations.attention import computed_scores, weighted
from cylstm.program.operations.elementwise import add, binary, multiply
from cylstm.program.operations.products import product
from cylstm.program.operations.reduce import reduce
from cylstm.program.operations.shape import flatten, permute, reshape, squeeze, transpose, unsqueeze
from cylstm.program.tensor import BATCH, BATCH_SIZE, Constant, Dim, Scores, Tensor, constant, is_constant, shape_of


def linear(net: Network, x: Any, weight: Any, bias: Any = None, *, part: str = "") -> Any:
    """x times the transpose of a weight (outputs, inputs), over the last axis."""
    if not is_constant(weight) or (bias is not None and not is_constant(bias)):
        y = matmul(net, x, transpose(net, weight, -2, -1) if len(shape_of(weight)) > 1 else weight)
        return y if bias is None else add(net, y, bias)
    matrix = net.array(weight)
    if matrix.ndim == 1:
        y = linear(net, x, matrix[np.newaxis], bias, part=part)
        return squeeze(net, y, -1)
    if isinstance(x, Constant):
        y = _product_of_constants(net, x, matrix.T)
        return y if bias is None else add(net, y, net.array(bias))
    x = net.constant(x) if is_constant(x) else net.tensor(x)
    axis = net.axis(x, -1)
    if x.size(axis) != matrix.shape[1]:
        raise ShapeError(f"{net.place_name}: expected {matrix.shape[1]} features, found a tensor of shape {x.shape}")
    x = net.last(x, axis)
    weights = {"weight": np.ascontiguousarray(matrix), "bias": net.array(bias)}
    return Tensor(net.add_layer("dense", x.value, weights, part=part), x.axes)


def embedding(net: Network, indices: Any, table: Any) -> Any:
    """Rows of a table, chosen by whole numbers."""
    if not is_constant(table):
        raise net.refuse("an embedding whose table the network computes is not supported")
    rows = net.array(table)
    if isinstance(indices, Constant):
        chosen = rows[indices.array.astype(np.int64)]
        return constant(chosen, [*indices.shape, *rows.shape[1:]])
    if is_constant(indices):
        return rows[np.asarray(indices, np.int64)]
    if isinstance(indices, Tensor) and indices.value.kind == "index":
        value = net.add_layer("embedding", indices.value, {"weight": rows})
        return Tensor(value, (*indices.axes, len(value.shape) - 1))
    x = net.tensor(indices)
    if x.dtype == "float":
        raise net.refuse("expected whole numbers to choose rows of an embedding, found floating-point numbers")
    # the row of a number is a product with the table of a vector that is 1 there and 0 elsewhere
    if len(rows) > _MOST_COMPUTED_ROWS:
        raise net.refuse(
            f"an embedding of {len(rows)} rows that computed numbers choose is not supported, up to "
            f"{_MOST_COMPUTED_ROWS} are; give the numbers as an input"
        )
    chosen = binary(net, "equal", unsqueeze(net, x, -1), np.arange(len(rows)).astype(net.dtype))
    return linear(net, chosen, rows.T)


_MOST_COMPUTED_ROWS = 4096


def matmul(net: Network, a: Any, b: Any) -> Any:
    """The product of matrices in the last two axes, or of vectors, as NumPy's matmul."""
    if is_constant(a) and is_constant(b):
        return _product_of_constants(net, a, b)
    if is_constant(b) and not any(isinstance(size, Dim) for size in shape_of(b)):
        matrix = net.array(b)
        if matrix.ndim <= 2:
            return linear(net, a, matrix if matrix.ndim == 1 else matrix.T)
        if math.prod(matrix.shape[:-2]) == 1:
            y = linear(net, a, matrix.reshape(matrix.shape[-2:]).T)
            return reshape_front(net, y, matrix.ndim)
    if isinstance(a, Scores) and a.is_softmax:
        return weighted(net, a, net.tensor(b))
    if is_constant(a) and len(shape_of(a)) == 2 and len(shape_of(b)) >= 2:
        return transpose(net, linear(net, transpose(net, b, -2, -1), net.array(a)), -2, -1)
    a, b = (net.constant(one) if is_constant(one) else net.tensor(one) for one in (a, b))
    if a.ndim == 1:
        return squeeze(net, matmul(net, unsqueeze(net, a, 0), b), -2)
    if b.ndim == 1:
        return squeeze(net, matmul(net, a, unsqueeze(net, b, -1)), -1)
    rank = max(a.ndim, b.ndim)
    a, b = (one.with_axes((None,) * (rank - one.ndim) + one.axes) for one in (a, b))
    if BATCH in (*_last_two(a), *_last_two(b)):
        raise net.refuse(f"a product of shapes {a.shape} and {b.shape} {MIXES}")
    if a.size(rank - 1) != b.size(rank - 2):
        raise ShapeError(f"{net.place_name}: a product of shapes {a.shape} and {b.shape} does not fit")
    if a.size(rank - 2) == 1:
        # one row: the sum over k of a[k] b[k, j]
        column = transpose(net, a, -2, -1)
        return unsqueeze(net, reduce(net, net.merge("mul", [column, b]), "sum", rank - 2), -2)
    if b.size(rank - 1) == 1:
        row = transpose(net, b, -2, -1)
        return reduce(net, net.merge("mul", [a, row]), "sum", rank - 1, True)
    scores = _as_scores(a, transpose(net, b, -2, -1))
    return product(net, a, b) if scores is None else scores


def _product_of_constants(net: Network, a: Any, b: Any) -> Any:
    """A product of which no size is unknown that is summed over."""
    if not any(isinstance(size, Dim) for size in (*shape_of(a), *shape_of(b))):
        return np.matmul(a, b)
    if isinstance(b, Constant) or np.ndim(b) > 2 or isinstance(shape_of(a)[-1], Dim):
        raise net.refuse("a product of constants of unknown sizes is not supported")
    return constant(np.matmul(a.array, b), [*shape_of(a)[:-1], *np.shape(b)[1:]])


def reshape_front(net: Network, y: Any, rank: int) -> Any:
    """`y` with axes of size 1 in front, up to this rank."""
    while len(shape_of(y)) < rank:
        y = unsqueeze(net, y, 0)
    return y


def _last_two(x: Tensor) -> list[Any]:
    found: list[Any] = []
    for places in x.axes[-2:]:
        found += places if isinstance(places, tuple) else (places,)
    return found


def _as_scores(query: Tensor, key: Tensor) -> Scores | None:
    """The scores of attention, if two tensors have its form: (batch, time, size), with heads beside the batch."""
    joined = isinstance(query.axes[0], tuple)
    if joined != isinstance(key.axes[0], tuple) or query.ndim not in (3, 4) or query.ndim != key.ndim:
        return None
    if joined:
        first = [query.axes[0], key.axes[0]]
        if query.ndim != 3 or any(len(p) != 2 or p[0] != BATCH for p in first):  # type: ignore[arg-type, index]
            return None
        query, key = (one.with_axes((*one.axes[0], *one.axes[1:])) for one in (query, key))  # type: ignore[misc]
    if query.is_joined or key.is_joined or query.axes[0] != BATCH or key.axes[0] != BATCH:
        return None
    if query.ndim == 4 and (query.size(1) != key.size(1) or not isinstance(query.size(1), int)):
        return None
    if not isinstance(query.size(query.ndim - 1), int):
        return None
    return Scores(query, key, computed_scores, joined=joined)


def einsum(net: Network, equation: str, operands: Sequence[Any]) -> Any:
    """A sum of products over axes by their names, ``bij,bjk->bik``."""
    equation = str(equation).replace(" ", "")
    inputs, arrow, result = equation.partition("->")
    terms = inputs.split(",")
    if "." in equation:
        terms, result = _spelled_out(net, terms, result, operands, bool(arrow))
        arrow = "->"
    if not arrow:
        letters = "".join(terms)
        result = "".join(sorted(one for one in set(letters) if letters.count(one) == 1))
    if len(terms) != len(operands) or any(len(t) != len(shape_of(o)) for t, o in zip(terms, operands)):
        raise ShapeError(f"{net.place_name}: einsum {equation!r} of {', '.join(map(describe, operands))}")
    if all(is_constant(one) and not any(isinstance(s, Dim) for s in shape_of(one)) for one in operands):
        return np.einsum(f"{','.join(terms)}->{result}", *operands)
    if any(len(set(term)) < len(term) for term in (*terms, result)):
        raise net.refuse(f"einsum {equation!r}: a name twice in one place is not supported")
    found, named = operands[0], terms[0]
    found, named = _summed(net, found, named, set(result).union(*terms[1:]))
    for k in range(1, len(terms)):
        wanted = set(result).union(*terms[k + 1 :])
        other, other_named = _summed(net, operands[k], terms[k], wanted | set(named))
        found, named = _two(net, found, named, other, other_named, wanted)
    return permute(net, found, [named.index(one) for one in result])


def _spelled_out(
    net: Network, terms: list[str], result: str, operands: Sequence[Any], is_given: bool
) -> tuple[list[str], str]:
    """Terms with letters for the axes that ``...`` stands for."""
    free = [one for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if one not in "".join(terms) + result]
    most = max(len(shape_of(o)) - len(t.replace("...", "")) for t, o in zip(terms, operands) if "..." in t)
    letters = "".join(free[:most])
    found = []
    for term, operand in zip(terms, operands):
        count = len(shape_of(operand)) - len(term.replace("...", ""))
        found.append(term.replace("...", letters[most - count :] if count else ""))
    if not is_given:
        every = "".join(found)
        result = letters + "".join(sorted(o for o in set(every) if every.count(o) == 1 and o not in letters))
    return found, result.replace("...", letters)


def _summed(net: Network, x: Any, named: str, kept: set[str]) -> tuple[Any, str]:
    """`x` summed over the axes that nothing else has."""
    gone = [i for i, one in enumerate(named) if one not in kept]
    if gone:
        x = reduce(net, x, "sum", gone)
    return x, "".join(one for one in named if one in kept)


def _two(net: Network, a: Any, a_named: str, b: Any, b_named: str, wanted: set[str]) -> tuple[Any, str]:
    """The product of two operands, summed over what is in both and not wanted."""
    both = [one for one in a_named if one in b_named]
    inside = [one for one in both if one not in wanted]
    lead = [one for one in both if one in wanted]
    left = [one for one in a_named if one not in both]
    right = [one for one in b_named if one not in both]
    if is_constant(a) and not is_constant(b):
        return _two(net, b, b_named, a, a_named, wanted)
    if is_constant(b) and not lead and inside:
        x = permute(net, a, [a_named.index(one) for one in (*left, *inside)])
        x = flatten(net, x, len(left), -1) if len(inside) > 1 else x
        array = np.asarray(b).transpose([b_named.index(one) for one in (*right, *inside)])
        sizes = array.shape[: len(right)]
        y = linear(net, x, array.reshape(math.prod(sizes), -1))
        if not right:
            return squeeze(net, y, -1), "".join(left)
        if len(right) > 1:
            shape = shape_of(y)
            y = reshape(net, y, [*shape[:-1], *sizes])
        return y, "".join((*left, *right))
    if inside and left and right:
        # the batch of one operand is an axis of size 1 of the other: each row is a product of its own
        for one in [one for one in left if shape_of(a)[a_named.index(one)] == BATCH_SIZE]:
            b, b_named = unsqueeze(net, b, 0), one + b_named
            left, lead = [other for other in left if other != one], [one, *lead]
        for one in [one for one in right if shape_of(b)[b_named.index(one)] == BATCH_SIZE]:
            a, a_named = unsqueeze(net, a, 0), one + a_named
            right, lead = [other for other in right if other != one], [one, *lead]
    if not (left and right and inside):
        # one operand has all axes of the other, or nothing is summed: a product element by element, and sums
        whole = [*lead, *inside, *left, *right]
        spread = []
        for x, named in ((a, a_named), (b, b_named)):
            y = permute(net, x, [named.index(one) for one in whole if one in named])
            for at, one in enumerate(whole):
                if one not in named:
                    y = unsqueeze(net, y, at)
            spread.append(y)
        y = multiply(net, *spread)
        if inside:
            y = reduce(net, y, "sum", list(range(len(lead), len(lead) + len(inside))))
        return y, "".join((*lead, *left, *right))
    a, b = (net.constant(one) if is_constant(one) else net.tensor(one) for one in (a, b))
    x = permute(net, a, [a_named.index(one) for one in (*lead, *left, *inside)])
    y = permute(net, b, [b_named.index(one) for one in (*lead, *inside, *right)])
    left_sizes = shape_of(x)[len(lead) : len(lead) + len(left)]
    right_sizes = shape_of(y)[len(lead) + len(inside) :]
    if BATCH_SIZE in (*left_sizes, *right_sizes):
        raise net.refuse(f"einsum between rows of the batch {MIXES}")
    if len(inside) > 1:
        x = flatten(net, x, len(lead) + len(left), -1)
        y = flatten(net, y, len(lead), len(lead) + len(inside) - 1)
    if len(left) > 1:
        x = flatten(net, x, len(lead), len(lead) + len(left) - 1)
    if len(right) > 1:
        y = flatten(net, y, len(lead) + 1, -1)
    z = matmul(net, x, y)
    shape = shape_of(z)
    if len(left) > 1 or len(right) > 1:
        z = reshape(net, z, [*shape[: len(lead)], *left_sizes, *right_sizes])
    return z, "".join((*lead, *left, *right))
