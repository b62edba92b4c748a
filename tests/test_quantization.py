"""Models of fewer bytes: `Model.quantize`, `Model.compare`, and the rules that choose types."""

import copy
import warnings

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, CylstmWarning, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder
from cylstm.summary import summary_text

from tests.builders.networks import lstm_model, lstm_state_dict, reloaded, same
from tests.builders.weight_files import linear_tensors

WIRING = [L.Conv1d("conv"), L.LSTM("lstm"), L.Linear("fc")]


def network(rng, **options):
    """Conv1d(5 -> 40), two LSTM layers of 64, Linear(64 -> 70)."""
    tensors = {"conv.weight": rng.normal(size=(40, 22, 5)).astype(np.float32) / 5}
    tensors |= {"conv.bias": rng.normal(size=40).astype(np.float32)}
    tensors |= lstm_state_dict(rng, 40, 64, num_layers=2) | linear_tensors(rng, "fc", 64, 70)
    return cylstm.from_state_dict(tensors, WIRING, **options)


def types(model):
    return {f"{layer}.{role}": kind for (layer, role), kind in model.graph.weight_types.items()}


def test_int8_is_for_recurrent_and_dense_matrices_and_float16_for_convolutions(rng):
    model = network(rng)
    small = model.quantize("int8", target="x86")
    assert types(small) == {
        "conv.weight": "float16",
        "lstm.l0.weight_ih": "int8a16",
        "lstm.l0.weight_hh": "int8a16",
        "lstm.l1.weight_ih": "int8a16",
        "lstm.l1.weight_hh": "int8a16",
        "fc.weight": "int8a16",
    }
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    assert model.compare(small, x).rms < 0.02 and not same(model.predict(x), small.predict(x))
    assert not types(model) and not model.quantization
    by_name = {f"{part.layer}.{part.role}": part for part in small.quantization}
    assert by_name["lstm.l1.weight_hh"].bytes == 256 * 64 + 4 * 256
    assert by_name["lstm.l1.weight_hh"].bytes_before == 4 * 256 * 64
    assert 1e-4 < by_name["lstm.l1.weight_hh"].error < 2e-2 and 0 < by_name["conv.weight"].error < 1e-3
    assert "convolution" in by_name["conv.weight"].reason
    for name, part in by_name.items():
        was, now = (m.graph.tensors[name].astype(np.float64) for m in (model, small))
        np.testing.assert_allclose(part.error, np.sqrt(np.mean((now - was) ** 2) / np.mean(was**2)), rtol=1e-6)
    assert small._packed.nbytes < 0.35 * model._packed.nbytes
    assert "quantised: lstm.l1.weight_hh: int8a16, 17,408 of 65,536 bytes, error 0.0" in summary_text(small)
    assert "quantised" not in summary_text(model)


def test_activations_of_8_bits_are_for_what_is_bounded(rng):
    model = network(rng)
    for small in (model.quantize("int8", "int8"), model.quantize("int8", target="pi4")):
        found = types(small)
        assert found["lstm.l0.weight_ih"] == "int8a16"  # what a convolution gives has no bound
        assert found["lstm.l0.weight_hh"] == found["lstm.l1.weight_ih"] == found["fc.weight"] == "int8a8"
    with pytest.warns(CylstmWarning, match="more instructions than float32 on a machine without dot products"):
        model.quantize("int8", "int16", target="pi3")


def test_what_a_projection_gives_has_no_bound(rng):
    """Its numbers are those of a matrix, so that a layer that reads them has activations of 16 bits."""
    tensors = lstm_state_dict(rng, 40, 90, num_layers=2, proj_size=48) | linear_tensors(rng, "fc", 48, 90)
    found = types(cylstm.from_state_dict(tensors, WIRING[1:]).quantize("int8", "int8", target="x86"))
    assert found["lstm.l1.weight_ih"] == found["fc.weight"] == "int8a16"
    assert found["lstm.l0.weight_hr"] == found["lstm.l1.weight_hr"] == "int8a8"
    assert found["lstm.l0.weight_hh"] == found["lstm.l1.weight_hh"] == "int8a16"  # which read the projected state


