"""Tensors by PyTorch's names, and the layers that say how they are wired."""

import numpy as np
import pytest

from cylstm.errors import FormatError, ShapeError, UnsupportedError
from cylstm.formats.state_dict import wiring as L
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.model import Model

from tests.builders.weight_files import linear_tensors, lstm_tensors


def wiring(graph):
    """``[(kind, name, inputs, outputs), ...]`` without masks."""
    return [
        (layer.kind, layer.name, [name for role, name in layer.inputs.items() if role != "mask"], layer.outputs["y"])
        for layer in graph.layers
    ]


def test_a_network_of_one_lstm_and_a_linear_layer_is_wired_in_order(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    graph = from_state_dict(tensors, [L.LSTM("lstm"), L.Dropout(0.25), L.Last(), L.ReLU(), L.Linear("fc", "tanh")])
    assert wiring(graph) == [
        ("lstm", "lstm.l0", ["input"], "lstm.l0"),
        ("dropout", "dropout", ["lstm.l0"], "dropout"),
        ("last", "last", ["dropout"], "last"),
        ("activation", "relu", ["last"], "relu"),
        ("dense", "fc", ["relu"], "fc"),
    ]
    assert graph.values["input"].shape == (None, 3)
    assert graph.layers[0].inputs["mask"] == graph.layers[2].inputs["mask"] == "input.mask"
    assert graph.layers[0].options["padding"] == "zero"
    assert graph.layers[1].options == {"rate": 0.25}
    assert graph.layers[4].options["activation"] == "tanh"
    assert graph.outputs == ("fc",)
    assert graph.values["fc"].kind == "vector"


def test_weights_arrive_unchanged_and_the_two_biases_as_their_sum(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5)
    graph = from_state_dict(tensors, [L.LSTM("lstm")])
    found = graph.layer_tensors(graph.layers[0])
    np.testing.assert_array_equal(found["weight_ih"], tensors["lstm.weight_ih_l0"])
    np.testing.assert_array_equal(found["weight_hh"], tensors["lstm.weight_hh_l0"])
    np.testing.assert_array_equal(found["bias"], tensors["lstm.bias_ih_l0"] + tensors["lstm.bias_hh_l0"])
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_provenance_tells_what_each_tensor_became(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    graph = from_state_dict(tensors, [L.LSTM("lstm"), L.Linear("fc")])
    assert graph.provenance["format"] == "state dict"
    assert graph.provenance["tensors"] == {
        "lstm.weight_ih_l0": "lstm.l0/weight_ih",
        "lstm.weight_hh_l0": "lstm.l0/weight_hh",
        "lstm.bias_ih_l0": "lstm.l0/bias",
        "lstm.bias_hh_l0": "lstm.l0/bias",
        "fc.weight": "fc/weight",
        "fc.bias": "fc/bias",
    }


def test_a_stack_with_two_directions_becomes_one_node_per_layer_and_direction(rng):
    tensors = lstm_tensors(rng, "rnn", 3, 5, layers=2, directions=2)
    graph = from_state_dict(tensors, [L.LSTM("rnn")])
    assert wiring(graph) == [
        ("lstm", "rnn.l0", ["input"], "rnn.l0"),
        ("lstm", "rnn.l0.reverse", ["input"], "rnn.l0.reverse"),
        ("merge", "rnn.l0.merge", ["rnn.l0", "rnn.l0.reverse"], "rnn.l0.merge"),
        ("lstm", "rnn.l1", ["rnn.l0.merge"], "rnn.l1"),
        ("lstm", "rnn.l1.reverse", ["rnn.l0.merge"], "rnn.l1.reverse"),
        ("merge", "rnn.l1.merge", ["rnn.l1", "rnn.l1.reverse"], "rnn.l1.merge"),
    ]
    assert [layer.options.get("reverse") for layer in graph.layers] == [False, True, None] * 2
    assert graph.values["rnn.l1.merge"].shape == (None, 10)
    reverse = graph.layer_tensors(graph.layers[4])
    np.testing.assert_array_equal(reverse["weight_ih"], tensors["rnn.weight_ih_l1_reverse"])
    assert [name for name, _ in graph.states()] == ["rnn.l0", "rnn.l0.reverse", "rnn.l1", "rnn.l1.reverse"]


def test_the_last_state_of_a_stack_joins_both_directions_of_its_top_layer(rng):
    tensors = lstm_tensors(rng, "rnn", 3, 5, layers=2, directions=2) | linear_tensors(rng, "fc", 10, 1)
    graph = from_state_dict(tensors, [L.LSTM("rnn"), L.Dropout(), L.Dropout(0.1), L.LastState(), L.Linear("fc")])
    assert wiring(graph)[5:] == [
        ("merge", "rnn.l1.last_state", ["rnn.l1.h", "rnn.l1.reverse.h"], "rnn.l1.last_state"),
        ("dropout", "dropout", ["rnn.l1.last_state"], "dropout"),
        ("dropout", "dropout#2", ["dropout"], "dropout#2"),
        ("dense", "fc", ["dropout#2"], "fc"),
    ]


def test_the_last_state_of_one_direction_is_its_h(rng):
    graph = from_state_dict(lstm_tensors(rng, "rnn", 3, 5), [L.LSTM("rnn"), L.LastState()])
    assert graph.outputs == ("rnn.l0.h",)


@pytest.mark.parametrize("directions", [1, 2])
def test_a_projection_is_found_by_its_tensor(rng, directions):
    tensors = lstm_tensors(rng, "rnn", 3, 6, layers=2, directions=directions, projection=2)
    graph = from_state_dict(tensors, [L.LSTM("rnn")])
    layer = next(layer for layer in graph.layers if layer.name == "rnn.l1")
    assert graph.layer_tensors(layer)["weight_hr"].shape == (2, 6)
    assert graph.layer_tensors(layer)["weight_ih"].shape == (24, 2 * directions)
    assert graph.states()[0] == ("rnn.l0", (("h", (2,)), ("c", (6,))))


def test_a_network_without_biases_has_none(rng):
    graph = from_state_dict(lstm_tensors(rng, "", 3, 5, bias=False), [L.LSTM("")])
    assert set(graph.layers[0].weights) == {"weight_ih", "weight_hh"}


def test_an_lstm_cell_has_names_without_a_layer_number(rng):
    tensors = {name.replace("_l0", ""): array for name, array in lstm_tensors(rng, "cell", 3, 5).items()}
    graph = from_state_dict(tensors, [L.LSTM("cell"), L.LastState()])
    assert wiring(graph) == [("lstm", "cell", ["input"], "cell")]
    assert set(graph.layers[0].weights) == {"weight_ih", "weight_hh", "bias"}


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(rng, wrapper):
    tensors = {wrapper + name: array for name, array in lstm_tensors(rng, "lstm", 3, 5).items()}
    graph = from_state_dict(tensors, [L.LSTM("lstm")])
    assert graph.provenance["tensors"][f"{wrapper}lstm.weight_ih_l0"] == "lstm.l0/weight_ih"


def test_a_network_of_linear_layers_takes_vectors(rng):
    tensors = linear_tensors(rng, "a", 3, 4) | linear_tensors(rng, "b", 4, 2)
    graph = from_state_dict(tensors, [L.Linear("a"), L.Tanh(), L.Dense("b"), L.Softmax()])
    assert graph.values["input"].shape == (3,)
    assert graph.values["input"].mask is None


def test_a_linear_layer_before_an_lstm_takes_sequences(rng):
    tensors = linear_tensors(rng, "embed", 3, 4) | lstm_tensors(rng, "lstm", 4, 5)
    graph = from_state_dict(tensors, [L.ReLU(), L.Linear("embed"), L.LSTM("lstm")])
    assert graph.values["input"].shape == (None, 3)
    assert graph.values["embed"].kind == "sequence"


def test_a_layer_given_twice_shares_its_tensors(rng):
    tensors = lstm_tensors(rng, "lstm", 5, 5) | linear_tensors(rng, "fc", 5, 5)
    graph = from_state_dict(tensors, [L.Linear("fc"), L.LSTM("lstm"), L.LSTM("lstm"), L.Linear("fc")])
    assert [layer.name for layer in graph.layers] == ["fc", "lstm.l0", "lstm.l0#2", "fc#2"]
    assert graph.layers[1].weights == graph.layers[2].weights
    assert graph.layers[0].weights == graph.layers[3].weights
    assert len(graph.tensors) == 5


def test_a_layer_named_input_does_not_meet_the_input(rng):
    graph = from_state_dict(linear_tensors(rng, "input", 3, 4), [L.Linear("input")])
    assert graph.inputs == ("input_",)


def test_activations_of_an_lstm_may_have_parameters(rng):
    layer = L.LSTM("", activation=L.LeakyReLU(0.2), recurrent_activation="hard_sigmoid")
    options = from_state_dict(lstm_tensors(rng, "", 3, 5), [layer]).layers[0].options
    assert (options["activation"], options["activation_alpha"]) == ("leaky_relu", 0.2)
    assert options["recurrent_activation"] == "hard_sigmoid"
    assert options["recurrent_activation_alpha"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (L.ReLU(), ("relu", 0, 0)),
        (L.ReLU6(), ("clip", 0, 6)),
        (L.Tanh(), ("tanh", 0, 0)),
        (L.Sigmoid(), ("sigmoid", 0, 0)),
        (L.Softmax(), ("softmax", 0, 0)),
        (L.ELU(0.5), ("elu", 0.5, 0)),
        (L.SELU(), ("selu", 0, 0)),
        (L.LeakyReLU(), ("leaky_relu", 0.01, 0)),
        (L.Softplus(), ("softplus", 0, 0)),
        (L.Softsign(), ("softsign", 0, 0)),
        (L.SiLU(), ("silu", 0, 0)),
        (L.GELU(), ("gelu", 0, 0)),
        (L.GELU("tanh"), ("gelu_tanh", 0, 0)),
        (L.Hardsigmoid(), ("hard_sigmoid", 1 / 6, 0.5)),
        (L.Hardtanh(-2, 3), ("clip", -2, 3)),
        (L.Activation("exponential"), ("exponential", 0, 0)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_pytorchs_activations_have_pytorchs_parameters(rng, layer, expected):
    graph = from_state_dict(linear_tensors(rng, "fc", 3, 4), [L.Linear("fc"), layer])
    options = graph.layers[1].options
    found = (options["activation"], options["activation_alpha"], options["activation_beta"])
    assert found == pytest.approx(expected)


def test_half_precision_becomes_float32_and_double_stays(rng):
    half = {name: array.astype(np.float16) for name, array in lstm_tensors(rng, "", 3, 5).items()}
    graph = from_state_dict(half, [L.LSTM("")])
    found = graph.layer_tensors(graph.layers[0])
    np.testing.assert_array_equal(found["weight_ih"], half["weight_ih_l0"].astype(np.float32))
    bias = half["bias_ih_l0"].astype(np.float32) + half["bias_hh_l0"].astype(np.float32)
    np.testing.assert_array_equal(found["bias"], bias)
    double = lstm_tensors(rng, "", 3, 5, dtype=np.float64)
    graph = from_state_dict(double, [L.LSTM("")])
    assert {array.dtype for array in graph.tensors.values()} == {np.dtype(np.float64)}


def test_arrays_of_any_order_are_copied(rng):
    tensors = lstm_tensors(rng, "", 3, 5)
    expected = {name: array.copy() for name, array in tensors.items()}
    tensors["weight_ih_l0"] = np.asfortranarray(tensors["weight_ih_l0"])
    tensors["weight_hh_l0"] = tensors["weight_hh_l0"].astype(">f4")
    graph = from_state_dict(tensors, [L.LSTM("")])
    for array in tensors.values():
        array[...] = 0
    found = graph.layer_tensors(graph.layers[0])
    np.testing.assert_array_equal(found["weight_ih"], expected["weight_ih_l0"])
    np.testing.assert_array_equal(found["weight_hh"], expected["weight_hh_l0"])
    assert found["weight_hh"].dtype.isnative


def test_numbers_that_are_not_finite_are_loaded_with_a_warning_that_names_them(rng):
    tensors = lstm_tensors(rng, "", 3, 5)
    tensors["weight_hh_l0"][2, 1] = np.nan
    with pytest.warns(UserWarning, match="NaN or infinity in weight_hh_l0$"):
        from_state_dict(tensors, [L.LSTM("")])


# Refusals


def test_without_layers_the_error_lists_the_tensors_and_proposes_the_layers(rng):
    tensors = linear_tensors(rng, "fc", 10, 2) | lstm_tensors(rng, "lstm", 3, 5, layers=2, directions=2)
    with pytest.raises(FormatError) as caught:
        from_state_dict(tensors)
    message = str(caught.value)
    assert "lstm.weight_ih_l1_reverse (20, 10)" in message
    assert 'layers=[cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")]' in message


def test_the_proposal_follows_the_sizes_and_loads(rng):
    tensors = (
        linear_tensors(rng, "head", 6, 2)
        | lstm_tensors(rng, "b", 5, 6)
        | linear_tensors(rng, "a", 4, 3)
        | lstm_tensors(rng, "c", 3, 7, projection=5)
    )
    with pytest.raises(FormatError) as caught:
        from_state_dict(tensors)
    proposal = str(caught.value).partition("layers=[")[2].partition("]")[0]
    assert proposal == 'cylstm.Linear("a"), cylstm.LSTM("c"), cylstm.LSTM("b"), cylstm.Last(), cylstm.Linear("head")'
    from_state_dict(tensors, eval(f"[{proposal.replace('cylstm', 'L')}]"))


def test_the_proposal_names_what_it_does_not_understand(rng):
    tensors = {
        "sru.weight_ih_l0": rng.standard_normal((8, 3)),
        "sru.weight_hh_l0": rng.standard_normal((8, 4)),
        "sru.bias_ih_l0": rng.standard_normal(8),
        "conv.weight": rng.standard_normal((2, 3, 4, 5, 2)),
    }
    with pytest.raises(FormatError, match=r"(?s)Not understood: sru .*, conv\.weight"):
        from_state_dict(tensors)


def test_a_tensor_left_over_is_named_with_its_shape(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5) | {"norm.num_batches_tracked": np.array(3)}
    with pytest.raises(FormatError, match=r"(?s)belong to no layer given.*norm\.num_batches_tracked \(\)"):
        from_state_dict(tensors, [L.LSTM("lstm")])


@pytest.mark.parametrize(
    "name", ["weight_ih_l0", "weight_hh_l1", "bias_hh_l0", "weight_ih_l1_reverse", "bias_ih_l0_reverse"]
)
def test_a_missing_tensor_is_named(rng, name):
    tensors = lstm_tensors(rng, "rnn", 3, 5, layers=2, directions=2)
    del tensors[f"rnn.{name}"]
    with pytest.raises(FormatError, match=rf"LSTM\('rnn'\): tensor 'rnn\.{name}' is missing"):
        from_state_dict(tensors, [L.LSTM("rnn")])


def test_a_wrong_prefix_lists_the_tensors_found(rng):
    with pytest.raises(FormatError, match=r"(?s)'lstm\.weight_ih_l0' is missing.*rnn\.weight_ih_l0 \(20, 3\)"):
        from_state_dict(lstm_tensors(rng, "rnn", 3, 5), [L.LSTM("lstm")])


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("rnn.weight_ih_l0", (22, 3), r"'rnn.weight_ih_l0': expected shape \(4\*hidden, 3\), found \(22, 3\)"),
        ("rnn.weight_ih_l0", (20,), r"'rnn.weight_ih_l0': expected shape \(gates\*hidden, input\), found \(20,\)"),
        ("rnn.weight_ih_l0", (20, 0), r"'rnn.weight_ih_l0': expected shape"),
        ("rnn.weight_ih_l1", (20, 4), r"'rnn.weight_ih_l1': expected shape \(4\*hidden, 5\), found \(20, 4\)"),
        ("rnn.weight_hh_l0", (20, 4), r"'rnn.weight_hh_l0': expected shape \(20, 5\), found \(20, 4\)"),
        ("rnn.bias_hh_l1", (5,), r"'rnn.bias_hh_l1': expected shape \(20,\), found \(5,\)"),
        ("rnn.weight_hr_l0", (2, 6), r"'rnn.weight_hr_l0': expected shape \(projection, 5\), found \(2, 6\)"),
        ("fc.weight", (2, 6), r"Linear\('fc'\), tensor 'fc.weight': expected shape \(output, 5\), found \(2, 6\)"),
        ("fc.weight", (2, 5, 1), r"'fc.weight': expected shape \(output, 5\), found \(2, 5, 1\)"),
        ("fc.bias", (3,), r"'fc.bias': expected shape \(2,\), found \(3,\)"),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both_shapes(rng, name, shape, message):
    tensors = lstm_tensors(rng, "rnn", 3, 5, layers=2) | linear_tensors(rng, "fc", 5, 2)
    tensors[name] = np.zeros(shape, np.float32)
    with pytest.raises(FormatError, match=message):
        from_state_dict(tensors, [L.LSTM("rnn"), L.Last(), L.Linear("fc")])


@pytest.mark.parametrize(("gates", "other"), [(3, "GRU"), (1, "RNN")])
def test_tensors_of_another_recurrent_layer_name_the_right_one(rng, gates, other):
    tensors = {
        "rnn.weight_ih_l0": rng.standard_normal((gates * 5, 3)),
        "rnn.weight_hh_l0": rng.standard_normal((gates * 5, 5)),
    }
    with pytest.raises(FormatError, match=rf"rnn\.weight_hh_l0.*is that of {other}; write cylstm\.{other}"):
        from_state_dict(tensors, [L.LSTM("rnn")])


@pytest.mark.parametrize(
    "name",
    ["rnn.weight_hh_l0_g", "rnn.weight_ih_l1_reverse_v", "fc.weight_g", "fc.parametrizations.weight.original0",
     "rnn.weight_hh_l0_raw", "fc.weight_orig"],
)  # fmt: skip
def test_reparametrised_weights_are_refused_by_name(rng, name):
    tensors = lstm_tensors(rng, "rnn", 3, 5) | {name: np.zeros((20, 5))}
    with pytest.raises(UnsupportedError, match=f"{name}.*reparametrised"):
        from_state_dict(tensors, [L.LSTM("rnn")])


@pytest.mark.parametrize("before", [[], [L.Linear("fc")], [L.LSTM("rnn"), L.ReLU()], [L.LSTM("rnn"), L.Last()]])
def test_a_last_state_without_a_recurrent_layer_before_it_is_refused(rng, before):
    tensors = lstm_tensors(rng, "rnn", 3, 5) | linear_tensors(rng, "fc", 3, 3)
    with pytest.raises(FormatError, match="has to follow a recurrent layer"):
        from_state_dict(tensors, [*before, L.LastState()])


def test_an_lstm_after_the_last_step_is_refused_by_name(rng):
    tensors = lstm_tensors(rng, "a", 3, 5) | lstm_tensors(rng, "b", 5, 4)
    with pytest.raises(ShapeError, match=r"'b\.l0': expected a sequence"):
        from_state_dict(tensors, [L.LSTM("a"), L.Last(), L.LSTM("b")])


@pytest.mark.parametrize("layers", [[], L.LSTM("rnn"), ["rnn"], [L.LSTM], [L.Dropout()]])
def test_layers_that_describe_no_network_are_refused(rng, layers):
    with pytest.raises(FormatError, match="layer"):
        from_state_dict(lstm_tensors(rng, "rnn", 3, 5), layers)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((20, 3), np.complex64), "complex64"),
        (np.zeros((20, 3), object), "object"),
        (np.zeros((20, 3), np.int64), "int64"),
        ("text", "expected floating-point"),
        pytest.param(
            np.zeros((20, 3), np.longdouble),
            "expected floating-point",
            marks=pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="longdouble is double here"),
        ),
    ],
)
def test_a_tensor_that_holds_no_real_numbers_is_refused_by_name(rng, value, message):
    tensors = lstm_tensors(rng, "rnn", 3, 5) | {"rnn.weight_ih_l0": value}
    with pytest.raises(FormatError, match=message) as caught:
        from_state_dict(tensors, [L.LSTM("rnn")])
    assert "rnn.weight_ih_l0" in str(caught.value)


