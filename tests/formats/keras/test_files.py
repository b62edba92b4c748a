"""Every kind of Keras file: by Keras 2.15 (tests/data/keras2), in older namings, by Keras 3; and damaged ones."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests import DATA
from tests.builders.weight_files import (
    keras_dense,
    keras_dense_weights,
    keras_input,
    keras_lstm,
    keras_lstm_weights,
    keras_model,
    write_h5,
    write_zip,
)

h5py = pytest.importorskip("h5py")

FOLDER = DATA / "keras2"
EXPECTED = np.load(FOLDER / "expected.npz")
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".h5", ".keras"))
TOLERANCE = 1e-6


def model_name(file):
    return file.partition(".")[0]


def options_of(file):
    """What a fixture needs beside it: the architecture of weights alone."""
    return {"architecture": FOLDER / f"{model_name(file)}.json"} if ".weights" in file else {}


def assert_expected(model, name):
    """`model` predicts what Keras did."""
    x = EXPECTED[f"{name}.x"]
    found = model.predict(list(x) if len(model.graph.inputs) > 1 else x)
    expected = [EXPECTED[key] for key in sorted(EXPECTED) if key.startswith(f"{name}.y")]
    for y, right in zip(found if isinstance(found, list) else [found], expected, strict=True):
        assert np.abs(y - right).max() <= TOLERANCE * max(1.0, np.abs(right).max())


@pytest.fixture
def rng():
    return np.random.default_rng(31)


# Keras 2.15


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
    with pytest.raises(UnsupportedError, match=r"SavedModels are not supported; save the model as \.keras or \.h5"):
        read(tmp_path / "saved")


# The architecture beside the weights


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
    ("stacked.h5", {"architecture": "{}"}, "in HDF5, of which load takes keras_version=; leave out architecture="),
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
    with pytest.raises(FileNotFoundError):
        read(FOLDER / "cudnn.weights-only.h5", architecture="nowhere.json")


# Weights alone, wired by layers=


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


# Namings from before Keras 2.15, rebuilt from what is known of them around weights whose outputs Keras has computed


def stored_weights(file, group):
    """Weights of a layer of an older ``.h5`` fixture, in order."""
    with h5py.File(FOLDER / file) as opened:
        root = opened.get("model_weights", opened)
        names = root[group].attrs["weight_names"]
        return [root[group][name if isinstance(name, str) else name.decode()][()] for name in names]


def old_layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def old_recurrent(class_name, name, units, **options):
    config = {
        "units": units, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "implementation": 0,
        "return_sequences": False, "go_backwards": False, "stateful": False, "unroll": False, "dropout": 0.0,
        "kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": 1.0, "seed": None}},
        "kernel_regularizer": None, "unit_forget_bias": True,
    }  # fmt: skip
    return old_layer(class_name, name, **config | options)


def old_dense(name, units, **options):
    return old_layer("Dense", name, **{"units": units, "activation": "linear", "use_bias": True, **options})


def named(pattern, arrays, roles=("kernel", "recurrent_kernel", "bias")):
    return {pattern.format(role): array for role, array in zip(roles, arrays)}


FIRST = {"batch_input_shape": [None, 6, 3], "dtype": "float32"}


def old_stacked(path, version, lstm, dense):
    """The model "stacked" under the names of an older version; `lstm` and `dense` are patterns of names."""
    layers = [
        old_recurrent("LSTM", "lstm_1", 5, return_sequences=True, **FIRST),
        old_layer("Dropout", "dropout_1", rate=0.3, noise_shape=None, seed=None),
        old_recurrent("LSTM", "lstm_2", 4),
        old_dense("dense_1", 2, activation="relu"),
    ]
    # Before Keras 2.2.3 the config of a Sequential was the list of its layers.
    bare = tuple(map(int, version.split("-")[0].split("."))) < (2, 2, 3)
    config = {"class_name": "Sequential", "config": layers if bare else {"name": "sequential_1", "layers": layers}}
    weights = {
        "lstm_1": named(lstm.format(1, "{}"), stored_weights("stacked.h5", "first")),
        "dropout_1": {},
        "lstm_2": named(lstm.format(2, "{}"), stored_weights("stacked.h5", "a.name-of_its.own")),
        "dense_1": named(dense.format(1, "{}"), stored_weights("stacked.h5", "dense"), ("kernel", "bias")),
    }
    return write_h5(path, config, weights, version=version, fixed=True)


@pytest.mark.parametrize(("version", "lstm", "dense"), [
    ("2.0.9", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.1.5", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4", "lstm_{}_1/kernel_1:0", "dense_{}_1/kernel_1:0"),
    ("2.3.1", "lstm_{}/kernel:0", "dense_{}/kernel:0"),
    ("2.2.4-tf", "lstm_{}/lstm_cell/kernel:0", "dense_{}/kernel:0"),
    ("2.4.0", "lstm_{}/lstm_cell_7/kernel:0", "dense_{}/kernel:0"),
])  # fmt: skip
def test_the_names_of_an_older_keras_are_read(tmp_path, version, lstm, dense):
    patterns = (lstm.replace("kernel", "{}"), dense.replace("kernel", "{}"))
    path = old_stacked(tmp_path / "a.h5", version, *patterns)
    model = cylstm.load(path)
    assert_expected(model, "stacked")
    assert model.provenance["framework_version"] == version


def test_a_cudnn_model_in_a_bare_list_is_read(tmp_path):
    layers = [
        old_layer("CuDNNLSTM", "cu_dnnlstm_1", units=5, return_sequences=True, **FIRST),
        old_layer("CuDNNGRU", "cu_dnngru_1", units=4, return_sequences=False, go_backwards=False),
        old_dense("dense_1", 2),
    ]
    weights = {
        "cu_dnnlstm_1": named("cu_dnnlstm_1/{}:0", stored_weights("cudnn.h5", "cu_dnnlstm")),
        "cu_dnngru_1": named("cu_dnngru_1/{}:0", stored_weights("cudnn.h5", "cu_dnngru")),
        "dense_1": named("dense_1/{}:0", stored_weights("cudnn.h5", "dense_4"), ("kernel", "bias")),
    }
    path = write_h5(tmp_path / "a.h5", {"class_name": "Sequential", "config": layers}, weights, version="2.1.5")
    assert_expected(cylstm.load(path), "cudnn")


def test_the_old_default_of_a_gru_is_to_reset_before(tmp_path):
    """The option was not written before Keras 2.1.3."""
    gru = old_recurrent("GRU", "gru_1", 5, go_backwards=True, recurrent_activation="hard_sigmoid", **FIRST)
    file = "gru_reset_before.weights-only.h5"
    weights = {
        "gru_1": named("gru_1/{}:0", stored_weights(file, "gru_1")),
        "dense_1": named("dense_1/{}:0", stored_weights(file, "dense_1"), ("kernel", "bias")),
    }
    config = {"class_name": "Sequential", "config": [gru, old_dense("dense_1", 2)]}
    path = write_h5(tmp_path / "a.h5", config, weights, version="2.0.8")
    assert_expected(cylstm.load(path), "gru_reset_before")


def test_the_cells_of_one_layer_that_have_no_names_are_told_by_their_counters(tmp_path):
    with h5py.File(FOLDER / "cells.h5") as file:
        (group,) = [name for name in file["model_weights"] if name.startswith("rnn")]
    arrays = stored_weights("cells.h5", group)
    cells = [old_recurrent("LSTMCell", "lstm_cell_1", 5), old_recurrent("GRUCell", "gru_cell_1", 4, reset_after=True)]
    cells.append(old_recurrent("LSTMCell", "lstm_cell_2", 2))
    for cell in cells:
        for option in ("return_sequences", "go_backwards", "stateful", "unroll"):
            del cell["config"][option]
    rnn = old_layer(
        "RNN",
        "rnn_1",
        return_sequences=True,
        cell={"class_name": "StackedRNNCells", "config": {"name": "s", "cells": cells}},
        **FIRST,
    )
    weights = {}
    for k in range(3):
        weights |= named("rnn_1/{}" + (f"_{k}:0" if k else ":0"), arrays[3 * k : 3 * k + 3])
    config = {"class_name": "Sequential", "config": {"name": "sequential_1", "layers": [rnn]}}
    path = write_h5(tmp_path / "a.h5", config, {"rnn_1": weights}, version="2.2.4")
    assert_expected(cylstm.load(path), "cells")


@pytest.mark.parametrize("frozen", [False, True])
def test_the_directions_of_an_older_file_are_told_by_name(tmp_path, frozen, rng):
    forward, backward = keras_lstm_weights(rng, 3, 4), keras_lstm_weights(rng, 3, 4)
    layer = old_recurrent("LSTM", "lstm_1", 4)
    both = old_layer("Bidirectional", "bidirectional_1", merge_mode="concat", layer=layer, **FIRST)
    parts = [
        named("bidirectional_1/forward_lstm_1/{}:0", forward),
        named("bidirectional_1/backward_lstm_1/{}:0", backward),
    ]
    weights = parts[1] | parts[0] if frozen else parts[0] | parts[1]
    path = write_h5(tmp_path / "a.h5", {"class_name": "Sequential", "config": [both]}, {"b": weights}, version="2.2.2")
    graph = read(path)
    np.testing.assert_array_equal(graph.tensors["bidirectional_1.forward.weight_ih"], forward[0].T)
    np.testing.assert_array_equal(graph.tensors["bidirectional_1.backward.weight_hh"], backward[1].T)


@pytest.mark.parametrize("option", ["time_major", "unroll", "implementation", "stateful"])
def test_old_arguments_that_change_nothing_are_tolerated(tmp_path, rng, option):
    layer = old_recurrent("LSTM", "lstm_1", 5, **FIRST, **{option: 0 if option == "implementation" else False})
    weights = {"lstm_1": named("lstm_1/{}:0", keras_lstm_weights(rng, 3, 5))}
    config = {"class_name": "Sequential", "config": [layer]}
    assert read(write_h5(tmp_path / "a.h5", config, weights, version="2.1.0")).layers


# Weights spread over several files


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


# Damage: every fixture with one tensor removed, added, transposed, and cut short


def edited(file, folder, edit):
    """A copy of a fixture whose HDF5 file `edit` has changed."""
    target = folder / file
    if not file.endswith(".keras"):
        shutil.copy(FOLDER / file, target)
        with h5py.File(target, "r+") as opened:
            edit(opened)
        return target
    with zipfile.ZipFile(FOLDER / file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as opened:
        edit(opened)
    members["model.weights.h5"] = buffer.getvalue()
    return write_zip(target, list(members.items()))


def tensors_of(file):
    """Paths of the datasets of weights."""
    found = []

    def visit(name, entry):
        if isinstance(entry, h5py.Dataset) and "seed_generator" not in name:
            found.append(name)

    if file.endswith(".keras"):
        with zipfile.ZipFile(FOLDER / file) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    else:
        source = FOLDER / file
    with h5py.File(source) as opened:
        opened.visititems(visit)
    return found


def refused(path, file, message):
    with pytest.raises(CylstmError, match=message) as caught:
        read(path, **options_of(file))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_any_tensor_removed_is_an_error_that_says_where(tmp_path, file):
    for name in tensors_of(file):
        refused(edited(file, tmp_path, lambda opened: opened.pop(name)), file, "expected|missing")  # noqa: B023


@pytest.mark.parametrize("file", FILES)
def test_a_tensor_added_is_named(tmp_path, file):
    name = tensors_of(file)[-1]
    extra = f"{name.rpartition('/')[0]}/extra"
    refused(edited(file, tmp_path, lambda opened: opened.update({extra: np.ones(2, "f4")})), file, "extra")


@pytest.mark.parametrize("file", FILES)
def test_any_tensor_transposed_is_named_with_both_shapes(tmp_path, file):
    def edit(opened):
        array = opened[name][()]
        attributes = dict(opened[name].attrs)
        del opened[name]
        opened[name] = array.T
        opened[name].attrs.update(attributes)

    for name in tensors_of(file):
        with h5py.File(edited(file, tmp_path, lambda opened: None) if file.endswith("h5") else _inner(file)) as opened:
            shape = opened[name].shape
        if shape != shape[::-1]:
            shapes = rf"expected shape \({', '.join(map(str, shape))}\), found"
            refused(edited(file, tmp_path, edit), file, shapes)


def _inner(file):
    with zipfile.ZipFile(FOLDER / file) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_short_is_refused(tmp_path, file):
    data = (FOLDER / file).read_bytes()
    for size in np.linspace(0, len(data) - 1, 12, dtype=int):
        (tmp_path / file).write_bytes(data[:size])
        refused(tmp_path / file, file, "truncated|empty|damaged|expected")


# Configs: any value replaced by another


ODD = [None, True, -1, 0, 1, 1 << 40, 1.5, "", "x", [], {}, [[]], [None], {"class_name": "x"}, {"a": {}}, ["x", 1]]


def places_in(tree, start=()):
    """The way to every value in a config."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*start, key)
        yield from places_in(value, (*start, key))


