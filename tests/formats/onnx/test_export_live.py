"""Networks exported to ONNX, checked by the onnx package and run by ONNX Runtime: the numbers of `predict`."""

import itertools

import numpy as np
import pytest

import cylstm
from cylstm.errors import UnsupportedError
from cylstm.formats.onnx.export.layers import EXPORTERS
from cylstm.formats.onnx.export.recurrent import _NAMES as OPERATOR_ACTIVATIONS
from cylstm.graph.activations import ACTIVATIONS
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.functions import FUNCTIONS
from cylstm.graph.layers.merge import PAIR_MODES
from cylstm.graph.values import StaticTimeNeeded

from tests import DATA
from tests.builders import keras_images, keras_models, native_networks
from tests.builders import layers as L
from tests.builders.configurations import configurations, label, seed
from tests.builders.networks import random_states
from tests.builders.onnx_exports import TOLERANCES, check_export, feeds_of, list_of, load, operators, run
from tests.program.test_random_programs import Both

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

LENGTHS = (11, 8)


@pytest.mark.parametrize("case", L.CASES, ids=L.IDS)
def test_a_layer_gives_its_numbers(rng, case, tmp_path, record_property):
    graph = L.graph_of(rng, case)
    worst = 0.0
    for time in LENGTHS if any(None in graph.values[name].shape for name in graph.inputs) else (L.T,):
        inputs = L.inputs_of(rng, graph, time=time)
        if case[0] == "masking":
            inputs[0][:, ::3] = 0
        worst = max(worst, check_export(graph, inputs, tmp_path))
    record_property("worst_error", worst)


def combinations(**options):
    """Every combination of options."""
    return [dict(zip(options, chosen)) for chosen in itertools.product(*options.values())]


WINDOWS = combinations(
    stride=[1, 2, 3], dilation=[1, 2], pads=[("valid", 0, 0), ("same", 0, 0), ("explicit", 1, 0), ("explicit", 1, 1)]
)
#: kind -> options in every combination, and the shapes of the weights
COMBINED = {
    "pool1d": (
        [
            {**window, **rest}
            for window in WINDOWS
            for rest in combinations(mode=["max", "average"], pool=[2, 3], ceil_mode=[False, True],
                                     count_include_pad=[False, True])
            if not (window["pads"][0] == "same" and rest["mode"] == "average" and rest["count_include_pad"])
        ],
        {},
    ),
    "conv1d": (
        [{**window, "groups": groups} for window in [*WINDOWS, {"stride": 2, "pads": ("causal", 0, 0)}]
         for groups in (1, 2)],
        {"weight": (6, 3, 4), "bias": (6,)},
    ),
    "cumulate": (combinations(mode=["sum", "prod", "max", "min"], exclusive=[False, True], reverse=[False, True]), {}),
    "reduce": (combinations(mode=["mean", "sum", "max", "min", "prod", "var", "norm", "any", "all", "argmax", "argmin",
                                  "logsumexp"], axis=[0, 1]), {}),
    "topk": (combinations(axis=[1], k=[0, 1, 3], largest=[False, True]), {}),
}  # fmt: skip


