"""Writes tests/data/keras_versions: models whose masks depend on the version, as several versions of Keras 3 save them.

Run once for each version in `CHOSEN`, with it and PyTorch installed:
``KERAS_BACKEND=torch python -m tests.builders.generate_keras_versions``. Seeded.
"""

import keras
import numpy as np

from tests import DATA
from tests.builders import keras_models
from tests.builders.generate_keras_models import deflate

FOLDER = DATA / "keras_versions"
#: model -> versions in which it means something else than in the one before
CHOSEN = {
    "masked_products": ("3.3.3", "3.6.0", "3.15.1"),
    "masked_maximum": ("3.3.3", "3.6.0", "3.15.1"),
    "masked_query": ("3.6.0", "3.15.1"),
    "masked_query_dropout": ("3.9.2", "3.10.0", "3.15.1"),
    "masks_handed_on": ("3.3.3", "3.10.0", "3.15.1"),
}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, versions in CHOSEN.items():
        if keras.__version__ not in versions:
            continue
        start = f"{name}-{keras.__version__}"
        made = keras_models.build(keras, name)
        inputs = keras_models.arrays(made, name)
        made.save(FOLDER / f"{start}.keras")
        deflate(FOLDER / f"{start}.keras")
        found = {f"x{k}": x for k, x in enumerate(keras_models.in_order_of_the_config(made, inputs))}
        found |= {f"y{k}": y for k, y in enumerate(keras_models.outputs(made, inputs))}
        np.savez_compressed(FOLDER / f"{start}.npz", **found)


if __name__ == "__main__":
    main()
