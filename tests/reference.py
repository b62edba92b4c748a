"""The equations in NumPy float64: what every engine is held against. Slow, plain, and written from the papers."""

import math

import numpy as np

erf = np.vectorize(math.erf)

#: the functions of the layer ``function``, as NumPy and the standard library have them
FUNCTIONS = {
    "neg": np.negative,
    "reciprocal": lambda x: 1.0 / x,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "round": np.rint,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": np.vectorize(math.erf, [float]),
    "erfc": np.vectorize(math.erfc, [float]),
    **{
        name: getattr(np, name)
        for name in (
            "abs", "sign", "square", "sqrt", "cbrt", "floor", "ceil", "trunc", "exp", "exp2", "expm1", "log", "log2",
            "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "logical_not", "isnan", "isinf", "isfinite",
        )
    },
}  # fmt: skip


def activate(name, alpha, beta, x):
    """An activation of `cylstm.graph.activations`, element by element; softmax over the last axis."""
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


def product(x, weight, masks, gates):
    """x W^T, each gate's of x times its own mask (gates, batch, size), or all of x times one mask (1, batch, size)."""
    if masks is None or len(masks) == 1:
        return (x if masks is None else x * masks[0]) @ weight.T
    parts = np.split(weight, gates)
    return np.concatenate([(x * mask) @ part.T for mask, part in zip(masks, parts, strict=True)], axis=1)


def lstm_step(weights, options, x, h, c, seen=None, x_masks=None, h_masks=None):
    """One step of an LSTM: x (batch, input), h (batch, output), c (batch, hidden) -> h, c; its gates into `seen`."""
    f1, f2 = _slot(options, "recurrent_activation"), _slot(options, "activation")
    f3, w, limit = _slot(options, "output_activation"), weights, options["gate_clip"]
    names = "fgo" if options["coupled"] == "i=1-f" else "igo"
    if options["forget_gate"] and not options["coupled"]:
        names = "ifgo"
    of_x, of_h = product(x, w["weight_ih"], x_masks, len(names)), product(h, w["weight_hh"], h_masks, len(names))
    if options["layer_norm"]:
        of_x = layer_norm(of_x, w["norm_ih_gain"], w["norm_ih_shift"], options["epsilon"])
        of_h = layer_norm(of_h, w["norm_hh_gain"], w["norm_hh_shift"], options["epsilon"])
    gates = of_x + of_h + w.get("bias", 0.0)
    pre = dict(zip(names, np.split(gates, len(names), axis=1)))

    def sigma(gate, cell):
        pre[gate] = pre[gate] + (w[f"peephole_{gate}"] * cell if f"peephole_{gate}" in w else 0.0)
        return f1(_clip(pre[gate], limit))

    i = sigma("i", c) if "i" in pre else None
    f = sigma("f", c) if "f" in pre else np.ones_like(c)
    if options["coupled"] == "f=1-i":
        f = 1 - i
    elif options["coupled"] == "i=1-f":
        i = 1 - f
    g = f2(_clip(pre["g"], limit))
    c = _clip(f * c + i * g, options["cell_clip"])
    shown, new = c, c
    if options["layer_norm"]:
        shown = layer_norm(c, w["norm_c_gain"], w["norm_c_shift"], options["epsilon"])
        c = shown if options["layer_norm"] == "carried" else c
    o = sigma("o", shown)
    h = o * f3(shown)
    if seen is not None:
        seen.update(i=i, f=f, g=g, o=o, c=new, **{f"{gate}_pre": pre[gate] for gate in pre})
    if "weight_hr" in w:
        h = h @ w["weight_hr"].T
    return h, c


