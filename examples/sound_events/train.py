"""Train the network in PyTorch on synthetic recordings, and write ``sound_events.cylstm``: ``python train.py``.

It takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from frames import BANDS, HOP, LENGTH, log_mels
from sounds import KINDS, SAMPLE_RATE, Event, recording

import cylstm

#: the convolutions see so many frames, and what they say is of the one in the middle
SEEN = 5
#: seconds of a recording, and how many there are
SECONDS, RECORDINGS = 8, 240
EPOCHS, BATCH = 30, 16


class SoundNetwork(torch.nn.Module):
    """The probability of each kind at every frame: convolutions over time and pitch, then a GRU.

    The convolutions are not padded in time, so that each frame needs only those before it, and the network streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3, stride=(1, 2))
        self.second = torch.nn.Conv2d(8, 16, 3, stride=(1, 2))
        self.gru = torch.nn.GRU(16 * 7, 32, batch_first=True)
        self.head = torch.nn.Linear(32, len(KINDS))

    def logits(self, frames: torch.Tensor) -> torch.Tensor:
        """(batch, time, BANDS) to (batch, time - 4, KINDS)."""
        x = torch.relu(self.first(frames.unsqueeze(1)))
        x = torch.relu(self.second(x))
        return self.head(self.gru(x.permute(0, 2, 1, 3).flatten(2))[0])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.logits(frames).softmax(-1)


def labels(events: list[Event], frames: int) -> np.ndarray:
    """The kind of each frame, by its middle: (frames,)."""
    middles = (np.arange(frames) * HOP + LENGTH / 2) / SAMPLE_RATE
    found = np.zeros(frames, np.int64)
    for event in events:
        found[(event.begin <= middles) & (middles < event.end)] = KINDS.index(event.kind)
    return found


def examples(seeds: range) -> tuple[torch.Tensor, torch.Tensor]:
    """The frames of recordings, and the kinds of those that the network says something of."""
    frames, kinds = [], []
    for seed in seeds:
        samples, events = recording(SECONDS, seed)
        frames.append(log_mels(samples))
        kinds.append(labels(events, len(frames[-1]))[SEEN // 2 : -(SEEN // 2)])
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(kinds))


def train(recordings: int = RECORDINGS, epochs: int = EPOCHS, seed: int = 0) -> SoundNetwork:
    """Train the network; deterministic for one seed on one machine and version of PyTorch."""
    torch.manual_seed(seed)
    # evaluate.py has the seeds below 1000
    frames, kinds = examples(range(1000, 1000 + recordings))
    network = SoundNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    batches = -(-recordings // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * batches)
    start = time.monotonic()
    for epoch in range(epochs):
        for chosen in torch.randperm(recordings).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network.logits(frames[chosen]).transpose(1, 2), kinds[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2d} loss {loss:.4f} {time.monotonic() - start:4.0f} s", flush=True)
    return network


def save(network: SoundNetwork, path: Path) -> None:
    """Write the network as a file that needs no PyTorch, once it has predicted the same as PyTorch."""
    example = torch.from_numpy(log_mels(recording(1, 7)[0])[np.newaxis])
    model = cylstm.from_torch(network, inputs=[("N", "T", BANDS)], check=example)
    metadata = {"title": "Sound events", "trained on": "synthetic sound (sounds.py)", "kinds": list(KINDS)}
    model.save(path, metadata=metadata, check=example.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    save(train(seed=options.seed), Path(__file__).with_name("sound_events.cylstm"))


if __name__ == "__main__":
    main()
