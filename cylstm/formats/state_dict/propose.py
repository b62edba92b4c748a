"""A ``layers=[...]`` to start from, for a state dict that was given without."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cylstm.errors import CylstmError
from cylstm.formats.state_dict.assembler import Assembler
from cylstm.formats.state_dict.wiring.convolution import Conv1d
from cylstm.formats.state_dict.wiring.heads import Heads
from cylstm.formats.state_dict.wiring.images import Conv2d, Steps
from cylstm.formats.state_dict.wiring.layer import Input, Layer, Weighted, join
from cylstm.formats.state_dict.wiring.linear import Embedding, Linear, PReLU
from cylstm.formats.state_dict.wiring.norm import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from cylstm.formats.state_dict.wiring.recurrent import BY_GATES, LSTM, Last, Recurrent
from cylstm.graph.weights import Tensor

# the most layers that are proposed, the most tensors that are named, and the most attempts to put layers in order
_MAX_PROPOSED = 64
_MAX_NAMED = 60
_MAX_ATTEMPTS = 20_000

_EMBEDDING = re.compile(r"emb|wte\b|lookup|token|vocab", re.IGNORECASE)
_NORM = re.compile(r"norm|(?:^|[._])(?:ln|rms)\d*$", re.IGNORECASE)
_ATTENTION = re.compile(r"att[en]|(?:^|[._])(?:query|key|value_?proj|score|energy)", re.IGNORECASE)
_RECURRENT = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?|weight_p[ifo](?:_l\d+(?:_reverse)?)?")
_BATCH_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


class _Block(NamedTuple):
    """A layer that tensors seem to belong to.

    `inputs` is the size of its input, None if it takes any; `outputs` that of its output, None for the same as the
    input.
    """

    layer: Weighted
    inputs: int | None
    outputs: int | None

    @property
    def prefix(self) -> str:
        return self.layer.prefix

    def after(self, size: int | None) -> int | None:
        """The size of its output behind a value of `size`."""
        return size if self.outputs is None else self.outputs

    def fits(self, size: int | None) -> bool:
        """Whether it can read a value of `size`; None stands for the network's input, whose size is not known."""
        if size is None:
            return self.inputs is not None or self.layer.reads_indices
        return not self.layer.reads_indices and self.inputs in (None, size)


def proposal(tensors: Mapping[str, Tensor]) -> str:
    """Layers guessed from the names and shapes, ready to paste, and the error that they would give, if any."""
    if len(tensors) > _MAX_PROPOSED * 100:
        return f"No proposal for {len(tensors)} tensors."
    blocks, unknown = _blocks(tensors)
    if len(blocks) > _MAX_PROPOSED:
        return f"No proposal for {len(blocks)} layers."
    has_images = any(isinstance(block.layer, Conv2d) for block in blocks)
    layers = _wired_images(blocks) if has_images else _wired(blocks, tensors)
    text = f"Proposal, from names and shapes alone:\n  layers={_list_of(layers)}\n"
    text += "Put Dropout(), activations, Last() or LastState() where the model has them"
    if any(isinstance(layer, Conv1d) for layer in layers):
        text += ", and the padding=, stride= and dilation= of Conv1d"
    text += "."
    if has_images:
        text += (
            " Put the padding= and stride= of Conv2d and the MaxPool2d() that the model has too; say the real size in "
            "Input, (None, columns, channels), or where the columns are the time (None, rows, channels) and "
            'time="columns" in each of these. A Conv2d may be a ConvTranspose2d instead.'
        )
    if unknown:
        text += f" Not understood: {', '.join(unknown[:_MAX_NAMED])}."
    notes = _notes(blocks)
    if layers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numbers that are not finite are reported when the file loads
                Assembler(tensors, "proposal", layers).assemble(layers, {})
        except CylstmError as error:
            first = str(error).splitlines()[0]
            why = (
                ": the tensors that were not understood are left over" if "to no layer given" in first else f": {first}"
            )
            text += f" As it stands it does not load{why}."
            notes += [
                "A list of layers says a chain, in which each reads the result of the one before; any other network is "
                "read from a .pt2 (torch.export.save) or a live module (cylstm.from_torch)."
            ]
    return " ".join([text, *notes])


def _written(layer: Layer) -> str:
    """A layer as Python, with the arguments that are not the defaults."""
    name = f"cylstm.{type(layer).__name__}"
    if isinstance(layer, Heads):
        return f"{name}({', '.join(_list_of(head) for head in layer.heads)})"
    if isinstance(layer, Input):
        return f"{name}({layer.shape})"
    if not isinstance(layer, Weighted):
        return f"{name}()"
    variant = ", peepholes=True" if isinstance(layer, LSTM) and layer.peepholes else ""
    return f"{name}({_quoted(layer.prefix)}{variant})"


