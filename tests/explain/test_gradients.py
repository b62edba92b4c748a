"""Gradients, integrated gradients and relevance, by finite differences, by conservation and by the paper's code."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.explain import Background, gradients, integrated_gradients, lrp
from cylstm.explain.backward import RULES
from cylstm.graph.activations import ACTIVATIONS
from cylstm.graph.builder import GraphBuilder

from tests.builders.networks import linear_state_dict, lstm_state_dict, random_states
from tests.builders.recurrent import KINDS, gru, lstm, numbers, plain_lstm, rnn, weight
from tests.test_trace import network

BATCH, TIME = 3, 5
DOUBLE = {"engine": "blas", "dtype": "float64"}


def old_lstm(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], forget_gate=False, output_activation="softsign")


def coupled_other(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("peephole_i", hidden), ("peephole_o", hidden)], coupled="f=1-i")


RECURRENT = [*KINDS, old_lstm, coupled_other]


def differences(function, x, step=1e-5):
    """The gradient of `function` of a batch, (batch,), with respect to each number of each row, of fourth order."""
    found = np.empty_like(x)
    for place in np.ndindex(*x.shape[1:]):
        at = (slice(None), *place)
        for weight_of, steps in ((8.0, 1), (-8.0, -1), (-1.0, 2), (1.0, -2)):
            moved = x.copy()
            moved[at] += steps * step
            moved = weight_of * function(moved) / (12.0 * step)
            found[at] = moved if steps == 1 else found[at] + moved
    return found


def assert_is_gradient(found, function, x, atol=1e-9):
    wanted = differences(function, x)
    assert np.abs(wanted).max() > 1e-4
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", RECURRENT)
def test_gradients_of_recurrent_layers_are_differences(rng, make, reverse):
    model = network(rng, make, reverse=reverse, masked=True, **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 5))
    mask = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1]], bool)
    state = [tuple(part.astype(np.float64) for part in parts) for parts in random_states(rng, model, BATCH)]
    for given in ({}, {"mask": mask}, {"initial_state": state}, {"mask": mask, "initial_state": state}):
        found = gradients(model, x, (slice(1, 5), 1), **given)

        def predicted(a, given=given):
            return model.predict(a, **given)[:, 1:5, 1].sum(axis=1)

        assert_is_gradient(found.values, predicted, x)
        np.testing.assert_allclose(found.prediction, model.predict(x, **given)[:, 1:5, 1].sum(axis=1))
        if "initial_state" not in given:
            continue
        for k, part in enumerate(state[0]):

            def of_part(a, k=k, given=given):
                parts = [*state[0]]
                parts[k] = a
                return model.predict(x, **(given | {"initial_state": [tuple(parts)]}))[:, 1:5, 1].sum(axis=1)

            assert_is_gradient(found.initial[0][k], of_part, part)


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn])
@pytest.mark.parametrize("padding", ["zero", "repeat"])
@pytest.mark.parametrize("empty_state", ["initial", "zero"])
def test_steps_that_do_not_count_hand_on_what_they_show(rng, make, padding, empty_state):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    kind, weights, options = make(rng, 4, 6)
    cell = builder.add(kind, "cell", {"x": x}, weights, options | {"padding": padding, "empty_state": empty_state})
    builder.output(builder.add("dense", "head", {"x": cell["y"]}, {"weight": weight(rng, 2, 6)})["y"])
    builder.output(builder.add("dense", "total", {"x": cell["h"]}, {"weight": weight(rng, 2, 6)})["y"])
    # so that what the state is matters
    first = builder.add("slice", "first", {"x": x}, options={"count": 1})["y"]
    first = builder.add("reshape", "flat", {"x": first}, options={"shape": "-1"})["y"]
    first = builder.add("dense", "of.x", {"x": first}, {"weight": weight(rng, 6, 4)})["y"]
    builder.output(builder.add("merge", "product", {"x": cell["h"], "x1": first}, options={"mode": "mul"})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x, mask = rng.normal(size=(4, TIME, 4)), rng.random((4, TIME)) < 0.5
    mask[0], mask[1] = True, False
    state = [tuple(part.astype(np.float64) for part in parts) for parts in random_states(rng, model, 4)]
    for place, output in enumerate((("head", slice(None), 1), ("total", 0), ("product", 0))):
        found = gradients(model, x, output, mask=mask, initial_state=state)

        def predicted(a, h, place=place):
            y = model.predict(a, mask=mask, initial_state=[(h, *state[0][1:])])[place]
            return y[..., 1].sum(axis=1) if place == 0 else y[:, 0]

        assert_is_gradient(found.values, lambda a: predicted(a, state[0][0]), x)
        assert_is_gradient(found.initial[0][0], lambda h: predicted(x, h), state[0][0])
        if output[0] == "product":
            continue  # which has no relevance
        conserved = lrp(model, x, output, bias_factor=1.0, mask=mask, initial_state=state)
        np.testing.assert_allclose(conserved.residual, 0.0, rtol=0, atol=1e-12)


def one(rng, kind, shape, options=None, weights=None, others=()):
    """A layer between the input, through tanh, and a dense layer."""
    builder = GraphBuilder()
    value = builder.input("x", shape)
    x = builder.add("activation", "before", {"x": value}, options={"activation": "tanh"})["y"]
    inputs = {"x": x} if kind != "constant" else {}
    for k, features in enumerate(others):
        like = builder.add("dense", f"other{k}", {"x": value}, {"weight": weight(rng, features, shape[-1])})["y"]
        inputs[f"x{k + 1}"] = like
    arrays = {role: np.asarray(a, np.float32) for role, a in (weights or {}).items()}
    y = builder.add(kind, "tested", inputs, arrays, options)["y"]
    if kind == "constant":
        y = builder.add("merge", "sum", {"x": x, "x1": y}, options={"mode": "mul"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, y.features)})["y"])
    return cylstm.Model(builder.build(), **DOUBLE)


FEATURES = 6


def vectors(*roles):
    return lambda rng: {role: rng.uniform(0.3, 1.5, FEATURES) for role in roles}


#: kind -> (options, weights, features of further inputs, whether there is relevance)
AROUND = {
    "batch_norm": [({}, vectors("mean", "variance", "gain", "shift"), (), True)],
    "constant": [({}, lambda rng: {"value": rng.uniform(0.3, 1.5, FEATURES)}, (), False)],
    "dropout": [({"rate": 0.3}, None, (), True)],
    "function": [({"function": name}, None, (), False) for name in ("sin", "square", "cosh", "erf", "abs", "asinh")],
    "glu": [({}, None, (), True)],
    "last": [({}, None, (), True)],
    "layer_norm": [({"mode": mode}, vectors("gain", "shift"), (), False) for mode in ("layer", "rms", "scaled")],
    "masking": [({}, None, (), True)],
    "merge": [
        *(({"mode": mode}, None, (FEATURES, FEATURES), True) for mode in ("sum", "sub", "ave")),
        *(({"mode": mode}, None, (FEATURES, 1), True) for mode in ("sum", "ave")),
        ({"mode": "concat"}, None, (2, 3), True),
        *(({"mode": mode}, None, (FEATURES, 1), False) for mode in ("mul", "max", "min", "div")),
    ],
    "permute": [({"order": "01"}, None, (), True)],
    "prelu": [({}, lambda rng, n=size: {"slope": rng.uniform(0.1, 0.4, n)}, (), True) for size in (1, FEATURES)],
    "reduce": [
        *(({"mode": mode, "axis": axis}, None, (), True) for mode in ("mean", "sum") for axis in (0, 1)),
        *(({"mode": mode, "axis": 0}, None, (), False) for mode in ("max", "min")),
    ],
    "reshape": [({"shape": "time,3,2"}, None, (), True)],
    "reverse": [({}, None, (), True)],
    "slice": [
        ({"axis": 1, "start": 1, "count": 2, "step": 3}, None, (), True),
        ({"axis": 1, "start": -2, "count": 2}, None, (), True),
        ({"axis": 0, "start": 1, "before_end": 1, "step": 2}, None, (), True),
    ],
    "softmax": [({"axis": 1}, None, (), False), ({"axis": 0, "log": True}, None, (), False)],
    "take": [({"axis": 1}, lambda rng: {"indices": [3.0, 0.0, 3.0, 5.0]}, (), True)],
}  # fmt: skip
CASES = [(kind, k) for kind, cases in AROUND.items() for k in range(len(cases))]


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_gradients_of_layers_around_are_differences_and_relevance_is_conserved(rng, kind, case):
    options, weights, others, has_relevance = AROUND[kind][case]
    model = one(rng, kind, (None, FEATURES), options, None if weights is None else weights(rng), others)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    rank = model.predict(x).ndim - 1
    output = (slice(0, 2),) * (rank - 1) + (1,)
    found = gradients(model, x, output)
    assert_is_gradient(found.values, lambda a: model.predict(a)[(slice(None), *output)].reshape(BATCH, -1).sum(1), x)
    if not has_relevance:
        with pytest.raises(UnsupportedError, match=r"layer '(tested|sum)' \(\w+\): relevance has no rule"):
            lrp(model, x, output)
        return
    shared = lrp(model, x, output, bias_factor=1.0)
    np.testing.assert_allclose(shared.residual, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(shared.prediction, found.prediction, rtol=0, atol=1e-15)
    assert np.abs(shared.values).max() > 1e-4


def test_repeated_vectors_sum_what_goes_back(rng):
    builder = GraphBuilder()
    x = builder.input("x", (4,))
    y = builder.add("repeat_vector", "repeated", {"x": x}, options={"count": 3})["y"]
    kind, weights, options = plain_lstm(rng, 4, 6)
    builder.output(builder.add(kind, "cell", {"x": y}, weights, options)["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x = rng.normal(size=(BATCH, 4))
    assert_is_gradient(gradients(model, x, (2, 1)).values, lambda a: model.predict(a)[:, 2, 1], x)


def test_comparisons_have_a_slope_of_zero(rng):
    builder = GraphBuilder()
    x = builder.input("x", (FEATURES,))
    other = builder.add("dense", "other", {"x": x}, {"weight": weight(rng, FEATURES, FEATURES)})["y"]
    chosen = builder.add("merge", "less", {"x": x, "x1": other}, options={"mode": "less"})["y"]
    y = builder.add("merge", "product", {"x": x, "x1": chosen}, options={"mode": "mul"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 1, FEATURES)})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x = rng.normal(size=(BATCH, FEATURES))
    assert_is_gradient(gradients(model, x).values, lambda a: model.predict(a)[:, 0], x)
    assert (gradients(model, x).values == 0.0).any()


def test_every_rule_is_checked():
    others = {"activation", "dense", "lstm", "gru", "rnn", "repeat_vector"}
    assert set(RULES) == set(AROUND) | others


SLOTS = [(where, name) for where in ("dense", "activation", "glu", "lstm") for name in ACTIVATIONS]


@pytest.mark.parametrize(
    ("where", "name"), [slot for slot in SLOTS if slot not in (("lstm", "softmax"), ("glu", "softmax"))]
)
def test_slopes_of_activations_are_differences(rng, where, name):
    alpha, beta = ACTIVATIONS[name]
    slots = ("activation", "recurrent_activation", "output_activation") if where == "lstm" else ("activation",)
    options = {}
    for slot in slots:
        options |= {slot: name, f"{slot}_alpha": alpha, f"{slot}_beta": beta}
    builder = GraphBuilder()
    x = builder.input("x", (None, FEATURES))
    weights = {}
    if where == "dense":
        weights = {"weight": 3.0 * weight(rng, 4, FEATURES), "bias": numbers(rng, 4)}
    elif where == "lstm":
        _, weights, others = plain_lstm(rng, FEATURES, 4)
        options |= others
    builder.output(builder.add(where, "tested", {"x": x}, weights, options)["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x = 0.6 * rng.normal(size=(8, 2, FEATURES))
    found = gradients(model, x, (1, slice(0, 2)))
    assert_is_gradient(found.values, lambda a: model.predict(a)[:, 1, :2].sum(axis=1), x, 1e-8)


def deep(rng, **options):
    """Masking, two bidirectional layers, normalisation, a dense layer with a softmax."""
    tensors = lstm_state_dict(rng, 5, 7, 2, bidirectional=True) | linear_state_dict(rng, 14, 3)
    tensors |= {"bn.weight": numbers(rng, 14), "bn.bias": numbers(rng, 14), "bn.running_mean": numbers(rng, 14),
                "bn.running_var": rng.uniform(0.5, 2.0, 14).astype(np.float32)}  # fmt: skip
    layers = [cylstm.LSTM("lstm"), cylstm.LastState(), cylstm.BatchNorm1d("bn"), cylstm.Dropout(0.5),
              cylstm.Linear("fc"), cylstm.Softmax()]  # fmt: skip
    return cylstm.from_state_dict(tensors, layers, **options)


def test_a_deep_network_of_two_directions_is_explained(rng):
    model = deep(rng, **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 5))
    found = gradients(model, x, 1)
    assert_is_gradient(found.values, lambda a: model.predict(a)[:, 1], x)
    np.testing.assert_array_equal(gradients(model, x[1], 1).values.shape, (TIME, 5))
    np.testing.assert_allclose(gradients(model, x[1], 1).values, found.values[1], rtol=0, atol=1e-15)
    narrow = deep(np.random.default_rng(20261120))
    np.testing.assert_allclose(gradients(narrow, x, 1).values, found.values, rtol=0, atol=1e-6)
    # more rows than are traced at once
    many = rng.normal(size=(150, TIME, 5))
    whole = gradients(model, many, 1)
    np.testing.assert_allclose(whole.values[[0, 70, 149]], gradients(model, many[[0, 70, 149]], 1).values, atol=1e-14)


def test_values_lie_as_the_user_has_the_axes(rng):
    model = network(rng, plain_lstm, **DOUBLE)
    turned = cylstm.Model(model.graph._replace(layouts={"x": "10", "head": "10"}), **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 5))
    for method in (gradients, integrated_gradients, lrp):
        found, wanted = method(turned, x.transpose(0, 2, 1), (1, slice(2, 4))), method(model, x, (slice(2, 4), 1))
        np.testing.assert_allclose(found.values, wanted.values.transpose(0, 2, 1), rtol=0, atol=1e-14)
        np.testing.assert_allclose(found.prediction, wanted.prediction, rtol=0, atol=1e-14)
        alone = method(turned, x[1].T, (1, slice(2, 4)))
        np.testing.assert_allclose(alone.values, wanted.values[1].T, rtol=0, atol=1e-14)
    with pytest.raises(UnsupportedError, match="other orders of axes expected a number"):
        integrated_gradients(turned, x.transpose(0, 2, 1), (1, 0), np.zeros(5))


def test_relevance_of_a_softmax_is_that_of_its_score(rng):
    model = deep(rng, **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 5))
    found = lrp(model, x, 2, bias_factor=1.0)
    head = next(layer for layer in model.graph.layers if layer.name == "fc")
    scores = model.extract(outputs=[head.outputs["y"]]).predict(x)
    np.testing.assert_allclose(found.prediction, scores[:, 2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_masked_steps_have_no_gradient(rng, padding):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    masked = builder.add("masking", "masking", {"x": x})["y"]
    kind, weights, options = gru(rng, 4, 6)
    y = builder.add(kind, "cell", {"x": masked}, weights, options | {"padding": padding})["y"]
    last = builder.add("last", "last", {"x": y})["y"]
    builder.output(builder.add("dense", "head", {"x": last}, {"weight": weight(rng, 1, 6)})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 4))
    x[0, 3:] = 0.0
    x[1, 1] = 0.0
    found = gradients(model, x)
    zero = (x == 0.0).all(axis=2)
    assert (found.values[zero] == 0.0).all()
    moved = differences(lambda a: model.predict(a)[:, 0], x)
    np.testing.assert_allclose(found.values[~zero], moved[~zero], rtol=0, atol=1e-9)
    # in float32 what is below 2**-40 is zero
    narrow = cylstm.Model(model.graph, dtype="float32")
    small = np.where(x == 0.0, 1e-14, x)
    assert (gradients(narrow, small).values[zero] == 0.0).all()
    np.testing.assert_allclose(gradients(narrow, small).values, found.values, rtol=0, atol=1e-5)
    assert (gradients(model, small).values[zero] != 0.0).any()


def test_an_encoder_hands_its_states_to_a_decoder(rng):
    builder = GraphBuilder()
    past, future = builder.input("past", (None, 4)), builder.input("future", (None, 2))
    kind, weights, options = plain_lstm(rng, 4, 6)
    encoder = builder.add(kind, "encoder", {"x": past}, weights, options)
    kind, weights, options = plain_lstm(rng, 2, 6)
    decoder = builder.add(kind, "decoder", {"x": future, "h0": encoder["h"], "c0": encoder["c"]}, weights, options)["y"]
    builder.output(builder.add("dense", "head", {"x": decoder}, {"weight": weight(rng, 1, 6)})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    a, b = rng.normal(size=(BATCH, TIME, 4)), rng.normal(size=(BATCH, 3, 2))
    found = gradients(model, [a, b], (-1, 0))
    assert_is_gradient(found.values[0], lambda past: model.predict([past, b])[:, -1, 0], a)
    assert_is_gradient(found.values[1], lambda future: model.predict([a, future])[:, -1, 0], b)
    state = [tuple(part.astype(np.float64) for part in parts) for parts in random_states(rng, model, BATCH)]
    found = gradients(model, [a, b], (-1, 0), initial_state=state)
    assert_is_gradient(found.values[0], lambda past: model.predict([past, b], initial_state=state)[:, -1, 0], a)
    for k in range(2):

        def of_state(part, k=k):
            return model.predict([a, b], initial_state=[(part, state[k][1]) if j == k else state[j] for j in range(2)])[
                :, -1, 0
            ]

        moved = differences(of_state, state[k][0])
        np.testing.assert_allclose(found.initial[k][0], moved, rtol=0, atol=1e-9)
    shared = lrp(model, {"past": a, "future": b}, (-1, 0), bias_factor=1.0)
    np.testing.assert_allclose(shared.residual, 0.0, rtol=0, atol=1e-12)


def test_integrated_gradients_sum_to_the_difference(rng):
    model = network(rng, plain_lstm, **DOUBLE)
    x, baseline, data = rng.normal(size=(BATCH, TIME, 5)), rng.normal(size=5), rng.normal(size=(9, TIME, 5))
    for low in (0.0, baseline, data[0], x[::-1].copy(), Background(data)):
        found = integrated_gradients(model, x, (-1, 0), low)
        np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            found.values.sum(axis=(1, 2)), found.prediction - found.base_value, rtol=0, atol=1e-12
        )
        start = data.mean(axis=0) if isinstance(low, Background) else np.broadcast_to(low, x.shape)
        start = np.broadcast_to(start, x.shape)
        np.testing.assert_allclose(found.base_value, model.predict(start.copy())[:, -1, 0], rtol=0, atol=1e-14)
    coarse = integrated_gradients(model, x, (-1, 0), steps=1)
    np.testing.assert_allclose(coarse.values, x * gradients(model, 0.5 * x, (-1, 0)).values, rtol=0, atol=1e-14)
    assert np.abs(coarse.residual).max() > 1e-6
    alone = integrated_gradients(model, x[2], (-1, 0))
    whole = integrated_gradients(model, x, (-1, 0))
    np.testing.assert_allclose(alone.values, whole.values[2], rtol=0, atol=1e-14)
    np.testing.assert_allclose(alone.residual, whole.residual[2], rtol=0, atol=1e-14)
    assert repr(alone) == "<InputGradients by integrated_gradients: (5, 5)>"


def test_each_row_keeps_its_length_and_state_along_the_line(rng):
    model = network(rng, gru, masked=True, **DOUBLE)
    x, lengths = rng.normal(size=(BATCH, TIME, 5)), np.array([2, 5, 3])
    found = integrated_gradients(model, x, (1, 0), lengths=lengths)
    np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-12)
    for row, length in enumerate(lengths):
        alone = integrated_gradients(model, x[row, :length], (1, 0))
        np.testing.assert_allclose(found.values[row, :length], alone.values, rtol=0, atol=1e-13)
        assert (found.values[row, length:] == 0.0).all()


def test_networks_of_several_inputs_take_a_baseline_of_each(rng):
    builder = GraphBuilder()
    first, second = builder.input("first", (4,)), builder.input("second", (3,))
    y = builder.add("merge", "both", {"x": first, "x1": second})["y"]
    y = builder.add("dense", "hidden", {"x": y}, {"weight": weight(rng, 5, 7)}, {"activation": "tanh"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 1, 5)})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    a, b, low = rng.normal(size=(BATCH, 4)), rng.normal(size=(BATCH, 3)), rng.normal(size=4)
    found = integrated_gradients(model, [a, b], baseline=[low, 0.5])
    np.testing.assert_allclose(found.residual, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        found.base_value, model.predict([np.tile(low, (BATCH, 1)), np.full((BATCH, 3), 0.5)])[:, 0], atol=1e-14
    )
    with pytest.raises(ArgumentError, match="a list of one for each of 2 inputs"):
        integrated_gradients(model, [a, b], baseline=[0.0])


# Relevance


def paper_linear(hin, w, b, hout, relevance, units, eps, bias_factor):
    """``lrp_linear`` of the code of Arras et al.: w (D, M)."""
    sign = np.where(hout[np.newaxis] >= 0, 1.0, -1.0)
    numerator = w * hin[:, np.newaxis] + bias_factor * (b[np.newaxis] + eps * sign) / units
    return (numerator / (hout[np.newaxis] + eps * sign) * relevance[np.newaxis]).sum(axis=1)


@pytest.mark.parametrize("bias_factor", [0.0, 0.5, 1.0])
def test_relevance_is_that_of_the_papers_code(rng, bias_factor):
    """A bidirectional LSTM whose last states a linear layer reads, as ``LSTM_bidi.lrp`` goes through it."""
    d, e, eps = 6, 4, 1e-3
    tensors = lstm_state_dict(rng, e, d, bidirectional=True) | linear_state_dict(rng, 2 * d, 3)
    tensors["fc.bias"][:] = 0.0
    model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.LastState(), cylstm.Linear("fc")], **DOUBLE)
    x = rng.normal(size=(TIME, e))
    found = lrp(model, x, 1, eps, bias_factor)
    head = tensors["fc.weight"].astype(float)
    states = {}
    for side, way in (("", 1), ("_reverse", -1)):
        w, r = (tensors[f"lstm.weight_{part}_l0{side}"].astype(float) for part in ("ih", "hh"))
        b = (tensors[f"lstm.bias_ih_l0{side}"] + tensors[f"lstm.bias_hh_l0{side}"]).astype(float)
        h, c, pre = np.zeros((TIME + 1, d)), np.zeros((TIME + 1, d)), np.zeros((TIME, 4 * d))
        gates = []
        for t in range(TIME):
            pre[t] = w @ x[::way][t] + r @ h[t - 1] + b
            i, f, g, o = np.split(pre[t], 4)
            i, f, o = (1.0 / (1.0 + np.exp(-a)) for a in (i, f, o))
            g = np.tanh(g)
            c[t] = f * c[t - 1] + i * g
            h[t] = o * np.tanh(c[t])
            gates.append((i, f, g))
        states[side] = (w, r, b, h, c, pre, gates)
    score = head @ np.concatenate([states[""][3][TIME - 1], states["_reverse"][3][TIME - 1]])
    start = score * np.array([0.0, 1.0, 0.0])
    wanted, left = np.zeros((TIME, e)), 0.0
    for (side, way), columns in zip((("", 1), ("_reverse", -1)), (slice(0, d), slice(d, None))):
        w, r, b, h, c, pre, gates = states[side]
        of_h, of_c = np.zeros((TIME + 1, d)), np.zeros((TIME + 1, d))
        of_x = np.zeros((TIME, e))
        of_h[TIME - 1] = paper_linear(
            h[TIME - 1], head[:, columns].T, np.zeros(3), score, start, 2 * d, eps, bias_factor
        )
        for t in reversed(range(TIME)):
            i, f, g = gates[t]
            of_c[t] += of_h[t]
            zero, rows = np.zeros(d), slice(2 * d, 3 * d)
            of_c[t - 1] = paper_linear(f * c[t - 1], np.identity(d), zero, c[t], of_c[t], 2 * d, eps, bias_factor)
            of_g = paper_linear(i * g, np.identity(d), zero, c[t], of_c[t], 2 * d, eps, bias_factor)
            of_x[t] = paper_linear(x[::way][t], w[rows].T, b[rows], pre[t, rows], of_g, d + e, eps, bias_factor)
            of_h[t - 1] = paper_linear(h[t - 1], r[rows].T, b[rows], pre[t, rows], of_g, d + e, eps, bias_factor)
        wanted += of_x[::way]
        left += of_h[-1].sum() + of_c[-1].sum()
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.prediction, score[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.residual, score[1] - wanted.sum() - left, rtol=0, atol=1e-12)
    assert (abs(found.residual) < 1e-12) == (bias_factor == 1.0)


@pytest.mark.parametrize("make", [make for make in RECURRENT if "norm" not in make.__name__])
def test_relevance_is_conserved(rng, make):
    model = network(rng, make, **DOUBLE)
    x = rng.normal(size=(BATCH, TIME, 5))
    whole = lrp(model, x, (-1, 1), bias_factor=1.0)
    np.testing.assert_allclose(whole.prediction, model.predict(x)[:, -1, 1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(whole.residual, 0.0, rtol=0, atol=1e-12)
    # what biases and epsilon take grows with the part of it that is nobody's
    half, none = (np.abs(lrp(model, x, (-1, 1), bias_factor=k).residual).max() for k in (0.5, 0.0))
    assert 0.0 < half < none or none > 1e-6
    assert np.abs(whole.values).max() > 1e-4


def test_relevance_of_sums_without_biases_needs_none(rng):
    builder = GraphBuilder()
    x = builder.input("x", (4,))
    y = builder.add("dense", "hidden", {"x": x}, {"weight": weight(rng, 5, 4)})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 1, 5)})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    x = rng.normal(size=(BATCH, 4))
    w = model.graph.tensors["head.weight"] @ model.graph.tensors["hidden.weight"]
    np.testing.assert_allclose(lrp(model, x, epsilon=0.0).values, w[0] * x, rtol=0, atol=1e-12)
    assert (lrp(model, 0.0 * x, epsilon=0.0).values == 0.0).all()


# What is refused


def test_layers_without_a_rule_are_named_before_anything_is_computed(rng, monkeypatch):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    y = builder.add("conv1d", "conv", {"x": x}, {"weight": weight(rng, 5, 3, 4)}, {"padding": "causal"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 1, 5)})["y"])
    model = cylstm.Model(builder.build())
    monkeypatch.setattr(cylstm.Model, "trace", lambda *a, **k: pytest.fail("it was computed"))
    for method in (gradients, integrated_gradients, lrp):
        with pytest.raises(UnsupportedError, match=r"layer 'conv' \(conv1d\): .* has no rule .* Shapley"):
            method(model, numbers(rng, BATCH, TIME, 4), (0, 0))
    model = network(rng, KINDS[4])
    with pytest.raises(UnsupportedError, match=r"layer 'cell' \(lstm\): relevance has no rule for a layer-normalised"):
        lrp(model, numbers(rng, BATCH, TIME, 5), (0, 0))
    model = one(rng, "function", (None, FEATURES), {"function": "round"})
    with pytest.raises(UnsupportedError, match="'round' is flat or jumps"):
        gradients(model, numbers(rng, BATCH, TIME, FEATURES), (0, 0))
    model = one(rng, "merge", (None, FEATURES), {"mode": "hypot"}, None, (FEATURES,))
    with pytest.raises(UnsupportedError, match="mode 'hypot' has no gradient"):
        gradients(model, numbers(rng, BATCH, TIME, FEATURES), (0, 0))
    model = one(rng, "reduce", (None, FEATURES), {"mode": "var", "axis": 1})
    with pytest.raises(UnsupportedError, match="mode 'var' has no gradient"):
        gradients(model, numbers(rng, BATCH, TIME, FEATURES), (0, 0))


def test_a_state_that_depends_on_no_input_is_refused(rng):
    builder = GraphBuilder()
    x = builder.input("x", (6,))
    steps = builder.add("constant", "steps", {}, {"value": numbers(rng, 4, 3)}, {"has_time": True})["y"]
    kind, weights, options = gru(rng, 3, 6)
    state = builder.add(kind, "cell", {"x": steps}, weights, options)["h"]
    y = builder.add("merge", "sum", {"x": x, "x1": state}, options={"mode": "sum"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 1, 6)}, {"activation": "tanh"})["y"])
    model = cylstm.Model(builder.build(), **DOUBLE)
    with pytest.raises(UnsupportedError, match=r"layer 'cell' \(gru\): its last state is read"):
        gradients(model, rng.normal(size=(BATCH, 6)))


def test_a_softmax_within_a_network_has_no_relevance(rng):
    model = one(rng, "activation", (None, FEATURES), {"activation": "softmax"})
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    with pytest.raises(UnsupportedError, match=r"layer 'tested' \(activation\): .* a softmax but at the output"):
        lrp(model, x, (0, 0))
    assert_is_gradient(gradients(model, x, (0, 0)).values, lambda a: model.predict(a)[:, 0, 0], x)


def test_whole_numbers_have_no_gradient(rng):
    tensors = {"e.weight": numbers(rng, 11, 4)} | lstm_state_dict(rng, 4, 6) | linear_state_dict(rng, 6, 1)
    layers = [cylstm.Embedding("e"), cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]
    model = cylstm.from_state_dict(tensors, layers)
    with pytest.raises(UnsupportedError, match="embedding"):
        gradients(model, rng.integers(0, 11, (BATCH, TIME)))


def test_wrong_arguments_are_named(rng):
    model = network(rng, plain_lstm)
    x = numbers(rng, BATCH, TIME, 5)
    for method in (gradients, integrated_gradients, lrp):
        with pytest.raises(ArgumentError, match=r"one row's result has shape \(5, 2\); choose a number"):
            method(model, x)
        for output in (9, (0, 2), (0, 0, 0)):
            with pytest.raises(ArgumentError, match=r"one row's result has shape \(5, 2\), which"):
                method(model, x, output)
        with pytest.raises(ArgumentError, match="chooses nothing"):
            method(model, x, slice(7, None))
        for output in (0.0, True, lambda y: y, [0]):
            with pytest.raises(ArgumentError, match="output: expected an index"):
                method(model, x, output)
        with pytest.raises(ArgumentError, match="expected one of head, found 'last'"):
            method(model, x, "last")
        with pytest.raises(ShapeError, match="expected 5 features"):
            method(model, x[:, :, :3], (0, 0))
        with pytest.raises(ArgumentError, match="expected a Model"):
            method(model.predict, x)
        with pytest.raises(ArgumentError, match="no argument 'threads'"):
            method(model, x, (0, 0), threads=1)
    for steps in (0, 1.0, 5000, True):
        with pytest.raises(ArgumentError, match="steps: expected"):
            integrated_gradients(model, x, (0, 0), steps=steps)
    with pytest.raises(ShapeError, match="baseline: expected a number or an array"):
        integrated_gradients(model, x, (0, 0), np.zeros(4))
    for wrong in (-1.0, "a", True, float("nan")):
        with pytest.raises(ArgumentError, match="epsilon: expected a number from 0 on"):
            lrp(model, x, (0, 0), epsilon=wrong)
    with pytest.raises(ArgumentError, match="bias_factor: expected a number from 0 to 1"):
        lrp(model, x, (0, 0), bias_factor=2.0)
    assert gradients(model, x, (0, 0)).residual is None
