"""A model, its graph and what hangs on them never change; C is given what the packed model holds."""

import copy
import gc
import json
import pickle
import types
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, ShapeError
from cylstm.formats.registry import open_file
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.graph import Graph, Layer, ReadOnlyDict, read_only
from cylstm.graph.values import Axis, Value
from cylstm.graph.weights import StoredTensor, StoredTensors

from tests.builders.networks import bits, linear_state_dict, lstm_model, lstm_state_dict, random_states

#: what may be set, because that is what it is for
SETTABLE = {(cylstm.Stream, "state")}
#: of a stream they change with every step, and are handed out as copies
COPIES = {(cylstm.Stream, "state")}
REFUSALS = (AttributeError, TypeError)


class Walk:
    """Visits all that can be reached through public attributes and tries to change it."""

    def __init__(self):
        self.seen = {}
        self.kinds = set()

    def visit(self, item, place, is_copy=False):
        if id(item) in self.seen:
            return
        self.seen[id(item)] = item
        self.kinds.add(type(item))
        if isinstance(item, np.ndarray):
            assert is_copy or not item.flags.writeable, place
        elif isinstance(item, Mapping):
            self.change_mapping(item, place)
        elif isinstance(item, (list, bytearray, set)):
            assert is_copy, f"{place} is a {type(item).__name__}"
        if isinstance(item, (list, tuple)):
            for i, part in enumerate(item):
                self.visit(part, f"{place}[{i}]", is_copy)
        if type(item).__module__.startswith("cylstm"):
            self.change_attributes(item, place)

    def change_attributes(self, item, place):
        for name in [name for name in dir(item) if not name.startswith("_")]:
            value = getattr(item, name)
            if (type(item), name) not in SETTABLE:
                for other in (None, value, 7):
                    with pytest.raises(REFUSALS):
                        setattr(item, name, other)
                with pytest.raises(REFUSALS):
                    delattr(item, name)
            if callable(value) and not isinstance(value, type):
                continue
            is_copy = (type(item), name) in COPIES
            if isinstance(value, list) and not is_copy:
                # a list is made anew each time
                before = list(value)
                value.clear()
                assert getattr(item, name) == before, f"{place}.{name}"
                value = tuple(before)
            self.visit(value, f"{place}.{name}", is_copy)
        if not isinstance(item, L.Layer):
            with pytest.raises(REFUSALS):
                item.something_new = 1

    def change_mapping(self, item, place):
        before = list(item)
        key = before[0] if before else "key"
        attempts = [
            lambda: item.__setitem__(key, None),
            lambda: item.__setitem__("a new one", None),
            lambda: item.__delitem__(key),
            lambda: item.__ior__({key: None}),
            lambda: item.update({key: None}),
            lambda: item.clear(),
            lambda: item.pop(key),
            lambda: item.popitem(),
            lambda: item.setdefault("a new one", None),
        ]
        for attempt in attempts:
            with pytest.raises(REFUSALS):
                attempt()
        if isinstance(item, dict):
            with pytest.raises(TypeError):
                item.__init__({key: None})
            item.__init__()
        assert list(item) == before, place
        for name, value in item.items():
            self.visit(value, f"{place}[{name!r}]")


def embedding_model(rng):
    tensors = {"embed.weight": rng.normal(size=(11, 4)).astype(np.float32)} | lstm_state_dict(rng, 4, 5)
    return cylstm.from_state_dict(tensors, [L.Embedding("embed"), L.LSTM("lstm")])


def channels_first_model(rng):
    """The user's order of axes is (batch, channels, time), at both ends; one output lies behind a dropout."""
    tensors = lstm_state_dict(rng, 3, 5)
    layers = [L.LSTM("lstm"), L.Dropout(0.5)]
    graph = cylstm.from_state_dict(tensors, layers).graph
    return cylstm.Model(graph._replace(layouts={graph.inputs[0]: "10", graph.outputs[0]: "10"}))


MODELS = {
    "packed": lambda rng, path: lstm_model(rng, 3, 7, num_layers=2),
    "blas": lambda rng, path: lstm_model(rng, 3, 7, engine="blas"),
    "float64": lambda rng, path: lstm_model(rng, 3, 7, dtype="float64"),
    "bidirectional": lambda rng, path: lstm_model(rng, 3, 7, bidirectional=True),
    "embedding": lambda rng, path: embedding_model(rng),
    "channels first": lambda rng, path: channels_first_model(rng),
    "file": lambda rng, path: loaded(rng, path),
    "mapped": lambda rng, path: loaded(rng, path, packed=True, mmap=True),
}


