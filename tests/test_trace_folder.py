"""Traces that go to a folder as they are computed: in chunks of rows or steps, of any size, whole or not at all."""

import errno
import json
import os
import resource
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cylstm
from cylstm import trace_chunks, trace_folder
from cylstm.errors import ArgumentError, FormatError, ShapeError, UnsupportedError
from cylstm.graph.builder import GraphBuilder
from cylstm.inputs import to_layout
from cylstm.trace import Trace

from tests import DATA
from tests.builders.layers import ENGINES
from tests.builders.networks import lstm_model, random_states, same, same_states
from tests.builders.recurrent import KINDS, conv_lstm, numbers, plain_lstm
from tests.test_stream_trace import random_x
from tests.test_stream_warm_up import CHANNELS, LAYERS, SEEDS, chain, conditioned
from tests.test_trace import batch_of, network


def check(found, wanted, tolerance=None):
    """The same layers, parts and outputs, to the bit or within a tolerance."""
    assert list(found) == list(wanted)
    arrays = [(found.outputs, wanted.outputs)]
    arrays = list(zip(found.outputs, wanted.outputs, strict=True)) if isinstance(wanted.outputs, list) else arrays
    for name in wanted:
        one, other = found[name], wanted[name]
        assert (one.kind, one.parts, one.options) == (other.kind, other.parts, other.options)
        assert (one.is_from_zero, one.has_batch) == (other.is_from_zero, other.has_batch)
        arrays += [(one[part], other[part]) for part in other.parts]
    for one, other in arrays:
        assert one.shape == other.shape and one.dtype == other.dtype
        if tolerance is None:
            assert np.array_equal(one, other, equal_nan=True)
        else:
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("size", "time"), [(1, 3), (6000, 70), (40_000, 70), (120_000, 200), (1 << 25, 70)])
@pytest.mark.parametrize(("engine", "dtype", "error"), ENGINES)
@pytest.mark.parametrize("make", [*KINDS, conv_lstm])
def test_a_trace_in_chunks_is_that_of_one_call(rng, tmp_path, monkeypatch, make, engine, dtype, error, size, time):
    model = network(rng, make, engine=engine, dtype=dtype)
    x = numbers(rng, 3, time, *model.graph.values["x"].shape[1:])
    monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", size)
    found = model.trace(x, path=tmp_path / "trace")
    check(found, model.trace(x), None if engine == "packed" else 20 * error)
    assert isinstance(found["cell"].h, np.memmap)
    check(Trace.load(tmp_path / "trace"), found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace"]


@pytest.mark.parametrize("size", [1, 3000, 20_000])
def test_states_masks_and_choices_are_those_of_one_call(rng, tmp_path, monkeypatch, size):
    monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", size)
    model = network(rng, plain_lstm, masked=True)
    x = numbers(rng, 5, 40, 5)
    initial, mask = random_states(rng, model, 5), rng.random((5, 40)) < 0.7
    calls = [
        {"initial_state": initial, "return_state": True},
        {"initial_state": initial, "lengths": [3, 40, 7, 1, 20], "return_state": True},
        {"mask": mask},
        {"what": ["f", "c"], "threads": 2},
        {"layers": "head"},
    ]
    for k, options in enumerate(calls):
        found, wanted = model.trace(x, path=tmp_path / f"t{k}", **options), model.trace(x, **options)
        check(found, wanted)
        assert (found.state is None) == (wanted.state is None)
        assert found.state is None or same_states(found.state, wanted.state)
    alone = model.trace(x[2], path=tmp_path / "alone", mask=mask[2])
    check(alone, model.trace(x[2], mask=mask[2]))
    check(model.trace(x[2], path=tmp_path / "alone"), model.trace(x[2]))


@given(LAYERS, SEEDS, st.sampled_from(["sequence", "vector", "all", "all vector"]), st.integers(1, 40_000))
@settings(max_examples=40)
def test_networks_that_warm_up_are_traced_in_chunks(layers, seed, ends, size):
    import tempfile

    rng = np.random.default_rng(seed)
    model = cylstm.Model(chain(rng, layers, ends))
    x = rng.normal(size=(2, model._packed.settles + int(rng.integers(1, 30)), CHANNELS)).astype("f")
    try:
        wanted = model.trace(x)
    except ShapeError:
        return
    before, trace_chunks.CHUNK_BYTES = trace_chunks.CHUNK_BYTES, size
    try:
        with tempfile.TemporaryDirectory() as folder:
            check(model.trace(x, path=f"{folder}/trace"), wanted)
    finally:
        trace_chunks.CHUNK_BYTES = before


@pytest.mark.parametrize("path", sorted((DATA / "goldens" / "networks").glob("*.cylstm")), ids=lambda path: path.stem)
def test_whole_networks_are_traced_in_chunks(rng, tmp_path, monkeypatch, path):
    model = cylstm.load(path)
    values = [model.graph.values[name] for name in model.inputs]
    time = next((value.shape[0] for value in values if value.has_time and value.shape[0]), None)
    arrays = random_x(rng, model, 3, time or model._packed.settles + 12 * model._packed.step_multiple)
    layouts = [model.graph.layouts.get(value.name) for value in values]
    arrays = [
        array if layout is None else to_layout(array, layout, len(value.shape))
        for array, layout, value in zip(arrays, layouts, values)
    ]
    x = arrays if len(arrays) > 1 else arrays[0]
    wanted = model.trace(x)
    for size in (1, 30_000):
        monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", size)
        check(model.trace(x, path=tmp_path / "trace"), wanted)


def test_inputs_without_time_and_networks_of_two_directions_are_traced_in_chunks(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", 10_000)
    model = conditioned(rng)
    x = [rng.normal(size=(3, 300, CHANNELS)).astype("f"), rng.normal(size=(3, 3)).astype("f")]
    check(model.trace(x, path=tmp_path / "a"), model.trace(x))
    both = lstm_model(rng, 6, 9, bidirectional=True, last=True)
    x = numbers(rng, 5, 50, 6)
    check(both.trace(x, path=tmp_path / "b"), both.trace(x))


def test_memory_stays_constant_while_a_trace_grows(rng, tmp_path):
    model = lstm_model(rng, 8, 64)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (2, 40_000, 8))
    x[:] = rng.normal(size=x.shape)
    tracemalloc.start()
    try:
        found = model.trace(x, path=tmp_path / "long")
        _, peak = tracemalloc.get_traced_memory()
        rows = np.broadcast_to(numbers(rng, 1, 10, 8), (8000, 10, 8))
        model.trace(rows, path=tmp_path / "many")
        _, second = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(file.stat().st_size for file in (tmp_path / "long").iterdir())
    assert size > 200e6
    assert max(peak, second) < 3 * trace_chunks.CHUNK_BYTES
    part = model.trace(x[:, :1000])
    name = next(iter(part))
    assert same(found[name].f[:, :1000], part[name].f)


class Stop(BaseException):
    """What a user does."""


@pytest.mark.parametrize("raised", [Stop, OSError(errno.ENOSPC, "No space left on device")])
def test_what_ends_early_leaves_nothing(rng, tmp_path, monkeypatch, raised):
    monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", 3000)
    model = network(rng, plain_lstm)
    x = numbers(rng, 5, 40, 5)
    kept = model.trace(x, path=tmp_path / "old")
    write, count = trace_folder.FolderWriter.write, [0]

    def fail(self, *arguments):
        count[0] += 1
        if count[0] == 30:
            raise raised
        write(self, *arguments)

    monkeypatch.setattr(trace_folder.FolderWriter, "write", fail)
    for name in ("old", "new"):
        count[0] = 0
        with pytest.raises((Stop, OSError)):
            model.trace(-x, path=tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["old"]
    check(Trace.load(tmp_path / "old"), model.trace(x))
    check(kept, model.trace(x))


def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(rng, tmp_path, monkeypatch):
    model = network(rng, plain_lstm)
    usage = trace_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(trace_folder.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"the trace takes .* GB, and 0.0 GB are free"):
        model.trace(batch_of(rng, model), path=tmp_path / "t")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system has no limits of files")
def test_a_file_that_cannot_grow_leaves_nothing(rng, tmp_path):
    model = network(rng, plain_lstm)
    x = numbers(rng, 3, 4000, 5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError) as raised:
            model.trace(x, path=tmp_path / "t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_trace_is_saved_to_a_folder_and_to_a_file(rng, tmp_path):
    model = network(rng, plain_lstm)
    trace = model.trace(batch_of(rng, model))
    trace.save(tmp_path / "folder")
    check(Trace.load(tmp_path / "folder"), trace)
    Trace.load(tmp_path / "folder").save(tmp_path / "file.npz")
    check(Trace.load(tmp_path / "file.npz"), trace)
    other = model.trace(batch_of(rng, model))
    other.save(tmp_path / "folder")
    check(Trace.load(tmp_path / "folder"), other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.npz", "folder"]
    frame = Trace.load(tmp_path / "folder")[1:, 2:4]
    assert same(frame["cell"].f, other["cell"].f[1:, 2:4])


def test_only_traces_are_replaced_and_read(rng, tmp_path):
    model = network(rng, plain_lstm)
    x = batch_of(rng, model)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (mine, tmp_path / "file"):
        with pytest.raises(ArgumentError, match="is there already and is no trace"):
            model.trace(x, path=path)
        with pytest.raises(ArgumentError, match="is there already and is no trace"):
            model.trace(x).save(path)
    assert (mine / "notes.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"
    with pytest.raises(FormatError, match=r"mine: expected a folder that a trace was written to, found no trace\.json"):
        Trace.load(mine)
    with pytest.raises(UnsupportedError, match="would be one file"):
        model.trace(x, path=tmp_path / "t.npz")
    for wrong in (3, ""):
        with pytest.raises(ArgumentError, match="path: expected the name of a folder"):
            model.trace(x, path=wrong)
    with pytest.raises(ArgumentError, match="give one of the two"):
        model.trace(x, path=tmp_path / "t", out=model.trace(x))
    with pytest.raises(ArgumentError, match="give path= too"):
        model.trace(x, progress=True)
    with pytest.raises(ArgumentError, match="progress: expected True or False"):
        model.trace(x, path=tmp_path / "t", progress=3)
    for wrong in (x[:, :, :4], x[:0], np.zeros(5), "text"):
        with pytest.raises(ShapeError):
            model.trace(wrong, path=tmp_path / "t")
    with pytest.raises(ShapeError, match="lengths: expected 1 to 7"):
        network(rng, plain_lstm, masked=True).trace(x, path=tmp_path / "t", lengths=[1, 2, 9])
    with pytest.raises(ArgumentError, match="no layer 'lstm'"):
        model.trace(x, "lstm", path=tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_a_damaged_folder_is_refused(rng, tmp_path):
    model = network(rng, plain_lstm)
    path = tmp_path / "t"
    model.trace(batch_of(rng, model), path=path)
    head = json.loads((path / "trace.json").read_text())
    changes = [
        lambda h: h.update(format=2),
        lambda h: h.pop("layers"),
        lambda h: h["layers"][0][2].append("../../../x"),
        lambda h: h["layers"][0].pop(),
        lambda h: h.update(outputs="many"),
    ]
    for change in changes:
        wrong = json.loads(json.dumps(head))
        change(wrong)
        (path / "trace.json").write_text(json.dumps(wrong))
        with pytest.raises(FormatError):
            Trace.load(path)
    (path / "trace.json").write_text("{")
    with pytest.raises(FormatError):
        Trace.load(path)
    (path / "trace.json").write_text(json.dumps(head))
    data = (path / "layer0_f.npy").read_bytes()
    for cut in (0, 20, len(data) - 4):
        (path / "layer0_f.npy").write_bytes(data[:cut])
        with pytest.raises(FormatError):
            Trace.load(path)
    os.remove(path / "layer0_f.npy")
    with pytest.raises(OSError):
        Trace.load(path)


def test_a_progress_bar_counts_all_steps(rng, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(trace_chunks, "CHUNK_BYTES", 3000)
    model = network(rng, plain_lstm)
    x = numbers(rng, 5, 40, 5)
    check(model.trace(x, path=tmp_path / "t", progress=True), model.trace(x))
    assert "200/200" in capsys.readouterr().err


def test_a_layer_whose_first_state_another_gives_is_no_layer_from_zero(rng, tmp_path):
    builder = GraphBuilder()
    x = builder.input("x", (None, 4))
    kind, weights, options = plain_lstm(rng, 4, 6)
    first = builder.add(kind, "first", {"x": x}, weights, options)
    kind, weights, options = plain_lstm(rng, 4, 6)
    second = builder.add(kind, "second", {"x": x, "h0": first["h"], "c0": first["c"]}, weights, options)
    builder.output(second["y"])
    model = cylstm.Model(builder.build())
    x = numbers(rng, 3, 9, 4)
    found = model.trace(x, path=tmp_path / "t")
    check(found, model.trace(x))
    assert found["first"].is_from_zero and not found["second"].is_from_zero
