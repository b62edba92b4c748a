"""State dicts: tensors by PyTorch's names, and the layers that the user says they belong to.

PyTorch's names and shapes are those of ``torch.nn.LSTM``, ``GRU`` and ``RNN``: ``weight_ih_l{k}`` (G*hidden, input),
``weight_hh_l{k}`` (G*hidden, output), ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (G*hidden,), ``weight_hr_l{k}``
(projection, hidden), each again with ``_reverse``; gates in the order i, f, g, o or r, z, n, which is the graph's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cylstm.errors import FormatError, described
from cylstm.formats.arrays import as_numpy, shape_text
from cylstm.formats.state_dict.assembler import Assembler
from cylstm.formats.state_dict.quantised import NOTE, is_packed, unpacked, without_scales
from cylstm.formats.state_dict.wiring.layer import Layer
from cylstm.formats.state_dict.wiring.recurrent import last_state_first
from cylstm.graph.graph import Graph
from cylstm.graph.weights import Tensor

_MAX_NAME = 500


def from_state_dict(mapping: Mapping[str, object], layers: Sequence[Layer] | None = None) -> Graph:
    """The graph of tensors in memory and the layers they belong to.

    Parameters
    ----------
    mapping : dict of str to array or tensor
        PyTorch's names; the values are copied. Half precision becomes float32, float64 stays.
    layers : sequence of Layer
        In the order of computation, for example ``[LSTM("lstm"), Last(), Linear("fc")]``.

    Raises
    ------
    FormatError
        If a tensor is missing, left over, mis-shaped or of a type that holds no weights; without `layers`, with a
        proposal for them.
    ShapeError
        If a layer does not fit the one before it.
    UnsupportedError
        If the tensors belong to a layer or an option that is not computed.
    """
    if not isinstance(mapping, Mapping) or not all(isinstance(name, str) for name in mapping):
        raise FormatError(f"state dict: expected a mapping of names to tensors, found {type(mapping).__name__}")
    nested = [name for name, value in mapping.items() if isinstance(value, Mapping)]
    if nested:
        raise FormatError(
            f"state dict: {nested[0]!r} is itself a mapping; give the one that holds the tensors, "
            f"for example checkpoint[{nested[0]!r}]"
        )
    is_quantised = any(is_packed(name) or getattr(value, "is_quantized", False) for name, value in mapping.items())
    linear: list[str] = []
    if is_quantised:
        mapping, linear = unpacked("state dict", mapping, _script_state)
    tensors: Mapping[str, Tensor] = {name: as_numpy(name, value) for name, value in mapping.items()}
    if is_quantised:
        tensors = without_scales("state dict", tensors, linear)
    layouts = {name: _memory_layout(mapping[name], array) for name, array in tensors.items()}
    provenance = {
        "format": "state dict",
        "version": None,
        "framework_version": None,
        "source": "memory",
        "layouts": layouts,
        **({"note": NOTE} if is_quantised else {}),
    }
    return graph_from_tensors(tensors, layers, where="state dict", provenance=provenance)


def graph_from_tensors(
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer] | None,
    *,
    where: str,
    provenance: Mapping[str, object],
) -> Graph:
    """As `from_state_dict`, for the tensors of a file, which are not copied; `where` names their source."""
    if not tensors:
        raise FormatError(f"{where}: no tensors")
    longest = max(tensors, key=len)
    if len(longest) > _MAX_NAME:
        raise FormatError(f"{where}: a tensor's name of {len(longest)} characters: {longest[:40]!r}...")
    if layers is None:
        from cylstm.formats.state_dict.propose import proposal

        assembler = Assembler(tensors, where, ())
        raise FormatError(
            f"{where}: a state dict says nothing about the wiring, so layers= is needed. {assembler.listing()}\n"
            f"{proposal(assembler.tensors)}"
        )
    check_layers(where, layers)
    return Assembler(tensors, where, layers).assemble(last_state_first(where, layers), provenance)


def check_layers(where: str, layers: object) -> None:
    """Raise `FormatError` unless `layers` is a list of layers."""
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(layer, Layer) for layer in layers):
        raise FormatError(
            f'{where}: layers= expected a list such as [cylstm.LSTM("lstm"), cylstm.Last(), cylstm.Linear("fc")], '
            f"found {described(layers)}"
        )


def _script_state(value: Any) -> object:
    """The state of a live object of a class that PyTorch has written in C++."""
    return value.__getstate__() if type(value).__name__ == "ScriptObject" else None


def _memory_layout(value: object, array: Tensor) -> str:
    """How an array or tensor in memory was stored."""
    type_ = str(getattr(value, "dtype", array.dtype)).removeprefix("torch.")
    return f"{type_} {shape_text(array.shape)}"