def loaded(rng, path, packed=False, **options):
    lstm_model(rng, 3, 7).save(path / "a.cylstm", packed=packed, metadata={"unit": "K", "scaling": "[1, 2]"})
    return cylstm.load(path / "a.cylstm", **options)


@pytest.fixture(params=MODELS)
def model(request, rng, tmp_path):
    return MODELS[request.param](rng, tmp_path)


def inputs(rng, model):
    if model.graph.values[model.inputs[0]].kind == "index":
        return rng.integers(0, 11, (3, 6))
    x = rng.normal(size=(3, 6, 3)).astype(np.float32)
    return np.ascontiguousarray(x.transpose(0, 2, 1)) if model.graph.layouts else x


def everything(model, x, state, path):
    """Bits of all that a model computes and writes."""
    found = [model.predict(x)]
    y, final = model.predict(x, initial_state=state, return_state=True)
    found += [y, *(array for parts in final for array in parts)]
    if model.can_stream:
        stream = model.stream(3)
        stream.state = state
        found += [stream.run(x), *(array for parts in stream.state for array in parts)]
    model.save(path)
    return [array.tobytes() for array in found], path.read_bytes(), repr(model), model.state_names


@pytest.mark.filterwarnings("ignore:.* is now called:DeprecationWarning")
def test_nothing_public_of_a_model_can_be_changed(rng, tmp_path, model):
    x, state = inputs(rng, model), random_states(rng, model, 3)
    before = everything(model, x, state, tmp_path / "before.cylstm")
    walk = Walk()
    walk.visit(model, "model")
    for layer in model.graph.layers:
        walk.visit(read_only(model.graph.stored_tensors(layer)), f"tensors of {layer.name}")
    ours = {cylstm.Model, Graph, Layer, Value, Axis, StoredTensors, StoredTensor, ReadOnlyDict}
    assert ours | {types.MappingProxyType, np.ndarray} <= walk.kinds
    assert everything(model, x, state, tmp_path / "after.cylstm") == before


@pytest.mark.filterwarnings("ignore:.* is now called:DeprecationWarning")
def test_nothing_public_of_a_stream_can_be_changed_but_its_state(rng):
    model = lstm_model(rng, 3, 7)
    stream, twin = model.stream(2), model.stream(2)
    stream.step(np.ones((2, 3), np.float32))
    twin.step(np.ones((2, 3), np.float32))
    walk = Walk()
    walk.visit(stream, "stream")
    stream.state[0][0][:] = 7
    stream.state.clear()
    np.testing.assert_array_equal(
        bits(stream.step(np.zeros((2, 3), np.float32))), bits(twin.step(np.zeros((2, 3), np.float32)))
    )


