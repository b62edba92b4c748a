"""Every public callable with arguments that make no sense: an exception of ours, and what was given goes on working."""

import inspect

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import EngineError
from cylstm.errors import ArgumentError, CylstmError, FormatError, ShapeError, UnsupportedError, described
from cylstm.formats.state_dict import wiring as L

from tests import DATA
from tests.builders.networks import bits, linear_state_dict, lstm_model, lstm_state_dict, same_states
from tests.builders.weight_files import write_torch

KERAS = DATA / "keras2"
BAD = [
    None, True, False, 0, -1, 2**63, 10**30, -(10**30), 1.5, float("nan"), "text", "", "\ud800", b"bytes", [], [None],
    [[1], [1, 2]], {}, {"a": 1}, (), object(), object, np.zeros(0), np.array([object()]), np.zeros((2, 2), complex),
    np.array("x"), np.ma.zeros(3), np.True_, np.datetime64("2026-11-29"), lambda: 1, slice(0, 1), slice("a"), ...,
    range(3), memoryview(b"abc"),
]  # fmt: skip
LAYERS = [L.LSTM("lstm"), L.Linear("fc")]
X = np.zeros((2, 4, 3), np.float32)


@pytest.fixture
def model(rng):
    return lstm_model(rng, 3, 7)


@pytest.fixture
def files(rng, tmp_path, model):
    model.save(tmp_path / "a.cylstm")
    write_torch(tmp_path / "a.pt", lstm_state_dict(rng, 3, 5) | linear_state_dict(rng, 5, 2))
    return tmp_path


def set_state(stream, state):
    stream.state = state


#: what is called -> the call; of paths see below
CALLS = {
    "load(layers)": lambda m, f, v: cylstm.load(f / "a.pt", layers=v),
    "load([layer])": lambda m, f, v: cylstm.load(f / "a.pt", layers=[v]),
    "load(key)": lambda m, f, v: cylstm.load(f / "a.pt", layers=LAYERS, key=v),
    "load(keras_version)": lambda m, f, v: cylstm.load(KERAS / "stacked.keras", keras_version=v),
    "load(engine)": lambda m, f, v: cylstm.load(f / "a.cylstm", engine=v),
    "load(dtype)": lambda m, f, v: cylstm.load(f / "a.cylstm", dtype=v),
    "load(mmap)": lambda m, f, v: cylstm.load(f / "a.cylstm", mmap=v),
    "load(mmap, dtype)": lambda m, f, v: cylstm.load(f / "a.cylstm", mmap=True, dtype=v),
    "convert(dtype)": lambda m, f, v: cylstm.convert(f / "a.cylstm", f / "b.cylstm", dtype=v),
    "convert(metadata)": lambda m, f, v: cylstm.convert(f / "a.cylstm", f / "b.cylstm", metadata=v),
    "from_state_dict(mapping)": lambda m, f, v: cylstm.from_state_dict(v, LAYERS),
    "from_state_dict(tensor)": lambda m, f, v: cylstm.from_state_dict({"fc.weight": v}, [L.Linear("fc")]),
    "from_state_dict(layers)": lambda m, f, v: cylstm.from_state_dict({"fc.weight": np.ones((2, 3))}, v),
    "from_keras": lambda m, f, v: cylstm.from_keras(v),
    "from_torch": lambda m, f, v: cylstm.from_torch(v),
    "load(architecture)": lambda m, f, v: cylstm.load(KERAS / "cudnn.weights-only.h5", architecture=v),
    "load(weights)": lambda m, f, v: cylstm.load(f / "a.cylstm", weights=v),
    "Heads": lambda m, f, v: L.Heads(v, [L.Linear("a")]),
    "Model(graph)": lambda m, f, v: cylstm.Model(v),
    "Model(engine)": lambda m, f, v: cylstm.Model(m.graph, engine=v),
    "Model(dtype)": lambda m, f, v: cylstm.Model(m.graph, dtype=v),
    "predict(x)": lambda m, f, v: m.predict(v),
    "predict(initial_state)": lambda m, f, v: m.predict(X, initial_state=v),
    "predict(states)": lambda m, f, v: m.predict(X, initial_state=[(v, v)]),
    "predict(return_state)": lambda m, f, v: m.predict(X, return_state=v),
    "predict(lengths)": lambda m, f, v: m.predict(X, lengths=v),
    "predict(mask)": lambda m, f, v: m.predict(X, mask=v),
    "predict(threads)": lambda m, f, v: m.predict(X, threads=v),
    "predict(out)": lambda m, f, v: m.predict(X, out=v),
    "save(metadata)": lambda m, f, v: m.save(f / "b.cylstm", metadata=v),
    "save(check)": lambda m, f, v: m.save(f / "b.cylstm", check=v),
    "save(packed)": lambda m, f, v: m.save(f / "b.cylstm", packed=v),
    "export_onnx(states)": lambda m, f, v: m.export_onnx(f / "b.onnx", states=v),
    "export_onnx(lengths)": lambda m, f, v: m.export_onnx(f / "b.onnx", lengths=v),
    "export_onnx(mask)": lambda m, f, v: m.export_onnx(f / "b.onnx", mask=v),
    "stream(batch)": lambda m, f, v: m.stream(v),
    "stream(window)": lambda m, f, v: m.stream(window=v),
    "stream(threads)": lambda m, f, v: m.stream(threads=v),
    "Stream(model)": lambda m, f, v: cylstm.Stream(v),
    "Stream(batch)": lambda m, f, v: cylstm.Stream(m, v),
    "Stream(threads)": lambda m, f, v: cylstm.Stream(m, 1, v),
    "step(x)": lambda m, f, v: m.stream(2).step(v),
    "step(out)": lambda m, f, v: m.stream(2).step(X[:, 0], out=v),
    "step(active)": lambda m, f, v: m.stream(2).step(X[:, 0], active=v),
    "run(chunk)": lambda m, f, v: m.stream(2).run(v),
    "run(out)": lambda m, f, v: m.stream(2).run(X, out=v),
    "run(active)": lambda m, f, v: m.stream(2).run(X, active=v),
    "state": lambda m, f, v: set_state(m.stream(2), v),
    "reset(rows)": lambda m, f, v: m.stream(2).reset(v),
    "copy(rows)": lambda m, f, v: m.stream(2).copy(v),
    "replace(rows)": lambda m, f, v: m.stream(2).replace(v, m.stream(2)),
    "replace(source)": lambda m, f, v: m.stream(2).replace(0, v),
    "_restore(state)": lambda m, f, v: m.stream(2)._restore(v, b"\0\0"),
    "_restore(flags)": lambda m, f, v: m.stream(2)._restore(m.stream(2).state, v),
    "ELU": lambda m, f, v: L.ELU(v),
    "LeakyReLU": lambda m, f, v: L.LeakyReLU(v),
    "Hardtanh": lambda m, f, v: L.Hardtanh(v, v),
    "GELU": lambda m, f, v: L.GELU(v),
    "Softmax": lambda m, f, v: L.Softmax(v),
}


