"""A network for every layer and option that a native file may hold.

The tests in formats/native/test_round_trip.py save and load them. ``python -m tests.builders.native_networks`` writes
those of the current format version to ``tests/data/native/version-N``, each beside an ``.npz`` with an input and the
prediction. Files once written stay: later versions have to read them.
"""

import sys

import numpy as np

import cylstm
from cylstm.formats.native.read import FORMAT_VERSION
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder
from cylstm.graph.functions import FUNCTIONS

from tests import DATA
from tests.builders.weight_files import linear_tensors, lstm_tensors

FOLDER = DATA / "native"


def recurrent_tensors(rng, prefix, inputs, hidden, gates, biases=("bias_ih", "bias_hh")):
    shapes = {"weight_ih": (gates * hidden, inputs), "weight_hh": (gates * hidden, hidden)}
    shapes |= dict.fromkeys(biases, (gates * hidden,))
    return {f"{prefix}.{role}_l0": random(rng, shape) for role, shape in shapes.items()}


def random(rng, shape):
    return rng.uniform(-0.6, 0.6, shape).astype(np.float32)


def networks():
    """Name -> (model, input of one batch)."""
    rng = np.random.default_rng(20261120)
    x = random(rng, (3, 6, 4))

    def lstm(**options):
        return lstm_tensors(rng, "lstm", 4, 5, **options)

    def build(tensors, *layers, x=x, metadata=None, **options):
        model = cylstm.from_state_dict(tensors, list(layers), **options)
        return cylstm.Model(model.graph._replace(metadata=metadata or {}), **options), x

    peepholes = {f"lstm.weight_p{gate}_l0": random(rng, (5,)) for gate in "ifo"}
    norms = {
        f"lstm.{name}_l0.{part}": random(rng, (size,))
        for name, size in (("norm_ih", 20), ("norm_hh", 20), ("norm_c", 5))
        for part in ("weight", "bias")
    }
    coupled = recurrent_tensors(rng, "lstm", 4, 5, 3)
    conv = {
        "conv.weight_ih": random(rng, (12, 2, 3)),
        "conv.weight_hh": random(rng, (12, 3, 3)),
        "conv.bias": random(rng, (12,)),
    }
    conv2 = {"conv.weight_ih": random(rng, (8, 2, 3, 2)), "conv.weight_hh": random(rng, (8, 2, 3, 2))}
    found = {
        "lstm": build(
            lstm() | linear_tensors(rng, "fc", 5, 2),
            L.LSTM("lstm"),
            L.Last(),
            L.Linear("fc"),
            metadata={"unit": "µg/m³"},
        ),
        "lstm_stacked_bidirectional_projected": build(
            lstm(layers=2, directions=2, projection=3), L.LSTM("lstm"), L.LastState()
        ),
        "lstm_float64": build(lstm(dtype=np.float64), L.LSTM("lstm"), dtype="float64"),
        "lstm_without_bias": build(lstm(bias=False), L.LSTM("lstm", padding="repeat", empty_state="zero")),
        "lstm_activations": build(
            lstm(),
            L.LSTM(
                "lstm", activation=L.LeakyReLU(0.3), recurrent_activation="hard_sigmoid", output_activation="softsign"
            ),
        ),
        "lstm_peepholes_clips": build(
            lstm() | peepholes, L.LSTM("lstm", peepholes=True, cell_clip=0.3, gate_clip=0.7), L.Dropout(1 / 3)
        ),
        "lstm_no_forget_gate": build(coupled, L.LSTM("lstm", forget_gate=False)),
        "lstm_coupled": build(coupled, L.LSTM("lstm", coupled="f=1-i")),
        "lstm_layer_norm": build(lstm() | norms, L.LSTM("lstm", layer_norm="carried", epsilon=2e-3)),
        "lstm_backwards": build(lstm(), L.LSTM("lstm", reverse=True), L.Reverse(), L.ELU(0.7), L.Softmax()),
        "lstm_two_outputs": build(
            lstm(directions=2), L.LSTM("lstm", merge=None, backward=L.LSTM("", activation="relu"))
        ),
        **{
            f"lstm_merge_{mode}": build(lstm(directions=2), L.LSTM("lstm", merge=mode))
            for mode in ("sum", "mul", "ave")
        },
        "gru": build(recurrent_tensors(rng, "gru", 4, 5, 3), L.GRU("gru")),
        "gru_reset_before": build(
            recurrent_tensors(rng, "gru", 4, 5, 3), L.GRU("gru", reset_after=False, gate_clip=0.5)
        ),
        "rnn": build(recurrent_tensors(rng, "rnn", 4, 5, 1), L.RNN("rnn", activation="relu")),
        "conv_lstm_1d": build(conv, L.ConvLSTM("conv", (7,), conv_padding="same"), x=random(rng, (2, 3, 7, 2))),
        "conv_lstm_2d": build(conv2, L.ConvLSTM("conv", (5, 6), strides=2), x=random(rng, (2, 3, 5, 6, 2))),
        "shared": build(
            linear_tensors(rng, "fc", 4, 4) | lstm(), L.Linear("fc"), L.ReLU(), L.Linear("fc", "tanh"), L.LSTM("lstm")
        ),
    }
    return found | layer_networks(rng)


