"""Weights that wait in their file until they are packed."""

import gc
import io
import os
import warnings

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError
from cylstm.formats import safetensors
from cylstm.formats.registry import open_file
from cylstm.formats.state_dict import wiring as L
from cylstm.formats.torch import tensors as torch_tensors
from cylstm.graph.weights import StoredTensor, as_stored

from tests.builders.networks import bits
from tests.builders.weight_files import linear_tensors, lstm_tensors, write_safetensors, write_stream, write_torch

LAYERS = [L.Conv1d("conv", padding=2), L.LSTM("lstm"), L.GRU("gru"), L.Last(), L.Linear("fc"), L.Linear("fc")]
WRITERS = pytest.mark.parametrize("write", [write_torch, write_stream, write_safetensors])


@pytest.fixture
def tensors(rng):
    gru = {name: array[: 3 * 19] for name, array in lstm_tensors(rng, "gru", 14, 19).items()}
    return {
        "conv.weight": rng.normal(size=(6, 3, 5)).astype(np.float32),
        **lstm_tensors(rng, "lstm", 6, 11, layers=2, directions=2, projection=7),
        **gru,
        **linear_tensors(rng, "fc", 19, 19),
    }


@pytest.fixture
def all_wait(monkeypatch):
    for module in (torch_tensors, safetensors):
        monkeypatch.setattr(module, "PIECE_BYTES", 0)


@WRITERS
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_weights_that_wait_in_their_file_are_those_of_memory(rng, tmp_path, tensors, all_wait, write, dtype, engine):
    tensors = {name: array.astype(dtype) for name, array in tensors.items()}
    path = write(tmp_path / "net", tensors)
    waiting = as_stored(open_file(path, layers=LAYERS)[0].tensors)
    assert {name for name, tensor in waiting.items() if isinstance(tensor, StoredTensor)} >= {
        "lstm.l0.weight_ih",
        "lstm.l1.reverse.weight_hr",
        "gru.l0.weight_hh",
        "fc.weight",
    }
    x = rng.normal(size=(2, 9, 3)).astype(np.float32)
    options = {"layers": LAYERS, "engine": engine, "dtype": "float32"}
    found = cylstm.load(path, **options)
    expected = cylstm.from_state_dict(tensors, **options)
    np.testing.assert_array_equal(bits(found.predict(x)), bits(expected.predict(x)))
    for name, array in expected.graph.tensors.items():
        np.testing.assert_array_equal(found.graph.tensors[name], array, err_msg=name)


@WRITERS
def test_the_file_is_closed_when_the_model_is_packed(tmp_path, tensors, all_wait, write):
    path = write(tmp_path / "net", tensors)
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        model = cylstm.load(path, layers=LAYERS)
        gc.collect()
    if os.path.isdir("/proc/self/fd"):
        files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert os.path.realpath(path) not in files
    assert model.predict(np.zeros((1, 4, 3), np.float32)).shape == (1, 19)


@WRITERS
def test_a_weight_that_is_not_finite_is_named_though_it_waits(tmp_path, tensors, all_wait, write):
    tensors["gru.weight_hh_l0"][3, 4] = np.nan
    with pytest.warns(UserWarning, match=r"NaN or infinity in gru\.weight_hh_l0$"):
        cylstm.load(write(tmp_path / "net", tensors), layers=LAYERS)


@WRITERS
def test_a_file_cut_off_before_its_weights_are_packed_is_refused(rng, tmp_path, all_wait, write):
    # of a smaller file all may be in the buffer of the open one, 128 KiB from Python 3.14 on
    size = io.DEFAULT_BUFFER_SIZE // 64
    path = write(tmp_path / "net", linear_tensors(rng, "fc", size, 4 * 64))
    graph, _ = open_file(path, layers=[L.Input((None, size)), L.Linear("fc")])
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(FormatError, match="net.*(beyond the end|ends early)"):
        cylstm.Model(graph)
