"""The equations in NumPy float64: what every engine is held against. Slow, plain, and written from the papers."""

import math

import numpy as np

erf = np.vectorize(math.erf)


def activate(name, alpha, beta, x):
    """An activation of `cylstm.activations`, element by element; softmax over the last axis."""
    if name == "linear":
        return x
    if name == "tanh":
        return np.tanh(x)
    if name == "sigmoid":
        return 0.5 * (1.0 + np.tanh(0.5 * x))
    if name == "relu":
        return np.maximum(x, 0.0)
    if name == "leaky_relu":
        return np.where(x > 0, x, alpha * x)
    if name == "elu":
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))
    if name == "selu":
        scale, slope = 1.0507009873554805, 1.6732632423543772
        return scale * np.where(x > 0, x, slope * np.expm1(np.minimum(x, 0.0)))
    if name == "softplus":
        return np.logaddexp(x, 0.0)
    if name == "softsign":
        return x / (1.0 + np.abs(x))
    if name == "silu":
        return x * activate("sigmoid", 0, 0, x)
    if name == "gelu":
        return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
    if name == "gelu_tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    if name == "exponential":
        return np.exp(x)
    if name == "hard_sigmoid":
        return np.clip(alpha * x + beta, 0.0, 1.0)
    if name == "clip":
        return np.clip(x, alpha, beta)
    if name == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    raise NotImplementedError(name)


def _slot(options, slot):
    return lambda x: activate(options[slot], options[f"{slot}_alpha"], options[f"{slot}_beta"], x)


def lstm_step(weights, options, x, h, c):
    """One step of an LSTM: x (batch, input), h (batch, output), c (batch, hidden) -> h, c."""
    f1, f2 = _slot(options, "recurrent_activation"), _slot(options, "activation")
    gates = x @ weights["weight_ih"].T + h @ weights["weight_hh"].T + weights.get("bias", 0.0)
    i, f, g, o = np.split(gates, 4, axis=1)
    c = f1(f) * c + f1(i) * f2(g)
    h = f1(o) * f2(c)
    if "weight_hr" in weights:
        h = h @ weights["weight_hr"].T
    return h, c


def run_recurrent(node, weights, x, mask, states):
    """A recurrent node over x (batch, time, input) with mask (batch, time) -> y (batch, time, output), states."""
    options = node.options
    batch, time, _ = x.shape
    outputs = np.zeros((batch, time, states[0].shape[1]))
    seen = np.zeros(batch, bool)
    for t in range(time)[:: -1 if options["reverse"] else 1]:
        used = mask[:, t]
        new = lstm_step(weights, options, x[:, t], *states)
        previous = np.where(seen[:, None], states[0], 0.0) if options["padding"] == "repeat" else 0.0
        outputs[:, t] = np.where(used[:, None], new[0], previous)
        states = tuple(np.where(used[:, None], a, b) for a, b in zip(new, states))
        seen |= used
    return outputs, states


def last(x, mask):
    """x at the last true step of each row, zeros where there is none."""
    y = np.zeros((x.shape[0], x.shape[2]))
    for row in range(x.shape[0]):
        used = np.flatnonzero(mask[row])
        if used.size:
            y[row] = x[row, used[-1]]
    return y


def merge(mode, values):
    """Values of one length into one."""
    if mode == "concat":
        return np.concatenate(values, axis=-1)
    if mode == "mul":
        return np.prod(values, axis=0)
    return np.sum(values, axis=0) if mode == "sum" else np.mean(values, axis=0)


def predict(graph, *inputs, mask=None, initial_state=None):
    """Every output of a graph, and the final states, in float64.

    Parameters
    ----------
    graph : Graph
    inputs : ndarray
        (batch, time, features) or (batch, features), one per input.
    mask : ndarray of bool (batch, time), optional
        Of every sequence input.
    initial_state : list of tuple of ndarray, optional

    Returns
    -------
    outputs : list of ndarray
    states : list of tuple of ndarray
    """
    values = {}
    for name, x in zip(graph.inputs, inputs):
        values[name] = np.asarray(x, np.float64)
        if graph.values[name].mask is not None:
            values[graph.values[name].mask] = np.ones(x.shape[:2], bool) if mask is None else mask
    batch = len(inputs[0])
    groups = dict(graph.states())
    given = dict(zip(groups, initial_state)) if initial_state is not None else {}
    finals = []
    for node in graph.nodes:
        x = values[node.inputs["x"]]
        weights = {role: np.asarray(w, np.float64) for role, w in graph.node_tensors(node).items()}
        if node.op == "lstm":
            states = [np.zeros((batch, size)) for _, size in groups[node.name]]
            states = [np.asarray(s, np.float64) for s in given.get(node.name, states)]
            for i, role in enumerate(("h0", "c0")):
                if role in node.inputs:
                    states[i] = values[node.inputs[role]]
            steps = values[node.inputs["mask"]] if "mask" in node.inputs else np.ones(x.shape[:2], bool)
            y, states = run_recurrent(node, weights, x, steps, tuple(states))
            finals.append(states)
            for role, state in zip(("h", "c"), states):
                values[node.outputs[role]] = state
        elif node.op == "dense":
            y = _slot(node.options, "activation")(x @ weights["weight"].T + weights.get("bias", 0.0))
        elif node.op == "activation":
            y = _slot(node.options, "activation")(x)
        elif node.op == "dropout":
            y = x
        elif node.op == "last":
            y = last(x, values[node.inputs["mask"]] if "mask" in node.inputs else np.ones(x.shape[:2], bool))
        elif node.op == "merge":
            y = merge(node.options["mode"], [values[name] for name in node.inputs.values()])
        else:
            raise NotImplementedError(node.op)
        values[node.outputs["y"]] = y
    return [values[name] for name in graph.outputs], finals
