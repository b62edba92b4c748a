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


def _clip(x, limit):
    return np.clip(x, -limit, limit) if limit else x


def layer_norm(x, gain, shift, epsilon):
    """Over the last axis, with the biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) + shift


def lstm_step(weights, options, x, h, c):
    """One step of an LSTM: x (batch, input), h (batch, output), c (batch, hidden) -> h, c."""
    f1, f2 = _slot(options, "recurrent_activation"), _slot(options, "activation")
    f3, w, limit = _slot(options, "output_activation"), weights, options["gate_clip"]
    of_x, of_h = x @ w["weight_ih"].T, h @ w["weight_hh"].T
    if options["layer_norm"]:
        of_x = layer_norm(of_x, w["norm_ih_gain"], w["norm_ih_shift"], options["epsilon"])
        of_h = layer_norm(of_h, w["norm_hh_gain"], w["norm_hh_shift"], options["epsilon"])
    gates = of_x + of_h + w.get("bias", 0.0)
    names = "fgo" if options["coupled"] == "i=1-f" else "igo"
    if options["forget_gate"] and not options["coupled"]:
        names = "ifgo"
    pre = dict(zip(names, np.split(gates, len(names), axis=1)))

    def sigma(gate, cell):
        seen = w[f"peephole_{gate}"] * cell if f"peephole_{gate}" in w else 0.0
        return f1(_clip(pre[gate] + seen, limit))

    i = sigma("i", c) if "i" in pre else None
    f = sigma("f", c) if "f" in pre else np.ones_like(c)
    if options["coupled"] == "f=1-i":
        f = 1 - i
    elif options["coupled"] == "i=1-f":
        i = 1 - f
    c = _clip(f * c + i * f2(_clip(pre["g"], limit)), options["cell_clip"])
    shown = c
    if options["layer_norm"]:
        shown = layer_norm(c, w["norm_c_gain"], w["norm_c_shift"], options["epsilon"])
        c = shown if options["layer_norm"] == "carried" else c
    h = sigma("o", shown) * f3(shown)
    if "weight_hr" in w:
        h = h @ w["weight_hr"].T
    return h, c


def gru_step(weights, options, x, h):
    """One step of a GRU: x (batch, input), h (batch, hidden) -> (h,)."""
    f1, f2, limit = _slot(options, "recurrent_activation"), _slot(options, "activation"), options["gate_clip"]
    xr, xz, xn = np.split(x @ weights["weight_ih"].T + weights.get("bias_ih", 0.0), 3, axis=1)
    hr, hz, hn = np.split(h @ weights["weight_hh"].T + weights.get("bias_hh", 0.0), 3, axis=1)
    r, z = f1(_clip(xr + hr, limit)), f1(_clip(xz + hz, limit))
    if options["reset_after"]:
        n = f2(_clip(xn + r * hn, limit))
    else:
        n = f2(_clip(xn + (r * h) @ np.split(weights["weight_hh"], 3)[2].T, limit))
    return (z * h + (1 - z) * n,)


def rnn_step(weights, options, x, h):
    """One step of a simple recurrent layer: x (batch, input), h (batch, hidden) -> (h,)."""
    pre = x @ weights["weight_ih"].T + h @ weights["weight_hh"].T + weights.get("bias", 0.0)
    return (_slot(options, "activation")(_clip(pre, options["gate_clip"])),)


def correlate(x, kernel, stride, dilation, padding):
    """x (batch, rows, columns, channels), kernel (rows, columns, channels, filters) -> y like x, with filters."""
    pads = [(0, 0), (0, 0), (0, 0), (0, 0)]
    for axis in (0, 1):
        reach = (kernel.shape[axis] - 1) * dilation[axis] + 1
        if padding == "same":
            size = x.shape[1 + axis]
            total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
            pads[1 + axis] = (total // 2, total - total // 2)
    x = np.pad(x, pads)
    reach = [(kernel.shape[axis] - 1) * dilation[axis] + 1 for axis in (0, 1)]
    rows = range(0, x.shape[1] - reach[0] + 1, stride[0])
    columns = range(0, x.shape[2] - reach[1] + 1, stride[1])
    y = np.zeros((x.shape[0], len(rows), len(columns), kernel.shape[3]))
    for a, row in enumerate(rows):
        for b, column in enumerate(columns):
            taps = x[:, row : row + reach[0] : dilation[0], column : column + reach[1] : dilation[1]]
            y[:, a, b] = np.tensordot(taps, kernel, 3)
    return y


def conv_lstm_step(weights, options, x, h, c):
    """One step of a ConvLSTM: x (batch, [rows,] columns, channels), h and c (batch, [rows,] columns, filters)."""
    f1, f2 = _slot(options, "recurrent_activation"), _slot(options, "activation")
    shape = c.shape
    size = (options["kernel_rows"], options["kernel_columns"])

    def planar(a):
        return a[:, np.newaxis] if a.ndim == 3 else a

    def kernel(weight):
        return weight.T.reshape(*size, -1, weight.shape[0])

    stride = (options["stride_rows"], options["stride_columns"])
    dilation = (options["dilation_rows"], options["dilation_columns"])
    gates = correlate(planar(x), kernel(weights["weight_ih"]), stride, dilation, options["conv_padding"])
    gates = gates + correlate(planar(h), kernel(weights["weight_hh"]), (1, 1), (1, 1), "same")
    i, f, g, o = np.split((gates + weights.get("bias", 0.0)).reshape(*shape[:-1], -1), 4, axis=-1)
    c = f1(f) * c + f1(i) * f2(g)
    return f1(o) * f2(c), c


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step, "conv_lstm": conv_lstm_step}


def run_recurrent(node, weights, x, mask, states):
    """A recurrent node over x (batch, time, ...) with mask (batch, time) -> y (batch, time, ...), final states."""
    options = node.options
    batch, time = x.shape[:2]
    outputs = np.zeros((batch, time, *states[0].shape[1:]))
    seen = np.zeros(batch, bool)

    def rows(flags, like):
        return flags.reshape(batch, *[1] * (like.ndim - 1))

    for t in range(time)[:: -1 if options["reverse"] else 1]:
        used = mask[:, t]
        new = STEPS[node.op](weights, options, x[:, t], *states)
        old = np.where(rows(seen, states[0]), states[0], 0.0) if options["padding"] == "repeat" else 0.0
        outputs[:, t] = np.where(rows(used, new[0]), new[0], old)
        states = tuple(np.where(rows(used, a), a, b) for a, b in zip(new, states))
        seen |= used
    if options["empty_state"] == "zero":
        states = tuple(np.where(rows(seen, a), a, 0.0) for a in states)
    return outputs, states


def last(x, mask):
    """x at the last true step of each row, zeros where there is none."""
    y = np.zeros((x.shape[0], *x.shape[2:]))
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
        if node.op in STEPS:
            states = [np.zeros((batch, *shape)) for _, shape in groups[node.name]]
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
        elif node.op == "reverse":
            y = x[:, ::-1]
        elif node.op == "last":
            y = last(x, values[node.inputs["mask"]] if "mask" in node.inputs else np.ones(x.shape[:2], bool))
        elif node.op == "merge":
            y = merge(node.options["mode"], [values[name] for name in node.inputs.values()])
        else:
            raise NotImplementedError(node.op)
        values[node.outputs["y"]] = y
    return [values[name] for name in graph.outputs], finals
