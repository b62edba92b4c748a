"""A trace: the gates, cells and results that a prediction is made of, and the same bits as the prediction."""

import threading

import numpy as np
import pytest

import cylstm
from cylstm.engine._engine import isa_names
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.trace import Trace

from tests import reference
from tests.builders.layers import ENGINES
from tests.builders.networks import random_states, same
from tests.builders.recurrent import (
    CONV_LSTM_SHAPE,
    KINDS,
    conv_lstm,
    gru,
    gru_before,
    lstm,
    numbers,
    plain_lstm,
    rnn,
    weight,
)

BATCH, TIME, UNITS = 3, 7, 21


def network(rng, make, *, reverse=False, masked=False, engine="packed", dtype="float32"):
    """A recurrent layer and a linear head."""
    builder = GraphBuilder()
    is_image = make is conv_lstm
    x = builder.input("x", (None, *CONV_LSTM_SHAPE) if is_image else (None, 5), masked=masked)
    kind, weights, options = conv_lstm(rng, 4) if is_image else make(rng, 5, UNITS)
    options = options | {"reverse": True} if reverse else options
    y = builder.add(kind, "cell", {"x": x}, weights, options)["y"]
    if is_image:
        y = builder.add("reshape", "flat", {"x": y}, options={"shape": "time,-1"})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 2, y.features)})["y"])
    return cylstm.Model(builder.build(), engine=engine, dtype=dtype)


def batch_of(rng, model):
    return numbers(rng, BATCH, TIME, *model.graph.values["x"].shape[1:])


def expected_parts(model, x, mask=None):
    layer = model.graph.layers[0]
    weights = {role: np.asarray(w, np.float64) for role, w in model.graph.layer_tensors(layer).items()}
    states = tuple(np.zeros((BATCH, *shape)) for _, shape in model.graph.states()[0][1])
    parts = {}
    mask = np.ones(x.shape[:2], bool) if mask is None else mask
    parts["h"], _ = reference.run_recurrent(layer, weights, np.asarray(x, np.float64), mask, states, parts)
    return parts


def without_forget_gate(rng, inputs, hidden):
    """The form of 1997."""
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], forget_gate=False)


def forget_from_input(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, 3, vectors=[("bias", 3 * hidden)], coupled="f=1-i", cell_clip=0.3)


def softsign_gru(rng, inputs, hidden):
    kind, weights, options = gru(rng, inputs, hidden)
    return kind, weights, options | {"activation": "softsign", "gate_clip": 0.8}


def relu_rnn(rng, inputs, hidden):
    kind, weights, options = rnn(rng, inputs, hidden)
    return kind, weights, options | {"activation": "relu"}


VARIANTS = [*KINDS, without_forget_gate, forget_from_input, softsign_gru, relu_rnn, conv_lstm]