def layer_networks(rng):
    """Networks of the layers around recurrent ones, each of several."""

    def convolutions(builder, x):
        weights = {"weight": random(rng, (6, 3, 2)), "bias": random(rng, (6,))}
        options = {"padding": "causal", "dilation": 2, "groups": 2, "activation": "tanh"}
        y = builder.add("conv1d", "causal", {"x": x}, weights, options)["y"]
        options = {"padding": "explicit", "pad_before": 1, "pad_after": 2, "stride": 2, "groups": 6}
        y = builder.add("conv1d", "depthwise", {"x": y}, {"weight": random(rng, (12, 2, 1))}, options)["y"]
        options = {"mode": "average", "pool": 2, "padding": "same"}
        y = builder.add("pool1d", "pool", {"x": y}, options=options)["y"]
        y = builder.add("prelu", "prelu", {"x": y}, {"slope": random(rng, (12,))})["y"]
        return builder.add("glu", "glu", {"x": y}, options={"activation": "sigmoid"})["y"]

    def images(builder, x):
        y = builder.add("reshape", "image", {"x": x}, options={"shape": "time,4,1"})["y"]
        options = {"padding": "causal", "dilation_rows": 2, "stride_columns": 2, "pad_left": 1, "activation": "relu"}
        weights = {"weight": random(rng, (6, 2, 3, 1)), "bias": random(rng, (6,))}
        y = builder.add("conv2d", "front", {"x": y}, weights, options)["y"]
        options = {"padding": "explicit", "pad_before": 1, "pad_right": 1, "groups": 6}
        y = builder.add("conv2d", "depthwise", {"x": y}, {"weight": random(rng, (12, 2, 2, 1))}, options)["y"]
        options = {"stride_columns": 2, "crop_before": 1, "groups": 2}
        weights = {"weight": random(rng, (4, 2, 3, 6)), "bias": random(rng, (4,))}
        y = builder.add("conv_transpose", "back", {"x": y}, weights, options)["y"]
        y = builder.add("pool1d", "pool", {"x": y}, options={"axis": 1, "mode": "average"})["y"]
        return builder.add("reshape", "flat", {"x": y}, options={"shape": "time,-1"})["y"]

    def norms(builder, x):
        weights = {role: random(rng, (4,)) for role in ("gain", "shift", "mean")}
        weights["variance"] = np.abs(random(rng, (4,))) + np.float32(0.1)
        y = builder.add("batch_norm", "batch", {"x": x}, weights, {"epsilon": 1e-3})["y"]
        for mode in ("layer", "rms", "scaled"):
            weights = {"gain": random(rng, (4,)), "shift": random(rng, (4,))}
            y = builder.add("layer_norm", mode, {"x": y}, weights, {"mode": mode})["y"]
        weights = {"gain": random(rng, (4,)), "shift": random(rng, (4,))}
        return builder.add("group_norm", "group", {"x": y}, weights, {"groups": 2})["y"]

    def shapes(builder, x):
        y = builder.add("reshape", "reshape", {"x": x}, options={"shape": "time,2,-1"})["y"]
        y = builder.add("permute", "permute", {"x": y}, options={"order": "021"})["y"]
        y = builder.add("pad", "pad", {"x": y}, options={"before": 2, "after": 1, "mode": "reflect"})["y"]
        y = builder.add("upsample", "upsample", {"x": y}, options={"size": 2, "axis": 1})["y"]
        y = builder.add("slice", "slice", {"x": y}, options={"start": 1, "step": 2, "before_end": 1})["y"]
        y = builder.add("softmax", "softmax", {"x": y}, options={"axis": 1})["y"]
        y = builder.add("softmax", "log", {"x": y}, options={"axis": 2, "log": True})["y"]
        y = builder.add("reduce", "reduce", {"x": y}, options={"mode": "max", "axis": 2})["y"]
        y = builder.add("merge", "merge", {"x": y, "x1": y}, options={"mode": "sub"})["y"]
        y = builder.add("reduce", "mean", {"x": y})["y"]
        return builder.add("repeat_vector", "repeat", {"x": y}, options={"count": 3})["y"]

    def masks(builder, x):
        masked = builder.add("masking", "masking", {"x": x}, options={"mask_value": 0.0})
        both = builder.add("mask_merge", "both", {"mask": masked["mask"], "mask1": builder.value(x.mask)})["mask"]
        reads = {"x": x, "key": masked["y"], "value": masked["y"], "mask_value": both}
        weights = {"weight": random(rng, (2,))}
        options = {"score": "additive", "heads": 2, "scale": 0.7}
        y = builder.add("attention", "attention", reads, weights, options)["y"]
        return builder.add("dot", "dot", {"x": y, "x1": y}, options={"normalize": True})["y"]

    def fills(builder, x):
        masked = builder.add("masking", "masking", {"x": x}, options={"mask_value": 0.0})
        weights = {"weight": random(rng, (4, 4))}
        other = builder.add("dense", "other", {"x": masked["y"]}, weights)["y"]
        y = builder.add("mask_fill", "number", {"x": other, "mask": masked["mask"]}, options={"value": -1.5})["y"]
        y = builder.add("mask_fill", "steps", {"x": y, "mask": builder.value(x.mask), "x1": other})["y"]
        reads = {"x": y, "key": y, "value": y, "mask_query": masked["mask"], "mask_value": masked["mask"]}
        return builder.add("attention", "attention", reads, options={"masked": "average", "causal": True})["y"]

    def words(builder, x):
        mask = builder.add("index_mask", "counts", {"indices": x}, options={"padding": 3})["mask"]
        y = builder.add("embedding", "table", {"indices": x}, {"weight": random(rng, (9, 4))})["y"]
        weights = {"weight_ih": random(rng, (12, 4)), "weight_hh": random(rng, (12, 3))}
        return builder.add("lstm", "lstm", {"x": y, "mask": mask}, weights)["y"]

    def functions(builder, x):
        def apply(name, value, of):
            return builder.add("function", f"{name} of {of}", {"x": value}, options={"function": name})["y"]

        values = {"x": x, "sin": apply("sin", x, "x"), "cosh": apply("cosh", x, "x")}
        domains = {
            **dict.fromkeys(("asin", "acos", "atanh", "log1p"), "sin"),
            **dict.fromkeys(("reciprocal", "sqrt", "rsqrt", "log", "log2", "log10", "acosh"), "cosh"),
        }
        found = [apply(name, values[of], of) for name in FUNCTIONS for of in [domains.get(name, "x")]]
        return builder.add("merge", "all", {f"x{i or ''}": value for i, value in enumerate(found)})["y"]

    def pairs(builder, x):
        base = builder.add("activation", "base", {"x": x}, options={"activation": "exponential"})["y"]
        vector = builder.add("constant", "vector", {}, {"value": random(rng, (4,))})["y"]
        steps = builder.add("constant", "steps", {}, {"value": random(rng, (6, 4))}, {"has_time": True})["y"]
        y = builder.add("merge", "power", {"x": base, "x1": vector}, options={"mode": "pow"})["y"]
        y = builder.add("merge", "rest", {"x": y, "x1": steps}, options={"mode": "mod"})["y"]
        at = builder.add("positions", "at", {"x": x}, options={"start": 0.5, "step": 0.25})["y"]
        is_less = builder.add("merge", "is_less", {"x": at, "x1": base}, options={"mode": "less"})["y"]
        y = builder.add("where", "where", {"condition": is_less, "x": y, "x1": vector})["y"]
        counts = builder.add("mask_numbers", "counts", {"mask": builder.value(x.mask)})["y"]
        y = builder.add("merge", "counted", {"x": y, "x1": counts}, options={"mode": "mul"})["y"]
        first = builder.add("slice", "first", {"x": is_less}, options={"axis": 1, "start": 0, "count": 1})["y"]
        mask = builder.add("number_mask", "mask", {"x": first})["mask"]
        return builder.add("mask_fill", "filled", {"x": y, "mask": mask}, options={"value": 0.75})["y"]

    def numbers(builder, x):
        y = builder.add("numbers", "numbers", {"indices": x})["y"]
        weights = {"weight_ih": random(rng, (12, 1)), "weight_hh": random(rng, (12, 3))}
        return builder.add("lstm", "lstm", {"x": y}, weights)["y"]

    def along(builder, x):
        y = builder.add("cumulate", "running", {"x": x}, options={"mode": "max", "exclusive": False})["y"]
        y = builder.add("cumulate", "products", {"x": y}, options={"mode": "prod", "axis": 1, "reverse": True})["y"]
        y = builder.add("take", "chosen", {"x": y}, {"indices": np.array([3, 0, 2, 2, 1], np.float32)})["y"]
        best = builder.add("topk", "best", {"x": x}, options={"k": 2, "largest": False})
        y = builder.add("take_along", "found", {"x": y, "indices": best["indices"]})["y"]
        options = {"transpose_x": True}
        y = builder.add("matmul", "products over time", {"x": y, "x1": best["y"]}, options=options)["y"]
        return builder.add("reduce", "variance", {"x": y}, options={"mode": "var", "axis": 1, "correction": 1.0})["y"]

    def tables(builder, x):
        steps = builder.add("step_table", "steps", {"x": x}, {"table": random(rng, (9, 4))})["y"]
        return builder.add("merge", "placed", {"x": x, "x1": steps}, options={"mode": "sum"})["y"]

    def skips(builder, x):
        weight = {"weight": random(rng, (3, 2, 4))}
        y = builder.add("conv1d", "halved", {"x": x}, weight, {"stride": 2})["y"]
        y = builder.add("upsample", "doubled", {"x": y}, options={"size": 2})["y"]
        skip = builder.add("slice_like", "skip", {"x": x, "x1": y}, options={"start": 0})["y"]
        return builder.add("merge", "both", {"x": y, "x1": skip}, options={"mode": "concat"})["y"]

    def build(make, x, shape=None, indices=False):
        builder = GraphBuilder()
        builder.output(make(builder, builder.input("input", shape or (None, *x.shape[2:]), indices=indices)))
        return cylstm.Model(builder.build()), x

    x = random(rng, (3, 6, 4))
    x[1, 2:4] = 0
    return {
        "layers_convolutions": build(convolutions, x),
        "layers_norms": build(norms, x),
        "layers_shapes": build(shapes, x, (6, 4)),
        "layers_masks": build(masks, x, (6, 4)),
        "layers_words": build(words, rng.integers(0, 9, (3, 7)).astype(np.int32), indices=True),
        "layers_fills": build(fills, x),
        "layers_functions": build(functions, x),
        "layers_pairs": build(pairs, x, (6, 4)),
        "layers_numbers": build(numbers, rng.integers(0, 9, (3, 7)).astype(np.int32), indices=True),
        "layers_along": build(along, x),
        "layers_tables": build(tables, x),
        "layers_images": build(images, x),
        "layers_skips": build(skips, random(rng, (3, 7, 4))),
    }


def main():
    folder = FOLDER / f"version-{FORMAT_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (model, x) in networks().items():
        if (folder / f"{name}.cylstm").exists():
            print(f"{name}: kept as it is", file=sys.stderr)
            continue
        model.save(folder / f"{name}.cylstm")
        y = model.predict(x)
        outputs = y if isinstance(y, list) else [y]
        np.savez_compressed(folder / f"{name}.npz", x=x, **{f"y{i}": array for i, array in enumerate(outputs)})


if __name__ == "__main__":
    main()
