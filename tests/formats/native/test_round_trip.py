"""The native format: everything the engine computes comes back bit for bit, and old files stay readable."""

import re

import numpy as np
import pytest

import cylstm
from cylstm.formats.native.read import FORMAT_VERSION
from cylstm.graph.layers import LAYER_KINDS

from tests import ROOT
from tests.builders.native_networks import FOLDER, networks

_NETWORKS = networks()
_KEPT = sorted(FOLDER.glob("version-*/*.cylstm"))
_SPECIFICATION = ROOT / "docs" / "format.md"


def bits(prediction):
    arrays = prediction if isinstance(prediction, list) else [prediction]
    return [(array.shape, array.dtype.str, array.tobytes()) for array in arrays]


@pytest.mark.parametrize("name", list(_NETWORKS))
def test_a_network_comes_back_bit_for_bit(tmp_path, name):
    model, x = _NETWORKS[name]
    model.save(tmp_path / "a.cylstm")
    found = cylstm.load(tmp_path / "a.cylstm", dtype=str(model.dtype))
    assert found.graph.values == model.graph.values
    assert found.graph.layers == model.graph.layers
    assert (found.inputs, found.outputs, found.metadata) == (model.inputs, model.outputs, model.metadata)
    assert {name: (a.dtype, a.tobytes()) for name, a in found.graph.tensors.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in model.graph.tensors.items()
    }
    assert bits(found.predict(x)) == bits(model.predict(x))


def test_every_kind_of_layer_is_among_the_networks():
    assert {layer.kind for model, _ in _NETWORKS.values() for layer in model.graph.layers} == set(LAYER_KINDS)


@pytest.mark.parametrize("path", _KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_of_every_version_is_read_and_predicts_what_it_did(path):
    with np.load(path.with_suffix(".npz")) as arrays:
        x = arrays["x"]
        expected = [arrays[f"y{i}"] for i in range(len(arrays) - 1)]
    dtype = expected[0].dtype.name
    model = cylstm.load(path, dtype=dtype)
    assert model.provenance["version"] == path.parent.name.removeprefix("version-")
    if dtype == "float32":
        assert bits(model.predict(x)) == bits(expected)
    else:  # a BLAS orders its sums as it likes
        np.testing.assert_allclose(model.predict(x), expected[0], rtol=1e-12, atol=1e-14)


def test_files_of_every_version_are_kept():
    versions = {int(path.parent.name.removeprefix("version-")) for path in _KEPT}
    assert versions == set(range(1, FORMAT_VERSION + 1))


def test_the_specification_names_the_version_and_every_kind_role_and_option():
    text = _SPECIFICATION.read_text()
    assert f'`format_version` is "{FORMAT_VERSION}"' in text
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    missing = [kind for kind in LAYER_KINDS if kind not in named]
    for kind in LAYER_KINDS.values():
        options = {option for option in kind.defaults if not re.search(r"activation(_alpha|_beta)$", option)}
        missing += [f"{kind.name}: {option}" for option in sorted(options) if option not in named]
    for model, _ in _NETWORKS.values():
        for layer in model.graph.layers:
            missing += [f"{layer.kind}: {role}" for role in layer.weights if role not in named]
    assert not missing
