"""Writes tests/data/keras_models: whole models as Keras saves them, with inputs and Keras's own results.

Run with Keras and PyTorch installed: ``KERAS_BACKEND=torch python -m tests.builders.generate_keras_models``. Seeded.
The archives are deflated, which Keras reads too, because HDF5 leaves most of a small file empty.
"""

import zipfile

import keras
import numpy as np

from tests import DATA
from tests.builders import keras_images, keras_models, keras_operations

FOLDER = DATA / "keras_models"
CHOSEN = [
    "activity_recognition", "text", "encoder_decoder", "autoencoder", "static_features", "anomaly_score", "translator",
    "residual_masked", "nested_twice", "masked_self_attention", "temporal_convolutions", "distributed_model",
    "static_embedding", "operations", "transformer_decoder", "masked_attention", "einsum_heads", "einsum_shared",
    "conv1d_transpose_wide", "conv1d_transpose_gaps", "channels_first_conv1d", "open_frames_conv1d_stride",
    "several_adaptive_average", "several_spectral_conv", "words_and_tags", "scores_heads", "scores_none",
    "constant_states", "reversible_embedding", "quantized_int8", "quantized_int4_blocks", "quantized_int4", "lora",
    *keras_images.KEPT,
]  # fmt: skip


def deflate(path):
    """The same archive, compressed, without dates."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in CHOSEN:
        made = keras_models.build(keras, name)
        inputs = keras_models.arrays(made, name)
        made.save(FOLDER / f"{name}.keras")
        deflate(FOLDER / f"{name}.keras")
        found = {f"x{k}": x for k, x in enumerate(keras_models.in_order_of_the_config(made, inputs))}
        found |= {f"y{k}": y for k, y in enumerate(keras_models.outputs(made, inputs))}
        np.savez_compressed(FOLDER / f"{name}.npz", **found)
    for family in keras_operations.FAMILIES:
        made, x = keras_operations.Networks(keras, family).model, keras_operations.array(family)
        made.save(FOLDER / f"operations_{family}.keras")
        deflate(FOLDER / f"operations_{family}.keras")
        found = {f"y{k}": y.astype(np.float32) for k, y in enumerate(keras_operations.outputs(made, x))}
        np.savez_compressed(FOLDER / f"operations_{family}.npz", x0=x, **found)


if __name__ == "__main__":
    main()
