"""A short, seeded slice of the fuzzing in tests/fuzz, and every input that once went wrong.

That of networks in C is tests/csrc/fuzz_test.c, which `make test-c` runs.
"""

import random

import pytest

from cylstm.graph.layers import LAYER_KINDS

from tests import DATA
from tests.fuzz import corpora, differential, networks, observe, targets
from tests.fuzz.mutate import Changes

#: of each target
_RUNS = 60
_FOUND = sorted((DATA / "fuzz").glob("*/*"))


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_changed_files_give_a_graph_or_our_own_error(name):
    seeds = observe.seeds(name)
    changes = Changes(seeds, corpora.words(name), random.Random(f"slice {name}"))
    for data in seeds:
        targets.run(name, data)
    for i in range(_RUNS):
        targets.run(name, changes.changed(seeds[i % len(seeds)]))


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_the_fuzzers_seeds_reach_what_they_are_for(name):
    """A seed that is refused at its first byte would fuzz nothing."""
    for data in targets.seeds(name)[:1]:
        try:
            targets.TARGETS[name](data)
        except targets.CylstmError as error:
            pytest.fail(str(error))


@pytest.mark.parametrize("path", _FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_went_wrong_is_read_or_refused(path):
    if path.parent.name not in targets.TARGETS:
        pytest.skip("without h5py there is nothing that reads it")
    targets.run(path.parent.name, path.read_bytes())


@pytest.mark.filterwarnings("ignore")
def test_random_networks_give_the_same_bits_however_they_are_run():
    checked, different = differential.run(60.0, 2026, most=30)
    assert (checked, different) == (30, 0)


def test_a_network_that_differs_is_told(monkeypatch, capsys):
    case = differential.case_of(2026, 0)
    monkeypatch.setattr(differential, "case_of", lambda seed, number: case)
    predict, calls = case.predict, []

    def wrong(model, *arguments, **options):
        calls.append(model)
        found = predict(model, *arguments, **options)
        for array in differential._arrays(found) if len(calls) == 3 else ():
            array += 1.0
        return found

    monkeypatch.setattr(case, "predict", wrong)
    assert differential.run(60.0, 2026, most=1) == (1, 1)
    assert "Difference: sse2" in capsys.readouterr().err or "scalar" not in differential.isa_names()[1:2]


def test_the_words_of_networks_in_c_are_those_of_the_layers():
    words = networks.words()
    kinds = {name: kind for name, kind in LAYER_KINDS.items() if name != "dropout"}
    assert set(words["KIND"]) >= set(kinds)
    for kind in kinds.values():
        roles = (*kind.inputs, *kind.optional_inputs, *kind.weights, *kind.optional_weights)
        assert set(words["ROLE"]) >= set(roles) and set(words["OPTION"]) >= set(kind.defaults), kind.name


def test_the_observer_keeps_what_goes_wrong_and_goes_on(monkeypatch, tmp_path):
    def wrong(data):
        raise {b"a": KeyError("a"), b"b": observe.Hang("b"), b"c": targets.CylstmError("c")}.get(data, ValueError())

    monkeypatch.setattr(observe, "FINDS", tmp_path)
    monkeypatch.setattr(observe.resource, "setrlimit", lambda *limits: None)
    monkeypatch.setitem(targets.TARGETS, "json", wrong)
    observer = observe.Observer("json", has_timer=False)
    for data in (b"a", b"b", b"c", b"a"):
        observer(data)
    assert observer.runs == 4 and len(observer.finds) == 2
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"a", b"b"]
