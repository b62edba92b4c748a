"""Plots: they draw the numbers of the trace, in the Axes that are given, and names of files act on nothing."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, ShapeError, UnsupportedError
from cylstm.explain import memory, plot, units
from cylstm.explain.order import similar_order
from cylstm.shown import shown_name

from tests.builders.networks import lstm_model
from tests.builders.recurrent import conv_lstm, gru, numbers, plain_lstm, rnn
from tests.test_trace import network

matplotlib = pytest.importorskip("matplotlib")

HOSTILE = [
    "a$b$c",
    r"$\frac{1}{0}$",
    r"$\undefined$",
    "one\ntwo\rthree",
    "nul\x00 esc\x1b[31m",
    "right \u202eto left\u2066",
    "_hidden",
    "%s {0} \\",
    "half \ud800",
    "long " * 2_000_000,
]


@pytest.fixture(autouse=True)
def pyplot():
    """Pictures in memory alone; every figure is drawn once, so that what is wrong in a text shows."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()
    pyplot.close("all")


def new_axes(count=1):
    """Axes that pyplot does not know."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 3 * count)).subplots(count, 1, squeeze=False)[:, 0]
    return axes[0] if count == 1 else list(axes)


def head_of(model):
    return model.graph.layer_tensors(model.graph.layers[-1])["weight"]


@pytest.fixture
def example(rng):
    """Two LSTM layers with a head of three results, and a trace of three rows."""
    model = lstm_model(rng, 4, 9, 3, num_layers=2)
    x = numbers(rng, 3, 30, 4)
    return model, x, model.trace(x)


def picture(axis):
    """The numbers of a heat map."""
    return np.asarray(axis.get_images()[0].get_array())


@pytest.mark.parametrize("part", ["i", "f", "g", "o", "c", "h", "f_pre"])
def test_a_heat_map_shows_each_unit_where_its_number_says(example, part):
    _, _, trace = example
    axis = plot.gates(trace, "lstm.l1", part, row=2)
    rows = [int(label.get_text()) for label in axis.get_yticklabels()]
    assert sorted(rows) == list(range(9))
    np.testing.assert_array_equal(picture(axis), np.float64(trace["lstm.l1"][part][2][:, rows].T))
    plain = plot.gates(trace, "lstm.l1", part, row=2, order="unit")
    np.testing.assert_array_equal(picture(plain), np.float64(trace["lstm.l1"][part][2].T))


def test_many_units_have_ticks_that_fit(rng):
    model = lstm_model(rng, 3, 300)
    axis = plot.gates(model.trace(numbers(rng, 1, 20, 3)), "lstm.l0")
    axis.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert len(boxes) > 10
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_bands_are_the_percentiles_of_the_units(example):
    _, _, trace = example
    axis = plot.gates(trace, "lstm.l0", style="bands")
    f = np.float64(trace["lstm.l0"].f[0])
    np.testing.assert_allclose(axis.get_lines()[0].get_ydata(), np.median(f, axis=1))
    path = axis.collections[0].get_paths()[0].get_extents()
    assert (path.y0, path.y1) == (f.min(), f.max())


def test_units_that_move_alike_lie_side_by_side(rng):
    base = rng.normal(size=(3, 200))
    kind = rng.permutation(np.repeat([0, 1, 2], 20))
    values = base[kind].T * rng.uniform(0.5, 2.0, 60) + 0.05 * rng.normal(size=(200, 60))
    order = similar_order(values)
    assert sorted(order) == list(range(60))
    assert (np.diff(kind[order]) != 0).sum() <= 3
    constant = np.concatenate([values, np.ones((200, 2))], axis=1)
    assert sorted(similar_order(constant)[-2:]) == [60, 61]


@pytest.mark.parametrize("make", [plain_lstm, gru, rnn, conv_lstm])
def test_steps_that_do_not_count_are_left_out(rng, make):
    model = network(rng, make, masked=True)
    x = numbers(rng, 3, 8, *model.graph.values["x"].shape[1:])
    trace = model.trace(x, mask=np.arange(8) < np.array([[8], [5], [0]]))
    for row, counted in enumerate([8, 5, 0]):
        axis = plot.gates(trace, "cell", trace["cell"].parts[0] if make is not rnn else "h_pre", row=row)
        found = np.ma.masked_invalid(picture(axis))
        assert not np.ma.getmaskarray(found)[:, :counted].any()
        assert np.ma.getmaskarray(found)[:, counted:].all()
        plot.states(trace, "cell", row=row)
        plot.gates(trace, "cell", "h", style="bands", row=row)


def test_the_series_has_a_panel_per_layer_and_one_of_all_with_the_gates_as_colours(example):
    model, x, trace = example
    y = model.predict(x)[1, -5:, 0]
    axes = plot.series(trace, x[1, :, 0], forecast=y, truth=y + 1, row=1, unit="ug/m3")
    assert [axis.get_title(loc="left") for axis in axes] == [
        "lstm.l0: mean of f",
        "lstm.l1: mean of f",
        "all of these layers: mean",
    ]
    means = [np.float64(trace[name].f[1]).mean(axis=1)[1:] for name in ("lstm.l0", "lstm.l1")]
    for axis, colours in zip(axes, [*means, np.mean(means, axis=0)]):
        (lines,) = axis.collections
        np.testing.assert_allclose(lines.get_array(), colours)
        drawn = {line.get_label(): line.get_xydata() for line in axis.get_lines()}
        np.testing.assert_array_equal(drawn["_context"][:, 1], np.float64(x[1, :, 0]))
        np.testing.assert_array_equal(drawn["forecast"], np.stack([np.arange(30, 35), y], axis=1))
        np.testing.assert_array_equal(drawn["truth"][1:], np.stack([np.arange(30, 35), y + 1], axis=1))


def test_the_series_of_a_gru_has_the_update_gate(rng):
    model = network(rng, gru)
    trace = model.trace(numbers(rng, 3, 7, 5))
    (axis,) = plot.series(trace, np.arange(7.0), ax=new_axes())
    np.testing.assert_allclose(axis.collections[0].get_array(), np.float64(trace["cell"].z[0]).mean(axis=1)[1:])


def test_bars_are_the_contributions_to_a_result(example):
    model, x, trace = example
    found = memory(trace, "lstm.l1")
    wanted = found.through(head_of(model))[0][2, -10:, 1]
    below = plot.contributions(found, head_of(model), output=1, row=2, last=10)
    bars = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in below.patches)
    np.testing.assert_allclose([at for at, _ in bars], np.arange(20, 30))
    np.testing.assert_allclose([height for _, height in bars], wanted)
    assert all(bool(bar.get_hatch()) == (bar.get_height() < 0) for bar in below.patches)
    assert any(height < 0 for _, height in bars)
    above, _ = plot.contributions(found, head_of(model), output=1, row=2, last=10, context=x[2, :, 0], truth=[1.0, 2.0])
    assert above.get_xlim() == (19.5, 31.5)


def test_all_results_are_a_map_and_the_state_has_sizes(example):
    model, _, trace = example
    found = memory(trace, "lstm.l1")
    axis = plot.contributions(found, head_of(model), row=1)
    np.testing.assert_allclose(picture(axis), found.through(head_of(model))[0][1].T)
    sizes = plot.contributions(found, row=1)
    heights = sorted((bar.get_x(), bar.get_height()) for bar in sizes.patches)
    np.testing.assert_allclose([h for _, h in heights], np.abs(found.contributions[1]).mean(axis=1))


def test_the_past_of_a_layer_that_runs_backwards_is_what_comes_after(rng):
    model = network(rng, plain_lstm, reverse=True)
    found = memory(model.trace(numbers(rng, 3, 12, 5)), "cell", 4)
    axis = plot.contributions(found, row=1, last=5)
    bars = sorted((round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in axis.patches)
    assert [at for at, _ in bars] == [4, 5, 6, 7, 8]
    np.testing.assert_allclose([h for _, h in bars], np.abs(found.contributions[1, 4:9]).mean(axis=1))


def test_states_are_lines_and_of_many_units_those_that_move_most(rng, example):
    _, _, trace = example
    axis = plot.states(trace, "lstm.l0", "h", units=[7, 2], row=1)
    lines = [line for line in axis.get_lines() if line.get_label().startswith("unit")]
    assert [line.get_label() for line in lines] == ["unit 7", "unit 2"]
    np.testing.assert_array_equal(lines[0].get_ydata(), np.float64(trace["lstm.l0"].h[1, :, 7]))
    # lines are told apart without their hue
    assert len({(line.get_linestyle(), line.get_linewidth()) for line in lines}) == 2
    spread = trace["lstm.l0"].c[0].std(axis=0)
    named = [line.get_label() for line in plot.states(trace, "lstm.l0").get_lines()][:4]
    assert named == [f"unit {k}" for k in sorted(np.argsort(-spread)[:4])]


def test_saturation_has_a_ring_for_every_place_of_a_unit(example):
    model, x, _ = example
    report = units(model, x)["lstm.l0"]
    axes = plot.saturation(report)
    assert [axis.get_title(loc="left") for axis in axes] == [f"lstm.l0: gate {gate}, 9 units" for gate in "ifo"]
    found = {tuple(place) for place in axes[1].collections[0].get_offsets()}
    assert found == {(round(a, 2), round(b, 2)) for a, b in zip(report.shut["f"], report.open["f"])}
    assert plot.saturation(report, "o", ax=new_axes()) is not None


def test_an_occlusion_map_hatches_the_negative_cells_alone(rng):
    effects = rng.normal(size=(6, 3))
    effects[2, 1], effects[4, 0] = np.nan, 0.0
    axis = plot.occlusion(effects, ["a", "b", "c"], first=-6, unit="kW")
    np.testing.assert_array_equal(picture(axis)[0], effects[:, 0])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    # as the values of cylstm.explain.occlusion are
    assert axis.get_title(loc="left") == "the prediction less that without"
    (image,) = axis.get_images()
    assert image.get_clim()[0] == -image.get_clim()[1] == -np.nanmax(np.abs(effects))
    hatched = [one for one in axis.collections if one.get_hatch() or getattr(one, "hatches", [None])[0]]
    paths = [path for one in hatched for path in one.get_paths()]
    most = np.nanmax(np.abs(effects))
    for step in range(6):
        for feature in range(3):
            is_inside = sum(path.contains_point((step - 6, feature)) for path in paths) % 2 == 1
            assert is_inside == bool(effects[step, feature] < -0.04 * most), (step, feature)


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_maps_of_one_sign_or_of_zeros_are_drawn(sign):
    axis = plot.occlusion(np.full((4, 2), sign))
    assert len(axis.collections) == (1 if sign < 0 else 0)


def luminance(colours):
    from matplotlib.colors import to_rgba_array

    rgb = to_rgba_array(colours)[:, :3]
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_colours_of_gates_differ_in_lightness_alone(example):
    _, _, trace = example
    image = plot.gates(trace, "lstm.l0").get_images()[0]
    assert (np.diff(luminance(image.cmap(np.linspace(0, 1, 64)))) > 0).all()


def test_a_figure_that_is_given_is_all_that_is_drawn_into(example, pyplot):
    model, x, trace = example
    before = dict(matplotlib.rcParams)
    found = memory(trace, "lstm.l1")
    calls = [
        (lambda ax: plot.gates(trace, "lstm.l0", ax=ax), 1),
        (lambda ax: plot.gates(trace, "lstm.l0", style="bands", ax=ax), 1),
        (lambda ax: plot.series(trace, x[0, :, 0], ax=ax), 3),
        (lambda ax: plot.series(trace, x[0, :, 0], layers="lstm.l1", ax=ax), 1),
        (lambda ax: plot.contributions(found, ax=ax), 1),
        (lambda ax: plot.contributions(found, context=x[0, :, 0], ax=ax), 2),
        (lambda ax: plot.states(trace, "lstm.l0", ax=ax), 1),
        (lambda ax: plot.saturation(units(model, x)["lstm.l0"], ax=ax), 3),
        (lambda ax: plot.occlusion(np.eye(4), ax=ax), 1),
    ]
    for call, count in calls:
        axes = new_axes(count)
        drawn = call(axes)
        assert list(np.ravel(drawn)) == list(np.ravel(axes))
        np.ravel(axes)[0].figure.canvas.draw()
        with pytest.raises(ArgumentError, match="ax: expected"):
            call(new_axes(count + 1))
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ArgumentError, match="ax: expected Axes of matplotlib, found 3"):
        plot.states(trace, "lstm.l0", ax=3)


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_from_files_are_drawn_as_plain_text(rng, name):
    graph = network(rng, plain_lstm).graph
    layers = [layer._replace(name=name) if layer.name == "cell" else layer for layer in graph.layers]
    model = cylstm.Model(graph._replace(layers=tuple(layers)))
    x = numbers(rng, 3, 7, 5)
    trace = model.trace(x)
    found = memory(trace, name)
    matplotlib.rcParams["text.usetex"] = True  # would run the names as TeX
    try:
        axes = [
            plot.gates(trace, name, ax=new_axes()),
            plot.states(trace, name, ax=new_axes()),
            *plot.series(trace, x[0, :, 0], unit=name, ax=new_axes()),
            plot.contributions(found, unit=name, ax=new_axes()),
            *plot.saturation(units(model, x)[name], ax=new_axes(3)),
            plot.occlusion(x[0], [name] * 5, title=name, unit=name, ax=new_axes()),
        ]
        for axis in axes:
            for text in axis.figure.findobj(matplotlib.text.Text):
                if shown_name(name[:8]).replace("$", r"\$") in text.get_text():
                    assert not text.get_usetex(), text.get_text()
    finally:
        matplotlib.rcParams["text.usetex"] = False
    for axis in axes:
        axis.figure.canvas.draw()
        for text in texts(axis.figure):
            assert text.isprintable() and len(text) < 300, ascii(text)
            assert not matplotlib.cbook.is_math_text(text) or name.count("$") == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lstm/cell é 長", "lstm/cell é 長"),
        ("a\nb\t\x00", "a\\nb\\t\\x00"),
        ("\u202ex\u2028\ufeff\ud800", "\\u202ex\\u2028\\ufeff\\ud800"),
        ("x" * 10_000_000, "x" * 120 + "…"),
    ],
    ids=range(4),
)
def test_a_name_is_shown_on_one_line_of_bounded_length(name, shown):
    assert shown_name(name) == shown


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t, m: plot.gates(t, "fc", "f"), ArgumentError, "layer 'fc': the trace has y, no 'f'"),
        (lambda t, m: plot.gates(t, "none"), ArgumentError, "lstm.l0, lstm.l1, fc, no 'none'"),
        (lambda t, m: plot.gates(t, "lstm.l0", row=3), ArgumentError, "row: expected one of 3, found 3"),
        (lambda t, m: plot.gates(t, "lstm.l0", order="x"), ArgumentError, "order: expected one of similar, unit"),
        (lambda t, m: plot.gates(t, "lstm.l0", style=1), ArgumentError, "style: expected one of map, bands"),
        (lambda t, m: plot.gates({}, "lstm.l0"), ArgumentError, "expected what Model.trace gives"),
        (lambda t, m: plot.series(t, [1.0]), ShapeError, "context: layer 'lstm.l0' has 30 steps, found 1"),
        (lambda t, m: plot.series(t, ["a"]), ArgumentError, "context: expected numbers"),
        (lambda t, m: plot.series(t, np.zeros(30), layers="fc"), ArgumentError, "'fc' has no forget gate"),
        (lambda t, m: plot.states(t, "lstm.l0", units=[9]), ArgumentError, "numbers from 0 to 8"),
        (lambda t, m: plot.contributions(m, output=1), ArgumentError, "only with the weight"),
        (lambda t, m: plot.contributions(m, np.ones((2, 9)), output=2), ArgumentError, "output: expected one of 2"),
        (lambda t, m: plot.contributions(m, last=0), ArgumentError, "last: expected a number of steps"),
        (lambda t, m: plot.contributions(m, np.ones((2, 8))), ShapeError, r"expected \(outputs, 9\)"),
        (lambda t, m: plot.contributions(m, context=[0.0]), ShapeError, "context: expected an array of 30 steps"),
        (lambda t, m: plot.saturation(m), ArgumentError, "expected a layer of a report"),
        (lambda t, m: plot.occlusion(np.zeros(3)), ShapeError, r"expected \(time, features\), found shape \(3,\)"),
        (lambda t, m: plot.occlusion(np.zeros((3, 2)), ["a"]), ArgumentError, "names: expected 2 texts"),
    ],
)
def test_wrong_arguments_are_refused(example, call, error, message):
    _, _, trace = example
    with pytest.raises(error, match=message):
        call(trace, memory(trace, "lstm.l1"))


def test_a_layer_without_steps_and_a_network_without_gates_are_refused(rng):
    model = lstm_model(rng, 3, 4, last=True)
    with pytest.raises(ShapeError, match="has no steps"):
        plot.gates(model.trace(numbers(rng, 3, 7, 3)), "fc", "y")
    trace = network(rng, rnn).trace(numbers(rng, 3, 7, 5))
    with pytest.raises(ArgumentError, match="no layer of it has a forget gate"):
        plot.series(trace, np.zeros(7))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch, example):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'cylstm\[plot\]'"):
        plot.states(example[2], "lstm.l0")


def test_importing_the_plots_imports_no_matplotlib():
    code = "import sys, cylstm.explain.plot; print('matplotlib' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
