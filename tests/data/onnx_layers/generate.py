"""Writes the models of this folder, and ONNX Runtime's results, for the tests that need neither."""

from pathlib import Path

import numpy as np

from tests.builders.onnx_nodes import build, by_runtime, feeds, node
from tests.formats.onnx.test_layers_live import GRU, LSTM, RNN, recurrent

FOLDER = Path(__file__).parent


def default(options, **changes):
    return {name: values[0] for name, values in options.items()} | changes


RECURRENT = {
    "lstm_of_everything": ("LSTM", default(LSTM, direction="bidirectional", clip=0.7, lengths="input", initial="input",
                                           peepholes=True, activations=LSTM["activations"][1])),
    "lstm_coupled": ("LSTM", default(LSTM, input_forget=1, direction="reverse", outputs="Y_c")),
    "gru_reset_after": ("GRU", default(GRU, linear_before_reset=1, direction="bidirectional", initial="computed")),
    "gru_reset_before": ("GRU", default(GRU, lengths="input", activations=GRU["activations"][1])),
    "rnn": ("RNN", default(RNN, direction="reverse", activations=RNN["activations"][2], clip=0.4)),
}  # fmt: skip


def uniform(*shape):
    return np.random.default_rng(sum(shape)).uniform(-0.5, 0.5, shape).astype(np.float32)


CHAINS = {
    "conv1d": ({"X": ("N", 6, "T")}, {"W": uniform(8, 3, 4), "B": uniform(8)},
               [node("Conv", ["X", "W", "B"], ["Y"], auto_pad="SAME_UPPER", strides=[2], group=2)]),
    "images": ({"X": ("N", 6, "T", 8)}, {"W": uniform(8, 6, 3, 2), "V": uniform(8, 4, 2, 3), "s": uniform(8),
                                        "m": uniform(8), "v": uniform(8) + 1},
               [node("Conv", ["X", "W"], ["a"], pads=[1, 1, 1, 0]),
                node("BatchNormalization", ["a", "s", "m", "m", "v"], ["b"]),
                node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
                node("ConvTranspose", ["c", "V"], ["Y"], strides=[2, 1], pads=[0, 1, 0, 0])]),
    "normalised": ({"X": ("N", "T", 6)}, {"W": uniform(6, 8), "g": uniform(8), "b": uniform(8)},
                   [node("MatMul", ["X", "W"], ["a"]), node("LayerNormalization", ["a", "g", "b"], ["c"]),
                    node("LpNormalization", ["c"], ["d"]), node("RMSNormalization", ["d", "g"], ["Y"])]),
    "whole_numbers": ({"X": ("N", "T", 6)}, {"W": np.arange(-12, 12, dtype=np.int8).reshape(6, 4),
                                            "s": np.linspace(0.01, 0.04, 4, dtype=np.float32),
                                            "z": np.array([1, -2, 3, 0], np.int8)},
                      [node("DequantizeLinear", ["W", "s", "z"], ["w"]), node("MatMul", ["X", "w"], ["Y"])]),
}  # fmt: skip


def write(name, model, arrays):
    (FOLDER / f"{name}.onnx").write_bytes(model)
    results = by_runtime(model, arrays)
    kept = {f"x_{key}": array for key, array in arrays.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **kept, **{f"y{k}": one for k, one in enumerate(results)})


def main():
    for name, (kind, configuration) in RECURRENT.items():
        write(name, *recurrent(kind, configuration, np.random.default_rng(len(name))))
    for name, (inputs, constants, nodes) in CHAINS.items():
        model = build(nodes, inputs, ["Y"], constants, opset=23, ir_version=10)
        write(name, model, feeds(inputs, np.random.default_rng(len(name))))


if __name__ == "__main__":
    main()