def test_what_is_no_mapping_is_refused():
    with pytest.raises(FormatError, match="expected a mapping"):
        from_state_dict([("a", 1)], [L.LSTM("")])
    with pytest.raises(FormatError, match="no tensors"):
        from_state_dict({}, [L.LSTM("")])


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="zoneout"):
        L.LSTM("lstm", zoneout=0.1)


@pytest.mark.parametrize("name", sorted({*L.__all__} - {"Layer", "Dense"}))  # Dense is another name of Linear
def test_a_wrong_keyword_is_reported_with_the_name_that_was_called(name):
    with pytest.raises(TypeError, match=rf"^{name}(\.__init__)?\(\) got an unexpected keyword argument 'zoneout'"):
        getattr(L, name)(zoneout=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell_clip": 0.0}, r"LSTM\('lstm'\): cell_clip expected a positive number or None, found 0.0"),
        ({"gate_clip": "3"}, "gate_clip expected a positive number or None, found '3'"),
        ({"coupled": "both"}, "coupled expected None, 'f=1-i' or 'i=1-f', found 'both'"),
        ({"layer_norm": True}, "layer_norm expected False, 'carried'.*found True"),
    ],
)
def test_an_option_out_of_its_range_is_named(rng, options, message):
    with pytest.raises((ShapeError, UnsupportedError), match=message):
        from_state_dict(lstm_tensors(rng, "lstm", 3, 5), [L.LSTM("lstm", **options)])


