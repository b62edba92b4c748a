"""What each function of PyTorch and method of a tensor becomes: one function each, in the table `OPERATIONS`."""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cylstm.formats.torch import modules as layers
from cylstm.formats.torch.graph import BATCH, Dim, Frames, Rows, Scores, Stack, Tensor, Unavailable, Wiring
from cylstm.formats.torch.rows import flat, has_rows, on_rows
from cylstm.graph.graph import Axis

#: of float32
_LARGEST = 3.4028234663852886e38
_SYMBOLS = (Tensor, Stack, Scores, Unavailable, Dim, Rows, Frames)
#: of rows too
_OF_SHAPES = frozenset(("view", "reshape", "view_as", "reshape_as", "flatten", "size", "dim"))


def call_operation(w: Wiring, node: Any, args: tuple, kwargs: dict) -> object:
    """The result of a function or a method. Raises `UnsupportedError` for one that has no function here."""
    import torch

    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    known = OPERATIONS.get(name)
    if node.op == "call_function":
        homes = (operator, torch, torch.nn.functional, math, builtins)
        if not any(getattr(home, name, None) is node.target for home in homes):
            known = None
    if not any(isinstance(one, _SYMBOLS) for one in flat((args, kwargs))):
        # of constants alone: PyTorch itself gives it
        if node.op == "call_method":
            return getattr(args[0], name)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)
    if known is None:
        what = f"the method {name!r}" if node.op == "call_method" else f"the function {name or node.target!r}"
        raise w.refuse(f"{what} is not supported")
    if has_rows((args, kwargs)) and name not in _OF_SHAPES and not (name == "getattr" and args[1] in ("shape", "ndim")):
        return on_rows(w, name, functools.partial(known, w), args, kwargs)
    return known(w, *args, **kwargs)


def _is_constant(found: object) -> bool:
    return isinstance(found, (int, float)) or (hasattr(found, "dtype") and not isinstance(found, _SYMBOLS))


def _number(found: object) -> object:
    """A constant as a number or an array."""
    return found.detach().cpu().numpy() if hasattr(found, "detach") else found


# Arithmetic


def add(w: Wiring, a: object, b: object, *, alpha: float = 1) -> object:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return (*a, *b)
    if alpha != 1:
        b = mul(w, b, alpha)
    if _is_constant(b):
        return w.affine(w.tensor(a), 1.0, _number(b))
    if _is_constant(a):
        return w.affine(w.tensor(b), 1.0, _number(a))
    return w.merge("sum", [w.tensor(a), w.tensor(b)])


def sub(w: Wiring, a: object, b: object, *, alpha: float = 1) -> Tensor:
    if alpha != 1:
        b = mul(w, b, alpha)
    if _is_constant(b):
        return w.affine(w.tensor(a), 1.0, -_number(b))
    if _is_constant(a):
        return w.affine(w.tensor(b), -1.0, _number(a))
    return w.merge("sub", [w.tensor(a), w.tensor(b)])


def mul(w: Wiring, a: object, b: object) -> object:
    if isinstance(a, (Dim, int)) and isinstance(b, (Dim, int)):
        return Dim((a, b))
    if _is_constant(a):
        a, b = b, a
    if _is_constant(b):
        if isinstance(a, Scores) and isinstance(b, (int, float)) and not a.is_softmax:
            return Scores(a.query, a.key, a.scale * b)
        return w.affine(w.tensor(a), _number(b), 0.0)
    return w.merge("mul", [w.tensor(a), w.tensor(b)])


def div(w: Wiring, a: object, b: object, *, rounding_mode: str | None = None) -> object:
    if rounding_mode is not None:
        raise w.refuse("rounding_mode is not supported")
    if _is_constant(b):
        return mul(w, a, 1.0 / _number(b))
    if _is_constant(a):
        raise w.refuse("a constant divided by a tensor is not supported")
    return w.merge("div", [w.tensor(a), w.tensor(b)])


