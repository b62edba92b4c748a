"""From a graph to the model of C: layers that call the same weights share one packing of them."""

import pickle

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.formats.registry import write
from cylstm.graph.builder import GraphBuilder
from cylstm.summary import summary_text

from tests.builders.networks import bits, reloaded

STEPS = 4


def written_out_loop(rng, *, shares=True):
    """A loop that feeds the result of an LSTM and a dense layer back, written out; or with a copy of all weights each
    time."""
    sizes = {"weight_ih": (4 * 19, 7), "weight_hh": (4 * 19, 19), "bias": (4 * 19,)}
    lstm = {role: rng.normal(0, 0.3, size).astype(np.float32) for role, size in sizes.items()}
    head = {"weight": rng.normal(size=(7, 19)).astype(np.float32), "bias": rng.normal(size=7).astype(np.float32)}
    builder = GraphBuilder()
    y = builder.input("x", (None, 7))
    states = {}
    for step in range(STEPS):
        made = builder.add("lstm", f"lstm{step}", {"x": y, **states}, lstm)
        y = builder.add("dense", f"head{step}", {"x": made["y"]}, head, {"activation": "tanh"})["y"]
        states = {"h0": made["h"], "c0": made["c"]}
        if shares:
            lstm = {role: f"lstm0.{role}" for role in lstm}
            head = {role: f"head0.{role}" for role in head}
    builder.output(y)
    return cylstm.Model(builder.build())


@pytest.fixture
def models():
    """The same numbers, shared and in copies."""
    return written_out_loop(np.random.default_rng(3)), written_out_loop(np.random.default_rng(3), shares=False)


def steps(rng):
    return rng.normal(size=(3, 5, 7)).astype(np.float32)


def test_calls_of_one_layer_share_its_packed_weights(rng, models):
    shared, copies = models
    x = steps(rng)
    np.testing.assert_array_equal(bits(shared.predict(x)), bits(copies.predict(x)))
    assert shared._packed.nbytes * STEPS == copies._packed.nbytes
    assert list(shared._packed.arrays_of_files()) == ["lstm0", "head0"]
    assert (summary_text(shared).count("shared"), summary_text(copies).count("shared")) == (2 * (STEPS - 1), 0)


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("weights", ["float16", "int8a16"])
def test_shared_weights_of_every_type_give_the_bits_of_copies(rng, models, isa, weights, monkeypatch):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    shared, copies = (cylstm.Model(model.graph, weights=weights) for model in models)
    x = steps(rng)
    np.testing.assert_array_equal(bits(shared.predict(x)), bits(copies.predict(x)))
    assert shared._packed.nbytes * STEPS == copies._packed.nbytes


def test_layers_of_one_matrix_in_two_types_do_not_share_its_packing(rng, models):
    """What a file may say; `Model.quantize` gives all layers of a matrix one type."""
    types = {("lstm1", "weight_hh"): "float16", ("head2", "weight"): "bfloat16"}
    shared, copies = (cylstm.Model(model.graph._replace(weight_types=types)) for model in models)
    x = steps(rng)
    np.testing.assert_array_equal(bits(shared.predict(x)), bits(copies.predict(x)))


def test_shared_weights_are_saved_once_and_read_again(rng, models, tmp_path):
    shared, copies = models
    x = steps(rng)
    y = bits(copies.predict(x))
    for again in [*reloaded(shared, tmp_path), pickle.loads(pickle.dumps(shared))]:
        np.testing.assert_array_equal(bits(again.predict(x)), y)
        for name, array in shared.graph.tensors.items():
            np.testing.assert_array_equal(again.graph.tensors[name], array)
    for name, model in (("shared", shared), ("copies", copies)):
        model.save(tmp_path / f"{name}.cylstm", packed=True)
    small, large = ((tmp_path / f"{name}.cylstm").stat().st_size for name in ("shared", "copies"))
    assert large - small > (STEPS - 1) * shared._packed.nbytes * 0.9


def test_a_packed_file_with_the_weights_of_every_call_is_read_too(rng, models, tmp_path):
    shared, copies = models
    every = copies._packed.arrays()
    write(shared.graph, str(tmp_path / "every.cylstm"), every)
    x = steps(rng)
    for mmap in (False, True):
        again = cylstm.load(tmp_path / "every.cylstm", mmap=mmap)
        np.testing.assert_array_equal(bits(again.predict(x)), bits(copies.predict(x)))


def test_a_trace_of_shared_weights_has_every_call(rng, models):
    shared, copies = models
    x = steps(rng)
    found, expected = shared.trace(x), copies.trace(x)
    for step in range(STEPS):
        for part in "ifgohc":
            found_part, expected_part = (getattr(trace[f"lstm{step}"], part) for trace in (found, expected))
            np.testing.assert_array_equal(bits(found_part), bits(expected_part))


def test_calls_with_other_options_have_packings_of_their_own(rng):
    weight = {"weight": rng.normal(size=(7, 7)).astype(np.float32)}
    builder = GraphBuilder()
    y = builder.input("x", (None, 7))
    y = builder.add("dense", "a", {"x": y}, weight, {"activation": "tanh"})["y"]
    y = builder.add("dense", "b", {"x": y}, {"weight": "a.weight"}, {"activation": "sigmoid"})["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = steps(rng)
    expected = 1 / (1 + np.exp(-np.tanh(x @ weight["weight"].T) @ weight["weight"].T))
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-6)
    assert list(model._packed.arrays_of_files()) == ["a", "b"]