@pytest.mark.parametrize("time", [None, 10])
@pytest.mark.parametrize("kind", COMBINED)
def test_options_in_every_combination_give_their_numbers(rng, kind, time, tmp_path):
    made, sizes = COMBINED[kind]
    left = [dict(options) for options in made]
    tried = 0
    while left:
        builder = GraphBuilder()
        value = builder.input("x", (time, 4))
        while left and len(builder._outputs) < 60:
            options = left.pop()
            padding, before, after = options.pop("pads", ("", 0, 0))
            if padding:
                options |= {"padding": padding, "pad_before": before, "pad_after": after}
            weights = {role: L.weight(rng, *size) for role, size in sizes.items()}
            if sizes:
                weights["weight"] = weights["weight"][:, :, : 4 // options["groups"]]
            mark = builder.mark()
            try:
                outputs = builder.add(kind, f"tested{tried}", {"x": value}, weights, options)
            except UnsupportedError:  # a last window that may begin in the padding
                assert options["ceil_mode"]
                builder.rewind(mark)
                continue
            tried += 1
            builder.output(outputs["y"])
        # the onnx package, which runs pooling in float64, stumbles over some of these
        tolerances = {"float32": TOLERANCES["float32"]} if kind == "pool1d" else TOLERANCES
        for steps in (time,) if time else (10, 9, 8, 7):
            x = rng.normal(size=(3, steps, 4)).astype("f")
            check_export(builder.build(), [x], tmp_path, tolerances=tolerances)
    assert tried > len(made) // 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_its_numbers(rng, name, tmp_path):
    graph = L.one_layer(rng, "function", (None, 7), {"function": name})
    (x,) = L.inputs_of(rng, graph)
    if name in ("sqrt", "rsqrt", "log", "log2", "log10", "log1p"):
        x = np.abs(x) + np.float32(1e-3)
    elif name in ("asin", "acos", "atanh"):
        x = np.clip(x, -0.95, 0.95)
    elif name == "acosh":
        x = np.abs(x) + np.float32(1.01)
    if name in ("log1p", "log", "exp", "expm1", "sqrt", "erf", "tanh", "atan"):
        x[1, 1, :3] = np.inf, 3e38, 30.0
    x[0, 0] = 1e-5 if name != "acosh" else 1.00001
    x[0, 1] = {"asin": 0.99, "acos": -0.99, "atanh": -0.99}.get(name, 9.5)
    if name in ("isnan", "isinf", "isfinite", "logical_not"):
        x[0, 2:5, 0] = np.nan, np.inf, -np.inf
        x[1, 0] = 0
    check_export(graph, [x], tmp_path)


@pytest.mark.parametrize("mode", ["div", *PAIR_MODES])
def test_a_function_of_two_numbers_gives_its_numbers(rng, mode, tmp_path):
    graph = L.one_layer(rng, "merge", (None, 3, 4), {"mode": mode}, others=[("x1", (4,))])
    x, y = L.inputs_of(rng, graph)
    y = np.where(np.abs(y) < 0.2, np.float32(0.7), y)
    if mode == "pow":
        x = np.abs(x) + np.float32(0.1)
    if mode in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "and", "or", "xor"):
        x, y = np.round(x), np.round(y)
    if mode in ("atan2", "hypot", "copysign"):
        x[0, 0, 0], y[0] = [0.0, -0.0, 3.0, -3.0], [0.0, -0.0, -0.0, 0.0]
        x[1, 0, 0], y[1] = [1e30, -1e30, 0.0, -0.0], [1e30, 1e-30, -2.0, -2.0]
    if mode in ("mod", "fmod", "floor_div"):
        x[0, 0, 0], y[0] = [6.0, -6.0, 7.5, -7.5], [3.0, 3.0, -2.5, 2.5]
    check_export(graph, [x, y], tmp_path)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["activation", "dense"])
def test_an_activation_gives_its_numbers(rng, name, kind, tmp_path):
    for alpha, beta in {ACTIVATIONS[name], (0.31, 0.45)}:
        options = {"activation": name, "activation_alpha": alpha, "activation_beta": beta}
        weights = {"weight": (6, 5), "bias": (6,)} if kind == "dense" else {}
        graph = L.one_layer(rng, kind, (None, 5), options, weights)
        (x,) = L.inputs_of(rng, graph)
        x[0, 0], x[0, 1] = 1e-4, [40.0, -40.0, 9.0, -9.0, 0.0]
        check_export(graph, [x], tmp_path)


# recurrent layers

INPUT, HIDDEN, TIME, BATCH = 5, 7, 9, 4

SHARED = {
    "steps": ["all", "mask", "lengths"],
    "reverse": [False, True],
    "bias": [True, False],
    "initial": [False, True, "h0"],
    "padding": ["zero", "repeat"],
    "empty_state": ["initial", "zero"],
    "gate_clip": [0.0, 0.6],
    "recurrent_activation": ["sigmoid", "hard_sigmoid", "softsign"],
    "activation": ["tanh", "relu", "softsign", "silu"],
}
RECURRENT = {
    "lstm": {
        **SHARED,
        "gates": ["ifgo", "no forget", "f=1-i", "i=1-f"],
        "peepholes": ["", "ifo", "o"],
        "projection": [0, 3],
        "cell_clip": [0.0, 0.3],
        "layer_norm": ["", "carried", "output"],
        "output_activation": ["tanh", "linear"],
    },
    "gru": {**SHARED, "reset_after": [True, False]},
    "rnn": {name: values for name, values in SHARED.items() if name != "recurrent_activation"},
    "conv_lstm": {
        **{name: SHARED[name] for name in ("steps", "reverse", "bias", "initial", "padding", "empty_state")},
        "activation": ["tanh", "softsign"],
        "recurrent_activation": ["sigmoid", "hard_sigmoid"],
        "conv_padding": ["valid", "same"],
        "stride_columns": [1, 2],
        "dilation_columns": [1, 2],
        "rows": [0, 4],
    },
}
#: what shows only together
TOGETHER = [
    {"steps": steps, "initial": initial, "empty_state": "zero", "padding": padding}
    for steps in ("mask", "lengths")
    for initial in (True, "h0")
    for padding in ("zero", "repeat")
]
CASES = [
    pytest.param(kind, c, id=f"{kind} {label(c, options)}")
    for kind, options in RECURRENT.items()
    for c in (
        *configurations(options),
        *({name: values[0] for name, values in options.items()} | together for together in TOGETHER),
    )
    if not (c.get("layer_norm") and c.get("projection"))
    and not (c.get("stride_columns") == 2 and c.get("dilation_columns") == 2)
]


