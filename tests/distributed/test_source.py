"""How a network reaches the processes that predict."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from cylstm import Forecaster, Model
from cylstm.distributed.source import _kept, network_of, source_of
from cylstm.errors import ArgumentError, FormatError, UnsupportedError

from tests.distributed.builders import dense, recurrent, saved


@pytest.fixture(autouse=True)
def nothing_is_kept():
    _kept.clear()


def test_a_packed_file_travels_as_its_path_and_is_mapped_once(tmp_path, rng):
    path = saved(recurrent(rng), tmp_path / "net.cylstm")
    source, network = source_of(path)
    assert source.is_mapped and source.pickled is None and len(pickle.dumps(source)) < 1000 + len(path)
    first = network_of(pickle.loads(pickle.dumps(source)))
    if sys.platform == "linux":
        assert path in Path("/proc/self/maps").read_text()
    assert network_of(pickle.loads(pickle.dumps(source))) is first
    x = rng.standard_normal((4, 6, 3))
    assert first.predict(x).tobytes() == network.predict(x).tobytes()


def test_a_file_that_is_not_packed_is_read(tmp_path, rng):
    model = recurrent(rng)
    source, _ = source_of(saved(model, tmp_path / "net.cylstm", packed=False))
    x = rng.standard_normal((4, 6, 3))
    assert not source.is_mapped and network_of(source).predict(x).tobytes() == model.predict(x).tobytes()


def test_a_model_travels_pickled_and_is_unpickled_once(rng):
    model = recurrent(rng)
    source, network = source_of(model)
    assert network is model and source.path is None
    first = network_of(pickle.loads(pickle.dumps(source)))
    assert first is not model and network_of(pickle.loads(pickle.dumps(source))) is first
    x = rng.standard_normal((4, 6, 3))
    assert first.predict(x).tobytes() == model.predict(x).tobytes()


def test_two_networks_are_told_apart_by_their_content_and_the_oldest_is_let_go(tmp_path, rng):
    path = tmp_path / "net.cylstm"
    sources = [source_of(saved(dense(rng), path))[0], source_of(dense(rng))[0]]
    first = [network_of(source) for source in sources]
    x = rng.standard_normal((4, 3))
    assert first[0].predict(x).tobytes() != first[1].predict(x).tobytes()
    for _ in range(4):
        network_of(source_of(dense(rng))[0])
    assert len(_kept) == 4 and network_of(sources[1]) is not first[1]


def test_a_file_that_a_worker_does_not_have_is_told_with_what_to_do(tmp_path, rng):
    path = tmp_path / "net.cylstm"
    source, _ = source_of(saved(dense(rng), path))
    path.unlink()
    with pytest.raises(
        FormatError, match=r"net\.cylstm: the worker on .* cannot read this file .*give the Model itself"
    ):
        network_of(source)


def test_a_file_of_other_content_than_where_the_work_was_given_out_is_refused(tmp_path, rng):
    path = tmp_path / "net.cylstm"
    source, _ = source_of(saved(dense(rng), path))
    saved(dense(rng), path)
    with pytest.raises(FormatError, match="has other content than where the work was given out"):
        network_of(source)


def test_what_is_no_network_is_refused_where_the_work_is_given_out(tmp_path, rng):
    for given in (None, 3, b"net.cylstm", np.zeros(3)):
        with pytest.raises(ArgumentError, match="model: expected a path or a Model"):
            source_of(given)
    with pytest.raises(FileNotFoundError):
        source_of(tmp_path / "none.cylstm")
    with pytest.raises(ArgumentError, match="expected a path or a Forecaster"):
        source_of(dense(rng), Forecaster)
    (tmp_path / "text.cylstm").write_text("text")
    with pytest.raises((FormatError, UnsupportedError), match=r"text\.cylstm"):
        source_of(tmp_path / "text.cylstm", Model)
