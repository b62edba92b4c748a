"""The arrays that stand for those of a network while a user's function of a custom layer runs.

The function is called once, when a model is loaded. What it computes with its arrays becomes layers of the graph; what
depends on constants alone is computed by NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn

import numpy as np

from cylstm.errors import UnsupportedError
from cylstm.program.network import MIXES, Network
from cylstm.program.operations import elementwise
from cylstm.program.operations.attention import scaled
from cylstm.program.operations.linear import matmul
from cylstm.program.operations.parts import getitem, unbind
from cylstm.program.operations.shape import permute, transpose
from cylstm.program.tensor import BATCH_SIZE, Constant, Dim, Scores, Stack, Tensor, dtype_of, is_constant


class _Place(NamedTuple):
    """The network that the layers of the running function are added to, and what their names begin with."""

    net: Network
    name: str


_CURRENT: ContextVar[_Place | None] = ContextVar("cylstm custom layer", default=None)


@contextmanager
def adding_to(net: Network, name: str) -> Iterator[None]:
    """While it is entered, operations on arrays add layers to `net`, whose names begin with `name`."""
    token = _CURRENT.set(_Place(net, name))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def array_of(net: Network, found: Any) -> Any:
    """What an operation gave, as a user sees it: an `Array`, a size, a NumPy array or a number."""
    if isinstance(found, (list, tuple)):
        return tuple(array_of(net, one) for one in found)
    if isinstance(found, Dim):
        return SymbolicSize(net, found)
    return Array(net, found) if isinstance(found, (Tensor, Constant, Scores, Stack)) else found


def given_of(net: Network | None, given: Any) -> Any:
    """What an operation takes for what a user gives it. Raises `UnsupportedError` about an array of another call."""
    if isinstance(given, (Array, SymbolicSize)):
        if given._net is not net:
            raise UnsupportedError(
                f"{given!r} is an array of another call of the function; keep none from one call to the next"
            )
        return given._found
    if isinstance(given, slice):
        return slice(*(given_of(net, one) for one in (given.start, given.stop, given.step)))
    if isinstance(given, (list, tuple)):
        return type(given)(given_of(net, one) for one in given) if type(given) in (list, tuple) else given
    return given


def apply(name: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """A function of a network and of tensors, called `name`, of arrays."""
    place = _CURRENT.get()
    net = None if place is None else place.net
    found = [given_of(net, one) for one in given]
    named = {key: given_of(net, one) for key, one in options.items()}
    if net is None:  # of constants, outside of any custom layer
        net = Network()
        net.name = name
    elif place is not None:
        net.name = f"{place.name}/{name}"
    return array_of(net, function(net, *found, **named))


def number(net: Network, given: Any) -> Any:
    """An operand: a list as an array, a size of a time as a tensor."""
    if isinstance(given, Dim):
        return elementwise.length(net, given)
    return as_constant(net, given)


def as_constant(net: Network, given: Any) -> Any:
    """An operand: a list as an array; sizes and tensors as they are. Raises `UnsupportedError` about anything else."""
    if isinstance(given, (list, tuple)):
        given = np.asarray(given)
    if isinstance(given, (np.ndarray, np.generic)):
        if given.dtype.kind not in "fiub":
            raise net.refuse(f"an array of {given.dtype} is not supported; numbers and truths are")
        return given
    if isinstance(given, (bool, int, float, Dim, Tensor, Constant, Scores, Stack)):
        return given
    raise net.refuse(f"expected an array or a number, found {type(given).__name__}")


def binary(mode: str) -> Callable[[Network, Any, Any], Any]:
    """A mode of the merge layer of two operands."""

    def function(net: Network, a: Any, b: Any) -> Any:
        a, b = (as_constant(net, one) for one in (a, b))
        if mode in ("mul", "div"):
            for scores, factor in ((a, b), (b, a)) if mode == "mul" else ((a, b),):
                if isinstance(scores, Scores) and not scores.is_softmax and not scores.causal and _is_number(factor):
                    number = float(np.asarray(factor).reshape(-1)[0])
                    return scaled(scores, number if mode == "mul" else 1.0 / number)
        sizes = isinstance(a, Dim) or isinstance(b, Dim)
        if mode in _BINARY and not (sizes and mode == "div"):
            return _BINARY[mode](net, a, b)
        return elementwise.binary(net, mode, a, b)

    return function


def _is_number(found: Any) -> bool:
    return is_constant(found) and not isinstance(found, Constant) and np.size(found) == 1


#: those of which some cases are simpler layers
_BINARY: Mapping[str, Callable[[Network, Any, Any], Any]] = {
    "sum": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "div": elementwise.divide,
    "pow": elementwise.power,
}


def unary(mode: str) -> Callable[[Network, Any], Any]:
    """A function of the function layer."""
    return lambda net, x: elementwise.function(net, number(net, x), mode)


def product(net: Network, a: Any, b: Any) -> Any:
    """The product of matrices. Raises `UnsupportedError` if one operand is a number."""
    a, b = (as_constant(net, one) for one in (a, b))
    for one in (a, b):
        if not getattr(one, "shape", ()):
            raise net.refuse("a product with @ of a number; write *")
    if a.shape[-1] != b.shape[max(len(b.shape) - 2, 0)]:
        raise net.refuse(f"a product of shapes {tuple(a.shape)} and {tuple(b.shape)} does not fit")
    return matmul(net, a, b)


def logical(mode: str) -> Callable[[Network, Any, Any], Any]:
    """``&``, ``|`` or ``^`` of truths."""

    def function(net: Network, a: Any, b: Any) -> Any:
        a, b = (as_constant(net, one) for one in (a, b))
        if dtype_of(a) != "bool" or dtype_of(b) != "bool":
            raise net.refuse("&, |, ^ and ~ are of truths, such as x > 0; found numbers")
        return elementwise.binary(net, mode, a, b)

    return function


def inverted(net: Network, x: Any) -> Any:
    """``~`` of truths."""
    if dtype_of(x) != "bool":
        raise net.refuse("&, |, ^ and ~ are of truths, such as x > 0; found numbers")
    return elementwise.function(net, x, "logical_not")


#: name of a function of NumPy's -> name here, and function
_UFUNCS: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "add": ("add", binary("sum")),
    "subtract": ("subtract", binary("sub")),
    "multiply": ("multiply", binary("mul")),
    "divide": ("divide", binary("div")),
    "true_divide": ("divide", binary("div")),
    "floor_divide": ("floor_divide", binary("floor_div")),
    "remainder": ("remainder", binary("mod")),
    "power": ("pow", binary("pow")),
    "matmul": ("matmul", product),
    "equal": ("equal", binary("equal")),
    "not_equal": ("not_equal", binary("not_equal")),
    "less": ("less", binary("less")),
    "less_equal": ("less_equal", binary("less_equal")),
    "greater": ("greater", binary("greater")),
    "greater_equal": ("greater_equal", binary("greater_equal")),
    "maximum": ("maximum", binary("max")),
    "minimum": ("minimum", binary("min")),
    "bitwise_and": ("logical_and", logical("and")),
    "bitwise_or": ("logical_or", logical("or")),
    "bitwise_xor": ("logical_xor", logical("xor")),
    "exp": ("exp", lambda net, x: _exponential(net, x)),
    **{
        name: (name, unary(name))
        for name in ("sqrt", "log", "log1p", "expm1", "sin", "cos", "square", "floor", "ceil", "sign")
    },
    "tanh": ("tanh", lambda net, x: _tanh(net, x)),
    "absolute": ("abs", unary("abs")),
    "negative": ("negative", unary("neg")),
}


def _exponential(net: Network, x: Any) -> Any:
    return elementwise.activation(net, number(net, x), "exponential")


def _tanh(net: Network, x: Any) -> Any:
    return elementwise.activation(net, number(net, x), "tanh")


class _Operators:
    """The operators of arrays and of sizes that are not known."""

    __slots__ = ("_found", "_net")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, net: Network, found: Any) -> None:
        object.__setattr__(self, "_net", net)
        object.__setattr__(self, "_found", found)

    _net: Network
    _found: Any

    def __setattr__(self, name: str, item: object) -> NoReturn:
        raise AttributeError(f"an attribute {name!r} of an array cannot be set")

    def __add__(self, other: Any) -> Any:
        return apply("add", binary("sum"), self, other)

    def __radd__(self, other: Any) -> Any:
        return apply("add", binary("sum"), other, self)

    def __sub__(self, other: Any) -> Any:
        return apply("subtract", binary("sub"), self, other)

    def __rsub__(self, other: Any) -> Any:
        return apply("subtract", binary("sub"), other, self)

    def __mul__(self, other: Any) -> Any:
        return apply("multiply", binary("mul"), self, other)

    def __rmul__(self, other: Any) -> Any:
        return apply("multiply", binary("mul"), other, self)

    def __truediv__(self, other: Any) -> Any:
        return apply("divide", binary("div"), self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return apply("divide", binary("div"), other, self)

    def __floordiv__(self, other: Any) -> Any:
        return apply("floor_divide", binary("floor_div"), self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return apply("floor_divide", binary("floor_div"), other, self)

    def __mod__(self, other: Any) -> Any:
        return apply("remainder", binary("mod"), self, other)

    def __rmod__(self, other: Any) -> Any:
        return apply("remainder", binary("mod"), other, self)

    def __pow__(self, other: Any) -> Any:
        return apply("pow", binary("pow"), self, other)

    def __rpow__(self, other: Any) -> Any:
        return apply("pow", binary("pow"), other, self)

    def __eq__(self, other: object) -> Any:
        return apply("equal", binary("equal"), self, other)

    def __ne__(self, other: object) -> Any:
        return apply("not_equal", binary("not_equal"), self, other)

    def __lt__(self, other: Any) -> Any:
        return apply("less", binary("less"), self, other)

    def __le__(self, other: Any) -> Any:
        return apply("less_equal", binary("less_equal"), self, other)

    def __gt__(self, other: Any) -> Any:
        return apply("greater", binary("greater"), self, other)

    def __ge__(self, other: Any) -> Any:
        return apply("greater_equal", binary("greater_equal"), self, other)

    def __array_ufunc__(self, ufunc: Any, method: str, *given: Any, **options: Any) -> Any:
        # what operators of NumPy's arrays call, with an array of ours on the right
        known = _UFUNCS.get(ufunc.__name__)
        if known is None or method != "__call__" or options:
            raise UnsupportedError(
                f"numpy.{ufunc.__name__} does not take arrays of a network; the functions of cylstm.program do"
            )
        return apply(known[0], known[1], *given)

    def __array_function__(self, function: Any, types: object, given: object, options: object) -> Any:
        raise UnsupportedError(
            f"numpy.{function.__name__} does not take arrays of a network; the functions of cylstm.program do"
        )

    def __array__(self, *given: object, **options: object) -> NoReturn:
        raise UnsupportedError(f"{self!r} has no numbers while a model is loaded")


class Array(_Operators):
    """An array of a network while it is loaded: its numbers are not known, its axes are.

    It has the operators of arrays (``+ - * / // % ** @``, comparisons, ``& | ^ ~`` of truths, indexing), ``shape``,
    ``ndim``, ``dtype``, ``T`` and ``mT``; the functions of `cylstm.program` take it and give others. The first axis is
    the batch, whose rows stay apart.
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """Its sizes: numbers, and a `SymbolicSize` for that of the batch and of a time of any length."""
        return tuple(array_of(self._net, size) for size in self._found.shape)

    @property
    def ndim(self) -> int:
        return len(self._found.shape)

    @property
    def dtype(self) -> str:
        """ "float", "int" or "bool"."""
        return dtype_of(self._found)

    @property
    def T(self) -> Any:
        """Its axes in the opposite order."""
        return apply("permute", permute, self, list(range(self.ndim))[::-1])

    @property
    def mT(self) -> Any:
        """Its last two axes swapped."""
        return apply("permute", transpose, self, -2, -1)

    def __matmul__(self, other: Any) -> Any:
        return apply("matmul", product, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return apply("matmul", product, other, self)

    def __neg__(self) -> Any:
        return apply("negative", unary("neg"), self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply("abs", unary("abs"), self)

    def __and__(self, other: Any) -> Any:
        return apply("logical_and", logical("and"), self, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return apply("logical_or", logical("or"), self, other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Any:
        return apply("logical_xor", logical("xor"), self, other)

    __rxor__ = __xor__

    def __invert__(self) -> Any:
        return apply("logical_not", inverted, self)

    def __getitem__(self, index: Any) -> Any:
        items = index if isinstance(index, tuple) else (index,)
        if any(isinstance(item, Array) for item in items):
            raise UnsupportedError("places that are computed are taken with take_along_axis, and chosen with where")
        if sum(item is not None and item is not Ellipsis for item in items) > self.ndim:
            raise UnsupportedError(f"{len(items)} places of {self!r}, which has {self.ndim} axes")
        return apply("getitem", getitem, self, index)

    def __setitem__(self, index: object, item: object) -> NoReturn:
        raise UnsupportedError("an array of a network is not written; make another one, with where or concat")

    def __iter__(self) -> Iterator[Any]:
        if self.ndim and self._found.shape[0] == BATCH_SIZE:
            raise UnsupportedError(f"a loop over the first axis {MIXES}")
        return iter(apply("unstack", unbind, self, 0))

    def __len__(self) -> int:
        size = self.shape[0] if self.ndim else 0
        return int(size)

    def __bool__(self) -> NoReturn:
        raise UnsupportedError(f"whether {self!r} is true is not known while a model is loaded; choose with where")

    def __int__(self) -> NoReturn:
        raise UnsupportedError(f"{self!r} has no numbers while a model is loaded")

    __float__ = __index__ = __complex__ = __int__

    def __repr__(self) -> str:
        return f"an array ({', '.join(map(str, self._found.shape))})"


class SymbolicSize(_Operators):
    """The size of an axis that is not known while a model is loaded: of the batch, or of a time of any length.

    It can be computed with, and be part of a shape. What needs its number needs a network with a fixed number of steps.
    """

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        # sizes are compared where a function looks at shapes, so the answer is known or it is an error
        if isinstance(other, SymbolicSize):
            return bool(self._found == other._found)
        if type(other) is int:
            self._needed()
        return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> NoReturn:
        self._needed()

    __le__ = __gt__ = __ge__ = __lt__

    def __index__(self) -> NoReturn:
        self._needed()

    __int__ = __float__ = __bool__ = __index__

    def _needed(self) -> NoReturn:
        if "batch" in self._found.factors:
            raise self._net.refuse("it uses the number of rows of a batch, which are predicted each for itself")
        raise self._net.needs_time("the number of an axis's size")

    def __repr__(self) -> str:
        return repr(self._found)
