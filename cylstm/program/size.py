"""Sizes of axes that are no numbers but expressions, such as ``s77`` or ``2*s77 + 1``: parsed, printed and evaluated.

Both forms that PyTorch writes are read, ``2*s77 + 1`` and SymPy's ``Add(Mul(Integer(2), Symbol('s77')), Integer(1))``.
The parser is our own, and small: the expression may come from a file that is not trusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from cylstm.errors import FormatError, UnsupportedError

_MAX_LENGTH = 4000
_MAX_DEPTH = 40
_MAX_NESTED = 100
_MAX_BITS = 62
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|('[^'\\]*'|\"[^\"\\]*\")|(//|\*\*|[-+*/%(),=]))", re.ASCII)

#: a number, a symbol, or a tuple of the name of an operation and its operands
_Tree: TypeAlias = "int | str | tuple[Any, ...]"

#: function, as PyTorch, SymPy or our own text calls it -> its operation, and its number of operands (None: any)
_FUNCTIONS: dict[str, tuple[str, int | None]] = {
    "Add": ("+", None),
    "Mul": ("*", None),
    "Pow": ("**", 2),
    "PowByNatural": ("**", 2),
    "FloorDiv": ("//", 2),
    "CleanDiv": ("//", 2),
    "Mod": ("%", 2),
    "PythonMod": ("%", 2),
    "IntTrueDiv": ("/", 2),
    "FloatTrueDiv": ("/", 2),
    "Rational": ("/", 2),
    **dict.fromkeys(("Max", "max"), ("max", None)),
    **dict.fromkeys(("Min", "min"), ("min", None)),
    **dict.fromkeys(("FloorToInt", "floor"), ("floor", 1)),
    **dict.fromkeys(("CeilToInt", "ceiling", "ceil"), ("ceil", 1)),
    **dict.fromkeys(("TruncToInt", "trunc"), ("trunc", 1)),
}
#: functions that return their operand
_SAME = ("Identity", "ToFloat", "Integer")


@dataclass(frozen=True)
class Size:
    """A size that depends on others.

    Two are equal if they are written alike; ``2*s`` and ``s*2`` are not.

    Parameters
    ----------
    text : str
        An expression of symbols and integers in Python's operators ``+ - * / // % **`` and the functions ``max``,
        ``min``, ``floor``, ``ceil`` and ``trunc``, or as SymPy's ``srepr`` writes it. The attribute has it in the first
        form.

    Attributes
    ----------
    symbols : tuple of str
        The symbols in it, in order; none twice.

    Raises
    ------
    FormatError
        If it is no such expression.
    UnsupportedError
        If it has a function that is not known.
    """

    text: str
    symbols: tuple[str, ...] = field(init=False, compare=False, repr=False)
    _tree: _Tree = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        tree = _Parser(self.text).parse()
        text = _text(tree, 0)
        # What is written of -1*0 is -0, and of that 0: the text is to be the one that reads as itself.
        while (again := _text(tree := _Parser(text).parse(), 0)) != text:
            text = again
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "symbols", tuple(dict.fromkeys(_symbols(tree))))
        object.__setattr__(self, "text", text)

    def __str__(self) -> str:
        return self.text

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The size for these values of its symbols.

        Raises
        ------
        FormatError
            If a symbol has no value, or the result is no whole number or beyond 62 bits.
        """
        missing = [symbol for symbol in self.symbols if symbol not in values]
        if missing:
            raise FormatError(f"the size {self.text:.200} needs a value of {missing[0]}")
        try:
            found = _evaluate(self._tree, values)
        except (ZeroDivisionError, OverflowError) as error:
            raise FormatError(f"the size {self.text:.200} cannot be computed: {error}") from error
        if found != int(found):
            raise FormatError(f"the size {self.text:.200} is no whole number")
        return int(found)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _MAX_LENGTH:
            raise FormatError(f"an expression of a size of {len(text)} characters; at most {_MAX_LENGTH} are read")
        self.tokens: list[tuple[str, str]] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                self.fail()
            kind = ("number", "name", "text", "mark")[(match.lastindex or 1) - 1]
            self.tokens.append((kind, match[match.lastindex or 1]))
            place = match.end()
        self.tokens.append(("end", ""))
        self.place = self.depth = self.nested = 0

    def fail(self) -> NoReturn:
        raise FormatError(f"{self.text[:200]!r} is no expression of a size")

    def parse(self) -> _Tree:
        found = self.sum()
        if self.tokens[self.place][0] != "end":
            self.fail()
        return found

    def take(self, *marks: str) -> str | None:
        """The next token if it is one of these marks."""
        kind, mark = self.tokens[self.place]
        if kind != "mark" or mark not in marks:
            return None
        self.place += 1
        return mark

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail()

    def nest(self) -> None:
        """Count an operation whose operand is the one before it."""
        self.nested += 1
        if self.nested > _MAX_NESTED:
            self.fail()

    def sum(self) -> _Tree:
        self.deeper()
        terms = [self.product()]
        while mark := self.take("+", "-"):
            term = self.product()
            terms.append(term if mark == "+" else _negative(term))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("+", *terms)

    def product(self) -> _Tree:
        found = self.signed()
        while mark := self.take("*", "//", "%", "/"):
            right = self.signed()
            if mark == "*" and isinstance(found, tuple) and found[0] == "*":
                found = (*found, right)
            else:
                self.nest()
                found = (mark, found, right)
        return found

    def signed(self) -> _Tree:
        if not self.take("-"):
            return self.power()
        self.deeper()
        found = _negative(self.signed())
        self.depth -= 1
        return found

    def power(self) -> _Tree:
        base = self.atom()
        if not self.take("**"):
            return base
        self.nest()
        return ("**", base, self.signed())

    def atom(self) -> _Tree:
        kind, token = self.tokens[self.place]
        if kind == "number" and len(token) < 20:
            self.place += 1
            return int(token)
        if kind == "name":
            self.place += 1
            return self.call(token) if self.take("(") else token
        if not self.take("("):
            self.fail()
        found = self.sum()
        if not self.take(")"):
            self.fail()
        return found

    def call(self, name: str) -> _Tree:
        if name == "Symbol":
            return self.symbol()
        operands = [] if self.take(")") else [self.sum()]
        while operands and not self.take(")"):
            if not self.take(","):
                self.fail()
            operands.append(self.sum())
        if name == "CeilDiv" and len(operands) == 2:
            return ("ceil", ("/", *operands))
        if name == "ModularIndexing" and len(operands) == 3:
            return ("%", ("//", operands[0], operands[1]), operands[2])
        if name in _SAME and len(operands) == 1:
            return operands[0]
        if name not in (*_FUNCTIONS, *_SAME, "CeilDiv", "ModularIndexing"):
            raise UnsupportedError(f"the function {name[:100]} in the size {self.text[:200]} is not supported")
        operation, count = _FUNCTIONS.get(name, ("", 0))
        if not operands or (count is not None and len(operands) != count):
            self.fail()
        return operands[0] if count is None and len(operands) == 1 else (operation, *operands)

    def symbol(self) -> str:
        """The name in ``Symbol('s77', positive=True, integer=True)``, whose other arguments are assumptions."""
        kind, quoted = self.tokens[self.place]
        name = quoted[1:-1]
        if kind != "text" or not (name.isascii() and name.isidentifier()):
            self.fail()
        self.place += 1
        while self.take(","):
            kinds = [kind for kind, _ in self.tokens[self.place : self.place + 3]]
            if kinds != ["name", "mark", "name"] or self.tokens[self.place + 1][1] != "=":
                self.fail()
            self.place += 3
        if not self.take(")"):
            self.fail()
        return name


