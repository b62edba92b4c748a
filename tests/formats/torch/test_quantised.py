"""Files and state dicts of quantised modules: dequantised where the pickle holds the numbers, else refused by name."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import CylstmError, FormatError, UnsupportedError
from cylstm.loading import read

from tests.builders.weight_files import (
    array_tensor,
    call,
    global_,
    integer,
    ordered_dict,
    program,
    quantised_tensor,
    real,
    script_object,
    text,
    tuple_of,
    write_torch,
)

SCALE, ZERO = 0.0173, 3


class Storages:
    """The storages of a file, and the pickles of the tensors in them."""

    def __init__(self, rng):
        self.rng = rng
        self.members = []

    def _add(self, array):
        self.members.append((f"net/data/{len(self.members)}", array.tobytes()))
        return str(len(self.members) - 1)

    def array(self, array):
        return array_tensor(self._add(array), array)

    def quantised(self, *shape):
        """Random whole numbers, their pickle, and what they stand for."""
        numbers = self.rng.integers(-128, 128, shape).astype(np.int8)
        expected = (numbers.astype(np.float32) - np.float32(ZERO)) * np.float32(SCALE)
        return quantised_tensor(self._add(numbers), numbers, SCALE, ZERO), expected

    def vector(self, size):
        array = self.rng.standard_normal(size).astype(np.float32)
        return self.array(array), array

    def write(self, path, state):
        return write_torch(path, {}, body=ordered_dict(state), members=self.members)


@pytest.fixture
def storages(rng):
    return Storages(rng)


def packed_linear(storages, inputs, outputs, *, scale=1.0, zero=0):
    weight, expected = storages.quantised(outputs, inputs)
    bias, bias_expected = storages.vector(outputs)
    state = {
        "fc.scale": storages.array(np.array(scale, np.float32)),
        "fc.zero_point": storages.array(np.array(zero, np.int64)),
        "fc._packed_params.dtype": global_("torch.qint8"),
        "fc._packed_params._packed_params": tuple_of(weight, bias),
    }
    return state, {"fc.weight": expected, "fc.bias": bias_expected}


def packed_cell(storages, inputs, hidden, gates=4, *, kind="quantized_dynamic"):
    """One set of weights of a recurrent layer, and the tensors in it."""
    found = [storages.quantised(gates * hidden, size) for size in (inputs, hidden)]
    biases = [storages.vector(gates * hidden) for _ in range(2)]
    inside = kind == "quantized_fp16"
    matrices = [
        script_object("quantized.LinearPackedParamsBase", tuple_of(pickle, bias if inside else b"N"))
        for (pickle, _), (bias, _) in zip(found, biases)
    ]
    lists = [[] if inside else [pickle for pickle, _ in biases], [], [], matrices]
    state = tuple_of(text(kind), *(b"](" + b"".join(items) + b"e" for items in lists))
    return script_object("rnn.CellParamsBase", state), [array for _, array in (*found, *biases)]


def test_a_packed_linear_layer_is_read_as_what_its_numbers_stand_for(storages, tmp_path):
    state, expected = packed_linear(storages, 6, 4)
    graph = read(storages.write(tmp_path / "a.pt", state), layers=[cylstm.Linear("fc")])
    for name, array in expected.items():
        np.testing.assert_array_equal(graph.tensors[name], array)
        assert graph.tensors[name].dtype == np.float32
    assert "dynamically quantised" in graph.provenance["note"]
    assert graph.provenance["layouts"]["fc.weight"].startswith("quantised to int8 (4, 6)")


def test_each_row_may_have_a_scale_of_its_own(storages, rng, tmp_path):
    numbers = rng.integers(-128, 128, (4, 6)).astype(np.int8)
    scales, zeros = rng.random(4) + 0.1, rng.integers(-3, 3, 4)
    weight = quantised_tensor(storages._add(numbers), numbers, storages.array(scales), storages.array(zeros))
    path = storages.write(tmp_path / "a.pt", {"fc.weight": weight})
    found = read(path, layers=[cylstm.Linear("fc")]).tensors["fc.weight"]
    expected = (numbers.astype(np.float32) - zeros[:, None].astype("f")) * scales[:, None].astype("f")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("hidden", "inputs", "suffixes"),
    [
        (5, [3], ["_l0"]),
        (5, [3, 5, 5], ["_l0", "_l1", "_l2"]),
        (5, [3, 3], ["_l0", "_l0_reverse"]),
        (5, [3, 3, 10, 10], ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]),
    ],
)
@pytest.mark.parametrize("kind", ["quantized_dynamic", "quantized_fp16"])
def test_packed_recurrent_layers_are_told_from_directions_by_their_sizes(
    storages, tmp_path, hidden, inputs, suffixes, kind
):
    state, expected = {}, {}
    for i, size in enumerate(inputs):
        state[f"rnn._all_weight_values.{i}.param"], arrays = packed_cell(storages, size, hidden, kind=kind)
        roles = [f"rnn.{role}{suffixes[i]}" for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        expected |= dict(zip(roles, arrays))
    path = storages.write(tmp_path / "a.pt", state)
    x = np.random.default_rng(2).standard_normal((3, 4, inputs[0])).astype("f")
    model = cylstm.load(path, layers=[cylstm.LSTM("rnn")])
    twin = cylstm.from_state_dict(expected, [cylstm.LSTM("rnn")])
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    assert set(model.provenance["tensors"]) == set(expected)


def test_two_sets_that_may_be_layers_or_directions_are_refused(storages, tmp_path):
    state = {f"rnn._all_weight_values.{i}.param": packed_cell(storages, 5, 5)[0] for i in range(2)}
    path = storages.write(tmp_path / "a.pt", state)
    with pytest.raises(UnsupportedError, match="may be two layers or two directions, .* before it was quantised"):
        read(path, layers=[cylstm.LSTM("rnn")])


@pytest.mark.parametrize(("scale", "zero", "name"), [(0.5, 0, "scale"), (1.0, 7, "zero_point")])
def test_a_statically_quantised_layer_is_refused(storages, tmp_path, scale, zero, name):
    path = storages.write(tmp_path / "a.pt", packed_linear(storages, 3, 2, scale=scale, zero=zero)[0])
    with pytest.raises(UnsupportedError, match=rf"'fc\.{name}': a statically quantised layer"):
        read(path, layers=[cylstm.Linear("fc")])


def test_a_quantised_cell_is_refused_because_its_biases_are_not_there(storages, tmp_path):
    weight, _ = storages.quantised(12, 2)
    packed = script_object("quantized.LinearPackedParamsBase", tuple_of(weight, b"N"))
    path = storages.write(tmp_path / "a.pt", {"cell._packed_weight_ih": packed})
    with pytest.raises(UnsupportedError, match="quantised cell, whose biases"):
        read(path, layers=[cylstm.LSTM("cell")])


def test_a_quantised_module_that_was_pickled_whole_is_refused_with_what_to_save(tmp_path):
    inner = global_("torch.nn.X") + b")\x81}(" + text("_parameters") + b"}" + text("_modules") + b"}ub"
    modules = b"}(" + text("_packed_params") + inner + b"u"
    module = global_("a.Net") + b")\x81}(" + text("_parameters") + b"}" + text("_modules") + modules + b"ub"
    path = write_torch(tmp_path / "a.pt", {}, body=module)
    with pytest.raises(UnsupportedError, match=r"pickled whole; save module\.state_dict\(\)"):
        read(path, layers=[cylstm.Linear("fc")])


def damaged(storages, edit):
    cell = packed_cell(storages, 3, 5)[0]
    weight, _ = storages.quantised(4, 6)
    return edit(storages, cell, weight)


def quantised_by(*quantizer):
    numbers = np.zeros((2, 3), np.int8)

    def make(storages, cell, weight):
        made = quantised_tensor(storages._add(numbers), numbers, SCALE, ZERO)
        usual = tuple_of(global_("torch.per_tensor_affine"), real(SCALE), integer(ZERO))
        assert usual in made
        parts = [part(storages) if callable(part) else part for part in quantizer]
        return {"fc.weight": made.replace(usual, tuple_of(*parts))}

    return make


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s, cell, w: {"a._all_weight_values.1.param": cell}, r"expected entries 0 to 0, found \[1\]"),
        (lambda s, cell, w: {"a._all_weight_values.0.param": w}, "is not the weights of a dynamically quantised layer"),
        (lambda s, cell, w: {"a._all_weight_values.0.param": integer(3)}, "is not the weights of"),
        (
            lambda s, cell, w: {
                "a._all_weight_values.0.param": cell,
                "a._all_weight_values.1.param": packed_cell(s, 4, 5)[0],
            },
            "make no stack of layers",
        ),
        (lambda s, cell, w: {"a._packed_params._packed_params": cell}, "expected a packed weight"),
        (lambda s, cell, w: {"a._packed_params._packed_params": tuple_of(w, w)}, "expected a bias of one axis"),
        (
            lambda s, cell, w: {"a._packed_params._packed_params": tuple_of(integer(1), b"N")},
            "expected a packed weight",
        ),
        (
            lambda s, cell, w: {
                "a._all_weight_values.0.param": script_object(
                    "rnn.CellParamsBase", tuple_of(text("quantized_dynamic"), b"]", b"]", b"]", b"]")
                )
            },
            "expected two matrices",
        ),
        (
            quantised_by(global_("torch.per_tensor_symmetric"), real(1.0), integer(0)),
            "quantised by torch.per_tensor_symm",
        ),
        (quantised_by(global_("torch.per_tensor_affine"), real(float("inf")), integer(0)), "finite scales"),
        (quantised_by(global_("torch.per_tensor_affine"), real(1.0), integer(1 << 40)), "quantised by"),
        (quantised_by(global_("torch.per_channel_affine"), real(1.0), real(1.0), integer(0)), "quantised by"),
        (quantised_by(b"N"), "quantised by"),
        (
            quantised_by(
                global_("torch.per_channel_affine"),
                lambda s: s.array(np.ones(3)),
                lambda s: s.array(np.ones(2, np.int64)),
                integer(0),
            ),
            "expected one scale and one zero point for each",
        ),
    ],
)
def test_a_damaged_one_is_refused(storages, tmp_path, edit, message):
    path = storages.write(tmp_path / "a.pt", damaged(storages, edit))
    with pytest.raises(CylstmError, match=message):
        read(path, layers=[cylstm.Linear("a")])
    with pytest.raises(CylstmError):
        read(path)


def test_an_object_of_another_class_is_not_taken_for_weights(storages, tmp_path):
    weight, _ = storages.quantised(4, 6)
    body = ordered_dict({"a._packed_params._packed_params": call("os.system", tuple_of(weight, b"N"))})
    path = write_torch(tmp_path / "a.pt", {}, body=body, members=storages.members)
    with pytest.raises(FormatError, match="expected a packed weight"):
        read(path, layers=[cylstm.Linear("a")])
    assert program(body)
