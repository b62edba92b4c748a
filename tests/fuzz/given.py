"""Targets of what users give beside weights: wirings, results of their functions, forecasters, tables, lines."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cylstm
from cylstm import program as xp
from cylstm.cli.lines import LinePredictor, lines_of, predict_lines
from cylstm.cli.tables.csv_table import open_csv
from cylstm.cli.tables.table import Columns
from cylstm.errors import CylstmError
from cylstm.forecasting.description import KEY
from cylstm.formats.numpy_file import load_arrays
from cylstm.formats.state_dict import wiring
from cylstm.formats.state_dict.wiring.layer import Layer
from cylstm.graph.builder import GraphBuilder
from cylstm.shown import html_table, shown_lines, shown_name, table_lines

from tests.builders import weight_files as made
from tests.builders.networks import lstm_model


class Choices:
    """Bytes as a row of decisions; the first of each when none are left."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def one_of(self, choices: Any) -> Any:
        return choices[self.byte() % len(choices)]

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)


# wirings


def _is_layer(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Layer) and found is not Layer


_LAYERS = [name for name in dir(wiring) if name[0].isupper() and _is_layer(getattr(wiring, name))]
_PREFIXES = ("lstm", "gru", "rnn", "fc", "conv", "norm", "emb", "", "x.y", "lstm.", "a\x00", "*")
_ARGUMENTS = (None, True, False, 0, 1, 2, 3, -1, 0.5, float("nan"), float("inf"), 1e300, 1 << 40, "tanh", "relu",
              "softmax", "same", "zero", "", "\ud800", "sigmoid", (), (1, 2), (3,), [1], {}, b"x", object(),
              np.float32(2), np.int64(3), np.ones(2), "f=1-i", "carried", "sum", (None, 3), 1j, "0",
              lambda x: x)  # fmt: skip
_SHAPES = (
    (8, 3),
    (8, 2),
    (8,),
    (2, 3),
    (6, 2),
    (6,),
    (2, 2),
    (2,),
    (4, 3, 2),
    (),
    (0, 3),
    (3, 2, 2, 2),
    (5, 3),
    (1, 1),
)
_ROLES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight", "bias", "running_mean", "running_var",
          "weight_ih_l1", "weight_hr_l0", "weight_ih_l0_reverse", "num_batches_tracked", "weight_g", "weight_v",
          "parametrizations.weight.original0")  # fmt: skip
_DTYPES = ("f4", "f8", "f2", "i8", "i4", "u1", "?", "c8", "O", "S3", "M8[s]")


def _layer(choices: Choices) -> object:
    name = choices.one_of([*_LAYERS, None])
    if name is None:
        return choices.one_of(_ARGUMENTS)
    kind = getattr(wiring, name)
    positional: list[Any] = []
    options: dict[str, Any] = {}
    for parameter in list(inspect.signature(kind).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name == "prefix":
            value = choices.one_of(_PREFIXES) if choices.byte() < 240 else choices.one_of(_ARGUMENTS)
        elif parameter.default is not parameter.empty and choices.byte() < 200:
            continue
        else:
            value = choices.one_of(_ARGUMENTS)
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = value
        else:
            positional.append(value)
            if parameter.default is not parameter.empty:
                options[parameter.name] = positional.pop()
    return kind(*positional, **options)


def fuzz_wiring(data: bytes) -> None:
    """Layers with any arguments, and tensors of any names, shapes and types."""
    choices = Choices(data)
    dictionary: dict[Any, Any] = {}
    rng = np.random.default_rng(1)
    if choices.byte() < 128:
        dictionary |= made.lstm_tensors(rng, "lstm", 3, 2) | made.linear_tensors(rng, "fc", 2, 1)
    for _ in range(choices.byte() % 6):
        name = f"{choices.one_of(_PREFIXES)}.{choices.one_of(_ROLES)}"
        kind = "f4" if choices.byte() < 200 else choices.one_of(_DTYPES)
        dictionary[name] = np.ones(choices.one_of(_SHAPES), kind)
    layers = [_layer(choices) for _ in range(choices.byte() % 6)]
    cylstm.from_state_dict(dictionary, layers)


# custom layers

_FUNCTIONS = [name for name in dir(xp) if name[0].islower() and callable(getattr(xp, name))]


def _results(choices: Choices, x: Any, weights: Any) -> Any:
    """What a user's function does: a few calls of the public functions on what there is, with any arguments."""
    known: list[Any] = [x, *weights.values()]
    for _ in range(1 + choices.byte() % 5):
        function = getattr(xp, choices.one_of(_FUNCTIONS))
        parameters = [
            one for one in inspect.signature(function).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]  # fmt: skip
        options: dict[str, Any] = {}
        arguments: list[Any] = []
        for parameter in parameters:
            pool = known if choices.byte() < 140 else _ARGUMENTS
            if parameter.default is parameter.empty:
                value = choices.one_of(pool)
                value = [value, choices.one_of(known)] if choices.byte() > 220 else value
                arguments.append(value)
            elif choices.byte() > 160:
                options[parameter.name] = choices.one_of(_ARGUMENTS)
        known.append(function(*arguments, **options))
    found = known[-1]
    return choices.one_of([found, found, found, [found], (found, x), None, 3.0, weights["var0"], {}])


def _custom_file(folder: Path) -> Path:
    layer = {**made.keras_layer("Mine", "mine", trainable=True), "module": "my.code", "registered_name": None}
    rng = np.random.default_rng(5)
    path = folder / "custom.keras"
    if not path.exists():
        model = made.keras_model(made.keras_input(None, 3), layer)
        weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4,))]
        made.write_keras(path, model, {"layers/mine": weights})
    return path


