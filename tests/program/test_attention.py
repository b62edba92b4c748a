"""Attention, as one operation and written out, against NumPy."""

import math

import numpy as np
import pytest

from cylstm.errors import CylstmError
from cylstm.formats.torch.aten import arithmetic
from cylstm.program.operations import elementwise as el
from cylstm.program.operations import shape
from cylstm.program.operations.attention import scaled_dot_product_attention
from cylstm.program.operations.linear import matmul
from cylstm.program.operations.softmax import softmax
from cylstm.program.tensor import BATCH_SIZE

from tests.builders.tensor_programs import ROWS, STEPS, TensorProgram

HEADS, SIZE, KEYS, WIDE = 2, 4, 6, 3


def attend(query, key, value, bias=0.0, scale=None):
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.swapaxes(-1, -2) * scale + bias
    grown = np.exp(scores - scores.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True) @ value


def three(program, heads=(), keys=KEYS):
    """Query, key and value: tensors, and their arrays."""
    made = [program.tensor(*heads, steps, size) for steps, size in ((STEPS, SIZE), (keys, SIZE), (keys, WIDE))]
    return [tensor for tensor, _ in made], [array for _, array in made]


@pytest.mark.parametrize("scale", [None, 0.3, 1.0])
@pytest.mark.parametrize("heads", [(), (HEADS,)])
def test_attention_is_numpys(heads, scale):
    program = TensorProgram()
    tensors, arrays = three(program, heads)
    program.check(scaled_dot_product_attention(program.net, *tensors, scale=scale), attend(*arrays, scale=scale))


@pytest.mark.parametrize("given", ["argument", "truths", "numbers"])
@pytest.mark.parametrize("heads", [(), (HEADS,)])
def test_a_query_that_sees_no_later_keys_is_numpys(heads, given):
    program = TensorProgram(1)
    tensors, arrays = three(program, heads, STEPS)
    later = np.triu(np.ones((STEPS, STEPS), bool), 1)
    bias = np.where(later, -np.inf, 0.0)
    mask = {"argument": None, "truths": ~later, "numbers": bias.astype(np.float32)}[given]
    found = scaled_dot_product_attention(program.net, *tensors, mask, given == "argument")
    program.check(found, attend(*arrays, bias))


@pytest.mark.parametrize("sizes", [(STEPS, KEYS), (1, KEYS), (HEADS, STEPS, KEYS), (1, HEADS, 1, KEYS)])
@pytest.mark.parametrize("is_truth", [False, True])
def test_a_constant_mask_is_matched_as_numpy_matches_it(sizes, is_truth):
    program = TensorProgram(2)
    tensors, arrays = three(program, (HEADS,))
    numbers = program.rng.normal(size=sizes).astype(np.float32)
    mask = numbers > -0.25
    mask[..., 0] = True
    bias = np.where(mask, 0.0, -np.inf) if is_truth else numbers.astype(np.float64)
    found = scaled_dot_product_attention(program.net, *tensors, mask if is_truth else numbers)
    program.check(found, attend(*arrays, bias))


def test_a_computed_mask_leaves_keys_out_row_by_row():
    program = TensorProgram(3)
    tensors, arrays = three(program, (HEADS,))
    numbers, array = program.tensor(1, 1, KEYS)
    allowed = el.binary(program.net, "greater", el.function(program.net, numbers, "abs"), 0.25)
    bias = np.where(np.abs(array) > 0.25, 0.0, -np.inf)
    program.check(scaled_dot_product_attention(program.net, *tensors, allowed), attend(*arrays, bias))


@pytest.mark.parametrize("is_open", [False, True])
def test_keys_and_values_may_be_constants_of_all_rows(is_open):
    program = TensorProgram(4)
    query, array = program.tensor(STEPS, SIZE, is_open=is_open)
    made = [program.constant(1, KEYS, size) for size in (SIZE, WIDE)]
    rows = [shape.expand(program.net, one, [BATCH_SIZE, -1, -1]) for one, _ in made]
    program.check(scaled_dot_product_attention(program.net, query, *rows), attend(array, *[wide for _, wide in made]))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "joined"), [((), False), ((HEADS,), False), ((HEADS,), True)])
def test_attention_written_out_is_one_layer_and_numpys(heads, causal, joined):
    program = TensorProgram(5)
    tensors, arrays = three(program, heads, STEPS if causal else KEYS)
    net = program.net
    if joined:
        tensors = [shape.flatten(net, one, 0, 1) for one in tensors]
    query, key, value = tensors
    scores = arithmetic.div(net, matmul(net, query, shape.transpose(net, key, -2, -1)), 1.5)
    bias = np.triu(np.full((STEPS, STEPS), -np.inf), 1) if causal else 0.0
    if causal:
        scores = arithmetic.add(net, scores, bias.astype(np.float32))
    found = matmul(net, softmax(net, scores, -1), value)
    expected = attend(*arrays, bias, 1 / 1.5)
    program.check(found, expected.reshape(-1, *expected.shape[-2:]) if joined else expected)
    kinds = [layer.kind for layer in net.builder._layers]
    assert kinds.count("attention") == 1
    assert "softmax" not in kinds


