"""A short, seeded slice of the fuzzing in tests/fuzz, and every input that once went wrong.

That of networks in C is tests/csrc/fuzz_test.c, which `make test-c` runs.
"""

import functools
import os
import random

import pytest

from cylstm.formats import Format, registry
from cylstm.graph.layers import LAYER_KINDS

from tests import DATA
from tests.fuzz import __main__ as fuzzing
from tests.fuzz import corpora, dictionaries, differential, mutate, networks, observe, targets

#: of each target
_RUNS = 60
_FOUND = sorted((DATA / "fuzz").glob("*/*"))


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_changed_files_give_a_graph_or_our_own_error(name):
    seeds = observe.seeds(name)
    changes = mutate.Changes(seeds, corpora.words(name), random.Random(f"slice {name}"))
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


def test_every_format_has_a_target_that_reads_it(monkeypatch):
    pytest.importorskip("h5py")
    read = set()
    formats = list(registry.all_formats())

    def noted():
        for one in formats:
            yield Format(one.name, one.extensions, one.options, one.recognises, functools.partial(note, one))

    def note(one, file, **options):
        read.add(one.name)
        return one.read(file, **options)

    monkeypatch.setattr(registry, "all_formats", noted)
    for name in targets.TARGETS:
        for data in targets.seeds(name):
            targets.run(name, data)
    assert read == {one.name for one in formats}


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_what_is_kept_of_a_target_is_small_and_can_be_read(name):
    kept, words = corpora.inputs(name), corpora.words(name)
    assert kept and sum(map(len, kept)) < 20_000
    assert len(set(kept)) == len(kept)
    assert all(words) and len(words) <= 400
    assert bool(words) == bool(dictionaries.words_of(name))


def test_words_and_inputs_are_read_as_they_were_written(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "FOLDER", tmp_path)
    words = [b'a"b\\', b"\x00\xff\n", "\u202eü".encode(), b"plain"]
    corpora.write_words("made", words)
    assert corpora.words("made") == words
    inputs = [b"", b"\x00", b"ab\n", bytes(range(256))]
    corpora.write_inputs("made", inputs)
    assert corpora.inputs("made") == inputs


def test_the_fewest_inputs_reach_what_all_reach_unless_there_is_no_room():
    features = [{1, 2, 3}, {3, 4}, {1, 2, 3, 4, 5}, {5}, {6}, set()]
    assert corpora.fewest(features, [10, 10, 10, 10, 10, 1], set(), 100) == [2, 4]
    assert corpora.fewest(features, [10, 10, 90, 10, 10, 1], {6}, 85) == [0, 1, 3]
    assert corpora.fewest(features, [10] * 6, set(), 10) == [2]


def test_figures_are_added_up_and_read_as_they_were_written(tmp_path):
    table = fuzzing.Table(tmp_path / "figures.txt")
    for executions, edges in ((1_234_567, 40), (1_000, 39)):
        table.add("json", "atheris", fuzzing.Figures(executions, 2.0, edges, 1))
    table.add("network", "libFuzzer", fuzzing.Figures(5, 1.0, 0, 0))
    table.write()
    read = fuzzing.Table(tmp_path / "figures.txt")
    assert read.rows == {
        ("json", "atheris"): fuzzing.Figures(1_235_567, 4, 40, 2),
        ("network", "libFuzzer"): fuzzing.Figures(5, 1, 0, 0),
    }
    assert str(read).splitlines()[-1].split() == ["all", "1,235,572", "5", "2"]


def test_changes_of_one_seed_are_the_same_and_take_words_of_the_dictionary():
    data = b'{"a": [1, 2.5, "text"]}'
    made = [mutate.Changes([data], [b"w\xf6rd"] * 30, random.Random(3)) for _ in range(2)]
    first, second = ([changes.changed(data) for _ in range(300)] for changes in made)
    assert first == second
    assert len(set(first)) > 200
    assert sum(b"w\xf6rd" in one for one in first) > 5 and sum(b"w\\ufffdrd" in one for one in first) > 5


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


def test_a_library_that_complains_is_told(monkeypatch, capsys):
    case = differential.case_of(2026, 0)
    monkeypatch.setattr(differential, "case_of", lambda seed, number: case)
    monkeypatch.setattr(case, "check", lambda folder, with_files: os.write(2, b" ** On entry to DGEMM\n"))
    assert differential.run(60.0, 2026, most=1) == (1, 1)
    assert "a library says: ** On entry to DGEMM" in capsys.readouterr().err


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