def recurrent_graph(rng, kind, c):
    """One layer of a configuration; its outputs are y and its last states."""
    options = {name: value for name, value in c.items() if name in cylstm.graph.layers.LAYER_KINDS[kind].defaults}
    shape, states = (None, INPUT), {"h": (HIDDEN,)}
    gates = {"lstm": 4, "gru": 3, "rnn": 1, "conv_lstm": 4}[kind]
    if kind == "lstm":
        states["c"] = (HIDDEN,)
        gates = 4 if c["gates"] == "ifgo" else 3
        options |= {"no forget": {"forget_gate": False}, "ifgo": {}}.get(c["gates"], {"coupled": c["gates"]})
    if kind == "conv_lstm":
        options |= {"kernel_columns": 3, "kernel_rows": 2 if c["rows"] else 1}
        taps = options["kernel_columns"] * options["kernel_rows"]
        shape = (None, *([c["rows"]] if c["rows"] else []), 8, 2)
        sizes = {"weight_ih": (4 * 3, 2 * taps), "weight_hh": (4 * 3, 3 * taps)}
        columns = -(-8 // c["stride_columns"])
        if c["conv_padding"] == "valid":
            columns = (8 - 2 * c["dilation_columns"] - 1) // c["stride_columns"] + 1
        rows = () if not c["rows"] else (c["rows"] - (c["conv_padding"] == "valid"),)
        states = dict.fromkeys("hc", (*rows, columns, 3))
    else:
        rows = gates * HIDDEN
        sizes = {"weight_ih": (rows, INPUT), "weight_hh": (rows, c.get("projection") or HIDDEN)}
    if c["bias"]:
        names = ["bias_ih", *(["bias_hh"] if c["reset_after"] else [])] if kind == "gru" else ["bias"]
        sizes |= dict.fromkeys(names, (sizes["weight_ih"][0],))
    if c.get("projection"):
        sizes["weight_hr"] = (c["projection"], HIDDEN)
        states["h"] = (c["projection"],)
    for gate in c.get("peepholes", ""):
        if gate != {"no forget": "f", "f=1-i": "f", "i=1-f": "i"}.get(c["gates"]):
            sizes[f"peephole_{gate}"] = (HIDDEN,)
    if c.get("layer_norm"):
        for name, size in (("ih", rows), ("hh", rows), ("c", HIDDEN)):
            sizes |= {f"norm_{name}_gain": (size,), f"norm_{name}_shift": (size,)}
    weights = {role: (0.6 * L.weight(rng, *size)) for role, size in sizes.items()}
    builder = GraphBuilder()
    inputs = {"x": builder.input("x", shape)}
    if c["initial"] == "h0" and kind == "conv_lstm":  # no input of the network is a state in several axes
        inputs["h0"] = builder.add(kind, "before", inputs, weights, options)["h"]
    elif c["initial"] == "h0":
        inputs["h0"] = builder.input("h0", states["h"])
    outputs = builder.add(kind, "tested", inputs, weights, options)
    for value in outputs.values():
        builder.output(value)
    return builder.build()


@pytest.mark.parametrize("kind, c", CASES)
def test_a_recurrent_layer_gives_its_numbers(kind, c, tmp_path, record_property):
    rng = np.random.default_rng(seed(kind, c))
    graph = recurrent_graph(rng, kind, c)
    model = cylstm.Model(graph)
    worst = 0.0
    for time in (TIME, 3):
        inputs = L.inputs_of(rng, graph, BATCH, time)
        masks = {}
        if c["steps"] == "mask":
            mask = rng.random((BATCH, time)) > 0.4
            mask[0], mask[1, :2], mask[2] = False, False, True
            masks = {"mask": {"x": mask}}
        elif c["steps"] == "lengths":
            masks = {"lengths": {"x": np.array([time, 1, 2, time - 1])}}
        state = random_states(rng, model, BATCH) if c["initial"] is True else None
        worst = max(worst, check_export(graph, inputs, tmp_path, state=state, **masks))
    found = set(operators(load(tmp_path / "float32.onnx").graph.node))
    names = [c.get("recurrent_activation", "tanh"), c["activation"], c.get("output_activation", "tanh")]
    is_plain = all(name in OPERATOR_ACTIVATIONS for name in names) and not any(
        c.get(name) for name in ("gate_clip", "cell_clip", "layer_norm", "projection")
    )
    is_plain &= c.get("gates") not in ("no forget", "i=1-f") and kind != "conv_lstm"
    has_no_masks = c["steps"] == "all" or (
        c["steps"] == "lengths" and c["padding"] == "zero" and (not c["initial"] or c["empty_state"] == "zero")
    )
    assert (kind.upper() in found) == (is_plain and has_no_masks)
    assert ("Scan" in found) != (is_plain and has_no_masks)
    assert "Scan" in operators(load(tmp_path / "float64.onnx").graph.node)
    record_property("worst_error", worst)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
@pytest.mark.parametrize(
    "kind, slot",
    [("lstm", "activation"), ("lstm", "recurrent_activation"), ("lstm", "output_activation"), ("gru", "activation"),
     ("gru", "recurrent_activation"), ("rnn", "activation")],
)  # fmt: skip
def test_every_activation_works_in_every_slot(kind, slot, name, tmp_path):
    c = {option: values[0] for option, values in RECURRENT[kind].items()} | {slot: name}
    rng = np.random.default_rng(seed(kind, c))
    graph = recurrent_graph(rng, kind, c)
    inputs = [x / 2 for x in L.inputs_of(rng, graph, BATCH, 3)]  # some grow without bound
    check_export(graph, inputs, tmp_path)


def test_lengths_of_zero_leave_the_states_that_predict_does(rng, tmp_path):
    """`predict` takes no length of 0; a mask without valid steps says the same."""
    for kind in ("lstm", "gru", "rnn"):
        for initial, empty_state in ((False, "initial"), (True, "zero"), (True, "initial")):
            c = {option: values[0] for option, values in RECURRENT[kind].items()}
            c |= {"initial": initial, "empty_state": empty_state}
            graph = recurrent_graph(rng, kind, c)
            model = cylstm.Model(graph)
            (x,) = L.inputs_of(rng, graph, BATCH, TIME)
            lengths = np.array([0, TIME, 3, 0])
            state = random_states(rng, model, BATCH) if initial else None
            model.export_onnx(tmp_path / "net.onnx", lengths=True, states=initial)
            found = run(tmp_path / "net.onnx", feeds_of(model, [x], lengths={"x": lengths}, state=state))
            mask = np.arange(TIME) < lengths[:, np.newaxis]
            for name, y in zip(model.outputs, model.predict(x, mask=mask, initial_state=state)):
                np.testing.assert_allclose(found[name], y, rtol=0, atol=2e-6, err_msg=f"{kind} {c} {name}")


# masks


MASKS = ["masking", "given", "token", "number", *(f"{mode}{i}" for mode in ("any", "all") for i in range(3))]


def mask_graph(chosen):
    """Layers that read or make masks, of an input that is masked by itself and by the user."""
    builder = GraphBuilder()
    a, b = builder.input("a", (None, 6)), builder.input("b", (8, 6))
    vector, token = builder.input("vector", (6,)), builder.input("token", (None,), indices=True, time_of="a")
    masked = builder.add("masking", "masking", {"x": a}, options={"mask_value": 0.0})
    given, of_b = builder.value(a.mask), builder.value(b.mask)
    of_token = builder.add("index_mask", "index_mask", {"indices": token}, options={"padding": 2})["mask"]
    number = builder.add("slice", "feature", {"x": a}, options={"axis": 1, "start": 2, "count": 1})["y"]
    of_number = builder.add("number_mask", "number_mask", {"x": number})["mask"]
    outputs = [masked["y"]]
    masks = {"masking": masked["mask"], "given": given, "token": of_token, "number": of_number}
    for mode in ("any", "all"):
        for i, roles in enumerate(([masked["mask"], given], [given, of_token, of_number], [given])):
            roles = {"mask" if k == 0 else f"mask{k}": mask for k, mask in enumerate(roles)}
            masks[f"{mode}{i}"] = builder.add("mask_merge", f"{mode}{i}", roles, options={"mode": mode})["mask"]
    assert list(masks) == MASKS
    for name, mask in [(chosen, masks[chosen])] if chosen in masks else ():
        outputs.append(builder.add("mask_numbers", f"numbers.{name}", {"mask": mask})["y"])
        outputs.append(builder.add("last", f"last.{name}", {"x": masked["y"], "mask": mask})["y"])
        for mode in ("mean", "sum", "prod", "var", "norm", "any", "all"):
            roles = {"x": masked["y"], "mask": mask}
            options = {"mode": mode, "correction": 1.0 if mode == "var" else 0.0}
            outputs.append(builder.add("reduce", f"{mode}.{name}", roles, options=options)["y"])
        for fill, roles, options in (
            ("number", {"x": a}, {"value": -2.5}), ("steps", {"x": a, "x1": masked["y"]}, {}),
            ("vector", {"x": a, "x1": vector}, {}), ("wide", {"x": number, "x1": vector}, {}),
            ("narrow", {"x": a, "x1": number}, {}),
        ):  # fmt: skip
            roles["mask"] = mask
            outputs.append(builder.add("mask_fill", f"fill.{fill}.{name}", roles, options=options)["y"])
    for rule in ("exclude", "zero", "average", "penalty") if chosen == "attention" else ():
        for role in ("mask", "mask_query"):
            for causal in (False, True):
                options = {"masked": rule, "heads": 2, "scale": 0.7, "causal": causal}
                roles = {"x": masked["y"], "key": masked["y"], "value": masked["y"]}
                name = f"attention.{rule}.{role}.{causal}"
                masks_of = {role: given, "mask_value": masks["all0"]}
                outputs.append(builder.add("attention", name, {**roles, **masks_of}, options=options)["y"])
    other = {"x": a, "key": b, "value": b, "mask_value": of_b}
    outputs.append(builder.add("attention", "attention.other", other, options={"masked": "zero"})["y"])
    outputs.append(builder.add("reverse", "reverse", {"x": masked["y"]})["y"])
    for value in outputs:
        builder.output(value)
    return builder.build()


@pytest.mark.parametrize("chosen", [*MASKS, "attention"])
@pytest.mark.parametrize("steps", ["all", "mask", "lengths"])
def test_masks_reach_every_layer_that_reads_them(rng, steps, chosen, tmp_path):
    graph = mask_graph(chosen)
    for time in (9, 4):
        a, b = rng.normal(size=(3, time, 6)).astype("f"), rng.normal(size=(3, 8, 6)).astype("f")
        a[:, 2:3], a[2, 1:] = 0, 0
        a[0, 1:, 2] = 0
        inputs = [a, b, rng.normal(size=(3, 6)).astype("f"), rng.integers(0, 4, (3, time))]
        masks = {}
        if steps == "mask":
            mask = rng.random((3, time)) > 0.4
            mask[1] = False
            masks["mask"] = {"a": mask, "b": rng.random((3, 8)) > 0.5, "token": np.ones((3, time), bool)}
        elif steps == "lengths":
            masks["lengths"] = {"a": np.array([time, 1, 3]), "b": np.array([2, 8, 5]), "token": np.full(3, time)}
        for name in masks.get(steps, ()):
            if graph.values[name].mask not in {m for layer in graph.layers for m in layer.inputs.values()}:
                masks = {steps: {key: value for key, value in masks[steps].items() if key != name}}
        check_export(graph, inputs, tmp_path, **masks)


# states


def test_states_go_on_from_piece_to_piece(rng, tmp_path):
    """A file with states, called piece by piece, gives what `predict` gives for the whole."""
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    weights = {"weight": L.weight(rng, 6, 3, 4), "bias": L.weight(rng, 6)}
    y = builder.add("conv1d", "conv", {"x": x}, weights, {"padding": "causal", "dilation": 2})["y"]
    weights = {"weight_ih": L.weight(rng, 20, 6), "weight_hh": L.weight(rng, 20, 5)}
    y = builder.add("lstm", "lstm", {"x": y}, weights)["y"]
    weights = {"weight_ih": L.weight(rng, 9, 5), "weight_hh": L.weight(rng, 9, 3)}
    y = builder.add("gru", "gru", {"x": y}, weights, {"activation": "silu"})["y"]
    place = builder.add("positions", "place", {"x": y}, options={"start": 1.0, "step": 0.1})["y"]
    builder.output(builder.add("merge", "sum", {"x": y, "x1": place}, options={"mode": "sum"})["y"])
    model = cylstm.Model(builder.build())
    (x,) = L.inputs_of(rng, model.graph, time=12)
    whole = model.predict(x)
    path = tmp_path / "net.onnx"
    model.export_onnx(path, states=True)
    states = [tuple(np.zeros((3, *shape), "f") for _, shape in parts) for _, parts in model.graph.states()]
    pieces = []
    for start, end in ((0, 1), (1, 6), (6, 8), (8, 12)):
        found = run(path, feeds_of(model, [x[:, start:end]], state=states))
        pieces.append(found["sum"])
        states = [tuple(found[f"{name}.final"] for name in names) for names in model.state_names]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=3e-6)
    states[-1] = (np.array([[1 << 23, 3], [(1 << 24) - 2, 0], [5, 0]], "f"),)
    check_export(model.graph, [x], tmp_path, state=[(np.ones((3, 4, 4), "f") / 3,), *states[1:]])