# forecasters


@functools.cache
def _forecaster(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file of a forecaster."""
    from tests.forecasting.builders import recursive

    path = folder / "forecaster.cylstm"
    recursive(np.random.default_rng(3)).save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _metadata(header: dict[str, Any]) -> dict[str, Any]:
    """The user's entries in a header, which are texts within a text."""
    found: dict[str, Any] = json.loads(header["__metadata__"]["metadata"])
    return found


# names and texts from files, as they are shown

#: what acts on a terminal or turns the writing
_ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ud800-\udfff]")


def _demand_harmless(text: str) -> None:
    found = _ACTS.search(text)
    assert not found, f"{text!r:.200} has {found[0]!r}"
    assert max(map(len, text.split("\n"))) < 12_000


def _demand_harmless_page(page: str) -> None:
    """Nothing of a name is a tag or an entity other than those that escape it."""
    _demand_harmless(page)
    tags = set(re.findall("<[^>]*>?", page))
    allowed = {f"<{end}{tag}>" for tag in ("p", "b", "table", "thead", "tbody", "tr", "th", "td") for end in ("", "/")}
    assert tags <= allowed, sorted(tags - allowed)
    assert not re.search("&(?!(amp|lt|gt|quot|#x27);)", page)


def fuzz_shown(data: bytes) -> None:
    """Any text, as a name, as lines and in a table."""
    text = data.decode("utf-8", "surrogateescape")
    _demand_harmless(shown_name(text))
    assert "\n" not in shown_name(text)
    _demand_harmless(shown_lines(text))
    _demand_harmless("\n".join(table_lines([["a", "b"], [text, "1"]])))
    _demand_harmless_page(html_table(text, [["a", text], [text, "1"]], [text]))


