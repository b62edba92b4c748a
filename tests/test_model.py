"""Model: numbers against the float64 reference, ranks, dtypes, states, lengths, and what is refused."""

import copy
import multiprocessing
import pickle
import threading

import numpy as np
import pytest

import cylstm
from cylstm import ArgumentError, ShapeError, UnsupportedError
from cylstm.engine._engine import isa_names
from cylstm.graph.builder import GraphBuilder
from cylstm.summary import summary_text

from tests import reference
from tests.builders.networks import bits, linear_state_dict, lstm_model, lstm_state_dict, random_states

#: float32: 1e-6 of the activations' scale, which is 1 for states; float64: rounding only
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}

NETWORKS = [
    pytest.param({"input_size": 3, "hidden_size": 5}, id="plain"),
    pytest.param({"input_size": 8, "hidden_size": 50, "num_layers": 2}, id="stacked"),
    pytest.param({"input_size": 5, "hidden_size": 17, "bidirectional": True}, id="bidirectional"),
    pytest.param({"input_size": 40, "hidden_size": 33, "bidirectional": True, "num_layers": 3}, id="deep"),
    pytest.param({"input_size": 4, "hidden_size": 70, "proj_size": 13}, id="projected"),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("engine, dtype", [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 4, 101])
def test_predictions_and_states_match_the_float64_reference(rng, network, engine, dtype, threads, batch):
    model = lstm_model(rng, **network, engine=engine, dtype=dtype)
    x = rng.normal(size=(batch, 23, network["input_size"])).astype(np.float32)
    state = random_states(rng, model, batch)
    y, final = model.predict(x, initial_state=state, return_state=True, threads=threads)
    (expected,), expected_final = reference.predict(model.graph, x, initial_state=state)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=TOLERANCE[dtype])
    for found, wanted in zip(final, expected_final):
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("engine", ["packed", "blas"])
@pytest.mark.parametrize("padding", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True])
def test_masked_steps_match_the_reference(rng, engine, padding, reverse):
    tensors = lstm_state_dict(rng, 3, 18, prefix="")
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    outputs = builder.add(
        "lstm",
        "lstm",
        {"x": x},
        {
            "weight_ih": tensors["weight_ih_l0"],
            "weight_hh": tensors["weight_hh_l0"],
            "bias": tensors["bias_ih_l0"] + tensors["bias_hh_l0"],
        },
        {"padding": padding, "reverse": reverse},
    )
    for role in ("y", "h", "c"):
        builder.output(outputs[role])
    model = cylstm.Model(builder.build(), engine=engine)
    x = rng.normal(size=(6, 9, 3)).astype(np.float32)
    mask = rng.random((6, 9)) > 0.4
    mask[0], mask[1, :4], mask[2, 5:], mask[3] = False, False, False, True
    state = random_states(rng, model, 6)
    found, final = model.predict(x, mask=mask, initial_state=state, return_state=True)
    expected, expected_final = reference.predict(model.graph, x, mask=mask, initial_state=state)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(final[0][0], found[1])
    np.testing.assert_allclose(final[0][1], expected_final[0][1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("engine", ["packed", "blas"])
def test_a_row_with_a_length_predicts_as_if_it_ended_there(rng, engine):
    for options in ({}, {"bidirectional": True, "num_layers": 2}):
        model = lstm_model(rng, 3, 21, last=True, engine=engine, **options)
        x = rng.normal(size=(5, 12, 3)).astype(np.float32)
        lengths = [12, 1, 7, 3, 11]
        y = model.predict(x, lengths=lengths)
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(y[row], model.predict(x[row, :length]), rtol=0, atol=1e-6)


ACTIVATIONS = [
    ("linear", {}), ("tanh", {}), ("sigmoid", {}), ("relu", {}), ("leaky_relu", {"alpha": 0.2}),
    ("elu", {"alpha": 1.3}), ("selu", {}), ("softplus", {}), ("softsign", {}), ("silu", {}), ("gelu", {}),
    ("gelu_tanh", {}),
    ("exponential", {}), ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}), ("hard_sigmoid", {}),
    ("clip", {"alpha": -0.3, "beta": 0.8}), ("clip", {"alpha": 1.0, "beta": -1.0}), ("softmax", {}),
]  # fmt: skip


