"""Whole PyTorch modules, each with its inputs: what `cylstm.from_torch` is compared with PyTorch on.

A `Case` makes a module of random weights; its inputs are shapes, or whole numbers below a limit for an Embedding.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

T, N = 20, 3


class Case(NamedTuple):
    """`make` gives the module; `shapes` are those of its inputs, (shape, limit) for indices below the limit; `inputs`
    what `from_torch` is told; `streams` whether the network has to stream.
    """

    make: object
    shapes: tuple
    inputs: object = None
    streams: bool | None = None


class Traced(nn.Module):
    """Layers by name, and a forward given as a function of the module and its inputs."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            if isinstance(layer, (torch.Tensor,)):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


class Two(Traced):
    """Of two inputs."""

    def forward(self, x, y):
        return self.function(self, x, y)


class Three(Traced):
    """Of three inputs."""

    def forward(self, x, y, z):
        return self.function(self, x, y, z)


class CausalConv1d(nn.Conv1d):
    """Padded in front as far as it reaches: a class of the user's own whose forward is traced."""

    def forward(self, x):
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class ResidualBlock(nn.Module):
    """The gated residual block of a WaveNet."""

    def __init__(self, channels, dilation):
        super().__init__()
        self.conv = CausalConv1d(channels, 2 * channels, 2, dilation=dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        value, gate = self.conv(x).chunk(2, dim=1)
        h = torch.tanh(value) * torch.sigmoid(gate)
        return x + self.residual(h), self.skip(h)


class WaveNet(nn.Module):
    """A causal stack with residual and skip connections, then a GRU."""

    def __init__(self, inputs=3, channels=12, blocks=4, hidden=10):
        super().__init__()
        self.front = nn.Conv1d(inputs, channels, 1)
        self.blocks = nn.ModuleList(ResidualBlock(channels, 2**i) for i in range(blocks))
        self.gru = nn.GRU(channels, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, x):
        x = self.front(x)
        skips = 0.0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        y, _ = self.gru(F.relu(skips).transpose(1, 2))
        return self.head(y)


class VoiceDetector(nn.Module):
    """Convolutions with a stride over frames, an LSTM, and a probability for each of its steps."""

    def __init__(self, inputs=8, channels=16, hidden=14):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(inputs, channels, 4, stride=4),
            nn.ReLU(),
            nn.Conv1d(channels, channels - 4, 1),
            nn.BatchNorm1d(channels - 4),
            nn.ReLU(),
        )
        self.lstm = nn.LSTM(channels - 4, hidden, num_layers=2, batch_first=True)
        self.decoder = nn.Sequential(nn.Dropout(0.1), nn.ReLU(), nn.Conv1d(hidden, 1, 1), nn.Sigmoid())

    def forward(self, x):
        x = self.front(x)
        x, _ = self.lstm(x.permute(0, 2, 1))
        return self.decoder(x.permute(0, 2, 1)).squeeze(1)


class VoiceCell(nn.Module):
    """The same with a cell: one frame of sound in, one probability and the new state out."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 3, padding=1)
        self.cell = nn.LSTMCell(16, 14)
        self.out = nn.Conv1d(14, 1, 1)

    def forward(self, x, h, c):
        x = F.relu(self.conv(x)).mean(dim=2)
        h, c = self.cell(x, (h, c))
        y = torch.sigmoid(self.out(F.relu(h).unsqueeze(-1)))
        return y.mean(dim=2), h, c


class AttentionPooling(nn.Module):
    """Convolutions, a bidirectional LSTM, a weighted sum of its steps and a softmax."""

    def __init__(self, inputs=6, channels=16, hidden=9):
        super().__init__()
        self.conv = nn.Conv1d(inputs, channels, 5, padding="same")
        self.norm = nn.BatchNorm1d(channels)
        self.lstm = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * hidden, 7)
        self.query = nn.Linear(7, 1, bias=False)
        self.classes = nn.Linear(2 * hidden, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
        y, _ = self.lstm(x)
        weights = torch.softmax(self.query(torch.tanh(self.score(y))), dim=1)
        return F.softmax(self.classes((weights * y).sum(dim=1)), dim=-1)


class CRNN(nn.Module):
    """Convolutions and poolings over an image, whose columns are the steps of an LSTM in both directions."""

    def __init__(self, rows=8, channels=4, hidden=7, classes=5):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d((2, 1)),
        )
        self.lstm = nn.LSTM(2 * channels * (rows // 4), hidden, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        y = self.front(x).permute(0, 3, 1, 2).flatten(2)
        return self.out(self.lstm(y)[0]).log_softmax(-1)


class EncoderDecoder(nn.Module):
    """An LSTM hands its last states to another."""

    def __init__(self, kind="LSTM", layers=2):
        super().__init__()
        self.encoder = getattr(nn, kind)(6, 11, num_layers=layers, batch_first=True)
        self.decoder = getattr(nn, kind)(4, 11, num_layers=layers, batch_first=True)
        self.out = nn.Linear(11, 4)

    def forward(self, source, target):
        _, state = self.encoder(source)
        y, state = self.decoder(target, state)
        return self.out(y)


class TCN(nn.Module):
    """Padding on both sides and a cut, as many temporal convolutions have it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(5, 8, 3, padding=2)
        self.conv2 = nn.Conv1d(8, 8, 3, padding=4, dilation=2)
        self.down = nn.Conv1d(5, 8, 1)

    def forward(self, x):
        y = F.relu(self.conv1(x)[:, :, :-2].contiguous())
        y = F.dropout(F.relu(self.conv2(y)[:, :, :-4]), 0.2, self.training)
        return F.relu(y + self.down(x))


