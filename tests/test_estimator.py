"""`CylstmRegressor`: a network where scikit-learn takes a regressor."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm import CylstmRegressor
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError
from cylstm.formats.state_dict import wiring as L

from tests.builders.weight_files import linear_tensors, lstm_tensors


def recurrent(rng, features=3, targets=1, *layers):
    tensors = lstm_tensors(rng, "lstm", features, 5) | linear_tensors(rng, "fc", 5, targets)
    return cylstm.from_state_dict(tensors, [*layers, L.LSTM("lstm"), L.Last(), L.Linear("fc")])


@pytest.fixture
def model(rng):
    return recurrent(rng)


@pytest.fixture
def path(tmp_path, model):
    model.save(tmp_path / "net.cylstm", metadata={"features": "rain, sun, wind"})
    return tmp_path / "net.cylstm"


def test_sequences_give_one_number_each(model, path, rng):
    x = rng.standard_normal((6, 9, 3)).astype(np.float32)
    expected = model.predict(x)[:, 0]
    for given in (model, path, str(path)):
        found = CylstmRegressor(given).predict(x)
        assert found.shape == (6,) and found.tobytes() == expected.tobytes()


def test_several_targets_and_outputs_at_each_step_keep_their_axes(rng):
    x = rng.standard_normal((6, 9, 3)).astype(np.float32)
    assert CylstmRegressor(recurrent(rng, 3, 2)).predict(x).shape == (6, 2)
    steps = cylstm.from_state_dict(lstm_tensors(rng, "lstm", 3, 1), [L.LSTM("lstm")])
    found = CylstmRegressor(steps).predict(x)
    assert found.shape == (6, 9, 1) and found.tobytes() == steps.predict(x).tobytes()


def test_rows_are_steps_one_after_the_other_and_never_one_long_sequence(model, rng):
    x = rng.standard_normal((6, 9, 3)).astype(np.float32)
    found = CylstmRegressor(model, time=9)
    assert found.n_features_in_ == 27
    assert found.predict(x.reshape(6, 27)).tobytes() == model.predict(x)[:, 0].tobytes()
    one = CylstmRegressor(model)
    assert one.n_features_in_ == 3
    assert one.predict(x[:, 0]).tobytes() == model.predict(x[:, :1])[:, 0].tobytes()
    with pytest.raises(ShapeError, match="expected 1 steps of 3 features in a row, which are 3 columns"):
        one.predict(x.reshape(6, 27))


def test_a_network_that_fixes_its_steps_says_how_many_a_row_has(rng):
    model = recurrent(rng, 3, 1, L.Input((4, 3)))
    x = rng.standard_normal((6, 12)).astype(np.float32)
    found = CylstmRegressor(model)
    assert found.n_features_in_ == 12
    assert found.predict(x).tobytes() == model.predict(x.reshape(6, 4, 3))[:, 0].tobytes()
    with pytest.raises(ArgumentError, match="time: the network takes 4 steps, found 5"):
        CylstmRegressor(model, time=5).predict(x)


def test_a_network_without_time_takes_samples(rng):
    model = cylstm.from_state_dict(linear_tensors(rng, "fc", 3, 2), [L.Linear("fc")])
    x = rng.standard_normal((6, 3))
    assert CylstmRegressor(model).predict(x).tobytes() == model.predict(x).tobytes()
    assert CylstmRegressor(model).n_features_in_ == 3


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), "expected 3 axes, the samples first, found shape \\(3,\\). Reshape your data"),
        (np.zeros((2, 2, 2, 3)), "expected 3 axes"),
        (np.zeros((0, 5, 3)), "at least one sample"),
        (np.zeros((2, 5, 4)), "expected 3 features, found 4"),
        (np.zeros((2, 3), complex), "Complex data not supported"),
        ([["a", "b", "c"]], "expected real numbers"),
        ([[1.0, {}, 2.0]], "expected real numbers"),
    ],
    ids=range(7),
)
def test_what_is_no_array_of_samples_is_refused(model, x, message):
    with pytest.raises(ShapeError, match=message):
        CylstmRegressor(model).predict(x)


def test_a_network_of_several_inputs_or_outputs_is_refused(model):
    parts = model.extract(outputs=["fc", "lstm.l0.h"])
    with pytest.raises(ArgumentError, match="expected one input and one output, found input and fc, lstm.l0.h"):
        CylstmRegressor(parts).predict(np.zeros((1, 3)))


def test_what_is_no_model_is_told_when_it_is_used(tmp_path):
    with pytest.raises(ArgumentError, match="model: expected a path or a Model, found 3"):
        CylstmRegressor(3).predict(np.zeros((1, 3)))
    with pytest.raises(FormatError, match="no such file"):
        CylstmRegressor(tmp_path / "none.cylstm").predict(np.zeros((1, 3)))


def test_it_is_trained_and_says_so(model):
    with pytest.raises(UnsupportedError, match="inference only.*FrozenEstimator"):
        CylstmRegressor(model).fit(np.zeros((2, 3)), np.zeros(2))


def test_a_file_is_loaded_once_and_again_for_another_path(path, tmp_path, rng):
    found = CylstmRegressor(path)
    first = found.model_
    assert found.model_ is first
    other = recurrent(rng)
    other.save(tmp_path / "other.cylstm")
    x = rng.standard_normal((2, 3))
    assert found.set_params(model=tmp_path / "other.cylstm") is found
    assert found.predict(x).tobytes() == other.predict(x[:, np.newaxis])[:, 0].tobytes()
    with pytest.raises(ArgumentError, match="'units' is none of the parameters model, threads, time"):
        found.set_params(units=3)


def test_it_is_pickled_with_its_model_or_path(model, path, rng):
    x = rng.standard_normal((4, 3))
    for given in (model, path):
        found = CylstmRegressor(given, threads=1)
        expected = found.predict(x)
        again = pickle.loads(pickle.dumps(found))
        assert again.threads == 1 and again.predict(x).tobytes() == expected.tobytes()
    assert len(pickle.dumps(found)) < 500  # the path, and no weights


def test_its_text_is_how_it_was_made():
    assert repr(CylstmRegressor("net.cylstm", time=3)) == "CylstmRegressor(model='net.cylstm', time=3)"


def test_scikit_learn_is_not_imported(path):
    code = (
        "import sys, numpy, cylstm\n"
        f"found = cylstm.CylstmRegressor({str(path)!r})\n"
        "x = numpy.zeros((2, 3))\n"
        "found.predict(x), found.score(x, [1, 2]), repr(found), found.get_params()\n"
        "assert 'sklearn' not in sys.modules and 'pandas' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cylstm.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    code = "import sys, cylstm; assert 'cylstm.estimator' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_score_is_that_of_scikit_learn(rng, targets, weighted):
    metrics = pytest.importorskip("sklearn.metrics")
    found = CylstmRegressor(recurrent(rng, 3, targets))
    x = rng.standard_normal((20, 5, 3))
    y = found.predict(x).astype(np.float64)
    y = y + 0.3 * rng.standard_normal(y.shape)
    weight = rng.random(20) if weighted else None
    assert found.score(x, y, weight) == pytest.approx(metrics.r2_score(y, found.predict(x), sample_weight=weight))
    assert found.score(x, y.reshape(20, targets)) == pytest.approx(metrics.r2_score(y, found.predict(x)))
    constant = np.full_like(y, 3.0)
    assert found.score(x, constant) == metrics.r2_score(constant, found.predict(x)) == 0
    assert found.score(x, found.predict(x)) == 1


def test_a_score_of_other_shapes_is_refused(model, rng):
    found = CylstmRegressor(model)
    x = rng.standard_normal((4, 5, 3))
    for arguments, message in (
        ((x, np.zeros(3)), r"y: expected shape \(4,\), found \(3,\)"),
        ((x, np.zeros((2, 2))), r"y: expected shape \(4,\), found \(2, 2\)"),
        ((x[:1], np.zeros(1)), "fewer than two samples"),
        ((x, np.zeros(4), np.ones(3)), "sample_weight: expected shape"),
    ):
        with pytest.raises(ShapeError, match=message):
            found.score(*arguments)


def test_columns_of_a_data_frame_have_to_be_the_features(path, model, rng):
    pandas = pytest.importorskip("pandas")
    found = CylstmRegressor(path)
    x = rng.standard_normal((4, 3))
    right = pandas.DataFrame(x, columns=["rain", "sun", "wind"])
    assert found.predict(right).tobytes() == found.predict(x).tobytes()
    with pytest.raises(ArgumentError, match="the feature names should match rain, sun, wind, found wind, sun, rain"):
        found.predict(right[["wind", "sun", "rain"]])
    # a file that names none takes any
    CylstmRegressor(model).predict(right[["wind", "sun", "rain"]])


def test_a_pipeline_fits_what_comes_before_it(model, rng):
    sklearn = pytest.importorskip("sklearn", minversion="1.6")
    from sklearn.frozen import FrozenEstimator
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert sklearn.__version__
    x = 3 + 2 * rng.standard_normal((40, 3))
    pipeline = make_pipeline(StandardScaler(), FrozenEstimator(CylstmRegressor(model)))
    scaled = (x - x.mean(0)) / x.std(0)
    y = model.predict(scaled[:, np.newaxis].astype(np.float32))[:, 0].astype(np.float64)
    assert np.allclose(pipeline.fit(x, y).predict(x), y, atol=1e-6)
    assert pipeline.score(x, y) == pytest.approx(1, abs=1e-9)
    scores = cross_val_score(pipeline, x, y, cv=4)
    assert scores.shape == (4,) and np.isfinite(scores).all()
    found = permutation_importance(CylstmRegressor(model), scaled, y, n_repeats=3, random_state=0)
    assert found.importances_mean.shape == (3,) and (found.importances_mean > 0).all()


def test_a_clone_has_the_same_parameters(model, path, rng):
    base = pytest.importorskip("sklearn.base")
    for given in (model, path):
        found = CylstmRegressor(given, time=2)
        again = base.clone(found)
        assert again is not found and again.get_params() == found.get_params()
        x = rng.standard_normal((4, 6))
        assert again.predict(x).tobytes() == found.predict(x).tobytes()
    assert base.is_regressor(found)


#: of scikit-learn's checks those that fit nothing
WITHOUT_FIT = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_non_transformer_estimators_n_iter",
)
#: and those that hold of any fitted regressor, with a fit that does nothing, by the features of their data; left out is
#: what looks for what a fit does: n_features_in_ set by it, errors about its X and y, and its own parameters
WITH_FROZEN_FIT = {
    "check_fit_score_takes_y": 3,
    "check_estimators_overwrite_params": 2,
    "check_dont_overwrite_parameters": 3,
    "check_estimators_fit_returns_self": 2,
    "check_readonly_memmap_input": 2,
    "check_positive_only_tag_during_fit": 10,
    "check_regressors_no_decision_function": 10,
    "check_regressor_data_not_an_array": 10,
    "check_regressors_int": 10,
    "check_estimators_dtypes": 5,
    "check_dict_unchanged": 3,
    "check_pipeline_consistency": 3,
    "check_estimators_pickle": 3,
    "check_f_contiguous_array_estimator": 3,
    "check_methods_sample_order_invariance": 3,
    "check_methods_subset_invariance": 3,
    "check_fit2d_1sample": 10,
    "check_fit2d_1feature": 1,
    "check_fit2d_predict1d": 3,
    "check_fit_idempotent": 2,
    "check_fit_check_is_fitted": 2,
    "check_estimator_sparse_array": 3,
    "check_estimator_sparse_matrix": 3,
}


def run_check(name, estimator):
    """One of scikit-learn's checks; `SkipTest` of it is one of the test."""
    import unittest

    checks = pytest.importorskip("sklearn.utils.estimator_checks", exc_type=ImportError)
    if not hasattr(checks, name):
        pytest.skip(f"this scikit-learn has no {name}")
    try:
        getattr(checks, name)("CylstmRegressor", estimator)
    except unittest.SkipTest as skipped:
        pytest.skip(str(skipped))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WITHOUT_FIT)
def test_the_checks_of_scikit_learn_about_parameters_hold(model, name):
    pytest.importorskip("sklearn", minversion="1.6")
    run_check(name, CylstmRegressor(model))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WITH_FROZEN_FIT)
def test_the_checks_of_scikit_learn_about_predictions_hold(rng, name):
    pytest.importorskip("sklearn", minversion="1.6")
    from sklearn.frozen import FrozenEstimator

    estimator = FrozenEstimator(CylstmRegressor(recurrent(rng, WITH_FROZEN_FIT[name])))
    run_check(name, estimator)


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
def test_sparse_samples_are_refused_by_that_word(model, kind):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ShapeError, match="found a sparse one"):
        CylstmRegressor(model).predict(getattr(sparse, kind)(np.eye(3)))
