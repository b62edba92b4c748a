"""An encoder-decoder that was trained with teacher forcing, split into its parts, which translate step by step.

The network of ``numbers.keras`` reads a number in words and, character by character, what was written so far; it gives
the next character. In training it was shown the right characters before. To translate, the decoder has to be given what
it wrote itself: `Model.extract` takes the network apart, and the states pass between the parts.

Run ``python examples/translation/translate.py three hundred and forty two``. It needs NumPy and h5py, and no framework.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

# an installed CyLSTM comes first, then that of this checkout
sys.path.append(str(Path(__file__).resolve().parents[2]))

import cylstm

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
VOCABULARY = ["", *ONES, *TENS, "hundred", "and"]  # "" is padding
CHARACTERS = [*"0123456789", "", "<"]
END, START = CHARACTERS.index(""), CHARACTERS.index("<")
LONGEST = 4


def spelled(number: int) -> list[str]:
    """A number below 1000 in words."""
    words = []
    if number >= 100:
        words += [ONES[number // 100], "hundred", *(["and"] if number % 100 else [])]
        number %= 100
        if not number:
            return words
    if number >= 20:
        words.append(TENS[number // 10 - 2])
        if number % 10 == 0:
            return words
        number %= 10
    return [*words, ONES[number]]


class Translator:
    """Words to digits with the parts of the trained network."""

    def __init__(self, path: Path) -> None:
        model = cylstm.load(path)
        self.encoder = model.extract(["words"], ["encoder.h", "encoder.c"])
        self.decoder = model.extract(["before", "encoder.h", "encoder.c"], ["next", "decoder.h", "decoder.c"])

    def translate(self, words: list[str]) -> str:
        """The likeliest character at each step, until the end."""
        indices = [VOCABULARY.index(word) for word in words]
        states = self.encoder.predict(np.array([indices]))
        written, last = "", START
        for _ in range(LONGEST):
            probabilities, *states = self.decoder.predict([np.array([[last]]), *states])
            last = int(probabilities[0, 0].argmax())
            if last == END:
                break
            written += CHARACTERS[last]
        return written


def main(words: list[str]) -> None:
    translator = Translator(Path(__file__).with_name("numbers.keras"))
    if words:
        print(translator.translate(words))
        return
    right = 0
    for number in range(1000):
        found = translator.translate(spelled(number))
        right += found == str(number)
        if number % 111 == 42:
            print(f"{' '.join(spelled(number))} -> {found}")
    print(f"right: {right} of 1000")


if __name__ == "__main__":
    main(sys.argv[1:])
