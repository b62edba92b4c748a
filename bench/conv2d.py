"""One convolution over rows and columns beside ONNX Runtime and PyTorch: the sizes of front ends of recurrent networks.

``python bench/conv2d.py [--rounds 60]``. As `models`: all in one process and on one thread, in turn, round by round.
The thread's CPU time counts, since other programs interrupt a layer of milliseconds. Images have their rows as time and
their channels last for CyLSTM, channels first for the others: each gets its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import _common
import models
import numpy as np

import cylstm
from cylstm.graph.builder import GraphBuilder


class Case(NamedTuple):
    """One layer; "same" padding, as these networks have it."""

    rows: int
    columns: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        kind = "depthwise" if self.groups > 1 else f"{self.filters} filters"
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.rows} x {self.columns} x {self.channels}, {kind} {self.kernel} x {self.kernel}{stride}"


CASES = [
    Case(200, 64, 1, 16, 3),
    Case(200, 64, 1, 32, 3),
    Case(200, 64, 1, 64, 3),
    Case(200, 64, 1, 32, 5),
    Case(400, 64, 1, 32, 3, 2),
    Case(100, 32, 3, 32, 3),
    Case(100, 32, 16, 16, 3),
    Case(100, 32, 16, 32, 3),
    Case(100, 32, 32, 64, 3),
    Case(200, 32, 32, 32, 5),
    Case(100, 32, 64, 64, 3),
    Case(100, 32, 64, 128, 3),
    Case(100, 16, 64, 128, 3),
    Case(100, 4, 64, 128, 3),
    Case(200, 64, 32, 64, 3, 2),
    Case(200, 64, 64, 64, 3, 2),
    Case(100, 32, 16, 64, 1),
    Case(100, 32, 64, 64, 1),
    Case(100, 32, 64, 128, 1, 2),
    Case(200, 64, 16, 16, 3, 1, 16),
    Case(100, 32, 64, 64, 3, 1, 64),
    Case(200, 64, 64, 64, 3, 2, 64),
]


def pads(size: int, case: Case) -> tuple[int, int]:
    """Padding before and after of an axis, as Keras has it."""
    total = max((-(-size // case.stride) - 1) * case.stride + case.kernel - size, 0)
    return total // 2, total - total // 2


def onnx_call(case: Case, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Callable[[], np.ndarray] | None:
    """Prediction by ONNX Runtime of a network of one Conv and a Relu; None where it is missing."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        print(f"ONNX Runtime is left out: {error}")
        return None
    (top, bottom), (left, right) = pads(case.rows, case), pads(case.columns, case)
    conv = helper.make_node(
        "Conv", ["x", "weight", "bias"], ["z"], pads=[top, left, bottom, right], strides=[case.stride] * 2,
        group=case.groups,
    )  # fmt: skip
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["z"], ["y"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def torch_call(case: Case, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Callable[[], np.ndarray]:
    """Prediction by PyTorch in inference mode."""
    import torch

    arrays = [torch.from_numpy(array) for array in (x, weight, bias)]
    (top, bottom), (left, right) = pads(case.rows, case), pads(case.columns, case)
    around = (left, right, top, bottom)
    is_even = top == bottom and left == right

    def call() -> np.ndarray:
        with torch.inference_mode():
            padded = arrays[0] if is_even else torch.nn.functional.pad(arrays[0], around)
            padding = (top, left) if is_even else 0
            y = torch.nn.functional.conv2d(padded, *arrays[1:], case.stride, padding, 1, case.groups)
            return torch.relu_(y).numpy()

    return call


def calls_of(case: Case) -> dict[str, Callable[[], np.ndarray]]:
    """The engines' calls of one layer of random weights, each of which gives its own layout."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, case.rows, case.columns, case.channels)).astype(np.float32)
    shape = (case.filters, case.kernel, case.kernel, case.channels // case.groups)
    weights = {"weight": rng.normal(size=shape).astype(np.float32), "bias": rng.normal(size=case.filters).astype("f")}
    builder = GraphBuilder()
    options: dict[str, Any] = {
        "padding": "same", "groups": case.groups, "stride_rows": case.stride, "stride_columns": case.stride,
        "activation": "relu",
    }  # fmt: skip
    image = builder.input("x", (None, case.columns, case.channels))
    builder.output(builder.add("conv2d", "conv", {"x": image}, weights, options)["y"])
    model = cylstm.Model(builder.build())
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    kernel = np.ascontiguousarray(weights["weight"].transpose(0, 3, 1, 2))
    calls = {
        "CyLSTM": lambda: model.predict(x, threads=1),
        "PyTorch": torch_call(case, planes, kernel, weights["bias"]),
    }
    session = onnx_call(case, planes, kernel, weights["bias"])
    if session is not None:
        calls["ONNX Runtime"] = session
    expected = calls["PyTorch"]().transpose(0, 2, 3, 1)
    for engine, call in calls.items():
        found = call() if engine == "CyLSTM" else call().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4, err_msg=f"{engine}, {case}")
    return calls


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--limit-s", type=float, default=3.0, help="for one layer")
    parser.add_argument("--cases", type=int, nargs="+", help="indices of CASES; default: all")
    parser.add_argument("--markdown", help="a file with a section 'conv2d' to replace")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(args)
    rounds, limit_s = (2, 0.5) if options.quick else (options.rounds, options.limit_s)
    import torch

    torch.set_num_threads(1)
    facts = _common.machine_facts()
    rows, report = [], []
    for case in CASES if options.cases is None else [CASES[i] for i in options.cases]:
        found = models.measure(calls_of(case), rounds, limit_s, time.thread_time)
        outputs = -(-case.rows // case.stride) * -(-case.columns // case.stride)
        work = outputs * case.filters * case.kernel**2 * case.channels // case.groups
        best = min(found["CyLSTM"])
        cells = [_common.significant(1e6 * best), _common.significant(1e-9 * work / best)]
        for engine in ("ONNX Runtime", "PyTorch"):
            if engine in found:
                ratios = [other / ours for other, ours in zip(found[engine], found["CyLSTM"])]
                fastest = _common.significant(min(found[engine]) / best)
                cells.append(f"{_common.significant(_common.median(ratios))} ({fastest})")
            else:
                cells.append("")
        rows.append([str(case), *cells])
        print(rows[-1], flush=True)
        report.append({"layer": str(case), "seconds": found})
    header = ["layer: rows x columns x channels", "CyLSTM, us", "multiply-adds/ns", "ONNX Runtime", "PyTorch"]
    text = (
        f"{_common.markdown_table(header, rows)}\n\nHow many times as long as CyLSTM the others take: median over the "
        f"rounds, in brackets of the fastest rounds. Batch 1, one thread's CPU time, with ReLU. "
        f"{models.versions(report)}.\n\n{_common.machine_text(facts)}."
    )
    print(text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "rows": report})
    if options.markdown:
        _common.write_section(options.markdown, "conv2d", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
