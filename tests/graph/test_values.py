"""Values, axes, layers and graphs are plain data that never changes."""

import copy
import pickle

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
