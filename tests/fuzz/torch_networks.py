"""Random PyTorch networks over (batch, time, features): modules and expressions in a row, which may look back."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cylstm

from tests.fuzz import memory_folder
from tests.fuzz.against_frameworks import CannotExportError, Drawn, moved_by_last_bits
from tests.fuzz.dice import Dice

_CURVES = """
torch.tanh(x) | torch.sigmoid(x) | F.relu(x) | F.gelu(x) | F.silu(x) | F.elu(x) | F.softplus(x) | F.leaky_relu(x)
F.hardtanh(x) | F.softsign(x) | torch.sin(x) | x.abs() | x * x | x * 0.5 - 1 | torch.exp(-x.abs()) | x.clamp(-0.5, 0.7)
x.pow(3) * 0.1 | torch.sqrt(x.abs() + 0.1) | F.mish(x) | F.hardswish(x)
"""
_PARTS = """
x[:, -1] | x[:, ::2] | x[:, 1:] | x[:, :-1] | x[:, -3:] | x[:, 0] | x.flip(1) | x.roll(1, 1) | x.narrow(1, 1, 2)
x[:, x.shape[1] // 2:] | x[:, x.shape[1] // 2] | x[:, :x.shape[1] // 2] | x.chunk(2, 1)[0] | x.unfold(1, 3, 2).mean(-1)
x.narrow(1, 1, x.shape[1] - 2) | x.index_select(1, torch.tensor([0, 2, 1])) | x[:, 1:] - x[:, :-1] | x.diff(dim=1)
F.pad(x, (0, 0, 1, 0)) | F.pad(x, (0, 0, 2, 1)) | torch.cat([x, x[:, :1]], 1) | x.repeat(1, 2, 1)
x.repeat_interleave(2, 1) | F.pad(x.transpose(1, 2), (1, 1), mode="replicate").transpose(1, 2)
F.interpolate(x.transpose(1, 2), scale_factor=2).transpose(1, 2) | x.reshape(x.shape[0], -1, x.shape[2])
F.interpolate(x.transpose(1, 2), size=5, mode="nearest").transpose(1, 2) | x.unflatten(-1, (1, -1)).squeeze(2)
F.interpolate(x.transpose(1, 2), scale_factor=2, mode="linear", align_corners=False).transpose(1, 2)
x.mean(1, keepdim=True).expand(-1, x.shape[1], -1) | x.new_zeros(x.shape[0], 2, x.shape[2]) + x[:, :1]
"""
_NUMBERS = """
x.mean(1) | x.max(1)[0] | x.min(1)[0] | x.sum(1, keepdim=True) | x - x.mean(1, keepdim=True) | x.cumsum(1) | x.std(1)
x.softmax(1) | x.softmax(-1) | x.amax(-1, keepdim=True) | x.logsumexp(1) | x.var(1, keepdim=True) + x | x.prod(1)
torch.where(x > 0, x, x * 0.1) | (x > 0).float() | (x > 0.3).any(1).float() | x.masked_fill(x < 0, 0.0)
x.topk(2, 1)[0] | x.sort(1)[0] | x.cummax(1)[0] | x.square().mean(1).sqrt() | x.argmax(1).float() | x.tril()
F.glu(torch.cat([x, x], -1)) | F.normalize(x, dim=-1) | torch.cat([x, torch.flip(x, [1])], -1)
torch.stack([x, x * 2], 2).mean(2) | torch.bmm(x, x.transpose(1, 2)).softmax(-1) @ x
x / (x.norm(dim=1, keepdim=True) + 1) | torch.einsum("btf,btg->bfg", x, x)
x * torch.arange(x.shape[1]).unsqueeze(-1) / x.shape[1]
"""
_OF_ONE_STEP = """
torch.tanh(x) | x.unsqueeze(1) | x.unsqueeze(-1) | x.softmax(-1) | x * 2 - 1
x.view(x.shape[0], 1, -1).repeat(1, 3, 1)
"""
_OF_TWO = """
x + y | x * y | torch.cat([x, y], -1) | x - y.mean(1, keepdim=True) | torch.maximum(x, y) | x + y[:, -1:]
torch.cat([x, y], 1) | x * torch.sigmoid(y) | x + y[:, :x.shape[1]] | x[:, -y.shape[1]:] + y
x[:, :min(x.shape[1], y.shape[1])] + y[:, :min(x.shape[1], y.shape[1])]
"""


def _texts(lines: str) -> list[str]:
    return [text.strip() for line in lines.strip().splitlines() for text in line.split(" | ")]


class _Expression(nn.Module):
    """A line of Python over x and perhaps y."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.function = eval(f"lambda x, y=None: {text}", {"torch": torch, "F": nn.functional})

    def forward(self, x: Any, y: Any = None) -> Any:
        return self.function(x) if y is None else self.function(x, y)

    def extra_repr(self) -> str:
        return self.text


class _Recurrent(nn.Module):
    """A recurrent layer, and what is taken of what it returns."""

    def __init__(self, layer: nn.Module, taken: str) -> None:
        super().__init__()
        self.layer, self.taken = layer, taken

    def forward(self, x: Any) -> Any:
        y, state = self.layer(x)
        h = state[0] if isinstance(state, tuple) else state
        match self.taken:
            case "steps":
                return y
            case "last state":
                return h[-1]
            case "states of the last two":
                return torch.cat([h[-2], h[-1]], -1) if h.shape[0] > 1 else h[0]
        return h.transpose(0, 1).flatten(1)

    def extra_repr(self) -> str:
        return self.taken


class _Attention(nn.MultiheadAttention):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


def _over_channels(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(_Expression("x.transpose(1, 2)"), *modules, _Expression("x.transpose(1, 2)"))


def _recurrent(d: Dice, features: int) -> nn.Module:
    hidden, kind = d.whole(1, 7), d.one_of([nn.LSTM, nn.LSTM, nn.GRU, nn.RNN])
    options = {"num_layers": d.whole(1, 2), "bidirectional": d.often(0.3), "bias": d.often(0.85), "batch_first": True}
    if kind is nn.LSTM and hidden > 1 and d.often(0.2):
        options["proj_size"] = d.whole(1, hidden - 1)
    taken = d.one_of(["steps", "steps", "steps", "last state", "states of the last two", "states"])
    return _Recurrent(kind(features, hidden, **options), taken)


def _convolution(d: Dice, features: int) -> nn.Module:
    kernel, stride, dilation, groups = d.whole(1, 4), d.whole(1, 3), d.whole(1, 3), d.one_of([1, 1, features])
    padding = d.one_of([0, (kernel - 1) * dilation // 2, "same", (kernel - 1) * dilation])
    mode = d.one_of(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    if d.often(0.2):
        crop, more = d.whole(0, (kernel - 1) // 2), d.whole(0, stride - 1)
        return _over_channels(
            nn.ConvTranspose1d(features, d.whole(1, 4), kernel, stride=stride, padding=crop, output_padding=more)
        )
    return _over_channels(
        nn.Conv1d(
            features,
            groups * d.whole(1, 4),
            kernel,
            stride=1 if padding == "same" else stride,
            dilation=dilation,
            padding=padding,
            groups=groups,
            padding_mode=mode,
        )
    )


def _pooling(d: Dice, features: int) -> nn.Module:
    size = d.whole(2, 4)
    options = {"stride": d.one_of([None, 1, 2]), "padding": d.whole(0, size // 2), "ceil_mode": d.often(0.3)}
    choices = [
        lambda: nn.MaxPool1d(size, **options),
        lambda: nn.AvgPool1d(size, **options, count_include_pad=d.often()),
        lambda: nn.AdaptiveAvgPool1d(d.whole(1, 3)),
        lambda: nn.AdaptiveMaxPool1d(1),
        lambda: nn.LPPool1d(2, 2),
    ]
    return _over_channels(d.one_of(choices)())


def _norm(d: Dice, features: int) -> nn.Module:
    divisors = [groups for groups in range(1, features + 1) if features % groups == 0]
    choices = [
        lambda: nn.LayerNorm(features),
        lambda: nn.RMSNorm(features),
        lambda: _over_channels(nn.BatchNorm1d(features)),
        lambda: _over_channels(nn.GroupNorm(d.one_of(divisors), features)),
        lambda: _over_channels(nn.InstanceNorm1d(features, affine=d.often())),
    ]
    return d.one_of(choices)()  # type: ignore[no-any-return]


def _attention(d: Dice, features: int) -> nn.Module:
    if d.often():
        heads = [heads for heads in range(1, features + 1) if features % heads == 0]
        return _Attention(features, d.one_of(heads), batch_first=True)
    options = {"norm_first": d.often(), "activation": d.one_of(["relu", "gelu"])}
    return nn.TransformerEncoderLayer(features, 1, 8, batch_first=True, **options)


def _plain(d: Dice, features: int) -> nn.Module:
    choices = [
        lambda: nn.Linear(features, d.whole(1, 7), bias=d.often(0.8)),
        lambda: nn.Sequential(nn.Linear(features, d.whole(1, 7)), d.one_of([nn.Tanh(), nn.ReLU(), nn.GELU()])),
        lambda: d.one_of([nn.PReLU(), nn.Dropout(0.3), nn.Softmax(-1), nn.LogSoftmax(1), nn.ReLU6(), nn.Softshrink()]),
    ]
    return d.one_of(choices)()  # type: ignore[no-any-return]


def _expression(lines: str) -> Callable[[Dice, int], nn.Module]:
    texts = _texts(lines)
    return lambda d, features: _Expression(d.one_of(texts))


#: what is made over sequences, some of it more often
_MAKERS: Sequence[Callable[[Dice, int], nn.Module]] = (
    *[_recurrent] * 5, *[_convolution] * 3, _pooling, _norm, _norm, _attention, *[_plain] * 3,
    _expression(_CURVES), *[_expression(_PARTS)] * 2, *[_expression(_NUMBERS)] * 2,
)  # fmt: skip


class _Network(nn.Module):
    """Modules, each of which reads one value or two of those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self.read: list[tuple[int, ...]] = []

    def forward(self, x: Any) -> Any:
        values = [x]
        for part, places in zip(self.parts, self.read):
            values.append(part(*(values[place] for place in places)))
        return values[-1]

    def text(self) -> str:
        parts = zip(self.parts, self.read)
        return "\n".join(
            f"  v{i} = {' '.join(repr(part).split())} of v{read}" for i, (part, read) in enumerate(parts, 1)
        )


def _part(d: Dice, values: list[torch.Tensor], place: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A module, and which values it reads."""
    x = values[place]
    others = [i for i, other in enumerate(values) if other.dim() == 3 and i != place]
    if x.dim() == 3 and others and d.often(0.2):
        return _expression(_OF_TWO)(d, 0), (place, d.one_of(others))
    if x.dim() == 3:
        return d.one_of(_MAKERS)(d, x.shape[2]), (place,)
    if d.often(0.3):
        return nn.Linear(x.shape[1], d.whole(1, 5)), (place,)
    return _expression(_OF_ONE_STEP)(d, 0), (place,)


def _network(d: Dice, x: torch.Tensor) -> _Network:
    network, values = _Network(), [x]
    while not network.read:
        for _ in range(d.whole(1, 6)):
            part, read = _part(d, values, len(values) - 1 if d.often(0.8) else d.whole(0, len(values) - 1))
            try:
                y = part.eval()(*(values[place] for place in read))
            except (RuntimeError, ValueError, IndexError, AssertionError):
                continue
            if y.dim() in (2, 3) and y.shape[0] == len(x) and y.numel() and y.dtype == x.dtype:
                network.parts.append(part)
                network.read.append(read)
                values.append(y)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor += torch.randn_like(tensor) * 0.1
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.3, 2.0)  # type: ignore[union-attr]
    return network.eval()


def _from_onnx(network: nn.Module, x: torch.Tensor, *, dynamo: bool) -> cylstm.Model:
    with tempfile.TemporaryDirectory(prefix="cylstm-fuzz-", dir=memory_folder()) as folder:
        path = Path(folder, "network.onnx")
        options: dict[str, Any] = {"dynamic_axes": {"x": {0: "batch", 1: "time"}}, "input_names": ["x"]}
        if dynamo:
            options = {"dynamic_shapes": ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},), "verbose": False}
        try:
            with _quiet():
                torch.onnx.export(network, (x,), path, dynamo=dynamo, **options)
        except Exception as error:
            raise CannotExportError from error
        return cylstm.load(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters write, in C too."""
    sys.stdout.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in kept:
        os.dup2(nothing, descriptor)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        for descriptor, before in kept.items():
            os.dup2(before, descriptor)
            os.close(before)
        os.close(nothing)


def draw(d: Dice) -> Drawn:
    """A network that is shown 17 to 30 steps."""
    torch.set_num_threads(1)
    torch.manual_seed(d.whole(0, 2**30))
    x = torch.randn(2, d.one_of([17, 20, 24, 30]), d.whole(2, 6))
    network = _network(d, x)

    def inputs(batch: int, steps: int | None) -> list[np.ndarray]:
        return [d.rng.normal(size=(batch, steps or x.shape[1], x.shape[2])).astype(np.float32)]

    @torch.no_grad()
    def compute(arrays: list[np.ndarray], *, moved: bool = False) -> list[np.ndarray]:
        if not moved:
            return [network(torch.from_numpy(arrays[0])).numpy()]
        kept = [tensor.clone() for tensor in network.parameters()]
        try:
            for tensor in network.parameters():
                tensor.copy_(torch.from_numpy(moved_by_last_bits(d.rng, tensor.numpy())))
            return [network(torch.from_numpy(moved_by_last_bits(d.rng, arrays[0]))).numpy()]
        finally:
            for tensor, old in zip(network.parameters(), kept):
                tensor.copy_(old)

    def live() -> cylstm.Model:
        with _quiet():
            return cylstm.from_torch(network, x)

    ways = {
        "from_torch": live,
        "onnx": lambda: _from_onnx(network, x, dynamo=True),
        "onnx of TorchScript": lambda: _from_onnx(network, x, dynamo=False),
    }
    return Drawn(inputs, compute, ways, f"  {tuple(x.shape)}\n{network.text()}")
