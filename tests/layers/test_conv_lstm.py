"""ConvLSTM in one and two dimensions: numbers against the reference, same bits, streams, saving, what is refused."""

import numpy as np
import pytest

import cylstm
from cylstm import ShapeError, UnsupportedError
from cylstm.engine._engine import isa_names
from cylstm.graph.builder import GraphBuilder

from tests import reference
from tests.builders.networks import bits, random_states, reloaded

CASES = [
    pytest.param((7,), 3, 5, (1, 3), {}, id="one dimension"),
    pytest.param((9,), 2, 4, (1, 2), {"conv_padding": "same", "stride_columns": 2}, id="one dimension same strided"),
    pytest.param((6, 5), 2, 18, (3, 2), {"conv_padding": "same"}, id="same"),
    pytest.param((9, 8), 4, 3, (2, 3), {"stride_rows": 2, "stride_columns": 3}, id="strided"),
    pytest.param((9, 8), 1, 3, (2, 3), {"dilation_rows": 2, "dilation_columns": 3}, id="dilated"),
    pytest.param((5, 4), 3, 7, (2, 2), {"reverse": True, "padding": "repeat"}, id="reverse"),
]


def conv_graph(rng, spatial, channels, filters, kernel, options):
    builder = GraphBuilder()
    x = builder.input("x", (None, *spatial, channels))
    taps = kernel[0] * kernel[1]
    weights = {
        "weight_ih": rng.uniform(-0.4, 0.4, (4 * filters, taps * channels)),
        "weight_hh": rng.uniform(-0.3, 0.3, (4 * filters, taps * filters)),
        "bias": rng.uniform(-0.4, 0.4, 4 * filters),
    }
    weights = {role: w.astype(np.float32) for role, w in weights.items()}
    options = {"kernel_rows": kernel[0], "kernel_columns": kernel[1], **options}
    outputs = builder.add("conv_lstm", "conv", {"x": x}, weights, options)
    builder.output(outputs["y"])
    builder.output(outputs["h"])
    return builder.build()


@pytest.mark.parametrize("spatial, channels, filters, kernel, options", CASES)
def test_it_matches_the_reference_in_both_engines(rng, spatial, channels, filters, kernel, options):
    graph = conv_graph(rng, spatial, channels, filters, kernel, options)
    x = rng.normal(size=(3, 6, *spatial, channels)).astype(np.float32)
    mask = rng.random((3, 6)) > 0.3
    mask[0] = False
    for engine, dtype, tolerance in (
        ("packed", "float32", 2e-6),
        ("blas", "float32", 2e-6),
        ("blas", "float64", 1e-13),
    ):
        model = cylstm.Model(graph, engine=engine, dtype=dtype)
        state = random_states(rng, model, 3)
        expected, expected_final = reference.predict(graph, x, mask=mask, initial_state=state)
        for threads in (1, 2, 5):
            found, final = model.predict(x, mask=mask, initial_state=state, return_state=True, threads=threads)
            for a, b in zip([*found, *final[0]], [*expected, *expected_final[0]]):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("spatial, channels, filters, kernel, options", CASES)
def test_it_gives_the_same_bits_everywhere_and_streams(
    rng, tmp_path, monkeypatch, spatial, channels, filters, kernel, options
):
    graph = conv_graph(rng, spatial, channels, filters, kernel, options)
    x = rng.normal(size=(3, 6, *spatial, channels)).astype(np.float32)
    results = []
    for isa in isa_names():
        monkeypatch.setenv("CYLSTM_ISA", isa)
        model = cylstm.Model(graph)
        results += [model.predict(x)[0], model.predict(x, threads=5)[0], np.stack([model.predict(row)[0] for row in x])]
    results += [again.predict(x)[0] for again in reloaded(model, tmp_path)]
    if model.can_stream:
        stream = model.stream(3)
        results.append(np.stack([stream.step(x[:, t])[0] for t in range(6)], axis=1))
        assert stream.state[0][0].shape == (3, *results[0].shape[2:])
    for y in results[1:]:
        np.testing.assert_array_equal(bits(y), bits(results[0]))


def test_what_does_not_fit_is_refused(rng):
    with pytest.raises(ShapeError, match="a kernel that reaches over 9 columns does not fit 7"):
        conv_graph(rng, (7,), 2, 3, (1, 9), {})
    with pytest.raises(UnsupportedError, match="conv_padding expected 'valid' or 'same', found 'causal'"):
        conv_graph(rng, (7,), 2, 3, (1, 3), {"conv_padding": "causal"})
    with pytest.raises(UnsupportedError, match="stride_columns expected a positive whole number, found 0"):
        conv_graph(rng, (7,), 2, 3, (1, 3), {"stride_columns": 0})
    with pytest.raises(UnsupportedError, match="at most 512 taps"):
        conv_graph(rng, (40, 40), 1, 1, (30, 30), {})
    model = cylstm.Model(conv_graph(rng, (6, 5), 2, 3, (3, 3), {}))
    for shape in ((2, 4, 6, 5, 3), (2, 4, 6, 4, 2), (4, 6), (2, 4, 30)):
        with pytest.raises(ShapeError, match="input 'x': expected"):
            model.predict(np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match=r"expected shape \(2, 4, 3, 3\)"):
        model.predict(np.zeros((2, 4, 6, 5, 2)), initial_state=[(np.zeros((2, 36)), np.zeros((2, 36)))])


@pytest.mark.parametrize("spatial, kernel", [((7,), (3,)), ((6, 5), (2, 3))])
def test_a_state_dict_in_torchs_convolution_layout_gives_the_references_numbers(rng, spatial, kernel):
    channels, filters = 3, 5
    tensors = {
        "conv.weight_ih": rng.uniform(-0.4, 0.4, (4 * filters, channels, *kernel)).astype(np.float32),
        "conv.weight_hh": rng.uniform(-0.3, 0.3, (4 * filters, filters, *kernel)).astype(np.float32),
        "conv.bias": rng.uniform(-0.4, 0.4, 4 * filters).astype(np.float32),
    }
    layer = cylstm.ConvLSTM("conv", spatial, conv_padding="same", strides=(2,) * len(spatial), padding="repeat")
    model = cylstm.from_state_dict(tensors, [layer, cylstm.LastState()])
    x = rng.normal(size=(3, 6, *spatial, channels)).astype(np.float32)
    (expected,), _ = reference.predict(model.graph, x)
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=2e-6)
    # one tap by hand: the last input position times the middle of the kernel, at the gate i of filter 0
    stored = model.graph.tensors["conv.weight_ih"].reshape(4 * filters, *kernel, channels)
    np.testing.assert_array_equal(np.moveaxis(stored, -1, 1), tensors["conv.weight_ih"])
    for wrong, message in [
        (cylstm.ConvLSTM("conv", (*spatial, 2, 2)), "spatial_shape|neither"),
        (cylstm.ConvLSTM("conv", spatial, strides=(1, 1, 1)), "stride expected"),
        (cylstm.ConvLSTM("conv", spatial, conv_padding="causal"), "conv_padding expected"),
    ]:
        with pytest.raises(cylstm.CylstmError, match=message):
            cylstm.from_state_dict(tensors, [wrong])
