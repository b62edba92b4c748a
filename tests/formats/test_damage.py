"""Every format of tensors with every kind of damage, and the proposals that stand in for missing layers."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError
from cylstm.formats.state_dict import wiring as L
from cylstm.loading import read

from tests.builders.weight_files import linear_tensors, lstm_tensors, write_safetensors, write_stream, write_torch

LAYERS = [L.LSTM("lstm"), L.Last(), L.Linear("fc")]


@pytest.fixture
def tensors(rng):
    return lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)


def write_npz(path, tensors):
    np.savez(path, **tensors)
    return path


def write_compressed_npz(path, tensors):
    np.savez_compressed(path, **tensors)
    return path


def write_shards(path, tensors):
    names = list(tensors)
    shards = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, part in shards.items():
        write_safetensors(path.parent / file, {name: tensors[name] for name in part})
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    path.write_text(json.dumps(index))
    return path


WRITERS = {
    "torch": (".pt", write_torch),
    "torch stream": (".pt", write_stream),
    "safetensors": (".safetensors", write_safetensors),
    "safetensors, sharded": (".safetensors.index.json", write_shards),
    "npz": (".npz", write_npz),
    "npz, compressed": (".npz", write_compressed_npz),
}
FORMATS = pytest.mark.parametrize("format_", list(WRITERS))


def write(folder, format_, tensors):
    extension, writer = WRITERS[format_]
    return writer(folder / f"net{extension}", tensors)


@FORMATS
def test_a_file_is_read_bit_for_bit_and_its_provenance_names_every_tensor(tmp_path, tensors, format_):
    path = write(tmp_path, format_, tensors)
    graph = read(path, layers=LAYERS)
    np.testing.assert_array_equal(graph.tensors["lstm.l0.weight_hh"], tensors["lstm.weight_hh_l0"])
    np.testing.assert_array_equal(graph.tensors["fc.weight"], tensors["fc.weight"])
    bias = tensors["lstm.bias_ih_l0"] + tensors["lstm.bias_hh_l0"]
    np.testing.assert_array_equal(graph.tensors["lstm.l0.bias"], bias)
    provenance = graph.provenance
    assert provenance["format"] == format_.removesuffix(", compressed")
    assert provenance["source"] == str(path)
    assert set(provenance["tensors"]) == set(provenance["layouts"]) == set(tensors)
    assert "(20, 3)" in provenance["layouts"]["lstm.weight_ih_l0"]
    assert {"version", "framework_version", "prefix"} <= set(provenance)


@FORMATS
@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_half_precision_becomes_float32_and_double_stays(tmp_path, rng, format_, dtype):
    tensors = {name: array.astype(dtype) for name, array in linear_tensors(rng, "fc", 5, 2).items()}
    found = read(write(tmp_path, format_, tensors), layers=[L.Linear("fc")]).tensors["fc.weight"]
    assert found.dtype == (np.float64 if dtype == "f8" else np.float32)
    np.testing.assert_array_equal(found, tensors["fc.weight"].astype(found.dtype))


@FORMATS
@pytest.mark.parametrize("name", ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_hh_l0", "fc.weight"])
def test_a_tensor_removed_is_named(tmp_path, tensors, format_, name):
    del tensors[name]
    with pytest.raises(FormatError, match=rf"tensor '{name}' is missing") as caught:
        read(write(tmp_path, format_, tensors), layers=LAYERS)
    assert str(tmp_path) in str(caught.value)


@FORMATS
def test_a_tensor_added_is_named(tmp_path, tensors, format_):
    tensors["extra.weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(FormatError, match=r"(?s)belong to no layer given.*extra\.weight \(2, 2\)"):
        read(write(tmp_path, format_, tensors), layers=LAYERS)


@FORMATS
@pytest.mark.parametrize("name", ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "fc.weight"])
def test_a_tensor_transposed_is_named(tmp_path, tensors, format_, name):
    expected = tensors[name].shape
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    with pytest.raises(FormatError, match=rf"tensor '{name}'.*found \({expected[1]}, {expected[0]}\)"):
        read(write(tmp_path, format_, tensors), layers=LAYERS)


@FORMATS
@pytest.mark.parametrize("name", ["lstm.weight_ih_l0", "lstm.bias_ih_l0", "fc.bias"])
def test_a_tensor_truncated_is_named(tmp_path, tensors, format_, name):
    tensors[name] = tensors[name][:-1]
    with pytest.raises(FormatError, match=rf"tensor '{name}'|tensor 'fc\.bias'|tensor 'lstm\.weight_hh_l0'"):
        read(write(tmp_path, format_, tensors), layers=LAYERS)


@FORMATS
def test_every_truncation_of_a_file_is_refused(tmp_path, tensors, format_):
    path = write(tmp_path, format_, tensors)
    if format_.endswith("sharded"):
        path.with_name("a.safetensors").write_bytes(path.with_name("a.safetensors").read_bytes()[:-1])
        with pytest.raises(FormatError, match="truncated"):
            read(path, layers=LAYERS)
        return
    data = path.read_bytes()
    for size in [*range(0, len(data), 61), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(CylstmError, match="net"):
            read(path, layers=LAYERS)


@FORMATS
def test_a_key_is_for_checkpoints_only(tmp_path, tensors, format_):
    message = "no state dict under 'model'; found key=''" if format_.startswith("torch") else r"key= \(chooses"
    with pytest.raises(FormatError, match=message):
        read(write(tmp_path, format_, tensors), layers=LAYERS, key="model")


# npz


def test_fortran_order_and_big_endian_arrays_are_read_by_value(tmp_path, rng):
    weight = rng.standard_normal((3, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", **{"a.weight": np.asfortranarray(weight), "b.weight": weight.T.astype(">f4")})
    graph = read(tmp_path / "a.npz", layers=[L.Linear("a"), L.Linear("b")])
    np.testing.assert_array_equal(graph.tensors["a.weight"], weight)
    np.testing.assert_array_equal(graph.tensors["b.weight"], weight.T)
    assert graph.tensors["b.weight"].dtype.isnative
    assert graph.provenance["layouts"]["a.weight"] == "float32 (3, 4), Fortran order in a.weight.npy"


@pytest.mark.parametrize("type_", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_of_every_type_and_shape_are_read(tmp_path, type_, shape):
    from cylstm.formats.npz import read_npz_tensors

    array = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(type_)
    np.savez(tmp_path / "a.npz", x=array)
    found = read_npz_tensors(str(tmp_path / "a.npz")).arrays["x"]
    assert found.shape == shape
    assert found.dtype == (np.float32 if type_ == "f2" else array.dtype)
    np.testing.assert_array_equal(found, array)


# Shards


def test_shards_that_do_not_hold_what_the_index_says_are_refused(tmp_path, tensors):
    path = write(tmp_path, "safetensors, sharded", tensors)
    index = json.loads(path.read_text())
    moved = json.loads(path.read_text())
    moved["weight_map"]["fc.bias"] = "a.safetensors"
    path.write_text(json.dumps(moved))
    with pytest.raises(FormatError, match=r"a\.safetensors lacks, other than the index says: fc\.bias"):
        read(path, layers=LAYERS)
    del index["weight_map"]["fc.bias"]
    path.write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"b\.safetensors also holds, other than the index says: fc\.bias"):
        read(path, layers=LAYERS)


def test_pytorchs_own_shards_are_read(tmp_path, tensors):
    names = list(tensors)
    parts = {"a.bin": names[:3], "b.bin": names[3:]}
    for file, part in parts.items():
        write_torch(tmp_path / file, {name: tensors[name] for name in part})
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    graph = read(tmp_path / "pytorch_model.bin.index.json", layers=LAYERS)
    np.testing.assert_array_equal(graph.tensors["fc.weight"], tensors["fc.weight"])
    assert graph.provenance["format"] == "torch, sharded"
    assert graph.provenance["files"] == ("a.bin", "b.bin")
    assert graph.provenance["layouts"]["fc.bias"].endswith(" of b.bin")


# Wrappers and prefixes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model.net."])
def test_a_prefix_that_all_names_share_is_taken_off(rng, tensors, prefix):
    graph = cylstm.from_state_dict({prefix + name: array for name, array in tensors.items()}, LAYERS).graph
    np.testing.assert_array_equal(graph.tensors["fc.weight"], tensors["fc.weight"])
    assert graph.provenance["tensors"][f"{prefix}fc.bias"] == "fc/bias"
    assert graph.provenance["prefix"] == prefix.replace("_orig_mod.", "")


def test_a_prefix_that_the_layers_name_is_left_alone(tensors):
    wrapped = {f"model.{name}": array for name, array in tensors.items()}
    graph = cylstm.from_state_dict(wrapped, [L.LSTM("model.lstm"), L.Last(), L.Linear("model.fc")]).graph
    assert graph.provenance["prefix"] == ""
    assert "model.fc.weight" in graph.tensors


def test_a_count_of_averaged_models_alone_is_no_network():
    with pytest.raises(FormatError, match="'lstm.weight_ih_l0' is missing"):
        cylstm.from_state_dict({"n_averaged": np.array(3)}, LAYERS)


def test_names_that_become_equal_without_their_wrappers_are_refused(tensors):
    tensors["fc._orig_mod.weight"] = tensors["fc.weight"]
    with pytest.raises(FormatError, match="two names are equal"):
        cylstm.from_state_dict(tensors, LAYERS)


# Proposals


def real(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def norm_tensors(rng, prefix, size, *, batch=False):
    tensors = {f"{prefix}.weight": real(rng, size), f"{prefix}.bias": real(rng, size)}
    if batch:
        tensors |= {f"{prefix}.running_mean": real(rng, size), f"{prefix}.running_var": real(rng, size) ** 2}
        tensors[f"{prefix}.num_batches_tracked"] = np.array(3)
    return tensors


def _cases():
    rng = np.random.default_rng(23)
    yield "one LSTM", lstm_tensors(rng, "", 3, 5)
    yield "a cell", {name.replace("_l0", ""): array for name, array in lstm_tensors(rng, "cell", 3, 5).items()}
    yield "LSTM and head", lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    yield (
        "bidirectional stack",
        lstm_tensors(rng, "rnn", 3, 5, layers=2, directions=2) | linear_tensors(rng, "out", 10, 2),
    )
    yield "projection", lstm_tensors(rng, "rnn", 3, 5, projection=2) | linear_tensors(rng, "out", 2, 4)
    yield "no bias", lstm_tensors(rng, "rnn", 3, 5, bias=False)
    yield (
        "prefix",
        {f"model.{n}": a for n, a in (lstm_tensors(rng, "a", 3, 5) | linear_tensors(rng, "b", 5, 2)).items()},
    )
    yield (
        "wrapped",
        {f"module.{n}": a for n, a in (lstm_tensors(rng, "a", 3, 5) | linear_tensors(rng, "b", 5, 2)).items()},
    )
    deep = linear_tensors(rng, "head.3", 4, 2) | linear_tensors(rng, "head.0", 5, 4) | linear_tensors(rng, "in", 3, 6)
    yield "out of order", deep | lstm_tensors(rng, "lstm", 6, 5)
    many: dict = {}
    for i in range(10):
        many |= lstm_tensors(rng, f"layers.{i}", 4 + i, 5 + i)
    yield "many layers", many
    peepholes = lstm_tensors(rng, "lstm", 3, 5)
    peepholes |= {f"lstm.weight_p{gate}_l0": rng.standard_normal(5).astype(np.float32) for gate in "ifo"}
    yield "peepholes", peepholes
    for kind, gates in (("GRU", 3), ("RNN", 1)):
        tensors = {
            "net.weight_ih_l0": rng.standard_normal((gates * 5, 3)),
            "net.weight_hh_l0": rng.standard_normal((gates * 5, 5)),
            "net.bias_ih_l0": rng.standard_normal(gates * 5),
            "net.bias_hh_l0": rng.standard_normal(gates * 5),
        }
        yield kind, {name: array.astype(np.float32) for name, array in tensors.items()}
    lstm, fc = lstm_tensors(rng, "lstm", 5, 8), linear_tensors(rng, "fc", 8, 3)
    yield "embedding", {"embedding.weight": real(rng, 20, 5)} | lstm | fc
    yield "embedding without a name that tells", {"table.weight": real(rng, 20, 5)} | lstm | fc
    yield "batch norm", lstm | norm_tensors(rng, "bn", 8, batch=True) | fc
    yield "layer norm", lstm | norm_tensors(rng, "norm", 8) | fc
    yield "layer norm before", norm_tensors(rng, "norm", 5) | lstm | fc
    yield "norm without bias", lstm | {"norm.weight": real(rng, 8)} | fc
    yield "one slope", lstm | {"act.weight": real(rng, 1)} | fc
    yield "slopes", lstm | fc | {"act.weight": real(rng, 3)}
    conv = {"conv.weight": real(rng, 5, 4, 3), "conv.bias": real(rng, 5)}
    yield "convolution", conv | lstm | fc
    yield "convolution and batch norm", fc | conv | norm_tensors(rng, "bn", 5, batch=True) | lstm
    yield "two heads", lstm | linear_tensors(rng, "mu", 8, 2) | linear_tensors(rng, "sigma", 8, 2)
    heads = linear_tensors(rng, "pi.0", 3, 7) | linear_tensors(rng, "pi.2", 7, 4) | linear_tensors(rng, "v", 3, 1)
    yield "heads of several layers behind a common one", lstm | fc | heads
    yield (
        "weight norm",
        {"fc.weight_g": real(rng, 3, 1), "fc.weight_v": real(rng, 3, 8), "fc.bias": real(rng, 3)} | lstm,
    )


@pytest.mark.parametrize(("tensors"), [pytest.param(found, id=name) for name, found in _cases()])
def test_the_proposal_works_when_pasted(tmp_path, tensors):
    path = write_safetensors(tmp_path / "net.safetensors", tensors)
    with pytest.raises(FormatError) as caught:
        cylstm.load(path)
    message = str(caught.value)
    for name in tensors:
        assert name in message
    assert "does not load" not in message
    proposal = next(line.strip() for line in message.splitlines() if line.strip().startswith("layers=["))
    model = cylstm.load(path, layers=eval(proposal.removeprefix("layers=")))
    assert set(model.provenance["tensors"]) == set(tensors)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        pytest.param(tensors, expected, id=name)
        for (name, tensors), expected in zip(
            [case for case in _cases() if case[0] in ("two heads", "heads of several layers behind a common one")],
            [
                'LSTM("lstm"), Last(), Heads([Linear("mu")], [Linear("sigma")])',
                'LSTM("lstm"), Last(), Linear("fc"), Heads([Linear("pi.0"), Linear("pi.2")], [Linear("v")])',
            ],
        )
    ],
)
def test_heads_are_proposed_where_one_chain_does_not_hold_all_layers(tensors, expected):
    with pytest.raises(FormatError) as caught:
        cylstm.from_state_dict(tensors)
    assert f"layers=[{expected}]" in str(caught.value).replace("cylstm.", "")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"encoder": lstm_tensors, "decoder": lstm_tensors},
            "encoder and decoder look like an encoder and a decoder: .* give the live module to cylstm.from_torch",
        ),
        ({"lstm": lstm_tensors, "attn": linear_tensors}, "attn: if this is an attention, no list of layers says"),
    ],
)
def test_a_proposal_says_what_no_list_of_layers_can_say(rng, tensors, message):
    found: dict = {}
    for prefix, make in tensors.items():
        found |= make(rng, prefix, 5, 5)
    with pytest.raises(FormatError, match=f"(?s){message}"):
        cylstm.from_state_dict(found)


def test_a_proposal_that_would_not_load_says_why(rng, tensors):
    tensors["fc.bias"] = tensors["fc.bias"][:-1]
    with pytest.raises(FormatError, match=r"As it stands it does not load: .*'fc\.bias'.*found \(1,\)"):
        cylstm.from_state_dict(tensors)