def test_scores_that_something_else_reads_are_numbers():
    program = TensorProgram(6)
    (query, key, value), (q, k, v) = three(program)
    net = program.net
    scores = arithmetic.mul(net, matmul(net, query, shape.transpose(net, key, -2, -1)), 0.5)
    weights = softmax(net, scores, -1)
    grown = np.exp(q @ k.swapaxes(-1, -2) * 0.5)
    expected = grown / grown.sum(-1, keepdims=True)
    program.check(
        [el.add(net, scores, 1.0), el.multiply(net, weights, 2.0), matmul(net, weights, value)],
        [np.log(grown) + 1, expected * 2, expected @ v],
    )


def test_any_number_of_steps_may_be_attended_to():
    program = TensorProgram(7)
    tensor, array = program.tensor(STEPS, SIZE, is_open=True)
    net = program.net
    key = el.function(net, tensor, "sin")
    program.check(
        [
            scaled_dot_product_attention(net, tensor, key, tensor),
            scaled_dot_product_attention(net, tensor, key, tensor, causal=True),
        ],
        [
            attend(array, np.sin(array), array),
            attend(array, np.sin(array), array, np.triu(np.full((STEPS, STEPS), -np.inf), 1)),
        ],
    )


@pytest.mark.parametrize("keys", [STEPS, KEYS])
@pytest.mark.parametrize("given", ["nothing", "truths", "numbers", "computed", "computed numbers"])
def test_a_mask_and_causal_hold_together(given, keys):
    """PyTorch joins them too where it computes both, on the CPU; a mask alone would show later keys."""
    program = TensorProgram(9)
    tensors, arrays = three(program, (HEADS,), keys)
    net = program.net
    if given.startswith("computed"):
        numbers, array = program.tensor(1, 1, keys)
        mask = numbers if "numbers" in given else el.binary(net, "greater", numbers, 0.25)
        bias = array if "numbers" in given else np.where(array > 0.25, 0.0, -np.inf)
    else:
        array = program.rng.normal(size=(STEPS, keys)).astype(np.float32)
        mask = {"nothing": None, "truths": array > 0.25, "numbers": array}[given]
        bias = {"nothing": 0.0, "truths": np.where(array > 0.25, 0.0, -np.inf), "numbers": array.astype(float)}[given]
    bias = bias + np.triu(np.full((STEPS, keys), -np.inf), 1)
    found = scaled_dot_product_attention(net, *tensors, mask, causal=True)
    with np.errstate(invalid="ignore"):
        program.check(found, np.nan_to_num(attend(*arrays, bias), nan=0.0))


@pytest.mark.parametrize(("given", "left_out"), [("truths", -np.inf), ("numbers", -np.inf), ("computed", -np.inf),
                                                 ("truths", -1e38), ("computed", -1e38)])  # fmt: skip
def test_a_query_that_sees_no_key_gives_zero_or_the_average_of_all_values(given, left_out):
    program = TensorProgram(10)
    tensors, arrays = three(program, (HEADS,))
    allowed = program.rng.random((ROWS if given == "computed" else 1, 1, STEPS, KEYS)) > 0.4
    allowed[..., 1, :] = False
    bias = np.where(allowed, 0.0, -np.inf)
    mask = {"truths": allowed, "numbers": bias.astype(np.float32), "computed": None}[given]
    if mask is None:
        numbers, _ = program.tensor(1, STEPS, KEYS, numbers=allowed)
        mask = el.binary(program.net, "greater", numbers, 0.5)
    found = scaled_dot_product_attention(program.net, *tensors, mask, left_out=left_out)
    with np.errstate(invalid="ignore"):
        expected = attend(*arrays, bias)
    assert np.isnan(expected[..., 1, :]).all()
    empty = 0.0 if left_out == -np.inf else arrays[2].mean(-2, keepdims=True)
    program.check(found, np.where(np.isnan(expected), empty, expected))


def test_shapes_that_are_no_attention_are_refused():
    program = TensorProgram(8)
    (query, key, value), _ = three(program)
    steps, _ = program.tensor(STEPS, SIZE, is_open=True)
    with pytest.raises(CylstmError, match="causal attention beside a mask.*needs the number of steps"):
        scaled_dot_product_attention(program.net, steps, key, value, causal=True)
    with pytest.raises(CylstmError, match="attention expected"):
        scaled_dot_product_attention(program.net, query, np.zeros((KEYS, SIZE), np.float32), value)
    with pytest.raises(CylstmError, match="mixes the rows"):
        scaled_dot_product_attention(program.net, query, key, value, np.zeros((ROWS + 2, STEPS, KEYS), np.float32) + 1)
