"""Operators that are layers, each option by itself and in pairs, against ONNX Runtime."""

import numpy as np
import pytest

import cylstm

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto

from tests.builders.configurations import configurations, label, seed
from tests.builders.onnx_nodes import BATCH, TIME, build, by_runtime, compare, feeds, load, node

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

INPUT, HIDDEN = 5, 4

SHARED = {
    "direction": ["forward", "reverse", "bidirectional"],
    "bias": [True, False],
    "clip": [None, 0.4],
    "lengths": [None, "input", "constant"],
    "initial": [None, "constant", "input", "computed"],
    "outputs": ["all", "Y", "Y_h", "Y_c"],
}
LSTM = {
    **SHARED,
    "peepholes": [False, True],
    "input_forget": [0, 1],
    "activations": [
        None,
        (("HARDSIGMOID", 0.3, 0.4), ("Softsign",), ("elu", 0.7)),
        (("Sigmoid",), ("LeakyRelu", 0.2), ("Tanh",)),
        (("softsign",), ("SoftPlus",), ("relu",)),
        (("HardSigmoid",), ("LeakyRelu",), ("Elu",)),
    ],
}
GRU = {
    **SHARED,
    "linear_before_reset": [0, 1],
    "activations": [None, (("hardsigmoid", 0.3, 0.4), ("Softsign",)), (("Sigmoid",), ("LeakyRelu", 0.2))],
}
RNN = {**SHARED, "activations": [None, (("Relu",),), (("LeakyRelu", 0.2),), (("Elu", 0.7),), (("Softsign",),)]}
CASES = [
    pytest.param(kind, configuration, id=f"{kind} {label(configuration, options)}")
    for kind, options in (("LSTM", LSTM), ("GRU", GRU), ("RNN", RNN))
    for configuration in configurations(options)
    if kind == "LSTM" or configuration["outputs"] != "Y_c"
]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(kind, configuration, rng, layout=0):
    """A model of one operator, and its inputs."""
    directions = 2 if configuration["direction"] == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN

    def uniform(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    inputs = {"X": ("N", "T", INPUT) if layout else ("T", "N", INPUT)}
    constants = {"W": uniform(directions, rows, INPUT), "R": uniform(directions, rows, HIDDEN)}
    names, nodes = ["X", "W", "R", "", "", ""], []
    if configuration["bias"]:
        constants["B"], names[3] = uniform(directions, 2 * rows), "B"
    if configuration["lengths"] == "input":
        inputs["lengths"], names[4] = (TensorProto.INT32, ("N",)), "lengths"
    elif configuration["lengths"] == "constant":
        constants["lengths"], names[4] = np.full(BATCH, TIME - 2, np.int32), "lengths"
    states = ["h0", "c0"][: 2 if kind == "LSTM" else 1]
    for k, name in enumerate(states if configuration["initial"] else []):
        names += [""] * (6 + k - len(names))
        names[5 + k : 6 + k] = [name]
        shape = ("N", directions, HIDDEN) if layout else (directions, "N", HIDDEN)
        if configuration["initial"] == "constant":  # the same for every row, for a batch of any size
            row = uniform(*(1 if size == "N" else size for size in shape))
            constants[name] = np.repeat(row, BATCH, axis=shape.index("N"))
        elif configuration["initial"] == "input":
            inputs[name] = shape
        else:
            inputs[f"{name}_of"] = shape
            nodes.append(node("Relu", [f"{name}_of"], [name], name=name))
    attributes = {"hidden_size": HIDDEN, "direction": configuration["direction"]}
    if configuration.get("peepholes"):
        names += [""] * (7 - len(names)) + ["P"]
        constants["P"] = uniform(directions, 3 * HIDDEN)
    if configuration["activations"]:
        chosen = configuration["activations"] * directions
        # the second direction has other numbers than the first
        alphas = [one[1] * (1 + 0.1 * k) for k, one in enumerate(chosen) if len(one) > 1]
        betas = [one[2] * (1 + 0.1 * k) for k, one in enumerate(chosen) if len(one) > 2]
        attributes["activations"] = [one[0] for one in chosen]
        attributes |= {"activation_alpha": alphas} if alphas else {}
        attributes |= {"activation_beta": betas} if betas else {}
    for name in ("clip", "input_forget", "linear_before_reset"):
        if configuration.get(name):
            attributes[name] = configuration[name]
    if layout:
        attributes["layout"] = 1
    while not names[-1]:
        names.pop()
    every = ["Y", "Y_h", *(["Y_c"] if kind == "LSTM" else [])]
    chosen = every if configuration["outputs"] == "all" else [configuration["outputs"]]
    results = [name if name in chosen else "" for name in every]
    while not results[-1]:
        results.pop()
    return build([*nodes, node(kind, names, results, **attributes)], inputs, chosen, constants), feeds(inputs, rng)


@pytest.mark.parametrize("kind, configuration", CASES)
def test_a_recurrent_operator_gives_onnx_runtimes_numbers(kind, configuration, tmp_path):
    rng = np.random.default_rng(seed(kind, configuration))
    model, arrays = recurrent(kind, configuration, rng)
    time = TIME if configuration["lengths"] == "constant" else "T"
    compare(tmp_path, model, arrays, time=time)


LAYOUTS = [
    pytest.param(kind, dict(configuration), id=f"{kind} {configuration['direction']} {configuration['initial']}")
    for kind, options in (("LSTM", LSTM), ("GRU", GRU), ("RNN", RNN))
    for configuration in (
        {name: values[0] for name, values in options.items()} | {"direction": direction, "initial": initial}
        for direction in SHARED["direction"]
        for initial in SHARED["initial"]
    )
]


@pytest.mark.parametrize("kind, configuration", LAYOUTS)
def test_layout_1_has_the_batch_first(kind, configuration, tmp_path):
    """ONNX Runtime has no layout 1: the numbers are those of layout 0, with axes swapped."""
    models = []
    for layout in (0, 1):
        model, arrays = recurrent(kind, configuration, np.random.default_rng(5), layout)
        models.append((model, arrays))
    (model, arrays), (turned, swapped) = models
    for name in arrays:
        arrays[name] = np.ascontiguousarray(swapped[name].swapaxes(0, 1))
    theirs = by_runtime(model, arrays)
    # Y (time, directions, batch, size) to (batch, time, directions, size); the states' first two axes swapped
    theirs = [theirs[0].transpose(2, 0, 1, 3), *(one.swapaxes(0, 1) for one in theirs[1:])]
    compare(tmp_path, turned, swapped, theirs)


def test_lengths_that_differ_and_are_constants_are_refused(tmp_path):
    constants = {"W": np.ones((1, 4, 5), np.float32), "R": np.ones((1, 4, 4), np.float32)}
    constants["lengths"] = np.array([7, 2, 3], np.int32)
    made = node("RNN", ["X", "W", "R", "", "lengths"], ["Y"], hidden_size=4)
    model = build([made], {"X": ("T", "N", 5)}, ["Y"], constants)
    with pytest.raises(cylstm.UnsupportedError, match=r"rnn_node.*sequence_lens of constants"):
        load(tmp_path, model, time=7)


def test_numbers_of_activations_that_take_none_are_refused(tmp_path):
    """ONNX Runtime gives them to the next activation that takes one, which is hardly what was meant."""
    constants = {"W": np.ones((1, 16, 5), np.float32), "R": np.ones((1, 16, 4), np.float32)}
    attributes = {"activations": ["Sigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.0, 0.3, 0.0]}
    made = node("LSTM", ["X", "W", "R"], ["Y"], hidden_size=4, **attributes)
    with pytest.raises(cylstm.UnsupportedError, match=r"lstm_node.*activation_alpha"):
        load(tmp_path, build([made], {"X": ("T", "N", 5)}, ["Y"], constants))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_constant_state_that_differs_between_rows_is_refused(kind, tmp_path):
    constants = {"W": np.ones((1, GATES[kind] * 4, 5), np.float32), "R": np.ones((1, GATES[kind] * 4, 4), np.float32)}
    constants["h0"] = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    made = node(kind, ["X", "W", "R", "", "", "h0"], ["Y"], hidden_size=4)
    with pytest.raises(cylstm.UnsupportedError, match="each row of a batch"):
        load(tmp_path, build([made], {"X": ("T", "N", 5)}, ["Y"], constants))


def test_a_first_state_of_zeros_has_the_right_size(tmp_path):
    """PyTorch 2.13 writes an LSTM with a projection as one without, whose first c is of the size before it."""
    constants = {"W": np.ones((1, 12, 5), np.float32), "R": np.ones((1, 12, 3), np.float32)}
    constants |= {"h0": np.zeros((1, BATCH, 3), np.float32), "c0": np.zeros((1, BATCH, 7), np.float32)}
    made = node("LSTM", ["X", "W", "R", "", "", "h0", "c0"], ["Y"], hidden_size=3)
    with pytest.raises(cylstm.UnsupportedError, match=r"lstm_node.*\(1, batch, 3\).*\(1, 3, 7\)"):
        load(tmp_path, build([made], {"X": ("T", "N", 5)}, ["Y"], constants))
