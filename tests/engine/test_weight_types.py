"""Weights of another type than float32: `load(..., weights="float16")` and the like."""

import copy
import json
import pickle

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ArgumentError, FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder
from cylstm.summary import summary_text

from tests.builders.networks import lstm_model, lstm_state_dict, reloaded, same, same_states
from tests.builders.weight_files import linear_tensors
from tests.formats.test_safetensors import join, split

KINDS = {
    "lstm": ("lstm", 4, {}),
    "peepholes": ("lstm", 4, {"cell_clip": 0.9, "gate_clip": 1.5}),
    "coupled": ("lstm", 3, {"coupled": "f=1-i"}),
    "normalised": ("lstm", 4, {"layer_norm": "carried"}),
    "projected": ("lstm", 4, {}),
    "gru_after": ("gru", 3, {}),
    "gru_before": ("gru", 3, {"reset_after": False}),
    "rnn": ("rnn", 1, {}),
}


def recurrent_graph(rng, kind, input_size=6, hidden=37, outputs=5):
    """One recurrent layer and a dense one behind it; some weights are subnormal in float16, or below it."""
    name, gates, options = KINDS[kind]
    output = 9 if kind == "projected" else hidden

    def weight(*shape):
        numbers = rng.normal(size=shape).astype(np.float32) / np.sqrt(shape[-1])
        small = rng.random(shape)
        return np.where(small < 0.1, numbers * 2.0**-14, np.where(small < 0.15, numbers * 2.0**-30, numbers))

    weights = {"weight_ih": weight(gates * hidden, input_size), "weight_hh": weight(gates * hidden, output)}
    weights |= {"bias_ih" if name == "gru" else "bias": weight(gates * hidden)}
    if kind == "projected":
        weights["weight_hr"] = weight(output, hidden)
    if kind == "peepholes":
        weights |= {f"peephole_{gate}": weight(hidden) for gate in "ifo"}
    if kind == "normalised":
        for norm, size in (("ih", gates * hidden), ("hh", gates * hidden), ("c", hidden)):
            weights |= {f"norm_{norm}_gain": weight(size), f"norm_{norm}_shift": weight(size)}
    weights = {role: array.astype(np.float32) for role, array in weights.items()}
    builder = GraphBuilder()
    x = builder.input("x", (None, input_size))
    y = builder.add(name, "rnn", {"x": x}, weights, options)["y"]
    dense = {"weight": weight(outputs, output).astype(np.float32), "bias": weight(outputs).astype(np.float32)}
    builder.output(builder.add("dense", "fc", {"x": y}, dense)["y"])
    return builder.build()


def rounded_array(array, weights):
    """A matrix rounded by NumPy; bfloat16 keeps the first 16 bits of a float."""
    if weights == "float16":
        return array.astype(np.float16).astype(np.float32)
    if weights == "bfloat16":
        bits = np.where(np.abs(array) < 2.0**-40, np.float32(0), array).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    scale = np.abs(array).max(axis=1, keepdims=True) / np.float32(127)
    scale = ((scale.view(np.uint32) + 0xFF) & ~np.uint32(0xFF)).view(np.float32)  # up to 16 significant bits
    return (np.rint(array.astype(np.float64) / scale) * scale).astype(np.float32)


def rounded(graph, weights):
    """The graph with its matrices rounded by NumPy."""
    tensors = {
        name: rounded_array(array, weights) if array.ndim == 2 else array for name, array in graph.tensors.items()
    }
    return graph._replace(tensors=tensors)


def types_of(graph):
    """Layer -> the types of its matrices."""
    return {name: set(graph.types_of(name).values()) for name, _ in graph.weight_types}


