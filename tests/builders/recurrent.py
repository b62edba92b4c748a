"""Recurrent layers of every kind, as the arguments of `GraphBuilder.add`: kind, weights and options."""

import numpy as np


def weight(rng, *shape):
    """Random float32 numbers, smaller where a row is longer, so that sums stay near 1."""
    return rng.uniform(-1.0, 1.0, shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))


def lstm(rng, inputs, hidden, gates=4, projection=0, vectors=(), **options):
    rows = gates * hidden
    weights = {"weight_ih": weight(rng, rows, inputs), "weight_hh": weight(rng, rows, projection or hidden)}
    weights |= {"weight_hr": weight(rng, projection, hidden)} if projection else {}
    weights |= {role: rng.uniform(-0.7, 0.7, size).astype(np.float32) for role, size in vectors}
    return "lstm", weights, options


def plain_lstm(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, vectors=[("bias", 4 * hidden)])


def projected(rng, inputs, hidden):
    return lstm(rng, inputs, hidden, projection=hidden // 12 or 1, vectors=[("bias", 4 * hidden)])


def peepholes(rng, inputs, hidden):
    vectors = [(f"peephole_{gate}", hidden) for gate in "ifo"]
    return lstm(rng, inputs, hidden, vectors=vectors, cell_clip=0.4, gate_clip=0.9)


def coupled(rng, inputs, hidden):
    slope = {"recurrent_activation_alpha": 1.0 / 6.0, "recurrent_activation_beta": 0.5}
    return lstm(rng, inputs, hidden, 3, coupled="i=1-f", recurrent_activation="hard_sigmoid", **slope)


def normalised(rng, inputs, hidden, mode="carried"):
    vectors = [(f"norm_{of}_{part}", 4 * hidden) for of in ("ih", "hh") for part in ("gain", "shift")]
    vectors += [(f"norm_c_{part}", hidden) for part in ("gain", "shift")]
    return lstm(rng, inputs, hidden, vectors=vectors, layer_norm=mode, epsilon=1e-2)


def normalised_output(rng, inputs, hidden):
    return normalised(rng, inputs, hidden, "output")


def gru(rng, inputs, hidden, reset_after=True):
    weights = {"weight_ih": weight(rng, 3 * hidden, inputs), "weight_hh": weight(rng, 3 * hidden, hidden)}
    roles = ("bias_ih", "bias_hh") if reset_after else ("bias_ih",)
    weights |= {role: rng.uniform(-0.7, 0.7, 3 * hidden).astype(np.float32) for role in roles}
    return "gru", weights, {"reset_after": reset_after}


def gru_before(rng, inputs, hidden):
    return gru(rng, inputs, hidden, reset_after=False)


def rnn(rng, inputs, hidden):
    weights = {"weight_ih": weight(rng, hidden, inputs), "weight_hh": weight(rng, hidden, hidden)}
    return "rnn", weights | {"bias": rng.uniform(-0.7, 0.7, hidden).astype(np.float32)}, {}


KINDS = [plain_lstm, projected, peepholes, coupled, normalised, normalised_output, gru, gru_before, rnn]


CONV_LSTM_SHAPE = (3, 5, 2)


def conv_lstm(rng, filters):
    """Over images of `CONV_LSTM_SHAPE` with padding "same", so that h has as many positions."""
    options = {"conv_padding": "same"}
    for axis, (size, kernel) in {"rows": (CONV_LSTM_SHAPE[0], 2), "columns": (CONV_LSTM_SHAPE[1], 3)}.items():
        options |= {f"input_{axis}": size, f"kernel_{axis}": kernel, f"stride_{axis}": 1, f"dilation_{axis}": 1}
    weights = {
        "weight_ih": weight(rng, 4 * filters, 6 * CONV_LSTM_SHAPE[2]),
        "weight_hh": weight(rng, 4 * filters, 6 * filters),
    }
    return "conv_lstm", weights, options


def numbers(rng, *shape):
    """Random float32 numbers around 0."""
    return rng.normal(size=shape).astype(np.float32)
