"""Copies and pickles of everything that is public, in this process and in one of another version."""

import copy
import inspect
import pickle
import sys

import numpy as np
import pytest

import cylstm
from cylstm import errors, pickles
from cylstm.distributed.files import FileTask
from cylstm.distributed.rows import Columns
from cylstm.distributed.source import network_of, source_of
from cylstm.errors import FormatError, RowError, ShapeError
from cylstm.formats.state_dict import wiring
from cylstm.graph.graph import Graph, Layer
from cylstm.graph.values import Axis, Value

from tests import DATA
from tests.builders.native_networks import networks
from tests.builders.networks import lstm_model, same
from tests.endurance import run
from tests.forecasting.builders import one_shot, series

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def others(item):
    """What comes of it by every way to copy it."""
    yield copy.copy(item)
    yield copy.deepcopy(item)
    for protocol in PROTOCOLS:
        yield pickle.loads(pickle.dumps(item, protocol))


NETWORKS = networks()


@pytest.mark.parametrize("name", NETWORKS)
def test_models_of_every_layer_predict_the_same_bits(name):
    model, x = NETWORKS[name]
    wanted = model.predict(x)
    for other in others(model):
        assert np.array_equal(other.predict(x), wanted)
        assert other.engine == model.engine and other.dtype == model.dtype
        assert other.metadata == model.metadata and other.graph.layers == model.graph.layers


@pytest.mark.parametrize("weights", [None, "float16"])
@pytest.mark.parametrize("window", [None, 5])
def test_streams_go_on_where_they_were(rng, weights, window):
    model = lstm_model(rng, 3, 17, num_layers=2, last=window is not None)
    model = model.quantize(weights) if weights else model
    stream = model.stream(3, window=window)
    stream.run(rng.normal(size=(3, 8, 3)))
    x = rng.normal(size=(3, 6, 3)).astype(np.float32)
    copies = list(others(stream))
    wanted = [stream.step(x[:, t]) for t in range(6)]
    for other in copies:
        assert all(same(other.step(x[:, t]), wanted[t]) for t in range(6))
        assert other.steps.tolist() == stream.steps.tolist()


def test_traces_forecasters_and_their_streams_are_the_same(rng, tmp_path):
    model = lstm_model(rng, 3, 9)
    x = rng.normal(size=(2, 7, 3)).astype(np.float32)
    trace = model.trace(x)
    for other in others(trace):
        assert list(other) == list(trace) and same(other.outputs, trace.outputs)
        for name, layer in trace.items():
            for part in layer.parts:
                assert same(getattr(other[name], part), getattr(layer, part))
    forecaster = one_shot(rng, 3).calibrate(series(rng, 60), 10)
    history = series(rng, 30)
    stream = forecaster.stream(adapt=0.1)
    stream.run(history)
    row = rng.uniform(5, 50, 3)
    copies = list(others(forecaster)), list(others(stream))
    for other in copies[0]:
        np.testing.assert_array_equal(other.forecast(history), forecaster.forecast(history))
    wanted = stream.step(row, interval=True)
    for other in copies[1]:
        for a, b in zip(other.step(row, interval=True), wanted):
            np.testing.assert_array_equal(a, b)


def test_regressors_and_what_workers_are_sent_are_the_same(rng, tmp_path):
    model = lstm_model(rng, 3, 9, outputs=1, last=True)
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    model.save(tmp_path / "net.cylstm")
    for given in (model, str(tmp_path / "net.cylstm")):
        regressor = cylstm.CylstmRegressor(given)
        wanted = regressor.predict(x)
        for other in others(regressor):
            assert np.array_equal(other.predict(x), wanted)
        for source in others(source_of(given)[0]):
            assert np.array_equal(network_of(source).predict(x), model.predict(x))
    for item in (Columns(*[None] * len(Columns._fields)), FileTask(*["a"] * len(FileTask._fields))):
        assert all(other == item for other in others(item))


#: what a layer of the wiring needs beside the prefix of its tensors
NEEDED = {"kernel_size": 2, "num_groups": 2, "shape": (None, 3), "spatial_shape": (4, 5), "name": "relu"}


