"""Write ``weights/*.cylstm`` from ``weights/*.pt`` and ``weights/*.json``: ``python convert.py``. No PyTorch needed."""

from __future__ import annotations

from pathlib import Path

from series import FEATURES, LEADS

import cylstm

FOLDER = Path(__file__).resolve().parent / "weights"


def convert(kind: str) -> None:
    """Convert one network, its scaling inside the new file's metadata under ``"scaling"``."""
    model = cylstm.load(FOLDER / f"{kind}.pt", layers=[cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    metadata = {
        "title": f"PM2.5 in Beijing, 1 to {LEADS} hours ahead, {kind}",
        "trained on": "UCI data set 381, 2010 to 2013",
        "unit": "ug/m3",
        "scaling": (FOLDER / f"{kind}.json").read_text(encoding="utf-8"),
    }
    model.save(FOLDER / f"{kind}.cylstm", metadata=metadata)


if __name__ == "__main__":
    for each in FEATURES:
        convert(each)
