"""Weight norm, spectral norm and pruning as PyTorch computes them, from the state dicts that it writes."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import UnsupportedError

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


def wrappers(torch):
    from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

    return {
        "hooks weight_norm": weight_norm,
        "hooks spectral_norm": spectral_norm,
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "pruning": lambda module, name="weight": prune.random_unstructured(module, name, 0.4),
    }


@pytest.mark.parametrize(
    "kind", ["hooks weight_norm", "hooks spectral_norm", "weight_norm", "spectral_norm", "pruning"]
)
@pytest.mark.parametrize("layer", ["Linear", "Conv1d", "LSTM"])
def test_a_layer_of_pytorch_gives_the_same_from_its_state_dict(torch, rng, tmp_path, kind, layer):
    torch.manual_seed(7)
    wrap = wrappers(torch)[kind]
    if layer == "LSTM":
        module = torch.nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)
        for name in ("weight_hh_l0", "weight_ih_l1_reverse"):
            module = wrap(module, name)
        wired = cylstm.LSTM("net")
    elif layer == "Conv1d":
        module, wired = wrap(torch.nn.Conv1d(4, 6, 3)), cylstm.Conv1d("net")
    else:
        module, wired = wrap(torch.nn.Linear(4, 6)), cylstm.Linear("net")
    x = rng.standard_normal((3, 9, 4)).astype("f")
    x = x[:, 0] if layer == "Linear" else x
    given = torch.tensor(x.transpose(0, 2, 1).copy() if layer == "Conv1d" else x)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
        module.train()
        module(given)  # the power iteration of spectral norm
        module.eval()
        found = module(given)
    expected = found[0].numpy() if layer == "LSTM" else found.numpy()
    net = torch.nn.ModuleDict({"net": module})
    torch.save(net.state_dict(), tmp_path / "a.pt")
    for model in (
        cylstm.from_state_dict(net.state_dict(), [wired]),
        cylstm.load(tmp_path / "a.pt", layers=[wired]),
    ):
        y = model.predict(x)
        np.testing.assert_allclose(
            y.transpose(0, 2, 1) if layer == "Conv1d" else y, expected, rtol=0, atol=2e-6 * np.abs(expected).max()
        )


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("kind", ["hooks weight_norm", "weight_norm"])
def test_weight_norm_along_any_axis(torch, rng, kind, dim):
    module = wrappers(torch)[kind](torch.nn.Linear(4, 6), "weight", dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = rng.standard_normal((3, 4)).astype("f")
    model = cylstm.from_state_dict(module.state_dict(), [cylstm.Linear("")])
    np.testing.assert_allclose(model.predict(x), module(torch.tensor(x)).detach().numpy(), rtol=0, atol=2e-6)


def test_orthogonal_weights_are_refused_by_name(torch):
    module = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4))
    with pytest.raises(UnsupportedError, match=r"'parametrizations\.weight\.original' is part of a weight"):
        cylstm.from_state_dict(module.state_dict(), [cylstm.Linear("")])