def check_the_same_bits(model, reference, x, mask, expected, final):
    """Whole, alone, in pieces and by windows, of a batch of 7 and 13 steps."""
    for threads in (1, 3):
        y, state = model.predict(x, mask=mask, return_state=True, threads=threads)
        assert same(y, expected) and same_states(state, final)
        assert same(model.predict(x[2], mask=mask[2], threads=threads), expected[2])
        stream = model.stream(batch=7, threads=threads)
        parts = [stream.run(x[:, first:last]) for first, last in ((0, 1), (1, 7), (7, 13))]
        assert same(np.concatenate(parts, axis=1), reference.predict(x))
        window = model.stream(batch=7, threads=threads, window=4)
        last = [window.step(x[:, t]) for t in range(13)][-1]
        assert same(last, reference.predict(x[:, -4:]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_a_smaller_type_gives_the_bits_of_weights_that_were_rounded_before(rng, monkeypatch, kind, isa, weights):
    graph = recurrent_graph(rng, kind)
    x = rng.normal(size=(7, 13, 6)).astype(np.float32)
    mask = rng.random((7, 13)) > 0.3
    monkeypatch.setenv("CYLSTM_ISA", "scalar")
    plain = cylstm.Model(rounded(graph, weights))
    expected, final = plain.predict(x, mask=mask, return_state=True)
    monkeypatch.setenv("CYLSTM_ISA", isa)
    model = cylstm.Model(graph, weights=weights)
    check_the_same_bits(model, plain, x, mask, expected, final)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("weights", ["int8a16", "int8a8"])
def test_int8_gives_the_same_bits_on_every_set_in_every_batch_and_division(rng, monkeypatch, kind, isa, weights):
    graph = recurrent_graph(rng, kind)
    x = rng.normal(size=(7, 13, 6)).astype(np.float32)
    mask = rng.random((7, 13)) > 0.3
    monkeypatch.setenv("CYLSTM_ISA", "scalar")
    scalar = cylstm.Model(graph, weights=weights)
    expected, final = scalar.predict(x, mask=mask, return_state=True)
    monkeypatch.setenv("CYLSTM_ISA", isa)
    model = cylstm.Model(graph, weights=weights)
    for name, array in rounded(graph, weights).tensors.items():
        assert same(model.graph.tensors[name], np.where(np.abs(array) < 2.0**-40, 0, array).astype(np.float32)), name
    check_the_same_bits(model, scalar, x, mask, expected, final)


def whole_activations(x, most):
    """Rows of x as the multiples of a scale that int8 products take them for, in float64."""
    largest = np.abs(x).max(axis=-1, keepdims=True).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.float32(most) / largest
        found = np.rint(x.astype(np.float32) * factor) * (largest * np.float32(1 / most)).astype(np.float64)
    return np.where(largest == 0, 0, found)


@pytest.mark.parametrize("weights, most", [("int8a16", 32767), ("int8a8", 127)])
def test_an_lstm_of_int8_computes_what_its_definition_says(rng, weights, most):
    graph = recurrent_graph(rng, "lstm", input_size=600, hidden=37)
    model = cylstm.Model(graph, weights=weights)
    tensors = {name: array.astype(np.float64) for name, array in model.graph.tensors.items()}
    x = rng.normal(size=(3, 9, 600)).astype(np.float32)
    h, c = np.zeros((3, 37)), np.zeros((3, 37))
    outputs = []
    for t in range(9):
        gates = whole_activations(x[:, t], most) @ tensors["rnn.weight_ih"].T + tensors["rnn.bias"]
        gates += whole_activations(h, most) @ tensors["rnn.weight_hh"].T
        i, f, g, o = np.split(gates, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        outputs.append(whole_activations(h, most) @ tensors["fc.weight"].T + tensors["fc.bias"])
    # where a number of h lies between two whole ones, float32 may round to the other one
    atol = 1e-5 if most == 32767 else 5e-3
    np.testing.assert_allclose(model.predict(x), np.stack(outputs, axis=1), atol=atol)


@pytest.mark.parametrize("weights", ["int8a16", "int8a8"])
@pytest.mark.parametrize("isa", isa_names())
def test_nan_and_infinity_give_nan_in_their_row_alone(rng, monkeypatch, weights, isa):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    model = cylstm.Model(recurrent_graph(rng, "lstm"), weights=weights)
    x = rng.normal(size=(5, 8, 6)).astype(np.float32)
    expected = model.predict(x)
    x[1, 3, 2], x[3, 0, 5] = np.nan, -np.inf
    y = model.predict(x)
    assert same(y[[0, 2, 4]], expected[[0, 2, 4]]) and same(y[1, :3], expected[1, :3])
    assert np.isnan(y[1, 3:]).all() and np.isnan(y[3]).all()


@pytest.mark.parametrize("weights", ["int8a16", "int8a8"])
@pytest.mark.parametrize("isa", isa_names())
def test_an_infinite_input_gives_nan_in_every_unit_whatever_it_is_multiplied_by(rng, monkeypatch, weights, isa):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    weight = rng.uniform(0.5, 1, (37, 6)).astype(np.float32) * rng.choice([-1, 1], (37, 6))
    builder = GraphBuilder()
    builder.output(builder.add("dense", "fc", {"x": builder.input("x", (6,))}, {"weight": weight.astype("f")})["y"])
    x = rng.normal(size=(4, 6)).astype(np.float32)
    x[1, 3], x[2, 5] = np.inf, -np.inf
    y = cylstm.Model(builder.build(), weights=weights).predict(x)
    assert np.isnan(y[1:3]).all() and np.isfinite(y[[0, 3]]).all()


@pytest.mark.parametrize("weights", ["int8a16", "int8a8"])
def test_rows_of_zeros_and_columns_of_very_different_size_are_quantised(rng, weights):
    graph = recurrent_graph(rng, "lstm")
    tensors = dict(graph.tensors)
    wide = np.array(tensors["rnn.weight_hh"])
    wide[3] = 0
    wide[:, 5] *= 1e4
    wide[9] *= 1e-9
    tensors["rnn.weight_hh"] = wide
    model = cylstm.Model(graph._replace(tensors=tensors), weights=weights)
    found = model.graph.tensors["rnn.weight_hh"]
    assert not found[3].any() and np.abs(found - wide).max(axis=1).max() <= np.abs(wide).max() / 253
    wide[4, 2] = np.inf
    with pytest.raises(UnsupportedError, match="tensor 'weight_hh': NaN or infinity is nothing that int8"):
        cylstm.Model(graph._replace(tensors={**tensors, "rnn.weight_hh": wide}), weights=weights)


@pytest.mark.parametrize("weights", ["float16", "bfloat16", "int8a16", "int8a8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_a_smaller_type_is_saved_loaded_copied_and_pickled_as_such(rng, tmp_path, kind, weights):
    model = cylstm.Model(recurrent_graph(rng, kind), weights=weights)
    x = rng.normal(size=(2, 5, 6)).astype(np.float32)
    again = [*reloaded(model, tmp_path), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    again.append(cylstm.Model(model.graph))
    for other in again:
        assert same(other.predict(x), model.predict(x))
        assert types_of(other.graph) == {"rnn": {weights}, "fc": {weights}}
        assert summary_text(other) == summary_text(model)
        for name, array in model.graph.tensors.items():
            np.testing.assert_array_equal(other.graph.tensors[name], array)
        for packed, name in ((False, "plain"), (True, "packed")):
            other.save(tmp_path / "again.cylstm", packed=packed)
            assert (tmp_path / "again.cylstm").read_bytes() == (tmp_path / f"{name}.cylstm").read_bytes()
    wide = cylstm.load(tmp_path / "packed.cylstm", weights="float32")
    assert not wide.graph.weight_types
    # int8 rounds what it multiplies too
    atol = {"int8a16": 1e-4, "int8a8": 2e-2}.get(weights, 0.0)
    np.testing.assert_allclose(wide.predict(x), model.predict(x), atol=atol, rtol=0)
    blas = cylstm.load(tmp_path / "packed.cylstm", weights="float32", engine="blas", dtype="float64")
    np.testing.assert_allclose(blas.predict(x), model.predict(x), atol=atol + 1e-5)


def test_a_file_holds_matrices_in_two_bytes_and_all_else_in_four(rng, tmp_path):
    model = cylstm.Model(recurrent_graph(rng, "peepholes"), weights="float16")
    model.save(tmp_path / "a.cylstm")
    header, _ = split(tmp_path / "a.cylstm")
    assert "layout_version" not in header["__metadata__"] and header["__metadata__"]["format_version"] == "1"
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == ("F16" if len(entry["shape"]) == 2 else "F32"), name
    model.save(tmp_path / "a.cylstm", packed=True)
    header, data = split(tmp_path / "a.cylstm")
    assert header["__metadata__"]["layout_version"] == "2"
    kinds = {name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    assert kinds == {"fc/0": "F16", "fc/1": "F32", "rnn/0": "F16", "rnn/1": "F32", "rnn/2": "F32"}
    start = (tmp_path / "a.cylstm").stat().st_size - len(data)
    assert all((start + header[name]["data_offsets"][0]) % 64 == 0 for name in kinds)


@pytest.mark.parametrize("weights", ["int8a16", "int8a8"])
def test_a_file_of_int8_holds_whole_numbers_and_the_scales_of_their_rows(rng, tmp_path, weights):
    model = cylstm.Model(recurrent_graph(rng, "projected"), weights=weights)
    model.save(tmp_path / "a.cylstm")
    header, data = split(tmp_path / "a.cylstm")
    for role, rows in (("weight_ih", 148), ("weight_hh", 148), ("weight_hr", 9)):
        entry, scales = header[f"rnn.{role}"], header[f"rnn.{role}:scales"]
        assert entry["dtype"] == "I8" and scales["dtype"] == "F32" and scales["shape"] == [rows]
        whole = np.frombuffer(data[slice(*entry["data_offsets"])], np.int8).reshape(entry["shape"])
        by_row = np.frombuffer(data[slice(*scales["data_offsets"])], np.float32)
        assert same(whole * by_row[:, None], model.graph.tensors[f"rnn.{role}"])
    model.save(tmp_path / "a.cylstm", packed=True)
    header, _ = split(tmp_path / "a.cylstm")
    assert header["__metadata__"]["layout_version"] == "3"
    kinds = [header[f"rnn/{i}"]["dtype"] for i in range(10)]
    assert kinds == ["I8", "F32", "F32", "F32"] * 2 + ["I8", "F32"]


def test_halves_of_a_layer_keep_types_of_their_own(rng, tmp_path):
    graph = recurrent_graph(rng, "lstm")
    types = {("rnn", "weight_ih"): "bfloat16", ("rnn", "weight_hh"): "int8a16"}
    model = cylstm.Model(graph._replace(weight_types=types))
    x = rng.normal(size=(3, 7, 6)).astype(np.float32)
    assert "bfloat16, int8a16" in summary_text(model)
    for other in [*reloaded(model, tmp_path), pickle.loads(pickle.dumps(model))]:
        assert other.graph.weight_types == types and same(other.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rnn.weight_ih": "missing"}, "scales of tensors that are not in the file: missing"),
        ({"rnn.weight_ih": 3}, "scales expected names of tensors, found"),
        ({}, "scales expected names of tensors, found {}"),
        ({"rnn.weight_ih": "rnn.weight_ih"}, "scales of tensors that are not in the file"),
        ({"rnn.weight_ih": "rnn.bias"}, "scales expected finite numbers of 0 or more"),
        ({"rnn.bias": "rnn.weight_ih:scales"}, "expected int8 of .* found float32"),
    ],
)
def test_wrong_scales_are_refused(rng, tmp_path, change, message):
    cylstm.Model(recurrent_graph(rng, "lstm", hidden=36), weights="int8a16").save(tmp_path / "a.cylstm")
    header, data = split(tmp_path / "a.cylstm")
    graph = json.loads(header["__metadata__"]["graph"])
    graph["scales"] = {**graph["scales"], **change} if change else {}
    header["__metadata__"]["graph"] = json.dumps(graph)
    with pytest.raises(FormatError, match=message):
        cylstm.load(join(tmp_path / "b.cylstm", header, data))


def test_a_file_of_float32_weights_knows_nothing_of_other_types(rng, tmp_path):
    model = cylstm.Model(recurrent_graph(rng, "lstm"), weights="float32")
    for packed in (False, True):
        model.save(tmp_path / "a.cylstm", packed=packed)
        header, _ = split(tmp_path / "a.cylstm")
        assert "weight_types" not in header["__metadata__"]["graph"]
        assert header["__metadata__"].get("layout_version") == ("1" if packed else None)
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32"}


def test_layers_of_other_kinds_keep_float32_and_the_summary_says_so(rng):
    tensors = lstm_state_dict(rng, 4, 19) | linear_tensors(rng, "fc", 19, 3)
    tensors |= {"conv.weight": rng.normal(size=(4, 1, 3)).astype(np.float32)}
    wiring = [L.Conv1d("conv", groups=4), L.LSTM("lstm"), L.Linear("fc")]
    model = cylstm.from_state_dict(tensors, wiring, weights="float16")
    lines = {line.split()[0]: line.split() for line in summary_text(model).splitlines() if line}
    assert lines["conv"][-2] == "float32" and lines["lstm.l0"][-2] == lines["fc"][-2] == "float16"
    # 2 blocks, one of 16 and one of 4 units, 23 columns, in whole lines; and 80 numbers with padding of bias
    assert lines["lstm.l0"][-1] == f"{(80 * 23 + 16) * 2 + 96 * 4:,}"
    assert "weights" in lines["layer"]


def test_a_tensor_that_a_layer_of_float32_uses_too_is_not_rounded_for_it(rng, tmp_path):
    table = rng.normal(size=(11, 6)).astype(np.float32)
    builder = GraphBuilder()
    x = builder.input("x", (None,), indices=True)
    embedded = builder.add("embedding", "table", {"indices": x}, {"weight": table})["y"]
    builder.output(embedded)
    builder.output(builder.add("dense", "fc", {"x": embedded}, {"weight": "table.weight"})["y"])
    model = cylstm.Model(builder.build()._replace(weight_types={("fc", "weight"): "float16"}))
    indices = rng.integers(0, 11, (2, 5))
    y = model.predict(indices)
    assert same(y[0], table[indices]) and model.graph.weight_types == {("fc", "weight"): "float16"}
    assert np.array_equal(model.graph.tensors["table.weight"], table)
    for again in reloaded(model, tmp_path):
        assert all(map(same, again.predict(indices), y))


def test_what_cannot_have_such_weights_is_refused_by_name(rng, tmp_path):
    graph = recurrent_graph(rng, "lstm")
    for options, message in [
        ({"weights": "float16", "engine": "blas"}, 'weights of float16 are for engine="packed", and engine="blas"'),
        ({"weights": "float16", "dtype": "float64"}, 'weights of float16 .* dtype="float64" was asked for'),
        ({"weights": "float16", "dtype": "float64", "engine": "auto"}, 'weights of float16 .* dtype="float64"'),
    ]:
        with pytest.raises(UnsupportedError, match=message):
            cylstm.Model(graph, **options)
    for name in ("float24", 16, b"float16", ["float16"]):
        with pytest.raises(
            ArgumentError, match="weights: expected one of float32, float16, bfloat16, int8a16, int8a8 or int8, found"
        ):
            cylstm.Model(graph, weights=name)
    path = tmp_path / "a.cylstm"
    cylstm.Model(graph, weights="float16").save(path, packed=True)
    with pytest.raises(UnsupportedError, match='weights of float16 are for engine="packed"'):
        cylstm.load(path, engine="blas")
    with pytest.raises(UnsupportedError, match="mmap=True maps the weights as the file has them, and not as float32"):
        cylstm.load(path, mmap=True, weights="float32")
    cylstm.load(path, mmap=True, weights="float16")
    assert cylstm.load(path, engine="auto").engine == "packed"


def test_a_weight_beyond_float16_is_refused_by_name_and_one_that_is_not_finite_is_kept(rng):
    tensors = lstm_state_dict(rng, 3, 5)
    tensors["lstm.weight_hh_l0"][7, 2] = -65519.9
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm")], weights="float16")
    assert model.graph.tensors["lstm.l0.weight_hh"][7, 2] == -65504
    tensors["lstm.weight_hh_l0"][7, 2] = -65520.0
    with pytest.raises(UnsupportedError, match="layer 'lstm.l0', tensor 'weight_hh': 65,520.0 is beyond .* float16"):
        cylstm.from_state_dict(tensors, [L.LSTM("lstm")], weights="float16")
    tensors["lstm.weight_hh_l0"][7, :3] = [np.nan, np.inf, -np.inf]
    with pytest.warns(UserWarning, match="NaN or infinity"):
        model = cylstm.from_state_dict(tensors, [L.LSTM("lstm")], weights="float16")
    np.testing.assert_array_equal(model.graph.tensors["lstm.l0.weight_hh"][7, :3], [np.nan, np.inf, -np.inf])


def test_convert_writes_float16_as_a_model_of_it_does(rng, tmp_path):
    tensors = lstm_state_dict(rng, 3, 21)
    cylstm.from_state_dict(tensors, [L.LSTM("lstm")]).save(tmp_path / "plain.cylstm")
    cylstm.from_state_dict(tensors, [L.LSTM("lstm")], weights="float16").save(tmp_path / "expected.cylstm")
    cylstm.convert(tmp_path / "plain.cylstm", tmp_path / "small.cylstm", weights="float16")
    cylstm.convert(tmp_path / "small.cylstm", tmp_path / "again.cylstm")
    for name in ("small", "again"):
        assert (tmp_path / f"{name}.cylstm").read_bytes() == (tmp_path / "expected.cylstm").read_bytes()
    cylstm.convert(tmp_path / "small.cylstm", tmp_path / "wide.cylstm", weights="float32")
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    wide, small = cylstm.load(tmp_path / "wide.cylstm"), cylstm.load(tmp_path / "small.cylstm")
    assert same(wide.predict(x), small.predict(x)) and not wide.graph.weight_types
    with pytest.raises(UnsupportedError, match='dtype="float64" was asked for'):
        cylstm.convert(tmp_path / "small.cylstm", tmp_path / "double.cylstm", dtype="float64")


def _types(text):
    def change(header):
        graph = header["__metadata__"]["graph"]
        header["__metadata__"]["graph"] = graph.replace('"weight_types":{"rnn":"float16"}', text)

    return change


def _swapped(header):
    header["rnn/0"]["dtype"], header["rnn/1"]["dtype"] = "F32", "F16"
    for name in ("rnn/0", "rnn/1"):
        begin, end = header[name]["data_offsets"]
        header[name]["shape"] = [(end - begin) // (4 if name == "rnn/0" else 2)]


@pytest.mark.filterwarnings("ignore:.*NaN or infinity")  # of numbers taken for others
@pytest.mark.parametrize(
    "change, error, message",
    [
        (_types('"weight_types":{"rnn":"float24"}'), UnsupportedError, "layer 'rnn': weight_ih of 'float24' is not"),
        (_types('"weight_types":{"rnn":16}'), UnsupportedError, "layer 'rnn': weight_ih of 16 is not supported"),
        (_types('"weight_types":{"rnn":{}}'), UnsupportedError, "layer 'rnn': weights of {} are not supported"),
        (_types('"weight_types":{"rnn":{"bias":"float16"}}'), UnsupportedError, "bias of 'float16' is not supported"),
        (_types('"weight_types":{"x":"float16"}'), FormatError, "weight_types expected names of layers, found"),
        (_types('"weight_types":{}'), FormatError, "weight_types expected names of layers, found {}"),
        (_types('"weight_types":[]'), FormatError, r"weight_types expected names of layers, found \[\]"),
        (_types('"window":3'), FormatError, "packed arrays that do not fit the layer"),
        (_swapped, FormatError, "packed arrays that do not fit the layer"),
    ],
)
def test_a_wrong_file_is_refused(rng, tmp_path, change, error, message):
    tensors = lstm_state_dict(rng, 3, 21, prefix="")
    model = cylstm.from_state_dict({f"rnn.{name}": array for name, array in tensors.items()}, [L.LSTM("rnn")])
    graph = model.graph
    (layer,) = graph.layers
    graph = graph._replace(layers=(layer._replace(name="rnn"),))
    cylstm.Model(graph, weights="float16").save(tmp_path / "a.cylstm", packed=True)
    header, data = split(tmp_path / "a.cylstm")
    change(header)
    with pytest.raises(error, match=message):
        cylstm.load(join(tmp_path / "b.cylstm", header, data))


def test_a_convolutional_lstm_of_two_types_is_refused(rng, tmp_path):
    tensors = {
        "c.weight_ih": rng.normal(size=(20, 2, 3)).astype(np.float32),
        "c.weight_hh": rng.normal(size=(20, 5, 3)).astype(np.float32),
    }
    model = cylstm.from_state_dict(tensors, [L.ConvLSTM("c", (7,), conv_padding="same")], weights="float16")
    model.save(tmp_path / "a.cylstm")
    header, data = split(tmp_path / "a.cylstm")
    graph = json.loads(header["__metadata__"]["graph"])
    (name,) = graph["weight_types"]
    graph["weight_types"] = {name: {"weight_ih": "float16"}}
    header["__metadata__"]["graph"] = json.dumps(graph)
    with pytest.raises(UnsupportedError, match="weight_ih, weight_hh of different types, found"):
        cylstm.load(join(tmp_path / "b.cylstm", header, data))


def test_loading_stays_exact_where_nothing_is_asked_for(rng):
    assert not lstm_model(rng, 3, 5).graph.weight_types


@pytest.mark.frameworks
def test_a_live_module_is_checked_before_its_weights_are_rounded(rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 21, batch_first=True)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    model = cylstm.from_torch(module, weights="float16", check=x)
    plain = cylstm.from_torch(module)
    assert model.graph.weight_types and model.provenance["check"]["error"] < 1e-5
    assert not same(model.predict(x), plain.predict(x))
    np.testing.assert_allclose(model.predict(x), plain.predict(x), atol=1e-3)
