"""The page about a network: its numbers are those of the trace, names act on nothing, and it needs no network."""

import base64
import json
import math
import os
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain import memory, report, units
from cylstm.explain.report import contents, page
from cylstm.graph.builder import GraphBuilder
from cylstm.shown import shown_name

from tests import ROOT
from tests.builders.browser import Browser, find_browser
from tests.builders.networks import linear_state_dict, lstm_model, lstm_state_dict, random_states
from tests.builders.recurrent import conv_lstm, gru, normalised, numbers, plain_lstm, projected, rnn
from tests.test_trace import network

FOLDER = Path(cylstm.__file__).parent / "explain" / "report"


@pytest.fixture(scope="module")
def browser():
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium: apt install chromium, or name one in CHROMIUM")
    found = Browser(program)
    yield found
    found.close()


def data_of(path):
    """The data of a page, as its script reads them."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def array_of(matrix):
    raw = np.frombuffer(base64.b64decode(matrix["data"]), "<" + matrix["type"])
    return raw.reshape(matrix["shape"])


def part_of(data, layer, part):
    (found,) = (one for one in data["layers"] if one["name"] == layer)
    (matrix,) = (one["values"] for one in found["parts"] if one["part"] == part)
    return array_of(matrix)


@pytest.fixture
def example(rng, tmp_path):
    """Two LSTM layers with a head of three results, three rows of 30 steps, and the page about row 1."""
    model = lstm_model(rng, 4, 9, 3, num_layers=2)
    x = numbers(rng, 3, 30, 4)
    path = tmp_path / "page.html"
    report(model, x, path, row=1, title="An example", names=["pm2.5", "dew point", "wind", "rain"])
    return model, x, path


def test_the_data_have_the_bits_of_the_trace(example):
    model, x, path = example
    data, trace = data_of(path), model.trace(x)
    np.testing.assert_array_equal(array_of(data["inputs"][0]["values"]), x[1])
    np.testing.assert_array_equal(array_of(data["outputs"][0]["values"]), model.predict(x)[1])
    for layer in ("lstm.l0", "lstm.l1"):
        for part in "ifgoch":
            np.testing.assert_array_equal(part_of(data, layer, part), trace[layer][part][1])
        found = memory(trace, layer)
        np.testing.assert_array_equal(part_of(data, layer, "left"), np.float32(found.left[1]))
        np.testing.assert_array_equal(part_of(data, layer, "contribution"), np.float32(found.contributions[1]))
    np.testing.assert_array_equal(part_of(data, "fc", "y"), trace["fc"].y[1])


def test_contributions_to_a_head_sum_to_its_results(example):
    model, x, path = example
    first, second = (layer["memory"] for layer in data_of(path)["layers"][:2])
    assert first["heads"] == []
    (head,) = second["heads"]
    bias = model.graph.layer_tensors(model.graph.layers[-1])["bias"]
    total = np.float64(array_of(head["values"])).sum(axis=0) + head["initial"] + head["residual"] + bias
    np.testing.assert_allclose(total, model.predict(x)[1, -1], rtol=0, atol=1e-6)


def test_the_tables_of_units_are_those_of_all_rows(example):
    model, x, path = example
    found = units(model, x)
    for table, name in zip(data_of(path)["units"], found):
        one = found[name]
        assert (table["layer"], table["steps"]) == (name, 90)
        columns = dict(zip(table["head"], zip(*table["rows"])))
        np.testing.assert_array_equal(columns["mean"], one.mean)
        np.testing.assert_array_equal(columns["f open, %"], 100 * one.open["f"])
        np.testing.assert_array_equal(columns["o shut, %"], 100 * one.shut["o"])


def open_page(browser, path, **how):
    browser.open(path, **how)
    assert browser.messages == []
    assert browser.requests == [path.resolve().as_uri()]


def said(browser, chart):
    return browser.run(f'document.querySelector("#chart-{chart} output").textContent')


def focus(browser, chart):
    browser.run(f'document.querySelector("#chart-{chart} .stage").focus()')


def choose(browser, select, text):
    """The option that begins so."""
    script = """((id, text) => {
        const select = document.getElementById(id);
        const found = [...select.options].find((one) => one.textContent.startsWith(text));
        select.value = found.value;
        select.dispatchEvent(new Event("change"));
    })"""
    browser.run(f"{script}({json.dumps(select)}, {json.dumps(text)})")


def number_said(text):
    return float(re.search(r"[=:] (-?[\d.e+-]+)(?: \(|$)", text)[1])


def test_keys_move_the_cursor_and_say_the_numbers_of_the_trace(browser, example):
    model, x, path = example
    trace = model.trace(x)
    open_page(browser, path)
    assert browser.run("document.title") == "An example"
    assert browser.run("document.querySelector('h1').textContent") == "An example"
    choose(browser, "layer", "lstm.l1")
    choose(browser, "part", "c: ")
    choose(browser, "order", "by number")
    focus(browser, "part")
    step, unit = 29, 0
    for key, moves in [
        ("Home", (-99, 0)), ("ArrowRight", (1, 0)), ("ArrowDown", (0, 1)), ("ArrowDown", (0, 1)), ("PageDown", (10, 0)),
        ("ArrowLeft", (-1, 0)), ("ArrowUp", (0, -1)), ("PageUp", (-10, 0)), ("PageUp", (-10, 0)), ("End", (99, 0)),
        ("ArrowRight", (1, 0)),
    ]:  # fmt: skip
        browser.press(key)
        step, unit = min(max(step + moves[0], 0), 29), min(max(unit + moves[1], 0), 8)
        text = said(browser, "part")
        assert text.startswith(f"step {step}, unit {unit}: c = ")
        np.testing.assert_allclose(number_said(text), trace["lstm.l1"].c[1, step, unit], rtol=1e-6)
        # the other charts follow
        assert said(browser, "output").startswith(f"step {step}: result 0 = ")
        np.testing.assert_allclose(number_said(said(browser, "output")), model.predict(x)[1, step, 0], rtol=1e-6)
        assert number_said(said(browser, "unit")) == number_said(text)


def test_the_contributions_are_said_step_by_step(browser, example):
    model, x, path = example
    trace = model.trace(x)
    weight = model.graph.layer_tensors(model.graph.layers[-1])["weight"]
    open_page(browser, path)
    choose(browser, "past-layer", "lstm.l1")
    choose(browser, "past-target", "result 2 of fc")
    wanted = memory(trace, "lstm.l1").through(weight)[0][1, :, 2]
    for span, first in (("all", 0), ("last 24", 6)):
        choose(browser, "past-span", span)
        focus(browser, "past")
        browser.press("Home")
        for step in range(first, 30):
            assert said(browser, "past").startswith(f"step {step}: ")
            np.testing.assert_allclose(number_said(said(browser, "past")), wanted[step], rtol=1e-5, atol=1e-12)
            browser.press("ArrowRight")
    # a cursor that comes from another chart
    focus(browser, "input")
    browser.press("Home")
    browser.press("PageDown")
    assert said(browser, "past").startswith("step 10: ")


def test_the_mouse_says_what_is_under_it(browser, example):
    model, x, path = example
    open_page(browser, path, height=4000)
    choose(browser, "order", "by number")
    box = browser.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        '(document.querySelector("#chart-part canvas").getBoundingClientRect())'
    )
    left, top, width, height = box
    across, down = (width - 56 - 18) / 30, (height - 22) / 9
    for step, unit in ((0, 0), (7, 3), (29, 8), (15, 5)):
        browser.point(left + 56 + (step + 0.5) * across, top + (unit + 0.5) * down)
        assert said(browser, "part").startswith(f"step {step}, unit {unit}: f = ")
        np.testing.assert_allclose(
            number_said(said(browser, "part")), model.trace(x)["lstm.l0"].f[1, step, unit], rtol=1e-6
        )


def table_of(browser, selector):
    rows = f"[...document.querySelectorAll({json.dumps(selector + ' tr')})]"
    return browser.run(f"{rows}.map((row) => [...row.cells].map((cell) => cell.textContent))")


def test_tables_hold_the_numbers_for_those_who_cannot_see_charts(browser, example):
    model, x, path = example
    open_page(browser, path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.settle()
    choose(browser, "layer", "lstm.l1")
    found = table_of(browser, "#values-part")
    assert found[0] == ["unit", "f"]
    np.testing.assert_allclose([float(cell) for _, cell in found[1:]], model.trace(x)["lstm.l1"].f[1, -1], rtol=1e-6)
    found = table_of(browser, "#values-prediction")
    np.testing.assert_allclose([float(row[3]) for row in found[1:5]], x[1, -1], rtol=1e-6)
    np.testing.assert_allclose([float(row[3]) for row in found[5:]], model.predict(x)[1, -1], rtol=1e-6)
    assert [row[1] for row in found[1:5]] == ["pm2.5", "dew point", "wind", "rain"]
    found = table_of(browser, "#values-past")
    assert len(found) == 31


def test_the_table_of_units_is_sorted_by_its_heads_with_the_keyboard(browser, example):
    model, x, path = example
    open_page(browser, path)
    mean = units(model, x)["lstm.l0"].mean
    browser.run("[...document.querySelectorAll('#units-table th button')][3].focus()")
    for order, direction in ((np.argsort(mean), "ascending"), (np.argsort(-mean), "descending")):
        browser.press("Enter")
        found = table_of(browser, "#units-table")
        assert found[0][3] == "mean"
        assert [int(row[0]) for row in found[1:]] == order.tolist()
        sorts = browser.run("[...document.querySelectorAll('#units-table th[scope=col]')].map((one) => one.ariaSort)")
        assert sorts.pop(3) == direction and set(sorts) == {"none"}
        assert browser.run("document.activeElement.textContent") == "mean"


def test_the_page_is_marked_up_for_screen_readers(browser, example):
    open_page(browser, example[2])
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.settle()
    assert browser.run("document.documentElement.lang") == "en"
    assert browser.run("[...document.querySelectorAll('select')].every((one) => one.labels.length === 1)")
    assert browser.run("[...document.querySelectorAll('th')].every((one) => one.scope)")
    assert browser.run("[...document.querySelectorAll('table')].every((one) => one.caption && one.tHead)")
    assert browser.run("[...document.querySelectorAll('section')].every((one) => one.getAttribute('aria-labelledby'))")
    ids = browser.run("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    stages = "[...document.querySelectorAll('.stage')]"
    assert browser.run(f"{stages}.length") == 6
    for attribute in ("aria-labelledby", "aria-describedby"):
        assert browser.run(
            f"{stages}.every((one) => document.getElementById(one.getAttribute('{attribute}')).textContent)"
        )
    lives = browser.run("[...document.querySelectorAll('.chart output')].map((one) => one.ariaLive)")
    assert lives == ["polite"] * 6
    # what scrolls is reached by the keyboard and has a name
    assert browser.run("[...document.querySelectorAll('.scroll')].every((one) => one.tabIndex === 0 && one.ariaLabel)")


def test_the_order_of_focus_is_that_of_the_page(browser, example):
    open_page(browser, example[2])
    places = []
    for _ in range(60):
        browser.press("Tab")
        place = browser.run(
            "document.activeElement === document.body ? null : "
            "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
        )
        if place is None:
            break
        places.append(place)
    assert len(places) > 20 and places == sorted(places)
    assert browser.run('document.querySelectorAll(\'[tabindex]:not([tabindex="0"]):not([tabindex="-1"])\').length') == 0


def luminance(colour):
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_lines_stand_out_from_what_is_behind_them(scheme):
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]))
    for front, least in {"text": 7.0, "quiet": 4.5, "accent": 4.5, "bar": 4.5, "cursor": 3.0}.items():
        for behind in ("ground", "panel"):
            light, dark = sorted((luminance(colours[front]), luminance(colours[behind])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= least, (front, behind)
    # no colour stands anywhere else
    assert re.sub(r"--\w+: #\w{6};", "", style).count("#facts") == len(
        re.findall(r"#\w+", re.sub(r"--\w+: #\w{6};", "", style))
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_the_page_fits_its_window_and_is_drawn(browser, example, tmp_path, scheme, width):
    open_page(browser, example[2], width=width, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 382) == (scheme == "light")
    colours = """[...document.querySelectorAll(".stage canvas")].map((canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(pixels.buffer)).size;
    })"""
    found = browser.run(colours)
    assert len(found) == 6 and min(found) > 10
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


HOSTILE = [
    "<script>window.hacked = 1; alert(1)</script>",
    "</script><script>window.hacked = 2</script>",
    "<!-- <script>",
    "</title><img src=x onerror='window.hacked = 3'>",
    "\"'><svg onload=window.hacked=4>",
    "{{script}} {{data}} \\u003c",
    "a\u2028b\u2029c\x00d\x1be",
    "right \u202eto left \u2066isolated",
    "half \ud800 pair",
    "javascript:window.hacked=5",
    "&lt;b&gt; &amp;",
    "x" * 10_000_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_from_files_are_text_on_the_page(browser, rng, tmp_path, name):
    graph = network(rng, plain_lstm).graph
    layers = [
        layer._replace(name=f"{name}{k}" if len(name) < 100 else name[k:]) for k, layer in enumerate(graph.layers)
    ]
    graph = graph._replace(layers=tuple(layers), metadata={"title": name, name: name})
    model = cylstm.Model(graph)
    path = tmp_path / "page.html"
    report(model, numbers(rng, 3, 7, 5), path, names=[name] * 5)
    assert path.stat().st_size < 300_000
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script") == 2 and "<!--" not in text
    assert "\x00" not in text
    open_page(browser, path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.settle()
    for select in ("layer", "past-layer", "units-layer", "feature", "past-target"):
        browser.run(f"document.getElementById('{select}').dispatchEvent(new Event('change'))")
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.messages == []
    shown = shown_name(layers[0].name)
    assert browser.run("document.title") == shown_name(name)
    assert browser.run("document.querySelector('h1').textContent") == shown_name(name)
    assert browser.run("document.getElementById('layer').options[0].textContent") == f"{shown} (lstm)"
    assert table_of(browser, "#network-table")[2][0] == shown
    assert browser.run("document.querySelectorAll('script, img, svg, iframe').length") == 2
    assert browser.run("document.querySelectorAll('#feature option').length") == 5


def test_the_policy_forbids_other_scripts_and_all_loading(browser, example):
    open_page(browser, example[2])
    browser.run(
        """(() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            const image = new Image();
            image.src = "https://example.org/x.png";
            const style = document.createElement("style");
            style.textContent = "body { display: none }";
            document.head.append(style);
            return fetch("https://example.org/").catch(() => null);
        })()"""
    )
    browser.settle()
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.run("getComputedStyle(document.body).display") == "block"
    assert len(browser.messages) >= 4 and all(
        "Content Security Policy" in one or "Fetch API" in one for one in browser.messages
    )
    assert not [one for one in browser.requests if "example.org" in one]


def test_nothing_of_the_page_points_elsewhere(example):
    text = example[2].read_text(encoding="utf-8")
    shell = re.sub(r'(<script type="application/json" id="data">).*?(</script>)', r"\1\2", text, flags=re.DOTALL)
    assert re.findall(r"https?:|//[a-z]|url\(|@import|\bsrc=|import\(|eval\(|innerHTML|document\.write", shell) == []


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028\u2029", "&amp;", "\ud800", '"\\'])
def test_embedded_json_holds_nothing_that_html_reads(text):
    found = page.embedded_json({"a": text})
    assert not re.search(r"[<>&\u2028\u2029]", found) and found.isascii()
    assert json.loads(found) == {"a": text}


def long_example(rng, monkeypatch):
    monkeypatch.setattr(contents, "MOST_IN_MAPS", 6000)
    monkeypatch.setattr(contents, "MOST_IN_SERIES", 300)
    monkeypatch.setattr(contents, "LEAST_STEPS", 8)
    model = lstm_model(rng, 2, 40, 3)
    return model, numbers(rng, 1, 203, 2)


def test_long_traces_are_means_of_neighbours_and_the_page_says_so(browser, rng, tmp_path, monkeypatch):
    model, x = long_example(rng, monkeypatch)
    path = tmp_path / "page.html"
    report(model, x, path)
    data, trace = data_of(path), model.trace(x)
    (layer, _) = data["layers"]
    total = sum(math.prod(part["values"]["shape"]) for one in data["layers"] for part in one["parts"])
    assert total <= 6000
    part = layer["parts"][1]["values"]
    per, wide = part["perStep"], part["perUnit"]
    assert (per, wide, part["steps"], part["units"]) == (12, 1, 203, 40) or per > 1
    f = np.float64(trace["lstm.l0"].f[0])
    wanted = [f[k : k + per].mean(axis=0) for k in range(0, 203, per)]
    np.testing.assert_allclose(array_of(part), wanted, rtol=1e-6)
    sums = part_of(data, "lstm.l0", "contribution")
    np.testing.assert_allclose(
        sums.sum(axis=0), memory(trace, "lstm.l0").contributions[0].sum(axis=0), rtol=1e-5, atol=1e-7
    )
    assert any(f"a column of a heat map stands for up to {per} of 203 steps" in note for note in data["notes"])
    assert any("a column of a series stands for" in note for note in data["notes"])
    open_page(browser, path)
    notes = browser.run("document.getElementById('notes').textContent")
    assert all(note in notes for note in data["notes"])
    focus(browser, "part")
    browser.press("Home")
    assert said(browser, "part").startswith(f"steps 0 to {per - 1}, unit ") and said(browser, "part").endswith("(mean)")


def test_a_wide_and_long_network_takes_a_page_of_bounded_size(rng, tmp_path):
    model = lstm_model(rng, 3, 512, 3)
    path = tmp_path / "page.html"
    report(model, numbers(rng, 1, 1500, 3), path)
    assert path.stat().st_size < 8_000_000


def test_wide_layers_are_means_of_neighbouring_units(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_UNITS", 16)
    model = lstm_model(rng, 2, 40, 3)
    x = numbers(rng, 1, 9, 2)
    report(model, x, tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    found = part_of(data, "lstm.l0", "f")
    f = np.float64(model.trace(x)["lstm.l0"].f[0])
    np.testing.assert_allclose(
        found, np.stack([f[:, k : k + 3].mean(axis=1) for k in range(0, 40, 3)], axis=1), rtol=1e-6
    )
    assert "a row of a heat map stands for up to 3 of 40" in " ".join(data["notes"])


def test_many_features_are_named_by_their_numbers_where_they_are_joined(browser, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_UNITS", 2)
    x = numbers(rng, 1, 9, 5)
    path = tmp_path / "page.html"
    report(lstm_model(rng, 5, 4, 3), x, path, names=list("abcde"))
    open_page(browser, path)
    options = browser.run("[...document.querySelectorAll('#feature option')].map((one) => one.textContent)")
    assert options == ["features 0 to 2", "features 3 to 4"]
    choose(browser, "feature", "features 3")
    np.testing.assert_allclose(number_said(said(browser, "input")), x[0, -1, 3:].mean(), rtol=1e-6)


def bidirectional(rng):
    return lstm_model(rng, 5, 6, 2, bidirectional=True)


def of_words(rng):
    tensors = {"emb.weight": numbers(rng, 11, 5)} | lstm_state_dict(rng, 5, 7) | linear_state_dict(rng, 7, 2)
    return cylstm.from_state_dict(
        tensors, [cylstm.Embedding("emb"), cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]
    )


def two_inputs(rng):
    builder = GraphBuilder()
    x, z = builder.input("x", (None, 5)), builder.input("z", (3,))
    kind, weights, options = plain_lstm(rng, 5, 6)
    y = builder.add(kind, "cell", {"x": x}, weights, options)["y"]
    y = builder.add("last", "last", {"x": y})["y"]
    builder.output(builder.add("dense", "head", {"x": y}, {"weight": numbers(rng, 2, 6)})["y"])
    builder.output(builder.add("dense", "other", {"x": z}, {"weight": numbers(rng, 4, 3)})["y"])
    return cylstm.Model(builder.build())


def without_recurrence(rng):
    builder = GraphBuilder()
    x = builder.input("x", (5,))
    builder.output(builder.add("dense", "head", {"x": x}, {"weight": numbers(rng, 4, 5)})["y"])
    return cylstm.Model(builder.build())


KINDS = {
    "gru": lambda rng: network(rng, gru),
    "rnn": lambda rng: network(rng, rnn),
    "conv_lstm": lambda rng: network(rng, conv_lstm),
    "projected": lambda rng: network(rng, projected),
    "normalised": lambda rng: network(rng, normalised),
    "reverse": lambda rng: network(rng, plain_lstm, reverse=True),
    "bidirectional": bidirectional,
    "last": lambda rng: lstm_model(rng, 5, 6, last=True),
    "words": of_words,
    "two inputs": two_inputs,
    "no recurrence": without_recurrence,
    "float64": lambda rng: network(rng, plain_lstm, engine="blas", dtype="float64"),
}


def input_of(rng, model):
    if len(model.inputs) > 1:
        return [numbers(rng, 3, 7, 5), numbers(rng, 3, 3)]
    shape = model.graph.values[model.inputs[0]].shape
    if model.graph.values[model.inputs[0]].kind == "index":
        return rng.integers(0, 11, (3, 7))
    return numbers(rng, 3, *(7 if size is None else size for size in shape))


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_have_a_page(browser, rng, tmp_path, kind):
    model = KINDS[kind](rng)
    x = input_of(rng, model)
    path = tmp_path / "page.html"
    report(model, x, path, row=2)
    # of the row alone: a BLAS gives other bits in another batch
    data, trace = data_of(path), model.trace([one[2:] for one in x] if len(model.inputs) > 1 else x[2:])
    outputs = trace.outputs if isinstance(trace.outputs, list) else [trace.outputs]
    for shown, found in zip(data["outputs"], outputs):
        assert array_of(shown["values"]).tobytes() == np.ascontiguousarray(found[0]).tobytes()
    for layer in data["layers"]:
        for part in layer["parts"]:
            if part["part"] in trace[layer["name"]].parts:
                wanted = np.ascontiguousarray(trace[layer["name"]][part["part"]][0])
                assert array_of(part["values"]).tobytes() == wanted.tobytes(), (layer["name"], part["part"])
    open_page(browser, path)
    for layer in data["layers"]:
        choose(browser, "layer", f"{layer['name']} (")
        for part in layer["parts"]:
            choose(browser, "part", f"{part['part']}: ")
            assert number_said(said(browser, "part")) is not None
    assert browser.messages == []
    refused = {"rnn": "a simple RNN is no sum over its past", "normalised": "normalises the cell that it carries"}
    if kind in refused:
        assert refused[kind] in browser.run("document.getElementById('past-said').textContent")
    assert browser.run("document.getElementById('past').hidden") == (kind == "no recurrence")


@pytest.mark.parametrize("reverse", [False, True])
def test_heads_are_followed_where_they_read_the_last_step_alone(rng, tmp_path, reverse):
    # the last step of a layer that runs backwards is the first that it takes: nothing of the past is in it
    builder = GraphBuilder()
    x = builder.input("x", (None, 5))
    kind, weights, options = plain_lstm(rng, 5, 6)
    y = builder.add(kind, "cell", {"x": x}, weights, options | {"reverse": reverse})["y"]
    last = builder.add("last", "last", {"x": y})["y"]
    bias = {"weight": numbers(rng, 2, 6), "bias": numbers(rng, 2)}
    builder.output(builder.add("dense", "head", {"x": last}, bias)["y"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, 1, 9, 5)
    report(model, x, tmp_path / "page.html")
    heads = data_of(tmp_path / "page.html")["layers"][0]["memory"]["heads"]
    assert len(heads) == (0 if reverse else 1)
    for head in heads:
        total = array_of(head["values"]).sum(axis=0) + head["initial"] + head["residual"] + bias["bias"]
        np.testing.assert_allclose(total, model.predict(x)[0], rtol=0, atol=1e-6)


def test_steps_that_do_not_count_are_said_to(browser, rng, tmp_path):
    model = network(rng, plain_lstm, masked=True)
    x = numbers(rng, 3, 8, 5)
    path = tmp_path / "page.html"
    report(model, x, path, row=1, lengths=[8, 5, 3], initial_state=random_states(rng, model, 3))
    assert np.isnan(part_of(data_of(path), "cell", "f")[5:]).all()
    open_page(browser, path)
    assert said(browser, "part").startswith("step 7, ") and said(browser, "part").endswith("f = not counted")
    assert "initial state contributed" in browser.run("document.getElementById('past-said').textContent")


def test_a_sample_without_a_batch_has_the_page_of_its_row(rng, tmp_path):
    model = lstm_model(rng, 4, 9, 3)
    x = numbers(rng, 1, 20, 4)
    report(model, x, tmp_path / "a.html")
    report(model, x[0], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_inputs_whose_steps_lie_behind_their_features_are_shown_over_time(browser, rng, tmp_path):
    model = network(rng, plain_lstm)
    turned = cylstm.Model(model.graph._replace(layouts={"x": "10", model.outputs[0]: "10"}))
    x = numbers(rng, 3, 9, 5)
    report(model, x, tmp_path / "a.html", row=1)
    report(turned, np.ascontiguousarray(x.transpose(0, 2, 1)), tmp_path / "b.html", row=1)
    plain, found = data_of(tmp_path / "a.html"), data_of(tmp_path / "b.html")
    for of in ("inputs", "outputs", "units"):
        assert found[of] == plain[of]
    open_page(browser, tmp_path / "b.html")
    assert said(browser, "input").startswith("step 8: feature 0 = ")


def test_many_layers_are_cut_and_the_page_says_so(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "MOST_LAYERS", 2)
    model = lstm_model(rng, 4, 5, 3, num_layers=3)
    report(model, numbers(rng, 1, 6, 4), tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert [layer["name"] for layer in data["layers"]] == ["lstm.l0", "lstm.l1"]
    assert data["notes"][0] == "2 of 4 layers are left out; the recurrent ones come first."


def test_a_page_that_cannot_be_written_leaves_the_old_one(rng, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail(number):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        report(lstm_model(rng, 4, 5, 3), numbers(rng, 1, 6, 4), path)
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"] and path.read_text() == "old"


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"row": 3}, ArgumentError, "row: expected one of 3, found 3"),
        ({"row": 1.0}, ArgumentError, "row: expected one of 3, found 1.0"),
        ({"names": ["a"]}, ArgumentError, "names: expected 4 texts, found"),
        ({"names": "abcd"}, ArgumentError, "names: expected 4 texts, found 'abcd'"),
        ({"title": 3}, ArgumentError, "title: expected a text, found 3"),
        ({"path": 3}, ArgumentError, "path: expected the name of a file, found 3"),
        ({"x": np.zeros((3, 7, 5), "f")}, ShapeError, "5"),
        ({"x": [[1.0, 2.0], [3.0]]}, ShapeError, "different lengths: 2, 1"),
        ({"x": {"y": 1}}, ArgumentError, "x: expected the inputs "),
        ({"lengths": [8, 1, 1]}, ShapeError, "lengths: "),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(rng, tmp_path, how, error, message):
    given = {"x": numbers(rng, 3, 7, 4), "path": tmp_path / "page.html"} | how
    with pytest.raises(error, match=message):
        report(lstm_model(rng, 4, 5, 3), given.pop("x"), given.pop("path"), **given)
    assert list(tmp_path.iterdir()) == []


def test_the_templates_are_installed():
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("no pyproject.toml in this copy")
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    templates = [path.name for path in FOLDER.iterdir() if path.suffix not in (".py", ".pyc") and path.is_file()]
    assert sorted(templates) == ["page.css", "page.html", "page.js"]
    assert all(any(fnmatch(name, one) for one in patterns["cylstm.explain.report"]) for name in templates)
