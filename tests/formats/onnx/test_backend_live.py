"""The test data of the onnx package for its operators: every case is right or refused with a sentence."""

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cylstm.errors import CylstmError
from cylstm.formats.onnx.build import _dtype
from cylstm.formats.onnx.inputs import _kind_of
from cylstm.formats.onnx.model import NUMPY_TYPES
from cylstm.formats.onnx.operators import elementwise, indexing, reductions, resizing, shapes
from cylstm.formats.onnx.read import read_model
from cylstm.formats.onnx.run import Run
from cylstm.model import Model
from cylstm.program.interface import Given, Interface
from cylstm.program.network import Network
from cylstm.program.tensor import is_constant

pytestmark = pytest.mark.frameworks

#: the operators whose cases these tests have to run
TABLES = {
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **reductions.OPERATORS,
    **resizing.OPERATORS,
    **shapes.OPERATORS,
}
#: an error of an operator that was given what it is not written for
ACCIDENT = "with these inputs and attributes is not supported ("
HALF = ("float16", "bfloat16")


def cases():
    from onnx.backend.test.loader import load_model_tests

    found = []
    with warnings.catch_warnings():  # numbers beyond float16
        warnings.simplefilter("ignore")
        every = load_model_tests(kind="node")
    for case in every:
        graph = case.model.graph
        if all(node.op_type in TABLES and node.domain in ("", "ai.onnx") for node in graph.node):
            found.append(case)
    assert len(found) > 1000
    return found


def tolerance(case, i, expected):
    """How far a result may be off: of half precision as much as it rounds, else ten times the last bit of float32."""
    import onnx

    name = onnx.TensorProto.DataType.Name(case.model.graph.output[i].type.tensor_type.elem_type).lower()
    half = {"float16": 2e-3, "bfloat16": 2e-2}
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0) if expected.dtype.kind in "fc" else 1.0
    return half.get(name, 1e-5 if name == "float" else 1e-6) * scale


def is_right(case, found, expected):
    """Whether results are those of the case: of their shapes, and as near as their types can say."""
    for i, (own, wanted) in enumerate(zip(found, expected, strict=True)):
        own, wanted = np.asarray(own), np.asarray(wanted)
        if own.shape != wanted.shape:
            return False
        own, wanted = own.astype(np.float64), wanted.astype(np.float64)
        if not np.allclose(own, wanted, rtol=0, atol=tolerance(case, i, wanted), equal_nan=True):
            return False
    return True


def folded(case, path, given):
    """The results where all inputs are constants."""
    model = read_model(path)
    net = Network(_dtype(model))
    inputs = {one.name: array for one, array in zip(model.graph.inputs, given)}
    results = Run(net, model).run(inputs, [one.name for one in model.graph.outputs])
    if not all(isinstance(one, np.ndarray) for one in results):
        raise CylstmError("not folded")
    for one, info in zip(results, case.model.graph.output):
        import onnx

        kind = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()
        if kind not in HALF:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            assert one.dtype == dtype, (one.dtype, dtype)
    return results


def computed(path, given, chosen):
    """The results where these inputs are numbers that the network computes, without a batch."""
    model = read_model(path)
    net = Network(_dtype(model))
    net.name = "rows"
    rows = net.builder.input("rows", (1,))
    inputs = dict(zip((one.name for one in model.graph.inputs), given))
    for name in chosen:
        net.name = name
        inputs[name] = net.constant(inputs[name])
    results = Run(net, model).run(inputs, [one.name for one in model.graph.outputs])
    outputs = []
    for k, one in enumerate(results):
        if not is_constant(one):
            net.name = f"result{k}"
            tensor = net.plain(net.tensor(one))
            assert tensor.batch < 0
            order = net.order([tensor], tensor.inner)
            value = net.add_layer("activation", net.arrange(tensor, order))
            net.builder.output(value)
            shape = [size for size in tensor.shape]
            outputs.append((k, order, shape, net.tensor(one).shape))
    if not outputs:
        raise CylstmError("nothing is computed")
    net.builder.output(net.add_layer("activation", rows))
    graph = net.builder.build()
    found = Model(graph, dtype=net.dtype.name).predict(np.zeros((2, 1), net.dtype))
    for (k, order, shape, whole), own in zip(outputs, found):
        assert np.array_equal(own[0], own[1], equal_nan=True)
        sizes = [shape[i] for i in order]
        results[k] = np.moveaxis(own[0].reshape(sizes), range(len(order)), order).reshape(whole)
    return [np.asarray(one) for one in results]


