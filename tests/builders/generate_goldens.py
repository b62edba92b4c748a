"""Writes tests/data/goldens: weight files as the frameworks write them, with inputs and the frameworks' own results.

Run with PyTorch and Keras installed: ``KERAS_BACKEND=torch python -m tests.builders.generate_goldens``. Seeded, so
that it gives the same files again with the same versions (in ``versions.json`` beside them).
"""

import json

import keras
import numpy as np
import torch
from safetensors.torch import save_file

from tests import DATA

FOLDER = DATA / "goldens"
SEED = 20261120


def randomise(rng, tensors):
    """The same names with random, distinct values."""
    return {name: torch.from_numpy(rng.uniform(-0.4, 0.4, t.shape).astype(np.float32)) for name, t in tensors.items()}


def torch_golden(name, rng, lstm_options, head, lengths=None, suffix=".pt"):
    """nn.LSTM -> nn.Linear with states given, and optionally lengths; head is "Last", "LastState" or None."""
    lstm = torch.nn.LSTM(batch_first=True, **lstm_options)
    width = (lstm.proj_size or lstm.hidden_size) * (2 if lstm.bidirectional else 1)
    fc = torch.nn.Linear(width, 3)
    lstm.load_state_dict(randomise(rng, lstm.state_dict()))
    fc.load_state_dict(randomise(rng, fc.state_dict()))
    x = torch.from_numpy(rng.normal(size=(4, 7, lstm.input_size)).astype(np.float32))
    rows = lstm.num_layers * (2 if lstm.bidirectional else 1)
    h0 = torch.from_numpy(rng.uniform(-0.9, 0.9, (rows, 4, lstm.proj_size or lstm.hidden_size)).astype(np.float32))
    c0 = torch.from_numpy(rng.uniform(-0.9, 0.9, (rows, 4, lstm.hidden_size)).astype(np.float32))
    with torch.no_grad():
        if lengths is None:
            sequence, (h_n, c_n) = lstm(x, (h0, c0))
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
            )
            sequence, (h_n, c_n) = lstm(packed, (h0, c0))
            sequence, _ = torch.nn.utils.rnn.pad_packed_sequence(sequence, batch_first=True)
        if head == "Last":
            steps = [7] * 4 if lengths is None else lengths
            features = torch.stack([sequence[row, n - 1] for row, n in enumerate(steps)])
        elif head == "LastState":
            features = torch.cat([h_n[-2], h_n[-1]], dim=1) if lstm.bidirectional else h_n[-1]
        else:
            features = sequence
        y = fc(features)
    tensors = {f"lstm.{key}": value for key, value in lstm.state_dict().items()}
    tensors |= {f"fc.{key}": value for key, value in fc.state_dict().items()}
    if suffix == ".pt":
        torch.save(tensors, FOLDER / f"{name}.pt")
    else:
        save_file(tensors, FOLDER / f"{name}.safetensors")
    arrays = {"x": x, "y": y, "h0": h0, "c0": c0, "h_n": h_n, "c_n": c_n}
    arrays = {key: value.numpy() for key, value in arrays.items()}
    if lengths is not None:
        arrays["lengths"] = np.array(lengths)
    np.savez_compressed(FOLDER / f"{name}.npz", head=np.array(head or ""), **arrays)


def keras_golden(name, rng, parts, suffix):
    """A Sequential model and what it predicts."""
    network = keras.Sequential([keras.layers.Input((None, 5)), *parts])
    for variable in network.trainable_variables:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    network.save(FOLDER / f"{name}{suffix}")
    x = rng.normal(size=(4, 7, 5)).astype(np.float32)
    np.savez_compressed(FOLDER / f"{name}.npz", x=x, y=np.asarray(network.predict(x, verbose=0)))


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    torch_golden("torch_plain", rng, {"input_size": 3, "hidden_size": 5}, None)
    torch_golden("torch_stacked", rng, {"input_size": 2, "hidden_size": 18, "num_layers": 2}, "Last")
    torch_golden(
        "torch_bidirectional", rng, {"input_size": 3, "hidden_size": 7, "num_layers": 2, "bidirectional": True},
        "LastState", suffix=".safetensors",
    )  # fmt: skip
    torch_golden(
        "torch_lengths", rng, {"input_size": 3, "hidden_size": 17, "bidirectional": True}, "Last", [7, 2, 1, 5]
    )
    torch_golden("torch_projected", rng, {"input_size": 4, "hidden_size": 19, "proj_size": 6}, None)
    torch_golden("torch_no_bias", rng, {"input_size": 4, "hidden_size": 9, "bias": False}, "Last")
    layers = keras.layers
    lstm = layers.LSTM
    keras_golden("keras_plain", rng, [lstm(11), layers.Dense(3)], ".keras")
    keras_golden(
        "keras_stacked",
        rng,
        [lstm(6, return_sequences=True), layers.Dropout(0.2), lstm(17), layers.Dense(3, "softmax")],
        ".h5",
    )
    keras_golden(
        "keras_bidirectional",
        rng,
        [layers.Bidirectional(lstm(9, return_sequences=True)), layers.Dense(4, "relu"), layers.Dense(2, "sigmoid")],
        ".keras",
    )
    keras_golden(
        "keras_merge_sum",
        rng,
        [layers.Bidirectional(lstm(9, activation="softsign"), merge_mode="sum"), layers.Dense(2, "elu")],
        ".h5",
    )
    versions = {"torch": torch.__version__, "keras": keras.__version__, "seed": SEED}
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