LAYERS = [
    L.Input((None, 3)),
    L.LSTM("a", backward=L.LSTM("b"), activation=L.Activation("elu", 0.5)),
    L.GRU("a"),
    L.RNN("a"),
    L.ConvLSTM("a", [4, 5], strides=[1, 2]),
    L.Linear("a"),
    L.Conv1d("a", padding=[1, 2]),
    L.Conv2d("a", padding=[1, 2]),
    L.ConvTranspose1d("a"),
    L.ConvTranspose2d("a", stride=[2, 1]),
    L.BatchNorm2d("a"),
    L.MaxPool2d([2, 1]),
    L.AvgPool2d(2),
    L.Steps(),
    L.MaxPool1d(2),
    L.AvgPool1d(2),
    L.Embedding("a"),
    L.BatchNorm1d("a"),
    L.LayerNorm("a"),
    L.RMSNorm("a"),
    L.GroupNorm("a", 2),
    L.PReLU("a"),
    L.GLU(),
    L.Dropout(),
    L.Last(),
    L.LastState(),
    L.Reverse(),
    L.Flatten(),
    L.Transpose(),
    L.GlobalPool1d(),
    L.Activation("relu"),
    L.Heads([L.Linear("a"), L.Tanh()], [L.Linear("b")]),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_layer_cannot_be_changed(layer):
    before = repr(layer)
    Walk().visit(layer, type(layer).__name__)
    with pytest.raises(AttributeError, match="read-only"):
        layer.something_new = 1
    assert repr(layer) == before
    assert hash(layer) == hash(copy.deepcopy(layer)) and pickle.loads(pickle.dumps(layer)) == layer


def test_every_layer_is_tried_above():
    kinds = {
        kind
        for kind in (getattr(L, name) for name in L.__all__)
        if isinstance(kind, type) and issubclass(kind, L.Layer)
    }
    assert {type(layer) for layer in LAYERS} == kinds - {L.Layer}


def test_a_dtype_that_was_assigned_does_not_reach_the_engine(rng):
    model = lstm_model(rng, 3, 400, dtype="float64")
    x = rng.normal(size=(5, 4, 3))
    expected = [array.tobytes() for array in model.predict(x, return_state=True)[1][0]]
    with pytest.raises(AttributeError):
        model.dtype = np.dtype("float32")
    # not even where somebody insists
    model._dtype = np.dtype("float32")
    model._engine = "packed"
    model._graph = lstm_model(rng, 2, 3).graph
    for _ in range(50):
        assert [array.tobytes() for array in model.predict(x, return_state=True)[1][0]] == expected
    with pytest.raises(ShapeError, match=r"expected shape \(5, 400\)"):
        model.predict(x, initial_state=[(np.zeros((5, 3)), np.zeros((5, 3)))])


def test_a_model_is_made_once(rng):
    model, other = lstm_model(rng, 3, 5), lstm_model(rng, 3, 6)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    before = bits(model.predict(x))
    with pytest.raises(AttributeError, match="a Model never changes"):
        model.__init__(other.graph)
    np.testing.assert_array_equal(bits(model.predict(x)), before)


def test_what_a_model_gives_is_handled_like_any_dict_and_tuple(rng):
    graph = lstm_model(rng, 3, 5).graph._replace(metadata={"unit": "K"})
    model = cylstm.Model(graph._replace(provenance={"format": "a", "files": ["b"], "layouts": {"c": "d"}}))
    assert model.metadata == {"unit": "K"} and model.provenance["files"] == ("b",)
    assert json.loads(json.dumps(model.provenance)) == {"format": "a", "files": ["b"], "layouts": {"c": "d"}}
    assert repr(model.metadata) == "{'unit': 'K'}"
    for made in (
        dict(model.metadata),
        model.metadata.copy(),
        copy.copy(model.metadata),
        copy.deepcopy(model.metadata),
        pickle.loads(pickle.dumps(model.metadata)),
        model.metadata | {},
    ):
        assert type(made) is dict
        made["unit"] = "C"
    assert model.metadata["unit"] == "K"
    nested = copy.deepcopy(model.provenance)
    nested["layouts"]["c"] = "e"
    assert model.provenance["layouts"] == {"c": "d"}
    assert model.inputs == ("input",) and model.outputs == ("fc",)
    again = pickle.loads(pickle.dumps(model.graph))
    assert again.layers == model.graph.layers and type(again.metadata) is ReadOnlyDict


def test_models_can_be_referred_to_weakly_and_subclassed(rng):
    class Named(cylstm.Model):
        def __init__(self, graph, name):
            super().__init__(graph)
            self.name = name

    model = Named(lstm_model(rng, 3, 5).graph, "first")
    assert weakref.ref(model)() is model and model.name == "first"
    assert model.stream().step(np.zeros(3)).shape == (3,)
    with pytest.raises(AttributeError):
        model.dtype = np.dtype("float64")


def test_an_array_of_the_graph_cannot_be_made_writable_in_place(rng):
    model = lstm_model(rng, 3, 5)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    before = bits(model.predict(x))
    for array in model.graph.tensors.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    for arrays in model._packed.arrays().values():
        for array in arrays:
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                array.flags.writeable = True
    np.testing.assert_array_equal(bits(model.predict(x)), before)


def test_the_graph_that_a_model_was_made_of_may_change_later(rng):
    tensors = lstm_state_dict(rng, 3, 5) | linear_state_dict(rng, 5, 2)
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Linear("fc")])
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    before = bits(model.predict(x))
    for array in tensors.values():
        array[...] = 0
    np.testing.assert_array_equal(bits(model.predict(x)), before)
    assert all(array.any() for array in model.graph.tensors.values())


# Packed arrays