def predicted(path, given, chosen):
    """The results where the first axis of these inputs is the batch."""
    model = read_model(path)
    infos = {one.name: one for one in model.graph.inputs}
    arrays = dict(zip(infos, given))
    net = Network(_dtype(model))
    rows = arrays[chosen[0]].shape[0]
    net.examples = ((rows, {}), (rows, {}))
    interface = Interface(net)
    values = dict(arrays)
    for name in chosen:
        net.name = name
        values[name] = interface.add_input(Given(name, ("N", *arrays[name].shape[1:]), _kind_of(infos[name])))
    results = Run(net, model).run(values, [one.name for one in model.graph.outputs])
    is_computed = [not is_constant(one) for one in results]
    for one, wanted in zip(results, is_computed):
        if wanted:
            interface.add_output(one)
    if not any(is_computed):
        raise CylstmError("nothing is computed")
    inputs = [arrays[name] for name in chosen]
    found = Model(interface.build(), dtype=net.dtype.name).predict(inputs[0] if len(inputs) == 1 else inputs)
    found = iter(found if isinstance(found, (tuple, list)) else [found])
    batch = iter(interface.batch)
    return [np.moveaxis(next(found), 0, next(batch)) if wanted else np.asarray(one)
            for one, wanted in zip(results, is_computed)]  # fmt: skip


def attempts(case, path, given):
    """Each way in which the case can be run."""
    graph = case.model.graph
    names = [one.name for one in graph.input]
    floats = [name for name, array in zip(names, given) if array.dtype.kind == "f" and array.size]
    yield "folded", lambda: folded(case, path, given)
    data = [name for name, array in zip(names, given) if array.dtype.kind in "fb" and array.size]
    sets = [data, data[:1], names[:1], floats, names]
    for chosen in {tuple(one): one for one in sets if one}.values():
        yield "computed", lambda chosen=chosen: computed(path, given, chosen)
    rows = {name: array.shape[0] for name, array in zip(names, given) if array.ndim}
    for first in names[:1]:
        if rows.get(first):
            same = [name for name in names if rows.get(name) == rows[first]]
            for chosen in ([first], same):
                yield "predicted", lambda chosen=chosen: predicted(path, given, chosen)


def as_read(given, infos):
    """Inputs or outputs of a case as the reader would have them; None for types that it does not read."""
    import onnx

    found = []
    for array, info in zip(given, infos):
        if isinstance(array, onnx.TensorProto):
            array = onnx.numpy_helper.to_array(array)
        array = np.asarray(array)
        kind = info.type.tensor_type.elem_type
        if array.dtype == object or array.dtype.kind in "US" or kind not in NUMPY_TYPES:
            return None
        found.append(array.astype(NUMPY_TYPES[kind]))
    return found


def outcome(case, path):
    """What comes of a case in each way: right, WRONG, CRASH, an accident or the sentence of the refusal."""
    Path(path).write_bytes(case.model.SerializeToString())
    graph = case.model.graph
    if any(info.type.WhichOneof("value") != "tensor_type" for info in (*graph.input, *graph.output)):
        return [("refused", "refused: sequences and optional values")]
    given, expected = (as_read(some, infos) for some, infos in zip(case.data_sets[0], (graph.input, graph.output)))
    if given is None or expected is None:
        return [("refused", "refused: a type of numbers that is not read")]
    found = []
    for way, run in attempts(case, path, given):
        try:
            results = run()
        except CylstmError as error:
            text = str(error)
            found.append((way, f"accident {text}" if ACCIDENT in text else f"refused {text}"))
        except Exception as error:
            found.append((way, f"CRASH {type(error).__name__}: {error}"))
        else:
            found.append((way, "right" if is_right(case, results, expected) else f"WRONG {results} {expected}"))
    return found


def test_every_case_of_the_onnx_package_is_right_or_refused(tmp_path):
    counts, bad, refused = Counter(), [], Counter()
    for case in cases():
        found = outcome(case, str(tmp_path / "case.onnx"))
        bad += [(case.name, *one) for one in found if one[1].startswith(("WRONG", "CRASH", "accident"))]
        ways = {way for way, what in found if what == "right"}
        best = next((way for way in ("predicted", "computed", "folded") if way in ways), "refused")
        counts[best] += 1
        if best == "refused":
            refused[str(found[-1][1])] += 1
    print(dict(counts), refused.most_common(40), sep="\n")
    assert not bad, (len(bad), bad[:3])
    assert counts["refused"] < 0.2 * counts.total()
