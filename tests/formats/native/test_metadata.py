"""The user's own entries of a file: any value of JSON comes back, and files of texts alone are as they were."""

import json

import numpy as np
import pytest

import cylstm
from cylstm.errors import ArgumentError, FormatError

from tests.builders.networks import lstm_model

ENTRIES = {
    "unit": "ug/m3",
    "scale": 0.1,
    "hours": 24,
    "is_log": True,
    "none": None,
    "mean": [1.5, -2, 1e-300],
    "columns": {"pm": [0, {"min": -1.0}], "name \u202e": "x\n"},
    "text": "[1, 2]",
    "large": 2**63,
}
READ = ENTRIES | {"mean": (1.5, -2, 1e-300), "columns": {"pm": (0, {"min": -1.0}), "name \u202e": "x\n"}}


def header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def with_header(path, **changes):
    """The file with other entries in its ``__metadata__``, under another name."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    found = json.loads(data[8:end])
    found["__metadata__"].update(changes)
    text = json.dumps(found).encode()
    text += b" " * (-(8 + len(text)) % 64)
    changed = path.with_name("changed.cylstm")
    changed.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return changed


@pytest.mark.parametrize("packed", [False, True])
def test_every_value_of_json_comes_back_and_stays_when_it_is_saved_again(rng, tmp_path, packed):
    model = lstm_model(rng, 3, 5)
    model.save(tmp_path / "a.cylstm", metadata=ENTRIES, packed=packed)
    found = cylstm.load(tmp_path / "a.cylstm")
    assert found.metadata == READ
    assert {name: type(found.metadata[name]) for name in ("scale", "hours", "is_log", "text")} == {
        "scale": float, "hours": int, "is_log": bool, "text": str,
    }  # fmt: skip
    with pytest.raises(TypeError, match="read-only"):
        found.metadata["columns"]["pm"] = 1
    found.save(tmp_path / "b.cylstm", packed=packed)
    assert (tmp_path / "b.cylstm").read_bytes() == (tmp_path / "a.cylstm").read_bytes()
    cylstm.convert(tmp_path / "b.cylstm", tmp_path / "c.cylstm", metadata={"scale": [2], "more": 1.0})
    assert cylstm.load(tmp_path / "c.cylstm").metadata == READ | {"scale": (2,), "more": 1.0}
    assert found.quantize("float16").metadata == READ
    assert found.extract().metadata == READ


def test_numbers_of_numpy_are_kept_as_numbers(rng, tmp_path):
    numbers = {"a": np.float32(0.1), "b": np.int64(3), "c": np.True_, "d": [np.float64(2.5)]}
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm", metadata=numbers)
    found = cylstm.load(tmp_path / "a.cylstm").metadata
    assert found == {"a": float(np.float32(0.1)), "b": 3, "c": True, "d": (2.5,)}
    assert [type(found[name]) for name in "abc"] == [float, int, bool]


def test_a_file_of_texts_has_no_other_entry_and_one_of_values_is_refused_by_older_readers(rng, tmp_path):
    model = lstm_model(rng, 3, 5)
    model.save(tmp_path / "a.cylstm", metadata={"unit": "K"})
    assert set(header(tmp_path / "a.cylstm")) == {"format", "format_version", "graph", "metadata"}
    model.save(tmp_path / "b.cylstm", metadata={"unit": "K", "scale": 2})
    # an older reader knows no such key, and names those that it does not know
    assert set(header(tmp_path / "b.cylstm")) - set(header(tmp_path / "a.cylstm")) == {"metadata_values"}
    assert header(tmp_path / "b.cylstm")["metadata"] == '{"unit":"K"}'


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.ones(3), r"metadata 'x': expected a value of JSON, found .*; write x.tolist\(\)"),
        (float("nan"), "JSON has no nan"),
        (np.float32("inf"), "JSON has no inf"),
        ({"a": [{1: 2}]}, "names that are strings"),
        (2**64, "at most 64 bits"),
        (object(), "found a object|found a builtins.object"),
        (b"x", "expected a value of JSON"),
        ([0.0] * 3_000_000, "too many elements"),
    ],
)
def test_what_json_does_not_have_is_refused_and_nothing_is_written(rng, tmp_path, item, message):
    model = lstm_model(rng, 3, 5)
    with pytest.raises(ArgumentError, match=message):
        model.save(tmp_path / "a.cylstm", metadata={"x": item})
    assert not (tmp_path / "a.cylstm").exists()


def test_a_value_that_holds_itself_is_refused(rng, tmp_path):
    item = []
    item.append(item)
    with pytest.raises(ArgumentError, match="nested in itself"):
        lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm", metadata={"x": item})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected an object of values"),
        ('{"a":"text"}', "that are no strings"),
        ('{"unit":1}', "is in metadata and in metadata_values"),
        ('{"a":NaN}', "not JSON"),
        ("{" * 200, "nested too deeply"),
        ("", "not valid JSON"),
    ],
)
def test_damaged_values_are_refused(rng, tmp_path, text, message):
    lstm_model(rng, 3, 5).save(tmp_path / "a.cylstm", metadata={"unit": "K", "scale": 2})
    assert cylstm.load(with_header(tmp_path / "a.cylstm")).metadata == {"scale": 2, "unit": "K"}
    with pytest.raises(FormatError, match=message):
        cylstm.load(with_header(tmp_path / "a.cylstm", metadata_values=text))