# whole networks


@pytest.mark.parametrize("path", sorted((DATA / "goldens").rglob("*.cylstm")), ids=lambda path: path.stem)
def test_a_golden_file_gives_its_numbers(rng, path, tmp_path, record_property):
    graph = cylstm.load(path).graph
    masked = [name for name in graph.inputs if graph.values[name].mask is not None]
    is_read = {name for layer in graph.layers for name in layer.inputs.values()}
    with np.load(path.with_suffix(".npz")) as golden:
        inputs = [golden[f"x{i}"] for i in range(len(graph.inputs))] if "x0" in golden else [golden["x"]]
        mask = golden.get("mask")
    masks = {}
    if mask is not None and graph.values[masked[0]].mask in is_read:
        masks = {"mask": {masked[0]: mask}}
    record_property("worst_error", check_export(graph, inputs, tmp_path, **masks))


NATIVE = native_networks.networks()


@pytest.mark.parametrize("name", NATIVE)
def test_a_network_of_the_native_format_gives_its_numbers(rng, name, tmp_path, record_property):
    model, x = NATIVE[name]
    record_property("worst_error", check_export(model.graph, list_of(x), tmp_path))


def test_images_are_among_the_networks_of_keras():
    assert {f"image_{key}" for key in keras_images.IMAGES} < set(keras_models.MODELS)


