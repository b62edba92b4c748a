"""The differential matrix against Keras: every recurrent layer, its options one by one, in pairs, and some in full.

Each configuration is a live layer with random weights, loaded here and run by both engines; the results are held
against Keras's (with PyTorch as its backend) and against the float64 reference.
"""

import itertools

import numpy as np
import pytest

import cylstm

from tests import reference
from tests.builders.configurations import configurations, label, seed
from tests.builders.keras_models import numbers
from tests.builders.matrix_goldens import record
from tests.builders.promise import check

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

TIME, BATCH, INPUT, HIDDEN, FILTERS = 6, 5, 4, 7, 3
SPATIAL = {"conv_lstm1d": (7,), "conv_lstm2d": (5, 4)}
CLASSES = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN", "conv_lstm1d": "ConvLSTM1D",
           "conv_lstm2d": "ConvLSTM2D"}  # fmt: skip

#: All steps, gaps in the middle, a gap in front, padding behind, no step at all.
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0], [0] * 6], bool)
EMPTY_ROW = 4

# A layer that goes each way alone, and Bidirectional: by merge mode; with another backward layer; and with a forward
# layer that goes backwards.
DIRECTIONS = ["forward", "backward", "concat", "sum", "mul", "ave", "none", "different", "swapped"]
ACTIVATIONS = [
    "tanh", "relu", "leaky_relu", "elu", "selu", "softsign", "softplus", "gelu", "silu", "exponential",
    "hard_sigmoid", "linear", "hard_tanh", "relu6", "sigmoid", "celu", "sparse_sigmoid",
    ("LeakyReLU", {"negative_slope": 0.15}), ("ELU", {"alpha": 0.7}), ("ReLU", {"max_value": 0.5}),
]  # fmt: skip
RECURRENT_ACTIVATIONS = ["sigmoid", "hard_sigmoid", "relu", "tanh", "linear", "softsign", "sparse_sigmoid",
                         ("LeakyReLU", {"negative_slope": 0.15})]  # fmt: skip

CALL = {
    "direction": DIRECTIONS,
    "return_sequences": [True, False],
    "mask": [False, True],
    "initial_state": [False, True],
}
SHARED = {
    **CALL,
    "zero_output_for_mask": [False, True],
    "return_state": [False, True],
    "use_bias": [True, False],
}
RECURRENT = {
    "lstm": {**SHARED, "activation": ACTIVATIONS, "recurrent_activation": RECURRENT_ACTIVATIONS},
    "gru": {
        **SHARED,
        "reset_after": [True, False],
        "activation": ACTIVATIONS,
        "recurrent_activation": RECURRENT_ACTIVATIONS[:4],
    },
    "simple_rnn": {**SHARED, "activation": ACTIVATIONS},
}
CONVOLUTION = {
    **SHARED,
    "activation": ["tanh", "relu", "elu", "hard_sigmoid"],
    "recurrent_activation": ["sigmoid", "hard_sigmoid"],
    "padding": ["valid", "same"],
}
CONVOLUTIONS = {
    "conv_lstm1d": {**CONVOLUTION, "kernel_size": [2, 3, 1], "strides": [1, 2, 3], "dilation_rate": [1, 2]},
    "conv_lstm2d": {
        **CONVOLUTION,
        "kernel_size": [(2, 3), (3, 2), (1, 1)],
        "strides": [(1, 1), (2, 1), (2, 2)],
        "dilation_rate": [(1, 1), (2, 1)],
    },
}
STACKS = {
    "cells": [("LSTM", "LSTM"), ("LSTM", "GRU", "SimpleRNN"), ("SimpleRNN", "GRU"), "LSTM", "GRU", "SimpleRNN"],
    **CALL,
    "zero_output_for_mask": [False, True],
    "return_state": [False, True],
}
FAMILIES = {**RECURRENT, **CONVOLUTIONS, "stack": STACKS}


def is_possible(family, configuration):
    """Whether Keras has such a layer; zero_output_for_mask without return_sequences is refused, and tested there."""
    alone = configuration["direction"] in ("forward", "backward")
    if configuration["zero_output_for_mask"] and alone and not configuration["return_sequences"]:
        return False
    strides, dilation = configuration.get("strides", 1), configuration.get("dilation_rate", 1)
    return np.max(strides) == 1 or np.max(dilation) == 1