@pytest.mark.parametrize("name, parameters", ACTIVATIONS)
@pytest.mark.parametrize("engine, dtype", [("packed", "float32"), ("blas", "float32"), ("blas", "float64")])
def test_activations_match_the_reference(rng, name, parameters, engine, dtype):
    tensors = linear_state_dict(rng, 7, 37)
    tensors["fc.weight"] *= 5
    layers = [cylstm.Linear("fc"), cylstm.Activation(name, **parameters)]
    model = cylstm.from_state_dict(tensors, layers, engine=engine, dtype=dtype)
    x = rng.normal(size=(50, 7)).astype(np.float32)
    (expected,), _ = reference.predict(model.graph, x)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("name", ["sigmoid", "exponential"])
def test_tiny_outputs_of_an_activation_are_not_made_zero(rng, name):
    tensors = linear_state_dict(rng, 7, 37)
    tensors["fc.bias"] -= np.linspace(30, 70, 37, dtype=np.float32)  # results down to 1e-30, below CYL_TINY
    x = rng.normal(size=(50, 7)).astype(np.float32)
    (before,), _ = reference.predict(cylstm.from_state_dict(tensors, [cylstm.Linear("fc")]).graph, x)
    for layers in ([cylstm.Linear("fc", activation=name)], [cylstm.Linear("fc"), cylstm.Activation(name)]):
        model = cylstm.from_state_dict(tensors, layers)
        np.testing.assert_allclose(model.predict(x), np.exp(before), rtol=1e-4)  # of sigmoid too, so far down


def test_a_sample_without_batch_gives_a_result_without_batch(rng):
    model = lstm_model(rng, 3, 9)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    assert model.predict(x).shape == (6, 3)
    np.testing.assert_array_equal(model.predict(x), model.predict(x[None])[0])
    assert lstm_model(rng, 3, 9, last=True).predict(x).shape == (3,)


def test_any_real_dtype_and_stride_is_converted(rng):
    model = lstm_model(rng, 3, 9)
    x = rng.integers(-3, 4, size=(4, 6, 3))
    expected = model.predict(x.astype(np.float32))
    for other in (x, x.astype(np.float64), x.astype(np.float16), x.astype(np.int8), x.tolist()):
        np.testing.assert_array_equal(model.predict(other), expected)
    wide = np.zeros((8, 12, 6), np.float32)
    wide[::2, ::2, ::2] = x
    np.testing.assert_array_equal(model.predict(wide[::2, ::2, ::2]), expected)
    np.testing.assert_array_equal(model.predict(x.astype(">f4")), expected)
    flipped = np.asfortranarray(x.astype(np.float32))
    np.testing.assert_array_equal(model.predict(flipped), expected)


