"""Names and texts from files in what is printed and in what notebooks show: escaped, on one line, of bounded length."""

import html
import re

import numpy as np
import pytest

import cylstm
import cylstm.explain
from cylstm.cli import main
from cylstm.formats.native import write
from cylstm.formats.untrusted import safetensors
from cylstm.graph.builder import GraphBuilder
from cylstm.shown import html_table, shown_name

from tests.builders.layers import weight
from tests.builders.weight_files import lstm_tensors, write_safetensors

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "right \u202eto left\u2066",
    "two\nlines\r\u2028more",
    "<script>alert(1)</script>",
    "'\"&amp;<img src=x onerror=alert(1)>",
    "null\0and \ufeff",
    "n" * 5000,
]
#: what acts on a terminal or turns the writing
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]")


def hostile_model(rng, name):
    builder = GraphBuilder()
    x = builder.input(f"x{name}", (None, 3))
    lstm = {"weight_ih": weight(rng, 20, 3), "weight_hh": weight(rng, 20, 5)}
    y = builder.add("lstm", name, {"x": x}, lstm)["y"]
    y = builder.add("dropout", f"drop {name}", {"x": y}, {}, {"rate": 0.5})["y"]
    builder.output(builder.add("dense", f"fc {name}", {"x": y}, {"weight": weight(rng, 2, 5)})["y"])
    return cylstm.Model(builder.build({"note": name, name: "text", "more": [name]}))


def no_dump(text):
    assert not ACTS.search(text)
    assert max(map(len, text.split("\n"))) < 11_000


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_printed_of_a_file_acts_on_no_terminal(rng, tmp_path, capsys, name):
    hostile_model(rng, name).save(tmp_path / "a.cylstm")
    model = cylstm.load(tmp_path / "a.cylstm")
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    model.summary()
    assert main(["summary", str(tmp_path / "a.cylstm")]) == 0
    lines = capsys.readouterr().out
    no_dump(lines)
    assert shown_name(name)[:100] in lines
    trace = model.trace(x)
    units = cylstm.explain.units(model, x)
    pruned = model.prune(fraction=0.2, data=x)
    for one in (
        model, model.stream(), trace, trace[name], units, units[name], model.predict_mc(x, 3), pruned, pruned.pruning,
        pruned.pruning[name], model.quantize("float16").quantization, model.graph, model.metadata,
    ):  # fmt: skip
        assert not ACTS.search(repr(one)) and not ACTS.search(str(one)), type(one)
        assert "\n" not in repr(one)
    with pytest.raises(cylstm.ArgumentError) as caught:
        model.trace(x, layers=["none"])
    assert not ACTS.search(str(caught.value))


def test_names_of_ten_megabytes_are_cut(rng, tmp_path, capsys):
    name = "\u202e" + "n" * 10_000_000
    model = hostile_model(rng, name)
    model.summary()
    with pytest.raises(cylstm.ShapeError) as caught:
        model.predict(np.zeros((2, 4, 7)))
    shown = [capsys.readouterr().out, str(caught.value), repr(model), model._repr_html_()]
    tensors = {f"{name}.{role}": array for role, array in lstm_tensors(rng, "lstm", 3, 5).items()}
    write_safetensors(tmp_path / "a.safetensors", tensors)
    assert main(["summary", str(tmp_path / "a.safetensors")]) > 0
    for text in (*shown, capsys.readouterr().err):
        no_dump(text)
        assert len(text) < 30_000


def test_a_file_whose_header_could_not_be_read_again_is_not_written(rng, tmp_path, monkeypatch):
    for module in (safetensors, write):
        monkeypatch.setattr(module, "MAX_HEADER", 30_000)
    model = hostile_model(rng, "lstm")
    target = tmp_path / "a.cylstm"
    model.save(target, metadata={"note": "n" * 25_000})
    assert cylstm.load(target).metadata["note"] == "n" * 25_000
    before = target.stat()
    with pytest.raises(cylstm.FormatError, match="at most 30,000 can be read again"):
        model.save(target, metadata={"note": "n" * 30_000})
    assert [path.name for path in tmp_path.iterdir()] == ["a.cylstm"] and target.stat() == before


def test_errors_on_the_command_line_act_on_no_terminal(rng, tmp_path, capsys):
    for name in HOSTILE:
        tensors = {f"{name}.{role}": array for role, array in lstm_tensors(rng, "lstm", 3, 5).items()}
        write_safetensors(tmp_path / "a.safetensors", tensors)
        for arguments in (["summary"], ["summary", "--layers", 'LSTM("a")'], ["explain", str(tmp_path / "a.npy")]):
            assert main([arguments[0], str(tmp_path / "a.safetensors"), *arguments[1:]]) > 0
            err = capsys.readouterr().err
            assert err.startswith("cylstm: ") and not ACTS.search(err)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_notebook_shows_of_a_file_is_text_alone(rng, tmp_path, name):
    hostile_model(rng, name).save(tmp_path / "a.cylstm")
    model = cylstm.load(tmp_path / "a.cylstm")
    x = rng.standard_normal((1, 4, 3)).astype(np.float32)
    for one in (model, model.trace(x), cylstm.explain.units(model, x), model.predict_mc(x, 3)):
        text = one._repr_html_()
        no_dump(text)
        assert set(re.findall(r"</?([^\s>/]*)", text)) <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
        assert set(re.findall(r"<[^>]*>", text)) <= {f"<{end}{tag}>" for end in ("", "/") for tag in (
            "p", "b", "table", "thead", "tbody", "tr", "th", "td")}  # fmt: skip
        assert html.escape(shown_name(name)[:100]) in text


def test_a_notebook_shows_the_layers_and_the_numbers(rng):
    model = hostile_model(rng, "lstm")
    shown = model._repr_html_()
    for cell in ("lstm", "dense", "(batch, time, 5)", "160", "parameters"):
        assert cell in shown
    found = model.predict_mc(rng.standard_normal((1, 2, 3)), 4)
    cells = re.findall(r"<td>(.*?)</td>", found._repr_html_())
    assert f"{found.mean[0, 1, 0]:.6g}" in cells and f"{found.std[0, 1, 1]:.3g}" in cells
    wide = model.predict_mc(rng.standard_normal((9, 9, 3)), 2)
    assert "all of (9, 9, 2)" in wide._repr_html_()
    rows = [("a",), *[(str(k),) for k in range(300)]]
    assert "100 more rows" in html_table("t", rows) and "<td>200</td>" not in html_table("t", rows)
