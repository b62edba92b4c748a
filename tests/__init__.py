"""The tests of CyLSTM, in folders like the package's; `tests.builders` makes the files and networks that they need."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
