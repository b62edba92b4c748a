"""Steps as rows: ``x.view(-1, x.size(-1))`` or ``x.view(b * t, c, n)``, layers on that, and ``view(b, t, -1)`` back.

PyTorch code applies a layer to each step in this way. The rows of a batch stay apart in it, so that it is what the
layer gives of all steps, or of one frame after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cylstm.formats.torch.network import Network
from cylstm.formats.torch.operations.axes import reshape_axes, squeeze
from cylstm.formats.torch.operations.parts import narrow, stack
from cylstm.formats.torch.tensor import BATCH, Dim, Frames, Rows, Tensor, flat
from cylstm.graph.values import Axis, StaticTimeNeeded, Value

_MOST_FRAMES = 256


#: layers and functions over the last axes or element by element: steps as rows make no difference
OF_LAST_AXES = frozenset((
    "Linear", "LayerNorm", "RMSNorm", "Identity", "Dropout", "AlphaDropout", "FeatureAlphaDropout", "ReLU",
    "ReLU6", "Tanh", "Sigmoid", "SELU", "ELU", "CELU", "SiLU", "GELU", "Mish", "Softplus", "Softsign",
    "LeakyReLU", "Hardtanh", "Hardsigmoid", "Hardswish", "LogSigmoid", "Softshrink", "Tanhshrink", "linear",
    "layer_norm", "rms_norm", "dropout", "alpha_dropout", "dropout_", "relu", "relu_", "relu6", "tanh", "tanh_",
    "sigmoid", "sigmoid_", "exp", "selu", "silu", "softsign", "hardsigmoid", "gelu", "hardswish", "mish", "celu",
    "elu", "leaky_relu", "hardtanh", "softplus", "logsigmoid", "softshrink", "tanhshrink", "add", "iadd", "add_",
    "sub", "isub", "sub_", "mul", "imul", "mul_", "div", "truediv", "itruediv", "div_", "neg", "abs", "square",
    "pow", "maximum", "minimum", "clamp", "clip", "contiguous", "to", "float", "double", "detach", "clone",
    "type_as", "cpu",
))  # fmt: skip


#: over the axis behind the rows
_SECOND = frozenset(("BatchNorm1d", "batch_norm", "PReLU", "prelu"))


#: operations over an axis that is given: name -> index of the argument, and layers that have it as an option
_NAMED = {"softmax": 1, "log_softmax": 1, "glu": 1, "cat": 1, "concat": 1, "chunk": 2, "split": 2}


_NAMED_BY_LAYER = ("Softmax", "LogSoftmax", "Softmin", "GLU")


def has_rows(args: Any) -> bool:
    return any(isinstance(one, (Rows, Frames)) for one in flat(args))


def as_rows(net: Network, x: Tensor, shape: Sequence[Any]) -> Rows | None:
    """`x`, reshaped to this, if that makes rows of its first two axes."""
    sizes = x.shape
    if len(sizes) < 3 or x.batch > 1 or sizes[1 - x.batch] == 1 or len(shape) < 2:
        return None
    if not _is_product(shape, sizes[:2], sizes[2:]):
        return None
    return Rows(reshape_axes(net, x, [*sizes[:2], *_fill_rest(shape[1:], sizes[2:])]))


def reshape_rows(net: Network, x: Rows | Frames, shape: Sequence[Any]) -> Rows | Tensor:
    """Into other rows, or apart into (batch, time, ...)."""
    x = together(net, x)
    sizes = x.steps.shape
    if _is_product(shape, sizes[:2], sizes[2:]):
        return Rows(reshape_axes(net, x.steps, [*sizes[:2], *_fill_rest(shape[1:], sizes[2:])]))
    return reshape_axes(net, x.steps, shape)


def _is_product(shape: Sequence[Any], leading: Sequence[Any], rest: Sequence[Any]) -> bool:
    """Whether a shape wanted has the product of these two sizes first, and as many numbers behind it as there are."""
    wanted = list(shape[1:])
    if shape[0] == -1:
        return _count(wanted) == _count(rest) is not None
    same = isinstance(shape[0], Dim) and isinstance(shape[0].of, tuple) and not isinstance(shape[0].of, Axis)
    return same and sorted(map(repr, shape[0].of)) == sorted(map(repr, leading))


def _count(sizes: Sequence[Any]) -> int | None:
    found = 1
    for size in sizes:
        if type(size) is not int or size < 0:
            return None
        found *= size
    return found


def _fill_rest(wanted: Sequence[Any], rest: Sequence[Any]) -> list[Any]:
    """Sizes wanted, -1 as what is left of the `rest`, which have no unknown time among them."""
    total, known = _count(rest), _count([size for size in wanted if size != -1])
    if list(wanted).count(-1) == 1 and total is not None and known:
        return [total // known if size == -1 else size for size in wanted]
    return list(wanted)


def together(net: Network, x: Rows | Frames) -> Rows:
    """Frames as one tensor."""
    if isinstance(x, Rows):
        return x
    return Rows(stack(net, [net.tensor(one) for one in x.frames], 0 if x.time_first else 1))


def on_rows(
    net: Network, name: str, call: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any], dim: Any = None
) -> object:
    """A layer or function called with rows: on all steps at once if that is the same, else frame by frame."""
    given = flat((args, kwargs))
    if any(isinstance(one, Tensor) for one in given):
        raise net.refuse("steps that are rows together with a tensor whose rows are those of the batch")
    rows = [one for one in given if isinstance(one, (Rows, Frames))]
    if name in _NAMED:
        dim = kwargs.get("dim", args[_NAMED[name]] if len(args) > _NAMED[name] else None)
    elif name not in _NAMED_BY_LAYER:
        dim = None
    front = name in OF_LAST_AXES or (type(dim) is int and dim < 0)
    back = name in _SECOND or (type(dim) is int and dim > 0)
    if (front or back) and all(isinstance(one, Rows) or isinstance(one.frames[0], Tensor) for one in rows):
        first = together(net, rows[0]).steps.batch

        def steps(found: Rows | Frames) -> Tensor:
            tensor = together(net, found).steps
            if tensor.batch != first:
                raise net.refuse("rows of (batch, time) together with those of (time, batch)")
            axes = tensor.axes
            return tensor if front else Tensor(tensor.value, (BATCH, *axes[2:], axes[1 - first]))

        def rows_of(found: Any) -> object:
            if isinstance(found, tuple):
                return tuple(map(rows_of, found))
            if back:
                axes = (BATCH, found.axes[-1]) if first == 0 else (found.axes[-1], BATCH)
                found = Tensor(found.value, (*axes, *found.axes[1:-1]))
            return Rows(found)

        return rows_of(call(*_each(args, steps), **_each(kwargs, steps)))
    frames = [_frames(net, name, one) for one in rows]
    if len({(len(one.frames), one.time_first) for one in frames}) != 1:
        raise net.refuse("steps that are rows, of different numbers of steps")
    found = []
    for k in range(len(frames[0].frames)):
        taken = iter(frames)

        def frame(_: object, taken: Iterator[Frames] = taken, k: int = k) -> object:
            return next(taken).frames[k]

        found.append(call(*_each(args, frame), **_each(kwargs, frame)))
    return Frames(tuple(found), frames[0].time_first)


def _frames(net: Network, name: str, x: Rows | Frames) -> Frames:
    if isinstance(x, Frames):
        return x
    axis = 1 - x.steps.batch
    count = x.steps.size(axis)
    if not isinstance(count, int):
        raise StaticTimeNeeded(
            f"layer {net.name!r}: {name} of single steps as rows needs the number of steps in advance"
        )
    if count > _MOST_FRAMES:
        raise net.refuse(f"{name} of more than {_MOST_FRAMES} steps as rows is not supported, found {count}")
    frames = tuple(squeeze(net, narrow(net, x.steps, axis, k, 1), axis) for k in range(count))
    return Frames(frames, axis == 0)


def _each(nest: Any, change: Callable[[Rows | Frames], object]) -> Any:
    """A nest of arguments, rows in it changed, in the order of `flat`."""
    if isinstance(nest, dict):
        return {key: _each(one, change) for key, one in nest.items()}
    if isinstance(nest, (list, tuple)) and not isinstance(nest, Value):
        return type(nest)(_each(one, change) for one in nest)
    return change(nest) if isinstance(nest, (Rows, Frames)) else nest
