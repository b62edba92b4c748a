"""Loops and Scans that are one cell become layers; any other is refused."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, UnsupportedError

from tests.builders import onnx_files as files

ROWS, STEPS, INPUT, HIDDEN = 3, 6, 4, 5
node, value, tensor = files.node, files.value, files.tensor


@pytest.fixture
def weights():
    rng = np.random.default_rng(8)
    shapes = {"W": (INPUT, HIDDEN), "R": (HIDDEN, HIDDEN), "b": (HIDDEN,)}
    return {name: rng.normal(0, 0.5, shape).astype("f4") for name, shape in shapes.items()}


@pytest.fixture
def x(rng):
    return rng.standard_normal((ROWS, STEPS, INPUT)).astype("f4")


def by_hand(x, weights, first=None, is_reverse=False):
    """tanh(x W + h R + b) of each step."""
    w, r, b = (weights[name].astype("f8") for name in "WRb")
    h, found = np.zeros((len(x), HIDDEN)) if first is None else np.asarray(first, "f8"), {}
    for t in range(x.shape[1])[:: -1 if is_reverse else 1]:
        h = found[t] = np.tanh(x[:, t] @ w + h @ r + b)
    return np.stack([found[t] for t in range(x.shape[1])], 1), h


def cell(step="x_t", state="h", new="new"):
    return [
        node("MatMul", [step, "W"], ["xw"]),
        node("MatMul", [state, "R"], ["hr"]),
        node("Add", ["xw", "hr"], ["sum"]),
        node("Add", ["sum", "b"], ["pre"]),
        node("Tanh", ["pre"], [new]),
    ]


def initial():
    """Nodes that compute zeros (batch, HIDDEN) and the number of steps."""
    return [
        node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        node("Shape", ["xt"], ["sizes"]),
        node("Gather", ["sizes", "zero"], ["count"], axis=0),
        node("Gather", ["sizes", "ones"], ["rows"], axis=0),
        node("Concat", ["rows", "hidden"], ["state"], axis=0),
        node("ConstantOfShape", ["state"], ["h0"]),
    ]


CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "ones": np.array([1]),
    "hidden": np.array([HIDDEN]),
    "yes": np.array(True),
    "no": np.array(False),
}


def loaded(path, nodes, weights, outputs=("y",), shape=("batch", "time", INPUT), **options):
    tensors = [tensor(name, array) for name, array in {**CONSTANTS, **weights}.items()]
    graph = files.graph(nodes, [value("x", shape)], [value(one, None) for one in outputs], tensors)
    path.write_bytes(files.model(graph, 18))
    return cylstm.load(path, **options)


def loop(
    *, start="zero", adds="one", limit="count", place="t", axis=0, result="result", begins="yes", counts="", more=(),
    compared="next", carried="h0",
):  # fmt: skip
    """As tf2onnx writes an RNN, with what may be told otherwise."""
    body = files.graph(
        [
            *cell(),
            node("Add", ["t", adds], ["next"]),
            node("Gather", ["xt", place], ["x_t"], axis=axis),
            node("Less", [compared, limit], ["goes_on"]),
            node("Identity", ["new"], ["result"]),
            *more,
        ],
        [value("i", (), "int64"), value("going", (), "bool"), value("t", (), "int64"), value("h", (None, HIDDEN))],
        [value("goes_on", (), "bool"), value("next", (), "int64"), value("new", None), value(result, None)],
    )
    return [
        *initial(),
        node("Loop", [counts, begins, start, carried], ["end", "last", "steps"], "while", body=body),
        node("Transpose", ["steps"], ["y"], perm=[1, 0, 2]),
    ]


def scan(*, result="result", **attributes):
    body = files.graph(
        [*cell(), node("Identity", ["new"], ["result"]), node("Neg", ["new"], ["other"])],
        [value("h", (None, HIDDEN)), value("x_t", (None, INPUT))],
        [value("new", None), value(result, None)],
    )
    return [
        *initial(),
        node("Scan", ["h0", "xt"], ["last", "steps"], "scan", body=body, num_scan_inputs=1, **attributes),
        node("Transpose", ["steps"], ["y"], perm=[1, 0, 2]),
    ]


def close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6


def test_a_loop_that_counts_steps_is_an_rnn(tmp_path, weights, x):
    net = loaded(tmp_path / "net.onnx", loop(), weights, ("y", "last"))
    assert [layer.kind for layer in net.graph.layers if layer.weights] == ["rnn"]
    y, last = net.predict(x)
    close(y, by_hand(x, weights)[0])
    close(last, by_hand(x, weights)[1])
    close(net.predict(x[:, :2])[0], by_hand(x[:, :2], weights)[0])


def test_a_loop_of_a_fixed_number_of_steps_has_that_number(tmp_path, weights, x):
    weights["steps6"] = np.array(STEPS)
    for shape in ((ROWS, STEPS, INPUT), ("batch", STEPS, INPUT)):
        net = loaded(tmp_path / "net.onnx", loop(limit="steps6"), weights, shape=shape, time=STEPS)
        close(net.predict(x), by_hand(x, weights)[0])


def test_a_loop_with_a_count_of_its_own_is_an_rnn(tmp_path, weights, x):
    """PyTorch's TorchScript gives the count, and a condition that is always true."""
    body = files.graph(
        [*cell(), node("Gather", ["xt", "i"], ["x_t"], axis=0), node("Identity", ["going"], ["goes_on"]),
         node("Identity", ["new"], ["result"])],
        [value("i", (), "int64"), value("going", (), "bool"), value("h", (None, HIDDEN))],
        [value("goes_on", (), "bool"), value("new", None), value("result", None)],
    )  # fmt: skip
    nodes = [*initial(), node("Loop", ["count", "yes", "h0"], ["y", "steps"], body=body)]
    net = loaded(tmp_path / "net.onnx", nodes, weights)
    close(net.predict(x), by_hand(x, weights)[1])