def refused(call):
    """Whether a call ends in an exception of ours; any other one is an error of the test, as is a dump of arrays."""
    try:
        call()
    except EngineError as error:
        pytest.fail(f"spoke of a defect: {error}")
    except (CylstmError, MemoryError) as error:
        for part in ("array(", "tensor(", " object at 0x", "%("):
            assert part not in str(error)
        return True
    return False


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("text", "'text'"),
        (np.float32(0.5), "np.float32(0.5)"),
        (np.ones((4, 5), "f"), "a numpy.ndarray of float32 (4, 5)"),
        ([np.ones(3)] * 4, "a list of 4"),
        ({"a": np.ones(3)}, "a dict of 1"),
        ([1, "a"], "[1, 'a']"),
        ("x" * 1000, "'" + "x" * 79 + "..."),
        (["x" * 1000] * 50, "a list of 50"),
        (object(), "a object"),
        (object, "the class object"),
        ([L.Last()], "[Last()]"),
        (iter([1]), "a list_iterator"),
    ],
)
def test_a_value_is_described_in_a_few_words(value, text):
    assert described(value) == text


def test_an_object_that_cannot_be_looked_at_is_described_too():
    class Odd:
        @property
        def shape(self):
            raise RuntimeError("no shape")

        def __repr__(self):
            raise RuntimeError("no text")

    assert described(Odd()) == "a Odd" and described([Odd()]) == "a list of 1"


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_make_no_sense_are_refused(model, files, name):
    call = CALLS[name]
    before = bits(model.predict(np.ones((2, 4, 3), np.float32)))
    others = [model, model.stream(2)]
    count = sum(refused(lambda value=value: call(model, files, value)) for value in BAD + others)
    assert count > len(BAD) // 2, "hardly anything was refused"
    np.testing.assert_array_equal(bits(model.predict(np.ones((2, 4, 3), np.float32))), before)