def cases():
    for family, options in FAMILIES.items():
        found = configurations(options)
        # what masks, states and directions do to one another, in full; Bidirectional sets zero_output_for_mask itself
        default = {name: values[0] for name, values in options.items()}
        full = [default | dict(zip(CALL, values)) for values in itertools.product(*CALL.values())]
        found += full
        found += [one | {"zero_output_for_mask": True} for one in full if one["direction"] in ("forward", "backward")]
        unique = {label(configuration, options): configuration for configuration in found}
        for name, configuration in unique.items():
            if is_possible(family, configuration):
                yield pytest.param(family, configuration, id=f"{family} {name}")


CASES = list(cases())


def activation(keras, found):
    return found if isinstance(found, str) else getattr(keras.layers, found[0])(**found[1])


def plain_layer(keras, family, configuration, **changes):
    """The layer without Bidirectional."""
    options = {name: configuration[name] for name in ("return_sequences", "return_state", "zero_output_for_mask")}
    if family == "stack":
        kinds = configuration["cells"]
        cells = [getattr(keras.layers, f"{kind}Cell")(HIDDEN - k) for k, kind in enumerate(np.atleast_1d(kinds))]
        return keras.layers.RNN(cells[0] if isinstance(kinds, str) else cells, **options, **changes)
    for name in ("use_bias", "reset_after", "padding", "kernel_size", "strides", "dilation_rate"):
        if name in configuration:
            options[name] = configuration[name]
    for name in ("activation", "recurrent_activation"):
        if name in configuration:
            options[name] = activation(keras, configuration[name])
    size = FILTERS if family in SPATIAL else HIDDEN
    return getattr(keras.layers, CLASSES[family])(size, **{**options, **changes})


def keras_layer(keras, family, configuration):
    direction = configuration["direction"]
    if direction in ("forward", "backward"):
        return plain_layer(keras, family, configuration, go_backwards=direction == "backward")
    bidirectional = keras.layers.Bidirectional
    if direction in ("different", "swapped"):
        other = {} if family == "stack" else {"activation": "softsign", "use_bias": not configuration["use_bias"]}
        is_swapped = direction == "swapped"
        forward = plain_layer(keras, family, configuration, go_backwards=is_swapped)
        backward = plain_layer(keras, family, configuration, go_backwards=not is_swapped, name="other", **other)
        return bidirectional(forward, backward_layer=backward)
    return bidirectional(
        plain_layer(keras, family, configuration), merge_mode=None if direction == "none" else direction
    )


def flat(values):
    """The arrays of a nest of lists and tuples."""
    if isinstance(values, (list, tuple)):
        return [array for value in values for array in flat(value)]
    return [numbers(values)]


def keras_states(keras, states, family, configuration):
    """Our states as Keras's initial_state."""
    states = [[keras.ops.convert_to_tensor(array) for array in group] for group in states]
    if family == "stack" and not isinstance(configuration["cells"], str):
        # the state of a cell with one is not in a list
        return [group if len(group) > 1 else group[0] for group in states]
    return [array for group in states for array in group]


