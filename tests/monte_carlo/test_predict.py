"""Predictions with dropout: the arithmetic for given draws, and what does not depend on what."""

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.monte_carlo import predict as module

from tests import reference
from tests.builders import recurrent
from tests.builders.drawn import factors, masks
from tests.builders.networks import lstm_state_dict, same

BATCH, TIME, INPUTS, HIDDEN, SEED = 3, 6, 5, 7, 11
CELLS = {
    name: getattr(recurrent, name)
    for name in ("plain_lstm", "projected", "peepholes", "coupled", "normalised", "gru", "gru_before", "rnn")
}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
READ, RECURRENT, RESULT = 0.3, 0.4, 0.2


def network(rng, cell, **options):
    """A recurrent layer, layer 0, and a dense one, layer 1."""
    builder = GraphBuilder()
    x = builder.input("input", (None, INPUTS))
    kind, weights, given = CELLS[cell](rng, INPUTS, HIDDEN)
    y = builder.add(kind, "cell", {"x": x}, weights, {**given, **options})["y"]
    weight = rng.normal(size=(2, y.features)).astype(np.float32)
    builder.output(builder.add("dense", "fc", {"x": y}, {"weight": weight})["y"])
    return builder.build()


def drawn_for(graph, sample, how, batch=BATCH, *, seed=SEED, time=TIME):
    """What sample `sample` draws, as tests/reference.py takes it."""
    layer = graph.layers[0]
    tensors = graph.layer_tensors(layer)
    gates = 3 if layer.options.get("coupled") else GATES[layer.kind]
    copies = gates if how == "gates" else 1
    found = {"state": masks(seed, 1, sample, batch, copies, tensors["weight_hh"].shape[1], RECURRENT)}
    if how != "steps":
        found["read"] = masks(seed, 0, sample, batch, copies, INPUTS, READ)
    return {"cell": found, "fc": {"result": factors(seed, 4 + 2, sample, (batch, time, 2), RESULT)}}


def rates(how):
    return {"cell": {"dropout": READ, "recurrent_dropout": RECURRENT, "masks": how}, "fc": RESULT}


def inputs(rng, model, batch=BATCH):
    x = rng.normal(size=(batch, TIME, INPUTS)).astype(np.float32)
    state = [tuple(rng.normal(size=(batch, *s)) for _, s in parts) for _, parts in model.graph.states()]
    mask = rng.random((batch, TIME)) > 0.3
    mask[:, 0] = True
    return x, state, mask


def expected(graph, x, sample, how, **others):
    drawn = drawn_for(graph, sample, how, len(x))
    if how == "steps":
        x = x * factors(SEED, 0, sample, x.shape, READ)
    (y,), _ = reference.predict(graph, x, drawn=drawn, **others)
    return y


