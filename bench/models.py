"""Whole networks beside ONNX Runtime and PyTorch: a causal stack with a GRU, a voice detector, attention, a CRNN.

``python bench/models.py [--rounds 40]``. All in one process and on one thread, each network's engines in turn, round by
round; the ratios are medians over the rounds of what an engine took to what CyLSTM took just before. ONNX Runtime runs
what ``torch.onnx.export`` makes of the module. Inputs and outputs are NumPy arrays for all of them.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import _common
import numpy as np

import cylstm

#: name -> class in tests/builders/torch_models.py, its sizes, shape of one sample
NETWORKS: dict[str, tuple[str, dict[str, int], tuple[int, ...]]] = {
    "causal stack of 6 gated blocks, 32 channels, GRU 64": (
        "WaveNet",
        {"inputs": 8, "channels": 32, "blocks": 6, "hidden": 64},
        (8, 256),
    ),
    "voice detector: convolutions with stride 4, 2 x LSTM 64": (
        "VoiceDetector",
        {"inputs": 40, "channels": 64, "hidden": 64},
        (40, 400),
    ),
    "convolution, bidirectional LSTM 64, attention pooling": (
        "AttentionPooling",
        {"inputs": 16, "channels": 64, "hidden": 64},
        (200, 16),
    ),
    "CRNN: 2 x convolution over an image and pooling, bidirectional LSTM 64": (
        "CRNN",
        {"rows": 32, "channels": 32, "hidden": 64, "classes": 40},
        (1, 32, 200),
    ),
}


def onnx_call(module: Any, x: np.ndarray) -> Callable[[], np.ndarray] | None:
    """Prediction by ONNX Runtime; None where it or the exporter is missing."""
    import torch

    try:
        import onnxruntime

        data = io.BytesIO()
        torch.onnx.export(module, (torch.from_numpy(x),), data, dynamo=False, input_names=["x"])
    except (ImportError, RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        print(f"ONNX Runtime is left out: {error}")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data.getvalue(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def torch_call(module: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    """Prediction by PyTorch in inference mode."""
    import torch

    def call() -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    return call


def measure(
    calls: dict[str, Callable[[], np.ndarray]],
    rounds: int,
    limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each engine by round, in turn; so many calls a round that CyLSTM takes about a millisecond."""
    for call in calls.values():
        for _ in range(3):
            call()
    start = time.perf_counter()
    calls["CyLSTM"]()
    count = max(1, int(1e-3 / (time.perf_counter() - start)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + limit_s
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            for _ in range(count):
                call()
            found[name].append((clock() - start) / count)
        if time.perf_counter() > end:
            break
    return found


def versions(report: Sequence[dict[str, Any]]) -> str:
    """The versions of the other engines."""
    import torch

    text = f"PyTorch {torch.__version__}"
    if any("ONNX Runtime" in one["seconds"] for one in report):
        import onnxruntime

        text += f", ONNX Runtime {onnxruntime.__version__}"
    return text


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--limit-s", type=float, default=8.0, help="for one network and batch")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--markdown", help="a file with a section 'models' to replace")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(args)
    rounds, limit_s = (2, 0.5) if options.quick else (options.rounds, options.limit_s)
    import torch

    from tests.builders import torch_models

    torch.set_num_threads(1)
    facts = _common.machine_facts()
    rows, report = [], []
    for name, (kind, sizes, shape) in NETWORKS.items():
        torch.manual_seed(1)
        module = getattr(torch_models, kind)(**sizes).eval()
        # of an image it cannot tell which sizes are the module's own
        model = cylstm.from_torch(module, inputs=("N", *shape[:-1], "T") if len(shape) == 3 else None)
        for batch in options.batches:
            x = np.random.default_rng(1).normal(size=(batch, *shape)).astype(np.float32)
            calls = {"CyLSTM": lambda model=model, x=x: model.predict(x, threads=1), "PyTorch": torch_call(module, x)}
            session = onnx_call(module, x)
            if session is not None:
                calls["ONNX Runtime"] = session
            expected = calls["PyTorch"]()
            for engine, call in calls.items():
                np.testing.assert_allclose(call(), expected, rtol=0, atol=1e-5, err_msg=engine)
            found = measure(calls, rounds, limit_s)
            cells = [_common.significant(1e6 * min(found["CyLSTM"]))]
            ratios = {}
            for engine in ("ONNX Runtime", "PyTorch"):
                if engine not in found:
                    cells.append("")
                    continue
                ratios[engine] = [other / ours for other, ours in zip(found[engine], found["CyLSTM"])]
                best = min(found[engine]) / min(found["CyLSTM"])
                cells.append(f"{_common.significant(_common.median(ratios[engine]))} ({_common.significant(best)})")
            rows.append([name, str(batch), *cells])
            print(rows[-1], flush=True)
            report.append({"network": name, "batch": batch, "seconds": found})
    header = ["network", "batch", "CyLSTM, us", "ONNX Runtime", "PyTorch"]
    text = (
        f"{_common.markdown_table(header, rows)}\n\nHow many times as long as CyLSTM the others take: median over the "
        f"rounds, in brackets of the fastest rounds. One thread. {versions(report)}.\n\n{_common.machine_text(facts)}."
    )
    print(text)
    if options.json:
        _common.write_json(options.json, {"machine": facts, "rows": report})
    if options.markdown:
        _common.write_section(options.markdown, "models", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
