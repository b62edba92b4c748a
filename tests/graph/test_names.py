"""What the numbers of a network are called."""

import pytest

import cylstm
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.names import feature_names, target_names

from tests.builders.weight_files import linear_tensors


@pytest.mark.parametrize("given", [["rain", "sun", "wind"], "rain, sun,wind", '["rain", "sun", "wind"]'])
def test_names_are_a_list_or_its_text_or_have_commas_between_them(tmp_path, rng, given):
    model = cylstm.from_state_dict(linear_tensors(rng, "fc", 3, 2), [L.Linear("fc")])
    model.save(tmp_path / "net.cylstm", metadata={"features": given, "targets": ["high", "low"]})
    graph = cylstm.load(tmp_path / "net.cylstm").graph
    assert feature_names(graph) == ("rain", "sun", "wind") and target_names(graph) == ("high", "low")


@pytest.mark.parametrize(
    "given", [["a", "b"], ["a", "a", "b"], ["a", "b", 3], ["a", "b", ""], 3, {"a": 1}, None, "a,b"]
)
def test_what_does_not_name_each_number_is_no_names(tmp_path, rng, given):
    model = cylstm.from_state_dict(linear_tensors(rng, "fc", 3, 2), [L.Linear("fc")])
    model.save(tmp_path / "net.cylstm", metadata={"features": given})
    assert feature_names(cylstm.load(tmp_path / "net.cylstm").graph) is None