def _negative(tree: _Tree) -> _Tree:
    if isinstance(tree, int):
        return -tree
    factors: tuple[_Tree, ...] = tree[1:] if isinstance(tree, tuple) and tree[0] == "*" else (tree,)
    first, others = factors[0], factors[1:]
    if not isinstance(first, int):
        return ("*", -1, *factors)
    if first != -1 or not others:
        return ("*", -first, *others)
    return others[0] if len(others) == 1 else ("*", *others)


def _symbols(tree: _Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, tuple):
        for operand in tree[1:]:
            yield from _symbols(operand)


_PRECEDENCE = {"+": 1, "*": 2, "//": 2, "%": 2, "/": 2, "**": 4}


def _text(tree: _Tree, outer: int) -> str:
    """The expression in Python's operators; in parentheses if it binds less than `outer`."""
    if not isinstance(tree, tuple):
        text = str(tree)
        return f"({text})" if text.startswith("-") and outer > 1 else text
    operation, *operands = tree
    if operation not in _PRECEDENCE:
        return f"{operation}({', '.join(_text(operand, 0) for operand in operands)})"
    own = _PRECEDENCE[operation]
    if operation == "+":
        text = _text(operands[0], own)
        for operand in operands[1:]:
            minus = _is_negative(operand)
            text += f" - {_text(_negative(operand), own + 1)}" if minus else f" + {_text(operand, own + 1)}"
    elif operation == "*":
        minus = operands[0] == -1 and len(operands) > 1
        first, *others = operands[1:] if minus else operands
        text = "*".join((_text(first, own + minus), *(_text(operand, own + 1) for operand in others)))
        if minus:
            text, own = f"-{text}", 1
    else:
        between = operation if operation != "%" else " % "
        left, right = (own + 1, own) if operation == "**" else (own, own + 1)
        text = f"{_text(operands[0], left)}{between}{_text(operands[1], right)}"
    return f"({text})" if own < outer else text


def _is_negative(tree: _Tree) -> bool:
    if isinstance(tree, int):
        return tree < 0
    return isinstance(tree, tuple) and tree[0] == "*" and isinstance(tree[1], int) and tree[1] < 0


def _evaluate(tree: _Tree, values: Mapping[str, int]) -> Any:
    """An int, or a Fraction where a division leaves a rest."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return values[tree]
    found = _OPERATIONS[tree[0]](*(_evaluate(operand, values) for operand in tree[1:]))
    if abs(found) >> _MAX_BITS if isinstance(found, int) else abs(found) >= 1 << _MAX_BITS:
        raise OverflowError(f"a number beyond {_MAX_BITS} bits")
    return found


def _divided(a: Any, b: Any) -> Any:
    from fractions import Fraction

    found = Fraction(a) / Fraction(b)
    if found.denominator.bit_length() > _MAX_BITS:
        raise OverflowError(f"a number beyond {_MAX_BITS} bits")
    return int(found) if found.denominator == 1 else found


def _product(*factors: Any) -> Any:
    found = 1
    for factor in factors:
        found *= factor
        if abs(found) >= 1 << _MAX_BITS:
            raise OverflowError(f"a number beyond {_MAX_BITS} bits")
    return found


def _power(base: Any, exponent: Any) -> Any:
    if exponent != int(exponent) or not 0 <= exponent <= _MAX_BITS:
        raise OverflowError("a power that is no small natural number")
    return _product(*[base] * int(exponent))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": lambda *terms: sum(terms),
    "*": _product,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "/": _divided,
    "**": _power,
    "max": max,
    "min": min,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
}
