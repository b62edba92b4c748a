"""The layers around recurrent ones against PyTorch and Keras, in double precision."""

import numpy as np
import pytest

import cylstm
from cylstm.graph.builder import GraphBuilder

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

T = 13


def check(kind, shape, x, expected, options=None, weights=None, *, others=(), masks=None, tolerance=1e-11):
    """A layer of `kind` gives `expected` in float64; `others` are (role, array), `masks` role -> (input, its mask)."""
    builder = GraphBuilder()
    inputs = {"x": builder.input("x", shape)}
    for role, array in others:
        inputs[role] = builder.input(role, array.shape[1:])
    given = {}
    for role, (of, mask) in (masks or {}).items():
        inputs[role] = builder.value(inputs[of].mask)
        given[of] = mask
    arrays = {role: np.asarray(array, np.float64) for role, array in (weights or {}).items()}
    builder.output(builder.add(kind, "tested", inputs, arrays, options)["y"])
    model = cylstm.Model(builder.build(), engine="blas", dtype="float64")
    data = [x, *(array for _, array in others)]
    found = model.predict(data if others else x, mask=given or None)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def channels_first(torch, layer, x):
    return layer(torch.from_numpy(x).transpose(1, 2)).transpose(1, 2).detach().numpy()


def state(layer):
    return {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}


@pytest.mark.parametrize(
    "options, window",
    [
        ({}, {}),
        ({"stride": 2, "dilation": 2}, {}),
        ({"padding": 2, "stride": 3}, {"padding": "explicit", "pad_before": 2, "pad_after": 2}),
        ({"padding": "same", "dilation": 3}, {}),
        ({"padding": "same", "kernel_size": 4}, {}),
        ({"groups": 3}, {}),
        ({"groups": 6, "out_channels": 12}, {}),
        ({"bias": False}, {}),
    ],
)
def test_convolutions_are_torchs(torch, rng, options, window):
    options = {"in_channels": 6, "out_channels": 9, "kernel_size": 3, **options}
    layer = torch.nn.Conv1d(**options).double()
    x = rng.normal(size=(3, T, 6))
    tensors = state(layer)
    weights = {"weight": tensors["weight"].transpose(0, 2, 1)}
    if "bias" in tensors:
        weights["bias"] = tensors["bias"]
    kept = {key: options[key] for key in ("stride", "dilation", "groups") if key in options}
    if isinstance(options.get("padding"), str):
        kept["padding"] = options["padding"]
    check("conv1d", (None, 6), x, channels_first(torch, layer, x), {**kept, **window}, weights)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "strides": 3, "kernel_size": 4},
        {"padding": "same", "dilation_rate": 2, "kernel_size": 2},
        {"padding": "causal", "dilation_rate": 3},
        {"padding": "causal", "strides": 2, "kernel_size": 5},
        {"groups": 2, "activation": "relu"},
    ],
)
def test_convolutions_are_kerass(keras, rng, options):
    layer = keras.layers.Conv1D(**{"filters": 8, "kernel_size": 3, "dtype": "float64", **options})
    x = rng.normal(size=(3, T, 6))
    expected = keras.ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    names = {"strides": "stride", "dilation_rate": "dilation"}
    kept = {names.get(key, key): value for key, value in options.items() if key != "kernel_size"}
    check("conv1d", (None, 6), x, expected, kept, {"weight": kernel.transpose(2, 0, 1), "bias": bias})


@pytest.mark.parametrize(
    "options, crops",
    [
        ({}, {}),
        ({"stride": 2, "padding": 1}, {"crop_before": 1, "crop_after": 1}),
        ({"stride": 3, "padding": 1, "output_padding": 2}, {"crop_before": 1, "crop_after": 1}),
        ({"stride": 2, "dilation": 3, "kernel_size": 4}, {}),
        ({"groups": 3, "stride": 4, "bias": False}, {}),
    ],
)
def test_transposed_convolutions_are_torchs(torch, rng, options, crops):
    options = {"in_channels": 6, "out_channels": 9, "kernel_size": 3, **options}
    layer = torch.nn.ConvTranspose1d(**options).double()
    x = rng.normal(size=(3, T, 6))
    check_transposed("conv_transpose", (None, 6), layer, x, channels_first(torch, layer, x), options, crops)


