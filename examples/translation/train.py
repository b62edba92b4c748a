"""Trains the network of translate.py with teacher forcing, and writes numbers.keras.

Run ``KERAS_BACKEND=torch python examples/translation/train.py`` in an environment with Keras. It takes some minutes.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from translate import CHARACTERS, END, START, VOCABULARY, spelled

layers = keras.layers
UNITS, EMBEDDED = 32, 10


def network() -> keras.Model:
    """The encoder's last states start the decoder, which is given the right character before each that it predicts."""
    words = keras.Input((None,), name="words", dtype="int32")
    before = keras.Input((None,), name="before", dtype="int32")
    x = layers.Embedding(len(VOCABULARY), EMBEDDED, mask_zero=True, name="word_vectors")(words)
    _, h, c = layers.LSTM(UNITS, return_state=True, name="encoder")(x)
    y = layers.Embedding(len(CHARACTERS), EMBEDDED, name="character_vectors")(before)
    y = layers.LSTM(UNITS, return_sequences=True, name="decoder")(y, initial_state=[h, c])
    return keras.Model([words, before], layers.Dense(len(CHARACTERS), activation="softmax", name="next")(y))


def pairs(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words with padding behind, the characters before, and those to predict."""
    texts = [spelled(int(n)) for n in numbers]
    longest = max(len(text) for text in texts)
    words = [[VOCABULARY.index(word) for word in text] + [0] * (longest - len(text)) for text in texts]
    targets = [[CHARACTERS.index(digit) for digit in str(n)] + [END] * (4 - len(str(n))) for n in numbers]
    before = [[START, *target[:-1]] for target in targets]
    return np.array(words), np.array(before), np.array(targets)


def main() -> None:
    keras.utils.set_random_seed(7)
    numbers = np.random.default_rng(7).permutation(1000)
    model = network()
    model.compile(keras.optimizers.Adam(4e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    words, before, targets = pairs(numbers[:800])
    for rate, epochs in ((4e-3, 60), (1e-3, 20)):
        model.optimizer.learning_rate = rate
        model.fit([words, before], targets, batch_size=64, epochs=epochs, verbose=0)
    words, before, targets = pairs(numbers[800:])
    print(model.evaluate([words, before], targets, verbose=0))
    bare = network()  # without the optimizer's state
    bare.set_weights(model.get_weights())
    bare.save(Path(__file__).resolve().with_name("numbers.keras"))


if __name__ == "__main__":
    main()
