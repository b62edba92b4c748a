"""A short, seeded slice of the fuzzing in tests/fuzz, and every input that once went wrong."""

import numpy as np
import pytest

from tests import DATA
from tests.builders.configurations import seed
from tests.fuzz import targets

_RUNS = 150
_FOUND = sorted((DATA / "fuzz").glob("*/*"))


def changed(data, others, rng):
    """`data` with one to four random changes: bits, bytes, pieces removed, repeated or taken from `others`."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(len(data) + 1))
        end = min(len(data), start + int(rng.integers(1, 9)))
        match int(rng.integers(6)):
            case 0 if end > start:
                data[start] ^= 1 << int(rng.integers(8))
            case 1:
                data[start:end] = rng.bytes(end - start)
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = data[start:end] * int(rng.integers(1, 4))
            case 4:
                other = others[int(rng.integers(len(others)))]
                place = int(rng.integers(len(other)))
                data[start:end] = other[place : place + int(rng.integers(1, 33))]
            case 5:
                data[start:end] = [b"\xff" * 8, bytes(8), b"9" * 30, b"[" * 200, b"-1", b"\x7f"][int(rng.integers(6))]
    return bytes(data)


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_changed_files_give_a_graph_or_our_own_error(name):
    rng = np.random.default_rng(seed("fuzz", name))
    seeds = targets.seeds(name)
    for i in range(_RUNS):
        targets.run(name, changed(seeds[i % len(seeds)], seeds, rng))


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