@pytest.mark.parametrize(
    "call",
    [
        cylstm.load,
        lambda path: cylstm.convert(path, "b.cylstm"),
        lambda path: cylstm.convert("a.pt", path),
        lambda path: cylstm.load("a.cylstm").export_onnx(path),
    ],
    ids=["load", "convert from", "convert to", "export_onnx"],
)
def test_a_path_is_a_path(files, monkeypatch, call):
    monkeypatch.chdir(files)
    for value in BAD:
        with pytest.raises((CylstmError, OSError)):
            call(value)


#: of a layer: the tensors it takes, of a network whose input has 6 features and 8 steps
RECURRENT = {L.LSTM: 4, L.GRU: 3, L.RNN: 1}
TENSORS = {
    L.Linear: {"a.weight": (4, 6)},
    L.Conv1d: {"a.weight": (4, 6, 3)},
    L.Conv2d: {"a.weight": (4, 6, 3, 2)},
    L.ConvTranspose1d: {"a.weight": (6, 4, 3)},
    L.ConvTranspose2d: {"a.weight": (6, 4, 3, 2)},
    L.BatchNorm2d: {"a.running_mean": (6,), "a.running_var": (6,)},
    L.BatchNorm1d: {"a.running_mean": (6,), "a.running_var": (6,)},
    L.LayerNorm: {"a.weight": (6,), "a.bias": (6,)},
    L.RMSNorm: {"a.weight": (6,)},
    L.GroupNorm: {"a.weight": (6,), "a.bias": (6,)},
    L.PReLU: {"a.weight": (6,)},
    L.Embedding: {"a.weight": (5, 6)},
    L.ConvLSTM: {"a.weight_ih": (8, 6, 1), "a.weight_hh": (8, 2, 1)},
    **{kind: {"a.weight_ih_l0": (5 * gates, 6), "a.weight_hh_l0": (5 * gates, 5)} for kind, gates in RECURRENT.items()},
}
NEEDED = {"prefix": "a", "shape": (8, 6), "spatial_shape": (3,), "num_groups": 2, "kernel_size": 2, "name": "relu"}
KINDS = [
    kind for kind in (getattr(L, name) for name in L.__all__) if isinstance(kind, type) and issubclass(kind, L.Layer)
]
PARAMETERS = [
    (kind, name) for kind in KINDS for name in inspect.signature(kind.__init__).parameters
    if kind not in (L.Layer, L.Heads) and name not in ("self", "parameters", "args", "kwargs")
]  # fmt: skip


def network(kind, name, value):
    """A network with this layer, one of whose parameters is `value`."""
    parameters = inspect.signature(kind.__init__).parameters
    needed = {key: NEEDED[key] for key, found in parameters.items() if found.default is found.empty and key in NEEDED}
    layer = kind(**needed | {name: value})
    tensors = {key: np.full(shape, 0.25, np.float32) for key, shape in TENSORS.get(kind, {}).items()}
    tensors["fc.weight"] = np.ones((2, 6), np.float32)
    if kind is L.ConvLSTM:
        del tensors["fc.weight"]
        return cylstm.from_state_dict(tensors, [layer])
    if kind is L.Embedding or kind is L.Input:
        return cylstm.from_state_dict(tensors, [layer, L.Linear("fc")])
    tensors["in.weight"] = np.ones((6, 6), np.float32)
    del tensors["fc.weight"]
    if kind in (L.Conv2d, L.ConvTranspose2d, L.MaxPool2d, L.AvgPool2d, L.Steps):
        return cylstm.from_state_dict(tensors, [L.Input((8, 7, 6)), L.Linear("in"), layer])
    return cylstm.from_state_dict(tensors, [L.Input((8, 6)), L.Linear("in"), layer])


@pytest.mark.parametrize(("kind", "name"), PARAMETERS, ids=lambda item: getattr(item, "__name__", item))
def test_parameters_of_layers_that_make_no_sense_are_refused(model, kind, name):
    assert sum(refused(lambda value=value: network(kind, name, value)) for value in [*BAD, model]) > len(BAD) // 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.LSTM(3), "LSTM: prefix expected a text, found 3"),
        (lambda: L.MaxPool1d(2, ceil_mode="text"), "MaxPool1d: ceil_mode expected True or False, found 'text'"),
        (lambda: L.Dropout("0.5"), "Dropout: rate expected a number, found '0.5'"),
        (lambda: L.Conv1d("a", padding=(1, 2, 3)), r"Conv1d: padding expected .* pair of them, found \(1, 2, 3\)"),
        (
            lambda: L.Conv2d("a", stride=(1, 2, 3)).along("stride", (1, 2, 3)),
            "Conv2d: stride expected a number, or one",
        ),
        (lambda: L.Conv2d("a", time="frames"), "Conv2d: time expected 'rows' or 'columns', found 'frames'"),
        (lambda: L.ConvTranspose1d("a", padding=(1,)), "ConvTranspose1d: padding expected a number or a pair"),
        (lambda: L.Input(3), "Input: shape expected a tuple of whole numbers or None, found 3"),
    ],
)
def test_a_layer_says_what_its_parameter_must_be(make, message):
    with pytest.raises(ShapeError, match=message):
        make()


