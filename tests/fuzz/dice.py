"""What is drawn by chance, and again with the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Dice:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def whole(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def often(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)
