"""Writes ``stateful.*`` beside it: ``python generate.py`` in an environment with tensorflow-cpu==2.15.* (Keras 2.15).

Of two stacked layers one is stateful and one is not. ``stateful.npz`` holds what Keras predicts for chunks of several
steps one after the other (``x0``, ``y0``, ...), the states reset before the last one.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
from tensorflow.keras import Input, Sequential
from tensorflow.keras.layers import GRU, LSTM, Dense

FOLDER = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(216)
    layers = [LSTM(5, stateful=True, return_sequences=True, name="kept"), GRU(4, name="new"), Dense(2)]
    model = Sequential([Input(batch_shape=(3, None, 3)), *layers])
    model.set_weights([rng.normal(0.0, 0.6, array.shape).astype(np.float32) for array in model.get_weights()])
    found = {}
    for i, steps in enumerate((4, 1, 1, 6, 2)):
        if i == 4:
            model.reset_states()
        x = rng.standard_normal((3, steps, 3)).astype(np.float32)
        found |= {f"x{i}": x, f"y{i}": model.predict(x, batch_size=3, verbose=0)}
    for ending in (".keras", ".h5"):
        model.save(FOLDER / f"stateful{ending}")
    np.savez_compressed(FOLDER / "stateful.npz", **found)


if __name__ == "__main__":
    main()
