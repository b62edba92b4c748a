"""Small ONNX models of one or a few nodes, run by `cylstm.load` and by ONNX Runtime."""

import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import cylstm

from tests import reference
from tests.builders.promise import check

#: sizes that no other axis of the tests' networks has, so that an axis can be found by its size
BATCH, TIME = 3, 7
_SIZES = {"N": BATCH, "T": TIME}


def build(nodes, inputs, outputs, constants=None, opset=14, ir_version=8):
    """A model as bytes.

    Parameters
    ----------
    nodes : list of NodeProto
    inputs : dict of str to tuple
        Name -> (element type, axes), or the axes alone of float32; "N" is the batch and "T" a time.
    outputs : list of str
    constants : dict of str to ndarray, optional
    opset : int
    """
    given = []
    for name, axes in inputs.items():
        kind = TensorProto.FLOAT
        if axes and isinstance(axes[-1], tuple):
            kind, axes = axes
        given.append(helper.make_tensor_value_info(name, kind, [{"N": "batch", "T": "time"}.get(a, a) for a in axes]))
    graph = helper.make_graph(
        nodes,
        "test",
        given,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()


def node(operator, inputs, outputs, name=None, **attributes):
    """A node; of ONNX Runtime's own operators the name begins with ``com.microsoft.``."""
    domain, _, kind = operator.rpartition(".")
    return helper.make_node(kind, inputs, outputs, name=name or f"{kind.lower()}_node", domain=domain, **attributes)


def feeds(inputs, rng):
    """Random arrays for the inputs: numbers, or lengths for whole numbers along the batch."""
    found = {}
    for name, axes in inputs.items():
        kind = TensorProto.FLOAT
        if axes and isinstance(axes[-1], tuple):
            kind, axes = axes
        shape = [_SIZES.get(size, size) for size in axes]
        if kind == TensorProto.FLOAT:
            found[name] = rng.normal(size=shape).astype(np.float32)
        else:
            found[name] = np.array([TIME, 0, 3], helper.tensor_dtype_to_np_dtype(kind))
    return found


def by_runtime(model, arrays, outputs=None):
    """ONNX Runtime's results."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(outputs, arrays)


def by_evaluator(model, arrays, outputs=None):
    """The results of the onnx package's reference implementation."""
    return onnx.reference.ReferenceEvaluator(onnx.load_from_string(model)).run(outputs, arrays)


def rows_first(array):
    """An array of the program as a user has it: its batch, known by its size, first."""
    axis = next((i for i, size in enumerate(array.shape) if size == BATCH), None)
    return array if axis is None else np.ascontiguousarray(np.moveaxis(array, axis, 0))


def load(tmp_path, model, **options):
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    return cylstm.load(path, **options)


def predictions(model, arrays, mask=None):
    found = model.predict(arrays if len(arrays) > 1 else arrays[0], mask=mask)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def masks(model, arrays):
    """The mask that an input of lengths has become, by the input that it is of; None if there is none."""
    (lengths,) = [array for name, array in arrays.items() if name not in model.graph.inputs] or [None]
    return None if lengths is None else {model.graph.inputs[0]: np.arange(TIME) < lengths[:, np.newaxis]}


def compare(tmp_path, model, arrays, theirs=None, time="T"):
    """Our results against theirs, ONNX Runtime's unless they are given, and the float64 reference. Gives our model."""
    theirs = by_runtime(model, arrays) if theirs is None else theirs
    ours = load(tmp_path, model, time=time)
    given = [rows_first(arrays[name]) for name in ours.graph.inputs]
    mask = masks(ours, arrays)
    exact, _ = reference.predict(ours.graph, *given, mask=mask)
    for found, other, right in zip(predictions(ours, given, mask), theirs, exact, strict=True):
        check(found, rows_first(other), right)
    return ours
