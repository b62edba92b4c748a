"""ncnn: its LSTM layer, with the parameters and weights written as ncnn's converters write them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ncnn
import numpy as np

from ._peer import Cell, Peer


class Ncnn(Peer):
    """Two nets: a step with states in and out, a sequence from zero states. ncnn has no batches.

    Float32 throughout: storage and arithmetic in half precision are switched off.
    """

    name = "ncnn"

    def __init__(self, cell: Cell, *, batch: int, time: int, threads: int) -> None:
        if batch != 1:
            raise NotImplementedError("its LSTM takes one sequence at a time")
        self.shape = (1, cell.hidden_size)
        self.names = [(f"h{k}_given", f"c{k}_given", f"h{k}_new", f"c{k}_new") for k in range(cell.layers)]
        self.outputs = [name for names in self.names for name in names[2:]]
        self.step_net = _net(cell, threads, with_states=True)
        self.sequence_net = _net(cell, threads, with_states=False)
        self.reset()

    @classmethod
    def version(cls) -> str:
        return ncnn.__version__

    def reset(self) -> None:
        zeros = np.zeros(self.shape, np.float32)
        # clones, as a Mat made from an array neither owns its memory nor keeps the array alive
        self.states = [(name, ncnn.Mat(zeros).clone()) for names in self.names for name in names[:2]]

    def step_input(self, x: np.ndarray) -> ncnn.Mat:
        return ncnn.Mat(x).clone()

    def sequence_input(self, x: np.ndarray) -> ncnn.Mat:
        return ncnn.Mat(x[0]).clone()

    def step(self, x: ncnn.Mat) -> ncnn.Mat:
        extractor = self.step_net.create_extractor()
        extractor.input("x", x)
        for name, state in self.states:
            extractor.input(name, state)
        found = [extractor.extract(name)[1] for name in self.outputs]
        self.states = [(name, state) for (name, _), state in zip(self.states, found)]
        return found[-2]

    def sequence(self, x: ncnn.Mat) -> ncnn.Mat:
        extractor = self.sequence_net.create_extractor()
        extractor.input("x", x)
        return extractor.extract("y")[1]

    def result(self, y: ncnn.Mat) -> np.ndarray:
        y = np.array(y)
        return y if len(y) == 1 else y[np.newaxis]


def net_files(cell: Cell, with_states: bool) -> tuple[str, bytes]:
    """The layers as a ``.param`` text and a ``.bin`` of float32 weights."""
    layers, weights = [], bytearray()
    blobs = {"x"}

    def add(kind: str, name: str, reads: list[str], writes: list[str], parameters: str = "") -> None:
        blobs.update(writes)
        layers.append(" ".join([kind, name, str(len(reads)), str(len(writes)), *reads, *writes, parameters]))

    add("Input", "x", [], ["x"])
    source = "x"
    for k in range(cell.layers):
        states, new = [], []
        if with_states:
            states, new = [f"h{k}_given", f"c{k}_given"], [f"h{k}_new", f"c{k}_new"]
            for name in states:
                add("Input", name, [], [name])
        size = cell.input_size if k == 0 else cell.hidden_size
        target = "y" if k == cell.layers - 1 else f"y{k}"
        # 0: outputs, 1: size of the input weights, 2: forward
        parameters = f"0={cell.hidden_size} 1={4 * cell.hidden_size * size} 2=0"
        add("LSTM", f"lstm{k}", [source, *states], [target, *new], parameters)
        source = target
        weight_ih, weight_hh, bias_ih, bias_hh = cell.layer(k)
        for tensor in (weight_ih, bias_ih + bias_hh, weight_hh):
            i, f, g, o = np.split(tensor, 4)
            weights += bytes(4) + np.concatenate([i, f, o, g]).tobytes()  # the zero says: float32
    # 7767517: ncnn's mark
    return "\n".join(["7767517", f"{len(layers)} {len(blobs)}", *layers, ""]), bytes(weights)


def _net(cell: Cell, threads: int, with_states: bool) -> ncnn.Net:
    """The net of the layers, loaded from its files."""
    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder, "lstm.param"), Path(folder, "lstm.bin")
        text, weights = net_files(cell, with_states)
        param.write_text(text)
        binary.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise ValueError("ncnn cannot load the network written for it")
    return net


PEERS = (Ncnn,)