def test_out_receives_the_result(rng):
    model = lstm_model(rng, 3, 9)
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    out = np.full((4, 6, 3), np.nan, np.float32)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(out, model.predict(x))


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((2, 4, 5), np.float32), "expected 3 features, found 5"),
        (np.zeros(3, np.float32), "expected rank 3"),
        (np.zeros((1, 2, 4, 3), np.float32), "expected rank 3"),
        (np.float32(1), "expected rank 3"),
        (np.zeros((2, 0, 3), np.float32), "at least one sample and one step"),
        (np.zeros((0, 0, 3), np.float32), "at least one sample and one step"),
        (np.zeros((2, 4, 3), complex), "found dtype complex128"),
        (np.zeros((2, 4, 3), object), "found dtype object"),
        (np.full((2, 4, 3), "a"), "found dtype <U1"),
        ([[1.0, 2.0, 3.0], [1.0]], "expected an array of real numbers"),
        (None, "found dtype object"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(rng, x, message):
    model = lstm_model(rng, 3, 9)
    with pytest.raises(ShapeError, match=message):
        model.predict(x)


def test_out_that_does_not_fit_is_refused(rng):
    model = lstm_model(rng, 3, 9)
    x = np.zeros((2, 4, 3), np.float32)
    read_only = np.zeros((2, 4, 3), np.float32)
    read_only.flags.writeable = False
    for out in (
        np.zeros((2, 4, 2), np.float32),
        np.zeros((2, 4, 3)),
        np.zeros((2, 4, 6), np.float32)[..., ::2],
        read_only,
        x,
        [[0.0]],
    ):
        with pytest.raises(ShapeError, match="out"):
            model.predict(x, out=out)


def test_a_state_of_another_shape_is_refused(rng):
    model = lstm_model(rng, 3, 9, num_layers=2)
    x = np.zeros((2, 4, 3), np.float32)
    good = random_states(rng, model, 2)
    h = np.zeros((2, 2, 9), np.float32)
    for state, message in [
        ((h, h, h), "one tuple per stateful layer"),
        ((h, h), r"write \[\(h_n\[k\], c_n\[k\]\)"),
        (good[:1], "found 1 items"),
        ([good[0], good[1][:1]], "layer 'lstm.l1'"),
        ([good[0], (good[1][0][:1], good[1][1])], r"expected shape \(2, 9\), found \(1, 9\)"),
        ([good[0], (good[1][0][:, :8], good[1][1])], r"found \(2, 8\)"),
        ([good[0], (good[1][0].astype(complex), good[1][1])], "complex"),
        (7, "found int"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(x, initial_state=state)


def test_a_state_for_a_network_without_any_is_refused(rng):
    model = cylstm.from_state_dict(linear_state_dict(rng, 3, 2), [cylstm.Linear("fc")])
    with pytest.raises(ShapeError, match="no layer carries state"):
        model.predict(np.zeros((1, 3)), initial_state=[(np.zeros((1, 3)),)])


@pytest.mark.parametrize(
    "lengths", [[0, 2], [5, 2], [-1, 2], [1.0, 2.0], [1], [[1, 2]], [True, True], ["a", "b"], None.__class__]
)
def test_lengths_that_do_not_fit_are_refused(rng, lengths):
    model = lstm_model(rng, 3, 9)
    with pytest.raises(ShapeError, match="lengths"):
        model.predict(np.zeros((2, 4, 3)), lengths=lengths)


def test_a_mask_that_does_not_fit_is_refused(rng):
    model = lstm_model(rng, 3, 9)
    x = np.zeros((2, 4, 3))
    for mask in (np.ones((2, 4)), np.ones((2, 3), bool), np.ones(4, bool), np.ones((2, 4, 1), bool)):
        with pytest.raises(ShapeError, match="mask: expected bool"):
            model.predict(x, mask=mask)
    with pytest.raises(ShapeError, match="not both"):
        model.predict(x, mask=np.ones((2, 4), bool), lengths=[1, 2])


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, "2", True, 10**6, 10**30, -(10**30)])
def test_a_number_of_threads_that_makes_no_sense_is_refused(rng, threads):
    model = lstm_model(rng, 3, 9)
    with pytest.raises(ArgumentError, match="threads: expected"):
        model.predict(np.zeros((2, 4, 3)), threads=threads)
    with pytest.raises(ArgumentError, match="threads: expected"):
        model.stream(threads=threads)


def test_engine_and_dtype_are_checked(rng):
    graph = lstm_model(rng, 3, 9).graph
    with pytest.raises(ArgumentError, match="engine: expected one of packed, blas, auto, found 'cuda'"):
        cylstm.Model(graph, engine="cuda")
    with pytest.raises(ArgumentError, match="float16") as error:
        cylstm.Model(graph, dtype="float16")
    assert isinstance(error.value, UnsupportedError)  # for one release, as before
    with pytest.raises(ArgumentError, match="dtype"):
        cylstm.Model(graph, dtype="real")
    with pytest.raises(UnsupportedError, match='use engine="blas"'):
        cylstm.Model(graph, dtype="float64", engine="packed")
    assert cylstm.Model(graph, dtype="float64").engine == "blas"


def test_float64_weights_are_converted_with_a_warning(rng):
    tensors = {name: w.astype(np.float64) for name, w in lstm_state_dict(rng, 3, 9).items()}
    with pytest.warns(UserWarning, match="float64 weights"):
        model = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm")])
    assert model.dtype == np.float32
    wide = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm")], dtype="float64")
    x = rng.normal(size=(2, 5, 3))
    (expected,), _ = reference.predict(wide.graph, x)
    np.testing.assert_allclose(wide.predict(x), expected, rtol=0, atol=1e-14)


def test_nan_and_infinity_stay_in_their_row(rng):
    model = lstm_model(rng, 3, 33, num_layers=2)
    x = rng.normal(size=(5, 8, 3)).astype(np.float32)
    clean = model.predict(x)
    x[1, 3, 0], x[3, 2, 1] = np.nan, np.inf
    y = model.predict(x)
    np.testing.assert_array_equal(bits(y[[0, 2, 4]]), bits(clean[[0, 2, 4]]))
    np.testing.assert_array_equal(bits(y[1, :3]), bits(clean[1, :3]))
    assert np.isnan(y[1, 3:]).all()
    (expected,), _ = reference.predict(model.graph, x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


def test_an_unknown_instruction_set_is_an_error(rng, monkeypatch):
    graph = lstm_model(rng, 3, 9).graph
    monkeypatch.setenv("CYLSTM_ISA", "avx1024")
    with pytest.raises(UnsupportedError, match="CYLSTM_ISA=avx1024: expected one that this machine has: scalar"):
        cylstm.Model(graph)


def test_a_model_survives_pickle_and_copy(rng):
    for options in ({}, {"engine": "blas", "dtype": "float64"}):
        model = lstm_model(rng, 3, 9, **options)
        x = rng.normal(size=(2, 4, 3))
        again = pickle.loads(pickle.dumps(model))
        assert (again.engine, again.dtype) == (model.engine, model.dtype)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        assert copy.copy(model) is model and copy.deepcopy(model) is model


def _predict_in_child(model, x, queue):
    queue.put(model.predict(x, threads=2))


def test_a_forked_child_predicts_after_a_parallel_call(rng):
    model = lstm_model(rng, 3, 130)
    x = rng.normal(size=(4, 50, 3)).astype(np.float32)
    expected = model.predict(x, threads=2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_predict_in_child, args=(model, x, queue))
    child.start()
    found = queue.get(timeout=60)
    child.join(60)
    np.testing.assert_array_equal(found, expected)


def test_many_threads_share_one_model(rng):
    model = lstm_model(rng, 3, 60, num_layers=2)
    inputs = [rng.normal(size=(3, 40, 3)).astype(np.float32) for _ in range(8)]
    expected = [model.predict(x) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(20):
            if not np.array_equal(model.predict(inputs[i], threads=1 + i % 2), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_an_output_may_be_the_value_behind_a_dropout(rng):
    tensors = lstm_state_dict(rng, 3, 9)
    plain = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm")])
    dropped = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Dropout(0.3)])
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(plain.predict(x), dropped.predict(x))
    only = cylstm.from_state_dict(linear_state_dict(rng, 3, 3), [cylstm.Dropout(0.1), cylstm.Linear("fc")])
    assert only.predict(x[0]).shape == (4, 3)


def test_a_value_and_the_one_behind_its_dropout_may_both_be_outputs(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    y = builder.add("activation", "y", {"x": x}, options={"activation": "relu"})["y"]
    builder.output(y)
    builder.output(builder.add("dropout", "dropped", {"x": y})["y"])
    model = cylstm.Model(builder.build())
    assert model.outputs == ("y", "dropped")
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    for found in model.predict(x):
        np.testing.assert_array_equal(found, np.maximum(x, 0))


def test_several_inputs_and_outputs_are_given_by_list_or_name(rng):
    tensors = {name.removeprefix("lstm."): w for name, w in lstm_state_dict(rng, 3, 9).items()}
    roles = {
        "weight_ih": tensors["weight_ih_l0"],
        "weight_hh": tensors["weight_hh_l0"],
        "bias": tensors["bias_ih_l0"],
    }
    builder = GraphBuilder()
    a, b = builder.input("a", (None, 3)), builder.input("b", (None, 3))
    encoder = builder.add("lstm", "encoder", {"x": a}, roles)
    decoder = builder.add("lstm", "decoder", {"x": b, "h0": encoder["h"], "c0": encoder["c"]}, roles)
    builder.output(decoder["y"])
    builder.output(encoder["h"])
    model = cylstm.Model(builder.build())
    xa, xb = rng.normal(size=(2, 7, 3)).astype(np.float32), rng.normal(size=(2, 4, 3)).astype(np.float32)
    expected, _ = reference.predict(model.graph, xa, xb)
    for found in (model.predict([xa, xb]), model.predict({"b": xb, "a": xa}), model.predict([xa, xb], threads=3)):
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    alone = model.predict([xa[0], xb[0]])
    assert [y.shape for y in alone] == [(4, 9), (9,)]
    with pytest.raises(UnsupportedError, match="its initial state comes from another layer"):
        model.stream()
    for x, message in [([xa], "list of 2"), ({"a": xa}, "expected a, b"), ([xa, xb[:1]], "one batch")]:
        with pytest.raises(ShapeError, match=message):
            model.predict(x)
    with pytest.raises(ShapeError, match="dict by input name"):
        model.predict([xa, xb], lengths=[1, 2])
    masked = model.predict([xa, xb], lengths={"a": [7, 3]})
    np.testing.assert_array_equal(masked[1][1], model.predict([xa[1:, :3], xb[1:]])[1][0])


def test_summary_shows_layers_shapes_and_parameters(rng, capsys):
    model = lstm_model(rng, 3, 9)
    model.summary()
    text = capsys.readouterr().out
    for word in ("lstm.l0", "(batch, time, 9)", "fc", "498 parameters", "engine packed", "streams: yes"):
        assert word in text, (word, text)
    assert model.state_names == [("lstm.l0.h", "lstm.l0.c")]
    assert "498 parameters" in repr(model)


def run_memory(model):
    """The KB of a run of one row, as the summary says."""
    (line,) = [line for line in summary_text(model).splitlines() if line.startswith("working memory")]
    amount, _, what = line.split(": ")[1].partition(" KB ")
    return float(amount.replace(",", "")), what


def test_the_summary_tells_the_memory_of_a_run_which_grows_with_the_network(rng):
    small, large = run_memory(lstm_model(rng, 3, 200)), run_memory(lstm_model(rng, 3, 600))
    assert small[1] == large[1] == "per single-row stream, plus the weights" and 0 < small[0] < large[0]
    narrow, wide = (lstm_model(rng, 3, hidden, bidirectional=True) for hidden in (20, 200))
    assert run_memory(narrow)[1] == "for predict of one row and 1,000 steps, plus the weights"
    # backwards, so that all steps of the sequence are there at once
    assert run_memory(narrow)[0] > 1000 * 20 * 4 / 1024 and run_memory(wide)[0] > 1000 * 200 * 4 / 1024
    assert run_memory(cylstm.from_state_dict(linear_state_dict(rng, 4, 5), [cylstm.Linear("fc")]))[0] > 0
    double = lstm_model(rng, 3, 600, engine="blas", dtype="float64")
    assert run_memory(double)[0] > large[0]


def test_a_run_whose_memory_depends_on_steps_that_do_not_fit_says_so(rng):
    weights = {"conv.weight": rng.normal(size=(4, 3, 1100)).astype(np.float32)}
    model = cylstm.from_state_dict(weights, [cylstm.Conv1d("conv"), cylstm.GlobalPool1d()])
    assert "working memory: not known for one row and 1,000 steps" in summary_text(model)


def test_every_public_name_is_there():
    assert set(cylstm.__all__) <= set(dir(cylstm))
    for name in cylstm.__all__:
        assert getattr(cylstm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Transformer'"):
        _ = cylstm.Transformer


@pytest.mark.parametrize("last", [False, True])
def test_the_short_way_of_one_array_gives_the_long_ways_bits_and_errors(rng, last):
    model = lstm_model(rng, 5, 18, last=last)
    x = rng.normal(size=(3, 7, 5)).astype(np.float32)
    whole = model.predict(x, lengths=[7, 7, 7])  # never the short way
    wide = np.zeros((3, 7, 10), np.float32)
    wide[..., ::2] = x
    for same in (x, wide[..., ::2], np.asfortranarray(x), x.astype(">f4"), x.astype(np.float64), x.tolist()):
        for threads in (None, 1, np.int64(1), 2):
            np.testing.assert_array_equal(bits(model.predict(same, threads=threads)), bits(whole))
    np.testing.assert_array_equal(bits(model.predict(x[1])), bits(whole[1]))
    assert model.predict(x[:0]).shape == (0, *whole.shape[1:])
    out = np.empty_like(whole)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(bits(out), bits(whole))
    for dtype in (np.int8, np.uint64, np.float16, bool):
        numbers = (x > 0).astype(dtype)
        np.testing.assert_array_equal(bits(model.predict(numbers)), bits(model.predict(numbers.astype(np.float32))))
    memory = np.zeros(1000, np.float32)
    x = memory[: x.size].reshape(x.shape)
    for wrong, message in [
        (out[:2], "out: expected a writable C-contiguous"),
        (out.astype(np.float64), "out: expected a writable C-contiguous"),
        (memory[x.size - 1 :][: out.size].reshape(out.shape), "shares memory with an input"),
        (out.tolist(), "out: expected"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(x, out=wrong)
    for wrong, message in [
        (x[0, 0], "expected rank 3"),
        (x[np.newaxis], "expected rank 3"),
        (x[:, :0], "at least one sample"),
        (x[..., :4], "expected 5 features"),
        (x + 0j, "real numbers"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(wrong)
    with pytest.raises(ShapeError, match="threads: expected"):
        model.predict(x, threads=True)


@pytest.mark.parametrize(
    "shape, options",
    [
        pytest.param((None, 6, 2), {"padding": "same"}, id="rows as time"),
        pytest.param((None, 6, 2), {"stride_rows": 2}, id="strided"),
        pytest.param((11, 6, 2), {"stride_rows": 3, "padding": "causal"}, id="so many rows"),
        pytest.param((None, 7, 6, 2), {"padding": "same", "stride_rows": 2}, id="an image a step"),
    ],
)
def test_the_short_way_of_an_image_gives_the_long_ways_shapes_bits_and_errors(rng, shape, options):
    builder = GraphBuilder()
    weights = {"weight": rng.normal(size=(5, 3, 2, 2)).astype("f")}
    image = builder.add("conv2d", "conv", {"x": builder.input("x", shape)}, weights, options)["y"]
    builder.output(builder.add("activation", "f", {"x": image}, options={"activation": "tanh"})["y"])
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(3, *[size or 11 for size in shape])).astype(np.float32)
    whole = model.predict({"x": x})  # never the short way
    for same in (x, np.asfortranarray(x), x.astype(np.float64)):
        for threads in (None, 1, 2):
            found = model.predict(same, threads=threads)
            assert found.shape == whole.shape
            np.testing.assert_array_equal(bits(found), bits(whole))
    np.testing.assert_array_equal(bits(model.predict(x[1])), bits(whole[1]))
    out = np.empty_like(whole)
    assert model.predict(x, out=out) is out
    np.testing.assert_array_equal(bits(out), bits(whole))
    with pytest.raises(ShapeError, match="out: expected a writable C-contiguous"):
        model.predict(x, out=out[:2])
    rank = len(shape) + 1
    steps = f"expected {shape[0]} steps" if shape[0] else "at least one sample"
    for wrong, message in [
        (x[0, 0], f"expected rank {rank}"),
        (x[np.newaxis], f"expected rank {rank}"),
        (x[:, :0], steps if not shape[0] else "at least one sample"),
        (x[..., :1], "expected 2 features"),
        (x[..., :5, :], "expected .*columns"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(wrong)
    if options == {"stride_rows": 2}:
        with pytest.raises(ShapeError, match="2 steps are too few for layer 'conv'"):
            model.predict(x[:, :2])


@pytest.mark.parametrize("given", [lambda x: x, lambda x: {"x": x}], ids=["short way", "long way"])
def test_too_few_steps_inside_a_network_that_gives_one_vector_are_told(rng, given):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    y = builder.add("slice", "cut", {"x": x}, {}, {"start": 2, "count": 0})["y"]
    y = builder.add("reduce", "mean", {"x": y}, {}, {"mode": "mean"})["y"]
    builder.output(y)
    model = cylstm.Model(builder.build())
    x = rng.normal(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict(given(x)), x[:, 2:].mean(1), rtol=0, atol=1e-6)
    for out in (None, np.zeros((4, 3), np.float32)):
        with pytest.raises(ShapeError, match="input 'x': 2 steps are too few for layer 'cut'"):
            model.predict(given(x[:, :2]), out=out)


def test_the_short_way_of_vectors_gives_the_long_ways_bits_and_errors(rng):
    model = cylstm.from_state_dict(linear_state_dict(rng, 5, 7), [cylstm.Linear("fc")])
    x = rng.normal(size=(3, 5)).astype(np.float32)
    whole = model.predict({"input": x})  # never the short way
    np.testing.assert_array_equal(bits(model.predict(x)), bits(whole))
    np.testing.assert_array_equal(bits(model.predict(x[1])), bits(whole[1]))
    assert model.predict(x[:0]).shape == (0, 7)
    for wrong, message in [
        (x[:, :4], "expected 5 features"),
        (x[1, :4], "expected 5 features"),
        (x[np.newaxis], "expected rank 2"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(wrong)


@pytest.mark.parametrize("layouts", [{"x": "120"}, {"y": "201"}, {"x": "201", "y": "120"}, {"x": "02"}], ids=str)
def test_the_short_way_of_other_axis_orders_gives_the_long_ways_bits_and_errors(rng, layouts):
    builder = GraphBuilder()
    columns, channels = (1, 3) if layouts == {"x": "02"} else (6, 2)
    weights = {"weight": rng.normal(size=(5, 3, 1, channels)).astype("f")}
    image = builder.input("x", (None, columns, channels))
    builder.output(builder.add("conv2d", "y", {"x": image}, weights, {"stride_rows": 2})["y"])
    plain = cylstm.Model(builder.build())
    model = cylstm.Model(plain.graph._replace(layouts=layouts))
    axes = [1 + int(axis) for axis in layouts.get("x", "012")]
    x = rng.normal(size=(3, 11, columns, channels)).astype(np.float32)
    given = np.ascontiguousarray(
        x.transpose(0, *axes, *({1, 2, 3} - set(axes))).reshape(3, *[x.shape[i] for i in axes])
    )
    whole = model.predict({"x": given})  # never the short way
    axes = [1 + int(axis) for axis in layouts.get("y", "012")]
    np.testing.assert_array_equal(bits(whole), bits(np.ascontiguousarray(plain.predict(x).transpose(0, *axes))))
    assert (model._packed.predict_array(given, None, 1) is None) == (layouts == {"x": "02"})
    for same in (given, np.asfortranarray(given), given.astype(np.float64), given.astype(">f4"), given.tolist()):
        for threads in (None, 1, 2):
            found = model.predict(same, threads=threads)
            assert found.shape == whole.shape and found.strides == whole.strides
            np.testing.assert_array_equal(bits(found), bits(whole))
    np.testing.assert_array_equal(bits(model.predict(given[1])), bits(whole[1]))
    out = np.empty(whole.shape, np.float32)
    assert model.predict(given, out=out) is out
    np.testing.assert_array_equal(bits(out), bits(whole))
    with pytest.raises(ShapeError, match="out: expected a writable C-contiguous"):
        model.predict(given, out=out[:2])
    rank = given.ndim
    for wrong, message in [
        (given[0, 0], f"expected rank {rank}"),
        (given[np.newaxis], f"expected rank {rank}"),
        (given[..., :0], "expected"),
        (given.astype(complex), "real numbers"),
        (given.swapaxes(1, 2), "expected"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model.predict(wrong)


def test_a_long_network_is_shown_in_short():
    builder = cylstm.graph.builder.GraphBuilder()
    x = builder.input("x", (30,))
    parts = [builder.add("slice", f"s{k}", {"x": x}, None, {"start": k, "count": 1})["y"] for k in range(30)]
    builder.output(builder.add("merge", "m", {f"x{k or ''}": part for k, part in enumerate(parts)})["y"])
    model = cylstm.Model(builder.build())
    assert "slice -> 19 more -> slice -> slice -> slice -> merge," in repr(model)
    assert " s0, s1, 27 more, s29 " in summary_text(model)


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("steps", [11, 7001])  # read where they are by each thread, and looked through before
@pytest.mark.parametrize("wrong", [1e-13, -1e-13, -0.0, 1e-42, np.nan, 9e-13, 1e-12])
def test_the_subnormal_rule_holds_for_one_number_of_many(rng, monkeypatch, isa, threads, steps, wrong):
    monkeypatch.setenv("CYLSTM_ISA", isa)
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    builder.output(builder.add("slice", "last", {"x": x}, options={"axis": 1, "start": 1})["y"])
    model = cylstm.Model(builder.build(), engine="packed")
    given = rng.normal(size=(1, steps, 3)).astype("f")
    for at in (0, 5, steps - 1):
        x = given.copy()
        x[0, at, 2] = wrong
        before = x.copy()
        expected = x[:, :, 1:].copy()
        expected[np.abs(expected) < 2.0**-40] = 0.0
        assert np.array_equal(bits(model.predict(x, threads=threads)), bits(expected))
        assert np.array_equal(bits(x), bits(before))


def test_the_shapes_of_inputs_and_outputs_are_as_predict_takes_and_gives_them(rng):
    model = lstm_model(rng, 3, 5, outputs=2)
    assert model.input_shapes == {model.inputs[0]: (None, None, 3)}
    assert model.output_shapes == {model.outputs[0]: (None, None, 2)}
    assert lstm_model(rng, 3, 5, outputs=2, last=True).output_shapes == {model.outputs[0]: (None, 2)}
    swapped = cylstm.Model(model.graph._replace(layouts={model.inputs[0]: "10", model.outputs[0]: "10"}))
    assert swapped.input_shapes == {model.inputs[0]: (None, 3, None)}
    shape = [size or 4 for size in swapped.input_shapes[model.inputs[0]]]
    found = swapped.predict(np.ones(shape, np.float32)).shape
    assert found == (4, 2, 4) and swapped.output_shapes == {model.outputs[0]: (None, 2, None)}
    one = GraphBuilder()
    one.output(one.add("last", "last", {"x": one.input("x", (7, 3))})["y"])
    assert cylstm.Model(one.build()).input_shapes == {"x": (None, 7, 3)}


@pytest.mark.parametrize("engine, dtype", [("packed", "float32"), ("blas", "float64")])
@pytest.mark.parametrize("order", ["102", "120", "201", "210"])
def test_the_users_order_of_axes_gives_the_numbers_of_the_models_own(rng, order, engine, dtype):
    builder = GraphBuilder()
    weight = rng.uniform(-0.9, 0.9, (2, 3)).astype(np.float32)
    builder.output(builder.add("dense", "dense", {"x": builder.input("x", (None, 5, 3))}, {"weight": weight})["y"])
    model = cylstm.Model(builder.build(), engine=engine, dtype=dtype)
    turned = cylstm.Model(
        model.graph._replace(layouts={"x": order, model.outputs[0]: order}), engine=engine, dtype=dtype
    )
    axes = [0, *(1 + int(axis) for axis in order)]
    x = rng.normal(size=(4, 7, 5, 3)).astype(dtype)
    y = model.predict(x)
    np.testing.assert_array_equal(turned.predict(x.transpose(axes)), y.transpose(axes))
    np.testing.assert_array_equal(turned.predict(x.transpose(axes)[2]), y.transpose(axes)[2])