def power(w: Wiring, x: object, exponent: object) -> Tensor:
    x = w.tensor(x)
    if exponent not in (1, 2, 3):
        raise w.refuse(f"a power of {exponent!r}: only 1, 2 and 3 are supported")
    return w.merge("mul", [x] * int(exponent)) if exponent > 1 else x


def extreme(mode: str) -> Callable[..., object]:
    """``max`` and ``min``: of two tensors, or along an axis."""

    def found(w: Wiring, a: object, b: object = None, keepdim: bool = False, *, dim: object = None) -> object:
        if isinstance(b, (Tensor, Stack)):
            return w.merge(mode, [w.tensor(a), w.tensor(b)])
        dim = b if dim is None else dim
        if dim is None:
            raise w.refuse("over all axes mixes the rows of a batch; say dim=")
        return (reduce(w, a, mode, dim, keepdim), Unavailable("the indices of a maximum or minimum are not computed"))

    return found


def elementwise(mode: str) -> Callable[..., Tensor]:
    return lambda w, a, b: w.merge(mode, [w.tensor(a), w.tensor(b)])


def clamp(w: Wiring, x: object, min: float | None = None, max: float | None = None) -> Tensor:
    low, high = (-_LARGEST if min is None else min), (_LARGEST if max is None else max)
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        raise w.refuse("clamp by tensors is not supported")
    return layers.activation(w, x, "clip", float(low), float(high))


def absolute(w: Wiring, x: object) -> Tensor:
    x = w.tensor(x)
    return w.merge("max", [x, w.affine(x, -1.0, 0.0)])


# Along axes


def reduce(w: Wiring, x: object, mode: str, dim: object = None, keepdim: bool = False) -> Tensor:
    x = w.tensor(x)
    if dim is None or dim == ():
        raise w.refuse("over all axes mixes the rows of a batch; say dim=")
    axes = sorted((w.axis(x, one) for one in ([dim] if isinstance(dim, int) else dim)), reverse=True)
    for axis in axes:
        stored = x.axes[axis]
        kept: list[int | None] = list(x.axes)
        kept[axis] = None
        if stored is None:
            if mode not in ("mean", "sum", "max", "min"):
                raise w.refuse(f"{mode} is not supported")
            value = x.value
        else:
            rank = len(x.value.shape)
            value = w.add_layer("reduce", x.value, options={"mode": mode, "axis": stored})
            kept = [a - 1 if a not in (None, BATCH) and a > stored else a for a in kept]
            if rank == 1:
                kept = [BATCH if a == BATCH else None for a in kept]
        x = Tensor(value, tuple(kept))
    if not keepdim:
        x = Tensor(x.value, tuple(a for i, a in enumerate(x.axes) if i not in axes))
    return x


def reduction(mode: str) -> Callable[..., Tensor]:
    return lambda w, x, dim=None, keepdim=False: reduce(w, x, mode, dim, keepdim)


