"""Networks, tables and files for the tests of every engine."""

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np

import cylstm
from cylstm.formats.state_dict import wiring as L
from cylstm.graph.builder import GraphBuilder

from tests.builders.weight_files import linear_tensors, lstm_tensors
from tests.forecasting.builders import series

FEATURES = ("rain", "sun", "wind")
TARGETS = ("high", "low")
PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"


def recurrent(rng, *layers, hidden=5):
    """Sequences of three features -> two numbers."""
    tensors = lstm_tensors(rng, "lstm", 3, hidden) | linear_tensors(rng, "fc", hidden, 2)
    return cylstm.from_state_dict(tensors, [*layers, L.LSTM("lstm"), L.Last(), L.Linear("fc")])


def stepwise(rng):
    """Sequences of three features -> two numbers at each step."""
    tensors = lstm_tensors(rng, "lstm", 3, 5) | linear_tensors(rng, "fc", 5, 2)
    return cylstm.from_state_dict(tensors, [L.LSTM("lstm"), L.Linear("fc")])


def dense(rng):
    """Three features -> two numbers."""
    tensors = linear_tensors(rng, "first", 3, 5) | linear_tensors(rng, "second", 5, 2)
    return cylstm.from_state_dict(tensors, [L.Linear("first"), L.Tanh(), L.Linear("second")])


def with_several_inputs(rng):
    """Two sequences, of three features and of one, each with an LSTM, and two knobs -> two numbers."""
    builder = GraphBuilder()
    signal, notes = builder.input("signal", (None, 3)), builder.input("notes", (None, 1))
    knobs = builder.input("knobs", (2,))
    ends = []
    for name, x, size in (("long", signal, 3), ("short", notes, 1)):
        weights = {
            "weight_ih": rng.standard_normal((16, size)).astype("f"),
            "weight_hh": rng.standard_normal((16, 4)).astype("f"),
            "bias": rng.standard_normal(16).astype("f"),
        }
        ends.append(builder.add("lstm", name, {"x": x}, weights)["h"])
    both = builder.add("merge", "both", {"x": ends[0], "x1": ends[1], "x2": knobs}, options={"mode": "concat"})["y"]
    dense = {"weight": rng.standard_normal((2, 10)).astype("f"), "bias": rng.standard_normal(2).astype("f")}
    builder.output(builder.add("dense", "fc", {"x": both}, dense)["y"])
    return cylstm.Model(builder.build())


def arrays_of_several_inputs(rng, rows):
    """For `with_several_inputs`, padded, and the lengths of its sequences."""
    arrays = {"signal": (rows, 6, 3), "notes": (rows, 4, 1), "knobs": (rows, 2)}
    x = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    return x, {"signal": rng.integers(1, 7, rows), "notes": rng.integers(1, 5, rows)}


#: which columns of `columns_of_several_inputs` are of which input
SEVERAL_COLUMNS = {"knobs": ["low", "high"], "signal": "s", "notes": [f"note {step}" for step in range(4)]}


def columns_of_several_inputs(x, lengths):
    """The columns of a table: cells, steps one after the other, numbers, and lengths."""
    columns = {"id": list(range(len(x["knobs"]))), "s": x["signal"].tolist()}
    columns |= {f"note {step}": x["notes"][:, step, 0] for step in range(4)}
    columns |= {"high": x["knobs"][:, 1], "low": x["knobs"][:, 0]}
    return columns | {f"{name} steps": lengths[name] for name in lengths}


def saved(model, path, *, packed=True):
    """The path of the model's file, which has the names of its columns."""
    model.save(path, packed=packed, metadata={"features": list(FEATURES), "targets": list(TARGETS)})
    return str(path)


def table(rng, rows):
    """A frame whose columns are in another order than the features, with a column of text and an index of its own."""
    import pandas

    x = rng.standard_normal((rows, 3)).astype(np.float32)
    columns = {name: x[:, FEATURES.index(name)] for name in FEATURES[::-1]}
    frame = pandas.DataFrame({"id": [f"row {i}" for i in range(rows)], **columns})
    return x, frame.set_index(np.arange(rows) * 3 + 100)


