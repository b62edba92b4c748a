"""Cells of PyTorch, exported in both forms: operators or products and gates, they become one layer."""

import numpy as np
import pytest

import cylstm

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

CELLS = {
    "lstm": (lambda: torch.nn.LSTMCell(5, 4), 2),
    "lstm without biases": (lambda: torch.nn.LSTMCell(5, 4, bias=False), 2),
    "gru": (lambda: torch.nn.GRUCell(5, 4), 1),
    "gru without biases": (lambda: torch.nn.GRUCell(5, 4, bias=False), 1),
}


class Cell(torch.nn.Module):
    """A cell whose states are arguments and results."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x, *states):
        return self.cell(x, states if len(states) > 1 else states[0])


def exported(module, tensors, path, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript")
    torch.onnx.export(module, tensors, path, dynamo=dynamo, verbose=False)
    return path


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_pytorch_is_one_layer_with_its_numbers(name, dynamo, tmp_path):
    torch.manual_seed(3)
    make, count = CELLS[name]
    module = Cell(make()).eval()
    tensors = (torch.randn(3, 5), *(torch.randn(3, 4) for _ in range(count)))
    with torch.no_grad():
        theirs = module(*tensors)
    theirs = [one.numpy() for one in (theirs if count > 1 else [theirs])]
    model = cylstm.load(exported(module, tensors, tmp_path / "cell.onnx", dynamo))
    assert [layer.kind for layer in model.graph.layers].count(name.split()[0]) == 1
    found = model.predict([one.numpy() for one in tensors])
    for ours, other in zip(found if count > 1 else [found], theirs, strict=True):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-6)
