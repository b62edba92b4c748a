"""Networks as ONNX files, run by ONNX Runtime, against `predict` in float64."""

import numpy as np

import cylstm

from tests.builders.layers import ask

#: dtype -> the error that its arithmetic may make, on the scale of the numbers
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}
#: what ONNX Runtime has in float32 alone
FLOAT32_ALONE = {
    "Conv", "ConvTranspose", "AveragePool", "Erf", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh",
    "Atanh",
}  # fmt: skip


def list_of(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def load(path):
    """The file's model, checked by the onnx package, shapes and types of everything too."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def operators(nodes):
    """The operators of nodes and of the bodies in them."""
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            yield from operators(attribute.g.node)


def run(path, feeds):
    """Output name -> array, by ONNX Runtime, or by the onnx package where ONNX Runtime has no float64.

    None where neither can: the package knows Scan along the first axis alone, and ConvTranspose without groups.
    """
    import onnxruntime

    proto = load(path)
    kinds = {one.type.tensor_type.elem_type for one in proto.graph.output}
    found = set(operators(proto.graph.node))
    if 11 in kinds and FLOAT32_ALONE & found:
        grouped = any(a.name == "group" and a.i > 1 for one in proto.graph.node for a in one.attribute)
        if "Scan" in found or ("ConvTranspose" in found and grouped):
            return None
        from onnx.reference import ReferenceEvaluator

        found = ReferenceEvaluator(proto).run(None, feeds)
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found = session.run(None, feeds)
    return dict(zip([one.name for one in proto.graph.output], found, strict=True))


def feeds_of(model, inputs, mask=None, lengths=None, state=None):
    """Arrays by the names of the file's inputs."""
    graph = model.graph
    found = {}
    for name, x in zip(graph.inputs, inputs, strict=True):
        kind = np.int64 if graph.values[name].kind == "index" else model.dtype
        found[name] = np.asarray(x).astype(kind)
    for what, given in (("mask", mask), ("lengths", lengths)):
        for name, array in (given or {}).items():
            found[f"{name}.{what}"] = np.asarray(array)
    for names, arrays in zip(model.state_names, state or ()):
        for name, array in zip(names, arrays):
            found[f"{name}.initial"] = np.asarray(array).astype(model.dtype)
    return found


def check_export(graph, inputs, folder, *, mask=None, lengths=None, state=None, tolerances=TOLERANCES):
    """A network gives its own numbers as an ONNX file; returns the worst error in float32.

    Parameters
    ----------
    inputs : list of ndarray
    mask, lengths : dict of str to ndarray
        By input.
    state : list of tuple of ndarray
        States before the first step; those after the last one are compared too.
    tolerances : dict of str to float
        By dtype.
    """
    given = {"mask": mask or None, "lengths": lengths or None, "initial_state": state}
    options = {"mask": bool(mask), "lengths": bool(lengths), "states": state is not None}
    double = cylstm.Model(graph, dtype="float64")
    exact = ask(double, inputs, **given, return_state=state is not None)
    worst = 0.0
    for dtype in tolerances:
        model = double if dtype == "float64" else cylstm.Model(graph, dtype="float32")
        path = folder / f"{dtype}.onnx"
        model.export_onnx(path, **options)
        found = run(path, feeds_of(model, inputs, mask, lengths, state))
        if found is None:
            continue
        # the onnx package has this function in float32 alone
        tolerance = tolerances["float32" if "Erf" in operators(load(path).graph.node) else dtype]
        single = ask(model, inputs, **given, return_state=state is not None)
        outputs, states = exact if state is not None else (exact, [])
        ours, our_states = single if state is not None else (single, [])
        wanted = dict(zip(model.outputs, zip(list_of(outputs), list_of(ours))))
        for names, arrays, of_us in zip(double.state_names, states, our_states):
            wanted |= {f"{name}.final": pair for name, *pair in zip(names, arrays, of_us)}
        assert list(found) == list(wanted)
        for name, (y, single) in wanted.items():
            assert found[name].dtype == model.dtype
            assert found[name].shape == y.shape, (name, found[name].shape, y.shape)
            if "MaxPool" in operators(load(path).graph.node):
                # ONNX Runtime gives the lowest finite number for a window that holds no number
                found[name] = np.where(found[name] == np.finfo(model.dtype).min, -np.inf, found[name])
            finite = np.isfinite(y)
            rest = [np.where(finite, 0, array) for array in (found[name], y)]
            np.testing.assert_array_equal(*rest, err_msg=name)
            scale = max(1.0, float(np.abs(y[finite]).max(initial=0)))
            error = float(np.abs(found[name][finite] - y[finite]).max(initial=0))
            of_us = float(np.abs(single[finite] - y[finite]).max(initial=0))
            assert error <= max(tolerance * scale, 4 * of_us), (name, dtype, error, scale, of_us)
            if dtype == "float32":
                worst = max(worst, error / scale)
    return worst
