"""Dynamically quantised modules of PyTorch, from the state dicts that it saves."""

import numpy as np
import pytest

import cylstm

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("dtype", ["qint8", "float16"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_state_dict_gives_what_its_dequantised_weights_compute(torch, rng, tmp_path, kind, directions, dtype):
    torch.manual_seed(5)
    rnn = getattr(torch.nn, kind)(5, 8, 2, batch_first=True, bidirectional=directions == 2)
    net = torch.nn.ModuleDict({"rnn": rnn, "fc": torch.nn.Linear(8 * directions, 3)})
    kinds = {type(rnn), torch.nn.Linear}
    quantised = torch.ao.quantization.quantize_dynamic(net, kinds, dtype=getattr(torch, dtype)).state_dict()
    # each matrix of the float module, rounded as PyTorch rounds it
    for module in net.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if "weight" in name:
                if dtype == "float16":
                    rounded = parameter.detach().half().float()
                else:
                    observer = torch.ao.quantization.default_weight_observer()
                    observer(parameter)
                    scale, zero = observer.calculate_qparams()
                    rounded = torch.quantize_per_tensor(parameter.detach(), float(scale), int(zero), torch.qint8)
                    rounded = rounded.dequantize()
                parameter.data.copy_(rounded)
    x = rng.standard_normal((3, 7, 5)).astype("f")
    with torch.no_grad():
        expected = net["fc"](net["rnn"](torch.tensor(x))[0]).numpy()
    layers = [getattr(cylstm, kind)("rnn"), cylstm.Linear("fc")]
    torch.save(quantised, tmp_path / "a.pt")
    torch.save(quantised, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    for model in (
        cylstm.load(tmp_path / "a.pt", layers=layers),
        cylstm.load(tmp_path / "b.pt", layers=layers),
        cylstm.from_state_dict(quantised, layers),
    ):
        np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=2e-6)
        assert "quantised" in model.provenance["note"]


def test_a_scale_for_each_row(torch, rng):
    net = torch.nn.Sequential(torch.nn.Linear(4, 5))
    config = torch.ao.quantization.per_channel_dynamic_qconfig
    state = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear: config}).state_dict()
    model = cylstm.from_state_dict(state, [cylstm.Linear("0")])
    weight, _ = state["0._packed_params._packed_params"]
    np.testing.assert_array_equal(model.graph.tensors["0.weight"], weight.dequantize().numpy())
