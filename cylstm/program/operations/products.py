"""The product of two computed matrices, a layer of its own."""

from __future__ import annotations

from typing import Any

from cylstm.errors import ShapeError
from cylstm.graph.values import Option
from cylstm.program.network import MIXES, Network
from cylstm.program.operations.shape import transpose
from cylstm.program.tensor import BATCH, Dim, Tensor


def product(net: Network, a: Tensor, b: Tensor) -> Tensor:
    """The product of computed matrices, a layer of its own."""
    tensors, counts = net.apart([a, b])
    a, b = tensors
    rank = a.ndim
    lead = [i for i in range(rank - 2) if a.axes[i] is not None or b.axes[i] is not None]
    batches = {t.axes.index(BATCH) for t in (a, b) if BATCH in t.axes}
    if len(batches) > 1 or any(t.axes[i] not in (BATCH, None) and t.size(i) != 1 for t in (a, b) for i in batches):
        raise net.refuse(f"a product of shapes {a.shape} and {b.shape} {MIXES}")
    lead = [i for i in lead if i not in batches]
    for i in lead:
        if a.size(i) != b.size(i) and 1 not in (a.size(i), b.size(i)):
            raise ShapeError(f"{net.place_name}: a product of shapes {a.shape} and {b.shape} does not fit")
    rows, inside, columns = rank - 2, rank - 1, rank - 1
    if isinstance(b.size(columns), Dim):
        if isinstance(a.size(rows), Dim):
            raise net.needs_time("a product with a row and a column for each step")
        # the time has to come first: the transpose of the product of the transposes
        swapped = product(net, transpose(net, b, -2, -1), transpose(net, a, -2, -1))
        return transpose(net, net.rejoin(swapped, counts), -2, -1)  # type: ignore[no-any-return]
    over_time = isinstance(a.size(inside), Dim)
    if over_time and lead:
        raise net.needs_time("a product over the time of several matrices at once")
    lead.sort(key=lambda i: not (isinstance(a.size(i), Dim) or isinstance(b.size(i), Dim)))
    if isinstance(a.size(rows), Dim) and lead:
        raise net.needs_time("a product of several matrices of a row for each step at once")
    first = [inside, rows] if over_time else [rows, inside]
    x, x1 = net.arrange(a, [*lead, *first]), net.arrange(b, [*lead, rows, columns])
    options: dict[str, Option] = {"transpose_x": first[0] == inside, "transpose_x1": False}
    value = net.add_layer("matmul", x, options=options, x1=x1)
    axes: list[Any] = [None] * rank
    for t in (a, b):
        if BATCH in t.axes:
            axes[t.axes.index(BATCH)] = BATCH
    for at, i in enumerate(lead):
        axes[i] = at
    axes[rows], axes[columns] = len(lead), len(lead) + 1
    return net.rejoin(Tensor(value, tuple(axes)), counts)