def gru_step(weights, options, x, h, seen=None, x_masks=None, h_masks=None):
    """One step of a GRU: x (batch, input), h (batch, hidden) -> (h,); its gates into `seen`."""
    f1, f2, limit = _slot(options, "recurrent_activation"), _slot(options, "activation"), options["gate_clip"]
    xr, xz, xn = np.split(product(x, weights["weight_ih"], x_masks, 3) + weights.get("bias_ih", 0.0), 3, axis=1)
    hr, hz, hn = np.split(product(h, weights["weight_hh"], h_masks, 3) + weights.get("bias_hh", 0.0), 3, axis=1)
    r, z = f1(_clip(xr + hr, limit)), f1(_clip(xz + hz, limit))
    after, read = options["reset_after"], h if h_masks is None else h * h_masks[-1]
    pre = xn + (r * hn if after else (r * read) @ np.split(weights["weight_hh"], 3)[2].T)
    n = f2(_clip(pre, limit))
    if seen is not None:
        seen.update(r=r, z=z, n=n, r_pre=xr + hr, z_pre=xz + hz, n_pre=pre)
    return (z * h + (1 - z) * n,)


def rnn_step(weights, options, x, h, seen=None, x_masks=None, h_masks=None):
    """One step of a simple recurrent layer: x (batch, input), h (batch, hidden) -> (h,); what goes in into `seen`."""
    of_x, of_h = product(x, weights["weight_ih"], x_masks, 1), product(h, weights["weight_hh"], h_masks, 1)
    pre = of_x + of_h + weights.get("bias", 0.0)
    if seen is not None:
        seen.update(h_pre=pre)
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


def conv_lstm_step(weights, options, x, h, c, seen=None, x_masks=None, h_masks=None):
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
    if seen is not None:
        seen.update(i=f1(i), f=f1(f), g=f2(g), o=f1(o), i_pre=i, f_pre=f, g_pre=g, o_pre=o, c=c)
    return f1(o) * f2(c), c


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step, "conv_lstm": conv_lstm_step}


def run_recurrent(layer, weights, x, mask, states, parts=None, drawn=None):
    """A recurrent layer over x (batch, time, ...) with mask (batch, time) -> y (batch, time, ...), final states.

    Into `parts`, by name, what it computes on the way (batch, time, ...), NaN where a step does not count. `drawn` has
    masks of training, the same at all steps: "read" of x and "state" of h, each (gates or 1, batch, size).
    """
    drawn = drawn or {}
    options = layer.options
    batch, time = x.shape[:2]
    outputs = np.zeros((batch, time, *states[0].shape[1:]))
    seen = np.zeros(batch, bool)

    def rows(flags, like):
        return flags.reshape(batch, *[1] * (like.ndim - 1))

    for t in range(time)[:: -1 if options["reverse"] else 1]:
        used = mask[:, t]
        found = {}
        masks = drawn.get("read"), drawn.get("state")
        new = STEPS[layer.kind](weights, options, x[:, t], *states, found, *masks)
        for part, numbers in found.items() if parts is not None else ():
            whole = parts.setdefault(part, np.full((batch, time, *numbers.shape[1:]), np.nan))
            whole[:, t] = np.where(rows(used, numbers), numbers, np.nan)
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


#: the modes of a merge of two
PAIRS = {
    "pow": np.power, "mod": np.mod, "fmod": np.fmod, "floor_div": np.floor_divide, "atan2": np.arctan2,
    "hypot": np.hypot, "copysign": np.copysign, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal, "and": np.logical_and,
    "or": np.logical_or, "xor": np.logical_xor,
}  # fmt: skip


def aligned(values):
    """Values (batch, ...) with axes of size 1 after the batch, so that all have the same rank."""
    rank = max(value.ndim for value in values)
    return [v.reshape(v.shape[0], *[1] * (rank - v.ndim), *v.shape[1:]) for v in values]


def merge(options, values):
    """Several values (batch, ...) into one; shapes without batch are matched from the last axis on."""
    mode = options["mode"]
    if mode == "concat":
        return np.concatenate(values, axis=options["axis"])
    values = aligned(values)
    if mode in PAIRS:
        return PAIRS[mode](*values).astype(np.float64)
    steps = {"mul": np.multiply, "sub": np.subtract, "max": np.maximum, "min": np.minimum, "div": np.divide}
    y = values[0]
    for value in values[1:]:
        y = steps.get(mode, np.add)(y, value)
    return y / len(values) if mode == "ave" else y


