"""The inert pickle reader: data comes through, programs do not run."""

import collections
import contextlib
import os
import pickle

import pytest

from cylstm.errors import CylstmError, FormatError
from cylstm.formats.untrusted.pickle import Global, Placeholder, load_pickle

from tests.builders.weight_files import call, dictionary, global_, integer, program, text, tuple_of


def load(data, functions=None, persistent=lambda identifier: identifier):
    return load_pickle(data, "test", functions or {}, persistent)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_through_in_every_protocol(protocol):
    shared = [1, 2.5, -3, 70000, 1 << 40, -(1 << 70)]
    data = {
        "text": "ü" * 300,
        "bytes": b"\x00\xff",
        "none": None,
        "flags": [True, False],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "shared": [shared, shared],
        "nested": {"a": {"b": [{}]}},
    }
    if protocol == 2:
        # Protocol 2 has no opcode for bytes: it calls codecs.encode.
        del data["bytes"]
    assert load(pickle.dumps(data, protocol)) == data


def test_memoised_objects_stay_one_object():
    shared = [1]
    first, second = load(pickle.dumps([shared, shared], 4))
    assert first is second


def test_a_list_that_holds_itself_is_read():
    data = []
    data.append(data)
    found = load(pickle.dumps(data, 2))
    assert found[0] is found


def test_a_global_is_only_a_name():
    assert load(program(global_("os.system"))) == Global("os", "system")
    assert load(pickle.dumps(collections.OrderedDict, 4)) == Global("collections", "OrderedDict")


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_makes_a_placeholder_and_runs_nothing(tmp_path, protocol):
    found = load(pickle.dumps(_Runs(str(tmp_path / "made")), protocol))
    assert isinstance(found, Placeholder)
    assert found.made_by == f"{os.mkdir.__module__}.mkdir"
    assert not (tmp_path / "made").exists()


def test_a_placeholder_swallows_calls_states_and_items():
    body = call("a.b") + tuple_of() + b"R" + b"}b" + b"(" + text("k") + text("v") + b"u" + b"(" + text("x") + b"e"
    assert load(program(body)).made_by == "a.b"


def test_a_new_object_of_an_unknown_class_is_a_placeholder():
    found = load(pickle.dumps({"user": _Plain()}, 4))
    assert found["user"].made_by.endswith("_Plain")


class _Plain:
    pass


def test_an_allowed_function_is_the_callers_own():
    assert load(program(call("some.add", integer(2), integer(3))), {"some.add": lambda a, b: a + b}) == 5


def test_an_allowed_function_with_wrong_arguments_is_refused_by_name():
    with pytest.raises(FormatError, match=r"some\.add with 1 arguments"):
        load(program(call("some.add", integer(2))), {"some.add": lambda a, b: a + b})


def test_a_persistent_id_goes_to_the_caller():
    assert load(program(tuple_of(text("x"), integer(1)) + b"Q"), persistent=lambda found: found[0]) == "x"


def test_the_metadata_of_a_state_dict_is_accepted_as_its_state():
    assert load(program(b"}" + b"}" + text("_metadata") + b"}sb")) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "opcode|expected"),
        (b"}", "truncated"),
        (b"K", "truncated"),
        (b"X\xff\xff\xff\xffabc.", "truncated"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "frame"),
        (b"\x80\x09.", "protocol 9"),
        (b".", "0 objects"),
        (b"NN.", "2 objects"),
        (b"(N.", "2 objects|1 objects|objects"),
        (b"0.", "nothing on the stack"),
        (b"(0.", "nothing on the stack"),
        (b"N(0t.", "nothing on the stack"),  # what lies below a mark
        (b"t.", "no mark"),
        (b"u.", "no mark"),
        (b"K\x01(K\x01K\x02u.", "setting items of a int"),
        (b"](K\x01K\x02u.", "setting items of a list"),
        (b"K\x01K\x02a.", "appending to a int"),
        (b"}(K\x01u.", "without a value"),
        (b"h\x05.", "memo entry 5"),
        (b"\x8b\xff\xff\xff\x7f", "integer of"),
        (b"K\x01)R.", "call of a int"),
        (b"cos\nsystem\nNR.", "not a tuple"),
        (b"]}b.", "state of a list"),
        (b"cos", "name without an end"),
        (b"K\x01K\x02\x93.", "printable text"),
        (b"cos\nsys\x1btem\n.", "printable text"),
        (b"X\x01\x00\x00\x00\xff.", "UTF-8"),
        (b"ios\nsystem\n.", "opcode b'i'"),
        (b"\x82\x01.", "opcode"),
        (b"I1\n.", "opcode b'I'"),
        (b"(" * 2000, "nested more than"),
        (b"N" * 700_000, "more than 600000 operations"),
        (b"}" * 500_000, "MB of objects"),
    ],
)
def test_a_damaged_pickle_is_refused(body, message):
    with pytest.raises(FormatError, match=message):
        load(b"\x80\x02" + body)


def test_an_empty_pickle_is_refused():
    with pytest.raises(FormatError, match="truncated"):
        load(b"")


def test_keys_whose_hash_takes_exponential_time_are_not_hashed():
    # Each tuple holds the one before it twice; hashing the last takes 2**60 steps.
    body = b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"0}h\x3cNs"
    (key,) = load(program(body))
    assert isinstance(key, Placeholder)


def test_every_truncation_of_a_pickle_is_refused():
    data = pickle.dumps({"a": [1, 2.0, "x"], "b": (None, True)}, 4)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            load(data[:size])


def test_every_changed_byte_gives_data_or_our_own_error():
    data = program(dictionary({"a": call("torch.Size", tuple_of(integer(2))), "b": call("os.system", text("x"))}))
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with contextlib.suppress(CylstmError):
                load(bytes(changed))
