"""Windows or a running state: one forecaster, trained on windows of 24 hours, fed in three ways.

Run ``python examples/windows.py`` in an environment with PyTorch. It takes a few seconds; docs/streaming.md quotes its
output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

# an installed CyLSTM comes first, then that of this checkout
sys.path.append(str(Path(__file__).resolve().parent.parent))

import cylstm

WINDOW, HIDDEN, HOURS, TRAINED = 24, 32, 6000, 4000
EPOCHS, BATCH = 12, 64


def series(hours: int, seed: int = 13) -> np.ndarray:
    """A daily cycle whose height drifts, with noise that fades slowly, around 0."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    height, noise = np.zeros(hours), np.zeros(hours)
    for n in range(1, hours):
        height[n] = 0.999 * height[n - 1] + 0.02 * rng.standard_normal()
        noise[n] = 0.9 * noise[n - 1] + 0.03 * rng.standard_normal()
    daily = np.sin(2 * np.pi * t / 24) + 0.4 * np.sin(4 * np.pi * t / 24 + 1.0)
    return (0.3 * (1.0 + height) * daily + noise).astype(np.float32)


def train(x: np.ndarray) -> dict[str, np.ndarray]:
    """An LSTM and a linear layer that forecast the next hour from windows, each from a zero state."""
    import torch

    torch.manual_seed(13)
    torch.set_num_threads(1)
    lstm, fc = torch.nn.LSTM(1, HIDDEN, batch_first=True), torch.nn.Linear(HIDDEN, 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW + 1)
    inputs, targets = torch.tensor(windows[:, :WINDOW, None].copy()), torch.tensor(windows[:, WINDOW:].copy())
    optimizer = torch.optim.Adam([*lstm.parameters(), *fc.parameters()], 2e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(inputs)).split(BATCH):
            loss = torch.mean((fc(lstm(inputs[chosen])[0][:, -1]) - targets[chosen]) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    state = {f"lstm.{name}": tensor for name, tensor in lstm.state_dict().items()}
    state |= {f"fc.{name}": tensor for name, tensor in fc.state_dict().items()}
    return {name: tensor.numpy() for name, tensor in state.items()}


def rmse(forecast: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((forecast - truth) ** 2)))


def main() -> None:
    x = series(HOURS)
    layers = [cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]
    model = cylstm.from_state_dict(train(x[:TRAINED]), layers)
    test = x[TRAINED:, None]
    hours = range(WINDOW - 1, len(test) - 1)
    truth = test[WINDOW:, 0]

    windows = np.lib.stride_tricks.sliding_window_view(test[:-1, 0], WINDOW)[:, :, None]
    predicted = model.predict(np.ascontiguousarray(windows))[:, 0]
    forecasts = {"predict on windows of 24 hours": predicted}
    for name, stream in (
        ("stream(window=24)", model.stream(window=WINDOW)),
        ("stream(window=None), a running state", model.stream(window=None)),
    ):
        steps = [stream.step(row)[0] for row in test[:-1]]
        forecasts[name] = np.array([steps[hour] for hour in hours])
    forecasts["persistence: the next hour is this one"] = test[WINDOW - 1 : -1, 0]

    same = np.array_equal(forecasts["stream(window=24)"], predicted)
    print(f"RMSE of the next hour, over {len(truth):,} hours after training:")
    for name, forecast in forecasts.items():
        print(f"  {name:40s} {rmse(forecast, truth):.3f}")
    print(f"stream(window=24) gives the bits of predict: {same}")


if __name__ == "__main__":
    main()