def test_a_state_without_a_bound_has_activations_of_16_bits(rng):
    tensors = {
        name: 0.1 * rng.normal(size=shape).astype(np.float32)
        for name, shape in {
            "rnn.weight_ih_l0": (130, 70),
            "rnn.weight_hh_l0": (130, 130),
            "rnn.bias_ih_l0": (130,),
            "rnn.bias_hh_l0": (130,),
        }.items()
    }
    for nonlinearity, expected in {"tanh": "int8a8", "relu": "int8a16"}.items():
        model = cylstm.from_state_dict(tensors, [L.RNN("rnn", activation=nonlinearity)])
        assert types(model.quantize("int8", "int8", target="x86"))["rnn.l0.weight_hh"] == expected


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_half_the_bytes_are_for_every_matrix(rng, weights):
    model = network(rng)
    small = model.quantize(weights)
    assert set(types(small).values()) == {weights} and len(types(small)) == 6
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    found = model.compare(small, x)
    assert 0 < found.rms < (1e-3 if weights == "float16" else 1e-2)
    assert not any(part.reason for part in small.quantization)


def test_what_is_kept_stays_as_it_is(rng):
    model = network(rng)
    small = model.quantize("int8", keep_float32=["lstm.l0", "lstm.l1.weight_ih", "fc"])
    assert set(types(small)) == {"conv.weight", "lstm.l1.weight_hh"}
    assert [part.reason for part in small.quantization].count("kept as asked") == 4
    for name in ("lstm.l0.weight_ih", "lstm.l1.weight_ih"):
        assert same(small.graph.tensors[name], model.graph.tensors[name])


@pytest.mark.filterwarnings("ignore:no matrix of this network becomes int8")
@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_the_matrices_of_a_convolutional_lstm_are_of_one_type(rng, weights):
    filters, channels = 11, 2
    tensors = {
        "conv.weight_ih": rng.normal(size=(4 * filters, channels, 3, 3)).astype(np.float32) / 6,
        "conv.weight_hh": rng.normal(size=(4 * filters, filters, 3, 3)).astype(np.float32) / 12,
        "fc.weight": rng.normal(size=(3, filters)).astype(np.float32),
    }
    wiring = [cylstm.ConvLSTM("conv", (4, 5), conv_padding="same"), cylstm.Linear("fc")]
    model = cylstm.from_state_dict(tensors, wiring)
    x = rng.normal(size=(2, 5, 4, 5, channels)).astype(np.float32)
    name = model.graph.layers[0].name
    small = model.quantize(weights, keep_float32=[f"{name}.weight_ih"])
    assert not any(place[0] == name for place in small.graph.weight_types)
    assert same(small.predict(x), model.quantize(weights, keep_float32=[name]).predict(x))
    # of int8, weight_ih is too small to be worth it
    asked = model.quantize(weights)
    kinds = {kind for place, kind in asked.graph.weight_types.items() if place[0] == name}
    assert kinds == ({"float16"} if weights == "float16" else set())
    reasons = {part.role: part.reason for part in asked.quantization if part.layer == name}
    assert weights == "float16" or reasons["weight_hh"] == "of one type with weight_ih"
    assert np.isfinite(asked.predict(x)).all()


def test_a_small_matrix_keeps_its_bits_and_a_small_network_is_told(rng):
    model = lstm_model(rng, 3, 24)
    with pytest.warns(CylstmWarning, match="no matrix of this network becomes int8; the report has"):
        small = model.quantize("int8")
    x = rng.normal(size=(3, 9, 3)).astype(np.float32)
    assert not types(small) and same(small.predict(x), model.predict(x))
    with pytest.warns(CylstmWarning, match="below 8,192 weights, and 6,400 of this network"):
        assert types(lstm_model(rng, 3, 40).quantize("int8", target="x86")) == {"lstm.l0.weight_hh": "int8a16"}


def test_columns_of_inputs_in_raw_units_are_not_made_int8(rng):
    tensors = lstm_state_dict(rng, 40, 64)
    tensors["lstm.weight_ih_l0"][:, 7] *= 1e-3  # a feature of thousands
    model = cylstm.from_state_dict(tensors, [L.LSTM("lstm")])
    small = model.quantize("int8", target="x86")
    assert types(small) == {"lstm.l0.weight_ih": "float16", "lstm.l0.weight_hh": "int8a16"}
    assert "raw units" in small.quantization[0].reason
    x = rng.normal(size=(3, 20, 40)).astype(np.float32)
    x[..., 7] *= 1e3
    assert model.compare(small, x).rms < 0.02