def fuzz_names(data: bytes, folder: Path) -> None:
    """Names of layers, of inputs and in metadata, of a file that is written, read and shown."""
    names = [part.decode("utf-8", "surrogateescape") for part in (*data.split(b"\n", 3), b"", b"", b"")][:4]
    rng = np.random.default_rng(1)
    builder = GraphBuilder()
    x = builder.input(names[0] or "x", (None, 2))
    weights = {role: rng.normal(size=(12, k)).astype(np.float32) for role, k in (("weight_ih", 2), ("weight_hh", 3))}
    builder.output(builder.add("lstm", names[1] or "lstm", {"x": x}, weights)["y"])
    model = cylstm.Model(builder.build({names[2]: names[3], "more": [names[2]]}))
    path = folder / "names.cylstm"
    model.save(path)
    read = cylstm.load(path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        read.summary()
    _demand_harmless(printed.getvalue())
    _demand_harmless(repr(read))
    _demand_harmless_page(read._repr_html_())
    try:
        cylstm.load(path, layers=[wiring.LSTM(names[1])])
    except CylstmError as error:
        _demand_harmless(str(error))


def targets(folder: Path) -> dict[str, Callable[[bytes], None]]:
    """By name; files are written to `folder`."""

    def custom_layers(data: bytes) -> None:
        def mine(x: Any, weights: Any, config: Any) -> Any:
            return _results(Choices(data), x, weights)

        cylstm.load(_custom_file(folder), custom_layers={"Mine": mine})

    def forecaster(data: bytes) -> None:
        header, rest = _forecaster(folder)
        text = data.decode("utf-8", "replace")
        entries = {**_metadata(header), KEY: text}
        header = {**header, "__metadata__": {**header["__metadata__"], "metadata": json.dumps(entries)}}
        encoded = json.dumps(header).encode()
        path = folder / "changed.cylstm"
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + rest)
        found = cylstm.Forecaster.load(path)
        repr(found)
        history = {name: np.linspace(1.0, 9.0, 12) for name in found.features}
        if found.horizon < 1000:
            found.forecast(history)

    def csv(data: bytes) -> None:
        path = folder / "table.csv"
        path.write_bytes(data)
        for columns in (Columns(), Columns(("load", "wind"), True), Columns(None, False, "yes")):
            try:
                with open_csv(str(path), columns) as table:
                    for block in table.blocks(16):
                        assert block.ndim == 2 and block.dtype == np.float64
            except CylstmError as error:
                str(error)

    def lines(data: bytes) -> None:
        for model in _line_models():
            predictor = LinePredictor(model, None, Columns())
            predict_lines(predictor, lines_of(io.BytesIO(data)), str, str, False)

    def arrays(data: bytes) -> None:
        path = folder / "table.npy"
        for start in (b"", b"\x93NUMPY\x01\x00"):
            path.write_bytes(start + data)
            for is_mapped in (False, True):
                try:
                    load_arrays(str(path), is_mapped=is_mapped)
                except CylstmError as error:
                    str(error)

    found = {"wiring": fuzz_wiring, "forecaster": forecaster, "csv": csv, "lines": lines, "arrays": arrays}
    found |= {"shown": fuzz_shown, "names": lambda data: fuzz_names(data, folder)}
    return found | {"custom_layers": custom_layers}


@functools.cache
def _line_models() -> list[cylstm.Model]:
    """One input whose features have names, and two inputs."""
    graph = lstm_model(np.random.default_rng(2), 2, 3).graph
    builder = GraphBuilder()
    first, second = builder.input("first", (None, 2)), builder.input("second", (None, 2), time_of="first")
    builder.output(builder.add("merge", "sum", {"x": first, "x1": second}, options={"mode": "sum"})["y"])
    named = cylstm.Model(graph._replace(metadata={"features": "load,wind"}))
    return [named, cylstm.Model(builder.build())]


def seeds(name: str, folder: Path) -> list[bytes]:
    """As they should be."""
    rng = np.random.default_rng(11)
    match name:
        case "wiring":
            chain = b"".join(map(_chosen, (("LSTM", "lstm"), ("Last", ""), ("Linear", "fc"))))
            return [bytes([0, 0, 3]) + chain, *(rng.bytes(60) for _ in range(20))]
        case "custom_layers":
            known = bytes([0, _FUNCTIONS.index("tanh"), 0, 0, 0, 0])
            return [known, *(rng.bytes(60) for _ in range(40))]
        case "forecaster":
            return [_metadata(_forecaster(folder)[0])[KEY].encode()]
        case "arrays":
            whole, zipped = io.BytesIO(), io.BytesIO()
            np.save(whole, rng.standard_normal((2, 3)).astype(np.float32))
            np.savez(zipped, a=np.ones(3), b=np.arange(2))
            return [whole.getvalue(), whole.getvalue()[8:], zipped.getvalue()]
        case "shown":
            return [b"lstm.weight", "right \u202e to <b>left</b>\nü".encode(), b"\x1b[2J\x00" + b"n" * 200]
        case "names":
            return [b"x\nlstm\nnote\ntext", "\x1b[2J\n<script>\n\u202ea\nb".encode()]
        case "csv":
            named = b"load,wind\n1,2\n# no\n3.5,-4e3\n"
            return [named, b"1;2\n", b'"a b",c\r\n1,"2"\r\n', b"\xef\xbb\xbfload,x,wind\n1,2,3\n"]
        case "lines":
            several = b'{"first": [1, 2], "second": [3, 4]}\n'
            return [b"load,wind\n1,2\n3,4\n", b'[1, 2]\n{"load": 1, "wind": 2.5}\n', several]
    raise KeyError(name)


def _chosen(layer: tuple[str, str]) -> bytes:
    """The bytes that `_layer` takes for a layer with a prefix and no other argument."""
    name, prefix = layer
    found = [_LAYERS.index(name)]
    for parameter in inspect.signature(getattr(wiring, name)).parameters.values():
        found += [0, _PREFIXES.index(prefix)] if parameter.name == "prefix" else [0]
    return bytes(found)
