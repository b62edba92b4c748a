"""Groups of an input's numbers and baselines: the forms in which they are given, and which are refused."""

import numpy as np
import pytest

from cylstm.errors import ArgumentError, ShapeError
from cylstm.explain import Background
from cylstm.explain.groups import baseline_of, groups_of

TIME, FEATURES = 7, 3


def made(groups, shape=(TIME, FEATURES), has_time=True, has_features=True):
    return groups_of(groups, shape, has_time=has_time, has_features=has_features)


def test_features_and_time_are_groups():
    found = made("features")
    assert found.names == ("feature 0", "feature 1", "feature 2")
    np.testing.assert_array_equal(found.owner, np.tile(np.arange(3), (TIME, 1)))
    assert made(["a", "b", "c"]).names == ("a", "b", "c")
    found = made("time")
    assert found.names[::6] == ("step 0", "step 6")
    np.testing.assert_array_equal(found.owner, np.tile(np.arange(TIME)[:, np.newaxis], (1, 3)))


def test_blocks_are_counted_from_the_end():
    found = made(3)
    assert found.names == ("step 0", "steps 1-3", "steps 4-6")
    np.testing.assert_array_equal(found.owner[:, 0], [0, 1, 1, 1, 2, 2, 2])
    assert made(100).names == ("steps 0-6",)


def test_cells_are_features_in_blocks_of_time():
    found = made((["a", "b", "c"], 4))
    assert found.names[:3] == ("a, steps 0-2", "a, steps 3-6", "b, steps 0-2")
    assert found.owner[2, 0] == 0 and found.owner[3, 0] == 1 and found.owner[6, 2] == 5
    found = made(({"a": 0, "late": (slice(4, None), 2)}, 4))
    assert found.names == ("a, steps 0-2", "a, steps 3-6", "late, steps 3-6")
    assert (found.owner[:, 1] == -1).all() and (found.owner[:4, 2] == -1).all()


def test_a_dict_names_features_cells_and_masks():
    mask = np.zeros((TIME, FEATURES), bool)
    mask[0, 0] = True
    found = made(
        {
            "one": mask,
            "two": (slice(1, 3), [0, 1]),
            "third": [2],
            "late": (slice(-2, None), slice(0, 2)),
        }
    )
    wanted = np.full((TIME, FEATURES), -1)
    wanted[0, 0], wanted[1:3, :2], wanted[:, 2], wanted[-2:, :2] = 0, 1, 2, 3
    np.testing.assert_array_equal(found.owner, wanted)
    assert found.segments() == [(0, 1), (1, 3), (3, 5), (5, 7)]
    np.testing.assert_array_equal(made({"a": np.array([True, False, True])}).owner[:, 0], np.zeros(TIME))
    np.testing.assert_array_equal(made({"a": slice(1, None)}).owner[0], [-1, 0, 0])


def test_the_past_becomes_one_group():
    found = made((["a", "b", "c"], 2)).with_past(3)
    assert found.names[:2] == ("past, steps 0-2", "a, steps 3-4")
    assert (found.owner[:3] == 0).all()
    assert found.owner[3, 0] == 1 and found.owner[6, 2] == 6
    assert found.names[found.owner[5, 1]] == "b, steps 5-6"
    # what is in no group stays so, and a group that reaches over is cut
    found = made({"a": 0}).with_past(4)
    assert found.names == ("past, steps 0-3", "a")
    np.testing.assert_array_equal(found.owner[:, 0], [0, 0, 0, 0, 1, 1, 1])
    assert (found.owner[:, 1:] == -1).all()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": 0, "b": slice(0, 2)}, "'a' and 'b' overlap at \\(0, 0\\)"),
        ({"a": (slice(0, 3), 1), "b": (2, 1)}, "'a' and 'b' overlap at \\(2, 1\\)"),
        ({"a": 3}, "'a' is 3, which is not in a sample of shape \\(7, 3\\)"),
        ({"a": [0, 9]}, "'a' is \\[0, 9\\]"),
        ({"a": "b"}, "'a' is 'b'"),
        ({"a": slice(3, None)}, "'a' is empty"),
        ({"a": np.zeros((TIME, 2), bool)}, "a mask of shape \\(7, 2\\)"),
        ({"a": (slice(0, 2), 0, 0)}, "not in a sample"),
        ({}, "at least one group"),
        ({1: 0}, "texts as names"),
        (["a", "b"], "expected 3 different names"),
        (["a", "b", "b"], "expected 3 different names"),
        ("feature", "expected \"features\""),
        (("features",), "a tuple of 1"),
        (("features", "features"), "of time expected"),
        (("time", 2), "expected \"features\""),
        (0, "number of steps from 1 on, found 0"),
        (-2, "number of steps from 1 on, found -2"),
        (True, "number of steps"),
        (None, "found None"),
        (2.0, "found 2.0"),
    ],
)  # fmt: skip
def test_what_is_no_division_is_refused(groups, message):
    with pytest.raises(ArgumentError, match=f"groups: .*{message}"):
        made(groups)


def test_samples_without_time_or_features_have_no_such_groups():
    with pytest.raises(ArgumentError, match="have no time"):
        made("time", (FEATURES,), has_time=False)
    with pytest.raises(ArgumentError, match="have no features"):
        made("features", (TIME,), has_features=False)


def test_baselines_are_numbers_vectors_samples_batches_and_data(rng):
    x = rng.normal(size=(4, TIME, FEATURES))
    vector, sample, data = rng.normal(size=FEATURES), rng.normal(size=x.shape[1:]), rng.normal(size=(9, *x.shape[1:]))
    assert (baseline_of(2.5, x) == 2.5).all() and baseline_of(2.5, x).shape == (1, 1, TIME, FEATURES)
    np.testing.assert_array_equal(baseline_of(vector, x)[0, 0, 5], vector)
    np.testing.assert_array_equal(baseline_of(sample, x)[0, 0], sample)
    np.testing.assert_array_equal(baseline_of(x + 1.0, x)[:, 0], x + 1.0)
    np.testing.assert_array_equal(baseline_of(Background(data), x)[0], data)
    np.testing.assert_allclose(baseline_of(Background(data, "inputs"), x)[0, 0], data.mean(axis=0))


@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros((3, FEATURES)), np.zeros((5, TIME, FEATURES))])
def test_a_baseline_of_another_width_is_refused(wrong):
    with pytest.raises(ShapeError, match=r"baseline: expected .* found \("):
        baseline_of(wrong, np.zeros((4, TIME, FEATURES)))


def test_other_wrong_baselines_are_named():
    x = np.zeros((4, TIME, FEATURES))
    with pytest.raises(ShapeError, match="finite"):
        baseline_of(np.nan, x)
    with pytest.raises(ShapeError, match="real numbers or a Background"):
        baseline_of("mean", x)
    with pytest.raises(ShapeError, match="different lengths: 1, 2"):
        baseline_of([[1.0], [1.0, 2.0]], x)
    with pytest.raises(ShapeError, match=r"rows of shape \(7, 3\)"):
        baseline_of(Background(np.zeros((4, FEATURES))), x)
    with pytest.raises(ShapeError, match="whole numbers"):
        baseline_of(0.5, x.astype(np.int32))
    with pytest.raises(ArgumentError, match="average"):
        Background(x, "rows")
    for empty in (np.zeros((0, 3)), 3.0, ["a", "b"]):
        with pytest.raises(ShapeError, match="background"):
            Background(empty)
