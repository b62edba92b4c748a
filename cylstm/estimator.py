"""A network as a regressor of scikit-learn, which is not imported here."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cylstm.arguments import check_count
from cylstm.engine.mode import in_standard_mode
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError, described
from cylstm.graph.names import feature_names
from cylstm.inputs import as_real
from cylstm.loading import load
from cylstm.model import Model

if TYPE_CHECKING:
    from cylstm.graph.values import Value


class CylstmRegressor:
    """A trained network where scikit-learn takes a regressor: in a pipeline, a search or an inspection of features.

    It is fitted already, and `fit` refuses. Where something fits all of its parts, as ``Pipeline.fit`` and
    ``cross_val_score`` do, wrap it: ``FrozenEstimator(CylstmRegressor("model.cylstm"))`` of ``sklearn.frozen`` has a
    `fit` that does nothing.

    Parameters
    ----------
    model : str, path or Model
        A file that `load` reads without more arguments, when the first prediction is made; or a model of one input and
        one output.
    time : int, optional
        How many steps a row of two-dimensional data has, one after the other: (samples, time * features). None: as many
        as the network fixes, else one.
    threads : int, optional
        As `Model.predict` takes it.

    Attributes
    ----------
    model_ : Model
    n_features_in_ : int
        The columns of two-dimensional data.

    Raises
    ------
    TypeError
        If there is no `model`. What its arguments are is checked when they are used, as scikit-learn has it.
    """

    # how `sklearn.base.is_regressor` knew one before version 1.6
    _estimator_type = "regressor"

    def __init__(self, model: str | os.PathLike[str] | Model, *, time: int | None = None, threads: int | None = None):
        self.model = model
        self.time = time
        self.threads = threads

    @in_standard_mode
    def predict(self, X: Any) -> np.ndarray:
        """Predict each sample.

        Parameters
        ----------
        X : array_like
            (samples, time, features), or (samples, time * features); of a network without time (samples, features).

        Returns
        -------
        ndarray
            (samples,) of a network with one number for each sample, else (samples, targets), or (samples, time,
            targets) of one with an output at each step.

        Raises
        ------
        ShapeError
            If it is of another shape, or not of real numbers.
        ArgumentError
            If the columns of a data frame have other names than the ``features`` in the metadata of the network.
        """
        model = self.model_
        y: np.ndarray = model.predict(self._samples(X, model), threads=self.threads)
        return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y

    @in_standard_mode
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination R^2 of the predictions, as the regressors of scikit-learn have it.

        Parameters
        ----------
        X : array_like
            As `predict` takes it.
        y : array_like
            What should have been predicted, of the shape of a prediction. Of several targets the mean counts.
        sample_weight : array_like, optional
            (samples,).

        Returns
        -------
        float

        Raises
        ------
        ShapeError
            If a shape does not fit, or there are fewer than two samples.
        """
        found = self.predict(X).astype(np.float64)
        truth = as_real(y, np.dtype(np.float64), "y")
        if truth.size == found.size and len(truth) == len(found):
            truth = truth.reshape(found.shape)
        if truth.shape != found.shape:
            raise ShapeError(f"y: expected shape {found.shape}, found {truth.shape}")
        if len(found) < 2:
            raise ShapeError("R^2 is not defined of fewer than two samples")
        found, truth = found.reshape(len(found), -1), truth.reshape(len(found), -1)
        weight = np.ones(len(found))
        if sample_weight is not None:
            weight = as_real(sample_weight, np.dtype(np.float64), "sample_weight")
        if weight.shape != (len(found),):
            raise ShapeError(f"sample_weight: expected shape {(len(found),)}, found {weight.shape}")
        rest = weight @ np.square(truth - found)
        whole = weight @ np.square(truth - np.average(truth, axis=0, weights=weight))
        # a target that never changes: 1 if it is met, else 0
        scores = np.where(rest == 0, 1.0, 0.0)
        np.subtract(1.0, rest / np.where(whole == 0, 1.0, whole), out=scores, where=whole != 0)
        return float(scores.mean())

    @in_standard_mode
    def fit(self, X: Any, y: Any = None) -> CylstmRegressor:
        """Raises `UnsupportedError`: the network is trained."""
        raise UnsupportedError(
            "fit: inference only, the network is trained already; where all parts are fitted, "
            "sklearn.frozen.FrozenEstimator(...) around it has a fit that does nothing"
        )

    @property
    def model_(self) -> Model:
        """The network, loaded once.

        Raises
        ------
        ArgumentError
            If `model` is neither a model nor a path, or the network has several inputs or outputs.
        CylstmError, OSError
            As `load` does.
        """
        given = self.model
        kept = self.__dict__.get("_loaded")
        if kept is not None and kept[0] is given:
            return kept[1]  # type: ignore[no-any-return]
        if not isinstance(given, (str, os.PathLike, Model)):
            raise ArgumentError(f"model: expected a path or a Model, found {described(given)}")
        model = given if isinstance(given, Model) else load(given)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ArgumentError(
                f"model: expected one input and one output, found {', '.join(model.inputs)} and "
                f"{', '.join(model.outputs)}; model.extract makes a model of some of them"
            )
        self._loaded = given, model
        return model

    @property
    def n_features_in_(self) -> int:
        """The columns of two-dimensional data, which has the steps of a row one after the other."""
        model = self.model_
        value = model.graph.values[model.inputs[0]]
        return math.prod(value.step_shape) * (self._steps(value) if value.has_time else 1)

    def _steps(self, value: Value) -> int:
        fixed = value.shape[0]
        if self.time is None:
            return 1 if fixed is None else fixed
        steps = check_count("time", self.time)
        if fixed not in (None, steps):
            raise ArgumentError(f"time: the network takes {fixed} steps, found {steps}")
        return steps

    def _samples(self, X: Any, model: Model) -> np.ndarray:
        """A batch as `Model.predict` takes it."""
        value, layout = model.graph.values[model.inputs[0]], model.graph.layouts.get(model.inputs[0])
        if hasattr(X, "toarray") and not isinstance(X, np.ndarray):
            raise ShapeError("X: expected a dense array, found a sparse one; X.toarray() makes one")
        self._check_names(X, model)
        array = _as_numbers(X)
        rank = len(layout or value.shape) + 1
        if array.ndim == rank:
            return array
        if array.ndim == 2 and value.has_time and layout is None:
            steps = self._steps(value)
            if array.shape[1] != self.n_features_in_:
                per_step = math.prod(value.step_shape)
                raise ShapeError(
                    f"X: expected {steps} steps of {per_step} features in a row, which are {steps * per_step} columns "
                    f"(n_features_in_), found {array.shape[1]}; time= says how many steps a row has"
                )
            return array.reshape(len(array), steps, *value.step_shape)
        hint = " Reshape your data: X[np.newaxis] is one sample" if array.ndim < 2 else ""
        raise ShapeError(f"X: expected {rank} axes, the samples first, found shape {array.shape}.{hint}")

    def _check_names(self, X: Any, model: Model) -> None:
        columns = getattr(X, "columns", None)
        if columns is None:
            return
        names = feature_names(model.graph)
        found = [str(name) for name in columns]
        if names is not None and len(found) == len(names) and found != list(names):
            raise ArgumentError(f"X: the feature names should match {', '.join(names)}, found {', '.join(found)}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments that it was made with, by name. `deep` changes nothing: none of them has parameters."""
        return {"model": self.model, "threads": self.threads, "time": self.time}

    def set_params(self, **params: Any) -> CylstmRegressor:
        """Other arguments, by name. Raises `ArgumentError` if there is no such one."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ArgumentError(f"{name!r} is none of the parameters {', '.join(known)}")
        for name, given in params.items():
            setattr(self, name, given)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=False, multi_output=True),
            regressor_tags=RegressorTags(),
            # a prediction of NaN is NaN
            input_tags=InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
            requires_fit=False,
        )

    def __getstate__(self) -> dict[str, Any]:
        # a file is loaded again where it is
        return {name: one for name, one in self.__dict__.items() if name != "_loaded"}

    def __repr__(self) -> str:
        given = {name: one for name, one in self.get_params().items() if name == "model" or one is not None}
        return f"CylstmRegressor({', '.join(f'{name}={one!r}' for name, one in given.items())})"


def _as_numbers(X: Any) -> np.ndarray:
    """Samples as an array of real numbers of their own type. Raises `ShapeError`."""
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise ShapeError("X: Complex data not supported")
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"X: expected real numbers: {error}") from error
    found = as_real(array, None, "X")
    if found.ndim and not len(found):
        raise ShapeError(f"X: expected at least one sample, found shape {found.shape}")
    return found