def _list_of(layers: Sequence[Layer]) -> str:
    return f"[{', '.join(map(_written, layers))}]"


def _quoted(text: str) -> str:
    """`text` as Python in double quotes."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _notes(blocks: Sequence[_Block]) -> list[str]:
    """What a list of layers cannot say of such a network, from the names of its layers."""
    notes = []
    recurrent = [block.prefix for block in blocks if isinstance(block.layer, Recurrent)]
    encoders, decoders = ([name for name in recurrent if part in name.lower()] for part in ("enc", "dec"))
    if encoders and decoders:
        notes.append(
            f"{encoders[0]} and {decoders[0]} look like an encoder and a decoder: if the one's final state is where "
            "the other starts, no list of layers says so; give the live module to cylstm.from_torch."
        )
    attention = [block.prefix for block in blocks if _ATTENTION.search(block.prefix)]
    if attention:
        notes.append(
            f"{', '.join(attention[:_MAX_NAMED])}: if this is an attention, no list of layers says what it weighs; "
            "give the live module to cylstm.from_torch."
        )
    if any(isinstance(block.layer, (LayerNorm, RMSNorm)) for block in blocks):
        notes.append("A LayerNorm may be a GroupNorm, whose tensors look the same.")
    return notes


# From tensors to blocks


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[list[_Block], list[str]]:
    """The layers that the tensors seem to belong to, in the order of the tensors, and the names not understood."""
    owners: dict[str, dict[str, Tensor]] = {}
    for name, array in tensors.items():
        prefix, _, role = name.rpartition(".")
        owners.setdefault(prefix, {})[role] = array
    blocks: list[_Block] = []
    unknown: list[str] = []
    for prefix, roles in owners.items():
        recurrent = {role for role in roles if _RECURRENT.fullmatch(role)}
        plain = {role: array for role, array in roles.items() if role not in recurrent}
        if recurrent:
            block = _recurrent(prefix, roles)
            if block is None:
                unknown.append(f"{prefix} (a recurrent layer of unknown kind)")
            else:
                blocks.append(block)
        if plain:
            block, known = _plain(prefix, plain)
            if block is not None:
                blocks.append(block)
            unknown += [join(prefix, role) for role in plain if role not in known]
    return blocks, unknown


def _recurrent(prefix: str, roles: Mapping[str, Tensor]) -> _Block | None:
    """The last layer's matrices decide the output, which is doubled for two directions."""
    suffix = "" if "weight_ih" in roles else "_l0"
    depth = 0
    while f"weight_hh_l{depth + 1}" in roles:
        depth += 1
    last = f"_l{depth}" if suffix else ""
    first, top = roles.get(f"weight_ih{suffix}"), roles.get(f"weight_hh{last}")
    if first is None or top is None or first.ndim != 2 or top.ndim != 2 or not first.size or not top.size:
        return None
    both = 2 if "weight_ih_l0_reverse" in roles else 1
    projection = roles.get(f"weight_hr{last}")
    if projection is not None:
        kind: type[Recurrent] | None = LSTM if projection.ndim == 2 and projection.size else None
        outputs = projection.shape[0]
    else:
        gates, rest = divmod(top.shape[0], top.shape[1])
        kind, outputs = None if rest else BY_GATES.get(gates), top.shape[1]
    if kind is None:
        return None
    peepholes = any(role.startswith("weight_p") for role in roles)
    layer = LSTM(prefix, peepholes=True) if kind is LSTM and peepholes else kind(prefix)
    return _Block(layer, first.shape[1], both * outputs)


def _plain(prefix: str, roles: Mapping[str, Tensor]) -> tuple[_Block | None, set[str]]:
    """The layer of tensors that are not those of a recurrent one, and which of them it takes."""
    mean = roles.get("running_mean")
    if mean is not None and "running_var" in roles and mean.ndim == 1:
        return _Block(BatchNorm1d(prefix), mean.size, None), _BATCH_NORM
    gain, shift = roles.get("gamma"), roles.get("beta")
    if gain is not None and shift is not None and "weight" not in roles and gain.ndim == 1 and gain.size:
        return _Block(LayerNorm(prefix), gain.size, None), {"gamma", "beta"}
    weight = roles.get("weight")
    if weight is None or not weight.size:
        return None, set()
    known = {"weight", "bias"}
    if weight.ndim == 3:
        return _Block(Conv1d(prefix), weight.shape[1], weight.shape[0]), known
    if weight.ndim == 4:
        return _Block(Conv2d(prefix), weight.shape[1], weight.shape[0]), known
    if weight.ndim == 2 and "bias" not in roles and _EMBEDDING.search(prefix):
        return _Block(Embedding(prefix), None, weight.shape[1]), known
    if weight.ndim == 2:
        return _Block(Linear(prefix), weight.shape[1], weight.shape[0]), known
    if weight.ndim != 1:
        return None, set()
    if "bias" in roles:
        return _Block(LayerNorm(prefix), weight.size, None), known
    if weight.size > 1 and _NORM.search(prefix):
        return _Block(RMSNorm(prefix), weight.size, None), known
    return _Block(PReLU(prefix), weight.size if weight.size > 1 else None, None), known


