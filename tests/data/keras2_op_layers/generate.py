"""Writes the files beside it: ``python generate.py`` in an environment with tensorflow-cpu==2.15.* (Keras 2.15).

The functions of ../keras2_functions in a model that is built in the graph mode of TensorFlow 1, where Keras 2.15 still
writes each operation as a TensorFlowOpLayer, as tf.keras 2.0 to 2.3 always did. ``expected.npz`` holds the input ``x``,
and for each file what Keras predicts: ``NAME.y0``, ``NAME.y1``, ... ``older.json`` is the architecture of
``older.h5``, which holds the weights of "choices", as TensorFlow 2.0 and 2.1 wrote it, by their source: a node as the
text of its bytes, constants as lists.
"""

from __future__ import annotations

import gzip
import json
import runpy
from pathlib import Path

FOLDER = Path(__file__).parent
FUNCTIONS = runpy.run_path(str(FOLDER.parent / "keras2_functions" / "generate.py"))["FUNCTIONS"]

import numpy as np  # noqa: E402, the environment is set by the other file
import tensorflow as tf  # noqa: E402
from google.protobuf import json_format  # noqa: E402
from tensorflow.keras import Input, Model, layers  # noqa: E402
from tensorflow.keras import backend as K  # noqa: E402

tf.compat.v1.disable_eager_execution()
rng = np.random.default_rng(217)
#: of "shapes": tf.signal.frame and tf.linspace compute with shapes as numbers
LEFT_OUT = {"shapes": [38, 41]}
FUNCTIONS["masks"] = lambda i, h, p: [
    layers.LSTM(3)(h, mask=layers.Masking(0.0).compute_mask(i)),
    layers.GRU(3)(h, mask=tf.not_equal(i[:, :, 0], 0.0)),
    layers.LSTM(3)(layers.Masking(0.0)(i) * 2.0),
]


def network(name):
    i = Input((6, 4), name="x")
    h = layers.LSTM(5, return_sequences=True)(i)
    outputs = [y for k, y in enumerate(FUNCTIONS[name](i, h, tf.abs(h) + 0.3)) if k not in LEFT_OUT.get(name, ())]
    model = Model(i, outputs)
    model.set_weights([rng.uniform(-0.9, 0.9, array.shape) for array in model.get_weights()])
    return model


def older(model):
    described = json.loads(model.to_json())
    described["keras_version"] = "2.2.4-tf"
    for entry in described["config"]["layers"]:
        for key in ("module", "registered_name", "build_config"):
            entry.pop(key, None)
        if entry["class_name"] == "TensorFlowOpLayer":
            config = entry["config"]
            node = json_format.ParseDict(config["node_def"], tf.compat.v1.NodeDef())
            config["node_def"] = node.SerializeToString().decode("utf-8")
            config["constants"] = {
                key: value["config"]["value"] if isinstance(value, dict) else value
                for key, value in config["constants"].items()
            }
    return described


def main():
    expected = {"x": rng.normal(size=(3, 6, 4)).astype(np.float32)}
    expected["x"][0, 4:] = expected["x"][1, :2] = 0.0
    for name in FUNCTIONS:
        K.clear_session()
        model = network(name)
        for k, y in enumerate(model.predict(expected["x"])):
            expected[f"{name}.y{k}"] = np.asarray(y, np.float32)
        if name == "choices":
            (FOLDER / "older.json.gz").write_bytes(gzip.compress(json.dumps(older(model)).encode(), mtime=0))
            model.save_weights(FOLDER / "older.h5")
        path = FOLDER / f"{name}.h5"
        model.save(path)
        (FOLDER / f"{name}.h5.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