def list_of(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def check_files(network, model, tmp_path):
    """The files that Keras writes give the same graph as the live model."""
    for suffix in (".keras", ".h5"):
        network.save(tmp_path / f"network{suffix}")
        graph = cylstm.load(tmp_path / f"network{suffix}").graph
        assert graph.layers == model.graph.layers
        assert graph.outputs == model.graph.outputs
        assert list(graph.tensors) == list(model.graph.tensors)
        for name, tensor in graph.tensors.items():
            np.testing.assert_array_equal(tensor, model.graph.tensors[name])


def check_native_file(model, tmp_path, x, expected, **options):
    model.save(tmp_path / "network.cylstm")
    for again, found in zip(list_of(cylstm.load(tmp_path / "network.cylstm").predict(x, **options)), expected):
        np.testing.assert_array_equal(again, found)


def check_stream(model, x, initial):
    """Step by step the bits are those of the whole sequence."""
    whole, final = model.predict(x, initial_state=initial, return_state=True)
    stream = model.stream(batch=len(x))
    if initial is not None:
        stream.state = initial
    steps = [[np.array(y) for y in list_of(stream.step(x[:, t]))] for t in range(TIME)]
    for k, expected in enumerate(list_of(whole)):
        is_sequence = model.graph.values[model.outputs[k]].kind == "sequence"
        found = np.stack([step[k] for step in steps], axis=1) if is_sequence else steps[-1][k]
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(stream.state, final):
        for a, b in zip(found, expected):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family, configuration", CASES)
def test_a_configuration_gives_kerass_numbers(keras, tmp_path, family, configuration, record_property):
    number = seed(family, configuration)
    rng = np.random.default_rng(number)
    shape = (TIME, *SPATIAL.get(family, ()), INPUT)
    layer = keras_layer(keras, family, configuration)
    network = keras.Sequential([keras.Input(shape), layer])
    # exp of exp of exp leaves float32 within six steps unless the weights are small
    bound = 0.1 if configuration.get("activation") == "exponential" else 0.4
    for variable in network.weights:
        variable.assign(rng.uniform(-bound, bound, variable.shape).astype(np.float32))
    model = cylstm.from_keras(network)

    x = rng.normal(size=(BATCH, *shape)).astype(np.float32)
    initial, options, theirs_options = None, {}, {}
    if configuration["mask"]:
        options["mask"] = MASK
        theirs_options["mask"] = keras.ops.convert_to_tensor(MASK)
    if configuration["initial_state"]:
        initial = [
            tuple(rng.uniform(-0.9, 0.9, (BATCH, *size)).astype(np.float32) for _, size in parts)
            for _, parts in model.graph.states()
        ]
        if configuration["mask"] and not configuration["return_sequences"]:
            # where Keras's backends disagree; see the test below
            for array in itertools.chain(*initial):
                array[EMPTY_ROW] = 0.0
        options["initial_state"] = initial
        theirs_options["initial_state"] = keras_states(keras, initial, family, configuration)
    theirs = flat(layer(keras.ops.convert_to_tensor(x), **theirs_options))
    exact, exact_final = reference.predict(model.graph, x, **options)
    assert len(theirs) == len(exact)

    worst = 0.0
    for engine in ("packed", "blas"):
        run = model if engine == "packed" else cylstm.Model(model.graph, engine=engine)
        outputs, final = run.predict(x, return_state=True, **options)
        outputs = list_of(outputs)
        assert len(outputs) == len(exact)
        for found, other, wanted in zip(outputs, theirs, exact):
            worst = max(worst, check(found, other, wanted))
        states = [array for group in final for array in group]
        wanted = [array for group in exact_final for array in group]
        others = theirs[-len(states) :] if configuration["return_state"] else wanted
        for found, other, exactly in zip(states, others, wanted):
            worst = max(worst, check(found, other.astype(np.float32), exactly))
        if engine == "packed" and number % 8 == 0:
            check_native_file(model, tmp_path, x, outputs, **options)
    identity = (f"keras_{family}", configuration)
    record(identity, model, x, theirs[: len(exact)], every=80, mask=options.get("mask"), initial_state=initial)
    if number % 8 == 1:
        check_files(network, model, tmp_path)
    if number % 2 == 0 and model.can_stream:
        check_stream(model, x, initial)
    record_property("worst_error", worst)


CHAINS = {
    "backward, forward": [
        ("LSTM", 7, {"go_backwards": True, "return_sequences": True}),
        ("GRU", 5, {}),
    ],
    "backward twice": [
        ("GRU", 7, {"go_backwards": True, "return_sequences": True}),
        ("SimpleRNN", 5, {"go_backwards": True, "return_sequences": True}),
    ],
    "bidirectional twice": [
        ("Bidirectional LSTM", 7, {"return_sequences": True}),
        ("Dropout", 0.3, {}),
        ("Bidirectional GRU", 5, {"return_sequences": True, "return_state": True}),
    ],
    "zeros, forward": [
        ("SimpleRNN", 7, {"zero_output_for_mask": True, "return_sequences": True}),
        ("Dense", 6, {"activation": "softplus"}),
        ("LSTM", 5, {"return_state": True}),
        ],
    "convolutions": [
        ("ConvLSTM1D", 3, {"kernel_size": 2, "padding": "same", "go_backwards": True, "return_sequences": True}),
        ("Bidirectional ConvLSTM1D", 2, {"kernel_size": 3, "strides": 2, "return_sequences": True}),
        ("ConvLSTM1D", 2, {"kernel_size": 1, "return_state": True}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_layers_after_one_another_give_kerass_numbers(keras, tmp_path, name, masked, record_property):
    rng = np.random.default_rng(seed(name))
    shape = (TIME, 7, INPUT) if name == "convolutions" else (TIME, INPUT)
    network = keras.Sequential([keras.Input(shape)])
    for kind, size, options in CHAINS[name]:
        layer = getattr(keras.layers, kind.split()[-1])(size, **options)
        network.add(keras.layers.Bidirectional(layer) if " " in kind else layer)
    for variable in network.weights:
        if "seed" not in variable.path:
            variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    model = cylstm.from_keras(network)
    check_files(network, model, tmp_path)
    x = rng.normal(size=(BATCH, *shape)).astype(np.float32)
    mask = MASK if masked else None
    theirs = flat(network(x, mask=keras.ops.convert_to_tensor(MASK) if masked else None))
    exact, _ = reference.predict(model.graph, x, mask=mask)
    worst = 0.0
    for engine in ("packed", "blas"):
        found = list_of(cylstm.Model(model.graph, engine=engine).predict(x, mask=mask))
        assert len(found) == len(theirs) == len(exact)
        worst = max([worst, *map(check, found, theirs, exact)])
    record_property("worst_error", worst)


@pytest.mark.parametrize("family", RECURRENT)
def test_a_row_without_steps_has_its_initial_state_as_last_output(keras, rng, family):
    """So have Keras's NumPy and JAX backends; its PyTorch and TensorFlow backends give zeros, from the same states."""
    layer = getattr(keras.layers, CLASSES[family])(HIDDEN, return_state=True)
    model = cylstm.from_keras(keras.Sequential([keras.Input((TIME, INPUT)), layer]))
    x = rng.normal(size=(BATCH, TIME, INPUT)).astype(np.float32)
    initial = [tuple(rng.normal(size=(BATCH, HIDDEN)).astype(np.float32) for _ in model.state_names[0])]
    theirs = flat(
        layer(
            keras.ops.convert_to_tensor(x),
            mask=keras.ops.convert_to_tensor(MASK),
            initial_state=keras_states(keras, initial, family, {}),
        )
    )
    found = model.predict(x, mask=MASK, initial_state=initial)
    np.testing.assert_array_equal(found[0][EMPTY_ROW], initial[0][0][EMPTY_ROW])
    assert not theirs[0][EMPTY_ROW].any()
    for ours, other in zip(found[1:], theirs[1:]):
        np.testing.assert_array_equal(ours[EMPTY_ROW], other[EMPTY_ROW])


@pytest.mark.parametrize(
    "family, options",
    [
        ("lstm", {"unroll": True}),
        ("gru", {"unroll": True, "dropout": 0.4, "recurrent_dropout": 0.3}),
        ("simple_rnn", {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": 3}),
        ("lstm", {"use_cudnn": False, "unit_forget_bias": False, "kernel_regularizer": "l2", "dtype": "float64"}),
        ("gru", {"recurrent_initializer": "zeros", "bias_constraint": "non_neg", "trainable": False}),
        ("conv_lstm1d", {"kernel_size": 2, "dropout": 0.4, "recurrent_dropout": 0.3, "activity_regularizer": "l1"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_options_of_training_and_speed_change_nothing(keras, rng, tmp_path, family, options, bidirectional):
    shape = (TIME, *SPATIAL.get(family, ()), INPUT)
    size = FILTERS if family in SPATIAL else HIDDEN
    layer = getattr(keras.layers, CLASSES[family])(size, return_sequences=True, **options)
    network = keras.Sequential([keras.Input(shape), keras.layers.Bidirectional(layer) if bidirectional else layer])
    for variable in network.weights:
        variable.assign(rng.uniform(-0.4, 0.4, variable.shape).astype(np.float32))
    model = cylstm.from_keras(network, dtype="float32")
    x = rng.normal(size=(BATCH, *shape)).astype(np.float32)
    (exact,), _ = reference.predict(model.graph, x)
    check(model.predict(x), flat(network(x))[0], exact)
    for suffix in (".keras", ".h5"):
        network.save(tmp_path / f"network{suffix}")
        again = cylstm.load(tmp_path / f"network{suffix}", dtype="float32")
        np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("family", CLASSES)
def test_a_stateful_layer_goes_on_from_the_state_that_predict_returns(keras, rng, tmp_path, family):
    shape = (TIME, *SPATIAL.get(family, ()), INPUT)
    options = {"kernel_size": 2} if family in SPATIAL else {}
    layer = getattr(keras.layers, CLASSES[family])(FILTERS, return_sequences=True, stateful=True, **options)
    network = keras.Sequential([keras.Input(batch_shape=(BATCH, *shape)), layer])
    model = cylstm.from_keras(network)
    check_files(network, model, tmp_path)
    state = None
    for _ in range(3):
        x = rng.normal(size=(BATCH, *shape)).astype(np.float32)
        expected = flat(network(x))[0]
        (exact,), _ = reference.predict(model.graph, x, initial_state=state)
        found, state = model.predict(x, initial_state=state, return_state=True)
        check(found, expected, exact)
