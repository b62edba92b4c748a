"""Train the network in PyTorch on synthetic machines, and write ``machine.cylstm``: ``python train.py``.

It takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from vibration import CHUNK, STATES, machine

import cylstm

#: chunks of a machine in an example, and machines
CHUNKS, MACHINES = 48, 900
EPOCHS, BATCH = 40, 32
#: steps of the GRU before which nothing is asked of it: a second
UNSURE = 64


class VibrationNetwork(torch.nn.Module):
    """The probability of each state of a machine: convolutions that take 64 samples to a step, then a GRU.

    The convolutions are not padded, so that each step needs only what came before it, and the network streams.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv1d(1, 16, 16, stride=8)
        self.second = torch.nn.Conv1d(16, 24, 16, stride=8)
        self.gru = torch.nn.GRU(24, 24, batch_first=True)
        self.head = torch.nn.Linear(24, len(STATES))

    def logits(self, samples: torch.Tensor) -> torch.Tensor:
        """(batch, time, 1) to (batch, steps, STATES)."""
        x = torch.relu(self.first(samples.transpose(1, 2)))
        x = torch.relu(self.second(x))
        return self.head(self.gru(x.transpose(1, 2))[0])

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.logits(samples).softmax(-1)


def examples(numbers: range, chunks: int = CHUNKS) -> tuple[torch.Tensor, torch.Tensor]:
    """The vibration of machines, (machines, time, 1), and their states."""
    machines = [machine(number) for number in numbers]
    samples = np.stack([np.concatenate([one.chunk() for _ in range(chunks)]) for one in machines])
    return torch.from_numpy(samples)[..., None], torch.tensor([STATES.index(one.state) for one in machines])


def train(machines: int = MACHINES, epochs: int = EPOCHS, seed: int = 0) -> VibrationNetwork:
    """Train the network; deterministic for one seed on one machine and version of PyTorch."""
    torch.manual_seed(seed)
    # evaluate.py has the machines below 1000
    samples, states = examples(range(1000, 1000 + machines))
    network = VibrationNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * -(-machines // BATCH))
    start = time.monotonic()
    for epoch in range(epochs):
        for chosen in torch.randperm(machines).split(BATCH):
            logits = network.logits(samples[chosen])[:, UNSURE:]
            wanted = states[chosen, None].expand(logits.shape[:2])
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2d} loss {loss:.4f} {time.monotonic() - start:4.0f} s", flush=True)
    return network


def save(network: VibrationNetwork, path: Path) -> None:
    """Write the network as a file that needs no PyTorch, once it has predicted the same as PyTorch."""
    example = examples(range(1), 4)[0]
    model = cylstm.from_torch(network, inputs=[("N", "T", 1)], check=example)
    metadata = {"title": "Vibration of machines", "trained on": "synthetic machines (vibration.py)"}
    model.save(path, metadata=metadata | {"states": list(STATES), "samples of a message": CHUNK}, check=example.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    save(train(seed=options.seed), Path(__file__).with_name("machine.cylstm"))


if __name__ == "__main__":
    main()