def normalize(w: Wiring, x: object, p: float = 2.0, dim: object = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """x / |x| along an axis: by the root of the mean of squares, and by that of the count."""
    if p != 2 or type(dim) is not int:
        raise w.refuse(f"only the norm p=2 along one axis is supported, found p={p!r}, dim={dim!r}")
    x = w.tensor(x)
    x = w.last(x, w.axis(x, dim))
    count = x.value.features
    gain = np.full(count, 1.0 / math.sqrt(count), w.dtype)
    options = {"mode": "rms", "epsilon": eps * eps / count}
    return Tensor(w.add_layer("layer_norm", x.value, {"gain": gain}, options, part="unit"), x.axes)


def norm(
    w: Wiring,
    x: object,
    p: object = "fro",
    dim: object = None,
    keepdim: bool = False,
    out: None = None,
    dtype: None = None,
) -> Tensor:
    """|x| along an axis: the sum of x (x / |x|)."""
    dim = dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim
    x = w.tensor(x)
    return reduce(w, w.merge("mul", [x, normalize(w, x, 2.0 if p == "fro" else p, dim)]), "sum", dim, keepdim)


def cat(w: Wiring, tensors: Sequence[object], dim: int = 0, *, axis: int | None = None) -> object:
    dim = dim if axis is None else axis
    return w.concat([w.tensor(one) for one in tensors], dim)


def stack(w: Wiring, tensors: Sequence[object], dim: int = 0) -> Tensor:
    return w.concat([unsqueeze(w, one, dim) for one in tensors], dim)


def flip(w: Wiring, x: object, *dims: object) -> Tensor:
    x = w.tensor(x)
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    for dim in dims:
        axis = w.axis(x, dim)
        if x.axes[axis] is None:
            continue
        order = [axis, *[i for i in x.stored if i != axis]]
        value = w.arrange(x, order)
        if len(value.shape) == 1:
            raise w.refuse("flip of the features alone is not supported")
        x = w.place(w.add_layer("reverse", value), order, x)
    return x


def split(w: Wiring, x: object, sizes: object, dim: int = 0) -> tuple:
    x = w.tensor(x)
    axis = w.axis(x, dim)
    total = x.size(axis)
    if not isinstance(total, int):
        raise w.refuse("a split of the time needs the number of steps in advance")
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    if sum(sizes) != total:
        raise w.refuse(f"a split of {total} numbers into {list(sizes)}")
    parts, start = [], 0
    for size in sizes:
        parts.append(narrow(w, x, axis, start, size))
        start += size
    return tuple(parts)


def chunk(w: Wiring, x: object, chunks: int, dim: int = 0) -> tuple:
    x = w.tensor(x)
    total = x.size(w.axis(x, dim))
    if not isinstance(total, int):
        raise w.refuse("a split of the time needs the number of steps in advance")
    return split(w, x, math.ceil(total / chunks), dim)


def unbind(w: Wiring, x: object, dim: int = 0) -> tuple:
    x = w.tensor(x)
    total = x.size(w.axis(x, dim))
    if not isinstance(total, int):
        raise w.refuse("unbind of the time needs the number of steps in advance")
    return tuple(select(w, x, dim, i) for i in range(total))


def narrow(w: Wiring, x: object, dim: int, start: int, length: int) -> Tensor:
    x = w.tensor(x)
    axis = w.axis(x, dim)
    if x.size(axis) == length:
        return x
    options = {"axis": x.axes[axis], "start": start, "count": length}
    return Tensor(w.add_layer("slice", x.value, options=options), x.axes)


def select(w: Wiring, x: object, dim: int, index: int) -> Tensor:
    """One number of an axis, which the result has no more."""
    x = w.tensor(x)
    axis = w.axis(x, dim)
    left = x.axes[:axis] + x.axes[axis + 1 :]
    stored, size = x.axes[axis], x.size(axis)
    if isinstance(size, int) and not -size <= index < size:
        raise w.refuse(f"index {index} of an axis of {size}")
    if stored is None:
        return Tensor(x.value, left)
    if (
        stored == 0
        and x.value.has_time
        and len(x.value.shape) > 1
        and (index == -1 or (isinstance(size, int) and index == size - 1))
    ):
        # the last step; where a length ends a row, its last one
        value = w.add_layer("last", x.value)
        return Tensor(value, tuple(a - 1 if a not in (None, BATCH) else a for a in left))
    index = index % size if isinstance(size, int) else index
    return Tensor(w.add_layer("slice", x.value, options={"axis": stored, "start": index, "count": 1}), left)


def part(w: Wiring, x: Tensor, axis: int, cut: slice) -> Tensor:
    """``x[start:stop:step]`` of one axis."""
    size = x.size(axis)
    start, stop, step = cut.start, cut.stop, 1 if cut.step is None else cut.step
    if stop == size:
        stop = None
    if (start, stop, step) in ((None, None, 1), (0, None, 1)):
        return x
    if x.axes[axis] == BATCH:
        raise w.refuse("a part of the batch mixes its rows, which are predicted each for itself")
    if stop is not None and x.cropped and (start in (None, 0)) and step == 1 and stop == -x.cropped:
        return Tensor(x.value, x.axes)
    if isinstance(size, int):
        start, stop, step = slice(start, stop, step).indices(size)
        count = len(range(start, stop, step))
        if not count:
            raise w.refuse("an empty part of an axis")
        if x.axes[axis] is None:
            return x
        options = {"axis": x.axes[axis], "start": start, "count": count, "step": step}
        return Tensor(w.add_layer("slice", x.value, options=options), x.axes)
    start = 0 if start is None else start
    before_end = 0 if stop is None else -stop
    if not isinstance(start, int) or start < 0 or before_end < 0:
        from cylstm.graph.graph import StaticTimeNeeded

        raise StaticTimeNeeded(f"layer {w.name!r}: such a part of the time needs the number of steps in advance")
    return layers.cut(w, x, axis, start, before_end, step)


def getitem(w: Wiring, x: object, index: object) -> object:
    if isinstance(x, (tuple, list)):
        return x[index]
    if isinstance(x, Unavailable):
        raise w.refuse(x.reason)
    if isinstance(x, Stack):
        if isinstance(index, int):
            return Tensor(x.parts[index], (BATCH, 0))
        if isinstance(index, slice):
            return Stack(x.parts[index])
    x = w.tensor(x)
    index = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in index:
        place = index.index(Ellipsis)
        used = sum(one is not None and one is not Ellipsis for one in index)
        index[place : place + 1] = [slice(None)] * (len(x.axes) - used)
    axis = 0
    for one in index:
        if one is None:
            x = unsqueeze(w, x, axis)
            axis += 1
        elif isinstance(one, slice):
            x = part(w, x, axis, one)
            axis += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            x = select(w, x, axis, one)
        else:
            raise w.refuse("indices that are not plain numbers and slices are not supported")
    return x


# Axes


def permute(w: Wiring, x: object, *dims: object) -> Tensor:
    x = w.tensor(x)
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    if sorted(dim % len(x.axes) for dim in dims) != list(range(len(x.axes))):
        raise w.refuse(f"a permutation {dims} of {len(x.axes)} axes")
    return Tensor(x.value, tuple(x.axes[dim] for dim in dims))


def transpose(w: Wiring, x: object, dim0: int, dim1: int) -> Tensor:
    x = w.tensor(x) if not (isinstance(x, Tensor) and x.value.kind == "index") else x
    axes = list(x.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return Tensor(x.value, tuple(axes))


def matrix_transpose(w: Wiring, x: object) -> Tensor:
    return transpose(w, x, -2, -1)


def movedim(w: Wiring, x: object, source: int, destination: int) -> Tensor:
    x = w.tensor(x)
    axes = list(x.axes)
    axes.insert(destination % len(axes), axes.pop(source))
    return Tensor(x.value, tuple(axes))


def squeeze(w: Wiring, x: object, dim: object = None) -> Tensor:
    x = w.tensor(x)
    dims = range(len(x.axes)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {i % len(x.axes) for i in dims if x.size(i) == 1}
    return Tensor(x.value, tuple(a for i, a in enumerate(x.axes) if i not in gone))


def unsqueeze(w: Wiring, x: object, dim: int) -> Tensor:
    x = w.tensor(x)
    axes = list(x.axes)
    axes.insert(dim % (len(axes) + 1), None)
    return Tensor(x.value, tuple(axes))


def view(w: Wiring, x: object, *shape: object) -> Tensor:
    return layers.reshape(w, x, shape)


def expand(w: Wiring, x: object, *shape: object) -> Tensor:
    """Repeats axes of size 1, of which only those that are none are taken: operations repeat them anyway."""
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if _is_constant(x):
        return x.expand([1 if isinstance(size, Dim) else size for size in shape])
    x = w.tensor(x)
    rank = len(shape)
    axes = (None,) * (rank - len(x.axes)) + x.axes
    wide = Tensor(x.value, axes)
    for i, size in enumerate(shape):
        if size in (-1, wide.size(i)):
            continue
        if wide.size(i) == 1 and _is_time(size):
            wide = w.repeated_over(wide, i, size)
            continue
        if wide.size(i) != 1 or not isinstance(size, int):
            raise w.refuse(f"an expansion of {x.shape} to {tuple(shape)} is not supported")
        wide = repeated(w, wide, i, size)
    return wide


def _is_time(size: object) -> bool:
    return isinstance(size, Dim) and isinstance(size.of, Axis)


def repeated(w: Wiring, x: Tensor, axis: int, count: int) -> Tensor:
    """An axis of size 1 made `count` times as long."""
    if x.axes[axis] is None:
        if any(isinstance(x.size(i), Dim) for i in x.inner):
            x = w.last(x, axis)
        else:
            order = [axis, *x.stored]
            x = w.place(w.arrange(x, order), order, x)
    options = {"axis": x.axes[axis], "size": count}
    return Tensor(w.add_layer("upsample", x.value, options=options), x.axes)


def repeat(w: Wiring, x: object, *counts: object) -> Tensor:
    counts = counts[0] if len(counts) == 1 and isinstance(counts[0], (tuple, list)) else counts
    if _is_constant(x):
        return x.repeat([1 if isinstance(count, Dim) else count for count in counts])
    x = w.tensor(x)
    x = Tensor(x.value, (None,) * (len(counts) - len(x.axes)) + x.axes)
    for i, count in enumerate(counts):
        if count == 1:
            continue
        if _is_time(count) and x.size(i) == 1:
            x = w.repeated_over(x, i, count)
            continue
        if x.axes[i] == BATCH or not isinstance(count, int):
            raise w.refuse(f"a repetition {tuple(counts)} of {x.shape} is not supported")
        x = repeated(w, x, i, count) if x.size(i) == 1 else w.concat([x] * count, i)
    return x


def size(w: Wiring, x: object, dim: int | None = None) -> object:
    shape = x.shape if isinstance(x, (Tensor, Stack, Rows, Frames)) else w.tensor(x).shape
    return shape if dim is None else shape[dim]


def attribute(w: Wiring, x: object, name: str) -> object:
    if isinstance(x, tuple) and name in ("values", "indices"):
        return x[0 if name == "values" else 1]
    if name == "shape":
        return size(w, x)
    if name in ("mT", "T") and (name == "mT" or len(w.tensor(x).axes) == 2):
        return matrix_transpose(w, x)
    if name in ("device", "dtype", "requires_grad", "is_cuda"):
        import torch

        return {"device": torch.device("cpu"), "dtype": torch.float32}.get(name, False)
    if name == "ndim":
        return len(size(w, x))
    raise w.refuse(f"the attribute {name!r} of a tensor is not supported")


def made(function: str) -> Callable[..., Any]:
    """``torch.zeros`` and the like with the batch's size in the shape: a constant that is the same for all rows."""

    def make(w: Wiring, *shape: object, dtype: object = None, device: object = None, **kwargs: object) -> Any:
        import torch

        fill = [shape[-1]] if function == "full" else []
        shape = shape[:-1] if fill else shape
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        sizes = [1 if one == Dim("batch") else one for one in shape]
        if any(isinstance(one, Dim) for one in sizes):
            raise w.refuse("a constant along a time needs the number of steps in advance")
        return getattr(torch, function)(sizes, *fill)

    return make


def made_like(function: str) -> Callable[..., Any]:
    return lambda w, x, *shape, **kwargs: made(function)(w, *(shape or w.tensor(x).shape))


# Products


def matmul(w: Wiring, a: object, b: object) -> object:
    if _is_constant(b):
        matrix = w.array(b)
        if matrix.ndim == 1:
            return squeeze(w, layers.linear(w, a, matrix[None, :].copy()), -1)
        if matrix.ndim != 2:
            raise w.refuse(f"a product with a constant of shape {matrix.shape} is not supported")
        return layers.linear(w, a, matrix.T.copy())
    if isinstance(a, Scores):
        return weighted(w, a, w.tensor(b))
    if _is_constant(a):
        raise w.refuse("a constant times a tensor is not supported; write the tensor first")
    a, b = w.tensor(a), w.tensor(b)
    if len(a.axes) != len(b.axes) or a.batch != b.batch or a.batch >= len(a.axes) - 2:
        raise w.refuse(f"a product of {a.shape} and {b.shape} is not supported")
    if len(a.axes) == 3 and a.size(1) == 1:
        # one row: the sum over k of a[k] b[k, j]
        column = Tensor(a.value, (a.axes[0], a.axes[2], None))
        return unsqueeze(w, reduce(w, w.merge("mul", [column, b]), "sum", 1), 1)
    if len(b.axes) == 3 and b.size(2) == 1:
        row = Tensor(b.value, (b.axes[0], None, b.axes[1]))
        return reduce(w, w.merge("mul", [a, row]), "sum", 2, True)
    return Scores(a, Tensor(b.value, (*b.axes[:-2], b.axes[-1], b.axes[-2])))


def einsum(w: Wiring, equation: str, *operands: object) -> Tensor:
    """A product of two tensors, the axes of one among those of the other, summed over axes: a weighted sum of steps."""
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else operands
    inputs, _, result = str(equation).replace(" ", "").partition("->")
    terms = inputs.split(",")
    names = [*terms, result]
    if len(terms) != 2 or len(operands) != 2 or not result or any(len(set(one)) < len(one) for one in names):
        raise w.refuse(f"einsum {equation!r}: only products of two tensors, 'bt,bth->bh', are supported")
    wide, narrow_ = sorted(zip(terms, operands), key=lambda pair: -len(pair[0]))
    if not set(narrow_[0]) <= set(wide[0]) or not set(result) <= set(wide[0]) or "." in equation:
        raise w.refuse(f"einsum {equation!r}: only weighted sums, 'bt,bth->bh', are supported; matmul and bmm are")
    x, y = w.tensor(wide[1]), w.tensor(narrow_[1])
    if len(x.axes) != len(wide[0]) or len(y.axes) != len(narrow_[0]):
        raise w.refuse(f"einsum {equation!r} of {x.shape} and {y.shape}")
    place = dict(zip(narrow_[0], y.axes))
    x = w.merge("mul", [x, Tensor(y.value, tuple(place.get(name) for name in wide[0]))])
    gone = [i for i, name in enumerate(wide[0]) if name not in result]
    left = [name for name in wide[0] if name in result]
    x = reduce(w, x, "sum", gone) if gone else x
    return Tensor(x.value, tuple(x.axes[left.index(name)] for name in result))


def weighted(w: Wiring, scores: Scores, value: Tensor) -> Tensor:
    """The sum of the values, weighted by a softmax of scores: one attention node."""
    if not scores.is_softmax:
        raise w.refuse("a product of three tensors without a softmax over the scores is not supported")
    return attention(w, scores.query, scores.key, value, scores.scale, False)


def attention(w: Wiring, query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    """Attention over (batch, time, size) or (batch, heads, time, size)."""
    rank = len(query.axes)
    heads = query.size(1) if rank == 4 else 1
    if rank not in (3, 4) or query.batch != 0 or len(key.axes) != rank or len(value.axes) != rank:
        raise w.refuse("attention over (batch, time, size) or (batch, heads, time, size) only")
    parts = []
    for tensor, name in ((query, "query"), (key, "key"), (value, "value")):
        if rank == 3:
            parts.append(w.arrange(tensor, [1, 2]))
            continue
        flat = w.arrange(tensor, [2, 1, 3])
        steps = "time" if flat.shape[0] is None else str(flat.shape[0])
        wide = flat.shape[1] * flat.shape[2]
        parts.append(w.add_layer("reshape", flat, options={"shape": f"{steps},{wide}"}, part=name))
    options = {"heads": heads, "scale": float(scale), "causal": causal}
    y = w.add_layer("attention", parts[0], options=options, key=parts[1], value=parts[2], mask=None)
    if rank == 3:
        return Tensor(y, (BATCH, 0, 1))
    steps = "time" if y.shape[0] is None else str(y.shape[0])
    y = w.add_layer("reshape", y, options={"shape": f"{steps},{heads},{y.features // heads}"}, part="heads")
    return Tensor(y, (BATCH, 1, 0, 2))


def scaled_dot_product_attention(
    w: Wiring,
    query: object,
    key: object,
    value: object,
    attn_mask: object = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    q, k, v = (w.tensor(one) for one in (query, key, value))
    if attn_mask is not None:
        if not layers.is_causal_mask(attn_mask, None) and not layers.is_causal_mask(~attn_mask, None):
            raise w.refuse("attn_mask may only be the constant causal mask of the steps that are there")
        is_causal = True
    return attention(w, q, k, v, 1.0 / math.sqrt(q.size(-1 % len(q.axes))) if scale is None else scale, is_causal)


def softmax(w: Wiring, x: object, dim: int | None = None, _stacklevel: int = 3, dtype: object = None) -> object:
    _check_softmax_type(w, dtype)
    if isinstance(x, Scores):
        if dim not in (-1, len(x.query.axes) - 1):
            raise w.refuse("a softmax of scores over another axis than that of the keys is not supported")
        return Scores(x.query, x.key, x.scale, True)
    return layers.softmax(w, x, dim)


def log_softmax(w: Wiring, x: object, dim: int | None = None, _stacklevel: int = 3, dtype: object = None) -> object:
    _check_softmax_type(w, dtype)
    return layers.softmax(w, x, dim, log=True)


def _check_softmax_type(w: Wiring, dtype: object) -> None:
    """Softmax is computed in the model's type; PyTorch's argument may say that, or the wider one."""
    if dtype is not None and str(dtype) not in ("torch.float32", "torch.float64"):
        raise w.refuse(f"a softmax computed in {dtype} is not supported, float32 and float64 are")


def activation(name: str, *values: float) -> Callable[..., Tensor]:
    return lambda w, x, inplace=False: layers.activation(w, x, name, *values)


def parametric(name: str, default: float) -> Callable[..., Tensor]:
    return lambda w, x, *args, **kwargs: layers.activation(
        w, x, name, float(next(iter((*args, *(v for k, v in kwargs.items() if k != "inplace"))), default))
    )


def pool(mode: str) -> Callable[..., Tensor]:
    def average(w, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
        return layers.pool1d(w, x, "average", kernel_size, stride, padding, 1, ceil_mode, count_include_pad)

    def largest(w, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        if return_indices:
            raise w.refuse("return_indices is not supported")
        return layers.pool1d(w, x, "max", kernel_size, stride, padding, dilation, ceil_mode)

    return average if mode == "average" else largest


def interpolate(
    w: Wiring, x: object, size: object = None, scale_factor: object = None, mode: str = "nearest", **others: object
) -> Tensor:
    return layers.upsample(w, x, size, scale_factor, mode)


#: name of a function of torch, torch.nn.functional, operator or math, or of a method -> function of (wiring, arguments)
OPERATIONS: dict[str, Callable[..., object]] = {
    **dict.fromkeys(("add", "iadd", "add_", "__add__"), add),
    **dict.fromkeys(("sub", "isub", "sub_", "subtract"), sub),
    "rsub": lambda w, a, b: sub(w, b, a),
    **dict.fromkeys(("mul", "imul", "mul_", "multiply"), mul),
    **dict.fromkeys(("div", "truediv", "itruediv", "true_divide", "divide", "div_"), div),
    **dict.fromkeys(("neg", "negative"), lambda w, x: w.affine(w.tensor(x), -1.0, 0.0)),
    **dict.fromkeys(("abs", "absolute"), absolute),
    "square": lambda w, x: power(w, x, 2),
    "pow": power,
    "max": extreme("max"),
    "min": extreme("min"),
    "maximum": elementwise("max"),
    "minimum": elementwise("min"),
    **dict.fromkeys(("clamp", "clip", "clamp_"), clamp),
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "amax": reduction("max"),
    "amin": reduction("min"),
    "norm": norm,
    "normalize": normalize,
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    "stack": stack,
    "hstack": lambda w, tensors: cat(w, tensors, 1),
    "flip": flip,
    "split": split,
    "chunk": chunk,
    "unbind": unbind,
    "narrow": narrow,
    "select": select,
    "getitem": getitem,
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "transpose_"), transpose),
    "t": matrix_transpose,
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    **dict.fromkeys(("squeeze", "squeeze_"), squeeze),
    **dict.fromkeys(("unsqueeze", "unsqueeze_"), unsqueeze),
    **dict.fromkeys(("view", "reshape"), view),
    "view_as": lambda w, x, other: layers.reshape(w, x, size(w, other)),
    "reshape_as": lambda w, x, other: layers.reshape(w, x, size(w, other)),
    "flatten": layers.flatten,
    "unflatten": layers.unflatten,
    "expand": expand,
    "expand_as": lambda w, x, other: expand(w, x, *w.tensor(other).shape),
    "repeat": repeat,
    "size": size,
    "dim": lambda w, x: len(size(w, x)),
    "getattr": attribute,
    **{name: made(name) for name in ("zeros", "ones", "full")},
    "new_zeros": made_like("zeros"),
    "new_ones": made_like("ones"),
    "zeros_like": made_like("zeros"),
    "ones_like": made_like("ones"),
    **dict.fromkeys(
        ("contiguous", "to", "float", "double", "detach", "clone", "type_as", "requires_grad_", "cpu", "long", "int"),
        layers.unchanged,
    ),
    **dict.fromkeys(
        ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "dropout_"),
        layers.unchanged,
    ),
    **dict.fromkeys(("matmul", "bmm", "mm"), matmul),
    "einsum": einsum,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "linear": layers.linear,
    "conv1d": layers.conv1d,
    "embedding": lambda w, x, weight, padding_idx=None, max_norm=None, *rest, **more: layers.embedding(
        w, x, weight, max_norm
    ),
    "batch_norm": lambda w, x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5: (
        layers.batch_norm(w, x, None if training else mean, var, weight, bias, eps)
    ),
    "layer_norm": layers.layer_norm,
    "rms_norm": lambda w, x, shape, weight=None, eps=None: layers.layer_norm(
        w, x, shape, weight, None, layers.rms_epsilon(w, eps), "rms"
    ),
    "group_norm": layers.group_norm,
    "pad": layers.pad,
    "interpolate": interpolate,
    "max_pool1d": pool("max"),
    "avg_pool1d": pool("average"),
    "adaptive_avg_pool1d": lambda w, x, size: layers.global_pool(w, x, "mean", size),
    "adaptive_max_pool1d": lambda w, x, size: layers.global_pool(w, x, "max", size),
    **dict.fromkeys(("relu", "relu_"), activation("relu")),
    "relu6": activation("clip", 0.0, 6.0),
    **dict.fromkeys(("tanh", "tanh_"), activation("tanh")),
    **dict.fromkeys(("sigmoid", "sigmoid_"), activation("sigmoid")),
    "exp": activation("exponential"),
    "selu": activation("selu"),
    "silu": activation("silu"),
    "softsign": activation("softsign"),
    "hardsigmoid": activation("hard_sigmoid", 1 / 6, 0.5),
    "gelu": lambda w, x, approximate="none": layers.gelu(w, x, approximate),
    "hardswish": lambda w, x, inplace=False: layers.hardswish(w, x),
    "mish": lambda w, x, inplace=False: layers.mish(w, x),
    "celu": lambda w, x, alpha=1.0, inplace=False: layers.celu(w, x, alpha),
    "elu": parametric("elu", 1.0),
    "leaky_relu": parametric("leaky_relu", 0.01),
    "hardtanh": lambda w, x, min_val=-1.0, max_val=1.0, inplace=False: layers.activation(
        w, x, "clip", min_val, max_val
    ),
    "softplus": layers.softplus,
    "logsigmoid": layers.log_sigmoid,
    "softshrink": lambda w, x, lambd=0.5: layers.softshrink(w, x, lambd),
    "tanhshrink": layers.tanhshrink,
    "prelu": layers.prelu,
    "glu": layers.glu,
}