class Denoiser(nn.Module):
    """Strided and transposed convolutions around an LSTM, and skips that are cut to what came back, as Demucs has."""

    def __init__(self, channels=4, depth=2, kernel=4, stride=2):
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inner, outer = 1, channels
        for level in range(depth):
            ahead = [nn.Conv1d(inner, outer, kernel, stride), nn.ReLU(), nn.Conv1d(outer, 2 * outer, 1), nn.GLU(1)]
            back = [nn.Conv1d(outer, 2 * outer, 1), nn.GLU(1), nn.ConvTranspose1d(outer, inner, kernel, stride)]
            self.encoder.append(nn.Sequential(*ahead))
            self.decoder.insert(0, nn.Sequential(*back, *([nn.ReLU()] if level else [])))
            inner, outer = outer, 2 * outer
        self.lstm = nn.LSTM(inner, inner, 2)

    def forward(self, mix):
        scale = mix.std(dim=-1, keepdim=True)
        x, skips = mix / (1e-3 + scale), []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        for decode in self.decoder:
            x = decode(x + skips.pop()[..., : x.shape[-1]])
        return x * scale


class SelfAttention(nn.Module):
    """Attention by hand, in heads."""

    def __init__(self, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x):
        b, t, f = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (one.view(b, t, self.heads, 8 // self.heads).transpose(1, 2) for one in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(8 // self.heads), dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, f))


class EncoderLayer(nn.Module):
    """A transformer's layer around an LSTM."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, dropout=0.1, batch_first=True)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))

    def forward(self, x):
        y, _ = self.lstm(x)
        a, _ = self.attention(y, y, y, need_weights=False)
        y = self.norm1(y + a)
        return self.norm2(y + self.feed(y))


def cells_in_a_loop(m, x):
    """Over as many steps as the input has, whatever the batch."""
    assert x.dim() == 3 and x.shape[-1] == 6
    h = [x.new_zeros(x.shape[0], 7) for _ in m.cells]
    found = []
    for t in range(x.size(1)):
        y = x[:, t]
        for i, cell in enumerate(m.cells):
            h[i] = cell(y, h[i])
            y = h[i]
        found.append(y)
    return torch.stack(found, dim=1)


def split_in_steps(m, x):
    h = c = torch.zeros(x.size(0), 7, dtype=x.dtype)
    found = []
    for step in x.split(1, dim=1):
        h, c = m.cell(step, (h, c))
        found += [m.out(h)]
    for _ in range(2):
        h, c = m.cell(found[-1], (h, c))
        found += [m.out(h)]
    return torch.cat(found, dim=1)


def steps_as_rows(m, x):
    """A layer for each step as much code has it, and the batch norm and softmax of them."""
    y, _ = m.rnn(x)
    batch, time, size = y.shape
    y = torch.relu(m.norm(y.contiguous().view(batch * time, size)))
    y = m.slope(m.out(y)) + 0.5
    y = torch.cat([F.softmax(y, dim=1), torch.sigmoid(y).view(-1, y.size(1))], dim=1)
    return y.view(batch, time, -1)


def rows_of_one(m, x):
    y = m.out(m.rnn(x)[0].reshape(-1, 7))
    return torch.sigmoid(y).view(x.size(0), -1)[:, -1]


def frames_as_rows(m, x):
    """A convolution and a GRU over each frame, an LSTM over what they give."""
    batch, frames = x.shape[:2]
    rows = x.view(batch * frames, *x.shape[2:])
    y = torch.cat([m.conv(rows), m.inner(rows)[1][-1]], dim=1)
    return m.rnn(y.view(batch, frames, -1))[0]


def flattened_frames(m, x):
    y = F.relu(m.conv(torch.flatten(x, 0, 1))).mean(-1)
    return m.out(y.view(x.size(0), -1, y.shape[-1]))


def repeated_state(m, x):
    """An autoencoder for any number of steps."""
    _, (h, _) = m.rnn(x)
    y, _ = m.decoder(h[-1].unsqueeze(1).repeat(1, x.size(1), 1))
    return m.out(y)


def learned_state(m, x):
    h = m.h.expand(-1, x.size(0), -1).contiguous()
    y, _ = m.rnn(x, (h, m.c.repeat(1, x.size(0), 1)))
    return y, m.cell(x[:, 0], (m.h[0].expand(x.size(0), -1), y[:, -1]))[0]


def filters_of_words(m, x):
    """Convolutions of several widths, each pooled over all steps."""
    y = m.e(x).permute(0, 2, 1)
    y = [F.relu(conv(y)) for conv in (m.two, m.three)]
    return torch.cat([F.max_pool1d(one, one.shape[2]).squeeze(2) for one in y], dim=1)


def gates_by_hand(m, x):
    """An LSTM written out, its first state through a layer."""
    if len(x.shape) != 3:
        raise ValueError("expected three axes")
    h = c = torch.zeros(x.size(0), 7, dtype=x.dtype)
    for t in range(int(x.size(1) / 4)):
        i, f, g, o = (m.x(x[:, t]) + m.h(h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    rows = m.out(h.unsqueeze(1) * x[:, :, :1]).view(-1, 7)
    return (torch.relu(rows) * 2).view_as(x[:, :, :1] * h.unsqueeze(1))


def of_length_1(m, x):
    y = m.fc(F.normalize(m.rnn(x)[0], p=2, dim=-1)[:, -1])
    return F.normalize(y, dim=1), y / y.norm(p=2, dim=1, keepdim=True), y / torch.norm(y, dim=-1, keepdim=True)


def weighted_by_einsum(m, x):
    y, (h, _) = m.rnn(x)
    weights = torch.softmax(torch.einsum("bth,bh->bt", y, h[-1]), dim=-1)
    return torch.einsum("bt,bth->bh", weights, y), torch.einsum("b t h, b t -> h b t", y, weights).permute(1, 2, 0)


def excited(m, x):
    y = m.c(x)
    weights = torch.sigmoid(m.fc(F.adaptive_avg_pool1d(y, 1).view(y.size(0), y.size(1))))
    return F.dropout2d(y * weights.view(y.size(0), y.size(1), 1).expand_as(y), 0.1, m.training)


def unrolled(m, x):
    h = c = torch.zeros(x.size(0), 7, dtype=x.dtype)
    for t in range(4):
        h, c = m.cell(x[:, t], (h, c))
    return m.out(h)


def added_in_place(m, x):
    y = m.fc(x)
    same = y
    y += 1
    F.relu(y, inplace=True)
    return y * same


def zero_state(m, x):
    h0 = torch.zeros(2, x.size(0), 7, dtype=x.dtype)
    c0 = torch.zeros(2, x.size(0), 7, dtype=x.dtype).to(x.device)
    y, _ = m.lstm(x, (h0, c0))
    return m.out(y[:, -1, :])


def lstm(**options):
    return nn.LSTM(**{"input_size": 6, "hidden_size": 7, "batch_first": True, **options})


def recurrent(kind, **options):
    return lambda: Traced(lambda m, x: m.rnn(x)[0], rnn=getattr(nn, kind)(6, 7, batch_first=True, **options))


def chain(*layers):
    return lambda: nn.Sequential(*layers)


def function(forward, **layers):
    """A module of one function, layers made when the case is."""
    return lambda: Traced(forward, **{name: make() for name, make in layers.items()})


SEQUENCE = ((N, T, 6),)
CHANNELS = ((N, 6, T),)
LINEAR = {"fc": lambda: nn.Linear(6, 8)}

CASES: dict[str, Case] = {
    # known shapes
    "wavenet": Case(WaveNet, ((N, 3, T),), streams=True),
    "voice detector": Case(VoiceDetector, ((N, 8, 4 * T),), streams=True),
    "voice cell": Case(VoiceCell, ((N, 8, T), (N, 14), (N, 14))),
    "denoiser": Case(Denoiser, ((N, 1, 38),), streams=False),
    "attention pooling": Case(AttentionPooling, SEQUENCE),
    "crnn": Case(CRNN, ((N, 1, 8, 2 * T),), inputs=("N", 1, 8, "T")),
    "crnn of one size": Case(CRNN, ((N, 1, 8, 2 * T),), inputs=("N", 1, 8, 2 * T)),
    "encoder and decoder": Case(EncoderDecoder, (*SEQUENCE, (N, 9, 4))),
    "encoder and decoder gru": Case(lambda: EncoderDecoder("GRU", 1), (*SEQUENCE, (N, 9, 4))),
    "tcn": Case(TCN, ((N, 5, T),), streams=True),
    "self attention": Case(SelfAttention, ((N, T, 8),)),
    "self attention 4 heads": Case(lambda: SelfAttention(4), ((N, T, 8),), inputs=("N", T, 8)),
    "encoder layer": Case(EncoderLayer, ((N, T, 8),)),
    "unrolled cell": Case(
        lambda: Traced(unrolled, cell=nn.LSTMCell(6, 7), out=nn.Linear(7, 2)), ((N, 4, 6),), inputs=("N", 4, 6)
    ),
    "zero state": Case(lambda: Traced(zero_state, lstm=lstm(num_layers=2), out=nn.Linear(7, 3)), SEQUENCE),
    "cells in a loop": Case(
        lambda: Traced(cells_in_a_loop, cells=nn.ModuleList([nn.GRUCell(6, 7), nn.GRUCell(7, 7)])),
        SEQUENCE,
        ("N", T, 6),
    ),
    "split in steps": Case(
        lambda: Traced(split_in_steps, cell=nn.LSTMCell(1, 7), out=nn.Linear(7, 1)), ((N, T),), ("N", T)
    ),
    "steps as rows": Case(
        lambda: Traced(
            steps_as_rows, rnn=lstm(), norm=nn.BatchNorm1d(7), slope=nn.PReLU(4, 0.3), out=nn.Linear(7, 4)
        ),
        SEQUENCE,
        streams=True,
    ),
    "steps as rows, time first": Case(
        lambda: Traced(
            lambda m, x: (lambda y: m.out(y.view(y.size(0) * y.size(1), 7)).view(y.size(0), y.size(1), 2))(
                m.rnn(x.transpose(0, 1))[0]
            ).transpose(0, 1),
            rnn=nn.LSTM(6, 7),
            out=nn.Linear(7, 2),
        ),
        SEQUENCE,
        streams=True,
    ),
    "rows of one number": Case(lambda: Traced(rows_of_one, rnn=lstm(), out=nn.Linear(7, 1)), SEQUENCE),
    "frames as rows": Case(
        lambda: Traced(
            frames_as_rows,
            conv=nn.Sequential(nn.Conv1d(8, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten()),
            inner=nn.GRU(6, 3, batch_first=True),
            rnn=nn.LSTM(11, 7, batch_first=True),
        ),
        ((N, 5, 8, 6),),
        ("N", 5, 8, 6),
    ),
    "flattened frames": Case(
        lambda: Traced(flattened_frames, conv=nn.Conv1d(8, 4, 3), out=nn.Linear(4, 3)),
        ((N, 5, 8, 6),),
        ("N", 5, 8, 6),
    ),
    "repeated state": Case(
        lambda: Traced(repeated_state, rnn=lstm(), decoder=lstm(input_size=7), out=nn.Linear(7, 6)), SEQUENCE
    ),
    "repeated static features": Case(
        lambda: Two(
            lambda m, x, y: m.rnn(torch.cat([x, y.unsqueeze(1).expand(-1, x.size(1), -1)], dim=2))[0],
            rnn=lstm(input_size=10),
        ),
        (*SEQUENCE, (N, 4)),
        [("N", "T", 6), ("N", 4)],
    ),
    "learned state": Case(
        lambda: Traced(
            learned_state, rnn=lstm(), cell=nn.LSTMCell(6, 7), h=torch.randn(1, 1, 7), c=torch.randn(1, 1, 7)
        ),
        SEQUENCE,
    ),
    "filters of words": Case(
        lambda: Traced(
            filters_of_words, e=nn.Embedding(11, 6), two=nn.Conv1d(6, 4, 2), three=nn.Conv1d(6, 5, 3)
        ),
        (((N, T), 11),),
    ),
    "excited": Case(lambda: Traced(excited, c=nn.Conv1d(6, 8, 3), fc=nn.Linear(8, 8)), CHANNELS),
    "gates by hand": Case(
        lambda: Traced(gates_by_hand, x=nn.Linear(6, 28), h=nn.Linear(7, 28), out=nn.Linear(7, 7)),
        SEQUENCE,
        ("N", T, 6),
    ),
    "of length 1": Case(lambda: Traced(of_length_1, rnn=lstm(), fc=nn.Linear(7, 5)), SEQUENCE),
    "weighted by einsum": Case(
        lambda: Traced(weighted_by_einsum, rnn=lstm(), fc=nn.Linear(7, 1)), SEQUENCE
    ),
    "one step with its state": Case(
        lambda: Three(
            lambda m, x, y, z: m.rnn(x.unsqueeze(1), (y.unsqueeze(0), z.unsqueeze(0)))[0].squeeze(1), rnn=lstm()
        ),
        ((N, 6), (N, 7), (N, 7)),
        [("N", 6), ("N", 7), ("N", 7)],
    ),
    # recurrent layers
    "lstm": Case(recurrent("LSTM"), SEQUENCE, streams=True),
    "lstm deep": Case(recurrent("LSTM", num_layers=3, dropout=0.2), SEQUENCE, streams=True),
    "lstm bidirectional": Case(recurrent("LSTM", num_layers=2, bidirectional=True), SEQUENCE),
    "lstm projection": Case(recurrent("LSTM", proj_size=3), SEQUENCE),
    "lstm no bias": Case(recurrent("LSTM", bias=False), SEQUENCE),
    "gru": Case(recurrent("GRU", num_layers=2), SEQUENCE),
    "gru bidirectional": Case(recurrent("GRU", bidirectional=True), SEQUENCE),
    "rnn tanh": Case(recurrent("RNN"), SEQUENCE),
    "rnn relu": Case(recurrent("RNN", nonlinearity="relu", num_layers=2), SEQUENCE),
    "last step": Case(
        function(lambda m, x: m.out(m.rnn(x)[0][:, -1]), rnn=lstm, out=lambda: nn.Linear(7, 2)), SEQUENCE
    ),
    "last state": Case(function(lambda m, x: m.rnn(x)[1][0][-1], rnn=lambda: lstm(num_layers=2)), SEQUENCE),
    "both last states": Case(
        function(
            lambda m, x: torch.cat((m.rnn(x)[1][0][-2], m.rnn(x)[1][0][-1]), dim=1),
            rnn=lambda: lstm(num_layers=2, bidirectional=True),
        ),
        SEQUENCE,
    ),
    "states as a tensor": Case(
        function(
            lambda m, x: m.rnn(x)[1].transpose(0, 1).reshape(x.size(0), -1),
            rnn=lambda: nn.GRU(6, 7, num_layers=2, batch_first=True),
        ),
        SEQUENCE,
    ),
    "squeezed state": Case(function(lambda m, x: m.rnn(x)[1][0].squeeze(0), rnn=lstm), SEQUENCE),
    "first step": Case(function(lambda m, x: m.rnn(x)[0][:, 0], rnn=lstm), SEQUENCE),
    "time first": Case(
        function(
            lambda m, x: m.out(m.rnn(x.transpose(0, 1))[0][-1]),
            rnn=lambda: nn.LSTM(6, 7),
            out=lambda: nn.Linear(7, 2),
        ),
        SEQUENCE,
    ),
    "directions added": Case(
        function(lambda m, x: (lambda y: y[..., :7] + y[..., 7:])(m.rnn(x)[0]), rnn=lambda: lstm(bidirectional=True)),
        SEQUENCE,
    ),
    "directions viewed": Case(
        function(
            lambda m, x: m.rnn(x)[0].view(x.size(0), x.size(1), 2, 7).mean(dim=2), rnn=lambda: lstm(bidirectional=True)
        ),
        SEQUENCE,
    ),
    "initial state of a linear layer": Case(
        lambda: Two(
            lambda m, x, y: m.rnn(x, torch.tanh(m.start(y)).unsqueeze(0))[0],
            rnn=nn.GRU(6, 7, batch_first=True),
            start=nn.Linear(4, 7),
        ),
        (*SEQUENCE, (N, 4)),
    ),
    "flipped": Case(function(lambda m, x: torch.flip(m.rnn(torch.flip(x, [1]))[0], [1]), rnn=lstm), SEQUENCE),
    "residual lstm": Case(
        function(lambda m, x: m.norm(x + m.rnn(x)[0]), rnn=lambda: lstm(hidden_size=6), norm=lambda: nn.LayerNorm(6)),
        SEQUENCE,
        streams=True,
    ),
    "shared layer": Case(function(lambda m, x: m.fc(torch.relu(m.fc(x))), fc=lambda: nn.Linear(6, 6)), ((N, 6),)),
    # convolution and pooling
    "conv": Case(chain(nn.Conv1d(6, 9, 3)), CHANNELS),
    "conv stride": Case(chain(nn.Conv1d(6, 9, 5, stride=3, padding=2, dilation=2)), CHANNELS),
    "conv same": Case(chain(nn.Conv1d(6, 9, 4, padding="same", dilation=3)), CHANNELS),
    "conv groups": Case(chain(nn.Conv1d(6, 9, 3, groups=3, bias=False)), CHANNELS),
    "conv depthwise": Case(chain(nn.Conv1d(6, 12, 3, groups=6, padding=1), nn.Conv1d(12, 4, 1)), CHANNELS),
    **{
        f"conv {mode}": Case(
            lambda mode=mode: nn.Sequential(nn.Conv1d(6, 9, 3, padding=2, padding_mode=mode)), CHANNELS, ("N", 6, T)
        )
        for mode in ("reflect", "circular")
    },
    "conv replicate": Case(chain(nn.Conv1d(6, 9, 3, padding=2, padding_mode="replicate")), CHANNELS),
    "conv block": Case(
        chain(nn.Conv1d(6, 9, 3, padding=1), nn.BatchNorm1d(9), nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(0.1)), CHANNELS
    ),
    "conv classifier": Case(
        chain(nn.Conv1d(6, 9, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(9, 4), nn.Softmax(1)),
        CHANNELS,
    ),
    "conv flattened": Case(
        chain(nn.Conv1d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (T - 2), 5)), CHANNELS, ("N", 6, T)
    ),
    "max pool": Case(chain(nn.Conv1d(6, 6, 1), nn.MaxPool1d(3, 2, 1, ceil_mode=False)), CHANNELS),
    "max pool ceil": Case(chain(nn.Conv1d(6, 6, 1), nn.MaxPool1d(3, 2, ceil_mode=True)), CHANNELS),
    "average pool": Case(chain(nn.Conv1d(6, 6, 1), nn.AvgPool1d(4, 3, 1)), CHANNELS),
    "average pool not counting": Case(
        chain(nn.Conv1d(6, 6, 1), nn.AvgPool1d(4, 3, 1, ceil_mode=True, count_include_pad=False)), CHANNELS
    ),
    "adaptive max": Case(chain(nn.Conv1d(6, 5, 2), nn.AdaptiveMaxPool1d(1)), CHANNELS),
    "adaptive average of 5": Case(chain(nn.Conv1d(6, 5, 1), nn.AdaptiveAvgPool1d(5)), CHANNELS, ("N", 6, T)),
    "upsampled": Case(chain(nn.Conv1d(6, 5, 2, stride=2), nn.Upsample(scale_factor=2), nn.Conv1d(5, 3, 1)), CHANNELS),
    "interpolated": Case(
        function(lambda m, x: F.interpolate(m.c(x), scale_factor=3), c=lambda: nn.Conv1d(6, 4, 1)), CHANNELS
    ),
    "padded": Case(
        chain(nn.ConstantPad1d((2, 1), 0.5), nn.Conv1d(6, 4, 3), nn.ZeroPad1d(1), nn.ReplicationPad1d((1, 2))), CHANNELS
    ),
    "reflection": Case(chain(nn.ReflectionPad1d(2), nn.Conv1d(6, 4, 3)), CHANNELS, ("N", 6, T)),
    "weight norm": Case(lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 4, 3))), CHANNELS),
    "unet": Case(
        function(
            lambda m, x: m.out(torch.cat([m.a(x), F.interpolate(m.b(F.max_pool1d(m.a(x), 2)), scale_factor=2)], dim=1)),
            a=lambda: nn.Conv1d(6, 5, 3, padding=1),
            b=lambda: nn.Conv1d(5, 7, 3, padding=1),
            out=lambda: nn.Conv1d(12, 2, 1),
        ),
        CHANNELS,
        ("N", 6, T),
    ),
    "raw sound": Case(
        function(lambda m, x: m.c(x.unsqueeze(1)).squeeze(1), c=lambda: nn.Conv1d(1, 1, 5, padding=2)), ((N, T),)
    ),
    "steps of one number": Case(
        function(lambda m, x: m.rnn(x.unsqueeze(-1))[0].mean(-1), rnn=lambda: lstm(input_size=1)), ((N, T),)
    ),
    # normalisation
    "batch norm of vectors": Case(chain(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()), ((N, 6),)),
    "batch norm without affine": Case(chain(nn.BatchNorm1d(6, affine=False, eps=1e-3), nn.Conv1d(6, 3, 1)), CHANNELS),
    "layer norm": Case(function(lambda m, x: m.norm(m.rnn(x)[0]), rnn=lstm, norm=lambda: nn.LayerNorm(7)), SEQUENCE),
    "layer norm over time": Case(
        function(lambda m, x: m.norm(m.fc(x)), fc=lambda: nn.Linear(6, 4), norm=lambda: nn.LayerNorm((T, 4))),
        SEQUENCE,
        ("N", T, 6),
    ),
    "layer norm without affine": Case(chain(nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False)), ((N, 6),)),
    "rms norm": Case(chain(nn.Linear(6, 8), nn.RMSNorm(8, eps=1e-6), nn.SiLU()), ((N, 6),)),
    "group norm": Case(chain(nn.Conv1d(6, 8, 3), nn.GroupNorm(4, 8), nn.ReLU()), CHANNELS),
    "instance norm": Case(chain(nn.Conv1d(6, 8, 3), nn.InstanceNorm1d(8, affine=True)), CHANNELS),
    "instance norm tracked": Case(chain(nn.Conv1d(6, 8, 3), nn.InstanceNorm1d(8, track_running_stats=True)), CHANNELS),
    # attention
    "multihead": Case(
        lambda: Two(
            lambda m, x, y: m.a(x, y, y)[0], a=nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True)
        ),
        ((N, T, 8), (N, 9, 5)),
    ),
    "multihead time first": Case(
        function(
            lambda m, x: (lambda y: m.a(y, y, y, need_weights=False)[0])(x.transpose(0, 1)).transpose(0, 1),
            a=lambda: nn.MultiheadAttention(8, 2, bias=False),
        ),
        ((N, T, 8),),
    ),
    "multihead causal": Case(
        lambda: Traced(
            lambda m, x: m.a(x, x, x, attn_mask=m.mask, need_weights=False)[0],
            a=nn.MultiheadAttention(8, 2, batch_first=True),
            mask=nn.Transformer.generate_square_subsequent_mask(T),
        ),
        ((N, T, 8),),
        ("N", T, 8),
    ),
    "scaled dot product": Case(
        function(
            lambda m, x: F.scaled_dot_product_attention(m.fc(x), m.fc(x), x, is_causal=True), fc=lambda: nn.Linear(8, 8)
        ),
        ((N, T, 8),),
    ),
    "scaled dot product with a mask": Case(
        lambda: Traced(
            lambda m, x: F.scaled_dot_product_attention(m.fc(x), x, x, m.seen),
            fc=nn.Linear(8, 8),
            seen=torch.ones(T, T, dtype=torch.bool).triu(-2) & (torch.arange(T) != 4)[:, None],  # step 4 sees no key
        ),
        ((N, T, 8),),
        ("N", T, 8),
    ),
    "scaled dot product with a computed mask": Case(
        function(
            lambda m, x: F.scaled_dot_product_attention(
                m.fc(x), x, x, (x[:, :, :1] > x[:, :, 1:2].transpose(1, 2)) & (x[:, :, 2:3] > 0)
            ),
            fc=lambda: nn.Linear(8, 8),
        ),
        ((N, T, 8),),
        ("N", T, 8),
    ),
    "gathered": Case(
        function(
            lambda m, x: torch.gather(torch.tanh(m.fc(x)), 1, (x[:, :1] > 0).long() * 3),
            fc=lambda: nn.Linear(6, 8),
        ),
        SEQUENCE,
        ("N", T, 6),
    ),
    "learned query": Case(
        lambda: Traced(
            lambda m, x: torch.bmm(torch.softmax(x @ m.q, dim=1).unsqueeze(1), m.fc(x)).squeeze(1),
            q=torch.randn(6),
            fc=nn.Linear(6, 5),
        ),
        SEQUENCE,
    ),
    # embeddings
    "embedding": Case(
        function(
            lambda m, x: m.out(m.rnn(m.e(x))[1][0][-1]),
            e=lambda: nn.Embedding(11, 6, padding_idx=0),
            rnn=lstm,
            out=lambda: nn.Linear(7, 2),
        ),
        (((N, T), 11),),
    ),
    "embedding averaged": Case(
        function(lambda m, x: m.out(m.e(x).mean(dim=1)), e=lambda: nn.Embedding(11, 6), out=lambda: nn.Linear(6, 2)),
        (((N, T), 11),),
    ),
    "positions added": Case(
        lambda: Traced(
            lambda m, x: m.e(x) + m.p[:, : x.size(1)], e=nn.Embedding(11, 6), p=torch.randn(1, 2 * T, 6)
        ),
        (((N, T), 11),),
        ("N", T),
    ),
    "two embeddings": Case(
        lambda: Two(
            lambda m, x, y: m.rnn(torch.cat([m.a(x), m.b(y)], dim=-1))[0],
            a=nn.Embedding(11, 4),
            b=nn.Embedding(5, 2),
            rnn=lstm(),
        ),
        (((N, T), 11), ((N, T), 5)),
        {"x": ("N", T), "y": ("N", T)},
    ),
    # operations that write their result over what they read
    "in place and read again": Case(
        function(
            lambda m, x: (lambda y: (m.relu(y), y + y.mean(-1, keepdim=True)))(m.fc(x)),
            relu=lambda: nn.ReLU(True),
            **LINEAR,
        ),
        ((N, 6),),
    ),
    "in place without a name": Case(
        function(lambda m, x: (lambda y: (y.mul_(2), y)[1] + 1)(m.fc(x)), **LINEAR), ((N, 6),)
    ),
    "added in place": Case(function(added_in_place, **LINEAR), ((N, 6),)),
    # arithmetic and shapes
    "mlp": Case(chain(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1)), ((N, 6),)),
    "constants": Case(function(lambda m, x: 1 - 2 * m.fc(x) / 3 + 0.5, **LINEAR), ((N, 6),)),
    "scaled by a parameter": Case(
        lambda: Traced(
            lambda m, x: (m.fc(x) - m.mean) / m.deviation,
            fc=nn.Linear(6, 8),
            mean=torch.randn(8),
            deviation=torch.rand(8) + 0.5,
        ),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "channels scaled": Case(
        lambda: Traced(lambda m, x: m.c(x) * m.scale + m.scale, c=nn.Conv1d(6, 4, 2), scale=torch.randn(4, 1)), CHANNELS
    ),
    "squeeze and excite": Case(
        function(
            lambda m, x: (lambda y: y * torch.sigmoid(m.b(F.relu(m.a(y.mean(dim=2))))).unsqueeze(2))(m.c(x)),
            c=lambda: nn.Conv1d(6, 8, 3),
            a=lambda: nn.Linear(8, 2),
            b=lambda: nn.Linear(2, 8),
        ),
        CHANNELS,
    ),
    "values": Case(function(lambda m, x: m.fc(x).max(dim=1).values, **LINEAR), SEQUENCE, ("N", "T", 6)),
    "reductions": Case(
        function(
            lambda m, x: torch.cat([m.fc(x).mean(1), m.fc(x).amax(dim=1), m.fc(x).min(dim=1)[0], m.fc(x).sum(1)], 1),
            **LINEAR,
        ),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "of features": Case(
        function(lambda m, x: m.fc(x).mean(-1, keepdim=True) - m.fc(x).amax(-1, keepdim=True), **LINEAR),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "of time and features": Case(function(lambda m, x: m.fc(x).mean(dim=(1, 2)), **LINEAR), SEQUENCE, ("N", T, 6)),
    "standardised": Case(
        function(lambda m, x: m.fc(x) - m.fc(x).mean(dim=1, keepdim=True), **LINEAR), SEQUENCE, ("N", "T", 6)
    ),
    "split and stacked": Case(
        function(
            lambda m, x: (lambda parts: torch.stack([parts[3], -parts[0], parts[1] * 2], dim=2))(
                torch.split(m.fc(x), 2, dim=-1)
            ),
            **LINEAR,
        ),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "slices": Case(
        function(lambda m, x: torch.cat([m.fc(x)[:, 1:-1, ::2], m.fc(x)[:, 2:, 1::2]], dim=-1), **LINEAR),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "differences": Case(function(lambda m, x: m.fc(x[:, 1:] - x[:, :-1]), **LINEAR), SEQUENCE, ("N", "T", 6)),
    "frames": Case(
        function(lambda m, x: m.fc(x.reshape(x.size(0), T // 2, 6)), **LINEAR), ((N, T, 3),), ("N", T, 3)
    ),
    "time over features": Case(
        function(lambda m, x: m.fc(x.transpose(1, 2)).transpose(1, 2), fc=lambda: nn.Linear(T, T)),
        SEQUENCE,
        ("N", T, 6),
    ),
    "unflattened": Case(
        chain(nn.Linear(6, 12), nn.Unflatten(1, (3, 4)), nn.ReLU(), nn.Linear(4, 2), nn.Flatten()), ((N, 6),)
    ),
    "images of steps": Case(
        function(lambda m, x: m.fc(x.permute(0, 2, 1, 3).flatten(2)), fc=lambda: nn.Linear(12, 5)),
        ((N, 4, T, 3),),
        ("N", 4, T, 3),
    ),
    "repeated": Case(
        function(lambda m, x: m.rnn(m.fc(x).unsqueeze(1).repeat(1, 5, 1))[0], fc=lambda: nn.Linear(4, 6), rnn=lstm),
        ((N, 4),),
    ),
    "expanded": Case(
        function(lambda m, x: m.rnn(m.fc(x).unsqueeze(1).expand(-1, 5, -1))[0], fc=lambda: nn.Linear(4, 6), rnn=lstm),
        ((N, 4),),
    ),
    "three inputs": Case(
        lambda: Three(
            lambda m, x, y, z: m.out(torch.cat([m.rnn(x)[0][:, -1], m.a(y), torch.relu(m.b(z))], dim=-1)),
            rnn=lstm(),
            a=nn.Linear(4, 3),
            b=nn.Linear(5, 2),
            out=nn.Linear(12, 2),
        ),
        (*SEQUENCE, (N, 4), (N, 5)),
    ),
    "two outputs": Case(
        function(
            lambda m, x: (torch.softmax(m.fc(x), -1), m.fc(x)[:, -1].squeeze(), {"mean": m.fc(x).mean(1)}), **LINEAR
        ),
        SEQUENCE,
        ("N", "T", 6),
    ),
    # activations
    **{
        f"{type(layer).__name__.lower()} {i}": Case(
            lambda layer=layer: nn.Sequential(nn.Linear(6, 8), layer), ((N, 6),)
        )
        for i, layer in enumerate(
            [
                nn.ReLU6(), nn.Sigmoid(), nn.SELU(), nn.ELU(0.7), nn.CELU(1.3), nn.SiLU(), nn.GELU(), nn.GELU("tanh"),
                nn.Mish(), nn.Softplus(), nn.Softplus(2.0), nn.Softsign(), nn.LeakyReLU(0.2), nn.Hardtanh(-0.5, 0.7),
                nn.Hardsigmoid(), nn.Hardswish(), nn.LogSigmoid(), nn.Softshrink(0.3), nn.Tanhshrink(), nn.PReLU(),
                nn.PReLU(8), nn.GLU(), nn.Softmin(-1), nn.LogSoftmax(1), nn.LogSoftmax(-1), nn.Identity(),
            ]
        )
    },
    "prelu of channels": Case(chain(nn.Conv1d(6, 4, 2), nn.PReLU(4), nn.GLU(dim=1), nn.Softmax(dim=1)), CHANNELS),
    "log softmax of steps, channels and features": Case(
        function(
            lambda m, x: (
                F.log_softmax(m.fc(x), dim=1),
                torch.log_softmax(8 * m.fc(x), -1),
                m.fc(x).transpose(1, 2).log_softmax(1).mean(2),
                F.log_softmax(m.fc(x).view(-1, m.fc.out_features), dim=1).view(x.size(0), -1, m.fc.out_features),
            ),
            **LINEAR,
        ),
        SEQUENCE,
        ("N", "T", 6),
    ),
    "functions": Case(
        function(
            lambda m, x: F.leaky_relu(m.fc(x), 0.3)
            + F.elu(m.fc(x), alpha=0.5)
            + F.gelu(m.fc(x), approximate="tanh")
            + torch.exp(-m.fc(x).abs())
            + F.softplus(m.fc(x)) ** 2
            + m.fc(x).clamp(-0.5, 0.5)
            + torch.maximum(m.fc(x), F.silu(m.fc(x)))
            + F.hardtanh(m.fc(x)) / (1.5 + m.fc(x).sigmoid()),
            **LINEAR,
        ),
        ((N, 6),),
    ),
}  # fmt: skip


#: cases that are kept as files and checked without PyTorch
GOLDENS = [
    "wavenet",
    "voice detector",
    "attention pooling",
    "encoder and decoder",
    "tcn",
    "self attention",
    "embedding",
]


def build(name: str) -> tuple[nn.Module, list[torch.Tensor]]:
    """The module of a case with random weights and statistics, in evaluation mode, and its inputs."""
    case = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    module = case.make()
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif key.endswith("running_mean") or (tensor.ndim == 1 and key.endswith(("weight", "bias"))):
                tensor.uniform_(-0.8, 0.8)
    rng = np.random.default_rng(sum(map(ord, name)))
    tensors = []
    for shape in case.shapes:
        if isinstance(shape[0], tuple):
            tensors.append(torch.from_numpy(rng.integers(0, shape[1], shape[0])))
        else:
            tensors.append(torch.from_numpy(rng.normal(size=shape).astype(np.float32)))
    return module.eval(), tensors


def leaves(found) -> list[torch.Tensor]:
    """The tensors of what a module returns, in order."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (tuple, list)):
        return [one for part in found for one in leaves(part)]
    return [] if found is None else [found]