@pytest.mark.parametrize("engine", ["packed", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("how", ["sequence", "gates", "steps"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_sample_is_the_network_with_its_masks(rng, cell, how, reverse, engine):
    graph = network(rng, cell, reverse=reverse, padding="repeat")
    model = cylstm.Model(graph, **({"engine": "blas", "dtype": "float64"} if engine == "float64" else {}))
    x, state, mask = inputs(rng, model)
    found = model.predict_mc(x, 3, seed=SEED, rates=rates(how), initial_state=state, mask=mask, threads=2)
    for sample in range(3):
        y = expected(graph, x, sample, how, initial_state=state, mask=mask)
        np.testing.assert_allclose(found.samples[sample], y, rtol=0, atol=1e-12 if engine == "float64" else 2e-6)
    assert np.ptp(found.samples, axis=0).max() > 0.1


@pytest.mark.parametrize("wrong", ["new masks at each step", "no scaling", "one mask for all gates"])
@pytest.mark.parametrize("cell", ["plain_lstm", "gru", "gru_before"])
def test_the_comparison_tells_a_wrong_rule(rng, cell, wrong):
    graph = network(rng, cell)
    model = cylstm.Model(graph)
    x, _, _ = inputs(rng, model)
    found = model.predict_mc(x, 1, seed=SEED, rates=rates("gates")).samples[0]
    drawn = drawn_for(graph, 0, "gates")
    if wrong == "no scaling":
        drawn["cell"] = {key: one.astype(bool) * 1.0 for key, one in drawn["cell"].items()}
    elif wrong == "one mask for all gates":
        drawn["cell"] = {key: one[:1] for key, one in drawn["cell"].items()}
    else:
        x = x * factors(SEED, 0, 0, x.shape, READ)
        del drawn["cell"]["read"]
    (y,), _ = reference.predict(graph, x, drawn=drawn)
    assert np.abs(found - y).max() > 0.05


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_itself_is_not_dropped(rng, cell):
    """A recurrent mask reaches what the product reads: with no weights there it changes nothing."""
    graph = network(rng, cell)
    name = graph.layers[0].weights["weight_hh"]
    graph = graph._replace(tensors={**graph.tensors, name: np.zeros_like(graph.tensors[name])})
    model = cylstm.Model(graph)
    x, state, _ = inputs(rng, model)
    found = model.predict_mc(x, 4, rates={"cell": {"recurrent_dropout": 0.5}}, initial_state=state)
    for sample in found.samples:
        assert same(sample, model.predict(x, initial_state=state))


@pytest.mark.parametrize("cell", CELLS)
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(rng, cell, monkeypatch):
    graph = network(rng, cell)
    found = []
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.Model(graph)
        x, state, mask = inputs(np.random.default_rng(3), model)
        for threads in (1, 2, 3):
            one = model.predict_mc(x, 4, rates=rates("gates"), initial_state=state, mask=mask, threads=threads)
            found.append(one.samples)
    assert all(same(one, found[0]) for one in found)


@pytest.mark.parametrize("how", ["sequence", "gates", "steps"])
def test_samples_do_not_depend_on_how_many_there_are_nor_on_how_they_are_run(rng, how, monkeypatch):
    model = cylstm.Model(network(rng, "plain_lstm"))
    x, _, _ = inputs(rng, model, batch=4)
    whole = model.predict_mc(x, 9, seed=5, rates=rates(how))
    assert same(model.predict_mc(x, 4, seed=5, rates=rates(how)).samples, whole.samples[:4])
    assert same(model.predict_mc(x[:2], 9, seed=5, rates=rates(how)).samples, whole.samples[:, :2])
    assert not same(model.predict_mc(x, 9, seed=6, rates=rates(how)).samples, whole.samples)
    for size in (1, 3000):
        monkeypatch.setattr(module, "_CALL_BYTES", size)
        piecewise = model.predict_mc(x, 9, seed=5, rates=rates(how), keep_samples=False)
        assert piecewise.samples is None
        assert same(piecewise.mean, whole.mean)
        assert same(piecewise.std, whole.std)


@pytest.mark.parametrize("how", ["sequence", "gates"])
def test_stacked_layers_of_two_directions_have_masks_of_their_own(rng, how):
    tensors = lstm_state_dict(rng, INPUTS, HIDDEN, num_layers=2, bidirectional=True)
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm")])
    graph = model.graph
    x = rng.normal(size=(2, 40, INPUTS)).astype(np.float32)
    given = {"lstm": {"recurrent_dropout": RECURRENT, "masks": how}}
    found = model.predict_mc(x, 2, seed=SEED, rates=given, threads=1)
    assert same(found.samples, model.predict_mc(x, 2, seed=SEED, rates=given, threads=4).samples)
    one = model.predict_mc(x[:1], 1, seed=SEED, rates=given, threads=4)  # the threads divide layers instead of rows
    assert same(one.samples, found.samples[:1, :1])
    copies = 4 if how == "gates" else 1
    for sample in range(2):
        drawn = {
            layer.name: {"state": masks(SEED, 4 * index + 1, sample, 2, copies, HIDDEN, RECURRENT)}
            for index, layer in enumerate(graph.layers)
            if layer.kind == "lstm"
        }
        assert len(drawn) == 4
        (y,), _ = reference.predict(graph, x, drawn=drawn)
        np.testing.assert_allclose(found.samples[sample], y, atol=2e-6)


def test_a_rate_of_one_layer_does_not_change_what_another_draws(rng):
    model = cylstm.Model(network(rng, "rnn"))
    x, _, _ = inputs(rng, model)
    alone = model.predict_mc(x, 5, rates={"cell": {"recurrent_dropout": 0.4}, "fc": 0})
    both = model.predict_mc(x, 5, rates={"cell": {"recurrent_dropout": 0.4}, "fc": 0.2})
    kept = both.samples != 0
    np.testing.assert_allclose(both.samples[kept], alone.samples[kept] / 0.8, rtol=1e-6)
    assert 0.1 < 1 - kept.mean() < 0.3


def test_mean_deviation_and_quantiles_are_those_of_the_samples(rng):
    model = cylstm.Model(network(rng, "gru"))
    x, _, _ = inputs(rng, model)
    found = model.predict_mc(x, 50, rates={"cell": 0.3})
    assert found.samples.shape == (50, BATCH, TIME, 2)
    assert found.samples.dtype == np.float32
    samples = found.samples.astype(np.float64)
    np.testing.assert_allclose(found.mean, samples.mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.std, samples.std(axis=0, ddof=1), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found.quantile([0.1, 0.9]), np.quantile(found.samples, [0.1, 0.9], axis=0))
    assert found.quantile(0.5).shape == (BATCH, TIME, 2)
    assert (found.count, found.seed) == (50, 0)
    assert found.rates == {"cell": {"dropout": 0.3, "masks": "sequence"}}
    assert np.isnan(model.predict_mc(x, 1, rates={"cell": 0.3}).std).all()


def test_one_sample_without_a_batch_gives_results_without_one(rng):
    model = cylstm.Model(network(rng, "plain_lstm"))
    x, _, _ = inputs(rng, model)
    batch = model.predict_mc(x[:1], 6, rates={"cell": 0.3})
    alone = model.predict_mc(x[0], 6, rates={"cell": 0.3})
    assert alone.mean.shape == (TIME, 2)
    assert same(alone.samples, batch.samples[:, 0])
    assert same(alone.std, batch.std[0])


def test_lengths_leave_out_steps_as_in_predict(rng):
    model = cylstm.Model(network(rng, "plain_lstm"))
    x, _, _ = inputs(rng, model)
    found = model.predict_mc(x, 4, rates={"cell": {"recurrent_dropout": 0.3}}, lengths=[2, 6, 4])
    x[0, 2:] = x[2, 4:] = np.nan
    assert same(found.samples, model.predict_mc(x, 4, rates=found.rates, lengths=[2, 6, 4]).samples)


@pytest.mark.parametrize("form", ["dropout", "gaussian", "additive", "alpha"])
@pytest.mark.parametrize("shared", ["", "0", "b", "b0", "1"])
def test_a_dropout_layer_draws_by_its_form_and_its_shared_axes(rng, form, shared):
    builder = GraphBuilder()
    x = builder.input("input", (None, 4))
    x = builder.add("dropout", "noise", {"x": x}, options={"rate": 0.4})["y"]
    builder.output(builder.add("activation", "out", {"x": x})["y"])
    entries = {key: entry for key, entry in (("form", form), ("shared", shared)) if entry not in ("", "dropout")}
    model = cylstm.Model(builder.build()._replace(noise={"noise": entries} if entries else {}))
    x = np.ones((300, 30, 4), np.float32)
    y = model.predict_mc(x, 2, seed=3).samples
    for axis, name in ((1, "b"), (2, "0"), (3, "1")):
        assert (np.ptp(y, axis=axis).max() == 0) == (name in shared)
    drawn = y[tuple([slice(None)] + [slice(0, 1) if name in shared else slice(None) for name in "b01"])]
    drawn = drawn.astype(np.float64).ravel()
    if drawn.size < 1000:
        return
    alpha = -1.7580993408473766
    scale = (0.6 * (1 + 0.4 * alpha**2)) ** -0.5
    values = {
        "dropout": (0.0, 1 / 0.6),
        "alpha": (scale * alpha * (1 - 0.4), scale - scale * alpha * 0.4),
    }.get(form)
    if values:
        np.testing.assert_allclose(np.unique(drawn), values, rtol=1e-6)
        assert abs((drawn == drawn.min()).mean() - 0.4) < 5 * np.sqrt(0.24 / drawn.size)
    else:
        deviation = 0.4 if form == "additive" else np.sqrt(0.4 / 0.6)
        assert abs(drawn.mean() - 1) < 5 * deviation / np.sqrt(drawn.size)
        assert abs(drawn.std() - deviation) < 5 * deviation / np.sqrt(2 * drawn.size)


def test_what_is_drawn_step_by_step_behind_a_stride_has_its_steps(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, 4))
    weight = rng.normal(size=(3, 3, 4)).astype(np.float32)
    y = builder.add("conv1d", "conv", {"x": x}, {"weight": weight}, {"stride": 2, "padding": "valid"})["y"]
    y = builder.add("dropout", "drop", {"x": y}, options={"rate": 0.5})["y"]
    builder.output(builder.add("activation", "out", {"x": y})["y"])
    graph = builder.build()
    model = cylstm.Model(graph)
    for time in (9, 12):
        x = rng.normal(size=(2, time, 4)).astype(np.float32)
        y = model.predict(x)
        found = model.predict_mc(x, 3, seed=7).samples
        for sample in range(3):
            np.testing.assert_allclose(found[sample], y * factors(7, 4, sample, y.shape, 0.5), rtol=1e-6)


def test_several_outputs_are_lists_and_a_dropout_that_is_one_is_drawn(rng):
    builder = GraphBuilder()
    x = builder.input("input", (None, 4))
    y = builder.add("dropout", "drop", {"x": x}, options={"rate": 0.5})["y"]
    builder.output(y)
    builder.output(builder.add("last", "last", {"x": y})["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    found = model.predict_mc(x, 3)
    assert [one.shape for one in found.mean] == [(2, 5, 4), (2, 4)]
    assert same(found.samples[0][:, :, -1], found.samples[1])
    assert 0 < (found.samples[0] == 0).mean() < 1
    assert [one.shape for one in found.quantile([0.1, 0.5, 0.9])] == [(3, 2, 5, 4), (3, 2, 4)]


def test_axes_lie_as_the_user_has_them(rng):
    graph = network(rng, "gru")
    turned = graph._replace(layouts={"input": "10", "fc": "10"})
    x = rng.normal(size=(2, TIME, INPUTS)).astype(np.float32)
    found = cylstm.Model(turned).predict_mc(x.swapaxes(1, 2), 4, rates=rates("gates"))
    expected = cylstm.Model(graph).predict_mc(x, 4, rates=rates("gates"))
    assert same(found.samples, expected.samples.swapaxes(2, 3))
    assert same(found.mean, expected.mean.swapaxes(1, 2))


def test_a_model_with_float16_weights_draws_too(rng):
    graph = network(rng, "plain_lstm")
    model = cylstm.Model(graph, weights="float16")
    x, _, _ = inputs(rng, model)
    for how in ("sequence", "gates"):
        y = expected(model.graph, x, 1, how)
        np.testing.assert_allclose(model.predict_mc(x, 2, seed=SEED, rates=rates(how)).samples[1], y, atol=2e-6)


@pytest.mark.parametrize("how", ["sequence", "gates", "steps"])
@pytest.mark.parametrize(("weights", "activations"), [("int8", "int16"), ("int8", "int8"), ("bfloat16", None)])
def test_a_quantised_model_draws_the_same_and_is_as_near_the_full_one_as_without(rng, weights, activations, how):
    tensors = lstm_state_dict(rng, 40, 64, num_layers=2)
    tensors |= {"fc.weight": rng.normal(size=(70, 64)).astype(np.float32) / 8}
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    small = model.quantize(weights, activations)
    assert len(small.graph.weight_types) == 5
    x = rng.normal(size=(BATCH, 12, 40)).astype(np.float32)
    # what is kept becomes ten times as large: more than a state, or what a layer of states reads, is otherwise
    of_a_layer = {"dropout": 0.9, "recurrent_dropout": 0.9, "masks": how}
    given = {"lstm.l0": of_a_layer, "lstm.l1": of_a_layer, "fc": 0.2}
    full, found = model.predict_mc(x, 8, seed=SEED, rates=given), small.predict_mc(x, 8, seed=SEED, rates=given)
    assert ((full.samples == 0) == (found.samples == 0)).all()
    apart = found.samples - full.samples
    scale = np.sqrt(np.mean(full.samples**2) / np.mean(model.predict(x) ** 2))
    rms = model.compare(small, x).rms
    assert 0 < np.sqrt(np.mean(apart**2)) < 3 * scale * rms
    assert same(found.samples, small.predict_mc(x, 8, seed=SEED, rates=given, threads=2).samples)


@pytest.mark.parametrize("cell", ["plain_lstm", "gru", "rnn"])
def test_smaller_models_keep_the_rates_and_draw_for_the_units_that_are_left(rng, cell):
    kept = {"cell": {"dropout": READ, "recurrent_dropout": RECURRENT, "masks": "gates"}}
    model = cylstm.Model(network(rng, cell)._replace(noise=kept))
    x, _, _ = inputs(rng, model)
    half, left = model.quantize("float16"), model.prune(fraction=0.5, data=x)
    assert len(left.pruning["cell"].remaining) < HIDDEN
    for smaller in (half, left):
        found = smaller.predict_mc(x, 3, seed=SEED, rates={"fc": RESULT})
        assert found.rates == kept | {"fc": {"output_dropout": RESULT}}
        for sample in range(3):
            y = expected(smaller.graph, x, sample, "gates")
            np.testing.assert_allclose(found.samples[sample], y, rtol=0, atol=2e-6)


def test_more_draws_than_the_engine_takes_are_refused():
    builder = GraphBuilder()
    x = builder.input("input", (4,))
    for k in range(64):
        x = builder.add("dropout", f"d{k}", {"x": x}, options={"rate": 0.5})["y"]
    builder.output(builder.add("activation", "out", {"x": x})["y"])
    model = cylstm.Model(builder.build())
    x = np.ones((2, 4), np.float32)
    with pytest.raises(UnsupportedError, match=r"64 things are drawn, of at most 63 .* rates=\{'d63': 0\}"):
        model.predict_mc(x, 2)
    assert model.predict_mc(x, 2, rates={"d63": 0}).mean.shape == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples: expected a whole number of at least 1, found 0"),
        ({"samples": 2.0}, "samples: expected a whole number"),
        ({"seed": -1}, r"seed: expected a whole number from 0 to 2\*\*64 - 1, found -1"),
        ({"seed": 2**64}, "seed: expected"),
        ({"seed": "a"}, "seed: expected"),
        ({"seed": True}, "seed: expected"),
        ({"seed": None}, "seed: expected"),
        ({"keep_samples": 1}, "keep_samples: expected True or False"),
    ],
)
def test_bad_arguments_are_named(rng, arguments, message):
    model = cylstm.Model(network(rng, "rnn"))
    x, _, _ = inputs(rng, model)
    with pytest.raises(ArgumentError, match=message):
        model.predict_mc(x, **{"rates": {"cell": 0.2}, **arguments})


def test_bad_arrays_are_refused_as_predict_refuses_them(rng):
    model = cylstm.Model(network(rng, "rnn"))
    with pytest.raises(ShapeError, match="expected"):
        model.predict_mc(np.zeros((2, 3, 4), np.float32), rates={"cell": 0.2})


def test_quantiles_need_samples_and_numbers_from_0_to_1(rng):
    model = cylstm.Model(network(rng, "rnn"))
    x, _, _ = inputs(rng, model)
    with pytest.raises(ArgumentError, match="keep_samples"):
        model.predict_mc(x, 3, rates={"cell": 0.2}, keep_samples=False).quantile(0.5)
    for wrong in (1.5, "a", np.nan):
        with pytest.raises(ArgumentError, match=r"q: expected numbers in \[0, 1\]"):
            model.predict_mc(x, 3, rates={"cell": 0.2}).quantile(wrong)
