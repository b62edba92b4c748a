"""The functions of docs/forecasting-recipes.md, as they stand there, and what they are tried on."""

import re
from functools import cache
from types import SimpleNamespace

import numpy as np

from tests import ROOT

PAGE = ROOT / "docs" / "forecasting-recipes.md"


@cache
def recipes():
    """All functions of the page, run from its blocks of Python but the first, which shows how they are used."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found: dict[str, object] = {"__name__": "recipes"}
    for block in blocks[1:]:
        exec(compile(block, str(PAGE), "exec"), found)
    return SimpleNamespace(**{name: one for name, one in found.items() if not name.startswith("__")})


def table(rng, time):
    """The series that the libraries are trained on."""
    t = np.arange(time)
    return {
        "y": 20.0 + 6.0 * np.sin(2 * np.pi * t / 12) + 0.03 * t + rng.normal(0, 1.0, time),
        "z": 5.0 + np.cos(2 * np.pi * t / 12) + rng.normal(0, 0.2, time),
        "price": 3.0 + np.sin(t / 7.0) + rng.normal(0, 0.3, time),
        "promo": (rng.random(time) < 0.3).astype(float),
        "warmth": 10.0 + 8.0 * np.cos(2 * np.pi * t / 12),
    }