def test_a_loop_starts_with_a_state_that_is_computed(tmp_path, weights, x):
    weights["S"] = np.random.default_rng(3).normal(size=(INPUT, HIDDEN)).astype("f4")
    nodes = [
        node("ReduceMean", ["x", "ones"], ["mean"], keepdims=0),
        node("MatMul", ["mean", "S"], ["first"]),
        *loop(carried="first"),
    ]
    net = loaded(tmp_path / "net.onnx", nodes, weights)
    close(net.predict(x), by_hand(x, weights, x.mean(1) @ weights["S"])[0])


@pytest.mark.parametrize("is_reverse", [False, True])
def test_a_scan_of_one_cell_is_an_rnn(tmp_path, weights, x, is_reverse):
    directions = {f"scan_{what}_directions": [int(is_reverse)] for what in ("input", "output")}
    net = loaded(tmp_path / "net.onnx", scan(**directions), weights, ("y", "last"))
    assert [layer.kind for layer in net.graph.layers if layer.weights] == ["rnn"]
    for found, expected in zip(net.predict(x), by_hand(x, weights, is_reverse=is_reverse), strict=True):
        close(found, expected)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"start": "one"}, "no count of the steps"),
        ({"adds": "two"}, "no count of the steps"),
        ({"limit": "two"}, "steps of"),
        ({"place": "next"}, "no network of one step .*the value .t. is computed by no node"),
        ({"place": "zero"}, "no network of one step|cell does not"),
        ({"axis": 1}, "takes a step of what is no sequence"),
        ({"begins": "no"}, "whether it begins"),
        ({"compared": "t"}, "when it ends"),
        ({"counts": "two"}, "how often it repeats"),
        ({"more": [node("Neg", ["new"], ["other"])], "result": "other"}, "something else than the cell's state"),
        ({"result": "x_t"}, "something else than the cell's state"),
        ({"carried": "W"}, "no state|state"),
    ],
)
def test_a_loop_that_is_something_else_is_refused(tmp_path, weights, changes, why):
    with pytest.raises(CylstmError, match=why) as caught:
        loaded(tmp_path / "net.onnx", loop(**changes), weights)
    assert "save the Keras model as a .keras file and load that" in str(caught.value) or "carried" in changes


@pytest.mark.parametrize(
    "changes",
    [
        {"scan_input_directions": [1]},
        {"scan_input_axes": [1]},
        {"result": "other"},
    ],
)
def test_a_scan_that_is_something_else_is_refused(tmp_path, weights, changes):
    with pytest.raises(
        UnsupportedError, match=r"'scan' \(Scan\): Scan, which .* save the Keras model as a \.keras file and load that"
    ):
        loaded(tmp_path / "net.onnx", scan(**changes), weights)
