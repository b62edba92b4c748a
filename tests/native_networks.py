"""A network for every operation and option that a native file may hold; test_native.py saves and loads them.

``python tests/native_networks.py`` writes those of the current format version to ``tests/data/native/version-N``, each
beside an ``.npz`` with an input and the prediction. Files once written stay: later versions have to read them.
"""

import sys
from pathlib import Path

import numpy as np

import cylstm
from cylstm import layers as L
from cylstm.formats.safetensors import FORMAT_VERSION

from weight_files import linear_tensors, lstm_tensors

FOLDER = Path(__file__).parent / "data" / "native"


def recurrent_tensors(rng, prefix, inputs, hidden, gates, biases=("bias_ih", "bias_hh")):
    shapes = {"weight_ih": (gates * hidden, inputs), "weight_hh": (gates * hidden, hidden)}
    shapes |= dict.fromkeys(biases, (gates * hidden,))
    return {f"{prefix}.{role}_l0": random(rng, shape) for role, shape in shapes.items()}


def random(rng, shape):
    return rng.uniform(-0.6, 0.6, shape).astype(np.float32)


def networks():
    """Name -> (model, input of one batch)."""
    rng = np.random.default_rng(20261120)
    x = random(rng, (3, 6, 4))

    def lstm(**options):
        return lstm_tensors(rng, "lstm", 4, 5, **options)

    def build(tensors, *layers, x=x, metadata=None, **options):
        model = cylstm.from_state_dict(tensors, list(layers), **options)
        model.graph.metadata.update(metadata or {})
        return cylstm.Model(model.graph, **options), x

    peepholes = {f"lstm.weight_p{gate}_l0": random(rng, (5,)) for gate in "ifo"}
    norms = {
        f"lstm.{name}_l0.{part}": random(rng, (size,))
        for name, size in (("norm_ih", 20), ("norm_hh", 20), ("norm_c", 5))
        for part in ("weight", "bias")
    }
    coupled = recurrent_tensors(rng, "lstm", 4, 5, 3)
    conv = {
        "conv.weight_ih": random(rng, (12, 2, 3)),
        "conv.weight_hh": random(rng, (12, 3, 3)),
        "conv.bias": random(rng, (12,)),
    }
    conv2 = {"conv.weight_ih": random(rng, (8, 2, 3, 2)), "conv.weight_hh": random(rng, (8, 2, 3, 2))}
    found = {
        "lstm": build(
            lstm() | linear_tensors(rng, "fc", 5, 2),
            L.LSTM("lstm"),
            L.Last(),
            L.Linear("fc"),
            metadata={"unit": "µg/m³"},
        ),
        "lstm_stacked_bidirectional_projected": build(
            lstm(layers=2, directions=2, projection=3), L.LSTM("lstm"), L.LastState()
        ),
        "lstm_float64": build(lstm(dtype=np.float64), L.LSTM("lstm"), dtype="float64"),
        "lstm_without_bias": build(lstm(bias=False), L.LSTM("lstm", padding="repeat", empty_state="zero")),
        "lstm_activations": build(
            lstm(),
            L.LSTM(
                "lstm", activation=L.LeakyReLU(0.3), recurrent_activation="hard_sigmoid", output_activation="softsign"
            ),
        ),
        "lstm_peepholes_clips": build(
            lstm() | peepholes, L.LSTM("lstm", peepholes=True, cell_clip=0.3, gate_clip=0.7), L.Dropout(1 / 3)
        ),
        "lstm_no_forget_gate": build(coupled, L.LSTM("lstm", forget_gate=False)),
        "lstm_coupled": build(coupled, L.LSTM("lstm", coupled="f=1-i")),
        "lstm_layer_norm": build(lstm() | norms, L.LSTM("lstm", layer_norm="carried", epsilon=2e-3)),
        "lstm_backwards": build(lstm(), L.LSTM("lstm", reverse=True), L.Reverse(), L.ELU(0.7), L.Softmax()),
        "lstm_two_outputs": build(
            lstm(directions=2), L.LSTM("lstm", merge=None, backward=L.LSTM("", activation="relu"))
        ),
        **{
            f"lstm_merge_{mode}": build(lstm(directions=2), L.LSTM("lstm", merge=mode))
            for mode in ("sum", "mul", "ave")
        },
        "gru": build(recurrent_tensors(rng, "gru", 4, 5, 3), L.GRU("gru")),
        "gru_reset_before": build(
            recurrent_tensors(rng, "gru", 4, 5, 3), L.GRU("gru", reset_after=False, gate_clip=0.5)
        ),
        "rnn": build(recurrent_tensors(rng, "rnn", 4, 5, 1), L.RNN("rnn", activation="relu")),
        "conv_lstm_1d": build(conv, L.ConvLSTM("conv", (7,), conv_padding="same"), x=random(rng, (2, 3, 7, 2))),
        "conv_lstm_2d": build(conv2, L.ConvLSTM("conv", (5, 6), strides=2), x=random(rng, (2, 3, 5, 6, 2))),
        "shared": build(
            linear_tensors(rng, "fc", 4, 4) | lstm(), L.Linear("fc"), L.ReLU(), L.Linear("fc", "tanh"), L.LSTM("lstm")
        ),
    }
    return found


def main():
    folder = FOLDER / f"version-{FORMAT_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (model, x) in networks().items():
        if (folder / f"{name}.cylstm").exists():
            print(f"{name}: kept as it is", file=sys.stderr)
            continue
        model.save(folder / f"{name}.cylstm")
        y = model.predict(x)
        outputs = y if isinstance(y, list) else [y]
        np.savez_compressed(folder / f"{name}.npz", x=x, **{f"y{i}": array for i, array in enumerate(outputs)})


if __name__ == "__main__":
    main()
