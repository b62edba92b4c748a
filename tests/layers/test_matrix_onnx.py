"""The differential matrix against ONNX Runtime: what Keras and PyTorch lack.

Peepholes, coupled gates, clips, activations with parameters, reverse, lengths down to 0. Every configuration is also
held against the float64 reference. The weights are ours, laid out for ONNX here (gate order i o f c, and z r h).
"""

import numpy as np
import pytest

import cylstm
from cylstm.graph.activations import ACTIVATIONS
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.configurations import configurations, label, seed
from tests.builders.matrix_goldens import record
from tests.builders.promise import check

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

INPUT, HIDDEN, TIME, BATCH = 5, 19, 7, 4

#: ours (name, alpha, beta) -> ONNX's name and whether it takes alpha and beta
ONNX_ACTIVATIONS = {
    "tanh": ("Tanh", 0),
    "sigmoid": ("Sigmoid", 0),
    "relu": ("Relu", 0),
    "leaky_relu": ("LeakyRelu", 1),
    "elu": ("Elu", 1),
    "hard_sigmoid": ("HardSigmoid", 2),
    "softsign": ("Softsign", 0),
    "softplus": ("Softplus", 0),
}

SHARED = {
    "direction": ["forward", "reverse", "bidirectional"],
    "bias": [True, False],
    "clip": [0.0, 0.4],
    "lengths": [None, (7, 2, 0, 5)],
    "initial": [True, False],
}
LSTM = {
    **SHARED,
    "peepholes": [False, True],
    "input_forget": [False, True],
    "activations": [
        (("sigmoid",), ("tanh",), ("tanh",)),
        (("hard_sigmoid", 0.3, 0.4), ("softsign",), ("elu", 0.7)),
        (("sigmoid",), ("leaky_relu", 0.2), ("tanh",)),
        (("softsign",), ("softplus",), ("relu",)),
    ],
}
GRU = {
    **SHARED,
    "reset_after": [False, True],
    "activations": [
        (("sigmoid",), ("tanh",)),
        (("hard_sigmoid", 0.3, 0.4), ("softsign",)),
        (("sigmoid",), ("leaky_relu", 0.2)),
        (("hard_sigmoid", 0.2, 0.5), ("elu", 0.7)),
    ],
}
RNN = {
    **SHARED,
    "activations": [(("tanh",),), (("relu",),), (("leaky_relu", 0.2),), (("elu", 0.7),), (("softsign",),)],
}

CASES = [
    pytest.param(kind, configuration, id=f"{kind} {label(configuration, options)}")
    for kind, options in (("lstm", LSTM), ("gru", GRU), ("rnn", RNN))
    for configuration in configurations(options)
]


def slots_of(kind):
    return {"lstm": ("recurrent_activation", "activation", "output_activation"),
            "gru": ("recurrent_activation", "activation"), "rnn": ("activation",)}[kind]  # fmt: skip


def our_weights(kind, configuration, rng):
    """Canonical float32 weights of one direction."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    bound = 0.5 if kind == "lstm" else 0.3
    weights = {
        "weight_ih": rng.uniform(-bound, bound, (gates * HIDDEN, INPUT)),
        "weight_hh": rng.uniform(-bound, bound, (gates * HIDDEN, HIDDEN)) / 2,
    }
    if configuration["bias"]:
        names = ("bias_ih", "bias_hh") if kind == "gru" else ("bias",)
        for name in names:
            weights[name] = rng.uniform(-bound, bound, gates * HIDDEN)
    if configuration.get("peepholes"):
        for gate in "ifo":
            weights[f"peephole_{gate}"] = rng.uniform(-bound, bound, HIDDEN)
    return {name: w.astype(np.float32) for name, w in weights.items()}


def our_model(kind, configuration, directions):
    """One layer per direction; outputs y, h (and c) of each."""
    builder = GraphBuilder()
    x = builder.input("x", (None, INPUT))
    options = {"gate_clip": configuration["clip"], "empty_state": "zero"}
    for slot, (name, *parameters) in zip(slots_of(kind), configuration["activations"]):
        alpha, beta = [*parameters, *ACTIVATIONS[name][len(parameters) :]]
        options |= {slot: name, f"{slot}_alpha": alpha, f"{slot}_beta": beta}
    if kind == "gru":
        options["reset_after"] = configuration["reset_after"]
    for k, weights in enumerate(directions):
        weights = dict(weights)
        if configuration.get("input_forget"):
            options["coupled"] = "f=1-i"
            keep = np.r_[0:HIDDEN, 2 * HIDDEN : 4 * HIDDEN]
            weights = {
                name: w[keep] if name in ("weight_ih", "weight_hh", "bias") else w
                for name, w in weights.items()
                if name != "peephole_f"
            }
        if kind == "gru" and not configuration["reset_after"] and "bias_hh" in weights:
            weights["bias_ih"] = weights["bias_ih"] + weights.pop("bias_hh")
        reverse = configuration["direction"] == "reverse" or k == 1
        outputs = builder.add(kind, f"{kind}{k}", {"x": x}, weights, {**options, "reverse": reverse})
        for value in outputs.values():
            builder.output(value)
    return cylstm.Model(builder.build())


def onnx_rows(kind, w):
    """Our gate order to ONNX's: i f g o -> i o f g; r z n -> z r n."""
    blocks = np.split(w, {"lstm": 4, "gru": 3, "rnn": 1}[kind])
    order = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}[kind]
    return np.concatenate([blocks[k] for k in order])


