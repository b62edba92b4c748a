"""Writes native files as the CyLSTM that is imported writes them, by public names that old versions have too.

``PYTHONPATH=CLONE python -P tests/builders/kept_native_files.py NAME``, with a clone of an old commit that is built in
place, wrote files of ``tests/data/native``: one network with every type of weights that this version knows, unpacked in
``version-N`` and packed in ``layout-N``, each beside an ``.npz`` with an input and the prediction. A file that is there
stays, and whether this version writes the same bytes is printed.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

import cylstm

FOLDER = Path(__file__).resolve().parents[1] / "data" / "native"
TYPES = ("float32", "float16", "bfloat16", "int8a16", "int8a8")


def tensors(rng):
    shapes = {"fc.weight": (2, 5), "fc.bias": (2,)}
    for name, gates, inputs, hidden in (("lstm", 4, 3, 18), ("gru", 3, 18, 5)):
        shapes |= {
            f"{name}.weight_ih_l0": (gates * hidden, inputs),
            f"{name}.weight_hh_l0": (gates * hidden, hidden),
            f"{name}.bias_ih_l0": (gates * hidden,),
            f"{name}.bias_hh_l0": (gates * hidden,),
        }
    return {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in sorted(shapes.items())}


def folder_of(path):
    """version-N, or layout-N of a packed file."""
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    layout = metadata.get("layout_version")
    return f"layout-{layout}" if layout else f"version-{metadata['format_version']}"


def keep(name, prediction, x, save):
    """Keep what `save` writes to a path, if this version can."""
    new = FOLDER / "new.cylstm"
    try:
        save(new)
    except TypeError as error:  # a keyword of later versions
        print(f"{name}: {error}")
        return
    path = FOLDER / folder_of(new) / f"{name}.cylstm"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        print(f"{path}: {'the same' if path.read_bytes() == new.read_bytes() else 'other'} bytes")
        new.unlink()
        return
    new.rename(path)
    np.savez_compressed(path.with_suffix(".npz"), x=x, y0=prediction)


def main(name):
    rng = np.random.default_rng(20261130)
    weights = tensors(rng)
    x = rng.uniform(-1.0, 1.0, (3, 6, 3)).astype(np.float32)
    layers = [cylstm.LSTM("lstm"), cylstm.GRU("gru")]
    for kind in TYPES:
        options = {} if kind == "float32" else {"weights": kind}
        try:
            model = cylstm.from_state_dict(weights, [*layers, cylstm.Linear("fc")], **options)
        except (TypeError, NotImplementedError) as error:
            print(f"{kind}: {error}")
            continue
        y = model.predict(x)
        keep(f"{name}_{kind}", y, x, model.save)
        keep(f"{name}_{kind}", y, x, lambda path: model.save(path, packed=True))  # noqa: B023
        if kind == "float32":
            keep(f"{name}_checked", y, x, lambda path: model.save(path, check=x))  # noqa: B023


if __name__ == "__main__":
    main(sys.argv[1])
