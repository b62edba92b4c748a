"""Exports to ONNX without its packages: the bytes of files, what is refused, and our own reader's numbers."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import cylstm
from cylstm.cli import main
from cylstm.errors import ArgumentError, UnsupportedError
from cylstm.formats.onnx.export import write
from cylstm.formats.onnx.export.layers import EXPORTERS, REFUSED
from cylstm.formats.onnx.read import SCHEMAS
from cylstm.formats.onnx.write_protobuf import Message, varint
from cylstm.formats.untrusted.protobuf import read_message
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.graph import Layer
from cylstm.graph.layers import LAYER_KINDS
from cylstm.graph.values import StaticTimeNeeded

from tests.builders import layers as L
from tests.builders.networks import lstm_model

HIDDEN = 5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


def contents(path):
    """The messages of a file as dicts."""
    return read_message(path.read_bytes(), SCHEMAS, "Model", path.name)


def shapes(values):
    """Name -> (number of the type, sizes)."""
    found = {}
    for value in values:
        kind = value["type"]["tensor"]
        sizes = [size.get("dim_value", size.get("dim_param")) for size in kind["shape"]["dim"]]
        found[value["name"]] = (kind["elem_type"], sizes)
    return found


def test_every_kind_of_layer_is_exported_or_refused_with_a_reason():
    assert set(EXPORTERS) | set(REFUSED) == set(LAYER_KINDS)
    assert not set(EXPORTERS) & set(REFUSED)
    assert all(len(reason) > 20 for reason in REFUSED.values())


@pytest.mark.parametrize(
    ("number", "data"),
    [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (-1, b"\xff" * 9 + b"\x01"),
     ((1 << 63) - 1, b"\xff" * 8 + b"\x7f")],
)  # fmt: skip
def test_numbers_are_written_as_protobuf_has_them(number, data):
    assert varint(number) == data


def test_messages_are_written_as_protobuf_has_them():
    inner, outer = Message(), Message()
    inner.add_int(1, 150)
    inner.add_text(2, "tésting")
    inner.add_float(3, -0.5)
    outer.add_message(20, inner)
    outer.add_bytes(4, memoryview(b"\0\1"))
    written = b"".join(map(bytes, outer.pieces()))
    assert written == b"\xa2\x01\x12" + b"\x08\x96\x01\x12\x08t\xc3\xa9sting\x1d\0\0\0\xbf" + b"\x22\x02\0\1"
    assert outer.size == len(written)


def test_a_file_says_what_the_network_is(rng, path):
    model = lstm_model(rng, 3, HIDDEN)
    model = cylstm.Model(model.graph._replace(metadata={"unit": "µg/m³"}))
    model.export_onnx(path, states=True)
    found = contents(path)
    assert (found["ir_version"], found["producer_name"]) == (8, "cylstm")
    assert found["opset_import"] == [{"domain": "", "version": 18}]
    assert b"\xc2\xb5g/m\xc2\xb3" in path.read_bytes()
    graph = found["graph"]
    names = [f"{name}.{end}" for end in ("initial", "final") for name in model.state_names[0]]
    inputs, outputs = shapes(graph["input"]), shapes(graph["output"])
    assert list(inputs) == [*model.inputs, *names[:2]]
    assert inputs[model.inputs[0]] == (1, ["batch", "time", 3])
    assert inputs[names[0]] == (1, ["batch", HIDDEN])
    assert list(outputs) == [*model.outputs, *names[2:]]
    weights = {tensor["name"]: tensor for tensor in graph["initializer"]}
    (node,) = (node for node in graph["node"] if node["op_type"] == "LSTM")
    tensor = weights[node["input"][1]]
    assert tensor["data_type"] == 1
    assert list(tensor["dims"]) == [1, 4 * HIDDEN, 3]
    rows = np.frombuffer(tensor["raw_data"], "<f4").reshape(4, HIDDEN, 3)  # i o f c
    layer = next(layer for layer in model.graph.layers if layer.kind == "lstm")
    ours = model.graph.layer_tensors(layer)["weight_ih"].reshape(4, HIDDEN, 3)  # i f g o
    np.testing.assert_array_equal(rows, ours[[0, 3, 1, 2]])


def test_equal_networks_give_equal_bytes(rng, tmp_path):
    model = lstm_model(rng, 3, HIDDEN)
    for name in ("a", "b"):
        model.export_onnx(tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]


def test_times_have_names_and_those_of_one_length_share_it(rng, path):
    builder = GraphBuilder()
    x, y = builder.input("x", (None, 4)), builder.input("y", (None, 4))
    tokens = builder.input("tokens", (None,), indices=True, time_of="x")
    z = builder.add("embedding", "words", {"indices": tokens}, {"weight": L.weight(rng, 9, 4)})["y"]
    builder.output(builder.add("merge", "sum", {"x": x, "x1": z}, options={"mode": "sum"})["y"])
    pooled = builder.add("pool1d", "pool", {"x": y})["y"]
    builder.output(pooled)
    builder.output(builder.add("last", "last", {"x": pooled})["y"])
    fixed = builder.input("fixed", (6, 2))
    builder.output(builder.add("activation", "tanh", {"x": fixed}, options={"activation": "tanh"})["y"])
    cylstm.Model(builder.build(), dtype="float64").export_onnx(path)
    graph = contents(path)["graph"]
    inputs, outputs = shapes(graph["input"]), shapes(graph["output"])
    assert inputs["x"] == (11, ["batch", "x.time", 4])
    assert inputs["y"] == (11, ["batch", "y.time", 4])
    assert inputs["tokens"] == (7, ["batch", "x.time"])
    assert inputs["fixed"] == (11, ["batch", 6, 2])
    assert outputs["sum"] == (11, ["batch", "x.time", 4])
    assert outputs["pool"] == (11, ["batch", "pool.time", 4])
    assert outputs["last"] == (11, ["batch", 4])


def test_axes_lie_as_the_user_has_them(rng, path):
    model = lstm_model(rng, 3, HIDDEN)
    graph = model.graph
    (name,), (output,) = graph.inputs, graph.outputs
    layouts = {name: "10"}
    if len(graph.values[output].shape) == 2:
        layouts[output] = "10"
    model = cylstm.Model(graph._replace(layouts=layouts))
    model.export_onnx(path)
    assert shapes(contents(path)["graph"]["input"])[name] == (1, ["batch", 3, "time"])
    x = rng.normal(size=(3, 3, 7)).astype("f")
    np.testing.assert_allclose(cylstm.load(path).predict(x), model.predict(x), rtol=0, atol=2e-6)


def test_weights_that_layers_share_are_written_once(rng, path):
    builder = GraphBuilder()
    y = builder.input("x", (None, 40))
    weight = builder.tensor("shared", L.weight(rng, 40, 40))
    for i in range(3):
        y = builder.add("dense", f"dense{i}", {"x": y}, {"weight": weight}, {"activation": "tanh"})["y"]
    builder.output(y)
    cylstm.Model(builder.build()).export_onnx(path)
    assert 4 * 1600 < path.stat().st_size < 2 * 4 * 1600


@pytest.mark.parametrize("mode", ["max", "rnn"])
def test_the_body_of_a_scan_says_the_sizes_of_what_it_gives(rng, path, mode):
    """Older ONNX Runtimes need them."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 3, 4))
    if mode == "rnn":
        weights = {"weight_ih": L.weight(rng, 5, 12), "weight_hh": L.weight(rng, 5, 5)}
        y = builder.add("rnn", "tested", {"x": x}, weights, {"gate_clip": 0.5})["y"]
        sizes = ["batch", 5]
    else:
        y = builder.add("cumulate", "tested", {"x": x}, options={"axis": 1, "mode": mode})["y"]
        sizes = ["batch", None, 4]
    builder.output(y)
    cylstm.Model(builder.build()).export_onnx(path)
    (node,) = (node for node in contents(path)["graph"]["node"] if node["op_type"] == "Scan")
    body = next(attribute["g"] for attribute in node["attribute"] if attribute["name"] == "body")
    assert [found for _, found in shapes(body["output"]).values()] == [sizes, sizes]