def test_tensors_of_variants_are_missed_by_name(rng):
    tensors = lstm_tensors(rng, "lstm", 3, 5)
    with pytest.raises(FormatError, match="tensor 'lstm.weight_pi_l0' is missing"):
        from_state_dict(tensors, [L.LSTM("lstm", peepholes=True)])
    with pytest.raises(FormatError, match="tensor 'lstm.norm_ih_l0.weight' is missing"):
        from_state_dict(tensors, [L.LSTM("lstm", layer_norm="carried")])
    tensors["lstm.weight_pi_l0"] = np.zeros(5, np.float32)
    with pytest.raises(FormatError, match=r"(?s)belong to no layer given.*weight_pi_l0"):
        from_state_dict(tensors, [L.LSTM("lstm")])
    with pytest.raises(FormatError, match=r"'lstm.weight_ih_l0': expected shape \(3\*hidden, 3\), found \(20, 3\)"):
        from_state_dict(tensors, [L.LSTM("lstm", forget_gate=False)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.Activation("mish"),
        lambda: L.Activation("elu", float("nan")),
        lambda: L.Softmax(1),
        lambda: L.GELU("x"),
    ],
)
def test_an_unknown_activation_is_refused_where_it_is_written(make):
    with pytest.raises(UnsupportedError):
        make()


