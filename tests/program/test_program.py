"""Programs as data: sizes that are expressions."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.program.program import Size, TensorType

VALUES = {"s77": 5, "s0": 3, "u1": 11}


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        ("s77", "s77", 5),
        ("2*s77", "2*s77", 10),
        ("s77//2 + 1", "s77//2 + 1", 3),
        ("s0 - s77 + 4", "s0 - s77 + 4", 2),
        ("s0 - (s77 - 4)", "s0 - (s77 - 4)", 2),
        ("-s0 + u1", "-s0 + u1", 8),
        ("-(s0 + 1)*2 + u1", "-(s0 + 1)*2 + u1", 3),
        ("s77**2", "s77**2", 25),
        ("-s0**2", "-s0**2", -9),
        ("(-s0)**2", "(-s0)**2", 9),
        ("2**s0**2", "2**s0**2", 512),
        ("(u1 // s0) * s0", "u1//s0*s0", 9),
        ("u1 // (s0 * 2)", "u1//(s0*2)", 1),
        ("-u1 % s0", "(-u1) % s0", 1),
        ("Symbol('s77', positive=True, integer=True)", "s77", 5),
        ("Mul(Integer(4), Symbol('s77', positive=True, integer=True))", "4*s77", 20),
        ("Add(Mul(Integer(-1), Symbol('s0')), Symbol('u1', integer=True))", "-s0 + u1", 8),
        ("Add(Symbol('s0'), Mul(Integer(-2), Symbol('u1')))", "s0 - 2*u1", -19),
        ("FloorDiv(Add(Symbol('s77'), Integer(-1)), Integer(2))", "(s77 - 1)//2", 2),
        ("PythonMod(Symbol('u1'), Integer(4))", "u1 % 4", 3),
        ("Mod(u1, 4)", "u1 % 4", 3),
        ("ModularIndexing(u1, 2, 3)", "u1//2 % 3", 2),
        ("CeilDiv(u1, s0)", "ceil(u1/s0)", 4),
        ("Max(Integer(1), Symbol('s0'), Symbol('s77'))", "max(1, s0, s77)", 5),
        ("Min(1, s0)", "min(1, s0)", 1),
        ("Pow(Symbol('s77'), Integer(2))", "s77**2", 25),
        ("Mul(Rational(1, 2), Add(Symbol('s77'), Integer(1)))", "1/2*(s77 + 1)", 3),
        ("TruncToInt(IntTrueDiv(Mul(Integer(-1), u1), s0))", "trunc((-u1)/s0)", -3),
        ("FloorToInt(FloatTrueDiv(ToFloat(Mul(Integer(-1), u1)), s0))", "floor((-u1)/s0)", -4),
        ("Identity(s0)", "s0", 3),
    ],
)
def test_a_size_is_read_in_both_forms_and_evaluated(written, text, expected):
    size = Size(written)
    assert size.text == str(size) == text
    assert size.evaluate(VALUES) == expected
    assert Size(text) == size
    assert Size(text).evaluate(VALUES) == expected


def test_the_symbols_of_a_size_are_in_order_and_none_twice():
    assert Size("s1*s0 + s1 - u3").symbols == ("s1", "s0", "u3")
    assert Size("4").symbols == ()


def test_sizes_are_equal_if_written_alike_and_can_be_copied():
    assert Size("Mul(Integer(2), Symbol('s0', positive=True))") == Size("2 * s0")
    assert len({Size("2*s0"), Size(" 2*s0 "), Size("s0*2")}) == 2
    assert pickle.loads(pickle.dumps(Size("s0//2"))).evaluate({"s0": 7}) == 3
    assert TensorType("float32", (Size("s0"), 3)) == TensorType("float32", (Size("s0"), 3))


_LEAVES = st.sampled_from(["s", "t", "1", "2", "7"])
_EXPRESSIONS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["//", "%"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"(-{one})"),
        st.tuples(inner, inner).map(lambda both: f"max({both[0]}, {both[1]})"),
    ),
    max_leaves=12,
)


@given(_EXPRESSIONS, st.integers(1, 9), st.integers(1, 9))
def test_a_size_has_the_value_and_its_text_the_meaning_that_python_gives_it(written, s, t):
    size = Size(written)
    try:
        expected = eval(written, {"s": s, "t": t, "max": max})
    except ZeroDivisionError:
        with pytest.raises(FormatError, match="cannot be computed"):
            size.evaluate({"s": s, "t": t})
        return
    assert size.evaluate({"s": s, "t": t}) == expected
    assert eval(size.text, {"s": s, "t": t, "max": max}) == expected
    assert Size(size.text) == size


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            " ",
            "2*",
            "*s0",
            "s0 +",
            "(s0",
            "s0)",
            "s0 s1",
            "s0,s1",
            "s0..real",
            "1.5*s0",
            "0x1",
            "1" * 30,
            "s0 = 1",
        ),
        *("Symbol(s0)", "Symbol('s0', x)", "Symbol('s-0')", "Symbol('')", "Symbol('s0', f(x)=True)", "Symbol('a' 'b')"),
        *(
            "Add()",
            "FloorDiv(s0)",
            "FloorDiv(1, 2, 3)",
            "Integer()",
            "max(s0,)",
            "s0[0]",
            "'s0'",
            "s0; s1",
            "é",
            "s0\\n",
        ),
        *("(" * 60 + "s0" + ")" * 60, "-" * 3000 + "s0", "//".join(["s0"] * 500), "**".join(["s0"] * 900)),
        *("Add(" * 900 + "s0" + ")" * 900, "s0+" * 2000 + "s0"),
    ],
)
def test_what_is_no_size_is_refused(written):
    with pytest.raises(FormatError, match=r"no expression of a size|at most \d+ are read"):
        Size(written)


@pytest.mark.parametrize("written", ["__import__('os')", "exec(s0)", "Piecewise(s0, s1)", "open(s0)", "Float(s0)"])
def test_functions_that_are_not_known_are_refused_by_name_and_not_called(written):
    with pytest.raises(CylstmError) as raised:
        Size(written)
    assert isinstance(raised.value, UnsupportedError) == (written[0] != "_")
    assert written.partition("(")[0] in str(raised.value)


@pytest.mark.parametrize(
    ("written", "values", "message"),
    [
        ("s0*s1", {"s0": 1}, "needs a value of s1"),
        ("s0//s1", {"s0": 1, "s1": 0}, "cannot be computed"),
        ("s0 % s1", {"s0": 1, "s1": 0}, "cannot be computed"),
        ("s0/s1", {"s0": 1, "s1": 0}, "cannot be computed"),
        ("s0/2", {"s0": 5}, "no whole number"),
        ("s0**s0", {"s0": 40}, "beyond 62 bits"),
        ("s0**s1", {"s0": 2, "s1": -1}, "no small natural number"),
        ("2**s0", {"s0": 10**9}, "no small natural number"),
        ("s0*s0*s0", {"s0": 1 << 40}, "beyond 62 bits"),
        ("s0 + s0", {"s0": 1 << 61}, "beyond 62 bits"),
        ("1/s0/s0", {"s0": 1 << 40}, "beyond 62 bits"),
    ],
)
def test_a_size_that_cannot_be_computed_says_why(written, values, message):
    with pytest.raises(FormatError, match=message):
        Size(written).evaluate(values)


def test_the_largest_number_is_still_evaluated():
    assert Size("s0*2 + 1").evaluate({"s0": (1 << 61) - 1}) == (1 << 62) - 1
    assert math.isfinite(Size("s0**2").evaluate({"s0": 1 << 30}))
