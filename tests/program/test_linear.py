"""Affine maps, products of matrices and einsum, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cylstm.errors import CylstmError, ShapeError
from cylstm.graph.values import StaticTimeNeeded
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import shape
from cylstm.program.operations.linear import einsum, embedding, linear, matmul
from cylstm.program.tensor import BATCH_SIZE, Constant

from tests.builders.tensor_programs import FEATURES, ROWS, STEPS, TensorProgram, in_form

LETTERS = {"b": ROWS, "t": STEPS, "f": FEATURES, "g": 6, "h": 2, "k": 7}


@pytest.mark.parametrize("form", ["steps are known", "any number of steps", "time first", "steps as rows"])
def test_a_map_of_the_last_axis_is_numpys(form):
    program = TensorProgram()
    tensor, array = in_form(program, form)
    weight, wide = program.constant(6, array.shape[-1])
    bias, wide_bias = program.constant(6)
    vector, wide_vector = program.constant(array.shape[-1])
    program.check(
        [linear(program.net, tensor, weight, bias), linear(program.net, tensor, weight),
         linear(program.net, tensor, vector)],
        [array @ wide.T + wide_bias, array @ wide.T, array @ wide_vector],
    )  # fmt: skip


def test_a_map_over_known_steps_and_with_computed_weights_is_numpys():
    program = TensorProgram(1)
    tensor, array = program.tensor(STEPS, FEATURES)
    rows, other = program.tensor(6, STEPS)
    bias, wide = program.constant(6)
    turned = shape.transpose(program.net, tensor, 1, 2)
    program.check(linear(program.net, turned, rows, bias), array.swapaxes(1, 2) @ other.swapaxes(1, 2) + wide)


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((STEPS, 4), (4, 6)),
        ((STEPS, 4), (4, 1)),
        ((STEPS, 4), (4,)),
        ((STEPS, 4), (1, 4, 6)),
        ((STEPS, 4), (1, 1, 4, 6)),
    ],
)
def test_a_product_with_a_constant_is_numpys(a, b, is_open):
    program = TensorProgram(2)
    tensor, array = program.tensor(*a, is_open=is_open)
    constant, wide = program.constant(*b)
    program.check(matmul(program.net, tensor, constant), array @ wide)


@pytest.mark.parametrize("sizes", [(6, STEPS), (1, STEPS), (STEPS,)])
def test_a_constant_times_steps_is_numpys(sizes):
    program = TensorProgram(3)
    tensor, array = program.tensor(STEPS, FEATURES)
    constant, wide = program.constant(*sizes)
    program.check(matmul(program.net, constant, tensor), wide @ array)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((STEPS, 4), (4, 6)),
        ((1, 4), (4, 6)),
        ((STEPS, 4), (4, 1)),
        ((2, STEPS, 4), (2, 4, 6)),
        ((2, STEPS, 4), (1, 4, 6)),
        ((1, STEPS, 4), (2, 4, 6)),
        ((2, 3, STEPS, 4), (2, 3, 4, 6)),
        ((2, 3, 1, 4), (2, 1, 4, 6)),
    ],
)
def test_a_product_of_tensors_is_numpys(a, b):
    program = TensorProgram(4)
    first, array = program.tensor(*a)
    second, other = program.tensor(*b)
    program.check(el.multiply(program.net, matmul(program.net, first, second), 2.0), array @ other * 2)


def test_products_over_any_number_of_steps_are_numpys():
    program = TensorProgram(5)
    tensor, array = program.tensor(STEPS, FEATURES, is_open=True)
    map_of, other = program.tensor(FEATURES, 6)
    turned = shape.transpose(program.net, tensor, 1, 2)
    squares = matmul(program.net, turned, el.function(program.net, tensor, "sin"))
    program.check(
        [
            squares,
            matmul(program.net, tensor, map_of),
            el.function(program.net, matmul(program.net, turned, tensor), "abs"),
        ],
        [array.swapaxes(1, 2) @ np.sin(array), array @ other, np.abs(array.swapaxes(1, 2) @ array)],
    )
    pairs = matmul(program.net, tensor, turned)
    with pytest.raises(StaticTimeNeeded):
        el.function(program.net, el.add(program.net, pairs, 0.5), "sin")


def test_products_that_do_not_fit_or_mix_rows_are_errors():
    program = TensorProgram(6)
    tensor, _ = program.tensor(STEPS, FEATURES)
    with pytest.raises(ShapeError, match="does not fit"):
        matmul(program.net, tensor, program.tensor(STEPS, FEATURES)[0])
    with pytest.raises(ShapeError, match="expected 3 features"):
        matmul(program.net, tensor, np.zeros((3, 2), np.float32))
    with pytest.raises(CylstmError, match="mixes the rows"):
        matmul(program.net, tensor, np.zeros((7, FEATURES, 2), np.float32))
    with pytest.raises(CylstmError, match="mixes the rows"):
        matmul(program.net, np.zeros((2, ROWS), np.float32), program.tensor(FEATURES)[0])


@pytest.mark.parametrize("dims", [(0, 1), (1, 0)])
def test_steps_as_rows_are_multiplied_row_by_row(dims):
    program = TensorProgram(7)
    tensor, array = program.tensor(2, STEPS, FEATURES)
    rows = shape.flatten(program.net, tensor, 0, 1)
    flat = array.reshape(-1, STEPS, FEATURES)
    other, numbers = (shape.transpose(program.net, rows, 1, 2), flat.swapaxes(1, 2)) if dims == (0, 1) else (rows, flat)
    first, second = (rows, other) if dims == (0, 1) else (shape.transpose(program.net, rows, 1, 2), other)
    expected = flat @ numbers if dims == (0, 1) else flat.swapaxes(1, 2) @ flat
    program.check(el.add(program.net, matmul(program.net, first, second), 1.0), expected + 1)


EQUATIONS = [
    ("btf->bft", "t"),
    ("btf,gf->btg", "tc"),
    ("gf,btf->bgt", "ct"),
    ("btf,bgf->btg", "tt"),
    ("btf,btf->bt", "tt"),
    ("btf,btf->b", "tt"),
    ("btf,bf->bt", "tt"),
    ("btf,bt->bf", "tt"),
    ("btf,f->bt", "tc"),
    ("btf,tf->b", "tc"),
    ("bf,bg->bfg", "tt"),
    ("bf,g->bfg", "tc"),
    ("bthf,bkhf->bhtk", "tt"),
    ("bhtk,bkhf->bthf", "tt"),
    ("bf,gfh,bg->bh", "tct"),
    ("btf,gfh,bg->bth", "tct"),
    ("...f,gf->...g", "tc"),
    ("b...f,bf->b...", "tt"),
    ("btf,gf", "tc"),
    ("btf -> b", "t"),
]


@pytest.mark.parametrize(("equation", "kinds"), EQUATIONS)
def test_an_einsum_is_numpys(equation, kinds):
    program = TensorProgram(8)
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    found, arrays = [], []
    for term, kind in zip(terms, kinds, strict=True):
        term = term.replace("...", "bt" if term.startswith("...") else "t")
        sizes = [LETTERS[one] for one in term]
        tensor, array = program.tensor(*sizes[1:]) if kind == "t" else program.constant(*sizes)
        found.append(tensor)
        arrays.append(array)
    program.check(einsum(program.net, equation, found), np.einsum(equation, *arrays), 4e-6)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_any_einsum_is_numpys_or_refused(seed):
    program = TensorProgram(seed)
    rng = program.rng
    letters = list("tfghk"[: int(rng.integers(2, 5))])
    found, arrays, terms = [], [], []
    for number in range(int(rng.integers(1, 4))):
        term = list(rng.permutation(letters)[: int(rng.integers(1, len(letters) + 1))])
        is_constant = number > 0 and bool(rng.integers(2))
        sizes = [LETTERS[one] for one in term]
        tensor, array = program.constant(*sizes) if is_constant else program.tensor(*sizes)
        terms.append("".join(term if is_constant else ["b", *term]))
        found.append(tensor)
        arrays.append(array)
    named = sorted({one for term in terms for one in term} - {"b"})
    result = list(rng.permutation(named)[: int(rng.integers(1, len(named) + 1))])
    equation = f"{','.join(terms)}->{''.join(rng.permutation(['b', *result]))}"
    expected = np.einsum(equation, *arrays)
    try:
        y = einsum(program.net, equation, found)
    except CylstmError as error:
        assert "mixes" not in str(error), equation
        raise AssertionError(f"{equation}: {error}") from error
    program.check(y, expected, 2e-5)


@pytest.mark.parametrize("equation", ["btf,gf->btg", "btf,btf->bt", "btf,bt->bf", "tbf,gf->tbg", "btf,btg->bfg"])
def test_an_einsum_over_any_number_of_steps_is_numpys(equation):
    program = TensorProgram(9)
    first, second = equation.partition("->")[0].split(",")
    order = (1, 0, 2) if first == "tbf" else (0, 1, 2)
    tensor, array = program.tensor(STEPS, FEATURES, order=order, is_open=True)
    if "b" in second:
        other = el.function(program.net, tensor, "sin")
        numbers = np.sin(array)
        if second == "bt":
            other, numbers = shape.squeeze(program.net, other, 2), numbers
            other = shape.squeeze(program.net, shape.unsqueeze(program.net, other, 2), 2)
            from cylstm.program.operations.parts import select

            other, numbers = select(program.net, other, 2, 1), numbers[:, :, 1]
    else:
        other, numbers = program.constant(6, FEATURES)
    program.check(einsum(program.net, equation, [tensor, other]), np.einsum(equation, array, numbers), 4e-6)


def test_an_einsum_over_the_rows_is_refused():
    program = TensorProgram(10)
    tensor, _ = program.tensor(STEPS, FEATURES)
    for equation in ("btf->tf", "btf,cgf->btcg"):
        with pytest.raises(CylstmError, match="mixes the rows|between rows"):
            einsum(program.net, equation, [tensor, tensor][: equation.count(",") + 1])
    with pytest.raises(ShapeError, match="einsum"):
        einsum(program.net, "bt,bt->b", [tensor, tensor])


@pytest.mark.parametrize("is_open", [False, True])
def test_computed_numbers_choose_rows_of_a_table(is_open):
    program = TensorProgram(11)
    table, wide = program.constant(7, FEATURES)
    tensor, array = program.tensor(STEPS, 2, is_open=is_open, numbers=program.rng.integers(0, 6, (ROWS, STEPS, 2)))
    places = el.cast(program.net, el.add(program.net, tensor, 1.25), "int")
    program.check(embedding(program.net, places, table), wide[array.astype(int) + 1])
    with pytest.raises(CylstmError, match="whole numbers"):
        embedding(program.net, tensor, table)


def test_a_product_with_a_constant_of_all_rows_is_the_same_for_each():
    program = TensorProgram(12)
    tensor, array = program.tensor(STEPS, FEATURES)
    constant, wide = program.constant(1, FEATURES, 6)
    rows = shape.expand(program.net, constant, [BATCH_SIZE, -1, -1])
    program.check(el.add(program.net, matmul(program.net, tensor, rows), 1.0), array @ wide + 1)


@pytest.mark.parametrize("bias", [False, True])
def test_constants_of_all_rows_are_multiplied_before_the_network_runs(bias):
    program = TensorProgram(23)
    tensor, array = program.tensor(STEPS, FEATURES)
    weight, wide = program.constant(5, FEATURES)
    shift, wide_shift = program.constant(5)
    row, wide_row = program.constant(1, 1, FEATURES)
    rows = Constant(row, (BATCH_SIZE, 1, FEATURES))
    projected = linear(program.net, rows, weight, shift if bias else None)
    assert projected.shape == (BATCH_SIZE, 1, 5) and isinstance(projected, Constant)
    found = el.add(program.net, linear(program.net, tensor, weight), projected)
    expected = array @ wide.T + wide_row @ wide.T + (wide_shift if bias else 0.0)
    vector = matmul(program.net, rows, weight[0])
    assert vector.shape == (BATCH_SIZE, 1) and np.allclose(vector.array, wide_row[:, 0] @ wide[0])
    program.check(found, expected)
    with pytest.raises(CylstmError, match="unknown sizes"):
        matmul(program.net, Constant(row[0].T, (FEATURES, BATCH_SIZE)), weight[:, :1])
