"""A ``layers=[...]`` to start from, for a state dict that was given without."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping

from cylstm.errors import CylstmError
from cylstm.formats.state_dict.assembler import Assembler
from cylstm.formats.state_dict.wiring.layer import Layer, Weighted, join
from cylstm.formats.state_dict.wiring.linear import Linear
from cylstm.formats.state_dict.wiring.recurrent import BY_GATES, LSTM, Last
from cylstm.graph.weights import Tensor

# the most layers that are proposed, the most tensors that are named, and the most attempts to put layers in order
_MAX_PROPOSED = 64
_MAX_NAMED = 60
_MAX_ATTEMPTS = 20_000


def proposal(tensors: Mapping[str, Tensor]) -> str:
    """Layers guessed from the names and shapes, ready to paste, and the error that they would give, if any."""
    blocks, unknown = _blocks(tensors)
    if len(blocks) > _MAX_PROPOSED:
        return f"No proposal for {len(blocks)} layers."
    order = _chain({prefix: (inputs, outputs) for prefix, (_, inputs, outputs) in blocks.items()})
    described: list[Layer] = []
    lines = []
    for i, prefix in enumerate(order):
        kind = blocks[prefix][0]
        if kind is LSTM and any(name.startswith(join(prefix, "weight_p")) for name in tensors):
            described.append(LSTM(prefix, peepholes=True))
            lines.append(f"cylstm.LSTM({_quoted(prefix)}, peepholes=True)")
        else:
            described.append(kind(prefix))
            lines.append(f"cylstm.{kind.__name__}({_quoted(prefix)})")
        if kind is not Linear and {blocks[name][0] for name in order[i + 1 :]} == {Linear}:
            described.append(Last())
            lines.append("cylstm.Last()")
    text = f"Proposal, from names and shapes alone:\n  layers=[{', '.join(lines)}]\n"
    text += "Put Dropout(), activations, Last() or LastState() where the model has them."
    if unknown:
        text += f" Not understood: {', '.join(unknown[:_MAX_NAMED])}."
    if described:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numbers that are not finite are reported when the file loads
                Assembler(tensors, "proposal", described).assemble(described, {})
        except CylstmError as error:
            text += f" As it stands it does not load: {str(error).splitlines()[0]}"
    return text


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[dict[str, tuple[type[Weighted], int, int]], list[str]]:
    """Prefix -> (layer, size of its input, of its output), and the names that were not understood."""
    blocks: dict[str, tuple[type[Weighted], int, int]] = {}
    unknown = []
    for name, array in tensors.items():
        prefix, _, role = name.rpartition(".")
        if re.fullmatch(r"(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?", role):
            # the matrices of later layers come later: the last one decides the output, doubled for two directions
            if not re.fullmatch(r"weight_h[hr](?:_l\d+)?", role) or array.ndim != 2 or not array.size:
                continue
            first = tensors.get(join(prefix, "weight_ih_l0" if "_l" in role else "weight_ih"))
            hidden = array.shape[1] if "_hh" in role else array.shape[0]
            both = 2 if join(prefix, "weight_ih_l0_reverse") in tensors else 1
            if first is None or first.ndim != 2:
                continue
            gates, rest = divmod(array.shape[0], array.shape[1])
            if join(prefix, role.replace("_hh", "_hr")) in tensors:
                blocks[prefix] = (LSTM, first.shape[1], both * hidden)
            elif not rest and gates in BY_GATES:
                blocks[prefix] = (BY_GATES[gates], first.shape[1], both * hidden)
            elif prefix not in blocks:
                unknown.append(f"{prefix} (a recurrent layer of unknown kind)")
        elif re.fullmatch(r"weight_p[ifo](?:_l\d+(?:_reverse)?)?", role):
            continue
        elif role == "weight" and array.ndim == 2:
            blocks[prefix] = (Linear, array.shape[1], array.shape[0])
        elif role != "bias" or join(prefix, "weight") not in tensors:
            unknown.append(name)
    return blocks, unknown


def _quoted(text: str) -> str:
    """`text` as Python in double quotes."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _chain(sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Names of ``name -> (input, output)`` in an order where every input has the size of the output before it.

    The given order, if there is none.
    """
    attempts = _MAX_ATTEMPTS
    trail: list[str] = []
    waiting = [iter(sizes)]
    while waiting and attempts:
        attempts -= 1
        name = next(waiting[-1], None)
        if name is None:
            waiting.pop()
            if trail:
                trail.pop()
        elif name not in trail and (not trail or sizes[trail[-1]][1] == sizes[name][0]):
            trail.append(name)
            if len(trail) == len(sizes):
                return trail
            waiting.append(iter(sizes))
    return list(sizes)
