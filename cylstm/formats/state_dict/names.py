"""Names of tensors: what wrappers put in front of them, and what reparametrisations behind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cylstm.errors import FormatError
from cylstm.graph.weights import Tensor

# torch.compile, FSDP and activation checkpointing put these into names
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: what DataParallel puts before every name, and AveragedModel beside a tensor that counts models
_PARALLEL = "module."
AVERAGED = "n_averaged"
_REPARAMETRISED = re.compile(
    r"(?:^|\.)parametrizations\..*|(?:^|\.)(?:lora_[AB]|base_layer)\..*"
    r"|(?:^|\.)(?:weight|bias)(?:_(?:ih|hh|hr)(?:_l\d+(?:_reverse)?)?)?_(?P<part>g|v|raw|orig|mask|u)$"
)


def unwrapped(where: str, tensors: Mapping[str, Tensor], prefixes: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """The prefix that is removed from all names, and name without wrapper prefixes -> name as given.

    A first part that all names share, such as ``model.``, is removed too unless one of the layers' `prefixes` (None:
    there are no layers) begins with it: the layers would not be found otherwise. AveragedModel's count of models is
    left out.
    """
    averaged = (
        len(tensors) > 1
        and AVERAGED in tensors
        and all(name == AVERAGED or name.startswith(_PARALLEL) for name in tensors)
    )
    given = [name for name in tensors if not (averaged and name == AVERAGED)]
    found = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in given}
    if len(found) != len(given):
        raise FormatError(
            f"{where}: without their wrappers' parts ({', '.join(sorted(_WRAPPERS))}) two names are equal"
        )
    starts = {prefix.partition(".")[0] for prefix in prefixes or ()}
    taken = ""
    # what the first and the last name in alphabetical order share, all names share
    for part, other in zip(min(found).split(".")[:-1], max(found).split(".")[:-1]):
        if part != other or (f"{part}." != _PARALLEL and (prefixes is None or part in starts)):
            break
        taken += f"{part}."
    return taken, {name[len(taken) :]: full for name, full in found.items()}


def reparametrisation(name: str, names: Mapping[str, object]) -> str | None:
    """What made a tensor that is only part of a weight, or None if it is a whole one."""
    match = _REPARAMETRISED.search(name)
    if match is None:
        return None
    if match["part"] is None:
        if "lora_" in match[0] or "base_layer" in match[0]:
            return "a LoRA adapter"
        return "weight_norm (parametrizations)" if name[-9:-1] == "original" else "a parametrization"
    stem = name[: -len(match["part"]) - 1]
    if match["part"] in ("u", "v", "orig") and f"{stem}_u" in names:
        return "spectral_norm"
    return {"g": "weight_norm", "v": "weight_norm", "raw": "weight drop"}.get(match["part"], "pruning")
