"""The BLAS engine: finding a library, and saying what was tried."""

import numpy as np
import pytest

import cylstm
from cylstm import BlasNotFoundError, blas

from networks import lstm_model


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

    def threads():
        return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]

    before = threads()
    model.predict(np.zeros((4, 10, 3), np.float32), threads=2)
    assert threads() == before
