"""The BLAS engine: finding a library, and saying what was tried."""

import numpy as np
import pytest

import cylstm
from cylstm import BlasNotFoundError
from cylstm.engine import blas
from cylstm.engine._engine import isa_fuses, isa_names
from cylstm.engine.choose import chosen_isa
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import bits, lstm_model


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(blas, "_found", None)


def test_the_processs_own_blas_is_found(fresh):
    found = blas.find_blas()
    assert found.addresses["sgemv"] and found.addresses["dgemm"]
    assert "threadpool" not in found.path


def test_a_named_library_is_taken_or_refused_with_a_reason(fresh, monkeypatch, tmp_path):
    path = blas.find_blas().path
    monkeypatch.setattr(blas, "_found", None)
    monkeypatch.setenv("CYLSTM_BLAS", path)
    assert blas.find_blas().origin == "CYLSTM_BLAS"
    for wrong, reason in ((tmp_path / "none.so", "none.so"), ("libm.so.6", "no cblas_sgemv under any known spelling")):
        monkeypatch.setattr(blas, "_found", None)
        monkeypatch.setenv("CYLSTM_BLAS", str(wrong))
        with pytest.raises(BlasNotFoundError, match=reason):
            blas.find_blas()


def test_none_found_lists_what_was_tried(fresh, monkeypatch, rng):
    import ctypes.util

    import threadpoolctl

    monkeypatch.delenv("CYLSTM_BLAS", raising=False)
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [])
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    graph = lstm_model(rng, 3, 9).graph
    with pytest.raises(BlasNotFoundError, match=r"NumPy's own.*libopenblas \(not installed\)"):
        cylstm.Model(graph, engine="blas")


def test_a_library_of_another_integer_width_is_not_taken(fresh, monkeypatch):
    monkeypatch.setattr(blas, "_multiplies", lambda addresses, is_int64: False)
    with pytest.raises(BlasNotFoundError, match="gives wrong products"):
        blas.find_blas()


def test_the_librarys_own_threads_are_given_back(rng):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    model = lstm_model(rng, 3, 200, engine="blas")
    path = blas.find_blas().path

    def threads():
        return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["filepath"] == path]

    if not threads():
        pytest.skip("the BLAS here has no threads")
    for number in (3, 1):
        with threadpoolctl.threadpool_limits(number, user_api="blas"):
            model.predict(np.zeros((4, 10, 3), np.float32), threads=2)
            model.stream().step(np.zeros(3, np.float32))
            assert threads() == [number]


@pytest.mark.skipif(not isa_fuses(chosen_isa()), reason="scalar code rounds the multiply-adds of this engine twice")
def test_in_float32_the_engines_differ_in_their_products_only(rng):
    builder = GraphBuilder()
    value = builder.input("x", (None, 21))
    for name in ("gelu", "tanh", "sigmoid", "softplus", "softmax"):
        value = builder.add("activation", name, {"x": value}, {}, {"activation": name})["y"]
    builder.output(value)
    x = (rng.normal(size=(3, 11, 21)) * 3).astype(np.float32)
    packed, through_blas = (cylstm.Model(builder.build(), engine=engine) for engine in ("packed", "blas"))
    np.testing.assert_array_equal(bits(packed.predict(x)), bits(through_blas.predict(x)))


@pytest.mark.parametrize("isa", isa_names())
def test_every_instruction_set_serves_the_engine(isa, rng, monkeypatch):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    model = lstm_model(rng, 5, 21, bidirectional=True, num_layers=2, engine="blas")
    x = rng.normal(size=(4, 40, 5)).astype(np.float32)
    exact = cylstm.Model(model.graph, dtype="float64").predict(x)
    np.testing.assert_allclose(model.predict(x), exact, rtol=0, atol=2e-6)
    np.testing.assert_allclose(model.predict(x[0]), exact[0], rtol=0, atol=2e-6)