def replaced(tree, place, value):
    found = json.loads(json.dumps(tree))
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


@pytest.mark.filterwarnings("ignore:.*NaN or infinity:UserWarning")
@pytest.mark.parametrize("file", ["bidirectional.weights.h5", "cells.h5", "conv_lstm_2d.keras", "nested.keras"])
def test_a_config_with_any_value_replaced_gives_a_graph_or_our_own_error(tmp_path, file, rng):
    if file.endswith(".keras"):
        with zipfile.ZipFile(FOLDER / file) as archive:
            config = json.loads(archive.read("config.json"))
            (tmp_path / "a.h5").write_bytes(archive.read("model.weights.h5"))
    else:
        shutil.copy(FOLDER / file, tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as opened:
            text = opened.attrs.pop("model_config", None)
            for name in opened.get("model_weights", {}):
                opened.move(f"model_weights/{name}", name)
            opened.attrs.update(opened["model_weights"].attrs if text else {})
            if text:
                del opened["model_weights"]
        config = json.loads(text or (FOLDER / "bidirectional.json").read_text())
    config["keras_version"] = "2.15.0"
    places = list(places_in(config))
    for _ in range(150):
        place, value = places[rng.integers(len(places))], ODD[rng.integers(len(ODD))]
        try:
            read(tmp_path / "a.h5", architecture=replaced(config, place, value))
        except CylstmError as error:
            assert str(error)
        except Exception as error:
            pytest.fail(f"{place} = {value!r}: {error!r}")


# Keras 3 itself


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    found = pytest.importorskip("keras")
    found.utils.set_random_seed(37)
    return found


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_what_keras_3_saves_in_any_format_predicts_the_same(tmp_path, keras):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, 3)),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="custom")),
        layers.Dropout(0.3),
        layers.GRU(4, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid"),
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True),
        layers.SimpleRNN(3),
        layers.Dense(2),
    ])  # fmt: skip
    rng = np.random.default_rng(41)
    model.set_weights([rng.normal(0.0, 0.6, array.shape) for array in model.get_weights()])
    model.layers[0].forward_layer.trainable = False
    x = rng.standard_normal((3, 6, 3)).astype(np.float32)
    expected = model.predict(x, verbose=0)
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
    model.save(tmp_path / "folder", zipped=False)
    model.save_weights(tmp_path / "a.weights.h5")
    model.save_weights(tmp_path / "b.weights.json", max_shard_size=1e-6)
    assert len(list(tmp_path.glob("b_*.weights.h5"))) > 1
    text = model.to_json()
    for name in ("a.keras", "a.h5", "folder", "a.weights.h5", "b.weights.json"):
        loaded = cylstm.load(tmp_path / name, architecture=text if "weights" in name else None)
        assert np.abs(loaded.predict(x) - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max()), name


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_bfloat16_weights_of_keras_3_are_read_exactly(tmp_path, keras, name):
    lstm = keras.layers.LSTM(5, dtype="bfloat16", recurrent_initializer="glorot_uniform", name="lstm")
    model = keras.Sequential([keras.Input((4, 3)), lstm])
    model.save(tmp_path / name)
    found = read(tmp_path / name).tensors["lstm.weight_ih"]
    expected = model.layers[0].cell.kernel.value.detach().float().numpy()
    np.testing.assert_array_equal(found, expected.T)


# Weights of a model that is a class of its own: layers stand under its attributes too


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
