"""The tests' PyTorch networks exported by torch.onnx.export, which are right."""

import warnings

import numpy as np
import pytest

import cylstm

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
torch_models = pytest.importorskip("tests.builders.torch_models")

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

#: networks of the form that torch.export takes: it needs seconds for each, so that some stand for all
SOME = ["voice detector", "attention pooling", "unrolled cell", "steps as rows", "self attention", "tcn", "wavenet"]

#: networks of operations that PyTorch does not write in the form of TorchScript
NOT_EXPORTED = ("lstm projection", "rms norm")


def outcome(name, path, dynamo):
    """ "right", "WRONG ..." or what was refused."""
    module, tensors = torch_models.build(name)
    with torch.no_grad():
        theirs = [one.numpy() for one in torch_models.leaves(module(*tensors))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(module, tuple(tensors), path, dynamo=dynamo, verbose=False)
        except Exception:
            return "not exported"
    try:
        model = cylstm.load(path)
        arrays = [one.numpy() for one in tensors]
        found = model.predict(arrays if len(arrays) > 1 else arrays[0])
    except cylstm.CylstmError as error:
        return f"refused {error}"
    found = list(found) if isinstance(found, (list, tuple)) else [found]
    for ours, other in zip(found, theirs, strict=True):
        # the batch comes first, wherever the network has it
        turned = [np.moveaxis(other, i, 0) for i in range(max(other.ndim, 1))] if other.ndim else [other]
        fitting = [one for one in turned if one.shape == ours.shape]
        scale = max(1.0, float(np.abs(other).max()))
        if not any(np.abs(ours - one).max() <= 2e-5 * scale for one in fitting):
            return f"WRONG {ours.shape} {other.shape}"
    return "right"


@pytest.mark.parametrize("name", torch_models.CASES)
def test_a_network_that_torchscript_exports_is_right(name, tmp_path):
    found = outcome(name, tmp_path / "model.onnx", False)
    assert found == ("not exported" if name in NOT_EXPORTED else "right")


@pytest.mark.parametrize("name", SOME)
def test_a_network_that_torch_export_exports_is_right(name, tmp_path):
    pytest.importorskip("onnxscript")
    assert outcome(name, tmp_path / "model.onnx", True) == "right"
