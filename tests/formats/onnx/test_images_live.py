"""Convolutions, transposed ones and poolings over images, whose rows or columns may be a time, against ONNX Runtime."""

import numpy as np
import pytest

import cylstm

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.builders.configurations import seed
from tests.builders.onnx_nodes import build, compare, feeds, load, node

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

#: neither the batch (3) nor the time (7) has any of these sizes
IMAGES = {"known": ("N", 6, 8, 11), "rows are the time": ("N", 6, "T", 11), "columns are the time": ("N", 6, 8, "T")}


def run(tmp_path, name, operator, shape, constants, attributes, opset=22):
    rng = np.random.default_rng(seed(name))
    arrays = {key: rng.uniform(-0.5, 0.5, one).astype(np.float32) for key, one in constants.items()}
    made = node(operator, ["X", *arrays], ["Y"], **attributes)
    model = build([made], {"X": shape}, ["Y"], arrays, opset=opset, ir_version=10)
    time = "T" if "T" in shape else None
    return compare(tmp_path, model, feeds({"X": shape}, rng), time=time)


CONV = {
    "default": {},
    "pads": {"pads": [2, 0, 1, 3]},
    "causal": {"pads": [2, 1, 0, 1]},
    "strides": {"strides": [2, 3], "pads": [1, 1, 1, 1]},
    "dilations": {"dilations": [3, 2]},
    "groups": {"group": 3, "pads": [1, 1, 1, 1]},
    "depthwise": {"group": 6},
    "VALID": {"auto_pad": "VALID", "strides": [1, 2]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER"},
    "SAME_UPPER strides": {"auto_pad": "SAME_UPPER", "strides": [3, 2]},
}


@pytest.mark.parametrize("kernel", [(3, 2), (2, 4)])
@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("name", CONV)
def test_a_convolution_of_images_gives_onnx_runtimes_numbers(name, shape, kernel, tmp_path):
    attributes = CONV[name]
    constants = {"W": (12, 6 // attributes.get("group", 1), *kernel), "B": (12,)}
    run(tmp_path, name, "Conv", IMAGES[shape], constants, {"kernel_shape": kernel, **attributes})


TRANSPOSED = {
    "default": {},
    "strides": {"strides": [2, 3]},
    "pads": {"strides": [2, 3], "pads": [1, 0, 2, 1]},
    "output_padding": {"strides": [2, 3], "pads": [1, 1, 0, 1], "output_padding": [1, 2]},
    "dilations": {"dilations": [3, 2]},
    "groups": {"group": 2, "strides": [2, 1]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
    "VALID": {"auto_pad": "VALID", "strides": [2, 2]},
}


@pytest.mark.parametrize("shape", [*IMAGES, "time"])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_gives_onnx_runtimes_numbers(name, shape, tmp_path):
    attributes = dict(TRANSPOSED[name])
    kernel, axes = (3, 4), IMAGES.get(shape, ("N", 6, "T"))
    if shape == "time":
        kernel = (3,)
        for key in ("strides", "dilations", "output_padding"):
            if key in attributes:
                attributes[key] = attributes[key][:1]
        if "pads" in attributes:
            attributes["pads"] = attributes["pads"][::2]
    constants = {"W": (6, 4 // attributes.get("group", 1), *kernel), "B": (4,)}
    run(tmp_path, name, "ConvTranspose", axes, constants, {"kernel_shape": kernel, **attributes})


@pytest.mark.parametrize("mode", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("wanted", [[15, 32], [16, 31], [18, 35]])
def test_a_transposed_convolution_has_the_output_shape_that_is_given(wanted, mode, tmp_path):
    attributes = {"kernel_shape": [3, 4], "strides": [2, 3], "output_shape": wanted, "auto_pad": mode}
    run(tmp_path, mode, "ConvTranspose", IMAGES["known"], {"W": (6, 4, 3, 4)}, attributes)


def test_an_output_shape_of_any_time_needs_the_time(tmp_path):
    constants = {"W": np.ones((6, 4, 3), np.float32)}
    made = node("ConvTranspose", ["X", "W"], ["Y"], strides=[2], output_shape=[16])
    with pytest.raises(cylstm.ShapeError, match=r"convtranspose_node.*number of steps"):
        load(tmp_path, build([made], {"X": ("N", 6, "T")}, ["Y"], constants), time="T")


POOLS = {
    "default": {},
    "strides": {"strides": [2, 3]},
    "pads": {"pads": [1, 0, 0, 1], "strides": [2, 1]},
    "count_include_pad": {"pads": [1, 1, 0, 1], "strides": [2, 2], "count_include_pad": 1},
    "ceil_mode": {"strides": [2, 2], "ceil_mode": 1},
    "dilations": {"dilations": [3, 2]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "SAME_LOWER": {"auto_pad": "SAME_LOWER"},
    "VALID": {"auto_pad": "VALID", "strides": [2, 2]},
}
OPERATORS = {
    "MaxPool": [name for name in POOLS if name != "count_include_pad"],
    "AveragePool": list(POOLS),
    "LpPool": [name for name in POOLS if name not in ("count_include_pad", "ceil_mode")],
}


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize(
    "operator, name", [(operator, name) for operator, names in OPERATORS.items() for name in names]
)
def test_a_pooling_of_images_gives_onnx_runtimes_numbers(operator, name, shape, tmp_path):
    attributes = {"kernel_shape": [3, 2], **POOLS[name]}
    axes = IMAGES["known"] if operator == "LpPool" and name == "SAME_UPPER" else IMAGES[shape]
    run(tmp_path, name, operator, axes, {}, attributes)