def run_onnx(kind, configuration, directions, x, states):
    """Y, Y_h (and Y_c) of ONNX Runtime as arrays per direction, batch first."""
    helper = pytest.importorskip("onnx").helper
    runtime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, numpy_helper

    count = len(directions)

    def stack(make):
        return np.stack([make(w) for w in directions]).astype(np.float32)

    feeds = {"X": np.ascontiguousarray(x.transpose(1, 0, 2))}
    constants = {
        "W": stack(lambda w: onnx_rows(kind, w["weight_ih"])),
        "R": stack(lambda w: onnx_rows(kind, w["weight_hh"])),
    }
    names = ["X", "W", "R", "", "", ""]
    if configuration["bias"]:

        def biases(w):
            if kind == "gru":
                return np.concatenate([onnx_rows(kind, w["bias_ih"]), onnx_rows(kind, w["bias_hh"])])
            return np.concatenate([onnx_rows(kind, w["bias"]), np.zeros_like(w["bias"])])

        constants["B"] = stack(biases)
        names[3] = "B"
    if configuration["lengths"]:
        constants["lens"] = np.array(configuration["lengths"], np.int32)
        names[4] = "lens"
    if configuration["initial"]:
        for k, name in enumerate(("h0", "c0")[: 2 if kind == "lstm" else 1]):
            constants[name] = np.stack([state[k] for state in states])
        names[5] = "h0"
        if kind == "lstm":
            names.append("c0")
    if configuration.get("peepholes"):
        names += [""] * (7 - len(names)) + ["P"]
        constants["P"] = stack(lambda w: np.concatenate([w["peephole_i"], w["peephole_o"], w["peephole_f"]]))
    attributes = {"hidden_size": HIDDEN, "direction": configuration["direction"]}
    functions, alphas, betas = [], [], []
    for name, *parameters in configuration["activations"] * count:
        onnx_name, taken = ONNX_ACTIVATIONS[name]
        functions.append(onnx_name)
        alphas += parameters[:1] if taken >= 1 else []
        betas += parameters[1:2] if taken == 2 else []
    attributes["activations"] = functions
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    if configuration["clip"]:
        attributes["clip"] = configuration["clip"]
    if kind == "gru":
        attributes["linear_before_reset"] = int(configuration["reset_after"])
    if configuration.get("input_forget"):
        attributes["input_forget"] = 1
    while names[-1] == "":
        names.pop()
    outputs = ["Y", "Y_h", *(["Y_c"] if kind == "lstm" else [])]
    node = helper.make_node({"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}[kind], names, outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [TIME, BATCH, INPUT])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, *finals = session.run(outputs, feeds)
    return [[y[:, k].transpose(1, 0, 2), *(final[k] for final in finals)] for k in range(count)]


@pytest.mark.parametrize("kind, configuration", CASES)
def test_a_configuration_gives_onnx_runtimes_numbers(kind, configuration, record_property):
    rng = np.random.default_rng(seed(kind, configuration))
    count = 2 if configuration["direction"] == "bidirectional" else 1
    directions = [our_weights(kind, configuration, rng) for _ in range(count)]
    model = our_model(kind, configuration, directions)
    x = rng.normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    parts = 2 if kind == "lstm" else 1
    states = [tuple(rng.uniform(-0.9, 0.9, (BATCH, HIDDEN)).astype(np.float32) for _ in range(parts))] * count
    initial = states if configuration["initial"] else None
    mask = None
    if configuration["lengths"]:
        mask = np.arange(TIME) < np.array(configuration["lengths"])[:, np.newaxis]
    theirs = [array for part in run_onnx(kind, configuration, directions, x, states) for array in part]
    exact, _ = reference.predict(model.graph, x, mask=mask, initial_state=initial)
    worst = 0.0
    for engine in ("packed", "blas"):
        ours = cylstm.Model(model.graph, engine=engine).predict(x, mask=mask, initial_state=initial)
        worst = max([worst, *(check(*three) for three in zip(ours, theirs, exact, strict=True))])
    record_property("worst_error", float(worst))
    record((f"onnx_{kind}", configuration), model, x, theirs, every=7, mask=mask, initial_state=initial)