def wired():
    """An instance of each class of the wiring."""
    for name in cylstm.__all__:
        one = getattr(wiring, name, None) if hasattr(wiring, name) else None
        if not inspect.isclass(one):
            continue
        needed = [
            parameter
            for parameter in inspect.signature(one).parameters.values()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
        yield name, one, needed


WIRED = list(wired())


@pytest.mark.parametrize("name, one, needed", WIRED, ids=[name for name, _, _ in WIRED])
def test_layers_of_the_wiring_are_equal(name, one, needed):
    if name == "Heads":
        layer = wiring.Heads([wiring.Linear("up")], [wiring.Linear("down"), wiring.Tanh()])
    else:
        layer = one(**{parameter.name: NEEDED.get(parameter.name, "lstm") for parameter in needed})
    for other in others(layer):
        assert type(other) is type(layer) and repr(other) == repr(layer)
        assert other == layer


@pytest.mark.parametrize(
    "kind",
    [
        one
        for one in vars(errors).values()
        if inspect.isclass(one) and issubclass(one, BaseException | Warning) and one.__module__ == errors.__name__
    ],
)
def test_errors_keep_their_class_and_words(kind):
    error = kind("layer 'a': 3 is not 4", lambda: {1: ShapeError("row 1")}) if kind is RowError else kind("is not 4")
    assert str(kind.__new__(kind, *error.args)) == str(error)  # as Dask copies errors, whose attributes then follow
    for other in others(error):
        assert type(other) is kind and str(other) == str(error)
        if kind is RowError:
            assert {row: str(one) for row, one in other.rows.items()} == {1: "row 1"}


READ = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    model, stream, x, error = pickle.load(file)
assert str(error) == "is not 4"
sys.stdout.write(stream.run(x).tobytes().hex() + " " + model.predict(x).tobytes().hex())
"""


def test_another_process_reads_them_without_a_word(rng, tmp_path):
    model = lstm_model(rng, 3, 9)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    stream = model.stream(2)
    stream.run(x)
    (tmp_path / "all.pickle").write_bytes(pickle.dumps((model, stream, x, ShapeError("is not 4"))))
    found = run(READ, str(tmp_path / "all.pickle"))
    assert found == f"{stream.run(x).tobytes().hex()} {model.predict(x).tobytes().hex()}"


# ---- versions ----


def test_a_pickle_of_another_version_is_refused_in_words_before_anything_else_of_it_is_read(rng, monkeypatch):
    model = lstm_model(rng, 3, 9)
    for item in (model, model.stream(2), cylstm.CylstmRegressor(lstm_model(rng, 3, 9, 1, last=True))):
        monkeypatch.setattr(pickles, "LAYOUT", pickles.LAYOUT + 1)
        written = pickle.dumps(item)
        monkeypatch.undo()
        # as of a version whose classes have other names
        for data in (written, written.replace(b"cylstm.graph.values", b"cylstm.graph.novels")):
            with pytest.raises(FormatError, match="pickle of a model is of another version of CyLSTM.*model.save"):
                pickle.loads(data)


def test_the_attributes_of_what_a_pickle_holds_are_those_of_its_layout():
    """If this fails, they have changed: raise `cylstm.pickles.LAYOUT`, and write what stands here anew."""
    found = {kind.__name__: tuple(kind.__annotations__) for kind in (Graph, Layer, Value, Axis)}
    assert (pickles.LAYOUT, found) == (1, LAYOUT_1)


LAYOUT_1 = {
    "Graph": (
        *(
            "values",
            "layers",
            "inputs",
            "outputs",
            "tensors",
            "metadata",
            "provenance",
            "layouts",
            "window",
            "stateful",
        ),
        *("weight_types", "noise"),
    ),
    "Layer": ("kind", "name", "inputs", "outputs", "weights", "options"),
    "Value": ("name", "kind", "shape", "mask", "axis"),
    "Axis": ("source", "rules"),
}


@pytest.mark.parametrize("path", sorted((DATA / "pickles").glob("*.pickle")), ids=lambda path: path.stem)
def test_a_pickle_of_an_earlier_version_works_or_is_refused_in_words(path):
    with open(DATA / "pickles" / "input.npy", "rb") as file:
        x, wanted = np.load(file), np.load(file)
    try:
        with open(path, "rb") as file:
            model, stream = pickle.load(file)
    except FormatError as error:
        assert "another version of CyLSTM" in str(error)
        return
    assert same(model.predict(x), wanted)
    assert same(stream.run(x[:, 3:]), wanted[:, 3:])


if __name__ == "__main__":  # writes one of this version
    generator = np.random.default_rng(20261130)
    made = lstm_model(generator, 3, 5, num_layers=2)
    inputs = generator.normal(size=(2, 7, 3)).astype(np.float32)
    running = made.stream(2)
    running.run(inputs[:, :3])
    (DATA / "pickles").mkdir(exist_ok=True)
    with open(DATA / "pickles" / "input.npy", "wb") as target:
        np.save(target, inputs)
        np.save(target, made.predict(inputs))
    (DATA / "pickles" / sys.argv[1]).write_bytes(pickle.dumps((made, running), 4))