def check_transposed(kind, shape, layer, x, expected, options, crops):
    """A transposed convolution of PyTorch, whose weight is (channels, filters / groups, *kernel)."""
    tensors, groups = state(layer), options.get("groups", 1)
    channels, filters, *kernel = tensors["weight"].shape
    apart = tensors["weight"].reshape(groups, channels // groups, filters, -1).transpose(0, 2, 3, 1)
    weights = {"weight": apart.reshape(groups * filters, *kernel, channels // groups)}
    weights |= {"bias": tensors["bias"]} if "bias" in tensors else {}
    kept = {"groups": groups, **crops}
    for name in ("stride", "dilation", "output_padding"):
        given = options.get(name, 0 if name == "output_padding" else 1)
        numbers = given if isinstance(given, tuple) else (given,)
        kept |= {f"{name}_{axis}": number for axis, number in zip(("rows", "columns"), numbers)}
    check(kind, shape, x, expected, kept, weights)


@pytest.mark.parametrize(
    "options, crops",
    [
        ({"kernel_size": (3, 2)}, {}),
        (
            {"kernel_size": (4, 3), "stride": (2, 3), "padding": (1, 2), "dilation": (1, 2)},
            {"crop_before": 1, "crop_after": 1, "crop_left": 2, "crop_right": 2},
        ),
        ({"kernel_size": (2, 4), "stride": (3, 2), "output_padding": (2, 1), "groups": 2}, {}),
    ],
)
def test_transposed_convolutions_of_images_are_torchs(torch, rng, options, crops):
    options = {"in_channels": 4, "out_channels": 6, **options}
    layer = torch.nn.ConvTranspose2d(**options).double()
    x = rng.normal(size=(3, 5, 7, 4))
    expected = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    check_transposed("conv_transpose", (None, 7, 4), layer, x, expected, options, crops)
    check_transposed("conv_transpose", (5, 7, 4), layer, x, expected, options, crops)
    frames = x.reshape(1, 3, 5, 7, 4)
    check_transposed("conv_transpose", (None, 5, 7, 4), layer, frames, expected[None], options, crops)


def test_depthwise_convolutions_are_kerass(keras, rng):
    layer = keras.layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", strides=2, dtype="float64")
    x = rng.normal(size=(3, T, 5))
    expected = keras.ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()  # (kernel, channels, multiplier)
    weight = kernel.reshape(3, 10).T[:, :, np.newaxis]
    check(
        "conv1d",
        (None, 5),
        x,
        expected,
        {"groups": 5, "padding": "same", "stride": 2},
        {"weight": weight, "bias": bias},
    )


@pytest.mark.parametrize(
    "options, window",
    [
        ({}, {}),
        ({"stride": (2, 3), "dilation": (1, 2)}, {"stride_rows": 2, "stride_columns": 3, "dilation_columns": 2}),
        (
            {"padding": (2, 1), "stride": 2},
            {
                "padding": "explicit", "pad_before": 2, "pad_after": 2, "pad_left": 1, "pad_right": 1, "stride_rows": 2,
                "stride_columns": 2,
            },
        ),
        ({"padding": "same", "kernel_size": (4, 3), "dilation": (1, 3)}, {"padding": "same", "dilation_columns": 3}),
        ({"groups": 3}, {"groups": 3}),
        ({"groups": 6, "out_channels": 12, "bias": False}, {"groups": 6}),
    ],
)  # fmt: skip
def test_convolutions_over_rows_and_columns_are_torchs(torch, rng, options, window):
    layer = torch.nn.Conv2d(**{"in_channels": 6, "out_channels": 9, "kernel_size": (3, 2), **options}).double()
    x = rng.normal(size=(3, T, 10, 6))
    expected = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    tensors = state(layer)
    weights = {**tensors, "weight": tensors["weight"].transpose(0, 2, 3, 1)}
    check("conv2d", (None, 10, 6), x, expected, window, weights)
    check("conv2d", (1, T, 10, 6), x[:, None], expected[:, None], window, weights)


@pytest.mark.parametrize(
    "options, window",
    [
        ({"padding": "same", "strides": 3, "kernel_size": (4, 3)}, {"stride_rows": 3, "stride_columns": 3}),
        ({"padding": "same", "dilation_rate": (2, 3)}, {"dilation_rows": 2, "dilation_columns": 3}),
        ({"strides": (2, 1), "activation": "relu"}, {"stride_rows": 2}),
        ({"groups": 2}, {}),
    ],
)
def test_convolutions_over_rows_and_columns_are_kerass(keras, rng, options, window):
    layer = keras.layers.Conv2D(**{"filters": 8, "kernel_size": (3, 2), "dtype": "float64", **options})
    x = rng.normal(size=(3, T, 10, 6))
    expected = keras.ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    kept = {key: options[key] for key in ("padding", "groups", "activation") if key in options}
    weights = {"weight": kernel.transpose(3, 0, 1, 2), "bias": bias}
    check("conv2d", (None, 10, 6), x, expected, {**kept, **window}, weights)


def test_separable_convolutions_over_rows_and_columns_are_kerass(keras, rng):
    """One in as many groups as channels, and one of a single tap behind it."""
    layer = keras.layers.SeparableConv2D(
        7, (3, 2), depth_multiplier=2, padding="same", strides=2, activation="tanh", dtype="float64"
    )
    x = rng.normal(size=(3, T, 10, 5))
    expected = keras.ops.convert_to_numpy(layer(x))
    depthwise, pointwise, bias = layer.get_weights()  # (rows, columns, channels, multiplier)
    builder = GraphBuilder()
    options = {"groups": 5, "padding": "same", "stride_rows": 2, "stride_columns": 2}
    weights = {"weight": depthwise.reshape(3, 2, 10, 1).transpose(2, 0, 1, 3)}
    y = builder.add("conv2d", "depthwise", {"x": builder.input("x", (None, 10, 5))}, weights, options)["y"]
    weights = {"weight": pointwise.transpose(3, 0, 1, 2), "bias": bias}
    builder.output(builder.add("conv2d", "pointwise", {"x": y}, weights, {"activation": "tanh"})["y"])
    model = cylstm.Model(builder.build(), engine="blas", dtype="float64")
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "name, arguments, options",
    [
        ("MaxPool1d", (3,), {"stride": 3}),
        (
            "MaxPool1d",
            (3, 2, 1, 2),
            {"stride": 2, "dilation": 2, "padding": "explicit", "pad_before": 1, "pad_after": 1},
        ),
        ("MaxPool1d", (3, 2, 0, 1, False, True), {"stride": 2, "ceil_mode": True}),
        ("AvgPool1d", (4, 2), {"stride": 2}),
        ("AvgPool1d", (4, 3, 1), {"stride": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1}),
        (
            "AvgPool1d",
            (4, 3, 1, True),
            {"stride": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1, "ceil_mode": True},
        ),
        (
            "AvgPool1d",
            (4, 3, 1, True, False),
            {
                "stride": 3, "padding": "explicit", "pad_before": 1, "pad_after": 1, "ceil_mode": True,
                "count_include_pad": False,
            },
        ),
    ],
)  # fmt: skip
def test_pooling_is_torchs(torch, rng, name, arguments, options):
    layer = getattr(torch.nn, name)(*arguments)
    for time in range(8, 16):
        x = rng.normal(size=(2, time, 5))
        average = {"mode": "average", "count_include_pad": True} if name == "AvgPool1d" else {}
        check("pool1d", (None, 5), x, channels_first(torch, layer, x), {"pool": arguments[0], **average, **options})


@pytest.mark.parametrize("name, mode", [("MaxPooling1D", "max"), ("AveragePooling1D", "average")])
@pytest.mark.parametrize("size, stride, padding", [(2, 2, "valid"), (3, 2, "same"), (4, 1, "same"), (3, 5, "same")])
def test_pooling_is_kerass(keras, rng, name, mode, size, stride, padding):
    if (mode, size) == ("average", 4):
        pytest.skip("Keras on PyTorch counts an odd step of padding as a repeated one, on TensorFlow not at all")
    layer = getattr(keras.layers, name)(size, strides=stride, padding=padding, dtype="float64")
    x = rng.normal(size=(2, T, 5))
    expected = keras.ops.convert_to_numpy(layer(x))
    check("pool1d", (None, 5), x, expected, {"mode": mode, "pool": size, "stride": stride, "padding": padding})


def test_normalisation_is_torchs(torch, rng):
    x = rng.normal(size=(3, T, 12)) * 3 + 1

    def random(layer):
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.2)
        return layer.double().eval()

    batch = random(torch.nn.BatchNorm1d(12))
    roles = {"weight": "gain", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
    weights = {roles[name]: array for name, array in state(batch).items() if name in roles}
    check("batch_norm", (None, 12), x, channels_first(torch, batch, x), {}, weights)
    for kind, layer, options in (
        ("layer_norm", torch.nn.LayerNorm(12), {}),
        ("layer_norm", torch.nn.RMSNorm(12, eps=1e-6), {"mode": "rms", "epsilon": 1e-6}),
    ):
        layer = random(layer)
        weights = {roles[name]: array for name, array in state(layer).items()}
        check(kind, (None, 12), x, layer(torch.from_numpy(x)).detach().numpy(), options, weights)
    for groups in (1, 3, 12):
        layer = random(torch.nn.GroupNorm(groups, 12))
        weights = {roles[name]: array for name, array in state(layer).items()}
        check("group_norm", (None, 12), x, channels_first(torch, layer, x), {"groups": groups}, weights)


def test_normalisation_is_kerass(keras, rng):
    x = rng.normal(size=(3, T, 12)) * 3 + 1
    for kind, layer, options in (
        ("layer_norm", keras.layers.LayerNormalization(dtype="float64"), {"epsilon": 1e-3}),
        (
            "layer_norm",
            keras.layers.LayerNormalization(rms_scaling=True, dtype="float64"),
            {"epsilon": 1e-3, "mode": "scaled"},
        ),
        ("group_norm", keras.layers.GroupNormalization(4, dtype="float64"), {"epsilon": 1e-3, "groups": 4}),
        ("batch_norm", keras.layers.BatchNormalization(dtype="float64"), {"epsilon": 1e-3}),
    ):
        layer.build(x.shape)
        layer.set_weights([rng.uniform(0.2, 1.5, w.shape) for w in layer.get_weights()])
        weights = dict(zip(("gain", "shift", "mean", "variance"), layer.get_weights()))
        check(kind, (None, 12), x, keras.ops.convert_to_numpy(layer(x)), options, weights, tolerance=2e-6)


def test_attention_is_kerass(keras, rng):
    q, v, k = rng.normal(size=(3, T, 6)), rng.normal(size=(3, 9, 5)), rng.normal(size=(3, 9, 6))
    mask, mask_value = rng.random((3, T)) > 0.3, rng.random((3, 9)) > 0.3
    mask_value[:, 0] = True
    for layer, options, has_weight in (
        (keras.layers.Attention(dtype="float64"), {}, None),
        (keras.layers.Attention(use_scale=True, dtype="float64"), {"scale": 0.37}, None),
        (keras.layers.Attention(score_mode="concat", dtype="float64"), {"score": "concat"}, True),
        (keras.layers.AdditiveAttention(dtype="float64"), {"score": "additive"}, True),
    ):
        layer([q, v, k])
        layer.set_weights(
            [np.full(w.shape, 0.37) if not w.ndim else rng.normal(size=w.shape) for w in layer.get_weights()]
        )
        weights = {"weight": layer.get_weights()[-1].reshape(-1)} if has_weight else {}
        for causal in (False, True):
            expected = layer([q, v, k], mask=[mask, mask_value], use_causal_mask=causal)
            check(
                "attention", (None, 6), q, keras.ops.convert_to_numpy(expected),
                {**options, "masked": "penalty", "causal": causal}, weights, others=[("key", k), ("value", v)],
                masks={"mask": ("x", mask), "mask_value": ("value", mask_value)}, tolerance=4e-6,
            )  # fmt: skip


def test_multi_head_attention_of_torch_is_attention_between_dense_layers(torch, rng):
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    x, memory = rng.normal(size=(3, T, 8)), rng.normal(size=(3, 9, 8))
    padding = rng.random((3, 9)) > 0.6
    padding[:, 0] = False
    tensors = [torch.from_numpy(a) for a in (x, memory, memory)]
    expected, _ = layer(*tensors, key_padding_mask=torch.from_numpy(padding))
    builder = GraphBuilder()
    query, other = builder.input("x", (None, 8)), builder.input("memory", (None, 8))
    parts = {}
    for i, (role, value) in enumerate((("x", query), ("key", other), ("value", other))):
        rows = slice(8 * i, 8 * i + 8)
        weights = {"weight": state(layer)["in_proj_weight"][rows], "bias": state(layer)["in_proj_bias"][rows]}
        parts[role] = builder.add("dense", f"in.{role}", {"x": value}, weights)["y"]
    parts["mask_value"] = builder.value(other.mask)
    y = builder.add("attention", "heads", parts, options={"heads": 2, "scale": 0.5})["y"]
    out = {"weight": state(layer)["out_proj.weight"], "bias": state(layer)["out_proj.bias"]}
    builder.output(builder.add("dense", "out", {"x": y}, out)["y"])
    model = cylstm.Model(builder.build(), engine="blas", dtype="float64")
    found = model.predict([x, memory], mask={"memory": ~padding})
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-12)


def test_masked_means_merges_and_products_are_kerass(keras, rng):
    x, mask = rng.normal(size=(3, T, 6)), rng.random((3, T)) > 0.4
    mask[:, 0] = True
    expected = keras.layers.GlobalAveragePooling1D(dtype="float64")(x, mask=keras.ops.convert_to_tensor(mask))
    check("reduce", (None, 6), x, keras.ops.convert_to_numpy(expected), {}, masks={"mask": ("x", mask)}, tolerance=2e-6)
    vector = rng.normal(size=(3, 6))
    for name, mode in (("Add", "sum"), ("Multiply", "mul"), ("Average", "ave"), ("Maximum", "max"), ("Minimum", "min")):
        expected = keras.ops.convert_to_numpy(getattr(keras.layers, name)(dtype="float64")([x, vector]))
        check("merge", (None, 6), x, expected, {"mode": mode}, others=[("x1", vector)], tolerance=2e-6)
    expected = keras.ops.convert_to_numpy(keras.layers.Dot(1, normalize=True, dtype="float64")([vector, x[:, 2]]))
    check("dot", (6,), vector, expected, {"normalize": True}, others=[("x1", x[:, 2])], tolerance=2e-6)


def test_separate_activations_are_torchs(torch, rng):
    x = rng.normal(size=(3, T, 6))
    tensor = torch.from_numpy(x)
    check("glu", (None, 6), x, torch.nn.functional.glu(tensor, -1).numpy())
    slope = rng.normal(size=6)
    expected = torch.nn.functional.prelu(tensor.transpose(1, 2), torch.from_numpy(slope)).transpose(1, 2).numpy()
    check("prelu", (None, 6), x, expected, {}, {"slope": slope})
    check("softmax", (None, 6), x, torch.softmax(tensor, 1).numpy(), {"axis": 0})
    check("softmax", (None, 6), x, torch.log_softmax(tensor, 1).numpy(), {"axis": 0, "log": True})
    check("softmax", (None, 6), x, torch.log_softmax(tensor, 2).numpy(), {"axis": 1, "log": True})
    for mode, name in (("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")):
        expected = torch.nn.functional.pad(tensor.transpose(1, 2), (3, 2), mode=name).transpose(1, 2).numpy()
        check("pad", (T, 6), x, expected, {"before": 3, "after": 2, "mode": mode})


def test_reductions_along_an_axis_are_torchs(torch, rng):
    x = rng.normal(size=(3, T, 6))
    tensor = torch.from_numpy(x)
    for axis in (0, 1):
        size = x.shape[1 + axis]
        for correction in (0, 1, 0.5, size, size + 2):
            expected = torch.var(tensor, 1 + axis, correction=correction, keepdim=axis == 1)
            expected = expected.reshape(3, -1, 1) if axis == 1 else expected
            check("reduce", (None, 6), x, expected.numpy(), {"mode": "var", "axis": axis, "correction": correction})
        for mode, function in (
            ("prod", torch.prod),
            ("logsumexp", torch.logsumexp),
            ("norm", torch.linalg.vector_norm),
            ("argmax", torch.argmax),
            ("argmin", torch.argmin),
        ):
            expected = function(tensor, dim=1 + axis, keepdim=axis == 1).numpy()
            check("reduce", (None, 6), x, expected, {"mode": mode, "axis": axis})
        signs = np.where(x > 1, x, 0.0)
        for mode, function in (("any", torch.any), ("all", torch.all)):
            expected = function(torch.from_numpy(signs) != 0, dim=1 + axis, keepdim=axis == 1).numpy()
            check("reduce", (None, 6), signs, expected, {"mode": mode, "axis": axis})


def test_cumulations_are_torchs(torch, rng):
    x = rng.normal(size=(3, T, 6))
    x[1, 4, 2] = np.nan
    tensor = torch.from_numpy(x)
    for axis in (0, 1):
        for mode, function in (("sum", torch.cumsum), ("prod", torch.cumprod)):
            check("cumulate", (None, 6), x, function(tensor, 1 + axis).numpy(), {"mode": mode, "axis": axis})
        for mode, function in (("max", torch.cummax), ("min", torch.cummin)):
            check("cumulate", (None, 6), x, function(tensor, 1 + axis)[0].numpy(), {"mode": mode, "axis": axis})
        expected = torch.cumsum(tensor.flip(1 + axis), 1 + axis).flip(1 + axis).numpy()
        check("cumulate", (None, 6), x, expected, {"axis": axis, "reverse": True})


def test_chosen_and_sorted_numbers_are_torchs(torch, rng):
    x = rng.normal(size=(3, T, 6)).round(1)
    x[2, 5, 3] = np.nan
    tensor = torch.from_numpy(x)
    places = np.array([5, 0, 0, 3])
    for axis in (0, 1):
        expected = torch.index_select(tensor, 1 + axis, torch.from_numpy(places)).numpy()
        check("take", (T, 6), x, expected, {"axis": axis}, {"indices": places})
        chosen = rng.integers(0, 6, (3, T, 6))
        expected = torch.gather(tensor, 1 + axis, torch.from_numpy(chosen)).numpy()
        check("take_along", (T, 6), x, expected, {"axis": axis}, others=[("indices", chosen.astype(float))])
        for largest in (True, False):
            expected = torch.topk(tensor, 4, 1 + axis, largest).values.numpy()
            check("topk", (T, 6), x, expected, {"axis": axis, "k": 4, "largest": largest})
            expected = torch.sort(tensor, dim=1 + axis, descending=largest, stable=True).values.numpy()
            check("topk", (None, 6), x, expected, {"axis": axis, "k": 0, "largest": largest})


def test_products_of_two_values_are_torchs(torch, rng):
    def of(*shape):
        return rng.normal(size=(3, *shape))

    for a, b in (
        (of(T, 6), of(6, 5)),
        (of(T, 2, 6), of(6, 5)),
        (of(2, 6), of(T, 6, 5)),
        (of(2, 1, 4, 6), of(5, 6, 7)),
        (of(T, 6), of(6, 1)),
    ):
        ranked = b[:, np.newaxis] if b.ndim < a.ndim else b
        expected = torch.matmul(torch.from_numpy(a[:, np.newaxis] if a.ndim < b.ndim else a), torch.from_numpy(ranked))
        shape = (None if a.shape[1] == T else a.shape[1], *a.shape[2:])
        check("matmul", shape, a, expected.numpy(), others=[("x1", b)])
        turned = {"transpose_x1": True}
        check("matmul", shape, a, expected.numpy(), turned, others=[("x1", b.swapaxes(-1, -2).copy())])
        turned = {"transpose_x": True}
        check(
            "matmul",
            a.swapaxes(-1, -2).shape[1:],
            a.swapaxes(-1, -2).copy(),
            expected.numpy(),
            turned,
            others=[("x1", b)],
        )