def window_pads(options, reach, time):
    """Steps of padding before and after."""
    if options["padding"] == "causal":
        return reach - 1, 0
    if options["padding"] == "same":
        total = max((-(-time // options["stride"]) - 1) * options["stride"] + reach - time, 0)
        return total // 2, total - total // 2
    return options["pad_before"], options["pad_after"]


def conv1d(weights, options, x):
    """x (batch, time, channels), weight (filters, kernel, channels/groups) -> y (batch, steps, filters)."""
    weight, groups = weights["weight"], options["groups"]
    filters, kernel, channels = weight.shape
    reach = (kernel - 1) * options["dilation"] + 1
    x = np.pad(x, ((0, 0), window_pads(options, reach, x.shape[1]), (0, 0)))
    starts = range(0, x.shape[1] - reach + 1, options["stride"])
    y = np.zeros((x.shape[0], len(starts), filters))
    for f in range(filters):
        first = f // (filters // groups) * channels
        for i, t in enumerate(starts):
            taps = x[:, t : t + reach : options["dilation"], first : first + channels]
            y[:, i, f] = (taps * weight[f]).sum(axis=(1, 2))
    return _slot(options, "activation")(y + weights.get("bias", 0.0))


def conv2d(weights, options, x):
    """x (batch, [time,] rows, columns, channels), weight (filters, rows, columns, channels/groups)."""
    if x.ndim == 5:
        y = conv2d(weights, options, x.reshape(-1, *x.shape[2:]))
        return y.reshape(*x.shape[:2], *y.shape[1:])
    weight, groups = weights["weight"], options["groups"]
    filters, channels = len(weight), weight.shape[3]
    pads, grid = [], []
    for axis, name in ((1, "rows"), (2, "columns")):
        stride, dilation = options[f"stride_{name}"], options[f"dilation_{name}"]
        reach = (weight.shape[axis] - 1) * dilation + 1
        pads.append((options["pad_left"], options["pad_right"]))
        if options["padding"] == "same" or axis == 1:
            pads[-1] = window_pads({**options, "stride": stride}, reach, x.shape[axis])
        starts = range(0, sum(pads[-1]) + x.shape[axis] - reach + 1, stride)
        grid.append([slice(start, start + reach, dilation) for start in starts])
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    y = np.zeros((len(x), len(grid[0]), len(grid[1]), filters))
    for f in range(filters):
        first = f // (filters // groups) * channels
        for r, rows in enumerate(grid[0]):
            for q, columns in enumerate(grid[1]):
                y[:, r, q, f] = (x[:, rows, columns, first : first + channels] * weight[f]).sum(axis=(1, 2, 3))
    return _slot(options, "activation")(y + weights.get("bias", 0.0))


def conv_transpose(weights, options, x):
    """x (batch, [frames,] *spatial, channels), weight (filters, *kernel, channels/groups) -> y (..., filters).

    Every number of x adds to the outputs that its taps reach; the crops are cut off at the end.
    """
    weight, groups = weights["weight"], options["groups"]
    filters, *kernel, channels = weight.shape
    image = x.reshape(-1, *x.shape[-1 - len(kernel) :])
    axes = (("rows", "before", "after"), ("columns", "left", "right"))[: len(kernel)]
    strides, dilations, more = (
        [options[f"{name}_{axis}"] for axis, *_ in axes] for name in ("stride", "dilation", "output_padding")
    )
    sizes = image.shape[1:-1]
    whole = [(n - 1) * s + (k - 1) * d + 1 + m for n, s, k, d, m in zip(sizes, strides, kernel, dilations, more)]
    y = np.zeros((len(image), *whole, filters))
    for place in np.ndindex(*sizes):
        for tap in np.ndindex(*kernel):
            at = tuple(p * s + k * d for p, s, k, d in zip(place, strides, tap, dilations))
            for g in range(groups):
                of = slice(g * filters // groups, (g + 1) * filters // groups)
                taken = image[(slice(None), *place, slice(g * channels, (g + 1) * channels))]
                y[(slice(None), *at, of)] += taken @ weight[(of, *tap)].T
    for i, (_, first, last) in enumerate(axes):
        y = np.moveaxis(y, i + 1, 0)
        y = np.moveaxis(y[options[f"crop_{first}"] : len(y) - options[f"crop_{last}"]], 0, i + 1)
    y = _slot(options, "activation")(y + weights.get("bias", 0.0))
    return y.reshape(*x.shape[: x.ndim - len(kernel) - 1], *y.shape[1:])


def pool1d(options, x):
    """x (batch, time, ...) -> y (batch, steps, ...), or along another axis."""
    if options["axis"]:
        moved = pool1d({**options, "axis": 0}, np.moveaxis(x, 1 + options["axis"], 1))
        return np.moveaxis(moved, 1, 1 + options["axis"])
    reach = (options["pool"] - 1) * options["dilation"] + 1
    time = x.shape[1]
    before, after = window_pads(options, reach, time)
    length = time + before + after
    steps = (length - reach + (options["stride"] - 1 if options["ceil_mode"] else 0)) // options["stride"] + 1
    y = np.zeros((x.shape[0], steps, *x.shape[2:]))
    for i in range(steps):
        places = [i * options["stride"] - before + k * options["dilation"] for k in range(options["pool"])]
        inside = [t for t in places if 0 <= t < time]
        if options["mode"] == "max":
            y[:, i] = x[:, inside].max(axis=1, initial=-np.inf)
        else:
            counted = [t for t in places if t < time + after] if options["count_include_pad"] else inside
            y[:, i] = x[:, inside].sum(axis=1) / (len(counted) or np.nan)
    return y


def normalise(kind, weights, options, x):
    """batch_norm, layer_norm and group_norm of x (batch, ...)."""
    gain, shift = weights.get("gain", 1.0), weights.get("shift", 0.0)
    if kind == "batch_norm":
        return gain * (x - weights["mean"]) / np.sqrt(weights["variance"] + options["epsilon"]) + shift
    if kind == "group_norm":
        grouped = x.reshape(x.shape[0], -1, options["groups"], x.shape[-1] // options["groups"])
        mean = grouped.mean(axis=(1, 3), keepdims=True)
        variance = grouped.var(axis=(1, 3), keepdims=True)
        return gain * ((grouped - mean) / np.sqrt(variance + options["epsilon"])).reshape(x.shape) + shift
    axes = tuple(range(x.ndim - options["axes"], x.ndim))
    shape = x.shape[x.ndim - options["axes"] :]
    gain, shift = np.broadcast_to(gain, math.prod(shape)), np.broadcast_to(shift, math.prod(shape))
    variance = (x**2).mean(axis=axes, keepdims=True) if options["mode"] == "rms" else x.var(axis=axes, keepdims=True)
    centred = x - x.mean(axis=axes, keepdims=True) if options["mode"] == "layer" else x
    return gain.reshape(shape) * centred / np.sqrt(variance + options["epsilon"]) + shift.reshape(shape)


def rearrange(kind, options, x):
    """reshape, permute, slice, pad, upsample and repeat_vector of x (batch, ...)."""
    if kind == "reshape" and options["shape"].startswith("time*"):
        count, *sizes = options["shape"][len("time*") :].split(",")
        return x.reshape(x.shape[0], x.shape[1] * int(count), *map(int, sizes))
    if kind == "reshape":
        sizes = options["shape"].split(",")
        start = x.shape[:2] if sizes[0] == "time" else x.shape[:1]
        return x.reshape(*start, *map(int, sizes[len(start) - 1 :]))
    if kind == "permute":
        return x.transpose(0, *(1 + int(i) for i in options["order"]))
    if kind == "repeat_vector":
        return np.repeat(x[:, np.newaxis], options["count"], axis=1)
    axis = 1 + options["axis"]
    if kind == "upsample":
        return np.repeat(x, options["size"], axis=axis)
    if kind == "pad":
        modes = {"zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        pads = [(0, 0)] * x.ndim
        pads[axis] = (options["before"], options["after"])
        return np.pad(x, pads, mode=modes[options["mode"]])
    size = x.shape[axis]
    start = options["start"] % size if options["start"] < 0 else options["start"]
    if options["count"]:
        places = start + options["step"] * np.arange(options["count"])
    else:
        places = np.arange(start, size - options["before_end"], options["step"])
    return np.take(x, places, axis=axis)


def reduce_numbers(options, x, axis):
    """x (...) along `axis`, which may have no numbers."""
    mode = options["mode"]
    if mode == "norm":
        return np.sqrt((x**2).sum(axis=axis))
    if mode == "var":
        divisor = max(x.shape[axis] - options["correction"], 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = x.sum(axis=axis, keepdims=True) / x.shape[axis]
            return ((x - mean) ** 2).sum(axis=axis) / divisor
    if mode == "mean":
        with np.errstate(invalid="ignore"):
            return x.sum(axis=axis) / x.shape[axis]
    if mode == "logsumexp":
        most = x.max(axis=axis, keepdims=True)
        with np.errstate(invalid="ignore"):
            below = np.where(x == most, 0.0, x - most)
        return most.squeeze(axis) + np.log(np.exp(below).sum(axis=axis))
    return getattr(np, mode)(x, axis=axis).astype(np.float64)


def reduce(options, x, mask):
    """x (batch, ...) along one axis; mask (batch, time) or None."""
    axis = 1 + options["axis"]
    if mask is not None:
        y = np.stack([reduce_numbers(options, row[counts], 0) for row, counts in zip(x, mask)])
    else:
        y = reduce_numbers(options, x, axis)
    return y[..., np.newaxis] if (y.ndim == 1 or (y.ndim == 2 and x.ndim > 2 and axis == 2)) else y


ACCUMULATED = {
    "sum": (np.add, 0.0),
    "prod": (np.multiply, 1.0),
    "max": (np.maximum, -np.inf),
    "min": (np.minimum, np.inf),
}


def cumulate(options, x):
    """Running sums and the like of x (batch, ...) along one axis."""
    function, first = ACCUMULATED[options["mode"]]
    x = np.moveaxis(x, 1 + options["axis"], 0)
    x = x[::-1] if options["reverse"] else x
    if options["exclusive"]:
        x = np.concatenate([np.full_like(x[:1], first), x[:-1]])
    y = function.accumulate(x, axis=0)
    return np.moveaxis(y[::-1] if options["reverse"] else y, 0, 1 + options["axis"])


def running_of(options, x):
    """What an open cumulation of x (batch, time, ...) carries on: the bits of its last numbers in three parts."""
    function, first = ACCUMULATED[options["mode"]]
    last = function.reduce(x.reshape(*x.shape[:2], -1), axis=1)
    bits = last.view(np.uint64) ^ np.float64(first).view(np.uint64)
    parts = [bits >> np.uint64(42), bits >> np.uint64(21), bits]
    return (np.stack([part & np.uint64((1 << (22 if i == 0 else 21)) - 1) for i, part in enumerate(parts)], axis=1),)


def lined_up(x, rank):
    """x (batch, ...) with axes of size 1 after the batch, up to `rank` axes without batch."""
    return x.reshape(x.shape[0], *[1] * (rank + 1 - x.ndim), *x.shape[1:])


def take_along(options, x, indices):
    """x (batch, ...) at indices (batch, ...), which line up from the last axis on."""
    axis = 1 + options["axis"]
    size = x.shape[axis]
    places = np.clip(np.nan_to_num(lined_up(indices, x.ndim - 1), nan=0.0), 0, size - 1).astype(np.int64)
    shape = [max(a, b) for a, b in zip(x.shape, places.shape)]
    whole = np.broadcast_to(x, [*shape[:axis], size, *shape[axis + 1 :]])
    places = np.broadcast_to(places, [*shape[:axis], places.shape[axis], *shape[axis + 1 :]])
    return np.take_along_axis(whole, places, axis)


def matmul(options, a, b):
    """a (batch, ..., m, k) and b (batch, ..., k, n), or transposed."""
    rank = max(a.ndim, b.ndim) - 1
    a, b = lined_up(a, rank), lined_up(b, rank)
    a = a.swapaxes(-1, -2) if options["transpose_x"] else a
    return a @ (b.swapaxes(-1, -2) if options["transpose_x1"] else b)


def topk(options, x):
    """Numbers of x (batch, ...) along one axis in their order, and their places."""
    axis = 1 + options["axis"]
    x = np.moveaxis(x, axis, 0)
    if options["largest"]:
        order = len(x) - 1 - np.argsort(x[::-1], axis=0, kind="stable")[::-1]
    else:
        order = np.argsort(x, axis=0, kind="stable")
    order = order[: options["k"] or None]
    return {
        "y": np.moveaxis(np.take_along_axis(x, order, 0), 0, axis),
        "indices": np.moveaxis(order.astype(np.float64), 0, axis),
    }


def attention(weights, options, query, key, value, mask, mask_query, mask_value):
    """query (batch, q, n), key (batch, k, n), value (batch, k, m) -> y (batch, q, m)."""
    heads = options["heads"]

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    query, key, value = split(query), split(key), split(value)
    if options["score"] == "dot":
        scores = query @ key.swapaxes(2, 3)
    else:
        both = query[:, :, :, np.newaxis] + key[:, :, np.newaxis]
        scores = (weights["weight"] * np.tanh(options["factor"] * both)).sum(axis=-1)
    scores = scores * options["scale"]
    counts = np.ones(scores.shape, bool)
    if mask_value is not None:
        counts &= mask_value[:, np.newaxis, np.newaxis]
    if mask_query is not None:
        counts &= mask_query[:, np.newaxis, :, np.newaxis]
    if options["causal"]:
        counts &= np.tri(*scores.shape[2:], dtype=bool)
    penalised = (scores - 1e9).astype(np.float32) if options["masked"] == "penalty" else -np.inf
    scores = np.where(counts, scores, penalised)
    with np.errstate(invalid="ignore"):
        w = np.exp(scores - scores.max(axis=-1, keepdims=True))
        w = w / w.sum(axis=-1, keepdims=True)
    if options["masked"] in ("zero", "average"):
        alone = 0.0 if options["masked"] == "zero" else 1.0 / w.shape[-1]
        w = np.where(counts.any(axis=-1, keepdims=True), w, alone)
    # what has no weight is not read: NaN may stand there
    y = np.where(w[..., np.newaxis] == 0, 0.0, w[..., np.newaxis] * value[:, :, np.newaxis]).sum(axis=3)
    y = y.transpose(0, 2, 1, 3)
    y = y.reshape(*y.shape[:2], -1)
    return y if mask is None else np.where(mask[..., np.newaxis], y, 0.0)


def dot(options, a, b):
    """Products of the steps of a (batch, [time,] n) and b (batch, [time,] n)."""
    has_time = a.ndim == 3
    a, b = (x if x.ndim == 3 else x[:, np.newaxis] for x in (a, b))
    if options["normalize"]:
        a, b = (x / np.sqrt(np.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12)) for x in (a, b))
    y = a @ b.swapaxes(1, 2)
    return y if has_time else y[:, 0]


def plain_layer(layer, weights, values):
    """Outputs by role of a layer that carries no state from step to step."""
    kind, options = layer.kind, layer.options
    given = {role: values[name] for role, name in layer.inputs.items()}
    x = given.get("x")
    if kind == "conv1d":
        y = conv1d(weights, options, x)
    elif kind == "conv2d":
        y = conv2d(weights, options, x)
    elif kind == "conv_transpose":
        y = conv_transpose(weights, options, x)
    elif kind == "pool1d":
        y = pool1d(options, x)
    elif kind in ("batch_norm", "layer_norm", "group_norm"):
        y = normalise(kind, weights, options, x)
    elif kind in ("reshape", "permute", "slice", "pad", "upsample", "repeat_vector"):
        y = rearrange(kind, options, x)
    elif kind == "slice_like":
        y = x[:, options["start"] :][:, : given["x1"].shape[1]]
    elif kind == "step_table":
        table = weights["table"][: x.shape[1]]
        y = np.broadcast_to(table, (len(x), *table.shape))
    elif kind == "embedding":
        y = weights["weight"][given["indices"]]
    elif kind == "prelu":
        slope = weights["slope"]
        slope = slope.reshape(x.shape[2:]) if slope.size not in (1, x.shape[-1]) else slope
        y = np.where(x > 0, x, slope * x)
    elif kind == "function":
        y = FUNCTIONS[options["function"]](x).astype(np.float64)
    elif kind == "glu":
        a, b = np.split(x, 2, axis=-1)
        y = a * _slot(options, "activation")(b)
    elif kind == "reduce":
        y = reduce(options, x, given.get("mask"))
    elif kind == "softmax":
        e = np.exp(x - x.max(axis=1 + options["axis"], keepdims=True))
        y = e / e.sum(axis=1 + options["axis"], keepdims=True)
        if options["log"]:
            y = (
                x
                - x.max(axis=1 + options["axis"], keepdims=True)
                - np.log(e.sum(axis=1 + options["axis"], keepdims=True))
            )
    elif kind == "masking":
        mask = (x != options["mask_value"]).any(axis=tuple(range(2, x.ndim)))
        return {"y": np.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0.0), "mask": mask}
    elif kind == "index_mask":
        return {"mask": given["indices"] != options["padding"]}
    elif kind == "mask_merge":
        return {"mask": getattr(np, options["mode"])(list(given.values()), axis=0)}
    elif kind == "mask_fill":
        other = given.get("x1", np.asarray(options["value"]))
        other = other[:, np.newaxis] if 1 < other.ndim < x.ndim else other
        y = np.where(given["mask"].reshape(*x.shape[:2], *[1] * (x.ndim - 2)), x, other)
    elif kind == "where":
        condition, a, b = aligned([given[role] for role in ("condition", "x", "x1")])
        y = np.where(condition != 0, a, b)
    elif kind == "numbers":
        indices = given["indices"].astype(np.float64)
        y = indices[..., np.newaxis] if indices.ndim == 2 else indices
    elif kind == "mask_numbers":
        y = given["mask"][..., np.newaxis].astype(np.float64)
    elif kind == "number_mask":
        return {"mask": x[..., 0] != 0}
    elif kind == "attention":
        roles = ("x", "key", "value", "mask", "mask_query", "mask_value")
        y = attention(weights, options, *(given.get(role) for role in roles))
    elif kind == "dot":
        y = dot(options, x, given["x1"])
    elif kind == "cumulate":
        y = cumulate(options, x)
    elif kind == "take":
        y = np.take(x, weights["indices"].astype(np.int64), axis=1 + options["axis"])
    elif kind == "take_along":
        y = take_along(options, x, given["indices"])
    elif kind == "matmul":
        y = matmul(options, x, given["x1"])
    elif kind == "topk":
        return topk(options, x)
    else:
        raise NotImplementedError(kind)
    return {"y": y}


def positions(options, x, state):
    """The numbers of the steps of x (batch, time, ...), after those that a state counts; and the next state."""
    taken = state[:, 0] + 2.0**24 * state[:, 1]
    now = taken + x.shape[1]
    y = options["start"] + options["step"] * (taken[:, np.newaxis] + np.arange(x.shape[1]))
    return y[..., np.newaxis], (np.stack([now % 2**24, now // 2**24], axis=1),)


def history_of(parts, x):
    """The last steps of x that a causal convolution carries on, zeros before the first."""
    steps = parts[0][1][0]
    return (np.concatenate([np.zeros((x.shape[0], steps, *x.shape[2:])), x], axis=1)[:, -steps:],)


def predict(graph, *inputs, mask=None, initial_state=None, drawn=None):
    """Every output of a graph, and the final states, in float64.

    Parameters
    ----------
    graph : Graph
    inputs : ndarray
        (batch, time, features) or (batch, features), one per input, with axes as the user has them (`Graph.layouts`).
    mask : ndarray of bool (batch, time), optional
        Of every sequence input.
    initial_state : list of tuple of ndarray, optional
    drawn : dict, optional
        Layer -> what it draws in training: "factor" and "term" of a dropout, (batch, ...) as its value is; "read" and
        "state" of a recurrent layer, as `run_recurrent` has them; "result", a factor of any layer's result.

    Returns
    -------
    outputs : list of ndarray
    states : list of tuple of ndarray
    """
    values = {}
    for name, x in zip(graph.inputs, inputs):
        if name in graph.layouts:
            x = _as_the_value(np.asarray(x), graph.layouts[name], len(graph.values[name].shape))
        values[name] = np.asarray(x) if graph.values[name].kind == "index" else np.asarray(x, np.float64)
        if graph.values[name].mask is not None:
            given = mask.get(name) if isinstance(mask, dict) else mask
            values[graph.values[name].mask] = np.ones(x.shape[:2], bool) if given is None else given
    batch = len(inputs[0])
    groups = dict(graph.states())
    given = dict(zip(groups, initial_state)) if initial_state is not None else {}
    finals = []
    for layer in graph.layers:
        x = values.get(layer.inputs.get("x"))
        weights = {role: np.asarray(w, np.float64) for role, w in graph.layer_tensors(layer).items()}
        if layer.kind in STEPS:
            states = [np.zeros((batch, *shape)) for _, shape in groups[layer.name]]
            states = [np.asarray(s, np.float64) for s in given.get(layer.name, states)]
            for i, role in enumerate(("h0", "c0")):
                if role in layer.inputs:
                    states[i] = values[layer.inputs[role]]
            steps = values[layer.inputs["mask"]] if "mask" in layer.inputs else np.ones(x.shape[:2], bool)
            y, states = run_recurrent(layer, weights, x, steps, tuple(states), None, (drawn or {}).get(layer.name))
            finals.append(states)
            for role, state in zip(("h", "c"), states):
                values[layer.outputs[role]] = state
        elif layer.kind == "dense":
            y = _slot(layer.options, "activation")(x @ weights["weight"].T + weights.get("bias", 0.0))
        elif layer.kind == "activation":
            y = _slot(layer.options, "activation")(x)
        elif layer.kind == "dropout":
            noise = (drawn or {}).get(layer.name, {})
            y = x * noise.get("factor", 1.0) + noise.get("term", 0.0)
        elif layer.kind == "reverse":
            y = x[:, ::-1]
        elif layer.kind == "last":
            y = last(x, values[layer.inputs["mask"]] if "mask" in layer.inputs else np.ones(x.shape[:2], bool))
        elif layer.kind == "constant":
            y = np.broadcast_to(weights["value"], (batch, *weights["value"].shape))
        elif layer.kind == "positions":
            (state,) = given.get(layer.name, (np.zeros((batch, 2)),))
            y, state = positions(layer.options, x, np.asarray(state, np.float64))
            if layer.name in groups:
                finals.append(state)
        elif layer.kind == "merge":
            y = merge(layer.options, [values[name] for name in layer.inputs.values()])
        else:
            found = plain_layer(layer, weights, values)
            values.update((layer.outputs[role], value) for role, value in found.items())
            if layer.kind in ("conv1d", "conv2d", "conv_transpose") and groups.get(layer.name):
                finals.append(history_of(groups[layer.name], x))
            if layer.kind == "cumulate" and groups.get(layer.name):
                finals.append(running_of(layer.options, x))
            continue
        values[layer.outputs["y"]] = y * (drawn or {}).get(layer.name, {}).get("result", 1.0)
    return [_as_the_user(values[name], graph.layouts.get(name)) for name in graph.outputs], finals


def _as_the_value(x, layout, rank):
    """An input (batch, ...) from the user's order of axes, with as many axes of size 1 as the value has besides."""
    x = x.transpose(0, *(1 + layout.index(axis) for axis in sorted(layout)))
    for axis in range(rank):
        if str(axis) not in layout:
            x = np.expand_dims(x, 1 + axis)
    return x


def _as_the_user(y, layout):
    """An output (batch, ...) in the user's order of axes; those that it does not name have size 1."""
    if layout is None:
        return y
    named = [1 + int(axis) for axis in layout]
    y = y.transpose(0, *named, *(axis for axis in range(1, y.ndim) if axis not in named))
    return y.reshape(y.shape[: 1 + len(layout)])
