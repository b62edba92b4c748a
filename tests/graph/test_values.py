"""Values, axes, layers and graphs are plain data that never changes."""

import copy
import pickle
import random

import pytest

from cylstm.graph.graph import Layer
from cylstm.graph.values import Axis, Value

AXIS = Axis("x", ((-2, 1, 1),))
VALUE = Value("a.h", "sequence", (None, 7), "x.mask", AXIS)
LAYER = Layer("dense", "a", {"x": "x"}, {"y": "a"}, {"weight": "a.weight"}, {"activation": "tanh"})


@pytest.mark.parametrize("item", [AXIS, VALUE, LAYER], ids=lambda item: type(item).__name__)
def test_an_item_is_neither_changed_nor_removed_and_none_is_added(item):
    before = repr(item)
    for name in (*vars(item), "other"):
        with pytest.raises(AttributeError, match=f"{type(item).__name__}.{name} is read-only"):
            setattr(item, name, 1)
        with pytest.raises(AttributeError, match=f"{type(item).__name__}.{name} is read-only"):
            delattr(item, name)
    assert repr(item) == before


@pytest.mark.parametrize("item", [AXIS, VALUE, LAYER], ids=lambda item: type(item).__name__)
def test_copies_and_pickles_are_equal(item):
    for again in (copy.copy(item), copy.deepcopy(item), pickle.loads(pickle.dumps(item)), item._replace()):
        assert again == item and type(again) is type(item) and repr(again) == repr(item)


def test_the_dicts_of_a_copy_are_read_only_too():
    for again in (copy.deepcopy(LAYER), pickle.loads(pickle.dumps(LAYER))):
        with pytest.raises(TypeError, match="read-only"):
            again.inputs["x"] = "w"


def test_items_are_equal_where_all_that_they_hold_is():
    assert Value("a", "vector", (3,)) == Value("a", "vector", (3,), None, None)
    assert hash(Value("a", "vector", (3,))) == hash(Value("a", "vector", (3,), None, None))
    assert VALUE._replace(axis=Axis("x")) != VALUE and Axis("x") != "x" and Axis("x") != ("x", ())
    assert len({Axis("x"), Axis("x", ()), Axis("y")}) == 2


def test_a_changed_copy_keeps_the_rest():
    assert VALUE._replace(name="b", shape=(4, 7)) == Value("b", "sequence", (4, 7), "x.mask", AXIS)
    changed = LAYER._replace(inputs={"x": "z"})
    assert changed.inputs == {"x": "z"} and changed.outputs == LAYER.outputs
    with pytest.raises(TypeError, match="read-only"):
        changed.inputs["x"] = "w"
    with pytest.raises(TypeError, match="steps"):
        AXIS._replace(steps=3)


def test_the_text_of_an_item_names_what_it_holds():
    assert repr(AXIS) == "Axis(source='x', rules=((-2, 1, 1),))"


def length_by(rules, time):
    """The length that rules, none of them joined, make of a time; they may pass through less than nothing."""
    for add, divide, multiply in rules:
        time = (time + add) // divide * multiply
    return time


def test_joined_rules_make_the_same_lengths():
    drawn = random.Random(0)
    for _ in range(500):
        rules = [(drawn.randint(-6, 6), drawn.choice((1, 2, 3, 4, 6)), drawn.randint(1, 4)) for _ in range(4)]
        axis = Axis("x")
        for rule in rules:
            axis = axis.after(*rule)
        times = range(4000, 4000 + 300)
        assert [axis.length(time) for time in times] == [length_by(rules, time) for time in times], rules


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([(-2, 2, 1), (-2, 2, 1)], [(-6, 4, 1)]),
        ([(-6, 4, 2), (2, 1, 1)], [(-2, 4, 2)]),
        ([(0, 1, 2), (-2, 1, 1)], [(-1, 1, 2)]),
        ([(0, 1, 4), (3, 2, 1)], [(0, 1, 2), (1, 1, 1)]),
        ([(0, 1, 2), (5, 4, 1)], [(2, 2, 1)]),
        ([(-1, 3, 4), (1, 1, 1), (0, 1, 2)], [(-1, 3, 8), (2, 1, 1)]),
        ([(0, 1, 2), (-3, 3, 1)], [(-2, 1, 2), (1, 3, 1)]),
        ([(0, 1, 6), (0, 6, 1)], []),
    ],
)
def test_axes_of_the_same_length_are_equal_however_they_came_about(one, other):
    axes = [Axis("x"), Axis("x")]
    for k, rules in enumerate((one, other)):
        for rule in rules:
            axes[k] = axes[k].after(*rule)
    assert axes[0] == axes[1]


def test_an_axis_with_too_few_steps_has_none_whatever_is_added_later():
    axis = Axis("x", ((-6, 4, 2), (1, 1, 1)))
    assert [axis.length(time) for time in (1, 5, 9, 10, 13, 14)] == [0, 0, 0, 3, 3, 5]


def test_the_lead_of_an_axis_is_that_of_the_times_where_the_other_has_steps():
    once, twice = Axis("x", ((-2, 2, 1),)), Axis("x", ((-6, 4, 2), (1, 1, 1)))
    leads = [once.length(time) - twice.length(time) for time in range(10, 200)]
    assert once.least_lead(twice) == min(leads) == 1
    assert twice.least_lead(once) == -3  # where it has none yet
    assert Axis("x").least_lead(Axis("x", ((0, 2, 1),))) is None  # without end
    assert Axis("x").least_lead(Axis("y")) is None
    assert Axis("x").least_lead(Axis("x", ((0, 1 << 20, 1 << 20),))) is None  # too long to find out