def test_what_does_not_serve_an_output_is_left_out(rng, path):
    model = lstm_model(rng, 3, HIDDEN)
    model.export_onnx(path)
    graph = contents(path)["graph"]
    read = {name for node in graph["node"] for name in node["input"]} | {one["name"] for one in graph["output"]}
    assert {tensor["name"] for tensor in graph["initializer"]} <= read
    for node in graph["node"]:
        assert read.intersection(node["output"])


# refusals


def test_other_extensions_are_refused(rng, tmp_path):
    model = lstm_model(rng, 3, HIDDEN)
    with pytest.raises(UnsupportedError, match=r"net\.pb: networks are exported as \.onnx files only"):
        model.export_onnx(tmp_path / "net.pb")
    with pytest.raises(UnsupportedError, match=r"export_onnx writes \.onnx"):
        model.save(tmp_path / "net.onnx")


def graph_with(graph, **changes):
    """The graph whose first layer has changes."""
    first, *others = graph.layers
    kept = {name: getattr(first, name) for name in ("kind", "name", "inputs", "outputs", "weights", "options")}
    return graph._replace(layers=(Layer(**{**kept, **changes}), *others))


@pytest.mark.parametrize("kind", EXPORTERS)
def test_an_option_an_input_or_a_weight_that_an_exporter_does_not_know_is_refused(rng, kind, monkeypatch):
    case = next((case for case in L.CASES if case[0] == kind), None)
    graph = one_of(rng, kind) if case is None else L.graph_of(rng, case)
    (layer,) = graph.layers
    spec = LAYER_KINDS[kind]
    monkeypatch.setattr(spec, "defaults", {**spec.defaults, "twist": 0.0})

    def export(**changes):
        write.onnx_message(graph_with(graph, **changes), np.dtype("f"), states=False, steps="all")

    export(options={**layer.options, "twist": 0.0})
    with pytest.raises(UnsupportedError, match=f"layer '{layer.name}' .{kind}. .* option twist=0.5 is not known"):
        export(options={**layer.options, "twist": 0.5})
    if kind not in ("merge", "mask_merge"):  # which take any number
        with pytest.raises(UnsupportedError, match="input 'twist' is not known"):
            export(inputs={**layer.inputs, "twist": graph.inputs[0]})
    array = next(iter(graph.tensors), None)
    graph = graph._replace(tensors={**graph.tensors, "twist": np.ones(3, "f")}) if array is None else graph
    with pytest.raises(UnsupportedError, match="weight 'twist' is not known"):
        export(weights={**layer.weights, "twist": array or "twist"})