def input_files(rng, folder, count, steps=30):
    """Sequences in files of all kinds that need no other library, longer from one to the next."""
    folder.mkdir()
    arrays = {}
    for number in range(count):
        x = rng.standard_normal((2, steps + number, 3)).astype(np.float32)
        name = f"part {number:03}" + (".npz" if number % 3 == 1 else ".npy")
        np.savez(folder / name, x=x) if name.endswith(".npz") else np.save(folder / name, x)
        arrays[name] = x
    return arrays


def result(path):
    found = np.load(path)
    return found[next(iter(found))] if hasattr(found, "files") else found


def check_results(folder, arrays, model):
    """Each file is there once, whole, with the bits of `Model.predict`, and nothing else."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(arrays)
    for name, x in arrays.items():
        assert result(folder / name).tobytes() == model.predict(x).tobytes()


def check_table(found, folder):
    """The scores of the rows of the page's programs, in any order."""
    import pandas

    rows = pandas.read_parquet(folder / "rows").set_index("id")
    found = found.set_index("id").loc[rows.index]
    expected = cylstm.load(folder / "rows.cylstm").predict(rows[list(FEATURES)])
    assert list(found.columns) == list(TARGETS)
    assert found.to_numpy(np.float32).tobytes() == expected.tobytes()


def check_predictions(folder):
    """The files that the page's programs write."""
    arrays = {path.name: result(path) for path in (folder / "inputs").iterdir()}
    check_results(folder / "predictions", arrays, cylstm.load(folder / "model.cylstm"))


def files_in(folder):
    """How many results a folder has."""
    return sum(1 for name in os.listdir(folder) if not name.startswith("."))


def processes(*texts):
    """The processes whose command line has all of these texts, of whoever."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found += [int(entry.name)] if all(text in line for text in texts) else []
    return found


class KilledOnce:
    """Kills a process in the middle of the work: as soon as so much of it is done, and not all.

    Parameters
    ----------
    done : callable
        Says how much is done.
    after, total : int
        Of this.
    pids : callable
        Gives the processes, of which the first is killed.
    """

    def __init__(self, done, after, total, pids):
        self._done, self._after, self._total, self._pids = done, after, total, pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._wait)
        self.was_done = None

    def _wait(self):
        while not self._stop.is_set():
            count = self._done()
            if count >= self._after:
                pids = self._pids()
                os.kill(pids[0], signal.SIGKILL)
                self.was_done = count
                return
            time.sleep(0.002)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        if exception[0] is None:
            assert self.was_done is not None and self._after <= self.was_done < self._total


def prepare(rng, folder):
    """What the programs of the page find in their folder."""
    saved(dense(rng), folder / "rows.cylstm")
    saved(recurrent(rng), folder / "model.cylstm")
    input_files(rng, folder / "inputs", 3)
    (folder / "predictions").mkdir()
    (folder / "rows").mkdir()
    table(rng, 40)[1].to_parquet(folder / "rows" / "part.0.parquet", index=False)
    np.save(folder / "windows.npy", rng.standard_normal((50, 24, 3)).astype(np.float32))


def recipes(heading):
    """The programs below a heading of the page."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^```python\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert found
    return found


def run_recipe(program, folder, cluster, here):
    """Run a program of the page, whose shared folder is `folder`, and whose cluster is the one that is `here`.

    Returns
    -------
    dict
        The names that it has made.
    """
    assert "/data/" in program and cluster in program
    names = {}
    exec(compile(program.replace("/data/", f"{folder}/").replace(cluster, here), PAGE.name, "exec"), names)
    return names


def many_series(rng):
    """Series of different lengths in one frame, mixed, and their histories by name."""
    import pandas

    histories = {name: series(rng, time) for name, time in (("b", 20), ("a", 13), ("c", 31))}
    frames = [
        pandas.DataFrame({"shop": name, "hour": np.arange(len(history["load"])), **history})
        for name, history in histories.items()
    ]
    return pandas.concat(frames, ignore_index=True).sort_values("hour", kind="stable"), histories