def test_every_kind_of_layer_is_exported_here():
    kinds = {case[0] for case in L.CASES} | set(RECURRENT) | {layer.kind for layer in mask_graph("all1").layers}
    kinds |= {layer.kind for model, _ in NATIVE.values() for layer in model.graph.layers}
    assert set(EXPORTERS) <= kinds | {"activation"}


@pytest.mark.parametrize("open_time", [False, True])
@pytest.mark.parametrize("seed_", range(40))
def test_a_random_program_gives_its_numbers(seed_, open_time, tmp_path):
    """Layers in any order and shape; in float32 some of them amplify what was rounded before."""
    rng = np.random.default_rng(seed("program", seed_))
    both = Both(rng, open_time=open_time)
    for _ in range(int(rng.integers(5, 30))):
        try:
            both.step()
        except StaticTimeNeeded:
            assert open_time
    both.outputs()
    check_export(both.net.builder.build(), [both.x], tmp_path, tolerances={"float32": 2e-4, "float64": 1e-9})


torch_models = pytest.importorskip("tests.builders.torch_models")


@pytest.mark.parametrize("name", torch_models.CASES)
def test_a_network_of_pytorch_gives_its_numbers(name, torch, tmp_path, record_property):
    module, tensors = torch_models.build(name)
    graph = cylstm.from_torch(module, inputs=torch_models.CASES[name].inputs).graph
    arrays = [one.numpy() for one in tensors]
    record_property("worst_error", check_export(graph, arrays, tmp_path))


@pytest.mark.parametrize("name", keras_models.MODELS)
def test_a_network_of_keras_gives_its_numbers(keras, name, tmp_path, record_property):
    made = keras_models.build(keras, name)
    inputs = keras_models.in_order_of_the_config(made, keras_models.arrays(made, name))
    record_property("worst_error", check_export(cylstm.from_keras(made).graph, inputs, tmp_path))
