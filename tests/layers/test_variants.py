"""The classical variants of the LSTM, through state dicts: against the reference, streamed, saved, same bits."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.graph.activations import ACTIVATIONS

from tests import reference
from tests.builders.configurations import configurations, label, seed
from tests.builders.networks import bits, random_states, reloaded

INPUT, HIDDEN, TIME, BATCH = 5, 21, 9, 4

LSTM = {
    "directions": [1, 2],
    "layers": [1, 2],
    "peepholes": [False, True],
    "gates": [{}, {"forget_gate": False}, {"coupled": "f=1-i"}, {"coupled": "i=1-f"}],
    "cell_clip": [None, 0.3],
    "gate_clip": [None, 0.6],
    "layer_norm": [False, "carried", "output"],
    "activation": ["tanh", "relu", "softsign"],
    "recurrent_activation": ["sigmoid", "hard_sigmoid"],
    "output_activation": [None, "linear"],
}
CASES = [pytest.param(c, id=label(c, LSTM)) for c in configurations(LSTM)]


def variant_state_dict(rng, c):
    gates = 4 if not c["gates"] else 3
    names = {"forget_gate": "po pi", "f=1-i": "po pi", "i=1-f": "po pf"}
    key = c["gates"].get("coupled") or next(iter(c["gates"]), None)
    tensors = {}
    for layer in range(c["layers"]):
        for end in (f"_l{layer}", f"_l{layer}_reverse")[: c["directions"]]:
            size = INPUT if layer == 0 else HIDDEN * c["directions"]
            shapes = {
                f"weight_ih{end}": (gates * HIDDEN, size),
                f"weight_hh{end}": (gates * HIDDEN, HIDDEN),
                f"bias_ih{end}": (gates * HIDDEN,),
                f"bias_hh{end}": (gates * HIDDEN,),
            }
            if c["peepholes"]:
                for name in names.get(key, "pi pf po").split():
                    shapes[f"weight_{name}{end}"] = (HIDDEN,)
            if c["layer_norm"]:
                for name, rows in (("ih", gates * HIDDEN), ("hh", gates * HIDDEN), ("c", HIDDEN)):
                    shapes |= {f"norm_{name}{end}.weight": (rows,), f"norm_{name}{end}.bias": (rows,)}
            for name, shape in shapes.items():
                tensors[f"lstm.{name}"] = rng.uniform(-0.3, 0.3, shape).astype(np.float32)
    return tensors


def variant_layer(c):
    options = {key: value for key, value in c.items() if key not in ("directions", "layers", "gates")}
    return cylstm.LSTM("lstm", **options, **c["gates"])


@pytest.mark.parametrize("c", CASES)
def test_a_variant_matches_the_reference_streams_and_survives_saving(c, tmp_path, record_property):
    rng = np.random.default_rng(seed(c))
    model = cylstm.from_state_dict(variant_state_dict(rng, c), [variant_layer(c)])
    x = rng.normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    state = random_states(rng, model, BATCH)
    mask = rng.random((BATCH, TIME)) > 0.3
    mask[0], mask[1, :3] = False, False
    (exact,), exact_final = reference.predict(model.graph, x, mask=mask, initial_state=state)
    # what rounding the weights' products in float32 costs a normalised cell is amplified by 1/sqrt(variance)
    tolerance = 1e-5 if c["layer_norm"] else 2e-6
    worst = 0.0
    for engine, dtype, bound in (
        ("packed", "float32", tolerance),
        ("blas", "float32", tolerance),
        ("blas", "float64", 1e-12),
    ):
        ours = cylstm.Model(model.graph, engine=engine, dtype=dtype)
        y, final = ours.predict(x, mask=mask, initial_state=state, return_state=True, threads=2)
        scale = max(1.0, np.abs(exact).max())
        np.testing.assert_allclose(y, exact, rtol=0, atol=bound * scale)
        for found, wanted in zip(final, exact_final):
            for a, b in zip(found, wanted):
                np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(1.0, np.abs(b).max()))
        if dtype == "float32":
            worst = max(worst, float(np.abs(y - exact).max() / scale))
    record_property("worst_error", worst)
    y = model.predict(x, initial_state=state)
    for again in reloaded(model, tmp_path):
        np.testing.assert_array_equal(bits(again.predict(x, initial_state=state)), bits(y))
    if model.can_stream:
        stream = model.stream(BATCH)
        stream.state = state
        np.testing.assert_array_equal(bits(np.stack([stream.step(x[:, t]) for t in range(TIME)], axis=1)), bits(y))


@pytest.mark.parametrize("c", CASES[::5])
def test_a_variant_gives_the_same_bits_on_every_instruction_set(c, monkeypatch):
    rng = np.random.default_rng(seed(c))
    tensors = variant_state_dict(rng, c)
    x = rng.normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    results = []
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.from_state_dict(tensors, [variant_layer(c)])
        results += [model.predict(x), model.predict(x, threads=3), np.stack([model.predict(row) for row in x])]
    for y in results[1:]:
        np.testing.assert_array_equal(bits(y), bits(results[0]))


SLOTS = [
    ("LSTM", "activation"), ("LSTM", "recurrent_activation"), ("LSTM", "output_activation"),
    ("GRU", "activation"), ("GRU", "recurrent_activation"), ("RNN", "activation"),
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
@pytest.mark.parametrize("kind, slot", SLOTS)
def test_every_activation_works_in_every_slot(name, slot, kind, monkeypatch):
    layer = getattr(cylstm, kind)
    rng = np.random.default_rng(seed(name, slot, kind))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    tensors = {
        "weight_ih": rng.uniform(-0.2, 0.2, (gates * HIDDEN, INPUT)),
        "weight_hh": rng.uniform(-0.05, 0.05, (gates * HIDDEN, HIDDEN)),
        "bias_ih": rng.uniform(-0.3, 0.3, gates * HIDDEN),
        "bias_hh": rng.uniform(-0.3, 0.3, gates * HIDDEN),
    }
    tensors = {key: w.astype(np.float32) for key, w in tensors.items()}
    x = rng.normal(size=(BATCH, 5, INPUT)).astype(np.float32)
    results = []
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.from_state_dict(tensors, [layer("", **{slot: name})])
        results.append(model.predict(x))
        np.testing.assert_array_equal(bits(results[-1]), bits(results[0]))
    (exact,), _ = reference.predict(model.graph, x)
    tolerance = 2e-6 * max(1.0, np.abs(exact).max())
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=tolerance)
    blas = cylstm.Model(model.graph, engine="blas")
    np.testing.assert_allclose(blas.predict(x), exact, rtol=0, atol=tolerance)


def test_a_gru_with_reset_before_adds_its_biases(rng):
    tensors = {
        "weight_ih_l0": rng.uniform(-0.5, 0.5, (39, 5)),
        "weight_hh_l0": rng.uniform(-0.5, 0.5, (39, 13)),
        "bias_ih_l0": rng.uniform(-0.5, 0.5, 39),
        "bias_hh_l0": rng.uniform(-0.5, 0.5, 39),
    }
    tensors = {key: w.astype(np.float32) for key, w in tensors.items()}
    model = cylstm.from_state_dict(tensors, [cylstm.GRU("", reset_after=False)])
    x = rng.normal(size=(4, 9, 5)).astype(np.float32)
    (exact,), _ = reference.predict(model.graph, x)
    np.testing.assert_allclose(model.predict(x), exact, rtol=0, atol=2e-6)
    other = cylstm.from_state_dict(tensors, [cylstm.GRU("")])
    assert np.abs(other.predict(x) - exact).max() > 1e-3


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("kind, options", [("RNN", {}), ("GRU", {}), ("GRU", {"reset_after": False})])
def test_other_cells_than_the_lstm_limit_what_goes_into_their_activations_too(rng, kind, options, engine):
    gates = {"GRU": 3, "RNN": 1}[kind]
    shapes = {"weight_ih_l0": (gates * 21, 5), "weight_hh_l0": (gates * 21, 21), "bias_ih_l0": (gates * 21,)}
    tensors = {key: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for key, shape in shapes.items()}
    tensors["bias_hh_l0"] = rng.uniform(-0.5, 0.5, gates * 21).astype(np.float32)
    x = rng.normal(size=(4, 9, 5)).astype(np.float32)
    limited, plain = (
        cylstm.from_state_dict(tensors, [getattr(cylstm, kind)("", gate_clip=clip, **options)], engine=engine)
        for clip in (0.4, None)
    )
    state = random_states(rng, plain, 4)
    (exact,), _ = reference.predict(limited.graph, x, initial_state=state)
    np.testing.assert_allclose(limited.predict(x, initial_state=state), exact, rtol=0, atol=2e-6)
    assert np.abs(plain.predict(x, initial_state=state) - exact).max() > 0.1


def test_nan_and_infinity_stay_in_their_row_of_every_cell(rng):
    for layer, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        tensors = {
            "weight_ih": rng.uniform(-0.5, 0.5, (gates * 19, 3)).astype(np.float32),
            "weight_hh": rng.uniform(-0.5, 0.5, (gates * 19, 19)).astype(np.float32),
        }
        model = cylstm.from_state_dict(tensors, [getattr(cylstm, layer)("")])
        x = rng.normal(size=(4, 6, 3)).astype(np.float32)
        clean = model.predict(x)
        x[1, 2, 0], x[2, 3, 1] = np.nan, np.inf
        with np.errstate(invalid="ignore"):
            (exact,), _ = reference.predict(model.graph, x)
        y = model.predict(x)
        np.testing.assert_array_equal(bits(y[[0, 3]]), bits(clean[[0, 3]]))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))


@pytest.mark.parametrize("kind, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_direction_merge_padding_and_empty_state_are_reachable_from_a_state_dict(rng, kind, gates):
    layer = getattr(cylstm, kind)
    one = {
        "weight_ih_l0": rng.uniform(-0.4, 0.4, (gates * 19, 3)).astype(np.float32),
        "weight_hh_l0": rng.uniform(-0.3, 0.3, (gates * 19, 19)).astype(np.float32),
    }
    two = one | {f"{name}_reverse": (w * 0.7).astype(np.float32) for name, w in one.items()}
    x = rng.normal(size=(4, 7, 3)).astype(np.float32)
    mask = rng.random((4, 7)) > 0.3
    mask[0] = False
    for tensors, options in [
        (one, {"reverse": True, "padding": "repeat", "empty_state": "zero"}),
        (two, {"merge": "sum"}),
        (two, {"merge": "mul", "padding": "repeat"}),
        (two, {"merge": "ave", "empty_state": "zero"}),
    ]:
        model = cylstm.from_state_dict(tensors, [layer("", **options)])
        state = random_states(rng, model, 4)
        (exact,), exact_final = reference.predict(model.graph, x, mask=mask, initial_state=state)
        y, final = model.predict(x, mask=mask, initial_state=state, return_state=True)
        np.testing.assert_allclose(y, exact, rtol=0, atol=2e-6)
        np.testing.assert_allclose(final[-1][0], exact_final[-1][0], rtol=0, atol=2e-6)
        if options.get("empty_state") == "zero":
            assert not final[0][0][0].any()
    for tensors, options in [(two, {"reverse": True}), (two, {"merge": "max"}), (one, {"padding": "same"})]:
        with pytest.raises(cylstm.CylstmError, match=next(iter(options))):
            cylstm.from_state_dict(tensors, [layer("", **options)])


def test_a_differing_backward_layer_two_outputs_and_reversed_time_are_reachable_too(rng):
    shapes = {"weight_ih_l0": (76, 3), "weight_hh_l0": (76, 19), "bias_ih_l0": (76,), "bias_hh_l0": (76,)}
    tensors = {
        f"lstm.{name}{end}": rng.uniform(-0.3, 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
        for end in ("", "_reverse")
    }
    backward = cylstm.LSTM("", activation="relu", recurrent_activation="hard_sigmoid")
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm", backward=backward, merge=None)])
    x = rng.normal(size=(4, 7, 3)).astype(np.float32)
    exact, _ = reference.predict(model.graph, x)
    found = model.predict(x)
    assert len(found) == len(exact) == 2
    for a, b in zip(found, exact):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    plain = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm", merge=None)]).predict(x)
    np.testing.assert_array_equal(plain[0], found[0])
    assert np.abs(plain[1] - found[1]).max() > 0.01
    one = {name: w for name, w in tensors.items() if not name.endswith("_reverse")}
    ordered = cylstm.from_state_dict(one, [cylstm.LSTM("lstm", reverse=True)])
    processed = cylstm.from_state_dict(one, [cylstm.LSTM("lstm", reverse=True), cylstm.Reverse()])
    np.testing.assert_array_equal(bits(processed.predict(x)), bits(ordered.predict(x)[:, ::-1]))
    for layers, message in [
        ([cylstm.LSTM("lstm", merge=None), cylstm.Last()], "merge=None gives two outputs"),
        ([cylstm.LSTM("lstm", backward=cylstm.GRU(""))], r"backward expected LSTM\(...\)"),
    ]:
        with pytest.raises(cylstm.UnsupportedError, match=message):
            cylstm.from_state_dict(tensors, layers)
    for options in ({"merge": None}, {"merge": "sum"}, {"backward": backward}):
        with pytest.raises(cylstm.UnsupportedError, match="are for two directions, its tensors are of one"):
            cylstm.from_state_dict(one, [cylstm.LSTM("lstm", **options)])


@pytest.mark.parametrize("kind, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_states_and_weights_go_where_the_equations_take_them(rng, kind, gates, value):
    tensors = {
        "weight_ih": rng.uniform(-0.5, 0.5, (gates * 19, 3)).astype(np.float32),
        "weight_hh": rng.uniform(-0.5, 0.5, (gates * 19, 19)).astype(np.float32),
    }
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    model = cylstm.from_state_dict(tensors, [getattr(cylstm, kind)("")])
    state = random_states(rng, model, 4)
    clean = model.predict(x, initial_state=state)
    state[0][-1][2, 5] = value
    with np.errstate(invalid="ignore"):
        (exact,), _ = reference.predict(model.graph, x, initial_state=state)
    y = model.predict(x, initial_state=state)
    np.testing.assert_array_equal(bits(y[[0, 1, 3]]), bits(clean[[0, 1, 3]]))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))

    tensors["weight_ih"][7, 1] = value
    with pytest.warns(UserWarning, match="weight_ih"):
        model = cylstm.from_state_dict(tensors, [getattr(cylstm, kind)("")])
    with np.errstate(invalid="ignore"):
        (exact,), _ = reference.predict(model.graph, x)
    np.testing.assert_array_equal(np.isnan(model.predict(x)), np.isnan(exact))