@pytest.mark.parametrize(("engine", "dtype", "error"), ENGINES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("make", VARIANTS)
def test_every_part_is_that_of_the_equations(rng, make, reverse, engine, dtype, error):
    model = network(rng, make, reverse=reverse, engine=engine, dtype=dtype)
    x = batch_of(rng, model)
    trace = model.trace(x)
    found, wanted = trace["cell"], expected_parts(model, x)
    assert set(wanted) <= set(found.parts)
    for part in found.parts:
        if part in wanted:
            np.testing.assert_allclose(found[part], wanted[part], rtol=0, atol=20 * error, err_msg=part)
        else:
            assert np.isnan(found[part]).all(), part  # a gate that this variant has no weights for
    assert same(trace.outputs, model.predict(x))


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
def test_steps_that_do_not_count_are_nan_in_gates(rng, make):
    model = network(rng, make, masked=True)
    x, mask = batch_of(rng, model), rng.random((BATCH, TIME)) < 0.6
    trace = model.trace(x, mask=mask)
    wanted = expected_parts(model, x, mask)
    for part in wanted:
        np.testing.assert_allclose(trace["cell"][part], wanted[part], rtol=0, atol=1e-4, err_msg=part)
    # written again without a mask, none of them is left
    again = model.trace(x, out=trace)
    for part in again["cell"].parts:
        assert not np.isnan(again["cell"][part]).any()
    # and the other way round
    last = model.trace(x, mask=mask, out=again)
    for part in wanted:
        np.testing.assert_allclose(last["cell"][part], wanted[part], rtol=0, atol=1e-4, err_msg=part)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trace_has_the_bits_of_the_prediction_in_a_deep_network_of_two_directions(rng, threads):
    builder = GraphBuilder()
    x = builder.input("x", (None, 6))
    for depth in range(2):
        directions = []
        for reverse in (False, True):
            kind, weights, options = plain_lstm(rng, x.features, 40)
            name = f"l{depth}.{'back' if reverse else 'forth'}"
            directions.append(builder.add(kind, name, {"x": x}, weights, options | {"reverse": reverse})["y"])
        x = builder.add("merge", f"l{depth}", {"x": directions[0], "x1": directions[1]}, options={"mode": "concat"})[
            "y"
        ]
    x = builder.add("dropout", "drop", {"x": x}, options={"rate": 0.5})["y"]
    last = builder.add("last", "last", {"x": x})["y"]
    builder.output(builder.add("dense", "head", {"x": last}, {"weight": weight(rng, 3, last.features)})["y"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, 70, 50, 6)
    trace = model.trace(x, threads=threads)
    assert same(trace.outputs, model.predict(x))
    assert list(trace) == [layer.name for layer in model.graph.layers]
    assert same(trace["drop"].y, trace["l1"].y)
    assert same(trace["l1"].y, np.concatenate([trace["l1.forth"].h, trace["l1.back"].h], axis=2))
    whole = model.extract(outputs=["l0.back"])
    assert same(whole.predict(x), trace["l0.back"].h)
    alone = [model.trace(x[row : row + 1])["l1.back"].f for row in range(3)]
    assert same(np.concatenate(alone), trace["l1.back"].f[:3])


def test_a_long_sequence_is_traced_from_its_first_step_to_its_last(rng):
    model = network(rng, plain_lstm)
    x = numbers(rng, 1, 5000, 5)
    trace = model.trace(x, "cell")["cell"]
    half = model.trace(x[:, :2500], "cell", return_state=True)
    rest = model.trace(x[:, 2500:], "cell", initial_state=half.state)
    for part in trace.parts:
        assert same(trace[part], np.concatenate([half["cell"][part], rest["cell"][part]], axis=1)), part


def test_parts_and_layers_can_be_chosen(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    whole = model.trace(x)
    some = model.trace(x, what=["f", "c", "g_pre"])
    assert list(some) == ["cell"]
    assert some["cell"].parts == ("f", "g_pre", "c")
    for part in some["cell"].parts:
        assert same(some["cell"][part], whole["cell"][part])
    assert list(model.trace(x, layers="head")) == ["head"]
    assert same(model.trace(x, layers=["head"])["head"].y, model.predict(x))
    with pytest.raises(ArgumentError, match=r"no layer 'lstm'; the network has cell, head"):
        model.trace(x, layers="lstm")
    with pytest.raises(ArgumentError, match=r"layer 'head' \(dense\) has y, no 'f'"):
        model.trace(x, layers=["cell", "head"], what=["f"])
    with pytest.raises(ArgumentError, match="no layer of the network has z"):
        model.trace(x, what=["f", "z"])
    for wrong in (3, [], [1], b"f"):
        with pytest.raises(ArgumentError, match="expected a text or a list of texts"):
            model.trace(x, what=wrong)
    with pytest.raises(AttributeError, match="has f, g_pre, c, no 'o'"):
        _ = some["cell"].o
    with pytest.raises(KeyError, match="no 'o'"):
        some["cell"]["o"]
    with pytest.raises(KeyError, match="the layers cell, no 'x'"):
        some["x"]


def test_memory_is_written_again(rng):
    model = network(rng, plain_lstm)
    first, second = batch_of(rng, model), batch_of(rng, model)
    trace = model.trace(first)
    kept = {part: trace["cell"][part].copy() for part in trace["cell"].parts}
    again = model.trace(second, out=trace)
    wanted = model.trace(second)
    for part in kept:
        assert np.shares_memory(again["cell"][part], trace["cell"][part])
        assert same(again["cell"][part], wanted["cell"][part])
        assert not same(again["cell"][part], kept[part])
    with pytest.raises(ArgumentError, match="other layers and parts"):
        model.trace(first, what="f", out=trace)
    with pytest.raises(ArgumentError, match="another model"):
        network(rng, plain_lstm).trace(first, out=trace)
    with pytest.raises(ShapeError, match="out"):
        model.trace(first[:2], out=trace)
    with pytest.raises(ShapeError, match="out"):
        model.trace(first[:, :3], out=trace)
    with pytest.raises(ArgumentError, match="expected a trace"):
        model.trace(first, out=first)


def test_memory_is_written_again_whatever_changes_between_calls(rng):
    model = network(rng, plain_lstm, masked=True)
    x, mask = batch_of(rng, model), rng.random((BATCH, TIME)) < 0.6
    initial = random_states(rng, model, BATCH)
    calls = [
        {}, {"threads": 1}, {}, {"mask": mask}, {}, {"initial_state": initial}, {}, {"return_state": True}, {},
        {"lengths": [2, 7, 3]}, {"threads": 2},
    ]  # fmt: skip
    trace = model.trace(x)
    for k, options in enumerate(calls):
        given = x + np.float32(k)
        given = given.astype(np.float64) if k % 4 == 2 else given[:, ::-1] if k % 4 == 1 else given
        trace = model.trace(given, out=trace, **options)
        wanted = model.trace(np.array(given, np.float32), **options)
        assert same(trace.outputs, wanted.outputs) and (trace.state is None) == (wanted.state is None)
        assert trace["cell"].is_from_zero == ("initial_state" not in options)
        for part in wanted["cell"].parts:
            assert np.array_equal(trace["cell"][part], wanted["cell"][part], equal_nan=True), (k, part)
    with pytest.raises(ArgumentError, match="threads"):
        model.trace(x, out=model.trace(x, out=trace), threads=0)
    alone = model.trace(x[0])
    for row in range(BATCH):
        alone = model.trace(x[row], out=alone)
        assert same(alone["cell"].f, model.trace(x)["cell"].f[row])
    with pytest.raises(ArgumentError, match="other layers and parts"):
        model.trace(x[0], ["cell"], out=alone)


@pytest.mark.parametrize("make", [plain_lstm, gru_before, rnn, conv_lstm])
def test_steps_that_a_layer_leaves_out_are_nan_in_gates_also_in_memory_that_is_written_again(rng, make):
    builder = GraphBuilder()
    is_image = make is conv_lstm
    x = builder.input("x", (None, *CONV_LSTM_SHAPE) if is_image else (None, 5))
    kind, weights, options = conv_lstm(rng, 4) if is_image else make(rng, 5, UNITS)
    masked = builder.add("masking", "masking", {"x": x}, options={"mask_value": 0.0})["y"]
    builder.output(builder.add(kind, "cell", {"x": masked}, weights, options)["y"])
    model = cylstm.Model(builder.build())
    trace = stream_trace = None
    stream = model.stream(BATCH)
    for _ in range(3):
        x, counts = batch_of(rng, model), rng.random((BATCH, TIME)) < 0.6
        x[~counts] = 0.0
        trace = model.trace(x, out=trace)
        stream.reset()
        stream_trace = stream.trace_run(x, out=stream_trace)
        for found in (trace, stream_trace):
            for part in found["cell"].parts:
                if part != "h":
                    of_steps = np.isnan(found["cell"][part]).reshape(BATCH, TIME, -1)
                    assert (of_steps.all(2) == ~counts).all() and (of_steps.any(2) == ~counts).all(), part
            assert same(found["cell"].h, model.predict(x))


def test_a_trace_is_not_written_over_its_own_input(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    kind, weights, options = plain_lstm(rng, 4, 4)
    builder.output(builder.add(kind, "cell", {"x": x}, weights, options)["y"])
    model = cylstm.Model(builder.build())
    trace = model.trace(numbers(rng, 2, 5, 4))
    trace = model.trace(numbers(rng, 2, 5, 4), out=trace)
    for array in (trace["cell"].c, trace["cell"].h):
        trace = model.trace(numbers(rng, 2, 5, 4), out=trace)
        with pytest.raises(ShapeError, match="out: shares memory with an input"):
            model.trace(array, out=trace)
        with pytest.raises(ShapeError, match="out: shares memory with an input"):
            model.trace(array, out=trace, threads=1)
    stream = model.stream(2)
    trace = stream.trace_run(trace["cell"].h)
    with pytest.raises(ShapeError, match="out: shares memory with an input"):
        stream.trace_run(trace["cell"].c, out=trace)
    assert stream.steps.tolist() == [5, 5]


def test_only_the_gates_that_are_asked_for_take_memory(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    trace = model.trace(x, "cell", what=["f", "o_pre"])
    assert [array.shape[2:] for array in trace._memory.arrays()[1:]] == [(1, UNITS), (1, UNITS)]
    assert trace["cell"].f.flags.c_contiguous and trace["cell"].o_pre.flags.c_contiguous
    whole = model.trace(x)
    assert same(trace["cell"].f, whole["cell"].f) and same(trace["cell"].o_pre, whole["cell"].o_pre)


def test_an_input_without_a_batch_gives_a_trace_without_one(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    alone, whole = model.trace(x[1]), model.trace(x)
    for part in alone["cell"].parts:
        assert same(alone["cell"][part], whole["cell"][part][1])
    assert same(alone.outputs, whole.outputs[1])


def test_a_trace_takes_slices_of_rows_and_steps(rng):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    trace = model.trace(x)
    part = trace[1:, 2:5]
    assert same(part["cell"].f, trace["cell"].f[1:, 2:5])
    assert same(part["head"].y, trace["head"].y[1:, 2:5])
    assert same(trace[:2].outputs, trace.outputs[:2])
    with pytest.raises(ArgumentError, match="slices of rows and steps"):
        trace[3]


def test_a_saved_trace_is_read_back(rng, tmp_path):
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    path = tmp_path / "trace.npz"
    trace.save(path)
    found = Trace.load(path)
    assert list(found) == list(trace)
    assert same(found.outputs, trace.outputs)
    for name in trace:
        assert found[name].kind == trace[name].kind
        assert found[name].parts == trace[name].parts
        for part in trace[name].parts:
            assert same(found[name][part], trace[name][part])
    assert [one.name for one in tmp_path.iterdir()] == ["trace.npz"]
    with pytest.raises(UnsupportedError, match=r"\.npz"):
        trace.save(tmp_path / "trace.csv")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match=r"other\.npz: expected a trace"):
        Trace.load(tmp_path / "other.npz")
    for cut in (10, 200, path.stat().st_size - 20):
        (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(FormatError, match="expected a trace"):
            Trace.load(tmp_path / "cut.npz")


def test_a_saved_trace_appears_complete_or_not_at_all(rng, tmp_path, monkeypatch):
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    path = tmp_path / "trace.npz"
    trace.save(path)
    before = path.read_bytes()

    def write_some(file, **arrays):
        file.write(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", write_some)
    for to in (path, tmp_path / "other.npz"):
        with pytest.raises(KeyboardInterrupt):
            trace.save(to)
    assert [one.name for one in tmp_path.iterdir()] == ["trace.npz"] and path.read_bytes() == before


def test_a_trace_becomes_a_data_frame(rng):
    pandas = pytest.importorskip("pandas")
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    frame = trace.to_pandas("cell", row=2)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (TIME, 10 * UNITS)
    np.testing.assert_array_equal(frame["f"].to_numpy(), trace["cell"].f[2])


@pytest.mark.parametrize("weights", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("make", VARIANTS)
def test_every_instruction_set_and_number_of_threads_gives_the_same_trace(rng, monkeypatch, make, weights):
    graph = network(rng, make, masked=True).graph
    x, mask = batch_of(rng, network(rng, make)), rng.random((BATCH, TIME)) < 0.7
    first = None
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.Model(graph, weights=weights)
        for threads in (1, 2):
            for given in (None, mask):
                trace = model.trace(x, mask=given, threads=threads)
                assert same(trace.outputs, model.predict(x, mask=given, threads=threads))
            first = first or trace
            for part in first["cell"].parts:
                # the payload of a NaN is nobody's
                assert np.array_equal(trace["cell"][part], first["cell"][part], equal_nan=True), (isa, threads, part)
            assert same(trace["head"].y, first["head"].y)


def test_small_weights_give_the_same_trace_bits_as_the_prediction(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 9))
    kind, weights, options = lstm(rng, 9, 40, vectors=[("bias", 160)])
    builder.output(builder.add(kind, "cell", {"x": x}, weights, options)["y"])
    model = cylstm.Model(builder.build(), weights="float16")
    x = numbers(rng, 2, 30, 9)
    assert same(model.trace(x).outputs, model.predict(x))


@pytest.mark.parametrize(
    ("weights", "activations", "error"), [("int8", "int16", 0.03), ("int8", "int8", 0.06), ("float16", None, 2e-3)]
)
def test_a_quantised_model_is_traced_near_the_full_one(rng, weights, activations, error):
    builder = GraphBuilder()
    x = builder.input("x", (None, 40))
    kind, tensors, options = lstm(rng, 40, 64, vectors=[("bias", 256)])
    y = builder.add(kind, "cell", {"x": x}, {role: array / 3 for role, array in tensors.items()}, options)["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": weight(rng, 70, 64)})["y"])
    model = cylstm.Model(builder.build())
    small, x = model.quantize(weights, activations), numbers(rng, BATCH, TIME, 40)
    assert len(small.graph.weight_types) == 3
    trace, full = small.trace(x), model.trace(x)
    assert same(trace.outputs, small.predict(x)) and not same(trace.outputs, full.outputs)
    for part in full["cell"].parts:
        apart = np.abs(trace["cell"][part] - full["cell"][part]).max()
        assert 0 < apart < error, (part, apart)
    assert same(trace["head"].y, trace.outputs)


def step_by_hand(torch, cell, x, weights, sizes):
    """PyTorch's equations of one layer and direction, one step after the other: each part (batch, time, units)."""
    w_ih, w_hh, b_ih, b_hh, *w_hr = weights
    h, c = torch.zeros(len(x), w_hh.shape[1]), torch.zeros(len(x), sizes)
    parts = {}
    for t in range(x.shape[1]):
        of_x, of_h = x[:, t] @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        found = {}
        if cell == "LSTM":
            for name, a in zip("ifgo", (of_x + of_h).chunk(4, 1)):
                found[f"{name}_pre"], found[name] = a, torch.tanh(a) if name == "g" else torch.sigmoid(a)
            c = found["f"] * c + found["i"] * found["g"]
            h = found["o"] * torch.tanh(c)
            h = h @ w_hr[0].T if w_hr else h
            found |= {"c": c}
        elif cell == "GRU":
            (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.chunk(3, 1), of_h.chunk(3, 1)
            found["r_pre"], found["z_pre"] = r_x + r_h, z_x + z_h
            found["r"], found["z"] = torch.sigmoid(found["r_pre"]), torch.sigmoid(found["z_pre"])
            found["n_pre"] = n_x + found["r"] * n_h
            found["n"] = torch.tanh(found["n_pre"])
            h = (1 - found["z"]) * found["n"] + found["z"] * h
        else:
            found["h_pre"] = of_x + of_h
            h = torch.tanh(found["h_pre"])
        for name, value in (found | {"h": h}).items():
            parts.setdefault(name, []).append(value)
    return {name: torch.stack(values, 1) for name, values in parts.items()}


@pytest.mark.frameworks
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("options", [{}, {"proj_size": 3}], ids=["plain", "projected"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_gates_are_those_of_pytorch_stepped_by_hand(torch, cell, options, streams):
    if options and cell != "LSTM":
        pytest.skip("PyTorch projects LSTMs alone")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            kind = getattr(torch.nn, cell)
            self.rnn = kind(5, 7, num_layers=2, bidirectional=not streams, batch_first=True, **options)

        def forward(self, x):
            return self.rnn(x)[0]

    module, x = Network().eval(), torch.randn(3, 6, 5)
    model = cylstm.from_torch(module, x)
    if streams:
        stream = model.stream(3)
        steps = [stream.trace(x[:, t].numpy()) for t in range(6)]
        traced = {
            name: {part: np.concatenate([one[name][part] for one in steps], 1) for part in steps[0][name].parts}
            for name in steps[0]
        }
    else:
        trace = model.trace(x.numpy())
        traced = {name: {part: trace[name][part] for part in trace[name].parts} for name in trace}
    cells = [name for name in traced if "h" in traced[name]]
    assert len(cells) == (2 if streams else 4)
    with torch.no_grad():
        wanted, y = module(x), x
        for layer in range(2):
            results = []
            for reverse in (False,) if streams else (False, True):
                suffix = f"_l{layer}" + ("_reverse" if reverse else "")
                roles = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", *(["weight_hr"] if options else [])]
                weights = [getattr(module.rnn, role + suffix) for role in roles]
                parts = step_by_hand(torch, cell, y.flip(1) if reverse else y, weights, 7)
                parts = {name: value.flip(1) if reverse else value for name, value in parts.items()}
                found = traced[cells.pop(0)]
                assert set(found) == set(parts)
                for name, value in parts.items():
                    np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=2e-6, err_msg=name)
                results.append(parts["h"])
            y = torch.cat(results, 2)
        # and what was stepped by hand is PyTorch's
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-6)


def test_many_threads_trace_one_model(rng):
    model = network(rng, plain_lstm)
    inputs = [batch_of(rng, model) for _ in range(4)]
    wanted = [model.trace(x)["cell"].f for x in inputs]
    wrong = []

    def work(k):
        for _ in range(20):
            if not same(model.trace(inputs[k])["cell"].f, wanted[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_results_of_hundreds_of_layers_are_traced_at_once(rng):
    builder = GraphBuilder()
    x = builder.input("x", (None, 3))
    for k in range(300):
        x = builder.add("activation", f"a{k}", {"x": x}, options={"activation": "softsign"})["y"]
    builder.output(x)
    model = cylstm.Model(builder.build())
    x = numbers(rng, 2, 4, 3)
    trace = model.trace(x)
    assert len(trace) == 300 and same(trace.outputs, model.predict(x))
    wanted = x
    for k in range(300):
        wanted = wanted / (1.0 + np.abs(wanted))
        np.testing.assert_allclose(trace[f"a{k}"].y, wanted, rtol=0, atol=1e-5)
    stream = model.stream(2)
    for t in range(4):
        found = stream.trace(x[:, t])
        assert all(same(found[name].y[:, 0], trace[name].y[:, t]) for name in trace)


def test_states_and_lengths_are_taken_as_predict_takes_them(rng):
    model = network(rng, plain_lstm, masked=True)
    x, lengths = batch_of(rng, model), [2, 7, 4]
    initial = random_states(rng, model, BATCH)
    trace = model.trace(x, initial_state=initial, lengths=lengths, return_state=True)
    wanted, state = model.predict(x, initial_state=initial, lengths=lengths, return_state=True)
    assert same(trace.outputs, wanted)
    for a, b in zip(trace.state, state):
        for one, other in zip(a, b):
            assert same(one, other)