def test_weights_that_are_not_finite_or_too_large_for_float16_get_a_type_that_holds_them(rng):
    tensors = lstm_state_dict(rng, 40, 64)
    tensors["lstm.weight_hh_l0"][3, 2] = np.inf
    with pytest.warns(UserWarning, match="NaN or infinity"):
        model = cylstm.from_state_dict(tensors, [L.LSTM("lstm")])
    small = model.quantize("int8")
    assert types(small)["lstm.l0.weight_hh"] == "bfloat16" and "not finite" in small.quantization[1].reason
    tensors["lstm.weight_hh_l0"][3, 2] = 0
    tensors["lstm.weight_ih_l0"][:, 4] = 1e5
    small = cylstm.from_state_dict(tensors, [L.LSTM("lstm")]).quantize("int8")
    assert types(small)["lstm.l0.weight_ih"] == "bfloat16"


def test_a_table_of_embeddings_is_float16_and_gives_its_rounded_rows(rng, tmp_path):
    table = rng.normal(size=(301, 33)).astype(np.float32)
    builder = GraphBuilder()
    x = builder.input("x", (None,), indices=True)
    builder.output(builder.add("embedding", "table", {"indices": x}, {"weight": table})["y"])
    model = cylstm.Model(builder.build())
    indices = rng.integers(0, 301, (3, 8))
    small = model.quantize("float16")
    assert same(small.predict(indices), table[indices].astype(np.float16).astype(np.float32))
    for other in reloaded(small, tmp_path):
        assert same(other.predict(indices), small.predict(indices))
    brief = model.quantize("bfloat16").predict(indices)
    assert np.abs(brief / table[indices] - 1).max() <= 2.0**-8
    with pytest.warns(CylstmWarning):
        assert types(model.quantize("int8")) == {"table.weight": "float16"}


