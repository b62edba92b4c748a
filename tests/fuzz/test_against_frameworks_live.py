"""Some random networks of Keras and PyTorch, and whether a wrong one is told."""

import importlib

import numpy as np
import pytest

from tests.fuzz import against_frameworks as fuzz

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(params=["keras", "torch"])
def framework(request):
    pytest.importorskip(request.param)
    importlib.import_module(f"tests.fuzz.{request.param}_networks")
    return request.param


def test_random_networks_give_the_frameworks_numbers(framework, capfd):
    compared, wrong = fuzz.run(framework, 120.0, 2026, most={"keras": 40, "torch": 8}[framework])
    assert compared >= {"keras": 35, "torch": 12}[framework] and not wrong, capfd.readouterr()


def test_other_numbers_are_told(framework, monkeypatch, capfd):
    """A weight that differs in its third digit, in a network of which no output is constant."""
    drawn = fuzz.case_of(framework, 2026, 3)
    model = drawn.ways[next(iter(drawn.ways))]()
    graph = model.graph
    tensors = {name: np.asarray(graph.tensors[name]) * np.float32(1.002) for name in graph.tensors}
    wrong = drawn._replace(ways={"another": lambda: type(model)(graph._replace(tensors=tensors))})
    monkeypatch.setattr(fuzz, "case_of", lambda framework, seed, number: wrong)
    assert fuzz.run(framework, 60.0, 2026, most=1) == (1, 1)
    assert "of its scale from the framework's" in capfd.readouterr().err


def test_a_network_is_the_same_again(framework):
    first, second = (fuzz.case_of(framework, 7, 11) for _ in range(2))
    x, y = first.inputs(2, 5), second.inputs(2, 5)
    assert first.text.count("\n") == second.text.count("\n")
    for one, other in zip(first.compute(x), second.compute(y), strict=True):
        np.testing.assert_array_equal(one, other)
