"""Writes the models here and what PyTorch computes: ``python tests/data/onnx/generate.py``, with onnxscript.

A small voice detector, as such models are: a reflection padding, an STFT as a convolution, its magnitudes, more
convolutions, one LSTM whose state is an input and an output, and a probability. ``detector.onnx`` has one tensor for
the state and is written by the exporter of TorchScript, with a batch of any size; ``cell.onnx`` has two and a cell that
is written out, by that of torch.export, for a batch of one row.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

FOLDER = Path(__file__).parent


class Detector(nn.Module):
    """x (batch, 36) and a state (2, batch, 8) -> probability (batch, 1), new state."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 18, 16, stride=8, bias=False)
        self.c1, self.c2 = nn.Conv1d(9, 8, 3, 1, 1), nn.Conv1d(8, 6, 3, 2, 1)
        self.c3, self.c4 = nn.Conv1d(6, 6, 3, 2, 1), nn.Conv1d(6, 8, 3, 1, 1)
        self.lstm, self.out = nn.LSTM(8, 8), nn.Conv1d(8, 1, 1)

    def features(self, x):
        x = self.stft(F.pad(x, (0, 4), "reflect").unsqueeze(1))
        x = torch.sqrt(x[:, :9] ** 2 + x[:, 9:] ** 2)
        for conv in (self.c1, self.c2, self.c3, self.c4):
            x = F.relu(conv(x))
        return x

    def probability(self, h):
        return torch.sigmoid(self.out(F.relu(h).unsqueeze(-1))).squeeze(1).mean(1, keepdim=True)

    def forward(self, x, state):
        y, (h, c) = self.lstm(self.features(x).permute(2, 0, 1), (state[0].unsqueeze(0), state[1].unsqueeze(0)))
        return self.probability(y[0]), torch.cat([h, c])


class Cell(Detector):
    """x (batch, 36), h and c (batch, 8) -> probability (batch, 1), new h and c; the LSTM is a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(8, 8)

    def forward(self, x, h, c):
        h, c = self.lstm(self.features(x).squeeze(-1), (h, c))
        return self.probability(h), h, c


def plain(path: Path) -> None:
    """Leave out where in the sources each node comes from."""
    model = onnx.load(path)
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    onnx.save(model, path)


def main() -> None:
    torch.manual_seed(3)
    detector, cell = Detector().eval(), Cell().eval()
    for module in (detector, cell):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.4)
    one, several = torch.zeros(1, 36), torch.zeros(3, 36)
    torch.onnx.export(
        detector, (several, torch.zeros(2, 3, 8)), FOLDER / "detector.onnx", dynamo=False, opset_version=16,
        input_names=["input", "state"], output_names=["output", "stateN"],
        dynamic_axes={"input": {0: "batch"}, "state": {1: "batch"}},
    )  # fmt: skip
    torch.onnx.export(
        cell, (one, torch.zeros(1, 8), torch.zeros(1, 8)), FOLDER / "cell.onnx", dynamo=True,
        input_names=["input", "h", "c"], output_names=["output", "hn", "cn"], external_data=False,
    )  # fmt: skip
    for path in FOLDER.glob("*.onnx"):
        plain(path)
    x = np.random.default_rng(4).standard_normal((5, 3, 36)).astype(np.float32)
    found = {"x": x.transpose(1, 0, 2)}
    with torch.no_grad():
        for name, module, states in (
            ("detector", detector, [torch.zeros(2, 3, 8)]),
            ("cell", cell, [torch.zeros(3, 8), torch.zeros(3, 8)]),
        ):
            results = []
            for chunk in x:
                y, *states = module(torch.from_numpy(chunk), *states)
                results.append(y.numpy())
            found[name] = np.stack(results, 1)
            found[f"{name}_h"] = states[0].numpy() if name == "cell" else states[0][0].numpy()
    np.savez_compressed(FOLDER / "expected.npz", **found)


if __name__ == "__main__":
    main()