def one_of(rng, kind):
    """A graph of one layer of a kind that `L.CASES` has not."""
    builder = GraphBuilder()
    x, tokens = builder.input("x", (None, 4)), builder.input("tokens", (None,), indices=True, time_of="x")
    mask = builder.value(x.mask)
    weights, options, inputs = {}, {}, {"x": x}
    if kind in ("lstm", "gru", "rnn"):
        rows = {"lstm": 4, "gru": 3, "rnn": 1}[kind] * 3
        weights = {"weight_ih": L.weight(rng, rows, 4), "weight_hh": L.weight(rng, rows, 3)}
    elif kind == "conv_lstm":
        inputs = {"x": builder.input("frames", (None, 5, 2))}
        weights = {"weight_ih": L.weight(rng, 12, 4), "weight_hh": L.weight(rng, 12, 6)}
        options = {"kernel_columns": 2}
    elif kind in ("embedding", "numbers", "index_mask"):
        inputs = {"indices": tokens}
        weights = {"weight": L.weight(rng, 9, 3)} if kind == "embedding" else {}
    elif kind in ("mask_merge", "mask_numbers"):
        inputs = {"mask": mask}
    elif kind == "mask_fill":
        inputs = {"x": x, "mask": mask}
    elif kind == "number_mask":
        inputs = {"x": builder.input("number", (None, 1))}
    elif kind == "slice_like":
        inputs = {"x": x, "x1": x}
    elif kind == "constant":
        inputs, weights = {}, {"value": L.weight(rng, 3)}
    outputs = builder.add(kind, "tested", inputs, weights, options)
    if "y" in outputs:
        builder.output(outputs["y"])
        return builder.build()
    builder.output(x)  # a mask is no output
    return builder.build()


def test_a_state_without_a_form_is_refused(rng, path):
    model = cylstm.Model(L.one_layer(rng, "cumulate", (None, 4)))
    model.export_onnx(path)
    with pytest.raises(UnsupportedError, match="layer 'tested' .cumulate. .* state 'running' has no form"):
        model.export_onnx(path, states=True)


def test_a_kind_without_a_form_is_refused_and_leaves_the_file_as_it_was(rng, path, monkeypatch):
    model = lstm_model(rng, 3, HIDDEN)
    path.write_bytes(b"before")
    monkeypatch.setattr(write, "EXPORTERS", {})
    with pytest.raises(UnsupportedError, match="layer 'lstm.*' .lstm. cannot be exported to ONNX: there is no form"):
        model.export_onnx(path)
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == ["net.onnx"]


def test_a_file_that_would_be_too_large_is_refused(rng, path, monkeypatch):
    model = lstm_model(rng, 3, HIDDEN)
    model.export_onnx(path)
    size = path.stat().st_size
    path.unlink()
    monkeypatch.setattr(write, "MOST_BYTES", size - 1)
    with pytest.raises(UnsupportedError, match=re.escape(f"takes {size:,} bytes, and an ONNX file holds at most")):
        model.export_onnx(path)
    assert not path.exists()
    monkeypatch.setattr(write, "MOST_BYTES", size)
    model.export_onnx(path)


def test_a_folder_that_is_not_there_is_an_error_of_the_system(rng, tmp_path):
    with pytest.raises(OSError, match="no such folder"):
        lstm_model(rng, 3, HIDDEN).export_onnx(tmp_path / "no such folder" / "net.onnx")


