"""GuitarML's models of amplifiers (Proteus, NeuralPi, Automated-GuitarAmpModelling): JSON of a network and its weights.

``model_data`` describes a ``SimpleRNN``: one stack of ``torch.nn.LSTM``, ``GRU`` or ``RNN`` (``unit_type``, of
``input_size``, ``hidden_size``, ``num_layers``) and a linear layer of ``output_size``, with a bias if ``bias_fl``.
``state_dict`` has PyTorch's tensors as lists: ``rec.weight_ih_l0`` and so on, ``lin.weight`` and ``lin.bias``. The
first ``skip`` features of the input are added to the output:

    y[t] = lin(rec(x)[t]) + x[t, :skip]

PyTorch's module has the time first; here the batch comes first, as always.
"""

from __future__ import annotations

from typing import Any

from cylstm.errors import FormatError, UnsupportedError, described
from cylstm.formats import File, Format
from cylstm.graph.graph import Graph

_MAX_SIZE = 1 << 20
#: entries of model_data that are read; whatever else is there may change what is computed
_KNOWN = {"model", "input_size", "skip", "output_size", "unit_type", "num_layers", "hidden_size", "bias_fl"}


def _is_guitarml(file: File) -> bool:
    return b'"model_data"' in file.json_text and b'"state_dict"' in file.json_text


def read_guitarml(file: File) -> Graph:
    """Read a ``SimpleRNN`` into a graph.

    Raises
    ------
    FormatError
        If the file is damaged, or its tensors are not those that its sizes ask for.
    UnsupportedError
        If it is another network than a ``SimpleRNN``.
    """
    from cylstm.formats.state_dict.assembler import Assembler
    from cylstm.formats.state_dict.wiring.layer import Layer, add_chain
    from cylstm.formats.state_dict.wiring.linear import Linear
    from cylstm.formats.state_dict.wiring.recurrent import GRU, LSTM, RNN
    from cylstm.formats.untrusted.json import numbers, parse_json

    path = file.path
    content = parse_json(file.json_text, path)
    data, state = content.get("model_data"), content.get("state_dict")
    if not isinstance(data, dict) or not isinstance(state, dict) or not state:
        raise FormatError(f"{path}: expected model_data and state_dict, each a mapping, as GuitarML writes them")
    model = data.get("model", "SimpleRNN")
    if model != "SimpleRNN":
        raise UnsupportedError(
            f"{path}: a GuitarML model {described(model)}; SimpleRNN is read. Build the network in PyTorch and give it "
            "to cylstm.from_torch"
        )
    unknown = sorted(set(data) - _KNOWN)
    if unknown:
        raise UnsupportedError(f"{path}: model_data has {', '.join(map(repr, unknown[:10]))}, which is not known")
    kinds: dict[object, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
    unit = data.get("unit_type", "LSTM")
    kind = kinds.get(unit) if isinstance(unit, str) else None
    if kind is None:
        raise UnsupportedError(f"{path}: unit_type expected LSTM, GRU or RNN, found {described(unit)}")
    inputs, hidden = _size(path, data, "input_size", 1), _size(path, data, "hidden_size")
    outputs, depth = _size(path, data, "output_size", 1), _size(path, data, "num_layers", 1)
    skip = _size(path, data, "skip", 1, least=0)
    bias = data.get("bias_fl", True)
    if not isinstance(bias, (bool, int)) or bias not in (0, 1):
        raise FormatError(f"{path}: bias_fl expected true or false, found {described(bias)}")

    arrays = {name: numbers(value, f"{path}: tensor {name!r:.80}") for name, value in state.items()}
    layers: list[Layer] = [kind("rec"), Linear("lin")]
    assembler = Assembler(arrays, path, layers)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[unit]
    assembler.expect("rec", f"rec.weight_ih_l{depth - 1}", (gates * hidden, hidden if depth > 1 else inputs))
    assembler.expect("lin", "lin.weight", (outputs, hidden))
    if ("lin.bias" in arrays) != bool(bias):
        raise FormatError(f"{path}: bias_fl is {bool(bias)}, and tensor 'lin.bias' is {'not ' * bool(bias)}there")
    if f"rec.weight_ih_l{depth}" in arrays:
        raise FormatError(f"{path}: num_layers is {depth}, found tensor 'rec.weight_ih_l{depth}'")
    x = assembler.builder.input("input", (None, inputs))
    y = add_chain(assembler, x, layers)
    if skip:
        if skip < inputs:
            part = {"axis": 1, "start": 0, "count": skip}
            x = assembler.builder.add("slice", "skip.input", {"x": x}, options=part)["y"]
        y = assembler.builder.add("merge", "skip", {"x": y, "x1": x}, options={"mode": "sum"})["y"]
    layouts = {name: f"float32 {array.shape} as JSON" for name, array in arrays.items()}
    provenance: dict[str, Any] = {
        "format": "guitarml",
        "version": None,
        "framework_version": None,
        "source": path,
        "beside": [name for name in content if name not in ("model_data", "state_dict")],
        "layouts": layouts,
    }
    return assembler.finish(y, provenance)


def _size(path: str, data: dict[str, Any], name: str, default: int | None = None, *, least: int = 1) -> int:
    value = data.get(name, default)
    if type(value) is not int or not least <= value <= _MAX_SIZE:
        raise FormatError(f"{path}: {name} expected a whole number of at least {least}, found {described(value)}")
    return value


FORMATS = (Format("a GuitarML model", (".json",), (), _is_guitarml, read_guitarml),)
