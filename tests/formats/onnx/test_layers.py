"""Operators that are layers, as ONNX Runtime computed them when `tests/data/onnx_layers/generate.py` ran."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names

from tests import DATA
from tests.builders.networks import same

MODELS = sorted(path.stem for path in (DATA / "onnx_layers").glob("*.onnx"))


def rows_first(array):
    """The batch, 3 rows, is the only axis of this size."""
    return np.ascontiguousarray(np.moveaxis(array, array.shape.index(3), 0))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_onnx_runtimes_numbers(name):
    model = cylstm.load(DATA / "onnx_layers" / f"{name}.onnx", time="T")
    with np.load(DATA / "onnx_layers" / f"{name}.npz") as kept:
        arrays = {key[2:]: kept[key] for key in kept if key.startswith("x_")}
        theirs = [kept[f"y{k}"] for k in range(len(kept) - len(arrays))]
    given = [rows_first(arrays[name]) for name in model.graph.inputs]
    lengths = [array for name, array in arrays.items() if name not in model.graph.inputs]
    steps = np.arange(max(arrays["X"].shape))
    mask = {"X": steps < lengths[0][:, np.newaxis]} if lengths else None
    found = model.predict(given if len(given) > 1 else given[0], mask=mask)
    found = found if isinstance(found, (list, tuple)) else [found]
    for ours, other in zip(found, map(rows_first, theirs), strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=2e-6 * max(1.0, np.abs(other).max()))


def test_there_is_a_model_of_every_kind():
    assert len(MODELS) == 9


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_bits_however_it_is_computed(name, monkeypatch):
    model = cylstm.load(DATA / "onnx_layers" / f"{name}.onnx", time="T")
    with np.load(DATA / "onnx_layers" / f"{name}.npz") as kept:
        given = [rows_first(kept[f"x_{one}"]) for one in model.graph.inputs]

    def results(model, given, **options):
        found = model.predict(given if len(given) > 1 else given[0], **options)
        return list(found) if isinstance(found, (list, tuple)) else [found]

    whole = results(model, given)
    ways = [results(model, given, threads=threads) for threads in (2, 3)]
    rows = [results(model, [one[k : k + 1] for one in given]) for k in range(3)]
    ways.append([np.concatenate(parts) for parts in zip(*rows)])
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        ways.append(results(cylstm.Model(model.graph), given))
    for way in ways:
        for one, other in zip(way, whole, strict=True):
            assert same(np.ascontiguousarray(one), np.ascontiguousarray(other))
