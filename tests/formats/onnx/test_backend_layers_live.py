"""The test data of the onnx package for operators that are layers: every case is right or refused with a sentence."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("onnx")

from cylstm.errors import CylstmError
from cylstm.formats.onnx.build import _dtype
from cylstm.formats.onnx.operators import attention, conv, linear, norm, quantised, recurrent
from cylstm.formats.onnx.read import read_model
from cylstm.formats.onnx.run import Run
from cylstm.model import Model
from cylstm.program.interface import Given, Interface
from cylstm.program.network import Network
from cylstm.program.tensor import is_constant

from tests.formats.onnx.test_backend_live import ACCIDENT, as_read, is_right

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

TABLES = {
    name: operator
    for module in (attention, conv, linear, norm, quantised, recurrent)
    for name, operator in module.OPERATORS.items()
}


#: of which the package has the results with four decimals
ROUNDED = ("test_averagepool_2d_ceil_last_window_starts_on_pad",)


def cases():
    from onnx.backend.test.loader import load_model_tests

    found = []
    for case in load_model_tests(kind="node"):
        nodes = case.model.graph.node
        if all(one.op_type in TABLES and one.domain in ("", "ai.onnx") for one in nodes):
            found.append(case)
    assert len(found) > 150
    return found


def predicted(path, given, batches):
    """The results where these inputs are of a batch, along the axis given; the others are constants."""
    model = read_model(path)
    arrays = dict(zip((one.name for one in model.graph.inputs), given))
    net = Network(_dtype(model))
    name, axis = next(iter(batches.items()))
    rows = arrays[name].shape[axis]
    net.examples = ((rows, {}), (rows, {}))
    interface, values = Interface(net), dict(arrays)
    for name, axis in batches.items():
        net.name = name
        shape = ["N" if i == axis else size for i, size in enumerate(arrays[name].shape)]
        kind = {"f": "numbers", "b": "truths"}.get(arrays[name].dtype.kind, "indices")
        values[name] = interface.add_input(Given(name, tuple(shape), kind))
    results = Run(net, model).run(values, [one.name for one in model.graph.outputs])
    for one in results:
        if is_constant(one):
            raise CylstmError("nothing is computed")
        interface.add_output(one)
    inputs = [np.moveaxis(arrays[name], axis, 0) for name, axis in batches.items()]
    found = Model(interface.build(), dtype=net.dtype.name).predict(inputs[0] if len(inputs) == 1 else inputs)
    found = found if isinstance(found, (list, tuple)) else [found]
    return [np.moveaxis(one, 0, axis) for one, axis in zip(found, interface.batch)]


def folded(path, given):
    model = read_model(path)
    arrays = dict(zip((one.name for one in model.graph.inputs), given))
    results = Run(Network(_dtype(model)), model).run(arrays, [one.name for one in model.graph.outputs])
    if not all(isinstance(one, np.ndarray) for one in results):
        raise CylstmError("not folded")
    return results


def attempts(case, path, given):
    """Each way in which the case can be run."""
    node = case.model.graph.node[0]
    attributes = {one.name: one for one in node.attribute}
    recurrent_batch = 0 if "layout" in attributes and attributes["layout"].i else 1
    batch = recurrent_batch if node.op_type in recurrent.OPERATORS else 0
    names = [one.name for one in case.model.graph.input]
    arrays = dict(zip(names, given))
    yield lambda: folded(path, given)
    able = [name for name, one in arrays.items() if one.ndim > batch]
    if not able:
        return
    rows = arrays[able[0]].shape[batch]
    yield lambda: predicted(path, given, {able[0]: batch})
    same = {name: batch for name in able if arrays[name].shape[batch] == rows}
    for count in range(2, len(same) + 1):
        chosen = dict(list(same.items())[:count])
        yield lambda chosen=chosen: predicted(path, given, chosen)


def test_every_case_of_a_layer_is_right_or_refused(tmp_path):
    counts, bad, refused = Counter(), [], []
    path = str(tmp_path / "case.onnx")
    for case in cases():
        (tmp_path / "case.onnx").write_bytes(case.model.SerializeToString())
        graph = case.model.graph
        given, expected = (as_read(some, io) for some, io in zip(case.data_sets[0], (graph.input, graph.output)))
        if given is None or expected is None:
            counts["a type that is not read"] += 1
            continue
        found = []
        for run in attempts(case, path, given):
            try:
                results = run()
            except CylstmError as error:
                found.append(f"{'accident' if ACCIDENT in str(error) else 'refused'} {error}")
            except Exception as error:
                found.append(f"CRASH {type(error).__name__}: {error}")
            else:
                right = is_right(case, results, expected)
                if case.name in ROUNDED:
                    right = np.allclose(results[0], expected[0], rtol=0, atol=1e-4)
                found.append("right" if right else f"WRONG {results} {expected}")
        bad += [(case.name, one) for one in found if one.startswith(("WRONG", "CRASH", "accident"))]
        counts["right" if "right" in found else "refused"] += 1
        refused += [] if "right" in found else [(case.name, found[min(1, len(found) - 1)])]
    print(dict(counts), *refused, sep="\n")
    assert not bad, (len(bad), bad[:3])
    assert counts["right"] > 2.5 * counts["refused"]
