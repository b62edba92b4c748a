"""Layers and inputs that do not fit are refused by the layer's name."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, ShapeError, UnsupportedError
from cylstm.graph.values import StaticTimeNeeded

from tests.builders.layers import NORMS, T, conv, graph_of, one_layer


@pytest.mark.parametrize("packed", [False, True])
def test_a_files_variance_that_is_not_above_0_is_refused_by_name(rng, tmp_path, packed):
    path = tmp_path / "a.cylstm"
    graph = graph_of(rng, NORMS[0])
    graph.tensors["tested.variance"][3] = 77.25
    cylstm.Model(graph).save(path, packed=packed)
    data = path.read_bytes()
    assert data.count(np.float32(77.25).tobytes()) == 1
    path.write_bytes(data.replace(np.float32(77.25).tobytes(), np.float32(-77.25).tobytes()))
    with pytest.raises(CylstmError, match="layer 'tested', tensor 'variance': expected numbers above 0") as caught:
        cylstm.load(path)
    assert "a.cylstm" in str(caught.value)


def test_too_few_steps_are_refused_with_the_layers_name(rng):
    model = cylstm.Model(graph_of(rng, conv(kernel=5)))
    with pytest.raises(ShapeError, match="input 'input': 4 steps are too few for layer 'tested'"):
        model.predict(np.zeros((2, 4, 6), "f"))
    assert model.predict(np.zeros((2, 5, 6), "f")).shape == (2, 1, 8)


def test_an_input_of_a_fixed_number_of_steps_takes_no_other(rng):
    model = cylstm.Model(graph_of(rng, ("reshape", (T, 4), {"shape": "-1"})))
    with pytest.raises(ShapeError, match=f"expected {T} steps, found {T + 1}"):
        model.predict(np.zeros((2, T + 1, 4), "f"))
    assert model.predict(np.zeros((T, 4), "f")).shape == (4 * T,)


BAD = [
    ("conv1d", (None, 6), {}, {"weight": (8, 3, 5)}, ShapeError, r"expected shape \(8, 3, 6\)"),
    ("conv1d", (None, 6), {"groups": 4}, {"weight": (8, 3, 6)}, ShapeError, "6/4"),
    ("conv1d", (None, 6), {"stride": 0}, {"weight": (8, 3, 6)}, UnsupportedError, "option stride expected"),
    ("conv1d", (None, 6), {"stride": 1.5}, {"weight": (8, 3, 6)}, UnsupportedError, "option stride expected"),
    ("conv1d", (None, 6), {"dilation": 1 << 20}, {"weight": (8, 99, 6)}, UnsupportedError, "reaches over"),
    ("conv1d", (None, 6), {"padding": "full"}, {"weight": (8, 3, 6)}, UnsupportedError, "option padding expected"),
    ("conv1d", (None, 6), {"pad_before": 1}, {"weight": (8, 3, 6)}, UnsupportedError, "contradict"),
    ("conv1d", (2, 6), {}, {"weight": (8, 3, 6)}, ShapeError, "layer 'tested': 2 steps are too few"),
    ("conv1d", (None, 2, 6), {}, {"weight": (8, 3, 6)}, ShapeError, r"expected \(time, channels\)"),
    ("pool1d", (None, 6), {"mode": "median"}, {}, UnsupportedError, "option mode expected"),
    ("pool1d", (None, 6), {"ceil_mode": True, "stride": 5}, {}, UnsupportedError, "ceil_mode with windows"),
    ("pool1d", (4, 6), {"ceil_mode": True, "stride": 5}, {}, UnsupportedError, "ceil_mode with windows"),
    ("pool1d", (None, 6), {"axis": 2}, {}, ShapeError, "expected an axis"),
    ("pool1d", (None, 2, 6), {"axis": 1, "pool": 3}, {}, ShapeError, "2 steps are too few"),
    ("conv_transpose", (None, 6), {}, {"weight": (8, 3, 5)}, ShapeError, r"expected shape \(8, 3, 6\)"),
    ("conv_transpose", (None, 6), {}, {"weight": (8, 6)}, ShapeError, "kernel_rows, kernel_columns, 6/1"),
    ("conv_transpose", (None, 6), {}, {"weight": (8, 3, 3, 6)}, ShapeError, r"expected \(rows, columns, channels\)"),
    ("conv_transpose", (None, 6), {"groups": 4}, {"weight": (8, 3, 6)}, ShapeError, "6/4"),
    ("conv_transpose", (None, 6), {"stride_rows": 0}, {"weight": (8, 3, 6)}, UnsupportedError, "option stride_rows"),
    ("conv_transpose", (None, 6), {"crop_left": 1}, {"weight": (8, 3, 6)}, UnsupportedError, "crop_left is of columns"),
    ("conv_transpose", (None, 6), {"dilation_rows": 1 << 20}, {"weight": (8, 99, 6)}, UnsupportedError, "reaches over"),
    ("conv_transpose", (2, 6), {"crop_before": 4}, {"weight": (8, 3, 6)}, ShapeError, "nothing is left"),
    ("batch_norm", (None, 6), {}, {"mean": (6,)}, ShapeError, "weights expected mean, variance"),
    ("batch_norm", (None, 6), {"epsilon": -1.0}, {"mean": (6,), "variance": (6,)}, UnsupportedError, "epsilon"),
    ("layer_norm", (None, 6), {"axes": 2}, {}, StaticTimeNeeded, "number of steps in advance"),
    ("layer_norm", (None, 6), {"axes": 3}, {}, UnsupportedError, "option axes expected"),
    ("group_norm", (None, 6), {"groups": 4}, {}, ShapeError, "6 channels do not make 4 groups"),
    ("reshape", (None, 6), {"shape": "-1"}, {}, StaticTimeNeeded, "number of steps in advance"),
    ("reshape", (4, 6), {"shape": "5,-1"}, {}, ShapeError, "cannot be reshaped to '5,-1'"),
    ("reshape", (4, 6), {"shape": "-1,-1"}, {}, ShapeError, "cannot be reshaped"),
    ("reshape", (4, 6), {"shape": "a"}, {}, UnsupportedError, "option shape expected"),
    ("permute", (4, 6), {"order": "00"}, {}, ShapeError, "option order expected"),
    ("permute", (None, 6), {"order": "10"}, {}, StaticTimeNeeded, "moving the time axis"),
    ("slice", (None, 6), {"axis": 2}, {}, ShapeError, r"expected an axis of \(None, 6\)"),
    ("slice", (None, 6), {"axis": 1, "start": 4, "count": 3}, {}, ShapeError, "3 numbers from 4 on"),
    ("slice", (None, 6), {"start": -1, "count": 2}, {}, StaticTimeNeeded, "in advance"),
    ("pad", (None, 6), {"before": 1, "mode": "reflect"}, {}, StaticTimeNeeded, "in advance"),
    ("pad", (4, 6), {"before": 4, "mode": "reflect"}, {}, ShapeError, "too many"),
    ("pad", (4, 6), {"before": -1}, {}, UnsupportedError, "option before expected"),
    ("upsample", (None, 6), {"axis": -3}, {}, ShapeError, "expected an axis"),
    ("repeat_vector", (None, 6), {"count": 3}, {}, ShapeError, "expected a vector or state"),
    ("reduce", (None, 6), {"mode": "median"}, {}, UnsupportedError, "option mode expected"),
    ("reduce", (None, 6), {"correction": 1}, {}, UnsupportedError, "option correction is for mode 'var'"),
    ("reduce", (None, 6), {"mode": "var", "correction": -1}, {}, UnsupportedError, "option correction expected"),
    ("cumulate", (None, 6), {"mode": "mean"}, {}, UnsupportedError, "option mode expected"),
    ("cumulate", (None, 6), {"axis": 2}, {}, ShapeError, "expected an axis"),
    ("take", (None, 6), {"axis": 0}, {"indices": (2,)}, StaticTimeNeeded, "number of steps in advance"),
    ("take", (None, 6), {}, {"indices": (2, 1)}, ShapeError, r"expected shape \(n,\), found \(2, 1\)"),
    ("topk", (None, 6), {"k": 7}, {}, ShapeError, "less than 7 numbers"),
    ("topk", (None, 6), {"axis": 0, "k": 2}, {}, StaticTimeNeeded, "number of steps in advance"),
    ("topk", (None, 6), {"k": -1}, {}, UnsupportedError, "option k expected"),
    ("glu", (None, 5), {}, {}, ShapeError, "even number of features"),
    ("prelu", (None, 6), {}, {"slope": (5,)}, ShapeError, "'slope'"),
    ("softmax", (None, 6), {"axis": "last"}, {}, UnsupportedError, "option 'axis' expected a number"),
    ("embedding", (None, 6), {}, {"weight": (5, 3)}, ShapeError, "inputs expected indices"),
]


@pytest.mark.parametrize("case", BAD, ids=[f"{i} {case[0]}" for i, case in enumerate(BAD)])
def test_a_layer_that_does_not_fit_is_refused_by_name(rng, case):
    kind, shape, options, weights, error, message = case
    with pytest.raises(error, match=message) as caught:
        one_layer(rng, kind, shape, options, weights)
    assert isinstance(caught.value, CylstmError) and "'tested'" in str(caught.value)


def test_values_that_do_not_match_are_refused(rng):
    with pytest.raises(ShapeError, match=r"shapes \(None, 3\) of 'input' and \(4,\) of 'input.x1' do not match"):
        one_layer(rng, "merge", (None, 3), {"mode": "sum"}, others=[("x1", (4,))])
    with pytest.raises(ShapeError, match="come from different inputs"):
        one_layer(rng, "merge", (None, 3), {"mode": "sum"}, others=[("x1", (None, 3))])
    with pytest.raises(ShapeError, match="joining along the time"):
        one_layer(rng, "merge", (None, 3), {"axis": 0}, others=[("x1", (None, 3))])
    with pytest.raises(ShapeError, match="query and key of different sizes"):
        one_layer(rng, "attention", (None, 3), {}, others=[("key", (4, 2)), ("value", (4, 2))])
    with pytest.raises(ShapeError, match="mask_value .* is not of the time of"):
        one_layer(
            rng,
            "attention",
            (None, 3),
            {},
            others=[("key", (4, 3)), ("value", (4, 2))],
            masks=[("mask_value", "x")],
        )