@pytest.mark.parametrize("weights", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("isa", cylstm.engine._engine.isa_names())
def test_a_network_with_convolutions_gives_the_same_bits_everywhere(rng, monkeypatch, tmp_path, weights, isa):
    monkeypatch.setenv("CYLSTM_ISA", "scalar")
    model = network(rng)
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    expected = model.quantize(weights, target="x86" if weights == "int8" else None).predict(x)
    monkeypatch.setenv("CYLSTM_ISA", isa)
    small = cylstm.Model(model.graph).quantize(weights, target="x86" if weights == "int8" else None)
    assert same(small.predict(x), expected) and same(small.predict(x[1], threads=2), expected[1])
    for other in [*reloaded(small, tmp_path), copy.deepcopy(small)]:
        assert same(other.predict(x), expected)


def test_a_file_loads_as_int8_without_a_model_of_float32(rng, tmp_path):
    model = network(rng)
    model.save(tmp_path / "a.cylstm")
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    loaded = cylstm.load(tmp_path / "a.cylstm", weights="int8")
    small = model.quantize("int8")
    assert types(loaded) == types(small) and same(loaded.predict(x), small.predict(x))
    small.save(tmp_path / "b.cylstm", packed=True)
    for options in ({}, {"weights": "int8"}, {"mmap": True}, {"mmap": True, "weights": "int8"}):
        assert same(cylstm.load(tmp_path / "b.cylstm", **options).predict(x), small.predict(x))
    assert (tmp_path / "b.cylstm").stat().st_size < 0.4 * (tmp_path / "a.cylstm").stat().st_size


def test_a_matrix_that_is_read_and_written_in_several_pieces_keeps_the_scale_of_each_row(rng, tmp_path):
    tensors = lstm_state_dict(rng, 40, 600)
    tensors["lstm.weight_hh_l0"] *= np.linspace(0.01, 1, 2400, dtype=np.float32)[
        :, None
    ]  # 1.4 MB as bytes, rows of many sizes
    small = cylstm.from_state_dict(tensors, [L.LSTM("lstm")], weights="int8a16")
    x = rng.normal(size=(3, 6, 40)).astype(np.float32)
    for again in reloaded(small, tmp_path):
        assert same(again.graph.tensors["lstm.l0.weight_hh"], small.graph.tensors["lstm.l0.weight_hh"])
        assert same(again.predict(x), small.predict(x))


def test_a_budget_raises_parts_until_it_holds(rng):
    model = network(rng)
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    loose, all_int8 = model.quantize("int8", budget=1.0, data=x), model.quantize("int8")
    assert types(loose) == types(all_int8)
    before = model.compare(all_int8, x).rms
    tight = model.quantize("int8", budget=before / 3, data=x)
    assert model.compare(tight, x).rms <= before / 3
    kinds = types(tight)
    assert "float16" in (kinds.get(name) for name in kinds if not name.startswith("conv"))
    assert any("int8" in kind for kind in kinds.values())
    assert any(part.reason.startswith("raised to keep") for part in tight.quantization)
    exact = model.quantize("int8", budget=1e-12, data=x)
    assert not types(exact) and same(exact.predict(x), model.predict(x))


def test_a_comparison_says_how_predictions_differ_and_what_that_does_to_the_error(rng):
    model = network(rng)
    small = model.quantize("int8")
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    target = model.predict(x) + rng.normal(size=(3, 26, 70))
    found = model.compare(small, x, target)
    difference = np.abs(model.predict(x).astype(np.float64) - small.predict(x))
    np.testing.assert_allclose([found.maximum, found.mean], [difference.max(), difference.mean()])
    np.testing.assert_allclose(found.rms, np.sqrt(np.mean(difference**2)))
    errors = [np.sqrt(np.mean((m.predict(x) - target) ** 2)) for m in (model, small)]
    np.testing.assert_allclose(found.target_rmse, errors)
    assert "RMSE" in repr(found) and repr(model.compare(model, x)).startswith("<Comparison: maximum 0")


def test_wrong_arguments_are_refused(rng):
    model = network(rng)
    small = model.quantize("int8")
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    for arguments, message in [
        ({"weights": "int4"}, "weights: expected one of int8, float16, bfloat16, found 'int4'"),
        ({"weights": None}, "weights: expected one of"),
        ({"activations": "int4"}, 'activations: expected "int16", "int8" or None'),
        ({"weights": "float16", "activations": "int8"}, 'those of weights="float16" are float32'),
        ({"keep_float32": "lstm"}, "keep_float32: expected a list of names"),
        ({"keep_float32": ["lstm"]}, "keep_float32: 'lstm' is no layer .* there are conv.weight, lstm.l0.weight_ih"),
        ({"target": "pi6"}, "target: expected one of x86, pi5, pi4, pi3 or None"),
        ({"budget": 0.1}, "budget: .* give both or none"),
        ({"data": x}, "budget: .* give both or none"),
        ({"budget": 0, "data": x}, "budget: expected a number above 0"),
        ({"budget": float("nan"), "data": x}, "budget: expected a number above 0"),
        ({"budget": 0.1, "data": x * np.nan}, "predictions are NaN or infinite there"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            model.quantize(**arguments)
    with pytest.raises(UnsupportedError, match="layer 'conv': weight is of float16 already"):
        small.quantize("int8")
    with pytest.raises(UnsupportedError, match='weights of int8 are for engine="packed"'):
        network(rng, engine="blas").quantize("int8")
    for other, message in [(x, "other: expected a Model"), (lstm_model(rng, 3, 5), "the same inputs and outputs")]:
        with pytest.raises(ArgumentError, match=message):
            model.compare(other, x)
    with pytest.raises(ArgumentError, match=r"target: expected shape \(3, 26, 70\), found \(3,\)"):
        model.compare(small, x, [1, 2, 3])


def test_a_network_is_pruned_first_and_quantised_then(rng):
    model = network(rng)
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    smaller = model.prune(fraction=0.5, data=x).quantize("int8")
    assert smaller.graph.parameters() < 0.7 * model.graph.parameters() and types(smaller)
    with pytest.raises(UnsupportedError, match="is of int8.*, and what is left of its rows would be rounded again"):
        model.quantize("int8").prune(fraction=0.5, data=x)


def test_a_trace_of_a_quantised_model_has_the_bits_of_its_predictions(rng):
    small = network(rng).quantize("int8")
    x = rng.normal(size=(3, 30, 22)).astype(np.float32)
    trace = small.trace(x)
    assert same(trace.outputs, small.predict(x)) and trace["lstm.l1"].f.shape == (3, 26, 64)


@pytest.mark.filterwarnings("error")
def test_quantising_says_nothing_where_it_pays(rng):
    with warnings.catch_warnings():
        network(rng).quantize("int8", target="x86")