def test_packed_arrays_are_not_a_public_argument(rng):
    with pytest.raises(TypeError, match="arrays"):
        cylstm.Model(lstm_model(rng, 3, 5).graph, arrays={})


def _moved(array, offset):
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    moved = memory[start : start + array.nbytes].view(np.float32)
    moved[...] = array
    return moved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: array.astype(np.float64), "found float64"),
        (lambda array: array.astype(">f4"), "found >f4"),
        (lambda array: array.view(np.int32), "found int32"),
        (lambda array: np.repeat(array, 2)[::2], r"strides \(8,\)"),
        (lambda array: array[::-1], r"strides \(-4,\)"),
        (lambda array: array.reshape(2, -1), r"found float32 \(2, "),
        (lambda array: _moved(array, 4), "at 4 of 64"),
        (lambda array: _moved(array, 32), "at 32 of 64"),
        (lambda array: _moved(array[:-16], 0), "packed arrays that do not fit"),
        (lambda array: _moved(array[:0], 0), r"packed arrays that do not fit|found float32 \(0,\)"),
        (lambda array: array.tolist(), "found list"),
        (lambda array: None, "found NoneType"),
    ],
)
def test_packed_arrays_that_c_cannot_read_are_refused(rng, tmp_path, change, message):
    model = lstm_model(rng, 3, 17)
    model.save(tmp_path / "a.cylstm", packed=True)
    graph, arrays = open_file(tmp_path / "a.cylstm")
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    again = cylstm.Model._of_arrays(graph, arrays, None, None)
    np.testing.assert_array_equal(bits(again.predict(x)), bits(model.predict(x)))
    for name, packed in arrays.items():
        for i, array in enumerate(packed):
            damaged = {**arrays, name: [*packed[:i], change(array), *packed[i + 1 :]]}
            with pytest.raises(FormatError, match=f"layer '{name}'.*{message}"):
                cylstm.Model._of_arrays(graph, damaged, None, None)


def test_packed_arrays_too_many_or_too_few_are_refused(rng, tmp_path):
    lstm_model(rng, 3, 17).save(tmp_path / "a.cylstm", packed=True)
    graph, arrays = open_file(tmp_path / "a.cylstm")
    name, packed = next(iter(arrays.items()))
    for damaged in (
        {other: found for other, found in arrays.items() if other != name},
        {**arrays, name: packed[:-1]},
        {**arrays, name: [*packed, packed[-1]]},
    ):
        with pytest.raises(FormatError, match="packed arrays that do not fit"):
            cylstm.Model._of_arrays(graph, damaged, None, None)
    with pytest.raises(FormatError, match="packed arrays of no layer: other"):
        cylstm.Model._of_arrays(graph, {**arrays, "other": packed}, None, None)
    kept = cylstm.Model._of_arrays(graph, arrays, None, None)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    before = bits(kept.predict(x))
    arrays.clear()
    packed.clear()
    np.testing.assert_array_equal(bits(kept.predict(x)), before)


def test_a_dropout_at_the_end_keeps_the_order_of_axes(rng):
    model = channels_first_model(rng)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    plain = cylstm.Model(model.graph._replace(layouts={}))
    found = model.predict(x.transpose(0, 2, 1))
    np.testing.assert_array_equal(bits(found.transpose(0, 2, 1)), bits(plain.predict(x)))
    out = np.full(found.shape, np.nan, np.float32)
    assert model.predict(x.transpose(0, 2, 1), out=out) is out
    np.testing.assert_array_equal(bits(out), bits(found))


@pytest.mark.parametrize("options", [{}, {"engine": "blas"}, {"engine": "blas", "dtype": "float64"}])
def test_packed_arrays_are_handed_out_read_only(rng, options):
    model = lstm_model(rng, 3, 9, num_layers=2, **options)
    arrays = [array for packed in model._packed.arrays().values() for array in packed]
    assert arrays
    for array in arrays:
        assert array.dtype == model.dtype and not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_packed_arrays_keep_the_weights_that_they_lie_in(rng):
    model = lstm_model(rng, 3, 9)
    packed = weakref.ref(model._packed)
    arrays = next(iter(model._packed.arrays().values()))
    before = [array.copy() for array in arrays]
    del model
    gc.collect()
    assert packed() is not None
    for array, kept in zip(arrays, before):
        np.testing.assert_array_equal(bits(array), bits(kept))
    del arrays, array
    gc.collect()
    assert packed() is None
