"""Weights that a state dict holds in parts: weight norm, spectral norm, pruning."""

import numpy as np
import pytest

import cylstm
from cylstm.errors import FormatError, UnsupportedError
from cylstm.formats.state_dict.assemble import from_state_dict
from cylstm.formats.state_dict.reparametrised import multiplied_out

from tests.builders.weight_files import linear_tensors, lstm_tensors, write_torch


def whole(tensors):
    return multiplied_out("state dict", tensors, {name: name for name in tensors})


def weight_norm(g, v, axes):
    return v.astype(np.float64) * g / np.sqrt((v.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))


@pytest.mark.parametrize(
    "names", [("{0}_g", "{0}_v"), ("parametrizations.{0}.original0", "parametrizations.{0}.original1")]
)
@pytest.mark.parametrize("weight", ["weight", "weight_ih_l0", "weight_hh_l1_reverse", "weight_hr_l0"])
def test_weight_norm_divides_by_the_norm_of_each_row(rng, names, weight):
    g, v = rng.standard_normal((4, 1)).astype("f"), rng.standard_normal((4, 7)).astype("f")
    made, parts = whole({"before.bias": g, f"a.{names[0].format(weight)}": g, f"a.{names[1].format(weight)}": v})
    assert list(made) == ["before.bias", f"a.{weight}"] and set(parts) == {f"a.{weight}"}
    assert made[f"a.{weight}"].dtype == np.float32
    np.testing.assert_array_equal(made[f"a.{weight}"], weight_norm(g, v, 1).astype("f"))


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 1, 1), (1, 2)), ((1, 5, 1), (0, 2)), ((1, 1, 3), (0, 1)), ((1, 1, 1), (0, 1, 2))]
)
def test_the_shape_of_g_says_along_which_axis_the_rows_of_weight_norm_lie(rng, shape, axes):
    g, v = rng.standard_normal(shape), rng.standard_normal((4, 5, 3))
    made, _ = whole({"c.weight_g": g, "c.weight_v": v})
    np.testing.assert_allclose(made["c.weight"], weight_norm(g, v, axes), rtol=1e-15)


def test_a_g_of_one_number_is_the_norm_of_the_whole(rng):
    g, v = rng.standard_normal(()), rng.standard_normal((4, 5))
    made, _ = whole({"weight_g": g, "weight_v": v})
    np.testing.assert_allclose(made["weight"], v * g / np.linalg.norm(v), rtol=1e-15)


@pytest.mark.parametrize(
    ("g", "v"), [((4,), (4, 5)), ((4, 5), (4, 5)), ((3, 1), (4, 5)), ((2, 1), (1, 5)), ((4, 1, 3), (4, 5, 3))]
)
def test_a_g_that_does_not_fit_is_refused(g, v):
    with pytest.raises(FormatError, match=r"parts of weight_norm do not fit together: .*'a\.weight_g'.*'a\.weight_v'"):
        whole({"a.weight_g": np.ones(g), "a.weight_v": np.ones(v)})


@pytest.mark.parametrize(
    "names",
    [
        ("{0}_orig", "{0}_u", "{0}_v"),
        ("parametrizations.{0}.original", "parametrizations.{0}.0._u", "parametrizations.{0}.0._v"),
    ],
)
@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3), (5, 5)])
def test_spectral_norm_divides_by_the_estimate_of_the_largest_singular_value(rng, names, shape):
    original, u = rng.standard_normal(shape), rng.standard_normal(shape[0])
    v = rng.standard_normal(original.size // shape[0])
    made, _ = whole({f"a.{name.format('weight')}": array for name, array in zip(names, (original, u, v))})
    np.testing.assert_allclose(made["a.weight"], original / (u @ original.reshape(shape[0], -1) @ v), rtol=1e-14)


def test_pruning_multiplies_by_the_mask(rng):
    original, mask = rng.standard_normal((4, 5)), rng.integers(0, 2, (4, 5)).astype("f")
    made, _ = whole({"a.weight_orig": original, "a.weight_mask": mask, "a.bias_orig": original, "a.bias_mask": mask})
    np.testing.assert_array_equal(made["a.weight"], original * mask)
    np.testing.assert_array_equal(made["a.bias"], original * mask)
    with pytest.raises(FormatError, match="parts of pruning do not fit together: expected a mask of the shape"):
        whole({"a.weight_orig": original, "a.weight_mask": mask[:2]})


def test_a_network_in_parts_predicts_and_tells_where_each_part_went(rng, tmp_path):
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    expected = cylstm.from_state_dict(tensors, [cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    inside = {}
    for name, array in tensors.items():
        if array.ndim == 2:
            inside |= {f"{name}_g": np.linalg.norm(array, axis=1, keepdims=True), f"{name}_v": array * np.float32(0.5)}
        else:
            inside[name] = array
    path = write_torch(tmp_path / "a.pt", {f"model.{name}": array for name, array in inside.items()})
    model = cylstm.load(path, layers=[cylstm.LSTM("lstm"), cylstm.Linear("fc")])
    x = rng.standard_normal((3, 4, 3)).astype("f")
    np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=0, atol=1e-6)
    assert set(model.provenance["tensors"]) == {f"model.{name}" for name in inside}
    assert model.provenance["tensors"]["model.fc.weight_g"] == "fc/weight"


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (
            ["weight_g"],
            UnsupportedError,
            r"'a\.weight_g' is part of a weight reparametrised by weight_norm; in PyTorch",
        ),
        (["weight_orig", "weight_u"], UnsupportedError, r"by spectral_norm \(beside 'a\.weight_u'\)"),
        (["weight_raw"], UnsupportedError, "weight drop"),
        (["parametrizations.weight.original"], UnsupportedError, "a parametrization|weight_norm"),
        (
            ["parametrizations.weight.original", "parametrizations.weight.0.base"],
            UnsupportedError,
            r"beside 'a\.parametrizations\.weight\.0\.base'",
        ),
        (
            ["parametrizations.weight.original0", "parametrizations.weight.original1", "parametrizations.weight.1._u"],
            UnsupportedError,
            "reparametrised",
        ),
        (["weight", "weight_g", "weight_v"], FormatError, "is there in one piece and in the parts of weight_norm"),
    ],
)
def test_parts_that_do_not_say_how_they_make_a_weight_are_refused_by_name(tensors, error, message):
    found = {f"a.{name}": np.ones((3, 1) if name.endswith(("_g", "original0")) else (3, 4), "f") for name in tensors}
    with pytest.raises(error, match=message):
        from_state_dict(found, [cylstm.Linear("a")])


def test_parts_that_are_no_real_numbers_are_refused():
    with pytest.raises(FormatError, match=r"'a\.weight_v', a part of weight_norm: .* found int64"):
        whole({"a.weight_g": np.ones((2, 1)), "a.weight_v": np.ones((2, 3), np.int64)})