def test_parameters_of_layers_may_be_numpys_scalars_and_lists():
    assert L.Conv1d("a", padding=[np.int64(1), 2], groups=np.int32(2)) == L.Conv1d("a", padding=(1, 2), groups=2)
    assert L.LSTM("a", cell_clip=np.float32(0.5), reverse=np.True_) == L.LSTM("a", cell_clip=0.5, reverse=True)
    assert hash(L.Input([None, 3])) == hash(L.Input((None, 3)))


def test_an_option_of_a_layer_of_the_graph_has_the_type_of_its_default(model):
    builder = cylstm.graph.builder.GraphBuilder()
    x = builder.input("x", (None, 3))
    for kind, options, message in (
        ("pool1d", {"ceil_mode": "text"}, "option 'ceil_mode' expected True or False, found 'text'"),
        ("activation", {"activation": 3}, "option 'activation' expected a text, found 3"),
        ("dropout", {"rate": "0.5"}, "option 'rate' expected a number, found '0.5'"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            builder.add(kind, "a", {"x": x}, {}, options)


#: arguments that are no arrays -> the class of before, by which they are caught for one release
ARGUMENTS = {
    "load(mmap)": ShapeError,
    "load(engine)": UnsupportedError,
    "load(dtype)": ShapeError,
    "convert(dtype)": ShapeError,
    "convert(metadata)": FormatError,
    "Model(graph)": ShapeError,
    "Model(engine)": UnsupportedError,
    "Model(dtype)": ShapeError,
    "predict(return_state)": ShapeError,
    "predict(threads)": ShapeError,
    "save(metadata)": FormatError,
    "save(packed)": ShapeError,
    "stream(batch)": ShapeError,
    "stream(window)": ShapeError,
    "stream(threads)": ShapeError,
    "Stream(model)": ShapeError,
    "reset(rows)": ShapeError,
    "copy(rows)": ShapeError,
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_that_is_no_array_raises_an_argument_error(model, files, name):
    for value in ("text", [[1], [1, 2]], object(), 1.5):
        with pytest.raises(ArgumentError) as error:
            CALLS[name](model, files, value)
        assert isinstance(error.value, ARGUMENTS[name]) and isinstance(error.value, ValueError)
        assert isinstance(error.value, NotImplementedError) == (ARGUMENTS[name] is UnsupportedError)


# A stream made by its class


@pytest.mark.parametrize("batch", [0, -1, 1.0, "1", None, True, np.True_])
def test_a_stream_of_no_batch_is_refused(model, batch):
    for make in (cylstm.Stream, cylstm.Model.stream):
        with pytest.raises(ArgumentError, match="batch: expected a whole number of at least 1"):
            make(model, batch)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None, True, 1025, 10**30])
def test_a_stream_of_no_threads_is_refused(model, threads):
    with pytest.raises(ArgumentError, match="threads: expected a whole number of 1 to 1024"):
        cylstm.Stream(model, 1, threads)


def test_a_stream_of_what_is_no_model_is_refused(rng, model):
    for other in (None, 3, model.graph, object(), cylstm.Model):
        with pytest.raises(ArgumentError, match="model: expected a cylstm.Model, found"):
            cylstm.Stream(other)
    with pytest.raises(UnsupportedError, match="layer 'lstm.l0.reverse' cannot run step by step"):
        cylstm.Stream(lstm_model(rng, 3, 5, bidirectional=True))


def test_a_stream_made_by_its_class_is_the_models(rng, model):
    x = rng.normal(size=(2, 3)).astype(np.float32)
    one, other = cylstm.Stream(model, np.int64(2)), model.stream(2)
    np.testing.assert_array_equal(bits(one.step(x)), bits(other.step(x)))
    assert same_states(one.state, other.state) and (one.batch, one.threads) == (2, 1)