def test_flags_that_say_nothing_are_refused(rng, path):
    model = lstm_model(rng, 3, HIDDEN)
    with pytest.raises(ArgumentError, match="lengths and mask: a file takes one of both"):
        model.export_onnx(path, lengths=True, mask=True)
    with pytest.raises(ArgumentError, match="states: expected True or False, found 1"):
        model.export_onnx(path, states=1)
    plain = cylstm.Model(L.one_layer(rng, "activation", (None, 4), {"activation": "tanh"}))
    for flag in ("lengths", "mask"):
        with pytest.raises(ArgumentError, match=f"{flag}: expected False, since no layer"):
            plain.export_onnx(path, **{flag: True})


@pytest.mark.parametrize("name", ["x.lengths", "tested.h.initial", "tested.h.final"])
def test_names_that_the_export_needs_are_refused(rng, path, name):
    builder = GraphBuilder()
    x, other = builder.input("x", (None, 4)), builder.input(name, (3,))
    weights = {"weight_ih": L.weight(rng, 3, 4), "weight_hh": L.weight(rng, 3, 3)}
    builder.output(builder.add("rnn", "tested", {"x": x, "h0": other}, weights)["y"])
    model = cylstm.Model(builder.build())
    model.export_onnx(path)
    with pytest.raises(UnsupportedError, match=f"input or output '{name}', which the export needs"):
        model.export_onnx(path, lengths=True, states=True)


# what our reader gives


def test_what_our_reader_takes_back_gives_the_same_numbers(rng, path):
    """It takes no Scan, and some layers with a fixed number of steps alone."""
    right = 0
    for case in L.CASES:
        graph = L.graph_of(rng, case)
        inputs = L.inputs_of(rng, graph)
        if case[0] == "masking":
            inputs[0][:, ::3] = 0
        model = cylstm.Model(graph)
        model.export_onnx(path)
        try:
            again = cylstm.load(path)
        except (UnsupportedError, StaticTimeNeeded):
            continue
        wanted = L.ask(model, inputs)
        scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
        np.testing.assert_allclose(L.ask(again, inputs), wanted, rtol=0, atol=1e-5 * scale, err_msg=str(case))
        right += 1
    assert right >= 150


def test_states_come_back_as_states(rng, path):
    model = lstm_model(rng, 3, HIDDEN)
    model.export_onnx(path, states=True)
    names = [name for names in model.state_names for name in names]
    again = cylstm.load(path, states={f"{name}.final": f"{name}.initial" for name in names})
    x = rng.normal(size=(3, 7, 3)).astype("f")
    wanted, state = model.predict(x, return_state=True)
    found, after = again.predict(x, return_state=True)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)
    for a, b in zip(state, after, strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)


def test_the_command_line_converts_to_onnx(rng, tmp_path, capsys):
    model = lstm_model(rng, 3, HIDDEN)
    source, target = tmp_path / "net.cylstm", tmp_path / "net.ONNX"
    model.save(source)
    assert main(["convert", str(source), str(target), "--metadata", "unit=mm"]) == 0
    x = rng.normal(size=(3, 7, 3)).astype("f")
    np.testing.assert_allclose(cylstm.load(target).predict(x), model.predict(x), rtol=0, atol=2e-6)
    assert b"unit" in target.read_bytes()
    cylstm.convert(source, tmp_path / "wide.onnx", dtype="float64")
    assert shapes(contents(tmp_path / "wide.onnx")["graph"]["input"])[model.inputs[0]][0] == 11
    np.save(tmp_path / "x.npy", x)
    assert main(["convert", str(source), str(target), "--check", str(tmp_path / "x.npy")]) == 2
    assert "check= is kept by .cylstm files only" in capsys.readouterr().err


def test_half_precision_is_exported_as_it_is_rounded(rng, path):
    model = cylstm.Model(lstm_model(rng, 3, HIDDEN).graph, weights="float16")
    model.export_onnx(path)
    x = rng.normal(size=(3, 7, 3)).astype("f")
    np.testing.assert_allclose(cylstm.load(path).predict(x), model.predict(x), rtol=0, atol=2e-6)


def test_nothing_of_the_export_is_imported_before_it_is_asked_for(rng, tmp_path):
    lstm_model(rng, 3, HIDDEN).save(tmp_path / "net.cylstm")
    code = (
        "import sys, numpy, cylstm\n"
        f"model = cylstm.load({str(tmp_path / 'net.cylstm')!r})\n"
        "model.predict(numpy.zeros((1, 2, 3), 'f'))\n"
        "assert not any('onnx' in name for name in sys.modules)\n"
        f"model.export_onnx({str(tmp_path / 'net.onnx')!r})\n"
        "assert 'onnx' not in sys.modules and 'google.protobuf' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
