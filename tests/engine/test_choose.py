"""``engine="auto"``: the rule, what a model says of it, and its results."""

import pickle

import numpy as np
import pytest

import cylstm
from cylstm import BlasNotFoundError, load
from cylstm.engine import blas
from cylstm.engine import choose as auto
from cylstm.engine._engine import isa_fuses, isa_names
from cylstm.engine.choose import chosen_isa
from cylstm.summary import summary_text

from tests.builders.networks import lstm_model


def no_blas():
    raise BlasNotFoundError("none")


@pytest.fixture
def slow(monkeypatch):
    """An instruction set without a fused multiply-add, whatever the machine."""
    monkeypatch.setattr(auto, "isa_fuses", lambda isa: False)


@pytest.fixture
def fast(monkeypatch):
    """An instruction set with a fused multiply-add, whatever the machine."""
    monkeypatch.setattr(auto, "isa_fuses", lambda isa: True)


def test_the_packed_engine_is_chosen_where_multiply_add_is_fused(fast, monkeypatch):
    monkeypatch.setattr(blas, "find_blas", no_blas)
    assert auto.choose_engine("avx2", False)[0] == "packed"


def test_the_blas_is_chosen_where_multiply_add_is_not_fused(slow):
    assert auto.choose_engine("scalar", False)[0] == "blas"


def test_the_packed_engine_is_chosen_where_there_is_no_blas(slow, rng, monkeypatch):
    monkeypatch.setattr(blas, "find_blas", no_blas)
    model = lstm_model(rng, 3, 9, engine="auto")
    assert model.engine == "packed" and "no BLAS was found" in summary_text(model)


def test_a_named_library_that_is_none_leaves_the_packed_engine(slow, rng, monkeypatch, tmp_path):
    monkeypatch.setattr(blas, "_found", None)
    monkeypatch.setenv("CYLSTM_BLAS", str(tmp_path / "none.so"))
    assert lstm_model(rng, 3, 9, engine="auto").engine == "packed"
    with pytest.raises(BlasNotFoundError, match="none.so"):
        lstm_model(rng, 3, 9, engine="blas")


def test_float64_is_always_the_blas_and_needs_one(fast, rng, monkeypatch):
    model = lstm_model(rng, 3, 9, engine="auto", dtype="float64")
    assert model.engine == "blas" and model.dtype == np.float64
    monkeypatch.setattr(blas, "find_blas", no_blas)
    with pytest.raises(BlasNotFoundError):
        cylstm.Model(model.graph, engine="auto", dtype="float64")


@pytest.mark.parametrize("isa", isa_names())
def test_a_forced_instruction_set_decides(isa, rng, monkeypatch):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    assert lstm_model(rng, 3, 9, engine="auto").engine == ("packed" if isa_fuses(isa) else "blas")


def test_newer_instruction_sets_fuse_and_unknown_ones_do_not():
    assert all(isa_fuses(isa) for isa in isa_names() if isa in ("avx2", "avx512", "neon"))
    assert not isa_fuses("sse2")
    assert not isa_fuses("avx1024")


@pytest.mark.parametrize("rule", ["fast", "slow"])
def test_results_are_those_of_the_chosen_engine_and_close_to_the_float64_ones(rule, rng, request):
    request.getfixturevalue(rule)
    model = lstm_model(rng, 5, 37, num_layers=2, bidirectional=True, engine="auto")
    assert model.engine == {"fast": "packed", "slow": "blas"}[rule]
    for batch in (1, 33):
        x = rng.normal(size=(batch, 20, 5)).astype(np.float32)
        y = model.predict(x, threads=1)
        chosen = cylstm.Model(model.graph, engine=model.engine).predict(x, threads=1)
        np.testing.assert_array_equal(y, chosen)
        exact = cylstm.Model(model.graph, dtype="float64").predict(x)
        np.testing.assert_allclose(y, exact, rtol=0, atol=2e-6)


def test_a_model_says_which_engine_was_chosen_and_why(fast, rng):
    model = lstm_model(rng, 3, 9, engine="auto")
    assert model.engine == "packed" and "engine='packed' by auto" in repr(model)
    assert f"engine packed (auto: {chosen_isa()} has a fused multiply-add)" in summary_text(model)
    plain = lstm_model(rng, 3, 9)
    assert "auto" not in repr(plain) and "auto" not in summary_text(plain)


def test_a_pickled_model_chooses_anew(slow, rng, monkeypatch):
    data = pickle.dumps(lstm_model(rng, 3, 9, engine="auto"))
    assert pickle.loads(data).engine == "blas"
    monkeypatch.setattr(blas, "find_blas", no_blas)
    assert pickle.loads(data).engine == "packed"


def test_every_way_to_load_takes_it(fast, rng, tmp_path, monkeypatch):
    model = lstm_model(rng, 3, 9, engine="auto")  # from_state_dict
    model.save(tmp_path / "model.cylstm")
    again = load(tmp_path / "model.cylstm", engine="auto")
    assert again.engine == "packed" and "by auto" in repr(again)
    model.save(tmp_path / "packed.cylstm", packed=True)
    for rule, engine in ((True, "packed"), (False, "blas")):
        monkeypatch.setattr(auto, "isa_fuses", lambda isa, rule=rule: rule)
        again = load(tmp_path / "packed.cylstm", engine="auto")
        assert again.engine == engine
        x = rng.normal(size=(4, 5, 3)).astype(np.float32)
        np.testing.assert_allclose(again.predict(x), model.predict(x), rtol=0, atol=1e-6)
    torch = pytest.importorskip("torch")
    assert "by auto" in repr(cylstm.from_torch(torch.nn.LSTM(3, 4, batch_first=True), engine="auto"))