# From blocks to layers


def _wired(blocks: Sequence[_Block], tensors: Mapping[str, Tensor]) -> list[Layer]:
    """The blocks as layers: a chain, if there is one, or a chain and heads; else in the order given."""
    for candidate in _with_embedding(blocks, tensors):
        chain = _chain(candidate)
        if chain is not None:
            return _with_last(chain)
        split = _with_heads(candidate)
        if split is not None:
            trunk, heads = split
            return [*_with_last(trunk, always=True), Heads(*([block.layer for block in head] for head in heads))]
    return _with_last(blocks)


#: columns of an image whose size is not known
_COLUMNS = 32


def _wired_images(blocks: Sequence[_Block]) -> list[Layer]:
    """The blocks in the order given, images first: `Steps` behind the last convolution and what normalises it."""
    last = max(i for i, block in enumerate(blocks) if isinstance(block.layer, Conv2d))
    while last + 1 < len(blocks) and isinstance(blocks[last + 1].layer, BatchNorm1d):
        last += 1
    images: list[Layer] = [
        BatchNorm2d(block.prefix) if isinstance(block.layer, BatchNorm1d) else block.layer
        for block in blocks[: last + 1]
    ]
    first = blocks[0].inputs or 1
    return [Input((None, _COLUMNS, first)), *images, Steps(), *_with_last(blocks[last + 1 :])]


def _with_embedding(blocks: Sequence[_Block], tensors: Mapping[str, Tensor]) -> list[Sequence[_Block]]:
    """The blocks as they are, and with one matrix without a bias at a time as the table of an embedding."""
    found: list[Sequence[_Block]] = [blocks]
    if not any(isinstance(block.layer, Embedding) for block in blocks):
        for i, block in enumerate(blocks):
            if isinstance(block.layer, Linear) and join(block.prefix, "bias") not in tensors:
                table = _Block(Embedding(block.prefix), None, block.inputs)
                found.append([*blocks[:i], table, *blocks[i + 1 :]])
    return found[:_MAX_PROPOSED]


def _with_last(chain: Sequence[_Block], *, always: bool = False) -> list[Layer]:
    """The layers of a chain, with `Last` behind the last one that needs time, if others come after it."""
    layers: list[Layer] = [block.layer for block in chain]
    places = [i for i, block in enumerate(chain) if isinstance(block.layer, (Recurrent, Conv1d))]
    if places and (places[-1] + 1 < len(layers) or always):
        layers.insert(places[-1] + 1, Last())
    return layers


def _with_heads(blocks: Sequence[_Block]) -> tuple[list[_Block], list[list[_Block]]] | None:
    """A chain, and two or more chains of linear layers and the like that all read its result."""
    groups: dict[str, list[_Block]] = {}
    for block in blocks:
        if not isinstance(block.layer, (Recurrent, Conv1d, Embedding)) and not _ATTENTION.search(block.prefix):
            groups.setdefault(block.prefix.partition(".")[0], []).append(block)
    by_input: dict[int, list[list[_Block]]] = {}
    for group in groups.values():
        chain = _chain(group)
        if chain is not None and chain[0].inputs is not None and isinstance(chain[0].layer, Linear):
            by_input.setdefault(chain[0].inputs, []).append(chain)
    for size, heads in by_input.items():
        inside = {block.prefix for head in heads for block in head}
        trunk = _chain([block for block in blocks if block.prefix not in inside]) if len(heads) > 1 else None
        if trunk and _size_after(trunk) == size:
            return trunk, heads
    return None


def _size_after(chain: Sequence[_Block]) -> int | None:
    size = None
    for block in chain:
        size = block.after(block.inputs if size is None else size)
    return size


def _chain(blocks: Sequence[_Block]) -> list[_Block] | None:
    """The blocks in an order in which each can read the result of the one before, the given one if it is such."""
    attempts = _MAX_ATTEMPTS
    trail: list[_Block] = []
    sizes: list[int | None] = [None]
    waiting = [iter(blocks)]
    while waiting and attempts:
        attempts -= 1
        block = next(waiting[-1], None)
        if block is None:
            waiting.pop()
            if trail:
                trail.pop()
                sizes.pop()
        elif block not in trail and block.fits(sizes[-1]):
            trail.append(block)
            sizes.append(block.after(block.inputs if sizes[-1] is None else sizes[-1]))
            if len(trail) == len(blocks):
                return trail
            waiting.append(iter(blocks))
    return None