def test_softmax_cannot_be_an_lstms_activation(rng):
    with pytest.raises(UnsupportedError, match="softmax"):
        from_state_dict(lstm_tensors(rng, "", 3, 5), [L.LSTM("", recurrent_activation="softmax")])


@pytest.mark.parametrize(
    "layer",
    [
        L.LSTM("a", peepholes=True, activation=L.Activation("elu", 0.5), backward=L.LSTM("", coupled="f=1-i")),
        L.ConvLSTM("a", (3, 4), strides=(1, 2)),
        L.MaxPool1d(3, ceil_mode=True),
        L.RMSNorm("a"),
        L.Last(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_text_of_a_layer_makes_it_again(layer):
    assert eval(repr(layer), {name: getattr(L, name) for name in L.__all__}) == layer
    assert layer not in (L.LastState(), L.LSTM("a"))


@pytest.mark.parametrize("time", ["rows", "columns"])
def test_a_transposed_convolution_of_images_spreads_each_pixel(rng, time):
    """PyTorch's weight is (channels, filters/groups, rows, columns)."""
    weight, bias = rng.standard_normal((4, 3, 2, 3)).astype("f4"), rng.standard_normal(6).astype("f4")
    options = {"stride": (2, 1), "padding": (0, 1), "output_padding": (1, 0), "groups": 2, "time": time}
    x = rng.standard_normal((3, 5, 6, 4)).astype("f4")  # (batch, rows, columns, channels)
    expected = np.zeros((3, 11, 8, 6))
    for row, column, i, j in np.ndindex(5, 6, 2, 3):
        for group in range(2):
            channels, filters = slice(2 * group, 2 * group + 2), slice(3 * group, 3 * group + 3)
            expected[:, 2 * row + i, column + j, filters] += x[:, row, column, channels] @ weight[channels, :, i, j]
    expected = expected[:, :, 1:-1] + bias
    turned = (0, 1, 2, 3) if time == "rows" else (0, 2, 1, 3)
    shape = (None, 6, 4) if time == "rows" else (None, 5, 4)
    layers = [L.Input(shape), L.ConvTranspose2d("up", **options)]
    model = Model(from_state_dict({"up.weight": weight, "up.bias": bias}, layers))
    found = model.predict(np.ascontiguousarray(x.transpose(turned)))
    np.testing.assert_allclose(found, expected.transpose(turned), rtol=0, atol=1e-5)


def test_the_two_biases_of_a_gru_are_those_of_its_input_and_of_its_state(rng):
    """PyTorch's equations: r multiplies the state's half of the candidate, with its bias, and no other."""
    sizes = {"weight_ih": (15, 3), "weight_hh": (15, 5), "bias_ih": (15,), "bias_hh": (15,)}
    w, u, b, c = arrays = [rng.uniform(-0.9, 0.9, size).astype(np.float32) for size in sizes.values()]
    model = Model(from_state_dict({f"gru.{role}_l0": one for role, one in zip(sizes, arrays)}, [L.GRU("gru")]))
    x, h = rng.normal(size=(4, 6, 3)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    found, (state,) = model.predict(x, initial_state=[(h,)], return_state=True)
    for t in range(6):
        from_x, from_h = x[:, t] @ w.T.astype("f8") + b, h @ u.T.astype("f8") + c
        r, z = (1 / (1 + np.exp(-from_x[:, k] - from_h[:, k])) for k in (slice(0, 5), slice(5, 10)))
        h = (1 - z) * np.tanh(from_x[:, 10:] + r * from_h[:, 10:]) + z * h
        np.testing.assert_allclose(found[:, t], h, rtol=0, atol=2e-6)
    np.testing.assert_allclose(state[0], h, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "roles", "default"),
    [
        (L.BatchNorm1d, ("weight", "bias", "running_mean", "running_var"), 1e-5),
        (L.LayerNorm, ("weight", "bias"), 1e-5),
        (L.RMSNorm, ("weight",), 2.0**-23),
    ],
)
def test_the_epsilon_of_a_normalisation_is_the_one_that_is_given_or_pytorchs(rng, layer, roles, default):
    tensors = {f"norm.{role}": rng.uniform(0.5, 2.0, 3).astype(np.float32) for role in roles}
    for given, expected in (({}, default), ({"eps": 0.125}, 0.125)):
        graph = from_state_dict(tensors, [L.Input((None, 3)), layer("norm", **given)])
        assert graph.layers[0].options["epsilon"] == expected
