"""Every kind of Keras file: by Keras 2.15 (tests/data/keras2), in older namings, by Keras 3; and damaged ones."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests.builders.keras2 import FILES, FOLDER, assert_expected, model_name, options_of
from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
)

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_keras_2_predicts_what_keras_did(file):
    model = cylstm.load(FOLDER / file, **options_of(file))
    assert_expected(model, model_name(file))
    provenance = model.provenance
    assert provenance["framework_version"] == "2.15.0"
    assert provenance["backend"] == (None if file.endswith(".keras") else "tensorflow")
    assert set(provenance["tensors"]) == set(provenance["layouts"])


@pytest.mark.parametrize(("file", "format_"), [
    ("stacked.keras", "keras"),
    ("stacked.h5", "keras h5"),
    ("bidirectional.weights.h5", "keras weights"),
    ("cudnn.weights-only.h5", "keras h5 weights"),
])  # fmt: skip
def test_provenance_names_the_format(file, format_):
    graph = read(FOLDER / file, **options_of(file))
    assert graph.provenance["format"] == format_
    assert graph.provenance["source"] == str(FOLDER / file)


def test_provenance_tells_how_each_tensor_was_laid_out():
    found = read(FOLDER / "cudnn.h5").provenance["layouts"]
    assert found["cu_dnnlstm/cu_dnnlstm/kernel:0"] == "float32 (3, 20); CuDNN's layout undone; transposed"
    assert found["cu_dnnlstm/cu_dnnlstm/bias:0"] == "float32 (40,); both biases added"
    assert found["cu_dnngru/cu_dnngru/bias:0"].endswith("gates z r h as r z h; rows as two biases")
    assert found["dense_4/dense_4/bias:0"] == "float32 (2,)"


def test_a_saved_model_is_refused_by_name(tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(
        UnsupportedError, match=r"SavedModels are not supported; .*load_model\(FOLDER\)\.save\(\"model\.keras\"\)"
    ):
        read(tmp_path / "saved")


def test_an_architecture_may_be_text_bytes_a_dict_or_a_file(tmp_path):
    weights = FOLDER / "bidirectional.weights.h5"
    text = (FOLDER / "bidirectional.json").read_text()
    with_older_file = FOLDER / "bidirectional.h5"
    for given in (text, text.encode(), json.loads(text), str(FOLDER / "bidirectional.json"), with_older_file):
        assert_expected(cylstm.load(weights, architecture=given), "bidirectional")
    cylstm.convert(weights, tmp_path / "a.cylstm", architecture=text)
    assert_expected(cylstm.load(tmp_path / "a.cylstm"), "bidirectional")


def test_an_archive_may_be_the_architecture(tmp_path):
    with zipfile.ZipFile(FOLDER / "stacked.keras") as archive:
        (tmp_path / "a.weights.h5").write_bytes(archive.read("model.weights.h5"))
    model = cylstm.load(tmp_path / "a.weights.h5", architecture=FOLDER / "stacked.keras")
    assert_expected(model, "stacked")


def test_the_folder_of_an_archive_is_read(tmp_path):
    with zipfile.ZipFile(FOLDER / "stacked.keras") as archive:
        archive.extractall(tmp_path / "model")
    assert_expected(cylstm.load(tmp_path / "model"), "stacked")
    shutil.move(tmp_path / "model" / "model.weights.h5", tmp_path / "a.weights.h5")
    assert_expected(cylstm.load(tmp_path / "a.weights.h5", architecture=tmp_path / "model"), "stacked")
    with pytest.raises(FormatError, match=r"model\.weights\.h5 is missing; found config\.json"):
        read(tmp_path / "model")


def test_the_config_decides_which_keras_version_weights_alone_are_of(tmp_path):
    weights, text = FOLDER / "gru_reset_before.weights-only.h5", (FOLDER / "gru_reset_before.json").read_text()
    config = json.loads(text)
    del config["keras_version"]
    assert read(weights, architecture=config).provenance["framework_version"] == "2.15.0"
    with h5py.File(shutil.copy(weights, tmp_path / "a.h5"), "r+") as file:
        del file.attrs["keras_version"]
    with pytest.raises(FormatError, match="nothing tells which Keras wrote the config; give it, for example keras_ver"):
        read(tmp_path / "a.h5", architecture=config)
    graph = read(tmp_path / "a.h5", architecture=config, keras_version="2.9.0")
    assert graph.provenance["framework_version"] == "2.9.0"


def test_a_config_of_keras_3_that_names_no_version_is_one_of_keras_3(rng, tmp_path):
    config = keras_model(keras_input(None, 3), keras_lstm("rnn", 5, recurrent_activation="hard_sigmoid"))
    write_weights(tmp_path / "a.weights.h5", {"layers/lstm/cell": keras_lstm_weights(rng, 3, 5)})
    graph = read(tmp_path / "a.weights.h5", architecture=json.dumps(config))
    assert graph.layers[0].options["recurrent_activation_alpha"] == pytest.approx(1 / 6)


def test_a_given_version_stands_over_that_of_the_file():
    before = read(FOLDER / "hard_sigmoid.keras")
    after = read(FOLDER / "hard_sigmoid.keras", keras_version="3.0")
    assert before.layers[0].options["recurrent_activation_alpha"] == pytest.approx(0.2)
    assert after.layers[0].options["recurrent_activation_alpha"] == pytest.approx(1 / 6)
    with pytest.raises(FormatError, match="keras_version expected a version number, found 'old'"):
        read(FOLDER / "hard_sigmoid.keras", keras_version="old")


@pytest.mark.parametrize(("file", "options", "message"), [
    ("stacked.h5", {"architecture": "{}"},
     "in HDF5, of which load takes keras_version= and custom_layers=; leave out architecture="),
    ("stacked.keras", {"architecture": "{}"}, "leave out architecture="),
    ("stacked.keras", {"layers": [L.LSTM("lstm")]}, "leave out layers="),
    ("cudnn.weights-only.h5", {}, r"weights without the model's config.*give architecture=.*or layers="),
    ("cudnn.weights-only.h5", {"architecture": "{}", "layers": []}, r"both architecture= and layers="),
    ("cudnn.weights-only.h5", {"architecture": [L.LSTM("lstm")]}, "a list of layers is given as layers="),
    ("cudnn.weights-only.h5", {"architecture": "{"}, "architecture: not valid JSON"),
    ("cudnn.weights-only.h5", {"architecture": FOLDER / "cudnn.weights-only.h5"}, "weights alone, no architecture"),
    ("cudnn.weights-only.h5", {"architecture": FOLDER / "expected.npz"}, "config.json is missing"),
    ("cudnn.weights-only.h5", {"architecture": FOLDER / "generate.py"}, "generate.py: not valid JSON"),
    ("cudnn.weights-only.h5", {"architecture": FOLDER / "simple_rnn.h5"}, "expected shape|is not expected"),
])  # fmt: skip
def test_a_wiring_too_many_or_too_few_is_refused(file, options, message):
    with pytest.raises(FormatError, match=message):
        read(FOLDER / file, **options)


def test_an_architecture_that_is_not_there_is_reported_as_such():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json: no such file"):
        read(FOLDER / "cudnn.weights-only.h5", architecture="nowhere.json")


def test_weights_of_an_older_file_are_wired_by_layers():
    layers = [L.LSTM("cu_dnnlstm"), L.GRU("cu_dnngru"), L.Last(), L.Linear("dense_4")]
    model = cylstm.load(FOLDER / "cudnn.weights-only.h5", layers=layers)
    assert_expected(model, "cudnn")
    assert model.provenance["tensors"]["cu_dnngru/cu_dnngru/bias:0"].count("bias_") == 2
    assert set(model.provenance["tensors"]) == set(model.provenance["layouts"])


def test_weights_of_an_archive_are_wired_by_layers():
    layers = [L.LSTM("bidirectional"), L.GRU("bidirectional_1", merge="sum"), L.LastState(), L.Linear("dense")]
    model = cylstm.load(FOLDER / "bidirectional.weights.h5", layers=layers)
    assert_expected(model, "bidirectional")


def test_layers_must_tell_a_gru_that_resets_before_the_product():
    path = FOLDER / "gru_reset_before.weights-only.h5"
    with pytest.raises(FormatError, match=r"GRU\('gru_1'\): 1 bias.*write GRU\('gru_1', reset_after=False\)"):
        read(path, layers=[L.GRU("gru_1"), L.Last(), L.Linear("dense_1")])
    gate = L.Hardsigmoid()
    gru = L.GRU("gru_1", reset_after=False, reverse=True, recurrent_activation=gate)
    graph = read(path, layers=[gru, L.LastState(), L.Linear("dense_1")])
    expected = read(path, architecture=FOLDER / "gru_reset_before.json")
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(graph.tensors[name.replace("gru_1.", "gru_1.l0.")], array)


def test_layers_name_what_is_left_over():
    with pytest.raises(FormatError, match=r"(?s)belong to no layer given.*dense_4\.weight"):
        read(FOLDER / "cudnn.weights-only.h5", layers=[L.LSTM("cu_dnnlstm"), L.GRU("cu_dnngru")])


def write_weights(path, groups):
    """``.weights.h5``: group -> arrays, or dict of name -> array."""
    with h5py.File(path, "w") as file:
        for group, arrays in groups.items():
            found = arrays if isinstance(arrays, dict) else {str(j): array for j, array in enumerate(arrays)}
            for name, array in found.items():
                file[f"{group}/vars/{name}"] = array
    return path


@pytest.fixture
def shards(tmp_path, rng):
    """An index, its config, and what the two files hold."""
    lstm, dense = keras_lstm_weights(rng, 3, 5), keras_dense_weights(rng, 5, 2)
    first = {"layers/lstm/cell": {"0": lstm[0]}}
    second = {"layers/lstm/cell": {"1": lstm[1], "2": lstm[2]}, "layers/dense": dense}
    write_weights(tmp_path / "net_00000.weights.h5", first)
    write_weights(tmp_path / "net_00001.weights.h5", second)
    places = {
        "/layers/lstm/cell/vars": ["net_00000.weights.h5", "net_00001.weights.h5"],
        "/layers/dense/vars": ["net_00001.weights.h5"],
    }
    path = tmp_path / "net.weights.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1.0}, "weight_map": places}))
    config = keras_model(keras_input(None, 3), keras_lstm("rnn", 5), keras_dense("fc", 2))
    return path, config, lstm, dense


def test_weights_spread_over_files_are_read(shards):
    path, config, lstm, dense = shards
    graph = read(path, architecture=config)
    np.testing.assert_array_equal(graph.tensors["rnn.weight_hh"], lstm[1].T)
    np.testing.assert_array_equal(graph.tensors["fc.bias"], dense[1])
    assert graph.provenance["format"] == "keras weights, sharded"
    assert graph.provenance["files"] == ("net_00000.weights.h5", "net_00001.weights.h5")
    wired = read(path, layers=[L.LSTM("lstm"), L.Last(), L.Linear("dense")])
    np.testing.assert_array_equal(wired.tensors["lstm.l0.weight_ih"], lstm[0].T)


@pytest.mark.parametrize(("edit", "message"), [
    (lambda index: index.pop("weight_map"), "with a weight_map"),
    (lambda index: index["weight_map"].update(x=3), "expected the names of files, found 3"),
    (lambda index: index["weight_map"].update(x=["../net_00000.weights.h5"]), "unsafe file name"),
    (lambda index: index["weight_map"].update(x=["/etc/passwd"]), "unsafe file name"),
    (lambda index: index["weight_map"].update(x=["other.weights.h5"]), "other.weights.h5 is missing beside it"),
    (lambda index: index["weight_map"].update(x="net_00000.weights.h5"), "lacks, other than the index says: x"),
    (lambda index: index["weight_map"].pop("/layers/dense/vars"), "also holds, other than .*: layers/dense/vars"),
])  # fmt: skip
def test_an_index_that_does_not_fit_its_files_is_refused(shards, edit, message):
    path, config, _, _ = shards
    index = json.loads(path.read_text())
    edit(index)
    path.write_text(json.dumps(index))
    with pytest.raises(FormatError, match=message) as caught:
        read(path, architecture=config)
    assert str(path) in str(caught.value)


def test_a_variable_in_two_files_is_refused(shards):
    path, config, lstm, _ = shards
    groups = {"layers/lstm/cell": lstm}
    write_weights(path.with_name("net_00000.weights.h5"), groups)
    with pytest.raises(FormatError, match=r"'layers/lstm/cell/vars/1' stands in .*00000.* and in .*00001"):
        read(path, architecture=config)


def test_an_index_needs_a_wiring(shards):
    with pytest.raises(FormatError, match=r"give architecture=.*or layers="):
        read(shards[0])


def write_groups(path, groups):
    """An HDF5 file of variables: group -> arrays."""
    with h5py.File(path, "w") as file:
        for group, arrays in groups.items():
            for k, array in enumerate(arrays):
                file[f"{group}/{k}"] = array
    return path


def of_a_class(rng, **more):
    return {
        "dense/vars": keras_dense_weights(rng, 4, 2),
        "layers/lstm/cell/vars": keras_lstm_weights(rng, 3, 4),
        "optimizer/vars": [np.zeros(2, np.float32)],
        **more,
    }


def test_layers_beside_the_group_of_layers_are_named_by_their_attribute(tmp_path, rng):
    groups = of_a_class(rng)
    path = write_groups(tmp_path / "a.weights.h5", groups)
    model = cylstm.load(path, layers=[L.LSTM("lstm"), L.Linear("dense")])
    np.testing.assert_array_equal(model.graph.tensors["dense.weight"], groups["dense/vars"][0].T)
    assert set(model.provenance["tensors"]) == {
        f"{g}/{k}" for g in groups if g[0] != "o" for k in range(len(groups[g]))
    }
    with pytest.raises(FormatError, match=r"tensors that belong to no layer given:\s+dense.weight"):
        read(path, layers=[L.LSTM("lstm")])


def test_a_name_that_two_layers_would_have_is_told_by_the_whole_path(tmp_path, rng):
    groups = of_a_class(rng, **{"layers/dense/vars": keras_dense_weights(rng, 2, 5)})
    path = write_groups(tmp_path / "a.weights.h5", groups)
    model = cylstm.load(path, layers=[L.LSTM("lstm"), L.Linear("dense"), L.Linear("layers/dense")])
    np.testing.assert_array_equal(model.graph.tensors["layers/dense.weight"], groups["layers/dense/vars"][0].T)


def test_weights_beside_the_layers_that_nothing_uses_are_named(tmp_path, rng):
    only = keras_model(keras_input(None, 3), keras_lstm("rnn", 4))
    lonely = {"layers/lstm/cell/vars": keras_lstm_weights(rng, 3, 4)}
    path = write_groups(tmp_path / "a.weights.h5", {**lonely, "metrics/mean/vars": [np.zeros(1, np.float32)]})
    read(path, architecture=json.dumps(only))
    path = write_groups(tmp_path / "b.weights.h5", of_a_class(rng))
    with pytest.raises(FormatError, match=r"weights that belong to no layer of the config: dense/vars/0, dense/vars/1"):
        read(path, architecture=json.dumps(only))
    both = keras_model(keras_input(None, 3), keras_lstm("rnn", 4), keras_dense("fc", 2))
    with pytest.raises(
        FormatError, match=r"the file also has dense/vars, under the attributes of a model that is a cl"
    ):
        read(path, architecture=json.dumps(both))
    path = write_groups(tmp_path / "c.weights.h5", {**lonely, "vars": [np.zeros(3, np.float32)]})
    with pytest.raises(UnsupportedError, match="'vars' holds weights of the model itself, which layers= cannot name"):
        read(path, layers=[L.LSTM("lstm")])


def test_an_index_names_what_stands_beside_the_layers(tmp_path, rng):
    groups = of_a_class(rng)
    write_groups(tmp_path / "a_0.weights.h5", groups)
    places = {f"/{group}": ["a_0.weights.h5"] for group in groups}
    index = tmp_path / "a.weights.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert "dense.weight" in read(index, layers=[L.LSTM("lstm"), L.Linear("dense")]).tensors
    del places["/dense/vars"]
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(FormatError, match="also holds, other than the index says: dense/vars"):
        read(index, layers=[L.LSTM("lstm"), L.Linear("dense")])


def test_weights_of_an_older_file_that_its_attribute_does_not_name_are_named(tmp_path, rng):
    path = tmp_path / "a.h5"
    names = [f"rnn/{role}:0" for role in ("kernel", "recurrent_kernel", "bias")]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["rnn"]
        file.create_group("rnn").attrs["weight_names"] = names
        for name, array in zip(names, keras_lstm_weights(rng, 3, 4)):
            file[f"rnn/{name}"] = array
    read(path, layers=[L.LSTM("rnn")])
    with h5py.File(path, "a") as file:
        file["top_level_model_weights/alpha:0"] = np.ones(3, np.float32)
    with pytest.raises(FormatError, match="attribute layer_names names: top_level_model_weights/alpha:0"):
        read(path, layers=[L.LSTM("rnn")])
